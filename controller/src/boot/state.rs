//! What is published and what was seen, behind one short lock. Nothing here waits but for the vault, and never
//! with the lock held.

use super::{
    BootConfig, BootWorld, dhcp,
    inventory::Found,
    ipxe::{self, ScriptSettings},
    mac::{BadMac, Mac},
    strangers::{Stranger, Strangers},
    vault::{AgentRecord, JobRecord, VaultError},
};
use crate::{http_client::HttpClient, key::Key, secret::Secret};
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use steelyard_core::{
    Ignorance, Observed,
    host::view::{AgentFacts, BootFacts, JobFacts},
    intent::BootPlan,
};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("bootMACAddress: {0}")]
    Mac(#[from] BadMac),
    #[error("bootMACAddress {mac} is also the one of {other}: correct one of the two")]
    MacTaken { mac: Mac, other: Key },
    #[error(
        "address {address} is also the one of {other}: correct the annotation metal3.vcluster.com/ip-address of one of the two"
    )]
    AddressTaken { address: std::net::Ipv4Addr, other: Key },
}

pub(crate) struct Shared {
    pub(crate) config: BootConfig,
    pub(crate) world: BootWorld,
    pub(crate) dhcp: dhcp::Settings,
    pub(crate) scripts: ScriptSettings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    hosts: BTreeMap<Key, Host>,
    by_mac: BTreeMap<Mac, Key>,
    strangers: Strangers,
}

struct Host {
    plan: BootPlan,
    mac: Mac,
    published_at: Timestamp,
    boot: BootFacts,
    agent: Agent,
}

/// The agent that the current plan brought up.
#[derive(Default)]
struct Agent {
    record: Option<AgentRecord>,
    /// The record is being written down; nobody may rely on it yet.
    saving: bool,
    /// The vault was asked, so a missing record is missing.
    vault_read: bool,
    /// The host fetched its boot script since the token was issued: a new agent will come, which needs its own.
    rebooted: bool,
    /// The last sign of life.
    seen_at: Option<Timestamp>,
    heartbeat_at: Option<Timestamp>,
    found: Option<Found>,
    inspection_error: Option<String>,
    job: Option<JobFacts>,
    /// We asked and got no answer, later than the last sign of life.
    lost: Option<(Timestamp, String)>,
    client: Option<Arc<HttpClient>>,
}

/// What lookup answers.
#[derive(Debug)]
pub(crate) enum Grant {
    /// A new token: for this agent, and never again.
    Token(Secret),
    Masked,
    /// Another lookup of this host is being answered.
    Pending,
    /// The plan went away meanwhile.
    Gone,
}

/// Who a request is about.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) key: Key,
    pub(crate) plan: BootPlan,
    pub(crate) mac: Mac,
}

