//! Peers that are removed for good: what their removal leaves counts everywhere, and nothing else that they wrote.
use crate::cluster::faults::Power;
use crate::cluster::follower::runs_at;
use crate::cluster::scenarios::forks::{read, resumed, write_one};
use crate::cluster::scenarios::{append, end_alike, pass, synced, tell, tell_and_plant, write};
use crate::cluster::surroundings::ADMIN;
use crate::cluster::{CLUSTER, Cluster, JOBS, SECRET, Setup, check, lock};
use conveyor::base::planted::Bug;
use conveyor::base::{
    Chunk, ChunkBuilder, Codec, Entry, LogId, PeerId, Removal, RunEnds, Signed, SignedRemoval, Timestamp,
    TopicName, TopicSettings,
};
use conveyor::identity::{MacVerifier, Signer};
use conveyor::runtime::RemoveError;
use conveyor::wire::outcome::{AppendError, TopicChange, TopicError};
use std::collections::BTreeSet;
use std::sync::Arc;

/// An administrator removes the peer of a site: what the holders that are asked have of it is left.
pub(super) async fn remove(cluster: &Arc<Cluster>, removed: usize, asked: &[usize], successor: usize) {
    remove_with(cluster, removed, ends_at(cluster, removed, asked), asked[0], successor).await;
}

/// What those who are asked have of the peer of a site.
pub(super) fn ends_at(cluster: &Cluster, removed: usize, asked: &[usize]) -> RunEnds {
    let mut ends = RunEnds::new();
    for site in asked {
        let of_site = cluster.live(*site).expect("it is up").handle.run_ends(peer_of(cluster, removed));
        for (at, until) in of_site {
            let known = ends.entry(at).or_insert(until);
            *known = until.max(*known);
        }
    }
    ends
}

/// The same, where it is known what is left; at a site.
pub(super) async fn remove_with(
    cluster: &Arc<Cluster>,
    removed: usize,
    ends: RunEnds,
    at: usize,
    successor: usize,
) {
    let signed = signed(cluster, removed, ends, successor);
    lock(&cluster.model).remove(&signed.removal);
    let handle = cluster.live(at).expect("it is up").handle;
    handle.remove_peer(signed).await.expect("it is signed by an administrator");
}

/// What an administrator signs.
fn signed(cluster: &Cluster, removed: usize, ends: RunEnds, successor: usize) -> SignedRemoval {
    let peer = peer_of(cluster, removed);
    let (successor, time) = (Some(peer_of(cluster, successor)), Timestamp::from_ms(1));
    let removal = Removal { cluster: CLUSTER, peer, successor, time, signer: ADMIN, ends };
    let signature = MacVerifier::new(SECRET).signer(ADMIN).sign(&removal.message());
    SignedRemoval { removal, signature, certificate: ADMIN.as_bytes().as_slice().into() }
}

pub(super) fn peer_of(cluster: &Cluster, site: usize) -> PeerId {
    cluster.with_site(site, |site| site.peer)
}

fn set_aside(cluster: &Cluster, site: usize) -> usize {
    let aside = cluster.live(site).expect("it is up").handle.set_aside();
    aside.iter().flat_map(|(_, ranges)| ranges).map(|range| (range.until.0 - range.from.0) as usize).sum()
}

pub(super) fn ways(pairs: &[(usize, usize)]) -> BTreeSet<(usize, usize)> {
    pairs.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]).collect()
}

