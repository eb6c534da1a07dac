//! One store, answered by its daemon or read from its files.
//!
//! One process at a time holds a store. If a daemon holds it, commands go through the daemon; else they open the store
//! themselves. Commands use [`StoreAccess`] and need not know which.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use crossbeam_channel::{Sender, bounded};
use serde_json::Value;

use super::args::Common;
use super::daemon_client::find_daemon;
use super::privileges::act_as_owner_of;
use super::store_advice::with_advice;
use crate::config::{Config, SyncConfig, WatchConfig};
use crate::control::client::Client;
use crate::control::protocol::{
    GalleryPlace, ItemsQuery, Missing, ReleaseQuery, RepairQuery, Status, SyncQuery,
};
use crate::ingest::{
    Command, Engine, Mode, ReleaseReport, ReleaseRequest, RepairRequest, RepairResult, Shared,
};
use crate::retention::{self, Report, RetentionClock, StoreRemover};
use crate::run_dir::ReadOptions;
use crate::store::lock::Holder;
use crate::store::{self, Change, Filter, LeftOutRun, Reader, Removed, StoreError, Writer};
use crate::sync::{self, TargetStatus};

/// How long a command waits for another command that holds the store.
pub(super) const HELD_MAX: Duration = Duration::from_secs(3);

/// How long it waits before it looks again whether a daemon has taken the store.
const RETRY_EVERY: Duration = Duration::from_millis(200);

/// Images in one request for a repair, which is answered when all of them are done.
const REPAIRS_PER_REQUEST: usize = 16;

/// One store, and the configuration that names it.
pub(super) struct StoreAccess {
    pub(super) config: Config,
    backend: Backend,
}

enum Backend {
    Daemon(Client),
    Files(Box<Writer>, Reader),
}

impl StoreAccess {
    /// Connects to the store's daemon, or opens the store. Never creates a store.
    ///
    /// # Errors
    /// If there is no store, or another command holds it.
    pub(super) fn open(common: &Common, command: &str) -> anyhow::Result<Self> {
        crate::logging::start_for_command(io::stderr);
        let config = common.config()?;
        act_as_owner_of(&config.boot.store)?;
        let start = Instant::now();
        let backend = loop {
            if let Some(client) = find_daemon(common, &config)? {
                break Backend::Daemon(client);
            }
            check_store(&config.boot.store)
                .map_err(|error| with_advice(error, &config.boot.store, common))?;
            match store::open(&config.boot.store, &holder(command), RETRY_EVERY) {
                // A daemon that starts holds the store before it listens.
                Err(StoreError::Held { .. }) if start.elapsed() < HELD_MAX => {}
                opened => {
                    let (writer, reader) = opened
                        .map_err(|error| with_advice(error.into(), &config.boot.store, common))?;
                    break Backend::Files(Box::new(writer), reader);
                }
            }
        };
        Ok(Self { config, backend })
    }

    /// A store that this process holds.
    pub(super) fn of_files(config: Config, writer: Writer, reader: Reader) -> Self {
        Self { config, backend: Backend::Files(Box::new(writer), reader) }
    }

    /// The state of the store, and of its daemon if one runs.
    pub(super) fn status(&self) -> anyhow::Result<Status> {
        match &self.backend {
            Backend::Daemon(client) => Ok(client.status()?),
            Backend::Files(_, reader) => {
                let targets = sync::views(reader, &self.config.live.targets)?;
                let rejected = [reader.waiting_items(None)?, reader.final_items()?];
                let store = self.config.boot.store.clone();
                let status = Status::new(store, reader.runs()?, None, targets, rejected);
                let (media, left_out) = (reader.findings().status(), reader.left_out().all());
                Ok(Status { media, left_out, ..status })
            }
        }
    }

