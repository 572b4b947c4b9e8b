//! `run`: the suite on a target, its report, and a table for people.

use crate::target::{KubeconfigOptions, KubeconfigTarget, LabTarget, examples};
use anyhow::{Context, bail};
use std::{collections::BTreeMap, path::PathBuf, process::Command};
use steelyard_suite::{Feature, Limits, Outcome, Profile, Report, RunOptions};

/// The suite's story needs so many: two that are registered well, two with a mistake.
const HOSTS_MIN: usize = 4;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct RunArgs {
    /// What the target wants to conform to: quick, metal3.
    #[arg(long, default_value = "quick")]
    profile: String,
    /// Where report.{json,xml,html} are written.
    #[arg(long, default_value = "target/conformance")]
    report: PathBuf,
    /// Don't run a check: counted as not run, with the reason in the report. May be repeated.
    #[arg(long, value_name = "ID=REASON", value_parser = exclusion)]
    exclude: Vec<(String, String)>,
    /// YAML that makes a provider, an image and the tenant `one` in p-default; default: the repository's examples/.
    #[arg(long)]
    platform: Option<PathBuf>,
    /// How patient to be: lab or rack. Default: lab for a lab of its own, rack for a cluster.
    #[arg(long)]
    limits: Option<Patience>,
    /// The embedded lab's seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Servers of the embedded lab.
    #[arg(long, default_value_t = HOSTS_MIN, value_parser = hosts)]
    hosts: usize,
    /// Let the embedded lab run at the pace of the wall's clock. Otherwise its clock jumps over every wait, so that a
    /// busy machine changes no verdict.
    #[arg(long)]
    real_time: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "A cluster instead of an embedded lab")]
struct ClusterArgs {
    /// Test this cluster.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Secrets and BareMetalHosts of servers that the suite may use; not registered yet.
    #[arg(long, default_value = ".lab/servers.yaml", requires = "kubeconfig")]
    servers: PathBuf,
    /// A kubeconfig for tenant `one` that works from here, once it is there; else the one in its Secret is used.
    #[arg(long, default_value = ".lab/tenants/one.kubeconfig", requires = "kubeconfig")]
    tenant_kubeconfig: PathBuf,
    /// The servers may be wiped, handed to a tenant, and deleted. Without it most checks are not run.
    #[arg(long, requires = "kubeconfig")]
    destructive: bool,
    /// Claim a feature that the API does not show: isolation, wipe-evidence. May be repeated.
    #[arg(long, value_parser = feature, requires = "kubeconfig")]
    feature: Vec<Feature>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Patience {
    Lab,
    Rack,
}

fn exclusion(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((id, reason)) if !id.is_empty() && !reason.trim().is_empty() => {
            Ok((id.to_owned(), reason.to_owned()))
        }
        _ => Err("an exclusion is ID=REASON: the report says why".into()),
    }
}

fn hosts(text: &str) -> Result<usize, String> {
    let hosts: usize = text.parse().map_err(|e| format!("{e}"))?;
    if hosts < HOSTS_MIN {
        Err(format!("the story needs at least {HOSTS_MIN}"))
    } else {
        Ok(hosts)
    }
}

fn feature(text: &str) -> Result<Feature, String> {
    let all = [Feature::Platform, Feature::Isolation, Feature::WipeEvidence];
    all.into_iter().find(|f| f.as_str() == text).ok_or_else(|| {
        let known: Vec<&str> = all.iter().map(|f| f.as_str()).collect();
        format!("known features are {}", known.join(", "))
    })
}

pub(super) fn run(args: &RunArgs) -> anyhow::Result<u8> {
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("STEELYARD_LOG").unwrap_or_else(|_| "error".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let embedded = args.cluster.kubeconfig.is_none();
    let patience = args
        .limits
        .unwrap_or(if embedded { Patience::Lab } else { Patience::Rack });
    let options = RunOptions {
        profile: Profile::named(&args.profile).map_err(anyhow::Error::msg)?,
        limits: match patience {
            Patience::Lab => Limits::lab(),
            Patience::Rack => Limits::rack(),
        },
        excluded: args.exclude.iter().cloned().collect::<BTreeMap<_, _>>(),
        seed: embedded.then_some(args.seed),
        commit: commit(),
        began: jiff::Timestamp::now(),
    };
    if let [unknown, ..] = options.unknown_exclusions()[..] {
        bail!("--exclude {unknown}: there is no such check; see steelyard-conformance catalogue");
    }
    // Clocks of machines and protocols follow tokio's: paused, it jumps to the next thing that is due.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(embedded && !args.real_time)
        .build()?;
    let report = runtime.block_on(report(args, &options))?;
    let written = report
        .write(&args.report)
        .with_context(|| format!("{} can't be written", args.report.display()))?;
    print(&report, &written);
    Ok(report.verdict.exit_code())
}

async fn report(args: &RunArgs, options: &RunOptions) -> anyhow::Result<Report> {
    let platform = args.platform.clone().unwrap_or_else(examples);
    let Some(kubeconfig) = args.cluster.kubeconfig.clone() else {
        println!("seed {}: {} servers in memory", args.seed, args.hosts);
        let target = LabTarget::start(args.hosts, args.seed, &platform).await?;
        let report = steelyard_suite::run(&target, options).await;
        target.end().await;
        return Ok(report);
    };
    let cluster = KubeconfigOptions {
        kubeconfig,
        servers: args.cluster.servers.clone(),
        platform,
        tenant_kubeconfig: Some(args.cluster.tenant_kubeconfig.clone()),
        destructive: args.cluster.destructive,
        features: args.cluster.feature.clone(),
    };
    let target = KubeconfigTarget::connect(&cluster).await?;
    if !cluster.destructive {
        println!("without --destructive servers are only registered and inspected; other checks are not run");
    }
    Ok(steelyard_suite::run(&target, options).await)
}

/// The commit that this was built from, if it still lies where it was built.
fn commit() -> Option<String> {
    if let Some(told) = option_env!("STEELYARD_COMMIT") {
        return Some(told.to_owned());
    }
    let output = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "HEAD"])
        .output()
        .ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}

fn print(report: &Report, written: &[PathBuf]) {
    for check in &report.checks {
        println!("{:<15} {}", check.outcome.as_str(), check.id);
        if check.outcome != Outcome::Pass {
            for text in &check.details {
                println!("{:<15}   {text}", "");
            }
        }
    }
    if let Some(why) = &report.broke {
        println!("the run ended before its time: {why}");
    }
    let paths: Vec<String> = written.iter().map(|p| p.display().to_string()).collect();
    println!(
        "profile {} on {}: {}",
        report.profile.name,
        report.target.name,
        report.verdict.as_str()
    );
    println!("{}", report.summary());
    println!("reports: {}", paths.join(" "));
}
