//! OData's two documents about the service: `$metadata` (XML) and the service document.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::document::Schema;
use super::tree::schemas;

const SCHEMA_SITE: &str = "http://redfish.dmtf.org/schemas/v1";

/// `$metadata`: one reference per schema in use, at its publisher, and the entity container (OData CSDL 4.0).
pub(super) fn xml() -> String {
    let mut xml = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <edmx:Edmx xmlns:edmx=\"http://docs.oasis-open.org/odata/ns/edmx\" Version=\"4.0\">\n",
    );
    for schema in schemas::ALL {
        reference(&mut xml, schema);
    }
    // Writing to a String cannot fail.
    let _ = write!(
        xml,
        "  <edmx:Reference Uri=\"{SCHEMA_SITE}/RedfishExtensions_v1.xml\">\n    \
         <edmx:Include Namespace=\"RedfishExtensions.v1_0_0\" Alias=\"Redfish\"/>\n  </edmx:Reference>\n  \
         <edmx:DataServices>\n    \
         <Schema xmlns=\"http://docs.oasis-open.org/odata/ns/edm\" Namespace=\"Service\">\n      \
         <EntityContainer Name=\"Service\" Extends=\"{}.ServiceContainer\"/>\n    \
         </Schema>\n  </edmx:DataServices>\n</edmx:Edmx>\n",
        schemas::SERVICE_ROOT.namespace()
    );
    xml
}

fn reference(xml: &mut String, schema: &Schema) {
    let name = schema.name;
    let _ = write!(
        xml,
        "  <edmx:Reference Uri=\"{SCHEMA_SITE}/{name}_v1.xml\">\n    <edmx:Include Namespace=\"{name}\"/>\n"
    );
    if schema.version.is_some() {
        let _ = writeln!(xml, "    <edmx:Include Namespace=\"{}\"/>", schema.namespace());
    }
    xml.push_str("  </edmx:Reference>\n");
}

/// The service document lists what the service root links to.
pub(super) fn service_document(root: &Map<String, Value>) -> Map<String, Value> {
    let singleton = |name: &str, url: &str| json!({"name": name, "kind": "Singleton", "url": url});
    let mut value = vec![singleton("Service", "/redfish/v1/")];
    for (name, target) in root {
        if let Some(url) = target.get("@odata.id").and_then(Value::as_str) {
            value.push(singleton(name, url));
        }
    }
    if let Some(sessions) = root
        .get("Links")
        .and_then(|links| links["Sessions"]["@odata.id"].as_str())
    {
        value.push(singleton("Sessions", sessions));
    }
    let mut document = Map::new();
    document.insert("@odata.context".to_owned(), json!("/redfish/v1/$metadata"));
    document.insert("value".to_owned(), Value::Array(value));
    document
}
