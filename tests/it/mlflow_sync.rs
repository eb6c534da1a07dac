//! Delivery to a real `MLflow` server.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Ran, TempRun, gray};
use crate::proxy::Proxy;
use crate::target_server::{Http, Server, free_port, program};

pub(crate) fn server() -> Option<Server> {
    let mlflow = program("SAFELIGHT_MLFLOW")?;
    let port = free_port();
    Some(Server::start(port, "/health", |folder| {
        let mut command = Command::new(&mlflow);
        let store = format!("sqlite:///{}/m.db", folder.display());
        command.args(["server", "--host", "127.0.0.1", "--workers", "1", "--port"]);
        command.arg(port.to_string()).args(["--backend-store-uri", &store]);
        command.arg("--artifacts-destination").arg(folder.join("artifacts"));
        command.env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false");
        command.env("MLFLOW_DISABLE_TELEMETRY", "true").env("DO_NOT_TRACK", "1");
        command
    }))
}

pub(crate) struct Api<'a> {
    pub(crate) http: Http,
    pub(crate) server: &'a Server,
}

impl Api<'_> {
    fn post(&self, what: &str, body: &Value) -> Value {
        let url = self.server.url(&format!("/api/2.0/mlflow/{what}"));
        let answer = self.http.ask(Method::POST, &url, |request| request.json(body));
        let (status, body) = answer.expect("an answer");
        assert_eq!(status, 200, "{what}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).expect("JSON")
    }

    fn get(&self, path: &str) -> Value {
        serde_json::from_slice(&self.http.get(&self.server.url(path))).expect("JSON")
    }

    /// Returns the runs of the experiment `night shift`.
    pub(crate) fn runs(&self) -> Vec<Value> {
        let name = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=night%20shift";
        let id = self.get(name)["experiment"]["experiment_id"].clone();
        let found = self.post("runs/search", &json!({"experiment_ids": [id]}));
        found["runs"].as_array().cloned().unwrap_or_default()
    }

    /// Returns all artifacts of a run by their paths.
    pub(crate) fn artifacts(&self, run: &str) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            let mut page = String::new();
            loop {
                let query = serde_urlencoded::to_string([
                    ("run_id", run),
                    ("path", &folder),
                    ("page_token", &page),
                ]);
                let query = query.expect("a query");
                let listed = self.get(&format!("/api/2.0/mlflow/artifacts/list?{query}"));
                for file in listed["files"].as_array().into_iter().flatten() {
                    let path = file["path"].as_str().expect("a path").to_owned();
                    if file["is_dir"] == true {
                        folders.push(path);
                    } else {
                        let query =
                            serde_urlencoded::to_string([("path", &*path), ("run_uuid", run)]);
                        let url = format!("/get-artifact?{}", query.expect("a query"));
                        found.insert(path, self.http.get(&self.server.url(&url)));
                    }
                }
                match listed["next_page_token"].as_str() {
                    Some(next) if !next.is_empty() => next.clone_into(&mut page),
                    _ => break,
                }
            }
        }
        found
    }
}

fn sync(temp: &TempRun, port: u16) -> Ran {
    let settings = format!(
        "[sync.team]\nkind = \"mlflow\"\nurl = \"http://127.0.0.1:{port}\"\nexperiment = \"night shift\"\n"
    );
    let config = temp.configure(&settings);
    temp.run(&["sync", "team", "--once", "--config", config.to_str().expect("a path")])
}

/// Checks that the run has each image of the store once, and each of its files byte for byte.
pub(crate) fn check(temp: &TempRun, artifacts: &BTreeMap<String, Vec<u8>>) {
    let (mut n_shown, mut n_files) = (0, 0);
    let records = artifacts.iter().filter_map(|(path, bytes)| {
        let is_json = Path::new(path).extension().is_some_and(|ending| ending == "json");
        if !path.starts_with("media/") || path.contains(".boxes.") || !is_json {
            return None;
        }
        serde_json::from_slice::<Value>(bytes).ok()
    });
    let place = |item: &Value| ["key", "step", "index"].map(|field| item[field].to_string());
    let records: Vec<Value> = records.collect();
    let mut by_place: BTreeMap<_, &Value> = BTreeMap::new();
    for record in &records {
        assert!(by_place.insert(place(record), record).is_none(), "twice: {record}");
    }
    let items = temp.items();
    assert_eq!(by_place.len(), items.len());
    for item in &items {
        let mut record = by_place[&place(item)].clone();
        let names = record.as_object_mut().expect("a record").remove("artifacts").expect("names");
        assert_eq!(record, *item);
        let kept = |of: &Value| {
            fs::read(temp.store().join(of["path"].as_str().expect("a path"))).expect("a file")
        };
        let sent = |name: &Value| &artifacts[name.as_str().expect("a name")];
        assert!(*sent(&names["file"]) == kept(item), "{item}");
        for kind in ["masks", "boxes"] {
            for (name, set) in item[kind].as_object().into_iter().flatten() {
                assert!(*sent(&names[kind][name]) == kept(set), "{item}");
                n_files += 1;
            }
        }
        let picture = names["picture"].as_str().expect("a picture");
        let stem = picture.strip_prefix("images/").and_then(|name| name.rsplit_once('.'));
        let (stem, _) = stem.expect("a picture's name");
        assert!(artifacts.contains_key(&format!("images/{stem}+compressed.png")), "{stem}");
        let shown = image::load_from_memory(&artifacts[picture]).expect("a picture");
        assert_eq!(Value::from(shown.width()), item["width"]);
        n_shown += 2;
        n_files += 1 + usize::from(names["file"] != names["picture"]);
    }
    let in_images = artifacts.keys().filter(|path| path.starts_with("images/")).count();
    assert_eq!(in_images, n_shown);
    assert_eq!(artifacts.len(), n_shown + n_files);
}

