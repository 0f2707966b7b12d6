//! Follows a topic from now on, until Ctrl-C, and says where it stopped.
//!
//!     cargo run --release --example tail [-- --data-dir DIR] [-- --connect IP:PORT]
//!     cargo run --release --example append_and_read         # in another terminal
use conveyor::base::TopicName;
use conveyor::client::{Client, Credentials, Item, ReadFrom};

mod place;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = place::from_arguments();
    let credentials = Credentials::from_data_dir(&place.data_dir)?;
    let client = Client::builder().address(place.address).credentials(credentials).connect().await?;
    let topic = TopicName::new("example/greetings")?;

    // Restart the peer while this runs: the reader goes on where it was, with nothing repeated or missed.
    let mut tail = client.read(&topic).from(ReadFrom::Now).follow(true).stream();
    loop {
        let item = tokio::select! {
            item = tail.next() => item,
            _ = tokio::signal::ctrl_c() => break,
        };
        match item {
            Some(Ok(Item::Entry(record))) => {
                println!("{record}  {}", String::from_utf8_lossy(&record.entry.payload));
            }
            Some(Ok(other)) => println!("{other:?}"),
            Some(Err(error)) => return Err(error.into()),
            None => break,
        }
    }
    if let Some(cursor) = tail.cursor() {
        println!("go on with: conveyor tail {topic} --from {cursor}");
    }
    Ok(())
}
