//! Reloads the configuration: whole, or not at all.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::retention::Retention;
use crate::config::{self, Boot, Config, Live};
use crate::ingest::{Command, Shared};
use crate::logging::Level;
use crate::sync::{PreparedTargets, Targets};

/// How long a reload may take.
const RELOAD_MAX: Duration = Duration::from_secs(30);

/// Reloads the configuration.
pub(super) struct Reload {
    pub(super) retention: Arc<Retention>,
    pub(super) targets: Arc<Targets>,
    pub(super) shared: Shared,
    /// One reload at a time, so that the last file wins.
    pub(super) at_work: Mutex<()>,
    pub(super) config_path: Option<PathBuf>,
    /// The settings of the start, as the file had them: the command line may have named another store.
    pub(super) boot: Boot,
    pub(super) commands: Sender<Command>,
    pub(super) level: Level,
}

impl Reload {
    /// Logs how many log lines were dropped lately.
    pub(super) fn tell_left_out(&self) {
        self.level.tell_left_out();
    }

    /// Applies the file as it is now, and returns when all parts of the daemon go by it. If the file cannot be applied,
    /// the last configuration stays. If the engine takes too long, the error says so, and it follows later.
    pub(super) fn now(&self) -> Result<(), String> {
        let _at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        match self.prepare() {
            Ok(prepared) => self.apply(prepared),
            Err(error) => {
                tracing::error!(%error, "configuration is not taken up, the last one stays");
                Err(error)
            }
        }
    }

    /// Does all that can fail, and changes nothing.
    fn prepare(&self) -> Result<Prepared, String> {
        let path = self.config_path.as_deref();
        let path = path.ok_or("started without a configuration file")?;
        let Config { boot, live } = config::load(path).map_err(|error| error.to_string())?;
        let live = live.under(&self.boot);
        let targets = self.targets.prepare(&live.targets).map_err(|error| error.to_string())?;
        // The engine takes its commands in order. At this one it waits until the settings come, or go with their sender.
        let (settings, settings_in) = bounded(1);
        let (done, is_done) = bounded(1);
        self.commands
            .try_send(Command::Reload(settings_in, done))
            .map_err(|_| "earlier reloads are not done yet".to_owned())?;
        Ok(Prepared { boot, live, targets, settings, is_done })
    }

    /// Applies what was prepared: none of this can fail.
    fn apply(&self, prepared: Prepared) -> Result<(), String> {
        let Prepared { boot, live, targets, settings, is_done } = prepared;
        for setting in self.boot.differences(&boot) {
            tracing::warn!(setting, "takes effect at the next start");
        }
        self.level.set(&live.log_level);
        self.retention.set(&live);
        self.targets.apply(targets);
        self.shared.set_free_bytes_min(live.free_bytes_min);
        // If the engine is gone, the daemon is stopping.
        drop(settings.send(live));
        is_done.recv_timeout(RELOAD_MAX).map_err(|_| {
            "the configuration is fine, but what is read at the moment holds it up".to_owned()
        })?;
        tracing::info!("configuration is taken up");
        Ok(())
    }
}

/// A reload that can no longer fail.
struct Prepared {
    boot: Boot,
    live: Live,
    targets: PreparedTargets,
    /// Takes the settings to the engine, which has reserved a slot for them.
    settings: Sender<Live>,
    is_done: Receiver<()>,
}
