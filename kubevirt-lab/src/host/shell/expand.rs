//! Words to fields: parameters, substitutions, arithmetic, field splitting, quote removal (XCU 2.6).

use futures::FutureExt;
use futures::future::BoxFuture;

use super::exec::{Flow, Shell};
use super::io::{Io, Out};
use super::parse::{Part, Script, Word};

/// What a word became while it is expanded: finished fields, and the one that grows.
#[derive(Default)]
struct Fields {
    done: Vec<String>,
    /// `None`: nothing yet, so that an unquoted empty expansion makes no field.
    open: Option<String>,
}

impl Fields {
    fn push(&mut self, text: &str) {
        self.open.get_or_insert_default().push_str(text);
    }

    fn cut(&mut self) {
        self.done.extend(self.open.take());
    }

    /// Unquoted text from an expansion is split at blanks (the default IFS).
    fn split(&mut self, text: &str) {
        let mut rest = text;
        loop {
            let trimmed = rest.trim_start_matches([' ', '\t', '\n']);
            if trimmed.len() != rest.len() {
                self.cut();
            }
            if trimmed.is_empty() {
                return;
            }
            let end = trimmed.find([' ', '\t', '\n']).unwrap_or(trimmed.len());
            self.push(&trimmed[..end]);
            rest = &trimmed[end..];
        }
    }
}

impl Shell {
    /// Several words to fields.
    pub(super) async fn fields(&mut self, words: &[Word], io: &Io) -> Result<Vec<String>, Flow> {
        let mut fields = Fields::default();
        for word in words {
            self.expand(word, io, true, &mut fields).await?;
            fields.cut();
        }
        Ok(fields.done)
    }

    /// One word to one text, without splitting: values of assignments, targets of redirections.
    pub(super) async fn text(&mut self, word: &Word, io: &Io) -> Result<String, Flow> {
        let mut fields = Fields::default();
        self.expand(word, io, false, &mut fields).await?;
        Ok(fields.open.unwrap_or_default())
    }

    /// A word to a pattern: characters that were quoted are escaped with a backslash.
    pub(super) async fn pattern(&mut self, word: &Word, io: &Io) -> Result<String, Flow> {
        let mut pattern = String::new();
        for part in word {
            match part {
                Part::Text { text, quoted: false } => pattern.push_str(text),
                part => {
                    let mut fields = Fields::default();
                    self.part(part, io, false, &mut fields).await?;
                    for c in fields.open.unwrap_or_default().chars() {
                        if "*?[]\\".contains(c) {
                            pattern.push('\\');
                        }
                        pattern.push(c);
                    }
                }
            }
        }
        Ok(pattern)
    }

