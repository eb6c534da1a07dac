//! Commits units in the order of their plans, several at once where they are ready.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crossbeam_channel::{Receiver, Select, TryRecvError};

use super::UNITS_MAX;
use super::budget::Share;
use super::counts::BatchCounts;
use super::progress::Progress;
use super::results::{BatchResult, GroupResult, ResultSender};
use super::worker::{Outcome, Place, Results, retried};
use crate::ingest::opened::SharedDigest;
use crate::ingest::request::Request;
use crate::media::{Digest, MediaId, Source, State};
use crate::pulse::idle;
use crate::store::journal::{Event, SourceCursor};
use crate::store::media_dir::Staged;
use crate::store::{Commit, RunInfo, Writer};

/// Units, and their events, that are committed at once.
const GROUP_MAX: usize = 256;
const GROUP_EVENTS_MAX: u64 = 8192;

/// How many rejections of one line or dump are logged.
const REJECTED_TOLD_MAX: usize = 3;

/// A unit on its way to the commit: its events in order, those of its images once they are made.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) run: Arc<RunInfo>,
    pub(super) events: Vec<Option<Event>>,
    /// How many images are still to be made.
    pub(super) n_to_make: usize,
    /// The media files of what was made.
    pub(super) files: Vec<Staged>,
    pub(super) cursor: SourceCursor,
    pub(super) n_events: u64,
    /// Of those, how many the ledger counts.
    pub(super) n_counted: u64,
    pub(super) share: Share,
    /// The dump's digest; its file is closed once its images are made.
    pub(super) digest: Option<SharedDigest>,
    /// Why the dump must be read again, if so.
    pub(super) unread: Option<String>,
    /// Images of a line that could not be made.
    pub(super) failed: Vec<MediaId>,
    /// Whether an image was given up, since the program stops and the disk takes nothing.
    pub(super) is_given_up: bool,
}

/// The one that commits.
pub(super) struct Committer {
    pub(super) writer: Writer,
    pub(super) units: Receiver<Vec<Pending>>,
    pub(super) results: Receiver<Results>,
    pub(super) requests: Receiver<Request>,
    pub(super) group_results: ResultSender,
    pub(super) progress: Arc<Progress>,
    pub(super) stop: Arc<AtomicBool>,
    /// Units that are not committed, the next one first, and its number.
    waiting: VecDeque<Pending>,
    first: u64,
    /// Whether more units may come.
    is_open: bool,
}

impl Committer {
    pub(super) fn new(
        writer: Writer,
        units: Receiver<Vec<Pending>>,
        results: Receiver<Results>,
        requests: Receiver<Request>,
        group_results: ResultSender,
        progress: Arc<Progress>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let (waiting, first, is_open) = (VecDeque::new(), 0, true);
        Self {
            writer,
            units,
            results,
            requests,
            group_results,
            progress,
            stop,
            waiting,
            first,
            is_open,
        }
    }

    /// Commits until all is done. Ends early only when it gives up: what comes after a unit must not
    /// be committed without it.
    pub(super) fn run(mut self) -> Writer {
        loop {
            // As much as is there goes together.
            while let Ok(results) = self.results.try_recv() {
                self.place(results);
            }
            let group = self.take_group();
            if group.is_empty() {
                if !self.wait() {
                    return self.writer;
                }
            } else if !self.commit(group) {
                return self.writer;
            }
        }
    }

