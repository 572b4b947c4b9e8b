//! What is served: built-in resources, from recorded discovery data, and custom ones, from CRDs.

mod custom;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use serde_json::Value;

pub(crate) use custom::resources_of;

use crate::schema::crd::CrdVersion;
use crate::schema::{Schema, builtin};
use crate::store::StorageId;

/// One resource in one version.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) namespaced: bool,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) verbs: Vec<String>,
    pub(crate) subresources: Vec<Subresource>,
    pub(crate) storage: StorageId,
    /// The version that objects are stored in.
    pub(crate) storage_version: String,
    pub(crate) custom: Option<Arc<CrdVersion>>,
    schema: std::sync::OnceLock<Arc<Schema>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Subresource {
    pub(crate) name: String,
    /// group, version, kind of what it answers.
    pub(crate) kind: (String, String, String),
    pub(crate) verbs: Vec<String>,
}

pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

pub(crate) fn storage_id(group: &str, plural: &str) -> StorageId {
    format!("{group}/{plural}").into()
}

impl Resource {
    pub(crate) fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    pub(crate) fn is_custom(&self) -> bool {
        self.custom.is_some()
    }

    pub(crate) fn allows(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    pub(crate) fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    pub(crate) fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    pub(crate) fn schema(&self) -> &Arc<Schema> {
        self.schema.get_or_init(|| match &self.custom {
            Some(custom) => custom.schema.clone(),
            None => builtin::schema(&self.group, &self.version, &self.kind).unwrap_or_default(),
        })
    }
}

type Path = (String, String, String);

#[derive(Default, Clone)]
pub(crate) struct Table {
    by_path: BTreeMap<Path, Arc<Resource>>,
    /// Groups in the order that discovery lists them; built-ins first.
    groups: Vec<String>,
}

impl Table {
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.by_path
            .get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// Any version of a resource by what the store calls it, the storage version preferred.
    pub(crate) fn by_storage(&self, storage: &str) -> Option<&Arc<Resource>> {
        let (group, plural) = storage.rsplit_once('/')?;
        let from = (group.to_owned(), String::new(), String::new());
        let versions = self
            .by_path
            .range(from..)
            .take_while(|((g, _, _), _)| g == group)
            .map(|(_, r)| r);
        let versions: Vec<&Arc<Resource>> = versions.filter(|r| r.plural == plural).collect();
        versions
            .iter()
            .find(|r| r.version == r.storage_version)
            .or(versions.first())
            .copied()
    }

    pub(crate) fn groups(&self) -> &[String] {
        &self.groups
    }

    /// Versions of a group, preferred first: GA before beta before alpha, higher before lower.
    pub(crate) fn versions(&self, group: &str) -> Vec<String> {
        let mut versions: Vec<String> = self.of_group(group).map(|r| r.version.clone()).collect();
        versions.sort_by_key(|v| std::cmp::Reverse(custom::version_rank(v)));
        versions.dedup();
        versions
    }

    pub(crate) fn of_group<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Arc<Resource>> {
        let from = (group.to_owned(), String::new(), String::new());
        self.by_path
            .range(from..)
            .take_while(move |((g, _, _), _)| g == group)
            .map(|(_, r)| r)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.by_path.values()
    }

    fn insert(&mut self, resource: Arc<Resource>) {
        if !self.groups.contains(&resource.group) {
            self.groups.push(resource.group.clone());
        }
        let path = (
            resource.group.clone(),
            resource.version.clone(),
            resource.plural.clone(),
        );
        self.by_path.insert(path, resource);
    }

    fn remove(&mut self, group: &str, plural: &str) {
        self.by_path.retain(|_, r| !r.is(group, plural));
        if self.of_group(group).next().is_none() {
            self.groups.retain(|g| g != group);
        }
    }
}

/// Versions served by the recorded server for which another version is the stored one.
const STORED_AS: &[(&str, &str, &str)] = &[("autoscaling", "horizontalpodautoscalers", "v2")];

static BUILTIN: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table::default();
    // The file is part of the crate, so a parse failure is a build error that the tests catch.
    let recorded: Value = serde_json::from_str(include_str!("../../data/discovery.json")).unwrap_or_default();
    for group in recorded["items"].as_array().into_iter().flatten() {
        let name = group["metadata"]["name"].as_str().unwrap_or_default();
        for version in group["versions"].as_array().into_iter().flatten() {
            let version_name = version["version"].as_str().unwrap_or_default();
            for resource in version["resources"].as_array().into_iter().flatten() {
                if let Some(resource) = recorded_resource(name, version_name, resource) {
                    table.insert(Arc::new(resource));
                }
            }
        }
    }
    table
});

fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn recorded_resource(group: &str, version: &str, from: &Value) -> Option<Resource> {
    let plural = from["resource"].as_str()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let own = |kind: &Value, field: &str, fallback: &str| match kind[field].as_str() {
        Some("") | None => fallback.to_owned(),
        Some(text) => text.to_owned(),
    };
    let kind = text(&from["responseKind"]["kind"]);
    if !builtin::is_known(group, version, &kind) {
        return None;
    }
    let subresources = from["subresources"].as_array().into_iter().flatten();
    let subresources = subresources
        .filter(|sub| {
            !matches!(
                sub["subresource"].as_str(),
                Some("attach" | "exec" | "portforward" | "proxy" | "log")
            )
        })
        .map(|sub| Subresource {
            name: text(&sub["subresource"]),
            kind: (
                own(&sub["responseKind"], "group", group),
                own(&sub["responseKind"], "version", version),
                text(&sub["responseKind"]["kind"]),
            ),
            verbs: strings(&sub["verbs"]),
        });
    // Both event APIs are views of one store.
    let storage_group = if plural == "events" { "" } else { group };
    let stored = STORED_AS
        .iter()
        .find(|(g, p, _)| *g == group && *p == plural)
        .map_or(version, |(_, _, v)| v);
    Some(Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: plural.to_owned(),
        singular: text(&from["singularResource"]),
        list_kind: format!("{kind}List"),
        kind,
        namespaced: from["scope"] == "Namespaced",
        short_names: strings(&from["shortNames"]),
        categories: strings(&from["categories"]),
        verbs: strings(&from["verbs"]),
        subresources: subresources.collect(),
        storage: storage_id(storage_group, plural),
        storage_version: stored.to_owned(),
        custom: None,
        schema: std::sync::OnceLock::new(),
    })
}

/// The table in force: readers take a snapshot, a CRD change swaps it.
pub(crate) struct Registry(RwLock<Arc<Table>>);

impl Registry {
    pub(crate) fn new() -> Registry {
        Registry(RwLock::new(Arc::new(BUILTIN.clone())))
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .find(group, version, plural)
            .cloned()
    }

    /// A built-in in its storage version.
    pub(crate) fn stored(&self, storage: &str) -> Option<Arc<Resource>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .by_storage(storage)
            .cloned()
    }

    /// Replaces all versions of one custom resource.
    pub(crate) fn install(&self, group: &str, plural: &str, resources: Vec<Resource>) {
        let mut slot = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&slot);
        if resources.is_empty() {
            table.remove(group, plural);
        } else {
            table.by_path.retain(|_, r| !r.is(group, plural));
        }
        for resource in resources {
            table.insert(Arc::new(resource));
        }
        *slot = Arc::new(table);
    }
}
