//! One reading of the topic for a group: what it still waits for, and how far all that it brought is done.
//!
//! ```text
//!   start      chunk 1       chunk 2       chunk 3
//!     |─────────────────|─────────────|─────────────|····> asked for
//!      all done: progress  two not yet   all done
//! ```
//!
//! Each answer of the reader is a chunk with the position behind it. When the oldest chunks are wholly done, their position is
//! how far the group has come. What is not done is kept as ranges: neighbours take no more than one.
use crate::base::{Cursor, PeerId, RunId, Seq};
use crate::group::io;
use crate::group::set::Key;
use crate::topic::catalog::WriteId;
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug)]
struct Chunk {
    left: u64,
    behind: Cursor,
}

/// A reading.
#[derive(Debug)]
pub struct Reading {
    /// What it is called.
    pub name: io::Reading,
    /// The epochs it is for.
    pub epochs: Vec<WriteId>,
    /// Whether an answer is on its way.
    pub is_asked: bool,
    /// Whether nothing more was held when the last came.
    pub is_at_end: bool,
    /// Whether that was so once.
    pub was_at_end: bool,
    chunks: VecDeque<Chunk>,
    /// The number of the first of the chunks.
    first: u64,
    /// What is not done: from (peer, run, number) until a number, and in which chunk.
    open: BTreeMap<Key, (Seq, u64)>,
}

impl Reading {
    /// One that begins.
    pub fn new(name: io::Reading, epochs: Vec<WriteId>) -> Self {
        let (is_asked, is_at_end, was_at_end) = (false, false, false);
        let (chunks, first, open) = Default::default();
        Self { name, epochs, is_asked, is_at_end, was_at_end, chunks, first, open }
    }

    /// An answer came: what of it is not done, and the position behind.
    pub fn came(&mut self, open: impl Iterator<Item = Key>, behind: Cursor) {
        let number = self.first + self.chunks.len() as u64;
        let mut left = 0;
        for (peer, run, seq) in open {
            let before = self.open.range_mut((peer, run, Seq(0))..=(peer, run, seq)).next_back();
            match before {
                Some((_, (until, _))) if seq < *until => continue,
                Some((_, (until, of))) if *until == seq && *of == number => *until = seq.after(1),
                _ => {
                    self.open.insert((peer, run, seq), (seq.after(1), number));
                }
            }
            left += 1;
        }
        self.chunks.push_back(Chunk { left, behind });
    }

    /// These are done.
    pub fn done(&mut self, peer: PeerId, run: RunId, from: Seq, until: Seq) {
        if from >= until {
            return;
        }
        while let Some((at, (end, chunk))) =
            self.open.range((peer, run, Seq(0))..(peer, run, until)).next_back()
        {
            let (at, end, chunk) = (*at, *end, *chunk);
            if end <= from {
                break;
            }
            self.open.remove(&at);
            if until < end {
                self.open.insert((peer, run, until), (end, chunk));
            }
            if at.2 < from {
                self.open.insert(at, (from, chunk));
            }
            let gone = end.min(until).since(at.2.max(from));
            if let Some(chunk) = chunk.checked_sub(self.first).and_then(|at| self.chunks.get_mut(at as usize))
            {
                chunk.left -= gone;
            }
        }
    }

    /// How far all is done now, where that is further than before.
    pub fn advance(&mut self) -> Option<Cursor> {
        let mut behind = None;
        while self.chunks.front().is_some_and(|chunk| chunk.left == 0) {
            behind = self.chunks.pop_front().map(|chunk| chunk.behind);
            self.first += 1;
        }
        behind
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ClusterId, Position, TopicId};

    const LOG: (PeerId, RunId) = (PeerId([1; 32]), RunId(1));

    fn behind(next: u64) -> Cursor {
        let mut cursor = Cursor::start(ClusterId([1; 16]), TopicId([2; 16]));
        cursor.positions = vec![Position { peer: LOG.0, run: LOG.1, next: Seq(next) }];
        cursor
    }

    fn keys(range: std::ops::Range<u64>) -> impl Iterator<Item = Key> {
        range.map(|seq| (LOG.0, LOG.1, Seq(seq)))
    }

    #[test]
    fn it_has_come_as_far_as_the_oldest_chunks_are_done() {
        let mut reading = Reading::new(io::Reading(1), vec![]);
        reading.came(keys(1..11), behind(11));
        reading.came(keys(11..21), behind(21));
        reading.came(keys(21..21), behind(25));
        assert_eq!(reading.open.len(), 2, "neighbours are one range");
        reading.done(LOG.0, LOG.1, Seq(5), Seq(21));
        assert_eq!(reading.advance(), None);
        reading.done(LOG.0, LOG.1, Seq(5), Seq(8));
        reading.done(LOG.0, LOG.1, Seq(1), Seq(4));
        assert_eq!(reading.advance(), None);
        reading.done(LOG.0, LOG.1, Seq(4), Seq(5));
        assert_eq!(reading.advance(), Some(behind(25)));
        assert_eq!((reading.advance(), reading.open.len()), (None, 0));
    }

    #[test]
    fn what_is_read_twice_is_waited_for_once() {
        let mut reading = Reading::new(io::Reading(1), vec![]);
        reading.came(keys(1..5), behind(5));
        reading.came(keys(3..7), behind(7));
        reading.done(LOG.0, LOG.1, Seq(1), Seq(7));
        assert_eq!(reading.advance(), Some(behind(7)));
    }
}
