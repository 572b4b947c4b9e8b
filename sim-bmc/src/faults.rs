//! Faults: rules wrapped around the engine, which itself is always honest.
//!
//! A [`Rule`] says which requests it meets and what happens to them; it holds while its [`Guard`] lives, so that a test
//! that panics leaves no fault behind. Rules are judged in the order in which they were set, and their effects add up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::Value;

use crate::machine::Power;
use crate::redfish::{is_public, refused_credentials, unavailable};

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The answer comes late.
    Delay(Duration),
    /// 503 with Retry-After, and nothing is done.
    Unavailable { retry_after_seconds: u32 },
    /// Another status with an empty body, and nothing is done.
    Status(StatusCode),
    /// The request is carried out, but the answer says otherwise: the classic lost acknowledgement.
    AppliedButAnswers(StatusCode),
    /// Every credential is refused with 401, as after a rotation that nobody was told of.
    RefuseCredentials,
    /// `PowerState` in answers is this, whatever the machine does.
    ReportPower(Power),
    /// New connections are closed at once; requests on open ones get 503.
    RefuseConnections,
}

/// Which requests meet which effect.
#[derive(Clone, Debug)]
pub struct Rule {
    pub effect: Effect,
    /// `None`: every method.
    pub method: Option<Method>,
    /// Only paths that start so; "" is every path.
    pub path_prefix: String,
    /// How many requests it meets before it is spent; `None`: all, until lifted.
    pub times: Option<u32>,
}

impl Rule {
    /// A rule that meets every request.
    pub fn always(effect: Effect) -> Rule {
        Rule {
            effect,
            method: None,
            path_prefix: String::new(),
            times: None,
        }
    }

    pub fn on(self, method: Method, path_prefix: &str) -> Rule {
        Rule {
            method: Some(method),
            path_prefix: path_prefix.to_owned(),
            ..self
        }
    }

    pub fn times(self, times: u32) -> Rule {
        Rule {
            times: Some(times),
            ..self
        }
    }

    fn meets(&self, method: &Method, path: &str) -> bool {
        self.times != Some(0)
            && self.method.as_ref().is_none_or(|wanted| wanted == method)
            && path.starts_with(&self.path_prefix)
    }
}

#[derive(Default)]
struct Rules {
    by_id: BTreeMap<u64, Rule>,
    next: u64,
}

/// The rules set on one BMC.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    rules: Arc<Mutex<Rules>>,
}

/// Lifts its rule when dropped.
#[derive(Debug)]
pub struct Guard {
    faults: std::sync::Weak<Mutex<Rules>>,
    id: u64,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(&self.by_id).finish()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(rules) = self.faults.upgrade() {
            rules
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .by_id
                .remove(&self.id);
        }
    }
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, rule: Rule) -> Guard {
        let mut rules = self.lock();
        let id = rules.next;
        rules.next += 1;
        rules.by_id.insert(id, rule);
        Guard {
            faults: Arc::downgrade(&self.rules),
            id,
        }
    }

    pub(crate) fn refuses_connections(&self) -> bool {
        self.lock()
            .by_id
            .values()
            .any(|rule| rule.effect == Effect::RefuseConnections && rule.times != Some(0))
    }

    /// What the rules have to say about one request. Uses up counted rules.
    pub(crate) fn judge(&self, method: &Method, path: &str) -> Verdict {
        let mut verdict = Verdict::default();
        for rule in self.lock().by_id.values_mut() {
            let spared = rule.effect == Effect::RefuseCredentials && is_public(method, path);
            if spared || !rule.meets(method, path) {
                continue;
            }
            if let Some(times) = &mut rule.times {
                *times -= 1;
            }
            verdict.add(&rule.effect);
        }
        verdict
    }
}

/// The sum of the effects that one request meets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) delay: Option<Duration>,
    instead: Option<Instead>,
    answers: Option<StatusCode>,
    power: Option<Power>,
}

#[derive(Debug, PartialEq, Eq)]
enum Instead {
    Unavailable(u32),
    Status(StatusCode),
    Unauthorized,
}

