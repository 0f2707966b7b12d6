//! Scrub: what is stored is read again, piece by piece, so that damage is found before somebody needs what it took.
//!
//! ```text
//! round    log, log, log …  from the one it begins at, over the last, back to that one
//! log      run by run, in order of number, up to where the run ended when the scrub came to it
//! piece    up to so many bytes of that: checksums, digests against the signed root, signature, the chain
//! ```
//!
//! What is bad is set aside as a reader's finding is: neighbours are served, the gap is told. Beyond what readers check, a
//! batch must be what its peer signed, and what the batch behind it names. Sectors that cannot be read count as damage
//! when others of the same file can; where nothing can be read the disk is away, and nothing is set aside.
//!
//! It reads what is in segments, also of batches that are still in memory, and waits for nobody: what is trimmed meanwhile
//! is passed over, what is not in its segment yet comes with the next round. When, and how fast, is said elsewhere.
use crate::base::{Batch, Digest, LogId, RunId, Seq};
use crate::identity::sign::{Verifier, verify_with};
use crate::log::bad_sectors::OverBadSectors;
use crate::log::read::{Hint, Stretch, note_damage, open_twice};
use crate::log::segment::BadBatch;
use crate::log::state::{LogState, Lookup, Range, Span};
use crate::log::store::{Log, Store};
use crate::wire::verify::Vouched;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

/// Places looked at in one piece at most, so that a piece is short also among logs with nothing to read.
const LOOKS_MAX: usize = 256;
/// What the smallest read counts for: opening a file and finding a place in it is work too.
const READ_BYTES_MIN: u64 = 4 << 10;

/// What became of a piece.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Bytes read, small reads rounded up.
    pub bytes: u64,
    /// Places at which damage was found.
    pub damaged: u64,
    /// Places passed over because the disk gave errors all around them.
    pub errors: u64,
    /// Whether the round is complete with this.
    pub is_round_done: bool,
}

/// Where a round stands.
#[derive(Debug, Clone, Copy)]
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
    /// The last batch that was read, if it is good, and what the next one must name.
    before: Option<(Range, Digest)>,
}

impl At {
    fn log(log: LogId, has_wrapped: bool) -> Self {
        Self { log, has_wrapped, run: 0, until: None, seq: Seq::FIRST, hint: None, before: None }
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
    verifier: Arc<dyn Verifier>,
    first: LogId,
    at: Option<At>,
}

impl Scrub {
    /// Begins its rounds at the log `first`, or at what comes behind it: a peer that is restarted before a round ends does
    /// well to begin elsewhere each time.
    pub fn new(store: Arc<Store>, verifier: Arc<dyn Verifier>, first: LogId) -> Self {
        Self { store, verifier, first, at: None }
    }

