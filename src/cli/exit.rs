//! The exit codes of all commands.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::config::ConfigError;

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum ExitCode {
    /// Done.
    Done = 0,
    /// Failed, or found a problem that the output names.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Done, but something was rejected.
    Rejected = 3,
    /// The configuration is invalid or missing: `EX_CONFIG` of `sysexits.h`. systemd does not restart the daemon then.
    BadConfig = 78,
}

/// No configuration file was named, and none is in the default places.
#[derive(Debug)]
pub(super) struct NoConfigFile {
    /// The default places.
    pub(super) looked_for: Vec<PathBuf>,
    /// What may be named instead of a file; may be empty.
    pub(super) or: &'static str,
}

impl fmt::Display for NoConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self.looked_for.iter().map(|path| path.display().to_string());
        let places = places.collect::<Vec<_>>().join(" nor ");
        write!(f, "no configuration file: there is neither {places}; name one with --config FILE")?;
        if self.or.is_empty() { Ok(()) } else { write!(f, ", {}", self.or) }
    }
}

impl std::error::Error for NoConfigFile {}

impl ExitCode {
    /// The code of an error.
    pub(super) fn of(error: &anyhow::Error) -> Self {
        if is_broken_pipe(error) {
            // The reader has seen enough, as `head` has.
            Self::Done
        } else if error.is::<ConfigError>() || error.is::<NoConfigFile>() {
            Self::BadConfig
        } else {
            Self::Failed
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// An error with its causes. A cause that an outer message repeats is left out.
pub(super) fn with_causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
    }
    text
}
