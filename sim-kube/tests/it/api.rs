//! kube-rs against the in-process service.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
    PropagationPolicy, WatchEvent, WatchParams,
};
use kube::core::GroupVersionKind;
use serde_json::json;

use crate::support::{PATIENCE, cluster, cluster_with, request, send, until};

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"a": "1"}})).expect("a ConfigMap")
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("not an answer of the server: {other}"),
    }
}

#[tokio::test]
async fn objects_come_change_and_go() {
    let cluster = cluster();
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.admin());
    let made = maps
        .create(&PostParams::default(), &config_map("m"))
        .await
        .expect("create");
    assert_eq!(
        code(
            &maps
                .create(&PostParams::default(), &config_map("m"))
                .await
                .expect_err("again")
        ),
        409
    );
    let patch = Patch::Merge(json!({"data": {"a": "2"}}));
    let changed = maps
        .patch("m", &PatchParams::default(), &patch)
        .await
        .expect("patch");
    assert_ne!(changed.metadata.resource_version, made.metadata.resource_version);
    let same = maps
        .patch("m", &PatchParams::default(), &patch)
        .await
        .expect("patch");
    assert_eq!(
        same.metadata.resource_version, changed.metadata.resource_version,
        "a write that changes nothing"
    );
    assert_eq!(
        code(
            &maps
                .replace("m", &PostParams::default(), &made)
                .await
                .expect_err("stale")
        ),
        409
    );
    maps.delete("m", &DeleteParams::default()).await.expect("delete");
    assert_eq!(code(&maps.get("m").await.expect_err("gone")), 404);
}

#[tokio::test]
async fn watches_resume_and_expire() {
    let cluster = cluster_with(|options| options.watch_history = 8);
    let maps: Api<ConfigMap> = Api::namespaced(cluster.admin(), "kube-public");
    let first = maps
        .create(&PostParams::default(), &config_map("w0"))
        .await
        .expect("create");
    let from = first.metadata.resource_version.expect("a version");
    for i in 1..4 {
        maps.create(&PostParams::default(), &config_map(&format!("w{i}")))
            .await
            .expect("create");
    }
    let params = WatchParams::default().timeout(20);
    let seen: Vec<String> = maps
        .watch(&params, &from)
        .await
        .expect("watch")
        .try_filter_map(|event| async move {
            Ok(match event {
                WatchEvent::Added(map) => map.metadata.name,
                _ => None,
            })
        })
        .take(3)
        .try_collect()
        .await
        .expect("events");
    assert_eq!(seen, ["w1", "w2", "w3"]);
    for i in 4..16 {
        maps.create(&PostParams::default(), &config_map(&format!("w{i}")))
            .await
            .expect("create");
    }
    let mut stream = maps.watch(&params, &from).await.expect("watch").boxed();
    let event = tokio::time::timeout(PATIENCE, stream.next())
        .await
        .expect("in time");
    assert!(
        matches!(event, Some(Ok(WatchEvent::Error(ref status))) if status.code == 410),
        "{event:?}"
    );
}

#[tokio::test]
async fn pages_are_one_snapshot() {
    let cluster = cluster();
    let maps: Api<ConfigMap> = Api::namespaced(cluster.admin(), "kube-public");
    for i in 0..5 {
        maps.create(&PostParams::default(), &config_map(&format!("p{i}")))
            .await
            .expect("create");
    }
    let page = maps
        .list(&ListParams::default().limit(3))
        .await
        .expect("first page");
    maps.delete("p4", &DeleteParams::default())
        .await
        .expect("delete between pages");
    let token = page.metadata.continue_.clone().expect("more");
    let rest = maps
        .list(&ListParams::default().limit(10).continue_token(&token))
        .await
        .expect("second page");
    assert_eq!(rest.metadata.resource_version, page.metadata.resource_version);
    assert!(
        rest.items
            .iter()
            .any(|m| m.metadata.name.as_deref() == Some("p4")),
        "as of the first page"
    );
}

