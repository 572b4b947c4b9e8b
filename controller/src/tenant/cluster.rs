//! One tenant's cluster.

use super::connect;
use crate::{net::Net, store::Cache};
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest, Sha256};
use std::{fmt::Write as _, future::Future, sync::Arc, time::Duration};

#[derive(Debug, thiserror::Error)]
pub enum TenantError {
    #[error("the tenant's kubeconfig is unusable: {0}")]
    Kubeconfig(String),
    #[error("the tenant's API server: {0}")]
    Api(#[from] Box<kube::Error>),
    #[error("the tenant's API server did not answer within {} s", .0.as_secs())]
    Silent(Duration),
}

impl From<kube::Error> for TenantError {
    fn from(error: kube::Error) -> Self {
        TenantError::Api(Box::new(error))
    }
}

/// How long a pass waits for a tenant's API server: the passes of all others wait with it.
pub const TENANT_PATIENCE: Duration = Duration::from_secs(10);

/// Asks a tenant's API server something that must not take long.
pub async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, TenantError>>,
) -> Result<T, TenantError> {
    tokio::time::timeout(patience, work)
        .await
        .unwrap_or(Err(TenantError::Silent(patience)))
}

pub struct TenantCluster {
    pub client: Client,
    /// `host:port` of the API server, as nodes are told.
    pub endpoint: String,
    /// SHA-256 of the CA's public key, in hexadecimal: what `kubeadm join` pins.
    pub ca_hash: String,
    /// Its nodes; namespace empty.
    pub nodes: Arc<Cache<Node>>,
    /// Digest of the kubeconfig that this was made from.
    pub(super) made_from: [u8; 32],
}

impl TenantCluster {
    pub(super) async fn connect(kubeconfig: &str, net: Arc<dyn Net>) -> Result<Self, TenantError> {
        let config = connect::config(kubeconfig).await?;
        let ca = config
            .root_cert
            .as_ref()
            .and_then(|certs| certs.first())
            .ok_or_else(|| TenantError::Kubeconfig("it has no certificate-authority-data".into()))?;
        let ca_hash = spki_hash(ca)?;
        let host = config
            .cluster_url
            .authority()
            .map(|a| {
                if a.port().is_some() {
                    a.to_string()
                } else {
                    format!("{a}:443")
                }
            })
            .ok_or_else(|| TenantError::Kubeconfig("its server has no host".into()))?;
        Ok(TenantCluster {
            client: connect::client(&config, net)?,
            endpoint: host,
            ca_hash,
            nodes: Arc::default(),
            made_from: digest(kubeconfig),
        })
    }
}

pub(super) fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// `certs` holds DER, or PEM where the kubeconfig's own text was kept.
fn spki_hash(cert: &[u8]) -> Result<String, TenantError> {
    let bad = |why: &dyn std::fmt::Display| TenantError::Kubeconfig(format!("its CA certificate: {why}"));
    let der = match CertificateDer::from_pem_slice(cert) {
        Ok(der) => der.to_vec(),
        Err(_) => cert.to_vec(),
    };
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|e| bad(&e))?;
    let mut hex = String::new();
    for byte in Sha256::digest(parsed.tbs_certificate.subject_pki.raw) {
        let _ = write!(hex, "{byte:02x}");
    }
    Ok(hex)
}
