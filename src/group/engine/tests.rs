//! One peer.
// tidy: long file because each test is a story of one peer, found by its name
use crate::base::TopicName;
use crate::group::io::{Ask, Input};
use crate::group::testing::*;
use crate::group::write::{Done, GroupWrite};
use crate::wire::group::{
    GROUP_COUNT_MAX, GroupAnswer, GroupError, GroupSettings, LeaseError, Redelivered, WhenExhausted,
};

fn set() -> GroupSettings {
    GroupSettings::default()
}

#[test]
fn a_group_hands_out_in_order_and_never_again_what_is_acknowledged() {
    let mut site = Site::new(1);
    assert!(site.create("g", set()));
    let entries = site.add(1, 1, 5, 4);
    let first = site.next("g", 2);
    assert_eq!(ids(&first), entries[..2]);
    assert_eq!((first[0].attempt, first[0].lease_ms), (1, 30_000));
    assert_ne!(first[0].lease.number, first[1].lease.number);
    assert_eq!(site.ack("g", &ids(&first)), [true, true]);
    assert_eq!(
        site.ack("g", &[entries[1], entries[2]]),
        [false, true],
        "whoever has it, and without a lease"
    );
    assert_eq!(ids(&site.next("g", 10)), entries[3..]);
    assert!(site.next("g", 10).is_empty());
    let info = site.info("g");
    assert_eq!((info.ready_count, info.leased_count, info.acked_count), (0, 2, 3));
    assert_eq!(site.ack("g", &entries), [false, false, false, true, true]);
    site.pass(60_000);
    assert!(site.next("g", 10).is_empty());
    assert_eq!(site.info("g").acked_count, 5);
}

#[test]
fn a_group_is_made_once_and_what_is_not_there_is_not() {
    let mut site = Site::new(1);
    let unknown = GroupError::Unknown { topic: topic(), group: name("g") };
    assert_eq!(site.ask("g", next(1, 1, 0, vec![])), Err(unknown.clone()));
    assert_eq!(site.ask("g", Ask::Delete), Err(unknown.clone()));
    // The second asks while the first is being written.
    let ask = || Ask::Create { start: start(), settings: set() };
    let (a, b) = (site.send("g", ask()), site.send("g", ask()));
    site.run_all();
    let changed = |is_changed| Some(Ok(GroupAnswer::Done { is_changed }));
    assert_eq!((site.answers.remove(&a), site.answers.remove(&b)), (changed(true), changed(false)));
    assert!(!site.create("g", set()));
    assert_eq!(site.ask("g", Ask::Set(set())), changed(false).unwrap());
    assert_eq!(site.ask("g", Ask::Delete), changed(true).unwrap());
    assert_eq!(site.ask("g", Ask::Info), Err(unknown));
    assert!(site.create("g", set()));
    for other in 0..9 {
        assert!(site.create(&format!("g{other}"), set()));
    }
    let ask = Ask::Create { start: start(), settings: set() };
    assert_eq!(site.ask("one-more", ask), Err(GroupError::TooMany { max: 10 }));
    site.input(Input::List { ticket: 999 });
    assert_eq!(site.listed.len(), 10);
}

#[test]
fn numbers_over_their_limits_are_refused() {
    let mut site = Site::new(1);
    site.create("g", set());
    let too_many = vec![entry(1, 1, 1); GROUP_COUNT_MAX + 1];
    let long = GroupSettings { lease_ms: u64::MAX, ..set() };
    let asks = [
        Ask::Set(long.clone()),
        Ask::Set(GroupSettings { lease_ms: 0, ..set() }),
        Ask::Set(GroupSettings { retry_delay_ms: u64::MAX, ..set() }),
        Ask::Create { start: start(), settings: long },
        Ask::Ack(too_many.clone()),
        next(1, 1, 0, too_many),
        next(1, GROUP_COUNT_MAX as u32 + 1, 0, vec![]),
        Ask::Nack { leases: vec![], delay_ms: Some(u64::MAX), counts: true },
        Ask::Extend { leases: vec![], lease_ms: Some(u64::MAX) },
    ];
    for ask in asks {
        let shown = format!("{ask:?}");
        assert!(matches!(site.ask("g", ask), Err(GroupError::Limit { .. })), "{shown}");
    }
}

