//! The OS joins a real (embedded) API server: config drive, runcmd, the fetched script, TLS bootstrap, reboot.

use std::collections::BTreeMap;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sim_bmc::{BootProgress, Machine, MachineCommand};
use sim_kube::{ApiServer, Options};
use std::net::SocketAddrV4;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::site::{Site, VIP};
use super::{clock, config_drive, host, install, within};

const TOKEN: &str = "abcdef.0123456789abcdef";

/// The shape of the controller's script: what a real machine needs, guarded, and the join line.
fn script(hash: &str) -> String {
    format!(
        r#"#!/bin/sh
# Makes this machine a node. Safe to run again.
set -eu
if ! command -v kubeadm >/dev/null 2>&1; then
  if command -v apt-get >/dev/null 2>&1; then
    curl -fsSL https://pkgs.k8s.io/core:/stable:/v1.34/deb/Release.key | gpg --dearmor --yes -o /etc/k.gpg
    apt-get install -q -y kubelet kubeadm
  else
    echo 'join: no kubeadm' >&2
    exit 1
  fi
  cat > /etc/yum.repos.d/kubernetes.repo <<'EOT'
[kubernetes]
name=$Kubernetes
EOT
fi

mkdir -p /etc/modules-load.d /etc/sysctl.d /etc/default
cat > /etc/modules-load.d/lab.conf <<'EOT'
overlay
br_netfilter
EOT
modprobe overlay
sysctl --system >/dev/null
cat > /etc/default/kubelet <<'EOT'
KUBELET_EXTRA_ARGS="--node-labels=rack=r1,topology.kubernetes.io/zone=z1 --register-with-taints=fresh:NoExecute --provider-id=metal3://ns/host-1"
EOT
systemctl enable kubelet

kubeadm join {VIP}:6443 --token {TOKEN} --discovery-token-ca-cert-hash {hash} --node-name node-1
"#
    )
}

fn ca_hash(pem: &str) -> String {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    let digest = Sha256::digest(pem.parse_x509().unwrap().public_key().raw);
    format!(
        "sha256:{}",
        digest
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    )
}

/// An administrator of the cluster, without a socket.
struct Admin(ApiServer);

impl Admin {
    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(Full::new(bytes::Bytes::from(
                body.map(|body| body.to_string()).unwrap_or_default(),
            )))
            .unwrap();
        let answer = self
            .0
            .as_user("admin", &["system:masters"])
            .oneshot(request)
            .await
            .unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn token(&self) {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
            "metadata": { "name": "bootstrap-token-abcdef", "namespace": "kube-system" },
            "stringData": {
                "token-id": "abcdef", "token-secret": "0123456789abcdef",
                "usage-bootstrap-signing": "true", "usage-bootstrap-authentication": "true",
                "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
            },
        });
        let (status, answer) = self
            .call("POST", "/api/v1/namespaces/kube-system/secrets", Some(secret))
            .await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
    }

    /// Polls, in the clock's time, until the node is as wanted.
    async fn node(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (_, node) = self.call("GET", "/api/v1/nodes/node-1", None).await;
            if wanted(&node) {
                return node;
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    }

    async fn lease(&self) -> String {
        let path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1";
        let (_, lease) = self.call("GET", path, None).await;
        lease["spec"]["renewTime"].as_str().unwrap_or_default().to_owned()
    }
}

fn ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions.is_some_and(|list| list.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

fn cluster() -> ApiServer {
    let mut options = Options::new(clock());
    options.sans.push(VIP.to_string());
    options.advertise_url = format!("https://{VIP}:6443");
    ApiServer::new(options)
}

/// Serves the cluster's API on 6443 and `/node/join` by TLS on 443.
async fn serve(site: &Site, server: &ApiServer) {
    let api = site.stack.tcp_listen(SocketAddrV4::new(VIP, 6443), 16).unwrap();
    let join = site.stack.tcp_listen(SocketAddrV4::new(VIP, 443), 4).unwrap();
    let self_signed = TlsAcceptor::from(sim_bmc::self_signed(&[VIP.to_string()], "join").unwrap());
    let mut calls = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = api.accept() => {
                let (server, stream) = (server.clone(), accepted.unwrap().0);
                calls.push(Box::pin(async move {
                    let _ = sim_kube::serve_connection(server.clone(), server.tls(), stream).await;
                }) as std::pin::Pin<Box<dyn Future<Output = ()> + '_>>);
            }
            accepted = join.accept() => {
                let (tls, stream) = (self_signed.clone(), accepted.unwrap().0);
                calls.push(Box::pin(async move {
                    if let Ok(stream) = tls.accept(stream).await {
                        site.answer(stream).await;
                    }
                }));
            }
            Some(()) = calls.next() => {}
        }
    }
}

