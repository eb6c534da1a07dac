//! Decides when the logs of which run are read. Pure.
//!
//! A log is read when an event or a scan says that it may have changed. In between, logs are also read
//! without an event: those of active runs at each tick, those of quiet runs seldom, and a bounded number of
//! them at each tick. So a quiet run costs nothing when something happens in another one, and many quiet runs
//! cost no more than a few.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// The logs of a quiet run are read once in this many ticks, or less often if there are many such runs.
const QUIET_TICKS: u64 = 10;

/// Quiet runs that are read at each tick: those that send events, and those of polled directories.
const QUIET_PER_TICK: u64 = 200;
const POLLED_PER_TICK: u64 = 1000;

/// How long a run stays active after something was read.
const ACTIVE: Duration = Duration::from_mins(1);

/// What the logs of a run are like after they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogState {
    /// There are no logs.
    Absent,
    /// All was handled, and an event will say when there is more.
    Quiet,
    /// All was handled, and no event may come.
    Polled,
    /// Lines wait.
    Waiting,
    /// All that came was no line: there may be more, but it can wait.
    Empty(Duration),
    /// There may be more to read at once.
    Busy,
}

/// When the logs of each run are read next.
#[derive(Debug)]
pub(crate) struct LogSchedule<Key> {
    start: Instant,
    tick: Duration,
    due: BTreeSet<(Instant, Key)>,
    runs: HashMap<Key, Scheduled>,
    /// Runs that are quiet, and those of them in polled directories.
    n_quiet: u64,
    n_polled: u64,
    /// Runs that became quiet.
    n_became_quiet: u64,
}

#[derive(Debug, Clone, Copy)]
struct Scheduled {
    due: Instant,
    active_until: Option<Instant>,
    /// Whether it is quiet, and if so whether its directory is polled.
    quiet: Option<bool>,
}

impl<Key: Copy + Ord + Hash> LogSchedule<Key> {
    /// No runs. Ticks are counted from `start`.
    pub(crate) fn new(start: Instant, tick: Duration) -> Self {
        Self {
            start,
            tick,
            due: BTreeSet::new(),
            runs: HashMap::new(),
            n_quiet: 0,
            n_polled: 0,
            n_became_quiet: 0,
        }
    }

    /// Reads the logs of a run now: something may have changed.
    pub(crate) fn look_now(&mut self, run: Key, now: Instant) {
        let before = self.runs.get(&run);
        if before.is_some_and(|before| before.due <= now) {
            return;
        }
        let active_until = before.and_then(|before| before.active_until);
        self.set(run, Scheduled { due: now, active_until, quiet: None });
    }

    /// Reads the logs of all runs now.
    pub(crate) fn look_at_all(&mut self, now: Instant) {
        let mut runs: Vec<Key> = self.runs.keys().copied().collect();
        runs.sort_unstable();
        runs.into_iter().for_each(|run| self.look_now(run, now));
    }

    /// Notes that the logs of a run were read, and what they are like.
    pub(crate) fn looked(&mut self, run: Key, now: Instant, state: LogState) {
        let before = self.runs.get(&run);
        let was_quiet = before.is_some_and(|before| before.quiet.is_some());
        let active_until = match state {
            LogState::Busy => Some(now + ACTIVE),
            _ => before.and_then(|before| before.active_until).filter(|at| *at > now),
        };
        let quiet = match state {
            LogState::Quiet | LogState::Polled if active_until.is_none() => {
                Some(state == LogState::Polled)
            }
            _ => None,
        };
        let due = match (state, quiet) {
            (LogState::Absent, _) => return self.forget(run),
            (LogState::Busy, _) => now,
            (LogState::Empty(pause), _) => now + pause,
            (_, None) => self.tick_after(now, 1),
            (_, Some(is_polled)) => {
                let n_ticks = |n_runs: u64| {
                    let (per_tick, min) = if is_polled {
                        (POLLED_PER_TICK, 1)
                    } else {
                        (QUIET_PER_TICK, QUIET_TICKS)
                    };
                    n_runs.div_ceil(per_tick).max(min)
                };
                if was_quiet {
                    let n = if is_polled { self.n_polled } else { self.n_quiet - self.n_polled };
                    self.tick_after(now, n_ticks(n))
                } else {
                    // Spread, so that each tick reads about as many.
                    self.n_became_quiet += 1;
                    let n_ticks = n_ticks(self.runs.len() as u64);
                    self.tick_after(now, 1 + self.n_became_quiet % n_ticks)
                }
            }
        };
        self.set(run, Scheduled { due, active_until, quiet });
    }

