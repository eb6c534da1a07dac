//! The daemon follows run directories while jobs write.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{PROGRAM, TempRun, gray, npy, number_from, send_signal, wait_for};

#[test]
fn images_appear_as_their_dumps_are_written() {
    let temp = TempRun::new();
    let daemon = temp.daemon("");
    for n in 0..20 {
        temp.log_picture("live", n, n);
        temp.write(&format!("dumps/a/b{n}/000001.npy"), &gray(n));
        let want = 2 * (usize::try_from(n).expect("a small number") + 1);
        wait_for("the pictures", || temp.items().len() == want);
    }
    let status: Value = serde_json::from_str(&temp.run(&["status", "--json"]).out).expect("JSON");
    assert_eq!(status["pid"], daemon.child.id());
    assert_eq!(
        (&status["image"], &status["held"], &status["rejected"]),
        (&json!(40), &json!(0), &json!(0))
    );
    assert_eq!(status["ingest"]["watching"][0]["n_runs"], 1);
    let shown = temp.run(&["show", "run", "live", "3", "--json"]);
    let shown: Value = serde_json::from_str(&shown.out).expect("JSON");
    assert_eq!(shown["source"]["path"], "tensors/live-3-3.npy");
    let (code, took) = daemon.stop();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(temp.items().len(), 40);
}

#[test]
fn no_dump_in_fresh_nested_folders_is_missed() {
    for backend in ["inotify", "poll"] {
        let temp = TempRun::new();
        let daemon = temp
            .daemon(&format!("backend = \"{backend}\"\n[ingest]\nsettle_ms = 50\npoll_ms = 200\n"));
        for n in 0..600u64 {
            temp.write(&format!("dumps/{}/{}/k{}/{n:06}.npy", n % 7, n % 11, n % 13), &gray(n));
        }
        wait_for("all dumps", || temp.items().len() == 600);
        let status: Value =
            serde_json::from_str(&temp.run(&["status", "--json"]).out).expect("JSON");
        assert_eq!(status["ingest"]["watching"][0]["backend"], backend);
        assert_eq!(daemon.stop().0, Some(0));
    }
}

