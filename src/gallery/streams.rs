//! Bodies that are written piece by piece while the client reads them: they take little memory, however long they are.

use std::io::{self, Write};

use axum::body::{Body, Bytes};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// The size of a piece in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// How many pieces wait for the client.
const PIECES_MAX: usize = 2;

/// What a body is written to. A write waits for the client, and fails once the client is gone.
pub(super) struct Pieces {
    to: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

/// Returns a body that `write` writes, on a thread of its own. If `write` fails, the connection breaks, so that the
/// client does not take the part for the whole.
pub(super) fn body(write: impl FnOnce(&mut Pieces) -> io::Result<()> + Send + 'static) -> Body {
    let (to, pieces) = mpsc::channel(PIECES_MAX);
    // Bounded by the number of connections. It ends with its client.
    tokio::task::spawn_blocking(move || {
        let mut pieces = Pieces { to, piece: Vec::new() };
        if let Err(error) = write(&mut pieces).and_then(|()| pieces.flush()) {
            // The client may be gone.
            drop(pieces.to.blocking_send(Err(error)));
        }
    });
    Body::from_stream(ReceiverStream::new(pieces))
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..n]);
        if self.piece.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        self.to.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_has_all_bytes_or_breaks() {
        let bytes: Vec<u8> = (0..300_001u32).map(|i| i.to_le_bytes()[0]).collect();
        let written = bytes.clone();
        let whole = body(move |out| written.chunks(1000).try_for_each(|part| out.write_all(part)));
        assert_eq!(axum::body::to_bytes(whole, 1 << 20).await.expect("a body"), bytes);
        let broken = body(|out| {
            out.write_all(&vec![1; 100_000])?;
            Err(io::Error::other("as a test"))
        });
        assert!(axum::body::to_bytes(broken, 1 << 20).await.is_err());
    }

    #[tokio::test]
    async fn writing_ends_when_the_client_is_gone() {
        let (ended, end) = tokio::sync::oneshot::channel();
        let endless = body(move |out| {
            let result = (0..1_000_000).try_for_each(|_| out.write_all(&[0; 1000]));
            ended.send(result.is_err()).expect("the test waits");
            result
        });
        drop(endless);
        assert!(end.await.expect("an end"));
    }
}
