//! What the lab puts into its Kubernetes API: CRDs, RBAC, namespaces, Secrets, and (if asked) all servers.

use super::{Lab, LabError};
use crate::{
    files::{self, Registration},
    plan::{HOST_NAMESPACE, PROJECT_NAMESPACE},
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersionKind,
};
use serde_json::{Value, json};

pub(super) const SYSTEM_NAMESPACE: &str = "steelyard-system";
pub(super) const FABRIC_SECRET: &str = "fabric";

pub(crate) async fn connect(kubeconfig: &str) -> Result<Client, LabError> {
    let bad = |why: &dyn std::fmt::Display| LabError::Kubernetes {
        what: "the given kubeconfig".into(),
        why: why.to_string(),
    };
    let parsed = Kubeconfig::from_yaml(kubeconfig).map_err(|e| bad(&e))?;
    let config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
        .await
        .map_err(|e| bad(&e))?;
    Client::try_from(config).map_err(|e| bad(&e))
}

/// CRDs, RBAC, namespaces and the fabric's Secret.
pub(super) async fn prepare(lab: &Lab) -> Result<(), LabError> {
    for (file, text) in super::deploy::FILES {
        apply_yaml(&lab.admin, file, text).await?;
    }
    for name in [SYSTEM_NAMESPACE, HOST_NAMESPACE, PROJECT_NAMESPACE] {
        apply(
            &lab.admin,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        )
        .await?;
    }
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": FABRIC_SECRET, "namespace": SYSTEM_NAMESPACE},
        "stringData": {
            "url": lab.fabric_url, "username": super::fabric::USER, "password": lab.fabric_password,
            "ca.crt": lab.bmc_ca,
        },
    });
    apply(&lab.admin, secret).await?;
    wait_established(&lab.admin).await
}

/// All servers, a provider with a type for each profile, and the image.
pub(super) async fn register(lab: &Lab) -> Result<(), LabError> {
    let registration = Registration::of(&lab.config.plan);
    for (file, text) in [
        ("servers.yaml", registration.servers),
        ("provider.yaml", files::provider(&lab.config.plan)),
    ] {
        for mut object in documents(file, &text)? {
            // As kubectl apply leaves it, so that users may go on with kubectl apply.
            let applied = format!("{object}\n");
            object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] =
                json!(applied);
            apply(&lab.admin, object).await?;
        }
    }
    Ok(())
}

fn documents(file: &str, text: &str) -> Result<Vec<Value>, LabError> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|e| LabError::Kubernetes {
        what: file.into(),
        why: e.to_string(),
    })?;
    Ok(all.into_iter().filter(|d| !d.is_null()).collect())
}

/// Applies every document of a YAML text.
pub(super) async fn apply_yaml(client: &Client, file: &str, text: &str) -> Result<(), LabError> {
    for document in documents(file, text)? {
        apply(client, document).await?;
    }
    Ok(())
}

pub(super) async fn apply(client: &Client, object: Value) -> Result<DynamicObject, LabError> {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let bad = |why: &dyn std::fmt::Display| LabError::Kubernetes {
        what: format!("{kind} {name}"),
        why: why.to_string(),
    };
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let gvk = GroupVersionKind::gvk(group, version, &kind);
    let resource = ApiResource::from_gvk(&gvk);
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    api.patch(
        &name,
        &PatchParams::apply("steelyard-lab").force(),
        &Patch::Apply(object),
    )
    .await
    .map_err(|e| bad(&e))
}

/// Waits until every CRD of `deploy/` is served.
async fn wait_established(client: &Client) -> Result<(), LabError> {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition as Crd;
    let api: Api<Crd> = Api::all(client.clone());
    let bad = |why: &dyn std::fmt::Display| LabError::Kubernetes {
        what: "the CRDs".into(),
        why: why.to_string(),
    };
    for crd in api.list(&Default::default()).await.map_err(|e| bad(&e))? {
        let name = crd.name_any();
        let established = kube::runtime::wait::conditions::is_crd_established();
        let wait = kube::runtime::wait::await_condition(api.clone(), &name, established);
        tokio::time::timeout(std::time::Duration::from_secs(30), wait)
            .await
            .map_err(|_| bad(&format!("{name} is not established after 30 s")))?
            .map_err(|e| bad(&e))?;
    }
    Ok(())
}
