//! The requests of the control API and their answers. They hold a reader: changes go through other parts of the daemon.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::metrics::{CONTENT_TYPE, Snapshot};
use super::process::ProcessUsage;
use super::protocol::{
    HEALTH_PATH, Health, ITEMS_PATH, ItemsQuery, METRICS_PATH, MISSING_PATH, Missing, PRUNE_PATH,
    PruneQuery, RELEASE_PATH, RELOAD_PATH, REPAIR_PATH, ReleaseQuery, RepairQuery, STATUS_PATH,
    SYNC_PATH, Status, SyncQuery,
};
use crate::ingest::{ReleaseReport, RepairResult, Shared};
use crate::pulse::STALLED;
use crate::retention::Report;
use crate::store::{Filter, Reader, StoreError};
use crate::sync::{SyncError, Targets};

/// How many items are read ahead of a slow client.
const ITEMS_AHEAD: usize = 256;

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
    /// Starts a release or, if `true`, waits for the running one. `None` if it is still running.
    pub(crate) release:
        Box<dyn Fn(Filter, bool) -> Result<Option<ReleaseReport>, String> + Send + Sync>,
    /// Makes damaged media files again.
    pub(crate) repair: Box<dyn Fn(RepairQuery) -> Result<Vec<RepairResult>, String> + Send + Sync>,
}

impl Answers {
    fn status(&self) -> Result<Status, StoreError> {
        let (runs, view) = (self.reader.runs()?, self.shared.ingest_status());
        let daemon = Some((std::process::id(), view));
        let rejected = [self.reader.waiting_items(None)?, self.reader.final_items()?];
        let targets = self.targets.views();
        let status = Status::new(self.store.clone(), runs, daemon, targets, rejected);
        Ok(Status { media: self.reader.findings().status(), ..status })
    }

    fn health(&self) -> Health {
        let stalled = self.shared.pulses.stalled(Instant::now(), STALLED);
        let stalled: Vec<String> = stalled.into_iter().map(|stalled| stalled.thread).collect();
        let (mut view, targets) = (self.shared.ingest_status(), self.targets.views());
        view.problems.extend(self.reader.findings().status().trouble());
        // An index that fails shows elsewhere.
        let waiting = self.reader.waiting_items(Some(WAITING_AGE_MAX)).unwrap_or_default();
        Health::new(&view, &stalled, &self.targets.dead(), &targets, waiting.as_ref())
    }
}

/// Waiting items are trouble as long as their run is at work: it is not finished, and something was made of it
/// within this time. After that, nobody may bring their dumps.
const WAITING_AGE_MAX: Duration = Duration::from_hours(24);

/// All requests.
pub(super) fn control(answers: Arc<Answers>) -> Router {
    Router::new()
        .route(STATUS_PATH, get(status))
        .route(ITEMS_PATH, get(items))
        .route(MISSING_PATH, get(missing))
        .route(HEALTH_PATH, get(health))
        .route(METRICS_PATH, get(metrics))
        .route(RELOAD_PATH, post(reload))
        .route(PRUNE_PATH, post(prune))
        .route(SYNC_PATH, post(sync))
        .route(RELEASE_PATH, post(release))
        .route(REPAIR_PATH, post(repair))
        .with_state(answers)
}

