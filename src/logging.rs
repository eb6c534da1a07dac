//! Where log lines go.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::config::file::LogFormat;

/// Changes what is logged while the program runs.
pub(crate) struct Level(Handle<EnvFilter, Registry>);

impl Level {
    /// Logs by this filter from now on. A filter that can't be read changes nothing.
    pub(crate) fn set(&self, level: &str) {
        if let Ok(filter) = EnvFilter::try_new(level)
            && let Err(error) = self.0.reload(filter)
        {
            tracing::warn!(%error, "log level is not changed");
        }
    }
}

/// Starts the log of a daemon.
///
/// # Errors
/// If journald is asked for and can't be reached.
pub(crate) fn start(format: LogFormat, level: &str) -> io::Result<Level> {
    let (filter, handle) =
        reload::Layer::new(EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info")));
    let format = match format {
        LogFormat::Auto if is_run_by_journald() => LogFormat::Journald,
        LogFormat::Auto if io::stderr().is_terminal() => LogFormat::Text,
        LogFormat::Auto => LogFormat::Json,
        named => named,
    };
    let layer: Box<dyn Layer<_> + Send + Sync> = match format {
        LogFormat::Journald => {
            Box::new(tracing_journald::layer()?.with_syslog_identifier("safelight".to_owned()))
        }
        LogFormat::Json => {
            Box::new(fmt::layer().json().flatten_event(true).with_writer(io::stderr))
        }
        LogFormat::Text | LogFormat::Auto => {
            Box::new(fmt::layer().with_ansi(io::stderr().is_terminal()).with_writer(io::stderr))
        }
    };
    tracing_subscriber::registry().with(filter).with(layer).init();
    Ok(Level(handle))
}

/// Starts the log of a command: warnings and errors, written by `writer`.
pub(crate) fn start_for_command<W>(writer: W)
where
    W: for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_target(false).without_time().with_ansi(false).with_writer(writer);
    let filter =
        EnvFilter::try_from_env("SAFELIGHT_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    // A second call, as tests make it, keeps the first one's log.
    drop(tracing_subscriber::registry().with(filter).with(layer).try_init());
}

/// Whether journald reads standard error: it says so by the stream's device and inode.
fn is_run_by_journald() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else {
        return false;
    };
    let is_stderr = |stat: rustix::fs::Stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino);
    rustix::fs::fstat(io::stderr().as_fd()).is_ok_and(is_stderr)
}
