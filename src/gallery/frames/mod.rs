//! `/api/v1/frames`: the thumbnails of many steps in one answer, because browsers have few connections.
//!
//! For each frame:
//!
//! ```text
//! u32     length of the head, little-endian
//! head    `FrameHead` in JSON
//! bytes   the picture, `size` of them
//! ```
//!
//! For each of the steps, and each run, key and index, there is the image at the greatest step up to it at which the
//! key has anything. Each image comes once. The order is that of the steps, then of the runs, the keys and the indices,
//! so that a page asks for what it needs first. Frames are sent while further ones are made. The answer ends early at
//! its limit of bytes, or if newer requests push it out. Then frames are missing at its end.

mod wanted;

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;

use self::wanted::{At, Wanted};
use super::api::{FrameHead, StepNumber};
use super::files::{RunFiles, digits};
use super::limits::LIMITS;
use super::params::Params;
use super::problem::Failure;
use super::thumbs::{self, Picture};
use super::{Gallery, Shared};
use crate::fleet::OBJECTS_AT_ONCE;
use crate::media::{Fate, MediaEntry, MediaFile, Step};

/// The bytes of frames that are read at a time.
const PIECE_BYTES: usize = 64 << 10;

/// How long frames are read at a time. Then newer requests have their turn.
const PIECE_TIME: Duration = Duration::from_millis(20);

pub(super) fn routes() -> Router<Gallery> {
    Router::new().route("/api/v1/frames", get(frames))
}

/// Appends a frame.
fn push_frame(out: &mut Vec<u8>, head: &FrameHead, bytes: &[u8]) {
    // A head of texts and numbers can be written.
    let head = serde_json::to_vec(head).unwrap_or_default();
    let Ok(length) = u32::try_from(head.len()) else { return };
    out.extend(length.to_le_bytes());
    out.extend(head);
    out.extend(bytes);
}

/// How far an answer is.
struct Progress {
    wanted: Arc<Wanted>,
    /// The next place.
    place: usize,
    /// The images that were found: the number of their run, key and index, and their step.
    found: HashSet<(usize, Step)>,
    /// The images that were found and not sent yet.
    ahead: VecDeque<Found>,
    /// The files of each run.
    files: Vec<Option<Arc<RunFiles>>>,
    n_bytes: usize,
    is_full: bool,
}

/// What there is at a place.
struct Found {
    n_run: usize,
    head: FrameHead,
    /// `None` if it has no picture.
    file: Option<MediaFile>,
}

/// The next part of an answer.
enum Piece {
    Frames(Vec<u8>),
    /// A frame whose thumbnail is not there yet.
    ToMake(Box<ToMake>),
    End,
}

/// A frame without its picture.
struct ToMake {
    head: FrameHead,
    file: MediaFile,
    files: Arc<RunFiles>,
}

impl Progress {
    fn new(wanted: Wanted) -> Self {
        let files = wanted.runs.iter().map(|_| None).collect();
        let (wanted, found, ahead) = (Arc::new(wanted), HashSet::new(), VecDeque::new());
        Self { wanted, place: 0, found, ahead, files, n_bytes: 0, is_full: false }
    }

    /// Reads the next frames.
    fn piece(&mut self, shared: &Shared) -> Result<Piece, Failure> {
        let start = Instant::now();
        let mut out = Vec::new();
        while !self.is_full && out.len() < PIECE_BYTES && start.elapsed() < PIECE_TIME {
            if self.ahead.is_empty() && !self.look_ahead(shared, start)? {
                break;
            }
            let Some(Found { n_run, head, file }) = self.ahead.pop_front() else { continue };
            let Some(file) = file else {
                self.push(&mut out, head, None);
                continue;
            };
            let ready = match self.files(shared, n_run) {
                Ok(files) => thumbs::ready(shared, &files, &file, self.wanted.size)
                    .map(|picture| (files, picture)),
                Err(failure) => Err(failure),
            };
            match ready {
                Ok((_, Some(picture))) => self.push(&mut out, head, Some(picture)),
                Ok((files, None)) if out.is_empty() => {
                    return Ok(Piece::ToMake(Box::new(ToMake { head, file, files })));
                }
                Ok((_, None)) => {
                    // Those before it are sent meanwhile.
                    self.ahead.push_front(Found { n_run, head, file: Some(file) });
                    break;
                }
                // The page of the item says why.
                Err(_) => self.push(&mut out, head, None),
            }
        }
        let is_over = self.ahead.is_empty() && self.wanted.at(self.place).is_none();
        let is_end = out.is_empty() && (self.is_full || is_over);
        Ok(if is_end { Piece::End } else { Piece::Frames(out) })
    }

