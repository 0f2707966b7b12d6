//! Peers that are removed for good: what their removal leaves counts, and what they write beyond it does not. Whoever
//! succeeds one of them trims its logs as its own.
use crate::base::planted::{self, Bug};
use crate::base::{
    Chunk, ChunkBuilder, Codec, Digest, Entry, EntryId, EntryKind, LogId, Now, PeerId, Remains,
    SignedRemoval, Statement, TopicName,
};
use crate::node::engine::Node;
use crate::node::io::Output;
use crate::replication::PeerInput;
use crate::topic::catalog::Catalog;
use crate::wire::outcome::{TopicChanged, TopicError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Removals that are known and count. Each peer says each of them in its own log, since any other that does may be removed
/// itself, and what it said with it.
#[derive(Debug, Default)]
pub(super) struct Said {
    known: BTreeMap<Digest, SignedRemoval>,
    durable: BTreeSet<Digest>,
}

impl Said {
    /// Entries of our own log are durable.
    pub(super) fn believe(&mut self, said: Vec<Digest>) {
        self.durable.extend(said);
    }
}

/// What a removal says, whoever signed that and with which certificate.
pub(super) fn content_of(signed: &SignedRemoval) -> Digest {
    Digest::of(&signed.removal.encode())
}

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

    /// Removals that are known and count.
    pub fn removals(&self) -> impl Iterator<Item = &SignedRemoval> {
        self.said.known.values()
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
        self.gathered.said.push(content_of(signed));
        self.gathered.removals.push(signed.clone());
        EntryId { topic: log.topic, peer: log.peer, run: appended.run, seq: appended.first_seq }
    }

    /// Writes what is known of removals and our own log does not say, unless this peer is removed itself: nobody would hear
    /// of it.
    pub(super) fn say_removals(&mut self, now: Now) {
        if self.is_removed() || self.is_full {
            return;
        }
        let waiting = self.in_flight.iter().map(|(_, believed)| believed).chain([&self.gathered]);
        let waiting: BTreeSet<Digest> = waiting.flat_map(|believed| believed.said.iter().copied()).collect();
        let is_said = |content: &Digest| self.said.durable.contains(content) || waiting.contains(content);
        let known = self.said.known.iter().filter(|(content, _)| !is_said(content));
        let unsaid: Vec<SignedRemoval> = known.map(|(_, signed)| signed.clone()).collect();
        for signed in &unsaid {
            self.write_removal(now, signed);
        }
    }

    /// A peer is removed: the signature was checked.
    pub(super) fn remove(&mut self, now: Now, signed: &SignedRemoval, outputs: &mut Vec<Output>) {
        let (peer, removal) = (signed.removal.peer, &signed.removal);
        self.said.known.insert(content_of(signed), signed.clone());
        let before = self.replication.removed().get(&peer).cloned();
        self.on_peer(now, PeerInput::Removed(Box::new(removal.clone())), outputs);
        let remains = self.replication.removed().get(&peer).cloned();
        if let Some(remains) = remains.filter(|now| before.as_ref() != Some(now)) {
            let runs = remains.ends.len();
            tracing::warn!(%peer, successor = ?remains.successor, runs, "a peer was removed for good");
            if remains.successor == Some(self.config.peer) {
                self.is_catalog_old = true;
            }
            if peer == self.config.peer {
                self.refuse_waiting(outputs);
            }
            outputs.push(Output::Leave(peer, remains));
        }
        self.say_removals(now);
    }

    /// Whether entries that are ours to trim, our own from before a restore or those of a peer that we succeed, came from
    /// others since this was asked last, and are durable: what was deleted may be among them.
    pub fn take_came_back(&mut self) -> bool {
        std::mem::take(&mut self.came_back)
    }

    /// Entries of `$catalog` do not count any more, or do again.
    pub fn doubt_catalog(&mut self) {
        self.is_catalog_old = true;
    }

    /// Whether the catalog is to be folded anew, from what counts of it.
    pub fn is_catalog_old(&self) -> bool {
        self.is_catalog_old
    }

    /// Forgets what was read of `$catalog`: it is taken in anew.
    pub fn forget_catalog(&mut self) {
        self.catalog = Catalog::new(self.config.peer);
        self.is_catalog_old = false;
        let removed = self.replication.removed();
        let ours = removed.iter().filter(|(_, remains)| remains.successor == Some(self.config.peer));
        ours.for_each(|(peer, _)| self.catalog.succeed(*peer));
    }

    /// Takes in a removal that was found on opening, and whose signature was checked; `by` is in whose log.
    pub fn recall_removal(&mut self, by: PeerId, signed: &SignedRemoval) {
        let content = content_of(signed);
        if by == self.config.peer {
            self.said.durable.insert(content);
        }
        self.said.known.insert(content, signed.clone());
        // Nobody is there yet to be told.
        let removal = Box::new(signed.removal.clone());
        self.replication.handle(0, PeerInput::Removed(removal), &mut Vec::new());
    }
}

fn chunk_of(signed: &SignedRemoval) -> Chunk {
    let mut builder = ChunkBuilder::new();
    let entry = Entry { kind: EntryKind::PeerRemove, ..Entry::from(signed.encode()) };
    builder.push(&entry).expect("the runs it names were counted");
    Chunk::parse(builder.finish(Codec::None)).expect("what was just built reads back")
}