#[test]
fn priorities_go_first_and_a_delayed_entry_waits_for_its_time() {
    let mut site = Site::new(1);
    site.create("g", set());
    let low = site.add(1, 1, 2, 0);
    let at = site.now.unix_ms + 5_000;
    let later = site.add_one(1, 1, |meta| meta.deliver_at_ms = Some(at));
    let high = site.add(1, 1, 1, 9);
    assert_eq!(ids(&site.next("g", 10)), [high[0], low[0], low[1]]);
    assert_eq!(site.info("g").delayed_count, 1);
    site.pass(4_999);
    assert!(site.next("g", 1).is_empty());
    let waits = site.send("g", next(1, 1, 10_000, vec![]));
    site.pass(1);
    assert_eq!(ids(&leased(site.answers.remove(&waits).unwrap())), [later]);
}

#[test]
fn a_lease_that_ended_is_handed_out_again_at_its_old_place_and_counted() {
    let mut site = Site::new(1);
    site.create("g", set());
    let entries = site.add(1, 1, 3, 4);
    let first = site.next("g", 1);
    site.pass(29_999);
    assert_eq!(ids(&site.next("g", 1)), entries[1..2]);
    site.pass(1);
    let again = site.next("g", 1);
    assert_eq!((ids(&again), again[0].attempt), (entries[..1].to_vec(), 2));
    assert_ne!(again[0].lease, first[0].lease);
    assert_eq!(site.info("g").redelivered, Redelivered { expired: 1, ..Redelivered::default() });
    assert_eq!(site.extend("g", &leases(&first), 1000), [Err(LeaseError::Unknown)]);
    assert_eq!(site.nack("g", &leases(&first), None, true), [Err(LeaseError::Unknown)]);
    // Whoever had it first may say all the same that it is done.
    assert_eq!(site.ack("g", &ids(&first)), [true]);
    assert_eq!(site.extend("g", &leases(&again), 1000), [Err(LeaseError::Acked)]);
}

#[test]
fn a_lease_is_kept_longer_as_long_as_somebody_asks() {
    let mut site = Site::new(1);
    site.create("g", set());
    site.add(1, 1, 1, 4);
    let held = leases(&site.next("g", 1));
    for _ in 0..5 {
        site.pass(20_000);
        assert_eq!(site.extend("g", &held, 30_000), [Ok(())]);
        assert!(site.next("g", 1).is_empty());
    }
    site.pass(30_000);
    assert_eq!(site.next("g", 1)[0].attempt, 2);
}

#[test]
fn what_is_given_back_waits_as_long_as_was_said_and_counts_if_so() {
    let mut site = Site::new(1);
    site.create("g", GroupSettings { retry_delay_ms: 500, ..set() });
    let entries = site.add(1, 1, 2, 4);
    let held = site.next("g", 1);
    assert_eq!(site.nack("g", &leases(&held), Some(2_000), false), [Ok(())]);
    assert_eq!(ids(&site.next("g", 5)), entries[1..]);
    site.pass(1_999);
    assert!(site.next("g", 5).is_empty());
    site.pass(1);
    let again = site.next("g", 5);
    assert_eq!((ids(&again), again[0].attempt), (entries[..1].to_vec(), 1));
    site.nack("g", &leases(&again), None, true);
    assert!(site.next("g", 5).is_empty());
    site.pass(500);
    assert_eq!(site.next("g", 5)[0].attempt, 2);
    assert_eq!(site.info("g").redelivered.nacked, 2);
}

#[test]
fn what_a_consumer_had_is_handed_out_when_it_is_gone() {
    let mut site = Site::new(1);
    site.create("g", set());
    let entries = site.add(1, 1, 3, 4);
    site.next_for("g", 5, 2);
    site.next_for("g", 6, 1);
    site.input(Input::Left { consumer: 5 });
    assert_eq!(ids(&site.next_for("g", 6, 5)), entries[..2]);
    assert_eq!(site.info("g").redelivered.left, 2);
}

