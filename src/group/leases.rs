//! Who has what until when: the leases of one group that this peer handed out.
use crate::base::PeerId;
use crate::group::io::Consumer;
use crate::group::set::Key;
use std::collections::{BTreeMap, BTreeSet};

/// A lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The entry.
    pub key: Key,
    /// Whose it is; 0: nobody's.
    pub consumer: Consumer,
    /// The peer whose consumer that is, where it is another.
    pub at: Option<PeerId>,
    /// When it ends, in milliseconds of the clock that never jumps.
    pub until_ms: u64,
}

/// All leases of one group at this peer.
#[derive(Debug, Default)]
pub struct Leases {
    held: BTreeMap<u64, Held>,
    ends: BTreeSet<(u64, u64)>,
    consumers: BTreeMap<Consumer, BTreeSet<u64>>,
}

impl Leases {
    /// How many.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// A new one.
    pub fn insert(&mut self, number: u64, held: Held) {
        self.ends.insert((held.until_ms, number));
        if held.consumer != 0 {
            self.consumers.entry(held.consumer).or_default().insert(number);
        }
        self.held.insert(number, held);
    }

    /// The one of this number.
    pub fn get(&self, number: u64) -> Option<&Held> {
        self.held.get(&number)
    }

    /// It ends.
    pub fn remove(&mut self, number: u64) -> Option<Held> {
        let held = self.held.remove(&number)?;
        self.ends.remove(&(held.until_ms, number));
        if let Some(numbers) = self.consumers.get_mut(&held.consumer) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.consumers.remove(&held.consumer);
            }
        }
        Some(held)
    }

    /// It lasts until another time.
    pub fn extend(&mut self, number: u64, until_ms: u64) {
        if let Some(held) = self.held.get_mut(&number) {
            self.ends.remove(&(held.until_ms, number));
            held.until_ms = until_ms;
            self.ends.insert((until_ms, number));
        }
    }

    /// When the first ends.
    pub fn first_end(&self) -> Option<u64> {
        self.ends.first().map(|end| end.0)
    }

    /// One whose time is over.
    pub fn ended(&self, now_ms: u64) -> Option<u64> {
        self.ends.first().filter(|end| end.0 <= now_ms).map(|end| end.1)
    }

    /// Those of a consumer.
    pub fn of(&self, consumer: Consumer) -> Vec<u64> {
        self.consumers.get(&consumer).into_iter().flatten().copied().collect()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Held)> {
        self.held.iter().map(|(number, held)| (*number, held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{RunId, Seq};

    #[test]
    fn a_lease_is_found_by_its_number_its_consumer_and_its_end() {
        let mut leases = Leases::default();
        let held = |seq, consumer, until_ms| Held {
            key: (PeerId([1; 32]), RunId(1), Seq(seq)),
            consumer,
            at: None,
            until_ms,
        };
        leases.insert(10, held(1, 7, 100));
        leases.insert(11, held(2, 7, 50));
        leases.insert(12, held(3, 0, 70));
        assert_eq!((leases.of(7), leases.of(0)), (vec![10, 11], vec![]), "nobody's leases end by time alone");
        assert_eq!((leases.ended(49), leases.ended(50)), (None, Some(11)));
        leases.extend(11, 200);
        assert_eq!(leases.first_end(), Some(70));
        assert_eq!(leases.remove(10), Some(held(1, 7, 100)));
        assert_eq!((leases.remove(10), leases.of(7)), (None, vec![11]));
        assert_eq!(leases.remove(11).map(|held| held.until_ms), Some(200));
        assert!(leases.of(7).is_empty());
        assert_eq!(leases.len(), 1);
    }
}
