//! Numbering one of our own logs: which run, which seq, which time.
//!
//! ```text
//! durable <= next          what a failed step took is not numbered again in the same run: a new run goes on from durable
//! ```
use crate::base::planted::{self, Bug};
use crate::base::{LogId, Now, RunId, Seq, Statement, Timestamp, TopicName};

/// How much earlier than it came in an entry may be dated, so that a step's entries share a batch.
pub const DATED_BACK_MS_MAX: u64 = 100;

/// Where a log stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// The run reached; none when nothing was ever appended.
    pub run: RunId,
    /// The next number.
    pub until: Seq,
    /// The time of the last entry.
    pub last_time: Timestamp,
}

impl Default for Tip {
    fn default() -> Self {
        Self { run: RunId::NONE, until: Seq::FIRST, last_time: Timestamp::ZERO }
    }
}

/// One of our own logs.
#[derive(Debug, Clone)]
pub struct OwnLog {
    /// Its id.
    pub id: LogId,
    /// Its topic.
    pub topic: TopicName,
    next: Tip,
    durable: Tip,
    /// The run that ours goes on from.
    parent: RunId,
    /// Whether this start has a run of its own here already.
    is_open: bool,
    /// The run that this start opened last.
    opened: RunId,
    /// The number behind the last that this start gave in it.
    numbered: Seq,
    /// Whether a run was left because of what somebody only said: once, so that whoever lies costs no more than one run.
    was_warned: bool,
}

/// The numbers given to some entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbered {
    /// The run.
    pub run: RunId,
    /// The run it goes on from.
    pub parent: RunId,
    /// Whether these are the first of the run.
    pub opens_run: bool,
    /// The first number.
    pub first_seq: Seq,
    /// The first time.
    pub first_time: Timestamp,
}

impl OwnLog {
    /// A log that stands where recovery found it. The run found there is never continued; only in the simulator a machine is
    /// resumed that was in the middle of it.
    pub fn new(id: LogId, topic: TopicName, found: Tip) -> Self {
        let (parent, is_open) = match planted::resumed(found.run) {
            Some(parent) => (parent, true),
            None if planted::is(Bug::RunGoesOnAfterRestart) => (RunId::NONE, found.run.is_some()),
            None => (found.run, false),
        };
        let (opened, was_warned) = (if is_open { found.run } else { RunId::NONE }, false);
        Self {
            id,
            topic,
            next: found,
            durable: found,
            parent,
            is_open,
            opened,
            numbered: found.until,
            was_warned,
        }
    }

    /// The next number.
    pub fn until(&self) -> Seq {
        self.next.until
    }

    /// Where the log stands, numbered entries included.
    pub fn tip(&self) -> Tip {
        self.next
    }

    /// The time of the newest entry that was numbered, in milliseconds.
    pub fn written_ms(&self) -> u64 {
        self.next.last_time.ms()
    }

    /// Where the log stands on the disk.
    pub fn durable(&self) -> Tip {
        self.durable
    }

    /// Numbers `count` entries. With `goes_on` their times follow those of the entries before without a gap, so that they
    /// fit the same batch, unless that would date them back by more than [`DATED_BACK_MS_MAX`]. `new_run` names a run that goes on from another with a number, when they open one: at the first append of this start, and when our
    /// clock was set back so far that times would run ahead of it by more than `skew_ms_max`.
    pub fn number(
        &mut self,
        now: Now,
        count: u32,
        goes_on: bool,
        skew_ms_max: u64,
        new_run: impl FnOnce(RunId, Seq) -> RunId,
    ) -> Numbered {
        let wall = Timestamp::from_ms(now.unix_ms);
        let is_ahead = self.next.last_time.ms() > now.unix_ms.saturating_add(skew_ms_max);
        let opens_run = !self.is_open || is_ahead;
        if opens_run {
            self.parent = self.next.run;
            self.next.run = new_run(self.parent, self.next.until);
            (self.is_open, self.opened) = (true, self.next.run);
            assert!(self.next.run.is_some() && self.next.run != self.parent, "a run is drawn anew");
        }
        let after_last = self.next.last_time.plus(1);
        let is_recent = now.unix_ms <= after_last.ms() + DATED_BACK_MS_MAX;
        let first_time = match (is_ahead, goes_on && is_recent) {
            (true, _) => wall,
            (false, true) => after_last,
            (false, false) => wall.max(after_last),
        };
        let first_seq = self.next.until;
        self.next.until = first_seq.after(u64::from(count));
        self.numbered = self.next.until;
        self.next.last_time = first_time.plus(u64::from(count) - 1);
        Numbered { run: self.next.run, parent: self.parent, opens_run, first_seq, first_time }
    }

