//! The data centre, assembled: Kubernetes API, fabric, racks, image mirror, tenants, controller.
//!
//! The parts meet only over protocols. The controller gets one [`World`] and its flags, as on a real site;
//! what it knows of the lab is what those flags and the Kubernetes API say.

mod cluster;
mod deploy;
pub(crate) mod fabric;
mod mirror;
mod operator;
mod racks;
mod serve;
mod witness;

pub(crate) use cluster::connect;
pub use fabric::{HOME, Networks, TENANT_TEMPLATE};
use operator::Tenants;
pub use racks::{Rack, RackedServer};

use crate::{
    host::Timing,
    pki::{Ca, PkiError},
    plan::Plan,
    world::{FabricNet, MemoryNet},
};
use clap::Parser;
use sim_fabric::FabricHandle;
use sim_kube::{ApiServer, Options};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};
use steelyard_controller::{Args, Clock, Dice, Net, OsNet, World, tasks::Tasks};

#[derive(Debug, thiserror::Error)]
pub enum LabError {
    #[error("{what} at {address} can't listen: {why}. {fix}")]
    Listen {
        what: &'static str,
        address: SocketAddr,
        fix: String,
        why: io::Error,
    },
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Topology(#[from] sim_fabric::TopologyError),
    #[error("server {host}: {why}")]
    Host { host: String, why: String },
    #[error("the Kubernetes API did not take {what}: {why}")]
    Kubernetes { what: String, why: String },
    #[error("{path}: {why}")]
    File { path: PathBuf, why: io::Error },
    #[error("the lab's image can't be built: {0}")]
    Artefact(String),
    #[error("the controller's flags: {0}")]
    Flags(#[from] clap::Error),
}

/// Where the lab's own APIs listen, when they are on real sockets.
#[derive(Clone, Copy, Debug)]
pub struct Sockets {
    pub kubernetes: SocketAddr,
    pub fabric: SocketAddr,
    pub mirror: SocketAddr,
}

impl Default for Sockets {
    fn default() -> Self {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Sockets {
            kubernetes: at(6443),
            fabric: at(8444),
            mirror: at(8445),
        }
    }
}

/// Who runs the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ControllerMode {
    /// In the lab's process.
    Inside,
    /// A process of its own, joined to the fabric by unix sockets.
    Process,
    /// Nobody: the lab is for another controller.
    None,
}

#[derive(Clone, Debug)]
pub struct LabConfig {
    pub plan: Plan,
    /// Create the hosts, a provider and an image.
    pub register: bool,
    /// `None`: everything in memory.
    pub sockets: Option<Sockets>,
    /// Use this cluster instead of an embedded one.
    pub kubeconfig: Option<String>,
    pub controller: ControllerMode,
    pub timing: Timing,
    /// Tenants' kubeconfigs for people go here.
    pub dir: Option<PathBuf>,
    /// Flags for the controller after the lab's own; a later one wins.
    pub controller_flags: Vec<String>,
}

impl LabConfig {
    pub fn in_memory(plan: Plan) -> Self {
        LabConfig {
            plan,
            register: true,
            sockets: None,
            kubeconfig: None,
            controller: ControllerMode::Inside,
            timing: Timing::lab(),
            dir: None,
            controller_flags: Vec::new(),
        }
    }
}

/// A running data centre. It runs as long as its [`Tasks`] do.
pub struct Lab {
    pub config: LabConfig,
    pub clock: Clock,
    /// The embedded API server, unless an existing cluster is used.
    pub kubernetes: Option<ApiServer>,
    /// A client that may do everything.
    pub admin: kube::Client,
    pub fabric: FabricHandle,
    pub networks: Networks,
    pub rack: Rack,
    /// BMCs, fabric management and mirror.
    pub oob: Arc<dyn Net>,
    pub bmc_ca: String,
    pub fabric_password: String,
    pub fabric_url: String,
    /// Tenants' control planes as they come and go.
    tenants: Tenants,
    flags: Vec<String>,
    tasks: Tasks,
    sockets: Sockets,
}

/// The user that the controller is: what `deploy/rbac` binds.
const CONTROLLER_USER: &str = "system:serviceaccount:steelyard-system:steelyard-controller";
const CONTROLLER_GROUPS: &[&str] = &[
    "system:serviceaccounts",
    "system:serviceaccounts:steelyard-system",
    "system:authenticated",
];

impl Lab {
    /// Assembles and starts everything but the controller.
    pub async fn start(config: LabConfig, tasks: Tasks) -> Result<Self, LabError> {
        let clock = Clock::system();
        let sockets = config.sockets.unwrap_or_default();
        let oob: Arc<dyn Net> = if config.sockets.is_some() {
            Arc::new(OsNet)
        } else {
            Arc::new(MemoryNet::default())
        };
        let networks = Networks::for_hosts(config.plan.hosts.len());

        let (kubernetes, admin) = start_kubernetes(&config, clock, sockets, &tasks).await?;

        let bmc_ca = Ca::new("steelyard lab")?;
        let fabric = fabric::start(&config.plan, &networks, clock, &tasks)?;
        let fabric_password = fabric::password(config.plan.seed);
        let fabric_url = format!("https://{}", sockets.fabric);
        let tls = bmc_ca.server("fabric", sockets.fabric.ip())?;
        let router = fabric.netris(fabric::USER, &fabric_password);
        let listener = listen(
            &oob,
            "the fabric's management",
            sockets.fabric,
            choose_another("--fabric-listen"),
        )
        .await?;
        serve::each(listener, &tasks, "netris", move |stream| {
            let (router, tls) = (router.clone(), tls.clone());
            async move { sim_fabric::serve_connection(router, Some(tls), stream).await }
        });

        let listener = listen(
            &oob,
            "the image mirror",
            sockets.mirror,
            choose_another("--mirror-listen"),
        )
        .await?;
        mirror::start(listener, config.plan.seed, &tasks)?;

        let rack = racks::start(&config, &fabric, &oob, &bmc_ca, clock, &tasks).await?;

        let mut lab = Lab {
            flags: Vec::new(),
            bmc_ca: bmc_ca.pem().to_owned(),
            config,
            clock,
            kubernetes,
            admin,
            fabric,
            networks,
            rack,
            oob,
            tenants: Tenants::default(),
            fabric_password,
            fabric_url,
            tasks,
            sockets,
        };
        lab.flags = lab.controller_flags();
        cluster::prepare(&lab).await?;
        operator::start(&lab)?;
        if lab.config.register {
            cluster::register(&lab).await?;
        }
        Ok(lab)
    }

