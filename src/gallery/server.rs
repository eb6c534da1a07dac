//! The gallery's socket, and the thread that serves it.
//!
//! The thread has a runtime of its own: a slow client of the gallery delays nothing else, and nothing else delays the
//! gallery.

use std::io;
use std::net;
use std::os::unix::net as unix;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::serve::ListenerExt;
use futures_util::future::Either;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::{Gallery, events, fleet, guard, routes};
use crate::config::{GalleryConfig, GalleryListen};
use crate::control::server::{self, ListenerRules};

const RULES: ListenerRules = ListenerRules {
    name: "gallery",
    connections_max: 64,
    connections_of_user_max: 64,
    head_bytes_max: 16 << 10,
    keeps_alive: true,
    // A page listens to events for as long as it is open.
    connection_max: None,
};

/// How often runs that nobody looks at are looked for.
const DROP_IDLE_EVERY: Duration = Duration::from_secs(15);

/// A bound socket.
#[derive(Debug)]
pub(crate) enum Listening {
    Tcp(net::TcpListener),
    /// The path is that of a socket that this process made.
    Unix(unix::UnixListener, Option<PathBuf>),
}

/// Binds the gallery's socket.
///
/// # Errors
/// If another process has the place, the system refuses it, or the settings leave a port open to others.
pub(crate) async fn bind(listen: &GalleryListen, config: &GalleryConfig) -> io::Result<Listening> {
    match listen {
        GalleryListen::Unix(path) => {
            let listener = server::bind(path).await?.into_std()?;
            Ok(Listening::Unix(listener, Some(path.clone())))
        }
        GalleryListen::Tcp(address) => {
            if !address.ip().is_loopback() && (config.token.is_none() || config.hosts.is_empty()) {
                let want = "an address that other machines reach needs `gallery.token` and `gallery.hosts`";
                return Err(io::Error::other(want));
            }
            Ok(Listening::Tcp(net::TcpListener::bind(address)?))
        }
        GalleryListen::Systemd => of_systemd(),
    }
}

/// The socket that systemd passed to the process.
fn of_systemd() -> io::Result<Listening> {
    let mut passed = listenfd::ListenFd::from_env();
    // It is a unix socket, or else a TCP socket.
    if let Ok(Some(listener)) = passed.take_unix_listener(0) {
        return Ok(Listening::Unix(listener, None));
    }
    match passed.take_tcp_listener(0)? {
        Some(listener) => Ok(Listening::Tcp(listener)),
        None => Err(io::Error::other(
            "systemd passed no socket: want safelight-gallery.socket, enabled and started before the service",
        )),
    }
}

impl Listening {
    /// Whether clients must log in. Who may open a unix socket needs no login.
    pub(crate) fn needs_login(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// Where it listens.
    pub(crate) fn place(&self) -> GalleryListen {
        let place = match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(GalleryListen::Tcp),
            Self::Unix(listener, _) => listener
                .local_addr()
                .ok()
                .and_then(|address| Some(GalleryListen::Unix(address.as_pathname()?.to_owned()))),
        };
        place.unwrap_or(GalleryListen::Systemd)
    }
}

/// A socket that is served until this is dropped.
pub(crate) struct RunningGallery {
    stop: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
    socket: Option<PathBuf>,
    ready: Arc<OnceLock<Router>>,
    opened: Option<oneshot::Sender<Gallery>>,
}

/// Serves a socket on a thread of its own. Until [`RunningGallery::open`], the answer is that the daemon is starting.
///
/// # Errors
/// If the system has no thread, or the socket cannot be used.
pub(crate) fn serve(listening: Listening) -> io::Result<RunningGallery> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = CancellationToken::new();
    let ready = Arc::<OnceLock<Router>>::default();
    let (opened, is_open) = oneshot::channel();
    let (stopped, mut socket) = (stop.clone(), None);
    let starting = Router::new().fallback(guard::starting);
    let routes = ready.clone();
    let routes = move || routes.get().unwrap_or(&starting).clone();
    let entered = runtime.enter();
    let serving = match listening {
        Listening::Tcp(listener) => {
            listener.set_nonblocking(true)?;
            // An answer's head and body leave apart. Without this, the body can wait 40 ms for the head's receipt.
            let listener = TcpListener::from_std(listener)?.tap_io(|stream| {
                drop(stream.set_nodelay(true));
            });
            Either::Left(server::serve(listener, RULES, move |_| (None, routes()), stopped))
        }
        Listening::Unix(listener, path) => {
            socket = path;
            listener.set_nonblocking(true)?;
            let listener = UnixListener::from_std(listener)?;
            Either::Right(server::serve(listener, RULES, move |_| (None, routes()), stopped))
        }
    };
    drop(entered);
    let serve = move || {
        runtime.block_on(async move {
            tokio::select! {
                () = serving => {}
                () = follow(is_open) => {}
            }
        });
        runtime.shutdown_background();
    };
    let thread = thread::Builder::new().name("gallery".to_owned()).spawn(serve)?;
    Ok(RunningGallery { stop, thread: Some(thread), socket, ready, opened: Some(opened) })
}

impl RunningGallery {
    /// Answers for a store from now on.
    pub(crate) fn open(&mut self, gallery: &Gallery) {
        // The thread ends with this value only.
        drop(self.ready.set(routes(gallery)));
        if let Some(opened) = self.opened.take() {
            drop(opened.send(gallery.clone()));
        }
    }
}

/// Does what no request waits for, for ever.
async fn follow(is_open: oneshot::Receiver<Gallery>) {
    let Ok(gallery) = is_open.await else { return std::future::pending().await };
    tokio::join!(
        keep_small(gallery.clone()),
        fleet::follow(gallery.clone()),
        events::watch(gallery)
    );
}

/// Drops what nobody looks at, for ever.
async fn keep_small(gallery: Gallery) {
    let mut ticks = interval(DROP_IDLE_EVERY);
    loop {
        ticks.tick().await;
        // A page that is open may show a run without asking for it.
        if !gallery.0.streams.is_any_open() && gallery.0.catalogue.drop_idle(Instant::now()) {
            gallery.0.known_runs.clear();
        }
    }
}

impl Drop for RunningGallery {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic was printed by its thread.
            drop(thread.join());
        }
        if let Some(socket) = self.socket.take() {
            // Someone may have removed it.
            drop(std::fs::remove_file(socket));
        }
    }
}
