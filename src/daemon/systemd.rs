//! What systemd is told.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::ingest::Shared;

/// How long a thread may stand still before it counts as stalled, where no watchdog says.
pub(crate) const STALLED: Duration = Duration::from_secs(30);

/// Tells systemd's watchdog that every thread gets on, as long as that is so.
pub(super) struct Watchdog {
    /// How often it is told.
    pub(super) every: Duration,
    /// How long a thread may stand still.
    patience: Duration,
    is_asked_for: bool,
    stalled: Vec<String>,
}

impl Watchdog {
    pub(super) fn new() -> Self {
        let period = sd_notify::watchdog_enabled();
        let patience = period.map_or(STALLED, |period| period / 2);
        let every = period.map_or(super::STATUS_EVERY, |period| period / 4);
        Self { every, patience, is_asked_for: period.is_some(), stalled: Vec::new() }
    }

    pub(super) fn look(&mut self, shared: &Shared) {
        let stalled = shared.pulses.stalled(Instant::now(), self.patience);
        let names: Vec<String> = stalled.iter().map(|stalled| stalled.thread.clone()).collect();
        if names != self.stalled {
            for stalled in &stalled {
                let (thread, since_ms) = (&stalled.thread, stalled.since.as_millis());
                tracing::error!(thread, since_ms, "thread is stalled");
            }
            if names.is_empty() {
                tracing::info!("all threads get on again");
            }
            self.stalled = names;
        }
        if self.is_asked_for && self.stalled.is_empty() {
            tell_systemd(&[NotifyState::Watchdog]);
        }
    }
}

/// Has systemd wait for the start a while longer.
pub(super) fn tell_opening(status: &str, step: Duration) {
    let longer = u32::try_from((5 * step).as_micros()).unwrap_or(u32::MAX);
    tell_systemd(&[NotifyState::Status(status), NotifyState::ExtendTimeoutUsec(longer)]);
}

/// Outside of systemd this does nothing.
pub(super) fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell systemd");
    }
}
