//! Tests of damaged journals: whatever one byte, one cut or one lost segment does, the store opens, and
//! nothing is missing but what stood there.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::media::{Description, MediaEntry, MediaId, MediaKey, RunId, Source, State, Step};
use crate::store::journal::{DumpCursor, Event, Fingerprint, LogCursor, SourceCursor, Stamp};
use crate::store::{Commit, Filter, Holder, Reader, RunInfo, RunSummary, StoreError, Writer};

fn open(root: &Path) -> Result<(Writer, Reader), StoreError> {
    let me = Holder { pid: 1, command: "test".to_owned(), socket: None };
    crate::store::open(root, &me, Duration::from_secs(5))
}

fn run(root: &Path, name: &str) -> Arc<RunInfo> {
    let id = RunId::new(name).expect("an id");
    Arc::new(RunInfo {
        id,
        source: root.join("source").join(name),
        identity: serde_json::Map::new(),
    })
}

fn id(key: &str, step: u64, index: u32) -> MediaId {
    MediaId { key: MediaKey::new(key).expect("a key"), step: Step(step), index }
}

fn held(key: &str, step: u64, index: u32, source: Source) -> Event {
    let entry =
        MediaEntry::held(id(key, step, index), "over".to_owned(), Description::default(), source);
    Event::Media(Box::new(entry))
}

fn of_line(line: u64) -> Source {
    let log = "a.media.jsonl".to_owned();
    Source { path: "x.npy".to_owned(), log: Some(log), line: Some(line), ..Source::default() }
}

fn of_dump(path: &str) -> Source {
    Source { path: path.to_owned(), ..Source::default() }
}

fn log_cursor(line: u64) -> SourceCursor {
    SourceCursor::Log(LogCursor {
        path: "a.media.jsonl".to_owned(),
        dev: 1,
        ino: 2,
        offset: 100 * line,
        line,
        head: Fingerprint::of(b"head"),
        tail: Fingerprint::of(b"tail"),
        content: None,
        mtime_ns: None,
        generation: None,
        session: None,
        read: None,
    })
}

fn dump_cursor(path: &str, version: u64) -> SourceCursor {
    let stamp = Stamp { ino: version, size: 2, mtime_ns: 3, ctime_ns: 4 };
    SourceCursor::Dump(DumpCursor::new(path.to_owned(), stamp, None))
}

/// Units of every kind: lines, dumps, several images, a rejection, a new version with fewer images.
fn units(of: &Arc<RunInfo>) -> Vec<Commit> {
    let commit = |events: Vec<Event>, cursor: SourceCursor| Commit {
        run: of.clone(),
        events,
        files: Vec::new(),
        cursor,
    };
    let rejected = |source: Source| {
        let reason = "no dump".to_owned();
        Event::Media(Box::new(MediaEntry::rejected(None, reason, Description::default(), source)))
    };
    vec![
        commit((0..3).map(|i| held("a", 1, i, of_line(1))).collect(), log_cursor(1)),
        commit(vec![rejected(of_dump("dumps/bad"))], dump_cursor("dumps/bad", 1)),
        commit(
            (0..3).map(|i| held("d", 7, i, of_dump("dumps/d"))).collect(),
            dump_cursor("dumps/d", 1),
        ),
        commit(vec![Event::Commit { step: Step(1) }], log_cursor(2)),
        commit(vec![held("b", 2, 0, of_line(3))], log_cursor(3)),
        commit(
            vec![
                held("d", 7, 0, of_dump("dumps/d")),
                Event::Gone { id: id("d", 7, 1), path: Some("dumps/d".to_owned()) },
                Event::Gone { id: id("d", 7, 2), path: Some("dumps/d".to_owned()) },
            ],
            dump_cursor("dumps/d", 2),
        ),
        commit(vec![rejected(of_line(4))], log_cursor(4)),
        commit(vec![Event::Finish], log_cursor(5)),
    ]
}

/// What a store lists: an item in a few words each.
fn items(reader: &Reader) -> Vec<String> {
    let items = reader.items(&Filter::default()).expect("items");
    items
        .map(|item| {
            let (run, entry) = item.expect("an item");
            format!(
                "{run} {:?} {:?} {:?} {} {:?}",
                entry.key().map(|key| key.as_str().to_owned()),
                entry.step().map(|step| step.0),
                entry.index(),
                entry.state().name(),
                entry.source
            )
        })
        .collect()
}

