//! Tokens: what a client may do over HTTP, said and signed by an administrator, checked at any peer.
//!
//! ```text
//! cvt1_ + base64url( length of the claims u16 | claims (JSON) | signature 64 | the signer's certificate (DER) )
//! ```
//!
//! Whoever holds a client's key with the right to administer can make tokens that allow as much as its certificate does, or
//! less. A token is worth what its signer's certificate is worth when it is used: both must hold then. Whoever has
//! the word can use it, so it is a secret as a key is.
use crate::base::{ClusterId, Signature, TopicName};
use crate::identity::certificate::{Authority, CertificateError, Usage};
use crate::identity::credentials::Credentials;
use crate::identity::role::{Rights, Role};
use crate::identity::sign::{self, Signer};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How tokens begin.
pub const TOKEN_PREFIX: &str = "cvt1_";
/// The longest token: claims with many prefixes, and a certificate.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;
/// The longest name of a client, in bytes.
pub const CLIENT_NAME_BYTES_MAX: usize = 64;

const SIGNATURE_BYTES: usize = 64;
/// What stands before the claims where they are signed, so that no other statement passes for a token.
const KIND: &[u8; 8] = b"CV-token";

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The cluster it is good in.
    pub cluster: ClusterId,
    /// What people call its holder: 1 to 64 bytes of visible ASCII.
    pub client: String,
    /// What it allows.
    pub rights: Rights,
    /// The last second in which it holds, in Unix seconds.
    pub until_s: u64,
}

/// Why a token is refused, or not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token, or not a whole one.
    #[error("this is no token, or not a whole one")]
    Malformed,
    /// Its time is over.
    #[error("the token ended (Unix {until_s} s)")]
    Expired {
        /// Its last second.
        until_s: u64,
    },
    /// Whoever signed it is not an administrator of this cluster, or no more.
    #[error("the token's signer: {0}")]
    Signer(#[from] CertificateError),
    /// It does not match its signature.
    #[error("the token does not match its signature")]
    Signature,
    /// It allows more than its signer may.
    #[error("the token allows more than the certificate that signed it")]
    Rights,
    /// The client's name is not legal.
    #[error(
        "a client's name is 1 to {CLIENT_NAME_BYTES_MAX} letters, digits, and signs other than \"\\\" and quotes"
    )]
    Name,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimsJson {
    cluster: String,
    client: String,
    rights: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    prefixes: Vec<String>,
    until_s: u64,
}

impl Claims {
    fn check_name(&self) -> Result<(), TokenError> {
        let is_legal = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'\'');
        let length = 1..=CLIENT_NAME_BYTES_MAX;
        match length.contains(&self.client.len()) && self.client.bytes().all(is_legal) {
            true => Ok(()),
            false => Err(TokenError::Name),
        }
    }

    fn to_json(&self) -> Vec<u8> {
        let Rights { read, write, admin, prefixes } = &self.rights;
        let letters = [(*read, "r"), (*write, "w"), (*admin, "a")];
        let json = ClaimsJson {
            cluster: self.cluster.to_string(),
            client: self.client.clone(),
            rights: letters.into_iter().filter_map(|(held, letter)| held.then_some(letter)).collect(),
            prefixes: prefixes.clone(),
            until_s: self.until_s,
        };
        // Strings and numbers always become JSON.
        serde_json::to_vec(&json).unwrap_or_default()
    }

    fn from_json(json: &[u8]) -> Option<Self> {
        let json: ClaimsJson = serde_json::from_slice(json).ok()?;
        let mut rights = Rights { prefixes: json.prefixes, ..Rights::default() };
        for letter in json.rights.chars() {
            match letter {
                'r' => rights.read = true,
                'w' => rights.write = true,
                'a' => rights.admin = true,
                // An unknown word must not widen what the token allows, so it voids the whole.
                _ => return None,
            }
        }
        let cluster = ClusterId::parse(&json.cluster)?;
        Some(Self { cluster, client: json.client, rights, until_s: json.until_s })
    }

    fn message(json: &[u8]) -> Vec<u8> {
        [KIND, json].concat()
    }
}

