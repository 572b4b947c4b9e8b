//! A tester's own seat in the services network: how a test asks a tenant's API what it would tell its user.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::Request;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::Value;
use sim_fabric::FabricHandle;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use steelyard_controller::{Listener, Net, Stream, Udp, http_client::HttpClient, tasks::Tasks};
use steelyard_lab::{
    lab::Lab,
    net::{Address, Mac, Stack, StackConfig},
    world::FabricNet,
};
use tokio::sync::OnceCell;

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
        let decoded =
            |text: &Value| -> Vec<u8> { BASE64.decode(text.as_str().unwrap_or_default()).expect("base64") };
        let mut roots = RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(&decoded(&cluster["certificate-authority-data"])) {
            roots.add(cert.expect("a CA")).expect("a CA");
        }
        let chain = decoded(&user["client-certificate-data"]);
        let chain = CertificateDer::pem_slice_iter(&chain)
            .collect::<Result<Vec<_>, _>>()
            .expect("a certificate");
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
        let request = Request::get(format!("{}{path}", self.url))
            .body(Bytes::new())
            .expect("a request");
        let answer = self
            .http
            .send(request)
            .await
            .unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(
            answer.status(),
            200,
            "{path}: {}",
            String::from_utf8_lossy(answer.body())
        );
        let mut list: Value = serde_json::from_slice(answer.body()).expect("JSON");
        match list["items"].take() {
            Value::Array(items) => items,
            other => panic!("{path} has no items but {other}"),
        }
    }
}

fn seat(lab: &Lab, tasks: &Tasks) -> Stack {
    let [a, b, c, _] = lab.networks.services.addr().octets();
    let seat = Seat {
        network: "services",
        address: Ipv4Addr::new(a, b, c, SEAT),
        gateway: None,
        mac: 0xfe,
    };
    seat.take(lab.fabric.clone(), tasks)
}

/// A place in a network, and what stands there.
#[derive(Clone, Copy)]
struct Seat {
    network: &'static str,
    address: Ipv4Addr,
    gateway: Option<Ipv4Addr>,
    mac: u8,
}

impl Seat {
    fn take(self, fabric: FabricHandle, tasks: &Tasks) -> Stack {
        let port = fabric.attach_network(self.network).expect("the network");
        let [_, _, third, last] = self.address.octets();
        let stack = Stack::new(StackConfig::new(
            Mac([0x52, 0x54, 0xff, self.mac, third, last]),
            u64::from(self.mac),
        ));
        stack
            .set_addresses(vec![Address {
                ip: self.address,
                prefix: 24,
            }])
            .expect("one address");
        stack.set_default_route(self.gateway);
        let driven = stack.clone();
        tasks.spawn("tester's stack", async move { driven.run(port).await });
        stack
    }
}

/// A network that is entered when it is first used: a replica in waiting does not have the leader's address.
pub(crate) struct Late {
    fabric: FabricHandle,
    seat: Seat,
    tasks: Tasks,
    net: OnceCell<FabricNet>,
}

impl Late {
    pub(crate) fn provisioning(lab: &Lab, tasks: &Tasks) -> Arc<dyn Net> {
        let seat = Seat {
            network: "provisioning",
            address: lab.networks.vip,
            gateway: None,
            mac: 0xfd,
        };
        Late::at(lab, tasks, seat)
    }

    pub(crate) fn services(lab: &Lab, tasks: &Tasks) -> Arc<dyn Net> {
        let SocketAddr::V4(join) = lab.networks.join else {
            panic!("an IPv4 address")
        };
        let gateway = Some(lab.networks.services.addr());
        Late::at(
            lab,
            tasks,
            Seat {
                network: "services",
                address: *join.ip(),
                gateway,
                mac: 0xfd,
            },
        )
    }

    fn at(lab: &Lab, tasks: &Tasks, seat: Seat) -> Arc<dyn Net> {
        Arc::new(Late {
            fabric: lab.fabric.clone(),
            seat,
            tasks: tasks.clone(),
            net: OnceCell::new(),
        })
    }

    async fn net(&self) -> &FabricNet {
        self.net
            .get_or_init(|| async { FabricNet::new(self.seat.take(self.fabric.clone(), &self.tasks)) })
            .await
    }
}

impl Net for Late {
    fn udp(&self, bind: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Udp>>> {
        Box::pin(async move { self.net().await.udp(bind).await })
    }

    fn listen(&self, bind: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move { self.net().await.listen(bind).await })
    }

    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move { self.net().await.connect(to).await })
    }
}
