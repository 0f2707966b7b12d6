//! Consumers of a group: they work, crash, stall, give back, and acknowledge here or at another peer; and what must hold of it.
use crate::cluster::model::nonce_of;
use crate::cluster::site::Live;
use crate::cluster::{CLUSTER, Cluster, JOBS, Topic, lock};
use crate::random::Random;
use conveyor::base::{EntryId, EntryView, GroupName};
use conveyor::log::topic_reader::Start;
use conveyor::log::{ReadItem, TopicReader};
use conveyor::runtime::Leased;
use conveyor::wire::group::{Delivery, GroupAnswer, GroupError, GroupRequest, GroupSettings};
use conveyor::wire::outcome::ReadFrom;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The topic whose entries are worked on.
pub const WORKED: Topic = JOBS;

/// How long after an acknowledgement what is handed out cannot have been leased before.
const LATE: Duration = Duration::from_millis(500);

/// How long leases of a simulation last.
pub const LEASE_MS: u64 = 4_000;

/// The group of every simulation.
pub fn group() -> GroupName {
    GroupName::new("workers").expect("a legal name")
}

/// What a consumer does.
#[derive(Debug, Clone)]
pub struct Habits {
    /// The sites it works at.
    pub sites: Vec<usize>,
    /// Entries it takes at once, at most.
    pub count_max: u32,
    /// Milliseconds of work for each, on average.
    pub work_ms: u64,
    /// In one of so many it goes away with what it has; 0: never.
    pub goes_one_in: u64,
    /// In one of so many it works for longer than its lease; 0: never.
    pub stalls_one_in: u64,
    /// In one of so many it gives back; 0: never.
    pub nacks_one_in: u64,
    /// In one of so many it acknowledges at another site; 0: never.
    pub elsewhere_one_in: u64,
}

impl Habits {
    /// One that does what it should.
    pub fn good(sites: &[usize]) -> Self {
        Self {
            sites: sites.to_vec(),
            count_max: 4,
            work_ms: 50,
            goes_one_in: 0,
            stalls_one_in: 0,
            nacks_one_in: 0,
            elsewhere_one_in: 0,
        }
    }

    /// One that does all of it wrong now and then.
    pub fn bad(sites: &[usize]) -> Self {
        Self { goes_one_in: 9, stalls_one_in: 11, nacks_one_in: 7, elsewhere_one_in: 5, ..Self::good(sites) }
    }
}

/// What was handed out, and what was acknowledged.
#[derive(Debug, Default)]
pub struct Work {
    /// For each entry how often consumers received it, and when last.
    pub handed: BTreeMap<EntryId, u64>,
    /// Acknowledgements that were confirmed, each with the site that did, and when it did.
    pub acked: BTreeMap<EntryId, (usize, Instant)>,
    /// Acknowledgements that were asked for: one whose answer was lost may count all the same.
    pub asked: BTreeSet<EntryId>,
    /// What clients meant by the entries: one that a client appended twice, at two peers, is handed out once.
    pub meant: BTreeMap<EntryId, u64>,
    /// What one peer handed out though it had confirmed long before that it is done.
    pub again: BTreeSet<EntryId>,
    /// How many waits ended with nothing.
    pub empty: u64,
}

/// A consumer.
pub struct Worker {
    cluster: Arc<Cluster>,
    random: Random,
    habits: Habits,
    work: Arc<Mutex<Work>>,
}

/// Makes the group at a site, from the start, unless it is there; whether it is there then.
pub async fn create(cluster: &Arc<Cluster>, site: usize) -> bool {
    let settings = GroupSettings { lease_ms: LEASE_MS, ..GroupSettings::default() };
    let create = GroupRequest::Create { from: ReadFrom::Start, settings };
    let Some(live) = cluster.live(site) else { return false };
    let made = ask(&live, 0, create, 10_000).await;
    cluster.recorder.note(format_args!("{site} makes the group: {made:?}"));
    matches!(made, Some(Ok(_)))
}

