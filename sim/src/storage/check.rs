//! What must hold of an open directory: everything expected is read back, nothing else is, and the books agree with
//! the files.
use crate::storage::model::Level;
use crate::storage::site::Site;
use crate::storage::{CLUSTER, Shared, TOPICS, Topic};
use conveyor::base::{Batch, EntryId, LogId, RunId, Seq, Timestamp};
use conveyor::disk::{Disk, OpenMode};
use conveyor::log::place::{JOURNAL_DIR, segment_path};
use conveyor::log::read::{self, Single};
use conveyor::log::segment;
use conveyor::log::state::{LogState, Run, Span};
use conveyor::log::store::Log;
use conveyor::log::topic_reader::{ReadItem, Start, TopicReader};
use conveyor::wire::outcome::{Gap, GapReason};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// What a reader was given.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Entries.
    pub entries: BTreeSet<EntryId>,
    /// Ranges that were told to be missing.
    pub gaps: Vec<Gap>,
    /// Whether it waits for something that is not here.
    pub is_blocked: bool,
    /// Whether entries may come again: damage took the records of how runs go on from each other.
    pub may_repeat: bool,
}

impl Delivered {
    /// Whether `id` was told to be missing.
    pub fn has_gap(&self, id: &EntryId) -> bool {
        let holds =
            |gap: &Gap| gap.peer == id.peer && gap.run == id.run && gap.from <= id.seq && id.seq < gap.until;
        self.gaps.iter().any(holds)
    }

    /// Takes in what a reader gave, checking names, bytes and order.
    pub fn take(&mut self, shared: &mut Shared, item: ReadItem) {
        match item {
            ReadItem::Gap(gap) => self.gaps.push(gap),
            ReadItem::Blocked(_) => self.is_blocked = true,
            ReadItem::Batch { batch, from, .. } => self.take_batch(shared, &batch, from),
        }
    }

    fn take_batch(&mut self, shared: &mut Shared, batch: &Batch, from: Seq) {
        assert_eq!(batch.check_body(), Ok(()), "P7: damaged bytes were served");
        let walked = batch.for_each_entry(|id, time, view| {
            if id.seq >= from {
                shared.names.check(id, time, view.payload);
                let is_new = self.entries.insert(id);
                assert!(is_new || self.may_repeat, "P5: {id:?} came twice");
                let later = EntryId { seq: id.seq.after(1), ..id }..=EntryId { seq: Seq(u64::MAX), ..id };
                let is_late = self.entries.range(later).next().is_some();
                assert!(!is_late || self.may_repeat, "P5: {id:?} came behind its successor");
            }
            true
        });
        assert_eq!(walked, Ok(()), "P7: damaged bytes were served");
    }
}

/// Reads a topic from `start` to its end, over damage.
pub fn read_all(site: &Site, shared: &mut Shared, topic: Topic, start: Start) -> io::Result<Delivered> {
    let mut delivered = Delivered::default();
    let Some(live) = &site.live else { return Ok(delivered) };
    let mut reader = TopicReader::open(live.store.clone(), CLUSTER, topic.id(), start, true)?;
    let bytes_max = shared.random.between(1, 40_000) as usize;
    loop {
        let items = reader.next(bytes_max)?;
        if items.is_empty() {
            return Ok(delivered);
        }
        items.into_iter().for_each(|item| delivered.take(shared, item));
    }
}

