//! Answers over the socket. It holds a reader: nothing here can change the store.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::protocol::{ITEMS_PATH, ItemsQuery, RELOAD_PATH, STATUS_PATH, Status};
use crate::ingest::Shared;
use crate::store::{Filter, Reader, StoreError};

/// Items that are read ahead of a slow client.
const ITEMS_AHEAD: usize = 256;

/// What the answers are made from.
pub(crate) struct Answers {
    pub(crate) store: PathBuf,
    pub(crate) reader: Reader,
    pub(crate) shared: Shared,
    /// Reads the configuration again; why it can't be used, if so.
    pub(crate) reload: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// Binds the socket, in the place of one that no process listens on any more.
///
/// # Errors
/// If a process listens there, or the socket can't be made.
pub(crate) async fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(path).await.is_ok() {
                return Err(error);
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
/// If the listener fails.
pub(crate) async fn serve(
    listener: UnixListener,
    answers: Answers,
    stop: CancellationToken,
) -> io::Result<()> {
    let routes = Router::new()
        .route(STATUS_PATH, get(status))
        .route(ITEMS_PATH, get(items))
        .route(RELOAD_PATH, post(reload))
        .with_state(Arc::new(answers));
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
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
    blocking(move || {
        let status =
            Status::new(answers.store.clone(), answers.reader.runs()?, Some(answers.shared.view()));
        Ok(axum::Json(status).into_response())
    })
    .await
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

async fn reload(State(answers): State<Arc<Answers>>) -> Result<Response, Failed> {
    blocking(move || {
        (answers.reload)().map_err(|reason| Failed(StatusCode::CONFLICT, reason))?;
        Ok(StatusCode::NO_CONTENT.into_response())
    })
    .await
}
