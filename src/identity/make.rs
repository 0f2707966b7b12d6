//! Making a cluster's CA and the certificates it stands behind, and keeping them in files.
//!
//! Files are made once and never overwritten; keys have mode 0600 in a directory of mode 0700. A first start builds
//! the whole directory beside its place and renames it, so that a crash leaves either nothing or everything.
//!
//! Times come in as Unix seconds: nothing here reads a clock.
#![expect(clippy::disallowed_methods, reason = "keys and certificates are not on the peer's disk of logs")]
use crate::base::{ClusterId, Digest, PeerId, PeerName};
use crate::identity::certificate::CertificateError;
use crate::identity::credentials::{Credentials, IdentityError, IdentityFiles, file_error};
use crate::identity::role::{Rights, Role};
use crate::identity::sign::{Ed25519Signer, KeyError, Signer, generate_pkcs8};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose, PKCS_ED25519, SanType, SerialNumber};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// When a certificate holds, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from_s: u64,
    /// The last second.
    pub until_s: u64,
}

impl Validity {
    /// From a day before `now_s`, since clocks differ, to `days` after.
    pub fn days(now_s: u64, days: u64) -> Self {
        Self {
            from_s: now_s.saturating_sub(86_400),
            until_s: now_s.saturating_add(days.saturating_mul(86_400)),
        }
    }
}

/// How long a CA and what a first start makes hold: twenty years.
pub const VALIDITY_DAYS_DEFAULT: u64 = 20 * 365;

/// A certificate and its key as they go into files.
#[derive(Clone)]
pub struct Issued {
    /// In DER.
    pub certificate: CertificateDer<'static>,
    /// In PKCS#8 DER.
    pub key_pkcs8: Vec<u8>,
    certificate_pem: String,
    key_pem: String,
}

impl Issued {
    /// As credentials under `ca`.
    pub fn credentials(&self, ca: &CertificateDer<'static>) -> Result<Credentials, IdentityError> {
        Credentials::new(vec![self.certificate.clone()], self.key_pkcs8.clone(), ca.clone())
    }
}

/// A cluster's CA with its key: whoever holds it decides who belongs to the cluster.
pub struct Ca {
    cluster: ClusterId,
    own: Issued,
}

impl Ca {
    /// Draws a new cluster and its CA from the operating system.
    pub fn create(validity: Validity) -> Result<Self, IdentityError> {
        let mut cluster = ClusterId::default();
        SystemRandom::new().fill(&mut cluster.0).map_err(|_| KeyError)?;
        let key_pkcs8 = generate_pkcs8()?;
        let (params, pair) = (ca_params(cluster, &key_pkcs8, validity)?, key_pair(&key_pkcs8)?);
        let certificate = params.self_signed(&pair).map_err(make_error)?;
        Ok(Self { cluster, own: issued(&certificate, &pair, key_pkcs8) })
    }

    /// Reads the CA that [`create_cluster`] left in `files`.
    pub fn load(files: &IdentityFiles) -> Result<Self, IdentityError> {
        let (certificate_path, key_path) = (files.ca_certificate(), files.ca_key());
        let certificate_pem = fs::read_to_string(&certificate_path).map_err(file_error(&certificate_path))?;
        let key_pem = fs::read_to_string(&key_path).map_err(file_error(&key_path))?;
        let pair = KeyPair::from_pkcs8_pem_and_sign_algo(&key_pem, &PKCS_ED25519).map_err(|_| KeyError)?;
        use rustls::pki_types::pem::PemObject;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|_| IdentityError::Pem { path: certificate_path, what: "certificate" })?;
        let key_pkcs8 = pair.serialize_der();
        Ok(Self {
            cluster: read_cluster(files)?,
            own: Issued { certificate, key_pkcs8, certificate_pem, key_pem },
        })
    }

    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The CA's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.own.certificate
    }

    /// Makes a key and a certificate for `role`.
    pub fn issue(&self, role: &Role, validity: Validity) -> Result<Issued, IdentityError> {
        let key_pkcs8 = generate_pkcs8()?;
        let pair = key_pair(&key_pkcs8)?;
        let own_pair = key_pair(&self.own.key_pkcs8)?;
        // The issuer's name is all that is taken from these; its validity plays no part.
        let own_params = ca_params(self.cluster, &self.own.key_pkcs8, validity)?;
        let params = leaf_params(self.cluster, role, &key_pkcs8, validity)?;
        let issuer = Issuer::from_params(&own_params, &own_pair);
        let certificate = params.signed_by(&pair, &issuer).map_err(make_error)?;
        Ok(issued(&certificate, &pair, key_pkcs8))
    }
}