    fn expand<'a>(
        &'a mut self,
        word: &'a Word,
        io: &'a Io,
        split: bool,
        fields: &'a mut Fields,
    ) -> BoxFuture<'a, Result<(), Flow>> {
        async move {
            for part in word {
                self.part(part, io, split, fields).await?;
            }
            Ok(())
        }
        .boxed()
    }

    async fn part(&mut self, part: &Part, io: &Io, split: bool, fields: &mut Fields) -> Result<(), Flow> {
        let (text, quoted) = match part {
            Part::Text { text, .. } => {
                fields.push(text);
                return Ok(());
            }
            Part::Param {
                name,
                op: None,
                quoted,
            } if name == "@" || name == "*" => {
                self.all_arguments(name == "@" && *quoted && split, *quoted, fields);
                return Ok(());
            }
            Part::Param { name, op, quoted } => (self.parameter(name, op.as_ref(), io).await?, *quoted),
            Part::Substitution { script, quoted } => (self.substitute(script, io).await?, *quoted),
            Part::Arithmetic { expression, quoted } => {
                let text = self.boxed_text(expression, io).await?;
                let value = Arithmetic {
                    shell: self,
                    text: text.as_bytes(),
                    at: 0,
                }
                .value();
                let value =
                    value.ok_or_else(|| self.fatal(io, &format!("arithmetic expression: \"{text}\"")))?;
                (value.to_string(), *quoted)
            }
        };
        if quoted || !split {
            fields.push(&text);
        } else {
            fields.split(&text);
        }
        Ok(())
    }

    fn boxed_text<'a>(&'a mut self, word: &'a Word, io: &'a Io) -> BoxFuture<'a, Result<String, Flow>> {
        self.text(word, io).boxed()
    }

    fn all_arguments(&self, separate: bool, quoted: bool, fields: &mut Fields) {
        if separate {
            for (index, argument) in self.arguments.iter().enumerate() {
                if index > 0 {
                    fields.cut();
                }
                fields.push(argument);
            }
        } else if quoted {
            fields.push(&self.arguments.join(" "));
        } else {
            fields.split(&self.arguments.join(" "));
        }
    }

    async fn parameter(
        &mut self,
        name: &str,
        op: Option<&(&'static str, Word)>,
        io: &Io,
    ) -> Result<String, Flow> {
        let value = self.lookup(name);
        let Some((op, word)) = op else {
            if value.is_none() && self.options.nounset {
                return Err(self.fatal(io, &format!("{name}: parameter not set")));
            }
            return Ok(value.unwrap_or_default());
        };
        // With a colon an empty value counts as unset.
        let present = value
            .as_ref()
            .is_some_and(|value| !(op.starts_with(':') && value.is_empty()));
        let value = value.unwrap_or_default();
        match op.trim_start_matches(':') {
            "length" => Ok(value.chars().count().to_string()),
            "-" | "=" | "?" if present => Ok(value),
            "+" if !present => Ok(String::new()),
            "-" | "+" => self.boxed_text(word, io).await,
            "=" => {
                let text = self.boxed_text(word, io).await?;
                self.set(name, text.clone());
                Ok(text)
            }
            "?" => {
                let text = self.boxed_text(word, io).await?;
                let text = if text.is_empty() {
                    "parameter not set".to_owned()
                } else {
                    text
                };
                Err(self.fatal(io, &format!("{name}: {text}")))
            }
            op => {
                let pattern = self.pattern_boxed(word, io).await?;
                Ok(strip(&value, op, &pattern).to_owned())
            }
        }
    }

    fn pattern_boxed<'a>(&'a mut self, word: &'a Word, io: &'a Io) -> BoxFuture<'a, Result<String, Flow>> {
        self.pattern(word, io).boxed()
    }

    fn substitute<'a>(&'a mut self, script: &'a Script, io: &'a Io) -> BoxFuture<'a, Result<String, Flow>> {
        async move {
            let buffer = Out::buffer();
            let inner = Io {
                stdout: buffer.clone(),
                ..io.clone()
            };
            let mut subshell = self.subshell();
            self.status = subshell.run_apart(script, &inner).await?;
            self.substituted = true;
            let mut text = String::from_utf8_lossy(&buffer.take()).into_owned();
            text.truncate(text.trim_end_matches('\n').len());
            Ok(text)
        }
        .boxed()
    }
}

/// `${name#pattern}` and its relatives.
fn strip<'a>(value: &'a str, op: &str, pattern: &str) -> &'a str {
    let cuts: Vec<usize> = value
        .char_indices()
        .map(|(at, _)| at)
        .chain([value.len()])
        .collect();
    let prefix = |at: &&usize| matches(pattern, &value[..**at]);
    let suffix = |at: &&usize| matches(pattern, &value[**at..]);
    match op {
        "#" => cuts.iter().find(prefix).map_or(value, |at| &value[*at..]),
        "##" => cuts.iter().rev().find(prefix).map_or(value, |at| &value[*at..]),
        "%" => cuts.iter().rev().find(suffix).map_or(value, |at| &value[..*at]),
        _ => cuts.iter().find(suffix).map_or(value, |at| &value[..*at]),
    }
}

