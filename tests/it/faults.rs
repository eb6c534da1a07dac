//! Faults of the machine: lost permissions, no free descriptors, removed directories, clock jumps.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::harness::{Daemon, PROGRAM, TempRun, faketime, gray, number_in, skip, wait_for};

/// The user id that tests run a daemon as which must not be root.
const NOBODY: u32 = 65534;

/// Returns a command that runs the program as a user other than root, to whom permissions apply.
pub(crate) fn as_nobody(temp: &TempRun) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(PROGRAM);
    }
    // The program is copied, because only root may be able to read it where it is.
    let program = temp.folder().join("safelight");
    // By another process: a fork of another test could hold the copy open for writing, and nothing could run it.
    let copied = Command::new("cp").arg(PROGRAM).arg(&program).status();
    assert!(copied.is_ok_and(|status| status.success()));
    let owner = format!("{NOBODY}:{NOBODY}");
    let status = Command::new("chown").arg("-R").arg(owner).arg(temp.folder()).status();
    assert!(status.is_ok_and(|status| status.success()));
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY);
    command
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("rights");
}

/// Returns the daemon's warnings that contain a text.
fn warnings(daemon: &Daemon, of: &str) -> Vec<String> {
    let log = daemon.log_text();
    let warnings = log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR"));
    warnings.filter(|line| line.contains(of)).map(str::to_owned).collect()
}

