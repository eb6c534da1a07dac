//! Plans one line of a media log.

use std::sync::Arc;

use super::known_lines::{InFlight, KnownLine, KnownLines, LineStatus};
use super::planner::{ImageRange, RecordPlace};
use super::sessions::{Sessions, Standing};
use super::{PlanContext, Planner};
use crate::ingest::dumps::{LastDump, MissingFile, OpenRecord};
use crate::ingest::line_records::too_long;
use crate::ingest::logs::{RawLine, Tail};
use crate::ingest::passed_over::NamedFolders;
use crate::ingest::pipeline::SourceBatch;
use crate::ingest::run_files::RunFiles;
use crate::ingest::runs::UnknownFields;
use crate::media::{Description, HeldAt, LineDigest, MediaEntry, Rejection, Session, Source, Step};
use crate::record::{Line, MediaRecord, RecordError, parse_line, place_of};
use crate::run_dir::{ReadFailure, RunDir};
use crate::store::journal::{Event, ReadLine, SourceCursor, Stamp};
use crate::store::{RunInfo, StoreError};

/// The longest line that is stored with its item while the item waits, in bytes. A longer one is read from its
/// log again.
const WAITING_LINE_BYTES_MAX: usize = 64 << 10;

/// A line, and where it is.
pub(super) struct LogLine<'a> {
    pub(super) run: &'a Arc<RunInfo>,
    pub(super) tail: &'a Tail,
    pub(super) line: &'a RawLine,
    /// Its content, if it describes items.
    pub(super) read: Option<ReadLine>,
}

/// What a line may need of its run.
pub(super) struct LineReader<'a> {
    pub(super) files: &'a RunFiles,
    pub(super) last_dump: &'a mut LastDump,
    pub(super) unknown_fields: &'a mut UnknownFields,
    pub(super) named: &'a mut NamedFolders,
    pub(super) has_submitted: &'a mut bool,
    pub(super) known: &'a mut KnownLines,
    pub(super) sessions: &'a mut Sessions,
}

/// What came of planning a line.
pub(super) enum LineResult {
    /// It is planned, or nothing needs to be done.
    Done,
    /// It was read before, and makes no item.
    Repeated,
    /// It names the session of the lines after it.
    Session(Session),
    /// An equal line is in the pipeline. What comes of it decides.
    Unclear,
    /// Its dump is compared with that of an equal line, which takes further turns.
    Compared,
    /// It waits for something, for this reason. It is rejected if it waits too long.
    Wait(String),
    /// The machine fails to read its dump, for this reason. It waits until the machine works again.
    Retry(String),
}

impl LogLine<'_> {
    fn log(&self) -> &str {
        &self.tail.path
    }

    /// The cursor of the log after the line.
    fn cursor(&self) -> SourceCursor {
        SourceCursor::Log(self.tail.cursor_after(self.line, self.read))
    }

    /// The source of an item that comes from the line, through a dump or without one.
    fn source(&self, dump: Option<&str>) -> Source {
        Source {
            path: dump.unwrap_or(self.log()).to_owned(),
            log: Some(self.log().to_owned()),
            line: Some(self.line.number),
            session: self.tail.session().map(|session| session.id.clone()),
            rank: self.tail.session().map(|session| session.rank),
            ..Source::default()
        }
    }

    /// The line, for an item that waits.
    fn text(&self) -> Option<String> {
        let bytes = Some(&self.line.bytes)
            .filter(|bytes| !self.line.is_too_long && bytes.len() <= WAITING_LINE_BYTES_MAX)?;
        String::from_utf8(bytes.clone()).ok()
    }

    /// The digest of the line among those of its session and rank.
    fn digest(&self) -> LineDigest {
        match self.tail.session() {
            Some(Session { id, rank }) => self.line.digest.by(format!("{rank} {id}").as_bytes()),
            None => self.line.digest,
        }
    }

    fn event(&self, event: Event) -> SourceBatch {
        SourceBatch::of_event(self.run, event, self.cursor())
    }

    /// The line is no record, or none that can be read now.
    fn unreadable(&self, why: Rejection, planner: &mut Planner) -> Result<SourceBatch, StoreError> {
        let place = place_of(&self.line.bytes).map(|(key, step)| (key, step, None));
        self.rejected(place, Description::default(), self.source(None), why, planner)
    }

    /// No image can be made of the line now.
    fn rejected(
        &self,
        place: Option<RecordPlace>,
        description: Description,
        source: Source,
        why: Rejection,
        planner: &mut Planner,
    ) -> Result<SourceBatch, StoreError> {
        let place = match place {
            Some(place) => Some(planner.place_rejected(&self.run.id, place, &why, &[])?.0),
            None => None,
        };
        let source = Source { text: self.text(), ..source };
        let entry = MediaEntry::rejected(place, why, description, source);
        Ok(self.event(Event::Media(Box::new(entry))))
    }
}

