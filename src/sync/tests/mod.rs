//! The worker on a target in memory, which fails in every possible way. The clock is the test's.

mod delivery;
mod parking;
mod running;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use super::progress::ProgressBoard;
use super::state::{RunState, TargetCursor};
use super::worker::{Worker, WorkerControl};
use super::{TargetStatus, choose, retry, views};
use crate::config::{self, SyncConfig};
use crate::durable::Disk;
use crate::media::{
    ColorMode, Description, FileType, Layers, MediaEntry, MediaFile, MediaId, MediaKey, RunId,
    Sha256, Source, Step,
};
use crate::sinks::{Delivery, Receipt, Rest, Sink, SinkError, Target};
use crate::store::journal::{Event, SourceCursor};
use crate::store::lock::Holder;
use crate::store::{Commit, Reader, RunInfo, Writer, open};

/// How the target reacts to an item.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Reaction {
    Accept,
    Fail,
    Reject,
}

type React = Box<dyn FnMut(&Delivery, u32) -> Reaction + Send>;

/// The server of the target.
struct Server {
    react: React,
    n_tries: BTreeMap<u64, u32>,
    put: BTreeSet<u64>,
    /// Committed items in their order: key, step, version.
    committed: BTreeMap<RunId, Vec<(String, u64, u64)>>,
    n_commits: u32,
    n_commits_to_fail: u32,
    /// Whether `commit` never ends.
    hangs: bool,
    rests: Vec<Rest>,
    n_open: usize,
    n_open_max: usize,
    n_in_transfer_max: usize,
    n_in_transfer: usize,
}

#[derive(Clone)]
struct Memory(Arc<Mutex<Server>>);

struct MemoryRun(Memory, RunId);

impl Memory {
    fn new(react: impl FnMut(&Delivery, u32) -> Reaction + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Server {
            react: Box::new(react),
            n_tries: BTreeMap::new(),
            put: BTreeSet::new(),
            committed: BTreeMap::new(),
            n_commits: 0,
            n_commits_to_fail: 0,
            hangs: false,
            rests: Vec::new(),
            n_open: 0,
            n_open_max: 0,
            n_in_transfer_max: 0,
            n_in_transfer: 0,
        })))
    }

    fn server(&self) -> std::sync::MutexGuard<'_, Server> {
        self.0.lock().expect("the target")
    }

    fn committed(&self, run: &str) -> Vec<(String, u64, u64)> {
        let run = RunId::new(run).expect("a run");
        self.server().committed.get(&run).cloned().unwrap_or_default()
    }

    fn steps(&self, run: &str) -> Vec<u64> {
        self.committed(run).into_iter().map(|(_, step, _)| step).collect()
    }
}

/// An item in transfer. The transfer may be cancelled.
struct InTransfer<'a>(&'a Memory);

impl<'a> InTransfer<'a> {
    fn begin(target: &'a Memory) -> Self {
        let mut server = target.server();
        server.n_in_transfer += 1;
        server.n_in_transfer_max = server.n_in_transfer_max.max(server.n_in_transfer);
        Self(target)
    }
}

impl Drop for InTransfer<'_> {
    fn drop(&mut self) {
        self.0.server().n_in_transfer -= 1;
    }
}

impl Target for Memory {
    type Config = Memory;
    type Run = MemoryRun;

    async fn open(config: &Memory) -> Result<Self, SinkError> {
        Ok(config.clone())
    }

    fn run(&self, run: &RunInfo) -> MemoryRun {
        let mut server = self.server();
        server.n_open += 1;
        server.n_open_max = server.n_open.max(server.n_open_max);
        MemoryRun(self.clone(), run.id.clone())
    }
}

impl Drop for MemoryRun {
    fn drop(&mut self) {
        self.0.server().n_open -= 1;
    }
}

impl Sink for MemoryRun {
    async fn resume(&mut self, last: Option<&Receipt>) -> Result<(), SinkError> {
        let n = last.and_then(Receipt::get).unwrap_or(0);
        self.0.server().committed.entry(self.1.clone()).or_default().truncate(n);
        Ok(())
    }

