//! What a store is after the power went, or while the disk refuses: for every step at which that can
//! happen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::image_at;
use crate::durable::{Disk, Observe, Step};
use crate::locks::lock;
use crate::media::{Fate, MediaId, MediaKey, RunId, Sha256, Source};
use crate::store::journal::{DumpCursor, Event, SourceCursor, Stamp};
use crate::store::media_dir::{MediaFolder, media_path};
use crate::store::{Commit, Filter, Holder, NamedFiles, Reader, RunInfo, Writer, open_on};

/// A step that was seen, or a commit that was acknowledged.
#[derive(Debug, Clone)]
enum Seen {
    Create(PathBuf),
    Write(PathBuf, u64, Vec<u8>),
    SetLen(PathBuf, u64),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    CreateDir(PathBuf),
    SyncDir(PathBuf),
    Acknowledged(u64),
}

#[derive(Default)]
struct Recorder {
    seen: Mutex<Vec<Seen>>,
    /// The steps, by their numbers, that are refused.
    refused: Mutex<BTreeSet<usize>>,
}

impl Recorder {
    fn add(&self, seen: Seen) -> usize {
        let mut all = lock(&self.seen);
        all.push(seen);
        all.len() - 1
    }
}

impl Observe for Recorder {
    fn before(&self, step: &Step<'_>) -> io::Result<()> {
        let own = |path: &Path| path.to_owned();
        let number = self.add(match step {
            Step::Create(path) => Seen::Create(own(path)),
            Step::Write { path, offset, bytes } => Seen::Write(own(path), *offset, bytes.to_vec()),
            Step::SetLen(path, n) => Seen::SetLen(own(path), *n),
            Step::Sync(path) => Seen::Sync(own(path)),
            Step::Rename(from, to) => Seen::Rename(own(from), own(to)),
            Step::CreateDir(path) => Seen::CreateDir(own(path)),
            Step::SyncDir(path) => Seen::SyncDir(own(path)),
        });
        let is_refused = lock(&self.refused).contains(&number);
        if is_refused { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

/// What of the unsynced is on the disk after the power went.
#[derive(Debug, Clone, Copy)]
enum Survives {
    Nothing,
    /// All: as after a kill.
    All,
    /// Entries of directories up to a step, of the unsynced bytes of each file a part.
    Some(usize),
}

/// A file's bytes as they were synced last, and as they are.
#[derive(Debug, Clone, Default)]
struct Content {
    durable: Vec<u8>,
    live: Vec<u8>,
}

/// Lays out in `folder` what is left of `root` when the power goes after these steps.
fn lay_out(steps: &[Seen], root: &Path, survives: Survives, folder: &Path) {
    let mut files: Vec<Content> = Vec::new();
    let mut live: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let (mut entries, mut dirs) = (BTreeMap::<PathBuf, usize>::new(), BTreeSet::<PathBuf>::new());
    // Whether an entry of this directory that was changed in step `i` is on the disk.
    let is_kept = |dir: Option<&Path>, i: usize| match survives {
        Survives::All => true,
        Survives::Some(until) if i < until => true,
        _ => steps[i..].iter().any(|step| matches!(step, Seen::SyncDir(of) if dir == Some(of))),
    };
    for (i, step) in steps.iter().enumerate() {
        match step {
            Seen::Create(path) => {
                let number = *live.entry(path.clone()).or_insert_with(|| {
                    files.push(Content::default());
                    files.len() - 1
                });
                files[number].live.clear();
                if is_kept(path.parent(), i) {
                    entries.insert(path.clone(), number);
                }
            }
            Seen::Write(path, offset, bytes) => {
                let content = &mut files[live[path]].live;
                let offset = usize::try_from(*offset).expect("a small file");
                content.resize(content.len().max(offset + bytes.len()), 0);
                content[offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Seen::SetLen(path, n) => {
                files[live[path]].live.resize(usize::try_from(*n).expect("a small file"), 0);
            }
            Seen::Sync(path) => {
                let content = &mut files[live[path]];
                content.durable = content.live.clone();
            }
            Seen::Rename(from, to) => {
                let number = live.remove(from).expect("a file to rename");
                live.insert(to.clone(), number);
                if is_kept(to.parent(), i) {
                    entries.insert(to.clone(), number);
                }
                if is_kept(from.parent(), i) {
                    entries.remove(from);
                }
            }
            Seen::CreateDir(path) => {
                if is_kept(path.parent(), i) {
                    dirs.insert(path.clone());
                }
            }
            Seen::SyncDir(_) | Seen::Acknowledged(_) => {}
        }
    }
    let place = |path: &Path| folder.join(path.strip_prefix(root).expect("a path of the store"));
    for dir in &dirs {
        // One whose parent is lost is lost with it.
        drop(fs::create_dir(place(dir)));
    }
    for (path, number) in entries {
        let Content { durable, live } = &files[number];
        let bytes = match survives {
            Survives::Nothing => durable.clone(),
            Survives::All => live.clone(),
            // Unsynced bytes come in any order: here the new length, and the first half of the rest.
            Survives::Some(until) => {
                let mut bytes = live.clone();
                let (from, to) = (durable.len().min(live.len()), live.len());
                let kept = if until % 2 == 0 { usize::midpoint(from, to) } else { from };
                bytes[kept..].fill(0);
                bytes
            }
        };
        drop(fs::write(place(&path), bytes));
    }
}

/// A folder in memory, where the system has such: what is synced there costs no time.
fn memory_folder() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).expect("a folder")
}

fn run(name: &str) -> Arc<RunInfo> {
    let id = RunId::new(name).expect("a name");
    let source = PathBuf::from("/nowhere").join(name);
    Arc::new(RunInfo { id, source, identity: serde_json::Map::new() })
}

/// A commit of a unit of two images whose files hold the number `n`.
fn commit(writer: &Writer, run: &Arc<RunInfo>, n: u64) -> io::Result<Commit> {
    let key = MediaKey::new("k").expect("a key");
    let (mut events, mut files) = (Vec::new(), Vec::new());
    for index in 0..2u32 {
        let bytes = format!("picture {n} {index}").into_bytes();
        let id = MediaId { key: key.clone(), step: crate::media::Step(n), index };
        let sha256 = Sha256::of(&bytes);
        let path = media_path(MediaFolder::Images, &id, sha256, "png");
        files.push(writer.staging().write(&run.id, &path, &bytes)?);
        let entry = image_at(id, path, &bytes, Source::default());
        events.push(Event::Media(Box::new(entry)));
    }
    let stamp = Stamp { ino: n, size: 1, mtime_ns: 2, ctime_ns: 3 };
    let path = format!("dumps/k/{n}.npy");
    let cursor = SourceCursor::Dump(DumpCursor::new(path, stamp, None));
    Ok(Commit { run: run.clone(), events, files, cursor })
}

/// How many units are committed, in groups of two, to two runs in turn.
const N_UNITS: u64 = 14;

fn holder() -> Holder {
    Holder { pid: 1, command: "test".to_owned(), socket: None }
}

/// Commits all units to a store, trying again what fails.
fn write_all(disk: &Disk, recorder: &Recorder, root: &Path) -> Reader {
    let runs = [run("a"), run("b")];
    let again = |what: &mut dyn FnMut() -> bool| {
        let n_tries = (0..50).take_while(|_| !what()).count();
        assert!(n_tries < 50, "the disk never took it");
    };
    let mut opened = None;
    again(&mut || {
        opened = open_on(disk.clone(), root, &holder(), Duration::ZERO).ok();
        opened.is_some()
    });
    let (mut writer, reader) = opened.expect("an open store");
    writer.segment_bytes = 2048;
    for n in (0..N_UNITS).step_by(2) {
        let mut group = Vec::new();
        for n in [n, n + 1] {
            let run = &runs[usize::try_from(n % 2).expect("0 or 1")];
            again(&mut || commit(&writer, run, n).map(|unit| group.push(unit)).is_ok());
        }
        again(&mut || writer.commit(&mut group).is_ok());
        recorder.add(Seen::Acknowledged(n + 2));
    }
    reader
}

/// The units that a store has. Each is whole, in the index and on the disk.
fn units(root: &Path, reader: &Reader) -> BTreeSet<u64> {
    let mut found = BTreeMap::<u64, u32>::new();
    for item in reader.items(&Filter::default()).expect("items") {
        let (run, entry) = item.expect("an item");
        let file = &entry.as_image().expect("an image").file;
        let path = root.join("runs").join(run.folder()).join(&file.path);
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let n = entry.step().expect("a step").0;
        let index = entry.index().expect("an index");
        assert_eq!(String::from_utf8_lossy(&bytes), format!("picture {n} {index}"));
        *found.entry(n).or_default() += 1;
    }
    assert!(found.values().all(|&n| n == 2), "half a unit: {found:?}");
    for &n in found.keys() {
        let run = RunId::new(["a", "b"][usize::try_from(n % 2).expect("0 or 1")]).expect("a name");
        let dump = reader.dump(&run, &format!("dumps/k/{n}.npy")).expect("an index");
        assert!(dump.is_some_and(|dump| dump.cursor.is_some()), "unit {n} has no cursor");
    }
    found.into_keys().collect()
}

#[test]
fn whatever_a_power_loss_leaves_opens_and_has_all_that_was_acknowledged() {
    let folder = memory_folder();
    let root = folder.path().join("store");
    let recorder = Arc::new(Recorder::default());
    drop(write_all(&Disk::observed(recorder.clone()), &recorder, &root));
    let steps = recorder.seen.lock().expect("the steps").clone();
    assert!(steps.len() > 150, "{} steps", steps.len());
    let mut n_states = 0;
    for n in 0..=steps.len() {
        let acknowledged = steps[..n].iter().filter_map(|step| match step {
            Seen::Acknowledged(n) => Some(*n),
            _ => None,
        });
        let n_acknowledged = acknowledged.max().unwrap_or(0);
        let some = [n.saturating_sub(3), n.saturating_sub(8)].map(Survives::Some);
        for survives in [Survives::Nothing, Survives::All].into_iter().chain(some) {
            n_states += 1;
            let left = memory_folder();
            lay_out(&steps[..n], folder.path(), survives, left.path());
            let root = left.path().join("store");
            let what = format!("after {n} steps, {survives:?}");
            let opened = open_on(Disk::default(), &root, &holder(), Duration::ZERO);
            let (writer, reader) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
            let got = units(&root, &reader);
            for unit in 0..n_acknowledged {
                assert!(got.contains(&unit), "{what}: unit {unit} is lost, there are {got:?}");
            }
            // What is there is there for good, and more can be added.
            let mut writer = writer;
            let mut group = vec![commit(&writer, &run("a"), 100).expect("staged files")];
            writer.commit(&mut group).unwrap_or_else(|error| panic!("{what}: {error}"));
            let mut want = got;
            want.insert(100);
            assert_eq!(units(&root, &reader), want, "{what}");
        }
    }
    eprintln!("{n_states} states after a power loss");
}

#[test]
fn a_disk_that_refuses_any_step_for_a_while_costs_nothing() {
    let plain = memory_folder();
    let recorder = Arc::new(Recorder::default());
    let root = plain.path().join("store");
    drop(write_all(&Disk::observed(recorder.clone()), &recorder, &root));
    let n_steps = recorder.seen.lock().expect("the steps").len();
    for first in 0..n_steps {
        for n_refused in [1, 7] {
            let folder = memory_folder();
            let root = folder.path().join("store");
            let recorder = Arc::new(Recorder::default());
            *recorder.refused.lock().expect("numbers") = (first..first + n_refused).collect();
            let reader = write_all(&Disk::observed(recorder.clone()), &recorder, &root);
            let want: BTreeSet<u64> = (0..N_UNITS).collect();
            assert_eq!(units(&root, &reader), want, "steps from {first} on refused");
            drop(reader);
            fs::remove_dir_all(root.join("index")).expect("an index");
            let opened = open_on(Disk::default(), &root, &holder(), Duration::ZERO);
            let (_writer, reader) = opened.expect("an open store");
            assert_eq!(units(&root, &reader), want, "steps from {first} on refused, replayed");
        }
    }
}

#[test]
fn a_prune_leaves_a_file_that_an_item_names_meanwhile() {
    // A prune asked only the images of the same key whether they name a file.
    let root = memory_folder();
    let opened = open_on(Disk::default(), root.path(), &holder(), Duration::ZERO);
    let (mut writer, reader) = opened.expect("an open store");
    let run = run("a");
    let unit = commit(&writer, &run, 1).expect("a commit");
    writer.commit(&mut vec![unit]).expect("a commit");
    let items: Vec<_> = reader.placed(&run.id).map(|item| item.expect("an item")).collect();
    let places = items.iter().map(|(place, _)| *place).collect();
    let (named, leaving) = NamedFiles::without(&reader, &run.id, &places).expect("an index");
    let mut shared = items[0].1.clone();
    let Fate::Image(image) = &mut shared.fate else { panic!("an image") };
    image.id.key = MediaKey::new("/k").expect("a key");
    let events = vec![Event::Media(Box::new(shared))];
    let cursor = SourceCursor::None;
    let meanwhile = Commit { run: run.clone(), events, files: Vec::new(), cursor };
    writer.commit(&mut vec![meanwhile]).expect("a commit");
    assert_eq!(writer.prune(&leaving, &named).expect("a prune"), []);
    let is_file = |path: &String| reader.run_folder(&run.id).join(path).is_file();
    let there: Vec<bool> = leaving.iter().flat_map(|l| &l.paths).map(is_file).collect();
    assert_eq!(there, [true, false]);
}
