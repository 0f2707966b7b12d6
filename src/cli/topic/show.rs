//! A topic as it is shown to people, who count the last entry in.
use crate::cli::output::{show_bytes, show_count, show_entries, show_ms};
use crate::wire::json::ForkJson;
use std::fmt::Write as _;

pub use crate::wire::json::TopicJson;

/// Damaged ranges of a log that are shown to people, and as many that were declared lost.
const SHOWN_COUNT_MAX: usize = 16;

impl TopicJson {
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
    use crate::base::{PeerId, RunId, Seq, Timestamp, TopicName, TopicSettings};
    use crate::wire::outcome::{ForkInfo, LogInfo, TopicInfo};

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
