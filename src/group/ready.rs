//! The entries of one group that were read here and are not done: each in exactly one place.
//!
//! ```text
//!            ┌─ later: until a time ──┐
//!   read ────┤                        ├──> ready, in order ──> leased ──> done: gone from here
//!            └────────────────────────┘      │      ^            │
//!                                            v      └────────────┘  given back, ended
//!                                          blocked: too far ahead of the first that is not done
//! ```
//!
//! An entry that is being acknowledged, or copied elsewhere, is *out*: it is nobody's until that is over.
use crate::base::{PeerId, RunId, Seq, Timestamp};
use crate::group::io::Meta;
use crate::group::set::{Key, key};
use std::collections::{BTreeMap, BTreeSet};

/// The order in which entries are handed out: the highest priority first, then the oldest.
pub type Order = (u8, Timestamp, Key);

/// The place of an entry in that order.
pub fn order(meta: &Meta) -> Order {
    (u8::MAX - meta.priority, meta.time, key(meta.id))
}

/// Why an entry is handed out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Its lease ended.
    Expired,
    /// It was given back.
    Nacked,
    /// Whoever had it went away.
    Left,
}

/// Where an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// To be handed out.
    Ready,
    /// Too far ahead of the first entry of its run that is not done.
    Blocked,
    /// Waiting until then, by the clock that never jumps.
    Held(u64),
    /// Waiting until then, in Unix milliseconds.
    Delayed(u64),
    /// Somebody has it, under this number.
    Leased(u64),
    /// Nobody's, for now.
    Out,
}

/// An entry.
#[derive(Debug, Clone)]
pub struct Item {
    /// What is known of it.
    pub meta: Meta,
    /// How often it was handed out.
    pub attempts: u32,
    /// Why it is here again; `None`: it was not handed out by this peer since it started.
    pub again: Option<Again>,
    /// It is not handed out before, by the clock that never jumps.
    pub hold_until_ms: u64,
    /// Until when it waits for another of the same producer and number.
    pub twin_until_ms: Option<u64>,
    /// When it came to be ready.
    pub ready_ms: u64,
    place: Place,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Items {
    all: BTreeMap<Key, Item>,
    ready: BTreeSet<Order>,
    held: BTreeSet<(u64, Key)>,
    delayed: BTreeSet<(u64, Key)>,
    expiring: BTreeSet<(u64, Key)>,
    blocked: BTreeMap<(PeerId, RunId), BTreeMap<Seq, Order>>,
    /// Those that do not wait for a time: what the bound on holes looks at.
    near: BTreeSet<Key>,
}

impl Items {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many can be handed out now.
    pub fn ready_now(&self) -> usize {
        self.ready.len()
    }

    /// How many are ready, those that are blocked included.
    pub fn ready_count(&self) -> usize {
        self.ready.len() + self.blocked.values().map(BTreeMap::len).sum::<usize>()
    }

    /// How many wait for a time.
    pub fn later_count(&self) -> usize {
        self.held.len() + self.delayed.len()
    }

    /// One of them.
    pub fn get(&self, key: Key) -> Option<&Item> {
        self.all.get(&key)
    }

    /// One of them, but for its place.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Item> {
        self.all.get_mut(&key)
    }

    /// Where it is.
    pub fn place(&self, key: Key) -> Option<Place> {
        self.all.get(&key).map(|item| item.place)
    }

