//! Text to syntax tree (POSIX.1-2024, Shell Command Language 2.10, the part named in `mod.rs`).

mod redirect;
mod words;

use std::sync::{Arc, OnceLock};

/// Nesting that is accepted: scripts are data from outside, and the parser recurses.
const DEPTH_MAX: usize = 24;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sh: {line}: Syntax error: {reason}")]
pub(crate) struct SyntaxError {
    pub line: usize,
    pub reason: String,
}

pub(crate) type Script = Vec<AndOr>;

#[derive(Debug)]
pub(crate) struct AndOr {
    pub first: Pipeline,
    /// `true`: `&&`.
    pub rest: Vec<(bool, Pipeline)>,
}

#[derive(Debug)]
pub(crate) struct Pipeline {
    pub negated: bool,
    pub commands: Vec<Command>,
}

#[derive(Debug)]
pub(crate) struct Command {
    pub line: usize,
    pub body: Body,
    pub redirects: Vec<Redirect>,
}

#[derive(Debug)]
pub(crate) enum Body {
    Simple {
        assignments: Vec<(String, Word)>,
        words: Vec<Word>,
    },
    If {
        arms: Vec<(Script, Script)>,
        otherwise: Script,
    },
    Loop {
        until: bool,
        condition: Script,
        body: Script,
    },
    For {
        name: String,
        words: Option<Vec<Word>>,
        body: Script,
    },
    Case {
        word: Word,
        arms: Vec<(Vec<Word>, Script)>,
    },
    Group(Script),
    Subshell(Script),
    Function {
        name: String,
        body: Arc<Command>,
    },
}

#[derive(Debug)]
pub(crate) struct Redirect {
    pub fd: u8,
    pub to: Target,
}

#[derive(Debug)]
pub(crate) enum Target {
    Read(Word),
    Write(Word),
    Append(Word),
    Fd(u8),
    Here(Document),
}

/// A here document; its text follows the line on which it is asked for.
pub(crate) type Document = Arc<OnceLock<Word>>;

pub(crate) type Word = Vec<Part>;

