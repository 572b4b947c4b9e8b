//! Reading `application/vnd.kubernetes.protobuf` bodies, which typed clients send (`kubectl create`, client-go).
//!
//! A generic decoder over `data/proto.tsv`: field numbers of the public API's messages, as facts taken from the
//! descriptors that every Kubernetes binary carries. Answers stay JSON; clients that send protobuf accept it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::prelude::{BASE64_STANDARD, Engine};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::clock;

pub(crate) const MEDIA: &str = "application/vnd.kubernetes.protobuf";
const MAGIC: &[u8] = b"k8s\0";
/// Deeper than any API type, shallower than a stack.
const DEPTH_MAX: usize = 64;

#[derive(Clone, Copy, PartialEq)]
enum Many {
    One,
    List,
    Map,
}

struct Field {
    name: &'static str,
    many: Many,
    kind: &'static str,
}

type Message = BTreeMap<u64, Field>;

static MESSAGES: LazyLock<BTreeMap<&'static str, Message>> = LazyLock::new(|| {
    let lines = include_str!("../data/proto.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, fields)| (name, fields.split(';').filter_map(field).collect()))
        .collect()
});

fn field(text: &'static str) -> Option<(u64, Field)> {
    let mut parts = text.split(' ');
    let (number, name, kind) = (parts.next()?, parts.next()?, parts.next()?);
    let many = match number.as_bytes().last()? {
        b'*' => Many::List,
        b'<' => Many::Map,
        _ => Many::One,
    };
    Some((
        number.trim_end_matches(['*', '<']).parse().ok()?,
        Field { name, many, kind },
    ))
}

/// Pointers in Go whose zero means something; other zeros are absent fields.
const MEANINGFUL_ZERO: &[&str] = &[
    "replicas",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "terminationGracePeriodSeconds",
    "gracePeriodSeconds",
    "expirationSeconds",
    "tolerationSeconds",
    "runAsUser",
    "runAsGroup",
    "fsGroup",
    "allowPrivilegeEscalation",
    "runAsNonRoot",
    "readOnlyRootFilesystem",
    "privileged",
    "backoffLimit",
    "parallelism",
    "completions",
    "partition",
    "revisionHistoryLimit",
    "value",
    "leaseTransitions",
    "allocateLoadBalancerNodePorts",
    "orphanDependents",
    "suspend",
    "minDomains",
    "ttlSecondsAfterFinished",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
];

/// Messages that JSON inlines into their parent, by field name.
const INLINE: &[&str] = &[
    "volumeSource",
    "persistentVolumeSource",
    "handler",
    "localObjectReference",
    "ephemeralContainerCommon",
];

struct Reader<'a>(&'a [u8]);

enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed(u64),
}

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        if length > self.0.len() {
            return None;
        }
        let (head, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(head)
    }

    fn next(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Fixed(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed(u64::from(u32::from_le_bytes(self.take(4)?.try_into().ok()?))),
            _ => return None,
        };
        Some((tag >> 3, wire))
    }
}

