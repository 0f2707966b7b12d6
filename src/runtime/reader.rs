//! A topic's reader for tasks: what is in memory is handed out at once, the disk is asked in the read lane.
//!
//! Any call may be dropped and made again. What the lane was asked for meanwhile is then what the next call brings.
use crate::base::Cursor;
use crate::disk::Lane;
use crate::log;
use crate::runtime::lookup::io_error;
use crate::runtime::shared::Shared;
use crate::runtime::watches::Watch;
use crate::wire::outcome::ReadError;
use std::io;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::{Duration, timeout};

pub use crate::log::ReadItem;

/// How long a reader waits before it asks a disk again that could not read; then twice as long, and so on.
const DISK_RETRY_MIN: Duration = Duration::from_secs(5);
/// How long at most. A bad sector may take the read lane a minute: others must get to read between.
const DISK_RETRY_MAX: Duration = Duration::from_secs(60);

/// Reads one topic. Dropping it, also in the middle of a call, leaves nothing behind.
pub struct TopicReader {
    shared: Arc<Shared>,
    place: Place,
    watch: Watch,
    disk_retry: Duration,
}

/// What the read lane sends back.
type Looked = (log::TopicReader, io::Result<Vec<ReadItem>>);

/// Where the log's reader is.
enum Place {
    Home(log::TopicReader),
    /// In the read lane, with the position behind what was handed out before.
    Away(oneshot::Receiver<Looked>, Cursor),
    /// The lanes are gone, and with them the reader.
    Lost(Cursor),
}

impl TopicReader {
    pub(super) fn new(shared: Arc<Shared>, inner: log::TopicReader, watch: Watch) -> Self {
        Self { shared, place: Place::Home(inner), watch, disk_retry: DISK_RETRY_MIN }
    }

    /// The position behind everything handed out.
    pub fn cursor(&self) -> Cursor {
        match &self.place {
            Place::Home(inner) => inner.cursor(),
            Place::Away(_, cursor) | Place::Lost(cursor) => cursor.clone(),
        }
    }

    /// What comes next, at least one batch and then as long as [`crate::base::Batch::cost_bytes`] adds up to less than
    /// `bytes_max`; empty when nothing more is held now. After [`ReadError::Io`] the same call may be made again, and so
    /// it may when this future was dropped: nothing is lost.
    pub async fn next(&mut self, bytes_max: usize) -> Result<Vec<ReadItem>, ReadError> {
        if let Place::Home(inner) = &mut self.place {
            // Seen before reading, so that what comes in meanwhile wakes `changed`.
            self.watch.mark_unchanged();
            if inner.is_in_memory() {
                return inner.next(bytes_max).map_err(io_error);
            }
            self.send_away(bytes_max);
        }
        let Place::Away(answered, cursor) = &mut self.place else { return Err(ReadError::Stopped) };
        match answered.await {
            Ok((inner, items)) => {
                if !inner.waits_for_disk() {
                    self.disk_retry = DISK_RETRY_MIN;
                }
                self.place = Place::Home(inner);
                items.map_err(io_error)
            }
            Err(_) => {
                self.place = Place::Lost(cursor.clone());
                Err(ReadError::Stopped)
            }
        }
    }

    /// Has the read lane look for what comes next.
    fn send_away(&mut self, bytes_max: usize) {
        let (answer, answered) = oneshot::channel();
        let away = Place::Away(answered, self.cursor());
        let Place::Home(mut inner) = std::mem::replace(&mut self.place, away) else { return };
        let job = move || {
            let items = inner.next(bytes_max);
            // Nobody waits any more where the reader was dropped.
            drop(answer.send((inner, items)));
        };
        self.shared.io().run(Lane::Read, Box::new(job));
    }

    /// Waits until more may be readable than when [`Self::next`] was called last. What the disk could not read is asked for
    /// again after a while.
    pub async fn changed(&mut self) {
        if matches!(&self.place, Place::Home(inner) if inner.waits_for_disk()) {
            let is_retry = timeout(self.disk_retry, self.watch.changed()).await.is_err();
            self.disk_retry = next_retry(self.disk_retry, is_retry);
        } else {
            self.watch.changed().await;
        }
    }
}

/// How long to wait the next time.
fn next_retry(waited: Duration, is_retry: bool) -> Duration {
    if is_retry { (waited * 2).min(DISK_RETRY_MAX) } else { waited }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_cannot_read_is_asked_ever_less_often() {
        let waits = std::iter::successors(Some(DISK_RETRY_MIN), |waited| Some(next_retry(*waited, true)));
        let seconds: Vec<u64> = waits.take(6).map(|wait| wait.as_secs()).collect();
        assert_eq!(seconds, [5, 10, 20, 40, 60, 60]);
        assert_eq!(next_retry(DISK_RETRY_MIN, false), DISK_RETRY_MIN, "something else came");
    }
}
