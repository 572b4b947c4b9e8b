//! The entries of `metadata.managedFields`: who owns what since when, and what a write changes about it.

use serde_json::{Value, json};

use super::diff::{Diff, owned};
use super::merge::{merge, prune};
use super::set::{Element, FieldSet};
use crate::schema::Schema;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// The author of a write.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub(crate) manager: String,
    pub(crate) operation: Operation,
    pub(crate) api_version: String,
    pub(crate) subresource: String,
    pub(crate) time: String,
    /// Top-level fields that this endpoint does not write: `status` on the main one, the rest on `/status`.
    pub(crate) ignored: Vec<&'static str>,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    manager: String,
    operation: Operation,
    api_version: String,
    subresource: String,
    time: String,
    set: FieldSet,
}

impl Entry {
    fn parse(value: &Value) -> Option<Entry> {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        Some(Entry {
            manager: text("manager"),
            operation: match value["operation"].as_str()? {
                "Apply" => Operation::Apply,
                _ => Operation::Update,
            },
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: text("time"),
            set: FieldSet::from_wire(&value["fieldsV1"]),
        })
    }

    fn to_value(&self) -> Value {
        let mut entry = json!({
            "manager": self.manager, "operation": self.operation.name(), "apiVersion": self.api_version,
            "time": self.time, "fieldsType": "FieldsV1", "fieldsV1": self.set.to_wire(),
        });
        if !self.subresource.is_empty() {
            entry["subresource"] = self.subresource.clone().into();
        }
        entry
    }

    fn is_by(&self, who: &Who) -> bool {
        self.manager == who.manager
            && self.operation == who.operation
            && self.subresource == who.subresource
            && (self.operation == Operation::Apply || self.api_version == who.api_version)
    }

    /// As a conflict names its holder.
    fn shown(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

fn entries(object: &Value) -> Vec<Entry> {
    let list = object["metadata"].get("managedFields").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Entry::parse).collect()
}

fn store(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.set.is_empty());
    entries.sort_by(|a, b| {
        (a.operation, &a.time, &a.manager, &a.api_version, &a.subresource).cmp(&(
            b.operation,
            &b.time,
            &b.manager,
            &b.api_version,
            &b.subresource,
        ))
    });
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    if entries.is_empty() {
        metadata.shift_remove("managedFields");
        return;
    }
    metadata.insert(
        "managedFields".into(),
        entries.iter().map(Entry::to_value).collect::<Vec<_>>().into(),
    );
}

/// Fields that the server owns: no manager may.
const SERVER_METADATA: &[&str] = &[
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

fn strip(set: &mut FieldSet, ignored: &[&str]) {
    set.member = false;
    for key in ["apiVersion", "kind"].iter().chain(ignored) {
        set.children.remove(&Element::Field((*key).to_owned()));
    }
    let metadata = Element::Field("metadata".into());
    if let Some(meta) = set.children.get_mut(&metadata) {
        meta.member = false;
        for key in SERVER_METADATA {
            meta.children.remove(&Element::Field((*key).to_owned()));
        }
        if meta.is_empty() {
            set.children.remove(&metadata);
        }
    }
}

/// Records an Update: the author gains what changed, everybody loses what is gone, the others what changed.
///
/// `old` is the live object, or the empty object of the kind on creation.
pub(crate) fn track(old: &Value, new: &mut Value, schema: &Schema, who: &Who) {
    let mut held = entries(old);
    let mut diff = Diff::between(old, new, schema);
    strip(&mut diff.changed, &who.ignored);
    strip(&mut diff.removed, &who.ignored);
    if diff.changed.is_empty() && diff.removed.is_empty() {
        if let Some(fields) = old["metadata"].get("managedFields") {
            new["metadata"]["managedFields"] = fields.clone();
        }
        return;
    }
    for entry in &mut held {
        entry.set.subtract_deep(&diff.removed);
        if !entry.is_by(who) {
            entry.set.subtract(&diff.changed);
        }
    }
    if !diff.changed.is_empty() {
        claim(&mut held, who, |set| set.union(&diff.changed));
    }
    store(new, held);
}

fn claim(held: &mut Vec<Entry>, who: &Who, change: impl FnOnce(&mut FieldSet)) {
    let at = held.iter().position(|entry| entry.is_by(who)).unwrap_or_else(|| {
        held.push(Entry {
            manager: who.manager.clone(),
            operation: who.operation,
            api_version: who.api_version.clone(),
            subresource: who.subresource.clone(),
            time: who.time.clone(),
            set: FieldSet::default(),
        });
        held.len() - 1
    });
    held[at].time = who.time.clone();
    held[at].api_version = who.api_version.clone();
    change(&mut held[at].set);
}

/// Conflicts of an apply: holder, field.
pub(crate) type Conflicts = Vec<(String, String)>;

/// Server-side apply of `config` over `live`. The result still has to be defaulted and validated.
pub(crate) fn apply(
    live: &Value,
    config: &Value,
    schema: &Schema,
    who: &Who,
    force: bool,
) -> Result<Value, Conflicts> {
    let mut held = entries(live);
    let mut set = FieldSet::default();
    owned(config, schema, &mut set);
    strip(&mut set, &who.ignored);
    let mine = held.iter().position(|entry| entry.is_by(who));
    let last = mine.map(|at| held[at].set.clone()).unwrap_or_default();

    let mut config = config.clone();
    if let Some(map) = config.as_object_mut() {
        for key in &who.ignored {
            map.shift_remove(*key);
        }
    }
    let mut merged = merge(live, &config, schema);
    let mut all = set.clone();
    for entry in held.iter().filter(|entry| !entry.is_by(who)) {
        all.union(&entry.set);
    }
    prune(&mut merged, schema, &last, &all);

    let mut diff = Diff::between(live, &merged, schema);
    strip(&mut diff.changed, &who.ignored);
    strip(&mut diff.removed, &who.ignored);
    let mut conflicts = Conflicts::new();
    for entry in held.iter().filter(|entry| !entry.is_by(who)) {
        // The same manager's own earlier writes by another operation are not in its way.
        let both = entry.set.intersection(&diff.changed);
        let at = entry.shown();
        conflicts.extend(both.paths().into_iter().map(|path| (at.clone(), path)));
    }
    if !conflicts.is_empty() && !force {
        conflicts.sort();
        return Err(conflicts);
    }
    for entry in &mut held {
        entry.set.subtract_deep(&diff.removed);
        if !entry.is_by(who) {
            entry.set.subtract(&diff.changed);
        }
    }
    // Who owns nothing yet may be making the object: with a name and nothing else there is no difference to see.
    let unchanged = mine.is_some() && last == set && diff.changed.is_empty() && diff.removed.is_empty();
    if unchanged {
        return Ok(live.clone());
    }
    claim(&mut held, who, |mine| *mine = set);
    store(&mut merged, held);
    Ok(merged)
}
