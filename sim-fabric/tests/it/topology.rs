//! Topologies that must be refused, each with the field that is wrong.

use sim_fabric::{FabricHandle, Topology};

use crate::support::{Clock, SITE, site};

#[test]
fn errors_name_the_field() {
    // (in the site's file, replace this, by that) -> the error
    let table = [
        (
            "port: leaf-2/swp3",
            "port: leaf-2/swp9",
            r#"servers[3].nics[0].port: leaf-2 has swp1 to swp4, not "swp9""#,
        ),
        (
            "port: leaf-2/swp3",
            "port: leaf-7/swp3",
            r#"servers[3].nics[0].port: no switch is called "leaf-7""#,
        ),
        (
            "port: leaf-2/swp3",
            "port: leaf-2/swp1",
            "servers[3].nics[0].port: leaf-2/swp1 is already cabled to servers[2].nics[0]",
        ),
        (
            "52:54:00:00:04:00",
            "52:54:00:00:01:00",
            "servers[3].nics[0].mac: 52:54:00:00:01:00 already belongs to servers[0].nics[0]",
        ),
        (
            "52:54:00:00:04:00",
            "53:54:00:00:04:00",
            "servers[3].nics[0].mac: 53:54:00:00:04:00 is a group address; no NIC may have one",
        ),
        (
            "name: bare-metal-4",
            "name: bare-metal-1",
            r#"servers[3].name: "bare-metal-1" is used twice"#,
        ),
        (
            "ports: 4, mgmtAddress: 192.168.99.12",
            "ports: 0",
            "switches[1].ports: is 0; give it at least one port",
        ),
        (
            "192.168.101.1/24",
            "192.168.100.9/25",
            "networks[1].gateway: 192.168.100.0/25 overlaps 192.168.100.0/24 of networks[0].gateway",
        ),
        (
            "192.168.101.1/24",
            "192.168.101.0/24",
            "networks[1].gateway: 192.168.101.0/24 is not a host's address in its own prefix",
        ),
        (
            "prefix: 10.100.0.0/16",
            "prefix: 192.168.0.0/16",
            "allocations[0].prefix: 192.168.0.0/16 overlaps 192.168.100.0/24 of networks[0].gateway",
        ),
        (
            "vlan: 10",
            "vlan: 4095",
            "networks[0].vlan: 4095 is taken or outside 2..=4094",
        ),
        (
            "name: services",
            "name: tenants",
            r#"networks[1].name: "tenants" is reserved"#,
        ),
        (
            "serverNics: [eth0]}]",
            "serverNics: [eth1]}]",
            r#"clusters[0].servers[3]: "bare-metal-4" has no NIC "eth1", which the cluster's V-Nets use"#,
        ),
        (
            "network: provisioning,",
            "network: nowhere,",
            r#"clusters[0].vnets[0].network: no network is called "nowhere""#,
        ),
        (
            "servers: [bare-metal-1,",
            "servers: [bare-metal-9,",
            r#"clusters[0].servers[0]: no server is called "bare-metal-9""#,
        ),
        (
            "to: services",
            "to: nowhere",
            r#"routes[0].to: no network is called "nowhere""#,
        ),
        (
            "to: services",
            "to: tenants",
            "routes[0]: tenants never reach each other; name a shared network at one end",
        ),
        (
            "hostnum: 1",
            "hostnum: 255",
            "templates[0].vnets[0].ipv4Gateway: hostnum 255 is not in 1..=254",
        ),
        (
            "postfix: net",
            "postfix: net\n        type: l3vpn",
            "templates[0].vnets[0].type: l3vpn needs pre-built /31 links, which this fabric has none of; use l2vpn",
        ),
        (
            "serverNics: [eth0]\n",
            "serverNics: []\n",
            "templates[0].vnets[0].serverNics: is empty; name the NICs that join this V-Net",
        ),
    ];
    for (from, to, want) in table {
        assert!(SITE.contains(from), "{from}");
        let topology: Topology = serde_saphyr::from_str(&SITE.replacen(from, to, 1)).unwrap();
        let error = topology.validate().unwrap_err();
        assert_eq!(error.to_string(), format!("topology: {want}"), "{from} -> {to}");
    }
    assert!(serde_saphyr::from_str::<Topology>(&SITE.replacen("vlan: 10", "vlna: 10", 1)).is_err());
}

#[test]
fn a_topology_survives_a_round_trip() {
    let json = serde_json::to_value(site()).unwrap();
    let again: Topology = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(again).unwrap(), json);
}

#[test]
fn leaf_spine_cables_every_nic_once() {
    let topology = Topology::leaf_spine(48, 100, 2, |i| format!("bare-metal-{}", i + 1));
    topology.validate().unwrap();
    assert_eq!((topology.switches.len(), topology.servers.len()), (5, 100));
    assert_eq!(topology.servers[99].nics[1].port.to_string(), "leaf-5/swp8");
    FabricHandle::new(topology, Clock::new().now()).unwrap();
}
