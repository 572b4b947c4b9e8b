//! `sim-bmc`: one BMC, stand-alone, over a machine that exists in memory.

use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use sim_bmc::{
    BmcHandle, Config, Identity, Mac, MachineState, MemoryMachine, MemoryTimings, Password, Personality,
    Power,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// A Redfish BMC emulator that real clients believe.
#[derive(Parser)]
#[command(name = "sim-bmc", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve one BMC until interrupted.
    Serve(Serve),
    /// List the personalities.
    Personalities,
}

#[derive(Args)]
#[command(after_help = "\
Example:
  sim-bmc serve --personality dgx-h100 --username admin --password secret
  curl -k -u admin:secret https://127.0.0.1:8443/redfish/v1/Systems/1

The machine behind the BMC lives in memory: it powers on, passes POST, boots, and obeys resets.
RUST_LOG=sim_bmc=debug shows what happens.")]
struct Serve {
    /// Address and port to listen on.
    #[arg(long, default_value = "127.0.0.1:8443", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Which server to be: see `sim-bmc personalities`.
    #[arg(long, default_value = "small-vm", value_name = "NAME")]
    personality: String,
    /// A personality of your own: a YAML file like those in src/personality.
    #[arg(long, value_name = "FILE", conflicts_with = "personality")]
    personality_file: Option<std::path::PathBuf>,
    /// The administrator's name.
    #[arg(long, default_value = "admin", value_name = "U")]
    username: String,
    /// The administrator's password; any is accepted here, without length rules.
    #[arg(long, env = "SIM_BMC_PASSWORD", hide_env_values = true, value_name = "P")]
    password: String,
    /// Speak plain HTTP instead of HTTPS with a self-signed certificate.
    #[arg(long)]
    http: bool,
    /// The server's serial number; UUID and MAC addresses follow from it.
    #[arg(long, default_value = "SIMBMC0001", value_name = "TEXT")]
    serial: String,
    /// Milliseconds that each power step takes, instead of the personality's.
    #[arg(long, value_name = "MS")]
    power_ms: Option<u32>,
    /// Start with the machine powered on.
    #[arg(long)]
    powered_on: bool,
    /// Makes session tokens reproducible; random if left out.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(io::stderr)
        .init();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sim-bmc: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Personalities => {
            let mut out = io::stdout().lock();
            for name in Personality::names() {
                writeln!(out, "{name}")?;
            }
            Ok(())
        }
        // One BMC needs one thread.
        Command::Serve(args) => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?
            .block_on(serve(args)),
    }
}

fn personality(args: &Serve) -> anyhow::Result<Personality> {
    let mut personality = match &args.personality_file {
        None => Personality::named(&args.personality)?,
        Some(path) => {
            let name = path.display().to_string();
            let yaml = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
            Personality::from_yaml(&name, &yaml)?
        }
    };
    if let Some(ms) = args.power_ms {
        personality.timings = personality.timings.with_power_ms(ms);
    }
    personality.https_port = args.listen.port();
    Ok(personality)
}

/// UUID and MACs that are the same for the same serial number.
fn identity(serial: &str, nics: usize) -> Identity {
    use sha2::{Digest as _, Sha256};
    let digest: [u8; 32] = Sha256::digest(serial.as_bytes()).into();
    // 52:54:00 is the locally administered prefix that virtual NICs use; four bits of the last octet count ports.
    let mac = |port: usize| {
        Mac([
            0x52,
            0x54,
            0x00,
            digest[16],
            digest[17],
            (digest[18] & 0xf0) | (port & 0x0f) as u8,
        ])
    };
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest[..16]);
    Identity {
        serial: serial.to_owned(),
        uuid: uuid::Builder::from_custom_bytes(uuid).into_uuid(),
        macs: (0..nics).map(mac).collect(),
        bmc_mac: mac(15),
    }
}

fn random_seed() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("the operating system gives no random numbers"))?;
    Ok(u64::from_be_bytes(bytes))
}

async fn serve(args: Serve) -> anyhow::Result<()> {
    let personality = personality(&args)?;
    let hardware = personality.hardware(&identity(&args.serial, personality.nic_count()))?;
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        format!(
            "cannot listen on {}; is another program using that port? choose one with --listen",
            args.listen
        )
    })?;
    let address = listener.local_addr()?;
    let tls = match args.http {
        true => None,
        false => Some(sim_bmc::self_signed(
            &certificate_names(address.ip()),
            &args.serial,
        )?),
    };
    let config = Config {
        hardware,
        personality,
        username: args.username.clone(),
        password: Password::new(args.password),
        seed: args.seed.map_or_else(random_seed, Ok)?,
    };
    let initial = if args.powered_on {
        MachineState {
            power: Power::On,
            ..MachineState::ON
        }
    } else {
        MachineState::OFF
    };
    let machine = MemoryMachine::new(initial, MemoryTimings::default());
    let bmc = BmcHandle::new(config, Arc::new(machine.clone()), Arc::new(Timestamp::now));
    let scheme = if args.http { "http" } else { "https" };
    writeln!(
        io::stdout(),
        "{scheme}://{address}/redfish/v1 user {}",
        args.username
    )?;
    // None of the others returns; when the signal comes, dropping them ends every connection.
    tokio::select! {
        () = interrupted() => {}
        () = bmc.run() => {}
        () = machine.run(bmc.clone()) => {}
        () = sim_bmc::serve(listener, bmc.clone(), tls, CancellationToken::new()) => {}
    }
    Ok(())
}

fn certificate_names(ip: IpAddr) -> Vec<String> {
    let mut names = vec!["localhost".to_owned()];
    let shown = if ip.is_unspecified() {
        IpAddr::from([127, 0, 0, 1])
    } else {
        ip
    };
    names.push(shown.to_string());
    names
}

/// Until Ctrl-C or SIGTERM. Where a signal cannot be watched, the default action ends the process as well.
async fn interrupted() {
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}
