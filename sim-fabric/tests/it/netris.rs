//! The management API over the real HTTP stack: sessions, envelopes, goldens of what is read, and refusals.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::{Client, Lab, PASSWORD, USER};

#[tokio::test]
async fn both_generations_of_clients_log_in() {
    let lab = Lab::new();
    let form = Bytes::from("user=netris&password=p%40ss%20word&auth_scheme_id=1");
    for body in [
        form,
        json!({ "user": USER, "password": PASSWORD, "auth_scheme_id": 1 })
            .to_string()
            .into(),
        json!({ "user": USER, "password": PASSWORD, "authSchemeID": 0 })
            .to_string()
            .into(),
    ] {
        let mut client = Client::connect(&lab.fabric).await;
        assert_eq!(client.refused("GET", "/api/v2/vnet", Value::Null).await.0, 401);
        assert_eq!(client.refused("GET", "/api/auth", Value::Null).await.0, 401);
        assert_eq!(client.raw("POST", "/api/auth", body).await.0, 200);
        assert!(client.cookie.as_ref().unwrap().starts_with("connect.sid=s%3A"));
        client.get("/api/auth").await;
        client.get("/api/v2/vnet").await;
        client.ok("DELETE", "/api/auth", Value::Null).await;
        assert_eq!(client.refused("GET", "/api/v2/vnet", Value::Null).await.0, 401);
    }
    let mut client = Client::connect(&lab.fabric).await;
    let (status, message) = client
        .refused("POST", "/api/auth", json!({ "user": USER, "password": "wrong" }))
        .await;
    assert_eq!((status, &*message), (401, "user or password is wrong"));
    assert_eq!(client.cookie, None);
}

#[tokio::test]
async fn a_session_ends_when_it_is_not_used() {
    let lab = Lab::new();
    let mut api = lab.api().await;
    let hour = std::time::Duration::from_secs(3600);
    lab.pass(hour);
    api.get("/api/auth").await;
    lab.pass(hour * 2);
    assert_eq!(api.refused("GET", "/api/auth", Value::Null).await.0, 401);
}

#[tokio::test]
async fn the_envelope() {
    let lab = Lab::new();
    let mut api = lab.api().await;
    let (_, good) = api.call("GET", "/api/v2/sites", &Value::Null).await;
    insta::assert_json_snapshot!("envelope-good", good);
    let (_, bad) = api.call("GET", "/api/v2/vnet/99", &Value::Null).await;
    insta::assert_json_snapshot!("envelope-bad", bad);
}

#[tokio::test]
async fn a_clusters_life() {
    let lab = Lab::new();
    let mut api = lab.api().await;
    api.put_servers("provisioning", &["bare-metal-2", "bare-metal-3", "bare-metal-4"])
        .await;
    let created = api.tenant("one", &["bare-metal-1"]).await;
    assert_eq!(created, json!({ "id": 2 }));
    insta::assert_json_snapshot!("cluster-pending", api.get("/api/v2/server-cluster/2").await);
    lab.converge();
    insta::assert_json_snapshot!("cluster-active", api.get("/api/v2/server-cluster/2").await);
    insta::assert_json_snapshot!("vnet", api.get("/api/v2/vnet/3").await);
    insta::assert_json_snapshot!("cluster-servers", api.get("/api/v2/server-cluster/servers").await);
    insta::assert_json_snapshot!("ipam", api.get("/api/v2/ipam").await);
}

