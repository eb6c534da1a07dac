//! Threads that make answers. The newest request comes first, because a person who scrubs no longer waits for the older
//! ones. What nobody waits for any more is dropped.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use super::problem::Failure;
use crate::locks::lock;

/// How many requests wait for a thread, at most. One more pushes out the oldest.
const QUEUE_MAX: usize = 64;

/// A request that waits: it makes its answer, or finds that its client is gone.
type Job = Box<dyn FnOnce() + Send>;

/// Some threads, and the requests that wait for them. The threads end when all clones are dropped.
#[derive(Clone)]
pub(super) struct Workers {
    queue: Arc<Queue>,
    _end: Arc<EndOfWork>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    is_over: bool,
}

/// Ends the threads when it is dropped.
struct EndOfWork(Arc<Queue>);

impl Drop for EndOfWork {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.is_over = true;
        state.jobs.clear();
        self.0.changed.notify_all();
    }
}

impl Workers {
    /// Starts `n_threads` threads.
    ///
    /// # Errors
    /// If the system has none.
    pub(super) fn start(name: &str, n_threads: usize) -> io::Result<Self> {
        let queue = Arc::<Queue>::default();
        let end = Arc::new(EndOfWork(queue.clone()));
        for _ in 0..n_threads {
            let queue = queue.clone();
            thread::Builder::new().name(name.to_owned()).spawn(move || queue.work())?;
        }
        Ok(Self { queue, _end: end })
    }

    /// Makes an answer on one of the threads.
    ///
    /// # Errors
    /// As `make`; 429 if newer requests push this one out.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        make: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (made, answer) = oneshot::channel();
        let job: Job = Box::new(move || {
            if !made.is_closed() {
                // The client may leave meanwhile.
                drop(made.send(make()));
            }
        });
        let pushed_out = {
            let mut state = lock(&self.queue.state);
            state.jobs.push_back(job);
            if state.jobs.len() > QUEUE_MAX { state.jobs.pop_front() } else { None }
        };
        // Dropped without the lock: it owns whatever its request needs.
        drop(pushed_out);
        self.queue.changed.notify_one();
        answer.await.unwrap_or_else(|_| Err(Failure::busy()))
    }
}

impl Queue {
    fn work(&self) {
        loop {
            let job = {
                let mut state = lock(&self.state);
                loop {
                    if state.is_over {
                        return;
                    }
                    if let Some(job) = state.jobs.pop_back() {
                        break job;
                    }
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            };
            // A panic costs its request alone: the sender is dropped, and the client reads 429.
            drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn the_newest_request_comes_first_and_the_oldest_is_pushed_out() {
        let workers = Workers::start("test", 1).expect("a thread");
        let (go_on, wait) = mpsc::sync_channel::<()>(0);
        let order = Arc::new(Mutex::new(Vec::new()));
        let at_work = workers.clone();
        let first = tokio::spawn(async move {
            at_work.run(move || Ok(wait.recv().is_ok())).await.expect("an answer")
        });
        while !lock(&workers.queue.state).jobs.is_empty() || order.lock().is_err() {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let mut requests = Vec::new();
        for n in 0..=QUEUE_MAX {
            let (workers, order) = (workers.clone(), order.clone());
            requests.push(tokio::spawn(async move {
                workers
                    .run(move || {
                        lock(&order).push(n);
                        Ok(())
                    })
                    .await
            }));
            tokio::task::yield_now().await;
        }
        let oldest = requests.remove(0).await.expect("no panic").expect_err("pushed out");
        assert_eq!(oldest.problem().status, 429);
        // Its client leaves.
        requests.remove(0).abort();
        tokio::task::yield_now().await;
        go_on.send(()).expect("the first request waits");
        assert!(first.await.expect("no panic"));
        for request in requests {
            request.await.expect("no panic").expect("an answer");
        }
        let want: Vec<usize> = (2..=QUEUE_MAX).rev().collect();
        assert_eq!(*lock(&order), want);
    }

    #[tokio::test]
    async fn a_panic_costs_its_request_alone() {
        let workers = Workers::start("test", 1).expect("a thread");
        let failed = workers.run::<()>(|| panic!("as a test")).await;
        assert_eq!(failed.expect_err("a failure").problem().status, 429);
        assert_eq!(workers.run(|| Ok(7)).await.expect("an answer"), 7);
    }
}
