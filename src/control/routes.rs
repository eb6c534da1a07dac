//! The requests of the control API and their answers. They hold a reader: changes go through other parts of the daemon.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, Query, Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream;
use serde::Serialize;

use super::health::HealthSources;
use super::metrics::{CONTENT_TYPE, Snapshot};
use super::process::ProcessUsage;
use super::protocol::{
    AFTER_HEADER, DAEMON_PATH, Daemon, GALLERY_PATH, GalleryPlace, HEALTH_PATH, Health, ITEMS_PATH,
    ItemsQuery, METRICS_PATH, MISSING_PATH, Missing, PRUNE_PATH, PruneQuery, RELEASE_PATH,
    RELOAD_PATH, REPAIR_PATH, ReleaseQuery, RepairQuery, STATUS_PATH, SYNC_PATH, Status, SyncQuery,
};
use super::server::REQUEST_MAX;
use super::shares::{Answer, Share};
use crate::ingest::{ReleaseReport, RepairResult, Shared};
use crate::pulse::STALLED;
use crate::retention::Report;
use crate::store::{Filter, LeftOutRun, ListPlace, PageLimits, Reader, RunSummary, StoreError};
use crate::sync::{SyncError, Targets};

/// The size of a page of items, in bytes. A socket's buffer takes it, so that a client that does not read costs nothing.
const PAGE_BYTES: usize = 128 << 10;

/// The most items in a page, and the longest time that a page is made.
const PAGE_ITEMS: usize = 1000;
const PAGE_MAX: Duration = Duration::from_secs(1);

/// How long a client waits for a delivery to targets.
const SYNC_MAX: Duration = Duration::from_mins(5);

/// The parts of the daemon that answer requests.
pub(crate) struct Answers {
    pub(crate) store: PathBuf,
    pub(crate) reader: Reader,
    pub(crate) shared: Shared,
    pub(crate) targets: Arc<Targets>,
    /// Reloads the configuration. The error says why it is invalid.
    pub(crate) reload: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Reports what retention would remove and, if `true`, removes it.
    pub(crate) prune: Box<dyn Fn(bool) -> Result<Report, StoreError> + Send + Sync>,
    /// Why retention rests, if it does.
    pub(crate) retention_trouble: Box<dyn Fn() -> Option<String> + Send + Sync>,
    /// Starts a release or, if `true`, waits for the running one. `None` if it is still running.
    pub(crate) release:
        Box<dyn Fn(Filter, bool) -> Result<Option<ReleaseReport>, String> + Send + Sync>,
    /// Says where the gallery is, with a new login code.
    pub(crate) gallery: Box<dyn Fn() -> Result<GalleryPlace, String> + Send + Sync>,
    /// Makes damaged media files again.
    pub(crate) repair: Box<dyn Fn(RepairQuery) -> Result<Vec<RepairResult>, String> + Send + Sync>,
}

impl Answers {
    fn status(&self) -> Result<Status, StoreError> {
        self.status_of(self.reader.runs()?)
    }

    fn status_of(&self, runs: Vec<RunSummary>) -> Result<Status, StoreError> {
        let daemon = Some((std::process::id(), self.shared.ingest_status()));
        let rejected = [self.reader.waiting_items(None)?, self.reader.final_items()?];
        let targets = self.targets.views();
        let status = Status::new(self.store.clone(), runs, daemon, targets, rejected);
        let (media, left_out) = (self.reader.findings().status(), self.reader.left_out().all());
        Ok(Status { media, left_out, ..status })
    }

    fn health(&self) -> Health {
        let stalled = self.shared.pulses.stalled(Instant::now(), STALLED);
        let media = self.reader.findings().status().trouble();
        let left_out = self.reader.left_out().all();
        Health::new(HealthSources {
            ingest: self.shared.ingest_status(),
            stalled: stalled.into_iter().map(|stalled| stalled.thread).collect(),
            dead_targets: self.targets.dead(),
            targets: self.targets.views(),
            // An index that fails shows elsewhere.
            waiting: self.reader.waiting_items(Some(WAITING_AGE_MAX)).unwrap_or_default(),
            store: media.into_iter().chain(left_out.iter().map(LeftOutRun::trouble)).collect(),
            retention: (self.retention_trouble)(),
        })
    }
}

/// Waiting items are trouble as long as their run is at work: it is not finished, and something was made of it
/// within this time. After that, nobody may bring their dumps.
const WAITING_AGE_MAX: Duration = Duration::from_hours(24);

/// A part of the daemon's state for each request.
#[derive(Clone)]
struct Api {
    answers: Arc<Answers>,
    shares: Shares,
}

/// What each kind of request may take.
#[derive(Clone)]
struct Shares {
    health: Share,
    status: Share,
    lists: Share,
    prune: Share,
    sync: Share,
    release: Share,
    repair: Share,
    reload: Share,
}

/// The threads of all shares of the control socket, and of the metrics port.
pub(crate) const THREADS_MAX: usize = 18;

