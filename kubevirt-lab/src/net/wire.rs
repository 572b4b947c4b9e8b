//! Where a stack's frames go: a port of the fabric, or a cable between two stacks.

use std::future::Future;

use bytes::Bytes;
use tokio::sync::mpsc;

/// One end of an Ethernet link. `recv` must be cancel-safe: the stack drops it whenever it is woken by something else.
pub trait Wire: Send {
    /// Sends a frame; never waits. A full link drops, as Ethernet does.
    fn send(&mut self, frame: Bytes);
    /// The next frame; `None` when the other end is gone for good.
    fn recv(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
    /// A frame that is already here. Lets the stack answer a burst with one batch.
    fn try_recv(&mut self) -> Option<Bytes>;
}

impl<W: Wire + ?Sized> Wire for &mut W {
    fn send(&mut self, frame: Bytes) {
        (**self).send(frame);
    }
    fn recv(&mut self) -> impl Future<Output = Option<Bytes>> + Send {
        (**self).recv()
    }
    fn try_recv(&mut self) -> Option<Bytes> {
        (**self).try_recv()
    }
}

/// One end of a cable without a switch.
pub struct Cable {
    to: mpsc::Sender<Bytes>,
    from: mpsc::Receiver<Bytes>,
}

/// Two ends that see each other's frames; each direction holds at most `frames`, more are dropped.
pub fn cable(frames: usize) -> (Cable, Cable) {
    let (to_b, from_a) = mpsc::channel(frames);
    let (to_a, from_b) = mpsc::channel(frames);
    (
        Cable {
            to: to_b,
            from: from_b,
        },
        Cable {
            to: to_a,
            from: from_a,
        },
    )
}

impl Wire for Cable {
    fn send(&mut self, frame: Bytes) {
        // Full or unplugged: the frame is lost.
        let _ = self.to.try_send(frame);
    }
    async fn recv(&mut self) -> Option<Bytes> {
        self.from.recv().await
    }
    fn try_recv(&mut self) -> Option<Bytes> {
        self.from.try_recv().ok()
    }
}

impl Wire for sim_fabric::Port {
    fn send(&mut self, frame: Bytes) {
        sim_fabric::Port::send(self, frame);
    }
    fn recv(&mut self) -> impl Future<Output = Option<Bytes>> + Send {
        sim_fabric::Port::recv(self)
    }
    fn try_recv(&mut self) -> Option<Bytes> {
        sim_fabric::Port::try_recv(self)
    }
}
