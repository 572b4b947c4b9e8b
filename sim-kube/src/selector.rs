//! Label and field selectors: parsed in the real server's grammar and with its complaints, matched in memory.

use serde_json::{Map, Value};

use crate::registry::Resource;
use crate::status::{ApiError, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
    Greater(i64),
    Less(i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

/// A conjunction; empty matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Labels(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Symbol(&'static str),
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Token::Word(word) => word,
            Token::Symbol(symbol) => symbol,
            Token::End => "",
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    const SYMBOLS: &[&str] = &["==", "!=", "=", "!", ",", "(", ")", ">", "<"];
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            out.push(Token::End);
            return out;
        }
        if let Some(symbol) = SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
            out.push(Token::Symbol(symbol));
            rest = &rest[symbol.len()..];
            continue;
        }
        let end = rest
            .find(|c: char| c.is_whitespace() || "=!,()<>".contains(c))
            .unwrap_or(rest.len());
        out.push(Token::Word(rest[..end].to_owned()));
        rest = &rest[end..];
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

type Parse<T> = std::result::Result<T, String>;

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = *self.peek() == Token::Word(symbol.to_owned())
            || matches!(self.peek(), Token::Symbol(s) if *s == symbol);
        if found {
            self.at += 1;
        }
        found
    }

    fn word(&mut self, expected: &str) -> Parse<String> {
        match self.next() {
            Token::Word(word) => Ok(word),
            other => Err(format!("found '{}', expected: {expected}", other.text())),
        }
    }

    fn requirement(&mut self) -> Parse<Requirement> {
        if self.take("!") {
            let key = checked_key(self.word("identifier")?)?;
            return Ok(Requirement {
                key,
                test: Test::Absent,
            });
        }
        let key = checked_key(self.word("identifier")?)?;
        let test = match self.peek() {
            Token::End | Token::Symbol(",") => Test::Exists,
            Token::Symbol("=" | "==") => {
                self.at += 1;
                Test::In(vec![self.exact()?])
            }
            Token::Symbol("!=") => {
                self.at += 1;
                Test::NotIn(vec![self.exact()?])
            }
            Token::Symbol(symbol @ (">" | "<")) => {
                let greater = *symbol == ">";
                self.at += 1;
                let word = self.word("identifier")?;
                let bound = word.parse().map_err(|_| {
                    format!("values[0][{key}]: Invalid value: {word:?}: for 'Gt', 'Lt' operators, the value must be an integer")
                })?;
                if greater {
                    Test::Greater(bound)
                } else {
                    Test::Less(bound)
                }
            }
            Token::Word(word) if word == "in" || word == "notin" => {
                let within = word == "in";
                self.at += 1;
                let values = self.values()?;
                if within {
                    Test::In(values)
                } else {
                    Test::NotIn(values)
                }
            }
            other => {
                return Err(format!(
                    "found '{}', expected: in, notin, =, ==, !=, gt, lt",
                    other.text()
                ));
            }
        };
        Ok(Requirement { key, test })
    }

    fn exact(&mut self) -> Parse<String> {
        match self.peek() {
            // `a=` means the empty value.
            Token::End | Token::Symbol(",") => Ok(String::new()),
            _ => checked_value(self.word("identifier")?),
        }
    }

    fn values(&mut self) -> Parse<Vec<String>> {
        if !self.take("(") {
            return Err(format!("found '{}' expected: '('", self.peek().text()));
        }
        let mut values = Vec::new();
        loop {
            match self.next() {
                Token::Word(word) => values.push(checked_value(word)?),
                Token::Symbol(",") => {}
                Token::Symbol(")") => break,
                other => {
                    return Err(format!(
                        "found '{}', expected: ',', ')' or identifier",
                        other.text()
                    ));
                }
            }
        }
        if values.is_empty() {
            values.push(String::new());
        }
        Ok(values)
    }
}

fn checked_key(key: String) -> Parse<String> {
    match crate::builtin::names::qualified_name(&key) {
        None => Ok(key),
        Some(error) => Err(format!("key: Invalid value: {key:?}: {error}")),
    }
}

fn checked_value(value: String) -> Parse<String> {
    match crate::builtin::names::label_value(&value) {
        None => Ok(value),
        Some(error) => Err(format!("values[0]: Invalid value: {value:?}: {error}")),
    }
}

impl Labels {
    pub(crate) fn parse(text: &str) -> Result<Labels> {
        let mut parser = Parser {
            tokens: tokens(text),
            at: 0,
        };
        let mut out = Vec::new();
        while *parser.peek() != Token::End {
            let requirement = parser
                .requirement()
                .map_err(|error| ApiError::bad_request(format!("unable to parse requirement: {error}")))?;
            out.push(requirement);
            match parser.next() {
                Token::End => break,
                Token::Symbol(",") => {}
                other => {
                    let message = format!(
                        "unable to parse requirement: found '{}', expected: ',' or 'end of string'",
                        other.text()
                    );
                    return Err(ApiError::bad_request(message));
                }
            }
        }
        Ok(Labels(out))
    }

