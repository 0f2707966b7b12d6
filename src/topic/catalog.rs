//! The catalog of topics: the fold of `$catalog`, where every write names the writes it replaces.
//!
//! A replaced write never wins, whatever its time says; time and peer only decide between writes that did not know of
//! each other. So one wrong clock cannot beat what an administrator set after seeing it.
use crate::base::planted::{self, Bug};
use crate::base::{EntryId, EntryKind, PeerId, RunId, Seq, Timestamp, TopicName, TopicSettings};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The payload of an entry in `$catalog`, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogWrite {
    /// The topic it is about.
    pub topic: TopicName,
    /// Its settings from now on; absent in a deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<TopicSettings>,
    /// In a deletion: for each log its peer, run, and the number below which entries go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub until: Vec<LogEnd>,
    /// The writes about this topic that the writer knew of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<WriteId>,
}

/// Where a log ended when a deletion was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEnd {
    /// The log's peer.
    #[serde(with = "hex_text")]
    pub peer: PeerId,
    /// The run.
    #[serde(with = "hex_text")]
    pub run: RunId,
    /// The number behind the last entry.
    pub until: Seq,
}

/// The name of a write: an entry of `$catalog`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WriteId {
    /// Who wrote it.
    #[serde(with = "hex_text")]
    pub peer: PeerId,
    /// In which run.
    #[serde(with = "hex_text")]
    pub run: RunId,
    /// Its number.
    pub seq: Seq,
}

impl From<EntryId> for WriteId {
    fn from(id: EntryId) -> Self {
        Self { peer: id.peer, run: id.run, seq: id.seq }
    }
}

/// Ids as hexadecimal text, which is how people see them everywhere else.
pub mod hex_text {
    use crate::base::{PeerId, RunId};
    use serde::{Deserialize, Deserializer, Serializer};

    /// What has such a form.
    pub trait HexText: Sized + std::fmt::Display {
        /// Reads it.
        fn of(text: &str) -> Option<Self>;
    }
    impl HexText for PeerId {
        fn of(text: &str) -> Option<Self> {
            Self::parse(text)
        }
    }
    impl HexText for RunId {
        fn of(text: &str) -> Option<Self> {
            Self::parse(text)
        }
    }

    /// For serde.
    pub fn serialize<T: HexText, S: Serializer>(id: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    /// For serde.
    pub fn deserialize<'de, T: HexText, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        T::of(&text).ok_or_else(|| serde::de::Error::custom("this is no id in hexadecimal"))
    }
}

impl CatalogWrite {
    /// What kind of entry holds it.
    pub fn kind(&self) -> EntryKind {
        if self.settings.is_some() { EntryKind::TopicSet } else { EntryKind::TopicDelete }
    }

    /// Reads a payload; one that makes no sense is left out.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }

    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("names, numbers and lists always have a JSON form")
    }
}

#[derive(Debug, Clone)]
struct Live {
    id: WriteId,
    time: Timestamp,
    write: CatalogWrite,
}

/// What the catalog says now.
#[derive(Debug)]
pub struct Catalog {
    /// For each topic the writes that no other replaces.
    live: BTreeMap<TopicName, Vec<Live>>,
    /// Writes that were replaced. They may come at any time, or once more: what damage took is fetched again.
    replaced: BTreeSet<WriteId>,
    /// Whose logs are to be trimmed where a deletion names them: the peer's whose catalog this is, and those of peers that
    /// it succeeds.
    trims: BTreeSet<PeerId>,
    /// The furthest end of each run of those that a deletion named: what is deleted stays so, whatever replaces the
    /// deletion. Others see to their own.
    deleted: BTreeMap<(TopicName, PeerId, RunId), Seq>,
}

impl Catalog {
    /// The catalog as `peer` has it, without any entry.
    pub fn new(peer: PeerId) -> Self {
        let (live, replaced, deleted) = Default::default();
        Self { live, replaced, trims: BTreeSet::from([peer]), deleted }
    }

    /// The logs of another peer are to be trimmed too, from the next entries on that are taken in; those that were may be
    /// taken in again.
    pub fn succeed(&mut self, peer: PeerId) {
        self.trims.insert(peer);
    }

    /// Takes in an entry of `$catalog`; one that makes no sense is left out and answers `None`.
    pub fn apply(&mut self, id: EntryId, time: Timestamp, payload: &[u8]) -> Option<CatalogWrite> {
        let write = CatalogWrite::decode(payload)?;
        self.apply_write(id, time, write.clone());
        Some(write)
    }

    /// Takes in a write that is an entry of `$catalog`.
    pub fn apply_write(&mut self, id: EntryId, time: Timestamp, write: CatalogWrite) {
        let id = WriteId::from(id);
        for end in write.until.iter().filter(|end| self.trims.contains(&end.peer)) {
            let known = self.deleted.entry((write.topic.clone(), end.peer, end.run)).or_insert(end.until);
            *known = end.until.max(*known);
        }
        let live = self.live.entry(write.topic.clone()).or_default();
        let counts_still = planted::is(Bug::ReplacedStillCounts);
        for old in write.replaces.iter().filter(|_| !counts_still) {
            live.retain(|l| l.id != *old);
            self.replaced.insert(*old);
        }
        if !self.replaced.contains(&id) && live.iter().all(|l| l.id != id) {
            live.push(Live { id, time, write });
        }
    }

    fn winner(&self, topic: &TopicName) -> Option<&Live> {
        self.live.get(topic)?.iter().max_by_key(|l| (l.time, l.id))
    }

