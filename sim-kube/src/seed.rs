//! What a cluster holds before anybody asks: namespaces, default RBAC, and what kubeadm leaves for joining nodes.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::auth::rbac::GROUP;
use crate::clock;
use crate::kubeconfig::{self, Credential};
use crate::server::Inner;

/// The version that nodes are told to run; the recorded server's minor.
pub(crate) const KUBERNETES_VERSION: &str = "v1.36.0";

/// ClusterRoles, Roles and bindings as recorded from a real server.
pub(crate) fn recorded_rbac() -> &'static Value {
    static RECORDED: LazyLock<Value> =
        LazyLock::new(|| serde_json::from_str(include_str!("../data/rbac.json")).unwrap_or_default());
    &RECORDED
}

pub(crate) fn cluster(inner: &Inner) {
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let value = json!({
            "kind": "Namespace", "apiVersion": "v1",
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
        });
        put(inner, "/namespaces", value);
    }
    roles(inner);
    kubeadm_roles(inner);
    configuration(inner);
    priority_classes(inner);
}

/// Creates an object as the server itself.
pub(crate) fn put(inner: &Inner, storage: &str, mut value: Value) {
    value["metadata"]["uid"] = inner.random.uid().into();
    value["metadata"]["creationTimestamp"] = clock::rfc3339(inner.now()).into();
    // Names collide only when the object is there already, which is what is wanted.
    let _ = inner.store.create(&storage.into(), value);
}

fn roles(inner: &Inner) {
    let recorded = recorded_rbac();
    let bootstrapping = || json!({"kubernetes.io/bootstrapping": "rbac-defaults"});
    for role in recorded["clusterRoles"].as_array().into_iter().flatten() {
        let mut labels = bootstrapping();
        for (key, value) in role["labels"].as_object().into_iter().flatten() {
            labels[key] = value.clone();
        }
        let mut value = json!({
            "kind": "ClusterRole", "apiVersion": format!("{GROUP}/v1"),
            "metadata": {"name": role["name"], "labels": labels,
                "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}},
            "rules": role["rules"],
        });
        if role.get("aggregationRule").is_some_and(Value::is_object) {
            value["aggregationRule"] = role["aggregationRule"].clone();
        }
        put(inner, &format!("{GROUP}/clusterroles"), value);
    }
    for binding in recorded["clusterRoleBindings"].as_array().into_iter().flatten() {
        let mut value = json!({
            "kind": "ClusterRoleBinding", "apiVersion": format!("{GROUP}/v1"),
            "metadata": {"name": binding["name"], "labels": bootstrapping(),
                "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}},
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": binding["roleRef"]},
        });
        if binding["subjects"].is_array() {
            value["subjects"] = binding["subjects"].clone();
        }
        put(inner, &format!("{GROUP}/clusterrolebindings"), value);
    }
}

fn binding(name: &str, namespace: &str, role: (&str, &str), subjects: &[(&str, &str)]) -> Value {
    let subjects: Vec<Value> = subjects
        .iter()
        .map(|(kind, name)| json!({"kind": kind, "name": name, "apiGroup": GROUP}))
        .collect();
    let kind = if namespace.is_empty() {
        "ClusterRoleBinding"
    } else {
        "RoleBinding"
    };
    let mut value = json!({
        "kind": kind, "apiVersion": format!("{GROUP}/v1"), "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": role.0, "name": role.1}, "subjects": subjects,
    });
    if !namespace.is_empty() {
        value["metadata"]["namespace"] = namespace.into();
    }
    value
}

fn reader(name: &str, namespace: &str, config_map: &str) -> Value {
    json!({
        "kind": "Role", "apiVersion": format!("{GROUP}/v1"), "metadata": {"name": name, "namespace": namespace},
        "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [config_map]}],
    })
}

const JOINERS: &str = "system:bootstrappers:kubeadm:default-node-token";

/// What `kubeadm init` creates so that nodes can join (phases bootstrap-token and upload-config).
fn kubeadm_roles(inner: &Inner) {
    let (roles, bindings) = (format!("{GROUP}/roles"), format!("{GROUP}/rolebindings"));
    let (cluster_roles, cluster_bindings) = (
        format!("{GROUP}/clusterroles"),
        format!("{GROUP}/clusterrolebindings"),
    );
    put(
        inner,
        &roles,
        reader(
            "kubeadm:bootstrap-signer-clusterinfo",
            "kube-public",
            "cluster-info",
        ),
    );
    let anonymous = [("User", "system:anonymous")];
    let signer = ("Role", "kubeadm:bootstrap-signer-clusterinfo");
    put(
        inner,
        &bindings,
        binding(signer.1, "kube-public", signer, &anonymous),
    );
    let both = [("Group", JOINERS), ("Group", "system:nodes")];
    for (name, config_map) in [
        ("kubeadm:nodes-kubeadm-config", "kubeadm-config"),
        ("kubeadm:kubelet-config", "kubelet-config"),
    ] {
        put(inner, &roles, reader(name, "kube-system", config_map));
        put(
            inner,
            &bindings,
            binding(name, "kube-system", ("Role", name), &both),
        );
    }
    let get_nodes = json!({
        "kind": "ClusterRole", "apiVersion": format!("{GROUP}/v1"), "metadata": {"name": "kubeadm:get-nodes"},
        "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["nodes"]}],
    });
    put(inner, &cluster_roles, get_nodes);
    let joiners = [("Group", JOINERS)];
    let csr = "system:certificates.k8s.io:certificatesigningrequests";
    for (name, role, subjects) in [
        ("kubeadm:get-nodes", "kubeadm:get-nodes".to_owned(), joiners),
        (
            "kubeadm:kubelet-bootstrap",
            "system:node-bootstrapper".to_owned(),
            joiners,
        ),
        (
            "kubeadm:node-autoapprove-bootstrap",
            format!("{csr}:nodeclient"),
            joiners,
        ),
        (
            "kubeadm:node-autoapprove-certificate-rotation",
            format!("{csr}:selfnodeclient"),
            [("Group", "system:nodes")],
        ),
    ] {
        put(
            inner,
            &cluster_bindings,
            binding(name, "", ("ClusterRole", &role), &subjects),
        );
    }
}

fn config_map(namespace: &str, name: &str, data: Value) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name, "namespace": namespace}, "data": data})
}

