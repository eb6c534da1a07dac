//! Tests of runs whose files fail: the others are written all the same, and nothing is lost or doubled.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::io::Errno;

use crate::durable::{Disk, Observe, Step};
use crate::locks::lock;
use crate::media::{
    Description, MediaEntry, MediaId, MediaKey, RunId, Source, Step as TrainingStep,
};
use crate::store::journal::{DumpCursor, Event, SourceCursor, Stamp};
use crate::store::{Commit, Filter, Holder, Reader, RunInfo, StoreError, Writer, open_on};

/// A disk that fails these steps on the journal of run `a`, once for each number.
#[derive(Default)]
struct Broken(Mutex<Vec<&'static str>>);

impl Observe for Broken {
    fn before(&self, step: &Step<'_>) -> io::Result<()> {
        let (name, path): (&str, &Path) = match step {
            Step::Write { path, .. } => ("write", path),
            Step::Sync(path) => ("sync", path),
            Step::SetLen(path, _) => ("set_len", path),
            _ => return Ok(()),
        };
        let mut steps = lock(&self.0);
        let is_next =
            steps.first() == Some(&name) && path.to_string_lossy().contains("runs/a/journal");
        if !is_next {
            return Ok(());
        }
        steps.remove(0);
        Err(io::Error::from_raw_os_error(Errno::IO.raw_os_error()))
    }
}

pub(super) fn holder() -> Holder {
    Holder { pid: 1, command: "test".to_owned(), socket: None }
}

pub(super) fn commit(run: &str, step: u64) -> Commit {
    let id = RunId::new(run).expect("a name");
    let source = Path::new("/nowhere").join(run);
    let info = Arc::new(RunInfo { id, source, identity: serde_json::Map::new() });
    let key = MediaKey::new("k").expect("a key");
    let id = MediaId { key, step: TrainingStep(step), index: 0 };
    let entry = MediaEntry::held(id, "over".to_owned(), Description::default(), Source::default());
    let stamp = Stamp { ino: step, size: 1, mtime_ns: 2, ctime_ns: 3 };
    let cursor = SourceCursor::Dump(DumpCursor::new(format!("{step}.npy"), stamp, None));
    Commit { run: info, events: vec![Event::Media(Box::new(entry))], files: Vec::new(), cursor }
}

/// The steps of a run's items.
pub(super) fn steps(reader: &Reader, run: &str) -> Vec<u64> {
    let run = RunId::new(run).ok();
    let items = reader.items(&Filter { run, ..Filter::default() }).expect("items");
    items.map(|item| item.expect("an item").1.step().expect("a step").0).collect()
}

fn lines(reader: &Reader, run: &str) -> Vec<u64> {
    let run = RunId::new(run).expect("a name");
    let end = reader.journal_end(&run).expect("an index");
    let lines = reader.lines::<crate::store::journal::Line>(
        &run,
        crate::store::journal::JournalOffset::START,
        end,
    );
    lines.map(|line| line.expect("a line").line.seq).collect()
}

#[test]
fn a_run_whose_journal_fails_is_left_out_alone_and_nothing_is_lost_or_doubled() {
    for failing in [
        &["write"][..],
        &["sync"],
        // The lines can be neither written nor cut off, and the kernel takes the next sync for good.
        &["sync", "set_len"],
        &["write", "set_len", "set_len", "sync"],
        &["sync", "set_len", "write"],
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let broken = Arc::new(Broken::default());
        let disk = Disk::observed(broken.clone());
        let opened = open_on(disk, folder.path(), &holder(), Duration::ZERO);
        let (mut writer, reader): (Writer, Reader) = opened.expect("a store");
        writer.commit(&mut vec![commit("a", 1), commit("b", 1)]).expect("a commit");

        *lock(&broken.0) = failing.to_vec();
        let mut group = vec![commit("a", 2), commit("b", 2), commit("a", 3)];
        writer.commit(&mut group).expect("the disk works for run b");
        assert_eq!(group.iter().map(|c| c.run.id.as_str()).collect::<Vec<_>>(), ["a", "a"]);
        let mut more = vec![commit("b", 3), commit("a", 4)];
        writer.commit(&mut more).expect("the disk works for run b");
        assert_eq!((more.len(), steps(&reader, "b")), (1, vec![1, 2, 3]), "{failing:?}");
        let left_out = reader.left_out().all();
        assert_eq!((left_out.len(), &*left_out[0].run), (1, "a"));
        assert!(left_out[0].reason.contains("Input/output error"), "{left_out:?}");
        let a = RunId::new("a").expect("a name");
        assert!(matches!(reader.check_left_out(&a), Err(StoreError::LeftOut { .. })));

        reader.left_out().set_clear();
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(100));
            writer.retry_left_out();
            if reader.check_left_out(&a).is_ok() {
                break;
            }
        }
        assert_eq!(reader.left_out().all(), []);
        group.append(&mut more);
        writer.commit(&mut group).expect("a commit");
        assert_eq!((group.len(), steps(&reader, "a")), (0, vec![1, 2, 3, 4]), "{failing:?}");
        let seqs = lines(&reader, "a");
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "each line is there once");
        drop((writer, reader));
        std::fs::remove_dir_all(folder.path().join("index")).expect("an index");
        let (_writer, reader) =
            open_on(Disk::default(), folder.path(), &holder(), Duration::ZERO).expect("a store");
        assert_eq!((steps(&reader, "a"), lines(&reader, "a")), (vec![1, 2, 3, 4], seqs));
        assert_eq!(steps(&reader, "b"), [1, 2, 3]);
    }
}

