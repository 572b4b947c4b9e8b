//! Carries out a decision's object writes, then saves its status by compare-and-swap.

use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions},
    core::GroupVersionKind,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::fmt::Debug;
use steelyard_core::{Change, ObjectRef, ObjectWrite};

pub const FIELD_MANAGER: &str = "steelyard-controller";

#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// Somebody else was faster: drop the decision and gather again.
    #[error("{kind} {name} has changed meanwhile")]
    Conflict { kind: String, name: String },
    #[error("the API server refused to {verb} {kind} {name}: {source}")]
    Refused {
        verb: &'static str,
        kind: String,
        name: String,
        source: Box<kube::Error>,
    },
}

/// The plural of each kind that decisions may write.
const PLURALS: &[(&str, &str)] = &[
    ("BareMetalHost", "baremetalhosts"),
    ("HardwareData", "hardwaredata"),
    ("Secret", "secrets"),
    ("NodeProvider", "nodeproviders"),
    ("NodeType", "nodetypes"),
    ("NodeClaim", "nodeclaims"),
    ("NodeEnvironment", "nodeenvironments"),
    ("VirtualClusterInstance", "virtualclusterinstances"),
];

#[derive(Clone)]
pub struct Saver {
    client: Client,
}

impl Saver {
    pub fn new(client: Client) -> Self {
        Saver { client }
    }

    /// Carries out `writes` in order; the last state of the object `own` (if one of them changed it) is returned.
    pub async fn write(
        &self,
        writes: &[ObjectWrite],
        own: &ObjectRef,
    ) -> Result<Option<DynamicObject>, SaveError> {
        let mut latest: Option<DynamicObject> = None;
        for write in writes {
            let is_own = write.target == *own;
            let base = latest
                .as_ref()
                .filter(|_| is_own)
                .and_then(|o| o.metadata.resource_version.clone());
            let done = self.write_one(write, base).await?;
            if is_own {
                latest = done.or(latest);
            }
        }
        Ok(latest)
    }

    /// `base`: the version that an earlier write of the same decision left behind.
    async fn write_one(
        &self,
        write: &ObjectWrite,
        base: Option<String>,
    ) -> Result<Option<DynamicObject>, SaveError> {
        let target = &write.target;
        let api = self.api(target);
        let (verb, result) = match &write.change {
            Change::Create { object } => {
                let object = parse(target, object.clone())?;
                ("create", api.create(&post(), &object).await.map(Some))
            }
            Change::Apply { object } => {
                let params = PatchParams::apply(FIELD_MANAGER).force();
                (
                    "apply",
                    api.patch(&target.name, &params, &Patch::Apply(object))
                        .await
                        .map(Some),
                )
            }
            Change::Merge {
                resource_version,
                patch,
            } => {
                let mut patch = patch.clone();
                patch["metadata"]["resourceVersion"] =
                    json!(base.unwrap_or_else(|| resource_version.clone()));
                let params = PatchParams {
                    field_manager: Some(FIELD_MANAGER.into()),
                    ..PatchParams::default()
                };
                (
                    "patch",
                    api.patch(&target.name, &params, &Patch::Merge(patch))
                        .await
                        .map(Some),
                )
            }
            Change::Delete { uid } => {
                let params = DeleteParams {
                    preconditions: uid.as_ref().map(|uid| Preconditions {
                        uid: Some(uid.clone()),
                        ..Preconditions::default()
                    }),
                    ..DeleteParams::default()
                };
                match api.delete(&target.name, &params).await {
                    Ok(_) => ("delete", Ok(None)),
                    Err(kube::Error::Api(s)) if s.code == 404 => ("delete", Ok(None)),
                    Err(e) => ("delete", Err(e)),
                }
            }
        };
        result.map_err(|e| refused(verb, target.kind, &target.name, e))
    }

    /// Saves the whole status of `object`, whose resourceVersion must still be the server's.
    pub async fn status<K>(&self, api: &Api<K>, object: &K) -> Result<K, SaveError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let name = object.name_any();
        api.replace_status(&name, &post(), object)
            .await
            .map_err(|e| refused("save the status of", &K::kind(&()), &name, e))
    }

    fn api(&self, target: &ObjectRef) -> Api<DynamicObject> {
        let (group, version) = target
            .api_version
            .split_once('/')
            .unwrap_or(("", target.api_version));
        let gvk = GroupVersionKind::gvk(group, version, target.kind);
        let plural = PLURALS
            .iter()
            .find(|(kind, _)| *kind == target.kind)
            .map(|(_, plural)| *plural);
        let resource = match plural {
            Some(plural) => ApiResource::from_gvk_with_plural(&gvk, plural),
            None => ApiResource::from_gvk(&gvk),
        };
        match &target.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }
}

fn post() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PostParams::default()
    }
}

fn parse(target: &ObjectRef, object: Value) -> Result<DynamicObject, SaveError> {
    serde_json::from_value(object)
        .map_err(|e| refused("create", target.kind, &target.name, kube::Error::SerdeError(e)))
}

fn refused(verb: &'static str, kind: &str, name: &str, error: kube::Error) -> SaveError {
    match &error {
        // 404 on a patch: the object is gone, so what was decided on is no more.
        kube::Error::Api(status) if status.code == 409 || status.code == 404 => SaveError::Conflict {
            kind: kind.into(),
            name: name.into(),
        },
        _ => SaveError::Refused {
            verb,
            kind: kind.into(),
            name: name.into(),
            source: Box::new(error),
        },
    }
}
