//! The cluster's certificate authority, and what it signs: serving, client and CSR certificates.
//!
//! Keys are P-256 from ring's randomness (key material is never part of a replayed log); serials come from
//! the server's seeded generator.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use thiserror::Error;

use crate::Now;
use crate::random::Random;

/// Certificates of the server itself outlive any simulated clock: 2000 to 2120.
const LONG_FROM: (i32, u8, u8) = (2000, 1, 1);
const LONG_TO: (i32, u8, u8) = (2120, 1, 1);
/// kube-controller-manager backdates by 5 minutes and signs for one year.
const BACKDATE_SECONDS: i64 = 300;
pub(crate) const MAX_CERTIFICATE_GROUPS: usize = 2;
pub(crate) const SIGNED_SECONDS: i64 = 365 * 86400;

#[derive(Debug, Error)]
pub(crate) enum PkiError {
    #[error("the certificate library refused: {0}")]
    Rcgen(#[from] rcgen::Error),
    #[error("TLS configuration: {0}")]
    Tls(#[from] rustls::Error),
    #[error("client certificate verifier: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

pub(crate) struct Pki {
    ca_pem: String,
    ca_der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

pub(crate) struct Leaf {
    pub(crate) pem: String,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) key: KeyPair,
}

fn base_params(common_name: &str, organisation: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    if let Some(organisation) = organisation {
        subject.push(DnType::OrganizationName, organisation);
    }
    subject.push(DnType::CommonName, common_name);
    params.distinguished_name = subject;
    params.not_before = rcgen::date_time_ymd(LONG_FROM.0, LONG_FROM.1, LONG_FROM.2);
    params.not_after = rcgen::date_time_ymd(LONG_TO.0, LONG_TO.1, LONG_TO.2);
    params
}

impl Pki {
    pub(crate) fn new(random: &Random) -> Result<Pki, PkiError> {
        let mut params = base_params("kubernetes", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyCertSign,
        ];
        params.serial_number = Some(SerialNumber::from_slice(&random.serial()));
        let key = KeyPair::generate()?;
        let ca = params.self_signed(&key)?;
        Ok(Pki {
            ca_pem: ca.pem(),
            ca_der: ca.der().clone(),
            issuer: Issuer::new(params, key),
        })
    }

    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    fn leaf(&self, mut params: CertificateParams, random: &Random) -> Result<Leaf, PkiError> {
        params.serial_number = Some(SerialNumber::from_slice(&random.serial()));
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Leaf {
            pem: cert.pem(),
            der: cert.der().clone(),
            key,
        })
    }

    /// A client certificate: CN is the user, each O a group.
    ///
    /// rcgen keeps one value per attribute type. A second group fits under a custom type with the same OID;
    /// callers with more than [`MAX_CERTIFICATE_GROUPS`] groups use a token.
    pub(crate) fn client(&self, user: &str, groups: &[&str], random: &Random) -> Result<Leaf, PkiError> {
        let mut params = base_params(user, groups.first().copied());
        if let Some(second) = groups.get(1) {
            params
                .distinguished_name
                .push(DnType::CustomDnType(vec![2, 5, 4, 10]), *second);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.leaf(params, random)
    }

    pub(crate) fn serving(&self, sans: &[String], random: &Random) -> Result<Leaf, PkiError> {
        let mut params = base_params("kube-apiserver", None);
        params.subject_alt_names = CertificateParams::new(sans.to_vec())?.subject_alt_names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.leaf(params, random)
    }

    /// Signs a PEM request as `kubernetes.io/kube-apiserver-client*` and `kubelet-serving` are signed.
    pub(crate) fn sign_request(&self, ask: &SignRequest<'_>, random: &Random) -> Result<String, PkiError> {
        let mut csr = CertificateSigningRequestParams::from_pem(ask.request_pem)?;
        csr.params.distinguished_name = ordered(&csr.params.distinguished_name);
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let from = (ask.now.as_second() - BACKDATE_SECONDS).max(0);
        let to = (ask.now.as_second() + ask.seconds).max(0);
        csr.params.not_before = epoch + Duration::from_secs(from.unsigned_abs());
        csr.params.not_after = epoch + Duration::from_secs(to.unsigned_abs());
        csr.params.is_ca = IsCa::ExplicitNoCa;
        csr.params.use_authority_key_identifier_extension = true;
        csr.params.serial_number = Some(SerialNumber::from_slice(&random.serial()));
        csr.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if ask.usages.contains(&"key encipherment") {
            csr.params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
        }
        csr.params.extended_key_usages = Vec::new();
        for (usage, purpose) in [
            ("client auth", ExtendedKeyUsagePurpose::ClientAuth),
            ("server auth", ExtendedKeyUsagePurpose::ServerAuth),
        ] {
            if ask.usages.contains(&usage) {
                csr.params.extended_key_usages.push(purpose);
            }
        }
        Ok(csr.signed_by(&self.issuer)?.pem())
    }

    /// TLS 1.2 and 1.3, client certificates of this CA asked for but not demanded, checked at `now`.
    pub(crate) fn tls(
        &self,
        sans: &[String],
        now: Now,
        random: &Random,
    ) -> Result<Arc<rustls::ServerConfig>, PkiError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.ca_der.clone())?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()?;
        let leaf = self.serving(sans, random)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf.key.serialize_der()));
        let chain = vec![leaf.der.clone(), self.ca_der.clone()];
        let mut config = rustls::ServerConfig::builder_with_details(provider, Arc::new(InjectedTime(now)))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The order in which Go writes a subject: organization first, common name last.
fn ordered(name: &DistinguishedName) -> DistinguishedName {
    let mut out = DistinguishedName::new();
    let rank = |kind: &DnType| match kind {
        DnType::OrganizationName => 0,
        DnType::CommonName => 2,
        _ => 1,
    };
    let mut parts: Vec<_> = name.iter().collect();
    parts.sort_by_key(|(kind, _)| rank(kind));
    for (kind, value) in parts {
        out.push(kind.clone(), value.clone());
    }
    out
}

pub(crate) struct SignRequest<'a> {
    pub(crate) request_pem: &'a str,
    pub(crate) usages: &'a [&'a str],
    pub(crate) now: Timestamp,
    pub(crate) seconds: i64,
}

struct InjectedTime(Now);

impl std::fmt::Debug for InjectedTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InjectedTime")
    }
}

impl TimeProvider for InjectedTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from((self.0)().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}
