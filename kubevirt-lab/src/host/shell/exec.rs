//! Runs the syntax tree.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::chassis::End;
use super::super::os::Os;
use super::io::{Io, Out};
use super::parse::{self, AndOr, Body, Command, Pipeline, Redirect, Script, Target};

/// Calls of functions and `sh` inside each other: a thread's stack of 2 MiB holds several times that.
const DEPTH_MAX: u32 = 24;
/// Compound commands inside each other, over all functions and shells of one script: each takes some KiB of the thread's stack.
const NESTED_MAX: u32 = 120;
/// Rounds of one loop: a script that waits must sleep, a script that spins must end.
const ROUNDS_MAX: u32 = 100_000;

/// Why commands stop before their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Exit(u8),
    Return(u8),
    Break(u32),
    Continue(u32),
    /// The machine goes down: nothing runs on.
    Halt(End),
}

#[derive(Clone, Copy, Default)]
pub(super) struct Options {
    pub errexit: bool,
    pub nounset: bool,
    pub xtrace: bool,
    pub pipefail: bool,
}

#[derive(Clone)]
pub(super) struct Variable {
    pub value: String,
    pub exported: bool,
}

/// A shell process.
pub(crate) struct Shell {
    pub(super) os: Arc<Os>,
    pub(super) variables: BTreeMap<String, Variable>,
    pub(super) functions: BTreeMap<String, Arc<Command>>,
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
    pub(super) options: Options,
    pub(super) cwd: String,
    pub(super) status: u8,
    /// A command substitution ran: its status is that of a command without a name.
    pub(super) substituted: bool,
    /// Inside of a condition, where `set -e` does not hold.
    tested: u32,
    depth: u32,
    nested: u32,
    line: usize,
}

impl Shell {
    pub(crate) fn new(os: Arc<Os>) -> Self {
        let mut shell = Self {
            os,
            variables: BTreeMap::new(),
            functions: BTreeMap::new(),
            name: "sh".to_owned(),
            arguments: Vec::new(),
            options: Options::default(),
            cwd: "/".to_owned(),
            status: 0,
            substituted: false,
            tested: 0,
            depth: 0,
            nested: 0,
            line: 1,
        };
        for (name, value) in [
            (
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            ),
            ("HOME", "/root"),
            ("USER", "root"),
        ] {
            shell.variables.insert(
                name.to_owned(),
                Variable {
                    value: value.to_owned(),
                    exported: true,
                },
            );
        }
        shell
    }

    /// Runs a script as a process of its own; its exit status, or that the machine goes down.
    pub(crate) async fn run(&mut self, text: &str, io: &Io) -> Result<u8, End> {
        let flow = match parse::parse(text) {
            Ok(script) => self.run_apart(&script, io).await,
            Err(error) => {
                io.stderr.line(error.to_string());
                Ok(2)
            }
        };
        match flow {
            Ok(status) => Ok(status),
            Err(Flow::Halt(end)) => Err(end),
            Err(_) => Ok(self.status),
        }
    }

    /// A child process `sh`: exported variables only.
    pub(super) fn child(&self, name: &str, arguments: Vec<String>) -> Self {
        let mut child = Self::new(self.os.clone());
        child.variables = self.variables.clone();
        child.variables.retain(|_, variable| variable.exported);
        child.cwd = self.cwd.clone();
        child.depth = self.depth + 1;
        child.nested = self.nested;
        child.name = name.to_owned();
        child.arguments = arguments;
        child
    }

    /// A copy of this shell: `( .. )`, `$(..)`, a side of a pipe.
    pub(super) fn subshell(&self) -> Self {
        Self {
            os: self.os.clone(),
            variables: self.variables.clone(),
            functions: self.functions.clone(),
            name: self.name.clone(),
            arguments: self.arguments.clone(),
            cwd: self.cwd.clone(),
            depth: self.depth + 1,
            ..*self
        }
    }

