//! `conveyor cluster health`: asks each peer how it is doing, and says what is not as it should be.
use crate::cli::connect::{Connection, is_still, within};
use crate::cli::exit::{Exit, is_forbidden};
use crate::cli::output::{Out, note, show_count, show_ms};
use crate::cli::peer::who::{FORGOTTEN, Known};
use crate::cli::usage::duration;
use crate::cli::when::unix_ms;
use crate::client::{Alone, Client, Member, Status, SyncStatus};
use crate::wire::json::clock_words;
use crate::wire::outcome::{AppendsState, ClockState};
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Ask each peer how it is doing, and say what is not as it should be
///
/// Looks for peers that are away or not connected to each other, far behind, with entries that nobody else holds, with a full
/// or damaged disk, with a clock that is not believed or differs from the others', and for runs that forked.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  conveyor cluster health
  conveyor cluster health --behind 1000 --skew 1s
  conveyor cluster health -o json | jq -r '.findings[] | .peer + \": \" + .what'

Ends with 0 where all is well, and with 10 where anything was found. Each peer
is asked from here, so this host has to reach all of them.")]
pub struct Health {
    /// Entries that a peer may lack while it catches up
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    behind: u64,
    /// How far clocks may differ
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    skew: Duration,
    /// How long to wait for a peer that does not answer, and for peers to say what they hold
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    wait: Duration,
    #[command(flatten)]
    connection: Connection,
}

/// What a peer said of its entries that others do not hold.
enum Told {
    Alone(Alone),
    /// Whoever may not administer all topics is not told.
    Forbidden,
    /// Why not.
    Not(String),
}

/// What a peer said.
struct Said {
    status: Status,
    sync: SyncStatus,
    alone: Told,
    /// How far its clock is ahead of the one here, in milliseconds.
    ahead_ms: i64,
}

#[derive(Serialize)]
struct HealthJson {
    is_healthy: bool,
    peers: Vec<PeerJson>,
    findings: Vec<FindingJson>,
}

#[derive(Serialize)]
struct PeerJson {
    name: String,
    peer: String,
    is_answering: bool,
    missing_entries: Option<u64>,
    unreplicated_entries: Option<u64>,
    clock_ahead_ms: Option<i64>,
    forks: Option<u64>,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
struct FindingJson {
    peer: String,
    what: String,
}

impl Health {
    /// Asks all, and shows.
    pub async fn run(self, out: &mut Out) -> Result<Exit> {
        let client = self.connection.client().await?;
        let known = within(self.wait, Known::ask(&client)).await?;
        let mut asking = Vec::new();
        for member in known.present().cloned() {
            let (connection, client, wait) = (self.connection.clone(), client.clone(), self.wait);
            asking.push(tokio::spawn(async move {
                let said = ask(&connection, &client, &member, wait).await;
                (member, said)
            }));
        }
        let mut all = Vec::new();
        for asked in asking {
            all.push(asked.await?);
        }
        let mut findings = self.findings(&all);
        findings.extend(forgotten(&client, &known, self.wait).await);
        let is_forbidden = |said: &Said| matches!(said.alone, Told::Forbidden);
        if all.iter().any(|(_, said)| said.as_ref().is_ok_and(is_forbidden)) {
            note(
                "not every peer told whether others hold what it wrote: that needs the right admin for all topics",
            );
        }
        let peers = all.iter().map(|(member, said)| peer_json(member, said)).collect();
        let health = HealthJson { is_healthy: findings.is_empty(), peers, findings };
        out.show(&health, words)?;
        Ok(if health.is_healthy { Exit::Ok } else { Exit::Unhealthy })
    }

    fn findings(&self, all: &[(Member, Result<Said, String>)]) -> Vec<FindingJson> {
        let answering = all.iter().filter(|(_, said)| said.is_ok()).count();
        let clocks: Vec<i64> =
            all.iter().filter_map(|(_, said)| Some(said.as_ref().ok()?.ahead_ms)).collect();
        let median = median(clocks);
        let mut findings = Vec::new();
        for (member, said) in all {
            let whats = match said {
                Err(what) => vec![what.clone()],
                Ok(said) => self.of_peer(said, answering, median),
            };
            let peer = member.name.to_string();
            findings.extend(whats.into_iter().map(|what| FindingJson { peer: peer.clone(), what }));
        }
        findings
    }

