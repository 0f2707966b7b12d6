//! Sets of numbers as ranges: half-open, in order, never touching.
use crate::base::Seq;

/// A set of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(Seq, Seq)>);

impl Ranges {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Seq, Seq)> + '_ {
        self.0.iter().copied()
    }

    /// Adds `from..until`.
    pub fn insert(&mut self, from: Seq, until: Seq) {
        if from >= until {
            return;
        }
        // All that touch it become one with it.
        let first = self.0.partition_point(|range| range.1 < from);
        let last = self.0.partition_point(|range| range.0 <= until);
        let whole = self.0[first..last].iter().fold((from, until), |a, b| (a.0.min(b.0), a.1.max(b.1)));
        self.0.splice(first..last, [whole]);
    }

    /// Takes `from..until` away.
    pub fn remove(&mut self, from: Seq, until: Seq) {
        let first = self.0.partition_point(|range| range.1 <= from);
        let last = self.0.partition_point(|range| range.0 < until);
        if from >= until || first >= last {
            return;
        }
        let left = (self.0[first].0, from);
        let right = (until, self.0[last - 1].1);
        self.0.splice(first..last, [left, right].into_iter().filter(|range| range.0 < range.1));
    }

    /// Whether all of `from..until` is in it.
    pub fn holds(&self, from: Seq, until: Seq) -> bool {
        from >= until || self.around(from).is_some_and(|range| until <= range.1)
    }

    /// The range that holds `seq`.
    pub fn around(&self, seq: Seq) -> Option<(Seq, Seq)> {
        let at = self.0.partition_point(|range| range.1 <= seq);
        self.0.get(at).copied().filter(|range| range.0 <= seq)
    }

    /// The first stretch of `from..until` that is not in it.
    pub fn first_gap(&self, from: Seq, until: Seq) -> Option<(Seq, Seq)> {
        let from = self.around(from).map_or(from, |range| range.1);
        let next = self.0.partition_point(|range| range.0 < from);
        let until = self.0.get(next).map_or(until, |range| range.0.min(until));
        (from < until).then_some((from, until))
    }

    /// The number behind the last.
    pub fn until(&self) -> Option<Seq> {
        self.0.last().map(|range| range.1)
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
            assert!(set.0.windows(2).all(|pair| pair[0].1 < pair[1].0), "{set:?}");
            let (from, until) = (draw(40), 40);
            let gap = (from..until).find(|at| !model[*at as usize]);
            assert_eq!(set.first_gap(Seq(from), Seq(until)).map(|gap| gap.0.0), gap);
            assert_eq!(set.holds(Seq(from), Seq(until)), gap.is_none());
        }
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
