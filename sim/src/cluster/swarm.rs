//! What a seed does: how many peers, how much work, and faults whose kinds and rates are drawn first, so that each seed
//! has a character of its own. Then everything heals, and what must hold is checked.
//!
//! ```text
//! start ──> safety: work and faults ──> heal ──> liveness: every peer takes an append ──> quiet ──> check
//!                                                                     power is lost everywhere ──> start ──> check
//! ```
use crate::cluster::client::{Client, Habits};
use crate::cluster::faults::{Backup, Power};
use crate::cluster::follower::{Follower, Given};
use crate::cluster::life::{Life, LifeSpawn, spawn};
use crate::cluster::membership::Manners;
use crate::cluster::network::Weather;
use crate::cluster::planted::Plant;
use crate::cluster::ways::{self, Ways};
use crate::cluster::{Cluster, DRAFTS, EVENTS, JOBS, METRICS, Report, Setup, Topic, check, lock};
use crate::random::Random;
use conveyor::disk::Fault;
use conveyor::runtime::Spawn;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Whether peers bring each other what they lack: then all must hold the same in the end.
pub const CONVERGES: bool = true;

/// Milliseconds between two comparisons of what peers hold, at most.
const DIGEST_INTERVAL_MS: u64 = 10_000;
/// Bytes that a peer may lack when everything is healed.
const LACKED_BYTES_MAX: u64 = 64 << 20;
/// Milliseconds that a healthy peer may take to answer an append.
const ANSWER_MS_MAX: u64 = 20_000;
/// Sites at most: the peers, and copies of their directories.
const SITES_MAX: usize = 8;

/// What goes wrong in a seed, how often in a thousand events. 0: never.
#[derive(Debug)]
struct Swarm {
    events: u64,
    pause_ms: u64,
    crash: u64,
    stop: u64,
    freeze: u64,
    doom: u64,
    wipe: u64,
    backup: u64,
    copy: u64,
    full: u64,
    error: u64,
    slow: u64,
    skew: u64,
    ways: u64,
    weather: u64,
    membership: u64,
    delete: u64,
    garbage: u64,
}

impl Swarm {
    fn draw(random: &mut Random) -> Self {
        let mut rate = |one_in: u64, max: u64| if random.one_in(one_in) { random.between(1, max) } else { 0 };
        Self {
            crash: rate(1, 300),
            stop: rate(2, 100),
            freeze: rate(3, 200),
            doom: rate(2, 200),
            wipe: rate(6, 100),
            backup: rate(6, 100),
            copy: rate(8, 60),
            full: rate(5, 100),
            error: rate(3, 150),
            slow: rate(4, 100),
            skew: rate(4, 150),
            ways: rate(2, 400),
            weather: rate(2, 300),
            membership: rate(3, 300),
            delete: rate(3, 100),
            garbage: rate(2, 1000),
            events: random.between(5, 60),
            pause_ms: random.between(200, 4_000),
        }
    }
}

/// A run under way.
struct Run {
    cluster: Arc<Cluster>,
    random: Random,
    swarm: Swarm,
    backups: Vec<(usize, Backup)>,
    followers: Vec<(Vec<usize>, Topic, Arc<Mutex<Given>>)>,
    /// Clients, which end before the last checks.
    clients: Arc<Life>,
    plant: Option<Plant>,
}

/// Runs one seed.
pub fn run(seed: u64, is_printed: bool) -> Report {
    run_with(seed, setup(seed, is_printed), None)
}

/// Runs one seed with a bug put in on purpose.
pub fn run_planted(seed: u64, plant: Plant) -> Report {
    let mut setup = setup(seed, false);
    plant.prepare(&mut setup);
    run_with(seed, setup, Some(plant))
}

fn setup(seed: u64, is_printed: bool) -> Setup {
    // Not what the cluster draws from the same seed.
    let mut random = Random::new(!seed);
    let peer_count = if random.one_in(4) { 1 } else { random.between(2, 6) as usize };
    Setup { is_printed, converges: CONVERGES, ..Setup::peers(peer_count) }
}

fn run_with(seed: u64, setup: Setup, plant: Option<Plant>) -> Report {
    crate::cluster::run(seed, setup, move |cluster| async move {
        let mut random = cluster.fork();
        let mut swarm = Swarm::draw(&mut random);
        if plant == Some(Plant::SameRuns) {
            (swarm.copy, swarm.crash) = (swarm.copy + 100, swarm.crash + 100);
        }
        let clients = Life::new(cluster.recorder.clone());
        let (backups, followers) = (Vec::new(), Vec::new());
        Run { cluster, random, swarm, backups, followers, clients, plant }.all().await;
    })
}