#[derive(Debug)]
pub(crate) enum Part {
    /// `quoted` text is never a pattern.
    Text {
        text: String,
        quoted: bool,
    },
    Param {
        name: String,
        op: Option<(&'static str, Word)>,
        quoted: bool,
    },
    Substitution {
        script: Script,
        quoted: bool,
    },
    Arithmetic {
        expression: Word,
        quoted: bool,
    },
}

pub(crate) fn parse(text: &str) -> Result<Script, SyntaxError> {
    let mut parser = Parser {
        text: text.chars().collect(),
        at: 0,
        line: 1,
        depth: 0,
        heredocs: Vec::new(),
    };
    let script = parser.list(&[])?;
    match parser.peek() {
        None => Ok(script),
        Some(c) => Err(parser.error(format!("\"{c}\" unexpected"))),
    }
}

struct Parser {
    text: Vec<char>,
    at: usize,
    line: usize,
    depth: usize,
    /// Here documents whose text starts at the next line.
    heredocs: Vec<Pending>,
}

struct Pending {
    end: String,
    quoted: bool,
    strip_tabs: bool,
    found: Document,
}

const RESERVED: &[&str] = &[
    "if", "then", "elif", "else", "fi", "for", "while", "until", "do", "done", "case", "esac", "{", "}", "!",
    "in",
];

impl Parser {
    fn error(&self, reason: impl Into<String>) -> SyntaxError {
        SyntaxError {
            line: self.line,
            reason: reason.into(),
        }
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn starts(&self, text: &str) -> bool {
        text.chars()
            .enumerate()
            .all(|(i, c)| self.text.get(self.at + i) == Some(&c))
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.starts(text);
        if found {
            self.at += text.chars().count();
        }
        found
    }

    fn blanks(&mut self) {
        loop {
            match self.peek() {
                Some(' ' | '\t' | '\r') => self.at += 1,
                Some('\\') if self.text.get(self.at + 1) == Some(&'\n') => {
                    self.at += 2;
                    self.line += 1;
                }
                Some('#') => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    /// Blanks, newlines and, outside of `case`, empty commands are skipped.
    fn lines(&mut self) -> Result<(), SyntaxError> {
        loop {
            self.blanks();
            if self.peek() != Some('\n') {
                return Ok(());
            }
            self.newline()?;
        }
    }

    fn newline(&mut self) -> Result<(), SyntaxError> {
        self.next();
        for pending in std::mem::take(&mut self.heredocs) {
            let word = self.heredoc(&pending)?;
            // Each document is pending once.
            let _ = pending.found.set(word);
        }
        Ok(())
    }

    fn reserved(&self) -> Option<&'static str> {
        RESERVED.iter().copied().find(|word| {
            let after = self.text.get(self.at + word.chars().count());
            self.starts(word) && after.is_none_or(|c| c.is_whitespace() || ";&|<>()".contains(*c))
        })
    }

    fn expect(&mut self, word: &'static str) -> Result<(), SyntaxError> {
        self.lines()?;
        if self.reserved() == Some(word)
            || (word.len() == 1 && !RESERVED.contains(&word) && self.starts(word))
        {
            self.take(word);
            return Ok(());
        }
        let found: String = self.text[self.at..]
            .iter()
            .take(12)
            .take_while(|c| !c.is_whitespace())
            .collect();
        Err(match self.peek() {
            None => self.error(format!("end of file unexpected (expecting \"{word}\")")),
            Some(_) => self.error(format!("\"{found}\" unexpected (expecting \"{word}\")")),
        })
    }

    /// Commands until one of the reserved words, a closing `)` or the end.
    fn list(&mut self, until: &[&str]) -> Result<Script, SyntaxError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error("too deeply nested"));
        }
        let mut script = Vec::new();
        loop {
            self.lines()?;
            match self.peek() {
                None | Some(')') => break,
                Some(';') if self.starts(";;") => break,
                _ => {}
            }
            if let Some(word) = self.reserved().filter(|word| *word != "in") {
                if until.contains(&word) {
                    break;
                }
                if ["then", "elif", "else", "fi", "do", "done", "esac", "}"].contains(&word) {
                    return Err(self.error(format!("\"{word}\" unexpected")));
                }
            }
            script.push(self.and_or()?);
            self.blanks();
            match self.peek() {
                Some(';') if !self.starts(";;") => {
                    self.next();
                }
                Some('\n') => self.newline()?,
                Some('&') => return Err(self.error("background jobs (\"&\") are not supported here")),
                _ => {}
            }
        }
        self.depth -= 1;
        Ok(script)
    }

    fn and_or(&mut self) -> Result<AndOr, SyntaxError> {
        let first = self.pipeline()?;
        let mut rest = Vec::new();
        loop {
            self.blanks();
            let and = if self.take("&&") {
                true
            } else if self.take("||") {
                false
            } else {
                return Ok(AndOr { first, rest });
            };
            self.lines()?;
            rest.push((and, self.pipeline()?));
        }
    }

    fn pipeline(&mut self) -> Result<Pipeline, SyntaxError> {
        self.blanks();
        let mut negated = false;
        while self.reserved() == Some("!") {
            self.take("!");
            negated = !negated;
            self.blanks();
        }
        let mut commands = vec![self.command()?];
        loop {
            self.blanks();
            if self.starts("||") || !self.take("|") {
                return Ok(Pipeline { negated, commands });
            }
            self.lines()?;
            commands.push(self.command()?);
        }
    }

    fn command(&mut self) -> Result<Command, SyntaxError> {
        self.blanks();
        let line = self.line;
        let body = match self.reserved() {
            Some("if") => self.if_clause()?,
            Some(word @ ("while" | "until")) => {
                self.take(word);
                let condition = self.list(&["do"])?;
                Body::Loop {
                    until: word == "until",
                    condition,
                    body: self.do_group()?,
                }
            }
            Some("for") => self.for_clause()?,
            Some("case") => self.case_clause()?,
            Some("{") => {
                self.take("{");
                let script = self.list(&["}"])?;
                self.expect("}")?;
                Body::Group(script)
            }
            _ if self.take("(") => {
                let script = self.list(&[])?;
                self.expect(")")?;
                Body::Subshell(script)
            }
            _ => return self.simple(line),
        };
        let mut redirects = Vec::new();
        loop {
            self.blanks();
            match self.redirect()? {
                Some(redirect) => redirects.push(redirect),
                None => {
                    return Ok(Command {
                        line,
                        body,
                        redirects,
                    });
                }
            }
        }
    }

