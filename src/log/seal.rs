//! Sealing: a step's entries become batches with root, previous and signature. Computing alone: nothing is written.
//!
//! A step is sealed while the one before it is on its way to the disk, so what batches go on from is looked up in what
//! is published and in what was sealed and is not published yet.
//!
//! ```text
//! step 8   sealed ─> written ─> synced ─> published        one at a time
//! step 9             sealed ────────────> written ─> …     begins once 8 is written: from then on 8 is not refused
//! ```
use crate::base::batch;
use crate::base::step::{AppendWork, Step, Work};
use crate::base::{
    Batch, Digest, Fork, Head, LogId, Lost, PeerId, RunId, Seq, Signature, Statement, Timestamp, TopicId,
    TopicName,
};
use crate::identity::sign::{Signer, sign_as_successor, sign_statement};
use crate::log::journal::Record;
use crate::log::place::Place;
use crate::log::record::RecordKind;
use crate::log::state::{LogState, Run};
use crate::log::store::{Log, Store, lock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// Where a batch goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    Journal,
    Bulk,
    Buffered,
}

/// A batch that was sealed.
pub(super) struct Sealed {
    pub(super) log: Arc<Log>,
    pub(super) batch: Batch,
    /// Where it lies, and how it gets there: the writer says so.
    pub(super) place: Place,
    pub(super) path: Path,
    /// Whether its topic's bytes skip the journal.
    pub(super) is_buffered: bool,
    /// Whether it was signed earlier or elsewhere.
    pub(super) is_foreign: bool,
    /// Whether it is durable once the step is, and with it what the log holds before.
    pub(super) is_durable: bool,
    /// Whether readers see it only once the step is durable.
    pub(super) is_late: bool,
}

/// Something signed about a log.
#[derive(Debug, Clone)]
pub enum Stated {
    /// How far it is trimmed.
    Head(Head, Signature),
    /// What is lost of it.
    Lost(Lost, Signature),
    /// Where a run of it forked.
    Fork(Box<Fork>),
}

/// Where a run ends.
#[derive(Debug, Clone, Copy)]
struct End {
    parent: RunId,
    from: Seq,
    until: Seq,
    link: Digest,
}

type Ends = BTreeMap<(LogId, RunId), End>;

/// A step on its way to the disk.
#[derive(Default)]
pub struct SealedStep {
    pub(super) number: u64,
    /// Whether anybody waits for the disk.
    pub(super) must_sync: bool,
    pub(super) sealed: Vec<Sealed>,
    pub(super) statements: Vec<(Arc<Log>, Stated)>,
    /// The topics it is about, and certificates.
    pub(super) topics: BTreeMap<TopicId, TopicName>,
    pub(super) certificates: Vec<(PeerId, Arc<[u8]>)>,
    /// Logs that are to be durable as they are.
    pub(super) synced: Vec<LogId>,
    /// The runs of our own that it writes to.
    pub(super) runs: BTreeMap<LogId, RunId>,
    /// Logs with batches that readers see only once the step is durable.
    late: BTreeSet<LogId>,
    /// Where the runs end that it writes to.
    ends: Ends,
}

impl SealedStep {
    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Takes note of how far a run reaches now.
    fn reach(&mut self, batch: &Batch) {
        let s = batch.statement();
        let (parent, from) = (s.parent, s.first_seq);
        let new = End { parent, from, until: Seq::FIRST, link: Digest::ZERO };
        let end = self.ends.entry((s.log, s.run)).or_insert(new);
        if s.until() > end.until {
            (end.until, end.link) = (s.until(), batch.link());
        }
    }
}

/// What was sealed and is not published yet.
#[derive(Debug, Default)]
struct Pending {
    ends: BTreeMap<u64, Arc<Ends>>,
    /// The runs of our own that were opened since the start.
    runs: BTreeMap<LogId, RunId>,
}

/// Seals steps, one after the other.
pub struct Sealer {
    store: Arc<Store>,
    signer: Arc<dyn Signer>,
    pending: Mutex<Pending>,
}

/// One step being sealed, beside those that are not published yet.
struct Sealing<'a> {
    sealer: &'a Sealer,
    before: Vec<Arc<Ends>>,
    to: SealedStep,
}

impl Sealer {
    pub(super) fn new(store: Arc<Store>, signer: Arc<dyn Signer>) -> Self {
        Self { store, signer, pending: Mutex::default() }
    }

    /// Whose logs it seals.
    pub(super) fn peer(&self) -> PeerId {
        self.signer.peer()
    }

    /// Seals a step. The one before it was sealed, and its writer has said that it is written.
    pub fn seal(&self, step: Step) -> SealedStep {
        let must_sync = step.work.iter().any(needs_sync);
        let before = lock(&self.pending).ends.values().cloned().collect();
        let to = SealedStep { number: step.number, must_sync, ..SealedStep::default() };
        let mut sealing = Sealing { sealer: self, before, to };
        step.work.into_iter().for_each(|work| sealing.add(work));
        let mut to = sealing.to;
        let mut pending = lock(&self.pending);
        pending.ends.insert(to.number, Arc::new(std::mem::take(&mut to.ends)));
        pending.runs.extend(&to.runs);
        to
    }

