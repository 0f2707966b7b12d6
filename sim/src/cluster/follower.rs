//! Readers that follow a topic by their cursor, over crashes and from one peer to another, and what they were given.
use crate::cluster::check;
use crate::cluster::kept::may_be_trimmed;
use crate::cluster::model::Fact;
use crate::cluster::written::Content;
use crate::cluster::{Cluster, SECRET, Topic, lock};
use crate::random::Random;
use conveyor::base::{Batch, Cursor, EntryId, Fork, LogId, RunId, Seq, Timestamp};
use conveyor::identity::MacVerifier;
use conveyor::identity::sign::verify_with;
use conveyor::log::ReadItem;
use conveyor::runtime::TopicReader;
use conveyor::wire::outcome::{Blocked, BlockedReason, Gap, GapReason, ReadError, ReadFrom};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a reader was given so far.
#[derive(Debug, Default)]
pub struct Given {
    /// Entries.
    pub entries: BTreeSet<EntryId>,
    /// What two-faced peers wrote of them.
    contents: BTreeMap<EntryId, Fact>,
    /// Ranges that were told to be missing.
    pub gaps: Vec<(LogId, Gap)>,
    /// Logs that wait for an entry that is not there.
    waits: BTreeMap<LogId, EntryId>,
    /// The first number at which a log was known to have forked, where this reader was.
    forked: BTreeMap<LogId, Seq>,
    /// How far each run was given.
    reached: BTreeMap<(LogId, RunId), Seq>,
    /// Where what two-faced peers wrote in a run was given.
    places: BTreeMap<(LogId, RunId), BTreeSet<usize>>,
}

impl Given {
    /// Whether `id` was given, or told to be missing.
    pub fn accounts_for(&self, id: &EntryId) -> bool {
        let tells = |(log, gap): &(LogId, Gap)| {
            *log == id.log() && gap.run == id.run && gap.from <= id.seq && id.seq < gap.until
        };
        self.entries.contains(id) || self.gaps.iter().any(tells)
    }

    /// Entries of two-faced peers that were given, under whatever name.
    pub fn contents(&self) -> BTreeSet<Content> {
        self.contents.iter().map(|(id, fact)| (id.log(), id.seq, *fact)).collect()
    }

    /// The time of an entry of a two-faced peer.
    pub fn time_of(&self, id: &EntryId) -> Option<Timestamp> {
        self.contents.get(id).map(|fact| fact.time)
    }

    /// What an entry of a two-faced peer is that was given under this name.
    pub fn content_of(&self, id: &EntryId) -> Option<Content> {
        self.contents.get(id).map(|fact| (id.log(), id.seq, *fact))
    }

    /// Whether an entry with this number was given of a run that was read at one site, and on at another.
    pub fn went_on_elsewhere(&self, log: &LogId, seq: Seq) -> bool {
        let runs = self.places.iter().filter(|((of, _), sites)| of == log && sites.len() > 1);
        let mut ids = runs.map(|((_, run), _)| EntryId { topic: log.topic, peer: log.peer, run: *run, seq });
        ids.any(|id| self.contents.contains_key(&id))
    }

    /// The entry for which the reader of a log waits: it is not held where it reads now.
    pub fn waits_for(&self, log: &LogId) -> Option<EntryId> {
        self.waits.get(log).copied()
    }

    /// How far it came in a log, and what it waits for.
    pub fn told(&self, log: &LogId) -> String {
        let reached: Vec<_> = self.reached.iter().filter(|((of, _), _)| of == log).collect();
        format!("it was given {reached:?} and waits for {:?}", self.waits_for(log))
    }

