//! `conveyor get`: entries by their ids.
use crate::base::EntryRef;
use crate::cli::connect::Connection;
use crate::cli::entry_json::RecordJson;
use crate::cli::exit::{self, Exit};
use crate::cli::output::{self, Out};
use crate::client::Record;
use crate::server::config::parse_duration;
use crate::wire::message::GET_COUNT_MAX;
use crate::wire::outcome::ReadError;
use anyhow::Result;
use clap::Args;
use std::time::{Duration, Instant};

/// Get entries by their ids.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  conveyor get greetings/alpha.01234567/1
  id=$(echo hello | conveyor append greetings); conveyor get \"$id\" --raw

Prints the payloads in the order of the ids. An id that is not there is told on
standard error; the exit code is then that of the first such id, and the others
are printed all the same.")]
pub struct Get {
    /// Ids as `append` prints them
    #[arg(required = true, value_name = "ID", value_parser = |text: &str| EntryRef::parse(text))]
    ids: Vec<EntryRef>,
    /// Wait this long, such as 10s and at most 1m, for entries that have not arrived yet
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    wait: Option<u64>,
    /// Print payloads as they are, without a line end behind each
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Get {
    /// Asks for all, as many at once as a peer answers.
    pub async fn run(self, out: &mut Out) -> Result<Exit> {
        let client = self.connection.client().await?;
        let (mut exit, asked) = (Exit::Ok, Instant::now());
        for ids in self.ids.chunks(GET_COUNT_MAX) {
            // All of them together are waited for so long.
            let wait = self.wait.map(|ms| Duration::from_millis(ms).saturating_sub(asked.elapsed()));
            let this = self.show(client.get(ids, wait).await?, out)?;
            exit = if exit == Exit::Ok { this } else { exit };
        }
        Ok(exit)
    }

    /// Prints what was found; how the command ends where it was all.
    fn show(&self, found: Vec<Result<Record, ReadError>>, out: &mut Out) -> Result<Exit> {
        let mut exit = Exit::Ok;
        for result in found {
            match result {
                Ok(record) if out.is_json() => out.json(&RecordJson::new(&record))?,
                Ok(record) if self.raw => out.bytes(&record.entry.payload)?,
                Ok(record) => out.line(&record.entry.payload)?,
                Err(error) => {
                    let is_late = self.wait.is_some() && matches!(error, ReadError::IdAhead { .. });
                    let told = error.to_string();
                    let this = if is_late { Exit::Timeout } else { exit::of(&error.into()) };
                    output::error(told, this);
                    exit = if exit == Exit::Ok { this } else { exit };
                }
            }
        }
        Ok(exit)
    }
}
