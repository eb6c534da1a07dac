//! Messages to systemd (`sd_notify(3)`). Outside of systemd they do nothing.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::ingest::Shared;
use crate::pulse::STALLED;

/// How often the status line is refreshed.
pub(super) const STATUS_EVERY: Duration = Duration::from_secs(2);

/// Feeds systemd's watchdog while no thread is stalled.
pub(super) struct Watchdog {
    /// How often [`Self::check`] must be called.
    pub(super) every: Duration,
    /// How long a thread may go without a beat.
    patience: Duration,
    /// Whether the unit has a watchdog.
    is_enabled: bool,
    /// Names of the stalled threads.
    stalled: Vec<String>,
}

impl Watchdog {
    pub(super) fn new() -> Self {
        let period = sd_notify::watchdog_enabled();
        let patience = period.map_or(STALLED, |period| period / 2);
        let every = period.map_or(STATUS_EVERY, |period| period / 4);
        Self { every, patience, is_enabled: period.is_some(), stalled: Vec::new() }
    }

    /// Logs threads that stall or recover, and feeds the watchdog if none is stalled.
    pub(super) fn check(&mut self, shared: &Shared) {
        let stalled = shared.pulses.stalled(Instant::now(), self.patience);
        let names: Vec<String> = stalled.iter().map(|stalled| stalled.thread.clone()).collect();
        if names != self.stalled {
            for stalled in &stalled {
                let (thread, since_ms) = (&stalled.thread, stalled.since.as_millis());
                tracing::error!(thread, since_ms, "thread is stalled");
            }
            if names.is_empty() {
                tracing::info!("no thread is stalled any more");
            }
            self.stalled = names;
        }
        if self.is_enabled && self.stalled.is_empty() {
            notify(&[NotifyState::Watchdog]);
        }
    }
}

/// Sets the status line during the start, and extends systemd's time-out beyond the next message, due after `step`.
pub(super) fn notify_starting(status: &str, step: Duration) {
    let timeout_us = u32::try_from((5 * step).as_micros()).unwrap_or(u32::MAX);
    notify(&[NotifyState::Status(status), NotifyState::ExtendTimeoutUsec(timeout_us)]);
}

/// Sends a message.
pub(super) fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}