/// Of a removed peer one holder has more than the other that was asked. It is set aside; and what the peer writes on, since
/// it knows of nothing, goes to nobody.
#[test]
fn what_a_removed_peer_wrote_beyond_its_removal_counts_nowhere() {
    tell_and_plant(31, Setup::alike(3), &[(Bug::RemovedStillCounts, "P4")], |cluster| async move {
        cluster.start_all();
        pass(3).await;
        append(&cluster, 0, 10).await;
        end_alike(&cluster).await;
        cluster.network.block(ways(&[(0, 1), (1, 2)]));
        append(&cluster, 0, 5).await;
        pass(20).await;
        remove(&cluster, 0, &[1], 1).await;
        append(&cluster, 0, 5).await;
        cluster.network.block([].into());
        pass(30).await;
        // Where it was on its own the peer wrote on.
        cluster.crash(0, Power::Stays).await;
        cluster.start_all();
        append(&cluster, 0, 5).await;
        pass(30).await;
        let others = BTreeSet::from([1, 2]);
        check::check_among(&cluster, &others);
        let (first, second) = (set_aside(&cluster, 1), set_aside(&cluster, 2));
        assert!(first == 0 && second > 0, "P8: {first} and {second} entries are set aside");
        for site in [1, 2] {
            cluster.crash(site, Power::Lost).await;
        }
        cluster.start_all();
        pass(30).await;
        check::check_among(&cluster, &others);
        assert_eq!(set_aside(&cluster, 2), second, "P8: a start forgets what was set aside");
    });
}

/// Two administrators remove it, and the second asks who knows of the first or who does not: what the second leaves beyond the
/// first comes back.
#[test]
fn what_a_second_removal_leaves_is_given_back() {
    for knows_the_first in [false, true] {
        tell(33, Setup::alike(3), move |cluster| async move {
            cluster.start_all();
            pass(3).await;
            append(&cluster, 0, 10).await;
            end_alike(&cluster).await;
            cluster.network.block(ways(&[(0, 1), (1, 2)]));
            append(&cluster, 0, 5).await;
            pass(20).await;
            cluster.crash(0, Power::Stays).await;
            remove(&cluster, 0, &[1], 1).await;
            if knows_the_first {
                cluster.network.block([].into());
                pass(20).await;
                assert!(set_aside(&cluster, 2) > 0);
            }
            remove(&cluster, 0, &[2], 1).await;
            cluster.network.block([].into());
            pass(30).await;
            assert_eq!((set_aside(&cluster, 1), set_aside(&cluster, 2)), (0, 0));
            let others = BTreeSet::from([1, 2]);
            check::check_among(&cluster, &others);
            let log = LogId { topic: JOBS.id(), peer: peer_of(&cluster, 0) };
            let until = |site| {
                cluster.live(site).and_then(|live| Some(live.handle.store().log(&log)?.look().until()))
            };
            assert_eq!(until(1), until(2));
            assert!(until(1) > Some(conveyor::base::Seq(15)), "what only 2 had came to 1");
        });
    }
}

/// A topic is deleted: the log of the removed peer, which cannot trim it, is trimmed by its successor, everywhere; also what
/// was deleted before the peer was removed, which it never heard of.
#[test]
fn the_successor_of_a_removed_peer_trims_its_logs() {
    for is_deleted_before in [false, true] {
        tell(32, Setup::alike(3), move |cluster| async move {
            cluster.start_all();
            pass(3).await;
            append(&cluster, 0, 10).await;
            append(&cluster, 2, 3).await;
            end_alike(&cluster).await;
            cluster.crash(0, Power::Stays).await;
            if is_deleted_before {
                cluster.delete(2, JOBS).await;
                pass(20).await;
            }
            remove(&cluster, 0, &[2, 1], 1).await;
            pass(20).await;
            if !is_deleted_before {
                cluster.delete(2, JOBS).await;
                pass(20).await;
            }
            let others = BTreeSet::from([1, 2]);
            check::check_among(&cluster, &others);
            let log = LogId { topic: JOBS.id(), peer: peer_of(&cluster, 0) };
            for site in others {
                let live = cluster.live(site).expect("it is up");
                let log = live.handle.store().log(&log).expect("it is known");
                let state = log.look();
                assert!(state.start > conveyor::base::Seq::FIRST, "{site} trims nothing");
                assert_eq!(state.start, state.until(), "{site} keeps some of a deleted topic");
            }
        });
    }
}

