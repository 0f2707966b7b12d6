//! Whether batches are what peers of the cluster signed: certificates, signatures, chains and digests.
//!
//! A batch names the one before it by digest, so one signature stands for all that lies contiguous before it. Batches
//! are therefore checked in bursts, the last first; a signature is checked only where no later batch of the burst
//! vouches, and one that several readers of a client meet is checked once.
use crate::base::statement::Statement;
use crate::base::{Batch, BatchError, Digest, LogId, PeerId, PeerName, RunId, Seq};
use crate::identity::certificate::{Authority, CertificateError, Usage};
use crate::identity::role::Role;
use crate::identity::sign;
use crate::wire::contents::Contents;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Signatures that are remembered as good.
const REMEMBERED_COUNT_MAX: usize = 4096;

/// Why a batch is not believed. Nothing of it was delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// Its certificate is refused.
    #[error("the certificate of a log's peer is refused: {0}")]
    Certificate(#[from] CertificateError),
    /// It came before the certificate of its peer.
    #[error("a batch of peer {} came without its certificate", peer.short())]
    NoCertificate {
        /// The peer.
        peer: PeerId,
    },
    /// Its signature is not that of the peer it names.
    #[error("the signature over entries from {first_seq} of run {} does not hold", run.short())]
    Signature {
        /// The run.
        run: RunId,
        /// The batch's first entry.
        first_seq: Seq,
    },
    /// Its bytes are not those that were signed.
    #[error("entries from {first_seq} of run {} are not those that were signed: {error}", run.short())]
    Entries {
        /// The run.
        run: RunId,
        /// The batch's first entry.
        first_seq: Seq,
        /// What is wrong with them.
        error: BatchError,
    },
}

/// Links of batches whose signature held, shared by all readers of a client.
#[derive(Debug, Clone, Default)]
pub struct Remembered(Arc<Mutex<(BTreeSet<Digest>, VecDeque<Digest>)>>);

impl Remembered {
    fn contains(&self, link: &Digest) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.contains(link)
    }

    fn insert(&self, link: Digest) {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (set, order) = &mut *guard;
        if !set.insert(link) {
            return;
        }
        order.push_back(link);
        if order.len() > REMEMBERED_COUNT_MAX
            && let Some(oldest) = order.pop_front()
        {
            set.remove(&oldest);
        }
    }
}

/// What batches whose signature holds say of those before them. A peer vouches for the batch before in its own log, and
/// for no other's.
#[derive(Debug, Default)]
pub struct Vouched(BTreeSet<(LogId, Digest, Seq)>);

impl Vouched {
    /// Takes note of a statement whose signature holds.
    pub fn add(&mut self, statement: &Statement) {
        self.0.insert((statement.log, statement.previous, statement.first_seq));
    }

    /// Whether one of them names the batch with this statement and link.
    pub fn holds(&self, statement: &Statement, link: Digest) -> bool {
        self.0.contains(&(statement.log, link, statement.until()))
    }
}

/// Checks the batches of one reader.
#[derive(Debug)]
pub struct Authenticator {
    authority: Authority,
    remembered: Remembered,
    peers: BTreeMap<PeerId, PeerName>,
}

impl Authenticator {
    /// Checks against `authority`, sharing what is known good through `remembered`.
    pub fn new(authority: Authority, remembered: Remembered) -> Self {
        Self { authority, remembered, peers: BTreeMap::new() }
    }

    /// Learns of a peer by its certificate, which may have expired since: it held when the batches were signed.
    pub fn learn(&mut self, certificate_der: &[u8]) -> Result<(PeerId, PeerName), Unverified> {
        let certificate = self.authority.check_ignoring_time(certificate_der, Usage::Serve)?;
        let Role::Peer { name } = certificate.role else {
            return Err(CertificateError::WrongRole.into());
        };
        self.peers.insert(certificate.key, name.clone());
        Ok((certificate.key, name))
    }

    /// Checks a burst of batches, in the order they came, and takes them apart.
    pub fn check(&self, burst: &[Batch]) -> Result<Vec<Contents>, Unverified> {
        let mut vouched = Vouched::default();
        for batch in burst.iter().rev() {
            let statement = batch.statement();
            let peer = statement.log.peer;
            if !self.peers.contains_key(&peer) {
                return Err(Unverified::NoCertificate { peer });
            }
            let link = batch.link();
            if !vouched.holds(statement, link) && !self.remembered.contains(&link) {
                self.check_signature(statement, batch)?;
                self.remembered.insert(link);
            }
            vouched.add(statement);
        }
        burst.iter().map(check_entries).collect()
    }

    fn check_signature(&self, statement: &Statement, batch: &Batch) -> Result<(), Unverified> {
        if sign::verify_signed(statement, batch.signature()) {
            Ok(())
        } else {
            Err(Unverified::Signature { run: statement.run, first_seq: statement.first_seq })
        }
    }
}

