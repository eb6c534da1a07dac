//! Many runs and hostile logs: descriptors, memory and time belong to the runs that are at work.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Daemon, PROGRAM, Ran, TempRun, gray, number_from, wait_for, wait_for_all};

/// The program, with a limit of open files.
fn with_descriptors(n: u64) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {n} && exec \"$0\" \"$@\"");
    command.args(["-c", &script, PROGRAM]);
    command
}

/// A folder on a file system that syncs fast, if there is one.
fn in_memory() -> TempRun {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempRun::below(memory) } else { TempRun::new() }
}

fn run_at(temp: &TempRun, name: &str) -> PathBuf {
    temp.folder().join(name)
}

/// Writes a dump and its line to a run.
fn log_picture(run: &Path, step: u64) {
    fs::create_dir_all(run).expect("a run directory");
    fs::write(run.join(format!("{step}.npy")), gray(step)).expect("a dump");
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(run.join("a.media.jsonl"))
        .expect("a log");
    let line = format!("{{\"key\":\"k\",\"step\":{step},\"data\":\"{step}.npy\"}}\n");
    log.write_all(line.as_bytes()).expect("a line");
}

fn n_descriptors(daemon: &Daemon) -> usize {
    fs::read_dir(format!("/proc/{}/fd", daemon.child.id())).expect("descriptors").count()
}

/// The most memory that the daemon had, in MiB.
fn peak_mib(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.child.id()));
    let status = status.expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("KiB") / 1024
}

/// Logs a picture in the run `run` and waits until it is there. Returns how long that took.
fn time_of_picture(temp: &TempRun, step: u64) -> Duration {
    let start = Instant::now();
    log_picture(&temp.at(""), step);
    wait_for("the picture of the other run", || {
        let ran = temp.run(&["ls", "run", "--json"]);
        let items = ran.out.lines().map(|line| serde_json::from_str(line).expect("an item"));
        items.into_iter().any(|item: Value| item["step"] == step && item["state"] == "image")
    });
    start.elapsed()
}

fn reasons(temp: &TempRun) -> Vec<String> {
    let ran = temp.run(&["health", "--json"]);
    let health: Value = serde_json::from_str(&ran.out).expect("JSON");
    serde_json::from_value(health["reasons"].clone()).expect("reasons")
}

