//! What the index takes when the same dumps are written again and again: sled 0.34.7 gives no room back,
//! so that it is replaced by a new one now and then, and nothing is lost by that.
//!
//! Every run of the tests does it with a low limit; with `SAFELIGHT_CHURN=10000000`, as `./test.sh load`
//! sets it, there are that many rewrites under the real one, and the figures are printed.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::media::{Description, MediaEntry, MediaId, MediaKey, RunId, Source, Step};
use crate::store::journal::{DumpCursor, Event, SourceCursor, Stamp};
use crate::store::lock::Holder;
use crate::store::writer::{INDEX_BYTES_MIN, INDEX_BYTES_PER_ITEM};
use crate::store::{Commit, Filter, Reader, RunInfo, open};

/// Rewrites that are committed at once, as the pipeline does it.
const GROUP: u64 = 256;

fn rewrite(run: &Arc<RunInfo>, n_dumps: u64, n: u64) -> Commit {
    let (dump, version) = (n % n_dumps, n / n_dumps);
    let key = MediaKey::new("k").expect("a key");
    let id = MediaId { key, step: Step(dump), index: 0 };
    let path = format!("dumps/k/{dump}.npy");
    let source = Source { path: path.clone(), ..Source::default() };
    // An image without its file: only the index counts here.
    let reason = format!("version {version}");
    let entry = MediaEntry::held(id, reason, Description::default(), source);
    let stamp = Stamp { ino: dump, size: 1, mtime_ns: i128::from(version), ctime_ns: 3 };
    let cursor = SourceCursor::Dump(DumpCursor::new(path, stamp, None));
    let events = vec![Event::Media(Box::new(entry))];
    Commit { run: run.clone(), events, files: Vec::new(), cursor }
}

/// When the index's file was written to last.
fn written_at(root: &Path) -> SystemTime {
    let meta = fs::metadata(root.join("index/db")).expect("an index");
    meta.modified().expect("a time")
}

#[test]
fn an_index_to_which_nothing_comes_writes_nothing() {
    // sled's flusher cleaned up a segment each half second, wrote what was left of it into a new one, and
    // filled that up with half a megabyte of nothing, so that it was the next to clean up: an idle
    // daemon wrote 80 GB a day once its index was large enough.
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("store");
    let me = Holder { pid: 1, command: "test".to_owned(), socket: None };
    let (mut writer, reader) = open(&root, &me, Duration::ZERO).expect("a store");
    let run = run();
    let (n_dumps, n) = (12_000, 12_000);
    for first in (0..n).step_by(256) {
        let mut group = (first..n.min(first + 256)).map(|n| rewrite(&run, n_dumps, n)).collect();
        writer.commit(&mut group).expect("a commit");
    }
    writer.close().expect("a closed store");
    drop(reader);
    let (_writer, reader) = open(&root, &me, Duration::ZERO).expect("a store");
    check(&reader, &run.id, n_dumps, n);
    std::thread::sleep(Duration::from_millis(1200));
    let before = written_at(&root);
    std::thread::sleep(Duration::from_millis(2200));
    assert_eq!(written_at(&root), before);
}

fn run() -> Arc<RunInfo> {
    Arc::new(RunInfo {
        id: RunId::new("a").expect("a name"),
        source: "/runs/a".into(),
        identity: serde_json::Map::new(),
    })
}

/// That each dump is there once, in its last version.
fn check(reader: &Reader, run: &RunId, n_dumps: u64, n_rewrites: u64) {
    let mut n_items = 0;
    for item in reader.items(&Filter::default()).expect("items") {
        let (_, entry) = item.expect("an item");
        let dump = entry.step().expect("a step").0;
        assert_eq!(dump, n_items, "each once, in order");
        n_items += 1;
        let last = (n_rewrites - 1 - dump) / n_dumps;
        assert_eq!(entry.reason(), Some(&*format!("version {last}")), "dump {dump}");
        let row = reader.dump(run, &format!("dumps/k/{dump}.npy")).expect("an index");
        let cursor = row.and_then(|row| row.cursor).expect("a cursor");
        assert_eq!(cursor.stamp.mtime_ns, i128::from(last), "dump {dump}");
    }
    assert_eq!(n_items, n_dumps.min(n_rewrites));
}

/// How often the index was replaced: the first one has no number.
fn generation(root: &Path) -> u64 {
    let names = fs::read_dir(root).expect("a store").flatten().map(|entry| entry.file_name());
    let numbers = names.filter_map(|name| name.to_str()?.strip_prefix("index.")?.parse().ok());
    numbers.max().unwrap_or(0)
}

fn resident_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

#[test]
fn an_index_whose_rows_are_written_again_and_again_is_replaced_and_nothing_is_lost() {
    let asked = std::env::var("SAFELIGHT_CHURN").ok().and_then(|n| n.parse::<u64>().ok());
    // The dumps that are written again and again, and how often that is done.
    let n_dumps = if asked.is_some() { 10_000 } else { 200 };
    let n_rewrites = asked.unwrap_or(40_000);
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.expect("a folder");
    let root = folder.path().join("store");
    let me = Holder { pid: 1, command: "test".to_owned(), socket: None };
    let (mut writer, reader) = open(&root, &me, Duration::ZERO).expect("a store");
    if asked.is_none() {
        // Less than two segments of sled's.
        writer.index_bytes_max = 1_000_000;
        writer.commits_per_size_check = 8;
    }
    let index_bytes_max = writer.index_bytes_max;
    let run = run();
    let (start, mut n_replaced, mut most) = (Instant::now(), 0, 0);
    for first in (0..n_rewrites).step_by(usize::try_from(GROUP).expect("a small number")) {
        let mut group: Vec<Commit> =
            (first..n_rewrites.min(first + GROUP)).map(|n| rewrite(&run, n_dumps, n)).collect();
        writer.commit(&mut group).expect("a commit");
        let now = reader.room().1;
        n_replaced = n_replaced.max(generation(&root));
        most = most.max(now);
        if asked.is_some() && (first / GROUP).is_multiple_of(n_rewrites / GROUP / 20 + 1) {
            eprintln!(
                "churn: {first} rewrites in {:.0} s, index {} MB, replaced {n_replaced} times, {} MB resident",
                start.elapsed().as_secs_f64(),
                now / 1_000_000,
                resident_bytes() / 1_000_000
            );
        }
    }
    let took = start.elapsed().as_secs_f64();
    assert!(n_replaced > 0 || most < index_bytes_max, "{most} bytes and never replaced");
    if asked.is_none() {
        assert!(n_replaced > 0, "a low limit was never passed: {most} bytes");
    }
    check(&reader, &run.id, n_dumps, n_rewrites);
    #[expect(clippy::cast_precision_loss, reason = "a figure")]
    let rate = n_rewrites as f64 / took;
    eprintln!(
        "churn: {n_rewrites} rewrites of {n_dumps} dumps, {rate:.0} a second; the index took {} MB at most \
         (of a limit of {} MB), is {} MB, estimated {} MB of live rows; replaced {n_replaced} times; {} MB \
         resident",
        most / 1_000_000,
        index_bytes_max / 1_000_000,
        reader.room().1 / 1_000_000,
        n_dumps * INDEX_BYTES_PER_ITEM / 1_000_000,
        resident_bytes() / 1_000_000
    );
    assert_eq!(INDEX_BYTES_MIN, 256 << 20, "the limit that docs name");
    // As after a restart.
    writer.close().expect("a closed store");
    drop(reader);
    let (_writer, reader) = open(&root, &me, Duration::ZERO).expect("a store");
    check(&reader, &run.id, n_dumps, n_rewrites);
}