    /// Takes note of a batch of this log that was written before it was restored, and comes back now. As long as this start
    /// has opened no run here, the next one goes on from the batch that reaches furthest; answers whether this does.
    /// Once it has, the batch belongs to a branch beside it, whether that run is written still or was left; but where
    /// another process went on in the run that was left, that is gone on from. `end` is where what is held of the run ends
    /// with it, since the batch may come in before others.
    pub fn go_on_from(&mut self, s: &Statement, end: Seq) -> bool {
        let reaches_further = !self.has_opened() && end > self.next.until;
        let reaches_further = reaches_further || (!self.is_open && self.is_next(s));
        if reaches_further {
            let last_time = match end == s.until() {
                true => s.last_time(),
                false => s.last_time().max(self.next.last_time),
            };
            self.next = Tip { run: s.run, until: end, last_time };
        }
        reaches_further
    }

    /// Takes note that entries below `until` of `run` exist elsewhere. Where that is the run which is written here, and no
    /// such entry was numbered here, another process writes it too: a machine was resumed from a snapshot. So the run is
    /// left, and the next entry opens another, which goes on from here; answers whether this does so. What is only said,
    /// and not signed, counts once.
    pub fn hear(&mut self, run: RunId, until: Seq, is_signed: bool) -> bool {
        let is_elsewhere = self.is_open && run == self.next.run && until > self.next.until;
        let leaves = is_elsewhere && (is_signed || !self.was_warned);
        if leaves {
            self.is_open = false;
            self.was_warned |= !is_signed;
        }
        leaves
    }

    /// The run is written no more, if it is the one that was: it forked.
    pub fn leave(&mut self, run: RunId) {
        self.is_open &= self.next.run != run;
    }

    /// What was written of `run` from `from` on is of a branch of it now, which ends at `branch`: the next run goes on from
    /// there.
    pub fn rename(&mut self, run: RunId, from: Seq, branch: Tip) {
        for tip in [&mut self.next, &mut self.durable] {
            if tip.run == run && from < tip.until {
                *tip = Tip { last_time: tip.last_time.max(branch.last_time), ..branch };
            }
        }
    }

    /// Whether a batch would stand beside entries that this start numbered itself and that are not on the disk yet, or
    /// apart from them, where the next run would not go on from the end.
    pub fn collides(&self, s: &Statement) -> bool {
        let is_new = s.until() > self.durable.until || s.run != self.durable.run;
        self.has_opened() && self.next.run == s.run && is_new && !self.is_next(s)
    }

    /// Whether a batch comes next in the run that the log stands in, of which all that was numbered here is on the disk; what
    /// came from others may be on its way there.
    fn is_next(&self, s: &Statement) -> bool {
        let is_whole = self.durable.until == self.next.until || self.numbered <= self.durable.until;
        let is_durable = self.durable.run == self.next.run && is_whole;
        is_durable && (s.run, s.first_seq) == (self.next.run, self.next.until)
    }

    /// The run that is written here, if one is, and the one that it goes on from.
    #[cfg(feature = "planted")]
    pub fn open_run(&self) -> Option<(RunId, RunId)> {
        self.is_open.then_some((self.next.run, self.parent))
    }

    /// Whether this start opened a run here.
    pub fn has_opened(&self) -> bool {
        self.opened.is_some()
    }

    /// Everything up to `tip` is on the disk.
    pub fn set_durable(&mut self, tip: Tip) {
        self.durable = tip;
    }

