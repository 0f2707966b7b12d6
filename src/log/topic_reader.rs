//! Reading a topic: its logs merged by time, from any position, with gaps told and nothing passed over in silence.
//!
//! Batches are handed out whole, in the order of their first entries' times. With each comes the time below which
//! nothing more will come, so that whoever takes the entries out can merge them exactly, holding at most what overlaps.
use crate::base::planted::{self, Bug};
use crate::base::{Batch, ClusterId, Cursor, EntryId, PeerId, Position, RunId, Seq, Timestamp, TopicId};
use crate::log::positions::{Next, Positions};
use crate::log::read::{self, Found, Hint};
use crate::log::run_view::Missing;
use crate::log::seek;
use crate::log::store::{Log, Store};
use crate::wire::outcome::{Blocked, BlockedReason, Gap, GapReason};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

/// What a reader is given.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "nearly all items are batches")]
pub enum ReadItem {
    /// A whole batch.
    Batch {
        /// The batch.
        batch: Batch,
        /// Entries below this number are not wanted.
        from: Seq,
        /// Entries with an earlier time precede everything that a later item holds.
        release_until: Timestamp,
    },
    /// Entries that can never be delivered; the reader goes on behind them.
    Gap(Gap),
    /// A log, or a run of it, that cannot be served further. Told once; the reader waits there.
    Blocked(Blocked),
}

/// Where reading begins, with names resolved.
#[derive(Debug, Clone)]
pub enum Start {
    /// The oldest that is kept.
    Oldest,
    /// What comes after this moment.
    Now(Timestamp),
    /// The first entry of each log at or after this time.
    Time(Timestamp),
    /// This entry, and other logs from its time on.
    Entry(EntryId, Timestamp),
    /// Where a reader stopped.
    Cursor(Cursor),
}

/// Bytes read ahead of one log at least.
const AHEAD_BYTES_MIN: usize = 64 << 10;

/// Items of one call from which on no more gaps are looked for: the next call goes on.
const TOLD_AT_ONCE: usize = 1_000;

struct LogReader {
    log: Arc<Log>,
    positions: Positions,
    hint: Option<Hint>,
    ahead: VecDeque<(Batch, Seq)>,
    /// What it waits for, by run, and that it said so.
    told: BTreeMap<RunId, Blocked>,
    /// The log was heard of only after the reader had begun, and nothing of this time or later was found in it yet: what comes
    /// of it is older.
    seeks: Option<Seeks>,
}

/// A log in which nothing was found yet.
#[derive(Debug, Clone, Copy)]
struct Seeks {
    floor: Timestamp,
    /// The log's revision when it was looked for.
    revision: u64,
}

/// A reader of one topic.
pub struct TopicReader {
    store: Arc<Store>,
    cluster: ClusterId,
    topic: TopicId,
    floor: Timestamp,
    skip_damaged: bool,
    logs: BTreeMap<PeerId, LogReader>,
    /// Positions in logs that are not known here, kept as they came.
    elsewhere: BTreeMap<PeerId, Vec<Position>>,
}

impl TopicReader {
    /// Begins to read. With `skip_damaged` what is damaged here is told as a gap instead of being waited for.
    pub fn open(
        store: Arc<Store>,
        cluster: ClusterId,
        topic: TopicId,
        start: Start,
        skip_damaged: bool,
    ) -> io::Result<Self> {
        let (logs, elsewhere) = (BTreeMap::new(), BTreeMap::new());
        let mut reader =
            Self { store, cluster, topic, floor: Timestamp::ZERO, skip_damaged, logs, elsewhere };
        match start {
            Start::Oldest => {}
            Start::Now(now) => reader.begin_now(now),
            Start::Time(time) => reader.seek(time, None)?,
            Start::Entry(id, time) => reader.seek(time, Some(id))?,
            Start::Cursor(cursor) => {
                reader.floor = cursor.floor;
                for position in cursor.positions {
                    reader.elsewhere.entry(position.peer).or_default().push(position);
                }
            }
        }
        reader.refresh()?;
        Ok(reader)
    }

    fn begin_now(&mut self, now: Timestamp) {
        self.floor = now;
        for log in self.store.logs_of(self.topic) {
            let positions = Positions::at_end(&log.look());
            self.add(log, positions, None);
        }
    }

    fn seek(&mut self, time: Timestamp, entry: Option<EntryId>) -> io::Result<()> {
        self.floor = time;
        for log in self.store.logs_of(self.topic) {
            let mut positions = seek::positions_at(&self.store, &log, time)?;
            if let Some(id) = entry.filter(|id| id.peer == log.id.peer) {
                positions.begin_at(&log.look(), id.run, id.seq);
            }
            self.add(log, positions, None);
        }
        Ok(())
    }

    fn add(&mut self, log: Arc<Log>, positions: Positions, seeks: Option<Seeks>) {
        let peer = log.id.peer;
        let (ahead, told) = (VecDeque::new(), BTreeMap::new());
        self.logs.insert(peer, LogReader { log, positions, hint: None, ahead, told, seeks });
    }

