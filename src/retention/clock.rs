//! The current time, as far as ages can rely on it.

use std::time::{Duration, Instant, SystemTime};

/// How far the system's clock may deviate from the time since the start.
const CLOCK_JUMP_MAX: Duration = Duration::from_hours(1);

/// A clock that notices when the system's clock is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetentionClock {
    start: (SystemTime, Instant),
}

impl RetentionClock {
    pub(crate) fn start() -> Self {
        Self { start: (SystemTime::now(), Instant::now()) }
    }

    /// Returns the time, or `None` if the system's clock was set since the start.
    pub(super) fn now(&self) -> Option<SystemTime> {
        let expected = self.start.0 + self.start.1.elapsed();
        let now = SystemTime::now();
        let jump = now.duration_since(expected).unwrap_or_else(|before| before.duration());
        (jump <= CLOCK_JUMP_MAX).then_some(now)
    }
}
