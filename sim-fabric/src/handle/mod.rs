//! The fabric as the rest of a lab holds it: the engine behind one lock, egress queues, wake-ups.
//!
//! A frame goes from `send` through the engine into the destinations' queues while the lock is held, so
//! there is no task between two NICs and a commit is atomic for every frame. The lock is never held across
//! an await, and what happens under it is bounded by the number of members of a network.

mod control;

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::Notify;

pub use self::control::{Guard, Witness};
use crate::{
    dataplane::Output,
    fabric::{Fabric, Settings},
    names::{Now, PortId, PortName, nanos},
    netris::Api,
    observe::{MacEntry, Mismatch, PortCounters, Snapshot},
    port::{Port, Queue},
    topology::{Topology, TopologyError},
};

/// A clock that is driven by hand may stand still while a wake-up is due; then we look again this often.
const WAIT_MIN: Duration = Duration::from_millis(1);

#[derive(Clone)]
pub struct FabricHandle {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Mutex<Inner>,
    now: Now,
    /// Rung when something is due earlier than `run` believes.
    wake: Notify,
    settings: Settings,
    api: Mutex<Api>,
}

struct Inner {
    fabric: Fabric,
    queues: Vec<Option<Arc<Queue>>>,
    /// What `run` sleeps for.
    armed: Option<jiff::Timestamp>,
    witnesses: usize,
    closed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    #[error("no switch has a port {0}; see the topology's switches")]
    UnknownPort(PortName),
    #[error("port {0} already has a cable in it; drop the other Port first")]
    InUse(PortName),
    #[error("no network is called {0:?}")]
    UnknownNetwork(String),
    #[error("the fabric is closed")]
    Closed,
}

#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("no network is called {0:?}")]
    UnknownNetwork(String),
    #[error("the capture's header cannot be written")]
    Write(#[from] io::Error),
}

impl fmt::Debug for FabricHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FabricHandle")
    }
}

impl FabricHandle {
    pub fn new(topology: Topology, now: Now) -> Result<FabricHandle, TopologyError> {
        FabricHandle::with_settings(topology, now, Settings::default())
    }

    pub fn with_settings(
        topology: Topology,
        now: Now,
        settings: Settings,
    ) -> Result<FabricHandle, TopologyError> {
        let fabric = Fabric::new(&topology, &settings, now())?;
        let inner = Inner {
            fabric,
            queues: Vec::new(),
            armed: None,
            witnesses: 0,
            closed: false,
        };
        let api = Mutex::new(Api::new(settings.seed));
        let shared = Shared {
            inner: Mutex::new(inner),
            now,
            wake: Notify::new(),
            settings,
            api,
        };
        Ok(FabricHandle {
            shared: Arc::new(shared),
        })
    }

