//! Whose batches are believed: the certificate of a peer of the cluster, and signatures of that peer.
//!
//! A trait, so that the engine tier of the simulator can put a registry of cheap keys in the place of certificates.
use crate::base::{ClusterId, PeerId, PeerName, Signature};
use crate::identity::certificate::{Authority, Certificate, CertificateError};
use crate::identity::role::Role;
use crate::identity::sign::{self, Verifier};

/// Whoever can say which peer a certificate names, and check what that peer signed.
pub trait Trust: Verifier {
    /// The peer that `certificate` names, when it belongs to the cluster. Its end bounds connecting, never the taking over
    /// of what was signed before.
    fn peer_of(&self, certificate: &[u8]) -> Result<(PeerId, PeerName), CertificateError>;
}

/// Certificates of one cluster, and Ed25519.
#[derive(Debug, Clone)]
pub struct ClusterTrust {
    cluster: ClusterId,
    authority: Option<Authority>,
}

impl ClusterTrust {
    /// Certificates that `authority` stands behind.
    pub fn new(authority: Authority) -> Self {
        Self { cluster: authority.cluster(), authority: Some(authority) }
    }

    /// Certificates of `cluster`, whoever stands behind them: for tests that sign none.
    pub fn without_authority(cluster: ClusterId) -> Self {
        Self { cluster, authority: None }
    }
}

impl Verifier for ClusterTrust {
    fn verify(&self, peer: PeerId, message: &[u8], signature: &Signature) -> bool {
        sign::verify(peer, message, signature)
    }
}

impl Trust for ClusterTrust {
    fn peer_of(&self, certificate: &[u8]) -> Result<(PeerId, PeerName), CertificateError> {
        let certificate = match &self.authority {
            Some(authority) => authority.check_ignoring_time(certificate)?,
            None => Certificate::parse(certificate)?,
        };
        let peer = certificate.peer(self.cluster)?;
        match certificate.role {
            Role::Peer { name } => Ok((peer, name)),
            Role::Client(_) => Err(CertificateError::WrongRole),
        }
    }
}
