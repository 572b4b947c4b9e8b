//! The engine, sans-IO: frames, edits and time in; frames and the next wake-up out. It ties together the model
//! (`intended`), the dataplane that follows it one `commit_delay` later, and the faults between them.
//!
//! ```text
//! management API --edit--> intended --revision, due--> commits --poll--> dataplane
//!                                                                          ^  | egress
//! NIC --ingress--> rules --(now, later, never)-----------------------------+  v
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;

use crate::{
    capture::Captures,
    dataplane::{Change, Dataplane, Membership, Output, Policy, PortState, RouteEnd},
    fault::{FrameView, RuleFn, RuleId, Rules, Verdict},
    frame::Header,
    model::{Intended, Refusal},
    names::{Nanos, NetworkId, PortId, PortName, nanos, span, timestamp},
    topology::{INFRA, TENANTS, Topology, TopologyError},
};

/// Frames that delay rules may hold back in all (at 1.5 kB each, 100 MB).
const DELAYED_MAX: usize = 64 * 1024;
/// How stale a capture's file may get while frames flow.
const CAPTURE_FLUSH: Nanos = 250_000_000;

/// Knobs of the engine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// From a change's acceptance to the switches having it.
    pub commit_delay: Duration,
    /// How long a silent MAC is remembered; 300 s is the default of 802.1D 7.9.2.
    pub mac_age_max: Duration,
    /// Of fault rules and session names.
    pub seed: u64,
    /// Egress queue of a switch port: a TCP window of 64 KiB is 45 frames, a storm of broadcasts more.
    pub queue_frames: usize,
    /// Of a port straight in a network: behind it one stack talks to every host at once.
    pub infra_queue_frames: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            commit_delay: Duration::from_millis(200),
            mac_age_max: Duration::from_secs(300),
            seed: 0,
            queue_frames: 1024,
            infra_queue_frames: 16 * 1024,
        }
    }
}

/// Changes of one revision on their way to the switches.
struct Commit {
    revision: u64,
    due: Nanos,
    changes: Vec<Change>,
}

pub struct Fabric {
    pub(crate) intended: Intended,
    pub(crate) plane: Dataplane,
    commits: VecDeque<Commit>,
    commit_delay: Nanos,
    /// Commits stand still while any hold is out.
    holds: usize,
    rules: Rules,
    delayed: BTreeMap<(Nanos, u64), (PortId, Bytes)>,
    sequence: u64,
    infra_ports: u32,
    pub(crate) captures: Captures,
    capture_flush_due: Option<Nanos>,
    /// Nothing is due before; kept so that a frame costs one comparison.
    next: Nanos,
}

impl Fabric {
    pub fn new(
        topology: &Topology,
        settings: &Settings,
        now: jiff::Timestamp,
    ) -> Result<Fabric, TopologyError> {
        let mut intended = Intended::new(topology, now)?;
        let plane = Dataplane::new(
            Policy::default(),
            topology.denied,
            span(settings.mac_age_max),
            topology.switches.len(),
        );
        let first = intended.seal();
        let mut fabric = Fabric {
            intended,
            plane,
            commits: VecDeque::new(),
            commit_delay: span(settings.commit_delay),
            holds: 0,
            rules: Rules::new(settings.seed),
            delayed: BTreeMap::new(),
            sequence: 0,
            infra_ports: 0,
            captures: Captures::default(),
            capture_flush_due: None,
            next: Nanos::MAX,
        };
        for (leaf, switch) in topology.switches.iter().enumerate() {
            for number in 1..=switch.ports {
                let name = PortName::new(&switch.name, &format!("swp{number}"));
                fabric.plane.ports.push(PortState::new(name, Some(leaf as u16)));
            }
        }
        for (mac, port) in fabric.intended.inventory.cables() {
            fabric.plane.strays.expect(mac, port);
        }
        fabric.plane.policy = fabric.policy(topology);
        // The site is as its topology says from the start; only later changes take their time.
        if let Some((revision, changes)) = first {
            fabric.intend(&changes);
            fabric.commit(
                Commit {
                    revision,
                    due: nanos(now),
                    changes,
                },
                nanos(now),
            );
        }
        Ok(fabric)
    }

