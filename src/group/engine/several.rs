//! Several peers, without chance: who gets what from whom.
use crate::base::{EntryId, PeerId};
use crate::group::io::{Ask, Input, Ticket};
use crate::group::testing::*;
use crate::wire::group::{Delivery, GroupAnswer, GroupMessage, GroupSettings, LeaseError, Redelivered};
use std::collections::BTreeSet;

/// Peers 1, 2, …, all connected at first. Whatever can spread does so at once.
struct Cluster {
    sites: Vec<Site>,
    cut: BTreeSet<(u8, u8)>,
    /// Messages from one to another that are lost.
    deaf: BTreeSet<(u8, u8)>,
    told: usize,
}

impl Cluster {
    fn new(count: u8) -> Self {
        let sites = (1..=count).map(Site::new).collect();
        let mut cluster = Self { sites, cut: BTreeSet::new(), deaf: BTreeSet::new(), told: 0 };
        cluster.connect();
        cluster.at(1).create("g", GroupSettings::default());
        cluster.pass(5_000);
        cluster
    }

    fn at(&mut self, of: u8) -> &mut Site {
        &mut self.sites[usize::from(of) - 1]
    }

    fn is_cut(&self, a: u8, b: u8) -> bool {
        self.cut.contains(&(a.min(b), a.max(b)))
    }

    fn cut(&mut self, a: u8, b: u8) {
        self.cut.insert((a.min(b), a.max(b)));
        self.connect();
    }

    fn heal(&mut self) {
        self.cut.clear();
        self.connect();
    }

    fn connect(&mut self) {
        let all: Vec<u8> = (1..=self.sites.len() as u8).collect();
        for a in &all {
            let peers: Vec<PeerId> =
                all.iter().filter(|b| *b != a && !self.is_cut(*a, **b)).map(|b| peer(*b)).collect();
            self.at(*a).input(Input::Peers(peers));
        }
        self.flow();
    }

    /// All that can go anywhere does.
    fn flow(&mut self) {
        let count = self.sites.len() as u8;
        for _ in 0..1_000 {
            let mut is_quiet = true;
            for a in 1..=count {
                self.at(a).run_all();
                while let Some((to, message)) = self.at(a).tells.pop_front() {
                    let b = to.0[0];
                    if !self.is_cut(a, b) && !self.deaf.contains(&(a, b)) {
                        self.told += usize::from(!matches!(message, GroupMessage::Acked { .. }));
                        self.at(b).input(Input::Heard { from: peer(a), message });
                    }
                    is_quiet = false;
                }
                for b in (1..=count).filter(|b| *b != a) {
                    if !self.is_cut(a, b) {
                        is_quiet &= !self.spread(a, b);
                    }
                }
            }
            if is_quiet {
                return;
            }
        }
        panic!("they never stop talking");
    }

    fn spread(&mut self, a: u8, b: u8) -> bool {
        let from = &self.sites[usize::from(a) - 1];
        let logs = from.logs.clone();
        let writes: Vec<Entry> = from.writes.values().flatten().cloned().collect();
        let to = self.at(b);
        let mut is_news = false;
        for (of, log) in logs {
            let held = to.logs.get(&of).map_or(0, Vec::len);
            if held < log.len() {
                to.take_log(of, log);
                is_news = true;
            }
        }
        for entry in writes {
            let log = to.writes.get(&entry.0.peer);
            if log.and_then(|log| log.back()).is_none_or(|last| last.0.seq < entry.0.seq) {
                to.replicate(&entry);
                is_news = true;
            }
        }
        is_news
    }

    fn pass(&mut self, ms: u64) {
        self.flow();
        for _ in 0..ms.div_ceil(10) {
            for site in &mut self.sites {
                site.now.mono_ms += 10;
                site.now.unix_ms += 10;
                if site.engine.next_wake(site.now).is_some_and(|at| at <= site.now.mono_ms) {
                    site.input(Input::Tick);
                }
            }
            self.flow();
        }
    }

    fn add(&mut self, of: u8, count: usize, priority: u8) -> Vec<EntryId> {
        let run = self.at(of).run;
        let ids = self.at(of).add(of, run, count, priority);
        self.flow();
        ids
    }

