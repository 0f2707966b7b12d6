//! The removal of a peer for good: what an administrator signs, and what it leaves of the peer's logs.
//!
//! ```text
//! ends      run r1 of jobs: until 97                 what the holders that were asked have of each run, together
//! held      r1 [1..97), and at one holder [97..103)  the rest is set aside: kept, and neither read nor passed on
//! ```
//!
//! It names no order of events: whoever hears of it later, or of two of them, ends with the same. What several removals of
//! one peer leave is what any of them does.
use crate::base::bytes_io::{Reader, Truncated};
use crate::base::fork::Fork;
use crate::base::ids::{ClusterId, LogId, PeerId, RunId, Seq, TopicId};
use crate::base::statement::{SIGNATURE_BYTES, Signature, Signed, StatementError};
use crate::base::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// For the runs of one peer, in all topics, the number behind the last entry that any holder had who was asked.
pub type RunEnds = BTreeMap<(TopicId, RunId), Seq>;

/// That a peer is removed for good: what it signed beyond these ends counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The cluster.
    pub cluster: ClusterId,
    /// Who is removed.
    pub peer: PeerId,
    /// Who may trim its logs, and declare lost what is lost of them, from now on.
    pub successor: Option<PeerId>,
    /// When that was signed.
    pub time: Timestamp,
    /// The administrator's key.
    pub signer: PeerId,
    /// What is left of its logs.
    pub ends: RunEnds,
}

const MAGIC: [u8; 4] = *b"CVYR";
const VERSION: u16 = 1;
/// Bytes before the ends.
pub const REMOVAL_HEADER_BYTES: usize = 4 + 2 + 2 + 16 + 32 + 32 + 8 + 32 + 4;
/// Bytes of each end.
pub const RUN_END_BYTES: usize = 16 + 8 + 8;
/// Runs that one removal can name, so that it fits into an entry of 16 MiB with its certificate.
pub const RUN_ENDS_MAX: usize = 500_000;

impl Removal {
    /// What decides which of two removals of a peer is the newest: when it was said, by whom, and, of what one said at one time,
    /// what.
    pub fn said(&self) -> (Timestamp, Option<PeerId>, Option<PeerId>) {
        (self.time, Some(self.signer), self.successor)
    }

    /// Its bytes: 132, and 32 for each run, in order of topic and run.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(REMOVAL_HEADER_BYTES + self.ends.len() * RUN_END_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&u16::from(self.successor.is_some()).to_le_bytes());
        out.extend_from_slice(&self.cluster.0);
        out.extend_from_slice(&self.peer.0);
        out.extend_from_slice(&self.successor.map_or([0; 32], |successor| successor.0));
        out.extend_from_slice(&self.time.0.to_le_bytes());
        out.extend_from_slice(&self.signer.0);
        out.extend_from_slice(&(self.ends.len() as u32).to_le_bytes());
        for ((topic, run), end) in &self.ends {
            out.extend_from_slice(&topic.0);
            out.extend_from_slice(&run.0.to_le_bytes());
            out.extend_from_slice(&end.0.to_le_bytes());
        }
        out
    }

    fn read(r: &mut Reader<'_>) -> Result<Option<Self>, Truncated> {
        if r.array::<4>()? != MAGIC || r.u16()? != VERSION {
            return Ok(None);
        }
        let flags = r.u16()?;
        let (cluster, peer, successor) = (ClusterId(r.array()?), PeerId(r.array()?), PeerId(r.array()?));
        let (time, signer, count) = (Timestamp(r.u64()?), PeerId(r.array()?), r.u32()?);
        let has_successor = flags == 1;
        let is_named = successor != PeerId([0; 32]);
        if flags > 1 || is_named != has_successor || successor == peer || signer == peer {
            return Ok(None);
        }
        let (mut ends, mut last) = (RunEnds::new(), None);
        for _ in 0..count {
            let at = (TopicId(r.array()?), RunId(r.u64()?));
            let end = Seq(r.u64()?);
            if last >= Some(at) || !at.1.is_some() || end < Seq::FIRST {
                return Ok(None);
            }
            last = Some(at);
            ends.insert(at, end);
        }
        let successor = Some(successor).filter(|_| has_successor);
        Ok(Some(Self { cluster, peer, successor, time, signer, ends }))
    }
}

impl Signed for Removal {
    const KIND: &'static [u8; 8] = b"CV-remov";

    fn statement_bytes(&self) -> Vec<u8> {
        self.encode()
    }

    fn signer(&self) -> PeerId {
        self.signer
    }
}

/// A removal as it is passed on: an entry of `$catalog`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRemoval {
    /// What is signed.
    pub removal: Removal,
    /// By the administrator.
    pub signature: Signature,
    /// The administrator's certificate, DER.
    pub certificate: Arc<[u8]>,
}

