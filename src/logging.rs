//! The log: its format, its destination, its level, and a limit for repeated lines.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::config::log::LogFormat;
use crate::locks::lock;

/// How many lines from one place in the source are logged in one [`WINDOW`]. More are counted and dropped.
const LINES_MAX: u32 = 100;

/// The period for [`LINES_MAX`].
const WINDOW: Duration = Duration::from_secs(10);

/// Changes the log level while the program runs.
pub(crate) struct Level {
    filter: Handle<EnvFilter, Registry>,
    floods: Floods,
}

impl Level {
    /// A level that changes no log.
    #[cfg(test)]
    pub(crate) fn detached() -> Self {
        let (_, filter) = reload::Layer::new(EnvFilter::new("info"));
        Self { filter, floods: Floods::default() }
    }

    /// Sets the filter. An invalid filter changes nothing.
    pub(crate) fn set(&self, level: &str) {
        if let Ok(filter) = EnvFilter::try_new(level)
            && let Err(error) = self.filter.reload(filter)
        {
            tracing::warn!(%error, "cannot change the log level");
        }
    }

    /// Logs how many lines were dropped since the last call.
    pub(crate) fn tell_left_out(&self) {
        for (line, n_lines) in self.floods.take_left_out() {
            tracing::warn!(n_lines, line, "dropped repeated log lines");
        }
    }
}

/// Limits repeated lines: a job that writes broken dumps must not fill the log.
#[derive(Debug, Clone, Default)]
struct Floods(Arc<Mutex<HashMap<Identifier, Flood>>>);

#[derive(Debug)]
struct Flood {
    since: Instant,
    n: u32,
    n_left_out: u64,
    /// The place in the source that logs the line.
    place: String,
}

impl Floods {
    /// Whether one more line from this place may be logged.
    fn allow(&self, metadata: &Metadata<'_>, now: Instant) -> bool {
        let mut floods = lock(&self.0);
        let flood = floods.entry(metadata.callsite()).or_insert_with(|| Flood {
            since: now,
            n: 0,
            n_left_out: 0,
            place: format!("{}:{}", metadata.target(), metadata.line().unwrap_or(0)),
        });
        if now.saturating_duration_since(flood.since) >= WINDOW {
            (flood.since, flood.n) = (now, 0);
        }
        flood.n = flood.n.saturating_add(1);
        let is_allowed = flood.n <= LINES_MAX;
        flood.n_left_out += u64::from(!is_allowed);
        is_allowed
    }

    fn take_left_out(&self) -> Vec<(String, u64)> {
        let mut floods = lock(&self.0);
        let left_out = floods.values_mut().filter(|flood| flood.n_left_out > 0);
        let mut left_out: Vec<_> =
            left_out.map(|f| (f.place.clone(), std::mem::take(&mut f.n_left_out))).collect();
        left_out.sort();
        left_out
    }
}

impl<S> Filter<S> for Floods {
    fn enabled(&self, _metadata: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _context: &Context<'_, S>) -> bool {
        self.allow(event.metadata(), Instant::now())
    }
}

