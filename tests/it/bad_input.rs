//! Malformed, hostile and missing input is rejected with a reason, and its neighbours become images.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::harness::{TempRun, gray, make_fifo, npy};

/// Writes bad dumps. Returns for each its path and a text that the reason of its rejection must contain.
fn bad_dumps(temp: &TempRun) -> Vec<(&'static str, &'static str)> {
    let huge = npy("<f8", &[1 << 20, 1 << 20], &[]);
    let good = gray(1);
    let mut object = npy("|O", &[4, 4], &[0; 128]);
    object.extend(b"cos\nsystem\n");
    temp.write("empty.npy", b"");
    temp.write("truncated.npy", &good[..good.len() - 1]);
    temp.write("lying.npy", &npy("<f4", &[400, 400, 3], &[0; 100]));
    temp.write("huge.npy", &huge);
    temp.write("header.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr'");
    temp.write("object.npy", &object);
    temp.write("text.npy", b"this is no dump at all");
    temp.write("none.npy", &npy("|u1", &[0, 4], &[]));
    temp.write("row.npy", &npy("|u1", &[9], &[0; 9]));
    fs::create_dir(temp.at("folder.npy")).expect("a folder");
    symlink("/etc/passwd", temp.at("link.npy")).expect("a link");
    make_fifo(&temp.at("fifo.npy"));
    let sparse = fs::File::create(temp.at("sparse.npy")).expect("a file");
    sparse.set_len(1 << 40).expect("a sparse file");
    vec![
        ("empty.npy", "truncated: got 0 bytes, want 8"),
        ("truncated.npy", "truncated: got 143 bytes, want 144"),
        ("lying.npy", "truncated"),
        ("huge.npy", "truncated"),
        ("header.npy", "limits.header_bytes_max is 4194304"),
        ("object.npy", "Python objects"),
        ("text.npy", "not a dump: begins with this i"),
        ("none.npy", "an axis has length 0"),
        ("row.npy", "shape (9): want 2 to 4 axes"),
        ("folder.npy", "is a directory"),
        ("link.npy", "is a symbolic link"),
        ("fifo.npy", "is a FIFO"),
        ("sparse.npy", "limits.dump_bytes_max is 8589934592"),
        ("missing.npy", "is missing"),
        ("../run.npy", "leaves the run directory"),
        ("/etc/passwd", "lies outside of the run directory"),
        ("x.npz", "is missing"),
    ]
}

#[test]
fn bad_dumps_are_rejected_with_a_reason_and_cost_no_neighbour() {
    let temp = TempRun::new();
    let bad = bad_dumps(&temp);
    for (n, (path, _)) in bad.iter().enumerate() {
        let line = json!({"key": "bad", "step": n, "data": path});
        temp.append("a.media.jsonl", &format!("{line}\n"));
        temp.log_picture("good", n as u64, n as u64);
    }
    let ran = temp.ingest();
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(temp.counts(), [bad.len(), 0, bad.len()]);
    // Those that wait have their places among the images.
    let mut rejected: Vec<_> =
        temp.items().into_iter().filter(|item| item["state"] == "rejected").collect();
    rejected.sort_by_key(|item| item["step"].as_u64());
    for ((path, want), item) in bad.iter().zip(&rejected) {
        let reason = item["reason"].as_str().unwrap_or("");
        assert!(reason.contains(want), "{path}: got {reason:?}, want {want:?}");
        assert_eq!(
            (&item["key"], &item["source"]["log"]),
            (&json!("bad"), &json!("a.media.jsonl"))
        );
    }
}

