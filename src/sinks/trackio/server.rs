//! A Trackio server, over HTTP.

use reqwest::header::HeaderName;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::of_line;
use crate::formats::trackio::Names;
use crate::secrets::SecretSource;
use crate::sinks::http::file_body::{file_body, or_damage};
use crate::sinks::http::{Credentials, HttpClient, HttpError};
use crate::sinks::{Delivery, SinkError};
use crate::store::media_check::NamedFile;

/// The header of the write token.
pub(super) const TOKEN: HeaderName = HeaderName::from_static("x-trackio-write-token");

/// A client of a Trackio server.
#[derive(Debug, Clone)]
pub(super) struct TrackioServer(HttpClient);

/// The longest path of an upload at the server.
const PATH_BYTES_MAX: usize = 4096;

/// The answer to an upload.
#[derive(Debug, Deserialize)]
struct UploadAnswer {
    paths: Vec<String>,
}

/// Converts an error of a request about `item`. Only an image that is too large is rejected. Trackio answers a missing
/// write token with 400, so that no 400 may reject an item.
fn error_of(error: HttpError, item: &Delivery) -> SinkError {
    match error {
        HttpError::Refused { status: StatusCode::PAYLOAD_TOO_LARGE, .. } => error.for_item(item),
        other => other.into(),
    }
}

impl TrackioServer {
    pub(super) fn new(url: &str, token: Option<SecretSource>) -> Result<Self, SinkError> {
        let credentials =
            token.map_or(Credentials::None, |token| Credentials::Header(TOKEN, token));
        HttpClient::new(url, credentials).map(Self)
    }

    /// Uploads an image.
    pub(super) async fn put(&self, names: &Names, item: &Delivery) -> Result<(), SinkError> {
        let file_name = names.file_name(&item.id, &item.file);
        let file = NamedFile::from(&item.file);
        let body = file_body(item, file).await?;
        let part = Part::stream_with_length(body, file.size).file_name(file_name.clone());
        let request = self.0.request(Method::POST, "api/upload");
        let request = request.multipart(Form::new().part("files", part));
        let answer: UploadAnswer = match self.0.send_for(request).await {
            Ok(answer) => answer,
            Err(error) => return Err(or_damage(item, file, error_of(error, item)).await),
        };
        let [path] = &answer.paths[..] else {
            let got = answer.paths.len();
            return Err(SinkError::retry(format!(
                "Trackio stored {got} files of an upload, want 1"
            )));
        };
        if path.len() > PATH_BYTES_MAX {
            let got = path.len();
            return Err(SinkError::retry(format!(
                "Trackio named an upload with {got} bytes, want at most {PATH_BYTES_MAX}"
            )));
        }
        let upload = json!({
            "project": names.project,
            "run": names.folder,
            "step": item.id.step,
            "relative_path": null,
            "uploaded_file": { "path": path, "orig_name": file_name },
        });
        let request = self.0.request(Method::POST, "api/bulk_upload_media");
        let request = request.json(&json!({ "uploads": [upload], "hf_token": null }));
        self.0.send(request).await.map_err(|error| error_of(error, item))
    }

    /// Logs the rows of images.
    pub(super) async fn log(
        &self,
        names: &Names,
        items: &[Delivery],
        has_config: bool,
    ) -> Result<(), SinkError> {
        let rows: Vec<Value> = names.lines(items.iter().map(of_line), has_config).collect();
        let request = self.0.request(Method::POST, "api/bulk_log");
        let request = request.json(&json!({ "logs": rows, "hf_token": null }));
        Ok(self.0.send(request).await?)
    }
}