    /// What was numbered and not written will not be: the next entry opens a run that goes on from the disk.
    pub fn roll_back(&mut self) {
        self.next = self.durable;
        self.numbered = self.numbered.min(self.durable.until);
        self.is_open = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Digest, PeerId, TopicId};

    fn log(found: Tip) -> OwnLog {
        OwnLog::new(LogId { topic: TopicId([0; 16]), peer: PeerId([0; 32]) }, TopicName::catalog(), found)
    }

    fn at(unix_ms: u64) -> Now {
        Now { mono_ms: 0, unix_ms }
    }

    #[test]
    fn the_first_entry_ever_is_number_one_and_opens_a_run_without_a_parent() {
        let mut log = log(Tip::default());
        let n = log.number(at(1000), 3, false, 60_000, |_, _| RunId(7));
        assert_eq!((n.run, n.parent, n.opens_run, n.first_seq), (RunId(7), RunId::NONE, true, Seq(1)));
        let n = log.number(at(1000), 1, false, 60_000, |_, _| unreachable!("the run is open"));
        assert_eq!((n.opens_run, n.first_seq), (false, Seq(4)));
        assert!(n.first_time > Timestamp::from_ms(1000).plus(2));
        let n = log.number(at(1050), 1, true, 60_000, |_, _| unreachable!("the run is open"));
        assert_eq!(n.first_time, Timestamp::from_ms(1000).plus(4), "a batch's times have no gap");
        let n = log.number(at(1200), 1, true, 60_000, |_, _| unreachable!("the run is open"));
        assert_eq!(n.first_time, Timestamp::from_ms(1200), "but are never dated back far");
    }

    #[test]
    fn a_restart_goes_on_in_a_new_run_with_the_next_number() {
        let found = Tip { run: RunId(7), until: Seq(40), last_time: Timestamp::from_ms(5000) };
        let n = log(found).number(at(4000), 1, false, 60_000, |_, _| RunId(8));
        assert_eq!((n.run, n.parent, n.opens_run, n.first_seq), (RunId(8), RunId(7), true, Seq(40)));
        assert!(n.first_time > found.last_time, "a little behind is no reason to go back");
    }

    #[test]
    fn a_clock_set_back_an_hour_opens_a_new_run_at_its_own_time() {
        let mut log = log(Tip::default());
        log.number(at(10_000_000), 1, false, 60_000, |_, _| RunId(1));
        let n = log.number(at(10_000_000 - 3_600_000), 1, false, 60_000, |_, _| RunId(2));
        assert_eq!((n.run, n.parent, n.opens_run, n.first_seq), (RunId(2), RunId(1), true, Seq(2)));
        assert_eq!(n.first_time, Timestamp::from_ms(10_000_000 - 3_600_000));
    }

    #[test]
    fn a_run_that_is_written_elsewhere_too_is_left_for_another() {
        let mut log = log(Tip::default());
        log.number(at(1000), 3, false, 60_000, |_, _| RunId(1));
        assert!(!log.hear(RunId(1), Seq(4), true), "all of it was numbered here");
        assert!(!log.hear(RunId(7), Seq(9), true), "another run");
        assert!(log.hear(RunId(1), Seq(5), false));
        assert!(!log.hear(RunId(1), Seq(9), true), "it was left already");
        let n = log.number(at(1000), 1, false, 60_000, |_, _| RunId(2));
        assert_eq!((n.run, n.parent, n.opens_run, n.first_seq), (RunId(2), RunId(1), true, Seq(4)));
        assert!(!log.hear(RunId(2), Seq(9), false), "what is only said counts once");
        assert!(log.hear(RunId(2), Seq(9), true));
    }

    /// What a batch of a first run says of itself.
    fn batch(run: u64, first_seq: u64, entry_count: u32) -> Statement {
        Statement {
            log: log(Tip::default()).id,
            run: RunId(run),
            parent: RunId::NONE,
            opens_run: false,
            first_seq: Seq(first_seq),
            first_time: Timestamp(1),
            entry_count,
            raw_bytes: 4,
            previous: Digest::ZERO,
            root: Digest::ZERO,
            signed: None,
        }
    }

