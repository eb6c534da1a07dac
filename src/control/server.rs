//! The listeners of the control API: the unix socket, and TCP for metrics. The gallery's listener is here, too.
//!
//! One accept loop serves each. A client that is slow, silent or sends too much is disconnected after a bounded time,
//! and no user can take all connections.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::patience::PatientStream;
use super::routes::{self, Answers};
use crate::locks::lock;

/// What a listener allows its clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListenerRules {
    /// What the log calls the listener.
    pub(crate) name: &'static str,
    /// How many connections it has at the same time, and how many of them one user has.
    pub(crate) connections_max: usize,
    pub(crate) connections_of_user_max: usize,
    /// Bytes of a request's head.
    pub(crate) head_bytes_max: usize,
    /// Whether a connection serves several requests. A client that keeps its connection may keep others out.
    pub(crate) keeps_alive: bool,
    /// How long a connection may last.
    pub(crate) connection_max: Option<Duration>,
}

const CONTROL: ListenerRules = ListenerRules {
    name: "control socket",
    connections_max: 256,
    connections_of_user_max: 128,
    head_bytes_max: 64 << 10,
    keeps_alive: false,
    // Only a request that changes something takes this long.
    connection_max: Some(Duration::from_mins(10)),
};

const METRICS: ListenerRules = ListenerRules { name: "metrics", ..CONTROL };

/// How long a client may take to send a request's head, and then its body.
pub(super) const REQUEST_MAX: Duration = Duration::from_secs(5);

/// The buffer of a connection, in bytes.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// What a client reads that has one connection too many.
const REFUSAL: &str = "this user has too many connections to the daemon: try again later";

/// Binds the control socket. Replaces a socket that no process listens on.
///
/// # Errors
/// If a process listens there, the path is no socket, or the socket cannot be made.
pub(crate) async fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
    }
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
                return Err(io::Error::new(error.kind(), "the path exists and is not a socket"));
            }
            // A daemon that is busy or stopped refuses nobody: its queue may be full.
            let answer = UnixStream::connect(path).await.map_err(|error| error.kind());
            if !matches!(answer, Err(io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)) {
                return Err(io::Error::new(error.kind(), "another daemon listens there"));
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        result => result?,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Serves the whole API on the control socket until `stop`.
pub(crate) async fn serve_control(
    listener: UnixListener,
    answers: Arc<Answers>,
    stop: CancellationToken,
) {
    let routes = routes::control(answers);
    let of_client = move |stream: &UnixStream| {
        let user = stream.peer_cred().ok().map(|peer| peer.uid());
        let may_change = [0, rustix::process::geteuid().as_raw()].map(Some).contains(&user);
        (user, routes::for_client(routes.clone(), may_change))
    };
    serve(listener, CONTROL, of_client, stop).await;
}

/// Serves the metrics over TCP until `stop`.
pub(crate) async fn serve_metrics(
    listener: TcpListener,
    answers: Arc<Answers>,
    stop: CancellationToken,
) {
    let routes = routes::metrics_only(answers);
    serve(listener, METRICS, move |_| (None, routes.clone()), stop).await;
}

/// Accepts clients until `stop`, and serves each the routes that it may use. `of_client` returns them, and the user of
/// the client if it is known. axum's listeners retry a failed accept every second and log nothing. A process without
/// free descriptors logs that where it reads files.
pub(crate) async fn serve<L: Listener>(
    mut listener: L,
    rules: ListenerRules,
    of_client: impl Fn(&L::Io) -> (Option<u32>, Router),
    stop: CancellationToken,
) {
    let connections = Arc::new(Connections::default());
    loop {
        let (stream, _) = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (user, routes) = of_client(&stream);
        let connection = Connections::add(&connections, &rules, user);
        if connection.is_none() {
            tracing::warn!(listener = rules.name, user, "too many connections, refused one");
        }
        tokio::spawn(async move {
            let Some(_connection) = connection else {
                let answer = format!(
                    "HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: {}\r\n\r\n{REFUSAL}",
                    REFUSAL.len()
                );
                refuse(stream, &answer).await;
                return;
            };
            serve_client(stream, rules, routes).await;
        });
    }
}

/// Answers a client that has one connection too many. A client whose request is left unread may lose the answer, so
/// that the request is read if it is there.
async fn refuse(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) {
    const UNREAD_MAX: Duration = Duration::from_millis(100);
    // The buffer of a new connection takes it at once.
    drop(tokio::time::timeout(REQUEST_MAX, stream.write_all(answer.as_bytes())).await);
    drop(tokio::time::timeout(UNREAD_MAX, stream.read(&mut [0; 4096])).await);
}

/// The connections of a listener, by user.
#[derive(Debug, Default)]
struct Connections(Mutex<HashMap<Option<u32>, usize>>);

/// A connection that counts until it is dropped.
#[derive(Debug)]
struct Connection {
    all: Arc<Connections>,
    user: Option<u32>,
}

impl Connections {
    /// Counts a connection. `None` if there are too many.
    fn add(all: &Arc<Self>, rules: &ListenerRules, user: Option<u32>) -> Option<Connection> {
        let mut by_user = lock(&all.0);
        let is_full = by_user.values().sum::<usize>() >= rules.connections_max;
        let n_of_user = by_user.get(&user).copied().unwrap_or_default();
        if is_full || n_of_user >= rules.connections_of_user_max {
            return None;
        }
        by_user.insert(user, n_of_user + 1);
        Some(Connection { all: all.clone(), user })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut by_user = lock(&self.all.0);
        match by_user.get_mut(&self.user) {
            Some(n) if *n > 1 => *n -= 1,
            _ => drop(by_user.remove(&self.user)),
        }
    }
}

/// Answers the requests of one client.
async fn serve_client<S>(stream: S, rules: ListenerRules, routes: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // `axum::serve` sets none of these limits.
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(REQUEST_MAX);
    http.max_header_size(rules.head_bytes_max).max_buf_size(BUFFER_BYTES_MAX);
    http.keep_alive(rules.keeps_alive);
    let stream = TokioIo::new(PatientStream::new(stream));
    let connection = http.serve_connection(stream, TowerToHyperService::new(routes));
    let ended = match rules.connection_max {
        Some(max) => tokio::time::timeout(max, connection).await,
        None => Ok(connection.await),
    };
    match ended {
        Ok(Err(error)) => tracing::debug!(%error, "client disconnected early"),
        Err(_) => tracing::debug!("client took too long"),
        Ok(Ok(())) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_takes_all_connections() {
        let all = Arc::new(Connections::default());
        let of = |user| -> Vec<Connection> {
            std::iter::from_fn(|| Connections::add(&all, &CONTROL, Some(user))).collect()
        };
        let first = of(7);
        assert_eq!(first.len(), CONTROL.connections_of_user_max);
        let second = of(8);
        assert_eq!(second.len(), CONTROL.connections_max - CONTROL.connections_of_user_max);
        assert_eq!(of(9).len(), 0);
        drop(first);
        assert_eq!(of(9).len(), CONTROL.connections_of_user_max);
        drop(second);
        assert!(lock(&all.0).is_empty());
    }
}
