//! When a lab is ready: the Kubernetes API answers, every BMC's service root and the fabric's API answer over
//! TLS, and somebody leads.

use crate::{
    lab::{ControllerMode, Lab},
    plan::BMC_PORT,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use http::Request;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use std::{sync::Arc, time::Duration};
use steelyard_controller::{http_client::HttpClient, tls};

/// BMCs asked at one time.
const AT_ONCE: usize = 32;
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    #[error("the Kubernetes API does not answer: {0}")]
    Kubernetes(kube::Error),
    #[error("{what} does not answer: {why}")]
    Silent { what: String, why: String },
    #[error("no controller has taken the lease steelyard-system/steelyard-controller within {} s; see its log", PATIENCE.as_secs())]
    Leaderless,
}

pub(crate) async fn wait(lab: &Lab) -> Result<(), NotReady> {
    lab.admin
        .apiserver_version()
        .await
        .map_err(NotReady::Kubernetes)?;
    let trust = tls::trust_ca(&lab.bmc_ca, "the lab's CA").map_err(|e| NotReady::Silent {
        what: "the lab's CA".into(),
        why: e.to_string(),
    })?;
    let get = |url: String| {
        let client = HttpClient::new(lab.oob.clone(), Arc::clone(&trust), PATIENCE);
        async move {
            let silent = |why: String| NotReady::Silent {
                what: url.clone(),
                why,
            };
            let request = Request::get(&url)
                .body(Bytes::new())
                .map_err(|e| silent(e.to_string()))?;
            let answer = client.send(request).await.map_err(|e| silent(e.to_string()))?;
            // 401 is an answer too: the fabric's API wants a session first.
            match answer.status().as_u16() {
                200 | 401 => Ok(()),
                other => Err(silent(format!("status {other}"))),
            }
        }
    };
    let mut urls: Vec<String> = lab
        .rack
        .servers
        .iter()
        .map(|s| format!("https://{}:{BMC_PORT}/redfish/v1", s.bmc_address.ip()))
        .collect();
    urls.push(format!("{}/api/auth", lab.fabric_url));
    stream::iter(urls)
        .map(get)
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    match lab.config.controller {
        ControllerMode::Inside => leader(lab).await,
        // Theirs to start.
        ControllerMode::Process | ControllerMode::None => Ok(()),
    }
}

async fn leader(lab: &Lab) -> Result<(), NotReady> {
    let leases: Api<Lease> = Api::namespaced(lab.admin.clone(), "steelyard-system");
    let held = |lease: Option<&Lease>| {
        lease
            .and_then(|l| l.spec.as_ref())
            .and_then(|s| s.holder_identity.as_ref())
            .is_some_and(|h| !h.is_empty())
    };
    let wait = kube::runtime::wait::await_condition(leases, "steelyard-controller", held);
    tokio::time::timeout(PATIENCE, wait)
        .await
        .map_err(|_| NotReady::Leaderless)?
        .map_err(|e| NotReady::Silent {
            what: "the Kubernetes API".into(),
            why: e.to_string(),
        })?;
    Ok(())
}