    /// Takes in what a reader of `site` gave.
    pub fn take(&mut self, cluster: &Cluster, site: usize, topic: Topic, item: ReadItem) {
        match item {
            ReadItem::Batch { batch, from, .. } => self.take_batch(cluster, site, topic, &batch, from),
            ReadItem::Gap(gap) => {
                check_gap(cluster, site, topic, &gap);
                self.gaps.push((LogId { topic: topic.id(), peer: gap.peer }, gap));
            }
            ReadItem::Blocked(Blocked { peer, run, from, reason, .. }) => {
                // What it waits for is damaged or was never here, or the last entry that it was given of this run is not.
                let seq = if reason == BlockedReason::Ahead { Seq(from.0.saturating_sub(1)) } else { from };
                let waits_for = EntryId { topic: topic.id(), peer, run, seq };
                self.waits.insert(waits_for.log(), waits_for);
            }
        }
    }

    fn take_batch(&mut self, cluster: &Cluster, site: usize, topic: Topic, batch: &Batch, from: Seq) {
        assert_eq!(batch.check_body(), Ok(()), "P7: damaged bytes were served");
        let is_signed = verify_with(&MacVerifier::new(SECRET), batch.statement(), batch.signature());
        assert!(is_signed, "P7: what was served is not what its peer signed");
        let log = batch.statement().log;
        self.waits.remove(&log);
        let known = cluster.live(site).and_then(|live| live.handle.store().log(&log));
        let forks = known.map(|log| log.look().forks.clone()).unwrap_or_default();
        if let Some(from) = forks.iter().map(Fork::from).min() {
            let first = self.forked.entry(log).or_insert(from);
            *first = from.min(*first);
        }
        let forked = self.forked.get(&log).copied();
        let mut model = lock(&cluster.model);
        let walked = batch.for_each_entry(|id, time, view| {
            if id.seq < from {
                return true;
            }
            let nonce = model.see(id, time, view.payload, topic.level(), site);
            if model.is_two_faced(&id.peer) {
                self.contents.insert(id, Fact { nonce, time });
                self.places.entry((id.log(), id.run)).or_default().insert(site);
            }
            let is_new = self.entries.insert(id);
            // Of what forked under a reader it may be given something again.
            let may_come_again = forked.is_some_and(|from| from <= id.seq);
            assert!(
                is_new || may_come_again,
                "P5: {id:?} came twice at {site}, which has {}",
                runs_at(cluster, site, &id.log())
            );
            let reached = self.reached.insert((id.log(), id.run), id.seq);
            assert!(reached < Some(id.seq) || may_come_again, "P5: {id:?} came behind its successor");
            true
        });
        assert_eq!(walked, Ok(()), "P7: damaged bytes were served");
    }
}

/// P5: nothing of a gap is there to be had: what is told as trimmed may be, each entry of it, and what is told as lost nobody
/// has.
fn check_gap(cluster: &Cluster, site: usize, topic: Topic, gap: &Gap) {
    let all = cluster.all_live();
    let model = lock(&cluster.model);
    let (peer, run) = (gap.peer, gap.run);
    let id = |seq| EntryId { topic: topic.id(), peer, run, seq };
    let may_be = match (gap.reason, all.get(&site)) {
        // What peers wrote whose runs forked may have other names by now.
        (GapReason::Trimmed, Some(live)) if !model.is_two_faced(&peer) => {
            let known = model.facts_between(&id(gap.from), gap.until);
            let kept = known.into_iter().find(|id| !may_be_trimmed(&model, &all, live, id));
            let last = model.is_trimmed(topic.id());
            assert!(
                last && kept.is_none(),
                "P5: {site} tells as trimmed what is kept, {kept:?}: {gap:?}; {}",
                kept.map_or_else(String::new, |id| check::told(live, &id))
            );
            true
        }
        (GapReason::Trimmed, _) => model.is_trimmed(topic.id()),
        // Declared so by its peer, which nobody does for what anybody has.
        (GapReason::Lost, _) => (gap.from.0..gap.until.0).all(|seq| !model.is_owed(&id(Seq(seq)), None)),
        _ => false,
    };
    drop(model);
    assert!(may_be, "P5: {site} tells of a gap without a cause: {gap:?}");
}

/// A reader that goes on for as long as the run lasts.
pub struct Follower {
    cluster: Arc<Cluster>,
    random: Random,
    topic: Topic,
    sites: Vec<usize>,
    /// Whether it also goes to sites that there were not at first.
    is_everywhere: bool,
    at: usize,
    cursor: Option<Cursor>,
    /// A bug put in on purpose: where it got to is not kept.
    forgets: bool,
    given: Arc<Mutex<Given>>,
}