fn drive_files(user_data: &str) -> Vec<(&'static str, String)> {
    let network = json!({
        "links": [{ "id": "eth0", "type": "phy", "ethernet_mac_address": "52:54:00:00:00:01" }],
        "networks": [{ "id": "n", "type": "ipv4", "link": "eth0", "ip_address": "192.168.100.77",
            "netmask": "255.255.255.0", "routes": [] }],
        "services": [],
    });
    let meta = json!({ "uuid": "i-1", "local-hostname": "host-1" });
    vec![
        ("meta_data.json", meta.to_string()),
        ("network_data.json", network.to_string()),
        ("user_data", user_data.to_owned()),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_booted_disk_joins_with_the_token_it_was_given_and_stays_a_node() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (host, cable) = host();
    let server = cluster();
    let admin = Admin(server.clone());
    let mut site = Site::new();
    let path = format!("/node/join?token={TOKEN}");
    site.http = BTreeMap::from([(path.clone(), script(&ca_hash(&server.ca_pem())).into_bytes())]);
    install(&host.disks()[0]);
    let user_data = format!(
        "#cloud-config\nwrite_files:\n- path: /root/marker\n  content: tenant-was-here\nruncmd:\n\
         - echo once >> /root/count\n- curl -fsSLk \"https://{VIP}{path}\" | sh -\n"
    );
    let files = drive_files(&user_data);
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    config_drive(&host.disks()[1], &files);
    let test = async {
        admin.token().await;
        host.apply(MachineCommand::On).await.unwrap();
        let node = within(&host, 120, "node Ready", admin.node(ready)).await;
        let labels = &node["metadata"]["labels"];
        assert_eq!(
            (&labels["rack"], &labels["topology.kubernetes.io/zone"]),
            (&json!("r1"), &json!("z1"))
        );
        assert_eq!(node["spec"]["providerID"], "metal3://ns/host-1");
        let fresh = json!({ "key": "fresh", "effect": "NoExecute" });
        let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        assert!(
            taints
                .iter()
                .any(|t| t["key"] == fresh["key"] && t["effect"] == fresh["effect"]),
            "{taints:?}"
        );
        assert_eq!(node["status"]["capacity"]["cpu"], "128");
        assert_eq!(node["status"]["addresses"][0]["address"], "192.168.100.77");
        assert!(
            host.disks()[0].find(b"tenant-was-here").is_some(),
            "the marker is on the disk"
        );
        assert!(
            !host.console().contains("0123456789abcdef"),
            "the token must not be printed:\n{}",
            host.console()
        );
        let first = within(&host, 60, "a lease", async {
            loop {
                let lease = admin.lease().await;
                if !lease.is_empty() {
                    return lease;
                }
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        })
        .await;

        // Reboot: the certificate is on the disk; the kubelet comes back without runcmd.
        host.apply(MachineCommand::GracefulRestart).await.unwrap();
        within(
            &host,
            60,
            "the second boot",
            host.status().wait_for(|s| s.boots == 2),
        )
        .await
        .unwrap();
        let up =
            |s: &super::super::HostStatus| s.boots == 2 && s.state.boot_progress == BootProgress::OsRunning;
        within(&host, 60, "the OS", host.status().wait_for(up))
            .await
            .unwrap();
        within(&host, 60, "a renewed lease", async {
            while admin.lease().await <= first {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        })
        .await;
        let joins = site
            .seen
            .borrow()
            .iter()
            .filter(|line| line.contains("/node/join"))
            .count();
        assert_eq!(joins, 1, "runcmd ran again");
    };
    tokio::select! {
        biased;
        () = test => {}
        () = host.run(None) => panic!("the machine's run ended"),
        () = site.stack.run(cable) => panic!("the cable ended"),
        () = serve(&site, &server) => panic!("the site ended"),
        () = server.run() => panic!("the cluster ended"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_pin_or_an_unknown_token_joins_nothing() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    for (wrong_pin, token_known, expected) in [
        (true, true, "is pinned"),
        (false, false, "there is no JWS signature for token ID"),
    ] {
        let (host, cable) = host();
        let server = cluster();
        let admin = Admin(server.clone());
        let mut site = Site::new();
        let hash = if wrong_pin {
            format!("sha256:{}", "0".repeat(64))
        } else {
            ca_hash(&server.ca_pem())
        };
        site.http
            .insert("/node/join".to_owned(), script(&hash).into_bytes());
        install(&host.disks()[0]);
        let user_data = format!("#cloud-config\nruncmd:\n- curl -fsSLk https://{VIP}/node/join | sh -\n");
        let files = drive_files(&user_data);
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        config_drive(&host.disks()[1], &files);
        let test = async {
            if token_known {
                admin.token().await;
            }
            host.apply(MachineCommand::On).await.unwrap();
            within(&host, 120, expected, host.console().wait_for(expected)).await;
            within(
                &host,
                120,
                "the end",
                host.console().wait_for("runcmd failed with exit status 1"),
            )
            .await;
            let (status, _) = admin.call("GET", "/api/v1/nodes/node-1", None).await;
            assert_eq!(status, StatusCode::NOT_FOUND);
        };
        tokio::select! {
            biased;
            () = test => {}
            () = host.run(None) => panic!("the machine's run ended"),
            () = site.stack.run(cable) => panic!("the cable ended"),
            () = serve(&site, &server) => panic!("the site ended"),
            () = server.run() => panic!("the cluster ended"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_join_endpoint_is_not_run_as_a_script() {
    let (host, cable) = host();
    let site = Site::new();
    let server = cluster();
    install(&host.disks()[0]);
    let user_data =
        format!("#cloud-config\nruncmd:\n- curl -fsSLk https://{VIP}/node/join | sh -\n- nonsense\n");
    let files = drive_files(&user_data);
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    config_drive(&host.disks()[1], &files);
    let test = async {
        host.apply(MachineCommand::On).await.unwrap();
        let failed = "runcmd failed with exit status 127";
        within(&host, 120, failed, host.console().wait_for(failed)).await;
        assert!(
            host.console()
                .contains("curl: (22) The requested URL returned error: 404"),
            "{}",
            host.console()
        );
        assert!(
            host.console().contains("sh: 3: nonsense: not found"),
            "{}",
            host.console()
        );
    };
    tokio::select! {
        biased;
        () = test => {}
        () = host.run(None) => panic!("the machine's run ended"),
        () = site.stack.run(cable) => panic!("the cable ended"),
        () = serve(&site, &server) => panic!("the site ended"),
    }
}
