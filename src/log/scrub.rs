//! Scrub: what is stored is read again, piece by piece, so that damage is found before somebody needs what it took.
//!
//! ```text
//! round    log, log, log …  from the one it begins at, over the last, back to that one
//! log      run by run, in order of number, up to where the run ended when the scrub came to it
//! piece    up to so many bytes of that: checksums, digests against the signed root, signature, the chain
//! ```
//!
//! What is bad is set aside as a reader's finding is: neighbours are served, the gap is told. Beyond what readers check, a
//! batch must be what its peer signed, and what the batch behind it names. What was set aside and is all that again is
//! served again. Sectors that cannot be read count as damage when a later round cannot read them either, and others of
//! the same file can be read; where nothing can be read the disk is away, and nothing is set aside.
//!
//! A piece ends early where many sectors cannot be read, and in the middle of a search for the next good batch; the next
//! one goes on from there.
//!
//! It reads what is in segments, also of batches that are still in memory, and waits for nobody: what is trimmed meanwhile
//! is passed over, what is not in its segment yet comes with the next round. When, and how fast, is said elsewhere.
// tidy: long file because a round, and what it remembers of damage and of bad sectors, is one walk
use crate::base::{Batch, Digest, LogId, RunId, Seq};
use crate::identity::sign::verify_with;
use crate::log::bad_sectors::OverBadSectors;
use crate::log::read::{note_damage, open_twice};
use crate::log::segment::BadBatch;
use crate::log::state::{LogState, Lookup, Range, Span};
use crate::log::store::{Log, Store};
use crate::log::stretch::{Hint, Search, Stretch};
use crate::wire::verify::Vouched;
use std::collections::BTreeSet;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

/// Places looked at in one piece at most, so that a piece is short also among logs with nothing to read.
const LOOKS_MAX: usize = 256;
/// What the smallest read counts for: opening a file and finding a place in it is work too.
const READ_BYTES_MIN: u64 = 4 << 10;
/// Bytes searched at least before a search pauses.
const SEARCH_BYTES_MIN: u64 = 64 << 10;
/// Sectors that one piece asks for in vain, give or take one read: each may take a bad disk seconds.
const ERRORS_MAX: usize = 32;
/// Bad sectors of one segment that a round does not ask for again.
const BAD_SECTORS_MAX: usize = 4096;
/// Places remembered of one round that could not be read.
const FAILED_MAX: usize = 1024;

/// What became of a piece.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Bytes read, small reads rounded up.
    pub bytes: u64,
    /// Places at which damage was found.
    pub damaged: u64,
    /// Places passed over because the disk gave errors there, as it may not do the next time.
    pub errors: u64,
    /// Batches that had been set aside, and are served again.
    pub healed: Vec<(LogId, Range)>,
    /// Whether the round is complete with this.
    pub is_round_done: bool,
}

/// Where a round stands.
#[derive(Debug, Clone)]
struct At {
    log: LogId,
    /// Whether the last log was passed and the first ones are read.
    has_wrapped: bool,
    /// The place of the run in its log.
    run: usize,
    /// Where the run ended when the scrub came to it.
    until: Option<Seq>,
    seq: Seq,
    hint: Option<Hint>,
    /// The last batch that was read, if it is good, where it lies, and what the next one must name.
    before: Option<(Span, Range, Digest)>,
    /// Where a search for the next good batch paused.
    hole: Option<Hole>,
    /// Sectors of a segment that could not be read.
    bad: (u32, BTreeSet<u64>),
}

/// Bytes from where a batch should begin to where a search for the next came.
#[derive(Debug, Clone, Copy)]
struct Hole {
    segment: u32,
    seq: Seq,
    from: u64,
    until: u64,
    has_errors: bool,
}

impl At {
    fn log(log: LogId, has_wrapped: bool) -> Self {
        let (seq, bad) = (Seq::FIRST, (0, BTreeSet::new()));
        Self { log, has_wrapped, run: 0, until: None, seq, hint: None, before: None, hole: None, bad }
    }

