//! Sends a stored file, or the part of it that a request asks for.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::super::problem::Failure;
use super::super::ranges::{self, Part};
use super::super::{Gallery, Shared, streams};
use super::{RunFiles, etag_value, media_headers};
use crate::media::{Digest, DigestKind, Hasher, RunId, Sha256};
use crate::store::media_check::NamedFile;

/// A larger file is sent from the disk in pieces.
const WHOLE_BYTES_MAX: u64 = 1 << 20;

/// The bytes of a large file that are read at a time.
const READ_BYTES: usize = 64 << 10;

/// A part of a file, ready to be sent.
enum Content {
    /// In memory.
    Bytes(Vec<u8>),
    /// On the disk.
    Disk(File),
    /// The client has it, or asked for what is not there.
    None,
}

/// What an answer with a file says of it.
pub(in crate::gallery) struct Sent {
    pub(in crate::gallery) content_type: &'static str,
    /// How long it may be kept.
    pub(in crate::gallery) cache: HeaderValue,
    /// Whether browsers save it instead of showing it.
    pub(in crate::gallery) is_download: bool,
}

/// A stored file that a request names.
pub(in crate::gallery) struct Wanted {
    pub(in crate::gallery) run: RunId,
    pub(in crate::gallery) path: String,
    pub(in crate::gallery) size: u64,
    pub(in crate::gallery) sha256: Sha256,
    pub(in crate::gallery) sent: Sent,
}

/// Answers with a stored file, or the part of it that a request asks for.
///
/// # Errors
/// As `find`; 404 if the file is missing, 416 if it is too short for the part, 500 if it is damaged.
pub(in crate::gallery) async fn send(
    gallery: &Gallery,
    headers: HeaderMap,
    find: impl FnOnce(&Shared) -> Result<Wanted, Failure> + Send + 'static,
) -> Result<Response, Failure> {
    let read = move |shared: &Shared| {
        let wanted = find(shared)?;
        let etag = format!("\"{}\"", wanted.sha256);
        let is_known = ranges::is_known(&headers, &etag);
        let part = ranges::part(&headers, &etag, wanted.size);
        let content = if is_known || part == Part::Beyond {
            Content::None
        } else {
            let files = RunFiles::open(shared, &wanted.run)?;
            let &Wanted { ref path, size, sha256, .. } = &wanted;
            let file = NamedFile { path, size, sha256 };
            if size <= WHOLE_BYTES_MAX {
                Content::Bytes(files.read(file)?)
            } else {
                Content::Disk(files.open_file(file)?)
            }
        };
        Ok((wanted, etag, is_known, part, content))
    };
    let (wanted, etag, is_known, part, content) = gallery.read(read).await?;
    let Wanted { size, sha256, sent, .. } = wanted;
    let head = [(header::ETAG, etag_value(&etag)), (header::CACHE_CONTROL, sent.cache)];
    if is_known {
        return Ok((StatusCode::NOT_MODIFIED, head).into_response());
    }
    let (status, range) = match part {
        Part::Whole => (StatusCode::OK, 0..size),
        Part::Bytes(range) => (StatusCode::PARTIAL_CONTENT, range),
        Part::Beyond => return Ok(beyond(size)),
    };
    let body = match content {
        Content::Bytes(bytes) => within(bytes, &range),
        Content::Disk(file) => from_disk(file, range.clone(), (size, sha256)),
        Content::None => Body::empty(),
    };
    let mut response = (status, head, media_headers(sent.content_type), body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, (range.end - range.start).into());
    if sent.is_download {
        headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    }
    if status == StatusCode::PARTIAL_CONTENT {
        let (first, last) = (range.start, range.end - 1);
        let range = format!("bytes {first}-{last}/{size}");
        headers.extend(HeaderValue::try_from(range).ok().map(|it| (header::CONTENT_RANGE, it)));
    }
    Ok(response)
}

fn beyond(size: u64) -> Response {
    let detail = format!("the file has {size} bytes, and the range begins after them");
    let status = StatusCode::RANGE_NOT_SATISFIABLE;
    let mut response = Failure::new(status, "range", "no such range", detail).into_response();
    let range = HeaderValue::try_from(format!("bytes */{size}")).ok();
    response.headers_mut().extend(range.map(|range| (header::CONTENT_RANGE, range)));
    response
}

fn within(bytes: Vec<u8>, range: &Range<u64>) -> Body {
    let place = |at| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    let (first, end) = (place(range.start), place(range.end));
    Body::from(Bytes::from(bytes).slice(first..end))
}

/// A body from a large file of a known size and digest.
fn from_disk(file: File, range: Range<u64>, (size, sha256): (u64, Sha256)) -> Body {
    streams::body(move |out| {
        let mut hasher = (range == (0..size)).then(|| Hasher::new(DigestKind::Sha256));
        let mut bytes = vec![0; READ_BYTES];
        let mut at = range.start;
        while at < range.end {
            let n = usize::try_from(range.end - at).unwrap_or(READ_BYTES).min(READ_BYTES);
            file.read_exact_at(&mut bytes[..n], at)?;
            at += n as u64;
            if let Some(hasher) = &mut hasher {
                hasher.update(&bytes[..n]);
                if at == range.end && hasher.digest() != Digest::Sha256(sha256) {
                    return Err(io::Error::other("a media file has another digest than journaled"));
                }
            }
            out.write_all(&bytes[..n])?;
        }
        Ok(())
    })
}