    /// Takes in logs that were not known before, and passes over what came since of those that are older than what is read.
    fn refresh(&mut self) -> io::Result<()> {
        for log in self.store.logs_of(self.topic) {
            if let Some(reader) = self.logs.get_mut(&log.id.peer) {
                let revision = log.revision();
                if let Some(seeks) = reader.seeks.as_mut().filter(|seeks| seeks.revision != revision) {
                    reader.positions = seek::positions_at(&self.store, &log, seeks.floor)?;
                    seeks.revision = revision;
                }
                continue;
            }
            let seeks = Seeks { floor: self.floor, revision: log.revision() };
            let seeks = Some(seeks).filter(|seeks| seeks.floor > Timestamp::ZERO);
            let (positions, seeks) = match self.elsewhere.remove(&log.id.peer) {
                Some(_) if planted::is(Bug::CursorForgetsUnknownLogs) => (Positions::default(), None),
                Some(positions) => (Positions::from_cursor(positions.into_iter()), None),
                None if planted::is(Bug::NowIsForgotten) => (Positions::default(), None),
                None => match seeks {
                    Some(Seeks { floor, .. }) => (seek::positions_at(&self.store, &log, floor)?, seeks),
                    None => (Positions::default(), None),
                },
            };
            self.add(log, positions, seeks);
        }
        Ok(())
    }

    /// The position behind everything that was handed out.
    pub fn cursor(&self) -> Cursor {
        let mut positions: Vec<Position> = self.elsewhere.values().flatten().copied().collect();
        // A log of which nothing was found yet is looked for by the time that the cursor has, elsewhere too.
        for (peer, reader) in self.logs.iter().filter(|(_, reader)| reader.seeks.is_none()) {
            // What was read ahead was not handed out.
            match reader.ahead.front() {
                None => positions.extend(reader.positions.to_cursor(*peer)),
                Some((batch, from)) => {
                    let mut before = reader.positions.clone();
                    before.set(batch.statement().run, *from);
                    positions.extend(before.to_cursor(*peer));
                }
            }
        }
        positions.sort_unstable();
        Cursor { cluster: self.cluster, topic: self.topic, floor: self.floor, positions }
    }

    /// Whether [`Self::next`] will not wait for the disk.
    pub fn is_in_memory(&mut self) -> bool {
        self.logs.values_mut().all(|reader| {
            let state = reader.log.look();
            match reader.positions.next(&state) {
                Next::Entry(run, seq) => reader.told.is_empty() && read::is_in_memory(&state, run, seq),
                // What comes behind the gap may have to be read.
                Next::Trimmed(..) => false,
                // So may what does not wait beside what does.
                _ => reader.told.is_empty(),
            }
        })
    }

    /// Whether it waits before something that the disk could not read, which may be readable later without any change.
    pub fn waits_for_disk(&self) -> bool {
        let is_io = |blocked: &Blocked| blocked.reason == BlockedReason::Io;
        self.logs.values().any(|reader| reader.told.values().any(is_io))
    }

    /// What comes next, at least one batch and then as long as [`Batch::cost_bytes`] adds up to less than `bytes_max`;
    /// empty when nothing more is held now.
    pub fn next(&mut self, bytes_max: usize) -> io::Result<Vec<ReadItem>> {
        self.refresh()?;
        let (mut items, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max {
            match self.read_ahead(bytes_max - bytes, &mut items) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if items.is_empty() => return Err(error),
                // What was found before goes out; the next call meets the error again.
                Err(_) => break,
            }
            let first_time = |r: &LogReader| r.ahead.front().map(|(batch, from)| time_of(batch, *from));
            let mut fronts: Vec<(Timestamp, PeerId)> =
                self.logs.iter().filter_map(|(peer, r)| Some((first_time(r)?, *peer))).collect();
            fronts.sort_unstable();
            let Some((_, peer)) = fronts.first() else { break };
            let release_until = fronts.get(1).map_or(Timestamp(u64::MAX), |(time, _)| *time);
            let Some((batch, from)) = self.logs.get_mut(peer).and_then(|r| r.ahead.pop_front()) else {
                break;
            };
            bytes += batch.cost_bytes();
            items.push(ReadItem::Batch { batch, from, release_until });
        }
        Ok(items)
    }

    /// Sees to it that every log that has more has its next batch here; tells what stands in the way. Answers whether it
    /// got that far: a thousand gaps are enough for one call.
    fn read_ahead(&mut self, bytes_max: usize, items: &mut Vec<ReadItem>) -> io::Result<bool> {
        let share = (bytes_max / self.logs.len().max(1)).max(AHEAD_BYTES_MIN.min(bytes_max));
        for (peer, reader) in &mut self.logs {
            let mut stuck = BTreeSet::new();
            while reader.ahead.is_empty() {
                if items.len() >= TOLD_AT_ONCE {
                    return Ok(false);
                }
                let next = reader.positions.next_but(&reader.log.look(), |run| stuck.contains(&run));
                let of_run = matches!(next, Next::Entry(..));
                match reader.take(&self.store, *peer, next, share, self.skip_damaged)? {
                    Taken::Batches | Taken::Passed => {}
                    Taken::Gap(gap) => items.push(ReadItem::Gap(gap)),
                    Taken::Blocked(blocked) => {
                        if reader.told.insert(blocked.run, blocked) != Some(blocked) {
                            items.push(ReadItem::Blocked(blocked));
                        }
                        stuck.insert(blocked.run);
                        // Where a whole log waits, nothing else of it comes.
                        if !of_run {
                            break;
                        }
                    }
                    Taken::Nothing => break,
                }
            }
        }
        Ok(true)
    }
}

