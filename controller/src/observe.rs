//! What we know of the world right now, with its age. Nothing here is stored: after a restart all of it is
//! asked again.

use crate::{fabric::FabricSnapshot, key::Key};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use steelyard_core::{
    Ignorance, Observed,
    claim::NetworkFacts,
    host::view::{BmcFacts, FabricFacts},
};

/// How long a refused order rests before it is given again.
pub const REFUSAL_STANDS: SignedDuration = SignedDuration::from_secs(2);

/// Of what a reading of the fabric says something new.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FabricNews {
    /// The fabric can be read again, or can't be any more: that concerns everybody.
    pub all: bool,
    pub servers: Vec<String>,
    /// A network came, went or changed its gateway.
    pub networks: bool,
}

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
        inner
            .bmc
            .get(host)
            .cloned()
            .unwrap_or(Observed::not_asked(inner.began))
    }

    pub fn set_bmc(&self, host: &Key, fact: Observed<BmcFacts>) {
        self.inner().bmc.insert(host.clone(), fact);
    }

    /// The host is no more.
    pub fn forget(&self, host: &Key) {
        let mut inner = self.inner();
        inner.bmc.remove(host);
        inner.fabric_accepted.remove(&host.name);
        inner.fabric_refused.remove(&host.name);
    }

    /// What the fabric says of `server`.
    pub fn fabric(&self, server: &str) -> Observed<FabricFacts> {
        let inner = self.inner();
        if let Some((since, why)) = inner.fabric_refused.get(server) {
            return Observed::Unknown {
                since: *since,
                why: Ignorance::Unreachable(why.clone()),
            };
        }
        match &inner.fabric {
            Observed::Unknown { since, why } => Observed::Unknown {
                since: *since,
                why: why.clone(),
            },
            Observed::Known { at, .. }
                if inner
                    .fabric_accepted
                    .get(server)
                    .is_some_and(|accepted| accepted > at) =>
            {
                Observed::not_asked(*at)
            }
            Observed::Known { value, at } => match value.servers.get(server) {
                Some(facts) => Observed::Known {
                    value: facts.clone(),
                    at: *at,
                },
                None => Observed::Known {
                    value: FabricFacts {
                        converged: true,
                        mismatch: Some(format!(
                            "the fabric's inventory has no server {server:?}: its name must be the BareMetalHost's"
                        )),
                        ..FabricFacts::default()
                    },
                    at: *at,
                },
            },
        }
    }

    /// Nothing is awaited of `server`: its ports are where the management says.
    pub fn fabric_settled(&self, server: &str) -> bool {
        self.fabric(server)
            .known()
            .is_some_and(|facts| facts.converged && facts.mismatch.is_none())
    }

    /// What the fabric says of a network: its gateway. A network that is not there has not been asked for.
    pub fn network(&self, name: &str) -> Observed<NetworkFacts> {
        let inner = self.inner();
        if let Observed::Known { value, at } = &inner.fabric
            && let Some(gateway) = value.networks.get(name)
        {
            return Observed::Known {
                value: NetworkFacts {
                    name: name.to_owned(),
                    gateway: *gateway,
                },
                at: *at,
            };
        }
        if let Some((since, why)) = inner.networks_refused.get(name) {
            return Observed::Unknown {
                since: *since,
                why: Ignorance::Unreachable(why.clone()),
            };
        }
        match &inner.fabric {
            Observed::Unknown { since, why } => Observed::Unknown {
                since: *since,
                why: why.clone(),
            },
            Observed::Known { at, .. } => Observed::not_asked(*at),
        }
    }

    /// The fabric did (`None`) or did not make a network. True: it was not known that it would not.
    pub fn network_made(&self, name: &str, at: Timestamp, refused: Option<String>) -> bool {
        let mut inner = self.inner();
        match refused {
            None => {
                inner.networks_refused.remove(name);
                false
            }
            Some(why) => {
                let before = inner.networks_refused.insert(name.to_owned(), (at, why.clone()));
                before.is_none_or(|(_, known)| known != why)
            }
        }
    }

    /// Some order was not taken, and that still stands.
    pub fn fabric_refuses(&self) -> bool {
        !self.inner().fabric_refused.is_empty()
    }

    /// The fabric did not make this network a moment ago.
    pub fn network_rests(&self, name: &str, now: Timestamp) -> bool {
        self.inner()
            .networks_refused
            .get(name)
            .is_some_and(|(since, _)| now.duration_since(*since) < REFUSAL_STANDS)
    }

    /// Takes a reading that was begun at its `at`.
    pub fn set_fabric(&self, fact: Observed<Arc<FabricSnapshot>>) -> FabricNews {
        let mut inner = self.inner();
        let mut news = FabricNews::default();
        match (&inner.fabric, &fact) {
            (Observed::Known { value: old, at }, Observed::Known { value: new, .. }) => {
                let awaited = |s: &str| inner.fabric_accepted.get(s).is_some_and(|accepted| accepted > at);
                news.networks = old.networks != new.networks;
                news.servers = new
                    .servers
                    .iter()
                    .filter(|(name, facts)| awaited(name) || old.servers.get(*name) != Some(facts))
                    .map(|(name, _)| name)
                    .chain(old.servers.keys().filter(|name| !new.servers.contains_key(*name)))
                    .cloned()
                    .collect();
            }
            (Observed::Unknown { .. }, Observed::Unknown { .. }) => {}
            _ => (news.all, news.networks) = (true, true),
        }
        // A refusal would otherwise stand for ever: nobody gives an order while the answer to the last one is unknown.
        if let Observed::Known { at, .. } = &fact {
            let over = |since: &Timestamp| at.duration_since(*since) >= REFUSAL_STANDS;
            news.servers.extend(
                inner
                    .fabric_refused
                    .iter()
                    .filter(|(_, (since, _))| over(since))
                    .map(|(s, _)| s.clone()),
            );
            inner.fabric_refused.retain(|_, (since, _)| !over(since));
        }
        inner.fabric = fact;
        news
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

#[cfg(test)]
mod tests;
