//! Interpreter for the iPXE scripts that a boot service sends. Sans-IO: it asks for URLs and is given their content.
//!
//! Understood: `#!ipxe`, comments, labels-free sequences of `dhcp`, `set`, `imgfree`, `kernel`, `initrd`, `boot`, `chain`,
//! `exit`, `echo`, `sanboot --drive 0x80`, joined by `&&` and `||`, with `${setting}` and `${setting:hexhyp}`. Any other command
//! is a failure that names the line: a script that works here must not work by luck.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

/// Scripts that chain each other in a circle are cut here.
const DEPTH_MAX: usize = 8;
/// Commands that one boot may carry out.
const COMMANDS_MAX: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScriptError {
    #[error("not an iPXE script: it must start with \"#!ipxe\"")]
    NotAScript,
    #[error("line {line}: {command}: command not found")]
    Unknown { line: usize, command: String },
    #[error("line {line}: {command}: {reason}")]
    Failed {
        line: usize,
        command: String,
        reason: String,
    },
    #[error("scripts chain each other more than {DEPTH_MAX} deep")]
    TooDeep,
    #[error("more than {COMMANDS_MAX} commands")]
    TooLong,
}

/// What the interpreter needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Print a line and go on.
    Echo(String),
    /// Fetch this and answer with `answer`.
    Fetch(String),
    /// Configure the NIC and answer with `answer` (content is ignored).
    Dhcp,
    End(Outcome),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Boot {
        kernel: Bytes,
        cmdline: String,
        initrd: Bytes,
    },
    /// Boot the machine's own disk with this BIOS number.
    Disk(u8),
    /// Back to the firmware, which goes on with its next entry.
    Exit,
}

/// A command with the operator that ties it to the one before.
#[derive(Clone, Debug)]
struct Command {
    line: usize,
    /// `None`: a line of its own; its failure ends the script.
    after: Option<Operator>,
    words: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    And,
    Or,
}

#[derive(Debug)]
enum Waiting {
    Kernel { cmdline: String },
    Initrd,
    Chain,
    Dhcp,
}

/// See the module's documentation.
pub(crate) struct Interpreter {
    /// Of the scripts that run: the innermost last.
    stack: Vec<VecDeque<Command>>,
    settings: BTreeMap<String, String>,
    kernel: Option<(Bytes, String)>,
    initrd: Vec<Bytes>,
    waiting: Option<(Command, Waiting)>,
    /// How the last command ended.
    last: Result<(), ScriptError>,
    commands: usize,
}

impl Interpreter {
    /// `settings`: what `${...}` knows, by full name (`net0/mac`, `uuid`).
    pub(crate) fn new(script: &[u8], settings: BTreeMap<String, String>) -> Result<Self, ScriptError> {
        let stack = vec![parse(script)?];
        let (kernel, initrd, waiting) = (None, Vec::new(), None);
        Ok(Self {
            stack,
            settings,
            kernel,
            initrd,
            waiting,
            last: Ok(()),
            commands: 0,
        })
    }

    pub(crate) fn set(&mut self, name: &str, value: String) {
        self.settings.insert(name.to_owned(), value);
    }

    /// Runs until something is needed.
    pub(crate) fn step(&mut self) -> Result<Step, ScriptError> {
        loop {
            let Some(script) = self.stack.last_mut() else {
                return Ok(Step::End(Outcome::Exit));
            };
            let Some(command) = script.pop_front() else {
                self.stack.pop();
                if self.stack.is_empty() {
                    self.last.clone()?;
                }
                continue;
            };
            let run = match (command.after, &self.last) {
                (None, Err(error)) => {
                    if self.stack.len() == 1 {
                        return Err(error.clone());
                    }
                    // A chained script ends with its first failure, which is then that of `chain`.
                    self.stack.pop();
                    continue;
                }
                (None, Ok(())) => true,
                (Some(Operator::And), last) => last.is_ok(),
                (Some(Operator::Or), last) => last.is_err(),
            };
            if !run {
                continue;
            }
            self.commands += 1;
            if self.commands > COMMANDS_MAX {
                return Err(ScriptError::TooLong);
            }
            self.last = Ok(());
            if let Some(step) = self.command(command)? {
                return Ok(step);
            }
        }
    }

