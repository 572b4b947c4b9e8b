//! A simulated server: power, and whatever runs while there is power.
//!
//! ```text
//!  Off --On--> firmware --> ramdisk | OS | setup --PowerOff--> Off
//!               ^  ForceRestart, reboot  |
//!               '------------------------'      ForceOff from anywhere -> Off
//! ```
//! **One boot is one future.** Firmware, NIC drivers, agent, cloud-init and kubelet run inside it and spawn nothing, so that
//! cutting the power is dropping it: whatever was under way ends there, also in the middle of a write.

use std::net::IpAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use sim_bmc::{
    BmcHandle, BootProgress, Hardware, Machine, MachineCommand, MachineError, MachineState, Power,
};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::sleep;

use super::chassis::{Chassis, End, Now, beside};
use super::console::Console;
use super::dhcp::{self, Asker, Client};
use super::disk::{BlockPool, Disk};
use super::firmware::{self, Loaded};
use super::hardware;
use super::nic::{Network, Nic, Plug};
use super::os;
use super::ramdisk;
use super::timing::Timing;
use crate::net::Mac;

/// Commands that wait: the BMC sends one at a time.
const COMMANDS_MAX: usize = 4;

/// What a host is made of.
pub struct HostConfig {
    pub name: String,
    pub hardware: Arc<Hardware>,
    pub seed: u64,
    pub timing: Timing,
    pub clock: Now,
    /// Where the BMC listens, as the ramdisk finds it by IPMI.
    pub bmc_address: Option<IpAddr>,
    /// Blocks that hosts share.
    pub pool: BlockPool,
}

/// What can be seen from outside without asking the BMC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostStatus {
    pub state: MachineState,
    /// A few words for people: `PXEv4 eth0 (..)`, `deploy ramdisk`, `OS ubuntu`.
    pub stage: String,
    /// Since the host was made.
    pub boots: u64,
}

/// A simulated server; cheap to clone. It does nothing unless somebody awaits `run`.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    name: Arc<str>,
    hardware: Arc<Hardware>,
    seed: u64,
    timing: Timing,
    clock: Now,
    bmc_address: Option<IpAddr>,
    disks: Vec<Disk>,
    console: Console,
    status: watch::Sender<HostStatus>,
    commands: mpsc::Sender<Order>,
    parts: Mutex<Parts>,
}

/// What only the running machine touches.
struct Parts {
    orders: mpsc::Receiver<Order>,
    nics: Vec<Nic>,
}

struct Order {
    command: MachineCommand,
    done: oneshot::Sender<Result<(), MachineError>>,
}

/// Why a boot was left.
enum Left {
    Off,
    Restart,
    /// The owner of the commands is gone.
    Gone,
}

impl Host {
    /// `plugs`: what is in the NICs, by their ids in the hardware; the others have no cable.
    pub fn new(config: HostConfig, mut plugs: Vec<(String, Plug)>) -> Self {
        let mut take = |id: &str| match plugs.iter().position(|(nic, _)| nic == id) {
            Some(index) => plugs.swap_remove(index).1,
            None => Plug::Empty,
        };
        let nics = config.hardware.nics.iter().enumerate();
        let nics = nics
            .map(|(i, nic)| Nic::new(&*nic.id, format!("eth{i}"), Mac(nic.mac.0), take(&nic.id)))
            .collect();
        let disks = hardware::disks(&config.hardware, &config.pool);
        let (commands, orders) = mpsc::channel(COMMANDS_MAX);
        let status = HostStatus {
            state: MachineState::OFF,
            stage: "off".to_owned(),
            boots: 0,
        };
        let inner = Inner {
            name: config.name.into(),
            hardware: config.hardware,
            seed: config.seed,
            timing: config.timing,
            clock: config.clock,
            bmc_address: config.bmc_address,
            disks,
            console: Console::default(),
            status: watch::Sender::new(status),
            commands,
            parts: Mutex::new(Parts { orders, nics }),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    pub fn name(&self) -> &str {
        &self.inner.name
    }

    pub fn hardware(&self) -> &Arc<Hardware> {
        &self.inner.hardware
    }

    pub fn console(&self) -> &Console {
        &self.inner.console
    }

    /// In the order of the drives in the hardware.
    pub fn disks(&self) -> &[Disk] {
        &self.inner.disks
    }

    pub fn status(&self) -> watch::Receiver<HostStatus> {
        self.inner.status.subscribe()
    }

    /// The machine itself, until dropped. `bmc` is told what changes and asked how to boot; it is passed here and not kept,
    /// since it holds the machine in turn.
    pub fn run(&self, bmc: Option<BmcHandle>) -> impl Future<Output = ()> + Send + 'static {
        let inner = self.inner.clone();
        async move {
            let mut parts = inner.parts.lock().await;
            let Parts { orders, nics } = &mut *parts;
            loop {
                // Also where a machine starts whose last `run` was dropped while it was on: its power was cut.
                inner.off(nics, bmc.as_ref());
                if inner.wait_for_power(orders).await.is_none() {
                    return;
                }
                nics.iter_mut().for_each(|nic| nic.power(true));
                loop {
                    match inner.boot(orders, nics, bmc.as_ref()).await {
                        Left::Restart => {}
                        Left::Off => break,
                        Left::Gone => return,
                    }
                }
            }
        }
    }
}

impl Machine for Host {
    fn state(&self) -> BoxFuture<'_, MachineState> {
        Box::pin(std::future::ready(self.inner.status.borrow().state))
    }

