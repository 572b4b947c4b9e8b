//! One pass of a decision about a claim: the next status in the making, and what is asked of the world.

use super::{
    conditions, eligible,
    view::{ClaimIntent, ClaimView},
};
use crate::{Change, Decision, Moment, Notice, ObjectRef, ObjectWrite, Rule, Wake};
use jiff::SignedDuration;
use serde_json::Value;
use steelyard_api::{
    ConditionStatus, Conditions,
    loft::{HostReference, NodeClaim, NodeClaimStatus},
    metal3::BareMetalHost,
    names::finalizer,
};

pub(super) struct Pass<'a> {
    pub view: &'a ClaimView<'a>,
    pub at: Moment,
    pub status: NodeClaimStatus,
    writes: Vec<ObjectWrite>,
    intents: Vec<ClaimIntent>,
    events: Vec<Notice>,
    message: String,
    /// Something is wrong that does not pass by waiting.
    failed: Option<(&'static str, String)>,
    /// The machine was asked to be off.
    pub off: bool,
    wake: Wake,
}

impl<'a> Pass<'a> {
    pub(super) fn new(view: &'a ClaimView<'a>, at: Moment) -> Self {
        Pass {
            view,
            at,
            status: view.claim.status.clone().unwrap_or_default(),
            writes: Vec::new(),
            intents: Vec::new(),
            events: Vec::new(),
            message: String::new(),
            failed: None,
            off: false,
            wake: Wake::OnChange,
        }
    }

    pub(super) fn claim(&self) -> &'a NodeClaim {
        self.view.claim
    }

    pub(super) fn name(&self) -> &'a str {
        self.view.claim.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn namespace(&self) -> &'a str {
        self.view.claim.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> &'a str {
        self.view.claim.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(super) fn deleting(&self) -> bool {
        self.view.claim.metadata.deletion_timestamp.is_some()
    }

    pub(super) fn has_finalizer(&self) -> bool {
        self.view
            .claim
            .metadata
            .finalizers
            .iter()
            .flatten()
            .any(|name| name == finalizer::CLAIM)
    }

    /// The host that says that this claim has it.
    pub(super) fn held(&self) -> Option<&'a BareMetalHost> {
        self.view
            .hosts
            .iter()
            .copied()
            .find(|host| eligible::is_held_by(host, self.view.claim))
    }

    /// A merge patch on the claim itself; at most one a pass, since it changes the version that it names.
    pub(super) fn patch_claim(&mut self, patch: Value) {
        let target = ObjectRef {
            api_version: NodeClaim::API_VERSION,
            kind: NodeClaim::KIND,
            namespace: Some(self.namespace().to_owned()),
            name: self.name().to_owned(),
        };
        let resource_version = self
            .view
            .claim
            .metadata
            .resource_version
            .clone()
            .unwrap_or_default();
        self.writes.push(ObjectWrite {
            target,
            change: Change::Merge {
                resource_version,
                patch,
            },
        });
    }

    /// A merge patch on a host; refused unless it still is the host that was looked at.
    pub(super) fn patch_host(&mut self, host: &BareMetalHost, patch: Value) {
        self.writes.push(host_write(host, patch));
    }

    pub(super) fn delete_secret(&mut self, namespace: &str, name: String) {
        let target = ObjectRef {
            api_version: "v1",
            kind: "Secret",
            namespace: Some(namespace.to_owned()),
            name,
        };
        self.writes.push(ObjectWrite {
            target,
            change: Change::Delete { uid: None },
        });
    }

    pub(super) fn intend(&mut self, intent: ClaimIntent) {
        self.intents.push(intent);
    }

    /// Decide again in `after` even if nothing is seen to change.
    pub(super) fn look_again(&mut self, after: SignedDuration) {
        self.wake = self.wake.sooner(Wake::At(self.at.after(after)));
    }

    // ---- conditions

    /// It is so. Told when it becomes so.
    pub(super) fn achieved(&mut self, kind: &'static str, reason: &'static str, message: &str) {
        let new = !self.status.conditions.is_condition_true(kind);
        self.status
            .conditions
            .set_condition(kind, ConditionStatus::True, reason, message, self.at.now);
        if new {
            self.events.push(Notice::normal(reason, message));
        }
    }

    /// It is not so yet, and nothing is wrong.
    pub(super) fn pending(&mut self, kind: &'static str, reason: &str, message: &str) {
        self.status
            .conditions
            .set_condition(kind, ConditionStatus::False, reason, message, self.at.now);
    }

    /// It is not so, and somebody should know. Told once for each cause.
    pub(super) fn problem(&mut self, kind: &'static str, reason: &'static str, message: &str) {
        let before = self.status.conditions.find_condition(kind);
        let known = before.is_some_and(|c| c.reason == reason && c.message == message);
        self.status
            .conditions
            .set_condition(kind, ConditionStatus::False, reason, message, self.at.now);
        if !known {
            self.events.push(Notice::warning(reason, message));
        }
    }

    /// The claim is in phase Failed until this is over.
    pub(super) fn fail(&mut self, reason: &'static str, message: &str) {
        self.failed = Some((reason, message.to_owned()));
    }

    pub(super) fn tell(&mut self, reason: &'static str, message: String) {
        self.events.push(Notice::normal(reason, message));
    }

    // ---- how the pass ends

    /// Ends the pass: `message` says what is waited for.
    pub(super) fn wait(&mut self, rule: &'static str, message: impl Into<String>) -> Rule {
        self.message = message.into();
        Rule(rule)
    }

    pub(super) fn finish(mut self, rule: Rule) -> Decision<NodeClaimStatus, ClaimIntent> {
        conditions::summarise(
            &mut self.status,
            self.view.claim,
            self.failed
                .as_ref()
                .map(|(reason, message)| (*reason, message.as_str())),
            self.off,
            self.at.now,
        );
        if let Some((_, failure)) = self.failed.take().filter(|_| self.message.is_empty()) {
            self.message = failure;
        }
        self.status.message = Some(self.message).filter(|message| !message.is_empty());
        self.status.rule = Some(rule.0.to_owned());
        Decision {
            writes: self.writes,
            status: self.status,
            intents: self.intents,
            look: Vec::new(),
            wake: self.wake,
            events: self.events,
            rule,
        }
    }
}

pub(super) fn host_write(host: &BareMetalHost, patch: Value) -> ObjectWrite {
    let target = ObjectRef {
        api_version: BareMetalHost::API_VERSION,
        kind: BareMetalHost::KIND,
        namespace: host.metadata.namespace.clone(),
        name: host.metadata.name.clone().unwrap_or_default(),
    };
    let resource_version = host.metadata.resource_version.clone().unwrap_or_default();
    ObjectWrite {
        target,
        change: Change::Merge {
            resource_version,
            patch,
        },
    }
}

pub(super) fn reference(host: &BareMetalHost) -> HostReference {
    HostReference {
        namespace: host.metadata.namespace.clone().unwrap_or_default(),
        name: host.metadata.name.clone().unwrap_or_default(),
        uid: host.metadata.uid.clone().unwrap_or_default(),
    }
}