    /// What the controller is told, as a site's manifest would.
    fn controller_flags(&self) -> Vec<String> {
        let mirror = self.sockets.mirror;
        let mut flags: Vec<String> = [
            ("--bmc-ca", self.bmc_ca.clone()),
            ("--bmc-watch", "100ms".into()),
            ("--bmc-poll", "10s".into()),
            (
                "--provisioning-cidr",
                self.networks.provisioning.trunc().to_string(),
            ),
            ("--provisioning-vip", self.networks.vip.to_string()),
            ("--boot-assets", format!("http://{mirror}/boot")),
            (
                "--image-mirror",
                format!("https://cloud-images.ubuntu.com=http://{mirror}"),
            ),
            (
                "--fabric-secret",
                format!("{}/{}", cluster::SYSTEM_NAMESPACE, cluster::FABRIC_SECRET),
            ),
            ("--provisioning-cluster", HOME.into()),
            ("--tenant-template", TENANT_TEMPLATE.into()),
            ("--join-listen", self.networks.join.to_string()),
            ("--agent-heartbeat", "5s".into()),
            ("--tenant-poll", "250ms".into()),
            ("--max-busy-hosts", "24".into()),
            ("--retry-after", "4s".into()),
            ("--inspect-timeout", "60s".into()),
            ("--agent-timeout", "60s".into()),
            ("--join-timeout", "60s".into()),
            ("--fabric-timeout", "60s".into()),
            ("--power-timeout", "30s".into()),
        ]
        .into_iter()
        .map(|(flag, value)| format!("{flag}={value}"))
        .collect();
        flags.extend(self.config.controller_flags.iter().cloned());
        flags
    }

