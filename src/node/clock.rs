//! Whether our clock may decide what cannot be undone.
//!
//! ```text
//! behind what we last wrote ──> Behind, until it has caught up
//! jumped against the monotonic clock ──> Jumped, until it ran steadily for a while
//! ahead of what we last wrote, at start ──> Settling, until it ran steadily for a while
//! ```
//!
//! Only expiry and removal by age wait; appends and reads never do.
use crate::base::Now;
use crate::base::planted::{self, Bug};
use crate::wire::outcome::ClockState;

/// Watches the wall clock.
#[derive(Debug)]
pub struct ClockGuard {
    skew_ms_max: u64,
    settle_ms: u64,
    /// The latest Unix time that this peer wrote down.
    persisted_ms: u64,
    last: Option<Now>,
    /// Until when (monotonic) the clock is watched, and the jump that was seen, 0 at start.
    watch: Option<(u64, i64)>,
}

impl ClockGuard {
    /// A guard for a peer that last wrote down `persisted_ms` (0: never).
    pub fn new(skew_ms_max: u64, settle_ms: u64, persisted_ms: u64) -> Self {
        Self { skew_ms_max, settle_ms, persisted_ms, last: None, watch: None }
    }

    /// Takes in the time; called at least once a second.
    pub fn observe(&mut self, now: Now) {
        match self.last {
            None if self.persisted_ms > 0
                && now.unix_ms > self.persisted_ms.saturating_add(self.skew_ms_max) =>
            {
                self.watch = Some((now.mono_ms.saturating_add(self.settle_ms), 0));
            }
            None => {}
            Some(last) => {
                let ran = now.mono_ms.saturating_sub(last.mono_ms) as i64;
                let jump = (now.unix_ms as i64).saturating_sub(last.unix_ms as i64).saturating_sub(ran);
                if jump.unsigned_abs() > self.skew_ms_max {
                    self.watch = Some((now.mono_ms.saturating_add(self.settle_ms), jump));
                }
            }
        }
        self.last = Some(now);
        if self.watch.is_some_and(|(until, _)| now.mono_ms >= until) {
            self.watch = None;
        }
        if self.watch.is_none() && self.is_behind(now).is_none() {
            self.persisted_ms = self.persisted_ms.max(now.unix_ms);
        }
    }

    fn is_behind(&self, now: Now) -> Option<u64> {
        let by_ms = self.persisted_ms.saturating_sub(now.unix_ms);
        (by_ms > self.skew_ms_max).then_some(by_ms)
    }

    /// An administrator says that the clock is right as it is.
    pub fn accept(&mut self) {
        self.watch = None;
        if let Some(now) = self.last {
            self.persisted_ms = now.unix_ms;
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
            (None, Some((until, 0))) => ClockState::Settling { left_ms: until.saturating_sub(now.mono_ms) },
            (None, Some((_, by_ms))) => ClockState::Jumped { by_ms },
            (None, None) => ClockState::Trusted,
        }
    }

    /// What to write down, so that the next start knows how late it was.
    pub fn persisted_ms(&self) -> u64 {
        self.persisted_ms
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
        ClockGuard::new(60_000, HOUR, persisted_ms)
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
        guard.accept();
        assert_eq!(guard.state(), ClockState::Trusted);
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
}
