//! Structural schemas: one tree type for custom resources (parsed from their CRD) and for built-ins (from
//! k8s-openapi's JSON schemas). Pruning, defaulting, validation, strategic merge and field ownership all walk it.

pub(crate) mod builtin;
pub(crate) mod cel;
pub(crate) mod columns;
pub(crate) mod crd;
mod defaulting;
mod formats;
mod parse;
mod prune;
pub(crate) mod structural;
mod typecheck;
mod validate;

use std::sync::{Arc, OnceLock};

use indexmap::IndexMap;
use regex::Regex;
use serde_json::Value;

pub(crate) use defaulting::apply_defaults;
pub(crate) use prune::prune;
pub(crate) use typecheck::typecheck;
pub(crate) use validate::validate;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    IntOrString,
    /// No type given: anything goes.
    Any,
}

impl Type {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Type::Object => "object",
            Type::Array => "array",
            Type::String => "string",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::Boolean => "boolean",
            Type::IntOrString => "integer,string",
            Type::Any => "",
        }
    }
}

/// How a list merges, for server-side apply.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum ListType {
    #[default]
    Atomic,
    Set,
    Map(Vec<String>),
}

/// A child schema: inline, or a named built-in definition that is looked up when first walked.
#[derive(Debug, Clone)]
pub(crate) enum Child {
    Inline(Arc<Schema>),
    Named(Arc<Named>),
}

#[derive(Debug)]
pub(crate) struct Named {
    name: String,
    found: OnceLock<Arc<Schema>>,
}

impl Child {
    pub(crate) fn named(name: &str) -> Child {
        Child::Named(Arc::new(Named {
            name: name.to_owned(),
            found: OnceLock::new(),
        }))
    }

    pub(crate) fn get(&self) -> &Schema {
        match self {
            Child::Inline(schema) => schema,
            Child::Named(named) => named.found.get_or_init(|| builtin::definition(&named.name)),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    pub(crate) text: String,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    fn new(text: &str) -> Pattern {
        Pattern {
            text: text.to_owned(),
            compiled: OnceLock::new(),
        }
    }

    /// A pattern that the engine cannot compile matches everything; creation of the CRD has warned of it.
    pub(crate) fn matches(&self, value: &str) -> bool {
        let regex = self.compiled.get_or_init(|| Regex::new(&self.text).ok());
        regex.as_ref().is_none_or(|regex| regex.is_match(value))
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.compiled
            .get_or_init(|| Regex::new(&self.text).ok())
            .is_some()
    }
}

/// Value validations, as in `JSONSchemaProps`; boxed because most nodes have none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    pub(crate) minimum: Option<f64>,
    pub(crate) maximum: Option<f64>,
    pub(crate) exclusive_minimum: bool,
    pub(crate) exclusive_maximum: bool,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) min_items: Option<u64>,
    pub(crate) max_items: Option<u64>,
    pub(crate) unique_items: bool,
    pub(crate) min_properties: Option<u64>,
    pub(crate) max_properties: Option<u64>,
    pub(crate) one_of_values: Vec<Value>,
    pub(crate) all_of: Vec<Child>,
    pub(crate) any_of: Vec<Child>,
    pub(crate) one_of: Vec<Child>,
    pub(crate) not: Option<Child>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Schema {
    pub(crate) kind: Option<Type>,
    pub(crate) format: Option<String>,
    pub(crate) properties: IndexMap<String, Child>,
    pub(crate) additional: Option<Child>,
    pub(crate) items: Option<Child>,
    pub(crate) required: Vec<String>,
    pub(crate) default: Option<Value>,
    pub(crate) nullable: bool,
    pub(crate) preserve_unknown: bool,
    pub(crate) embedded_resource: bool,
    pub(crate) list_type: ListType,
    /// `x-kubernetes-map-type: atomic`.
    pub(crate) atomic_map: bool,
    pub(crate) patch_strategy: Option<String>,
    pub(crate) patch_merge_key: Option<String>,
    pub(crate) limits: Option<Box<Limits>>,
    /// Some node below has a default: the others need no walk.
    pub(crate) has_defaults: bool,
    /// A Go struct name for decoding errors; only built-ins have one.
    pub(crate) go_name: Option<String>,
}

impl Schema {
    pub(crate) fn ty(&self) -> Type {
        self.kind.unwrap_or(Type::Any)
    }

    pub(crate) fn property(&self, key: &str) -> Option<&Schema> {
        self.properties
            .get(key)
            .or(self.additional.as_ref())
            .map(Child::get)
    }

    pub(crate) fn item(&self) -> Option<&Schema> {
        self.items.as_ref().map(Child::get)
    }
}

pub(crate) use parse::parse;

/// `a.b`, `[0]` and `[key]` joined as `field.Path` prints them.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

pub(crate) fn index(path: &str, at: usize) -> String {
    format!("{path}[{at}]")
}

pub(crate) fn keyed(path: &str, key: &str) -> String {
    format!("{path}[{key}]")
}

#[cfg(test)]
mod tests;
