//! Built-in commands, and the programs that the simulated OS ships.

use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::chassis::End;
use super::super::os::{KUBERNETES_VERSION, UNITS};
use super::super::{curl, join};
use super::exec::{Flow, Io, Shell, Variable};

const BUILTINS: &[&str] = &[
    ":", "true", "false", "echo", "printf", "test", "[", "exit", "return", "break", "continue", "set", "export", "unset",
    "readonly", "local", "shift", "cd", "pwd", "read", "command", "type", "eval", ".", "umask", "trap",
];

/// Programs, and where `command -v` finds them.
const PROGRAMS: &[(&str, &str)] = &[
    ("basename", "/usr/bin"),
    ("bash", "/usr/bin"),
    ("cat", "/usr/bin"),
    ("chmod", "/usr/bin"),
    ("chown", "/usr/bin"),
    ("containerd", "/usr/bin"),
    ("cp", "/usr/bin"),
    ("crictl", "/usr/bin"),
    ("curl", "/usr/bin"),
    ("cut", "/usr/bin"),
    ("date", "/usr/bin"),
    ("dirname", "/usr/bin"),
    ("grep", "/usr/bin"),
    ("head", "/usr/bin"),
    ("hostname", "/usr/bin"),
    ("hostnamectl", "/usr/bin"),
    ("id", "/usr/bin"),
    ("install", "/usr/bin"),
    ("kubeadm", "/usr/bin"),
    ("kubelet", "/usr/bin"),
    ("ls", "/usr/bin"),
    ("mkdir", "/usr/bin"),
    ("modprobe", "/usr/sbin"),
    ("mv", "/usr/bin"),
    ("nproc", "/usr/bin"),
    ("poweroff", "/usr/sbin"),
    ("reboot", "/usr/sbin"),
    ("rm", "/usr/bin"),
    ("sh", "/usr/bin"),
    ("shutdown", "/usr/sbin"),
    ("sleep", "/usr/bin"),
    ("sudo", "/usr/bin"),
    ("swapoff", "/usr/sbin"),
    ("sync", "/usr/bin"),
    ("sysctl", "/usr/sbin"),
    ("systemctl", "/usr/bin"),
    ("tail", "/usr/bin"),
    ("tee", "/usr/bin"),
    ("touch", "/usr/bin"),
    ("tr", "/usr/bin"),
    ("uname", "/usr/bin"),
    ("wc", "/usr/bin"),
];

impl Shell {
    /// Runs a command by name; its status.
    pub(super) async fn builtin(&mut self, name: &str, args: &[String], io: &Io) -> Result<u8, Flow> {
        let first = args.first().map(String::as_str);
        let number = |default: u8| first.and_then(|text| text.parse::<u32>().ok()).map_or(default, |n| n as u8);
        Ok(match name {
            ":" | "true" | "umask" | "trap" => 0,
            "false" => 1,
            "echo" => echo(args, io),
            "printf" => self.printf(args, io),
            "test" => self.test(args, io),
            "[" => match args.split_last() {
                Some((last, rest)) if last == "]" => self.test(rest, io),
                _ => {
                    self.complain(io, "[: missing ]");
                    2
                }
            },
            "exit" => return Err(Flow::Exit(number(self.status))),
            "return" => return Err(Flow::Return(number(self.status))),
            "break" => return Err(Flow::Break(u32::from(number(1).max(1)))),
            "continue" => return Err(Flow::Continue(u32::from(number(1).max(1)))),
            "set" => self.set_options(args, io),
            "export" | "readonly" | "local" => self.export(name == "export", args),
            "unset" => {
                for name in args {
                    self.variables.remove(name);
                    self.functions.remove(name);
                }
                0
            }
            "shift" => {
                let count = usize::from(number(1));
                let enough = count <= self.arguments.len();
                if enough {
                    self.arguments.drain(..count);
                }
                u8::from(!enough)
            }
            "cd" => self.change_dir(first.unwrap_or("/root"), io),
            "pwd" => {
                io.stdout.line(&self.cwd);
                0
            }
            "read" => match io.read_line() {
                Some(line) => {
                    self.read_into(args, &line);
                    0
                }
                None => 1,
            },
            "command" => return self.command_builtin(args, io).await,
            "type" => self.find(args, io),
            "eval" => return self.source(args.join(" ").as_str(), io).await,
            "." => {
                let path = self.path(first.unwrap_or_default());
                match self.os.fs.read_text(&path) {
                    Some(text) => return self.source(&text, io).await,
                    None => {
                        self.complain(io, &format!(".: cannot open {path}: No such file"));
                        return Err(Flow::Exit(2));
                    }
                }
            }
            _ => return self.program(name, args, io).await,
        })
    }

