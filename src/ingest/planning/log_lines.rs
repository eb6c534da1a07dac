//! Plans the lines of media logs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::known_lines::KnownLines;
use super::line::{LineReader, LineResult, LogLine, plan_line};
use super::sessions::Sessions;
use super::{PlanContext, SLICE};
use crate::ingest::Mode;
use crate::ingest::logs::{LogSchedule, LogState, Tail};
use crate::ingest::pipeline::SourceBatch;
use crate::ingest::runs::{RunKey, RunReader, Runs};
use crate::ingest::watching::Watching;
use crate::media::RunId;
use crate::store::journal::SourceCursor;
use crate::store::{RunInfo, StoreError};

/// Lines of one log that are planned before the next log has its turn.
const LINES_PER_TURN: usize = 64;

/// The logs of all runs: when they are read, and which have something left.
#[derive(Debug)]
pub(crate) struct LogLines {
    schedule: LogSchedule<RunKey>,
    /// Runs with lines that wait or are not complete, and whether complete lines wait.
    unfinished: BTreeMap<RunKey, bool>,
    /// Runs with logs that cannot be read, and since when.
    unreadable: BTreeMap<RunKey, Instant>,
    known: KnownLines,
    sessions: Sessions,
    /// The run whose logs were read last.
    last: Option<RunKey>,
}

/// What the logs have left.
#[derive(Debug, Default)]
pub(crate) struct LogBacklog {
    /// Bytes that were not handled yet.
    pub(crate) n_bytes: u64,
    /// Logs that end in a line without its newline: run, path, and bytes of that line.
    pub(crate) begun_lines: Vec<(RunId, String, u64)>,
    /// Since when the oldest line waits.
    pub(crate) oldest: Option<Instant>,
}

impl LogLines {
    /// No logs are known yet.
    pub(crate) fn new(schedule: LogSchedule<RunKey>) -> Self {
        let (unfinished, unreadable) = (BTreeMap::new(), BTreeMap::new());
        let (known, sessions) = (KnownLines::default(), Sessions::default());
        Self { schedule, unfinished, unreadable, known, sessions, last: None }
    }

    /// Reads the logs of a run in the next turn: something may have changed.
    pub(crate) fn look_now(&mut self, run: RunKey, now: Instant) {
        self.schedule.look_now(run, now);
    }

    /// Reads the logs of all runs in the next turn.
    pub(crate) fn look_at_all(&mut self, now: Instant) {
        self.schedule.look_at_all(now);
    }

    /// Forgets a run.
    pub(crate) fn forget_run(&mut self, run: RunKey) {
        self.schedule.forget(run);
        self.unfinished.remove(&run);
        self.unreadable.remove(&run);
    }

    /// Runs with logs that cannot be read, and since when.
    pub(crate) fn unreadable(&self) -> impl Iterator<Item = (RunKey, Instant)> {
        self.unreadable.iter().map(|(run, since)| (*run, *since))
    }

    /// Whether lines wait to be planned.
    pub(crate) fn has_lines(&self) -> bool {
        self.unfinished.values().any(|has_lines| *has_lines)
    }

    /// When the next logs are due.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.schedule.wake_at()
    }

    /// What the logs have left. Looks at logs that are due or had something left.
    pub(crate) fn backlog(&self, runs: &Runs, now: Instant) -> LogBacklog {
        let mut backlog = LogBacklog::default();
        let mut keys = self.schedule.due(now);
        keys.extend(self.unfinished.keys());
        keys.sort_unstable();
        keys.dedup();
        for run in keys.into_iter().filter_map(|key| runs.get(key)) {
            for tail in run.logs.tails() {
                backlog.n_bytes += tail.n_behind();
                if tail.n_begun() > 0 {
                    let begun = (run.id().clone(), tail.path.clone(), tail.n_begun());
                    backlog.begun_lines.push(begun);
                }
                let since = tail.front_since();
                backlog.oldest = backlog.oldest.into_iter().chain(since).min();
            }
        }
        backlog
    }

    /// Reads the logs that are due and plans their lines, a few of each log, for at most [`SLICE`]. Returns whether there may be
    /// more to do at once.
    pub(crate) fn plan_due(
        &mut self,
        runs: &mut Runs,
        watching: &Watching,
        context: &mut PlanContext<'_>,
    ) -> Result<bool, StoreError> {
        let (mut is_any_busy, start) = (false, Instant::now());
        let mut due = self.schedule.due(context.now);
        // The runs that had no time in the last turn come first.
        let n_before = due.partition_point(|key| Some(*key) <= self.last);
        due.rotate_left(n_before);
        for key in due {
            if start.elapsed() >= SLICE {
                return Ok(true);
            }
            self.last = Some(key);
            let is_polled = runs.root_of(key).is_none_or(|root| !watching.uses_events(root));
            let Some(run) = runs.get_mut(key) else {
                self.forget_run(key);
                continue;
            };
            let (has_lines, is_busy) =
                plan_run(key, run, &mut self.known, &mut self.sessions, context)?;
            is_any_busy |= is_busy;
            let tails = run.logs.tails();
            let is_waiting = has_lines || is_polled || run.logs.has_postponed();
            let state = if is_busy {
                LogState::Busy
            } else if tails.is_empty() && !run.logs.has_postponed() {
                LogState::Absent
            } else if is_waiting || tails.iter().any(|tail| tail.n_begun() > 0) {
                LogState::Waiting
            } else {
                LogState::Quiet
            };
            if has_lines || tails.iter().any(|tail| tail.n_begun() > 0) {
                self.unfinished.insert(key, has_lines);
            } else {
                self.unfinished.remove(&key);
            }
            if run.logs.unreadable().next().is_some() {
                self.unreadable.entry(key).or_insert(context.now);
            } else {
                self.unreadable.remove(&key);
            }
            self.schedule.looked(key, context.now, state);
        }
        Ok(is_any_busy)
    }
}

