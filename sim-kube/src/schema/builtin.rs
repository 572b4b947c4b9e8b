//! Schemas of the built-in kinds, from k8s-openapi, made when first needed and kept for the process.
//!
//! k8s-openapi leaves out list types and merge keys; `data/list-types.tsv` (recorded from a real server's
//! OpenAPI) adds them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

use super::{Schema, Type, parse};

pub(crate) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

struct Merge {
    list_type: String,
    map_keys: String,
    strategy: String,
    merge_key: String,
}

/// `schema name` to `field` to how it merges.
static MERGES: LazyLock<BTreeMap<&'static str, BTreeMap<&'static str, Merge>>> = LazyLock::new(|| {
    let mut merges: BTreeMap<&str, BTreeMap<&str, Merge>> = BTreeMap::new();
    for line in include_str!("../../data/list-types.tsv").lines().skip(1) {
        let mut cells = line.split('\t');
        let (Some(schema), Some(field)) = (cells.next(), cells.next()) else {
            continue;
        };
        let mut next = || cells.next().unwrap_or_default().to_owned();
        let merge = Merge {
            list_type: next(),
            map_keys: next(),
            strategy: next(),
            merge_key: next(),
        };
        merges.entry(schema).or_default().insert(field, merge);
    }
    merges
});

#[derive(Default)]
struct Definitions {
    raw: BTreeMap<String, Value>,
    parsed: BTreeMap<String, Arc<Schema>>,
}

static DEFINITIONS: LazyLock<RwLock<Definitions>> = LazyLock::new(RwLock::default);

type Generate = fn(&mut SchemaGenerator) -> schemars::Schema;

fn subschema<T: JsonSchema>(generator: &mut SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<T>()
}

macro_rules! kinds {
    ($($group:literal => $module:path { $($kind:ident)* })*) => {
        fn generator(group: &str, version: &str, kind: &str) -> Option<Generate> {
            match (group, version, kind) {
                $($((group, version, stringify!($kind)) if concat_matches($group, group, version) => {
                    use $module as module;
                    Some(subschema::<module::$kind>)
                })*)*
                _ => None,
            }
        }
    };
}

fn concat_matches(pair: &str, group: &str, version: &str) -> bool {
    pair.split_once('/')
        .is_some_and(|(g, v)| g == group && v == version)
}

kinds! {
    "/v1" => k8s_openapi::api::core::v1 {
        Binding ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume PersistentVolumeClaim Pod
        PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount
    }
    "admissionregistration.k8s.io/v1" => k8s_openapi::api::admissionregistration::v1 {
        MutatingWebhookConfiguration ValidatingWebhookConfiguration ValidatingAdmissionPolicy
        ValidatingAdmissionPolicyBinding
    }
    "apiextensions.k8s.io/v1" => k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 {
        CustomResourceDefinition
    }
    "apiregistration.k8s.io/v1" => k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 { APIService }
    "apps/v1" => k8s_openapi::api::apps::v1 {
        ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet
    }
    "authentication.k8s.io/v1" => k8s_openapi::api::authentication::v1 { SelfSubjectReview TokenRequest TokenReview }
    "authorization.k8s.io/v1" => k8s_openapi::api::authorization::v1 {
        LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview
    }
    "autoscaling/v1" => k8s_openapi::api::autoscaling::v1 { Scale HorizontalPodAutoscaler }
    "autoscaling/v2" => k8s_openapi::api::autoscaling::v2 { HorizontalPodAutoscaler }
    "batch/v1" => k8s_openapi::api::batch::v1 { CronJob Job }
    "certificates.k8s.io/v1" => k8s_openapi::api::certificates::v1 { CertificateSigningRequest }
    "coordination.k8s.io/v1" => k8s_openapi::api::coordination::v1 { Lease }
    "discovery.k8s.io/v1" => k8s_openapi::api::discovery::v1 { EndpointSlice }
    "events.k8s.io/v1" => k8s_openapi::api::events::v1 { Event }
    "flowcontrol.apiserver.k8s.io/v1" => k8s_openapi::api::flowcontrol::v1 { FlowSchema PriorityLevelConfiguration }
    "networking.k8s.io/v1" => k8s_openapi::api::networking::v1 {
        IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR
    }
    "node.k8s.io/v1" => k8s_openapi::api::node::v1 { RuntimeClass }
    "policy/v1" => k8s_openapi::api::policy::v1 { Eviction PodDisruptionBudget }
    "rbac.authorization.k8s.io/v1" => k8s_openapi::api::rbac::v1 { ClusterRole ClusterRoleBinding Role RoleBinding }
    "resource.k8s.io/v1" => k8s_openapi::api::resource::v1 {
        DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice
    }
    "scheduling.k8s.io/v1" => k8s_openapi::api::scheduling::v1 { PriorityClass }
    "storage.k8s.io/v1" => k8s_openapi::api::storage::v1 {
        CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment
    }
    "meta/v1" => k8s_openapi::apimachinery::pkg::apis::meta::v1 { ObjectMeta }
}

/// Whether k8s-openapi has the kind, so that we can serve it.
pub(crate) fn is_known(group: &str, version: &str, kind: &str) -> bool {
    generator(group, version, kind).is_some()
}

