//! The operating system of a simulated host, once its disk has booted: root file system, network, cloud-init, the kubelet.

use std::sync::{Arc, Mutex, PoisonError};

use sim_bmc::BootProgress;
use sim_bmc::hardware::Architecture;
use tokio::sync::watch;
use tokio::time::sleep;
use uuid::Uuid;

use super::chassis::{Chassis, End, beside};
use super::cloudinit::{self, CloudInit};
use super::dhcp::{self, Asker, Client};
use super::disk::Disk;
use super::image::OsManifest;
use super::iso::{self, ConfigDrive};
use super::kubelet;
use super::network::{self, Interface, Plan};
use super::nic::{Network, Nic};
use super::rootfs::{FsError, RootFs};
use super::shell::Io;
use crate::net::{Mac, Stack};

pub(crate) const KERNEL_VERSION: &str = "6.8.0-steelyard";
/// Of the kubelet and kubeadm that the image ships.
pub(crate) const KUBERNETES_VERSION: &str = "v1.34.2";
/// Units that `systemctl` finds.
pub(crate) const UNITS: &[&str] = &[
    "kubelet",
    "containerd",
    "ssh",
    "sshd",
    "systemd-networkd",
    "systemd-resolved",
    "cron",
    "chrony",
    "chronyd",
];
const KUBELET_ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/kubelet.service";

/// A running OS, as its programs see it.
pub(crate) struct Os {
    pub chassis: Chassis,
    pub fs: RootFs,
    pub net: Network,
    pub pretty_name: String,
    pub disk: Disk,
    pub boot_id: Uuid,
    hostname: Mutex<String>,
    kubelet: watch::Sender<Unit>,
}

/// What systemd wants of the kubelet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unit {
    pub wanted: bool,
    /// Counts restarts.
    pub generation: u64,
}

