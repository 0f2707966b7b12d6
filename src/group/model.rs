//! A model of a few peers with consumers at each: entries come, spread, are handed out and acknowledged anywhere, peers crash,
//! messages are lost, links go and come. First all that is allowed happens, then all is healed and must be done.
// tidy: long file because one world with all that may happen in it
use crate::base::{EntryId, PeerId};
use crate::group::io::{Ask, GroupConfig, Input, Ticket};
use crate::group::set::{Key, key, ranges_of};
use crate::group::testing::*;
use crate::group::write::GroupWrite;
use crate::wire::group::{Delivery, GroupAnswer, GroupError, GroupMessage, GroupSettings};
use std::collections::{BTreeSet, VecDeque};

/// What may happen.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    sites: u8,
    crashes: bool,
    partitions: bool,
    losses: bool,
    failures: bool,
    steps: usize,
}

struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

#[derive(Debug)]
struct Worker {
    site: usize,
    consumer: u64,
    asked: Option<(Ticket, u64)>,
    has: Vec<Delivery>,
}

struct World {
    random: Random,
    weather: Weather,
    sites: Vec<Site>,
    links: BTreeSet<(usize, usize)>,
    net: VecDeque<(usize, usize, GroupMessage)>,
    workers: Vec<Worker>,
    /// What each site knows to be acknowledged, found without the engine.
    acked: Vec<BTreeSet<Key>>,
    entries: BTreeSet<EntryId>,
    deliveries: usize,
    delivered: BTreeSet<EntryId>,
    /// Counted by engines that are gone.
    counted: u64,
    next_consumer: u64,
}

const GROUP: &str = "g";

impl World {
    fn new(seed: u64, weather: Weather) -> Self {
        let site = |me| Site::with(GroupConfig { window_count_max: 16, ..config(me) });
        let sites: Vec<Site> = (1..=weather.sites).map(site).collect();
        let acked = sites.iter().map(|_| BTreeSet::new()).collect();
        let mut world = Self {
            random: Random(seed),
            weather,
            sites,
            links: BTreeSet::new(),
            net: VecDeque::new(),
            workers: Vec::new(),
            acked,
            entries: BTreeSet::new(),
            deliveries: 0,
            delivered: BTreeSet::new(),
            counted: 0,
            next_consumer: 1,
        };
        world.heal();
        let settings = GroupSettings { lease_ms: 5_000, ..GroupSettings::default() };
        assert!(world.sites[0].create(GROUP, settings));
        for at in 0..world.sites.len() {
            for _ in 0..2 {
                let consumer = world.next_consumer;
                world.next_consumer += 1;
                world.workers.push(Worker { site: at, consumer, asked: None, has: vec![] });
            }
        }
        (0..3).for_each(|_| world.spread_all());
        world
    }

    fn is_linked(&self, a: usize, b: usize) -> bool {
        self.links.contains(&(a.min(b), a.max(b)))
    }

