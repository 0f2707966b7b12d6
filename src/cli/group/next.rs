//! Taking entries of a group, acknowledging them, giving them back, keeping them longer.
use crate::base::{GroupName, TopicName};
use crate::cli::connect::Connection;
use crate::cli::entry_json::RecordJson;
use crate::cli::exit::{Exit, failure};
use crate::cli::group::Of;
use crate::cli::group::lease::{self, LeaseRef};
use crate::cli::output::{self, Out};
use crate::client::{Delivered, LeaseError, NextOptions};
use crate::server::config::parse_duration;
use crate::wire::json::DeliveredJson;
use anyhow::Result;
use clap::Args;
use std::time::Duration;

/// Take entries to work on
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  conveyor group next jobs mailers
  conveyor group next jobs mailers --wait 1m --count 10 -o json
  conveyor group next jobs mailers --ack --raw > job

Prints a line for each: its lease, a tab, its payload. Pass the lease (or only
its id) to `group ack` when the work is done, or to `group nack` when it is not.
Until the lease ends nobody else is handed the entry. Exit code 7 says that
there was none in the time that was given.

`conveyor work` takes, runs a command, and acknowledges by itself.")]
pub struct Next {
    #[command(flatten)]
    of: Of,
    /// Entries at most, up to 1024
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1024))]
    count: u32,
    /// Wait this long, up to 1m, where there is none
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    wait: Option<u64>,
    /// Lease them so long, up to 12h (as the group is set)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    lease: Option<u64>,
    /// Acknowledge them at once, before anything is printed
    #[arg(long)]
    ack: bool,
    /// Print payloads alone, as they are
    #[arg(long)]
    raw: bool,
}

impl Next {
    /// Does it.
    pub async fn run(self, out: &mut Out) -> Result<Exit> {
        let group = self.of.open().await?;
        let options = NextOptions {
            count_max: self.count,
            lease: self.lease.map(Duration::from_millis),
            wait: Duration::from_millis(self.wait.unwrap_or(0)),
            ..NextOptions::default()
        };
        let taken = group.next(options).await?;
        if self.ack {
            let ids: Vec<_> = taken.iter().map(|delivered| delivered.lease.id).collect();
            group.ack(&ids).await?;
        }
        for delivered in &taken {
            print(delivered, self.raw, out)?;
        }
        Ok(if taken.is_empty() { Exit::Timeout } else { Exit::Ok })
    }
}

fn print(delivered: &Delivered, is_raw: bool, out: &mut Out) -> Result<()> {
    if out.is_json() {
        return out.json(&DeliveredJson {
            lease: lease::word(delivered),
            lease_ms: delivered.lasts.as_millis() as u64,
            attempt: delivered.attempt,
            record: RecordJson::new(&delivered.record),
        });
    }
    let payload = &delivered.record.entry.payload;
    if is_raw {
        return out.bytes(payload);
    }
    out.bytes(lease::word(delivered).as_bytes())?;
    out.bytes(b"\t")?;
    out.line(payload)
}

/// Leases of a group, or ids.
#[derive(Debug, Args)]
struct Leased {
    /// The topic
    #[arg(value_parser = |text: &str| TopicName::new(text))]
    topic: TopicName,
    /// The group
    #[arg(value_parser = |text: &str| GroupName::new(text))]
    group: GroupName,
    /// Leases as `group next` prints them; to acknowledge, ids do
    #[arg(required = true, value_name = "LEASE")]
    leases: Vec<LeaseRef>,
    #[command(flatten)]
    connection: Connection,
}

impl Leased {
    async fn open(&self) -> Result<(crate::client::Group, Vec<crate::client::Lease>)> {
        let client = self.connection.client().await?;
        let leases = lease::resolve(&client, &self.topic, &self.leases).await?;
        Ok((client.group(&self.topic, self.group.clone()), leases))
    }

    /// Tells what became of each; how the command ends.
    fn tell(&self, outcomes: Vec<Result<(), LeaseError>>) -> Exit {
        let mut exit = Exit::Ok;
        for (word, outcome) in self.leases.iter().zip(outcomes) {
            if let Err(error) = outcome {
                exit = if error == LeaseError::Unreachable { Exit::Unreachable } else { Exit::NotFound };
                output::error(format!("{}: {error}", word.id), exit);
            }
        }
        exit
    }
}

/// Acknowledge entries: they are done, whoever has them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  conveyor group ack jobs mailers jobs/alpha.01234567/42@9f86d081884c7d65
  conveyor group ack jobs mailers jobs/alpha.01234567/42

Any peer takes it, with or without a lease. What is acknowledged comes again
only after a rewind. Prints how many of them were not acknowledged before.")]
pub struct Ack {
    #[command(flatten)]
    leased: Leased,
}

impl Ack {
    /// Does it.
    pub async fn run(self, out: &mut Out) -> Result<Exit> {
        let (group, leases) = self.leased.open().await?;
        let ids: Vec<_> = leases.iter().map(|lease| lease.id).collect();
        let news = group.ack(&ids).await?.into_iter().filter(|is_news| *is_news).count();
        out.show(&serde_json::json!({ "acked": news, "known": ids.len() - news }), |_| {
            format!("acknowledged {news}")
        })?;
        Ok(Exit::Ok)
    }
}

/// Give entries back before their lease ends
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  conveyor group nack jobs mailers jobs/alpha.01234567/42@9f86d081884c7d65
  conveyor group nack jobs mailers --delay 10m LEASE...

Exit code 3 says that a lease had ended.")]
pub struct Nack {
    #[command(flatten)]
    leased: Leased,
    /// Hand them out again after this (as the group is set)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    delay: Option<u64>,
    /// Do not count it as a delivery
    #[arg(long)]
    uncounted: bool,
}

impl Nack {
    /// Does it.
    pub async fn run(self, _out: &mut Out) -> Result<Exit> {
        must_be_leases(&self.leased.leases)?;
        let (group, leases) = self.leased.open().await?;
        let outcomes = group.nack(&leases, self.delay.map(Duration::from_millis), !self.uncounted).await?;
        Ok(self.leased.tell(outcomes))
    }
}

/// Keep entries longer
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  conveyor group extend jobs mailers --lease 10m LEASE...

Exit code 3 says that a lease had ended.")]
pub struct Extend {
    #[command(flatten)]
    leased: Leased,
    /// For so long from now on, up to 12h (as the group is set)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    lease: Option<u64>,
}

impl Extend {
    /// Does it.
    pub async fn run(self, _out: &mut Out) -> Result<Exit> {
        must_be_leases(&self.leased.leases)?;
        let (group, leases) = self.leased.open().await?;
        let outcomes = group.extend(&leases, self.lease.map(Duration::from_millis)).await?;
        Ok(self.leased.tell(outcomes))
    }
}

fn must_be_leases(words: &[LeaseRef]) -> Result<()> {
    match words.iter().find(|word| word.number.is_none()) {
        Some(word) => {
            let message = format!("{} is an id without a lease; `group next` prints ID@LEASE", word.id);
            Err(failure(Exit::Usage, message))
        }
        None => Ok(()),
    }
}
