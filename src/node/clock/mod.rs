//! Whether our clock may decide what cannot be undone.
//!
//! ```text
//! behind what we last wrote ──> Behind, until it has caught up
//! jumped against the monotonic clock ──> Jumped, until it ran steadily for a while
//! ahead of when it was last believed, at start ──> Settling, until it ran steadily for a while
//! far from more than half of all clocks ──> Apart, and watched for a while behind that
//! near more than half of all clocks ──> believed at once, but where it is Behind
//! ```
//!
//! What we wrote since it was last believed may be dated ahead, so only for being behind that counts.
//!
//! Only expiry and removal by age wait; appends and reads never do.
//!
//! An administrator may end the wait. What was dated ahead then says nothing of the time any more, after a restart either.
mod others;

use crate::base::planted::{self, Bug};
use crate::base::{Now, PeerId};
use crate::node::clock::others::{HEARD_MS, Others, Verdict};
use crate::wire::outcome::ClockState;

pub use others::TELL_MS;

/// Watches the wall clock.
#[derive(Debug)]
pub struct ClockGuard {
    skew_ms_max: u64,
    settle_ms: u64,
    /// The latest Unix time that this peer wrote down, or dated an entry with.
    written_ms: u64,
    /// The latest Unix time that was believed; 0: none ever was.
    persisted_ms: u64,
    /// Whether this is the first start of all, as far as is known.
    is_first: bool,
    /// From when on (monotonic) what is believed is written down, which at a first start is not at once.
    grounded_ms: Option<u64>,
    /// The latest of what it wrote before and others gave back to it since; 0: nothing.
    came_back_ms: u64,
    /// The time when this start began.
    began_ms: u64,
    /// Up to when what is dated says nothing of the time, since an administrator said that it was dated ahead; 0: never.
    accepted_ms: u64,
    last: Option<Now>,
    /// Until when (monotonic) the clock is watched, and the jump that was seen, 0 at start.
    watch: Option<(u64, i64)>,
    /// What others say of the time, and what that means for our clock.
    others: Others,
    verdict: Verdict,
    /// An administrator said that our clock is right, and most others have not said the same since.
    overrules: bool,
}

impl ClockGuard {
    /// A guard for a peer that last wrote down `persisted_ms` (0: never), whose logs end with entries of the times
    /// `written_ms`. `accepted_ms` is what [`Self::accepted_ms`] said.
    pub fn new(
        skew_ms_max: u64,
        settle_ms: u64,
        persisted_ms: u64,
        accepted_ms: u64,
        written_ms: impl Iterator<Item = u64>,
    ) -> Self {
        let written_ms = written_ms.filter(|ms| *ms > accepted_ms);
        let written_ms = written_ms.fold(persisted_ms, u64::max);
        let is_first = written_ms == 0;
        let (came_back_ms, began_ms, last, watch) = (0, 0, None, None);
        Self {
            skew_ms_max,
            settle_ms,
            written_ms,
            persisted_ms,
            is_first,
            grounded_ms: (!is_first).then_some(0),
            came_back_ms,
            began_ms,
            accepted_ms,
            last,
            watch,
            others: Others::default(),
            verdict: Verdict::Unknown,
            overrules: false,
        }
    }

    /// Another peer says what its clock shows.
    pub fn hear(&mut self, peer: PeerId, unix_ms: u64, now: Now) {
        self.others.hear(peer, unix_ms, now);
        self.observe(now);
    }

    /// What this peer wrote at `written_ms`, before this start, is given back to it by others. If that seemed to be its first,
    /// its clock is to be watched as at any other.
    pub fn come_back(&mut self, written_ms: u64) {
        // Of much that comes back the latest says the most, and it may come first.
        let is_before = self.is_first && written_ms < self.began_ms && written_ms > self.came_back_ms;
        let Some(now) = self.last.filter(|_| is_before) else { return };
        self.came_back_ms = written_ms;
        if now.unix_ms > written_ms.saturating_add(self.skew_ms_max) {
            self.is_first = false;
            // What was believed since the start had no ground.
            self.persisted_ms = written_ms;
            self.watch = Some((now.mono_ms.saturating_add(self.settle_ms), 0));
        }
    }