fn check_lost_rights(backend: &str) {
    let temp = TempRun::new();
    for folder in ["away", "dumps/away", "dumps/file"] {
        fs::create_dir_all(temp.at(folder)).expect("a folder");
    }
    let command = as_nobody(&temp);
    let settings = format!(
        "backend = \"{backend}\"\n[ingest]\nwait_ms = 100\nincomplete_ms = 100\nsettle_ms = 1500\nclose_ms = 1500\nscan_ms = 2000\npoll_ms = 2000\n"
    );
    let daemon = temp.daemon_from(&settings, command);
    for round in 1..3usize {
        let number = round as u64;
        // A dump named by a line, in an unreadable folder. A dump in a folder that becomes
        // unreadable. A dump in a folder that never was readable. A dump. A log.
        temp.write(&format!("away/{round}.npy"), &gray(number));
        temp.append(
            "a.media.jsonl",
            &format!("{{\"key\":\"line\",\"step\":{round},\"data\":\"away/{round}.npy\"}}\n"),
        );
        set_mode(&temp.at("away"), 0o000);
        temp.write(&format!("dumps/away/{round}.npy"), &gray(number));
        // The dump is settling. Its next full check would come long after this test's time limit.
        wait_for("the dump", || temp.status()["ingest"]["n_settling"] == 1);
        set_mode(&temp.at("dumps/away"), 0o000);
        let never = temp.at(&format!("dumps/never{round}"));
        fs::create_dir(&never).expect("a folder");
        set_mode(&never, 0o000);
        if rustix::process::geteuid().is_root() {
            fs::write(never.join("1.npy"), gray(number)).expect("a dump");
        }
        let closed = |path: &Path, bytes: &[u8]| {
            let mut options = OpenOptions::new();
            let mut file = options.create_new(true).write(true).mode(0o000).open(path);
            file.as_mut().expect("a file").write_all(bytes).expect("its bytes");
        };
        let log = temp.at(&format!("log{round}.media.jsonl"));
        let dump = temp.at(&format!("dumps/file/{round}.npy"));
        temp.write(&format!("tensors/{round}.npy"), &gray(number));
        let line =
            format!("{{\"key\":\"log\",\"step\":{round},\"data\":\"tensors/{round}.npy\"}}\n");
        closed(&log, line.as_bytes());
        closed(&dump, &gray(number));

        thread::sleep(Duration::from_secs(5));
        assert_eq!(temp.counts(), [5 * (round - 1), 0, 0], "{}", daemon.log_text());
        // One warning for each, although each was retried several times.
        for (of, n) in [
            ("away/1.npy", 1),
            ("away/2.npy", round - 1),
            ("dumps/away\"", round),
            (&format!("dumps/never{round}\""), 1),
            (&*format!("log{round}.media.jsonl"), 1),
            (&format!("dumps/file/{round}.npy"), 1),
        ] {
            let warned = warnings(&daemon, of);
            assert_eq!(
                warned.len(),
                n,
                "{backend} {round} {of}: {warned:?} of {}",
                daemon.log_text()
            );
        }

        set_mode(&temp.at("away"), 0o755);
        set_mode(&temp.at("dumps/away"), 0o755);
        set_mode(&never, 0o755);
        if !rustix::process::geteuid().is_root() {
            fs::write(never.join("1.npy"), gray(number)).expect("a dump");
        }
        set_mode(&log, 0o644);
        set_mode(&dump, 0o644);
        wait_for("all that can be read again", || temp.counts() == [5 * round, 0, 0]);
    }
    for item in temp.items() {
        let key = item["key"].as_str().expect("a key");
        let want = key.strip_prefix("never").map_or(item["step"].as_u64(), |n| n.parse().ok());
        assert_eq!(Some(number_in(&temp.store(), &item)), want, "{item}");
    }
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn unreadable_files_are_retried_and_logged_once() {
    check_lost_rights("inotify");
}

#[test]
fn unreadable_files_are_retried_where_folders_are_polled() {
    check_lost_rights("poll");
}

fn limit_descriptors(daemon: &Daemon, n: u32) -> Option<Output> {
    let pid = daemon.child.id().to_string();
    let limit = format!("--nofile={n}:4096");
    let output = Command::new("prlimit").args(["--pid", &pid, &limit]).output();
    output.ok().filter(|output| output.status.success())
}

#[test]
fn a_daemon_out_of_descriptors_loses_nothing_and_resumes_when_it_has_some() {
    let temp = TempRun::new();
    let mut daemon = temp.daemon(
        "[ingest]\nsettle_ms = 50\nwait_ms = 100\nincomplete_ms = 100\nscan_ms = 1000\n[work]\nthreads = 2\n",
    );
    temp.log_picture("before", 1, 1);
    wait_for("a picture", || temp.counts() == [1, 0, 0]);
    if limit_descriptors(&daemon, 32).is_none() {
        skip("prlimit is not installed");
        return;
    }
    let held: Vec<_> = (0..40)
        .map(|_| std::os::unix::net::UnixStream::connect(temp.folder().join("control.sock")))
        .collect();
    for n in 0..150 {
        temp.log_picture("line", n, n);
        temp.write(&format!("dumps/a{}/b{}/{n}.npy", n % 5, n % 3), &gray(n));
        let data = format!("tensors/line-{n}-{n}.npy");
        let line = json!({"key": "log", "step": n, "data": data});
        temp.append(&format!("log{n}.media.jsonl"), &format!("{line}\n"));
    }
    thread::sleep(Duration::from_secs(4));
    // A limit below the number of open descriptors.
    limit_descriptors(&daemon, 8).expect("a limit");
    for n in 150..200 {
        temp.log_picture("line", n, n);
        temp.write(&format!("dumps/a{}/c{}/{n}.npy", n % 5, n % 3), &gray(n));
    }
    thread::sleep(Duration::from_secs(3));
    assert!(daemon.child.try_wait().expect("a status").is_none(), "{}", daemon.log_text());
    assert!(daemon.cpu_seconds() < 6.0, "{} s of CPU time", daemon.cpu_seconds());
    limit_descriptors(&daemon, 4096).expect("a limit");
    drop(held);
    wait_for("all pictures", || temp.counts() == [551, 0, 0]);
    let log = daemon.log_text();
    assert!(log.contains("Too many open files") || log.contains("os error 24"), "{log}");
    // No message is repeated.
    let mut n_by_message = BTreeMap::<&str, usize>::new();
    for line in log.lines() {
        let (_, what) = line.split_once("\"level\"").expect("a level");
        *n_by_message.entry(what).or_default() += 1;
    }
    let most = n_by_message.iter().max_by_key(|(_, n)| **n).expect("a line");
    assert!(*most.1 <= 5, "{most:?}");
    assert_eq!(daemon.stop().0, Some(0));
    assert_eq!(temp.counts(), [551, 0, 0]);
}

/// Checks that an idle daemon uses almost no CPU time.
fn check_idle(daemon: &Daemon) {
    let before = daemon.cpu_seconds();
    thread::sleep(Duration::from_secs(2));
    let took = daemon.cpu_seconds() - before;
    assert!(took < 0.4, "{took} s of CPU time in two idle seconds");
}

const OTHER_ROOT: &str = "[[watch]]\npath = \"data\"\nruns = \"*\"\n[ingest]\nsettle_ms = 50\nclose_ms = 10\nscan_ms = 300\npoll_ms = 300\n";

/// Writes a dump below `dumps/` into a run of another root.
fn write_dump(root: &Path, run: &str, n: u64) {
    let folder = root.join(run).join("dumps/k");
    fs::create_dir_all(&folder).expect("folders");
    fs::write(folder.join(format!("{n}.npy")), gray(n)).expect("a dump");
}

/// Returns run and step of each image.
fn seen(temp: &TempRun) -> Vec<(String, u64)> {
    let items = temp.items();
    let place = |item: &Value| {
        assert_eq!(item["state"], "image", "{item}");
        (item["run"].as_str().expect("a run").to_owned(), item["step"].as_u64().expect("a step"))
    };
    items.iter().map(place).collect()
}

fn problem_of_data(temp: &TempRun) -> String {
    let status = temp.status();
    let roots = status["ingest"]["watching"].as_array().expect("roots");
    let is_data = |root: &&Value| root["path"].as_str().is_some_and(|path| path.ends_with("data"));
    let root = roots.iter().find(is_data).expect("the root");
    root["problem"].as_str().unwrap_or("").to_owned()
}

fn check_root_that_goes(backend: &str) {
    let temp = TempRun::new();
    let data = temp.folder().join("data");
    let settings =
        OTHER_ROOT.replace("runs = \"*\"", &format!("runs = \"*\"\nbackend = \"{backend}\""));
    // The root does not exist when the daemon starts.
    let daemon = temp.daemon(&settings);
    assert!(problem_of_data(&temp).contains("missing"));
    check_idle(&daemon);
    write_dump(&data, "r", 1);
    let mut want = vec![("r".to_owned(), 1)];
    wait_for("the first picture", || seen(&temp) == want);
    // The root is removed and recreated, often with the same inode.
    for n in 2..5 {
        fs::remove_dir_all(&data).expect("a removal");
        if n == 3 {
            wait_for("the removal", || problem_of_data(&temp).contains("missing"));
            check_idle(&daemon);
        }
        write_dump(&data, "r", n);
        want.push(("r".to_owned(), n));
        wait_for("the picture after it", || seen(&temp) == want);
    }
    // The root is replaced by another one that has a run of the same name.
    let other = temp.folder().join("other");
    write_dump(&other, "r", 5);
    fs::rename(&data, temp.folder().join("old")).expect("a rename");
    fs::rename(&other, &data).expect("a rename");
    want.push(("r".to_owned(), 5));
    wait_for("the picture in the other root", || seen(&temp) == want);
    write_dump(&data, "r", 6);
    // Files that are written into the old root are not read.
    write_dump(&temp.folder().join("old"), "r", 7);
    want.push(("r".to_owned(), 6));
    wait_for("the new picture in the other root", || seen(&temp) == want);
    // A file in place of the root is reported as a missing directory.
    fs::rename(&data, temp.folder().join("older")).expect("a rename");
    fs::write(&data, "no directory").expect("a file");
    wait_for("the report of the file", || problem_of_data(&temp).contains("missing"));
    check_idle(&daemon);
    fs::remove_file(&data).expect("a removal");
    fs::rename(temp.folder().join("older"), &data).expect("a rename");
    write_dump(&data, "r", 8);
    want.push(("r".to_owned(), 8));
    wait_for("the last picture", || seen(&temp) == want);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_root_that_is_removed_recreated_or_replaced_is_watched_again() {
    check_root_that_goes("inotify");
}

#[test]
fn a_polled_root_that_is_removed_recreated_or_replaced_is_watched_again() {
    check_root_that_goes("poll");
}

#[test]
fn a_directory_mounted_over_a_root_is_read_and_the_root_again_after_the_unmount() {
    let temp = TempRun::new();
    let data = temp.folder().join("data");
    let other = temp.folder().join("other");
    write_dump(&data, "r", 1);
    write_dump(&other, "r", 2);
    if !Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success()) {
        skip("mount namespaces are not allowed here");
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["-m", PROGRAM]);
    let daemon = temp.daemon_from(OTHER_ROOT, command);
    let pid = daemon.child.id().to_string();
    let in_it = |args: &[&str]| {
        let output = Command::new("nsenter").args(["-t", &pid, "-m"]).args(args).output();
        let output = output.expect("nsenter");
        assert!(output.status.success(), "{output:?}");
    };
    let place = |n| ("r".to_owned(), n);
    wait_for("the first picture", || seen(&temp) == [place(1)]);
    let (data_path, other_path) = (data.to_str().expect("a path"), other.to_str().expect("a path"));
    in_it(&["mount", "--bind", other_path, data_path]);
    wait_for("the picture in the mount", || seen(&temp) == [place(1), place(2)]);
    write_dump(&other, "r", 3);
    wait_for("the new picture in the mount", || seen(&temp) == [1, 2, 3].map(place));
    check_idle(&daemon);
    in_it(&["umount", "-l", data_path]);
    write_dump(&data, "r", 4);
    wait_for("the picture after the unmount", || seen(&temp) == [1, 2, 3, 4].map(place));
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_clock_jump_skips_duplicates_and_delays_nothing() {
    let Some(library) = faketime() else { return };
    let temp = TempRun::new();
    let clock = temp.folder().join("clock");
    // Renamed into place, so that the program never reads half of it.
    let set_clock = |to: &str| {
        fs::write(clock.with_extension("new"), format!("{to}\n")).expect("a clock");
        fs::rename(clock.with_extension("new"), &clock).expect("a clock");
    };
    set_clock("+0");
    let mut command = Command::new(PROGRAM);
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &clock)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("NO_FAKE_STAT", "1");
    let daemon = temp.daemon_from(
        "[log]\nlevel = \"debug\"\n[ingest]\nsettle_ms = 200\nwait_ms = 20000\nscan_ms = 1000\n",
        command,
    );
    let mut n_pictures = 0;
    for (n, to) in
        ["+0", "+1d", "-1d", "@1970-01-01 00:00:10", "+36500d", "+0", "-1d"].iter().enumerate()
    {
        let n = n as u64;
        // While the clock jumps, one dump is missing and another is settling.
        temp.append(
            "a.media.jsonl",
            &format!("{{\"key\":\"late\",\"step\":{n},\"data\":\"late-{n}.npy\"}}\n"),
        );
        temp.write(&format!("dumps/k/{n}.npy"), &gray(n));
        set_clock(to);
        thread::sleep(Duration::from_millis(300));
        temp.log_picture("k", n, 100 + n);
        // A new log makes the daemon log a message.
        temp.append(&format!("n{n}.media.jsonl"), &format!("{{\"commit\":{n}}}\n"));
        temp.write(&format!("late-{n}.npy"), &gray(n));
        temp.write(&format!("dumps/later/{n}.npy"), &gray(n));
        n_pictures += 4;
        let start = std::time::Instant::now();
        wait_for("the pictures", || temp.counts() == [n_pictures, 0, 0]);
        assert!(start.elapsed() < Duration::from_secs(15), "{to}: the wait depends on the clock");
    }
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(temp.counts(), [n_pictures, 0, 0]);
    // The daemon's log shows that its clock jumped.
    let log = daemon.log_text();
    assert!(log.contains("\"1970-01-01T") && log.contains("\"2126-"), "{log}");
    assert_eq!(daemon.stop().0, Some(0));
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(temp.counts(), [n_pictures, 0, 0]);
}

#[test]
fn timestamps_of_a_dump_do_not_matter() {
    let temp = TempRun::new();
    let daemon = temp.daemon("[ingest]\nsettle_ms = 100\nscan_ms = 500\n");
    let at = |seconds: i64| {
        let offset = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 { SystemTime::UNIX_EPOCH - offset } else { SystemTime::UNIX_EPOCH + offset }
    };
    let now = i64::try_from(
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs(),
    )
    .expect("a time");
    // Times before and after 1970, tomorrow, and in the next century.
    let ages = [-1_000_000, 0, 1, now + 5, now + 86_400, 4_102_444_800];
    let write = |step: usize, n: u64, seconds: i64| {
        let path = temp.at(&format!("dumps/k/{step}.npy"));
        fs::create_dir_all(temp.at("dumps/k")).expect("a folder");
        fs::write(&path, gray(n)).expect("a dump");
        let file = File::options().write(true).open(&path).expect("the dump");
        file.set_modified(at(seconds)).expect("a time");
        assert_eq!(path.metadata().expect("a time").mtime(), seconds);
    };
    for (step, seconds) in ages.into_iter().enumerate() {
        write(step, step as u64, seconds);
    }
    wait_for("all pictures", || temp.counts() == [ages.len(), 0, 0]);
    // Rewritten with equal modification times and lengths: only the change times differ.
    for (step, seconds) in ages.into_iter().enumerate() {
        write(step, 100 + step as u64, seconds);
    }
    let numbers =
        || -> Vec<u64> { temp.items().iter().map(|item| number_in(&temp.store(), item)).collect() };
    let want: Vec<u64> = (0..ages.len() as u64).map(|step| 100 + step).collect();
    wait_for("the new content", || numbers() == want);
    assert_eq!(daemon.stop().0, Some(0));
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(numbers(), want);
    assert_eq!(temp.items()[0]["index"], json!(0));
}
