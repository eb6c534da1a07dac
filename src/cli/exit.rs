//! The exit codes of all commands.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::config::ConfigError;

/// How a command ends. [`Self::ALL`] says what each code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum ExitCode {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Rejected = 3,
    /// `EX_CONFIG` of `sysexits.h`. systemd does not restart the daemon then.
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
        let places = places.collect::<Vec<_>>().join(" and ");
        write!(f, "no configuration file (looked for {places}): name one with --config FILE")?;
        if self.or.is_empty() { Ok(()) } else { write!(f, ", {}", self.or) }
    }
}

impl std::error::Error for NoConfigFile {}

impl ExitCode {
    /// All codes, each with what it means. The help, the manual and the README have this text.
    pub(super) const ALL: [(Self, &'static str); 5] = [
        (Self::Done, "done"),
        (Self::Failed, "failed, or found a problem that the output names"),
        (Self::Usage, "the command line is wrong"),
        (Self::Rejected, "done, but something was rejected"),
        (Self::BadConfig, "the configuration is invalid or missing"),
    ];

    /// This code, or another one if this is "done".
    pub(super) fn or(self, other: Self) -> Self {
        if self == Self::Done { other } else { self }
    }

    /// The codes in one sentence.
    pub(super) fn in_words() -> String {
        let codes = Self::ALL.map(|(code, meaning)| format!("{} {meaning}", code as u8));
        format!("Exit codes: {}.", codes.join("; "))
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_has_the_same_exit_codes() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let readme = std::fs::read_to_string(readme).expect("the README").replace('\n', " ");
        assert!(readme.contains(&ExitCode::in_words()), "{}", ExitCode::in_words());
    }
}