impl SignedRemoval {
    /// The payload of its entry: the removal, the signature, and the rest is the certificate.
    pub fn encode(&self) -> Vec<u8> {
        [self.removal.encode().as_slice(), &self.signature.0, &self.certificate].concat()
    }

    /// Reads a payload. Whether the signature is right is for others to say.
    pub fn decode(payload: &[u8]) -> Result<Self, StatementError> {
        let mut r = Reader::new(payload);
        let removal = Removal::read(&mut r).ok().flatten().ok_or(StatementError::Fields)?;
        let signature = r.array::<SIGNATURE_BYTES>().map_err(|_| StatementError::Fields)?;
        Ok(Self { removal, signature: Signature(signature), certificate: r.rest().into() })
    }
}

impl Remains {
    /// The number behind the last entry of a run that counts; 1 where none does. Of a branch that counts which its removal
    /// names, and what it names of the run that forked: who was asked may not have known of the fork.
    pub fn end_of(&self, topic: TopicId, run: RunId, forks: &[Fork]) -> Seq {
        let named = |run: RunId| self.ends.get(&(topic, run)).copied().unwrap_or(Seq::FIRST);
        let forked = |branch: &RunId| Some(forks.iter().find(|fork| fork.branches().contains(branch))?.run);
        let back = std::iter::successors(Some(run), forked);
        back.take(1 + forks.len()).map(named).max().unwrap_or(Seq::FIRST)
    }
}

/// What is known of peers that were removed.
#[derive(Debug, Clone, Default)]
pub struct Removed(BTreeMap<PeerId, Arc<Remains>>);

/// What is left of one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remains {
    /// Who may trim its logs, as the newest removal says.
    pub successor: Option<PeerId>,
    /// What the newest [says](Removal::said).
    said: (Timestamp, Option<PeerId>, Option<PeerId>),
    /// All who were ever named to succeed it: what they sign of its logs counts wherever it is heard, in any order.
    pub successors: BTreeSet<PeerId>,
    /// What is left of its logs.
    pub ends: RunEnds,
}

impl Removed {
    /// Takes note of a removal, whose signature was checked. Answers whether it says anything new.
    pub fn add(&mut self, removal: &Removal) -> bool {
        let known = self.0.get(&removal.peer).map(|remains| (**remains).clone());
        let mut remains = known.clone().unwrap_or_default();
        let said = removal.said();
        remains.successors.extend(removal.successor);
        if remains.said < said {
            (remains.said, remains.successor) = (said, removal.successor);
        }
        for (at, end) in &removal.ends {
            let known = remains.ends.entry(*at).or_insert(*end);
            *known = (*known).max(*end);
        }
        let is_news = known.as_ref() != Some(&remains);
        self.0.insert(removal.peer, Arc::new(remains));
        is_news
    }

    /// What is left of a peer; `None` while it belongs to the cluster.
    pub fn get(&self, peer: &PeerId) -> Option<&Arc<Remains>> {
        self.0.get(peer)
    }

    /// Whether nobody was removed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The peers, and what is left of them.
    pub fn iter(&self) -> impl Iterator<Item = (&PeerId, &Arc<Remains>)> {
        self.0.iter()
    }

    /// The number behind the last entry of a run that counts, given the forks of its log: none where its peer belongs to
    /// the cluster.
    pub fn end_of(&self, log: &LogId, run: RunId, forks: &[Fork]) -> Option<Seq> {
        let remains = self.0.get(&log.peer)?;
        Some(remains.end_of(log.topic, run, forks))
    }

    /// Whose statements on the logs of `peer` count, beside its own: all who were named to succeed it. Only the newest of
    /// them [makes](Self::may_trim) any.
    pub fn successors_of(&self, peer: &PeerId) -> impl Iterator<Item = PeerId> {
        self.0.get(peer).into_iter().flat_map(|remains| remains.successors.iter().copied())
    }

