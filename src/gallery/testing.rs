//! A small store with images, and a gallery over it, for tests.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use tower::ServiceExt;

use super::{Gallery, GalleryOf, routes};
use crate::config::{Config, GalleryConfig, InEffect, Live};
use crate::media::{
    ColorMode, Description, FileType, Layers, MediaEntry, MediaFile, MediaId, MediaKey, RunId,
    Sha256, Source, Step,
};
use crate::store::journal::{self, Event, SourceCursor};
use crate::store::lock::Holder;
use crate::store::media_dir::{MediaFolder, media_path};
use crate::store::{Commit, NamedFiles, Reader, RunInfo, Writer, open};

/// A store of one run, `a/run`.
pub(super) struct TestStore {
    pub(super) folder: tempfile::TempDir,
    pub(super) run: RunId,
    pub(super) reader: Reader,
    writer: Writer,
    info: Arc<RunInfo>,
}

/// A media file to commit.
pub(super) struct TestFile<'a> {
    pub(super) file_type: FileType,
    pub(super) bytes: &'a [u8],
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) layers: Layers,
}

impl<'a> TestFile<'a> {
    /// A file of a picture.
    pub(super) fn new(file_type: FileType, bytes: &'a [u8], (width, height): (u32, u32)) -> Self {
        Self { file_type, bytes, width, height, layers: Layers::default() }
    }
}

/// What a request got.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// `None` if the connection broke.
    pub(super) bytes: Option<Bytes>,
}

impl Got {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub(super) fn body(&self) -> &[u8] {
        self.bytes.as_deref().expect("the whole body")
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.body()).expect("JSON")
    }

    /// The `code` of a problem.
    pub(super) fn code(&self) -> String {
        self.json()["code"].as_str().expect("a code").to_owned()
    }
}