/// The definition's name, once its JSON and that of all it refers to is in the table.
pub(crate) fn name_of(group: &str, version: &str, kind: &str) -> Option<String> {
    let generate = generator(group, version, kind)?;
    let settings = SchemaSettings::draft07().with(|s| {
        s.definitions_path = "/components/schemas".into();
        s.transforms.clear();
    });
    let mut generator = SchemaGenerator::new(settings);
    let root = generate(&mut generator);
    let name = root.get("$ref")?.as_str()?.rsplit('/').next()?.to_owned();
    let mut table = DEFINITIONS.write().unwrap_or_else(PoisonError::into_inner);
    for (name, mut schema) in generator.take_definitions(false) {
        if let Entry::Vacant(slot) = table.raw.entry(name) {
            enrich(slot.key(), &mut schema);
            slot.insert(schema);
        }
    }
    Some(name)
}

/// `io.k8s.api.core.v1.PodSpec` to `core.v1.PodSpec`, the names of the data file.
fn short_name(name: &str) -> &str {
    for prefix in ["io.k8s.apimachinery.pkg.apis.", "io.k8s.api.", "io.k8s."] {
        if let Some(rest) = name.strip_prefix(prefix) {
            return rest;
        }
    }
    name
}

/// Go types that marshal themselves; k8s-openapi calls them objects.
const ANYTHING: &[&str] = &[
    "JSON",
    "JSONSchemaPropsOrArray",
    "JSONSchemaPropsOrBool",
    "JSONSchemaPropsOrStringArray",
    "RawExtension",
];

fn enrich(name: &str, schema: &mut Value) {
    if name
        .rsplit('.')
        .next()
        .is_some_and(|last| ANYTHING.contains(&last))
    {
        let description = schema.get("description").cloned().unwrap_or_default();
        *schema =
            serde_json::json!({"description": description, "x-kubernetes-preserve-unknown-fields": true});
        return;
    }
    // k8s-openapi makes `metadata` and some others required where the real server does not; Go decoding
    // knows no required fields, so they are validated by code where it matters.
    let untyped = schema.get("type").and_then(Value::as_str) == Some("object")
        && schema.get("properties").is_none()
        && schema.get("additionalProperties").is_none();
    if untyped {
        schema["x-kubernetes-preserve-unknown-fields"] = true.into();
    }
    let Some(fields) = MERGES.get(short_name(name)) else {
        return;
    };
    for (field, merge) in fields {
        let target = match *field {
            "(object)" => schema.as_object_mut(),
            field => schema
                .get_mut("properties")
                .and_then(|p| p.get_mut(field))
                .and_then(Value::as_object_mut),
        };
        if let Some(target) = target {
            annotate(target, merge);
        }
    }
}

fn annotate(target: &mut Map<String, Value>, merge: &Merge) {
    match merge.list_type.as_str() {
        "" => {}
        other => match other.strip_prefix("map-type=") {
            Some(map_type) => {
                target.insert("x-kubernetes-map-type".into(), map_type.into());
            }
            None => {
                target.insert("x-kubernetes-list-type".into(), other.into());
            }
        },
    }
    if !merge.map_keys.is_empty() {
        let keys: Vec<&str> = merge.map_keys.split(',').map(str::trim).collect();
        target.insert("x-kubernetes-list-map-keys".into(), keys.into());
    }
    if !merge.strategy.is_empty() {
        target.insert(
            "x-kubernetes-patch-strategy".into(),
            merge.strategy.clone().into(),
        );
    }
    if !merge.merge_key.is_empty() {
        target.insert(
            "x-kubernetes-patch-merge-key".into(),
            merge.merge_key.clone().into(),
        );
    }
}

/// A definition by name; an empty schema, which allows anything, if there is none.
pub(crate) fn definition(name: &str) -> Arc<Schema> {
    if let Some(found) = DEFINITIONS
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .parsed
        .get(name)
    {
        return found.clone();
    }
    if name == OBJECT_META {
        name_of("meta", "v1", "ObjectMeta");
    }
    let mut table = DEFINITIONS.write().unwrap_or_else(PoisonError::into_inner);
    let Some(raw) = table.raw.get(name) else {
        return Arc::new(Schema::default());
    };
    let mut schema = parse(raw);
    schema.required.clear();
    if schema.ty() == Type::Object {
        schema.go_name = name.rsplit('.').next().map(str::to_owned);
    }
    let schema = Arc::new(schema);
    table.parsed.insert(name.to_owned(), schema.clone());
    schema
}

/// The schema of a served built-in kind.
pub(crate) fn schema(group: &str, version: &str, kind: &str) -> Option<Arc<Schema>> {
    Some(definition(&name_of(group, version, kind)?))
}

/// Raw JSON of a definition and all that it refers to, for OpenAPI.
pub(crate) fn closure(root: &str, into: &mut Map<String, Value>) {
    let mut pending = vec![root.to_owned()];
    let table = DEFINITIONS.read().unwrap_or_else(PoisonError::into_inner);
    while let Some(name) = pending.pop() {
        if into.contains_key(&name) {
            continue;
        }
        let Some(raw) = table.raw.get(&name) else { continue };
        references(raw, &mut pending);
        into.insert(name, raw.clone());
    }
}

fn references(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, child) in map {
                match (key.as_str(), child) {
                    ("$ref", Value::String(target)) => {
                        into.extend(target.rsplit('/').next().map(str::to_owned))
                    }
                    (_, child) => references(child, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, into)),
        _ => {}
    }
}
