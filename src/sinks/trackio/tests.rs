//! Tests against a small Trackio that accepts images in both ways, as the real one does.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Map;
use tempfile::TempDir;

use super::server::TOKEN;
use super::*;
use crate::media::{Description, Sha256};
use crate::secrets::SecretSource;
use crate::sinks::contract::{self, Images};

fn info(identity: &Value) -> RunInfo {
    let identity = identity.as_object().cloned().unwrap_or_else(Map::new);
    RunInfo { id: RunId::new("run/1").expect("a run"), source: "/run".into(), identity }
}

/// Rows with their ids, in the order of their import.
#[derive(Debug, Default)]
struct Rows(Vec<(String, Value)>);

impl Rows {
    fn import(&mut self, line: &Value) {
        let id = line["log_id"].as_str().expect("an id").to_owned();
        if self.0.iter().all(|(known, _)| *known != id) {
            self.0.push((id, line.clone()));
        }
    }

    /// Returns key, step and digest of the images.
    fn seen(&self, media: impl Fn(&str) -> Vec<u8>) -> Vec<(String, u64, Sha256)> {
        let mut seen = Vec::new();
        for (_, line) in &self.0 {
            let step = line["step"].as_u64().expect("a step");
            for (key, image) in line["metrics"].as_object().expect("metrics") {
                assert_eq!(image["_type"], "trackio.image");
                let file = media(image["file_path"].as_str().expect("a path"));
                let key = key.strip_suffix("/1").unwrap_or(key).to_owned();
                seen.push((key, step, Sha256::of(&file)));
            }
        }
        seen
    }
}

/// A directory, with an importer that runs when a test calls it.
struct Directory {
    folder: TempDir,
    rows: Mutex<Rows>,
}

impl Directory {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), rows: Mutex::default() }
    }

    fn target(&self) -> TrackioTarget {
        let dir = TargetDir::new(self.folder.path(), Disk::default());
        TrackioTarget { location: TrackioLocation::Inbox(TrackioInbox::new(dir)), project: None }
    }

    /// Imports the fragments, and removes them if `removes`.
    fn import(&self, removes: bool) {
        let mut rows = self.rows.lock().expect("rows");
        let writers = fs::read_dir(self.folder.path().join("inbox")).into_iter().flatten();
        for writer in writers.map(|writer| writer.expect("an entry").path()) {
            if writer.is_symlink() || !writer.is_dir() {
                continue;
            }
            let mut fragments: Vec<_> = fs::read_dir(&writer)
                .expect("a folder")
                .map(|entry| entry.expect("an entry").path())
                .filter(|path| !path.is_symlink())
                .collect();
            fragments.sort();
            for fragment in fragments {
                assert_eq!(fragment.extension(), Some("jsonl".as_ref()));
                let text = fs::read_to_string(&fragment).expect("a fragment");
                let line = |line| serde_json::from_str(line).expect("a line");
                text.lines().map(line).for_each(|line| rows.import(&line));
                if removes {
                    fs::remove_file(fragment).expect("a fragment");
                }
            }
            if removes {
                // A test may have put a link there, which stays.
                fs::remove_dir(writer).ok();
            }
        }
    }
}

impl contract::Target for Directory {
    type Sink = TrackioRun;

    fn open(&self) -> TrackioRun {
        // A server may import at any time.
        self.import(true);
        self.target().run(&info(&Value::Null))
    }

    fn seen(&self) -> Vec<(String, u64, Sha256)> {
        self.import(false);
        let media = self.folder.path().join("media");
        let read = |path: &str| fs::read(media.join(path)).expect("a file");
        self.rows.lock().expect("rows").seen(read)
    }
}

#[tokio::test]
async fn the_inbox_keeps_what_every_sink_promises() {
    contract::check(Directory::new).await;
}