/// Checks everything that must hold of an open directory.
pub fn check_all(site: &mut Site, shared: &mut Shared) {
    let (mut told, mut count) = (BTreeSet::new(), 0);
    for topic in TOPICS {
        let delivered = match read_all(site, shared, topic, Start::Oldest) {
            Ok(delivered) => delivered,
            Err(error) => {
                assert!(site.may_fail(), "a topic cannot be read: {error}");
                return;
            }
        };
        check_gaps(site, &delivered);
        let of_topic = site.expected.entries().filter(|(id, _)| id.topic == topic.id());
        let missing = of_topic.filter(|(id, _)| !delivered.entries.contains(id));
        for (id, level) in missing.map(|(id, level)| (*id, *level)).collect::<Vec<_>>() {
            check_missing(site, &id, level);
            told.insert(id);
        }
        let level = if topic.is_buffered() { Level::Written } else { Level::Durable };
        count += delivered.entries.len();
        delivered.entries.iter().for_each(|id| site.expected.acknowledge(*id, level));
    }
    check_damage(site, shared, &told);
    site.expected.forget(&told);
    check_starts(site);
    check_bounds(site);
    shared.trace.note(format_args!("{} checked: {count} entries, {} told damaged", site.index, told.len()));
}

fn check_gaps(site: &Site, delivered: &Delivered) {
    let is_harmed = site.harm.is_rotten || site.harm.has_lied || site.harm.has_hole;
    let damaged = delivered.gaps.iter().find(|gap| gap.reason == GapReason::Damaged);
    assert!(is_harmed || damaged.is_none(), "damage without a cause: {damaged:?}");
    assert!(!delivered.is_blocked, "a reader that skips damage is blocked");
}

/// An entry that must be there did not come: is that allowed?
fn check_missing(site: &Site, id: &EntryId, level: Level) {
    let Some(live) = &site.live else { return };
    let got = live.store.log(&id.log()).map(|log| read::get(&live.store, &log, id));
    let harm = &site.harm;
    let is_allowed = match &got {
        Some(Ok(Single::Entry(..))) => {
            panic!("P5: {id:?} is there and a reader from the start passes over it")
        }
        Some(Ok(Single::Damaged)) => harm.is_rotten || harm.has_lied,
        // Trims that a lost checkpoint made forgotten may be found again in old files of the journal.
        Some(Ok(Single::Trimmed(_) | Single::Lost)) => harm.has_lied || (harm.is_rotten && harm.is_told),
        Some(Ok(Single::Ahead(_) | Single::Unknown)) | None => {
            // In a segment that no journal speaks of rot cannot be told from a tear: what is behind it is cut, and told.
            let is_told = harm.is_told || (harm.is_cut && level == Level::Written);
            harm.has_lied || (harm.is_rotten && is_told)
        }
        Some(Err(_)) => site.may_fail(),
    };
    assert!(is_allowed, "P1: {id:?} was acknowledged and is gone: {got:?}");
}

/// Rot takes the batches it is in and spares their neighbours.
fn check_damage(site: &Site, shared: &Shared, told: &BTreeSet<EntryId>) {
    if site.harm.is_told || site.harm.has_lied || site.harm.is_cut {
        return;
    }
    let batches: BTreeSet<_> = told.iter().map(|id| (id.log(), shared.names.batch_of(id))).collect();
    let flips = site.harm.segment_flips;
    assert!(batches.len() as u64 <= flips, "{flips} bits rotted and {} batches are gone", batches.len());
}

fn check_starts(site: &Site) {
    let Some(live) = &site.live else { return };
    if site.harm.has_lied || site.harm.is_rotten {
        return;
    }
    for ((id, run), start) in site.expected.starts() {
        let Some(log) = live.store.log(id) else { continue };
        let state = log.look();
        // A run that was in memory alone is gone with its entries.
        let Some(known) = state.run(*run).map(|_| state.kept_from(Some(*run))) else { continue };
        assert!(known >= *start, "a trim to {start} is forgotten: {known}");
    }
}

