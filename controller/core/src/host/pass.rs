//! One pass of a decision: the view, the next status in the making, and what is asked of the world.
//!
//! Rules read the view and write here. A rule that can't go on returns [`Flow`]'s `Break` with its name; what it
//! waits for is in [`Pass::wait`]'s message, which users see.

use super::{
    annotations, boot, conditions,
    step::Step,
    view::{BmcFacts, HostView, Policy, Power},
};
use crate::{
    Change, Decision, Ignorance, Look, Moment, Notice, ObjectRef, ObjectWrite, Observed, Question, Rule,
    Wake,
    intent::{BmcIntent, BootIntent, HostIntent},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use std::ops::ControlFlow;
use steelyard_api::metal3::{
    BareMetalHost, BareMetalHostStatus, Operation, OperationKind, OperationMetric, OperationalStatus,
    ProvisioningState as State, SteelyardStatus,
};
use steelyard_api::{ConditionStatus, Conditions};

/// `Break(rule)`: this rule decided, and the pass is over.
pub(super) type Flow<T = ()> = ControlFlow<Rule, T>;

/// Where no rule of the state stopped the pass earlier, its last rule is returned.
pub(super) type Verdict = Flow<Rule>;

pub(super) struct Pass<'a> {
    pub view: &'a HostView<'a>,
    pub policy: &'a Policy,
    pub at: Moment,
    pub status: BareMetalHostStatus,
    writes: Vec<ObjectWrite>,
    intents: Vec<HostIntent>,
    look: Vec<Look>,
    wake: Wake,
    events: Vec<Notice>,
    message: String,
}

impl<'a> Pass<'a> {
    pub(super) fn new(view: &'a HostView<'a>, policy: &'a Policy, at: Moment) -> Self {
        let mut status = view.host.status.clone().unwrap_or_default();
        status.steelyard.get_or_insert_default();
        Pass {
            view,
            policy,
            at,
            status,
            writes: Vec::new(),
            intents: Vec::new(),
            look: Vec::new(),
            wake: Wake::OnChange,
            events: Vec::new(),
            message: String::new(),
        }
    }

