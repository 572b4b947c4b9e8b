//! A self-signed certificate for a BMC that has no other, as real ones ship with.

use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot make a self-signed certificate for {names:?}: {source}")]
    Certificate {
        names: Vec<String>,
        source: rcgen::Error,
    },
    #[error("cannot configure TLS: {0}")]
    Config(#[from] rustls::Error),
}

/// A TLS configuration with a fresh self-signed certificate for `names` (DNS names or IP addresses). HTTP/1.1 only, as
/// BMCs speak it.
pub fn self_signed(names: &[String], common_name: &str) -> Result<Arc<ServerConfig>, TlsError> {
    let failed = |source| TlsError::Certificate {
        names: names.to_vec(),
        source,
    };
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key).map_err(failed)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    // Full handshakes only: thousands of configurations must not hold a cache each.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