    /// Takes in the time; called at least once a second.
    pub fn observe(&mut self, now: Now) {
        if self.last.is_none() {
            self.began_ms = now.unix_ms;
        }
        let grounded_ms = *self.grounded_ms.get_or_insert(now.mono_ms.saturating_add(HEARD_MS));
        match self.last {
            None if !self.is_first && now.unix_ms > self.persisted_ms.saturating_add(self.skew_ms_max) => {
                self.watch = Some((now.mono_ms.saturating_add(self.settle_ms), 0));
            }
            None => {}
            Some(last) => {
                let ran = now.mono_ms.saturating_sub(last.mono_ms) as i64;
                let jump = (now.unix_ms as i64).saturating_sub(last.unix_ms as i64).saturating_sub(ran);
                if jump.unsigned_abs() > self.skew_ms_max {
                    self.overrules = false;
                    self.watch = Some((now.mono_ms.saturating_add(self.settle_ms), jump));
                }
            }
        }
        self.last = Some(now);
        self.others.forget(now);
        self.verdict = match planted::is(Bug::ClocksOfOthersUnheard) {
            true => Verdict::Unknown,
            false => self.others.verdict(now, self.skew_ms_max),
        };
        match self.verdict {
            Verdict::Agrees => {
                (self.watch, self.overrules, self.grounded_ms) = (None, false, Some(0));
            }
            Verdict::Apart { .. } if self.overrules => {}
            // Who hears nobody any more does not believe at once what most said is wrong.
            Verdict::Apart { by_ms } => {
                self.watch = Some((now.mono_ms.saturating_add(self.settle_ms), by_ms));
                // What was believed before they were heard had no ground: a next start is not to be believed for it.
                let theirs_ms = now.unix_ms.saturating_add_signed(by_ms.saturating_neg());
                self.persisted_ms = self.persisted_ms.min(theirs_ms);
            }
            Verdict::Unknown => {}
        }
        if self.watch.is_some_and(|(until, _)| now.mono_ms >= until) {
            self.watch = None;
        }
        if self.watch.is_none() && self.is_behind(now).is_none() {
            self.written_ms = self.written_ms.max(now.unix_ms);
            // What a first start believes says nothing for the next before others had time to say otherwise.
            if now.mono_ms >= grounded_ms || self.verdict == Verdict::Agrees {
                self.persisted_ms = self.persisted_ms.max(now.unix_ms);
            }
        }
    }

    fn is_behind(&self, now: Now) -> Option<u64> {
        let by_ms = self.written_ms.saturating_sub(now.unix_ms);
        (by_ms > self.skew_ms_max).then_some(by_ms)
    }

    /// An administrator says that the clock is right as it is, whatever is written down, and `written_ms` of entries, and
    /// whatever others show, until it jumps or they have shown the same.
    pub fn accept(&mut self, written_ms: impl Iterator<Item = u64>) {
        (self.watch, self.overrules, self.grounded_ms) = (None, true, Some(0));
        // Nor does what comes back later put it in doubt.
        self.is_first = false;
        if let Some(now) = self.last {
            self.accepted_ms = written_ms.fold(self.accepted_ms.max(self.written_ms), u64::max);
            (self.written_ms, self.persisted_ms) = (now.unix_ms, now.unix_ms);
        }
    }

    /// Whether the clock may decide, or why not.
    pub fn state(&self) -> ClockState {
        if planted::is(Bug::ClockAlwaysTrusted) {
            return ClockState::Trusted;
        }
        let Some(now) = self.last else { return ClockState::Settling { left_ms: self.settle_ms } };
        match (self.is_behind(now), self.watch) {
            (Some(by_ms), _) => ClockState::Behind { by_ms },
            (None, Some(_)) if let Verdict::Apart { by_ms } = self.verdict => ClockState::Apart { by_ms },
            (None, Some((until, 0))) => ClockState::Settling { left_ms: until.saturating_sub(now.mono_ms) },
            (None, Some((_, by_ms))) => ClockState::Jumped { by_ms },
            (None, None) => ClockState::Trusted,
        }
    }

    /// What to write down, so that the next start knows how late it was.
    pub fn persisted_ms(&self) -> u64 {
        self.persisted_ms
    }