#[tokio::test]
async fn owners_take_their_dependents_along() {
    let cluster = cluster();
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.admin());
    let owner = maps
        .create(&PostParams::default(), &config_map("owner"))
        .await
        .expect("create");
    let mut child = config_map("child");
    let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid, "blockOwnerDeletion": true});
    child.metadata.owner_references = Some(vec![serde_json::from_value(reference).expect("a reference")]);
    maps.create(&PostParams::default(), &child).await.expect("create");
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..DeleteParams::default()
    };
    maps.delete("owner", &params).await.expect("delete");
    for name in ["child", "owner"] {
        until("both are gone", || async {
            maps.get_opt(name).await.expect("get").is_none().then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn finalizers_hold() {
    let cluster = cluster();
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.admin());
    let mut map = config_map("f");
    map.metadata.finalizers = Some(vec!["a.b/c".into()]);
    maps.create(&PostParams::default(), &map).await.expect("create");
    maps.delete("f", &DeleteParams::default()).await.expect("delete");
    assert!(
        maps.get("f")
            .await
            .expect("still there")
            .metadata
            .deletion_timestamp
            .is_some()
    );
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("f", &PatchParams::default(), &patch)
        .await
        .expect("release");
    assert!(maps.get_opt("f").await.expect("get").is_none());
}

#[tokio::test]
async fn namespaces_get_and_lose_their_content() {
    let cluster = cluster();
    let namespaces: Api<Namespace> = Api::all(cluster.admin());
    let namespace = serde_json::from_value(json!({"metadata": {"name": "n"}})).expect("a Namespace");
    namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .expect("create");
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.admin(), "n");
    until("there is a default account", || async {
        accounts.get_opt("default").await.expect("get")
    })
    .await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.admin(), "n");
    let mut map = config_map("held");
    map.metadata.finalizers = Some(vec!["a.b/c".into()]);
    maps.create(&PostParams::default(), &map).await.expect("create");
    namespaces
        .delete("n", &DeleteParams::default())
        .await
        .expect("delete");
    let refused = maps
        .create(&PostParams::default(), &config_map("late"))
        .await
        .expect_err("terminating");
    assert_eq!(code(&refused), 403);
    until("the content is marked", || async {
        let held = maps.get("held").await.expect("get");
        held.metadata.deletion_timestamp.map(|_| ())
    })
    .await;
    maps.patch(
        "held",
        &PatchParams::default(),
        &Patch::Merge(json!({"metadata": {"finalizers": null}})),
    )
    .await
    .expect("release");
    until("the namespace is gone", || async {
        namespaces
            .get_opt("n")
            .await
            .expect("get")
            .is_none()
            .then_some(())
    })
    .await;
}

fn thing_definition() -> CustomResourceDefinition {
    serde_json::from_value(json!({
        "metadata": {"name": "things.x.example"},
        "spec": {"group": "x.example", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {
                        "size": {"type": "integer", "minimum": 1, "default": 3},
                        "serial": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "serial is immutable"}]},
                    }},
                    "status": {"type": "object", "properties": {"phase": {"type": "string"}}},
                }}}}]},
    }))
    .expect("a definition")
}

fn things(client: kube::Client) -> (Api<DynamicObject>, ApiResource) {
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("x.example", "v1", "Thing"), "things");
    (Api::default_namespaced_with(client, &resource), resource)
}

#[tokio::test]
async fn custom_resources_have_schema_status_and_rules() {
    let cluster = cluster();
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.admin());
    definitions
        .create(&PostParams::default(), &thing_definition())
        .await
        .expect("create");
    let (api, resource) = things(cluster.admin());
    let thing = DynamicObject::new("a", &resource)
        .data(json!({"spec": {"serial": "s", "zz": 1}, "status": {"phase": "Lost"}}));
    let made = api
        .create(&PostParams::default(), &thing)
        .await
        .expect("served as soon as created");
    assert_eq!(
        made.data["spec"],
        json!({"serial": "s", "size": 3}),
        "pruned and defaulted"
    );
    assert!(made.data.get("status").is_none(), "status is a subresource");
    let patch = Patch::Merge(json!({"status": {"phase": "Good"}, "spec": {"size": 9}}));
    let after = api
        .patch_status("a", &PatchParams::default(), &patch)
        .await
        .expect("status");
    assert_eq!(
        (&after.data["status"]["phase"], &after.data["spec"]["size"]),
        (&json!("Good"), &json!(3))
    );
    assert_eq!(after.metadata.generation, Some(1));
    for (spec, words) in [
        (
            json!({"size": 0}),
            "spec.size in body should be greater than or equal to 1",
        ),
        (json!({"serial": "t"}), "serial is immutable"),
    ] {
        let error = api
            .patch("a", &PatchParams::default(), &Patch::Merge(json!({"spec": spec})))
            .await
            .expect_err(words);
        assert_eq!(code(&error), 422);
        assert!(error.to_string().contains(words), "{error}");
    }
    definitions
        .delete("things.x.example", &DeleteParams::default())
        .await
        .expect("delete");
    until("the definition is gone", || async {
        definitions
            .get_opt("things.x.example")
            .await
            .expect("get")
            .is_none()
            .then_some(())
    })
    .await;
    assert_eq!(code(&api.get("a").await.expect_err("no longer served")), 404);
}

#[tokio::test]
async fn appliers_conflict_and_force() {
    let cluster = cluster();
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.admin());
    let apply = |value: &str| {
        Patch::Apply(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s"}, "data": {"a": value}}),
        )
    };
    maps.patch("s", &PatchParams::apply("one"), &apply("1"))
        .await
        .expect("creates");
    let error = maps
        .patch("s", &PatchParams::apply("two"), &apply("2"))
        .await
        .expect_err("conflict");
    assert_eq!(code(&error), 409);
    assert!(
        error.to_string().contains("conflict with \"one\": .data.a"),
        "{error}"
    );
    let forced = maps
        .patch("s", &PatchParams::apply("two").force(), &apply("2"))
        .await
        .expect("forced");
    assert_eq!(forced.data.expect("data")["a"], "2");
}

