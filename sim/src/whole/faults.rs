//! What is done to hosts: starts, crashes, stops, pauses, lost disks, closed ways.
use crate::cluster::faults::Power;
use crate::cluster::life::spawn;
use crate::cluster::lock;
use crate::cluster::site::holds;
use crate::cluster::ways::Ways;
use crate::whole::host::Live;
use crate::whole::weather::Way;
use crate::whole::{Stack, address};
use conveyor::disk::DiskImage;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// How long an orderly stop may take.
const STOP_TIME_MAX: Duration = Duration::from_secs(30);

impl Stack {
    /// Starts a peer; says whether it started, which is certain unless it was to die meanwhile.
    pub async fn start(self: &Arc<Self>, host: usize) -> bool {
        let prepared = self.with_host(host, |host| {
            assert!(host.live.is_none(), "it runs");
            host.prepare(&self.udp, &self.recorder)
        });
        let prepared = prepared.expect("nobody else has its address");
        match prepared.start().await {
            Ok(live) => {
                let store = live.handle.about().store;
                self.recorder.note(format_args!("{host} starts: store {}", store.short()));
                self.with_host(host, |host| host.live = Some(live.clone()));
                spawn(&self.recorder, self.clone().look_after(host, live));
                true
            }
            Err(why) => {
                self.recorder.note(format_args!("{host} does not start: {why}"));
                let may_fail = self.with_host(host, |host| {
                    drop(host.control.crash_process());
                    host.doom.is_set()
                });
                self.udp.kill(address(host).ip());
                assert!(may_fail, "{host} does not start: {why}");
                false
            }
        }
    }

    /// Starts whatever does not run; nothing kills it any more.
    pub async fn start_all(self: &Arc<Self>) {
        for host in 0..self.setup.peer_count {
            self.ensure_started(host).await;
        }
    }

    async fn ensure_started(self: &Arc<Self>, host: usize) {
        if self.live(host).is_none() && !self.start(host).await {
            self.with_host(host, |host| host.doom.lift());
            assert!(self.start(host).await, "nothing keeps it from starting");
        }
    }

