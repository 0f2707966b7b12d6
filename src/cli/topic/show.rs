//! A topic as it is shown: JSON for programs, with ranges from `first_seq` up to but not with `next_seq`; text for
//! people, who count the last entry in.
use crate::base::name::short_run;
use crate::base::{Retention, RunId, Seq};
use crate::cli::output::{show_bytes, show_count, show_entries, show_ms};
use crate::cli::when::show_time;
use crate::wire::outcome::{ForkInfo, LogInfo, TopicInfo};
use serde::Serialize;
use std::fmt::Write as _;

/// Damaged ranges of a log that are shown to people, and as many that were declared lost.
const SHOWN_COUNT_MAX: usize = 16;

/// A topic as JSON.
#[derive(Serialize)]
pub struct TopicJson {
    topic: String,
    durability: String,
    keep_age_ms: Option<u64>,
    keep_bytes: Option<u64>,
    keep_count: Option<u64>,
    is_configured: bool,
    entries: u64,
    stored_bytes: u64,
    logs: Vec<LogJson>,
}

#[derive(Serialize)]
struct LogJson {
    peer: String,
    name: Option<String>,
    run: String,
    runs: u32,
    first_seq: u64,
    next_seq: u64,
    stored_bytes: u64,
    last_time: Option<String>,
    damaged: Vec<RangeJson>,
    damaged_ranges: u64,
    lost: Vec<RangeJson>,
    lost_ranges: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    forks: Vec<ForkJson>,
    /// The run reached last, as it stands in ids.
    #[serde(skip)]
    in_ids: String,
}

/// Where a run forked: it has no entries from there on, its branches have.
#[derive(Serialize)]
struct ForkJson {
    run: String,
    first_seq: u64,
    branches: Vec<String>,
    /// All that, as it stands in ids.
    #[serde(skip)]
    in_ids: (String, Vec<String>),
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

#[derive(Serialize)]
struct RangeJson {
    run: String,
    first_seq: u64,
    next_seq: u64,
    /// The run, as it stands in ids.
    #[serde(skip)]
    in_ids: String,
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

    /// One line of a list.
    pub fn line(&self) -> String {
        let entries = show_count(self.entries, "entry", "entries");
        format!("{}\t{entries}\t{}", self.topic, show_bytes(self.stored_bytes))
    }

    /// Everything, for people.
    pub fn text(&self) -> String {
        let keeps: Vec<String> = [
            self.keep_age_ms.map(|ms| format!("the last {}", show_ms(ms))),
            self.keep_bytes.map(|bytes| format!("{} a log", show_bytes(bytes))),
            self.keep_count.map(|count| format!("{} a log", show_count(count, "entry", "entries"))),
        ]
        .into_iter()
        .flatten()
        .collect();
        let keeps = if keeps.is_empty() { "everything".to_owned() } else { keeps.join(", ") };
        let origin = if self.is_configured { "" } else { " (defaults)" };
        let mut text = format!(
            "topic       {}\ndurability  {}{origin}\nkeeps       {keeps}\nheld        {}, {}",
            self.topic,
            self.durability,
            show_count(self.entries, "entry", "entries"),
            show_bytes(self.stored_bytes)
        );
        // Writing to a String does not fail.
        for log in &self.logs {
            let name = log.name.as_deref().unwrap_or(&log.peer);
            let held = show_entries(log.first_seq, log.next_seq);
            let size = show_bytes(log.stored_bytes);
            let _ = write!(text, "\nlog         {name}.{}: {held}, {size}", log.in_ids);
            if let Some(last) = &log.last_time {
                let _ = write!(text, ", newest {last}");
            }
            for ForkJson { first_seq, in_ids: (run, branches), .. } in &log.forks {
                let branches = branches.join(" and ");
                let _ =
                    write!(text, "\nforked      {name}.{run}: from entry {first_seq} on it is {branches}");
            }
            let lists = [("damaged", &log.damaged, log.damaged_ranges), ("lost", &log.lost, log.lost_ranges)];
            for (state, ranges, count) in lists {
                for range in ranges.iter().take(SHOWN_COUNT_MAX) {
                    let entries = show_entries(range.first_seq, range.next_seq);
                    let _ = write!(text, "\n{state:<11} {name}.{}: {entries}", range.in_ids);
                }
                let more = count.saturating_sub(ranges.len().min(SHOWN_COUNT_MAX) as u64);
                if more > 0 {
                    let _ = write!(text, "\n{state:<11} and {more} more");
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{PeerId, Timestamp, TopicName, TopicSettings};

    fn log() -> LogInfo {
        LogInfo {
            peer: PeerId([1; 32]),
            name: None,
            run: RunId(1),
            run_count: 1,
            start: Seq(1),
            until: Seq(99),
            stored_bytes: 1,
            last_time: Timestamp::ZERO,
            damaged: vec![],
            lost: vec![],
            damaged_count: 0,
            lost_count: 0,
            forks: vec![],
        }
    }

    fn shown(log: LogInfo) -> TopicJson {
        let (name, settings) = (TopicName::new("jobs").unwrap(), TopicSettings::default());
        TopicJson::new(&TopicInfo { name, settings, is_configured: false, logs: vec![log] })
    }

    #[test]
    fn a_fork_is_shown_with_its_branches_as_they_stand_in_ids() {
        let [signed, a, b] = [0x0123_4567_0000_0001, 0xaaaa_aaaa_0000_0001, 0xbbbb_bbbb_0000_0001].map(RunId);
        let fork = ForkInfo { run: signed, signed_run: signed, from: Seq(20), branches: vec![a, b] };
        let damaged = vec![(b, Seq(21), Seq(22))];
        let shown = shown(LogInfo { run: a, damaged, damaged_count: 1, forks: vec![fork], ..log() });
        let text = shown.text();
        let is_told = |what: &str| assert!(text.contains(what), "{what}: {text}");
        is_told(".01234567~aaaaaaaa: entries 1 to 98");
        is_told(".01234567: from entry 20 on it is 01234567~aaaaaaaa and 01234567~bbbbbbbb");
        is_told(".01234567~bbbbbbbb: entry 21");
        let json = serde_json::to_value(&shown).unwrap();
        let expected = serde_json::json!([{
            "run": "0123456700000001",
            "first_seq": 20,
            "branches": ["aaaaaaaa00000001", "bbbbbbbb00000001"],
        }]);
        assert_eq!(json["logs"][0]["forks"], expected);
    }

    #[test]
    fn of_much_damage_people_see_the_first_and_how_much_more_there_is() {
        let ranges = |count: u64| (0..count).map(|n| (RunId(1), Seq(2 * n + 1), Seq(2 * n + 2))).collect();
        let (damaged, lost) = (ranges(20), ranges(3));
        let text = shown(LogInfo { damaged, lost, damaged_count: 5_000, lost_count: 3, ..log() }).text();
        assert_eq!(text.matches("\ndamaged     0101").count(), 16, "{text}");
        assert!(text.contains("\ndamaged     and 4984 more\nlost        0101"), "{text}");
        assert!(text.matches("more").count() == 1 && text.ends_with("entry 5"), "{text}");
    }
}