    fn policy(&self, topology: &Topology) -> Policy {
        let end = |name: &str| match name {
            TENANTS => Some(RouteEnd::Tenants),
            name => {
                let vnet = self.intended.vnets.values().find(|v| v.name == name)?;
                Some(RouteEnd::Network(NetworkId(vnet.id)))
            }
        };
        let routes = topology
            .routes
            .iter()
            .filter_map(|route| Some((end(&route.from)?, end(&route.to)?)));
        Policy {
            routes: routes.collect(),
        }
    }

    /// A frame from the NIC at `port`.
    pub fn ingress(&mut self, port: PortId, frame: Bytes, now: jiff::Timestamp) {
        self.ingress_at(port, frame, nanos(now));
    }

    pub(crate) fn ingress_at(&mut self, port: PortId, frame: Bytes, now: Nanos) {
        if now >= self.next {
            self.poll_at_nanos(now);
        }
        if !self.rules.is_empty() {
            match self.judge(port, &frame) {
                Verdict::Pass => {}
                Verdict::Deliver(after) if self.delayed.len() < DELAYED_MAX => {
                    self.sequence += 1;
                    let due = now.saturating_add(span(after));
                    self.delayed.insert((due, self.sequence), (port, frame));
                    self.next = self.next.min(due);
                    return;
                }
                Verdict::Deliver(_) | Verdict::Drop => {
                    if let Some(state) = self.plane.port_mut(port) {
                        state.counters.rx_fault += 1;
                    }
                    return;
                }
            }
        }
        self.plane.ingress(port, frame, now);
        self.after_frames(now);
    }

    fn judge(&mut self, port: PortId, frame: &Bytes) -> Verdict {
        let (Some(state), Some(header)) = (self.plane.port(port), Header::parse(frame)) else {
            return Verdict::Pass;
        };
        let network = match header.vlan {
            None => state.membership.native,
            Some(vlan) => state.membership.tagged.get(&vlan).copied(),
        };
        let Header {
            src, dst, ethertype, ..
        } = header;
        let network = network.and_then(|id| self.plane.name(id));
        self.rules.judge(&FrameView {
            port: &state.name,
            network,
            src,
            dst,
            ethertype,
            frame,
        })
    }

    /// Frames may have left things to do later.
    fn after_frames(&mut self, now: Nanos) {
        if std::mem::take(&mut self.plane.asked) {
            self.next = self.next.min(self.plane.arp_due().unwrap_or(Nanos::MAX));
        }
        if self.captures.any() && self.capture_flush_due.is_none() {
            self.capture_flush_due = Some(now + CAPTURE_FLUSH);
            self.next = self.next.min(now + CAPTURE_FLUSH);
        }
    }

    /// The next thing that leaves the fabric.
    pub fn egress(&mut self) -> Option<Output> {
        self.plane.egress()
    }

    /// When [`Fabric::poll`] has something to do next.
    pub fn poll_at(&self) -> Option<jiff::Timestamp> {
        (self.next != Nanos::MAX).then(|| timestamp(self.next))
    }

    /// Does what is due: commits, delayed frames, ARP retries, flushing of captures.
    pub fn poll(&mut self, now: jiff::Timestamp) {
        let now = nanos(now);
        if now >= self.next {
            self.poll_at_nanos(now);
        }
    }

    fn poll_at_nanos(&mut self, now: Nanos) {
        // Due things happen in the order of their times, so that a frame delayed past a commit meets it.
        loop {
            let commit = self
                .commits
                .front()
                .filter(|_| self.holds == 0)
                .map(|commit| commit.due);
            let frame = self.delayed.first_key_value().map(|((due, _), _)| *due);
            match (commit, frame) {
                (Some(commit), frame) if commit <= now && frame.is_none_or(|frame| commit <= frame) => {
                    if let Some(commit) = self.commits.pop_front() {
                        self.commit(commit, now);
                    }
                }
                (_, Some(frame)) if frame <= now => {
                    if let Some((_, (port, frame))) = self.delayed.pop_first() {
                        self.plane.ingress(port, frame, now);
                    }
                }
                _ => break,
            }
        }
        self.plane.poll_arp(now);
        if self.capture_flush_due.is_some_and(|due| due <= now) {
            self.capture_flush_due = None;
            self.flush_captures();
        }
        let commit = self
            .commits
            .front()
            .filter(|_| self.holds == 0)
            .map(|commit| commit.due);
        let frame = self.delayed.first_key_value().map(|((due, _), _)| *due);
        let all = [commit, frame, self.plane.arp_due(), self.capture_flush_due];
        self.next = all.into_iter().flatten().min().unwrap_or(Nanos::MAX);
    }

