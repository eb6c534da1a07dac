//! Threads and memory for requests: each kind of request has a share of its own, so that no kind waits for another.
//!
//! A request takes a thread of its share while its answer is made, and bytes of its share until the client has read the
//! answer. A request that gets none in time is answered with 429.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::routes::Failure;

/// How long a request waits for a thread, and then for memory. Less than the command line waits for an answer.
const WAIT_MAX: Duration = Duration::from_secs(4);

/// The bytes that all answers of one share may take while clients read them. A longer answer is alone.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// Shorter answers take nothing of a share: they fit into a socket's buffer.
const SHORT: usize = 16 << 10;

/// One permit of a share's memory stands for this number of bytes.
const UNIT: usize = 1 << 10;

/// The threads and the memory of one kind of request.
#[derive(Debug, Clone)]
pub(super) struct Share {
    /// The requests, for people.
    name: &'static str,
    threads: Arc<Semaphore>,
    memory: Arc<Semaphore>,
}

/// An answer before it is sent.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) header: Option<(HeaderName, String)>,
    pub(super) body: Vec<u8>,
}

/// The body of an answer, with the memory that it takes of its share until it is sent.
struct Body {
    bytes: Vec<u8>,
    _memory: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Share {
    pub(super) fn new(name: &'static str, n_threads: usize) -> Self {
        let memory = Arc::new(Semaphore::new(ANSWER_BYTES_MAX / UNIT));
        Self { name, threads: Arc::new(Semaphore::new(n_threads)), memory }
    }

    /// Makes an answer on a thread that may block.
    pub(super) async fn answer(
        &self,
        make: impl FnOnce() -> Result<Answer, Failure> + Send + 'static,
    ) -> Result<Response, Failure> {
        let made = self.part(move || {
            let mut answer = make()?;
            Ok((std::mem::take(&mut answer.body), answer))
        });
        let (bytes, Answer { status, content_type, header, body: _ }) = made.await?;
        let mut response = (status, bytes).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
        if let Some((name, value)) = header {
            headers.insert(name, value.try_into().map_err(Failure::internal)?);
        }
        Ok(response)
    }

    /// Makes a part of an answer on a thread that may block.
    pub(super) async fn part<T: Send + 'static>(
        &self,
        make: impl FnOnce() -> Result<(Vec<u8>, T), Failure> + Send + 'static,
    ) -> Result<(Bytes, T), Failure> {
        let thread = self.permit(&self.threads, 1).await?;
        // The thread's place is free again when `make` has ended, also if the client has gone meanwhile.
        let made = tokio::task::spawn_blocking(move || Ok::<_, Failure>((make()?, thread))).await;
        let ((body, rest), thread) = made.map_err(Failure::internal)??;
        let bytes = self.counted(body).await?;
        // Until here, so that few answers wait for memory.
        drop(thread);
        Ok((bytes, rest))
    }

    async fn counted(&self, bytes: Vec<u8>) -> Result<Bytes, Failure> {
        let n_units = bytes.len().min(ANSWER_BYTES_MAX).div_ceil(UNIT);
        let memory = if bytes.len() > SHORT {
            Some(self.permit(&self.memory, n_units).await?)
        } else {
            None
        };
        Ok(Bytes::from_owner(Body { bytes, _memory: memory }))
    }

    async fn permit(&self, of: &Arc<Semaphore>, n: usize) -> Result<OwnedSemaphorePermit, Failure> {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        match timeout(WAIT_MAX, of.clone().acquire_many_owned(n)).await {
            Ok(permit) => permit.map_err(Failure::internal),
            Err(_) => Err(Failure::busy(self.name)),
        }
    }
}
