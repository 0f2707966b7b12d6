//! Who may speak, and how what is said is proved: keys, signatures, certificates, roles, TLS.
//!
//! Nothing here knows about logs, sockets or tasks. Files are read and written in `files` alone.

pub mod sign;

pub use sign::{Ed25519Signer, Ed25519Verifier, MacSigner, MacVerifier, Signer, Verifier};
