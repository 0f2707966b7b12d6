//! What a peer says of itself to all: signed by it, and carried by gossip through peers that may change nothing of it.
//!
//! ```text
//! gossip value, base64url: certificate bytes u16 | certificate (DER) | facts | signature (64 bytes)
//! ```
use crate::base::bytes_io::Reader;
use crate::base::limits::{CERTIFICATE_BYTES_MAX, PEER_NAME_BYTES_MAX};
use crate::base::statement::SIGNATURE_BYTES;
use crate::base::{ClusterId, PeerId, PeerName, Signature, Signed, StoreId, StoreNonce};
use crate::identity::trust::Trust;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

const MAGIC: [u8; 4] = *b"CVYF";
const VERSION: u16 = 1;

/// Longest gossip value, in characters.
pub const FACTS_TEXT_BYTES_MAX: usize =
    (2 + CERTIFICATE_BYTES_MAX + 128 + PEER_NAME_BYTES_MAX + SIGNATURE_BYTES).div_ceil(3) * 4;

/// What a peer says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its key.
    pub peer: PeerId,
    /// What makes the name of its data directory during this start of its key.
    pub nonce: StoreNonce,
    /// What it can do beyond the first version of the protocol.
    pub features: u64,
    /// Where others reach it.
    pub address: SocketAddr,
    /// What people call it.
    pub name: PeerName,
}

impl Facts {
    /// Its data directory during this start.
    pub fn store(&self) -> StoreId {
        StoreId::of(self.peer, self.nonce)
    }

    /// The bytes that are signed.
    pub fn encode(&self) -> Vec<u8> {
        let ip = match self.address.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let mut out = Vec::with_capacity(128);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.cluster.0);
        out.extend_from_slice(&self.peer.0);
        out.extend_from_slice(&self.nonce.0.to_le_bytes());
        out.extend_from_slice(&self.features.to_le_bytes());
        out.extend_from_slice(&ip.octets());
        out.extend_from_slice(&self.address.port().to_le_bytes());
        out.extend_from_slice(self.name.as_str().as_bytes());
        out
    }

    /// Reads what a peer signed of itself; `None` where the bytes are none. Whether it signed them is for [`Self::open`].
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader::new(bytes);
        if r.array::<4>().ok()? != MAGIC || r.u16().ok()? != VERSION {
            return None;
        }
        let (cluster, peer) = (ClusterId(r.array().ok()?), PeerId(r.array().ok()?));
        let (nonce, features) = (StoreNonce(r.u64().ok()?), r.u64().ok()?);
        let ip = Ipv6Addr::from(r.array::<16>().ok()?).to_canonical();
        let address = SocketAddr::new(ip, r.u16().ok()?);
        let name = PeerName::new(std::str::from_utf8(r.rest()).ok()?).ok()?;
        Some(Self { cluster, peer, nonce, features, address, name })
    }

    /// The text that travels: with the peer's certificate and its signature.
    pub fn sealed(&self, certificate: &[u8], sign: impl FnOnce(&[u8]) -> Signature) -> String {
        let mut out = Vec::with_capacity(2 + certificate.len() + 192);
        // A longer one is refused where it is made.
        out.extend_from_slice(&(certificate.len() as u16).to_le_bytes());
        out.extend_from_slice(certificate);
        out.extend_from_slice(&self.encode());
        out.extend_from_slice(&sign(&self.message()).0);
        URL_SAFE_NO_PAD.encode(out)
    }

    /// Reads such a text. `None` where it is none, or anything in it is not what the peer of the certificate signed.
    pub fn open(text: &str, cluster: ClusterId, trust: &dyn Trust) -> Option<Self> {
        if text.len() > FACTS_TEXT_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let mut r = Reader::new(&bytes);
        let certificate_bytes = usize::from(r.u16().ok()?);
        let certificate = r.take(certificate_bytes).ok()?;
        let (facts, signature) = r.rest().split_last_chunk::<SIGNATURE_BYTES>()?;
        let facts = Self::decode(facts)?;
        let (peer, name) = trust.peer_of(certificate).ok()?;
        let is_own = facts.cluster == cluster && facts.peer == peer && facts.name == name;
        let is_signed = is_own && trust.verify(peer, &facts.message(), &Signature(*signature));
        is_signed.then_some(facts)
    }
}

impl Signed for Facts {
    const KIND: &'static [u8; 8] = b"CV-fact.";

    fn statement_bytes(&self) -> Vec<u8> {
        self.encode()
    }

    fn signer(&self) -> PeerId {
        self.peer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::ca::{Ca, Validity};
    use crate::identity::role::Role;
    use crate::identity::sign::Signer;
    use crate::identity::trust::ClusterTrust;

    #[test]
    fn facts_are_believed_as_their_peer_signed_them_and_not_otherwise() {
        let validity = Validity::days(1_700_000_000, 36_500);
        let ca = Ca::create(validity).unwrap();
        let issue = |name: &str| {
            let role = Role::Peer { name: PeerName::new(name).unwrap() };
            ca.issue(&role, validity).unwrap().credentials(ca.certificate()).unwrap()
        };
        let (alpha, beta) = (issue("alpha"), issue("beta"));
        let trust = ClusterTrust::new(alpha.authority().clone());
        for address in ["10.0.0.1:8011", "[2001:db8::1]:9"] {
            let facts = Facts {
                cluster: ca.cluster(),
                peer: alpha.signer().peer(),
                nonce: StoreNonce(7),
                features: 0,
                address: address.parse().unwrap(),
                name: PeerName::new("alpha").unwrap(),
            };
            let seal = |facts: &Facts, by: &crate::identity::Credentials| {
                facts.sealed(&by.chain()[0], |message| by.signer().sign(message))
            };
            let text = seal(&facts, &alpha);
            let open = |text: &str| Facts::open(text, ca.cluster(), &trust);
            assert_eq!(open(&text), Some(facts.clone()));
            assert_eq!(open(&seal(&facts, &beta)), None, "another peer says it");
            let renamed = Facts { name: PeerName::new("beta").unwrap(), ..facts.clone() };
            assert_eq!(open(&seal(&renamed, &alpha)), None, "its certificate says another name");
            let elsewhere = Facts { cluster: ClusterId([7; 16]), ..facts };
            assert_eq!(open(&seal(&elsewhere, &alpha)), None);
            for at in (0..text.len()).step_by(7) {
                let mut changed = text.clone().into_bytes();
                changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
                assert_eq!(open(&String::from_utf8(changed).unwrap()), None, "changed at {at}");
                assert_eq!(open(&text[..at]), None, "cut at {at}");
            }
        }
    }
}
