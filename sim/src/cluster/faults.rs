//! What is done to sites: starts, crashes, pauses, and what happens to their disks, clocks and ways.
//!
//! Whoever takes bytes from a disk tells the model first what is lost with them.
use crate::cluster::life::spawn;
use crate::cluster::site::{Live, Site, holds};
use crate::cluster::written::{Content, names_of};
use crate::cluster::{CLUSTER, Cluster, METRICS, TOPICS, Topic, lock};
use conveyor::base::{Durability, EntryId, LogId, TopicId};
use conveyor::disk::{Disk, DiskImage, Fault, MemDisk};
use conveyor::runtime::Handle;
use conveyor::wire::outcome::TopicChange;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What becomes of unsynced bytes when a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// The machine goes on, and has them.
    Stays,
    /// They are gone, or torn.
    Lost,
}

/// A copy of a directory, and which entries are in it.
#[derive(Debug, Clone)]
pub struct Backup {
    pub(super) image: DiskImage,
    held: BTreeSet<EntryId>,
    /// The same of what two-faced peers wrote.
    contents: BTreeSet<Content>,
    /// Whether the disk it is of had rotted, or lied.
    is_unsure: bool,
}

/// Bytes of a disk that nobody filled.
const CAPACITY: u64 = 1 << 40;

impl Cluster {
    /// Starts a site's process; says whether it started. That it cannot must have a reason.
    pub fn start(self: &Arc<Self>, site: usize) -> bool {
        let started = self.with_site(site, |site| {
            assert!(site.live.is_none(), "it runs");
            site.start(&self.network, &self.recorder).map_err(|why| (why, site.may_fail()))
        });
        if let Err((why, may_fail)) = started {
            self.recorder.note(format_args!("{site} does not start: {why}"));
            assert!(may_fail, "{site} does not start: {why}");
            return false;
        }
        if let Some(live) = self.live(site) {
            spawn(&self.recorder, configure(live.clone()));
            spawn(&self.recorder, self.clone().look_after(site, live));
        }
        true
    }

    /// Starts everything that does not run, with disks that do as they are told.
    pub fn start_all(self: &Arc<Self>) {
        for site in 0..self.site_count() {
            self.calm(site);
            self.ensure_started(site);
        }
    }

    /// A process that died by itself, or whose disk failed, is started again, as whoever looks after it would.
    async fn look_after(self: Arc<Self>, site: usize, live: Live) {
        let failed = live.life.unless_ended(live.handle.failed()).await;
        if self.live(site).is_none_or(|now| now.store != live.store) {
            return;
        }
        let why = failed.as_deref().unwrap_or("it dies in the middle of its work");
        self.recorder.note(format_args!("{site} stops: {why}"));
        let may_fail = self.with_site(site, |site| site.may_fail());
        assert!(may_fail, "{site} stops without a cause: {why}");
        let drawn = *self.fork().pick(&[Power::Stays, Power::Lost]);
        let power = if self.with_site(site, |site| site.keeps_power) { Power::Stays } else { drawn };
        self.crash(site, power).await;
        let pause = self.below(3_000);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if self.claim(site) {
            self.release(site).await;
        }
    }

    /// From now on the machine of a site goes on when its process dies by itself.
    pub fn keep_power(&self, site: usize) {
        self.with_site(site, |site| site.keeps_power = true);
    }

    /// Makes a site somebody's own for a while; false when it is somebody else's.
    pub fn claim(&self, site: usize) -> bool {
        self.with_site(site, |site| !std::mem::replace(&mut site.is_claimed, true))
    }

    /// Gives it back, with a process that runs.
    pub async fn release(self: &Arc<Self>, site: usize) {
        self.recover(site).await;
        self.with_site(site, |site| site.is_claimed = false);
    }

    /// Sees to it that a site has a process that works.
    pub async fn recover(self: &Arc<Self>, site: usize) {
        if self.live(site).is_some_and(|live| !live.works()) {
            self.crash(site, Power::Stays).await;
            self.calm(site);
        }
        self.ensure_started(site);
    }

    /// Starts a site's process unless it runs, over a disk that does as it is told when it must.
    pub fn ensure_started(self: &Arc<Self>, site: usize) {
        if self.live(site).is_none() && !self.start(site) {
            self.with_site(site, |site| drop(site.control.crash_process()));
            self.calm(site);
            assert!(self.start(site), "a sound disk lets it start");
        }
    }

    /// Ends a site's process without a word.
    pub async fn crash(&self, site: usize, power: Power) {
        if power == Power::Lost {
            self.forget(
                site,
                |id, level| survives_power(self, site, &id.log(), level),
                |(log, ..), level| survives_power(self, site, log, level),
            );
        } else {
            self.census();
        }
        let Some(live) = self.with_site(site, |site| site.live.take()) else { return };
        self.with_site(site, |site| site.open_runs = live.handle.open_runs());
        self.network.leave(live.store);
        live.life.end();
        self.with_site(site, |site| match power {
            Power::Stays => drop(site.control.crash_process()),
            Power::Lost => drop(site.control.crash()),
        });
        self.with_site(site, |site| site.doom.lift());
        self.recorder.note(format_args!("{site} crashes, power {power:?}"));
        live.life.settled().await;
    }

