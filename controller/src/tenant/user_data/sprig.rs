//! The functions of Masterminds/sprig that machine templates use. All are pure: what reads a clock, an environment
//! or a random source is not there.

use base64::{Engine, engine::general_purpose::STANDARD};
use gotmpl::{FuncMap, TemplateError, Value};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, sync::Arc};

type Outcome = Result<Value, TemplateError>;

/// Longest text or list that a function makes.
const SIZE_MAX: usize = 1 << 20;

pub(super) fn functions() -> FuncMap {
    let mut map = FuncMap::new();
    let mut add = |name: &'static str, function: fn(&Args<'_>) -> Outcome| {
        map.insert(
            name.into(),
            Arc::new(move |values: &[Value]| function(&Args { name, values })),
        );
    };
    texts(&mut add);
    encodings(&mut add);
    lists(&mut add);
    numbers(&mut add);
    map
}

type Add<'a> = &'a mut dyn FnMut(&'static str, fn(&Args<'_>) -> Outcome);

fn texts(add: Add<'_>) {
    add("trim", |a| text(a.text(0)?.trim()));
    add("upper", |a| text(a.text(0)?.to_uppercase()));
    add("lower", |a| text(a.text(0)?.to_lowercase()));
    add("title", |a| text(title(&a.text(0)?)));
    add("quote", |a| a.each(|s| format!("{s:?}")));
    add("squote", |a| a.each(|s| format!("'{s}'")));
    add("cat", |a| a.each(|s| s.to_owned()));
    add("trimPrefix", |a| {
        text(
            a.text(1)?
                .strip_prefix(&a.text(0)?)
                .map(str::to_owned)
                .map_or_else(|| a.text(1), Ok)?,
        )
    });
    add("trimSuffix", |a| {
        text(
            a.text(1)?
                .strip_suffix(&a.text(0)?)
                .map(str::to_owned)
                .map_or_else(|| a.text(1), Ok)?,
        )
    });
    add("trimAll", |a| {
        let set = a.text(0)?;
        text(a.text(1)?.trim_matches(|c| set.contains(c)))
    });
    add("replace", |a| {
        a.bounded(a.text(2)?.replace(&a.text(0)?, &a.text(1)?))
    });
    add("contains", |a| Ok(Value::Bool(a.text(1)?.contains(&a.text(0)?))));
    add("hasPrefix", |a| {
        Ok(Value::Bool(a.text(1)?.starts_with(&a.text(0)?)))
    });
    add("hasSuffix", |a| {
        Ok(Value::Bool(a.text(1)?.ends_with(&a.text(0)?)))
    });
    add("trunc", |a| {
        let (length, whole) = (a.number(0)?, a.text(1)?);
        let count = whole.chars().count();
        let size = usize::try_from(length.unsigned_abs())
            .unwrap_or(usize::MAX)
            .min(count);
        // A negative length counts from the end.
        let skip = if length < 0 { count - size } else { 0 };
        text(whole.chars().skip(skip).take(size).collect::<String>())
    });
    add("repeat", |a| {
        let (count, one) = (usize::try_from(a.number(0)?).unwrap_or(0), a.text(1)?);
        if one.len().saturating_mul(count) > SIZE_MAX {
            return Err(a.fail("makes too much text"));
        }
        text(one.repeat(count))
    });
    add("indent", |a| a.bounded(indent(a.number(0)?, &a.text(1)?)));
    add("nindent", |a| {
        a.bounded(format!("\n{}", indent(a.number(0)?, &a.text(1)?)))
    });
    add("toString", |a| text(a.text(0)?));
    add("default", |a| {
        Ok(if truthy(a.values.get(1)) {
            a.get(1)?.clone()
        } else {
            a.get(0)?.clone()
        })
    });
    add("required", |a| {
        if truthy(a.values.get(1)) {
            Ok(a.get(1)?.clone())
        } else {
            Err(TemplateError::Exec(a.text(0)?))
        }
    });
    add("fail", |a| Err(TemplateError::Exec(a.text(0)?)));
    add("empty", |a| Ok(Value::Bool(!truthy(a.values.first()))));
    add("coalesce", |a| {
        Ok(a.values
            .iter()
            .find(|v| v.is_truthy())
            .cloned()
            .unwrap_or(Value::Nil))
    });
    add("ternary", |a| {
        Ok(a.get(if truthy(a.values.get(2)) { 0 } else { 1 })?.clone())
    });
}

