//! Reloads the configuration: whole, or not at all.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::retention::Retention;
use crate::config::{Boot, Config, ConfigSource, InEffect, Live};
use crate::ingest::{Command, Shared};
use crate::locks::lock;
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
    /// The file, and what the command line says instead.
    pub(super) source: ConfigSource,
    /// The settings of the start.
    pub(super) boot: Boot,
    pub(super) commands: Sender<Command>,
    /// The settings that the gallery reads dumps by.
    pub(super) in_effect: InEffect,
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
        let _at_work = lock(&self.at_work);
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
        if self.source.file.is_none() {
            return Err("the daemon was started without a configuration file".to_owned());
        }
        let loaded = self.source.load_whole().map_err(|error| error.to_string())?;
        let (Config { boot, live }, warnings) = loaded;
        for warning in warnings {
            tracing::warn!(warning, "configuration is odd");
        }
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
        self.in_effect.set(live.clone());
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use super::*;
    use crate::config::{self, retention::DumpRetention};
    use crate::store::{self, lock::Holder};

    #[test]
    fn a_reload_that_the_engine_refuses_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("safelight.toml");
        fs::write(&file, "").expect("a file");
        let Config { boot, live } = config::load(&file).expect("a configuration");
        let source = ConfigSource { file: Some(file.clone()), ..ConfigSource::default() };
        let me = Holder { pid: std::process::id(), command: "test".to_owned(), socket: None };
        let store = folder.path().join("store");
        let (_writer, reader) = store::open(&store, &me, Duration::ZERO).expect("a store");
        let shared = Shared::default();
        let (commands, commands_in) = bounded(1);
        let reload = Reload {
            retention: Retention::new(reader.clone(), &live, shared.clone()),
            in_effect: InEffect::new(live),
            targets: Arc::new(Targets::new(reader)),
            shared,
            at_work: Mutex::default(),
            source,
            boot,
            commands: commands.clone(),
            level: Level::detached(),
        };
        let text = "[retention]\ndumps = \"delivered\"\n\
                    [sync.disk]\nkind = \"tensorboard\"\npath = \"tb\"\n";
        fs::write(&file, text).expect("a file");
        let state = || {
            let dumps = reload.retention.config().0.retention.dumps;
            // The gallery's settings.
            assert_eq!(reload.in_effect.get().retention.dumps, dumps);
            (dumps, reload.targets.views().len())
        };

        commands.send(Command::Stop).expect("room for a command");
        assert_eq!(reload.now(), Err("earlier reloads are not done yet".to_owned()));
        assert_eq!(state(), (DumpRetention::Keep, 0));

        drop(commands_in.recv());
        let engine = move || match commands_in.recv() {
            Ok(Command::Reload(settings, done)) => {
                let live = settings.recv().expect("settings");
                done.send(()).expect("a reload that waits");
                live.targets.len()
            }
            other => panic!("{other:?}"),
        };
        let engine = thread::Builder::new().name("engine".to_owned()).spawn(engine);
        let engine = engine.expect("a thread");
        assert_eq!(reload.now(), Ok(()));
        assert_eq!(state(), (DumpRetention::Delivered, 1));
        assert_eq!(engine.join().expect("the engine"), 1);
        reload.targets.stop();
    }
}
