//! The NIC's end of a cable: a handle to send with, a bounded queue to receive from. Sending forwards at once,
//! in the caller's task, into the destinations' queues; nothing else stands between two NICs.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use crate::{
    handle::FabricHandle,
    names::{PortId, PortName},
};

/// A port with both directions. The cable is pulled when the last of its halves drops.
pub struct Port {
    tx: PortTx,
    rx: PortRx,
}

/// The sending half; clones send from the same NIC.
#[derive(Clone)]
pub struct PortTx {
    plug: Arc<Plug>,
}

/// The receiving half; there is one.
pub struct PortRx {
    plug: Arc<Plug>,
}

/// The cable's end in the switch.
struct Plug {
    fabric: FabricHandle,
    id: PortId,
    name: PortName,
    queue: Arc<Queue>,
}

impl Drop for Plug {
    fn drop(&mut self) {
        self.fabric.unplug(self.id);
    }
}

impl Port {
    pub(crate) fn new(fabric: FabricHandle, id: PortId, name: PortName, queue: Arc<Queue>) -> Port {
        let plug = Arc::new(Plug {
            fabric,
            id,
            name,
            queue,
        });
        Port {
            tx: PortTx { plug: plug.clone() },
            rx: PortRx { plug },
        }
    }

    pub fn name(&self) -> &PortName {
        self.tx.name()
    }

    /// Puts a frame (no FCS) on the wire. A frame that the fabric cannot carry is counted there, as a real
    /// NIC would not hear of it either.
    pub fn send(&self, frame: Bytes) {
        self.tx.send(frame);
    }

    /// The next frame; `None` once the fabric is closed.
    pub async fn recv(&mut self) -> Option<Bytes> {
        self.rx.recv().await
    }

    pub fn try_recv(&mut self) -> Option<Bytes> {
        self.rx.try_recv()
    }

    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.rx.poll_recv(cx)
    }

    /// The NIC's side of the link: a powered-off machine's NIC is down. Up after `attach`.
    pub fn set_link(&self, up: bool) {
        self.tx.set_link(up);
    }

    /// Link with the switch: both ends are up.
    pub fn carrier(&self) -> bool {
        self.tx.carrier()
    }

    pub fn split(self) -> (PortTx, PortRx) {
        (self.tx, self.rx)
    }
}

impl PortTx {
    pub fn name(&self) -> &PortName {
        &self.plug.name
    }

    pub fn send(&self, frame: Bytes) {
        self.plug.fabric.ingress(self.plug.id, frame);
    }

    pub fn set_link(&self, up: bool) {
        self.plug.fabric.set_nic_link(self.plug.id, up);
    }

    pub fn carrier(&self) -> bool {
        self.plug.fabric.carrier(self.plug.id)
    }
}

impl PortRx {
    pub fn name(&self) -> &PortName {
        &self.plug.name
    }

    pub async fn recv(&mut self) -> Option<Bytes> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    pub fn try_recv(&mut self) -> Option<Bytes> {
        self.plug.queue.lock().frames.pop_front()
    }

    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.plug.queue.poll_pop(cx)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Port({})", self.name())
    }
}

impl fmt::Debug for PortTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortTx({})", self.name())
    }
}

impl fmt::Debug for PortRx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortRx({})", self.name())
    }
}

/// An egress queue. Bounded in frames, so a receiver that sleeps costs what a switch's buffer would; the
/// fabric can empty it when the port changes networks, which a channel could not.
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    frames_max: usize,
}

#[derive(Default)]
struct Inner {
    frames: VecDeque<Bytes>,
    waker: Option<Waker>,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(frames_max: usize) -> Queue {
        Queue {
            inner: Mutex::default(),
            frames_max,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False: full or closed, the frame is gone.
    pub(crate) fn push(&self, frame: Bytes) -> bool {
        let waker = {
            let mut inner = self.lock();
            if inner.closed || inner.frames.len() >= self.frames_max {
                return false;
            }
            inner.frames.push_back(frame);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Empties the queue; how many frames that lost.
    pub(crate) fn clear(&self) -> usize {
        let mut inner = self.lock();
        let lost = inner.frames.len();
        inner.frames.clear();
        lost
    }

    pub(crate) fn close(&self) {
        let waker = {
            let mut inner = self.lock();
            inner.closed = true;
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut inner = self.lock();
        match inner.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None if inner.closed => Poll::Ready(None),
            None => {
                match &mut inner.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
        }
    }
}
