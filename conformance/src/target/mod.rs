//! What the suite can be run against.

mod kubeconfig;
mod lab;

pub use kubeconfig::{KubeconfigOptions, KubeconfigTarget};
pub use lab::LabTarget;

use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use steelyard_suite::Server;

/// Reads servers from YAML as an owner writes it: each BareMetalHost with its Secret.
fn servers(text: &str) -> anyhow::Result<Vec<Server>> {
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(text)?;
    let of_kind = |kind: &'static str| documents.iter().filter(move |d| d["kind"] == kind);
    let mut servers = Vec::new();
    for host in of_kind("BareMetalHost") {
        let name = host["metadata"]["name"]
            .as_str()
            .context("a BareMetalHost has no metadata.name")?;
        let namespace = host["metadata"]["namespace"]
            .as_str()
            .with_context(|| format!("BareMetalHost {name} has no metadata.namespace"))?;
        let wanted = &host["spec"]["bmc"]["credentialsName"];
        let secret = of_kind("Secret")
            .find(|s| s["metadata"]["name"] == *wanted && s["metadata"]["namespace"] == namespace)
            .with_context(|| format!("Secret {wanted} of BareMetalHost {name} is not in the file"))?;
        servers.push(Server {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            secret: secret.clone(),
            host: host.clone(),
        });
    }
    Ok(servers)
}

/// The YAML files of a directory, in the order of their names.
fn yaml_files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("{} can't be read", dir.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.is_file() && path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!("{} holds no YAML files", dir.display());
    }
    files.sort();
    Ok(files)
}

/// `examples/` of the current directory, or of the repository that this was built from.
pub fn examples() -> PathBuf {
    let here = PathBuf::from("examples");
    if here.is_dir() {
        here
    } else {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str =
        "kind: BareMetalHost\nmetadata: {name: a, namespace: rack}\nspec: {bmc: {credentialsName: a-bmc}}\n";

    #[test]
    fn hosts_come_with_their_secrets() {
        let secret = "kind: Secret\nmetadata: {name: a-bmc, namespace: rack}\nstringData: {username: u, password: p}\n";
        let found = servers(&format!("{secret}---\n{HOST}")).unwrap();
        assert_eq!(
            (
                found.len(),
                found[0].name.as_str(),
                found[0].secret["stringData"]["username"].as_str()
            ),
            (1, "a", Some("u"))
        );
        let missing = servers(HOST).unwrap_err().to_string();
        assert!(
            missing.contains("a-bmc") && missing.contains("BareMetalHost a"),
            "{missing}"
        );
    }
}
