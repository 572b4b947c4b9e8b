//! Caches over watches that break, and writes in the order of a decision.

use crate::support::{Faults, Mode, cluster, epoch, next, soon, until};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::watcher,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use steelyard_api::{
    crds,
    metal3::{BareMetalHost, BareMetalHostSpec, ProvisioningState},
};
use steelyard_controller::{
    Clock,
    key::Key,
    queue::{Queue, Work},
    store::{Cache, SaveError, Saver, Store},
    tasks::Tasks,
};
use steelyard_core::{Change, ObjectRef, ObjectWrite};

/// What a cache has told: `+name`, `~name`, `-name`.
type Told = Arc<Mutex<Vec<String>>>;

struct Watched {
    cache: Arc<Cache<ConfigMap>>,
    told: Told,
    api: Api<ConfigMap>,
    faults: Faults,
    tasks: Tasks,
    _cluster: crate::support::Cluster,
}

async fn watched() -> Watched {
    let clock = Clock::starting_at(epoch());
    // A short memory, so that a watch that was away for long gets 410 Gone.
    let cluster = cluster(clock, |options| options.watch_history = 8);
    let (client, faults) = cluster.faulty();
    let (cache, told, tasks) = (
        Arc::<Cache<ConfigMap>>::default(),
        Told::default(),
        Tasks::default(),
    );
    let log = told.clone();
    let changed = move |key: &Key, before: Option<&ConfigMap>, now: Option<&ConfigMap>| {
        let sign = match (before, now) {
            (None, Some(_)) => '+',
            (Some(_), Some(_)) => '~',
            (_, None) => '-',
        };
        log.lock().unwrap().push(format!("{sign}{}", key.name));
    };
    let config = watcher::Config::default().labels("test=yes");
    tasks.spawn(
        "watch",
        cache
            .clone()
            .run(Api::namespaced(client, "default"), config, changed),
    );
    soon("the first list is in", cache.wait_synced()).await;
    Watched {
        cache,
        told,
        api: Api::namespaced(cluster.admin(), "default"),
        faults,
        tasks,
        _cluster: cluster,
    }
}

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"test": "yes"}}})).unwrap()
}

fn key(name: &str) -> Key {
    Key::new("default", name)
}

impl Watched {
    async fn create(&self, name: &str) -> ConfigMap {
        self.api.create(&PostParams::default(), &map(name)).await.unwrap()
    }

    async fn set(&self, name: &str, value: &str) -> ConfigMap {
        let patch = Patch::Merge(json!({"data": {"value": value}}));
        self.api
            .patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap()
    }

    async fn delete(&self, name: &str) {
        self.api.delete(name, &DeleteParams::default()).await.unwrap();
    }

