//! A data centre's Ethernet in user space: leaf switches that carry real frames between in-process NICs, and
//! the management API of a real fabric (Netris) that says who is in which network.
//!
//! [`Fabric`] is the engine (frames, edits and time in; frames and the next wake-up out), [`FabricHandle`] the
//! shared form that NICs, servers and labs use. `README.md` shows both.

mod capture;
mod dataplane;
mod fabric;
mod fault;
mod frame;
mod handle;
mod model;
mod names;
mod netris;
mod observe;
mod port;
mod serve;
mod topology;
mod witness;

pub use self::{
    dataplane::Output,
    fabric::{Fabric, Settings},
    fault::{Dice, FrameView, Rule, Verdict},
    handle::{AttachError, CaptureError, FabricHandle, Guard, Witness},
    model::template::{AutoGateway, Ipv4Gateway, Template, TemplateVnet},
    names::{Mac, NameError, NetworkId, Now, PortId, PortName},
    observe::{
        MacEntry, Mismatch, MismatchKind, NetworkCounters, NetworkStatus, PortCounters, PortStatus, Snapshot,
    },
    port::{Port, PortRx, PortTx},
    serve::{serve, serve_connection},
    topology::{
        Allocation, Cluster, ClusterVnet, Denied, Network, Nic, Route, Server, Switch, TENANTS, Topology,
        TopologyError,
    },
    witness::{Crossing, Violation},
};
