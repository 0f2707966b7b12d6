//! Clients that append: numbered, and again after a while when no answer came, here or at another peer.
use crate::cluster::copies::check_copies;
use crate::cluster::model::{Fact, payload};
use crate::cluster::{Cluster, Topic, lock};
use crate::random::Random;
use bytes::Bytes;
use conveyor::base::{Chunk, ChunkBuilder, Codec, Durability, Entry, EntryId, ProducerId};
use conveyor::wire::outcome::{AppendError, Appended};
use std::sync::Arc;
use std::time::Duration;

/// What a client does.
#[derive(Debug, Clone)]
pub struct Habits {
    /// The sites it appends at; the first is where it begins.
    pub sites: Vec<usize>,
    /// Its topics.
    pub topics: Vec<Topic>,
    /// Milliseconds between two appends, on average.
    pub pause_ms: u64,
    /// Entries of one append, at most.
    pub entries_max: u64,
    /// Times that an append is tried again.
    pub retries_max: u64,
    /// Whether some appends ask for a copy at another peer.
    pub wants_copies: bool,
}

/// A client.
pub struct Client {
    cluster: Arc<Cluster>,
    random: Random,
    habits: Habits,
    producer: ProducerId,
    number: u64,
    at: usize,
}

/// What a client wants appended, the same at every attempt.
struct Wanted {
    topic: Topic,
    durability: Option<Durability>,
    nonces: Vec<u64>,
    bytes: Bytes,
}

impl Client {
    /// A client with these habits.
    pub fn new(cluster: Arc<Cluster>, habits: Habits) -> Self {
        let mut random = cluster.fork();
        let (producer, at) = (ProducerId(random.number()), habits.sites[0]);
        Self { cluster, random, habits, producer, number: 0, at }
    }

    /// Appends for as long as the run lasts.
    pub async fn work(mut self) {
        loop {
            let pause = self.random.below(2 * self.habits.pause_ms + 1);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.append().await;
        }
    }

    /// Appends once, with all attempts; says whether it was acknowledged.
    pub async fn append(&mut self) -> bool {
        let wanted = self.want();
        for _ in 0..=self.habits.retries_max {
            match self.attempt(&wanted).await {
                Some(Ok(appended)) => {
                    self.take(&wanted, appended);
                    return true;
                }
                Some(Err(error)) if is_final(&error) => return false,
                Some(Err(_)) | None => {}
            }
            let pause = self.random.between(50, 1_500);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            if self.random.one_in(3) {
                self.at = *self.random.pick(&self.habits.sites);
            }
        }
        false
    }

    fn want(&mut self) -> Wanted {
        let topic = *self.random.pick(&self.habits.topics);
        let count = self.random.between(1, self.habits.entries_max + 1);
        let nonces: Vec<u64> = (0..count).map(|_| lock(&self.cluster.model).attempt()).collect();
        let mut builder = ChunkBuilder::new();
        for nonce in &nonces {
            let producer = Some((self.producer, self.number));
            builder.push(&Entry { producer, ..Entry::from(payload(*nonce)) }).expect("a small entry");
            self.number += 1;
        }
        let codec = if self.random.one_in(4) { Codec::Zstd } else { Codec::None };
        let durability = match self.random.below(16) {
            0 | 1 => Some(Durability::Fsync),
            2 | 3 if self.habits.wants_copies && self.cluster.setup.peer_count > 1 => {
                Some(Durability::Replicas(2))
            }
            _ => None,
        };
        Wanted { topic, durability, nonces, bytes: builder.finish(codec) }
    }

    /// Asks one peer, and waits for it as long as a client would.
    async fn attempt(&mut self, wanted: &Wanted) -> Option<Result<Appended, AppendError>> {
        let live = self.cluster.live(self.at)?;
        let chunk = Chunk::parse(wanted.bytes.clone()).expect("a chunk that was just built");
        let append = live.handle.append(wanted.topic.name(), wanted.durability, chunk);
        let patience = Duration::from_millis(self.random.between(500, 8_000));
        tokio::time::timeout(patience, live.life.unless_ended(append)).await.ok().flatten()
    }

    fn take(&self, wanted: &Wanted, appended: Appended) {
        let Appended { peer, run, first_seq, first_time, count, is_repeat, .. } = appended;
        assert_eq!(count as usize, wanted.nonces.len(), "all entries of a chunk are appended");
        let level = wanted.durability.unwrap_or(wanted.topic.level());
        let facts = (0..).zip(&wanted.nonces).map(|(index, nonce)| {
            let id = EntryId { topic: wanted.topic.id(), peer, run, seq: first_seq.after(index) };
            (id, Fact { nonce: *nonce, time: first_time.plus(index) })
        });
        let facts: Vec<(EntryId, Fact)> = facts.collect();
        let mut model = lock(&self.cluster.model);
        facts.iter().for_each(|(id, fact)| model.acknowledge(*id, *fact, level, self.at));
        drop(model);
        if let Durability::Replicas(count) = level {
            check_copies(&self.cluster, &appended, &facts, count);
        }
        let (at, topic, run) = (self.at, wanted.topic.name(), run.short());
        let again = if is_repeat { ", again" } else { "" };
        self.cluster.recorder.note(format_args!("{at} took {count} of {topic}: {run}/{first_seq}{again}"));
    }
}

/// Whether trying again is of no use.
fn is_final(error: &AppendError) -> bool {
    match error {
        AppendError::DiskFull { .. } | AppendError::Stopped { .. } => false,
        AppendError::ProducerForgotten { .. } | AppendError::Removed => true,
        // It is in the log, and waits for copies again.
        AppendError::Replicas { .. } => false,
        _ => panic!("an append was refused: {error}"),
    }
}