/// Whether everything that `rights` allow is allowed by `signer` too, who may administer.
fn is_within(rights: &Rights, signer: &Rights) -> bool {
    let held = |wanted: bool, held: bool| held || !wanted;
    let is_covered = |prefix: &String| signer.prefixes.iter().any(|of| prefix.starts_with(of.as_str()));
    let topics =
        signer.prefixes.is_empty() || (!rights.prefixes.is_empty() && rights.prefixes.iter().all(is_covered));
    signer.admin && held(rights.read, signer.read) && held(rights.write, signer.write) && topics
}

/// Makes a token, signed by the holder of `credentials`, who must be a client that may administer.
pub fn make(credentials: &Credentials, claims: &Claims) -> Result<String, TokenError> {
    claims.check_name()?;
    let certificate = credentials.certificate();
    certificate.in_cluster(claims.cluster)?;
    match &certificate.role {
        Role::Client(signer) if is_within(&claims.rights, signer) => {}
        Role::Client(_) => return Err(TokenError::Rights),
        Role::Peer { .. } => return Err(CertificateError::WrongRole.into()),
    }
    let json = claims.to_json();
    let signature = credentials.signer().sign(&Claims::message(&json));
    let length = u16::try_from(json.len()).map_err(|_| TokenError::Malformed)?;
    let bytes = [&length.to_le_bytes()[..], &json, &signature.0, &credentials.chain()[0]].concat();
    let word = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    if word.len() > TOKEN_BYTES_MAX { Err(TokenError::Malformed) } else { Ok(word) }
}

/// What a token says, where `authority` stands behind whoever signed it, and all of it holds at `now_s`. Takes some
/// hundred microseconds.
pub fn verify(authority: &Authority, word: &str, now_s: u64) -> Result<Claims, TokenError> {
    let word = word.strip_prefix(TOKEN_PREFIX).filter(|word| word.len() < TOKEN_BYTES_MAX);
    let bytes = word.and_then(|word| URL_SAFE_NO_PAD.decode(word).ok()).ok_or(TokenError::Malformed)?;
    let (length, rest) = bytes.split_first_chunk::<2>().ok_or(TokenError::Malformed)?;
    let length = usize::from(u16::from_le_bytes(*length));
    let (json, rest) = rest.split_at_checked(length).ok_or(TokenError::Malformed)?;
    let (signature, certificate) =
        rest.split_first_chunk::<SIGNATURE_BYTES>().ok_or(TokenError::Malformed)?;
    let claims = Claims::from_json(json).ok_or(TokenError::Malformed)?;
    claims.check_name()?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
    let signer = authority.check(&CertificateDer::from(certificate), &[], now, Usage::Connect)?;
    if !sign::verify(signer.key, &Claims::message(json), &Signature(*signature)) {
        return Err(TokenError::Signature);
    }
    signer.in_cluster(claims.cluster)?;
    let Role::Client(of_signer) = &signer.role else { return Err(CertificateError::WrongRole.into()) };
    if !is_within(&claims.rights, of_signer) {
        return Err(TokenError::Rights);
    }
    match claims.until_s < now_s {
        true => Err(TokenError::Expired { until_s: claims.until_s }),
        false => Ok(claims),
    }
}

/// Whether a token may stand where others may see it (in an address, say): it allows nothing but reading.
pub fn is_read_only(rights: &Rights) -> bool {
    let Rights { read: _, write, admin, prefixes: _ } = rights;
    !write && !admin && !rights.allows_read(&TopicName::catalog())
}

#[cfg(all(test, feature = "server"))]
mod tests {
    use super::*;
    use crate::identity::ca::{Ca, Validity};

    const NOW_S: u64 = 1_800_000_000;

    fn claims(ca: &Ca, rights: Rights) -> Claims {
        Claims { cluster: ca.cluster(), client: "web".to_owned(), rights, until_s: NOW_S + 10 }
    }

