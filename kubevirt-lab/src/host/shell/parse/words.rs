//! Words: quoting, `$`, substitutions (XCU 2.2, 2.6).

use super::{Parser, Part, SyntaxError, Word, parse};

impl Parser {
    /// The next word, or `None` where an operator, a line's end or the end is.
    pub(super) fn word(&mut self) -> Result<Option<Word>, SyntaxError> {
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
                    word.push(Part::Text {
                        text: String::new(),
                        quoted: true,
                    });
                    self.quoted(&mut word, Some('"'))?;
                }
                '\\' => {
                    self.next();
                    match self.next() {
                        Some('\n') => {}
                        Some(c) => word.push(Part::Text {
                            text: c.to_string(),
                            quoted: true,
                        }),
                        None => word.push(Part::Text {
                            text: "\\".to_owned(),
                            quoted: true,
                        }),
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
    pub(super) fn quoted(&mut self, word: &mut Word, end: Option<char>) -> Result<(), SyntaxError> {
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
            word.push(Part::Param {
                name,
                op: None,
                quoted,
            });
        } else {
            match self.peek() {
                Some(c) if c.is_ascii_digit() || "?#@*$!".contains(c) => {
                    self.next();
                    word.push(Part::Param {
                        name: c.to_string(),
                        op: None,
                        quoted,
                    });
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
        word.push(Part::Substitution {
            script: parse(&text)?,
            quoted,
        });
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
                Some('}') => Ok(Part::Param {
                    name,
                    op: Some(("length", Vec::new())),
                    quoted,
                }),
                _ => Err(self.error("Bad substitution")),
            };
        }
        if self.take("}") {
            return Ok(Part::Param {
                name,
                op: None,
                quoted,
            });
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
                    return Ok(Part::Param {
                        name,
                        op: Some((op, word)),
                        quoted,
                    });
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
        _ => word.push(Part::Text {
            text: c.to_string(),
            quoted,
        }),
    }
}
