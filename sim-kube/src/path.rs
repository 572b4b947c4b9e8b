//! URL in, request attributes out: what `RequestInfo` is in the real server.

use std::borrow::Cow;

/// Decoded query parameters in the order given.
#[derive(Debug, Default, Clone)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: &str) -> Query {
        let pairs = query.split('&').filter(|part| !part.is_empty());
        Query(
            pairs
                .map(|part| {
                    let (key, value) = part.split_once('=').unwrap_or((part, ""));
                    (decode(key, true).into_owned(), decode(value, true).into_owned())
                })
                .collect(),
        )
    }

    /// The first value that is not empty.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, v)| k == key && !v.is_empty())
            .map(|(_, v)| v.as_str())
    }

    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    /// Go's `strconv.ParseBool` as the conversion of query values uses it: present means true, save for "false" and "0".
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.0
            .iter()
            .any(|(k, v)| k == key && !matches!(v.to_ascii_lowercase().as_str(), "false" | "0"))
    }
}

fn hex(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

/// Percent-decoding; `+` is a space in queries only. Broken escapes stay as they are.
pub(crate) fn decode(text: &str, plus: bool) -> Cow<'_, str> {
    if !text.bytes().any(|b| b == b'%' || (plus && b == b'+')) {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => match pair(bytes, at) {
                Some(value) => {
                    out.push(value);
                    at += 2;
                }
                None => out.push(b'%'),
            },
            b'+' if plus => out.push(b' '),
            other => out.push(other),
        }
        at += 1;
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

fn pair(bytes: &[u8], at: usize) -> Option<u8> {
    Some(hex(*bytes.get(at + 1)?)? << 4 | hex(*bytes.get(at + 2)?)?)
}

/// What a request asks for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The path as given, for non-resource rules.
    pub(crate) path: String,
    /// False for `/version` and the like.
    pub(crate) is_resource: bool,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) resource: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
    /// Segments after the subresource, as `pods/proxy/path` has.
    pub(crate) rest: bool,
}

impl Target {
    pub(crate) fn parse(path: &str) -> Target {
        let mut target = Target {
            path: path.to_owned(),
            ..Target::default()
        };
        let segments: Vec<Cow<'_, str>> = path
            .trim_matches('/')
            .split('/')
            .filter(|s| !s.is_empty())
            .map(|s| decode(s, false))
            .collect();
        let rest = match segments.first().map(AsRef::as_ref) {
            Some("api") if segments.len() >= 3 => {
                target.version = segments[1].to_string();
                &segments[2..]
            }
            Some("apis") if segments.len() >= 4 => {
                target.group = segments[1].to_string();
                target.version = segments[2].to_string();
                &segments[3..]
            }
            _ => return target,
        };
        target.is_resource = true;
        let rest = match rest {
            // `namespaces/x`, `namespaces/x/status` and `.../finalize` are about the namespace itself.
            [ns, name, tail @ ..] if ns == "namespaces" => {
                target.namespace = name.to_string();
                match tail {
                    [] => rest,
                    [sub] if sub == "status" || sub == "finalize" => rest,
                    more => more,
                }
            }
            rest => rest,
        };
        let mut parts = rest.iter().map(ToString::to_string);
        target.resource = parts.next().unwrap_or_default();
        target.name = parts.next().unwrap_or_default();
        target.subresource = parts.next().unwrap_or_default();
        target.rest = parts.next().is_some();
        target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(path: &str) -> String {
        let t = Target::parse(path);
        format!(
            "{} {}/{} {} {} {} {}",
            t.is_resource, t.group, t.version, t.namespace, t.resource, t.name, t.subresource
        )
    }

    #[test]
    fn paths_become_attributes() {
        for (path, want) in [
            ("/api/v1/namespaces", "true /v1  namespaces  "),
            ("/api/v1/namespaces/a", "true /v1 a namespaces a "),
            (
                "/api/v1/namespaces/a/finalize",
                "true /v1 a namespaces a finalize",
            ),
            ("/api/v1/namespaces/a/pods/b/status", "true /v1 a pods b status"),
            ("/apis/x.y/v1/things/n", "true x.y/v1  things n "),
            ("/apis/x.y/v1", "false /    "),
            ("/version", "false /    "),
        ] {
            assert_eq!(short(path), want, "{path}");
        }
    }

    #[test]
    fn queries_decode() {
        let query = Query::parse("a=1&labelSelector=x%3Dy+z&b&c=%zz&d=%4");
        assert_eq!(query.get("labelSelector"), Some("x=y z"));
        assert_eq!(query.get("c"), Some("%zz"));
        assert_eq!(query.get("d"), Some("%4"));
        assert!(query.flag("b") && query.flag("a") && !query.flag("q"));
    }
}
