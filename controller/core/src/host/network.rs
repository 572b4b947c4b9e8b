//! Which network a server is in, and how it gets into another one: out of the old, observed, then into the new.

use super::pass::{Flow, Pass};
use crate::{
    Ignorance, Observed, Question,
    intent::{Attachment, HostIntent, NetworkName},
    restore::RestoreRecord,
};
use steelyard_api::metal3::BareMetalHost;

/// The groups that the platform's NodeClaim is served in.
const CLAIM_GROUPS: [&str; 2] = ["storage.loft.sh/", "management.loft.sh/"];

/// Whether the host's object names a NodeClaim as its user.
pub(super) fn claimed(host: &BareMetalHost) -> bool {
    let by_claim = host.spec.consumer_ref.as_ref().is_some_and(|c| {
        c.kind.as_deref() == Some("NodeClaim")
            && c.api_version
                .as_deref()
                .is_none_or(|v| CLAIM_GROUPS.iter().any(|group| v.starts_with(group)))
    });
    by_claim || !matches!(RestoreRecord::of(host), Ok(None))
}

/// Where the server belongs when nobody uses it. `None`: there is no fabric to drive.
pub(super) fn home(p: &mut Pass<'_>) -> Flow<Option<NetworkName>> {
    let Some(fabric) = &p.view.fabric else {
        return Flow::Continue(None);
    };
    let recorded = p.own().home_network.clone();
    let name = match (
        &p.policy.home_network,
        recorded,
        fabric.known().map(|f| f.networks.as_slice()),
    ) {
        (Some(site), ..) => site.clone(),
        (None, Some(recorded), _) => recorded,
        // Recorded before the first move.
        (None, None, Some([only])) => only.clone(),
        (None, None, Some(_)) => {
            return Flow::Break(p.report(
                "network.no-home",
                "NoHomeNetwork",
                "the fabric has this server in no network, or in several, and no home network is set: \
                 start the controller with --provisioning-cluster, or put the server into its network once",
            ));
        }
        (None, None, None) => {
            p.watch(Question::Fabric);
            return Flow::Break(p.wait("network.ask", "waiting for the answer of the fabric"));
        }
    };
    p.own().home_network = Some(name.clone());
    Flow::Continue(Some(NetworkName { name, create: false }))
}

/// Where the server's user wants it: the claim's network; home without a claim, or with one that names none.
pub(super) fn of_user(p: &mut Pass<'_>) -> Flow<Option<NetworkName>> {
    if p.view.fabric.is_none() {
        return Flow::Continue(None);
    }
    match &p.view.claim {
        Some(claim) => match &claim.network {
            Some(network) if !broken!(StayHome) => Flow::Continue(Some(network.clone())),
            _ => home(p),
        },
        None if claimed(p.host()) => Flow::Break(p.report(
            "network.claim-unknown",
            "ClaimUnknown",
            "the claim that the host is held for is not there, so its network is not known; \
             remove spec.image to take the host back",
        )),
        None => home(p),
    }
}

/// Goes on once the fabric shows the server in exactly `network`, on every port; asks for it otherwise.
pub(super) fn be_in(p: &mut Pass<'_>, network: &NetworkName) -> Flow {
    let Some(facts) = &p.view.fabric else {
        return Flow::Continue(());
    };
    p.watch(Question::Fabric);
    let name = &network.name;
    let facts = match facts {
        Observed::Known { value, .. } => value,
        Observed::Unknown {
            why: Ignorance::NotAsked,
            ..
        } => {
            return Flow::Break(p.wait("network.ask", "waiting for the answer of the fabric"));
        }
        Observed::Unknown {
            why: Ignorance::Unreachable(why) | Ignorance::Unreadable(why) | Ignorance::Refused { why, .. },
            ..
        } => {
            let message = format!("the fabric gives no usable answer, it is asked again: {why}");
            return Flow::Break(p.report("network.no-answer", "FabricUnreachable", message));
        }
    };
    let there = facts.networks.as_slice() == std::slice::from_ref(name);
    if there && facts.converged && facts.mismatch.is_none() {
        return Flow::Continue(());
    }
    let alone = facts.networks.is_empty() && facts.converged;
    let next = (there || alone || broken!(SkipDetach)).then(|| network.clone());
    let leaving = next.is_none();
    p.intend(HostIntent::Fabric(Attachment {
        server: p.name().to_owned(),
        network: next,
    }));
    if broken!(PowerBeforeNetwork) {
        return Flow::Continue(());
    }
    if let Some(mismatch) = &facts.mismatch {
        let message = misplaced(p, mismatch);
        return Flow::Break(p.report("network.mismatch", "NetworkMismatch", message));
    }
    Flow::Break(if leaving {
        let from = if facts.networks.is_empty() {
            "its old network".to_owned()
        } else {
            facts.networks.join(", ")
        };
        p.wait(
            "network.leave",
            format!("waiting for the server to be seen out of {from}"),
        )
    } else {
        p.wait(
            "network.join",
            format!("waiting for every port of the server to be seen in network {name}"),
        )
    })
}

/// What the fabric says, with the server's boot MAC (the fabric may not have seen it yet) and the way out.
pub(super) fn misplaced(p: &Pass<'_>, mismatch: &str) -> String {
    let mac = p
        .host()
        .spec
        .boot_mac_address
        .as_deref()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let of = if mac.is_empty() || mismatch.contains(&mac) {
        String::new()
    } else {
        format!(" (boot MAC {mac})")
    };
    format!("{mismatch}{of}: put the switch port into that network, or correct the cable")
}

/// Goes on once the fabric shows the server in no network but `home`.
pub(super) fn leave(p: &mut Pass<'_>, home: Option<&str>) -> Flow {
    let Some(facts) = &p.view.fabric else {
        return Flow::Continue(());
    };
    p.watch(Question::Fabric);
    let Some(facts) = facts.known() else {
        return Flow::Break(p.wait("network.ask", "waiting for the answer of the fabric"));
    };
    if facts.networks.iter().all(|n| Some(n.as_str()) == home) {
        return Flow::Continue(());
    }
    let from = facts.networks.join(", ");
    p.intend(HostIntent::Fabric(Attachment {
        server: p.name().to_owned(),
        network: None,
    }));
    Flow::Break(p.wait(
        "network.leave",
        format!("waiting for the server to be seen out of {from}"),
    ))
}