    fn credentials(ca: &Ca, rights: Rights, validity: Validity) -> Credentials {
        ca.issue(&Role::Client(rights), validity).unwrap().credentials(ca.certificate()).unwrap()
    }

    #[test]
    fn a_token_says_what_it_was_made_for_and_nothing_once_a_byte_is_another() {
        let ca = Ca::create(Validity::days(NOW_S, 10)).unwrap();
        let authority = Authority::new(ca.cluster(), ca.certificate()).unwrap();
        let admin = credentials(&ca, Rights::all(), Validity::days(NOW_S, 10));
        let rights = Rights { read: true, prefixes: vec!["jobs/é".to_owned()], ..Rights::default() };
        let said = claims(&ca, rights);
        let word = make(&admin, &said).unwrap();
        assert_eq!(verify(&authority, &word, NOW_S), Ok(said));
        for at in 0..word.len() {
            let mut other = word.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert!(verify(&authority, &String::from_utf8(other).unwrap(), NOW_S).is_err(), "at {at}");
            assert!(verify(&authority, &word[..at], NOW_S).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_token_ends_with_its_time_and_with_its_signers_certificate() {
        let ca = Ca::create(Validity::days(NOW_S, 10)).unwrap();
        let authority = Authority::new(ca.cluster(), ca.certificate()).unwrap();
        let short = Validity { from_s: NOW_S, until_s: NOW_S + 5 };
        let word = make(&credentials(&ca, Rights::all(), short), &claims(&ca, Rights::all())).unwrap();
        assert!(verify(&authority, &word, NOW_S + 5).is_ok());
        let over = verify(&authority, &word, NOW_S + 6);
        assert!(matches!(over, Err(TokenError::Signer(CertificateError::Time { .. }))), "{over:?}");
        let long =
            make(&credentials(&ca, Rights::all(), Validity::days(NOW_S, 10)), &claims(&ca, Rights::all()));
        let over = verify(&authority, &long.unwrap(), NOW_S + 11);
        assert_eq!(over, Err(TokenError::Expired { until_s: NOW_S + 10 }));
    }

    #[test]
    fn nobody_makes_a_token_that_allows_more_than_the_maker_may() {
        let (ca, validity) = (Ca::create(Validity::days(NOW_S, 10)).unwrap(), Validity::days(NOW_S, 10));
        let authority = Authority::new(ca.cluster(), ca.certificate()).unwrap();
        let within = |prefix: &str| Rights { prefixes: vec![prefix.to_owned()], ..Rights::all() };
        let of_jobs = credentials(&ca, within("jobs/"), validity);
        assert!(make(&of_jobs, &claims(&ca, within("jobs/mail"))).is_ok());
        for rights in [Rights::all(), within("job"), within("other")] {
            assert_eq!(make(&of_jobs, &claims(&ca, rights)), Err(TokenError::Rights));
        }
        let writer = credentials(&ca, Rights { admin: false, ..Rights::all() }, validity);
        let read = Rights { read: true, ..Rights::default() };
        assert_eq!(make(&writer, &claims(&ca, read.clone())), Err(TokenError::Rights), "no administrator");
        // A peer that checks does not rely on the maker's program.
        let json = claims(&ca, Rights::all()).to_json();
        let signature = of_jobs.signer().sign(&Claims::message(&json));
        let length = (json.len() as u16).to_le_bytes();
        let bytes = [&length[..], &json, &signature.0, &of_jobs.chain()[0]].concat();
        let word = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
        assert_eq!(verify(&authority, &word, NOW_S), Err(TokenError::Rights));
        let stranger = Ca::create(validity).unwrap();
        let theirs = make(&credentials(&stranger, Rights::all(), validity), &claims(&stranger, read.clone()));
        assert!(matches!(verify(&authority, &theirs.unwrap(), NOW_S), Err(TokenError::Signer(_))));
        assert!(is_read_only(&read) && !is_read_only(&Rights::all()));
    }
}
