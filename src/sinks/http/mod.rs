//! The HTTP client of targets. It converts each failed request to a [`SinkError`].
//!
//! | answer | result |
//! | --- | --- |
//! | none: no connection, connection lost, timeout | retry |
//! | 408, 425, 429, 5xx | retry, after `Retry-After` if the answer has it |
//! | 401, 403 | retry, because keys are renewed and quotas are reset |
//! | 3xx | retry, because the `url` in the configuration must be changed; see [`follow_within_server`] |
//! | other 4xx | reject if the request was about one item, else retry |

mod error_response;
pub(crate) mod file_body;
pub(crate) mod policy;

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url, redirect};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use self::error_response::{ErrorResponse, message_in};
use self::policy::{ANSWER_BYTES_MAX, TIMEOUTS, Timeouts};
use super::{Delivery, SinkError};
use crate::media::shortened;
use crate::secrets::{Redactor, SecretError, SecretSource};

/// How requests are authorized. Secrets are read for each request, so that they can be renewed.
#[derive(Debug, Clone)]
pub(crate) enum Credentials {
    /// Requests carry no credentials.
    None,
    /// `Authorization: Bearer …`
    Bearer(SecretSource),
    /// `Authorization: Basic …`
    Basic { username: String, password: SecretSource },
    /// The secret is the value of this header.
    Header(HeaderName, SecretSource),
}

/// A client of one target.
#[derive(Debug, Clone)]
pub(crate) struct HttpClient {
    client: Client,
    base: Url,
    credentials: Credentials,
    timeouts: Timeouts,
}

/// The longest quote of an answer that is not the expected JSON, in characters.
const QUOTE_CHARS_MAX: usize = 60;

/// An answer without meaning.
#[derive(Deserialize)]
struct AnyObject {}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The same request may succeed later.
    #[error("{message}")]
    Temporary {
        /// The pause that the target requests.
        after: Option<Duration>,
        message: String,
    },
    /// The target will refuse the same request again.
    #[error("{message}")]
    Refused {
        status: StatusCode,
        /// The body of the answer, for callers that know its format.
        body: Vec<u8>,
        message: String,
    },
}

impl HttpError {
    fn temporary(message: impl Into<String>) -> Self {
        Self::Temporary { after: None, message: message.into() }
    }

    /// Converts the error of a request about `item`: a refusal rejects the item.
    pub(crate) fn for_item(self, item: &Delivery) -> SinkError {
        match self {
            refused @ Self::Refused { .. } => SinkError::reject(item, refused),
            temporary @ Self::Temporary { .. } => temporary.into(),
        }
    }
}

/// Converts the error of a request that is not about one item. It is always retried, because no item is at fault.
impl From<HttpError> for SinkError {
    fn from(error: HttpError) -> Self {
        let after = match &error {
            HttpError::Temporary { after, .. } => *after,
            HttpError::Refused { .. } => None,
        };
        Self::Retry { after, source: error.into() }
    }
}

impl HttpClient {
    /// Creates a client of the target at `url`, which the configuration has checked.
    ///
    /// # Errors
    /// If TLS is not available because the machine has no certificates.
    pub(crate) fn new(url: &str, credentials: Credentials) -> Result<Self, SinkError> {
        Self::with(url, credentials, TIMEOUTS)
    }

    fn with(url: &str, credentials: Credentials, timeouts: Timeouts) -> Result<Self, SinkError> {
        let base = Url::parse(url).map_err(SinkError::retry)?;
        let builder = policy::client(timeouts, base.scheme() == "http")
            .redirect(redirect::Policy::custom(follow_within_server));
        let client = builder.build().map_err(|error| SinkError::retry(with_causes(&error)))?;
        Ok(Self { client, base, credentials, timeouts })
    }

