//! `safelight ingest`: reads run directories once.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::{Common, Ending, PATIENCE, counts, printable};
use crate::config::{Config, WatchConfig};
use crate::control::client::Client;
use crate::ingest::{Engine, Mode, Shared};
use crate::media::{RunId, State};
use crate::store::{self, Filter, Reader, RunSummary, StoreError};

/// How many rejections are printed; all are listed by `ls`.
const REJECTED_SHOWN: usize = 10;

pub(super) fn run(
    run_dirs: &[PathBuf],
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<Ending> {
    let (mut config, _) = common.config()?;
    config.live.watches =
        run_dirs.iter().map(|path| watch(path, &config)).collect::<Result<_, _>>()?;
    let shared = Shared::default();
    let bar = progress_bar();
    let log = BarWriter { bar: bar.clone() };
    crate::logging::start_for_command(move || log.clone());

    super::act_as_owner_of(&config.boot.store)?;
    let opened = store::open(&config.boot.store, &Common::holder("ingest"), PATIENCE);
    let (writer, reader) = opened.map_err(|error| with_advice(error, &config.boot.store))?;
    let start = Instant::now();
    let engine = Engine::new(Mode::Once, config.clone(), writer, reader.clone(), shared.clone())?;
    let (_commands, commands_in) = crossbeam_channel::bounded(1);
    let is_over = Arc::new(AtomicBool::new(false));
    let painter = paint(bar.clone(), shared.clone(), is_over.clone())?;
    let writer = engine.run(&commands_in);
    is_over.store(true, Ordering::Relaxed);
    painter.join().map_err(|_| anyhow!("the progress thread died"))?;
    bar.finish_and_clear();
    let writer = writer?.ok_or_else(|| anyhow!("the commit thread died"))?;

    let report = Report::new(&config, &reader, &shared, start.elapsed())?;
    if common.json {
        writeln!(out, "{}", report.to_json())?;
    } else {
        report.print(&reader, common, out)?;
    }
    writer.close()?;
    if !report.problems.is_empty() {
        return Err(anyhow!("not all was read: {}", report.problems.join("; ")));
    }
    Ok(if report.new[2] > 0 { Ending::Rejected } else { Ending::Done })
}

fn with_advice(error: StoreError, store: &Path) -> anyhow::Error {
    let socket = store::lock::holder(store).and_then(|holder| holder.socket);
    let is_daemon = socket.is_some_and(|socket| Client::connect(&socket).is_ok());
    let error = anyhow!(error);
    if is_daemon {
        error.context(
            "a daemon holds the store: let it watch the directory, or take another --store",
        )
    } else {
        error
    }
}

/// What came of it.
struct Report {
    store: PathBuf,
    runs: Vec<RunSummary>,
    /// Images, held back and rejected by this command.
    new: [u64; 3],
    elapsed: Duration,
    /// Logs that end in a line without its newline.
    begun_lines: Vec<(RunId, String, u64)>,
    /// Why something was not read.
    problems: Vec<String>,
}

impl Report {
    fn new(
        config: &Config,
        reader: &Reader,
        shared: &Shared,
        elapsed: Duration,
    ) -> Result<Self, StoreError> {
        let view = shared.ingest_status();
        let of_roots = view.watching.into_iter().filter_map(|root| root.problem);
        let mut problems: Vec<String> = of_roots.chain(view.problems).collect();
        if view.n_in_flight > 0 {
            problems.push(format!("{} lines and dumps were begun and not done", view.n_in_flight));
        }
        let is_read =
            |run: &RunSummary| config.live.watches.iter().any(|watch| watch.path == run.source);
        Ok(Self {
            store: config.boot.store.clone(),
            runs: reader.runs()?.into_iter().filter(is_read).collect(),
            new: shared.progress.items().by_state(),
            elapsed,
            begun_lines: view.begun_lines,
            problems,
        })
    }

    fn to_json(&self) -> Value {
        let [image, held, rejected] = self.new;
        json!({
            "store": self.store,
            "runs": self.runs,
            "new": {"image": image, "held": held, "rejected": rejected},
            "begun_lines": self.begun_lines,
            "problems": self.problems,
            "elapsed_s": self.elapsed.as_secs_f64(),
        })
    }

    fn print(&self, reader: &Reader, common: &Common, out: &mut impl Write) -> anyhow::Result<()> {
        for run in &self.runs {
            let counts = counts([run.image, run.held, run.rejected]);
            writeln!(out, "{}: {counts}", printable(run.run.as_str()))?;
        }
        writeln!(out, "new: {}, in {:.2} s", counts(self.new), self.elapsed.as_secs_f64())?;
        if self.new[2] > 0 {
            show_rejected(reader, &self.runs, self.new[2], out)?;
        }
        for (run, log, n_bytes) in &self.begun_lines {
            let log = printable(&format!("{run}/{log}"));
            writeln!(
                out,
                "{log}: ends in {n_bytes} bytes without a newline, which are not read yet"
            )?;
        }
        let given = |name: &str, path: Option<&PathBuf>| {
            path.map_or_else(String::new, |path| format!(" --{name} {}", path.display()))
        };
        let options =
            given("store", common.store.as_ref()) + &given("config", common.config.as_ref());
        // As it was called, so that the line can be called too.
        let program = std::env::args().next().unwrap_or_else(|| "safelight".to_owned());
        for run in &self.runs {
            let folder = self.store.join("runs").join(run.run.folder()).join("media/images");
            writeln!(out, "pictures: {}", folder.display())?;
            writeln!(out, "list:     {program} ls {}{options}", printable(run.run.as_str()))?;
        }
        Ok(())
    }
}

/// How a run directory is read: as its `[[watch]]` says, or by the default patterns.
fn watch(path: &PathBuf, config: &Config) -> anyhow::Result<WatchConfig> {
    let path =
        std::fs::canonicalize(path).with_context(|| format!("run directory {}", path.display()))?;
    if !path.is_dir() {
        return Err(anyhow!("{} is not a directory", path.display()));
    }
    let configured = config.live.watches.iter().find(|watch| path.starts_with(&watch.path));
    Ok(match configured {
        Some(watch) => WatchConfig { path, runs: None, ..watch.clone() },
        None => WatchConfig::of_run(path),
    })
}

fn show_rejected(
    reader: &Reader,
    runs: &[RunSummary],
    n_rejected: u64,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut latest = Vec::new();
    for run in runs {
        let filter = Filter {
            run: Some(run.run.clone()),
            state: Some(State::Rejected),
            ..Filter::default()
        };
        for item in reader.items(&filter)? {
            let (_, entry) = item?;
            let reason = printable(entry.reason().unwrap_or_default());
            let mut place = entry.source.path;
            if let Some(tensor) = entry.source.tensor {
                place = format!("{place} {tensor}");
            }
            latest.push(format!("{}: {reason}", printable(&place)));
        }
    }
    let n_new = usize::try_from(n_rejected).unwrap_or(usize::MAX).min(latest.len());
    let new = &latest[latest.len() - n_new..];
    for line in new.iter().take(REJECTED_SHOWN) {
        writeln!(out, "  rejected {line}")?;
    }
    if new.len() > REJECTED_SHOWN {
        writeln!(
            out,
            "  … and {} more: safelight ls --state rejected",
            new.len() - REJECTED_SHOWN
        )?;
    }
    Ok(())
}

/// A bar on a terminal, nothing elsewhere.
fn progress_bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸ "));
    bar
}

/// Paints the bar until `is_over`.
fn paint(
    bar: ProgressBar,
    shared: Shared,
    is_over: Arc<AtomicBool>,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("progress".to_owned()).spawn(move || {
        while !is_over.load(Ordering::Relaxed) {
            bar.set_length(shared.progress.n_expected());
            bar.set_position(shared.progress.n_done());
            let items = counts(shared.progress.items().by_state());
            bar.set_message(format!("lines and dumps: {items}"));
            thread::sleep(Duration::from_millis(50));
        }
    })
}

/// Writes log lines above the bar.
#[derive(Clone)]
struct BarWriter {
    bar: ProgressBar,
}

impl Write for BarWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bar.suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
