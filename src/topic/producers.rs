//! Which numbers of which producers were appended, so that a retry is recognised and answered as the first attempt was.
//!
//! For each topic the last 10 000 producers, and of each the chunks that hold its last 1 024 numbers; where all topics
//! together hold more than half a million chunks, the topic with the most forgets its oldest first. It is remembered in
//! checkpoints and rebuilt from the journal behind them; what names entries that did not survive is dropped then.
use crate::base::bytes_io::{Reader, Truncated, put_varint};
use crate::base::limits::{PRODUCER_CHUNKS_MAX, PRODUCER_COUNT_MAX};
use crate::base::{ProducerId, RunId, Seq, Timestamp, TopicId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use window::Window;

mod window;

/// One chunk that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// The producer's number of its first entry; the others follow without a gap.
    pub number: u64,
    /// Entries.
    pub count: u32,
    /// The run they are in.
    pub run: RunId,
    /// The number of the first in the log.
    pub first_seq: Seq,
    /// The time of the first.
    pub first_time: Timestamp,
    /// The step that makes them durable; 0 for those of an earlier start.
    pub step: u64,
}

/// What is known of a chunk that comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It was not appended.
    New,
    /// It was appended as this.
    Repeat(Remembered),
    /// Some of its numbers were appended in another chunk.
    Mixed,
    /// Its numbers are too far back to tell.
    Forgotten,
}

/// What a window costs beside its chunks, counted in chunks.
const WINDOW_COST: usize = 6;

/// The producers of one topic.
#[derive(Debug, Clone, Default)]
struct OfTopic {
    /// Shared with snapshots, and copied only when one of them is still looked at.
    windows: BTreeMap<ProducerId, Arc<Window>>,
    by_use: BTreeMap<u64, ProducerId>,
    /// Chunks in all windows, and [`WINDOW_COST`] for each window.
    cost: usize,
}

/// The producers of all topics. A clone shares what both still agree on.
#[derive(Debug, Clone, Default)]
pub struct Producers {
    topics: BTreeMap<TopicId, OfTopic>,
    /// Topics by what they cost, so that the one that costs most gives way.
    by_cost: BTreeSet<(usize, TopicId)>,
    cost: usize,
    uses: u64,
}

/// The producer and the first number of a chunk, when all its entries are of one producer and numbered without a gap.
pub fn numbers_of(producers: &[(ProducerId, u64)]) -> Option<(ProducerId, u64)> {
    let (producer, first) = *producers.first()?;
    let follows = |(index, (p, n)): (usize, &(ProducerId, u64))| {
        *p == producer && Some(*n) == first.checked_add(index as u64)
    };
    producers.iter().enumerate().all(follows).then_some((producer, first))
}

impl Remembered {
    fn until(&self) -> u64 {
        self.number.saturating_add(u64::from(self.count))
    }
}

impl OfTopic {
    fn add(&mut self, producer: ProducerId, chunk: Remembered, used: u64) {
        let shared = self.windows.entry(producer).or_insert_with(|| {
            self.cost += WINDOW_COST;
            Arc::default()
        });
        let window = Arc::make_mut(shared);
        let before = window.held();
        self.by_use.remove(&window.used);
        self.by_use.insert(used, producer);
        window.used = used;
        window.add(chunk);
        self.cost = self.cost + window.held() - before;
        if self.windows.len() > PRODUCER_COUNT_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.by_use.pop_first().and_then(|(_, producer)| self.windows.remove(&producer));
        self.cost -= oldest.map_or(0, |window| window.held() + WINDOW_COST);
    }

    /// Forgets the older half of what the producer used least recently sent, of those that sent more than one chunk; when
    /// none did, that producer. Of what it forgets otherwise it keeps that it does: such a number is never taken for one
    /// that did not come. `used` is the number of the last use.
    fn shrink(&mut self, used: &mut u64) {
        if self.cost <= self.windows.len() * (1 + WINDOW_COST) {
            return self.forget_oldest();
        }
        while let Some((_, producer)) = self.by_use.pop_first() {
            *used += 1;
            self.by_use.insert(*used, producer);
            let Some(window) = self.windows.get_mut(&producer).map(Arc::make_mut) else { return };
            window.used = *used;
            let dropped = window.forget_half();
            self.cost -= dropped;
            if dropped > 0 {
                return;
            }
        }
    }

    /// Keeps the chunks that `keep` names, and the windows that hold any.
    fn retain(&mut self, keep: impl Fn(&Remembered) -> bool) {
        for window in self.windows.values_mut() {
            if !window.chunks().all(|chunk| keep(&chunk)) {
                Arc::make_mut(window).retain(&keep);
            }
        }
        self.windows.retain(|_, window| window.held() > 0);
        self.by_use.retain(|_, producer| self.windows.contains_key(producer));
        self.cost = self.windows.values().map(|window| window.held() + WINDOW_COST).sum();
    }
}

impl Producers {
    /// What is known of `count` entries of `producer` from `number` on in `topic`.
    pub fn look(&self, topic: TopicId, producer: ProducerId, number: u64, count: u32) -> Known {
        let window = self.topics.get(&topic).and_then(|topic| topic.windows.get(&producer));
        window.map_or(Known::New, |window| window.look(number, count))
    }

