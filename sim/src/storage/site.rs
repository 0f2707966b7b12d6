//! One data directory and, while it is open, the process that has it: numbers entries as a node does, writes steps,
//! and does the runtime's maintenance between them.
//!
//! What is acknowledged is told to the model at the moment a client would hear of it, not before.
use crate::storage::fuse::{Fuse, FusedDisk};
use crate::storage::model::{Expected, Fact, Level};
use crate::storage::plan::{End, Harm, Outcome, Plan};
use crate::storage::planted::Plant;
use crate::storage::{Shared, Topic, scrub};
use conveyor::base::step::{AppendWork, Step, Work};
use conveyor::base::{Chunk, ChunkBuilder, Codec, Entry, EntryId, LogId, PeerId, RunId, Seq, Timestamp};
use conveyor::disk::{DiskControl, DiskLock, MemDisk};
use conveyor::identity::{MacVerifier, Signer};
use conveyor::log::flush;
use conveyor::log::journal::Slots;
use conveyor::log::read::{self, Single};
use conveyor::log::state::LogState;
use conveyor::log::writer::Rotation;
use conveyor::log::{LogConfig, Scrub, StepDone, Store, StoreError, WriteError, Writer};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};

/// Small, so that files rotate and roll, memory is let go, and large batches take their own way all the time.
pub const CONFIG: LogConfig = LogConfig {
    journal_file_bytes: 64 << 10,
    segment_bytes: 32 << 10,
    bulk_bytes_min: 8 << 10,
    unflushed_bytes_max: 48 << 10,
    tail_bytes_max: 64 << 10,
};

/// The secret behind all keys of a simulation.
pub const SECRET: [u8; 32] = [7; 32];

/// An open store.
pub struct Live {
    /// What readers use.
    pub store: Arc<Store>,
    /// This start's run.
    pub run: RunId,
    /// Full journal files, oldest first, to be covered by checkpoints.
    pub rotations: VecDeque<Rotation>,
    /// Logs whose trimmed segments may go.
    pub trimmed: BTreeSet<LogId>,
    /// Reads again what is stored.
    pub scrub: Scrub,
    writer: Writer,
    slots: Arc<Mutex<Slots>>,
    /// What comes next in logs in which this start's run was opened, and the run it goes on from.
    next: BTreeMap<LogId, (Seq, Timestamp)>,
    parents: BTreeMap<LogId, RunId>,
    _lock: DiskLock,
}

/// One data directory.
pub struct Site {
    /// Its number in the scenario.
    pub index: usize,
    /// Whose it is.
    pub peer: PeerId,
    /// The hand that breaks its disk.
    pub control: DiskControl,
    /// Ends the process in the middle of things.
    pub fuse: Arc<Fuse>,
    /// The process, while it runs.
    pub live: Option<Live>,
    /// What must be there.
    pub expected: Expected,
    /// What was done to it.
    pub harm: Harm,
    /// Times it was opened.
    pub open_count: u64,
    /// A bug put in on purpose.
    pub plant: Option<Plant>,
}

struct Noted {
    id: EntryId,
    is_import: bool,
    is_buffered: bool,
    must_sync: bool,
}

impl Site {
    /// A directory on `disk` that belongs to `peer`.
    pub fn new(index: usize, peer: PeerId, disk: &MemDisk) -> Self {
        Self {
            index,
            peer,
            control: disk.control(),
            fuse: Arc::default(),
            live: None,
            expected: Expected::default(),
            harm: Harm::default(),
            open_count: 0,
            plant: None,
        }
    }

    /// The log of this site's peer in `topic`.
    pub fn log_id(&self, topic: Topic) -> LogId {
        LogId { topic: topic.id(), peer: self.peer }
    }

