//! The join script: plain POSIX sh. What it is made of comes from us and from a claim's labels, so every word is
//! checked before it goes in; nothing is quoted and hoped for.

use super::JoinTicket;
use crate::secret::Secret;
use std::collections::BTreeMap;

/// Where Kubernetes' packages are, unless the request says otherwise.
const REPOSITORY: &str = "https://pkgs.k8s.io/core:/stable:";
/// The minor release that a machine without kubeadm gets when its ticket names none.
const VERSION: &str = "v1.34";

/// What the request may choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ScriptOptions {
    skip_join: bool,
    repository: Option<String>,
    kubernetes_version: Option<String>,
}

impl ScriptOptions {
    pub(super) fn from_query(query: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut options = ScriptOptions::default();
        for (name, value) in query {
            match (name.as_str(), value.as_str()) {
                ("type", "worker") => {}
                ("type", other) => return Err(format!("type {other:?} is not supported: only worker")),
                ("skip-join", "" | "true") => options.skip_join = true,
                ("repository-url", url) if url.starts_with("https://") || url.starts_with("http://") => {
                    options.repository = Some(word("repository-url", url, "/:.-_")?);
                }
                ("repository-url", _) => return Err("repository-url must be an http or https URL".into()),
                ("kubernetes-version", version) => options.kubernetes_version = Some(minor(version)?),
                (other, _) => {
                    return Err(format!(
                        "{other} is not a parameter: use type, skip-join, repository-url, kubernetes-version"
                    ));
                }
            }
        }
        Ok(options)
    }
}

/// Letters, digits and `more`.
fn word(what: &str, text: &str, more: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
    if text.is_empty() || text.len() > 512 || !text.chars().all(good) {
        return Err(format!("{what} holds characters that a script must not"));
    }
    Ok(text.to_owned())
}

/// `v1.34` of `v1.34.2` or `1.34`.
fn minor(version: &str) -> Result<String, String> {
    let mut parts = version.trim_start_matches('v').split('.');
    let number = |part: Option<&str>| part.and_then(|p| p.parse::<u16>().ok());
    match (number(parts.next()), number(parts.next())) {
        (Some(major), Some(minor)) => Ok(format!("v{major}.{minor}")),
        _ => Err(format!(
            "kubernetes-version {:?} is not of the form v1.34.2",
            version.chars().take(20).collect::<String>()
        )),
    }
}

/// Labels that a kubelet may give its own node (Kubernetes: NodeRestriction); with others it refuses to start, so
/// whoever owns those puts them on the Node later.
fn may_set_itself(label: &str) -> bool {
    let Some((domain, name)) = label.split_once('/') else {
        return true;
    };
    let reserved = ["kubernetes.io", "k8s.io"];
    if !reserved
        .iter()
        .any(|r| domain == *r || domain.strip_suffix(r).is_some_and(|rest| rest.ends_with('.')))
    {
        return true;
    }
    match domain {
        "kubelet.kubernetes.io" | "node.kubernetes.io" => true,
        "topology.kubernetes.io" => matches!(name, "zone" | "region"),
        "kubernetes.io" => matches!(name, "hostname" | "arch" | "os"),
        _ => domain.ends_with(".kubelet.kubernetes.io") || domain.ends_with(".node.kubernetes.io"),
    }
}

/// The kubelet's own flags, in one line.
fn kubelet_args(ticket: &JoinTicket) -> Result<String, String> {
    let mut args = Vec::new();
    let mut labels = Vec::new();
    for (key, value) in ticket.labels.iter().filter(|(key, _)| may_set_itself(key)) {
        let key = word("a label's key", key, "/._-")?;
        let value = if value.is_empty() {
            String::new()
        } else {
            word(&format!("the value of label {key}"), value, "._-")?
        };
        labels.push(format!("{key}={value}"));
    }
    if !labels.is_empty() {
        args.push(format!("--node-labels={}", labels.join(",")));
    }
    let mut taints = Vec::new();
    for taint in &ticket.taints {
        let key = word("a taint's key", &taint.key, "/._-")?;
        let effect = word("a taint's effect", &taint.effect, "")?;
        match taint.value.as_deref().filter(|v| !v.is_empty()) {
            Some(value) => taints.push(format!(
                "{key}={}:{effect}",
                word("a taint's value", value, "._-")?
            )),
            None => taints.push(format!("{key}:{effect}")),
        }
    }
    if !taints.is_empty() {
        args.push(format!("--register-with-taints={}", taints.join(",")));
    }
    if let Some(id) = &ticket.provider_id {
        args.push(format!("--provider-id={}", word("the provider id", id, "/:._-")?));
    }
    Ok(args.join(" "))
}

