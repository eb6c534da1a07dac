//! `/api/v1/export.tar`: the media files of many items, and what the journal says of them.
//!
//! ```text
//! items.jsonl                           an item a line, as `ls --json` prints them
//! runs/<run>/media/images/…             media files, masks and boxes, under the paths that the items name
//! left-out.txt                          if files are missing or damaged: which, and why
//! ```
//!
//! It is written while it is sent, and takes little memory: the items are read twice, first for the length of
//! `items.jsonl`.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tar::{Builder, Header};

use super::files::RunFiles;
use super::limits::LIMITS;
use super::lists::no_run;
use super::params::{Params, media_key};
use super::problem::Failure;
use super::{Gallery, Shared, streams};
use crate::fleet::OBJECTS_AT_ONCE;
use crate::media::{MediaEntry, RunId};
use crate::store::media_check::{NamedFile, files_of};
use crate::store::{Filter, Selected, StateFilter, StoreError};

/// A larger file is sent from the disk.
const WHOLE_BYTES_MAX: u64 = 1 << 20;

/// The longest text about files that are left out, in bytes.
const LEFT_OUT_BYTES_MAX: usize = 1 << 20;

pub(super) fn routes() -> Router<Gallery> {
    Router::new().route("/api/v1/export.tar", get(export))
}

/// Reads which items are asked for.
fn filter(mut params: Params) -> Result<(RunId, Filter), Failure> {
    let run = params.run()?;
    let key = params.optional("key")?.as_deref().map(media_key).transpose()?;
    let first = params.number("first_step", 0..=u64::MAX)?.unwrap_or(0);
    let last = params.number("last_step", 0..=u64::MAX)?.unwrap_or(u64::MAX);
    let state = match params.optional("state")?.as_deref() {
        None => None,
        Some("image") => Some(StateFilter::Image),
        Some("held") => Some(StateFilter::Held),
        Some("rejected") => Some(StateFilter::Rejected),
        Some("waiting") => Some(StateFilter::Waiting),
        Some(other) => {
            return Err(Failure::bad_parameter(format!(
                "got {other:?} as \"state\", want image, held, rejected or waiting"
            )));
        }
    };
    params.finish()?;
    let has_steps = (first, last) != (0, u64::MAX);
    let filter =
        Filter { run: Some(run.clone()), key, steps: has_steps.then_some((first, last)), state };
    Ok((run, filter))
}

async fn export(State(gallery): State<Gallery>, params: Params) -> Result<Response, Failure> {
    let (run, filter) = filter(params)?;
    let of = run.clone();
    let open = move |shared: &Shared| {
        let reader = shared.reader.clone();
        if reader.extent(&of)?.is_none() {
            return Err(no_run(&of));
        }
        let max = LIMITS.export_items_max as usize;
        let too_many = || {
            let detail = format!("got more than {max} items, want at most {max}: give fewer steps");
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            Failure::new(status, "too-large", "these are too many items", detail)
        };
        let items = reader.select(&of, &filter, max)?.ok_or_else(too_many)?;
        Ok((items, RunFiles::open(shared, &of)?))
    };
    let (items, files) = gallery.read(open).await?;
    let name = format!("attachment; filename=\"{}.tar\"", run.folder());
    let head = [
        (header::CONTENT_TYPE, "application/x-tar".to_owned()),
        (header::CONTENT_DISPOSITION, name),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    let body = streams::body(move |out| Archive::new(out, &run, &files).write(&items));
    Ok((head, body).into_response())
}

/// An archive that is being written.
struct Archive<'a, W: Write> {
    tar: Builder<W>,
    run: &'a RunId,
    files: &'a RunFiles,
    /// The paths of the files that it has: several items may name one.
    written: HashSet<String>,
    left_out: String,
    /// Now, in seconds since the Unix epoch.
    now: u64,
}

