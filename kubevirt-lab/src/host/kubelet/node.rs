//! The Node object: what the machine is, from its hardware, its OS and the kubelet's flags.

use serde_json::{Map, Value, json};

use super::super::os::{KERNEL_VERSION, KUBERNETES_VERSION, Os};
use super::{Flags, KubeletError};

/// The kubelet's default for `maxPods`.
const PODS: u64 = 110;
/// Default hard eviction threshold `memory.available<100Mi`, in KiB.
const EVICTION_KIB: u64 = 100 * 1024;

/// Who this kubelet is, and what its flags ask for.
pub(super) struct Identity {
    pub(super) name: String,
    labels: Map<String, Value>,
    taints: Vec<Value>,
    provider_id: Option<String>,
    node_ip: Option<String>,
    pods: u64,
}

impl Identity {
    pub(super) fn new(os: &Os, flags: &Flags) -> Result<Self, KubeletError> {
        let name = flags
            .get("hostname-override")
            .map_or_else(|| os.hostname(), str::to_owned)
            .to_lowercase();
        let arch = if os.machine_architecture() == "aarch64" {
            "arm64"
        } else {
            "amd64"
        };
        let mut labels = Map::new();
        for prefix in ["beta.kubernetes.io", "kubernetes.io"] {
            labels.insert(format!("{prefix}/arch"), arch.into());
            labels.insert(format!("{prefix}/os"), "linux".into());
        }
        labels.insert("kubernetes.io/hostname".to_owned(), name.clone().into());
        for pair in list(flags.get("node-labels")) {
            let (key, value) = pair.split_once('=').ok_or_else(|| KubeletError::Flag {
                flag: "--node-labels".to_owned(),
                reason: format!("{pair:?} is not key=value"),
            })?;
            if !may_set(key) {
                let reason = format!(
                    "unknown 'kubernetes.io' or 'k8s.io' label: {key} (a kubelet may not set it on itself)"
                );
                return Err(KubeletError::Flag {
                    flag: "--node-labels".to_owned(),
                    reason,
                });
            }
            labels.insert(key.to_owned(), value.into());
        }
        let mut taints = list(flags.get("register-with-taints"))
            .map(taint)
            .collect::<Result<Vec<_>, _>>()?;
        if flags.get("cloud-provider") == Some("external") {
            taints.push(json!({ "key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true", "effect": "NoSchedule" }));
        }
        Ok(Self {
            name,
            labels,
            taints,
            provider_id: flags.get("provider-id").map(str::to_owned),
            node_ip: flags.get("node-ip").map(str::to_owned),
            pods: flags.max_pods.filter(|pods| *pods > 0).unwrap_or(PODS),
        })
    }

