//! Signing statements and checking signatures: with Ed25519, or in simulation with a keyed digest.
//!
//! A peer signs what it says of its logs; whoever stores or reads it checks. The engine tier of the simulator signs
//! millions of statements, so it puts [`MacSigner`] and [`MacVerifier`] in the same places: a 64-byte BLAKE3 tag under
//! a key that only the peer and the registry know. A lying peer in a simulation holds its own key and no other.
//!
//! What is signed, and why one kind of statement never passes for another, stands in `base::statement`.
use crate::base::statement::SIGNATURE_BYTES;
use crate::base::{PeerId, Signature, Signed};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

/// Whoever can sign as one peer.
pub trait Signer: Send + Sync {
    /// The peer that signs.
    fn peer(&self) -> PeerId;
    /// Its signature over `message`.
    fn sign(&self, message: &[u8]) -> Signature;
}

/// Whoever can check signatures of any peer.
pub trait Verifier: Send + Sync {
    /// Whether `signature` is that of `peer` over `message`.
    fn verify(&self, peer: PeerId, message: &[u8], signature: &Signature) -> bool;
}

/// Signs `statement` as `signer`. Panics when the statement names another signer: the caller made it.
pub fn sign_statement(signer: &dyn Signer, statement: &impl Signed) -> Signature {
    assert_eq!(signer.peer(), statement.signer(), "a peer signs statements of its own");
    signer.sign(&statement.message())
}

/// Signs `statement` of another peer's log as the successor of that peer: whoever checks knows of the removal.
pub fn sign_as_successor(signer: &dyn Signer, statement: &impl Signed) -> Signature {
    signer.sign(&statement.message())
}

/// Whether `signature` over `statement` is that of the peer it names, as `verifier` sees it.
pub fn verify_with(verifier: &dyn Verifier, statement: &impl Signed, signature: &Signature) -> bool {
    verifier.verify(statement.signer(), &statement.message(), signature)
}

/// Whether `signature` is the Ed25519 signature of `peer` over `message`. Takes some 40 us.
pub fn verify(peer: PeerId, message: &[u8], signature: &Signature) -> bool {
    UnparsedPublicKey::new(&ED25519, peer.as_bytes()).verify(message, &signature.0).is_ok()
}

/// Whether `signature` over `statement` is the Ed25519 signature of the peer it names.
pub fn verify_signed(statement: &impl Signed, signature: &Signature) -> bool {
    verify(statement.signer(), &statement.message(), signature)
}

/// Why bytes are no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no Ed25519 private key in PKCS#8")]
pub struct KeyError;

/// A peer's Ed25519 key.
#[derive(Debug)]
pub struct Ed25519Signer {
    pair: Ed25519KeyPair,
    peer: PeerId,
}

impl Ed25519Signer {
    /// Reads a private key in PKCS#8 (DER), with or without its public half.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| KeyError)?;
        let public: [u8; 32] = pair.public_key().as_ref().try_into().map_err(|_| KeyError)?;
        Ok(Self { pair, peer: PeerId(public) })
    }

    /// A key of 32 secret bytes: for tests, whose keys must be the same in every run.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are an Ed25519 seed");
        let public = pair.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes");
        Self { pair, peer: PeerId(public) }
    }
}

/// Draws a new Ed25519 key from the operating system, as PKCS#8 (DER).
pub fn generate_pkcs8() -> Result<Vec<u8>, KeyError> {
    Ok(Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError)?.as_ref().to_vec())
}

impl Signer for Ed25519Signer {
    fn peer(&self) -> PeerId {
        self.peer
    }

    fn sign(&self, message: &[u8]) -> Signature {
        // An Ed25519 signature has 64 bytes.
        Signature(self.pair.sign(message).as_ref().try_into().unwrap_or([0; SIGNATURE_BYTES]))
    }
}

/// Checks Ed25519 signatures: the verifier of every real peer and client.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ed25519Verifier;

impl Verifier for Ed25519Verifier {
    fn verify(&self, peer: PeerId, message: &[u8], signature: &Signature) -> bool {
        verify(peer, message, signature)
    }
}

/// A simulated peer's key. Simulation only: who can check can also sign.
#[derive(Debug, Clone)]
pub struct MacSigner {
    peer: PeerId,
    key: [u8; 32],
}

impl Signer for MacSigner {
    fn peer(&self) -> PeerId {
        self.peer
    }

    fn sign(&self, message: &[u8]) -> Signature {
        tag(&self.key, message)
    }
}

/// The registry of a simulation: derives each peer's key from one secret.
#[derive(Debug, Clone)]
pub struct MacVerifier {
    secret: [u8; 32],
}

impl MacVerifier {
    /// A registry whose keys follow from `secret`.
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// What `peer` signs with.
    pub fn signer(&self, peer: PeerId) -> MacSigner {
        MacSigner { peer, key: *blake3::keyed_hash(&self.secret, peer.as_bytes()).as_bytes() }
    }
}

impl Verifier for MacVerifier {
    fn verify(&self, peer: PeerId, message: &[u8], signature: &Signature) -> bool {
        tag(&self.signer(peer).key, message) == *signature
    }
}

fn tag(key: &[u8; 32], message: &[u8]) -> Signature {
    let mut out = [0; SIGNATURE_BYTES];
    blake3::Hasher::new_keyed(key).update(message).finalize_xof().fill(&mut out);
    Signature(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Digest, Head, LogId, RunId, Seq, Timestamp, TopicId};

    fn head(peer: PeerId) -> Head {
        Head {
            log: LogId { topic: TopicId([1; 16]), peer },
            run: RunId(2),
            parent: RunId::NONE,
            from: Seq::FIRST,
            start: Seq(1),
            until: Seq(9),
            time: Timestamp::from_ms(5),
            last: Digest([3; 32]),
            is_sealed: false,
        }
    }

    fn check(signer: &dyn Signer, verifier: &dyn Verifier, another: PeerId) {
        let head = head(signer.peer());
        let signature = sign_statement(signer, &head);
        assert!(verify_with(verifier, &head, &signature));
        let longer = Head { until: Seq(10), ..head };
        assert!(!verify_with(verifier, &longer, &signature), "another statement");
        assert!(!verifier.verify(another, &head.message(), &signature), "another peer");
        assert!(!verifier.verify(signer.peer(), &head.encode(), &signature), "without the kind's name");
        let mut bad = signature;
        bad.0[63] ^= 1;
        assert!(!verify_with(verifier, &head, &bad), "a flipped bit");
    }

    #[test]
    fn a_signature_holds_for_its_peer_its_statement_and_its_kind_alone() {
        let (a, b) = (Ed25519Signer::from_seed(&[1; 32]), Ed25519Signer::from_seed(&[2; 32]));
        check(&a, &Ed25519Verifier, b.peer());
        let registry = MacVerifier::new([9; 32]);
        check(&registry.signer(PeerId([1; 32])), &registry, PeerId([2; 32]));
    }

    #[test]
    fn a_generated_key_reads_back_and_rubbish_does_not() {
        let der = generate_pkcs8().unwrap();
        let signer = Ed25519Signer::from_pkcs8(&der).unwrap();
        assert!(verify(signer.peer(), b"m", &signer.sign(b"m")));
        assert_eq!(Ed25519Signer::from_pkcs8(&der[..der.len() - 1]).unwrap_err(), KeyError);
        assert_eq!(Ed25519Signer::from_pkcs8(b"").unwrap_err(), KeyError);
    }
}
