//! Broken disks: media files that rot or vanish, and journals that cannot be opened or written. Beside each, another
//! run works on.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::faults::{as_nobody, set_mode};
use crate::harness::{PROGRAM, Ran, TempRun, files_below, gray, number_in, wait_for};

/// The second user's run beside the one in trouble.
const OTHER: &str = "run-other";

/// Why the daemon is unhealthy; empty if it is healthy.
fn reasons(temp: &TempRun) -> Vec<String> {
    let ran = temp.run(&["health", "--json"]);
    let health: Value = serde_json::from_str(&ran.out).unwrap_or_default();
    serde_json::from_value(health["reasons"].clone()).unwrap_or_default()
}

fn has_reason(temp: &TempRun, parts: &[&str]) -> bool {
    reasons(temp).iter().any(|reason| parts.iter().all(|part| reason.contains(part)))
}

/// Writes a picture and its line into a run of the same daemon.
fn log_picture(temp: &TempRun, run: &str, n: u64) {
    let folder = temp.folder().join(run);
    fs::create_dir_all(folder.join("tensors")).expect("a folder");
    fs::write(folder.join(format!("tensors/{n}.npy")), gray(n)).expect("a dump");
    let line = json!({"key": "k", "step": n, "data": format!("tensors/{n}.npy")});
    let log = folder.join("a.media.jsonl");
    let mut log = fs::File::options().create(true).append(true).open(log).expect("a log");
    log.write_all(format!("{line}\n").as_bytes()).expect("a log");
}

/// The number of images of a run.
fn n_images(temp: &TempRun, run: &str) -> u64 {
    let status = temp.status();
    let runs = status["runs"].as_array().expect("runs");
    runs.iter().find(|of| of["run"] == run).map_or(0, |of| of["image"].as_u64().expect("a number"))
}

/// The media file of the image at a step of a run.
fn media_file(temp: &TempRun, run: &str, step: u64) -> PathBuf {
    let items = temp.items();
    let item = items.iter().find(|item| item["run"] == run && item["step"] == step);
    temp.store().join(item.expect("an item")["path"].as_str().expect("a path"))
}

fn rot(path: &Path) {
    let mut bytes = fs::read(path).expect("a file");
    *bytes.last_mut().expect("a byte") ^= 1;
    fs::write(path, bytes).expect("a file");
}

/// The settings of a target that is a directory.
fn target(temp: &TempRun) -> String {
    let url = format!("file://{}", temp.folder().join("box").display());
    format!("[sync.box]\nkind = \"object_store\"\nurl = \"{url}\"\nmanifest_s = 0\n")
}

/// Whether the target has an object with the bytes of this file.
fn has_object(temp: &TempRun, bytes: &[u8]) -> bool {
    files_below(&temp.folder().join("box"))
        .iter()
        .any(|object| fs::read(object).is_ok_and(|object| object == bytes))
}