    /// Text that runs in this very shell.
    fn source<'a>(&'a mut self, text: &str, io: &'a Io) -> BoxFuture<'a, Result<u8, Flow>> {
        let script = super::parse::parse(text);
        async move {
            match script {
                Ok(script) => {
                    self.status = 0;
                    self.run_here(&script, io).await?;
                    Ok(self.status)
                }
                Err(error) => {
                    io.stderr.line(error.to_string());
                    Err(Flow::Exit(2))
                }
            }
        }
        .boxed()
    }

    async fn command_builtin(&mut self, args: &[String], io: &Io) -> Result<u8, Flow> {
        match args.split_first() {
            Some((option, names)) if option == "-v" || option == "-V" => Ok(self.find(names, io)),
            Some((name, rest)) => self.again(name, rest, io).await,
            None => Ok(0),
        }
    }

    fn again<'a>(&'a mut self, name: &'a str, args: &'a [String], io: &'a Io) -> BoxFuture<'a, Result<u8, Flow>> {
        self.builtin(name, args, io).boxed()
    }

    fn find(&self, names: &[String], io: &Io) -> u8 {
        let mut missing = names.is_empty();
        for name in names {
            let program = PROGRAMS.iter().find(|(program, _)| program == name);
            match program {
                _ if BUILTINS.contains(&name.as_str()) || self.functions.contains_key(name) => io.stdout.line(name),
                Some((program, folder)) => io.stdout.line(format!("{folder}/{program}")),
                None if name.starts_with('/') && self.executable(name) => io.stdout.line(name),
                None => missing = true,
            }
        }
        // POSIX: 127 would be allowed, dash says 127 as well.
        if missing { 127 } else { 0 }
    }

    fn executable(&self, path: &str) -> bool {
        let builtin = PROGRAMS.iter().any(|(name, folder)| {
            path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')) == Some(name)
                || path == format!("/bin/{name}")
        });
        builtin || self.os.fs.is_file(path)
    }