impl Worker {
    /// A consumer with these habits.
    pub fn new(cluster: Arc<Cluster>, habits: Habits, work: Arc<Mutex<Work>>) -> Self {
        let random = cluster.fork();
        Self { cluster, random, habits, work }
    }

    fn one_in(&mut self, count: u64) -> bool {
        count > 0 && self.random.one_in(count)
    }

    /// Works for as long as the run lasts.
    pub async fn work(mut self) {
        loop {
            let pause = self.random.below(20);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.take(5_000).await;
        }
    }

    /// Takes some entries once, and does with them as it does; how many they were.
    pub async fn take(&mut self, wait_ms: u64) -> usize {
        let at = *self.random.pick(&self.habits.sites);
        let Some(live) = self.cluster.live(at) else { return 0 };
        let (consumer, count_max) = (live.handle.group_consumer(), self.habits.count_max);
        let next =
            GroupRequest::Next { count_max, bytes_max: 1 << 20, lease_ms: None, wait_ms, acked: vec![] };
        let asked = ask_for(&live, consumer, next, wait_ms + 10_000).await;
        let Some(Ok((GroupAnswer::Leased(leased), entries))) = asked else { return 0 };
        for raw in &entries {
            let nonce = EntryView::parse(&raw.raw).ok().and_then(|view| nonce_of(view.payload));
            lock(&self.work).meant.extend(nonce.map(|nonce| (raw.id, nonce)));
        }
        if leased.is_empty() {
            lock(&self.work).empty += 1;
        }
        for delivery in &leased {
            self.note_handed(at, delivery);
        }
        for delivery in &leased {
            if !self.carry_out(at, &live, *delivery).await {
                break;
            }
        }
        live.handle.group_left(&WORKED.name(), consumer);
        leased.len()
    }

    fn note_handed(&self, at: usize, delivery: &Delivery) {
        let (id, attempt) = (delivery.lease.id, delivery.attempt);
        let mut work = lock(&self.work);
        *work.handed.entry(id).or_default() += 1;
        // Another peer may have leased it before it heard of that; and so may this one, a moment before.
        let is_late = |(_, when): &(usize, Instant)| when.elapsed() > LATE;
        if self.cluster.site_count() == 1 && work.acked.get(&id).is_some_and(is_late) {
            work.again.insert(id);
        }
        drop(work);
        let run = id.run.short();
        self.cluster.recorder.note(format_args!("{at} hands out {run}/{} (attempt {attempt})", id.seq));
    }

    /// Whether it goes on.
    async fn carry_out(&mut self, at: usize, live: &Live, delivery: Delivery) -> bool {
        let pause = self.random.below(2 * self.habits.work_ms + 1);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if self.one_in(self.habits.goes_one_in) {
            return false;
        }
        if self.one_in(self.habits.stalls_one_in) {
            tokio::time::sleep(Duration::from_millis(LEASE_MS + self.random.below(LEASE_MS))).await;
        }
        if self.one_in(self.habits.nacks_one_in) {
            let (delay_ms, counts) = (Some(self.random.below(3_000)), self.random.one_in(2));
            let nack = GroupRequest::Nack { leases: vec![delivery.lease], delay_ms, counts };
            ask(live, 0, nack, 10_000).await;
            return true;
        }
        let elsewhere = self.one_in(self.habits.elsewhere_one_in);
        let site = if elsewhere { self.random.below(self.cluster.site_count() as u64) as usize } else { at };
        self.ack(site, delivery.lease.id).await;
        true
    }

    async fn ack(&self, site: usize, id: EntryId) {
        let Some(live) = self.cluster.live(site) else { return };
        lock(&self.work).asked.insert(id);
        let asked = ask(&live, 0, GroupRequest::Ack { ids: vec![id] }, 10_000).await;
        if let Some(Ok(GroupAnswer::Acked(_))) = asked {
            lock(&self.work).acked.insert(id, (site, Instant::now()));
            let run = id.run.short();
            self.cluster.recorder.note(format_args!("{site} confirms that {run}/{} is done", id.seq));
        }
    }
}

