//! What a removed peer's log has beyond what its removal leaves: it stays on the disk, and nobody is given it.
//!
//! ```text
//! on the disk     r1 [1..97) [97..103)        r2 [103..110)
//! left            r1 [1..97)                  none of r2
//! ```
//!
//! Runs end here where the removal says; what they have beyond is kept beside them, for the checkpoint and for whoever
//! asks what was set aside. So whoever reads, seeks or compares knows nothing of removals.
use crate::base::{Digest, Remains, RunId, Seq, Statement, Timestamp, TopicId};
use crate::log::state::{LogState, Range, Run};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The end of a log's runs, by a removal, and what they have beyond.
#[derive(Debug, Clone)]
pub struct SetAside {
    topic: TopicId,
    remains: Arc<Remains>,
    beyond: BTreeMap<RunId, Tip>,
}

/// Where a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// The number behind the last entry.
    pub until: Seq,
    /// The time of that entry.
    pub last_time: Timestamp,
    /// What the next batch would name as `previous`; zero where that is not known.
    pub link: Digest,
}

impl Tip {
    fn of(run: &Run) -> Self {
        Self { until: run.until, last_time: run.last_time, link: run.link }
    }

    fn end(&self, run: &mut Run) {
        (run.until, run.last_time, run.link) = (self.until, self.last_time, self.link);
    }
}

/// What a removal changed about what counts as held.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// It does not any more.
    pub gone: Vec<Range>,
    /// It does again, since a removal that leaves more was heard of.
    pub back: Vec<Range>,
}

impl LogState {
    /// Runs that end elsewhere than `remains` lets them, each with the number at which it does.
    pub fn ends_by(&self, topic: TopicId, remains: &Remains) -> Vec<(RunId, Seq)> {
        let is_changed = |run: &Run| {
            let end = remains.end_of(topic, run.id, &self.forks).max(run.from);
            (end < self.whole(run).until || run.until < end).then_some((run.id, end))
        };
        self.runs.iter().filter_map(is_changed).collect()
    }

    /// Lets runs end where a removal says. `tips` has what is known of the last batch that is left of a run.
    pub fn end_by(
        &mut self,
        topic: TopicId,
        remains: Arc<Remains>,
        tips: &BTreeMap<RunId, (Timestamp, Digest)>,
    ) -> Changed {
        let mut changed = Changed::default();
        let mut beyond = BTreeMap::new();
        for index in 0..self.runs.len() {
            let (known, end) = (self.runs[index], remains.end_of(topic, self.runs[index].id, &self.forks));
            let (id, whole) = (known.id, self.whole(&known));
            let until = whole.until.min(end.max(known.from));
            let range = |from, until| Range { run: id, from, until };
            changed.gone.extend(Some(range(until, known.until)).filter(|range| range.from < range.until));
            changed.back.extend(Some(range(known.until, until)).filter(|range| range.from < range.until));
            if until < whole.until {
                beyond.insert(id, Tip::of(&whole));
            }
            if until != known.until {
                let (last_time, link) = match tips.get(&id) {
                    _ if until == whole.until => (whole.last_time, whole.link),
                    Some(tip) => *tip,
                    None => (whole.last_time, Digest::ZERO),
                };
                Tip { until, last_time, link }.end(self.runs.change(index));
            }
        }
        self.set_aside = Some(Box::new(SetAside { topic, remains, beyond }));
        self.go_on_from_furthest();
        changed
    }

    /// The number behind the last entry of a run that may count.
    pub(super) fn end_allowed(&self, run: RunId) -> Seq {
        let limit = self.set_aside.as_ref().map(|aside| aside.remains.end_of(aside.topic, run, &self.forks));
        limit.unwrap_or(Seq(u64::MAX))
    }

    /// The number at which a run ends in the books at the latest: by a removal, or where it forked.
    pub(super) fn end_in_books(&self, run: RunId) -> Seq {
        self.cut_of(run).map_or(self.end_allowed(run), |cut| cut.min(self.end_allowed(run)))
    }

