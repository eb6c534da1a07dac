//! Dumps that speak for themselves → units.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use super::Mode;
use super::beneath::Verdict;
use super::engine::{AGAIN, Attempt, DumpId, Engine, InFlight};
use super::run::Run;
use super::settle::{Arrival, Due, QuietTimes};
use super::unit::{OpenDump, Task, Unit};
use crate::media::{Description, MediaEntry, MediaId, MediaKey, Source, Step};
use crate::plan::{Earlier, plan};
use crate::record::pattern::DumpPath;
use crate::record::{DataRef, ImageOptions, MediaRecord, parse_sidecar};
use crate::store::journal::{DumpCursor, Event, SourceCursor, Stamp};
use crate::store::{DumpRow, StoreError};
use crate::tensor::TensorHeader;

/// How often a dump that changes while it is read is read again before it is rejected.
const UNREAD_MAX: u32 = 10;

/// A dump, and what is known of it.
struct PathDump<'a> {
    id: &'a DumpId,
    /// What its path says of it, or why that can't be.
    says: &'a Result<DumpPath, String>,
    stamp: Stamp,
    /// The sidecar's path and what it looks like.
    sidecar: Option<(String, Stamp)>,
    /// What the store has of earlier versions.
    row: DumpRow,
}

impl PathDump<'_> {
    fn source(&self) -> Source {
        Source { path: self.id.1.clone(), ..Source::default() }
    }

    fn cursor(&self, sha256: Option<crate::media::Sha256>) -> SourceCursor {
        let sidecar = self.sidecar.as_ref().map(|(_, stamp)| *stamp);
        SourceCursor::Dump(DumpCursor {
            path: self.id.1.clone(),
            stamp: self.stamp,
            sidecar,
            sha256,
        })
    }

    fn rejected(&self, run: &Run, reason: String) -> Unit {
        let place = self.says.as_ref().ok();
        let place = place.map(|says| (says.key.clone(), says.step, says.index));
        let entry = MediaEntry::rejected(place, reason, Description::default(), self.source());
        Unit::told(
            &run.info,
            &self.source(),
            Some(Event::Media(Box::new(entry))),
            self.cursor(None),
        )
    }

    /// Whether an earlier version had the same content and sidecar.
    fn is_same(&self, dump: &OpenDump) -> bool {
        let sidecar = self.sidecar.as_ref().map(|(_, stamp)| *stamp);
        let known = self.row.cursor.as_ref().filter(|cursor| cursor.sidecar == sidecar);
        known.and_then(|cursor| cursor.sha256).is_some_and(|sha256| dump.digest() == Ok(sha256))
    }
}

impl Engine {
    /// Plans a dump that has settled.
    pub(super) fn take_dump(
        &mut self,
        says: &Result<DumpPath, String>,
        due: Due<DumpId>,
        now: Instant,
    ) -> Result<(), StoreError> {
        let number = due.id.0;
        let Some(run) = &self.runs[number] else {
            return Ok(());
        };
        let Some(stamp) = run.dir.stat(&due.id.1) else {
            self.forget(&due.id);
            return Ok(());
        };
        if stamp != due.stamp {
            let quiet = QuietTimes { found: self.quiet(number), closed: self.config.times.close };
            self.settler.saw(now, due.id, stamp, Arrival::Found, quiet);
            return Ok(());
        }
        let in_flight = self.in_flight.get(&due.id);
        if in_flight.is_some_and(|dump| !dump.is_done) {
            // An earlier version is on its way: this one follows it.
            self.settler.again(due, now + AGAIN);
            return Ok(());
        }
        if in_flight.is_none() && self.is_known(number, &due.id.1, stamp)? {
            self.forget(&due.id);
            return Ok(());
        }
        let patience = match self.mode {
            Mode::Once => Duration::ZERO,
            Mode::Follow => self.config.times.wait,
        };
        let n_unread = in_flight.map_or(0, |dump| dump.n_unread);
        let is_over = now.duration_since(due.since) >= patience || n_unread > UNREAD_MAX;
        let Some(mut run) = self.runs[number].take() else {
            return Ok(());
        };
        let attempt = self.plan_dump(&mut run, &due.id, says, stamp, is_over);
        self.runs[number] = Some(run);
        match attempt? {
            Attempt::Done => {
                self.waiting.remove(&due.id);
            }
            Attempt::Trouble(reason) if self.mode == Mode::Once => {
                // It stays to be read by the next ingest.
                self.problems.push(reason);
                self.forget(&due.id);
            }
            Attempt::Wait(reason) | Attempt::Trouble(reason) => {
                self.waiting.insert(due.id.clone(), reason);
                self.settler.again(due, now + AGAIN);
            }
        }
        Ok(())
    }

    fn forget(&mut self, id: &DumpId) {
        self.waiting.remove(id);
        self.in_flight.remove(id);
    }

