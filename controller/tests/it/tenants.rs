//! A tenant's cluster over the services network: connecting, tickets, and how a node leaves.

use crate::support::{Cluster, MemNet, cluster, next, soon, until};
use jiff::SignedDuration;
use k8s_openapi::api::{
    core::v1::{Node, Pod, Secret},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use steelyard_controller::{
    Clock, Dice,
    key::Key,
    queue::{Queue, Work},
    store::Store,
    tasks::Tasks,
    tenant::{TenantCluster, TenantError, Tenants, TicketOffice},
};

struct Site {
    clock: Clock,
    home: Cluster,
    theirs: Cluster,
    net: Arc<MemNet>,
    queue: Queue,
    tenants: Tenants,
    tasks: Tasks,
}

const API: &str = "10.0.1.1:6443";

fn site() -> Site {
    let clock = Clock::system();
    let home = cluster(clock, |_| {});
    let theirs = cluster(clock, |options| options.sans = vec!["10.0.1.1".into()]);
    let net = Arc::new(MemNet::default());
    let server = theirs.server.clone();
    net.serve(API, move |io| {
        let server = server.clone();
        async move { drop(sim_kube::serve_connection(server.clone(), server.tls(), io).await) }
    });
    let (queue, tasks) = (Queue::default(), Tasks::default());
    let store = Store::new(home.admin(), queue.clone());
    let tenants = Tenants::new(store, net.clone(), tasks.clone());
    Site {
        clock,
        home,
        theirs,
        net,
        queue,
        tenants,
        tasks,
    }
}

fn tenant() -> Key {
    Key::new("p-one", "one")
}

fn secret() -> Key {
    Key::new("default", "vc-one")
}

fn from<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

impl Site {
    async fn publish(&self, kubeconfig: &str) {
        let api: Api<Secret> = Api::namespaced(self.home.admin(), "default");
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "vc-one"}, "stringData": {"config": kubeconfig}});
        api.patch(
            "vc-one",
            &PatchParams::apply("test").force(),
            &Patch::Apply(object),
        )
        .await
        .unwrap();
    }

    fn kubeconfig(&self) -> String {
        self.theirs.server.admin_kubeconfig(&format!("https://{API}"))
    }

    async fn connect(&self) -> Arc<TenantCluster> {
        self.publish(&self.kubeconfig()).await;
        self.tenants.ensure(&tenant(), &secret()).await.unwrap();
        soon("the tenant's nodes are known", async {
            loop {
                next(&self.queue).await;
                if let Some(cluster) = self.tenants.ensure(&tenant(), &secret()).await.unwrap() {
                    break cluster;
                }
            }
        })
        .await
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.theirs.admin())
    }

    async fn node(&self, name: &str) {
        let node = json!({"metadata": {"name": name}});
        self.nodes()
            .create(&PostParams::default(), &from(node))
            .await
            .unwrap();
    }

    async fn pod(&self, name: &str, node: &str, change: Value) {
        let mut pod = json!({
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
        });
        json_patch_merge(&mut pod, &change);
        let api: Api<Pod> = Api::namespaced(self.theirs.admin(), "default");
        api.create(&PostParams::default(), &from(pod)).await.unwrap();
        let phase = change["status"]["phase"].as_str().unwrap_or("Running");
        let status = json!({"status": {"phase": phase}});
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
    }

    /// As a kubelet does: pods that were told to end are gone.
    async fn end_pods(&self) {
        let api: Api<Pod> = Api::namespaced(self.theirs.admin(), "default");
        for pod in api.list(&ListParams::default()).await.unwrap().items {
            if pod.metadata.deletion_timestamp.is_some() {
                let now = DeleteParams {
                    grace_period_seconds: Some(0),
                    ..DeleteParams::default()
                };
                api.delete(&pod.metadata.name.unwrap(), &now).await.unwrap();
            }
        }
    }

    async fn pods(&self) -> Vec<String> {
        let api: Api<Pod> = Api::namespaced(self.theirs.admin(), "default");
        let pods = api.list(&ListParams::default()).await.unwrap().items;
        let left = pods
            .into_iter()
            .filter(|p| p.metadata.deletion_timestamp.is_none());
        left.filter_map(|p| p.metadata.name).collect()
    }
}

