//! What waits to be sent to one other store.
//!
//! Two lanes, so that batches that were asked for never delay a note or a new entry. Within a lane the order stays.
use crate::net::peers::lock;
use crate::wire::peer::PeerMessage;
use std::collections::VecDeque;
use std::sync::Mutex;
use tokio::sync::Notify;

/// Bytes of messages that wait for one store in each lane, but for the last one; at this point its session is given up: it
/// takes nothing, and comparing anew costs less than what waits.
pub const WAITING_BYTES_MAX: usize = 8 << 20;

/// Memory of a message beside its bytes.
const MESSAGE_COST_BYTES: usize = 64;

/// Which lane a message takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneOf {
    /// Notes, comparisons, questions, and new entries.
    Control,
    /// Answers with batches.
    Bulk,
}

impl LaneOf {
    pub(super) fn of(message: &PeerMessage) -> Self {
        match message {
            // A certificate goes before the batches that need it, and what ends an answer behind its batches.
            PeerMessage::Certificate { .. } | PeerMessage::Batch(_) | PeerMessage::Sent { .. } => Self::Bulk,
            _ => Self::Control,
        }
    }
}

/// One lane.
#[derive(Debug, Default)]
pub(super) struct SendLane {
    waiting: Mutex<Waiting>,
    came: Notify,
    went: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Each with its cost.
    messages: VecDeque<(PeerMessage, usize)>,
    /// The cost of those and of what was taken out and is not with QUIC yet.
    bytes: usize,
}

impl SendLane {
    /// Puts a message of so many bytes behind those that wait. False where too much waits: it is thrown away. What goes with
    /// batches and is small is taken always: answers are few, and the batches before it may be large.
    pub(super) fn put(&self, message: PeerMessage, bytes: usize) -> bool {
        let mut waiting = lock(&self.waiting);
        let goes_along = matches!(message, PeerMessage::Certificate { .. } | PeerMessage::Sent { .. });
        if waiting.bytes >= WAITING_BYTES_MAX && !goes_along {
            return false;
        }
        let cost = MESSAGE_COST_BYTES + bytes;
        waiting.bytes += cost;
        waiting.messages.push_back((message, cost));
        drop(waiting);
        self.came.notify_one();
        true
    }

    /// Whether what waits leaves room for batches.
    pub(super) fn has_room(&self) -> bool {
        lock(&self.waiting).bytes < WAITING_BYTES_MAX / 2
    }

    /// Resolves when what waits leaves room for batches. One at a time may wait here.
    pub(super) async fn until_room(&self) {
        while !self.has_room() {
            self.went.notified().await;
        }
    }

    /// The next message and its cost, now.
    pub(super) fn try_take(&self) -> Option<(PeerMessage, usize)> {
        lock(&self.waiting).messages.pop_front()
    }

    /// The next message and its cost. One at a time may wait here.
    pub(super) async fn take(&self) -> (PeerMessage, usize) {
        loop {
            if let Some(message) = self.try_take() {
                return message;
            }
            self.came.notified().await;
        }
    }

    /// What was taken, at such a cost, is with QUIC.
    pub(super) fn is_sent(&self, cost_bytes: usize) {
        let mut waiting = lock(&self.waiting);
        waiting.bytes = waiting.bytes.saturating_sub(cost_bytes);
        drop(waiting);
        self.went.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{LogId, PeerId, RunId, Seq, TopicId};
    use crate::wire::peer::{RunRange, SentEnd};
    use bytes::Bytes;

    #[test]
    fn a_lane_that_nobody_empties_is_full_at_its_bound() {
        let lane = SendLane::default();
        let batch = || PeerMessage::Batch(Bytes::from(vec![0; 1 << 20]));
        let put = (0..20).take_while(|_| lane.put(batch(), 1 << 20)).count();
        assert_eq!(put, 8, "of 1 MiB each and a little more");
        assert!(!lane.has_room());
        let (_, cost) = lane.try_take().unwrap();
        assert!(!lane.put(batch(), 1 << 20), "it is not sent yet");
        (0..5).for_each(|_| lane.is_sent(cost));
        assert!(lane.has_room());
        assert!(lane.put(batch(), 1 << 20));
    }

    #[tokio::test]
    async fn who_waits_for_room_is_woken_and_what_ends_an_answer_finds_some_always() {
        let lane = SendLane::default();
        let large = PeerMessage::Batch(Bytes::from(vec![0; 20 << 20]));
        assert!(lane.put(large, 20 << 20));
        let range = RunRange {
            log: LogId { topic: TopicId([1; 16]), peer: PeerId([1; 32]) },
            run: RunId(1),
            from: Seq(1),
            until: Seq(2),
        };
        let sent = PeerMessage::Sent { range, until: Seq(2), end: SentEnd::Enough };
        assert!(lane.put(sent, 100), "the session would be given up for it");
        let (room, empties) = (lane.until_room(), async {
            while let Some((_, cost)) = lane.try_take() {
                tokio::task::yield_now().await;
                lane.is_sent(cost);
            }
        });
        tokio::join!(room, empties);
    }

    #[test]
    fn what_belongs_together_takes_one_lane() {
        let der: std::sync::Arc<[u8]> = vec![1].into();
        let certificate = PeerMessage::Certificate { peer: PeerId([1; 32]), der };
        assert_eq!(LaneOf::of(&certificate), LaneOf::of(&PeerMessage::Batch(Bytes::new())));
        let push = PeerMessage::Push { number: 1, batch: Bytes::new() };
        assert_eq!(LaneOf::of(&push), LaneOf::Control, "new entries do not wait behind old ones");
    }
}
