//! What was probably meant for Safelight and is not read as it lies is counted, named, and said what to do about.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::harness::{Ran, TempRun, gray, wait_for};

/// The kinds that are passed over in a list, each with its number.
fn kinds(list: &Value) -> Vec<(String, u64)> {
    let kind = |found: &Value| {
        (found["kind"].as_str().expect("a kind").to_owned(), found["n"].as_u64().expect("a number"))
    };
    list.as_array().expect("a list").iter().map(kind).collect()
}

fn pairs(want: &[(&str, u64)]) -> Vec<(String, u64)> {
    want.iter().map(|(kind, n)| ((*kind).to_owned(), *n)).collect()
}

/// What `ingest --json` passed over in the only run directory.
fn ingested(temp: &TempRun) -> (Ran, Vec<(String, u64)>) {
    let run = temp.at("");
    let ran = temp.run(&["ingest", run.to_str().expect("a path"), "--json"]);
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    let found =
        kinds(&report["passed_over"].get(0).map_or(json!([]), |of| of["passed_over"].clone()));
    (ran, found)
}

fn write_near_misses(temp: &TempRun) {
    for path in ["dumps/000120.npy", "val/step_120.npy", "dumps/val/120.NPY", "dumps/val/a.ckpt"] {
        temp.write(path, &gray(1));
    }
    temp.append("train.jsonl", "{\"key\":\"k\",\"step\":1,\"data\":\"val/step_120.npy\"}\n");
}

#[test]
fn an_ingest_that_finds_nothing_says_what_it_looked_for_and_passed_over() {
    let temp = TempRun::new();
    write_near_misses(&temp);
    let ran = temp.ingest();
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("nothing was found in"), "{ran:?}");
    for want in [
        "looked for media logs (*.media.jsonl) and dumps (dumps/{key}/{step}.{ext}, ",
        "train.jsonl: rename it to train.media.jsonl",
        "dumps/000120.npy: no folder names its key: move it to dumps/KEY/000120.npy",
        "val/step_120.npy: move it to dumps/val/120.npy, or add the pattern \"{key}/step_{step}.{ext}\" to `dumps`",
        "dumps/val/120.NPY: rename it to 120.npy",
    ] {
        assert!(ran.out.contains(want), "{want}: {}", ran.out);
    }
    assert!(!ran.out.contains("a.ckpt"), "{}", ran.out);
    let (ran, found) = ingested(&temp);
    assert_eq!(found, pairs(&[("log", 1), ("dump", 2), ("upper_case", 1)]), "{ran:?}");
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(report["found_nothing"].as_array().map(Vec::len), Some(1), "{report}");

    // An empty directory, and one beside a directory with input.
    let empty = temp.folder().join("empty");
    fs::create_dir(&empty).expect("a folder");
    temp.log_picture("k", 1, 1);
    let ran = temp.run(&[
        "ingest",
        empty.to_str().expect("a path"),
        temp.at("").to_str().expect("a path"),
    ]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("empty") && !ran.err.contains("run,"), "{ran:?}");
    assert_eq!(temp.counts(), [1, 0, 0]);
}

#[test]
fn a_directory_that_was_read_before_is_not_found_empty() {
    let temp = TempRun::new();
    temp.log_picture("k", 1, 1);
    temp.write("dumps/a/1.npy", &gray(1));
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(temp.ingest().code, 0, "all was read before");
    // Nor is one whose dumps and logs were removed since.
    fs::remove_dir_all(temp.at("dumps")).expect("a removal");
    fs::remove_file(temp.at("a.media.jsonl")).expect("a removal");
    let ran = temp.ingest();
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn a_linked_folder_is_named_with_its_target() {
    let temp = TempRun::new();
    let target = temp.folder().join("scratch");
    fs::create_dir_all(target.join("val")).expect("folders");
    fs::write(target.join("val/000001.npy"), gray(1)).expect("a dump");
    symlink(&target, temp.at("dumps")).expect("a link");
    let ran = temp.ingest();
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("passed over 1 symbolic link: no link is followed"), "{ran:?}");
    assert!(ran.out.contains(&format!("dumps -> {}", target.display())), "{ran:?}");
    assert_eq!(ingested(&temp).1, pairs(&[("link", 1)]));
}