    /// A run ends at its fork: what was set aside of it behind that is of its branches, or nothing's.
    pub(super) fn cut_set_aside(&mut self, run: RunId, at: Seq) {
        if let Some(aside) = &mut self.set_aside {
            aside.beyond.retain(|id, tip| *id != run || tip.until <= at);
        }
    }

    /// A fork is known now: what counts of a run that forked counts of its branches, which may have come before that.
    pub(super) fn count_again(&mut self) {
        if let Some(aside) = &self.set_aside {
            let (topic, remains) = (aside.topic, aside.remains.clone());
            self.end_by(topic, remains, &BTreeMap::new());
        }
    }

    /// Whether a batch counts. One that was on its way to the disk when its peer was removed, and lies beyond its end, is
    /// taken note of as set aside.
    pub(super) fn counts(&mut self, s: &Statement, link: Digest) -> bool {
        let counts = s.until() <= self.end_allowed(s.run);
        if let Some(aside) = self.set_aside.as_mut().filter(|_| !counts) {
            let tip = Tip { until: s.until(), last_time: s.last_time(), link };
            let known = aside.beyond.entry(s.run).or_insert(tip);
            if known.until < tip.until {
                *known = tip;
            }
        }
        counts
    }

    /// Where a run ends that is known by a batch which does not count.
    pub(super) fn end_without(&self, s: &Statement, from: Seq) -> Seq {
        from.max(self.end_allowed(s.run).min(s.first_seq))
    }

    /// Whether nothing counts of a run, since its peer was removed, or it goes on from what does not count.
    pub(super) fn is_aside(&self, run: &Run) -> bool {
        let Some(aside) = &self.set_aside else { return false };
        let parent = self.run(run.parent);
        let is_behind = parent.is_some_and(|parent| {
            run.from > parent.until
                && aside.beyond.get(&parent.id).is_some_and(|tip| parent.until < tip.until)
        });
        is_behind || (run.is_empty() && aside.beyond.contains_key(&run.id))
    }

    /// A run as it lies on the disk.
    pub fn whole(&self, run: &Run) -> Run {
        let mut whole = *run;
        let beyond = self.set_aside.as_ref().and_then(|aside| aside.beyond.get(&run.id));
        beyond.into_iter().for_each(|tip| tip.end(&mut whole));
        whole
    }

    /// What lies on the disk and does not count, since the log's peer was removed.
    pub fn set_aside(&self) -> Vec<Range> {
        let Some(aside) = &self.set_aside else { return Vec::new() };
        let range = |(run, tip): (&RunId, &Tip)| {
            let known = self.run(*run)?;
            Some(Range { run: *run, from: known.until, until: tip.until })
        };
        aside.beyond.iter().filter_map(range).filter(|range| range.from < range.until).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ClusterId, PeerId, Removal, Removed};
    use crate::log::heads::tests::{LOG, add, statement_of};
    use crate::log::place::Place;
    use crate::log::state::Lookup;

    fn remains(ends: &[(u64, u64)]) -> Arc<Remains> {
        let removal = Removal {
            cluster: ClusterId([0; 16]),
            peer: LOG.peer,
            successor: None,
            time: Timestamp(1),
            signer: PeerId([9; 32]),
            ends: ends.iter().map(|(run, until)| ((LOG.topic, RunId(*run)), Seq(*until))).collect(),
        };
        let mut removed = Removed::default();
        removed.add(&removal);
        removed.get(&LOG.peer).cloned().unwrap()
    }

    fn state() -> LogState {
        let mut state = LogState::new();
        add(&mut state, 1, 0, 1, 10);
        add(&mut state, 1, 0, 11, 5);
        add(&mut state, 2, 1, 16, 4);
        state
    }

    fn range(run: u64, from: u64, until: u64) -> Range {
        Range { run: RunId(run), from: Seq(from), until: Seq(until) }
    }

