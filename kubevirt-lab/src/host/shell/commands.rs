//! Built-in commands; the programs that the simulated OS ships are in `commands/`.

mod programs;
mod text;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::exec::{Flow, Shell, Variable};
use super::io::Io;

const BUILTINS: &[&str] = &[
    ":", "true", "false", "echo", "printf", "test", "[", "exit", "return", "break", "continue", "set",
    "export", "unset", "readonly", "local", "shift", "cd", "pwd", "read", "command", "type", "eval", ".",
    "umask", "trap",
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
        let number = |default: u8| {
            first
                .and_then(|text| text.parse::<u32>().ok())
                .map_or(default, |n| n as u8)
        };
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
            // On the heap: programs carry whole protocol exchanges, and shells nest.
            _ => return self.program(name, args, io).boxed().await,
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

    fn again<'a>(
        &'a mut self,
        name: &'a str,
        args: &'a [String],
        io: &'a Io,
    ) -> BoxFuture<'a, Result<u8, Flow>> {
        self.builtin(name, args, io).boxed()
    }

    fn find(&self, names: &[String], io: &Io) -> u8 {
        let mut missing = names.is_empty();
        for name in names {
            let program = PROGRAMS.iter().find(|(program, _)| program == name);
            match program {
                _ if BUILTINS.contains(&name.as_str()) || self.functions.contains_key(name) => {
                    io.stdout.line(name)
                }
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
                            self.complain(
                                io,
                                &format!("set: Illegal option -o {}", other.unwrap_or_default()),
                            );
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
            let (name, value) = arg
                .split_once('=')
                .map_or((arg.as_str(), None), |(n, v)| (n, Some(v.to_owned())));
            let old = self.variables.get(name).cloned();
            let exported = export || old.as_ref().is_some_and(|old| old.exported);
            let value = value.or(old.map(|old| old.value)).unwrap_or_default();
            self.variables
                .insert(name.to_owned(), Variable { value, exported });
        }
        0
    }

    fn change_dir(&mut self, to: &str, io: &Io) -> u8 {
        let path = self.path(to);
        // `/root`, `/tmp` and the like exist in any image, with or without files.
        let usual = ["/", "/root", "/tmp", "/opt", "/etc", "/var", "/usr", "/home"]
            .contains(&path.trim_end_matches('/'));
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
            if let Some(at) = words
                .iter()
                .position(|word| *word == operator)
                .filter(|at| *at > 0)
            {
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
            ["-s", path] => Some(
                self.os
                    .fs
                    .read(&self.path(path))
                    .is_ok_and(|content| !content.is_empty()),
            ),
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
        let Some((format, mut rest)) = args.split_first() else {
            return 2;
        };
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
                                'd' | 'i' | 'u' => {
                                    out.push_str(&value.trim().parse::<i64>().unwrap_or(0).to_string())
                                }
                                'b' => {
                                    let mut chars = value.chars();
                                    while let Some(c) = chars.next() {
                                        if c == '\\' {
                                            escape(&mut chars, &mut out)
                                        } else {
                                            out.push(c)
                                        }
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