#[test]
fn who_waits_is_served_in_turn_and_who_left_swallows_nothing() {
    let mut site = Site::new(1);
    site.create("g", set());
    let waits: Vec<_> = (1..=4).map(|consumer| site.send("g", next(consumer, 1, 10_000, vec![]))).collect();
    site.run_all();
    assert!(site.answers.is_empty());
    assert_eq!(site.info("g").waiting_count, 4);
    site.input(Input::Gone { ticket: waits[1] });
    let entries = site.add(1, 1, 2, 4);
    site.run_all();
    let served =
        |site: &mut Site, at: usize| site.answers.remove(&waits[at]).map(|answer| ids(&leased(answer)));
    assert_eq!(served(&mut site, 0), Some(entries[..1].to_vec()));
    assert_eq!(served(&mut site, 1), None);
    assert_eq!(served(&mut site, 2), Some(entries[1..].to_vec()));
    site.pass(9_999);
    assert_eq!(served(&mut site, 3), None);
    site.pass(1);
    assert_eq!(served(&mut site, 3), Some(vec![]));
}

#[test]
fn nobody_is_told_that_there_is_nothing_before_that_is_known() {
    let mut site = Site::new(1);
    site.create("g", set());
    let entries = site.add(1, 1, 1, 4);
    site.reads_held = true;
    let asked = site.send("g", next(1, 1, 0, vec![]));
    site.run_all();
    site.pass(1_000);
    assert!(site.answers.is_empty());
    site.reads_held = false;
    site.run_all();
    assert_eq!(ids(&leased(site.answers.remove(&asked).unwrap())), entries);
}

#[test]
fn acknowledgements_share_a_write_and_are_answered_when_it_is_durable() {
    let mut site = Site::new(1);
    site.create("g", set());
    let entries = site.add(1, 1, 10, 4);
    let held = site.next("g", 10);
    site.run_all();
    let asked: Vec<_> = held.iter().map(|held| site.send("g", Ask::Ack(vec![held.lease.id]))).collect();
    let twice = site.send("g", Ask::Ack(vec![entries[9]]));
    let acks = |site: &Site| site.appends.iter().filter(|(_, w)| matches!(w, GroupWrite::Ack { .. })).count();
    assert_eq!((site.answers.len(), acks(&site)), (0, 1), "the first leaves, the others gather");
    site.append_one(None, true);
    assert_eq!((site.answers.len(), acks(&site)), (1, 1));
    site.append_one(None, false);
    assert_eq!(site.answers.len(), 11);
    assert_eq!(site.answers.remove(&twice), Some(Ok(GroupAnswer::Acked(vec![false]))));
    assert!(asked.iter().all(|asked| site.answers[asked] == Ok(GroupAnswer::Acked(vec![true]))));
}

#[test]
fn an_acknowledgement_that_cannot_be_written_leaves_all_as_it_was() {
    let mut site = Site::new(1);
    site.create("g", set());
    let entries = site.add(1, 1, 2, 4);
    let held = site.next("g", 1);
    site.pass(100);
    let asked = site.send("g", Ask::Ack(entries.clone()));
    let other = site.send("g", next(2, 5, 0, vec![]));
    assert_eq!(
        site.answers.remove(&other).map(leased),
        Some(vec![]),
        "what is being acknowledged is nobody's"
    );
    site.append_one(Some(disk_full()), true);
    assert_eq!(site.answers.remove(&asked), Some(Err(GroupError::Append(disk_full()))));
    assert_eq!(ids(&site.next("g", 5)), entries[1..], "the lease goes on, the other is ready");
    assert_eq!(site.extend("g", &leases(&held), 1000), [Ok(())]);
    assert_eq!(site.ack("g", &entries), [true, true]);
}

#[test]
fn acknowledging_and_asking_for_more_is_one_request() {
    let mut site = Site::new(1);
    site.create("g", set());
    let entries = site.add(1, 1, 3, 4);
    let mut held = site.next("g", 1);
    for at in 1..3 {
        held = leased(site.ask("g", next(1, 1, 0, ids(&held))));
        assert_eq!(ids(&held), entries[at..=at]);
    }
    assert!(leased(site.ask("g", next(1, 0, 0, ids(&held)))).is_empty());
    assert_eq!(site.info("g").acked_count, 3);
}