    /// Builds a request to a path relative to the target's URL. The path is escaped except for its slashes.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    /// Builds a GET request with a query.
    pub(crate) fn get(&self, path: &str, query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.url(path);
        url.query_pairs_mut().extend_pairs(query);
        self.client.request(Method::GET, url)
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        // An HTTP URL always has segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.trim_start_matches('/').split('/'));
        }
        url
    }

    /// Sends a request whose answer is a JSON object without meaning. Another answer is an error, because it comes from
    /// another program, such as a proxy that wants a log-in.
    ///
    /// # Errors
    /// As [`Self::send_for`].
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<(), HttpError> {
        self.send_for(request).await.map(|AnyObject {}| ())
    }

    /// Sends an upload, whose answer is a JSON object without meaning, or nothing.
    ///
    /// # Errors
    /// As [`Self::send_for`].
    pub(crate) async fn send_upload(&self, request: RequestBuilder) -> Result<(), HttpError> {
        let (body, redactor) = self.send_and_read(request).await?;
        if body.is_empty() {
            return Ok(());
        }
        self.parsed(&body, &redactor).map(|AnyObject {}| ())
    }

    /// Sends a request whose answer is JSON.
    ///
    /// # Errors
    /// If there is no answer, its status is not 2xx, or it is not the expected JSON.
    pub(crate) async fn send_for<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, HttpError> {
        let (body, redactor) = self.send_and_read(request).await?;
        self.parsed(&body, &redactor)
    }

    fn parsed<T: DeserializeOwned>(
        &self,
        body: &[u8],
        redactor: &Redactor,
    ) -> Result<T, HttpError> {
        serde_json::from_slice(body).map_err(|error| {
            let got = redactor.text_of(&String::from_utf8_lossy(body), QUOTE_CHARS_MAX);
            // The error may quote a field of any length.
            let error = redactor.text(&error.to_string());
            let host = self.base.host_str().unwrap_or_default();
            HttpError::temporary(format!(
                "{host} did not answer with the expected JSON ({error}, got {got:?}): check `url`"
            ))
        })
    }

    /// Sends a request and reads the answer. Also returns a redactor of the secrets that were sent.
    async fn send_and_read(
        &self,
        request: RequestBuilder,
    ) -> Result<(Vec<u8>, Redactor), HttpError> {
        let mut request =
            request.build().map_err(|error| HttpError::temporary(with_causes(&error)))?;
        let redactor = self.authorize(request.headers_mut())?;
        let body_bytes = request.body().and_then(|body| body.as_bytes()).map(<[u8]>::len);
        let n_bytes = body_bytes.map(|n| n as u64).or_else(|| {
            let length = request.headers().get(CONTENT_LENGTH)?;
            length.to_str().ok()?.parse().ok()
        });
        *request.timeout_mut() = Some(self.timeouts.of_request(n_bytes.unwrap_or(0)));
        let endpoint = shortened(format!("{} {}", request.method(), request.url().path()), 120);

        let failed = |error: &reqwest::Error| {
            let error = redactor.text(&with_causes(error));
            HttpError::temporary(format!("{endpoint}: {error}"))
        };
        let sent = self.client.execute(request).await;
        let mut response = sent.map_err(|error| {
            if error.is_connect() {
                let origin = self.base.origin().ascii_serialization();
                let message = format!("cannot reach {origin}: {}", root_cause(&error));
                return HttpError::temporary(message);
            }
            failed(&error.without_url())
        })?;
        let status = response.status();
        if status.is_success() {
            return match read_body(&mut response).await {
                Ok(body) => Ok((body, redactor)),
                Err(BodyError::Interrupted(error)) => Err(failed(&error.without_url())),
                Err(BodyError::TooLong) => {
                    let message =
                        format!("{endpoint}: the answer has more than {ANSWER_BYTES_MAX} bytes");
                    Err(HttpError::temporary(message))
                }
            };
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let error_response = ErrorResponse::of(status, response.headers(), now);
        let from = policy::place(response.url());
        let moved = policy::redirection(response.url(), status, response.headers().get(LOCATION));
        let body = policy::error_body(response).await;
        let quote = redactor.text(&message_in(&body));
        let colon = if quote.is_empty() { "" } else { ": " };
        let message = format!("{endpoint}: the target answered {status}{colon}{quote}");
        Err(match error_response {
            ErrorResponse::Permanent => HttpError::Refused { status, body, message },
            ErrorResponse::Temporary { after } => HttpError::Temporary { after, message },
            ErrorResponse::Moved => HttpError::temporary(
                redactor.text(&format!("{from} redirects with {moved}{colon}{quote}")),
            ),
        })
    }

    /// Adds the credentials. Returns a redactor of the secrets, which must not be logged.
    fn authorize(&self, headers: &mut HeaderMap) -> Result<Redactor, HttpError> {
        let read = |source: &SecretSource| {
            let temporary = |error: SecretError| HttpError::temporary(error.to_string());
            source.read().map(|secret| secret.expose().to_owned()).map_err(temporary)
        };
        let (name, text, secrets) = match &self.credentials {
            Credentials::None => return Ok(Redactor::default()),
            Credentials::Bearer(token) => {
                let token = read(token)?;
                (AUTHORIZATION, format!("Bearer {token}"), vec![token])
            }
            Credentials::Basic { username, password } => {
                let password = read(password)?;
                let pair = format!("{username}:{password}");
                let pair = base64::engine::general_purpose::STANDARD.encode(pair);
                (AUTHORIZATION, format!("Basic {pair}"), vec![pair, password])
            }
            Credentials::Header(name, token) => {
                let token = read(token)?;
                (name.clone(), token.clone(), vec![token])
            }
        };
        let mut value = HeaderValue::try_from(text).map_err(|_| {
            HttpError::temporary(
                "the target's secret has characters that are not allowed in a header",
            )
        })?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(Redactor::of(secrets.iter().map(String::as_str)))
    }
}

/// Follows a redirection only if it keeps the method and the server. Secrets must not go to another server. A POST that
/// becomes a GET would have no effect and could still succeed.
fn follow_within_server(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let keeps_method =
        matches!(attempt.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    let is_same =
        attempt.previous().iter().all(|previous| previous.origin() == attempt.url().origin());
    if keeps_method && is_same && attempt.previous().len() < 5 {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

/// Why the body of an answer was not read.
enum BodyError {
    Interrupted(reqwest::Error),
    TooLong,
}

async fn read_body(response: &mut Response) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Interrupted)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(BodyError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Returns the message of an error's innermost cause.
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Returns an error's message with the messages of its causes.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors repeat the message of their cause.
        if !message.ends_with(&more) {
            message = format!("{message}: {more}");
        }
        cause = error.source();
    }
    message
}

#[cfg(test)]
mod tests;