impl<'a, W: Write> Archive<'a, W> {
    fn new(out: W, run: &'a RunId, files: &'a RunFiles) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let (written, left_out) = (HashSet::new(), String::new());
        Self { tar: Builder::new(out), run, files, written, left_out, now }
    }

    fn write(mut self, items: &Selected) -> io::Result<()> {
        self.items(items)?;
        let mut entries = items.entries().fuse();
        loop {
            let next = entries.by_ref().take(OBJECTS_AT_ONCE).collect::<Result<Vec<_>, _>>();
            let next = next.map_err(io::Error::other)?;
            if next.is_empty() {
                break;
            }
            let images = next.iter().filter_map(MediaEntry::as_image).filter(|image| !image.pruned);
            let files = || images.clone().flat_map(files_of);
            self.files.fetch_all(files().filter(|file| !self.written.contains(file.path)));
            for file in files() {
                if !self.written.contains(file.path) {
                    self.written.insert(file.path.to_owned());
                    self.file(file)?;
                }
            }
        }
        if !self.left_out.is_empty() {
            let text = std::mem::take(&mut self.left_out);
            self.append("left-out.txt", text.len() as u64, text.as_bytes())?;
        }
        self.tar.finish()
    }

    fn items(&mut self, items: &Selected) -> io::Result<()> {
        let mut length = 0;
        for entry in items.entries() {
            length += line(self.run, entry)?.len() as u64;
        }
        let run = self.run;
        let lines = items.entries().map(|entry| line(run, entry));
        self.append("items.jsonl", length, Joined { lines, line: Vec::new(), at: 0, left: length })
    }

    fn file(&mut self, file: NamedFile<'_>) -> io::Result<()> {
        let name = format!("runs/{}/{}", self.run.folder(), file.path);
        let opened = if file.size <= WHOLE_BYTES_MAX {
            self.files.read(file).map(Source::Bytes)
        } else {
            let checked = self.files.check(file);
            checked.and_then(|()| self.files.open_file(file)).map(Source::Disk)
        };
        match opened {
            Ok(Source::Bytes(bytes)) => self.append(&name, file.size, &bytes[..]),
            Ok(Source::Disk(from)) => {
                self.append(&name, file.size, Exactly { from, left: file.size })
            }
            Err(failure) => {
                let reason = &failure.problem().detail;
                if self.left_out.len() + reason.len() < LEFT_OUT_BYTES_MAX {
                    self.left_out.extend([reason, "\n"]);
                }
                Ok(())
            }
        }
    }

    /// Appends a file of `size` bytes. A name that a plain header cannot hold is in a pax header before it.
    fn append(&mut self, name: &str, size: u64, bytes: impl Read) -> io::Result<()> {
        let mut header = Header::new_ustar();
        if !name.is_ascii() || header.set_path(name).is_err() {
            self.tar.append_pax_extensions([("path", name.as_bytes())])?;
            header.set_path(format!("file-{}", self.written.len()))?;
        }
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(self.now);
        header.set_cksum();
        self.tar.append(&header, bytes)
    }
}

enum Source {
    Bytes(Vec<u8>),
    Disk(File),
}

/// The line of an item in `items.jsonl`.
fn line(run: &RunId, entry: Result<MediaEntry, StoreError>) -> io::Result<Vec<u8>> {
    let entry = entry.map_err(io::Error::other)?;
    let mut line = serde_json::to_vec(&entry.to_json(run))?;
    line.push(b'\n');
    Ok(line)
}

/// Lines that have a known length together.
struct Joined<I> {
    lines: I,
    line: Vec<u8>,
    at: usize,
    left: u64,
}

impl<I: Iterator<Item = io::Result<Vec<u8>>>> Read for Joined<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.line.len() {
            let Some(line) = self.lines.next().transpose()? else { break };
            (self.line, self.at) = (line, 0);
        }
        let n = (&self.line[self.at..]).read(buffer)?;
        self.at += n;
        self.left = left(self.left, n, buffer.len())?;
        Ok(n)
    }
}

/// A file that has a known length.
struct Exactly {
    from: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = (&mut self.from).take(self.left).read(buffer)?;
        self.left = left(self.left, n, buffer.len())?;
        Ok(n)
    }
}

