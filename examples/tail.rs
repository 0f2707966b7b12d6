//! Follows a topic from now on, until Ctrl-C, and says where it stopped.
//!
//!     cargo run --release --example tail
//!     cargo run --release --example append_and_read    # in another terminal
//!
//! It finds the peer as `conveyor` does; `-- --data-dir DIR` or `-- --connect HOST:PORT` behind that name another.
use conveyor::base::TopicName;
use conveyor::client::{Client, Credentials, Item, ReadFrom};
use std::error::Error;
use std::process::ExitCode;

mod place;

#[tokio::main]
async fn main() -> ExitCode {
    place::end(run().await)
}

async fn run() -> Result<(), Box<dyn Error>> {
    let place = place::find()?;
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
