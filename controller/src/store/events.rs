//! Events for users, at most one per object, reason and text in ten minutes.

use crate::world::Clock;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use steelyard_core::Notice;

/// How long a repeated notice is kept from users.
const REPEAT: SignedDuration = SignedDuration::from_mins(10);
/// Notices remembered; far more than hosts of one site have in ten minutes.
const REMEMBERED: usize = 20_000;
/// Kubernetes' limit for `note`.
const NOTE_LIMIT: usize = 1024;

#[derive(Clone)]
pub struct Events {
    client: Client,
    clock: Clock,
    instance: String,
    said: Arc<Mutex<BTreeMap<(String, &'static str, String), Timestamp>>>,
}

impl Events {
    pub fn new(client: Client, clock: Clock, instance: String) -> Self {
        Events { client, clock, instance, said: Arc::default() }
    }

    /// Publishes `notice` about `object`. A lost Event is logged and not tried again: nothing depends on it.
    pub async fn publish(&self, object: ObjectReference, notice: &Notice) {
        let now = self.clock.now();
        if !self.is_new(&object, notice, now) {
            return;
        }
        let namespace = object.namespace.clone().unwrap_or_else(|| "default".into());
        let mut note = notice.message.clone();
        while note.len() > NOTE_LIMIT {
            note.pop();
        }
        let name = object.name.clone().unwrap_or_default();
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{name}.")),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            action: Some("Reconcile".into()),
            event_time: Some(MicroTime(now)),
            note: Some(note),
            reason: Some(notice.reason.into()),
            regarding: Some(object),
            reporting_controller: Some("steelyard.dev/controller".into()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if notice.warning { "Warning" } else { "Normal" }.into()),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            tracing::warn!(reason = notice.reason, error = %error, "event was not taken");
        }
    }

    fn is_new(&self, object: &ObjectReference, notice: &Notice, now: Timestamp) -> bool {
        let key = (
            format!("{:?}/{:?}/{:?}", object.kind, object.namespace, object.name),
            notice.reason,
            notice.message.clone(),
        );
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= REMEMBERED {
            said.retain(|_, at| now.duration_since(*at) < REPEAT);
        }
        match said.get(&key) {
            Some(at) if now.duration_since(*at) < REPEAT => false,
            _ => {
                said.insert(key, now);
                true
            }
        }
    }
}
