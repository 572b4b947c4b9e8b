//! The annotations that steer a host, and how their values are read.

use serde::Deserialize;
use steelyard_api::metal3::BareMetalHost;

pub(super) use steelyard_api::names::{
    annotation::{DETACHED, DNS_SERVERS, GATEWAY, HARDWARE_DETAILS, INSPECT, NTP_SERVERS, PAUSED, REBOOT},
    finalizer::HOST as FINALIZER,
};

pub(super) fn get<'a>(host: &'a BareMetalHost, key: &str) -> Option<&'a str> {
    host.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The value of [`DETACHED`]. Text that is no JSON counts as "detached, nothing special", as Metal3 has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Detached {
    pub delete_action: String,
    pub force: bool,
}

pub(super) fn detached(host: &BareMetalHost) -> Option<Detached> {
    get(host, DETACHED).map(|text| serde_json::from_str(text).unwrap_or_default())
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct RebootValue {
    mode: String,
    force: bool,
}

/// Who wants the host off for a while, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reboot {
    /// [`REBOOT`] itself is there: one reboot, and we remove it.
    pub once: bool,
    /// Any `reboot.metal3.io/...`: off until whoever set it removes it. The first one by name.
    pub held_by: Option<String>,
    pub hard: bool,
    /// Also in the middle of an operation, which then begins anew.
    pub force: bool,
    /// A value that is neither empty nor JSON, as (key, why).
    pub unreadable: Option<(String, String)>,
}

impl Reboot {
    pub(super) fn wanted(&self) -> bool {
        self.once || self.held_by.is_some()
    }
}

pub(super) fn reboot(host: &BareMetalHost) -> Reboot {
    let mut reboot = Reboot::default();
    for (key, value) in host.metadata.annotations.iter().flatten() {
        let held = key
            .strip_prefix(REBOOT)
            .and_then(|rest| rest.strip_prefix('/'))
            .is_some();
        if key != REBOOT && !held {
            continue;
        }
        if held {
            reboot.held_by.get_or_insert_with(|| key.clone());
        } else {
            reboot.once = true;
        }
        if value.is_empty() {
            continue;
        }
        match serde_json::from_str::<RebootValue>(value) {
            Ok(parsed) => {
                reboot.hard |= parsed.mode == "hard";
                reboot.force |= parsed.force;
            }
            Err(why) => reboot.unreadable = Some((key.clone(), why.to_string())),
        }
    }
    reboot
}

/// Whether inspection shall be left out.
pub(super) fn inspection_disabled(host: &BareMetalHost) -> bool {
    host.spec.inspection_mode == Some(steelyard_api::metal3::InspectionMode::Disabled)
        || get(host, INSPECT) == Some("disabled")
}

/// Whether another inspection is asked for.
pub(super) fn inspection_requested(host: &BareMetalHost) -> bool {
    get(host, INSPECT).is_some_and(|value| value != "disabled")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(annotations: &[(&str, &str)]) -> BareMetalHost {
        let mut host = BareMetalHost::default();
        host.metadata.annotations = Some(
            annotations
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect(),
        );
        host
    }

    #[test]
    fn reboots() {
        assert!(!reboot(&host(&[("reboot.metal3.iox", "")])).wanted());
        let once = reboot(&host(&[(REBOOT, "")]));
        assert!(once.once && !once.hard && once.held_by.is_none());
        let held = reboot(&host(&[("reboot.metal3.io/capbm", r#"{"mode":"hard"}"#)]));
        assert!(!held.once && held.hard && held.wanted());
        assert!(reboot(&host(&[(REBOOT, "{")])).unreadable.is_some());
    }

    #[test]
    fn detached_values() {
        assert_eq!(detached(&host(&[])), None);
        assert_eq!(detached(&host(&[(DETACHED, "yes")])), Some(Detached::default()));
        let delay = detached(&host(&[(DETACHED, r#"{"deleteAction":"delay","force":true}"#)])).unwrap();
        assert!(delay.force && delay.delete_action == "delay");
    }
}