fn make_error(error: rcgen::Error) -> IdentityError {
    IdentityError::Make { reason: error.to_string() }
}

fn key_pair(pkcs8: &[u8]) -> Result<KeyPair, IdentityError> {
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &PKCS_ED25519)
        .map_err(|_| KeyError.into())
}

fn issued(certificate: &rcgen::Certificate, pair: &KeyPair, key_pkcs8: Vec<u8>) -> Issued {
    Issued {
        certificate: certificate.der().clone(),
        key_pkcs8,
        certificate_pem: certificate.pem(),
        key_pem: pair.serialize_pem(),
    }
}

fn params(name: String, key_pkcs8: &[u8], validity: Validity) -> Result<CertificateParams, IdentityError> {
    let date = |seconds: u64| {
        i64::try_from(seconds)
            .ok()
            .and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok())
            .ok_or(IdentityError::Make { reason: format!("there is no date {seconds} s after 1970") })
    };
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (date(validity.from_s)?, date(validity.until_s)?);
    params.serial_number = Some(serial(Ed25519Signer::from_pkcs8(key_pkcs8)?.peer(), validity));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

/// A positive number that follows from the key and the validity, so that equal inputs give equal certificates.
fn serial(key: PeerId, validity: Validity) -> SerialNumber {
    let times = [validity.from_s.to_le_bytes(), validity.until_s.to_le_bytes()].concat();
    let mut bytes = Digest::of(&[&key.0[..], &times].concat()).0[..16].to_vec();
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    SerialNumber::from(bytes)
}