impl Verdict {
    fn add(&mut self, effect: &Effect) {
        match effect {
            Effect::Delay(delay) => *self.delay.get_or_insert(Duration::ZERO) += *delay,
            Effect::Unavailable { retry_after_seconds } => {
                self.instead = Some(Instead::Unavailable(*retry_after_seconds));
            }
            Effect::Status(status) => self.instead = Some(Instead::Status(*status)),
            Effect::AppliedButAnswers(status) => self.answers = Some(*status),
            Effect::RefuseCredentials => self.instead = Some(Instead::Unauthorized),
            Effect::ReportPower(power) => self.power = Some(*power),
            Effect::RefuseConnections => self.instead = Some(Instead::Unavailable(1)),
        }
    }

    /// The answer that is given without asking the engine, if there is one.
    pub(crate) fn instead(&self) -> Option<Response<Bytes>> {
        match self.instead.as_ref()? {
            Instead::Unavailable(seconds) => Some(unavailable((*seconds).into())),
            Instead::Status(status) => Some(bare(*status)),
            Instead::Unauthorized => Some(refused_credentials()),
        }
    }

    /// Alters the engine's answer.
    pub(crate) fn amend(&self, mut reply: Response<Bytes>) -> Response<Bytes> {
        if let Some(status) = self.answers {
            return bare(status);
        }
        if let Some(power) = self.power
            && let Ok(Value::Object(mut body)) = serde_json::from_slice(reply.body())
            && let Some(shown) = body.get_mut("PowerState")
            && let Ok(lie) = serde_json::to_value(power)
        {
            *shown = lie;
            *reply.body_mut() = Value::Object(body).to_string().into();
        }
        reply
    }
}

fn bare(status: StatusCode) -> Response<Bytes> {
    let mut reply = Response::new(Bytes::new());
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(faults: &Faults, path: &str) -> Verdict {
        faults.judge(&Method::GET, path)
    }

    #[test]
    fn a_rule_lasts_as_long_as_its_guard() {
        let faults = Faults::default();
        let guard = faults.add(Rule::always(Effect::RefuseCredentials));
        assert!(get(&faults, "/redfish/v1/Systems").instead().is_some());
        assert!(
            get(&faults, "/redfish/v1/").instead().is_none(),
            "the service root asks nobody for credentials"
        );
        drop(guard);
        assert_eq!(get(&faults, "/redfish/v1/Systems"), Verdict::default());
    }

    #[test]
    fn rules_are_selective_and_counted() {
        let faults = Faults::default();
        let _guard = faults.add(
            Rule::always(Effect::Unavailable {
                retry_after_seconds: 5,
            })
            .on(Method::GET, "/redfish/v1/Systems")
            .times(2),
        );
        assert!(get(&faults, "/redfish/v1/Managers").instead().is_none());
        assert!(
            faults
                .judge(&Method::PATCH, "/redfish/v1/Systems/1")
                .instead()
                .is_none()
        );
        for _ in 0..2 {
            let reply = get(&faults, "/redfish/v1/Systems/1").instead().unwrap();
            assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(reply.headers()[header::RETRY_AFTER], "5");
        }
        assert!(get(&faults, "/redfish/v1/Systems/1").instead().is_none(), "spent");
    }

    #[test]
    fn effects_add_up() {
        let faults = Faults::default();
        let _one = faults.add(Rule::always(Effect::Delay(Duration::from_secs(1))));
        let _two = faults.add(Rule::always(Effect::Delay(Duration::from_secs(2))));
        let _three = faults.add(Rule::always(Effect::ReportPower(Power::On)));
        let verdict = get(&faults, "/");
        assert_eq!(verdict.delay, Some(Duration::from_secs(3)));
        let reply = verdict.amend(Response::new(Bytes::from_static(
            br#"{"Id":"1","PowerState":"Off"}"#,
        )));
        assert_eq!(reply.body(), r#"{"Id":"1","PowerState":"On"}"#);
    }
}