fn configuration(inner: &Inner) {
    let url = &inner.options.advertise_url;
    let endpoint = url.trim_start_matches("https://").trim_end_matches('/');
    let info = kubeconfig::render(url, inner.pki.ca_pem(), "", &Credential::None);
    put(
        inner,
        "/configmaps",
        config_map("kube-public", "cluster-info", json!({"kubeconfig": info})),
    );
    let cluster = format!(
        "apiVersion: kubeadm.k8s.io/v1beta4\ncertificatesDir: /etc/kubernetes/pki\nclusterName: kubernetes\n\
         controlPlaneEndpoint: {endpoint}\ndns: {{}}\netcd:\n  local:\n    dataDir: /var/lib/etcd\n\
         imageRepository: registry.k8s.io\nkind: ClusterConfiguration\nkubernetesVersion: {KUBERNETES_VERSION}\n\
         networking:\n  dnsDomain: cluster.local\n  serviceSubnet: 10.96.0.0/16\n"
    );
    put(
        inner,
        "/configmaps",
        config_map(
            "kube-system",
            "kubeadm-config",
            json!({"ClusterConfiguration": cluster}),
        ),
    );
    let kubelet = "apiVersion: kubelet.config.k8s.io/v1beta1\nauthentication:\n  anonymous:\n    enabled: false\n  \
        webhook:\n    enabled: true\nauthorization:\n  mode: Webhook\ncgroupDriver: systemd\nclusterDNS:\n- 10.96.0.10\n\
        clusterDomain: cluster.local\nkind: KubeletConfiguration\nrotateCertificates: true\n";
    put(
        inner,
        "/configmaps",
        config_map("kube-system", "kubelet-config", json!({"kubelet": kubelet})),
    );
    let authentication = json!({"client-ca-file": inner.pki.ca_pem()});
    put(
        inner,
        "/configmaps",
        config_map(
            "kube-system",
            "extension-apiserver-authentication",
            authentication,
        ),
    );
}

fn priority_classes(inner: &Inner) {
    for (name, value, about) in [
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ] {
        let class = json!({
            "kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1", "metadata": {"name": name}, "value": value,
            "description": about, "preemptionPolicy": "PreemptLowerPriority",
        });
        put(inner, "scheduling.k8s.io/priorityclasses", class);
    }
}
