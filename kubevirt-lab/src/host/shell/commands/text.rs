//! Programs that move files and text: `mkdir`, `cp`, `cat`, `grep` and their like, with the options that scripts here use.

use super::super::super::rootfs::FsError;
use crate::host::shell::exec::Shell;
use crate::host::shell::io::Io;

impl Shell {
    pub(super) fn files(&mut self, name: &str, args: &[String], io: &Io) -> u8 {
        let operands: Vec<String> = args
            .iter()
            .filter(|arg| !arg.starts_with('-') || *arg == "-")
            .map(|arg| self.path_or_stdin(arg))
            .collect();
        let flag = |letter: char| args.iter().any(|arg| is_flag(arg, letter));
        let fs = self.os.fs.clone();
        let mut status = 0;
        let mut check = |result: Result<(), FsError>| {
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
                            check(Err(FsError::NotFound { path: path.clone() }));
                        }
                        removed => check(removed.map(|_| ())),
                    }
                }
            }
            // The root file system has no modes; a file that is not there is still an error.
            "chmod" | "chown" => {
                for path in operands.iter().skip(1).filter(|path| !fs.exists(path)) {
                    check(Err(FsError::NotFound { path: path.clone() }));
                }
            }
            "cp" | "mv" | "install" => {
                if let [from, to] = &operands[operands.len().saturating_sub(2)..] {
                    let to = if fs.is_dir(to) {
                        format!("{to}/{}", base_name(from))
                    } else {
                        to.clone()
                    };
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
                for path in if operands.is_empty() {
                    vec![self.cwd.clone()]
                } else {
                    operands
                } {
                    match fs.list(&path) {
                        names if !names.is_empty() || fs.is_dir(&path) => io.stdout.write(lines(&names)),
                        _ if fs.is_file(&path) => io.stdout.line(path),
                        _ => check(Err(FsError::NotFound { path })),
                    }
                }
            }
            "basename" => io
                .stdout
                .line(base_name(args.first().map(String::as_str).unwrap_or_default())),
            "dirname" => {
                let path = args.first().map(String::as_str).unwrap_or_default();
                io.stdout.line(
                    path.rsplit_once('/')
                        .map_or(".", |(folder, _)| if folder.is_empty() { "/" } else { folder }),
                );
            }
            _ => return self.filter(name, args, io),
        }
        status
    }

    fn path_or_stdin(&self, arg: &str) -> String {
        if arg == "-" {
            arg.to_owned()
        } else {
            self.path(arg)
        }
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
                if valued {
                    options.extend(rest.next().cloned());
                }
            } else {
                operands.push(arg.clone());
            }
        }
        let flag = |letter: char| options.iter().any(|option| is_flag(option, letter));
        let files = match name {
            "tr" | "tee" => &[][..],
            _ => operands.get(skip..).unwrap_or_default(),
        };
        let Some(text) = self.input(name, files, io) else {
            return if name == "grep" { 2 } else { 1 };
        };
        let text_lines = || text.lines().map(str::to_owned);
        let count = options.iter().find_map(|option| {
            option
                .trim_start_matches("-n")
                .trim_start_matches('-')
                .parse()
                .ok()
        });
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
            "head" => io.stdout.write(lines(
                text_lines()
                    .take(count.unwrap_or(10))
                    .collect::<Vec<_>>()
                    .as_slice(),
            )),
            "tail" => {
                let all: Vec<_> = text_lines().collect();
                io.stdout
                    .write(lines(&all[all.len().saturating_sub(count.unwrap_or(10))..]));
            }
            "wc" => io.stdout.line(text.lines().count().to_string()),
            "tr" => io.stdout.write(translate(&text, &operands, flag('d'))),
            "cut" => {
                let value = |option: &str| {
                    let at = options.iter().position(|o| o.starts_with(option))?;
                    let own = &options[at][2..];
                    if own.is_empty() {
                        options.get(at + 1).cloned()
                    } else {
                        Some(own.to_owned())
                    }
                };
                let delimiter = value("-d").unwrap_or_else(|| "\t".to_owned());
                let field: usize = value("-f").and_then(|field| field.parse().ok()).unwrap_or(1);
                let cut = |line: String| {
                    line.split(delimiter.as_str())
                        .nth(field.saturating_sub(1))
                        .unwrap_or_default()
                        .to_owned()
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

fn translate(text: &str, sets: &[String], delete: bool) -> String {
    let from: Vec<char> = sets
        .first()
        .map(|set| set.replace("\\n", "\n").chars().collect())
        .unwrap_or_default();
    let to: Vec<char> = sets
        .get(1)
        .map(|set| set.replace("\\n", "\n").chars().collect())
        .unwrap_or_default();
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
    let fold = |text: &str| {
        if flag('i') {
            text.to_lowercase()
        } else {
            text.to_owned()
        }
    };
    let pattern = fold(pattern);
    let (start, end) = (
        pattern.starts_with('^') && !flag('F'),
        pattern.ends_with('$') && !flag('F'),
    );
    let needle = pattern
        .trim_start_matches(['^'].as_slice())
        .trim_end_matches(['$'].as_slice());
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
