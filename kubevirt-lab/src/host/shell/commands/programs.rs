//! Programs that the simulated OS ships, but for those that only move text.

use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::super::chassis::End;
use super::super::super::os::{KERNEL_VERSION, KUBERNETES_VERSION, UNITS};
use super::super::super::{curl, join};
use super::PROGRAMS;
use crate::host::shell::exec::{Flow, Shell};
use crate::host::shell::io::Io;

impl Shell {
    pub(super) async fn program(&mut self, name: &str, args: &[String], io: &Io) -> Result<u8, Flow> {
        let base = name.rsplit('/').next().unwrap_or(name);
        let known = PROGRAMS.iter().any(|(program, _)| *program == base);
        if name.contains('/') {
            let path = self.path(name);
            if self.os.fs.is_file(&path) {
                return self.script_file(&path, args, io).await;
            }
            if !known || !self.executable(&path) {
                self.complain(io, &format!("{name}: not found"));
                return Ok(127);
            }
        } else if !known {
            self.complain(io, &format!("{name}: not found"));
            return Ok(127);
        }
        self.run_program(base, args, io).await
    }

    async fn script_file(&mut self, path: &str, args: &[String], io: &Io) -> Result<u8, Flow> {
        let text = self.os.fs.read_text(path).unwrap_or_default();
        self.sub_script(path, &text, args, io).await
    }

