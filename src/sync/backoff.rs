//! Pauses before retries. Pure.

use std::time::Duration;

/// Upper bounds of the pause before the first retry, and before any.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);

/// The longest pause that a target may request.
const REQUESTED_MAX: Duration = Duration::from_hours(1);

/// The pause after `n_failures` failures in a row, at least 1, with `luck` from 0 to 1.
///
/// It is a random part of a bound that doubles from 1 s to 60 s. Full jitter keeps machines that lost a server at the
/// same time from returning at the same time. The pause that the target requested is added.
pub(super) fn pause(n_failures: u32, requested: Option<Duration>, luck: f64) -> Duration {
    let doubled = 2u32.saturating_pow(n_failures.saturating_sub(1));
    let bound = FIRST.saturating_mul(doubled).min(LONGEST);
    let pause = bound.mul_f64(luck.clamp(0.0, 1.0));
    requested.map_or(pause, |requested| requested.min(REQUESTED_MAX) + pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_are_spread_over_the_whole_bound() {
        let bounds = [1, 2, 3, 4, 5, 6, 7, 8, u32::MAX].map(|n| pause(n, None, 1.0).as_secs());
        assert_eq!(bounds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(3, None, 0.5), Duration::from_secs(2));
        assert_eq!(pause(9, None, 0.0), Duration::ZERO);
    }

    #[test]
    fn a_requested_pause_is_kept_but_not_for_ever() {
        let requested = |s| Some(Duration::from_secs(s));
        assert_eq!(pause(1, requested(90), 0.0), Duration::from_secs(90));
        assert_eq!(pause(7, requested(90), 1.0), Duration::from_secs(150));
        assert_eq!(pause(1, requested(u64::MAX), 0.0), REQUESTED_MAX);
    }
}