    /// Like `run` for a tree: `exit` ends only this process.
    pub(super) async fn run_apart(&mut self, script: &Script, io: &Io) -> Result<u8, Flow> {
        if self.depth > DEPTH_MAX {
            return Err(self.fatal(io, "too many processes inside each other"));
        }
        match self.script(script, io).await {
            Ok(()) => Ok(self.status),
            Err(Flow::Halt(end)) => Err(Flow::Halt(end)),
            Err(Flow::Exit(status) | Flow::Return(status)) => Ok(status),
            Err(Flow::Break(_) | Flow::Continue(_)) => Ok(self.status),
        }
    }

    /// A tree that runs in this very shell: `eval` and `.`.
    pub(super) async fn run_here(&mut self, script: &Script, io: &Io) -> Result<(), Flow> {
        self.script(script, io).await
    }

    pub(super) fn lookup(&self, name: &str) -> Option<String> {
        match name {
            "?" => Some(self.status.to_string()),
            "#" => Some(self.arguments.len().to_string()),
            "0" => Some(self.name.clone()),
            "$" => Some("1000".to_owned()),
            "@" | "*" => Some(self.arguments.join(" ")),
            "PWD" => Some(self.cwd.clone()),
            _ => match name.parse::<usize>() {
                Ok(index) => self.arguments.get(index.wrapping_sub(1)).cloned(),
                Err(_) => self.variables.get(name).map(|variable| variable.value.clone()),
            },
        }
    }

    pub(super) fn set(&mut self, name: &str, value: String) {
        let exported = self.variables.get(name).is_some_and(|variable| variable.exported);
        self.variables
            .insert(name.to_owned(), Variable { value, exported });
    }

    /// A message in dash's form, and the end of the shell.
    pub(super) fn fatal(&self, io: &Io, text: &str) -> Flow {
        self.complain(io, text);
        Flow::Exit(2)
    }

    pub(super) fn complain(&self, io: &Io, text: &str) {
        io.stderr.line(format!("{}: {}: {text}", self.name, self.line));
    }