    /// The settings of a topic; `None` when nobody set any, or it was deleted since.
    pub fn settings(&self, topic: &TopicName) -> Option<TopicSettings> {
        self.winner(topic)?.write.settings
    }

    /// Where a deletion ended a run of the log of `peer`, when that deletion is the last word on the topic; the first number
    /// when it knew of no such run.
    pub fn deleted_until(&self, topic: &TopicName, peer: PeerId, run: RunId) -> Option<Seq> {
        let write = &self.winner(topic)?.write;
        let end = write.until.iter().find(|end| (end.peer, end.run) == (peer, run));
        write.settings.is_none().then_some(end.map_or(Seq::FIRST, |end| end.until))
    }

    /// Topics that someone made or set, with their settings.
    pub fn configured(&self) -> impl Iterator<Item = (&TopicName, TopicSettings)> {
        self.live.keys().filter_map(|topic| Some((topic, self.settings(topic)?)))
    }

    /// What a new write about `topic` replaces: everything that is known.
    pub fn known(&self, topic: &TopicName) -> Vec<WriteId> {
        self.live.get(topic).into_iter().flatten().map(|l| l.id).collect()
    }

    /// Where runs end that a deletion asks this peer to trim, also when the topic was made again since.
    pub fn deletions(&self) -> impl Iterator<Item = (&TopicName, LogEnd)> {
        let end = |peer: &PeerId, run: &RunId, until: &Seq| LogEnd { peer: *peer, run: *run, until: *until };
        self.deleted.iter().map(move |((topic, peer, run), until)| (topic, end(peer, run, until)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Durability, TopicId};

    fn id(peer: u8, seq: u64) -> EntryId {
        EntryId { topic: TopicId([0; 16]), peer: PeerId([peer; 32]), run: RunId(1), seq: Seq(seq) }
    }

    fn set(durability: Durability, replaces: &[EntryId]) -> Vec<u8> {
        let settings = TopicSettings { durability, ..TopicSettings::default() };
        let replaces = replaces.iter().map(|id| WriteId::from(*id)).collect();
        let topic = TopicName::new("jobs").unwrap();
        CatalogWrite { topic, settings: Some(settings), until: vec![], replaces }.encode()
    }

    fn durability(catalog: &Catalog) -> Option<Durability> {
        catalog.settings(&TopicName::new("jobs").unwrap()).map(|s| s.durability)
    }

    #[test]
    fn a_replaced_write_never_wins_even_from_a_clock_a_year_ahead() {
        let ahead = Timestamp::from_ms(2_000_000_000_000);
        let now = Timestamp::from_ms(1_800_000_000_000);
        let writes = [
            (id(1, 1), ahead, set(Durability::Buffered, &[])),
            (id(2, 1), now, set(Durability::Fsync, &[id(1, 1)])),
        ];
        for order in [[0, 1], [1, 0]] {
            let mut catalog = Catalog::new(PeerId([3; 32]));
            for index in order {
                let (id, time, payload) = &writes[index];
                catalog.apply(*id, *time, payload).unwrap();
            }
            assert_eq!(durability(&catalog), Some(Durability::Fsync), "order {order:?}");
            // Damage took it, and it was fetched again.
            catalog.apply(writes[0].0, writes[0].1, &writes[0].2).unwrap();
            assert_eq!(durability(&catalog), Some(Durability::Fsync), "order {order:?}");
        }
    }

    #[test]
    fn what_was_deleted_stays_so_when_the_topic_is_made_again() {
        let topic = TopicName::new("jobs").unwrap();
        let of = |peer, until| LogEnd { peer: PeerId([peer; 32]), run: RunId(1), until: Seq(until) };
        let delete = |until| CatalogWrite {
            topic: topic.clone(),
            settings: None,
            until: vec![of(4, 50), of(3, until)],
            replaces: vec![],
        };
        let mut catalog = Catalog::new(PeerId([3; 32]));
        catalog.apply(id(1, 1), Timestamp::from_ms(1), &delete(9).encode()).unwrap();
        catalog.apply(id(1, 2), Timestamp::from_ms(2), &set(Durability::Fsync, &[id(1, 1)])).unwrap();
        catalog.apply(id(2, 1), Timestamp::from_ms(1), &delete(5).encode()).unwrap();
        assert_eq!(
            catalog.deletions().collect::<Vec<_>>(),
            [(&topic, LogEnd { peer: PeerId([3; 32]), run: RunId(1), until: Seq(9) })]
        );
    }

    #[test]
    fn writes_that_did_not_know_of_each_other_are_decided_by_time() {
        let mut catalog = Catalog::new(PeerId([3; 32]));
        catalog.apply(id(1, 1), Timestamp(20), &set(Durability::Buffered, &[])).unwrap();
        catalog.apply(id(2, 1), Timestamp(10), &set(Durability::Fsync, &[])).unwrap();
        assert_eq!(durability(&catalog), Some(Durability::Buffered));
        assert_eq!(catalog.known(&TopicName::new("jobs").unwrap()).len(), 2);
        catalog.apply(id(1, 1), Timestamp(20), &set(Durability::Buffered, &[])).unwrap();
        assert_eq!(
            catalog.known(&TopicName::new("jobs").unwrap()).len(),
            2,
            "an entry seen twice counts once"
        );
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let mut catalog = Catalog::new(PeerId([3; 32]));
        for bad in [&b"{"[..], b"[]", b"{\"topic\":\"../x\"}", b"{\"topic\":\"a\",\"colour\":1}"] {
            assert_eq!(catalog.apply(id(1, 1), Timestamp(1), bad), None);
        }
    }
}
