//! The verbs of a story: what clients do, what the process does between steps, and what goes wrong.
use crate::storage::check::{self, Books};
use crate::storage::follower::Follower;
use crate::storage::model::Expected;
use crate::storage::plan::{End, Harm, Outcome, Plan};
use crate::storage::planted::Plant;
use crate::storage::site::{SECRET, Site};
use crate::storage::{Shared, TOPICS, Topic};
use conveyor::base::{Batch, EntryId, LogId, PeerId, Timestamp};
use conveyor::disk::{Disk, DiskImage, MemDisk};
use conveyor::identity::{MacVerifier, Signer};
use conveyor::log::Store;
use conveyor::log::read::{self, Found};
use conveyor::log::state::Run;
use conveyor::log::store::Log;
use conveyor::log::topic_reader::Start;
use std::collections::BTreeMap;

/// Bytes of a disk that has room.
const CAPACITY: u64 = 1 << 40;

/// A copy of a directory, and what it must hold.
pub struct Backup {
    image: DiskImage,
    expected: Expected,
    harm: Harm,
}

/// A run: directories, readers that follow them, and what they share.
pub struct Scenario {
    /// What the sites share.
    pub shared: Shared,
    /// The directories.
    pub sites: Vec<Site>,
    /// Readers with a cursor.
    pub followers: Vec<Follower>,
    seed: u64,
}

impl Scenario {
    /// A run of `seed` with one open, empty directory and a follower for each topic. Nothing goes wrong by itself.
    pub fn seed(seed: u64) -> Self {
        let mut scenario = Self::with(seed, false);
        assert!(scenario.open(0));
        scenario
    }

    /// The same with the directory not opened yet; with `is_printed` the trace goes to standard output.
    pub fn with(seed: u64, is_printed: bool) -> Self {
        let peer = MacVerifier::new(SECRET).signer(PeerId([1; 32])).peer();
        let site = Site::new(0, peer, &MemDisk::new(seed));
        let followers = TOPICS.map(Follower::new).into();
        Self { shared: Shared::new(seed, is_printed), sites: vec![site], followers, seed }
    }

    /// Opens a directory and checks it; `false` when a fault was in the way.
    pub fn open(&mut self, site: usize) -> bool {
        let s = &mut self.sites[site];
        if !s.open(&mut self.shared) {
            return false;
        }
        // What was opened is served, also when a full disk lets no checkpoint be written.
        let is_well = s.checkpoint(&mut self.shared);
        if is_well {
            check::check_all(s, &mut self.shared);
        }
        is_well
    }

    /// Appends `count` entries of `bytes` bytes as one batch, waiting for the disk as the topic has it.
    pub fn append(&mut self, topic: Topic, count: usize, bytes: u32) -> Outcome {
        let sizes = vec![bytes; count];
        self.write(0, &[Plan::Append { topic, sizes, must_sync: !topic.is_buffered() }])
    }

    /// Keeps `keep` entries of the peer's log.
    pub fn trim(&mut self, topic: Topic, keep: u64) -> Outcome {
        self.write(0, &[Plan::Trim { topic, keep }])
    }

    /// Writes one step.
    pub fn write(&mut self, site: usize, plans: &[Plan]) -> Outcome {
        self.sites[site].write(&mut self.shared, plans)
    }

    /// Ends the process of a directory.
    pub fn end(&mut self, site: usize, end: End) {
        self.sites[site].end(&mut self.shared, end);
    }

    /// Power is lost and comes back.
    pub fn power_loss(&mut self) {
        self.end(0, End::Power);
        assert!(self.open(0), "it opens again");
    }

    /// The process dies and is started again.
    pub fn process_crash(&mut self) {
        self.end(0, End::Process);
        assert!(self.open(0), "it opens again");
    }

    /// Checkpoints, flushes and removes what waits; `false` when the process must end.
    pub fn maintain(&mut self, site: usize) -> bool {
        self.sites[site].maintain(&mut self.shared)
    }

    /// Nothing that was injected goes wrong any more, and there is room. What is damaged stays so.
    pub fn calm(&mut self, site: usize) {
        let s = &mut self.sites[site];
        s.control.clear_faults();
        s.control.set_capacity(CAPACITY);
        s.fuse.mend();
        s.harm.is_armed = false;
    }

    /// Turns `count` bits over in a file whose name ends with `kind`.
    pub fn rot(&mut self, site: usize, kind: &str, count: usize) {
        let s = &mut self.sites[site];
        let image = s.control.image();
        let paths: Vec<&str> = image.files().filter(|path| path.ends_with(kind)).collect();
        if paths.is_empty() {
            return;
        }
        let path = *self.shared.random.pick(&paths);
        s.control.flip_bits(path, count).expect("the file is there");
        s.harm.is_rotten = true;
        s.harm.segment_flips += count as u64;
        if s.plant == Some(Plant::DamageTakesNeighbours) && kind == ".segment" {
            s.control.flip_bits(path, 50).expect("the file is there");
        }
        self.shared.trace.note(format_args!("{site} {count} bits rot in {path}"));
    }

