//! Which attempt of a job wrote a line, and which of its processes.

use serde::{Deserialize, Serialize};

/// The writer of lines of a media log. A job that is started again has another session, and each of its
/// processes another rank.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Session {
    /// The session's id.
    pub id: String,
    /// The process, from 0.
    #[serde(default)]
    pub rank: u32,
}

/// The longest id of a session, in bytes.
pub const SESSION_BYTES_MAX: usize = 256;