    /// The controller's flags, for whoever runs it.
    pub fn flags(&self) -> &[String] {
        &self.flags
    }

    /// A world for one life of a controller: new stacks on the fabric, the client that RBAC allows. `tasks`
    /// drives the stacks.
    pub fn world(&self, tasks: &Tasks, dice: Dice) -> Result<World, LabError> {
        let port = |network: &str| {
            let attached = self.fabric.attach_network(network);
            attached.map_err(|e| LabError::Host {
                host: network.into(),
                why: e.to_string(),
            })
        };
        let kube = match &self.kubernetes {
            Some(server) => kube::Client::new(server.as_user(CONTROLLER_USER, CONTROLLER_GROUPS), "default"),
            None => self.admin.clone(),
        };
        let (provisioning, services) =
            self.networks
                .controller_stacks(port("provisioning")?, port("services")?, tasks)?;
        Ok(World {
            kube,
            clock: self.clock,
            dice,
            oob: self.oob.clone(),
            provisioning: Arc::new(FabricNet::new(provisioning)),
            services: Arc::new(FabricNet::new(services)),
        })
    }

    /// A kubeconfig for the controller as a process of its own.
    pub fn controller_kubeconfig(&self) -> Option<String> {
        let url = format!("https://{}", self.sockets.kubernetes);
        match &self.kubernetes {
            Some(server) => Some(server.user_kubeconfig(&url, CONTROLLER_USER, CONTROLLER_GROUPS)),
            None => self.config.kubeconfig.clone(),
        }
    }

    /// Runs the controller in this process until `tasks` are stopped or it fails.
    pub fn run_controller(
        &self,
        tasks: &Tasks,
        dice: Dice,
    ) -> Result<
        impl Future<Output = Result<(), steelyard_controller::RunError>> + Send + 'static + use<>,
        LabError,
    > {
        let args = Args::try_parse_from(
            std::iter::once("steelyard-controller".to_owned()).chain(self.flags.iter().cloned()),
        )?;
        let world = self.world(tasks, dice)?;
        Ok(steelyard_controller::run(world, args, tasks.clone()))
    }

    pub fn fabric_user(&self) -> &'static str {
        fabric::USER
    }

    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    pub fn sockets(&self) -> Sockets {
        self.sockets
    }
}

async fn start_kubernetes(
    config: &LabConfig,
    clock: Clock,
    sockets: Sockets,
    tasks: &Tasks,
) -> Result<(Option<ApiServer>, kube::Client), LabError> {
    if let Some(text) = &config.kubeconfig {
        return Ok((None, connect(text).await?));
    }
    let mut options = Options::new(Arc::new(move || clock.now()));
    options.seed = config.plan.seed;
    options.sans = vec![sockets.kubernetes.ip().to_string(), "localhost".into()];
    options.advertise_url = format!("https://{}", sockets.kubernetes);
    let server = ApiServer::new(options);
    tasks.spawn("kubernetes loops", server.run());
    if config.sockets.is_some() {
        let address = sockets.kubernetes;
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .map_err(|why| LabError::Listen {
                what: "the Kubernetes API",
                address,
                fix: choose_another("--kubernetes-listen"),
                why,
            })?;
        let stop = tokio_util::sync::CancellationToken::new();
        tasks.spawn("kubernetes", sim_kube::serve(listener, server.clone(), stop));
    }
    let admin = kube::Client::new(server.as_user("kubernetes-admin", &["system:masters"]), "default");
    Ok((Some(server), admin))
}

async fn listen(
    net: &Arc<dyn Net>,
    what: &'static str,
    address: SocketAddr,
    fix: String,
) -> Result<Box<dyn steelyard_controller::Listener>, LabError> {
    net.listen(address).await.map_err(|why| LabError::Listen {
        what,
        address,
        fix,
        why,
    })
}

/// What to do about a taken port.
fn choose_another(flag: &str) -> String {
    format!("Stop what uses it (ss -ltnp shows it), or choose another with {flag}")
}