fn summary(reader: &Reader, run: &str) -> RunSummary {
    let runs = reader.runs().expect("runs");
    runs.into_iter().find(|summary| summary.run.as_str() == run).expect("the run")
}

/// A store with two runs, as it is on the disk.
struct Sound {
    folder: tempfile::TempDir,
    items: Vec<String>,
    /// What is listed without some units.
    without: RefCell<BTreeMap<BTreeSet<usize>, Vec<String>>>,
}

impl Sound {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut writer, reader) = open(folder.path()).expect("a store");
        for name in ["one", "two"] {
            let mut group = units(&run(folder.path(), name));
            // One by one, as they come.
            while !group.is_empty() {
                let mut first = vec![group.remove(0)];
                writer.commit(&mut first).expect("a commit");
            }
        }
        let items = items(&reader);
        assert_eq!(items.len(), 2 * 7, "{items:#?}");
        drop(reader);
        writer.close().expect("closed");
        Self { folder, items, without: RefCell::default() }
    }

    fn segment(&self, number: u32) -> PathBuf {
        segment(self.folder.path(), number)
    }

    /// A copy without an index.
    fn copy(&self) -> tempfile::TempDir {
        let to = tempfile::tempdir().expect("a folder");
        for name in ["one", "two"] {
            let from = self.folder.path().join("runs").join(name);
            let place = to.path().join("runs").join(name);
            fs::create_dir_all(place.join("journal")).expect("folders");
            fs::copy(from.join("run.json"), place.join("run.json")).expect("run.json");
            for entry in fs::read_dir(from.join("journal")).expect("a journal") {
                let from = entry.expect("an entry").path();
                let name = from.file_name().expect("a name");
                fs::copy(&from, place.join("journal").join(name)).expect("a segment");
            }
        }
        to
    }
}

fn segment(root: &Path, number: u32) -> PathBuf {
    root.join(format!("runs/one/journal/{number:08}.jsonl"))
}

/// Which unit each line of a journal belongs to, and what stands in it.
fn unit_of_lines(bytes: &[u8]) -> Vec<usize> {
    let mut unit = 0;
    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
    lines
        .map(|line| {
            let of = unit;
            unit += usize::from(memchr::memmem::find(line, b"\"cursor\":").is_some());
            of
        })
        .collect()
}

impl Sound {
    /// The same as [`items_without`], remembered.
    fn items_without(&self, units: &BTreeSet<usize>) -> Vec<String> {
        let known = self.without.borrow().get(units).cloned();
        known.unwrap_or_else(|| {
            let items = items_without(units);
            self.without.borrow_mut().insert(units.clone(), items.clone());
            items
        })
    }
}

/// What a store lists when these units are never committed.
fn items_without(units: &BTreeSet<usize>) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut writer, reader) = open(folder.path()).expect("a store");
    // The first unit of a journal says what the run is.
    let mut group: Vec<Commit> = self::units(&run(folder.path(), "one"))
        .into_iter()
        .enumerate()
        .filter(|(number, _)| !units.contains(&(number + 1)))
        .map(|(_, commit)| commit)
        .collect();
    writer.commit(&mut group).expect("a commit");
    items(&reader)
}

/// The items of run `one`.
fn of_one(items: &[String]) -> Vec<String> {
    items.iter().filter(|item| item.starts_with("one ")).cloned().collect()
}

/// What each item says that isn't in `other`.
fn missing<'a>(items: &'a [String], other: &[String]) -> Vec<&'a String> {
    items.iter().filter(|item| !other.contains(item)).collect()
}