/// The metrics alone.
pub(super) fn metrics_only(answers: Arc<Answers>) -> Router {
    Router::new().route(METRICS_PATH, get(metrics)).with_state(answers)
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
struct Failure(StatusCode, String);

impl Failure {
    fn bad_request(reason: impl fmt::Display) -> Self {
        Self(StatusCode::BAD_REQUEST, reason.to_string())
    }

    fn internal(reason: impl fmt::Display) -> Self {
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

/// Runs `work` on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(Failure::internal)?
}

async fn status(State(answers): State<Arc<Answers>>) -> Result<Response, Failure> {
    blocking(move || Ok(axum::Json(answers.status()?).into_response())).await
}

async fn items(
    State(answers): State<Arc<Answers>>,
    query: Result<Query<ItemsQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query?;
    let filter = Filter::try_from(query).map_err(Failure::bad_request)?;
    let (lines, body) = mpsc::channel(ITEMS_AHEAD);
    let items = blocking(move || Ok(answers.reader.items(&filter)?)).await?;
    tokio::task::spawn_blocking(move || {
        for item in items {
            // An error breaks the answer off, so that the client does not take a part for the whole.
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

async fn missing(
    State(answers): State<Arc<Answers>>,
    query: Result<Query<ItemsQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query?;
    let filter = Filter::try_from(query).map_err(Failure::bad_request)?;
    blocking(move || {
        let missing = answers.reader.missing_name(&filter)?;
        let reason = missing.map(|missing| missing.to_string());
        Ok(axum::Json(Missing { reason }).into_response())
    })
    .await
}

async fn health(State(answers): State<Arc<Answers>>) -> Result<Response, Failure> {
    blocking(move || {
        let health = answers.health();
        let code = if health.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Ok((code, axum::Json(health)).into_response())
    })
    .await
}

async fn metrics(State(answers): State<Arc<Answers>>) -> Result<Response, Failure> {
    blocking(move || {
        let (n_commits, commit_time) = answers.shared.progress.commits();
        let snapshot = Snapshot {
            status: answers.status()?,
            health: answers.health(),
            items: answers.shared.progress.items(),
            commits: (n_commits, commit_time.as_secs_f64()),
            process: ProcessUsage::now(),
            room: answers.reader.room(),
        };
        let text = snapshot.into_text().map_err(Failure::internal)?;
        Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
    })
    .await
}

async fn prune(
    State(answers): State<Arc<Answers>>,
    Extension(may_change): Extension<MayChange>,
    query: Result<Query<PruneQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(PruneQuery { apply }) = query?;
    if apply {
        may_change.check("remove media and dumps")?;
    }
    blocking(move || Ok(axum::Json((answers.prune)(apply)?).into_response())).await
}

async fn sync(
    State(answers): State<Arc<Answers>>,
    Extension(may_change): Extension<MayChange>,
    query: Result<Query<SyncQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query?;
    may_change.check("start a delivery")?;
    blocking(move || match answers.targets.poke(&query.names(), query.retry, SYNC_MAX) {
        Ok(views) => Ok(axum::Json(views).into_response()),
        Err(error @ SyncError::Unknown { .. }) => Err(Failure::bad_request(error)),
        Err(error) => Err(Failure::internal(error)),
    })
    .await
}

async fn release(
    State(answers): State<Arc<Answers>>,
    Extension(may_change): Extension<MayChange>,
    query: Result<Query<ReleaseQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    may_change.check("release held items")?;
    let Query(query) = query?;
    let goes_on = query.goes_on;
    let filter = Filter::try_from(query).map_err(Failure::bad_request)?;
    blocking(move || {
        let report = (answers.release)(filter, goes_on).map_err(Failure::conflict)?;
        Ok(match report {
            Some(report) => axum::Json(report).into_response(),
            None => StatusCode::ACCEPTED.into_response(),
        })
    })
    .await
}

async fn repair(
    State(answers): State<Arc<Answers>>,
    Extension(may_change): Extension<MayChange>,
    query: Result<axum::Json<RepairQuery>, JsonRejection>,
) -> Result<Response, Failure> {
    may_change.check("repair media files")?;
    let axum::Json(query) = query.map_err(|error| Failure::bad_request(error.body_text()))?;
    blocking(move || {
        let results = (answers.repair)(query).map_err(Failure::conflict)?;
        Ok(axum::Json(results).into_response())
    })
    .await
}

async fn reload(
    State(answers): State<Arc<Answers>>,
    Extension(may_change): Extension<MayChange>,
) -> Result<Response, Failure> {
    may_change.check("reload the configuration")?;
    blocking(move || {
        (answers.reload)().map_err(Failure::conflict)?;
        Ok(StatusCode::NO_CONTENT.into_response())
    })
    .await
}