impl TestStore {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let holder = Holder { pid: 1, command: "test".to_owned(), socket: None };
        let (writer, reader) = open(folder.path(), &holder, Duration::ZERO).expect("a store");
        let run = RunId::new("a/run").expect("an id");
        let info =
            RunInfo { id: run.clone(), source: "/runs/a".into(), identity: serde_json::Map::new() };
        Self { folder, run, reader, writer, info: Arc::new(info) }
    }

    /// The folder of the run in the store.
    pub(super) fn run_folder(&self) -> PathBuf {
        self.reader.run_folder(&self.run)
    }

    /// What is committed from now on is of another run, whose `safelight.json` has these fields.
    pub(super) fn next_run(&mut self, id: &str, identity: serde_json::Value) {
        let serde_json::Value::Object(identity) = identity else { panic!("want an object") };
        self.run = RunId::new(id).expect("an id");
        let source = format!("/runs/{id}").into();
        self.info = Arc::new(RunInfo { id: self.run.clone(), source, identity });
    }

    /// Sets when a run's journal was last written, in seconds since the Unix epoch.
    pub(super) fn set_changed(&self, run: &str, at: u64) {
        let run = RunId::new(run).expect("an id");
        let folder = journal::folder(&self.reader.run_folder(&run));
        let file = File::options().write(true).open(journal::segment_path(&folder, 1));
        let at = UNIX_EPOCH + Duration::from_secs(at);
        file.and_then(|file| file.set_modified(at)).expect("a journal");
    }

    pub(super) fn id(key: &str, step: u64, index: u32) -> MediaId {
        MediaId { key: MediaKey::new(key).expect("a key"), step: Step(step), index }
    }

    /// Commits an image. Returns the path of its file, relative to the run's folder, and its digits.
    pub(super) fn image(
        &mut self,
        (key, step, index): (&str, u64, u32),
        file: TestFile<'_>,
    ) -> (String, String) {
        let id = Self::id(key, step, index);
        let sha256 = Sha256::of(file.bytes);
        let suffix = file.file_type.extension();
        let path = media_path(MediaFolder::Images, &id, sha256, suffix);
        self.image_at(id, path.clone(), file);
        (path, format!("{sha256:.20}"))
    }

    /// Commits an image whose journal line names this path.
    pub(super) fn image_at(&mut self, id: MediaId, path: String, file: TestFile<'_>) {
        let TestFile { file_type, bytes, width, height, layers } = file;
        let staged = self.writer.staging().write(&self.run, &path, bytes).expect("a file");
        let file = MediaFile {
            path,
            file_type,
            mode: Some(ColorMode::Rgb),
            width,
            height,
            size: bytes.len() as u64,
            sha256: Sha256::of(bytes),
            downscaled_from: None,
        };
        let (description, source) = (Description::default(), Source::default());
        let entry = MediaEntry::image(id, file, None, layers, description, source);
        self.commit(entry, vec![staged]);
    }

    /// Puts a file beside the images, as a commit does. Returns its path.
    pub(super) fn file(&mut self, path: &str, bytes: &[u8]) {
        let place = self.run_folder().join(path);
        std::fs::create_dir_all(place.parent().expect("a folder")).expect("a folder");
        std::fs::write(place, bytes).expect("a file");
    }

    /// Commits a held item.
    pub(super) fn held(&mut self, (key, step, index): (&str, u64, u32)) {
        let (description, source) = (Description::default(), Source::default());
        let id = Self::id(key, step, index);
        self.commit(MediaEntry::held(id, "max_items".to_owned(), description, source), Vec::new());
    }

    /// Commits a rejected item.
    pub(super) fn rejected(&mut self, (key, step, index): (&str, u64, u32)) {
        let id = Self::id(key, step, index);
        let (description, source) = (Description::default(), Source::default());
        let place = Some((id.key, id.step, Some(id.index)));
        let entry = MediaEntry::rejected(place, "no image".to_owned(), description, source);
        self.commit(entry, Vec::new());
    }

    /// Commits that a place has no image any more.
    pub(super) fn gone(&mut self, (key, step, index): (&str, u64, u32)) {
        let id = Self::id(key, step, index);
        self.commit_event(Event::Gone { id, path: None }, Vec::new());
    }

    fn commit(&mut self, entry: MediaEntry, files: Vec<crate::store::media_dir::Staged>) {
        self.commit_event(Event::Media(Box::new(entry)), files);
    }

    fn commit_event(&mut self, event: Event, files: Vec<crate::store::media_dir::Staged>) {
        let (run, cursor) = (self.info.clone(), SourceCursor::None);
        let events = vec![event];
        let mut group = vec![Commit { run, events, files, cursor }];
        self.writer.commit(&mut group).expect("a commit");
    }

    /// Prunes an image.
    pub(super) fn prune(&mut self, (key, step, index): (&str, u64, u32)) {
        let id = Self::id(key, step, index);
        let placed = self.reader.placed(&self.run).map(|item| item.expect("an item"));
        let places: BTreeSet<_> =
            placed.filter(|(_, entry)| entry.id() == Some(id.clone())).map(|(at, _)| at).collect();
        let (named, images) =
            NamedFiles::without(&self.reader, &self.run, &places).expect("an index");
        assert_eq!(images.len(), 1);
        self.writer.prune(&images, &named).expect("a prune");
    }

    /// A gallery over the store.
    pub(super) fn gallery(&self) -> Gallery {
        let Config { boot, live } = Config::default();
        self.gallery_by(boot.gallery, live)
    }

    /// A gallery over the store, with these settings.
    pub(super) fn gallery_by(&self, config: GalleryConfig, live: Live) -> Gallery {
        let free_bytes_min = Arc::new(Mutex::new(Some(0)));
        let (of, pace) = (GalleryOf::Store(self.reader.clone()), Arc::default());
        let in_effect = InEffect::new(live);
        Gallery::new(of, config, in_effect, pace, free_bytes_min, None, false).expect("threads")
    }

    /// `run=…&key=…&step=…&index=…`.
    pub(super) fn place(&self, (key, step, index): (&str, u64, u32)) -> String {
        let (step, index) = (step.to_string(), index.to_string());
        let place = [("run", self.run.as_str()), ("key", key), ("step", &step), ("index", &index)];
        serde_urlencoded::to_string(place).expect("text")
    }
}

/// Asks a gallery for a path and query.
pub(super) async fn get(gallery: &Gallery, path: &str, headers: &[(&str, &str)]) -> Got {
    let mut request = Request::get(path).header(header::HOST, "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).expect("a request");
    let response = routes(gallery).oneshot(request).await.expect("an answer");
    let (head, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.ok();
    Got { status: head.status, headers: head.headers, bytes }
}
