//! Tests of the scrub: it reads all media files, goes on after a restart, and finds what is damaged.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::image_at;
use crate::media::{MediaId, MediaKey, RunId, Sha256, Source, Step};
use crate::store::journal::{DumpCursor, Event, SourceCursor, Stamp};
use crate::store::media_dir::{MediaFolder, media_path};
use crate::store::scrub::Scrub;
use crate::store::{Commit, Filter, Holder, Reader, RunInfo, Writer, open};

fn holder() -> Holder {
    Holder { pid: 1, command: "test".to_owned(), socket: None }
}

/// Commits an image at a step of a run.
fn commit(writer: &mut Writer, run: &str, step: u64) {
    let id = RunId::new(run).expect("a name");
    let source = Path::new("/nowhere").join(run);
    let info = Arc::new(RunInfo { id, source, identity: serde_json::Map::new() });
    let bytes = format!("picture {run} {step}").into_bytes();
    let id = MediaId { key: MediaKey::new("k").expect("a key"), step: Step(step), index: 0 };
    let path = media_path(MediaFolder::Images, &id, Sha256::of(&bytes), "png");
    let files = vec![writer.staging().write(&info.id, &path, &bytes).expect("a file")];
    let events = vec![Event::Media(Box::new(image_at(id, path, &bytes, Source::default())))];
    let stamp = Stamp { ino: step, size: 1, mtime_ns: 2, ctime_ns: 3 };
    let cursor = SourceCursor::Dump(DumpCursor::new(format!("{step}.npy"), stamp, None));
    writer.commit(&mut vec![Commit { run: info, events, files, cursor }]).expect("a commit");
}

/// The found files, each with what is wrong.
fn found(reader: &Reader) -> Vec<(String, u64, String)> {
    let all = reader.findings().all().into_iter();
    all.map(|found| (found.run.as_str().to_owned(), found.step, found.damage)).collect()
}

#[test]
fn a_pass_finds_all_damage_and_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = || open(folder.path(), &holder(), Duration::ZERO).expect("a store");
    let (mut writer, reader) = store();
    for run in ["a", "b", "c"] {
        (0..4).for_each(|step| commit(&mut writer, run, step));
    }
    let items: Vec<_> = reader.items(&Filter::default()).expect("items").collect();
    let path = |i: usize| {
        let (run, entry) = items[i].as_ref().expect("an item");
        reader.run_folder(run).join(&entry.as_image().expect("an image").file.path)
    };
    fs::write(path(1), "picture a 9").expect("a file");
    fs::remove_file(path(6)).expect("a file");
    fs::write(path(11), "").expect("a file");

    let mut scrub = Scrub::new(reader.clone());
    let day = Duration::from_hours(24);
    assert!(scrub.is_due(day), "nothing was read yet");
    // A turn ends before the second line of run b, and the daemon stops.
    scrub.turn(|| false).expect("run a");
    let n_looks = std::cell::Cell::new(0);
    scrub.turn(|| n_looks.replace(n_looks.get() + 1) == 2).expect("a part of run b");
    assert_eq!(found(&reader).len(), 1);
    scrub.save().expect("a file");
    drop((scrub, reader));
    writer.close().expect("closed");

    let (_writer, reader) = store();
    assert_eq!(found(&reader).len(), 1, "a finding outlives a restart");
    let mut scrub = Scrub::new(reader.clone());
    let mut n_turns = 0;
    while scrub.is_due(day) {
        scrub.turn(|| false).expect("a turn");
        n_turns += 1;
    }
    assert_eq!(n_turns, 2, "the rest of run b, and run c");
    let (size, missing) = ("got 0 bytes, want 11".to_owned(), "missing".to_owned());
    let all = found(&reader);
    assert_eq!(all[1..], [("b".to_owned(), 2, missing), ("c".to_owned(), 3, size)]);
    assert!(all[0].2.starts_with("got SHA-256"), "{all:?}");
    let status = reader.findings().status();
    assert_eq!((status.damaged, status.missing, status.scrubbed_files), (2, 1, 12), "{status:?}");
    assert!(scrub.is_due(Duration::ZERO), "the next pass comes in time");

    fs::write(path_of(folder.path(), &reader, "b", 2), "picture b 2").expect("a file");
    for damaged in reader.findings().all() {
        let is_damaged = scrub.is_still_damaged(&damaged).expect("an index");
        assert_eq!(is_damaged, damaged.run.as_str() != "b");
    }
    assert_eq!(found(&reader).len(), 2);
}

fn path_of(store: &Path, reader: &Reader, run: &str, step: u64) -> std::path::PathBuf {
    let run = RunId::new(run).expect("a name");
    let key = MediaKey::new("k").expect("a key");
    let item = reader.item(&run, &key, Step(step), 0).expect("an index").expect("an item");
    store.join("runs").join(run.folder()).join(&item.as_image().expect("an image").file.path)
}
