//! `captures`: runs the story and counts, with tshark, what crossed each network. Fails when something
//! crossed that never should.

use super::demo;
use anyhow::{Context, bail, ensure};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

const DIR: &str = "target/captures-lab";

/// One line of the table: network, what, tshark's display filter, and what is right.
const COUNTS: &[(&str, &str, &str, Right)] = &[
    (
        "provisioning",
        "DHCP DISCOVER",
        "dhcp.option.dhcp == 1",
        Right::Some,
    ),
    ("provisioning", "DHCP OFFER", "dhcp.option.dhcp == 2", Right::Some),
    (
        "provisioning",
        "DHCP REQUEST",
        "dhcp.option.dhcp == 3",
        Right::Some,
    ),
    ("provisioning", "DHCP ACK", "dhcp.option.dhcp == 5", Right::Some),
    ("provisioning", "TFTP", "udp.port == 69", Right::Some),
    ("provisioning", "HTTP requests", "http.request", Right::Some),
    (
        "provisioning",
        "TLS handshakes (agent)",
        "tls.handshake.type == 1",
        Right::Some,
    ),
    (
        "provisioning",
        "join (8443, 443 of services)",
        "ip.addr == 192.168.101.0/24",
        Right::None,
    ),
    (
        "p-default-one-net",
        "TLS handshakes (join)",
        "tls.handshake.type == 1 && ip.dst == 192.168.101.0/24",
        Right::Some,
    ),
    (
        "p-default-one-net",
        "to the tenant's API",
        "tcp.dstport == 8443 && ip.dst == 192.168.101.2",
        Right::Some,
    ),
    ("p-default-one-net", "DHCP", "dhcp", Right::None),
    (
        "p-default-one-net",
        "provisioning's addresses",
        "ip.addr == 192.168.100.0/24",
        Right::None,
    ),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    Some,
    None,
}

pub(super) fn run() -> anyhow::Result<()> {
    let dir = Path::new(DIR);
    demo::run(dir)?;
    println!("\n{:<20} {:<32} {:>8}", "NETWORK", "FRAMES", "COUNT");
    let mut wrong = Vec::new();
    for (network, what, filter, right) in COUNTS {
        let count = count(&dir.join("captures").join(format!("{network}.pcapng")), filter)?;
        println!("{network:<20} {what:<32} {count:>8}");
        if (count > 0) != (*right == Right::Some) {
            wrong.push(format!("{network}: {what}: {count}"));
        }
    }
    if !wrong.is_empty() {
        bail!("not as it should be: {}", wrong.join("; "));
    }
    Ok(())
}

fn count(file: &PathBuf, filter: &str) -> anyhow::Result<usize> {
    ensure!(file.exists(), "{} was not captured", file.display());
    let output = Command::new("tshark")
        .arg("-r")
        .arg(file)
        .args(["-Y", filter, "-T", "fields", "-e", "frame.number"])
        .output()
        .context("tshark can't be run")?;
    ensure!(
        output.status.success(),
        "tshark: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output
        .stdout
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .count())
}