    fn set_options(&mut self, args: &[String], io: &Io) -> u8 {
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let on = match arg.chars().next() {
                Some('-') => true,
                Some('+') => false,
                _ => {
                    self.arguments = std::iter::once(arg).chain(args).cloned().collect();
                    return 0;
                }
            };
            if arg == "--" {
                self.arguments = args.cloned().collect();
                return 0;
            }
            for letter in arg.chars().skip(1) {
                match letter {
                    'e' => self.options.errexit = on,
                    'u' => self.options.nounset = on,
                    'x' => self.options.xtrace = on,
                    'o' => match args.next().map(String::as_str) {
                        Some("pipefail") => self.options.pipefail = on,
                        Some("errexit") => self.options.errexit = on,
                        Some("nounset") => self.options.nounset = on,
                        Some("xtrace") => self.options.xtrace = on,
                        other => {
                            self.complain(io, &format!("set: Illegal option -o {}", other.unwrap_or_default()));
                            return 2;
                        }
                    },
                    'a' | 'f' | 'h' | 'v' | 'C' => {}
                    letter => {
                        self.complain(io, &format!("set: Illegal option -{letter}"));
                        return 2;
                    }
                }
            }
        }
        0
    }

    fn export(&mut self, export: bool, args: &[String]) -> u8 {
        for arg in args {
            let (name, value) = arg.split_once('=').map_or((arg.as_str(), None), |(n, v)| (n, Some(v.to_owned())));
            let old = self.variables.get(name).cloned();
            let exported = export || old.as_ref().is_some_and(|old| old.exported);
            let value = value.or(old.map(|old| old.value)).unwrap_or_default();
            self.variables.insert(name.to_owned(), Variable { value, exported });
        }
        0
    }

    fn change_dir(&mut self, to: &str, io: &Io) -> u8 {
        let path = self.path(to);
        // `/root`, `/tmp` and the like exist in any image, with or without files.
        let usual = ["/", "/root", "/tmp", "/opt", "/etc", "/var", "/usr", "/home"].contains(&path.trim_end_matches('/'));
        if usual || self.os.fs.is_dir(&path) {
            self.cwd = path;
            return 0;
        }
        self.complain(io, &format!("cd: can't cd to {to}"));
        2
    }

    fn read_into(&mut self, args: &[String], line: &str) {
        let names: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
        let mut rest = line.trim();
        for (index, name) in names.iter().enumerate() {
            let (value, left) = match rest.split_once([' ', '\t']) {
                Some((value, left)) if index + 1 < names.len() => (value, left.trim_start()),
                _ => (rest, ""),
            };
            self.set(name, value.to_owned());
            rest = left;
        }
    }

    /// `test` with one, two or three arguments, `!`, and those joined by `-a` or `-o`.
    fn test(&self, args: &[String], io: &Io) -> u8 {
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        match self.evaluate(&words) {
            Some(holds) => u8::from(!holds),
            None => {
                self.complain(io, &format!("test: unexpected operator: {}", words.join(" ")));
                2
            }
        }
    }

    fn evaluate(&self, words: &[&str]) -> Option<bool> {
        for (operator, both) in [("-o", false), ("-a", true)] {
            if let Some(at) = words.iter().position(|word| *word == operator).filter(|at| *at > 0) {
                let (left, right) = (self.evaluate(&words[..at])?, self.evaluate(&words[at + 1..])?);
                return Some(if both { left && right } else { left || right });
            }
        }
        let number = |text: &str| text.trim().parse::<i64>().ok();
        match words {
            [] => Some(false),
            ["!", rest @ ..] if !rest.is_empty() => self.evaluate(rest).map(|holds| !holds),
            [word] => Some(!word.is_empty()),
            ["-n", word] => Some(!word.is_empty()),
            ["-z", word] => Some(word.is_empty()),
            ["-e", path] => {
                let path = self.path(path);
                Some(self.os.fs.exists(&path) || self.executable(&path))
            }
            ["-f", path] => Some(self.os.fs.is_file(&self.path(path))),
            ["-d", path] => Some(self.os.fs.is_dir(&self.path(path))),
            ["-r" | "-w", path] => Some(self.os.fs.is_file(&self.path(path))),
            ["-x", path] => Some(self.executable(&self.path(path))),
            ["-s", path] => Some(self.os.fs.read(&self.path(path)).is_ok_and(|content| !content.is_empty())),
            ["-t" | "-L" | "-h" | "-S", _] => Some(false),
            [left, "=" | "==", right] => Some(left == right),
            [left, "!=", right] => Some(left != right),
            [left, operator, right] => {
                let (left, right) = (number(left)?, number(right)?);
                match *operator {
                    "-eq" => Some(left == right),
                    "-ne" => Some(left != right),
                    "-lt" => Some(left < right),
                    "-le" => Some(left <= right),
                    "-gt" => Some(left > right),
                    "-ge" => Some(left >= right),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn printf(&self, args: &[String], io: &Io) -> u8 {
        let Some((format, mut rest)) = args.split_first() else { return 2 };
        let mut out = String::new();
        loop {
            let before = rest.len();
            let mut chars = format.chars();
            while let Some(c) = chars.next() {
                match c {
                    '\\' => escape(&mut chars, &mut out),
                    '%' => match chars.next() {
                        Some('%') => out.push('%'),
                        Some(kind) => {
                            let value = rest.first().map(String::as_str).unwrap_or_default();
                            rest = rest.get(1..).unwrap_or_default();
                            match kind {
                                'd' | 'i' | 'u' => out.push_str(&value.trim().parse::<i64>().unwrap_or(0).to_string()),
                                'b' => {
                                    let mut chars = value.chars();
                                    while let Some(c) = chars.next() {
                                        if c == '\\' { escape(&mut chars, &mut out) } else { out.push(c) }
                                    }
                                }
                                _ => out.push_str(value),
                            }
                        }
                        None => out.push('%'),
                    },
                    c => out.push(c),
                }
            }
            // The format is used again while arguments are left and it takes any.
            if rest.is_empty() || rest.len() == before {
                break;
            }
        }
        io.stdout.write(out);
        0
    }

    async fn program(&mut self, name: &str, args: &[String], io: &Io) -> Result<u8, Flow> {
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
            "curl" => curl::run(&self.os, args, &self.cwd, io).await,
            "kubeadm" => join::kubeadm(&self.os, args, io).await,
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
                        io.stderr.line(format!("sleep: invalid time interval '{}'", first.unwrap_or_default()));
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
                io.stdout.line(if first == Some("-u") || first == Some("-g") { "0" } else { "uid=0(root) gid=0(root)" });
                0
            }
            "nproc" => {
                io.stdout.line(self.os.chassis.hardware.threads().to_string());
                0
            }
            "date" => {
                let now = (self.os.chassis.clock)();
                io.stdout.line(if first == Some("+%s") { now.as_second().to_string() } else { now.to_string() });
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
            "-r" => super::super::os::KERNEL_VERSION,
            "-m" | "-p" | "-i" => self.os.machine_architecture(),
            "-n" => return { io.stdout.line(self.os.hostname()); 0 },
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
                    let (name, arguments) = tail.split_first().map_or(("sh", &[][..]), |(n, a)| (n.as_str(), a));
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
        let options = if options.is_empty() { String::new() } else { format!("set {}; ", options.join(" ")) };
        self.sub_script(name, &format!("{options}{text}"), arguments, io).await
    }

    fn systemctl(&mut self, args: &[String], io: &Io) -> Result<u8, Flow> {
        let mut words = args.iter().filter(|arg| !arg.starts_with('-')).map(String::as_str);
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
                io.stderr.line(format!("Failed to {verb} {unit}.service: Unit {unit}.service not found."));
                status = 5;
                continue;
            }
            if unit == "kubelet" {
                status = self.os.kubelet_service(verb, now, io).max(status);
            } else if !["start", "stop", "restart", "enable", "disable", "is-active", "is-enabled", "status", "mask", "unmask", "reload", "try-restart"].contains(&verb) {
                io.stderr.line(format!("Unknown command verb '{verb}'."));
                status = 1;
            }
        }
        Ok(status)
    }

    fn files(&mut self, name: &str, args: &[String], io: &Io) -> u8 {
        let operands: Vec<String> =
            args.iter().filter(|arg| !arg.starts_with('-') || *arg == "-").map(|arg| self.path_or_stdin(arg)).collect();
        let flag = |letter: char| args.iter().any(|arg| is_flag(arg, letter));
        let fs = self.os.fs.clone();
        let mut status = 0;
        let mut check = |result: Result<(), super::super::rootfs::FsError>| {
            if let Err(error) = result {
                io.stderr.line(format!("{name}: {error}"));
                status = 1;
            }
        };
        match name {
            "mkdir" => operands.iter().for_each(|path| check(fs.make_dir(path))),
            "touch" => operands.iter().for_each(|path| check(fs.append(path, b""))),
            "rm" => {
                for path in &operands {
                    let removed = fs.remove(path, flag('r') || flag('R'));
                    match removed {
                        Ok(false) if !flag('f') && !fs.is_dir(path) => {
                            check(Err(super::super::rootfs::FsError::NotFound { path: path.clone() }));
                        }
                        removed => check(removed.map(|_| ())),
                    }
                }
            }
            // The root file system has no modes; a file that is not there is still an error.
            "chmod" | "chown" => {
                for path in operands.iter().skip(1).filter(|path| !fs.exists(path)) {
                    check(Err(super::super::rootfs::FsError::NotFound { path: path.clone() }));
                }
            }
            "cp" | "mv" | "install" => {
                if let [from, to] = &operands[operands.len().saturating_sub(2)..] {
                    let to = if fs.is_dir(to) { format!("{to}/{}", base_name(from)) } else { to.clone() };
                    check(fs.read(from).and_then(|content| fs.write(&to, &content)));
                    if name == "mv" && fs.is_file(&to) {
                        check(fs.remove(from, false).map(|_| ()));
                    }
                } else {
                    io.stderr.line(format!("{name}: missing file operand"));
                    status = 1;
                }
            }
            "ls" => {
                for path in if operands.is_empty() { vec![self.cwd.clone()] } else { operands } {
                    match fs.list(&path) {
                        names if !names.is_empty() || fs.is_dir(&path) => io.stdout.write(lines(&names)),
                        _ if fs.is_file(&path) => io.stdout.line(path),
                        _ => check(Err(super::super::rootfs::FsError::NotFound { path })),
                    }
                }
            }
            "basename" => io.stdout.line(base_name(args.first().map(String::as_str).unwrap_or_default())),
            "dirname" => {
                let path = args.first().map(String::as_str).unwrap_or_default();
                io.stdout.line(path.rsplit_once('/').map_or(".", |(folder, _)| if folder.is_empty() { "/" } else { folder }));
            }
            _ => return self.filter(name, args, io),
        }
        status
    }

    fn path_or_stdin(&self, arg: &str) -> String {
        if arg == "-" { arg.to_owned() } else { self.path(arg) }
    }

    /// Programs that read text, from files or from standard input, and print some of it.
    fn filter(&mut self, name: &str, args: &[String], io: &Io) -> u8 {
        let skip = usize::from(name == "grep");
        let mut operands = Vec::new();
        let mut options = Vec::new();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            if arg.len() > 1 && arg.starts_with('-') {
                options.push(arg.clone());
                let valued = matches!(
                    (name, arg.as_str()),
                    ("head" | "tail", "-n" | "-c") | ("cut", "-d" | "-f") | ("grep", "-e" | "-m")
                );
                options.extend(rest.next().filter(|_| valued).cloned());
            } else {
                operands.push(arg.clone());
            }
        }
        let flag = |letter: char| options.iter().any(|option| is_flag(option, letter));
        let files = match name {
            "tr" | "tee" => &[][..],
            _ => operands.get(skip..).unwrap_or_default(),
        };
        let Some(text) = self.input(name, files, io) else { return if name == "grep" { 2 } else { 1 } };
        let text_lines = || text.lines().map(str::to_owned);
        let count = options.iter().find_map(|option| option.trim_start_matches("-n").trim_start_matches('-').parse().ok());
        match name {
            "cat" => io.stdout.write(&text),
            "tee" => {
                for path in &operands {
                    let path = self.path(path);
                    let result = if flag('a') {
                        self.os.fs.append(&path, text.as_bytes())
                    } else {
                        self.os.fs.write(&path, text.as_bytes())
                    };
                    if let Err(error) = result {
                        io.stderr.line(format!("tee: {error}"));
                        return 1;
                    }
                }
                io.stdout.write(&text);
            }
            "head" => io.stdout.write(lines(text_lines().take(count.unwrap_or(10)).collect::<Vec<_>>().as_slice())),
            "tail" => {
                let all: Vec<_> = text_lines().collect();
                io.stdout.write(lines(&all[all.len().saturating_sub(count.unwrap_or(10))..]));
            }
            "wc" => io.stdout.line(text.lines().count().to_string()),
            "tr" => io.stdout.write(translate(&text, &operands, flag('d'))),
            "cut" => {
                let value = |option: &str| {
                    let at = options.iter().position(|o| o.starts_with(option))?;
                    let own = &options[at][2..];
                    if own.is_empty() { options.get(at + 1).cloned() } else { Some(own.to_owned()) }
                };
                let delimiter = value("-d").unwrap_or_else(|| "\t".to_owned());
                let field: usize = value("-f").and_then(|field| field.parse().ok()).unwrap_or(1);
                let cut = |line: String| {
                    line.split(delimiter.as_str()).nth(field.saturating_sub(1)).unwrap_or_default().to_owned()
                };
                io.stdout.write(lines(&text_lines().map(cut).collect::<Vec<_>>()));
            }
            _ => return grep(&operands, &options, &text, io),
        }
        0
    }

    fn input(&self, name: &str, files: &[String], io: &Io) -> Option<String> {
        if files.is_empty() || files == ["-"] {
            return Some(String::from_utf8_lossy(&io.read_all()).into_owned());
        }
        let mut text = String::new();
        for file in files {
            match self.os.fs.read(&self.path(file)) {
                Ok(content) => text.push_str(&String::from_utf8_lossy(&content)),
                Err(error) => {
                    io.stderr.line(format!("{name}: {error}"));
                    return None;
                }
            }
        }
        Some(text)
    }
}

