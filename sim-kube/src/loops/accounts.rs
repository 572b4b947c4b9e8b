//! Every active namespace has a ServiceAccount `default` and the CA in a ConfigMap.

use std::sync::Arc;

use serde_json::json;

use super::follow::Follower;
use crate::seed;
use crate::server::Inner;

pub(super) async fn run(inner: &Arc<Inner>) {
    let mut namespaces = Follower::new(inner, "/namespaces");
    let mut accounts = Follower::new(inner, "/serviceaccounts");
    let mut maps = Follower::new(inner, "/configmaps");
    loop {
        let mut touched: Vec<String> = namespaces
            .changes(inner)
            .into_iter()
            .map(|c| c.object.name().to_owned())
            .collect();
        let deleted = accounts
            .changes(inner)
            .into_iter()
            .chain(maps.changes(inner))
            .filter(|c| c.deleted);
        touched.extend(deleted.map(|c| c.object.namespace().to_owned()));
        touched.sort();
        touched.dedup();
        for namespace in touched {
            ensure(inner, &namespace);
        }
        tokio::select! {
            biased;
            () = namespaces.wait() => {}
            () = accounts.wait() => {}
            () = maps.wait() => {}
        }
    }
}

fn ensure(inner: &Inner, namespace: &str) {
    if inner
        .store
        .get("/namespaces", "", namespace)
        .is_none_or(|n| n.is_deleting())
    {
        return;
    }
    if inner
        .store
        .get("/serviceaccounts", namespace, "default")
        .is_none()
    {
        let account = json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "default", "namespace": namespace}});
        seed::put(inner, "/serviceaccounts", account);
    }
    if inner
        .store
        .get("/configmaps", namespace, "kube-root-ca.crt")
        .is_none()
    {
        let about = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as \
            the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of \
            Kubernetes clusters.";
        let map = json!({
            "kind": "ConfigMap", "apiVersion": "v1",
            "metadata": {"name": "kube-root-ca.crt", "namespace": namespace, "annotations": {"kubernetes.io/description": about}},
            "data": {"ca.crt": inner.pki.ca_pem()},
        });
        seed::put(inner, "/configmaps", map);
    }
}
