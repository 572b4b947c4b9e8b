//! Nodes of a tenant: what is known of them, and how one leaves.

use super::{TenantCluster, TenantError};
use crate::key::Key;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;
use steelyard_core::host::view::NodeFacts;

impl TenantCluster {
    /// What the watch last said of a node.
    pub fn node(&self, name: &str) -> NodeFacts {
        self.nodes
            .get(&Key::new("", name))
            .map_or_else(NodeFacts::default, |node| facts(&node))
    }

    /// One step on the way out: cordoned, then its pods evicted, then the Node object deleted. Asked again
    /// until the node is gone. `force`: don't wait for pods.
    pub async fn remove_node(&self, name: &str, force: bool) -> Result<(), TenantError> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let Some(node) = nodes.get_opt(name).await? else {
            return Ok(());
        };
        if !node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false) {
            let cordon = json!({"spec": {"unschedulable": true}});
            nodes
                .patch(name, &PatchParams::default(), &Patch::Merge(cordon))
                .await?;
        }
        if !force && self.evict_pods(name).await? > 0 {
            return Ok(());
        }
        let exactly = DeleteParams {
            preconditions: Some(Preconditions {
                uid: node.uid(),
                ..Preconditions::default()
            }),
            ..DeleteParams::default()
        };
        match nodes.delete(name, &exactly).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks each pod of the node to go; how many are still there. A disruption budget may say no (429): later.
    async fn evict_pods(&self, node: &str) -> Result<usize, TenantError> {
        let all: Api<Pod> = Api::all(self.client.clone());
        let here = all
            .list(&ListParams::default().fields(&format!("spec.nodeName={node}")))
            .await?;
        let mut left = 0;
        for pod in here.items.iter().filter(|p| must_leave(p)) {
            left += 1;
            let namespace = pod.namespace().unwrap_or_default();
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
            match api.evict(&pod.name_any(), &EvictParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 429) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(left)
    }
}

/// Pods that a DaemonSet or the kubelet itself would only start again stay to the end, as in `kubectl drain`.
fn must_leave(pod: &Pod) -> bool {
    let daemon = pod
        .owner_references()
        .iter()
        .any(|o| o.kind == "DaemonSet" && o.controller == Some(true));
    let mirror = pod.annotations().contains_key("kubernetes.io/config.mirror");
    let finished = pod
        .status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .is_some_and(|phase| phase == "Succeeded" || phase == "Failed");
    !daemon && !mirror && !finished
}

pub(super) fn facts(node: &Node) -> NodeFacts {
    NodeFacts {
        exists: true,
        ready: is_ready(node),
        uid: node.uid(),
    }
}

fn is_ready(node: &Node) -> bool {
    node.status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten())
        .any(|c| c.type_ == "Ready" && c.status == "True")
}