    /// Finds the next images, and fetches their files together if they come from an object store. Returns false if all
    /// places were looked at before.
    fn look_ahead(&mut self, shared: &Shared, start: Instant) -> Result<bool, Failure> {
        let (wanted, first) = (self.wanted.clone(), self.place);
        while let Some(at) = wanted.at(self.place)
            && self.ahead.len() < OBJECTS_AT_ONCE
            && start.elapsed() < PIECE_TIME
        {
            let series = wanted.series(self.place);
            let step = shared.reader.step_up_to(at.run, at.key, at.step)?;
            if let Some(step) = step.filter(|step| !self.found.contains(&(series, *step))) {
                self.ahead.extend(find(shared, &At { step, ..at })?);
                self.found.insert((series, step));
            }
            self.place += 1;
        }
        if let Some(fleet) = shared.fleet() {
            let size = wanted.size;
            fleet.files().fetch_all(self.ahead.iter().filter_map(|found| {
                let run = wanted.runs.get(found.n_run)?;
                let file = found.file.as_ref()?;
                thumbs::needs_file(shared, file, size).then(|| (run, file.into()))
            }));
        }
        Ok(self.place > first)
    }

    fn files(&mut self, shared: &Shared, n_run: usize) -> Result<Arc<RunFiles>, Failure> {
        if let Some(files) = &self.files[n_run] {
            return Ok(files.clone());
        }
        let files = Arc::new(RunFiles::open(shared, &self.wanted.runs[n_run])?);
        self.files[n_run] = Some(files.clone());
        Ok(files)
    }

    /// Appends a frame, unless the answer becomes too long.
    fn push(&mut self, out: &mut Vec<u8>, mut head: FrameHead, picture: Option<Picture>) {
        let bytes = picture.map(|Picture { content_type, bytes }| {
            content_type.clone_into(&mut head.content_type);
            bytes
        });
        let bytes = bytes.unwrap_or_default();
        head.size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let before = out.len();
        push_frame(out, &head, &bytes);
        let n = out.len() - before;
        if self.n_bytes + n > LIMITS.frames_bytes_max as usize {
            self.is_full = true;
            out.truncate(before);
        } else {
            self.n_bytes += n;
        }
    }
}

/// Finds the image at a place, or what is there instead. `None` if there is nothing.
fn find(shared: &Shared, at: &At<'_>) -> Result<Option<Found>, Failure> {
    let &At { n_run, run, key, step, index } = at;
    let mut head = FrameHead {
        run: run.as_str().to_owned(),
        key: key.as_str().to_owned(),
        step: StepNumber(step.0),
        index,
        sha20: String::new(),
        content_type: String::new(),
        size: 0,
        width: 0,
        height: 0,
    };
    let file = match shared.reader.item(run, key, step, index)? {
        Some(MediaEntry { fate: Fate::Image(image), .. }) => {
            let file = image.file;
            head.sha20 = digits(file.sha256);
            (head.width, head.height) = (file.width, file.height);
            (!image.pruned).then_some(file)
        }
        Some(_) => None,
        None => return Ok(None),
    };
    Ok(Some(Found { n_run, head, file }))
}

/// Returns the next frames, and how far the answer is then. `None` at its end.
async fn next(
    gallery: &Gallery,
    mut progress: Progress,
) -> Result<Option<(Vec<u8>, Progress)>, Failure> {
    loop {
        let read = move |shared: &Shared| Ok((progress.piece(shared)?, progress));
        let (piece, after) = gallery.read(read).await?;
        progress = after;
        let frames = match piece {
            Piece::End => return Ok(None),
            Piece::Frames(frames) => frames,
            Piece::ToMake(to_make) => {
                let ToMake { head, file, files } = *to_make;
                let size = progress.wanted.size;
                let make =
                    move |shared: &Shared| Ok(thumbs::made(shared, &files, &file, size).ok());
                let picture = gallery.make(make).await?;
                let mut frame = Vec::new();
                progress.push(&mut frame, head, picture);
                frame
            }
        };
        if !frames.is_empty() {
            return Ok(Some((frames, progress)));
        }
    }
}