impl Run {
    async fn all(mut self) {
        self.cluster.recorder.note(format_args!("{:?}", self.swarm));
        if let Some(plant) = self.plant {
            plant.put_in(&self.cluster);
        }
        self.cluster.set_garbage(self.swarm.garbage as u16);
        self.cluster.start_all();
        self.begin_work();
        for _ in 0..self.swarm.events {
            let pause = self.random.below(2 * self.swarm.pause_ms);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.event().await;
            let live = self.cluster.all_live();
            live.iter().for_each(|(site, live)| check::check_bounds(*site, live));
        }
        self.heal().await;
        self.live().await;
        self.check();
        self.lose_power().await;
    }

    fn begin_work(&mut self) {
        let count = self.cluster.site_count();
        let pause_ms = self.random.between(20, 1_000);
        for client in 0..self.random.between(1, 5) {
            let sites = (0..count).map(|index| (client as usize + index) % count).collect();
            let topics = vec![JOBS, METRICS, EVENTS, DRAFTS];
            let habits = Habits { sites, topics, pause_ms, entries_max: 6, retries_max: 8 };
            let work = Client::new(self.cluster.clone(), habits).work();
            LifeSpawn(self.clients.clone()).spawn(Box::pin(work));
        }
        for topic in [JOBS, METRICS, EVENTS, DRAFTS] {
            let sites = match self.cluster.setup.converges {
                true => (0..count).collect(),
                false => vec![self.random.below(count as u64) as usize],
            };
            let forgets = self.plant == Some(Plant::CursorStandsStill);
            let (follower, given) = Follower::new(self.cluster.clone(), topic, sites.clone());
            spawn(&self.cluster.recorder, follower.forgetting(forgets).work());
            self.followers.push((sites, topic, given));
        }
    }

    async fn event(&mut self) {
        let site = self.random.below(self.cluster.site_count() as u64) as usize;
        let s = &self.swarm;
        let rates = [
            s.crash,
            s.stop,
            s.freeze,
            s.doom,
            s.wipe,
            s.backup,
            s.copy,
            s.full,
            s.error,
            s.slow,
            s.skew,
            s.ways,
            s.weather,
            s.membership,
            s.delete,
        ];
        let happens: Vec<usize> = (0..rates.len()).filter(|kind| self.random.chance(rates[*kind])).collect();
        for kind in happens {
            self.happen(kind, site).await;
        }
    }

    async fn happen(&mut self, kind: usize, site: usize) {
        match kind {
            0 | 1 | 2 | 4 => self.away(kind, site),
            3 => self.cluster.doom(site, self.random.below(40)),
            5 => self.back_up(site).await,
            6 => self.copy(site).await,
            7 => self.fill(site),
            8 => self.inject(site),
            9 => {
                let cost = Duration::from_millis(self.random.between(5, 500));
                self.cluster.inject(site, "syncs slowly", Fault::slow_sync(cost));
            }
            10 => self.skew(site),
            11 => {
                let ways = Ways::draw(&mut self.random, self.cluster.site_count());
                ways.close(&self.cluster);
            }
            12 => self.cluster.network.set_weather(ways::draw_weather(&mut self.random)),
            13 => self.cluster.network.set_manners(ways::draw_manners(&mut self.random)),
            _ => {
                let cluster = self.cluster.clone();
                spawn(&self.cluster.recorder, async move { cluster.delete(site, DRAFTS).await });
            }
        }
    }

    /// Takes a site away for a while.
    fn away(&mut self, kind: usize, site: usize) {
        if !self.cluster.claim(site) {
            return;
        }
        let away_ms = if self.random.one_in(3) { 0 } else { self.random.below(15_000) };
        let power = *self.random.pick(&[Power::Stays, Power::Lost]);
        let cluster = self.cluster.clone();
        let task = async move {
            match kind {
                0 => cluster.crash(site, power).await,
                1 => {
                    cluster.start_twice(site);
                    cluster.stop(site).await;
                }
                2 => cluster.freeze(site, true),
                _ => {
                    cluster.crash(site, Power::Lost).await;
                    cluster.wipe(site);
                }
            }
            tokio::time::sleep(Duration::from_millis(away_ms)).await;
            cluster.freeze(site, false);
            cluster.release(site).await;
        };
        spawn(&self.cluster.recorder, task);
    }