pub(super) fn render(ticket: &JoinTicket, token: &Secret, options: &ScriptOptions) -> Result<String, String> {
    let node = word("the node's name", &ticket.node_name, ".-")?;
    let endpoint = word("the tenant's endpoint", &ticket.endpoint, ".:-[]")?;
    let hash = word("the CA's hash", &ticket.ca_hash, ":")?;
    // Checked by whoever found the ticket: [a-z0-9]{6}.[a-z0-9]{16}
    let token = word("the token", token.reveal(), ".")?;
    let args = kubelet_args(ticket)?;
    let version = match (&options.kubernetes_version, &ticket.kubernetes_version) {
        (Some(version), _) => version.clone(),
        (None, Some(version)) => minor(version)?,
        (None, None) => VERSION.to_owned(),
    };
    let repository = options
        .repository
        .as_deref()
        .unwrap_or(REPOSITORY)
        .trim_end_matches('/')
        .to_owned();
    let install = INSTALL
        .replace("@REPOSITORY@", &repository)
        .replace("@VERSION@", &version);
    let prepare = PREPARE.replace("@ARGS@", &args);
    let join = if options.skip_join {
        format!("echo 'Prepared as {node}; not joined, as asked for'\n")
    } else {
        format!(
            "kubeadm join {endpoint} --token {token} --discovery-token-ca-cert-hash {hash} --node-name {node}\n"
        )
    };
    Ok(format!(
        "#!/bin/sh\n# Makes this machine the node {node} of the cluster at {endpoint}. Safe to run again.\nset -eu\n\n{install}\n{prepare}\n{join}"
    ))
}

/// For machines whose image brings no kubeadm: the distribution's containerd, Kubernetes' own packages.
const INSTALL: &str = r#"if ! command -v kubeadm >/dev/null 2>&1; then
  if command -v apt-get >/dev/null 2>&1; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -q -y ca-certificates curl gpg containerd
    mkdir -p /etc/apt/keyrings
    curl -fsSL @REPOSITORY@/@VERSION@/deb/Release.key | gpg --dearmor --yes -o /etc/apt/keyrings/kubernetes.gpg
    echo 'deb [signed-by=/etc/apt/keyrings/kubernetes.gpg] @REPOSITORY@/@VERSION@/deb/ /' > /etc/apt/sources.list.d/kubernetes.list
    apt-get update -q
    apt-get install -q -y kubelet kubeadm
  elif command -v dnf >/dev/null 2>&1; then
    cat > /etc/yum.repos.d/kubernetes.repo <<'EOT'
[kubernetes]
name=Kubernetes
baseurl=@REPOSITORY@/@VERSION@/rpm/
enabled=1
gpgcheck=1
gpgkey=@REPOSITORY@/@VERSION@/rpm/repodata/repomd.xml.key
EOT
    dnf install -q -y containerd kubelet kubeadm
    setenforce 0 || true
  else
    echo 'join: this machine has neither kubeadm nor apt-get nor dnf; use an image that brings kubeadm' >&2
    exit 1
  fi
  swapoff -a
  mkdir -p /etc/containerd
  containerd config default > /etc/containerd/config.toml
  sed -i 's/SystemdCgroup = false/SystemdCgroup = true/' /etc/containerd/config.toml
  systemctl enable containerd
  systemctl restart containerd
fi
"#;

