//! Delivery to W&B by its real client and a server that stands in for W&B's: every row and every file.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::harness::{PROGRAM, Ran, TempRun, npy};
use crate::wandb_peer::{pythons, run as run_python};

/// A server that stands in for W&B's, killed when dropped.
pub(crate) struct Server {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Server {
    pub(crate) fn start(python: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wandb_server.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a server");
        let mut port = String::new();
        let out = child.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut port).expect("a port");
        Self { child, port: port.trim().parse().expect("a port"), folder }
    }

    fn ask(&self, request: &str) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the server");
        write!(stream, "{request} HTTP/1.0\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(body).expect("JSON")
    }

    pub(crate) fn recorded(&self, run: &str) -> Value {
        self.ask("GET /recorded")[format!("mine/vision/{run}")].clone()
    }

    /// The address, and the folder of the files that it received.
    pub(crate) fn place(&self) -> (String, &Path) {
        (format!("http://127.0.0.1:{}", self.port), self.folder.path())
    }

    /// Lets clients resume runs.
    pub(crate) fn allow_resuming(&self) {
        self.ask("POST /resume");
    }

    fn fail(&self, what: &str) {
        self.ask(&format!("POST /fail?what={what}"));
    }

    pub(crate) fn file(&self, run: &str, path: &str) -> Vec<u8> {
        let path = self.folder.path().join("mine/vision").join(run).join(path);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Sets a command's environment so that it uses only this server.
    pub(crate) fn env(&self, command: &mut Command, home: &Path) {
        command
            .env("WANDB_BASE_URL", format!("http://127.0.0.1:{}", self.port))
            .env("WANDB_ERROR_REPORTING", "false")
            .env("HOME", home)
            .env("A_KEY", "k".repeat(40));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Returns the path of the client beside its Python.
fn client(python: &Path) -> PathBuf {
    python.with_file_name("wandb")
}

/// Returns whether this release of wandb has a reader of logs in Python.
fn reads_logs(python: &Path) -> bool {
    python.to_string_lossy().contains("0.28")
}

/// Returns when a step was logged, in seconds after step 0.
fn seconds(step: u64) -> f64 {
    f64::from(u32::try_from(step).expect("a small step"))
}

/// Logs a picture. `more` has further fields of its line.
fn log_picture(temp: &TempRun, key: &str, step: u64, shape: &[usize], more: &Value) {
    let path = format!("tensors/{}-{step}.npy", key.replace('/', "-"));
    let n: usize = shape.iter().product();
    let bytes: Vec<u8> = (0..n).map(|i| u8::try_from((i * 7 + n * 3) % 251).unwrap_or(0)).collect();
    temp.write(&path, &npy("|u1", shape, &bytes));
    let mut line =
        json!({"key": key, "step": step, "data": path, "time": 1_700_000_000.5 + seconds(step)});
    let fields = more.as_object().cloned().unwrap_or_default();
    line.as_object_mut().expect("an object").extend(fields);
    temp.append("a.media.jsonl", &format!("{line}\n"));
}

/// Logs pictures of every kind at steps from `first` on.
fn log_pictures(temp: &TempRun, first: u64) {
    let shape = &[6, 8, 3][..];
    temp.write("tensors/mask.npy", &npy("|u1", &[6, 8], &[1; 48]));
    let boxes = json!({"pred": {"box_data": [{"position": {"minX": 0.1, "maxX": 0.5, "minY": 0.2, "maxY": 0.75},
        "class_id": 1, "box_caption": "car", "scores": {"conf": 0.9}}], "class_labels": {"1": "car"}}});
    let masks =
        json!({"gt": {"mask_data": "tensors/mask.npy", "class_labels": {"0": "road", "1": "car"}}});
    log_picture(temp, "plain", first, shape, &json!({}));
    log_picture(
        temp,
        "val/pred é [x]",
        first,
        shape,
        &json!({"caption": "epoch \"3\"", "grouping": 2}),
    );
    log_picture(temp, "val/boxed", first, shape, &json!({"boxes": boxes, "masks": masks}));
    let list = json!({"caption": ["a", "b", "c"], "format": "NHWC"});
    log_picture(temp, "val/list", first, &[3, 6, 8, 3], &list);
    log_picture(temp, "plain", first + 10, shape, &json!({"caption": "later"}));
    let lists = json!({"format": "NHWC", "masks": [masks, {}], "boxes": [{}, boxes]});
    log_picture(temp, "val/list", first + 20, &[2, 6, 8, 3], &lists);
}

/// Returns the values that a tracker would log by step and key, as `show` prints them.
fn logged(temp: &TempRun) -> std::collections::BTreeMap<u64, Map<String, Value>> {
    let mut rows = std::collections::BTreeMap::<u64, Map<String, Value>>::new();
    for item in temp.items() {
        assert_eq!(item["state"], "image", "{item}");
        let (key, step) =
            (item["key"].as_str().expect("a key"), item["step"].as_u64().expect("a step"));
        let row = rows.entry(step).or_default();
        if !row.contains_key(key) {
            let ran =
                temp.run(&["show", "run", key, &step.to_string(), "--as", "logged", "--json"]);
            let value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"));
            row.insert(key.to_owned(), value);
        }
    }
    rows
}

/// Compares the files of all items byte for byte. Returns their number.
fn compare_files(temp: &TempRun, server: &Server, run: &str) -> usize {
    let mut paths = std::collections::BTreeSet::new();
    for item in temp.items() {
        let layers =
            ["boxes", "masks"].map(|name| item[name].as_object().cloned().unwrap_or_default());
        let layers = layers.into_iter().flatten().map(|(_, layer)| layer["path"].clone());
        let own = [item["path"].clone()];
        paths.extend(layers.chain(own).map(|path| path.as_str().expect("a path").to_owned()));
    }
    for path in &paths {
        let want = fs::read(temp.store().join(path)).expect("a media file");
        let path = path.strip_prefix("runs/run/").expect("a path of the run");
        assert!(server.file(run, path) == want, "{path} differs");
    }
    let recorded = server.recorded(run);
    let n_media = recorded["files"].as_object().expect("files").keys();
    let n_media = n_media.filter(|path| path.starts_with("media/")).count();
    assert!(n_media >= paths.len());
    paths.len()
}

fn sync(temp: &TempRun, server: &Server, config: &Path) -> Ran {
    let mut command = Command::new(PROGRAM);
    command.args(["sync", "team", "--once", "--config"]).arg(config).stdin(Stdio::null());
    server.env(&mut command, temp.folder());
    command.output().expect("the program").into()
}

fn configure(temp: &TempRun, python: &Path) -> PathBuf {
    temp.configure(&format!(
        "[sync.team]\nkind = \"wandb\"\npath = \"target\"\nproject = \"vision\"\napi_key = {{ env = \"A_KEY\" }}\n\
         command = [\"{}\", \"sync\"]\n",
        client(python).display()
    ))
}

#[test]
fn the_real_client_uploads_two_segments_completely() {
    for python in pythons() {
        let server = Server::start(&python);
        let temp = TempRun::new();
        temp.write(
            "safelight.json",
            br#"{"tags": ["a", "b"], "config": {"lr": 0.5}, "group": "night"}"#,
        );
        let config = configure(&temp, &python);
        for first in [0, 100] {
            log_pictures(&temp, first);
            let ran = temp.ingest();
            assert_eq!(ran.code, 0, "{ran:?}");
            let ran = sync(&temp, &server, &config);
            assert_eq!(ran.code, 0, "{ran:?}");
        }
        let segments = fs::read_dir(temp.folder().join("target/wandb")).expect("segments");
        assert_eq!(segments.count(), 2);

        let run = "run-img";
        let got = server.recorded(run);
        let rows = got["history"].as_array().expect("rows");
        let want = logged(&temp);
        assert_eq!(rows.len(), want.len());
        let mut summary = Map::new();
        for (row, (step, values)) in rows.iter().zip(want) {
            let mut row = row.as_object().cloned().expect("a row");
            assert_eq!(row.remove("_step"), Some(json!(step)));
            assert_eq!(row.remove("_timestamp"), Some(json!(1_700_000_000.5 + seconds(step))));
            assert_eq!(row.remove("_runtime").and_then(|time| time.as_f64()), Some(seconds(step)));
            assert_eq!(Value::Object(row), Value::Object(values.clone()));
            summary.extend(values);
        }
        for (key, value) in summary {
            assert_eq!(got["summary"][&key], value, "{key}");
        }
        assert_eq!(
            (&got["summary"]["_step"], &got["config"]["lr"]["value"]),
            (&json!(120), &json!(0.5))
        );
        let labels = &got["config"]["_wandb"]["value"];
        let of = |kind: &str, layer: &str, key: &str| {
            labels[kind][format!("{key}_wandb_delimeter_{layer}")].clone()
        };
        for key in ["val/boxed", "val/list"] {
            assert_eq!(
                of("mask/class_labels", "gt", key)["value"],
                json!({"0": "road", "1": "car"})
            );
            assert_eq!(of("bounding_box/class_labels", "pred", key)["value"], json!({"1": "car"}));
        }
        // Each segment sets these at its beginning.
        let buckets = got["buckets"].as_array().expect("what was said");
        let full = buckets.iter().filter(|bucket| !bucket["groupName"].is_null());
        let full: Vec<&Value> = full.collect();
        assert_eq!(full.len(), 2, "{buckets:?}");
        for bucket in full {
            assert_eq!(
                (&bucket["groupName"], &bucket["jobType"]),
                (&json!("night"), &json!("media"))
            );
            assert_eq!(bucket["tags"], json!(["a", "b"]));
        }
        let n_files = compare_files(&temp, &server, run);
        eprintln!("{}: {} rows, {n_files} files are the same", python.display(), rows.len());

        // Other readers of the log: wandb's terminal viewer and its reader in Python.
        if !reads_logs(&python) {
            let segments = fs::read_dir(temp.folder().join("target/wandb")).expect("segments");
            for segment in segments.map(|entry| entry.expect("a segment").path()) {
                let mut viewer = Command::new(client(&python));
                viewer.args(["leet", "inspect", "--summary"]).arg(segment);
                server.env(&mut viewer, temp.folder());
                let ran: Ran = viewer.output().expect("the viewer").into();
                for want in
                    ["finished (exit code 0)", "images/separated", "image-file media/images/plain_"]
                {
                    assert!(ran.out.contains(want), "{want}: {ran:?}");
                }
            }
        }
        if reads_logs(&python) {
            for segment in fs::read_dir(temp.folder().join("target/wandb")).expect("segments") {
                let log = segment.expect("a segment").path().join("run-run-img.wandb");
                let said = run_python(&python, "wandb_training.py", &[Path::new("read"), &log]);
                assert!(said.starts_with("1 header\n2 run\n"), "{said}");
                assert_eq!(said.matches(" history\n").count(), 3);
                assert!(said.ends_with(" final\n"), "{said}");
            }
        }
    }
}

#[test]
fn an_upload_with_refused_files_does_not_count_as_done() {
    // One Python is enough, because the client waits before each retry.
    if let Some(python) = pythons().pop() {
        let server = Server::start(&python);
        let temp = TempRun::new();
        let config = configure(&temp, &python);
        log_picture(&temp, "k", 1, &[6, 8, 3], &json!({}));
        assert_eq!(temp.ingest().code, 0);
        // The client exits with 0 and marks the run as uploaded, although its files were refused.
        server.fail("upload");
        let ran = sync(&temp, &server, &config);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains("in part") && ran.err.contains("403"), "{ran:?}");
        server.fail("nothing");
        let ran = sync(&temp, &server, &config);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert_eq!(server.recorded("run-img")["history"].as_array().map(Vec::len), Some(1));
        // A user accepts the incomplete upload by removing its record.
        fs::remove_dir_all(temp.folder().join("target/uploads")).expect("what was said");
        let ran = sync(&temp, &server, &config);
        assert_eq!(ran.code, 0, "{ran:?}");
    }
}

/// Uploads a directory by the real client alone.
pub(crate) fn upload(python: &Path, server: &Server, home: &Path, offline_run: &Path) {
    let mut command = Command::new(client(python));
    command.arg("sync").arg(offline_run).current_dir(home).stdin(Stdio::null());
    server.env(&mut command, home);
    let ran: Ran =
        command.env("WANDB_API_KEY", "k".repeat(40)).output().expect("the client").into();
    let said = format!("{}{}", ran.out, ran.err);
    assert!(said.contains("Finished syncing") && !said.contains("ERROR"), "{said}");
}

#[test]
fn images_join_the_rows_of_an_offline_training() {
    for python in pythons() {
        let temp = TempRun::new();
        run_python(
            &python,
            "wandb_training.py",
            &[Path::new("train"), temp.folder(), Path::new("run")],
        );
        let runs = fs::read_dir(temp.folder().join("wandb")).expect("a run");
        let theirs = runs.map(|entry| entry.expect("an entry").path());
        let theirs = theirs.filter(|path| path.to_string_lossy().contains("offline-run-"));
        let theirs: Vec<PathBuf> = theirs.filter(|path| !path.is_symlink()).collect();
        let [theirs] = &theirs[..] else { panic!("{theirs:?}") };
        // The training logged steps 0, 10 and 20, but not 5, 15 and 25.
        log_pictures(&temp, 0);
        log_picture(&temp, "between", 5, &[6, 8, 3], &json!({}));
        log_picture(&temp, "between", 15, &[6, 8, 3], &json!({}));
        log_picture(&temp, "after", 50, &[6, 8, 3], &json!({}));
        assert_eq!(temp.ingest().code, 0);
        let log = fs::read(theirs.join("run-run.wandb")).expect("a log");
        let out = temp.folder().join("merged/offline-run-20261126_101112-run");
        let args = [theirs, &out].map(|path| path.to_str().expect("a path"));
        let ran = temp.run(&["wandb-merge", args[0], args[1]]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let again = temp.run(&["wandb-merge", args[0], args[1]]);
        assert!(
            again.code == 1 && again.err.contains("exists: want the name of a new directory"),
            "{again:?}"
        );
        let online = temp.run(&["wandb-merge", "run-20261126_101112-run", args[1]]);
        assert!(online.code == 1 && online.err.contains("offline run"), "{online:?}");
        assert!(fs::read(theirs.join("run-run.wandb")).expect("a log") == log);

        let (merged, alone) = (Server::start(&python), Server::start(&python));
        upload(&python, &merged, temp.folder(), &out);
        upload(&python, &alone, temp.folder(), theirs);
        let (got, base) = (merged.recorded("run"), alone.recorded("run"));
        let mut want = logged(&temp);
        for row in base["history"].as_array().expect("rows") {
            let step = row["_step"].as_u64().expect("a step");
            want.entry(step).or_default().extend(row.as_object().cloned().expect("a row"));
        }
        let rows = got["history"].as_array().expect("rows");
        assert_eq!(rows.len(), want.len());
        for (row, (step, want)) in rows.iter().zip(want) {
            let mut row = row.as_object().cloned().expect("a row");
            assert_eq!(row.get("_step"), Some(&json!(step)));
            if !want.contains_key("_step") {
                row.retain(|name, _| !name.starts_with('_'));
            }
            assert_eq!(Value::Object(row), Value::Object(want));
        }
        for (name, value) in base["summary"].as_object().expect("a summary") {
            let is_own = !name.starts_with('_');
            assert!(!is_own || got["summary"][name] == *value, "{name}");
        }
        assert_eq!(got["config"]["lr"], base["config"]["lr"]);
        assert!(got["config"]["_wandb"]["value"]["mask/class_labels"].is_object());
        for path in base["files"].as_object().expect("files").keys() {
            let is_media = path.starts_with("media/");
            assert!(!is_media || merged.file("run", path) == alone.file("run", path), "{path}");
            assert!(got["files"][path].is_u64(), "{path} is missing");
        }
        let n_files = compare_files(&temp, &merged, "run");
        eprintln!("{}: {} rows, {n_files} files are the same", python.display(), rows.len());

        let synced = temp.run(&["wandb-merge", args[0], "x/offline-run-x"]);
        assert!(synced.code == 1 && synced.err.contains("already synced"), "{synced:?}");
    }
}
