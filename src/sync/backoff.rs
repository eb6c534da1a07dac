//! When to try again. Pure.

use std::time::Duration;

/// The longest pause before the first try again, and before any.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);

/// The longest pause that a target may ask for.
const ASKED_MAX: Duration = Duration::from_hours(1);

/// The pause after so many failures in a row, from 1: anything up to a bound that doubles from 1 s to 60 s
/// (full jitter, so that boxes that lost a server together don't come back together), but as long as the target
/// asked for. `luck` is 0 to 1.
pub(super) fn pause(n_failures: u32, asked: Option<Duration>, luck: f64) -> Duration {
    let doubled = 2u32.saturating_pow(n_failures.saturating_sub(1));
    let bound = FIRST.saturating_mul(doubled).min(LONGEST);
    let pause = bound.mul_f64(luck.clamp(0.0, 1.0));
    asked.map_or(pause, |asked| asked.min(ASKED_MAX) + pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_are_spread_over_all_that_time() {
        let bounds = [1, 2, 3, 4, 5, 6, 7, 8, u32::MAX].map(|n| pause(n, None, 1.0).as_secs());
        assert_eq!(bounds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(3, None, 0.5), Duration::from_secs(2));
        assert_eq!(pause(9, None, 0.0), Duration::ZERO);
    }

    #[test]
    fn a_target_is_left_alone_as_long_as_it_asks_but_not_for_ever() {
        let asked = |s| Some(Duration::from_secs(s));
        assert_eq!(pause(1, asked(90), 0.0), Duration::from_secs(90));
        assert_eq!(pause(7, asked(90), 1.0), Duration::from_secs(150));
        assert_eq!(pause(1, asked(u64::MAX), 0.0), ASKED_MAX);
    }
}
