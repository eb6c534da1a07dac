//! `/m/SHA20.EXT`: media files as they are.
//!
//! The journal's path is opened beneath the run's `media` folder, without links. A file is sent only if it has the
//! journaled size and digest, because browsers keep it for a year. The last piece of a large file waits for the
//! digest; a part of one is sent without.

mod send;

use std::fs::File;
use std::path::{Component, Path as FilePath};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;

pub(super) use self::send::{Sent, Wanted, send};
use super::item::entry_at;
use super::params::Place;
use super::problem::Failure;
use super::{Gallery, Shared};
use crate::fleet::FleetFiles;
use crate::media::{CommittedImage, Fate, FileType, RunId, Sha256};
use crate::store::media_check::{Damage, MediaFiles, NamedFile};

/// The length of the digits in an address.
pub(super) const N_DIGITS: usize = 20;

/// What may be done with an answer whose address names its content.
pub(super) const FOR_EVER: HeaderValue =
    HeaderValue::from_static("private, max-age=31536000, immutable");

/// Nothing in a media file is run or loaded, whatever it is.
const MEDIA_POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; sandbox");

pub(super) fn routes() -> Router<Gallery> {
    Router::new().route("/m/{name}", get(media_file))
}

/// The content type of a media file. Never one that a browser runs.
pub(super) const fn content_type(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Png => "image/png",
        FileType::Jpg | FileType::Jpeg => "image/jpeg",
        FileType::Bmp => "image/bmp",
        FileType::Webp => "image/webp",
        FileType::Gif => "image/gif",
        FileType::Tiff => "image/tiff",
    }
}

/// The digits of a digest that addresses and file names have.
pub(super) fn digits(sha256: Sha256) -> String {
    format!("{sha256:.N_DIGITS$}")
}

/// The headers of an answer with a picture.
pub(super) fn media_headers(content_type: &'static str) -> [(HeaderName, HeaderValue); 2] {
    [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_SECURITY_POLICY, MEDIA_POLICY),
    ]
}

/// Finds the image at a place.
///
/// # Errors
/// 404 if there is none; 410 if retention removed its files.
pub(super) fn image_at(shared: &Shared, place: &Place) -> Result<CommittedImage, Failure> {
    let is_none = |fate: &str| {
        let Place { run, key, step, index } = place;
        let (run, key) = (run.as_str(), key.as_str());
        let at = format!("index {index} of step {step} of {key:?} in {run:?}");
        Err(Failure::not_found(format!("the item at {at} {fate}")))
    };
    match entry_at(shared, place)?.fate {
        Fate::Image(image) if image.pruned => Err(Failure::pruned()),
        Fate::Image(image) => Ok(*image),
        Fate::Held { .. } => is_none("is held"),
        Fate::Rejected { .. } => is_none("was rejected"),
    }
}

/// Finds the image at a place whose media file has these digits.
///
/// # Errors
/// As [`image_at`]; 410 if the digits are others now.
pub(super) fn image_with(
    shared: &Shared,
    place: &Place,
    sha20: &str,
) -> Result<CommittedImage, Failure> {
    let image = image_at(shared, place)?;
    let present = digits(image.file.sha256);
    if present == sha20 { Ok(image) } else { Err(Failure::replaced(&present)) }
}

/// The media files of a run.
pub(super) struct RunFiles {
    files: MediaFiles,
    /// Where they come from, if the run is one of a fleet.
    fleet: Option<(Arc<FleetFiles>, RunId)>,
}

impl RunFiles {
    /// Opens a run's folder.
    ///
    /// # Errors
    /// 404 if it is missing, 500 if it cannot be opened.
    pub(super) fn open(shared: &Shared, run: &RunId) -> Result<Self, Failure> {
        let folder = shared.reader.run_folder(run);
        let files = MediaFiles::open(&folder, Arc::default());
        let of_run = |damage| failure(&format!("the folder of {:?}", run.as_str()), &damage);
        let fleet = shared.fleet().map(|fleet| (fleet.files().clone(), run.clone()));
        Ok(Self { files: files.map_err(of_run)?, fleet })
    }

    /// Checks a path, and fetches its file from the object store if the run is one of a fleet.
    ///
    /// # Errors
    /// 404 if it is missing or not within `media`; of a fleet, as [`FleetFiles::fetch`].
    pub(super) fn prepare(&self, file: NamedFile<'_>) -> Result<(), Failure> {
        check_path(file.path)?;
        match &self.fleet {
            Some((files, run)) => Ok(files.fetch(run, file)?),
            None => Ok(()),
        }
    }

