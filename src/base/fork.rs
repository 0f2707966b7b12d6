//! Forks: one run that its peer signed in two ways, which happens when a machine is resumed from a snapshot in the middle of
//! it, or when a peer cheats.
//!
//! ```text
//! run r   1..10 │ 10..12 │ 12..14          the two that differ first go on from the same batch: one proves the other wrong
//!               └ 10..15 │ 15..16
//! ```
//!
//! A batch names the one before it by digest, so two batches of one run that name the same one agree in everything before,
//! and differ from there on. From there on each side is a *branch*, a run of its own in all books, named by the first 8 bytes
//! of the [`link`] of its first batch.
use crate::base::bytes_io::Reader;
use crate::base::ids::{Digest, LogId, RunId, Seq};
use crate::base::statement::{
    SIGNATURE_BYTES, STATEMENT_BYTES, Signature, Statement, StatementError, branch_of, link,
};

/// Two batches that their peer signed, of one run, which go on from the same batch and differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fork {
    /// The run in the books that ends where it forks: the run that was signed, or a branch of it.
    pub run: RunId,
    sides: [Side; 2],
}

/// A batch's statement and signature.
pub type Side = (Statement, Signature);

/// Bytes of a fork: its run, then twice a statement and its signature.
pub const FORK_BYTES: usize = 8 + 2 * SIDE_BYTES;
const SIDE_BYTES: usize = STATEMENT_BYTES + SIGNATURE_BYTES;

fn link_of(side: &Side) -> Digest {
    link(&side.0.encode(), &side.1)
}

impl Fork {
    /// The fork that two batches prove, which stand in `run`; none where they prove none. The signatures are not checked here.
    pub fn of(run: RunId, one: &Side, other: &Side) -> Option<Self> {
        let mut sides = [(one.0.as_signed(), one.1), (other.0.as_signed(), other.1)];
        sides.sort_by_key(link_of);
        let fork = Self { run, sides };
        let [(a, _), (b, _)] = &fork.sides;
        let goes_on_alike = (a.log, a.run, a.parent, a.first_seq, a.previous, a.opens_run)
            == (b.log, b.run, b.parent, b.first_seq, b.previous, b.opens_run);
        let [first, second] = fork.branches();
        let names = [first, second, run, a.run, RunId::NONE];
        // One that forked with its first batch is no branch: that goes on from another.
        let is_of = !a.opens_run || run == a.run;
        let is_named =
            is_of && run.is_some() && first != second && names[2..].iter().all(|n| !names[..2].contains(n));
        (goes_on_alike && is_named).then_some(fork)
    }

    /// The log.
    pub fn log(&self) -> LogId {
        self.sides[0].0.log
    }

    /// The same, where the run in the books that forked is another.
    pub fn in_run(&self, run: RunId) -> Self {
        Self { run, ..*self }
    }

    /// The run that both were signed with.
    pub fn signed_run(&self) -> RunId {
        self.sides[0].0.run
    }

    /// The first number that is in both.
    pub fn from(&self) -> Seq {
        self.sides[0].0.first_seq
    }

    /// The [`link`] of the batch that both go on from.
    pub fn previous(&self) -> Digest {
        self.sides[0].0.previous
    }

    /// The first batches.
    pub fn sides(&self) -> &[Side; 2] {
        &self.sides
    }

    /// The names of both branches.
    pub fn branches(&self) -> [RunId; 2] {
        self.sides.map(|side| branch_of(&link_of(&side)))
    }

    /// The names of both branches, and where their first batches end: the next number, and the [`link`].
    pub fn ends(&self) -> [(RunId, Seq, Digest); 2] {
        self.sides.map(|side| {
            let link = link_of(&side);
            (branch_of(&link), side.0.until(), link)
        })
    }

    /// The bytes.
    pub fn encode(&self) -> [u8; FORK_BYTES] {
        let mut out = [0; FORK_BYTES];
        out[..8].copy_from_slice(&self.run.0.to_le_bytes());
        for (part, (statement, signature)) in out[8..].chunks_exact_mut(SIDE_BYTES).zip(&self.sides) {
            part[..STATEMENT_BYTES].copy_from_slice(&statement.encode());
            part[STATEMENT_BYTES..].copy_from_slice(&signature.0);
        }
        out
    }

    /// Reads the bytes and checks what can be checked without a key.
    pub fn decode(bytes: &[u8; FORK_BYTES]) -> Result<Self, StatementError> {
        let cut = |_| StatementError::Magic;
        let mut r = Reader::new(bytes);
        let run = RunId(r.u64().map_err(cut)?);
        let mut side = || {
            let statement = Statement::decode(&r.array().map_err(cut)?)?;
            Ok((statement, Signature(r.array().map_err(cut)?)))
        };
        let (one, other) = (side()?, side()?);
        Self::of(run, &one, &other).ok_or(StatementError::Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{PeerId, TopicId};
    use crate::base::time::Timestamp;

    fn side(first_seq: u64, previous: u8, root: u8) -> Side {
        let statement = Statement {
            log: LogId { topic: TopicId([1; 16]), peer: PeerId([2; 32]) },
            run: RunId(3),
            parent: RunId(2),
            opens_run: false,
            first_seq: Seq(first_seq),
            first_time: Timestamp::from_ms(7),
            entry_count: 2,
            raw_bytes: 20,
            previous: Digest([previous; 32]),
            root: Digest([root; 32]),
            signed: None,
        };
        (statement, Signature([9; 64]))
    }

    #[test]
    fn two_batches_that_go_on_alike_and_differ_are_a_fork_in_whatever_order() {
        let fork = Fork::of(RunId(3), &side(5, 1, 1), &side(5, 1, 2)).expect("a fork");
        assert_eq!(Fork::of(RunId(3), &side(5, 1, 2), &side(5, 1, 1)), Some(fork));
        assert_eq!(Fork::decode(&fork.encode()), Ok(fork));
        assert_eq!((fork.from(), fork.previous()), (Seq(5), Digest([1; 32])));
        let [one, other] = fork.branches();
        assert_ne!(one, other);
    }

    #[test]
    fn batches_that_agree_or_go_on_from_others_are_none() {
        assert_eq!(Fork::of(RunId(3), &side(5, 1, 1), &side(5, 1, 1)), None);
        assert_eq!(Fork::of(RunId(3), &side(5, 1, 1), &side(6, 1, 2)), None);
        assert_eq!(Fork::of(RunId(3), &side(5, 1, 1), &side(5, 2, 2)), None);
        assert_eq!(Fork::of(RunId::NONE, &side(5, 1, 1), &side(5, 1, 2)), None);
    }
}