impl Shares {
    fn new() -> Self {
        Self {
            health: Share::new("health", 2),
            status: Share::new("status and metrics", 2),
            // An item can be large, and takes more memory while its line is read.
            lists: Share::new("lists", 2),
            prune: Share::new("prune", 2),
            sync: Share::new("sync", 4),
            release: Share::new("release", 2),
            repair: Share::new("repair", 2),
            // A reload waits for an earlier one.
            reload: Share::new("reload", 2),
        }
    }
}

/// All requests.
pub(super) fn control(answers: Arc<Answers>) -> Router {
    Router::new()
        .route(DAEMON_PATH, get(daemon))
        .route(STATUS_PATH, get(status))
        .route(ITEMS_PATH, get(items))
        .route(MISSING_PATH, get(missing))
        .route(HEALTH_PATH, get(health))
        .route(METRICS_PATH, get(metrics))
        .route(GALLERY_PATH, post(gallery))
        .route(RELOAD_PATH, post(reload))
        .route(PRUNE_PATH, post(prune))
        .route(SYNC_PATH, post(sync))
        .route(RELEASE_PATH, post(release))
        .route(REPAIR_PATH, post(repair))
        .with_state(Api { answers, shares: Shares::new() })
}

/// The metrics alone.
pub(super) fn metrics_only(answers: Arc<Answers>) -> Router {
    let api = Api { answers, shares: Shares::new() };
    Router::new().route(METRICS_PATH, get(metrics)).with_state(api)
}

/// The routes as one client may use them.
pub(super) fn for_client(routes: Router, may_change: bool) -> Router {
    routes.layer(Extension(MayChange(may_change)))
}

/// Whether the client may change something.
#[derive(Debug, Clone, Copy)]
struct MayChange(bool);

impl MayChange {
    fn check(self, what: &str) -> Result<(), Failure> {
        let reason = || format!("only root and the daemon's own user may {what}");
        self.0.then_some(()).ok_or_else(|| Failure(StatusCode::FORBIDDEN, reason()))
    }
}

/// A request that failed, with the reason as text.
#[derive(Debug)]
pub(super) struct Failure(StatusCode, String);

impl Failure {
    /// `what` names requests of one kind.
    pub(super) fn busy(what: &str) -> Self {
        let reason = format!("the daemon is busy with other requests ({what}): try again later");
        Self(StatusCode::TOO_MANY_REQUESTS, reason)
    }

    fn bad_request(reason: impl fmt::Display) -> Self {
        Self(StatusCode::BAD_REQUEST, reason.to_string())
    }