    /// Ends a site's process as an administrator would; says whether it came to its end.
    pub async fn stop(&self, site: usize) {
        let Some(live) = self.live(site) else { return };
        self.recorder.note(format_args!("{site} is stopped"));
        let shutdown = live.life.unless_ended(live.handle.shutdown());
        let is_done = tokio::time::timeout(Duration::from_secs(20), shutdown).await.is_ok();
        let may_hang = live.life.is_frozen() || self.with_site(site, |site| site.may_fail());
        assert!(is_done || may_hang, "{site} does not stop");
        self.crash(site, Power::Stays).await;
    }

    /// Gives a site's process no time, or again.
    pub fn freeze(&self, site: usize, is_frozen: bool) {
        if let Some(live) = self.live(site) {
            self.recorder.note(format_args!("{site} is {}", if is_frozen { "frozen" } else { "thawed" }));
            live.life.freeze(is_frozen);
            self.network.look_again();
        }
    }

    /// A second process over a directory that has one is refused.
    pub fn start_twice(&self, site: usize) {
        self.with_site(site, |site| {
            let Some(live) = site.live.take() else { return };
            let again = site.start(&self.network, &self.recorder);
            site.live = Some(live);
            assert!(again.is_err(), "a directory was opened twice");
        });
        self.recorder.note(format_args!("{site} does not start twice"));
    }

    /// A disk does as it is told again.
    pub fn calm(&self, site: usize) {
        self.with_site(site, |site| {
            site.control.clear_faults();
            site.control.set_capacity(CAPACITY);
            site.calmed = site.may_fail().then(Instant::now);
            site.doom.lift();
            site.is_armed = false;
        });
    }

    /// Lets something go wrong on a disk.
    pub fn inject(&self, site: usize, what: &str, fault: Fault) {
        self.recorder.note(format_args!("{site} {what}"));
        self.with_site(site, |site| {
            site.control.inject(fault);
            site.is_armed = true;
        });
    }

    /// From its next start on a site's disk work waits for up to so long, but for what appends wait for.
    pub fn slow_down(&self, site: usize, ms_max: u64) {
        self.with_site(site, |site| site.times.other_ms_max = ms_max);
    }

    /// A process will die in the middle of its disk work.
    pub fn doom(&self, site: usize, count: u64) {
        let is_change = self.below(2) == 0;
        let what = if is_change { "changes of its disk" } else { "jobs" };
        self.recorder.note(format_args!("{site} dies after {count} {what}"));
        self.with_site(site, |site| match is_change {
            true => site.doom.fuse.set(count),
            false => site.doom.after_jobs(count + 1),
        });
    }

    /// Leaves so many bytes on a disk.
    pub fn fill(&self, site: usize, left: u64) {
        self.recorder.note(format_args!("{site} has {left} bytes left"));
        self.with_site(site, |site| {
            site.control.set_capacity(CAPACITY);
            let free = site.control.disk().free_bytes().expect("a live disk says how full it is");
            site.control.set_capacity(CAPACITY - free + left);
            site.is_armed = true;
        });
    }

    /// Copies a site's directory as it is now.
    pub fn backup(&self, site: usize) -> Backup {
        let is_unsure = lock(&self.model).is_unsure(site);
        let (held, contents) = match self.live(site) {
            Some(live) if !is_unsure => {
                let (model, store) = (lock(&self.model), live.handle.store());
                let held = model.owed().map(|(id, _)| *id).filter(|id| holds(store, id));
                let written = model.written().owed().map(|(content, _)| *content);
                (held.collect(), written.filter(|content| !names_of(store, content).is_empty()).collect())
            }
            _ => (BTreeSet::new(), BTreeSet::new()),
        };
        self.recorder.note(format_args!("{site} is copied, {} owed entries in it", held.len()));
        Backup { image: self.with_site(site, |site| site.control.image()), held, contents, is_unsure }
    }

    /// Puts an older copy in the place of a stopped site's directory.
    pub fn restore(&self, site: usize, backup: &Backup) {
        self.forget(site, |id, _| backup.held.contains(id), |content, _| backup.contents.contains(content));
        assert!(self.live(site).is_none(), "a directory in use is not restored");
        lock(&self.model).doubt(self.with_site(site, |site| site.peer));
        if backup.is_unsure {
            // It holds nothing that is owed: nothing was counted when the copy was made.
            lock(&self.model).mistrust(site);
        }
        self.recorder.note(format_args!("{site} is restored"));
        self.with_site(site, |site| drop(site.control.restore(&backup.image)));
    }

    /// Empties a stopped site's directory; its key stays.
    pub fn wipe(&self, site: usize) {
        let (image, held, contents) = (DiskImage::default(), BTreeSet::new(), BTreeSet::new());
        self.restore(site, &Backup { image, held, contents, is_unsure: false });
    }