/// Opens a damaged store. Nothing is lost or changed but what came of these units, now and after the
/// index is built once more; the damage is counted; and what is committed after it stays.
fn check(sound: &Sound, root: &Path, units: &BTreeSet<usize>, is_torn: bool, what: &str) {
    let (mut writer, reader) = open(root).unwrap_or_else(|error| panic!("{what}: {error}"));
    let got = items(&reader);
    let (want_all, want_without) = (of_one(&sound.items), sound.items_without(units));
    // The whole unit is gone, or a part of it.
    for item in missing(&want_all, &of_one(&got)) {
        assert!(!want_without.contains(item), "{what}: {item} is lost\n{got:#?}");
    }
    for item in missing(&of_one(&got), &want_all) {
        // A version whose unit is lost leaves what was there before it.
        assert!(want_without.contains(item), "{what}: {item} is new\n{got:#?}");
    }
    let two =
        |items: &[String]| missing(items, &of_one(items)).into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(two(&got), two(&sound.items), "{what}: the other run");
    let counts = summary(&reader, "one");
    // A last line without its newline is one that was never finished.
    assert!(counts.damaged >= 1 || is_torn, "{what}: nothing is counted");
    for name in ["one", "two"] {
        let after = Commit {
            run: run(sound.folder.path(), name),
            events: vec![held("after", 9, 0, of_line(99))],
            files: Vec::new(),
            cursor: log_cursor(99),
        };
        writer.commit(&mut vec![after]).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    let with_more = items(&reader);
    assert_eq!(with_more.len(), got.len() + 2, "{what}");
    assert_eq!(missing(&got, &with_more), Vec::<&String>::new(), "{what}");
    let counts = summary(&reader, "one");
    drop(reader);
    writer.close().expect("closed");
    // The index says what the journals do.
    fs::remove_dir_all(root.join("index")).expect("an index");
    let (_writer, reader) = open(root).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(items(&reader), with_more, "{what}: from the journals");
    let again = summary(&reader, "one");
    let of = |summary: &RunSummary| (summary.image, summary.held, summary.rejected);
    assert_eq!(of(&again), of(&counts), "{what}: from the journals");
}

#[test]
fn any_byte_of_a_journal_may_be_another() {
    let sound = Sound::new();
    let bytes = fs::read(sound.segment(1)).expect("a journal");
    let unit_of_line = unit_of_lines(&bytes);
    let mut line = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        // Each byte once is many opens: all of them only when asked for, else a part, and all that ends
        // or begins a line.
        let is_edge = [-1, 0, 1].iter().any(|&by| {
            at.checked_add_signed(by)
                .and_then(|at| bytes.get(at))
                .is_some_and(|&byte| byte == b'\n')
        });
        let of_line = line;
        line += usize::from(byte == b'\n');
        if !is_edge && at % 61 != 0 && std::env::var_os("SAFELIGHT_EVERY_BYTE").is_none() {
            continue;
        }
        let last = unit_of_line.len() - 1;
        // A newline that is none any more takes the lines on both sides of it.
        let lines = of_line..=if byte == b'\n' { last.min(of_line + 1) } else { of_line };
        let units: BTreeSet<usize> = lines.map(|line| unit_of_line[line]).collect();
        let others = [byte ^ (1 << (at % 8)), b'\n'];
        for other in others.into_iter().filter(|&other| other != byte) {
            let mut damaged = bytes.clone();
            damaged[at] = other;
            let copy = sound.copy();
            fs::write(segment(copy.path(), 1), damaged).expect("a journal");
            let what = format!("byte {at} is {other}, units {units:?}");
            check(&sound, copy.path(), &units, at + 1 == bytes.len(), &what);
        }
    }
}

/// Three segments with whole units in each, where there was one.
fn in_three_segments(root: &Path) -> [BTreeSet<usize>; 3] {
    let bytes = fs::read(segment(root, 1)).expect("a journal");
    let units = unit_of_lines(&bytes);
    let lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
    [(1, 0..3), (2, 3..6), (3, 6..99)].map(|(number, range): (u32, std::ops::Range<usize>)| {
        let own = lines.iter().zip(&units).filter(|(_, unit)| range.contains(unit));
        let (own, units): (Vec<&[u8]>, BTreeSet<usize>) =
            own.map(|(line, unit)| (*line, *unit)).unzip();
        fs::write(segment(root, number), own.concat()).expect("a segment");
        units
    })
}

#[test]
fn segments_are_read_one_after_the_other() {
    let sound = Sound::new();
    let copy = sound.copy();
    in_three_segments(copy.path());
    let (_writer, reader) = open(copy.path()).expect("a store");
    assert_eq!(items(&reader), sound.items);
    assert_eq!(summary(&reader, "one").damaged, 0);
}

