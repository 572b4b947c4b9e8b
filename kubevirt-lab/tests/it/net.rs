//! A tester's own seat in the services network: how a test asks a tenant's API what it would tell its user.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use http::Request;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::Value;
use std::{net::Ipv4Addr, sync::Arc, time::Duration};
use steelyard_controller::{http_client::HttpClient, tasks::Tasks};
use steelyard_lab::{
    lab::Lab,
    net::{Address, Mac, Stack, StackConfig},
    world::FabricNet,
};

/// Above the addresses that the lab gives to tenants (.2 to .250), below the join service (.254).
const SEAT: u8 = 253;

/// A client of one tenant's API, over the fabric.
pub(crate) struct TenantApi {
    http: HttpClient,
    url: String,
}

impl TenantApi {
    pub(crate) fn new(lab: &Lab, kubeconfig: &str, tasks: &Tasks) -> TenantApi {
        let config: Value = serde_saphyr::from_str(kubeconfig).expect("a kubeconfig");
        let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
        let decoded = |text: &Value| -> Vec<u8> {
            BASE64.decode(text.as_str().unwrap_or_default()).expect("base64")
        };
        let mut roots = RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(&decoded(&cluster["certificate-authority-data"])) {
            roots.add(cert.expect("a CA")).expect("a CA");
        }
        let chain = decoded(&user["client-certificate-data"]);
        let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>().expect("a certificate");
        let key = decoded(&user["client-key-data"]);
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&key).expect("a key"))
            .expect("a client certificate");
        let net = Arc::new(FabricNet::new(seat(lab, tasks)));
        TenantApi {
            http: HttpClient::new(net, Arc::new(tls), Duration::from_secs(10)),
            url: cluster["server"].as_str().expect("a server").to_owned(),
        }
    }

    /// The items of a list, such as `/api/v1/nodes`.
    pub(crate) async fn list(&self, path: &str) -> Vec<Value> {
        let request = Request::get(format!("{}{path}", self.url)).body(Bytes::new()).expect("a request");
        let answer = self.http.send(request).await.unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(answer.status(), 200, "{path}: {}", String::from_utf8_lossy(answer.body()));
        let mut list: Value = serde_json::from_slice(answer.body()).expect("JSON");
        match list["items"].take() {
            Value::Array(items) => items,
            other => panic!("{path} has no items but {other}"),
        }
    }
}

fn seat(lab: &Lab, tasks: &Tasks) -> Stack {
    let [a, b, c, _] = lab.networks.services.addr().octets();
    let port = lab.fabric.attach_network("services").expect("the services network");
    let stack = Stack::new(StackConfig::new(Mac([0x52, 0x54, 0xff, 0xfe, 0, SEAT]), u64::from(SEAT)));
    let address = Address { ip: Ipv4Addr::new(a, b, c, SEAT), prefix: lab.networks.services.prefix_len() };
    stack.set_addresses(vec![address]).expect("one address");
    let driven = stack.clone();
    tasks.spawn("tester's stack", async move { driven.run(port).await });
    stack
}
