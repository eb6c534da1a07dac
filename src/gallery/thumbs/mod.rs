//! `/t/SIZE/SHA20`: thumbnails, 128 or 256 pixels long.
//!
//! | module | content |
//! | --- | --- |
//! | `shrink` | makes a picture smaller, row by row |
//! | `make` | decodes, makes smaller, encodes |
//! | `memory` | the thumbnails that were used last |
//! | `packs`, `record` | thumbnails on disk |
//!
//! A thumbnail is made when it is first looked at, never at ingest. A small file is its own thumbnail.

mod make;
mod memory;
mod packs;
mod record;
mod shrink;

use std::io::{BufReader, Cursor};
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use self::make::{Made, MakeError};
use self::memory::Memory;
use self::packs::Packs;
use super::files::{
    FOR_EVER, N_DIGITS, RunFiles, content_type, etag_value, image_with, media_headers,
};
use super::params::Place;
use super::problem::Failure;
use super::{Gallery, Shared, ranges};
use crate::locks::lock;
use crate::media::{FileType, MediaFile, Sha256};

/// The bytes of thumbnails in memory.
const MEMORY_BYTES: usize = 32 << 20;

/// A file of at most so many bytes is its own thumbnail.
const OWN_BYTES_MAX: u64 = 8 << 10;

/// But not if it has more pixels: a browser decodes all of them.
const OWN_PIXELS_MAX: u64 = 1 << 20;

/// Nor if it is no larger than its thumbnail, but has more bytes: most of them are no pixels.
const SHORT_BYTES_MAX: u64 = 1 << 20;

/// A larger PNG is decoded from the disk.
const WHOLE_BYTES_MAX: u64 = 8 << 20;

/// The version of how thumbnails are made.
const VERSION: u8 = 1;

/// What a thumbnail is of, and its longest side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ThumbKey {
    sha256: Sha256,
    size: u16,
}

/// An encoded picture.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    pub(super) content_type: &'static str,
    pub(super) bytes: Bytes,
}

/// The thumbnails that were made.
#[derive(Debug)]
pub(crate) struct Thumbs {
    memory: Mutex<Memory>,
    packs: Packs,
}

impl Thumbs {
    /// The thumbnails of a store. `bytes_max` is `gallery.thumbnails_bytes_max`, and `free_bytes_min` is
    /// `store.free_bytes_min`.
    pub(crate) fn new(
        store: &FilePath,
        bytes_max: u64,
        free_bytes_min: Arc<Mutex<Option<u64>>>,
    ) -> Self {
        let memory = Mutex::new(Memory::new(MEMORY_BYTES));
        Self { memory, packs: Packs::new(store, bytes_max, free_bytes_min) }
    }

    fn get(&self, key: &ThumbKey) -> Option<Picture> {
        // The lock is not held while the disk is read.
        let in_memory = lock(&self.memory).get(key);
        in_memory.or_else(|| {
            let picture = self.packs.get(key)?;
            lock(&self.memory).put(*key, picture.clone());
            Some(picture)
        })
    }

    fn put(&self, key: ThumbKey, made: Made) -> Picture {
        let Made { file_type, bytes } = made;
        self.packs.put(key, file_type, &bytes);
        let picture = Picture { content_type: content_type(file_type), bytes: bytes.into() };
        lock(&self.memory).put(key, picture.clone());
        picture
    }
}

/// The longest side of a thumbnail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ThumbSize(u16);

impl ThumbSize {
    /// Reads a size: 128 or 256.
    pub(super) fn of_text(text: &str) -> Option<Self> {
        match text {
            "128" => Some(Self(128)),
            "256" => Some(Self(256)),
            _ => None,
        }
    }
}

pub(super) fn routes() -> Router<Gallery> {
    Router::new().route("/t/{size}/{name}", get(thumbnail))
}