    /// The answer to `Step::Fetch` or `Step::Dhcp`.
    pub(crate) fn answer(&mut self, content: Result<Bytes, String>) -> Result<(), ScriptError> {
        let Some((command, waiting)) = self.waiting.take() else {
            return Ok(());
        };
        match (waiting, content) {
            (_, Err(reason)) => self.last = Err(failed(&command, reason)),
            (Waiting::Kernel { cmdline }, Ok(bytes)) => self.kernel = Some((bytes, cmdline)),
            (Waiting::Initrd, Ok(bytes)) => self.initrd.push(bytes),
            (Waiting::Dhcp, Ok(_)) => {}
            (Waiting::Chain, Ok(bytes)) => {
                if self.stack.len() == DEPTH_MAX {
                    return Err(ScriptError::TooDeep);
                }
                match parse(&bytes) {
                    Ok(script) => self.stack.push(script),
                    Err(error) => self.last = Err(failed(&command, error.to_string())),
                }
            }
        }
        Ok(())
    }

    fn command(&mut self, command: Command) -> Result<Option<Step>, ScriptError> {
        // Settings are expanded when a command runs, not when it is read (iPXE `expand_command`).
        let words: Vec<String> = command
            .words
            .iter()
            .map(|word| self.expand(word))
            .filter(|word| !word.is_empty())
            .collect();
        let (name, args) = match words.split_first() {
            Some((name, args)) => (name.as_str(), args),
            None => return Ok(None),
        };
        let usage = |reason: &str| failed(&command, reason.to_owned());
        match name {
            "echo" => return Ok(Some(Step::Echo(args.join(" ")))),
            "set" => match args.split_first() {
                Some((name, value)) => self.set(name, value.join(" ")),
                None => self.last = Err(usage("usage: set <setting> [value]")),
            },
            "imgfree" => {
                self.kernel = None;
                self.initrd.clear();
            }
            "dhcp" => return Ok(Some(self.wait(command, Waiting::Dhcp, Step::Dhcp))),
            "kernel" | "initrd" | "chain" => {
                let args = without_options(args, &["-n", "--name", "-t", "--timeout"]);
                let Some((url, rest)) = args.split_first() else {
                    self.last = Err(usage("no URL"));
                    return Ok(None);
                };
                let waiting = match name {
                    "kernel" => Waiting::Kernel {
                        cmdline: rest.join(" "),
                    },
                    "initrd" => Waiting::Initrd,
                    _ => Waiting::Chain,
                };
                return Ok(Some(self.wait(command, waiting, Step::Fetch(url.clone()))));
            }
            "boot" => match self.kernel.take() {
                Some((kernel, cmdline)) => {
                    let initrd = self.initrd.concat().into();
                    return Ok(Some(Step::End(Outcome::Boot {
                        kernel,
                        cmdline,
                        initrd,
                    })));
                }
                None => self.last = Err(usage("no kernel is loaded")),
            },
            "sanboot" => match drive(args) {
                Some(number) => return Ok(Some(Step::End(Outcome::Disk(number)))),
                None => {
                    self.last = Err(usage(
                        "only \"sanboot [--no-describe] --drive <number>\" is known here",
                    ))
                }
            },
            "exit" => {
                self.stack.pop();
                let status = args.first().map_or(Some(0), |code| code.parse::<i32>().ok());
                if status != Some(0) {
                    self.last = Err(usage("exit with an error"));
                }
                if self.stack.is_empty() {
                    return Ok(Some(Step::End(Outcome::Exit)));
                }
            }
            _ => {
                return Err(ScriptError::Unknown {
                    line: command.line,
                    command: name.to_owned(),
                });
            }
        }
        Ok(None)
    }

    fn wait(&mut self, command: Command, waiting: Waiting, step: Step) -> Step {
        self.waiting = Some((command, waiting));
        step
    }

    /// `${name}` and `${name:format}`; an unknown setting is empty.
    fn expand(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let Some(length) = rest[start..].find('}') else {
                break;
            };
            out.push_str(&rest[..start]);
            let inner = &rest[start + 2..start + length];
            let (name, format) = inner.split_once(':').unwrap_or((inner, "string"));
            let value = self.settings.get(name).map(String::as_str).unwrap_or_default();
            out.push_str(&formatted(value, format));
            rest = &rest[start + length + 1..];
        }
        out.push_str(rest);
        out
    }
}

