//! Node lifecycle: a node whose Lease is not renewed becomes Unknown and tainted; one that reports Ready loses
//! its taints; a deleted one takes its pods along.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::follow::Follower;
use super::system;
use crate::clock;
use crate::server::Inner;
use crate::store::{Key, Obj};

const NODES: &str = "/nodes";
const LEASES: &str = "coordination.k8s.io/leases";
/// kube-controller-manager's `--node-monitor-period` and, since 1.32, `--node-monitor-grace-period`.
const MONITOR_PERIOD: Duration = Duration::from_secs(5);
const GRACE_SECONDS: i64 = 50;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// When we last saw a sign of life, by our own clock: the kubelet's is not compared with it.
#[derive(Default)]
struct Heartbeats(BTreeMap<String, Timestamp>);

pub(super) async fn run(inner: &Arc<Inner>) {
    let mut nodes = Follower::new(inner, NODES);
    let mut leases = Follower::new(inner, LEASES);
    let mut beats = Heartbeats::default();
    let mut known: BTreeMap<String, Obj> = BTreeMap::new();
    let mut last_look = inner.now();
    loop {
        let now = inner.now();
        for changed in leases.changes(inner) {
            if changed.object.namespace() == "kube-node-lease" && !changed.deleted {
                beats.0.insert(changed.object.name().to_owned(), now);
            }
        }
        for changed in nodes.changes(inner) {
            let name = changed.object.name().to_owned();
            if changed.deleted {
                known.remove(&name);
                beats.0.remove(&name);
                delete_pods(inner, &name);
                continue;
            }
            beats.0.entry(name.clone()).or_insert(now);
            settle_taints(inner, &changed.object);
            known.insert(name, changed.object);
        }
        // After a pause of the process itself nobody's silence can be told from ours.
        let slept = now.as_second() - last_look.as_second() > GRACE_SECONDS;
        last_look = now;
        for (name, node) in &known {
            let beat = beats.0.entry(name.clone()).or_insert(now);
            if slept {
                *beat = now;
            } else if now.as_second() - beat.as_second() > GRACE_SECONDS {
                lose(inner, node, now);
            }
        }
        let news = async {
            tokio::select! {
                biased;
                () = nodes.wait() => {}
                () = leases.wait() => {}
            }
        };
        if known.is_empty() {
            news.await;
        } else {
            // Both outcomes lead to another look.
            let _ = tokio::time::timeout(MONITOR_PERIOD, news).await;
        }
    }
}

fn ready(node: &Value) -> Option<&str> {
    let conditions = node["status"]["conditions"].as_array()?;
    conditions.iter().find(|c| c["type"] == "Ready")?["status"].as_str()
}

/// Ready is true: no taint; false: not-ready; unknown: unreachable. NoSchedule at once, NoExecute with it.
fn settle_taints(inner: &Inner, node: &Obj) {
    let wanted = match ready(&node.value) {
        Some("True") => None,
        Some("Unknown") => Some(UNREACHABLE),
        Some(_) => Some(NOT_READY),
        // A node that never reported keeps the taint that it was created with.
        None => return,
    };
    system::update(inner, NODES, &node.key(), |value| {
        let mut taints = value["spec"]["taints"].as_array().cloned().unwrap_or_default();
        let before = taints.clone();
        taints.retain(|t| {
            let key = t["key"].as_str().unwrap_or_default();
            !matches!(key, NOT_READY | UNREACHABLE) || Some(key) == wanted
        });
        if let Some(key) = wanted {
            for effect in ["NoSchedule", "NoExecute"] {
                if !taints.iter().any(|t| t["key"] == key && t["effect"] == effect) {
                    taints.push(
                        json!({"key": key, "effect": effect, "timeAdded": clock::rfc3339(inner.now())}),
                    );
                }
            }
        }
        if taints == before {
            return false;
        }
        if taints.is_empty() {
            if let Some(spec) = value.pointer_mut("/spec").and_then(Value::as_object_mut) {
                spec.shift_remove("taints");
            }
        } else {
            value["spec"]["taints"] = taints.into();
        }
        true
    });
}

fn lose(inner: &Inner, node: &Obj, now: Timestamp) {
    if matches!(ready(&node.value), Some("Unknown") | None) {
        return;
    }
    let lost = system::update(inner, NODES, &node.key(), |value| {
        for condition in value
            .pointer_mut("/status/conditions")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            condition["status"] = "Unknown".into();
            condition["reason"] = "NodeStatusUnknown".into();
            condition["message"] = "Kubelet stopped posting node status.".into();
            condition["lastTransitionTime"] = clock::rfc3339(now).into();
        }
        true
    });
    if let Some(node) = lost {
        tracing::info!(node = node.name(), "node stopped renewing its lease");
        settle_taints(inner, &node);
    }
}

fn delete_pods(inner: &Inner, node: &str) {
    for pod in inner.store.list("/pods", "").objects {
        if pod.value["spec"]["nodeName"] == node {
            system::delete(inner, "/pods", &Key::new(pod.namespace(), pod.name()), Some(0));
        }
    }
}
