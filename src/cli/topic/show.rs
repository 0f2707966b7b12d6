//! A topic as it is shown: JSON for programs, with ranges from `first_seq` up to but not with `next_seq`; text for
//! people, who count the last entry in.
use crate::base::Retention;
use crate::cli::output::{show_bytes, show_count, show_entries, show_ms};
use crate::cli::when::show_time;
use crate::wire::outcome::{LogInfo, TopicInfo};
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
}

#[derive(Serialize)]
struct RangeJson {
    run: String,
    first_seq: u64,
    next_seq: u64,
}

impl LogJson {
    fn new(log: &LogInfo) -> Self {
        let range = |(run, from, until): &(crate::base::RunId, crate::base::Seq, crate::base::Seq)| {
            RangeJson { run: run.to_string(), first_seq: from.0, next_seq: until.0 }
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
            let _ = write!(text, "\nlog         {name}.{}: {held}, {size}", &log.run[..8]);
            if let Some(last) = &log.last_time {
                let _ = write!(text, ", newest {last}");
            }
            let lists = [("damaged", &log.damaged, log.damaged_ranges), ("lost", &log.lost, log.lost_ranges)];
            for (state, ranges, count) in lists {
                for range in ranges.iter().take(SHOWN_COUNT_MAX) {
                    let entries = show_entries(range.first_seq, range.next_seq);
                    let _ = write!(text, "\n{state:<11} {name}.{}: {entries}", &range.run[..8]);
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
    use crate::base::{PeerId, RunId, Seq, Timestamp, TopicName, TopicSettings};

    #[test]
    fn of_much_damage_people_see_the_first_and_how_much_more_there_is() {
        let ranges = |count: u64| (0..count).map(|n| (RunId(1), Seq(2 * n + 1), Seq(2 * n + 2))).collect();
        let log = LogInfo {
            peer: PeerId([1; 32]),
            name: None,
            run: RunId(1),
            run_count: 1,
            start: Seq(1),
            until: Seq(99),
            stored_bytes: 1,
            last_time: Timestamp::ZERO,
            damaged: ranges(20),
            lost: ranges(3),
            damaged_count: 5_000,
            lost_count: 3,
        };
        let name = TopicName::new("jobs").unwrap();
        let info =
            TopicInfo { name, settings: TopicSettings::default(), is_configured: false, logs: vec![log] };
        let text = TopicJson::new(&info).text();
        assert_eq!(text.matches("\ndamaged     0101").count(), 16, "{text}");
        assert!(text.contains("\ndamaged     and 4984 more\nlost        0101"), "{text}");
        assert!(text.matches("more").count() == 1 && text.ends_with("entry 5"), "{text}");
    }
}