    fn ask(&mut self, at: u8, ask: Ask) -> Ticket {
        let ticket = self.at(at).send("g", ask);
        self.flow();
        ticket
    }

    fn answer(&mut self, at: u8, ticket: Ticket) -> Option<Vec<Delivery>> {
        self.at(at).answers.remove(&ticket).map(leased)
    }

    fn next(&mut self, at: u8, count_max: u32) -> Vec<Delivery> {
        let ticket = self.ask(at, next(1, count_max, 0, vec![]));
        for _ in 0..100 {
            if let Some(leases) = self.answer(at, ticket) {
                return leases;
            }
            self.pass(10);
        }
        panic!("nobody answers");
    }
}

#[test]
fn a_consumer_gets_what_another_peer_holds_and_acknowledges_it_anywhere() {
    let mut cluster = Cluster::new(3);
    let entries = cluster.add(1, 3, 4);
    let held = cluster.next(2, 2);
    assert_eq!(ids(&held), entries[..2]);
    assert_eq!(held[0].lease.number >> 32, 1, "its own peer hands it out");
    assert_eq!(cluster.at(3).ack("g", &ids(&held)), [true, true]);
    cluster.flow();
    assert_eq!(ids(&cluster.next(1, 9)), entries[2..]);
    cluster.pass(100_000);
    for at in 1..=3 {
        assert_eq!(cluster.at(at).info("g").acked_count, 2);
    }
    assert_eq!(cluster.at(1).info("g").dispensers.len(), 1);
}

#[test]
fn an_entry_that_comes_to_another_peer_reaches_who_waits() {
    let mut cluster = Cluster::new(2);
    let waits = cluster.ask(2, next(1, 1, 30_000, vec![]));
    cluster.pass(3_000);
    let entries = cluster.add(1, 1, 4);
    cluster.pass(10);
    assert_eq!(cluster.answer(2, waits).map(|leases| ids(&leases)), Some(entries));
}

#[test]
fn who_waits_at_two_peers_with_nothing_there_costs_a_word_each_second() {
    let mut cluster = Cluster::new(3);
    for at in 1..=3 {
        (0..10).for_each(|_| {
            cluster.ask(at, next(1, 1, 600_000, vec![]));
        });
    }
    cluster.pass(2_000);
    let before = cluster.told;
    cluster.pass(10_000);
    assert_eq!(cluster.told - before, 60);
}

#[test]
fn ours_go_first_with_no_talk_but_a_higher_priority_elsewhere_before_them() {
    let mut cluster = Cluster::new(2);
    cluster.ask(2, next(1, 1, 1, vec![]));
    cluster.pass(1_000);
    let ours = cluster.add(2, 2, 4);
    let theirs = cluster.add(1, 2, 4);
    let urgent = cluster.add(1, 1, 9);
    cluster.pass(300);
    let waits = cluster.ask(2, next(1, 1, 0, vec![]));
    assert_eq!(cluster.answer(2, waits).map(|leases| ids(&leases)), Some(urgent));
    let waits = cluster.ask(2, next(1, 1, 0, vec![]));
    assert_eq!(cluster.answer(2, waits).map(|leases| ids(&leases)), Some(ours[..1].to_vec()));
    assert_eq!(ids(&cluster.next(2, 1)), ours[1..]);
    assert_eq!(ids(&cluster.next(2, 5)), theirs);
}

#[test]
fn f10_no_peers_entries_wait_while_another_never_runs_dry() {
    // All consumers are at 1, which has more than they can do; 2 has some now and then.
    let mut cluster = Cluster::new(2);
    cluster.at(1).add(1, 1, 3_000, 4);
    let (mut waits, mut longest, mut count) = (Vec::new(), 0, 0);
    let mut added: Vec<(u64, EntryId)> = Vec::new();
    for round in 0..1_000 {
        if round % 4 == 0 {
            let now_ms = cluster.at(1).now.mono_ms;
            added.extend(cluster.add(2, 1, 4).into_iter().map(|id| (now_ms, id)));
        }
        while waits.len() < 2 {
            waits.push(cluster.ask(1, next(1, 1, 10_000, vec![])));
        }
        cluster.pass(10);
        let now_ms = cluster.at(1).now.mono_ms;
        for ticket in std::mem::take(&mut waits) {
            let Some(leases) = cluster.answer(1, ticket) else {
                waits.push(ticket);
                continue;
            };
            let id = leases[0].lease.id;
            if let Some(at) = added.iter().position(|one| one.1 == id) {
                longest = (now_ms - added.swap_remove(at).0).max(longest);
                count += 1;
            }
            cluster.at(1).ack("g", &[id]);
        }
    }
    assert!(longest <= 2_000, "{longest}");
    assert!(added.iter().all(|(since, _)| cluster.sites[0].now.mono_ms - since <= 2_000));
    assert!(count > 150 && cluster.at(1).info("g").ready_count > 0, "{count}");
}