    pub(super) fn path(&self, path: &str) -> String {
        if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("{}/{path}", self.cwd)
        }
    }

    fn script<'a>(&'a mut self, script: &'a Script, io: &'a Io) -> BoxFuture<'a, Result<(), Flow>> {
        async move {
            for and_or in script {
                self.and_or(and_or, io).await?;
            }
            Ok(())
        }
        .boxed()
    }

    async fn and_or(&mut self, list: &AndOr, io: &Io) -> Result<(), Flow> {
        let mut left = list.rest.len();
        let mut pipeline = &list.first;
        let mut rest = list.rest.iter();
        loop {
            // POSIX 2.15 set -e: all but the last command of an and-or list, and a negated one, are only tested.
            let tested = left > 0 || pipeline.negated;
            self.tested += u32::from(tested);
            let result = self.pipeline(pipeline, io).await;
            self.tested -= u32::from(tested);
            result?;
            if self.status != 0 && self.options.errexit && self.tested == 0 && !tested {
                return Err(Flow::Exit(self.status));
            }
            pipeline = loop {
                let Some((and, next)) = rest.next() else {
                    return Ok(());
                };
                left -= 1;
                if *and == (self.status == 0) {
                    break next;
                }
            };
        }
    }

    async fn pipeline(&mut self, pipeline: &Pipeline, io: &Io) -> Result<(), Flow> {
        if let [command] = &pipeline.commands[..] {
            self.command(command, io).await?;
        } else {
            self.pipe(&pipeline.commands, io).await?;
        }
        if pipeline.negated {
            self.status = u8::from(self.status == 0);
        }
        Ok(())
    }

    async fn pipe(&mut self, commands: &[Command], io: &Io) -> Result<(), Flow> {
        let (mut input, mut worst) = (io.read_all(), 0);
        for (index, command) in commands.iter().enumerate() {
            let last = index + 1 == commands.len();
            let buffer = if last { io.stdout.clone() } else { Out::buffer() };
            let stage = Io {
                stdout: buffer.clone(),
                ..io.with_stdin(input)
            };
            let mut subshell = self.subshell();
            let status = match subshell.command(command, &stage).await {
                Ok(()) => subshell.status,
                Err(Flow::Halt(end)) => return Err(Flow::Halt(end)),
                Err(Flow::Exit(status) | Flow::Return(status)) => status,
                Err(_) => subshell.status,
            };
            worst = if status != 0 { status } else { worst };
            self.status = status;
            if last {
                break;
            }
            input = buffer.take().into();
        }
        if self.options.pipefail {
            self.status = worst;
        }
        Ok(())
    }

    fn command<'a>(&'a mut self, command: &'a Command, io: &'a Io) -> BoxFuture<'a, Result<(), Flow>> {
        async move {
            self.line = command.line;
            if self.nested >= NESTED_MAX {
                return Err(self.fatal(io, "too many commands inside each other"));
            }
            let mut files = Vec::new();
            let Some(inner) = self.redirected(&command.redirects, io, &mut files).await? else {
                self.status = 1;
                return Ok(());
            };
            self.nested += 1;
            let result = self.body(&command.body, &inner).await;
            self.nested -= 1;
            for (path, out) in files {
                if let Err(error) = self.os.fs.append(&path, &out.take()) {
                    self.complain(io, &format!("cannot write {error}"));
                    self.status = 1;
                }
            }
            result
        }
        .boxed()
    }

    /// The streams after redirections; files that were opened for writing are filled when the command has ended.
    async fn redirected(
        &mut self,
        redirects: &[Redirect],
        io: &Io,
        files: &mut Vec<(String, Out)>,
    ) -> Result<Option<Io>, Flow> {
        let mut inner = io.clone();
        for redirect in redirects {
            let out = match &redirect.to {
                Target::Here(document) => {
                    let text = match document.get() {
                        Some(word) => self.text(word, io).await?,
                        None => String::new(),
                    };
                    inner = inner.with_stdin(text);
                    continue;
                }
                Target::Read(word) => {
                    let path = self.text(word, io).await?;
                    if path == "/dev/null" {
                        inner = inner.with_stdin(Bytes::new());
                        continue;
                    }
                    match self.os.fs.read(&self.path(&path)) {
                        Ok(content) => inner = inner.with_stdin(Bytes::copy_from_slice(&content)),
                        Err(error) => {
                            self.complain(io, &format!("cannot open {error}"));
                            return Ok(None);
                        }
                    }
                    continue;
                }
                Target::Fd(1) => inner.stdout.clone(),
                Target::Fd(2) => inner.stderr.clone(),
                Target::Fd(_) => continue,
                Target::Write(word) | Target::Append(word) => {
                    let path = self.text(word, io).await?;
                    let truncate = matches!(redirect.to, Target::Write(_));
                    match self.open(&path, truncate, files) {
                        Ok(out) => out,
                        Err(error) => {
                            self.complain(io, &format!("cannot create {error}"));
                            return Ok(None);
                        }
                    }
                }
            };
            match redirect.fd {
                1 => inner.stdout = out,
                2 => inner.stderr = out,
                _ => {}
            }
        }
        Ok(Some(inner))
    }

    fn open(
        &self,
        path: &str,
        truncate: bool,
        files: &mut Vec<(String, Out)>,
    ) -> Result<Out, super::super::rootfs::FsError> {
        match path {
            "/dev/null" => return Ok(Out::Null),
            "/dev/console" | "/dev/stderr" | "/dev/stdout" | "/dev/tty" | "/dev/kmsg" => {
                return Ok(Out::Console(self.os.chassis.console.clone()));
            }
            _ => {}
        }
        let path = self.path(path);
        if truncate {
            self.os.fs.write(&path, b"")?;
        } else {
            self.os.fs.append(&path, b"")?;
        }
        let out = Out::buffer();
        files.push((path, out.clone()));
        Ok(out)
    }

    async fn body(&mut self, body: &Body, io: &Io) -> Result<(), Flow> {
        match body {
            Body::Simple { assignments, words } => self.simple(assignments, words, io).await,
            Body::Group(script) => self.script(script, io).await,
            Body::Subshell(script) => {
                self.status = self.subshell().run_apart(script, io).await?;
                Ok(())
            }
            Body::Function { name, body } => {
                self.functions.insert(name.clone(), body.clone());
                self.status = 0;
                Ok(())
            }
            Body::If { arms, otherwise } => {
                for (condition, then) in arms {
                    if self.holds(condition, io).await? {
                        return self.script(then, io).await;
                    }
                }
                self.status = 0;
                self.script(otherwise, io).await
            }
            Body::Loop {
                until,
                condition,
                body,
            } => {
                let mut last = 0;
                for _ in 0..ROUNDS_MAX {
                    if self.holds(condition, io).await? == *until {
                        self.status = last;
                        return Ok(());
                    }
                    let ended = self.round(body, io).await?;
                    last = self.status;
                    if ended {
                        return Ok(());
                    }
                    tokio::task::coop::consume_budget().await;
                }
                Err(self.fatal(io, &format!("a loop ran {ROUNDS_MAX} times")))
            }
            Body::For { name, words, body } => {
                let values = match words {
                    Some(words) => self.fields(words, io).await?,
                    None => self.arguments.clone(),
                };
                self.status = 0;
                for value in values {
                    self.set(name, value);
                    if self.round(body, io).await? {
                        break;
                    }
                }
                Ok(())
            }
            Body::Case { word, arms } => {
                let text = self.text(word, io).await?;
                self.status = 0;
                for (patterns, script) in arms {
                    for pattern in patterns {
                        let pattern = self.pattern(pattern, io).await?;
                        if super::expand::matches(&pattern, &text) {
                            return self.script(script, io).await;
                        }
                    }
                }
                Ok(())
            }
        }
    }

    async fn holds(&mut self, condition: &Script, io: &Io) -> Result<bool, Flow> {
        self.tested += 1;
        let result = self.script(condition, io).await;
        self.tested -= 1;
        result.map(|()| self.status == 0)
    }

    /// One round of a loop; true if the loop is left.
    async fn round(&mut self, body: &Script, io: &Io) -> Result<bool, Flow> {
        match self.script(body, io).await {
            Err(Flow::Break(1)) => Ok(true),
            Err(Flow::Continue(1)) => Ok(false),
            Err(Flow::Break(n)) => Err(Flow::Break(n - 1)),
            Err(Flow::Continue(n)) => Err(Flow::Continue(n - 1)),
            result => result.map(|()| false),
        }
    }

    async fn simple(
        &mut self,
        assignments: &[(String, parse::Word)],
        words: &[parse::Word],
        io: &Io,
    ) -> Result<(), Flow> {
        self.substituted = false;
        let fields = self.fields(words, io).await?;
        let mut values = Vec::new();
        for (name, word) in assignments {
            values.push((name, self.text(word, io).await?));
        }
        let Some((command, arguments)) = fields.split_first() else {
            for (name, value) in values {
                self.set(name, value);
            }
            if !self.substituted {
                self.status = 0;
            }
            return Ok(());
        };
        if self.options.xtrace {
            io.stderr.line(format!("+ {}", fields.join(" ")));
        }
        // `A=1 command`: for the command only.
        let before: Vec<_> = values
            .iter()
            .map(|(name, _)| (*name, self.variables.get(*name).cloned()))
            .collect();
        for (name, value) in values {
            self.variables.insert(
                name.clone(),
                Variable {
                    value,
                    exported: true,
                },
            );
        }
        let result = match self.functions.get(command).cloned() {
            Some(function) => self.call(&function, arguments, io).await,
            None => self
                .builtin(command, arguments, io)
                .await
                .map(|status| self.status = status),
        };
        for (name, old) in before {
            match old {
                Some(old) => self.variables.insert(name.clone(), old),
                None => self.variables.remove(name),
            };
        }
        result
    }

    async fn call(&mut self, function: &Arc<Command>, arguments: &[String], io: &Io) -> Result<(), Flow> {
        if self.depth >= DEPTH_MAX {
            return Err(self.fatal(io, "too many function calls inside each other"));
        }
        self.depth += 1;
        let outer = std::mem::replace(&mut self.arguments, arguments.to_vec());
        let result = self.command(function, io).await;
        self.arguments = outer;
        self.depth -= 1;
        match result {
            Err(Flow::Return(status)) => {
                self.status = status;
                Ok(())
            }
            result => result,
        }
    }
}