fn json_patch_merge(into: &mut Value, change: &Value) {
    for (key, value) in change.as_object().into_iter().flatten() {
        match (into.get_mut(key), value) {
            (Some(inner), Value::Object(_)) => json_patch_merge(inner, value),
            _ => into[key.as_str()] = value.clone(),
        }
    }
}

#[tokio::test]
async fn a_tenant_is_reached_by_its_kubeconfig_once_its_nodes_are_known() {
    let site = site();
    assert!(
        site.tenants.ensure(&tenant(), &secret()).await.unwrap().is_none(),
        "no kubeconfig yet"
    );
    site.node("node-1").await;
    site.publish(&site.kubeconfig()).await;
    assert!(
        site.tenants.ensure(&tenant(), &secret()).await.unwrap().is_none(),
        "its nodes are not known yet"
    );
    assert!(site.tenants.get(&tenant()).is_none() && site.tenants.all().is_empty());
    let cluster = site.connect().await;
    assert_eq!(cluster.endpoint, API);
    assert_eq!(cluster.ca_hash.len(), 64);
    assert!(cluster.node("node-1").exists && !cluster.node("node-1").ready);
    assert!(!cluster.node("node-2").exists);
    let again = site.tenants.ensure(&tenant(), &secret()).await.unwrap().unwrap();
    assert!(
        Arc::ptr_eq(&cluster, &again),
        "the same kubeconfig, the same connection"
    );
    assert!(site.net.connected() > 0, "over the network that we were given");

    let api: Api<Secret> = Api::namespaced(site.home.admin(), "default");
    api.delete("vc-one", &DeleteParams::default()).await.unwrap();
    assert!(site.tenants.ensure(&tenant(), &secret()).await.unwrap().is_none());
    assert!(site.tenants.get(&tenant()).is_none());
    site.publish("{}").await;
    assert!(matches!(
        site.tenants.ensure(&tenant(), &secret()).await,
        Err(TenantError::Kubeconfig(_))
    ));
    site.tasks.end(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn only_what_is_read_of_a_node_wakes_anybody() {
    let site = site();
    let cluster = site.connect().await;
    site.node("node-1").await;
    let claim = Work::Claim(Key::new("p-one", "node-1"));
    // Both are woken, the claim and its tenant.
    let mut woken = [next(&site.queue).await, next(&site.queue).await];
    woken.sort();
    assert_eq!(woken, [claim.clone(), Work::Tenant(tenant())]);
    let heartbeat = |ready: &str, at: u8| {
        let time = format!("2026-01-01T00:00:{at:02}Z");
        json!({"status": {"conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": time}]}})
    };
    for at in 0..10 {
        let patch = Patch::Merge(heartbeat("False", at));
        site.nodes()
            .patch_status("node-1", &PatchParams::default(), &patch)
            .await
            .unwrap();
    }
    site.nodes()
        .patch_status(
            "node-1",
            &PatchParams::default(),
            &Patch::Merge(heartbeat("True", 30)),
        )
        .await
        .unwrap();
    until("the node is seen ready", async || cluster.node("node-1").ready).await;
    let mut woken = [next(&site.queue).await, next(&site.queue).await];
    woken.sort();
    assert_eq!(woken, [claim, Work::Tenant(tenant())]);
    assert_eq!(site.queue.depth(), (0, 0), "ten heartbeats said nothing new");
    site.tasks.end(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn tickets_are_reused_expire_and_are_withdrawn() {
    let site = site();
    let cluster = site.connect().await;
    let office = TicketOffice::new(&cluster);
    let (dice, now, day) = (Dice::seeded(7), site.clock.now(), SignedDuration::from_hours(24));
    let (mine, others) = (Key::new("p-one", "node-1"), Key::new("p-one", "node-2"));
    let first = office.issue(&mine, now, day, &dice).await.unwrap();
    let again = office
        .issue(&mine, now + SignedDuration::from_hours(11), day, &dice)
        .await
        .unwrap();
    assert_eq!(first.token(), again.token());
    let other = office.issue(&others, now, day, &dice).await.unwrap();
    assert_ne!(first.id, other.id);
    let later = office
        .issue(&mine, now + SignedDuration::from_hours(13), day, &dice)
        .await
        .unwrap();
    assert_ne!(first.id, later.id, "less than half of its life is left");

    let found = office.find(&first.id, now).await.unwrap().expect("good");
    assert_eq!((found.token(), found.claim), (first.token(), mine.clone()));
    assert!(
        office.find(&first.id, now + day).await.unwrap().is_none(),
        "expired"
    );
    assert!(office.find("aaaaaa", now).await.unwrap().is_none());

    office.withdraw(&mine).await.unwrap();
    office.withdraw(&mine).await.expect("gone is done");
    for id in [&first.id, &later.id] {
        assert!(office.find(id, now).await.unwrap().is_none());
    }
    assert!(
        office.find(&other.id, now).await.unwrap().is_some(),
        "another claim's stays"
    );
    assert!(
        !format!("{:?}", other.token()).contains(&other.id),
        "a token shows in Debug"
    );
    site.tasks.end(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_node_leaves_after_its_pods() {
    let site = site();
    let cluster = site.connect().await;
    for node in ["node-1", "node-2"] {
        site.node(node).await;
    }
    let owner = json!({"metadata": {"ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "u", "controller": true}]}});
    site.pod("daemon", "node-1", owner).await;
    site.pod("done", "node-1", json!({"status": {"phase": "Succeeded"}}))
        .await;
    site.pod("guarded", "node-1", json!({})).await;
    site.pod("plain", "node-1", json!({})).await;
    site.pod("elsewhere", "node-2", json!({})).await;
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(site.theirs.admin(), "default");
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}}});
    budgets
        .create(&PostParams::default(), &from(budget))
        .await
        .unwrap();

    for _ in 0..3 {
        cluster.remove_node("node-1", false).await.unwrap();
        site.end_pods().await;
    }
    let node = site
        .nodes()
        .get("node-1")
        .await
        .expect("its budget keeps one pod, and that the node");
    assert_eq!(node.spec.unwrap().unschedulable, Some(true));
    let pods = site.pods().await;
    assert!(
        pods.contains(&"guarded".into()) && pods.contains(&"elsewhere".into()),
        "{pods:?}"
    );
    assert!(!pods.contains(&"plain".into()), "{pods:?}");

    budgets.delete("b", &DeleteParams::default()).await.unwrap();
    cluster.remove_node("node-1", false).await.unwrap();
    assert!(
        site.nodes().get("node-1").await.is_ok(),
        "a pod that is still ending keeps it"
    );
    until("the node is gone", async || {
        site.end_pods().await;
        cluster.remove_node("node-1", false).await.unwrap();
        site.nodes().get_opt("node-1").await.unwrap().is_none()
    })
    .await;
    cluster.remove_node("node-1", false).await.expect("gone is done");
    until("that is seen", async || !cluster.node("node-1").exists).await;
    assert!(site.nodes().get("node-2").await.is_ok());
    site.tasks.end(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn force_waits_for_nobody() {
    let site = site();
    let cluster = site.connect().await;
    site.node("node-1").await;
    site.pod("plain", "node-1", json!({})).await;
    cluster.remove_node("node-1", true).await.unwrap();
    assert!(site.nodes().get_opt("node-1").await.unwrap().is_none());
    site.tasks.end(Duration::from_secs(5)).await;
}