/// What the kubelet and the cluster's network need of every machine.
const PREPARE: &str = r#"mkdir -p /etc/modules-load.d /etc/sysctl.d /etc/default /etc/sysconfig
cat > /etc/modules-load.d/steelyard.conf <<'EOT'
overlay
br_netfilter
EOT
modprobe overlay
modprobe br_netfilter
cat > /etc/sysctl.d/90-steelyard.conf <<'EOT'
net.ipv4.ip_forward = 1
net.bridge.bridge-nf-call-iptables = 1
net.bridge.bridge-nf-call-ip6tables = 1
EOT
sysctl --system >/dev/null
cat > /etc/default/kubelet <<'EOT'
KUBELET_EXTRA_ARGS="@ARGS@"
EOT
cat > /etc/sysconfig/kubelet <<'EOT'
KUBELET_EXTRA_ARGS="@ARGS@"
EOT
systemctl enable kubelet
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use steelyard_api::metal3::Taint;

    fn ticket() -> JoinTicket {
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        JoinTicket {
            secret: Secret::new("0123456789abcdef"),
            endpoint: "192.168.101.2:6443".into(),
            ca_hash: format!("sha256:{}", "a".repeat(64)),
            node_name: "machine-1".into(),
            labels: BTreeMap::from([
                label("rack", "r1"),
                label("node-role.kubernetes.io/gpu", ""),
                label("node.kubernetes.io/instance-type", "dgx-h100"),
                label("topology.kubernetes.io/zone", "z1"),
            ]),
            taints: vec![
                Taint {
                    key: "gpu".into(),
                    value: Some("true".into()),
                    effect: "NoSchedule".into(),
                    ..Taint::default()
                },
                Taint {
                    key: "fresh".into(),
                    effect: "NoExecute".into(),
                    ..Taint::default()
                },
            ],
            provider_id: Some("metal3://metal3-system/bare-metal-1".into()),
            kubernetes_version: Some("v1.33.5".into()),
        }
    }

    fn token() -> Secret {
        Secret::new("abcdef.0123456789abcdef")
    }

    #[test]
    fn golden() {
        insta::assert_snapshot!(render(&ticket(), &token(), &ScriptOptions::default()).unwrap());
    }

    #[test]
    fn a_real_shell_accepts_it() {
        let script = render(&ticket(), &token(), &ScriptOptions::default()).unwrap();
        let mut child = match std::process::Command::new("sh")
            .arg("-n")
            .stdin(std::process::Stdio::piped())
            .spawn()
        {
            Ok(child) => child,
            Err(error) => panic!("this test needs sh: {error}"),
        };
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn reserved_labels_are_left_to_others() {
        for (label, may) in [
            ("rack", true),
            ("example.com/kubernetes.io", true),
            ("notkubernetes.io/x", true),
            ("node.kubernetes.io/instance-type", true),
            ("kubernetes.io/hostname", true),
            ("topology.kubernetes.io/zone", true),
            ("node-role.kubernetes.io/gpu", false),
            ("node-restriction.kubernetes.io/x", false),
            ("kubernetes.io/x", false),
            ("x.k8s.io/y", false),
        ] {
            assert_eq!(may_set_itself(label), may, "{label}");
        }
    }

    #[test]
    fn nothing_can_break_out_of_its_place() {
        let render = |change: fn(&mut JoinTicket)| {
            let mut ticket = ticket();
            change(&mut ticket);
            render(&ticket, &token(), &ScriptOptions::default())
        };
        assert!(render(|t| t.node_name = "a; reboot".into()).is_err());
        assert!(render(|t| t.endpoint = "$(id)".into()).is_err());
        assert!(render(|t| t.provider_id = Some("a\nEOT".into())).is_err());
        assert!(render(|t| _ = t.labels.insert("a".into(), "\" --x".into())).is_err());
        assert!(render(|t| t.taints[0].value = Some("`id`".into())).is_err());
        assert!(render(|t| t.kubernetes_version = Some("v1/..".into())).is_err());
    }

    #[test]
    fn parameters() {
        let read = |pairs: &[(&str, &str)]| {
            ScriptOptions::from_query(
                &pairs
                    .iter()
                    .map(|(k, v)| (k.to_string(), v.to_string()))
                    .collect(),
            )
        };
        assert!(read(&[("type", "worker")]).is_ok() && read(&[("type", "control-plane")]).is_err());
        assert!(read(&[("repository-url", "https://mirror.example/k8s")]).is_ok());
        assert!(read(&[("repository-url", "https://x/$(id)")]).is_err() && read(&[("shell", "x")]).is_err());
        let script = |pairs| render(&ticket(), &token(), &read(pairs).unwrap()).unwrap();
        assert!(script(&[("kubernetes-version", "1.30.1")]).contains("core:/stable:/v1.30/deb/"));
        assert!(!script(&[("skip-join", "true")]).contains("kubeadm join"));
    }
}
