//! Conditions: what is true of an object, since when, and why not.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::words::words;

words! {
    /// Three-valued: not having looked is not the same as "no".
    pub enum ConditionStatus {
        True = "True",
        False = "False",
        Undecided = "Unknown",
    }
}

/// One condition, shaped as `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["lastTransitionTime", "message", "reason", "status", "type"]))]
pub struct Condition {
    #[serde(rename = "type")]
    #[schemars(
        length(max = 316),
        regex(
            pattern = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
        )
    )]
    pub kind: String,
    pub status: ConditionStatus,
    /// One word for programs.
    #[serde(default)]
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    )]
    pub reason: String,
    /// A sentence for people: what was found, and what to do about it.
    #[serde(default)]
    #[schemars(length(max = 32768))]
    pub message: String,
    /// When `status` last changed.
    #[schemars(schema_with = "crate::schema::time")]
    #[serde(default = "epoch")]
    pub last_transition_time: Time,
    /// The generation of the spec that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
}

fn epoch() -> Time {
    Time(Timestamp::UNIX_EPOCH)
}

/// What a list of conditions can do; the list stays a plain `Vec` on the wire.
pub trait Conditions {
    fn find_condition(&self, kind: &str) -> Option<&Condition>;

    fn is_condition_true(&self, kind: &str) -> bool {
        self.find_condition(kind)
            .is_some_and(|c| c.status == ConditionStatus::True)
    }

    /// Sets a condition. The transition time moves only when `status` does, so that a condition which is set
    /// again at every pass does not change the object. Returns whether anything changed.
    fn set_condition(
        &mut self,
        kind: &str,
        status: ConditionStatus,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) -> bool;
}

impl Conditions for Vec<Condition> {
    fn find_condition(&self, kind: &str) -> Option<&Condition> {
        self.iter().find(|c| c.kind == kind)
    }

    fn set_condition(
        &mut self,
        kind: &str,
        status: ConditionStatus,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) -> bool {
        let Some(found) = self.iter_mut().find(|c| c.kind == kind) else {
            self.push(Condition {
                kind: kind.to_owned(),
                status,
                reason: reason.to_owned(),
                message: message.to_owned(),
                last_transition_time: Time(now),
                observed_generation: None,
            });
            return true;
        };
        if found.status == status && found.reason == reason && found.message == message {
            return false;
        }
        if found.status != status {
            found.last_transition_time = Time(now);
            found.status = status;
        }
        found.reason = reason.to_owned();
        found.message = message.to_owned();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn transition_time_follows_status_only() {
        let mut all = Vec::new();
        assert!(all.set_condition("Ready", ConditionStatus::False, "Waiting", "for the host", at(1)));
        assert!(!all.set_condition("Ready", ConditionStatus::False, "Waiting", "for the host", at(2)));
        assert!(all.set_condition("Ready", ConditionStatus::False, "Waiting", "for its node", at(3)));
        assert_eq!(all[0].last_transition_time.0, at(1));
        assert!(all.set_condition("Ready", ConditionStatus::True, "Joined", "", at(4)));
        assert_eq!((all.len(), all[0].last_transition_time.0), (1, at(4)));
        assert!(all.is_condition_true("Ready"));
    }
}
