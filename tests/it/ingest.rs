//! `safelight ingest` from dump to index.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{PROGRAM, TempRun, gray, npy};

#[test]
fn the_example_yields_the_images_that_its_training_logged() {
    let temp = TempRun::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits/run");
    let ran = temp.run(&["ingest", example.to_str().expect("a path")]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("digits: 394 images, 12 held back, 0 rejected"), "{}", ran.out);
    assert_eq!(temp.counts(), [394, 12, 0]);
    let items = temp.items();
    // Every media file has the length and digest that its item names.
    for item in items.iter().filter(|item| item["state"] == "image") {
        let file = fs::read(temp.store().join(item["path"].as_str().expect("a path")))
            .expect("a media file");
        assert_eq!(item["size"], file.len());
        assert_eq!(item["sha256"], safelight::media::Sha256::of(&file).to_string());
    }
    let of = |key: &str| items.iter().find(|item| item["key"] == key).cloned().unwrap_or_default();
    assert_eq!(of("val/confidence")["stats"]["nan"], 4864);
    assert_eq!(of("val/wrong")["rule"], "x255");
    assert_eq!(of("val/saliency")["rule"], "sym");
    assert_eq!(of("weights/conv1")["rule"], "range");
    let boxes = &of("val/least_sure")["boxes"]["predicted"];
    let file = temp.store().join(boxes["path"].as_str().expect("a path"));
    let file: Value =
        serde_json::from_slice(&fs::read(file).expect("a file of boxes")).expect("JSON");
    assert_eq!(file["box_data"].as_array().map(Vec::len), Some(16));
    // A second run finds nothing new.
    let again = temp.run(&["ingest", example.to_str().expect("a path")]);
    assert!(again.out.contains("new: 0 images, 0 held back, 0 rejected"), "{}", again.out);
    assert_eq!(temp.items(), items);
}

#[test]
fn of_200_images_at_a_step_108_are_kept_and_92_held() {
    let temp = TempRun::new();
    for n in 0..200 {
        temp.log_picture("k", 3, n);
    }
    let batch = npy("|u1", &[200, 5, 5], &vec![7; 5000]);
    temp.write("dumps/batch/000001.npy", &batch);
    for n in 0..200u64 {
        temp.write(&format!("dumps/single/000001_{n}.npy"), &gray(n));
    }
    assert_eq!(temp.ingest().code, 0);
    let before = temp.items();
    for key in ["batch", "k", "single"] {
        let of_key: Vec<&Value> = before.iter().filter(|item| item["key"] == key).collect();
        let states: Vec<(u64, bool)> = of_key
            .iter()
            .map(|item| (item["index"].as_u64().unwrap_or(u64::MAX), item["state"] == "image"))
            .collect();
        assert_eq!(states, (0..200).map(|i| (i, i < 108)).collect::<Vec<_>>(), "{key}");
    }
    let held = before.iter().find(|item| item["state"] == "held").expect("a held item");
    assert_eq!(held["reason"], "max_items: 108 images of this key and step are kept");
    // The counts are the same after a restart and after a rebuild of the index.
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(temp.items(), before);
    temp.remove_index();
    assert_eq!(temp.items(), before);
    temp.remove_index();
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(temp.items(), before);
    assert_eq!(temp.run(&["reindex"]).code, 0);
    assert_eq!(temp.items(), before);
}

#[test]
fn long_sides_are_held_or_scaled_down() {
    let temp = TempRun::new();
    temp.write("x.npy", &npy("|u1", &[1, 300], &[9; 300]));
    temp.append("a.media.jsonl", "{\"key\":\"k\",\"step\":1,\"data\":\"x.npy\"}\n");
    let config = temp.folder().join("c.toml");
    let ingest = |over: &str| {
        fs::write(&config, format!("[limits]\nmax_dimension = 100\nover_dimension = \"{over}\"\n"))
            .expect("a file");
        let run = temp.at("");
        temp.run(&[
            "ingest",
            "--config",
            config.to_str().expect("a path"),
            run.to_str().expect("a path"),
        ])
    };
    assert_eq!(ingest("hold").code, 0);
    let want = "max_dimension: got 300 × 1 pixels, want at most 100 a side";
    assert_eq!(temp.states(), [("held".to_owned(), want.to_owned())]);
    temp.append("a.media.jsonl", "{\"key\":\"k\",\"step\":2,\"data\":\"x.npy\"}\n");
    assert_eq!(ingest("downscale").code, 0);
    let item = temp.items().pop().expect("an item");
    assert_eq!(
        (&item["state"], &item["width"], &item["height"]),
        (&json!("image"), &json!(100), &json!(1))
    );
    assert_eq!(item["downscaled_from"], json!([300, 1]));
}

