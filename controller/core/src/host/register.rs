//! Registration, in every state: the BMC must have accepted the Secret as it is now, at the address as it is now.
//!
//! A password that the BMC refused is not sent again until the Secret or the address changes: BMCs lock accounts.
//! That must hold after a crash too, so it is read from the status (`triedCredentials` without `goodCredentials`).

use super::{
    annotations, failure,
    pass::{Flow, Pass, Verdict},
    step::Step,
    view::{BmcFacts, CredentialFacts},
};
use crate::{Ignorance, Observed, Question};
use jiff::SignedDuration;
use steelyard_api::metal3::{
    CredentialsStatus, ErrorType, HardwareDetails, OperationalStatus, ProvisioningState as State,
    SecretReference,
};

/// A missing Secret is looked for again this often (Metal3: 10 s); its creation also wakes us.
const MISSING_SECRET_RETRY: SignedDuration = SignedDuration::from_secs(10);

/// The state "": is there a BMC?
pub(super) fn begin(p: &mut Pass<'_>) -> Verdict {
    let managed = p
        .host()
        .spec
        .bmc
        .as_ref()
        .is_some_and(|b| !b.address.is_empty() || !b.credentials_name.is_empty());
    if managed {
        p.status.operational_status = OperationalStatus::Ok;
        return Flow::Continue(p.go(State::Registering, "host.bmc-given", "the BMC is checked next"));
    }
    p.status.operational_status = OperationalStatus::Discovered;
    let message = "spec.bmc is not set: set its address and credentialsName to have the server managed";
    if p.state() == State::Unmanaged {
        return Flow::Continue(p.wait("host.unmanaged", message));
    }
    p.event("Discovered", "the host has no BMC details");
    let rule = p.go(State::Unmanaged, "host.no-bmc", message);
    p.status.operational_status = OperationalStatus::Discovered;
    Flow::Continue(rule)
}

/// Whether nothing that we have can talk to the BMC, and only a user can change that.
pub(super) fn hopeless(p: &mut Pass<'_>) -> Option<String> {
    match p.view.credentials.known() {
        Some(CredentialFacts::Missing { secret }) => Some(format!("Secret {secret} is missing")),
        Some(CredentialFacts::Unusable { secret, why }) => Some(format!("Secret {secret}: {why}")),
        Some(CredentialFacts::Version(version)) => {
            let refused_now = matches!(
                p.view.bmc.ignorance(),
                Some(Ignorance::Refused { credentials, .. }) if credentials == version
            );
            (refused_now || was_refused(p, version)).then(|| "the BMC refuses the credentials".to_owned())
        }
        None => None,
    }
}

/// Goes on once the BMC has accepted the present credentials.
pub(super) fn ensure(p: &mut Pass<'_>) -> Flow {
    let version = credentials(p)?;
    if let Some(Ignorance::Refused { why, credentials }) = p.view.bmc.ignorance()
        && *credentials == version
    {
        return Flow::Break(refused(p, &version, why));
    }
    if is_good(p, &version) {
        // An address that answers again ends the error that it caused.
        if p.view.bmc.known().is_some() {
            forgive(p);
        }
        return Flow::Continue(());
    }
    if was_refused(p, &version) && !broken!(RetryPassword) {
        let message = match p.status.error_message.as_str() {
            "" => "the BMC refused these credentials: correct the Secret, or the address".to_owned(),
            told => told.to_owned(),
        };
        let kind = p.status.error_type.unwrap_or(failure::bmc_error(p.state()));
        return Flow::Break(failure::blocked(p, "register.refused", kind, None, message));
    }
    match &p.view.bmc {
        Observed::Known { value, .. } if value.credentials == version => {
            boot_mac(p, value)?;
            accept(p, &version);
            Flow::Continue(())
        }
        Observed::Unknown {
            since,
            why: Ignorance::Unreachable(why) | Ignorance::Unreadable(why),
        } => Flow::Break(no_answer(p, *since, why)),
        _ => {
            if p.state() == State::Registering {
                failure::backoff(p)?;
                p.enter(Step::Verify, p.policy.power_within);
            }
            p.watch(Question::Bmc);
            let address = p.bmc_address();
            Flow::Break(p.wait(
                "register.verify",
                format!("waiting for the BMC at {address} to accept the credentials"),
            ))
        }
    }
}