    /// Turns one bit over at a byte of a file.
    pub fn flip(&mut self, site: usize, path: &str, offset: u64) {
        let s = &mut self.sites[site];
        s.control.flip_at(path, offset, 3).expect("the file is there");
        s.harm.is_rotten = true;
        s.harm.segment_flips += 1;
        self.shared.trace.note(format_args!("{site} a bit rots in {path} at {offset}"));
    }

    /// Takes a file away.
    pub fn remove(&mut self, site: usize, path: &str) {
        self.sites[site].control.disk().remove(path).expect("the file is there");
        self.shared.trace.note(format_args!("{site} {path} is gone"));
    }

    /// Leaves so many bytes on the disk.
    pub fn fill(&mut self, site: usize, left: u64) {
        let s = &mut self.sites[site];
        s.control.set_capacity(CAPACITY);
        let used = CAPACITY - s.control.disk().free_bytes().expect("a live disk says how full it is");
        s.control.set_capacity(used + left);
        s.harm.is_armed = true;
        self.shared.trace.note(format_args!("{site} has {left} bytes left"));
    }

    /// Brings batches of a topic that `site` found damaged from another directory.
    pub fn heal_from(&mut self, site: usize, from: usize, topic: Topic) {
        let log = self.sites[site].log_id(topic);
        let log_at =
            |s: &Site| s.live.as_ref().and_then(|live| live.store.log(&log)).expect("both hold the log");
        let (here, there) = (log_at(&self.sites[site]), log_at(&self.sites[from]));
        let damaged = here.look().damaged.clone();
        let store = self.sites[from].live.as_ref().map(|live| live.store.clone()).expect("it is open");
        let mut plans = Vec::new();
        for range in &damaged {
            if let Ok(Found::Batches(batches)) =
                read::read(&store, &there, range.run, range.from, 1, &mut None)
            {
                plans.extend(batches.into_iter().map(|batch| Plan::Import { topic, batch }));
            }
        }
        assert!(!plans.is_empty(), "there is damage to heal");
        assert_eq!(self.write(site, &plans), Outcome::Done);
        assert_eq!(here.look().damaged, [], "what is held again is no longer damaged");
    }

    /// Takes an index away, or spoils it.
    pub fn spoil_index(&mut self, site: usize) {
        let s = &mut self.sites[site];
        let image = s.control.image();
        let paths: Vec<&str> = image.files().filter(|path| path.ends_with(".index")).collect();
        if paths.is_empty() {
            return;
        }
        let path = *self.shared.random.pick(&paths);
        if self.shared.random.one_in(2) {
            // It may be that an injected fault keeps it.
            let _ = s.control.disk().remove(path);
        } else {
            s.control.flip_bits(path, 3).expect("the file is there");
        }
        self.shared.trace.note(format_args!("{site} {path} is spoilt"));
    }

    /// One file goes back to what it was at the backup.
    pub fn roll_back(&mut self, site: usize, backup: &Backup) {
        let s = &mut self.sites[site];
        let paths: Vec<&str> = backup.image.files().collect();
        if paths.is_empty() {
            return;
        }
        let path = *self.shared.random.pick(&paths);
        if s.control.roll_back(path, &backup.image).is_ok() {
            s.harm.has_lied = true;
            self.shared.trace.note(format_args!("{site} {path} goes back in time"));
        }
    }

    /// Readers from a moment, and from an entry, get everything from there on.
    pub fn seek(&mut self, site: usize) {
        let topic = *self.shared.random.pick(&TOPICS);
        let s = &self.sites[site];
        let Ok(all) = check::read_all(s, &mut self.shared, topic, Start::Oldest) else { return };
        let times: Vec<(EntryId, Timestamp)> =
            all.entries.iter().filter_map(|id| Some((*id, self.shared.names.time_of(id)?))).collect();
        if times.is_empty() {
            return;
        }
        let (id, time) = *self.shared.random.pick(&times);
        for start in [Start::Time(time), Start::Entry(id, time)] {
            let Ok(got) = check::read_all(s, &mut self.shared, topic, start) else { return };
            let mut wanted = times.iter().filter(|(other, at)| *at >= time || *other == id);
            let missed = wanted.find(|(id, _)| !got.entries.contains(id) && !got.has_gap(id));
            assert_eq!(missed, None, "a reader from {time:?} or {id:?} passed over an entry");
        }
        self.shared.trace.note(format_args!("{site} sought {time:?}"));
    }

    /// A copy of a directory as programs see it now.
    pub fn backup(&self, site: usize) -> Backup {
        let s = &self.sites[site];
        Backup { image: s.control.image(), expected: s.expected.clone(), harm: s.harm }
    }