    fn plan_dump(
        &mut self,
        run: &mut Run,
        id: &DumpId,
        says: &Result<DumpPath, String>,
        stamp: Stamp,
        is_over: bool,
    ) -> Result<Attempt, StoreError> {
        let row = self.reader.dump(&run.info.id, &id.1)?.unwrap_or_default();
        let dump = PathDump { id, says, stamp, sidecar: run.sidecar(&id.1), row };
        let before = self.in_flight.get(id);
        let n_unread = before.map_or(0, |before| before.n_unread);
        let mut reserved = before.and_then(|before| before.reserved.clone());
        let unit = match self.open_path_dump(run, &dump) {
            Err(Verdict::Wait(reason)) if !is_over => return Ok(Attempt::Wait(reason)),
            Err(Verdict::Trouble(reason)) => return Ok(Attempt::Trouble(reason)),
            Err(Verdict::Wait(reason) | Verdict::Reject(reason)) => dump.rejected(run, reason),
            Ok((record, open, _)) if n_unread <= UNREAD_MAX && dump.is_same(&open) => {
                // Written again with the same content: only the cursor moves.
                tracing::debug!(run = %run.info.id, path = id.1, key = %record.key, "dump has the same content");
                Unit::told(&run.info, &dump.source(), None, dump.cursor(open.digest().ok()))
            }
            Ok(_) if n_unread > UNREAD_MAX => dump.rejected(
                run,
                "the dump changes whenever it is read, or can't be read whole".to_owned(),
            ),
            Ok(opened) => self.plan_version(run, &dump, opened, &mut reserved)?,
        };
        self.in_flight.insert(id.clone(), InFlight { stamp, reserved, n_unread, is_done: false });
        run.has_given = true;
        self.pipeline.submit(unit);
        Ok(Attempt::Done)
    }

    /// Plans a version of a dump in the place of the one before, if there was one.
    fn plan_version(
        &mut self,
        run: &Run,
        dump: &PathDump<'_>,
        (record, open, header): Opened,
        reserved: &mut Option<Standing>,
    ) -> Result<Unit, StoreError> {
        let limits = self.config.limits;
        let options = record.options.over(self.config.rules.options(&record.key));
        let before = reserved.clone().or_else(|| dump.row.stands());
        let is_here = |(key, step, _): &&Standing| (key, *step) == (&record.key, record.step);
        let earlier = before.as_ref().filter(is_here).map(|(_, _, earlier)| *earlier);
        let usage = self.usage_of(&run.info.id, &record)?;
        let plan = match plan(&record, options, header, usage, &limits, earlier) {
            Ok(plan) => plan,
            Err(error) => return Ok(dump.rejected(run, error.to_string())),
        };
        let n = u32::try_from(plan.items.len()).unwrap_or(u32::MAX);
        let first = plan.items.first().map(|item| item.id.index);
        *reserved = first.map(|first| (record.key, record.step, Earlier { first, n }));
        let mut unit = Unit::planned(&run.info, &dump.source(), open, plan, dump.cursor(None));
        for id in gone(before.as_ref(), reserved.as_ref()) {
            let step = (run.info.id.clone(), id.key.clone(), id.step);
            self.usage.entry(step).and_modify(|usage| usage.free(id.index));
            unit.tasks.push(Task::Tell(Event::Gone { id }));
        }
        Ok(unit)
    }

    fn open_path_dump(&self, run: &mut Run, dump: &PathDump<'_>) -> Result<Opened, Verdict> {
        let record = read_sidecar(run, dump, self.config.limits.line_bytes_max)?;
        run.tell_unknown_fields(&dump.id.1, &record);
        let (open, header, _) = run.open_dump(&record.data, &self.config.limits)?;
        Ok((record, OpenDump::new(open), header))
    }
}

/// A dump that can be read, and what is said of it.
type Opened = (MediaRecord, OpenDump, TensorHeader);

/// Where a dump's images stand: key, step, indices.
type Standing = (MediaKey, Step, Earlier);

/// The images that an earlier version had and this one has no more.
fn gone(before: Option<&Standing>, now: Option<&Standing>) -> Vec<MediaId> {
    let Some((key, step, earlier)) = before else { return Vec::new() };
    let kept =
        now.filter(|now| (&now.0, now.1) == (key, *step)).map_or(0..0, |now| now.2.indices());
    let is_gone = |index: &u32| !kept.contains(index);
    let id = |index| MediaId { key: key.clone(), step: *step, index };
    earlier.indices().filter(is_gone).map(id).collect()
}

/// What a dump's path and its sidecar, if it has one, say of it.
fn read_sidecar(run: &Run, dump: &PathDump<'_>, bytes_max: u64) -> Result<MediaRecord, Verdict> {
    let data = DataRef { path: dump.id.1.clone(), tensor: None, dtype: None, raw: false };
    let says = dump.says.as_ref().map_err(|reason| Verdict::Reject(reason.clone()))?;
    let Some((name, _)) = &dump.sidecar else {
        return Ok(MediaRecord {
            key: says.key.clone(),
            step: says.step,
            index: says.index,
            data,
            options: ImageOptions::default(),
            description: Description::default(),
        });
    };
    let file = run.dir.open_file(name)?;
    if file.stamp.size > bytes_max {
        let reason = format!(
            "sidecar {name:?} has {} bytes, limits.line_bytes_max is {bytes_max}",
            file.stamp.size
        );
        return Err(Verdict::Reject(reason));
    }
    let text = io::read_to_string(file.into_file().take(bytes_max));
    let text = text.map_err(|error| Verdict::Wait(format!("sidecar {name:?}: {error}")))?;
    // A sidecar that can't be read may be half written.
    parse_sidecar(text.as_bytes(), says, data)
        .map_err(|error| Verdict::Wait(format!("sidecar {name:?}, {error}")))
}
