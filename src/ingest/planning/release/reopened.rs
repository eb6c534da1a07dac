//! Reads again what described a held or waiting item, and its dump.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::super::dump_version::{self, GONE};
use super::super::line::too_long;
use super::super::planner::MOVED;
use super::super::{PlanContext, Planner};
use crate::config::WatchConfig;
use crate::ingest::dumps::{MissingFile, OpenDump, OpenRecord};
use crate::ingest::logs::NumberedLog;
use crate::ingest::pipeline::{CHANGED, held_at};
use crate::ingest::runs::{RunReader, Runs};
use crate::limits::Limits;
use crate::media::{HeldAt, Rejection, RunId, Source};
use crate::record::{Line, MediaRecord, parse_line};
use crate::run_dir::ReadFailure;
use crate::store::StoreError;

/// Logs that stay open.
const LOGS_MAX: usize = 16;

/// A run directory that was opened again.
pub(super) struct ReopenedRun {
    pub(super) run: RunReader,
    logs: HashMap<String, Result<NumberedLog, String>>,
}

impl ReopenedRun {
    /// Opens a run directory where the store read it from. Follows no link: another run's directory may lie
    /// there now.
    pub(super) fn open(
        id: &RunId,
        runs: &Runs,
        unwatched: &[WatchConfig],
        context: &PlanContext<'_>,
    ) -> Result<Self, String> {
        let reader = context.planner.reader();
        reader.check_left_out(id).map_err(|error| error.to_string())?;
        let live = runs.with_id(id).and_then(|key| runs.get(key));
        let known = reader.run_info(id).map_err(|error| error.to_string())?;
        let known = live.map(|live| live.info.clone()).or(known.map(Arc::new));
        let info = known.ok_or("the store does not say where the run came from")?;
        let is_of = |watch: &&WatchConfig| {
            let canonical = std::fs::canonicalize(&watch.path);
            info.source.starts_with(&watch.path)
                || canonical.is_ok_and(|path| info.source.starts_with(path))
        };
        let watch = match live {
            Some(live) => (**live.files.watch()).clone(),
            None => match context.config.watches.iter().chain(unwatched).find(is_of) {
                Some(watch) => watch.clone(),
                None => WatchConfig::of_run(info.source.clone()),
            },
        };
        let watch = WatchConfig { path: Path::new("/").to_owned(), ..watch };
        let options = context.read_options.clone();
        let mut run = RunReader::open(&info.source, id.as_str(), Arc::new(watch), options)?;
        if run.id() != id {
            return Err(format!("{} is the run {} now", info.source.display(), run.id()));
        }
        if live.is_some() {
            run.info = info;
        }
        Ok(Self { run, logs: HashMap::new() })
    }

    /// Reads again what described held images, and their dump, which must be unchanged.
    pub(super) fn read_held(
        &mut self,
        source: &Source,
        held: HeldAt,
        planner: &Planner,
    ) -> Result<Result<OpenRecord, String>, StoreError> {
        if self.run.files.dir().stat(&source.path).is_none() {
            return Ok(Err(GONE.to_owned()));
        }
        let opened = self.read_again(source, MissingFile::Wait, planner)?;
        let opened = opened.map_err(|why| why.reason);
        Ok(opened.and_then(|opened| {
            let is_unchanged = is_unchanged(&opened.dump, source, held)?;
            is_unchanged.then_some(opened).ok_or_else(|| CHANGED.to_owned())
        }))
    }

    /// Reads again what described an item, and its dump.
    pub(super) fn read_again(
        &mut self,
        source: &Source,
        missing_file: MissingFile,
        planner: &Planner,
    ) -> Result<Result<OpenRecord, Rejection>, StoreError> {
        match (&source.log, source.line) {
            (Some(log), Some(number)) => {
                Ok(self.read_line(log, number, source, missing_file, planner.limits()))
            }
            _ => dump_version::reopen(&mut self.run, &source.path, missing_file, planner),
        }
    }

    fn read_line(
        &mut self,
        log: &str,
        number: u64,
        source: &Source,
        missing_file: MissingFile,
        limits: &Limits,
    ) -> Result<OpenRecord, Rejection> {
        let dir = self.run.files.dir().clone();
        let record = match &source.text {
            Some(text) => match parse_line(text.as_bytes()) {
                Ok(Line::Media(record)) => *record,
                _ => return Err(Rejection::waiting(MOVED)),
            },
            None => self.record(log, number, limits.line_bytes_max)?,
        };
        // The item of a line that could not be read names its log.
        let path = dir.relative(&record.data.path);
        if path.as_ref() != Ok(&source.path) && source.path != log {
            return Err(Rejection::waiting(MOVED));
        }
        let opened = self.run.last_dump.open(&dir, &record.data, limits);
        let opened = opened.and_then(|dump| {
            let source = Source { path: dump.path.clone(), ..source.clone() };
            OpenRecord::new(&dir, record, dump, source, true, missing_file, limits)
        });
        opened.map_err(ReadFailure::into)
    }

    /// The record on a line of a log.
    fn record(
        &mut self,
        log: &str,
        number: u64,
        line_bytes_max: u64,
    ) -> Result<MediaRecord, Rejection> {
        if self.logs.len() >= LOGS_MAX && !self.logs.contains_key(log) {
            self.logs.clear();
        }
        let open = || NumberedLog::open(self.run.files.dir(), log, line_bytes_max);
        let opened = self.logs.entry(log.to_owned()).or_insert_with(open);
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

/// Whether a dump has the content that it had when images of it were held. If its size and time are the
/// same, the digest is compared when the image is made.
fn is_unchanged(dump: &OpenDump, source: &Source, held: HeldAt) -> Result<bool, String> {
    if held_at(dump, held.image) == held {
        return Ok(true);
    }
    match source.digest() {
        // A copy, or a dump that was only touched.
        Some(want) => dump
            .digest_by(want.kind())
            .map(|got| got == want)
            .map_err(|error| format!("its dump cannot be read: {error}")),
        None => Err("its dump was written to since it was held".to_owned()),
    }
}
