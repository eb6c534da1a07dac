//! Errors of a target's directory.

use std::io;
use std::path::PathBuf;

/// An entry of a target's directory that Safelight refuses to write to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetDirError {
    /// A file or folder of a path is a symbolic link.
    #[error(
        "found a symbolic link, which is not followed; replace it with a file or directory, or remove it: {0}"
    )]
    Link(PathBuf),
    /// An entry has another type than needed.
    #[error("got {found}, want {want}; move it away: {path}")]
    WrongType { path: PathBuf, found: &'static str, want: &'static str },
    /// A file has the name, and Safelight did not write it.
    #[error(
        "found a file that Safelight did not write, which is not overwritten; move it away: {0}"
    )]
    NotOurs(PathBuf),
    /// A file has other names, which may be another program's files elsewhere.
    #[error(
        "found a file with other names (hard links), which is not changed, because they would change too; replace it with a copy, or move it away: {0}"
    )]
    HardLinks(PathBuf),
    /// A path is absolute or contains `..`.
    #[error("the path leaves the target's directory: {0}")]
    Outside(PathBuf),
}

impl From<TargetDirError> for io::Error {
    fn from(error: TargetDirError) -> Self {
        Self::other(error)
    }
}
