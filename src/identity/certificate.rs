//! Reading certificates: the key, the cluster and the role in them, and whether the cluster's CA stands behind them.
//!
//! Names of hosts play no part: a peer is its key, wherever it listens. So the chain is checked with webpki as TLS
//! does it, without a name, and then the role. A certificate's expiry bounds connecting; batches that were signed
//! while it held stay good for ever, which is why [`Authority::check_ignoring_time`] exists.
use crate::base::{ClusterId, PeerId};
use crate::identity::role::{Role, RoleError};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage};

/// Why a certificate is refused. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The bytes are no X.509 certificate.
    #[error("this is no certificate")]
    Malformed,
    /// Its key is not Ed25519, which peers and clients sign with.
    #[error("the certificate's key is not Ed25519")]
    Key,
    /// It says nothing that is known here about who its holder is.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// The cluster's CA does not stand behind it, or not for this use.
    #[error("the cluster's CA does not stand behind the certificate: {reason}")]
    Chain {
        /// What webpki says.
        reason: String,
    },
    /// It is not valid at this time.
    #[error("the certificate is not valid at this time (Unix {now_s} s)")]
    Time {
        /// The time it was checked for, in Unix seconds.
        now_s: u64,
    },
    /// It belongs to another cluster.
    #[error("the certificate belongs to another cluster ({cluster})")]
    Cluster {
        /// The cluster it names.
        cluster: ClusterId,
    },
    /// Its holder is a client where a peer is needed, or a peer where a client is.
    #[error("the certificate is for another role than is needed here")]
    WrongRole,
}

/// What a certificate says, not yet checked against a CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The holder's Ed25519 public key.
    pub key: PeerId,
    /// The cluster.
    pub cluster: ClusterId,
    /// Who the holder is there.
    pub role: Role,
}

/// All that comes before the 32 bytes of an Ed25519 key in its DER form (RFC 8410).
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

impl Certificate {
    /// Reads a certificate in DER.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let der = CertificateDer::from(der);
        let certificate = EndEntityCert::try_from(&der).map_err(|_| CertificateError::Malformed)?;
        let (cluster, role) = Role::among(certificate.valid_uri_names())?;
        let spki = certificate.subject_public_key_info();
        let key = spki.strip_prefix(&ED25519_SPKI[..]).and_then(|key| key.try_into().ok());
        Ok(Self { key: PeerId(key.ok_or(CertificateError::Key)?), cluster, role })
    }

    /// The holder, when it is a peer of `cluster`.
    pub fn peer(&self, cluster: ClusterId) -> Result<PeerId, CertificateError> {
        self.in_cluster(cluster)?;
        match self.role {
            Role::Peer { .. } => Ok(self.key),
            Role::Client(_) => Err(CertificateError::WrongRole),
        }
    }

    /// Whether it belongs to `cluster`.
    pub(super) fn in_cluster(&self, cluster: ClusterId) -> Result<(), CertificateError> {
        if self.cluster == cluster {
            Ok(())
        } else {
            Err(CertificateError::Cluster { cluster: self.cluster })
        }
    }
}

/// A cluster and its CA: what certificates are checked against.
#[derive(Debug, Clone)]
pub struct Authority {
    cluster: ClusterId,
    anchor: TrustAnchor<'static>,
}

/// What the holder of a certificate is about to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Accept connections.
    Serve,
    /// Open connections.
    Connect,
}

impl Authority {
    /// The CA in `ca_der`, for certificates of `cluster`.
    pub fn new(cluster: ClusterId, ca_der: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let anchor = webpki::anchor_from_trusted_cert(ca_der).map_err(|_| CertificateError::Malformed)?;
        Ok(Self { cluster, anchor: anchor.to_owned() })
    }

    /// An authority that stands behind no certificate, for tests that need none.
    #[cfg(test)]
    pub(crate) fn nobody(cluster: ClusterId) -> Self {
        use rustls::pki_types::Der;
        let nothing = || Der::from_slice(&[]);
        let anchor =
            TrustAnchor { subject: nothing(), subject_public_key_info: nothing(), name_constraints: None };
        Self { cluster, anchor }
    }

    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Checks the chain from `der` to the CA, its validity at `now`, and the cluster. The caller looks at the role.
    pub fn check(
        &self,
        der: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: Usage,
    ) -> Result<Certificate, CertificateError> {
        let certificate = Certificate::parse(der)?;
        certificate.in_cluster(self.cluster)?;
        self.check_chain(der, intermediates, now, usage).map_err(|error| chain_error(error, now))?;
        Ok(certificate)
    }

    /// The same for a certificate that came with what its holder signed: it was good at that time, whenever that was.
    pub fn check_ignoring_time(&self, der: &[u8], usage: Usage) -> Result<Certificate, CertificateError> {
        let (parsed, der) = (Certificate::parse(der)?, CertificateDer::from(der));
        parsed.in_cluster(self.cluster)?;
        let mut at = UnixTime::since_unix_epoch(Duration::ZERO);
        // Each refusal names the edge of a validity; certificate and CA have two edges each.
        for _ in 0..4 {
            match self.check_chain(&der, &[], at, usage) {
                Ok(()) => return Ok(parsed),
                Err(webpki::Error::CertNotValidYet { not_before, .. }) => at = not_before,
                Err(webpki::Error::CertExpired { not_after, .. }) => at = not_after,
                Err(error) => return Err(chain_error(error, at)),
            }
        }
        Err(CertificateError::Time { now_s: at.as_secs() })
    }

    fn check_chain(
        &self,
        der: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: Usage,
    ) -> Result<(), webpki::Error> {
        let usage = match usage {
            Usage::Serve => KeyUsage::server_auth(),
            Usage::Connect => KeyUsage::client_auth(),
        };
        EndEntityCert::try_from(der)?
            .verify_for_usage(
                rustls::crypto::ring::default_provider().signature_verification_algorithms.all,
                std::slice::from_ref(&self.anchor),
                intermediates,
                now,
                usage,
                None,
                None,
            )
            .map(|_| ())
    }
}

fn chain_error(error: webpki::Error, now: UnixTime) -> CertificateError {
    match error {
        webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => {
            CertificateError::Time { now_s: now.as_secs() }
        }
        other => CertificateError::Chain { reason: other.to_string() },
    }
}