    async fn put(&self, item: &Delivery) -> Result<(), SinkError> {
        let in_transfer = InTransfer::begin(&self.0);
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(in_transfer);
        let mut server = self.0.server();
        let n_tries = server.n_tries.entry(item.seq).or_default();
        *n_tries += 1;
        let n_tries = *n_tries;
        match (server.react)(item, n_tries) {
            Reaction::Accept => {
                server.put.insert(item.seq);
                Ok(())
            }
            Reaction::Fail => Err(SinkError::retry("it is busy")),
            Reaction::Reject => Err(SinkError::reject(item, "it is no cat")),
        }
    }

    async fn commit(&mut self, items: &[Delivery]) -> Result<Receipt, SinkError> {
        if self.0.server().hangs {
            std::future::pending::<()>().await;
        }
        let mut server = self.0.server();
        server.n_commits += 1;
        if server.n_commits_to_fail > 0 {
            server.n_commits_to_fail -= 1;
            return Err(SinkError::retry("it is busy"));
        }
        for item in items {
            assert!(server.put.contains(&item.seq), "an item without its files");
            let seen = (item.id.key.as_str().to_owned(), item.id.step.0, item.file.size);
            server.committed.entry(self.1.clone()).or_default().push(seen);
        }
        Receipt::new(&server.committed[&self.1].len())
    }

    async fn rest(&mut self, why: Rest) -> Result<Option<Receipt>, SinkError> {
        self.0.server().rests.push(why);
        Ok(None)
    }
}

/// A store whose images have no media files.
struct Store {
    folder: TempDir,
    writer: Option<Writer>,
    reader: Reader,
}

impl Store {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let me = Holder { pid: 1, command: "test".to_owned(), socket: None };
        let (writer, reader) =
            open(&folder.path().join("store"), &me, Duration::ZERO).expect("a store");
        Self { folder, writer: Some(writer), reader }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn commit(&mut self, run: &str, events: Vec<Event>) {
        let id = RunId::new(run).expect("a run");
        let run =
            Arc::new(RunInfo { id, source: "/runs/a".into(), identity: serde_json::Map::new() });
        let mut group = vec![Commit { run, events, files: Vec::new(), cursor: SourceCursor::None }];
        self.writer.as_mut().expect("a store").commit(&mut group).expect("a commit");
    }

    /// Commits an image at each of these steps. Its size is its version.
    fn images(&mut self, run: &str, key: &str, steps: impl IntoIterator<Item = u64>, version: u64) {
        let events =
            steps.into_iter().map(|step| Event::Media(Box::new(image(key, step, version))));
        let events: Vec<Event> = events.collect();
        self.commit(run, events);
    }

    /// Delivers the backlog once, as after a start of the program.
    async fn deliver(&self, target: &Memory, settings: &str) -> (bool, TargetStatus) {
        let board = ProgressBoard::default();
        let worker = Worker::<Memory>::new(
            self.reader.clone(),
            config(settings),
            target.clone(),
            board.clone(),
        );
        let control = WorkerControl::default();
        let is_done = worker.deliver_once(&control).await;
        (is_done, board.view())
    }

    fn state(&self, run: &str) -> RunState {
        let run = RunId::new(run).expect("a run");
        RunState::load(&self.root(), "team", &run).expect("a state")
    }
}

fn image(key: &str, step: u64, version: u64) -> MediaEntry {
    let key = MediaKey::new(key).expect("a key");
    let file = MediaFile {
        path: format!("media/images/{step}.png"),
        file_type: FileType::Png,
        mode: Some(ColorMode::L),
        width: 1,
        height: 1,
        size: version,
        sha256: Sha256::of(&step.to_le_bytes()),
        downscaled_from: None,
    };
    let id = MediaId { key, step: Step(step), index: 0 };
    let (layers, said, source) = (Layers::default(), Description::default(), Source::default());
    MediaEntry::image(id, file, None, layers, said, source)
}

fn config(settings: &str) -> SyncConfig {
    let text = format!("[sync.team]\nkind = \"tensorboard\"\npath = \"/x\"\n{settings}\n");
    let parsed = config::parse(&text, std::path::Path::new("/s.toml")).expect("a configuration");
    parsed.live.targets.into_iter().next().expect("a target")
}