    pub(super) fn host(&self) -> &'a BareMetalHost {
        self.view.host
    }

    pub(super) fn name(&self) -> &'a str {
        self.view.host.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn state(&self) -> State {
        self.status.provisioning.state
    }

    pub(super) fn deleting(&self) -> bool {
        self.view.host.metadata.deletion_timestamp.is_some()
    }

    pub(super) fn own(&mut self) -> &mut SteelyardStatus {
        self.status.steelyard.get_or_insert_default()
    }

    /// What the last pass said is awaited.
    pub(super) fn last_message(&self) -> &str {
        self.view
            .host
            .status
            .as_ref()
            .and_then(|s| s.steelyard.as_ref())
            .map_or("", |s| &s.message)
    }

    // ---- what is asked of the world

    /// Asks what is not known well enough.
    pub(super) fn ask(&mut self, what: Question, within: SignedDuration) {
        match self.look.iter_mut().find(|l| l.what == what) {
            Some(look) => look.within = look.within.min(within),
            None => self.look.push(Look { what, within }),
        }
    }

    /// Asks often: something is awaited of the device.
    pub(super) fn watch(&mut self, what: Question) {
        self.ask(what, self.policy.bmc_watch);
    }

    pub(super) fn intend(&mut self, intent: HostIntent) {
        self.intents.push(intent);
    }

    /// Asks the BMC to bring something about, and for its answer.
    pub(super) fn intend_bmc(&mut self, intent: BmcIntent) {
        self.watch(Question::Bmc);
        self.intents.push(HostIntent::Bmc(intent));
    }

    /// Nothing is asked of the world after all.
    pub(super) fn forget_intents(&mut self) {
        self.intents.clear();
    }

    /// What the pass says so far that it waits for.
    pub(super) fn awaited(&self) -> &str {
        &self.message
    }

    pub(super) fn write(&mut self, target: ObjectRef, change: Change) {
        self.writes.push(ObjectWrite { target, change });
    }

    /// A merge patch on the host itself.
    pub(super) fn patch_host(&mut self, patch: Value) {
        let metadata = &self.view.host.metadata;
        let target = ObjectRef {
            api_version: BareMetalHost::API_VERSION,
            kind: BareMetalHost::KIND,
            namespace: metadata.namespace.clone(),
            name: self.name().to_owned(),
        };
        let resource_version = metadata.resource_version.clone().unwrap_or_default();
        self.write(
            target,
            Change::Merge {
                resource_version,
                patch,
            },
        );
    }

    pub(super) fn drop_annotation(&mut self, key: &str) {
        self.patch_host(json!({ "metadata": { "annotations": { key: Value::Null } } }));
    }

    pub(super) fn annotation(&self, key: &str) -> Option<&'a str> {
        annotations::get(self.view.host, key)
    }

    pub(super) fn event(&mut self, reason: &'static str, message: impl Into<String>) {
        self.events.push(Notice::normal(reason, message));
    }

    pub(super) fn warn(&mut self, reason: &'static str, message: impl Into<String>) {
        self.events.push(Notice::warning(reason, message));
    }

    pub(super) fn set_condition(&mut self, kind: &str, is: ConditionStatus, reason: &str, message: &str) {
        self.status
            .conditions
            .set_condition(kind, is, reason, message, self.at.now);
    }

    pub(super) fn wake_at(&mut self, when: Timestamp) {
        self.wake = self.wake.sooner(Wake::At(when));
    }

    // ---- how the pass ends

    /// Ends the pass: `message` says what is waited for.
    pub(super) fn wait(&mut self, rule: &'static str, message: impl Into<String>) -> Rule {
        self.message = message.into();
        Rule(rule)
    }

    /// Like [`Pass::wait`], for something that a human should look at although it is no error yet: told once.
    pub(super) fn report(
        &mut self,
        rule: &'static str,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Rule {
        let message = message.into();
        if self.last_message() != message {
            self.warn(reason, message.clone());
        }
        self.wait(rule, message)
    }

    /// Enters another state: the books of the old one are closed, errors are forgotten.
    pub(super) fn go(&mut self, to: State, rule: &'static str, message: impl Into<String>) -> Rule {
        let now = Time(self.at.now);
        let history = &mut self.status.operation_history;
        let from = self.status.provisioning.state;
        if let Some(metric) = metric(history, from)
            && metric.start.is_some()
        {
            metric.end = Some(now.clone());
        }
        if let Some(metric) = metric(history, to) {
            *metric = OperationMetric {
                start: Some(now),
                end: None,
            };
        }
        self.status.provisioning.state = to;
        self.clear_step();
        self.clear_error();
        self.status.error_count = 0;
        // The next state decides at once: it needs another pass, not another fact.
        self.wake_at(self.at.now);
        self.wait(rule, message)
    }

    pub(super) fn clear_error(&mut self) {
        if broken!(KeepError) {
            return;
        }
        self.status.error_type = None;
        self.status.error_message.clear();
        if matches!(
            self.status.operational_status,
            OperationalStatus::Error | OperationalStatus::Delayed
        ) {
            self.status.operational_status = OperationalStatus::Ok;
        }
        let own = self.own();
        own.retry_at = None;
        own.failed_generation = None;
    }

    // ---- steps and operations

    pub(super) fn step(&self) -> Option<Step> {
        Step::parse(self.status.steelyard.as_ref()?.step.as_deref()?)
    }

    /// Enters a step that may take `limit`. Nothing changes if the host is in it already.
    pub(super) fn enter(&mut self, step: Step, limit: SignedDuration) {
        if self.step() == Some(step) {
            return;
        }
        let (now, deadline) = (self.at.now, self.at.after(limit));
        let own = self.own();
        own.step = Some(step.as_str().to_owned());
        own.step_since = Some(now);
        if let Some(operation) = &mut own.operation {
            operation.deadline = deadline;
        }
    }

    pub(super) fn clear_step(&mut self) {
        let own = self.own();
        own.step = None;
        own.step_since = None;
        own.operation = None;
    }

    /// When the step has to be over; makes sure that the host is looked at again then.
    pub(super) fn deadline(&mut self, limit: SignedDuration) -> Timestamp {
        let now = self.at.now;
        let since = *self.own().step_since.get_or_insert(now);
        let deadline = since.saturating_add(limit).unwrap_or(Timestamp::MAX);
        if deadline > now {
            self.wake_at(deadline);
        }
        deadline
    }

    /// The step's deadline for people, in whole seconds.
    pub(super) fn deadline_text(&self) -> String {
        let deadline = self.current_operation().map_or(self.at.now, |o| o.deadline);
        deadline.round(jiff::Unit::Second).unwrap_or(deadline).to_string()
    }

    pub(super) fn late(&mut self, limit: SignedDuration) -> bool {
        self.deadline(limit) <= self.at.now
    }

    /// The operation of this state. A new one, with a clean step, if there is none: its id is in the status that
    /// is saved before any intent of this decision runs.
    pub(super) fn operation(&mut self, kind: OperationKind, first: Step, limit: SignedDuration) -> Operation {
        if let Some(operation) = self.status.steelyard.as_ref().and_then(|s| s.operation.clone())
            && operation.kind == kind
            && self.step().is_some()
        {
            return operation;
        }
        let operation = Operation {
            id: self.at.jitter.id(),
            kind,
            attempt: u32::try_from(self.status.error_count)
                .unwrap_or(0)
                .saturating_add(1),
            started_at: self.at.now,
            deadline: self.at.after(limit),
            accepted_at: None,
        };
        self.clear_step();
        self.own().operation = Some(operation.clone());
        self.enter(first, limit);
        operation
    }

    pub(super) fn current_operation(&self) -> Option<&Operation> {
        self.status.steelyard.as_ref()?.operation.as_ref()
    }

    // ---- facts

    /// What the BMC says; asks and waits where that is not known.
    pub(super) fn bmc(&mut self) -> Flow<&'a BmcFacts> {
        self.watch(Question::Bmc);
        let address = self.bmc_address().to_owned();
        match &self.view.bmc {
            Observed::Known { value, .. } => Flow::Continue(value),
            Observed::Unknown {
                why: Ignorance::NotAsked | Ignorance::Refused { .. },
                ..
            } => Flow::Break(self.wait(
                "bmc.ask",
                format!("waiting for the answer of the BMC at {address}"),
            )),
            Observed::Unknown {
                why: Ignorance::Unreachable(why) | Ignorance::Unreadable(why),
                ..
            } => Flow::Break(self.report(
                "bmc.no-answer",
                "BMCUnreachable",
                format!("the BMC at {address} gives no usable answer, it is asked again: {why}"),
            )),
        }
    }

    pub(super) fn bmc_address(&self) -> &'a str {
        self.view.host.spec.bmc.as_ref().map_or("", |b| &b.address)
    }

    // ---- the end

    /// The decision: books are balanced, conditions recomputed.
    pub(super) fn finish(mut self, rule: Rule) -> Decision<BareMetalHostStatus, HostIntent> {
        match (boot::plan(&mut self), &self.view.boot.published) {
            (boot::Plan::Publish(plan), _) => self.intents.push(HostIntent::Boot(BootIntent::Publish(plan))),
            (boot::Plan::Retract, Some(_)) => self.intents.push(HostIntent::Boot(BootIntent::Retract)),
            _ => {}
        }
        let message = std::mem::take(&mut self.message);
        if let Some(bmc) = self.view.bmc.known() {
            match bmc.power {
                Power::On => self.status.powered_on = true,
                Power::Off => self.status.powered_on = false,
                Power::Changing => {}
            }
        }
        if let Some(fabric) = self.view.fabric.as_ref().and_then(Observed::known) {
            let networks = (!fabric.networks.is_empty()).then(|| fabric.networks.join(","));
            self.own().network = networks;
        }
        if self.status.operational_status == OperationalStatus::None {
            self.status.operational_status = OperationalStatus::Ok;
        }
        let own = self.own();
        own.rule = rule.0.to_owned();
        own.message = message;
        conditions::recompute(&mut self.status, self.view, self.at.now);
        let before = self.view.host.status.as_ref();
        let same = before.is_some_and(|before| {
            self.status.last_updated = before.last_updated.clone();
            *before == self.status
        });
        if !same {
            self.status.last_updated = Some(Time(self.at.now));
        }
        Decision {
            writes: self.writes,
            status: self.status,
            intents: self.intents,
            look: self.look,
            wake: self.wake,
            events: self.events,
            rule,
        }
    }
}

/// The entry of `operationHistory` that a state's stay is booked under.
fn metric(
    history: &mut steelyard_api::metal3::OperationHistory,
    state: State,
) -> Option<&mut OperationMetric> {
    match state {
        State::Registering => Some(&mut history.register),
        State::Inspecting => Some(&mut history.inspect),
        State::Provisioning => Some(&mut history.provision),
        State::Deprovisioning => Some(&mut history.deprovision),
        _ => None,
    }
}
