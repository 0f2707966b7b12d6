//! The reference model: what every id was given to, what was acknowledged, and who held it.
//!
//! ```text
//! attempted (a payload of its own) ──> acknowledged or seen: id, time, payload ──> held by these sites
//! ```
//!
//! An entry that was acknowledged is owed as long as a site that held it has not lost its directory: whoever wipes a
//! disk, or puts an older one in its place, says so here before. What nobody holds any more is forgiven, not forgotten:
//! if it turns up again, it must still be what it was.
//!
//! A site whose disk rots or lies holds nothing for sure until it was read through. Such damage is done only where
//! nothing is owed by that site alone, so that every loss is a bug.
use crate::cluster::written::{Content, Written};
use conveyor::base::{Durability, EntryId, PeerId, Removal, Removed, RunId, Seq, Timestamp, TopicId};
use std::collections::{BTreeMap, BTreeSet};

/// What an id was given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fact {
    /// From which the payload follows.
    pub nonce: u64,
    /// The entry's time.
    pub time: Timestamp,
}

/// An entry that was acknowledged, or that a reader saw.
#[derive(Debug, Clone)]
pub struct Owed {
    /// What was promised of it.
    pub level: Durability,
    /// Sites that hold it, as durably as was promised.
    pub holders: BTreeSet<usize>,
}

/// What is known of a run's entries.
#[derive(Debug, Default)]
pub struct Model {
    nonces: u64,
    facts: BTreeMap<EntryId, Fact>,
    owed: BTreeMap<EntryId, Owed>,
    /// Topics of which something may have been trimmed.
    trimmed: BTreeSet<TopicId>,
    /// Topics of which anything may be trimmed, for how many reasons: a retention, deletions without an answer.
    open_trims: BTreeMap<TopicId, usize>,
    /// How many of the newest entries of each log a topic keeps for sure.
    newest: BTreeMap<TopicId, u64>,
    /// What deletions named: peer, run, and the number up to which that and what it goes on from goes.
    deleted: BTreeMap<TopicId, Vec<(PeerId, RunId, Seq)>>,
    /// Peers that may have forgotten what they took: their directory was lost, replaced by an older one, or copied.
    doubted: BTreeSet<PeerId>,
    /// Sites of which nobody can say what they hold.
    unsure: BTreeSet<usize>,
    /// Sites whose disks were damaged at any time.
    damaged: BTreeSet<usize>,
    /// Those among them whose peers lie.
    liars: BTreeSet<usize>,
    /// Peers that sign two contents for one id.
    two_faced: BTreeSet<PeerId>,
    /// Those among them that do so on purpose.
    cheats: BTreeSet<PeerId>,
    /// What those wrote.
    written: Written,
    /// Peers that were removed for good, and what that leaves.
    removed: Removed,
    /// By what was appended and acknowledged: in whose logs it is or may be, as whoever appended it was told.
    told: BTreeMap<u64, BTreeSet<PeerId>>,
}

/// The payload of a nonce: the nonce, then bytes that follow from it, which compress.
pub fn payload(nonce: u64) -> Vec<u8> {
    let bytes = match nonce % 64 {
        0 => 5_000 + nonce % 20_000,
        1..8 => 500 + nonce % 1_500,
        _ => 8 + nonce % 120,
    };
    let mut payload = vec![(nonce % 251) as u8; bytes as usize];
    payload[..8].copy_from_slice(&nonce.to_le_bytes());
    payload
}