#[test]
fn a_log_is_followed_through_rotation_and_truncation() {
    let temp = TempRun::new();
    let daemon = temp.daemon("");
    let seen = |n: usize| wait_for("the lines", || temp.items().len() == n);
    temp.log_picture("k", 1, 1);
    seen(1);
    // The log is renamed, gets one more line under the new name, and a new log is created.
    fs::rename(temp.at("a.media.jsonl"), temp.at("a.media.jsonl.1")).expect("a rename");
    temp.write("x.npy", &gray(9));
    temp.append("a.media.jsonl.1", "{\"key\":\"k\",\"step\":2,\"data\":\"x.npy\"}\n");
    temp.log_picture("k", 3, 3);
    seen(3);
    // The log is truncated and then shorter than before.
    fs::write(temp.at("a.media.jsonl"), "").expect("a truncation");
    std::thread::sleep(Duration::from_millis(1500));
    temp.append("a.media.jsonl", "{\"key\":\"k\",\"step\":4,\"data\":\"x.npy\"}\n");
    seen(4);
    // The log is removed and recreated.
    fs::remove_file(temp.at("a.media.jsonl")).expect("a removal");
    temp.log_picture("k", 5, 5);
    seen(5);
    let steps: Vec<Value> = temp.items().iter().map(|item| item["step"].clone()).collect();
    assert_eq!(steps, [1, 2, 3, 4, 5].map(Value::from));
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_half_written_dump_is_read_when_it_is_complete() {
    let temp = TempRun::new();
    let daemon = temp.daemon("[ingest]\nwait_ms = 20000\n");
    let file = npy("|u1", &[64, 64], &[200; 4096]);
    // One dump grows slowly, another has its length before its bytes, and a line is written before its
    // dump.
    temp.append("a.media.jsonl", "{\"key\":\"late\",\"step\":1,\"data\":\"late.npy\"}\n");
    for n in [0, 40, 100, 1000, 3000] {
        temp.write("dumps/slow/000001.npy", &file[..n]);
        std::thread::sleep(Duration::from_millis(250));
    }
    let status = temp.run(&["status"]).out;
    let waits = |line: &str| {
        line.starts_with("waiting   run a.media.jsonl (for ")
            && line.ends_with("): line 1: \"late.npy\" is missing")
    };
    assert!(status.lines().any(waits), "{status}");
    assert_eq!(temp.items().len(), 0);
    temp.write("dumps/slow/000001.npy", &file);
    temp.write("late.npy", &file);
    wait_for("both", || temp.counts() == [2, 0, 0]);
    for item in temp.items() {
        assert_eq!(item["stats"]["min"], 200.0, "{item}");
    }
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_missing_dump_is_rejected_after_the_wait_and_its_neighbours_are_read() {
    let temp = TempRun::new();
    let daemon = temp.daemon("[ingest]\nwait_ms = 300\n");
    for n in 0..20 {
        temp.append(
            "a.media.jsonl",
            &format!("{{\"key\":\"k\",\"step\":{n},\"data\":\"no-{n}.npy\"}}\n"),
        );
    }
    temp.log_picture("k", 99, 99);
    wait_for("all", || temp.counts() == [1, 0, 20]);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_reload_applies_a_valid_configuration_and_refuses_a_malformed_one() {
    let temp = TempRun::new();
    let daemon = temp.daemon("");
    let config = temp.folder().join("safelight.toml");
    let text = fs::read_to_string(&config).expect("the configuration");
    temp.log_picture("k", 1, 1);
    wait_for("a picture", || temp.items().len() == 1);
    fs::write(&config, text.clone() + "[limits]\nmax_itms = 2\n").expect("a broken configuration");
    daemon.signal("-HUP");
    wait_for("the refusal", || daemon.log_text().contains("max_itms"));
    temp.log_picture("k", 1, 2);
    wait_for("a picture", || temp.counts() == [2, 0, 0]);
    fs::write(&config, text + "[limits]\nmax_items = 2\n").expect("a configuration");
    daemon.signal("-HUP");
    wait_for("the reload", || daemon.log_text().contains("taken up"));
    wait_for("the reload", || daemon.log_text().matches("configuration is taken up").count() == 1);
    temp.log_picture("k", 1, 3);
    wait_for("a held picture", || temp.counts() == [2, 1, 0]);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_run_directory_that_is_removed_and_recreated_is_read_again() {
    let temp = TempRun::new();
    let daemon = temp.daemon("backend = \"inotify\"\n[ingest]\nscan_ms = 300\n");
    temp.log_picture("k", 1, 1);
    wait_for("a picture", || temp.items().len() == 1);
    fs::remove_dir_all(temp.at("")).expect("a removal");
    std::thread::sleep(Duration::from_millis(700));
    fs::create_dir(temp.at("")).expect("a run directory");
    temp.log_picture("k", 2, 2);
    wait_for("another", || temp.items().len() == 2);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn systemd_is_notified_when_everything_is_watched() {
    let temp = TempRun::new();
    temp.log_picture("k", 1, 1);
    let socket = temp.folder().join("notify");
    let listener = UnixDatagram::bind(&socket).expect("a socket");
    listener.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let config = temp.folder().join("c.toml");
    fs::write(&config, "store.path = \"store\"\ncontrol.socket = \"control.sock\"\n[[watch]]\npath = \"run\"\nruns = \".\"\n")
        .expect("a configuration");
    let mut child = Command::new(PROGRAM)
        .args(["daemon", "--config"])
        .arg(&config)
        .env("NOTIFY_SOCKET", &socket)
        .stderr(Stdio::null())
        .spawn()
        .expect("the daemon");
    let mut output = String::new();
    let mut hear = |want: &str| {
        let start = Instant::now();
        while !output.contains(want) {
            assert!(start.elapsed() < Duration::from_secs(20), "no {want} in {output}");
            let mut buffer = [0; 4096];
            let n = listener.recv(&mut buffer).expect("a message");
            output.push_str(&String::from_utf8_lossy(&buffer[..n]));
            output.push('\n');
        }
    };
    hear("READY=1");
    hear("STATUS=1 run, 1 image, 0 held back, 0 rejected");
    send_signal(&child, "-TERM");
    hear("STOPPING=1");
    assert_eq!(child.wait().expect("an end").code(), Some(0));
}

#[test]
fn a_daemon_that_is_stopped_at_work_stops_soon_and_loses_nothing() {
    let n_stops = number_from("SAFELIGHT_STOPS", 6);
    let temp = TempRun::new();
    let (mut n_written, mut longest) = (0, Duration::ZERO);
    for n in 0..n_stops {
        let daemon = temp.daemon("[ingest]\nsettle_ms = 20\nclose_ms = 2\n");
        for _ in 0..30 {
            temp.log_picture("k", n_written, n_written);
            temp.write(&format!("dumps/own/{n_written}.npy"), &gray(n_written));
            n_written += 1;
        }
        std::thread::sleep(Duration::from_millis(n * 37 % 120));
        // Every third stop is hurried by a second signal.
        if n % 3 == 2 {
            daemon.signal("-TERM");
        }
        let (code, took) = daemon.stop();
        assert_eq!(code, Some(0), "stop {n}");
        assert!(took < Duration::from_secs(45), "stop {n} took {took:?}");
        longest = longest.max(took);
    }
    eprintln!("{n_stops} stops, the longest took {longest:?}");
    let daemon = temp.daemon("[ingest]\nsettle_ms = 20\n");
    let n_items = 2 * usize::try_from(n_written).expect("a small number");
    wait_for("all", || temp.items().len() == n_items);
    assert_eq!(temp.counts(), [n_items, 0, 0]);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_run_that_is_named_later_gets_that_name() {
    // Regression: the daemon opened a new run directory by its folder's name and did not notice the
    // `safelight.json` that was written a moment later. After a restart, everything was stored twice.
    let temp = TempRun::new();
    let daemon = temp.daemon("");
    let run = temp.folder().join("run-7");
    fs::create_dir(&run).expect("a run directory");
    wait_for("the run to be read", || daemon.log_text().contains("run-7"));
    fs::write(run.join("safelight.json"), br#"{"id":"named"}"#).expect("an identity");
    fs::create_dir_all(run.join("dumps/k")).expect("folders");
    fs::write(run.join("dumps/k/1.npy"), gray(1)).expect("a dump");
    wait_for("the picture", || temp.items().len() == 1);
    assert_eq!(temp.items()[0]["run"], "named");
    assert_eq!(daemon.stop().0, Some(0));
    let daemon = temp.daemon("");
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(temp.items().len(), 1);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_log_replaced_by_its_copy_is_followed() {
    // Regression: rsync writes a new file and renames it over the old one, and every line was read again.
    let temp = TempRun::new();
    let daemon = temp.daemon("");
    for n in 0..5 {
        temp.log_picture("k", n, n);
        let copy = temp.at(".copy");
        fs::copy(temp.at("a.media.jsonl"), &copy).expect("a copy");
        fs::rename(&copy, temp.at("a.media.jsonl")).expect("a rename");
        let want = usize::try_from(n).expect("a small number") + 1;
        wait_for("the line", || temp.items().len() >= want);
    }
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(temp.items().len(), 5);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_hidden_folder_is_not_read_before_it_is_renamed() {
    // Regression: events named hidden folders, which a listing ignores.
    let temp = TempRun::new();
    let daemon = temp.daemon("[ingest]\nsettle_ms = 30\nclose_ms = 5\n");
    temp.write("dumps/real/1.npy", &gray(0));
    for n in 0..20u64 {
        temp.write(&format!("dumps/.tmp-5/{n}.npy"), &gray(n));
    }
    std::thread::sleep(Duration::from_millis(500));
    fs::rename(temp.at("dumps/.tmp-5"), temp.at("dumps/key")).expect("a rename");
    wait_for("the dumps", || temp.items().len() == 21);
    assert!(temp.items().iter().all(|item| item["key"] != ".tmp-5"));
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_run_removed_and_recreated_at_once_is_read() {
    // Regression: the daemon kept the old directory open and missed the new one until the next scan.
    let temp = TempRun::new();
    let daemon = temp.daemon("");
    for n in 0..4 {
        temp.log_picture("k", n, n);
        let want = usize::try_from(n).expect("a small number") + 1;
        wait_for("the picture", || temp.items().len() == want);
        fs::remove_dir_all(temp.at("")).expect("a removal");
        fs::create_dir(temp.at("")).expect("a run directory");
    }
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_log_renamed_before_its_first_line_is_committed_is_found_again() {
    // Regression: a renamed log is only recognised by its inode, which was stored with its first line.
    let temp = TempRun::new();
    let daemon = temp.daemon("");
    temp.write("x.npy", &gray(1));
    temp.append("a.media.jsonl", "{\"key\":\"k\",\"step\":1,\"data\":\"late.npy\"}\n");
    wait_for("the line", || temp.run(&["status"]).out.contains("late.npy"));
    drop(daemon);
    fs::rename(temp.at("a.media.jsonl"), temp.at("a.media.jsonl.1")).expect("a rename");
    temp.append("a.media.jsonl", "{\"key\":\"k\",\"step\":2,\"data\":\"x.npy\"}\n");
    temp.write("late.npy", &gray(2));
    let daemon = temp.daemon("");
    wait_for("both", || temp.counts() == [2, 0, 0]);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn folders_that_are_replaced_or_moved_are_seen_at_once() {
    // Regression: a new folder with the inode of a removed one was not watched.
    let temp = TempRun::new();
    let daemon = temp.daemon("[ingest]\nsettle_ms = 50\nclose_ms = 5\n");
    let start = Instant::now();
    for n in 0..5u64 {
        temp.write("dumps/a/b/1.npy", &gray(n));
        let is_seen = |item: &Value| item["stats"]["mean"] == mean(n);
        wait_for("the dump", || temp.items().iter().any(is_seen));
        fs::remove_dir_all(temp.at("dumps")).expect("a removal");
    }
    temp.write("aside/x/2.npy", &gray(77));
    fs::create_dir_all(temp.at("dumps")).expect("a folder");
    fs::rename(temp.at("aside/x"), temp.at("dumps/x")).expect("a rename");
    wait_for("the moved folder", || temp.items().len() == 2);
    assert!(start.elapsed() < Duration::from_secs(25), "found only by the next scan");
    assert_eq!(daemon.stop().0, Some(0));
}

/// Returns the mean of the pixels of [`gray`]`(n)`.
fn mean(n: u64) -> f64 {
    let bytes: u32 = n.to_le_bytes().iter().map(|&byte| u32::from(byte)).sum();
    f64::from(bytes + 8 * 255) / 16.0
}

#[test]
fn the_daemon_yields_the_cpu_to_other_processes() {
    let temp = TempRun::new();
    let read = |of: &str, name: &str| fs::read_to_string(format!("/proc/{of}/{name}"));
    let ours = read("self", "autogroup").unwrap_or_default();
    let mut in_own_session = Command::new("setsid");
    in_own_session.arg(PROGRAM);
    let daemon = temp.daemon_from("[work]\nnice = 7\n", in_own_session);
    let pid = daemon.child.id().to_string();
    let stat = read(&pid, "stat").expect("the process");
    let (_, fields) = stat.rsplit_once(')').expect("its fields");
    assert_eq!(fields.split_whitespace().nth(16), Some("7"), "{stat}");
    // If the kernel groups processes by session, a session has a nice value of its own.
    let session = read(&pid, "autogroup").unwrap_or_default();
    assert!(session.is_empty() || session.ends_with("nice 7\n"), "{session}");
    drop(daemon);

    // The daemon must not slow down other processes of its session.
    let daemon = temp.daemon("[work]\nnice = 7\n");
    let session = read(&daemon.child.id().to_string(), "autogroup").unwrap_or_default();
    assert_eq!(session, ours);
}
