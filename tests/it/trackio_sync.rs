//! Delivery to the real Trackio: the images that it stores.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{TempRun, npy, wait_for};
use crate::target_server::{Server, forget, free_port, program, sync};

pub(crate) fn trackio(environment: &OsStr, temp: &TempRun) -> Server {
    let port = free_port();
    Server::start(port, "/", |folder| {
        let mut command = Command::new(Path::new(environment).join("bin/trackio"));
        command.args(["show", "--project", "demo", "--host", "127.0.0.1"]);
        command.env("TRACKIO_DIR", temp.folder().join("trackio")).env("TRACKIO_WRITE_TOKEN", "tok");
        command.env("HF_HUB_OFFLINE", "1").env("TRACKIO_INBOX_POLL_INTERVAL", "5");
        command.env("GRADIO_SERVER_PORT", port.to_string());
        // Otherwise it opens a browser.
        command.env("BROWSER", "true").env("HOME", folder);
        command
    })
}

/// Returns a run of 7 images in the project `demo`.
fn run() -> TempRun {
    let temp = TempRun::new();
    temp.write("safelight.json", br#"{"project": "demo", "name": "first", "config": {"lr": 0.5}}"#);
    for step in 0..4 {
        temp.log_picture("val/pred", 10 * step, step);
    }
    let pixels: Vec<u8> = (0..3 * 8 * 6).collect();
    temp.write("batch.npy", &npy("|u1", &[3, 8, 6], &pixels));
    let line = json!({"key": "batch", "step": 3, "data": "batch.npy", "format": "NHW", "caption": "a cat"});
    temp.append("a.media.jsonl", &format!("{line}\n"));
    assert_eq!(temp.ingest().code, 0);
    temp
}

/// Returns the rows with images, as Trackio's API lists them.
pub(crate) fn rows(server: &Server) -> Vec<Value> {
    let body =
        server.post("/api/get_logs", &json!({"project": "demo", "run": "first", "run_id": "run"}));
    let Some(body) = body else { return Vec::new() };
    let answer: Value = serde_json::from_slice(&body).expect("JSON");
    answer["data"].as_array().cloned().unwrap_or_default()
}

/// Compares each row with its item: key, step, caption, and the file that the server serves.
pub(crate) fn compare(server: &Server, temp: &TempRun) {
    let (items, rows) = (temp.items(), rows(server));
    assert_eq!(items.len(), rows.len(), "{rows:?}");
    for item in &items {
        let key = match item["index"].as_u64() {
            Some(0) => item["key"].as_str().expect("a key").to_owned(),
            index => {
                format!("{}/{}", item["key"].as_str().expect("a key"), index.expect("an index"))
            }
        };
        let is_its = |row: &&Value| row["step"] == item["step"] && !row[&key].is_null();
        let of_item: Vec<&Value> = rows.iter().filter(is_its).collect();
        let [row] = &of_item[..] else { panic!("{key}: {rows:?}") };
        assert_eq!(row[&key]["_type"], "trackio.image");
        assert_eq!(row[&key]["caption"], item["caption"]);
        let path = row[&key]["file_path"].as_str().expect("a path");
        let path = temp.folder().join("trackio/media").join(path);
        let query = serde_urlencoded::to_string([("path", path)]).expect("a query");
        let served = server.get(&format!("/file?{query}")).expect("a file");
        let file = fs::read(temp.store().join(item["path"].as_str().expect("a path")));
        assert_eq!(served, file.expect("a media file"), "{key}");
    }
}

#[test]
fn trackio_imports_its_inbox_once() {
    let Some(python) = program("SAFELIGHT_TRACKIO") else { return };
    let temp = run();
    let config = temp.configure("[sync.board]\nkind = \"trackio\"\npath = \"trackio\"\n");
    // Trackio's folder does not exist yet.
    sync(&config, "board");
    let server = trackio(&python, &temp);
    let is_empty = || {
        let inbox = fs::read_dir(temp.folder().join("trackio/inbox"));
        inbox.is_ok_and(|inbox| inbox.count() == 0)
    };
    wait_for("the inbox to be empty", is_empty);
    compare(&server, &temp);
    forget(&temp, "board");
    sync(&config, "board");
    assert!(!is_empty());
    wait_for("the inbox to be empty", is_empty);
    compare(&server, &temp);
}

#[test]
fn trackio_receives_images_over_http_once() {
    let Some(python) = program("SAFELIGHT_TRACKIO") else { return };
    let temp = run();
    let server = trackio(&python, &temp);
    fs::write(temp.folder().join("token"), "tok\n").expect("a file");
    let config = temp.configure(&format!(
        "[sync.board]\nkind = \"trackio\"\nurl = \"http://127.0.0.1:{}\"\ntoken = {{ file = \"token\" }}\n",
        server.port
    ));
    for _ in 0..2 {
        sync(&config, "board");
        compare(&server, &temp);
        forget(&temp, "board");
    }
}
