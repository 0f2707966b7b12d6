//! Prewriting: the body of a large batch goes to its place in the segment, piece by piece and synced, before its step.
//!
//! A step that had to sync 16 MiB would hold up everything behind it. So a large entry is brought to the disk first, out
//! of the steps' way, to where its log goes on; its step then writes and syncs the 256 bytes before it.
//!
//! ```text
//! segment   … batches │ 256 bytes left out │ body, synced piece by piece │
//! step                  ▲ written and synced with the step; then the journal says where the batch lies
//! ```
//!
//! Until then the body is garbage behind the segment's end, like what a torn write leaves. It counts only if its step
//! brings the very same bytes to the very same place; otherwise that step writes all of it again.
use crate::base::batch::HEADER_BYTES;
use crate::base::{LogId, TopicName};
use crate::disk::DiskFile;
use crate::log::place::Place;
use crate::log::store::{Log, Store, lock};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

/// Bytes written and synced at once, so that the syncs of small steps find their turn in between.
const PIECE_BYTES: usize = 1 << 20;

/// Cuts off what lies at `place` and behind it. A flush may be writing before it: nothing there is cut, nor is the file
/// made longer.
pub(super) fn cut_off(file: &dyn DiskFile, place: Place) -> io::Result<()> {
    if file.len()? > place.offset { file.set_len(place.offset) } else { Ok(()) }
}

/// Bodies that wait for their step.
#[derive(Default)]
pub(crate) struct Prewritten {
    bodies: Mutex<BTreeMap<LogId, Body>>,
}

struct Body {
    place: Place,
    bytes: Bytes,
    is_synced: bool,
}

impl Store {
    /// Brings the body of the next batch of log `id` to the disk. The caller sees to it that no other batch of that log
    /// is written meanwhile. On a full disk it is taken away again.
    pub fn prewrite(&self, id: &LogId, topic: &TopicName, body: &Bytes) -> io::Result<()> {
        let log = self.log_or_new(*id, topic);
        let place = self.next_place(&log);
        let waiting = Body { place, bytes: body.clone(), is_synced: false };
        lock(&self.prewritten.bodies).insert(*id, waiting);
        let written = self.write_body(&log, place, body);
        let mut bodies = lock(&self.prewritten.bodies);
        match written {
            Ok(()) => {
                if let Some(waiting) = bodies.get_mut(id) {
                    waiting.is_synced = true;
                }
            }
            Err(_) => drop(bodies.remove(id)),
        }
        written
    }

    /// Where the next batch of a log goes.
    pub(crate) fn next_place(&self, log: &Log) -> Place {
        let next = log.look().next_place.unwrap_or(Place { segment: 0, offset: 0 });
        self.rolled(next)
    }

    /// `place`, or the beginning of the next segment when this one is full.
    pub(crate) fn rolled(&self, place: Place) -> Place {
        if place.offset < self.config.segment_bytes {
            return place;
        }
        Place { segment: place.segment + 1, offset: 0 }
    }

    fn write_body(&self, log: &Log, place: Place, body: &Bytes) -> io::Result<()> {
        let file = self.named_segment(log, place.segment)?;
        let begin = place.offset + HEADER_BYTES as u64;
        for (piece, index) in body.chunks(PIECE_BYTES).zip(0..) {
            if let Err(error) = file.write_at(begin + index * PIECE_BYTES as u64, &[piece]) {
                cut_off(&*file, place)?;
                return Err(error);
            }
            let synced =
                file.sync_data().map_err(|error| io::Error::other(format!("syncing a segment: {error}")));
            self.must_be_sound(&synced)?;
            self.count(&self.counters.segment_syncs, 1);
        }
        self.count(&self.counters.segment_bytes, body.len() as u64);
        Ok(())
    }

    /// Whether `body` was brought to the disk for a batch of log `id` at `place`. Asked for every batch of every step: what
    /// was brought there is forgotten with the log's next batch, whether it is that one or takes its place.
    pub(crate) fn take_prewritten(&self, id: &LogId, place: Place, body: &[u8]) -> bool {
        let found = lock(&self.prewritten.bodies).remove(id);
        found.is_some_and(|found| found.is_synced && found.place == place && found.bytes == body)
    }

    /// Forgets what was brought to the disk for a batch that will not come.
    pub fn forget_prewritten(&self, id: &LogId) {
        lock(&self.prewritten.bodies).remove(id);
    }
}
