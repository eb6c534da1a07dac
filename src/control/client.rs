//! The client of the control API: one method for each request.

use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::protocol::{
    AFTER_HEADER, DAEMON_PATH, Daemon, GALLERY_PATH, GalleryPlace, HEALTH_PATH, Health, ITEMS_PATH,
    ItemsQuery, MISSING_PATH, Missing, PRUNE_PATH, PruneQuery, RELEASE_PATH, RELOAD_PATH,
    REPAIR_PATH, ReleaseQuery, RepairQuery, STATUS_PATH, SYNC_PATH, Status, SyncQuery,
};
use crate::ingest::{ReleaseReport, RepairResult};
use crate::retention::Report;
use crate::sinks::http::policy::use_ring;
use crate::sync::TargetStatus;

/// How long the daemon may take to start an answer to a request that only reads, and how long a part of any answer may
/// take to come.
const READ_ANSWER_MAX: Duration = Duration::from_secs(10);

/// The most items in a page of a list.
const PAGE_ITEMS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);

/// How long the daemon may take to start an answer to a request that changes something.
const CHANGE_ANSWER_MAX: Duration = Duration::from_mins(10);

/// Why a request to the daemon failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon cannot be reached, or the connection broke.
    #[error("daemon at {socket}: {source}")]
    Io {
        /// The daemon's socket.
        socket: String,
        /// The error of the connection.
        source: io::Error,
    },
    /// The daemon refused the request.
    #[error("daemon: {0}")]
    Refused(String),
    /// The answer is not what the request returns: the daemon has another version.
    #[error("cannot read the daemon's answer to {path}: {source}")]
    Malformed {
        /// The request's path.
        path: String,
        /// What is wrong with the JSON.
        source: serde_json::Error,
    },
}

impl ClientError {
    /// Whether the daemon took the request and does not answer.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::TimedOut)
    }

    /// Whether the daemon was reached, and closed the connection before it had answered.
    #[must_use]
    pub fn is_break(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let broken = [BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof];
        matches!(self, Self::Io { source, .. } if broken.contains(&source.kind()))
    }
}

/// A client of the daemon at one socket. Each request has a connection of its own.
#[derive(Debug)]
pub struct Client {
    socket: String,
    runtime: Runtime,
    http: reqwest::Client,
}

impl Client {
    /// A client of the daemon at `socket`. Does not connect yet.
    ///
    /// # Errors
    /// If the runtime or the HTTP client cannot be built.
    pub fn new(socket: &Path) -> Result<Self, ClientError> {
        use_ring();
        let name = socket.display().to_string();
        let failed = |source: io::Error| ClientError::Io { socket: name.clone(), source };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let http = reqwest::Client::builder()
            .unix_socket(socket)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // The daemon closes idle connections. A new one costs nothing on a unix socket.
            .pool_max_idle_per_host(0)
            // The socket carries no TLS, and the machine may have no certificates.
            .tls_certs_only([])
            .build()
            .map_err(|error| failed(io::Error::other(root_cause(&error).to_string())))?;
        Ok(Self { socket: name, runtime, http })
    }

    /// Which daemon answers.
    ///
    /// # Errors
    /// If the daemon cannot be reached or refuses.
    pub fn daemon(&self) -> Result<Daemon, ClientError> {
        self.json(&Method::GET, DAEMON_PATH)
    }

    /// The state of the store and the daemon.
    ///
    /// # Errors
    /// If the daemon cannot be reached or refuses.
    pub fn status(&self) -> Result<Status, ClientError> {
        self.json(&Method::GET, STATUS_PATH)
    }

    /// Whether the daemon is healthy. An unhealthy daemon is not an error.
    ///
    /// # Errors
    /// If the daemon cannot be reached or refuses.
    pub fn health(&self) -> Result<Health, ClientError> {
        self.json(&Method::GET, HEALTH_PATH)
    }

    /// Where the gallery is, with a new login code.
    ///
    /// # Errors
    /// If the daemon cannot be reached or refuses.
    pub fn gallery(&self) -> Result<GalleryPlace, ClientError> {
        self.json(&Method::POST, GALLERY_PATH)
    }

