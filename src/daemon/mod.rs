//! The daemon: starts the parts, reports to systemd, and stops the parts in order.
//!
//! | file | content |
//! | --- | --- |
//! | `opening` | opens the store, however long that takes |
//! | `gallery` | the gallery, if the configuration has one |
//! | `running` | the main loop: signals, readiness, watchdog, status line |
//! | `reload`, `release`, `repair`, `retention` | requests that need several parts of the daemon |
//! | `scrub` | reads media files again, and repairs those that are damaged |
//! | `systemd`, `priority`, `signals` | what the daemon needs from its surroundings |

mod gallery;
mod opening;
mod priority;
mod release;
mod repair;
mod reload;
mod retention;
mod running;
mod scrub;
mod signals;
mod systemd;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use crossbeam_channel::{Receiver, bounded};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::release::Releases;
use self::reload::Reload;
use self::retention::Retention;
use self::running::{EngineEnd, MainLoop};
use self::scrub::Scrubber;
use self::signals::EndSignals;
use self::systemd::notify;
use crate::config::{Config, ConfigSource, InEffect};
use crate::control::routes::{self, Answers};
use crate::control::server;
use crate::ingest::{Command, Engine, Mode, Shared};
use crate::logging::{self, Level};
use crate::store::{StoreError, Writer};
use crate::sync::Targets;

/// How long a stop waits for work in progress. The next start repeats what is not committed then.
const DRAIN_MAX: Duration = Duration::from_secs(9);

/// How long a stop waits for answers that clients still read.
const CLIENTS_STOP_MAX: Duration = Duration::from_millis(200);

/// Threads that may block: those of requests, and some for the daemon's own start and reloads.
const BLOCKING_THREADS_MAX: usize = 2 * routes::THREADS_MAX + 4;

/// How many commands wait for the engine, at most.
const COMMANDS_MAX: usize = 4;

/// Runs until SIGTERM or SIGINT. `warnings` are about the configuration.
///
/// # Errors
/// If a part cannot be started, or the engine fails.
pub(crate) fn run(config: Config, warnings: &[String], source: ConfigSource) -> anyhow::Result<()> {
    let level = logging::start(config.boot.log_format, &config.live.log_level)
        .context("cannot log to journald")?;
    let (store, socket) = (config.boot.store.display(), config.boot.socket.display());
    let file = source.file.as_deref().map(|file| file.display());
    let file = file.map(tracing::field::display);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %store, %socket, file, "safelight starts");
    for warning in warnings {
        tracing::warn!(warning, "configuration is odd");
    }
    priority::lower(config.boot.nice);
    if config.live.watches.is_empty() {
        tracing::warn!("the configuration has no [[watch]]: nothing is read");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all()
        .build()?;
    let result = runtime.block_on(serve(config, source, level));
    runtime.shutdown_timeout(CLIENTS_STOP_MAX);
    result
}

