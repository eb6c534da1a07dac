//! How many items may be on their way to a target at the same time. Pure.
//!
//! One, to begin with. In each round (as long as an answer takes on average) in which all lanes were in use, one
//! lane more; a tenth fewer when the target said that it is busy or failed, or when answers took more than twice
//! as long as they do when there is no queue in front of it: then more at a time only makes that queue longer.
//! How long they take without one is seen while there is one lane, and whenever they come quicker than ever.

use std::time::{Duration, Instant};

/// A round is slow that took so many times as long as one without a queue.
const SLOW: f64 = 2.0;

/// Answers in a round, at least.
const ANSWERS_MIN: u32 = 3;

/// What a target did with an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It took it, or said that it never will.
    Given,
    /// It is busy, or there was no answer.
    Trouble,
}

/// The number of lanes.
#[derive(Debug)]
pub(super) struct Lanes {
    n: f64,
    max: usize,
    /// How many seconds an answer takes without a queue.
    unqueued: Option<f64>,
    round: Round,
}

#[derive(Debug, Default)]
struct Round {
    start: Option<Instant>,
    n_answers: u32,
    /// Seconds, in all.
    took: f64,
    was_full: bool,
    had_trouble: bool,
}

impl Lanes {
    pub(super) fn new(max: usize) -> Self {
        Self { n: 1.0, max: max.max(1), unqueued: None, round: Round::default() }
    }

    /// How many items may be on their way now: 1 at least.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to `max`")]
    pub(super) fn n(&self) -> usize {
        self.n as usize
    }

    /// Notes an answer that took so long, when so many items, it included, were on their way.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        answer: Answer,
        took: Duration,
        n_under_way: usize,
    ) {
        let is_full = n_under_way >= self.n();
        let round = &mut self.round;
        let start = *round.start.get_or_insert(now);
        round.n_answers += 1;
        round.took += took.as_secs_f64();
        round.was_full |= is_full;
        round.had_trouble |= answer == Answer::Trouble;
        let mean = round.took / f64::from(round.n_answers);
        let is_over = now.saturating_duration_since(start).as_secs_f64() >= mean;
        if round.had_trouble || is_over && round.n_answers >= ANSWERS_MIN {
            self.end_round(mean);
        }
    }

    fn end_round(&mut self, mean: f64) {
        let Round { was_full, had_trouble, .. } = std::mem::take(&mut self.round);
        if had_trouble {
            self.fewer();
            return;
        }
        let unqueued = match self.unqueued {
            Some(unqueued) if self.n() > 1 => unqueued.min(mean),
            _ => mean,
        };
        self.unqueued = Some(unqueued);
        if mean > SLOW * unqueued {
            self.fewer();
        } else if was_full {
            #[expect(clippy::cast_precision_loss, reason = "a small number")]
            let max = self.max as f64;
            self.n = (self.n + 1.0).min(max);
        }
    }

    fn fewer(&mut self) {
        self.n = (self.n * 0.9).max(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of lanes after rounds of a target that serves so many items at once in 10 ms, and queues the
    /// rest; an item in `n_busy` it turns away.
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
                let answer = if is_busy { Answer::Trouble } else { Answer::Given };
                lanes.answered(now, answer, took, n);
            }
        }
        lanes.n()
    }

    #[test]
    fn lanes_grow_up_to_the_cap_while_answers_come_as_quickly() {
        assert_eq!(settle(1000, 1, 16, None), 1);
        assert_eq!(settle(1000, 200, 16, None), 16);
        assert_eq!(settle(1000, 200, 1, None), 1);
    }

    #[test]
    fn a_target_that_queues_gets_not_many_more_than_it_serves() {
        for served in [4, 8] {
            let n = settle(served, 2000, 64, None);
            assert!((served..=3 * served).contains(&n), "{n} of {served}");
        }
    }

    #[test]
    fn larger_items_take_longer_and_get_their_lanes_back() {
        let mut lanes = Lanes::new(16);
        let mut now = Instant::now();
        for ms in [10, 100] {
            for _ in 0..300 {
                let took = Duration::from_millis(ms);
                now += took;
                let n = lanes.n();
                (0..n).for_each(|_| lanes.answered(now, Answer::Given, took, n));
            }
            assert_eq!(lanes.n(), 16, "{ms} ms");
        }
    }

    #[test]
    fn trouble_takes_lanes_away() {
        let n = settle(1000, 500, 64, Some(10));
        assert!(n <= 12, "{n}");
        let mut lanes = Lanes::new(16);
        lanes.n = 16.0;
        for _ in 0..100 {
            lanes.answered(Instant::now(), Answer::Trouble, Duration::from_secs(30), 1);
        }
        assert_eq!(lanes.n(), 1);
    }

    #[test]
    fn lanes_that_are_not_used_are_not_multiplied() {
        let mut lanes = Lanes::new(16);
        lanes.n = 3.0;
        let start = Instant::now();
        for i in 0..100u32 {
            let now = start + Duration::from_millis(10) * i;
            lanes.answered(now, Answer::Given, Duration::from_millis(10), 1);
        }
        assert_eq!(lanes.n(), 3);
    }
}
