//! `deploy/rbac/`: as narrow as it says, and about kinds that exist.

use std::collections::BTreeSet;

use serde_json::Value;
use steelyard_api::{custom_resource_definitions, names, yaml};

fn documents() -> Vec<Value> {
    let mut files: Vec<_> = std::fs::read_dir(crate::repository("deploy/rbac"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|file| yaml::read_all::<Value>(&std::fs::read_to_string(file).unwrap()).unwrap())
        .collect()
}

fn words(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .map(|word| word.as_str().unwrap().to_owned())
        .collect()
}

/// `group/resource verb` for every rule of every role.
fn grants() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for role in documents().iter().filter(|document| document["rules"].is_array()) {
        for rule in role["rules"].as_array().unwrap() {
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    for verb in words(&rule["verbs"]) {
                        all.insert(format!("{group}/{resource} {verb}"));
                    }
                }
            }
        }
    }
    all
}

#[test]
fn nothing_is_granted_by_wildcard_or_lets_the_controller_grow() {
    for grant in grants() {
        assert!(!grant.contains('*'), "{grant}");
        for verb in ["escalate", "bind", "impersonate", "deletecollection"] {
            assert!(!grant.ends_with(verb), "{grant}");
        }
    }
}

#[test]
fn every_kind_of_ours_can_be_watched_and_its_status_written() {
    let grants = grants();
    for crd in custom_resource_definitions() {
        let resource = format!("{}/{}", crd.spec.group, crd.spec.names.plural);
        assert!(grants.contains(&format!("{resource} watch")), "{resource}");
        let read_only = ["nodeenvironments"].contains(&crd.spec.names.plural.as_str());
        let has_status = crd.spec.versions[0].subresources.is_some();
        assert_eq!(
            grants.contains(&format!("{resource}/status patch")),
            has_status && !read_only,
            "{resource}/status"
        );
    }
}

#[test]
fn every_grant_is_about_something_that_exists() {
    let ours: BTreeSet<String> = custom_resource_definitions()
        .iter()
        .map(|crd| format!("{}/{}", crd.spec.group, crd.spec.names.plural))
        .collect();
    for grant in grants() {
        let (resource, _) = grant.split_once(' ').unwrap();
        let base = resource
            .trim_end_matches("/status")
            .trim_end_matches("/finalizers");
        let built_in = [
            "/secrets",
            "/namespaces",
            "/events",
            "events.k8s.io/events",
            "coordination.k8s.io/leases",
            "apiextensions.k8s.io/customresourcedefinitions",
        ];
        assert!(ours.contains(base) || built_in.contains(&base), "{grant}");
    }
}

#[test]
fn every_binding_is_for_the_controller() {
    let documents = documents();
    let bindings: Vec<_> = documents
        .iter()
        .filter(|document| document["subjects"].is_array())
        .collect();
    assert_eq!(bindings.len(), 2);
    for binding in bindings {
        for subject in binding["subjects"].as_array().unwrap() {
            let user = format!(
                "system:serviceaccount:{}:{}",
                subject["namespace"].as_str().unwrap(),
                subject["name"].as_str().unwrap()
            );
            assert_eq!(user, names::controller::USER);
        }
        let role = &binding["roleRef"];
        assert!(
            documents
                .iter()
                .any(|d| d["kind"] == role["kind"] && d["metadata"]["name"] == role["name"])
        );
    }
}