/// Memory and files stay within their bounds.
fn check_bounds(site: &Site) {
    let Some(live) = &site.live else { return };
    let config = live.store.config;
    let bytes_of = |log: &Log| log.look().tail.iter().map(|t| t.batch.bytes().len()).sum::<usize>();
    let tail: usize = live.store.logs().iter().map(|log| bytes_of(log)).sum();
    let bound = config.tail_bytes_max.max(live.store.unflushed_bytes()) + STEP_BYTES_MAX;
    assert!(tail <= bound, "{tail} bytes of batches are in memory, the bound is {bound}");
    if site.harm.is_armed || live.rotations.len() > 1 {
        return;
    }
    let names = site.control.disk().list(JOURNAL_DIR).unwrap_or_default();
    let count = names.iter().filter(|name| name.ends_with(".journal")).count();
    assert!(count <= JOURNAL_FILES_MAX, "{count} journal files");
}

/// Bytes of the largest step that the simulation writes.
const STEP_BYTES_MAX: usize = 400 << 10;

/// Journal files that there may be: of one large step, of a checkpoint that waits, and of openings cut short.
const JOURNAL_FILES_MAX: usize = 24;

/// What a log's books say, as far as it must be the same after opening again.
#[derive(Debug, Clone, PartialEq)]
pub struct Books {
    runs: Vec<Run>,
    /// Without their beginnings: a trim and a restart may leave one that begins before the start.
    spans: Vec<(RunId, u32, Seq, u64, Timestamp)>,
}

/// The books of all logs for which `is_wanted` holds.
pub fn books(site: &Site, is_wanted: impl Fn(Topic) -> bool) -> BTreeMap<LogId, Books> {
    let Some(live) = &site.live else { return BTreeMap::new() };
    let logs = TOPICS.into_iter().filter(|topic| is_wanted(*topic)).flat_map(|t| live.store.logs_of(t.id()));
    logs.map(|log| (log.id, books_of(&log.look()))).filter(|(_, books)| !books.runs.is_empty()).collect()
}

fn books_of(state: &LogState) -> Books {
    let ends = |span: &Span| (span.run, span.segment, span.until, span.end, span.last_time);
    Books { runs: state.runs.to_vec(), spans: kept(state).iter().map(ends).collect() }
}

/// Spans that hold anything that is not trimmed.
fn kept(state: &LogState) -> Vec<Span> {
    let start_of = |span: &Span| state.run(span.run).map_or(Seq::FIRST, |run| state.start_of(run));
    state.spans.iter().filter(|span| span.until > start_of(span)).copied().collect()
}

/// The files hold what the books say: for directories that nothing was done to, after a flush.
pub fn audit(site: &Site) {
    let Some(live) = &site.live else { return };
    for log in live.store.logs() {
        let state = log.look();
        let mut spans = kept(&state);
        spans.iter().for_each(|span| audit_span(site, &log, span));
        spans.sort_by_key(|span| (span.segment, span.offset));
        for pair in spans.windows(2) {
            let is_apart = pair[0].segment < pair[1].segment || pair[0].end <= pair[1].offset;
            assert!(is_apart, "two spans share bytes: {pair:?}");
        }
        let last = spans.last().map(|span| (span.segment, span.end));
        let next = state.next_place.map(|place| (place.segment, place.offset));
        assert!(last <= next, "the next batch would be written over {last:?}, at {next:?}");
    }
}

fn audit_span(site: &Site, log: &Log, span: &Span) {
    let path = segment_path(&log.dir, &log.id, span.segment);
    let file = site.control.disk().open(&path, OpenMode::Read).expect("a segment that holds a span is there");
    let read = segment::read_batches(&*file, &log.id, span.offset, span.end, usize::MAX >> 1);
    let batches = read.unwrap_or_else(|bad| panic!("{span:?} of {path} is not in the file: {bad:?}"));
    let mut next = span.from;
    for (_, batch) in &batches {
        let s = batch.statement();
        assert!((s.run, s.first_seq) == (span.run, next), "{span:?} of {path} holds {s:?} at {next}");
        next = s.until();
    }
    let last = batches.last().map(|(_, batch)| batch.statement().last_time());
    assert_eq!((next, last), (span.until, Some(span.last_time)), "{span:?} of {path} ends elsewhere");
}
