//! The daemon: starts the parts, tells systemd, and stops them in order.

mod priority;
mod release;
mod reload;
mod retention;
mod systemd;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use crossbeam_channel::bounded;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::release::Releases;
use self::reload::Reload;
use self::retention::Retention;
pub(crate) use self::systemd::STALLED;
use self::systemd::{Watchdog, tell_opening, tell_systemd};
use crate::config::{self, Boot, Config};
use crate::control::server::{self, Answers};
use crate::ingest::{Command, Engine, Mode, Shared};
use crate::logging::{self, Level};
use crate::store::lock::Holder;
use crate::store::{self, Reader, StoreError, Writer};
use crate::sync::Targets;

/// How long the end may take before what is left is given up. Nothing is lost by that: it is done
/// again after the next start.
const DRAIN: Duration = Duration::from_secs(9);

/// How often systemd is told how things are.
const STATUS_EVERY: Duration = Duration::from_secs(2);

/// How long another daemon may hold the store at the start.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long opening the store may take before systemd is told that it goes on, and between two tries
/// on a full disk.
const OPENING_STEP: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// If a part can't be started, or the index fails.
pub(crate) fn run(config: Config, config_path: Option<PathBuf>) -> anyhow::Result<()> {
    let level = logging::start(config.boot.log_format, &config.live.log_level)
        .context("cannot log to journald")?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), store = %config.boot.store.display(), "safelight starts");
    priority::step_back(config.boot.nice);
    if config.live.watches.is_empty() {
        tracing::warn!("the configuration has no [[watch]]: nothing is read");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(16)
        .enable_all()
        .build()?;
    let result = runtime.block_on(serve(config, config_path, level));
    // A listing that a client still reads doesn't hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// The signals that end the daemon.
struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one.
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Opens the store, however long that takes; `None` if the daemon is ended meanwhile. On a full disk
/// it waits for room.
async fn open_store(
    config: &Config,
    end_signals: &mut EndSignals,
) -> anyhow::Result<Option<(Writer, Reader)>> {
    let me = Holder {
        pid: std::process::id(),
        command: "daemon".to_owned(),
        socket: Some(config.boot.socket.clone()),
    };
    let (mut is_told, mut waits_for) = (false, None);
    loop {
        let (path, holder) = (config.boot.store.clone(), me.clone());
        let mut opening =
            tokio::task::spawn_blocking(move || store::open(&path, &holder, PATIENCE));
        let opened = loop {
            tokio::select! {
                opened = &mut opening => break opened?,
                () = end_signals.recv() => return Ok(None),
                () = sleep(OPENING_STEP) => tell_opening("opening the store", OPENING_STEP),
            }
        };
        match opened {
            Ok(store) => return Ok(Some(store)),
            Err(error) if error.is_full() => {
                if !is_told {
                    tracing::error!(%error, "cannot open the store, will try until there is room");
                }
                is_told = true;
                tell_opening(&format!("cannot open the store: {error}"), OPENING_STEP);
            }
            // Whoever lists a store, or ingests, will be done in a while; a daemon won't.
            Err(StoreError::Held { holder, .. }) if holder.command != me.command => {
                let Holder { pid, command, .. } = holder;
                tell_opening(
                    &format!("waits for process {pid} (safelight {command})"),
                    OPENING_STEP,
                );
                if waits_for.replace(pid) != Some(pid) {
                    tracing::warn!(pid, command, "another process holds the store, waits for it");
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = end_signals.recv() => return Ok(None),
            () = sleep(OPENING_STEP) => {}
        }
    }
}

async fn serve(config: Config, config_path: Option<PathBuf>, level: Level) -> anyhow::Result<()> {
    let mut end_signals = EndSignals::listen()?;
    let Some((writer, reader)) = open_store(&config, &mut end_signals).await? else {
        tracing::info!("stopped before the store was open");
        return Ok(());
    };
    let socket = config.boot.socket.clone();
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
    let store_of_file = of_file.map_or_else(|| config.boot.store.clone(), |file| file.boot.store);
    let targets = Arc::new(Targets::new(reader.clone()));
    targets.apply(targets.prepare(&config.live.targets)?);
    let retention = Retention::new(reader.clone(), &config.live, shared.clone());
    let (_going_on, is_over) = bounded(0);
    retention.clone().keep_on(is_over)?;
    let reload = Arc::new(Reload {
        retention: retention.clone(),
        targets: targets.clone(),
        shared: shared.clone(),
        at_work: Mutex::new(()),
        config_path,
        boot: Boot { store: store_of_file, ..config.boot.clone() },
        commands: commands.clone(),
        level,
    });
    let releases = Releases::new(commands.clone());
    let stop = CancellationToken::new();
    let answers = Arc::new(Answers {
        store: config.boot.store.clone(),
        reader: reader.clone(),
        shared: shared.clone(),
        targets: targets.clone(),
        reload: Box::new({
            let reload = reload.clone();
            move || reload.now()
        }),
        prune: Box::new(move |apply| retention.sweep(apply)),
        release: Box::new(move |filter, goes_on| releases.ask(filter, goes_on)),
    });
    let mut servers = JoinSet::new();
    if let Some(address) = config.boot.metrics_listen {
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| {
            format!("metrics.listen {address} (the unit allows it with safelight-network.conf)")
        })?;
        servers.spawn(server::serve_metrics(listener, answers.clone(), stop.clone()));
    }
    servers.spawn(server::serve(listener, answers, stop.clone()));

    let early_end = follow(&mut end_signals, &mut end, &reader, &shared, &reload).await?;

    tell_systemd(&[NotifyState::Stopping]);
    let n_left = shared.progress.n_in_flight();
    tracing::info!(n_in_flight = n_left, "safelight stops");
    shared.stop.store(true, Ordering::Relaxed);
    // A full channel holds a command that wakes the engine as well.
    drop(commands.try_send(Command::Stop));
    stop.cancel();
    let targets_end = tokio::task::spawn_blocking(move || targets.stop());
    let ended_by_itself = early_end.is_some();
    let result = if let Some(result) = early_end {
        Some(result)
    } else {
        tokio::select! {
            result = timeout(DRAIN, end) => result.ok(),
            // Asked twice.
            () = end_signals.recv() => None,
        }
    };
    servers.abort_all();
    targets_end.await?;
    // It may have been removed by hand.
    drop(std::fs::remove_file(&socket));
    match result {
        Some(Ok(result)) => close(result, ended_by_itself),
        Some(Err(_)) => Err(anyhow!("the ingest thread died")),
        None => {
            let n_in_flight = shared.progress.n_in_flight();
            tracing::warn!(
                n_in_flight,
                "not all that was begun is done, the rest is done after the next start"
            );
            Ok(())
        }
    }
}

/// How the engine ended.
type EngineEnd = Result<Result<Option<Writer>, StoreError>, oneshot::error::RecvError>;

/// Goes on until a signal, or until the engine ends by itself: then returns how.
async fn follow(
    end_signals: &mut EndSignals,
    end: &mut oneshot::Receiver<Result<Option<Writer>, StoreError>>,
    reader: &Reader,
    shared: &Shared,
    reload: &Arc<Reload>,
) -> anyhow::Result<Option<EngineEnd>> {
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut watchdog = Watchdog::new();
    let mut ticks = interval(watchdog.every.min(STATUS_EVERY));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut first = interval(Duration::from_millis(20));
    let mut is_ready = false;
    let mut said = String::new();
    let mut counted = None;
    let early_end = loop {
        tokio::select! {
            () = end_signals.recv() => break None,
            result = &mut *end => break Some(result),
            _ = hang_up.recv() => {
                tell_systemd(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?]);
                let reload = reload.clone();
                tokio::task::spawn_blocking(move || {
                    // The reason was logged.
                    drop(reload.now());
                    tell_systemd(&[NotifyState::Ready]);
                });
            }
            _ = first.tick(), if !is_ready => {
                is_ready = shared.ingest_status().is_ready;
                if is_ready {
                    tracing::info!("everything was looked at once, new files are waited for");
                    said = status(reader, shared);
                    tell_systemd(&[NotifyState::Ready, NotifyState::Status(&said)]);
                }
            }
            _ = ticks.tick() => {
                watchdog.look(shared);
                reload.tell_left_out();
                if !is_ready {
                    tell_opening("looking at everything once", OPENING_STEP);
                    continue;
                }
                // An idle daemon doesn't count.
                let view = shared.ingest_status();
                let now = (shared.progress.items(), view.waiting.len(), view.trouble);
                if counted.as_ref() == Some(&now) {
                    continue;
                }
                counted = Some(now);
                let now = status(reader, shared);
                if now != said {
                    tell_systemd(&[NotifyState::Status(&now)]);
                    said = now;
                }
            }
        }
    };
    Ok(early_end)
}

/// Closes the store after the engine's end.
fn close(ended: Result<Option<Writer>, StoreError>, ended_by_itself: bool) -> anyhow::Result<()> {
    let writer = ended?.ok_or_else(|| anyhow!("the commit thread died"))?;
    if let Err(error) = writer.close() {
        tracing::warn!(%error, "index is not closed, the next start brings it up to date");
    }
    tracing::info!("stopped");
    // A bug: systemd starts the daemon again.
    if ended_by_itself { Err(anyhow!("reading ended by itself")) } else { Ok(()) }
}

/// What `systemctl status` shows.
fn status(reader: &Reader, shared: &Shared) -> String {
    let view = shared.ingest_status();
    let (n_runs, [image, held, rejected]) = reader.totals().unwrap_or_default();
    let n_runs = match n_runs {
        1 => "1 run".to_owned(),
        n => format!("{n} runs"),
    };
    let state =
        view.trouble.map_or_else(String::new, |trouble| format!("; cannot write: {trouble}"));
    let waiting = view.waiting.len();
    format!(
        "{n_runs}, {image} images, {held} held back, {rejected} rejected, {waiting} waiting{state}"
    )
}
