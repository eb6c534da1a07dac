//! `health` speaks about the job: what cannot be listed, what waits, and what cannot be delivered.

use std::fs;

use serde_json::Value;

use crate::faults::{as_nobody, set_mode};
use crate::harness::{TempRun, gray, wait_for};

/// Why the daemon is unhealthy; empty if it is healthy.
fn reasons(temp: &TempRun) -> Vec<String> {
    let ran = temp.run(&["health", "--json"]);
    let health: Value = serde_json::from_str(&ran.out).expect("JSON");
    let reasons: Vec<String> = serde_json::from_value(health["reasons"].clone()).expect("reasons");
    assert_eq!(ran.code, i32::from(!reasons.is_empty()), "{ran:?}");
    reasons
}

fn has(temp: &TempRun, parts: &[&str]) -> bool {
    reasons(temp).iter().any(|reason| parts.iter().all(|part| reason.contains(part)))
}

#[test]
fn a_folder_or_root_that_may_not_be_listed_is_unhealthy() {
    let temp = TempRun::new();
    for folder in ["run/dumps/val", "other", "deep/a/run1"] {
        fs::create_dir_all(temp.folder().join(folder)).expect("a folder");
    }
    let command = as_nobody(&temp);
    let settings = "[ingest]\nscan_ms = 300\npoll_ms = 300\n[[watch]]\npath = \"other\"\n\
                    [[watch]]\npath = \"deep\"\nruns = \"*/*\"\n";
    let daemon = temp.daemon_from(settings, command);
    assert_eq!(reasons(&temp), [] as [String; 0]);
    for (path, parts) in [
        ("run/dumps/val", ["run/dumps/val cannot be listed", "Permission denied"]),
        ("run/dumps", ["run/dumps cannot be listed", "Permission denied"]),
        ("other", ["other: the directory cannot be listed", "Permission denied"]),
        ("deep/a", ["deep: a cannot be listed", "Permission denied"]),
    ] {
        let path = temp.folder().join(path);
        set_mode(&path, 0o000);
        wait_for("the reason", || has(&temp, &parts));
        assert!(temp.run(&["status"]).out.contains(parts[1]), "{path:?}");
        set_mode(&path, 0o755);
        wait_for("good health", || reasons(&temp).is_empty());
    }
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_log_that_may_not_be_read_is_unhealthy_and_fails_an_ingest() {
    let temp = TempRun::new();
    temp.log_picture("k", 1, 1);
    let command = as_nobody(&temp);
    set_mode(&temp.at("a.media.jsonl"), 0o000);
    let daemon = temp.daemon_from("[ingest]\nwait_ms = 200\n", command);
    let parts = ["ingest.wait_ms", "a.media.jsonl", "Permission denied"];
    wait_for("the reason", || has(&temp, &parts));
    assert!(temp.run(&["status"]).out.contains("waiting   run a.media.jsonl (for "));
    set_mode(&temp.at("a.media.jsonl"), 0o644);
    wait_for("the image", || temp.counts() == [1, 0, 0]);
    wait_for("good health", || reasons(&temp).is_empty());
    assert_eq!(daemon.stop().0, Some(0));

    set_mode(&temp.at("a.media.jsonl"), 0o000);
    let mut ingest = as_nobody(&temp);
    let ran = ingest.arg("ingest").arg(temp.at("")).arg("--store").arg(temp.folder().join("fresh"));
    let output = ran.output().expect("the program");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("a.media.jsonl") && error.contains("Permission denied"), "{error}");
}

#[test]
fn a_dump_that_stays_incomplete_is_unhealthy() {
    let temp = TempRun::new();
    let daemon = temp.daemon("[ingest]\nsettle_ms = 50\nwait_ms = 300\nincomplete_ms = 60000\n");
    let whole = gray(1);
    temp.write("dumps/k/1.npy", &whole[..whole.len() - 1]);
    let parts = ["1 line or dump waits for longer than ingest.wait_ms", "run dumps/k/1.npy: "];
    wait_for("the reason", || has(&temp, &parts));
    temp.write("dumps/k/1.npy", &whole);
    wait_for("the image", || temp.counts() == [1, 0, 0]);
    wait_for("good health", || reasons(&temp).is_empty());
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn an_item_that_waits_is_unhealthy_until_its_dump_arrives() {
    let temp = TempRun::new();
    temp.append("a.media.jsonl", "{\"key\":\"k\",\"step\":1,\"data\":\"late.npy\"}\n");
    let daemon = temp.daemon("[ingest]\nwait_ms = 300\nsettle_ms = 50\n");
    let parts = ["1 item waits (list: safelight ls --state waiting)", "run late.npy: ", "missing"];
    wait_for("the reason", || has(&temp, &parts));
    let text = temp.run(&["status"]).out;
    assert!(text.contains("waiting   1 rejected item is tried again when a file"), "{text}");
    assert!(
        text.contains("run       run: 0 images, 0 held back, 1 rejected (1 waiting)"),
        "{text}"
    );
    temp.write("late.npy", &gray(1));
    wait_for("the image", || temp.counts() == [1, 0, 0]);
    wait_for("good health", || reasons(&temp).is_empty());
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_target_that_is_away_for_longer_than_its_patience_is_unhealthy() {
    let temp = TempRun::new();
    let daemon = temp.daemon(
        "[sync.archive]\nkind = \"object_store\"\nurl = \"file:///proc/nonexistent/archive\"\nmanifest_s = 0\npatience_s = 1\n",
    );
    temp.log_picture("k", 1, 1);
    let parts =
        ["target archive: delivery has failed for ", "patience_s is 1", "1 item is pending"];
    wait_for("the reason", || has(&temp, &parts));
    assert_eq!(daemon.stop().0, Some(0));
}
