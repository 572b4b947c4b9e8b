//! Ownership as recorded from a real server.

use serde_json::{Value, json};

use super::*;
use crate::schema::{Schema, parse};

fn schema() -> Schema {
    parse(&json!({"type": "object", "properties": {
        "metadata": {"type": "object", "properties": {"labels": {"type": "object", "additionalProperties": {"type": "string"}}}},
        "spec": {"type": "object", "properties": {
            "colour": {"type": "string"},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {"name": {"type": "string"}, "number": {"type": "integer"}}}},
        }},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }}))
}

fn who(manager: &str, operation: Operation) -> Who {
    Who {
        manager: manager.into(),
        operation,
        api_version: "g/v1".into(),
        subresource: String::new(),
        time: "2026-11-24T19:57:26Z".into(),
        ignored: vec!["status"],
    }
}

fn owned_by(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    entries
        .into_iter()
        .find(|e| e["manager"] == manager)
        .map_or(Value::Null, |e| e["fieldsV1"].clone())
}

fn applied(live: &Value, spec: Value, manager: &str, force: bool) -> Result<Value, Vec<(String, String)>> {
    apply(
        live,
        &json!({"metadata": {"name": "s"}, "spec": spec}),
        &schema(),
        &who(manager, Operation::Apply),
        force,
    )
}

#[test]
fn updates_own_containers_and_leaves() {
    let mut new = json!({"metadata": {"name": "a"}, "spec": {"colour": "red", "tags": ["x"]}});
    track(&json!({}), &mut new, &schema(), &who("wire", Operation::Update));
    let want = json!({"f:spec": {".": {}, "f:colour": {}, "f:tags": {".": {}, "v:\"x\"": {}}}});
    assert_eq!(owned_by(&new, "wire"), want);
}

#[test]
fn apply_conflicts_forces_and_removes() {
    let live = json!({"metadata": {"name": "s"}});
    let one = applied(&live, json!({"colour": "red", "tags": ["x"]}), "one", false).expect("first apply");
    assert_eq!(
        owned_by(&one, "one"),
        json!({"f:spec": {"f:colour": {}, "f:tags": {"v:\"x\"": {}}}})
    );
    assert_eq!(
        applied(&one, json!({"colour": "blue"}), "two", false),
        Err(vec![("\"one\"".into(), ".spec.colour".into())])
    );
    let two = applied(&one, json!({"colour": "blue", "tags": ["y"]}), "two", true).expect("forced");
    assert_eq!(two["spec"], json!({"colour": "blue", "tags": ["x", "y"]}));
    assert_eq!(
        owned_by(&two, "one"),
        json!({"f:spec": {"f:tags": {"v:\"x\"": {}}}})
    );
    let less = applied(&two, json!({"colour": "blue"}), "two", false).expect("own fields");
    assert_eq!(less["spec"], json!({"colour": "blue", "tags": ["x"]}));
}

#[test]
fn map_lists_merge_by_key() {
    let live = json!({"metadata": {"name": "s"}});
    let a = applied(&live, json!({"ports": [{"name": "a", "number": 1}]}), "a", false).expect("a");
    let b = applied(&a, json!({"ports": [{"name": "b", "number": 2}]}), "b", false).expect("b");
    assert_eq!(b["spec"]["ports"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        owned_by(&b, "b"),
        json!({"f:spec": {"f:ports": {"k:{\"name\":\"b\"}": {".": {}, "f:name": {}, "f:number": {}}}}})
    );
    let gone = applied(&b, json!({"colour": "red"}), "b", false).expect("b without ports");
    assert_eq!(gone["spec"]["ports"], json!([{"name": "a", "number": 1}]));
}

#[test]
fn applying_the_same_changes_nothing() {
    let live = json!({"metadata": {"name": "s"}});
    let one = applied(&live, json!({"colour": "red"}), "one", false).expect("first");
    let again = applied(&one, json!({"colour": "red"}), "one", false).expect("again");
    assert_eq!(one, again);
}

#[test]
fn an_update_takes_over() {
    let live = json!({"metadata": {"name": "s"}});
    let one = applied(&live, json!({"colour": "red"}), "one", false).expect("first");
    let mut new = one.clone();
    new["spec"]["colour"] = "blue".into();
    track(&one, &mut new, &schema(), &who("two", Operation::Update));
    assert_eq!(owned_by(&new, "one"), Value::Null);
    assert_eq!(owned_by(&new, "two"), json!({"f:spec": {"f:colour": {}}}));
}
