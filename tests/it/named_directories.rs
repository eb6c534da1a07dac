//! The directories that a command line names: runs, folders of runs, and loose arrays and pictures.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{KilledOnDrop, PROGRAM, READY, Ran, TempRun, gray, npy, npz, wait_for};

fn path(temp: &TempRun, inner: &str) -> String {
    temp.at(inner).display().to_string()
}

/// Ingests a directory below `run`. Asserts that it ends with 0.
fn ingest(temp: &TempRun, inner: &str, settings: &str, options: &[&str]) -> Ran {
    let directory = path(temp, inner);
    let ran = temp.run_with(settings, &[&["ingest", &directory], options].concat());
    assert_eq!(ran.code, 0, "{inner} {options:?}: {ran:?}");
    ran
}

/// A daemon that watches `run`, once it is ready, and what it logged.
fn daemon(temp: &TempRun) -> (KilledOnDrop, String) {
    let (log, store) = (temp.folder().join("daemon.log"), temp.store().display().to_string());
    let mut command = Command::new(PROGRAM);
    command.args(["daemon", &path(temp, ""), "--store", &store]).stdin(Stdio::null());
    command.stderr(fs::File::create(&log).expect("a log"));
    let daemon = KilledOnDrop(command.spawn().expect("the daemon"));
    let said = || fs::read_to_string(&log).unwrap_or_default();
    wait_for("the daemon", || said().contains(READY));
    (daemon, said())
}

/// An npy file of two pictures of 4 × 4.
fn pair(n: u8) -> Vec<u8> {
    let pixels: Vec<u8> = (0u8..32).map(|i| i.wrapping_mul(n)).collect();
    npy("|u1", &[2, 4, 4, 1], &pixels)
}

/// The keys and steps of all items.
fn places(temp: &TempRun) -> Vec<(String, u64)> {
    let place = |item: &Value| {
        (item["key"].as_str().unwrap_or("").to_owned(), item["step"].as_u64().unwrap_or(99))
    };
    temp.items().iter().map(place).collect()
}

#[test]
fn loose_arrays_and_pictures_are_taken_under_a_key() {
    let temp = TempRun::new();
    for (n, name) in ["000120.npy", "pred_120.npy", "pred_130.npy", "cat.npy"].iter().enumerate() {
        temp.write(name, &gray(n as u64));
    }
    temp.write("model_1.pt", b"x");
    temp.write("notes.txt", b"x");
    for _ in 0..2 {
        let ran = ingest(&temp, "", "", &["--key", "val"]);
        assert_eq!(ran.err, "", "{ran:?}");
    }
    let want = [("val", 120), ("val/cat", 0), ("val/pred", 120), ("val/pred", 130)];
    assert_eq!(places(&temp), want.map(|(key, step)| (key.to_owned(), step)));
    let bad = temp.run(&["ingest", &path(&temp, ""), "--key", ""]);
    assert_eq!(bad.code, 2, "{bad:?}");
}

#[test]
fn held_waiting_and_damaged_items_of_loose_files_are_made_again() {
    // Bug: "no pattern in `dumps` of the configuration describes its path any more".
    let temp = TempRun::new();
    temp.write("pred_120.npy", &pair(1));
    temp.write("130.npy", &pair(3));
    let two = npz(&[("x.npy", pair(5)), ("y.npy", pair(7))]);
    temp.write("two_7.npz", &two);
    temp.write("one_8.npz", &npz(&[("x.npy", pair(9))]));
    let late = gray(11);
    temp.write("late_9.npy", &late[..late.len() - 1]);
    let (low, high) = ("[limits]\nmax_items = 1\n", "[limits]\nmax_items = 9\n");
    let directory = path(&temp, "");
    let ran = temp.run_with(low, &["ingest", &directory, "--key", "val"]);
    assert_eq!((ran.code, temp.counts()), (3, [5, 5, 1]), "{ran:?}");

    temp.write("late_9.npy", &late);
    let ran = temp.run_with(high, &["release"]);
    assert_eq!((ran.code, temp.counts()), (0, [11, 0, 0]), "{ran:?}");
    let media = temp.store().join("runs/run/media");
    fs::remove_dir_all(&media).expect("the media files");
    let ran = temp.run_with(high, &["verify", "--repair"]);
    assert_eq!(ran.code, 0, "{ran:?}");

    let released = temp.items();
    fs::remove_dir_all(temp.store()).expect("the store");
    ingest(&temp, "", high, &["--key", "val"]);
    let at_once = temp.items();
    let paths = |items: &[Value]| {
        let mut paths: Vec<Value> = items.iter().map(|item| item["path"].clone()).collect();
        paths.sort_by_key(Value::to_string);
        paths
    };
    assert_eq!(paths(&released), paths(&at_once));
}