#[test]
fn a_batch_is_split_with_its_lists_and_rules_are_obeyed() {
    let temp = TempRun::new();
    let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    temp.write("b.npy", &npy("<f4", &[2, 1, 2], &floats(&[0.0, 40.0, 80.0, 20.0])));
    let line = json!({"key": "depth/a", "step": 1, "data": "b.npy", "format": "NHW", "caption": ["x", "y"],
                      "grouping": 2, "profile": "wandb-0.20", "mystery": {"kept": [1, null]}});
    temp.append("a.media.jsonl", &format!("{line}\n"));
    let config = temp.folder().join("c.toml");
    fs::write(&config, "[[image.rule]]\nkey = \"depth/*\"\nrange = [0, 80]\n").expect("a file");
    let run = temp.at("");
    let ran = temp.run(&[
        "ingest",
        "--config",
        config.to_str().expect("a path"),
        run.to_str().expect("a path"),
    ]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("unknown field") && ran.err.contains("mystery"), "{}", ran.err);
    let items = temp.items();
    let got: Vec<Value> = items
        .iter()
        .map(|item| {
            json!([
                item["index"],
                item["caption"],
                item["grouping"],
                item["rule"],
                item["profile"],
                item["extra"]
            ])
        })
        .collect();
    let extra = json!({"mystery": {"kept": [1, null]}});
    assert_eq!(
        got,
        [
            json!([0, "x", 2, "range", "wandb-0.20", extra]),
            json!([1, "y", 2, "range", "wandb-0.20", extra])
        ]
    );
    let stats = &items[1]["stats"];
    let want = json!({
        "min": 20.0, "max": 80.0, "mean": 50.0, "std": 30.0, "nan": 0, "inf": 0, "clipped": 0.0,
        "constant": false,
    });
    assert_eq!(*stats, want);
}

#[test]
fn a_rewritten_dump_replaces_its_items() {
    let temp = TempRun::new();
    temp.write("dumps/k/000001.npy", &gray(1));
    temp.write("dumps/k/000002.npy", b"rubbish");
    assert_eq!(temp.ingest().code, 3);
    assert_eq!(temp.counts(), [1, 0, 1]);
    let before = temp.items();
    // Equal content adds no item.
    temp.write("dumps/k/000001.npy", &gray(1));
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(temp.items(), before);
    // One dump gets other content, and a malformed one becomes a picture.
    temp.write("dumps/k/000001.npy", &gray(2));
    temp.write("dumps/k/000002.npy", &gray(3));
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(temp.counts(), [2, 0, 0]);
    assert_ne!(temp.items()[0]["sha256"], before[0]["sha256"]);
    assert_eq!(temp.items()[0]["index"], 0);
    let after = temp.items();
    assert_eq!(temp.run(&["reindex"]).code, 0);
    assert_eq!(temp.items(), after);
}