    /// Fetches files from the object store together, if the run is one of a fleet. One that cannot be fetched is left
    /// out.
    pub(super) fn fetch_all<'a>(&'a self, files: impl Iterator<Item = NamedFile<'a>>) {
        if let Some((fleet, run)) = &self.fleet {
            fleet.fetch_all(files.map(|file| (run, file)));
        }
    }

    /// Reads a file that has its size and digest.
    ///
    /// # Errors
    /// 404 if it is missing or not within `media`, 500 if it is damaged, 502 if the object store fails.
    pub(super) fn read(&self, file: NamedFile<'_>) -> Result<Vec<u8>, Failure> {
        self.prepare(file)?;
        self.files.read(file).map_err(|damage| failure(file.path, &damage))
    }

    /// Checks that a file has its size and digest.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn check(&self, file: NamedFile<'_>) -> Result<(), Failure> {
        self.prepare(file)?;
        self.files.check(file).map_err(|damage| failure(file.path, &damage))
    }

    /// Opens a file that has its size. Its digest is not known yet.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn open_file(&self, file: NamedFile<'_>) -> Result<File, Failure> {
        self.prepare(file)?;
        self.files.open_file(file).map_err(|damage| failure(file.path, &damage))
    }
}

/// Checks that a path of a journal, which may be another's, leads into the `media` folder.
fn check_path(path: &str) -> Result<(), Failure> {
    let is_plain =
        FilePath::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if is_plain && path.starts_with("media/") {
        return Ok(());
    }
    Err(Failure::not_found(format!("the journal names {path:?}, want a path within \"media\"")))
}

fn failure(what: &str, damage: &Damage) -> Failure {
    let detail = format!("{what}: {damage}. `safelight verify` lists what is wrong");
    if *damage == Damage::Missing {
        return Failure::not_found(detail);
    }
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Failure::new(status, "damaged", "the media file is damaged", detail)
}

async fn media_file(
    State(gallery): State<Gallery>,
    Path(name): Path<String>,
    place: Place,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let find = move |shared: &Shared| {
        let no_file = || Failure::not_found(format!("got {name:?}, want 20 digits and a suffix"));
        let parts = name.split_once('.').filter(|(sha20, _)| sha20.len() == N_DIGITS);
        let (sha20, suffix) = parts.ok_or_else(no_file)?;
        let file = image_with(shared, &place, sha20)?.file;
        if suffix != file.file_type.extension() {
            let want = file.file_type.extension();
            return Err(Failure::not_found(format!("got the suffix {suffix:?}, want {want:?}")));
        }
        let sent = Sent {
            content_type: content_type(file.file_type),
            cache: FOR_EVER,
            is_download: file.file_type == FileType::Tiff,
        };
        let (run, path) = (place.run, file.path);
        Ok(Wanted { run, path, size: file.size, sha256: file.sha256, sent })
    };
    send(&gallery, headers, find).await
}