    pub(crate) fn flush_captures(&mut self) {
        for network in self.plane.networks_mut() {
            for tap in &mut network.taps {
                tap.flush(&network.config.name);
            }
        }
    }

    fn commit(&mut self, commit: Commit, now: Nanos) {
        for change in commit.changes {
            let added = match &change {
                Change::AddNetwork(config) => Some(config.clone()),
                _ => None,
            };
            self.plane.apply(change, now);
            if let Some(config) = added {
                if let Some(witness) = &mut self.plane.witness {
                    witness.added(config.clone());
                }
                if let Some(network) = self.plane.network_mut(config.id) {
                    self.captures.network_made(network);
                }
            }
        }
        self.intended.converged(commit.revision);
        tracing::debug!(revision = commit.revision, "commit reached the switches");
    }

    /// A change through the management API: checked and visible at once, done `commit_delay` later.
    pub(crate) fn edit<T>(
        &mut self,
        now: jiff::Timestamp,
        change: impl FnOnce(&mut Intended) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.poll(now);
        let answer = change(&mut self.intended)?;
        if let Some((revision, changes)) = self.intended.seal() {
            self.intend(&changes);
            let due = nanos(now).saturating_add(self.commit_delay);
            self.commits.push_back(Commit {
                revision,
                due,
                changes,
            });
            if self.holds == 0 {
                self.next = self.next.min(due);
            }
            tracing::debug!(revision, "change accepted");
        }
        Ok(answer)
    }

    fn intend(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::Member(port, membership) = change
                && let Some(state) = self.plane.port_mut(*port)
            {
                state.intended = membership.clone();
            }
        }
    }

    /// Commits stand still as long as there are more holds than releases.
    pub(crate) fn hold(&mut self, on: bool, now: Nanos) {
        self.holds = if on {
            self.holds + 1
        } else {
            self.holds.saturating_sub(1)
        };
        self.poll_at_nanos(now);
    }

    pub(crate) fn add_rule(&mut self, rule: RuleFn) -> RuleId {
        self.rules.add(rule)
    }

    pub(crate) fn remove_rule(&mut self, id: RuleId) -> Option<RuleFn> {
        self.rules.remove(id)
    }

    /// A port of a switch, by name.
    pub fn port_id(&self, name: &PortName) -> Option<PortId> {
        self.intended.inventory.port(name)
    }

    pub(crate) fn network_id(&self, name: &str) -> Option<NetworkId> {
        self.plane
            .networks()
            .find(|network| network.config.name == name)
            .map(|network| network.config.id)
    }

    /// A new port straight in a network, unless it does not exist.
    pub fn add_infra_port(&mut self, network: &str, now: jiff::Timestamp) -> Option<PortId> {
        let id = self.network_id(network)?;
        self.infra_ports += 1;
        let port = PortId(self.plane.ports.len() as u32);
        let name = PortName::new(INFRA, &format!("{network}-{}", self.infra_ports));
        let membership = Membership {
            native: Some(id),
            tagged: BTreeMap::new(),
        };
        self.plane.ports.push(PortState {
            intended: membership.clone(),
            ..PortState::new(name, None)
        });
        self.plane.apply(Change::Member(port, membership), nanos(now));
        Some(port)
    }

    /// The cable is out. A port straight in a network ends with its cable.
    pub(crate) fn unplugged(&mut self, port: PortId, now: jiff::Timestamp) {
        self.plane.strays.unplugged(port);
        if self.plane.port(port).is_some_and(|state| state.leaf.is_none()) {
            self.plane
                .apply(Change::Member(port, Membership::default()), nanos(now));
        }
    }

    /// The NIC's end of the cable at `port`: plugged and powered, or not.
    pub fn set_link(&mut self, port: PortId, up: bool) {
        self.plane.set_link(port, up);
    }
}