#[test]
fn too_many_who_wait_are_told_so() {
    let mut site = Site::with(crate::group::io::GroupConfig { waiting_count_max: 2, ..config(1) });
    site.create("g", set());
    let waits: Vec<_> = (0..3).map(|_| site.send("g", next(1, 1, 9_000, vec![]))).collect();
    assert_eq!(site.answers.remove(&waits[2]), Some(Err(GroupError::Busy)));
    site.input(Input::Gone { ticket: waits[0] });
    let another = site.send("g", next(1, 1, 9_000, vec![]));
    site.run_all();
    assert!(!site.answers.contains_key(&another));
    assert_eq!(site.ack("g", &[entry(1, 1, 1)]), [true], "whoever says that something is done is heard");
}

#[test]
fn what_was_handed_out_too_often_goes_where_the_group_says() {
    let dead = TopicName::new("dead").unwrap();
    let whens = [WhenExhausted::Keep, WhenExhausted::Drop, WhenExhausted::Topic(dead.clone())];
    for when in whens {
        let mut site = Site::new(1);
        site.create("g", GroupSettings { max_deliveries: 2, when_exhausted: when.clone(), ..set() });
        let entries = site.add(1, 1, 2, 4);
        for attempt in 1..=2 {
            let held = site.next("g", 1);
            assert_eq!((ids(&held), held[0].attempt), (entries[..1].to_vec(), attempt));
            site.nack("g", &leases(&held), Some(0), true);
        }
        assert_eq!(ids(&site.next("g", 5)), entries[1..], "{when:?}");
        let why = match when {
            WhenExhausted::Keep => Done::Exhausted,
            WhenExhausted::Drop => Done::Dropped,
            WhenExhausted::Topic(_) => Done::Buried,
        };
        let is_so = |write: &GroupWrite| matches!(write, GroupWrite::Ack { why: of, .. } if *of == why);
        assert_eq!(site.own_writes().filter(|write| is_so(write)).count(), 1);
        let copy = Copied { id: entries[0], to: dead.clone(), why, attempts: 2 };
        assert_eq!(site.copied, if why == Done::Buried { vec![copy] } else { vec![] });
        let listed = if why == Done::Exhausted { vec![entries[0]] } else { vec![] };
        assert_eq!(site.info("g").exhausted, listed);
        let is_news = why == Done::Exhausted;
        assert_eq!(site.ack("g", &entries[..1]), [is_news], "what is listed can be struck off");
        assert!(site.info("g").exhausted.is_empty());
    }
}

#[test]
fn a_copy_that_fails_is_made_again_and_nothing_is_done_before() {
    let mut site = Site::new(1);
    let when_exhausted = WhenExhausted::Topic(TopicName::new("dead").unwrap());
    site.create("g", GroupSettings { max_deliveries: 1, when_exhausted, ..set() });
    site.add(1, 1, 1, 4);
    let held = site.next("g", 1);
    site.send("g", Ask::Nack { leases: leases(&held), delay_ms: None, counts: true });
    let (ticket, _) = site.copies.pop_front().unwrap();
    site.input(Input::Copied { ticket, is_done: false });
    site.pass(999);
    assert!(site.copied.is_empty() && site.info("g").acked_count == 0);
    site.pass(1);
    assert_eq!((site.copied.len(), site.info("g").acked_count), (1, 1));
}

#[test]
fn what_expired_is_done_and_copied_where_that_is_wanted() {
    for expire_to in [None, Some(TopicName::new("late").unwrap())] {
        let mut site = Site::new(1);
        site.create("g", GroupSettings { expire_to: expire_to.clone(), ..set() });
        let at = site.now.unix_ms + 1_000;
        let all: Vec<_> = (0..3).map(|_| site.add_one(1, 1, |meta| meta.expire_at_ms = Some(at))).collect();
        let held = site.next("g", 1);
        site.pass(1_000);
        assert!(site.next("g", 5).is_empty());
        assert_eq!(site.copied.len(), if expire_to.is_some() { 2 } else { 0 });
        assert_eq!(site.info("g").acked_count, 2);
        assert_eq!(site.ack("g", &ids(&held)), [true], "whoever has it may finish");
        assert_eq!(site.ack("g", &all), [false, false, false]);
    }
}

#[test]
fn a_paused_group_hands_out_nothing_and_goes_on_when_told() {
    let mut site = Site::new(1);
    site.create("g", GroupSettings { is_paused: true, ..set() });
    let entries = site.add(1, 1, 1, 4);
    let waits = site.send("g", next(1, 1, 60_000, vec![]));
    site.pass(1_000);
    assert!(site.answers.is_empty());
    site.ask("g", Ask::Set(set())).unwrap();
    assert_eq!(ids(&leased(site.answers.remove(&waits).unwrap())), entries);
}