/// The state registering, once the BMC has accepted us.
pub(super) fn decide(p: &mut Pass<'_>) -> Verdict {
    // The first observation may be of the same credentials that an earlier life of this controller verified.
    if let Some(facts) = p.view.bmc.known() {
        boot_mac(p, facts)?;
    }
    p.status.provisioning.id = p.host().metadata.uid.clone().unwrap_or_default();
    p.status.provisioning.boot_mode = p.host().spec.boot_mode;
    p.event("Registered", "the BMC accepted the credentials");
    let rule = if p.host().spec.externally_provisioned {
        p.go(
            State::ExternallyProvisioned,
            "register.external",
            "the host is provisioned by somebody else",
        )
    } else if annotations::inspection_disabled(p.host()) {
        given_hardware(p);
        p.go(State::Preparing, "register.uninspected", "inspection is disabled")
    } else {
        p.go(State::Inspecting, "register.done", "the server is inspected next")
    };
    Flow::Continue(rule)
}

/// Without inspection the inventory comes from HardwareData, else from the annotation.
pub(super) fn given_hardware(p: &mut Pass<'_>) {
    if let Some(data) = p.view.hardware_data.and_then(|d| d.spec.hardware.clone()) {
        p.status.hardware = Some(data);
        return;
    }
    let Some(text) = p.annotation(annotations::HARDWARE_DETAILS) else {
        return;
    };
    match serde_json::from_str::<HardwareDetails>(text) {
        Ok(details) => {
            p.status.hardware = Some(details);
            p.event(
                "UpdateHardwareDetails",
                "the hardware details were taken from the annotation",
            );
            p.drop_annotation(annotations::HARDWARE_DETAILS);
        }
        Err(why) => p.warn(
            "InvalidAnnotationValue",
            format!(
                "annotation {} is not a list of hardware details: {why}",
                annotations::HARDWARE_DETAILS
            ),
        ),
    }
}

/// The version of the Secret, if it is there and whole.
fn credentials(p: &mut Pass<'_>) -> Flow<String> {
    let kind = failure::bmc_error(p.state());
    let (address, secret) = p
        .host()
        .spec
        .bmc
        .as_ref()
        .map_or(("", ""), |b| (&*b.address, &*b.credentials_name));
    if address.is_empty() || secret.is_empty() {
        let field = if address.is_empty() {
            "address"
        } else {
            "credentialsName"
        };
        let message = format!("spec.bmc.{field} is empty: set it");
        return Flow::Break(failure::blocked(p, "register.incomplete", kind, None, message));
    }
    match &p.view.credentials {
        Observed::Known {
            value: CredentialFacts::Version(version),
            ..
        } => Flow::Continue(version.clone()),
        Observed::Known {
            value: CredentialFacts::Missing { secret },
            ..
        } => {
            let message = format!(
                "Secret {secret} with the BMC's credentials is missing: create it in the host's namespace"
            );
            let rule = failure::blocked(
                p,
                "register.secret-missing",
                kind,
                Some("BMCCredentialError"),
                message,
            );
            p.wake_at(p.at.after(MISSING_SECRET_RETRY));
            Flow::Break(rule)
        }
        Observed::Known {
            value: CredentialFacts::Unusable { secret, why },
            ..
        } => {
            let message = format!("Secret {secret} is not usable: {why}");
            let rule = failure::blocked(
                p,
                "register.secret-unusable",
                kind,
                Some("BMCCredentialError"),
                message,
            );
            Flow::Break(rule)
        }
        Observed::Unknown { .. } => Flow::Break(p.wait(
            "register.secret-unknown",
            format!("waiting to read Secret {secret}"),
        )),
    }
}

fn reference(p: &Pass<'_>, version: &str) -> CredentialsStatus {
    let secret = p.host().spec.bmc.as_ref().map_or("", |b| &b.credentials_name);
    let namespace = p.host().metadata.namespace.as_deref().unwrap_or_default();
    CredentialsStatus {
        credentials: Some(SecretReference::new(secret, namespace)),
        credentials_version: Some(version.to_owned()),
    }
}

fn same_bmc(p: &Pass<'_>) -> bool {
    p.status.steelyard.as_ref().and_then(|s| s.bmc_address.as_deref()) == Some(p.bmc_address())
}

