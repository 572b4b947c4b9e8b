//! `up`: starts the lab in the background and waits until it is ready.

use super::{kubectl, options::LabOptions};
use crate::{files::LabFiles, lab::ControllerMode};
use anyhow::{Context, bail};
use std::{
    fs,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Far beyond what a thousand servers take.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the lab's process begins its error with.
const LAST_WORD: &str = "steelyard-lab: ";
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(super) fn run(options: &LabOptions) -> anyhow::Result<()> {
    kubectl::check_installed()?;
    let files = LabFiles::new(&options.dir);
    if let Some(pid) = running(&files) {
        println!("The lab runs already (process {pid}).");
        next_steps(&files, options.register);
        return Ok(());
    }
    // What is wrong with the flags is said here, not in a log.
    let servers = options.config()?.plan.hosts.len();
    let took = start(options)?;
    println!(
        "The lab is ready: {} servers in {:.1} s.",
        servers,
        took.as_secs_f64()
    );
    next_steps(&files, options.register);
    Ok(())
}

/// The process id of the lab that uses `files`, if one runs.
pub(super) fn running(files: &LabFiles) -> Option<i32> {
    alive(&files.pid())
}

/// The process that a pid file names, if it is one of ours and runs.
pub(super) fn alive(file: &Path) -> Option<i32> {
    let pid: i32 = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    // A number may have been given to somebody else since.
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (name.trim().starts_with("steelyard-lab") && !is_zombie(pid)).then_some(pid)
}

/// Ended, but its parent (a shell that still runs, or we ourselves) has not looked yet.
fn is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|s| s.rsplit(')').next().is_some_and(|s| s.trim().starts_with('Z')))
}

/// Starts a lab and waits until it is ready; how long that took.
pub(super) fn start(options: &LabOptions) -> anyhow::Result<Duration> {
    let files = LabFiles::new(&options.dir);
    files.remove();
    files.remove_captures();
    fs::create_dir_all(options.dir.join("log")).with_context(|| options.dir.display().to_string())?;
    let log = fs::File::create(files.log()).with_context(|| files.log().display().to_string())?;
    let started = Instant::now();
    let mut child = Command::new(std::env::current_exe()?)
        .arg("run")
        .args(options.to_flags())
        // kubectl's cluster is no business of the lab.
        .env_remove("KUBECONFIG")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // The terminal's Ctrl-C is not for it.
        .process_group(0)
        .spawn()
        .context("the lab can't be started")?;
    fs::write(files.pid(), child.id().to_string())?;
    let ready = wait(&files, &mut child, started)?;
    if options.controller == ControllerMode::Process {
        start_controller(&files, options)?;
    }
    Ok(ready)
}

/// The controller as a process of its own; it ends when the lab's fabric does.
fn start_controller(files: &LabFiles, options: &LabOptions) -> anyhow::Result<()> {
    let path = options.dir.join("log/controller.log");
    let log = fs::File::create(&path).with_context(|| path.display().to_string())?;
    let child = Command::new(std::env::current_exe()?)
        .arg("controller")
        .arg("--dir")
        .arg(&options.dir)
        .env_remove("KUBECONFIG")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .context("the controller can't be started")?;
    fs::write(files.controller_pid(), child.id().to_string())?;
    Ok(())
}

fn wait(files: &LabFiles, child: &mut Child, started: Instant) -> anyhow::Result<Duration> {
    loop {
        if files.is_ready() {
            return Ok(started.elapsed());
        }
        if let Some(status) = child.try_wait()? {
            bail!("the lab ended ({status}):\n{}", tail(files));
        }
        if started.elapsed() > PATIENCE {
            // It would be in the way of the next.
            let _ = child.kill();
            bail!(
                "the lab was not ready within {} s:\n{}",
                PATIENCE.as_secs(),
                tail(files)
            );
        }
        wait_a_little();
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a process without a runtime waits for another process"
)]
pub(super) fn wait_a_little() {
    std::thread::sleep(LOOK_EVERY);
}

fn tail(files: &LabFiles) -> String {
    let text = fs::read_to_string(files.log()).unwrap_or_default();
    // Its last word, if it had one; else what it did last.
    if let Some(at) = text.rfind(LAST_WORD) {
        return text[at + LAST_WORD.len()..].trim_end().to_owned();
    }
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

fn next_steps(files: &LabFiles, registered: bool) {
    let kubeconfig = fs::canonicalize(files.kubeconfig()).unwrap_or_else(|_| files.kubeconfig());
    println!("\n  export KUBECONFIG={}", kubeconfig.display());
    if registered {
        println!("  kubectl -n metal3-system get bmh              # the servers become available");
        println!(
            "  kubectl apply -f examples/machine-objects.yaml -f examples/tenant.yaml   # a tenant with one node"
        );
    } else {
        println!(
            "  kubectl apply -f {}        # register the servers",
            files.servers().display()
        );
        println!("  kubectl -n metal3-system get bmh              # watch them become available");
        println!(
            "  kubectl apply -f examples/                    # a provider, an image, a tenant with one node"
        );
    }
    println!("  make lab-status                               # what everything is doing");
    println!("  make lab-down                                 # stop");
}
