//! Targets that are reached over HTTP: one client for each, and the one place where an answer becomes a
//! [`SinkError`].
//!
//! | the target | what is left to do |
//! | --- | --- |
//! | can't be reached, breaks off, is silent | later |
//! | 408, 425, 429, 5xx | later; not before `Retry-After`, if it says so |
//! | 401, 403 | later: keys expire, and quotas come back |
//! | 3xx | later: the target has moved, which a person must put into the configuration |
//! | other 4xx | never, if the request was about one item; else later |

mod answer;

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url, redirect};
use serde::de::DeserializeOwned;

use self::answer::{Later, words_in};
use super::{Delivery, SinkError};
use crate::media::shortened;
use crate::secrets::{SecretError, SecretSource, without};

/// What a target wants to see before it takes anything. Secrets are read anew for each request.
#[derive(Debug, Clone)]
pub(crate) enum Credentials {
    /// It takes from anyone.
    None,
    /// `Authorization: Bearer …`
    Bearer(SecretSource),
    /// `Authorization: Basic …`
    Basic { username: String, password: SecretSource },
    /// The secret in a header of the target's own.
    Header(HeaderName, SecretSource),
}

/// A client of one target.
#[derive(Debug, Clone)]
pub(crate) struct HttpClient {
    client: Client,
    base: Url,
    credentials: Credentials,
    patience: Patience,
}

/// How long a target may take.
#[derive(Debug, Clone, Copy)]
struct Patience {
    to_connect: Duration,
    /// From the first byte of a request to the last of its answer, beside what the body takes.
    to_answer: Duration,
    /// The slowest line on which a body is still worth sending, in bytes a second.
    bytes_per_s: u64,
}

const PATIENCE: Patience = Patience {
    to_connect: Duration::from_secs(10),
    to_answer: Duration::from_mins(1),
    bytes_per_s: 16 << 10,
};

/// How long a connection is kept for the next request. Servers in Python close theirs after 5 s, and a request
/// that meets the closing is lost.
const IDLE: Duration = Duration::from_secs(4);

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// The most of a target's own words that is repeated, in characters.
pub(crate) const WORDS_CHARS_MAX: usize = 300;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The target may take it later.
    #[error("{words}")]
    Later {
        /// How long it asked to be left alone.
        after: Option<Duration>,
        words: String,
    },
    /// The target understood and won't have it.
    #[error("{words}")]
    Refused {
        status: StatusCode,
        /// What it said, for whoever knows its language.
        body: Vec<u8>,
        words: String,
    },
}

impl HttpError {
    fn later(words: impl Into<String>) -> Self {
        Self::Later { after: None, words: words.into() }
    }

    /// What it means for the item that the request was about.
    pub(crate) fn of(self, item: &Delivery) -> SinkError {
        match self {
            refused @ Self::Refused { .. } => SinkError::reject(item, refused),
            later @ Self::Later { .. } => later.into(),
        }
    }
}

/// Of a request that is about no item: nothing may be set aside for what a person can put right.
impl From<HttpError> for SinkError {
    fn from(error: HttpError) -> Self {
        let after = match &error {
            HttpError::Later { after, .. } => *after,
            HttpError::Refused { .. } => None,
        };
        Self::Retry { after, source: error.into() }
    }
}

/// Has rustls use ring wherever nothing else is said: by our client, and by the object stores'.
pub(crate) fn use_ring() {
    // An error says that it was done before.
    rustls::crypto::ring::default_provider().install_default().ok();
}

/// What targets know the program by.
pub(crate) const USER_AGENT: &str = concat!("safelight/", env!("CARGO_PKG_VERSION"));

impl HttpClient {
    /// A client of the target at `url`, which the configuration has checked.
    ///
    /// # Errors
    /// If TLS can't be had: there are no certificates on this machine.
    pub(crate) fn new(url: &str, credentials: Credentials) -> Result<Self, SinkError> {
        Self::with(url, credentials, PATIENCE)
    }

    fn with(url: &str, credentials: Credentials, patience: Patience) -> Result<Self, SinkError> {
        use_ring();
        let base = Url::parse(url).map_err(SinkError::retry)?;
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(patience.to_connect)
            .pool_idle_timeout(IDLE)
            .redirect(redirect::Policy::custom(within_the_target));
        if base.scheme() == "http" {
            // Its certificates are never asked for, and the machine may have none.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| SinkError::retry(told(&error)))?;
        Ok(Self { client, base, credentials, patience })
    }

    /// A request to a path below the target's URL. What in it isn't plain is escaped, but slashes.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    /// A GET with a query.
    pub(crate) fn get(&self, path: &str, query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.url(path);
        url.query_pairs_mut().extend_pairs(query);
        self.client.request(Method::GET, url)
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        // A URL of HTTP always has segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.trim_start_matches('/').split('/'));
        }
        url
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// If none comes, or one that isn't 2xx.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Vec<u8>, HttpError> {
        Ok(self.ask(request).await?.0)
    }

