//! The servers of the lab: each a simulated machine behind a BMC with an address and a certificate of its own.

use super::{LabConfig, LabError, fabric, serve};
use crate::{
    host::{Host, HostConfig, Plug, disk::BlockPool},
    pki::Ca,
    plan::{BMC_PORT, BMC_USER, PlannedHost},
};
use sim_bmc::{BmcHandle, Config, Password, Personality};
use sim_fabric::FabricHandle;
use std::{net::SocketAddr, sync::Arc};
use steelyard_controller::{Clock, Net, tasks::Tasks};

/// A BMC's own part of a power step; the rest is the machine's.
const POWER_MS: u32 = 50;

/// All servers, in the order of the plan.
#[derive(Clone)]
pub struct Rack {
    pub servers: Vec<RackedServer>,
    /// Blocks that their disks share.
    pub pool: BlockPool,
}

#[derive(Clone)]
pub struct RackedServer {
    pub planned: PlannedHost,
    pub host: Host,
    pub bmc: BmcHandle,
    pub bmc_address: SocketAddr,
}

impl Rack {
    pub fn server(&self, name: &str) -> Option<&RackedServer> {
        self.servers.iter().find(|s| s.planned.name == name)
    }
}

pub(super) async fn start(
    config: &LabConfig,
    fabric: &FabricHandle,
    oob: &Arc<dyn Net>,
    ca: &Ca,
    clock: Clock,
    tasks: &Tasks,
) -> Result<Rack, LabError> {
    let pool = BlockPool::default();
    let mut servers = Vec::with_capacity(config.plan.hosts.len());
    for (i, planned) in config.plan.hosts.iter().enumerate() {
        let bad = |why: &dyn std::fmt::Display| LabError::Host {
            host: planned.name.clone(),
            why: why.to_string(),
        };
        let mut plugs = Vec::new();
        for (n, nic) in planned.hardware.nics.iter().enumerate() {
            let port = match planned.miscabled && n == 0 {
                true => fabric::spare(&config.plan, i),
                false => fabric::cable(&config.plan, i, n),
            };
            plugs.push((
                nic.id.to_string(),
                Plug::Fabric(fabric.attach(&port).map_err(|e| bad(&e))?),
            ));
        }
        let now: Arc<dyn Fn() -> jiff::Timestamp + Send + Sync> = Arc::new(move || clock.now());
        let address = SocketAddr::from((planned.bmc_address(), BMC_PORT));
        let seed = config.plan.seed
            ^ (u64::from(planned.rack) << 8 | u64::from(planned.slot)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let host = Host::new(
            HostConfig {
                name: planned.name.clone(),
                hardware: Arc::new(planned.hardware.clone()),
                seed,
                timing: config.timing,
                clock: now.clone(),
                bmc_address: Some(address.ip()),
                pool: pool.clone(),
            },
            plugs,
        );
        let mut personality = Personality::named(&planned.profile).map_err(|e| bad(&e))?;
        personality.timings = personality.timings.with_power_ms(POWER_MS);
        personality.https_port = BMC_PORT;
        let bmc = BmcHandle::new(
            Config {
                hardware: planned.hardware.clone(),
                personality,
                username: BMC_USER.into(),
                password: Password::new(&planned.bmc_password),
                seed,
            },
            Arc::new(host.clone()),
            now,
        );
        tasks.spawn("machine", host.run(Some(bmc.clone())));
        tasks.spawn("bmc", bmc.run());
        let tls = ca.server(&planned.name, address.ip())?;
        let listener = super::listen(
            oob,
            "a BMC",
            address,
            "Another lab uses its address: stop that one (make lab-down)".into(),
        )
        .await?;
        let served = bmc.clone();
        serve::each(listener, tasks, "bmc", move |stream| {
            let (bmc, tls) = (served.clone(), tls.clone());
            async move { sim_bmc::serve_connection(bmc, Some(tls), stream).await }
        });
        servers.push(RackedServer {
            planned: planned.clone(),
            host,
            bmc,
            bmc_address: address,
        });
    }
    Ok(Rack { servers, pool })
}
