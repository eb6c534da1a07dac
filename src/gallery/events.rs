//! `/api/v1/events`: what changes in the store, as server-sent events.
//!
//! One task looks for changes while any client listens, and tells all of them. Nothing is replayed: a client that
//! connects again asks for what it shows again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use rustix::time::{ClockId, clock_gettime};
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

/// How often it is looked what has changed, at most.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often it is looked at least, while there are changes.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(1);

/// How often it is looked, as a multiple of the CPU time of a look: that of very many runs takes long.
const LOOK_FACTOR: u32 = 20;

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

async fn events(State(gallery): State<Gallery>, params: Params) -> Result<Response, Failure> {
    params.finish()?;
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
    let mut changes = shared.reader.changes();
    loop {
        shared.streams.opened.notified().await;
        let mut seen: Option<Arc<Seen>> = None;
        while shared.streams.is_any_open() {
            // Before the look, which may miss changes that come while it lasts.
            changes.mark_unchanged();
            let (start, last) = (Instant::now(), seen.clone());
            // Under load a thread may be long in coming. That is no reason to look more rarely.
            let timed = move |shared: &Shared| {
                let cpu_before = cpu_time();
                let (now, events) = look(shared, last.as_deref())?;
                Ok((now, events, cpu_time().saturating_sub(cpu_before)))
            };
            let Ok((now, events, cpu)) = gallery.read(timed).await else {
                // The next look finds what this one should have.
                sleep(LOOK_EVERY).await;
                continue;
            };
            seen = Some(Arc::new(now));
            if !events.is_empty() {
                // The last client may leave meanwhile.
                drop(shared.streams.changes.send(events.into()));
            }
            sleep_until(start + look_every(cpu)).await;
            if changes.changed().await.is_err() {
                // The index is closed.
                return std::future::pending().await;
            }
        }
    }
}

/// How long after the begin of a look of this CPU time the next one may begin.
fn look_every(cpu: Duration) -> Duration {
    (LOOK_FACTOR * cpu).clamp(LOOK_EVERY, LOOK_EVERY_MAX)
}

/// The CPU time of this thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0))
}

/// The store at the last look.
struct Seen {
    runs: Vec<(RunId, Extent)>,
}

/// Finds what changed since the last look.
fn look(shared: &Shared, last: Option<&Seen>) -> Result<(Seen, Vec<u8>), Failure> {
    let now = Seen { runs: shared.reader.extents()? };
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

#[cfg(test)]
mod tests {
    use super::super::testing::{TestFile, TestStore, get};
    use super::*;
    use crate::media::FileType;

    #[test]
    fn a_long_look_makes_looks_rarer_up_to_a_limit() {
        let every = |ms| look_every(Duration::from_millis(ms)).as_millis();
        assert_eq!((every(0), every(20), every(7000)), (250, 400, 1000));
    }

    #[tokio::test]
    async fn a_change_is_told_soon_though_threads_are_busy() {
        let mut store = TestStore::new();
        let mut image = |step: u64| {
            let bytes = step.to_string();
            store.image(("k", step, 0), TestFile::new(FileType::Png, bytes.as_bytes(), (28, 28)));
            store.gallery()
        };
        let gallery = image(1);
        tokio::spawn(watch(gallery.clone()));
        get(&gallery, "/api/v1/keys?run=a%2Frun", &[]).await;
        let mut open = OpenStream::new(&gallery.0).expect("a stream");
        let mut told = async |image: &mut dyn FnMut(u64) -> Gallery, step: u64| {
            image(step);
            let start = Instant::now();
            let events = open.next().await.expect("events");
            let text = std::str::from_utf8(&events).expect("text");
            assert!(text.contains(&format!("\"last\":{step}")), "{text}");
            start.elapsed()
        };
        // The first look only remembers.
        sleep(2 * LOOK_EVERY).await;
        assert!(told(&mut image, 2).await < Duration::from_millis(1500));
        for _ in 0..super::super::READING_THREADS {
            let gallery = gallery.clone();
            tokio::spawn(async move {
                let busy = |_: &Shared| {
                    std::thread::sleep(Duration::from_millis(600));
                    Ok(())
                };
                gallery.read(busy).await
            });
        }
        // This one waits for a thread, and so does not make the next one wait.
        sleep(Duration::from_millis(50)).await;
        told(&mut image, 3).await;
        assert!(told(&mut image, 4).await < Duration::from_secs(3));
    }
}
