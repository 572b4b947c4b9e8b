//! Bootstrap tokens: cluster-info carries one detached JWS per signing token; expired tokens are deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use super::follow::Follower;
use super::system;
use crate::auth::tokens::BootstrapToken;
use crate::server::Inner;
use crate::store::{Key, Obj};

const PREFIX: &str = "jws-kubeconfig-";
/// The clock is not tokio's, so that an expiry is looked for at least this often while tokens have one.
const TICK: Duration = Duration::from_secs(1);

pub(super) async fn run(inner: &Arc<Inner>) {
    let mut secrets = Follower::new(inner, "/secrets");
    let mut maps = Follower::new(inner, "/configmaps");
    let mut tokens: BTreeMap<String, Obj> = BTreeMap::new();
    loop {
        for changed in secrets.changes(inner) {
            let object = changed.object;
            if object.namespace() != "kube-system" || !object.name().starts_with("bootstrap-token-") {
                continue;
            }
            if changed.deleted {
                tokens.remove(object.name())
            } else {
                tokens.insert(object.name().to_owned(), object)
            };
        }
        let now = inner.now();
        let parsed: Vec<(Key, BootstrapToken)> = tokens
            .values()
            .filter_map(|o| Some((o.key(), BootstrapToken::parse(&o.value)?)))
            .collect();
        for (key, _) in parsed.iter().filter(|(_, token)| token.is_expired(now)) {
            system::delete(inner, "/secrets", key, None);
        }
        let touched = maps
            .changes(inner)
            .iter()
            .any(|c| c.object.name() == "cluster-info");
        let living: Vec<&BootstrapToken> = parsed
            .iter()
            .map(|(_, token)| token)
            .filter(|t| t.signs && !t.is_expired(now))
            .collect();
        if touched || signatures_differ(inner, &living) {
            publish(inner, &living);
        }
        let expiring = parsed.iter().any(|(_, token)| token.expires.is_some());
        let news = async {
            tokio::select! {
                biased;
                () = secrets.wait() => {}
                () = maps.wait() => {}
            }
        };
        if expiring {
            // Both outcomes lead to another look.
            let _ = tokio::time::timeout(TICK, news).await;
        } else {
            news.await;
        }
    }
}

/// A JWS with its payload left out: `header..signature`, HS256 keyed by the token's secret.
pub(super) fn detached_jws(id: &str, secret: &str, payload: &str) -> Option<String> {
    let header = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{id}"}}"#));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(payload)).as_bytes());
    Some(format!(
        "{header}..{}",
        BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    ))
}

fn wanted(living: &[&BootstrapToken], kubeconfig: &str) -> BTreeMap<String, String> {
    let signed = living.iter().filter_map(|token| {
        Some((
            format!("{PREFIX}{}", token.id),
            detached_jws(&token.id, &token.secret, kubeconfig)?,
        ))
    });
    signed.collect()
}

fn present(data: &Value) -> BTreeMap<String, String> {
    let all = data.as_object().into_iter().flatten();
    all.filter(|(key, _)| key.starts_with(PREFIX))
        .map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned()))
        .collect()
}

fn signatures_differ(inner: &Inner, living: &[&BootstrapToken]) -> bool {
    let Some(info) = inner.store.get("/configmaps", "kube-public", "cluster-info") else {
        return false;
    };
    let data = &info.value["data"];
    wanted(living, data["kubeconfig"].as_str().unwrap_or_default()) != present(data)
}

fn publish(inner: &Inner, living: &[&BootstrapToken]) {
    system::update(
        inner,
        "/configmaps",
        &Key::new("kube-public", "cluster-info"),
        |value| {
            let kubeconfig = value["data"]["kubeconfig"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let wanted = wanted(living, &kubeconfig);
            if wanted == present(&value["data"]) {
                return false;
            }
            let Some(data) = value.pointer_mut("/data").and_then(Value::as_object_mut) else {
                return false;
            };
            data.retain(|key, _| !key.starts_with(PREFIX));
            data.extend(wanted.into_iter().map(|(key, jws)| (key, jws.into())));
            true
        },
    );
}
