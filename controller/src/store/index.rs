//! The caches of all kinds that we decide on, and who is concerned when one of their objects changes.

use super::cache::Cache;
use crate::{
    key::Key,
    queue::{Queue, Work},
};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt, runtime::watcher};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use steelyard_api::{
    loft::{
        MachineConfigTemplate, NodeClaim, NodeEnvironment, NodeProvider, NodeType, OSImage, SSHKey,
        VirtualClusterInstance,
    },
    metal3::{BareMetalHost, HardwareData, ProvisioningState},
    names,
};

/// What a provider offers is counted over all its hosts, so a burst of changes is counted once.
const COUNT_AFTER: Duration = Duration::from_millis(100);

/// A claim without a host looks at all of them, so a burst of changes is looked at once.
const CHOOSE_AFTER: Duration = Duration::from_millis(20);

pub struct Store {
    pub client: Client,
    pub queue: Queue,
    pub hosts: Arc<Cache<BareMetalHost>>,
    pub hardware: Arc<Cache<HardwareData>>,
    pub providers: Arc<Cache<NodeProvider>>,
    pub types: Arc<Cache<NodeType>>,
    pub claims: Arc<Cache<NodeClaim>>,
    pub environments: Arc<Cache<NodeEnvironment>>,
    pub images: Arc<Cache<OSImage>>,
    pub ssh_keys: Arc<Cache<SSHKey>>,
    pub templates: Arc<Cache<MachineConfigTemplate>>,
    pub tenants: Arc<Cache<VirtualClusterInstance>>,
    /// Secrets with Metal3's label: those that hosts refer to.
    pub secrets: Arc<Cache<Secret>>,
    index: Mutex<Index>,
}

/// Who refers to whom, kept in step with the caches, so that a change costs what it concerns. Each entry is
/// made from what the cache holds then, never from what a caller holds: two changes may be told in either order.
#[derive(Default)]
struct Index {
    hosts: BTreeMap<Key, HostLinks>,
    hosts_by_secret: BTreeMap<Key, BTreeSet<Key>>,
    host_of_claim: BTreeMap<Key, Key>,
    /// Every address that a host has: the annotated one (of its tenant, while it has one) and the recorded one.
    addresses: BTreeMap<Key, BTreeSet<Ipv4Addr>>,
    /// Addresses given to hosts whose status does not say so yet.
    reserved: BTreeMap<Key, Ipv4Addr>,
    /// Hosts that boot the agent or write disks now.
    busy: BTreeSet<Key>,
    /// The tenant that each claim wants to join, if any.
    claims: BTreeMap<Key, Option<Key>>,
    claims_of_tenant: BTreeMap<Key, BTreeSet<Key>>,
    /// Claims that have no host yet.
    waiting: BTreeSet<Key>,
}

/// What a host is in the index for.
#[derive(Default)]
struct HostLinks {
    secret: Option<Key>,
    claim: Option<Key>,
}

impl Index {
    fn allocate(&mut self, host: &Key, mut candidates: impl Iterator<Item = Ipv4Addr>) -> Option<Ipv4Addr> {
        if let Some(given) = self.reserved.get(host) {
            return Some(*given);
        }
        let mut taken: BTreeSet<Ipv4Addr> = self.reserved.values().copied().collect();
        taken.extend(
            self.addresses
                .iter()
                .filter(|(k, _)| *k != host)
                .flat_map(|(_, all)| all),
        );
        let free = candidates.find(|a| !taken.contains(a))?;
        self.reserved.insert(host.clone(), free);
        Some(free)
    }

    fn set_host(&mut self, key: &Key, host: Option<&BareMetalHost>) {
        let links = host.map(|h| HostLinks {
            secret: secret_of(h),
            claim: claim_of(h),
        });
        let before = match links {
            Some(links) => self.hosts.insert(key.clone(), links),
            None => self.hosts.remove(key),
        }
        .unwrap_or_default();
        if let Some(secret) = before.secret {
            take_out(&mut self.hosts_by_secret, &secret, key);
        }
        if let Some(claim) = before.claim
            && self.host_of_claim.get(&claim) == Some(key)
        {
            self.host_of_claim.remove(&claim);
        }
        self.addresses.remove(key);
        self.busy.remove(key);
        let Some(host) = host else {
            self.reserved.remove(key);
            return;
        };
        if let Some(secret) = secret_of(host) {
            self.hosts_by_secret
                .entry(secret)
                .or_default()
                .insert(key.clone());
        }
        if let Some(claim) = claim_of(host) {
            self.host_of_claim.insert(claim, key.clone());
        }
        self.addresses.insert(key.clone(), addresses_of(host));
        if is_busy(host) {
            self.busy.insert(key.clone());
        }
    }

