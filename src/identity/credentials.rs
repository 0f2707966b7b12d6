//! What one party holds: its certificate with the chain behind it, its key, and the cluster's CA.
//!
//! Credentials are checked when they are put together: the key fits the certificate, the certificate has a role and
//! comes from this CA. Whether it is still valid is asked by whoever connects, each time.
//!
//! ```text
//! <data>/identity/cluster      32 hex digits
//!                 ca.crt       the CA               ca.key       where `conveyor init` ran, or at a first start
//!                 peer.crt     this peer            peer.key
//!                 client.crt   the local CLI        client.key   at a first start
//!                 client.token the same for HTTP
//!                 is_generated present when a first start made all this by itself
//! ```
#![expect(clippy::disallowed_methods, reason = "keys and certificates are not on the peer's disk of logs")]
use crate::base::PeerId;
use crate::identity::certificate::{Authority, Certificate, CertificateError};
use crate::identity::sign::{Ed25519Signer, KeyError, Signer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why credentials cannot be used, read or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written. Files made before it stay.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        error: io::Error,
    },
    /// A file does not hold what its name says, in PEM.
    #[error("{}: holds no {what} in PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was expected.
        what: &'static str,
    },
    /// A key cannot be read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A certificate is refused.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The key is not the one in the certificate.
    #[error("the private key is that of {key}, the certificate is for {certificate}")]
    KeyMismatch {
        /// Whose key it is.
        key: PeerId,
        /// Whom the certificate names.
        certificate: PeerId,
    },
    /// There is something already, which is never overwritten.
    #[error("{} exists already and is never overwritten", path.display())]
    Exists {
        /// The file or directory.
        path: PathBuf,
    },
    /// A certificate could not be made.
    #[error("the certificate could not be made: {reason}")]
    Make {
        /// What went wrong.
        reason: String,
    },
}

/// A certificate, its key and the CA, checked against each other.
#[derive(Clone)]
pub struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<Vec<u8>>,
    signer: Arc<Ed25519Signer>,
    ca: CertificateDer<'static>,
    authority: Authority,
    certificate: Certificate,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Puts credentials together from DER: the chain (the holder's certificate first), its key in PKCS#8, and the
    /// CA. Fails when they do not belong together. Does not ask whether the certificate is still valid.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key_pkcs8: Vec<u8>,
        ca: CertificateDer<'static>,
    ) -> Result<Self, IdentityError> {
        let first = chain.first().ok_or(CertificateError::Malformed)?;
        let certificate = Certificate::parse(first)?;
        let signer = Ed25519Signer::from_pkcs8(&key_pkcs8)?;
        if signer.peer() != certificate.key {
            return Err(IdentityError::KeyMismatch { key: signer.peer(), certificate: certificate.key });
        }
        let authority = Authority::new(certificate.cluster, &ca)?;
        Ok(Self { chain, key: Arc::new(key_pkcs8), signer: Arc::new(signer), ca, authority, certificate })
    }

    /// Reads PEM files: a certificate (with intermediates behind it, if any), its key, and the CA.
    pub fn from_files(
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
        ca: impl AsRef<Path>,
    ) -> Result<Self, IdentityError> {
        let chain = read_certificates(certificate.as_ref())?;
        let key = read_key(key.as_ref())?;
        // `read_certificates` answers with one at least.
        let ca = read_certificates(ca.as_ref())?.swap_remove(0);
        Self::new(chain, key, ca)
    }

    /// The client credentials that a peer's first start left in its data directory for programs on the same host.
    pub fn from_data_dir(data_dir: impl AsRef<Path>) -> Result<Self, IdentityError> {
        let files = IdentityFiles::of(data_dir.as_ref());
        Self::from_files(files.client_certificate(), files.client_key(), files.ca_certificate())
    }

    /// The peer credentials in a data directory.
    pub fn peer_of_data_dir(data_dir: impl AsRef<Path>) -> Result<Self, IdentityError> {
        let files = IdentityFiles::of(data_dir.as_ref());
        Self::from_files(files.peer_certificate(), files.peer_key(), files.ca_certificate())
    }

    /// What the certificate says.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The holder's certificate and what stands behind it, in DER.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The CA, in DER.
    pub fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    /// What others' certificates are checked against.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Signs with the key.
    pub fn signer(&self) -> &Arc<Ed25519Signer> {
        &self.signer
    }

    pub(crate) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.to_vec()))
    }
}

/// Where credentials lie in a data directory.
#[derive(Debug, Clone)]
pub struct IdentityFiles {
    dir: PathBuf,
}

impl IdentityFiles {
    /// Those of `data_dir`, present or not.
    pub fn of(data_dir: &Path) -> Self {
        Self { dir: data_dir.join("identity") }
    }

    /// Those right in `dir`.
    pub fn within(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The cluster's id.
    pub fn cluster(&self) -> PathBuf {
        self.dir.join("cluster")
    }

    /// The CA's certificate.
    pub fn ca_certificate(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// The CA's key.
    pub fn ca_key(&self) -> PathBuf {
        self.dir.join("ca.key")
    }

    /// The peer's certificate.
    pub fn peer_certificate(&self) -> PathBuf {
        self.dir.join("peer.crt")
    }

    /// The peer's key.
    pub fn peer_key(&self) -> PathBuf {
        self.dir.join("peer.key")
    }

    /// The certificate of clients on this host.
    pub fn client_certificate(&self) -> PathBuf {
        self.dir.join("client.crt")
    }

    /// The key of clients on this host.
    pub fn client_key(&self) -> PathBuf {
        self.dir.join("client.key")
    }

    /// The token of clients on this host that speak HTTP.
    pub fn client_token(&self) -> PathBuf {
        self.dir.join("client.token")
    }

    /// The mark of credentials that a first start made by itself.
    pub fn is_generated(&self) -> PathBuf {
        self.dir.join("is_generated")
    }
}

pub(crate) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> IdentityError + '_ {
    move |error| IdentityError::File { path: path.to_owned(), error }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let text = std::fs::read(path).map_err(file_error(path))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(IdentityError::Pem { path: path.to_owned(), what: "certificate" }),
    }
}

fn read_key(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let text = std::fs::read(path).map_err(file_error(path))?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(&text)
        .map_err(|_| IdentityError::Pem { path: path.to_owned(), what: "private key (PKCS#8)" })?;
    Ok(key.secret_pkcs8_der().to_vec())
}