#[tokio::test]
async fn what_is_racked() {
    let lab = Lab::new();
    let mut api = lab.api().await;
    let _cable = lab.attach("leaf-1/swp1");
    insta::assert_json_snapshot!("hw-server", api.get("/api/v2/hw/server").await[0]);
    insta::assert_json_snapshot!("hw-switch", api.get("/api/v2/hw/switch").await[1]);
    insta::assert_json_snapshot!("port", api.get("/api/v2/ports/1").await);
    insta::assert_json_snapshot!("port-of-a-server", api.get("/api/v2/ports/1000000").await);
    insta::assert_json_snapshot!("template", api.get("/api/v2/server-cluster-template").await);
    let names: Vec<Value> = api
        .get("/api/v2/ports")
        .await
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["name"].clone())
        .collect();
    assert_eq!(
        (names.len(), &names[0], &names[14]),
        (15, &json!("swp1@leaf-1"), &json!("eth0@bare-metal-4"))
    );
    assert_eq!(api.get("/api/v2/hw").await.as_array().unwrap().len(), 6);
    assert_eq!(api.get("/api/v2/link").await.as_array().unwrap().len(), 7);
}

#[tokio::test]
async fn the_mac_table_names_port_and_network() {
    let lab = Lab::new();
    let mut api = lab.api().await;
    let cable = lab.attach("leaf-1/swp1");
    cable.send(crate::support::frame(
        sim_fabric::Mac::BROADCAST,
        crate::support::nic(1, 0),
        b"x",
    ));
    insta::assert_json_snapshot!("mac-table", api.get("/api/v2/looking-glass/mac-table").await);
}

