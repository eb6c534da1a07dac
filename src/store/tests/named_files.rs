//! Which media files are there after any order of commits, new versions, releases, prunes and sweeps.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::image_at;
use crate::media::{Description, MediaEntry, MediaId, MediaKey, RunId, Sha256, Source, Step};
use crate::store::journal::{DumpCursor, Event, SourceCursor, Stamp};
use crate::store::lock::Holder;
use crate::store::media_dir::{MediaFolder, media_path};
use crate::store::{Commit, NamedFiles, Reader, RunInfo, Writer, open, remove_index};

/// Keys of which many have the same file stem, so that their images share files.
fn keys() -> Vec<MediaKey> {
    let long = "langer Schlüssel/".repeat(20);
    let keys =
        ["a/b", "a//b", "/a/b", "//a/b", "a/./b", "a/_/b", "a/../b", "a/__/b", "ü/b", "u\u{308}/b"];
    let odd = ["a/b.png/c", "a/b.png_/c", "tab\there", "tab_here", " ", "a b", &long, &long[1..]];
    keys.iter().chain(&odd).map(|key| MediaKey::new(*key).expect("a key")).collect()
}

/// What happens to the store. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Action {
    /// A dump with images of these contents. A later version of a dump replaces the earlier one.
    Dump { key: usize, step: u64, contents: Vec<u8> },
    /// A dump with a held image.
    Hold { key: usize, step: u64 },
    /// The held image of a dump becomes an image.
    Release { key: usize, step: u64, content: u8 },
    /// Some images are pruned. Between the decision and the prune, a dump may be committed.
    Prune { which: Vec<bool>, meanwhile: Option<(usize, u64, u8)> },
    /// Files that no item names are removed. Between the search and the removal, a dump may be committed.
    Sweep { meanwhile: Option<(usize, u64, u8)> },
    /// The process ends and starts again, with its index or without it.
    Restart { with_index: bool },
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let place = || (0..64usize, 0..2u64);
    let content = || 0..3u8;
    let meanwhile = || prop::option::of((0..64usize, 0..2u64, 0..3u8));
    let action = prop_oneof![
        6 => (place(), vec(content(), 1..4)).prop_map(|((key, step), contents)| Action::Dump { key, step, contents }),
        1 => place().prop_map(|(key, step)| Action::Hold { key, step }),
        2 => (place(), content()).prop_map(|((key, step), content)| Action::Release { key, step, content }),
        3 => (vec(any::<bool>(), 1..8), meanwhile()).prop_map(|(which, meanwhile)| Action::Prune { which, meanwhile }),
        2 => meanwhile().prop_map(|meanwhile| Action::Sweep { meanwhile }),
        1 => any::<bool>().prop_map(|with_index| Action::Restart { with_index }),
    ];
    vec(action, 1..30)
}

fn holder() -> Holder {
    Holder { pid: 1, command: "test".to_owned(), socket: None }
}

/// The bytes of a media file.
fn bytes_of(content: u8) -> Vec<u8> {
    format!("picture {content}").into_bytes()
}

/// A store, and what it should hold.
struct Model {
    root: PathBuf,
    store: Option<(Writer, Reader)>,
    run: Arc<RunInfo>,
    keys: Vec<MediaKey>,
    /// Held items, and images with their content, by place. Pruned images have no content.
    items: BTreeMap<MediaId, ModelItem>,
    n_versions: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ModelItem {
    Held,
    Image(u8),
    Pruned,
}

impl Model {
    fn new(root: &Path) -> Self {
        let run = RunInfo {
            id: RunId::new("r").expect("a name"),
            source: "/runs/r".into(),
            identity: serde_json::Map::new(),
        };
        let (root, items) = (root.join("store"), BTreeMap::new());
        let store = Some(open(&root, &holder(), Duration::ZERO).expect("a store"));
        Self { root, store, run: Arc::new(run), keys: keys(), items, n_versions: 0 }
    }

    fn writer(&mut self) -> &mut Writer {
        &mut self.store.as_mut().expect("an open store").0
    }

    fn reader(&self) -> &Reader {
        &self.store.as_ref().expect("an open store").1
    }

