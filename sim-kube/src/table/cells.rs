//! One cell of a built-in kind's row, as the real server's printers fill it.

use jiff::Timestamp;
use serde_json::Value;

use super::age;

fn text(value: &Value) -> Option<Value> {
    value.as_str().filter(|t| !t.is_empty()).map(Value::from)
}

fn count(value: &Value) -> Value {
    value.as_object().map_or(0, serde_json::Map::len).into()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn joined<'a>(values: impl Iterator<Item = &'a Value>) -> Option<Value> {
    let texts: Vec<&str> = values.filter_map(Value::as_str).collect();
    (!texts.is_empty()).then(|| texts.join(",").into())
}

fn labels(selector: &Value) -> Option<Value> {
    let pairs: Vec<String> = selector
        .as_object()?
        .iter()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    (!pairs.is_empty()).then(|| pairs.join(",").into())
}

pub(super) fn cell(plural: &str, column: &str, object: &Value, now: Timestamp) -> Option<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    match (plural, column) {
        ("namespaces", "Status") => text(&status["phase"]),
        ("configmaps", "Data") => {
            let both = [&object["data"], &object["binaryData"]]
                .iter()
                .map(|v| v.as_object().map_or(0, serde_json::Map::len))
                .sum::<usize>();
            Some(both.into())
        }
        ("secrets", "Type") => text(&object["type"]),
        ("secrets", "Data") => Some(count(&object["data"])),
        ("nodes", _) => node(column, object),
        ("pods", _) => pod(column, object, now),
        ("services", _) => service(column, object),
        ("events", _) => event(column, object, now),
        ("deployments" | "statefulsets", "Ready") => {
            let ready = status["readyReplicas"].as_i64().unwrap_or(0);
            Some(format!("{ready}/{}", spec["replicas"].as_i64().unwrap_or(0)).into())
        }
        ("deployments", "Up-to-date") => Some(status["updatedReplicas"].as_i64().unwrap_or(0).into()),
        ("deployments", "Available") => Some(status["availableReplicas"].as_i64().unwrap_or(0).into()),
        ("replicasets" | "replicationcontrollers", "Desired") => {
            Some(spec["replicas"].as_i64().unwrap_or(0).into())
        }
        ("replicasets" | "replicationcontrollers", "Current") => {
            Some(status["replicas"].as_i64().unwrap_or(0).into())
        }
        ("replicasets" | "replicationcontrollers", "Ready") => {
            Some(status["readyReplicas"].as_i64().unwrap_or(0).into())
        }
        ("daemonsets", _) => daemon_set(column, object),
        (_, "Containers") => joined(
            list(&spec["template"]["spec"]["containers"])
                .iter()
                .map(|c| &c["name"]),
        ),
        (_, "Images") => joined(
            list(&spec["template"]["spec"]["containers"])
                .iter()
                .map(|c| &c["image"]),
        ),
        (_, "Selector") => labels(&spec["selector"]["matchLabels"]),
        ("certificatesigningrequests", _) => csr(column, object),
        ("leases", "Holder") => text(&spec["holderIdentity"]).or_else(|| Some("".into())),
        ("clusterrolebindings" | "rolebindings", _) => binding(column, object),
        ("priorityclasses", "Value") => Some(object["value"].clone()),
        ("priorityclasses", "Global-Default") => {
            Some(object["globalDefault"].as_bool().unwrap_or(false).into())
        }
        ("priorityclasses", "PreemptionPolicy") => text(&object["preemptionPolicy"]),
        ("apiservices", "Service") => {
            let service = &spec["service"];
            Some(match service["name"].as_str() {
                Some(name) => format!("{}/{name}", service["namespace"].as_str().unwrap_or_default()).into(),
                None => "Local".into(),
            })
        }
        ("apiservices", "Available") => {
            let found = list(&status["conditions"])
                .iter()
                .find(|c| c["type"] == "Available");
            found
                .map(|c| c["status"].clone())
                .or_else(|| Some("Unknown".into()))
        }
        ("poddisruptionbudgets", "Min Available") => {
            Some(spec.get("minAvailable").map_or_else(|| "N/A".into(), shown))
        }
        ("poddisruptionbudgets", "Max Unavailable") => {
            Some(spec.get("maxUnavailable").map_or_else(|| "N/A".into(), shown))
        }
        ("poddisruptionbudgets", "Allowed Disruptions") => {
            Some(status["disruptionsAllowed"].as_i64().unwrap_or(0).into())
        }
        ("jobs", "Completions") => {
            let done = status["succeeded"].as_i64().unwrap_or(0);
            Some(format!("{done}/{}", spec["completions"].as_i64().unwrap_or(1)).into())
        }
        ("jobs", "Status") => Some("Running".into()),
        ("storageclasses", "Provisioner") => text(&object["provisioner"]),
        ("storageclasses", "ReclaimPolicy") => text(&object["reclaimPolicy"]),
        ("storageclasses", "VolumeBindingMode") => text(&object["volumeBindingMode"]),
        ("storageclasses", "AllowVolumeExpansion") => {
            Some(object["allowVolumeExpansion"].as_bool().unwrap_or(false).into())
        }
        ("persistentvolumeclaims", "Status") => text(&status["phase"]).or_else(|| Some("".into())),
        ("mutatingwebhookconfigurations" | "validatingwebhookconfigurations", "Webhooks") => {
            Some(list(&object["webhooks"]).len().into())
        }
        _ => None,
    }
}

