//! Runs the tenants' control planes, as vCluster would on a real site: an embedded API server for each
//! VirtualClusterInstance, its endpoint in the services network, its kubeconfig in the Secret `vc-NAME`.

use super::{Lab, LabError, cluster, fabric, serve};
use crate::{net::Stack, world::FabricNet};
use futures::StreamExt;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject},
    core::GroupVersionKind,
    runtime::watcher::{self, Event},
};
use serde_json::{Value, json};
use sim_fabric::FabricHandle;
use sim_kube::{ApiServer, Options};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use steelyard_controller::{Clock, Net, tasks::Tasks};
use tokio_util::sync::CancellationToken;

/// The first address for tenants in the services network.
const FIRST: u8 = 2;
const PORT: u16 = 8443;

/// API servers of running tenants, by the key of their VirtualClusterInstance.
#[derive(Clone, Default)]
pub(super) struct Tenants(Arc<Mutex<BTreeMap<String, ApiServer>>>);

impl Tenants {
    pub(super) fn get(&self, tenant: &str) -> Option<ApiServer> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(tenant)
            .cloned()
    }

    fn set(&self, tenant: &str, server: Option<ApiServer>) {
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match server {
            Some(server) => servers.insert(tenant.to_owned(), server),
            None => servers.remove(tenant),
        };
    }
}

struct Operator {
    admin: Client,
    fabric: FabricHandle,
    services: ipnet::Ipv4Net,
    clock: Clock,
    seed: u64,
    dir: Option<PathBuf>,
    /// Whether people reach tenants on loopback sockets.
    sockets: bool,
    tasks: Tasks,
    tenants: BTreeMap<String, Tenant>,
    running: Tenants,
}

struct Tenant {
    endpoint: Ipv4Addr,
    secret: (String, String),
    name: String,
    stop: CancellationToken,
    stack: Stack,
}

pub(super) fn start(lab: &Lab) -> Result<(), LabError> {
    let operator = Operator {
        admin: lab.admin.clone(),
        fabric: lab.fabric.clone(),
        services: lab.networks.services,
        clock: lab.clock,
        seed: lab.config.plan.seed,
        dir: lab.config.dir.as_ref().map(|d| d.join("tenants")),
        sockets: lab.config.sockets.is_some(),
        tasks: lab.tasks().clone(),
        tenants: BTreeMap::new(),
        running: lab.tenants.clone(),
    };
    lab.tasks().spawn("tenant operator", operator.run());
    Ok(())
}

