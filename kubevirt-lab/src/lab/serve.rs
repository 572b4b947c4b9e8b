//! Accepts connections of any network and serves each in a task of its own.

use std::{future::Future, io};
use steelyard_controller::{Listener, net::BoxedStream, tasks::Tasks};

/// Serves each connection with `serve` until the tasks end.
pub(super) fn each<F>(
    listener: Box<dyn Listener>,
    tasks: &Tasks,
    name: &'static str,
    serve: impl Fn(BoxedStream) -> F + Send + 'static,
) where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    tasks.spawn(name, accept(listener, tasks.clone(), name, serve));
}

/// Accepts for ever.
pub(super) async fn accept<F>(
    mut listener: Box<dyn Listener>,
    owner: Tasks,
    name: &'static str,
    serve: impl Fn(BoxedStream) -> F + Send + 'static,
) where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let work = serve(BoxedStream(stream));
                owner.spawn(name, async move {
                    if let Err(error) = work.await {
                        tracing::debug!(service = name, %peer, %error, "connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(service = name, %error, "accept failed");
                // Out of descriptors, usually; give others time to close theirs.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}