    /// Calls `see` with each matching item. A local store is closed first, because a pager may keep the output open for
    /// hours. Returns the runs whose items are left out, because their files in the store fail.
    ///
    /// # Errors
    /// If nothing matches and the query names a run, a key or a single step that does not exist, or as `see` does.
    pub(super) fn each_item(
        self,
        query: ItemsQuery,
        see: impl FnMut(Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<LeftOutRun>> {
        self.each_item_of(&[query], see)
    }

    /// Calls `see` with each item that matches the first query, then with those of the next one, as
    /// [`Self::each_item`]. All queries are of one run, or of all.
    ///
    /// # Errors
    /// As there.
    pub(super) fn each_item_of(
        self,
        queries: &[ItemsQuery],
        mut see: impl FnMut(Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<LeftOutRun>> {
        let of_query = queries.first().and_then(|query| query.run.clone());
        let mut n_seen = 0u64;
        let mut see = |item| {
            n_seen += 1;
            see(item)
        };
        let (missing, mut left_out) = match self.backend {
            Backend::Daemon(client) => {
                queries.iter().try_for_each(|query| client.each_item(query, &mut see))?;
                let mut missing = Vec::new();
                for query in queries.iter().filter(|_| n_seen == 0) {
                    missing.push(client.missing(query)?);
                }
                (Missing::of_all(queries, &missing), client.status()?.left_out)
            }
            Backend::Files(writer, reader) => {
                let mut missing = Vec::new();
                let mut lists = Vec::new();
                for query in queries {
                    let filter = Filter::try_from(query.clone())?;
                    let mut items = reader.snapshot(&filter)?.peekable();
                    if items.peek().is_none() {
                        let name = reader.missing_name(&filter)?;
                        missing.push(name.map(Missing::from).unwrap_or_default());
                    }
                    lists.push(items);
                }
                let is_empty = missing.len() == lists.len();
                let missing = is_empty.then(|| Missing::of_all(queries, &missing)).flatten();
                let left_out = reader.left_out().clone();
                drop(reader);
                writer.close()?;
                for item in lists.into_iter().flatten() {
                    let (run, entry) = item?;
                    see(entry.to_json(&run))?;
                }
                (missing, left_out.all())
            }
        };
        left_out.retain(|of| of_query.as_ref().is_none_or(|run| of.run == *run));
        match missing {
            Some(missing) if left_out.is_empty() => Err(anyhow!(missing)),
            _ => Ok(left_out),
        }
    }

    /// Returns the newest step of a key. Items that were rejected for good do not count.
    ///
    /// # Errors
    /// If the run or the key does not exist, or has no such item.
    pub(super) fn last_step(&self, run: &str, key: &str) -> anyhow::Result<u64> {
        self.check_names(ItemsQuery::of_key(run, key))?;
        let last = match &self.backend {
            Backend::Daemon(client) => client.last_step(run, key)?,
            Backend::Files(_, reader) => {
                let newest = Filter::try_from(ItemsQuery::of_newest_step(run, key))?;
                let missing = reader.missing_name(&newest)?;
                missing.map_or(Some(u64::MAX), |missing| missing.step_before())
            }
        };
        last.ok_or_else(|| {
            anyhow!("run {run:?} has only rejected items under key {key:?}: name a step")
        })
    }

    /// Checks that the names of a query exist, so that a typo is not an empty answer.
    fn check_names(&self, query: ItemsQuery) -> anyhow::Result<()> {
        self.missing(query)?.reason.map_or(Ok(()), |missing| Err(anyhow!(missing)))
    }

    /// Says which name of a query does not exist, and what is near it.
    pub(super) fn missing(&self, query: ItemsQuery) -> anyhow::Result<Missing> {
        match &self.backend {
            Backend::Daemon(client) => Ok(client.missing(&query)?),
            Backend::Files(_, reader) => {
                let missing = reader.missing_name(&Filter::try_from(query)?)?;
                Ok(missing.map(Missing::from).unwrap_or_default())
            }
        }
    }

    /// Applies the retention rules or, without `apply`, reports what they would remove.
    pub(super) fn prune(self, apply: bool) -> anyhow::Result<Report> {
        match self.backend {
            Backend::Daemon(client) => Ok(client.prune(apply)?),
            Backend::Files(mut writer, reader) => {
                let mut remover = DirectRemover(&mut writer);
                let remove: Option<&mut dyn StoreRemover> =
                    if apply { Some(&mut remover) } else { None };
                let reading = ReadOptions::default();
                let live = &self.config.live;
                let report =
                    retention::sweep(&reader, live, RetentionClock::start(), &reading, remove)?;
                drop(reader);
                writer.close()?;
                Ok(report)
            }
        }
    }

    /// Releases the held items that match the query.
    ///
    /// # Errors
    /// If the query names a run, a key or a single step that does not exist, or not all items could be judged.
    pub(super) fn release(self, query: ReleaseQuery) -> anyhow::Result<ReleaseReport> {
        let ReleaseQuery { run, key, first_step, last_step, goes_on: _ } = query.clone();
        let named = ItemsQuery { run, key, first_step, last_step, ..ItemsQuery::default() };
        self.check_names(named)?;
        match self.backend {
            Backend::Daemon(client) => Ok(client.release(query)?),
            Backend::Files(writer, reader) => {
                let filter = query.try_into()?;
                by_engine(*writer, reader, self.config, |watches, reply| {
                    Command::Release(ReleaseRequest { filter, watches, reply })
                })
            }
        }
    }

    /// Calls `see` with each matching item, and keeps the store.
    pub(super) fn find_items(
        &self,
        query: &ItemsQuery,
        mut see: impl FnMut(Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match &self.backend {
            Backend::Daemon(client) => client.each_item(query, see),
            Backend::Files(_, reader) => {
                for item in reader.items(&query.clone().try_into()?)? {
                    let (run, entry) = item?;
                    see(entry.to_json(&run))?;
                }
                Ok(())
            }
        }
    }

    /// Makes the damaged files of images again. Returns what came of each image.
    pub(super) fn repair(self, query: RepairQuery) -> anyhow::Result<Vec<RepairResult>> {
        match self.backend {
            Backend::Daemon(client) => {
                let mut results = Vec::new();
                for images in query.images.chunks(REPAIRS_PER_REQUEST) {
                    let (run, images) = (query.run.clone(), images.to_vec());
                    results.extend(client.repair(&RepairQuery { run, images })?);
                }
                Ok(results)
            }
            Backend::Files(writer, reader) => {
                let RepairQuery { run, images } = query;
                by_engine(*writer, reader, self.config, |watches, reply| {
                    Command::Repair(RepairRequest { run, images, watches, reply })
                })
            }
        }
    }

    /// The state of these targets.
    pub(super) fn targets(&self, configs: &[SyncConfig]) -> anyhow::Result<Vec<TargetStatus>> {
        match &self.backend {
            Backend::Daemon(client) => {
                let mut targets = client.status()?.targets;
                targets.retain(|view| configs.iter().any(|config| config.name == view.name));
                Ok(targets)
            }
            Backend::Files(_, reader) => Ok(sync::views(reader, configs)?),
        }
    }

    /// Delivers to these targets, and returns each with whether it has all that it can have. The daemon reports after
    /// one pass; a local delivery ends when the backlog is empty, or never without `once`. `see` receives the progress
    /// of a local delivery.
    pub(super) fn deliver(
        &self,
        configs: Vec<SyncConfig>,
        once: bool,
        see: impl Fn(&[TargetStatus]),
    ) -> anyhow::Result<Vec<(TargetStatus, bool)>> {
        match &self.backend {
            Backend::Daemon(client) => {
                let views = client.sync(&SyncQuery { targets: names(&configs), retry: false })?;
                let is_done = |view: &TargetStatus| view.pending == 0 && view.trouble.is_none();
                Ok(views.into_iter().map(|view| (view.clone(), is_done(&view))).collect())
            }
            Backend::Files(_, reader) => Ok(sync::deliver(reader, configs, once, see)?),
        }
    }

    /// Retries the parked items of these targets: the daemon at once, a local store at its next delivery.
    pub(super) fn retry(&self, configs: &[SyncConfig]) -> anyhow::Result<Retried> {
        match &self.backend {
            Backend::Daemon(client) => {
                let query = SyncQuery { targets: names(configs), retry: true };
                Ok(Retried::Now(client.sync(&query)?))
            }
            Backend::Files(_, reader) => Ok(Retried::AtNextSync(sync::retry(reader, configs)?)),
        }
    }

    /// Where the daemon serves its gallery, or a reader of a local store, which is closed.
    pub(super) fn gallery(self) -> anyhow::Result<GallerySource> {
        match self.backend {
            Backend::Daemon(client) => Ok(GallerySource::Daemon(client.gallery()?)),
            Backend::Files(writer, reader) => {
                drop(reader);
                let folder = tempfile::Builder::new().prefix("safelight-gallery-").tempdir()?;
                let reader = writer.close_with_copy(folder.path())?;
                Ok(GallerySource::Files(reader, folder))
            }
        }
    }

    /// Closes a local store.
    pub(super) fn close(self) -> Result<(), StoreError> {
        match self.backend {
            Backend::Daemon(_) => Ok(()),
            Backend::Files(writer, _) => writer.close(),
        }
    }
}

/// What answers for a gallery.
pub(super) enum GallerySource {
    Daemon(GalleryPlace),
    /// A reader of a copy of the index, and the copy's folder.
    Files(Reader, tempfile::TempDir),
}

/// When parked items are retried.
pub(super) enum Retried {
    /// They were retried; the targets afterwards.
    Now(Vec<TargetStatus>),
    /// So many items are retried at the next delivery.
    AtNextSync(u64),
}

/// What the lock file says while this process runs `command`.
pub(super) fn holder(command: &str) -> Holder {
    Holder { pid: std::process::id(), command: command.to_owned(), socket: None }
}

/// Checks that the store exists: only `ingest` and the daemon create one.
pub(super) fn check_store(path: &Path) -> anyhow::Result<()> {
    match std::fs::metadata(path.join("runs")) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::File { path: path.to_owned(), source }.into())
        }
        _ => Err(anyhow!(
            "no store at {}: create one with `safelight ingest RUN_DIR --store DIR`",
            path.display()
        )),
    }
}

fn names(configs: &[SyncConfig]) -> String {
    configs.iter().map(|config| &*config.name).collect::<Vec<_>>().join(",")
}

/// Answers one command with the store that this process holds. The engine reads nothing else. `command` makes the
/// command from the settings of run directories and the channel for the answer.
fn by_engine<T>(
    writer: Writer,
    reader: Reader,
    mut config: Config,
    command: impl FnOnce(Vec<WatchConfig>, Sender<Result<T, String>>) -> Command,
) -> anyhow::Result<T> {
    let watches = std::mem::take(&mut config.live.watches);
    let shared = Shared::default();
    let engine = Engine::new(Mode::Once, config, writer, reader, shared.clone())?;
    let (commands, commands_in) = bounded(1);
    let (reply, answer) = bounded(1);
    commands.send(command(watches, reply))?;
    let writer = engine.run(&commands_in)?.ok_or_else(|| anyhow!("the commit thread died"))?;
    writer.close()?;
    let report = answer.try_recv().map_err(|_| {
        anyhow!("not all items were read: {}", shared.ingest_status().problems.join("; "))
    })?;
    report.map_err(|reason| anyhow!(reason))
}

/// Removes with the store that this process holds.
struct DirectRemover<'a>(&'a mut Writer);

impl StoreRemover for DirectRemover<'_> {
    fn make(&mut self, change: Change) -> Removed {
        change.make(self.0)
    }

    fn may_continue(&self) -> bool {
        true
    }
}
