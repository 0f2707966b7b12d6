//! The newest batches of a log that are still in memory, oldest first.
//!
//! Of an own log, and of one that is followed, they are in order of number, and one is found by halving. What is fetched
//! again after damage comes behind newer ones: as long as it is there, all are looked at.
use crate::base::{RunId, Seq};
use crate::log::state::TailBatch;
use std::collections::VecDeque;
use std::ops::Deref;

/// The newest batches in memory.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    batches: VecDeque<TailBatch>,
    /// How many of them do not come behind the one before in order of number.
    late_count: usize,
}

impl Deref for Tail {
    type Target = VecDeque<TailBatch>;

    fn deref(&self) -> &VecDeque<TailBatch> {
        &self.batches
    }
}

impl<'a> IntoIterator for &'a Tail {
    type Item = &'a TailBatch;
    type IntoIter = std::collections::vec_deque::Iter<'a, TailBatch>;

    fn into_iter(self) -> Self::IntoIter {
        self.batches.iter()
    }
}

impl Tail {
    /// Adds a batch behind all others.
    pub fn push_back(&mut self, kept: TailBatch) {
        self.late_count += usize::from(self.batches.back().is_some_and(|last| is_late(last, &kept)));
        self.batches.push_back(kept);
    }

    /// Lets go of the first.
    pub fn pop_front(&mut self) -> Option<TailBatch> {
        let first = self.batches.pop_front()?;
        self.late_count -= usize::from(self.batches.front().is_some_and(|next| is_late(&first, next)));
        Some(first)
    }

    /// The place of the batch that holds entry `seq` of `run`.
    pub fn find(&self, run: RunId, seq: Seq) -> Option<usize> {
        let is_in = |kept: &TailBatch| {
            let s = kept.batch.statement();
            s.run == run && s.first_seq <= seq && seq < s.until()
        };
        if self.late_count > 0 {
            return self.batches.iter().position(is_in);
        }
        let at = self.batches.partition_point(|kept| kept.batch.statement().until() <= seq);
        self.batches.get(at).is_some_and(is_in).then_some(at)
    }

    /// The first number of `run` behind `seq` that is in memory; `until` where there is none before that.
    pub fn first_behind(&self, run: RunId, seq: Seq, until: Seq) -> Seq {
        let of_run = self.batches.iter().map(|kept| kept.batch.statement()).filter(|s| s.run == run);
        of_run.map(|s| s.first_seq).filter(|first| *first > seq).fold(until, Seq::min)
    }
}

fn is_late(before: &TailBatch, kept: &TailBatch) -> bool {
    kept.batch.statement().first_seq < before.batch.statement().until()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::batch::state;
    use crate::base::{
        Batch, Chunk, ChunkBuilder, Codec, Digest, Entry, LogId, PeerId, Signature, Statement, Timestamp,
        TopicId,
    };
    use crate::log::place::Place;

    fn kept(run: u64, first_seq: u64, count: u64) -> TailBatch {
        let mut builder = ChunkBuilder::new();
        for _ in 0..count {
            builder.push(&Entry::from(b"x".to_vec())).unwrap();
        }
        let chunks = [Chunk::parse(builder.finish(Codec::None)).unwrap()];
        let blank = Statement {
            log: LogId { topic: TopicId([1; 16]), peer: PeerId([2; 32]) },
            run: RunId(run),
            parent: RunId::NONE,
            opens_run: false,
            first_seq: Seq(first_seq),
            first_time: Timestamp::ZERO,
            entry_count: 0,
            raw_bytes: 0,
            previous: Digest::ZERO,
            root: Digest::ZERO,
            signed: None,
        };
        let batch = Batch::assemble(state(&blank, &chunks), Signature([0; 64]), &chunks);
        TailBatch { batch, place: Place { segment: 0, offset: 0 }, is_flushed: Default::default() }
    }

    #[test]
    fn a_batch_is_found_also_while_one_lies_behind_later_ones() {
        let mut tail = Tail::default();
        for (run, first_seq) in [(1, 11), (1, 14), (2, 17), (1, 2), (2, 20)] {
            tail.push_back(kept(run, first_seq, 3));
        }
        let find = |tail: &Tail, run, seq| tail.find(RunId(run), Seq(seq));
        assert_eq!((tail.late_count, find(&tail, 1, 4), find(&tail, 2, 22)), (1, Some(3), Some(4)));
        assert_eq!((find(&tail, 1, 5), find(&tail, 2, 14), find(&tail, 1, 16)), (None, None, Some(1)));
        (0..3).for_each(|_| assert!(tail.pop_front().is_some()));
        assert_eq!((tail.late_count, find(&tail, 1, 4), find(&tail, 2, 21)), (0, Some(0), Some(1)));
        assert_eq!((find(&tail, 1, 1), find(&tail, 2, 5), find(&tail, 2, 23)), (None, None, None));
    }
}
