//! Requests that were recorded on a real server (kube-apiserver 1.36), sent again: status and normalised answer
//! must be the same. `wire.json` holds requests and answers; what differs knowingly is left out there and has a
//! row in the README.

use bytes::Bytes;
use http_body_util::Full;
use serde_json::Value;

use crate::support::{Cluster, request, send, until};

/// Fields whose values differ from run to run.
const VOLATILE: &[&str] = &[
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "time",
    "deletionTimestamp",
    "lastTransitionTime",
    "token",
    "serverAddress",
    "expirationTimestamp",
    "storageVersionHash",
    "continue",
];

fn normal(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(k, _)| !VOLATILE.contains(&k.as_str()))
            .map(|(k, v)| (k.clone(), normal(v)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(normal).collect::<Vec<_>>().into(),
        Value::String(text) => words(text).into(),
        other => other.clone(),
    }
}

fn is_uid(word: &str) -> bool {
    word.len() == 36
        && word.bytes().filter(|b| *b == b'-').count() == 4
        && word.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// Ages, uids, versions inside of texts.
fn words(text: &str) -> String {
    if text
        .strip_suffix('s')
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    {
        return "AGE".into();
    }
    let parts: Vec<String> = text
        .split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .map(|part| {
            let word = part.trim_end_matches(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
            let tail = &part[word.len()..];
            if is_uid(word) {
                format!("UID{tail}")
            } else {
                part.to_owned()
            }
        })
        .collect();
    let text = parts.concat();
    match text.split_once("current: ") {
        Some((head, _)) => format!("{head}current: N"),
        None => text,
    }
}

fn build(case: &Value) -> http::Request<Full<Bytes>> {
    let text = |key: &str| case[key].as_str().unwrap_or_default();
    let mut request = request(text("method"), text("path"), text("body"));
    let headers = request.headers_mut();
    for (name, value) in case["headers"].as_object().into_iter().flatten() {
        let name: http::HeaderName = name.parse().expect("a header");
        headers.insert(name, value.as_str().unwrap_or_default().parse().expect("a value"));
    }
    request
}

#[tokio::test]
async fn recorded_requests_get_the_recorded_answers() {
    // The moment of the recording: its bootstrap token has an expiry.
    let cluster = Cluster::everywhere_at("2026-11-24T19:57:40Z");
    let server = &cluster.server;
    let cases: Vec<Value> = serde_json::from_str(include_str!("wire.json")).expect("the fixture parses");
    let mut token = String::new();
    let mut failures = Vec::new();
    for case in &cases {
        let title = case["title"].as_str().unwrap_or_default();
        let admin: Option<(&str, &[&str])> = Some(("admin", &["system:masters"]));
        let mut request = build(case);
        let mut bearer = |token: &str| {
            let value = format!("Bearer {token}").parse().expect("a header");
            request.headers_mut().insert("authorization", value);
        };
        let user = match case["who"].as_str() {
            Some("anonymous") => None,
            Some("bad") => {
                bearer("nonsense");
                None
            }
            Some("sa") => {
                if token.is_empty() {
                    token = service_account_token(&cluster).await;
                }
                bearer(&token);
                None
            }
            Some("bootstrap") => {
                bearer("abcdef.0123456789abcdef");
                None
            }
            Some("node") => Some(("system:node:n1", &["system:nodes"][..])),
            _ => admin,
        };
        if title == "pod defaults" || title.starts_with("built-in: POST") {
            service_account_token(&cluster).await;
        }
        let (code, answer) = send(server, user, request).await;
        let want = u16::try_from(case["status"].as_u64().expect("a status")).expect("a status");
        let same = case["answer"].is_null() || normal(&answer) == normal(&case["answer"]);
        if code != want || !same {
            failures.push(format!(
                "{title}: {code}, want {want}\n  got  {}\n  want {}",
                normal(&answer),
                normal(&case["answer"])
            ));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} differ:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

async fn service_account_token(cluster: &Cluster) -> String {
    let admin: Option<(&str, &[&str])> = Some(("admin", &["system:masters"]));
    let path = "/api/v1/namespaces/wire/serviceaccounts/default/token";
    until("the namespace has its account", || async {
        let (code, answer) = send(&cluster.server, admin, request("POST", path, "{}")).await;
        (code == 201).then(|| answer["status"]["token"].as_str().expect("a token").to_owned())
    })
    .await
}
