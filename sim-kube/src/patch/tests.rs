//! Patches by example.

use serde_json::{Value, json};

use super::*;
use crate::schema::builtin;

fn strategic(mut object: Value, patch: Value) -> Value {
    let schema = builtin::schema("", "v1", "Pod").expect("Pod is served");
    Patch::parse(PatchType::Strategic, patch.to_string().as_bytes())
        .and_then(|p| p.apply(&mut object, &schema))
        .expect("applies");
    object
}

#[test]
fn containers_merge_by_name() {
    let pod = json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}});
    let out = strategic(
        pod.clone(),
        json!({"spec": {"containers": [{"name": "b", "image": "z"}]}}),
    );
    assert_eq!(
        out["spec"]["containers"],
        json!([{"name": "a", "image": "x"}, {"name": "b", "image": "z"}])
    );
    let out = strategic(
        pod.clone(),
        json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
    );
    assert_eq!(out["spec"]["containers"], json!([{"name": "b", "image": "y"}]));
    let patch =
        json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": []}});
    assert_eq!(
        strategic(pod.clone(), patch)["spec"]["containers"][0]["name"],
        "b"
    );
    let out = strategic(
        pod,
        json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "c"}]}}),
    );
    assert_eq!(out["spec"]["containers"], json!([{"name": "c"}]));
}

#[test]
fn primitive_lists_merge_and_shrink() {
    let pod = json!({"metadata": {"finalizers": ["a/b"]}});
    let out = strategic(pod, json!({"metadata": {"finalizers": ["c/d", "a/b"]}}));
    assert_eq!(out["metadata"]["finalizers"], json!(["a/b", "c/d"]));
    let out = strategic(
        out,
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"]}}),
    );
    assert_eq!(out["metadata"]["finalizers"], json!(["c/d"]));
}

#[test]
fn atomic_lists_are_replaced() {
    let pod = json!({"spec": {"containers": [{"name": "a", "command": ["x", "y"]}]}});
    let out = strategic(
        pod,
        json!({"spec": {"containers": [{"name": "a", "command": ["z"]}]}}),
    );
    assert_eq!(out["spec"]["containers"][0]["command"], json!(["z"]));
}

#[test]
fn merge_patch_is_rfc_7386() {
    let mut object = json!({"a": {"b": 1, "c": 2}, "l": [1]});
    merge(&mut object, &json!({"a": {"b": null, "d": 3}, "l": [2, 3]}));
    assert_eq!(object, json!({"a": {"c": 2, "d": 3}, "l": [2, 3]}));
}

#[test]
fn json_patch_refusals() {
    let code = |body: &str| match Patch::parse(PatchType::Json, body.as_bytes()) {
        Ok(patch) => patch
            .apply(&mut json!({"spec": {"max": 9}}), &Schema::default())
            .map_or_else(|e| e.code, |()| 200),
        Err(error) => error.code,
    };
    assert_eq!(code(r#"[{"op":"test","path":"/spec/max","value":1}]"#), 422);
    assert_eq!(code(r#"[{"op":"remove","path":"/spec/none"}]"#), 422);
    assert_eq!(code(r#"{"op":"x"}"#), 400);
    assert_eq!(code(r#"[{"op":"add","path":"/spec/min","value":1}]"#), 200);
}
