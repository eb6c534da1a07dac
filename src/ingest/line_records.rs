//! Reads the records of log lines by number.

use std::collections::HashMap;

use crate::ingest::logs::{NumberedLog, RawLine};
use crate::media::Rejection;
use crate::record::{Line, MediaRecord, parse_line};
use crate::run_dir::RunDir;

/// Why a line is of no use any more.
pub(crate) const MOVED: &str = "the line or path that described it has changed";

/// Logs that stay open.
const LOGS_MAX: usize = 16;

/// The logs of a run directory whose lines are read again, in any order.
#[derive(Default)]
pub(crate) struct LineRecords(HashMap<String, Result<NumberedLog, String>>);

impl LineRecords {
    /// Reads the record on a line of a log, by the line's number from 1. `dir` is the same for all calls.
    ///
    /// # Errors
    /// If the log is gone, or if the line is no record of an image any more.
    pub(crate) fn read(
        &mut self,
        dir: &RunDir,
        log: &str,
        number: u64,
        line_bytes_max: u64,
    ) -> Result<MediaRecord, Rejection> {
        if self.0.len() >= LOGS_MAX && !self.0.contains_key(log) {
            self.0.clear();
        }
        let open = || NumberedLog::open(dir, log, line_bytes_max);
        let opened = self.0.entry(log.to_owned()).or_insert_with(open);
        let opened = opened.as_mut().map_err(|reason| Rejection::waiting(reason.clone()))?;
        let line = opened.line(number).map_err(Rejection::waiting)?;
        match line {
            Some(line) if line.is_too_long => {
                Err(Rejection::waiting(too_long(&line, line_bytes_max)))
            }
            Some(line) => match parse_line(&line.bytes) {
                Ok(Line::Media(record)) => Ok(*record),
                _ => Err(Rejection::waiting(MOVED)),
            },
            None => Err(Rejection::waiting(MOVED)),
        }
    }
}

/// Says that a line is longer than `max` bytes.
pub(super) fn too_long(line: &RawLine, max: u64) -> String {
    let (got, begin) = (line.n_bytes, String::from_utf8_lossy(&line.bytes));
    format!("line of {got} bytes, limits.line_bytes_max is {max}; it begins {begin:.64}")
}
