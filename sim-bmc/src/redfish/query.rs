//! Query parameters as ProtocolFeaturesSupported claims them: `only`, `$select`, `$expand`, `$top`, `$skip`.
//!
//! Order of processing (DSP0266 "Query parameters"): `$skip`, `$top`, then `only` or `$expand`, then `$select`.

use http::{Method, StatusCode};
use serde_json::{Map, Value};

use super::auth::{self, Principal};
use super::document::Document;
use super::failure::Failure;
use super::message::Message;
use super::metadata;
use super::route::{self, Scene};

/// `$expand=...($levels=N)` beyond this is refused; the tree is five levels deep.
pub(crate) const MAX_LEVELS: u8 = 3;
/// Resources that one answer may contain. Whatever is beyond stays a reference, which every client can follow.
const MAX_EXPANDED: usize = 1000;

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    only: bool,
    select: Option<Vec<String>>,
    expand: Option<Expand>,
    top: Option<usize>,
    skip: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expand {
    /// References under `Links`.
    dependent: bool,
    /// All others.
    subordinate: bool,
    levels: u8,
}

/// Decodes `%XX`; `None` if that is malformed, or not UTF-8, or hides a control character.
pub(super) fn percent_decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let decoded = if byte == b'%' {
            let high = (rest.next()? as char).to_digit(16)?;
            let low = (rest.next()? as char).to_digit(16)?;
            u8::try_from(high * 16 + low).ok()?
        } else {
            byte
        };
        if decoded.is_ascii_control() {
            return None;
        }
        bytes.push(decoded);
    }
    String::from_utf8(bytes).ok()
}

impl Query {
    pub(super) fn parse(raw: &str) -> Result<Query, Failure> {
        let mut query = Query::default();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let malformed = || Failure::bad_request(Message::query_value_format(value, name));
            let name = percent_decode(name).ok_or_else(malformed)?;
            let value = percent_decode(value).ok_or_else(malformed)?;
            match name.as_str() {
                "only" if value.is_empty() => query.only = true,
                "only" => return Err(Failure::bad_request(Message::query_value_format(&value, "only"))),
                "$select" => query.select = Some(parse_select(&value)?),
                "$expand" => query.expand = Some(parse_expand(&value)?),
                "$top" => query.top = Some(parse_count(&value, "$top")?),
                "$skip" => query.skip = Some(parse_count(&value, "$skip")?),
                unknown if unknown.starts_with('$') => {
                    let message = Message::query_unsupported(unknown);
                    return Err(Failure::new(StatusCode::NOT_IMPLEMENTED, message));
                }
                _ => {}
            }
        }
        if query.only
            && query
                != (Query {
                    only: true,
                    ..Query::default()
                })
        {
            return Err(Failure::bad_request(Message::query_combination_invalid()));
        }
        Ok(query)
    }

    fn is_empty(&self) -> bool {
        *self == Query::default()
    }

    pub(super) fn reject_on_write(&self) -> Result<(), Failure> {
        if self.is_empty() {
            return Ok(());
        }
        Err(Failure::bad_request(Message::query_not_supported_on_operation()))
    }
}

fn parse_count(value: &str, name: &str) -> Result<usize, Failure> {
    value
        .parse()
        .map_err(|_| Failure::bad_request(Message::query_value_type(value, name)))
}

fn parse_select(value: &str) -> Result<Vec<String>, Failure> {
    let names: Vec<String> = value.split(',').map(|name| name.trim().to_owned()).collect();
    if names.iter().any(String::is_empty) {
        return Err(Failure::bad_request(Message::query_value_format(
            value, "$select",
        )));
    }
    Ok(names)
}

fn parse_expand(value: &str) -> Result<Expand, Failure> {
    let malformed = || Failure::bad_request(Message::query_value_format(value, "$expand"));
    let mut characters = value.chars();
    let (dependent, subordinate) = match characters.next() {
        Some('.') => (false, true),
        Some('~') => (true, false),
        Some('*') => (true, true),
        _ => return Err(malformed()),
    };
    let levels = match characters.as_str() {
        "" => 1,
        rest => {
            let number = rest
                .strip_prefix("($levels=")
                .and_then(|rest| rest.strip_suffix(')'));
            number
                .and_then(|number| number.parse::<u64>().ok())
                .ok_or_else(malformed)?
        }
    };
    match u8::try_from(levels) {
        Ok(levels @ 1..=MAX_LEVELS) => Ok(Expand {
            dependent,
            subordinate,
            levels,
        }),
        _ => {
            let range = format!("1-{MAX_LEVELS}");
            Err(Failure::bad_request(Message::query_out_of_range(
                &levels.to_string(),
                "$expand",
                &range,
            )))
        }
    }
}