    /// The directory is as it was at the backup.
    pub fn restore(&mut self, site: usize, backup: &Backup) {
        let s = &mut self.sites[site];
        drop(s.live.take());
        s.control.restore(&backup.image);
        s.expected = backup.expected.clone();
        // A write that is to go astray may still come.
        let has_lied = s.harm.has_lied || backup.harm.has_lied;
        s.harm = Harm { is_armed: s.harm.is_armed, has_lied, ..backup.harm };
        s.harm.is_restored = true;
        s.fuse.mend();
        self.shared.trace.note(format_args!("{site} is restored from a backup"));
    }

    /// Another directory with what the backup holds and the same peer's key; answers its number.
    pub fn copy(&mut self, backup: &Backup) -> usize {
        let index = self.sites.len();
        let disk = MemDisk::from_image(self.seed ^ index as u64, &backup.image);
        let mut site = Site::new(index, self.sites[0].peer, &disk);
        site.plant = self.sites[0].plant;
        site.expected = backup.expected.clone();
        site.harm = Harm { is_armed: false, is_restored: true, ..backup.harm };
        self.sites.push(site);
        self.shared.trace.note(format_args!("{index} is a copy"));
        index
    }

    /// Brings what site `from` holds and `to` does not to `to`, at most `count_max` batches.
    pub fn import(&mut self, from: usize, to: usize, count_max: usize) -> Outcome {
        let (plans, has_hole) = self.missing(from, to, count_max);
        let count = plans.len();
        self.sites[to].harm.has_hole |= has_hole && count > 0;
        self.shared.trace.note(format_args!("{to} imports {count} batches of {from}"));
        if plans.is_empty() { Outcome::Done } else { self.write(to, &plans) }
    }

    /// Those batches, and whether there are some among them that `from` cannot read.
    fn missing(&self, from: usize, to: usize, count_max: usize) -> (Vec<Plan>, bool) {
        let (Some(from), Some(to)) = (&self.sites[from].live, &self.sites[to].live) else {
            return (Vec::new(), false);
        };
        let (mut plans, mut has_hole) = (Vec::new(), false);
        for topic in TOPICS {
            for log in from.store.logs_of(topic.id()) {
                let held = to.store.log(&log.id);
                let runs = log.look().runs.to_vec();
                for run in runs {
                    // Without a run that is trimmed there nobody would know what the runs behind it go on from.
                    let Some((batches, is_whole)) = missing_of(&from.store, &log, &run, held.as_deref())
                    else {
                        break;
                    };
                    has_hole |= !is_whole;
                    plans.extend(batches.into_iter().map(|batch| Plan::Import { topic, batch }));
                }
            }
        }
        plans.truncate(count_max);
        (plans, has_hole)
    }

    /// All followers read to the end of `site`, and nothing was passed over.
    pub fn follow(&mut self, site: usize) {
        for follower in &mut self.followers {
            let s = &self.sites[site];
            let Ok(is_at_end) = follower.read(s, &mut self.shared, usize::MAX) else {
                assert!(s.may_fail(), "a follower cannot read");
                return;
            };
            if follower.is_blocked() {
                // A run that it read of is lost, as buffered ones may be: it is told, and begins anew.
                let is_elsewhere = self.sites.len() > 1;
                let is_lost =
                    follower.topic.is_buffered() || s.harm.has_lied || s.harm.is_restored || s.harm.is_rotten;
                assert!(is_elsewhere || is_lost, "P3: a reader saw what is not here");
                if !is_elsewhere {
                    *follower = Follower::new(follower.topic);
                }
                continue;
            }
            // Copies are trimmed each for itself: what one has trimmed a cursor from there counts as read.
            let is_trimmed = self.shared.trimmed.contains(&follower.topic.id());
            if is_trimmed && (self.sites.len() > 1 || s.harm.is_restored) {
                continue;
            }
            if let Ok(all) = check::read_all(s, &mut self.shared, follower.topic, Start::Oldest)
                && is_at_end
            {
                follower.check(&all.entries);
            }
        }
    }

    /// Checks a directory as it is.
    pub fn check(&mut self, site: usize) {
        check::check_all(&mut self.sites[site], &mut self.shared);
    }

    /// What a directory's books say.
    pub fn books(&self, site: usize, is_wanted: impl Fn(Topic) -> bool) -> BTreeMap<LogId, Books> {
        check::books(&self.sites[site], is_wanted)
    }
}

/// Batches of `run` that go on where `held` ends. Nothing is brought from behind a hole: where a run begins is known by
/// its first batch alone. And whether that is all of it. `None` when what is missing is trimmed there.
fn missing_of(store: &Store, log: &Log, run: &Run, held: Option<&Log>) -> Option<(Vec<Batch>, bool)> {
    let known = held.and_then(|held| held.look().run(run.id).map(|run| run.until));
    let (mut next, mut missing) = (known.unwrap_or(run.from), Vec::new());
    if next < log.look().start_of(run) {
        return (next >= run.until).then_some((missing, true));
    }
    while next < run.until
        && let Ok(Found::Batches(batches)) = read::read(store, log, run.id, next, 20_000, &mut None)
    {
        next = batches.last().map_or(run.until, |batch| batch.statement().until());
        missing.extend(batches);
    }
    Some((missing, next >= run.until))
}