#[test]
fn a_rotten_file_is_made_again_by_the_daemon_and_then_delivered() {
    // Targets got the rotten picture, or parked its item until a person ran two commands.
    let temp = TempRun::new();
    let daemon = temp.daemon("");
    (1..=3).for_each(|n| log_picture(&temp, "run", n));
    log_picture(&temp, OTHER, 7);
    wait_for("the images", || n_images(&temp, "run") == 3 && n_images(&temp, OTHER) == 1);
    assert_eq!(daemon.stop().0, Some(0));
    let files: Vec<PathBuf> = (1..=3).map(|n| media_file(&temp, "run", n)).collect();
    let whole: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).expect("a file")).collect();
    rot(&files[0]);
    fs::remove_file(&files[1]).expect("a file");

    let daemon = temp.daemon(&target(&temp));
    wait_for("all pictures at the target", || whole.iter().all(|bytes| has_object(&temp, bytes)));
    let repaired: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).expect("a file")).collect();
    assert!(repaired == whole);
    wait_for("good health", || reasons(&temp).is_empty());
    let view = &temp.status()["targets"][0];
    assert_eq!((&view["delivered"], &view["set_aside"]), (&json!(4), &json!(0)), "{view}");
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_rotten_file_without_its_dump_waits_by_name_and_comes_after_the_repair() {
    let temp = TempRun::new();
    let daemon = temp.daemon("");
    (1..=2).for_each(|n| log_picture(&temp, "run", n));
    log_picture(&temp, OTHER, 7);
    wait_for("the images", || n_images(&temp, "run") == 2 && n_images(&temp, OTHER) == 1);
    assert_eq!(daemon.stop().0, Some(0));
    let file = media_file(&temp, "run", 1);
    let whole = fs::read(&file).expect("a file");
    rot(&file);
    fs::remove_file(temp.at("tensors/1.npy")).expect("a dump");

    let daemon = temp.daemon(&target(&temp));
    let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
    let parts = [
        "1 media file is damaged or missing",
        "run k 1 0",
        name,
        "got SHA-256",
        "not repaired",
        "missing",
    ];
    wait_for("the reason", || has_reason(&temp, &parts));
    wait_for("the other images", || temp.status()["targets"][0]["delivered"] == 2);
    let view = &temp.status()["targets"][0];
    // It is not refused: nothing is left to do for the target.
    assert_eq!((&view["set_aside"], &view["refused"]), (&json!(1), &json!(0)), "{view}");
    assert!(view["reasons"].to_string().contains("verify --repair"), "{view}");
    let status = temp.run(&["status"]).out;
    assert!(status.contains("error     1 media file is damaged or missing"), "{status}");
    let metrics = temp.run(&["status", "--json"]).out;
    assert!(metrics.contains("\"damaged\": 1") || metrics.contains("\"damaged\":1"), "{metrics}");
    assert!(!has_object(&temp, &fs::read(&file).expect("a file")));

    temp.write("tensors/1.npy", &gray(1));
    let ran = temp.run(&["verify", "--repair"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    wait_for("the picture", || has_object(&temp, &whole));
    wait_for("the state", || temp.status()["targets"][0]["set_aside"] == 0);
    // It is forgotten when the scrub looks at it again.
    assert_eq!(daemon.stop().0, Some(0));
}

/// The numbers of the pictures of a run, in order. Each must be there once.
fn numbers(temp: &TempRun, run: &str) -> Vec<u64> {
    let items = temp.items();
    let of_run = items.iter().filter(|item| item["run"] == run);
    let mut numbers: Vec<u64> = of_run.map(|item| number_in(&temp.store(), item)).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn a_run_whose_journal_cannot_be_opened_is_left_out_alone() {
    // The daemon and all commands ended with an error.
    let temp = TempRun::new();
    let daemon = temp.daemon("");
    (1..=2).for_each(|n| log_picture(&temp, "run", n));
    log_picture(&temp, OTHER, 7);
    wait_for("the images", || n_images(&temp, "run") == 2 && n_images(&temp, OTHER) == 1);
    assert_eq!(daemon.stop().0, Some(0));
    let journal = temp.store().join("runs/run/journal/00000001.jsonl");
    let aside = journal.with_extension("aside");
    fs::rename(&journal, &aside).expect("a journal");
    fs::create_dir(&journal).expect("a folder");
    let words = "run run: nothing is written to it: ";

    let ran = temp.run(&["ls", "--json"]);
    assert!(ran.code == 0 && ran.out.lines().count() == 1, "{ran:?}");
    assert!(ran.err.contains(words) && ran.err.contains("00000001.jsonl"), "{ran:?}");
    assert!(temp.run(&["status"]).out.contains(&format!("error     {words}")));
    for args in [&["ls", "run"][..], &["verify"]] {
        let ran = temp.run(args);
        assert!(ran.code == 1 && (ran.err + &ran.out).contains(words), "{args:?}");
    }

    let ran = temp.ingest();
    assert!(ran.code == 1 && ran.err.contains(words), "{ran:?}");
    let other = temp.folder().join(OTHER);
    assert_eq!(temp.run(&["ingest", other.to_str().expect("a path")]).code, 0);

    let daemon = temp.daemon("[ingest]\nscan_ms = 300\n");
    log_picture(&temp, "run", 3);
    log_picture(&temp, OTHER, 8);
    wait_for("the other run", || n_images(&temp, OTHER) == 2);
    wait_for("the reason", || has_reason(&temp, &[words, "its lines and dumps wait"]));
    fs::remove_dir(&journal).expect("the folder");
    fs::rename(&aside, &journal).expect("a journal");
    wait_for("all images", || numbers(&temp, "run") == [1, 2, 3]);
    wait_for("good health", || reasons(&temp).is_empty());
    assert_eq!(daemon.stop().0, Some(0));
    temp.remove_index();
    assert_eq!((numbers(&temp, "run"), numbers(&temp, OTHER)), (vec![1, 2, 3], vec![7, 8]));
}

#[test]
fn a_run_that_cannot_be_written_any_more_waits_and_delays_no_other() {
    // One run that could not be written stopped all runs.
    let temp = TempRun::new();
    fs::create_dir_all(temp.at("dumps/k")).expect("a folder");
    let command = as_nobody(&temp);
    let daemon = temp.daemon_from("[ingest]\nsettle_ms = 50\nscan_ms = 300\n", command);
    log_picture(&temp, "run", 1);
    log_picture(&temp, OTHER, 101);
    wait_for("the images", || n_images(&temp, "run") == 1 && n_images(&temp, OTHER) == 1);

    let file = temp.store().join("runs/run/run.json");
    set_mode(&file, 0o000);
    for n in 2..30 {
        log_picture(&temp, "run", n);
        temp.write(&format!("dumps/p/{}.npy", 50 + n), &gray(50 + n));
        log_picture(&temp, OTHER, 100 + n);
    }
    wait_for("the other run", || n_images(&temp, OTHER) == 29);
    let parts = ["run run: nothing is written to it: ", "run.json", "Permission denied"];
    wait_for("the reason", || has_reason(&temp, &parts));
    assert_eq!(temp.run(&["ls", "--json", OTHER]).out.lines().count(), 29);
    set_mode(&file, 0o644);
    let want: Vec<u64> = (1..30).chain(52..80).collect();
    wait_for("all images", || n_images(&temp, "run") == want.len() as u64);
    assert_eq!(numbers(&temp, "run"), want);
    wait_for("good health", || reasons(&temp).is_empty());
    assert_eq!(daemon.stop().0, Some(0));
    temp.remove_index();
    assert_eq!(numbers(&temp, "run"), want);
}

#[test]
fn a_copied_store_says_what_it_lacks() {
    // A copy of a store that was written meanwhile listed images without files as if nothing were wrong.
    let temp = TempRun::new();
    (1..=3).for_each(|n| log_picture(&temp, "run", n));
    assert_eq!(temp.ingest().code, 0);
    let copy = temp.folder().join("copy");
    let copied = Command::new("cp").arg("-a").arg(temp.store()).arg(&copy).status();
    assert!(copied.is_ok_and(|status| status.success()));
    let run = |store: &Path, args: &[&str]| -> Ran {
        let mut command = Command::new(PROGRAM);
        command.args(args).arg("--store").arg(store).stdin(Stdio::null());
        command.output().expect("the program").into()
    };
    let of_store = media_file(&temp, "run", 2);
    let of_copy = copy.join(of_store.strip_prefix(temp.store()).expect("a path of the store"));
    fs::remove_file(&of_copy).expect("a file");

    for _ in 0..2 {
        let ran = run(&copy, &["status"]);
        assert!(ran.out.contains("error     1 media file is damaged or missing"), "{ran:?}");
    }
    let ran = run(&copy, &["ls"]);
    assert!(ran.err.contains("the store lacks the files of 1 image"), "{ran:?}");
    let states: Vec<&str> =
        ran.out.lines().filter_map(|line| line.split_whitespace().nth(4)).collect();
    assert_eq!(states, ["STATE", "image", "missing", "image"], "{ran:?}");
    let ran = run(&copy, &["ls", "--json", "run"]);
    assert_eq!(ran.out.matches("\"file_missing\":true").count(), 1, "{ran:?}");
    assert_eq!(run(&copy, &["verify"]).code, 1);
    fs::copy(&of_store, &of_copy).expect("a file");
    assert_eq!(run(&copy, &["verify"]).code, 0);
    let ran = run(&copy, &["status"]);
    assert!(!ran.out.contains("error"), "{ran:?}");

    let ran = run(&temp.store(), &["ls"]);
    assert!(ran.err.is_empty() && !ran.out.contains("missing"), "{ran:?}");
    assert!(!run(&temp.store(), &["status"]).out.contains("error"));
}
