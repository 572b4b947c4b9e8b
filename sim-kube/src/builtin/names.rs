//! Names, labels and annotations: the rules of apimachinery's `validation` package and their wording.

use serde_json::Value;

use crate::registry::Resource;
use crate::status::Cause;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
    and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
    and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
    alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
    validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
    an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
    must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
    validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  \
    or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
/// apimachinery's `TotalAnnotationSizeLimitB`.
const ANNOTATIONS_MAX: usize = 256 * 1024;

fn lower_label(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn ends_alphanumeric(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn loose(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

pub(crate) fn subdomain(name: &str) -> Option<String> {
    if name.len() > 253 {
        return Some("must be no more than 253 characters".into());
    }
    (!name.split('.').all(lower_label)).then(|| SUBDOMAIN.into())
}

pub(crate) fn label(name: &str) -> Option<String> {
    if name.len() > 63 {
        return Some("must be no more than 63 characters".into());
    }
    (!lower_label(name)).then(|| LABEL.into())
}

fn label_1035(name: &str) -> Option<String> {
    if name.len() > 63 {
        return Some("must be no more than 63 characters".into());
    }
    let good = lower_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase());
    (!good).then(|| LABEL_1035.into())
}

/// Names that become one path segment: RBAC objects.
fn segment(name: &str) -> Option<String> {
    match name {
        "." | ".." => Some(format!("may not be '{name}'")),
        name if name.contains('/') => Some("may not contain '/'".into()),
        name if name.contains('%') => Some("may not contain '%'".into()),
        _ => None,
    }
}

pub(crate) fn qualified_name(key: &str) -> Option<String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if let Some(prefix) = prefix {
        if prefix.is_empty() {
            return Some("prefix part must be non-empty".into());
        }
        if let Some(error) = subdomain(prefix) {
            return Some(format!("prefix part {error}"));
        }
    }
    if name.is_empty() {
        return Some(format!("name part must be non-empty; {QUALIFIED}"));
    }
    if name.len() > 63 {
        return Some("name part must be no more than 63 characters".into());
    }
    (!(loose(name) && ends_alphanumeric(name))).then(|| QUALIFIED.into())
}

pub(crate) fn label_value(value: &str) -> Option<String> {
    if value.len() > 63 {
        return Some("must be no more than 63 characters".into());
    }
    (!(value.is_empty() || (loose(value) && ends_alphanumeric(value)))).then(|| VALUE.into())
}

pub(crate) fn config_key(key: &str) -> Option<String> {
    if key.len() > 253 {
        return Some("must be no more than 253 characters".into());
    }
    (key.is_empty() || !loose(key)).then(|| CONFIG_KEY.into())
}

fn check_name(resource: &Resource, name: &str) -> Option<String> {
    match (&*resource.group, &*resource.plural) {
        ("", "namespaces") => label(name),
        ("", "services") => label_1035(name),
        ("rbac.authorization.k8s.io", _) => segment(name),
        ("certificates.k8s.io", _) => subdomain(name),
        _ => subdomain(name),
    }
}

/// `ValidateObjectMeta`.
pub(crate) fn metadata(object: &Value, resource: &Resource, causes: &mut Vec<Cause>) {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    if let Some(generate) = metadata.get("generateName").and_then(Value::as_str)
        && let Some(error) = check_name(resource, generate.trim_end_matches(['-', '.']))
    {
        causes.push(Cause::invalid("metadata.generateName", &generate.into(), error));
    }
    if name.is_empty() {
        causes.push(Cause::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else if let Some(error) = check_name(resource, name) {
        causes.push(Cause::invalid("metadata.name", &name.into(), error));
    }
    labels(&metadata["labels"], "metadata.labels", causes);
    annotations(&metadata["annotations"], causes);
    for finalizer in metadata["finalizers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        let standard = matches!(finalizer, "orphan" | "foregroundDeletion" | "kubernetes");
        if let Some(error) = qualified_name(finalizer) {
            causes.push(Cause::invalid("metadata.finalizers", &finalizer.into(), error));
        } else if !standard && !finalizer.contains('/') && !resource.is_custom() {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            causes.push(Cause::invalid("metadata.finalizers", &finalizer.into(), detail));
        }
    }
    owners(&metadata["ownerReferences"], causes);
}

pub(crate) fn labels(labels: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        if let Some(error) = qualified_name(key) {
            causes.push(Cause::invalid(path, &key.as_str().into(), error));
        }
        if let Some(error) = value.as_str().and_then(label_value) {
            causes.push(Cause::invalid(path, value, error));
        }
    }
}

fn annotations(annotations: &Value, causes: &mut Vec<Cause>) {
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        if let Some(error) = qualified_name(&key.to_lowercase()) {
            causes.push(Cause::invalid(
                "metadata.annotations",
                &key.as_str().into(),
                error,
            ));
        }
    }
    if size > ANNOTATIONS_MAX {
        causes.push(Cause::too_long("metadata.annotations", ANNOTATIONS_MAX as u64));
    }
}

fn owners(references: &Value, causes: &mut Vec<Cause>) {
    let mut controllers = 0;
    for (at, reference) in references.as_array().into_iter().flatten().enumerate() {
        let path = format!("metadata.ownerReferences[{at}]");
        for (field, detail) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "kind must not be empty"),
            ("name", "name must not be empty"),
            ("uid", "uid must not be empty"),
        ] {
            if reference[field].as_str().unwrap_or_default().is_empty() {
                causes.push(Cause::invalid(format!("{path}.{field}"), &"".into(), detail));
            }
        }
        controllers += usize::from(reference["controller"] == true);
    }
    if controllers > 1 {
        let detail = "Only one reference can have Controller set to true";
        causes.push(Cause::invalid_text(
            "metadata.ownerReferences",
            format!("{references}: {detail}"),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, good) in [
            ("a", true),
            ("a.b-c", true),
            ("Bad_Name", false),
            ("-a", false),
            ("a..b", false),
            ("", false),
        ] {
            assert_eq!(subdomain(name).is_none(), good, "{name:?}");
        }
        for (key, good) in [
            ("a", true),
            ("a.b/c_D", true),
            ("/c", false),
            ("a/", false),
            ("A.b/c", false),
        ] {
            assert_eq!(qualified_name(key).is_none(), good, "{key:?}");
        }
        assert!(label_1035("1a").is_some() && label("1a").is_none());
    }
}
