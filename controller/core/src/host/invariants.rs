//! What must hold of every decision. Tables, random views, the exhaustive walk and the simulation all ask here.

use super::{
    annotations, deprovision, network, provision, step::Step, transitions::TRANSITIONS, view::HostView,
};
use crate::{
    Change, Decision, Ignorance, Observed, Question,
    intent::{AgentJob, BmcIntent, HostIntent},
    restore::{RESTORE_ANNOTATION, RestoreRecord},
};
use std::mem::discriminant;
use steelyard_api::{
    Conditions,
    metal3::{
        BareMetalHost, BareMetalHostStatus, OperationKind, OperationalStatus, ProvisioningState as State,
    },
};

/// A decision that must never be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub invariant: &'static str,
    pub detail: String,
}

type Hosts = Decision<BareMetalHostStatus, HostIntent>;
type Check = fn(&HostView<'_>, &Hosts) -> Option<String>;

const INVARIANTS: &[(&str, Check)] = &[
    ("one-intent-per-device", one_intent_per_device),
    ("paused-is-untouched", paused_is_untouched),
    ("finalizer-before-intents", finalizer_before_intents),
    ("states-change-along-the-table", along_the_table),
    ("power-on-only-in-its-network", power_on_only_in_its_network),
    ("moves-only-while-off", moves_only_while_off),
    ("out-before-in", out_before_in),
    ("unknown-is-asked", unknown_is_asked),
    ("a-refused-password-rests", refused_password_rests),
    ("jobs-have-a-saved-id", jobs_have_a_saved_id),
    ("wiped-before-available", wiped_before_available),
    ("restore-record-is-kept", restore_record_is_kept),
    ("held-hosts-are-not-offered", held_hosts_are_not_offered),
    ("errors-are-whole", errors_are_whole),
    ("errors-end-with-their-cause", errors_end_with_their_cause),
    ("every-wait-says-what-for", every_wait_says_what_for),
    ("boot-mac-is-the-servers", boot_mac_is_the_servers),
    ("inspected-means-inventory", inspected_means_inventory),
    ("provisioned-means-booted", provisioned_means_booted),
    ("deleted-means-off", deleted_means_off),
];

/// Which invariants a decision about `view` breaks. Empty for every decision of `decide`.
pub fn violations(
    view: &HostView<'_>,
    decision: &Decision<BareMetalHostStatus, HostIntent>,
) -> Vec<Violation> {
    let broken = INVARIANTS
        .iter()
        .filter_map(|(invariant, check)| check(view, decision).map(|detail| Violation { invariant, detail }));
    broken.collect()
}

fn before<'a>(view: &'a HostView<'_>) -> &'a BareMetalHostStatus {
    static EMPTY: std::sync::LazyLock<BareMetalHostStatus> = std::sync::LazyLock::new(Default::default);
    view.host.status.as_ref().unwrap_or(&EMPTY)
}

fn moved(view: &HostView<'_>, d: &Hosts, from: State, to: State) -> bool {
    before(view).provisioning.state == from && d.status.provisioning.state == to
}

fn one_intent_per_device(_: &HostView<'_>, d: &Hosts) -> Option<String> {
    let mut seen = Vec::new();
    for intent in &d.intents {
        if seen.contains(&discriminant(intent)) {
            return Some(format!("two intents for one device: {:?}", d.intents));
        }
        seen.push(discriminant(intent));
    }
    None
}

fn paused(view: &HostView<'_>) -> bool {
    annotations::get(view.host, annotations::PAUSED).is_some()
}

fn paused_is_untouched(view: &HostView<'_>, d: &Hosts) -> Option<String> {
    let touched = !d.writes.is_empty() || !d.intents.is_empty() || d.status != *before(view);
    (paused(view) && touched).then(|| "a paused host was touched".to_owned())
}

fn finalizer_before_intents(view: &HostView<'_>, d: &Hosts) -> Option<String> {
    let there = view
        .host
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|f| f == annotations::FINALIZER);
    let written = d.writes.iter().any(|w| w.target.kind == BareMetalHost::KIND);
    let leaving =
        view.host.metadata.deletion_timestamp.is_some() || before(view).provisioning.state == State::Deleting;
    (!d.intents.is_empty() && !there && !written && !leaving)
        .then(|| "intents for a host without finalizer".to_owned())
}