/// An `ETag` of hexadecimal digits and quotes.
pub(super) fn etag_value(etag: &str) -> HeaderValue {
    HeaderValue::from_str(etag).unwrap_or(HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::super::testing::{Got, TestFile, TestStore, get};
    use super::*;

    const AT: (&str, u64, u32) = ("val/pred", 120, 0);

    fn png(bytes: &[u8]) -> TestFile<'_> {
        TestFile::new(FileType::Png, bytes, (4, 4))
    }

    async fn ask(store: &TestStore, name: &str, headers: &[(&str, &str)]) -> Got {
        let path = format!("/m/{name}?{}", store.place(AT));
        get(&store.gallery(), &path, headers).await
    }

    #[tokio::test]
    async fn a_file_is_sent_with_its_type_and_may_be_kept() {
        let mut store = TestStore::new();
        let (_, sha20) = store.image(AT, png(b"a picture"));
        let name = format!("{sha20}.png");
        let got = ask(&store, &name, &[]).await;
        assert_eq!((got.status, got.body()), (StatusCode::OK, &b"a picture"[..]));
        for (header, want) in [
            ("content-type", "image/png"),
            ("content-length", "9"),
            ("cache-control", "private, max-age=31536000, immutable"),
            ("content-security-policy", "default-src 'none'; sandbox"),
            ("accept-ranges", "bytes"),
        ] {
            assert_eq!(got.header(header), want);
        }
        let etag = got.header("etag");
        assert_eq!(etag, format!("\"{}\"", Sha256::of(b"a picture")));
        let known = ask(&store, &name, &[("if-none-match", etag)]).await;
        assert_eq!((known.status, known.body().len()), (StatusCode::NOT_MODIFIED, 0));
        assert_eq!(known.header("etag"), etag);
        let part = ask(&store, &name, &[("range", "bytes=2-4")]).await;
        assert_eq!((part.status, part.body()), (StatusCode::PARTIAL_CONTENT, &b"pic"[..]));
        assert_eq!(part.header("content-range"), "bytes 2-4/9");
        let beyond = ask(&store, &name, &[("range", "bytes=9-")]).await;
        assert_eq!(
            (beyond.status, beyond.code().as_str()),
            (StatusCode::RANGE_NOT_SATISFIABLE, "range")
        );
        assert_eq!(beyond.header("content-range"), "bytes */9");
        for name in [format!("{sha20}.jpg"), sha20.clone(), "..".to_owned()] {
            let other = ask(&store, &name, &[]).await;
            assert_eq!(other.status, StatusCode::NOT_FOUND, "{name}");
        }
    }

    #[tokio::test]
    async fn a_tiff_is_a_download() {
        let mut store = TestStore::new();
        let (_, sha20) = store.image(AT, TestFile::new(FileType::Tiff, b"II*", (1, 1)));
        let got = ask(&store, &format!("{sha20}.tiff"), &[]).await;
        assert_eq!(got.header("content-type"), "image/tiff");
        assert_eq!(got.header("content-disposition"), "attachment");
    }

    #[tokio::test]
    async fn a_replaced_or_pruned_image_is_gone() {
        let mut store = TestStore::new();
        let (_, old) = store.image(AT, png(b"old"));
        let (_, new) = store.image(AT, png(b"new"));
        let got = ask(&store, &format!("{old}.png"), &[]).await;
        assert_eq!((got.status, got.code().as_str()), (StatusCode::GONE, "replaced"));
        assert_eq!(got.json()["sha20"], new.as_str());
        assert_eq!(got.header("cache-control"), "no-store");
        store.prune(AT);
        let got = ask(&store, &format!("{new}.png"), &[]).await;
        assert_eq!((got.status, got.code().as_str()), (StatusCode::GONE, "pruned"));
        store.held(("val/pred", 120, 1));
        let held = format!("/m/{new}.png?{}", store.place(("val/pred", 120, 1)));
        let got = get(&store.gallery(), &held, &[]).await;
        assert_eq!(got.status, StatusCode::NOT_FOUND);
        assert_eq!(
            got.json()["detail"],
            "the item at index 1 of step 120 of \"val/pred\" in \"a/run\" is held"
        );
    }

    #[tokio::test]
    async fn a_large_file_is_streamed_and_breaks_if_its_digest_is_wrong() {
        let mut store = TestStore::new();
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i / 251).to_le_bytes()[0]).collect();
        let (path, sha20) = store.image(AT, png(&bytes));
        let name = format!("{sha20}.png");
        let got = ask(&store, &name, &[]).await;
        assert_eq!((got.status, got.header("content-length")), (StatusCode::OK, "3000000"));
        assert!(got.body() == bytes);
        let part = ask(&store, &name, &[("range", "bytes=1000000-2000000")]).await;
        assert!(part.body() == &bytes[1_000_000..=2_000_000]);
        let place = store.run_folder().join(path);
        let mut other = bytes;
        other[10] ^= 1;
        fs::write(&place, other).expect("a file");
        assert!(ask(&store, &name, &[]).await.bytes.is_none());
    }

    #[tokio::test]
    async fn nothing_but_the_journaled_file_is_sent() {
        let mut store = TestStore::new();
        let (path, sha20) = store.image(AT, png(b"a picture"));
        let (name, place) = (format!("{sha20}.png"), store.run_folder().join(path));
        let outside = store.folder.path().join("secret");
        fs::write(&outside, b"a picture").expect("a file");
        let folder = place.parent().expect("a folder").to_owned();
        let aside = store.folder.path().join("aside");
        let put = |bytes: &[u8]| fs::write(&place, bytes).expect("a file");
        for (change, status, detail) in [
            ("other", StatusCode::INTERNAL_SERVER_ERROR, "got SHA-256"),
            ("short", StatusCode::INTERNAL_SERVER_ERROR, "got 2 bytes, want 9"),
            ("gone", StatusCode::NOT_FOUND, "missing"),
            ("link", StatusCode::INTERNAL_SERVER_ERROR, "is a symbolic link"),
            (
                "behind a link",
                StatusCode::INTERNAL_SERVER_ERROR,
                "is a symbolic link or lies behind",
            ),
        ] {
            match change {
                "other" => put(b"a pictura"),
                "short" => put(b"a "),
                "gone" => fs::remove_file(&place).expect("removed"),
                "link" => symlink(&outside, &place).expect("a link"),
                _ => {
                    fs::remove_file(&place).expect("removed");
                    fs::write(&place, b"a picture").expect("a file");
                    fs::rename(&folder, &aside).expect("moved");
                    symlink(&aside, &folder).expect("a link");
                }
            }
            let got = ask(&store, &name, &[]).await;
            assert_eq!(got.status, status, "{change}");
            let found = got.json()["detail"].as_str().expect("text").to_owned();
            assert!(found.contains(detail), "{change}: {found}");
        }
    }

    #[tokio::test]
    async fn a_journal_that_names_another_file_gets_none() {
        let mut store = TestStore::new();
        for path in ["run.json", "media/../run.json", "media/./x.png", "mediax/x.png"] {
            store.image_at(TestStore::id(AT.0, AT.1, AT.2), path.to_owned(), png(b"{}"));
            let sha20 = digits(Sha256::of(b"{}"));
            let got = ask(&store, &format!("{sha20}.png"), &[]).await;
            let want = if path == "media/./x.png" { StatusCode::OK } else { StatusCode::NOT_FOUND };
            assert_eq!(got.status, want, "{path}");
        }
    }
}