#[test]
fn a_rotated_log_is_named_until_it_is_renamed() {
    let temp = TempRun::new();
    for step in 0..2 {
        temp.log_picture("k", step, step);
    }
    fs::rename(temp.at("a.media.jsonl"), temp.at("a.media.jsonl.1")).expect("a rename");
    temp.write("a.media.jsonl.2.gz", b"\x1f\x8b");
    temp.log_picture("k", 2, 2);
    let ran = temp.ingest();
    assert_eq!(temp.counts(), [1, 0, 0], "{ran:?}");
    for want in [
        "passed over 2 media logs outside of the patterns",
        "a.media.jsonl.1: rename it to a.1.media.jsonl, or add \"a.media.jsonl.1\" to `logs`",
        "a.media.jsonl.2.gz: if its lines were not read before, decompress it as a.2.media.jsonl",
    ] {
        assert!(ran.out.contains(want), "{want}: {}", ran.out);
    }
    fs::rename(temp.at("a.media.jsonl.1"), temp.at("a.1.media.jsonl")).expect("a rename");
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(temp.counts(), [3, 0, 0]);
    // A log that was read before it was rotated is not named.
    fs::rename(temp.at("a.media.jsonl"), temp.at("a.media.jsonl.3")).expect("a rename");
    assert_eq!(ingested(&temp).1, pairs(&[("log", 1)]));
}

#[test]
fn a_folder_of_runs_that_is_read_as_a_run_is_named_with_its_runs() {
    let temp = TempRun::new();
    for run in ["r1", "r2"] {
        temp.write(&format!("{run}/dumps/val/1.npy"), &gray(1));
        let line = "{\"key\":\"k\",\"step\":1,\"data\":\"dumps/val/1.npy\"}\n";
        temp.append(&format!("{run}/a.media.jsonl"), line);
    }
    // The identity says that it is a run.
    temp.write("safelight.json", b"{}");
    let ran = temp.ingest();
    assert_eq!(ran.code, 1, "{ran:?}");
    let how = "give it to `safelight ingest`, or choose it by `runs` in [[watch]]";
    for want in [
        format!("r1/dumps/val/1.npy: r1 looks like a run directory: {how}\n"),
        format!("r2/a.media.jsonl: if r2 is a run directory, {how}; else move it to a.media.jsonl"),
    ] {
        assert!(ran.out.contains(&want), "{want}: {}", ran.out);
    }
}