    async fn back_up(&mut self, site: usize) {
        let of_site = self.backups.iter().position(|(other, _)| *other == site);
        match of_site.filter(|_| self.random.one_in(2) && self.cluster.claim(site)) {
            Some(at) => {
                let (_, backup) = self.backups.swap_remove(at);
                self.cluster.crash(site, Power::Lost).await;
                self.cluster.restore(site, &backup);
                self.cluster.release(site).await;
            }
            None => self.backups.push((site, self.cluster.backup(site))),
        }
    }

    async fn copy(&mut self, site: usize) {
        if self.cluster.site_count() < SITES_MAX {
            let copied = self.cluster.copy(site, &self.cluster.backup(site));
            self.cluster.recover(copied).await;
        }
    }

    fn fill(&mut self, site: usize) {
        let left = self.random.below(2) * 600_000 + self.random.below(8) * 8192;
        self.cluster.fill(site, left);
        let (cluster, full_ms) = (self.cluster.clone(), self.random.below(20_000));
        spawn(&self.cluster.recorder, async move {
            tokio::time::sleep(Duration::from_millis(full_ms)).await;
            cluster.make_room(site);
        });
    }

    fn inject(&mut self, site: usize) {
        let nth = self.random.between(1, 20);
        let (what, fault) = match self.random.below(6) {
            0 => ("will fail a sync", Fault::sync_error().nth(nth)),
            1 => ("will fail a write", Fault::write_error().nth(nth)),
            2 => ("will fail to open a file", Fault::open_error().nth(nth)),
            3 => ("will fail to sync a directory", Fault::sync_dir_error().nth(nth)),
            _ => ("fails reads", Fault::read_error().one_in(nth)),
        };
        self.cluster.inject(site, what, fault);
    }

    fn skew(&mut self, site: usize) {
        let skew_ms = match self.random.below(8) {
            0 => 366 * 86_400_000,
            1 => -86_400_000,
            2..5 => self.random.below(120_000) as i64 - 60_000,
            _ => self.random.below(2_000) as i64 - 1_000,
        };
        self.cluster.skew(site, skew_ms);
    }

    /// All faults end.
    async fn heal(&mut self) {
        self.cluster.recorder.note(format_args!("everything heals"));
        if self.plant != Some(Plant::NeverHeals) {
            self.cluster.network.block([].into());
        }
        self.cluster.network.set_weather(Weather::FAIR);
        self.cluster.network.set_manners(Manners::CALM);
        for site in 0..self.cluster.site_count() {
            // Whoever has it brings it back within its time.
            while !self.cluster.claim(site) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            self.cluster.calm(site);
            self.cluster.release(site).await;
        }
    }

    /// Every peer takes an append; then the work ends, and what is under way may arrive.
    async fn live(&mut self) {
        for site in 0..self.cluster.site_count() {
            let habits = Habits {
                sites: vec![site],
                topics: vec![JOBS],
                pause_ms: 0,
                entries_max: 1,
                retries_max: 100,
            };
            let mut client = Client::new(self.cluster.clone(), habits);
            let append = tokio::time::timeout(Duration::from_millis(ANSWER_MS_MAX), client.append());
            assert_eq!(append.await, Ok(true), "{site} is healthy and takes no appends");
        }
        self.clients.end();
        let bytes_ms = LACKED_BYTES_MAX * 1000 / Weather::FAIR.bytes_per_s;
        tokio::time::sleep(Duration::from_millis(2 * DIGEST_INTERVAL_MS + bytes_ms + 5_000)).await;
    }

    fn check(&self) {
        check::check_all(&self.cluster);
        for (sites, topic, given) in &self.followers {
            sites.iter().for_each(|site| check::check_followed(&self.cluster, *site, *topic, given));
        }
        let owed = lock(&self.cluster.model).owed_count();
        self.cluster.recorder.note(format_args!("safe and live: {owed} entries owed"));
    }

    /// Once more from the disks alone.
    async fn lose_power(&self) {
        for site in 0..self.cluster.site_count() {
            self.cluster.crash(site, Power::Lost).await;
        }
        self.cluster.start_all();
        tokio::time::sleep(Duration::from_millis(ANSWER_MS_MAX)).await;
        check::check_all(&self.cluster);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_seeds_hold(seeds: std::ops::Range<u64>) {
        for seed in seeds {
            let report = run(seed, false);
            assert_eq!(report.failure, None, "seed {seed}: {:#?}", report.last);
        }
    }

    #[test]
    fn the_first_seeds_hold() {
        first_seeds_hold(0..10);
    }

    #[test]
    fn the_next_seeds_hold() {
        first_seeds_hold(10..20);
    }
}
