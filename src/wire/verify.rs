//! Whether batches are what peers of the cluster signed: certificates, signatures, chains and digests.
//!
//! A batch names the one before it by digest, so one signature stands for all that lies contiguous before it. Batches
//! are therefore checked in bursts, the last first; a signature is checked only where no later batch of the burst
//! vouches, and one that several readers of a client meet is checked once.
use crate::base::statement::Statement;
use crate::base::{Batch, BatchError, Digest, PeerId, PeerName, RunId, Seq};
use crate::identity::certificate::{Authority, CertificateError};
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
        let certificate = self.authority.check_ignoring_time(certificate_der)?;
        let Role::Peer { name } = certificate.role else {
            return Err(CertificateError::WrongRole.into());
        };
        self.peers.insert(certificate.key, name.clone());
        Ok((certificate.key, name))
    }

    /// Checks a burst of batches, in the order they came, and takes them apart.
    pub fn check(&self, burst: &[Batch]) -> Result<Vec<Contents>, Unverified> {
        let mut vouched = BTreeSet::new();
        for batch in burst.iter().rev() {
            let statement = batch.statement();
            let link = batch.link();
            if !vouched.contains(&link) && !self.remembered.contains(&link) {
                self.check_signature(statement, batch)?;
                self.remembered.insert(link);
            }
            vouched.insert(statement.previous);
        }
        burst.iter().map(check_entries).collect()
    }

    fn check_signature(&self, statement: &Statement, batch: &Batch) -> Result<(), Unverified> {
        let peer = statement.log.peer;
        if !self.peers.contains_key(&peer) {
            return Err(Unverified::NoCertificate { peer });
        }
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