/// The body of a GET.
pub(super) fn apply(
    scene: &Scene<'_>,
    document: &Document,
    query: &Query,
    who: Option<&Principal>,
) -> Result<String, Failure> {
    if document.is_metadata() {
        return Ok(metadata::xml());
    }
    let document = document.clone();
    if query.is_empty() {
        return Ok(Value::Object(document.render(scene.bmc)).to_string());
    }
    let unsuited = || Failure::bad_request(Message::query_not_supported_on_resource());
    let is_collection = document.is_collection();
    let about_members = query.only || query.top.is_some() || query.skip.is_some();
    if !document.is_resource() || (about_members && !is_collection) {
        return Err(unsuited());
    }
    let mut body = document.render(scene.bmc);
    if query.only {
        body = only_member(scene, who, body);
    }
    if let Some(Value::Array(members)) = body.get_mut("Members")
        && is_collection
    {
        let skip = query.skip.unwrap_or(0).min(members.len());
        members.drain(..skip);
        members.truncate(query.top.unwrap_or(usize::MAX));
    }
    if let Some(expand) = query.expand {
        let mut left = MAX_EXPANDED;
        for (name, value) in &mut body {
            expand_value(scene, who, value, expand, name == "Links", &mut left);
        }
    }
    if let Some(names) = &query.select {
        match body.get_mut("Members") {
            Some(Value::Array(members)) if is_collection && query.expand.is_some() => {
                members
                    .iter_mut()
                    .filter_map(Value::as_object_mut)
                    .for_each(|member| select(member, names));
            }
            _ => select(&mut body, names),
        }
    }
    Ok(Value::Object(body).to_string())
}

/// The single member of a collection, or the collection if it has more or none.
fn only_member(scene: &Scene<'_>, who: Option<&Principal>, body: Map<String, Value>) -> Map<String, Value> {
    let single = match body.get("Members") {
        Some(Value::Array(members)) if members.len() == 1 => members.first().and_then(reference),
        _ => None,
    };
    single.and_then(|uri| fetch(scene, who, &uri)).unwrap_or(body)
}

/// The target, if this is nothing but a reference to a whole resource.
fn reference(value: &Value) -> Option<String> {
    let object = value.as_object()?;
    let uri = object.get("@odata.id")?.as_str()?;
    (object.len() == 1 && !uri.contains('#')).then(|| uri.to_owned())
}

/// A resource as the principal may see it.
fn fetch(scene: &Scene<'_>, who: Option<&Principal>, uri: &str) -> Option<Map<String, Value>> {
    let found = route::find(uri)?;
    auth::authorise(scene, who?, &Method::GET, &found).ok()?;
    let document = found.read(scene).filter(Document::is_resource)?;
    Some(document.render(scene.bmc))
}

fn expand_value(
    scene: &Scene<'_>,
    who: Option<&Principal>,
    value: &mut Value,
    expand: Expand,
    in_links: bool,
    left: &mut usize,
) {
    let wanted = if in_links {
        expand.dependent
    } else {
        expand.subordinate
    };
    if let Some(uri) = reference(value) {
        if !wanted || *left == 0 {
            return;
        }
        // Not found or not allowed: the reference stays, as DSP0266 asks for failures of single members.
        let Some(mut body) = fetch(scene, who, &uri) else {
            return;
        };
        *left -= 1;
        if expand.levels > 1 {
            let deeper = Expand {
                levels: expand.levels - 1,
                ..expand
            };
            for (name, value) in &mut body {
                expand_value(scene, who, value, deeper, name == "Links", left);
            }
        }
        *value = Value::Object(body);
        return;
    }
    match value {
        Value::Array(values) => {
            for value in values {
                expand_value(scene, who, value, expand, in_links, left);
            }
        }
        Value::Object(object) => {
            for (name, value) in object {
                expand_value(scene, who, value, expand, in_links || name == "Links", left);
            }
        }
        _ => {}
    }
}

/// Keeps the named properties (`Status/Health` is a path) and the annotations of the resource itself.
fn select(body: &mut Map<String, Value>, names: &[String]) {
    body.retain(|name, value| {
        if name.starts_with('@') {
            return true;
        }
        let mut paths = Vec::new();
        for wanted in names {
            match wanted.split_once('/') {
                None if wanted == name => return true,
                Some((first, rest)) if first == name => paths.push(rest.to_owned()),
                // A property brings its annotations: Members@odata.count, Target@Redfish.AllowableValues.
                _ if name
                    .split_once('@')
                    .is_some_and(|(property, _)| property == wanted) =>
                {
                    return true;
                }
                _ => {}
            }
        }
        match value.as_object_mut() {
            Some(object) if !paths.is_empty() => {
                select(object, &paths);
                true
            }
            _ => false,
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parses() {
        let query =
            Query::parse("%24expand=.%28%24levels%3D2%29&$select=Id,Status/Health&unknown=1").unwrap();
        assert_eq!(
            query.expand,
            Some(Expand {
                dependent: false,
                subordinate: true,
                levels: 2
            })
        );
        assert_eq!(
            query.select,
            Some(vec!["Id".to_owned(), "Status/Health".to_owned()])
        );
        assert!(Query::parse("x=1").unwrap().is_empty());
    }

    #[test]
    fn refuses() {
        for (raw, status) in [
            ("only=foo", 400),
            ("only&$select=Id", 400),
            ("$expand=x", 400),
            ("$expand=.($levels=9)", 400),
            ("$expand=.($levels=300)", 400),
            ("$top=-1", 400),
            ("$skip=a", 400),
            ("$select=", 400),
            ("$filter=x", 501),
            ("%zz=1", 400),
        ] {
            let reply = Query::parse(raw).unwrap_err().into_reply();
            assert_eq!(reply.status(), status, "{raw}");
        }
    }

    #[test]
    fn selects_paths_and_annotations() {
        let mut body = json!({"@odata.id": "/x", "Id": "1", "Status": {"State": "Enabled", "Health": "OK"},
            "Members": [], "Members@odata.count": 0, "Other": 1});
        select(
            body.as_object_mut().unwrap(),
            &["Status/Health".to_owned(), "Members".to_owned()],
        );
        assert_eq!(
            body,
            json!({"@odata.id": "/x", "Status": {"Health": "OK"}, "Members": [], "Members@odata.count": 0})
        );
    }
}
