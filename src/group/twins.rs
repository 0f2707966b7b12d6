//! Entries that one producer appended under one number at two peers, since it was not told that the first had them.
//!
//! Both stay in the log. Where both are known the one that is first in order is handed out, and the other is done with it. Who
//! produced what is remembered of the entries read last.
use crate::base::{PeerId, ProducerId, RunId, Seq};
use crate::group::io::Meta;
use crate::group::ready::{Order, order};
use crate::group::set::{Key, key};
use std::collections::{BTreeMap, VecDeque};

/// What is remembered of producers, for one group.
#[derive(Debug, Default)]
pub struct Twins {
    first: BTreeMap<(ProducerId, u64), Order>,
    recent: VecDeque<(ProducerId, u64)>,
    /// By the first, those that wait until it is done.
    waiting: BTreeMap<Key, Vec<Key>>,
}

impl Twins {
    /// Remembers an entry, of the last `count_max`. Where it goes before one that was read earlier, unless that one `stays` the
    /// first, answers that one.
    pub fn note(&mut self, meta: &Meta, count_max: usize, stays: impl Fn(Key) -> bool) -> Option<Key> {
        let produced = meta.producer?;
        let mut later = None;
        match self.first.get_mut(&produced) {
            Some(first) if order(meta) < *first && !stays(first.2) => {
                later = Some(first.2);
                *first = order(meta);
            }
            Some(_) => {}
            None => {
                self.first.insert(produced, order(meta));
                self.recent.push_back(produced);
            }
        }
        while self.recent.len() > count_max {
            let oldest = self.recent.pop_front();
            oldest.map(|produced| self.first.remove(&produced));
        }
        later
    }

    /// The entry that is handed out for this one, where that is another.
    pub fn first(&self, meta: &Meta) -> Option<Key> {
        let first = self.first.get(&meta.producer?)?;
        (first.2 != key(meta.id)).then_some(first.2)
    }

    /// One waits until the first is done.
    pub fn wait(&mut self, first: Key, other: Key) {
        let waiting = self.waiting.entry(first).or_default();
        if !waiting.contains(&other) {
            waiting.push(other);
        }
    }

    /// These are done: answers those that waited for them.
    pub fn done(&mut self, peer: PeerId, run: RunId, from: Seq, until: Seq) -> Vec<Key> {
        let mut waited = Vec::new();
        while from < until
            && let Some((first, _)) = self.waiting.range((peer, run, from)..(peer, run, until)).next()
        {
            let first = *first;
            waited.extend(self.waiting.remove(&first).into_iter().flatten());
        }
        waited
    }
}
