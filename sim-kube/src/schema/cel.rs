//! `x-kubernetes-validations`: compiled once per CRD version, run after the structural checks.

use kube_cel::{CompiledSchema, Validator, compile_schema};
use serde_json::Value;

use crate::status::Cause;

pub(crate) struct Cel(CompiledSchema);

/// Whether any node of the schema has rules.
pub(crate) fn has_rules(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => map.iter().any(|(key, child)| match key.as_str() {
            "x-kubernetes-validations" => child.as_array().is_some_and(|rules| !rules.is_empty()),
            "default" | "enum" | "example" => false,
            _ => has_rules(child),
        }),
        Value::Array(items) => items.iter().any(has_rules),
        _ => false,
    }
}

impl Cel {
    pub(crate) fn new(schema: &Value) -> Option<Cel> {
        has_rules(schema).then(|| Cel(compile_schema(schema)))
    }

    pub(crate) fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        let Err(errors) = Validator::new().validate_compiled(&self.0, object, old) else {
            return Vec::new();
        };
        errors.into_vec().into_iter().map(|error| cause(&error)).collect()
    }
}

fn cause(error: &kube_cel::ValidationError) -> Cause {
    let field = &error.field_path;
    match error.reason.as_deref() {
        Some("FieldValueForbidden") => Cause::forbidden(field, &error.message),
        Some("FieldValueRequired") => Cause::required(field, &error.message),
        Some("FieldValueDuplicate") => Cause {
            reason: "FieldValueDuplicate",
            ..Cause::invalid_text(field, &error.message)
        },
        _ => Cause::invalid_text(field, &error.message),
    }
}