    /// From a `LabelSelector` object.
    pub(crate) fn from_value(selector: &Value) -> Labels {
        let mut out = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or_default().to_owned();
            out.push(Requirement {
                key: key.clone(),
                test: Test::In(vec![value]),
            });
        }
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let key = expression["key"].as_str().unwrap_or_default().to_owned();
            let values = expression["values"].as_array().into_iter().flatten();
            let values = values.filter_map(Value::as_str).map(str::to_owned).collect();
            let test = match expression["operator"].as_str() {
                Some("In") => Test::In(values),
                Some("NotIn") => Test::NotIn(values),
                Some("Exists") => Test::Exists,
                _ => Test::Absent,
            };
            out.push(Requirement { key, test });
        }
        Labels(out)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let labels = object["metadata"].get("labels").and_then(Value::as_object);
        self.0.iter().all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    fn holds(&self, labels: Option<&Map<String, Value>>) -> bool {
        let value = labels.and_then(|l| l.get(&self.key)).and_then(Value::as_str);
        match &self.test {
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::In(values) => value.is_some_and(|v| values.iter().any(|w| w == v)),
            Test::NotIn(values) => value.is_none_or(|v| values.iter().all(|w| w != v)),
            Test::Greater(bound) => value
                .and_then(|v| v.parse::<i64>().ok())
                .is_some_and(|v| v > *bound),
            Test::Less(bound) => value
                .and_then(|v| v.parse::<i64>().ok())
                .is_some_and(|v| v < *bound),
        }
    }
}

/// A field selector: paths, values, equal or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<(String, bool, String)>);

/// What the real server lets one select by, beyond name and namespace: `group/resource`, fields.
const SELECTABLE: &[(&str, &[&str])] = &[
    (
        "/pods",
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
    ),
    ("/nodes", &["spec.unschedulable"]),
    ("/namespaces", &["status.phase"]),
    ("/secrets", &["type"]),
    ("/services", &["spec.clusterIP", "spec.type"]),
    (
        "/events",
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
    ),
    ("/replicationcontrollers", &["status.replicas"]),
    ("apps/replicasets", &["status.replicas"]),
    ("batch/jobs", &["status.successful"]),
    (
        "certificates.k8s.io/certificatesigningrequests",
        &["spec.signerName"],
    ),
];

impl Fields {
    pub(crate) fn parse(text: &str, resource: &Resource) -> Result<Fields> {
        let mut out = Vec::new();
        for term in split_terms(text) {
            let (key, equal, value) = if let Some((k, v)) = term.split_once("!=") {
                (k, false, v)
            } else if let Some((k, v)) = term.split_once("==").or_else(|| term.split_once('=')) {
                (k, true, v)
            } else {
                return Err(ApiError::bad_request(format!(
                    "invalid selector: '{term}'; can't understand '{term}'"
                )));
            };
            let mut key = key.trim().to_owned();
            if resource.group == "events.k8s.io" {
                key = key.replacen("regarding.", "involvedObject.", 1);
            }
            if !supported(&key, resource) {
                return Err(ApiError::bad_request(format!("field label not supported: {key}")));
            }
            out.push((key, equal, value.replace("\\,", ",").replace("\\=", "=")));
        }
        Ok(Fields(out))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name that a selector pins, as `kubectl get NAME --watch` does.
    pub(crate) fn pinned(&self, field: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, equal, _)| key == field && *equal)
            .map(|(_, _, value)| value.as_str())
    }

    pub(crate) fn matches(&self, object: &Value, resource: &Resource) -> bool {
        self.0
            .iter()
            .all(|(key, equal, wanted)| (field(object, key, resource) == *wanted) == *equal)
    }
}

/// Splits on commas that no backslash protects.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            ',' if !escaped => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => escaped = false,
        }
    }
    terms.push(&text[start..]);
    terms.into_iter().filter(|t| !t.is_empty()).collect()
}

fn supported(key: &str, resource: &Resource) -> bool {
    if key == "metadata.name" || (key == "metadata.namespace" && resource.namespaced) {
        return true;
    }
    if let Some(custom) = &resource.custom {
        return custom.selectable.iter().any(|(path, _)| path == key);
    }
    SELECTABLE
        .iter()
        .any(|(storage, fields)| **storage == *resource.storage && fields.contains(&key))
}

fn field(object: &Value, key: &str, resource: &Resource) -> String {
    let custom = resource
        .custom
        .as_ref()
        .and_then(|c| c.selectable.iter().find(|(path, _)| path == key));
    let found = match custom {
        Some((_, path)) => path.first(object),
        None => match (&*resource.storage, key) {
            ("/events", "source") => object["source"].get("component"),
            ("batch/jobs", "status.successful") => object["status"].get("succeeded"),
            _ => key.split('.').try_fold(object, |value, part| value.get(part)),
        },
    };
    match found {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None if matches!(key, "spec.unschedulable" | "spec.hostNetwork") => {
            "false".into()
        }
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn label_selectors() {
        let object = json!({"metadata": {"labels": {"app": "one", "n": "5"}}});
        for (text, want) in [
            ("", true),
            ("app", true),
            ("!app", false),
            ("app=one", true),
            ("app==two", false),
            ("app!=two,n", true),
            ("app in (one, two)", true),
            ("app notin (one)", false),
            ("gone notin (x)", true),
            ("n>4,n<6", true),
            ("n > 5", false),
            ("app in (one,fr),!gone", true),
        ] {
            assert_eq!(
                Labels::parse(text).expect(text).matches(&object),
                want,
                "{text:?}"
            );
        }
        for (text, error) in [
            (
                "a===b",
                "unable to parse requirement: found '=', expected: identifier",
            ),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ] {
            assert_eq!(Labels::parse(text).expect_err(text).message, error, "{text:?}");
        }
    }

    proptest::proptest! {
        /// Whatever a client writes: an answer, never a panic.
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,40}|[a-z=!,() <>]{0,30}") {
            let _ = Labels::parse(&text);
            let _ = split_terms(&text);
            let _ = crate::path::Query::parse(&text);
            let _ = crate::path::Target::parse(&text);
            let _ = crate::schema::columns::JsonPath::parse(&text);
            let _ = crate::quantity::Quantity::parse(&text).map(crate::quantity::Quantity::canonical);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            let _ = crate::protobuf::decode(&bytes);
            let whole = [b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x50".as_slice(), &bytes].concat();
            let _ = crate::protobuf::decode(&whole);
        }
    }
}