    /// A process that died by itself is started again, as whoever looks after it would.
    /// Boxed, since that start is looked after too.
    fn look_after(self: Arc<Self>, host: usize, live: Arc<Live>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let failed = live.life.unless_ended(live.handle.failed()).await;
            if self.live(host).is_none_or(|now| !Arc::ptr_eq(&now, &live)) {
                return;
            }
            let why = failed.as_deref().unwrap_or("it dies in the middle of its work");
            self.recorder.note(format_args!("{host} stops: {why}"));
            assert!(self.with_host(host, |host| host.doom.is_set()), "{host} stops without a cause: {why}");
            let power = if self.below(2) == 0 { Power::Stays } else { Power::Lost };
            self.crash(host, power).await;
            tokio::time::sleep(Duration::from_millis(self.below(3_000))).await;
            if self.claim(host) {
                self.release(host).await;
            }
        })
    }

    /// Makes a host somebody's own for a while; false when it is somebody else's.
    pub fn claim(&self, host: usize) -> bool {
        self.with_host(host, |host| !std::mem::replace(&mut host.is_claimed, true))
    }

    /// Gives it back, with a process that runs.
    pub async fn release(self: &Arc<Self>, host: usize) {
        if let Some(live) = self.live(host) {
            live.life.freeze(false);
        }
        self.ensure_started(host).await;
        self.with_host(host, |host| host.is_claimed = false);
    }

    /// Ends a process without a word: its sockets first, then its tasks, then what its disk did not keep.
    pub async fn crash(&self, host: usize, power: Power) {
        self.census();
        let Some(live) = self.with_host(host, |host| host.live.take()) else { return };
        self.udp.kill(address(host).ip());
        live.life.end();
        live.life.settled().await;
        self.with_host(host, |host| {
            match power {
                Power::Stays => drop(host.control.crash_process()),
                Power::Lost => drop(host.control.crash()),
            }
            host.doom.lift();
        });
        self.recorder.note(format_args!("{host} crashes, power {power:?}"));
    }

    /// Stops a peer as an administrator would.
    pub async fn stop(&self, host: usize) {
        let Some(live) = self.live(host) else { return };
        self.recorder.note(format_args!("{host} is stopped"));
        let is_done = tokio::time::timeout(STOP_TIME_MAX, live.stop()).await.is_ok();
        let may_hang = live.life.is_frozen() || self.with_host(host, |host| host.doom.is_set());
        assert!(is_done || may_hang, "{host} does not stop within {STOP_TIME_MAX:?}");
        self.crash(host, Power::Stays).await;
    }

    /// Gives a peer's process no time, or again.
    pub fn freeze(&self, host: usize, is_frozen: bool) {
        if let Some(live) = self.live(host) {
            self.recorder.note(format_args!("{host} is {}", if is_frozen { "frozen" } else { "thawed" }));
            live.life.freeze(is_frozen);
        }
    }

    /// A process will die in the middle of its disk work.
    pub fn doom(&self, host: usize, count: u64) {
        let is_change = self.below(2) == 0;
        let what = if is_change { "changes of its disk" } else { "jobs" };
        self.recorder.note(format_args!("{host} dies after {count} {what}"));
        self.with_host(host, |host| match is_change {
            true => host.doom.fuse.set(count),
            false => host.doom.after_jobs(count + 1),
        });
    }

    /// Nothing kills a process by itself any more.
    pub fn spare(&self, host: usize) {
        self.with_host(host, |host| host.doom.lift());
    }

    /// Empties a stopped peer's disk; its key stays. What nobody else held is forgiven.
    pub fn wipe(&self, host: usize) {
        self.census();
        let peer = self.with_host(host, |host| {
            assert!(host.live.is_none(), "a directory in use is not emptied");
            drop(host.control.restore(&DiskImage::default()));
            host.identity.peer
        });
        let mut model = lock(&self.model);
        let forgiven = model.lose(host, |_, _| false, |_, _| false);
        model.doubt(peer);
        drop(model);
        self.recorder.note(format_args!("{host} loses its disk, and {forgiven} entries with it"));
    }

    /// Sets how far a host's clock is off.
    pub fn skew(&self, host: usize, skew_ms: i64) {
        self.recorder.note(format_args!("{host} has a clock that is off by {skew_ms} ms"));
        self.with_host(host, |host| host.clock.set_skew(skew_ms));
    }

    /// Takes note of who holds what.
    pub fn census(&self) {
        let live = self.all_live();
        let mut model = lock(&self.model);
        for (host, live) in live {
            // Nobody signs two things for one id here.
            model.count_in(host, |id| holds(live.handle.store(), id), |_| false);
        }
    }

    /// All hosts: of peers, and then of clients.
    fn all_hosts(&self) -> Vec<IpAddr> {
        let peers = (0..self.setup.peer_count).map(|host| address(host).ip());
        peers.chain(self.client_hosts()).collect()
    }

    /// Closes ways between hosts, or clogs them, and opens all others; they stay so for a while at most.
    pub fn cut(self: &Arc<Self>, is_clog: bool) {
        let hosts = self.all_hosts();
        let Ways { kind, closed, closed_ms } = Ways::draw(&mut self.fork(), hosts.len());
        let ways: BTreeSet<Way> = closed.into_iter().map(|(from, to)| (hosts[from], hosts[to])).collect();
        let (count, what) = (ways.len(), if is_clog { "clogged" } else { "closed" });
        self.recorder.note(format_args!("{kind}: {count} ways are {what} for {closed_ms} ms"));
        let number = if is_clog { self.udp.clog(ways) } else { self.udp.close(ways) };
        let stack = self.clone();
        spawn(&self.recorder, async move {
            tokio::time::sleep(Duration::from_millis(closed_ms)).await;
            if if is_clog { stack.udp.unclog(number) } else { stack.udp.open(number) } {
                stack.recorder.note(format_args!("the {what} ways are open"));
            }
        });
    }
}