#[test]
fn many_journals_are_written_in_turn_and_few_are_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let opened = open_on(Disk::default(), folder.path(), &holder(), Duration::ZERO);
    let (mut writer, reader) = opened.expect("a store");
    let runs: Vec<String> = (0..150).map(|n| format!("run{n}")).collect();
    for step in 1..=2 {
        let mut group = runs.iter().map(|run| commit(run, step)).collect();
        writer.commit(&mut group).expect("a commit");
    }
    assert!(runs.iter().all(|run| steps(&reader, run) == [1, 2]));
    let open = std::fs::read_dir("/proc/self/fd").expect("descriptors").flatten();
    let journals = open.filter(|fd| {
        std::fs::read_link(fd.path()).is_ok_and(|path| {
            path.starts_with(folder.path()) && path.extension() == Some("jsonl".as_ref())
        })
    });
    assert!(journals.count() <= 64);
}

#[test]
fn ids_that_look_like_each_others_folders_are_kept_apart() {
    // A run whose id was the text of another one's shortened folder was written to the same journal.
    let long = "x".repeat(300);
    let text = RunId::new(long.as_str()).expect("a name").folder();
    let folder = tempfile::tempdir().expect("a folder");
    let open = || open_on(Disk::default(), folder.path(), &holder(), Duration::ZERO);
    let (mut writer, reader) = open().expect("a store");
    for step in 1..4 {
        writer.commit(&mut vec![commit(&long, step), commit(&text, 10 + step)]).expect("a commit");
    }
    drop((writer, reader));
    std::fs::remove_dir_all(folder.path().join("index")).expect("an index");
    let (_writer, reader) = open().expect("a store");
    assert_eq!((steps(&reader, &long), steps(&reader, &text)), (vec![1, 2, 3], vec![11, 12, 13]));
    assert_eq!(reader.left_out().all(), []);
}

#[test]
fn a_folder_that_is_another_runs_is_refused_and_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || open_on(Disk::default(), folder.path(), &holder(), Duration::ZERO);
    let (mut writer, reader) = open().expect("a store");
    writer.commit(&mut vec![commit("a", 1)]).expect("a commit");
    drop((writer, reader));
    let runs = folder.path().join("runs");
    std::fs::create_dir_all(runs.join("b/journal")).expect("a folder");
    for file in ["run.json", "journal/00000001.jsonl"] {
        std::fs::copy(runs.join("a").join(file), runs.join("b").join(file)).expect("a file");
    }
    let (mut writer, reader) = open().expect("a store");
    let left_out = reader.left_out().all();
    assert_eq!((left_out.len(), &*left_out[0].run), (1, "b"));
    assert!(left_out[0].reason.contains("holds run a, whose folder is a"), "{left_out:?}");
    let mut group = vec![commit("b", 1), commit("a", 2)];
    let error = reader.check_source(&group[0].run).expect_err("another run");
    assert!(error.to_string().contains("b holds run a, not b: give one of them"), "{error}");
    writer.commit(&mut group).expect("a commit of run a");
    assert_eq!((group.len(), steps(&reader, "a"), steps(&reader, "b")), (1, vec![1, 2], vec![]));
    assert_eq!(reader.left_out().all().len(), 1);
}
