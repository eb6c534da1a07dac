//! The current time, as far as ages can rely on it.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// How far the system's clock may deviate from the time since the start.
const CLOCK_JUMP_MAX: Duration = Duration::from_hours(1);

/// A clock that notices when the system's clock is set. A suspend is no jump: the time since the boot goes on meanwhile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetentionClock {
    start: Times,
}

/// The clocks at one moment.
#[derive(Debug, Clone, Copy)]
struct Times {
    system: SystemTime,
    /// The time since the boot, with the time in which the machine was suspended.
    since_boot: Duration,
}

impl Times {
    fn now() -> Self {
        let boot = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(boot.tv_sec).unwrap_or_default();
        let nanoseconds = u32::try_from(boot.tv_nsec).unwrap_or_default();
        Self { system: SystemTime::now(), since_boot: Duration::new(seconds, nanoseconds) }
    }
}

impl RetentionClock {
    pub(crate) fn start() -> Self {
        Self { start: Times::now() }
    }

    /// Returns the time, or `None` if the system's clock was set since the start.
    pub(super) fn now(&self) -> Option<SystemTime> {
        let now = Times::now();
        (self.jump(now) <= CLOCK_JUMP_MAX).then_some(now.system)
    }

    /// Says that the system's clock was set since the start, if it was.
    pub(crate) fn trouble(&self) -> Option<String> {
        let jump = self.jump(Times::now());
        (jump > CLOCK_JUMP_MAX).then(|| {
            format!(
                "the system clock was set by {} minutes since the start: nothing is removed by age until the next start",
                jump.as_secs() / 60
            )
        })
    }

    /// How far the system's clock was set since the start, in either direction.
    fn jump(&self, now: Times) -> Duration {
        let expected = self.start.system + now.since_boot.saturating_sub(self.start.since_boot);
        now.system.duration_since(expected).unwrap_or_else(|before| before.duration())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60;

    #[test]
    fn a_suspend_is_no_jump_and_a_set_clock_is_one() {
        let start = Times::now();
        let clock = RetentionClock { start };
        // By how many minutes the system's clock and the time since the boot have moved, and the jump.
        for (system, boot, want) in [
            (0, 0, 0),
            (90 * 24 * 60, 90 * 24 * 60, 0),
            // The time since the boot goes on in a suspend; a clock without it would see a jump of a day.
            (24 * 60, 24 * 60, 0),
            (61, 0, 61),
            (-61, 0, 61),
            (10, 130, 120),
            // A clock that was set and set back.
            (300, 300, 0),
        ] {
            let seconds = Duration::from_secs((system * MINUTE).unsigned_abs());
            let system = if system < 0 { start.system - seconds } else { start.system + seconds };
            let since_boot = start.since_boot + Duration::from_mins(boot);
            let jump = clock.jump(Times { system, since_boot });
            assert_eq!(jump, Duration::from_mins(want), "{system:?} {boot}");
        }
        assert!(clock.now().is_some() && clock.trouble().is_none());
        let set = Times { system: start.system - Duration::from_secs(10_830), ..start };
        let clock = RetentionClock { start: set };
        assert_eq!(clock.now(), None);
        let trouble = clock.trouble().expect("a jump");
        assert!(trouble.contains("set by 180 minutes since the start"), "{trouble}");
    }

    #[test]
    fn the_time_since_the_boot_counts_a_suspend() {
        // The kernel adds the time of suspends to it, and to nothing else.
        let uptime = std::fs::read_to_string("/proc/uptime").expect("an uptime");
        let uptime: f64 = uptime.split(' ').next().and_then(|s| s.parse().ok()).expect("seconds");
        let since_boot = Times::now().since_boot.as_secs_f64();
        assert!((since_boot - uptime).abs() < 5.0, "{since_boot} {uptime}");
    }
}