/// Pattern matching (XCU 2.14): `*`, `?`, `[..]`, backslash. Iterative with one point of return, so that it is linear in
/// practice and at worst length times pattern.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some('?') => Some(p + 1),
            Some('[') => bracket(&pattern, p, text[t]),
            Some('\\') if pattern.get(p + 1) == Some(&text[t]) => Some(p + 2),
            Some(c) if *c == text[t] && *c != '\\' => Some(p + 1),
            _ => None,
        };
        match (step, star) {
            (Some(next), _) => {
                p = next;
                t += 1;
            }
            (None, Some((back, at))) => {
                star = Some((back, at + 1));
                p = back;
                t = at + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Where the pattern goes on after a bracket expression that matches `c`.
fn bracket(pattern: &[char], start: usize, c: char) -> Option<usize> {
    let negated = matches!(pattern.get(start + 1), Some('!' | '^'));
    let first = start + 1 + usize::from(negated);
    let mut at = first;
    let mut found = false;
    while *pattern.get(at)? != ']' || at == first {
        let low = pattern[at];
        if pattern.get(at + 1) == Some(&'-') && pattern.get(at + 2).is_some_and(|high| *high != ']') {
            found |= (low..=pattern[at + 2]).contains(&c);
            at += 3;
        } else {
            found |= low == c;
            at += 1;
        }
    }
    (found != negated).then_some(at + 1)
}

/// Integers with `+ - * / %`, comparison and parentheses.
struct Arithmetic<'a> {
    shell: &'a Shell,
    text: &'a [u8],
    at: usize,
}

impl Arithmetic<'_> {
    fn value(mut self) -> Option<i64> {
        let value = self.compare(0)?;
        self.blanks();
        (self.at == self.text.len()).then_some(value)
    }

    fn blanks(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn take(&mut self, op: &str) -> bool {
        self.blanks();
        let found = self.text[self.at..].starts_with(op.as_bytes());
        self.at += if found { op.len() } else { 0 };
        found
    }

    fn compare(&mut self, depth: usize) -> Option<i64> {
        let left = self.sum(depth)?;
        for (op, holds) in [
            ("==", (|a, b| a == b) as fn(i64, i64) -> bool),
            ("!=", |a, b| a != b),
            ("<=", |a, b| a <= b),
            (">=", |a, b| a >= b),
            ("<", |a, b| a < b),
            (">", |a, b| a > b),
        ] {
            if self.take(op) {
                return Some(i64::from(holds(left, self.sum(depth)?)));
            }
        }
        Some(left)
    }

    fn sum(&mut self, depth: usize) -> Option<i64> {
        let mut value = self.product(depth)?;
        loop {
            if self.take("+") {
                value = value.checked_add(self.product(depth)?)?;
            } else if self.take("-") {
                value = value.checked_sub(self.product(depth)?)?;
            } else {
                return Some(value);
            }
        }
    }

    fn product(&mut self, depth: usize) -> Option<i64> {
        let mut value = self.factor(depth)?;
        loop {
            if self.take("*") {
                value = value.checked_mul(self.factor(depth)?)?;
            } else if self.take("/") {
                value = value.checked_div(self.factor(depth)?)?;
            } else if self.take("%") {
                value = value.checked_rem(self.factor(depth)?)?;
            } else {
                return Some(value);
            }
        }
    }

    fn factor(&mut self, depth: usize) -> Option<i64> {
        if depth > 20 {
            return None;
        }
        if self.take("-") {
            return self.factor(depth + 1)?.checked_neg();
        }
        if self.take("(") {
            let value = self.compare(depth + 1)?;
            return self.take(")").then_some(value);
        }
        self.blanks();
        let start = self.at;
        while self
            .text
            .get(self.at)
            .is_some_and(|c| c.is_ascii_alphanumeric() || *c == b'_')
        {
            self.at += 1;
        }
        let word = std::str::from_utf8(&self.text[start..self.at]).ok()?;
        if word.is_empty() {
            return None;
        }
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            return word.parse().ok();
        }
        match self.shell.lookup(word) {
            None => Some(0),
            Some(value) if value.trim().is_empty() => Some(0),
            Some(value) => value.trim().parse().ok(),
        }
    }
}