    fn apply(&self, command: MachineCommand) -> BoxFuture<'_, Result<(), MachineError>> {
        Box::pin(async move {
            let (done, result) = oneshot::channel();
            let gone = || MachineError::Backend {
                command,
                reason: "the machine is not running".to_owned(),
            };
            self.inner
                .commands
                .send(Order { command, done })
                .await
                .map_err(|_| gone())?;
            result.await.map_err(|_| gone())?
        })
    }
}

impl Inner {
    fn set(&self, bmc: Option<&BmcHandle>, state: MachineState, stage: &str) {
        let mut changed = false;
        self.status.send_if_modified(|status| {
            changed = status.state != state;
            let modified = changed || status.stage != stage;
            status.state = state;
            stage.clone_into(&mut status.stage);
            modified
        });
        if let Some(bmc) = bmc.filter(|_| changed) {
            bmc.machine_changed(state);
        }
    }

    fn off(&self, nics: &mut [Nic], bmc: Option<&BmcHandle>) {
        nics.iter_mut().for_each(|nic| nic.power(false));
        self.set(bmc, MachineState::OFF, "off");
    }

    /// Answers commands to a machine without power until one turns it on.
    async fn wait_for_power(&self, orders: &mut mpsc::Receiver<Order>) -> Option<()> {
        loop {
            let Order { command, done } = orders.recv().await?;
            let on = command == MachineCommand::On;
            if on {
                self.set(None, MachineState::ON, "power on");
            }
            let wrong = MachineError::WrongState {
                command,
                power: Power::Off,
            };
            let result = if on || command == MachineCommand::ForceOff {
                Ok(())
            } else {
                Err(wrong)
            };
            // Whoever asked may have stopped waiting; the command holds nevertheless.
            let _ = done.send(result);
            if on {
                return Some(());
            }
        }
    }

    /// One boot, and the commands that come while it runs.
    async fn boot(
        &self,
        orders: &mut mpsc::Receiver<Order>,
        nics: &mut [Nic],
        bmc: Option<&BmcHandle>,
    ) -> Left {
        self.status.send_modify(|status| status.boots += 1);
        let chassis = self.chassis(bmc);
        let (press, button) = watch::channel(None);
        let mut life = Box::pin(life(&chassis, nics, button));
        loop {
            let order = tokio::select! {
                biased;
                order = orders.recv() => order,
                end = &mut life => return match end {
                    End::PowerOff => Left::Off,
                    End::Reboot => {
                        self.set(bmc, MachineState::ON, "reset");
                        Left::Restart
                    }
                },
            };
            let Some(Order { command, done }) = order else {
                return Left::Gone;
            };
            let left = match command {
                MachineCommand::On => {
                    let _ = done.send(Err(MachineError::WrongState {
                        command,
                        power: Power::On,
                    }));
                    continue;
                }
                MachineCommand::ForceOff => {
                    self.set(None, MachineState::OFF, "off");
                    Some(Left::Off)
                }
                MachineCommand::ForceRestart => {
                    self.set(None, MachineState::ON, "reset");
                    Some(Left::Restart)
                }
                MachineCommand::GracefulShutdown => press.send(Some(End::PowerOff)).ok().and(None),
                MachineCommand::GracefulRestart => press.send(Some(End::Reboot)).ok().and(None),
                MachineCommand::Nmi => {
                    self.console
                        .print("NMI: uncorrected hardware event reported, ignored");
                    None
                }
            };
            if let Some(left) = left {
                // The caller may rely on it: nothing of this boot runs any more.
                drop(life);
                let _ = done.send(Ok(()));
                return left;
            }
            let _ = done.send(Ok(()));
        }
    }

