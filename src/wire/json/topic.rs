//! A topic as JSON, with ranges from `first_seq` up to but not with `next_seq`.
use crate::base::name::short_run;
use crate::base::{Retention, RunId, Seq};
use crate::wire::outcome::{ForkInfo, LogInfo, TopicInfo};
use crate::wire::when::show_time;
use serde::Serialize;

/// A topic as JSON.
#[derive(Serialize)]
pub struct TopicJson {
    pub(crate) topic: String,
    pub(crate) durability: String,
    pub(crate) keep_age_ms: Option<u64>,
    pub(crate) keep_bytes: Option<u64>,
    pub(crate) keep_count: Option<u64>,
    pub(crate) is_configured: bool,
    pub(crate) entries: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) logs: Vec<LogJson>,
}

/// A log of it.
#[derive(Serialize)]
pub struct LogJson {
    pub(crate) peer: String,
    pub(crate) name: Option<String>,
    pub(crate) run: String,
    pub(crate) runs: u32,
    pub(crate) first_seq: u64,
    pub(crate) next_seq: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) last_time: Option<String>,
    pub(crate) damaged: Vec<RangeJson>,
    pub(crate) damaged_ranges: u64,
    pub(crate) lost: Vec<RangeJson>,
    pub(crate) lost_ranges: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) forks: Vec<ForkJson>,
    /// The run reached last, as it stands in ids.
    #[serde(skip)]
    pub in_ids: String,
}

/// Where a run forked: it has no entries from there on, its branches have.
#[derive(Serialize)]
pub struct ForkJson {
    pub(crate) run: String,
    pub(crate) first_seq: u64,
    pub(crate) branches: Vec<String>,
    /// All that, as it stands in ids.
    #[serde(skip)]
    pub in_ids: (String, Vec<String>),
}

impl ForkJson {
    fn new(log: &LogInfo, fork: &ForkInfo) -> Self {
        let branch = |run: &RunId| short_run(*run, fork.signed_run);
        let in_ids = short_run(fork.run, log.signed_run_of(fork.run));
        Self {
            run: fork.run.to_string(),
            first_seq: fork.from.0,
            branches: fork.branches.iter().map(ToString::to_string).collect(),
            in_ids: (in_ids, fork.branches.iter().map(branch).collect()),
        }
    }
}

/// A range of a log.
#[derive(Serialize)]
pub struct RangeJson {
    pub(crate) run: String,
    pub(crate) first_seq: u64,
    pub(crate) next_seq: u64,
    /// The run, as it stands in ids.
    #[serde(skip)]
    pub in_ids: String,
}

impl LogJson {
    fn new(log: &LogInfo) -> Self {
        let range = |(run, from, until): &(RunId, Seq, Seq)| {
            let in_ids = short_run(*run, log.signed_run_of(*run));
            RangeJson { run: run.to_string(), first_seq: from.0, next_seq: until.0, in_ids }
        };
        Self {
            peer: log.peer.to_string(),
            name: log.name.as_ref().map(ToString::to_string),
            run: log.run.to_string(),
            runs: log.run_count,
            first_seq: log.start.0,
            next_seq: log.until.0,
            stored_bytes: log.stored_bytes,
            last_time: (log.last_time.ms() > 0).then(|| show_time(log.last_time.ms())),
            damaged: log.damaged.iter().map(range).collect(),
            damaged_ranges: log.damaged_count,
            lost: log.lost.iter().map(range).collect(),
            lost_ranges: log.lost_count,
            forks: log.forks.iter().map(|fork| ForkJson::new(log, fork)).collect(),
            in_ids: short_run(log.run, log.signed_run_of(log.run)),
        }
    }
}

impl TopicJson {
    /// What is known of a topic.
    pub fn new(info: &TopicInfo) -> Self {
        let Retention { age_ms, bytes, count } = info.settings.retention;
        Self {
            topic: info.name.to_string(),
            durability: info.settings.durability.to_string(),
            keep_age_ms: age_ms,
            keep_bytes: bytes,
            keep_count: count,
            is_configured: info.is_configured,
            entries: info.logs.iter().map(|log| log.until.since(log.start)).sum(),
            stored_bytes: info.logs.iter().map(|log| log.stored_bytes).sum(),
            logs: info.logs.iter().map(LogJson::new).collect(),
        }
    }
}
