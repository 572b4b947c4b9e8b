//! The real kubectl, as users run it.

use anyhow::{Context, bail};
use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// kubectl against one cluster.
#[derive(Clone, Debug)]
pub(super) struct Kubectl {
    kubeconfig: PathBuf,
}

impl Kubectl {
    pub(super) fn new(kubeconfig: &Path) -> Self {
        Kubectl {
            kubeconfig: kubeconfig.to_owned(),
        }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(line.split_whitespace())
            .stdin(Stdio::null());
        command
    }

    /// Runs `kubectl LINE` and returns what it printed; fails with what it complained of.
    pub(super) fn run(&self, line: &str) -> anyhow::Result<String> {
        let output = self.command(line).output().context("kubectl can't be run")?;
        text(line, output)
    }

    /// Prints the command and its output as a person would see them.
    pub(super) fn show(&self, line: &str) -> anyhow::Result<()> {
        println!("\n$ kubectl {line}");
        print!("{}", self.run(line)?);
        Ok(())
    }
}

fn text(line: &str, output: Output) -> anyhow::Result<String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "kubectl {line}: {}{stdout}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(stdout)
}

/// Says how to get kubectl where it is missing.
pub(super) fn check_installed() -> anyhow::Result<()> {
    match Command::new("kubectl")
        .arg("version")
        .arg("--client")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
    {
        Ok(status) if status.success() => Ok(()),
        _ => bail!(
            "kubectl (1.23 or newer) is not installed, and the lab is used with it: \
             see https://kubernetes.io/docs/tasks/tools/"
        ),
    }
}
