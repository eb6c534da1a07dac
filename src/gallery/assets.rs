//! The pages: one `index.html` for all of them, and the scripts and styles that it names.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;

use super::Gallery;
use super::answer::{gzip, takes_gzip};
use super::problem::{self, Failure};

/// Files of the front end: path, content type, bytes.
type Files = &'static [(&'static str, &'static str, &'static [u8])];

include!(concat!(env!("OUT_DIR"), "/web.rs"));

/// What pages, scripts and styles may do.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; \
    connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types safelight";

/// What stands in place of the pages in a program that was built without them.
const NO_PAGES: &str = include_str!("no_pages.html");

/// The addresses of pages. Their content is the script's.
const PAGES: [&str; 5] = ["/", "/grid", "/item", "/compare", "/search"];

pub(super) fn routes() -> Router<Gallery> {
    let pages = PAGES.iter().fold(Router::new(), |router, page| router.route(page, get(index)));
    pages.route("/a/{*path}", get(asset))
}

/// Whether this is the address of a page.
pub(super) fn is_page(path: &str) -> bool {
    PAGES.contains(&path)
}

/// A file, and the same compressed.
struct Asset {
    content_type: &'static str,
    bytes: &'static [u8],
    gzipped: Bytes,
}

static ASSETS: LazyLock<HashMap<&str, Asset>> = LazyLock::new(|| {
    let asset = |&(path, content_type, bytes): &(_, _, _)| {
        let gzipped = gzip(bytes, Compression::best()).into();
        (path, Asset { content_type, bytes, gzipped })
    };
    WEB.iter().map(asset).collect()
});

impl Asset {
    fn response(&self, headers: &HeaderMap, cache: &'static str) -> Response {
        let cached = HeaderValue::from_static(cache);
        let content_type = HeaderValue::from_static(self.content_type);
        let mut response = if takes_gzip(headers) && self.gzipped.len() < self.bytes.len() {
            let encoded = [(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
            (encoded, self.gzipped.clone()).into_response()
        } else {
            Bytes::from_static(self.bytes).into_response()
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, content_type);
        headers.insert(header::CACHE_CONTROL, cached);
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        response
    }
}

async fn index(headers: HeaderMap) -> Response {
    if let Some(asset) = ASSETS.get("index.html") {
        return asset.response(&headers, "private, no-cache");
    }
    html(NO_PAGES)
}

/// A page that the program has without the front end.
pub(super) fn html(text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    (headers, text).into_response()
}

/// Whether a client wants a page, not an answer for programs: it asks for one, or is a browser that goes to any other
/// address.
pub(super) fn wants_page(uri: &Uri, headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    is_page(uri.path()) || accepted.is_some_and(|types| types.contains("text/html"))
}

/// The answer at an address that does not exist: a page that leads to the runs, or a problem for programs.
pub(super) async fn no_page(uri: Uri, headers: HeaderMap) -> Response {
    if !wants_page(&uri, &headers) {
        return problem::no_address(&uri).into_response();
    }
    // The script says on its page that there is no such address.
    let mut response = index(headers).await;
    *response.status_mut() = StatusCode::NOT_FOUND;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Result<Response, Failure> {
    // Names end in a digest of their content.
    let asset = ASSETS.get(&*format!("a/{path}"));
    let asset = asset.ok_or_else(|| Failure::not_found("this version has no such file"))?;
    Ok(asset.response(&headers, "private, max-age=31536000, immutable"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_and_their_files_have_a_policy_that_lets_scripts_run() {
        let files = ASSETS.values().map(|asset| asset.response(&HeaderMap::new(), "no-store"));
        let pages = [html(NO_PAGES), index(HeaderMap::new()).await];
        for response in files.chain(pages) {
            assert_eq!(response.headers()[header::CONTENT_SECURITY_POLICY], POLICY);
        }
        let words = HeaderValue::from_static("text/html,application/xhtml+xml,*/*;q=0.8");
        let browser: HeaderMap = [(header::ACCEPT, words)].into_iter().collect();
        for (path, headers, want) in [
            ("/", HeaderMap::new(), true),
            ("/nothing", HeaderMap::new(), false),
            ("/nothing", browser, true),
        ] {
            assert_eq!(wants_page(&Uri::from_static(path), &headers), want, "{path}");
        }
    }
}
