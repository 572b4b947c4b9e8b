//! `meta.k8s.io/v1 Table`: what `kubectl get` prints.

mod builtin;
mod cells;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::clock;
use crate::registry::Resource;

const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const AGE: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

struct Column {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i64,
}

impl Column {
    fn to_value(&self) -> Value {
        json!({"name": self.name, "type": self.kind, "format": self.format, "description": self.description, "priority": self.priority})
    }
}

/// How long ago, as `kubectl get` says it.
fn age(value: &Value, now: Timestamp) -> Value {
    let Some(at) = value.as_str().and_then(clock::parse) else {
        return "<unknown>".into();
    };
    clock::human_duration(now.as_second() - at.as_second()).into()
}

fn custom_columns(resource: &Resource) -> Option<Vec<Column>> {
    let custom = resource.custom.as_ref()?;
    let mut columns = vec![Column {
        name: "Name".into(),
        kind: "string".into(),
        format: "name".into(),
        description: NAME.into(),
        priority: 0,
    }];
    if custom.columns.is_empty() {
        columns.push(Column {
            name: "Age".into(),
            kind: "date".into(),
            format: String::new(),
            description:
                "Custom resource definition column (in JSONPath format): .metadata.creationTimestamp".into(),
            priority: 0,
        });
    }
    columns.extend(custom.columns.iter().map(|column| Column {
        name: column.name.clone(),
        kind: column.kind.clone(),
        format: column.format.clone(),
        description: column.description.clone(),
        priority: column.priority,
    }));
    Some(columns)
}

fn custom_cells(resource: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    let mut cells = vec![object["metadata"]["name"].clone()];
    let Some(custom) = &resource.custom else {
        return cells;
    };
    if custom.columns.is_empty() {
        cells.push(age(&object["metadata"]["creationTimestamp"], now));
    }
    for column in &custom.columns {
        let found = column.path.find(object);
        let cell = match (found.as_slice(), column.kind.as_str()) {
            ([], _) => Value::Null,
            ([first, ..], "date") => age(first, now),
            ([one], kind) => custom_cell(one, kind),
            (many, "string") => {
                let texts: Vec<String> = many.iter().map(|v| plain(v)).collect();
                texts.join(",").into()
            }
            ([first, ..], kind) => custom_cell(first, kind),
        };
        cells.push(cell);
    }
    cells
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn custom_cell(value: &Value, kind: &str) -> Value {
    match kind {
        "integer" => value.as_i64().map_or_else(
            || value.as_f64().map_or(Value::Null, |f| (f as i64).into()),
            Into::into,
        ),
        "number" if value.is_number() => value.clone(),
        "boolean" if value.is_boolean() => value.clone(),
        "string" if value.is_null() => Value::Null,
        "string" => plain(value).into(),
        _ => Value::Null,
    }
}

/// `include` is `includeObject`: None, Metadata or Object.
pub(crate) fn render(
    resource: &Resource,
    objects: &[&Value],
    include: &str,
    definitions: bool,
    now: Timestamp,
) -> Value {
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let cells = match resource.is_custom() {
                true => custom_cells(resource, object, now),
                false => builtin::cells(resource, object, now),
            };
            let mut row = json!({"cells": cells});
            let mut partial = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]});
            match include {
                "None" => {}
                "Object" => row["object"] = (*object).clone(),
                _ => row["object"] = partial.take(),
            }
            row
        })
        .collect();
    let columns = definitions.then(|| custom_columns(resource).unwrap_or_else(|| builtin::columns(resource)));
    let columns = columns.map_or(Value::Null, |columns| {
        columns.iter().map(Column::to_value).collect::<Vec<_>>().into()
    });
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "columnDefinitions": columns, "rows": rows})
}