/// What became of a call.
enum Next {
    /// Nothing more is held now.
    Nothing,
    /// There was something.
    Some,
    /// The peer is gone, or cannot.
    Gone,
}

impl Follower {
    /// A reader of `topic` that begins at the first of `sites`, and what it is given.
    pub fn new(cluster: Arc<Cluster>, topic: Topic, sites: Vec<usize>) -> (Self, Arc<Mutex<Given>>) {
        let (random, at, given) = (cluster.fork(), sites[0], Arc::<Mutex<Given>>::default());
        let (cursor, forgets, is_everywhere) = (None, false, false);
        let follower =
            Self { cluster, random, topic, sites, is_everywhere, at, cursor, forgets, given: given.clone() };
        (follower, given)
    }

    /// One that goes to all sites, also those that come later.
    pub fn everywhere(self) -> Self {
        Self { is_everywhere: true, ..self }
    }

    /// With a bug put in on purpose: where it got to is not kept.
    pub fn forgetting(self, forgets: bool) -> Self {
        Self { forgets, ..self }
    }

    /// Follows.
    pub async fn work(mut self) {
        loop {
            self.visit().await;
            let pause = self.random.between(100, 1_000);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            if self.is_everywhere {
                self.sites = (0..self.cluster.site_count()).collect();
            }
            self.at = *self.random.pick(&self.sites);
        }
    }

    /// Reads at one peer until it is gone or this reader moves on.
    async fn visit(&mut self) {
        let Some(live) = self.cluster.live(self.at) else { return };
        let from = match &self.cursor {
            None => ReadFrom::Start,
            Some(cursor) => {
                ReadFrom::Cursor(cursor.to_string().parse().expect("a cursor survives being a word"))
            }
        };
        let name = self.topic.name();
        let reader = live.life.unless_ended(live.handle.reader(&name, from, false)).await;
        let Some(Ok(mut reader)) = reader else { return };
        let positions = self.cursor.iter().flat_map(|cursor| &cursor.positions);
        let positions: Vec<String> =
            positions.map(|p| format!("{}.{}/{}", p.peer.short(), p.run.short(), p.next)).collect();
        let (site, positions) = (self.at, positions.join(" "));
        self.cluster.recorder.note(format_args!("reader of {name} at {site} from {positions}"));
        loop {
            let bytes_max = self.random.between(1, 60_000) as usize;
            let next = live.life.unless_ended(reader.next(bytes_max)).await;
            match self.take(&reader, next) {
                Next::Some => {}
                Next::Gone => return,
                Next::Nothing if self.sites.len() > 1 && self.random.one_in(50) => return,
                Next::Nothing => {
                    let change = live.life.unless_ended(reader.changed());
                    // Whether it changed or not, it is looked at again.
                    let _ = tokio::time::timeout(Duration::from_secs(5), change).await;
                }
            }
        }
    }

    fn take(&mut self, reader: &TopicReader, next: Option<Result<Vec<ReadItem>, ReadError>>) -> Next {
        let Some(Ok(items)) = next else { return Next::Gone };
        if items.is_empty() {
            return Next::Nothing;
        }
        let mut given = lock(&self.given);
        items.into_iter().for_each(|item| given.take(&self.cluster, self.at, self.topic, item));
        if !(self.forgets && self.cursor.is_some()) {
            self.cursor = Some(reader.cursor());
        }
        Next::Some
    }
}

/// What a site knows of the runs of a log: each with the run it goes on from, its first number, start and end.
pub fn runs_at(cluster: &Cluster, site: usize, log: &LogId) -> String {
    let Some(log) = cluster.live(site).and_then(|live| live.handle.store().log(log)) else {
        return "nothing of it".to_owned();
    };
    let state = log.look();
    state.runs.iter().map(crate::cluster::check::told_run).collect::<Vec<_>>().join(", ")
}