/// Each request is refused with this status and message, and leaves no trace.
#[tokio::test]
async fn refusals() {
    let lab = Lab::new();
    let mut api = lab.api().await;
    let cluster = |change: Value| {
        let mut body = json!({
            "name": "one", "admin": { "id": 1 }, "site": { "id": 1 }, "vpc": { "id": 1 },
            "srvClusterTemplate": { "name": "tenant" }, "servers": [],
        });
        body.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        body
    };
    let specify = |gateway: &str| {
        json!({
            "name": "fixed", "vnets": [{ "postfix": "a", "serverNics": ["eth0"], "ipv4Gateway": gateway, "vlanID": "specify" }],
        })
    };
    api.ok("POST", "/api/v2/server-cluster-template", specify("specify"))
        .await;
    let both = json!({ "name": "both", "vnets": [{ "postfix": "a", "serverNics": ["eth0", "eth1"] }] });
    api.ok("POST", "/api/v2/server-cluster-template", both).await;
    let fixed = |vlan: Value, gateway: Value| {
        cluster(json!({ "srvClusterTemplate": {
        "name": "fixed", "vlans": vlan, "ipv4Gateways": gateway } }))
    };
    let before = api.get("/api/v2/server-cluster").await;
    let revision = lab.fabric.snapshot().revision;
    let clusters = "/api/v2/server-cluster";
    let table = [
        (
            "POST",
            clusters,
            cluster(json!({ "servers": [{ "name": "bare-metal-1" }] })),
        ),
        (
            "POST",
            clusters,
            cluster(json!({ "servers": [{ "name": "bare-metal-9" }] })),
        ),
        ("POST", clusters, cluster(json!({ "servers": [{ "id": 77 }] }))),
        (
            "POST",
            clusters,
            cluster(json!({ "servers": [{ "id": "bare-metal-1" }] })),
        ),
        ("POST", clusters, cluster(json!({ "name": " " }))),
        ("POST", clusters, cluster(json!({ "name": "provisioning" }))),
        ("POST", clusters, cluster(json!({ "admin": { "id": 9 } }))),
        ("POST", clusters, cluster(json!({ "site": { "name": "mars" } }))),
        ("POST", clusters, cluster(json!({ "vpc": { "id": 9 } }))),
        ("POST", clusters, cluster(json!({ "vpc": null }))),
        (
            "POST",
            clusters,
            cluster(json!({ "srvClusterTemplate": { "id": 99 } })),
        ),
        (
            "POST",
            clusters,
            cluster(
                json!({ "srvClusterTemplate": { "name": "tenant", "ipv4Gateways": [{ "postfix": "x", "address": "10.100.0.1/24" }] } }),
            ),
        ),
        (
            "POST",
            clusters,
            cluster(
                json!({ "srvClusterTemplate": { "name": "both" }, "servers": [{ "name": "bare-metal-4", "shared": true }] }),
            ),
        ),
        (
            "POST",
            clusters,
            fixed(json!([]), json!([{ "postfix": "a", "address": "10.100.7.1/24" }])),
        ),
        (
            "POST",
            clusters,
            fixed(
                json!([{ "postfix": "a", "vlan": 10 }]),
                json!([{ "postfix": "a", "address": "10.100.7.1/24" }]),
            ),
        ),
        (
            "POST",
            clusters,
            fixed(json!([{ "postfix": "a", "vlan": "300" }]), json!([])),
        ),
        (
            "POST",
            clusters,
            fixed(
                json!([{ "postfix": "a", "vlan": 300 }]),
                json!([{ "postfix": "a", "address": "10.100.7.0/24" }]),
            ),
        ),
        (
            "POST",
            clusters,
            fixed(
                json!([{ "postfix": "a", "vlan": 300 }]),
                json!([{ "postfix": "a", "address": "172.16.0.1/24" }]),
            ),
        ),
        (
            "POST",
            clusters,
            fixed(
                json!([{ "postfix": "a", "vlan": 300 }]),
                json!([{ "postfix": "a", "address": "192.168.100.9/24" }]),
            ),
        ),
        ("POST", clusters, json!("nonsense")),
        ("PUT", "/api/v2/server-cluster/1", json!({ "site": { "id": 2 } })),
        (
            "PUT",
            "/api/v2/server-cluster/1",
            json!({ "srvClusterTemplate": { "name": "tenant" } }),
        ),
        ("PUT", "/api/v2/server-cluster/1", json!({ "vpc": { "id": 3 } })),
        ("PUT", "/api/v2/server-cluster/1", json!({ "name": "other" })),
        (
            "PUT",
            "/api/v2/server-cluster/1",
            json!({ "servers": [{ "name": "bare-metal-1" }, { "id": 3 }] }),
        ),
        ("PUT", "/api/v2/server-cluster/9", json!({ "servers": [] })),
        ("DELETE", "/api/v2/server-cluster/9", Value::Null),
        ("DELETE", "/api/v2/vnet/1", Value::Null),
        ("DELETE", "/api/v2/vpc/1", Value::Null),
        (
            "POST",
            "/api/v2/vnet",
            json!({ "name": "x", "tenant": { "id": 1 }, "ports": [{ "name": "swp1@leaf-1" }] }),
        ),
        (
            "POST",
            "/api/v2/vnet",
            json!({ "name": "x", "tenant": { "id": 1 }, "ports": [{ "name": "swp99@leaf-1" }] }),
        ),
        (
            "POST",
            "/api/v2/vnet",
            json!({ "name": "tenants", "tenant": { "id": 1 } }),
        ),
        (
            "POST",
            "/api/v2/server-cluster-template",
            json!({ "name": "t", "vnets": [{ "postfix": "a", "type": "netris-ufm", "serverNics": ["eth0"] }] }),
        ),
        ("DELETE", "/api/v2/server-cluster-template/2", Value::Null),
        (
            "POST",
            "/api/v2/hw/server",
            json!({ "name": "bare-metal-1", "portCount": 2, "role": "generic" }),
        ),
        (
            "POST",
            "/api/v2/hw/server",
            json!({ "name": "new", "portCount": 2, "role": "toaster" }),
        ),
        (
            "POST",
            "/api/v2/link",
            json!({ "local": { "id": 1000000 }, "remote": { "id": 2 } }),
        ),
        ("DELETE", "/api/v2/hw/3", Value::Null),
        (
            "POST",
            "/api/v2/ipam/allocation",
            json!({ "name": "again", "prefix": "10.0.0.0/8" }),
        ),
        ("GET", "/api/v2/vnet/abc", Value::Null),
        ("GET", "/api/v2/nothing", Value::Null),
        ("PATCH", "/api/v2/vnet", Value::Null),
    ];
    let mut answers = String::new();
    for (method, path, body) in table {
        let (status, message) = api.refused(method, path, body).await;
        answers += &format!("{status} {method} {path}: {message}\n");
    }
    insta::assert_snapshot!("refusals", answers);
    assert_eq!(api.get("/api/v2/server-cluster").await, before);
    assert_eq!(lab.fabric.snapshot().revision, revision);
}