/// Whether a word is a group of one-letter options that has this one.
fn is_flag(arg: &str, letter: char) -> bool {
    arg.starts_with('-') && !arg.starts_with("--") && arg[1..].contains(letter)
}

fn base_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

fn lines(list: &[String]) -> String {
    list.iter().map(|line| format!("{line}\n")).collect()
}

fn echo(args: &[String], io: &Io) -> u8 {
    match args.split_first() {
        Some((option, rest)) if option == "-n" => io.stdout.write(rest.join(" ")),
        Some((option, rest)) if option == "-e" => io.stdout.line(rest.join(" ")),
        _ => io.stdout.line(args.join(" ")),
    }
    0
}

fn escape(chars: &mut std::str::Chars<'_>, out: &mut String) {
    match chars.next() {
        Some('n') => out.push('\n'),
        Some('t') => out.push('\t'),
        Some('r') => out.push('\r'),
        Some('\\') | None => out.push('\\'),
        Some(c) => out.extend(['\\', c]),
    }
}

fn translate(text: &str, sets: &[String], delete: bool) -> String {
    let from: Vec<char> = sets.first().map(|set| set.replace("\\n", "\n").chars().collect()).unwrap_or_default();
    let to: Vec<char> = sets.get(1).map(|set| set.replace("\\n", "\n").chars().collect()).unwrap_or_default();
    let map = |c: char| match from.iter().position(|f| *f == c) {
        Some(_) if delete => None,
        Some(at) => to.get(at).or(to.last()).copied().or(Some(c)),
        None => Some(c),
    };
    text.chars().filter_map(map).collect()
}

