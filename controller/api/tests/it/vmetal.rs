//! Users' YAML, unchanged: it parses, it loses nothing, and the schemas accept and keep all of it.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use steelyard_api::loft::{self, management};
use steelyard_api::metal3::BareMetalHost;
use steelyard_api::{custom_resource_definitions, yaml};

/// Every document of testdata/vmetal, as the storage group has it.
fn documents() -> Vec<(String, Value)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/vmetal");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        for document in yaml::read_all::<Value>(&text).unwrap() {
            all.push((name.clone(), management::to_storage(document)));
        }
    }
    all
}

fn there_and_back<K: DeserializeOwned + Serialize>(file: &str, document: &Value) -> Value {
    let read: K = serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{file}: {error}"));
    serde_json::to_value(read).unwrap()
}

#[test]
fn every_file_is_kept_word_for_word() {
    let mut kinds = Vec::new();
    for (file, document) in documents() {
        let kind = document["kind"].as_str().unwrap();
        let written = match kind {
            "Secret" => continue,
            "BareMetalHost" => there_and_back::<BareMetalHost>(&file, &document),
            "NodeProvider" => there_and_back::<loft::NodeProvider>(&file, &document),
            "NodeClaim" => there_and_back::<loft::NodeClaim>(&file, &document),
            "OSImage" => there_and_back::<loft::OSImage>(&file, &document),
            "SSHKey" => there_and_back::<loft::SSHKey>(&file, &document),
            "MachineConfigTemplate" => there_and_back::<loft::MachineConfigTemplate>(&file, &document),
            "VirtualClusterInstance" => there_and_back::<loft::VirtualClusterInstance>(&file, &document),
            other => panic!("{file}: no type for {other}"),
        };
        kinds.push(kind.to_owned());
        let lost = missing(&document, &written, "");
        assert!(lost.is_empty(), "{file}: {kind} loses {}", lost.join(", "));
    }
    kinds.sort();
    assert_eq!(
        kinds,
        [
            "BareMetalHost",
            "MachineConfigTemplate",
            "NodeClaim",
            "NodeProvider",
            "OSImage",
            "SSHKey",
            "VirtualClusterInstance"
        ]
    );
}

/// What the first has and the second has not, by path. A quantity may be spelled as number or as string.
fn missing(want: &Value, got: &Value, path: &str) -> Vec<String> {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => want
            .iter()
            .flat_map(|(key, value)| {
                missing(
                    value,
                    got.get(key).unwrap_or(&Value::Null),
                    &format!("{path}.{key}"),
                )
            })
            .collect(),
        (Value::Array(want), Value::Array(got)) if want.len() == got.len() => want
            .iter()
            .zip(got)
            .flat_map(|(want, got)| missing(want, got, &format!("{path}[]")))
            .collect(),
        (Value::Number(want), Value::String(got)) if want.to_string() == *got => Vec::new(),
        (want, got) if want == got => Vec::new(),
        _ => vec![path.to_owned()],
    }
}

#[test]
fn no_field_of_them_would_be_pruned_or_refused() {
    for (file, document) in documents() {
        let kind = document["kind"].as_str().unwrap();
        let Some(crd) = custom_resource_definitions()
            .into_iter()
            .find(|crd| crd.spec.names.kind == kind)
        else {
            assert_eq!(kind, "Secret", "{file}");
            continue;
        };
        let crd = serde_json::to_value(crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut problems = Vec::new();
        for part in ["spec", "status"] {
            if let Some(value) = document.get(part) {
                check(
                    &schema["properties"][part],
                    value,
                    &format!("{kind}.{part}"),
                    &mut problems,
                );
            }
        }
        assert!(problems.is_empty(), "{file}: {}", problems.join("\n"));
    }
}

/// A small reading of structural schemas: types, unknown fields, required fields.
fn check(schema: &Value, value: &Value, path: &str, problems: &mut Vec<String>) {
    if schema["x-kubernetes-int-or-string"] == true {
        if !(value.is_i64() || value.is_string()) {
            problems.push(format!("{path}: {value} is no integer or string"));
        }
        return;
    }
    let right = match schema["type"].as_str() {
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64(),
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        _ => true,
    };
    if !right {
        problems.push(format!("{path}: {value} is not of type {}", schema["type"]));
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        if value.get(required.as_str().unwrap()).is_none() {
            problems.push(format!("{path}: requires {required}"));
        }
    }
    for (key, child) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        if let Some(known) = schema["properties"].get(key) {
            check(known, child, &path, problems);
        } else if let Some(any) = schema.get("additionalProperties") {
            check(any, child, &path, problems);
        } else if schema["x-kubernetes-preserve-unknown-fields"] != true {
            problems.push(format!("{path}: unknown, would be pruned"));
        }
    }
    for child in value.as_array().into_iter().flatten() {
        check(&schema["items"], child, &format!("{path}[]"), problems);
    }
}

#[test]
fn a_tenant_says_which_nodes_it_wants() {
    let (_, document) = documents()
        .into_iter()
        .find(|(file, _)| file == "tenant.yaml")
        .unwrap();
    let tenant: loft::VirtualClusterInstance = serde_json::from_value(document).unwrap();
    let config = tenant.spec.config().unwrap();
    assert_eq!(config.endpoint.as_deref(), Some("192.168.100.2:8443"));
    let pools = &config.auto_nodes[0];
    assert_eq!(
        (pools.provider.as_str(), pools.static_pools[0].quantity),
        ("metal3", 1)
    );
    assert_eq!(
        tenant.spec.cluster_ref.unwrap().namespace.as_deref(),
        Some("loft-default-v-one")
    );
}

#[test]
fn what_newer_platforms_add_survives() {
    let text = "
metadata: {name: metal3}
spec:
  nico: {endpoint: https://nico}
  metal3:
    netBox: {url: https://netbox}
    netris: {secretRef: {name: netris, namespace: default}}
    nodeTypes: [{name: a, resources: {cpu: 2}, maxCapacity: 3}]
";
    let provider: loft::NodeProvider = yaml::read(text).unwrap();
    let json = serde_json::to_value(&provider).unwrap();
    assert_eq!(json["spec"]["nico"]["endpoint"], "https://nico");
    assert_eq!(json["spec"]["metal3"]["netBox"]["url"], "https://netbox");
    assert_eq!(json["spec"]["metal3"]["nodeTypes"][0]["maxCapacity"], 3);
    let netris = provider.spec.metal3.unwrap().netris.unwrap();
    assert_eq!(netris.secret_ref.unwrap().name(), Some("netris"));
}