/// From which nonce a payload follows, as it says itself.
pub fn nonce_of(payload: &[u8]) -> Option<u64> {
    payload.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

impl Model {
    /// A payload that no entry has.
    pub fn attempt(&mut self) -> u64 {
        self.nonces += 1;
        self.nonces
    }

    /// `id` was acknowledged to whoever appended `nonce`, at `site`.
    pub fn acknowledge(&mut self, id: EntryId, fact: Fact, level: Durability, site: usize) {
        if self.two_faced.contains(&id.peer) {
            if !self.unsure.contains(&site) {
                self.written.add((id.log(), id.seq, fact), level, site);
            }
            return;
        }
        self.pin(id, fact);
        if self.unsure.contains(&site) {
            return;
        }
        let owed = self.owed.entry(id).or_insert_with(|| Owed { level, holders: BTreeSet::new() });
        owed.level = owed.level.max(level);
        owed.holders.insert(site);
    }

    /// Whoever appended `nonce` was told in whose logs it is or may be.
    pub fn tell(&mut self, nonce: u64, peers: impl IntoIterator<Item = PeerId>) {
        self.told.entry(nonce).or_default().extend(peers);
    }

    /// Whether what was appended may be in the log of a peer: that was told, or nothing was acknowledged.
    pub fn may_be_at(&self, nonce: u64, peer: &PeerId) -> bool {
        self.told.get(&nonce).is_none_or(|told| told.contains(peer))
    }

    /// `id` was read at `site`, from which it must not vanish again; answers from what its payload follows.
    pub fn see(&mut self, id: EntryId, time: Timestamp, read: &[u8], level: Durability, site: usize) -> u64 {
        let nonce = self.written_as(&id, read);
        self.acknowledge(id, Fact { nonce, time }, level, site);
        nonce
    }

    /// `id` was read somewhere: it is what it was, and nothing is owed for that; answers from what its payload follows.
    pub fn meet(&mut self, id: EntryId, time: Timestamp, read: &[u8]) -> u64 {
        let nonce = self.written_as(&id, read);
        self.pin(id, Fact { nonce, time });
        nonce
    }

    fn written_as(&self, id: &EntryId, read: &[u8]) -> u64 {
        let nonce = nonce_of(read);
        // What a liar's peer signs in the place of an entry is as long, and empty.
        let is_other = self.cheats.contains(&id.peer) && read.iter().all(|byte| *byte == 0);
        let nonce = nonce.filter(|nonce| is_other || (*nonce <= self.nonces && payload(*nonce) == read));
        nonce.unwrap_or_else(|| panic!("P7: {id:?} was read and never written"))
    }

    fn pin(&mut self, id: EntryId, fact: Fact) {
        let known = *self.facts.entry(id).or_insert(fact);
        assert_eq!(known, fact, "P2: {id:?} has two contents");
    }

    /// The time of an entry, if anything is promised of it.
    pub fn time_of(&self, id: &EntryId) -> Option<Timestamp> {
        self.facts.get(id).map(|fact| fact.time)
    }

    /// Entries of a topic may go: it has a retention, or somebody begins to delete it.
    pub fn trim(&mut self, topic: TopicId) {
        self.trimmed.insert(topic);
        *self.open_trims.entry(topic).or_default() += 1;
    }

    /// Somebody names an end below which entries go: peer, run, and the number up to which that and what it goes on from goes.
    pub fn delete(&mut self, topic: TopicId, end: (PeerId, RunId, Seq)) {
        self.trimmed.insert(topic);
        self.deleted.entry(topic).or_default().push(end);
    }

    /// A topic keeps so many of the newest entries of each log, and no more.
    pub fn keep_newest(&mut self, topic: TopicId, count: u64) {
        self.trimmed.insert(topic);
        self.newest.insert(topic, count);
    }

    /// How many of the newest entries of each log a topic keeps, if it keeps no others.
    pub fn keeps_newest(&self, topic: TopicId) -> Option<u64> {
        self.newest.get(&topic).copied()
    }

    /// Whether the log of an entry is known to have come to a number.
    pub fn reaches(&self, id: &EntryId, seq: Seq) -> bool {
        let of_log = EntryId { run: RunId(0), seq: Seq(0), ..*id }..;
        let mut of_log = self.facts.range(of_log).take_while(|(other, _)| other.log() == id.log());
        of_log.any(|(other, _)| other.seq >= seq)
    }

    /// What is known of each id.
    pub fn facts(&self) -> impl Iterator<Item = (&EntryId, &Fact)> {
        self.facts.iter()
    }

    /// What is known of a run from an entry on up to a number.
    pub fn facts_between(&self, from: &EntryId, until: Seq) -> Vec<EntryId> {
        let known = self.facts.range(*from..).map(|(id, _)| *id);
        known.take_while(|id| id.log() == from.log() && id.run == from.run && id.seq < until).collect()
    }

    /// A deletion that was begun is done: what it named goes.
    pub fn deleted(&mut self, topic: TopicId, ends: Vec<(PeerId, RunId, Seq)>) {
        self.deleted.entry(topic).or_default().extend(ends);
        self.open_trims.entry(topic).and_modify(|count| *count -= 1);
    }

    /// Whether anything of a topic may be trimmed.
    pub fn may_trim_all(&self, topic: TopicId) -> bool {
        self.open_trims.get(&topic).is_some_and(|count| *count > 0)
    }

    /// What deletions of a topic named.
    pub fn deletions(&self, topic: TopicId) -> &[(PeerId, RunId, Seq)] {
        self.deleted.get(&topic).map_or(&[], Vec::as_slice)
    }

    /// Whether entries of a topic may be trimmed.
    pub fn is_trimmed(&self, topic: TopicId) -> bool {
        self.trimmed.contains(&topic)
    }

    /// A peer may have forgotten what it took.
    pub fn doubt(&mut self, peer: PeerId) {
        self.doubted.insert(peer);
    }

    /// Whether any peer may have.
    pub fn has_doubts(&self) -> bool {
        !self.doubted.is_empty()
    }

    /// Of entries that one store holds: two under which the same peer took the same thing, though it never forgot any.
    pub fn find_twice(&self, held: &BTreeSet<EntryId>) -> Option<(EntryId, EntryId)> {
        let mut seen = BTreeMap::new();
        let is_sure = |id: &&EntryId| !self.doubted.contains(&id.peer);
        held.iter().filter(is_sure).find_map(|id| {
            let nonce = self.facts.get(id)?.nonce;
            Some((seen.insert((id.peer, nonce), *id)?, *id))
        })
    }

    /// Takes note of what `site` holds.
    pub fn count_in(
        &mut self,
        site: usize,
        holds: impl Fn(&EntryId) -> bool,
        holds_content: impl Fn(&Content) -> bool,
    ) {
        if self.unsure.contains(&site) {
            return;
        }
        self.written.count_in(site, holds_content);
        for (id, owed) in &mut self.owed {
            // Whoever loses something says so: what was counted once need not be looked up again.
            if !owed.holders.contains(&site) && holds(id) {
                owed.holders.insert(site);
            }
        }
    }

    /// `site` is about to lose what `keeps` does not keep; answers how many entries are forgiven.
    pub fn lose(
        &mut self,
        site: usize,
        keeps: impl Fn(&EntryId, Durability) -> bool,
        keeps_content: impl Fn(&Content, Durability) -> bool,
    ) -> usize {
        let before = self.owed.len();
        self.written.lose(site, keeps_content);
        self.owed.retain(|id, owed| {
            let is_lost = owed.holders.contains(&site) && !keeps(id, owed.level);
            !is_lost || (owed.holders.remove(&site) && !owed.holders.is_empty())
        });
        before - self.owed.len()
    }

    /// From now on nobody can say what `site` holds. Answers whether that may be: nothing is owed by it alone.
    pub fn mistrust(&mut self, site: usize) -> bool {
        let only = BTreeSet::from([site]);
        if self.owed.values().any(|owed| owed.holders == only) || !self.written.is_held_beside(site) {
            return false;
        }
        self.written.mistrust(site);
        self.owed.values_mut().for_each(|owed| _ = owed.holders.remove(&site));
        self.unsure.insert(site);
        self.damaged.insert(site);
        true
    }

    /// Whether a site's disk was damaged at any time.
    pub fn was_damaged(&self, site: usize) -> bool {
        self.damaged.contains(&site)
    }

    /// Whether nobody can say what `site` holds.
    pub fn is_unsure(&self, site: usize) -> bool {
        self.unsure.contains(&site)
    }

    /// What `site` says it holds it holds, since it was read through.
    pub fn trust(&mut self, site: usize) {
        if !self.liars.contains(&site) {
            self.unsure.remove(&site);
        }
    }

    /// Nothing that `site` says counts, for good; with `is_two_faced` its peer signs two contents for one id. Before anything
    /// is owed.
    pub fn distrust(&mut self, site: usize, peer: PeerId, is_two_faced: bool) {
        self.unsure.insert(site);
        self.liars.insert(site);
        self.doubted.insert(peer);
        self.two_faced.extend(is_two_faced.then_some(peer));
        self.cheats.extend(is_two_faced.then_some(peer));
    }

    /// A peer may sign two contents for one id from now on, since its machine is resumed from a snapshot: what it wrote is
    /// owed under whatever name it has then.
    pub fn fork(&mut self, peer: PeerId) {
        self.doubted.insert(peer);
        self.two_faced.insert(peer);
        let (of_peer, owed) = std::mem::take(&mut self.owed).into_iter().partition(|(id, _)| id.peer == peer);
        self.owed = owed;
        for (id, Owed { level, holders }) in BTreeMap::<EntryId, Owed>::into_iter(of_peer) {
            let content = (id.log(), id.seq, self.facts[&id]);
            holders.into_iter().for_each(|site| self.written.add(content, level, site));
        }
    }

    /// What two-faced peers wrote.
    pub fn written(&self) -> &Written {
        &self.written
    }

    /// Whether the peer of a site lies.
    pub fn is_liar(&self, site: usize) -> bool {
        self.liars.contains(&site)
    }

    /// A peer is removed for good.
    pub fn remove(&mut self, removal: &Removal) {
        self.removed.add(removal);
    }

    /// Whether an entry does not count, since its peer was removed. What peers wrote whose runs forked is not judged here.
    pub fn is_set_aside(&self, id: &EntryId) -> bool {
        self.removed.end_of(&id.log(), id.run, &[]).is_some_and(|end| id.seq >= end)
    }

    /// Whether a peer signs two contents for one id on purpose.
    pub fn is_cheat(&self, peer: &PeerId) -> bool {
        self.cheats.contains(peer)
    }

    /// Whether a peer signs two contents for one id.
    pub fn is_two_faced(&self, peer: &PeerId) -> bool {
        self.two_faced.contains(peer)
    }

    /// What is owed by any of these sites.
    pub fn held_by(&self, sites: &BTreeSet<usize>) -> BTreeSet<EntryId> {
        let is_held = |owed: &&Owed| !owed.holders.is_disjoint(sites);
        self.owed.iter().filter(|(_, owed)| is_held(owed)).map(|(id, _)| *id).collect()
    }

    /// What is owed.
    pub fn owed(&self) -> impl Iterator<Item = (&EntryId, &Owed)> {
        self.owed.iter()
    }

    /// Whether an entry is owed: by `site`, or by anybody.
    pub fn is_owed(&self, id: &EntryId, site: Option<usize>) -> bool {
        let owed = self.owed.get(id);
        owed.is_some_and(|owed| site.is_none_or(|site| owed.holders.contains(&site)))
    }

    /// How many entries are owed.
    pub fn owed_count(&self) -> usize {
        self.owed.len()
    }
}
