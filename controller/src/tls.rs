//! Whom we trust when we connect: a site's CA, one pinned certificate, or, where a user said so, anyone.

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("{what} holds no certificate in PEM form: {why}")]
    Pem { what: String, why: String },
    #[error("can't set up TLS")]
    Tls(#[from] Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()
}

/// Certificates signed by one of the CAs in `pem`, for the right name. `what` names the file in errors.
pub fn trust_ca(pem: &str, what: &str) -> Result<Arc<ClientConfig>, TrustError> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let cert = cert.map_err(|e| TrustError::Pem {
            what: what.into(),
            why: e.to_string(),
        })?;
        roots.add(cert)?;
    }
    if roots.is_empty() {
        return Err(TrustError::Pem {
            what: what.into(),
            why: "no CERTIFICATE block".into(),
        });
    }
    Ok(Arc::new(
        builder()?.with_root_certificates(roots).with_no_client_auth(),
    ))
}

/// Certificates signed by a CA of the operating system's list.
pub fn trust_public() -> Result<Arc<ClientConfig>, TrustError> {
    let mut roots = RootCertStore::empty();
    // Single certificates that can't be read are no reason to trust none of the others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Ok(Arc::new(
        builder()?.with_root_certificates(roots).with_no_client_auth(),
    ))
}

/// Exactly this certificate, whatever it says of names and dates.
pub fn trust_pinned(cert: CertificateDer<'static>) -> Result<Arc<ClientConfig>, TrustError> {
    with_verifier(Verifier {
        pinned: Some(cert),
        provider: provider(),
    })
}

/// Any certificate: `disableCertificateVerification: true`.
pub fn trust_anyone() -> Result<Arc<ClientConfig>, TrustError> {
    with_verifier(Verifier {
        pinned: None,
        provider: provider(),
    })
}

fn with_verifier(verifier: Verifier) -> Result<Arc<ClientConfig>, TrustError> {
    Ok(Arc::new(
        builder()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth(),
    ))
}

/// Checks that the peer holds the key of its certificate, and, if pinned, that it is the pinned one.
#[derive(Debug)]
struct Verifier {
    pinned: Option<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.pinned {
            Some(pinned) if pinned != end_entity => Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            )),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