fn shown(value: &Value) -> Value {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
        .into()
}

fn node(column: &str, object: &Value) -> Option<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let info = |key: &str| text(&status["nodeInfo"][key]).or_else(|| Some("<unknown>".into()));
    let address = |kind: &str| {
        list(&status["addresses"])
            .iter()
            .find(|a| a["type"] == kind)
            .and_then(|a| text(&a["address"]))
    };
    match column {
        "Status" => {
            let ready = list(&status["conditions"]).iter().find(|c| c["type"] == "Ready");
            let mut words = vec![match ready.and_then(|c| c["status"].as_str()) {
                Some("True") => "Ready",
                Some(_) => "NotReady",
                None => "Unknown",
            }];
            if spec["unschedulable"] == true {
                words.push("SchedulingDisabled");
            }
            Some(words.join(",").into())
        }
        "Roles" => {
            let labels = object["metadata"]["labels"].as_object();
            let mut roles: Vec<&str> = labels
                .into_iter()
                .flatten()
                .filter_map(|(key, value)| {
                    let role = key
                        .strip_prefix("node-role.kubernetes.io/")
                        .filter(|r| !r.is_empty());
                    role.or_else(|| {
                        if key == "kubernetes.io/role" {
                            value.as_str()
                        } else {
                            None
                        }
                    })
                })
                .collect();
            roles.sort_unstable();
            (!roles.is_empty()).then(|| roles.join(",").into())
        }
        "Version" => text(&status["nodeInfo"]["kubeletVersion"]).or_else(|| Some("".into())),
        "Internal-IP" => address("InternalIP"),
        "External-IP" => address("ExternalIP"),
        "OS-Image" => info("osImage"),
        "Kernel-Version" => info("kernelVersion"),
        "Container-Runtime" => info("containerRuntimeVersion"),
        _ => None,
    }
}

fn pod(column: &str, object: &Value, now: Timestamp) -> Option<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let states = list(&status["containerStatuses"]);
    match column {
        "Ready" => {
            let ready = states.iter().filter(|s| s["ready"] == true).count();
            Some(format!("{ready}/{}", list(&spec["containers"]).len()).into())
        }
        "Status" => Some(pod_status(object).into()),
        "Restarts" => {
            let restarts: i64 = states.iter().filter_map(|s| s["restartCount"].as_i64()).sum();
            let last = states
                .iter()
                .filter_map(|s| s["lastState"]["terminated"]["finishedAt"].as_str())
                .max();
            Some(match (restarts, last) {
                (0, _) | (_, None) => restarts.to_string().into(),
                (n, Some(at)) => {
                    format!("{n} ({} ago)", age(&at.into(), now).as_str().unwrap_or_default()).into()
                }
            })
        }
        "IP" => text(&status["podIP"]),
        "Node" => text(&spec["nodeName"]),
        "Nominated Node" => text(&status["nominatedNodeName"]),
        _ => None,
    }
}