    fn value(&self, name: &str) -> Option<String> {
        self.cache.get(&key(name))?.data.as_ref()?.get("value").cloned()
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_follows_its_watch_and_our_writes() {
    let w = watched().await;
    w.create("a").await;
    until("a is seen", async || w.cache.get(&key("a")).is_some()).await;
    let answer = w.set("a", "ours").await;
    let before = w.told();
    assert_eq!(before[0], "+a");
    // The answer to our write is known before the watch tells; then the watch has nothing new to say.
    w.cache.put(answer.clone());
    assert_eq!(w.value("a").as_deref(), Some("ours"));
    assert!(!w.cache.put(answer), "known already");
    w.set("a", "theirs").await;
    until("the change is seen", async || {
        w.value("a").as_deref() == Some("theirs")
    })
    .await;
    w.delete("a").await;
    until("it is gone", async || w.cache.get(&key("a")).is_none()).await;
    assert_eq!(w.told().last().unwrap(), "-a");
    w.tasks.end(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_does_not_bring_back_what_is_gone() {
    let w = watched().await;
    w.create("a").await;
    let late = w.set("a", "ours").await;
    until("a is seen", async || w.cache.get(&key("a")).is_some()).await;
    w.delete("a").await;
    until("it is gone", async || w.cache.get(&key("a")).is_none()).await;
    assert!(!w.cache.put(late.clone()));
    assert!(w.cache.get(&key("a")).is_none());
    // One of the same name is another object.
    let anew = w.create("a").await;
    until("it is back", async || w.cache.get(&key("a")).is_some()).await;
    assert!(!w.cache.put(late), "an answer about the one before");
    assert_eq!(w.cache.get(&key("a")).unwrap().uid(), anew.uid());
    w.tasks.end(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_breaks_goes_on_where_it_was() {
    let w = watched().await;
    w.create("a").await;
    until("a is seen", async || w.cache.get(&key("a")).is_some()).await;
    w.told();
    w.faults.cut();
    w.set("a", "meanwhile").await;
    until("the change is seen", async || {
        w.value("a").as_deref() == Some("meanwhile")
    })
    .await;
    assert_eq!(w.told(), ["~a"]);
    w.tasks.end(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_was_away_too_long_lists_again() {
    let w = watched().await;
    for name in ["gone", "kept"] {
        w.create(name).await;
    }
    until("both are seen", async || w.cache.list().len() == 2).await;
    w.told();
    w.faults.set(Mode::Unavailable);
    w.faults.cut();
    w.delete("gone").await;
    w.create("new").await;
    for n in 0..20 {
        w.set("kept", &n.to_string()).await;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(w.told().is_empty(), "it can't know");
    assert!(w.cache.get(&key("gone")).is_some());
    w.faults.set(Mode::Pass);
    until("all is as it is", async || {
        w.value("kept").as_deref() == Some("19") && w.cache.get(&key("gone")).is_none()
    })
    .await;
    let mut told = w.told();
    told.sort();
    assert_eq!(told, ["+new", "-gone", "~kept"]);
    assert_eq!(w.cache.list().len(), 2);
    w.tasks.end(Duration::from_secs(5)).await;
}

async fn with_crds(client: &Client) {
    let api = Api::all(client.clone());
    for crd in crds::custom_resource_definitions() {
        api.create(&PostParams::default(), &crd).await.unwrap();
    }
    let hosts: Api<BareMetalHost> = Api::namespaced(client.clone(), "default");
    until("the CRDs are served", async || {
        hosts.list(&ListParams::default()).await.is_ok()
    })
    .await;
}

fn own(name: &str) -> ObjectRef {
    ObjectRef {
        api_version: BareMetalHost::API_VERSION,
        kind: BareMetalHost::KIND,
        namespace: Some("default".into()),
        name: name.into(),
    }
}

fn label(host: &BareMetalHost, name: &str) -> ObjectWrite {
    let patch = json!({"metadata": {"labels": {name: "yes"}}});
    let resource_version = host.resource_version().unwrap();
    ObjectWrite {
        target: own(&host.name_any()),
        change: Change::Merge {
            resource_version,
            patch,
        },
    }
}

fn secret(name: &str) -> ObjectWrite {
    let object: Value =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"}});
    let target = ObjectRef {
        api_version: "v1",
        kind: "Secret",
        namespace: Some("default".into()),
        name: name.into(),
    };
    ObjectWrite {
        target,
        change: Change::Create { object },
    }
}

#[tokio::test(start_paused = true)]
async fn a_decision_is_written_in_order_on_the_version_it_was_made_on() {
    let clock = Clock::starting_at(epoch());
    let cluster = cluster(clock, |_| {});
    with_crds(&cluster.admin()).await;
    let (client, faults) = cluster.faulty();
    let saver = Saver::new(client.clone());
    let api: Api<BareMetalHost> = Api::namespaced(client, "default");
    let host = BareMetalHost::new("bm-1", BareMetalHostSpec::default());
    let host = api.create(&PostParams::default(), &host).await.unwrap();
    faults.seen();

    // Two writes to the own object on one version: the second is based on what the first left behind.
    let writes = [label(&host, "one"), secret("made"), label(&host, "two")];
    let written = saver
        .write(&writes, &own("bm-1"))
        .await
        .unwrap()
        .expect("the own object was written");
    let mut current: BareMetalHost = written.try_parse().unwrap();
    assert_eq!(current.labels().keys().collect::<Vec<_>>(), ["one", "two"]);
    let mut status = current.status.clone().unwrap_or_default();
    status.error_message = "saved".into();
    current.status = Some(status);
    let saved = saver.status(&api, &current).await.unwrap();
    assert_eq!(saved.status.as_ref().unwrap().error_message, "saved");
    let hosts = "/apis/metal3.io/v1alpha1/namespaces/default/baremetalhosts/bm-1";
    assert_eq!(
        faults.seen(),
        [
            format!("PATCH {hosts}"),
            "POST /api/v1/namespaces/default/secrets".into(),
            format!("PATCH {hosts}"),
            format!("PUT {hosts}/status"),
        ]
    );

    // Decided on an old version: nothing of it is done.
    let error = saver
        .write(&[label(&host, "three"), secret("late")], &own("bm-1"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, SaveError::Conflict { kind, name } if kind == "BareMetalHost" && name == "bm-1"),
        "{error}"
    );
    assert!(matches!(
        saver.status(&api, &current).await,
        Err(SaveError::Conflict { .. })
    ));
    let secrets: Api<Secret> = Api::namespaced(cluster.admin(), "default");
    assert!(secrets.get_opt("late").await.unwrap().is_none());
    // Made by somebody else already: not ours to take.
    let error = saver
        .write(&[secret("made"), label(&saved, "three")], &own("bm-1"))
        .await
        .unwrap_err();
    assert!(matches!(error, SaveError::Conflict { .. }), "{error}");
    assert!(!api.get("bm-1").await.unwrap().labels().contains_key("three"));
    // Gone is done; another object of the same name is not the one that was meant.
    let delete = |uid: &str| ObjectWrite {
        target: secret("made").target,
        change: Change::Delete {
            uid: Some(uid.into()),
        },
    };
    assert!(matches!(
        saver.write(&[delete("another")], &own("bm-1")).await,
        Err(SaveError::Conflict { .. })
    ));
    let uid = secrets.get("made").await.unwrap().uid().unwrap();
    saver
        .write(&[delete(&uid), delete(&uid)], &own("bm-1"))
        .await
        .unwrap();
}

fn host(version: u32, spec: Value, state: ProvisioningState) -> BareMetalHost {
    serde_json::from_value(json!({
        "apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost",
        "metadata": {"name": "bm-1", "namespace": "metal", "uid": "u1", "resourceVersion": version.to_string()},
        "spec": spec,
        "status": {"provisioning": {"state": state, "ID": ""}},
    }))
    .unwrap()
}

/// Our own write and the watch may tell of changes in either order.
#[tokio::test(start_paused = true)]
async fn the_index_shows_what_the_cache_holds_whoever_tells_last() {
    let clock = Clock::starting_at(epoch());
    let cluster = cluster(clock, |_| {});
    let queue = Queue::default();
    let store = Store::new(cluster.admin(), queue.clone());
    let claimed = json!({"consumerRef": {"kind": "NodeClaim", "namespace": "p-one", "name": "node-1"}});
    let [first, second, third] = [
        host(1, json!({}), ProvisioningState::Available),
        host(2, claimed.clone(), ProvisioningState::Provisioning),
        host(3, json!({}), ProvisioningState::Available),
    ];
    let (me, other, claim) = (
        Key::of(&first),
        Key::new("metal", "bm-2"),
        Key::new("p-one", "node-1"),
    );
    store.hosts.put(first.clone());
    store.host_changed(&me, None, Some(&first));
    store.hosts.put(second.clone());
    store.hosts.put(third.clone());
    store.host_changed(&me, Some(&second), Some(&third));
    assert_eq!(next(&queue).await, Work::Host(me.clone()));
    assert_eq!(
        next(&queue).await,
        Work::Claim(claim.clone()),
        "the claim that has lost its host"
    );
    store.host_changed(&me, Some(&first), Some(&second));
    assert_eq!(store.host_of_claim(&claim), None);
    assert_eq!(store.busy_others(&other), 0);
    // And the other way round.
    let fourth = host(4, claimed, ProvisioningState::Provisioning);
    store.hosts.put(fourth.clone());
    store.host_changed(&me, Some(&third), Some(&fourth));
    assert_eq!(store.host_of_claim(&claim), Some(me.clone()));
    assert_eq!(store.busy_others(&other), 1);
    assert_eq!(store.busy_others(&me), 0);
}

#[tokio::test(start_paused = true)]
async fn changes_wake_whom_they_concern() {
    let clock = Clock::starting_at(epoch());
    let cluster = cluster(clock, |_| {});
    let client = cluster.admin();
    with_crds(&client).await;
    let (queue, tasks) = (Queue::default(), Tasks::default());
    let store = Store::new(client.clone(), queue.clone());
    tasks.spawn("watches", store.clone().run());
    soon("all lists are in", store.wait_synced()).await;
    let bmc = json!({"bmc": {"address": "redfish://10.0.0.1", "credentialsName": "bmc"}});
    let host = BareMetalHost::new("bm-1", serde_json::from_value(bmc).unwrap()).within("default");
    let hosts: Api<BareMetalHost> = Api::namespaced(client.clone(), "default");
    hosts.create(&PostParams::default(), &host).await.unwrap();
    let work = Work::Host(key("bm-1"));
    assert_eq!(next(&queue).await, work);
    // The Secret that lets us in.
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    let labels = BTreeMap::from([("environment.metal3.io".to_owned(), "baremetal".to_owned())]);
    let mut secret = Secret::default();
    secret.metadata.name = Some("bmc".into());
    secret.metadata.labels = Some(labels);
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    assert_eq!(next(&queue).await, work);
    assert!(store.secrets.get(&key("bmc")).is_some());
    hosts.delete("bm-1", &DeleteParams::default()).await.unwrap();
    assert_eq!(next(&queue).await, work);
    until("the host is gone", async || {
        store.hosts.get(&key("bm-1")).is_none()
    })
    .await;
    tasks.end(Duration::from_secs(5)).await;
}
