//! Delivery to the real `TensorBoard`: the images that it shows.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{TempRun, npy, wait_for};
use crate::target_server::{Server, forget, free_port, program, sync};

fn tensorboard(environment: &OsStr, temp: &TempRun, load_fast: &str) -> Server {
    let port = free_port();
    Server::start(port, "/data/plugin/images/tags", |_| {
        let mut command = Command::new(Path::new(environment).join("bin/tensorboard"));
        command.args(["--host", "127.0.0.1", "--load_fast", load_fast, "--reload_interval", "1"]);
        command.args(["--port", &port.to_string(), "--samples_per_plugin", "images=1000"]);
        command.arg("--logdir").arg(temp.folder().join("tb"));
        command
    })
}

fn get_json(server: &Server, path: &str) -> Value {
    let body = server.get(&format!("/data/plugin/images/{path}"));
    body.map_or(Value::Null, |body| serde_json::from_slice(&body).expect("JSON"))
}

/// Returns step and file of each image that is shown for a sample of a tag.
fn shown(server: &Server, run: &str, tag: &str, sample: u64) -> Vec<(u64, Vec<u8>)> {
    let sample = sample.to_string();
    let query = [("run", run), ("tag", tag), ("sample", &sample)];
    let query = serde_urlencoded::to_string(query).expect("a query");
    let list = get_json(server, &format!("images?{query}"));
    let image = |image: &Value| {
        let query = image["query"].as_str().expect("a query");
        let file = server.get(&format!("/data/plugin/images/individualImage?{query}"));
        (image["step"].as_u64().expect("a step"), file.expect("an image"))
    };
    list.as_array().map_or_else(Vec::new, |list| list.iter().map(image).collect())
}

/// Waits until each item is shown, with its file byte for byte. Returns the number of items.
fn compare(server: &Server, temp: &TempRun, run: &str, is_there: impl Fn(&Value) -> bool) -> usize {
    let items: Vec<Value> = temp.items().into_iter().filter(is_there).collect();
    for item in &items {
        let file = fs::read(temp.store().join(item["path"].as_str().expect("a path")));
        let file = file.expect("a media file");
        let tag = item["key"].as_str().expect("a key").replace('"', "%22").replace('\\', "%5C");
        let step = item["step"].as_u64().expect("a step");
        let sample = item["index"].as_u64().expect("an index");
        wait_for(&format!("{tag} {step} {sample} in {run}"), || {
            let shown = shown(server, run, &tag, sample);
            let of_step: Vec<_> = shown.iter().filter(|(other, _)| *other == step).collect();
            assert!(of_step.len() < 2);
            assert!(of_step.iter().all(|(_, shown)| *shown == file), "{tag} {step}");
            of_step.len() == 1
        });
    }
    items.len()
}

#[test]
fn tensorboard_shows_every_image_and_follows_a_growing_file() {
    let Some(python) = program("SAFELIGHT_TENSORBOARD") else { return };
    let temp = TempRun::new();
    let config = temp.configure("[sync.board]\nkind = \"tensorboard\"\npath = \"tb\"\n");
    for step in 0..12 {
        temp.log_picture("val/pred", 10 * step, step);
    }
    let pixels: Vec<u8> = (0..3 * 8 * 6).collect();
    temp.write("batch.npy", &npy("|u1", &[3, 8, 6], &pixels));
    let at = json!({"minX": 0, "maxX": 0.5, "minY": 0, "maxY": 1});
    let boxes = json!({"pred": {"box_data": [{"position": at, "class_id": 1}], "class_labels": {"1": "car"}}});
    for line in [
        json!({"key": "odd \"key\" \\ é", "step": 3, "data": "batch.npy", "format": "NHW"}),
        json!({"key": "boxed", "step": 5, "data": {"path": "tensors/val-pred-0-0.npy"}, "boxes": boxes,
            "caption": "a *cat*"}),
        json!({"key": "webp", "step": 5, "data": "tensors/val-pred-0-0.npy", "file_type": "webp"}),
    ] {
        temp.append("a.media.jsonl", &format!("{line}\n"));
    }
    assert_eq!(temp.ingest().code, 0);
    sync(&config, "board");
    // Another delivery of everything, in other batches, changes no byte.
    let file = temp.folder().join("tb/run/events.out.tfevents.0000000000.safelight");
    let before = fs::read(&file).expect("an event file");
    forget(&temp, "board");
    // A kill may leave half of a record. No TensorBoard runs yet: one that reads the half would wait for its other half.
    fs::write(&file, [&before[..], &before[..10]].concat()).expect("a write");
    sync(&config, "board");
    assert_eq!(fs::read(&file).expect("an event file"), before);

    let servers = ["true", "false"].map(|load_fast| tensorboard(&python, &temp, load_fast));
    let is_of_png = |item: &Value| item["file_type"] == "png";
    for server in &servers {
        assert_eq!(compare(server, &temp, "run", is_of_png), 16);
        let tags = get_json(server, "tags");
        assert_eq!(tags["run"].as_object().expect("tags").len(), 5, "{tags}");
        assert!(
            tags["run"]["boxed"]["description"].as_str().expect("text").contains("a *cat*"),
            "{tags}"
        );
        let overlay = &shown(server, "run", "boxed/overlay", 0)[0].1;
        let overlay = image::load_from_memory(overlay).expect("a picture").into_rgb8();
        // The left half has an outline in the colour of class 1, the right half has none.
        assert_eq!(overlay.get_pixel(1, 1).0, [0, 0xcd, 0x3c]);
        assert_eq!(overlay.get_pixel(2, 3).0, [255; 3]);
        let png = &shown(server, "run", "webp", 0)[0].1;
        assert!(png.starts_with(b"\x89PNG"));
    }

    // Images of later and of earlier steps, while both servers are running.
    for (step, n) in [(200, 200), (210, 210), (15, 15), (7, 7)] {
        temp.log_picture("val/pred", step, n);
    }
    assert_eq!(temp.ingest().code, 0);
    sync(&config, "board");
    let is_late = |item: &Value| item["step"] == 15 || item["step"] == 7;
    for server in &servers {
        assert_eq!(compare(server, &temp, "run", |item| is_of_png(item) && !is_late(item)), 18);
        assert_eq!(compare(server, &temp, "run/late1", is_late), 2);
    }
}