    /// Takes note that a step is published, or was refused.
    pub(super) fn settle(&self, number: u64, is_published: bool) {
        let mut pending = lock(&self.pending);
        pending.ends.remove(&number);
        if !is_published {
            // A run that it was to open is not there.
            let is_there =
                |log: &LogId, run| self.store.log(log).is_some_and(|l| l.look().run(run).is_some());
            pending.runs.retain(|log, run| is_there(log, *run));
        }
    }

    fn run_of(&self, log: &LogId) -> Option<RunId> {
        lock(&self.pending).runs.get(log).copied()
    }
}

impl Sealing<'_> {
    fn add(&mut self, work: Work) {
        match work {
            Work::Append(append) => self.append(append),
            Work::Foreign { topic, batch } => {
                let log = self.log(batch.statement().log, &topic);
                self.to.reach(&batch);
                self.to.late.insert(log.id);
                self.put(log, batch, false, true, true);
            }
            Work::Trim { log, run, start, time } => {
                let heads = self.trim(log, run, start, time);
                self.to.statements.extend(heads);
                let completed = self.complete(log, time);
                self.to.statements.extend(completed);
            }
            Work::Lost(lost) => self.lose(lost),
            Work::ForeignHead { topic, head, signature } => {
                let log = self.log(head.log, &topic);
                self.to.statements.push((log, Stated::Head(head, signature)));
            }
            Work::ForeignLost { topic, lost, signature } => {
                let log = self.log(lost.log, &topic);
                self.to.statements.push((log, Stated::Lost(lost, signature)));
            }
            Work::Fork { topic, fork } => {
                let log = self.log(fork.log(), &topic);
                self.to.statements.push((log, Stated::Fork(fork)));
            }
            Work::Sync { log } => self.to.synced.push(log),
            Work::Certificate { peer, der } => self.to.certificates.push((peer, der)),
        }
    }

    fn append(&mut self, append: AppendWork) {
        let log = self.log(append.log, &append.topic);
        let (is_buffered, is_durable) = (append.is_buffered, append.must_sync || !append.is_buffered);
        // Readers see a log in order: what comes behind something late is late.
        if !is_buffered {
            self.to.late.insert(log.id);
        }
        let before = if append.opens_run { append.parent } else { append.run };
        let end = self.end_of(&log, before);
        assert_eq!(append.first_seq, end.until, "a log's numbers are dense");
        let blank = Statement {
            log: append.log,
            run: append.run,
            parent: append.parent,
            opens_run: append.opens_run,
            first_seq: append.first_seq,
            first_time: append.first_time,
            entry_count: 0,
            raw_bytes: 0,
            previous: end.link,
            root: Digest::ZERO,
            signed: None,
        };
        let statement = batch::state(&blank, &append.chunks);
        let signature = sign_statement(&*self.sealer.signer, &statement);
        let batch = Batch::assemble(statement, signature, &append.chunks);
        self.to.reach(&batch);
        self.to.runs.insert(log.id, append.run);
        self.put(log, batch, is_buffered, is_durable, false);
    }

    fn put(&mut self, log: Arc<Log>, batch: Batch, is_buffered: bool, is_durable: bool, is_foreign: bool) {
        let is_late = self.to.late.contains(&log.id);
        let (place, path) = (Place { segment: 0, offset: 0 }, Path::Journal);
        self.to.sealed.push(Sealed { log, batch, place, path, is_buffered, is_foreign, is_durable, is_late });
    }

    fn log(&mut self, id: LogId, topic: &TopicName) -> Arc<Log> {
        self.to.topics.entry(id.topic).or_insert_with(|| topic.clone());
        self.sealer.store.log_or_new(id, topic)
    }

    /// Heads that say where the chain that ends in `run` starts from now on: one for `run`, by default the one that we
    /// write, and one for each run before it that loses entries.
    fn trim(&self, id: LogId, run: Option<RunId>, start: Seq, time: Timestamp) -> Vec<(Arc<Log>, Stated)> {
        let Some(log) = self.sealer.store.log(&id) else { return vec![] };
        let own = self.to.runs.get(&id).copied().or_else(|| self.sealer.run_of(&id));
        let own = own.filter(|run| log.look().cut_of(*run).is_none());
        let own = own.or_else(|| log.look().tip().map(|run| run.id));
        let Some(leaf) = run.or(own) else { return vec![] };
        let end = self.end_of(&log, leaf);
        let is_left = run.is_some_and(|run| own != Some(run));
        let head = |run, start: Seq, end: End, is_sealed| {
            let start = start.min(end.until);
            let End { parent, from, until, link: last } = end;
            Head { log: id, run, parent, from, start, until, time, last, is_sealed }
        };
        let (is_done, cut) = cut_by(&log.look(), leaf, start.min(end.until));
        if is_done {
            return vec![];
        }
        let mut heads = vec![head(leaf, start, end, is_left)];
        for (run, left_at) in cut.into_iter().filter(|(run, _)| *run != leaf) {
            let end = self.end_of(&log, run);
            heads.push(head(run, start.min(left_at.unwrap_or(end.until)), end, true));
        }
        heads.into_iter().map(|head| self.sign_head(&log, head)).collect()
    }

    /// Heads that say where their runs begin, in place of those that do not: another store under our key trimmed them, and did not
    /// know.
    fn complete(&self, id: LogId, time: Timestamp) -> Vec<(Arc<Log>, Stated)> {
        let Some(log) = self.sealer.store.log(&id) else { return vec![] };
        let heads = log.look().heads_to_complete();
        heads.into_iter().map(|head| self.sign_head(&log, Head { time, ..head })).collect()
    }

    /// Signs a head: of our own log, or of one that we succeeded to.
    fn sign_head(&self, log: &Arc<Log>, head: Head) -> (Arc<Log>, Stated) {
        let signer = &*self.sealer.signer;
        let signature = match head.log.peer == signer.peer() {
            true => sign_statement(signer, &head),
            false => sign_as_successor(signer, &head),
        };
        (log.clone(), Stated::Head(head, signature))
    }

    /// Says that a range is lost; where that is how its run begins, a head says so too, which trims nothing: the first
    /// batch would have told others where it goes on from the one before.
    fn lose(&mut self, lost: Lost) {
        let Some(log) = self.sealer.store.log(&lost.log) else { return };
        let (id, end) = (log.id, self.end_of(&log, lost.run));
        if lost.from == end.from && end.from > Seq::FIRST {
            let start = log.look().run(lost.run).map_or(Seq::FIRST, |run| run.start.min(end.until));
            let End { parent, from, until, link: last } = end;
            let own = self.sealer.run_of(&id).or_else(|| log.look().tip().map(|run| run.id));
            let (run, time, is_sealed) = (lost.run, lost.time, own != Some(lost.run));
            let head = Head { log: id, run, parent, from, start, until, time, last, is_sealed };
            let signed = self.sign_head(&log, head);
            self.to.statements.push(signed);
        }
        let signature = sign_statement(&*self.sealer.signer, &lost);
        self.to.statements.push((log, Stated::Lost(lost, signature)));
    }

    /// Where `run` ends, with all that was sealed; before a log's first run, its beginning.
    fn end_of(&self, log: &Log, run: RunId) -> End {
        let key = (log.id, run);
        let held = {
            let state = log.look();
            // Our own as it lies on the disk: who hears of its own removal has batches on their way that do not count.
            let is_own = log.id.peer == self.sealer.peer();
            let known = |run: &Run| if is_own { state.whole(run) } else { *run };
            state.run(run).map(known).map(|run| End {
                parent: run.parent,
                from: state.from_to_sign(&run),
                until: run.until,
                link: run.link,
            })
        };
        let sealed =
            self.before.iter().filter_map(|ends| ends.get(&key)).chain(self.to.ends.get(&key)).copied();
        // What is known first of a run says where it begins, what is known last where it ends.
        let whole = held.into_iter().chain(sealed).reduce(|known, next| match next.until > known.until {
            true => End { parent: known.parent, from: known.from, ..next },
            false => known,
        });
        let (parent, from) = (RunId::NONE, Seq::FIRST);
        whole.unwrap_or(End { parent, from, until: Seq::FIRST, link: Digest::ZERO })
    }
}

