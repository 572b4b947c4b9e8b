//! The workspace's own rules as far as a test can hold them.

use crate::repository;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Lines of a file before it needs a reason, and before no reason helps.
const LINES_WITHOUT_REASON: usize = 600;
const LINES_MAX: usize = 1000;

/// Longer than they should be. Shrinks only.
const LONG: &[(&str, &str)] = &[(
    "controller/core/tests/it/hosts_walk.rs",
    "one model of the world and its walk",
)];

fn root() -> PathBuf {
    repository("").canonicalize().unwrap()
}

fn metadata() -> &'static Value {
    static METADATA: OnceLock<Value> = OnceLock::new();
    METADATA.get_or_init(|| {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    })
}

fn packages() -> impl Iterator<Item = &'static Value> {
    metadata()["packages"].as_array().unwrap().iter()
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap()
}

fn folder(package: &Value) -> PathBuf {
    Path::new(package["manifest_path"].as_str().unwrap())
        .parent()
        .unwrap()
        .to_owned()
}

/// Names of what a package depends on, of one kind (`None`: in production code).
fn dependencies<'a>(package: &'a Value, kind: Option<&'a str>) -> BTreeSet<&'a str> {
    let all = package["dependencies"].as_array().unwrap().iter();
    all.filter(|d| d["kind"].as_str() == kind).map(name).collect()
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// Files of our packages that end in `.extension`.
fn files(extension: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, extension: &str, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let hidden = path.file_name().unwrap().to_string_lossy().starts_with('.');
            if path.is_dir() && !hidden && !path.ends_with("target") {
                walk(&path, extension, found);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.insert(path);
            }
        }
    }
    let mut found = BTreeSet::new();
    for package in packages() {
        walk(&folder(package).canonicalize().unwrap(), extension, &mut found);
    }
    found.into_iter().collect()
}