fn formatted(value: &str, format: &str) -> String {
    match format {
        "hexhyp" => value.replace(':', "-"),
        "hexraw" => value.replace(':', ""),
        _ => value.to_owned(),
    }
}

fn failed(command: &Command, reason: String) -> ScriptError {
    let name = command.words.first().cloned().unwrap_or_default();
    ScriptError::Failed {
        line: command.line,
        command: name,
        reason,
    }
}

/// Skips leading options; those in `valued` take the next word with them.
fn without_options<'a>(mut args: &'a [String], valued: &[&str]) -> &'a [String] {
    while let Some((first, rest)) = args.split_first().filter(|(first, _)| first.starts_with('-')) {
        args = if valued.contains(&first.as_str()) {
            rest.get(1..).unwrap_or_default()
        } else {
            rest
        };
    }
    args
}

fn drive(args: &[String]) -> Option<u8> {
    let mut number = None;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-d" | "--drive" => {
                let text = args.next()?;
                number = match text.strip_prefix("0x") {
                    Some(hex) => u8::from_str_radix(hex, 16).ok(),
                    None => text.parse().ok(),
                };
            }
            "-n" | "--no-describe" | "-k" | "--keep" => {}
            _ => return None,
        }
    }
    number
}

fn parse(script: &[u8]) -> Result<VecDeque<Command>, ScriptError> {
    let text = std::str::from_utf8(script).map_err(|_| ScriptError::NotAScript)?;
    if text
        .lines()
        .next()
        .is_none_or(|first| first.trim_end() != "#!ipxe")
    {
        return Err(ScriptError::NotAScript);
    }
    let mut commands = VecDeque::new();
    let mut pending = String::new();
    for (index, line) in text.lines().enumerate().skip(1) {
        pending.push_str(line.trim());
        // A backslash at the end joins lines.
        if pending.ends_with('\\') {
            pending.pop();
            continue;
        }
        let whole = std::mem::take(&mut pending);
        if whole.starts_with('#') {
            continue;
        }
        let mut after = None;
        let mut words = Vec::new();
        for word in whole.split_whitespace() {
            let operator = match word {
                "&&" => Operator::And,
                "||" => Operator::Or,
                _ => {
                    words.push(word.to_owned());
                    continue;
                }
            };
            commands.push_back(Command {
                line: index + 1,
                after,
                words: std::mem::take(&mut words),
            });
            after = Some(operator);
        }
        if !words.is_empty() {
            commands.push_back(Command {
                line: index + 1,
                after,
                words,
            });
        }
    }
    Ok(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> BTreeMap<String, String> {
        let pairs = [
            ("mac", "52:54:00:aa:bb:cc"),
            ("net0/mac", "52:54:00:aa:bb:cc"),
            ("uuid", "d9e1-u"),
            ("serial", "SN1"),
        ];
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    /// Runs a script; URLs that contain "missing" fail, "script" ones are `chained`, others give their own name.
    fn run(script: &str, chained: &str) -> (Vec<String>, Result<Outcome, String>) {
        let mut seen = Vec::new();
        let mut interpreter = match Interpreter::new(script.as_bytes(), settings()) {
            Ok(interpreter) => interpreter,
            Err(error) => return (seen, Err(error.to_string())),
        };
        loop {
            match interpreter.step() {
                Ok(Step::Echo(text)) => seen.push(format!("echo {text}")),
                Ok(Step::Dhcp) => {
                    seen.push("dhcp".to_owned());
                    interpreter.answer(Ok(Bytes::new())).unwrap();
                }
                Ok(Step::Fetch(url)) => {
                    seen.push(format!("get {url}"));
                    let content = match &url {
                        url if url.contains("missing") => Err("404".to_owned()),
                        url if url.contains("script") => Ok(chained.to_owned().into()),
                        url => Ok(url.clone().into()),
                    };
                    if let Err(error) = interpreter.answer(content) {
                        return (seen, Err(error.to_string()));
                    }
                }
                Ok(Step::End(outcome)) => return (seen, Ok(outcome)),
                Err(error) => return (seen, Err(error.to_string())),
            }
        }
    }

    #[test]
    fn boots_kernel_and_ramdisk_with_expanded_settings() {
        let script = "#!ipxe\n# comment\nimgfree\nset base http://v:8080/boot\n\
            kernel --name vmlinuz ${base}/vmlinuz BOOTIF=${mac} \\\n id=${net0/mac:hexhyp} s=${serial} n=${nothing}x initrd=initramfs\n\
            initrd ${base}/initramfs || exit 1\nboot\n";
        let (seen, end) = run(script, "");
        assert_eq!(
            seen,
            [
                "get http://v:8080/boot/vmlinuz",
                "get http://v:8080/boot/initramfs"
            ]
        );
        let Ok(Outcome::Boot {
            kernel,
            cmdline,
            initrd,
        }) = end
        else {
            panic!("{end:?}")
        };
        assert_eq!(kernel, "http://v:8080/boot/vmlinuz");
        assert_eq!(initrd, "http://v:8080/boot/initramfs");
        assert_eq!(
            cmdline,
            "BOOTIF=52:54:00:aa:bb:cc id=52-54-00-aa-bb-cc s=SN1 n=x initrd=initramfs"
        );
    }

    #[test]
    fn endings() {
        let cases: &[(&str, Result<Outcome, &str>)] = &[
            ("#!ipxe\nexit\necho never\n", Ok(Outcome::Exit)),
            ("#!ipxe\n", Ok(Outcome::Exit)),
            (
                "#!ipxe\nsanboot --no-describe --drive 0x80\n",
                Ok(Outcome::Disk(0x80)),
            ),
            ("#!ipxe\ndhcp\nchain http://v/script\n", Ok(Outcome::Disk(0x81))),
            ("#!ipxe\nchain http://v/missing || exit\n", Ok(Outcome::Exit)),
            (
                "#!ipxe\nkernel http://v/missing && boot || exit\n",
                Ok(Outcome::Exit),
            ),
            (
                "echo hi\n",
                Err("not an iPXE script: it must start with \"#!ipxe\""),
            ),
            (
                "#!ipxe\necho a\nmenu pick\n",
                Err("line 3: menu: command not found"),
            ),
            ("#!ipxe\n\n:label\n", Err("line 3: :label: command not found")),
            (
                "#!ipxe\nchain http://v/missing\necho never\n",
                Err("line 2: chain: 404"),
            ),
            ("#!ipxe\nboot\n", Err("line 2: boot: no kernel is loaded")),
            (
                "#!ipxe\nkernel http://v/k\nimgfree\nboot\n",
                Err("line 4: boot: no kernel is loaded"),
            ),
            ("#!ipxe\nkernel --name x\n", Err("line 2: kernel: no URL")),
            (
                "#!ipxe\nsanboot http://v/disk\n",
                Err("line 2: sanboot: only \"sanboot [--no-describe] --drive <number>\" is known here"),
            ),
        ];
        for (script, expected) in cases {
            let (seen, end) = run(script, "#!ipxe\necho chained\nsanboot --drive 129\n");
            assert_eq!(end, expected.clone().map_err(str::to_owned), "{script}");
            assert!(
                !seen.iter().any(|line| line.contains("never")),
                "{script}: {seen:?}"
            );
        }
    }

    #[test]
    fn the_failure_of_a_chained_script_is_that_of_chain() {
        let chained = "#!ipxe\nkernel http://v/missing\necho never\n";
        let (seen, end) = run("#!ipxe\nchain http://v/script || echo caught\nexit\n", chained);
        assert_eq!(
            seen,
            ["get http://v/script", "get http://v/missing", "echo caught"]
        );
        assert_eq!(end, Ok(Outcome::Exit));
        let (_, end) = run("#!ipxe\nchain http://v/script\necho never\n", chained);
        assert_eq!(end, Err("line 2: kernel: 404".to_owned()));
    }

    #[test]
    fn a_circle_of_scripts_ends() {
        let (_, end) = run(
            "#!ipxe\nchain http://v/script\n",
            "#!ipxe\nchain http://v/script\n",
        );
        assert_eq!(end, Err("scripts chain each other more than 8 deep".to_owned()));
    }
}
