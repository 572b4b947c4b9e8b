//! Any cluster with any BareMetalHost controller, by kubeconfig. It has no taps; what may be done to servers, and what
//! the target claims beyond what its API shows, the user says.

use super::{servers, yaml_files};
use anyhow::Context;
use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{
    fs,
    path::{Path, PathBuf},
};
use steelyard_suite::{Capability, Feature, Server, Target, TargetError, TargetInfo};

/// What the story needs for its mistakes, beside two servers.
const SERVERS_WITH_SPARES: usize = 4;
const PLATFORM_GROUP: &str = "storage.loft.sh";

/// The tenant of the platform files, and where its kubeconfig is.
const TENANT: &str = "one";
const TENANT_KEY: &str = "config";

#[derive(Clone, Debug)]
pub struct KubeconfigOptions {
    pub kubeconfig: PathBuf,
    /// Secrets and BareMetalHosts that the suite may use.
    pub servers: PathBuf,
    pub platform: PathBuf,
    /// A kubeconfig for the tenant that works from here, once the file is there. Else the Secret's.
    pub tenant_kubeconfig: Option<PathBuf>,
    /// Servers may be wiped, handed to a tenant and deleted.
    pub destructive: bool,
    /// Claimed beyond what the API shows.
    pub features: Vec<Feature>,
}

pub struct KubeconfigTarget {
    info: TargetInfo,
    client: Client,
    servers: Vec<Server>,
    platform: Vec<PathBuf>,
    tenant_kubeconfig: Option<PathBuf>,
    /// Where the tenant's Secret is.
    tenant_namespace: Option<String>,
}

impl KubeconfigTarget {
    pub async fn connect(options: &KubeconfigOptions) -> anyhow::Result<Self> {
        // Twice is harmless: the first provider stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let path = options.kubeconfig.display();
        let text = fs::read_to_string(&options.servers).with_context(|| {
            format!(
                "{}: --servers names the Secrets and BareMetalHosts that the suite may use",
                options.servers.display()
            )
        })?;
        let servers = servers(&text).with_context(|| options.servers.display().to_string())?;
        let client = client(&fs::read_to_string(&options.kubeconfig).with_context(|| path.to_string())?)
            .await
            .with_context(|| path.to_string())?;
        let groups = client
            .list_api_groups()
            .await
            .with_context(|| format!("the cluster of {path} does not answer"))?;
        let mut features = options.features.clone();
        let mut platform = Vec::new();
        if groups.groups.iter().any(|g| g.name == PLATFORM_GROUP) {
            platform = yaml_files(&options.platform)?;
            features.push(Feature::Platform);
        }
        features.sort();
        features.dedup();
        let mut capabilities = Vec::new();
        if options.destructive {
            capabilities.push(Capability::Destructive);
            if servers.len() >= SERVERS_WITH_SPARES {
                capabilities.push(Capability::Spares);
            }
        }
        Ok(KubeconfigTarget {
            info: TargetInfo {
                name: format!("cluster of {path}"),
                features,
                capabilities,
            },
            client,
            servers,
            tenant_namespace: tenant_namespace(&platform)?,
            platform,
            tenant_kubeconfig: options.tenant_kubeconfig.clone(),
        })
    }

    async fn tenant_config(&self) -> Result<Option<String>, TargetError> {
        if let Some(path) = self.tenant_kubeconfig.as_deref().filter(|p| p.exists()) {
            let read = fs::read_to_string(path);
            return read
                .map(Some)
                .map_err(|e| TargetError::Broken(format!("{}: {e}", path.display())));
        }
        let Some(namespace) = &self.tenant_namespace else {
            return Ok(None);
        };
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = secrets.get_opt(&format!("vc-{TENANT}")).await?;
        let bytes = secret.and_then(|s| s.data?.remove(TENANT_KEY));
        Ok(bytes.map(|b| String::from_utf8_lossy(&b.0).into_owned()))
    }
}

async fn client(kubeconfig: &str) -> anyhow::Result<Client> {
    let parsed = Kubeconfig::from_yaml(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// `clusterRef.namespace` of the tenant in the platform files.
fn tenant_namespace(files: &[PathBuf]) -> anyhow::Result<Option<String>> {
    for file in files {
        let read = |path: &Path| -> anyhow::Result<Vec<serde_json::Value>> {
            Ok(serde_saphyr::from_multiple(&fs::read_to_string(path)?)?)
        };
        let documents = read(file).with_context(|| file.display().to_string())?;
        let tenant = documents
            .iter()
            .find(|d| d["kind"] == "VirtualClusterInstance" && d["metadata"]["name"] == TENANT);
        if let Some(tenant) = tenant {
            return Ok(tenant["spec"]["clusterRef"]["namespace"]
                .as_str()
                .map(str::to_owned));
        }
    }
    Ok(None)
}

impl Target for KubeconfigTarget {
    fn info(&self) -> TargetInfo {
        self.info.clone()
    }

    fn kube(&self) -> Client {
        self.client.clone()
    }

    fn servers(&self) -> BoxFuture<'_, Result<Vec<Server>, TargetError>> {
        std::future::ready(Ok(self.servers.clone())).boxed()
    }

    fn platform_files(&self) -> Vec<PathBuf> {
        self.platform.clone()
    }

    fn tenant(&self) -> BoxFuture<'_, Result<Option<Client>, TargetError>> {
        Box::pin(async {
            let Some(config) = self.tenant_config().await? else {
                return Ok(None);
            };
            let client = client(&config).await;
            client
                .map(Some)
                .map_err(|e| TargetError::Broken(format!("the kubeconfig of tenant {TENANT}: {e:#}")))
        })
    }
}
