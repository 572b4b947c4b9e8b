//! `kubeadm join`: from a token and a CA hash to a kubelet with a certificate.
//!
//! 1. cluster-info is read from whoever answers, and believed only if the token's secret signed it (JWS, HS256);
//! 2. the CA in it must have the hash that the command line pins, and is then used for a second, verified read;
//! 3. with the token: kubeadm-config, kubelet-config; a Node of that name must not be Ready;
//! 4. files for the kubelet are written and the service is started; its TLS bootstrap (see `kubelet.rs`) is waited for.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use http::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use super::http::HttpError;
use super::kube::{Bearer, Client, KubeError};
use super::os::{KUBERNETES_VERSION, Os};
use super::rootfs::FsError;
use super::shell::Io;
use super::tls::{self, TlsError};

pub(crate) const CA: &str = "/etc/kubernetes/pki/ca.crt";
pub(crate) const BOOTSTRAP: &str = "/etc/kubernetes/bootstrap-kubelet.conf";
pub(crate) const KUBELET_CONF: &str = "/etc/kubernetes/kubelet.conf";
pub(crate) const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";
pub(crate) const KUBEADM_FLAGS: &str = "/var/lib/kubelet/kubeadm-flags.env";
const CLUSTER_INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
const AGENT: &str = "kubeadm/v1.34.2 (linux/amd64)";

/// A bootstrap token. The id is public, the secret is not.
#[derive(Clone)]
pub(crate) struct Token {
    id: String,
    secret: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}.***)", self.id)
    }
}

impl Token {
    fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.split_once('.')?;
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then(|| Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }

