//! Kills during a release.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{check_each_once, ingest, release, with_items};
use crate::harness::{PROGRAM, TempRun, can_trace, gray, kill_at_call, wait_for};

#[test]
fn a_release_killed_at_any_durability_call_loses_and_duplicates_nothing() {
    if !can_trace() {
        return;
    }
    let mut n_killed = 0;
    for call in ["fsync", "fdatasync", "rename", "renameat", "renameat2", "sync_file_range"] {
        for n in 1.. {
            let temp = TempRun::new();
            (0..6).for_each(|n| temp.log_picture("a", 1, n));
            temp.write("dumps/b/1_0.npy", &gray(6));
            temp.write("dumps/b/1_1.npy", &gray(7));
            ingest(&temp, &with_items(1));
            let config = temp.configure("");
            let args = ["release".as_ref(), "--config".as_ref(), config.as_os_str()];
            let was_killed = kill_at_call(call, n, &args, Stdio::null());
            n_killed += u64::from(was_killed);
            let (report, code) = release(&temp, "", &[]);
            assert_eq!((code, &report["failed"]), (0, &json!(0)), "{call} {n}: {report}");
            check_each_once(&temp, 8);
            // The program makes fewer than `n` calls of this kind.
            if !was_killed {
                break;
            }
        }
    }
    assert!(n_killed > 3, "only {n_killed} kills");
}

#[test]
fn a_daemon_killed_during_a_release_loses_and_duplicates_nothing() {
    const N: u64 = 600;
    let temp = TempRun::new();
    (0..N).for_each(|n| temp.log_picture("a", n % 6, n));
    ingest(&temp, &with_items(1));
    let n_images = || {
        let images = |items: Vec<Value>| items.iter().filter(|i| i["state"] == "image").count();
        images(temp.journaled_items())
    };
    let mut n_killed = 0;
    for n_wanted in [10, 100, 250, 450] {
        let daemon = temp.daemon("");
        let config = temp.folder().join("safelight.toml");
        let mut asking = Command::new(PROGRAM);
        asking.arg("release").arg("--config").arg(config).stdin(Stdio::null());
        let mut asking =
            asking.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program");
        wait_for("some of the images", || n_images() >= n_wanted);
        drop(daemon);
        n_killed += u64::from(!asking.wait().expect("an end").success());
    }
    assert!(n_killed > 0, "each release was done before the kill");
    let (report, code) = release(&temp, "", &[]);
    assert_eq!((code, &report["failed"]), (0, &json!(0)), "{report}");
    check_each_once(&temp, N);
}
