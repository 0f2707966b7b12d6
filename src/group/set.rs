//! Sets of entries: for each run the ranges of numbers that are in it, as trees, since a group that hands out by priority may
//! have hundreds of thousands of holes.
use crate::base::{EntryId, PeerId, RunId, Seq};
use crate::group::write::Acks;
use std::collections::BTreeMap;

/// An entry of the topic: its log's peer, its run, its number.
pub type Key = (PeerId, RunId, Seq);

/// What names an entry within its topic.
pub fn key(id: EntryId) -> Key {
    (id.peer, id.run, id.seq)
}

/// Numbers of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Numbers {
    /// From, until: half-open, never touching.
    ranges: BTreeMap<Seq, Seq>,
    count: u64,
}

impl Numbers {
    fn holds(&self, seq: Seq) -> bool {
        self.ranges.range(..=seq).next_back().is_some_and(|(_, until)| seq < *until)
    }

    /// Adds a range, and says how many numbers of it were not there.
    fn insert(&mut self, from: Seq, until: Seq) -> u64 {
        if from >= until {
            return 0;
        }
        let (mut whole_from, mut whole_until, mut there) = (from, until, 0);
        while let Some((old_from, old_until)) = self.ranges.range(..=whole_until).next_back() {
            let (old_from, old_until) = (*old_from, *old_until);
            if old_until < whole_from {
                break;
            }
            self.ranges.remove(&old_from);
            there += old_until.min(until).since(old_from.max(from));
            whole_from = whole_from.min(old_from);
            whole_until = whole_until.max(old_until);
        }
        self.ranges.insert(whole_from, whole_until);
        let new = until.since(from) - there;
        self.count += new;
        new
    }

    fn remove(&mut self, from: Seq, until: Seq) -> u64 {
        let mut gone = 0;
        if from >= until {
            return gone;
        }
        while let Some((old_from, old_until)) = self.ranges.range(..until).next_back() {
            let (old_from, old_until) = (*old_from, *old_until);
            if old_until <= from {
                break;
            }
            self.ranges.remove(&old_from);
            gone += old_until.min(until).since(old_from.max(from));
            if until < old_until {
                self.ranges.insert(until, old_until);
            }
            if old_from < from {
                self.ranges.insert(old_from, from);
            }
        }
        self.count -= gone;
        gone
    }
}

/// A set of entries of one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    runs: BTreeMap<(PeerId, RunId), Numbers>,
}

impl Set {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether it is in it.
    pub fn holds(&self, (peer, run, seq): Key) -> bool {
        self.runs.get(&(peer, run)).is_some_and(|numbers| numbers.holds(seq))
    }

    /// Adds one, and says whether it was not there.
    pub fn add(&mut self, (peer, run, seq): Key) -> bool {
        self.insert(peer, run, seq, seq.after(1)) > 0
    }

    /// Adds a range, and says how many were not there.
    pub fn insert(&mut self, peer: PeerId, run: RunId, from: Seq, until: Seq) -> u64 {
        if from >= until { 0 } else { self.runs.entry((peer, run)).or_default().insert(from, until) }
    }

    /// Takes a range out, and says how many were there.
    pub fn remove(&mut self, peer: PeerId, run: RunId, from: Seq, until: Seq) -> u64 {
        let Some(numbers) = self.runs.get_mut(&(peer, run)) else {
            return 0;
        };
        let gone = numbers.remove(from, until);
        if numbers.ranges.is_empty() {
            self.runs.remove(&(peer, run));
        }
        gone
    }

    /// Adds what a write lists.
    pub fn insert_all(&mut self, acks: &[Acks]) {
        for (peer, run, from, until) in ranges_of(acks) {
            self.insert(peer, run, from, until);
        }
    }

    /// How many ranges it has.
    pub fn range_count(&self) -> usize {
        self.runs.values().map(|numbers| numbers.ranges.len()).sum()
    }

    /// How many entries.
    #[cfg(test)]
    pub fn count(&self) -> u64 {
        self.runs.values().map(|numbers| numbers.count).sum()
    }