fn ca_params(cluster: ClusterId, key: &[u8], validity: Validity) -> Result<CertificateParams, IdentityError> {
    let mut params = params(format!("Conveyor cluster {cluster}"), key, validity)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn leaf_params(
    cluster: ClusterId,
    role: &Role,
    key: &[u8],
    validity: Validity,
) -> Result<CertificateParams, IdentityError> {
    let (name, usages) = match role {
        Role::Peer { name } => (
            format!("Conveyor peer {name}"),
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        ),
        Role::Client(_) => ("Conveyor client".to_owned(), vec![ExtendedKeyUsagePurpose::ClientAuth]),
    };
    let mut params = params(name, key, validity)?;
    let uri = role.to_uri(cluster).try_into().map_err(make_error)?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages;
    Ok(params)
}

/// Makes a cluster: `cluster`, `ca.crt` and `ca.key` in the data directory. Refuses when there is a CA already.
pub fn create_cluster(data_dir: &Path, validity: Validity) -> Result<Ca, IdentityError> {
    let files = IdentityFiles::of(data_dir);
    let ca = Ca::create(validity)?;
    make_dir(files.dir())?;
    write_ca(&files, &ca)?;
    Ok(ca)
}

fn write_ca(files: &IdentityFiles, ca: &Ca) -> Result<(), IdentityError> {
    write_new(&files.ca_key(), ca.own.key_pem.as_bytes(), 0o600)?;
    write_shared(files, ca)
}

/// What every party needs of the cluster.
fn write_shared(files: &IdentityFiles, ca: &Ca) -> Result<(), IdentityError> {
    write_new(&files.ca_certificate(), ca.own.certificate_pem.as_bytes(), 0o644)?;
    write_new(&files.cluster(), format!("{}\n", ca.cluster).as_bytes(), 0o644)
}

/// Makes a peer's certificate and key in `to`, with the CA's certificate and the cluster's id beside them. `to` is
/// then the `identity` directory of the peer's data directory. Never overwrites a key.
pub fn issue_peer(ca: &Ca, name: &PeerName, validity: Validity, to: &Path) -> Result<Issued, IdentityError> {
    let issued = ca.issue(&Role::Peer { name: name.clone() }, validity)?;
    let files = IdentityFiles::within(to);
    write_party(&files, ca, &issued, &files.peer_certificate(), &files.peer_key())?;
    Ok(issued)
}

/// Makes a client's certificate and key in `to`, with the CA's certificate and the cluster's id beside them.
pub fn issue_client(
    ca: &Ca,
    rights: &Rights,
    validity: Validity,
    to: &Path,
) -> Result<Issued, IdentityError> {
    let issued = ca.issue(&Role::Client(rights.clone()), validity)?;
    let files = IdentityFiles::within(to);
    write_party(&files, ca, &issued, &files.client_certificate(), &files.client_key())?;
    Ok(issued)
}

fn write_party(
    files: &IdentityFiles,
    ca: &Ca,
    issued: &Issued,
    certificate: &Path,
    key: &Path,
) -> Result<(), IdentityError> {
    make_dir(files.dir())?;
    if files.cluster().exists() {
        let cluster = read_cluster(files)?;
        if cluster != ca.cluster {
            return Err(CertificateError::Cluster { cluster }.into());
        }
    } else {
        write_shared(files, ca)?;
    }
    write_new(key, issued.key_pem.as_bytes(), 0o600)?;
    write_new(certificate, issued.certificate_pem.as_bytes(), 0o644)
}

fn read_cluster(files: &IdentityFiles) -> Result<ClusterId, IdentityError> {
    let path = files.cluster();
    let text = fs::read_to_string(&path).map_err(file_error(&path))?;
    ClusterId::parse(text.trim()).ok_or(IdentityError::Pem { path, what: "cluster id (32 hex digits)" })
}

/// Who a peer is, as its data directory (or the files its settings name) says.
#[derive(Debug, Clone)]
pub struct PeerIdentity {
    /// Certificate, key and CA.
    pub credentials: Credentials,
    /// The cluster.
    pub cluster: ClusterId,
    /// The peer's key.
    pub peer: PeerId,
    /// What people call it.
    pub name: PeerName,
    /// Whether a first start made it by itself: good for loopback only.
    pub is_generated: bool,
}

impl PeerIdentity {
    /// Credentials of a peer, from files of one's own.
    pub fn new(credentials: Credentials, is_generated: bool) -> Result<Self, IdentityError> {
        let certificate = credentials.certificate();
        let (cluster, peer) = (certificate.cluster, certificate.key);
        let Role::Peer { name } = certificate.role.clone() else {
            return Err(CertificateError::WrongRole.into());
        };
        Ok(Self { cluster, peer, name, is_generated, credentials })
    }
}

/// Reads the peer's identity in `data_dir`.
pub fn load_peer_identity(data_dir: &Path) -> Result<PeerIdentity, IdentityError> {
    let is_generated = IdentityFiles::of(data_dir).is_generated().exists();
    PeerIdentity::new(Credentials::peer_of_data_dir(data_dir)?, is_generated)
}

/// Reads the credentials of clients on this host in `data_dir`.
pub fn load_local_client(data_dir: &Path) -> Result<Credentials, IdentityError> {
    Credentials::from_data_dir(data_dir)
}

/// The identity in `data_dir`; when there is none, makes a cluster of one peer called `name` with a client that may
/// do everything: what a first start on loopback needs. `now_s` is Unix seconds.
pub fn ensure_local_defaults(
    data_dir: &Path,
    name: &PeerName,
    now_s: u64,
) -> Result<PeerIdentity, IdentityError> {
    let place = IdentityFiles::of(data_dir);
    if place.dir().exists() {
        return load_peer_identity(data_dir);
    }
    let new = IdentityFiles::within(&data_dir.join("identity.new"));
    if new.dir().exists() {
        // An earlier first start did not get to its end; nothing was ever signed with these keys.
        fs::remove_dir_all(new.dir()).map_err(file_error(new.dir()))?;
    }
    let validity = Validity::days(now_s, VALIDITY_DAYS_DEFAULT);
    let ca = Ca::create(validity)?;
    make_dir(new.dir())?;
    write_ca(&new, &ca)?;
    issue_peer(&ca, name, validity, new.dir())?;
    issue_client(&ca, &Rights::all(), validity, new.dir())?;
    write_new(&new.is_generated(), b"made by a first start; for loopback only\n", 0o644)?;
    sync_dir(new.dir())?;
    fs::rename(new.dir(), place.dir()).map_err(file_error(place.dir()))?;
    sync_dir(data_dir)?;
    load_peer_identity(data_dir)
}

fn make_dir(dir: &Path) -> Result<(), IdentityError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(file_error(dir))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), IdentityError> {
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = match opened {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(IdentityError::Exists { path: path.to_owned() });
        }
        other => other.map_err(file_error(path))?,
    };
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(file_error(path))
}

