//! Dumps that speak for themselves → batches.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::time::{Duration, Instant};

use super::Mode;
use super::beneath::Verdict;
use super::engine::{AGAIN, AGAIN_MAX, Attempt, DumpId, Engine, InFlight, Standing};
use super::opened::OpenDump;
use super::pipeline::SourceBatch;
use super::run::Run;
use super::settle::{Arrival, Due, QuietTimes};
use super::to_plan::ToPlan;
use crate::media::{Description, Digest, MediaEntry, MediaId, Source};
use crate::record::pattern::DumpPath;
use crate::record::{MediaRecord, parse_sidecar};
use crate::store::journal::{DumpCursor, Event, SourceCursor, Stamp};
use crate::store::{DumpRow, StoreError};

/// How often a dump that changes while it is read is read again before it is rejected.
const UNREAD_MAX: u32 = 10;

/// Why an image that was held back can't be made any more.
pub(super) const GONE: &str = "its dump is gone";

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

    fn cursor(&self, digest: Option<Digest>) -> SourceCursor {
        let sidecar = self.sidecar.as_ref().map(|(_, stamp)| *stamp);
        let cursor = DumpCursor::new(self.id.1.clone(), self.stamp, sidecar);
        SourceCursor::Dump(cursor.with_digest(digest))
    }

    fn rejected(&self, run: &Run, reason: String) -> SourceBatch {
        let place = self.says.as_ref().ok();
        let place = place.map(|says| (says.key.clone(), says.step, says.index));
        let entry = MediaEntry::rejected(place, reason, Description::default(), self.source());
        SourceBatch::of_event(&run.info, Event::Media(Box::new(entry)), self.cursor(None))
    }

    /// Whether the store has this version, as far as all but the content tells.
    fn is_known(&self) -> bool {
        let sidecar = self.sidecar.as_ref().map(|(_, stamp)| *stamp);
        let known = self.row.cursor.as_ref();
        known.is_some_and(|known| (known.stamp, known.sidecar) == (self.stamp, sidecar))
    }

    /// Whether an earlier version had the same content and sidecar.
    fn is_same(&self, dump: &OpenDump) -> bool {
        let sidecar = self.sidecar.as_ref().map(|(_, stamp)| *stamp);
        let known = self.row.cursor.as_ref().filter(|cursor| cursor.sidecar == sidecar);
        let known = known.and_then(DumpCursor::digest);
        known.is_some_and(|known| dump.digest_by(known.kind()).is_ok_and(|digest| digest == known))
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
        let is_compared = self.to_compare.remove(&due.id);
        if in_flight.is_none() && !is_compared && self.is_known(number, &due.id.1, stamp)? {
            self.forget(&due.id);
            return Ok(());
        }
        let patience = match self.mode {
            Mode::Once => Duration::ZERO,
            Mode::Follow => self.config.times.incomplete,
        };
        let n_unread = in_flight.map_or(0, |dump| dump.n_unread);
        let is_over = now.duration_since(due.since) >= patience || n_unread > UNREAD_MAX;
        let Some(mut run) = self.runs[number].take() else {
            return Ok(());
        };
        let attempt = self.plan_dump(&mut run, &due.id, says, stamp, is_over);
        self.runs[number] = Some(run);
        let attempt = attempt?;
        let is_trouble = matches!(attempt, Attempt::Trouble(_));
        match attempt {
            Attempt::Done => self.is_read(&due.id),
            Attempt::Trouble(reason) if self.mode == Mode::Once => {
                // It stays to be read by the next ingest.
                self.problems.push(reason);
                self.forget(&due.id);
            }
            Attempt::Wait(reason) | Attempt::Trouble(reason) => {
                if is_trouble && let Some(run) = &self.runs[number] {
                    self.troubles.begins(&run.info.id, &due.id, &reason);
                }
                self.waiting.insert(due.id.clone(), reason);
                // One that is cut for ever is looked at less and less often.
                let waited = now.saturating_duration_since(due.since);
                let pause = (waited / 8).clamp(AGAIN, AGAIN_MAX);
                self.settler.again(due, now + pause);
            }
        }
        Ok(())
    }

    /// Nothing is waited for.
    fn is_read(&mut self, id: &DumpId) {
        self.waiting.remove(id);
        if let Some(run) = &self.runs[id.0] {
            self.troubles.ends(&run.info.id, id);
        }
    }

    fn forget(&mut self, id: &DumpId) {
        self.is_read(id);
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
        let mut reserved = before.map(|before| before.reserved.clone()).unwrap_or_default();
        let batch = match self.open_path_dump(run, &dump) {
            Err(Verdict::Wait(reason)) if !is_over => return Ok(Attempt::Wait(reason)),
            Err(Verdict::Trouble(reason)) => return Ok(Attempt::Trouble(reason)),
            Err(Verdict::Wait(reason) | Verdict::Reject(reason)) => dump.rejected(run, reason),
            Ok(ToPlan { dump: open, .. }) if dump.is_known() && dump.is_same(&open) => {
                return Ok(Attempt::Done);
            }
            Ok(ToPlan { record, dump: open, .. })
                if n_unread <= UNREAD_MAX && dump.is_same(&open) =>
            {
                // Written again with the same content: only the cursor moves.
                tracing::debug!(run = %run.info.id, path = id.1, key = %record.key, "dump has the same content");
                SourceBatch::new(&run.info, dump.cursor(open.digest().ok()))
            }
            Ok(_) if n_unread > UNREAD_MAX => dump.rejected(
                run,
                "the dump changes whenever it is read, or can't be read whole".to_owned(),
            ),
            Ok(opened) => self.plan_version(run, &dump, opened, &mut reserved)?,
        };
        self.in_flight.insert(id.clone(), InFlight { stamp, reserved, n_unread, is_done: false });
        run.has_given = true;
        self.pipeline.submit(batch);
        Ok(Attempt::Done)
    }

    /// Plans a version of a dump in the place of the one before, if there was one.
    fn plan_version(
        &mut self,
        run: &Run,
        dump: &PathDump<'_>,
        to_plan: ToPlan,
        reserved: &mut Vec<Standing>,
    ) -> Result<SourceBatch, StoreError> {
        // A version that is on its way comes before what the store has.
        let mut before = reserved.clone();
        before.extend(dump.row.stands.iter().cloned());
        let mut batch = SourceBatch::new(&run.info, dump.cursor(None));
        let now = self.plan_parts(run, to_plan, &before, &mut batch)?;
        // A version that is no picture at all doesn't take away the pictures before it.
        if now.is_empty() {
            return Ok(batch);
        }
        for id in gone(&before, &now) {
            let step = (run.info.id.clone(), id.key.clone(), id.step);
            self.usage.entry(step).and_modify(|usage| usage.free(id.index));
            batch.push_event(Event::Gone { id, path: Some(dump.id.1.clone()) });
        }
        *reserved = now;
        Ok(batch)
    }

    /// Opens a dump that speaks for itself once more: images of it were held back.
    ///
    /// # Errors
    /// Why that can't be, for a person to read.
    pub(super) fn reopen_path_dump(
        &self,
        run: &mut Run,
        path: &str,
    ) -> Result<Result<ToPlan, String>, StoreError> {
        let row = self.reader.dump(&run.info.id, path)?.unwrap_or_default();
        let Some(says) = run.dump_path(path) else {
            let reason = "its path speaks for itself no more, by `dumps` of the configuration";
            return Ok(Err(reason.to_owned()));
        };
        let Some(stamp) = run.dir.stat(path) else { return Ok(Err(GONE.to_owned())) };
        let sidecar = run.sidecar(path);
        let known = row.cursor.as_ref().and_then(|cursor| cursor.sidecar);
        if known != sidecar.as_ref().map(|(_, stamp)| *stamp) {
            return Ok(Err("its sidecar is another than when it was held back".to_owned()));
        }
        let id = (usize::MAX, path.to_owned());
        let dump = PathDump { id: &id, says: &says, stamp, sidecar, row };
        Ok(self.open_path_dump(run, &dump).map_err(Verdict::reason))
    }

    fn open_path_dump(&self, run: &mut Run, dump: &PathDump<'_>) -> Result<ToPlan, Verdict> {
        let limits = &self.config.limits;
        let record = read_sidecar(run, dump, limits.line_bytes_max)?;
        run.tell_unknown_fields(&dump.id.1, &record);
        let is_raw = [".bin", ".raw"].iter().any(|ending| dump.id.1.ends_with(ending));
        if is_raw && record.data.raw.is_none() {
            let what = "raw bytes without a sidecar that names dtype and shape";
            return Err(Verdict::Wait(format!("{:?}: {what}", dump.id.1)));
        }
        let opened = run.dir.open_dump(&record.data, limits)?;
        let says_place = dump.sidecar.is_some();
        ToPlan::read(&run.dir, record, opened, dump.source(), says_place, limits)
    }
}

/// The images that an earlier version had and this one has no more.
fn gone(before: &[Standing], now: &[Standing]) -> BTreeSet<MediaId> {
    let mut gone = BTreeSet::new();
    for (key, step, earlier) in before {
        let kept = now.iter().find(|now| (&now.0, now.1) == (key, *step));
        let kept = kept.map_or(0..0, |now| now.2.indices());
        let is_gone = |index: &u32| !kept.contains(index);
        let id = |index| MediaId { key: key.clone(), step: *step, index };
        gone.extend(earlier.indices().filter(is_gone).map(id));
    }
    gone
}

/// What a dump's path and its sidecar, if it has one, say of it.
fn read_sidecar(run: &Run, dump: &PathDump<'_>, bytes_max: u64) -> Result<MediaRecord, Verdict> {
    let says = dump.says.as_ref().map_err(|reason| Verdict::Reject(reason.clone()))?;
    let Some((name, _)) = &dump.sidecar else {
        return Ok(MediaRecord::of_path(says));
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
    parse_sidecar(text.as_bytes(), says)
        .map_err(|error| Verdict::Wait(format!("sidecar {name:?}, {error}")))
}
