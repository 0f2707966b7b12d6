//! A producer's entries between the caller and the peer: packed, numbered, sent, and kept until they are answered.
//!
//! ```text
//! send(entry) ─→ open chunk ─→ chunks not yet written ─→ written, not yet answered ─→ receipts resolve, room is free
//!                              └───────────── written again after a lost connection ┘
//! ```
//!
//! Callers and the driver share this behind one short lock. A chunk's bytes never change once it is closed, so that a
//! peer recognises it when it comes again. All receipts of a chunk share one outcome: an entry costs no allocation
//! beside its own bytes.
use crate::base::chunk::ChunkBuilder;
use crate::base::planted::{self, Bug};
use crate::base::{Codec, Entry, PeerId, ProducerId};
use crate::client::clock;
use crate::client::error::ClientError;
use crate::wire::outcome::Appended;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

/// What became of a chunk, and who waits to hear of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome(Mutex<OutcomeState>);

#[derive(Debug, Default)]
struct OutcomeState {
    result: Option<Result<Appended, ClientError>>,
    /// Peers that the chunk went to as a whole; once it is answered those of them that may have it beside the one that is named.
    sent_to: Vec<PeerId>,
    wakers: Vec<(u32, Waker)>,
}

impl Outcome {
    fn state(&self) -> MutexGuard<'_, OutcomeState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outcome, or a wake-up for the waiter called `index`.
    pub(crate) fn poll(&self, index: u32, context: &mut Context<'_>) -> Poll<Result<Appended, ClientError>> {
        let mut state = self.state();
        if let Some(result) = &state.result {
            return Poll::Ready(result.clone());
        }
        match state.wakers.iter_mut().find(|(waiter, _)| *waiter == index) {
            Some((_, waker)) => waker.clone_from(context.waker()),
            None => state.wakers.push((index, context.waker().clone())),
        }
        Poll::Pending
    }

    /// The chunk is on its way to a peer, as a whole.
    pub(crate) fn is_sent(&self, to: PeerId) {
        let mut state = self.state();
        if !state.sent_to.contains(&to) {
            state.sent_to.push(to);
        }
    }

    /// Once it is answered: who may have it too, since it went there before and nothing was heard.
    pub(crate) fn may_also_be_at(&self) -> Vec<PeerId> {
        self.state().sent_to.clone()
    }

