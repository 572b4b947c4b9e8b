//! Objects as tests write and read them: kinds, manifests, and small questions about a status.

use kube::api::DynamicObject;
use serde_json::{Value, json};
use std::path::Path;
use steelyard_lab::plan::{BMC_PORT, BMC_USER, HOST_NAMESPACE, PROJECT_NAMESPACE, PlannedHost};

/// A kind, and the namespace that tests use it in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) api: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) namespace: Option<&'static str>,
}

pub(crate) const fn kind(
    api: &'static str,
    kind: &'static str,
    plural: &'static str,
    namespace: Option<&'static str>,
) -> Kind {
    Kind {
        api,
        kind,
        plural,
        namespace,
    }
}

pub(crate) const LOFT: &str = "storage.loft.sh/v1";
pub(crate) const HOST: Kind = kind(
    "metal3.io/v1alpha1",
    "BareMetalHost",
    "baremetalhosts",
    Some(HOST_NAMESPACE),
);
pub(crate) const HARDWARE: Kind = kind(
    "metal3.io/v1alpha1",
    "HardwareData",
    "hardwaredata",
    Some(HOST_NAMESPACE),
);
pub(crate) const SECRET: Kind = kind("v1", "Secret", "secrets", Some(HOST_NAMESPACE));
pub(crate) const CLAIM: Kind = kind(LOFT, "NodeClaim", "nodeclaims", Some(PROJECT_NAMESPACE));
pub(crate) const TENANT: Kind = kind(
    LOFT,
    "VirtualClusterInstance",
    "virtualclusterinstances",
    Some(PROJECT_NAMESPACE),
);
pub(crate) const PROVIDER: Kind = kind(LOFT, "NodeProvider", "nodeproviders", None);
pub(crate) const TYPE: Kind = kind(LOFT, "NodeType", "nodetypes", None);
pub(crate) const IMAGE: Kind = kind(LOFT, "OSImage", "osimages", None);
pub(crate) const ALL: &[Kind] = &[HOST, HARDWARE, CLAIM, TENANT, PROVIDER, TYPE, IMAGE];

// ---- objects as users write them

pub(crate) fn example(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub(crate) fn bmc_secret(host: &PlannedHost, password: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": format!("{}-bmc", host.name), "namespace": HOST_NAMESPACE},
        "stringData": {"username": BMC_USER, "password": password},
    })
}

pub(crate) fn host_object(host: &PlannedHost) -> Value {
    json!({
        "apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost",
        "metadata": {"name": host.name, "namespace": HOST_NAMESPACE, "labels": host.labels},
        "spec": {
            "bmc": {
                "address": format!("redfish://{}:{BMC_PORT}/redfish/v1/Systems/1", host.bmc_address()),
                "credentialsName": format!("{}-bmc", host.name),
            },
            "bootMACAddress": host.boot_mac().to_string(),
        },
    })
}

// ---- looking at objects

pub(crate) fn plain(object: &DynamicObject) -> Value {
    serde_json::to_value(object).expect("JSON")
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(crate) fn decoded(value: &Value) -> String {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text(value))
        .unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .find(|c| c["type"] == *kind)
        .unwrap_or(&Value::Null)
}

pub(crate) fn is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind)["status"] == "True"
}

pub(crate) fn no_error(host: &Value) -> bool {
    text(&host["status"]["errorMessage"]).is_empty() && host["status"]["errorType"].is_null()
}

/// An error of this type whose message has all `words`.
pub(crate) fn fails(host: &Value, kind: &str, words: &[&str]) -> bool {
    let message = text(&host["status"]["errorMessage"]);
    host["status"]["errorType"] == *kind && words.iter().all(|word| message.contains(word))
}
