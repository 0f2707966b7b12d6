//! A topic's reader for tasks: what is in memory is handed out at once, the disk is asked in the read lane.
use crate::base::Cursor;
use crate::disk::Lane;
use crate::log;
use crate::runtime::lookup::io_error;
use crate::runtime::shared::Shared;
use crate::wire::outcome::ReadError;
use std::sync::Arc;
use tokio::sync::{oneshot, watch};

pub use crate::log::ReadItem;

/// Reads one topic. Dropping it, also in the middle of a call, leaves nothing behind.
pub struct TopicReader {
    shared: Arc<Shared>,
    /// Away while the read lane works on it; lost only when a call was dropped.
    inner: Option<log::TopicReader>,
    watch: watch::Receiver<u64>,
}

impl TopicReader {
    pub(super) fn new(shared: Arc<Shared>, inner: log::TopicReader, watch: watch::Receiver<u64>) -> Self {
        Self { shared, inner: Some(inner), watch }
    }

    /// The position behind everything handed out.
    pub fn cursor(&self) -> Option<Cursor> {
        self.inner.as_ref().map(log::TopicReader::cursor)
    }

    /// What comes next, at least one batch and then as long as [`crate::base::Batch::cost_bytes`] adds up to less than
    /// `bytes_max`; empty when nothing more is held now. After [`ReadError::Io`] the same call may be made again.
    pub async fn next(&mut self, bytes_max: usize) -> Result<Vec<ReadItem>, ReadError> {
        // Seen before reading, so that what comes in meanwhile wakes `changed`.
        self.watch.mark_unchanged();
        let Some(mut inner) = self.inner.take() else { return Err(ReadError::Stopped) };
        if inner.is_in_memory() {
            let items = inner.next(bytes_max);
            self.inner = Some(inner);
            return items.map_err(io_error);
        }
        let (answer, answered) = oneshot::channel();
        let job = move || {
            let items = inner.next(bytes_max);
            drop(answer.send((inner, items)));
        };
        self.shared.io().run(Lane::Read, Box::new(job));
        let (inner, items) = answered.await.map_err(|_| ReadError::Stopped)?;
        self.inner = Some(inner);
        items.map_err(io_error)
    }

    /// Waits until more may be readable than when [`Self::next`] was called last.
    pub async fn changed(&mut self) {
        if self.watch.changed().await.is_err() {
            // Nobody writes this topic any more: whoever waits does so until it is dropped.
            std::future::pending::<()>().await;
        }
    }
}