    /// Whether `peer` may trim the logs of `of`: its own, or those of a removed peer that it succeeds.
    pub fn may_trim(&self, peer: PeerId, of: PeerId) -> bool {
        match self.0.get(&of) {
            Some(remains) => remains.successor == Some(peer),
            None => peer == of,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Digest;
    use crate::base::statement::Statement;

    fn removal(peer: u8, time: u64, ends: &[(u64, u64)]) -> Removal {
        let end = |&(run, until): &(u64, u64)| ((TopicId([1; 16]), RunId(run)), Seq(until));
        Removal {
            cluster: ClusterId([9; 16]),
            peer: PeerId([peer; 32]),
            successor: Some(PeerId([7; 32])),
            time: Timestamp(time),
            signer: PeerId([8; 32]),
            ends: ends.iter().map(end).collect(),
        }
    }

    fn signed(removal: Removal) -> SignedRemoval {
        SignedRemoval { removal, signature: Signature([3; 64]), certificate: vec![1, 2, 3].into() }
    }

    #[test]
    fn a_removal_reads_back_as_it_was_written() {
        for successor in [None, Some(PeerId([7; 32]))] {
            let signed = signed(Removal { successor, ..removal(1, 5, &[(1, 9), (2, 20)]) });
            let bytes = signed.encode();
            assert_eq!(signed.removal.encode().len(), REMOVAL_HEADER_BYTES + 2 * RUN_END_BYTES);
            assert_eq!(SignedRemoval::decode(&bytes), Ok(signed));
        }
    }

    #[test]
    fn bytes_that_are_no_removal_are_refused() {
        let good = signed(removal(1, 5, &[(1, 9), (2, 20)])).encode();
        for length in 0..good.len() - 3 {
            assert!(SignedRemoval::decode(&good[..length]).is_err(), "{length} bytes");
        }
        let mut swapped = good.clone();
        let (first, second) = (REMOVAL_HEADER_BYTES, REMOVAL_HEADER_BYTES + RUN_END_BYTES);
        swapped[first..].rotate_left(RUN_END_BYTES);
        swapped[second..].copy_from_slice(&good[second..]);
        assert!(SignedRemoval::decode(&swapped).is_err(), "one run twice");
        assert!(SignedRemoval::decode(&signed(removal(8, 5, &[])).encode()).is_err(), "one removes oneself");
        assert!(SignedRemoval::decode(&signed(removal(7, 5, &[])).encode()).is_err(), "one succeeds oneself");
        assert!(SignedRemoval::decode(&signed(removal(1, 5, &[(1, 0)])).encode()).is_err());
    }

    #[test]
    fn a_branch_that_a_removal_does_not_name_ends_where_its_run_was_to() {
        let side = |root: u8| {
            let statement = Statement {
                log: LogId { topic: TopicId([1; 16]), peer: PeerId([1; 32]) },
                run: RunId(1),
                parent: RunId::NONE,
                opens_run: false,
                first_seq: Seq(5),
                first_time: Timestamp(7),
                entry_count: 2,
                raw_bytes: 20,
                previous: Digest([1; 32]),
                root: Digest([root; 32]),
                signed: None,
            };
            (statement, Signature([9; 64]))
        };
        let fork = Fork::of(RunId(1), &side(1), &side(2)).unwrap();
        let [one, other] = fork.branches();
        let log = fork.log();
        let mut removed = Removed::default();
        removed.add(&removal(1, 5, &[(1, 9), (2, 20)]));
        let end = |removed: &Removed, run| removed.end_of(&log, run, &[fork]);
        assert_eq!((end(&removed, one), end(&removed, other)), (Some(Seq(9)), Some(Seq(9))));
        assert_eq!(end(&removed, RunId(3)), Some(Seq::FIRST), "no branch, and not named");
        // Another administrator asked who knows of the fork: nothing is taken back by that, and something is given.
        removed.add(&removal(1, 6, &[(1, 5), (one.0, 7), (other.0, 12)]));
        assert_eq!((end(&removed, one), end(&removed, other)), (Some(Seq(9)), Some(Seq(12))));
    }

    #[test]
    fn removals_that_did_not_know_of_each_other_leave_what_either_does() {
        let (first, second) = (removal(1, 5, &[(1, 9)]), removal(1, 4, &[(1, 7), (2, 20)]));
        let second = Removal { successor: Some(PeerId([6; 32])), ..second };
        let (mut one, mut other) = (Removed::default(), Removed::default());
        assert!(one.add(&first) && one.add(&second) && !one.add(&first));
        assert!(other.add(&second) && other.add(&first));
        let peer = PeerId([1; 32]);
        assert_eq!(one.get(&peer), other.get(&peer));
        let log = LogId { topic: TopicId([1; 16]), peer };
        assert_eq!(one.end_of(&log, RunId(1), &[]), Some(Seq(9)));
        assert_eq!(
            one.end_of(&log, RunId(5), &[]),
            Some(Seq::FIRST),
            "of a run that is not named nothing counts"
        );
        assert_eq!(one.end_of(&LogId { peer: PeerId([2; 32]), ..log }, RunId(1), &[]), None);
        assert_eq!(
            one.get(&peer).unwrap().successor,
            Some(PeerId([7; 32])),
            "the newest names the successor"
        );
        let named: Vec<PeerId> = one.successors_of(&peer).collect();
        assert_eq!(named, [PeerId([6; 32]), PeerId([7; 32])], "what either signs counts");
        assert!(one.may_trim(PeerId([7; 32]), peer) && !one.may_trim(peer, peer));
        assert!(one.may_trim(PeerId([2; 32]), PeerId([2; 32])));
    }
}
