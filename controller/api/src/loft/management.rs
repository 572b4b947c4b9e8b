//! `management.loft.sh/v1`: the same objects under the name that users' files mostly carry.
//!
//! One object, two faces. The controller serves the second as an aggregated API, and all that it does to an
//! object on the way is [`to_storage`] and [`to_management`]: group and version, also of what the object says
//! about itself in owner references. Nothing else differs, so the conversion loses nothing either way.

use serde_json::Value;

/// The group that objects are stored in.
pub const STORAGE_API_VERSION: &str = "storage.loft.sh/v1";
/// The group that the aggregated API serves.
pub const MANAGEMENT_API_VERSION: &str = "management.loft.sh/v1";

/// Turns an object, or a list of objects, of the management group into the stored one. Others are left alone.
pub fn to_storage(object: Value) -> Value {
    converted(object, MANAGEMENT_API_VERSION, STORAGE_API_VERSION)
}

/// Turns a stored object, or a list of them, into the management group. Others are left alone.
pub fn to_management(object: Value) -> Value {
    converted(object, STORAGE_API_VERSION, MANAGEMENT_API_VERSION)
}

fn converted(mut object: Value, from: &str, to: &str) -> Value {
    rename(&mut object, from, to);
    if let Some(owners) = object
        .pointer_mut("/metadata/ownerReferences")
        .and_then(Value::as_array_mut)
    {
        owners.iter_mut().for_each(|owner| rename(owner, from, to));
    }
    if let Some(items) = object.get_mut("items").and_then(Value::as_array_mut) {
        for item in items {
            *item = converted(item.take(), from, to);
        }
    }
    object
}

fn rename(node: &mut Value, from: &str, to: &str) {
    if let Some(version) = node.get_mut("apiVersion")
        && version == from
    {
        *version = to.into();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claim(api_version: &str) -> Value {
        json!({
            "apiVersion": api_version,
            "kind": "NodeClaim",
            "metadata": {
                "name": "one-abcde",
                "ownerReferences": [
                    { "apiVersion": api_version, "kind": "VirtualClusterInstance", "name": "one" },
                    { "apiVersion": "v1", "kind": "ConfigMap", "name": "other" },
                ],
            },
            "spec": { "note": "storage.loft.sh/v1 and management.loft.sh/v1 as text stay" },
        })
    }

    #[test]
    fn there_and_back() {
        let (stored, served) = (claim(STORAGE_API_VERSION), claim(MANAGEMENT_API_VERSION));
        assert_eq!(to_management(stored.clone()), served);
        assert_eq!(to_storage(served.clone()), stored);
        assert_eq!(to_storage(stored.clone()), stored);
        let list = |item: Value| json!({ "apiVersion": item["apiVersion"], "kind": "NodeClaimList", "items": [item] });
        assert_eq!(to_management(list(stored)), list(served));
    }

    #[test]
    fn other_groups_are_left_alone() {
        let secret = json!({ "apiVersion": "v1", "kind": "Secret" });
        assert_eq!(to_storage(secret.clone()), secret);
    }
}
