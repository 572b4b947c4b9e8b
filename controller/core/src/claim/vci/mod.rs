//! A tenant (VirtualClusterInstance): its static pools keep their number of claims, and it is Ready when all their
//! nodes are and its kubeconfig is there.
//!
//! The control plane itself is run by somebody else (vCluster; in the lab its tenant operator), in a namespace that
//! is made here.

mod pools;

use crate::{Change, Decision, Moment, Notice, ObjectRef, ObjectWrite, Rule, Wake};
use jiff::Timestamp;
use pools::Plan;
use serde_json::{Value, json};
use std::convert::Infallible;
use steelyard_api::{
    ConditionStatus, Conditions,
    loft::{
        NodeClaim, Phase, VirtualClusterInstance, VirtualClusterInstanceStatus, claim_condition,
        virtual_cluster_condition as condition,
    },
    names::{finalizer, secret},
};

/// Everything that a decision about a tenant may look at.
#[derive(Clone, Debug)]
pub struct TenantView<'a> {
    pub tenant: &'a VirtualClusterInstance,
    /// The claims of its namespace that name it.
    pub claims: Vec<&'a NodeClaim>,
    /// The namespace of its control plane exists.
    pub namespace_exists: bool,
    /// The Secret with its kubeconfig is there.
    pub kubeconfig: bool,
}

type Intent = Infallible;

/// The namespace that a tenant's control plane runs in: what `spec.clusterRef` says, else the platform's rule.
pub fn control_plane_namespace(tenant: &VirtualClusterInstance) -> String {
    let named = tenant
        .spec
        .cluster_ref
        .as_ref()
        .and_then(|cluster| cluster.namespace.clone());
    named.filter(|name| !name.is_empty()).unwrap_or_else(|| {
        let namespace = tenant.metadata.namespace.as_deref().unwrap_or_default();
        let project = namespace.strip_prefix("p-").unwrap_or(namespace);
        format!(
            "loft-{project}-v-{}",
            tenant.metadata.name.as_deref().unwrap_or_default()
        )
    })
}

/// The name of the virtual cluster: that of its kubeconfig's Secret.
pub fn virtual_cluster_name(tenant: &VirtualClusterInstance) -> String {
    let named = tenant
        .spec
        .cluster_ref
        .as_ref()
        .and_then(|cluster| cluster.virtual_cluster.clone());
    named
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| tenant.metadata.name.clone().unwrap_or_default())
}

/// Decides about one tenant. Total, deterministic, never panics.
pub fn decide(view: &TenantView<'_>, at: Moment) -> Decision<VirtualClusterInstanceStatus, Intent> {
    let status = view.tenant.status.clone().unwrap_or_default();
    let mut pass = Pass {
        view,
        at,
        status,
        writes: Vec::new(),
        events: Vec::new(),
        wake: Wake::OnChange,
    };
    let rule = if view.tenant.metadata.deletion_timestamp.is_some() {
        pass.leave()
    } else {
        pass.keep()
    };
    pass.status.other.insert("rule".to_owned(), json!(rule.0));
    Decision {
        writes: pass.writes,
        status: pass.status,
        intents: Vec::new(),
        look: Vec::new(),
        wake: pass.wake,
        events: pass.events,
        rule,
    }
}

struct Pass<'a> {
    view: &'a TenantView<'a>,
    at: Moment,
    status: VirtualClusterInstanceStatus,
    writes: Vec<ObjectWrite>,
    events: Vec<Notice>,
    wake: Wake,
}