#[test]
fn a_rewind_hands_out_again_and_what_was_leased_before_does_not_count_for_it() {
    let mut site = Site::new(1);
    site.create("g", set());
    let entries = site.add(1, 1, 4, 4);
    let held = site.next("g", 3);
    site.ack("g", &ids(&held)[..1]);
    site.ask("g", Ask::Rewind { start: cursor(&[(1, 1, 1)]) }).unwrap();
    assert_eq!(site.ack("g", &ids(&held)[1..]), [false, false], "that was before the rewind");
    assert_eq!(site.nack("g", &leases(&held)[2..], None, true), [Err(LeaseError::Unknown)]);
    assert_eq!(ids(&site.next("g", 9)), entries);
    assert_eq!(site.ack("g", &entries), [true; 4]);
    site.ask("g", Ask::Rewind { start: cursor(&[(1, 1, 4)]) }).unwrap();
    assert_eq!(ids(&site.next("g", 9)), entries[3..]);
    assert_eq!(site.ack("g", &entries[..1]), [false], "what lies before the start is not the group's");
}

#[test]
fn who_waits_for_a_group_that_is_deleted_is_told() {
    let mut site = Site::new(1);
    site.create("g", set());
    let waits = site.send("g", next(1, 1, 60_000, vec![]));
    site.run_all();
    site.ask("g", Ask::Delete).unwrap();
    let unknown = GroupError::Unknown { topic: topic(), group: name("g") };
    assert_eq!(site.answers.remove(&waits), Some(Err(unknown)));
}

#[test]
fn what_is_asked_before_all_writes_were_read_waits() {
    let mut first = Site::new(1);
    first.create("g", set());
    let mut site = Site::new(1);
    site.engine = crate::group::engine::Engine::new(config(1));
    let entries = site.add(1, 1, 1, 4);
    let waits = site.send("g", next(1, 1, 0, vec![]));
    let (id, time, write) = first.writes[&peer(1)][0].clone();
    site.input(Input::List { ticket: 999 });
    site.input(Input::Written { id, time, write });
    assert!(site.answers.is_empty() && site.listed.is_empty());
    site.input(Input::CaughtUp);
    assert_eq!(site.listed.len(), 1);
    site.run_all();
    assert_eq!(ids(&leased(site.answers.remove(&waits).unwrap())), entries);
}

#[test]
fn reading_stops_while_enough_waits_and_a_group_that_nobody_asks_costs_nothing() {
    let mut site = Site::new(1);
    site.create("g", set());
    site.add(1, 1, 1_000, 4);
    site.pass(120_000);
    assert_eq!((site.read_count, site.engine.next_wake(site.now)), (0, None));
    let mut count = 0;
    while let Some(held) = site.next("g", 1).first() {
        site.ack("g", &[held.lease.id]);
        count += 1;
        assert!(site.info("g").ready_count <= 64);
    }
    assert_eq!(count, 1_000);
    assert!(site.read_count < 100, "{}", site.read_count);
    site.pass(120_000);
    assert_eq!(site.engine.next_wake(site.now), None);
    let reads = site.read_count;
    site.add(1, 1, 10, 4);
    site.pass(1_000);
    assert_eq!(site.read_count, reads);
    assert_eq!(site.next("g", 20).len(), 10);
}

#[test]
fn entries_that_wait_for_their_time_do_not_hold_up_others() {
    let mut site = Site::new(1);
    site.create("g", set());
    let at = site.now.unix_ms + 3_600_000;
    for _ in 0..150 {
        site.add_one(1, 1, |meta| meta.deliver_at_ms = Some(at));
    }
    let entries = site.add(1, 1, 3, 4);
    assert_eq!(ids(&site.next("g", 9)), entries);
    assert_eq!(site.info("g").delayed_count, 150);
}