    #[test]
    fn what_comes_back_behind_a_run_that_was_left_lies_beside_it() {
        let back = |until: u64| Statement { opens_run: until == 5, ..batch(9, until - 4, 4) };
        let mut log = log(Tip::default());
        log.number(at(1000), 3, false, 60_000, |_, _| RunId(1));
        assert!(!log.go_on_from(&back(40), Seq(40)), "a run is open");
        assert!(log.hear(RunId(1), Seq(1_000), false));
        // That run reaches further here than this batch of it.
        assert!(!log.go_on_from(&back(20), Seq(20)));
        let n = log.number(at(1000), 1, false, 60_000, |_, _| RunId(2));
        assert_eq!((n.run, n.parent, n.first_seq), (RunId(2), RunId(1), Seq(4)));
    }

    #[test]
    fn what_another_process_wrote_in_a_run_that_was_left_is_gone_on_from_in_order() {
        let of_run = |first_seq: u64| batch(1, first_seq, 2);
        let mut log = log(Tip::default());
        log.number(at(1000), 3, false, 60_000, |_, _| RunId(1));
        assert!(log.hear(RunId(1), Seq(8), true));
        assert!(log.collides(&of_run(4)), "what it goes on from is not on the disk");
        log.set_durable(log.tip());
        assert!(!log.collides(&of_run(1)), "that is to be compared with what is on the disk");
        assert!(log.collides(&of_run(6)) && !log.collides(&of_run(4)));
        assert!(log.go_on_from(&of_run(4), Seq(6)));
        // The next need not wait until that one is on the disk.
        assert!(!log.collides(&of_run(6)) && log.collides(&of_run(8)));
        assert!(log.go_on_from(&of_run(6), Seq(8)));
        let n = log.number(at(1000), 1, false, 60_000, |_, _| RunId(2));
        assert_eq!((n.run, n.parent, n.first_seq), (RunId(2), RunId(1), Seq(8)));
    }

    /// Seed 3326: the run that was left had forked, and another process went on in the branch that ours became.
    #[test]
    fn what_another_process_wrote_in_our_branch_is_gone_on_from_or_not_taken() {
        let mut log = log(Tip::default());
        log.number(at(1000), 3, false, 60_000, |_, _| RunId(1));
        log.set_durable(log.tip());
        log.leave(RunId(1));
        log.rename(RunId(1), Seq(2), Tip { run: RunId(9), until: Seq(4), last_time: Timestamp(1) });
        for first_seq in [4, 6] {
            assert!(log.collides(&batch(9, 10, 2)), "there would be a hole");
            let s = batch(9, first_seq, 2);
            assert!(!log.collides(&s) && log.go_on_from(&s, s.until()), "{first_seq}");
        }
        let n = log.number(at(1000), 1, false, 60_000, |_, _| RunId(2));
        assert_eq!((n.run, n.parent, n.first_seq), (RunId(2), RunId(9), Seq(8)));
    }

    /// Seed 1487: of a branch everything behind its first batch was here, and that came last.
    #[test]
    fn a_batch_that_comes_before_others_that_are_here_is_gone_on_from_where_those_end() {
        let mut log = log(Tip { run: RunId(1), until: Seq(214), last_time: Timestamp(9) });
        assert!(log.go_on_from(&batch(2, 213, 4), Seq(287)));
        assert_eq!(log.tip(), Tip { run: RunId(2), until: Seq(287), last_time: Timestamp(9) });
        let n = log.number(at(1000), 1, false, 60_000, |_, _| RunId(3));
        assert_eq!((n.run, n.parent, n.first_seq), (RunId(3), RunId(2), Seq(287)));
    }

    #[test]
    fn numbers_of_a_refused_step_are_given_again_only_in_another_run() {
        let mut log = log(Tip::default());
        log.number(at(1000), 1, false, 60_000, |_, _| RunId(1));
        log.set_durable(log.tip());
        log.number(at(1000), 5, false, 60_000, |_, _| unreachable!());
        log.roll_back();
        let n = log.number(at(1000), 1, false, 60_000, |_, _| RunId(2));
        assert_eq!((n.run, n.parent, n.first_seq), (RunId(2), RunId(1), Seq(2)));
    }
}