fn encodings(add: Add<'_>) {
    add("b64enc", |a| text(STANDARD.encode(a.text(0)?)));
    add("b64dec", |a| {
        let bytes = STANDARD
            .decode(a.text(0)?.trim())
            .map_err(|e| a.fail(&e.to_string()))?;
        text(String::from_utf8(bytes).map_err(|_| a.fail("the decoded bytes are no text"))?)
    });
    add("sha256sum", |a| {
        text(
            Sha256::digest(a.text(0)?)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>(),
        )
    });
    add("toJson", |a| text(json(a.get(0)?).to_string()));
    add("toPrettyJson", |a| {
        text(serde_json::to_string_pretty(&json(a.get(0)?)).map_err(|e| a.fail(&e.to_string()))?)
    });
    add("fromJson", |a| {
        let value: Json = serde_json::from_str(&a.text(0)?).map_err(|e| a.fail(&e.to_string()))?;
        gotmpl::to_value(&value)
    });
    // Helm's and the platform's toYaml: no newline at the end.
    add("toYaml", |a| {
        text(super::write::yaml(&json(a.get(0)?)).trim_end())
    });
    add("fromYaml", |a| {
        let value: Json = steelyard_api::yaml::read(&a.text(0)?).map_err(|e| a.fail(&e.to_string()))?;
        gotmpl::to_value(&value)
    });
}

fn lists(add: Add<'_>) {
    add("list", |a| Ok(Value::List(a.values.into())));
    add("join", |a| {
        let parts: Vec<_> = a
            .list(1)?
            .iter()
            .filter(|v| !matches!(v, Value::Nil))
            .map(Value::to_string)
            .collect();
        a.bounded(parts.join(&a.text(0)?))
    });
    add("splitList", |a| {
        let whole = a.text(1)?;
        Ok(Value::List(
            whole
                .split(a.text(0)?.as_str())
                .map(|s| Value::String(s.into()))
                .collect(),
        ))
    });
    add("first", |a| Ok(a.list(0)?.first().cloned().unwrap_or(Value::Nil)));
    add("last", |a| Ok(a.list(0)?.last().cloned().unwrap_or(Value::Nil)));
    add("rest", |a| {
        Ok(Value::List(a.list(0)?.iter().skip(1).cloned().collect()))
    });
    add("append", |a| {
        Ok(Value::List(
            a.list(0)?.iter().chain([a.get(1)?]).cloned().collect(),
        ))
    });
    add("has", |a| {
        let wanted = json(a.get(0)?);
        Ok(Value::Bool(a.list(1)?.iter().any(|v| json(v) == wanted)))
    });
    add("uniq", |a| {
        let mut seen: Vec<(Json, &Value)> = Vec::new();
        for value in a.list(0)? {
            let key = json(value);
            if !seen.iter().any(|(k, _)| *k == key) {
                seen.push((key, value));
            }
        }
        Ok(Value::List(
            seen.into_iter().map(|(_, value)| value.clone()).collect(),
        ))
    });
    add("sortAlpha", |a| {
        let mut texts: Vec<_> = a.list(0)?.iter().map(Value::to_string).collect();
        texts.sort();
        Ok(Value::List(
            texts.into_iter().map(|s| Value::String(s.into())).collect(),
        ))
    });
    add("until", |a| {
        let count = a.number(0)?.clamp(0, SIZE_MAX as i64);
        Ok(Value::List((0..count).map(Value::Int).collect()))
    });
    add("dict", |a| {
        let mut map = BTreeMap::new();
        for pair in a.values.chunks(2) {
            map.insert(
                Arc::from(pair[0].to_string()),
                pair.get(1).cloned().unwrap_or(Value::String("".into())),
            );
        }
        Ok(Value::Map(Arc::new(map)))
    });
    add("get", |a| {
        Ok(a.map(0)?
            .get(a.text(1)?.as_str())
            .cloned()
            .unwrap_or(Value::String("".into())))
    });
    add("hasKey", |a| {
        Ok(Value::Bool(a.map(0)?.contains_key(a.text(1)?.as_str())))
    });
    add("keys", |a| {
        Ok(Value::List(
            a.map(0)?.keys().map(|k| Value::String(k.clone())).collect(),
        ))
    });
    add("values", |a| {
        Ok(Value::List(a.map(0)?.values().cloned().collect()))
    });
}