fn check_entries(batch: &Batch) -> Result<Contents, Unverified> {
    let Statement { run, first_seq, .. } = *batch.statement();
    Contents::check(batch).map_err(|error| Unverified::Entries { run, first_seq, error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Signed;
    use crate::base::batch::state;
    use crate::base::{Chunk, ChunkBuilder, ClusterId, Codec, Entry, Signature, Timestamp, TopicId};
    use crate::identity::sign::{Ed25519Signer, Signer};

    fn authenticator() -> Authenticator {
        // An authority is needed only to learn certificates, which tests/rpc does with real ones.
        let signer = signer();
        let mut known = Authenticator {
            authority: Authority::nobody(ClusterId([1; 16])),
            remembered: Remembered::default(),
            peers: BTreeMap::new(),
        };
        known.peers.insert(signer.peer(), PeerName::nearest("alpha"));
        known
    }

    fn signer() -> Ed25519Signer {
        Ed25519Signer::from_seed(&[7; 32])
    }

    /// Three batches of one run, each naming the one before.
    fn chain() -> Vec<Batch> {
        let (signer, mut previous, mut batches) = (signer(), Digest::ZERO, Vec::new());
        for number in 0..3u64 {
            let batch = batch(&signer, signer.peer(), number, previous);
            previous = batch.link();
            batches.push(batch);
        }
        batches
    }

    /// A batch of one entry in the log of `peer`, whoever signs it.
    fn batch(signer: &Ed25519Signer, peer: PeerId, number: u64, previous: Digest) -> Batch {
        let mut builder = ChunkBuilder::new();
        builder.push(&Entry::from(format!("entry {number}"))).unwrap();
        let chunks = [Chunk::parse(builder.finish(Codec::None)).unwrap()];
        let blank = Statement {
            log: LogId { topic: TopicId([1; 16]), peer },
            run: RunId(1),
            parent: RunId::NONE,
            opens_run: number == 0,
            first_seq: Seq(number + 1),
            first_time: Timestamp(number),
            entry_count: 0,
            raw_bytes: 0,
            previous,
            root: Digest::ZERO,
            signed: None,
        };
        let statement = state(&blank, &chunks);
        Batch::assemble(statement, signer.sign(&statement.message()), &chunks)
    }

    fn unsigned(batch: &Batch) -> Batch {
        let mut bytes = batch.bytes().to_vec();
        bytes[160..224].copy_from_slice(&Signature([0; 64]).0);
        let crc = crc32c::crc32c(&bytes[..252]);
        bytes[252..256].copy_from_slice(&crc.to_le_bytes());
        Batch::parse(bytes.into()).unwrap()
    }

    #[test]
    fn one_signature_stands_for_all_that_lies_contiguous_before_it() {
        let (known, batches) = (authenticator(), chain());
        assert_eq!(known.check(&batches).unwrap().len(), 3);
        let signatures_checked = known.remembered.0.lock().unwrap().1.len();
        assert_eq!(signatures_checked, 1);
    }

    #[test]
    fn a_batch_without_a_good_signature_is_refused_wherever_it_stands() {
        let batches = chain();
        for at in 0..3 {
            let mut bad = batches.clone();
            bad[at] = unsigned(&bad[at]);
            let refused = authenticator().check(&bad).unwrap_err();
            let expected = Unverified::Signature { run: RunId(1), first_seq: Seq(at as u64 + 1) };
            assert_eq!(refused, expected, "a signature is part of what the next batch names");
        }
    }

    #[test]
    fn a_flipped_bit_in_an_entry_is_found_under_a_good_signature() {
        let mut bytes = chain()[0].bytes().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        let bad = Batch::parse(bytes.into()).unwrap();
        let refused = authenticator().check(&[bad]).unwrap_err();
        assert!(matches!(refused, Unverified::Entries { error: BatchError::Root, .. }), "{refused:?}");
    }

    #[test]
    fn a_batch_of_a_peer_whose_certificate_did_not_come_is_refused() {
        let mut known = authenticator();
        known.peers.clear();
        let peer = signer().peer();
        assert_eq!(known.check(&chain()).unwrap_err(), Unverified::NoCertificate { peer });
    }

    #[test]
    fn a_peer_vouches_for_its_own_log_alone() {
        let (mine, mut known) = (signer(), authenticator());
        let other = Ed25519Signer::from_seed(&[8; 32]);
        known.peers.insert(other.peer(), PeerName::nearest("beta"));
        let refused = Err(Unverified::Signature { run: RunId(1), first_seq: Seq(1) });
        let told = |burst: &[Batch]| known.check(burst).map(drop);
        // Signed by one and presented as the other's, by itself and named by good batches of either.
        let forged = batch(&mine, other.peer(), 0, Digest::ZERO);
        assert_eq!(told(std::slice::from_ref(&forged)), refused);
        let next_of_mine = batch(&mine, mine.peer(), 1, forged.link());
        assert_eq!(told(&[forged.clone(), next_of_mine]), refused, "another log's batch names it");
        let next_of_other = batch(&other, other.peer(), 1, forged.link());
        assert_eq!(told(&[forged, next_of_other]), Ok(()), "its own log's does: the peer stands for it");
    }

    #[test]
    fn a_link_that_is_wrong_or_out_of_place_vouches_for_nothing() {
        let (signer, chain) = (signer(), chain());
        let first = unsigned(&chain[0]);
        let elsewhere = batch(&signer, signer.peer(), 1, Digest([9; 32]));
        let too_far = batch(&signer, signer.peer(), 2, first.link());
        for next in [elsewhere, too_far] {
            let refused = authenticator().check(&[first.clone(), next]).unwrap_err();
            assert_eq!(refused, Unverified::Signature { run: RunId(1), first_seq: Seq(1) });
        }
    }

    #[test]
    fn each_log_of_a_burst_needs_the_certificate_of_its_own_peer() {
        let other = Ed25519Signer::from_seed(&[8; 32]);
        let mut burst = chain();
        burst.insert(1, batch(&other, other.peer(), 0, Digest::ZERO));
        let mut known = authenticator();
        assert_eq!(known.check(&burst).unwrap_err(), Unverified::NoCertificate { peer: other.peer() });
        known.peers.insert(other.peer(), PeerName::nearest("beta"));
        assert_eq!(known.check(&burst).unwrap().len(), 4);
    }
}
