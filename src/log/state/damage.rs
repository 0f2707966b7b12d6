//! What is damaged of a log, and what of that somebody declared lost.
use crate::base::{Lost, Signature};
use crate::log::state::{LogState, Range};

impl LogState {
    /// What is damaged and was not declared lost, in order.
    pub fn damaged_not_lost(&self) -> Vec<Range> {
        let mut damaged = self.damaged.clone();
        if damaged.is_empty() || self.lost.is_empty() {
            return damaged;
        }
        let range =
            |(lost, _): &(Lost, Signature)| Range { run: lost.run, from: lost.from, until: lost.until };
        let mut lost: Vec<Range> = self.lost.iter().map(range).collect();
        damaged.sort_unstable();
        lost.sort_unstable();
        let (mut left, mut passed) = (Vec::new(), 0);
        for mut range in damaged {
            // What ends before this range ends before all behind it. What a longer one hides is met again, and takes nothing.
            while lost.get(passed).is_some_and(|lost| (lost.run, lost.until) <= (range.run, range.from)) {
                passed += 1;
            }
            for lost in
                lost[passed..].iter().take_while(|lost| (lost.run, lost.from) < (range.run, range.until))
            {
                if range.from < lost.from {
                    left.push(Range { until: lost.from, ..range });
                }
                range.from = range.from.max(lost.until);
            }
            if range.from < range.until {
                left.push(range);
            }
        }
        left
    }
}
