//! No dump is missed, even if folders appear quickly or the kernel drops events.
//!
//! `SAFELIGHT_DUMPS=100000` writes as many dumps as the project's goal demands.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::harness::{
    PROGRAM, TempRun, files_below, gray, number_from, number_in, skip, wait_for, wait_for_all,
};

/// Writes a few dumps into each of many new, nested folders.
fn write_burst(run: &Path, writer: u64, n: u64) {
    for i in 0..n {
        let number = writer * n + i;
        let (a, b, c) = (i / 300, i / 30 % 10, i / 6 % 5);
        let folder = run.join(format!("dumps/w{writer}/{a}/{b}/{c}"));
        fs::create_dir_all(&folder).expect("folders");
        fs::write(folder.join(format!("{number}.npy")), gray(number)).expect("a dump");
    }
}

/// Returns the number of each dump below a folder.
fn numbers_on_disk(folder: &Path) -> BTreeSet<u64> {
    let number = |path: PathBuf| {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        stem.parse().expect("a number")
    };
    files_below(folder).into_iter().map(number).collect()
}

/// Checks that there is exactly one item for each dump on the disk.
fn check_all(temp: &TempRun, are_pixels_read: bool) {
    let items = temp.items();
    let seen: BTreeSet<u64> = items
        .iter()
        .map(|item| {
            assert_eq!(item["state"], "image", "{item}");
            item["step"].as_u64().expect("a step")
        })
        .collect();
    assert_eq!(seen.len(), items.len(), "a dump has two items");
    assert_eq!(seen, numbers_on_disk(&temp.at("dumps")));
    for item in items.iter().filter(|_| are_pixels_read) {
        assert_eq!(number_in(&temp.store(), item), item["step"].as_u64().expect("a step"));
    }
}

#[test]
fn no_dump_in_fresh_nested_folders_is_missed_under_load() {
    let n = number_from("SAFELIGHT_DUMPS", 3000) / 3;
    let temp = TempRun::new();
    let daemon =
        temp.daemon("backend = \"inotify\"\n[ingest]\nsettle_ms = 100\nscan_ms = 3600000\n");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Other processes compete for the CPU.
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let run = temp.at("");
                scope.spawn(move || write_burst(&run, writer, n))
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
        // The next scan is too late to find a dump that events and listings have missed.
        wait_for_all("the dumps", 3 * n, || temp.n_images());
        is_over.store(true, Ordering::Relaxed);
    });
    check_all(&temp, n <= 10_000);
    assert_eq!(daemon.stop().0, Some(0));
}

/// Returns the length of the kernel's event queue.
fn max_queued_events() -> u64 {
    let max = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("a limit");
    max.trim().parse().expect("a number")
}

#[test]
fn dumps_whose_events_the_kernel_dropped_are_found() {
    // A dump in a watched folder causes four events: created, opened, written, closed. Dumps in new
    // folders cause none before the folders are watched.
    let n = number_from("SAFELIGHT_DUMPS", max_queued_events() / 2).min(1_000_000);
    assert!(4 * (n - n / 10) > max_queued_events());
    let temp = if Path::new("/dev/shm").is_dir() {
        TempRun::below(Path::new("/dev/shm"))
    } else {
        TempRun::new()
    };
    let daemon =
        temp.daemon("backend = \"inotify\"\n[ingest]\nsettle_ms = 100\nscan_ms = 3600000\n");
    temp.write(&format!("dumps/known/{n}.npy"), &gray(n));
    wait_for("the first dump", || temp.n_images() == 1);
    daemon.signal("-STOP");
    thread::scope(|scope| {
        for writer in 0..2 {
            let temp = &temp;
            scope.spawn(move || {
                for number in (0..n).filter(|number| number % 2 == writer) {
                    let i = number / 2;
                    let folder =
                        if i % 10 > 0 { "known".to_owned() } else { format!("{}", i / 100) };
                    temp.write(&format!("dumps/{folder}/{number}.npy"), &gray(number));
                }
            });
        }
    });
    daemon.signal("-CONT");
    wait_for_all("the dumps", n + 1, || temp.n_images());
    check_all(&temp, false);
    assert!(daemon.log_text().contains("events were lost"), "{}", daemon.log_text());
    assert_eq!(daemon.stop().0, Some(0));
}

/// Returns a command that runs the program in a user namespace with these limits of inotify.
fn limited(limits: &[(&str, u32)]) -> Option<Command> {
    let set = |(limit, n): &(&str, u32)| format!("echo {n} > /proc/sys/user/{limit} &&");
    let script = limits.iter().map(set).collect::<Vec<_>>().join(" ");
    let can = Command::new("unshare").args(["-Ur", "sh", "-c", &format!("{script} true")]).output();
    if !can.as_ref().is_ok_and(|output| output.status.success()) {
        skip(&format!("a user namespace with its own limits is not allowed here: {can:?}"));
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["-Ur", "sh", "-c", &format!("{script} exec \"$0\" \"$@\""), PROGRAM]);
    Some(command)
}

fn check_limited(limits: &[(&str, u32)], problem: &str) {
    let Some(command) = limited(limits) else { return };
    let temp = TempRun::new();
    let daemon = temp.daemon_from("[ingest]\nsettle_ms = 50\npoll_ms = 200\n", command);
    write_burst(&temp.at(""), 0, 900);
    wait_for_all("the dumps", 900, || temp.n_images());
    let root = &temp.status()["ingest"]["watching"][0];
    assert_eq!(root["backend"], "poll", "{root}");
    let got = root["problem"].as_str().unwrap_or("");
    assert!(got.contains(problem), "{root}");
    let log = daemon.log_text();
    let polled = log.lines().filter(|line| line.contains("polled"));
    assert_eq!(polled.count(), 1, "{log}");
    check_all(&temp, true);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn where_the_kernel_allows_no_more_watches_folders_are_polled() {
    check_limited(&[("max_inotify_watches", 12)], "watch");
}

#[test]
fn where_the_kernel_gives_no_inotify_instance_folders_are_polled() {
    check_limited(&[("max_inotify_instances", 0)], "no inotify instance");
}
