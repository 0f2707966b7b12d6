//! Appends a few entries to a topic and reads them back.
//!
//!     cargo run --release -- serve                        # in another terminal
//!     cargo run --release --example append_and_read
//!
//! It finds the peer as `conveyor` does; `-- --data-dir DIR` or `-- --connect HOST:PORT` behind that name another.
use conveyor::base::{Entry, TopicName};
use conveyor::client::{Client, Credentials, Item};
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

    // The common case: some bytes. The answer comes when they are on the peer's disk.
    let id = client.append(&topic, "hello").await?;
    println!("appended number {} of run {}", id.seq, id.run);

    // An entry may carry more than its payload.
    let entry = Entry { key: "visitor-7".into(), tags: vec!["polite".into()], ..Entry::from("good evening") };
    client.append(&topic, entry).await?;

    // Everything the peer holds, from the oldest entry on; digests and signatures are checked on arrival.
    let mut reader = client.read(&topic).stream();
    while let Some(item) = reader.next().await {
        match item? {
            Item::Entry(record) => println!("{record}  {}", String::from_utf8_lossy(&record.entry.payload)),
            Item::Gap(gap) => println!("entries from {} up to but not with {} are gone", gap.from, gap.until),
            Item::Blocked(blocked) => println!("a log cannot be read beyond {}", blocked.from),
        }
    }

    // Only what has a certain key, at most ten entries, and where to go on.
    let page = client.read(&topic).key("visitor-7").limit(10).page().await?;
    println!("entries with that key: {}; go on with {}", page.items.len(), page.cursor);
    client.close().await;
    Ok(())
}