    fn heal(&mut self) {
        let count = self.sites.len();
        self.links = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b))).collect();
        (0..count).for_each(|at| self.tell_peers(at));
    }

    fn tell_peers(&mut self, at: usize) {
        let peers: Vec<PeerId> = (0..self.sites.len())
            .filter(|b| *b != at && self.is_linked(at, *b))
            .map(|b| peer(b as u8 + 1))
            .collect();
        self.sites[at].input(Input::Peers(peers));
        self.collect(at);
    }

    /// Looks at what a site said since.
    fn collect(&mut self, at: usize) {
        while let Some((to, message)) = self.sites[at].tells.pop_front() {
            if let GroupMessage::Leased { leases, .. } = &message {
                leases.iter().for_each(|one| self.check_handed_out(at, one));
            }
            let to = usize::from(to.0[0]) - 1;
            if self.is_linked(at, to) {
                self.net.push_back((at, to, message));
            }
        }
        for worker in 0..self.workers.len() {
            let (site, Some((ticket, until_ms))) = (self.workers[worker].site, self.workers[worker].asked)
            else {
                continue;
            };
            if site != at {
                continue;
            }
            if let Some(answer) = self.sites[at].answers.remove(&ticket) {
                self.workers[worker].asked = None;
                if let Ok(GroupAnswer::Leased(leases)) = answer {
                    for one in leases {
                        if one.lease.number >> 32 == at as u64 + 1 {
                            self.check_handed_out(at, &one);
                        }
                        self.deliveries += 1;
                        self.delivered.insert(one.lease.id);
                        self.workers[worker].has.push(one);
                    }
                }
            } else {
                let now_ms = self.sites[at].now.mono_ms;
                assert!(now_ms < until_ms + 8_000, "a consumer of site {at} waits for ever");
            }
        }
        self.sites[at].answers.clear();
    }

    fn check_handed_out(&self, at: usize, one: &Delivery) {
        let is_acked = self.acked[at].contains(&key(one.lease.id));
        assert!(!is_acked, "site {at} handed out what it knows to be done: {:?}", one.lease.id);
    }

    fn note(&mut self, at: usize, write: &GroupWrite) {
        if let GroupWrite::Ack { acks, .. } = write {
            for (peer, run, from, until) in ranges_of(acks) {
                self.acked[at].extend((from.0..until.0).map(|seq| (peer, run, crate::base::Seq(seq))));
            }
        }
        if let GroupWrite::Restate { writes } = write {
            writes.iter().for_each(|(_, _, write)| self.note(at, write));
        }
    }

    /// One append of a site is durable, or fails.
    fn append(&mut self, at: usize, may_fail: bool) -> bool {
        if self.sites[at].appends.is_empty() {
            return false;
        }
        let error = (may_fail && self.weather.failures && self.random.one_in(20)).then(disk_full);
        let written_first = self.random.one_in(2);
        if error.is_none() {
            let write = self.sites[at].appends[0].1.clone();
            self.note(at, &write);
        }
        self.sites[at].append_one(error, written_first);
        self.collect(at);
        true
    }

    /// One site has more of a log than another: it gets some.
    fn spread(&mut self, from: usize, to: usize) {
        for of in 1..=self.sites.len() as u8 {
            let (a, b) = pair(&mut self.sites, from, to);
            b.fetch(of, a);
            let known = b.writes.get(&peer(of)).and_then(|log| log.back()).map(|last| last.0.seq);
            let log = a.writes.get(&peer(of)).into_iter().flatten();
            let new: Vec<Entry> =
                log.filter(|one| known.is_none_or(|known| one.0.seq > known)).cloned().collect();
            let count = if self.random.one_in(3) { 1 } else { new.len() };
            for entry in new.into_iter().take(count) {
                self.note(to, &entry.2);
                self.sites[to].replicate(&entry);
                if self.random.one_in(30) {
                    self.sites[to].replicate(&entry);
                }
            }
        }
        self.collect(to);
    }

    fn spread_all(&mut self) {
        for from in 0..self.sites.len() {
            while self.append(from, false) {}
            for to in 0..self.sites.len() {
                if from != to && self.is_linked(from, to) {
                    self.spread(from, to);
                }
            }
        }
    }

    fn deliver(&mut self) -> bool {
        let Some((from, to, message)) = self.net.pop_front() else {
            return false;
        };
        let is_lost = self.weather.losses && self.random.one_in(10);
        if self.is_linked(from, to) && !is_lost {
            self.sites[to].input(Input::Heard { from: peer(from as u8 + 1), message });
            self.collect(to);
        }
        true
    }

    fn pass(&mut self, ms: u64) {
        for at in 0..self.sites.len() {
            let site = &mut self.sites[at];
            site.now.mono_ms += ms;
            site.now.unix_ms += ms;
            if site.engine.next_wake(site.now).is_some_and(|wake| wake <= site.now.mono_ms) {
                site.input(Input::Tick);
            }
            self.collect(at);
        }
    }

    fn add(&mut self) {
        let at = self.random.below(self.sites.len() as u64) as usize;
        let (priority, delay) = (self.random.below(10) as u8, self.random.below(20_000));
        let is_delayed = self.random.one_in(8);
        let site = &mut self.sites[at];
        let deliver_at_ms = is_delayed.then(|| site.now.unix_ms + delay);
        let (me, run) = (site.me, site.run);
        let id = site.add_one(me, run, |meta| {
            meta.priority = priority;
            meta.deliver_at_ms = deliver_at_ms;
        });
        self.entries.insert(id);
        self.collect(at);
    }

    fn work(&mut self, is_good: bool) {
        let at = self.random.below(self.workers.len() as u64) as usize;
        let (count, wait_ms) = (1 + self.random.below(3) as u32, self.random.below(4) * 700);
        let choice = if is_good { 2 } else { self.random.below(12) };
        let anywhere = self.random.below(self.sites.len() as u64) as usize;
        let extended_ms = 1 + self.random.below(8_000);
        let Worker { site, consumer, asked, has } = &mut self.workers[at];
        let site = *site;
        match (choice, has.len()) {
            (0, 1..) => {
                let leases = leases(&has.split_off(has.len() / 2));
                let counts = leases[0].number.is_multiple_of(2);
                self.sites[site].send(GROUP, Ask::Nack { leases, delay_ms: Some(extended_ms), counts });
            }
            (1, 1..) => {
                let leases = leases(has);
                self.sites[site].send(GROUP, Ask::Extend { leases, lease_ms: Some(extended_ms) });
            }
            (2..=5, 1..) => {
                let ids = ids(&std::mem::take(has));
                let site = if is_good { site } else { anywhere };
                self.sites[site].send(GROUP, Ask::Ack(ids));
                self.collect(site);
            }
            (6, _) => {
                has.clear();
                let gone = std::mem::replace(consumer, self.next_consumer);
                self.next_consumer += 1;
                if let Some((ticket, _)) = asked.take() {
                    self.sites[site].input(Input::Gone { ticket });
                }
                self.sites[site].input(Input::Left { consumer: gone });
            }
            // It forgets what it has.
            (7, 1..) => has.clear(),
            _ if asked.is_none() => {
                let acked = if choice == 8 { ids(&std::mem::take(has)) } else { vec![] };
                let until_ms = self.sites[site].now.mono_ms + wait_ms;
                let ticket = self.sites[site].send(GROUP, next(*consumer, count, wait_ms, acked));
                self.workers[at].asked = Some((ticket, until_ms));
            }
            _ => {}
        }
        self.collect(site);
    }

    fn count(&mut self, at: usize) -> u64 {
        let ticket = self.sites[at].send(GROUP, Ask::Info);
        match self.sites[at].answers.remove(&ticket) {
            Some(Ok(GroupAnswer::Info(info))) => {
                let counted = info.redelivered;
                counted.expired + counted.nacked + counted.left + counted.restarted
            }
            Some(Err(GroupError::Unknown { .. })) => 0,
            other => panic!("{other:?}"),
        }
    }

    fn crash(&mut self) {
        let at = self.random.below(self.sites.len() as u64) as usize;
        let ms = self.random.below(3_000);
        self.counted += self.count(at);
        self.net.retain(|(from, to, _)| *from != at && *to != at);
        for worker in self.workers.iter_mut().filter(|worker| worker.site == at) {
            worker.asked = None;
        }
        self.pass(ms);
        self.sites[at].restart(0);
        self.tell_peers(at);
    }

    fn toggle(&mut self) {
        let count = self.sites.len() as u64;
        let (a, b) = (self.random.below(count) as usize, self.random.below(count) as usize);
        let link = (a.min(b), a.max(b));
        if a != b && !self.links.remove(&link) {
            self.links.insert(link);
        }
        self.tell_peers(a);
        self.tell_peers(b);
    }

    fn step(&mut self, is_good: bool) {
        let count = self.sites.len() as u64;
        let (a, b) = (self.random.below(count) as usize, self.random.below(count) as usize);
        match self.random.below(20) {
            0..3 if !is_good => self.add(),
            0..7 => self.work(is_good),
            7..9 => {
                let ms = self.random.below(400);
                self.pass(ms);
            }
            9..12 => {
                self.append(a, true);
            }
            12..15 => {
                self.deliver();
            }
            15 if a != b && self.is_linked(a, b) => self.spread(a, b),
            16 if !is_good && self.weather.crashes && self.random.one_in(10) => self.crash(),
            17 if !is_good && self.weather.partitions && self.random.one_in(5) => self.toggle(),
            _ => {
                self.sites[a].read_one();
                self.collect(a);
            }
        }
    }

    /// All is well from now on, and must be done after a while.
    fn finish(&mut self) {
        self.weather = Weather { sites: self.weather.sites, ..Weather::default() };
        self.heal();
        for round in 0.. {
            for _ in 0..200 {
                self.step(true);
            }
            while self.deliver() {}
            self.spread_all();
            let is_done = |acked: &BTreeSet<Key>| self.entries.iter().all(|id| acked.contains(&key(*id)));
            if self.acked.iter().all(is_done) {
                return;
            }
            if round > 3_000 {
                let rest: Vec<&EntryId> =
                    self.entries.iter().filter(|id| !self.acked[0].contains(&key(**id))).collect();
                for at in 0..self.sites.len() {
                    let info = self.sites[at].info(GROUP);
                    eprintln!("site {at}: {info:?}");
                }
                panic!("{} entries are never handed out: {rest:?}", rest.len());
            }
        }
    }

    fn check_same(&mut self) {
        (0..4).for_each(|_| self.spread_all());
        let counts: Vec<u64> =
            (0..self.sites.len()).map(|at| self.sites[at].info(GROUP).acked_count).collect();
        assert!(
            counts.iter().all(|count| *count == self.entries.len() as u64),
            "{counts:?} {}",
            self.entries.len()
        );
        for (at, count) in counts.into_iter().enumerate() {
            let info = self.sites[at].info(GROUP);
            assert_eq!((info.ready_count, info.delayed_count), (0, 0), "site {at}: {info:?}");
            // What an engine knows that only reads the log is the same.
            self.sites[at].restart(0);
            assert_eq!(self.sites[at].info(GROUP).acked_count, count);
        }
    }
}