    /// Reloads the daemon's configuration.
    ///
    /// # Errors
    /// If the daemon cannot be reached, or the configuration is invalid.
    pub fn reload(&self) -> Result<(), ClientError> {
        self.runtime.block_on(async {
            let response = self.send(&Method::POST, RELOAD_PATH).await?;
            self.text(response).await.map(drop)
        })
    }

    /// Applies the retention rules or, without `apply`, reports what they would remove.
    ///
    /// # Errors
    /// If the daemon cannot be reached or refuses.
    pub fn prune(&self, apply: bool) -> Result<Report, ClientError> {
        self.json(&Method::POST, &with_query(PRUNE_PATH, &PruneQuery { apply }))
    }

    /// Delivers to targets at once, and returns their state afterwards.
    ///
    /// # Errors
    /// If the daemon cannot be reached or refuses, or knows no such target.
    pub fn sync(&self, query: &SyncQuery) -> Result<Vec<TargetStatus>, ClientError> {
        self.json(&Method::POST, &with_query(SYNC_PATH, query))
    }

    /// Releases held items, and waits until that is done.
    ///
    /// # Errors
    /// If the daemon cannot be reached or refuses.
    pub fn release(&self, mut query: ReleaseQuery) -> Result<ReleaseReport, ClientError> {
        loop {
            let path = with_query(RELEASE_PATH, &query);
            let answer = self.runtime.block_on(async {
                let response = self.send(&Method::POST, &path).await?;
                let is_done = response.status() != StatusCode::ACCEPTED;
                let text = self.text(response).await?;
                Ok::<_, ClientError>(is_done.then_some(text))
            })?;
            match answer {
                Some(text) => return parsed(&path, &text),
                None => query.goes_on = true,
            }
        }
    }

    /// Makes missing and damaged media files again, and waits until that is done.
    ///
    /// # Errors
    /// If the daemon cannot be reached or refuses.
    pub fn repair(&self, query: &RepairQuery) -> Result<Vec<RepairResult>, ClientError> {
        let body = serde_json::to_string(query)
            .map_err(|source| ClientError::Malformed { path: REPAIR_PATH.to_owned(), source })?;
        let text = self.runtime.block_on(async {
            let response = self.send_with(&Method::POST, REPAIR_PATH, Some(body)).await?;
            self.text(response).await
        })?;
        parsed(REPAIR_PATH, &text)
    }

    /// Which name of a query does not exist, and the nearest ones that do; `None` if all exist.
    ///
    /// # Errors
    /// If the daemon cannot be reached or refuses.
    pub fn missing_name(&self, query: &ItemsQuery) -> Result<Option<String>, ClientError> {
        Ok(self.missing(query)?.reason)
    }

    /// The newest step of a key; `None` if the run or the key does not exist, or all of its items were rejected for good.
    ///
    /// # Errors
    /// If the daemon cannot be reached or refuses.
    pub fn last_step(&self, run: &str, key: &str) -> Result<Option<u64>, ClientError> {
        let missing = self.missing(&ItemsQuery::of_newest_step(run, key))?;
        Ok(missing.step_before.or(missing.reason.is_none().then_some(u64::MAX)))
    }

    /// Which name of a query does not exist, and what is near it.
    ///
    /// # Errors
    /// If the daemon cannot be reached or refuses.
    pub fn missing(&self, query: &ItemsQuery) -> Result<Missing, ClientError> {
        self.json(&Method::GET, &with_query(MISSING_PATH, query))
    }

