//! The story: registered servers become a tenant's node, and come back as they were.

use crate::{
    harness::{Bed, CLAIM, HARDWARE, HOST, SECRET, TENANT, bed, condition, example, is_true, plan, text},
    watch::{self, Seen},
};
use http::{Request, header};
use serde_json::{Value, json};
use std::{net::Ipv4Addr, time::Duration};
use steelyard_api::{names, quantity::Quantity};
use tokio::time::Instant;
use tower::ServiceExt;

const TENANT_NAMESPACE: &str = "loft-default-v-one";
const CLUSTER: &str = "p-default-one";
/// What the tenant's system writes, and the same text as nobody but the system itself can read it in its user data.
const MARKER: &str = "tenant secret 6f1c2a, written by its own system";
const MARKER_BASE64: &str = "dGVuYW50IHNlY3JldCA2ZjFjMmEsIHdyaXR0ZW4gYnkgaXRzIG93biBzeXN0ZW0=";

/// Of the SSHKey in `examples/`.
const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIP10KEqViCuhZFumjPb9sv2U5zO4hQKtZIZ";

/// What a claim must not have changed once it is gone.
fn as_registered(host: &Value) -> Value {
    let mut host = host.clone();
    host["status"].take();
    for field in ["resourceVersion", "generation", "managedFields", "finalizers"] {
        host["metadata"][field].take();
    }
    host
}

/// `examples/tenant.yaml` with a file that the tenant's system writes at its first boot.
fn tenant_with_marker() -> String {
    let line = "                vcluster.com/ssh-keys: demo\n";
    let tenant = example("tenant.yaml");
    assert!(
        tenant.contains(line),
        "examples/tenant.yaml has changed: {tenant}"
    );
    let file = format!(
        "{line}                vcluster.com/user-data: |
                  #cloud-config
                  write_files:
                    - path: /root/marker
                      encoding: b64
                      content: {MARKER_BASE64}\n"
    );
    tenant.replace(line, &file)
}

async fn register(bed: &mut Bed) -> Vec<Value> {
    let names: Vec<String> = bed.lab.config.plan.hosts.iter().map(|h| h.name.clone()).collect();
    for name in &names {
        bed.register(name).await;
    }
    let mut registered = Vec::new();
    for name in &names {
        let host = bed.until_state(name, 60, "available").await;
        assert!(is_true(&host, "AvailableForProvisioning"), "{host}");
        registered.push(as_registered(&host));
    }
    registered
}

async fn objects(bed: &Bed) {
    for file in ["machine-objects.yaml", "node-provider.yaml"] {
        bed.apply_example(file).await;
    }
}

