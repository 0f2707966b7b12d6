//! One run that two processes write: a machine was resumed from a snapshot in the middle of it.
use crate::cluster::faults::Power;
use crate::cluster::follower::{Follower, runs_at};
use crate::cluster::life::spawn;
use crate::cluster::model::payload;
use crate::cluster::scenarios::{append, end_alike, pass, tell, tell_and_plant};
use crate::cluster::{CLUSTER, Cluster, JOBS, Setup, check, lock};
use conveyor::base::name::short_run;
use conveyor::base::planted::Bug;
use conveyor::base::{
    Chunk, ChunkBuilder, Codec, Durability, Entry, EntryId, EntryRef, EntryView, LogId, ProducerId,
};
use conveyor::log::topic_reader::Start;
use conveyor::log::{ReadItem, TopicReader};
use conveyor::wire::outcome::{Appended, ReadError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One site more, which is the first, resumed from a snapshot: the runs that the two draw next are the same. It reaches those
/// named, and the first reaches all others.
pub(super) async fn resumed(cluster: &Arc<Cluster>, reached: &[usize]) -> usize {
    cluster.start_all();
    pass(3).await;
    append(cluster, 0, 5).await;
    pass(10).await;
    cluster.crash(0, Power::Stays).await;
    cluster.resume(0);
    copied(cluster, reached).await
}

/// The same of a machine in the middle of a run, which goes on from one before.
async fn resumed_amid(cluster: &Arc<Cluster>, reached: &[usize]) -> usize {
    cluster.start_all();
    pass(3).await;
    append(cluster, 0, 5).await;
    cluster.crash(0, Power::Stays).await;
    cluster.start_all();
    append(cluster, 0, 5).await;
    pass(10).await;
    cluster.crash(0, Power::Stays).await;
    cluster.resume_amid(0, false);
    copied(cluster, reached).await
}

pub(super) async fn copied(cluster: &Arc<Cluster>, reached: &[usize]) -> usize {
    let copy = cluster.copy(0, &cluster.backup(0));
    let here: Vec<usize> = (0..copy).filter(|site| !reached.contains(site)).collect();
    cut(cluster, &here, &[reached, &[copy]].concat());
    cluster.start_all();
    pass(3).await;
    copy
}

pub(super) fn cut(cluster: &Cluster, some: &[usize], others: &[usize]) {
    let both = |a: &usize| others.iter().flat_map(|b| [(*a, *b), (*b, *a)]).collect::<Vec<_>>();
    cluster.network.block(some.iter().flat_map(both).collect::<BTreeSet<_>>());
}

/// A machine of which two snapshots are resumed, each in another part of the network with a peer of its own: three processes
/// of one peer that draw the same run next. The sites in the order of the parts.
async fn resumed_twice(cluster: &Arc<Cluster>) -> [usize; 3] {
    cluster.start_all();
    pass(3).await;
    cluster.crash(0, Power::Stays).await;
    let image = cluster.backup(0);
    let mut sites = [0; 3];
    for site in &mut sites[1..] {
        cluster.resume(0);
        *site = cluster.copy(0, &image);
    }
    let parts = [[0, 1], [sites[1], 2], [sites[2], 3]].map(|part| part.to_vec());
    let cuts = parts.iter().flat_map(|a| parts.iter().filter(move |b| *b != a).map(move |b| (a, b)));
    let pairs = cuts.flat_map(|(some, others)| some.iter().flat_map(|a| others.iter().map(|b| (*a, *b))));
    cluster.network.block(pairs.collect());
    cluster.start_all();
    pass(3).await;
    sites
}

/// One append of which the model is told nothing.
async fn write(cluster: &Cluster, site: usize) -> Appended {
    write_one(cluster, site).await.0
}

/// The same, and what was written.
pub(super) async fn write_one(cluster: &Cluster, site: usize) -> (Appended, u64) {
    let nonce = lock(&cluster.model).attempt();
    let mut builder = ChunkBuilder::new();
    builder.push(&Entry::from(payload(nonce))).expect("a small entry");
    let chunk = Chunk::parse(builder.finish(Codec::None)).expect("a chunk that was just built");
    let handle = cluster.live(site).expect("it is up").handle;
    (handle.append(JOBS.name(), None, chunk).await.expect("it takes appends"), nonce)
}

/// What is read at a site: what each name stands for.
pub(super) fn read(cluster: &Cluster, site: usize) -> BTreeMap<EntryId, u64> {
    let store = cluster.live(site).expect("it is up").handle.store().clone();
    let mut reader = TopicReader::open(store, CLUSTER, JOBS.id(), Start::Oldest, false).expect("a topic");
    let mut given = BTreeMap::new();
    loop {
        let items = reader.next(64 << 10).expect("it can be read");
        if items.is_empty() {
            return given;
        }
        for item in items {
            let ReadItem::Batch { batch, from, .. } = item else {
                let logs = cluster.live(site).map(|live| live.handle.store().logs_of(JOBS.id()));
                let runs = logs.into_iter().flatten().map(|log| runs_at(cluster, site, &log.id));
                panic!("P5: {item:?} at {site}, which has {:?}", runs.collect::<Vec<_>>())
            };
            let walked = batch.for_each_entry(|id, _, view| {
                let nonce = view.payload.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                let before = if id.seq < from { None } else { given.insert(id, nonce) };
                assert_eq!(before, None, "P2: {id:?} was read twice at {site}");
                true
            });
            walked.expect("a good batch");
        }
    }
}

/// All that was written is read at every site, and each name stands for the same everywhere.
fn check_written(cluster: &Cluster, written: &BTreeSet<u64>) {
    let first = read(cluster, 0);
    for site in 0..cluster.site_count() {
        let given = read(cluster, site);
        let nonces: BTreeSet<u64> = given.values().copied().collect();
        let lost: Vec<&u64> = written.difference(&nonces).collect();
        assert!(lost.is_empty(), "P1: {lost:?} were acknowledged and are not at {site}");
        assert_eq!(given, first, "P4: 0 and {site} hold different entries");
    }
}

/// Whoever asks for an entry by the name that it was acknowledged under is told which two it may be.
async fn check_told(cluster: &Cluster, appended: &Appended, count: usize) {
    let Appended { peer, run, first_seq: seq, .. } = *appended;
    let id: EntryRef = EntryRef::parse(&format!("{}/{peer}.{run}/{seq}", JOBS.name())).expect("an id");
    for live in cluster.all_live().into_values() {
        let got = live.handle.get(&id).await;
        let Err(ReadError::Forked { branches, .. }) = got else { panic!("P2: {id} is {got:?}") };
        assert_eq!(branches.len(), count, "P2: {id} stands for {branches:?}");
        for branch in branches {
            let typed = branch.to_string();
            assert!(typed.contains(&format!(".{run}~")), "{typed} names no branch of {run}");
            let got = live.handle.get(&EntryRef::parse(&typed).expect("an id")).await;
            assert!(got.is_ok(), "P1: {branch} is {got:?}");
        }
    }
}

#[test]
fn whoever_hears_that_another_process_writes_its_run_goes_on_in_a_new_one() {
    tell_and_plant(120, Setup::alike(2), &[(Bug::RunsAreNeverLeft, "P2")], |cluster| async move {
        let copy = resumed(&cluster, &[]).await;
        let (first, other) = (write(&cluster, 0).await, write(&cluster, copy).await);
        assert_eq!((first.run, first.first_seq), (other.run, other.first_seq), "the snapshot goes on alike");
        for _ in 0..5 {
            write(&cluster, copy).await;
        }
        cluster.network.block([].into());
        pass(10).await;
        let (after, other_after) = (write(&cluster, 0).await, write(&cluster, copy).await);
        assert_ne!(after.run, first.run, "P2: 0 goes on in a run that {copy} writes too");
        assert_ne!((after.run, after.first_seq), (other_after.run, other_after.first_seq), "P2: two names");
        pass(30).await;
        // Which is enough: neither writes the other's run any more.
        let (last, other_last) = (write(&cluster, 0).await, write(&cluster, copy).await);
        assert_ne!(last.run, other_last.run, "P2: both go on in one run");
    });
}

/// Both sides go on in one run while they are cut off from each other, each with a peer that holds what it writes. When they
/// meet all peers hold both, under names that stand for one thing each, and readers are given all of it.
#[test]
fn what_both_sides_of_a_snapshot_wrote_in_one_run_is_held_and_read_everywhere() {
    tell_and_plant(121, Setup::alike(3), &[(Bug::ForksUnseen, "P1")], |cluster| async move {
        let copy = resumed(&cluster, &[2]).await;
        let (follower, given) = Follower::new(cluster.clone(), JOBS, vec![1, 2]);
        let mut written = BTreeSet::new();
        write(&cluster, 0).await;
        let mut last = write(&cluster, copy).await;
        for (site, count) in [(0, 10), (copy, 10)] {
            for _ in 0..count {
                let (appended, nonce) = write_one(&cluster, site).await;
                (last, _) = (appended, written.insert(nonce));
            }
        }
        spawn(&cluster.recorder, follower.work());
        pass(10).await;
        cluster.network.block([].into());
        end_alike(&cluster).await;
        check_written(&cluster, &written);
        check_told(&cluster, &last, 2).await;
        for site in [0, copy] {
            written.insert(write_one(&cluster, site).await.1);
        }
        // Whoever starts again knows of it.
        for site in [0, 1, 2, copy] {
            cluster.crash(site, Power::Lost).await;
        }
        cluster.start_all();
        for site in [0, copy] {
            written.insert(write_one(&cluster, site).await.1);
        }
        end_alike(&cluster).await;
        check_written(&cluster, &written);
        check::check_followed(&cluster, 1, JOBS, &given);
    });
}

/// The snapshot was taken in the middle of a run: both machines go on in it, from the same number, and it forks there.
#[test]
fn two_machines_that_go_on_from_the_middle_of_a_run_are_read_as_two_branches_from_there_on() {
    tell_and_plant(124, Setup::alike(3), &[(Bug::ForksUnseen, "P1")], |cluster| async move {
        let copy = resumed_amid(&cluster, &[2]).await;
        let (follower, given) = Follower::new(cluster.clone(), JOBS, vec![1, 2]);
        spawn(&cluster.recorder, follower.work());
        let runs = |site: usize| -> BTreeSet<_> {
            let log =
                LogId { topic: JOBS.id(), peer: cluster.live(0).expect("it is up").handle.about().peer };
            let log = cluster.live(site).and_then(|live| live.handle.store().log(&log)).expect("it is held");
            log.look().runs.iter().map(|run| (run.id, run.parent, run.from)).collect()
        };
        let before = runs(1);
        let (mut written, mut last) = (BTreeSet::new(), None);
        for site in [0, copy].repeat(10) {
            let (appended, nonce) = write_one(&cluster, site).await;
            (last, _) = (Some(appended), written.insert(nonce));
        }
        let last = last.expect("something was written");
        assert!(before.iter().any(|(run, parent, _)| *run == last.run && parent.is_some()));
        assert_eq!((runs(1), runs(2)), (before.clone(), before), "neither opens a run");
        pass(10).await;
        cluster.network.block([].into());
        end_alike(&cluster).await;
        check_written(&cluster, &written);
        check_told(&cluster, &last, 2).await;
        for site in [0, 1, 2, copy] {
            cluster.crash(site, Power::Lost).await;
        }
        cluster.start_all();
        for site in [0, copy] {
            written.insert(write_one(&cluster, site).await.1);
        }
        end_alike(&cluster).await;
        check_written(&cluster, &written);
        check::check_followed(&cluster, 1, JOBS, &given);
    });
}

/// Seed 802: nobody forks, since one of the two machines writes nothing; it has all that the other wrote in the run, batch
/// behind batch, at once.
#[test]
fn what_another_machine_wrote_alone_in_a_run_that_both_are_in_is_had_in_one_go() {
    tell(126, Setup::alike(2), |cluster| async move {
        let copy = resumed_amid(&cluster, &[1]).await;
        let mut written = BTreeSet::new();
        for _ in 0..40 {
            written.insert(write_one(&cluster, 0).await.1);
        }
        cluster.network.block([].into());
        end_alike(&cluster).await;
        check_written(&cluster, &written);
        written.insert(write_one(&cluster, copy).await.1);
        end_alike(&cluster).await;
        check_written(&cluster, &written);
    });
}

/// Whoever watches a peer sees it, and so does whoever looks at the topic.
fn check_alarmed(cluster: &Cluster, branches: usize) {
    for (site, live) in cluster.all_live() {
        let counted = live.handle.store().counters.forks_found.load(Ordering::Relaxed);
        assert!(counted > 0 && live.handle.status().fork_count > 0, "{site} counts no forks");
        let info = live.handle.topic(&JOBS.name()).expect("a topic");
        let forks = info.logs.iter().flat_map(|log| &log.forks);
        let told: BTreeSet<_> = forks.flat_map(|fork| &fork.branches).collect();
        assert_eq!(told.len(), branches, "{site} tells of {told:?}");
    }
}

/// The very first entry of a log is signed three times, by processes that never hear of each other until each has gone on. Then
/// one of them loses its checkpoint.
#[test]
fn three_machines_that_began_a_log_with_the_same_run_are_read_as_three_branches_of_it() {
    tell_and_plant(122, Setup::alike(4), &[(Bug::ForksUnseen, "P1")], |cluster| async move {
        let sites = resumed_twice(&cluster).await;
        let (mut written, mut first) = (BTreeSet::new(), None);
        for site in sites.repeat(4) {
            let (appended, nonce) = write_one(&cluster, site).await;
            first = first.or(Some(appended));
            written.insert(nonce);
        }
        pass(5).await;
        cluster.network.block([].into());
        end_alike(&cluster).await;
        let first = first.expect("something was written");
        assert_eq!(first.first_seq.0, 1);
        check_written(&cluster, &written);
        check_told(&cluster, &first, 3).await;
        check_alarmed(&cluster, 3);
        // Walking its segments one finds the branches again, and hears the rest from its neighbours.
        cluster.stop(2).await;
        cluster.rot_for_good(2, "checkpoint", 4);
        cluster.start_all();
        cluster.read_through(&[2].into()).await;
        end_alike(&cluster).await;
        check_written(&cluster, &written);
        check_told(&cluster, &first, 3).await;
    });
}

/// What another copy of the machine wrote under the same numbers is no copy of what was appended here; and whoever asks for
/// the outcome again is told under which name it is kept now.
#[test]
fn an_append_that_waits_for_copies_while_its_run_forks_gets_them_of_its_own_branch() {
    tell_and_plant(123, Setup::alike(2), &[(Bug::ForksUnseen, "P3")], |cluster| async move {
        let copy = resumed(&cluster, &[1]).await;
        let handle = cluster.live(0).expect("it is up").handle;
        let chunk = |nonce: u64| {
            let mut builder = ChunkBuilder::new();
            let producer = Some((ProducerId(5), 0));
            builder.push(&Entry { producer, ..Entry::from(payload(nonce)) }).expect("a small entry");
            Chunk::parse(builder.finish(Codec::None)).expect("a chunk that was just built")
        };
        let nonce = lock(&cluster.model).attempt();
        // The other copy writes as many entries, and the other peer holds those.
        write(&cluster, copy).await;
        let append = || handle.append(JOBS.name(), Some(Durability::Replicas(2)), chunk(nonce));
        let meet = async {
            pass(2).await;
            cluster.network.block([].into());
        };
        let (appended, ()) = tokio::join!(append(), meet);
        let appended = appended.expect("it has its copies in time");
        let again = append().await.expect("it is there");
        assert!(again.is_repeat);
        for Appended { peer, run, signed_run, first_seq: seq, .. } in [appended, again] {
            let typed = format!("{}/{peer}.{}/{seq}", JOBS.name(), short_run(run, signed_run));
            let id = EntryRef::parse(&typed).expect("an id");
            for site in [0, 1] {
                let got = cluster.live(site).expect("it is up").handle.get(&id).await;
                let is_it = got.as_ref().is_ok_and(|found| {
                    EntryView::parse(&found.raw).is_ok_and(|view| *view.payload == payload(nonce)[..])
                });
                assert!(is_it, "P3: {typed} was acknowledged with two copies and is {got:?} at {site}");
            }
        }
        end_alike(&cluster).await;
    });
}