#[test]
fn f10_who_cannot_reach_a_peer_gets_its_entries_from_whom_it_reaches() {
    // 1 lives, 3 cannot reach it, all consumers are at 3.
    let mut cluster = Cluster::new(3);
    cluster.cut(1, 3);
    let entries = cluster.add(1, 4, 4);
    let waits = cluster.ask(3, next(1, 9, 30_000, vec![]));
    cluster.pass(10_000);
    assert_eq!(cluster.answer(3, waits).map(|leases| ids(&leases)), Some(entries.clone()));
    // 1 hears of it, and hands them out to nobody meanwhile.
    assert!(cluster.next(1, 9).is_empty());
    assert_eq!(cluster.at(3).ack("g", &entries), [true; 4]);
    cluster.pass(60_000);
    assert!(cluster.next(1, 9).is_empty());
}

#[test]
fn f9_whoever_takes_a_log_over_waits_for_what_is_out_and_hands_it_back() {
    let mut cluster = Cluster::new(3);
    let entries = cluster.add(1, 4, 4);
    let held = cluster.next(1, 1);
    cluster.pass(1_000);
    cluster.cut(1, 2);
    cluster.cut(1, 3);
    let waits = cluster.ask(2, next(1, 9, 120_000, vec![]));
    cluster.pass(28_000);
    assert_eq!(cluster.answer(2, waits), None);
    cluster.pass(6_000);
    let again = cluster.answer(2, waits).expect("its time is over");
    assert_eq!(ids(&again), entries);
    assert_eq!((again[0].attempt, again[1].attempt), (2, 1));
    let counted: u64 = (1..=3).map(|at| cluster.at(at).info("g").redelivered.restarted).sum();
    assert_eq!(counted, 1);
    // It comes back, and hears what is out. Who has it may still say so, and so may who had it first.
    cluster.heal();
    cluster.pass(100);
    assert!(cluster.next(1, 9).is_empty());
    assert_eq!(cluster.at(1).ack("g", &ids(&held)), [true]);
    cluster.pass(100);
    assert_eq!(cluster.at(2).ack("g", &entries), [false, true, true, true]);
    cluster.pass(60_000);
    for at in 1..=3 {
        assert!(cluster.next(at, 9).is_empty());
    }
}

#[test]
fn a_peer_that_begins_hands_out_nothing_of_others_before_it_could_reach_them() {
    let mut cluster = Cluster::new(2);
    let entries = cluster.add(1, 2, 4);
    cluster.next(1, 1);
    cluster.at(2).restart(10);
    let waits = cluster.ask(2, next(1, 9, 2_000, vec![]));
    cluster.pass(500);
    cluster.connect();
    cluster.pass(1_000);
    let leases = cluster.answer(2, waits).unwrap();
    assert_eq!((ids(&leases), leases[0].lease.number >> 32), (entries[1..].to_vec(), 1));
}

