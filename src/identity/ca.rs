//! A cluster's CA and the certificates it stands behind: keys, validity, names, and nothing else in them.
//!
//! Certificates follow from their inputs: the serial number from key and validity, the issuer's name from the cluster.
//! Only keys are drawn. Times come in as Unix seconds: nothing here reads a clock.
#![expect(clippy::disallowed_methods, reason = "keys and certificates are not on the peer's disk of logs")]
use crate::base::{ClusterId, Digest, PeerId};
use crate::identity::certificate::{Certificate, CertificateError};
use crate::identity::credentials::{Credentials, IdentityError, IdentityFiles, file_error};
use crate::identity::role::Role;
use crate::identity::sign::{Ed25519Signer, KeyError, Signer, generate_pkcs8};
use rcgen::SignatureAlgorithm;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType, SerialNumber};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::fs;

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
    pub(super) certificate_pem: String,
    pub(super) key_pem: String,
}

impl Issued {
    /// As credentials under `ca`.
    pub fn credentials(&self, ca: &CertificateDer<'static>) -> Result<Credentials, IdentityError> {
        Credentials::new(vec![self.certificate.clone()], self.key_pkcs8.clone(), ca.clone())
    }
}

/// A cluster's CA with its key: whoever holds it decides who belongs to the cluster.
pub struct Ca {
    pub(super) cluster: ClusterId,
    pub(super) own: Issued,
}

impl Ca {
    /// Draws a new cluster and its CA from the operating system.
    pub fn create(validity: Validity) -> Result<Self, IdentityError> {
        let mut cluster = ClusterId::default();
        SystemRandom::new().fill(&mut cluster.0).map_err(|_| KeyError)?;
        let key_pkcs8 = generate_pkcs8()?;
        let (params, pair) = (ca_params(cluster, key_of(&key_pkcs8)?, validity)?, key_pair(&key_pkcs8)?);
        let certificate = params.self_signed(&pair).map_err(make_error)?;
        Ok(Self { cluster, own: issued(&certificate, &pair, key_pkcs8) })
    }

    /// Reads the CA that [`create_cluster`](crate::identity::create_cluster) left in `files`.
    pub fn load(files: &IdentityFiles) -> Result<Self, IdentityError> {
        let (certificate_path, key_path) = (files.ca_certificate(), files.ca_key());
        let certificate_pem = fs::read_to_string(&certificate_path).map_err(file_error(&certificate_path))?;
        let key_pem = fs::read_to_string(&key_path).map_err(file_error(&key_path))?;
        let pair = KeyPair::from_pkcs8_pem_and_sign_algo(&key_pem, &PKCS_ED25519).map_err(|_| KeyError)?;
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
        let certificate = self.sign(role, key_of(&key_pkcs8)?, &pair, validity)?;
        Ok(issued(&certificate, &pair, key_pkcs8))
    }

    /// Makes another certificate for the holder of one: the same key and role, another validity. Answers PEM. The old one
    /// may be over; it must be of this cluster.
    pub fn renew(&self, certificate: &Certificate, validity: Validity) -> Result<String, IdentityError> {
        if certificate.cluster != self.cluster {
            return Err(CertificateError::Cluster { cluster: certificate.cluster }.into());
        }
        let holder = Holder(certificate.key);
        Ok(self.sign(&certificate.role, certificate.key, &holder, validity)?.pem())
    }

    fn sign(
        &self,
        role: &Role,
        key: PeerId,
        holder: &impl PublicKeyData,
        validity: Validity,
    ) -> Result<rcgen::Certificate, IdentityError> {
        let own_pair = key_pair(&self.own.key_pkcs8)?;
        // The issuer's name is all that is taken from these; its validity plays no part.
        let own_params = ca_params(self.cluster, key_of(&self.own.key_pkcs8)?, validity)?;
        let params = leaf_params(self.cluster, role, key, validity)?;
        let issuer = Issuer::from_params(&own_params, &own_pair);
        params.signed_by(holder, &issuer).map_err(make_error)
    }
}

/// A public key whose private half is elsewhere.
struct Holder(PeerId);

impl PublicKeyData for Holder {
    fn der_bytes(&self) -> &[u8] {
        &self.0.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

fn key_of(pkcs8: &[u8]) -> Result<PeerId, IdentityError> {
    Ok(Ed25519Signer::from_pkcs8(pkcs8)?.peer())
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

fn params(name: String, key: PeerId, validity: Validity) -> Result<CertificateParams, IdentityError> {
    let date = |seconds: u64| {
        i64::try_from(seconds)
            .ok()
            .and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok())
            .ok_or(IdentityError::Make { reason: format!("there is no date {seconds} s after 1970") })
    };
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (date(validity.from_s)?, date(validity.until_s)?);
    params.serial_number = Some(serial(key, validity));
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

fn ca_params(
    cluster: ClusterId,
    key: PeerId,
    validity: Validity,
) -> Result<CertificateParams, IdentityError> {
    let mut params = params(format!("Conveyor cluster {cluster}"), key, validity)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn leaf_params(
    cluster: ClusterId,
    role: &Role,
    key: PeerId,
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

pub(super) fn read_cluster(files: &IdentityFiles) -> Result<ClusterId, IdentityError> {
    let path = files.cluster();
    let text = fs::read_to_string(&path).map_err(file_error(&path))?;
    ClusterId::parse(text.trim()).ok_or(IdentityError::Pem { path, what: "cluster id (32 hex digits)" })
}
