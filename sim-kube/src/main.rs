//! `sim-kube serve`: the embedded API server as a process of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use sim_kube::{AnonymousAuth, ApiServer, Options};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// An embedded Kubernetes API server: objects in memory, no nodes, no etcd.
#[derive(Parser)]
#[command(name = "sim-kube", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API over TLS until SIGINT or SIGTERM.
    #[command(after_help = "EXAMPLES:
  sim-kube serve --kubeconfig-out kubeconfig &
  kubectl --kubeconfig kubeconfig get namespaces

  sim-kube serve --listen 127.0.0.1:0 --kubeconfig-out kubeconfig --crds ./crds --token ./tokens.csv

State lives in memory and ends with the process. The kubeconfig is written once the server answers, so its
appearance means ready.")]
    Serve(Serve),
}

#[derive(Args)]
struct Serve {
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:6443", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Where to write a kubeconfig of group system:masters (mode 0600).
    #[arg(long, value_name = "FILE")]
    kubeconfig_out: PathBuf,
    /// A folder whose *.yaml, *.yml and *.json files are created at start: CRDs first of all.
    #[arg(long, value_name = "DIR")]
    crds: Option<PathBuf>,
    /// Static tokens, one a line: token,user,uid[,"group1,group2"], as kube-apiserver's --token-auth-file.
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// More names and addresses for the serving certificate.
    #[arg(long = "san", value_name = "NAME")]
    sans: Vec<String>,
    /// The URL that cluster-info tells joining nodes; by default that of --listen.
    #[arg(long, value_name = "URL")]
    advertise_url: Option<String>,
    /// Let requests without credentials be system:anonymous (403 by RBAC); by default they get 401, save for
    /// health, /version and cluster-info.
    #[arg(long)]
    anonymous_auth: bool,
    /// Seed of uids and generated names; by default another one each time.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match Cli::parse().command {
        Command::Serve(serve) => run(serve).await,
    }
}

async fn run(args: Serve) -> Result<()> {
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        format!(
            "cannot listen on {}: choose another address with --listen, or stop what uses it",
            args.listen
        )
    })?;
    let address = listener.local_addr()?;
    let url = format!("https://{address}");
    let mut options = Options::new(Arc::new(jiff::Timestamp::now));
    options.seed = args
        .seed
        .unwrap_or_else(|| jiff::Timestamp::now().as_nanosecond() as u64);
    options.advertise_url = args.advertise_url.clone().unwrap_or_else(|| url.clone());
    options.sans.push(address.ip().to_string());
    options.sans.extend(args.sans.iter().cloned());
    options.sans.sort();
    options.sans.dedup();
    if args.anonymous_auth {
        options.anonymous = AnonymousAuth::Everywhere;
    }
    let server = ApiServer::new(options);
    if let Some(file) = &args.token {
        add_tokens(&server, file)?;
    }
    if let Some(folder) = &args.crds {
        create_all(&server, folder).await?;
    }
    write_secret(&args.kubeconfig_out, &server.admin_kubeconfig(&url))?;
    tracing::info!(%url, kubeconfig = %args.kubeconfig_out.display(), "serving");
    let stop = CancellationToken::new();
    let serving = sim_kube::serve(listener, server.clone(), stop.clone());
    tokio::select! {
        biased;
        signal = signalled() => signal?,
        () = serving => {}
        () = server.run() => {}
    }
    stop.cancel();
    tracing::info!("stopped");
    Ok(())
}

async fn signalled() -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Written beside and renamed, so that a reader never sees half of it.
fn write_secret(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let part = path.with_extension("part");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)
        .with_context(|| format!("cannot write {}", part.display()))?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&part, path).with_context(|| format!("cannot write {}", path.display()))
}

fn add_tokens(server: &ApiServer, file: &Path) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    for (at, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let mut parts = line.splitn(4, ',').map(str::trim);
        let (Some(token), Some(user)) = (
            parts.next().filter(|t| !t.is_empty()),
            parts.next().filter(|u| !u.is_empty()),
        ) else {
            bail!(
                "{} line {}: expected token,user,uid[,\"group1,group2\"]",
                file.display(),
                at + 1
            );
        };
        let groups = parts.nth(1).unwrap_or_default().trim_matches('"').to_owned();
        let groups: Vec<&str> = groups
            .split(',')
            .map(str::trim)
            .filter(|g| !g.is_empty())
            .collect();
        server.add_token(token, user, &groups);
    }
    Ok(())
}

/// Creates every object of a folder through the API, as `kubectl create -f` would.
async fn create_all(server: &ApiServer, folder: &Path) -> Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot read the folder {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| {
        matches!(
            file.extension().and_then(|e| e.to_str()),
            Some("yaml" | "yml" | "json")
        )
    });
    files.sort();
    for file in files {
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        for document in text
            .split("\n---")
            .map(|d| d.trim_start_matches("---"))
            .filter(|d| {
                d.lines()
                    .any(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#'))
            })
        {
            create(server, document)
                .await
                .with_context(|| format!("in {}", file.display()))?;
        }
    }
    Ok(())
}

async fn create(server: &ApiServer, yaml: &str) -> Result<()> {
    use http_body_util::{BodyExt, Full};
    use tower::ServiceExt;
    let value: serde_json::Value = serde_saphyr::from_str(yaml).context("not YAML")?;
    if value["kind"] != "CustomResourceDefinition" {
        bail!(
            "kind {} is not CustomResourceDefinition; create other objects with kubectl",
            value["kind"]
        );
    }
    let request = http::Request::post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(bytes::Bytes::from(value.to_string())))?;
    let response = server
        .as_user("system:admin", &["system:masters"])
        .oneshot(request)
        .await?;
    if !response.status().is_success() {
        let body = response.into_body().collect().await?.to_bytes();
        let status: serde_json::Value = serde_json::from_slice(&body)?;
        bail!("{}", status["message"].as_str().unwrap_or("refused"));
    }
    Ok(())
}