/// The time of entry `from` of a batch.
fn time_of(batch: &Batch, from: Seq) -> Timestamp {
    let s = batch.statement();
    s.first_time.plus(from.since(s.first_seq))
}

enum Taken {
    Batches,
    /// Nothing to tell, and on.
    Passed,
    Gap(Gap),
    Blocked(Blocked),
    Nothing,
}

impl LogReader {
    fn take(
        &mut self,
        store: &Store,
        peer: PeerId,
        next: Next,
        bytes: usize,
        skip: bool,
    ) -> io::Result<Taken> {
        let (run, seq) = match next {
            Next::End => return Ok(Taken::Nothing),
            Next::Ahead(run, seq) => {
                let reason = BlockedReason::Ahead;
                return Ok(Taken::Blocked(Blocked { peer, run, from: seq, until: seq, reason }));
            }
            Next::Missing(Missing { run, from, until, child, next }) => {
                if skip {
                    self.positions.set(child, next);
                    let (reason, goes_on_from) = (GapReason::Damaged, None);
                    let gap = Gap { peer, run, from, until, reason, goes_on_from };
                    return Ok(if from < until { Taken::Gap(gap) } else { Taken::Passed });
                }
                let reason = BlockedReason::Missing;
                return Ok(Taken::Blocked(Blocked { peer, run, from, until, reason }));
            }
            Next::Trimmed(run, from, until) => {
                let is_overtaken = from > Seq::FIRST && planted::is(Bug::GapTooWide);
                let until = if is_overtaken { until.after(1) } else { until };
                return Ok(self.gap(peer, run, from, until, GapReason::Trimmed));
            }
            Next::Entry(run, seq) => (run, seq),
        };
        let waits = |this: &mut Self, until, reason| {
            if skip {
                return this.gap(peer, run, seq, until, GapReason::Damaged);
            }
            Taken::Blocked(Blocked { peer, run, from: seq, until, reason })
        };
        match read::read(store, &self.log, run, seq, bytes, &mut self.hint)? {
            Found::End => Ok(Taken::Nothing),
            Found::Lost(until) => Ok(self.gap(peer, run, seq, until, GapReason::Lost)),
            Found::Damaged(until) => Ok(waits(self, until, BlockedReason::Damaged)),
            Found::Absent(until) => Ok(waits(self, until, BlockedReason::Missing)),
            Found::Unreadable { until: Some(until), .. } if skip => Ok(waits(self, until, BlockedReason::Io)),
            Found::Unreadable { until, error } => {
                let until = until.unwrap_or(seq.after(1));
                tracing::warn!(%error, dir = ?self.log.dir, %seq, "a reader waits for what the disk cannot read");
                let reason = BlockedReason::Io;
                Ok(Taken::Blocked(Blocked { peer, run, from: seq, until, reason }))
            }
            Found::Batches(batches) => {
                self.told.remove(&run);
                self.queue(batches, run, seq);
                Ok(Taken::Batches)
            }
        }
    }

    /// Queues batches as far as they belong to what is next: not beyond the point where another run goes on.
    fn queue(&mut self, batches: Vec<Batch>, run: RunId, mut seq: Seq) {
        let state = self.log.look();
        for batch in batches {
            let s = *batch.statement();
            self.positions.pass(&state, run, s.until());
            if self.seeks.is_none_or(|seeks| seeks.floor <= s.last_time()) {
                let older = self.seeks.take().map_or(0, |seeks| seeks.floor.0.saturating_sub(s.first_time.0));
                self.ahead.push_back((batch, seq.max(s.first_seq.after(older))));
            }
            seq = s.until();
        }
    }

    fn gap(&mut self, peer: PeerId, run: RunId, from: Seq, until: Seq, reason: GapReason) -> Taken {
        let state = self.log.look();
        self.positions.pass(&state, run, until);
        self.told.remove(&run);
        let goes_on_from = state.run(run).filter(|run| run.has_beginning() && run.from == from);
        // Of one that is not known here nothing else says how far it was read.
        // Nor of one that forked, where it did: see `Positions::pass`.
        let goes_on_from = goes_on_from
            .filter(|run| state.fork_of(run.id).is_none())
            .map(|run| run.parent)
            .filter(|parent| state.run(*parent).is_some());
        Taken::Gap(Gap { peer, run, from, until, reason, goes_on_from })
    }
}

#[cfg(test)]
mod tests;
