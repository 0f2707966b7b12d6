//! How a peer is doing, as JSON.
use crate::base::units::show_ms;
use crate::wire::outcome::{self, AppendsState, ClockState};
use crate::wire::when::show_time;
use serde::Serialize;

/// How a peer is doing.
#[derive(Serialize)]
pub struct StatusJson {
    pub(crate) name: String,
    pub(crate) peer: String,
    pub(crate) cluster: String,
    pub(crate) store: String,
    pub(crate) version: String,
    pub(crate) started: String,
    pub(crate) topics: u64,
    pub(crate) logs: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) disk_free_bytes: u64,
    pub(crate) disk_reserve_bytes: u64,
    pub(crate) appends: String,
    pub(crate) clock: String,
    pub(crate) damaged_ranges: u64,
    pub(crate) forks: u64,
    pub(crate) connections: u64,
    pub(crate) durability: String,
}

impl StatusJson {
    /// All of it.
    pub fn new(status: &outcome::Status) -> Self {
        let about = &status.about;
        Self {
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
