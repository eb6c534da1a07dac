//! Answers over the socket. It holds a reader: what changes the store is asked of others.

use std::fmt;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::metrics::{CONTENT_TYPE, Process, Snapshot};
use super::protocol::{
    HEALTH_PATH, Health, ITEMS_PATH, ItemsQuery, METRICS_PATH, PRUNE_PATH, PruneQuery,
    RELEASE_PATH, RELOAD_PATH, ReleaseQuery, STATUS_PATH, SYNC_PATH, Status, SyncQuery,
};
use crate::daemon::STALLED;
use crate::ingest::{ReleaseReport, Shared};
use crate::retention::Report;
use crate::store::{Filter, Reader, StoreError};
use crate::sync::{SyncError, Targets};

/// Items that are read ahead of a slow client.
const ITEMS_AHEAD: usize = 256;

/// Clients that are answered at the same time.
const CLIENTS_MAX: usize = 32;

/// How long a client may take to say what it wants, and in how many bytes.
const REQUEST_MAX: Duration = Duration::from_secs(5);
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// How long a client may take to read its answers: somebody may read a list page by page.
const CONVERSATION_MAX: Duration = Duration::from_mins(10);

/// How long a client waits for targets to be delivered to.
const SYNC_MAX: Duration = Duration::from_mins(5);

/// How long the listener rests after a failure.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// What the answers are made from.
pub(crate) struct Answers {
    pub(crate) store: PathBuf,
    pub(crate) reader: Reader,
    pub(crate) shared: Shared,
    pub(crate) targets: Arc<Targets>,
    /// Reads the configuration again; why it can't be used, if so.
    pub(crate) reload: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Has retention look for what may go and, if told so, remove it.
    pub(crate) prune: Box<dyn Fn(bool) -> Result<Report, StoreError> + Send + Sync>,
    /// Has what was held back released, or goes on waiting for that; none while it is not done.
    pub(crate) release:
        Box<dyn Fn(Filter, bool) -> Result<Option<ReleaseReport>, String> + Send + Sync>,
}

impl Answers {
    fn status(&self) -> Result<Status, StoreError> {
        let (runs, view) = (self.reader.runs()?, self.shared.ingest_status());
        Ok(Status::new(self.store.clone(), runs, Some(view), self.targets.views()))
    }

    fn health(&self) -> Health {
        let stalled = self.shared.pulses.stalled(Instant::now(), STALLED);
        let stalled: Vec<String> = stalled.into_iter().map(|stalled| stalled.thread).collect();
        Health::new(&self.shared.ingest_status(), &stalled, &self.targets.dead())
    }
}

/// Binds the socket, in the place of one that no process listens on any more.
///
/// # Errors
/// If a process listens there, or the socket can't be made.
pub(crate) async fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    }
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(path).await.is_ok() {
                return Err(io::Error::new(error.kind(), "a daemon answers there already"));
            }
            if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
                return Err(io::Error::new(error.kind(), "there is something else than a socket"));
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        result => result?,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Answers until `stop`.
///
/// # Errors
/// If the listener fails for good.
pub(crate) async fn serve(
    listener: UnixListener,
    answers: Arc<Answers>,
    stop: CancellationToken,
) -> io::Result<()> {
    let routes = Router::new()
        .route(STATUS_PATH, get(status))
        .route(ITEMS_PATH, get(items))
        .route(HEALTH_PATH, get(health))
        .route(METRICS_PATH, get(metrics))
        .route(RELOAD_PATH, post(reload))
        .route(PRUNE_PATH, post(prune))
        .route(SYNC_PATH, post(sync))
        .route(RELEASE_PATH, post(release))
        .with_state(answers);
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    let mut refused = None;
    loop {
        let (stream, place) = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    refused = None;
                    (stream, places.clone().try_acquire_owned())
                }
                Err(error) => {
                    // No descriptor is left, say: there may be one a moment later.
                    if refused.replace(error.kind()) != Some(error.kind()) {
                        tracing::warn!(%error, "cannot accept clients");
                    }
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            },
        };
        let Ok(place) = place else {
            tracing::warn!(clients_max = CLIENTS_MAX, "too many clients, one is turned away");
            continue;
        };
        let may_change = stream
            .peer_cred()
            .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw());
        let routes = routes.clone().layer(Extension(MayChange(may_change)));
        tokio::spawn(async move {
            converse(stream, routes).await;
            drop(place);
        });
    }
}