    /// Opens the directory; `false` when a fault was in the way.
    pub fn open(&mut self, shared: &mut Shared) -> bool {
        assert!(self.live.is_none(), "it is open");
        self.open_count += 1;
        let disk = Arc::new(FusedDisk::new(self.control.disk(), self.fuse.clone(), self.plant));
        let signer = Arc::new(MacVerifier::new(SECRET).signer(self.peer));
        assert_eq!(signer.peer(), self.peer);
        let opened = match conveyor::log::open(disk, CONFIG, signer, verifier(), &mut |_| {}) {
            Ok(opened) => opened,
            Err(error) => {
                assert!(self.may_fail(), "the store does not open: {error}");
                if let StoreError::Disk { error, .. } = &error {
                    assert_ne!(
                        error.kind(),
                        io::ErrorKind::StorageFull,
                        "a full disk has an error of its own"
                    );
                }
                shared.trace.note(format_args!("{} does not open: {error}", self.index));
                return false;
            }
        };
        let run = RunId(shared.random.number() | 1);
        let r = &opened.recovered;
        self.harm.is_told |= !r.damage.is_empty() || r.is_rebuilt;
        // Rot in the last record, before a mark, cannot be told from a tear.
        self.harm.is_told |= self.harm.is_rotten && r.torn.iter().any(|what| what.starts_with("journal"));
        self.harm.is_cut |= r.torn.iter().any(|what| what.contains("segment"));
        if r.is_rebuilt {
            self.expected.forget_starts();
        }
        shared.trace.note(format_args!(
            "{} opens: run {}, {} records, torn {:?}, damage {:?}",
            self.index,
            run.short(),
            r.record_count,
            r.torn,
            r.damage
        ));
        let is_harmed = self.harm.is_rotten || self.harm.has_lied;
        assert!(
            is_harmed || (r.damage.is_empty() && !r.is_rebuilt),
            "damage without a cause: {:?}",
            r.damage
        );
        let slots = opened.writer.slots();
        let scrub = scrub::begin(&opened.store, shared);
        self.live = Some(Live {
            store: opened.store,
            run,
            rotations: [opened.rotation].into(),
            trimmed: BTreeSet::new(),
            scrub,
            writer: opened.writer,
            slots,
            next: BTreeMap::new(),
            parents: BTreeMap::new(),
            _lock: opened.lock,
        });
        true
    }

    /// Whether a call that fails has its reason.
    pub fn may_fail(&self) -> bool {
        self.harm.is_armed || self.fuse.is_set()
    }

    /// Ends the process, if there is one.
    pub fn end(&mut self, shared: &mut Shared, end: End) {
        shared.trace.note(format_args!(
            "{} ends: {end:?}, {} entries expected",
            self.index,
            self.expected.count()
        ));
        let live = self.live.take();
        match end {
            End::Clean => {
                if let Some(mut live) = live
                    && let Err(error) = live.writer.finish()
                {
                    assert!(self.may_fail(), "a clean stop failed: {error}");
                }
                self.control.crash_process();
            }
            End::Process => {
                self.control.crash_process();
            }
            End::Power => {
                self.control.crash();
                self.expected.lose_power();
            }
        }
        self.fuse.mend();
    }