#[test]
fn a_sidecar_describes_its_dump() {
    let temp = TempRun::new();
    temp.write("dumps/a/b/000007_3.npy", &gray(1));
    temp.write("dumps/a/b/000007_3.npy.json", br#"{"caption":"from the side","mode":"RGB"}"#);
    assert_eq!(temp.ingest().code, 0);
    let item = temp.items().pop().expect("an item");
    let got = json!([item["key"], item["step"], item["index"], item["caption"], item["mode"]]);
    assert_eq!(got, json!(["a/b", 7, 3, "from the side", "RGB"]));
}

#[test]
fn runs_are_named_by_their_identity_and_kept_apart() {
    let temp = TempRun::new();
    temp.write("safelight.json", br#"{"id":"exp/7","tags":["a"]}"#);
    temp.log_picture("k", 1, 1);
    let other = temp.folder().join("elsewhere/run");
    fs::create_dir_all(&other).expect("a run directory");
    fs::write(other.join("safelight.json"), br#"{"id":"exp/7"}"#).expect("an identity");
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(temp.items()[0]["run"], "exp/7");
    let ran = temp.run(&["ingest", other.to_str().expect("a path")]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(ran.out.matches("run exp/7 of this store came from").count(), 1, "{}", ran.out);
    assert_eq!(ran.err, "", "told once");
    // The run's name is also recorded in its folder of the store.
    let run_json: Value = serde_json::from_slice(
        &fs::read(temp.store().join("runs/exp%2F7/run.json")).expect("run.json"),
    )
    .expect("JSON");
    assert_eq!(run_json["identity"]["tags"], json!(["a"]));
}

#[test]
fn logs_are_followed_across_renames_copies_and_restarts() {
    let temp = TempRun::new();
    temp.log_picture("k", 1, 1);
    temp.append("a.media.jsonl", "{\"key\":\"k\",\"st");
    let first = temp.ingest();
    assert!(
        first.out.contains("the last line has no newline; its 14 bytes are read when one follows"),
        "{}",
        first.out
    );
    assert_eq!(temp.counts(), [1, 0, 0]);
    // Between two runs, the half-written line is completed, the log renamed, and a new log created.
    temp.append("a.media.jsonl", "ep\":2,\"data\":\"tensors/k-1-1.npy\"}\n");
    fs::rename(temp.at("a.media.jsonl"), temp.at("a.media.jsonl.1")).expect("a rename");
    temp.log_picture("k", 3, 3);
    assert_eq!(temp.ingest().code, 0);
    let steps: Vec<Value> = temp.items().iter().map(|item| item["step"].clone()).collect();
    assert_eq!(steps, [json!(1), json!(2), json!(3)]);
    // The run directory is copied: the same logs with other inodes.
    let status =
        Command::new("cp").args(["-r", "run", "moved"]).current_dir(temp.folder()).status();
    assert!(status.is_ok_and(|status| status.success()));
    fs::remove_dir_all(temp.at("")).expect("a removal");
    fs::rename(temp.folder().join("moved"), temp.at("")).expect("a rename");
    temp.log_picture("k", 4, 4);
    let output = temp.ingest();
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(temp.items().len(), 4);
}

#[test]
fn two_logs_with_the_same_beginning_stay_separate() {
    let temp = TempRun::new();
    temp.write("x.npy", &gray(1));
    for rank in 0..2 {
        let line = "{\"commit\":0}\n{\"key\":\"k\",\"step\":1,\"data\":\"x.npy\"";
        temp.append(&format!("rank{rank}.media.jsonl"), &format!("{line},\"rank\":{rank}}}\n"));
    }
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(temp.counts(), [2, 0, 0]);
    let indices: BTreeSet<u64> =
        temp.items().iter().filter_map(|item| item["index"].as_u64()).collect();
    assert_eq!(indices, BTreeSet::from([0, 1]));
}

#[test]
fn a_damaged_index_is_rebuilt_and_a_damaged_journal_skipped() {
    let temp = TempRun::new();
    for n in 0..30 {
        temp.log_picture("k", n, n);
    }
    assert_eq!(temp.ingest().code, 0);
    let before = temp.items();
    let index = temp.store().join("index");
    let noise: Vec<u8> =
        (0..50_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    fs::write(index.join("db"), &noise).expect("noise");
    assert_eq!(temp.items(), before);
    fs::write(index.join("snap.0000000000000FFF.generating"), &noise).expect("noise");
    assert_eq!(temp.items(), before);
    // A damaged journal line costs only its own item.
    let journal = temp.store().join("runs/run/journal/00000001.jsonl");
    let mut bytes = fs::read(&journal).expect("the journal");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&journal, bytes).expect("the journal");
    assert_eq!(temp.run(&["reindex"]).code, 0);
    assert_eq!(temp.items().len(), 29);
    let status: Value = serde_json::from_str(&temp.run(&["status", "--json"]).out).expect("JSON");
    assert_eq!(status["runs"][0]["damaged"], 1);
}

#[test]
fn only_one_process_holds_a_store() {
    let temp = TempRun::new();
    temp.log_picture("k", 1, 1);
    let daemon = temp.daemon("");
    crate::harness::wait_for("the picture", || temp.items().len() == 1);
    let ran = temp.ingest();
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("a daemon holds the store"), "{}", ran.err);
    let second = Command::new(PROGRAM)
        .args(["daemon", "--config"])
        .arg(temp.folder().join("safelight.toml"))
        .output()
        .expect("a second daemon");
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&format!("in use by process {}", daemon.child.id())), "{said}");
}

#[test]
fn a_sidecar_that_moves_a_dump_overwrites_no_other() {
    // Regression: the new version took the old one's index in another step.
    let temp = TempRun::new();
    temp.write("dumps/b/1.npy", &gray(7));
    assert_eq!(temp.ingest().code, 0);
    temp.write("dumps/a/1.npy", &gray(8));
    assert_eq!(temp.ingest().code, 0);
    temp.write("dumps/a/1.npy.json", br#"{"key":"b"}"#);
    assert_eq!(temp.ingest().code, 0);
    let of_b: Vec<Value> = temp.items().into_iter().filter(|item| item["key"] == "b").collect();
    assert_eq!(of_b.len(), 2);
    assert_eq!(of_b[0]["source"]["path"], "dumps/b/1.npy");
    assert_eq!(of_b[1]["source"]["path"], "dumps/a/1.npy");
}

#[test]
fn a_key_that_looks_like_a_media_file_stops_nothing() {
    // Regression: the program tried forever to create a folder at the path of a file.
    let temp = TempRun::new();
    temp.log_picture("k", 1, 1);
    assert_eq!(temp.ingest().code, 0);
    let path = temp.items()[0]["path"].as_str().expect("a path").to_owned();
    let name = path.rsplit('/').next().expect("a name").to_owned();
    temp.log_picture(&format!("{name}/x"), 1, 2);
    temp.log_picture("k", 2, 3);
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(temp.counts(), [3, 0, 0]);
}

#[test]
fn a_long_caption_for_a_large_batch_takes_no_memory() {
    let temp = TempRun::new();
    temp.write("b.npy", &npy("|u1", &[60_000, 1, 1], &vec![0; 60_000]));
    let line = json!({"key": "k", "step": 1, "data": "b.npy", "format": "NHW", "caption": "x".repeat(500_000)});
    temp.append("a.media.jsonl", &format!("{line}\n"));
    temp.log_picture("good", 1, 1);
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(temp.counts(), [109, 59_892, 0]);
    let items = temp.items();
    let image = items.iter().find(|item| item["key"] == "k").expect("an image");
    assert_eq!(image["caption"], Value::Null);
    let warning = image["warnings"][0].as_str().unwrap_or_default();
    assert!(warning.contains("dropped") && warning.contains("for 60000 images"), "{warning}");
}

#[test]
fn an_explicit_range_is_recorded() {
    let temp = TempRun::new();
    temp.write("x.npy", &npy("|u1", &[2, 2], &[0, 10, 20, 30]));
    temp.append(
        "a.media.jsonl",
        "{\"key\":\"k\",\"step\":1,\"data\":\"x.npy\",\"range\":[0,20]}\n",
    );
    assert_eq!(temp.ingest().code, 0);
    let item = temp.items().pop().expect("an item");
    assert_eq!((&item["rule"], &item["range"]), (&json!("range"), &json!([0.0, 20.0])));
}

#[test]
fn a_new_version_with_fewer_images_leaves_none_of_the_old() {
    let temp = TempRun::new();
    let batch = |n: u8| npy("|u1", &[usize::from(n), 9, 9], &vec![n; 81 * usize::from(n)]);
    temp.write("dumps/k/1.npy", &batch(7));
    assert_eq!(temp.ingest().code, 0);
    temp.write("dumps/k/1.npy", &batch(2));
    assert_eq!(temp.ingest().code, 0);
    let got: Vec<Value> =
        temp.items().iter().map(|i| json!([i["index"], i["stats"]["max"]])).collect();
    assert_eq!(got, [json!([0, 2.0]), json!([1, 2.0])]);
    temp.write("dumps/k/1.npy", &batch(5));
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(temp.counts(), [5, 0, 0]);
    let before = temp.items();
    assert_eq!(temp.run(&["reindex"]).code, 0);
    assert_eq!(temp.items(), before);
}

#[test]
fn damage_to_one_run_or_line_costs_no_other() {
    // Regression: a bad run.json or a flipped bit in a journal made every command fail for all runs.
    let temp = TempRun::new();
    for n in 0..5 {
        temp.log_picture("k", n, n);
    }
    assert_eq!(temp.ingest().code, 0);
    let other = temp.store().join("runs/other");
    fs::create_dir_all(other.join("journal")).expect("folders");
    fs::write(other.join("journal/00000001.jsonl"), "").expect("a journal");
    fs::write(other.join("run.json"), "rubbish").expect("a file");
    assert_eq!(temp.items().len(), 5);
    let journal = temp.store().join("runs/run/journal/00000001.jsonl");
    let mut bytes = fs::read(&journal).expect("the journal");
    let at = bytes.len() - 40;
    bytes[at] ^= 1;
    fs::write(&journal, bytes).expect("the journal");
    let ran = temp.run(&["ls", "--json"]);
    assert_eq!((ran.code, ran.out.lines().count()), (0, 4), "{ran:?}");
    assert!(ran.err.contains("damaged journal line"), "{}", ran.err);
}

#[test]
fn metadata_nested_too_deep_is_dropped_before_it_is_stored() {
    // Regression: it was written nested one level deeper than the reader accepts. Later it cost the image.
    let temp = TempRun::new();
    let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
    temp.write("x.npy", &gray(1));
    for (step, n) in [(1, 60), (2, 126), (3, 127), (4, 100_000)] {
        let line =
            format!("{{\"key\":\"k\",\"step\":{step},\"data\":\"x.npy\",\"x\":{}}}\n", deep(n));
        temp.append("a.media.jsonl", &line);
    }
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(temp.counts(), [4, 0, 0]);
    let warnings: Vec<_> = temp.items().iter().map(|item| item["warnings"].clone()).collect();
    let dropped = json!(["x dropped: nested deeper than 64 levels"]);
    assert_eq!(warnings, [Value::Null, dropped.clone(), dropped.clone(), dropped]);
    // The configuration of a run costs no run, whatever is in it.
    temp.write("safelight.json", format!("{{\"config\":{},\"name\":\"n\"}}", deep(126)).as_bytes());
    temp.append("a.media.jsonl", "{\"key\":\"k\",\"step\":5,\"data\":\"x.npy\"}\n");
    let ran = temp.ingest();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("nested deeper than 64 levels"), "{}", ran.err);
    assert_eq!(temp.counts(), [5, 0, 0]);
}

#[test]
fn an_absolute_path_may_lead_through_a_link() {
    let temp = TempRun::new();
    temp.write("x.npy", &gray(1));
    let alias = temp.folder().join("alias");
    std::os::unix::fs::symlink(temp.at(""), &alias).expect("a link");
    let line = json!({"key": "k", "step": 1, "data": alias.join("x.npy")});
    temp.append("a.media.jsonl", &format!("{line}\n"));
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(temp.items()[0]["source"]["path"], "x.npy");
}

#[test]
fn a_damaged_run_file_is_rewritten_from_its_run() {
    // Regression: the run could not be read or committed, and its failing commits blocked all others.
    let temp = TempRun::new();
    temp.log_picture("k", 1, 1);
    assert_eq!(temp.ingest().code, 0);
    let run_file = temp.store().join("runs/run/run.json");
    let sound = fs::read(&run_file).expect("run.json");
    fs::write(&run_file, "rubbish").expect("a file");
    temp.log_picture("k", 2, 2);
    let ran = temp.ingest();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(fs::read(&run_file).expect("run.json"), sound);
    assert_eq!(temp.counts(), [2, 0, 0]);
}

#[test]
fn a_directory_named_with_a_combining_accent_is_ingested() {
    let temp = TempRun::new();
    let run = temp.folder().join("cafe\u{301}");
    fs::create_dir_all(run.join("dumps/val")).expect("folders");
    fs::write(run.join("dumps/val/000001.npy"), gray(1)).expect("a dump");
    let ran = temp.run(&["ingest", run.to_str().expect("a path")]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("new: 1 image, 0 held back, 0 rejected"), "{}", ran.out);
}

/// The last rejections of the last run were printed, also if they were older.
#[test]
fn the_rejections_that_are_printed_are_those_of_this_command() {
    let temp = TempRun::new();
    let write = |path: &str| {
        let path = temp.folder().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, b"this is no dump at all").expect("a dump");
    };
    write("r1/dumps/val/1.npy");
    write("r2/dumps/val/1.npy");
    let [r1, r2] = ["r1", "r2"].map(|run| temp.folder().join(run).display().to_string());
    let ran = temp.run(&["ingest", &r1, &r2]);
    assert_eq!(ran.code, 3, "{ran:?}");
    for path in ["r1/dumps/val/1.npy", "r2/dumps/val/1.npy"] {
        assert!(ran.out.contains(&format!("  rejected {path}: ")), "{ran:?}");
    }
    write("r1/dumps/val/2.npy");
    let ran = temp.run(&["ingest", &r1, &r2]);
    assert_eq!(ran.out.matches("  rejected ").count(), 1, "{ran:?}");
    assert!(ran.out.contains("  rejected r1/dumps/val/2.npy: "), "{ran:?}");
    // The status names one item of each run.
    let status = temp.run(&["status"]).out;
    let want = "rejected  3 items are not tried again unless a dump is written anew; list: ";
    assert!(status.contains(want), "{status}");
    assert!(status.contains("          r2 dumps/val/1.npy: "), "{status}");
    assert_eq!(temp.status()["rejected_for_good"]["n"], 3);
}