    /// As it is created; the status comes with it, so that nobody sees a node without capacity.
    pub(super) fn node(&self, os: &Os) -> Value {
        let mut spec = Map::new();
        if let Some(id) = &self.provider_id {
            spec.insert("providerID".to_owned(), id.clone().into());
        }
        if !self.taints.is_empty() {
            spec.insert("taints".to_owned(), self.taints.clone().into());
        }
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": self.name,
                "labels": self.labels,
                "annotations": { "volumes.kubernetes.io/controller-managed-attach-detach": "true" },
            },
            "spec": spec,
            "status": { "capacity": self.resources(os, 0), "allocatable": self.resources(os, EVICTION_KIB) },
        })
    }

    pub(super) fn status(&self, os: &Os, now: &str, since: &str) -> Value {
        let address = self
            .node_ip
            .clone()
            .or_else(|| os.net.addresses().first().map(ToString::to_string));
        let mut addresses: Vec<Value> = Vec::new();
        addresses.extend(address.map(|ip| json!({ "type": "InternalIP", "address": ip })));
        addresses.push(json!({ "type": "Hostname", "address": self.name }));
        json!({
            "capacity": self.resources(os, 0),
            "allocatable": self.resources(os, EVICTION_KIB),
            "addresses": addresses,
            "conditions": conditions(now, since),
            "daemonEndpoints": { "kubeletEndpoint": { "Port": 10250 } },
            "nodeInfo": {
                "machineID": os.machine_id(),
                "systemUUID": os.chassis.hardware.uuid.to_string(),
                "bootID": os.boot_id.to_string(),
                "kernelVersion": KERNEL_VERSION,
                "osImage": os.pretty_name,
                "containerRuntimeVersion": "containerd://2.1.4",
                "kubeletVersion": KUBERNETES_VERSION,
                "kubeProxyVersion": "",
                "operatingSystem": "linux",
                "architecture": self.labels["kubernetes.io/arch"],
            },
        })
    }

    fn resources(&self, os: &Os, reserved_kib: u64) -> Value {
        let hardware = &os.chassis.hardware;
        let memory = (hardware.memory_mib() * 1024).saturating_sub(reserved_kib);
        let mut resources = json!({
            "cpu": hardware.threads().to_string(),
            "memory": format!("{memory}Ki"),
            "ephemeral-storage": format!("{}Ki", os.disk.size() / 1024),
            "pods": self.pods.to_string(),
        });
        let gpus = hardware
            .gpus
            .iter()
            .filter(|gpu| &*gpu.manufacturer == "NVIDIA")
            .count();
        if gpus > 0 {
            // On a real node NVIDIA's device plugin adds it; this OS has the driver built in.
            resources["nvidia.com/gpu"] = gpus.to_string().into();
        }
        resources
    }
}

fn conditions(now: &str, since: &str) -> Vec<Value> {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({ "type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": since })
    };
    vec![
        condition(
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        condition(
            "DiskPressure",
            "False",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
        ),
        condition(
            "PIDPressure",
            "False",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
        condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ]
}

fn list(value: Option<&str>) -> impl Iterator<Item = &str> {
    value
        .unwrap_or_default()
        .split(',')
        .filter(|part| !part.is_empty())
}

/// `key=value:effect` or `key:effect`.
fn taint(text: &str) -> Result<Value, KubeletError> {
    let bad = |reason: &str| KubeletError::Flag {
        flag: "--register-with-taints".to_owned(),
        reason: format!("{text:?}: {reason}"),
    };
    let (key, effect) = text.rsplit_once(':').ok_or_else(|| bad("not key=value:effect"))?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        return Err(bad(
            "the effect is none of NoSchedule, PreferNoSchedule, NoExecute",
        ));
    }
    Ok(match key.split_once('=') {
        Some((key, value)) => json!({ "key": key, "value": value, "effect": effect }),
        None => json!({ "key": key, "effect": effect }),
    })
}

/// Labels below kubernetes.io and k8s.io that a kubelet may give itself (kubernetes `pkg/kubelet/apis/well_known_labels.go`).
fn may_set(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else {
        return true;
    };
    let below = |suffix: &str| domain == suffix || domain.ends_with(&format!(".{suffix}"));
    if !below("kubernetes.io") && !below("k8s.io") {
        return true;
    }
    const KNOWN: &[&str] = &[
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
    ];
    KNOWN.contains(&key) || below("kubelet.kubernetes.io") || below("node.kubernetes.io")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_a_kubelet_may_set() {
        for (key, may) in [
            ("rack", true),
            ("vcluster.com/node-type", true),
            ("node.kubernetes.io/instance-type", true),
            ("x.node.kubernetes.io/y", true),
            ("topology.kubernetes.io/zone", true),
            ("topology.kubernetes.io/rack", false),
            ("node-role.kubernetes.io/worker", false),
            ("node-restriction.kubernetes.io/x", false),
        ] {
            assert_eq!(may_set(key), may, "{key}");
        }
    }

    #[test]
    fn taints() {
        let expected = json!({ "key": "gpu", "value": "true", "effect": "NoSchedule" });
        assert_eq!(taint("gpu=true:NoSchedule").unwrap(), expected);
        assert_eq!(
            taint("fresh:NoExecute").unwrap(),
            json!({ "key": "fresh", "effect": "NoExecute" })
        );
        assert!(taint("gpu=true").is_err() && taint("gpu:Never").is_err());
    }
}
