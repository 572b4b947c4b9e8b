//! `down`: stops the lab and waits until nothing of it is left.

use super::up::{alive, running, wait_a_little};
use crate::files::LabFiles;
use anyhow::bail;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    path::Path,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn run(dir: &Path) -> anyhow::Result<()> {
    let files = LabFiles::new(dir);
    if let Some(pid) = alive(&files.controller_pid()) {
        stop(&files.controller_pid(), pid)?;
    }
    match running(&files) {
        None => println!("No lab runs."),
        Some(pid) => {
            stop(&files.pid(), pid)?;
            println!("The lab is stopped. Logs and captures are in {}.", dir.display());
        }
    }
    files.remove();
    Ok(())
}

pub(super) fn stop(file: &Path, pid: i32) -> anyhow::Result<()> {
    let Some(process) = Pid::from_raw(pid) else {
        bail!("{pid} is no process id")
    };
    let began = Instant::now();
    let mut signal = Signal::TERM;
    // Gone already is as good.
    let _ = kill_process(process, signal);
    while alive(file) == Some(pid) {
        if began.elapsed() > PATIENCE && signal == Signal::TERM {
            signal = Signal::KILL;
            let _ = kill_process(process, signal);
        }
        if began.elapsed() > 2 * PATIENCE {
            bail!("process {pid} does not end");
        }
        wait_a_little();
    }
    Ok(())
}