/// Plans one line. If the line still waits for its dump when `is_over` is set, it is rejected. If it waits
/// for a mask or for annotations, its images are made without them.
pub(super) fn plan_line(
    mut of_log: LogLine<'_>,
    reader: &mut LineReader<'_>,
    is_over: bool,
    context: &mut PlanContext<'_>,
) -> Result<LineResult, StoreError> {
    let line = of_log.line;
    let record = if line.is_too_long {
        let max = context.planner.limits().line_bytes_max;
        Err(Rejection::waiting(too_long(line, max)))
    } else if line.bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(LineResult::Done);
    } else {
        parse_line(&line.bytes).map_err(|RecordError { column, message, .. }| {
            format!("{}:{}:{column}: {message}", of_log.log(), line.number).into()
        })
    };
    let step = match &record {
        Ok(Line::Session(session)) => return Ok(LineResult::Session(session.clone())),
        Ok(Line::Commit(_) | Line::Finish) => None,
        Ok(Line::Media(record)) => Some(record.step),
        Err(_) => Some(place_of(&line.bytes).map_or(Step(0), |(_, step)| step)),
    };
    of_log.read = step.map(|step| ReadLine { step, xxh3: of_log.digest() });
    let known = match known_line(&of_log, reader, context)? {
        LineStatus::New => None,
        LineStatus::Unclear => return Ok(LineResult::Unclear),
        LineStatus::Known(known) => Some(known),
    };
    let planned = match record {
        Err(_) if known.is_some() => PlannedLine::Repeated,
        Err(why) => {
            PlannedLine::Batch(Box::new(of_log.unreadable(why, context.planner)?), Vec::new())
        }
        Ok(Line::Commit(step)) => {
            PlannedLine::Batch(Box::new(of_log.event(Event::Commit { step })), Vec::new())
        }
        Ok(Line::Finish | Line::Session(_)) => {
            PlannedLine::Batch(Box::new(of_log.event(Event::Finish)), Vec::new())
        }
        Ok(Line::Media(record)) => {
            plan_record(&of_log, reader, &record, known.as_ref(), is_over, context)?
        }
    };
    let makes_items = !matches!(planned, PlannedLine::Repeated);
    let (batch, places) = match planned {
        PlannedLine::Batch(batch, places) => (*batch, places),
        PlannedLine::Repeated => {
            context.shared.progress.add_repeated();
            (of_log.event(Event::Repeated), Vec::new())
        }
        PlannedLine::Superseded => {
            context.shared.progress.add_superseded();
            (of_log.event(Event::Superseded), Vec::new())
        }
        PlannedLine::Waits(result) => return Ok(result),
    };
    *reader.has_submitted = true;
    context.pipeline.submit(batch);
    let batch = context.pipeline.n_submitted();
    if let Some(session) = of_log.tail.session() {
        for (key, step, _) in places {
            let (run, index) = (&of_log.run.id, context.planner.reader());
            reader.sessions.submitted(run, session, (key, step), batch, index)?;
        }
    }
    if let Some(read) = of_log.read {
        let (generation, number) = (of_log.tail.generation(), line.number);
        let run = of_log.run.clone();
        reader.known.submitted(read, InFlight { run, generation, number, makes_items, batch });
    }
    Ok(if makes_items { LineResult::Done } else { LineResult::Repeated })
}

/// Whether a line was read before. A line that describes no items is always new.
fn known_line(
    of_log: &LogLine<'_>,
    reader: &mut LineReader<'_>,
    context: &PlanContext<'_>,
) -> Result<LineStatus, StoreError> {
    let Some(read) = &of_log.read else { return Ok(LineStatus::New) };
    let (run, generation) = (&of_log.run.id, of_log.tail.generation());
    let n_done = context.pipeline.n_received();
    reader.known.status(run, read, generation, n_done, context.planner.reader())
}

/// What becomes of a line.
enum PlannedLine {
    /// A batch, and where its images are.
    Batch(Box<SourceBatch>, Vec<ImageRange>),
    /// It was read before.
    Repeated,
    /// A later session has replaced what it describes.
    Superseded,
    /// It is not planned yet.
    Waits(LineResult),
}