    pub(super) fn internal(reason: impl fmt::Display) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, reason.to_string())
    }

    fn conflict(reason: String) -> Self {
        Self(StatusCode::CONFLICT, reason)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::internal(error)
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

/// An answer in JSON.
fn json(answer: &impl Serialize) -> Result<Answer, Failure> {
    let body = serde_json::to_vec(answer).map_err(Failure::internal)?;
    Ok(Answer { status: StatusCode::OK, content_type: "application/json", header: None, body })
}

/// An answer without a body.
#[expect(clippy::unnecessary_wraps, reason = "as `json` returns it")]
fn empty(status: StatusCode) -> Result<Answer, Failure> {
    Ok(Answer { status, content_type: "text/plain", header: None, body: Vec::new() })
}

async fn daemon(State(Api { answers, .. }): State<Api>) -> axum::Json<Daemon> {
    let (version, store) = (env!("CARGO_PKG_VERSION").to_owned(), answers.store.clone());
    axum::Json(Daemon { version, pid: std::process::id(), store })
}

async fn status(State(Api { answers, shares }): State<Api>) -> Result<Response, Failure> {
    shares.status.answer(move || json(&answers.status()?)).await
}

/// A page of items as JSON Lines, and where the list goes on.
fn page(
    reader: &Reader,
    filter: &Filter,
    from: Option<ListPlace>,
    n_items: usize,
) -> Result<(Vec<u8>, Option<ListPlace>), Failure> {
    let until = Instant::now() + PAGE_MAX;
    let limits = PageLimits {
        n_items: n_items.clamp(1, PAGE_ITEMS),
        n_bytes: PAGE_BYTES,
        until,
        n_looked_at: u64::MAX,
    };
    let page = reader.page(filter, from, &limits)?;
    let mut lines = Vec::with_capacity(PAGE_BYTES);
    for (run, entry) in page.items {
        serde_json::to_writer(&mut lines, &entry.to_json(&run)).map_err(Failure::internal)?;
        lines.push(b'\n');
    }
    Ok((lines, page.next))
}

async fn items(
    State(Api { answers, shares }): State<Api>,
    query: Result<Query<ItemsQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query?;
    let (limit, after) = (query.limit, query.after.clone());
    let filter = Filter::try_from(query).map_err(Failure::bad_request)?;
    let from = after.map(|after| ListPlace::from_text(&after).ok_or(after)).transpose();
    let from = from.map_err(|after| {
        Failure::bad_request(format!("got after {after:?}, want the {AFTER_HEADER} of a page"))
    })?;
    let content_type = "application/jsonl";
    if let Some(limit) = limit {
        let make = move || {
            let (body, next) = page(&answers.reader, &filter, from, limit.get())?;
            let header = next.map(|next| (HeaderName::from_static(AFTER_HEADER), next.to_text()));
            Ok(Answer { status: StatusCode::OK, content_type, header, body })
        };
        return shares.lists.answer(make).await;
    }
    // An error breaks the answer off, so that the client does not take a part for the whole.
    let pages = stream::try_unfold(Some(from), move |from| {
        let (answers, lists, filter) = (answers.clone(), shares.lists.clone(), filter.clone());
        async move {
            let Some(from) = from else { return Ok(None) };
            let made = lists.part(move || page(&answers.reader, &filter, from, PAGE_ITEMS)).await;
            let (lines, next) = made.map_err(|Failure(_, reason)| std::io::Error::other(reason))?;
            Ok::<_, std::io::Error>(Some((lines, next.map(Some))))
        }
    });
    Ok(([(header::CONTENT_TYPE, content_type)], Body::from_stream(pages)).into_response())
}

async fn missing(
    State(Api { answers, shares }): State<Api>,
    query: Result<Query<ItemsQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query?;
    let filter = Filter::try_from(query).map_err(Failure::bad_request)?;
    let make = move || {
        let missing = answers.reader.missing_name(&filter)?;
        json(&missing.map(Missing::from).unwrap_or_default())
    };
    shares.lists.answer(make).await
}

async fn health(State(Api { answers, shares }): State<Api>) -> Result<Response, Failure> {
    let make = move || {
        let health = answers.health();
        let status = if health.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Ok(Answer { status, ..json(&health)? })
    };
    shares.health.answer(make).await
}

async fn metrics(State(Api { answers, shares }): State<Api>) -> Result<Response, Failure> {
    let make = move || {
        let (n_commits, commit_time) = answers.shared.progress.commits();
        let snapshot = Snapshot {
            status: answers.status_of(answers.reader.run_counts()?)?,
            health: answers.health(),
            items: answers.shared.progress.items(),
            commits: (n_commits, commit_time.as_secs_f64()),
            process: ProcessUsage::now(),
            room: answers.reader.room(),
        };
        let body = snapshot.into_text().map_err(Failure::internal)?.into_bytes();
        Ok(Answer { status: StatusCode::OK, content_type: CONTENT_TYPE, header: None, body })
    };
    shares.status.answer(make).await
}

/// Who may ask the daemon at all may look at its images.
async fn gallery(
    State(Api { answers, .. }): State<Api>,
) -> Result<axum::Json<GalleryPlace>, Failure> {
    (answers.gallery)().map(axum::Json).map_err(Failure::internal)
}

async fn prune(
    State(Api { answers, shares }): State<Api>,
    Extension(may_change): Extension<MayChange>,
    query: Result<Query<PruneQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(PruneQuery { apply }) = query?;
    if apply {
        may_change.check("remove media and dumps")?;
    }
    shares.prune.answer(move || json(&(answers.prune)(apply)?)).await
}

async fn sync(
    State(Api { answers, shares }): State<Api>,
    Extension(may_change): Extension<MayChange>,
    query: Result<Query<SyncQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query?;
    may_change.check("start a delivery")?;
    let make = move || match answers.targets.poke(&query.names(), query.retry, SYNC_MAX) {
        Ok(views) => json(&views),
        Err(error @ SyncError::Unknown { .. }) => Err(Failure::bad_request(error)),
        Err(error) => Err(Failure::internal(error)),
    };
    shares.sync.answer(make).await
}

async fn release(
    State(Api { answers, shares }): State<Api>,
    Extension(may_change): Extension<MayChange>,
    query: Result<Query<ReleaseQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    may_change.check("release held items")?;
    let Query(query) = query?;
    let goes_on = query.goes_on;
    let filter = Filter::try_from(query).map_err(Failure::bad_request)?;
    let make = move || {
        let report = (answers.release)(filter, goes_on).map_err(Failure::conflict)?;
        report.map_or_else(|| empty(StatusCode::ACCEPTED), |report| json(&report))
    };
    shares.release.answer(make).await
}

async fn repair(
    State(Api { answers, shares }): State<Api>,
    Extension(may_change): Extension<MayChange>,
    request: Request,
) -> Result<Response, Failure> {
    may_change.check("repair media files")?;
    let read = axum::Json::from_request(request, &());
    let Ok(query) = tokio::time::timeout(REQUEST_MAX, read).await else {
        return Err(Failure::bad_request(format!(
            "the request's body did not come within {} s",
            REQUEST_MAX.as_secs()
        )));
    };
    let axum::Json(query) =
        query.map_err(|error: JsonRejection| Failure::bad_request(error.body_text()))?;
    let make = move || json(&(answers.repair)(query).map_err(Failure::conflict)?);
    shares.repair.answer(make).await
}

async fn reload(
    State(Api { answers, shares }): State<Api>,
    Extension(may_change): Extension<MayChange>,
) -> Result<Response, Failure> {
    may_change.check("reload the configuration")?;
    let make = move || {
        (answers.reload)().map_err(Failure::conflict)?;
        empty(StatusCode::NO_CONTENT)
    };
    shares.reload.answer(make).await
}