fn numbers(add: Add<'_>) {
    fn fold(a: &Args<'_>, step: fn(i64, i64) -> Option<i64>) -> Outcome {
        let mut total = a.number(0)?;
        for at in 1..a.values.len() {
            total = step(total, a.number(at)?).ok_or_else(|| a.fail("can't be computed"))?;
        }
        Ok(Value::Int(total))
    }
    add("int", |a| Ok(Value::Int(a.number(0)?)));
    add("int64", |a| Ok(Value::Int(a.number(0)?)));
    add("add", |a| fold(a, i64::checked_add));
    add("sub", |a| fold(a, i64::checked_sub));
    add("mul", |a| fold(a, i64::checked_mul));
    add("div", |a| fold(a, i64::checked_div));
    add("mod", |a| fold(a, i64::checked_rem));
    add("max", |a| fold(a, |x, y| Some(x.max(y))));
    add("min", |a| fold(a, |x, y| Some(x.min(y))));
    add("add1", |a| {
        a.number(0)?
            .checked_add(1)
            .map(Value::Int)
            .ok_or_else(|| a.fail("can't be computed"))
    });
}

struct Args<'a> {
    name: &'static str,
    values: &'a [Value],
}

impl Args<'_> {
    fn fail(&self, why: &str) -> TemplateError {
        TemplateError::Exec(format!("{} {why}", self.name))
    }

    fn get(&self, at: usize) -> Result<&Value, TemplateError> {
        self.values
            .get(at)
            .ok_or_else(|| self.fail(&format!("needs {} arguments, got {}", at + 1, self.values.len())))
    }

    fn text(&self, at: usize) -> Result<String, TemplateError> {
        Ok(match self.get(at)? {
            Value::Nil => String::new(),
            other => other.to_string(),
        })
    }

    /// As sprig's cast: texts are read, what is no number is 0.
    fn number(&self, at: usize) -> Result<i64, TemplateError> {
        Ok(match self.get(at)? {
            Value::Int(n) => *n,
            Value::Uint(n) => i64::try_from(*n).unwrap_or(i64::MAX),
            Value::Float(f) => *f as i64,
            Value::Bool(b) => i64::from(*b),
            Value::String(s) => s.trim().parse().unwrap_or(0),
            _ => 0,
        })
    }

    fn list(&self, at: usize) -> Result<&[Value], TemplateError> {
        match self.get(at)? {
            Value::List(list) => Ok(list),
            Value::Nil => Ok(&[]),
            other => Err(self.fail(&format!("needs a list, got {}", other.type_name()))),
        }
    }

    fn map(&self, at: usize) -> Result<&BTreeMap<Arc<str>, Value>, TemplateError> {
        match self.get(at)? {
            Value::Map(map) => Ok(map),
            other => Err(self.fail(&format!("needs a map, got {}", other.type_name()))),
        }
    }

    /// Applies to every argument that is there, joined by spaces.
    fn each(&self, make: fn(&str) -> String) -> Outcome {
        let parts: Vec<_> = self
            .values
            .iter()
            .filter(|v| !matches!(v, Value::Nil))
            .map(|v| make(&v.to_string()))
            .collect();
        text(parts.join(" "))
    }

    fn bounded(&self, made: String) -> Outcome {
        if made.len() > SIZE_MAX {
            return Err(self.fail("makes too much text"));
        }
        text(made)
    }
}

fn text(text: impl Into<String>) -> Outcome {
    Ok(Value::String(text.into().into()))
}

fn truthy(value: Option<&Value>) -> bool {
    value.is_some_and(Value::is_truthy)
}

fn title(text: &str) -> String {
    let mut start = true;
    text.chars()
        .map(|c| {
            let made = if start { c.to_ascii_uppercase() } else { c };
            start = c.is_whitespace();
            made
        })
        .collect()
}