#[test]
fn bad_dumps_without_a_log_line_are_rejected_too() {
    let temp = TempRun::new();
    let bad: Vec<_> = bad_dumps(&temp)
        .into_iter()
        .filter(|(path, _)| temp.at(path).symlink_metadata().is_ok())
        .collect();
    let bad: Vec<_> = bad.into_iter().filter(|(path, _)| !path.contains('/')).collect();
    fs::create_dir_all(temp.at("dumps/bad")).expect("a folder");
    fs::create_dir_all(temp.at("dumps/good")).expect("a folder");
    for (n, (path, _)) in bad.iter().enumerate() {
        fs::rename(temp.at(path), temp.at(&format!("dumps/bad/{n}.npy"))).expect("a rename");
        temp.write(&format!("dumps/good/{n}.npy"), &gray(n as u64));
    }
    let ran = temp.ingest();
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(temp.counts(), [bad.len(), 0, bad.len()], "{:?}", temp.states());
    for item in temp.items().iter().filter(|item| item["state"] == "rejected") {
        let n = usize::try_from(item["step"].as_u64().expect("a step")).expect("a small step");
        let reason = item["reason"].as_str().unwrap_or("");
        assert!(reason.contains(bad[n].1), "{}: got {reason:?}, want {:?}", bad[n].0, bad[n].1);
    }
    // A dump that did not change is not read again.
    let again = temp.ingest();
    assert_eq!(again.code, 0, "{again:?}");
}

#[test]
fn bad_lines_are_rejected_by_file_line_and_column_and_cost_no_neighbour() {
    let temp = TempRun::new();
    let long = format!("{{\"caption\":\"{}\"}}", "x".repeat(8 << 20));
    let bad = [
        ("not json", "a.media.jsonl:2:2: "),
        (
            "{\"key\":\"k\",\"step\":\"x\",\"data\":\"d\"}",
            "a.media.jsonl:4:21: step: invalid type: string \"x\"",
        ),
        ("{\"key\":\"k\",\"step\":1}", "a.media.jsonl:6:20: data is missing"),
        (long.as_str(), "line of 8388622 bytes, limits.line_bytes_max is 1048576"),
        ("[]", "a.media.jsonl:10:1: invalid type: sequence"),
        ("{\"key\":\"k\",\"step\":1,\"data\":{\"path\":\"x\",\"shape\":[1]}}", "raw bytes"),
        ("{\"key\":\"k\",\"step\":1,\"data\":\"x\",\"mode\":\"P\"}", "needs a palette"),
    ];
    for (n, (line, _)) in bad.iter().enumerate() {
        temp.log_picture("good", n as u64, n as u64);
        temp.append("a.media.jsonl", &format!("{line}\n"));
    }
    // Blank lines are skipped, not rejected.
    temp.append("a.media.jsonl", "\n  \n\r\n");
    temp.log_picture("good", 99, 99);
    let ran = temp.ingest();
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(temp.counts(), [bad.len() + 1, 0, bad.len()]);
    let rejected: Vec<_> =
        temp.states().into_iter().filter(|(state, _)| state == "rejected").collect();
    for ((line, want), (_, reason)) in bad.iter().zip(&rejected) {
        assert!(reason.contains(want), "{line:.40}: got {reason:?}, want {want:?}");
    }
}

#[test]
fn control_characters_reach_no_terminal() {
    let temp = TempRun::new();
    temp.write("x.npy", &gray(1));
    let line =
        json!({"key": "a\u{1b}[31m", "step": 1, "data": "x.npy", "caption": "two\nlines\u{7}"});
    temp.append("a.media.jsonl", &format!("{line}\n"));
    let ran = temp.ingest();
    assert_eq!(ran.code, 0, "{ran:?}");
    let listed = temp.run(&["ls"]).out;
    assert_eq!(listed.lines().count(), 2, "{listed:?}");
    assert!(!listed.contains(['\u{1b}', '\u{7}']), "{listed:?}");
    assert_eq!(temp.items()[0]["caption"], "two\nlines\u{7}");
}

#[test]
fn a_path_with_an_impossible_step_or_index_is_rejected() {
    let temp = TempRun::new();
    temp.write("dumps/k/1.npy", &gray(1));
    temp.write("dumps/k/99999999999999999999.npy", &gray(2));
    temp.write("dumps/k/1_4294967296.npy", &gray(3));
    assert_eq!(temp.ingest().code, 3);
    assert_eq!(temp.counts(), [1, 0, 2]);
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(temp.counts(), [1, 0, 2]);
}
