//! Lines of media logs → batches.

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Instant;

use super::Mode;
use super::beneath::Verdict;
use super::engine::{Attempt, Engine};
use super::lines::RawLine;
use super::pipeline::SourceBatch;
use super::run::Run;
use super::to_plan::{self, ToPlan};
use crate::limits::StepUsage;
use crate::media::{Description, MediaEntry, MediaKey, RunId, Source, Step};
use crate::record::{Line, MediaRecord, RecordError, parse_line, place_of};
use crate::store::journal::{Event, SourceCursor};
use crate::store::{RunInfo, StoreError};

/// Lines of one log that are planned before the next log's turn.
const LINES_PER_TURN: usize = 64;

/// A line, and where it stands.
struct LogLine<'a> {
    run: Arc<RunInfo>,
    log: &'a str,
    line: &'a RawLine,
    /// Where the log stands once the line was acted on.
    cursor: SourceCursor,
}

impl LogLine<'_> {
    /// The line as the source of what comes of it, by way of a dump or by itself.
    fn source(&self, dump: Option<&str>) -> Source {
        Source {
            path: dump.unwrap_or(self.log).to_owned(),
            log: Some(self.log.to_owned()),
            line: Some(self.line.number),
            ..Source::default()
        }
    }

    fn told(&self, event: Event) -> SourceBatch {
        SourceBatch::of_event(&self.run, event, self.cursor.clone())
    }

    /// A line that is no record.
    fn unreadable(&self, reason: String) -> SourceBatch {
        let place = place_of(&self.line.bytes).map(|(key, step)| (key, step, None));
        let entry = MediaEntry::rejected(place, reason, Description::default(), self.source(None));
        self.told(Event::Media(Box::new(entry)))
    }

    /// A record that no image can come of.
    fn rejected(&self, record: &MediaRecord, source: Source, reason: String) -> SourceBatch {
        self.told(Event::Media(Box::new(to_plan::rejected(record, source, reason))))
    }
}

impl Engine {
    /// Plans the lines that wait in a run's logs, a few of each log. Whether there may be more.
    pub(super) fn take_lines(&mut self, number: usize, now: Instant) -> Result<bool, StoreError> {
        let Some(mut run) = self.runs[number].take() else {
            return Ok(false);
        };
        for path in run.put_off(now) {
            self.follow_log(&mut run, &path);
        }
        let (has_lines, mut is_busy) = run.poll_logs(now);
        self.tell_store(&mut run);
        let mut result = Ok(());
        if has_lines {
            let mut tails = std::mem::take(&mut run.tails);
            for tail in &mut tails {
                let what = (number, tail.path.clone());
                for _ in 0..LINES_PER_TURN {
                    let Some(line) = tail.front().filter(|_| !self.is_stopped()) else {
                        break;
                    };
                    let patience = match self.mode {
                        Mode::Once => self.config.times.settle,
                        Mode::Follow => self.config.times.wait,
                    };
                    let is_over = tail
                        .front_since()
                        .is_some_and(|since| now.duration_since(since) >= patience);
                    let cursor = SourceCursor::Log(tail.cursor_after(line));
                    let of_log = LogLine { run: run.info.clone(), log: &tail.path, line, cursor };
                    match self.take_line(&mut run, &of_log, is_over) {
                        Ok(Attempt::Done) => {
                            self.waiting.remove(&what);
                            self.troubles.ends(&run.info.id, &what);
                            tail.pop();
                            is_busy = true;
                        }
                        Ok(Attempt::Wait(reason)) => {
                            let reason = format!("line {}: {reason}", line.number);
                            self.waiting.insert(what.clone(), reason);
                            break;
                        }
                        Ok(Attempt::Trouble(reason)) => {
                            let reason = format!("line {}: {reason}", line.number);
                            if self.mode == Mode::Once {
                                // It stays to be read by the next ingest.
                                self.problems.push(format!("{}: {reason}", tail.path));
                                tail.give_up();
                            }
                            self.troubles.begins(&run.info.id, &what, &reason);
                            self.waiting.insert(what.clone(), reason);
                            break;
                        }
                        Err(error) => {
                            result = Err(error);
                            break;
                        }
                    }
                }
            }
            run.tails = tails;
        }
        self.runs[number] = Some(run);
        result.map(|()| is_busy)
    }

