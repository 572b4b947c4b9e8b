//! TLS bootstrap: a key that never leaves the machine, a certificate request with the token, the signed certificate.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::super::join::{BOOTSTRAP, KUBELET_CONF, kubeconfig};
use super::super::kube::Client;
use super::super::os::Os;
use super::super::tls;
use super::{AGENT, CLIENT_PEM, Kubeconfig, KubeletError};

const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";

pub(super) async fn run(os: &Arc<Os>, node: &str) -> Result<(), KubeletError> {
    let config = Kubeconfig::read(os, BOOTSTRAP)?;
    let tls = tls::roots(&config.ca, None, &os.chassis.clock)?;
    let client = Client::new(
        os.net.clone(),
        &config.server,
        &tls,
        config.bearer,
        AGENT,
        os.chassis.timing.http,
    )?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let name = request(&client, &key, node).await?;
    os.chassis
        .say(format!("kubelet: waiting for certificate request {name}"));
    let certificate = wait(os, &client, &name).await?;
    let pem = format!("{certificate}{}", key.serialize_pem());
    os.fs.write(CLIENT_PEM, pem.as_bytes())?;
    let user = json!({ "client-certificate": CLIENT_PEM, "client-key": CLIENT_PEM });
    // Last: with this file the machine counts as joined.
    os.fs
        .write(KUBELET_CONF, kubeconfig(config.server.as_str(), &user).as_bytes())?;
    Ok(())
}

/// Posts the request; its name comes from the key, so that a repeated one is the same object.
async fn request(client: &Client, key: &KeyPair, node: &str) -> Result<String, KubeletError> {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "system:nodes");
    subject.push(DnType::CommonName, format!("system:node:{node}"));
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = subject;
    let pem = params.serialize_request(key)?.pem()?;
    let digest = Sha256::digest(key.public_key_raw());
    let name: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!("node-csr-{name}");
    let body = json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": { "name": name },
        // EC keys sign, they do not encipher: no third usage.
        "spec": { "request": STANDARD.encode(pem), "signerName": SIGNER, "usages": ["digital signature", "client auth"] },
    });
    match client.post(CSRS, &body).await {
        Ok(_) => Ok(name),
        Err(error) if error.is(StatusCode::CONFLICT) => Ok(name),
        Err(error) => Err(error.into()),
    }
}

async fn wait(os: &Os, client: &Client, name: &str) -> Result<String, KubeletError> {
    let refused = |reason: String| KubeletError::Csr {
        name: name.to_owned(),
        reason,
    };
    let start = Instant::now();
    while start.elapsed() < os.chassis.timing.csr_wait {
        let csr = client.get(&format!("{CSRS}/{name}")).await?;
        let conditions = csr["status"]["conditions"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        if let Some(condition) = conditions
            .iter()
            .find(|c| c["type"] == "Denied" || c["type"] == "Failed")
        {
            return Err(refused(format!(
                "{}: {}",
                text(&condition["type"]),
                text(&condition["message"])
            )));
        }
        if let Some(certificate) = csr["status"]["certificate"].as_str() {
            let pem = STANDARD
                .decode(certificate)
                .map_err(|error| refused(error.to_string()))?;
            return String::from_utf8(pem).map_err(|_| refused("the certificate is not PEM".to_owned()));
        }
        sleep(os.chassis.timing.csr_poll).await;
    }
    Err(refused(format!(
        "no certificate within {:?}",
        os.chassis.timing.csr_wait
    )))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
