//! Schemas at work: pruning, defaulting, validation in the recorded words.

use serde_json::{Value, json};

use super::*;

fn gadget() -> Schema {
    parse(
        &json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["colour"], "properties": {
            "colour": {"type": "string", "enum": ["red", "green", "blue"]},
            "replicas": {"type": "integer", "default": 2, "minimum": 0},
            "min": {"type": "integer"},
            "port": {"x-kubernetes-int-or-string": true},
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string", "pattern": "^[a-z]+$"}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}}},
        }}}}),
    )
}

fn complaints(spec: Value, old: Option<Value>) -> Vec<String> {
    let old = old.map(|spec| json!({"spec": spec}));
    let causes = validate(&json!({"spec": spec}), old.as_ref(), &gadget());
    causes
        .into_iter()
        .map(|c| format!("{}: {}", c.field, c.message))
        .collect()
}

#[test]
fn pruning_names_what_it_removes() {
    let mut value = json!({"spec": {"nope": 1, "free": {"x": {"y": 1}}, "ports": [{"name": "a", "zz": 1}], "map": {"k": {"b": 1}}}});
    let mut unknown = Vec::new();
    prune(&mut value, &gadget(), &mut unknown);
    assert_eq!(unknown, ["spec.nope", "spec.ports[0].zz", "spec.map.k.b"]);
    assert_eq!(
        value,
        json!({"spec": {"free": {"x": {"y": 1}}, "ports": [{"name": "a"}], "map": {"k": {}}}})
    );
}

#[test]
fn defaults_fill_gaps_and_nulls() {
    let mut value = json!({"spec": {"replicas": null}});
    apply_defaults(&mut value, &gadget());
    assert_eq!(value, json!({"spec": {"replicas": 2}}));
}

#[test]
fn violations_in_the_recorded_words() {
    for (spec, want) in [
        (
            json!({"colour": "pink"}),
            r#"spec.colour: Unsupported value: "pink": supported values: "red", "green", "blue""#,
        ),
        (json!({}), "spec.colour: Required value"),
        (
            json!({"colour": "red", "replicas": -1}),
            "spec.replicas: Invalid value: -1: spec.replicas in body should be greater than or equal to 0",
        ),
        (
            json!({"colour": "red", "min": "many"}),
            r#"spec.min: Invalid value: "string": spec.min in body must be of type integer: "string""#,
        ),
        (
            json!({"colour": "red", "tags": ["a", "a"]}),
            r#"spec.tags[1]: Duplicate value: "a""#,
        ),
        (
            json!({"colour": "red", "tags": ["A"]}),
            r#"spec.tags[0]: Invalid value: "A": spec.tags[0] in body should match '^[a-z]+$'"#,
        ),
        (
            json!({"colour": "red", "ports": [{"name": "a"}, {"name": "a"}]}),
            r#"spec.ports[1]: Duplicate value: {"name":"a"}"#,
        ),
    ] {
        assert_eq!(complaints(spec, None), [want]);
    }
    assert!(complaints(json!({"colour": "red", "port": "http", "min": 1.0}), None).is_empty());
}

#[test]
fn what_did_not_change_is_not_complained_about() {
    let old = json!({"colour": "pink", "replicas": 1});
    assert!(complaints(json!({"colour": "pink", "replicas": 2}), Some(old.clone())).is_empty());
    assert_eq!(complaints(json!({"colour": "grey"}), Some(old)).len(), 1);
}

#[test]
fn built_in_types_are_checked_as_go_decodes() {
    let pod = builtin::schema("", "v1", "Pod").expect("Pod is known");
    let error = typecheck(
        &json!({"spec": {"containers": [{"name": "a", "image": 5}]}}),
        &pod,
    );
    assert_eq!(
        error.as_deref(),
        Some(
            "json: cannot unmarshal number into Go struct field Container.spec.containers.image of type string"
        )
    );
    let crd =
        builtin::schema("apiextensions.k8s.io", "v1", "CustomResourceDefinition").expect("CRD is known");
    let schema = json!({"openAPIV3Schema": {"type": "object", "default": "x", "properties": {"a": {"items": {"type": "string", "enum": ["b"]}}}}});
    let fine = json!({"spec": {"versions": [{"name": "v1", "schema": schema}]}});
    assert_eq!(typecheck(&fine, &crd), None);
    let mut pruned = fine.clone();
    let mut unknown = Vec::new();
    prune(&mut pruned, &crd, &mut unknown);
    assert_eq!((pruned, unknown), (fine, Vec::new()));
}

#[test]
fn every_recorded_kind_has_a_schema() {
    let recorded: Value =
        serde_json::from_str(include_str!("../../data/discovery.json")).expect("recorded data parses");
    let mut known = 0;
    for group in recorded["items"].as_array().expect("items") {
        for version in group["versions"].as_array().expect("versions") {
            for resource in version["resources"].as_array().expect("resources") {
                let kind = resource["responseKind"]["kind"].as_str().expect("kind");
                let group = group["metadata"]["name"].as_str().unwrap_or_default();
                let version = version["version"].as_str().expect("version");
                known += usize::from(builtin::schema(group, version, kind).is_some());
            }
        }
    }
    assert!(known >= 50, "only {known} kinds have a schema");
}