fn pod_status(object: &Value) -> String {
    let status = &object["status"];
    let mut reason = status["reason"]
        .as_str()
        .or(status["phase"].as_str())
        .unwrap_or_default()
        .to_owned();
    let gated = list(&status["conditions"])
        .iter()
        .any(|c| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated");
    if gated {
        reason = "SchedulingGated".into();
    }
    let mut running = false;
    for state in list(&status["containerStatuses"]).iter().rev() {
        let (waiting, ended) = (
            &state["state"]["waiting"]["reason"],
            &state["state"]["terminated"],
        );
        if let Some(why) = waiting.as_str().filter(|w| !w.is_empty()) {
            reason = why.to_owned();
        } else if let Some(why) = ended["reason"].as_str().filter(|w| !w.is_empty()) {
            reason = why.to_owned();
        } else if ended.is_object() {
            reason = format!("ExitCode:{}", ended["exitCode"]);
        } else if state["ready"] == true && state["state"]["running"].is_object() {
            running = true;
        }
    }
    if reason == "Completed" && running {
        reason = "Running".into();
    }
    if object["metadata"].get("deletionTimestamp").is_some() {
        return if status["reason"] == "NodeLost" {
            "Unknown".into()
        } else {
            "Terminating".into()
        };
    }
    reason
}

fn service(column: &str, object: &Value) -> Option<Value> {
    let spec = &object["spec"];
    match column {
        "Type" => text(&spec["type"]),
        "Cluster-IP" => text(&spec["clusterIP"]),
        "External-IP" => match spec["type"].as_str() {
            Some("LoadBalancer") => {
                let addresses = list(&object["status"]["loadBalancer"]["ingress"]);
                joined(addresses.iter().map(|i| {
                    if i["ip"].is_string() {
                        &i["ip"]
                    } else {
                        &i["hostname"]
                    }
                }))
                .or_else(|| Some("<pending>".into()))
            }
            Some("ExternalName") => text(&spec["externalName"]),
            _ => joined(list(&spec["externalIPs"]).iter()),
        },
        "Port(s)" => {
            let ports: Vec<String> = list(&spec["ports"])
                .iter()
                .map(|p| {
                    let protocol = p["protocol"].as_str().unwrap_or("TCP");
                    match p["nodePort"].as_i64() {
                        Some(node) if node > 0 => format!("{}:{node}/{protocol}", p["port"]),
                        _ => format!("{}/{protocol}", p["port"]),
                    }
                })
                .collect();
            (!ports.is_empty()).then(|| ports.join(",").into())
        }
        "Selector" => labels(&spec["selector"]),
        _ => None,
    }
}

fn event(column: &str, object: &Value, now: Timestamp) -> Option<Value> {
    // Both APIs print alike; names differ.
    let either = |core: &str, new: &str| {
        if object.get(core).is_some() {
            object[core].clone()
        } else {
            object[new].clone()
        }
    };
    let series = &object["series"];
    let last = || {
        let seen = [
            &series["lastObservedTime"],
            &either("lastTimestamp", "deprecatedLastTimestamp"),
            &object["eventTime"],
        ]
        .into_iter()
        .find(|v| v.is_string())
        .cloned();
        seen.map_or_else(|| "<unknown>".into(), |at| age(&at, now))
    };
    match column {
        "Last Seen" => Some(last()),
        "First Seen" => {
            let first = either("firstTimestamp", "deprecatedFirstTimestamp");
            let first = if first.is_string() {
                first
            } else {
                object["eventTime"].clone()
            };
            Some(age(&first, now))
        }
        "Type" => text(&object["type"]).or_else(|| Some("".into())),
        "Reason" => text(&object["reason"]).or_else(|| Some("".into())),
        "Object" => {
            let about = either("involvedObject", "regarding");
            let kind = about["kind"].as_str().unwrap_or_default().to_lowercase();
            Some(format!("{kind}/{}", about["name"].as_str().unwrap_or_default()).into())
        }
        "Subobject" => text(&either("involvedObject", "regarding")["fieldPath"]).or_else(|| Some("".into())),
        "Source" => {
            let source = either("source", "deprecatedSource");
            let component = source["component"]
                .as_str()
                .or(either("reportingComponent", "reportingController").as_str())
                .unwrap_or_default()
                .to_owned();
            let host = source["host"]
                .as_str()
                .map(|h| format!(", {h}"))
                .unwrap_or_default();
            Some(format!("{component}{host}").into())
        }
        "Message" => Some(
            either("message", "note")
                .as_str()
                .unwrap_or_default()
                .trim()
                .into(),
        ),
        "Count" => {
            let times = series["count"]
                .as_i64()
                .or(either("count", "deprecatedCount").as_i64())
                .unwrap_or(1);
            Some(times.max(1).into())
        }
        _ => None,
    }
}

fn daemon_set(column: &str, object: &Value) -> Option<Value> {
    let status = &object["status"];
    let number = |key: &str| Some(status[key].as_i64().unwrap_or(0).into());
    match column {
        "Desired" => number("desiredNumberScheduled"),
        "Current" => number("currentNumberScheduled"),
        "Ready" => number("numberReady"),
        "Up-to-date" => number("updatedNumberScheduled"),
        "Available" => number("numberAvailable"),
        "Node Selector" => labels(&object["spec"]["template"]["spec"]["nodeSelector"]),
        "Containers" => joined(
            list(&object["spec"]["template"]["spec"]["containers"])
                .iter()
                .map(|c| &c["name"]),
        ),
        "Images" => joined(
            list(&object["spec"]["template"]["spec"]["containers"])
                .iter()
                .map(|c| &c["image"]),
        ),
        "Selector" => labels(&object["spec"]["selector"]["matchLabels"]),
        _ => None,
    }
}

fn csr(column: &str, object: &Value) -> Option<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    match column {
        "SignerName" => text(&spec["signerName"]),
        "Requestor" => text(&spec["username"]),
        "RequestedDuration" => spec["expirationSeconds"]
            .as_i64()
            .map(|s| crate::clock::human_duration(s).into()),
        "Condition" => {
            let mut words: Vec<&str> = list(&status["conditions"])
                .iter()
                .filter_map(|c| c["type"].as_str())
                .collect();
            if words.is_empty() {
                words.push("Pending");
            }
            if text(&status["certificate"]).is_some() {
                words.push("Issued");
            }
            Some(words.join(",").into())
        }
        _ => None,
    }
}

fn binding(column: &str, object: &Value) -> Option<Value> {
    let names = |kind: &str| {
        let subjects = list(&object["subjects"]).iter().filter(|s| s["kind"] == kind);
        let texts: Vec<String> = subjects
            .map(|s| match s["namespace"].as_str() {
                Some(namespace) => format!("{namespace}/{}", s["name"].as_str().unwrap_or_default()),
                None => s["name"].as_str().unwrap_or_default().to_owned(),
            })
            .collect();
        Some(Value::from(texts.join(", ")))
    };
    match column {
        "Role" => {
            let role = &object["roleRef"];
            Some(
                format!(
                    "{}/{}",
                    role["kind"].as_str().unwrap_or_default(),
                    role["name"].as_str().unwrap_or_default()
                )
                .into(),
            )
        }
        "Users" => names("User"),
        "Groups" => names("Group"),
        "ServiceAccounts" => names("ServiceAccount"),
        _ => None,
    }
}