async fn thumbnail(
    State(gallery): State<Gallery>,
    Path((size, sha20)): Path<(String, String)>,
    place: Place,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let no_size = || Failure::not_found(format!("got the size {size:?}, want 128 or 256"));
    let size = ThumbSize::of_text(&size).ok_or_else(no_size)?;
    if sha20.len() != N_DIGITS {
        return Err(Failure::not_found(format!("got {sha20:?}, want 20 digits")));
    }
    let find = move |shared: &Shared| {
        let file = image_with(shared, &place, &sha20)?.file;
        let etag = format!("\"{}-{}-{VERSION}\"", file.sha256, size.0);
        if ranges::is_known(&headers, &etag) {
            return Ok((place, file, etag, None, true));
        }
        let ready = ready(shared, &RunFiles::open(shared, &place.run)?, &file, size)?;
        Ok((place, file, etag, ready, false))
    };
    let (place, file, etag, ready, is_known) = gallery.read(find).await?;
    let head = [(header::ETAG, etag_value(&etag)), (header::CACHE_CONTROL, FOR_EVER)];
    if is_known {
        return Ok((StatusCode::NOT_MODIFIED, head).into_response());
    }
    let picture = if let Some(picture) = ready {
        picture
    } else {
        let make =
            move |shared: &Shared| made(shared, &RunFiles::open(shared, &place.run)?, &file, size);
        gallery.make(make).await?
    };
    let mut response = (head, media_headers(picture.content_type), picture.bytes).into_response();
    response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
    Ok(response)
}

/// Whether a file is its own thumbnail.
fn is_own(file: &MediaFile, ThumbSize(size): ThumbSize) -> bool {
    let n_pixels = u64::from(file.width) * u64::from(file.height);
    let is_short = file.width.max(file.height) <= u32::from(size);
    (is_short && file.size <= SHORT_BYTES_MAX)
        || (file.size <= OWN_BYTES_MAX && n_pixels <= OWN_PIXELS_MAX)
}

/// Whether a media file is read for its thumbnail.
pub(super) fn needs_file(shared: &Shared, file: &MediaFile, size: ThumbSize) -> bool {
    let has_thumbnail = || shared.thumbs.get(&ThumbKey { sha256: file.sha256, size: size.0 });
    file.file_type != FileType::Tiff && (is_own(file, size) || has_thumbnail().is_none())
}

/// Returns the thumbnail of a media file if it need not be made.
///
/// # Errors
/// If the file is its own thumbnail and missing or damaged; 415 if browsers do not show its type.
pub(super) fn ready(
    shared: &Shared,
    files: &RunFiles,
    file: &MediaFile,
    size: ThumbSize,
) -> Result<Option<Picture>, Failure> {
    if file.file_type == FileType::Tiff {
        return Err(no_thumbnail("browsers do not show TIFF"));
    }
    if is_own(file, size) {
        let bytes = files.read(file.into())?.into();
        return Ok(Some(Picture { content_type: content_type(file.file_type), bytes }));
    }
    let picture = shared.thumbs.get(&ThumbKey { sha256: file.sha256, size: size.0 });
    if picture.is_none() {
        // The threads that make thumbnails are few, and must not wait for an object store.
        files.prepare(file.into())?;
    }
    Ok(picture)
}

/// Returns the thumbnail of a media file that [`ready`] does not have. Makes it unless another request made it
/// meanwhile.
///
/// # Errors
/// If the file is missing or damaged; 413 if it takes too much memory; 415 if it cannot be decoded.
pub(super) fn made(
    shared: &Shared,
    files: &RunFiles,
    file: &MediaFile,
    size: ThumbSize,
) -> Result<Picture, Failure> {
    let key = ThumbKey { sha256: file.sha256, size: size.0 };
    if let Some(picture) = shared.thumbs.get(&key) {
        return Ok(picture);
    }
    let n_threads = u64::try_from(shared.config.n_threads.max(1)).unwrap_or(1);
    let bytes_max = shared.config.memory_bytes_max / n_threads;
    let made = make(files, file, size, bytes_max)?;
    Ok(shared.thumbs.put(key, made))
}