    /// Waits for the next units, results or requests, and takes them in. Requests are served here: on a
    /// full disk they make the room that commits wait for. Returns whether anything more can come.
    fn wait(&mut self) -> bool {
        if !self.is_open && self.waiting.is_empty() {
            return false;
        }
        let takes_units = self.is_open && self.waiting.len() < UNITS_MAX;
        let takes_results = !self.waiting.is_empty();
        let mut select = Select::new();
        select.recv(&self.requests);
        if takes_units {
            select.recv(&self.units);
        }
        if takes_results {
            select.recv(&self.results);
        }
        self.group_results.select(&mut select);
        idle(|| select.ready());
        drop(select);
        self.group_results.send_held();
        if let Ok(request) = self.requests.try_recv() {
            request.serve(&mut self.writer);
        }
        if takes_results {
            match self.results.try_recv() {
                Ok(results) => self.place(results),
                Err(TryRecvError::Empty) => {}
                // The workers are gone, and with them what is missing.
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        if takes_units {
            match self.units.try_recv() {
                Ok(units) => self.waiting.extend(units),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => self.is_open = false,
            }
        }
        true
    }

    /// Puts what was made into its units.
    fn place(&mut self, results: Results) {
        for (Place { unit, slot }, outcome) in results {
            let Some(number) = unit.checked_sub(self.first) else { continue };
            // Units are handed in before their images are made.
            while number >= self.waiting.len() as u64 {
                match self.units.recv() {
                    Ok(units) => self.waiting.extend(units),
                    Err(_) => return,
                }
            }
            let unit = usize::try_from(number).ok().and_then(|i| self.waiting.get_mut(i));
            if let Some(unit) = unit {
                unit.place(slot, outcome);
            }
        }
    }

    /// Takes out the units that are ready, as far as none before them is missing.
    fn take_group(&mut self) -> Vec<Pending> {
        let mut n_events = 0;
        let n = self.waiting.iter().take(GROUP_MAX).take_while(|unit| {
            let has_room = n_events == 0 || n_events + unit.n_events <= GROUP_EVENTS_MAX;
            n_events += unit.n_events;
            unit.n_to_make == 0 && has_room
        });
        let n = n.count();
        self.first += n as u64;
        self.waiting.drain(..n).collect()
    }

    /// Commits units. Whether it goes on.
    fn commit(&mut self, group: Vec<Pending>) -> bool {
        let n_ready = group.len();
        // What comes after one that was given up must not be kept without it.
        let group = group.into_iter().take_while(|unit| !unit.is_given_up);
        let (commits, tallies): (Vec<_>, Vec<_>) = group.map(Pending::finish).unzip();
        let is_given_up = tallies.len() < n_ready;
        let mut commits: Vec<Commit> = commits.into_iter().flatten().collect();
        let start = Instant::now();
        let (writer, progress) = (&mut self.writer, &self.progress);
        if retried("journal", progress, &self.stop, || writer.commit(&mut commits)).is_none() {
            return false;
        }
        progress.add_commit(start.elapsed());
        let mut group = GroupResult { n_batches: tallies.len() as u64, ..GroupResult::default() };
        let mut counts = Vec::with_capacity(tallies.len());
        for tally in tallies {
            for (Source { path, log, line, .. }, reason) in &tally.told {
                tracing::info!(path, log, line, reason, "rejected");
            }
            counts.push(tally.counts);
            group.results.extend(tally.results);
        }
        progress.add_done(&counts);
        self.group_results.send(group);
        !is_given_up
    }
}

/// What a unit counts for.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: BatchCounts,
    /// What to log of the rejected ones.
    told: Vec<(Source, Option<String>)>,
    results: Vec<BatchResult>,
    #[expect(dead_code, reason = "given back when dropped")]
    share: Option<Share>,
}

impl Tally {
    fn count(&mut self, event: &Event) {
        if let Event::Media(entry) = event {
            match entry.state() {
                State::Image => self.counts.n_image += 1,
                State::Held => self.counts.n_held += 1,
                State::Rejected => {
                    self.counts.n_rejected += 1;
                    if self.told.len() < REJECTED_TOLD_MAX {
                        self.told.push((entry.source.clone(), entry.reason().map(str::to_owned)));
                    }
                }
            }
        }
    }
}

/// An image that is held back tells of what dump, as far as that is known.
fn tell_digest(event: &mut Event, digest: Digest) {
    if let Event::Media(entry) = event
        && entry.state() == State::Held
    {
        (entry.source.xxh3, entry.source.sha256) = digest.fields();
    }
}

impl Pending {
    /// Takes what came of one of its images.
    fn place(&mut self, slot: usize, outcome: Outcome) {
        self.n_to_make = self.n_to_make.saturating_sub(1);
        let entry = match outcome {
            Outcome::Done(entry, staged) => {
                self.files.extend(staged);
                entry
            }
            Outcome::Unread(entry, reason) => {
                self.unread = Some(reason);
                entry
            }
            Outcome::GivenUp => {
                self.is_given_up = true;
                return;
            }
        };
        if entry.state() == State::Rejected {
            self.failed.extend(entry.id());
        }
        self.events[slot] = Some(Event::Media(entry));
    }

    /// The commit, once all images are made. It is missing for a dump that speaks for itself and could
    /// not be read whole: it is read again.
    fn finish(mut self) -> (Option<Commit>, Tally) {
        let share = Some(self.share);
        let counts = BatchCounts { n_counted: self.n_counted, ..BatchCounts::default() };
        let mut tally = Tally { counts, share, ..Tally::default() };
        if self.cursor == SourceCursor::None
            && let Some(Some(Event::Media(entry))) = self.events.first()
            && let Some(id) = entry.id()
        {
            // What was held back and can't be made stays so, and nothing is journaled.
            let is_made = entry.state() == State::Image;
            let why = entry.reason().unwrap_or_default().to_owned();
            let result = if is_made { Ok(()) } else { Err(why) };
            tally.results.push(BatchResult::Released { run: self.run.id.clone(), id, result });
            if !is_made {
                tally.counts.n_given_back = self.n_counted;
                return (None, tally);
            }
        }
        let digest = self.digest.as_ref().and_then(|digest| digest.get().copied());
        if let SourceCursor::Dump(cursor) = &mut self.cursor {
            let (run, path) = (self.run.id.clone(), cursor.path.clone());
            let is_again = self.unread.is_some();
            tally.results.push(BatchResult::Dump { run, path, unread: self.unread });
            if is_again {
                tally.counts.n_given_back = self.n_counted;
                return (None, tally);
            }
            // What was rejected may be an image the next time, though the dump is the same.
            let is_rejected = |event: &Event| matches!(event, Event::Media(entry) if entry.state() == State::Rejected);
            let digest = digest.or(cursor.digest());
            let digest = digest.filter(|_| !self.events.iter().flatten().any(is_rejected));
            *cursor = cursor.clone().with_digest(digest);
        } else {
            let run = &self.run.id;
            let failed = self.failed.into_iter();
            let failed = failed.map(|id| BatchResult::ImageFailed { run: run.clone(), id });
            tally.results.extend(failed);
        }
        let mut events: Vec<Event> = self.events.into_iter().flatten().collect();
        if let Some(digest) = digest {
            events.iter_mut().for_each(|event| tell_digest(event, digest));
        }
        events.iter().for_each(|event| tally.count(event));
        (Some(Commit { run: self.run, events, files: self.files, cursor: self.cursor }), tally)
    }
}
