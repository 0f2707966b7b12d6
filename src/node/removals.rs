//! Peers that are removed for good: what their removal leaves counts, and what they write beyond it does not. Whoever
//! succeeds one of them trims its logs as its own.
use crate::base::planted::{self, Bug};
use crate::base::{
    Chunk, ChunkBuilder, Codec, Entry, EntryId, EntryKind, LogId, Now, PeerId, Remains, Removal,
    SignedRemoval, Statement, TopicName,
};
use crate::node::engine::Node;
use crate::node::io::Output;
use crate::replication::PeerInput;
use crate::wire::outcome::{TopicChanged, TopicError};
use std::sync::Arc;

impl Node {
    /// Whether a batch counts: it is of a peer that belongs to the cluster, or within what its removal leaves.
    pub(super) fn counts(&self, s: &Statement) -> bool {
        let forks = self.replication.held().forks_of(&s.log);
        let end = self.replication.removed().end_of(&s.log, s.run, forks);
        end.is_none_or(|end| s.until() <= end) || planted::is(Bug::RemovedStillCounts)
    }

    /// Whether we may trim the logs of `peer`: our own, or those that we succeeded to.
    pub(super) fn may_trim(&self, peer: PeerId) -> bool {
        self.replication.removed().may_trim(self.config.peer, peer)
    }

    /// Whether this peer itself was removed.
    pub(super) fn is_removed(&self) -> bool {
        self.replication.removed().get(&self.config.peer).is_some()
    }

    /// The logs of removed peers that we succeeded to.
    pub(super) fn succeeded_logs(&self) -> Vec<(LogId, TopicName)> {
        let removed = self.replication.removed();
        let ours = removed.iter().filter(|(_, remains)| remains.successor == Some(self.config.peer));
        let of_peer = |(peer, remains): (&PeerId, &Arc<Remains>)| {
            let mut topics: Vec<_> = remains.ends.keys().map(|(topic, _)| *topic).collect();
            topics.dedup();
            let log = |topic| LogId { topic, peer: *peer };
            topics.into_iter().map(log).collect::<Vec<_>>()
        };
        let named = |log: LogId| Some((log, self.replication.topic_of(&log)?.clone()));
        ours.flat_map(of_peer).filter_map(named).collect()
    }

    /// Takes a removal from an administrator: not at a peer that is removed itself, since nobody would hear of it.
    pub(super) fn take_removal(
        &mut self,
        now: Now,
        signed: &SignedRemoval,
    ) -> Result<TopicChanged, TopicError> {
        if self.is_removed() || signed.removal.peer == self.config.peer {
            return Err(TopicError::Removed);
        }
        let by = self.write_removal(now, signed);
        Ok(TopicChanged { by: Some(by), deleted: None })
    }

    /// Writes a removal into the catalog.
    fn write_removal(&mut self, now: Now, signed: &SignedRemoval) -> EntryId {
        let catalog = TopicName::catalog();
        let log = self.log_id(&catalog);
        let appended = self.number(now, catalog, log, chunk_of(signed), false, true);
        self.gathered.removals.push(signed.clone());
        EntryId { topic: log.topic, peer: log.peer, run: appended.run, seq: appended.first_seq }
    }

    /// A peer is removed: the signature was checked.
    pub(super) fn remove(&mut self, now: Now, removal: &Removal, outputs: &mut Vec<Output>) {
        let peer = removal.peer;
        let before = self.replication.removed().get(&peer).cloned();
        self.on_peer(now, PeerInput::Removed(Box::new(removal.clone())), outputs);
        let Some(remains) = self.replication.removed().get(&peer).filter(|now| before.as_ref() != Some(*now))
        else {
            return;
        };
        tracing::warn!(%peer, successor = ?remains.successor, runs = remains.ends.len(), "a peer was removed for good");
        let remains = remains.clone();
        if remains.successor == Some(self.config.peer) {
            self.catalog.succeed(peer);
            self.has_succeeded = true;
        }
        if peer == self.config.peer {
            self.refuse_waiting(outputs);
        }
        outputs.push(Output::Leave(peer, remains));
    }

    /// Whether we became the successor of a peer since this was asked last: deletions that it had not heard of are ours to
    /// carry out.
    pub fn take_succeeded(&mut self) -> bool {
        std::mem::take(&mut self.has_succeeded)
    }

    /// Takes in a removal that was found on opening, and whose signature was checked.
    pub fn recall_removal(&mut self, removal: &Removal) {
        // Nobody is there yet to be told.
        self.replication.handle(0, PeerInput::Removed(Box::new(removal.clone())), &mut Vec::new());
        if self.replication.removed().successor_of(&removal.peer) == Some(self.config.peer) {
            self.catalog.succeed(removal.peer);
        }
    }
}

fn chunk_of(signed: &SignedRemoval) -> Chunk {
    let mut builder = ChunkBuilder::new();
    let entry = Entry { kind: EntryKind::PeerRemove, ..Entry::from(signed.encode()) };
    builder.push(&entry).expect("the runs it names were counted");
    Chunk::parse(builder.finish(Codec::None)).expect("what was just built reads back")
}