    /// All of them, in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Item)> {
        self.all.iter()
    }

    /// Those of a range of one run.
    pub fn keys_of(&self, peer: PeerId, run: RunId, from: Seq, until: Seq) -> Vec<Key> {
        if from >= until {
            return Vec::new();
        }
        self.all.range((peer, run, from)..(peer, run, until)).map(|(key, _)| *key).collect()
    }

    /// Those of one log.
    pub fn keys_of_log(&self, log: PeerId) -> Vec<Key> {
        let (first, last) = ((log, RunId(0), Seq(0)), (log, RunId(u64::MAX), Seq(u64::MAX)));
        self.all.range(first..=last).map(|(key, _)| *key).collect()
    }

    /// A new one, out until it is put somewhere.
    pub fn insert(&mut self, meta: Meta, attempts: u32, hold_until_ms: u64) {
        let key = key(meta.id);
        if let Some(expire_at_ms) = meta.expire_at_ms {
            self.expiring.insert((expire_at_ms, key));
        }
        self.near.insert(key);
        let (again, twin_until_ms, ready_ms, place) = (None, None, 0, Place::Out);
        self.all.insert(key, Item { meta, attempts, again, hold_until_ms, twin_until_ms, ready_ms, place });
    }

    /// Moves one.
    pub fn put(&mut self, key: Key, place: Place) {
        let Some(item) = self.all.get_mut(&key) else {
            return;
        };
        if item.place == place {
            return;
        }
        let order = order(&item.meta);
        match std::mem::replace(&mut item.place, place) {
            Place::Ready => {
                self.ready.remove(&order);
            }
            Place::Blocked => self.unblock_one(key),
            Place::Held(ms) => {
                self.held.remove(&(ms, key));
            }
            Place::Delayed(ms) => {
                self.delayed.remove(&(ms, key));
            }
            Place::Leased(_) | Place::Out => {}
        }
        match place {
            Place::Ready => {
                self.ready.insert(order);
            }
            Place::Blocked => {
                self.blocked.entry((key.0, key.1)).or_default().insert(key.2, order);
            }
            Place::Held(ms) => {
                self.held.insert((ms, key));
            }
            Place::Delayed(ms) => {
                self.delayed.insert((ms, key));
            }
            Place::Leased(_) | Place::Out => {}
        }
        if matches!(place, Place::Held(_) | Place::Delayed(_)) {
            self.near.remove(&key);
        } else {
            self.near.insert(key);
        }
    }

    fn unblock_one(&mut self, (peer, run, seq): Key) {
        if let Some(blocked) = self.blocked.get_mut(&(peer, run)) {
            blocked.remove(&seq);
            if blocked.is_empty() {
                self.blocked.remove(&(peer, run));
            }
        }
    }

    /// It is done, or not ours.
    pub fn remove(&mut self, key: Key) -> Option<Item> {
        self.put(key, Place::Out);
        let item = self.all.remove(&key)?;
        self.near.remove(&key);
        if let Some(expire_at_ms) = item.meta.expire_at_ms {
            self.expiring.remove(&(expire_at_ms, key));
        }
        Some(item)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The next to be handed out. One that lies `span_max` or more behind the first of its run that is not done is put aside.
    pub fn next(&mut self, span_max: u64) -> Option<Key> {
        loop {
            let (_, _, key) = *self.ready.first()?;
            if key.2.since(self.lowest(key)) < span_max {
                return Some(key);
            }
            self.put(key, Place::Blocked);
        }
    }

    /// The highest priority that is ready, and when the oldest of it came to be.
    pub fn best(&self) -> Option<(u8, u64)> {
        let (rest, _, key) = self.ready.first()?;
        Some((u8::MAX - rest, self.all.get(key)?.ready_ms))
    }

    fn lowest(&self, (peer, run, seq): Key) -> Seq {
        self.near.range((peer, run, Seq(0))..=(peer, run, seq)).next().map_or(seq, |lowest| lowest.2)
    }

    /// Whether entries wait that are too far ahead.
    #[cfg(test)]
    pub fn is_blocked(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// Looks again at what was too far ahead, in the run of an entry that is done or waits for a time.
    pub fn unblock(&mut self, peer: PeerId, run: RunId, span_max: u64) {
        while let Some((seq, order)) = self.blocked.get(&(peer, run)).and_then(|b| b.first_key_value()) {
            let key = order.2;
            if seq.since(self.lowest(key)) >= span_max {
                return;
            }
            self.put(key, Place::Ready);
        }
    }

    /// One whose time has come.
    pub fn due(&self, now_ms: u64, unix_ms: u64) -> Option<Key> {
        let first = |set: &BTreeSet<(u64, Key)>, at| set.first().filter(|due| due.0 <= at).map(|due| due.1);
        first(&self.held, now_ms).or_else(|| first(&self.delayed, unix_ms))
    }

    /// One that expired, once.
    pub fn expired(&mut self, unix_ms: u64) -> Option<Key> {
        let first = *self.expiring.first().filter(|due| due.0 <= unix_ms)?;
        self.expiring.remove(&first);
        Some(first.1)
    }

    /// When something is due next: by the clock that never jumps, and in Unix milliseconds.
    pub fn next_due(&self) -> (Option<u64>, Option<u64>) {
        let first = |set: &BTreeSet<(u64, Key)>| set.first().map(|due| due.0);
        let unix = [first(&self.delayed), first(&self.expiring)].into_iter().flatten().min();
        (first(&self.held), unix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{EntryId, TopicId};

    fn meta(seq: u64, priority: u8) -> Meta {
        let id = EntryId { topic: TopicId([0; 16]), peer: PeerId([1; 32]), run: RunId(1), seq: Seq(seq) };
        Meta {
            id,
            time: Timestamp::from_ms(seq),
            priority,
            bytes: 1,
            deliver_at_ms: None,
            expire_at_ms: None,
            producer: None,
        }
    }

    fn add(items: &mut Items, seq: u64, priority: u8, place: Place) -> Key {
        let meta = meta(seq, priority);
        items.insert(meta, 0, 0);
        items.put(key(meta.id), place);
        key(meta.id)
    }

    #[test]
    fn the_highest_priority_goes_first_then_the_oldest() {
        let mut items = Items::default();
        for (seq, priority) in [(1, 4), (2, 9), (3, 4), (4, 0), (5, 9)] {
            add(&mut items, seq, priority, Place::Ready);
        }
        let mut taken = Vec::new();
        while let Some(key) = items.next(100) {
            taken.push(key.2.0);
            items.remove(key);
        }
        assert_eq!(taken, [2, 5, 1, 3, 4]);
    }

    #[test]
    fn what_is_too_far_ahead_waits_for_the_first_and_a_delayed_one_is_no_hole() {
        let mut items = Items::default();
        let first = add(&mut items, 1, 0, Place::Leased(1));
        let far = add(&mut items, 11, 4, Place::Ready);
        let near = add(&mut items, 10, 4, Place::Ready);
        assert_eq!(items.next(10), Some(near));
        items.put(near, Place::Leased(2));
        assert_eq!((items.next(10), items.is_blocked()), (None, true));
        items.put(first, Place::Held(500));
        items.unblock(first.0, first.1, 10);
        assert_eq!((items.next(10), items.is_blocked()), (Some(far), false));
    }

    #[test]
    fn each_is_in_one_place_however_it_is_moved() {
        let mut items = Items::default();
        let key = add(&mut items, 1, 4, Place::Ready);
        let places =
            [Place::Held(5), Place::Ready, Place::Delayed(7), Place::Blocked, Place::Out, Place::Leased(1)];
        for place in places.into_iter().cycle().take(20) {
            items.put(key, place);
            let sets = [items.ready.len(), items.held.len(), items.delayed.len(), items.blocked.len()];
            let expected = match place {
                Place::Ready => [1, 0, 0, 0],
                Place::Held(_) => [0, 1, 0, 0],
                Place::Delayed(_) => [0, 0, 1, 0],
                Place::Blocked => [0, 0, 0, 1],
                Place::Out | Place::Leased(_) => [0; 4],
            };
            assert_eq!(sets, expected);
        }
        items.remove(key);
        assert!(items.is_empty() && items.near.is_empty());
    }
}
