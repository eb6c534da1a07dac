//! `safelight ingest`: reads run directories once.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::{Common, Ending, PATIENCE, printable, thousands};
use crate::config::{Config, WatchConfig};
use crate::control::client::Client;
use crate::ingest::{Engine, Mode, Shared};
use crate::media::State;
use crate::store::{self, Filter, Reader};

/// How many rejections are printed; all are listed by `ls`.
const REJECTED_SHOWN: usize = 10;

pub(super) fn run(
    run_dirs: &[PathBuf],
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<Ending> {
    let (mut config, _) = common.config()?;
    config.watches = run_dirs
        .iter()
        .map(|path| watch(path, &config))
        .collect::<Result<_, _>>()?;
    let shared = Shared::default();
    let bar = progress_bar();
    let log = BarWriter { bar: bar.clone() };
    crate::logging::start_for_command(move || log.clone());

    let me = common.holder("ingest");
    let opened = store::open(&config.store, &me, PATIENCE);
    let (writer, reader) = opened.map_err(|error| {
        let holder = store::lock::holder(&config.store).and_then(|holder| holder.socket);
        let is_daemon = holder.is_some_and(|socket| Client::connect(&socket).is_ok());
        let advice = if is_daemon {
            "a daemon holds the store: let it watch the directory, or take another --store"
        } else {
            "cannot open the store"
        };
        anyhow!(error).context(advice)
    })?;
    let start = Instant::now();
    let engine = Engine::new(
        Mode::Once,
        config.clone(),
        writer,
        reader.clone(),
        shared.clone(),
    )?;
    let (_commands, commands_in) = crossbeam_channel::bounded(1);
    let is_over = Arc::new(AtomicBool::new(false));
    let painter = paint(bar.clone(), shared.clone(), is_over.clone())?;
    let writer = engine.run(&commands_in);
    is_over.store(true, Ordering::Relaxed);
    painter
        .join()
        .map_err(|_| anyhow!("the progress thread died"))?;
    bar.finish_and_clear();
    let writer = writer?.ok_or_else(|| anyhow!("the commit thread died"))?;
    let elapsed = start.elapsed();
    let problems: Vec<String> = shared
        .view()
        .watching
        .into_iter()
        .filter_map(|root| root.problem.filter(|problem| problem != "read once"))
        .collect();
    let [image, held, rejected] = shared.progress.counts();
    let runs = reader.runs()?;
    let of_these: Vec<_> = runs
        .into_iter()
        .filter(|run| config.watches.iter().any(|watch| watch.path == run.source))
        .collect();
    if common.json {
        let new = json!({"image": image, "held": held, "rejected": rejected});
        let summary = json!({
            "store": config.store, "runs": of_these, "new": new, "elapsed_s": elapsed.as_secs_f64(), "problems": problems,
        });
        writeln!(out, "{summary}")?;
    } else {
        let seconds = elapsed.as_secs_f64();
        for run in &of_these {
            let (image, held, rejected) = (
                thousands(run.image),
                thousands(run.held),
                thousands(run.rejected),
            );
            writeln!(
                out,
                "{}: {image} images, {held} held back, {rejected} rejected",
                printable(run.run.as_str())
            )?;
        }
        let n_new = image + held + rejected;
        writeln!(
            out,
            "new: {image} images, {held} held back, {rejected} rejected, in {seconds:.2} s"
        )?;
        if rejected > 0 {
            show_rejected(&reader, &of_these, rejected, out)?;
        }
        let begun = shared.view().begun_lines;
        for (_, log, n_bytes) in begun {
            writeln!(
                out,
                "{}: ends in {n_bytes} bytes without a newline, which are not read yet",
                printable(&log)
            )?;
        }
        if n_new > 0 || !of_these.is_empty() {
            show_where(&config, common, &of_these, out)?;
        }
    }
    writer.close()?;
    if !problems.is_empty() {
        return Err(anyhow!("not all was read: {}", problems.join("; ")));
    }
    Ok(if rejected > 0 {
        Ending::Rejected
    } else {
        Ending::Done
    })
}

/// What is read of a run directory: what the configuration says of it, or the usual.
fn watch(path: &PathBuf, config: &Config) -> anyhow::Result<WatchConfig> {
    let path =
        std::fs::canonicalize(path).with_context(|| format!("run directory {}", path.display()))?;
    if !path.is_dir() {
        return Err(anyhow!("{} is not a directory", path.display()));
    }
    let configured = config
        .watches
        .iter()
        .find(|watch| path.starts_with(&watch.path));
    let usual = configured
        .cloned()
        .map_or_else(|| WatchConfig::usual(&path), Ok)?;
    Ok(WatchConfig {
        path,
        runs: None,
        ..usual
    })
}

fn show_rejected(
    reader: &Reader,
    runs: &[store::RunSummary],
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
            let place = entry.source.path;
            latest.push(format!(
                "{}: {}",
                printable(&place),
                printable(&entry.reason.unwrap_or_default())
            ));
        }
    }
    let n_new = usize::try_from(n_rejected)
        .unwrap_or(usize::MAX)
        .min(latest.len());
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

fn show_where(
    config: &Config,
    common: &Common,
    runs: &[store::RunSummary],
    out: &mut impl Write,
) -> io::Result<()> {
    let store = common
        .store
        .as_ref()
        .map_or_else(String::new, |store| format!(" --store {}", store.display()));
    let named = common
        .config
        .as_ref()
        .map_or_else(String::new, |path| format!(" --config {}", path.display()));
    for run in runs {
        let folder = config
            .store
            .join("runs")
            .join(run.run.folder())
            .join("media/images");
        writeln!(out, "pictures: {}", folder.display())?;
        writeln!(out, "list:     safelight ls {}{store}{named}", run.run)?;
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
    bar.set_style(
        style
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━╸ "),
    );
    bar
}

/// Paints the bar until `is_over`.
fn paint(
    bar: ProgressBar,
    shared: Shared,
    is_over: Arc<AtomicBool>,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new()
        .name("progress".to_owned())
        .spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let [image, held, rejected] = shared.progress.counts();
                bar.set_length(shared.progress.n_expected());
                bar.set_position(shared.progress.n_done());
                bar.set_message(format!(
                    "lines and dumps: {image} images, {held} held back, {rejected} rejected"
                ));
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
