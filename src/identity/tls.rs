//! TLS as Conveyor uses it: 1.3 only, both sides with a certificate of the cluster, nothing resumed.
//!
//! Session tickets and 0-RTT are off on both sides: resuming would skip the check of the certificate. The ring
//! provider and the clock are passed in, so nothing depends on a process-wide default and simulated time works.
use crate::identity::certificate::{Authority, Certificate, CertificateError, Usage};
use crate::identity::credentials::Credentials;
use crate::identity::role::Role;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use std::sync::Arc;

/// The application protocol of clients.
pub const ALPN_CLIENT: &[u8] = b"conveyor-client/1";
/// The application protocol between peers.
pub const ALPN_PEER: &[u8] = b"conveyor-peer/1";

/// What a side of a connection accepts.
pub type TlsError = rustls::Error;

/// The configuration of a peer that accepts connections: holders of any certificate of the cluster get in, and
/// what they may do is asked on each request. Refuses credentials that are not a peer's.
pub fn server_config(
    credentials: &Credentials,
    clock: Arc<dyn TimeProvider>,
    protocols: &[&[u8]],
) -> Result<rustls::ServerConfig, TlsError> {
    let cluster = credentials.certificate().cluster;
    credentials.certificate().peer(cluster).map_err(refused)?;
    let verifier = Arc::new(ChainVerifier { authority: credentials.authority().clone() });
    let mut config = rustls::ServerConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(credentials.chain().to_vec(), credentials.key_der())?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// The configuration of whoever opens connections; the other side must be a peer of the same cluster.
pub fn client_config(
    credentials: &Credentials,
    clock: Arc<dyn TimeProvider>,
    protocol: &[u8],
) -> Result<rustls::ClientConfig, TlsError> {
    let verifier = Arc::new(ChainVerifier { authority: credentials.authority().clone() });
    let mut config = rustls::ClientConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(credentials.chain().to_vec(), credentials.key_der())?;
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    Ok(config)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Checks the chain to the cluster's CA, the cluster, and the role; never a host's name.
#[derive(Debug)]
struct ChainVerifier {
    authority: Authority,
}

impl ChainVerifier {
    fn check(
        &self,
        der: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: Usage,
    ) -> Result<Certificate, TlsError> {
        self.authority.check(der, intermediates, now, usage).map_err(refused)
    }
}

fn refused(error: CertificateError) -> TlsError {
    let reason = match error {
        CertificateError::Malformed => rustls::CertificateError::BadEncoding,
        CertificateError::Time { .. } => rustls::CertificateError::Expired,
        CertificateError::Chain { .. } => rustls::CertificateError::UnknownIssuer,
        other => rustls::CertificateError::Other(rustls::OtherError(Arc::new(other))),
    };
    TlsError::InvalidCertificate(reason)
}

fn verify_handshake(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, TlsError> {
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
}

fn no_tls12() -> Result<HandshakeSignatureValid, TlsError> {
    Err(TlsError::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOfferedOrEnabled))
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let certificate = self.check(end_entity, intermediates, now, Usage::Serve)?;
        match certificate.role {
            Role::Peer { .. } => Ok(ServerCertVerified::assertion()),
            Role::Client(_) => Err(refused(CertificateError::WrongRole)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_handshake(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for ChainVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        self.check(end_entity, intermediates, now, Usage::Connect).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_handshake(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