    /// Reads on, about `bytes_max` bytes, a whole batch at least. After the end of a round the next piece begins another.
    pub fn piece(&mut self, bytes_max: u64) -> Piece {
        let mut piece = Piece::default();
        let mut at = self.at.take().unwrap_or(At::log(self.first, false));
        for _ in 0..LOOKS_MAX {
            match self.next(&mut at) {
                Next::Read(log, span, end) => {
                    let bytes_left = bytes_max.saturating_sub(piece.bytes) as usize;
                    self.read(&mut at, &log, span, end, bytes_left, &mut piece);
                }
                Next::Nothing => {}
                Next::End => {
                    piece.is_round_done = true;
                    break;
                }
            }
            if piece.bytes >= bytes_max {
                break;
            }
        }
        self.at = Some(at).filter(|_| !piece.is_round_done);
        let counters = &self.store.counters;
        self.store.count(&counters.scrub_bytes, piece.bytes);
        self.store.count(&counters.scrub_damage, piece.damaged);
        self.store.count(&counters.scrub_errors, piece.errors);
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
        match state.find_stored(run.id, at.seq) {
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

    fn read(&self, at: &mut At, log: &Log, span: Span, end: u64, bytes_max: usize, piece: &mut Piece) {
        let before = *at;
        match self.look_at(at, log, span, end, bytes_max) {
            Ok(Seen::Batches(batches)) => {
                let bytes: u64 = batches.iter().map(|batch| batch.bytes().len() as u64).sum();
                piece.bytes += bytes.max(READ_BYTES_MIN);
                piece.damaged += self.check(at, log, &span, &batches);
            }
            Ok(Seen::Bad { bytes, next, why }) => {
                piece.bytes += bytes.max(READ_BYTES_MIN);
                let range =
                    Range { run: span.run, from: before.seq, until: next.map_or(span.until, |n| n.seq) };
                piece.damaged += self.set_aside(log, &span, range, &why);
                (at.hint, at.before) = (next, None);
                at.pass(range.until);
            }
            Err(error) => {
                piece.bytes += READ_BYTES_MIN;
                piece.errors += 1;
                tracing::warn!(%error, dir = ?log.dir, segment = span.segment, "the scrub could not read a segment");
                (at.hint, at.before) = (None, None);
                at.pass(span.until);
            }
        }
    }

    /// What lies where `at` stands: batches whose checksums are right, or how far there are none.
    fn look_at(&self, at: &mut At, log: &Log, span: Span, end: u64, bytes_max: usize) -> io::Result<Seen> {
        let file = match open_twice(&self.store, log, span.segment) {
            Ok(file) => OverBadSectors(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Seen::Bad { bytes: 0, next: None, why: error.to_string() });
            }
            Err(error) => return Err(error),
        };
        let stretch = Stretch { store: &self.store, log, file: &file, span, end };
        match stretch.read(at.seq, bytes_max, &mut at.hint) {
            Ok(batches) => Ok(Seen::Batches(batches)),
            Err(BadBatch::Io(error)) => Err(error),
            Err(BadBatch::At(offset)) => {
                let next = stretch.next_good(offset, at.seq)?;
                let bytes = next.map_or(end, |next| next.offset).saturating_sub(offset);
                Ok(Seen::Bad { bytes, next, why: format!("no good batch at byte {offset}") })
            }
        }
    }

    /// Checks batches of one run that lie one behind the other, the last first, since each vouches for the one before;
    /// sets aside what is not what its peer signed, or not what the next one names. Answers how many.
    fn check(&self, at: &mut At, log: &Log, span: &Span, batches: &[Batch]) -> u64 {
        let Some(last) = batches.last().map(Batch::statement) else { return 0 };
        let end = log.look().run(span.run).map(|run| (run.until, run.link));
        let mut named = end.filter(|(until, _)| *until == last.until()).map(|(_, link)| link);
        let (mut vouched, mut damaged, mut before) = (Vouched::default(), 0, None);
        for (index, batch) in batches.iter().enumerate().rev() {
            let (s, link) = (batch.statement(), batch.link());
            let is_signed = vouched.holds(s, link) || verify_with(&*self.verifier, s, batch.signature());
            let is_named = named.is_none_or(|named| named == link);
            let found = match batch.check_entries() {
                Ok(()) if is_signed && is_named => None,
                Ok(()) if is_signed => Some(NOT_NAMED.to_owned()),
                Ok(()) => Some("the signature is not that of its peer".to_owned()),
                Err(error) => Some(error.to_string()),
            };
            let range = Range { run: s.run, from: s.first_seq, until: s.until() };
            match found {
                Some(why) => damaged += self.set_aside(log, span, range, &why),
                None if index + 1 == batches.len() => before = Some((range, link)),
                None => {}
            }
            named = is_signed.then_some(s.previous);
            if is_signed {
                vouched.add(s);
            }
        }
        // The last batch of the read before is named by the first of this one.
        if let (Some((range, link)), Some(named)) = (at.before, named)
            && range.until == batches[0].statement().first_seq
            && link != named
        {
            damaged += self.set_aside(log, span, range, NOT_NAMED);
        }
        at.before = before;
        at.pass(last.until());
        damaged
    }

    /// Sets entries aside, unless they were trimmed or stored anew meanwhile; answers how many places that makes.
    fn set_aside(&self, log: &Log, span: &Span, range: Range, why: &str) -> u64 {
        let mut state = log.change();
        let Some(start) = state.run(range.run).map(|run| state.start_of(run)) else { return 0 };
        let is_there = match state.find_stored(range.run, range.from.max(start)) {
            Lookup::Span { span: now, .. } => {
                now.segment == span.segment && now.offset < span.end && span.offset < now.end
            }
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

/// What lies somewhere.
enum Seen {
    Batches(Vec<Batch>),
    /// No good batch; `bytes` were looked at until the next, if there is one.
    Bad {
        bytes: u64,
        next: Option<Hint>,
        why: String,
    },
}

/// The number behind the batch of `run` that holds `seq` and is in memory alone.
fn behind_unflushed(state: &LogState, run: RunId, seq: Seq) -> Seq {
    let held = state.tail.find(run, seq).map(|index| state.tail[index].batch.statement().until());
    held.unwrap_or(seq.after(1))
}

#[cfg(test)]
mod tests;
