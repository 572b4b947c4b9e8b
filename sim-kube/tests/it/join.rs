//! A node joins as kubeadm and a kubelet would: cluster-info and its signature, a CSR with the bootstrap token,
//! the node's own identity, its Node, and NodeRestriction.

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use hmac::{Hmac, KeyInit, Mac};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret};
use kube::api::{Api, Patch, PatchParams, PostParams};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};
use sha2::Sha256;
use sim_kube::ApiServer;
use tokio_util::sync::CancellationToken;

use crate::support::{cluster_with, request, send, until};

const ID: &str = "abcdef";
const SECRET: &str = "0123456789abcdef";

async fn create_token(admin: kube::Client) {
    let secret = json!({"metadata": {"name": format!("bootstrap-token-{ID}")}, "type": "bootstrap.kubernetes.io/token", "stringData": {
        "token-id": ID, "token-secret": SECRET, "usage-bootstrap-signing": "true", "usage-bootstrap-authentication": "true",
        "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token"}});
    let secrets: Api<Secret> = Api::namespaced(admin, "kube-system");
    secrets
        .create(
            &PostParams::default(),
            &serde_json::from_value(secret).expect("a Secret"),
        )
        .await
        .expect("create");
}

/// The kubeconfig of cluster-info, once it is signed for our token; the signature is checked as a node checks it.
async fn discover(server: &ApiServer) -> String {
    let path = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
    let info = until("cluster-info is signed", || async {
        let (_, info) = send(server, None, request("GET", path, "")).await;
        info["data"]
            .get(format!("jws-kubeconfig-{ID}"))
            .is_some()
            .then_some(info)
    })
    .await;
    let kubeconfig = info["data"]["kubeconfig"]
        .as_str()
        .expect("a kubeconfig")
        .to_owned();
    let jws = info["data"][format!("jws-kubeconfig-{ID}")]
        .as_str()
        .expect("a signature");
    let (header, signature) = jws.split_once("..").expect("detached");
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any key");
    mac.update(format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(&kubeconfig)).as_bytes());
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    mac.verify_slice(&signature)
        .expect("signed with the token's secret");
    kubeconfig
}

fn csr(key: &KeyPair) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "system:nodes");
    params
        .distinguished_name
        .push(DnType::CommonName, "system:node:n1");
    BASE64_STANDARD.encode(
        params
            .serialize_request(key)
            .expect("a request")
            .pem()
            .expect("PEM"),
    )
}

fn bearer(url: &str, kubeconfig: &str) -> kube::Config {
    let ca = kubeconfig
        .lines()
        .find_map(|l| l.trim().strip_prefix("certificate-authority-data: "))
        .expect("a CA");
    let yaml = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority-data": ca}}],
        "users": [{"name": "u", "user": {"token": format!("{ID}.{SECRET}")}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
    config(&yaml)
}

fn config(kubeconfig: &Value) -> kube::Config {
    let parsed: kube::config::Kubeconfig = serde_json::from_value(kubeconfig.clone()).expect("a kubeconfig");
    let options = kube::config::KubeConfigOptions::default();
    futures::executor::block_on(kube::Config::from_custom_kubeconfig(parsed, &options)).expect("a config")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_over_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("https://{}", listener.local_addr().expect("bound"));
    let cluster = cluster_with(|options| options.advertise_url = url.clone());
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(sim_kube::serve(listener, cluster.server.clone(), stop));
    create_token(cluster.admin()).await;
    let kubeconfig = discover(&cluster.server).await;

    let bootstrap = kube::Client::try_from(bearer(&url, &kubeconfig)).expect("a client");
    let maps: Api<ConfigMap> = Api::namespaced(bootstrap.clone(), "kube-system");
    for name in ["kubeadm-config", "kubelet-config"] {
        maps.get(name)
            .await
            .unwrap_or_else(|error| panic!("the token reads {name}: {error}"));
    }
    let key = KeyPair::generate().expect("a key");
    let ask = json!({"metadata": {"generateName": "node-csr-"}, "spec": {"request": csr(&key),
        "signerName": "kubernetes.io/kube-apiserver-client-kubelet", "usages": ["digital signature", "client auth"]}});
    let requests: Api<CertificateSigningRequest> = Api::all(bootstrap);
    let asked = requests
        .create(
            &PostParams::default(),
            &serde_json::from_value(ask).expect("a CSR"),
        )
        .await
        .expect("create");
    let name = asked.metadata.name.expect("generated");
    let certificate = until("it is approved and signed", || async {
        requests
            .get(&name)
            .await
            .expect("get")
            .status
            .and_then(|status| status.certificate)
    })
    .await;

    let own = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority-data": BASE64_STANDARD.encode(cluster.server.ca_pem())}}],
        "users": [{"name": "u", "user": {"client-certificate-data": BASE64_STANDARD.encode(&certificate.0), "client-key-data": BASE64_STANDARD.encode(key.serialize_pem())}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
    let kubelet = kube::Client::try_from(config(&own)).expect("a client");
    let nodes: Api<Node> = Api::all(kubelet);
    let node =
        |name: &str| serde_json::from_value::<Node>(json!({"metadata": {"name": name}})).expect("a Node");
    nodes
        .create(&PostParams::default(), &node("n1"))
        .await
        .expect("its own node");
    let other = nodes
        .create(&PostParams::default(), &node("n2"))
        .await
        .expect_err("not another's");
    assert!(
        other
            .to_string()
            .contains("node \"n1\" is not allowed to modify node \"n2\""),
        "{other}"
    );
    let ready =
        json!({"status": {"capacity": {"cpu": "4"}, "conditions": [{"type": "Ready", "status": "True"}]}});
    nodes
        .patch_status("n1", &PatchParams::default(), &Patch::Strategic(ready))
        .await
        .expect("status");
    until("the not-ready taint is gone", || async {
        let node = nodes.get("n1").await.expect("get");
        node.spec.and_then(|spec| spec.taints).is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_expired_token_is_nobody_and_is_cleaned() {
    let cluster = cluster_with(|_| {});
    create_token(cluster.admin()).await;
    discover(&cluster.server).await;
    let who = || {
        let request = http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
            .header("authorization", format!("Bearer {ID}.{SECRET}"))
            .body(http_body_util::Full::new(bytes::Bytes::from_static(b"{}")))
            .expect("a request");
        send(&cluster.server, None, request)
    };
    let (code, review) = who().await;
    assert_eq!(
        (code, &review["status"]["userInfo"]["username"]),
        (201, &json!("system:bootstrap:abcdef"))
    );
    let secrets: Api<Secret> = Api::namespaced(cluster.admin(), "kube-system");
    let expired = Patch::Merge(json!({"stringData": {"expiration": "2020-01-01T00:00:00Z"}}));
    secrets
        .patch("bootstrap-token-abcdef", &PatchParams::default(), &expired)
        .await
        .expect("patch");
    assert_eq!(who().await.0, 401);
    until("the Secret is deleted", || async {
        secrets
            .get_opt("bootstrap-token-abcdef")
            .await
            .expect("get")
            .is_none()
            .then_some(())
    })
    .await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.admin(), "kube-public");
    until("its signature is gone", || async {
        let info = maps.get("cluster-info").await.expect("get");
        (!info.data.expect("data").contains_key("jws-kubeconfig-abcdef")).then_some(())
    })
    .await;
}
