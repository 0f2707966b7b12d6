//! Removals that meet: each other, what the removed peer wrote in `$catalog`, deletions.
use crate::cluster::faults::Power;
use crate::cluster::scenarios::removals::{ends_at, peer_of, remove, remove_with, ways};
use crate::cluster::scenarios::{append, end_alike, pass, tell};
use crate::cluster::{CLUSTER, Cluster, JOBS, Setup, check};
use conveyor::base::{EntryKind, LogId, PeerId, SignedRemoval, TopicId, TopicName, TopicSettings};
use conveyor::log::topic_reader::Start;
use conveyor::log::{ReadItem, TopicReader};
use conveyor::wire::outcome::TopicChange;
use std::collections::BTreeSet;

/// The peers that `author` says in its `$catalog` log are removed, as a site holds it.
fn said(cluster: &Cluster, site: usize, author: usize) -> BTreeSet<PeerId> {
    let topic = TopicId::of(CLUSTER, TopicName::catalog().as_str());
    let (by, mut said) = (peer_of(cluster, author), BTreeSet::new());
    let store = cluster.live(site).expect("it is up").handle.store().clone();
    let mut reader = TopicReader::open(store, CLUSTER, topic, Start::Oldest, false).expect("a topic");
    loop {
        let items = reader.next(64 << 10).expect("it can be read");
        if items.is_empty() {
            return said;
        }
        for item in items {
            let ReadItem::Batch { batch, .. } = item else { continue };
            let walked = batch.for_each_entry(|id, _, view| {
                if id.peer == by && view.kind == EntryKind::PeerRemove {
                    said.extend(SignedRemoval::decode(view.payload).map(|signed| signed.removal.peer));
                }
                true
            });
            walked.expect("it was checked");
        }
    }
}

/// Two peers are removed, each at the other, while the cluster is in two parts. Each removal cuts off the log that carries the
/// other one; both come to all who are left, also those that are started later.
#[test]
fn removals_that_cut_off_each_other_come_to_everyone() {
    tell(40, Setup::alike(4), |cluster| async move {
        cluster.start_all();
        pass(3).await;
        append(&cluster, 0, 5).await;
        append(&cluster, 1, 5).await;
        end_alike(&cluster).await;
        cluster.network.block(ways(&[(0, 1), (0, 3), (2, 1), (2, 3)]));
        pass(10).await;
        remove(&cluster, 1, &[0, 2], 2).await;
        remove(&cluster, 0, &[1, 3], 2).await;
        pass(20).await;
        cluster.network.block([].into());
        pass(40).await;
        let (left, gone) =
            (BTreeSet::from([2, 3]), BTreeSet::from([0, 1].map(|site| peer_of(&cluster, site))));
        for _ in 0..2 {
            check::check_among(&cluster, &left);
            for (site, author) in [(2, 2), (2, 3), (3, 2), (3, 3)] {
                assert_eq!(said(&cluster, site, author), gone, "P8: what {author} says at {site}");
            }
            for site in [2, 3] {
                cluster.crash(site, Power::Lost).await;
                cluster.start(site);
            }
            pass(30).await;
        }
    });
}

/// Who took a removal is removed itself, by an administrator who asks one that has not heard of the first. Somebody else has, and
/// carries it on.
#[test]
fn a_removal_outlives_the_peer_that_took_it() {
    tell(41, Setup::alike(4), |cluster| async move {
        cluster.start_all();
        pass(3).await;
        append(&cluster, 1, 5).await;
        end_alike(&cluster).await;
        cluster.network.block(ways(&[(0, 3), (1, 3), (2, 3)]));
        pass(10).await;
        remove(&cluster, 1, &[0, 2], 2).await;
        pass(10).await;
        cluster.crash(0, Power::Lost).await;
        remove(&cluster, 0, &[3], 2).await;
        cluster.network.block([].into());
        pass(40).await;
        check::check_among(&cluster, &BTreeSet::from([2, 3]));
        let gone = BTreeSet::from([0, 1].map(|site| peer_of(&cluster, site)));
        assert_eq!((said(&cluster, 3, 2), said(&cluster, 2, 3)), (gone.clone(), gone), "P8");
    });
}

/// A removed peer wrote in `$catalog` beyond its ends, and one holder had that. It counts there as little as elsewhere, while the
/// peer runs and after a start.
#[test]
fn what_a_removed_peer_set_beyond_its_removal_is_set_nowhere() {
    tell(42, Setup::alike(3), |cluster| async move {
        cluster.start_all();
        pass(3).await;
        append(&cluster, 0, 5).await;
        end_alike(&cluster).await;
        cluster.network.block(ways(&[(0, 1), (1, 2)]));
        pass(10).await;
        let (topic, settings) = (TopicName::new("late").expect("a name"), TopicSettings::default());
        let change = TopicChange::Create { topic: topic.clone(), settings };
        cluster.live(0).expect("it is up").handle.change_topic(change).await.expect("it is new");
        pass(10).await;
        let is_set = |site: usize| {
            cluster
                .live(site)
                .expect("it is up")
                .handle
                .topic(&topic)
                .is_some_and(|topic| topic.is_configured)
        };
        assert!(is_set(2) && !is_set(1));
        cluster.crash(0, Power::Lost).await;
        remove(&cluster, 0, &[1], 1).await;
        cluster.network.block([].into());
        for _ in 0..2 {
            pass(30).await;
            assert_eq!((is_set(1), is_set(2)), (false, false), "P8");
            for site in [1, 2] {
                cluster.crash(site, Power::Lost).await;
                cluster.start(site);
            }
        }
    });
}

/// A topic is deleted where the successor of a removed peer does not reach. It hears of the deletion, and has the entries only
/// then: they are trimmed all the same.
#[test]
fn a_deletion_is_carried_out_for_entries_that_reach_the_successor_later() {
    for [peer, successor, other] in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        tell(43, Setup::alike(3), move |cluster| async move {
            cluster.start_all();
            pass(3).await;
            append(&cluster, peer, 5).await;
            end_alike(&cluster).await;
            cluster.network.block(ways(&[(peer, successor), (other, successor)]));
            append(&cluster, peer, 100).await;
            pass(10).await;
            cluster.crash(peer, Power::Stays).await;
            let ends = ends_at(&cluster, peer, &[other]);
            remove_with(&cluster, peer, ends, successor, successor).await;
            pass(5).await;
            cluster.delete(other, JOBS).await;
            pass(5).await;
            cluster.network.block([].into());
            pass(30).await;
            check::check_among(&cluster, &BTreeSet::from([successor, other]));
            let log = LogId { topic: JOBS.id(), peer: peer_of(&cluster, peer) };
            for site in [successor, other] {
                let log = cluster.live(site).and_then(|live| live.handle.store().log(&log));
                let (start, until) =
                    log.map(|log| (log.look().start, log.look().until())).expect("it is known");
                assert_eq!(start, until, "P4: {site} keeps some of a deleted topic");
            }
        });
    }
}
