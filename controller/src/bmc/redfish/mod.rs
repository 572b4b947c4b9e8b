//! The Redfish driver. One client per BMC; it keeps its session, the system's path and what does not change.
//!
//! Steady state costs one GET per look. Everything read is checked for shape and bounded in number; bodies are
//! bounded by the HTTP client.

mod boot;
mod conversation;
mod document;
mod power;
mod system;
#[cfg(test)]
mod tests;

use super::{BmcAddress, BmcError, Credentials, NetworkBoot, Protocol};
use crate::{http_client::HttpClient, net::Net};
use conversation::Conversation;
use rustls::ClientConfig;
use std::{sync::Arc, time::Duration};
use steelyard_core::{
    host::view::BmcFacts,
    intent::{BmcIntent, BootDevice},
};
use system::System;
use tokio::sync::Mutex;

/// A client of one BMC.
pub struct RedfishBmc {
    address: BmcAddress,
    /// Held for a whole conversation: a BMC is asked one thing at a time.
    inner: Mutex<Inner>,
}

struct Inner {
    conversation: Conversation,
    system: System,
}

impl RedfishBmc {
    /// `trust`: whose certificates are believed. `timeout`: for each answer.
    pub fn new(
        net: Arc<dyn Net>,
        address: BmcAddress,
        credentials: Credentials,
        trust: Arc<ClientConfig>,
        timeout: Duration,
    ) -> RedfishBmc {
        let http = HttpClient::new(net, trust, timeout);
        let conversation = Conversation::new(http, &address, credentials);
        let system = System::new(address.system.clone());
        RedfishBmc {
            address,
            inner: Mutex::new(Inner { conversation, system }),
        }
    }

    /// Power, boot override, identity and NICs.
    pub async fn observe(&self) -> Result<BmcFacts, BmcError> {
        self.network_boot()?;
        let mut inner = self.inner.lock().await;
        let Inner { conversation, system } = &mut *inner;
        system.observe(conversation).await
    }

    /// Returns when the BMC has accepted; [`RedfishBmc::observe`] tells when it is true.
    pub async fn ensure(&self, want: &BmcIntent) -> Result<(), BmcError> {
        let network_boot = self.network_boot()?;
        let mut inner = self.inner.lock().await;
        let Inner { conversation, system } = &mut *inner;
        match want {
            BmcIntent::PowerOn => power::ensure(conversation, system, power::Wish::On).await,
            BmcIntent::ForceOff => power::ensure(conversation, system, power::Wish::Off).await,
            BmcIntent::SoftOff => power::ensure(conversation, system, power::Wish::SoftOff).await,
            BmcIntent::BootFrom(BootDevice::NetworkOnce) => {
                boot::network_once(conversation, system, network_boot).await
            }
            BmcIntent::BootFrom(BootDevice::Disk) => boot::disk(conversation, system).await,
        }
    }

    /// Ends the session, so that it does not count against the BMC's limit until it times out.
    pub async fn close(&self) {
        self.inner.lock().await.conversation.close().await;
    }

    fn network_boot(&self) -> Result<NetworkBoot, BmcError> {
        let unsupported = |what: &str| {
            Err(BmcError::Unsupported {
                what: what.to_owned(),
            })
        };
        match self.address.protocol {
            Protocol::Redfish(boot) => Ok(boot),
            Protocol::RedfishVirtualMedia => unsupported(
                "virtual media is not supported yet: use redfish://, which boots over the network",
            ),
            Protocol::Ipmi => unsupported("IPMI is not supported yet: use the BMC's Redfish with redfish://"),
        }
    }
}
