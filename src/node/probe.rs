//! Which of our own entries no other peer holds: asked before a peer stops, and when people look.
//!
//! ```text
//! probe ──> each range that we hold of our own logs is awaited at one other peer ──> Copied: it is not alone
//!                                                                               └──> Late: nobody said so in time
//! ```
use crate::base::{Now, TopicId};
use crate::node::engine::Node;
use crate::node::io::{Answer, Output, Release, Ticket};
use crate::replication::{Age, Await, PeerInput};
use crate::wire::peer::RunRange;
use std::collections::BTreeMap;

/// Tickets of what is awaited here begin with this bit, so that they are nobody else's.
const OWN_TICKETS: Ticket = 1 << 63;

/// Probes under way.
#[derive(Debug, Default)]
pub(super) struct Probes {
    last: Ticket,
    /// What each ticket stands for, and who asked.
    awaited: BTreeMap<Ticket, (Ticket, RunRange)>,
    /// By who asked: how much is awaited still, and what was found to be alone.
    asked: BTreeMap<Ticket, (usize, Vec<RunRange>)>,
}

impl Node {
    /// Begins to find out which of our own entries nobody else holds; it is answered within `wait_ms`.
    pub(super) fn probe(&mut self, now: Now, asker: Ticket, wait_ms: u64, outputs: &mut Vec<Output>) {
        let topics: Vec<TopicId> = self.own.keys().map(|log| log.topic).collect();
        if self.is_removed() {
            // Nobody speaks to it any more: what others hold of its entries it does not hear.
            let (release, answer) = (Release::Now, Answer::Alone(None));
            outputs.push(Output::Answer { ticket: asker, release, answer });
            return;
        }
        let ranges = self.replication.ranges_of(self.config.peer, topics.into_iter());
        self.probes.asked.insert(asker, (ranges.len(), Vec::new()));
        let mut wanted = Vec::new();
        for ((log, run), (from, until)) in ranges {
            self.probes.last += 1;
            let (ticket, range) = (OWN_TICKETS | self.probes.last, RunRange { log, run, from, until });
            self.probes.awaited.insert(ticket, (asker, range));
            wanted.push(Await { ticket, range, others: 1, age: Age::Looked, timeout_ms: Some(wait_ms) });
        }
        self.on_peer(now, PeerInput::Await(wanted), outputs);
        self.end_probe(asker, outputs);
    }

    /// What was awaited is held by another peer, or was not in time. Whether it was a probe that awaited it.
    pub(super) fn on_probed(&mut self, ticket: Ticket, is_copied: bool, outputs: &mut Vec<Output>) -> bool {
        let Some((asker, range)) = self.probes.awaited.remove(&ticket) else { return false };
        if let Some((left, alone)) = self.probes.asked.get_mut(&asker) {
            *left -= 1;
            alone.extend((!is_copied).then_some(range));
        }
        self.end_probe(asker, outputs);
        true
    }

    fn end_probe(&mut self, asker: Ticket, outputs: &mut Vec<Output>) {
        if self.probes.asked.get(&asker).is_some_and(|(left, _)| *left == 0)
            && let Some((_, alone)) = self.probes.asked.remove(&asker)
        {
            outputs.push(Output::Answer {
                ticket: asker,
                release: Release::Now,
                answer: Answer::Alone(Some(alone)),
            });
        }
    }
}
