//! Appends many entries without waiting for each, and counts what was acknowledged.
//!
//!     cargo run --release --example pipeline
//!
//! It finds the peer as `conveyor` does; `-- --data-dir DIR` or `-- --connect HOST:PORT` behind that name another.
use conveyor::base::{Codec, TopicName};
use conveyor::client::{Client, Credentials, ProducerOptions};
use std::collections::VecDeque;
use std::error::Error;
use std::process::ExitCode;

mod place;

const ENTRY_COUNT: usize = 100_000;

#[tokio::main]
async fn main() -> ExitCode {
    place::end(run().await)
}

async fn run() -> Result<(), Box<dyn Error>> {
    let place = place::find()?;
    let credentials = Credentials::from_data_dir(&place.data_dir)?;
    let client = Client::builder().address(place.address).credentials(credentials).connect().await?;
    let topic = TopicName::new("example/pipeline")?;

    // Entries are packed into chunks and compressed here; `send` waits when 1 024 of them are unanswered.
    let options = ProducerOptions { codec: Codec::Zstd, ..ProducerOptions::default() };
    let producer = client.producer(&topic, options).await?;
    let mut receipts = VecDeque::new();
    let mut acknowledged = 0;
    for number in 0..ENTRY_COUNT {
        receipts.push_back(producer.send(format!("measurement {number}: {}", number * number % 9973)).await?);
        // Receipts resolve in order, so the oldest is the one to wait for.
        if receipts.len() >= 1000
            && let Some(oldest) = receipts.pop_front()
        {
            oldest.await?;
            acknowledged += 1;
        }
    }
    for receipt in receipts {
        receipt.await?;
        acknowledged += 1;
    }
    // Closing sends what is left and waits for it; an error of any chunk comes back here at the latest.
    producer.close().await?;
    println!("{acknowledged} entries are on the peer's disk");
    Ok(())
}
