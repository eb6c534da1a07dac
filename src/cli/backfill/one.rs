//! The backfill of one run: look, read, deliver, mark, remove.
//!
//! Each step may be cut off by a kill, and the whole begins again:
//!
//! | killed… | the next try |
//! | --- | --- |
//! | while it reads | goes on in the scratch store, or reads anew: the journal gets the same lines |
//! | while it delivers | delivers the rest: the object store knows each line by its number in the journal |
//! | before the marker | delivers nothing, and creates the marker |
//! | before the scratch store is removed | removes it |
//! | while it is removed | removes the rest, and reads anew: the object store has all lines |

use std::path::{Path, PathBuf};
use std::slice;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{anyhow, bail};

use super::scratch::Scratch;
use super::source::Source;
use crate::cli::access;
use crate::cli::exit::with_causes;
use crate::cli::format::count;
use crate::cli::ingest::{self, ReadOnce};
use crate::cli::json::{BackfillStatus, BackfilledRun};
use crate::cli::progress::Progress;
use crate::config::sync::{ObjectStoreConfig, SyncConfig, TargetConfig};
use crate::config::{Config, WatchConfig};
use crate::formats::object_store::FORMAT;
use crate::media::BoxName;
use crate::sinks::SinkError;
use crate::sinks::object_store::{BackfillMarker, BackfillObjects};
use crate::store;
use crate::sync::{self, TargetStatus};

/// The box of backfilled runs if neither the command line nor the target names one. Not the host's name, as for a daemon:
/// another worker may begin a run again.
fn default_box() -> BoxName {
    BoxName::new("archive").expect("a name")
}

/// How often the target is asked for what it has of a run, and the first pause in between.
const TRIES_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// What all runs of a command have in common.
pub(super) struct Backfill<'a> {
    pub(super) config: Config,
    pub(super) target: ObjectStoreSync,
    pub(super) box_name: BoxName,
    /// `--origin`.
    pub(super) origin: Option<&'a str>,
    /// `--fingerprint`.
    pub(super) fingerprint: Option<&'a str>,
    pub(super) scratch: PathBuf,
    pub(super) skips_done: bool,
    pub(super) is_dry: bool,
    pub(super) runtime: tokio::runtime::Runtime,
    pub(super) progress: Progress,
}

/// An object store that is configured as a target.
pub(super) struct ObjectStoreSync {
    config: SyncConfig,
    settings: ObjectStoreConfig,
}

impl ObjectStoreSync {
    /// A target with this box.
    ///
    /// # Errors
    /// If the target is of another kind.
    pub(super) fn new(
        config: SyncConfig,
        box_name: Option<&BoxName>,
    ) -> anyhow::Result<(Self, BoxName)> {
        let TargetConfig::ObjectStore(mut settings) = config.kind.clone() else {
            let (name, kind) = (&config.name, config.kind.kind());
            bail!(
                "target {name} is of kind {kind}, want object_store: only an object store tells what was delivered to it \
                 before, so that a backfill that is begun again doubles nothing"
            );
        };
        let configured = || settings.box_name.clone();
        let box_name = box_name.cloned().or_else(configured).unwrap_or_else(default_box);
        settings.box_name = Some(box_name.clone());
        Ok((Self { config, settings }, box_name))
    }

    /// The target that records this source of a run.
    fn with_origin(&self, origin: &str) -> SyncConfig {
        let settings =
            ObjectStoreConfig { origin: Some(origin.to_owned()), ..self.settings.clone() };
        SyncConfig { kind: TargetConfig::ObjectStore(settings), ..self.config.clone() }
    }
}

/// What was read of a run and delivered.
#[derive(Default)]
struct Counts {
    images: u64,
    held: u64,
    rejected: u64,
    bytes: u64,
}

impl Counts {
    fn fill(&self, row: &mut BackfilledRun) {
        (row.images, row.held, row.rejected) = (self.images, self.held, self.rejected);
        row.bytes = self.bytes;
    }
}

