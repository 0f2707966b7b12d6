//! Sets of numbers as ranges: half-open, in order, never touching.
use crate::base::Seq;
use std::fmt;

/// A set of numbers.
#[derive(Clone, Default)]
pub struct Ranges(List);

/// Nearly always there is one range, for which no memory is asked: there may be a hundred thousand logs.
#[derive(Clone, Default)]
enum List {
    #[default]
    None,
    One([(Seq, Seq); 1]),
    Many(Vec<(Seq, Seq)>),
}

impl PartialEq for Ranges {
    fn eq(&self, other: &Self) -> bool {
        self.list() == other.list()
    }
}

impl Eq for Ranges {}

impl fmt::Debug for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

impl Ranges {
    fn list(&self) -> &[(Seq, Seq)] {
        match &self.0 {
            List::None => &[],
            List::One(one) => one,
            List::Many(many) => many,
        }
    }

    /// Puts `put` in the place of the ranges from `first` up to `last`.
    fn splice(&mut self, first: usize, last: usize, put: impl Iterator<Item = (Seq, Seq)>) {
        let mut list = match std::mem::take(&mut self.0) {
            List::Many(list) => list,
            List::None => Vec::new(),
            List::One(one) => one.to_vec(),
        };
        list.splice(first..last, put);
        self.0 = match list[..] {
            [] => List::None,
            [one] => List::One([one]),
            _ => List::Many(list),
        };
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list().is_empty()
    }

    /// The ranges.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Seq, Seq)> + '_ {
        self.list().iter().copied()
    }

    /// Adds `from..until`.
    pub fn insert(&mut self, from: Seq, until: Seq) {
        if from >= until {
            return;
        }
        // All that touch it become one with it.
        let list = self.list();
        let first = list.partition_point(|range| range.1 < from);
        let last = list.partition_point(|range| range.0 <= until);
        let whole = list[first..last].iter().fold((from, until), |a, b| (a.0.min(b.0), a.1.max(b.1)));
        match &mut self.0 {
            List::One(one) if last - first == 1 => *one = [whole],
            List::Many(many) if last - first == 1 => many[first] = whole,
            _ => self.splice(first, last, [whole].into_iter()),
        }
    }

    /// Takes `from..until` away.
    pub fn remove(&mut self, from: Seq, until: Seq) {
        let list = self.list();
        let first = list.partition_point(|range| range.1 <= from);
        let last = list.partition_point(|range| range.0 < until);
        if from >= until || first >= last {
            return;
        }
        let left = (list[first].0, from);
        let right = (until, list[last - 1].1);
        self.splice(first, last, [left, right].into_iter().filter(|range| range.0 < range.1));
    }

    /// Whether all of `from..until` is in it.
    pub fn holds(&self, from: Seq, until: Seq) -> bool {
        from >= until || self.around(from).is_some_and(|range| until <= range.1)
    }

    /// The range that holds `seq`.
    pub fn around(&self, seq: Seq) -> Option<(Seq, Seq)> {
        let at = self.list().partition_point(|range| range.1 <= seq);
        self.list().get(at).copied().filter(|range| range.0 <= seq)
    }

    /// The first stretch of `from..until` that is not in it.
    pub fn first_gap(&self, from: Seq, until: Seq) -> Option<(Seq, Seq)> {
        let from = self.around(from).map_or(from, |range| range.1);
        let next = self.list().partition_point(|range| range.0 < from);
        let until = self.list().get(next).map_or(until, |range| range.0.min(until));
        (from < until).then_some((from, until))
    }

    /// The number behind the last.
    pub fn until(&self) -> Option<Seq> {
        self.list().last().map(|range| range.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ranges: &[(u64, u64)]) -> Ranges {
        let mut set = Ranges::default();
        ranges.iter().for_each(|(from, until)| set.insert(Seq(*from), Seq(*until)));
        set
    }

    fn list(set: &Ranges) -> Vec<(u64, u64)> {
        set.iter().map(|(from, until)| (from.0, until.0)).collect()
    }

    #[test]
    fn it_is_the_set_that_a_list_of_numbers_would_be() {
        let mut state = 7u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let (mut set, mut model) = (Ranges::default(), [false; 40]);
        for _ in 0..3000 {
            let (from, until, is_in) = (draw(40), draw(41), draw(2) == 0);
            match is_in {
                true => set.insert(Seq(from), Seq(until)),
                false => set.remove(Seq(from), Seq(until)),
            }
            (from..until).for_each(|at| model[at as usize] = is_in);
            let listed: Vec<u64> = set.iter().flat_map(|(from, until)| from.0..until.0).collect();
            let expected: Vec<u64> = (0..40).filter(|at| model[*at as usize]).collect();
            assert_eq!(listed, expected);
            assert!(set.list().windows(2).all(|pair| pair[0].1 < pair[1].0), "{set:?}");
            let (from, until) = (draw(40), 40);
            let gap = (from..until).find(|at| !model[*at as usize]);
            assert_eq!(set.first_gap(Seq(from), Seq(until)).map(|gap| gap.0.0), gap);
            assert_eq!(set.holds(Seq(from), Seq(until)), gap.is_none());
        }
    }

    #[test]
    fn one_range_takes_no_more_than_a_list_of_none() {
        assert_eq!(size_of::<Ranges>(), size_of::<Vec<(Seq, Seq)>>());
    }

    #[test]
    fn neighbours_become_one_and_a_hole_splits() {
        let mut set = of(&[(1, 5), (9, 12), (5, 9)]);
        assert_eq!(list(&set), [(1, 12)]);
        set.remove(Seq(4), Seq(6));
        assert_eq!(list(&set), [(1, 4), (6, 12)]);
        assert_eq!(set.first_gap(Seq(2), Seq(20)), Some((Seq(4), Seq(6))));
    }
}