#[tokio::test]
async fn a_fragment_has_the_rows_that_trackio_reads() {
    let directory = Directory::new();
    let identity = json!({"project": "my.project", "name": "../first", "config": {"lr": 0.1}});
    let mut run = directory.target().run(&info(&identity));
    let mut images = Images::new();
    let description = Description { caption: Some("a cat".into()), ..Description::default() };
    let item = images.image_with("val/pred", 7, 2, description, crate::media::Layers::default());
    run.put(&item).await.expect("a file");
    run.commit(std::slice::from_ref(&item)).await.expect("a receipt");
    directory.import(false);
    let rows = directory.rows.lock().expect("rows");
    let [(id, line)] = &rows.0[..] else { panic!("{rows:?}") };
    assert_eq!(id.len(), 32);
    let path = format!("myproject/%2E.%2Ffirst/7/{id}.png");
    let want = json!({
        "v": 1, "kind": "metric", "project": "my.project", "run": "../first", "run_id": "run/1",
        "metrics": {"val/pred/2": {"_type": "trackio.image", "file_path": path, "caption": "a cat"}},
        "step": 7, "timestamp": "2023-11-14T22:13:21.250000+00:00", "config": {"lr": 0.1}, "log_id": id,
    });
    assert_eq!(line, &want);
    let file = fs::read(directory.folder.path().join("media").join(path)).expect("a file");
    assert_eq!(Sha256::of(&file), item.file.sha256);
}

#[tokio::test]
async fn a_fragment_that_is_not_imported_yet_is_not_replaced() {
    let (directory, mut images) = (Directory::new(), Images::new());
    let items: Vec<Delivery> = (0..3).map(|step| images.image("k", step, 0)).collect();
    let mut run = directory.target().run(&info(&Value::Null));
    for item in &items {
        run.put(item).await.expect("a file");
    }
    run.commit(&items).await.expect("a receipt");
    run.commit(&items[..1]).await.expect("a receipt");
    run.commit(&items[..1]).await.expect("a receipt");
    let inbox = directory.folder.path().join("inbox");
    let writer = fs::read_dir(inbox).expect("a folder").next().expect("a writer").expect("one");
    assert_eq!(fs::read_dir(writer.path()).expect("a folder").count(), 2);
    directory.import(true);
    assert_eq!(directory.rows.lock().expect("rows").0.len(), 3);
}

#[test]
fn projects_have_the_folders_that_trackio_gives_them() {
    for (project, want) in [("my.model", "mymodel"), ("größe 2", "größe2"), ("../..", "default")]
    {
        assert_eq!(project_folder(project), want);
    }
}

/// The state of the server.
#[derive(Debug, Default)]
struct Server {
    rows: Rows,
    staged: HashMap<String, Vec<u8>>,
    media: BTreeMap<String, Vec<u8>>,
    /// Whether the next answer is lost, after the server has stored the rows.
    loses_answer: bool,
}

type Shared = Arc<Mutex<Server>>;
type Answer = (StatusCode, String);

fn check_token(headers: &HeaderMap) -> Result<(), Answer> {
    if headers.get(TOKEN).is_some_and(|token| token == "tok") {
        return Ok(());
    }
    let words =
        json!({"error": "A write_token is required to log metrics or upload to this server."});
    Err((StatusCode::BAD_REQUEST, words.to_string()))
}

async fn upload(
    State(server): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<String, Answer> {
    check_token(&headers)?;
    // The body is one part: a head, an empty line, the file, and the last line of the boundary.
    let boundary =
        headers["content-type"].to_str().expect("text").split_once("boundary=").expect("one").1;
    let start = body.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&body[..start]).into_owned();
    assert!(head.contains("name=\"files\"") && head.contains(".png\""), "{head}");
    let end = body.len() - format!("\r\n--{boundary}--\r\n").len();
    let mut server = server.lock().expect("a server");
    let path = format!("/tmp/{}", server.staged.len() + server.media.len());
    server.staged.insert(path.clone(), body[start..end].to_vec());
    Ok(json!({"paths": [path]}).to_string())
}

