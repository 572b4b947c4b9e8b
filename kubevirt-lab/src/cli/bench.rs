//! `bench`: how long the story takes, and what it costs. Prints figures; judges nothing.

use super::{
    down,
    kubectl::{self, Kubectl},
    options::LabOptions,
    status,
    up::{running, start},
};
use crate::files::LabFiles;
use anyhow::{Context, bail};
use std::{path::PathBuf, time::Instant};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct BenchOptions {
    /// The bench's own lab; its files are removed afterwards.
    #[arg(long, default_value = "target/bench-lab")]
    dir: PathBuf,
    #[arg(long, default_value_t = 16)]
    hosts: usize,
}

pub(super) fn run(options: &BenchOptions) -> anyhow::Result<()> {
    kubectl::check_installed()?;
    let files = LabFiles::new(&options.dir);
    if let Some(pid) = running(&files) {
        bail!("a bench runs already (process {pid})");
    }
    let lab = LabOptions::standard(options.dir.clone(), options.hosts, false);
    let ready = start(&lab)?;
    let figures = measure(&files, options.hosts);
    let pid = running(&files).context("the lab has ended before its time")?;
    let peak = status::peak_mib(pid);
    down::stop(&files.pid(), pid)?;
    let (available, node) = figures?;
    println!(
        "{:<40} {:>8.2} s   (aim: below 5 s)",
        format!("start to lab ready, {} servers", options.hosts),
        ready.as_secs_f64()
    );
    println!(
        "{:<40} {:>8.2} s",
        format!("registration to available, {} servers", options.hosts),
        available
    );
    println!("{:<40} {:>8.2} s   (aim: below 5 s)", "claim to node Ready", node);
    println!("{:<40} {:>8} MiB", "peak memory of the lab", peak);
    Ok(())
}

/// Seconds from registration to the last available server, and from the tenant's wish to its Ready node.
fn measure(files: &LabFiles, hosts: usize) -> anyhow::Result<(f64, f64)> {
    let k = Kubectl::new(&files.kubeconfig());
    let began = Instant::now();
    k.run(&format!("apply -f {}", files.servers().display()))?;
    k.run("-n metal3-system wait bmh --all --for=jsonpath={.status.provisioning.state}=available --timeout=300s")?;
    let available = began.elapsed().as_secs_f64();
    k.run("apply -f examples/machine-objects.yaml -f examples/node-provider.yaml")?;
    k.run("wait nodetype/vm --for=condition=HasCapacity --timeout=60s")
        .with_context(|| format!("{hosts} servers offer nothing"))?;
    let began = Instant::now();
    k.run("apply -f examples/tenant.yaml")?;
    k.run("-n p-default wait virtualclusterinstance/one --for=condition=Ready --timeout=60s")?;
    Ok((available, began.elapsed().as_secs_f64()))
}
