//! What a seed does: programs that write, follow and get, and faults whose kinds and rates are drawn first, so that each seed has
//! a character of its own. Then everything heals, and what must hold is checked.
//!
//! ```text
//! start ──> work and faults ──> heal ──> every peer takes appends ──> all alike in time ──> check
//!                                              power is lost everywhere ──> start ──> check
//! ```
use crate::cluster::faults::Power;
use crate::cluster::life::spawn;
use crate::cluster::report::Report;
use crate::random::Random;
use crate::whole::getter::Getter;
use crate::whole::seen::Seen;
use crate::whole::tail::Tail;
use crate::whole::user::User;
use crate::whole::weather::Weather;
use crate::whole::writer::{Habits, Writer};
use crate::whole::{Setup, Stack, address, check, topics};
use conveyor::base::TopicName;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Peers of a seed.
pub const PEERS: usize = 5;

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
    cut: u64,
    clog: u64,
    weather: u64,
    rebind: u64,
    roll: u64,
    skew: u64,
}

impl Swarm {
    fn draw(random: &mut Random) -> Self {
        let mut rate = |one_in: u64, max: u64| if random.one_in(one_in) { random.between(1, max) } else { 0 };
        Self {
            crash: rate(2, 400),
            stop: rate(3, 200),
            freeze: rate(3, 300),
            doom: rate(3, 200),
            wipe: rate(8, 150),
            cut: rate(2, 500),
            clog: rate(4, 300),
            weather: rate(2, 400),
            rebind: rate(3, 300),
            roll: rate(8, 100),
            skew: rate(6, 150),
            events: random.between(4, 20),
            pause_ms: random.between(500, 5_000),
        }
    }
}

/// A run under way.
struct Run {
    stack: Arc<Stack>,
    random: Random,
    swarm: Swarm,
    writers: Vec<Arc<crate::cluster::life::Life>>,
    tails: Vec<(TopicName, Arc<Mutex<Seen>>)>,
}

/// Runs one seed.
pub fn run(seed: u64, setup: Setup) -> Report {
    crate::whole::run(seed, setup, |stack| async move {
        let mut random = stack.fork();
        let swarm = Swarm::draw(&mut random);
        Run { stack, random, swarm, writers: Vec::new(), tails: Vec::new() }.all().await;
    })
}

impl Run {
    async fn all(mut self) {
        self.stack.recorder.note(format_args!("{:?}", self.swarm));
        self.stack.start_all().await;
        self.begin_work();
        for _ in 0..self.swarm.events {
            let pause = self.random.below(2 * self.swarm.pause_ms);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.event();
        }
        self.heal().await;
        let mut readers = check::one_client_each(&self.stack).await;
        check::check_takes_appends(&self.stack, &mut readers).await;
        self.writers.iter().for_each(|life| life.end());
        check::check_converges(&self.stack).await;
        check::check_all(&self.stack, &readers, &self.tails).await;
        drop(readers);
        self.lose_power().await;
    }

    /// Once more from the disks alone.
    async fn lose_power(&self) {
        for host in 0..self.stack.setup.peer_count {
            self.stack.crash(host, Power::Lost).await;
        }
        self.stack.start_all().await;
        let readers = check::one_client_each(&self.stack).await;
        check::check_converges(&self.stack).await;
        check::check_all(&self.stack, &readers, &self.tails).await;
    }

    /// Peers that a program is told of: all of them from one on, or one alone, from which it learns of the others.
    fn told(&mut self) -> Vec<usize> {
        let count = self.stack.setup.peer_count;
        let first = self.random.below(count as u64) as usize;
        let told = if self.random.one_in(3) { 1 } else { count };
        (0..told).map(|index| (first + index) % count).collect()
    }

    fn user(&mut self) -> User {
        let told = self.told();
        let mut user = User::new(&self.stack, told);
        user.patience = Duration::from_secs(self.random.between(5, 90));
        user
    }

    fn begin_work(&mut self) {
        let recorder = self.stack.recorder.clone();
        for _ in 0..self.random.between(1, 4) {
            let habits = Habits {
                pause_ms: self.random.between(20, 500),
                burst_max: self.random.between(1, 6),
                wants_copies: self.random.one_in(4),
            };
            let user = self.user();
            let life = user.life.clone();
            user.spawn_self(|user| Writer::new(user, habits).work());
            self.writers.push(life);
        }
        for topic in topics() {
            let (tail, seen) = Tail::new(self.user(), topic.clone());
            spawn(&recorder, tail.work());
            self.tails.push((topic, seen));
        }
        spawn(&recorder, Getter::new(self.user()).work());
    }

    fn event(&mut self) {
        let host = self.random.below(self.stack.setup.peer_count as u64) as usize;
        let s = &self.swarm;
        let rates =
            [s.crash, s.stop, s.freeze, s.wipe, s.doom, s.cut, s.clog, s.weather, s.rebind, s.roll, s.skew];
        let happens: Vec<usize> = (0..rates.len()).filter(|kind| self.random.chance(rates[*kind])).collect();
        happens.into_iter().for_each(|kind| self.happen(kind, host));
    }

    fn happen(&mut self, kind: usize, host: usize) {
        match kind {
            0..4 => self.away(kind, host),
            4 => self.stack.doom(host, self.random.below(60)),
            5 => self.stack.cut(false),
            6 => self.stack.cut(true),
            7 => self.stack.udp.set_weather(Weather::draw(&mut self.random)),
            8 => {
                let client = *self.random.pick(&self.stack.client_hosts());
                self.stack.recorder.note(format_args!("{client} is seen at another port"));
                self.stack.udp.rebind(client);
            }
            9 => {
                let stack = self.stack.clone();
                spawn(&self.stack.recorder, async move { roll(stack).await });
            }
            _ => {
                let skew_ms = self.random.below(4_000) as i64 - 2_000;
                self.stack.skew(host, skew_ms);
            }
        }
    }

    /// Takes a host away for a while.
    fn away(&mut self, kind: usize, host: usize) {
        if !self.stack.claim(host) {
            return;
        }
        let away_ms = if self.random.one_in(3) { 0 } else { self.random.below(20_000) };
        let power = *self.random.pick(&[Power::Stays, Power::Lost]);
        let stack = self.stack.clone();
        spawn(&self.stack.recorder, async move {
            match kind {
                0 => stack.crash(host, power).await,
                1 => stack.stop(host).await,
                2 => stack.freeze(host, true),
                _ => {
                    stack.crash(host, Power::Lost).await;
                    stack.wipe(host);
                }
            }
            tokio::time::sleep(Duration::from_millis(away_ms)).await;
            stack.freeze(host, false);
            stack.release(host).await;
        });
    }

    /// All faults end.
    async fn heal(&mut self) {
        self.stack.recorder.note(format_args!("everything heals"));
        self.stack.udp.close(BTreeSet::new());
        self.stack.udp.clog(BTreeSet::new());
        self.stack.udp.set_weather(Weather::FAIR);
        for host in 0..self.stack.setup.peer_count {
            // Whoever has it brings it back within its time.
            while !self.stack.claim(host) {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            self.stack.spare(host);
            self.stack.release(host).await;
            // Who wants it for something else comes too late.
            self.stack.claim(host);
        }
    }
}

/// Every peer is stopped and started again, one after the other.
async fn roll(stack: Arc<Stack>) {
    for host in 0..stack.setup.peer_count {
        if stack.claim(host) {
            stack.recorder.note(format_args!("{} has its turn", address(host)));
            stack.stop(host).await;
            stack.release(host).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
}