/// How many bytes are left after a read of `n`. The archive would be damaged if there were more or fewer.
fn left(before: u64, n: usize, wanted: usize) -> io::Result<u64> {
    match before.checked_sub(n as u64) {
        Some(0) => Ok(0),
        Some(left) if n > 0 || wanted == 0 => Ok(left),
        _ => Err(io::Error::other("what is exported has changed meanwhile")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use axum::http::StatusCode;

    use super::super::testing::{Got, TestFile, TestStore, get};
    use super::*;
    use crate::media::FileType;

    fn png(bytes: &[u8]) -> TestFile<'_> {
        TestFile::new(FileType::Png, bytes, (4, 4))
    }

    async fn ask(store: &TestStore, query: &str) -> Got {
        get(&store.gallery(), &format!("/api/v1/export.tar?run=a%2Frun{query}"), &[]).await
    }

    fn unpacked(got: &Got) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(got.body());
        let entries = archive.entries().expect("an archive");
        let read = |entry: io::Result<tar::Entry<'_, _>>| {
            let mut entry = entry.expect("an entry");
            let name = entry.path().expect("a path").to_str().expect("text").to_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("bytes");
            (name, bytes)
        };
        entries.map(read).collect()
    }

    fn lines(files: &BTreeMap<String, Vec<u8>>) -> Vec<serde_json::Value> {
        let text =
            files["items.jsonl"].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        text.map(|line| serde_json::from_slice(line).expect("JSON")).collect()
    }

    #[tokio::test]
    async fn an_archive_has_the_files_that_its_items_name() {
        let mut store = TestStore::new();
        let large: Vec<u8> = (0..2_500_000u32).map(|i| (i / 255).to_le_bytes()[0]).collect();
        let long = "ü".repeat(60) + "/" + &"x".repeat(60) + "/" + &"y".repeat(90);
        for (key, step, bytes) in
            [("a", 1, &b"one"[..]), ("a", 2, &large), ("b", 1, b"two"), (&long, 1, b"three")]
        {
            store.image((key, step, 0), png(bytes));
        }
        // Another item with the same file, a held one, and one whose file is gone.
        store.image(("a", 1, 1), png(b"one"));
        store.held(("a", 3, 0));
        let (gone, _) = store.image(("a", 4, 0), png(b"four"));
        fs::remove_file(store.run_folder().join(gone)).expect("removed");
        store.image(("a", 5, 0), png(b"five"));
        store.prune(("a", 5, 0));
        let got = ask(&store, "").await;
        assert_eq!((got.status, got.header("content-type")), (StatusCode::OK, "application/x-tar"));
        let want = "attachment; filename=\"a%2Frun.tar\"";
        assert_eq!(got.header("content-disposition"), want);
        let files = unpacked(&got);
        let items = lines(&files);
        assert_eq!(items.len(), 8);
        let mut contents = Vec::new();
        for item in &items {
            let path = item["path"].as_str().unwrap_or("held");
            contents.push(files.get(path).map(Vec::as_slice));
        }
        let want = [
            Some(&b"one"[..]),
            Some(b"one"),
            Some(&large),
            None,
            None,
            None,
            Some(b"two"),
            Some(b"three"),
        ];
        assert!(contents == want);
        // Four pictures, the items, and what is left out.
        assert_eq!(files.len(), 6);
        let left_out = String::from_utf8_lossy(&files["left-out.txt"]);
        assert!(left_out.starts_with("media/images/a_4_"), "{left_out}");
        assert!(left_out.contains("missing"), "{left_out}");
    }

    #[tokio::test]
    async fn a_request_selects_items() {
        let mut store = TestStore::new();
        for step in 0..6u64 {
            store.image(("a", step, 0), png(&step.to_le_bytes()));
            store.image(("b", step, 0), png(&step.to_le_bytes()));
        }
        store.held(("a", 9, 0));
        for (query, n_items, n_files) in [
            ("", 13, 12),
            ("&key=a", 7, 6),
            ("&key=a&first_step=2&last_step=3", 2, 2),
            ("&state=held", 1, 0),
            ("&key=none", 0, 0),
        ] {
            let files = unpacked(&ask(&store, query).await);
            assert_eq!((lines(&files).len(), files.len()), (n_items, n_files + 1), "{query}");
        }
        for (query, status) in [
            ("&state=x", StatusCode::BAD_REQUEST),
            ("&steps=1", StatusCode::BAD_REQUEST),
            ("2", StatusCode::NOT_FOUND),
        ] {
            assert_eq!(ask(&store, query).await.status, status, "{query}");
        }
    }

    #[test]
    fn a_length_that_changes_is_an_error() {
        let lines = |left| {
            let lines = [Ok(b"ab\n".to_vec()), Ok(Vec::new()), Ok(b"c\n".to_vec())].into_iter();
            let mut bytes = Vec::new();
            let read = Joined { lines, line: Vec::new(), at: 0, left }.read_to_end(&mut bytes);
            read.map(|_| bytes).ok()
        };
        assert_eq!(lines(5).as_deref(), Some(&b"ab\nc\n"[..]));
        assert_eq!((lines(4), lines(6)), (None, None));
    }
}