fn along_the_table(view: &HostView<'_>, d: &Hosts) -> Option<String> {
    let (from, to) = (before(view).provisioning.state, d.status.provisioning.state);
    let known = from == to
        || TRANSITIONS
            .iter()
            .any(|t| t.from == from && t.to == to && t.rule == d.rule.0);
    (!known).then(|| format!("{from} -> {to} by {} is not in the table", d.rule))
}

/// Where a server must be seen before it may be switched on; `None`: anywhere.
fn place(view: &HostView<'_>, status: &BareMetalHostStatus) -> Option<String> {
    view.fabric.as_ref()?;
    let own = status.steelyard.as_ref()?;
    let user = || {
        view.claim
            .as_ref()
            .and_then(|c| c.network.as_ref())
            .map(|n| n.name.clone())
    };
    let home = own.home_network.clone();
    match status.provisioning.state {
        State::Provisioning
            if matches!(
                own.step.as_deref().and_then(Step::parse),
                Some(Step::Disk | Step::Join)
            ) =>
        {
            user().or(home)
        }
        State::Provisioned => user().or(home),
        State::ExternallyProvisioned => None,
        _ => home,
    }
}

fn power_on_only_in_its_network(view: &HostView<'_>, d: &Hosts) -> Option<String> {
    let starts = d
        .intents
        .iter()
        .any(|i| matches!(i, HostIntent::Bmc(BmcIntent::PowerOn | BmcIntent::BootFrom(_))));
    if !starts {
        return None;
    }
    let place = place(view, &d.status)?;
    let there = view.fabric.as_ref().and_then(Observed::known).is_some_and(|f| {
        f.networks.as_slice() == std::slice::from_ref(&place) && f.converged && f.mismatch.is_none()
    });
    (!there).then(|| format!("the server is started without being seen in {place}"))
}

fn moves_only_while_off(view: &HostView<'_>, d: &Hosts) -> Option<String> {
    let moves = d.intents.iter().any(|i| matches!(i, HostIntent::Fabric(_)));
    let working = matches!(
        d.status.provisioning.state,
        State::Inspecting | State::Provisioning | State::Deprovisioning
    );
    let on = view
        .bmc
        .known()
        .is_some_and(|b| b.power == super::view::Power::On);
    (moves && working && on).then(|| "ports are moved under a running server".to_owned())
}

fn out_before_in(view: &HostView<'_>, d: &Hosts) -> Option<String> {
    let attachment = d.intents.iter().find_map(|i| match i {
        HostIntent::Fabric(a) => a.network.as_ref(),
        _ => None,
    })?;
    let out = view.fabric.as_ref().and_then(Observed::known).is_some_and(|f| {
        f.networks.iter().all(|n| *n == attachment.name) && (f.converged || !f.networks.is_empty())
    });
    (!out).then(|| {
        format!(
            "into {} without being seen out of the old network",
            attachment.name
        )
    })
}

fn unknown_is_asked(view: &HostView<'_>, d: &Hosts) -> Option<String> {
    let asks = |q| d.look.iter().any(|l| l.what == q);
    for intent in &d.intents {
        match intent {
            HostIntent::Bmc(_) if view.bmc.known().is_none() => {
                return Some("the BMC is driven blindly".into());
            }
            HostIntent::Bmc(_) if !asks(Question::Bmc) => {
                return Some("nobody looks what the BMC did".into());
            }
            HostIntent::Fabric(_) if !asks(Question::Fabric) => {
                return Some("nobody looks what the fabric did".into());
            }
            HostIntent::Fabric(_) if view.fabric.as_ref().and_then(Observed::known).is_none() => {
                return Some("the fabric is driven blindly".into());
            }
            _ => {}
        }
    }
    None
}

