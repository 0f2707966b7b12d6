//! Appending many entries: packed, pipelined, in order, and sent again until they are answered.
use crate::base::limits::{CHUNK_RAW_BYTES_MAX, PRODUCER_WINDOW};
use crate::base::{
    Codec, Durability, Entry, EntryId, PeerId, ProducerId, RunId, StoreId, Timestamp, TopicId, TopicName,
};
use crate::client::connect::{Connector, random_u64};
use crate::client::driver;
use crate::client::error::ClientError;
use crate::client::queue::{Outcome, Packing, Queue};
use crate::wire::outcome::{Appended, Holder};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// How a [`Producer`] packs, and how much it holds.
#[derive(Debug, Clone)]
pub struct ProducerOptions {
    /// What an answer waits for; `None`: what the topic is set to.
    pub durability: Option<Durability>,
    /// Bytes of entries that are not answered yet, at most. [`Producer::send`] waits at this bound; an entry larger
    /// than it waits until it has all of it. Default 8 MiB.
    pub in_flight_bytes_max: usize,
    /// Entries that are not answered yet, at most 1 024: a peer recognises retries of a producer's last 1 024
    /// numbers. Default 1 024.
    pub in_flight_entries_max: usize,
    /// Raw bytes a chunk aims at, at most 1 MiB. Larger: fewer, cheaper requests; smaller: less waits behind a large
    /// one. With [`Codec::Zstd`] more than 128 KiB is never compressed. Default 128 KiB.
    pub chunk_bytes_target: usize,
    /// How long an entry waits for company while earlier chunks are still unanswered; with none it is sent at once.
    /// Default 1 ms.
    pub linger: Duration,
    /// How chunks are stored. Default: as they are.
    pub codec: Codec,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            durability: None,
            in_flight_bytes_max: 8 << 20,
            in_flight_entries_max: PRODUCER_WINDOW as usize,
            chunk_bytes_target: 128 << 10,
            linger: Duration::from_millis(1),
            codec: Codec::None,
        }
    }
}

/// An entry that is as durable as was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// Its name.
    pub id: EntryId,
    /// The run that was signed: that of its name, or the one that this is a branch of, where a retry finds that the run
    /// forked.
    pub signed_run: RunId,
    /// The time its peer gave it.
    pub time: Timestamp,
    /// Whether an earlier attempt had got there already: this was a retry.
    pub is_repeat: bool,
    /// The store of the peer that took it.
    pub store: StoreId,
    /// The receipt, where the answer waited for other peers: those that say they hold it, durably.
    pub holders: Vec<Holder>,
    /// Peers that it went to before, of which nothing was heard: each may have it in its log as well, under another id and the
    /// same producer and number. Empty but where a connection was lost and another peer was gone on at.
    pub may_also_be_at: Vec<PeerId>,
}

impl Acknowledged {
    /// What a peer says of one entry, as in [`AppendError::Replicas`](crate::wire::outcome::AppendError). Where it went before
    /// is not known from that.
    pub fn of(topic: TopicId, appended: Appended) -> Self {
        let Appended {
            peer,
            run,
            signed_run,
            first_seq: seq,
            first_time: time,
            is_repeat,
            store,
            holders,
            ..
        } = appended;
        let id = EntryId { topic, peer, run, seq };
        Self { id, signed_run, time, is_repeat, store, holders, may_also_be_at: Vec::new() }
    }
}

/// Bytes an entry takes beside its parts, at most.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// Appends to one topic, in the order of [`Self::send`]. Entries a producer sent are numbered in that order, but for
/// chunks the peer refused. Dropping it abandons what is not answered yet: it may or may not have been stored.
#[derive(Debug)]
pub struct Producer {
    queue: Arc<Queue>,
    topic: TopicId,
    bytes_max: usize,
}

impl Producer {
    pub(crate) fn start(connector: &Arc<Connector>, topic: TopicName, options: &ProducerOptions) -> Self {
        let packing = Packing {
            target_bytes: options.chunk_bytes_target.clamp(1, CHUNK_RAW_BYTES_MAX),
            codec: options.codec,
            linger: options.linger,
        };
        // A bound above what a 32-bit count of permits can name would be none.
        let bytes_max = options.in_flight_bytes_max.clamp(1, u32::MAX as usize >> 1);
        let entries_max = options.in_flight_entries_max.clamp(1, PRODUCER_WINDOW as usize);
        let id = ProducerId(random_u64());
        let queue = Arc::new(Queue::new(id, packing, bytes_max, entries_max));
        let topic_id = TopicId::of(connector.authority().cluster(), topic.as_str());
        let task = driver::run(connector.clone(), queue.clone(), topic, options.durability);
        connector.environment().spawn(task);
        Self { queue, topic: topic_id, bytes_max }
    }

    /// Takes an entry as soon as there is room, and answers with a receipt for it. The entry's `producer` is set by
    /// the producer. Fails when the entry is over a limit (nothing is sent) or the producer has ended.
    ///
    /// Dropping this future before it resolves sends nothing; dropping the receipt takes nothing back.
    pub async fn send(&self, entry: impl Into<Entry>) -> Result<Receipt, ClientError> {
        let entry = entry.into();
        let room_bytes = entry_bytes(&entry).min(self.bytes_max);
        let ended = |_| self.queue.failure().unwrap_or(ClientError::Closed);
        let bytes = self.queue.room_bytes.acquire_many(room_bytes as u32).await.map_err(ended)?;
        let place = self.queue.room_entries.acquire().await.map_err(ended)?;
        let (outcome, index) = self.queue.push(entry, room_bytes)?;
        // The queue gives both back when the chunk is answered.
        bytes.forget();
        place.forget();
        Ok(Receipt { outcome, index, topic: self.topic })
    }

    /// Sends all that was taken and waits until it is answered. Fails with the first error since the last flush.
    pub async fn flush(&self) -> Result<(), ClientError> {
        if let Some(last) = self.queue.flush() {
            let _ = poll_fn(|context| last.poll(u32::MAX, context)).await;
        }
        self.queue.take_error().map_or(Ok(()), Err)
    }

    /// Flushes, then ends the producer.
    pub async fn close(self) -> Result<(), ClientError> {
        let flushed = self.flush().await;
        self.queue.close();
        flushed
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_idle()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.queue.failure().is_some()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // After `close` nothing waits any more, and ending twice is ending once.
        self.queue.drop_all();
    }
}

/// What an entry takes of the room, rounded up.
fn entry_bytes(entry: &Entry) -> usize {
    let tags: usize = entry.tags.iter().map(|tag| tag.len() + 4).sum();
    let headers: usize = entry.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    entry.payload.len() + entry.key.len() + entry.unique.len() + tags + headers + ENTRY_OVERHEAD_BYTES
}

/// Resolves when its entry is as durable as was asked, or cannot be. Receipts of one producer resolve in order. An entry that is
/// stored and that too few peers hold in time ends with [`AppendError::Replicas`](crate::wire::outcome::AppendError), which
/// names that entry alone.
#[derive(Debug)]
pub struct Receipt {
    outcome: Arc<Outcome>,
    index: u32,
    topic: TopicId,
}

impl Future for Receipt {
    type Output = Result<Acknowledged, ClientError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = self.outcome.poll(self.index, context).map_ok(|appended| Acknowledged {
            may_also_be_at: self.outcome.may_also_be_at(),
            ..Acknowledged::of(self.topic, appended.entry(self.index))
        });
        outcome.map_err(|error| error.of_entry(self.index))
    }
}