#[test]
fn leases_of_other_peers_are_given_back_and_kept_longer_as_long_as_they_can_be_reached() {
    let mut cluster = Cluster::new(2);
    let entries = cluster.add(1, 3, 4);
    let held = cluster.next(2, 3);
    let sent = leases(&held);
    let outcome = |cluster: &mut Cluster, ticket| match cluster.at(2).answers.remove(&ticket) {
        Some(Ok(GroupAnswer::Leases(outcomes))) => Some(outcomes),
        _ => None,
    };
    let extend = Ask::Extend { leases: sent.clone(), lease_ms: Some(60_000) };
    let ticket = cluster.ask(2, extend.clone());
    assert_eq!(outcome(&mut cluster, ticket), Some(vec![Ok(()); 3]));
    let nack = Ask::Nack { leases: sent[..1].to_vec(), delay_ms: Some(0), counts: true };
    let ticket = cluster.ask(2, nack);
    assert_eq!(outcome(&mut cluster, ticket), Some(vec![Ok(())]));
    cluster.at(2).ack("g", &entries[1..2]);
    cluster.pass(40_000);
    let again = cluster.next(1, 3);
    assert_eq!((ids(&again), again[0].attempt), (entries[..1].to_vec(), 2));
    // Nobody answers any more.
    cluster.deaf.insert((1, 2));
    let ticket = cluster.ask(2, extend.clone());
    cluster.pass(4_900);
    assert_eq!(outcome(&mut cluster, ticket), None);
    cluster.pass(200);
    let unreachable = Err(LeaseError::Unreachable);
    assert_eq!(outcome(&mut cluster, ticket), Some(vec![unreachable, Err(LeaseError::Acked), unreachable]));
    cluster.cut(1, 2);
    let ticket = cluster.ask(2, Ask::Nack { leases: sent[2..].to_vec(), delay_ms: None, counts: true });
    assert_eq!(outcome(&mut cluster, ticket), Some(vec![unreachable]));
}

#[test]
fn what_a_consumer_had_of_another_peer_is_handed_out_when_it_is_gone() {
    let mut cluster = Cluster::new(2);
    let entries = cluster.add(1, 2, 4);
    assert_eq!(cluster.next(2, 2).len(), 2);
    cluster.at(2).input(Input::Left { consumer: 1 });
    cluster.flow();
    assert_eq!(ids(&cluster.next(1, 9)), entries);
}

#[test]
fn what_comes_for_nobody_goes_back_uncounted() {
    let mut cluster = Cluster::new(2);
    let waits = cluster.ask(2, next(1, 5, 10_000, vec![]));
    cluster.pass(1_000);
    cluster.deaf.insert((1, 2));
    let entries = cluster.add(1, 2, 4);
    cluster.deaf.clear();
    // The offer comes, and the consumer goes while its peer asks.
    cluster.at(2).input(Input::Heard {
        from: peer(1),
        message: GroupMessage::Offer { group: name("g"), priority: 4, waited_ms: 0, count: 2 },
    });
    cluster.at(2).input(Input::Gone { ticket: waits });
    cluster.flow();
    let info = cluster.at(1).info("g");
    assert_eq!((info.leased_count, info.ready_count, info.redelivered), (0, 2, Redelivered::default()));
    let held = cluster.next(1, 9);
    assert_eq!((ids(&held), held[0].attempt), (entries, 1));
}

#[test]
fn f13_twins_of_two_peers_are_handed_out_once_where_both_are_known() {
    let mut cluster = Cluster::new(2);
    // 1 is cut off with the first; its producer retries at 2.
    cluster.cut(1, 2);
    let first = cluster.at(1).add_one(1, 1, |meta| meta.producer = produced(17));
    cluster.pass(10);
    let twin = cluster.at(2).add_one(2, 1, |meta| meta.producer = produced(17));
    cluster.heal();
    let held = cluster.next(2, 9);
    assert_eq!(ids(&held), [first]);
    assert!(cluster.next(1, 9).is_empty());
    cluster.at(2).ack("g", &[first]);
    cluster.pass(1_000);
    assert!(cluster.next(1, 9).is_empty() && cluster.next(2, 9).is_empty());
    assert_eq!(cluster.at(1).ack("g", &[twin]), [false]);
}

#[test]
fn a_group_that_is_deleted_while_entries_of_others_are_out_comes_to_rest() {
    let mut cluster = Cluster::new(2);
    cluster.add(1, 2, 4);
    assert_eq!(cluster.next(2, 2).len(), 2);
    cluster.ask(1, Ask::Delete);
    cluster.flow();
    cluster.pass(60_000);
    for at in 1..=2 {
        let site = cluster.at(at);
        assert_eq!(
            site.engine.next_wake(site.now),
            None,
            "{at} wants to be woken for a group that is no more"
        );
    }
}
