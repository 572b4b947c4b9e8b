//! `demo`: the whole story on a lab of its own, with the real kubectl and the files of `examples/`.

use super::{
    down,
    kubectl::{self, Kubectl},
    options::LabOptions,
    up::{running, start},
};
use crate::files::LabFiles;
use anyhow::{Context, bail, ensure};
use std::{path::Path, time::Instant};

const HOSTS: usize = 6;
const WAIT: &str = "--timeout=60s";

pub(super) fn run(dir: &Path) -> anyhow::Result<()> {
    kubectl::check_installed()?;
    let files = LabFiles::new(dir);
    if let Some(pid) = running(&files) {
        bail!("a lab runs already (process {pid}), and the demo wants one of its own: make lab-down first");
    }
    ensure!(
        Path::new("examples/tenant.yaml").exists(),
        "run the demo at the top of the repository: it uses examples/"
    );
    let began = Instant::now();
    let options = LabOptions::standard(dir.to_owned(), HOSTS, false);
    say("A data centre starts: Kubernetes API, switches, 6 servers with BMCs, the controller");
    let ready = start(&options)?;
    println!("  ready in {:.1} s", ready.as_secs_f64());
    let story = tell(&files);
    let pid = running(&files)
        .with_context(|| format!("the lab has ended before its time; see {}", files.log().display()))?;
    down::stop(&files.pid(), pid)?;
    files.remove();
    story?;
    println!(
        "\nThe whole way, once, in {:.1} s. Captures of each network are in {}/captures.",
        began.elapsed().as_secs_f64(),
        dir.display()
    );
    Ok(())
}

fn tell(files: &LabFiles) -> anyhow::Result<()> {
    let k = Kubectl::new(&files.kubeconfig());
    let available = format!(
        "-n metal3-system wait bmh --all --for=jsonpath={{.status.provisioning.state}}=available {WAIT}"
    );

    say("Servers are registered by their BMC, and inspected: each boots the agent over the network");
    k.show(&format!("apply -f {}", files.servers().display()))?;
    k.show(&available)?;
    k.show("-n metal3-system get bmh")?;

    say("A provider offers them, and a tenant asks for a node");
    k.show("apply -f examples/")?;
    k.show("get nodetypes")?;
    k.show(&format!(
        "-n p-default wait virtualclusterinstance/one --for=condition=Ready {WAIT}"
    ))?;
    k.show("-n p-default get nodeclaims -o wide")?;
    k.show("-n metal3-system get bmh")?;

    say("In the tenant's own cluster: the node has joined, in the tenant's own network");
    let tenant = Kubectl::new(&files.tenant_kubeconfig("one"));
    tenant.show("get nodes -o wide")?;

    say("The tenant goes: node removed, network left, disks wiped and verified, server offered again");
    k.show(&format!("-n p-default delete virtualclusterinstance one {WAIT}"))?;
    k.show(&available)?;
    k.show("-n metal3-system get bmh")?;
    k.show("-n metal3-system get bmh -o custom-columns=NAME:.metadata.name,WIPED:.status.steelyard.wipe.disks[*].method,VERIFIED:.status.steelyard.wipe.disks[*].verified")
}

fn say(text: &str) {
    println!("\n== {text}");
}
