//! The daemon: starts the parts, tells systemd, and stops them in order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use crossbeam_channel::{Sender, bounded};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config};
use crate::control::server::{self, Answers};
use crate::ingest::{Command, Engine, Mode, Shared};
use crate::logging::{self, Level};
use crate::store::lock::Holder;
use crate::store::{self, Reader, Writer};

/// How long the end may take before what is left is given up. Nothing is lost by that: it is done
/// again after the next start.
const DRAIN: Duration = Duration::from_secs(9);

/// How often systemd is told how things are.
const STATUS_EVERY: Duration = Duration::from_secs(2);

/// How long another process may hold the store at the start.
const PATIENCE: Duration = Duration::from_millis(500);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// If a part can't be started, or the index fails.
pub(crate) fn run(config: Config, config_path: Option<PathBuf>) -> anyhow::Result<()> {
    let level =
        logging::start(config.log_format, &config.log_level).context("cannot log to journald")?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), store = %config.store.display(), "safelight starts");
    if config.watches.is_empty() {
        tracing::warn!("the configuration has no [[watch]]: nothing is read");
    }
    let me = Holder {
        pid: std::process::id(),
        command: "daemon".to_owned(),
        socket: Some(config.socket.clone()),
    };
    let (writer, reader) = store::open(&config.store, &me, PATIENCE)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(serve(config, config_path, writer, reader, level));
    // A listing that a client still reads doesn't hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

async fn serve(
    config: Config,
    config_path: Option<PathBuf>,
    writer: Writer,
    reader: Reader,
    level: Level,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let socket = config.socket.clone();
    let listener = server::bind(&socket)
        .await
        .with_context(|| format!("control socket {}", socket.display()))?;

    let shared = Shared::default();
    let (commands, commands_in) = bounded(4);
    let (ended, mut end) = oneshot::channel();
    let engine = Engine::new(Mode::Follow, config.clone(), writer, reader.clone(), shared.clone())?;
    thread::Builder::new().name("ingest".to_owned()).spawn(move || {
        let result = engine.run(&commands_in);
        // Whoever waited has gone only if the drain took too long.
        drop(ended.send(result));
    })?;

    let of_file = config_path.as_deref().and_then(|path| config::load(path).ok());
    let store_of_file = of_file.map_or_else(|| config.store.clone(), |file| file.store);
    let reload = Arc::new(Reload {
        config_path,
        started_with: config.clone(),
        store_of_file,
        commands: commands.clone(),
        level,
    });
    let stop = CancellationToken::new();
    let answers = Answers {
        store: config.store.clone(),
        reader: reader.clone(),
        shared: shared.clone(),
        reload: Box::new({
            let reload = reload.clone();
            move || reload.now()
        }),
    };
    let server = tokio::spawn(server::serve(listener, answers, stop.clone()));

    let mut ticks = interval(STATUS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut first = interval(Duration::from_millis(20));
    let mut is_ready = false;
    let early_end = loop {
        tokio::select! {
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            result = &mut end => break Some(result),
            _ = hang_up.recv() => {
                tell_systemd(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?]);
                let reload = reload.clone();
                // The reason was logged.
                drop(tokio::task::spawn_blocking(move || reload.now()).await);
                tell_systemd(&[NotifyState::Ready]);
            }
            _ = first.tick(), if !is_ready => {
                is_ready = shared.view().is_ready;
                if is_ready {
                    tracing::info!("everything was looked at once, new files are waited for");
                    tell_systemd(&[NotifyState::Ready, NotifyState::Status(&status(&reader, &shared))]);
                }
            }
            _ = ticks.tick(), if is_ready => tell_systemd(&[NotifyState::Status(&status(&reader, &shared))]),
        }
    };

    tell_systemd(&[NotifyState::Stopping]);
    let n_left = shared.progress.n_in_flight();
    tracing::info!(n_in_flight = n_left, "safelight stops");
    shared.stop.store(true, Ordering::Relaxed);
    // A full channel holds a command that wakes the engine as well.
    drop(commands.try_send(Command::Stop));
    stop.cancel();
    let ended_by_itself = early_end.is_some();
    let result = match early_end {
        Some(result) => Ok(result),
        None => timeout(DRAIN, end).await,
    };
    server.abort();
    // It may have been removed by hand.
    drop(std::fs::remove_file(&socket));
    match result {
        Ok(Ok(Ok(Some(writer)))) => {
            if let Err(error) = writer.close() {
                tracing::warn!(%error, "index is not closed, the next start brings it up to date");
            }
            tracing::info!("stopped");
            // A bug: systemd starts the daemon again.
            if ended_by_itself { Err(anyhow!("reading ended by itself")) } else { Ok(()) }
        }
        Ok(Ok(Ok(None)) | Err(_)) => Err(anyhow!("the commit thread died")),
        Ok(Ok(Err(error))) => Err(error.into()),
        Err(_) => {
            let n_in_flight = shared.progress.n_in_flight();
            tracing::warn!(
                n_in_flight,
                "not all that was begun is done, the rest is done after the next start"
            );
            Ok(())
        }
    }
}

/// What `systemctl status` shows.
fn status(reader: &Reader, shared: &Shared) -> String {
    let view = shared.view();
    let runs = reader.runs().unwrap_or_default();
    let sum = |count: fn(&store::RunSummary) -> u64| runs.iter().map(count).sum::<u64>();
    let (image, held, rejected) =
        (sum(|run| run.image), sum(|run| run.held), sum(|run| run.rejected));
    let n_runs = runs.len();
    let state =
        view.trouble.map_or_else(String::new, |trouble| format!("; cannot write: {trouble}"));
    let waiting = view.waiting.len();
    format!(
        "{n_runs} runs, {image} images, {held} held back, {rejected} rejected, {waiting} waiting{state}"
    )
}

/// Outside of systemd this does nothing.
fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell systemd");
    }
}

/// Reads the configuration again.
struct Reload {
    config_path: Option<PathBuf>,
    started_with: Config,
    /// What the file said at the start: the command line may have said something else.
    store_of_file: PathBuf,
    commands: Sender<Command>,
    level: Level,
}

impl Reload {
    /// Goes by the file as it is now. If it can't be used, the last one stays.
    fn now(&self) -> Result<(), String> {
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
            ("log.format", was.log_format != config.log_format),
        ];
        for (setting, _) in fixed.into_iter().filter(|(_, is_changed)| *is_changed) {
            tracing::warn!(setting, "takes effect at the next start");
        }
        self.level.set(&config.log_level);
        let mut config = config;
        config.limits.memory_bytes_max = was.limits.memory_bytes_max;
        config.store.clone_from(&was.store);
        let command = Command::Reload(Box::new(config));
        self.commands
            .try_send(command)
            .map_err(|_| "earlier reloads are not done yet".to_owned())?;
        tracing::info!("configuration is taken up");
        Ok(())
    }
}