impl Os {
    pub(crate) fn new(chassis: &Chassis, fs: RootFs, manifest: &OsManifest, disk: &Disk) -> Self {
        let hostname = fs
            .read_text("/etc/hostname")
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty());
        let seed = [
            chassis.seed_for(0x51).to_le_bytes(),
            chassis.seed_for(0x52).to_le_bytes(),
        ]
        .concat();
        let boot_id = uuid::Builder::from_random_bytes(seed.try_into().unwrap_or_default()).into_uuid();
        Self {
            chassis: chassis.clone(),
            net: Network::default(),
            pretty_name: format!("{} {}", manifest.name, manifest.version),
            disk: disk.clone(),
            boot_id,
            hostname: Mutex::new(hostname.unwrap_or_else(|| "localhost".to_owned())),
            kubelet: watch::Sender::default(),
            fs,
        }
    }

    pub(crate) fn hostname(&self) -> String {
        self.hostname
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn set_hostname(&self, name: &str) -> Result<(), FsError> {
        self.fs.write("/etc/hostname", format!("{name}\n").as_bytes())?;
        name.clone_into(&mut self.hostname.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// As `uname -m` says.
    pub(crate) fn machine_architecture(&self) -> &'static str {
        match self
            .chassis
            .hardware
            .processors
            .first()
            .map(|cpu| cpu.architecture)
        {
            Some(Architecture::Aarch64) => "aarch64",
            _ => "x86_64",
        }
    }

    /// `/etc/machine-id`: of the installation, made at its first boot.
    pub(crate) fn machine_id(&self) -> String {
        self.fs
            .read_text("/etc/machine-id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_default()
    }

    pub(crate) fn kubelet(&self) -> watch::Receiver<Unit> {
        self.kubelet.subscribe()
    }

    /// `systemctl VERB kubelet`; its exit status.
    pub(crate) fn kubelet_service(&self, verb: &str, now: bool, io: &Io) -> u8 {
        let start = |wanted: bool, again: bool| {
            self.kubelet.send_modify(|unit| {
                unit.generation += u64::from(again || unit.wanted != wanted);
                unit.wanted = wanted;
            });
        };
        let enabled = self.fs.is_file(KUBELET_ENABLED);
        let (text, status) = match verb {
            "start" => {
                return {
                    start(true, false);
                    0
                };
            }
            "restart" | "try-restart" | "reload" => {
                return {
                    start(true, true);
                    0
                };
            }
            "stop" => {
                return {
                    start(false, false);
                    0
                };
            }
            "enable" | "disable" => {
                let result = match verb {
                    "enable" => self.fs.write(KUBELET_ENABLED, b"[Unit]\nDescription=kubelet\n"),
                    _ => self.fs.remove(KUBELET_ENABLED, false).map(|_| ()),
                };
                if now {
                    start(verb == "enable", false);
                }
                return u8::from(result.is_err());
            }
            "is-enabled" if enabled => ("enabled", 0),
            "is-enabled" => ("disabled", 1),
            "is-active" | "status" if self.kubelet.borrow().wanted => ("active", 0),
            "is-active" | "status" => ("inactive", 3),
            _ => ("unknown verb", 1),
        };
        io.stdout.line(text);
        status
    }

    /// What the package's installation and the first boot leave behind.
    fn first_boot(&self) -> Result<(), FsError> {
        if self.fs.is_file("/etc/machine-id") {
            return Ok(());
        }
        let seed = self.chassis.seed_for(0x53);
        let id = format!("{seed:016x}{:016x}", seed.rotate_left(32) ^ self.chassis.seed);
        self.fs.write(KUBELET_ENABLED, b"[Unit]\nDescription=kubelet\n")?;
        self.fs.write("/etc/machine-id", format!("{id}\n").as_bytes())
    }
}

/// Runs the OS of a disk until the machine goes down.
pub(crate) async fn run(chassis: &Chassis, nics: &mut [Nic], index: usize, manifest: &OsManifest) -> End {
    let stage = format!("OS {} {}", manifest.name, manifest.version);
    (chassis.report)(BootProgress::OsBootStarted, &stage);
    chassis.say(format!("Linux version {KERNEL_VERSION}, {stage}"));
    sleep(chassis.timing.os_boot).await;
    let disk = &chassis.disks[index];
    let mounted = manifest
        .root
        .ok_or_else(|| "the image has no root partition".to_owned());
    let os = match mounted.and_then(|area| RootFs::mount(disk, area).map_err(|error| error.to_string())) {
        Ok(fs) => Arc::new(Os::new(chassis, fs, manifest, disk)),
        Err(reason) => {
            chassis.say(format!(
                "Kernel panic - not syncing: VFS: Unable to mount root fs: {reason}"
            ));
            return std::future::pending().await;
        }
    };
    if let Err(error) = os.first_boot() {
        chassis.say(format!("systemd: {error}"));
    }
    let drive = chassis.disks.iter().find_map(iso::find_config_drive);
    let plan = network_plan(chassis, drive.as_ref(), nics);
    os.net.add_dns(plan.dns.iter().copied());
    let stacks: Vec<Option<Stack>> = nics
        .iter_mut()
        .enumerate()
        .map(|(i, nic)| stack(&os, &plan, i, nic))
        .collect();
    let frames = nics
        .iter_mut()
        .zip(&stacks)
        .filter_map(|(nic, stack)| stack.as_ref().map(|stack| stack.run(nic)));
    let frames = async {
        futures::future::join_all(frames).await;
    };
    let end = beside(frames, system(&os, drive.as_ref(), &plan, &stacks, &stage)).await;
    chassis.say(if end == End::Reboot {
        "systemd: rebooting"
    } else {
        "systemd: powering off"
    });
    sleep(chassis.timing.shutdown).await;
    end
}

fn network_plan(chassis: &Chassis, drive: Option<&ConfigDrive>, nics: &[Nic]) -> Plan {
    let macs: Vec<Mac> = nics.iter().map(|nic| nic.mac).collect();
    let data = drive.and_then(|drive| drive.files.get("openstack/latest/network_data.json"));
    let plan = match data.map(|data| network::plan(data, &macs)) {
        Some(Ok(plan)) => plan,
        Some(Err(error)) => Plan {
            warnings: vec![error.to_string()],
            ..Plan::default()
        },
        None => {
            // cloud-init's fallback: DHCP on the first NIC with a link.
            let first = nics.iter().position(Nic::carrier);
            let dhcp = first.map(|nic| Interface {
                nic,
                dhcp: true,
                ..Interface::default()
            });
            Plan {
                interfaces: dhcp.into_iter().collect(),
                ..Plan::default()
            }
        }
    };
    for warning in &plan.warnings {
        chassis.say(format!("cloud-init: WARNING: {warning}"));
    }
    plan
}

/// The stack of a NIC that is configured.
fn stack(os: &Os, plan: &Plan, index: usize, nic: &mut Nic) -> Option<Stack> {
    let interface = plan.interfaces.iter().find(|interface| interface.nic == index)?;
    let stack = nic.stack(os.chassis.seed_for(0x40 + index as u64));
    if let Err(error) = stack.set_addresses(interface.addresses.clone()) {
        os.chassis.say(format!("networkd: {}: {error}", nic.name));
    }
    stack.set_routes(interface.routes.clone());
    for address in &interface.addresses {
        os.chassis.say(format!(
            "networkd: {}: {}/{}",
            nic.name, address.ip, address.prefix
        ));
    }
    os.net.add(stack.clone());
    Some(stack)
}

/// Everything that runs on the machine, side by side.
async fn system(
    os: &Arc<Os>,
    drive: Option<&ConfigDrive>,
    plan: &Plan,
    stacks: &[Option<Stack>],
    stage: &str,
) -> End {
    let (online, wait_online) = watch::channel(0usize);
    let leases = plan
        .interfaces
        .iter()
        .filter(|interface| interface.dhcp)
        .filter_map(|interface| {
            let stack = stacks.get(interface.nic)?.as_ref()?;
            Some(dhcp_client(os, stack, &online))
        });
    let leases: Vec<_> = leases.collect();
    let wanted = leases.len();
    let leases = async {
        futures::future::join_all(leases).await;
        std::future::pending::<()>().await
    };
    tokio::select! {
        biased;
        () = leases => End::PowerOff,
        end = services(os, drive, wait_online, wanted, stage) => end,
        () = kubelet::service(os) => End::PowerOff,
    }
}

async fn services(
    os: &Arc<Os>,
    drive: Option<&ConfigDrive>,
    mut online: watch::Receiver<usize>,
    wanted: usize,
    stage: &str,
) -> End {
    let (instance, errors) = drive.map(cloudinit::read).unwrap_or_default();
    for error in errors {
        os.chassis.say(format!("cloud-init: WARNING: {error}"));
    }
    let cloud_init = CloudInit {
        os,
        instance: &instance,
    };
    if drive.is_some() {
        if let Err(end) = cloud_init.init().await {
            return end;
        }
    } else {
        os.chassis
            .say("cloud-init: no datasource found (no config drive)");
    }
    // systemd-networkd-wait-online gives up after two minutes; the boot goes on without.
    let online = online.wait_for(|up| *up >= wanted);
    let waited = tokio::time::timeout(os.chassis.timing.http, online).await.is_ok();
    if !waited {
        os.chassis.say("systemd-networkd-wait-online: timed out");
    }
    (os.chassis.report)(BootProgress::OsRunning, stage);
    os.chassis.say(format!("{} login:", os.hostname()));
    if os.fs.is_file(KUBELET_ENABLED) {
        os.kubelet.send_modify(|unit| {
            *unit = Unit {
                wanted: true,
                generation: 1,
            }
        });
    }
    if drive.is_some()
        && let Err(end) = cloud_init.finish().await
    {
        return end;
    }
    std::future::pending().await
}

async fn dhcp_client(os: &Os, stack: &Stack, online: &watch::Sender<usize>) {
    let hostname = os.hostname();
    let asker = Asker {
        client: Client::Os,
        uuid: os.chassis.hardware.uuid,
        hostname: Some(&hostname),
        seed: os.chassis.seed_for(0x60),
    };
    let mut first = true;
    loop {
        let error = match dhcp::acquire(stack, asker, os.chassis.timing.dhcp).await {
            Ok(lease) => {
                os.chassis.say(format!(
                    "networkd: DHCP {}/{}",
                    lease.address.ip, lease.address.prefix
                ));
                os.net.add_dns(lease.dns.iter().copied());
                if std::mem::take(&mut first) {
                    online.send_modify(|up| *up += 1);
                }
                dhcp::keep(stack, asker, lease).await
            }
            Err(error) => error,
        };
        os.chassis.say(format!("networkd: DHCP: {error}"));
    }
}