    /// The same; with the answer comes what must show up nowhere.
    async fn ask(&self, request: RequestBuilder) -> Result<(Vec<u8>, Vec<String>), HttpError> {
        let mut request = request.build().map_err(|error| HttpError::later(told(&error)))?;
        let secrets = self.authorize(request.headers_mut())?;
        let in_memory = request.body().and_then(|body| body.as_bytes()).map(<[u8]>::len);
        let n_bytes = in_memory.map(|n| n as u64).or_else(|| {
            let length = request.headers().get(CONTENT_LENGTH)?;
            length.to_str().ok()?.parse().ok()
        });
        let for_body = Duration::from_secs(n_bytes.unwrap_or(0) / self.patience.bytes_per_s);
        *request.timeout_mut() = Some(self.patience.to_answer + for_body);
        let what = shortened(format!("{} {}", request.method(), request.url().path()), 120);

        let broken = |error: &reqwest::Error| HttpError::later(format!("{what}: {}", told(error)));
        let sent = self.client.execute(request).await;
        let mut response = sent.map_err(|error| {
            if error.is_connect() {
                let origin = self.base.origin().ascii_serialization();
                let words = format!("cannot reach {origin}: {}", root_cause(&error));
                return HttpError::later(words);
            }
            broken(&error.without_url())
        })?;
        let status = response.status();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let later = Later::of(status, response.headers(), now);
        let body = match read(&mut response).await {
            Ok(body) => body,
            // Of an answer that says no the words are not needed.
            Err(_) if !status.is_success() => Vec::new(),
            Err(Cut::Broken(error)) => return Err(broken(&error.without_url())),
            Err(Cut::TooLong) => {
                let words = format!("{what}: answered with more than {ANSWER_BYTES_MAX} bytes");
                return Err(HttpError::later(words));
            }
        };
        if status.is_success() {
            return Ok((body, secrets));
        }
        let said = without(words_in(&body), secrets.iter().map(String::as_str));
        let said = shortened(said, WORDS_CHARS_MAX);
        let colon = if said.is_empty() { "" } else { ": " };
        let words = format!("{what}: answered {status}{colon}{said}");
        Err(match later {
            Later::No => HttpError::Refused { status, body, words },
            Later::Yes { after } => HttpError::Later { after, words },
            Later::Moved { to } => {
                HttpError::later(format!("{words}: the target has moved{to}: `url` must say so"))
            }
        })
    }

    /// Sends a request whose answer is JSON.
    ///
    /// # Errors
    /// If none comes, or one that isn't 2xx, or isn't what is wanted.
    pub(crate) async fn send_for<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, HttpError> {
        let (body, secrets) = self.ask(request).await?;
        serde_json::from_slice(&body).map_err(|error| {
            let got = String::from_utf8_lossy(&body).into_owned();
            let got = shortened(without(got, secrets.iter().map(String::as_str)), 60);
            let host = self.base.host_str().unwrap_or_default();
            HttpError::later(format!(
                "{host} answered with something else ({error}, got {got:?}): is `url` that of the target?"
            ))
        })
    }

    /// Adds what the target wants to see. Returns what must show up nowhere.
    fn authorize(&self, headers: &mut HeaderMap) -> Result<Vec<String>, HttpError> {
        let read = |source: &SecretSource| {
            let later = |error: SecretError| HttpError::later(error.to_string());
            source.read().map(|secret| secret.expose().to_owned()).map_err(later)
        };
        let (name, text, secrets) = match &self.credentials {
            Credentials::None => return Ok(Vec::new()),
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
            HttpError::later("the target's secret has characters that no header may have")
        })?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(secrets)
    }
}