fn make(
    files: &RunFiles,
    file: &MediaFile,
    size: ThumbSize,
    bytes_max: u64,
) -> Result<Made, Failure> {
    let longest = u32::from(size.0);
    let failure = |error: MakeError| match error {
        MakeError::Memory { needed, allowed } => {
            Failure::too_large(needed, allowed, "the decoded picture")
        }
        error => no_thumbnail(&error.to_string()),
    };
    let is_png = file.file_type == FileType::Png;
    if is_png && file.size > WHOLE_BYTES_MAX {
        files.check(file.into())?;
        let opened = BufReader::with_capacity(64 << 10, files.open_file(file.into())?);
        let made = make::of_png(opened, longest, bytes_max).map_err(failure)?;
        if let Some(made) = made {
            return Ok(made);
        }
    }
    if !is_png {
        let n_pixels = u64::from(file.width) * u64::from(file.height);
        make::check_pixels(n_pixels, make::PIXELS_MAX).map_err(failure)?;
    }
    make::check_memory(file.size, bytes_max / 2).map_err(failure)?;
    let bytes = files.read(file.into())?;
    let left = bytes_max - file.size;
    let made = if is_png {
        make::of_png(Cursor::new(&bytes), longest, left).map_err(failure)?
    } else {
        None
    };
    made.map_or_else(|| make::of_any(&bytes, longest, left).map_err(failure), Ok)
}