    fn set_claim(&mut self, key: &Key, claim: Option<&NodeClaim>) {
        let before = match claim {
            Some(claim) => self.claims.insert(key.clone(), tenant_of(claim)),
            None => self.claims.remove(key),
        };
        if let Some(tenant) = before.flatten() {
            take_out(&mut self.claims_of_tenant, &tenant, key);
        }
        self.waiting.remove(key);
        let Some(claim) = claim else { return };
        if let Some(tenant) = tenant_of(claim) {
            self.claims_of_tenant
                .entry(tenant)
                .or_default()
                .insert(key.clone());
        }
        if claim.status.as_ref().is_none_or(|s| s.bare_metal_host.is_none()) {
            self.waiting.insert(key.clone());
        }
    }
}

fn take_out(sets: &mut BTreeMap<Key, BTreeSet<Key>>, of: &Key, member: &Key) {
    if let Some(set) = sets.get_mut(of) {
        set.remove(member);
        if set.is_empty() {
            sets.remove(of);
        }
    }
}

impl Store {
    pub fn new(client: Client, queue: Queue) -> Arc<Self> {
        Arc::new(Store {
            client,
            queue,
            hosts: Arc::default(),
            hardware: Arc::default(),
            providers: Arc::default(),
            types: Arc::default(),
            claims: Arc::default(),
            environments: Arc::default(),
            images: Arc::default(),
            ssh_keys: Arc::default(),
            templates: Arc::default(),
            tenants: Arc::default(),
            secrets: Arc::default(),
            index: Mutex::default(),
        })
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches everything; never returns.
    pub async fn run(self: Arc<Self>) {
        let c = || self.client.clone();
        let every = watcher::Config::default;
        let labelled = every().labels(&format!(
            "{}={}",
            names::label::ENVIRONMENT,
            names::label::ENVIRONMENT_BAREMETAL
        ));
        let s = &self;
        tokio::join!(
            s.hosts
                .clone()
                .run(Api::all(c()), every(), |k, old, new| s.host_changed(k, old, new)),
            s.hardware.clone().run(Api::all(c()), every(), |k, _, _| s
                .queue
                .wake(Work::Host(k.clone()))),
            s.secrets
                .clone()
                .run(Api::all(c()), labelled, |k, _, _| s.secret_changed(k)),
            s.claims
                .clone()
                .run(Api::all(c()), every(), |k, old, new| s.claim_changed(k, old, new)),
            s.providers.clone().run(Api::all(c()), every(), |k, _, _| {
                s.queue.wake(Work::Provider(k.clone()));
            }),
            s.types
                .clone()
                .run(Api::all(c()), every(), |_, old, new| s.type_changed(old, new)),
            s.tenants
                .clone()
                .run(Api::all(c()), every(), |k, _, _| s.tenant_changed(k)),
            s.environments
                .clone()
                .run(Api::all(c()), every(), |_, _, _| s.wake_claims()),
            s.images
                .clone()
                .run(Api::all(c()), every(), |_, _, _| s.wake_claims()),
            s.ssh_keys
                .clone()
                .run(Api::all(c()), every(), |_, _, _| s.wake_claims()),
            s.templates
                .clone()
                .run(Api::all(c()), every(), |_, _, _| s.wake_claims()),
        );
    }

    pub async fn wait_synced(&self) {
        tokio::join!(
            self.hosts.wait_synced(),
            self.hardware.wait_synced(),
            self.secrets.wait_synced(),
            self.claims.wait_synced(),
            self.providers.wait_synced(),
            self.types.wait_synced(),
            self.tenants.wait_synced(),
            self.environments.wait_synced(),
            self.images.wait_synced(),
            self.ssh_keys.wait_synced(),
            self.templates.wait_synced(),
        );
    }

    /// The host that a claim holds, as the hosts say.
    pub fn host_of_claim(&self, claim: &Key) -> Option<Key> {
        self.index().host_of_claim.get(claim).cloned()
    }

    /// Claims that want to join this tenant.
    pub fn claims_of_tenant(&self, tenant: &Key) -> Vec<Arc<NodeClaim>> {
        let keys: Vec<Key> = self
            .index()
            .claims_of_tenant
            .get(tenant)
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        keys.iter().filter_map(|k| self.claims.get(k)).collect()
    }

    /// Hosts, other than this one, that boot the agent or write disks now.
    pub fn busy_others(&self, host: &Key) -> usize {
        let index = self.index();
        index.busy.len() - usize::from(index.busy.contains(host))
    }

    /// The address that a host was given, or else the first of these that no other host has, which is its own from
    /// now on. One step, so that two decisions made at one time don't choose the same.
    pub fn allocate(&self, host: &Key, candidates: impl Iterator<Item = Ipv4Addr>) -> Option<Ipv4Addr> {
        self.index().allocate(host, candidates)
    }

    /// Claims without a host look again.
    pub fn wake_waiting(&self) {
        let waiting: Vec<Key> = self.index().waiting.iter().cloned().collect();
        for claim in waiting {
            self.queue.wake_after(Work::Claim(claim), CHOOSE_AFTER);
        }
    }

    /// Something changed that any claim may use: an image, a key, a template, an environment. They change rarely.
    fn wake_claims(&self) {
        let claims: Vec<Key> = self.index().claims.keys().cloned().collect();
        for claim in claims {
            self.queue.wake_after(Work::Claim(claim), CHOOSE_AFTER);
        }
    }

    /// A host was seen, or was saved by us.
    pub fn host_changed(&self, key: &Key, old: Option<&BareMetalHost>, new: Option<&BareMetalHost>) {
        self.index().set_host(key, self.hosts.get(key).as_deref());
        self.queue.wake(Work::Host(key.clone()));
        for claim in [old, new]
            .into_iter()
            .flatten()
            .filter_map(claim_of)
            .collect::<BTreeSet<_>>()
        {
            self.queue.wake(Work::Claim(claim));
        }
        for provider in self.providers.list() {
            self.queue
                .wake_after(Work::Provider(Key::of(&*provider)), COUNT_AFTER);
        }
        // A host that has become free may be what a claim waits for.
        let state =
            |h: Option<&BareMetalHost>| h.and_then(|h| h.status.as_ref()).map(|s| s.provisioning.state);
        if state(old) != state(new) || old.is_some_and(|o| claim_of(o).is_some()) {
            self.wake_waiting();
        }
    }

    fn secret_changed(&self, key: &Key) {
        let hosts: Vec<Key> = self
            .index()
            .hosts_by_secret
            .get(key)
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        for host in hosts {
            self.queue.wake(Work::Host(host));
        }
    }

    pub fn claim_changed(&self, key: &Key, old: Option<&NodeClaim>, new: Option<&NodeClaim>) {
        let host = {
            let mut index = self.index();
            index.set_claim(key, self.claims.get(key).as_deref());
            index.host_of_claim.get(key).cloned()
        };
        self.queue.wake(Work::Claim(key.clone()));
        if let Some(host) = host {
            self.queue.wake(Work::Host(host));
        }
        for tenant in [old, new]
            .into_iter()
            .flatten()
            .filter_map(tenant_of)
            .collect::<BTreeSet<_>>()
        {
            self.queue.wake(Work::Tenant(tenant));
        }
        for provider in self.providers.list() {
            self.queue
                .wake_after(Work::Provider(Key::of(&*provider)), COUNT_AFTER);
        }
    }

    pub fn type_changed(&self, old: Option<&NodeType>, new: Option<&NodeType>) {
        for provider in [old, new]
            .into_iter()
            .flatten()
            .filter_map(|t| t.spec.provider_ref.clone())
            .collect::<BTreeSet<_>>()
        {
            self.queue
                .wake_after(Work::Provider(Key::new("", provider)), COUNT_AFTER);
        }
        // Only what makes a type fit or not; its counts change with every host.
        if old.map(|t| &t.spec) != new.map(|t| &t.spec) {
            self.wake_waiting();
        }
    }

    pub fn tenant_changed(&self, key: &Key) {
        self.queue.wake(Work::Tenant(key.clone()));
        for claim in self.claims_of_tenant(key) {
            self.queue.wake(Work::Claim(Key::of(&*claim)));
        }
    }
}

/// The Secret that a host's BMC details name.
pub fn secret_of(host: &BareMetalHost) -> Option<Key> {
    let bmc = host.spec.bmc.as_ref()?;
    (!bmc.credentials_name.is_empty())
        .then(|| Key::new(host.namespace().unwrap_or_default(), bmc.credentials_name.clone()))
}

/// The claim that holds a host: its consumer, if that is a NodeClaim.
pub fn claim_of(host: &BareMetalHost) -> Option<Key> {
    let consumer = host.spec.consumer_ref.as_ref()?;
    (consumer.kind.as_deref() == Some(NodeClaim::KIND)).then(|| {
        Key::new(
            consumer.namespace.clone().unwrap_or_default(),
            consumer.name.clone().unwrap_or_default(),
        )
    })
}

fn tenant_of(claim: &NodeClaim) -> Option<Key> {
    let tenant = claim.spec.vcluster_ref.clone()?;
    Some(Key::new(claim.namespace().unwrap_or_default(), tenant))
}

fn addresses_of(host: &BareMetalHost) -> BTreeSet<Ipv4Addr> {
    let annotated = host.annotations().get(names::annotation::IP_ADDRESS);
    let recorded = host
        .status
        .as_ref()
        .and_then(|s| s.steelyard.as_ref()?.address.as_ref());
    let parsed = [annotated, recorded]
        .into_iter()
        .flatten()
        .filter_map(|a| a.parse::<Ipv4Net>().ok());
    parsed.map(|net| net.addr()).collect()
}

fn is_busy(host: &BareMetalHost) -> bool {
    let state = host.status.as_ref().map(|s| s.provisioning.state);
    matches!(
        state,
        Some(
            ProvisioningState::Inspecting
                | ProvisioningState::Provisioning
                | ProvisioningState::Deprovisioning
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use steelyard_api::metal3::{BareMetalHostStatus, SteelyardStatus};

    fn host(name: &str, annotated: Option<&str>, recorded: Option<&str>) -> (Key, BareMetalHost) {
        let mut host = BareMetalHost::new(name, Default::default()).within("ns");
        if let Some(address) = annotated {
            host.annotations_mut()
                .insert(names::annotation::IP_ADDRESS.into(), address.into());
        }
        let steelyard = SteelyardStatus {
            address: recorded.map(str::to_owned),
            ..Default::default()
        };
        host.status = Some(BareMetalHostStatus {
            steelyard: Some(steelyard),
            ..Default::default()
        });
        (Key::of(&host), host)
    }

    #[test]
    fn no_boot_address_is_given_twice() {
        let pool = || (10..13).map(|n| Ipv4Addr::new(192, 168, 100, n));
        let mut index = Index::default();
        // While a tenant has it, the annotation is the tenant's; its boot address is its own all the same.
        let (a, claimed) = host("a", Some("10.100.0.2/24"), Some("192.168.100.10/24"));
        index.set_host(&a, Some(&claimed));
        let (b, fresh) = host("b", None, None);
        index.set_host(&b, Some(&fresh));
        assert_eq!(index.allocate(&b, pool()), Some(Ipv4Addr::new(192, 168, 100, 11)));
        // Saved, but without the address yet: the promise holds.
        index.set_host(&b, Some(&fresh));
        let (c, another) = host("c", None, None);
        index.set_host(&c, Some(&another));
        assert_eq!(index.allocate(&c, pool()), Some(Ipv4Addr::new(192, 168, 100, 12)));
        assert_eq!(index.allocate(&b, pool()), Some(Ipv4Addr::new(192, 168, 100, 11)));
        let (d, _) = host("d", None, None);
        assert_eq!(index.allocate(&d, pool()), None);
        index.set_host(&b, None);
        assert_eq!(index.allocate(&d, pool()), Some(Ipv4Addr::new(192, 168, 100, 11)));
    }
}
