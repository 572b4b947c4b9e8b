//! Wiring: flags and a world in, a tree of tasks, an exit.

use crate::{
    args::{Args, PemSource, SecretName, signed},
    boot::{BootAssets, BootConfig, BootError, BootHooks, BootServices, BootWorld, Stranger},
    execute::{AgentDesk, BmcDesk, BmcReach, FabricContext, FabricDesk, Renderer},
    fabric::netris::{Netris, NetrisAccess},
    http_client::HttpClient,
    image::{ImageConfig, Images},
    key::Key,
    net::Net,
    observe::Facts,
    queue::{Queue, Work},
    reconcile::{Engine, Failures, RenderedBook, Site, TicketDesk},
    secret::Secret,
    store::{Election, Events, Leadership, LeaseConfig, Saver, SecretVault, Store},
    tasks::Tasks,
    tenant::{Tenants, join_service::JoinService},
    tls,
    world::World,
};
use bytes::Bytes;
use http::Request;
use k8s_openapi::{
    api::core::v1::Secret as KubeSecret,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, Client, Resource};
use rustls::ClientConfig;
use std::{path::Path, sync::Arc, time::Duration};
use steelyard_api::{loft::NodeProvider, metal3::BareMetalHost};
use steelyard_core::Notice;
use tokio::sync::mpsc;

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0}")]
    Flag(String),
    #[error("the Kubernetes API: {0}")]
    Kubernetes(Box<kube::Error>),
    #[error("CRD {name}: {why}; apply deploy/crds")]
    Crd { name: &'static str, why: String },
    #[error("boot files: {0}")]
    Assets(String),
    #[error(transparent)]
    Boot(BootError),
    #[error("{0}")]
    Join(String),
    #[error("the lease was lost; another controller leads")]
    LostLease,
    #[error("the part that decides has ended")]
    Stopped,
    #[error("task {0:?} panicked")]
    Panicked(&'static str),
}

impl From<kube::Error> for RunError {
    fn from(error: kube::Error) -> Self {
        RunError::Kubernetes(Box::new(error))
    }
}

/// Unknown MACs that wait to be told of: a rack's worth.
const STRANGERS: usize = 64;
const MANAGEMENT_TIMEOUT: Duration = Duration::from_secs(20);
/// The boot files that a site has: the agent's kernel and ramdisk, and iPXE for each kind of firmware.
const ASSETS: &[(&str, bool)] = &[
    ("vmlinuz", true),
    ("initramfs", true),
    ("snponly.efi", false),
    ("undionly.kpxe", false),
    ("snponly-arm64.efi", false),
];

/// How long our tasks may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs the controller until `tasks` are stopped (`Ok`), or something that it can't go on without fails.
/// Nothing of it is left when this ends or is dropped; only when it ends is the lease given back.
pub async fn run(world: World, args: Args, tasks: Tasks) -> Result<(), RunError> {
    args.check(MANAGEMENT_TIMEOUT).map_err(RunError::Flag)?;
    check_crds(&world.kube).await?;
    let tasks = tasks.child();
    let _ours_end = tasks.stop_on_drop();
    let identity = args
        .identity
        .clone()
        .unwrap_or_else(|| format!("steelyard-{}", world.dice.token(8)));
    let lease = LeaseConfig {
        namespace: args.namespace.clone(),
        name: "steelyard-controller".into(),
        identity: identity.clone(),
        duration: args.lease_duration,
        renew_every: args.lease_renew,
    };
    let (election, leadership) = Election::new(world.kube.clone(), lease, world.clock);
    // The lease is renewed from the first moment on, also while we still set up.
    let result = tokio::select! {
        biased;
        () = tasks.stopped() => tasks.panicked().map_or(Ok(()), |name| Err(RunError::Panicked(name))),
        () = election.run() => Err(RunError::LostLease),
        error = lead(&world, &args, &tasks, identity, leadership) => Err(error),
    };
    tasks.end(PATIENCE).await;
    election.release().await;
    result
}

/// Waits until we lead, and leads until something fails.
async fn lead(
    world: &World,
    args: &Args,
    tasks: &Tasks,
    identity: String,
    mut leadership: Leadership,
) -> RunError {
    leadership.wait().await;
    let started = start(world, args, tasks, identity, leadership).await;
    match started {
        Err(error) => error,
        Ok(Started { engine, boot, join }) => tokio::select! {
            biased;
            error = boot.run() => RunError::Boot(error),
            error = join.run() => RunError::Join(error.to_string()),
            () = engine.run() => RunError::Stopped,
        },
    }
}

/// What decides and serves.
struct Started {
    engine: Arc<Engine>,
    boot: BootServices,
    join: JoinService,
}

async fn start(
    world: &World,
    args: &Args,
    tasks: &Tasks,
    identity: String,
    leadership: Leadership,
) -> Result<Started, RunError> {
    let queue = Queue::default();
    let store = Store::new(world.kube.clone(), queue.clone());
    tasks.spawn("watches", store.clone().run());
    store.wait_synced().await;

    let facts = Facts::new(world.clock.now());
    let upstream = upstream_trust(args.upstream_ca.as_ref())?;
    let images = images(world, args, upstream.clone(), &store)?;
    let (strangers, met) = mpsc::channel(STRANGERS);
    let boot = boot(world, args, upstream, images.clone(), &store, strangers).await?;
    let bmc = BmcDesk::new(
        bmc_reach(world, args)?,
        facts.clone(),
        queue.clone(),
        world.clock,
        leadership.clone(),
        tasks.clone(),
    );
    let agent = AgentDesk::new(
        boot.clone(),
        store.clone(),
        queue.clone(),
        world.clock,
        leadership.clone(),
        tasks.clone(),
    );
    let fabric = netris(world, args, &store).await?.map(|netris| {
        let context = FabricContext {
            facts: facts.clone(),
            store: store.clone(),
            queue: queue.clone(),
            clock: world.clock,
            leadership: leadership.clone(),
            timeout: MANAGEMENT_TIMEOUT,
        };
        FabricDesk::start(Arc::new(netris), context, tasks)
    });
    let tenants = Tenants::new(store.clone(), world.services.clone(), tasks.clone());
    let (events, sending) = Events::new(world.kube.clone(), world.clock, identity);
    tasks.spawn("events", sending);
    tasks.spawn("strangers", tell_strangers(met, store.clone(), events.clone()));
    let renderer = Renderer {
        store: store.clone(),
        tenants: tenants.clone(),
        clock: world.clock,
        dice: world.dice.clone(),
        join_endpoint: args
            .join_endpoint
            .clone()
            .unwrap_or_else(|| default_join_endpoint(args)),
        ticket_validity: signed(args.ticket_validity),
    };
    let engine = Arc::new(Engine {
        policy: args.policy(fabric.is_some()),
        site: Site {
            provisioning_cidr: args.provisioning_cidr,
            max_busy: args.max_busy_hosts,
            tenant_poll: args.tenant_poll,
        },
        saver: Saver::new(world.kube.clone()),
        events,
        store,
        facts,
        queue,
        clock: world.clock,
        dice: world.dice.clone(),
        boot: boot.clone(),
        images: images.clone(),
        bmc,
        agent,
        fabric,
        tenants,
        renderer,
        rendered: RenderedBook::default(),
        failures: Failures::default(),
    });
    engine.wake_all();
    tasks.spawn("images", async move {
        images.run().await;
    });
    let tickets = Arc::new(TicketDesk(engine.clone()));
    let join = JoinService::new(args.join_listen, world.services.clone(), world.clock, tickets);
    let join = join.map_err(|e| RunError::Join(e.to_string()))?;
    Ok(Started { engine, boot, join })
}

/// Refuses to run on CRDs that would prune what we must not lose.
async fn check_crds(client: &Client) -> Result<(), RunError> {
    const NEEDED: &[(&str, &[&str])] = &[
        ("baremetalhosts.metal3.io", &["status", "steelyard", "operation"]),
        ("nodeclaims.storage.loft.sh", &["status", "bareMetalHost"]),
    ];
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for (name, path) in NEEDED {
        let bad = |why: String| RunError::Crd { name, why };
        let crd = api
            .get_opt(name)
            .await?
            .ok_or_else(|| bad("it is not installed".into()))?;
        let schema = crd
            .spec
            .versions
            .iter()
            .find(|v| v.storage)
            .and_then(|v| v.schema.as_ref()?.open_api_v3_schema.clone());
        let mut at = schema
            .map(|s| serde_json::to_value(s).unwrap_or_default())
            .unwrap_or_default();
        for field in *path {
            if at["x-kubernetes-preserve-unknown-fields"] == true {
                break;
            }
            at = at["properties"][*field].take();
            if at.is_null() {
                return Err(bad(format!(
                    "its schema has no .{}, so the API server would drop it",
                    path.join(".")
                )));
            }
        }
    }
    Ok(())
}

fn upstream_trust(ca: Option<&PemSource>) -> Result<Arc<ClientConfig>, RunError> {
    match ca {
        Some(pem) => trust(pem, "--upstream-ca"),
        None => tls::trust_public().map_err(|e| RunError::Flag(e.to_string())),
    }
}

fn trust(pem: &PemSource, flag: &str) -> Result<Arc<ClientConfig>, RunError> {
    let bad = |e: &dyn std::fmt::Display| RunError::Flag(format!("{flag}: {e}"));
    let (text, what) = pem.read().map_err(|e| bad(&e))?;
    tls::trust_ca(&text, &what).map_err(|e| bad(&e))
}

fn bmc_reach(world: &World, args: &Args) -> Result<BmcReach, RunError> {
    let unverified = tls::trust_anyone().map_err(|e| RunError::Flag(e.to_string()))?;
    let verified = match &args.bmc_ca {
        Some(pem) => trust(pem, "--bmc-ca")?,
        None => tls::trust_public().map_err(|e| RunError::Flag(e.to_string()))?,
    };
    Ok(BmcReach {
        net: world.oob.clone(),
        verified,
        unverified,
        timeout: args.bmc_timeout,
        at_once: args.bmc_connections,
    })
}

fn images(
    world: &World,
    args: &Args,
    upstream: Arc<ClientConfig>,
    store: &Arc<Store>,
) -> Result<Images, RunError> {
    let mut config = match &args.image_cache {
        Some(dir) => ImageConfig::in_dir(dir),
        None => ImageConfig::in_memory(),
    };
    config.mirrors = args.image_mirror.clone();
    // Whoever waits for the image has it in its spec; a fetch ends rarely enough to look at all hosts.
    let watching = store.clone();
    let changed = Arc::new(move |image: &steelyard_api::metal3::Image| {
        for host in watching.hosts.list() {
            if host.spec.image.as_ref().is_some_and(|i| i.url == image.url) {
                watching.queue.wake(Work::Host(Key::of(&*host)));
            }
        }
    });
    Images::new(config, world.oob.clone(), upstream, world.clock, changed)
        .map_err(|e| RunError::Flag(format!("--image-cache: {e}")))
}

async fn boot(
    world: &World,
    args: &Args,
    upstream: Arc<ClientConfig>,
    images: Images,
    store: &Arc<Store>,
    strangers: mpsc::Sender<Stranger>,
) -> Result<BootServices, RunError> {
    let mut config = BootConfig::new(
        args.provisioning_vip,
        assets(&args.boot_assets, world.oob.clone(), upstream).await?,
    );
    config.http = (args.provisioning_vip, args.http_port).into();
    config.heartbeat_timeout = args.agent_heartbeat;
    config.inspector_params = args.inspector_kernel_params.clone();
    config.installer_params = args.installer_kernel_params.clone();
    config.check().map_err(RunError::Flag)?;
    let vault = Arc::new(SecretVault::new(world.kube.clone(), store.hosts.clone()));
    let changed = store.queue.clone();
    let hooks = BootHooks {
        changed: Arc::new(move |host| changed.wake(Work::Host(host.clone()))),
        // More at one time than the channel holds are told of ten minutes later.
        stranger: Arc::new(move |stranger| drop(strangers.try_send(stranger.clone()))),
    };
    let world = BootWorld {
        net: world.provisioning.clone(),
        clock: world.clock,
        dice: world.dice.clone(),
        vault,
        images,
        hooks,
    };
    Ok(BootServices::new(config, world))
}

/// From a directory, or from a web server.
async fn assets(from: &str, net: Arc<dyn Net>, trust: Arc<ClientConfig>) -> Result<BootAssets, RunError> {
    if !from.starts_with("http://") && !from.starts_with("https://") {
        return BootAssets::from_dir(Path::new(from)).map_err(|e| RunError::Assets(e.to_string()));
    }
    let client = HttpClient::new(net, trust, MANAGEMENT_TIMEOUT);
    let mut assets = BootAssets::new();
    for (name, required) in ASSETS {
        let url = format!("{}/{name}", from.trim_end_matches('/'));
        let bad = |why: &dyn std::fmt::Display| RunError::Assets(format!("{url}: {why}"));
        let request = Request::get(&url).body(Bytes::new()).map_err(|e| bad(&e))?;
        let answer = client.send(request).await.map_err(|e| bad(&e))?;
        match answer.status().as_u16() {
            200 => assets = assets.with(*name, answer.into_body()),
            404 if !required => {}
            other => return Err(bad(&format!("status {other}"))),
        }
    }
    Ok(assets)
}

/// The fabric that `--fabric-secret`, or else a provider, names.
async fn netris(world: &World, args: &Args, store: &Store) -> Result<Option<Netris>, RunError> {
    let from_provider = |p: &NodeProvider| {
        let metal3 = p.spec.metal3.as_ref()?;
        let secret = metal3.netris.as_ref()?.secret_ref.as_ref()?;
        let namespace = secret.namespace.clone().unwrap_or_else(|| args.namespace.clone());
        Some(SecretName {
            namespace,
            name: secret.name.clone()?,
        })
    };
    let named = store
        .providers
        .list()
        .iter()
        .find_map(|p| from_provider(p))
        .or_else(|| args.fabric_secret.clone());
    let Some(named) = named else { return Ok(None) };
    let shown = format!("Secret {}/{} of the fabric", named.namespace, named.name);
    let api: Api<KubeSecret> = Api::namespaced(world.kube.clone(), &named.namespace);
    let secret = api.get_opt(&named.name).await?.ok_or_else(|| {
        RunError::Flag(format!(
            "{shown} does not exist: create it with url, username, password"
        ))
    })?;
    let data = secret.data.unwrap_or_default();
    let text = |key: &str| {
        data.get(key)
            .and_then(|v| String::from_utf8(v.0.clone()).ok())
            .map(|t| t.trim().to_owned())
    };
    let need = |key: &str| text(key).ok_or_else(|| RunError::Flag(format!("{shown} has no key {key:?}")));
    let access = NetrisAccess {
        url: need("url")?,
        user: need("username")?,
        password: Secret::new(need("password")?),
    };
    let tls = match text("ca.crt") {
        Some(pem) => tls::trust_ca(&pem, &shown),
        None => tls::trust_public(),
    }
    .map_err(|e| RunError::Flag(format!("{shown}: {e}")))?;
    Ok(Some(Netris::new(
        world.oob.clone(),
        tls,
        access,
        args.tenant_template.clone(),
        MANAGEMENT_TIMEOUT,
    )))
}

/// Which provider an unknown MAC belongs to, nobody knows: all are told.
async fn tell_strangers(mut met: mpsc::Receiver<Stranger>, store: Arc<Store>, events: Events) {
    while let Some(stranger) = met.recv().await {
        // A server of ours that nobody boots now (its disk is empty, say) is no stranger.
        let mac = stranger.mac.to_string();
        let known = |h: &Arc<BareMetalHost>| {
            h.spec
                .boot_mac_address
                .as_ref()
                .is_some_and(|m| m.eq_ignore_ascii_case(&mac))
        };
        if store.hosts.list().iter().any(known) {
            continue;
        }
        let text = format!(
            "{} asks for an address in the provisioning network, and no BareMetalHost has that bootMACAddress: \
             register the server, or take it out of this network",
            stranger.mac
        );
        for provider in store.providers.list() {
            events.publish(
                provider.object_ref(&()),
                &Notice::warning("UnknownMAC", text.clone()),
            );
        }
    }
}

fn default_join_endpoint(args: &Args) -> String {
    match args.join_listen.port() {
        443 => args.join_listen.ip().to_string(),
        port => format!("{}:{port}", args.join_listen.ip()),
    }
}
