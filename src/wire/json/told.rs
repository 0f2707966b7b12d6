//! What stands between entries: that something is gone, or cannot be read here now.
use crate::base::{PeerId, RunId, Seq};
use crate::wire::outcome::{Blocked, BlockedReason, Gap, GapReason};
use serde::Serialize;

/// A range of a log that is not delivered, from `first_seq` up to but not with `next_seq`.
#[derive(Debug, Serialize)]
pub struct Told {
    pub(crate) peer: String,
    pub(crate) run: String,
    pub(crate) first_seq: u64,
    pub(crate) next_seq: u64,
    pub(crate) reason: &'static str,
}

impl Told {
    fn new(peer: PeerId, run: RunId, (from, until): (Seq, Seq), reason: &'static str) -> Self {
        Self { peer: peer.to_string(), run: run.to_string(), first_seq: from.0, next_seq: until.0, reason }
    }
}

/// What can never be delivered.
pub fn gap(gap: &Gap) -> Told {
    let reason = match gap.reason {
        GapReason::Trimmed => "trimmed",
        GapReason::Lost => "lost",
        GapReason::Damaged => "damaged",
    };
    Told::new(gap.peer, gap.run, (gap.from, gap.until), reason)
}

/// What cannot be delivered here now.
pub fn blocked(blocked: &Blocked) -> Told {
    let reason = match blocked.reason {
        BlockedReason::Damaged => "damaged",
        BlockedReason::Io => "unreadable",
        BlockedReason::Ahead => "not here yet",
        BlockedReason::Missing => "missing here",
    };
    Told::new(blocked.peer, blocked.run, (blocked.from, blocked.until), reason)
}