/// Follows a redirection that keeps the method, to another path of the same server. A secret goes to no other,
/// and a POST that becomes a GET does nothing and is answered all the same.
fn within_the_target(attempt: redirect::Attempt<'_>) -> redirect::Action {
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

enum Cut {
    Broken(reqwest::Error),
    TooLong,
}

async fn read(response: &mut Response) -> Result<Vec<u8>, Cut> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Cut::Broken)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Cut::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The last of an error's causes.
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// An error with its causes.
pub(crate) fn told(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some repeat what is below them.
        if !words.ends_with(&more) {
            words = format!("{words}: {more}");
        }
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;
    use crate::sinks::contract::Images;

    const HASTY: Patience = Patience {
        to_connect: Duration::from_secs(10),
        to_answer: Duration::from_millis(300),
        bytes_per_s: 16 << 10,
    };

    /// A server that answers each connection's first request as `answer` writes it, given the request's head.
    fn server(answer: impl Fn(&str, &mut TcpStream) + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let serve = move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                    head.push(byte[0]);
                }
                answer(&String::from_utf8_lossy(&head), &mut stream);
            }
        };
        std::thread::Builder::new().name("server".to_owned()).spawn(serve).expect("a thread");
        address
    }

    fn saying(text: &'static str) -> SocketAddr {
        server(move |_, stream| stream.write_all(text.as_bytes()).expect("an answer"))
    }

    fn answering(status: u16, headers: &str, body: &str) -> SocketAddr {
        let length = body.len();
        let text = format!(
            "HTTP/1.1 {status} Words\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
        );
        server(move |_, stream| stream.write_all(text.as_bytes()).expect("an answer"))
    }

    async fn ask_with(
        address: SocketAddr,
        credentials: Credentials,
        patience: Patience,
    ) -> Result<String, HttpError> {
        let client = HttpClient::with(&format!("http://{address}/base"), credentials, patience);
        let client = client.expect("a client");
        let body = client.send(client.request(Method::POST, "a b/c#d").body("what")).await?;
        Ok(String::from_utf8(body).expect("text"))
    }

    async fn ask(address: SocketAddr) -> Result<String, HttpError> {
        ask_with(address, Credentials::None, PATIENCE).await
    }

    #[tokio::test]
    async fn statuses_say_whether_to_come_again() {
        let item = Images::new().image("k", 1, 0);
        for (status, comes_again) in [
            (400, false),
            (404, false),
            (409, false),
            (413, false),
            (422, false),
            (401, true),
            (403, true),
            (408, true),
            (425, true),
            (429, true),
            (500, true),
            (502, true),
            (503, true),
            (301, true),
            (302, true),
        ] {
            let body = r#"{"error_code": "X", "message": "not\n like this"}"#;
            let error = ask(answering(status, "", body)).await.expect_err("an error");
            let told = error.to_string();
            assert!(told.starts_with("POST /base/a%20b/c%23d: answered "), "{told}");
            assert!(told.contains(&status.to_string()), "{told}");
            assert!(told.contains(": not like this"), "{told}");
            let error = error.of(&item);
            match error {
                SinkError::Retry { after: None, .. } => assert!(comes_again, "{status}"),
                SinkError::Reject { seq, .. } if seq == item.seq => {
                    assert!(!comes_again, "{status}");
                }
                other => panic!("{other:?}"),
            }
        }
        let refused = ask(answering(400, "", "")).await.expect_err("an error");
        assert!(matches!(SinkError::from(refused), SinkError::Retry { .. }));
        assert_eq!(ask(answering(200, "", "fine")).await.expect("an answer"), "fine");
    }

    #[tokio::test]
    async fn a_pause_is_asked_for_in_seconds_or_as_a_date() {
        for (headers, want) in [
            ("retry-after: 7\r\n", Some(7)),
            (
                "retry-after: Thu, 26 Nov 2026 10:01:30 GMT\r\ndate: Thu, 26 Nov 2026 10:00:00 GMT\r\n",
                Some(90),
            ),
            // It is past.
            ("retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Some(0)),
            ("retry-after: soon\r\n", None),
            ("", None),
        ] {
            for status in [429, 503] {
                let error = ask(answering(status, headers, "")).await.expect_err("an error");
                let HttpError::Later { after, .. } = error else { panic!("{error}") };
                assert_eq!(after, want.map(Duration::from_secs), "{headers}");
            }
        }
    }

    #[tokio::test]
    async fn who_is_silent_or_breaks_off_is_asked_again_later() {
        for text in [
            // A body that ends early, none at all, and no HTTP.
            "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "",
            "SSH-2.0-OpenSSH_9.2\r\n",
        ] {
            let error = ask(saying(text)).await.expect_err("an error");
            assert!(matches!(error, HttpError::Later { .. }), "{text}: {error:?}");
        }
        // Nobody is there.
        let port = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = port.local_addr().expect("an address");
        drop(port);
        let error = ask(address).await.expect_err("an error");
        assert!(error.to_string().contains("Connection refused"), "{error}");
    }

    #[tokio::test]
    async fn who_stalls_is_not_waited_for_for_ever() {
        for text in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"] {
            let (sender, kept) = std::sync::mpsc::sync_channel(1);
            let address = server(move |_, stream| {
                stream.write_all(text.as_bytes()).expect("an answer");
                // The connection stays open.
                sender.send(stream.try_clone().expect("a stream")).expect("a test");
            });
            let error = ask_with(address, Credentials::None, HASTY).await.expect_err("an error");
            assert!(matches!(error, HttpError::Later { .. }), "{error:?}");
            assert!(error.to_string().contains("timed out"), "{error}");
            drop(kept);
        }
    }

    #[tokio::test]
    async fn an_answer_without_end_is_not_read() {
        let address = server(|_, stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("a head");
            while stream.write_all(&[b'x'; 1 << 13]).is_ok() {}
        });
        let error = ask(address).await.expect_err("an error");
        assert!(error.to_string().contains("more than 16777216 bytes"), "{error}");
    }

    #[tokio::test]
    async fn what_is_no_json_is_told() {
        let client = |address| HttpClient::new(&format!("http://{address}"), Credentials::None);
        let client = client(answering(200, "", "<html>Log in</html>")).expect("a client");
        let got: Result<serde_json::Value, _> =
            client.send_for(client.request(Method::GET, "x")).await;
        let error = got.expect_err("an error").to_string();
        assert!(error.contains("\"<html>Log in</html>\"): is `url`"), "{error}");
    }

    /// A server that repeats what it was sent as `Authorization` or `X-Token`.
    fn echo(status: u16) -> SocketAddr {
        server(move |head, stream| {
            let sent = head.lines().filter_map(|line| line.split_once(": "));
            let sent: Vec<&str> = sent
                .filter(|(name, _)| ["authorization", "x-token"].contains(name))
                .map(|(_, value)| value)
                .collect();
            let body = sent.join(",");
            let length = body.len();
            let text = format!(
                "HTTP/1.1 {status} Words\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            stream.write_all(text.as_bytes()).expect("an answer");
        })
    }

    #[tokio::test]
    async fn secrets_are_sent_and_told_to_nobody_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        let secret = || SecretSource::File(path.clone());
        let name = HeaderName::from_static("x-token");
        let basic = Credentials::Basic { username: "me".to_owned(), password: secret() };
        for (credentials, want) in [
            (Credentials::Bearer(secret()), ["Bearer hunter2", "Bearer hunter3"]),
            (basic, ["Basic bWU6aHVudGVyMg==", "Basic bWU6aHVudGVyMw=="]),
            (Credentials::Header(name, secret()), ["hunter2", "hunter3"]),
        ] {
            // It is renewed while the program runs.
            for (secret, want) in ["hunter2", "hunter3"].into_iter().zip(want) {
                std::fs::write(&path, secret).expect("a file");
                let got = ask_with(echo(200), credentials.clone(), PATIENCE).await;
                assert_eq!(got.expect("an answer"), want);
                let error = ask_with(echo(403), credentials.clone(), PATIENCE).await;
                let error = error.expect_err("an error").to_string();
                assert!(!error.contains(secret) && !error.contains("bWU6"), "{error}");
            }
            std::fs::remove_file(&path).expect("a file");
            let error = ask_with(echo(200), credentials, PATIENCE).await.expect_err("an error");
            assert!(matches!(error, HttpError::Later { .. }), "{error:?}");
        }
    }

    #[tokio::test]
    async fn redirections_are_followed_on_the_same_server_only() {
        let there = saying("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmore");
        let elsewhere = answering(307, &format!("location: http://{there}/x?key=hunter2\r\n"), "");
        let error = ask(elsewhere).await.expect_err("an error");
        let told = error.to_string();
        assert!(matches!(error, HttpError::Later { .. }), "{error:?}");
        assert!(told.contains(&format!("has moved to http://{there}/x: ")), "{told}");

        // The request is the same at the other path, where method and body are looked at.
        let within = server(|head, stream| {
            let text = if head.starts_with("POST /other ") {
                "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\ngood"
            } else {
                "HTTP/1.1 308 Moved\r\nlocation: /other\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            };
            stream.write_all(text.as_bytes()).expect("an answer");
        });
        assert_eq!(ask(within).await.expect("an answer"), "good");
    }
}
