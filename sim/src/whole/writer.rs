//! Programs that append: many entries under way, numbered by the library and sent again by it, here or at another peer.
use crate::cluster::lock;
use crate::cluster::model::{Fact, payload};
use crate::whole::user::User;
use crate::whole::{Stack, topics};
use conveyor::base::{Durability, TopicName};
use conveyor::client::{AppendError, Client, ClientError, Producer, ProducerOptions, Receipt};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What a writer does.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    /// Milliseconds between two bursts, on average.
    pub pause_ms: u64,
    /// Entries of one burst, at most.
    pub burst_max: u64,
    /// Whether it waits for copies at another peer too.
    pub wants_copies: bool,
}

/// A program that appends.
pub struct Writer {
    user: User,
    habits: Habits,
}

impl Writer {
    /// A program on a host.
    pub fn new(user: User, habits: Habits) -> Self {
        Self { user, habits }
    }

    /// Appends for as long as the run lasts.
    pub async fn work(mut self) {
        loop {
            let client = self.user.connect().await;
            self.with(&client).await;
            self.user.stack.recorder.note(format_args!("{} begins anew", self.user.host));
        }
    }

    /// Appends with one client for a while.
    async fn with(&mut self, client: &Client) {
        let mut producers: BTreeMap<TopicName, Producer> = BTreeMap::new();
        let durability = self.habits.wants_copies.then_some(Durability::Replicas(2));
        loop {
            let pause = self.user.random.below(2 * self.habits.pause_ms + 1);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let topic = self.user.random.pick(&topics()).clone();
            if self.user.random.one_in(400) {
                return;
            }
            if !producers.contains_key(&topic) {
                let options = ProducerOptions { durability, ..ProducerOptions::default() };
                let producer = client.producer(&topic, options).await.expect("it asks nobody");
                producers.insert(topic.clone(), producer);
            }
            for _ in 0..self.user.random.between(1, self.habits.burst_max + 1) {
                if let Err(error) = self.append(&topic, &producers[&topic], durability).await {
                    self.user.stack.recorder.note(format_args!("{} gives up: {error}", self.user.host));
                    producers.remove(&topic);
                    break;
                }
            }
        }
    }

    async fn append(
        &self,
        topic: &TopicName,
        producer: &Producer,
        durability: Option<Durability>,
    ) -> Result<(), ClientError> {
        let nonce = lock(&self.user.stack.model).attempt();
        let receipt = producer.send(payload(nonce)).await?;
        let (stack, topic) = (self.user.stack.clone(), topic.clone());
        let level = durability.unwrap_or(Durability::Fsync);
        self.user.spawn(async move { take(&stack, &topic, nonce, level, receipt).await });
        Ok(())
    }
}

/// Waits for an answer, and takes note of what it promises.
async fn take(stack: &Arc<Stack>, topic: &TopicName, nonce: u64, level: Durability, receipt: Receipt) {
    match receipt.await {
        Ok(told) => {
            let host = stack.host_of(&told.id.peer).expect("a peer of this cluster took it");
            let mut model = lock(&stack.model);
            model.tell(nonce, [told.id.peer].into_iter().chain(told.may_also_be_at.iter().copied()));
            for holder in
                std::iter::once(host).chain(told.holders.iter().filter_map(|p| stack.host_of(&p.peer)))
            {
                model.acknowledge(told.id, Fact { nonce, time: told.time }, level, holder);
            }
            drop(model);
            let copies = 1 + told.holders.len();
            let is_enough = !matches!(level, Durability::Replicas(count) if copies < usize::from(count));
            assert!(is_enough, "P3: {:?} was acknowledged with {copies} copies", told.id);
            let (run, seq, again) =
                (told.id.run.short(), told.id.seq, if told.is_repeat { ", again" } else { "" });
            stack.recorder.note(format_args!("{host} took {nonce} for {topic}: {run}/{seq}{again}"));
        }
        Err(error) => {
            let may_be = match &error {
                ClientError::Unreachable(_) | ClientError::Closed => true,
                ClientError::Append(AppendError::Replicas { .. }) => true,
                // Whose disk was lost forgot what it took.
                ClientError::Append(AppendError::ProducerForgotten { .. }) => lock(&stack.model).has_doubts(),
                _ => false,
            };
            assert!(may_be, "an append was refused: {error}");
            stack.recorder.note(format_args!("{nonce} is not acknowledged: {error}"));
        }
    }
}