fn no_thumbnail(why: &str) -> Failure {
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let detail = format!("there is no thumbnail: {why}");
    Failure::new(status, "no-thumbnail", "the picture has no thumbnail", detail)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Got, TestFile, TestStore, get};
    use super::*;
    use crate::convert::Pixels;
    use crate::encode::{self, Encoding, encode};
    use crate::media::ColorMode;

    const AT: (&str, u64, u32) = ("val/pred", 120, 0);

    fn noise(width: u32, height: u32) -> Vec<u8> {
        let mut state = 1u32;
        let sample = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        let bytes = (0..width * height * 3).map(sample).collect();
        let pixels = Pixels { mode: ColorMode::Rgb, width, height, bytes };
        encode(&pixels, Encoding::default()).expect("a file").bytes
    }

    /// A chunk of a PNG.
    pub(super) fn chunk(name: [u8; 4], bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).expect("a length").to_be_bytes();
        let crc = crc32fast::hash(&[&name[..], bytes].concat()).to_be_bytes();
        [&length, &name[..], bytes, &crc].concat()
    }

    async fn ask(
        gallery: &Gallery,
        store: &TestStore,
        name: &str,
        headers: &[(&str, &str)],
    ) -> Got {
        get(gallery, &format!("/t/{name}?{}", store.place(AT)), headers).await
    }

    #[tokio::test]
    async fn a_large_picture_gets_a_thumbnail_that_is_kept() {
        let mut store = TestStore::new();
        let file = noise(400, 300);
        let (path, sha20) = store.image(AT, TestFile::new(FileType::Png, &file, (400, 300)));
        let gallery = store.gallery();
        let name = format!("128/{sha20}");
        let got = ask(&gallery, &store, &name, &[]).await;
        assert_eq!((got.status, got.header("content-type")), (StatusCode::OK, "image/jpeg"));
        let picture = encode::read(got.body(), 1 << 20).expect("a picture");
        assert_eq!((picture.width, picture.height), (128, 96));
        assert_eq!(got.header("cache-control"), "private, max-age=31536000, immutable");
        assert_eq!(got.header("content-security-policy"), "default-src 'none'; sandbox");
        let known = ask(&gallery, &store, &name, &[("if-none-match", got.header("etag"))]).await;
        assert_eq!(known.status, StatusCode::NOT_MODIFIED);
        let large = ask(&gallery, &store, &format!("256/{sha20}"), &[]).await;
        assert_ne!(large.header("etag"), got.header("etag"));
        // Neither this process nor the next one needs the file again.
        std::fs::remove_file(store.run_folder().join(path)).expect("removed");
        assert_eq!(ask(&gallery, &store, &name, &[]).await.body(), got.body());
        drop(gallery);
        let next = store.gallery();
        assert_eq!(ask(&next, &store, &name, &[]).await.body(), got.body());
        assert_eq!(ask(&next, &store, &format!("256/{sha20}"), &[]).await.body(), large.body());
    }

    #[tokio::test]
    async fn a_small_file_is_its_own_thumbnail() {
        let mut store = TestStore::new();
        let file = noise(128, 100);
        let (_, sha20) = store.image(AT, TestFile::new(FileType::Png, &file, (128, 100)));
        let got = ask(&store.gallery(), &store, &format!("128/{sha20}"), &[]).await;
        assert_eq!((got.body(), got.header("content-type")), (&file[..], "image/png"));
        assert!(!store.folder.path().join("cache").is_dir(), "nothing was written");
    }

    #[tokio::test]
    async fn what_has_no_thumbnail_says_why() {
        let mut store = TestStore::new();
        let long = vec![b'x'; 9000];
        for (file_type, bytes, size, want) in [
            (FileType::Tiff, &b"II*"[..], (3, 3), (415, "no-thumbnail")),
            // Its digest is right, but it is no PNG.
            (FileType::Png, &long, (400, 400), (415, "no-thumbnail")),
            (FileType::Jpg, &long, (400, 400), (415, "no-thumbnail")),
            (FileType::Webp, &long, (10_000, 10_000), (415, "no-thumbnail")),
            (FileType::Png, &noise(30_000, 1)[..], (30_000, 1), (200, "")),
        ] {
            let (_, sha20) = store.image(AT, TestFile::new(file_type, bytes, size));
            let got = ask(&store.gallery(), &store, &format!("128/{sha20}"), &[]).await;
            let code = if got.status == StatusCode::OK { String::new() } else { got.code() };
            assert_eq!((got.status.as_u16(), code.as_str()), want, "{file_type} {size:?}");
        }
        for name in ["64/00000000000000000000", "128/0000"] {
            let got = ask(&store.gallery(), &store, name, &[]).await;
            assert_eq!(got.status, StatusCode::NOT_FOUND);
        }
        let got = ask(&store.gallery(), &store, "128/00000000000000000000", &[]).await;
        assert_eq!((got.status, got.code().as_str()), (StatusCode::GONE, "replaced"));
    }

    #[tokio::test]
    async fn a_large_file_is_decoded_from_the_disk() {
        let mut store = TestStore::new();
        let small = noise(400, 300);
        let n_bytes = usize::try_from(WHOLE_BYTES_MAX).expect("a length");
        let text = chunk(*b"tEXt", &[&b"Comment\0"[..], &vec![b'x'; n_bytes]].concat());
        // After the signature and the header.
        let large = [&small[..33], &text, &small[33..]].concat();
        let (_, of_small) = store.image(AT, TestFile::new(FileType::Png, &small, (400, 300)));
        let gallery = store.gallery();
        let want = ask(&gallery, &store, &format!("128/{of_small}"), &[]).await;
        let (path, of_large) = store.image(AT, TestFile::new(FileType::Png, &large, (400, 300)));
        let got = ask(&gallery, &store, &format!("128/{of_large}"), &[]).await;
        assert_eq!((got.status, got.body()), (StatusCode::OK, want.body()));
        // Its digest counts, too.
        let mut other = large;
        other[1000] ^= 1;
        std::fs::write(store.run_folder().join(path), &other).expect("a file");
        let got = ask(&gallery, &store, &format!("256/{of_large}"), &[]).await;
        assert_eq!((got.status.as_u16(), got.code().as_str()), (500, "damaged"));
    }

    #[tokio::test]
    async fn a_damaged_file_makes_no_thumbnail() {
        let mut store = TestStore::new();
        let mut file = noise(400, 300);
        let (path, sha20) = store.image(AT, TestFile::new(FileType::Png, &file, (400, 300)));
        let last = file.len() - 20;
        file[last] ^= 1;
        std::fs::write(store.run_folder().join(path), &file).expect("a file");
        let got = ask(&store.gallery(), &store, &format!("128/{sha20}"), &[]).await;
        assert_eq!((got.status.as_u16(), got.code().as_str()), (500, "damaged"));
    }
}
