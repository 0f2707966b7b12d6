//! `conveyor status`: how a peer is doing.
use crate::cli::connect::Connection;
use crate::cli::output::{Out, show_bytes, show_count, show_ms};
use crate::cli::when::show_time;
use crate::wire::outcome::{self, AppendsState, ClockState};
use anyhow::Result;
use clap::Args;
use serde::Serialize;

/// Show how a peer is doing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  conveyor status\n  conveyor status -o json | jq .stored_bytes")]
pub struct Status {
    #[command(flatten)]
    connection: Connection,
}

#[derive(Serialize)]
struct StatusJson {
    name: String,
    peer: String,
    cluster: String,
    store: String,
    version: String,
    started: String,
    topics: u64,
    logs: u64,
    stored_bytes: u64,
    disk_free_bytes: u64,
    disk_reserve_bytes: u64,
    appends: String,
    clock: String,
    damaged_ranges: u64,
    forks: u64,
    connections: u64,
    durability: String,
}

impl Status {
    /// Asks and shows.
    pub async fn run(self, out: &mut Out) -> Result<()> {
        let client = self.connection.client().await?;
        let status = client.status().await?;
        out.show(&json(&status), text)
    }
}

fn json(status: &outcome::Status) -> StatusJson {
    let about = &status.about;
    StatusJson {
        name: about.name.to_string(),
        peer: about.peer.to_string(),
        cluster: about.cluster.to_string(),
        store: about.store.to_string(),
        version: about.version.clone(),
        started: show_time(status.started_unix_ms),
        topics: status.topic_count,
        logs: status.log_count,
        stored_bytes: status.stored_bytes,
        disk_free_bytes: status.disk_free_bytes,
        disk_reserve_bytes: status.disk_reserve_bytes,
        appends: appends_words(&status.appends),
        clock: clock_words(&status.clock),
        damaged_ranges: status.damaged_count,
        forks: status.fork_count,
        connections: status.connection_count,
        durability: status.topic_defaults.durability.to_string(),
    }
}

fn text(s: &StatusJson) -> String {
    let (stored, free, reserve) =
        (show_bytes(s.stored_bytes), show_bytes(s.disk_free_bytes), show_bytes(s.disk_reserve_bytes));
    // It happens hardly ever, and has to be looked at when it does.
    let forks = match s.forks {
        0 => String::new(),
        count => format!("forked      {}; see conveyor topic info\n", show_count(count, "run", "runs")),
    };
    format!(
        "peer        {} {}, version {}\n\
         cluster     {}\n\
         started     {}\n\
         held        {}, {}, {stored}\n\
         disk        {free} free, {reserve} of them in reserve\n\
         appends     {}, {} unless said otherwise\n\
         clock       {}\n\
         damaged     {}\n\
         {forks}\
         connections {}",
        s.name,
        s.peer,
        s.version,
        s.cluster,
        s.started,
        show_count(s.topics, "topic", "topics"),
        show_count(s.logs, "log", "logs"),
        s.appends,
        s.durability,
        s.clock,
        show_count(s.damaged_ranges, "range", "ranges"),
        s.connections
    )
}

fn appends_words(appends: &AppendsState) -> String {
    match appends {
        AppendsState::Open => "open".to_owned(),
        AppendsState::DiskFull => "stopped: the disk is full down to its reserve".to_owned(),
        AppendsState::Stopped { reason } => format!("stopped: {reason}"),
    }
}

/// What a clock's state means, for people.
pub fn clock_words(clock: &ClockState) -> String {
    match *clock {
        ClockState::Trusted => "trusted".to_owned(),
        ClockState::Behind { by_ms } => {
            format!("{} behind what was last written; nothing is removed by age", show_ms(by_ms))
        }
        ClockState::Jumped { by_ms } => {
            let by = show_ms(by_ms.unsigned_abs());
            let way = if by_ms < 0 { "back" } else { "ahead" };
            format!("jumped {by} {way}; nothing is removed by age")
        }
        ClockState::Settling { left_ms } => {
            format!(
                "found ahead at start; believed in {}, or once other peers say the same, or by `conveyor clock accept`",
                show_ms(left_ms)
            )
        }
        ClockState::Apart { by_ms } => {
            let by = show_ms(by_ms.unsigned_abs());
            let way = if by_ms < 0 { "behind" } else { "ahead of" };
            format!(
                "{by} {way} what other peers show, and no more than half agree with it; nothing is removed by age"
            )
        }
    }
}