    /// Follows a log that was found.
    pub(super) fn follow_log(&mut self, run: &mut Run, path: &str) {
        let n_lines = run.follow(path, &self.config.limits, self.mode == Mode::Once);
        self.shared.progress.expect(n_lines);
        self.tell_store(run);
    }

    /// Tells the store which logs there are.
    fn tell_store(&mut self, run: &mut Run) {
        for cursor in run.take_to_store() {
            run.has_given = true;
            self.pipeline.submit(SourceBatch::new(&run.info, SourceCursor::Log(cursor)));
        }
    }

    /// Plans one line. While it waits for its dump, `is_over` tells when that was long enough.
    fn take_line(
        &mut self,
        run: &mut Run,
        of_log: &LogLine<'_>,
        is_over: bool,
    ) -> Result<Attempt, StoreError> {
        let LogLine { log, line, .. } = of_log;
        let record = if line.is_too_long {
            let (got, max) = (line.n_bytes, self.config.limits.line_bytes_max);
            let begin = String::from_utf8_lossy(&line.bytes);
            Err(format!(
                "line of {got} bytes, limits.line_bytes_max is {max}; it begins {begin:.64}"
            ))
        } else if line.bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Attempt::Done);
        } else {
            parse_line(&line.bytes).map_err(|RecordError { column, message, .. }| {
                format!("{log}:{}:{column}: {message}", line.number)
            })
        };
        let batch = match record {
            Err(reason) => of_log.unreadable(reason),
            Ok(Line::Commit(step)) => of_log.told(Event::Commit { step }),
            Ok(Line::Finish) => of_log.told(Event::Finish),
            Ok(Line::Media(record)) => match self.plan_line(run, of_log, &record, is_over)? {
                Ok(batch) => batch,
                Err(wait) => return Ok(wait),
            },
        };
        run.has_given = true;
        self.pipeline.submit(batch);
        Ok(Attempt::Done)
    }

    fn plan_line(
        &mut self,
        run: &mut Run,
        of_log: &LogLine<'_>,
        record: &MediaRecord,
        is_over: bool,
    ) -> Result<Result<SourceBatch, Attempt>, StoreError> {
        run.tell_unknown_fields(of_log.log, record);
        let limits = self.config.limits;
        let dir = run.dir.clone();
        let planned = run.last_opened.open(&dir, &record.data, &limits).and_then(|opened| {
            let source = of_log.source(Some(&opened.path));
            ToPlan::read(&dir, record.clone(), opened, source, true, &limits)
        });
        let to_plan = match planned {
            Err(Verdict::Wait(reason)) if !is_over => return Ok(Err(Attempt::Wait(reason))),
            Err(Verdict::Trouble(reason)) => return Ok(Err(Attempt::Trouble(reason))),
            Err(Verdict::Wait(reason) | Verdict::Reject(reason)) => {
                let tensor = record.data.tensor.clone();
                let source = Source { tensor, ..of_log.source(Some(&record.data.path)) };
                return Ok(Ok(of_log.rejected(record, source, reason)));
            }
            Ok(to_plan) => to_plan,
        };
        let mut batch = SourceBatch::new(&of_log.run, of_log.cursor.clone());
        self.plan_parts(run, to_plan, &[], &mut batch)?;
        Ok(Ok(batch))
    }

    /// What a step has, what is on its way included.
    pub(super) fn usage_at(
        &mut self,
        run: &RunId,
        key: &MediaKey,
        step: Step,
    ) -> Result<&mut StepUsage, StoreError> {
        match self.usage.entry((run.clone(), key.clone(), step)) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => Ok(entry.insert(self.reader.usage(run, key, step)?)),
        }
    }
}