#[test]
fn every_file_arrives_once_despite_faults() {
    let Some(server) = server() else { return };
    let temp = TempRun::new();
    temp.write(
        "safelight.json",
        br#"{"id": "run", "name": "nice", "tags": ["base"], "config": {"lr": 0.1}}"#,
    );
    for step in 0..4 {
        temp.log_picture("val/pred", step, step);
        temp.log_picture("a+b \u{e9}", step, 10 + step);
    }
    temp.write("tensors/more.npy", &gray(77));
    for (line, n) in
        [(r#""file_type":"jpg""#, 0), (r#""file_type":"webp""#, 1), (r#""index":2"#, 2)]
    {
        let text = format!(r#"{{"key":"more","step":{n},"data":"tensors/more.npy",{line}}}"#);
        temp.append("a.media.jsonl", &format!("{text}\n"));
    }
    temp.append(
        "a.media.jsonl",
        concat!(
            r#"{"key":"seen","step":1,"data":"tensors/more.npy","caption":"a car","#,
            r#""masks":{"gt":{"mask_data":"tensors/more.npy","class_labels":{"1":"car"}}},"#,
            r#""boxes":{"pred":{"box_data":[{"position":{"minX":0.1,"maxX":0.5,"minY":0.2,"maxY":0.7},"#,
            r#""class_id":1}],"class_labels":{"1":"car"}}}}"#,
            "\n",
        ),
    );
    let ran = temp.ingest();
    assert_eq!(ran.code, 0, "{ran:?}");

    // One in ten requests fails.
    let proxy = Proxy::new(server.port, 10, 7);
    let mut ran = sync(&temp, proxy.port);
    for _ in 0..20 {
        if ran.code == 0 {
            break;
        }
        // An item whose deliveries failed too often is parked. `retry` delivers it again.
        let config = temp.folder().join("safelight.toml");
        temp.run(&["retry", "team", "--config", config.to_str().expect("a path")]);
        ran = sync(&temp, proxy.port);
    }
    assert!(ran.code == 0 && proxy.counts().1 > 0, "{ran:?} {:?}", proxy.counts());
    let api = Api { http: Http::new(), server: &server };
    let runs = api.runs();
    assert_eq!(runs.len(), 1, "{runs:?}");
    let run = &runs[0];
    let id = run["info"]["run_id"].as_str().expect("an id").to_owned();
    assert_eq!(run["info"]["run_name"], "nice");
    let has = |of: &str, key: &str, value: &str| {
        let pairs = run["data"][of].as_array().cloned().unwrap_or_default();
        pairs.contains(&json!({"key": key, "value": value}))
    };
    assert!(has("tags", "mlflow.loggedImages", "True") && has("tags", "base", "true"), "{run}");
    assert!(has("params", "lr", "0.1"), "{run}");
    let artifacts = api.artifacts(&id);
    check(&temp, &artifacts);

    // The state of the delivery is lost: the run is found again, and each file is overwritten.
    fs::remove_dir_all(temp.store().join("sync")).expect("a folder");
    let ran = sync(&temp, server.port);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(api.runs().len(), 1);
    assert!(api.artifacts(&id) == artifacts, "other artifacts");

    // A user deletes the run and restores it.
    temp.log_picture("val/pred", 9, 9);
    assert_eq!(temp.ingest().code, 0);
    api.post("runs/delete", &json!({"run_id": id}));
    let ran = sync(&temp, server.port);
    let output = format!("{}{}", ran.out, ran.err);
    assert!(ran.code != 0 && output.contains("was deleted on the server"), "{ran:?}");
    assert_eq!(api.runs().len(), 0);
    api.post("runs/restore", &json!({"run_id": id}));
    let ran = sync(&temp, server.port);
    assert_eq!(ran.code, 0, "{ran:?}");
    check(&temp, &api.artifacts(&id));
}