#[test]
fn beyond_the_bound_on_holes_nothing_new_is_leased_of_that_log() {
    let mut site = Site::with(crate::group::io::GroupConfig { span_count_max: 10, ..config(1) });
    site.create("g", set());
    let entries = site.add(1, 1, 30, 4);
    let stuck = site.next("g", 1);
    let mut seen = 1;
    while let Some(held) = site.next("g", 1).first() {
        site.ack("g", &[held.lease.id]);
        seen += 1;
    }
    assert_eq!(seen, 10);
    assert_eq!(site.info("g").hole_count, 1);
    site.ack("g", &ids(&stuck));
    assert_eq!(ids(&site.next("g", 20)), entries[10..20]);
}

#[test]
fn who_asks_of_a_peer_that_stops_is_told_and_what_is_out_is_logged() {
    let mut site = Site::new(1);
    site.create("g", set());
    site.add(1, 1, 3, 4);
    let held = site.next("g", 2);
    let waits = site.send("g", next(2, 1, 0, vec![]));
    site.run_all();
    site.answers.remove(&waits);
    site.input(Input::Rest);
    site.run_all();
    assert_eq!(site.ask("g", next(1, 1, 0, vec![])), Err(GroupError::Stopped));
    assert_eq!(site.ack("g", &ids(&held)[..1]), [true], "acknowledgements are heard to the end");
    let rest = site.own_writes().filter_map(|write| match write {
        GroupWrite::Rest { held, .. } => Some(held.clone()),
        _ => None,
    });
    let rests: Vec<_> = rest.collect();
    assert_eq!(rests.len(), 1);
    assert_eq!(rests[0][0].ranges, [(crate::base::Seq(1), crate::base::Seq(4))]);
}

#[test]
fn what_counts_is_said_again_and_a_restart_finds_it_after_the_trim() {
    let mut site = Site::new(1);
    site.create("g", GroupSettings { max_deliveries: 3, ..set() });
    site.create("gone", set());
    site.ask("gone", Ask::Rewind { start: start() }).unwrap();
    site.ask("gone", Ask::Delete).unwrap();
    let entries = site.add(1, 1, 3_000, 4);
    let held = site.next("g", 3);
    site.nack("g", &leases(&held), Some(0), true);
    let held = site.next("g", 2);
    site.pass(100);
    for entry in &entries[3..] {
        if entry.seq.0 % 3 > 0 {
            site.ack("g", &[*entry]);
        }
    }
    assert!(!site.trims.is_empty());
    assert!(site.writes[&peer(1)].len() < 2_200, "{}", site.writes[&peer(1)].len());
    for (_, _, write) in &site.writes[&peer(1)] {
        assert!(write.encode().len() < 128 << 10);
    }
    let before = site.info("g");
    assert_eq!(before.acked_count, 1_998);
    for _ in 0..2 {
        site.restart(1);
        let after = site.info("g");
        assert_eq!((after.acked_count, after.hole_count), (before.acked_count, before.hole_count));
        assert_eq!(
            (&after.settings, after.epoch, &after.start),
            (&before.settings, before.epoch, &before.start)
        );
        assert!(matches!(site.ask("gone", Ask::Info), Err(GroupError::Unknown { .. })));
        assert_eq!(site.ack("g", &entries[3..5]), [false, false]);
    }
    // The two that are out are not handed out before their time; the third attempt is the last.
    site.next("g", 1);
    site.pass(31_000);
    let again = site.next("g", 3);
    assert_eq!(ids(&again), entries[..3]);
    assert_eq!([again[0].attempt, again[1].attempt, again[2].attempt], [3, 3, 2]);
    assert_eq!(held.len(), 2);
}

#[test]
fn a_restart_waits_for_what_may_be_out_and_not_for_what_came_since() {
    let mut site = Site::new(1);
    site.create("g", set());
    let entries = site.add(1, 1, 3, 4);
    site.next("g", 1);
    site.pass(100);
    site.restart(2_000);
    let waits = site.send("g", next(1, 9, 60_000, vec![]));
    site.run_all();
    let new = site.add(1, 2, 1, 4);
    site.run_all();
    assert_eq!(ids(&leased(site.answers.remove(&waits).unwrap())), new);
    site.ack("g", &new);
    site.pass(27_000);
    assert!(site.next("g", 9).is_empty());
    site.pass(3_000);
    let again = site.next("g", 9);
    assert_eq!(ids(&again), entries);
    assert_eq!([again[0].attempt, again[1].attempt], [2, 1], "only the first was handed out before");
    assert_eq!(site.info("g").redelivered, Redelivered { restarted: 1, ..Redelivered::default() });
}

