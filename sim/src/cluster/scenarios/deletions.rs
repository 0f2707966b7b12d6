//! Deletions that name what nobody wrote, and readers that trims overtake.
use crate::cluster::faults::Power;
use crate::cluster::follower::Follower;
use crate::cluster::life::spawn;
use crate::cluster::scenarios::{append, append_to, end_alike, pass, tell, tell_and_plant};
use crate::cluster::surroundings::Registry;
use crate::cluster::{CATALOG, Cluster, DRAFTS, EVENTS, JOBS, SECRET, Setup, check, lock};
use crate::random::Random;
use conveyor::base::batch::{Batch, state};
use conveyor::base::planted::Bug;
use conveyor::base::{
    Chunk, ChunkBuilder, Codec, Digest, Entry, LogId, PeerId, PeerName, RunId, Seq, Statement, Timestamp,
    TopicName,
};
use conveyor::identity::sign::sign_statement;
use conveyor::identity::{MacVerifier, Signer};
use conveyor::topic::catalog::{CatalogWrite, LogEnd};

/// A member that is no site: it writes in `$catalog` that `JOBS` is deleted, of the run that a site writes now up to `until`,
/// and hands that in.
async fn delete_ahead(cluster: &Cluster, site: usize, until: Seq) {
    let live = cluster.live(site).expect("it is up");
    let of_site = LogId { topic: JOBS.id(), peer: live.handle.about().peer };
    let run = live.handle.store().log(&of_site).and_then(|log| Some(log.look().tip()?.id)).expect("it wrote");
    let write = CatalogWrite {
        topic: JOBS.name(),
        settings: None,
        until: vec![LogEnd { peer: of_site.peer, run, until }],
        replaces: vec![],
    };
    let mut builder = ChunkBuilder::new();
    builder.push(&Entry { kind: write.kind(), ..Entry::from(write.encode()) }).expect("a small entry");
    let chunks = [Chunk::parse(builder.finish(Codec::None)).expect("a chunk that was just built")];
    let member = PeerId(Random::key(99));
    let statement = state(
        &Statement {
            log: LogId { topic: CATALOG.id(), peer: member },
            run: RunId(77),
            parent: RunId::NONE,
            opens_run: true,
            first_seq: Seq::FIRST,
            first_time: Timestamp::from_ms(1_800_000_010_000),
            entry_count: 0,
            raw_bytes: 0,
            previous: Digest::ZERO,
            root: Digest::ZERO,
            signed: None,
        },
        &chunks,
    );
    let signer = MacVerifier::new(SECRET).signer(member);
    assert_eq!(signer.peer(), member);
    let batch = Batch::assemble(statement, sign_statement(&signer, &statement), &chunks);
    let certificate = Registry::certificate(member, &PeerName::nearest("bad"));
    // What was written before may go, and nothing that comes after.
    lock(&cluster.model).delete(JOBS.id(), (of_site.peer, run, live_until(cluster, site, &of_site)));
    let imported = live.handle.import(&certificate, TopicName::catalog(), batch).await;
    assert!(imported.is_ok(), "{imported:?}");
}

fn live_until(cluster: &Cluster, site: usize, log: &LogId) -> Seq {
    let log = cluster.live(site).and_then(|live| live.handle.store().log(log)).expect("it is held");
    log.look().until()
}

/// It names a number that no log comes to. What the peer has written by then goes, and what it writes after that stays, also
/// over starts.
#[test]
fn a_deletion_that_names_numbers_far_ahead_takes_nothing_that_is_written_later() {
    tell_and_plant(61, Setup::alike(2), &[(Bug::DeletionsReachAhead, "P1")], |cluster| async move {
        cluster.start_all();
        pass(3).await;
        append(&cluster, 0, 10).await;
        end_alike(&cluster).await;
        delete_ahead(&cluster, 0, Seq(1 << 63)).await;
        pass(10).await;
        for _ in 0..3 {
            append(&cluster, 0, 10).await;
            end_alike(&cluster).await;
            cluster.crash(0, Power::Lost).await;
            cluster.start_all();
            pass(20).await;
        }
        end_alike(&cluster).await;
    });
}

/// Nothing of a log is left, not even a file; its numbers go on all the same, at everyone.
#[test]
fn a_log_of_which_everything_was_trimmed_goes_on_counting_after_a_start() {
    tell(62, Setup::alike(2), |cluster| async move {
        cluster.start_all();
        pass(3).await;
        append_to(&cluster, DRAFTS, 0, 20).await;
        end_alike(&cluster).await;
        let log = LogId { topic: DRAFTS.id(), peer: cluster.live(0).expect("it is up").handle.about().peer };
        let mut before = live_until(&cluster, 0, &log);
        for _ in 0..3 {
            cluster.delete(0, DRAFTS).await;
            end_alike(&cluster).await;
            for site in [0, 1] {
                cluster.crash(site, Power::Lost).await;
            }
            cluster.start_all();
            pass(5).await;
            for site in [0, 1] {
                assert_eq!(live_until(&cluster, site, &log), before, "P2: {site} forgets where a log ended");
            }
            append_to(&cluster, DRAFTS, 0, 1).await;
            assert!(live_until(&cluster, 0, &log) > before, "P2: numbers are given again");
            end_alike(&cluster).await;
            before = live_until(&cluster, 0, &log);
        }
    });
}

/// While the peer that it reads at is down, more is written than is kept. It goes on behind what was trimmed, told of that and of
/// nothing else.
#[test]
fn a_reader_that_trims_overtook_is_told_of_what_was_trimmed_and_of_no_entry_more() {
    tell_and_plant(64, Setup::alike(2), &[(Bug::GapTooWide, "P5")], |cluster| async move {
        cluster.start_all();
        pass(3).await;
        let (follower, given) = Follower::new(cluster.clone(), EVENTS, vec![1]);
        spawn(&cluster.recorder, follower.work());
        append_to(&cluster, EVENTS, 0, 5).await;
        pass(5).await;
        cluster.crash(1, Power::Lost).await;
        append_to(&cluster, EVENTS, 0, 100).await;
        pass(20).await;
        cluster.start(1);
        end_alike(&cluster).await;
        check::check_followed(&cluster, 1, EVENTS, &given);
        let given = lock(&given);
        assert_eq!(given.gaps.len(), 1, "it was overtaken once: {:?}", given.gaps);
    });
}
