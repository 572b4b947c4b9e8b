//! Text to syntax tree (POSIX.1-2024, Shell Command Language 2.10, the part named in `mod.rs`).

use std::sync::{Arc, OnceLock};

/// Nesting that is accepted: scripts are data from outside, and the parser recurses.
const DEPTH_MAX: usize = 50;

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
    Simple { assignments: Vec<(String, Word)>, words: Vec<Word> },
    If { arms: Vec<(Script, Script)>, otherwise: Script },
    Loop { until: bool, condition: Script, body: Script },
    For { name: String, words: Option<Vec<Word>>, body: Script },
    Case { word: Word, arms: Vec<(Vec<Word>, Script)> },
    Group(Script),
    Subshell(Script),
    Function { name: String, body: Arc<Command> },
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
    Text { text: String, quoted: bool },
    Param { name: String, op: Option<(&'static str, Word)>, quoted: bool },
    Substitution { script: Script, quoted: bool },
    Arithmetic { expression: Word, quoted: bool },
}

pub(crate) fn parse(text: &str) -> Result<Script, SyntaxError> {
    let mut parser = Parser { text: text.chars().collect(), at: 0, line: 1, depth: 0, heredocs: Vec::new() };
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

const RESERVED: &[&str] =
    &["if", "then", "elif", "else", "fi", "for", "while", "until", "do", "done", "case", "esac", "{", "}", "!", "in"];

impl Parser {
    fn error(&self, reason: impl Into<String>) -> SyntaxError {
        SyntaxError { line: self.line, reason: reason.into() }
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn starts(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(i, c)| self.text.get(self.at + i) == Some(&c))
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

    fn heredoc(&mut self, pending: &Pending) -> Result<Word, SyntaxError> {
        let mut text = String::new();
        loop {
            if self.peek().is_none() {
                // dash takes the end of the file for the end of the document.
                break;
            }
            let mut line = String::new();
            while let Some(c) = self.next() {
                if c == '\n' {
                    break;
                }
                line.push(c);
            }
            let line = if pending.strip_tabs { line.trim_start_matches('\t') } else { &line };
            if line == pending.end {
                break;
            }
            text.push_str(line);
            text.push('\n');
        }
        if pending.quoted {
            return Ok(vec![Part::Text { text, quoted: true }]);
        }
        let mut inner =
            Parser { text: text.chars().collect(), at: 0, line: self.line, depth: self.depth, heredocs: Vec::new() };
        let mut word = Vec::new();
        inner.quoted(&mut word, None)?;
        Ok(word)
    }

    fn reserved(&self) -> Option<&'static str> {
        RESERVED.iter().copied().find(|word| {
            let after = self.text.get(self.at + word.chars().count());
            self.starts(word) && after.is_none_or(|c| c.is_whitespace() || ";&|<>()".contains(*c))
        })
    }

    fn expect(&mut self, word: &'static str) -> Result<(), SyntaxError> {
        self.lines()?;
        if self.reserved() == Some(word) || (word.len() == 1 && !RESERVED.contains(&word) && self.starts(word)) {
            self.take(word);
            return Ok(());
        }
        let found: String = self.text[self.at..].iter().take(12).take_while(|c| !c.is_whitespace()).collect();
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
                Body::Loop { until: word == "until", condition, body: self.do_group()? }
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
                None => return Ok(Command { line, body, redirects }),
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
        Ok(Body::For { name, words, body: self.do_group()? })
    }

    fn case_clause(&mut self) -> Result<Body, SyntaxError> {
        self.take("case");
        self.blanks();
        let word = self.word()?.ok_or_else(|| self.error("word expected after \"case\""))?;
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
                patterns.push(self.word()?.ok_or_else(|| self.error("pattern expected in \"case\""))?);
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
                        return Ok(Command { line, body: Body::Function { name, body }, redirects: Vec::new() });
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
        Ok(Command { line, body: Body::Simple { assignments, words }, redirects })
    }

    fn redirect(&mut self) -> Result<Option<Redirect>, SyntaxError> {
        let start = self.at;
        let digit = self.peek().and_then(|c| c.to_digit(10));
        if digit.is_some() {
            self.at += 1;
        }
        let operator = ["<<-", "<<", ">>", ">&", "<&", ">|", ">", "<"].into_iter().find(|op| self.starts(op));
        let Some(operator) = operator else {
            self.at = start;
            return Ok(None);
        };
        self.take(operator);
        self.blanks();
        let default = if operator.starts_with('<') { 0 } else { 1 };
        let fd = digit.map_or(default, |digit| digit as u8);
        if let "<<" | "<<-" = operator {
            let (end, quoted) = self.heredoc_end()?;
            let found = Document::default();
            self.heredocs.push(Pending { end, quoted, strip_tabs: operator == "<<-", found: found.clone() });
            return Ok(Some(Redirect { fd, to: Target::Here(found) }));
        }
        let word = self.word()?.ok_or_else(|| self.error("file name expected after a redirection"))?;
        let to = match operator {
            ">>" => Target::Append(word),
            "<" => Target::Read(word),
            ">&" | "<&" => match &word[..] {
                [Part::Text { text, .. }] if text.len() == 1 && text.as_bytes()[0].is_ascii_digit() => {
                    Target::Fd(text.as_bytes()[0] - b'0')
                }
                _ => return Err(self.error("Bad fd number")),
            },
            _ => Target::Write(word),
        };
        Ok(Some(Redirect { fd, to }))
    }

    fn heredoc_end(&mut self) -> Result<(String, bool), SyntaxError> {
        let word = self.word()?.ok_or_else(|| self.error("end marker expected after \"<<\""))?;
        let (mut end, mut any_quoted) = (String::new(), false);
        for part in &word {
            match part {
                Part::Text { text, quoted } => {
                    end.push_str(text);
                    any_quoted |= quoted;
                }
                _ => return Err(self.error("the end marker of a here document must be plain text")),
            }
        }
        Ok((end, any_quoted))
    }

    /// The next word, or `None` where an operator, a line's end or the end is.
    fn word(&mut self) -> Result<Option<Word>, SyntaxError> {
        let mut word: Word = Vec::new();
        let mut any = false;
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\n' | '\r' | ';' | '&' | '|' | '<' | '>' | '(' | ')' => break,
                '\'' => {
                    self.next();
                    let mut text = String::new();
                    loop {
                        match self.next() {
                            Some('\'') => break,
                            Some(c) => text.push(c),
                            None => return Err(self.error("Unterminated quoted string")),
                        }
                    }
                    word.push(Part::Text { text, quoted: true });
                }
                '"' => {
                    self.next();
                    // Also an empty one makes a field.
                    word.push(Part::Text { text: String::new(), quoted: true });
                    self.quoted(&mut word, Some('"'))?;
                }
                '\\' => {
                    self.next();
                    match self.next() {
                        Some('\n') => {}
                        Some(c) => word.push(Part::Text { text: c.to_string(), quoted: true }),
                        None => word.push(Part::Text { text: "\\".to_owned(), quoted: true }),
                    }
                }
                '$' | '`' => self.dollar(&mut word, false)?,
                c => {
                    self.next();
                    push(&mut word, c, false);
                }
            }
            any = true;
        }
        Ok(any.then_some(word))
    }

    /// The inside of double quotes (or a here document): only `$`, backquotes and some backslashes are special.
    fn quoted(&mut self, word: &mut Word, end: Option<char>) -> Result<(), SyntaxError> {
        loop {
            match self.peek() {
                None if end.is_none() => return Ok(()),
                None => return Err(self.error("Unterminated quoted string")),
                c if c == end => {
                    self.next();
                    return Ok(());
                }
                Some('$' | '`') => self.dollar(word, true)?,
                Some('\\') => {
                    self.next();
                    match self.next() {
                        Some('\n') => {}
                        Some(c) if "$`\\".contains(c) || Some(c) == end => push(word, c, true),
                        Some(c) => {
                            push(word, '\\', true);
                            push(word, c, true);
                        }
                        None => push(word, '\\', true),
                    }
                }
                Some(c) => {
                    self.next();
                    push(word, c, true);
                }
            }
        }
    }

    fn dollar(&mut self, word: &mut Word, quoted: bool) -> Result<(), SyntaxError> {
        if self.take("`") {
            return self.backquotes(word, quoted);
        }
        self.next();
        if self.take("((") {
            let expression = self.arithmetic()?;
            word.push(Part::Arithmetic { expression, quoted });
        } else if self.take("(") {
            let script = self.list(&[])?;
            self.expect(")")?;
            word.push(Part::Substitution { script, quoted });
        } else if self.take("{") {
            word.push(self.braces(quoted)?);
        } else if let Some(name) = self.name() {
            word.push(Part::Param { name, op: None, quoted });
        } else {
            match self.peek() {
                Some(c) if c.is_ascii_digit() || "?#@*$!".contains(c) => {
                    self.next();
                    word.push(Part::Param { name: c.to_string(), op: None, quoted });
                }
                _ => push(word, '$', quoted),
            }
        }
        Ok(())
    }

    fn backquotes(&mut self, word: &mut Word, quoted: bool) -> Result<(), SyntaxError> {
        let mut text = String::new();
        loop {
            match self.next() {
                Some('`') => break,
                Some('\\') if self.peek().is_some_and(|c| "`\\$".contains(c)) => text.extend(self.next()),
                Some(c) => text.push(c),
                None => return Err(self.error("EOF in backquote substitution")),
            }
        }
        word.push(Part::Substitution { script: parse(&text)?, quoted });
        Ok(())
    }

    fn arithmetic(&mut self) -> Result<Word, SyntaxError> {
        let (mut word, mut open) = (Vec::new(), 0);
        loop {
            match self.peek() {
                None => return Err(self.error("Missing '))'")),
                Some(')') if open == 0 && self.starts("))") => {
                    self.take("))");
                    return Ok(word);
                }
                Some('$') => self.dollar(&mut word, true)?,
                Some(c) => {
                    open += i32::from(c == '(') - i32::from(c == ')');
                    self.next();
                    push(&mut word, c, true);
                }
            }
        }
    }

    fn braces(&mut self, quoted: bool) -> Result<Part, SyntaxError> {
        let length = self.peek() == Some('#') && self.text.get(self.at + 1) != Some(&'}');
        if length {
            self.next();
        }
        let name = match self.name() {
            Some(name) => name,
            None => {
                let mut digits = String::new();
                while self.peek().is_some_and(|c| c.is_ascii_digit()) {
                    digits.extend(self.next());
                }
                if digits.is_empty() {
                    digits.extend(self.next().filter(|c| "?#@*$!".contains(*c)));
                }
                digits
            }
        };
        if name.is_empty() {
            return Err(self.error("Bad substitution"));
        }
        if length {
            return match self.next() {
                Some('}') => Ok(Part::Param { name, op: Some(("length", Vec::new())), quoted }),
                _ => Err(self.error("Bad substitution")),
            };
        }
        if self.take("}") {
            return Ok(Part::Param { name, op: None, quoted });
        }
        const OPS: &[&str] = &[":-", ":=", ":+", ":?", "-", "=", "+", "?", "##", "#", "%%", "%"];
        let Some(op) = OPS.iter().copied().find(|op| self.starts(op)) else {
            return Err(self.error("Bad substitution"));
        };
        self.take(op);
        let mut word = Vec::new();
        loop {
            match self.peek() {
                None => return Err(self.error("Missing '}'")),
                Some('}') => {
                    self.next();
                    return Ok(Part::Param { name, op: Some((op, word)), quoted });
                }
                Some('$' | '`') => self.dollar(&mut word, quoted)?,
                Some('"') => {
                    self.next();
                    self.quoted(&mut word, Some('"'))?;
                }
                Some('\'') if !quoted => {
                    self.next();
                    while let Some(c) = self.next().filter(|c| *c != '\'') {
                        push(&mut word, c, true);
                    }
                }
                Some('\\') => {
                    self.next();
                    if let Some(c) = self.next() {
                        push(&mut word, c, true);
                    }
                }
                Some(c) => {
                    self.next();
                    push(&mut word, c, false);
                }
            }
        }
    }
}

fn push(word: &mut Word, c: char, quoted: bool) {
    match word.last_mut() {
        Some(Part::Text { text, quoted: same }) if *same == quoted => text.push(c),
        _ => word.push(Part::Text { text: c.to_string(), quoted }),
    }
}
