//! Rows of behaviour as files: what is seen, and what is decided.
//!
//! A folder under `testdata/` holds `base.yaml`, a whole small world, and one file a row. A row's `view` is a merge
//! patch on that world, so that it says only what is special about it; objects are listed by name. `expect` is the
//! decision, written anew with `INSTA_UPDATE=always`.

use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use steelyard_api::{loft::NodeClaim, yaml};
use steelyard_core::{Change, Jitter, Moment, Notice, ObjectWrite, Wake};

/// One row: the moment and the world that a decision is made in.
pub(crate) struct Row {
    pub at: Moment,
    pub world: Value,
}

/// Runs every row of a folder; `decide` gives what `expect` is compared with.
pub(crate) fn run(folder: &str, decide: impl Fn(&Row) -> Value) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(folder);
    let base: Value = yaml::read(&std::fs::read_to_string(folder.join("base.yaml")).unwrap()).unwrap();
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|file| file.file_name().is_some_and(|name| name != "base.yaml"));
    files.sort();
    assert!(!files.is_empty(), "no rows in {}", folder.display());
    let update = std::env::var("INSTA_UPDATE").is_ok_and(|mode| mode == "always");
    let mut wrong = Vec::new();
    for file in files {
        if let Some(difference) = check(&file, &base, update, &decide) {
            wrong.push(format!("{}\n{difference}", file.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nINSTA_UPDATE=always writes what is decided now",
        wrong.join("\n\n")
    );
}

fn check(file: &Path, base: &Value, update: bool, decide: &impl Fn(&Row) -> Value) -> Option<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let row: Value = yaml::read(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let now = row
        .get("now")
        .and_then(Value::as_str)
        .unwrap_or("2026-01-01T00:00:00Z")
        .parse()
        .unwrap();
    let seed = row.get("seed").and_then(Value::as_u64).unwrap_or(1);
    let mut world = base.clone();
    json_patch_merge(&mut world, row.get("view").unwrap_or(&Value::Null));
    let decided = decide(&Row {
        at: Moment {
            now,
            jitter: Jitter(seed),
        },
        world,
    });
    let expected = row.get("expect").cloned().unwrap_or_default();
    if decided == expected {
        return None;
    }
    if update {
        let kept = text.find("\nexpect:").map_or(text.trim_end(), |at| &text[..at]);
        let body = yaml::document(&json!({ "expect": decided }));
        std::fs::write(file, format!("{kept}\n{}", body.trim_start_matches("---\n"))).unwrap();
        return None;
    }
    Some(format!(
        "expected\n{}\ndecided\n{}",
        yaml::document(&expected),
        yaml::document(&decided)
    ))
}

/// RFC 7396.
pub(crate) fn json_patch_merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(fields) = target.as_object_mut() else {
        return;
    };
    for (key, value) in patch {
        match value {
            Value::Null => {
                fields.remove(key);
            }
            Value::Object(_) => json_patch_merge(fields.entry(key.clone()).or_insert(json!({})), value),
            other => {
                fields.insert(key.clone(), other.clone());
            }
        }
    }
}

/// Objects that a world lists by name, with the metadata that a server would have given them.
pub(crate) fn objects<K: serde::de::DeserializeOwned>(
    world: &Value,
    list: &str,
    namespace: Option<&str>,
) -> Vec<K> {
    let all = world
        .get(list)
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    all.into_iter()
        .map(|(name, object)| named(object, &name, namespace))
        .collect()
}

/// One object with its name filled in.
pub(crate) fn named<K: serde::de::DeserializeOwned>(
    mut object: Value,
    name: &str,
    namespace: Option<&str>,
) -> K {
    let mut metadata = json!({ "name": name, "uid": format!("uid-of-{name}"), "resourceVersion": "1" });
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    let given = object.get("metadata").cloned().unwrap_or(json!({}));
    json_patch_merge(&mut metadata, &given);
    object["metadata"] = metadata;
    serde_json::from_value(object).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A fact of the world: `{known: value}`, `{unreachable: why}`, or absent for "not asked".
pub(crate) fn observed<T: serde::de::DeserializeOwned>(
    world: &Value,
    fact: &str,
    at: Moment,
) -> steelyard_core::Observed<T> {
    use steelyard_core::{Ignorance, Observed};
    let found = world.get(fact).cloned().unwrap_or_default();
    if let Some(value) = found.get("known") {
        let value = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{fact}: {error}"));
        return Observed::Known { value, at: at.now };
    }
    match found.get("unreachable").and_then(Value::as_str) {
        Some(why) => Observed::Unknown {
            since: at.now,
            why: Ignorance::Unreachable(why.to_owned()),
        },
        None => Observed::not_asked(at.now),
    }
}

/// A decision as its readers want it: writes named by their object, records unfolded, nothing empty.
pub(crate) fn shown<S: Serialize, I: Serialize>(
    rule: steelyard_core::Rule,
    status: &S,
    writes: &[ObjectWrite],
    intents: &[I],
    events: &[Notice],
    wake: Wake,
) -> Value {
    let mut all = Map::new();
    all.insert("rule".into(), json!(rule.0));
    let mut status = serde_json::to_value(status).unwrap();
    let conditions = status
        .get("conditions")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if let Some(status) = status.as_object_mut() {
        status.remove("rule");
        if status.remove("conditions").is_some() {
            status.insert("conditions".into(), conditions.iter().map(line).collect());
        }
    }
    all.insert("status".into(), status);
    let writes: Vec<Value> = writes.iter().map(write).collect();
    for (key, list) in [
        ("writes", json!(writes)),
        ("intents", json!(intents)),
        ("events", events.iter().map(|e| json!(notice(e))).collect()),
    ] {
        if list != json!([]) {
            all.insert(key.into(), list);
        }
    }
    if wake != Wake::OnChange {
        all.insert("wake".into(), json!(wake));
    }
    Value::Object(all)
}

fn line(condition: &Value) -> Value {
    let word = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
    let message = if word("message").is_empty() {
        String::new()
    } else {
        format!(": {}", word("message"))
    };
    json!(format!(
        "{}={} {}{message}",
        word("type"),
        word("status"),
        word("reason")
    ))
}

fn notice(event: &Notice) -> String {
    format!(
        "{} {}: {}",
        if event.warning { "Warning" } else { "Normal" },
        event.reason,
        event.message
    )
}

fn write(write: &ObjectWrite) -> Value {
    let target = &write.target;
    let place = target
        .namespace
        .as_ref()
        .map(|namespace| format!("{namespace}/"))
        .unwrap_or_default();
    let object = format!("{} {place}{}", target.kind, target.name);
    let change = match &write.change {
        Change::Create { object } => json!({ "create": unfolded(object) }),
        Change::Apply { object } => json!({ "apply": unfolded(object) }),
        Change::Merge {
            resource_version,
            patch,
        } => {
            json!({ "merge": unfolded(patch), "resourceVersion": resource_version })
        }
        Change::Delete { uid } => json!({ "delete": uid }),
    };
    json!({ object: change })
}

/// The restore record is JSON in a string; here it is read.
fn unfolded(patch: &Value) -> Value {
    let mut patch = patch.clone();
    let pointer = "/metadata/annotations/steelyard.dev~1restore";
    if let Some(record) = patch.pointer_mut(pointer)
        && let Some(text) = record.as_str()
    {
        *record = serde_json::from_str(text).unwrap();
    }
    patch
}

/// The claim of a world.
pub(crate) fn claim(world: &Value) -> NodeClaim {
    named(world["claim"].clone(), "machine-1", Some("p-default"))
}
