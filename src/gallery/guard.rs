//! What every request passes before it is answered, and the headers of every answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::assets::{html, is_page, wants_page};
use super::problem::{self, Failure};

/// What an answer may do if a browser shows it. Pages and media files have a policy of their own.
const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";

/// What a browser shows in place of a page that needs a login.
const LOGIN_PAGE: &str = include_str!("login.html");

/// What a browser shows while the store is being opened. It asks again by itself.
const STARTING_PAGE: &str = include_str!("starting.html");

/// Passes on a request that may be answered.
pub(super) async fn guard(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let response = match refusal(&shared, &request) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    with_headers(response)
}

/// Adds the headers that every answer has.
fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, DATA_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// The answer to every request while the store is being opened. Its connection is closed, because the next request
/// may be answered.
pub(super) async fn starting(uri: Uri, headers: HeaderMap) -> Response {
    let mut response = if wants_page(&uri, &headers) {
        let rules = [(header::RETRY_AFTER, "1")];
        (StatusCode::SERVICE_UNAVAILABLE, rules, html(STARTING_PAGE)).into_response()
    } else {
        Failure::starting().into_response()
    };
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    with_headers(response)
}

/// The answer to a request that is not passed on.
fn refusal(shared: &Shared, request: &Request) -> Option<Response> {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    if let Err(failure) = check_host(uri, headers, &shared.config.hosts) {
        return Some(failure.into_response());
    }
    if let Err(failure) = check_origin(uri, headers) {
        return Some(failure.into_response());
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Some(problem::wrong_method(method));
    }
    if has_body(headers) {
        let detail = "got a request with a body, want none: the gallery changes nothing";
        return Some(Failure::bad_parameter(detail).into_response());
    }
    let wants_page = wants_page(uri, headers);
    if wants_page && let Some((code, clean)) = login_code(uri) {
        return Some(log_in(shared, method, headers, &code, &clean));
    }
    if shared.logins.allows(headers) {
        return None;
    }
    Some(if wants_page { login_page() } else { Failure::login().into_response() })
}

/// Checks that a request names this machine: a foreign page that gives it another name can't read the gallery then.
fn check_host(uri: &Uri, headers: &HeaderMap, hosts: &[String]) -> Result<(), Failure> {
    let mut named = headers.get_all(header::HOST).iter();
    let host = named.next().and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_one = named.next().is_none();
    let of_uri = uri.authority().map_or(host, |authority| authority.as_str());
    if is_one && is_known(host, hosts) && is_known(of_uri, hosts) {
        return Ok(());
    }
    let detail = format!(
        "got the host {host:?}, want localhost, 127.0.0.1, [::1] or one of the setting `gallery.hosts`"
    );
    Err(Failure::new(StatusCode::FORBIDDEN, "host", "the host is not known", detail))
}

/// Whether a host, with or without a port, is this machine or one of `hosts`.
fn is_known(host: &str, hosts: &[String]) -> bool {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => address,
        Some((address, port)) if port.strip_prefix(':').is_some_and(is_port) => address,
        Some(_) => return false,
        None => match host.rsplit_once(':') {
            Some((name, port)) if is_port(port) && !name.contains(':') => name,
            Some(_) => return false,
            None => host,
        },
    };
    let is_bracketed = host.starts_with('[');
    match name.parse::<IpAddr>() {
        Ok(address) if address.is_loopback() => address.is_ipv6() == is_bracketed,
        _ if name.eq_ignore_ascii_case("localhost") => !is_bracketed,
        _ => hosts.iter().any(|known| {
            let known = known.trim_start_matches('[').trim_end_matches(']');
            !name.is_empty() && known.eq_ignore_ascii_case(name)
        }),
    }
}

/// Checks that a browser does not ask for another site's page. Such a page may only link to this one's pages.
fn check_origin(uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    let of = |name| headers.get(name).map(HeaderValue::as_bytes);
    let is_foreign =
        of("sec-fetch-site").is_some_and(|site| !matches!(site, b"same-origin" | b"none"));
    let is_link = of("sec-fetch-mode") == Some(b"navigate")
        && of("sec-fetch-dest") == Some(b"document")
        && is_page(uri.path());
    if !is_foreign || is_link {
        return Ok(());
    }
    let detail = "the page of another site asked for this: it may only link to the gallery's pages";
    Err(Failure::new(StatusCode::FORBIDDEN, "cross-site", "another site may not read this", detail))
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING)
        || length.is_some_and(|length| length.as_bytes() != b"0")
}

