//! What we know of the world right now, with its age. Nothing here is stored: after a restart all of it is
//! asked again.

use crate::{fabric::FabricSnapshot, key::Key};
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use steelyard_core::{
    Ignorance, Observed,
    claim::NetworkFacts,
    host::view::{BmcFacts, FabricFacts},
};

/// Shared by observers (who write) and reconcilers (who read).
#[derive(Clone)]
pub struct Facts(Arc<Mutex<Inner>>);

struct Inner {
    began: Timestamp,
    bmc: BTreeMap<Key, Observed<BmcFacts>>,
    fabric: Observed<Arc<FabricSnapshot>>,
    /// Per server: when the fabric accepted our last order. An older reading does not count.
    fabric_accepted: BTreeMap<String, Timestamp>,
    /// Per server: why the fabric did not take our last order.
    fabric_refused: BTreeMap<String, (Timestamp, String)>,
    /// Per network: why the fabric did not make it.
    networks_refused: BTreeMap<String, (Timestamp, String)>,
}

impl Facts {
    pub fn new(began: Timestamp) -> Self {
        Facts(Arc::new(Mutex::new(Inner {
            began,
            bmc: BTreeMap::new(),
            fabric: Observed::not_asked(began),
            fabric_accepted: BTreeMap::new(),
            fabric_refused: BTreeMap::new(),
            networks_refused: BTreeMap::new(),
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn bmc(&self, host: &Key) -> Observed<BmcFacts> {
        let inner = self.inner();
        inner.bmc.get(host).cloned().unwrap_or(Observed::not_asked(inner.began))
    }

    pub fn set_bmc(&self, host: &Key, fact: Observed<BmcFacts>) {
        self.inner().bmc.insert(host.clone(), fact);
    }

    pub fn forget(&self, host: &Key) {
        self.inner().bmc.remove(host);
    }

    /// What the fabric says of `server`.
    pub fn fabric(&self, server: &str) -> Observed<FabricFacts> {
        let inner = self.inner();
        if let Some((since, why)) = inner.fabric_refused.get(server) {
            return Observed::Unknown { since: *since, why: Ignorance::Unreachable(why.clone()) };
        }
        match &inner.fabric {
            Observed::Unknown { since, why } => Observed::Unknown { since: *since, why: why.clone() },
            Observed::Known { at, .. } if inner.fabric_accepted.get(server).is_some_and(|accepted| accepted > at) => {
                Observed::not_asked(*at)
            }
            Observed::Known { value, at } => match value.servers.get(server) {
                Some(facts) => Observed::Known { value: facts.clone(), at: *at },
                None => Observed::Known {
                    value: FabricFacts {
                        converged: true,
                        mismatch: Some(format!("the fabric's inventory has no server {server:?}: its name must be the BareMetalHost's")),
                        ..FabricFacts::default()
                    },
                    at: *at,
                },
            },
        }
    }

    /// What the fabric says of a network: its gateway. A network that is not there has not been asked for.
    pub fn network(&self, name: &str) -> Observed<NetworkFacts> {
        let inner = self.inner();
        if let Some((since, why)) = inner.networks_refused.get(name) {
            return Observed::Unknown { since: *since, why: Ignorance::Unreachable(why.clone()) };
        }
        match &inner.fabric {
            Observed::Unknown { since, why } => Observed::Unknown { since: *since, why: why.clone() },
            Observed::Known { value, at } => match value.networks.get(name) {
                Some(gateway) => Observed::Known { value: NetworkFacts { name: name.to_owned(), gateway: *gateway }, at: *at },
                None => Observed::not_asked(*at),
            },
        }
    }

    /// The fabric did (`None`) or did not make a network.
    pub fn network_made(&self, name: &str, at: Timestamp, refused: Option<String>) {
        let mut inner = self.inner();
        match refused {
            None => inner.networks_refused.remove(name),
            Some(why) => inner.networks_refused.insert(name.to_owned(), (at, why)),
        };
    }

    /// Takes a reading; returns the servers of which it says something new.
    pub fn set_fabric(&self, fact: Observed<Arc<FabricSnapshot>>) -> Vec<String> {
        let mut inner = self.inner();
        let changed = match (&inner.fabric, &fact) {
            (Observed::Known { value: old, at }, Observed::Known { value: new, .. }) => {
                let awaited = |s: &str| inner.fabric_accepted.get(s).is_some_and(|accepted| accepted > at);
                new.servers
                    .iter()
                    .filter(|(name, facts)| awaited(name) || old.servers.get(*name) != Some(facts))
                    .map(|(name, _)| name.clone())
                    .collect()
            }
            (_, Observed::Known { value: new, .. }) => new.servers.keys().cloned().collect(),
            (Observed::Known { value: old, .. }, Observed::Unknown { .. }) => old.servers.keys().cloned().collect(),
            _ => Vec::new(),
        };
        inner.fabric = fact;
        changed
    }

    pub fn fabric_accepted(&self, server: &str, at: Timestamp) {
        let mut inner = self.inner();
        inner.fabric_refused.remove(server);
        inner.fabric_accepted.insert(server.to_owned(), at);
    }

    pub fn fabric_refused(&self, server: &str, at: Timestamp, why: String) {
        self.inner().fabric_refused.insert(server.to_owned(), (at, why));
    }
}
