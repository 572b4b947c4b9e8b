//! The store's promises: one order of versions, compare-and-swap, a log that expires, lists in the past.

use serde_json::json;

use super::*;

fn named(namespace: &str, name: &str) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name, "uid": format!("{namespace}-{name}")}})
}

fn id() -> StorageId {
    "g/things".into()
}

#[test]
fn compare_and_swap() {
    let store = Store::new(100);
    let a = store.create(&id(), named("n", "a")).expect("first create");
    assert_eq!(store.create(&id(), named("n", "a")).unwrap_err(), Refused::Exists);
    let b = store
        .update(&id(), a.version, named("n", "a"))
        .expect("fresh update");
    assert!(b.version > a.version);
    assert_eq!(
        store.update(&id(), a.version, named("n", "a")).unwrap_err(),
        Refused::Stale
    );
    let gone = store.delete(&id(), b.version, b.value.clone()).expect("delete");
    assert_eq!(
        gone.value["metadata"]["resourceVersion"],
        gone.version.to_string()
    );
    assert_eq!(
        store.update(&id(), b.version, named("n", "a")).unwrap_err(),
        Refused::Missing
    );
}

#[test]
fn namespaces_do_not_leak() {
    let store = Store::new(100);
    for (ns, name) in [("a", "x"), ("ab", "y"), ("b", "z"), ("", "w")] {
        store.create(&id(), named(ns, name)).expect("create");
    }
    let names = |ns: &str| {
        store
            .list("g/things", ns)
            .objects
            .iter()
            .map(|o| o.name().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names("a"), ["x"]);
    assert_eq!(names("ab"), ["y"]);
    assert_eq!(names(""), ["w", "x", "y", "z"]);
}

#[test]
fn a_cursor_behind_the_log_expires() {
    let store = Store::new(3);
    let first = store.create(&id(), named("n", "0")).expect("create").version;
    for i in 1..4 {
        store.create(&id(), named("n", &i.to_string())).expect("create");
    }
    let log = store.log(&id());
    assert!(matches!(log.read_after(first - 1, 10), Read::Expired));
    let Read::Events(events) = log.read_after(first, 10) else {
        panic!("{first} is the last evicted version")
    };
    assert_eq!(events.len(), 3);
    assert!(store.list_at("g/things", "n", first - 1).is_none());
}

#[test]
fn lists_in_the_past() {
    let store = Store::new(100);
    let a = store.create(&id(), named("n", "a")).expect("create");
    let b = store.create(&id(), named("n", "b")).expect("create");
    store.delete(&id(), a.version, a.value.clone()).expect("delete");
    store.create(&id(), named("n", "c")).expect("create");
    let then = store.list_at("g/things", "n", b.version).expect("within history");
    assert_eq!(
        then.keys().map(|k| k.name.to_string()).collect::<Vec<_>>(),
        ["a", "b"]
    );
}

#[test]
fn orphans_are_found_without_a_scan() {
    let store = Store::new(100);
    let owner = store.create(&id(), named("n", "owner")).expect("create");
    let mut child = named("n", "child");
    child["metadata"]["ownerReferences"] = json!([{"uid": "n-owner"}]);
    store.create(&id(), child).expect("create");
    assert!(store.orphans().take().is_empty(), "the owner lives");
    store
        .delete(&id(), owner.version, owner.value.clone())
        .expect("delete");
    let orphans: Vec<_> = store
        .orphans()
        .take()
        .into_iter()
        .map(|o| o.key.name.to_string())
        .collect();
    assert_eq!(orphans, ["child"]);
}
