//! New batches that are sent without being asked for, to stores that follow: half the messages, and one way instead of
//! three.
//!
//! ```text
//! A <── Follow: until 16 ── B
//! A ── Push 1 ────────────> B      instead of Have; B says Have once it is durable there
//! A ── Push 2 … ──────────> B
//! A <── Follow: until 24 ── B
//! ```
//!
//! What is pushed is a favour: where it is lost, too large, or not welcome, `Have` and comparisons bring it. So nobody
//! counts on it, and a store that never says `Follow` lacks nothing. To whom it goes on from there: `relay.rs`.
use crate::base::{Seq, StoreId};
use crate::replication::engine::Replication;
use crate::replication::io::PeerOutput;
use crate::wire::peer::{PeerMessage, RunRange};

/// Pushes that may be on their way to a store at once; each has at most [`PUSH_BYTES_MAX`].
const PUSHES_MAX: u64 = 16;

/// Bytes of batches that are pushed at once; what is larger is told of, and asked for.
pub const PUSH_BYTES_MAX: usize = 256 << 10;

/// How a store follows another: what it may be sent, as its session's other end says, and what it was sent.
#[derive(Debug, Default)]
pub(super) struct Follows {
    /// What the other end allows.
    until: u64,
    /// What was sent to it.
    sent: u64,
    /// What it says came.
    seen: u64,
    /// What had been sent when we compared last.
    sent_before: u64,
    /// What was allowed to it.
    allowed: u64,
    /// What came from it.
    came: u64,
}

impl Follows {
    /// The number of the next push, where one is welcome.
    fn push(&mut self) -> Option<u64> {
        let number = Some(self.sent + 1).filter(|number| *number <= self.until)?;
        self.sent = number;
        Some(number)
    }

    /// The other end says what it allows.
    pub(super) fn heard(&mut self, until: u64, came: u64) {
        (self.until, self.seen) = (self.until.max(until), self.seen.max(came.min(self.sent)));
    }

    /// A push came; says whether the other end should be told that more may.
    fn came(&mut self, number: u64) -> bool {
        self.came = self.came.max(number.min(self.allowed));
        self.came + PUSHES_MAX / 2 >= self.allowed
    }

    /// What the other end may send.
    pub(super) fn allow(&mut self) -> PeerMessage {
        self.allowed = self.came + PUSHES_MAX;
        PeerMessage::Follow { until: self.allowed, came: self.came }
    }

    /// Time for a comparison: what was sent before the last one and is not known to have come is taken for lost. Answers
    /// what to tell the other end, if anything came since it was told.
    pub(super) fn compare(&mut self) -> Option<PeerMessage> {
        if self.seen < self.sent_before {
            self.sent = self.seen;
        }
        self.sent_before = self.sent;
        (self.allowed < self.came + PUSHES_MAX).then(|| self.allow())
    }
}

impl Replication {
    /// Whether a batch that nobody asked for is taken: all of it is lacking, and its topic is known.
    pub fn takes_push(&self, from: StoreId, range: &RunRange) -> bool {
        let whole = Some((range.from, range.until));
        self.sessions.contains_key(&from)
            && self.topic_of(&range.log).is_some()
            && self.missing((range.log, range.run), range.from, range.until) == whole
            && range.from >= Seq::FIRST
            && self.counted(*range) == *range
    }

    /// Another store says what it allows.
    pub(super) fn followed(&mut self, from: StoreId, until: u64, came: u64) {
        if let Some(session) = self.sessions.get_mut(&from) {
            session.follows.heard(until, came);
        }
    }

    /// A push came, whatever becomes of it.
    pub(super) fn pushed(&mut self, from: StoreId, number: u64, out: &mut Vec<PeerOutput>) {
        if let Some(session) = self.sessions.get_mut(&from)
            && session.follows.came(number)
        {
            out.push(PeerOutput::Send(from, session.follows.allow()));
        }
    }

    /// Entries are durable here: those stores are told, and some of them, which are in order, are sent them where they follow.
    pub(super) fn tell_held(
        &mut self,
        to: &[StoreId],
        pushed: &[StoreId],
        (range, link): (RunRange, u64),
        out: &mut Vec<PeerOutput>,
    ) {
        let mut pushes = Vec::new();
        for store in to {
            let session = self.sessions.get_mut(store);
            match session
                .filter(|_| pushed.binary_search(store).is_ok())
                .and_then(|session| session.follows.push())
            {
                Some(number) => pushes.push((*store, number)),
                None => out.push(PeerOutput::Send(*store, PeerMessage::Have(range, link))),
            }
        }
        if !pushes.is_empty() {
            out.push(PeerOutput::Push { to: pushes, range });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two ends of a session; pushes between them may be lost.
    fn pass(from: &mut Follows, to: &mut Follows, is_lost: bool) -> Option<u64> {
        let number = from.push()?;
        if !is_lost && to.came(number) {
            let PeerMessage::Follow { until, came } = to.allow() else { return None };
            from.heard(until, came);
        }
        Some(number)
    }

    fn ends() -> (Follows, Follows) {
        let (mut from, mut to) = (Follows::default(), Follows::default());
        assert_eq!(from.push(), None, "nobody follows yet");
        let PeerMessage::Follow { until, came } = to.allow() else { return (from, to) };
        from.heard(until, came);
        (from, to)
    }

    #[test]
    fn as_many_are_sent_as_come_and_no_more_than_are_allowed_while_none_does() {
        let (mut from, mut to) = ends();
        assert!((0..1_000).all(|_| pass(&mut from, &mut to, false).is_some()));
        let (mut from, mut to) = ends();
        let sent = (0..1_000).map_while(|_| pass(&mut from, &mut to, true)).count();
        assert_eq!(sent as u64, PUSHES_MAX);
    }

    #[test]
    fn what_was_lost_does_not_end_it() {
        let (mut from, mut to) = ends();
        while pass(&mut from, &mut to, true).is_some() {}
        from.compare();
        assert_eq!(pass(&mut from, &mut to, false), None, "they may be on their way");
        from.compare();
        assert!((0..1_000).all(|_| pass(&mut from, &mut to, false).is_some()));
    }
}