fn sync_dir(dir: &Path) -> Result<(), IdentityError> {
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(file_error(dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::certificate::{Authority, Certificate, Usage};
    use rustls::pki_types::UnixTime;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    const NOW_S: u64 = 1_800_000_000;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn peer_role() -> Role {
        Role::Peer { name: PeerName::new("alpha").unwrap() }
    }

    #[test]
    fn a_certificate_says_key_cluster_and_role_and_its_ca_stands_behind_it() {
        let validity = Validity::days(NOW_S, 10);
        let ca = Ca::create(validity).unwrap();
        let authority = Authority::new(ca.cluster(), ca.certificate()).unwrap();
        let peer = ca.issue(&peer_role(), validity).unwrap();
        let said = authority.check(&peer.certificate, &[], at(NOW_S), Usage::Serve).unwrap();
        let key = Ed25519Signer::from_pkcs8(&peer.key_pkcs8).unwrap().peer();
        assert_eq!(said, Certificate { key, cluster: ca.cluster(), role: peer_role() });
        let client = ca.issue(&Role::Client(Rights::all()), validity).unwrap();
        assert!(authority.check(&client.certificate, &[], at(NOW_S), Usage::Connect).is_ok());
        let served = authority.check(&client.certificate, &[], at(NOW_S), Usage::Serve);
        assert!(matches!(served, Err(CertificateError::Chain { .. })), "a client does not serve");
    }

    #[test]
    fn expiry_bounds_connecting_and_never_a_batch() {
        let ca = Ca::create(Validity::days(NOW_S, 10)).unwrap();
        let authority = Authority::new(ca.cluster(), ca.certificate()).unwrap();
        let peer = ca.issue(&peer_role(), Validity { from_s: NOW_S, until_s: NOW_S + 100 }).unwrap();
        for wrong in [NOW_S - 1, NOW_S + 101] {
            let refused = authority.check(&peer.certificate, &[], at(wrong), Usage::Serve);
            assert_eq!(refused, Err(CertificateError::Time { now_s: wrong }));
        }
        assert!(authority.check_ignoring_time(&peer.certificate).is_ok());
        let stranger = Ca::create(Validity::days(NOW_S, 10)).unwrap();
        let same_name = Ca { cluster: ca.cluster(), own: stranger.own.clone() };
        let forged = same_name.issue(&peer_role(), Validity::days(NOW_S, 10)).unwrap();
        let refused = authority.check_ignoring_time(&forged.certificate);
        assert!(matches!(refused, Err(CertificateError::Chain { .. })), "another CA of the same name");
    }

    #[test]
    fn a_first_start_makes_all_it_needs_and_a_second_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("identity.new")).unwrap();
        let name = PeerName::new("alpha").unwrap();
        let first = ensure_local_defaults(dir.path(), &name, NOW_S).unwrap();
        let again = ensure_local_defaults(dir.path(), &PeerName::new("other").unwrap(), NOW_S).unwrap();
        assert!(first.is_generated);
        assert_eq!((first.peer, first.cluster, &first.name), (again.peer, again.cluster, &name));
        let client = load_local_client(dir.path()).unwrap();
        assert_eq!(client.certificate().role, Role::Client(Rights::all()));
        let files = IdentityFiles::of(dir.path());
        for key in [files.ca_key(), files.peer_key(), files.client_key()] {
            assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600, "{}", key.display());
        }
        assert_eq!(fs::metadata(files.dir()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn nothing_that_exists_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let validity = Validity::days(NOW_S, 10);
        let ca = create_cluster(dir.path(), validity).unwrap();
        assert!(matches!(create_cluster(dir.path(), validity), Err(IdentityError::Exists { .. })));
        let name = PeerName::new("alpha").unwrap();
        let to = dir.path().join("alpha");
        let loaded = Ca::load(&IdentityFiles::of(dir.path())).unwrap();
        issue_peer(&loaded, &name, validity, &to).unwrap();
        assert!(matches!(issue_peer(&ca, &name, validity, &to), Err(IdentityError::Exists { .. })));
        let other = Ca::create(validity).unwrap();
        let refused = issue_client(&other, &Rights::all(), validity, &to);
        assert!(matches!(refused, Err(IdentityError::Certificate(CertificateError::Cluster { .. }))));
    }

    #[test]
    fn a_key_that_does_not_fit_its_certificate_is_refused() {
        let validity = Validity::days(NOW_S, 10);
        let ca = Ca::create(validity).unwrap();
        let (a, b) = (ca.issue(&peer_role(), validity).unwrap(), ca.issue(&peer_role(), validity).unwrap());
        let mixed = Credentials::new(vec![a.certificate], b.key_pkcs8, ca.certificate().clone());
        assert!(matches!(mixed, Err(IdentityError::KeyMismatch { .. })));
    }
}
