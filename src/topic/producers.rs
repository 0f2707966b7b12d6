//! Which numbers of which producers were appended, so that a retry is recognised and answered as the first attempt was.
//!
//! For each topic the last 10 000 producers, and of each the chunks that hold its last 1 024 numbers. It is remembered
//! in checkpoints and rebuilt from the journal behind them; what names entries that did not survive is dropped then.
use crate::base::bytes_io::{Reader, Truncated, put_varint};
use crate::base::limits::{PRODUCER_COUNT_MAX, PRODUCER_WINDOW};
use crate::base::{ProducerId, RunId, Seq, Timestamp};
use std::collections::{BTreeMap, VecDeque};

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

#[derive(Debug, Default)]
struct Window {
    /// In the order of appending.
    chunks: VecDeque<Remembered>,
    /// The number behind the highest that was appended.
    until: u64,
    /// When it was used last, to forget the producer used least recently.
    used: u64,
}

/// The producers of one topic.
#[derive(Debug, Default)]
pub struct Producers {
    windows: BTreeMap<ProducerId, Window>,
    by_use: BTreeMap<u64, ProducerId>,
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

impl Producers {
    /// What is known of `count` entries of `producer` from `number` on.
    pub fn look(&self, producer: ProducerId, number: u64, count: u32) -> Known {
        let Some(window) = self.windows.get(&producer) else { return Known::New };
        if number >= window.until {
            return Known::New;
        }
        let until = number.saturating_add(u64::from(count));
        let overlaps = |c: &&Remembered| c.number < until && number < c.number + u64::from(c.count);
        match window.chunks.iter().find(overlaps) {
            Some(chunk) if (chunk.number, chunk.count) == (number, count) => Known::Repeat(*chunk),
            Some(_) => Known::Mixed,
            None if window.until - number > PRODUCER_WINDOW => Known::Forgotten,
            None => Known::New,
        }
    }

    /// Remembers a chunk that was appended.
    pub fn add(&mut self, producer: ProducerId, chunk: Remembered) {
        self.uses += 1;
        let used = self.uses;
        let window = self.windows.entry(producer).or_default();
        self.by_use.remove(&window.used);
        self.by_use.insert(used, producer);
        window.used = used;
        window.until = window.until.max(chunk.number.saturating_add(u64::from(chunk.count)));
        let is_same =
            |c: &Remembered| (c.number, c.run, c.first_seq) == (chunk.number, chunk.run, chunk.first_seq);
        if !window.chunks.iter().rev().take(2).any(is_same) {
            window.chunks.push_back(chunk);
        }
        let is_old =
            |c: &Remembered| c.number.saturating_add(u64::from(c.count)) + PRODUCER_WINDOW < window.until;
        while window.chunks.front().is_some_and(is_old) {
            window.chunks.pop_front();
        }
        if self.windows.len() > PRODUCER_COUNT_MAX
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.windows.remove(&oldest);
        }
    }

    /// Takes in what is remembered of later chunks.
    pub fn absorb(&mut self, mut later: Self) {
        for producer in later.by_use.values() {
            let window = later.windows.remove(producer).unwrap_or_default();
            window.chunks.into_iter().for_each(|chunk| self.add(*producer, chunk));
        }
    }

    /// Forgets what was to be made durable by `step` or later: it will not be.
    pub fn forget_from(&mut self, step: u64) {
        for window in self.windows.values_mut() {
            window.chunks.retain(|chunk| chunk.step < step);
            let ends = window.chunks.iter().map(|c| c.number + u64::from(c.count));
            window.until = ends.max().unwrap_or(0);
        }
    }

    /// Drops what names entries that are not there, as `is_held(run, seq)` tells.
    pub fn keep_held(&mut self, is_held: impl Fn(RunId, Seq) -> bool) {
        for window in self.windows.values_mut() {
            window.chunks.retain(|chunk| is_held(chunk.run, chunk.first_seq));
            let ends = window.chunks.iter().map(|c| c.number + u64::from(c.count));
            window.until = ends.max().unwrap_or(0);
        }
    }

