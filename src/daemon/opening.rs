//! Opens the store, however long that takes.

use std::time::Duration;

use tokio::time::sleep;

use super::signals::EndSignals;
use super::systemd::notify_starting;
use crate::config::Boot;
use crate::store::lock::Holder;
use crate::store::{self, Reader, StoreError, Writer};

/// How long another process may hold the store before the daemon checks which one it is.
const HELD_MAX: Duration = Duration::from_millis(500);

/// How often systemd hears that opening continues, and how long a retry waits.
const STEP: Duration = Duration::from_secs(2);

/// Opens the store. Waits for room on a full disk, and for a command that holds the store. Returns `None` if a signal
/// ends the daemon meanwhile.
///
/// # Errors
/// If another daemon holds the store, or it cannot be opened for another reason.
pub(super) async fn open_store(
    boot: &Boot,
    end_signals: &mut EndSignals,
) -> anyhow::Result<Option<(Writer, Reader)>> {
    let me = Holder {
        pid: std::process::id(),
        command: "daemon".to_owned(),
        socket: Some(boot.socket.clone()),
    };
    let (mut is_full_logged, mut logged_holder) = (false, None);
    loop {
        let (path, holder) = (boot.store.clone(), me.clone());
        let mut opening =
            tokio::task::spawn_blocking(move || store::open(&path, &holder, HELD_MAX));
        let opened = loop {
            tokio::select! {
                opened = &mut opening => break opened?,
                () = end_signals.recv() => return Ok(None),
                () = sleep(STEP) => notify_starting("opening the store", STEP),
            }
        };
        match opened {
            Ok(store) => return Ok(Some(store)),
            Err(error) if error.is_full() => {
                if !is_full_logged {
                    tracing::error!(%error, "cannot open the store, retrying until there is room");
                }
                is_full_logged = true;
                notify_starting(&format!("cannot open the store: {error}"), STEP);
            }
            // A command ends after a while. Another daemon does not.
            Err(StoreError::Held { holder, .. }) if holder.command != me.command => {
                let Holder { pid, command, .. } = holder;
                notify_starting(&format!("waiting for process {pid} (safelight {command})"), STEP);
                if logged_holder.replace(pid) != Some(pid) {
                    tracing::warn!(pid, command, "another process holds the store, waiting for it");
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = end_signals.recv() => return Ok(None),
            () = sleep(STEP) => {}
        }
    }
}