#[tokio::test]
async fn nobody_reads_more_than_their_roles() {
    let cluster = cluster();
    let admin = cluster.admin();
    let secrets: Api<Secret> = Api::default_namespaced(cluster.client("jane", &[]));
    let error = secrets.list(&ListParams::default()).await.expect_err("no role");
    assert_eq!(code(&error), 403);
    let words = "secrets is forbidden: User \"jane\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\"";
    assert!(error.to_string().contains(words), "{error}");
    let binding = json!({"metadata": {"name": "jane"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}]});
    let bindings: Api<k8s_openapi::api::rbac::v1::RoleBinding> = Api::default_namespaced(admin);
    bindings
        .create(
            &PostParams::default(),
            &serde_json::from_value(binding).expect("a binding"),
        )
        .await
        .expect("bind");
    secrets.list(&ListParams::default()).await.expect("now allowed");
    let elsewhere: Api<Secret> = Api::namespaced(cluster.client("jane", &[]), "kube-system");
    assert_eq!(
        code(
            &elsewhere
                .list(&ListParams::default())
                .await
                .expect_err("only in default")
        ),
        403
    );
}

#[tokio::test]
async fn without_identity_nothing_but_cluster_info() {
    let cluster = cluster();
    for (path, want) in [
        ("/api/v1/namespaces", 401),
        ("/apis", 401),
        ("/api/v1/namespaces/kube-public/configmaps/cluster-info", 200),
        ("/api/v1/namespaces/kube-public/configmaps", 401),
        ("/version", 200),
        ("/readyz", 200),
    ] {
        let (code, body) = send(&cluster.server, None, request("GET", path, "")).await;
        assert_eq!(code, want, "{path}: {body}");
    }
}

#[tokio::test]
async fn bad_input_is_refused_not_fatal() {
    let cluster = cluster();
    let admin: Option<(&str, &[&str])> = Some(("admin", &["system:masters"]));
    let deep = format!("{}1{}", "[".repeat(120), "]".repeat(120));
    for (method, path, body) in [
        ("POST", "/api/v1/namespaces", "[]"),
        ("POST", "/api/v1/namespaces", "{\"metadata\": 5}"),
        (
            "POST",
            "/api/v1/namespaces/default/configmaps",
            "{\"metadata\":{\"name\":\"x\",\"labels\":[]}}",
        ),
        ("POST", "/api/v1/namespaces/default/configmaps", deep.as_str()),
        (
            "PUT",
            "/api/v1/namespaces/default/configmaps/none",
            "{\"metadata\":{\"name\":\"none\"}}",
        ),
        ("GET", "/api/v1/namespaces/default/configmaps?continue=%00%ff", ""),
        ("GET", "/api/v1/pods?labelSelector=%28%28%28", ""),
        ("GET", "/api/v1/pods?fieldSelector=x", ""),
        ("GET", "/api/v1/pods?watch=1&resourceVersion=x", ""),
        ("GET", "/api/v1/pods?limit=-1", ""),
    ] {
        let (code, answer) = send(&cluster.server, admin, request(method, path, body)).await;
        assert!(
            (400..500).contains(&code),
            "{method} {path} {body:.40}: {code} {answer}"
        );
    }
}

#[tokio::test]
async fn a_watcher_that_never_reads_is_cut_off_alone() {
    let cluster = cluster_with(|options| options.watch_history = 64);
    let maps: Api<ConfigMap> = Api::namespaced(cluster.admin(), "kube-public");
    let first = maps
        .create(&PostParams::default(), &config_map("first"))
        .await
        .expect("create");
    let from = first.metadata.resource_version.expect("a version");
    let params = WatchParams::default().timeout(60);
    let mut slow = maps.watch(&params, &from).await.expect("watch").boxed();
    let mut quick = maps.watch(&params, &from).await.expect("watch").boxed();
    for i in 0..300 {
        let name = format!("c{i}");
        maps.create(&PostParams::default(), &config_map(&name))
            .await
            .expect("create");
        let event = tokio::time::timeout(PATIENCE, quick.next())
            .await
            .expect("in time");
        let Some(Ok(WatchEvent::Added(seen))) = event else {
            panic!("{event:?} instead of {name}")
        };
        assert_eq!(
            seen.metadata.name.as_deref(),
            Some(name.as_str()),
            "each change once, in order"
        );
    }
    let event = tokio::time::timeout(PATIENCE, slow.next())
        .await
        .expect("in time");
    assert!(
        matches!(event, Some(Ok(WatchEvent::Error(ref status))) if status.code == 410),
        "{event:?}"
    );
}