/// A new arrow between our packages is a decision: it shows here.
#[test]
fn who_imports_whom() {
    let ours: BTreeSet<&str> = packages().map(name).collect();
    let mut graph: Vec<String> = packages()
        .map(|package| {
            let of_kind = |kind| {
                dependencies(package, kind)
                    .intersection(&ours)
                    .copied()
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            assert_eq!(
                of_kind(Some("build")),
                "",
                "{} builds with one of ours",
                name(package)
            );
            let (code, tests) = (of_kind(None), of_kind(Some("dev")));
            format!("{} -> [{code}] tests [{tests}]", name(package)).replace(" tests []", "")
        })
        .collect();
    graph.sort();
    insta::assert_snapshot!(graph.join("\n"), @"
    sim-bmc -> []
    sim-fabric -> []
    sim-kube -> []
    steelyard-agent -> [steelyard-agent-api]
    steelyard-agent-api -> []
    steelyard-api -> []
    steelyard-conformance -> [steelyard-lab, steelyard-suite] tests [steelyard-core]
    steelyard-controller -> [steelyard-agent-api, steelyard-api, steelyard-core] tests [sim-bmc, sim-fabric, sim-kube]
    steelyard-core -> [steelyard-api]
    steelyard-lab -> [sim-bmc, sim-fabric, sim-kube, steelyard-agent, steelyard-agent-api, steelyard-controller] tests [steelyard-api, steelyard-core]
    steelyard-suite -> []
    ");
}

#[test]
fn packages_share_licence_lints_and_versions() {
    assert!(root().join("deny.toml").is_file());
    assert!(root().join("LICENSE").is_file());
    for package in packages() {
        let manifest = fs::read_to_string(folder(package).join("Cargo.toml")).unwrap();
        let at = name(package);
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{at}: [lints] workspace = true is missing"
        );
        for field in [
            "version",
            "edition",
            "rust-version",
            "license",
            "repository",
            "publish",
        ] {
            assert!(
                manifest.contains(&format!("{field}.workspace = true")),
                "{at}: {field} is not the workspace's"
            );
        }
        assert_eq!(package["license"], "Apache-2.0", "{at}");
        assert!(package["description"].is_string(), "{at} says not what it is");
        let own = manifest.lines().find(|l| l.contains("version = \""));
        assert_eq!(own, None, "{at}: versions are in the root manifest");
    }
}

/// Decisions can't do I/O: what would let them can't be named, nor comes in through something else.
#[test]
fn core_is_pure_by_its_manifest() {
    let core = packages().find(|p| name(p) == "steelyard-core").unwrap();
    let allowed = [
        "ipnet",
        "jiff",
        "k8s-openapi",
        "kube-core",
        "serde",
        "serde_json",
        "steelyard-api",
        "thiserror",
    ];
    let found: Vec<&str> = dependencies(core, None).into_iter().collect();
    assert_eq!(found, allowed, "what steelyard-core may name is decided here");

    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let tree = Command::new(cargo)
        .args([
            "tree",
            "--package",
            "steelyard-core",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let all = String::from_utf8(tree.stdout).unwrap();
    assert!(all.contains("serde_json"), "{all}");
    for banned in ["tokio", "hyper", "kube-client", "rustls", "mio", "socket2"] {
        let there = all.lines().any(|l| l.split(' ').next() == Some(banned));
        assert!(!there, "steelyard-core reaches {banned}:\n{all}");
    }
}

/// Also features: a mutant in a released controller would be a defect in a rack.
#[test]
fn mutants_are_no_default() {
    let core = packages().find(|p| name(p) == "steelyard-core").unwrap();
    assert!(core["features"]["default"].as_array().is_none_or(Vec::is_empty));
    let wants = |d: &Value| d["features"].as_array().unwrap().iter().any(|f| f == "mutants");
    for package in packages() {
        for dependency in package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|d| wants(d))
        {
            assert_eq!(
                dependency["kind"],
                "dev",
                "{} turns mutants on in production code",
                name(package)
            );
        }
        assert!(
            package["features"]
                .as_object()
                .unwrap()
                .values()
                .flat_map(|f| f.as_array().unwrap())
                .all(|f| { !f.as_str().unwrap().contains("steelyard-core/mutants") }),
            "{} has a feature that turns mutants on",
            name(package)
        );
    }
}

/// The lab gives the controller its world and its flags, as a site would, and nothing else.
#[test]
fn the_lab_hands_over_a_world_and_flags() {
    let run = fs::read_to_string(repository("controller/src/run.rs")).unwrap();
    let signature = run
        .lines()
        .find(|l| l.contains("pub async fn run("))
        .expect("controller/src/run.rs has run()");
    assert!(
        signature.contains("run(world: World, args: Args, tasks: Tasks)"),
        "the controller is given something else than World, Args and its task tree: {signature}"
    );
    let world = fs::read_to_string(repository("controller/src/world.rs")).unwrap();
    let body = world
        .split("pub struct World {")
        .nth(1)
        .unwrap()
        .split('}')
        .next()
        .unwrap();
    let fields: Vec<&str> = body
        .lines()
        .filter_map(|l| l.trim().strip_prefix("pub ")?.split(':').next())
        .collect();
    assert_eq!(
        fields,
        ["kube", "clock", "dice", "oob", "provisioning", "services"]
    );
    let imports = [
        "core",
        "reconcile",
        "store",
        "observe",
        "execute",
        "boot",
        "bmc",
        "fabric",
        "tenant",
        "image",
        "queue",
        "key",
    ];
    for file in files("rs")
        .into_iter()
        .filter(|f| f.starts_with(root().join("kubevirt-lab/src")))
    {
        let text = fs::read_to_string(&file).unwrap();
        for module in imports {
            assert!(
                !text.contains(&format!("steelyard_controller::{module}::")),
                "{}: the lab reaches into the controller's {module}",
                relative(&file)
            );
        }
    }
}

#[test]
fn modules_say_what_they_are() {
    let silent: Vec<String> = files("rs")
        .iter()
        .filter(|f| !fs::read_to_string(f).unwrap().trim_start().starts_with("//!"))
        .map(|f| relative(f))
        .collect();
    assert!(silent.is_empty(), "these don't start with //!: {silent:#?}");
}

#[test]
fn files_stay_short() {
    let lengths: BTreeMap<String, usize> = files("rs")
        .iter()
        .map(|f| (relative(f), fs::read_to_string(f).unwrap().lines().count()))
        .collect();
    for (file, lines) in &lengths {
        assert!(
            *lines <= LINES_MAX,
            "{file} has {lines} lines, and {LINES_MAX} are the most: split it"
        );
        let allowed = LONG.iter().any(|(f, _)| f == file);
        assert!(
            *lines <= LINES_WITHOUT_REASON || allowed,
            "{file} has {lines} lines: split it, or give a reason here"
        );
        assert!(
            !allowed || *lines > LINES_WITHOUT_REASON,
            "{file} has become short: take it out of LONG"
        );
    }
    for (file, _) in LONG {
        assert!(lengths.contains_key(*file), "{file} is gone: take it out of LONG");
    }
}

/// Examples are promises: each is read by a test or by the suite (which applies `examples/*.yaml`).
#[test]
fn examples_are_used() {
    let tests: String = files("rs")
        .iter()
        .filter(|f| {
            f.components().any(|c| c.as_os_str() == "tests")
                || f.ends_with("tests.rs")
                || f.ends_with("files.rs")
        })
        .map(|f| fs::read_to_string(f).unwrap())
        .collect();
    let top = repository("examples");
    for entry in fs::read_dir(&top).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            for inner in fs::read_dir(&path).unwrap() {
                let inner = inner.unwrap().file_name().to_string_lossy().into_owned();
                let used = tests.contains(&format!("{file}/{inner}"));
                assert!(used, "examples/{file}/{inner} is used by no test");
            }
        } else {
            assert!(
                file.ends_with(".yaml"),
                "examples/{file} is no YAML that the suite would apply"
            );
        }
    }
}

/// Links of the pages that newcomers read lead somewhere.
#[test]
fn links_resolve() {
    let pages = files_of_docs();
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        for link in links(&text) {
            if link.contains("://") || link.starts_with('#') || link.starts_with("mailto:") {
                continue;
            }
            let path = link.split('#').next().unwrap();
            let target = page.parent().unwrap().join(path);
            assert!(
                target.exists(),
                "{}: link to {link} leads nowhere",
                relative(page)
            );
        }
    }
}

fn files_of_docs() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = Vec::new();
    for dir in [
        root(),
        root().join("docs"),
        root().join("docs/decisions"),
        root().join("docs/states"),
    ] {
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        pages.extend(
            entries
                .map(|e| e.path())
                .filter(|p| p.extension().is_some_and(|e| e == "md")),
        );
    }
    pages.sort();
    pages
}

/// Targets of `[text](target)`, outside of code.
fn links(text: &str) -> Vec<String> {
    let mut code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            code = !code;
        }
        if code {
            continue;
        }
        for rest in line.split("](").skip(1) {
            if let Some((target, _)) = rest.split_once(')') {
                found.push(target.to_owned());
            }
        }
    }
    found
}

#[test]
fn links_are_found() {
    let text = "see [a](b.md#c) and [d](e)\n```\n[no](code)\n```\n";
    assert_eq!(links(text), ["b.md#c", "e"]);
}