#[tokio::test(start_paused = true)]
async fn servers_become_a_tenants_node_and_come_back() {
    let mut bed = bed(plan(2)).await;
    let witness = bed.lab.fabric.witness();
    let (seen, _watching) = Seen::start(&bed.lab.fabric);
    bed.control();
    let registered = register(&mut bed).await;
    for name in ["bare-metal-1", "bare-metal-2"] {
        let data = bed.get(HARDWARE, name).await.expect("HardwareData");
        assert_eq!(data["spec"]["hardware"]["cpu"]["count"], 4, "{data}");
    }
    objects(&bed).await;
    bed.apply(&tenant_with_marker()).await;

    let tenant = bed
        .until(TENANT, "one", 60, "is Ready", |t| is_true(t, "Ready"))
        .await;
    assert_eq!(tenant["status"]["phase"], "Available", "{tenant}");
    let claims = bed.list(CLAIM).await;
    assert_eq!(claims.len(), 1, "{claims:?}");
    let claim = text(&claims[0]["metadata"]["name"]).to_owned();
    let host = text(&claims[0]["status"]["bareMetalHost"]["name"]).to_owned();
    assert!(is_true(&claims[0], "Joined"), "{}", claims[0]);
    the_node(&mut bed, &claims[0]).await;
    bed.until_state(&host, 10, "provisioned").await;
    assert!(
        bed.on_disk(&host, MARKER),
        "the tenant's system wrote nothing\n{}",
        bed.report().await
    );
    assert!(clusters(&bed).await.contains(&CLUSTER.to_owned()));
    bed.learn_secrets().await;

    bed.delete(TENANT, "one").await;
    bed.until_gone(TENANT, "one", 60).await;
    for (before, name) in registered.iter().zip(["bare-metal-1", "bare-metal-2"]) {
        let host = bed.until_state(name, 60, "available").await;
        assert_eq!(as_registered(&host), *before);
        assert!(is_true(&host, "AvailableForProvisioning"), "{host}");
        assert!(
            !bed.on_disk(name, MARKER) && !bed.on_disk(name, &claim),
            "{name} was not wiped"
        );
    }
    let wiped = bed.get(HOST, &host).await.expect("the host");
    let disks = wiped["status"]["steelyard"]["wipe"]["disks"]
        .as_array()
        .expect("evidence")
        .clone();
    assert!(
        !disks.is_empty() && disks.iter().all(|d| d["verified"] == true),
        "{disks:?}"
    );

    nothing_left(&mut bed).await;
    wires(&seen, &bed);
    let violations = witness.violations();
    assert!(violations.is_empty(), "{violations:#?}");
    drop(witness);
    bed.end().await;
}

/// The node as the tenant's user sees it.
async fn the_node(bed: &mut Bed, claim: &Value) {
    let api = bed.tenant_api(TENANT_NAMESPACE, "one").await;
    let nodes = api.list("/api/v1/nodes").await;
    assert_eq!(nodes.len(), 1, "{nodes:?}");
    let node = &nodes[0];
    assert_eq!(node["metadata"]["name"], claim["metadata"]["name"]);
    assert!(is_true(node, "Ready"), "{node}");
    assert_eq!(node["status"]["capacity"]["cpu"], "4", "{node}");
    let memory = text(&node["status"]["capacity"]["memory"]);
    let memory: Quantity = memory.parse().unwrap_or_else(|e| panic!("{memory}: {e:?}"));
    // 16 GiB less what a kernel keeps for itself.
    assert!((14 << 30..=16 << 30).contains(&memory.units()), "{node}");
    let labels = &node["metadata"]["labels"];
    let wanted = [
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", "amd64"),
        ("kubernetes.io/hostname", text(&claim["metadata"]["name"])),
        ("vcluster.com/node-type", text(&claim["spec"]["typeRef"])),
    ];
    for (label, value) in wanted {
        assert_eq!(labels[label], value, "{label} of {labels}");
    }
    let addresses = node["status"]["addresses"].as_array().expect("addresses");
    let ip = addresses
        .iter()
        .find(|a| a["type"] == "InternalIP")
        .expect("an InternalIP");
    let ip: Ipv4Addr = text(&ip["address"]).parse().expect("an address");
    assert_eq!(ip.octets()[..2], [10, 100], "{ip} is not of a tenant's network");
    let given = text(&claim["status"]["address"]["address"]);
    assert_eq!(given.split('/').next(), Some(ip.to_string().as_str()));
}

/// Of the tenant nothing is left: no claim, token, user data, address, network.
async fn nothing_left(bed: &mut Bed) {
    assert_eq!(bed.list(CLAIM).await, Vec::<Value>::new());
    let hosts = bed.lab.config.plan.hosts.iter();
    let expected: Vec<String> = hosts
        .flat_map(|h| [format!("{}-bmc", h.name), names::secret::agent_of(&h.name)])
        .collect();
    for secret in bed.list(SECRET).await {
        let name = text(&secret["metadata"]["name"]).to_owned();
        assert!(expected.contains(&name), "left behind: {name}");
    }
    // A network goes when the switches have let its last port go.
    let end = Instant::now() + Duration::from_secs(30);
    while clusters(bed).await != [steelyard_lab::lab::HOME] {
        bed.look_out(end, "the tenant's server cluster is deleted").await;
    }
    let networks = |bed: &Bed| -> Vec<String> {
        bed.lab
            .fabric
            .snapshot()
            .networks
            .into_iter()
            .map(|n| n.name)
            .collect()
    };
    while networks(bed) != ["provisioning", "services"] {
        bed.look_out(end, "the tenant's V-Net is gone").await;
    }
}