#[test]
fn a_key_says_which_run_directories_it_does_not_take() {
    // Bug: they were skipped without a word.
    let temp = TempRun::new();
    temp.write("120.npy", &gray(1));
    temp.write("a/dumps/val/1.npy", &gray(2));
    temp.write("sweep/b/x.media.jsonl", b"");
    let ran = ingest(&temp, "", "", &["--key", "val"]);
    let want = "and not the 2 runs in it, such as a: ingest it without --key, too";
    assert!(ran.err.contains(want), "{ran:?}");
    assert_eq!(places(&temp), [("val".to_owned(), 120)]);
}

#[test]
fn a_run_keeps_its_name_whichever_directory_is_named() {
    // Bug: a run was stored twice, as `sweep/seed0` and as `seed0`.
    for (directories, want) in [
        (["", "sweep/seed0", "sweep", ""], "sweep/seed0"),
        (["sweep/seed0", "", "sweep", ""], "seed0"),
        (["sweep", "", "sweep/seed0", ""], "seed0"),
    ] {
        let temp = TempRun::new();
        temp.write("sweep/seed0/dumps/val/1.npy", &gray(1));
        for directory in directories {
            ingest(&temp, directory, "", &[]);
            assert_eq!(temp.counts(), [1, 0, 0], "{directories:?}: {directory}");
        }
        // Also for a daemon, and if the index is lost.
        temp.remove_index();
        let (daemon, _) = daemon(&temp);
        temp.write("sweep/seed0/dumps/val/2.npy", &gray(2));
        wait_for("a second image", || temp.counts()[0] == 2);
        drop(daemon);
        let runs: Vec<Value> = temp.items().iter().map(|item| item["run"].clone()).collect();
        assert_eq!(runs, [want, want], "{directories:?}");
    }
}

#[test]
fn an_id_that_was_in_a_directory_is_not_its_name() {
    let temp = TempRun::new();
    temp.write("a/dumps/val/1.npy", &gray(1));
    temp.write("a/safelight.json", b"{\"id\":\"first\"}");
    ingest(&temp, "a", "", &[]);
    // Another run takes the directory.
    fs::remove_file(temp.at("a/safelight.json")).expect("a removal");
    temp.write("a/dumps/val/1.npy", &gray(2));
    ingest(&temp, "a", "", &[]);
    let runs: Vec<Value> = temp.items().iter().map(|item| item["run"].clone()).collect();
    assert_eq!(runs, ["a", "first"]);
}

#[test]
fn the_daemon_says_which_run_directories_lie_too_deep() {
    // Bug: of two levels with runs, the deeper ones were left out without a word.
    let temp = TempRun::new();
    temp.write("a/dumps/val/1.npy", &gray(1));
    temp.write("sweep/seed0/dumps/val/1.npy", &gray(2));
    let (_daemon, said) = daemon(&temp);
    assert!(said.contains("1 run directory lies deeper than the others"), "{said}");
    assert!(said.contains("such as sweep/seed0"), "{said}");
}

#[test]
fn a_copy_of_a_run_is_told_once_and_the_others_are_read() {
    // Bug: told twice, exit code 1.
    let temp = TempRun::new();
    temp.log_picture("k", 1, 1);
    temp.write("safelight.json", b"{\"id\":\"one\"}");
    let copy = temp.folder().join("run-copy");
    let copied = Command::new("cp").arg("-r").arg(temp.at("")).arg(&copy).status();
    assert!(copied.expect("cp").success());
    fs::create_dir_all(temp.folder().join("run-other/dumps/k")).expect("folders");
    fs::write(temp.folder().join("run-other/dumps/k/1.npy"), gray(2)).expect("a dump");
    let runs =
        ["run", "run-copy", "run-other"].map(|run| temp.folder().join(run).display().to_string());
    let ran = temp.run(&["ingest", &runs[0], &runs[1], &runs[2]]);
    assert_eq!(ran.code, 3, "{ran:?}");
    let told = format!("{}{}", ran.out, ran.err);
    assert_eq!(told.matches("run-copy").count(), 1, "{ran:?}");
    assert!(ran.out.contains("give one of them another \"id\" in safelight.json"), "{ran:?}");
    assert_eq!(temp.counts(), [2, 0, 0]);
    let ran = temp.run(&["ingest", &runs[1], "--json"]);
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((ran.code, report["not_taken"].as_array().map(Vec::len)), (3, Some(1)), "{report}");
    assert_eq!(report["problems"], serde_json::json!([]));
}