    /// Writes one step.
    pub fn write(&mut self, shared: &mut Shared, plans: &[Plan]) -> Outcome {
        let Some(mut live) = self.live.take() else { return Outcome::Dead };
        let (mut work, mut noted) = (Vec::new(), Vec::new());
        for plan in plans {
            work.extend(self.work_of(&mut live, shared, plan, &mut noted));
        }
        let mut trims: Vec<(LogId, Option<RunId>, Seq)> = Vec::new();
        for w in &work {
            if let Work::Trim { log, run, start, .. } = w {
                trims.push((*log, *run, *start));
            }
        }
        shared.step += 1;
        if !self.prewrite(&live, shared, &work) {
            self.live = Some(live);
            return Outcome::Dead;
        }
        let step = Step { number: shared.step, work };
        let (store, is_written) = (live.store.clone(), Cell::new(false));
        let result = live.writer.write(step, || {
            is_written.set(true);
            noted.iter().filter(|n| !n.is_buffered).for_each(|n| assert_hidden(&store, &n.id));
        });
        let outcome = match result {
            Ok(done) => {
                self.acknowledge(shared, &live, &noted);
                self.trimmed(&live, &trims, true);
                shared.trimmed.extend(trims.iter().map(|(log, ..)| log.topic));
                live.take(done);
                Outcome::Done
            }
            Err(WriteError::NoSpace) => {
                assert!(self.may_fail(), "a disk with room is full");
                noted.iter().for_each(|n| assert_hidden(&live.store, &n.id));
                // The numbers are given again, and only in another run.
                live.run = RunId(shared.random.number() | 1);
                live.next.clear();
                Outcome::Refused
            }
            Err(WriteError::Failed { what, error }) => {
                assert!(self.may_fail(), "a step failed: {what}: {error}");
                if is_written.get() {
                    let buffered = noted.iter().filter(|n| n.is_buffered);
                    buffered.for_each(|n| self.expected.acknowledge(n.id, Level::Written));
                }
                self.trimmed(&live, &trims, false);
                shared.trimmed.extend(trims.iter().map(|(log, ..)| log.topic));
                Outcome::Dead
            }
        };
        shared.trace.note(format_args!(
            "{} step {}: {} entries, {outcome:?}",
            self.index,
            shared.step,
            noted.len()
        ));
        self.live = Some(live);
        outcome
    }

    /// Brings about half of the large appends to the disk before their step; `false` when a fault was in the way that ends
    /// the process.
    fn prewrite(&self, live: &Live, shared: &mut Shared, work: &[Work]) -> bool {
        let mut seen = BTreeSet::new();
        for append in
            work.iter().filter_map(|w| if let Work::Append(append) = w { Some(append) } else { None })
        {
            let body = append.chunks[0].bytes();
            let is_large = body.len() >= CONFIG.bulk_bytes_min && !append.is_buffered;
            if seen.insert(append.log) && is_large && (shared.step ^ append.first_seq.0).is_multiple_of(2) {
                let result = live.store.prewrite(&append.log, &append.topic, body);
                shared.trace.note(format_args!("{} prewrite: {}", self.index, said(&result)));
                if !self.survives(result, "prewriting") {
                    return false;
                }
            }
        }
        true
    }

    fn work_of(
        &self,
        live: &mut Live,
        shared: &mut Shared,
        plan: &Plan,
        noted: &mut Vec<Noted>,
    ) -> Option<Work> {
        match plan {
            Plan::Append { topic, sizes, must_sync } => {
                Some(self.append(live, shared, *topic, sizes, *must_sync, noted))
            }
            Plan::Trim { topic, keep } => {
                let log = self.log_id(*topic);
                let held = live.store.log(&log)?;
                let state = held.look();
                // A branch goes once the log itself is trimmed to where it begins.
                let branch = state.branches().into_iter().find(|(_, from)| state.start >= *from);
                let run = branch.map(|(leaf, _)| leaf);
                let until = run.and_then(|run| state.run(run)).map_or(state.until(), |run| run.until);
                let start = Seq(until.0.saturating_sub(*keep).max(1));
                Some(Work::Trim { log, run, start, time: shared.now() })
            }
            Plan::Import { topic, batch } => {
                batch.check_entries().expect("only verified batches are imported");
                let s = batch.statement();
                let id = |seq| EntryId { topic: s.log.topic, peer: s.log.peer, run: s.run, seq: Seq(seq) };
                let noted_of =
                    |seq| Noted { id: id(seq), is_import: true, is_buffered: false, must_sync: true };
                noted.extend((s.first_seq.0..s.until().0).map(noted_of));
                Some(Work::Foreign { topic: topic.name(), batch: batch.clone() })
            }
        }
    }

