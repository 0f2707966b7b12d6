//! Memory for objects of which a part has come: a bound over all streams, and a pace that keeps each moving.
//!
//! ```text
//! header says 2 MiB ─→ room for 2 MiB taken at once ─→ bytes come, at this pace or faster ─→ whole, room goes with it
//!                          └─ no room: a bounded number of streams wait, further ones are refused
//! ```
//!
//! Small objects have a share of the room that large ones cannot take, and half of the places to wait in: so however many
//! large ones come slowly, small ones wait behind small ones alone. Of the rest small ones take what is free.
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

/// The room of one endpoint, or what one connection may take of it.
#[derive(Debug)]
pub struct Unfinished {
    config: UnfinishedConfig,
    small: Share,
    rest: Rest,
    waiting: Semaphore,
    /// The places among them that large ones may take.
    waiting_large: Semaphore,
}

/// Where large objects find room.
#[derive(Debug)]
enum Rest {
    /// In a share that small ones may take what is free of.
    Own(Share),
    /// In the room of all, one at a time, and small ones not at all.
    OfAll { place: Arc<Semaphore>, all: Arc<Unfinished> },
}

/// Part of the room.
#[derive(Debug)]
struct Share {
    units: usize,
    free: Arc<Semaphore>,
}

/// Room for one object, free again when this is dropped.
#[derive(Debug)]
pub struct Room {
    _taken: OwnedSemaphorePermit,
    /// The only place that its connection has.
    _place: Option<OwnedSemaphorePermit>,
}

impl From<OwnedSemaphorePermit> for Room {
    fn from(taken: OwnedSemaphorePermit) -> Self {
        Self { _taken: taken, _place: None }
    }
}

impl Unfinished {
    /// Room as `config` says.
    pub fn new(config: UnfinishedConfig) -> Arc<Self> {
        let all = units(config.bytes_max).clamp(2, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        // One small object at least, where that is not most of all.
        let small = (all / UNFINISHED_SMALL_PART).max(units(UNFINISHED_SMALL_BYTES_MAX)).min(all / 2);
        let places = config.waiting_count_max.min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            config,
            small: Share::new(small),
            rest: Rest::Own(Share::new(all - small)),
            waiting: Semaphore::new(places),
            waiting_large: Semaphore::new(places.div_ceil(2)),
        })
    }

    /// What one connection may take: so many bytes of small objects, which are its alone, and one large object at a time of
    /// this room. However little one connection finishes, it keeps nobody's small objects waiting, and large ones only as
    /// one among others.
    pub fn of_one(self: &Arc<Self>, small_bytes_max: usize) -> Arc<Self> {
        let places = self.config.waiting_count_max.min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            config: self.config,
            small: Share::new(units(small_bytes_max).max(1)),
            rest: Rest::OfAll { place: Arc::new(Semaphore::new(1)), all: self.clone() },
            waiting: Semaphore::new(places),
            waiting_large: Semaphore::new(places.div_ceil(2)),
        })
    }

    /// Room for an object of `bytes`. Fails when there is none and as many as may be wait for it already.
    pub async fn take(&self, bytes: usize) -> Result<Room, StreamError> {
        let is_small = bytes <= UNFINISHED_SMALL_BYTES_MAX && units(bytes) <= self.small.units;
        let free = is_small.then(|| self.small.try_take(bytes)).flatten();
        let free = free.or_else(|| match &self.rest {
            Rest::Own(rest) => rest.try_take(bytes),
            Rest::OfAll { .. } => None,
        });
        if let Some(room) = free {
            return Ok(room);
        }
        let crowded = |_| StreamError::Crowded;
        let _of_large = match is_small {
            true => None,
            false => Some(self.waiting_large.try_acquire().map_err(crowded)?),
        };
        let _place = self.waiting.try_acquire().map_err(crowded)?;
        match &self.rest {
            _ if is_small => self.small.take(bytes).await,
            Rest::Own(rest) => rest.take(bytes).await,
            Rest::OfAll { place, all } => {
                let place = place.clone().acquire_owned().await.map_err(|_| StreamError::Crowded)?;
                let room = Box::pin(all.take(bytes)).await?;
                Ok(Room { _place: Some(place), ..room })
            }
        }
    }

    /// When an object that began at `began` must be further than `arrived` bytes.
    pub fn due(&self, began: Instant, arrived: usize) -> Instant {
        let pace_ms = (arrived as u64).saturating_mul(1000) / self.config.bytes_per_s_min.max(1);
        began + self.config.grace + Duration::from_millis(pace_ms)
    }
}

impl Share {
    fn new(units: usize) -> Self {
        Self { units, free: Arc::new(Semaphore::new(units)) }
    }

    /// What is larger than all of it has it alone.
    fn units_of(&self, bytes: usize) -> u32 {
        // Below `u32::MAX`, since the bound is.
        units(bytes).min(self.units) as u32
    }

