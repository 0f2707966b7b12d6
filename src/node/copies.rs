//! Appends that wait until other peers hold them: from the step that makes them durable here to their answer.
//!
//! ```text
//! append ──> numbered ──> its step is durable ──> awaited at the other peers ──> Copied: appended, held by these
//!                └──> its step was refused: the disk is full                └──> Late: in the log here, held by too few
//! ```
use crate::base::{LogId, Now, PeerId, StoreId};
use crate::node::engine::Node;
use crate::node::io::{Answer, Output, Release, Ticket};
use crate::replication::{Age, Await, PeerInput};
use crate::wire::outcome::{AppendError, Appended, Holder};
use crate::wire::peer::RunRange;

/// An append that waits for other peers.
#[derive(Debug)]
pub(super) struct Awaits {
    pub(super) ticket: Ticket,
    /// The log it is in.
    pub(super) log: LogId,
    /// How many peers are to hold it, this one among them.
    pub(super) asked: u8,
    pub(super) appended: Appended,
}

impl Node {
    /// Appends that are durable here and wait for other peers.
    pub fn awaiting_count(&self) -> usize {
        self.awaiting.len()
    }

    /// What waits for other peers is durable here: they have been told of it, and may answer from now on.
    pub(super) fn await_copies(&mut self, now: Now, awaits: Vec<Awaits>, outputs: &mut Vec<Output>) {
        for awaits in awaits {
            if self.is_removed() {
                self.refuse_removed(awaits.ticket, outputs);
                continue;
            }
            let Awaits { ticket, log, asked, appended } = &awaits;
            let (run, from) = (appended.run, appended.first_seq);
            let range = RunRange { log: *log, run, from, until: from.after(u64::from(appended.count)) };
            let others = asked.saturating_sub(1);
            let age = if appended.is_repeat { Age::Repeat } else { Age::New };
            let wanted = Await { ticket: *ticket, range, others, age, timeout_ms: None };
            self.awaiting.insert(awaits.ticket, awaits);
            self.on_peer(now, PeerInput::Await(vec![wanted]), outputs);
        }
    }

    /// What waits for a step that was refused will not be durable.
    pub(super) fn refuse_awaits(&self, awaits: Vec<Awaits>, outputs: &mut Vec<Output>) {
        for Awaits { ticket, .. } in awaits {
            let (free_bytes, reserve_bytes) = (self.free_bytes, self.config.disk_reserve_bytes);
            let answer = Answer::Appended(Err(AppendError::DiskFull { free_bytes, reserve_bytes }));
            outputs.push(Output::Answer { ticket, release: Release::Now, answer });
        }
    }

    /// This peer was removed: nothing that waits for others counts, and they will not say anything to it.
    pub(super) fn refuse_waiting(&mut self, outputs: &mut Vec<Output>) {
        let waiting = std::mem::take(&mut self.awaiting);
        waiting.into_keys().for_each(|ticket| self.refuse_removed(ticket, outputs));
    }

    fn refuse_removed(&self, ticket: Ticket, outputs: &mut Vec<Output>) {
        let answer = Answer::Appended(Err(AppendError::Removed));
        outputs.push(Output::Answer { ticket, release: Release::Now, answer });
    }

    pub(super) fn on_copied(
        &mut self,
        ticket: Ticket,
        holders: Vec<(PeerId, StoreId)>,
        waited_ms: u64,
        outputs: &mut Vec<Output>,
    ) {
        if self.on_probed(ticket, true, outputs) {
            return;
        }
        if let Some(Awaits { appended, .. }) = self.awaiting.remove(&ticket) {
            let answer = Answer::Appended(Ok(Appended { holders: named(holders), ..appended }));
            outputs.push(Output::Answer { ticket, release: Release::Copied { waited_ms }, answer });
        }
    }

    pub(super) fn on_late(
        &mut self,
        ticket: Ticket,
        holders: Vec<(PeerId, StoreId)>,
        available: usize,
        outputs: &mut Vec<Output>,
    ) {
        if self.on_probed(ticket, false, outputs) {
            return;
        }
        if let Some(Awaits { asked, appended, .. }) = self.awaiting.remove(&ticket) {
            let available = u8::try_from(available).unwrap_or(u8::MAX);
            let appended = Box::new(Appended { holders: named(holders), ..appended });
            let error = AppendError::Replicas { asked, available, appended };
            outputs.push(Output::Answer {
                ticket,
                release: Release::Now,
                answer: Answer::Appended(Err(error)),
            });
        }
    }
}

/// Those who hold an append. What people call them the engine does not know.
fn named(holders: Vec<(PeerId, StoreId)>) -> Vec<Holder> {
    holders.into_iter().map(|(peer, store)| Holder { peer, store, name: None }).collect()
}