fn refused_password_rests(view: &HostView<'_>, d: &Hosts) -> Option<String> {
    let version = match view.credentials.known() {
        Some(super::view::CredentialFacts::Version(version)) => version,
        _ => return None,
    };
    let refused = matches!(view.bmc.ignorance(), Some(Ignorance::Refused { credentials, .. }) if credentials == version);
    let asks = d.look.iter().any(|l| l.what == Question::Bmc);
    (refused && asks).then(|| format!("version {version} of the Secret was refused and is tried again"))
}

fn jobs_have_a_saved_id(view: &HostView<'_>, d: &Hosts) -> Option<String> {
    let task = d.intents.iter().find_map(|i| match i {
        HostIntent::Agent(task) => Some(task),
        _ => None,
    })?;
    let saved = d
        .status
        .steelyard
        .as_ref()
        .and_then(|s| s.operation.as_ref())
        .is_some_and(|o| o.id == task.operation);
    let there = view.agent.known().is_some_and(|a| a.operation == task.operation);
    let fits = match (&task.job, d.status.provisioning.state) {
        (AgentJob::Write { .. }, state) => state == State::Provisioning,
        (AgentJob::Erase { .. }, state) => state == State::Deprovisioning,
        (AgentJob::PowerOff, state) => matches!(state, State::Provisioning | State::Deprovisioning),
    };
    (!(saved && there && fits))
        .then(|| format!("job {:?} without its saved operation and its agent", task.job))
}

fn wiped_before_available(view: &HostView<'_>, d: &Hosts) -> Option<String> {
    if !moved(view, d, State::Deprovisioning, State::Available) {
        return None;
    }
    let own = d.status.steelyard.as_ref();
    let Some(wipe) = own.and_then(|s| s.wipe.as_ref()) else {
        return Some("available without wipe evidence".into());
    };
    let saved = before(view).steelyard.as_ref().and_then(|s| s.operation.as_ref());
    match saved.filter(|o| o.kind == OperationKind::Erase) {
        Some(operation) if operation.id != wipe.operation_id => {
            return Some(format!(
                "the evidence is of operation {}, not of {}",
                wipe.operation_id, operation.id
            ));
        }
        // Nothing can have been erased in the pass that made the operation.
        None if wipe.skipped.is_none() => return Some("evidence without an operation".into()),
        _ => {}
    }
    if wipe.skipped.is_some() {
        let disabled = view.host.spec.automated_cleaning_mode
            == Some(steelyard_api::metal3::AutomatedCleaningMode::Disabled);
        // With --metadata-clean there is a list of disks.
        return (!disabled && wipe.disks.is_empty())
            .then(|| "the wipe was skipped although nobody asked for it".into());
    }
    let storage = d
        .status
        .hardware
        .as_ref()
        .map(|h| h.storage.as_slice())
        .unwrap_or_default();
    deprovision::gap(&wipe.disks, storage, false)
}

fn restore_record_is_kept(view: &HostView<'_>, d: &Hosts) -> Option<String> {
    let Ok(Some(record)) = RestoreRecord::of(view.host) else {
        return None;
    };
    let released = provision::wanted(view.host).is_none();
    if released && moved(view, d, State::Deprovisioning, State::Available) {
        return Some("available, and what the claim wrote is still there".into());
    }
    let pointer = format!("/metadata/annotations/{}", RESTORE_ANNOTATION.replace('/', "~1"));
    for write in &d.writes {
        let Change::Merge { patch, .. } = &write.change else {
            continue;
        };
        if patch.pointer(&pointer).is_some() && *patch != record.apply_patch(view.host) {
            return Some("the restore record is dropped without having been applied".into());
        }
    }
    None
}

fn held_hosts_are_not_offered(view: &HostView<'_>, d: &Hosts) -> Option<String> {
    let offered = !paused(view) && d.status.conditions.is_condition_true("AvailableForProvisioning");
    let held = view.host.spec.consumer_ref.is_some() || view.claim.is_some() || network::claimed(view.host);
    (offered && held).then(|| "a host with a consumer is offered".into())
}

