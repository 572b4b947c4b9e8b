//! The files of a lab: what people and programs find in `.lab/`.

use crate::plan::{BMC_PORT, BMC_USER, HOST_NAMESPACE, Plan, PlannedHost};
use std::{fmt::Write as _, io, os::unix::fs::OpenOptionsExt, path::Path};

/// Writes a file that only its owner may read.
pub(crate) fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, text.as_bytes())
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
