//! The daemon's main loop: signals, readiness, the watchdog and the status line.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};

use super::reload::Reload;
use super::signals::EndSignals;
use super::systemd::{STATUS_EVERY, Watchdog, notify, notify_starting};
use crate::ingest::{ItemCounts, Shared};
use crate::store::{Reader, StoreError, Writer};
use crate::words::counted;

/// How often the loop checks whether the initial scan is complete.
const READY_EVERY: Duration = Duration::from_millis(20);

/// The pause between two status lines for each millisecond that one took.
const STATUS_PAUSE: Duration = Duration::from_millis(200);

/// How the engine ended: its own result, or the death of its thread.
pub(super) type EngineEnd = Result<Result<Option<Writer>, StoreError>, oneshot::error::RecvError>;

/// What wakes the loop.
enum Event {
    EndSignal,
    EngineEnded(Box<EngineEnd>),
    HangUp,
    ReadyCheck,
    Tick,
}

/// The state of the loop.
pub(super) struct MainLoop<'a> {
    reader: &'a Reader,
    shared: &'a Shared,
    reload: &'a Arc<Reload>,
    watchdog: Watchdog,
    is_ready: bool,
    /// The last status line.
    status: String,
    /// When the status line may be made again. It counts over all runs.
    status_from: Instant,
    /// What the last status line was made from.
    counts: Option<(ItemCounts, usize, Option<String>)>,
}

impl<'a> MainLoop<'a> {
    pub(super) fn new(reader: &'a Reader, shared: &'a Shared, reload: &'a Arc<Reload>) -> Self {
        Self {
            reader,
            shared,
            reload,
            watchdog: Watchdog::new(),
            is_ready: false,
            status: String::new(),
            status_from: Instant::now(),
            counts: None,
        }
    }

    /// Runs until a signal ends the daemon, or until the engine ends early. Then returns how it ended.
    pub(super) async fn run(
        mut self,
        end_signals: &mut EndSignals,
        engine_end: &mut oneshot::Receiver<Result<Option<Writer>, StoreError>>,
    ) -> anyhow::Result<Option<EngineEnd>> {
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut ticks = interval(self.watchdog.every.min(STATUS_EVERY));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ready_checks = interval(READY_EVERY);
        loop {
            let event = tokio::select! {
                () = end_signals.recv() => Event::EndSignal,
                end = &mut *engine_end => Event::EngineEnded(Box::new(end)),
                _ = hang_up.recv() => Event::HangUp,
                _ = ready_checks.tick(), if !self.is_ready => Event::ReadyCheck,
                _ = ticks.tick() => Event::Tick,
            };
            match event {
                Event::EndSignal => return Ok(None),
                Event::EngineEnded(end) => return Ok(Some(*end)),
                Event::HangUp => self.reload()?,
                Event::ReadyCheck => self.check_ready(),
                Event::Tick => self.tick(),
            }
        }
    }

    /// Reloads the configuration on a thread of its own.
    fn reload(&self) -> anyhow::Result<()> {
        notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?]);
        let reload = self.reload.clone();
        tokio::task::spawn_blocking(move || {
            // `now` logs its error.
            drop(reload.now());
            notify(&[NotifyState::Ready]);
        });
        Ok(())
    }

    fn check_ready(&mut self) {
        self.is_ready = self.shared.ingest_status().is_ready;
        if self.is_ready {
            tracing::info!("initial scan complete, watching for new files");
            self.status = self.status_line();
            notify(&[NotifyState::Ready, NotifyState::Status(&self.status)]);
        }
    }

    fn tick(&mut self) {
        self.watchdog.check(self.shared);
        self.reload.tell_left_out();
        if !self.is_ready {
            notify_starting("initial scan", STATUS_EVERY);
            return;
        }
        // The status line reads the index. An idle daemon does not.
        let view = self.shared.ingest_status();
        let counts = Some((self.shared.progress.items(), view.waiting.len(), view.trouble));
        let start = Instant::now();
        if self.counts == counts || start < self.status_from {
            return;
        }
        self.counts = counts;
        let status = self.status_line();
        self.status_from =
            start + STATUS_PAUSE * start.elapsed().as_millis().try_into().unwrap_or(1);
        if status != self.status {
            notify(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// What `systemctl status` shows.
    fn status_line(&self) -> String {
        let view = self.shared.ingest_status();
        let (n_runs, [image, held, rejected]) = self.reader.totals().unwrap_or_default();
        let (runs, images) = (counted(n_runs as u64, "run"), counted(image, "image"));
        let waiting = view.waiting.len();
        let trouble = view.trouble.map(|trouble| format!("; cannot write: {trouble}"));
        format!(
            "{runs}, {images}, {held} held back, {rejected} rejected, {waiting} waiting{}",
            trouble.unwrap_or_default()
        )
    }
}
