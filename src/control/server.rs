//! The listeners of the control API: the unix socket, and TCP for metrics.
//!
//! One accept loop serves both. A client that is slow, silent or sends too much holds one of [`CLIENTS_MAX`] slots for a
//! bounded time.

use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::routes::{self, Answers};

/// How many clients of one listener are served at the same time.
const CLIENTS_MAX: usize = 32;

/// How long a client may take to send a request's head, and how large that may be.
const REQUEST_MAX: Duration = Duration::from_secs(5);
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// How long a connection may last: a client may read a list page by page.
const CONNECTION_MAX: Duration = Duration::from_mins(10);

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
            if UnixStream::connect(path).await.is_ok() {
                return Err(io::Error::new(error.kind(), "another daemon listens there"));
            }
            if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
                return Err(io::Error::new(error.kind(), "the path exists and is not a socket"));
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
    let routes = move |stream: &UnixStream| {
        let may_change = stream
            .peer_cred()
            .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw());
        routes::for_client(routes.clone(), may_change)
    };
    serve(listener, "control socket", routes, stop).await;
}

/// Serves the metrics over TCP until `stop`.
pub(crate) async fn serve_metrics(
    listener: TcpListener,
    answers: Arc<Answers>,
    stop: CancellationToken,
) {
    let routes = routes::metrics_only(answers);
    serve(listener, "metrics", move |_| routes.clone(), stop).await;
}

/// Accepts clients until `stop`, and serves each the routes that it may use. axum's listeners retry a
/// failed accept every second and log nothing. A process without free descriptors logs that where it reads files.
async fn serve<L: Listener>(
    mut listener: L,
    name: &'static str,
    routes_of: impl Fn(&L::Io) -> Router,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let (stream, _) = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            tracing::warn!(
                listener = name,
                clients_max = CLIENTS_MAX,
                "too many clients, refused one"
            );
            continue;
        };
        let routes = routes_of(&stream);
        tokio::spawn(async move {
            serve_client(stream, routes).await;
            drop(slot);
        });
    }
}

/// Answers the requests of one client.
async fn serve_client<S>(stream: S, routes: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // `axum::serve` sets neither of these limits.
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(REQUEST_MAX).max_buf_size(REQUEST_BYTES_MAX);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    match tokio::time::timeout(CONNECTION_MAX, connection).await {
        Ok(Err(error)) => tracing::debug!(%error, "client disconnected early"),
        Err(_) => tracing::debug!("client took too long"),
        Ok(Ok(())) => {}
    }
}
