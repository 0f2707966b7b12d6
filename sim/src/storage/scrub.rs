//! The scrub at work, and what must hold of it: it sets aside nothing that is sound, and a whole round leaves nothing
//! unfound that rotted. What is sound is asked of the files, without the log's books.
use crate::storage::planted::Plant;
use crate::storage::site::{SECRET, Site};
use crate::storage::{Shared, TOPICS};
use conveyor::base::{LogId, PeerId, RunId, Seq, Statement, TopicId};
use conveyor::disk::{Disk, OpenMode};
use conveyor::identity::MacVerifier;
use conveyor::identity::sign::verify_with;
use conveyor::log::Store;
use conveyor::log::place::segment_path;
use conveyor::log::scrub::{Piece, Scrub};
use conveyor::log::segment::{self, Walk};
use conveyor::log::state::{LogState, Lookup, Range, Span};
use conveyor::log::store::Log;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Pieces of the longest round.
const PIECES_MAX: usize = 100_000;

/// A scrub of `store` that begins anywhere.
pub fn begin(store: &Arc<Store>, shared: &mut Shared) -> Scrub {
    let topic = shared.random.pick(&TOPICS).id();
    let first = if shared.random.one_in(2) { topic } else { TopicId([shared.random.below(256) as u8; 16]) };
    let first = LogId { topic: first, peer: PeerId([shared.random.below(3) as u8; 32]) };
    Scrub::new(store.clone(), first)
}

impl Site {
    /// Reads a little of what is stored again.
    pub fn scrub_piece(&mut self, shared: &mut Shared) {
        let Some(mut live) = self.live.take() else { return };
        let bytes_max = shared.random.between(1, 20_000);
        let before = damaged(&live.store);
        let piece = live.scrub.piece(bytes_max);
        self.after_piece(shared, &live.store, &before, piece);
        self.live = Some(live);
    }

    /// Reads everything again, from a beginning of its own; when nothing was in the way, what is not sound was found.
    pub fn scrub_round(&mut self, shared: &mut Shared) {
        let Some(live) = self.live.take() else { return };
        let (before, bytes_max) = (damaged(&live.store), shared.random.between(1, 60_000));
        let (mut scrub, mut round) = (begin(&live.store, shared), Piece::default());
        let mut pieces = (0..PIECES_MAX).map(|_| scrub.piece(bytes_max));
        assert!(pieces.any(|piece| is_last_of(&mut round, piece)), "a round of the scrub does not end");
        self.after_piece(shared, &live.store, &before, Piece { is_round_done: true, ..round });
        if !self.may_fail() {
            live.store.logs().iter().for_each(|log| check_found(self, log));
        }
        self.live = Some(live);
    }

    fn after_piece(
        &self,
        shared: &mut Shared,
        store: &Store,
        before: &BTreeMap<LogId, Vec<Range>>,
        piece: Piece,
    ) {
        assert!(piece.errors == 0 || self.may_fail(), "the scrub cannot read: {piece:?}");
        for log in store.logs() {
            let known = before.get(&log.id).map_or(&[][..], Vec::as_slice);
            if self.plant == Some(Plant::ScrubSkipsLastBatch) {
                let mut state = log.change();
                let ends: Vec<(RunId, Seq)> = state.spans.iter().map(|span| (span.run, span.until)).collect();
                state
                    .damaged
                    .retain(|range| known.contains(range) || !ends.contains(&(range.run, range.until)));
            }
            self.check_spared(&log, known);
        }
        shared.trace.note(format_args!("{} scrub: {piece:?}", self.index));
    }