    fn append(
        &self,
        live: &mut Live,
        shared: &mut Shared,
        topic: Topic,
        sizes: &[u32],
        must_sync: bool,
        noted: &mut Vec<Noted>,
    ) -> Work {
        let log = self.log_id(topic);
        let known = live.store.log(&log);
        let tip = known.as_ref().and_then(|log| log.look().tip().copied());
        let (opens_run, parent, first_seq, after) = match (live.next.get(&log), tip) {
            (Some((seq, time)), _) => (false, live.parent_of(&log), *seq, *time),
            (None, Some(tip)) => (true, tip.id, tip.until, tip.last_time.plus(1)),
            (None, None) => (true, RunId::NONE, Seq::FIRST, Timestamp::ZERO),
        };
        let first_time = shared.now().max(after);
        let mut builder = ChunkBuilder::new();
        for (index, bytes) in sizes.iter().enumerate() {
            let nonce = shared.nonce();
            let time = first_time.plus(index as u64);
            let fact = Fact { nonce, bytes: *bytes, time, batch: first_seq };
            let id = EntryId {
                topic: log.topic,
                peer: log.peer,
                run: live.run,
                seq: first_seq.after(index as u64),
            };
            builder.push(&Entry::from(fact.payload())).expect("a small payload is an entry");
            shared.names.attempt(id, fact);
            noted.push(Noted { id, is_import: false, is_buffered: topic.is_buffered(), must_sync });
        }
        let codec = if shared.random.one_in(4) { Codec::Zstd } else { Codec::None };
        let chunk = Chunk::parse(builder.finish(codec)).expect("a chunk that was built is one");
        let count = sizes.len() as u64;
        if opens_run {
            live.parents.insert(log, parent);
        }
        live.next.insert(log, (first_seq.after(count), first_time.plus(count)));
        Work::Append(AppendWork {
            topic: topic.name(),
            log,
            run: live.run,
            parent,
            opens_run,
            first_seq,
            first_time,
            chunks: vec![chunk],
            is_buffered: topic.is_buffered(),
            must_sync,
        })
    }

    fn acknowledge(&mut self, shared: &mut Shared, live: &Live, noted: &[Noted]) {
        for n in noted {
            // What comes from elsewhere may be trimmed here.
            let log = live.store.log(&n.id.log());
            if n.is_import && log.is_some_and(|log| is_trimmed(&log.look(), &n.id)) {
                continue;
            }
            let level = if n.is_buffered && !n.must_sync { Level::Written } else { Level::Durable };
            self.expected.acknowledge(n.id, level);
            shared.names.pin(n.id);
            if n.is_buffered && n.must_sync {
                self.expected.sync(n.id.log());
            }
        }
        if let Some(n) = noted.last() {
            let got = live.store.log(&n.id.log()).map(|log| read::get(&live.store, &log, &n.id));
            let is_there = matches!(got, Some(Ok(Single::Entry(..) | Single::Trimmed(_))));
            assert!(is_there || self.may_fail(), "an acknowledged entry cannot be read: {got:?}");
        }
    }

    fn trimmed(&mut self, live: &Live, trims: &[(LogId, Option<RunId>, Seq)], is_done: bool) {
        for (id, run, start) in trims {
            let Some(log) = live.store.log(id) else { continue };
            let state = log.look();
            // It reaches no further than the run it speaks for did; alone, it shows.
            let leaf = run.or(state.tip().map(|run| run.id));
            let kept_from = state.kept_from(leaf);
            let is_signed = leaf.is_some_and(|run| state.heads.get(run).is_some());
            let is_alone = trims.iter().filter(|(log, ..)| log == id).count() == 1;
            assert!(
                !is_done || !is_signed || !is_alone || kept_from >= *start,
                "a trim to {start} that was written does not show: {kept_from}"
            );
            let start = if is_done { kept_from.min(*start) } else { *start };
            let signed = state.heads.iter().map(|(head, _)| (head.run, head.start));
            let durable: Vec<(RunId, Seq)> = signed.filter(|_| is_done).collect();
            // A trim that failed may show later, for whichever run.
            let is_signed = |run| {
                state.heads.iter().any(|(head, _)| start <= head.start && state.is_ancestor(run, head.run))
            };
            let is_covered = |run| !is_done || is_signed(run);
            self.expected.trim(*id, &durable, |e| e.seq < start && is_covered(e.run));
        }
    }

