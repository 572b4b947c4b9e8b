//! What a CRD's schema must be before the server takes it: structural, with rules that compile.

use kube_cel::cel::Program;
use serde_json::Value;

use super::columns::JsonPath;
use super::{Pattern, keyed};
use crate::status::Cause;

/// Nesting that a JSON parser and our walkers take without care for the stack.
const DEPTH_MAX: usize = 100;

pub(crate) fn check(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    if schema["type"].as_str() != Some("object") {
        let found = schema.get("type").cloned().unwrap_or_else(|| "".into());
        if found == "" {
            causes.push(Cause::required(
                format!("{path}.type"),
                "must not be empty at the root",
            ));
        } else {
            causes.push(Cause::invalid(
                format!("{path}.type"),
                &found,
                "must be object at the root",
            ));
        }
    }
    node(schema, path, 0, causes);
}

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn node(schema: &Value, path: &str, depth: usize, causes: &mut Vec<Cause>) {
    if depth > DEPTH_MAX {
        causes.push(Cause::forbidden(path, "the schema is nested too deeply"));
        return;
    }
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    let free =
        flag(schema, "x-kubernetes-int-or-string") || flag(schema, "x-kubernetes-preserve-unknown-fields");
    if kind.is_empty() && !free && depth > 0 {
        let what = if schema.get("properties").is_some() || schema.get("additionalProperties").is_some() {
            "must not be empty for specified object fields"
        } else if schema.get("items").is_some() {
            "must not be empty for specified array items"
        } else {
            "must not be empty for specified object fields"
        };
        causes.push(Cause::required(format!("{path}.type"), what));
    }
    if !kind.is_empty()
        && !matches!(
            kind,
            "object" | "array" | "string" | "integer" | "number" | "boolean"
        )
    {
        let allowed: Vec<Value> = ["array", "boolean", "integer", "number", "object", "string"]
            .iter()
            .map(|s| Value::from(*s))
            .collect();
        causes.push(Cause::not_supported(
            format!("{path}.type"),
            &kind.into(),
            &allowed,
        ));
    }
    if kind == "array" && schema.get("items").is_none() {
        causes.push(Cause::required(format!("{path}.items"), "must be specified"));
    }
    if schema.get("$ref").is_some() {
        causes.push(Cause::forbidden(format!("{path}.$ref"), "$ref is not supported"));
    }
    if flag(schema, "uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        causes.push(Cause::forbidden(format!("{path}.uniqueItems"), detail));
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && !Pattern::new(pattern).is_valid()
    {
        causes.push(Cause::invalid(
            format!("{path}.pattern"),
            &pattern.into(),
            "must be a valid regular expression",
        ));
    }
    lists(schema, path, kind, causes);
    rules(schema, path, causes);
    children(schema, path, depth, causes);
}

fn lists(schema: &Value, path: &str, kind: &str, causes: &mut Vec<Cause>) {
    let Some(list_type) = schema.get("x-kubernetes-list-type").and_then(Value::as_str) else {
        return;
    };
    let at = format!("{path}.x-kubernetes-list-type");
    if kind != "array" {
        causes.push(Cause::invalid(
            format!("{path}.type"),
            &kind.into(),
            "must be array if x-kubernetes-list-type is specified",
        ));
    }
    match list_type {
        "atomic" | "set" => {}
        "map" => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            if keys.is_none_or(Vec::is_empty) {
                let at = format!("{path}.x-kubernetes-list-map-keys");
                causes.push(Cause::required(
                    at,
                    "must not be empty if x-kubernetes-list-type is map",
                ));
            }
            for key in keys.into_iter().flatten().filter_map(Value::as_str) {
                if schema["items"]["properties"].get(key).is_none() {
                    let at = format!("{path}.x-kubernetes-list-map-keys[0]");
                    causes.push(Cause::invalid(
                        at,
                        &key.into(),
                        "entries must all be names of item properties",
                    ));
                }
            }
        }
        other => {
            let allowed: Vec<Value> = ["atomic", "map", "set"].iter().map(|s| Value::from(*s)).collect();
            causes.push(Cause::not_supported(at, &other.into(), &allowed));
        }
    }
}

fn rules(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
    for (at, rule) in rules.into_iter().flatten().enumerate() {
        let path = format!("{path}.x-kubernetes-validations[{at}].rule");
        let text = rule["rule"].as_str().unwrap_or_default();
        if text.trim().is_empty() {
            causes.push(Cause::required(path, "rule is not specified"));
        } else if let Err(error) = Program::compile(text) {
            causes.push(Cause::invalid(
                path,
                &text.into(),
                format!("compilation failed: {error}"),
            ));
        }
    }
}

fn children(schema: &Value, path: &str, depth: usize, causes: &mut Vec<Cause>) {
    for (name, property) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        node(
            property,
            &keyed(&format!("{path}.properties"), name),
            depth + 1,
            causes,
        );
    }
    if let Some(additional @ Value::Object(_)) = schema.get("additionalProperties") {
        if schema
            .get("properties")
            .and_then(Value::as_object)
            .is_some_and(|p| !p.is_empty())
        {
            let at = format!("{path}.additionalProperties");
            causes.push(Cause::forbidden(
                at,
                "additionalProperties and properties are mutual exclusive",
            ));
        }
        node(
            additional,
            &format!("{path}.additionalProperties"),
            depth + 1,
            causes,
        );
    }
    if let Some(items) = schema.get("items") {
        node(items, &format!("{path}.items"), depth + 1, causes);
    }
}

/// Column and selectable-field paths of one version.
pub(crate) fn check_paths(version: &Value, path: &str, causes: &mut Vec<Cause>) {
    let columns = version.get("additionalPrinterColumns").and_then(Value::as_array);
    for (at, column) in columns.into_iter().flatten().enumerate() {
        let path = format!("{path}.additionalPrinterColumns[{at}]");
        for required in ["name", "type", "jsonPath"] {
            if column[required].as_str().unwrap_or_default().is_empty() {
                causes.push(Cause::required(format!("{path}.{required}"), ""));
            }
        }
        let text = column["jsonPath"].as_str().unwrap_or_default();
        if let Err(error) = JsonPath::parse(text) {
            causes.push(Cause::invalid(
                format!("{path}.jsonPath"),
                &text.into(),
                format!("is an invalid JSON path: {error}"),
            ));
        }
    }
}