    fn of_peer(&self, said: &Said, answering: usize, median_ms: i64) -> Vec<String> {
        let Said { status, sync, alone, ahead_ms } = said;
        let mut whats = Vec::new();
        match &status.appends {
            AppendsState::Open => {}
            AppendsState::DiskFull => whats.push("its disk is full down to the reserve".to_owned()),
            AppendsState::Stopped { reason } => whats.push(format!("takes no appends: {reason}")),
        }
        if sync.missing_entries > self.behind {
            let since = sync.behind_ms.map_or_else(String::new, |ms| format!(", for {}", show_ms(ms)));
            let missing = show_count(sync.missing_entries, "entry", "entries");
            whats.push(format!("far behind: {missing} that others hold are not there{since}"));
        }
        if sync.peers.len() + 1 < answering {
            let others = show_count(sync.peers.len() as u64, "peer", "peers");
            whats.push(format!("is connected to {others} of the {} others that answer", answering - 1));
        }
        match alone {
            // Alone in its cluster nobody else could hold anything.
            Told::Alone(alone) if alone.entry_count() > 0 && answering > 1 => {
                let entries = show_count(alone.entry_count(), "entry", "entries");
                whats.push(format!("wrote {entries} that no other peer says it holds"));
            }
            Told::Not(why) => whats.push(format!("did not tell whether others hold what it wrote: {why}")),
            Told::Alone(_) | Told::Forbidden => {}
        }
        if status.clock != ClockState::Trusted {
            whats.push(format!("its clock is not believed: {}", clock_words(&status.clock)));
        }
        let skew_ms = (ahead_ms - median_ms).unsigned_abs();
        if skew_ms > self.skew.as_millis() as u64 {
            let way = if *ahead_ms < median_ms { "behind" } else { "ahead" };
            whats.push(format!("its clock is {} {way}", show_ms(skew_ms)));
        }
        if status.damaged_count > 0 {
            let ranges = show_count(status.damaged_count, "range is", "ranges are");
            whats.push(format!("{ranges} damaged; see conveyor topic lost"));
        }
        if status.fork_count > 0 {
            let runs = show_count(status.fork_count, "run", "runs");
            whats.push(format!("{runs} forked; see conveyor topic info"));
        }
        whats
    }
}

/// Peers that wrote something and that gossip knows no more: away for long, unless they were removed.
async fn forgotten(client: &Client, known: &Known, wait: Duration) -> Vec<FindingJson> {
    let mut findings = Vec::new();
    for (peer, why_unknown) in known.forgotten(client, wait).await {
        let peer = known.called(&peer);
        match why_unknown {
            None => findings.push(FindingJson { peer, what: format!("away: {FORGOTTEN}") }),
            Some(why) => note(format!("{peer}: {FORGOTTEN}; whether it was removed is not known: {why}")),
        }
    }
    findings
}

/// What a member says, or what is the matter with it.
async fn ask(
    connection: &Connection,
    client: &Client,
    member: &Member,
    wait: Duration,
) -> Result<Said, String> {
    let client = connection.member(client, member, wait).await.map_err(|error| format!("away: {error}"))?;
    questions(&client, member, wait).await.map_err(|error| format!("does not answer: {error}"))
}

/// Each question is waited for apart: what stands still is nearly always one part of a peer.
async fn questions(client: &Client, member: &Member, wait: Duration) -> Result<Said> {
    let begun = Instant::now();
    let status = within(wait, client.status()).await?;
    let here_ms = unix_ms() as i64 - (begun.elapsed().as_millis() / 2) as i64;
    let ahead_ms = status.unix_ms as i64 - here_ms;
    let sync = within(wait, client.sync()).await?;
    // The peer itself waits as long for others.
    let alone = match within(2 * wait, client.alone(wait)).await {
        Ok(alone) if alone.is_known => Told::Alone(alone),
        Ok(_) => Told::Not("it is not to be known there".to_owned()),
        Err(error) if is_forbidden(&error) => Told::Forbidden,
        Err(error) => Told::Not(error.to_string()),
    };
    is_still(client, member)?;
    Ok(Said { status, sync, alone, ahead_ms })
}

/// The one in the middle. Of an even count there is none: then this host has a word too, from which all are counted.
fn median(mut values: Vec<i64>) -> i64 {
    if values.len().is_multiple_of(2) {
        values.push(0);
    }
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

fn peer_json(member: &Member, said: &Result<Said, String>) -> PeerJson {
    let said = said.as_ref().ok();
    PeerJson {
        name: member.name.to_string(),
        peer: member.peer.to_string(),
        is_answering: said.is_some(),
        missing_entries: said.map(|said| said.sync.missing_entries),
        unreplicated_entries: said.and_then(|said| match &said.alone {
            Told::Alone(alone) => Some(alone.entry_count()),
            Told::Forbidden | Told::Not(_) => None,
        }),
        clock_ahead_ms: said.map(|said| said.ahead_ms),
        forks: said.map(|said| said.status.fork_count),
    }
}

fn words(health: &HealthJson) -> String {
    let answering = health.peers.iter().filter(|peer| peer.is_answering).count() as u64;
    let all = show_count(health.peers.len() as u64, "peer", "peers");
    match health.findings.is_empty() {
        true => format!("healthy: {all}, and nothing is amiss"),
        false => {
            let line = |finding: &FindingJson| format!("{}: {}", finding.peer, finding.what);
            let lines: Vec<String> = health.findings.iter().map(line).collect();
            format!("not healthy; {answering} of {all} answer\n{}", lines.join("\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_that_differs_is_the_one_in_the_smaller_part() {
        assert_eq!(median(vec![0, 70_000, 1]), 1);
        assert_eq!(median(vec![0, 70_000]), 0, "of two the one that this host is nearer to is right");
        assert_eq!(median(vec![70_000, 70_001]), 70_000, "unless both say that this host is wrong");
        assert_eq!(median(vec![5]), 5);
        assert_eq!(median(vec![]), 0);
    }
}
