//! Our BareMetalHost and HardwareData against Metal3's, fact by fact.

use serde_json::Value;
use steelyard_api::custom_resource_definitions;
use steelyard_api::metal3::{BareMetalHost, ErrorType, ProvisioningState};

const FACTS: &str = include_str!("../../testdata/metal3-schema.tsv");

/// Where we differ on purpose.
const DIFFERENT: [(&str, &str, &str); 1] = [
    // Users' files leave it out; ours defaults to false.
    ("BareMetalHost", "spec.online", "required"),
];

#[test]
fn every_field_of_metal3_is_there_with_its_rules() {
    let mut problems = Vec::new();
    let mut checked = 0;
    for line in FACTS.lines().filter(|line| !line.starts_with('#')) {
        let mut parts = line.split('\t');
        let (kind, path) = (parts.next().unwrap(), parts.next().unwrap());
        let kind_of = parts.next().unwrap();
        checked += 1;
        let Some((schema, required)) = field(kind, path) else {
            problems.push(format!("{kind} {path}: missing"));
            continue;
        };
        if schema["type"] != kind_of {
            problems.push(format!("{kind} {path}: {} instead of {kind_of}", schema["type"]));
        }
        for rule in parts {
            if !DIFFERENT.contains(&(kind, path, rule)) && !holds(&schema, required, rule) {
                problems.push(format!("{kind} {path}: {rule} does not hold"));
            }
        }
    }
    assert!(checked > 300, "only {checked} facts");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The schema at a path, and whether its parent requires it.
fn field(kind: &str, path: &str) -> Option<(Value, bool)> {
    let crd = custom_resource_definitions()
        .into_iter()
        .find(|crd| crd.spec.names.kind == kind)?;
    let crd = serde_json::to_value(crd).unwrap();
    let mut node = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    let mut required = false;
    for step in path.split('.') {
        let name = step.trim_end_matches("[]");
        required = node["required"]
            .as_array()
            .is_some_and(|names| names.iter().any(|n| n == name));
        node = node["properties"].get(name)?.clone();
        if step.ends_with("[]") {
            node = node.get("items")?.clone();
            required = false;
        }
    }
    Some((node, required))
}

fn holds(schema: &Value, required: bool, rule: &str) -> bool {
    let (name, value) = rule.split_once('=').unwrap_or((rule, ""));
    match name {
        "required" => required,
        "nullable" => schema["nullable"] == true,
        "map-type" => schema["x-kubernetes-map-type"] == value,
        "list-type" => schema["x-kubernetes-list-type"] == value,
        "enum" => {
            let ours: Vec<String> = schema["enum"]
                .as_array()
                .into_iter()
                .flatten()
                .map(plain)
                .collect();
            value.split('|').all(|word| ours.iter().any(|our| our == word))
        }
        _ => plain(&schema[name]) == value || schema[name].as_f64().is_some_and(|n| n.to_string() == value),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[test]
fn columns_and_short_names_are_metal3s() {
    let crd = steelyard_api::crds::definition::<BareMetalHost>();
    assert_eq!(crd.spec.names.short_names.unwrap(), ["bmh", "bmhost"]);
    let columns: Vec<_> = crd.spec.versions[0]
        .additional_printer_columns
        .iter()
        .flatten()
        .map(|column| {
            format!(
                "{} {} {}",
                column.name,
                column.json_path,
                column.priority.unwrap_or(0)
            )
        })
        .collect();
    assert_eq!(
        columns,
        [
            "Status .status.operationalStatus 1",
            "State .status.provisioning.state 0",
            "Consumer .spec.consumerRef.name 0",
            "BMC .spec.bmc.address 1",
            "Online .spec.online 0",
            "Error .status.errorType 0",
            "Age .metadata.creationTimestamp 0",
        ]
    );
}

#[test]
fn strange_words_do_not_stop_a_watch() {
    let host: BareMetalHost = steelyard_api::yaml::read(
        "
metadata: {name: a}
spec: {bootMode: quantum, bmc: {address: 'redfish://a'}}
status:
  operationalStatus: confused
  errorType: cosmic ray
  provisioning: {state: levitating}
",
    )
    .unwrap();
    let status = host.status.unwrap();
    assert_eq!(status.provisioning.state, ProvisioningState::Unknown);
    assert_eq!(status.error_type, Some(ErrorType::Unknown));
    assert!(!host.spec.online);
}

#[test]
fn names_with_capitals_are_spelled_as_metal3_does() {
    let mut host = BareMetalHost::default();
    host.spec.boot_mac_address = Some("aa:bb:cc:dd:ee:01".into());
    let mut status = steelyard_api::metal3::BareMetalHostStatus::default();
    status.provisioning.id = "id".into();
    host.status = Some(status);
    let json = serde_json::to_value(&host).unwrap();
    assert_eq!(json["apiVersion"], "metal3.io/v1alpha1");
    assert_eq!(json["spec"]["bootMACAddress"], "aa:bb:cc:dd:ee:01");
    assert_eq!(json["status"]["provisioning"]["ID"], "id");
    assert_eq!(json["status"]["errorMessage"], "");
    assert_eq!(json["spec"]["online"], false);
}
