//! Finds stalled threads, for the watchdog and for health.
//!
//! A working thread calls [`beat`] again and again. A thread without work, or one that waits for another thread, waits
//! inside [`idle`]. A thread that does neither for long is stalled. The process is then useless, even if its other
//! threads still answer.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::locks::lock;

/// How long a thread may go without a beat before it is stalled, if no watchdog sets another limit.
pub(crate) const STALLED: Duration = Duration::from_secs(30);

/// The watched threads. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Pulses {
    start: Instant,
    threads: Arc<Mutex<Vec<Arc<Pulse>>>>,
}

#[derive(Debug)]
struct Pulse {
    name: String,
    start: Instant,
    /// Time of the last beat, in milliseconds from `start`.
    beat_ms: AtomicU64,
    is_idle: AtomicBool,
    /// Whether the thread ended, by itself or by a panic.
    is_over: AtomicBool,
}

/// A stalled thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stalled {
    pub(crate) thread: String,
    pub(crate) since: Duration,
}

/// Marks the thread as over when it ends.
struct Mine(Arc<Pulse>);

impl Drop for Mine {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

thread_local! {
    static MINE: RefCell<Option<Mine>> = const { RefCell::new(None) };
}

/// Records that this thread makes progress. Does nothing on a thread that is not watched.
pub(crate) fn beat() {
    MINE.with_borrow(|mine| {
        if let Some(Mine(pulse)) = mine {
            pulse.beat(Instant::now());
        }
    });
}

/// Runs `wait`, which may block without limit. The thread does not count as stalled meanwhile.
pub(crate) fn idle<T>(wait: impl FnOnce() -> T) -> T {
    let set = |is_idle| {
        MINE.with_borrow(|mine| {
            if let Some(Mine(pulse)) = mine {
                pulse.beat(Instant::now());
                pulse.is_idle.store(is_idle, Ordering::Release);
            }
        });
    };
    set(true);
    let result = wait();
    set(false);
    result
}

impl Default for Pulses {
    fn default() -> Self {
        Self { start: Instant::now(), threads: Arc::default() }
    }
}

impl Pulses {
    /// Watches the calling thread from now on, under this name.
    pub(crate) fn watch_this_thread(&self, name: &str) {
        let pulse = Arc::new(Pulse {
            name: name.to_owned(),
            start: self.start,
            beat_ms: AtomicU64::new(0),
            is_idle: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        pulse.beat(Instant::now());
        lock(&self.threads).push(pulse.clone());
        MINE.set(Some(Mine(pulse)));
    }

    /// The threads that had no beat for `patience`, or ended.
    pub(crate) fn stalled(&self, now: Instant, patience: Duration) -> Vec<Stalled> {
        let threads = lock(&self.threads);
        let stalled = threads.iter().filter_map(|pulse| {
            let since = pulse.still_for(now);
            let is_still = !pulse.is_idle.load(Ordering::Acquire) && since >= patience;
            (is_still || pulse.is_over.load(Ordering::Relaxed))
                .then(|| Stalled { thread: pulse.name.clone(), since })
        });
        stalled.collect()
    }
}

impl Pulse {
    fn beat(&self, now: Instant) {
        let ms = now.saturating_duration_since(self.start).as_millis();
        self.beat_ms.store(u64::try_from(ms).unwrap_or(u64::MAX), Ordering::Release);
    }

    fn still_for(&self, now: Instant) -> Duration {
        let at = self.start + Duration::from_millis(self.beat_ms.load(Ordering::Acquire));
        now.saturating_duration_since(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_neither_beats_nor_waits_is_stalled() {
        let pulses = Pulses::default();
        let (go, may_go) = crossbeam_channel::bounded::<()>(0);
        let (ready, is_ready) = crossbeam_channel::bounded::<()>(0);
        let of_thread = pulses.clone();
        let thread = std::thread::Builder::new().spawn(move || {
            of_thread.watch_this_thread("worker");
            ready.send(()).ok();
            // Busy without a beat.
            may_go.recv().ok();
            beat();
            ready.send(()).ok();
            idle(|| may_go.recv().ok());
        });
        let thread = thread.expect("a thread");
        let patience = Duration::from_secs(30);
        let later = || Instant::now() + patience;
        is_ready.recv().expect("a thread that started");
        assert_eq!(pulses.stalled(Instant::now(), patience), []);
        assert_eq!(pulses.stalled(later(), patience)[0].thread, "worker");
        go.send(()).expect("a thread that listens");
        is_ready.recv().expect("a thread that went on");
        // It is idle now, or about to be.
        while !pulses.stalled(later(), patience).is_empty() {
            std::thread::yield_now();
        }
        go.send(()).expect("a thread that listens");
        thread.join().expect("a thread that ends");
        assert_eq!(pulses.stalled(Instant::now(), patience).len(), 1, "it ended");
    }
}
