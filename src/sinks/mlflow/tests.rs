//! Tests against a fake server in the same process that stores experiments, runs and files as the real one does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use serde_json::{Value, json};

use super::server::artifacts_path;
use super::*;
use crate::media::{Annotation, Description, Layers, RunId, Sha256};
use crate::secrets::SecretSource;
use crate::sinks::contract::{self, Images};

#[derive(Default)]
struct FakeServer {
    experiments: Vec<Value>,
    runs: Vec<Value>,
    files: BTreeMap<String, Vec<u8>>,
    requests: Vec<String>,
    /// Whether another client creates the experiment between a lookup and its creation.
    is_raced: bool,
    /// The endpoint whose next answer is lost, after the server has executed the request.
    lost: Option<&'static str>,
    artifact_root: &'static str,
}

type Shared = Arc<Mutex<FakeServer>>;

fn of(server: &Shared) -> MutexGuard<'_, FakeServer> {
    server.lock().expect("a server")
}

fn refusal(status: StatusCode, code: &str) -> Response {
    (status, json!({"error_code": code, "message": "so it is"}).to_string()).into_response()
}

fn experiment(name: &str, n: usize) -> Value {
    json!({"experiment_id": n.to_string(), "name": name, "lifecycle_stage": "active"})
}

async fn answer(State(server): State<Shared>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mut server = of(&server);
    let path = uri.path().to_owned();
    server.requests.push(format!("{method} {path}"));
    let response = server.answer(&method, &path, uri.query().unwrap_or(""), &body);
    if server.lost.is_some_and(|lost| path.ends_with(lost)) {
        server.lost = None;
        return StatusCode::BAD_GATEWAY.into_response();
    }
    response
}

impl FakeServer {
    fn answer(&mut self, method: &Method, path: &str, query: &str, body: &Bytes) -> Response {
        if let Some(file) = path.strip_prefix("/base/api/2.0/mlflow-artifacts/artifacts/") {
            assert_eq!(method, Method::PUT);
            self.files.insert(file.replace("%20", " "), body.to_vec());
            // MLflow 3 answers an upload with nothing.
            return StatusCode::OK.into_response();
        }
        let what = path.strip_prefix("/base/api/2.0/mlflow/").expect("the API");
        let query: BTreeMap<String, String> = serde_urlencoded::from_str(query).expect("a query");
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        let no_run = || refusal(StatusCode::NOT_FOUND, "RESOURCE_DOES_NOT_EXIST");
        let id = query.get("run_id").cloned();
        let id = id.or_else(|| request["run_id"].as_str().map(str::to_owned));
        let run = self.runs.iter_mut().find(|run| run["info"]["run_id"].as_str() == id.as_deref());
        match what {
            "experiments/get-by-name" => {
                let name = &query["experiment_name"];
                let found = self.experiments.iter().find(|one| one["name"] == name.as_str());
                let found = found.cloned();
                if std::mem::take(&mut self.is_raced) {
                    self.experiments.push(experiment(name, self.experiments.len()));
                }
                match found {
                    None => refusal(StatusCode::NOT_FOUND, "RESOURCE_DOES_NOT_EXIST"),
                    Some(found) => json!({"experiment": found}).to_string().into_response(),
                }
            }
            "experiments/create" => {
                let n = self.experiments.len();
                let name = request["name"].as_str().expect("a name");
                if self.experiments.iter().any(|one| one["name"] == name) {
                    return refusal(StatusCode::BAD_REQUEST, "RESOURCE_ALREADY_EXISTS");
                }
                self.experiments.push(experiment(name, n));
                json!({"experiment_id": n.to_string()}).to_string().into_response()
            }
            "runs/search" => {
                let filter = request["filter"].as_str().expect("a filter");
                let value = filter.strip_prefix("tags.`safelight.run` = '").expect("a filter");
                let value = value.strip_suffix('\'').expect("a filter");
                let tag = json!({"key": "safelight.run", "value": value});
                let is_found = |run: &&Value| {
                    let ids = request["experiment_ids"].as_array().expect("ids");
                    ids.contains(&run["info"]["experiment_id"])
                        && run["tags"].as_array().expect("tags").contains(&tag)
                };
                let found: Vec<&Value> = self.runs.iter().filter(is_found).collect();
                // The real server omits an empty list.
                if found.is_empty() { json!({}) } else { json!({"runs": found}) }
                    .to_string()
                    .into_response()
            }
            "runs/create" => {
                let n = self.runs.len();
                let experiment = request["experiment_id"].as_str().expect("an experiment");
                let root = self.artifact_root;
                let run = json!({
                    "info": {"run_id": format!("r{n}"), "experiment_id": experiment,
                             "artifact_uri": format!("{root}/{experiment}/r{n}/artifacts"),
                             "lifecycle_stage": "active", "start_time": request["start_time"],
                             "run_name": request["run_name"], "status": "RUNNING"},
                    "tags": request["tags"],
                });
                self.runs.push(run.clone());
                json!({"run": run}).to_string().into_response()
            }
            "runs/get" => match run {
                None => no_run(),
                Some(run) => json!({"run": run}).to_string().into_response(),
            },
            "runs/set-tag" | "runs/log-batch" | "runs/update" => match run {
                None => no_run(),
                Some(run) if run["info"]["lifecycle_stage"] != "active" => {
                    refusal(StatusCode::BAD_REQUEST, "INVALID_PARAMETER_VALUE")
                }
                Some(run) => {
                    run[what] = request;
                    "{}".into_response()
                }
            },
            _ => panic!("{what}"),
        }
    }