impl Backfill<'_> {
    /// Backfills the run in a directory. What fails is told in the result.
    pub(super) fn run(&self, watch: WatchConfig) -> BackfilledRun {
        let start = Instant::now();
        let source = self.origin.map_or_else(|| watch.path.to_string_lossy().into(), str::to_owned);
        let mut row = BackfilledRun::new(self.box_name.clone(), source);
        if let Err(error) = self.fill(watch, &mut row) {
            row.status = BackfillStatus::Failed;
            row.error = Some(with_causes(&error));
        }
        row.seconds = start.elapsed().as_secs_f64();
        row
    }

    /// The result for a directory that cannot be read.
    pub(super) fn failed(&self, directory: &Path, error: &anyhow::Error) -> BackfilledRun {
        let source = directory.to_string_lossy().into_owned();
        let mut row = BackfilledRun::new(self.box_name.clone(), source);
        row.status = BackfillStatus::Failed;
        row.error = Some(with_causes(error));
        row
    }

    fn fill(&self, watch: WatchConfig, row: &mut BackfilledRun) -> anyhow::Result<()> {
        let source = Source::read(watch, self.origin)?;
        let run = &source.info.id;
        let fingerprint = self.fingerprint.unwrap_or(&source.files.fingerprint).to_owned();
        (row.run, row.fingerprint) = (Some(run.clone()), Some(fingerprint.clone()));
        let objects = BackfillObjects::open(&self.target.settings, &self.box_name, run)?;
        if self.is_dry {
            let marker = self.done_before(&objects, &source, &fingerprint)?;
            row.status =
                if marker.is_some() { BackfillStatus::Skipped } else { BackfillStatus::Pending };
            marker.iter().for_each(|marker| counts_of(marker).fill(row));
            return Ok(());
        }
        // Before the look at the target: the process that has the scratch store may be about to end.
        let scratch = Scratch::take(&self.scratch, &self.box_name, run, &source.files.stamp)?;
        if let Some(marker) = self.done_before(&objects, &source, &fingerprint)?
            && self.skips_done
        {
            row.status = BackfillStatus::Skipped;
            counts_of(&marker).fill(row);
            return scratch.remove();
        }
        let read = match self.read(&source, &scratch, row) {
            Ok(read) => read,
            Err(error) => {
                // Nothing of it was delivered.
                scratch.remove()?;
                return Err(error);
            }
        };
        let counts = self.deliver(&source, read).map_err(|error| {
            let (error, kept) = (with_causes(&error), scratch.store().display());
            anyhow!("{error}; the same command goes on where this one stopped, in {kept}")
        })?;
        counts.fill(row);
        // Another run of the same name may have been delivered meanwhile.
        self.done_before(&objects, &source, &fingerprint)?;
        let marker = self.marker(&source, fingerprint, &counts);
        self.runtime.block_on(tried(async || objects.create_marker(&marker).await))?;
        scratch.remove()?;
        row.status = BackfillStatus::Done;
        Ok(())
    }

    /// The marker of a run that is delivered.
    fn marker(&self, source: &Source, fingerprint: String, counts: &Counts) -> BackfillMarker {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        BackfillMarker {
            v: FORMAT,
            box_name: self.box_name.clone(),
            run: source.info.id.clone(),
            source: source.origin.clone(),
            fingerprint,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            images: counts.images,
            held: counts.held,
            rejected: counts.rejected,
            bytes: counts.bytes,
            time: now.as_secs(),
        }
    }

    /// Returns the marker of this run, if the target has it.
    ///
    /// # Errors
    /// If the target has another run of this name, or an earlier state of this one.
    fn done_before(
        &self,
        objects: &BackfillObjects,
        source: &Source,
        fingerprint: &str,
    ) -> anyhow::Result<Option<BackfillMarker>> {
        let there = async || {
            let marker = objects.marker().await?;
            Ok((objects.source().await?, marker))
        };
        let (from, marker) = self.runtime.block_on(tried(there))?;
        let (run, of, target) = (&source.info.id, &self.box_name, &self.target.config.name);
        if let Some(from) = from.filter(|from| *from != source.origin) {
            let has_id = source.info.identity.contains_key("id");
            let name = if has_id { "\"id\" in its safelight.json" } else { "name (--run)" };
            bail!(
                "target {target} has a run {run} of box {of} that comes from {from}, want {}: give this run another \
                 {name} or another box (--box); if it is the same run, repeat with --origin {from}",
                source.origin
            );
        }
        match marker {
            Some(marker) if marker.fingerprint != fingerprint => bail!(
                "run {run} of box {of} was backfilled to target {target} from other files (fingerprint {}, now \
                 {fingerprint}): if only their times have changed, repeat with --fingerprint {}; else remove the \
                 run's folder from the target, or use another --box",
                marker.fingerprint,
                marker.fingerprint
            ),
            marker => Ok(marker),
        }
    }

    /// Reads the run directory into the scratch store.
    ///
    /// # Errors
    /// If not all of it was read.
    fn read(
        &self,
        source: &Source,
        scratch: &Scratch,
        row: &mut BackfilledRun,
    ) -> anyhow::Result<ReadOnce> {
        let mut config = self.config.clone();
        scratch.store().clone_into(&mut config.boot.store);
        config.live.watches = vec![source.watch.clone()];
        // An archive is at rest: what is missing stays missing. And the order in which a run is read must not depend on
        // how long it waited, so that another machine makes the same journal.
        config.live.times.settle = Duration::ZERO;
        let holder = access::holder("backfill");
        let opened = store::open(scratch.store(), &holder, access::HELD_MAX)?;
        let read = ingest::read_once(&config, opened, &self.progress)?;
        let report = &read.report;
        row.passed_over = report.passed_over.iter().flat_map(|of| of.passed_over.clone()).collect();
        row.skipped = report.skipped.clone();
        let begun = report.begun_lines.iter().map(|(_, log, n_bytes)| (log.clone(), *n_bytes));
        row.begun_lines = begun.collect();
        ingest::check_all_was_read(report)?;
        if let Some(not_taken) = report.not_taken.first() {
            bail!("{not_taken}");
        }
        Ok(read)
    }

    /// Delivers what the scratch store has.
    ///
    /// # Errors
    /// If the target does not have all of it then.
    fn deliver(&self, source: &Source, read: ReadOnce) -> anyhow::Result<Counts> {
        let ReadOnce { writer, reader, report, .. } = read;
        let run = &source.info.id;
        let target = self.target.with_origin(&source.origin);
        // Images that the target did not take before.
        sync::retry(&reader, slice::from_ref(&target))?;
        let see = |views: &[TargetStatus]| {
            for TargetStatus { delivered, pending, trouble, name, .. } in views {
                let trouble = trouble.as_deref().map(|trouble| format!(" ({trouble})"));
                let message = format!("items to {name}{}", trouble.unwrap_or_default());
                self.progress.set(*delivered, delivered + pending, message);
            }
        };
        let delivered = sync::deliver(&reader, vec![target], true, see)?;
        self.progress.finish();
        for (TargetStatus { trouble, set_aside, reasons, pending, .. }, is_done) in delivered {
            if set_aside > 0 {
                let (items, reasons) = (count(set_aside, "item"), reasons.join("; "));
                bail!("the target does not take {items}: {reasons}");
            }
            if !is_done {
                bail!(
                    "{}",
                    trouble.unwrap_or_else(|| format!("{} not delivered", count(pending, "item")))
                );
            }
        }
        let bytes = sync::bytes_delivered(&reader, &self.target.config.name, run)?;
        let summary = report.runs.into_iter().find(|summary| summary.run == *run);
        let summary = summary.ok_or_else(|| anyhow!("the scratch store has no run {run}"))?;
        writer.close()?;
        let (images, held, rejected) = (summary.image, summary.held, summary.rejected);
        Ok(Counts { images, held, rejected, bytes })
    }
}

/// Asks a target up to [`TRIES_MAX`] times, with growing pauses: a cluster asks it often.
async fn tried<T>(ask: impl AsyncFn() -> Result<T, SinkError>) -> anyhow::Result<T> {
    let mut n_failed = 0;
    loop {
        match ask().await {
            Err(_) if n_failed + 1 < TRIES_MAX => {
                n_failed += 1;
                tokio::time::sleep(PAUSE * n_failed * n_failed).await;
            }
            result => return Ok(result?),
        }
    }
}

fn counts_of(marker: &BackfillMarker) -> Counts {
    let BackfillMarker { images, held, rejected, bytes, .. } = *marker;
    Counts { images, held, rejected, bytes }
}
