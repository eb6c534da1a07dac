//! The progress bar of `safelight ingest`, of `verify` and of `--from`: shown on a terminal, hidden elsewhere.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::anyhow;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::format::items;
use crate::ingest::Shared;

/// How often the bar is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(50);

/// A progress bar. Clones share it.
#[derive(Clone)]
pub(super) struct Progress {
    bar: ProgressBar,
}

/// The thread that draws the bar.
pub(super) struct Drawing {
    is_over: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Progress {
    pub(super) fn new() -> Self {
        if !io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {elapsed}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("━╸ "));
        Self { bar }
    }

    /// Draws the progress of an engine on a thread of its own.
    pub(super) fn draw(&self, shared: Shared) -> io::Result<Drawing> {
        let is_over = Arc::new(AtomicBool::new(false));
        let (bar, is_over_too) = (self.bar.clone(), is_over.clone());
        let thread = thread::Builder::new().name("progress".to_owned()).spawn(move || {
            while !is_over_too.load(Ordering::Relaxed) {
                bar.set_length(shared.progress.n_expected());
                bar.set_position(shared.progress.n_done());
                let made = items(shared.progress.items().by_state());
                bar.set_message(format!("lines and dumps: {made}"));
                thread::sleep(DRAW_EVERY);
            }
            bar.finish_and_clear();
        })?;
        Ok(Drawing { is_over, thread })
    }
}

impl Progress {
    /// Shows that `n` of `n_expected` are done.
    pub(super) fn set(&self, n: u64, n_expected: u64, message: String) {
        self.bar.set_length(n_expected.max(n));
        self.bar.set_position(n);
        self.bar.set_message(message);
    }

    /// Runs `print` while the bar is not shown.
    pub(super) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drawing {
    /// Removes the bar.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the progress thread died"))
    }
}

/// Writes log lines above the bar.
impl Write for Progress {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bar.suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