    fn id(&self, key: usize, step: u64, index: u32) -> MediaId {
        MediaId { key: self.keys[key % self.keys.len()].clone(), step: Step(step), index }
    }

    fn path_of(id: &MediaId, content: u8) -> String {
        media_path(MediaFolder::Images, id, Sha256::of(&bytes_of(content)), "png")
    }

    fn image(&mut self, id: &MediaId, content: u8, commit: &mut Commit, source: &Source) {
        let (bytes, run) = (bytes_of(content), self.run.id.clone());
        let path = Self::path_of(id, content);
        commit.files.push(self.writer().staging().write(&run, &path, &bytes).expect("a file"));
        let entry = image_at(id.clone(), path, &bytes, source.clone());
        commit.events.push(Event::Media(Box::new(entry)));
        self.items.insert(id.clone(), ModelItem::Image(content));
    }

    /// Starts the commit of a version of the dump of a key and a step.
    fn begin(&mut self, key: usize, step: u64) -> (Commit, Source) {
        self.n_versions += 1;
        let path = format!("dumps/{}/{step}.npy", key % self.keys.len());
        let n = self.n_versions;
        let stamp = Stamp { ino: n, size: 1, mtime_ns: i128::from(n), ctime_ns: 3 };
        let cursor = SourceCursor::Dump(DumpCursor::new(path.clone(), stamp, None));
        let source = Source { path, ..Source::default() };
        let run = self.run.clone();
        (Commit { run, events: Vec::new(), files: Vec::new(), cursor }, source)
    }

    /// Commits a version of a dump, in place of all items of the earlier one.
    fn commit(&mut self, key: usize, step: u64, contents: &[u8]) {
        let (mut commit, source) = self.begin(key, step);
        for (index, &content) in (0..).zip(contents) {
            let id = self.id(key, step, index);
            self.image(&id, content, &mut commit, &source);
        }
        let first = self.id(key, step, 0);
        let (key, step) = (first.key, first.step);
        let n = u32::try_from(contents.len()).expect("a few");
        let items: Vec<MediaId> = self.items.keys().cloned().collect();
        for id in items.into_iter().filter(|id| (&id.key, id.step) == (&key, step) && id.index >= n)
        {
            self.items.remove(&id);
            commit.events.push(Event::Gone { id, path: Some(source.path.clone()) });
        }
        self.writer().commit(&mut vec![commit]).expect("a commit");
    }

    fn hold(&mut self, key: usize, step: u64) {
        let id = self.id(key, step, 0);
        if self.items.contains_key(&id) {
            return;
        }
        let (mut commit, source) = self.begin(key, step);
        let reason = "max_items".to_owned();
        let entry = MediaEntry::held(id.clone(), reason, Description::default(), source);
        commit.events.push(Event::Media(Box::new(entry)));
        self.items.insert(id, ModelItem::Held);
        self.writer().commit(&mut vec![commit]).expect("a commit");
    }

    fn release(&mut self, key: usize, step: u64, content: u8) {
        let id = self.id(key, step, 0);
        if self.items.get(&id) != Some(&ModelItem::Held) {
            return;
        }
        let (mut commit, source) = self.begin(key, step);
        commit.cursor = SourceCursor::None;
        self.image(&id, content, &mut commit, &source);
        self.writer().commit(&mut vec![commit]).expect("a commit");
    }

    fn prune(&mut self, which: &[bool], meanwhile: Option<(usize, u64, u8)>) {
        let items = self.reader().placed(&self.run.id).map(|item| item.expect("an item"));
        let images = items.filter(|(_, entry)| entry.as_image().is_some_and(|i| !i.pruned));
        let chosen = images.zip(which.iter().cycle()).filter(|(_, chosen)| **chosen);
        let chosen: Vec<_> = chosen.map(|((place, entry), _)| (place, entry.id())).collect();
        let places: BTreeSet<_> = chosen.iter().map(|(place, _)| *place).collect();
        let split = NamedFiles::without(self.reader(), &self.run.id, &places);
        let (named, images) = split.expect("an index");
        for (_, id) in chosen {
            self.items.insert(id.expect("a place"), ModelItem::Pruned);
        }
        if let Some((key, step, content)) = meanwhile {
            self.commit(key, step, &[content]);
        }
        // As a sweep does it: a few at a time.
        for group in images.chunks(2) {
            let failed = self.writer().prune(group, &named).expect("a prune");
            assert_eq!(failed, []);
        }
    }

