//! A stream that breaks when its peer stops taking or sending bytes: a download that nobody reads must not
//! hold a connection for ever.

use crate::net::BoxedStream;
use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

pub(crate) struct StallGuard {
    inner: BoxedStream,
    after: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl StallGuard {
    /// Errors once a pending write has made no progress for `after`.
    pub(crate) fn new(inner: BoxedStream, after: Duration) -> Self {
        StallGuard {
            inner,
            after,
            deadline: Box::pin(tokio::time::sleep(after)),
        }
    }

    /// A write came through: the clock starts again.
    fn progress(&mut self) {
        let next = Instant::now() + self.after;
        self.deadline.as_mut().reset(next);
    }

    fn guard<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match outcome {
            Poll::Ready(done) => {
                self.progress();
                Poll::Ready(done)
            }
            Poll::Pending => match self.deadline.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the peer stopped reading",
                ))),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

impl AsyncRead for StallGuard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_read(cx, buf);
        if outcome.is_ready() {
            // The answer to what was just read may start now; how long a request may take is hyper's matter.
            self.progress();
        }
        outcome
    }
}

impl AsyncWrite for StallGuard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.guard(cx, outcome)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        self.guard(cx, outcome)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.guard(cx, outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn breaks_only_when_nothing_moves() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut guard = StallGuard::new(BoxedStream(Box::new(near)), Duration::from_secs(60));
        let slow_reader = async {
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_secs(40)).await;
                let mut some = [0; 4];
                far.read_exact(&mut some).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(guard.write_all(&[7; 20]), slow_reader);
        written.unwrap();
        let stuck = guard.write_all(&[7; 20]).await.unwrap_err();
        assert_eq!(stuck.kind(), io::ErrorKind::TimedOut);
    }
}
