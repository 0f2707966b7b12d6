//! When the next piece of the scrub is read: at a pace, and no round sooner than its interval after the one before began.
//!
//! ```text
//! start ── quiet ──> round ─ piece ─ pause ─ piece ─ … ─ end ── until the interval is over ──> round
//! ```
//!
//! Plain data: the time is handed in. One piece is under way at a time, and a pause follows for as long as its bytes take
//! at the pace, so that others who need the disk wait for one piece at most.
use crate::log::scrub::Piece;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::{Duration, Instant};

/// How fast and how often what is stored is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubConfig {
    /// Bytes read in a second at most; 0: nothing is read.
    pub bytes_per_s: u64,
    /// Milliseconds between the beginnings of two rounds at least.
    pub interval_ms: u64,
    /// Milliseconds after a start before the first piece.
    pub quiet_ms: u64,
}

impl Default for ScrubConfig {
    fn default() -> Self {
        Self { bytes_per_s: 8 << 20, interval_ms: 7 * 86_400_000, quiet_ms: 10_000 }
    }
}

/// Bytes of one piece at most.
const PIECE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of one piece at least, where the pace is slow.
const PIECE_BYTES_MIN: u64 = 64 << 10;

/// Rounds of the scrub, for people.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    count: AtomicU64,
    last_end_s: AtomicU64,
}

impl Rounds {
    /// Counts one that ended now.
    pub(super) fn end(&self, unix_ms: u64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.last_end_s.store(unix_ms / 1000, Ordering::Relaxed);
    }

    /// How many were completed, and when the last one was, in Unix seconds; 0 when there was none.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.count.load(Ordering::Relaxed), self.last_end_s.load(Ordering::Relaxed))
    }
}

/// What a round came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Round {
    pub(super) bytes: u64,
    pub(super) damaged: u64,
    pub(super) errors: u64,
    pub(super) healed: u64,
}

/// The pace of the scrub.
#[derive(Debug)]
pub(super) struct Pace {
    config: ScrubConfig,
    /// When the next piece is due; none while one is under way, or where the scrub is off.
    due: Option<Instant>,
    piece_began: Instant,
    round_began: Option<Instant>,
    round: Round,
}

impl Pace {
    pub(super) fn new(config: ScrubConfig, now: Instant) -> Self {
        let due = (config.bytes_per_s > 0).then(|| now + Duration::from_millis(config.quiet_ms));
        Self { config, due, piece_began: now, round_began: None, round: Round::default() }
    }

    /// When to ask for a piece.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The bytes of the piece that begins now, if one is due.
    pub(super) fn begin(&mut self, now: Instant) -> Option<u64> {
        self.due.take_if(|due| *due <= now)?;
        self.piece_began = now;
        self.round_began.get_or_insert(now);
        Some((self.config.bytes_per_s / 4).clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX))
    }

    /// Takes note of a piece that is done; answers what its round came to if that was the last of it.
    pub(super) fn done(&mut self, piece: &Piece) -> Option<Round> {
        self.round.bytes += piece.bytes;
        self.round.damaged += piece.damaged;
        self.round.errors += piece.errors;
        self.round.healed += piece.healed.len() as u64;
        let micros = piece.bytes.saturating_mul(1_000_000) / self.config.bytes_per_s.max(1);
        let next = self.piece_began + Duration::from_micros(micros);
        if !piece.is_round_done {
            self.due = Some(next);
            return None;
        }
        let began = self.round_began.take().unwrap_or(next);
        self.due = Some(next.max(began + Duration::from_millis(self.config.interval_ms)));
        Some(std::mem::take(&mut self.round))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: ScrubConfig = ScrubConfig { bytes_per_s: 1 << 20, interval_ms: 60_000, quiet_ms: 500 };

    fn piece(bytes: u64, is_round_done: bool) -> Piece {
        Piece { bytes, is_round_done, ..Piece::default() }
    }

    #[test]
    fn a_piece_is_followed_by_as_long_a_pause_as_its_bytes_take_at_the_pace() {
        let start = Instant::now();
        let mut pace = Pace::new(CONFIG, start);
        assert_eq!(pace.begin(start), None, "the start is quiet");
        let begins = start + Duration::from_millis(500);
        assert_eq!(pace.begin(begins), Some(256 << 10));
        assert_eq!((pace.due(), pace.begin(begins + Duration::from_secs(9))), (None, None), "one at a time");
        assert_eq!(pace.done(&piece(2 << 20, false)), None);
        assert_eq!(pace.due(), Some(begins + Duration::from_secs(2)));
    }

    #[test]
    fn a_round_begins_no_sooner_than_its_interval_after_the_one_before_began() {
        let start = Instant::now();
        let mut pace = Pace::new(ScrubConfig { quiet_ms: 0, ..CONFIG }, start);
        assert!(pace.begin(start).is_some());
        pace.done(&piece(1 << 20, false));
        let second = start + Duration::from_secs(1);
        assert!(pace.begin(second).is_some());
        let round = pace.done(&Piece { damaged: 1, ..piece(3, true) });
        assert_eq!(round, Some(Round { bytes: (1 << 20) + 3, damaged: 1, errors: 0, healed: 0 }));
        assert_eq!(pace.due(), Some(start + Duration::from_secs(60)));
        // One that took longer than the interval is followed by the next at its pace.
        let late = start + Duration::from_secs(60);
        assert!(pace.begin(late).is_some());
        pace.done(&piece(100 << 20, true));
        assert_eq!(pace.due(), Some(late + Duration::from_secs(100)));
    }

    #[test]
    fn a_pace_of_none_reads_nothing() {
        let start = Instant::now();
        let mut pace = Pace::new(ScrubConfig { bytes_per_s: 0, ..CONFIG }, start);
        assert_eq!((pace.due(), pace.begin(start + Duration::from_secs(9))), (None, None));
    }
}