fn indent(width: i64, text: &str) -> String {
    let pad = " ".repeat(usize::try_from(width).unwrap_or(0).min(1000));
    text.split('\n')
        .map(|line| format!("{pad}{line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn json(value: &Value) -> Json {
    match value {
        Value::Bool(b) => Json::Bool(*b),
        Value::Int(n) => Json::from(*n),
        Value::Uint(n) => Json::from(*n),
        Value::Float(f) => Json::from(*f),
        Value::String(s) => Json::String(s.to_string()),
        Value::List(list) => Json::Array(list.iter().map(json).collect()),
        Value::Map(map) => Json::Object(map.iter().map(|(k, v)| (k.to_string(), json(v))).collect()),
        _ => Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gotmpl::Template;

    /// Expected values as Go prints them (Masterminds/sprig v3).
    #[test]
    fn table() {
        for (template, want) in [
            (r#"{{ " a " | trim | upper }}"#, "A"),
            (r#"{{ "x" | quote }}{{ "x" | squote }}"#, r#""x"'x'"#),
            (r#"{{ "a b" | title }}"#, "A b".replace('b', "B").as_str()),
            (
                r#"{{ trimPrefix "v" "v1" }}{{ trimSuffix ".2" "1.2" }}{{ trimPrefix "z" "v1" }}"#,
                "11v1",
            ),
            (r#"{{ "a.b" | replace "." "-" }}"#, "a-b"),
            (r#"{{ trunc 2 "abc" }}{{ trunc -2 "abc" }}"#, "abbc"),
            ("{{ \"a\nb\" | nindent 2 }}", "\n  a\n  b"),
            (
                r#"{{ "" | default "d" }}{{ 0 | default 5 }}{{ "x" | default "d" }}"#,
                "d5x",
            ),
            (r#"{{ ternary "y" "n" true }}{{ ternary "y" "n" false }}"#, "yn"),
            (r#"{{ coalesce "" "b" "c" }}"#, "b"),
            (r#"{{ "hi" | b64enc }}{{ "aGk=" | b64dec }}"#, "aGk=hi"),
            (
                r#"{{ list 1 2 3 | join "," }}{{ splitList "," "a,b" | last }}"#,
                "1,2,3b",
            ),
            (r#"{{ (dict "a" 1 "b" "x") | toJson }}"#, r#"{"a":1,"b":"x"}"#),
            (
                r#"{{ get (dict "a" "v") "a" }}{{ hasKey (dict "a" 1) "b" }}"#,
                "vfalse",
            ),
            (r#"{{ (dict "a" (list 1 "no")) | toYaml }}"#, "a:\n- 1\n- \"no\""),
            (r#"{{ (fromYaml "a: [1, 2]").a | len }}"#, "2"),
            (
                r#"{{ add 1 2 3 }}{{ sub 5 2 }}{{ mul 2 3 }}{{ div 7 2 }}{{ mod 7 2 }}{{ add1 "4" }}"#,
                "636315",
            ),
            (r#"{{ range $i := until 3 }}{{ $i }}{{ end }}"#, "012"),
            (
                r#"{{ has 2 (list 1 2) }}{{ uniq (list 1 1 2) | len }}{{ sortAlpha (list "b" "a") | first }}"#,
                "true2a",
            ),
            (r#"{{ "abc" | sha256sum | trunc 8 }}"#, "ba7816bf"),
        ] {
            let got = Template::new("t")
                .funcs(functions())
                .parse(template)
                .unwrap()
                .execute_to_string(&Value::Nil);
            assert_eq!(got.unwrap(), want, "{template}");
        }
    }

    #[test]
    fn misuse_is_an_error_and_no_panic() {
        for template in [
            "{{ trim }}",
            "{{ join \",\" 1 }}",
            "{{ get 1 2 }}",
            "{{ div 1 0 }}",
            "{{ b64dec \"%\" }}",
            "{{ add 9223372036854775807 1 }}",
            "{{ fail \"no\" }}",
            "{{ fromJson \"{\" }}",
        ] {
            let got = Template::new("t")
                .funcs(functions())
                .parse(template)
                .and_then(|t| t.execute_to_string(&Value::Nil));
            assert!(got.is_err(), "{template}: {got:?}");
        }
    }
}
