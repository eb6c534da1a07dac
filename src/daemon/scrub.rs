//! The scrub in the daemon: reads media files slowly, and repairs what it, a target or retention finds damaged.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::repair::repair;
use super::retention::Retention;
use crate::control::protocol::RepairQuery;
use crate::ingest::{Command, Shared};
use crate::media::RunId;
use crate::store::scrub::Scrub;
use crate::store::{DamagedMedia, Reader};

/// The pause between two turns.
const EVERY: Duration = Duration::from_secs(1);

/// How long a turn of the scrub lasts, at most, beside the file that it reads.
const TURN_MAX: Duration = Duration::from_secs(4);

/// How long after its start the daemon begins to read: other work comes first.
const FIRST_AFTER: Duration = Duration::from_mins(1);

/// How often the place of the scrub is written to the disk.
const SAVE_EVERY: Duration = Duration::from_mins(5);

/// The pause before a repair is tried again.
const REPAIR_EVERY: Duration = Duration::from_hours(1);

/// How many images are repaired by one command.
const REPAIRS_MAX: usize = 16;

pub(super) struct Scrubber {
    scrub: Scrub,
    reader: Reader,
    retention: Arc<Retention>,
    shared: Shared,
    commands: Sender<Command>,
    /// When the repair of a file was last tried.
    tried: HashMap<(RunId, String), Instant>,
    saved_at: Instant,
    n_saved: usize,
}

impl Scrubber {
    pub(super) fn new(
        reader: Reader,
        retention: Arc<Retention>,
        shared: Shared,
        commands: Sender<Command>,
    ) -> Self {
        let scrub = Scrub::new(reader.clone());
        let (tried, saved_at, n_saved) = (HashMap::new(), Instant::now(), 0);
        Self { scrub, reader, retention, shared, commands, tried, saved_at, n_saved }
    }

    /// Works until `stop` is closed.
    pub(super) fn start(mut self, stop: Receiver<()>) -> io::Result<()> {
        let start = Instant::now();
        thread::Builder::new().name("scrub".to_owned()).spawn(move || {
            while stop.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) && !self.is_stopped() {
                self.repair_found();
                if start.elapsed() >= FIRST_AFTER {
                    self.read_on();
                }
                self.save();
            }
        })?;
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Reads the next media files, if a pass is due.
    fn read_on(&mut self) {
        let rules = self.retention.config().0.scrub;
        if !rules.pause.is_some_and(|pause| self.scrub.is_due(pause)) {
            return;
        }
        self.scrub.set_rate(rules.bytes_per_s_max.get());
        let (start, stop) = (Instant::now(), &self.shared.stop);
        let is_over = || stop.load(Ordering::Relaxed) || start.elapsed() >= TURN_MAX;
        if let Err(error) = self.scrub.turn(is_over) {
            tracing::warn!(%error, "media files of a run cannot be read again now");
        }
    }

    /// Repairs the files that were found damaged since the last turn, and once in a while those that could not be
    /// repaired.
    fn repair_found(&mut self) {
        let found = self.reader.findings().all();
        self.tried.retain(|_, tried| tried.elapsed() < REPAIR_EVERY);
        let mut by_run: BTreeMap<RunId, Vec<DamagedMedia>> = BTreeMap::new();
        for found in found {
            let at = (found.run.clone(), found.path.clone());
            let of_run = by_run.entry(found.run.clone()).or_default();
            if of_run.len() < REPAIRS_MAX && !self.tried.contains_key(&at) {
                of_run.push(found);
            }
        }
        for (run, mut found) in by_run {
            found.retain(|found| self.scrub.is_still_damaged(found).unwrap_or(false));
            if found.is_empty() || self.is_stopped() {
                continue;
            }
            let images = found.iter().map(DamagedMedia::image).collect();
            // A busy engine repairs in a later turn.
            let Ok(results) = repair(&self.commands, RepairQuery { run, images }) else { continue };
            for found in found {
                self.tried.insert((found.run.clone(), found.path.clone()), Instant::now());
                if !self.scrub.is_still_damaged(&found).unwrap_or(true) {
                    let (run, path) = (&found.run, &found.path);
                    tracing::info!(%run, path, damage = found.damage, "media file is made again");
                    continue;
                }
                let of_image = results.iter().find(|result| result.image == found.image());
                let reason = of_image.and_then(|result| result.reason.clone());
                let reason =
                    reason.unwrap_or_else(|| "it could not be put in its place".to_owned());
                tracing::error!(run = %found.run, path = found.path, reason, "media file cannot be made again");
                self.reader.findings().not_repaired(&found, reason);
            }
        }
    }

    fn save(&mut self) {
        let n_found = self.reader.findings().all().len();
        if n_found == self.n_saved && self.saved_at.elapsed() < SAVE_EVERY {
            return;
        }
        (self.n_saved, self.saved_at) = (n_found, Instant::now());
        if let Err(error) = self.scrub.save() {
            tracing::debug!(%error, "the place of the scrub is not saved");
        }
    }
}