    /// Remembers a chunk that was appended.
    pub fn add(&mut self, topic: TopicId, producer: ProducerId, chunk: Remembered) {
        self.uses += 1;
        let used = self.uses;
        self.change(topic, |of_topic| of_topic.add(producer, chunk, used));
        while self.cost > PRODUCER_CHUNKS_MAX
            && let Some((_, costliest)) = self.by_cost.last().copied()
        {
            let mut used = self.uses;
            self.change(costliest, |of_topic| of_topic.shrink(&mut used));
            self.uses = used;
        }
    }

    /// Takes in what is remembered of later chunks.
    pub fn absorb(&mut self, later: &Self) {
        for (topic, of_topic) in &later.topics {
            for producer in of_topic.by_use.values() {
                let chunks = of_topic.windows.get(producer).into_iter().flat_map(|window| window.chunks());
                chunks.for_each(|chunk| self.add(*topic, *producer, chunk));
            }
        }
    }

    /// Forgets what was to be made durable by `step` or later: it will not be.
    pub fn forget_from(&mut self, step: u64) {
        self.retain(|_, chunk| chunk.step < step);
    }

    /// Forgets what is gone of a topic: it was deleted.
    pub fn forget(&mut self, topic: TopicId, is_gone: impl Fn(&Remembered) -> bool) {
        if self.topics.contains_key(&topic) {
            self.change(topic, |of_topic| of_topic.retain(|chunk| !is_gone(chunk)));
        }
    }

    /// What a topic held in `run` from `from` on is in `branch` now: the run forked.
    pub fn rename(&mut self, topic: TopicId, run: RunId, from: Seq, branch: RunId) {
        let is_meant = |chunk: &Remembered| chunk.run == run && from <= chunk.first_seq;
        let windows =
            self.topics.get_mut(&topic).into_iter().flat_map(|of_topic| of_topic.windows.values_mut());
        for window in windows.filter(|window| window.chunks().any(|chunk| is_meant(&chunk))) {
            Arc::make_mut(window).rename(branch, is_meant);
        }
    }

    /// Keeps the chunks that `keep` names.
    pub fn retain(&mut self, keep: impl Fn(TopicId, &Remembered) -> bool) {
        for topic in self.topics.keys().copied().collect::<Vec<_>>() {
            self.change(topic, |of_topic| of_topic.retain(|chunk| keep(topic, chunk)));
        }
    }

    fn set_floor(&mut self, topic: TopicId, producer: ProducerId, floor: u64) {
        let of_topic = self.topics.get_mut(&topic);
        if let Some(window) = of_topic.and_then(|of_topic| of_topic.windows.get_mut(&producer)) {
            Arc::make_mut(window).set_floor(floor);
        }
    }

    fn change(&mut self, topic: TopicId, change: impl FnOnce(&mut OfTopic)) {
        let of_topic = self.topics.entry(topic).or_default();
        let before = of_topic.cost;
        change(of_topic);
        let after = of_topic.cost;
        self.cost = self.cost + after - before;
        if after != before {
            self.by_cost.remove(&(before, topic));
            self.by_cost.insert((after, topic));
        }
        if after == 0 {
            self.by_cost.remove(&(after, topic));
            self.topics.remove(&topic);
        }
    }

    /// Bytes that windows take, with what snapshots share: some ten for each chunk.
    pub fn bytes(&self) -> usize {
        let windows = self.topics.values().flat_map(|of_topic| of_topic.windows.values());
        windows.map(|window| window.bytes()).sum()
    }

    /// Adds all that is remembered to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_pieces(&mut |piece| out.extend_from_slice(piece));
    }

    /// The same piece by piece, one for each topic, so that the whole is never in memory.
    pub fn encode_pieces(&self, each: &mut dyn FnMut(&[u8])) {
        let out = &mut Vec::new();
        put_varint(out, self.topics.len() as u64);
        for (topic, of_topic) in &self.topics {
            out.extend_from_slice(&topic.0);
            put_varint(out, of_topic.by_use.len() as u64);
            for producer in of_topic.by_use.values() {
                out.extend_from_slice(&producer.0.to_le_bytes());
                let window = of_topic.windows.get(producer);
                put_varint(out, window.map_or(0, |window| window.floor()));
                put_varint(out, window.map_or(0, |window| window.chunks().count()) as u64);
                window.into_iter().flat_map(|w| w.chunks()).for_each(|chunk| encode_chunk(&chunk, out));
            }
            each(out);
            out.clear();
        }
        each(out);
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Truncated> {
        let mut producers = Self::default();
        for _ in 0..r.varint()? {
            let topic = TopicId(r.array()?);
            for _ in 0..r.varint()? {
                let (producer, floor) = (ProducerId(r.u64()?), r.varint()?);
                for _ in 0..r.varint()? {
                    producers.add(topic, producer, decode_chunk(r)?);
                }
                producers.set_floor(topic, producer, floor);
            }
        }
        Ok(producers)
    }
}

fn encode_chunk(chunk: &Remembered, out: &mut Vec<u8>) {
    put_varint(out, chunk.number);
    put_varint(out, u64::from(chunk.count));
    out.extend_from_slice(&chunk.run.0.to_le_bytes());
    put_varint(out, chunk.first_seq.0);
    out.extend_from_slice(&chunk.first_time.0.to_le_bytes());
}

fn decode_chunk(r: &mut Reader<'_>) -> Result<Remembered, Truncated> {
    Ok(Remembered {
        number: r.varint()?,
        count: u32::try_from(r.varint()?).map_err(|_| Truncated)?,
        run: RunId(r.u64()?),
        first_seq: Seq(r.varint()?),
        first_time: Timestamp(r.u64()?),
        step: 0,
    })
}

#[cfg(test)]
mod tests;
