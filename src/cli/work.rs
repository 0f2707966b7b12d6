//! `conveyor work`: a command for each entry of a group.
use crate::base::{GroupName, TopicName};
use crate::cli::connect::Connection;
use crate::cli::exit::{Exit, failure};
use crate::cli::interrupted;
use crate::cli::output::{Out, note};
use crate::cli::when::parse_from;
use crate::client::{ClientError, ConsumerOptions, GroupError, GroupSettings, Job, ReadFrom};
use crate::server::config::parse_duration;
use anyhow::{Context as _, Result};
use clap::Args;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::task::JoinSet;

/// The first pause before an entry whose command failed is handed out again; then twice as long each time.
const BACK_OFF_FIRST: Duration = Duration::from_secs(1);
/// The longest.
const BACK_OFF_MAX: Duration = Duration::from_secs(300);

/// Run a command for each entry of a group.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  conveyor work jobs mailers -- ./send-mail
  conveyor work jobs mailers --jobs 8 -- sh -c 'jq .to | xargs deliver'
  conveyor work pages fetch -- sh -c 'curl -s $(cat) | conveyor append html'

The payload comes on standard input. In the environment are, each behind
CONVEYOR_ENTRY_: ID, TOPIC, GROUP, KEY, TAGS (a line each), ATTEMPT, TIME_MS.

Exit code 0 acknowledges; any other gives the entry back, to come again after
1 s, 2 s, 4 s and so on up to 5 min. The lease is renewed while a command runs.
An entry may come twice: when its worker or its peer dies, or the cluster was
split. CONVEYOR_ENTRY_ID is the same each time.

Ctrl-C takes no more, and waits for commands that run; a second one does not.")]
pub struct Work {
    /// The topic
    #[arg(value_parser = |text: &str| TopicName::new(text))]
    topic: TopicName,
    /// The group; it is made where there is none
    #[arg(value_parser = |text: &str| GroupName::new(text))]
    group: GroupName,
    /// Commands that run at once
    #[arg(long, short, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1024))]
    jobs: u32,
    /// Where a group that is made begins
    #[arg(long, default_value = "start", value_name = "WHERE", value_parser = parse_from)]
    from: ReadFrom,
    /// Lease entries so long, up to 12h (as the group is set)
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    lease: Option<u64>,
    /// Stop after so many entries
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Stop when there was nothing to do for so long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    until_idle: Option<u64>,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

/// How an entry's command ended.
enum Ended {
    Acked,
    GivenBack,
}

impl Work {
    /// Works until there is a reason to stop.
    pub async fn run(self, out: &mut Out) -> Result<Exit> {
        let client = self.connection.client().await?;
        let group = client.group(&self.topic, self.group.clone());
        if let Err(ClientError::Group(GroupError::Unknown { .. })) = group.info().await {
            group.create(self.from.clone(), GroupSettings::default()).await?;
        }
        let lease = self.lease.map(Duration::from_millis);
        let options = ConsumerOptions { prefetch_count: self.jobs, lease, ..ConsumerOptions::default() };
        let mut consumer = group.consumer(options);
        let (mut running, mut taken) = (JoinSet::new(), 0);
        let (mut acked, mut given_back) = (0_u64, 0_u64);
        let mut signalled = std::pin::pin!(interrupted());
        let idle = self.until_idle.map(Duration::from_millis);
        let mut stopped = None;
        while stopped.is_none() && self.limit.is_none_or(|limit| taken < limit) {
            let idle = idle.filter(|_| running.is_empty());
            let is_idle = async {
                match idle {
                    Some(idle) => tokio::time::sleep(idle).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = &mut signalled => stopped = Some(Ok(())),
                ended = running.join_next(), if !running.is_empty() => {
                    count(ended, &mut acked, &mut given_back);
                }
                next = consumer.next() => match next {
                    Some(Ok(job)) => {
                        taken += 1;
                        running.spawn(work(self.command.clone(), self.group.clone(), job));
                    }
                    Some(Err(error)) => stopped = Some(Err(error)),
                    None => stopped = Some(Ok(())),
                },
                () = is_idle => stopped = Some(Ok(())),
            }
        }
        if !running.is_empty() {
            note(format!("{} commands run still; they are waited for", running.len()));
        }
        let mut again = std::pin::pin!(interrupted());
        while !running.is_empty() {
            tokio::select! {
                biased;
                () = &mut again => return Err(failure(Exit::Interrupted, "interrupted while commands ran")),
                ended = running.join_next() => count(ended, &mut acked, &mut given_back),
            }
        }
        consumer.stop().await;
        let told = serde_json::json!({ "acked": acked, "given_back": given_back });
        if out.is_json() {
            out.json(&told)?;
        } else {
            note(format!("{acked} done, {given_back} given back"));
        }
        stopped.unwrap_or(Ok(())).context("no more entries can be taken")?;
        Ok(Exit::Ok)
    }
}

fn count(ended: Option<Result<Ended, tokio::task::JoinError>>, acked: &mut u64, given_back: &mut u64) {
    match ended {
        Some(Ok(Ended::Acked)) => *acked += 1,
        Some(_) => *given_back += 1,
        None => {}
    }
}

async fn work(command: Vec<String>, group: GroupName, job: Job) -> Ended {
    let id = job.record().to_string();
    match carry_out(&command, &group, &job).await {
        Ok(status) if status.success() => match job.ack().await {
            Ok(_) => return Ended::Acked,
            Err(error) => {
                note(format!("{id} was done, and comes again, since that could not be told: {error}"))
            }
        },
        Ok(status) => {
            let delay = back_off(job.attempt());
            note(format!("{id}: {status}; again in {} s", delay.as_secs()));
            job.nack(Some(delay), true);
        }
        Err(error) => {
            let delay = back_off(job.attempt());
            note(format!("{id}: {}: {error}; again in {} s", command[0], delay.as_secs()));
            job.nack(Some(delay), true);
        }
    }
    Ended::GivenBack
}

fn back_off(attempt: u32) -> Duration {
    let doubled = BACK_OFF_FIRST * 2_u32.saturating_pow(attempt.saturating_sub(1).min(16));
    doubled.min(BACK_OFF_MAX)
}

async fn carry_out(
    command: &[String],
    group: &GroupName,
    job: &Job,
) -> std::io::Result<std::process::ExitStatus> {
    let record = job.record();
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .env("CONVEYOR_ENTRY_ID", record.to_string())
        .env("CONVEYOR_ENTRY_TOPIC", record.topic.as_str())
        .env("CONVEYOR_ENTRY_GROUP", group.as_str())
        .env("CONVEYOR_ENTRY_KEY", text(&record.entry.key))
        .env("CONVEYOR_ENTRY_TAGS", text(record.entry.tags.join("\n").as_bytes()))
        .env("CONVEYOR_ENTRY_ATTEMPT", job.attempt().to_string())
        .env("CONVEYOR_ENTRY_TIME_MS", record.time.ms().to_string())
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (payload, input) = (record.entry.payload.clone(), child.stdin.take());
    let write = async {
        if let Some(mut input) = input {
            // A command that does not read its input is none the worse.
            drop(input.write_all(&payload).await);
        }
    };
    let ((), status) = tokio::join!(write, child.wait());
    status
}

/// Bytes for the environment, which takes text without zero bytes.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_fails_waits_twice_as_long_each_time() {
        let waits: Vec<u64> = (1..=12).map(|attempt| back_off(attempt).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(back_off(u32::MAX).as_secs(), 300);
    }
}