    /// Forgets a run.
    pub(crate) fn forget(&mut self, run: Key) {
        if let Some(before) = self.runs.remove(&run) {
            self.due.remove(&(before.due, run));
            self.count(before, false);
        }
    }

    /// The first `n_max` runs whose logs are due, those that are due for longest first.
    pub(crate) fn due(&self, now: Instant, n_max: usize) -> Vec<Key> {
        let due = self.due.iter().take_while(|(at, _)| *at <= now);
        due.take(n_max).map(|(_, run)| *run).collect()
    }

    /// When the next logs are due.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    fn set(&mut self, run: Key, scheduled: Scheduled) {
        if let Some(before) = self.runs.insert(run, scheduled) {
            self.due.remove(&(before.due, run));
            self.count(before, false);
        }
        self.due.insert((scheduled.due, run));
        self.count(scheduled, true);
    }

    fn count(&mut self, run: Scheduled, is_added: bool) {
        let count = |n: &mut u64| *n = if is_added { *n + 1 } else { *n - 1 };
        if let Some(is_polled) = run.quiet {
            count(&mut self.n_quiet);
            if is_polled {
                count(&mut self.n_polled);
            }
        }
    }

    /// All that waits for a tick waits for the same ones, so that the engine wakes once for all of it.
    fn tick_after(&self, now: Instant, n: u64) -> Instant {
        let passed =
            now.saturating_duration_since(self.start).as_nanos() / self.tick.as_nanos().max(1);
        let tick = u32::try_from(passed + u128::from(n)).unwrap_or(u32::MAX);
        self.start + self.tick * tick
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_secs(1);

    #[test]
    fn the_logs_of_a_quiet_run_are_read_seldom_and_of_an_active_one_at_each_tick() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut schedule = LogSchedule::new(start, TICK);
        schedule.look_now("a", at(100));
        assert_eq!(schedule.due(at(99), 9), [""; 0]);
        assert_eq!(schedule.due(at(100), 9), ["a"]);
        schedule.looked("a", at(100), LogState::Busy);
        assert_eq!(schedule.due(at(100), 9), ["a"], "there may be more");
        schedule.looked("a", at(150), LogState::Quiet);
        assert_eq!(schedule.wake_at(), Some(at(1000)), "it is active");
        schedule.looked("a", at(60_000), LogState::Quiet);
        assert_eq!(schedule.wake_at(), Some(at(61_000)));
        schedule.looked("a", at(61_000), LogState::Quiet);
        assert!(schedule.wake_at() > Some(at(62_000)) && schedule.wake_at() <= Some(at(71_000)));
        // An event reads it at once.
        schedule.look_now("a", at(61_500));
        assert_eq!(schedule.due(at(61_500), 9), ["a"]);
        schedule.looked("a", at(61_500), LogState::Waiting);
        assert_eq!(schedule.wake_at(), Some(at(62_000)));
        schedule.looked("a", at(62_000), LogState::Absent);
        assert_eq!(schedule.wake_at(), None);
    }

    #[test]
    fn each_tick_reads_a_part_of_the_quiet_runs() {
        let start = Instant::now();
        let mut schedule = LogSchedule::new(start, TICK);
        let mut n_reads = HashMap::new();
        (0..5000).for_each(|run| schedule.look_now(run, start));
        for second in 0..250u32 {
            let now = start + TICK * second;
            let due = schedule.due(now, usize::MAX);
            assert!(second == 0 || due.len() <= 300, "{second}: {}", due.len());
            for run in due {
                *n_reads.entry(run).or_insert(0) += 1;
                schedule.looked(run, now, LogState::Quiet);
            }
        }
        assert!(n_reads.values().all(|n| (9..=13).contains(n)), "{:?}", n_reads.values().max());
    }
}