    #[test]
    fn runs_end_where_the_removal_says_and_the_rest_is_kept() {
        let (mut state, whole) = (state(), state());
        let left = remains(&[(1, 11)]);
        assert_eq!(state.ends_by(LOG.topic, &left), [(RunId(1), Seq(11)), (RunId(2), Seq(16))]);
        let tips = [(RunId(1), (Timestamp(5), Digest([7; 32])))].into();
        let changed = state.end_by(LOG.topic, left.clone(), &tips);
        assert_eq!(changed.gone, [range(1, 11, 16), range(2, 16, 20)]);
        assert_eq!(
            (state.until(), state.set_aside()),
            (Seq(11), changed.gone),
            "where what counts ends, and not where a run that is empty now begins"
        );
        assert_eq!(state.run(RunId(1)).map(|run| run.link), Some(Digest([7; 32])));
        assert_eq!(state.find(RunId(1), Seq(11)), Lookup::Beyond);
        assert!(matches!(state.find(RunId(1), Seq(10)), Lookup::Span { .. }));
        assert_eq!(state.holes(), []);
        for (run, before) in state.runs.iter().zip(whole.runs.iter()) {
            assert_eq!(state.whole(run), *before, "the checkpoint keeps all of it");
        }
        assert_eq!(state.ends_by(LOG.topic, &left), [(RunId(1), Seq(11)), (RunId(2), Seq(16))]);
        assert_eq!(state.end_by(LOG.topic, left, &tips), Changed::default(), "it changes nothing twice");
    }

    #[test]
    fn what_was_on_its_way_to_the_disk_is_set_aside_too() {
        let mut state = state();
        state.end_by(LOG.topic, remains(&[(1, 16), (2, 20)]), &BTreeMap::new());
        add(&mut state, 2, 1, 20, 3);
        add(&mut state, 3, 2, 20, 3);
        assert_eq!(state.set_aside(), [range(2, 20, 23), range(3, 20, 23)]);
        assert_eq!((state.until(), state.holes()), (Seq(20), vec![]));
    }

    #[test]
    fn the_link_of_what_counts_is_that_of_its_last_batch_or_not_known() {
        let mut state = LogState::new();
        state.end_by(LOG.topic, remains(&[(1, 11)]), &BTreeMap::new());
        let take = |state: &mut LogState, from: u64, count| {
            let statement = Statement { opens_run: from == 1, ..statement_of(1, 0, from, count) };
            let place = Place { segment: 0, offset: from * 100 };
            state.add(&statement, Digest([from as u8; 32]), place, 100);
        };
        take(&mut state, 11, 5);
        let link = |state: &LogState| state.run(RunId(1)).map(|run| (run.until, run.link));
        assert_eq!(
            link(&state),
            Some((Seq(11), Digest::ZERO)),
            "the batch behind the end says nothing of it"
        );
        take(&mut state, 1, 10);
        assert_eq!(link(&state), Some((Seq(11), Digest([1; 32]))));
        assert_eq!(state.run(RunId(1)).map(|run| state.whole(run).until), Some(Seq(16)));
    }

    #[test]
    fn a_log_goes_on_from_what_counts_and_not_from_what_was_set_aside_behind_it() {
        let mut state = state();
        state.end_by(LOG.topic, remains(&[(1, 11), (9, 40)]), &BTreeMap::new());
        assert_eq!(state.until(), Seq(11));
        add(&mut state, 3, 2, 20, 5);
        state.go_on_from_furthest();
        assert_eq!(state.until(), Seq(11), "nor does what comes behind it");
        let changed = state.end_by(LOG.topic, remains(&[(1, 16), (2, 20), (3, 25)]), &BTreeMap::new());
        assert_eq!((changed.gone, state.until()), (vec![], Seq(25)));
    }

    #[test]
    fn a_removal_that_leaves_more_gives_back_what_the_first_took() {
        let mut state = state();
        state.end_by(LOG.topic, remains(&[(1, 11)]), &BTreeMap::new());
        let changed = state.end_by(LOG.topic, remains(&[(1, 16), (2, 18)]), &BTreeMap::new());
        assert_eq!((changed.gone, changed.back), (vec![], vec![range(1, 11, 16), range(2, 16, 18)]));
        assert_eq!(state.set_aside(), [range(2, 18, 20)]);
    }
}
