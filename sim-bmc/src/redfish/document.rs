//! What a resource is made of, and the one renderer: typed data in, JSON with `@odata.id`, `@odata.type` and
//! `@odata.etag` out.

use std::cell::OnceCell;

use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::bmc::Bmc;

/// A schema and the version of it that is declared. Collections have no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Schema {
    pub(crate) name: &'static str,
    pub(crate) version: Option<&'static str>,
}

impl Schema {
    pub(crate) const fn new(name: &'static str, version: &'static str) -> Schema {
        Schema {
            name,
            version: Some(version),
        }
    }

    pub(crate) const fn collection(name: &'static str) -> Schema {
        Schema { name, version: None }
    }

    /// `ComputerSystem.v1_22_4`, or `ComputerSystemCollection`.
    pub(crate) fn namespace(&self) -> String {
        match self.version {
            Some(version) => format!("{}.{version}", self.name),
            None => self.name.to_owned(),
        }
    }

    fn odata_type(&self) -> String {
        format!("#{}.{}", self.namespace(), self.name)
    }
}

/// A body of some kind, at a URI.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) uri: String,
    form: Form,
    pub(crate) body: Map<String, Value>,
    /// Properties that change by themselves and so do not enter the ETag, such as a clock.
    volatile: &'static [&'static str],
    /// Made when first asked for: a document is a picture of one moment, and so is its tag.
    etag: OnceCell<Option<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Resource(Schema),
    /// Served as it is, without annotations: `/redfish`, the OData service document, registry files.
    Plain,
    Metadata,
}

impl Document {
    pub(crate) fn new(schema: Schema, uri: impl Into<String>, resource: &impl Serialize) -> Document {
        Document::build(uri.into(), Form::Resource(schema), to_map(resource))
    }

    pub(crate) fn plain(uri: &str, body: Map<String, Value>) -> Document {
        Document::build(uri.to_owned(), Form::Plain, body)
    }

    pub(crate) fn metadata(uri: &str) -> Document {
        Document::build(uri.to_owned(), Form::Metadata, Map::new())
    }

    fn build(uri: String, form: Form, body: Map<String, Value>) -> Document {
        Document {
            uri,
            form,
            body,
            volatile: &[],
            etag: OnceCell::new(),
        }
    }

    pub(crate) fn volatile(self, volatile: &'static [&'static str]) -> Document {
        Document { volatile, ..self }
    }

    pub(crate) fn media_type(&self) -> &'static str {
        if self.form == Form::Metadata {
            "application/xml"
        } else {
            "application/json"
        }
    }

    pub(crate) fn is_metadata(&self) -> bool {
        self.form == Form::Metadata
    }

    pub(crate) fn is_resource(&self) -> bool {
        matches!(self.form, Form::Resource(_))
    }

    pub(crate) fn is_collection(&self) -> bool {
        matches!(self.form, Form::Resource(Schema { version: None, .. }))
    }

    /// The Link header: the schema at its publisher, since that is where it really is.
    pub(crate) fn described_by(&self) -> Option<String> {
        let Form::Resource(schema) = self.form else {
            return None;
        };
        Some(format!(
            "<https://redfish.dmtf.org/schemas/v1/{}.json>; rel=describedby",
            schema.namespace()
        ))
    }

    /// A digest of what is shown and of how often it was written: it differs after every write, even one of the same
    /// value, and is the same for as long as nothing happens.
    pub(crate) fn etag(&self, bmc: &Bmc) -> Option<String> {
        self.etag.get_or_init(|| self.make_etag(bmc)).clone()
    }

    fn make_etag(&self, bmc: &Bmc) -> Option<String> {
        if !self.is_resource() {
            return None;
        }
        let mut hash = Sha256::new();
        hash.update(bmc.write_count(&self.uri).to_be_bytes());
        for (name, value) in &self.body {
            if !self.volatile.contains(&name.as_str()) {
                hash.update(name.as_bytes());
                hash.update(value.to_string().as_bytes());
            }
        }
        let hex: String = hash
            .finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Some(format!("\"{hex}\""))
    }

    /// The JSON object that goes over the wire.
    pub(crate) fn render(self, bmc: &Bmc) -> Map<String, Value> {
        let Form::Resource(schema) = self.form else {
            return self.body;
        };
        let etag = self.etag(bmc);
        let mut object = Map::with_capacity(self.body.len() + 3);
        object.insert("@odata.id".to_owned(), json!(self.uri));
        object.insert("@odata.type".to_owned(), json!(schema.odata_type()));
        if let Some(etag) = etag {
            object.insert("@odata.etag".to_owned(), json!(etag));
        }
        object.extend(self.body);
        object
    }
}

/// Serialises a resource. Resources are structs without maps of non-string keys, which cannot fail to serialise; a value
/// that is no object would be a defect that every golden test shows.
fn to_map(resource: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(resource) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// A reference to a resource.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Link {
    #[serde(rename = "@odata.id")]
    pub(crate) uri: String,
}

pub(crate) fn link(uri: impl Into<String>) -> Link {
    Link { uri: uri.into() }
}

/// Resource.Status.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Status {
    pub(crate) state: &'static str,
    pub(crate) health: &'static str,
}

pub(crate) const ENABLED: Status = Status {
    state: "Enabled",
    health: "OK",
};

/// Any resource collection.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Collection {
    name: &'static str,
    #[serde(rename = "Members@odata.count")]
    count: usize,
    members: Vec<Link>,
}

impl Collection {
    /// The collection at `uri` whose members have these ids.
    pub(crate) fn of(
        schema: Schema,
        uri: &str,
        name: &'static str,
        ids: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Document {
        let members: Vec<Link> = ids
            .into_iter()
            .map(|id| link(format!("{uri}/{}", id.as_ref())))
            .collect();
        Document::new(
            schema,
            uri,
            &Collection {
                name,
                count: members.len(),
                members,
            },
        )
    }
}

/// An entry of `Actions`.
#[derive(Debug, Serialize)]
pub(crate) struct Action<T: Serialize> {
    pub(crate) target: String,
    #[serde(flatten)]
    pub(crate) allowable: T,
}