/// Plain text with `^` and `$` as anchors: scripts here ask whether a line is there.
fn grep(operands: &[String], options: &[String], text: &str, io: &Io) -> u8 {
    let flag = |letter: char| options.iter().any(|option| is_flag(option, letter));
    let Some(pattern) = operands.first() else {
        io.stderr.line("usage: grep [-qivc] pattern [file]");
        return 2;
    };
    let fold = |text: &str| if flag('i') { text.to_lowercase() } else { text.to_owned() };
    let pattern = fold(pattern);
    let (start, end) = (pattern.starts_with('^') && !flag('F'), pattern.ends_with('$') && !flag('F'));
    let needle = pattern.trim_start_matches(['^'].as_slice()).trim_end_matches(['$'].as_slice());
    let needle = if flag('F') { pattern.as_str() } else { needle };
    let hit = |line: &&str| {
        let line = fold(line);
        let found = match (start, end) {
            (true, true) => line == needle,
            (true, false) => line.starts_with(needle),
            (false, true) => line.ends_with(needle),
            (false, false) => line.contains(needle),
        };
        found != flag('v')
    };
    let found: Vec<String> = text.lines().filter(hit).map(str::to_owned).collect();
    let status = u8::from(found.is_empty());
    if flag('c') {
        io.stdout.line(found.len().to_string());
    } else if !flag('q') {
        io.stdout.write(lines(&found));
    }
    status
}