async fn media(
    State(server): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<String, Answer> {
    check_token(&headers)?;
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    let mut server = server.lock().expect("a server");
    for upload in body["uploads"].as_array().expect("uploads") {
        let file = &upload["uploaded_file"];
        let bytes = server.staged.remove(file["path"].as_str().expect("a path")).expect("a file");
        let project = project_folder(upload["project"].as_str().expect("a project"));
        let [run, name] =
            [&upload["run"], &file["orig_name"]].map(|text| text.as_str().expect("text"));
        let path = format!("{project}/{run}/{}/{name}", upload["step"]);
        server.media.insert(path, bytes);
    }
    Ok("{}".to_owned())
}

async fn log(
    State(server): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<String, Answer> {
    check_token(&headers)?;
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    let mut server = server.lock().expect("a server");
    for line in body["logs"].as_array().expect("logs") {
        server.rows.import(line);
    }
    let loses_answer = std::mem::take(&mut server.loses_answer);
    if loses_answer {
        Err((StatusCode::BAD_GATEWAY, "gone".to_owned()))
    } else {
        Ok("{}".to_owned())
    }
}

struct Http {
    server: Shared,
    address: SocketAddr,
    folder: TempDir,
}

impl Http {
    /// Starts a server on a thread of its own.
    fn new() -> Self {
        let server = Shared::default();
        let routes = Router::new()
            .route("/api/upload", post(upload))
            .route("/api/bulk_upload_media", post(media))
            .route("/api/bulk_log", post(log))
            .with_state(server.clone());
        let address = contract::serve(routes);
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("token"), "tok\n").expect("a file");
        Self { server, address, folder }
    }

    fn target(&self, token: &str) -> TrackioTarget {
        let token = SecretSource::File(self.folder.path().join(token));
        let url = format!("http://{}", self.address);
        let server = TrackioServer::new(&url, Some(token)).expect("a client");
        TrackioTarget { location: TrackioLocation::Server(server), project: None }
    }
}

impl contract::Target for Http {
    type Sink = TrackioRun;

    fn open(&self) -> TrackioRun {
        self.target("token").run(&info(&Value::Null))
    }

    fn seen(&self) -> Vec<(String, u64, Sha256)> {
        let server = self.server.lock().expect("a server");
        server.rows.seen(|path| server.media[path].clone())
    }
}

#[tokio::test]
async fn over_http_it_keeps_what_every_sink_promises() {
    contract::check(Http::new).await;
}

#[tokio::test]
async fn a_lost_answer_duplicates_no_row_and_a_wrong_token_rejects_no_item() {
    let (http, mut images) = (Http::new(), Images::new());
    let item = images.image("k", 1, 0);
    fs::write(http.folder.path().join("wrong"), "other").expect("a file");
    let run = http.target("wrong").run(&info(&Value::Null));
    let error = run.put(&item).await.expect_err("a refusal");
    assert!(matches!(error, SinkError::Retry { .. }), "{error}");
    assert!(error.to_string().contains("write_token is required"), "{error}");

    let mut run = http.target("token").run(&info(&Value::Null));
    run.put(&item).await.expect("a file");
    http.server.lock().expect("a server").loses_answer = true;
    let error = run.commit(std::slice::from_ref(&item)).await.expect_err("a lost answer");
    assert!(matches!(error, SinkError::Retry { .. }), "{error}");
    run.commit(std::slice::from_ref(&item)).await.expect("a receipt");
    assert_eq!(http.server.lock().expect("a server").rows.0.len(), 1);
}

#[tokio::test]
async fn links_in_the_directory_are_not_followed() {
    let root = |directory: &Directory| directory.folder.path().to_owned();
    contract::check_links(Directory::new, root, |_| false).await;
}

#[tokio::test]
async fn a_file_of_another_program_is_not_overwritten() {
    let (directory, mut images) = (Directory::new(), Images::new());
    let item = images.image("k", 1, 0);
    let run = directory.target().run(&info(&Value::Null));
    run.put(&item).await.expect("a file");
    let names = &run.names;
    let path = Path::new("media")
        .join(names.step_folder(item.id.step))
        .join(names.file_name(&item.id, &item.file));
    let path = directory.folder.path().join(path);
    fs::write(&path, "another's").expect("a file");
    let error = run.put(&item).await.expect_err("a file that is not ours");
    assert!(matches!(error, SinkError::Retry { .. }), "{error}");
    assert!(error.to_string().contains("did not write"), "{error}");
    assert_eq!(fs::read(&path).expect("a file"), b"another's");
}