    /// Returns the files of the first run, by their names relative to its artifacts.
    fn artifacts(&self) -> BTreeMap<&str, &Vec<u8>> {
        let files = self.files.iter();
        files.map(|(name, bytes)| (name.splitn(4, '/').nth(3).expect("a name"), bytes)).collect()
    }
}

/// A server with the configuration of its target.
struct Fake {
    server: Shared,
    config: MlflowConfig,
}

fn run_info(identity: &Value) -> RunInfo {
    let Value::Object(identity) = identity.clone() else { panic!("{identity}") };
    RunInfo { id: RunId::new("a/b").expect("a name"), source: "/runs/b".into(), identity }
}

impl Fake {
    fn new() -> Self {
        let server = Shared::default();
        of(&server).artifact_root = "mlflow-artifacts:";
        let routes = Router::new()
            .fallback(answer)
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&server));
        let address = contract::serve(routes);
        let config = MlflowConfig {
            url: format!("http://{address}/base/"),
            experiment: "night shift".to_owned(),
            token: None,
            username: None,
            password: None,
        };
        Self { server, config }
    }

    fn sink_of(&self, identity: &Value) -> MlflowRun {
        let target = MlflowTarget::open(&self.config).now_or_never();
        target.expect("no request").expect("a target").run(&run_info(identity))
    }

    fn sink(&self) -> MlflowRun {
        self.sink_of(&json!({}))
    }
}

impl contract::Target for Fake {
    type Sink = MlflowRun;

    fn open(&self) -> MlflowRun {
        self.sink()
    }

    fn seen(&self) -> Vec<(String, u64, Sha256)> {
        let server = of(&self.server);
        let files = server.artifacts();
        let shown = files.iter().filter_map(|(name, bytes)| {
            let name = name.strip_prefix("images/")?;
            let parts: Vec<&str> = name.strip_suffix(".png")?.split('+').collect();
            let [key, "step", step, "timestamp", _, _] = parts[..] else {
                assert_eq!(parts.last(), Some(&"compressed"), "{name}");
                return None;
            };
            let thumbnail = format!("images/{}+compressed.png", parts.join("+"));
            assert!(files.contains_key(thumbnail.as_str()), "{thumbnail}");
            let key = key.replace('~', "/");
            let key = key.strip_suffix("/001").unwrap_or(&key).to_owned();
            Some((key, step.parse().expect("a step"), Sha256::of(bytes)))
        });
        let shown: Vec<_> = shown.collect();
        let is_tagged = |run: &Value| run["runs/set-tag"]["key"] == "mlflow.loggedImages";
        if server.runs.iter().any(is_tagged) { shown } else { Vec::new() }
    }
}

#[tokio::test]
async fn it_keeps_the_promises_of_a_sink() {
    contract::check(Fake::new).await;
}

fn described(images: &mut Images) -> Delivery {
    let text = r#"{"box_data":[]}"#;
    let folder = images.folder().to_owned();
    std::fs::create_dir_all(folder.join("media/metadata")).expect("a folder");
    std::fs::write(folder.join("media/metadata/b.json"), text).expect("a file");
    std::fs::write(folder.join("media/m.png"), b"mask").expect("a file");
    let annotation = |path: &str, bytes: &[u8]| Annotation {
        path: path.to_owned(),
        sha256: Sha256::of(bytes),
        size: bytes.len() as u64,
        class_labels: None,
        source: None,
    };
    let layers = Layers {
        classes: Some(json!([{"id": 1, "name": "car"}]).into()),
        boxes: [("pred".to_owned(), annotation("media/metadata/b.json", text.as_bytes()))].into(),
        masks: [("g/t".to_owned(), annotation("media/m.png", b"mask"))].into(),
        warnings: Vec::new(),
    };
    let caption = Some(json!("epoch 3"));
    let description = Description { caption: caption.map(Into::into), ..Description::default() };
    images.image_with("val/pred", 120, 0, description, layers)
}