    /// Makes a copy of a directory a site of its own, with the same key; answers its number.
    pub fn copy(&self, site: usize, backup: &Backup) -> usize {
        let mut random = self.fork();
        let disk = MemDisk::from_image(random.number(), &backup.image);
        let mut sites = lock(&self.sites);
        let (index, peer) = (sites.len(), sites[site].peer);
        let copied = Site::new(index, peer, &disk, &self.recorder, random);
        let mut copied = copied.bounded(&self.setup);
        (copied.starts, copied.draws_again) = (sites[site].starts, sites[site].draws_again);
        (copied.is_resumed, copied.resumes) = (sites[site].is_resumed, sites[site].resumes.clone());
        sites.push(copied);
        drop(sites);
        self.network.add_copy(index, site);
        lock(&self.model).doubt(peer);
        if backup.is_unsure {
            lock(&self.model).mistrust(index);
        }
        self.recorder.note(format_args!("{index} is a copy of {site}"));
        index
    }

    /// With its next start a site plays a machine of which a snapshot is resumed as another, which is what the next start of
    /// a copy made now is: both write one run, and what the peer wrote may get other names. The snapshot was taken before a
    /// run was opened.
    pub fn resume(&self, site: usize) {
        self.recorder.note(format_args!("{site} is resumed from a snapshot"));
        let peer = self.with_site(site, |site| {
            site.is_resumed = true;
            site.peer
        });
        lock(&self.model).fork(peer);
    }

    /// The same of a snapshot that was taken when the site's process ended, in the middle of the runs that it wrote: both go on
    /// in those, and what they open after that has names of its own, unless they draw the same too.
    pub fn resume_amid(&self, site: usize, draw_the_same: bool) {
        let (count, peer) = self.with_site(site, |site| {
            site.resumes = site.open_runs.clone();
            site.is_resumed = draw_the_same;
            (site.resumes.len(), site.peer)
        });
        self.recorder.note(format_args!("{site} is resumed from a snapshot in the middle of {count} runs"));
        lock(&self.model).fork(peer);
    }

    /// Sets how far a site's clock is off.
    pub fn skew(&self, site: usize, skew_ms: i64) {
        self.recorder.note(format_args!("{site} has a clock that is off by {skew_ms} ms"));
        self.with_site(site, |site| site.clock.set_skew(skew_ms));
    }

    /// A full disk has room again; what else is wrong with it stays.
    pub fn make_room(&self, site: usize) {
        self.recorder.note(format_args!("{site} has room again"));
        self.with_site(site, |site| site.control.set_capacity(CAPACITY));
    }

    /// How many in a thousand sectors that were being written hold garbage after power loss, everywhere.
    pub fn set_garbage(&self, per_mille: u16) {
        lock(&self.sites).iter().for_each(|site| site.control.set_garbage(per_mille));
    }

    /// Takes note of who holds what.
    pub fn census(&self) {
        let live = self.all_live();
        let mut model = lock(&self.model);
        for (site, live) in live {
            let store = live.handle.store();
            let holds_content = |content: &Content| !names_of(store, content).is_empty();
            model.count_in(site, |id| holds(store, id), holds_content);
        }
    }

    /// Tells the model what a directory is about to lose.
    pub(super) fn forget(
        &self,
        site: usize,
        keeps: impl Fn(&EntryId, Durability) -> bool,
        keeps_content: impl Fn(&Content, Durability) -> bool,
    ) {
        self.census();
        let forgiven = lock(&self.model).lose(site, keeps, keeps_content);
        if forgiven > 0 {
            self.recorder.note(format_args!("{site} takes {forgiven} entries with it"));
        }
    }

    /// Deletes a topic at a site.
    pub async fn delete(&self, site: usize, topic: Topic) {
        let Some(live) = self.live(site) else { return };
        lock(&self.model).trim(topic.id());
        let change = live.handle.change_topic(TopicChange::Delete { topic: topic.name() });
        let change = tokio::time::timeout(Duration::from_secs(10), live.life.unless_ended(change));
        let answer = change.await.ok().flatten().and_then(Result::ok);
        let done = answer.is_some();
        if let Some(deleted) = answer.and_then(|changed| changed.deleted) {
            lock(&self.model).deleted(topic.id(), deleted.until);
        }
        self.recorder.note(format_args!("{site} deletes {}: {done}", topic.name()));
    }
}

/// In a buffered topic only what was asked to be synced is, and only where it was asked.
fn survives_power(cluster: &Cluster, site: usize, log: &LogId, level: Durability) -> bool {
    let peer = cluster.with_site(site, |site| site.peer);
    log.topic != TopicId::of(CLUSTER, METRICS.name().as_str())
        || (level > Durability::Buffered && log.peer == peer)
}

/// Sets what is to be set for topics, once a process is up.
async fn configure(live: Live) {
    live.life.unless_ended(set_all(&live.handle)).await;
}

async fn set_all(handle: &Handle) {
    for topic in TOPICS {
        let is_known = handle.topic(&topic.name()).is_some_and(|known| known.is_configured);
        if let Some(settings) = topic.settings().filter(|_| !is_known) {
            // On a full disk it is tried again after the next start.
            let _ = handle.change_topic(TopicChange::Set { topic: topic.name(), settings }).await;
        }
    }
}