    /// Calls `see` with each matching item. The list is read page by page, so that `see` may take any time. It may send
    /// requests of its own.
    ///
    /// # Errors
    /// If the daemon cannot be reached or refuses, if the connection breaks, or as `see` does.
    pub fn each_item<E: From<ClientError>>(
        &self,
        query: &ItemsQuery,
        mut see: impl FnMut(Value) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut query = ItemsQuery { limit: Some(PAGE_ITEMS), after: None, ..query.clone() };
        loop {
            let path = with_query(ITEMS_PATH, &query);
            let (page, after) = self.runtime.block_on(async {
                let response = self.send(&Method::GET, &path).await?;
                let after = response.headers().get(AFTER_HEADER);
                let after = after.and_then(|after| after.to_str().ok()).map(str::to_owned);
                Ok::<_, ClientError>((self.text(response).await?, after))
            })?;
            for line in page.lines() {
                see(parsed(ITEMS_PATH, line)?)?;
            }
            query.after = after;
            if query.after.is_none() {
                return Ok(());
            }
        }
    }

    fn json<T: DeserializeOwned>(&self, method: &Method, path: &str) -> Result<T, ClientError> {
        let text = self.runtime.block_on(async {
            let response = self.send(method, path).await?;
            self.text(response).await
        })?;
        parsed(path, &text)
    }

    /// Sends a request and waits until its answer starts.
    async fn send(&self, method: &Method, path: &str) -> Result<Response, ClientError> {
        self.send_with(method, path, None).await
    }

    /// Sends a request that may have JSON as its body.
    async fn send_with(
        &self,
        method: &Method,
        path: &str,
        json: Option<String>,
    ) -> Result<Response, ClientError> {
        let patience = if method == Method::GET { READ_ANSWER_MAX } else { CHANGE_ANSWER_MAX };
        let mut request = self.http.request(method.clone(), format!("http://safelight{path}"));
        if let Some(json) = json {
            request = request.header(reqwest::header::CONTENT_TYPE, "application/json").body(json);
        }
        let sent = tokio::time::timeout(patience, request.send()).await;
        sent.map_err(|_| self.silence(patience))?.map_err(|error| self.broken(&error))
    }

    /// The body of an answer.
    async fn text(&self, mut response: Response) -> Result<String, ClientError> {
        let status = response.status();
        let mut bytes = Vec::new();
        loop {
            let chunk = tokio::time::timeout(READ_ANSWER_MAX, response.chunk()).await;
            let chunk = chunk.map_err(|_| self.silence(READ_ANSWER_MAX))?;
            let Some(chunk) = chunk.map_err(|error| self.broken(&error))? else { break };
            bytes.extend(chunk);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        // 503 carries a `Health` that says what is wrong.
        let is_answer = status.is_success() || status == StatusCode::SERVICE_UNAVAILABLE;
        match status {
            _ if is_answer => Ok(text),
            StatusCode::NOT_FOUND => {
                let reason = "it has another version than this command, restart it";
                Err(ClientError::Refused(reason.to_owned()))
            }
            _ => Err(ClientError::Refused(text)),
        }
    }

    fn silence(&self, patience: Duration) -> ClientError {
        let reason = format!("no answer within {} s", patience.as_secs());
        let source = io::Error::new(io::ErrorKind::TimedOut, reason);
        ClientError::Io { socket: self.socket.clone(), source }
    }

    fn broken(&self, error: &reqwest::Error) -> ClientError {
        let cause = root_cause(error);
        let is_cut =
            cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message);
        let of_other = if is_cut { io::ErrorKind::UnexpectedEof } else { io::ErrorKind::Other };
        let kind = cause.downcast_ref::<io::Error>().map_or(of_other, io::Error::kind);
        let source = io::Error::new(kind, cause.to_string());
        ClientError::Io { socket: self.socket.clone(), source }
    }
}

fn with_query(path: &str, query: &impl Serialize) -> String {
    let query = serde_urlencoded::to_string(query);
    format!("{path}?{}", query.expect("queries are flat structs of text, numbers and booleans"))
}

fn parsed<T: DeserializeOwned>(path: &str, text: &str) -> Result<T, ClientError> {
    serde_json::from_str(text)
        .map_err(|source| ClientError::Malformed { path: path.to_owned(), source })
}

/// The innermost cause: the outer layers of reqwest's errors only repeat the URL.
fn root_cause(error: &reqwest::Error) -> &(dyn std::error::Error + 'static) {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}
