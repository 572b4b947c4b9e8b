//! The files of a lab: what people and programs find in `.lab/`.

use crate::{
    lab::Lab,
    plan::{BMC_PORT, BMC_USER, HOST_NAMESPACE, Plan, PlannedHost},
};
use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// What stays when the lab ends: for whoever wants to know what happened.
const KEPT: &[&str] = &["log", "captures"];

/// The lab's directory.
#[derive(Clone, Debug)]
pub(crate) struct LabFiles {
    dir: PathBuf,
}

impl LabFiles {
    pub(crate) fn new(dir: &Path) -> Self {
        LabFiles { dir: dir.to_owned() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.at("kubeconfig")
    }

    pub(crate) fn servers(&self) -> PathBuf {
        self.at("servers.yaml")
    }

    pub(crate) fn tenant_kubeconfig(&self, tenant: &str) -> PathBuf {
        self.at("tenants").join(format!("{tenant}.kubeconfig"))
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.at("log/lab.log")
    }

    pub(crate) fn pid(&self) -> PathBuf {
        self.at("lab.pid")
    }

    pub(crate) fn controller_pid(&self) -> PathBuf {
        self.at("controller.pid")
    }

    pub(crate) fn socket(&self, network: &str) -> PathBuf {
        self.at(&format!("{network}.sock"))
    }

    pub(crate) fn controller_flags(&self) -> PathBuf {
        self.at("controller.flags")
    }

    pub(crate) fn controller_kubeconfig(&self) -> PathBuf {
        self.at("controller.kubeconfig")
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.at("ready").exists()
    }

    pub(crate) fn mark_ready(&self) -> io::Result<()> {
        fs::write(self.at("ready"), "")
    }

    /// Captures of the lab before this one.
    pub(crate) fn remove_captures(&self) {
        // There may be none.
        let _ = fs::remove_dir_all(self.at("captures"));
    }

    /// Everything that people and programs need to use `lab`.
    pub(crate) fn write(&self, lab: &Lab) -> io::Result<()> {
        fs::create_dir_all(self.at("tenants"))?;
        let url = format!("https://{}", lab.sockets().kubernetes);
        if let Some(server) = &lab.kubernetes {
            write_secret(&self.kubeconfig(), &server.admin_kubeconfig(&url))?;
            let token = token(lab.config.plan.seed);
            server.add_token(&token, "lab", &["system:masters"]);
            write_secret(&self.at("token"), &format!("{token}\n"))?;
        } else if let Some(kubeconfig) = &lab.config.kubeconfig {
            write_secret(&self.kubeconfig(), kubeconfig)?;
        }
        fs::write(self.at("bmc-ca.crt"), &lab.bmc_ca)?;
        write_secret(&self.servers(), &Registration::of(&lab.config.plan).servers)?;
        let fabric = format!(
            "url: {}\nusername: {}\npassword: {}\n",
            lab.fabric_url,
            lab.fabric_user(),
            lab.fabric_password
        );
        write_secret(&self.at("fabric.yaml"), &fabric)
    }

    /// Opens `captures/NETWORK.pcapng` for each network that is captured.
    pub(crate) fn captures(
        &self,
    ) -> impl FnMut(&str) -> io::Result<Box<dyn io::Write + Send>> + Send + 'static + use<> {
        let dir = self.at("captures");
        move |network| {
            fs::create_dir_all(&dir)?;
            // A name may come again within one lab; pcapng takes another section behind the first.
            let file = fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(dir.join(format!("{network}.pcapng")))?;
            Ok(Box::new(io::BufWriter::new(file)))
        }
    }

    /// Removes what a lab that has ended leaves behind, but its logs and captures.
    pub(crate) fn remove(&self) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if KEPT.iter().any(|k| entry.file_name() == *k) {
                continue;
            }
            let path = entry.path();
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "left behind");
            }
        }
    }
}

/// The bearer token for the page and for curl: as long as the seed's the same, the same.
fn token(seed: u64) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(format!("steelyard lab {seed} token"))
        .iter()
        .take(16)
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// Writes a file that only its owner may read.
pub(crate) fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}

/// `servers.yaml`: a Secret and a BareMetalHost for each server, as an owner of servers writes them.
pub struct Registration {
    pub servers: String,
}

impl Registration {
    pub fn of(plan: &Plan) -> Self {
        let servers = plan.hosts.iter().map(server).collect::<Vec<_>>().join("---\n");
        Registration { servers }
    }
}

fn server(host: &PlannedHost) -> String {
    let mut labels = String::new();
    for (key, value) in &host.labels {
        let _ = writeln!(labels, "    {key}: {value}");
    }
    format!(
        "apiVersion: v1
kind: Secret
metadata:
  name: {name}-bmc
  namespace: {HOST_NAMESPACE}
type: Opaque
stringData:
  username: {BMC_USER}
  password: {password}
---
apiVersion: metal3.io/v1alpha1
kind: BareMetalHost
metadata:
  name: {name}
  namespace: {HOST_NAMESPACE}
  labels:
{labels}spec:
  bmc:
    address: redfish://{bmc}:{BMC_PORT}/redfish/v1/Systems/1
    credentialsName: {name}-bmc
  bootMACAddress: \"{mac}\"
",
        name = host.name,
        password = host.bmc_password,
        bmc = host.bmc_address(),
        mac = host.boot_mac(),
    )
}

/// The provider that lab-up makes: one type for each profile that the plan has.
pub(crate) fn provider(plan: &Plan) -> String {
    let mut types = String::new();
    let mut seen = std::collections::BTreeSet::new();
    for host in plan.hosts.iter().filter(|h| seen.insert(&h.profile)) {
        let hardware = &host.hardware;
        let _ = writeln!(types, "      - name: {}", host.profile);
        let _ = writeln!(types, "        resources:");
        let _ = writeln!(types, "          cpu: {}", hardware.threads());
        let _ = writeln!(types, "          memory: {}Gi", hardware.memory_mib() / 1024);
        if !hardware.gpus.is_empty() {
            let _ = writeln!(types, "          nvidia.com/gpu: {}", hardware.gpus.len());
        }
        let _ = writeln!(types, "        bareMetalHosts:");
        let _ = writeln!(types, "          selector:");
        let _ = writeln!(types, "            matchLabels: {{ profile: {} }}", host.profile);
    }
    format!(
        "apiVersion: storage.loft.sh/v1
kind: NodeProvider
metadata:
  name: metal3
spec:
  displayName: \"Metal3 Bare Metal Hosts\"
  metal3:
    clusterRef:
      cluster: loft-cluster
      namespace: {HOST_NAMESPACE}
    nodeTypes:
{types}---
apiVersion: storage.loft.sh/v1
kind: OSImage
metadata:
  name: ubuntu-noble
spec:
  displayName: \"Ubuntu Noble (24.04 LTS)\"
  properties:
    metal3.vcluster.com/image-url: https://cloud-images.ubuntu.com/noble/current/noble-server-cloudimg-amd64.img
    metal3.vcluster.com/image-checksum: https://cloud-images.ubuntu.com/noble/current/SHA256SUMS
    metal3.vcluster.com/image-checksum-type: sha256
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader of the examples applies is what lab-up wrote.
    #[test]
    fn examples_hold_the_first_two_servers() {
        let plan = Plan::standard(2, 1).unwrap();
        let example = include_str!("../../examples/servers.yaml");
        assert_eq!(Registration::of(&plan).servers, example);
    }
}
