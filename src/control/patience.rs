//! A stream that breaks when its client leaves an answer unread for too long.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long a client may leave an answer unread, in total.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// A client that reads a long answer gets more time: a second for this number of bytes.
const BYTES_PER_S_MIN: u64 = 64 << 10;

/// A stream whose client must read. Only the time counts in which the daemon has something to write and the client
/// takes nothing.
pub(super) struct PatientStream<S> {
    stream: S,
    /// Bytes that the client has taken.
    n_bytes: u64,
    /// How long writes have waited, without the one that waits now.
    waited: Duration,
    waits_since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl<S> PatientStream<S> {
    pub(super) fn new(stream: S) -> Self {
        let timer = Box::pin(sleep(UNREAD_MAX));
        Self { stream, n_bytes: 0, waited: Duration::ZERO, waits_since: None, timer }
    }

    /// Passes the result of a write on. Returns an error if the write has waited for too long.
    fn check(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let now = Instant::now();
        match written {
            Poll::Ready(written) => {
                self.waited += self.waits_since.take().map_or(Duration::ZERO, |since| now - since);
                if let Ok(n_bytes) = written {
                    self.n_bytes += n_bytes as u64;
                }
                Poll::Ready(written)
            }
            Poll::Pending => {
                if self.waits_since.is_none() {
                    self.waits_since = Some(now);
                    let allowed = UNREAD_MAX + Duration::from_secs(self.n_bytes / BYTES_PER_S_MIN);
                    self.timer.as_mut().reset(now + allowed.saturating_sub(self.waited));
                }
                let reason = "the client did not read its answer";
                let late = || Err(io::Error::new(io::ErrorKind::TimedOut, reason));
                self.timer.as_mut().poll(context).map(|()| late())
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PatientStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.check(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, parts);
        this.check(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PatientStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const BUFFER: usize = 1 << 10;

    /// Writes `n_bytes` to a client that reads a buffer every `pause`. Returns after how many seconds that succeeds or
    /// fails.
    async fn write(n_bytes: usize, pause: Duration) -> (u64, Result<(), io::ErrorKind>) {
        let (stream, mut client) = duplex(BUFFER);
        let reader = tokio::spawn(async move {
            let mut buffer = [0; BUFFER];
            loop {
                tokio::time::sleep(pause).await;
                if client.read(&mut buffer).await.is_ok_and(|n| n == 0) {
                    return;
                }
            }
        });
        let start = Instant::now();
        let written = PatientStream::new(stream).write_all(&vec![0; n_bytes]).await;
        reader.abort();
        (start.elapsed().as_secs(), written.map_err(|error| error.kind()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_cut_off() {
        let never = Duration::from_hours(1);
        assert_eq!(write(BUFFER, never).await, (0, Ok(())));
        assert_eq!(write(2 * BUFFER, never).await, (30, Err(io::ErrorKind::TimedOut)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_a_few_bytes_now_and_then_is_cut_off() {
        let (seconds, written) = write(1 << 20, Duration::from_secs(5)).await;
        assert_eq!((seconds, written), (30, Err(io::ErrorKind::TimedOut)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_at_the_least_rate_gets_a_long_answer() {
        let (seconds, written) = write(16 << 20, Duration::from_millis(10)).await;
        assert!((160..170).contains(&seconds) && written.is_ok(), "{seconds} {written:?}");
    }
}
