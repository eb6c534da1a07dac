//! Who may look: sessions of browsers, their login codes, and the token of programs.
//!
//! Only digests are kept, so that a comparison's time tells nothing of a secret.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::locks::lock;
use crate::media::Sha256;

/// How long a login code is valid.
pub(crate) const CODE_AGE_MAX: Duration = Duration::from_mins(1);

/// The codes and sessions that are kept. The oldest is dropped for another.
const KEPT_MAX: usize = 256;

/// Random bytes of a session and of a code.
const SECRET_BYTES: usize = 32;

/// Random text that stands in a URL.
///
/// # Errors
/// If the system has no random bytes.
fn random_text(n_bytes: usize) -> io::Result<String> {
    let mut bytes = vec![0; n_bytes];
    let mut n_read = 0;
    while n_read < n_bytes {
        n_read += getrandom(&mut bytes[n_read..], GetRandomFlags::empty())?;
    }
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// A random name of a process.
///
/// # Errors
/// If the system has no random bytes.
pub(super) fn random_name() -> io::Result<String> {
    random_text(12)
}

/// Who may look.
pub(super) struct Logins {
    /// Whether clients must log in.
    is_needed: bool,
    /// Named by store: browsers send the cookies of all ports of a machine.
    cookie: String,
    token: Option<Sha256>,
    codes: Mutex<VecDeque<(Sha256, Option<Instant>)>>,
    sessions: Mutex<VecDeque<Sha256>>,
}

impl Logins {
    /// `token` is that of programs.
    pub(super) fn new(store: &Path, is_needed: bool, token: Option<&str>) -> Self {
        let of_store = Sha256::of(store.as_os_str().as_encoded_bytes()).to_string();
        Self {
            is_needed,
            cookie: format!("safelight-{}", &of_store[..12]),
            token: token.map(|token| Sha256::of(token.as_bytes())),
            codes: Mutex::default(),
            sessions: Mutex::default(),
        }
    }

    /// Makes a code that logs a browser in, once, until a time if there is one.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub(super) fn code(&self, until: Option<Instant>) -> io::Result<String> {
        let code = random_text(SECRET_BYTES)?;
        keep(&mut lock(&self.codes), (Sha256::of(code.as_bytes()), until));
        Ok(code)
    }

    /// Uses a code up. Returns the cookie of a new session if the code is valid.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub(super) fn log_in(&self, code: &str, now: Instant) -> io::Result<Option<String>> {
        let digest = Sha256::of(code.as_bytes());
        let mut codes = lock(&self.codes);
        codes.retain(|(_, until)| until.is_none_or(|until| now < until));
        let Some(at) = codes.iter().position(|(of, _)| *of == digest) else { return Ok(None) };
        codes.remove(at);
        drop(codes);
        let secret = random_text(SECRET_BYTES)?;
        keep(&mut lock(&self.sessions), Sha256::of(secret.as_bytes()));
        let name = &self.cookie;
        Ok(Some(format!("{name}={secret}; Path=/; HttpOnly; SameSite=Lax")))
    }

    /// Whether a request may be answered.
    pub(super) fn allows(&self, headers: &HeaderMap) -> bool {
        if !self.is_needed {
            return true;
        }
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        if bearer.is_some_and(|token| self.token == Some(Sha256::of(token.as_bytes()))) {
            return true;
        }
        let cookies =
            headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let cookies = cookies.flat_map(|value| value.split(';')).filter_map(|cookie| {
            let (name, value) = cookie.trim().split_once('=')?;
            (name == self.cookie).then_some(value)
        });
        let sessions = lock(&self.sessions);
        let mut digests = cookies.map(|value| Sha256::of(value.as_bytes()));
        digests.any(|digest| sessions.contains(&digest))
    }
}

fn keep<T>(kept: &mut VecDeque<T>, new: T) {
    if kept.len() >= KEPT_MAX {
        kept.pop_front();
    }
    kept.push_back(new);
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn with(name: header::HeaderName, value: &str) -> HeaderMap {
        let value = HeaderValue::from_str(value).expect("a header");
        HeaderMap::from_iter([(name, value)])
    }

    #[test]
    fn a_code_logs_in_once_and_in_time() {
        let logins = Logins::new(Path::new("/s"), true, None);
        let now = Instant::now();
        let code = logins.code(Some(now + CODE_AGE_MAX)).expect("a code");
        assert!(!logins.allows(&HeaderMap::new()));
        let cookie = logins.log_in(&code, now).expect("random bytes").expect("a session");
        assert!(cookie.starts_with("safelight-") && cookie.contains("; HttpOnly; SameSite=Lax"));
        let sent = cookie.split(';').next().expect("a cookie");
        assert!(logins.allows(&with(header::COOKIE, &format!("other=1; {sent}"))));
        assert!(!logins.allows(&with(header::COOKIE, &sent[..sent.len() - 1])));
        assert_eq!(logins.log_in(&code, now).expect("random bytes"), None, "used");
        let late = logins.code(Some(now + CODE_AGE_MAX)).expect("a code");
        assert_eq!(logins.log_in(&late, now + CODE_AGE_MAX).expect("random bytes"), None);
        let other = Logins::new(Path::new("/s"), true, None);
        assert!(!other.allows(&with(header::COOKIE, sent)), "sessions end with the process");
    }

    #[test]
    fn programs_send_the_token() {
        let logins = Logins::new(Path::new("/s"), true, Some("secret"));
        for (value, want) in [
            ("Bearer secret", true),
            ("bearer  secret", true),
            ("Bearer Secret", false),
            ("Bearer ", false),
            ("Basic secret", false),
            ("secret", false),
        ] {
            assert_eq!(logins.allows(&with(header::AUTHORIZATION, value)), want, "{value}");
        }
        let none = Logins::new(Path::new("/s"), true, None);
        assert!(!none.allows(&with(header::AUTHORIZATION, "Bearer ")));
    }
}
