//! ClusterRole aggregation: roles with an aggregationRule hold the rules of those that its selectors match.

use std::sync::Arc;

use serde_json::Value;

use super::follow::Follower;
use super::system;
use crate::selector::Labels;
use crate::server::Inner;

const STORAGE: &str = "rbac.authorization.k8s.io/clusterroles";

pub(super) async fn run(inner: &Arc<Inner>) {
    let mut follower = Follower::new(inner, STORAGE);
    loop {
        let changed = follower.changes(inner);
        // Cluster roles change rarely; their labels decide, so all are looked at.
        if !changed.is_empty() {
            aggregate(inner);
        }
        follower.wait().await;
    }
}

fn aggregate(inner: &Inner) {
    let roles = inner.store.list(STORAGE, "").objects;
    for role in &roles {
        let Some(selectors) = role.value["aggregationRule"]["clusterRoleSelectors"].as_array() else {
            continue;
        };
        let selectors: Vec<Labels> = selectors.iter().map(Labels::from_value).collect();
        let mut rules: Vec<Value> = Vec::new();
        let sources = roles
            .iter()
            .filter(|r| r.name() != role.name() && selectors.iter().any(|s| s.matches(&r.value)));
        for source in sources {
            for rule in source.value["rules"].as_array().into_iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
        let current = role.value["rules"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let same = current.len() == rules.len() && rules.iter().all(|rule| current.contains(rule));
        if !same {
            system::update(inner, STORAGE, &role.key(), |value| {
                value["rules"] = rules.clone().into();
                true
            });
        }
    }
}