    /// For each run how many entries it has, and the number behind the last.
    pub fn counts(&self) -> impl Iterator<Item = (PeerId, RunId, u64, Seq)> {
        self.runs.iter().filter_map(|((peer, run), numbers)| {
            numbers.ranges.last_key_value().map(|(_, until)| (*peer, *run, numbers.count, *until))
        })
    }

    /// All ranges.
    pub fn ranges(&self) -> impl Iterator<Item = (PeerId, RunId, Seq, Seq)> {
        self.runs.iter().flat_map(|((peer, run), numbers)| {
            numbers.ranges.iter().map(|(from, until)| (*peer, *run, *from, *until))
        })
    }

    /// As a write lists it.
    pub fn list(&self) -> Vec<Acks> {
        let one = |((peer, run), numbers): (&(PeerId, RunId), &Numbers)| Acks {
            peer: *peer,
            run: *run,
            ranges: numbers.ranges.iter().map(|(from, until)| (*from, *until)).collect(),
        };
        self.runs.iter().map(one).collect()
    }

    /// As lists of at most so many ranges each.
    pub fn lists(&self, range_count_max: usize) -> Vec<Vec<Acks>> {
        let (mut lists, mut count) = (Vec::new(), range_count_max);
        for (peer, run, from, until) in self.ranges() {
            if count >= range_count_max {
                lists.push(Vec::new());
                count = 0;
            }
            count += 1;
            let list: &mut Vec<Acks> = lists.last_mut().expect("one was just pushed");
            match list.last_mut() {
                Some(last) if (last.peer, last.run) == (peer, run) => last.ranges.push((from, until)),
                _ => list.push(Acks { peer, run, ranges: vec![(from, until)] }),
            }
        }
        lists
    }
}

impl FromIterator<Key> for Set {
    fn from_iter<T: IntoIterator<Item = Key>>(keys: T) -> Self {
        let mut set = Self::default();
        keys.into_iter().for_each(|key| {
            set.add(key);
        });
        set
    }
}

/// The ranges that a write lists.
pub fn ranges_of(acks: &[Acks]) -> impl Iterator<Item = (PeerId, RunId, Seq, Seq)> {
    acks.iter().flat_map(|acks| acks.ranges.iter().map(|(from, until)| (acks.peer, acks.run, *from, *until)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId([1; 32]);
    const RUN: RunId = RunId(1);

    #[test]
    fn it_is_the_set_that_a_list_of_numbers_would_be() {
        let mut state = 7u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let (mut set, mut model) = (Set::default(), [false; 40]);
        for _ in 0..5000 {
            let (from, until, is_in) = (draw(40), draw(41), draw(2) == 0);
            let differ = (from..until).filter(|at| model[*at as usize] != is_in).count() as u64;
            let changed = match is_in {
                true => set.insert(PEER, RUN, Seq(from), Seq(until)),
                false => set.remove(PEER, RUN, Seq(from), Seq(until)),
            };
            assert_eq!(changed, differ, "{from}..{until} {is_in} {set:?}");
            (from..until).for_each(|at| model[at as usize] = is_in);
            let listed: Vec<u64> = set.ranges().flat_map(|(_, _, from, until)| from.0..until.0).collect();
            let expected: Vec<u64> = (0..40).filter(|at| model[*at as usize]).collect();
            assert_eq!(listed, expected);
            assert_eq!(set.count(), expected.len() as u64);
            (0..40).for_each(|at| assert_eq!(set.holds((PEER, RUN, Seq(at))), model[at as usize]));
            let ranges: Vec<_> = set.ranges().collect();
            assert!(ranges.windows(2).all(|pair| pair[0].3 < pair[1].2), "{set:?}");
        }
    }

    #[test]
    fn long_lists_are_cut_and_say_the_same_together() {
        let set: Set = (0..10).map(|seq| (PEER, RunId(1 + seq % 2), Seq(seq * 2))).collect();
        let lists = set.lists(3);
        assert_eq!(lists.len(), 4);
        let mut again = Set::default();
        lists.iter().for_each(|list| again.insert_all(list));
        assert_eq!(again, set);
        assert_eq!(set.lists(1000), [set.list()]);
    }
}
