//! Answers in JSON: their entity tag, and gzip.

use std::io::Write;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use super::limits::LIMITS;
use super::problem::Failure;
use super::{Gallery, Shared};
use crate::media::RunId;

/// Shorter answers are not compressed.
const GZIP_BYTES_MIN: usize = 1024;

/// What an answer depends on.
#[derive(Debug, Clone)]
pub(super) enum DependsOn {
    /// The journals of these runs.
    Runs(Vec<RunId>),
    /// The journals of all runs.
    All,
    /// Something else, too: the answer has no entity tag.
    More,
}

/// The parts of a request that an answer in JSON depends on.
#[derive(Debug)]
pub(super) struct Asked {
    if_none_match: Option<HeaderValue>,
    takes_gzip: bool,
}

impl From<&HeaderMap> for Asked {
    fn from(headers: &HeaderMap) -> Self {
        Self {
            if_none_match: headers.get(header::IF_NONE_MATCH).cloned(),
            takes_gzip: takes_gzip(headers),
        }
    }
}

/// Whether a client takes gzip.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let codings = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    codings.unwrap_or_default().split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let is_refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !is_refused
    })
}

/// Compresses an answer.
pub(super) fn gzip(bytes: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), level);
    // A vector takes all bytes.
    drop(encoder.write_all(bytes));
    encoder.finish().unwrap_or_default()
}

/// The state of what an answer depends on, as an entity tag. Weak, because the answer may be compressed.
fn etag(shared: &Shared, on: &DependsOn) -> Result<Option<HeaderValue>, Failure> {
    let mut text = format!("W/\"{}", shared.boot);
    match on {
        DependsOn::Runs(runs) => {
            for run in runs {
                let extent = shared.reader.extent(run)?;
                let seq =
                    extent.map_or_else(|| "-".to_owned(), |extent| extent.last_seq.to_string());
                text.extend([".", &seq]);
            }
        }
        // Other processes can't remove or add a run without a change that is counted.
        DependsOn::All => text.extend([".", &shared.reader.n_changes().to_string()]),
        DependsOn::More => return Ok(None),
    }
    text.push('"');
    Ok(HeaderValue::try_from(text).ok())
}

/// Makes an answer in JSON on a thread, unless the client has the current one.
///
/// # Errors
/// As `make`; 413 if the answer is too large.
pub(super) async fn json<T: Serialize>(
    gallery: &Gallery,
    headers: &HeaderMap,
    on: DependsOn,
    make: impl FnOnce(&Shared) -> Result<T, Failure> + Send + 'static,
) -> Result<Response, Failure> {
    let asked = Asked::from(headers);
    gallery
        .read(move |shared| {
            let etag = etag(shared, &on)?;
            if etag.is_some() && etag == asked.if_none_match {
                return Ok(with_headers(StatusCode::NOT_MODIFIED.into_response(), etag));
            }
            let body = serde_json::to_vec(&make(shared)?).map_err(Failure::internal)?;
            if body.len() > LIMITS.answer_bytes_max as usize {
                let (needed, allowed) = (body.len() as u64, LIMITS.answer_bytes_max.into());
                return Err(Failure::too_large(needed, allowed, "the answer"));
            }
            let is_compressed = asked.takes_gzip && body.len() >= GZIP_BYTES_MIN;
            let body = if is_compressed { gzip(&body, Compression::fast()) } else { body };
            let mut response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
            if is_compressed {
                let gzip = HeaderValue::from_static("gzip");
                response.headers_mut().insert(header::CONTENT_ENCODING, gzip);
            }
            Ok(with_headers(response, etag))
        })
        .await
}

fn with_headers(mut response: Response, etag: Option<HeaderValue>) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if let Some(etag) = etag {
        headers.insert(header::ETAG, etag);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_from_clients_that_say_so() {
        for (value, want) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("br", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(takes_gzip(&headers), want, "{value}");
        }
    }
}