fn is_good(p: &Pass<'_>, version: &str) -> bool {
    p.status.good_credentials == reference(p, version) && same_bmc(p)
}

fn was_refused(p: &Pass<'_>, version: &str) -> bool {
    let tried = reference(p, version);
    p.status.tried_credentials == tried && p.status.good_credentials != tried && same_bmc(p)
}

fn refused(p: &mut Pass<'_>, version: &str, why: &str) -> crate::Rule {
    let tried = reference(p, version);
    if p.status.good_credentials == tried {
        p.status.good_credentials = CredentialsStatus::default();
    }
    p.status.tried_credentials = tried;
    let (address, kind) = (p.bmc_address(), failure::bmc_error(p.state()));
    p.own().bmc_address = Some(address.to_owned());
    let secret = p.host().spec.bmc.as_ref().map_or("", |b| &b.credentials_name);
    let message = format!(
        "the BMC at {address} refuses the credentials in Secret {secret} ({why}): correct the Secret; \
         they are not tried again before it changes"
    );
    let rule = failure::blocked(p, "register.refused", kind, None, message);
    if broken!(RetryPassword) {
        // Enough to be seen; without an end every count would be a change that wakes the host again.
        p.status.error_count = p.status.error_count.saturating_add(1).min(5);
        p.watch(Question::Bmc);
    }
    rule
}

fn accept(p: &mut Pass<'_>, version: &str) {
    let (good, address) = (reference(p, version), p.bmc_address());
    p.status.tried_credentials = good.clone();
    p.status.good_credentials = good;
    p.own().bmc_address = Some(address.to_owned());
    p.event(
        "BMCAccessValidated",
        format!("the BMC at {address} accepted the credentials"),
    );
    forgive(p);
}

fn forgive(p: &mut Pass<'_>) {
    let waits = p.own().retry_at.is_some();
    let of_bmc = matches!(
        p.status.error_type,
        Some(ErrorType::Registration | ErrorType::ProvisionedRegistration)
    );
    if of_bmc && p.state() != State::Registering && !waits {
        p.clear_error();
    }
}

fn no_answer(p: &mut Pass<'_>, since: jiff::Timestamp, why: &str) -> crate::Rule {
    let address = p.bmc_address();
    if p.state() != State::Registering {
        p.ask(Question::Bmc, p.policy.bmc_poll);
        let message = format!(
            "the BMC at {address} gives no usable answer to its new credentials, it is asked again: {why}"
        );
        return p.report("register.no-answer", "BMCUnreachable", message);
    }
    if let Flow::Break(rule) = failure::backoff(p) {
        return rule;
    }
    let window = p.policy.power_within;
    p.enter(Step::Verify, window);
    let asked_at = p.own().step_since;
    // The answer of this try, or none within the window.
    if asked_at.is_some_and(|asked| since >= asked) || p.late(window) {
        let message = format!(
            "the BMC at {address} can't be used: {why}; check spec.bmc.address, the BMC's power and its network"
        );
        return failure::fail(p, "register.unreachable", ErrorType::Registration, message);
    }
    p.watch(Question::Bmc);
    p.wait(
        "register.verify",
        format!("waiting for the BMC at {address} to answer"),
    )
}

/// A boot MAC that the server does not have would wait for ever at the network boot.
fn boot_mac(p: &mut Pass<'_>, facts: &BmcFacts) -> Flow {
    let Some(mac) = p.host().spec.boot_mac_address.as_deref() else {
        return Flow::Continue(());
    };
    let macs = &facts.system.macs;
    let found = macs.is_empty() || macs.iter().any(|m| m.eq_ignore_ascii_case(mac));
    if found || broken!(IgnoreBootMac) || p.state() != State::Registering {
        return Flow::Continue(());
    }
    let message = format!(
        "spec.bootMACAddress {mac} is not a NIC of this server; its BMC lists {}: correct it, or the BMC address",
        macs.join(", ")
    );
    // NICs are read again now and then: a card may have been put in.
    p.ask(Question::Bmc, p.policy.bmc_poll);
    Flow::Break(failure::blocked(
        p,
        "register.boot-mac",
        ErrorType::Registration,
        None,
        message,
    ))
}
