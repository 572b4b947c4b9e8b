//! What a report must never show: the values of the Secrets that the suite itself applies. Objects are recorded as
//! they are seen, and a target may repeat a password in a message; so every text of a report passes here.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

/// Shorter values would take ordinary words out of a report, and are no secrets either.
const LEN_MIN: usize = 6;
const HIDDEN: &str = "[redacted]";

/// Shows itself to nobody.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({HIDDEN})")
    }
}

impl Secrets {
    /// The values of these Secret objects, but user names; plain and in base64.
    pub fn of<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut secrets = Secrets::default();
        for object in objects {
            for (key, value) in object["stringData"].as_object().into_iter().flatten() {
                secrets.hide(key, value.as_str().unwrap_or_default());
            }
            for (key, value) in object["data"].as_object().into_iter().flatten() {
                let plain = STANDARD
                    .decode(value.as_str().unwrap_or_default())
                    .unwrap_or_default();
                secrets.hide(key, &String::from_utf8_lossy(&plain));
            }
        }
        secrets
    }

    fn hide(&mut self, key: &str, value: &str) {
        if key == "username" || value.len() < LEN_MIN {
            return;
        }
        self.0.extend([value.to_owned(), STANDARD.encode(value)]);
        // What contains another goes first, or its rest would stay.
        self.0.sort_by_key(|v| std::cmp::Reverse(v.len()));
    }

    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.0 {
            if text.contains(value) {
                text = text.replace(value, HIDDEN);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_hidden_in_both_spellings_and_names_are_not() {
        let secrets = Secrets::of(&[
            json!({"stringData": {"username": "operator", "password": "correct horse"}}),
            json!({"data": {"token": STANDARD.encode("correct horse battery")}}),
        ]);
        let encoded = STANDARD.encode("correct horse");
        let text = format!("operator said correct horse battery, correct horse and {encoded}");
        assert_eq!(
            secrets.redact(&text),
            "operator said [redacted], [redacted] and [redacted]"
        );
        assert_eq!(format!("{secrets:?}"), "Secrets([redacted])");
    }
}
