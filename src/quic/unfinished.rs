//! Memory for objects of which a part has come: a bound over all streams, and a pace that keeps each moving.
//!
//! ```text
//! header says 2 MiB ─→ room for 2 MiB taken at once ─→ bytes come, at this pace or faster ─→ whole, room goes with it
//!                          └─ no room: a bounded number of streams wait, further ones are refused
//! ```
//!
//! Room is taken once, for as much as the object may need, so that none waits for more while it holds some. An object
//! that came whole with its first bytes takes none: it is in memory already and goes on its way at once.
use crate::base::limits::*;
use crate::quic::stream::StreamError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How much may be unfinished, and how fast it must become finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnfinishedConfig {
    /// Bytes of all unfinished objects, counted by what their headers announce. Large enough for the largest object, or
    /// such an object takes all of it.
    pub bytes_max: usize,
    /// Streams that wait for such room at most; each holds what it had read, some 90 KiB.
    pub waiting_count_max: usize,
    /// How long an object may take beside what its bytes take at the slowest pace.
    pub grace: Duration,
    /// The slowest pace at which an object may come.
    pub bytes_per_s_min: u64,
}

impl Default for UnfinishedConfig {
    fn default() -> Self {
        Self {
            bytes_max: UNFINISHED_BYTES_MAX,
            waiting_count_max: UNFINISHED_WAITING_COUNT_MAX,
            grace: Duration::from_secs(UNFINISHED_GRACE_S),
            bytes_per_s_min: UNFINISHED_BYTES_PER_S_MIN,
        }
    }
}

/// The room of one endpoint.
#[derive(Debug)]
pub struct Unfinished {
    config: UnfinishedConfig,
    room: Arc<Semaphore>,
    waiting: Semaphore,
}

/// Room for one object, free again when this is dropped.
pub type Room = OwnedSemaphorePermit;

impl Unfinished {
    /// Room as `config` says.
    pub fn new(config: UnfinishedConfig) -> Arc<Self> {
        let units = units(config.bytes_max).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let config = UnfinishedConfig { bytes_max: units * UNIT_BYTES, ..config };
        let waiting = Semaphore::new(config.waiting_count_max.min(Semaphore::MAX_PERMITS));
        Arc::new(Self { config, room: Arc::new(Semaphore::new(units)), waiting })
    }

    /// Room for an object of `bytes`. Fails when there is none and as many as may be wait for it already.
    pub async fn take(&self, bytes: usize) -> Result<Room, StreamError> {
        // Below `u32::MAX`, since the bound is.
        let units = units(bytes.min(self.config.bytes_max)) as u32;
        if let Ok(room) = self.room.clone().try_acquire_many_owned(units) {
            return Ok(room);
        }
        let _place = self.waiting.try_acquire().map_err(|_| StreamError::Crowded)?;
        self.room.clone().acquire_many_owned(units).await.map_err(|_| StreamError::Crowded)
    }

    /// When an object that began at `began` must be further than `arrived` bytes.
    pub fn due(&self, began: Instant, arrived: usize) -> Instant {
        let pace_ms = (arrived as u64).saturating_mul(1000) / self.config.bytes_per_s_min.max(1);
        began + self.config.grace + Duration::from_millis(pace_ms)
    }
}

/// What one unit of the semaphore stands for.
const UNIT_BYTES: usize = 1 << 10;

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Waker};

    #[tokio::test]
    async fn room_is_taken_by_what_is_announced_and_those_beyond_the_waiting_are_refused() {
        let config =
            UnfinishedConfig { bytes_max: 10 << 10, waiting_count_max: 1, ..UnfinishedConfig::default() };
        let unfinished = Unfinished::new(config);
        let first = unfinished.take(10 << 10).await.unwrap();
        let mut second = std::pin::pin!(unfinished.take(1));
        let mut context = Context::from_waker(Waker::noop());
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert_eq!(unfinished.take(1).await.unwrap_err(), StreamError::Crowded);
        drop(first);
        drop(second.await.unwrap());
        // One that is larger than all the room has it alone.
        let large = unfinished.take(1 << 30).await.unwrap();
        drop(large);
        assert_eq!(unfinished.room.available_permits(), 10);
    }

    #[tokio::test]
    async fn an_object_is_due_later_the_more_of_it_has_come() {
        let unfinished = Unfinished::new(UnfinishedConfig::default());
        let began = Instant::now();
        let late = unfinished.due(began, UNFINISHED_BYTES_PER_S_MIN as usize);
        assert_eq!(late - began, Duration::from_secs(UNFINISHED_GRACE_S + 1));
    }
}
