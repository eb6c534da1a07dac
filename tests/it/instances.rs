//! One daemon per store and per socket. Files of a killed daemon do not block the next one.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{PROGRAM, Ran, TempRun, gray, wait_for};

/// Runs a daemon that must refuse to start. Returns its output and how long it ran.
fn refused(config: &Path) -> (Ran, Duration) {
    let start = Instant::now();
    let mut child = Command::new(PROGRAM)
        .args(["daemon", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the daemon");
    wait_for("the refusal", || child.try_wait().expect("a status").is_some());
    let took = start.elapsed();
    (child.wait_with_output().expect("its output").into(), took)
}

/// Writes another configuration beside the first daemon's.
fn config(temp: &TempRun, store: &str, socket: &str) -> std::path::PathBuf {
    let path = temp.folder().join("other.toml");
    let text = format!("store.path = \"{store}\"\ncontrol.socket = \"{socket}\"\n");
    fs::write(&path, text).expect("a configuration");
    path
}

fn status(temp: &TempRun) -> Value {
    let ran = temp.run(&["status", "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    serde_json::from_str(&ran.out).expect("JSON")
}

#[test]
fn a_second_daemon_on_a_store_is_refused_at_once_and_names_the_first() {
    let temp = TempRun::new();
    let daemon = temp.daemon("");
    let pid = daemon.child.id();
    // With the first daemon's configuration, and with another socket.
    let same = temp.folder().join("safelight.toml");
    for config in [same, config(&temp, "store", "other.sock")] {
        let (ran, took) = refused(&config);
        assert_eq!(ran.code, 1, "{ran:?}");
        let want = format!("is in use by process {pid} (safelight daemon)");
        assert!(ran.err.contains(&want), "{ran:?}");
        assert!(ran.err.contains("store"), "{ran:?}");
        // The goal is one second. A loaded machine may need more.
        assert!(took < Duration::from_secs(5), "{took:?}");
        eprintln!("a second daemon was refused after {} ms", took.as_millis());
    }
    // The first daemon still works and owns its socket and lock.
    temp.log_picture("k", 1, 1);
    wait_for("the picture", || temp.items().len() == 1);
    assert_eq!(status(&temp)["pid"], pid);
    let ingest = temp.ingest();
    assert_eq!(ingest.code, 1, "{ingest:?}");
    assert!(ingest.err.contains("a daemon holds the store"), "{ingest:?}");
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn files_of_a_killed_daemon_do_not_block_a_later_start() {
    let temp = TempRun::new();
    temp.log_picture("k", 1, 1);
    let daemon = temp.daemon("");
    let dead = daemon.child.id();
    wait_for("the picture", || temp.items().len() == 1);
    // Dropping the daemon kills it.
    drop(daemon);
    let (lock, socket) = (temp.store().join("lock"), temp.folder().join("control.sock"));
    assert!(fs::read_to_string(&lock).expect("a lock file").contains(&dead.to_string()));
    assert!(socket.symlink_metadata().is_ok(), "the socket is gone");
    // Without a daemon, commands read the store.
    assert_eq!((temp.items().len(), &status(&temp)["pid"]), (1, &Value::Null));
    let contents = [
        fs::read(&lock).expect("a lock file"),
        b"".to_vec(),
        b"rubbish \xff".to_vec(),
        // A process with this id runs, but it is not the daemon.
        br#"{"pid":1,"command":"daemon","socket":"/nonexistent"}"#.to_vec(),
    ];
    for (n, content) in (2..).zip(contents) {
        fs::write(&lock, content).expect("a lock file");
        let daemon = temp.daemon("");
        assert_eq!(status(&temp)["pid"], daemon.child.id());
        temp.log_picture("k", n, n);
        let want = usize::try_from(n).expect("a small number");
        wait_for("the picture", || temp.items().len() == want);
        drop(daemon);
    }
}

#[test]
fn a_daemon_does_not_take_a_socket_that_is_in_use() {
    let temp = TempRun::new();
    let daemon = temp.daemon("");
    let (ran, _) = refused(&config(&temp, "another-store", "control.sock"));
    assert_eq!(ran.code, 1, "{ran:?}");
    let socket = temp.folder().join("control.sock");
    let want = format!("control socket {}: another daemon listens there", socket.display());
    assert!(ran.err.contains(&want), "{ran:?}");
    temp.log_picture("k", 1, 1);
    wait_for("the picture", || temp.items().len() == 1);
    assert_eq!(status(&temp)["pid"], daemon.child.id());
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_file_at_the_path_of_the_socket_is_left_alone() {
    // Regression: any file at the path of the socket was removed.
    let temp = TempRun::new();
    let notes = temp.folder().join("notes");
    fs::write(&notes, "mine").expect("a file");
    let (ran, _) = refused(&config(&temp, "store", "notes"));
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("notes: the path exists and is not a socket"), "{ran:?}");
    assert_eq!(fs::read_to_string(&notes).expect("the file"), "mine");
}

#[test]
fn a_command_beside_a_starting_daemon_succeeds() {
    // Regression: `ls` found no socket yet, waited for the store's lock, and failed because the daemon
    // held it.
    let temp = TempRun::new();
    temp.log_picture("k", 1, 1);
    temp.ingest();
    for _ in 0..3 {
        std::thread::scope(|scope| {
            let listed =
                scope.spawn(|| (0..20).map(|_| temp.items().len()).all(|n_items| n_items == 1));
            let daemon = temp.daemon("");
            assert!(listed.join().expect("a listing"), "an item was missing");
            drop(daemon);
        });
    }
    temp.write("dumps/a/1.npy", &gray(1));
    assert_eq!(temp.ingest().code, 0);
}
