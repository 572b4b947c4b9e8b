//! YAML for readers of YAML 1.1 (cloud-init reads with PyYAML): every text that one of the two versions could take for
//! something else is quoted. Block style, two-space maps, lists at the level of their key.

use serde_json::{Map, Value};

/// One document, without a marker, with a newline at its end.
pub(super) fn yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => object(map, 0, &mut out),
        Value::Array(items) if !items.is_empty() => array(items, 0, &mut out),
        other => {
            scalar(other, 0, &mut out);
            out.push('\n');
        }
    }
    out
}

fn pad(depth: usize, out: &mut String) {
    out.extend(std::iter::repeat_n("  ", depth));
}

fn object(map: &Map<String, Value>, depth: usize, out: &mut String) {
    for (n, (key, value)) in map.iter().enumerate() {
        if n > 0 {
            pad(depth, out);
        }
        text(key, out);
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                pad(depth + 1, out);
                object(inner, depth + 1, out);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                pad(depth, out);
                array(items, depth, out);
            }
            other => {
                out.push(' ');
                scalar(other, depth + 1, out);
                out.push('\n');
            }
        }
    }
}

fn array(items: &[Value], depth: usize, out: &mut String) {
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            pad(depth, out);
        }
        out.push_str("- ");
        match item {
            Value::Object(inner) if !inner.is_empty() => object(inner, depth + 1, out),
            Value::Array(inner) if !inner.is_empty() => array(inner, depth + 1, out),
            other => {
                scalar(other, depth + 1, out);
                out.push('\n');
            }
        }
    }
}

fn scalar(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::String(s) if is_block(s) => block(s, depth, out),
        Value::String(s) => text(s, out),
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        // JSON's words for these are YAML's.
        other => out.push_str(&other.to_string()),
    }
}

/// Several lines that a literal block can carry as they are.
fn is_block(s: &str) -> bool {
    let plain = |c: char| {
        c == '\n'
            || c == '\t'
            || (!c.is_control() && c != '\u{85}' && c != '\u{feff}' && c != '\u{2028}' && c != '\u{2029}')
    };
    s.contains('\n')
        && s.chars().all(plain)
        && !s.starts_with([' ', '\n', '\t'])
        && !s.ends_with("\n\n")
        && s != "\n"
}

fn block(s: &str, depth: usize, out: &mut String) {
    out.push_str(if s.ends_with('\n') { "|" } else { "|-" });
    for line in s.strip_suffix('\n').unwrap_or(s).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            pad(depth, out);
            out.push_str(line);
        }
    }
}

fn text(s: &str, out: &mut String) {
    if is_plain(s) {
        out.push_str(s);
    } else {
        // A JSON string is a double-quoted YAML one; JSON leaves DEL and the C1 controls as they are, YAML does not.
        for c in Value::from(s).to_string().chars() {
            match c {
                '\u{7f}'..='\u{9f}' | '\u{feff}' | '\u{2028}' | '\u{2029}' => {
                    out.push_str(&format!("\\u{:04x}", c as u32))
                }
                c => out.push(c),
            }
        }
    }
}

/// Words and phrases that mean nothing else in YAML 1.1 or 1.2. Keys of cloud-config and ordinary commands are such.
fn is_plain(s: &str) -> bool {
    const RESERVED: [&str; 12] = [
        "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "nil",
    ];
    let inner =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '+' | ' ' | '=' | '@');
    s.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !s.ends_with(' ')
        && s.chars().all(inner)
        && !RESERVED.contains(&s.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn golden() {
        let value = json!({
            "hostname": "m-1", "timezone": "12:30:45", "n": 3, "f": 1.5, "t": true, "z": null, "mode": "0644",
            "users": [{"name": "ubuntu", "sudo": "ALL=(ALL) NOPASSWD:ALL", "lock": "no"}, "default"],
            "write_files": [{"path": "/etc/x", "content": "a\n  b\n\nc\n"}, {"content": "no end\nhere"}],
            "nested": [[1, 2], [], {}], "odd": ["", " x", "x ", "#c", "- a", "a: b", "~", "é\u{7}"],
        });
        insta::assert_snapshot!(yaml(&value));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~\n\t]{0,20}".prop_map(Value::from),
            "(yes|no|on|off|0[0-7]{1,3}|[0-9]{1,2}:[0-9]{2}|0x1f|1e3|~|null|<<|=|-|\\.|\\.inf|2026-01-01)"
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ -~]{1,8}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().filter(|(key, _)| key != "<<").collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn reads_back_as_it_was(value in value()) {
            let text = yaml(&value);
            let back: Value = steelyard_api::yaml::read(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
            prop_assert_eq!(back, value, "{}", text);
        }
    }
}
