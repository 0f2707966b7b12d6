//! Making clusters, peers and clients as files: what `init`, `cert` and a first start leave behind.
//!
//! Files are made once and never overwritten; keys have mode 0600 in a directory of mode 0700. A first start builds
//! the whole directory beside its place and renames it, so that a crash leaves either nothing or everything.
#![expect(clippy::disallowed_methods, reason = "keys and certificates are not on the peer's disk of logs")]
use crate::base::{ClusterId, PeerId, PeerName};
use crate::identity::ca::{Ca, Issued, VALIDITY_DAYS_DEFAULT, Validity, read_cluster};
use crate::identity::certificate::{Certificate, CertificateError};
use crate::identity::credentials::{Credentials, IdentityError, IdentityFiles, file_error};
use crate::identity::role::{Rights, Role};
use crate::identity::token::{self, Claims};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

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

/// Makes a certificate anew for the holder of one, in the file `to`, which must not exist: the same key and role, another
/// validity.
pub fn renew(ca: &Ca, certificate: &Certificate, validity: Validity, to: &Path) -> Result<(), IdentityError> {
    write_new(to, ca.renew(certificate, validity)?.as_bytes(), 0o644)
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
        if place.is_generated().exists() && !place.client_token().exists() {
            make_local_token(&place, now_s)?;
        }
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
    make_local_token(&new, now_s)?;
    write_new(&new.is_generated(), b"made by a first start; for loopback only\n", 0o644)?;
    sync_dir(new.dir())?;
    fs::rename(new.dir(), place.dir()).map_err(file_error(place.dir()))?;
    sync_dir(data_dir)?;
    load_peer_identity(data_dir)
}

/// Makes the token that the client of this host uses over HTTP: it allows what its certificate does.
pub fn make_local_token(files: &IdentityFiles, now_s: u64) -> Result<(), IdentityError> {
    let client =
        Credentials::from_files(files.client_certificate(), files.client_key(), files.ca_certificate())?;
    let claims = Claims {
        cluster: client.certificate().cluster,
        client: "local".to_owned(),
        rights: Rights::all(),
        until_s: Validity::days(now_s, VALIDITY_DAYS_DEFAULT).until_s,
    };
    let made = token::make(&client, &claims);
    let word = made.map_err(|error| IdentityError::Make { reason: error.to_string() })?;
    write_new(&files.client_token(), format!("{word}\n").as_bytes(), 0o600)
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
    use crate::base::{PeerId, Removal, RunEnds, SignedRemoval, Timestamp};
    use crate::identity::ca::Issued;
    use crate::identity::certificate::{Authority, Usage};
    use crate::identity::sign::{Ed25519Signer, Signer, sign_statement};
    use crate::identity::trust::{ClusterTrust, is_signed_removal};
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
    fn a_certificate_that_is_over_is_made_anew_for_the_same_key() {
        let ca = Ca::create(Validity::days(NOW_S, 10)).unwrap();
        let authority = Authority::new(ca.cluster(), ca.certificate()).unwrap();
        let old = ca.issue(&peer_role(), Validity { from_s: NOW_S - 200, until_s: NOW_S - 100 }).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("peer.crt");
        let certificate = Certificate::parse(&old.certificate).unwrap();
        renew(&ca, &certificate, Validity::days(NOW_S, 10), &to).unwrap();
        let again = renew(&ca, &certificate, Validity::days(NOW_S, 10), &to);
        assert!(matches!(again, Err(IdentityError::Exists { .. })), "{again:?}");
        fs::write(dir.path().join("peer.key"), &old.key_pem).unwrap();
        fs::write(dir.path().join("ca.crt"), &ca.own.certificate_pem).unwrap();
        let file = |name| dir.path().join(name);
        let renewed = Credentials::from_files(to, file("peer.key"), file("ca.crt")).unwrap();
        assert_eq!(renewed.certificate(), &certificate, "key, cluster and role stay");
        assert!(authority.check(&renewed.chain()[0], &[], at(NOW_S), Usage::Serve).is_ok());
        let other = Ca::create(Validity::days(NOW_S, 10)).unwrap();
        assert!(other.renew(&certificate, Validity::days(NOW_S, 10)).is_err(), "of another cluster");
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
        assert!(authority.check_ignoring_time(&peer.certificate, Usage::Serve).is_ok());
        let stranger = Ca::create(Validity::days(NOW_S, 10)).unwrap();
        let same_name = Ca { cluster: ca.cluster(), own: stranger.own.clone() };
        let forged = same_name.issue(&peer_role(), Validity::days(NOW_S, 10)).unwrap();
        let refused = authority.check_ignoring_time(&forged.certificate, Usage::Serve);
        assert!(matches!(refused, Err(CertificateError::Chain { .. })), "another CA of the same name");
    }

    #[test]
    fn only_an_administrator_of_the_whole_cluster_removes_a_peer() {
        let validity = Validity::days(NOW_S, 10);
        let ca = Ca::create(validity).unwrap();
        let trust = ClusterTrust::new(Authority::new(ca.cluster(), ca.certificate()).unwrap());
        let removal_by = |issued: &Issued, cluster| {
            let signer = Ed25519Signer::from_pkcs8(&issued.key_pkcs8).unwrap();
            let (peer, successor, time) = (PeerId([7; 32]), None, Timestamp(1));
            let removal =
                Removal { cluster, peer, successor, time, signer: signer.peer(), ends: RunEnds::new() };
            let signature = sign_statement(&signer, &removal);
            SignedRemoval { removal, signature, certificate: issued.certificate.as_ref().into() }
        };
        let admin = ca.issue(&Role::Client(Rights::all()), validity).unwrap();
        let good = removal_by(&admin, ca.cluster());
        assert!(is_signed_removal(&trust, ca.cluster(), &good));
        // After its certificate has expired that still holds, as what peers sign does.
        let old = Validity { from_s: NOW_S - 100, until_s: NOW_S - 50 };
        let retired = removal_by(&ca.issue(&Role::Client(Rights::all()), old).unwrap(), ca.cluster());
        assert!(is_signed_removal(&trust, ca.cluster(), &retired));
        let some = Rights { prefixes: vec!["jobs".to_owned()], ..Rights::all() };
        let roles = [Role::Client(Rights { admin: false, ..Rights::all() }), Role::Client(some), peer_role()];
        for role in roles {
            let other = removal_by(&ca.issue(&role, validity).unwrap(), ca.cluster());
            assert!(!is_signed_removal(&trust, ca.cluster(), &other), "{role:?}");
        }
        let stranger = Ca::create(validity).unwrap();
        let theirs =
            removal_by(&stranger.issue(&Role::Client(Rights::all()), validity).unwrap(), ca.cluster());
        assert!(!is_signed_removal(&trust, ca.cluster(), &theirs), "another CA");
        let elsewhere = removal_by(&admin, stranger.cluster());
        assert!(!is_signed_removal(&trust, ca.cluster(), &elsewhere), "another cluster");
        let changed = Removal { peer: PeerId([8; 32]), ..good.removal.clone() };
        assert!(!is_signed_removal(&trust, ca.cluster(), &SignedRemoval { removal: changed, ..good }));
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
        for key in [files.ca_key(), files.peer_key(), files.client_key(), files.client_token()] {
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