/// Reads the logs of a run and plans their lines. Returns whether lines wait, and whether there may be more
/// to do at once.
fn plan_run(
    key: RunKey,
    run: &mut RunReader,
    known: &mut KnownLines,
    sessions: &mut Sessions,
    context: &mut PlanContext<'_>,
) -> Result<(bool, bool), StoreError> {
    for path in run.logs.take_retries(context.now) {
        follow_log(run, &path, context);
    }
    let polled = run.poll_logs(context.now);
    store_cursors(run, context);
    let mut is_busy = polled.has_read;
    if polled.has_lines {
        let RunReader { info, files, logs, last_dump, unknown_fields, has_submitted, .. } = run;
        let named = &mut run.passed_over.named;
        let mut reader =
            LineReader { files, last_dump, unknown_fields, named, has_submitted, known, sessions };
        for tail in logs.tails_mut() {
            is_busy |= plan_log(key, info, tail, &mut reader, context)? > 0;
        }
    }
    Ok((run.logs.tails().iter().any(|tail| tail.front().is_some()), is_busy))
}

/// Follows a log that was found.
pub(crate) fn follow_log(run: &mut RunReader, path: &str, context: &mut PlanContext<'_>) {
    let n_lines = run.follow(path, context.planner.limits(), context.mode == Mode::Once);
    context.shared.progress.expect(n_lines);
    store_cursors(run, context);
}

/// Has the store learn which logs there are.
fn store_cursors(run: &mut RunReader, context: &mut PlanContext<'_>) {
    for cursor in run.logs.take_to_store() {
        run.has_submitted = true;
        context.pipeline.submit(SourceBatch::new(&run.info, SourceCursor::Log(cursor)));
    }
}

/// Plans the next lines of a log. Returns how many.
fn plan_log(
    key: RunKey,
    run: &Arc<RunInfo>,
    tail: &mut Tail,
    reader: &mut LineReader<'_>,
    context: &mut PlanContext<'_>,
) -> Result<usize, StoreError> {
    let id = (key, tail.path.clone());
    let patience = match context.mode {
        Mode::Once => context.config.times.settle,
        Mode::Follow => context.config.times.wait,
    };
    for n_planned in 0..LINES_PER_TURN {
        let Some(line) = tail.front().filter(|_| !context.is_stopped()) else {
            return Ok(n_planned);
        };
        if !context.pipeline.has_room_for(&run.id) {
            // There is more to do as soon as there is room.
            return Ok(n_planned.max(1));
        }
        let since = tail.front_since().unwrap_or(context.now);
        let is_over = context.now.saturating_duration_since(since) >= patience;
        let number = line.number;
        let line = LogLine { run, tail, line, read: None };
        match plan_line(line, reader, is_over, context)? {
            LineResult::Done => {}
            LineResult::Repeated => {
                if !std::mem::replace(&mut tail.has_logged_repeats, true) {
                    let (run, path) = (&run.id, &tail.path);
                    tracing::info!(%run, number, path, "log has lines that were read before, they make no further items");
                }
            }
            LineResult::Session(session) => {
                // Sessions are in the order in which they are seen here.
                reader.sessions.place(&run.id, &session.id, context.planner.reader())?;
                tail.set_session(Some(session));
                let cursor = tail.front().map(|line| tail.cursor_after(line, None));
                if let Some(cursor) = cursor {
                    *reader.has_submitted = true;
                    context.pipeline.submit(SourceBatch::new(run, SourceCursor::Log(cursor)));
                }
            }
            LineResult::Unclear => return Ok(n_planned),
            LineResult::Compared => return Ok(n_planned.max(1)),
            LineResult::Wait(reason) => {
                context.backlog.wait(&id, format!("line {number}: {reason}"), since);
                return Ok(n_planned);
            }
            LineResult::Retry(reason) => {
                let reason = format!("line {number}: {reason}");
                if context.mode == Mode::Once {
                    // The next `ingest` reads it.
                    context.backlog.give_up(format!("{}: {reason}", tail.path));
                    tail.give_up();
                }
                context.backlog.retry(&run.id, &id, reason, since);
                return Ok(n_planned);
            }
        }
        context.backlog.done(&run.id, &id);
        tail.pop();
    }
    Ok(LINES_PER_TURN)
}