    fn bearer(&self) -> Bearer {
        Bearer(format!("{}.{}", self.id, self.secret))
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    #[error("{0}")]
    Usage(String),
    #[error("couldn't validate the identity of the API Server: {0}")]
    Discovery(String),
    #[error("{0}")]
    Kube(#[from] KubeError),
    #[error("{0}")]
    Http(#[from] HttpError),
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    #[error("{0}")]
    File(#[from] FsError),
    #[error("a Node with name {0:?} and status \"Ready\" already exists in the cluster")]
    NodeReady(String),
    #[error("{path} already exists; run \"kubeadm reset\" first")]
    Exists { path: &'static str },
    #[error("the kubelet did not get its certificate within {0:?}; see the console for its errors")]
    Bootstrap(std::time::Duration),
}

/// The options of `kubeadm join` that are understood.
#[derive(Debug)]
struct Join {
    endpoint: Url,
    token: Token,
    ca_hashes: Vec<String>,
    node_name: Option<String>,
}

/// `kubeadm`; its exit status.
pub(crate) async fn kubeadm(os: &Arc<Os>, args: &[String], io: &Io) -> u8 {
    match args.first().map(String::as_str) {
        Some("join") => match run(os, &args[1..], io).await {
            Ok(()) => 0,
            Err(error) => {
                io.stderr.line(format!("error execution phase: {error}"));
                1
            }
        },
        Some("reset") => reset(os, io),
        Some("version") => {
            io.stdout.line(KUBERNETES_VERSION);
            0
        }
        other => {
            io.stderr.line(format!(
                "kubeadm: unknown command {:?}",
                other.unwrap_or_default()
            ));
            1
        }
    }
}

fn reset(os: &Os, io: &Io) -> u8 {
    os.kubelet_service("stop", false, io);
    let mut status = 0;
    for path in ["/etc/kubernetes", "/var/lib/kubelet"] {
        if let Err(error) = os.fs.remove(path, true) {
            io.stderr.line(error.to_string());
            status = 1;
        }
    }
    status
}

async fn run(os: &Arc<Os>, args: &[String], io: &Io) -> Result<(), JoinError> {
    let join = parse(args)?;
    io.stdout.line("[preflight] Running pre-flight checks");
    for path in [KUBELET_CONF, CA] {
        if os.fs.is_file(path) {
            return Err(JoinError::Exists { path });
        }
    }
    let cluster = discover(os, &join).await?;
    io.stdout
        .line("[discovery] cluster-info is signed by the token and its CA has the pinned hash");
    let tls = tls::roots(cluster.ca.as_bytes(), None, &os.chassis.clock)?;
    let client = client(os, &cluster.server, &tls, Some(join.token.bearer()))?;
    io.stdout.line("[preflight] Reading configuration from the \"kubeadm-config\" ConfigMap in namespace \"kube-system\"");
    client
        .get("/api/v1/namespaces/kube-system/configmaps/kubeadm-config")
        .await?;
    let kubelet_config = client
        .get("/api/v1/namespaces/kube-system/configmaps/kubelet-config")
        .await?;
    let node = join.node_name.clone().unwrap_or_else(|| os.hostname());
    check_node(&client, &node).await?;
    write_files(os, &join, &cluster, &kubelet_config, &node)?;
    io.stdout.line("[kubelet-start] Starting the kubelet");
    os.kubelet_service("restart", false, io);
    io.stdout
        .line("[kubelet-start] Waiting for the kubelet to perform the TLS Bootstrap");
    let bootstrap = async {
        while !os.fs.is_file(KUBELET_CONF) {
            tokio::time::sleep(os.chassis.timing.csr_poll).await;
        }
    };
    let limit = os.chassis.timing.csr_wait;
    tokio::time::timeout(limit, bootstrap)
        .await
        .map_err(|_| JoinError::Bootstrap(limit))?;
    os.fs.remove(BOOTSTRAP, false)?;
    io.stdout.line("This node has joined the cluster.");
    Ok(())
}

fn parse(args: &[String]) -> Result<Join, JoinError> {
    let usage = |text: &str| JoinError::Usage(text.to_owned());
    let (mut endpoint, mut token, mut ca_hashes, mut node_name) = (None, None, Vec::new(), None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (arg.as_str(), None),
        };
        let mut value = || {
            inline
                .clone()
                .or_else(|| args.next().cloned())
                .ok_or_else(|| usage(&format!("flag needs an argument: {name}")))
        };
        match name {
            "--token" | "--tls-bootstrap-token" => token = Some(value()?),
            "--discovery-token-ca-cert-hash" => ca_hashes.extend(value()?.split(',').map(str::to_owned)),
            "--node-name" => node_name = Some(value()?),
            "--cri-socket" | "--ignore-preflight-errors" | "--v" => drop(value()?),
            "-v" => drop(value()?),
            flag if flag.starts_with('-') => return Err(usage(&format!("unknown flag: {flag}"))),
            text => endpoint = Some(text.to_owned()),
        }
    }
    let endpoint = endpoint.ok_or_else(|| usage("the API server's endpoint (HOST:PORT) is missing"))?;
    let endpoint =
        Url::parse(&format!("https://{endpoint}")).map_err(|_| usage("the endpoint is not HOST:PORT"))?;
    let token = token
        .as_deref()
        .and_then(Token::parse)
        .ok_or_else(|| usage("--token is missing or not of the form [a-z0-9]{6}.[a-z0-9]{16}"))?;
    if ca_hashes.is_empty() {
        return Err(usage(
            "--discovery-token-ca-cert-hash is missing: without it the cluster's CA could be anybody's",
        ));
    }
    Ok(Join {
        endpoint,
        token,
        ca_hashes,
        node_name,
    })
}

fn client(
    os: &Os,
    server: &Url,
    tls: &Arc<rustls::ClientConfig>,
    bearer: Option<Bearer>,
) -> Result<Client, HttpError> {
    Client::new(os.net.clone(), server, tls, bearer, AGENT, os.chassis.timing.http)
}

/// The cluster, as cluster-info tells it.
struct Cluster {
    server: Url,
    /// PEM.
    ca: String,
}

async fn discover(os: &Os, join: &Join) -> Result<Cluster, JoinError> {
    let unverified = client(os, &join.endpoint, &tls::anybody(), None)?
        .get(CLUSTER_INFO)
        .await?;
    let kubeconfig = verify(&unverified["data"], &join.token).map_err(JoinError::Discovery)?;
    let cluster = cluster_of(&kubeconfig).map_err(JoinError::Discovery)?;
    pinned(&cluster.ca, &join.ca_hashes)?;
    // Now with that CA: the server that signed must also be the server that we talk to.
    let tls = tls::roots(cluster.ca.as_bytes(), None, &os.chassis.clock)?;
    let verified = client(os, &join.endpoint, &tls, None)?.get(CLUSTER_INFO).await?;
    if verified["data"]["kubeconfig"].as_str() != Some(kubeconfig.as_str()) {
        return Err(JoinError::Discovery(
            "cluster-info differs when it is read with the CA it names".to_owned(),
        ));
    }
    Ok(cluster)
}

/// Checks the detached JWS (RFC 7515 appendix F) that bootstrapsigner made; returns the signed kubeconfig.
fn verify(data: &Value, token: &Token) -> Result<String, String> {
    let kubeconfig = data["kubeconfig"]
        .as_str()
        .ok_or("cluster-info has no kubeconfig")?;
    let key = format!("jws-kubeconfig-{}", token.id);
    let jws = data[key.as_str()].as_str().ok_or_else(|| {
        format!(
            "there is no JWS signature for token ID {:?} in cluster-info",
            token.id
        )
    })?;
    let (header, signature) = jws.split_once("..").ok_or("the JWS is not a detached one")?;
    let decode = |text: &str| {
        URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|error| format!("JWS: {error}"))
    };
    let head: Value =
        serde_json::from_slice(&decode(header)?).map_err(|error| format!("JWS header: {error}"))?;
    if head["alg"] != "HS256" || head["kid"].as_str() != Some(token.id.as_str()) {
        return Err("the JWS header is not HS256 by our token".to_owned());
    }
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(kubeconfig));
    let mut mac =
        Hmac::<Sha256>::new_from_slice(token.secret.as_bytes()).map_err(|error| error.to_string())?;
    mac.update(signed.as_bytes());
    mac.verify_slice(&decode(signature)?)
        .map_err(|_| format!("failed to verify the JWS signature of token ID {:?}", token.id))?;
    Ok(kubeconfig.to_owned())
}

fn cluster_of(kubeconfig: &str) -> Result<Cluster, String> {
    let config: Value =
        serde_saphyr::from_str(kubeconfig).map_err(|error| format!("cluster-info kubeconfig: {error}"))?;
    let cluster = &config["clusters"][0]["cluster"];
    let server = cluster["server"].as_str().ok_or("cluster-info names no server")?;
    let ca = cluster["certificate-authority-data"]
        .as_str()
        .ok_or("cluster-info has no CA")?;
    let ca = STANDARD
        .decode(ca)
        .map_err(|error| format!("CA of cluster-info: {error}"))?;
    Ok(Cluster {
        server: Url::parse(server).map_err(|error| format!("server of cluster-info: {error}"))?,
        ca: String::from_utf8(ca).map_err(|_| "the CA of cluster-info is not PEM")?,
    })
}

/// At least one CA certificate must have a pinned public key (`sha256:` over its SubjectPublicKeyInfo).
fn pinned(ca: &str, hashes: &[String]) -> Result<(), JoinError> {
    for certificate in tls::certificates("CA of cluster-info", ca.as_bytes())? {
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&certificate) else {
            continue;
        };
        let digest = Sha256::digest(parsed.public_key().raw);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        if hashes
            .iter()
            .any(|hash| hash.eq_ignore_ascii_case(&format!("sha256:{hex}")))
        {
            return Ok(());
        }
    }
    Err(JoinError::Discovery(
        "none of the public keys of cluster-info's CA is pinned".to_owned(),
    ))
}

async fn check_node(client: &Client, name: &str) -> Result<(), JoinError> {
    match client.get(&format!("/api/v1/nodes/{name}")).await {
        Ok(node) => {
            let conditions = node["status"]["conditions"].as_array();
            let ready = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
            if conditions.is_some_and(|list| list.iter().any(ready)) {
                return Err(JoinError::NodeReady(name.to_owned()));
            }
            Ok(())
        }
        Err(error) if error.is(StatusCode::NOT_FOUND) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn write_files(os: &Os, join: &Join, cluster: &Cluster, config: &Value, node: &str) -> Result<(), JoinError> {
    os.fs.write(CA, cluster.ca.as_bytes())?;
    let bootstrap = kubeconfig(
        cluster.server.as_str(),
        &json!({ "token": join.token.bearer().0 }),
    );
    os.fs.write(BOOTSTRAP, bootstrap.as_bytes())?;
    let text = config["data"]["kubelet"].as_str().unwrap_or_default();
    os.fs.write(KUBELET_CONFIG, text.as_bytes())?;
    // kubeadm names the node only where it differs from the host.
    let mut flags = "--container-runtime-endpoint=unix:///run/containerd/containerd.sock".to_owned();
    if node != os.hostname() {
        flags.push_str(&format!(" --hostname-override={node}"));
    }
    os.fs.write(
        KUBEADM_FLAGS,
        format!("KUBELET_KUBEADM_ARGS=\"{flags}\"\n").as_bytes(),
    )?;
    Ok(())
}

/// A kubeconfig (YAML is a superset of JSON) with the cluster's CA by file.
pub(crate) fn kubeconfig(server: &str, user: &Value) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "default", "cluster": { "server": server, "certificate-authority": CA } }],
        "users": [{ "name": "default", "user": user }],
        "contexts": [{ "name": "default", "context": { "cluster": "default", "user": "default" } }],
        "current-context": "default",
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token::parse("abcdef.0123456789abcdef").unwrap()
    }

    fn args(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn reads_the_join_line() {
        let join = parse(&args(
            "10.0.0.2:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:aa \
             --node-name=n1 --v 5",
        ));
        let join = join.unwrap();
        assert_eq!(join.endpoint.as_str(), "https://10.0.0.2:6443/");
        assert_eq!(
            (join.node_name.as_deref(), &join.ca_hashes[..]),
            (Some("n1"), &["sha256:aa".to_owned()][..])
        );
        assert!(
            !format!("{join:?}").contains("0123456789abcdef"),
            "the secret must not be printed"
        );
        for bad in [
            "--token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:aa",
            "h:1 --token abc.def --discovery-token-ca-cert-hash sha256:aa",
            "h:1 --token abcdef.0123456789abcdef",
            "h:1 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:aa --surprise",
        ] {
            assert!(parse(&args(bad)).is_err(), "{bad}");
        }
    }

    /// A signature as `kubeadm` itself would check it, made by hand with the same primitives but the other way around.
    fn signed(kubeconfig: &str, secret: &str) -> Value {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"abcdef"}"#);
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{header}.{}", URL_SAFE_NO_PAD.encode(kubeconfig)).as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        json!({ "kubeconfig": kubeconfig, "jws-kubeconfig-abcdef": format!("{header}..{signature}") })
    }

    #[test]
    fn believes_only_what_the_token_signed() {
        let good = signed("kind: Config", "0123456789abcdef");
        assert_eq!(verify(&good, &token()).as_deref(), Ok("kind: Config"));
        let mut tampered = good.clone();
        tampered["kubeconfig"] = "kind: Evil".into();
        assert!(
            verify(&tampered, &token())
                .unwrap_err()
                .contains("failed to verify")
        );
        let other = signed("kind: Config", "ffffffffffffffff");
        assert!(verify(&other, &token()).unwrap_err().contains("failed to verify"));
        let unsigned = json!({ "kubeconfig": "kind: Config" });
        assert!(
            verify(&unsigned, &token())
                .unwrap_err()
                .contains("no JWS signature")
        );
    }
}
