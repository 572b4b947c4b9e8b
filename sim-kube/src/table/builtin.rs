//! Columns of the built-in kinds, from `data/columns.tsv` as recorded, and the cells to go with them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, NAME, age, cells};
use crate::registry::Resource;

/// `group/version resource` to its columns.
static COLUMNS: LazyLock<BTreeMap<String, Vec<(String, String, String, i64)>>> = LazyLock::new(|| {
    let mut all = BTreeMap::new();
    for line in include_str!("../../data/columns.tsv").lines().skip(1) {
        let Some((resource, columns)) = line.split_once('\t') else {
            continue;
        };
        let columns = columns.split(" | ").map(|column| {
            // `Port(s)` and `Created At` hold no colon; the parts after the name do not hold any either.
            let mut parts = column.split(':').map(str::to_owned);
            let (name, kind) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let rest: Vec<String> = parts.collect();
            let wide = rest.iter().any(|part| part == "wide");
            let format = rest.into_iter().find(|part| part != "wide").unwrap_or_default();
            (name, kind, format, i64::from(wide))
        });
        all.insert(resource.to_owned(), columns.collect());
    }
    all
});

fn key(resource: &Resource) -> String {
    let group = if resource.group.is_empty() {
        "core"
    } else {
        &resource.group
    };
    format!("{group}/{} {}", resource.version, resource.plural)
}

/// Kinds without a printer of their own show name and creation time.
fn fallback() -> Vec<(String, String, String, i64)> {
    let column =
        |name: &str, kind: &str, format: &str| (name.to_owned(), kind.to_owned(), format.to_owned(), 0);
    vec![column("Name", "string", "name"), column("Created At", "date", "")]
}

fn spec(resource: &Resource) -> Vec<(String, String, String, i64)> {
    COLUMNS.get(&key(resource)).cloned().unwrap_or_else(fallback)
}

pub(super) fn columns(resource: &Resource) -> Vec<Column> {
    spec(resource)
        .into_iter()
        .map(|(name, kind, format, priority)| {
            let description = match name.as_str() {
                "Name" => NAME.to_owned(),
                "Age" | "Created At" => AGE.to_owned(),
                _ => String::new(),
            };
            Column {
                name,
                kind,
                format,
                description,
                priority,
            }
        })
        .collect()
}

pub(super) fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    spec(resource)
        .iter()
        .map(|(name, kind, _, _)| {
            let metadata = &object["metadata"];
            match name.as_str() {
                "Name" => metadata["name"].clone(),
                "Age" => age(&metadata["creationTimestamp"], now),
                "Created At" => metadata["creationTimestamp"].clone(),
                other => cells::cell(&resource.plural, other, object, now).unwrap_or_else(|| empty(kind)),
            }
        })
        .collect()
}

fn empty(kind: &str) -> Value {
    match kind {
        "integer" => 0.into(),
        "boolean" => false.into(),
        _ => "<none>".into(),
    }
}
