//! Plans the lines of media logs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::known_lines::KnownLines;
use super::line::{LineReader, LineResult, LogLine, plan_line};
use super::open_runs::OpenRuns;
use super::sessions::Sessions;
use super::{PlanContext, SLICE};
use crate::ingest::Mode;
use crate::ingest::dumps::LastDump;
use crate::ingest::logs::{LogSchedule, LogState, Tail};
use crate::ingest::pipeline::SourceBatch;
use crate::ingest::runs::{RunKey, RunReader, Runs};
use crate::ingest::watching::Watching;
use crate::media::RunId;
use crate::store::StoreError;
use crate::store::journal::SourceCursor;

/// Lines of one log that are planned before the next log has its turn.
const LINES_PER_TURN: usize = 64;

/// The time that the logs of one run may take before others have their turn.
const RUN_TURN: Duration = Duration::from_millis(10);

/// Runs that are looked at in one turn.
const RUNS_PER_TURN: usize = 1024;

/// The pause of a log that has nothing but empty lines, in multiples of the time that it took.
const PAUSE_PER_EMPTY: u32 = 20;
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The logs of all runs: when they are read, and which have something left.
#[derive(Debug)]
pub(crate) struct LogLines {
    schedule: LogSchedule<RunKey>,
    /// Runs with lines that wait or are not complete, and whether complete lines wait.
    unfinished: BTreeMap<RunKey, bool>,
    /// Runs with logs that cannot be read, and since when.
    unreadable: BTreeMap<RunKey, Instant>,
    open: OpenRuns,
    known: KnownLines,
    sessions: Sessions,
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
    /// Logs with many bytes that hold no line: run, path, how many, and since when.
    pub(crate) empty: Vec<(RunKey, String, u64, Instant)>,
}

/// What the turn of a run has done.
#[derive(Debug, Default)]
struct RunTurn {
    /// Whether lines wait.
    has_lines: bool,
    /// Whether there may be more to do at once.
    is_busy: bool,
    /// Whether nothing came but empty lines.
    is_empty: bool,
}