/// Plans the items of a record.
fn plan_record(
    of_log: &LogLine<'_>,
    reader: &mut LineReader<'_>,
    record: &MediaRecord,
    known: Option<&KnownLine>,
    is_over: bool,
    context: &mut PlanContext<'_>,
) -> Result<PlannedLine, StoreError> {
    let (run, session) = (&of_log.run.id, of_log.tail.session());
    if let Some(session) = session
        && known.is_none()
    {
        let (sessions, index) = (&mut *reader.sessions, context.planner.reader());
        if sessions.is_superseded(run, session, &record.key, record.step, index)? {
            return Ok(PlannedLine::Superseded);
        }
    }
    let dir = reader.files.dir().clone();
    let is_gone = || dir.relative(&record.data.path).is_ok_and(|path| dir.stat(&path).is_none());
    let was_rejected = known.is_some_and(KnownLine::is_rejected);
    if known.is_some_and(KnownLine::is_waiting) {
        // The item of the line that was read first is tried again.
        return Ok(PlannedLine::Repeated);
    }
    // Before the dump is opened: a later change must not go unnoticed.
    let stamp = stamp_at(&dir, &record.data.path);
    let opened = match open_record(of_log, reader, record, stamp, is_over, context) {
        // A job that logs the same line again may still write its dump.
        Err(ReadFailure::Wait(reason)) if !is_over => {
            return Ok(PlannedLine::Waits(LineResult::Wait(reason)));
        }
        Err(ReadFailure::Wait(_)) if known.is_some() && is_gone() => {
            return Ok(PlannedLine::Repeated);
        }
        Err(ReadFailure::Retry(reason)) => {
            return Ok(PlannedLine::Waits(LineResult::Retry(reason)));
        }
        Err(_) if was_rejected => return Ok(PlannedLine::Repeated),
        Err(failure) => {
            let why = Rejection::from(failure);
            let held = stamp.map(|stamp| HeldAt::new(0, stamp.size, stamp.mtime_ns));
            let source = Source {
                tensor: record.data.tensor.clone(),
                mtime_ns: held
                    .filter(|_| record.description.time.is_none())
                    .map(|held| held.mtime_ns),
                held: held.filter(|_| why.is_waiting()),
                ..of_log.source(Some(&record.data.path))
            };
            let place = Some((record.key.clone(), record.step, record.index));
            let description = record.description.clone();
            let batch = of_log.rejected(place, description, source, why, context.planner)?;
            return Ok(PlannedLine::Batch(Box::new(batch), Vec::new()));
        }
        Ok(opened) => opened,
    };
    if let Some(known) = known {
        match known.has_content_of(&opened.dump, context.planner.comparing()) {
            Some(true) => return Ok(PlannedLine::Repeated),
            Some(false) => {}
            None => return Ok(PlannedLine::Waits(LineResult::Compared)),
        }
    }
    if let Some(reason) = &opened.unfinished
        && !is_over
    {
        return Ok(PlannedLine::Waits(LineResult::Wait(reason.clone())));
    }
    let mut batch = SourceBatch::new(of_log.run, of_log.cursor());
    let places = match session {
        None => context.planner.plan_record(run, &dir, opened, &[], &mut batch)?,
        Some(session) => {
            match plan_in_session(of_log, reader, session, opened, &mut batch, context)? {
                Ok(places) => places,
                Err(planned) => return Ok(planned),
            }
        }
    };
    Ok(if was_rejected && batch.is_rejected() {
        PlannedLine::Repeated
    } else {
        PlannedLine::Batch(Box::new(batch), places)
    })
}

/// Plans the items of a record that a session wrote. The inner error says why nothing is planned.
fn plan_in_session(
    of_log: &LogLine<'_>,
    reader: &mut LineReader<'_>,
    session: &Session,
    mut opened: OpenRecord,
    batch: &mut SourceBatch,
    context: &mut PlanContext<'_>,
) -> Result<Result<Vec<ImageRange>, PlannedLine>, StoreError> {
    let (run, dir) = (&of_log.run.id, reader.files.dir());
    let (step, n_done) = (opened.record.step, context.pipeline.n_received());
    let index = context.planner.reader();
    let standing = reader.sessions.compare(run, session, &mut opened.parts, step, n_done, index)?;
    let replaced = match standing {
        Standing::Current(replaced) => replaced,
        Standing::Superseded => return Ok(Err(PlannedLine::Superseded)),
        Standing::Unclear => return Ok(Err(PlannedLine::Waits(LineResult::Unclear))),
    };
    let planned = context.planner.plan_in_session(run, dir, opened, session, &replaced, batch)?;
    Ok(planned.ok_or(PlannedLine::Waits(LineResult::Unclear)))
}

/// The version of a dump that a record names, if the dump is there.
pub(super) fn version_at(dir: &RunDir, path: &str) -> Option<HeldAt> {
    let stamp = stamp_at(dir, path)?;
    Some(HeldAt::new(0, stamp.size, stamp.mtime_ns))
}

fn stamp_at(dir: &RunDir, path: &str) -> Option<Stamp> {
    dir.stat(&dir.relative(path).ok()?)
}

fn open_record(
    of_log: &LogLine<'_>,
    reader: &mut LineReader<'_>,
    record: &MediaRecord,
    stamp: Option<Stamp>,
    is_over: bool,
    context: &PlanContext<'_>,
) -> Result<OpenRecord, ReadFailure> {
    reader.unknown_fields.log(&of_log.run.id, of_log.log(), record);
    reader.named.note(reader.files, &record.data.path);
    let (dir, limits) = (reader.files.dir(), context.planner.limits());
    let opened = reader.last_dump.open(dir, &record.data, stamp, limits)?;
    let source = Source { text: of_log.text(), ..of_log.source(Some(&opened.path)) };
    let missing_file = if is_over { MissingFile::Drop } else { MissingFile::Wait };
    OpenRecord::new(dir, record.clone(), opened, source, true, missing_file, limits)
}
