//! `sim-fabric serve`: a fabric on its own, with its management API on a socket. Its ports stay empty, since
//! frames live in the process of a lab; what it is good for is writing and trying clients of the API.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use clap::{Parser, Subcommand};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sim_fabric::{FabricHandle, Settings, Topology, serve};
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
#[command(
    version,
    about = "User-space leaf switches, managed through the API of a real fabric"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves the Netris API of a topology.
    Serve(Serve),
}

#[derive(clap::Args)]
struct Serve {
    #[arg(long, default_value = "127.0.0.1:8444")]
    listen: SocketAddr,
    /// YAML; see examples/site.yaml.
    #[arg(long)]
    topology: PathBuf,
    #[arg(long, default_value = "netris")]
    user: String,
    #[arg(long, env = "SIM_FABRIC_PASSWORD", hide_env_values = true)]
    password: String,
    /// From a change's acceptance to the switches having it.
    #[arg(long, default_value_t = 200, value_name = "MILLISECONDS")]
    commit_delay: u64,
    /// Plain HTTP instead of TLS with a self-signed certificate.
    #[arg(long)]
    http: bool,
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    let Command::Serve(args) = Cli::parse().command;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run(args))
}

async fn run(args: Serve) -> anyhow::Result<()> {
    let text = fs::read_to_string(&args.topology)
        .with_context(|| format!("--topology {} cannot be read", args.topology.display()))?;
    let topology: Topology = serde_saphyr::from_str(&text)
        .with_context(|| format!("--topology {} is no topology", args.topology.display()))?;
    let settings = Settings {
        commit_delay: Duration::from_millis(args.commit_delay),
        ..Settings::default()
    };
    let fabric = FabricHandle::with_settings(topology, Arc::new(jiff::Timestamp::now), settings)?;
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("--listen {} is not free", args.listen))?;
    let tls = if args.http {
        None
    } else {
        Some(self_signed(args.listen)?)
    };
    tracing::info!(listen = %listener.local_addr()?, tls = tls.is_some(), "management API ready");
    let stop = CancellationToken::new();
    let router = fabric.netris(&args.user, &args.password);
    tokio::select! {
        () = fabric.run() => {}
        () = serve(listener, router, tls, stop.clone()) => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    stop.cancel();
    fabric.close();
    Ok(())
}

fn self_signed(listen: SocketAddr) -> anyhow::Result<Arc<rustls::ServerConfig>> {
    let made = rcgen::generate_simple_self_signed([listen.ip().to_string(), "localhost".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)?;
    Ok(Arc::new(config))
}