#[test]
fn a_run_of_a_normal_job_passes_nothing_over() {
    let temp = TempRun::new();
    for step in 0..3 {
        temp.log_picture("val/pred", step, step);
        temp.write(&format!("dumps/val/{step}.npy"), &gray(step));
        temp.write(&format!("steps/{step}/pred.npy"), &gray(step));
        let line = json!({"key": "steps", "step": step, "data": format!("steps/{step}/pred.npy")});
        temp.append("a.media.jsonl", &format!("{line}\n"));
    }
    // Lines may name dumps in the folders of the pattern, too.
    for path in ["dumps/a.npy", "dumps/val/best.npy"] {
        temp.write(path, &gray(9));
        let line = json!({"key": path, "step": 0, "data": path});
        temp.append("a.media.jsonl", &format!("{line}\n"));
    }
    temp.write("masks/1.npy", &gray(1));
    let mask = json!({"m": {"mask_data": "masks/1.npy"}});
    let line = json!({"key": "m", "step": 1, "data": "top.npy", "masks": mask});
    temp.write("top.npy", &gray(1));
    temp.append("a.media.jsonl", &format!("{line}\n"));
    temp.write(
        "dumps/val/1.npy.json",
        b"{\"masks\":{\"m\":{\"mask_data\":\"dumps/val/1_mask.npy\"}}}",
    );
    temp.write("dumps/val/1_mask.npy", &gray(1));
    for path in [
        "checkpoints/step_10.pt",
        "ckpt.pt",
        "model.safetensors",
        "events.out.tfevents.17.host",
        "wandb/run-1/files/media/images/x_1.png",
        "wandb/latest-run/logs/debug.log",
        "metrics.jsonl",
        "figures/loss.png",
        "config.yaml",
        "lightning_logs/version_0/hparams.yaml",
    ] {
        temp.write(path, b"{\"loss\":1}\n");
    }
    for _ in 0..2 {
        // The second time no line is read again.
        let (ran, found) = ingested(&temp);
        assert_eq!(found, [], "{ran:?}");
    }
    let daemon = temp.daemon("");
    std::thread::sleep(std::time::Duration::from_secs(4));
    let root = temp.status()["ingest"]["watching"][0].clone();
    assert_eq!(kinds(&root["passed_over"]), [], "{root}");
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_line_that_names_a_dump_explains_no_dump_of_another_folder() {
    let temp = TempRun::new();
    for path in ["dumps/a.npy", "dumps/val/best.npy"] {
        temp.write(path, &gray(1));
    }
    temp.append("a.media.jsonl", "{\"key\":\"k\",\"step\":1,\"data\":\"dumps/a.npy\"}\n");
    for _ in 0..2 {
        let (ran, found) = ingested(&temp);
        assert_eq!(found, pairs(&[("dump", 1)]), "{ran:?}");
    }
}

#[test]
fn a_daemon_shows_in_status_metrics_and_log_what_it_passes_over() {
    let temp = TempRun::new();
    write_near_misses(&temp);
    let scratch = temp.folder().join("scratch");
    fs::create_dir(&scratch).expect("a folder");
    symlink(&scratch, temp.at("linked")).expect("a link");
    symlink(temp.at(""), temp.folder().join("run-latest")).expect("a link");
    fs::create_dir_all(temp.at("dumps/ok")).expect("a folder");
    fs::write(temp.at("dumps/ok").join(OsStr::from_bytes(b"\xff.npy")), gray(1)).expect("a dump");
    temp.write("dumps/ok/7.h5", b"x");
    fs::create_dir(temp.folder().join("run-empty")).expect("a run");
    fs::write(temp.folder().join("stray.media.jsonl"), "\n").expect("a log");
    let daemon = temp.daemon("[ingest]\nscan_ms = 500\npoll_ms = 500\n");
    let root = || temp.status()["ingest"]["watching"][0].clone();
    let want = pairs(&[
        ("link", 2),
        ("not_utf8", 1),
        ("log", 2),
        ("dump", 2),
        ("upper_case", 1),
        ("suffix", 1),
    ]);
    wait_for("all kinds", || kinds(&root()["passed_over"]) == want);
    let root_now = root();
    assert_eq!(root_now["n_runs_without_input"], 2, "{root_now}");
    assert_eq!(root_now["runs_passed_over"][0]["run"], "run", "{root_now}");
    let text = temp.run(&["status"]).out;
    for line in [
        "2 runs have neither media logs (*.media.jsonl) nor dumps (dumps/{key}/{step}.{ext}, ",
        "run-latest -> ",
        "run/linked -> ",
        "run/dumps/ok/\\xff.npy",
        "run/dumps/ok/7.h5: suffix .h5",
        "stray.media.jsonl: lies outside of the runs",
        "run/val/step_120.npy: move it to dumps/val/120.npy, or add the pattern \"{key}/step_{step}.{ext}\" to `dumps`",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let log = daemon.log_text();
    assert_eq!(log.matches("passed over").count(), 6, "{log}");
    let mut socket = UnixStream::connect(temp.folder().join("control.sock")).expect("the socket");
    let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).expect("a request");
    let mut metrics = String::new();
    socket.read_to_string(&mut metrics).expect("an answer");
    let gauge =
        |line: &str| line.contains("safelight_passed_over{") && line.contains("kind=\"dump\"");
    let gauge = metrics.lines().find(|line| gauge(line)).unwrap_or_else(|| panic!("{metrics}"));
    assert!(gauge.ends_with(" 2.0") || gauge.ends_with(" 2"), "{gauge}");

    // What is renamed as the note says becomes an image and is passed over no more.
    fs::rename(temp.at("dumps/val/120.NPY"), temp.at("dumps/val/120.npy")).expect("a rename");
    fs::rename(temp.at("train.jsonl"), temp.at("train.media.jsonl")).expect("a rename");
    wait_for("the images", || temp.counts() == [2, 0, 0]);
    // The line names a file in `val`, so the dumps there are no longer passed over.
    let want = pairs(&[("link", 2), ("not_utf8", 1), ("log", 1), ("dump", 1), ("suffix", 1)]);
    wait_for("fewer kinds", || kinds(&root()["passed_over"]) == want);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn examples_are_few_however_much_is_passed_over() {
    let temp = TempRun::new();
    for n in 0..40 {
        for folder in 0..30 {
            temp.write(&format!("dumps/f{folder}/a{n}.npy"), b"x");
        }
        symlink("nowhere", temp.at(&format!("link{n}"))).expect("a link");
    }
    let run = temp.at("");
    let ran = temp.run(&["ingest", run.to_str().expect("a path"), "--json"]);
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    let found = &report["passed_over"][0]["passed_over"];
    assert_eq!(kinds(found), pairs(&[("link", 40), ("dump", 1200)]));
    let paths = |i: usize| -> Vec<&str> {
        let examples = found[i]["examples"].as_array().expect("examples");
        examples.iter().map(|example| example["path"].as_str().expect("a path")).collect()
    };
    assert_eq!(paths(0), ["link0", "link1", "link10"]);
    assert_eq!(paths(1), ["dumps/f0/a0.npy", "dumps/f1/a0.npy", "dumps/f10/a0.npy"]);
    assert!(temp.ingest().out.contains("… and 1,197 more"));
}

#[test]
fn folders_that_are_too_deep_or_too_many_are_named() {
    let temp = TempRun::new();
    temp.log_picture("k", 1, 1);
    temp.write("a/b/c/d/e/f/g/h/i/j/1.npy", &gray(1));
    for n in 0..600 {
        fs::create_dir_all(temp.at(&format!("many/{n}"))).expect("a folder");
    }
    let (ran, found) = ingested(&temp);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(found, pairs(&[("not_examined", 2)]), "{ran:?}");
}