impl Pass<'_> {
    fn keep(&mut self) -> Rule {
        let own = self.finalizers();
        if !own.iter().any(|name| name == finalizer::VIRTUAL_CLUSTER) {
            let all: Vec<_> = own
                .into_iter()
                .chain([finalizer::VIRTUAL_CLUSTER.to_owned()])
                .collect();
            self.patch_tenant(json!({ "metadata": { "finalizers": all } }));
            self.summarise(Phase::Pending, "Starting", "its nodes are about to be asked for");
            return Rule("tenant.finalizer");
        }
        let config = match self.view.tenant.spec.config() {
            Ok(config) => config,
            Err(error) => {
                let message = error.to_string();
                self.problem(condition::CONFIG_VALID, "ConfigInvalid", &message);
                self.set(condition::READY, false, "ConfigInvalid", &message);
                self.summarise(Phase::Failed, "ConfigInvalid", &message);
                return Rule("tenant.config");
            }
        };
        self.set(condition::CONFIG_VALID, true, "Parsed", "");
        if !self.view.namespace_exists {
            let name = control_plane_namespace(self.view.tenant);
            let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
            let target = ObjectRef {
                api_version: "v1",
                kind: "Namespace",
                namespace: None,
                name,
            };
            self.writes.push(ObjectWrite {
                target,
                change: Change::Create { object },
            });
        }
        let plan = pools::plan(self.view, &config);
        self.carry_out(&plan);
        self.report(&plan)
    }

    fn carry_out(&mut self, plan: &Plan) {
        for claim in &plan.missing {
            let target = ObjectRef {
                api_version: NodeClaim::API_VERSION,
                kind: NodeClaim::KIND,
                namespace: claim.metadata.namespace.clone(),
                name: claim.metadata.name.clone().unwrap_or_default(),
            };
            let object = serde_json::to_value(claim).unwrap_or_default();
            self.events.push(Notice::normal(
                "NodeClaimCreated",
                format!("NodeClaim {} was asked for", target.name),
            ));
            self.writes.push(ObjectWrite {
                target,
                change: Change::Create { object },
            });
        }
        for claim in &plan.surplus {
            self.delete(claim, "NodeClaimDeleted");
        }
        if plan.more {
            self.wake = Wake::At(self.at.now);
        }
    }

    fn delete(&mut self, claim: &NodeClaim, reason: &'static str) {
        let target = ObjectRef {
            api_version: NodeClaim::API_VERSION,
            kind: NodeClaim::KIND,
            namespace: claim.metadata.namespace.clone(),
            name: claim.metadata.name.clone().unwrap_or_default(),
        };
        self.events.push(Notice::normal(
            reason,
            format!("NodeClaim {} is given back", target.name),
        ));
        self.writes.push(ObjectWrite {
            target,
            change: Change::Delete {
                uid: claim.metadata.uid.clone(),
            },
        });
    }

    fn report(&mut self, plan: &Plan) -> Rule {
        self.status.nodes = Some(format!("{}/{}", plan.ready, plan.wanted));
        let cluster = virtual_cluster_name(self.view.tenant);
        if self.view.kubeconfig {
            self.set(condition::CONTROL_PLANE_READY, true, "KubeconfigPresent", "");
        } else {
            let namespace = control_plane_namespace(self.view.tenant);
            let message = format!(
                "waiting for Secret {namespace}/{} with its kubeconfig",
                secret::kubeconfig_of(&cluster)
            );
            self.set(
                condition::CONTROL_PLANE_READY,
                false,
                "KubeconfigMissing",
                &message,
            );
        }
        let settled = plan.missing.is_empty() && plan.surplus.is_empty() && !plan.more;
        if plan.ready >= plan.wanted && settled {
            self.set(condition::NODES_READY, true, "AllReady", "");
        } else {
            let message = waiting_for(plan);
            self.set(condition::NODES_READY, false, "NodesNotReady", &message);
        }
        let unmet = [condition::CONTROL_PLANE_READY, condition::NODES_READY]
            .into_iter()
            .find(|kind| !self.status.conditions.is_condition_true(kind));
        let Some(unmet) = unmet else {
            if !self.status.conditions.is_condition_true(condition::READY) {
                self.events.push(Notice::normal(
                    "Ready",
                    format!("{} of {} nodes are Ready", plan.ready, plan.wanted),
                ));
            }
            self.set(condition::READY, true, "Ready", "");
            self.summarise(Phase::Available, "Ready", "");
            return Rule("tenant.ready");
        };
        let (reason, message) = match self.status.conditions.find_condition(unmet) {
            Some(found) => (found.reason.clone(), found.message.clone()),
            None => (String::new(), String::new()),
        };
        self.set(condition::READY, false, &reason, &message);
        self.summarise(
            if plan.failed.is_empty() {
                Phase::Pending
            } else {
                Phase::Failed
            },
            &reason,
            &message,
        );
        match (settled, unmet) {
            (false, _) => Rule("tenant.pools"),
            (true, condition::CONTROL_PLANE_READY) => Rule("tenant.await-kubeconfig"),
            (true, _) => Rule("tenant.await-nodes"),
        }
    }

    /// Deleted: the claims first, each of which gives its host back.
    fn leave(&mut self) -> Rule {
        let claims = self.view.claims.clone();
        for claim in claims
            .iter()
            .filter(|claim| claim.metadata.deletion_timestamp.is_none())
        {
            self.delete(claim, "NodeClaimDeleted");
        }
        let own = self.finalizers();
        if claims.is_empty() && own.iter().any(|name| name == finalizer::VIRTUAL_CLUSTER) {
            let others: Vec<_> = own
                .into_iter()
                .filter(|name| name != finalizer::VIRTUAL_CLUSTER)
                .collect();
            self.patch_tenant(json!({ "metadata": { "finalizers": others } }));
            self.summarise(Phase::Pending, "Deleting", "all its machines were given back");
            return Rule("tenant.gone");
        }
        let message = match claims.as_slice() {
            [] => "all its machines were given back".to_owned(),
            [one] => format!("its last machine is being given back: {}", doing(one)),
            many => format!("{} machines are being given back, {}", many.len(), doing(many[0])),
        };
        self.set(condition::READY, false, "Deleting", &message);
        self.summarise(Phase::Pending, "Deleting", &message);
        Rule("tenant.leave")
    }

    fn finalizers(&self) -> Vec<String> {
        self.view.tenant.metadata.finalizers.clone().unwrap_or_default()
    }

    fn patch_tenant(&mut self, patch: Value) {
        let metadata = &self.view.tenant.metadata;
        let target = ObjectRef {
            api_version: VirtualClusterInstance::API_VERSION,
            kind: VirtualClusterInstance::KIND,
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone().unwrap_or_default(),
        };
        let resource_version = metadata.resource_version.clone().unwrap_or_default();
        self.writes.push(ObjectWrite {
            target,
            change: Change::Merge {
                resource_version,
                patch,
            },
        });
    }

    fn set(&mut self, kind: &str, met: bool, reason: &str, message: &str) {
        let status = if met {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        };
        self.status
            .conditions
            .set_condition(kind, status, reason, message, self.now());
    }

    fn problem(&mut self, kind: &'static str, reason: &'static str, message: &str) {
        let known = self
            .status
            .conditions
            .find_condition(kind)
            .is_some_and(|c| c.message == message);
        self.set(kind, false, reason, message);
        if !known {
            self.events.push(Notice::warning(reason, message));
        }
    }

    fn summarise(&mut self, phase: Phase, reason: &str, message: &str) {
        self.status.phase = Some(phase);
        self.status.reason = Some(reason.to_owned());
        self.status.message = Some(message.to_owned()).filter(|message| !message.is_empty());
    }

    fn now(&self) -> Timestamp {
        self.at.now
    }
}

/// What the pools wait for, and of the first claim that is stuck why.
fn waiting_for(plan: &Plan) -> String {
    let mut message = format!("{} of {} nodes are Ready", plan.ready, plan.wanted);
    for (count, what) in [
        (plan.missing.len(), "asked for"),
        (plan.surplus.len(), "given back"),
    ] {
        if count > 0 {
            message.push_str(&format!(", {count} being {what}"));
        }
    }
    if let Some(first) = plan.failed.first().or(plan.pending.first()) {
        message.push_str(&format!(": {first}"));
    }
    message
}

/// A claim and what it waits for.
fn doing(claim: &NodeClaim) -> String {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let message = claim
        .status
        .as_ref()
        .and_then(|status| status.message.as_deref())
        .unwrap_or_default();
    if message.is_empty() {
        name.to_owned()
    } else {
        format!("{name}: {message}")
    }
}

fn is_ready(claim: &NodeClaim) -> bool {
    claim
        .status
        .as_ref()
        .is_some_and(|status| status.conditions.is_condition_true(claim_condition::READY))
}
