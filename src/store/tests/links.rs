//! Tests of links that others put into a store: nothing behind them is written, cut off or removed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::left_out::{commit, holder, steps};
use crate::durable::Disk;
use crate::store::{NamedFiles, Reader, StoreError, Writer, open_on};

fn open(root: &Path) -> Result<(Writer, Reader), StoreError> {
    open_on(Disk::default(), root, &holder(), Duration::ZERO)
}

/// A store with a run, closed, and a folder of somebody else.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let scene = Self { folder };
        let (mut writer, reader) = open(&scene.at("store")).expect("a store");
        writer.commit(&mut vec![commit("a", 1), commit("b", 1)]).expect("a commit");
        drop(reader);
        writer.close().expect("closed");
        fs::create_dir(scene.at("victim")).expect("a folder");
        for name in ["00000001.jsonl", "db", "precious"] {
            fs::write(scene.at("victim").join(name), "precious").expect("a file");
        }
        scene
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join(path)
    }

    /// Puts a link into the store in the place of what lies there.
    fn link(&self, place: &str, target: &str) {
        let place = self.at("store").join(place);
        if fs::symlink_metadata(&place).is_ok() {
            fs::rename(&place, place.with_extension("aside")).expect("a rename");
        }
        symlink(self.at(target), place).expect("a link");
    }

    fn check_victim(&self, what: &str) {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.at("victim")).expect("a folder") {
            let path = entry.expect("an entry").path();
            assert_eq!(fs::read_to_string(&path).expect("a file"), "precious", "{what} {path:?}");
            names.push(path.file_name().expect("a name").to_owned());
        }
        names.sort();
        assert_eq!(names, ["00000001.jsonl", "db", "precious"], "{what}");
    }
}

#[test]
fn a_link_in_a_run_leaves_the_run_out_and_nothing_behind_it_is_changed() {
    for (place, target) in [
        ("runs/a/journal/00000001.jsonl", "victim/00000001.jsonl"),
        ("runs/a/journal/00000002.jsonl", "victim/precious"),
        ("runs/a/journal", "victim"),
        ("runs/a/run.json", "victim/precious"),
        ("runs/a/run.tmp", "victim/precious"),
        ("runs/a", "victim"),
    ] {
        let scene = Scene::new();
        scene.link(place, target);
        let (mut writer, reader) = open(&scene.at("store")).expect("a store");
        writer.segment_bytes = 1;
        for step in 2..4 {
            let mut changed = commit("a", step);
            let mut info = (*changed.run).clone();
            info.identity.insert("name".to_owned(), step.into());
            changed.run = Arc::new(info);
            let mut group = vec![changed, commit("b", step)];
            writer.commit(&mut group).unwrap_or_else(|error| panic!("{place}: {error}"));
            assert_eq!(group.len(), 1, "{place}: run a is left out");
        }
        assert_eq!(steps(&reader, "b"), [1, 2, 3], "{place}");
        assert!(reader.left_out().all().iter().any(|run| run.run == "a"), "{place}");
        scene.check_victim(place);
    }
}

#[test]
fn links_beside_the_runs_are_not_followed() {
    for (place, target, opens) in [
        ("lock", "victim/precious", false),
        ("tmp", "victim", true),
        ("index", "victim", true),
        ("index/db", "victim/db", true),
        ("ballast", "victim/new", true),
        ("scrub.json", "victim/precious", true),
    ] {
        let scene = Scene::new();
        scene.link(place, target);
        let opened = open(&scene.at("store"));
        assert_eq!(opened.is_ok(), opens, "{place}");
        if let Ok((mut writer, reader)) = opened {
            writer.commit(&mut vec![commit("a", 2)]).expect("a commit");
            assert_eq!(steps(&reader, "a"), [1, 2], "{place}");
            crate::store::scrub::Scrub::new(reader).save().expect("a file");
        }
        scene.check_victim(place);
    }
    let scene = Scene::new();
    // A hard link is no better.
    fs::remove_file(scene.at("store/lock")).expect("a file");
    fs::hard_link(scene.at("victim/precious"), scene.at("store/lock")).expect("a link");
    let error = open(&scene.at("store")).expect_err("a file with other names");
    assert!(error.to_string().contains("without other names"), "{error}");
    scene.check_victim("lock");
}

#[test]
fn no_media_file_behind_a_link_is_removed() {
    let scene = Scene::new();
    let (mut writer, reader) = open(&scene.at("store")).expect("a store");
    let a = crate::media::RunId::new("a").expect("a name");
    let (named, _) = NamedFiles::without(&reader, &a, &BTreeSet::new()).expect("an index");
    scene.link("runs/a/media", "victim");
    let stray = vec!["media/precious".into()];
    let failed = writer.remove_strays(&stray, Duration::ZERO, &named).expect("an index");
    assert!(failed.len() == 1 && failed[0].1.contains("want a directory"), "{failed:?}");
    scene.check_victim("media");
}
