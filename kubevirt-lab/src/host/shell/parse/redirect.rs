//! Redirections and here documents (XCU 2.7).

use super::{Document, Parser, Part, Pending, Redirect, SyntaxError, Target, Word};

impl Parser {
    pub(super) fn heredoc(&mut self, pending: &Pending) -> Result<Word, SyntaxError> {
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
            let line = if pending.strip_tabs {
                line.trim_start_matches('\t')
            } else {
                &line
            };
            if line == pending.end {
                break;
            }
            text.push_str(line);
            text.push('\n');
        }
        if pending.quoted {
            return Ok(vec![Part::Text { text, quoted: true }]);
        }
        let mut inner = Parser {
            text: text.chars().collect(),
            at: 0,
            line: self.line,
            depth: self.depth,
            heredocs: Vec::new(),
        };
        let mut word = Vec::new();
        inner.quoted(&mut word, None)?;
        Ok(word)
    }

    pub(super) fn redirect(&mut self) -> Result<Option<Redirect>, SyntaxError> {
        let start = self.at;
        let digit = self.peek().and_then(|c| c.to_digit(10));
        if digit.is_some() {
            self.at += 1;
        }
        let operator = ["<<-", "<<", ">>", ">&", "<&", ">|", ">", "<"]
            .into_iter()
            .find(|op| self.starts(op));
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
            self.heredocs.push(Pending {
                end,
                quoted,
                strip_tabs: operator == "<<-",
                found: found.clone(),
            });
            return Ok(Some(Redirect {
                fd,
                to: Target::Here(found),
            }));
        }
        let word = self
            .word()?
            .ok_or_else(|| self.error("file name expected after a redirection"))?;
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
        let word = self
            .word()?
            .ok_or_else(|| self.error("end marker expected after \"<<\""))?;
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
}