    fn next_run(&self) -> Self {
        Self { run: self.run + 1, ..Self::log(self.log, self.has_wrapped) }
    }

    fn pass(&mut self, until: Seq) {
        self.seq = self.seq.max(until);
    }
}

/// What there is at the place where a round stands.
enum Next {
    Read(Arc<Log>, Span, u64),
    Nothing,
    End,
}

/// Reads everything again, round after round.
pub struct Scrub {
    store: Arc<Store>,
    first: LogId,
    at: Option<At>,
    round: u64,
    /// What could not be read, and in which round.
    failed: Vec<(LogId, Range, u64)>,
    failed_max: usize,
}

impl Scrub {
    /// Begins its rounds at the log `first`, or at what comes behind it: a peer that is restarted before a round ends does
    /// well to begin elsewhere each time.
    pub fn new(store: Arc<Store>, first: LogId) -> Self {
        Self { store, first, at: None, round: 0, failed: Vec::new(), failed_max: FAILED_MAX }
    }

    /// Reads on, about `bytes_max` bytes, a whole batch at least, or until the disk gave many errors. After the end of a
    /// round the next piece begins another.
    pub fn piece(&mut self, bytes_max: u64) -> Piece {
        let (mut piece, mut errors_left) = (Piece::default(), ERRORS_MAX);
        let mut at = self.at.take().unwrap_or(At::log(self.first, false));
        for _ in 0..LOOKS_MAX {
            match self.next(&mut at) {
                Next::Read(log, span, end) => {
                    let left =
                        Left { bytes: bytes_max.saturating_sub(piece.bytes), errors: &mut errors_left };
                    self.read(&mut at, &log, span, end, left, &mut piece);
                }
                Next::Nothing => {}
                Next::End => {
                    piece.is_round_done = true;
                    self.failed.retain(|(_, _, round)| *round == self.round);
                    self.round += 1;
                    break;
                }
            }
            if piece.bytes >= bytes_max || errors_left == 0 {
                break;
            }
        }
        self.at = Some(at).filter(|_| !piece.is_round_done);
        let counters = &self.store.counters;
        self.store.count(&counters.scrub_bytes, piece.bytes);
        self.store.count(&counters.scrub_damage, piece.damaged);
        self.store.count(&counters.scrub_errors, piece.errors);
        self.store.count(&counters.scrub_healed, piece.healed.len() as u64);
        piece
    }

    /// What is to be read at `at`, which moves over what is not.
    fn next(&self, at: &mut At) -> Next {
        let Some(log) = self.store.log(&at.log) else { return self.next_log(at, Bound::Included(at.log)) };
        let state = log.look();
        let Some(run) = state.runs.get(at.run).copied() else {
            return self.next_log(at, Bound::Excluded(at.log));
        };
        let until = *at.until.get_or_insert(run.until);
        at.pass(state.start_of(&run));
        if at.seq >= until {
            *at = at.next_run();
            return Next::Nothing;
        }
        let found = match state.find_stored(run.id, at.seq) {
            // It may be well again, whatever was declared.
            missing @ (Lookup::Damaged(_) | Lookup::Lost(_)) => match state.find_written(run.id, at.seq) {
                found @ Lookup::Span { .. } => found,
                _ => missing,
            },
            found => found,
        };
        match found {
            Lookup::Span { span, readable_end } if at.seq < span.until => {
                drop(state);
                return Next::Read(log, span, readable_end);
            }
            // It is in memory alone.
            Lookup::Span { .. } | Lookup::Tail(_) => at.pass(behind_unflushed(&state, run.id, at.seq)),
            Lookup::Damaged(until) | Lookup::Lost(until) | Lookup::Absent(until) => at.pass(until),
            Lookup::Beyond => at.pass(until),
        }
        Next::Nothing
    }

    fn next_log(&self, at: &mut At, from: Bound<LogId>) -> Next {
        let next = match self.store.first_log(from) {
            Some(log) => At::log(log.id, at.has_wrapped),
            None if at.has_wrapped => return Next::End,
            None => match self.store.first_log(Bound::Unbounded) {
                Some(log) => At::log(log.id, true),
                None => return Next::End,
            },
        };
        if next.has_wrapped && next.log >= self.first {
            return Next::End;
        }
        *at = next;
        Next::Nothing
    }

