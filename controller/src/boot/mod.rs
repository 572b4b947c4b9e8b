//! The boot services: DHCP, TFTP, HTTP boot, and the service side of the deploy agent's protocol.
//!
//! Ours, so synchronous towards the rest of the controller: a plan is published or retracted, facts are read.
//! Facts live as long as the plan of their operation. The engines know no sockets; [`serve`] does.
//!
//! ```text
//! publish(host, plan)                      facts(host), agent(host)
//!        v                                        ^
//!   state (plans, facts; one short lock) ---------+
//!        ^ plan_of(mac)      ^ record
//!   dhcp tftp ipxe web agent_api  <-- serve (sockets on Net)
//!                       agent_client --> the agent (TLS, pinned)
//! ```

mod agent_api;
mod agent_client;
mod assets;
mod dhcp;
mod inventory;
mod ipxe;
mod mac;
mod serve;
mod stall;
mod state;
mod strangers;
mod tftp;
mod vault;
mod web;

pub use agent_client::{Accepted, AgentError, Payload, Retry};
pub use assets::{AssetError, BootAssets};
pub use mac::{BadMac, Mac};
pub use serve::BootError;
pub use state::PlanError;
pub use strangers::Stranger;
pub use vault::{AgentRecord, AgentVault, JobKind, JobRecord, VaultError};

use crate::{
    image::Images,
    key::Key,
    net::Net,
    world::{Clock, Dice},
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use steelyard_core::{
    Observed,
    host::view::{AgentFacts, BootFacts},
    intent::{AgentTask, BootPlan},
};

/// What a site decides about its boot services.
#[derive(Clone, Debug)]
pub struct BootConfig {
    /// Our address in the provisioning network: what servers are told.
    pub vip: Ipv4Addr,
    /// Where DHCP listens. All addresses by default, because broadcasts don't reach a socket that is bound to one.
    pub dhcp: SocketAddr,
    /// Where TFTP listens; `None`: no TFTP.
    pub tftp: Option<SocketAddr>,
    pub http: SocketAddr,
    /// What servers are told instead of `http://VIP:PORT`.
    pub advertise_url: Option<String>,
    /// How long an address is promised; it is the host's own, so this only sets how often a ramdisk renews.
    pub lease: Duration,
    /// What agents are told: they beat every 0.3 to 0.6 of it.
    pub heartbeat_timeout: Duration,
    pub inspector_params: Vec<String>,
    pub installer_params: Vec<String>,
    pub collectors: String,
    pub assets: BootAssets,
    /// Give an agent its token, and take an inventory, only from the address that the host was given. Off where
    /// something rewrites source addresses between the servers and us.
    pub verify_source: bool,
}

impl BootConfig {
    pub fn new(vip: Ipv4Addr, assets: BootAssets) -> Self {
        let any = Ipv4Addr::UNSPECIFIED;
        BootConfig {
            vip,
            dhcp: SocketAddr::from((any, 67)),
            tftp: Some(SocketAddr::from((vip, 69))),
            http: SocketAddr::from((vip, 8080)),
            advertise_url: None,
            lease: Duration::from_secs(3600),
            heartbeat_timeout: Duration::from_secs(300),
            inspector_params: Vec::new(),
            installer_params: Vec::new(),
            collectors: "default,pci-devices".into(),
            assets,
            verify_source: true,
        }
    }

    /// The base of every URL that servers are given.
    pub fn url(&self) -> String {
        match &self.advertise_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{}:{}", self.vip, self.http.port()),
        }
    }

    /// A flag that can't work, in words.
    pub fn check(&self) -> Result<(), String> {
        let flags = [
            ("--inspector-extra-kernel-param", &self.inspector_params),
            ("--installer-extra-kernel-param", &self.installer_params),
        ];
        for (flag, params) in flags {
            for param in params {
                ipxe::check_param(param).map_err(|why| format!("{flag}: {why}"))?;
            }
        }
        ipxe::check_param(&self.collectors).map_err(|why| format!("--inspector-collectors: {why}"))?;
        if self.heartbeat_timeout < Duration::from_secs(1) {
            return Err("the heartbeat timeout must be at least 1 s".into());
        }
        Ok(())
    }
}

/// Whom we tell. Both are called without a lock held and must return at once.
#[derive(Clone)]
pub struct BootHooks {
    /// Facts of this host changed.
    pub changed: Arc<dyn Fn(&Key) + Send + Sync>,
    /// A MAC that no published plan has sent a DISCOVER; at most once per MAC and 10 minutes.
    pub stranger: Arc<dyn Fn(&Stranger) + Send + Sync>,
}

impl Default for BootHooks {
    fn default() -> Self {
        BootHooks {
            changed: Arc::new(|_| {}),
            stranger: Arc::new(|_| {}),
        }
    }
}

/// What the boot services need of the world.
#[derive(Clone)]
pub struct BootWorld {
    /// The provisioning network.
    pub net: Arc<dyn Net>,
    pub clock: Clock,
    pub dice: Dice,
    pub vault: Arc<dyn AgentVault>,
    pub images: Images,
    pub hooks: BootHooks,
}

/// Handle of the boot services; clones share everything.
#[derive(Clone)]
pub struct BootServices(Arc<state::Shared>);

impl BootServices {
    pub fn new(config: BootConfig, world: BootWorld) -> Self {
        BootServices(Arc::new(state::Shared::new(config, world)))
    }

    /// Answers this host as `plan` says from now on. A level: the same plan again changes nothing; a plan of
    /// another operation forgets what was seen during the last one.
    pub fn publish(&self, host: &Key, plan: BootPlan) -> Result<(), PlanError> {
        self.0.publish(host, plan)
    }

    /// Answers this host no more.
    pub fn retract(&self, host: &Key) {
        self.0.retract(host);
    }

    pub fn facts(&self, host: &Key) -> BootFacts {
        self.0.boot_facts(host)
    }

    pub fn agent(&self, host: &Key) -> Observed<AgentFacts> {
        self.0.agent_facts(host)
    }

    /// Asks the agent what became of its job; the answer is in [`BootServices::agent`] afterwards.
    pub async fn observe_agent(&self, host: &Key) -> Result<(), AgentError> {
        agent_client::observe(&self.0, host).await
    }

    /// Gives the agent a job, unless it has it already.
    pub async fn ensure_agent(
        &self,
        host: &Key,
        task: &AgentTask,
        payload: Payload,
    ) -> Result<Accepted, AgentError> {
        agent_client::ensure(&self.0, host, task, payload).await
    }

    /// MACs without a plan that asked for an address, most recent last; at most 1024.
    pub fn strangers(&self) -> Vec<Stranger> {
        self.0.strangers()
    }

    /// Serves until a socket can't be had, and says which and why.
    pub async fn run(self) -> BootError {
        serve::run(self.0).await
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