fn pair(sites: &mut [Site], a: usize, b: usize) -> (&Site, &mut Site) {
    if a < b {
        let (left, right) = sites.split_at_mut(b);
        (&left[a], &mut right[0])
    } else {
        let (left, right) = sites.split_at_mut(a);
        (&right[0], &mut left[b])
    }
}

fn run(seed: u64, weather: Weather) -> World {
    let mut world = World::new(seed, weather);
    for _ in 0..weather.steps {
        world.step(false);
    }
    world.finish();
    world
}

#[test]
fn all_is_done_at_one_peer_and_each_time_more_is_counted() {
    for seed in 0..20 {
        let weather = Weather { sites: 1, steps: 1_500, failures: seed % 2 == 0, ..Weather::default() };
        let mut world = run(seed, weather);
        let counted = world.counted + world.count(0);
        assert_eq!((world.deliveries - world.delivered.len()) as u64, counted, "seed {seed}");
        assert!(world.deliveries > 100, "seed {seed}: {}", world.deliveries);
        world.check_same();
    }
}

#[test]
fn all_is_done_when_the_peer_crashes() {
    for seed in 100..115 {
        let weather = Weather { sites: 1, steps: 1_500, crashes: true, failures: true, ..Weather::default() };
        run(seed, weather).check_same();
    }
}

#[test]
fn all_is_done_by_several_peers_without_anything_twice_but_for_a_reason() {
    for seed in 200..215 {
        let weather = Weather { sites: 2 + (seed % 2) as u8, steps: 2_000, ..Weather::default() };
        let mut world = run(seed, weather);
        let counted = world.counted + (0..world.sites.len()).map(|at| world.count(at)).sum::<u64>();
        let again = (world.deliveries - world.delivered.len()) as u64;
        assert!(again <= counted, "seed {seed}: {again} {counted}");
        world.check_same();
    }
}

#[test]
fn all_is_done_whatever_is_lost_cut_off_or_crashes() {
    for seed in 300..324 {
        let weather = Weather {
            sites: 2 + (seed % 2) as u8,
            steps: 2_500,
            crashes: seed % 4 < 2,
            partitions: true,
            losses: seed % 3 > 0,
            failures: true,
        };
        run(seed, weather).check_same();
    }
}