#[test]
fn after_a_stop_that_was_told_only_what_is_out_waits() {
    let mut site = Site::new(1);
    site.create("g", set());
    let entries = site.add(1, 1, 3, 4);
    let held = site.next("g", 2);
    site.nack("g", &leases(&held)[..1], None, true);
    site.input(Input::Rest);
    site.run_all();
    site.restart(1_000);
    assert_eq!(ids(&site.next("g", 9)), [entries[0], entries[2]]);
    site.pass(29_000);
    assert_eq!(ids(&site.next("g", 9)), entries[1..2]);
}

#[test]
fn a_lease_that_was_kept_longer_is_so_after_a_restart_too() {
    let mut site = Site::new(1);
    site.create("g", set());
    site.add(1, 1, 1, 4);
    let held = site.next("g", 1);
    site.extend("g", &leases(&held), 100_000);
    site.pass(1_000);
    site.restart(1_000);
    site.pass(60_000);
    assert!(site.next("g", 1).is_empty());
    site.pass(39_000);
    assert_eq!(site.next("g", 1)[0].attempt, 2);
}

#[test]
fn how_far_a_group_is_needs_not_be_read_again_after_a_restart() {
    let mut site = Site::new(1);
    site.create("g", set());
    let entries = site.add(1, 1, 500, 4);
    for _ in 0..50 {
        let held = site.next("g", 10);
        site.ack("g", &ids(&held));
    }
    let late = site.add(1, 1, 3, 4);
    site.next("g", 0);
    site.pass(6_000);
    let written = site.own_writes().filter(|write| matches!(write, GroupWrite::Progress { .. })).count();
    assert!((1..=3).contains(&written), "{written}");
    site.restart(60_000);
    let reads = site.read_count;
    assert_eq!(ids(&site.next("g", 9)), Vec::new());
    site.pass(40_000);
    assert_eq!(ids(&site.next("g", 9)), late);
    assert!(site.read_count - reads < 5);
    assert_eq!(site.ack("g", &entries[..1]), [false]);
    assert_eq!(site.info("g").acked_count, 500);
}

#[test]
fn f13_an_entry_that_a_producer_appended_at_two_peers_is_handed_out_once() {
    let mut site = Site::new(1);
    site.create("g", set());
    site.pass(5_000);
    let first = site.add_one(2, 1, |meta| meta.producer = produced(17));
    site.pass(1);
    let twin = site.add_one(1, 1, |meta| meta.producer = produced(17));
    let other = site.add_one(1, 1, |meta| meta.producer = produced(18));
    let mut held = site.next("g", 9);
    site.pass(1_000);
    held.extend(site.next("g", 9));
    assert_eq!(ids(&held), [other, first]);
    assert_eq!(site.ack("g", &[first]), [true]);
    assert_eq!(site.ack("g", &[twin]), [false], "it is done with the other");
    // One that comes later is done as well.
    let late = site.add_one(3, 1, |meta| meta.producer = produced(17));
    assert!(site.next("g", 9).is_empty());
    site.pass(1_000);
    assert_eq!(site.ack("g", &[late]), [false]);
    // One that is first in order, and comes while the other was handed out already, waits for that.
    let early = site.add_one(4, 1, |meta| {
        meta.producer = produced(18);
        meta.time = crate::base::Timestamp(1);
    });
    site.pass(1_000);
    assert!(site.next("g", 9).is_empty());
    site.ack("g", &[other]);
    assert_eq!(site.ack("g", &[early]), [false]);
}

#[test]
fn a_twin_whose_first_is_never_done_is_handed_out_after_all() {
    let mut site = Site::new(1);
    site.create("g", set());
    let first = site.add_one(1, 1, |meta| meta.producer = produced(1));
    let twin = site.add_one(1, 1, |meta| meta.producer = produced(1));
    let mut held = site.next("g", 9);
    assert_eq!(ids(&held), [first]);
    for _ in 0..11 {
        site.extend("g", &leases(&held), 60_000 * 2);
        site.pass(60_000);
    }
    held = site.next("g", 9);
    assert_eq!(ids(&held), [twin]);
}