    fn sub_script<'a>(
        &'a mut self,
        name: &'a str,
        text: &'a str,
        args: &'a [String],
        io: &'a Io,
    ) -> BoxFuture<'a, Result<u8, Flow>> {
        let mut child = self.child(name, args.to_vec());
        async move { child.run(text, io).await.map_err(Flow::Halt) }.boxed()
    }

    async fn run_program(&mut self, name: &str, args: &[String], io: &Io) -> Result<u8, Flow> {
        let first = args.first().map(String::as_str);
        let operands = || args.iter().filter(|arg| !arg.starts_with('-'));
        Ok(match name {
            "sh" | "bash" => return self.sh(args, io).await,
            "sudo" => match args.iter().position(|arg| !arg.starts_with('-')) {
                Some(at) => return self.again(&args[at], &args[at + 1..], io).await,
                None => 1,
            },
            "curl" => curl::run(&self.os, args, &self.cwd, io).boxed().await,
            "kubeadm" => join::kubeadm(&self.os, args, io).boxed().await,
            "kubelet" | "crictl" | "containerd" => {
                io.stdout.line(format!("{name} {KUBERNETES_VERSION}"));
                0
            }
            "reboot" => return Err(Flow::Halt(End::Reboot)),
            "poweroff" => return Err(Flow::Halt(End::PowerOff)),
            "shutdown" => {
                let again = args.iter().any(|arg| arg == "-r");
                return Err(Flow::Halt(if again { End::Reboot } else { End::PowerOff }));
            }
            "systemctl" => return self.systemctl(args, io),
            "sleep" => {
                let seconds = first.and_then(|text| text.trim_end_matches('s').parse::<f64>().ok());
                match seconds.filter(|seconds| (0.0..1e6).contains(seconds)) {
                    Some(seconds) => {
                        tokio::time::sleep(std::time::Duration::from_secs_f64(seconds)).await;
                        0
                    }
                    None => {
                        io.stderr.line(format!(
                            "sleep: invalid time interval '{}'",
                            first.unwrap_or_default()
                        ));
                        1
                    }
                }
            }
            "hostname" => match operands().next() {
                Some(name) => self.rename(name),
                None => {
                    io.stdout.line(self.os.hostname());
                    0
                }
            },
            "hostnamectl" => match (first, args.get(1)) {
                (Some("set-hostname" | "hostname"), Some(name)) => self.rename(name),
                (None | Some("status" | "hostname"), _) => {
                    io.stdout.line(self.os.hostname());
                    0
                }
                _ => 1,
            },
            "modprobe" | "swapoff" | "sync" => 0,
            "sysctl" => {
                for setting in operands().filter(|setting| setting.contains('=')) {
                    io.stdout.line(setting.replacen('=', " = ", 1));
                }
                0
            }
            "uname" => self.uname(first.unwrap_or("-s"), io),
            "id" => {
                io.stdout.line(if first == Some("-u") || first == Some("-g") {
                    "0"
                } else {
                    "uid=0(root) gid=0(root)"
                });
                0
            }
            "nproc" => {
                io.stdout.line(self.os.chassis.hardware.threads().to_string());
                0
            }
            "date" => {
                let now = (self.os.chassis.clock)();
                io.stdout.line(if first == Some("+%s") {
                    now.as_second().to_string()
                } else {
                    now.to_string()
                });
                0
            }
            _ => self.files(name, args, io),
        })
    }

    fn rename(&self, name: &str) -> u8 {
        u8::from(self.os.set_hostname(name).is_err())
    }

    fn uname(&self, option: &str, io: &Io) -> u8 {
        io.stdout.line(match option {
            "-r" => KERNEL_VERSION,
            "-m" | "-p" | "-i" => self.os.machine_architecture(),
            "-n" => {
                return {
                    io.stdout.line(self.os.hostname());
                    0
                };
            }
            _ => "Linux",
        });
        0
    }

    /// `sh`, `sh -`, `sh -c text`, `sh file args`.
    async fn sh(&mut self, args: &[String], io: &Io) -> Result<u8, Flow> {
        let mut rest = args;
        let mut options = Vec::new();
        while let Some((option, tail)) = rest.split_first().filter(|(arg, _)| arg.starts_with('-')) {
            rest = tail;
            match option.as_str() {
                "-c" => {
                    let Some((text, tail)) = rest.split_first() else {
                        self.complain(io, "-c requires an argument");
                        return Ok(2);
                    };
                    let (name, arguments) = tail
                        .split_first()
                        .map_or(("sh", &[][..]), |(n, a)| (n.as_str(), a));
                    return self.sub_shell(name, arguments, &options, text, io).await;
                }
                "-" | "-s" | "--" => break,
                option => options.push(option.to_owned()),
            }
        }
        let stdin = args.is_empty() || args.iter().any(|arg| arg == "-" || arg == "-s") || rest.is_empty();
        if stdin {
            let text = String::from_utf8_lossy(&io.read_all()).into_owned();
            return self.sub_shell("sh", rest, &options, &text, io).await;
        }
        let path = self.path(&rest[0]);
        match self.os.fs.read_text(&path) {
            Some(text) => self.sub_shell(&rest[0], &rest[1..], &options, &text, io).await,
            None => {
                self.complain(io, &format!("cannot open {}: No such file", rest[0]));
                Ok(2)
            }
        }
    }

    async fn sub_shell(
        &mut self,
        name: &str,
        arguments: &[String],
        options: &[String],
        text: &str,
        io: &Io,
    ) -> Result<u8, Flow> {
        let options = if options.is_empty() {
            String::new()
        } else {
            format!("set {}; ", options.join(" "))
        };
        self.sub_script(name, &format!("{options}{text}"), arguments, io)
            .await
    }

    fn systemctl(&mut self, args: &[String], io: &Io) -> Result<u8, Flow> {
        let mut words = args
            .iter()
            .filter(|arg| !arg.starts_with('-'))
            .map(String::as_str);
        let now = args.iter().any(|arg| arg == "--now");
        let verb = words.next().unwrap_or("list-units");
        match verb {
            "reboot" => return Err(Flow::Halt(End::Reboot)),
            "poweroff" | "halt" => return Err(Flow::Halt(End::PowerOff)),
            "daemon-reload" | "list-units" | "reset-failed" => return Ok(0),
            _ => {}
        }
        let mut status = 0;
        for unit in words {
            let unit = unit.trim_end_matches(".service");
            let file = format!("/etc/systemd/system/{unit}.service");
            if !UNITS.contains(&unit) && !self.os.fs.is_file(&file) {
                io.stderr.line(format!(
                    "Failed to {verb} {unit}.service: Unit {unit}.service not found."
                ));
                status = 5;
                continue;
            }
            if unit == "kubelet" {
                status = self.os.kubelet_service(verb, now, io).max(status);
            } else if ![
                "start",
                "stop",
                "restart",
                "enable",
                "disable",
                "is-active",
                "is-enabled",
                "status",
                "mask",
                "unmask",
                "reload",
                "try-restart",
            ]
            .contains(&verb)
            {
                io.stderr.line(format!("Unknown command verb '{verb}'."));
                status = 1;
            }
        }
        Ok(status)
    }
}