    fn read(&mut self, at: &mut At, log: &Log, span: Span, end: u64, left: Left, piece: &mut Piece) {
        let from = at.seq;
        // What was stored anew is looked at where it lies.
        let held_until = |until| log.look().newest_in(&span, from, from, until).1;
        match self.look_at(at, log, span, end, left) {
            Ok(Seen::Batches(mut batches)) => {
                let until = batches.last().map_or(from, |last| held_until(last.statement().until()));
                let is_here = |batch: &Batch| batch.statement().first_seq < until;
                batches.truncate(batches.iter().take_while(|batch| is_here(batch)).count());
                let bytes: u64 = batches.iter().map(|batch| batch.bytes().len() as u64).sum();
                piece.bytes += bytes.max(READ_BYTES_MIN);
                self.check(at, log, &span, &batches, piece);
            }
            Ok(Seen::Paused { bytes }) => piece.bytes += bytes.max(READ_BYTES_MIN),
            Ok(Seen::Bad { bytes, next, has_errors, why }) => {
                piece.bytes += bytes.max(READ_BYTES_MIN);
                let until = held_until(next.map_or(span.until, |next| next.seq));
                self.found_bad(log, &span, Range { run: span.run, from, until }, has_errors, &why, piece);
                self.not_named(at, log, piece);
                at.hint = next;
                at.pass(until);
            }
            Err(error) => {
                piece.bytes += READ_BYTES_MIN;
                piece.errors += 1;
                tracing::warn!(%error, dir = ?log.dir, segment = span.segment, "the scrub could not read a segment");
                self.not_named(at, log, piece);
                at.hint = None;
                at.pass(held_until(span.until));
            }
        }
    }