#[test]
fn many_runs_are_read_with_few_descriptors() {
    // Each run and each log had a descriptor for ever: with more runs than descriptors nothing was kept.
    let (n_runs, n_descriptors_max) = (number_from("SAFELIGHT_MANY_RUNS", 200), 256);
    let temp = in_memory();
    for n in 0..n_runs {
        log_picture(&run_at(&temp, &format!("run{n}")), 1);
    }
    let ran: Ran = {
        let mut command = with_descriptors(n_descriptors_max);
        command.arg("ingest").args((0..n_runs).map(|n| run_at(&temp, &format!("run{n}"))));
        command.arg("--store").arg(temp.folder().join("other-store"));
        command.output().expect("the program").into()
    };
    assert_eq!(ran.code, 0, "{}", ran.err);
    let daemon = temp.daemon_from("", with_descriptors(n_descriptors_max));
    wait_for_all("the pictures", n_runs, || temp.n_images());
    let n_open = n_descriptors(&daemon);
    assert!(n_open < 200, "{n_open} descriptors");
    // Logs that were closed are read on, whatever was done to them.
    for n in 0..n_runs {
        let run = run_at(&temp, &format!("run{n}"));
        match n % 3 {
            0 => log_picture(&run, 2),
            1 => {
                log_picture(&run, 2);
                fs::rename(run.join("a.media.jsonl"), run.join("a.media.jsonl.1"))
                    .expect("a rename");
                log_picture(&run, 3);
            }
            _ => {
                fs::copy(run.join("a.media.jsonl"), run.join("copy")).expect("a copy");
                fs::write(run.join("a.media.jsonl"), "").expect("a truncation");
                log_picture(&run, 2);
            }
        }
    }
    let n_rotated = (0..n_runs).filter(|n| n % 3 == 1).count() as u64;
    wait_for_all("the pictures", 2 * n_runs + n_rotated, || temp.n_images());
    assert!(time_of_picture(&temp, 9) < Duration::from_secs(20));
    assert_eq!(reasons(&temp), [] as [String; 0]);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn one_run_with_many_logs_leaves_descriptors_to_the_others() {
    let n_logs = 300;
    let temp = TempRun::new();
    let hostile = run_at(&temp, "run-hostile");
    fs::create_dir(&hostile).expect("a run directory");
    for n in 0..n_logs {
        // Each waits for a dump that does not come.
        let line = format!("{{\"key\":\"k\",\"step\":{n},\"data\":\"none.npy\"}}\n");
        fs::write(hostile.join(format!("{n}.media.jsonl")), line).expect("a log");
    }
    let daemon = temp.daemon_from("[ingest]\nwait_ms = 3000\n", with_descriptors(256));
    assert!(time_of_picture(&temp, 1) < Duration::from_secs(20));
    assert!(n_descriptors(&daemon) < 200);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn links_of_one_log_are_one_log() {
    // Each scan gave the log another of its names, and wrote its cursor for each of them.
    let temp = TempRun::new();
    temp.log_picture("k", 1, 1);
    for n in 0..50 {
        let link = temp.at(&format!("link{n}.media.jsonl"));
        fs::hard_link(temp.at("a.media.jsonl"), link).expect("a link");
    }
    let daemon = temp.daemon("[ingest]\nscan_ms = 100\n");
    wait_for("the picture", || temp.counts() == [1, 0, 0]);
    let journal = temp.store().join("runs/run/journal/00000001.jsonl");
    let n_bytes = || fs::metadata(&journal).expect("the journal").len();
    let before = n_bytes();
    std::thread::sleep(Duration::from_secs(1));
    // New links, and another line under another name.
    fs::hard_link(temp.at("a.media.jsonl"), temp.at("new.media.jsonl")).expect("a link");
    std::thread::sleep(Duration::from_secs(1));
    assert!(n_bytes() < before + 1500, "{} bytes more", n_bytes() - before);
    temp.write("2.npy", &gray(2));
    temp.append("link7.media.jsonl", "{\"key\":\"k\",\"step\":2,\"data\":\"2.npy\"}\n");
    wait_for("the picture", || temp.counts() == [2, 0, 0]);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn logs_of_zero_bytes_and_empty_lines_hold_nobody_up() {
    // A sparse log was read byte by byte, and empty lines came without end: the pictures of other runs
    // waited for minutes.
    let temp = TempRun::new();
    let hostile = run_at(&temp, "run-hostile");
    fs::create_dir(&hostile).expect("a run directory");
    let sparse = fs::File::create(hostile.join("sparse.media.jsonl")).expect("a log");
    sparse.set_len(1 << 40).expect("a hole");
    let daemon = temp.daemon("[ingest]\nwait_ms = 500\n");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = fs::File::create(hostile.join("blank.media.jsonl")).expect("a log");
            let lines = vec![b'\n'; 256 << 10];
            while !is_over.load(Ordering::Relaxed) {
                log.write_all(&lines).expect("lines");
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        std::thread::sleep(Duration::from_secs(1));
        let before = daemon.cpu_seconds();
        let took = time_of_picture(&temp, 1);
        let used = daemon.cpu_seconds() - before;
        let parts = ["run-hostile", "media.jsonl", "zero bytes or empty lines, which hold no line"];
        wait_for("the reason", || {
            reasons(&temp).iter().any(|reason| parts.iter().all(|part| reason.contains(part)))
        });
        let status = temp.run(&["status"]).out;
        is_over.store(true, Ordering::Relaxed);
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert!(used < 0.5 + took.as_secs_f64() / 2.0, "{used} s of {took:?}");
        assert!(status.contains("run-hostile sparse.media.jsonl (for "), "{status}");
        assert!(status.contains("1099511627776 bytes are zero bytes"), "{status}");
    });
    // A line after the hole is read.
    fs::write(hostile.join("2.npy"), gray(2)).expect("a dump");
    let mut log = OpenOptions::new().append(true).open(hostile.join("sparse.media.jsonl"));
    let line = b"{\"key\":\"k\",\"step\":2,\"data\":\"2.npy\"}\n";
    log.as_mut().expect("the log").write_all(line).expect("a line");
    wait_for("the line", || temp.n_images() == 2);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn logs_of_newlines_and_begun_lines_take_little_memory() {
    // Each newline became a line of its own in memory, and each begun line was kept.
    let temp = TempRun::new();
    for n in 0..100 {
        let run = run_at(&temp, &format!("run-{}", n % 3));
        fs::create_dir_all(&run).expect("a run directory");
        fs::write(run.join(format!("newlines{n}.media.jsonl")), vec![b'\n'; 64 << 10])
            .expect("a log");
        // The first line waits for its dump, and the others for that line.
        let waiting = "{\"key\":\"k\",\"step\":1,\"data\":\"none.npy\"}\n";
        let short = format!("{waiting}{}", "1\n".repeat(32 << 10));
        fs::write(run.join(format!("short{n}.media.jsonl")), short).expect("a log");
        fs::write(run.join(format!("begun{n}.media.jsonl")), vec![b'x'; 1 << 20]).expect("a log");
    }
    let daemon = temp.daemon("[ingest]\nwait_ms = 100000\n[limits]\nline_bytes_max = 2000000\n");
    assert!(time_of_picture(&temp, 1) < Duration::from_secs(30));
    let peak = peak_mib(&daemon);
    assert!(peak < 250, "{peak} MiB");
    // A begun line is read when it ends.
    let log = run_at(&temp, "run-1").join("begun1.media.jsonl");
    let line = "{\"key\":\"k\",\"step\":2,\"data\":\"2.npy\",\"caption\":\"";
    fs::write(run_at(&temp, "run-1").join("2.npy"), gray(2)).expect("a dump");
    fs::write(&log, format!("{line}{}", "x".repeat(500_000))).expect("a log");
    std::thread::sleep(Duration::from_millis(300));
    let mut log = OpenOptions::new().append(true).open(log).expect("the log");
    log.write_all(b"\"}\n").expect("the end");
    wait_for("the picture", || {
        temp.run(&["ls", "run-1", "--state", "image", "--json"]).out.lines().count() == 1
    });
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_run_id_that_is_taken_is_refused_and_told() {
    // A run's directory was cleaned up, another directory claimed its id, and its images were replaced.
    let temp = TempRun::new();
    let named = |folder: &str, id: &str| {
        let run = run_at(&temp, folder);
        fs::create_dir_all(&run).expect("a run directory");
        fs::write(run.join("safelight.json"), format!("{{\"id\":\"{id}\"}}")).expect("an identity");
        run
    };
    let settings = "[ingest]\nscan_ms = 300\n";
    let daemon = temp.daemon(settings);
    log_picture(&named("run-a", "x"), 1);
    wait_for("the picture", || temp.n_images() == 1);
    let digests = || temp.items().iter().map(|item| item["sha256"].clone()).collect::<Vec<_>>();
    let before = digests();
    fs::remove_dir_all(run_at(&temp, "run-a")).expect("a removal");
    let other = named("run-b", "x");
    fs::write(other.join("1.npy"), gray(77)).expect("a dump");
    let line = "{\"key\":\"k\",\"step\":1,\"data\":\"1.npy\"}\n";
    fs::write(other.join("a.media.jsonl"), line.replace("1}", "1 }")).expect("a log");
    let parts = ["run-b: the run id x is taken", "run-a, which is gone", "another \"id\""];
    wait_for("the reason", || {
        reasons(&temp).iter().any(|reason| parts.iter().all(|part| reason.contains(part)))
    });
    assert!(temp.run(&["status"]).out.contains("the run id x is taken"));
    assert_eq!(digests(), before);
    assert!(time_of_picture(&temp, 5) < Duration::from_secs(10));

    // With another id it is read, and a directory that was moved is the same run.
    named("run-b", "y");
    wait_for("the picture", || temp.n_images() == 3);
    wait_for("good health", || reasons(&temp).is_empty());
    fs::rename(run_at(&temp, "run-b"), run_at(&temp, "run-c")).expect("a rename");
    log_picture(&run_at(&temp, "run-c"), 2);
    wait_for("the picture", || temp.n_images() == 4);
    wait_for("good health", || reasons(&temp).is_empty());
    assert_eq!(daemon.stop().0, Some(0));
}
