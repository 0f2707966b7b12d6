//! What other peers say of the time.
//!
//! Each tells the others what its wall clock shows; between two tellings the monotonic clock carries that on. Our own clock is
//! held for right by others where it lies near more than half of all clocks, itself among them: of two that differ neither
//! can say which is wrong.
use crate::base::{Now, PeerId};
use std::collections::BTreeMap;

/// How often each is told what the clock shows, in milliseconds.
pub const TELL_MS: u64 = 10_000;

/// For how long that counts, in milliseconds: three tellings, and a while for those on their way.
pub const HEARD_MS: u64 = 35_000;

/// What others say of our clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody was heard.
    Unknown,
    /// It is near more than half of all.
    Agrees,
    /// It is not: the one in the middle of the others is this far from it, in milliseconds, negative where ours is behind.
    Apart {
        /// Ours less theirs.
        by_ms: i64,
    },
}

/// The clocks of other peers, as they were heard; one for each key, however many sessions it has.
#[derive(Debug, Default)]
pub struct Others {
    /// What it showed, and our monotonic clock then.
    heard: BTreeMap<PeerId, (u64, u64)>,
}

impl Others {
    /// Takes in what the clock of `peer` shows.
    pub fn hear(&mut self, peer: PeerId, unix_ms: u64, now: Now) {
        self.heard.insert(peer, (unix_ms, now.mono_ms));
    }

    /// Forgets who was not heard for long.
    pub fn forget(&mut self, now: Now) {
        self.heard.retain(|_, (_, at_ms)| at_ms.saturating_add(HEARD_MS) > now.mono_ms);
    }

    /// What they say, where clocks may differ by `skew_ms_max`.
    pub fn verdict(&self, now: Now, skew_ms_max: u64) -> Verdict {
        let ours = |(unix_ms, at_ms): &(u64, u64)| {
            let theirs = unix_ms.saturating_add(now.mono_ms.saturating_sub(*at_ms));
            (now.unix_ms as i64).saturating_sub(theirs as i64)
        };
        let mut apart: Vec<i64> = self.heard.values().map(ours).collect();
        let near = apart.iter().filter(|by_ms| by_ms.unsigned_abs() <= skew_ms_max).count();
        apart.sort_unstable();
        match apart.get(apart.len() / 2) {
            None => Verdict::Unknown,
            Some(_) if 2 * (near + 1) > apart.len() + 1 => Verdict::Agrees,
            Some(by_ms) => Verdict::Apart { by_ms: *by_ms },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000_000;
    const YEAR: i64 = 365 * 24 * 3_600_000;

    fn now(mono_ms: u64, ahead_ms: i64) -> Now {
        Now { mono_ms, unix_ms: START.saturating_add_signed(mono_ms as i64 + ahead_ms) }
    }

    /// Clocks that are so far ahead of true time, heard at 0.
    fn others(ahead_ms: &[i64]) -> Others {
        let mut others = Others::default();
        for (number, ahead_ms) in ahead_ms.iter().enumerate() {
            others.hear(PeerId([number as u8; 32]), START.saturating_add_signed(*ahead_ms), now(0, 0));
        }
        others
    }

    #[test]
    fn more_than_half_of_all_say_which_clock_is_right() {
        let by = |ahead_ms: i64, of: &[i64]| others(of).verdict(now(5_000, ahead_ms), 60_000);
        assert_eq!(by(0, &[]), Verdict::Unknown);
        assert_eq!(by(0, &[30_000]), Verdict::Agrees);
        assert_eq!(by(YEAR, &[0]), Verdict::Apart { by_ms: YEAR }, "of two neither knows");
        assert_eq!(by(0, &[YEAR]), Verdict::Apart { by_ms: -YEAR });
        assert_eq!(by(0, &[0, YEAR]), Verdict::Agrees);
        assert_eq!(by(YEAR, &[0, 10]), Verdict::Apart { by_ms: YEAR });
        assert_eq!(by(0, &[0, YEAR, YEAR]), Verdict::Apart { by_ms: -YEAR }, "two and two");
    }

    #[test]
    fn what_was_heard_is_carried_on_and_forgotten_in_time() {
        let mut others = others(&[0]);
        let at = now(HEARD_MS - 1, 0);
        others.forget(at);
        assert_eq!(others.verdict(at, 10), Verdict::Agrees);
        others.forget(now(HEARD_MS, 0));
        assert_eq!(others.verdict(now(HEARD_MS, 0), 10), Verdict::Unknown);
    }

    #[test]
    fn a_key_counts_once_and_absurd_times_break_nothing() {
        let mut others = others(&[0, 0]);
        (0..5).for_each(|_| others.hear(PeerId([9; 32]), u64::MAX, now(0, 0)));
        assert_eq!(others.verdict(now(0, 0), 60_000), Verdict::Agrees);
        others.hear(PeerId([8; 32]), 0, now(0, 0));
        others.hear(PeerId([7; 32]), u64::MAX / 2, now(0, 0));
        assert!(matches!(others.verdict(now(0, 0), 60_000), Verdict::Apart { .. }));
    }
}