    /// Removes files that no item names.
    fn sweep(&mut self, meanwhile: Option<(usize, u64, u8)>) {
        let split = NamedFiles::without(self.reader(), &self.run.id, &BTreeSet::new());
        let (named, _) = split.expect("an index");
        let files = self.files().into_keys();
        let is_named = |path: &PathBuf| path.to_str().is_some_and(|path| named.contains(path));
        let strays: Vec<PathBuf> = files.filter(|path| !is_named(path)).collect();
        if let Some((key, step, content)) = meanwhile {
            self.commit(key, step, &[content]);
        }
        let failed = self.writer().remove_strays(&strays, Duration::ZERO, &named);
        assert_eq!(failed.expect("a sweep"), []);
        if meanwhile.is_none() {
            let want: BTreeSet<PathBuf> = self.wanted().into_keys().collect();
            assert_eq!(self.files().into_keys().collect::<BTreeSet<_>>(), want);
        }
    }

    fn restart(&mut self, with_index: bool) {
        let (writer, reader) = self.store.take().expect("an open store");
        writer.close().expect("a closed store");
        drop(reader);
        if !with_index {
            remove_index(&self.root, &holder(), Duration::ZERO).expect("no index");
        }
        self.store = Some(open(&self.root, &holder(), Duration::ZERO).expect("a store"));
    }

    /// All media files of the run, relative to its folder.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let root = self.reader().run_folder(&self.run.id);
        let (mut folders, mut files) = (vec![root.join("media")], BTreeMap::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let bytes = fs::read(&path).expect("a file");
                    files.insert(path.strip_prefix(&root).expect("a file").to_owned(), bytes);
                }
            }
        }
        files
    }

    /// The files that images name.
    fn wanted(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let file = |(id, item): (&MediaId, &ModelItem)| match item {
            ModelItem::Image(content) => {
                Some((Self::path_of(id, *content).into(), bytes_of(*content)))
            }
            ModelItem::Held | ModelItem::Pruned => None,
        };
        self.items.iter().filter_map(file).collect()
    }

    /// Checks that the store has the items, and each image its file.
    fn check(&self) {
        let items = self.reader().placed(&self.run.id).map(|item| item.expect("an item").1);
        let items = items.map(|entry| {
            let id = entry.id().expect("a place");
            let item = match entry.as_image() {
                None => ModelItem::Held,
                Some(image) if image.pruned => ModelItem::Pruned,
                Some(image) => {
                    let is_content = |content: &u8| Self::path_of(&id, *content) == image.file.path;
                    ModelItem::Image((0..3).find(is_content).expect("a content"))
                }
            };
            (id, item)
        });
        assert_eq!(items.collect::<BTreeMap<_, _>>(), self.items);
        let files = self.files();
        for (path, bytes) in self.wanted() {
            assert_eq!(files.get(&path), Some(&bytes), "{}", path.display());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn each_image_has_its_file_and_a_sweep_leaves_no_other(actions in actions()) {
        // Regression: the file of an image was removed with an image of another key that shared it.
        let memory = tempfile::tempdir_in("/dev/shm");
        let folder = memory.or_else(|_| tempfile::tempdir()).expect("a folder");
        let mut model = Model::new(folder.path());
        for action in actions {
            match action {
                Action::Dump { key, step, contents } => model.commit(key, step, &contents),
                Action::Hold { key, step } => model.hold(key, step),
                Action::Release { key, step, content } => model.release(key, step, content),
                Action::Prune { which, meanwhile } => model.prune(&which, meanwhile),
                Action::Sweep { meanwhile } => model.sweep(meanwhile),
                Action::Restart { with_index } => model.restart(with_index),
            }
            model.check();
        }
        model.sweep(None);
        model.check();
    }
}
