//! Reads media logs: follows them, splits them into lines, and finds lines again by number.
//!
//! | module | its one job |
//! | --- | --- |
//! | `content` | what a log's content says: which log it is |
//! | `buffers` | the memory that waiting lines take |
//! | `lines` | bytes → whole lines, wherever the bytes were cut |
//! | `tail` | one log: reads what is appended, notices when it was truncated or rewritten |
//! | `resting` | logs that are closed because they are quiet |
//! | `cursors` | up to where each log was read, also those whose files are gone |
//! | `follower` | the logs of a run: which file is which log, through renames and copies |
//! | `schedule` | decides when the logs of which run are read |
//! | `numbered` | finds lines of a log by number, to release held items |

mod lines;
mod content;
mod buffers;
mod tail;
mod resting;
mod cursors;
mod follower;
mod schedule;
mod numbered;
#[cfg(test)]
mod tests;

pub(crate) use self::content::matches as is_log_of;
pub(crate) use self::follower::{LogFollower, n_open_logs, open_logs_max};
pub(crate) use self::lines::RawLine;
pub(crate) use self::numbered::NumberedLog;
pub(crate) use self::schedule::{LogSchedule, LogState};
pub(crate) use self::tail::Tail;