fn fields(bytes: &[u8]) -> Option<Vec<(u64, Wire<'_>)>> {
    let mut reader = Reader(bytes);
    let mut out = Vec::new();
    while !reader.0.is_empty() {
        out.push(reader.next()?);
    }
    Some(out)
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

/// The object in the envelope, with apiVersion and kind; the error names what could not be read.
pub(crate) fn decode(body: &[u8]) -> Result<Value, String> {
    let body = body.strip_prefix(MAGIC).ok_or(
        "the provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
    )?;
    let envelope = fields(body).ok_or("the envelope is cut")?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for (number, wire) in envelope {
        match (number, wire) {
            (1, Wire::Bytes(meta)) => {
                for (number, wire) in fields(meta).ok_or("the type is cut")? {
                    match (number, wire) {
                        (1, Wire::Bytes(v)) => api_version = text(v).unwrap_or_default(),
                        (2, Wire::Bytes(v)) => kind = text(v).unwrap_or_default(),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(v)) => raw = v,
            _ => {}
        }
    }
    let name = message_name(&api_version, &kind);
    if !MESSAGES.contains_key(name.as_str()) {
        return Err(format!(
            "no protobuf message is known for {kind} in {api_version}"
        ));
    }
    let mut value = message(raw, &name, 0).ok_or_else(|| format!("the {kind} is cut or malformed"))?;
    let map = value.as_object_mut().ok_or("not an object")?;
    map.insert("apiVersion".into(), api_version.into());
    map.insert("kind".into(), kind.into());
    Ok(value)
}

/// `apps/v1`, `Deployment` to `apps.v1.Deployment`; `rbac.authorization.k8s.io` to `rbac`.
fn message_name(api_version: &str, kind: &str) -> String {
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    if kind == "DeleteOptions" {
        return "meta.v1.DeleteOptions".into();
    }
    format!("{}.{version}.{kind}", group.split('.').next().unwrap_or_default())
}

fn message(bytes: &[u8], name: &str, depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    if let Some(special) = special(bytes, name) {
        return special;
    }
    let known = MESSAGES.get(name)?;
    let mut out = Map::new();
    for (number, wire) in fields(bytes)? {
        // A field of a newer API than ours: skipped, as protobuf wants it.
        let Some(field) = known.get(&number) else { continue };
        match field.many {
            Many::One => one(&mut out, field, wire, depth)?,
            Many::List => {
                let value = scalar(wire, field.kind, depth)?;
                let list = out.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                list.as_array_mut()?.push(value);
            }
            Many::Map => {
                let Wire::Bytes(entry) = wire else { return None };
                let (mut key, mut value) = (String::new(), None);
                for (number, wire) in fields(entry)? {
                    match (number, wire) {
                        (1, Wire::Bytes(k)) => key = text(k)?,
                        (2, wire) => value = Some(scalar(wire, field.kind, depth)?),
                        _ => {}
                    }
                }
                let map = out.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                map.as_object_mut()?
                    .insert(key, value.unwrap_or_else(|| "".into()));
            }
        }
    }
    Some(out.into())
}

fn one(out: &mut Map<String, Value>, field: &Field, wire: Wire<'_>, depth: usize) -> Option<()> {
    let value = scalar(wire, field.kind, depth)?;
    if INLINE.contains(&field.name) && value.is_object() {
        out.extend(value.as_object()?.clone());
        return Some(());
    }
    let zero = match &value {
        Value::String(text) => text.is_empty(),
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Null => true,
        Value::Object(map) => {
            map.is_empty()
                && matches!(
                    field.name,
                    "metadata" | "status" | "strategy" | "updateStrategy" | "resources"
                )
        }
        Value::Array(_) => false,
    };
    if !zero || (MEANINGFUL_ZERO.contains(&field.name) && !value.is_null()) {
        out.insert(field.name.to_owned(), value);
    }
    Some(())
}

fn scalar(wire: Wire<'_>, kind: &str, depth: usize) -> Option<Value> {
    Some(match (kind, wire) {
        ("s", Wire::Bytes(bytes)) => text(bytes)?.into(),
        ("y", Wire::Bytes(bytes)) => BASE64_STANDARD.encode(bytes).into(),
        ("b", Wire::Number(number)) => (number != 0).into(),
        ("i", Wire::Number(number)) => (number as i64).into(),
        ("d", Wire::Fixed(bits)) => f64::from_bits(bits).into(),
        (name, Wire::Bytes(bytes)) => message(bytes, name, depth + 1)?,
        _ => return None,
    })
}

/// Messages that JSON writes as something else.
fn special(bytes: &[u8], name: &str) -> Option<Option<Value>> {
    let number = |wanted: u64| -> Option<i64> {
        let found = fields(bytes)?.into_iter().find(|(n, _)| *n == wanted)?;
        if let Wire::Number(value) = found.1 {
            Some(value as i64)
        } else {
            None
        }
    };
    let string = |wanted: u64| -> Option<String> {
        let found = fields(bytes)?.into_iter().find(|(n, _)| *n == wanted)?;
        if let Wire::Bytes(value) = found.1 {
            text(value)
        } else {
            None
        }
    };
    Some(match name {
        "meta.v1.Time" | "meta.v1.MicroTime" => {
            if bytes.is_empty() {
                return Some(Some(Value::Null));
            }
            let nanos = i32::try_from(number(2).unwrap_or(0)).unwrap_or(0);
            let at = Timestamp::new(number(1).unwrap_or(0), nanos).ok()?;
            Some(
                if name == "meta.v1.Time" {
                    clock::rfc3339(at)
                } else {
                    clock::rfc3339_micro(at)
                }
                .into(),
            )
        }
        "meta.v1.Duration" => Some(format!("{}ns", number(1).unwrap_or(0)).into()),
        "Quantity" => Some(string(1).unwrap_or_default().into()),
        "IntOrString" if number(1).unwrap_or(0) == 0 => Some(number(2).unwrap_or(0).into()),
        "IntOrString" => Some(string(3).unwrap_or_default().into()),
        "RawExtension" | "meta.v1.FieldsV1" => serde_json::from_str(&string(1)?).ok(),
        // Lists that are messages of their own.
        _ if is_list(name) => {
            let items = fields(bytes)?
                .into_iter()
                .filter_map(|(_, wire)| if let Wire::Bytes(b) = wire { text(b) } else { None });
            Some(items.collect::<Vec<_>>().into())
        }
        _ => return None,
    })
}

fn is_list(name: &str) -> bool {
    name.ends_with(".ExtraValue") || name == "meta.v1.Verbs"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What `kubectl create ns hk` sends, from the wire.
    #[test]
    fn a_namespace_from_kubectl() {
        let body = [
            0x6b, 0x38, 0x73, 0x00, 0x0a, 0x0f, 0x0a, 0x02, 0x76, 0x31, 0x12, 0x09, 0x4e, 0x61, 0x6d, 0x65,
            0x73, 0x70, 0x61, 0x63, 0x65, 0x12, 0x1a, 0x0a, 0x12, 0x0a, 0x02, 0x68, 0x6b, 0x12, 0x00, 0x1a,
            0x00, 0x22, 0x00, 0x2a, 0x00, 0x32, 0x00, 0x38, 0x00, 0x42, 0x00, 0x12, 0x00, 0x1a, 0x02, 0x0a,
            0x00, 0x1a, 0x00, 0x22, 0x00,
        ];
        let want = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "hk"}, "spec": {}});
        assert_eq!(decode(&body), Ok(want));
        for cut in 0..body.len() {
            // Never a panic, whatever is missing.
            let _ = decode(&body[..cut]);
        }
    }

    #[test]
    fn every_reference_resolves() {
        let scalars = ["s", "i", "b", "y", "d"];
        for (name, fields) in MESSAGES.iter() {
            for field in fields.values().filter(|f| !scalars.contains(&f.kind)) {
                let known = MESSAGES.contains_key(field.kind) || special(&[], field.kind).is_some();
                assert!(
                    known,
                    "{name}.{} is a {}, which is not in the table",
                    field.name, field.kind
                );
            }
        }
    }
}