impl LogLines {
    /// No logs are known yet.
    pub(crate) fn new(schedule: LogSchedule<RunKey>) -> Self {
        let (unfinished, unreadable) = (BTreeMap::new(), BTreeMap::new());
        let (known, sessions) = (KnownLines::default(), Sessions::default());
        Self { schedule, unfinished, unreadable, open: OpenRuns::default(), known, sessions }
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
        self.open.forget(run);
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
        let mut keys = self.schedule.due(now, usize::MAX);
        keys.extend(self.unfinished.keys());
        keys.sort_unstable();
        keys.dedup();
        for (key, run) in keys.into_iter().filter_map(|key| Some((key, runs.get(key)?))) {
            for (path, empty) in run.logs.empty() {
                let found = empty.many().map(|(n, since)| (key, path.to_owned(), n, since));
                backlog.empty.extend(found);
            }
            for (path, n_begun) in run.logs.begun_at_rest() {
                backlog.begun_lines.push((run.id().clone(), path.to_owned(), n_begun));
            }
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
        let mut is_any_busy = false;
        let start = Instant::now();
        self.open.close_some(runs, context.now, RUNS_PER_TURN);
        for key in self.schedule.due(context.now, RUNS_PER_TURN) {
            if start.elapsed() >= SLICE {
                return Ok(true);
            }
            let is_polled = runs.root_of(key).is_none_or(|root| !watching.uses_events(root));
            let Some(run) = runs.get_mut(key) else {
                self.forget_run(key);
                continue;
            };
            let run_start = Instant::now();
            let turn = plan_run(key, run, &mut self.known, &mut self.sessions, context)?;
            let pause = run_start.elapsed() * PAUSE_PER_EMPTY;
            is_any_busy |= turn.is_busy;
            let tails = run.logs.tails();
            let has_begun = tails.iter().any(|tail| tail.n_begun() > 0);
            let state = if turn.is_busy {
                LogState::Busy
            } else if turn.is_empty {
                LogState::Empty(pause.clamp(PAUSE_MIN, PAUSE_MAX))
            } else if run.logs.is_empty() {
                LogState::Absent
            } else if turn.has_lines || has_begun || run.logs.has_postponed() {
                LogState::Waiting
            } else if is_polled {
                LogState::Polled
            } else {
                LogState::Quiet
            };
            let is_unfinished = has_begun
                || turn.is_empty
                || run.logs.begun_at_rest().next().is_some()
                || run.logs.empty().next().is_some();
            if turn.has_lines || is_unfinished {
                self.unfinished.insert(key, turn.has_lines);
            } else {
                self.unfinished.remove(&key);
            }
            self.open.looked(key, run, context.now);
            if let Some(oldest) = self.open.note_dump(key, turn.is_busy)
                && let Some(run) = runs.get_mut(oldest)
            {
                run.last_dump = LastDump::default();
            }
            let Some(run) = runs.get_mut(key) else { continue };
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

/// Reads the logs of a run and plans their lines, for a short time.
fn plan_run(
    key: RunKey,
    run: &mut RunReader,
    known: &mut KnownLines,
    sessions: &mut Sessions,
    context: &mut PlanContext<'_>,
) -> Result<RunTurn, StoreError> {
    let mut turn = RunTurn::default();
    for path in run.logs.take_due(&run.files, context.now) {
        follow_log(run, &path, context);
        // A log that was followed is read in this turn or the next one.
        turn.is_busy |= run.logs.has_queued();
    }
    run.begin_look_at_logs();
    if context.mode == Mode::Once {
        plan_in_order(key, run, known, sessions, context, &mut turn)?;
    } else {
        plan_in_turn(key, run, known, sessions, context, &mut turn)?;
    }
    run.logs.end_look(context.now);
    store_cursors(run, context);
    // Somebody waits for `ingest`.
    if context.mode == Mode::Once {
        turn.is_busy |= turn.is_empty;
    }
    turn.has_lines =
        run.logs.tails().iter().any(|tail| tail.front().is_some() || tail.has_given_back());
    Ok(turn)
}

/// Plans lines of logs that are followed, a few of each log in turn.
fn plan_in_turn(
    key: RunKey,
    run: &mut RunReader,
    known: &mut KnownLines,
    sessions: &mut Sessions,
    context: &mut PlanContext<'_>,
    turn: &mut RunTurn,
) -> Result<(), StoreError> {
    let start = Instant::now();
    let (first, n_logs) = (run.logs.first_to_read, run.logs.tails().len());
    run.logs.first_to_read = 0;
    for n_read in 0..n_logs {
        let i = (first + n_read) % n_logs;
        if start.elapsed() >= RUN_TURN {
            run.logs.first_to_read = i;
            turn.is_busy = true;
            break;
        }
        look_at_log(run, i, context, turn);
        turn.is_busy |= plan_log(key, run, i, known, sessions, context, u64::MAX)?.has_planned;
        run.logs.tails_mut()[i].keep_to_budget();
    }
    Ok(())
}

/// Plans lines of logs that are at rest, in an order that depends on nothing but the logs and where each of them is:
/// groups of [`LINES_PER_TURN`] lines, by the number of the group, then by log. So an `ingest` that is killed and begun
/// again plans the same lines in the same order. Only a line that waits for its dump lets other logs go on.
fn plan_in_order(
    key: RunKey,
    run: &mut RunReader,
    known: &mut KnownLines,
    sessions: &mut Sessions,
    context: &mut PlanContext<'_>,
    turn: &mut RunTurn,
) -> Result<(), StoreError> {
    let start = Instant::now();
    let n_logs = run.logs.tails().len();
    let mut is_decided = true;
    for i in 0..n_logs {
        let has_read = look_at_log(run, i, context, turn);
        let tail = &run.logs.tails()[i];
        // A line that is longer than what is read at once may come next.
        is_decided &= tail.front().is_some() || !(has_read || tail.has_given_back());
    }
    let mut waiting = vec![false; n_logs];
    while is_decided && start.elapsed() < RUN_TURN {
        let tails = run.logs.tails().iter().enumerate();
        let next = tails.filter(|(i, _)| !waiting[*i]).filter_map(|(i, tail)| {
            Some((tail.front()?.number.saturating_sub(1) / LINES_PER_TURN as u64, i))
        });
        let Some((group, i)) = next.min() else { break };
        let end = (group + 1) * LINES_PER_TURN as u64;
        let log = plan_log(key, run, i, known, sessions, context, end)?;
        turn.is_busy |= log.has_planned;
        waiting[i] = log.is_waiting;
        let front = run.logs.tails()[i].front();
        // Else nothing is known of its next line until more of the log is read, or of the line until a result comes.
        if !log.is_waiting && front.is_none_or(|line| line.number <= end) {
            turn.is_busy |= front.is_none();
            break;
        }
    }
    turn.is_busy |= start.elapsed() >= RUN_TURN;
    run.logs.tails_mut().iter_mut().for_each(Tail::keep_to_budget);
    Ok(())
}

/// Reads on in a log. Returns whether anything was read.
fn look_at_log(
    run: &mut RunReader,
    i: usize,
    context: &mut PlanContext<'_>,
    turn: &mut RunTurn,
) -> bool {
    let look = run.logs.look_at(&run.info.id, i, context.now);
    store_cursors(run, context);
    turn.is_busy |= look.has_read && !look.is_empty;
    turn.is_empty |= look.is_empty;
    look.has_read
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

/// What came of a log.
#[derive(Debug, Default)]
struct LogTurn {
    /// Whether there were lines, other than empty ones.
    has_planned: bool,
    /// Whether the next line waits for its dump.
    is_waiting: bool,
}

/// Plans the next lines of a log, up to the line with number `end`.
fn plan_log(
    key: RunKey,
    run: &mut RunReader,
    i: usize,
    known: &mut KnownLines,
    sessions: &mut Sessions,
    context: &mut PlanContext<'_>,
    end: u64,
) -> Result<LogTurn, StoreError> {
    let RunReader { info, files, logs, last_dump, unknown_fields, has_submitted, .. } = run;
    let named = &mut run.passed_over.named;
    let mut reader =
        LineReader { files, last_dump, unknown_fields, named, has_submitted, known, sessions };
    let (run, reader) = (&*info, &mut reader);
    let Some(tail) = logs.tails_mut().get_mut(i) else { return Ok(LogTurn::default()) };
    let id = (key, tail.path.clone());
    let mut log = LogTurn::default();
    let patience = match context.mode {
        Mode::Once => context.config.times.settle,
        Mode::Follow => context.config.times.wait,
    };
    for _ in 0..LINES_PER_TURN {
        let line = tail.front().filter(|line| line.number <= end && !context.is_stopped());
        let Some(line) = line else { return Ok(log) };
        if !context.pipeline.has_room_for(&run.id) {
            // There is more to do as soon as there is room.
            log.has_planned = true;
            return Ok(log);
        }
        let since = tail.front_since().unwrap_or(context.now);
        let is_over = context.now.saturating_duration_since(since) >= patience;
        let (number, is_blank) = (line.number, line.is_blank());
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
            LineResult::Unclear => return Ok(log),
            LineResult::Compared => {
                log.has_planned = true;
                return Ok(log);
            }
            LineResult::Wait(reason) => {
                context.backlog.wait(&id, format!("line {number}: {reason}"), since);
                log.is_waiting = true;
                return Ok(log);
            }
            LineResult::Retry(reason) => {
                let reason = format!("line {number}: {reason}");
                if context.mode == Mode::Once {
                    // The next `ingest` reads it.
                    context.backlog.give_up(format!("{}: {reason}", tail.path));
                    tail.give_up();
                }
                context.backlog.retry(&run.id, &id, reason, since);
                log.is_waiting = true;
                return Ok(log);
            }
        }
        context.backlog.done(&run.id, &id);
        tail.pop();
        log.has_planned |= !is_blank;
    }
    Ok(log)
}