async fn serve(config: Config, source: ConfigSource, level: Level) -> anyhow::Result<()> {
    let mut end_signals = EndSignals::listen()?;
    let door = gallery::Door::bind(&config.boot.gallery).await?;
    let Some((writer, reader)) = opening::open_store(&config.boot, &mut end_signals).await? else {
        tracing::info!("stopped before the store was open");
        return Ok(());
    };
    let socket = config.boot.socket.clone();
    let listener = server::bind(&socket)
        .await
        .with_context(|| format!("control socket {}", socket.display()))?;
    let shared = Shared::default();
    let (commands, commands_in) = bounded(COMMANDS_MAX);
    let engine = Engine::new(Mode::Follow, config.clone(), writer, reader.clone(), shared.clone())?;
    let mut engine_end = start(engine, commands_in)?;

    let targets = Arc::new(Targets::new(reader.clone()));
    targets.apply(targets.prepare(&config.live.targets)?);
    let retention = Retention::new(reader.clone(), &config.live, shared.clone());
    // Dropped at the end of this function, which ends the hourly sweeps and the scrub.
    let (_running, running_in) = bounded(0);
    retention.clone().sweep_hourly(running_in.clone())?;
    let (of_scrub, commands_of_scrub) = (shared.clone(), commands.clone());
    let scrubber = Scrubber::new(reader.clone(), retention.clone(), of_scrub, commands_of_scrub);
    scrubber.start(running_in)?;
    let in_effect = InEffect::new(config.live.clone());
    let reload = Arc::new(Reload {
        retention: retention.clone(),
        targets: targets.clone(),
        shared: shared.clone(),
        at_work: Mutex::new(()),
        boot: config.boot.clone(),
        source,
        commands: commands.clone(),
        in_effect: in_effect.clone(),
        level,
    });
    let releases = Releases::new(commands.clone());
    let (gallery, gallery_place) = gallery::open(door, &config, in_effect, &reader, &shared)?;
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
        retention_trouble: Box::new({
            let retention = retention.clone();
            move || retention.trouble()
        }),
        prune: Box::new(move |apply| retention.sweep(apply)),
        release: Box::new(move |filter, goes_on| releases.release(filter, goes_on)),
        gallery: gallery_place,
        repair: Box::new({
            let commands = commands.clone();
            move |query| repair::repair(&commands, query)
        }),
    });
    let mut servers = JoinSet::new();
    if let Some(address) = config.boot.metrics_listen {
        let listener = listen_for_metrics(address).await?;
        servers.spawn(server::serve_metrics(listener, answers.clone(), stop.clone()));
    }
    servers.spawn(server::serve_control(listener, answers, stop.clone()));

    let main_loop = MainLoop::new(&reader, &shared, &reload);
    let early_end = main_loop.run(&mut end_signals, &mut engine_end).await?;

    notify(&[NotifyState::Stopping]);
    drop(gallery);
    tracing::info!(n_in_flight = shared.progress.n_in_flight(), "safelight stops");
    shared.stop.store(true, Ordering::Relaxed);
    // If the channel is full, the commands in it wake the engine.
    drop(commands.try_send(Command::Stop));
    stop.cancel();
    // A thread of its own: requests may have all others of the runtime.
    let (targets_ended, targets_end) = oneshot::channel();
    let stopping = thread::Builder::new().name("stop targets".to_owned()).spawn(move || {
        targets.stop();
        // The receiver is gone if the daemon was in a hurry.
        targets_ended.send(()).ok();
    });
    if let Err(error) = stopping {
        tracing::warn!(%error, "no thread for the stop of targets, they resume at the next start");
    }
    let ended_early = early_end.is_some();
    let drained = async {
        let end = match early_end {
            None => timeout(DRAIN_MAX, engine_end).await.ok(),
            early_end => early_end,
        };
        // The thread ends in any case, also by a panic.
        drop(targets_end.await);
        end
    };
    let end = tokio::select! {
        end = drained => end,
        // A second signal: someone is in a hurry.
        () = end_signals.recv() => None,
    };
    servers.abort_all();
    // Someone may have removed it.
    drop(std::fs::remove_file(&socket));
    finish(end, ended_early, &shared)
}

/// Runs the engine on a thread of its own. Returns the channel that gets its result.
fn start(
    engine: Engine,
    commands: Receiver<Command>,
) -> io::Result<oneshot::Receiver<Result<Option<Writer>, StoreError>>> {
    let (engine_ended, engine_end) = oneshot::channel();
    thread::Builder::new().name("ingest".to_owned()).spawn(move || {
        let result = engine.run(&commands);
        // The receiver is gone if draining took too long.
        drop(engine_ended.send(result));
    })?;
    Ok(engine_end)
}

async fn listen_for_metrics(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("metrics.listen {address} (the unit allows it with safelight-network.conf)")
    })
}

/// Closes the store after the engine's end. `None` means that the engine still drains.
fn finish(end: Option<EngineEnd>, ended_early: bool, shared: &Shared) -> anyhow::Result<()> {
    match end {
        Some(Ok(result)) => close(result, ended_early),
        Some(Err(_)) => Err(anyhow!("the ingest thread died")),
        None => {
            let n_in_flight = shared.progress.n_in_flight();
            tracing::warn!(
                n_in_flight,
                "stopped before all work was done, the next start repeats it"
            );
            Ok(())
        }
    }
}

fn close(engine: Result<Option<Writer>, StoreError>, ended_early: bool) -> anyhow::Result<()> {
    let writer = engine?.ok_or_else(|| anyhow!("the commit thread died"))?;
    if let Err(error) = writer.close() {
        tracing::warn!(%error, "cannot close the index, the next start repairs it");
    }
    tracing::info!("stopped");
    // The engine ends early only by a bug. The error makes systemd restart the daemon.
    if ended_early { Err(anyhow!("the ingest thread ended by itself")) } else { Ok(()) }
}
