//! Limits how many bytes a second are read from the disk that the training also reads, or sent to a target.
//!
//! Pure, except for [`Pace::wait_for`].

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::locks::lock;
use crate::pulse;

/// How far a pause saves up: this much time at the full rate may be moved at once after it.
const BURST: Duration = Duration::from_millis(250);

/// The longest single sleep.
const SLICE: Duration = Duration::from_millis(500);

/// A byte rate that several threads share.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// `None` for no limit.
    bytes_per_s: Option<u64>,
    /// When all bytes so far would be moved at the full rate.
    paid_until: Option<Instant>,
}

impl Pace {
    /// Sets the rate.
    pub(crate) fn set(&self, bytes_per_s: Option<u64>) {
        let mut state = lock(&self.state);
        (state.bytes_per_s, state.paid_until) = (bytes_per_s, None);
    }

    fn rate(&self) -> Option<u64> {
        lock(&self.state).bytes_per_s
    }

    /// How long to wait before moving `n_bytes`.
    pub(crate) fn delay(&self, now: Instant, n_bytes: u64) -> Duration {
        let mut state = lock(&self.state);
        let Some(rate) = state.bytes_per_s else { return Duration::ZERO };
        #[expect(clippy::cast_precision_loss, reason = "a pause need not be exact")]
        let takes = Duration::from_secs_f64(n_bytes as f64 / rate.max(1) as f64);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let paid_until = state.paid_until.map_or(earliest, |at| at.max(earliest)) + takes;
        state.paid_until = Some(paid_until);
        paid_until.saturating_duration_since(now)
    }

    /// Waits until `n_bytes` may be moved.
    pub(crate) fn wait_for(&self, n_bytes: u64) {
        let (until, rate) = (Instant::now() + self.delay(Instant::now(), n_bytes), self.rate());
        // A new rate ends the wait.
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|d| !d.is_zero())
            && self.rate() == rate
        {
            pulse::idle(|| std::thread::sleep(left.min(SLICE)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_after_a_burst_and_a_pause_saves_no_more_than_that() {
        let (pace, start) = (Pace::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(pace.delay(start, u64::MAX), Duration::ZERO, "no rate is set");
        pace.set(Some(1000));
        assert_eq!(pace.delay(at(1000), 250), Duration::ZERO, "the burst");
        assert_eq!(pace.delay(at(1000), 100), Duration::from_millis(100));
        assert_eq!(pace.delay(at(1000), 100), Duration::from_millis(200), "readers queue");
        assert_eq!(pace.delay(at(9000), 300), Duration::from_millis(50), "after a long pause");
    }
}