    /// What lies where `at` stands: batches whose checksums are right, or how far there are none.
    fn look_at(&self, at: &mut At, log: &Log, span: Span, end: u64, left: Left) -> io::Result<Seen> {
        let file = match open_twice(&self.store, log, span.segment) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Seen::Bad { bytes: 0, next: None, has_errors: false, why: error.to_string() });
            }
            Err(error) => return Err(error),
        };
        let (segment, known) = std::mem::take(&mut at.bad);
        let known = if segment == span.segment { known } else { BTreeSet::new() };
        let file = OverBadSectors::knowing(file, *left.errors, known);
        let stretch = Stretch { store: &self.store, log, file: &file, span, end };
        let seen = look_in(&stretch, at, left.bytes);
        *left.errors -= file.error_count().min(*left.errors);
        at.bad = (span.segment, file.into_bad());
        if at.bad.1.len() > BAD_SECTORS_MAX {
            at.bad.1.clear();
        }
        seen
    }

    /// Sets aside what is not known to be missing. What only could not be read waits for a later round to say the same.
    fn found_bad(
        &mut self,
        log: &Log,
        span: &Span,
        mut range: Range,
        has_errors: bool,
        why: &str,
        piece: &mut Piece,
    ) {
        while range.from < range.until {
            match log.look().find_stored(range.run, range.from) {
                Lookup::Damaged(until) | Lookup::Lost(until) | Lookup::Absent(until) => range.from = until,
                _ => break,
            }
        }
        if range.from >= range.until {
            return;
        }
        if !has_errors {
            piece.damaged += self.set_aside(log, span, range, why);
            return;
        }
        let again: Vec<Range> = self.failed_before(log, range).collect();
        let found: u64 = again.iter().map(|range| self.set_aside(log, span, *range, UNREADABLE)).sum();
        piece.damaged += found;
        if found > 0 {
            return;
        }
        let (from, until) = (range.from, range.until);
        tracing::warn!(dir = ?log.dir, segment = span.segment, %from, %until, "the scrub could not read entries");
        piece.errors += 1;
        // What was noted in the round before is still to be compared with.
        if self.failed.iter().filter(|(_, _, round)| *round == self.round).count() < self.failed_max {
            self.failed.push((log.id, range, self.round));
        }
    }

    /// The parts of a range that could not be read in an earlier round either.
    fn failed_before(&self, log: &Log, range: Range) -> impl Iterator<Item = Range> {
        let (id, this_round) = (log.id, self.round);
        let part = move |(log, failed, round): &(LogId, Range, u64)| {
            let (from, until) = (failed.from.max(range.from), failed.until.min(range.until));
            let is_of = *log == id && failed.run == range.run && *round < this_round;
            (is_of && from < until).then_some(Range { run: range.run, from, until })
        };
        self.failed.iter().filter_map(part)
    }

    /// Checks batches of one run that lie one behind the other, the last first, since each vouches for the one before;
    /// sets aside what is not what its peer signed, or not what the next one names, and serves again what is all that.
    fn check(&self, at: &mut At, log: &Log, span: &Span, batches: &[Batch], piece: &mut Piece) {
        let Some(last) = batches.last().map(Batch::statement) else { return };
        let end = log.look().run(span.run).map(|run| (run.until, run.link));
        // Zero: what is last of a run of which the end was set aside may not have been here when that was.
        let is_known = |(until, link): &(Seq, Digest)| *until == last.until() && *link != Digest::ZERO;
        let mut named = end.filter(is_known).map(|(_, link)| link);
        let (mut vouched, mut before) = (Vouched::default(), None);
        for (index, batch) in batches.iter().enumerate().rev() {
            let (s, link) = (batch.statement(), batch.link());
            let is_signed =
                vouched.holds(s, link) || verify_with(&*self.store.verifier, s, batch.signature());
            let is_named = named.is_none_or(|named| named == link);
            let found = match batch.check_entries() {
                Ok(()) if is_signed && is_named => None,
                Ok(()) if is_signed => Some(NOT_NAMED.to_owned()),
                Ok(()) => Some("the signature is not that of its peer".to_owned()),
                Err(error) => Some(error.to_string()),
            };
            let range = Range { run: s.run, from: s.first_seq, until: s.until() };
            match found {
                Some(why) => piece.damaged += self.set_aside(log, span, range, &why),
                None if named.is_some() => self.heal(log, span, range, piece),
                None if index + 1 == batches.len() => before = Some((*span, range, link)),
                None => {}
            }
            named = is_signed.then_some(s.previous);
            if is_signed {
                vouched.add(s);
            }
        }
        // The last batch of the read before is named by the first of this one.
        if let (Some((span, range, link)), Some(named)) = (at.before, named)
            && range.until == batches[0].statement().first_seq
        {
            match link == named {
                true => self.heal(log, &span, range, piece),
                false => piece.damaged += self.set_aside(log, &span, range, NOT_NAMED),
            }
        }
        at.before = before;
        at.pass(last.until());
    }

    /// What follows the last good batch cannot say that the log went on from another.
    fn not_named(&self, at: &mut At, log: &Log, piece: &mut Piece) {
        if let Some((span, range, _)) = at.before.take() {
            self.heal(log, &span, range, piece);
        }
    }

    /// Serves entries again that were set aside, and are what their peer signed.
    fn heal(&self, log: &Log, span: &Span, range: Range, piece: &mut Piece) {
        let is_there = |state: &LogState| {
            let found = state.find_stored(range.run, range.from);
            let is_damaged = matches!(found, Lookup::Damaged(_) | Lookup::Lost(_));
            let now = state.find_written(range.run, range.from);
            is_damaged && matches!(now, Lookup::Span { span: now, .. } if now.overlaps(span))
        };
        if log.look().damaged.is_empty() || !is_there(&log.look()) {
            return;
        }
        let mut state = log.change();
        if !is_there(&state) {
            return;
        }
        let (run, from, until) = (range.run.short(), range.from, range.until);
        tracing::warn!(dir = ?log.dir, segment = span.segment, %run, %from, %until, "damaged entries are well again");
        state.heal(range);
        piece.healed.push((log.id, range));
    }

    /// Sets entries aside, unless they were trimmed or stored anew meanwhile; answers how many places that makes.
    fn set_aside(&self, log: &Log, span: &Span, range: Range, why: &str) -> u64 {
        let mut state = log.change();
        let Some(start) = state.run(range.run).map(|run| state.start_of(run)) else { return 0 };
        let is_there = match state.find_stored(range.run, range.from.max(start)) {
            Lookup::Span { span: now, .. } => now.overlaps(span),
            _ => false,
        };
        if start >= range.until || !is_there {
            return 0;
        }
        note_damage(&self.store, log, &mut state, span, range, why);
        1
    }
}

