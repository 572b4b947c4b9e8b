//! The engine of one BMC, sans-IO: accounts, sessions, power policy, boot settings, and what users have written.
//!
//! ```text
//!   handle(request, now) -> reply        a client
//!   machine(state, now)                  the machine changed
//!   poll(now) -> command, poll_at()      what the machine must do now, and when to ask again
//!   applied(result, now)                 the command has been carried out
//! ```
//! Everything that is rendered lives in `crate::redfish`; this module holds state and rules, no JSON and no URIs but
//! the keys of write counters.

mod accounts;
mod boot;
mod dice;
mod power;
mod secret;
mod sessions;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use crate::hardware::Hardware;
use crate::machine::{MachineCommand, MachineError, MachineState};
use crate::personality::Personality;
use crate::redfish;

pub use boot::{BootDevice, BootMode, BootOption, BootOverride, BootTarget, OverrideEnabled};
pub use power::ResetType;
pub use secret::Password;

pub(crate) use accounts::{
    Account, AccountId, LOCKOUT_SECONDS, LOCKOUT_THRESHOLD, MAX_PASSWORD, MAX_USER_NAME, MIN_PASSWORD,
    NewAccount, Privilege, RoleId,
};
pub(crate) use boot::{mac_node, reference as boot_reference};
pub(crate) use dice::Dice;
pub(crate) use power::Refusal;
pub(crate) use sessions::{Session, SessionId, TIMEOUT_SECONDS};

pub type Request = http::Request<Bytes>;
pub type Reply = http::Response<Bytes>;

/// What makes one BMC.
#[derive(Clone, Debug)]
pub struct Config {
    pub hardware: Hardware,
    pub personality: Personality,
    pub username: String,
    /// The first administrator's; exempt from the rules that later passwords must meet.
    pub password: Password,
    /// Makes tokens and salts reproducible, together with the password.
    pub seed: u64,
}

/// What users may write that is neither boot, account nor session.
pub(crate) struct Settings {
    pub(crate) asset_tag: String,
    pub(crate) chassis_asset_tag: String,
    pub(crate) location_indicator: bool,
    /// How far the BMC's clock was set away from true time.
    pub(crate) clock_offset: SignedDuration,
    pub(crate) host_name: String,
    pub(crate) ntp_enabled: bool,
    pub(crate) ntp_servers: Vec<String>,
}

/// See the module's documentation.
pub struct Bmc {
    pub(crate) hardware: Arc<Hardware>,
    pub(crate) personality: Personality,
    pub(crate) accounts: accounts::Accounts,
    pub(crate) sessions: sessions::Sessions,
    pub(crate) power: power::PowerControl,
    pub(crate) boot: boot::BootConfig,
    pub(crate) settings: Settings,
    pub(crate) dice: Dice,
    /// How often each resource was written: part of its ETag, so that each applied write makes a new one.
    writes: BTreeMap<String, u64>,
    started: Timestamp,
    /// Until then the service is restarting after Manager.Reset.
    down_until: Option<Timestamp>,
}

impl Bmc {
    pub fn new(config: Config, machine: MachineState, now: Timestamp) -> Bmc {
        let Config {
            hardware,
            personality,
            username,
            password,
            seed,
        } = config;
        let mut secret = hardware.uuid.as_bytes().to_vec();
        secret.extend_from_slice(password.expose().as_bytes());
        let mut dice = Dice::new(seed, &secret);
        let limits = &personality.product().limits;
        let mut accounts = accounts::Accounts::new(limits.accounts);
        let administrator = NewAccount {
            user_name: username,
            password,
            role: RoleId::Administrator,
            enabled: true,
            must_change: false,
        };
        accounts.add(administrator, &mut dice);
        Bmc {
            sessions: sessions::Sessions::new(limits.sessions),
            accounts,
            power: power::PowerControl::new(machine, now),
            boot: boot::BootConfig::new(),
            settings: Settings {
                asset_tag: String::new(),
                chassis_asset_tag: String::new(),
                location_indicator: false,
                clock_offset: SignedDuration::ZERO,
                host_name: format!("bmc-{}", hardware.serial.to_ascii_lowercase()),
                ntp_enabled: false,
                ntp_servers: Vec::new(),
            },
            hardware: Arc::new(hardware),
            personality,
            dice,
            writes: BTreeMap::new(),
            started: now,
            down_until: None,
        }
    }

