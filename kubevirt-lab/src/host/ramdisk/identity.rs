//! The agent's own TLS identity: an EC P-384 key and a self-signed certificate for its one address, made anew at each start
//! (ipa `tls_utils.py`). The key never leaves this module but inside rustls' configuration.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P384_SHA384, SanType};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Valid from an hour ago (clocks differ) for 30 days, as IPA's.
const BACKDATE: Duration = Duration::from_secs(3600);
const VALIDITY: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Debug, thiserror::Error)]
pub(super) enum IdentityError {
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// A configuration to serve with, and the certificate for the heartbeat.
pub(super) struct Identity {
    pub(super) tls: Arc<ServerConfig>,
    pub(super) certificate_pem: String,
}

/// Makes key and certificate.
pub(super) fn make(hostname: &str, address: IpAddr, now: jiff::Timestamp) -> Result<Identity, IdentityError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, hostname);
    params.subject_alt_names = vec![SanType::IpAddress(address)];
    // No basic constraints, as IPA's: the service trusts it as an anchor and meets it as an end entity, and webpki refuses
    // a CA in that place.
    let from =
        std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default());
    let from = from - BACKDATE;
    params.not_before = from.into();
    params.not_after = (from + VALIDITY).into();
    let certificate = params.self_signed(&key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Identity {
        tls: Arc::new(tls),
        certificate_pem: certificate.pem(),
    })
}
