//! The HTTP client of the crate `object_store`, under the rules of [`crate::sinks::http::policy`].
//!
//! The crate's own client follows redirections to any server, reads answers of any length, and reserves as much memory
//! as an answer announces.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions, Error};
use reqwest::header::LOCATION;
use reqwest::{Method, Request, Response, StatusCode, Url};

use crate::sinks::http::policy::{self, ANSWER_BYTES_MAX, OBJECT_BYTES_MAX, TIMEOUTS};

/// Creates clients for the crate `object_store`.
#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allows_http = options.get_config_value(&ClientConfigKey::AllowHttp);
        let is_plain = allows_http.as_deref() == Some("true");
        // Plain HTTP too needs certificates, because keys may come from another server.
        let client = policy::client(TIMEOUTS, false).https_only(!is_plain).build();
        let generic = |error| Error::Generic { store: "HTTP", source: Box::new(error) };
        Ok(HttpClient::new(Client(client.map_err(generic)?)))
    }
}

#[derive(Debug)]
struct Client(reqwest::Client);

// The trait uses the macro `async_trait`. This is the expanded signature, which avoids the dependency.
impl HttpService for Client {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.send(request))
    }
}

impl Client {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let url: Url = parts.uri.to_string().parse().map_err(failed)?;
        let is_get = parts.method == Method::GET;
        let n_bytes_max = if is_get { OBJECT_BYTES_MAX } else { ANSWER_BYTES_MAX as u64 };
        let n_bytes = if is_get { OBJECT_BYTES_MAX } else { body.content_length() as u64 };
        let mut request = Request::new(parts.method, url.clone());
        *request.headers_mut() = parts.headers;
        *request.timeout_mut() = Some(TIMEOUTS.of_request(n_bytes));
        *request.body_mut() = Some(reqwest::Body::wrap(body));
        let sent = self.0.execute(request).await;
        let response = sent.map_err(|error| failed(error.without_url()))?;
        let status = response.status();
        if status.is_success() {
            let (parts, body) = hyper::Response::<reqwest::Body>::from(response).into_parts();
            let body = HttpResponseBody::new(Capped { body, n_left: n_bytes_max, n_bytes_max });
            return Ok(HttpResponse::from_parts(parts, body));
        }
        if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
            let to = response.headers().get(LOCATION);
            // The crate names the URL.
            let moved = policy::redirection(&url, status, to);
            return Err(failed(io::Error::other(format!("redirected with {moved}"))));
        }
        Ok(error_response(response).await)
    }
}

/// Reads the beginning of an error.
async fn error_response(response: Response) -> HttpResponse {
    let (status, headers) = (response.status(), response.headers().clone());
    let body = policy::error_body(response).await;
    let mut error = HttpResponse::new(String::from_utf8_lossy(&body).into_owned().into());
    (*error.status_mut(), *error.headers_mut()) = (status, headers);
    error
}

/// An error that the crate `object_store` does not retry, because [`crate::sync`] does.
fn failed(error: impl StdError + Send + Sync + 'static) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, error)
}

/// The body of an answer up to a limit.
struct Capped {
    body: reqwest::Body,
    n_left: u64,
    n_bytes_max: u64,
}

impl Body for Capped {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)) else {
            return Poll::Ready(None);
        };
        let counted = frame.map_err(|error| failed(error.without_url())).and_then(|frame| {
            let n_bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            let n_bytes_max = self.n_bytes_max;
            self.n_left = self.n_left.checked_sub(n_bytes).ok_or_else(|| {
                failed(io::Error::other(format!("the answer has more than {n_bytes_max} bytes")))
            })?;
            Ok(frame)
        });
        Poll::Ready(Some(counted))
    }

    // There is no size hint, because the crate reserves memory for it, and the server announces it.
}