/// The run of a removed peer has forked, and who was asked knew of one side only. So much of the other is left too, wherever the
/// fork becomes known, and not what that has beyond.
#[test]
fn of_a_run_that_forked_a_removal_leaves_as_much_of_each_side() {
    for forks_first in [false, true] {
        tell(34, Setup::alike(3), move |cluster| async move {
            let copy = resumed(&cluster, &[2]).await;
            let (mut left, mut beyond) = (BTreeSet::new(), BTreeSet::new());
            for _ in 0..5 {
                left.insert(write_one(&cluster, 0).await.1);
            }
            for count in 0..8 {
                let to = if count < 5 { &mut left } else { &mut beyond };
                to.insert(write_one(&cluster, copy).await.1);
            }
            pass(10).await;
            let removal = forks_first.then(|| ends_at(&cluster, 0, &[1]));
            if forks_first {
                cluster.network.block([].into());
                pass(30).await;
            }
            for site in [0, copy] {
                cluster.crash(site, Power::Lost).await;
            }
            let ends = removal.unwrap_or_else(|| ends_at(&cluster, 0, &[1]));
            remove_with(&cluster, 0, ends, 1, 1).await;
            cluster.network.block([].into());
            for _ in 0..2 {
                pass(30).await;
                for site in [1, 2] {
                    let read: BTreeSet<u64> = read(&cluster, site).into_values().collect();
                    let lost: Vec<_> = left.difference(&read).collect();
                    let log = LogId { topic: JOBS.id(), peer: peer_of(&cluster, 0) };
                    let runs = runs_at(&cluster, site, &log);
                    assert!(
                        lost.is_empty(),
                        "P8: {lost:?} are not at {site}, which has {runs}, forks first: {forks_first}"
                    );
                    assert!(read.is_disjoint(&beyond), "P8: {site} gives what the removal does not leave");
                    cluster.crash(site, Power::Lost).await;
                }
                cluster.start(1);
                cluster.start(2);
            }
        });
    }
}

/// A peer hears of its own removal while it writes. It takes nothing more, neither appends nor changes of the catalog nor
/// removals of others, and says why; also after a start. What it was about to write does not bring it down.
#[test]
fn a_peer_that_hears_of_its_own_removal_says_so_and_stays_up() {
    for seed in 35..39 {
        tell(seed, Setup::alike(3), |cluster| async move {
            cluster.start_all();
            pass(3).await;
            append(&cluster, 0, 10).await;
            pass(10).await;
            for _ in 0..4 {
                write(&cluster, synced(&[0]));
            }
            pass(2).await;
            remove(&cluster, 0, &[1], 1).await;
            pass(10).await;
            for _ in 0..2 {
                refuses_all(&cluster, 0).await;
                cluster.crash(0, Power::Stays).await;
                cluster.start(0);
                pass(5).await;
            }
            check::check_among(&cluster, &BTreeSet::from([1, 2]));
        });
    }
}

async fn refuses_all(cluster: &Arc<Cluster>, site: usize) {
    let handle = cluster.live(site).expect("it stays up").handle;
    let mut builder = ChunkBuilder::new();
    builder.push(&Entry::from(b"more".to_vec())).expect("a small entry");
    let chunk = Chunk::parse(builder.finish(Codec::None)).expect("a chunk that was just built");
    let appended = handle.append(JOBS.name(), None, chunk).await;
    assert!(matches!(appended, Err(AppendError::Removed)), "it hears of it: {appended:?}");
    let settings = TopicSettings::default();
    for change in [
        TopicChange::Create { topic: TopicName::new("new").expect("a name"), settings },
        TopicChange::Delete { topic: JOBS.name() },
    ] {
        assert_eq!(handle.change_topic(change).await, Err(TopicError::Removed));
    }
    let of_other = handle.remove_peer(signed(cluster, 2, RunEnds::new(), 1)).await;
    assert_eq!(of_other, Err(RemoveError::Refused(TopicError::Removed)));
    let of_itself = handle.remove_peer(signed(cluster, site, RunEnds::new(), 1)).await;
    assert_eq!(of_itself, Err(RemoveError::Itself));
}