const NOT_NAMED: &str = "the log goes on from another batch";
const UNREADABLE: &str = "the disk cannot read this, round after round";

/// What a piece may still do.
struct Left<'a> {
    bytes: u64,
    /// Sectors that it may ask for in vain.
    errors: &'a mut usize,
}

/// What lies somewhere.
enum Seen {
    Batches(Vec<Batch>),
    /// No good batch so far; the next piece goes on.
    Paused {
        bytes: u64,
    },
    /// No good batch; `bytes` were looked at until the next, if there is one.
    Bad {
        bytes: u64,
        next: Option<Hint>,
        /// Whether some of it could not be read.
        has_errors: bool,
        why: String,
    },
}

/// Reads batches from where `at` stands, or goes on with the search for the next good one.
fn look_in(stretch: &Stretch, at: &mut At, bytes_max: u64) -> io::Result<Seen> {
    let (segment, seq) = (stretch.span.segment, at.seq);
    let mut hole = match at.hole.take().filter(|hole| (hole.segment, hole.seq) == (segment, seq)) {
        Some(hole) => hole,
        None => match stretch.read(seq, bytes_max as usize, &mut at.hint) {
            Ok(batches) => return Ok(Seen::Batches(batches)),
            Err(BadBatch::Io(_)) if is_further_next_time(stretch.file) => {
                return Ok(Seen::Paused { bytes: 0 });
            }
            Err(BadBatch::Io(error)) => return Err(error),
            Err(BadBatch::At(from)) => Hole { segment, seq, from, until: from, has_errors: false },
        },
    };
    let search_from = hole.until;
    let found = stretch.next_good(search_from, seq, bytes_max.max(SEARCH_BYTES_MIN))?;
    hole.until = match found {
        Search::Found(next) => next.offset,
        Search::End => stretch.end,
        Search::Paused(until) => until,
    };
    hole.has_errors |= stretch.file.has_errors_in(hole.from..hole.until);
    let bytes = hole.until.saturating_sub(search_from);
    let next = match found {
        Search::Paused(_) => {
            at.hole = Some(hole);
            return Ok(Seen::Paused { bytes });
        }
        Search::Found(next) if next.seq <= seq => {
            return match stretch.read_found(seq, &next, bytes_max as usize, &mut at.hint) {
                Ok(batches) => Ok(Seen::Batches(batches)),
                Err(BadBatch::Io(error)) => Err(error),
                Err(BadBatch::At(_)) => Err(io::Error::other("the disk reads other bytes each time")),
            };
        }
        Search::Found(next) => Some(next),
        Search::End => None,
    };
    let why = format!("no good batch at byte {}", hole.from);
    Ok(Seen::Bad { bytes, next, has_errors: hole.has_errors, why })
}

/// Whether another look gets further, without asking for the sectors that are known now: where they are remembered.
fn is_further_next_time(file: &OverBadSectors) -> bool {
    file.is_spent() && file.has_read() && file.bad_count() <= BAD_SECTORS_MAX
}

/// The number behind the batch of `run` that holds `seq` and is in memory alone.
fn behind_unflushed(state: &LogState, run: RunId, seq: Seq) -> Seq {
    let held = state.tail.find(run, seq).map(|index| state.tail[index].batch.statement().until());
    held.unwrap_or(seq.after(1))
}

#[cfg(test)]
mod tests;