    /// Writes one waiting checkpoint; `false` when a fault was in the way that ends the process.
    pub fn checkpoint(&mut self, shared: &mut Shared) -> bool {
        let Some(live) = &mut self.live else { return true };
        let Some(rotation) = live.rotations.pop_front() else { return true };
        let number = rotation.number;
        let result =
            flush::checkpoint(&live.store, &live.slots, rotation, &|each| each(&number.to_le_bytes()));
        shared.trace.note(format_args!(
            "{} checkpoint up to journal {number}: {}",
            self.index,
            said(&result)
        ));
        self.survives(result, "a checkpoint")
    }

    /// Flushes what waits; `false` when a fault was in the way that ends the process.
    pub fn flush(&mut self, shared: &mut Shared) -> bool {
        let Some(live) = &self.live else { return true };
        let result = flush::flush(&live.store);
        shared.trace.note(format_args!("{} flush: {}", self.index, said(&result)));
        self.survives(result, "a flush")
    }

    /// Removes what was trimmed; `false` when a fault was in the way that ends the process.
    pub fn discard(&mut self, shared: &mut Shared) -> bool {
        let Some(live) = &mut self.live else { return true };
        let (store, trimmed) = (live.store.clone(), std::mem::take(&mut live.trimmed));
        for id in trimmed {
            let result = flush::discard(&store, &id).map(drop);
            shared.trace.note(format_args!("{} discard: {}", self.index, said(&result)));
            if !self.survives(result, "removing what was trimmed") {
                return false;
            }
        }
        true
    }

    /// What the runtime does between steps; `false` when the process must end.
    pub fn maintain(&mut self, shared: &mut Shared) -> bool {
        while self.live.as_ref().is_some_and(|live| !live.rotations.is_empty()) {
            if !self.checkpoint(shared) {
                return false;
            }
        }
        if self.live.as_ref().is_some_and(|live| flush::is_due(&live.store)) && !self.flush(shared) {
            return false;
        }
        self.discard(shared)
    }

    /// Writes a mark, as a node does when nothing happens; `false` when the process must end.
    pub fn mark(&mut self, shared: &mut Shared) -> bool {
        let Some(live) = &mut self.live else { return true };
        let result = live.writer.mark();
        shared.trace.note(format_args!("{} mark: {}", self.index, result.is_ok()));
        assert!(result.is_ok() || self.may_fail(), "a mark failed: {result:?}");
        result.is_ok()
    }

    fn survives(&self, result: io::Result<()>, what: &str) -> bool {
        match result {
            Ok(()) => true,
            Err(error) => {
                assert!(self.may_fail(), "{what} failed: {error}");
                error.kind() == io::ErrorKind::StorageFull
            }
        }
    }

    /// A second opening while the first lives is refused.
    pub fn check_lock(&self) {
        let signer = Arc::new(MacVerifier::new(SECRET).signer(self.peer));
        let again =
            conveyor::log::open(Arc::new(self.control.disk()), CONFIG, signer, verifier(), &mut |_| {});
        assert!(
            self.live.is_none() || matches!(again, Err(StoreError::InUse)),
            "a directory was opened twice"
        );
    }
}

impl Live {
    fn parent_of(&self, log: &LogId) -> RunId {
        self.parents.get(log).copied().unwrap_or(RunId::NONE)
    }

    fn take(&mut self, done: StepDone) {
        self.rotations.extend(done.rotation);
        self.trimmed.extend(done.trimmed);
    }
}

fn verifier() -> Arc<MacVerifier> {
    Arc::new(MacVerifier::new(SECRET))
}

fn said(result: &io::Result<()>) -> String {
    result.as_ref().map_or_else(|error| error.to_string(), |()| "done".into())
}

fn is_trimmed(state: &LogState, id: &EntryId) -> bool {
    state.run(id.run).is_some_and(|run| id.seq < state.start_of(run))
}

/// Readers do not see what is not durable yet.
fn assert_hidden(store: &Store, id: &EntryId) {
    if let Some(log) = store.log(&id.log()) {
        let got = read::get(store, &log, id);
        assert!(!matches!(got, Ok(Single::Entry(..))), "P3: {id:?} can be read before it is durable");
    }
}
