//! `/api/v1/events`: what changes in the store, as server-sent events.
//!
//! One task looks for changes while any client listens, and tells all of them. Nothing is replayed: a client that
//! connects again asks for what it shows again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use serde::Serialize;
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, sleep, sleep_until};

use super::api::{Changed, Hello, RunChanged};
use super::params::Params;
use super::problem::Failure;
use super::{Gallery, Shared};
use crate::media::RunId;
use crate::store::Extent;

/// The streams that are open, at most.
const STREAMS_MAX: usize = 16;

/// How often changes are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The pause after a look, as a multiple of the time that it took: a store of very many runs takes long.
const PAUSE_FACTOR: u32 = 20;

/// How often a stream says that it is alive.
const COMMENT_EVERY: Duration = Duration::from_secs(15);

/// Looks that a slow client may be behind. Then its stream ends.
const BEHIND_MAX: usize = 32;

pub(super) fn routes() -> Router<Gallery> {
    Router::new().route("/api/v1/events", get(events))
}

/// The streams that are open.
#[derive(Debug)]
pub(super) struct Streams {
    changes: broadcast::Sender<Bytes>,
    n: AtomicUsize,
    opened: Notify,
}

impl Default for Streams {
    fn default() -> Self {
        let changes = broadcast::Sender::new(BEHIND_MAX);
        Self { changes, n: AtomicUsize::new(0), opened: Notify::new() }
    }
}

impl Streams {
    /// Whether any client listens.
    pub(super) fn is_any_open(&self) -> bool {
        self.n.load(Ordering::Relaxed) > 0
    }
}

/// A stream that counts until it is dropped.
struct OpenStream {
    shared: Arc<Shared>,
    changes: broadcast::Receiver<Bytes>,
    next_comment: Instant,
}

impl OpenStream {
    fn new(shared: &Arc<Shared>) -> Option<Self> {
        let n = &shared.streams.n;
        let next = |n| (n < STREAMS_MAX).then_some(n + 1);
        n.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        let changes = shared.streams.changes.subscribe();
        shared.streams.opened.notify_one();
        let next_comment = Instant::now() + COMMENT_EVERY;
        Some(Self { shared: shared.clone(), changes, next_comment })
    }

    /// The next part of the stream; `None` if the client is too slow.
    async fn next(&mut self) -> Option<Bytes> {
        tokio::select! {
            changes = self.changes.recv() => changes.ok(),
            () = sleep_until(self.next_comment) => {
                self.next_comment = Instant::now() + COMMENT_EVERY;
                Some(Bytes::from_static(b":\n\n"))
            }
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.shared.streams.n.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn events(
    State(gallery): State<Gallery>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    Params::of_query(query.as_deref())?.finish()?;
    let Some(open) = OpenStream::new(&gallery.0) else {
        let detail = format!("{STREAMS_MAX} pages listen to events already: close one");
        return Err(Failure::busy_with(detail));
    };
    let mut hello = Vec::new();
    write(&mut hello, "hello", &Hello { boot: gallery.0.boot.clone() });
    let parts = stream::unfold((Some(Bytes::from(hello)), open), |(first, mut open)| async {
        let part = match first {
            Some(first) => first,
            None => open.next().await?,
        };
        Some((Ok::<_, std::convert::Infallible>(part), (None, open)))
    });
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(parts)).into_response())
}

/// Appends an event.
fn write(to: &mut Vec<u8>, name: &str, event: &impl Serialize) {
    let Ok(json) = serde_json::to_string(event) else { return };
    // JSON has no line breaks.
    to.extend_from_slice(format!("event: {name}\ndata: {json}\n\n").as_bytes());
}

/// Looks for changes while any client listens, for ever.
pub(super) async fn watch(gallery: Gallery) {
    let shared = &gallery.0;
    if shared.as_of.is_some() {
        // The index is a copy.
        return std::future::pending().await;
    }
    loop {
        shared.streams.opened.notified().await;
        let mut seen = None;
        while shared.streams.is_any_open() {
            let start = Instant::now();
            let n_changes = shared.reader.n_changes();
            let last: Option<Seen> = seen.take();
            if last.as_ref().is_some_and(|last| last.n_changes == n_changes) {
                seen = last;
            } else if let Ok((now, events)) =
                gallery.read(move |shared| look(shared, n_changes, last.as_ref())).await
            {
                seen = Some(now);
                if !events.is_empty() {
                    // The last client may leave meanwhile.
                    drop(shared.streams.changes.send(events.into()));
                }
            }
            sleep(LOOK_EVERY.max(PAUSE_FACTOR * start.elapsed())).await;
        }
    }
}

/// The store at the last look.
struct Seen {
    n_changes: u64,
    runs: Vec<(RunId, Extent)>,
}

/// Finds what changed since the last look.
fn look(shared: &Shared, n_changes: u64, last: Option<&Seen>) -> Result<(Seen, Vec<u8>), Failure> {
    let now = Seen { n_changes, runs: shared.reader.extents()? };
    let mut events = Vec::new();
    let Some(last) = last else { return Ok((now, events)) };
    let told = |run: &RunId| RunChanged { run: run.as_str().to_owned() };
    for (run, extent) in &now.runs {
        let before = last.runs.binary_search_by(|(of, _)| of.cmp(run)).ok();
        let before = before.map(|at| &last.runs[at].1);
        if before == Some(extent) {
            continue;
        }
        let changes = shared.catalogue.changes(&shared.reader, run)?;
        let is_other = before.is_none_or(|before| before.finished != extent.finished);
        if is_other || changes.is_none() {
            write(&mut events, "run", &told(run));
        }
        for key in changes.into_iter().flatten() {
            write(&mut events, "changed", &Changed { run: run.as_str().to_owned(), key });
        }
    }
    for (run, _) in &last.runs {
        if now.runs.binary_search_by(|(of, _)| of.cmp(run)).is_err() {
            write(&mut events, "run", &told(run));
        }
    }
    Ok((now, events))
}