/// Starts the log of a daemon.
///
/// # Errors
/// If the format is journald and journald cannot be reached.
pub(crate) fn start(format: LogFormat, level: &str) -> io::Result<Level> {
    let (filter, handle) =
        reload::Layer::new(EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info")));
    let layer: Box<dyn Layer<_> + Send + Sync> = match format {
        LogFormat::Journald => {
            Box::new(tracing_journald::layer()?.with_syslog_identifier("safelight".to_owned()))
        }
        LogFormat::Auto if is_run_by_journald() => {
            let lines = fmt::format().compact().without_time().with_level(false).with_ansi(false);
            let format = WithPriority(lines.with_target(false));
            Box::new(
                fmt::layer().event_format(format).with_writer(|| OneLine { keeps_ansi: false }),
            )
        }
        LogFormat::Auto if !io::stderr().is_terminal() => json(),
        LogFormat::Json => json(),
        LogFormat::Text | LogFormat::Auto => {
            let keeps_ansi = io::stderr().is_terminal();
            let writer = move || OneLine { keeps_ansi };
            Box::new(fmt::layer().with_ansi(keeps_ansi).with_writer(writer))
        }
    };
    let floods = Floods::default();
    let layer = layer.with_filter(floods.clone());
    tracing_subscriber::registry().with(filter).with(layer).init();
    Ok(Level { filter: handle, floods })
}

fn json<S: Subscriber + for<'a> LookupSpan<'a>>() -> Box<dyn Layer<S> + Send + Sync> {
    let writer = || OneLine { keeps_ansi: false };
    Box::new(fmt::layer().json().flatten_event(true).with_writer(writer))
}

/// Starts each line with its priority for journald (`sd-daemon(3)`). Unlike journald's own protocol, the line then
/// shows the fields beside the message in plain `journalctl`.
struct WithPriority<F>(F);

impl<S, N, F> FormatEvent<S, N> for WithPriority<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let priority = match *event.metadata().level() {
            tracing::Level::ERROR => 3,
            tracing::Level::WARN => 4,
            tracing::Level::INFO => 6,
            _ => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}

/// Writes one line at a time to standard error. Control characters are replaced, so that a file name cannot forge a
/// line.
struct OneLine {
    keeps_ansi: bool,
}

impl OneLine {
    fn printable(&self, line: &str) -> String {
        let line = line.strip_suffix('\n').unwrap_or(line);
        let is_shown = |c: char| !c.is_control() || c == '\x1b' && self.keeps_ansi;
        let shown = line.chars().map(|c| if is_shown(c) { c } else { '\u{FFFD}' });
        shown.chain(['\n']).collect()
    }
}

impl io::Write for OneLine {
    // The layer writes a whole line with one call.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = self.printable(&String::from_utf8_lossy(bytes));
        io::stderr().write_all(line.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Starts the log of a command: warnings and errors, to `writer`.
pub(crate) fn start_for_command<W>(writer: W)
where
    W: for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_target(false).without_time().with_ansi(false).with_writer(writer);
    let filter =
        EnvFilter::try_from_env("SAFELIGHT_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    // A second call, in tests, keeps the first log.
    drop(tracing_subscriber::registry().with(filter).with(layer).try_init());
}

/// Whether journald reads standard error. It names the stream's device and inode in `$JOURNAL_STREAM`.
fn is_run_by_journald() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else {
        return false;
    };
    let is_stderr = |stat: rustix::fs::Stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino);
    rustix::fs::fstat(io::stderr().as_fd()).is_ok_and(is_stderr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_forges_a_line() {
        let line = |keeps_ansi: bool, text: &str| OneLine { keeps_ansi }.printable(text);
        assert_eq!(
            line(false, "a\n<0>b\r\u{9b}c\x1b[2Jd\n"),
            "a\u{FFFD}<0>b\u{FFFD}\u{FFFD}c\u{FFFD}[2Jd\n"
        );
        assert_eq!(line(true, "\x1b[2mx\x1b[0m\ny\n"), "\x1b[2mx\x1b[0m\u{FFFD}y\n");
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("the lines").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn one_kind_of_line_does_not_drown_the_others() {
        let (lines, floods) = (Lines::default(), Floods::default());
        let writer = lines.clone();
        let layer = fmt::layer().with_writer(move || writer.clone()).with_ansi(false);
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(floods.clone()));
        tracing::subscriber::with_default(subscriber, || {
            for n in 0..1000 {
                tracing::info!(n, "flood");
            }
            tracing::info!("other");
        });
        let text = String::from_utf8(lines.0.lock().expect("the lines").clone()).expect("text");
        assert_eq!(text.matches("flood").count(), 100);
        assert_eq!(text.matches("other").count(), 1);
        let left_out = floods.take_left_out();
        assert_eq!(left_out.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [900]);
        assert_eq!(floods.take_left_out(), []);
    }
}
