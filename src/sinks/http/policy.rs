//! The rules of all HTTP requests to targets.
//!
//! - No redirection is followed to another server: a request carries secrets and images. See [`super::HttpClient`].
//! - A connection, and a request with its answer, have time limits. The time for a request grows with its body.
//! - An answer is read up to a limit, whatever length it announces. Of an error, the beginning is enough. hyper limits
//!   the head of an answer to 100 headers of 400 KiB in all.

use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Client, ClientBuilder, Response, StatusCode, Url, redirect};
use tokio::time::timeout;

/// The `User-Agent` of all requests.
pub(crate) const USER_AGENT: &str = concat!("safelight/", env!("CARGO_PKG_VERSION"));

/// The longest answer that is read into memory, in bytes.
pub(crate) const ANSWER_BYTES_MAX: usize = 8 << 20;

/// The longest object that is read from an object store, in bytes.
pub(crate) const OBJECT_BYTES_MAX: u64 = 64 << 20;

/// How much of the body of an error is read, in bytes.
pub(crate) const ERROR_BYTES_MAX: usize = 64 << 10;

/// How long the body of an error is read.
const ERROR_TIME_MAX: Duration = Duration::from_secs(5);

/// How long an idle connection is kept. Python servers close an idle connection after 5 s, and a request that is sent at
/// that moment is lost.
const IDLE: Duration = Duration::from_secs(4);

/// Time limits of requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    pub(super) connect: Duration,
    /// From the first byte of a request to the last byte of its answer. The time for the body is added.
    pub(super) answer: Duration,
    /// The lowest accepted rate of bodies, in bytes per second.
    pub(super) bytes_per_s_min: u64,
}

pub(crate) const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(10),
    answer: Duration::from_mins(1),
    bytes_per_s_min: 16 << 10,
};

impl Timeouts {
    /// The time limit of a request whose body, or that of its answer, has `n_bytes`.
    pub(crate) fn of_request(self, n_bytes: u64) -> Duration {
        self.answer + Duration::from_secs(n_bytes / self.bytes_per_s_min)
    }
}

/// Makes ring the default provider of rustls, for this client and for those of object stores.
pub(crate) fn use_ring() {
    // An error means that a provider is installed already.
    rustls::crypto::ring::default_provider().install_default().ok();
}

/// Starts the client of a target. It follows no redirection.
pub(crate) fn client(timeouts: Timeouts, is_plain: bool) -> ClientBuilder {
    use_ring();
    let builder = Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(timeouts.connect)
        .pool_idle_timeout(IDLE)
        .redirect(redirect::Policy::none());
    // Plain HTTP needs no certificates, and the machine may have none.
    if is_plain { builder.tls_certs_only([]) } else { builder }
}

/// Returns a URL for messages: without user, query and fragment, which may contain secrets.
pub(super) fn place(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// Describes a redirection that is not followed.
pub(crate) fn redirection(from: &Url, status: StatusCode, to: Option<&HeaderValue>) -> String {
    let to = to.and_then(|to| to.to_str().ok()).and_then(|to| from.join(to).ok());
    let to = to.map_or_else(|| "nowhere".to_owned(), |to| place(&to));
    format!("{status} to {to}, which is not followed: change the target's URL")
}

/// Reads the beginning of an error's body.
pub(crate) async fn error_body(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            let n = chunk.len().min(ERROR_BYTES_MAX - body.len());
            body.extend_from_slice(&chunk[..n]);
            if body.len() == ERROR_BYTES_MAX {
                break;
            }
        }
    };
    // What was read until then is enough.
    timeout(ERROR_TIME_MAX, read).await.ok();
    body
}
