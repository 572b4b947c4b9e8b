//! Events for users, at most one per object, reason and text in ten minutes. They are sent behind the back of
//! whoever publishes them: nothing waits for them, and nothing depends on them.

use crate::world::Clock;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{Api, Client, api::PostParams};
use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};
use steelyard_core::Notice;
use tokio::sync::mpsc;

/// How long a repeated notice is kept from users.
const REPEAT: SignedDuration = SignedDuration::from_mins(10);
/// Notices remembered; far more than hosts of one site have in ten minutes.
const REMEMBERED: usize = 20_000;
const COMPONENT: &str = "steelyard-controller";
/// Kubernetes' limit for the text of an Event.
const MESSAGE_LIMIT: usize = 1024;

/// Events that wait to be sent: what all hosts of a hall say at one time. More are dropped.
const WAITING: usize = 1024;

#[derive(Clone)]
pub struct Events {
    clock: Clock,
    instance: String,
    sender: mpsc::Sender<Event>,
    said: Arc<Mutex<BTreeMap<(String, &'static str, String), Timestamp>>>,
}

impl Events {
    /// Whoever makes it runs the future, which sends what was published and never ends.
    pub fn new(
        client: Client,
        clock: Clock,
        instance: String,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, published) = mpsc::channel(WAITING);
        (
            Events {
                clock,
                instance,
                sender,
                said: Arc::default(),
            },
            send(client, published),
        )
    }

    /// Publishes `notice` about `object`. A lost Event is logged and not tried again.
    pub fn publish(&self, object: ObjectReference, notice: &Notice) {
        let now = self.clock.now();
        if !self.is_new(&object, notice, now) {
            return;
        }
        let namespace = object.namespace.clone().unwrap_or_else(|| "default".into());
        let mut message = notice.message.clone();
        while message.len() > MESSAGE_LIMIT {
            message.pop();
        }
        let name = object.name.clone().unwrap_or_default();
        // core/v1 with its timestamps, as Metal3 writes them: `kubectl get events --sort-by=.lastTimestamp` is what
        // people type, and events.k8s.io/v1 leaves that field empty.
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{name}.")),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: object,
            type_: Some(if notice.warning { "Warning" } else { "Normal" }.into()),
            reason: Some(notice.reason.into()),
            message: Some(message),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            source: Some(EventSource {
                component: Some(COMPONENT.into()),
                host: None,
            }),
            reporting_component: Some(COMPONENT.into()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        };
        if self.sender.try_send(event).is_err() {
            tracing::warn!(
                reason = notice.reason,
                "too many events wait; this one is dropped"
            );
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
            // More than that in ten minutes: some will be said twice, which beats looking through all each time.
            if said.len() >= REMEMBERED {
                said.clear();
            }
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

async fn send(client: Client, mut published: mpsc::Receiver<Event>) {
    while let Some(event) = published.recv().await {
        let api: Api<Event> = Api::namespaced(
            client.clone(),
            event.metadata.namespace.as_deref().unwrap_or("default"),
        );
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            tracing::warn!(reason = event.reason, error = %error, "event was not taken");
        }
    }
    // The owner of this future watches it: it ends with its tree of tasks.
    std::future::pending().await
}