#[tokio::test]
async fn masks_boxes_and_the_record_of_an_image_are_files_beside_it() {
    let fake = Fake::new();
    let mut images = Images::new();
    let item = described(&mut images);
    let mut sink = fake.sink();
    sink.resume(None).await.expect("a target");
    sink.put(&item).await.expect("an image's files");
    sink.commit(std::slice::from_ref(&item)).await.expect("a receipt");
    let server = of(&fake.server);
    let files = server.artifacts();
    let uuid = "00000000-0001-";
    let names: Vec<&str> = files.keys().copied().collect();
    let [thumbnail, picture, boxes, record, mask] = names[..] else { panic!("{names:?}") };
    assert!(
        picture.starts_with(&format!("images/val~pred+step+120+timestamp+1700000001250+{uuid}"))
    );
    assert!(thumbnail.ends_with("+compressed.png"), "{thumbnail}");
    assert!(mask.starts_with(&format!("media/val/pred/120-0-{uuid}")), "{mask}");
    assert!(mask.contains(".mask.g_t") && files[mask] == b"mask", "{mask}");
    assert!(boxes.ends_with(".boxes.pred.json") && files[boxes] == br#"{"box_data":[]}"#);
    let record: Value = serde_json::from_slice(files[record]).expect("JSON");
    assert_eq!(record["caption"], "epoch 3");
    assert_eq!(record["classes"][0]["name"], "car");
    assert_eq!(
        record["artifacts"],
        json!({"picture": picture, "file": picture, "masks": {"g/t": mask}, "boxes": {"pred": boxes}})
    );
}

#[tokio::test]
async fn a_file_that_the_page_cannot_show_is_uploaded_too() {
    let fake = Fake::new();
    let mut images = Images::new();
    let mut jpeg = images.image("j", 1, 0);
    let bytes = {
        let pixels = crate::convert::Pixels {
            mode: crate::media::ColorMode::L,
            width: 8,
            height: 4,
            bytes: vec![100; 32],
        };
        let file_type = crate::media::FileType::Jpg;
        let encoding = crate::encode::Encoding { file_type, ..crate::encode::Encoding::default() };
        crate::encode::encode(&pixels, encoding).expect("a file").bytes
    };
    std::fs::write(jpeg.path(), &bytes).expect("a file");
    (jpeg.file.file_type, jpeg.file.size) = (crate::media::FileType::Jpg, bytes.len() as u64);
    jpeg.file.sha256 = Sha256::of(&bytes);
    let mut unknown = images.image("t", 1, 0);
    std::fs::write(unknown.path(), b"II*\0what").expect("a file");
    (unknown.file.file_type, unknown.file.size) = (crate::media::FileType::Tiff, 8);
    unknown.file.sha256 = Sha256::of(b"II*\0what");
    let mut sink = fake.sink();
    sink.resume(None).await.expect("a target");
    for item in [&jpeg, &unknown] {
        sink.put(item).await.expect("an image's files");
    }
    let server = of(&fake.server);
    let files = server.artifacts();
    let with = |start: &str, end: &str| {
        let found = files.iter().find(|(name, _)| name.starts_with(start) && name.ends_with(end));
        found.map(|(_, bytes)| bytes.as_slice())
    };
    assert_eq!(with("media/j/", ".jpg"), Some(&bytes[..]));
    assert_eq!(with("media/t/", ".tiff"), Some(&b"II*\0what"[..]));
    assert!(with("images/j+", ".png").is_some_and(|png| png.starts_with(b"\x89PNG")));
    assert_eq!(with("images/t", ""), None);
}

#[tokio::test]
async fn a_run_is_created_once_with_the_jobs_name_and_tags() {
    let fake = Fake::new();
    let identity = json!({"name": "nice", "tags": ["base"], "config": {"lr": 0.1}});
    let mut images = Images::new();
    let item = images.image("k", 1, 0);
    {
        let mut server = of(&fake.server);
        server.is_raced = true;
        // The server creates the run, and the answer is lost.
        server.lost = Some("runs/create");
    }
    let mut sink = fake.sink_of(&identity);
    sink.resume(None).await.expect("a target");
    assert!(of(&fake.server).runs.is_empty(), "a run without an image");
    let error = sink.put(&item).await.expect_err("a lost answer");
    assert!(matches!(error, SinkError::Retry { .. }), "{error:?}");
    sink.put(&item).await.expect("an image's files");
    sink.commit(std::slice::from_ref(&item)).await.expect("a receipt");
    let finished = sink.rest(Rest::Finished).await.expect("a target");
    assert!(finished.is_some());
    assert_eq!(sink.rest(Rest::Finished).await.expect("a target"), None);
    // The receipts are lost.
    let mut sink = fake.sink_of(&identity);
    sink.resume(None).await.expect("a target");
    sink.put(&item).await.expect("an image's files");

    let server = of(&fake.server);
    assert_eq!((server.experiments.len(), server.runs.len(), server.files.len()), (1, 1, 3));
    let run = &server.runs[0];
    assert_eq!(run["info"]["run_name"], "nice");
    assert_eq!(run["info"]["start_time"], 1_700_000_001_250_i64);
    let tags =
        json!([{"key": "safelight.run", "value": "a%2Fb"}, {"key": "base", "value": "true"}]);
    assert_eq!(run["tags"], tags);
    let end = json!({"run_id": "r0", "status": "FINISHED", "end_time": 1_700_000_001_250_i64});
    assert_eq!(run["runs/update"], end);
}

#[tokio::test]
async fn parameters_are_logged() {
    let fake = Fake::new();
    let mut images = Images::new();
    let item = images.image("k", 1, 0);
    let sink = fake.sink_of(&json!({"config": {"lr": 0.1}}));
    // The daemon stops after the run was created.
    of(&fake.server).lost = Some("runs/log-batch");
    sink.put(&item).await.expect_err("a lost answer");
    of(&fake.server).runs[0]["runs/log-batch"] = Value::Null;
    let mut sink = fake.sink_of(&json!({"config": {"lr": 0.1}}));
    sink.resume(None).await.expect("a target");
    sink.put(&item).await.expect("an image's files");
    let params = json!([{"key": "lr", "value": "0.1"}]);
    assert_eq!(of(&fake.server).runs[0]["runs/log-batch"]["params"], params);
}

#[tokio::test]
async fn a_run_that_was_deleted_on_the_server_is_not_created_again() {
    let mut images = Images::new();
    let items = [images.image("k", 1, 0), images.image("k", 2, 0)];
    let fake = Fake::new();
    let mut sink = fake.sink();
    sink.resume(None).await.expect("a target");
    sink.put(&items[0]).await.expect("an image's files");
    let receipt = sink.commit(&items[..1]).await.expect("a receipt");
    of(&fake.server).runs[0]["info"]["lifecycle_stage"] = "deleted".into();
    // While the sink is open, after a start, and after a start without a receipt.
    sink.put(&items[1]).await.expect("an image's files");
    let in_use = sink.commit(&items[1..]).await.expect_err("an error");
    let after_a_start = fake.sink().resume(Some(&receipt)).await.expect_err("an error");
    let without = fake.sink().resume(None).await.expect_err("an error");
    of(&fake.server).runs.clear();
    let for_good = fake.sink().resume(Some(&receipt)).await.expect_err("an error");
    of(&fake.server).experiments[0]["lifecycle_stage"] = "deleted".into();
    let experiment = fake.sink().resume(None).await.expect_err("an error");
    for (error, words) in [
        (in_use, "so it is"),
        (after_a_start, "run r0 of experiment 0 was deleted on the server"),
        (without, "run r0 of experiment 0 was deleted on the server"),
        (
            for_good,
            "run r0, to which images of this run were delivered, no longer exists on the server",
        ),
        (experiment, "experiment \"night shift\" was deleted on the server"),
    ] {
        assert!(matches!(error, SinkError::Retry { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_stores_no_artifacts_rejects_no_item() {
    let fake = Fake::new();
    of(&fake.server).artifact_root = "s3://bucket";
    let mut images = Images::new();
    let error = fake.sink().put(&images.image("k", 1, 0)).await.expect_err("an error");
    assert!(matches!(error, SinkError::Retry { .. }), "{error:?}");
    assert!(error.to_string().contains("s3://bucket/0/r0/artifacts"), "{error}");
}

#[test]
fn artifact_paths_are_relative_to_the_api() {
    for (uri, want) in [
        ("mlflow-artifacts:/1/ab/artifacts", Some("1/ab/artifacts")),
        ("mlflow-artifacts://host:5000/1/ab/artifacts", Some("1/ab/artifacts")),
        ("https://host/x/api/2.0/mlflow-artifacts/artifacts/1/ab", Some("1/ab")),
        ("https://host/elsewhere", None),
        ("s3://bucket/1", None),
        ("/data/1", None),
    ] {
        assert_eq!(artifacts_path(uri).as_deref(), want, "{uri}");
    }
}

#[tokio::test]
async fn a_missing_secret_rejects_no_item() {
    let config = MlflowConfig {
        url: "http://127.0.0.1:1".to_owned(),
        experiment: "e".to_owned(),
        token: Some(SecretSource::File("/nowhere/token".into())),
        username: None,
        password: None,
    };
    let target = MlflowTarget::open(&config).await.expect("a target");
    let error = target.run(&run_info(&json!({}))).resume(None).await.expect_err("an error");
    assert!(matches!(error, SinkError::Retry { .. }), "{error:?}");
    assert!(error.to_string().contains("secret /nowhere/token"), "{error}");
}