#[test]
fn a_segment_that_is_gone_emptied_or_cut_takes_nothing_but_its_own() {
    for with_index in [false, true] {
        for number in 1..=2 {
            for how in ["gone", "emptied", "cut"] {
                let sound = Sound::new();
                let copy = sound.copy();
                let units = in_three_segments(copy.path());
                if with_index {
                    let (writer, reader) = open(copy.path()).expect("a store");
                    assert_eq!(items(&reader), sound.items);
                    drop(reader);
                    writer.close().expect("closed");
                }
                let path = segment(copy.path(), number);
                match how {
                    "gone" => fs::remove_file(path).expect("a removal"),
                    "emptied" => fs::write(path, "").expect("a file"),
                    _ => {
                        let bytes = fs::read(&path).expect("a segment");
                        fs::write(path, &bytes[..bytes.len() - 20]).expect("a file");
                    }
                }
                let third = fs::read(segment(copy.path(), 3)).expect("a segment");
                let units = &units[number as usize - 1];
                let what = format!("segment {number} is {how}, with index: {with_index}");
                check(&sound, copy.path(), units, false, &what);
                let now = fs::read(segment(copy.path(), 3)).expect("a segment");
                assert!(now.starts_with(&third), "{what}: the last segment has changed");
            }
        }
    }
}

#[test]
fn a_journal_that_ends_anywhere_keeps_its_whole_units() {
    let sound = Sound::new();
    let bytes = fs::read(sound.segment(1)).expect("a journal");
    let unit_of_line = unit_of_lines(&bytes);
    let n_units = unit_of_line.last().expect("lines") + 1;
    for cut in (0..bytes.len()).filter(|cut| cut % 97 == 0 || bytes[*cut] == b'\n') {
        let copy = sound.copy();
        fs::write(segment(copy.path(), 1), &bytes[..cut]).expect("a journal");
        let n_whole = memchr::memchr_iter(b'\n', &bytes[..cut]).count();
        let lost: BTreeSet<usize> = (unit_of_line[n_whole]..n_units).collect();
        let (mut writer, reader) = open(copy.path()).expect("a store");
        assert_eq!(of_one(&items(&reader)), sound.items_without(&lost), "cut at {cut}");
        assert!(reader.runs().expect("runs").iter().all(|run| run.damaged == 0), "cut at {cut}");
        // The sources are read again from where they were.
        let source = run(sound.folder.path(), "one");
        let again = units(&source).into_iter().enumerate();
        let mut again: Vec<Commit> = again
            .filter(|(number, _)| lost.contains(&(number + 1)))
            .map(|(_, commit)| commit)
            .collect();
        writer.commit(&mut again).expect("a commit");
        assert_eq!(items(&reader), sound.items, "cut at {cut}");
    }
}

#[test]
fn a_run_whose_run_json_is_damaged_costs_no_other_and_comes_back() {
    let sound = Sound::new();
    let texts: [&[u8]; 5] = [b"", b"rubbish", b"{}", b"\xff\xfe", b"{\"format\":1,\"id\":\"\"}"];
    for text in texts {
        for with_index in [false, true] {
            let copy = sound.copy();
            if with_index {
                let (writer, reader) = open(copy.path()).expect("a store");
                drop(reader);
                writer.close().expect("closed");
            }
            fs::write(copy.path().join("runs/one/run.json"), text).expect("a file");
            let before = fs::read(segment(copy.path(), 1)).expect("a journal");
            let (mut writer, reader) = open(copy.path()).expect("a store");
            let got = items(&reader);
            let two: Vec<&String> =
                sound.items.iter().filter(|item| item.starts_with("two ")).collect();
            assert!(two.iter().all(|item| got.contains(item)), "{got:#?}");
            assert_eq!(fs::read(segment(copy.path(), 1)).expect("a journal"), before);
            // Its job writes on.
            let more = Commit {
                run: run(sound.folder.path(), "one"),
                events: vec![held("after", 9, 0, of_line(99))],
                files: Vec::new(),
                cursor: log_cursor(99),
            };
            writer.commit(&mut vec![more]).expect("a commit");
            let with_more = items(&reader);
            assert_eq!(with_more.len(), sound.items.len() + 1, "{with_more:#?}");
            assert_eq!(missing(&sound.items, &with_more), Vec::<&String>::new());
        }
    }
}

#[test]
fn what_stands_in_a_journal_line_is_told_by_its_state() {
    // The tests above compare held and rejected items only: an image needs a media file.
    let sound = Sound::new();
    let (_writer, reader) = open(sound.folder.path()).expect("a store");
    let states = reader
        .items(&Filter::default())
        .expect("items")
        .map(|item| item.expect("an item").1.state());
    let states: Vec<State> = states.collect();
    assert_eq!(states.iter().filter(|&&state| state == State::Held).count(), 10);
    assert_eq!(states.iter().filter(|&&state| state == State::Rejected).count(), 4);
}
