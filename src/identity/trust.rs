//! Whose batches are believed: the certificate of a peer of the cluster, and signatures of that peer.
//!
//! A trait, so that the engine tier of the simulator can put a registry of cheap keys in the place of certificates.
use crate::base::{ClusterId, PeerId, PeerName, Signature, SignedRemoval};
use crate::identity::certificate::{Authority, Certificate, CertificateError, Usage};
use crate::identity::role::Role;
use crate::identity::sign::{self, Verifier};

/// Whoever can say which peer a certificate names, and check what that peer signed.
pub trait Trust: Verifier {
    /// The peer that `certificate` names, when it belongs to the cluster. Its end bounds connecting, never the taking over
    /// of what was signed before.
    fn peer_of(&self, certificate: &[u8]) -> Result<(PeerId, PeerName), CertificateError>;

    /// The key that `certificate` names, when it is of a client that may administer the peers of the cluster.
    fn admin_of(&self, certificate: &[u8]) -> Result<PeerId, CertificateError>;
}

/// Whether an administrator of `cluster` signed that a peer is removed.
pub fn is_signed_removal(trust: &dyn Trust, cluster: ClusterId, signed: &SignedRemoval) -> bool {
    let SignedRemoval { removal, signature, certificate } = signed;
    removal.cluster == cluster
        && trust.admin_of(certificate).is_ok_and(|key| key == removal.signer)
        && sign::verify_with(trust, removal, signature)
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

impl ClusterTrust {
    fn check(&self, certificate: &[u8], usage: Usage) -> Result<Certificate, CertificateError> {
        match &self.authority {
            Some(authority) => authority.check_ignoring_time(certificate, usage),
            None => Certificate::parse(certificate),
        }
    }
}

impl Trust for ClusterTrust {
    fn peer_of(&self, certificate: &[u8]) -> Result<(PeerId, PeerName), CertificateError> {
        let certificate = self.check(certificate, Usage::Serve)?;
        let peer = certificate.peer(self.cluster)?;
        match certificate.role {
            Role::Peer { name } => Ok((peer, name)),
            Role::Client(_) => Err(CertificateError::WrongRole),
        }
    }

    fn admin_of(&self, certificate: &[u8]) -> Result<PeerId, CertificateError> {
        let certificate = self.check(certificate, Usage::Connect)?;
        match &certificate.role {
            Role::Client(rights) if rights.allows_peer_admin() => {
                certificate.in_cluster(self.cluster).map(|()| certificate.key)
            }
            _ => Err(CertificateError::WrongRole),
        }
    }
}