    fn if_clause(&mut self) -> Result<Body, SyntaxError> {
        self.take("if");
        let mut arms = Vec::new();
        let mut otherwise = Vec::new();
        loop {
            let condition = self.list(&["then"])?;
            self.expect("then")?;
            let body = self.list(&["elif", "else", "fi"])?;
            arms.push((condition, body));
            match self.reserved() {
                Some("elif") => {
                    self.take("elif");
                }
                Some("else") => {
                    self.take("else");
                    otherwise = self.list(&["fi"])?;
                    break;
                }
                _ => break,
            }
        }
        self.expect("fi")?;
        Ok(Body::If { arms, otherwise })
    }

    fn do_group(&mut self) -> Result<Script, SyntaxError> {
        self.expect("do")?;
        let body = self.list(&["done"])?;
        self.expect("done")?;
        Ok(body)
    }

    fn for_clause(&mut self) -> Result<Body, SyntaxError> {
        self.take("for");
        self.blanks();
        let name = self.name().ok_or_else(|| self.error("Bad for loop variable"))?;
        self.lines()?;
        let mut words = None;
        if self.reserved() == Some("in") {
            self.take("in");
            let mut list = Vec::new();
            loop {
                self.blanks();
                match self.word()? {
                    Some(word) => list.push(word),
                    None => break,
                }
            }
            words = Some(list);
        }
        self.blanks();
        if self.peek() == Some(';') {
            self.next();
        }
        Ok(Body::For {
            name,
            words,
            body: self.do_group()?,
        })
    }

    fn case_clause(&mut self) -> Result<Body, SyntaxError> {
        self.take("case");
        self.blanks();
        let word = self
            .word()?
            .ok_or_else(|| self.error("word expected after \"case\""))?;
        self.expect("in")?;
        let mut arms = Vec::new();
        loop {
            self.lines()?;
            if self.reserved() == Some("esac") {
                break;
            }
            self.take("(");
            let mut patterns = Vec::new();
            loop {
                self.blanks();
                patterns.push(
                    self.word()?
                        .ok_or_else(|| self.error("pattern expected in \"case\""))?,
                );
                self.blanks();
                if !self.take("|") {
                    break;
                }
            }
            self.expect(")")?;
            arms.push((patterns, self.list(&["esac"])?));
            self.lines()?;
            if !self.take(";;") {
                break;
            }
        }
        self.expect("esac")?;
        Ok(Body::Case { word, arms })
    }

    fn name(&mut self) -> Option<String> {
        let start = self.at;
        while let Some(c) = self.peek() {
            if c == '_' || c.is_ascii_alphabetic() || (self.at > start && c.is_ascii_digit()) {
                self.at += 1;
            } else {
                break;
            }
        }
        (self.at > start).then(|| self.text[start..self.at].iter().collect())
    }

    fn simple(&mut self, line: usize) -> Result<Command, SyntaxError> {
        let (mut assignments, mut words, mut redirects) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            self.blanks();
            if let Some(redirect) = self.redirect()? {
                redirects.push(redirect);
                continue;
            }
            if words.is_empty() {
                let start = self.at;
                if let Some(name) = self.name() {
                    if self.take("=") {
                        assignments.push((name, self.word()?.unwrap_or_default()));
                        continue;
                    }
                    self.blanks();
                    if assignments.is_empty() && self.take("(") {
                        self.expect(")")?;
                        self.lines()?;
                        let body = Arc::new(self.command()?);
                        return Ok(Command {
                            line,
                            body: Body::Function { name, body },
                            redirects: Vec::new(),
                        });
                    }
                    self.at = start;
                }
            }
            match self.word()? {
                Some(word) => words.push(word),
                None => break,
            }
        }
        if assignments.is_empty() && words.is_empty() && redirects.is_empty() {
            return Err(match self.peek() {
                None => self.error("end of file unexpected"),
                Some('\n') => self.error("newline unexpected"),
                Some(c) => self.error(format!("\"{c}\" unexpected")),
            });
        }
        Ok(Command {
            line,
            body: Body::Simple { assignments, words },
            redirects,
        })
    }
}