    /// Up to when entries were dated ahead when an administrator last said that the clock is right. To be written down too.
    pub fn accepted_ms(&self) -> u64 {
        self.accepted_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const START: u64 = 1_800_000_000_000;

    fn at(mono_ms: u64, unix_ms: u64) -> Now {
        Now { mono_ms, unix_ms }
    }

    fn guard(persisted_ms: u64) -> ClockGuard {
        ClockGuard::new(60_000, HOUR, persisted_ms, 0, std::iter::empty())
    }

    #[test]
    fn a_first_start_and_a_quick_restart_trust_the_clock() {
        for persisted in [0, START - 1000] {
            let mut guard = guard(persisted);
            guard.observe(at(0, START));
            assert_eq!(guard.state(), ClockState::Trusted);
        }
    }

    #[test]
    fn a_clock_set_back_an_hour_waits_until_it_has_caught_up() {
        let mut guard = guard(START);
        guard.observe(at(0, START - HOUR));
        assert_eq!(guard.state(), ClockState::Behind { by_ms: HOUR });
        guard.observe(at(HOUR - 60_000, START - 60_000));
        guard.observe(at(HOUR, START));
        assert_eq!(guard.state(), ClockState::Trusted);
    }

    #[test]
    fn a_year_ahead_at_start_is_not_believed_before_it_settled_or_was_accepted() {
        let mut guard = guard(START);
        let ahead = START + 365 * 24 * HOUR;
        guard.observe(at(0, ahead));
        assert_eq!(guard.state(), ClockState::Settling { left_ms: HOUR });
        assert_eq!(guard.persisted_ms(), START, "what is not believed is not written down");
        guard.observe(at(1000, START + 1000));
        assert_eq!(guard.state(), ClockState::Jumped { by_ms: START as i64 + 1000 - ahead as i64 - 1000 });
        guard.accept(std::iter::empty());
        assert_eq!(guard.state(), ClockState::Trusted);
    }

    #[test]
    fn what_was_written_while_the_clock_was_not_believed_is_no_reason_to_believe_it_after_a_restart() {
        let ahead = START + 365 * 24 * HOUR;
        for believed in [START, 0] {
            let mut guard = ClockGuard::new(60_000, HOUR, believed, 0, [ahead].into_iter());
            guard.observe(at(0, ahead + 1000));
            assert_eq!(guard.state(), ClockState::Settling { left_ms: HOUR });
            assert_eq!(guard.persisted_ms(), believed, "nor is it the next time");
        }
    }

    #[test]
    fn a_wiped_peer_whose_entries_come_back_is_at_its_first_start_no_more() {
        let mut guard = guard(0);
        guard.observe(at(0, START));
        guard.come_back(START - 1000);
        assert_eq!(guard.state(), ClockState::Trusted);
        for hours in 0..3 {
            guard.observe(at(hours * HOUR, START + hours * HOUR));
            guard.come_back(START);
            assert_eq!(guard.state(), ClockState::Trusted, "what it wrote since it was started says nothing");
        }
        let mut guard = self::guard(0);
        guard.observe(at(0, START + 365 * 24 * HOUR));
        guard.come_back(START + 365 * 24 * HOUR);
        assert_eq!(guard.state(), ClockState::Trusted, "that it may have written a moment ago");
        guard.come_back(START);
        assert_eq!(guard.state(), ClockState::Settling { left_ms: HOUR });
        let ahead = START + 365 * 24 * HOUR;
        let mut again = ClockGuard::new(60_000, HOUR, guard.persisted_ms(), 0, [ahead].into_iter());
        again.observe(at(0, ahead + 1000));
        assert_eq!(again.state(), ClockState::Settling { left_ms: HOUR }, "nor after another restart");
    }

    #[test]
    fn of_what_comes_back_the_latest_counts_and_nothing_once_an_administrator_said_that_the_clock_is_right() {
        let year = 365 * 24 * HOUR;
        let mut guard = self::guard(0);
        guard.observe(at(0, START + year));
        guard.come_back(START + year - 1000);
        guard.come_back(START);
        assert_eq!(guard.state(), ClockState::Trusted, "it wrote a second ago, and a year ago too");
        let mut guard = self::guard(0);
        guard.observe(at(0, START + year));
        guard.accept(std::iter::empty());
        guard.come_back(START);
        assert_eq!(guard.state(), ClockState::Trusted);
    }

    #[test]
    fn what_was_dated_ahead_when_the_clock_was_accepted_is_no_reason_for_doubt_after_restarts() {
        let ahead = START + 365 * 24 * HOUR;
        let mut guard = guard(0);
        guard.observe(at(0, ahead));
        guard.observe(at(1000, START));
        assert!(matches!(guard.state(), ClockState::Behind { .. }));
        guard.accept([ahead + 1, START - HOUR].into_iter());
        assert_eq!(guard.state(), ClockState::Trusted);
        let mut now = START;
        for _ in 0..3 {
            now += 1000;
            let written = [ahead + 1, ahead, now - 1000].into_iter();
            guard = ClockGuard::new(60_000, HOUR, guard.persisted_ms(), guard.accepted_ms(), written);
            guard.observe(at(0, now));
            assert_eq!((guard.state(), guard.persisted_ms()), (ClockState::Trusted, now));
        }
        // What is dated ahead of that is.
        let written = [ahead, ahead + HOUR].into_iter();
        guard = ClockGuard::new(60_000, HOUR, guard.persisted_ms(), guard.accepted_ms(), written);
        guard.observe(at(0, now));
        assert_eq!(guard.state(), ClockState::Behind { by_ms: ahead + HOUR - now });
    }

    #[test]
    fn a_jump_while_running_is_seen_and_forgiven_after_a_steady_while() {
        let mut guard = guard(0);
        guard.observe(at(0, START));
        guard.observe(at(1000, START + 1000 + 2 * HOUR));
        assert_eq!(guard.state(), ClockState::Jumped { by_ms: 2 * HOUR as i64 });
        for step in 1..=3600 {
            guard.observe(at(1000 + step * 1000, START + 1000 + 2 * HOUR + step * 1000));
        }
        assert_eq!(guard.state(), ClockState::Trusted);
    }

    fn other(number: u8) -> PeerId {
        PeerId([number; 32])
    }

    #[test]
    fn others_end_the_wait_at_a_start_or_say_that_a_clock_is_wrong() {
        let mut guard = guard(START - HOUR);
        guard.observe(at(0, START));
        assert_eq!(guard.state(), ClockState::Settling { left_ms: HOUR });
        guard.hear(other(1), START + 500, at(1_000, START + 1_000));
        assert_eq!(guard.state(), ClockState::Trusted);
        assert_eq!(guard.persisted_ms(), START + 1_000);

        guard.hear(other(2), START + HOUR, at(2_000, START + 2_000));
        assert_eq!(guard.state(), ClockState::Trusted, "two of three");
        guard.hear(other(3), START + HOUR, at(2_000, START + 2_000));
        assert_eq!(guard.state(), ClockState::Apart { by_ms: 2_000 - HOUR as i64 }, "two of four");
        let persisted_ms = guard.persisted_ms();
        guard.observe(at(100_000, START + 100_000));
        assert!(matches!(guard.state(), ClockState::Jumped { .. }), "it hears nobody any more, and waits");
        assert_eq!(guard.persisted_ms(), persisted_ms);
    }

    /// Seed 1976: the process had begun with an empty directory, and was believed before it heard the others.
    #[test]
    fn what_was_believed_before_others_were_heard_is_no_reason_to_believe_it_after_a_restart() {
        let (year, mut guard) = (365 * 24 * HOUR, guard(0));
        guard.observe(at(0, START + year));
        assert_eq!((guard.state(), guard.persisted_ms()), (ClockState::Trusted, 0), "seed 1019: not yet");
        for ms in [HEARD_MS, 2 * HEARD_MS] {
            let ahead = START + year + ms;
            guard.observe(at(ms, ahead));
            assert_eq!((guard.state(), guard.persisted_ms()), (ClockState::Trusted, ahead));
        }
        guard.hear(other(1), START + 2 * HEARD_MS, at(2 * HEARD_MS, START + year + 2 * HEARD_MS));
        assert!(matches!(guard.state(), ClockState::Apart { .. }));
        let written = [START + year + 2_000].into_iter();
        let mut again = ClockGuard::new(60_000, HOUR, guard.persisted_ms(), 0, written);
        again.observe(at(0, START + year + 3 * HEARD_MS));
        assert_eq!(again.state(), ClockState::Settling { left_ms: HOUR });
    }

    #[test]
    fn an_administrator_overrules_others_until_they_agree_or_the_clock_jumps() {
        let mut guard = guard(START);
        guard.hear(other(1), START + HOUR, at(0, START));
        assert!(matches!(guard.state(), ClockState::Apart { .. }));
        guard.accept(std::iter::empty());
        guard.observe(at(1_000, START + 1_000));
        assert_eq!(guard.state(), ClockState::Trusted);
        guard.observe(at(2_000, START + 10 * HOUR));
        assert!(matches!(guard.state(), ClockState::Apart { .. }), "it jumped");
        guard.hear(other(1), START + 10 * HOUR, at(3_000, START + 10 * HOUR + 1_000));
        assert_eq!(guard.state(), ClockState::Trusted);
    }
}
