//! `deploy/crds/` is what the code gives, and what it gives is what an API server accepts.

use std::collections::BTreeMap;

use serde_json::Value;
use steelyard_api::{crds, custom_resource_definitions};

#[test]
fn deployed_files_are_what_the_types_give() {
    let folder = crate::repository("deploy/crds");
    let wanted: BTreeMap<String, String> = crds::files().into_iter().collect();
    if std::env::var("INSTA_UPDATE").is_ok_and(|mode| mode == "always") {
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in &wanted {
            std::fs::write(folder.join(name), text).unwrap();
        }
    }
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        found.insert(name, std::fs::read_to_string(entry.path()).unwrap());
    }
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        wanted.keys().collect::<Vec<_>>(),
        "files in deploy/crds; INSTA_UPDATE=always writes missing ones, surplus ones are removed by hand"
    );
    for (name, text) in &wanted {
        assert!(
            found[name] == *text,
            "deploy/crds/{name} is stale: run this test with INSTA_UPDATE=always"
        );
    }
}

#[test]
fn written_yaml_reads_back_as_the_same_definition() {
    for (crd, (name, text)) in custom_resource_definitions().iter().zip(crds::files()) {
        let read: Value = steelyard_api::yaml::read(&text).unwrap();
        let whole = serde_json::to_value(crd).unwrap();
        assert_eq!(read, whole, "{name}");
    }
}

#[test]
fn every_schema_is_structural() {
    for crd in custom_resource_definitions() {
        let name = crd.metadata.name.clone().unwrap();
        let crd = serde_json::to_value(&crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut problems = Vec::new();
        structural(schema, &name, &mut problems);
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }
}

/// The rules of apiextensions' structural schemas, as far as a generator can break them.
fn structural(node: &Value, path: &str, problems: &mut Vec<String>) {
    let Some(schema) = node.as_object() else {
        problems.push(format!("{path}: a schema is an object, found {node}"));
        return;
    };
    let preserves = schema.contains_key("x-kubernetes-preserve-unknown-fields");
    let int_or_string = schema.contains_key("x-kubernetes-int-or-string");
    if !schema.contains_key("type") && !preserves && !int_or_string {
        problems.push(format!("{path}: no type"));
    }
    if schema.get("type").is_some_and(|kind| !kind.is_string()) {
        problems.push(format!("{path}: more than one type"));
    }
    let known_formats = ["int32", "int64", "float", "double", "date-time"];
    if let Some(format) = schema.get("format")
        && !known_formats.contains(&format.as_str().unwrap_or_default())
    {
        problems.push(format!("{path}: API servers ignore the format {format}"));
    }
    for key in schema.keys() {
        let allowed = [
            "type",
            "format",
            "description",
            "properties",
            "items",
            "additionalProperties",
            "required",
            "enum",
            "pattern",
            "minimum",
            "maximum",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "nullable",
            "default",
            "x-kubernetes-preserve-unknown-fields",
            "x-kubernetes-int-or-string",
            "x-kubernetes-map-type",
            "x-kubernetes-list-type",
            "x-kubernetes-list-map-keys",
        ];
        let int_or_string_arms = int_or_string && key == "anyOf";
        if !allowed.contains(&key.as_str()) && !int_or_string_arms {
            problems.push(format!("{path}: {key} has no place here"));
        }
    }
    if schema.contains_key("properties") && schema.contains_key("additionalProperties") {
        problems.push(format!(
            "{path}: properties and additionalProperties exclude each other"
        ));
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for required in schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let name = required.as_str().unwrap_or_default();
        if !properties.is_some_and(|properties| properties.contains_key(name)) {
            problems.push(format!("{path}: requires {name}, which it does not have"));
        }
    }
    for (name, child) in properties.into_iter().flatten() {
        structural(child, &format!("{path}.{name}"), problems);
    }
    for child in ["items", "additionalProperties"] {
        if let Some(child_schema) = schema.get(child) {
            structural(child_schema, &format!("{path}[{child}]"), problems);
        }
    }
}

#[test]
fn columns_point_at_fields_that_exist() {
    for crd in custom_resource_definitions() {
        let name = crd.metadata.name.clone().unwrap();
        let version = &crd.spec.versions[0];
        let schema = serde_json::to_value(version.schema.as_ref().unwrap()).unwrap();
        for column in version.additional_printer_columns.iter().flatten() {
            let mut node = &schema["openAPIV3Schema"];
            for step in column
                .json_path
                .replace(r"\.", "\u{0}")
                .trim_start_matches('.')
                .split('.')
            {
                let step = step.replace('\u{0}', ".");
                // Metadata is the server's; a filter looks into a list; a map takes any key.
                if step == "metadata" || step.contains('[') || node.get("additionalProperties").is_some() {
                    break;
                }
                let next = &node["properties"][&step];
                assert!(
                    !next.is_null(),
                    "{name}: column {} reads {}, of which {step} is no field",
                    column.name,
                    column.json_path
                );
                node = next;
            }
        }
    }
}

#[test]
fn descriptions_leave_room_for_client_side_apply() {
    // kubectl apply keeps the whole object in an annotation, and annotations may take 256 KiB together.
    for (name, text) in crds::files() {
        assert!(text.len() < 200_000, "{name} has {} bytes", text.len());
    }
}
