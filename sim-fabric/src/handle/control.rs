//! What tests and labs do to a fabric from the side: faults, edits by hand, captures, a witness. Each is undone
//! when its guard drops.

use std::{fmt, io};

use super::{AttachError, CaptureError, FabricHandle};
use crate::{
    capture::CaptureId,
    dataplane::Membership,
    fabric::Fabric,
    fault::{Dice, FrameView, Rule, RuleFn, Verdict},
    names::{PortName, nanos},
    witness::{Crossing, Record, Violation},
};

/// Undoes what it stands for when it drops: a fault, a capture, a hold.
#[must_use = "it is undone when this drops"]
pub struct Guard {
    undo: Option<Box<dyn FnOnce() + Send>>,
}

impl Guard {
    fn new(undo: impl FnOnce() + Send + 'static) -> Guard {
        Guard {
            undo: Some(Box::new(undo)),
        }
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

impl FabricHandle {
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
    /// A name comes again if a network is deleted and another one made under it. The factory runs under the
    /// fabric's lock and must not call the fabric.
    pub fn capture_each<F>(&self, factory: F) -> Guard
    where
        F: FnMut(&str) -> io::Result<Box<dyn io::Write + Send>> + Send + 'static,
    {
        let id = self.with(|inner, _| {
            let Fabric { captures, plane, .. } = &mut inner.fabric;
            let id = captures.next_id();
            captures.add_each(id, Box::new(factory));
            plane
                .networks_mut()
                .for_each(|network| captures.start(id, network));
            id
        });
        self.capture_guard(id)
    }

    fn capture_guard(&self, id: CaptureId) -> Guard {
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

    /// A fault that decides for itself. It runs under the fabric's lock and must not call the fabric.
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
        let (id, edit) = self.with(|inner, now| {
            let id = inner
                .fabric
                .port_id(port)
                .ok_or_else(|| AttachError::UnknownPort(port.clone()))?;
            let native = match network {
                None => None,
                Some(name) => {
                    let found = inner.fabric.network_id(name);
                    Some(found.ok_or_else(|| AttachError::UnknownNetwork(name.to_owned()))?)
                }
            };
            let forced = Membership {
                native,
                ..Membership::default()
            };
            Ok((id, inner.fabric.plane.force(id, forced, nanos(now))))
        })?;
        let fabric = self.clone();
        Ok(Guard::new(move || {
            fabric.with(|inner, now| inner.fabric.plane.unforce(id, edit, nanos(now)))
        }))
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
            plane
                .witness
                .as_ref()
                .map(|record| record.crossings(plane))
                .unwrap_or_default()
        })
    }

    /// Frames that `from` sent and `to` received.
    pub fn frames(&self, from: &PortName, to: &PortName) -> u64 {
        let pair = |c: &Crossing| c.from.as_ref() == Some(from) && c.to == *to;
        self.crossings()
            .iter()
            .filter(|c| pair(c))
            .map(|c| c.frames)
            .sum()
    }

    /// Frames that reached a port which they never should have. A correct fabric has none.
    pub fn violations(&self) -> Vec<Violation> {
        self.fabric.with(|inner, _| {
            let plane = &inner.fabric.plane;
            plane
                .witness
                .as_ref()
                .map(|record| record.violations(plane))
                .unwrap_or_default()
        })
    }

    /// The networks that a port has been in, and since when.
    pub fn history(&self, port: &PortName) -> Vec<(jiff::Timestamp, Vec<String>)> {
        self.fabric.with(|inner, _| {
            let id = inner.fabric.port_id(port);
            inner
                .fabric
                .plane
                .witness
                .as_ref()
                .zip(id)
                .map(|(record, id)| record.history(id))
                .unwrap_or_default()
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
