//! How far a source was read: the cursor that closes a batch of lines.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::media::{Digest, LineDigest, Session, Sha256, Step, Xxh3};

/// How far a source was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SourceCursor {
    Log(LogCursor),
    Dump(DumpCursor),
    /// Closes lines of the store's own, which have no source.
    None,
}

/// How far a media log was read, and how to recognize the log again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogCursor {
    /// Relative to the run directory.
    pub(crate) path: String,
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    /// Bytes read, up to and including the newline of the last line that was handled.
    pub(crate) offset: u64,
    /// Lines read.
    pub(crate) line: u64,
    /// Of the first bytes.
    pub(crate) head: Fingerprint,
    /// Of the last bytes before `offset`.
    pub(crate) tail: Fingerprint,
    /// Of all lines before `offset`. `None` if an earlier version read some of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<LineDigest>,
    /// The modification time of the log when it was looked at last, in nanoseconds since the Unix epoch. If
    /// it is the same, the lines before `offset` are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mtime_ns: Option<i64>,
    /// Tells the log from other logs, and from what it was before it was truncated or rewritten. `None`
    /// if an earlier version read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<u32>,
    /// Who wrote the lines from `offset` on, if the log says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<Session>,
    /// The line that the cursor closes, if the line describes items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) read: Option<ReadLine>,
}

/// The content of a line that was read: the same line in a copy of its log is not read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct ReadLine {
    /// The step that the line says, or 0.
    pub(crate) step: Step,
    pub(crate) xxh3: LineDigest,
}

/// A digest of a few bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    pub(crate) n_bytes: u64,
    pub(crate) digest: String,
}

impl Fingerprint {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::of(bytes).to_string()[..16].to_owned();
        Self { n_bytes: bytes.len() as u64, digest }
    }
}

/// Which version of a dump was read, of a dump that has no line in a media log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DumpCursor {
    /// Relative to the run directory.
    pub(crate) path: String,
    pub(crate) stamp: Stamp,
    /// The sidecar's stamp, if the dump had a sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sidecar: Option<Stamp>,
    /// The dump's digest, of one kind or the other. None if part of the dump was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<Sha256>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) xxh3: Option<Xxh3>,
}

impl DumpCursor {
    /// A version whose digest is not known.
    pub(crate) fn new(path: String, stamp: Stamp, sidecar: Option<Stamp>) -> Self {
        Self { path, stamp, sidecar, sha256: None, xxh3: None }
    }

    /// The dump's digest.
    pub(crate) fn digest(&self) -> Option<Digest> {
        Digest::of_fields(self.xxh3, self.sha256)
    }

    /// The same version with this digest.
    pub(crate) fn with_digest(self, digest: Option<Digest>) -> Self {
        let (xxh3, sha256) = digest.map_or((None, None), Digest::fields);
        Self { sha256, xxh3, ..self }
    }
}

/// Tells one version of a file from another. Times are compared for equality only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) ino: u64,
    pub(crate) size: u64,
    pub(crate) mtime_ns: i128,
    pub(crate) ctime_ns: i128,
}

impl Stamp {
    /// The modification time. A time before the Unix epoch counts as the epoch.
    pub(crate) fn modified(self) -> SystemTime {
        let since = Duration::from_nanos(u64::try_from(self.mtime_ns).unwrap_or(0));
        SystemTime::UNIX_EPOCH + since
    }

    /// Whether the file has the same content as under the other stamp. The change time may differ: it
    /// also changes with the file's name and rights.
    pub(crate) fn has_content_of(self, other: Self) -> bool {
        (self.ino, self.size, self.mtime_ns) == (other.ino, other.size, other.mtime_ns)
    }
}