async fn ask(
    live: &Live,
    consumer: u64,
    request: GroupRequest,
    patience_ms: u64,
) -> Option<Result<GroupAnswer, GroupError>> {
    ask_for(live, consumer, request, patience_ms).await.map(|answered| answered.map(|(answer, _)| answer))
}

async fn ask_for(
    live: &Live,
    consumer: u64,
    request: GroupRequest,
    patience_ms: u64,
) -> Option<Result<Leased, GroupError>> {
    let topic = WORKED.name();
    let group = group();
    let asked = live.handle.group(&topic, &group, consumer, request);
    let asked = timeout(Duration::from_millis(patience_ms), live.life.unless_ended(asked)).await;
    asked.ok().flatten()
}

/// Once all peers hold the same: what is left is worked on to its end, nothing that was acknowledged comes again (`acks_hold`: no
/// disk was lost that had said so), and every entry that can be read was handed out and done.
pub async fn check_worked(cluster: &Arc<Cluster>, work: &Arc<Mutex<Work>>, acks_hold: bool) {
    let sites: Vec<usize> = cluster.all_live().keys().copied().collect();
    let done: BTreeSet<EntryId> = match acks_hold {
        true => lock(work).acked.keys().copied().collect(),
        false => BTreeSet::new(),
    };
    let before: BTreeMap<EntryId, u64> = lock(work).handed.clone();
    let mut worker = Worker::new(
        cluster.clone(),
        Habits { count_max: 64, work_ms: 0, ..Habits::good(&sites) },
        work.clone(),
    );
    // Leases that are still out end meanwhile, and so do delays.
    let (until, mut quiet) = (Instant::now() + Duration::from_secs(600), Instant::now());
    while quiet.elapsed() < Duration::from_millis(4 * LEASE_MS) {
        assert!(Instant::now() < until, "P6: the group never comes to an end");
        if worker.take(1_000).await > 0 {
            quiet = Instant::now();
        }
    }
    let work = lock(work);
    for (id, count) in &work.handed {
        let again = (done.contains(id) && before.get(id) != Some(count)) || work.again.contains(id);
        assert!(
            !(acks_hold && again),
            "P6: {} of run {} was acknowledged and is handed out again",
            id.seq,
            id.run
        );
    }
    let nonces = |ids: &mut dyn Iterator<Item = &EntryId>| -> BTreeSet<u64> {
        ids.filter_map(|id| work.meant.get(id).copied()).collect()
    };
    let (handed, asked) = (nonces(&mut work.handed.keys()), nonces(&mut work.asked.iter()));
    for (site, live) in cluster.all_live() {
        for (id, nonce) in written(&live).expect("a disk that reads") {
            assert!(
                handed.contains(&nonce),
                "P6: {} of run {} at {site} was handed to nobody",
                id.seq,
                id.run
            );
            assert!(asked.contains(&nonce), "P6: {} of run {} at {site} was never done", id.seq, id.run);
        }
    }
}

/// What can be read at a site, and what clients meant by it.
fn written(live: &Live) -> std::io::Result<BTreeMap<EntryId, u64>> {
    let (store, mut found) = (live.handle.store().clone(), BTreeMap::new());
    let mut reader = TopicReader::open(store, CLUSTER, WORKED.id(), Start::Oldest, false)?;
    loop {
        let items = reader.next(64 << 10)?;
        if items.is_empty() {
            return Ok(found);
        }
        for item in items {
            let ReadItem::Batch { batch, from, .. } = item else { continue };
            let walked = batch.for_each_entry(|id, _, view| {
                found.extend(nonce_of(view.payload).filter(|_| id.seq >= from).map(|nonce| (id, nonce)));
                true
            });
            assert_eq!(walked, Ok(()), "P7: damaged bytes were served");
        }
    }
}