impl Shared {
    pub(crate) fn new(config: BootConfig, world: BootWorld) -> Self {
        let http_url = config.url();
        Shared {
            dhcp: dhcp::Settings {
                server: config.vip,
                http_url: http_url.clone(),
                lease_seconds: u32::try_from(config.lease.as_secs()).unwrap_or(u32::MAX),
                boot_files: config.assets.names().cloned().collect(),
            },
            scripts: ScriptSettings {
                http_url,
                inspector_params: config.inspector_params.clone(),
                installer_params: config.installer_params.clone(),
                collectors: config.collectors.clone(),
            },
            config,
            world,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    fn changed(&self, key: &Key) {
        (self.world.hooks.changed)(key);
    }

    pub(crate) fn publish(&self, key: &Key, plan: BootPlan) -> Result<(), PlanError> {
        let mac: Mac = plan.mac.parse()?;
        let mut guard = self.state();
        let state = &mut *guard;
        if let Some(other) = state.by_mac.get(&mac).filter(|other| *other != key) {
            return Err(PlanError::MacTaken {
                mac,
                other: other.clone(),
            });
        }
        let address = plan.address.addr();
        if let Some((other, _)) = state
            .hosts
            .iter()
            .find(|(k, h)| *k != key && h.plan.address.addr() == address)
        {
            return Err(PlanError::AddressTaken {
                address,
                other: other.clone(),
            });
        }
        let published_at = self.now();
        match state.hosts.get_mut(key) {
            Some(host) if host.plan.operation == plan.operation => {
                if host.mac != mac {
                    state.by_mac.remove(&host.mac);
                    host.mac = mac;
                }
                host.plan = plan;
            }
            _ => {
                if let Some(old) = state.hosts.remove(key) {
                    state.by_mac.remove(&old.mac);
                }
                tracing::info!(host = %key, operation = plan.operation, %mac, "boot plan published");
                let boot = BootFacts {
                    published: Some(plan.operation.clone()),
                    ..BootFacts::default()
                };
                state.hosts.insert(
                    key.clone(),
                    Host {
                        plan,
                        mac,
                        published_at,
                        boot,
                        agent: Agent::default(),
                    },
                );
            }
        }
        state.by_mac.insert(mac, key.clone());
        state.strangers.forget(mac);
        Ok(())
    }

    pub(crate) fn retract(&self, key: &Key) {
        let mut state = self.state();
        if let Some(host) = state.hosts.remove(key) {
            state.by_mac.remove(&host.mac);
            tracing::info!(host = %key, operation = host.plan.operation, "boot plan retracted");
        }
    }

    pub(crate) fn boot_facts(&self, key: &Key) -> BootFacts {
        self.state()
            .hosts
            .get(key)
            .map(|host| host.boot.clone())
            .unwrap_or_default()
    }

    pub(crate) fn agent_facts(&self, key: &Key) -> Observed<AgentFacts> {
        let state = self.state();
        let Some(host) = state.hosts.get(key) else {
            return Observed::not_asked(self.now());
        };
        let agent = &host.agent;
        if let Some((since, why)) = agent.lost.clone() {
            return Observed::Unknown {
                since,
                why: Ignorance::Unreachable(why),
            };
        }
        let Some(at) = agent.seen_at else {
            return Observed::not_asked(host.published_at);
        };
        let value = AgentFacts {
            operation: host.plan.operation.clone(),
            heartbeat_at: agent.heartbeat_at,
            inventory: agent.found.as_ref().map(|found| found.hardware.clone()),
            devices: agent
                .found
                .as_ref()
                .map(|found| found.devices.clone())
                .unwrap_or_default(),
            inspection_error: agent.inspection_error.clone(),
            job: agent.job.clone(),
        };
        Observed::Known { value, at }
    }

    pub(crate) fn strangers(&self) -> Vec<Stranger> {
        self.state().strangers.list()
    }

    /// Works on a host under the lock.
    fn with<T>(&self, key: &Key, work: impl FnOnce(&mut Host) -> T) -> Option<T> {
        self.state().hosts.get_mut(key).map(work)
    }

    fn by_mac(&self, mac: Mac) -> Option<Subject> {
        let state = self.state();
        let key = state.by_mac.get(&mac)?;
        state.hosts.get(key).map(|host| Subject {
            key: key.clone(),
            plan: host.plan.clone(),
            mac,
        })
    }

    pub(crate) fn by_uuid(&self, uuid: &str) -> Option<Subject> {
        let state = self.state();
        let (key, host) = state.hosts.iter().find(|(_, host)| host.plan.node_uuid == uuid)?;
        Some(Subject {
            key: key.clone(),
            plan: host.plan.clone(),
            mac: host.mac,
        })
    }

    pub(crate) fn by_key(&self, key: &Key) -> Option<Subject> {
        let state = self.state();
        state.hosts.get(key).map(|host| Subject {
            key: key.clone(),
            plan: host.plan.clone(),
            mac: host.mac,
        })
    }

    /// The one host that has any of these MACs (Ironic: MACs of two hosts match none).
    pub(crate) fn by_macs(&self, macs: &[Mac]) -> Option<Subject> {
        let mut found: Option<Subject> = None;
        for subject in macs.iter().filter_map(|mac| self.by_mac(*mac)) {
            match &found {
                Some(first) if first.key != subject.key => return None,
                _ => found = Some(subject),
            }
        }
        found
    }

    /// Does a request come from the address that the host was given?
    pub(crate) fn is_source(&self, subject: &Subject, from: IpAddr) -> bool {
        !self.config.verify_source || from == IpAddr::V4(subject.plan.address.addr())
    }

    // ---- DHCP and boot script ----

    /// Answers a DHCP packet and notes what came of it.
    pub(crate) fn dhcp(&self, packet: &[u8]) -> Option<dhcp::Reply> {
        let now = self.now();
        let mut key = None;
        let outcome = dhcp::answer(&self.dhcp, packet, |mac| {
            let subject = self.by_mac(mac)?;
            key = Some(subject.key);
            Some(subject.plan)
        });
        match outcome {
            dhcp::Outcome::Reply(reply) => {
                let key = key?;
                tracing::debug!(host = %key, mac = %reply.mac, kind = ?reply.kind, to = %reply.to, "DHCP answered");
                if reply.kind != dhcp::MessageKind::Nak {
                    self.with(&key, |host| host.boot.leased_at = Some(now));
                    self.changed(&key);
                }
                Some(reply)
            }
            dhcp::Outcome::Dropped(dropped) => {
                self.dropped(dropped, key, now);
                None
            }
        }
    }

    fn dropped(&self, dropped: dhcp::Dropped, key: Option<Key>, now: Timestamp) {
        let dhcp::Dropped { mac, relay, why } = dropped;
        match (mac, key) {
            (_, Some(key)) if why != dhcp::Why::Released => {
                let mac = mac.map(|m| m.to_string()).unwrap_or_default();
                tracing::warn!(host = %key, mac, error = %why, "DHCP request dropped");
                self.with(&key, |host| {
                    host.boot.dropped = Some((now, format!("DHCP request of {mac} dropped: {why}")))
                });
                self.changed(&key);
            }
            (Some(mac), None) if why == dhcp::Why::NoPlan => {
                let told = self.state().strangers.saw(mac, relay, now);
                if let Some(stranger) = told {
                    tracing::info!(%mac, count = stranger.count, "DHCP request of an unknown MAC dropped");
                    (self.world.hooks.stranger)(&stranger);
                }
            }
            _ => tracing::debug!(mac = ?mac, error = %why, "DHCP packet ignored"),
        }
    }

    /// The boot script for a MAC. Fetching it is the start of a boot.
    pub(crate) fn script(&self, mac: Mac, from: IpAddr) -> String {
        let Some(subject) = self.by_mac(mac) else {
            tracing::debug!(%mac, "boot script asked for without a plan");
            return ipxe::NO_PLAN.to_owned();
        };
        let (now, honest) = (self.now(), self.is_source(&subject, from));
        self.with(&subject.key, |host| {
            host.boot.script_at = Some(now);
            // Somebody else on the wire must not make us hand out a second token.
            host.agent.rebooted |= honest;
        });
        tracing::info!(host = %subject.key, %mac, operation = subject.plan.operation, "boot script served");
        self.changed(&subject.key);
        ipxe::script(&self.scripts, &subject.key.name, mac, &subject.plan)
    }

    // ---- the agent ----

    /// What is known of the agent of the current plan, from memory or from the vault.
    pub(crate) async fn record(&self, key: &Key) -> Result<Option<AgentRecord>, VaultError> {
        let known = self.with(key, |host| {
            let agent = &host.agent;
            let known = if agent.saving { None } else { agent.record.clone() };
            (
                known,
                agent.vault_read || agent.saving,
                host.plan.operation.clone(),
            )
        });
        let operation = match known {
            None | Some((None, true, _)) => return Ok(None),
            Some((Some(record), ..)) => return Ok(Some(record)),
            Some((None, false, operation)) => operation,
        };
        let loaded = self
            .world
            .vault
            .load(key)
            .await?
            .filter(|record| record.operation == operation);
        Ok(self
            .with(key, |host| {
                if host.plan.operation != operation {
                    return None;
                }
                host.agent.vault_read = true;
                if host.agent.record.is_none() {
                    host.agent.record = loaded;
                }
                if host.agent.saving {
                    None
                } else {
                    host.agent.record.clone()
                }
            })
            .flatten())
    }

    /// Decides about a token: one per boot, written down before it is given away.
    pub(crate) async fn grant(&self, key: &Key) -> Result<Grant, VaultError> {
        self.record(key).await?;
        // 43 characters, as Ironic's tokens have; 36^43 is more than 2^222.
        let token = Secret::new(self.world.dice.token(43));
        let now = self.now();
        let decided = self.with(key, |host| {
            let agent = &mut host.agent;
            if agent.saving {
                return Err(Grant::Pending);
            }
            if agent.record.is_some() && !agent.rebooted {
                agent.seen_at = Some(now);
                return Err(Grant::Masked);
            }
            let record = AgentRecord {
                operation: host.plan.operation.clone(),
                token: token.clone(),
                callback_url: None,
                certificate: None,
                job: None,
            };
            *agent = Agent {
                record: Some(record.clone()),
                saving: true,
                vault_read: true,
                found: agent.found.take(),
                inspection_error: agent.inspection_error.take(),
                seen_at: agent.seen_at,
                ..Agent::default()
            };
            Ok(record)
        });
        let record = match decided {
            None => return Ok(Grant::Gone),
            Some(Err(grant)) => return Ok(grant),
            Some(Ok(record)) => record,
        };
        let saved = self.world.vault.save(key, record.clone()).await;
        self.with(key, |host| {
            if host.agent.record.as_ref() == Some(&record) {
                host.agent.saving = false;
                match &saved {
                    Ok(()) => host.agent.seen_at = Some(now),
                    Err(_) => {
                        host.agent.record = None;
                        host.agent.rebooted = true;
                    }
                }
            }
        });
        saved?;
        tracing::info!(host = %key, operation = record.operation, "agent token issued");
        self.changed(key);
        Ok(Grant::Token(token))
    }

    /// Writes a changed record down and then uses it.
    pub(crate) async fn update(&self, key: &Key, record: AgentRecord) -> Result<(), VaultError> {
        self.world.vault.save(key, record.clone()).await?;
        self.with(key, |host| {
            let agent = &mut host.agent;
            if let Some(old) = &agent.record
                && old.token == record.token
                && old.operation == record.operation
            {
                if old.callback_url != record.callback_url || old.certificate != record.certificate {
                    agent.client = None;
                }
                agent.record = Some(record);
            }
        });
        Ok(())
    }

    pub(crate) fn beat(&self, key: &Key) {
        let now = self.now();
        self.with(key, |host| {
            host.agent.heartbeat_at = Some(now);
            host.agent.seen_at = Some(now);
            host.agent.lost = None;
        });
        self.changed(key);
    }

    pub(crate) fn inspected(&self, key: &Key, found: Result<Found, String>) {
        let now = self.now();
        self.with(key, |host| {
            host.agent.seen_at = Some(now);
            match found {
                Ok(found) => {
                    host.agent.found = Some(found);
                    host.agent.inspection_error = None;
                }
                Err(error) => host.agent.inspection_error = Some(error),
            }
        });
        self.changed(key);
    }

    /// The agent answered our question about its job.
    pub(crate) fn job_seen(&self, key: &Key, job: Option<JobFacts>) {
        let now = self.now();
        let news = self.with(key, |host| {
            host.agent.seen_at = Some(now);
            let news = host.agent.lost.take().is_some() || host.agent.job != job;
            if let Some(job) = job.as_ref().filter(|_| news) {
                tracing::info!(host = %key, operation = job.operation, kind = job.kind, state = ?job.state, "agent job");
            }
            host.agent.job = job;
            news
        });
        if news == Some(true) {
            self.changed(key);
        }
    }

    pub(crate) fn lost(&self, key: &Key, why: String) {
        let now = self.now();
        let news = self.with(key, |host| {
            let news = host.agent.lost.is_none();
            let since = host.agent.lost.take().map_or(now, |(since, _)| since);
            host.agent.lost = Some((since, why));
            news
        });
        if news == Some(true) {
            self.changed(key);
        }
    }

    pub(crate) fn job(&self, key: &Key) -> Option<JobFacts> {
        self.with(key, |host| host.agent.job.clone()).flatten()
    }

    /// The connection to the agent; made by `make` if there is none.
    pub(crate) fn client<E>(
        &self,
        key: &Key,
        make: impl FnOnce() -> Result<HttpClient, E>,
    ) -> Result<Arc<HttpClient>, E> {
        if let Some(client) = self.with(key, |host| host.agent.client.clone()).flatten() {
            return Ok(client);
        }
        let client = Arc::new(make()?);
        self.with(key, |host| host.agent.client = Some(client.clone()));
        Ok(client)
    }
}

impl AgentRecord {
    pub(crate) fn with_job(&self, job: JobRecord) -> Self {
        AgentRecord {
            job: Some(job),
            ..self.clone()
        }
    }
}
