//! TLS of the HTTP interface: with the peer's own certificate, or with one that browsers and curl know.
use crate::identity::Credentials;
use crate::server::config::HttpCert;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// What takes connections over TLS where `cert` wants it. Clients show no certificate: they have tokens.
pub fn tls(cert: &HttpCert, credentials: &Credentials) -> Result<Option<TlsAcceptor>, String> {
    let (chain, key) = match cert {
        HttpCert::None => return Ok(None),
        HttpCert::Peer => (credentials.chain().to_vec(), credentials.key_der()),
        HttpCert::Files { cert, key } => (certificates(cert)?, private_key(key)?),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| format!("http_cert and http_key: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match read {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(format!("{}: holds no certificate in PEM", path.display())),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| format!("{}: holds no private key in PEM", path.display()))
}
