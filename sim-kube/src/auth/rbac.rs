//! RBAC: roles and bindings compiled into an index by subject, rebuilt when one of them changed.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use serde_json::Value;

use super::{Attributes, Identity, Verdict};
use crate::server::Inner;
use crate::store::StorageId;

pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";

static STORAGES: LazyLock<[StorageId; 4]> = LazyLock::new(|| {
    ["clusterroles", "clusterrolebindings", "roles", "rolebindings"]
        .map(|plural| format!("{GROUP}/{plural}").into())
});

/// One policy rule.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    names: Vec<String>,
    paths: Vec<String>,
}

fn list(value: &Value, key: &str) -> Vec<String> {
    value[key]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

impl Rule {
    pub(crate) fn parse(value: &Value) -> Rule {
        Rule {
            verbs: list(value, "verbs"),
            groups: list(value, "apiGroups"),
            resources: list(value, "resources"),
            names: list(value, "resourceNames"),
            paths: list(value, "nonResourceURLs"),
        }
    }

    pub(crate) fn allows(&self, ask: &Attributes) -> bool {
        if !has(&self.verbs, &ask.verb) {
            return false;
        }
        if !ask.is_resource {
            return self.paths.iter().any(|path| match path.strip_suffix('*') {
                Some(prefix) => ask.path.starts_with(prefix),
                None => *path == ask.path,
            });
        }
        has(&self.groups, &ask.group)
            && self.has_resource(ask)
            && (self.names.is_empty() || self.names.contains(&ask.name))
    }

    fn has_resource(&self, ask: &Attributes) -> bool {
        self.resources.iter().any(|rule| {
            if rule == "*" {
                return true;
            }
            if ask.subresource.is_empty() {
                return *rule == ask.resource;
            }
            match rule.split_once('/') {
                Some(("*", sub)) => sub == ask.subresource,
                Some((resource, sub)) => resource == ask.resource && sub == ask.subresource,
                None => false,
            }
        })
    }
}

pub(crate) fn rules(role: &Value) -> Vec<Rule> {
    role["rules"]
        .as_array()
        .into_iter()
        .flatten()
        .map(Rule::parse)
        .collect()
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
enum Subject {
    User(String),
    Group(String),
}

fn subject(value: &Value, namespace: &str) -> Option<Subject> {
    let name = value["name"].as_str()?.to_owned();
    Some(match value["kind"].as_str()? {
        "User" => Subject::User(name),
        "Group" => Subject::Group(name),
        "ServiceAccount" => {
            let namespace = value["namespace"].as_str().unwrap_or(namespace);
            Subject::User(format!("system:serviceaccount:{namespace}:{name}"))
        }
        _ => return None,
    })
}

/// What a subject holds: rules, and where the grant came from.
struct Grant {
    rules: Arc<Vec<Rule>>,
    reason: String,
}

/// Namespace (empty: cluster-wide) and subject to grants.
type Grants = BTreeMap<String, BTreeMap<Subject, Vec<Grant>>>;

#[derive(Default)]
pub(crate) struct Cache(RwLock<(u64, Arc<Grants>)>);

fn compile(inner: &Inner) -> Grants {
    let [cluster_roles, cluster_bindings, roles, bindings] = &*STORAGES;
    let rules_of = |storage: &str| -> BTreeMap<(String, String), Arc<Vec<Rule>>> {
        let all = inner.store.list(storage, "").objects;
        all.iter()
            .map(|o| {
                (
                    (o.namespace().to_owned(), o.name().to_owned()),
                    Arc::new(rules(&o.value)),
                )
            })
            .collect()
    };
    let (cluster_rules, local_rules) = (rules_of(cluster_roles), rules_of(roles));
    let mut grants = Grants::new();
    for storage in [cluster_bindings, bindings] {
        for binding in inner.store.list(storage, "").objects {
            let (namespace, role) = (binding.namespace().to_owned(), &binding.value["roleRef"]);
            let name = role["name"].as_str().unwrap_or_default().to_owned();
            let kind = role["kind"].as_str().unwrap_or_default();
            let rules = match kind {
                "ClusterRole" => cluster_rules.get(&(String::new(), name.clone())),
                _ => local_rules.get(&(namespace.clone(), name.clone())),
            };
            let Some(rules) = rules else { continue };
            for value in binding.value["subjects"].as_array().into_iter().flatten() {
                let Some(subject) = subject(value, &namespace) else {
                    continue;
                };
                let (noun, at) = if namespace.is_empty() {
                    ("ClusterRoleBinding", binding.name().to_owned())
                } else {
                    ("RoleBinding", format!("{}/{namespace}", binding.name()))
                };
                let subject_name = value["name"].as_str().unwrap_or_default();
                let shown = match value["kind"].as_str() {
                    Some("ServiceAccount") => format!(
                        "ServiceAccount \"{subject_name}/{}\"",
                        value["namespace"].as_str().unwrap_or(&namespace)
                    ),
                    Some(kind) => format!("{kind} {subject_name:?}"),
                    None => String::new(),
                };
                let reason = format!("RBAC: allowed by {noun} {at:?} of {kind} {name:?} to {shown}");
                let grant = Grant {
                    rules: rules.clone(),
                    reason,
                };
                grants
                    .entry(namespace.clone())
                    .or_default()
                    .entry(subject)
                    .or_default()
                    .push(grant);
            }
        }
    }
    grants
}

fn current(inner: &Inner) -> Arc<Grants> {
    let stamp: u64 = STORAGES
        .iter()
        .map(|storage| inner.store.log(storage).last())
        .max()
        .unwrap_or(0);
    {
        let cached = inner.rbac.0.read().unwrap_or_else(PoisonError::into_inner);
        if cached.0 == stamp && stamp > 0 {
            return cached.1.clone();
        }
    }
    let fresh = Arc::new(compile(inner));
    *inner.rbac.0.write().unwrap_or_else(PoisonError::into_inner) = (stamp, fresh.clone());
    fresh
}

fn subjects(user: &Identity) -> Vec<Subject> {
    let mut all = vec![Subject::User(user.user.clone())];
    all.extend(user.groups.iter().map(|g| Subject::Group(g.clone())));
    all
}

pub(crate) fn authorize(inner: &Inner, user: &Identity, ask: &Attributes) -> Verdict {
    let grants = current(inner);
    let subjects = subjects(user);
    let mut scopes = vec![""];
    if !ask.namespace.is_empty() {
        scopes.push(&ask.namespace);
    }
    for scope in scopes {
        let Some(by_subject) = grants.get(scope) else {
            continue;
        };
        for grant in subjects.iter().filter_map(|s| by_subject.get(s)).flatten() {
            if grant.rules.iter().any(|rule| rule.allows(ask)) {
                return Verdict {
                    allowed: true,
                    reason: grant.reason.clone(),
                };
            }
        }
    }
    Verdict {
        allowed: false,
        reason: String::new(),
    }
}

/// All rules of a user in a namespace, for SelfSubjectRulesReview.
pub(crate) fn rules_for(inner: &Inner, user: &Identity, namespace: &str) -> Vec<Rule> {
    let grants = current(inner);
    let mut out = Vec::new();
    if user.is_in("system:masters") {
        let all = || vec!["*".to_owned()];
        out.push(Rule {
            verbs: all(),
            groups: all(),
            resources: all(),
            ..Rule::default()
        });
        out.push(Rule {
            verbs: all(),
            paths: all(),
            ..Rule::default()
        });
    }
    for scope in ["", namespace] {
        let Some(by_subject) = grants.get(scope) else {
            continue;
        };
        for subject in subjects(user) {
            let found = by_subject.get(&subject).into_iter().flatten();
            out.extend(found.flat_map(|grant| grant.rules.iter().cloned()));
        }
        if namespace.is_empty() {
            break;
        }
    }
    out
}

impl Rule {
    pub(crate) fn is_non_resource(&self) -> bool {
        !self.paths.is_empty()
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut map = serde_json::Map::new();
        let fields = [
            ("verbs", &self.verbs),
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.paths),
        ];
        for (key, list) in fields {
            if !list.is_empty() {
                map.insert(key.into(), list.clone().into());
            }
        }
        map.into()
    }

    /// Whether `self` grants all that `other` does: the escalation check.
    pub(crate) fn covers(&self, ask: &Attributes) -> bool {
        self.allows(ask)
    }

    /// One request for each thing the rule grants.
    pub(crate) fn breakdown(&self) -> Vec<Attributes> {
        let mut out = Vec::new();
        for verb in &self.verbs {
            for path in &self.paths {
                out.push(Attributes {
                    verb: verb.clone(),
                    path: path.clone(),
                    ..Attributes::default()
                });
            }
            for group in &self.groups {
                for resource in &self.resources {
                    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                    let names: Vec<&str> = if self.names.is_empty() {
                        vec![""]
                    } else {
                        self.names.iter().map(String::as_str).collect()
                    };
                    out.extend(names.into_iter().map(|name| Attributes {
                        verb: verb.clone(),
                        group: group.clone(),
                        resource: resource.to_owned(),
                        subresource: subresource.to_owned(),
                        name: name.to_owned(),
                        is_resource: true,
                        ..Attributes::default()
                    }));
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ask(verb: &str, resource: &str, subresource: &str, name: &str) -> Attributes {
        Attributes {
            verb: verb.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            name: name.into(),
            is_resource: true,
            ..Attributes::default()
        }
    }

    #[test]
    fn rules_allow_no_more_than_they_say() {
        let rule = Rule::parse(
            &json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "*/scale"], "resourceNames": ["a"]}),
        );
        assert!(rule.allows(&ask("get", "pods", "", "a")));
        assert!(!rule.allows(&ask("get", "pods", "", "b")));
        assert!(!rule.allows(&ask("get", "pods", "", "")));
        assert!(!rule.allows(&ask("get", "pods", "status", "a")));
        assert!(rule.allows(&ask("get", "things", "scale", "a")));
        assert!(!rule.allows(&ask("list", "pods", "", "a")));
        let path = Rule::parse(&json!({"verbs": ["get"], "nonResourceURLs": ["/healthz/*", "/version"]}));
        let url = |p: &str| Attributes {
            verb: "get".into(),
            path: p.into(),
            ..Attributes::default()
        };
        assert!(path.allows(&url("/healthz/x")) && path.allows(&url("/version")));
        assert!(!path.allows(&url("/healthz")) && !path.allows(&url("/versions")));
    }
}