    /// `answered` by a peer: it has what it names, and nothing beside that.
    pub(crate) fn resolve(&self, result: Result<Appended, ClientError>, answered: Option<PeerId>) {
        let wakers = {
            let mut state = self.state();
            let named = result.as_ref().ok().map(|appended| appended.peer);
            state.sent_to.retain(|peer| Some(*peer) != named && Some(*peer) != answered);
            if planted::is(Bug::DoublesUntold) {
                state.sent_to.clear();
            }
            state.result = Some(result);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// A closed chunk on its way.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    pub(crate) bytes: Bytes,
    pub(crate) outcome: Arc<Outcome>,
    entry_count: usize,
    /// What its entries took of the room for bytes.
    room_bytes: usize,
}

#[derive(Debug)]
struct Open {
    builder: ChunkBuilder,
    outcome: Arc<Outcome>,
    room_bytes: usize,
    since: Instant,
}

/// What the driver should do next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Write this chunk.
    Write(Packed),
    /// Nothing until something changes.
    Wait,
    /// Nothing until something changes, or until this moment.
    WaitUntil(Instant),
    /// All is answered and the producer was closed, or dropped: end.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Running,
    /// Closed by its owner: end when all is answered.
    Closing,
    /// Dropped: end at once.
    Dropped,
}

#[derive(Debug)]
struct State {
    open: Option<Open>,
    /// Closed chunks in order, of which the first `written_count` are written on the present stream.
    chunks: VecDeque<Packed>,
    written_count: usize,
    answered_count: u64,
    number_next: u64,
    is_flush_wanted: bool,
    life: Life,
    failed: Option<ClientError>,
    /// The first chunk that failed since the last flush.
    chunk_error: Option<ClientError>,
}

/// How a queue packs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packing {
    pub(crate) target_bytes: usize,
    pub(crate) codec: Codec,
    pub(crate) linger: std::time::Duration,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Queue {
    producer: ProducerId,
    packing: Packing,
    pub(crate) room_bytes: Semaphore,
    pub(crate) room_entries: Semaphore,
    pub(crate) wake: Notify,
    state: Mutex<State>,
}

impl Queue {
    pub(crate) fn new(producer: ProducerId, packing: Packing, bytes_max: usize, entries_max: usize) -> Self {
        let state = State {
            open: None,
            chunks: VecDeque::new(),
            written_count: 0,
            answered_count: 0,
            number_next: 1,
            is_flush_wanted: false,
            life: Life::Running,
            failed: None,
            chunk_error: None,
        };
        Self {
            producer,
            packing,
            room_bytes: Semaphore::new(bytes_max),
            room_entries: Semaphore::new(entries_max),
            wake: Notify::new(),
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers and packs an entry that took `room_bytes` of the room and one of the places. Answers with its chunk's
    /// outcome and its place in the chunk. On an error the caller keeps the room.
    pub(crate) fn push(
        &self,
        mut entry: Entry,
        room_bytes: usize,
    ) -> Result<(Arc<Outcome>, u32), ClientError> {
        let mut state = self.state();
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        if state.life != Life::Running {
            return Err(ClientError::Closed);
        }
        entry.producer = Some((self.producer, state.number_next));
        let target = self.packing.target_bytes;
        let is_full = |open: &Open| !open.builder.has_room(room_bytes, target);
        if state.open.as_ref().is_some_and(is_full) {
            self.close_chunk(&mut state);
        }
        let open = state.open.get_or_insert_with(|| Open {
            builder: ChunkBuilder::new(),
            outcome: Arc::default(),
            room_bytes: 0,
            since: clock::now(),
        });
        let index = open.builder.entry_count();
        if let Err(error) = open.builder.push(&entry) {
            if index == 0 {
                state.open = None;
            }
            return Err(error.into());
        }
        open.room_bytes += room_bytes;
        let outcome = open.outcome.clone();
        let is_at_target = open.builder.raw_bytes() >= target;
        state.number_next += 1;
        if is_at_target {
            self.close_chunk(&mut state);
        }
        // The driver sleeps while the peer owes answers and the chunk is neither new nor full.
        let wakes = is_at_target || index == 0;
        drop(state);
        if wakes {
            self.wake.notify_one();
        }
        Ok((outcome, index))
    }

    fn close_chunk(&self, state: &mut State) {
        if let Some(open) = state.open.take() {
            let entry_count = open.builder.entry_count() as usize;
            let bytes = open.builder.finish(self.packing.codec);
            let (outcome, room_bytes) = (open.outcome, open.room_bytes);
            state.chunks.push_back(Packed { bytes, outcome, entry_count, room_bytes });
        }
    }

    /// What to write next: a closed chunk; else the open one when the peer owes nothing, when it was asked for, or
    /// when it has waited long enough for company.
    pub(crate) fn step(&self) -> Step {
        let mut state = self.state();
        let is_idle = state.chunks.is_empty() && state.open.is_none();
        match state.life {
            Life::Dropped => return Step::End,
            Life::Closing if is_idle => return Step::End,
            Life::Running | Life::Closing => {}
        }
        if state.written_count == state.chunks.len() {
            let Some(open) = &state.open else {
                return Step::Wait;
            };
            let due = open.since + self.packing.linger;
            let is_due = state.chunks.is_empty()
                || state.is_flush_wanted
                || state.life == Life::Closing
                || clock::now() >= due;
            if !is_due {
                return Step::WaitUntil(due);
            }
            self.close_chunk(&mut state);
            state.is_flush_wanted = false;
        }
        let chunk = state.chunks[state.written_count].clone();
        state.written_count += 1;
        Step::Write(chunk)
    }

    /// The peer answered the oldest chunk. False when it owed no answer.
    pub(crate) fn answer(&self, peer: PeerId, result: Result<Appended, ClientError>) -> bool {
        let chunk = {
            let mut state = self.state();
            if state.written_count == 0 {
                return false;
            }
            state.written_count -= 1;
            state.answered_count += 1;
            if let Err(error) = &result {
                state.chunk_error.get_or_insert_with(|| error.clone());
            }
            state.chunks.pop_front()
        };
        let Some(chunk) = chunk else { return false };
        self.release(chunk.room_bytes, chunk.entry_count);
        chunk.outcome.resolve(result, Some(peer));
        self.wake.notify_one();
        true
    }

    /// The entries the oldest unanswered chunk holds.
    pub(crate) fn oldest_entry_count(&self) -> usize {
        self.state().chunks.front().map_or(0, |chunk| chunk.entry_count)
    }

    /// How many chunks the peers answered.
    pub(crate) fn answered_count(&self) -> u64 {
        self.state().answered_count
    }

    /// Whether everything that was written is answered.
    pub(crate) fn owes_nothing(&self) -> bool {
        self.state().written_count == 0
    }

    /// A new stream: what was written and not answered is to be written again.
    pub(crate) fn rewind(&self) {
        self.state().written_count = 0;
    }

    /// Nothing more will be sent: everything unanswered ends with `error`.
    pub(crate) fn fail(&self, error: &ClientError) {
        let outcomes: Vec<Arc<Outcome>> = {
            let mut state = self.state();
            state.failed.get_or_insert_with(|| error.clone());
            state.written_count = 0;
            let chunks = std::mem::take(&mut state.chunks);
            let open = state.open.take();
            chunks.into_iter().map(|chunk| chunk.outcome).chain(open.map(|open| open.outcome)).collect()
        };
        outcomes.iter().for_each(|outcome| outcome.resolve(Err(error.clone()), None));
        self.room_bytes.close();
        self.room_entries.close();
    }

    pub(crate) fn release(&self, room_bytes: usize, entry_count: usize) {
        self.room_bytes.add_permits(room_bytes);
        self.room_entries.add_permits(entry_count);
    }

    /// Why nothing more is taken, if so.
    pub(crate) fn failure(&self) -> Option<ClientError> {
        let state = self.state();
        let closed = (state.life != Life::Running).then_some(ClientError::Closed);
        state.failed.clone().or(closed)
    }

    /// Asks for all to be sent; answers with the outcome of the newest chunk.
    pub(crate) fn flush(&self) -> Option<Arc<Outcome>> {
        let last = {
            let mut state = self.state();
            state.is_flush_wanted = state.open.is_some();
            let open = state.open.as_ref().map(|open| open.outcome.clone());
            open.or_else(|| state.chunks.back().map(|chunk| chunk.outcome.clone()))
        };
        self.wake.notify_one();
        last
    }

    /// The first error since this was last asked.
    pub(crate) fn take_error(&self) -> Option<ClientError> {
        let mut state = self.state();
        state.chunk_error.take().or_else(|| state.failed.clone())
    }

    pub(crate) fn close(&self) {
        self.end(Life::Closing);
    }

    pub(crate) fn drop_all(&self) {
        self.end(Life::Dropped);
    }

    fn end(&self, life: Life) {
        self.state().life = life;
        self.wake.notify_one();
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.state().life == Life::Dropped
    }

    /// Whether nothing waits for an answer.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state();
        state.chunks.is_empty() && state.open.is_none()
    }
}

#[cfg(test)]
mod tests;
