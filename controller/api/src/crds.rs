//! Every CustomResourceDefinition that Steelyard serves, built from the types.
//!
//! `deploy/crds/*.yaml` are the golden copies: a test compares them with [`files`], and
//! `INSTA_UPDATE=always cargo nextest run -p steelyard-api` writes them anew. The lab applies the same values.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec, CustomResourceDefinitionVersion, CustomResourceSubresourceStatus,
    CustomResourceSubresources, CustomResourceValidation, JSONSchemaProps,
};
use kube_core::Resource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{loft, metal3, schema};

/// The types behind a kind; written by the `kind!` macro.
pub trait Shape {
    type Spec: JsonSchema;
    type Status: JsonSchema;
    const NAMESPACED: bool;
}

/// What a kind's definition says beyond its schema.
pub trait Described {
    const SHORT_NAMES: &'static [&'static str];
    const COLUMNS: &'static [Column];
    /// Whether status is a subresource of its own; else the kind has no status at all.
    const HAS_STATUS: bool = true;
    /// One sentence for `kubectl explain`.
    const ABOUT: &'static str;
}

/// The status of a kind that has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoStatus {}

/// A column of `kubectl get`.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    pub path: &'static str,
    pub kind: &'static str,
    pub about: &'static str,
    /// Shown with `-o wide` only.
    pub wide: bool,
}

impl Column {
    pub(crate) const fn new(name: &'static str, kind: &'static str, path: &'static str) -> Self {
        Self {
            name,
            path,
            kind,
            about: "",
            wide: false,
        }
    }

    pub(crate) const fn wide(self) -> Self {
        Self { wide: true, ..self }
    }

    pub(crate) const fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }

    pub(crate) const AGE: Self = Self::new("Age", "date", ".metadata.creationTimestamp");
}

/// All definitions, in the order in which they are applied.
pub fn custom_resource_definitions() -> Vec<CustomResourceDefinition> {
    vec![
        definition::<metal3::BareMetalHost>(),
        definition::<metal3::HardwareData>(),
        definition::<loft::NodeProvider>(),
        definition::<loft::NodeType>(),
        definition::<loft::NodeClaim>(),
        definition::<loft::NodeEnvironment>(),
        definition::<loft::NodeProfile>(),
        definition::<loft::OSImage>(),
        definition::<loft::SSHKey>(),
        definition::<loft::MachineConfigTemplate>(),
        definition::<loft::VirtualClusterInstance>(),
    ]
}

/// `deploy/crds/`: file name and content, named as controller-gen does (`GROUP_PLURAL.yaml`).
pub fn files() -> Vec<(String, String)> {
    custom_resource_definitions()
        .iter()
        .map(|crd| {
            let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
            (name, crate::yaml::document(crd))
        })
        .collect()
}

/// The definition of one kind.
pub fn definition<K>() -> CustomResourceDefinition
where
    K: Resource<DynamicType = ()> + Shape + Described,
{
    let (group, kind, plural) = (K::group(&()), K::kind(&()), K::plural(&()));
    let mut crd = CustomResourceDefinition::default();
    crd.metadata.name = Some(format!("{plural}.{group}"));
    crd.spec = CustomResourceDefinitionSpec {
        group: group.into_owned(),
        names: CustomResourceDefinitionNames {
            kind: kind.to_string(),
            list_kind: Some(format!("{kind}List")),
            plural: plural.into_owned(),
            short_names: (!K::SHORT_NAMES.is_empty())
                .then(|| K::SHORT_NAMES.iter().map(|name| (*name).to_owned()).collect()),
            singular: Some(kind.to_lowercase()),
            ..Default::default()
        },
        scope: if K::NAMESPACED { "Namespaced" } else { "Cluster" }.to_owned(),
        versions: vec![CustomResourceDefinitionVersion {
            name: K::version(&()).into_owned(),
            served: true,
            storage: true,
            additional_printer_columns: Some(K::COLUMNS.iter().map(column).collect()),
            schema: Some(CustomResourceValidation {
                open_api_v3_schema: Some(object_schema::<K>()),
            }),
            subresources: K::HAS_STATUS.then(|| CustomResourceSubresources {
                status: Some(CustomResourceSubresourceStatus(json!({}))),
                ..Default::default()
            }),
            ..Default::default()
        }],
        ..Default::default()
    };
    crd
}

fn column(column: &Column) -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition {
        name: column.name.to_owned(),
        json_path: column.path.to_owned(),
        type_: column.kind.to_owned(),
        description: (!column.about.is_empty()).then(|| column.about.to_owned()),
        priority: column.wide.then_some(1),
        ..Default::default()
    }
}

fn object_schema<K: Shape + Described>() -> JSONSchemaProps {
    let mut schema: Value = json!({
        "description": K::ABOUT,
        "type": "object",
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "type": "object" },
            "spec": schema::structural::<K::Spec>(),
        },
    });
    if K::HAS_STATUS {
        schema["properties"]["status"] = schema::structural::<K::Status>();
    }
    serde_json::from_value(schema)
        .expect("a structural schema is a JSONSchemaProps; crds.rs tests every kind")
}