    /// Names the BMC in every log line of the engine.
    fn span(&self) -> tracing::span::EnteredSpan {
        tracing::info_span!("bmc", bmc = %self.hardware.serial).entered()
    }

    /// Answers one request. Total: any request gets a reply, and none panics.
    pub fn handle(&mut self, request: Request, now: Timestamp) -> Reply {
        let _span = self.span();
        self.sessions.expire(now);
        redfish::respond(self, request, now)
    }

    /// The machine says what it is, on its own account or after a command.
    pub fn machine(&mut self, seen: MachineState, now: Timestamp) {
        if self.power.machine(seen, now) {
            let _span = self.span();
            tracing::debug!(power = ?seen.power, boot = ?seen.boot_progress, "machine changed");
        }
    }

    /// The next command that the machine must carry out now. Each is returned once; the next one only after
    /// [`Bmc::applied`].
    pub fn poll(&mut self, now: Timestamp) -> Option<MachineCommand> {
        self.power.poll(now)
    }

    /// When to `poll` next without an event before.
    pub fn poll_at(&self) -> Option<Timestamp> {
        self.power.poll_at()
    }

    /// The command that `poll` returned last has been carried out or has failed.
    pub fn applied(&mut self, result: &Result<(), MachineError>, now: Timestamp) {
        if let Err(error) = result {
            let _span = self.span();
            tracing::warn!(%error, "machine command failed");
        }
        self.power.applied(result.is_ok(), now);
    }

    /// Firmware asks how to boot, as a BIOS does at POST; consumes a `Once` override.
    pub fn post_begins(&mut self) -> BootOverride {
        let _span = self.span();
        let effective = self.boot.post_begins();
        tracing::debug!(target = ?effective.target, enabled = ?effective.enabled, "POST");
        effective
    }

    /// The enabled boot options in boot order: what firmware walks when no override holds.
    pub fn boot_order(&self) -> Vec<BootOption> {
        let options = self.boot.options(&self.hardware);
        let order = self.boot.order(&self.hardware);
        order
            .iter()
            .filter_map(|number| {
                options
                    .iter()
                    .find(|option| option.number == *number && option.enabled)
                    .cloned()
            })
            .collect()
    }

    pub fn hardware(&self) -> &Arc<Hardware> {
        &self.hardware
    }

    /// False while the service restarts: then a BMC accepts no connection.
    pub fn reachable(&self, now: Timestamp) -> bool {
        self.down_until.is_none_or(|until| until <= now)
    }

    /// Seconds until the service is back, if it is down.
    pub(crate) fn down_for(&self, now: Timestamp) -> Option<i64> {
        let until = self.down_until?;
        (now < until).then(|| until.duration_since(now).as_secs() + 1)
    }

    /// Restarts the management controller: sessions are lost, the machine is not touched.
    pub(crate) fn restart_service(&mut self, now: Timestamp) {
        self.sessions.close_all();
        self.down_until = now.checked_add(self.personality.timings.manager_reset()).ok();
        self.started = self.down_until.unwrap_or(now);
        tracing::info!("manager reset");
    }

    pub(crate) fn started(&self) -> Timestamp {
        self.started
    }

    /// The BMC's own idea of the time.
    pub(crate) fn clock(&self, now: Timestamp) -> Timestamp {
        now.checked_add(self.settings.clock_offset).unwrap_or(now)
    }

    pub(crate) fn written(&mut self, uri: &str) {
        // Bounded by the number of writable resources: only URIs that answered GET get here, and `forget` removes those
        // that are deleted.
        *self.writes.entry(uri.to_owned()).or_insert(0) += 1;
    }

    pub(crate) fn forget(&mut self, uri: &str) {
        self.writes.remove(uri);
    }

    pub(crate) fn write_count(&self, uri: &str) -> u64 {
        self.writes.get(uri).copied().unwrap_or(0)
    }

    /// Changes a local account's password as somebody at the console would, ending its sessions: what an operator who
    /// rotates credentials does. False if there is no such account.
    pub fn set_password(&mut self, user_name: &str, password: &Password) -> bool {
        let Some(id) = self.accounts.named(user_name) else {
            return false;
        };
        self.accounts.set_password(id, password, &mut self.dice);
        self.sessions.close_of(id);
        true
    }
}