#[tokio::test]
async fn shared_members_are_tagged_in_many_clusters() {
    let lab = Lab::new();
    let mut api = lab.api().await;
    api.put_servers("provisioning", &[]).await;
    for name in ["one", "two"] {
        let id = api.tenant(name, &[]).await["id"].clone();
        let servers = json!({ "servers": [{ "name": "bare-metal-1", "shared": true }] });
        api.ok("PUT", &format!("/api/v2/server-cluster/{id}"), servers)
            .await;
    }
    lab.converge();
    let vnets = api.get("/api/v2/ports/1").await["vnets"].clone();
    assert_eq!(
        vnets,
        json!([
            { "id": 3, "name": "one-net", "untagged": false, "vlan": 101, "state": "active" },
            { "id": 4, "name": "two-net", "untagged": false, "vlan": 102, "state": "active" },
        ])
    );
    // A tagged frame comes out untagged at an access port of the same network, and the other way round.
    let servers =
        json!({ "servers": [{ "name": "bare-metal-1", "shared": true }, { "name": "bare-metal-2" }] });
    api.ok("PUT", "/api/v2/server-cluster/2", servers).await;
    lab.converge();
    let (mut shared, mut dedicated) = (lab.attach("leaf-1/swp1"), lab.attach("leaf-1/swp3"));
    let plain =
        |src: u8| crate::support::frame(sim_fabric::Mac::BROADCAST, crate::support::nic(src, 0), b"x");
    let tagged = |frame: &Bytes, vlan: u8| [&frame[..12], &[0x81, 0, 0, vlan], &frame[12..]].concat();
    shared.send(tagged(&plain(1), 101).into());
    assert_eq!(dedicated.try_recv().unwrap(), plain(1));
    for nothing in [tagged(&plain(1), 102), tagged(&plain(1), 103), plain(1).to_vec()] {
        shared.send(nothing.into());
        assert_eq!(dedicated.try_recv(), None);
    }
    dedicated.send(plain(2));
    assert_eq!(shared.try_recv().unwrap(), tagged(&plain(2), 101));
}

#[tokio::test]
async fn a_server_can_be_racked_through_the_api() {
    let lab = Lab::new();
    let mut api = lab.api().await;
    let id = api
        .ok(
            "POST",
            "/api/v2/hw/server",
            json!({ "name": "new", "portCount": "1", "role": "generic" }),
        )
        .await["id"]
        .clone();
    let server = api.get(&format!("/api/v2/hw/{id}")).await;
    assert_eq!((&server["name"], &server["links"]), (&json!("new"), &json!([])));
    let ports = api.get("/api/v2/ports").await;
    let nic = ports
        .as_array()
        .unwrap()
        .iter()
        .find(|p| p["name"] == "eth1@new")
        .unwrap()["id"]
        .clone();
    api.ok(
        "POST",
        "/api/v2/link",
        json!({ "local": { "id": 8 }, "remote": { "id": nic } }),
    )
    .await;
    let one = json!({ "name": "one-nic", "vnets": [{ "postfix": "a", "serverNics": ["eth1"] }] });
    api.ok("POST", "/api/v2/server-cluster-template", one).await;
    let body = json!({ "name": "c", "admin": 1, "site": "lab", "vpc": 1, "srvClusterTemplate": { "name": "one-nic" }, "servers": [{ "id": id }] });
    api.ok("POST", "/api/v2/server-cluster", body).await;
    lab.converge();
    assert_eq!(api.get("/api/v2/ports/8").await["vnets"][0]["name"], "c-a");
}
