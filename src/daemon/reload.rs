//! Reads the configuration again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use super::retention::Retention;
use crate::config::{self, Config};
use crate::ingest::{Command, Shared};
use crate::logging::Level;
use crate::sync::Targets;

/// How long a reload may take.
const RELOAD_MAX: Duration = Duration::from_secs(30);

/// Reads the configuration again.
pub(super) struct Reload {
    pub(super) retention: Arc<Retention>,
    pub(super) targets: Arc<Targets>,
    pub(super) shared: Shared,
    /// One reload at a time, so that the last file wins.
    pub(super) at_work: Mutex<()>,
    pub(super) config_path: Option<PathBuf>,
    pub(super) started_with: Config,
    /// What the file said at the start: the command line may have said something else.
    pub(super) store_of_file: PathBuf,
    pub(super) commands: Sender<Command>,
    pub(super) level: Level,
}

impl Reload {
    /// Logs how many lines of the log were left out lately.
    pub(super) fn tell_left_out(&self) {
        self.level.tell_left_out();
    }

    /// Goes by the file as it is now. If it can't be used, the last one stays.
    pub(super) fn now(&self) -> Result<(), String> {
        let _at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        let result =
            self.config_path.as_deref().ok_or("started without a configuration file".to_owned());
        let result =
            result.and_then(|path: &Path| config::load(path).map_err(|error| error.to_string()));
        let config = match result {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(%error, "configuration is not taken up, the last one stays");
                return Err(error);
            }
        };
        let was = &self.started_with;
        let fixed = [
            ("store.path", self.store_of_file != config.store),
            ("control.socket", was.socket != config.socket),
            ("work.threads", was.n_threads != config.n_threads),
            (
                "work.memory_bytes_max",
                was.limits.memory_bytes_max != config.limits.memory_bytes_max,
            ),
            ("work.dump_digest", was.dump_digest != config.dump_digest),
            ("work.nice", was.nice != config.nice),
            ("log.format", was.log_format != config.log_format),
            ("metrics.listen", was.metrics_listen != config.metrics_listen),
        ];
        for (setting, _) in fixed.into_iter().filter(|(_, is_changed)| *is_changed) {
            tracing::warn!(setting, "takes effect at the next start");
        }
        self.level.set(&config.log_level);
        let mut config = config;
        config.limits.memory_bytes_max = was.limits.memory_bytes_max;
        config.dump_digest = was.dump_digest;
        config.store.clone_from(&was.store);
        self.retention.set(&config);
        self.targets.set(&config.targets).map_err(|error| error.to_string())?;
        self.shared.set_free_bytes_min(config.free_bytes_min);
        let (done, is_done) = bounded(1);
        let command = Command::Reload(Box::new(config), done);
        self.commands
            .try_send(command)
            .map_err(|_| "earlier reloads are not done yet".to_owned())?;
        // Whoever asked goes by the new configuration once this has returned.
        is_done.recv_timeout(RELOAD_MAX).map_err(|_| {
            "the configuration is fine, but what is read at the moment holds it up".to_owned()
        })?;
        tracing::info!("configuration is taken up");
        Ok(())
    }
}
