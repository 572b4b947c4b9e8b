//! A small kubelet: TLS bootstrap, the Node object, its status, the Lease. It runs no pods.
//!
//! ```text
//! bootstrap-kubelet.conf --CSR--> kubelet-client-current.pem, kubelet.conf   (on the disk: they survive a reboot)
//! kubelet.conf --> Node created or found --> status every node_status, Lease every lease_renew
//! ```

mod bootstrap;
mod node;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use super::http::HttpError;
use super::join::{BOOTSTRAP, KUBEADM_FLAGS, KUBELET_CONF, KUBELET_CONFIG};
use super::kube::{Bearer, Client, KubeError};
use super::os::{Os, Unit};
use super::rootfs::FsError;
use super::tls::{self, TlsError};
use node::Identity;

pub(super) const AGENT: &str = "kubelet/v1.34.2 (linux/amd64)";
/// Certificate and key in one file, as the kubelet keeps them.
pub(super) const CLIENT_PEM: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
const LEASE_SECONDS: u32 = 40;

#[derive(Debug, thiserror::Error)]
pub(crate) enum KubeletError {
    #[error("{0} is not there: this machine has not joined a cluster")]
    NoConfig(&'static str),
    #[error("{path}: {reason}")]
    Config { path: &'static str, reason: String },
    #[error("flag {flag}: {reason}")]
    Flag { flag: String, reason: String },
    #[error("certificate request {name}: {reason}")]
    Csr { name: String, reason: String },
    #[error("key or certificate request: {0}")]
    Key(#[from] rcgen::Error),
    #[error("{0}")]
    Kube(#[from] KubeError),
    #[error("{0}")]
    Http(#[from] HttpError),
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    #[error("{0}")]
    File(#[from] FsError),
}

/// The systemd unit: runs the kubelet while it is wanted, again after `service_restart` when it fails.
pub(crate) async fn service(os: &Arc<Os>) {
    let mut unit = os.kubelet();
    let mut said = String::new();
    loop {
        let current = *unit.borrow_and_update();
        if !current.wanted {
            if unit.changed().await.is_err() {
                return std::future::pending().await;
            }
            continue;
        }
        let changed = async {
            let other = |now: &Unit| *now != current;
            let _ = unit.wait_for(other).await;
        };
        tokio::select! {
            biased;
            () = changed => {}
            error = run(os) => {
                let text = error.to_string();
                // A unit that waits for its configuration says so once, not every ten seconds.
                if text != said {
                    os.chassis.say(format!("kubelet: {text}"));
                    said = text;
                }
                tokio::time::timeout(os.chassis.timing.service_restart, unit.changed()).await.ok();
            }
        }
    }
}

async fn run(os: &Arc<Os>) -> KubeletError {
    match start(os).await {
        Ok(kubelet) => kubelet.work().await,
        Err(error) => error,
    }
}

/// A kubelet with its certificate.
struct Kubelet<'a> {
    os: &'a Arc<Os>,
    client: Client,
    identity: Identity,
}

async fn start(os: &Arc<Os>) -> Result<Kubelet<'_>, KubeletError> {
    let flags = Flags::read(os)?;
    let identity = Identity::new(os, &flags)?;
    if !os.fs.is_file(KUBELET_CONF) {
        if !os.fs.is_file(BOOTSTRAP) {
            return Err(KubeletError::NoConfig(KUBELET_CONF));
        }
        bootstrap::run(os, &identity.name).await?;
    }
    let config = Kubeconfig::read(os, KUBELET_CONF)?;
    let pem = os.fs.read(CLIENT_PEM)?;
    let tls = tls::roots(&config.ca, Some((&pem, &pem)), &os.chassis.clock)?;
    let client = Client::new(
        os.net.clone(),
        &config.server,
        &tls,
        None,
        AGENT,
        os.chassis.timing.http,
    )?;
    Ok(Kubelet { os, client, identity })
}

impl Kubelet<'_> {
    /// Registers, then keeps status and Lease fresh; returns only what cannot be mended by trying again here.
    async fn work(self) -> KubeletError {
        if let Err(error) = self.register().await {
            return error;
        }
        let timing = &self.os.chassis.timing;
        let mut ready_since = None;
        let mut status_due = Instant::now();
        loop {
            if status_due <= Instant::now() {
                match self.report(&mut ready_since).await {
                    Ok(()) => status_due = Instant::now() + timing.node_status,
                    Err(error) => {
                        self.say(&format!("node status was not updated: {error}"));
                        status_due = Instant::now() + timing.lease_renew;
                    }
                }
            }
            if let Err(error) = self.renew().await {
                self.say(&format!("lease was not renewed: {error}"));
            }
            let until = status_due.min(Instant::now() + timing.lease_renew);
            tokio::time::sleep_until(until.max(Instant::now() + Duration::from_millis(100))).await;
        }
    }

    fn say(&self, text: &str) {
        self.os.chassis.say(format!("kubelet: {text}"));
    }

    /// Creates the Node, or takes over the one that is there (after a reboot) with this kubelet's labels.
    async fn register(&self) -> Result<(), KubeletError> {
        let node = self.identity.node(self.os);
        match self.client.post("/api/v1/nodes", &node).await {
            Ok(_) => self.say(&format!("registered node {}", self.identity.name)),
            Err(error) if error.is(StatusCode::CONFLICT) => {
                let labels = json!({ "metadata": { "labels": node["metadata"]["labels"] } });
                self.client.patch(&self.node_path(), &labels).await?;
                self.say(&format!("node {} was registered before", self.identity.name));
            }
            Err(error) => return Err(error.into()),
        }
        // kubeadm's part, with the node's own right: which runtime the node talks to.
        let socket = json!({ "metadata": { "annotations": {
            "kubeadm.alpha.kubernetes.io/cri-socket": "unix:///run/containerd/containerd.sock" } } });
        self.client.patch(&self.node_path(), &socket).await?;
        Ok(())
    }

    fn node_path(&self) -> String {
        format!("/api/v1/nodes/{}", self.identity.name)
    }

    async fn report(&self, ready_since: &mut Option<String>) -> Result<(), KubeError> {
        let now = seconds(self.os);
        let since = ready_since.get_or_insert_with(|| now.clone()).clone();
        let status = self.identity.status(self.os, &now, &since);
        let path = format!("{}/status", self.node_path());
        self.client.patch(&path, &json!({ "status": status })).await?;
        Ok(())
    }

    /// Renews the Lease; makes it if it is not there.
    async fn renew(&self) -> Result<(), KubeError> {
        const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        let path = format!("{LEASES}/{}", self.identity.name);
        let spec = json!({
            "holderIdentity": self.identity.name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": format!("{:.6}", (self.os.chassis.clock)()),
        });
        match self.client.get(&path).await {
            Ok(mut lease) => {
                lease["spec"] = spec;
                self.client.put(&path, &lease).await?;
            }
            Err(error) if error.is(StatusCode::NOT_FOUND) => {
                let owner = self.client.get(&self.node_path()).await?;
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": { "name": self.identity.name, "namespace": "kube-node-lease", "ownerReferences": [{
                        "apiVersion": "v1", "kind": "Node", "name": self.identity.name,
                        "uid": owner["metadata"]["uid"] }] },
                    "spec": spec,
                });
                self.client.post(LEASES, &lease).await?;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// metav1.Time: whole seconds.
fn seconds(os: &Os) -> String {
    format!("{:.0}", (os.chassis.clock)())
}

/// What a kubeconfig says of cluster and user. Ours are JSON or YAML.
pub(super) struct Kubeconfig {
    pub(super) server: Url,
    /// PEM.
    pub(super) ca: Vec<u8>,
    pub(super) bearer: Option<Bearer>,
}

impl Kubeconfig {
    pub(super) fn read(os: &Os, path: &'static str) -> Result<Self, KubeletError> {
        let bad = |reason: &str| KubeletError::Config {
            path,
            reason: reason.to_owned(),
        };
        let text = os.fs.read_text(path).ok_or(KubeletError::NoConfig(path))?;
        // Without the parser's text: it quotes the file, and with it the token.
        let config: Value = serde_saphyr::from_str(&text).map_err(|_| bad("not YAML"))?;
        let cluster = &config["clusters"][0]["cluster"];
        let server = cluster["server"].as_str().and_then(|url| Url::parse(url).ok());
        let ca = cluster["certificate-authority"]
            .as_str()
            .ok_or_else(|| bad("no certificate-authority"))?;
        Ok(Self {
            server: server.ok_or_else(|| bad("no server"))?,
            ca: os.fs.read(ca)?,
            bearer: config["users"][0]["user"]["token"]
                .as_str()
                .map(|token| Bearer(token.to_owned())),
        })
    }
}

/// The kubelet's command line, from the files that its unit reads: kubeadm's first, the administrator's after, which win.
#[derive(Debug, Default)]
pub(super) struct Flags {
    values: BTreeMap<String, String>,
    /// From the configuration file of kubeadm.
    pub(super) max_pods: Option<u64>,
}

impl Flags {
    fn read(os: &Os) -> Result<Self, KubeletError> {
        let mut flags = Self::default();
        for (path, variable) in [
            (KUBEADM_FLAGS, "KUBELET_KUBEADM_ARGS"),
            ("/etc/default/kubelet", "KUBELET_EXTRA_ARGS"),
            ("/etc/sysconfig/kubelet", "KUBELET_EXTRA_ARGS"),
        ] {
            let text = os.fs.read_text(path).unwrap_or_default();
            flags.add(&environment(&text, variable))?;
        }
        if let Some(text) = os.fs.read_text(KUBELET_CONFIG) {
            let config: Value = serde_saphyr::from_str(&text).map_err(|error| KubeletError::Config {
                path: KUBELET_CONFIG,
                reason: error.to_string(),
            })?;
            flags.max_pods = config["maxPods"].as_u64();
        }
        Ok(flags)
    }

    fn add(&mut self, line: &str) -> Result<(), KubeletError> {
        let mut words = line.split_whitespace().peekable();
        while let Some(word) = words.next() {
            let flag = |reason: &str| KubeletError::Flag {
                flag: word.to_owned(),
                reason: reason.to_owned(),
            };
            let name = word.strip_prefix("--").ok_or_else(|| flag("not a flag"))?;
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, value),
                None => (
                    name,
                    words.next_if(|next| !next.starts_with("--")).unwrap_or("true"),
                ),
            };
            self.values.insert(name.to_owned(), value.to_owned());
        }
        Ok(())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}

/// A variable of a systemd EnvironmentFile.
fn environment(text: &str, variable: &str) -> String {
    let mut lines = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix(variable)?.strip_prefix('='));
    lines
        .next_back()
        .unwrap_or_default()
        .trim()
        .trim_matches(['"', '\''])
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_both_files_and_the_later_wins() {
        let mut flags = Flags::default();
        flags
            .add(&environment(
                "A=1\nKUBELET_EXTRA_ARGS=\"--node-labels=a=b,c= --v 4 --x\"\n",
                "KUBELET_EXTRA_ARGS",
            ))
            .unwrap();
        flags.add("--v=5").unwrap();
        assert_eq!(flags.get("node-labels"), Some("a=b,c="));
        assert_eq!(
            (flags.get("v"), flags.get("x"), flags.get("y")),
            (Some("5"), Some("true"), None)
        );
        assert!(Flags::default().add("node-labels=a").is_err());
    }
}