    fn chassis(&self, bmc: Option<&BmcHandle>) -> Chassis {
        let (status, told) = (self.status.clone(), bmc.cloned());
        let boots = self.status.borrow().boots;
        Chassis {
            name: self.name.clone(),
            hardware: self.hardware.clone(),
            disks: self.disks.clone(),
            console: self.console.clone(),
            timing: self.timing,
            clock: self.clock.clone(),
            seed: self.seed.wrapping_add(boots.wrapping_mul(0x2545_F491_4F6C_DD1D)),
            bmc: bmc.cloned(),
            bmc_address: self.bmc_address,
            report: Arc::new(move |boot_progress, stage| {
                let state = MachineState {
                    power: Power::On,
                    boot_progress,
                };
                let mut changed = false;
                status.send_modify(|status| {
                    changed = status.state != state;
                    status.state = state;
                    stage.clone_into(&mut status.stage);
                });
                if let Some(bmc) = told.as_ref().filter(|_| changed) {
                    bmc.machine_changed(state);
                }
            }),
        }
    }
}

/// From POST until the machine turns itself off or resets.
async fn life(chassis: &Chassis, nics: &mut [Nic], button: watch::Receiver<Option<End>>) -> End {
    let mut pressed = button;
    let shutdown = async {
        let wanted = pressed.wait_for(Option::is_some).await.ok().and_then(|end| *end);
        match wanted {
            Some(end) => end,
            // The machine's owner is gone, and drops this future next.
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        end = shutdown => {
            chassis.say("Power button pressed. Shutting down.");
            sleep(chassis.timing.shutdown).await;
            end
        }
        end = start(chassis, nics) => end,
    }
}

async fn start(chassis: &Chassis, nics: &mut [Nic]) -> End {
    match firmware::run(chassis, nics).await {
        Loaded::Setup => {
            (chassis.report)(BootProgress::SetupEntered, "setup");
            std::future::pending().await
        }
        Loaded::Disk { index, manifest } => os::run(chassis, nics, index, &manifest).await,
        Loaded::Kernel {
            kernel,
            cmdline,
            initrd,
            nic,
        } => {
            (chassis.report)(BootProgress::OsBootStarted, "deploy ramdisk");
            deploy(chassis, nics, nic, ramdisk_boot(chassis, kernel, cmdline, initrd)).await
        }
    }
}

/// What is known of the ramdisk before its network is up.
struct Image {
    kernel: bytes::Bytes,
    cmdline: String,
    initrd: bytes::Bytes,
    seed: u64,
}

fn ramdisk_boot(chassis: &Chassis, kernel: bytes::Bytes, cmdline: String, initrd: bytes::Bytes) -> Image {
    chassis.say(format!("Linux: {cmdline}"));
    Image {
        kernel,
        cmdline,
        initrd,
        seed: chassis.seed_for(3),
    }
}

/// The deploy ramdisk: its kernel configures the NIC it came from by DHCP, then the agent runs.
async fn deploy(chassis: &Chassis, nics: &mut [Nic], booted: usize, image: Image) -> End {
    let stack = nics[booted].stack(chassis.seed_for(0x30));
    let asker = Asker {
        client: Client::Os,
        uuid: chassis.hardware.uuid,
        hostname: Some(&chassis.name),
        seed: chassis.seed_for(4),
    };
    // Taken before the NIC is lent to its driver; the address is filled in below.
    let inventory = hardware::inventory(chassis, nics, booted, std::net::Ipv4Addr::UNSPECIFIED.into());
    let work = async {
        let lease = loop {
            match dhcp::acquire(&stack, asker, chassis.timing.dhcp).await {
                Ok(lease) => break lease,
                // A ramdisk keeps trying: the switch port may still be moving.
                Err(error) => chassis.say(format!("dhclient: {error}")),
            }
        };
        let network = Network::of(stack.clone());
        network.add_dns(lease.dns.iter().copied());
        let mut hardware = inventory;
        if let Some(nic) = hardware.nics.get_mut(booted) {
            nic.address = Some(lease.address.ip.into());
        }
        let boot = ramdisk::Boot {
            cmdline: image.cmdline,
            kernel: image.kernel,
            initrd: image.initrd,
            hardware,
            net: Arc::new(network),
            seed: image.seed,
            wall_clock: (chassis.clock)(),
        };
        tokio::select! {
            biased;
            next = ramdisk::run(boot) => next,
            error = dhcp::keep(&stack, asker, lease) => {
                chassis.say(format!("dhclient: {error}"));
                std::future::pending().await
            }
        }
    };
    let next = beside(stack.run(&mut nics[booted]), work).await;
    stack.link_down();
    match next {
        Ok(ramdisk::Next::PowerOff) => End::PowerOff,
        Ok(ramdisk::Next::Reboot) => End::Reboot,
        Err(error) => {
            // As a kernel that cannot go on: it stays there until somebody resets the machine.
            chassis.say(format!("Kernel panic - not syncing: {error}"));
            std::future::pending().await
        }
    }
}