/// Answers Prometheus over TCP until `stop`.
///
/// # Errors
/// If the listener fails for good.
pub(crate) async fn serve_metrics(
    listener: TcpListener,
    answers: Arc<Answers>,
    stop: CancellationToken,
) -> io::Result<()> {
    let routes = Router::new().route(METRICS_PATH, get(metrics)).with_state(answers);
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match (accepted, places.clone().try_acquire_owned()) {
            (Ok((stream, _)), Ok(place)) => {
                let routes = routes.clone();
                tokio::spawn(async move {
                    converse(stream, routes).await;
                    drop(place);
                });
            }
            (Ok(_), Err(_)) => {
                tracing::warn!(clients_max = CLIENTS_MAX, "too many ask for metrics");
            }
            (Err(error), _) => {
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// One client's requests and their answers.
async fn converse<S>(stream: S, routes: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(REQUEST_MAX).max_buf_size(REQUEST_BYTES_MAX);
    let conversation =
        http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    match tokio::time::timeout(CONVERSATION_MAX, conversation).await {
        Ok(Err(error)) => tracing::debug!(%error, "client broke off"),
        Err(_) => tracing::debug!("client took too long"),
        Ok(Ok(())) => {}
    }
}

/// Whether the client may change something.
#[derive(Debug, Clone, Copy)]
struct MayChange(bool);

impl MayChange {
    fn check(self, what: &str) -> Result<(), Failed> {
        let reason = || format!("only root and the daemon's own user may {what}");
        self.0.then_some(()).ok_or_else(|| Failed(StatusCode::FORBIDDEN, reason()))
    }
}

/// A request that failed: the reason as text.
struct Failed(StatusCode, String);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failed> + Send + 'static,
) -> Result<T, Failed> {
    let failed = |error: tokio::task::JoinError| {
        Failed(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    };
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

async fn status(State(answers): State<Arc<Answers>>) -> Result<Response, Failed> {
    blocking(move || Ok(axum::Json(answers.status()?).into_response())).await
}

async fn items(
    State(answers): State<Arc<Answers>>,
    query: Result<Query<ItemsQuery>, QueryRejection>,
) -> Result<Response, Failed> {
    let bad = |reason: String| Failed(StatusCode::BAD_REQUEST, reason);
    let Query(query) = query.map_err(|rejection| bad(rejection.body_text()))?;
    let filter = Filter::try_from(query).map_err(|error| bad(error.to_string()))?;
    let (lines, body) = mpsc::channel(ITEMS_AHEAD);
    let items = blocking({
        let reader = answers.reader.clone();
        move || Ok(reader.items(&filter)?)
    })
    .await?;
    tokio::task::spawn_blocking(move || {
        for item in items {
            // An error breaks the answer off, so that it can't pass for a whole one.
            let line = item.map(|(run, entry)| Bytes::from(format!("{}\n", entry.to_json(&run))));
            let is_last = line.is_err();
            if lines.blocking_send(line).is_err() || is_last {
                break;
            }
        }
    });
    let json_lines = [(header::CONTENT_TYPE, "application/jsonl")];
    Ok((json_lines, Body::from_stream(ReceiverStream::new(body))).into_response())
}

async fn health(State(answers): State<Arc<Answers>>) -> Response {
    let health = answers.health();
    let code = if health.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, axum::Json(health)).into_response()
}

async fn metrics(State(answers): State<Arc<Answers>>) -> Result<Response, Failed> {
    blocking(move || {
        let (n_commits, commit_time) = answers.shared.progress.commits();
        let snapshot = Snapshot {
            status: answers.status()?,
            health: answers.health(),
            items: answers.shared.progress.items(),
            commits: (n_commits, commit_time.as_secs_f64()),
            process: process(),
            room: answers.reader.room(),
        };
        let failed =
            |error: fmt::Error| Failed(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
        Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], snapshot.into_text().map_err(failed)?)
            .into_response())
    })
    .await
}

/// What this process takes, as the kernel tells; what it doesn't tell is 0.
fn process() -> Process {
    let seconds = |time: rustix::time::Timespec| {
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        )
        .as_secs_f64()
    };
    let of_status = |name: &str| {
        let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    let n_fds = std::fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count() as u64);
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Process {
        cpu_s: seconds(cpu),
        resident_bytes: 1024 * of_status("VmRSS"),
        n_fds,
        n_threads: of_status("Threads"),
    }
}

async fn prune(
    State(answers): State<Arc<Answers>>,
    Extension(may_change): Extension<MayChange>,
    query: Result<Query<PruneQuery>, QueryRejection>,
) -> Result<Response, Failed> {
    let bad = |rejection: QueryRejection| Failed(StatusCode::BAD_REQUEST, rejection.body_text());
    let Query(PruneQuery { apply }) = query.map_err(bad)?;
    if apply {
        may_change.check("have it remove something")?;
    }
    blocking(move || Ok(axum::Json((answers.prune)(apply)?).into_response())).await
}

async fn sync(
    State(answers): State<Arc<Answers>>,
    Extension(may_change): Extension<MayChange>,
    query: Result<Query<SyncQuery>, QueryRejection>,
) -> Result<Response, Failed> {
    let bad = |reason: String| Failed(StatusCode::BAD_REQUEST, reason);
    let Query(query) = query.map_err(|rejection| bad(rejection.body_text()))?;
    may_change.check("have it deliver")?;
    blocking(move || match answers.targets.poke(&query.names(), query.retry, SYNC_MAX) {
        Ok(views) => Ok(axum::Json(views).into_response()),
        Err(error @ SyncError::Unknown { .. }) => Err(bad(error.to_string())),
        Err(error) => Err(Failed(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    })
    .await
}

async fn release(
    State(answers): State<Arc<Answers>>,
    Extension(may_change): Extension<MayChange>,
    query: Result<Query<ReleaseQuery>, QueryRejection>,
) -> Result<Response, Failed> {
    may_change.check("have it release something")?;
    let bad = |reason: String| Failed(StatusCode::BAD_REQUEST, reason);
    let Query(query) = query.map_err(|rejection| bad(rejection.body_text()))?;
    let goes_on = query.goes_on;
    let filter = Filter::try_from(query).map_err(|error| bad(error.to_string()))?;
    blocking(move || {
        let released = (answers.release)(filter, goes_on);
        let report = released.map_err(|reason| Failed(StatusCode::CONFLICT, reason))?;
        Ok(match report {
            Some(report) => axum::Json(report).into_response(),
            None => StatusCode::ACCEPTED.into_response(),
        })
    })
    .await
}

async fn reload(
    State(answers): State<Arc<Answers>>,
    Extension(may_change): Extension<MayChange>,
) -> Result<Response, Failed> {
    may_change.check("have it read its configuration again")?;
    blocking(move || {
        (answers.reload)().map_err(|reason| Failed(StatusCode::CONFLICT, reason))?;
        Ok(StatusCode::NO_CONTENT.into_response())
    })
    .await
}