/// The login code in an address, and the address without it.
fn login_code(uri: &Uri) -> Option<(String, String)> {
    let query = uri.query()?;
    let of_login = |pair: &&str| pair.starts_with("login=");
    let code = query.split('&').find(of_login)?.strip_prefix("login=")?.to_owned();
    let rest: Vec<&str> = query.split('&').filter(|pair| !of_login(pair)).collect();
    let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
    Some((code, format!("{}{query}", uri.path())))
}

/// Logs a browser in, and leads it to the address without the code.
fn log_in(shared: &Shared, method: &Method, headers: &HeaderMap, code: &str, to: &str) -> Response {
    let is_known = shared.logins.allows(headers);
    // A HEAD request uses no code up: programs that preview links send it.
    let cookie = if is_known || *method == Method::HEAD {
        None
    } else {
        match shared.logins.log_in(code, Instant::now()) {
            Ok(cookie) => cookie,
            Err(error) => return Failure::internal(error).into_response(),
        }
    };
    let cookie = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok());
    if cookie.is_none() && !is_known {
        return login_page();
    }
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(to) = HeaderValue::try_from(to) {
        headers.insert(header::LOCATION, to);
    }
    if let Some(cookie) = cookie {
        headers.insert(header::SET_COOKIE, cookie);
        shared.logged_in.notify_one();
    }
    response
}

fn login_page() -> Response {
    (StatusCode::UNAUTHORIZED, html(LOGIN_PAGE)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_this_machine_are_known() {
        let hosts = ["box.example".to_owned(), "10.0.0.7".to_owned()];
        for (host, want) in [
            ("localhost", true),
            ("LocalHost:7878", true),
            ("127.0.0.1:1", true),
            ("127.8.9.10", true),
            ("[::1]", true),
            ("[::1]:7878", true),
            ("box.example:80", true),
            ("BOX.example", true),
            ("10.0.0.7:7878", true),
            ("", false),
            (":80", false),
            ("localhost:x", false),
            ("localhost.evil.example", false),
            ("evil.localhost", false),
            ("127.0.0.1.evil.example", false),
            ("[127.0.0.1]", false),
            ("::1", false),
            ("[::1", false),
            ("[::1]x", false),
            ("0.0.0.0", false),
            ("10.0.0.8", false),
        ] {
            assert_eq!(is_known(host, &hosts), want, "{host}");
        }
    }

    #[test]
    fn another_site_may_only_link_to_pages() {
        let check = |path: &'static str, sent: &[(&'static str, &'static str)]| {
            let sent = sent.iter().map(|(name, value)| {
                (header::HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            check_origin(&Uri::from_static(path), &sent.collect()).is_ok()
        };
        let link = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        for site in ["cross-site", "same-site", "unheard-of"] {
            let site = ("sec-fetch-site", site);
            assert!(check("/grid?run=a", &[&[site], &link[..]].concat()));
            assert!(!check("/api/v1/runs", &[&[site], &link[..]].concat()));
            assert!(!check("/grid", &[site, ("sec-fetch-mode", "no-cors")]));
            let frame = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")];
            assert!(!check("/grid", &[&[site], &frame[..]].concat()));
        }
        for site in ["same-origin", "none"] {
            assert!(check("/api/v1/runs", &[("sec-fetch-site", site)]));
        }
        assert!(check("/api/v1/runs", &[]), "not from a browser");
    }

    #[tokio::test]
    async fn a_daemon_that_starts_says_so() {
        let (page, problem) = ("text/html; charset=utf-8", "application/problem+json");
        for (path, accepted, kind) in [
            ("/", "*/*", page),
            ("/nothing", "text/html,*/*;q=0.8", page),
            ("/nothing", "*/*", problem),
            ("/api/v1/runs", "*/*", problem),
        ] {
            let headers = [(header::ACCEPT, HeaderValue::from_static(accepted))];
            let response = starting(Uri::from_static(path), headers.into_iter().collect()).await;
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            for (name, want) in
                [("content-type", kind), ("retry-after", "1"), ("connection", "close")]
            {
                assert_eq!(response.headers()[name], want, "{path}");
            }
            assert!(response.headers().contains_key(header::CONTENT_SECURITY_POLICY));
        }
    }

    #[test]
    fn the_code_is_taken_out_of_the_address() {
        let of = |text: &'static str| login_code(&Uri::from_static(text));
        let got = of("/grid?run=a&login=x_-1&key=b");
        assert_eq!(got, Some(("x_-1".to_owned(), "/grid?run=a&key=b".to_owned())));
        assert_eq!(of("/?login=x"), Some(("x".to_owned(), "/".to_owned())));
        assert_eq!(of("/?logins=x"), None);
    }
}