    /// What was set aside just now is not sound.
    fn check_spared(&self, log: &Log, known: &[Range]) {
        let state = log.look();
        let new: Vec<&Range> = state.damaged.iter().filter(|range| !known.contains(range)).collect();
        let is_harmed = self.harm.is_rotten || self.harm.has_lied;
        assert!(is_harmed || new.is_empty(), "the scrub found damage without a cause: {new:?}");
        // A batch in the place of another is signed, and yet not the one; and what fails now cannot be compared.
        if new.is_empty() || self.harm.has_lied || self.may_fail() {
            return;
        }
        let was = |seq: Seq, run: RunId| known.iter().any(|r| r.run == run && r.from <= seq && seq < r.until);
        for span in &state.spans {
            for s in sound(self, log, span) {
                let is_new = |r: &&&Range| r.run == s.run && r.from <= s.first_seq && s.first_seq < r.until;
                let found = new.iter().find(is_new).filter(|_| !was(s.first_seq, s.run));
                assert!(found.is_none(), "P7: the scrub set {s:?} aside, which is sound: {found:?}");
            }
        }
    }
}

fn is_last_of(round: &mut Piece, piece: Piece) -> bool {
    round.bytes += piece.bytes;
    round.damaged += piece.damaged;
    round.errors += piece.errors;
    piece.is_round_done
}

fn damaged(store: &Store) -> BTreeMap<LogId, Vec<Range>> {
    store.logs().iter().map(|log| (log.id, log.look().damaged.clone())).collect()
}

/// The batches of a span that are in its file as they were signed, in the order in which they lie there.
fn sound(site: &Site, log: &Log, span: &Span) -> Vec<Statement> {
    let path = segment_path(&log.dir, &log.id, span.segment);
    let Ok(file) = site.control.disk().open(&path, OpenMode::Read) else { return Vec::new() };
    let (mut walk, mut found) = (Walk::new(&*file, span.offset, span.end), Vec::new());
    let verifier = MacVerifier::new(SECRET);
    while let Some((offset, header)) = walk.next(&log.id).expect("a live disk") {
        let (s, end) = (header.statement, offset + header.batch_bytes() as u64);
        let read = segment::read_batches(&*file, &log.id, offset, end, header.batch_bytes());
        let is_good = read.is_ok_and(|batches| {
            let batch = &batches[0].1;
            batch.check_entries().is_ok() && verify_with(&verifier, &s, batch.signature())
        });
        if s.run == span.run && is_good {
            found.push(s);
        }
        if !is_good {
            // A write that went astray leaves the beginning of a batch: what it says of its end hides what lies there.
            walk = Walk::new(&*file, offset + 1, span.end);
        }
    }
    found
}

/// Whatever of a log is not sound in its segments is set aside.
fn check_found(site: &Site, log: &Log) {
    let state = log.look();
    // Where a batch is not written yet there is what an earlier life left, which no walk can tell from the rest.
    let is_unwritten = |span: &&Span| {
        let mut kept = state.tail.iter().filter(|kept| kept.place.segment == span.segment);
        kept.any(|kept| !kept.is_flushed.load(Ordering::Acquire))
    };
    for span in state.spans.iter().filter(|span| !is_unwritten(span)) {
        let start = state.run(span.run).map_or(Seq::FIRST, |run| state.start_of(run));
        let mut next = span.from.max(start);
        // A write that went astray may have put a whole batch in the place of another: what lies where is not the order
        // of their numbers then.
        let mut sound = sound(site, log, span);
        sound.retain(|s| span.from <= s.first_seq && s.until() <= span.until);
        sound.sort_unstable_by_key(|s| s.first_seq);
        for s in sound {
            check_hole(&state, span, next, s.first_seq);
            next = next.max(s.until());
        }
        check_hole(&state, span, next, span.until);
    }
}

fn check_hole(state: &LogState, span: &Span, from: Seq, until: Seq) {
    let mut at = from;
    while at < until {
        at = match state.find_stored(span.run, at) {
            Lookup::Damaged(until) | Lookup::Lost(until) | Lookup::Absent(until) => until,
            Lookup::Beyond | Lookup::Tail(_) => return,
            // What was brought again lies elsewhere.
            Lookup::Span { span: now, .. } if !is_same_place(&now, span) => now.until.max(at.after(1)),
            _ => panic!("P7: entry {at} of {span:?} rotted, and a round of the scrub did not find it"),
        };
    }
}

fn is_same_place(now: &Span, span: &Span) -> bool {
    now.segment == span.segment && now.offset < span.end && span.offset < now.end
}