    fn try_take(&self, bytes: usize) -> Option<Room> {
        self.free.clone().try_acquire_many_owned(self.units_of(bytes)).ok().map(Room::from)
    }

    async fn take(&self, bytes: usize) -> Result<Room, StreamError> {
        let room = self.free.clone().acquire_many_owned(self.units_of(bytes)).await;
        room.map(Room::from).map_err(|_| StreamError::Crowded)
    }
}

/// What one unit of the semaphores stands for.
const UNIT_BYTES: usize = 1 << 10;

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Waker};

    fn is_pending<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[tokio::test]
    async fn room_is_taken_by_what_is_announced_and_those_beyond_the_waiting_are_refused() {
        let config =
            UnfinishedConfig { bytes_max: 10 << 10, waiting_count_max: 1, ..UnfinishedConfig::default() };
        let unfinished = Unfinished::new(config);
        let first = unfinished.take(5 << 10).await.unwrap();
        let other = unfinished.take(5 << 10).await.unwrap();
        let mut second = std::pin::pin!(unfinished.take(1));
        assert!(is_pending(second.as_mut()));
        assert_eq!(unfinished.take(1).await.unwrap_err(), StreamError::Crowded);
        drop(first);
        drop(second.await.unwrap());
        drop(other);
        // One that is larger than all the room of its kind has it alone.
        let large = unfinished.take(1 << 30).await.unwrap();
        drop(large);
        let Rest::Own(rest) = &unfinished.rest else { unreachable!("of an endpoint") };
        assert_eq!(rest.free.available_permits() + unfinished.small.free.available_permits(), 10);
    }

    #[tokio::test]
    async fn however_many_large_ones_wait_small_ones_have_their_share() {
        let unfinished = Unfinished::new(UnfinishedConfig::default());
        let large = || Box::pin(unfinished.take(BATCH_BYTES_MAX));
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(large().await.unwrap());
        }
        let mut waiting: Vec<_> = (0..UNFINISHED_WAITING_COUNT_MAX).map(|_| large()).collect();
        let waits: usize = waiting.iter_mut().map(|large| usize::from(is_pending(large.as_mut()))).sum();
        assert_eq!(waits, UNFINISHED_WAITING_COUNT_MAX / 2, "the others are refused");
        let mut small = Vec::new();
        for _ in 0..18 {
            small.push(unfinished.take(512 << 10).await.unwrap());
        }
        let mut next = std::pin::pin!(unfinished.take(512 << 10));
        assert!(is_pending(next.as_mut()));
        small.pop();
        drop(next.await.unwrap());
    }

    #[tokio::test]
    async fn small_ones_take_what_is_free_of_the_rest_and_large_ones_get_it_back_in_their_turn() {
        let unfinished = Unfinished::new(UnfinishedConfig::default());
        let mut small = Vec::new();
        for _ in 0..UNFINISHED_BYTES_MAX / UNFINISHED_SMALL_BYTES_MAX {
            small.push(unfinished.take(UNFINISHED_SMALL_BYTES_MAX).await.unwrap());
        }
        let mut large = std::pin::pin!(unfinished.take(BATCH_BYTES_MAX));
        assert!(is_pending(large.as_mut()));
        // What becomes free of the rest is kept for it.
        small.truncate(40);
        let room = large.await.unwrap();
        assert_eq!(room._taken.num_permits(), BATCH_BYTES_MAX.div_ceil(UNIT_BYTES));
    }

    #[tokio::test]
    async fn one_connection_keeps_no_others_from_their_room() {
        let all = Unfinished::new(UnfinishedConfig::default());
        let (slow, other) = (all.of_one(2 << 20), all.of_one(2 << 20));
        let first = slow.take(BATCH_BYTES_MAX).await.unwrap();
        let mut second = Box::pin(slow.take(BATCH_BYTES_MAX));
        assert!(is_pending(second.as_mut()), "one at a time, though there is room");
        let small = [slow.take(1 << 20).await.unwrap(), slow.take(1 << 20).await.unwrap()];
        let mut third = Box::pin(slow.take(1));
        assert!(is_pending(third.as_mut()));
        drop((other.take(BATCH_BYTES_MAX).await.unwrap(), other.take(1 << 20).await.unwrap()));
        drop(small);
        drop(third.await.unwrap());
        drop(first);
        drop(second.await.unwrap());
    }

    #[tokio::test]
    async fn an_object_is_due_later_the_more_of_it_has_come() {
        let unfinished = Unfinished::new(UnfinishedConfig::default());
        let began = Instant::now();
        let late = unfinished.due(began, UNFINISHED_BYTES_PER_S_MIN as usize);
        assert_eq!(late - began, Duration::from_secs(UNFINISHED_GRACE_S + 1));
    }
}
