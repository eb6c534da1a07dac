//! Requests that fail: `application/problem+json` (RFC 9457).

use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::fleet::FleetError;
use crate::store::StoreError;

/// The content type of a problem.
pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// After how many seconds a gallery that is busy or starting may be asked again.
const RETRY_AFTER_S: &str = "1";

/// The body of an error: `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct Problem {
    /// The status, such as 404.
    pub(super) status: u16,
    /// What is wrong, in a few words.
    pub(super) title: String,
    /// What was found, what was expected, and where.
    pub(super) detail: String,
    /// A word for programs, such as `bad-parameter`.
    pub(super) code: &'static str,
    /// Of `replaced`, the digits of the media file that is there now. Of `too-large`, nothing.
    pub(super) sha20: Option<String>,
    /// Of `too-large`, the bytes that the answer needs.
    pub(super) needed: Option<u64>,
    /// Of `too-large`, the bytes that are allowed.
    pub(super) allowed: Option<u64>,
    /// Of `too-large` values, the least `every` with which the answer is small enough.
    pub(super) every: Option<u32>,
}

/// Why a request fails, as its client reads it.
#[derive(Debug, Clone)]
pub(super) struct Failure(Box<Problem>);

impl Failure {
    /// A problem with a status, a word for programs, a title, and a text that says what was found, what was expected
    /// and where.
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        title: &str,
        detail: impl Into<String>,
    ) -> Self {
        Self(Box::new(Problem {
            status: status.as_u16(),
            title: title.to_owned(),
            detail: detail.into(),
            code,
            sha20: None,
            needed: None,
            allowed: None,
            every: None,
        }))
    }

    /// 400: a parameter is missing, unknown or wrong.
    pub(super) fn bad_parameter(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-parameter", "a parameter is wrong", detail)
    }

    /// 404: there is no such run, key, item, layer or page.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "not found", detail)
    }

    /// 403: the configuration withholds the values of dumps.
    pub(super) fn dumps_withheld() -> Self {
        let detail = "the values of dumps are not served here: `gallery.dumps` is false";
        Self::new(StatusCode::FORBIDDEN, "dumps-withheld", "dumps are withheld", detail)
    }

    /// 409: the dump is gone, or is not the one that the image was made from.
    pub(super) fn dump_changed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "dump-changed", "the dump has changed", detail)
    }

    /// 410: another media file is at this place now. `sha20` are its digits.
    pub(super) fn replaced(sha20: &str) -> Self {
        let detail = format!("another image is at this place now: its digits are {sha20}");
        let mut failure = Self::new(StatusCode::GONE, "replaced", "the image was replaced", detail);
        failure.0.sha20 = Some(sha20.to_owned());
        failure
    }

    /// 410: retention removed the media file.
    pub(super) fn pruned() -> Self {
        let detail = "retention removed the media file of this image";
        Self::new(StatusCode::GONE, "pruned", "the image was removed", detail)
    }

    /// 413: the answer is larger than allowed. Both are numbers of bytes.
    pub(super) fn too_large(needed: u64, allowed: u64, what: &str) -> Self {
        let detail = format!("{what} takes {needed} bytes, at most {allowed} are allowed");
        let title = "the answer is too large";
        let mut failure = Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", title, detail);
        (failure.0.needed, failure.0.allowed) = (Some(needed), Some(allowed));
        failure
    }

    /// Adds the least `every` with which values are small enough.
    pub(super) fn with_every(mut self, every: u32) -> Self {
        self.0.every = Some(every);
        self
    }

    /// 429: too much is asked at the same time.
    pub(super) fn busy() -> Self {
        Self::busy_with("the gallery has too many requests at work: ask again in a second")
    }

    /// 429: too much of something is at work at the same time.
    pub(super) fn busy_with(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", "too many requests", detail)
    }

    /// 401: the client must log in.
    pub(super) fn login() -> Self {
        let detail = "no valid session or token: run `safelight gallery` on the machine of the store, and open the \
                      address that it prints";
        Self::new(StatusCode::UNAUTHORIZED, "login", "a login is needed", detail)
    }

    /// 503: the store is being opened.
    pub(super) fn starting() -> Self {
        let detail = "the daemon is opening the store: ask again in a second";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "starting", "the daemon is starting", detail)
    }

    /// 500: the store or the program fails. The log has the reason, too.
    pub(super) fn internal(error: impl std::fmt::Display) -> Self {
        tracing::warn!(%error, "the gallery cannot answer a request");
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "internal", "the store fails", error.to_string())
    }

    /// The problem as its client reads it.
    pub(super) fn problem(&self) -> &Problem {
        &self.0
    }
}

/// The problem at an address that does not exist.
pub(super) fn no_address(uri: &Uri) -> Failure {
    Failure::not_found(format!("there is no address {:?}", uri.path()))
}

/// The answer to a method other than GET and HEAD.
pub(super) fn wrong_method(method: &Method) -> Response {
    let detail = format!("got {method}, want GET or HEAD: the gallery changes nothing");
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let failure = Failure::new(status, "method", "only GET and HEAD are answered", detail);
    ([(header::ALLOW, "GET, HEAD")], failure).into_response()
}

impl From<FleetError> for Failure {
    fn from(error: FleetError) -> Self {
        let (status, code, title) = match error {
            FleetError::NoRun { .. } | FleetError::NoObject(_) => {
                (StatusCode::NOT_FOUND, "not-found", "not found")
            }
            FleetError::Damaged { .. } => {
                (StatusCode::INTERNAL_SERVER_ERROR, "damaged", "the object is damaged")
            }
            FleetError::TooManyLines { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the run is too large")
            }
            FleetError::Objects { .. } | FleetError::Location(_) => {
                (StatusCode::BAD_GATEWAY, "object-store", "the object store fails")
            }
            FleetError::Store(_) | FleetError::Io(_) => return Self::internal(error),
        };
        Self::new(status, code, title, error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::internal(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (
            status,
            [(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")],
            body,
        )
            .into_response();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            let after = HeaderValue::from_static(RETRY_AFTER_S);
            response.headers_mut().insert(header::RETRY_AFTER, after);
        }
        response
    }
}