/// Names of the server clusters, asked of the fabric's management.
async fn clusters(bed: &Bed) -> Vec<String> {
    let api = bed
        .lab
        .fabric
        .netris(bed.lab.fabric_user(), &bed.lab.fabric_password);
    let login =
        json!({"user": bed.lab.fabric_user(), "password": bed.lab.fabric_password, "auth_scheme_id": 1});
    let login = Request::post("/api/auth")
        .body(login.to_string())
        .expect("a request");
    let answer = api.clone().oneshot(login).await.expect("an answer");
    let cookie = answer.headers()[header::SET_COOKIE]
        .to_str()
        .expect("a cookie")
        .to_owned();
    let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
    let get = Request::get("/api/v2/server-cluster").header(header::COOKIE, cookie);
    let answer = api
        .oneshot(get.body(String::new()).expect("a request"))
        .await
        .expect("an answer");
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20)
        .await
        .expect("a body");
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    let names = body["data"].as_array().unwrap_or_else(|| panic!("{body}"));
    names.iter().map(|c| text(&c["name"]).to_owned()).collect()
}

/// The join went over the tenant's network, booting over the provisioning network, and neither over the other's.
fn wires(seen: &Seen, bed: &Bed) {
    let networks = seen.networks();
    let tenant = networks
        .iter()
        .find(|n| n.starts_with(CLUSTER))
        .unwrap_or_else(|| panic!("{networks:?}"));
    assert!(seen.frames("provisioning", watch::DHCP) > 0, "{networks:?}");
    assert!(seen.frames("provisioning", watch::BOOT) > 0, "{networks:?}");
    assert!(
        seen.frames(tenant, watch::SERVICES) > 0,
        "{networks:?}\n{}",
        bed.log.tail(40)
    );
    assert_eq!(seen.frames("provisioning", watch::SERVICES), 0);
    assert_eq!(seen.frames(tenant, watch::DHCP), 0);
    assert_eq!(seen.frames(tenant, watch::BOOT), 0);
}

/// `examples/machine/`: somebody wants a server and no cluster.
#[tokio::test(start_paused = true)]
async fn a_claim_without_a_tenant_gets_a_machine() {
    let mut bed = bed(plan(1)).await;
    bed.control();
    let registered = register(&mut bed).await;
    objects(&bed).await;
    bed.apply_example("machine/machine.yaml").await;
    let claim = bed
        .until(CLAIM, "machine-1", 60, "is Ready", |c| is_true(c, "Ready"))
        .await;
    assert_eq!(claim["status"]["phase"], "Available", "{claim}");
    assert!(
        condition(&claim, "Joined").is_null() || !is_true(&claim, "Joined"),
        "it joins nothing: {claim}"
    );
    let host = bed.until_state("bare-metal-1", 10, "provisioned").await;
    assert_eq!(host["spec"]["consumerRef"]["name"], "machine-1");
    assert_eq!(host["status"]["poweredOn"], true);
    assert!(bed.on_disk("bare-metal-1", KEY), "its user's key is on the disk");

    bed.delete(CLAIM, "machine-1").await;
    bed.until_gone(CLAIM, "machine-1", 60).await;
    let host = bed.until_state("bare-metal-1", 60, "available").await;
    assert_eq!(as_registered(&host), registered[0]);
    assert!(!bed.on_disk("bare-metal-1", KEY), "it was not wiped");
    bed.end().await;
}