async fn frames(State(gallery): State<Gallery>, params: Params) -> Result<Response, Failure> {
    let wanted = Wanted::new(params)?;
    // If this fails, the client reads why. Later, the answer ends.
    let first = next(&gallery, Progress::new(wanted)).await?;
    let (first, progress) = first.unzip();
    let pieces = stream::unfold((first, progress), move |(ready, progress)| {
        let gallery = gallery.clone();
        async move {
            if let Some(ready) = ready {
                return Some((Ok::<_, Infallible>(ready), (None, progress)));
            }
            let (piece, progress) = next(&gallery, progress?).await.ok()??;
            Some((Ok(piece), (None, Some(progress))))
        }
    });
    let head =
        [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((head, Body::from_stream(pieces)).into_response())
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use serde_json::Value;

    use super::super::testing::{Got, TestFile, TestStore, get};
    use super::*;
    use crate::convert::Pixels;
    use crate::encode::{Encoding, encode};
    use crate::media::{ColorMode, FileType, Sha256};

    /// The frames of an answer: heads and pictures.
    fn read(mut bytes: &[u8]) -> Vec<(Value, &[u8])> {
        let mut frames = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk() {
            let (head, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
            let head: Value = serde_json::from_slice(head).expect("a head");
            let size = usize::try_from(head["size"].as_u64().expect("a size")).expect("a size");
            let (picture, rest) = rest.split_at(size);
            frames.push((head, picture));
            bytes = rest;
        }
        assert!(bytes.is_empty());
        frames
    }

    const BAD_INDEX: &str =
        "got \"\" in \"index\", want indices or ranges such as 0-23, with commas between them";

    fn small(bytes: &[u8]) -> TestFile<'_> {
        TestFile::new(FileType::Png, bytes, (28, 28))
    }

    async fn ask(gallery: &Gallery, query: &str) -> Got {
        get(gallery, &format!("/api/v1/frames?run=a%2Frun&{query}"), &[]).await
    }

    #[tokio::test]
    async fn each_step_gets_the_image_at_or_before_it_once() {
        let mut store = TestStore::new();
        for (key, step) in [("a", 10), ("a", 20), ("b", 15), ("a", 40)] {
            store.image((key, step, 0), small(format!("{key} {step}").as_bytes()));
        }
        store.held(("a", 30, 0));
        store.image(("b", 25, 1), small(b"another index"));
        store.prune(("a", 40, 0));
        let query = "key=a&key=b&key=none&steps=20,9,29,31,50";
        let got = ask(&store.gallery(), query).await;
        assert_eq!((got.status, got.header("cache-control")), (StatusCode::OK, "no-store"));
        let frames = read(got.body());
        let told: Vec<_> = frames
            .iter()
            .map(|(head, picture)| {
                let (key, step) = (head["key"].as_str(), head["step"].as_u64());
                let picture = std::str::from_utf8(picture).expect("text");
                (key.unwrap_or(""), step.unwrap_or(0), picture)
            })
            .collect();
        let want = [
            ("a", 20, "a 20"),
            ("b", 15, "b 15"),
            // Step 9 is before all of them, and step 25 of `b` has no index 0.
            ("a", 30, ""),
            ("a", 40, ""),
        ];
        assert_eq!(told, want);
        let (first, _) = &frames[0];
        let want = serde_json::json!({
            "run": "a/run", "key": "a", "step": 20, "index": 0, "sha20": digits(Sha256::of(b"a 20")),
            "type": "image/png", "size": 4, "width": 28, "height": 28,
        });
        assert_eq!(*first, want);
        let other = ask(&store.gallery(), "key=b&steps=25&index=1").await;
        assert_eq!(read(other.body())[0].1, b"another index");
        assert!(ask(&store.gallery(), "key=none&steps=25").await.body().is_empty());
    }

    #[tokio::test]
    async fn a_request_may_have_many_indices() {
        let mut store = TestStore::new();
        for (key, step, index) in
            [("a", 1, 0), ("a", 1, 1), ("a", 1, 3), ("b", 1, 1), ("a", 2, 1), ("b", 2, 3)]
        {
            store.image((key, step, index), small(format!("{key} {step} {index}").as_bytes()));
        }
        let gallery = store.gallery();
        let told = async |query: &str| {
            let got = ask(&gallery, query).await;
            assert_eq!(got.status, StatusCode::OK, "{query}");
            let frames = read(got.body());
            let told = frames.iter().map(|(head, picture)| {
                let picture = std::str::from_utf8(picture).expect("text");
                let head = (&head["key"], &head["step"], &head["index"]);
                assert_eq!(
                    format!("{} {} {}", head.0.as_str().unwrap_or(""), head.1, head.2),
                    picture
                );
                picture.to_owned()
            });
            told.collect::<Vec<_>>()
        };
        // By steps, then keys, then indices. An index at which a step has nothing is left out.
        let want = ["a 2 1", "b 2 3", "a 1 0", "a 1 1", "a 1 3", "b 1 1"];
        assert_eq!(told("key=a&key=b&steps=2,1,9&index=0-3").await, want);
        // The indices come in the order of the request, each once.
        assert_eq!(told("key=a&steps=1&index=3,0-1,1,0-3").await, ["a 1 3", "a 1 0", "a 1 1"]);
        assert_eq!(told("key=a&steps=1&index=4294967295,1").await, ["a 1 1"]);
        assert_eq!(told("key=a&steps=1").await, ["a 1 0"]);
    }

    #[tokio::test]
    async fn thumbnails_are_made_and_damaged_files_have_none() {
        let mut store = TestStore::new();
        let file = |n: u8| {
            let bytes =
                (0..200 * 150 * 3u32).map(|i| i.wrapping_mul(i).to_be_bytes()[2] ^ n).collect();
            let pixels = Pixels { mode: ColorMode::Rgb, width: 200, height: 150, bytes };
            encode(&pixels, Encoding::default()).expect("a file").bytes
        };
        for n in 0..4u8 {
            let bytes = file(n);
            let at = ("k", u64::from(n), 0);
            let (path, _) = store.image(at, TestFile::new(FileType::Png, &bytes, (200, 150)));
            if n == 1 {
                std::fs::write(store.run_folder().join(path), b"other").expect("a file");
            }
        }
        let gallery = store.gallery();
        let got = ask(&gallery, "key=k&steps=0,1,2,3&size=128").await;
        let frames = read(got.body());
        let types: Vec<_> = frames.iter().map(|(head, _)| head["type"].as_str()).collect();
        let (made, none) = (Some("image/jpeg"), Some(""));
        assert_eq!(types, [made, none, made, made]);
        // What was made is the thumbnail of `/t`.
        let sha20 = frames[2].0["sha20"].as_str().expect("digits");
        let thumb = format!("/t/128/{sha20}?{}", store.place(("k", 2, 0)));
        assert_eq!(get(&gallery, &thumb, &[]).await.body(), frames[2].1);
        assert_eq!(ask(&gallery, "key=k&steps=0,1,2,3&size=128").await.body(), got.body());
    }

    #[tokio::test]
    async fn an_answer_ends_at_its_limit() {
        let mut store = TestStore::new();
        let bytes: Vec<u8> = (0..100_000u32).map(|i| i.to_le_bytes()[0]).collect();
        for step in 0..50u8 {
            let bytes = [&bytes[..], &[step]].concat();
            store.image(("k", u64::from(step), 0), small(&bytes));
        }
        let steps: Vec<_> = (0..50).map(|step: u32| step.to_string()).collect();
        let got = ask(&store.gallery(), &format!("key=k&steps={}", steps.join(","))).await;
        assert!(got.body().len() <= 4 << 20);
        let frames = read(got.body());
        assert_eq!(frames.len(), 41);
        assert!(
            frames.iter().zip(0..).all(|((head, picture), step)| {
                head["step"] == step && picture.len() == 100_001
            })
        );
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_request_is_said() {
        let store = TestStore::new();
        let many = vec!["1"; 257].join(",");
        let long = format!("key=k&steps={many}");
        let most = format!("key=k&key=l&steps={}&index=0-255", vec!["1"; 129].join(","));
        for (query, want) in [
            ("key=k", "no value of \"steps\", want one"),
            ("key=k&steps=1,x", "got \"x\" in \"steps\", want steps with commas between them"),
            ("key=k&steps=", "got \"\" in \"steps\", want steps with commas between them"),
            ("key=k&steps=1&index=", BAD_INDEX),
            (
                "key=k&steps=1&index=0,3-1",
                "got \"3-1\" in \"index\", want indices or ranges such as 0-23, with commas between them",
            ),
            (
                "key=k&steps=1&index=0-4294967295",
                "got more than 256 values in \"index\", want at most 256",
            ),
            (
                &most,
                "got 66048 combinations of runs (1), keys (2), steps (129) and indices (256), want at most 65536: ask \
                 several times",
            ),
            (&long, "got more than 256 values in \"steps\", want at most 256"),
            ("key=k&steps=1&size=64", "got \"64\" as \"size\", want 128 or 256"),
            ("steps=1", "got 1 value of \"run\" and 0 of \"key\", want 1 to 256 pairs"),
        ] {
            let got = ask(&store.gallery(), query).await;
            assert_eq!(
                (got.status, got.json()["detail"].as_str()),
                (StatusCode::BAD_REQUEST, Some(want))
            );
        }
    }
}
