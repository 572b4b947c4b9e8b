//! The JSONPath dialect of printer columns and selectable fields: `.a.b`, `['a.b']`, `[0]`, `[*]`,
//! `[?(@.type=="Ready")]`. Parsed once, then walked.

use serde_json::Value;

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    Filter {
        path: Vec<String>,
        equal: bool,
        value: Value,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JsonPath(Vec<Step>);

impl JsonPath {
    pub(crate) fn parse(text: &str) -> Result<JsonPath, String> {
        let mut steps = Vec::new();
        let mut rest = text
            .trim()
            .trim_start_matches('{')
            .trim_end_matches('}')
            .trim_start_matches('$');
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('[') {
                let end = closing(inner).ok_or_else(|| format!("unterminated array: {text}"))?;
                steps.push(
                    bracket(inner[..end].trim())
                        .ok_or_else(|| format!("invalid array index {}", &inner[..end]))?,
                );
                rest = &inner[end + 1..];
                continue;
            }
            let after = rest
                .strip_prefix('.')
                .ok_or_else(|| format!("unexpected {rest:?}, a field starts with a dot"))?;
            let (name, tail) = field(after);
            match name.as_str() {
                "" if tail.starts_with('[') || (tail.is_empty() && steps.is_empty()) => {}
                "" => return Err(format!("empty field name in {text}")),
                "*" => steps.push(Step::All),
                _ => steps.push(Step::Field(name)),
            }
            rest = tail;
        }
        Ok(JsonPath(steps))
    }

    pub(crate) fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![root];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.apply(value)).collect();
        }
        found
    }

    pub(crate) fn first<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        self.find(root).into_iter().next()
    }

    /// The fields of a path that has nothing but fields.
    pub(crate) fn fields(&self) -> Option<Vec<&str>> {
        self.0
            .iter()
            .map(|step| {
                if let Step::Field(name) = step {
                    Some(name.as_str())
                } else {
                    None
                }
            })
            .collect()
    }
}

fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

/// A field name up to the next `.` or `[`; a backslash takes the next character as it is.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '.' | '[' => return (name, &text[at..]),
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            c => name.push(c),
        }
    }
    (name, "")
}

fn literal(text: &str) -> Option<Value> {
    let text = text.trim();
    for quote in ['\'', '"'] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote)) {
            return Some(inner.into());
        }
    }
    serde_json::from_str(text).ok()
}

fn bracket(inner: &str) -> Option<Step> {
    if inner == "*" {
        return Some(Step::All);
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|f| f.strip_suffix(')')) {
        let (left, equal, right) = match (filter.split_once("=="), filter.split_once("!=")) {
            (Some((l, r)), _) => (l, true, r),
            (None, Some((l, r))) => (l, false, r),
            _ => return None,
        };
        let left = left.trim().strip_prefix('@')?;
        let path = JsonPath::parse(left).ok()?;
        let path = path.fields()?.into_iter().map(str::to_owned).collect();
        return Some(Step::Filter {
            path,
            equal,
            value: literal(right)?,
        });
    }
    match literal(inner)? {
        Value::String(name) => Some(Step::Field(name)),
        Value::Number(n) => n.as_i64().map(Step::Index),
        _ => None,
    }
}

impl Step {
    fn apply<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match self {
            Step::Field(name) => value.get(name).into_iter().collect(),
            Step::Index(at) => {
                let Some(items) = value.as_array() else {
                    return Vec::new();
                };
                let at = if *at < 0 { items.len() as i64 + at } else { *at };
                usize::try_from(at)
                    .ok()
                    .and_then(|at| items.get(at))
                    .into_iter()
                    .collect()
            }
            Step::All => match value {
                Value::Array(items) => items.iter().collect(),
                Value::Object(map) => map.values().collect(),
                _ => Vec::new(),
            },
            Step::Filter {
                path,
                equal,
                value: wanted,
            } => {
                let matches = |item: &&Value| {
                    let found = path.iter().try_fold(*item, |v, key| v.get(key));
                    found.is_some_and(|found| (found == wanted) == *equal)
                };
                value.as_array().into_iter().flatten().filter(matches).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths() {
        let object = json!({"a": {"b.c": 1, "l": [{"type": "X", "v": 7}, {"type": "Ready", "v": 8}]}});
        for (path, want) in [
            (".a['b.c']", json!([1])),
            (".a.b\\.c", json!([1])),
            (".a.l[0].v", json!([7])),
            (".a.l[-1].v", json!([8])),
            (".a.l[*].v", json!([7, 8])),
            (".a.l[?(@.type==\"Ready\")].v", json!([8])),
            (".a.l[?(@.type != 'Ready')].v", json!([7])),
            ("{.a.none}", json!([])),
        ] {
            let found = JsonPath::parse(path)
                .expect(path)
                .find(&object)
                .into_iter()
                .cloned()
                .collect::<Vec<_>>();
            assert_eq!(json!(found), want, "{path}");
        }
        assert!(JsonPath::parse(".a[0").is_err());
        assert!(JsonPath::parse("a").is_err());
    }
}