impl Operator {
    async fn run(mut self) {
        let gvk = GroupVersionKind::gvk("storage.loft.sh", "v1", "VirtualClusterInstance");
        let api: Api<DynamicObject> = Api::all_with(self.admin.clone(), &ApiResource::from_gvk(&gvk));
        let mut events = std::pin::pin!(kube::runtime::watcher(api, watcher::Config::default()));
        let mut listed = BTreeSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(object)) => {
                    listed.insert(key(&object));
                    self.wanted(&object).await;
                }
                Ok(Event::InitDone) => {
                    let gone: Vec<String> = self
                        .tenants
                        .keys()
                        .filter(|k| !listed.contains(*k))
                        .cloned()
                        .collect();
                    for tenant in gone {
                        self.gone(&tenant).await;
                    }
                }
                Ok(Event::Apply(object)) => self.wanted(&object).await,
                Ok(Event::Delete(object)) => self.gone(&key(&object)).await,
                Err(error) => {
                    tracing::warn!(%error, "tenants can't be watched; trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn wanted(&mut self, object: &DynamicObject) {
        let tenant = key(object);
        if self.tenants.contains_key(&tenant) || object.metadata.deletion_timestamp.is_some() {
            return;
        }
        match self.start_tenant(object).await {
            Ok(started) => {
                tracing::info!(tenant, endpoint = %started.endpoint, "tenant control plane runs");
                self.tenants.insert(tenant, started);
            }
            Err(error) => tracing::error!(tenant, %error, "tenant control plane can't start"),
        }
    }

    async fn start_tenant(&self, object: &DynamicObject) -> Result<Tenant, LabError> {
        let name = object.name_any();
        let namespace = object.data["spec"]["clusterRef"]["namespace"]
            .as_str()
            .map_or_else(
                || format!("loft-{}-v-{name}", object.namespace().unwrap_or_default()),
                str::to_owned,
            );
        let endpoint = self.endpoint(object)?;
        let stop = CancellationToken::new();
        let url = format!("https://{endpoint}");

        let clock = self.clock;
        let mut options = Options::new(Arc::new(move || clock.now()));
        options.seed = self.seed ^ u64::from(u32::from(*endpoint.ip())).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        options.sans = vec![endpoint.ip().to_string(), "127.0.0.1".into()];
        options.advertise_url = url.clone();
        let server = ApiServer::new(options);
        self.until(&stop, "tenant loops", server.run());

        let bad = |why: &dyn std::fmt::Display| LabError::Host {
            host: format!("tenant {name}"),
            why: why.to_string(),
        };
        let port = self.fabric.attach_network("services").map_err(|e| bad(&e))?;
        let stack = fabric::infra_stack(
            port,
            *endpoint.ip(),
            self.services.prefix_len(),
            Some(self.services.addr()),
            endpoint.ip().octets()[3],
            &self.tasks,
        )?;
        let net = FabricNet::new(stack.clone());
        let listener = net.listen(SocketAddr::V4(endpoint)).await.map_err(|e| bad(&e))?;
        let accepting = serve::accept(listener, self.tasks.clone(), "tenant api", {
            let (server, stop) = (server.clone(), stop.clone());
            move |stream| {
                let (server, stop) = (server.clone(), stop.clone());
                async move {
                    let tls = server.tls();
                    stop.run_until_cancelled(sim_kube::serve_connection(server, tls, stream))
                        .await
                        .unwrap_or(Ok(()))
                }
            }
        });
        self.until(&stop, "tenant api", accepting);
        if self.sockets {
            self.serve_people(&name, &server, &stop).await?;
        }
        cluster::apply(
            &self.admin,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        )
        .await?;
        let secret = format!("vc-{name}");
        let config = server.admin_kubeconfig(&url);
        cluster::apply(
            &self.admin,
            json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                "metadata": {"name": secret, "namespace": namespace},
                "stringData": {"config": config},
            }),
        )
        .await?;
        self.running.set(&key(object), Some(server));
        Ok(Tenant {
            endpoint: *endpoint.ip(),
            secret: (namespace, secret),
            name,
            stop,
            stack,
        })
    }

    /// The tenant's API on a loopback port, and a kubeconfig for it.
    async fn serve_people(
        &self,
        name: &str,
        server: &ApiServer,
        stop: &CancellationToken,
    ) -> Result<(), LabError> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let failed = |why| LabError::Listen {
            what: "a tenant's API",
            address: any,
            fix: "No loopback port is free".into(),
            why,
        };
        let listener = tokio::net::TcpListener::bind(any).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        self.tasks.spawn(
            "tenant api",
            sim_kube::serve(listener, server.clone(), stop.clone()),
        );
        if let Some(dir) = &self.dir {
            let path = dir.join(format!("{name}.kubeconfig"));
            let config = server.admin_kubeconfig(&format!("https://{address}"));
            crate::files::write_secret(&path, &config).map_err(|why| LabError::File { path, why })?;
        }
        Ok(())
    }

    /// `controlPlane.endpoint` of the values, if it is ours to give, else the first free address.
    fn endpoint(&self, object: &DynamicObject) -> Result<SocketAddrV4, LabError> {
        let taken: BTreeSet<Ipv4Addr> = self.tenants.values().map(|t| t.endpoint).collect();
        let values = object.data["spec"]["template"]["helmRelease"]["values"]
            .as_str()
            .unwrap_or_default();
        let values: Value = serde_saphyr::from_str(values).unwrap_or(Value::Null);
        let wished = values["controlPlane"]["endpoint"]
            .as_str()
            .and_then(|e| e.parse::<SocketAddrV4>().ok());
        if let Some(wished) = wished.filter(|w| self.services.contains(w.ip()) && !taken.contains(w.ip())) {
            return Ok(wished);
        }
        let [a, b, c, _] = self.services.network().octets();
        (FIRST..=250)
            .map(|last| Ipv4Addr::new(a, b, c, last))
            .find(|ip| !taken.contains(ip))
            .map(|ip| SocketAddrV4::new(ip, PORT))
            .ok_or_else(|| LabError::Host {
                host: key(object),
                why: "the services network has no free address".into(),
            })
    }

    async fn gone(&mut self, tenant: &str) {
        let Some(gone) = self.tenants.remove(tenant) else {
            return;
        };
        self.running.set(tenant, None);
        gone.stop.cancel();
        gone.stack.link_down();
        let (namespace, name) = &gone.secret;
        let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(self.admin.clone(), namespace);
        if let Err(error) = secrets.delete(name, &DeleteParams::default()).await {
            tracing::warn!(tenant, %error, "the tenant's kubeconfig Secret could not be deleted");
        }
        if let Some(dir) = &self.dir {
            // Already gone is as good.
            let _ = std::fs::remove_file(dir.join(format!("{}.kubeconfig", gone.name)));
        }
        tracing::info!(tenant, "tenant control plane stopped");
    }

    fn until(
        &self,
        stop: &CancellationToken,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let stop = stop.clone();
        self.tasks.spawn(name, async move {
            stop.run_until_cancelled(work).await;
        });
    }
}

fn key(object: &DynamicObject) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}