/// The runs that lose entries when the chain that ends in `leaf` starts at `start`, newest first, each with the number at
/// which the chain leaves it, if it does; and whether that chain starts there already.
fn cut_by(state: &LogState, leaf: RunId, start: Seq) -> (bool, Vec<(RunId, Option<Seq>)>) {
    // A run that is being opened is not known yet; it goes on from the tip.
    let known = state.run(leaf).or(state.tip()).map(|run| run.id);
    let mut cut = Vec::new();
    for (run, left_at) in known.into_iter().flat_map(|known| state.chain(known)) {
        let from_here = start.min(left_at);
        if from_here <= run.from {
            continue;
        }
        if state.start_of(run) >= from_here {
            break;
        }
        cut.push((run.id, Some(left_at).filter(|_| Some(run.id) != known)));
    }
    (start <= state.kept_from(known), cut)
}

fn needs_sync(work: &Work) -> bool {
    match work {
        // Readers of a topic that is not buffered see what is durable, whoever waits.
        Work::Append(append) => append.must_sync || !append.is_buffered,
        _ => true,
    }
}

impl Stated {
    pub(super) fn record(&self) -> Record {
        match self {
            Self::Head(head, signature) => {
                Record::new(RecordKind::Head, [head.encode().as_slice(), &signature.0].concat())
            }
            Self::Lost(lost, signature) => {
                Record::new(RecordKind::Lost, [lost.encode().as_slice(), &signature.0].concat())
            }
            Self::Fork(fork) => Record::new(RecordKind::Fork, fork.encode().to_vec()),
        }
    }
}

#[cfg(test)]
mod tests;
