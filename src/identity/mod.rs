//! Who may speak, and how what is said is proved: keys, signatures, certificates, roles, TLS.
//!
//! Nothing here knows about logs, sockets or tasks, and nothing reads a clock: times come in. Files are read in
//! `credentials` and written in `make`.

#[cfg(feature = "server")]
pub mod ca;
pub mod certificate;
pub mod credentials;
#[cfg(feature = "server")]
pub mod make;
pub mod role;
pub mod sign;
pub mod tls;
pub mod token;
pub mod trust;

#[cfg(feature = "server")]
pub use ca::{Ca, Validity};
pub use certificate::{Authority, Certificate, CertificateError};
pub use credentials::{Credentials, IdentityError, IdentityFiles};
#[cfg(feature = "server")]
pub use make::{
    PeerIdentity, create_cluster, ensure_local_defaults, issue_client, issue_peer, load_local_client,
    load_peer_identity, make_local_token, renew,
};
pub use role::{Rights, Role, RoleError};
pub use sign::{Ed25519Signer, Ed25519Verifier, MacSigner, MacVerifier, Signer, Verifier};