    /// Drives what is due by itself: commits, delayed frames, ARP retries, flushing of captures. Never returns.
    pub fn run(&self) -> impl Future<Output = ()> + Send + 'static {
        let fabric = self.clone();
        async move {
            loop {
                let due = fabric.with(|inner, now| {
                    inner.fabric.poll(now);
                    inner.armed = inner.fabric.poll_at();
                    inner.armed.map(|due| {
                        Duration::try_from(due.duration_since(now))
                            .unwrap_or(WAIT_MIN)
                            .max(WAIT_MIN)
                    })
                });
                let rung = fabric.shared.wake.notified();
                match due {
                    None => rung.await,
                    Some(wait) => {
                        let _ = tokio::time::timeout(wait, rung).await; // either way, look again
                    }
                }
            }
        }
    }

    /// Plugs a cable into a switch port. The link comes up, unless the port is administratively down.
    pub fn attach(&self, port: &PortName) -> Result<Port, AttachError> {
        self.with(|inner, _| {
            let id = inner
                .fabric
                .port_id(port)
                .ok_or_else(|| AttachError::UnknownPort(port.clone()))?;
            self.plug(inner, id, port.clone(), self.shared.settings.queue_frames)
        })
    }

    /// A port straight in a network, for what a site connects there: boot services, tenants' API endpoints.
    pub fn attach_network(&self, network: &str) -> Result<Port, AttachError> {
        self.with(|inner, now| {
            let unknown = || AttachError::UnknownNetwork(network.to_owned());
            let id = inner.fabric.add_infra_port(network, now).ok_or_else(unknown)?;
            let name = inner
                .fabric
                .plane
                .port(id)
                .map(|port| port.name.clone())
                .ok_or_else(unknown)?;
            self.plug(inner, id, name, self.shared.settings.infra_queue_frames)
        })
    }

    fn plug(
        &self,
        inner: &mut Inner,
        id: PortId,
        name: PortName,
        frames_max: usize,
    ) -> Result<Port, AttachError> {
        if inner.closed {
            return Err(AttachError::Closed);
        }
        let Some(state) = inner.fabric.plane.port_mut(id) else {
            return Err(AttachError::UnknownPort(name));
        };
        if std::mem::replace(&mut state.plugged, true) {
            return Err(AttachError::InUse(name));
        }
        inner.fabric.set_link(id, true);
        let index = id.0 as usize;
        if inner.queues.len() <= index {
            inner.queues.resize(index + 1, None);
        }
        let queue = Arc::new(Queue::new(frames_max));
        inner.queues[index] = Some(queue.clone());
        Ok(Port::new(self.clone(), id, name, queue))
    }

    pub(crate) fn unplug(&self, id: PortId) {
        self.with(|inner, now| inner.unplug(id, now));
    }

    pub(crate) fn set_nic_link(&self, id: PortId, up: bool) {
        self.with(|inner, _| {
            inner.fabric.set_link(id, up);
            // A NIC without power keeps no frames either.
            if !up && let Some(Some(queue)) = inner.queues.get(id.0 as usize) {
                queue.clear();
            }
        });
    }

    pub(crate) fn carrier(&self, id: PortId) -> bool {
        self.with(|inner, _| inner.fabric.plane.port(id).is_some_and(|port| port.carrier()))
    }

    pub(crate) fn ingress(&self, id: PortId, frame: Bytes) {
        self.with(|inner, now| inner.fabric.ingress(id, frame, now));
    }

    /// Does what is due now; `run` does it by itself, a test with a clock of its own may want to.
    pub fn poll(&self) {
        self.with(|inner, now| inner.fabric.poll(now));
    }

    /// No frame moves any more; every `recv` ends.
    pub fn close(&self) {
        self.with(|inner, _| {
            inner.closed = true;
            inner.queues.drain(..).flatten().for_each(|queue| queue.close());
            inner.fabric.flush_captures();
        });
    }

    pub fn counters(&self, port: &PortName) -> Option<PortCounters> {
        self.with(|inner, _| {
            let infra = || {
                inner
                    .fabric
                    .plane
                    .ports
                    .iter()
                    .find(|p| p.name == *port)
                    .map(|p| p.counters)
            };
            match inner.fabric.port_id(port) {
                Some(id) => inner.fabric.plane.port(id).map(|p| p.counters),
                None => infra(),
            }
        })
    }

    pub fn mismatches(&self) -> Vec<Mismatch> {
        self.with(|inner, now| {
            inner.fabric.poll(now);
            inner.fabric.plane.mismatches()
        })
    }

    pub fn mac_table(&self) -> Vec<MacEntry> {
        self.with(|inner, now| {
            inner.fabric.poll(now);
            inner.fabric.plane.mac_entries(nanos(now))
        })
    }

    pub fn snapshot(&self) -> Snapshot {
        self.with(|inner, now| {
            let fabric = &mut inner.fabric;
            fabric.poll(now);
            Snapshot {
                ports: fabric.plane.port_statuses(),
                networks: fabric.plane.network_statuses(),
                tunnelled: fabric.plane.tunnelled.clone(),
                revision: fabric.intended.revision,
                committed: fabric.intended.committed,
            }
        })
    }

    pub(crate) fn engine<T>(&self, work: impl FnOnce(&mut Fabric, jiff::Timestamp) -> T) -> T {
        self.with(|inner, now| work(&mut inner.fabric, now))
    }

    pub(crate) fn now(&self) -> jiff::Timestamp {
        (self.shared.now)()
    }

    pub(crate) fn api(&self) -> MutexGuard<'_, Api> {
        self.shared.api.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic in somebody's fault rule must not take the fabric from everybody else.
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one way in: works on the engine, then moves what leaves it to the queues, then wakes `run` if
    /// something is due earlier than it knows.
    fn with<T>(&self, work: impl FnOnce(&mut Inner, jiff::Timestamp) -> T) -> T {
        let mut inner = self.lock();
        let now = (self.shared.now)();
        let answer = work(&mut inner, now);
        inner.drain();
        let due = inner.fabric.poll_at();
        if let Some(due) = due
            && inner.armed.is_none_or(|armed| due < armed)
        {
            inner.armed = Some(due);
            self.shared.wake.notify_one();
        }
        answer
    }
}

impl Inner {
    fn drain(&mut self) {
        while let Some(output) = self.fabric.egress() {
            match output {
                Output::Frame(port, frame) => {
                    let queue = self.queues.get(port.0 as usize).and_then(Option::as_ref);
                    if !queue.is_some_and(|queue| queue.push(frame))
                        && let Some(state) = self.fabric.plane.port_mut(port)
                    {
                        state.counters.tx_overflow += 1;
                    }
                }
                Output::Flush(port) => {
                    let lost = self
                        .queues
                        .get(port.0 as usize)
                        .and_then(Option::as_ref)
                        .map_or(0, |q| q.clear());
                    if let Some(state) = self.fabric.plane.port_mut(port) {
                        state.counters.tx_flushed += lost as u64;
                    }
                }
            }
        }
    }

    fn unplug(&mut self, id: PortId, now: jiff::Timestamp) {
        self.fabric.set_link(id, false);
        if let Some(state) = self.fabric.plane.port_mut(id) {
            state.plugged = false;
        }
        if let Some(queue) = self.queues.get_mut(id.0 as usize).and_then(Option::take) {
            queue.close();
        }
        self.fabric.unplugged(id, now);
    }
}
