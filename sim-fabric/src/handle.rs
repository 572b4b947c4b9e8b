//! The fabric as the rest of a lab holds it: the engine behind one lock, egress queues, wake-ups.
//!
//! A frame goes from `send` through the engine into the destinations' queues while the lock is held, so
//! there is no task between two NICs and a commit is atomic for every frame. The lock is never held across
//! an await, and what happens under it is bounded by the number of members of a network.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::{
    dataplane::{Membership, Output},
    fabric::{Fabric, Settings},
    fault::{Dice, FrameView, Rule, RuleFn, Verdict},
    netris::Api,
    names::{Now, PortId, PortName, nanos},
    observe::{MacEntry, Mismatch, PortCounters, Snapshot},
    port::{Port, Queue},
    topology::{Topology, TopologyError},
    witness::{Crossing, Record, Violation},
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

/// Undoes what it stands for when it drops: a fault, a capture, a hold.
#[must_use = "it is undone when this drops"]
pub struct Guard {
    undo: Option<Box<dyn FnOnce() + Send>>,
}

impl Guard {
    fn new(undo: impl FnOnce() + Send + 'static) -> Guard {
        Guard { undo: Some(Box::new(undo)) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(undo) = self.undo.take() {
            undo();
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
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

    pub fn with_settings(topology: Topology, now: Now, settings: Settings) -> Result<FabricHandle, TopologyError> {
        let fabric = Fabric::new(&topology, &settings, now())?;
        let inner = Inner { fabric, queues: Vec::new(), armed: None, witnesses: 0, closed: false };
        let api = Mutex::new(Api::new(settings.seed));
        let shared = Shared { inner: Mutex::new(inner), now, wake: Notify::new(), settings, api };
        Ok(FabricHandle { shared: Arc::new(shared) })
    }

    /// Drives what is due by itself: commits, delayed frames, ARP retries, flushing of captures. Never returns.
    pub fn run(&self) -> impl Future<Output = ()> + Send + 'static {
        let fabric = self.clone();
        async move {
            loop {
                let due = fabric.with(|inner, now| {
                    inner.fabric.poll(now);
                    inner.armed = inner.fabric.poll_at();
                    inner.armed.map(|due| Duration::try_from(due.duration_since(now)).unwrap_or(WAIT_MIN).max(WAIT_MIN))
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
            let id = inner.fabric.port_id(port).ok_or_else(|| AttachError::UnknownPort(port.clone()))?;
            self.plug(inner, id, port.clone(), self.shared.settings.queue_frames)
        })
    }

    /// A port straight in a network, for what a site connects there: boot services, tenants' API endpoints.
    pub fn attach_network(&self, network: &str) -> Result<Port, AttachError> {
        self.with(|inner, now| {
            let unknown = || AttachError::UnknownNetwork(network.to_owned());
            let id = inner.fabric.add_infra_port(network, now).ok_or_else(unknown)?;
            let name = inner.fabric.plane.port(id).map(|port| port.name.clone()).ok_or_else(unknown)?;
            self.plug(inner, id, name, self.shared.settings.infra_queue_frames)
        })
    }

    fn plug(&self, inner: &mut Inner, id: PortId, name: PortName, frames_max: usize) -> Result<Port, AttachError> {
        if inner.closed {
            return Err(AttachError::Closed);
        }
        let Some(state) = inner.fabric.plane.port_mut(id) else { return Err(AttachError::UnknownPort(name)) };
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

    /// Captures every frame that `network` carries from now on, once each, until the guard drops.
    pub fn capture(&self, network: &str, writer: Box<dyn io::Write + Send>) -> Result<Guard, CaptureError> {
        let id = self.with(|inner, _| {
            let Fabric { captures, plane, .. } = &mut inner.fabric;
            let found = plane.networks_mut().find(|n| n.config.name == network);
            let found = found.ok_or_else(|| CaptureError::UnknownNetwork(network.to_owned()))?;
            let id = captures.next_id();
            captures.attach(id, found, writer)?;
            Ok::<_, CaptureError>(id)
        })?;
        Ok(self.capture_guard(id))
    }

    /// Captures each network, also those that are made later; `factory` opens the file for a network's name.
    pub fn capture_each<F>(&self, factory: F) -> Guard
    where
        F: FnMut(&str) -> io::Result<Box<dyn io::Write + Send>> + Send + 'static,
    {
        let id = self.with(|inner, _| {
            let Fabric { captures, plane, .. } = &mut inner.fabric;
            let id = captures.next_id();
            captures.add_each(id, Box::new(factory));
            plane.networks_mut().for_each(|network| captures.start(id, network));
            id
        });
        self.capture_guard(id)
    }

    fn capture_guard(&self, id: crate::capture::CaptureId) -> Guard {
        let fabric = self.clone();
        Guard::new(move || {
            fabric.with(|inner, _| {
                let Fabric { captures, plane, .. } = &mut inner.fabric;
                captures.detach(id, plane.networks_mut());
            });
        })
    }

    /// Writes out what captures have buffered; `run` does so four times a second while frames flow.
    pub fn flush_captures(&self) {
        self.with(|inner, _| inner.fabric.flush_captures());
    }

    /// A fault with the usual filters.
    pub fn rule(&self, rule: Rule) -> Guard {
        self.add_rule(rule.into_fn())
    }

    /// A fault that decides for itself.
    pub fn rule_fn(&self, rule: impl FnMut(&FrameView<'_>, &mut Dice) -> Verdict + Send + 'static) -> Guard {
        self.add_rule(Box::new(rule))
    }

    fn add_rule(&self, rule: RuleFn) -> Guard {
        let id = self.with(|inner, _| inner.fabric.add_rule(rule));
        let fabric = self.clone();
        Guard::new(move || drop(fabric.with(|inner, _| inner.fabric.remove_rule(id))))
    }

    /// Somebody edits a switch by hand: the port is in `network` (or in none), whatever the management API
    /// wants, until the guard drops.
    pub fn force_port(&self, port: &PortName, network: Option<&str>) -> Result<Guard, AttachError> {
        let id = self.with(|inner, now| {
            let id = inner.fabric.port_id(port).ok_or_else(|| AttachError::UnknownPort(port.clone()))?;
            let native = match network {
                None => None,
                Some(name) => {
                    let found = inner.fabric.network_id(name);
                    Some(found.ok_or_else(|| AttachError::UnknownNetwork(name.to_owned()))?)
                }
            };
            let forced = Membership { native, ..Membership::default() };
            inner.fabric.plane.force(id, Some(forced), nanos(now));
            Ok(id)
        })?;
        let fabric = self.clone();
        Ok(Guard::new(move || fabric.with(|inner, now| inner.fabric.plane.force(id, None, nanos(now)))))
    }

    /// Switches stop taking changes: what the management API accepts stays pending until the guard drops.
    pub fn hold_commits(&self) -> Guard {
        self.with(|inner, now| inner.fabric.hold(true, nanos(now)));
        let fabric = self.clone();
        Guard::new(move || fabric.with(|inner, now| inner.fabric.hold(false, nanos(now))))
    }

    /// Starts to watch who receives whose frames; see [`Witness`].
    pub fn witness(&self) -> Witness {
        self.with(|inner, now| {
            inner.witnesses += 1;
            if inner.fabric.plane.witness.is_none() {
                inner.fabric.plane.witness = Some(Record::new(&inner.fabric.plane, nanos(now)));
            }
        });
        Witness { fabric: self.clone() }
    }

    pub fn counters(&self, port: &PortName) -> Option<PortCounters> {
        self.with(|inner, _| {
            let infra = || inner.fabric.plane.ports.iter().find(|p| p.name == *port).map(|p| p.counters);
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

    /// The management API answers with the HTTP status that `fault` gives for a method and a path, instead of
    /// doing anything, until the guard drops.
    pub fn api_fault(&self, fault: impl FnMut(&str, &str) -> Option<u16> + Send + 'static) -> Guard {
        let id = self.api().add_fault(Box::new(fault));
        let fabric = self.clone();
        Guard::new(move || {
            let fault = fabric.api().remove_fault(id);
            drop(fault); // after the lock: it may own things of this fabric
        })
    }

    /// The management API forgets who is logged in, as after a restart.
    pub fn expire_sessions(&self) {
        self.api().sessions.clear();
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
                    let lost = self.queues.get(port.0 as usize).and_then(Option::as_ref).map_or(0, |q| q.clear());
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

/// Watches the isolation of the fabric while it lives; several may. What was seen before the first one began
/// is not known.
#[must_use = "it watches only while it lives"]
pub struct Witness {
    fabric: FabricHandle,
}

impl Witness {
    /// Each pair of ports between which frames went, also through gateways.
    pub fn crossings(&self) -> Vec<Crossing> {
        self.fabric.with(|inner, _| {
            let plane = &inner.fabric.plane;
            plane.witness.as_ref().map(|record| record.crossings(plane)).unwrap_or_default()
        })
    }

    /// Frames that `from` sent and `to` received.
    pub fn frames(&self, from: &PortName, to: &PortName) -> u64 {
        let pair = |c: &Crossing| c.from.as_ref() == Some(from) && c.to == *to;
        self.crossings().iter().filter(|c| pair(c)).map(|c| c.frames).sum()
    }

    /// Frames that reached a port which they never should have. A correct fabric has none.
    pub fn violations(&self) -> Vec<Violation> {
        self.fabric.with(|inner, _| {
            let plane = &inner.fabric.plane;
            plane.witness.as_ref().map(|record| record.violations(plane)).unwrap_or_default()
        })
    }

    /// The networks that a port has been in, and since when.
    pub fn history(&self, port: &PortName) -> Vec<(jiff::Timestamp, Vec<String>)> {
        self.fabric.with(|inner, _| {
            let id = inner.fabric.port_id(port);
            inner.fabric.plane.witness.as_ref().zip(id).map(|(record, id)| record.history(id)).unwrap_or_default()
        })
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.fabric.with(|inner, _| {
            inner.witnesses -= 1;
            if inner.witnesses == 0 {
                inner.fabric.plane.witness = None;
            }
        });
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness")
    }
}
