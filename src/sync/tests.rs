//! The worker on a target in memory, which fails in every possible way. The clock is the test's.

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

#[tokio::test(start_paused = true)]
async fn all_arrives_once_whatever_fails_and_whenever_the_program_dies() {
    let mut store = Store::new();
    let luck = Mutex::new(fastrand::Rng::with_seed(7));
    let roll = move |n: u32| luck.lock().expect("luck").u32(0..n) == 0;
    let target = Memory::new(move |_, _| if roll(5) { Reaction::Fail } else { Reaction::Accept });
    let mut luck = fastrand::Rng::with_seed(8);
    let mut n = 0;
    for round in 0..40 {
        let new = luck.u64(0..120);
        for run in ["a", "b"] {
            store.images(run, "k", n..n + new, 1);
        }
        n += new;
        target.server().n_commits_to_fail = luck.u32(0..3);
        // A kill before the state is saved leaves the target ahead of the state.
        let files = ["a", "b"].map(|run| store.root().join(format!("sync/team/{run}.json")));
        let before = files.each_ref().map(|file| fs::read(file).ok());
        store.deliver(&target, "").await;
        if round % 3 == 0 {
            for (file, before) in files.iter().zip(before) {
                match before {
                    Some(text) => fs::write(file, text).expect("a file"),
                    None => drop(fs::remove_file(file)),
                }
            }
        }
    }
    for _ in 0..20 {
        store.deliver(&target, "").await;
        let text = fs::read_dir(store.root().join("sync/team")).expect("states");
        for file in text.flatten() {
            let text = fs::read_to_string(file.path()).expect("a state");
            let mut state: RunState = serde_json::from_str(&text).expect("a state");
            state.parked.iter_mut().for_each(|parked| parked.next = Some(0.0));
            state.save(&Disk::default(), &store.root(), "team").expect("a state");
        }
    }
    for run in ["a", "b"] {
        let mut steps = target.steps(run);
        steps.sort_unstable();
        assert_eq!(steps, (0..n).collect::<Vec<u64>>(), "{run}");
        let state = store.state(run);
        assert!(state.parked.is_empty(), "{state:?}");
    }
    assert!(target.server().n_in_transfer_max <= 16);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_item_is_parked_with_the_targets_error_and_the_others_are_delivered() {
    let mut store = Store::new();
    store.images("a", "k", 0..1000, 1);
    let target =
        Memory::new(
            |item, _| {
                if item.id.step.0 == 500 { Reaction::Reject } else { Reaction::Accept }
            },
        );
    let (is_done, view) = store.deliver(&target, "").await;
    assert!(is_done);
    assert_eq!((view.delivered, view.pending), (999, 0));
    assert_eq!((view.set_aside, view.refused), (1, 1));
    assert_eq!(view.reasons, ["it is no cat"]);
    assert!(target.server().n_in_transfer_max > 4, "lanes grow");

    // It stays parked until a retry is requested.
    target.server().react = Box::new(|_, _| Reaction::Accept);
    assert_eq!(store.deliver(&target, "").await.1.set_aside, 1);
    assert_eq!(retry(&store.reader, &[config("")]).expect("a store"), 1);
    let (_, view) = store.deliver(&target, "").await;
    assert_eq!((view.delivered, view.set_aside), (1000, 0));
    assert_eq!(target.steps("a").last(), Some(&500));
}

#[tokio::test(start_paused = true)]
async fn many_parked_items_are_retried_with_few_writes_of_the_state() {
    let mut store = Store::new();
    store.images("a", "k", 0..2000, 1);
    let target = Memory::new(|_, _| Reaction::Reject);
    let (_, view) = store.deliver(&target, "").await;
    assert_eq!((view.delivered, view.refused), (0, 2000));

    // One of them cannot be delivered, and costs the others nothing.
    target.server().react =
        Box::new(|item, _| if item.id.step.0 == 300 { Reaction::Fail } else { Reaction::Accept });
    assert_eq!(retry(&store.reader, &[config("")]).expect("a store"), 2000);
    let (_, view) = store.deliver(&target, "").await;
    assert_eq!((view.delivered, view.set_aside), (1999, 1), "{view:?}");
    // The state is written once for each commit.
    let n_commits = target.server().n_commits;
    assert!(n_commits <= 40, "{n_commits} commits");
    assert!(target.steps("a").is_sorted());
}

#[tokio::test(start_paused = true)]
async fn many_runs_keep_few_sinks_open() {
    // Regression: each run kept its sink, and its files, open for a quarter of an hour.
    let mut store = Store::new();
    for run in 0..400 {
        store.images(&format!("run{run}"), "k", 0..2, 1);
    }
    let target = Memory::new(|_, _| Reaction::Accept);
    let (control, board) = (WorkerControl::default(), ProgressBoard::default());
    let reader = store.reader.clone();
    let worker = Worker::<Memory>::new(reader, config(""), target.clone(), board.clone());
    let watch = async {
        while board.view().delivered < 800 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let n_passes = board.n_passes();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(board.n_passes() > n_passes, "idle passes are counted");
        control.stop.cancel();
    };
    tokio::join!(worker.deliver_until_stopped(&control), watch);
    let server = target.server();
    assert!((250..260).contains(&server.n_open_max), "{}", server.n_open_max);
    assert!(server.rests.iter().filter(|why| **why == Rest::Leaving).count() >= 140);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_sink_hangs_ends_when_stopped() {
    let mut store = Store::new();
    store.images("a", "k", 0..3, 1);
    let target = Memory::new(|_, _| Reaction::Accept);
    target.server().hangs = true;
    let control = WorkerControl::default();
    let board = ProgressBoard::default();
    let reader = store.reader.clone();
    let worker = Worker::<Memory>::new(reader, config(""), target.clone(), board);
    let stop = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        control.stop.cancel();
    };
    let start = tokio::time::Instant::now();
    tokio::join!(worker.deliver_until_stopped(&control), stop);
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    // It is delivered as after a crash.
    target.server().hangs = false;
    let (_, view) = store.deliver(&target, "").await;
    assert_eq!((view.delivered, view.pending), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn the_trouble_stays_while_the_next_try_is_under_way() {
    // Regression: a retry that took longer than the status' interval looked like no trouble, so that the time of the
    // trouble began anew and a target never counted as failing for long.
    let mut store = Store::new();
    store.images("a", "k", 0..3, 1);
    let target = Memory::new(|_, _| Reaction::Fail);
    let (control, board) = (WorkerControl::default(), ProgressBoard::default());
    let reader = store.reader.clone();
    let worker = Worker::<Memory>::new(reader, config(""), target.clone(), board.clone());
    let watch = async {
        while board.view().trouble.is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for _ in 0..3000 {
            assert!(board.view().trouble.is_some());
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        control.stop.cancel();
    };
    tokio::join!(worker.deliver_until_stopped(&control), watch);
}

#[tokio::test(start_paused = true)]
async fn an_item_that_keeps_failing_is_parked_and_retried() {
    let mut store = Store::new();
    store.images("a", "k", 0..50, 1);
    let target =
        Memory::new(|item, _| if item.id.step.0 == 7 { Reaction::Fail } else { Reaction::Accept });
    let (is_done, view) = store.deliver(&target, "").await;
    assert!(is_done);
    assert_eq!((view.delivered, view.set_aside, view.refused), (49, 1, 0));
    assert_eq!(view.trouble, None);
    let parked = &store.state("a").parked[0];
    assert!(parked.next.is_some_and(|next| next > parked.since), "{parked:?}");
}

#[tokio::test(start_paused = true)]
async fn no_item_is_parked_while_the_target_is_unreachable() {
    let mut store = Store::new();
    store.images("a", "k", 0..50, 1);
    let target = Memory::new(|_, _| Reaction::Fail);
    let (is_done, view) = store.deliver(&target, "").await;
    assert!(!is_done);
    assert_eq!((view.delivered, view.pending, view.set_aside), (0, 50, 0));
    assert_eq!(view.trouble.as_deref(), Some("it is busy"));
    assert_eq!(store.state("a").cursor, TargetCursor::START);
    // Few were tried, because delivery paused.
    assert!(target.server().n_tries.len() <= 4, "{:?}", target.server().n_tries);
    target.server().react = Box::new(|_, _| Reaction::Accept);
    assert!(store.deliver(&target, "").await.0);
    assert_eq!(target.steps("a"), (0..50).collect::<Vec<u64>>());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_cannot_be_delivered_delays_no_other() {
    let mut store = Store::new();
    for run in ["a", "b", "c"] {
        store.images(run, "k", 0..20, 1);
    }
    fs::create_dir_all(store.root().join("sync/team")).expect("a folder");
    fs::write(store.root().join("sync/team/a.json"), "{").expect("a file");
    let target = Memory::new(|item, _| {
        let is_b = item.folder.ends_with("b");
        if is_b { Reaction::Fail } else { Reaction::Accept }
    });
    let (is_done, view) = store.deliver(&target, "").await;
    assert!(!is_done);
    assert_eq!((target.steps("c").len(), target.steps("b").len()), (20, 0));
    assert!(target.committed("a").is_empty(), "it is unknown what the target has of it");
    assert!(view.trouble.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_target_gets_the_selected_items_in_their_last_version() {
    let mut store = Store::new();
    store.images("a", "val", 0..5, 1);
    store.images("a", "debug/x", 0..5, 1);
    store.images("other", "val", 0..5, 1);
    store.images("a", "val", 2..4, 2);
    let id = MediaId { key: MediaKey::new("val").expect("a key"), step: Step(4), index: 0 };
    store.commit("a", vec![Event::Gone { id, path: None }]);
    let target = Memory::new(|_, _| Reaction::Accept);
    let settings = "exclude = [\"debug/*\"]\nexclude_runs = [\"oth*\"]";
    let (is_done, view) = store.deliver(&target, settings).await;
    assert!(is_done);
    let val = |step, version| ("val".to_owned(), step, version);
    assert_eq!(target.committed("a"), [val(0, 1), val(1, 1), val(2, 2), val(3, 2)]);
    assert!(target.committed("other").is_empty());
    assert_eq!((view.pending, view.pending_bytes), (0, 0));

    // A later version of a delivered item is delivered too, and a held item once it is released.
    store.images("a", "val", [0], 3);
    let MediaEntry { description, source, .. } = image("val", 9, 1);
    let id = MediaId { key: MediaKey::new("val").expect("a key"), step: Step(9), index: 0 };
    let held = MediaEntry::held(id, "over a limit".to_owned(), description, source);
    store.commit("a", vec![Event::Media(Box::new(held))]);
    store.deliver(&target, settings).await;
    store.images("a", "val", [9], 4);
    store.deliver(&target, settings).await;
    assert_eq!(target.committed("a")[4..], [val(0, 3), val(9, 4)]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_sink_flushes() {
    let mut store = Store::new();
    store.images("a", "k", 0..5, 1);
    let target = Memory::new(|_, _| Reaction::Accept);
    store.deliver(&target, "").await;
    assert_eq!(target.server().rests, [Rest::Leaving]);
    assert!(store.state("a").is_at_rest);
    // It flushes once.
    store.deliver(&target, "").await;
    assert_eq!(target.server().rests.len(), 1);
    // The end of the run reaches it even long after its last image.
    store.commit("a", vec![Event::Finish]);
    store.deliver(&target, "").await;
    store.deliver(&target, "").await;
    assert_eq!(target.server().rests, [Rest::Leaving, Rest::Finished]);
    store.images("a", "k", 5..6, 1);
    store.deliver(&target, "").await;
    assert_eq!(target.server().rests.last(), Some(&Rest::Finished));
}

#[tokio::test(start_paused = true)]
async fn a_continuous_worker_delivers_new_items_and_ends_when_stopped() {
    let mut store = Store::new();
    store.images("a", "k", 0..5, 1);
    let target = Memory::new(|_, _| Reaction::Accept);
    let board = ProgressBoard::default();
    let worker =
        Worker::<Memory>::new(store.reader.clone(), config(""), target.clone(), board.clone());
    let control = WorkerControl::default();
    let delivering = worker.deliver_until_stopped(&control);
    let job = async {
        let arrived = async |n: usize| {
            while target.steps("a").len() < n {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        arrived(5).await;
        target.server().react = Box::new(|_, _| Reaction::Fail);
        store.images("a", "k", 5..9, 1);
        // The clock is the test's: no real time passes.
        tokio::time::sleep(Duration::from_hours(24)).await;
        let view = board.view();
        assert_eq!((view.pending, view.set_aside), (4, 0));
        assert!(view.trouble.is_some());
        store.images("a", "k", 9..12, 1);
        target.server().react = Box::new(|_, _| Reaction::Accept);
        arrived(12).await;
        store.commit("a", vec![Event::Finish]);
        while target.server().rests.last() != Some(&Rest::Finished) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        control.stop.cancel();
    };
    tokio::join!(delivering, job);
    assert_eq!(target.steps("a"), (0..12).collect::<Vec<u64>>());
}

#[tokio::test(start_paused = true)]
async fn an_unsaved_state_doubles_no_item() {
    let mut store = Store::new();
    store.images("a", "k", 0..5, 1);
    let target = Memory::new(|_, _| Reaction::Accept);
    let (board, control) = (ProgressBoard::default(), WorkerControl::default());
    let worker =
        Worker::<Memory>::new(store.reader.clone(), config(""), target.clone(), board.clone());
    let job = async {
        while store.state("a").n_delivered < 5 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let (states, moved) = (store.root().join("sync/team"), store.root().join("moved"));
        fs::rename(&states, &moved).expect("a folder");
        fs::write(&states, "").expect("a file in its place");
        store.images("a", "k", 5..9, 1);
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert!(board.view().trouble.is_some_and(|trouble| trouble.contains("sync/team")));
        fs::remove_file(&states).expect("a file");
        fs::rename(&moved, &states).expect("a folder");
        while store.state("a").n_delivered < 9 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        control.stop.cancel();
    };
    tokio::join!(worker.deliver_until_stopped(&control), job);
    assert_eq!(target.steps("a"), (0..9).collect::<Vec<u64>>());
}

#[tokio::test(start_paused = true)]
async fn a_parked_item_whose_line_is_damaged_stays_parked() {
    let mut store = Store::new();
    store.images("a", "k", 0..9, 1);
    let target = Memory::new(
        |item, _| if item.id.step.0 == 4 { Reaction::Reject } else { Reaction::Accept },
    );
    store.deliver(&target, "").await;
    let place = store.state("a").parked[0].place;
    let segment = store.root().join("runs/a/journal/00000001.jsonl");
    let mut bytes = fs::read(&segment).expect("a segment");
    bytes[usize::try_from(place.offset).expect("a place") + 9] ^= 1;
    fs::write(&segment, bytes).expect("a segment");
    retry(&store.reader, &[config("")]).expect("a store");
    let (is_done, view) = store.deliver(&target, "").await;
    assert!(is_done, "{view:?}");
    assert_eq!((view.set_aside, view.refused), (1, 1));
    assert!(view.reasons[0].contains("damaged journal line"), "{view:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_journal_was_replaced_is_delivered_from_its_beginning() {
    let mut store = Store::new();
    store.images("a", "k", 0..9, 1);
    let target = Memory::new(|_, _| Reaction::Accept);
    store.deliver(&target, "").await;
    drop(store.writer.take());
    let before = store.root();
    let other = Store::new();
    fs::rename(before.join("sync"), other.root().join("sync")).expect("a folder");
    let mut store = other;
    store.images("a", "k", 20..22, 1);
    store.deliver(&target, "").await;
    assert_eq!(target.steps("a")[9..], [20, 21]);
}

#[tokio::test(start_paused = true)]
async fn a_byte_rate_is_kept() {
    let mut store = Store::new();
    store.images("a", "k", 0..40, 1000);
    let target = Memory::new(|_, _| Reaction::Accept);
    let start = tokio::time::Instant::now();
    store.deliver(&target, "bytes_per_s_max = 1000").await;
    let took = start.elapsed().as_secs();
    assert!((38..45).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn the_backlog_is_counted_without_a_thread() {
    let mut store = Store::new();
    store.images("a", "k", 0..7, 10);
    let configs = [config("")];
    let view = &views(&store.reader, &configs).expect("views")[0];
    assert_eq!((view.pending, view.pending_bytes, view.delivered), (7, 70, 0));
    let target = Memory::new(|_, _| Reaction::Accept);
    store.deliver(&target, "").await;
    let view = &views(&store.reader, &configs).expect("views")[0];
    assert_eq!((view.pending, view.delivered), (0, 7));
    let error = choose(&configs, &["tem".to_owned()]).expect_err("no such target");
    assert_eq!(error.to_string(), "no target \"tem\" in the configuration: it has team");
}
