//! How many items may be in transfer to a target at the same time. Pure.
//!
//! A round lasts as long as the average response. There is one lane at first. Each round in which all lanes were in
//! use adds a lane. A round removes a tenth of the lanes in two cases:
//! - The target was busy or failed.
//! - Responses took more than twice as long as without a queue at the target: more lanes would only make the queue
//!   longer.
//!
//! The response time without a queue is measured while there is one lane, and updated whenever a round is faster.

use std::time::{Duration, Instant};

/// A round is slow if its responses took this many times as long as without a queue.
const SLOW: f64 = 2.0;

/// The fewest responses in a round without failures.
const RESPONSES_MIN: u32 = 3;

/// A target's response to an item, as far as it matters for the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TargetResponse {
    /// The target accepted or rejected the item.
    Answered,
    /// The target is busy, or did not respond.
    Failed,
}

/// The number of lanes, and the measurements that it follows from.
#[derive(Debug)]
pub(super) struct Lanes {
    n: f64,
    max: usize,
    /// The response time without a queue, in seconds.
    unqueued: Option<f64>,
    round: Round,
}

#[derive(Debug, Default)]
struct Round {
    start: Option<Instant>,
    n_responses: u32,
    /// The sum of the response times, in seconds.
    took: f64,
    was_full: bool,
    has_failed: bool,
}

impl Lanes {
    pub(super) fn new(max: usize) -> Self {
        Self { n: 1.0, max: max.max(1), unqueued: None, round: Round::default() }
    }

    /// How many items may be in transfer now: at least 1.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to `max`")]
    pub(super) fn n(&self) -> usize {
        self.n as usize
    }

    /// Adds a response that took `took`. `n_in_transfer` items were in transfer, this one included.
    pub(super) fn add_response(
        &mut self,
        now: Instant,
        response: TargetResponse,
        took: Duration,
        n_in_transfer: usize,
    ) {
        let is_full = n_in_transfer >= self.n();
        let round = &mut self.round;
        let start = *round.start.get_or_insert(now);
        round.n_responses += 1;
        round.took += took.as_secs_f64();
        round.was_full |= is_full;
        round.has_failed |= response == TargetResponse::Failed;
        let mean = round.took / f64::from(round.n_responses);
        let is_over = now.saturating_duration_since(start).as_secs_f64() >= mean;
        if round.has_failed || is_over && round.n_responses >= RESPONSES_MIN {
            self.end_round(mean);
        }
    }

    fn end_round(&mut self, mean: f64) {
        let Round { was_full, has_failed, .. } = std::mem::take(&mut self.round);
        if has_failed {
            self.remove_some();
            return;
        }
        let unqueued = match self.unqueued {
            Some(unqueued) if self.n() > 1 => unqueued.min(mean),
            _ => mean,
        };
        self.unqueued = Some(unqueued);
        if mean > SLOW * unqueued {
            self.remove_some();
        } else if was_full {
            #[expect(clippy::cast_precision_loss, reason = "a small number")]
            let max = self.max as f64;
            self.n = (self.n + 1.0).min(max);
        }
    }

    fn remove_some(&mut self) {
        self.n = (self.n * 0.9).max(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of lanes after `n_rounds` rounds. The target serves `served` items at once in 10 ms, queues the
    /// rest, and turns away one item in `n_busy`.
    fn settle(served: usize, n_rounds: u32, max: usize, n_busy: Option<u32>) -> usize {
        let mut lanes = Lanes::new(max);
        let mut now = Instant::now();
        let mut n_items = 0;
        for _ in 0..n_rounds {
            let n = lanes.n();
            let took = Duration::from_millis(10) * u32::try_from(n.div_ceil(served)).unwrap_or(1);
            now += took;
            for _ in 0..n {
                n_items += 1;
                let is_busy = n_busy.is_some_and(|every| n_items % every == 0);
                let response =
                    if is_busy { TargetResponse::Failed } else { TargetResponse::Answered };
                lanes.add_response(now, response, took, n);
            }
        }
        lanes.n()
    }

    #[test]
    fn lanes_grow_up_to_the_maximum_while_responses_stay_fast() {
        assert_eq!(settle(1000, 1, 16, None), 1);
        assert_eq!(settle(1000, 200, 16, None), 16);
        assert_eq!(settle(1000, 200, 1, None), 1);
    }

    #[test]
    fn a_target_that_queues_gets_few_more_lanes_than_it_serves_at_once() {
        for served in [4, 8] {
            let n = settle(served, 2000, 64, None);
            assert!((served..=3 * served).contains(&n), "{n} of {served}");
        }
    }

    #[test]
    fn larger_items_take_longer_and_regain_their_lanes() {
        let mut lanes = Lanes::new(16);
        let mut now = Instant::now();
        for ms in [10, 100] {
            for _ in 0..300 {
                let took = Duration::from_millis(ms);
                now += took;
                let n = lanes.n();
                (0..n).for_each(|_| lanes.add_response(now, TargetResponse::Answered, took, n));
            }
            assert_eq!(lanes.n(), 16, "{ms} ms");
        }
    }

    #[test]
    fn failures_remove_lanes() {
        let n = settle(1000, 500, 64, Some(10));
        assert!(n <= 12, "{n}");
        let mut lanes = Lanes::new(16);
        lanes.n = 16.0;
        for _ in 0..100 {
            lanes.add_response(Instant::now(), TargetResponse::Failed, Duration::from_secs(30), 1);
        }
        assert_eq!(lanes.n(), 1);
    }

    #[test]
    fn unused_lanes_are_not_increased() {
        let mut lanes = Lanes::new(16);
        lanes.n = 3.0;
        let start = Instant::now();
        for i in 0..100u32 {
            let now = start + Duration::from_millis(10) * i;
            lanes.add_response(now, TargetResponse::Answered, Duration::from_millis(10), 1);
        }
        assert_eq!(lanes.n(), 3);
    }
}