    /// Adds all that is remembered to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.by_use.len() as u64);
        for producer in self.by_use.values() {
            let chunks = self.windows.get(producer).map(|w| &w.chunks);
            out.extend_from_slice(&producer.0.to_le_bytes());
            put_varint(out, chunks.map_or(0, VecDeque::len) as u64);
            for chunk in chunks.into_iter().flatten() {
                put_varint(out, chunk.number);
                put_varint(out, u64::from(chunk.count));
                out.extend_from_slice(&chunk.run.0.to_le_bytes());
                put_varint(out, chunk.first_seq.0);
                out.extend_from_slice(&chunk.first_time.0.to_le_bytes());
            }
        }
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Truncated> {
        let mut producers = Self::default();
        for _ in 0..r.varint()? {
            let producer = ProducerId(r.u64()?);
            for _ in 0..r.varint()? {
                let chunk = Remembered {
                    number: r.varint()?,
                    count: u32::try_from(r.varint()?).map_err(|_| Truncated)?,
                    run: RunId(r.u64()?),
                    first_seq: Seq(r.varint()?),
                    first_time: Timestamp(r.u64()?),
                    step: 0,
                };
                producers.add(producer, chunk);
            }
        }
        Ok(producers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(number: u64, count: u32, seq: u64) -> Remembered {
        Remembered {
            number,
            count,
            run: RunId(1),
            first_seq: Seq(seq),
            first_time: Timestamp(seq),
            step: seq,
        }
    }

    const P: ProducerId = ProducerId(7);

    #[test]
    fn a_retry_is_answered_as_the_first_attempt_was() {
        let mut producers = Producers::default();
        assert_eq!(producers.look(P, 0, 3), Known::New);
        producers.add(P, chunk(0, 3, 10));
        assert_eq!(producers.look(P, 0, 3), Known::Repeat(chunk(0, 3, 10)));
        assert_eq!(producers.look(P, 3, 1), Known::New);
        assert_eq!(producers.look(P, 2, 2), Known::Mixed);
        assert_eq!(producers.look(P, 0, 2), Known::Mixed);
    }

    #[test]
    fn numbers_beyond_the_window_are_forgotten_not_appended_again() {
        let mut producers = Producers::default();
        for number in 0..3000 {
            producers.add(P, chunk(number, 1, number + 1));
        }
        assert_eq!(producers.look(P, 0, 1), Known::Forgotten);
        assert_eq!(
            producers.look(P, 2999 - PRODUCER_WINDOW + 2, 1),
            Known::Repeat(chunk(2999 - 1022, 1, 1978))
        );
        let kept = producers.windows[&P].chunks.len() as u64;
        assert!((PRODUCER_WINDOW..=PRODUCER_WINDOW + 2).contains(&kept), "{kept}");
    }

    #[test]
    fn the_producer_used_least_recently_is_forgotten_first() {
        let mut producers = Producers::default();
        for id in 0..PRODUCER_COUNT_MAX as u64 {
            producers.add(ProducerId(id), chunk(0, 1, id + 1));
        }
        producers.add(ProducerId(0), chunk(1, 1, 99_999));
        producers.add(ProducerId(u64::MAX), chunk(0, 1, 100_000));
        assert_eq!(producers.windows.len(), PRODUCER_COUNT_MAX);
        assert!(producers.windows.contains_key(&ProducerId(0)));
        assert!(!producers.windows.contains_key(&ProducerId(1)));
    }

    #[test]
    fn what_a_refused_step_held_can_be_appended_again() {
        let mut producers = Producers::default();
        producers.add(P, chunk(0, 1, 1));
        producers.add(P, chunk(1, 1, 2));
        producers.forget_from(2);
        assert_eq!(producers.look(P, 1, 1), Known::New);
        assert!(matches!(producers.look(P, 0, 1), Known::Repeat(_)));
    }

    #[test]
    fn what_is_remembered_survives_a_checkpoint() {
        let mut producers = Producers::default();
        producers.add(P, chunk(5, 2, 9));
        let mut out = Vec::new();
        producers.encode(&mut out);
        let again = Producers::decode(&mut Reader::new(&out)).unwrap();
        assert_eq!(again.look(P, 5, 2), Known::Repeat(Remembered { step: 0, ..chunk(5, 2, 9) }));
        assert!(Producers::decode(&mut Reader::new(&out[..out.len() - 1])).is_err());
    }

    #[test]
    fn numbers_count_on_within_a_chunk_or_are_no_numbers() {
        assert_eq!(numbers_of(&[(P, 4), (P, 5)]), Some((P, 4)));
        assert_eq!(numbers_of(&[(P, 4), (P, 6)]), None);
        assert_eq!(numbers_of(&[(P, 4), (ProducerId(8), 5)]), None);
        assert_eq!(numbers_of(&[]), None);
    }
}