fn errors_are_whole(view: &HostView<'_>, d: &Hosts) -> Option<String> {
    if paused(view) {
        return None;
    }
    let s = &d.status;
    let typed = s.error_type.is_some();
    if typed && s.error_message.is_empty() && before(view).error_type.is_none() {
        return Some("an error without a message".into());
    }
    let shown = matches!(s.operational_status, OperationalStatus::Error);
    let hidden = matches!(
        s.operational_status,
        OperationalStatus::Detached | OperationalStatus::Delayed
    );
    let fresh = d.status.error_type != before(view).error_type;
    (fresh && typed != shown && !hidden).then(|| {
        format!(
            "operationalStatus {} with {:?}",
            s.operational_status, s.error_type
        )
    })
}

fn errors_end_with_their_cause(view: &HostView<'_>, d: &Hosts) -> Option<String> {
    let went_on = before(view).provisioning.state != d.status.provisioning.state;
    (went_on && d.status.error_type.is_some() && !paused(view))
        .then(|| format!("{} although the state changed", d.status.error_message))
}

fn every_wait_says_what_for(view: &HostView<'_>, d: &Hosts) -> Option<String> {
    let silent = d.status.steelyard.as_ref().is_none_or(|s| s.message.is_empty());
    (silent && !paused(view)).then(|| format!("{} does not say what is awaited", d.rule))
}

fn boot_mac_is_the_servers(view: &HostView<'_>, d: &Hosts) -> Option<String> {
    if before(view).provisioning.state != State::Registering
        || d.status.provisioning.state == State::Registering
    {
        return None;
    }
    let mac = view.host.spec.boot_mac_address.as_deref()?;
    let macs = &view.bmc.known()?.system.macs;
    let alien = d.status.provisioning.state != State::Deleting
        && !macs.is_empty()
        && !macs.iter().any(|m| m.eq_ignore_ascii_case(mac));
    alien.then(|| format!("registered with boot MAC {mac}, which the server does not have"))
}

fn inspected_means_inventory(view: &HostView<'_>, d: &Hosts) -> Option<String> {
    let inspected = moved(view, d, State::Inspecting, State::Preparing) && d.rule.0 == "inspect.done";
    if inspected && d.status.hardware.is_none() {
        return Some("inspected without an inventory".into());
    }
    let wrote = d.writes.iter().any(|w| w.target.kind == "HardwareData");
    let fresh = d.status.hardware.is_some()
        && before(view).steelyard.as_ref().and_then(|s| s.step.as_deref()) == Some(Step::Agent.as_str())
        && d.status.steelyard.as_ref().and_then(|s| s.step.as_deref()) == Some(Step::Shutdown.as_str())
        && d.status.provisioning.state == State::Inspecting;
    (fresh && !wrote).then(|| "the inventory is not written to HardwareData".into())
}

fn provisioned_means_booted(view: &HostView<'_>, d: &Hosts) -> Option<String> {
    if !moved(view, d, State::Provisioning, State::Provisioned) {
        return None;
    }
    let step = before(view)
        .steelyard
        .as_ref()
        .and_then(|s| s.step.as_deref())
        .and_then(Step::parse);
    let booted = matches!(step, Some(Step::Join))
        || view
            .bmc
            .known()
            .is_some_and(|b| b.power == super::view::Power::On)
            && step == Some(Step::Disk);
    (!booted).then(|| format!("provisioned in step {step:?}, before the server booted from its disk"))
}

fn deleted_means_off(view: &HostView<'_>, d: &Hosts) -> Option<String> {
    let from = before(view).provisioning.state;
    let off =
        d.rule.0 == "delete.off" && d.status.provisioning.state == State::Deleting && from != State::Deleting;
    let known_off = view
        .bmc
        .known()
        .is_some_and(|b| b.power == super::view::Power::Off);
    (off && !known_off && !view.host.spec.disable_power_off)
        .then(|| "forgotten without having been seen off".into())
}
