//! The daemon of a store: where it listens, and whether it answers.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;

use super::args::Common;
use crate::config::Config;
use crate::control::client::{Client, ClientError};
use crate::control::protocol::Daemon;
use crate::store::lock;

/// The client of the configured daemon.
///
/// # Errors
/// If no daemon runs.
pub(super) fn daemon(common: &Common) -> anyhow::Result<Client> {
    let config = common.config()?;
    find_daemon(common, &config)?.ok_or_else(|| {
        let sockets: Vec<String> =
            sockets(common, &config).iter().map(|socket| socket.display().to_string()).collect();
        let (store, sockets) = (config.boot.store.display(), sockets.join(", "));
        let tried = if sockets.is_empty() {
            "no socket is known".to_owned()
        } else {
            format!("tried {sockets}")
        };
        anyhow!("no daemon is running for store {store} ({tried})")
    })
}

/// Whether a daemon listens at the socket that the lock file of a store names.
pub(super) fn is_held_by_daemon(store: &Path) -> bool {
    let socket = lock::holder(store).and_then(|holder| holder.socket);
    socket.is_some_and(|socket| UnixStream::connect(socket).is_ok())
}

/// The daemon that holds the configured store.
///
/// # Errors
/// If a process listens where the daemon would, and refuses or does not answer.
pub(super) fn find_daemon(common: &Common, config: &Config) -> anyhow::Result<Option<Client>> {
    for socket in sockets(common, config) {
        let client = Client::new(&socket)?;
        match asked(&client) {
            // The socket may belong to another store's daemon.
            Ok(daemon) if daemon.store == config.boot.store => return Ok(Some(client)),
            Err(error) if error.is_silence() => {
                let advice = "the daemon does not answer: it may be stopped or overloaded";
                return Err(anyhow!(error).context(advice));
            }
            Err(error) if error.is_break() => {
                let advice = "the daemon closed the connection: this user may have too many connections to it";
                return Err(anyhow!(error).context(advice));
            }
            Err(error @ ClientError::Refused(_)) => return Err(error.into()),
            // The lock file may name a daemon that is gone.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(None)
}

/// Asks which daemon answers. A daemon that ends breaks a connection; then the next attempt finds none.
fn asked(client: &Client) -> Result<Daemon, ClientError> {
    const ATTEMPTS: u32 = 5;
    const PAUSE: Duration = Duration::from_millis(200);
    let mut answer = client.daemon();
    for _ in 1..ATTEMPTS {
        if !matches!(&answer, Err(error) if error.is_break()) {
            break;
        }
        std::thread::sleep(PAUSE);
        answer = client.daemon();
    }
    answer
}

/// Where the daemon may listen: at the socket that the store's lock file names, and at the configured one. The latter
/// works without access to the store. With `--store` it belongs to another store.
fn sockets(common: &Common, config: &Config) -> Vec<PathBuf> {
    let named = lock::holder(&config.boot.store).and_then(|holder| holder.socket);
    let configured = common.store.is_none().then(|| config.boot.socket.clone());
    let mut sockets: Vec<PathBuf> = named.into_iter().chain(configured).collect();
    sockets.dedup();
    sockets
}
