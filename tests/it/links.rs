//! Nothing outside of a run directory is read, nothing outside of the store is written, whatever lies
//! in the run directory and however fast it changes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use safelight::media::Sha256;
use serde_json::{Value, json};

use crate::harness::{PROGRAM, TempRun, gray, npy, skip, wait_for};

/// A picture that must not become an item.
fn secret(n: u64) -> Vec<u8> {
    gray(0x7365_6372_6574_0000 + n)
}

/// Whatever the store was ever told, as text, and the digest of each dump in it.
fn all_told(store: &Path) -> (String, BTreeSet<String>) {
    let (mut text, mut digests) = (String::new(), BTreeSet::new());
    for run in fs::read_dir(store.join("runs")).into_iter().flatten().flatten() {
        for segment in fs::read_dir(run.path().join("journal")).into_iter().flatten().flatten() {
            let segment = fs::read_to_string(segment.path()).expect("a segment");
            for line in segment.lines() {
                let event: Value = serde_json::from_str(line).expect("an event");
                let masks = event["masks"].as_object().into_iter().flatten();
                let masks = masks.map(|(_, mask)| &mask["source"]["sha256"]);
                let of_dumps = masks.chain([&event["source"]["sha256"]]);
                digests.extend(of_dumps.filter_map(Value::as_str).map(str::to_owned));
            }
            text.push_str(&segment);
        }
    }
    (text, digests)
}

/// No dump outside was read, and no text.
fn check_no_secret(temp: &TempRun, n_secrets: u64) {
    let (text, digests) = all_told(&temp.store());
    for n in 0..n_secrets {
        assert!(!digests.contains(&Sha256::of(&secret(n)).to_string()), "secret {n} was read");
    }
    assert!(!text.contains("SECRET"), "{text}");
}

#[test]
fn no_link_is_followed_whatever_it_stands_for() {
    let temp = TempRun::new();
    let outside = temp.folder().join("outside");
    fs::create_dir_all(outside.join("dumps/k")).expect("folders");
    let keep = |name: &str, bytes: &[u8]| fs::write(outside.join(name), bytes).expect("a file");
    keep("secret.npy", &secret(0));
    keep("dumps/k/1.npy", &secret(1));
    keep("secret.json", br#"{"caption":"SECRET"}"#);
    keep("safelight.json", br#"{"id":"SECRET"}"#);
    keep("secret.media.jsonl", br#"{"key":"SECRET","step":1,"data":"good.npy"}"#);
    temp.write("good.npy", &gray(1));
    let line = |temp: &TempRun, line: &Value| temp.append("a.media.jsonl", &format!("{line}\n"));
    let daemon = temp.daemon("[ingest]\nsettle_ms = 50\nwait_ms = 300\nscan_ms = 500\n");

    // A dump, by a line and by itself; a folder, by a line and by itself; a log; a mask; a sidecar.
    fs::create_dir_all(temp.at("dumps/k")).expect("folders");
    for (to, from) in [
        ("secret.npy", "link.npy"),
        ("secret.npy", "dumps/k/1.npy"),
        ("", "folder"),
        ("dumps/k", "dumps/folder"),
        ("secret.media.jsonl", "b.media.jsonl"),
        ("secret.json", "dumps/k/2.npy.json"),
    ] {
        symlink(outside.join(to), temp.at(from)).expect("a link");
    }
    temp.write("dumps/k/2.npy", &gray(2));
    line(&temp, &json!({"key": "line", "step": 1, "data": "link.npy"}));
    line(&temp, &json!({"key": "line", "step": 2, "data": "folder/secret.npy"}));
    line(&temp, &json!({"key": "line", "step": 3, "data": "folder/../../outside/secret.npy"}));
    line(&temp, &json!({"key": "line", "step": 4, "data": outside.join("secret.npy")}));
    line(&temp, &json!({"key": "line", "step": 5, "data": "/proc/self/cwd/outside/secret.npy"}));
    let mask = json!({"m": {"mask_data": "link.npy", "class_labels": {"0": "x"}}});
    line(&temp, &json!({"key": "line", "step": 6, "data": "good.npy", "masks": mask}));
    line(&temp, &json!({"key": "line", "step": 7, "data": "good.npy"}));
    wait_for("the neighbours", || temp.counts() == [1, 0, 8]);
    for (state, reason) in temp.states() {
        let is_refused = ["symbolic link", "leaves the run directory", "lies outside"];
        let says_why = is_refused.iter().any(|why| reason.contains(why));
        assert!(state == "image" || says_why, "{reason}");
    }
    let log = daemon.log_text();
    assert!(log.contains("b.media.jsonl") && log.contains("log is not followed"), "{log}");

    // A run; and what says what a run is.
    symlink(&outside, temp.folder().join("run-link")).expect("a link");
    fs::create_dir_all(temp.folder().join("run-named")).expect("a run");
    symlink(outside.join("safelight.json"), temp.folder().join("run-named/safelight.json"))
        .expect("a link");
    let told = || temp.status()["ingest"]["watching"][0]["problem"].to_string();
    wait_for("the problems", || told().contains("run-link") && told().contains("run-named"));
    fs::remove_file(temp.folder().join("run-named/safelight.json")).expect("a removal");
    fs::create_dir_all(temp.folder().join("run-named/dumps/k")).expect("folders");
    fs::write(temp.folder().join("run-named/dumps/k/1.npy"), gray(9)).expect("a dump");
    wait_for("the run", || temp.counts() == [2, 0, 8]);
    check_no_secret(&temp, 2);
    assert_eq!(daemon.stop().0, Some(0));
    // The same of what looks once.
    assert!(matches!(temp.ingest().code, 0 | 3));
    check_no_secret(&temp, 2);
}

#[test]
fn a_hard_link_is_a_dump_of_its_own() {
    let temp = TempRun::new();
    let daemon = temp.daemon("[ingest]\nsettle_ms = 50\n");
    temp.write("dumps/k/1.npy", &gray(1));
    fs::hard_link(temp.at("dumps/k/1.npy"), temp.at("dumps/k/2.npy")).expect("a link");
    fs::hard_link(temp.at("dumps/k/1.npy"), temp.at("same.npy")).expect("a link");
    temp.append("a.media.jsonl", "{\"key\":\"line\",\"step\":1,\"data\":\"same.npy\"}\n");
    wait_for("three", || temp.counts() == [3, 0, 0]);
    assert_eq!(daemon.stop().0, Some(0));
}

/// Exchanges two names for a while, as fast as it goes.
fn exchange_for(time: Duration, a: &Path, b: &Path) -> u64 {
    let (start, mut n) = (Instant::now(), 0);
    while start.elapsed() < time {
        renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).expect("an exchange");
        n += 1;
        if n % 7 == 0 {
            thread::sleep(Duration::from_micros(n % 300));
        }
    }
    n
}

const RACED: u64 = 40;

#[test]
fn a_folder_that_becomes_a_link_while_it_is_read_gives_nothing_away() {
    let temp = TempRun::new();
    let outside = temp.folder().join("outside/dumps");
    fs::create_dir_all(outside.join("race")).expect("folders");
    for n in 0..RACED {
        fs::write(outside.join(format!("race/{n}.npy")), secret(n)).expect("a secret");
    }
    symlink(outside.join("race"), temp.at("link")).expect("a link");
    fs::create_dir_all(temp.at("dumps/race")).expect("folders");
    let daemon = temp.daemon(
        "[ingest]\nsettle_ms = 1\nclose_ms = 1\nwait_ms = 1\nincomplete_ms = 1\nscan_ms = 20\n[work]\nthreads = 2\n",
    );
    let (folder, link) = (temp.at("dumps/race"), temp.at("link"));
    let n = thread::scope(|scope| {
        let racer = scope.spawn(|| exchange_for(Duration::from_secs(4), &folder, &link));
        let mut round = 0u64;
        while !racer.is_finished() {
            // Written by the name that leads into the run directory at the moment, if one does.
            for n in 0..RACED {
                let path = format!("dumps/race/{n}.npy");
                let line = json!({"key": "line", "step": n, "data": path});
                temp.append("a.media.jsonl", &format!("{line}\n"));
                let real = [&folder, &link].into_iter().find(|path| !path.is_symlink());
                let aside = temp.at("aside.npy");
                fs::write(&aside, gray(round * RACED + n)).expect("a dump");
                if let Some(real) = real {
                    // It may lead outside by now: then the secret is no secret any more.
                    let to = real.join(format!("new-{n}.npy"));
                    fs::rename(&aside, &to).ok();
                }
            }
            round += 1;
            thread::sleep(Duration::from_millis(20));
        }
        racer.join().expect("the racer")
    });
    assert!(n > 1000, "{n} exchanges");
    // It still reads, and what was behind the link it did not.
    temp.log_picture("last", 1, 1);
    let is_last = |item: &Value| item["key"] == "last" && item["state"] == "image";
    wait_for("the last picture", || temp.items().iter().any(is_last));
    check_no_secret(&temp, RACED);
    eprintln!("{n} exchanges");
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_run_directory_that_becomes_a_link_before_it_is_opened_gives_nothing_away() {
    // It was looked at, found to be no link, and then opened by its name, links followed.
    let temp = TempRun::new();
    let outside = temp.folder().join("outside");
    fs::create_dir_all(outside.join("dumps/k")).expect("folders");
    for n in 0..RACED {
        fs::write(outside.join(format!("dumps/k/{n}.npy")), secret(n)).expect("a secret");
    }
    fs::write(outside.join("safelight.json"), br#"{"name":"SECRET"}"#).expect("a secret");
    let link = temp.folder().join("link");
    symlink(&outside, &link).expect("a link");
    let daemon = temp.daemon("[ingest]\nsettle_ms = 1\nclose_ms = 1\nscan_ms = 5\npoll_ms = 5\n");
    let start = Instant::now();
    let mut n_runs = 0;
    // A run that is in the store is told by where it came from, so each has another name.
    while start.elapsed() < Duration::from_secs(5) {
        let run = temp.folder().join(format!("run{n_runs}"));
        fs::create_dir(&run).expect("a run");
        exchange_for(Duration::from_millis(20), &run, &link);
        if run.is_symlink() {
            renameat_with(CWD, &run, CWD, &link, RenameFlags::EXCHANGE).expect("an exchange");
        }
        n_runs += 1;
    }
    assert!(n_runs > 50, "{n_runs} runs");
    temp.write("dumps/k/99.npy", &gray(99));
    let is_last = |item: &Value| item["step"] == 99;
    wait_for("the last picture", || temp.items().iter().any(is_last));
    assert_eq!(daemon.stop().0, Some(0));
    check_no_secret(&temp, RACED);
}

/// What is no regular file, each under a name that a dump may have.
fn make_strange(folder: &Path) -> Vec<&'static str> {
    fs::create_dir_all(folder).expect("folders");
    let make = |program: &str, args: &[&str]| {
        Command::new(program)
            .args(args)
            .current_dir(folder)
            .output()
            .expect("a program")
            .status
            .success()
    };
    let mut made = vec!["1.npy", "2.npy", "3.npy"];
    fs::create_dir_all(folder.join("1.npy/inner")).expect("folders");
    assert!(make("mkfifo", &["2.npy"]));
    drop(UnixListener::bind(folder.join("3.npy")).expect("a socket"));
    if make("mknod", &["4.npy", "c", "1", "5"]) && fs::File::open(folder.join("4.npy")).is_ok() {
        made.push("4.npy");
        assert!(make("mknod", &["5.npy", "b", "7", "200"]));
        made.push("5.npy");
    } else {
        eprintln!("without devices: only root can make them");
    }
    made
}

#[test]
fn what_is_no_regular_file_is_refused_and_holds_up_nobody() {
    let temp = TempRun::new();
    // A relative path: that of a socket may have 107 bytes only.
    let daemon = temp.daemon("[ingest]\nsettle_ms = 50\n[work]\nthreads = 1\n");
    temp.append("first.media.jsonl", "{\"commit\":1}\n");
    let alone = make_strange(&temp.at("dumps/strange"));
    let named = make_strange(&temp.at("named"));
    for (n, name) in named.iter().enumerate() {
        let line = json!({"key": "line", "step": n, "data": format!("named/{name}")});
        temp.append("a.media.jsonl", &format!("{line}\n"));
        temp.log_picture("good", n as u64, n as u64);
    }
    for n in 0..5 {
        temp.write(&format!("dumps/good/{n}.npy"), &gray(n));
    }
    // A log, a sidecar, a mask and what names a run, too.
    let fifo = |path: &str| {
        let made = Command::new("mkfifo").arg(temp.at(path)).status();
        assert!(made.is_ok_and(|status| status.success()));
    };
    fifo("b.media.jsonl");
    fifo("dumps/good/9.npy.json");
    temp.write("dumps/good/9.npy", &gray(9));
    let mask = json!({"m": {"mask_data": "named/2.npy"}});
    temp.write("x.npy", &gray(7));
    let line = json!({"key": "masked", "step": 1, "data": "x.npy", "masks": mask});
    temp.append("a.media.jsonl", &format!("{line}\n"));
    let n_bad = alone.len() + named.len() + 2;
    wait_for("all", || temp.counts() == [named.len() + 5, 0, n_bad]);
    for (state, reason) in temp.states() {
        assert!(state == "image" || reason.contains("want a regular file"), "{reason}");
    }
    // A run of which a FIFO says what it is.
    let other = temp.folder().join("run2");
    fs::create_dir_all(&other).expect("a run");
    let made = Command::new("mkfifo").arg(other.join("safelight.json")).status();
    assert!(made.is_ok_and(|status| status.success()));
    temp.log_picture("last", 1, 1);
    wait_for("the last", || temp.counts() == [named.len() + 6, 0, n_bad]);
    let (code, took) = daemon.stop();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(5), "a thread was blocked: {took:?}");
    // Read once, the same.
    let again = temp.ingest();
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(temp.counts(), [named.len() + 6, 0, n_bad]);
}

#[test]
fn names_with_control_characters_reach_no_log_as_they_are() {
    for format in ["json", "text"] {
        let temp = TempRun::new();
        let settings = format!(
            "[log]\nformat = \"{format}\"\nlevel = \"debug\"\n[ingest]\nsettle_ms = 20\nincomplete_ms = 100\n"
        );
        let daemon = temp.daemon(&settings);
        let below = temp.at("dumps");
        fs::create_dir_all(&below).expect("a folder");
        let names: [&[u8]; 5] = [
            b"new\nline{\"level\":\"ERROR\"}",
            b"esc\x1b[31m\x1b]0;title\x07",
            b"not \xff\xfe utf-8",
            b"bell\x07\x08\x7f\xc2\x9b",
            b"\xe2\x80\xae turned",
        ];
        for (n, name) in names.into_iter().enumerate() {
            let folder = below.join(OsStr::from_bytes(name));
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(folder.join("1.npy"), gray(n as u64)).expect("a dump");
            fs::write(folder.join("2.npy"), "rubbish").expect("a dump");
            let log = [name, b".media.jsonl"].concat();
            fs::write(temp.at("").join(OsStr::from_bytes(&log)), "rubbish\n").expect("a log");
            let run = [b"run", name].concat();
            fs::create_dir_all(temp.folder().join(OsStr::from_bytes(&run))).expect("a run");
        }
        temp.log_picture("good", 1, 1);
        wait_for("the neighbour", || temp.counts()[0] >= 1);
        thread::sleep(Duration::from_millis(1500));
        assert_eq!(temp.items().iter().filter(|item| item["key"] == "good").count(), 1);
        for text in [daemon.log_text(), temp.run(&["ls"]).out, temp.run(&["status"]).out] {
            let is_raw = |c: &char| c.is_control() && *c != '\n';
            assert_eq!(text.chars().find(is_raw), None, "{format}: {text:?}");
            // No line is of a name's making.
            assert!(!text.lines().any(|line| line.starts_with("line{")), "{format}: {text}");
        }
        assert_eq!(daemon.stop().0, Some(0));
    }
}

/// A call that strace wrote down: its name, and what it was given.
fn calls(trace: &str) -> impl Iterator<Item = (&str, &str)> {
    trace.lines().filter_map(|line| {
        let (_, call) = line.split_once(' ').unwrap_or(("", line));
        let (name, rest) = call.trim_start().split_once('(')?;
        Some((name, rest))
    })
}

/// The paths in the arguments of a call: a descriptor's (`5</path>`) joined with the name after it.
fn paths_in(args: &str) -> Vec<PathBuf> {
    let args = args.rsplit_once(") = ").map_or(args, |(args, _)| args);
    let mut folder = PathBuf::new();
    let mut paths = Vec::new();
    let mut rest = args;
    while let Some(at) = rest.find(['<', '"']) {
        let end = if rest[at..].starts_with('<') { '>' } else { '"' };
        let inner = &rest[at + 1..];
        let Some(to) = inner.find(end) else { break };
        let text = &inner[..to];
        if end == '>' {
            folder = PathBuf::from(text);
        } else {
            paths.push(folder.join(text));
        }
        rest = &inner[to + 1..];
    }
    if paths.is_empty() { vec![folder] } else { paths }
}

/// Every write goes below one of these folders, no program is started, and no one is called but by a
/// unix socket.
fn check_trace(trace: &Path, folders: &[PathBuf]) -> usize {
    let text = fs::read_to_string(trace).expect("a trace");
    let (mut n_writes, mut n_execs) = (0, 0);
    for (name, args) in calls(&text) {
        let opens_to_write = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND", "O_TMPFILE"]
            .iter()
            .any(|flag| args.contains(flag));
        let is_write = match name {
            "open" | "openat" | "openat2" => opens_to_write,
            "execve" | "execveat" => {
                n_execs += 1;
                false
            }
            "socket" => {
                assert!(args.starts_with("AF_UNIX"), "{name}({args}");
                false
            }
            "creat" | "mkdir" | "mkdirat" | "rmdir" | "rename" | "renameat" | "renameat2"
            | "unlink" | "unlinkat" | "link" | "linkat" | "symlink" | "symlinkat" | "truncate"
            | "chmod" | "fchmodat" | "fchmodat2" | "chown" | "lchown" | "fchownat"
            | "utimensat" | "mknod" | "mknodat" | "setxattr" | "lsetxattr" | "removexattr"
            | "mount" | "chroot" | "pivot_root" => true,
            _ => false,
        };
        // The folders above the socket are there already, or made.
        let is_there = name == "mkdir" && args.contains("= -1 EEXIST");
        if is_write && !is_there {
            for path in paths_in(args) {
                let is_known = path == Path::new("/dev/null")
                    || folders.iter().any(|folder| path.starts_with(folder));
                assert!(is_known, "{name}({args}");
                assert!(!path.components().any(|part| part.as_os_str() == ".."), "{name}({args}");
            }
            n_writes += 1;
        }
    }
    assert_eq!(n_execs, 1, "a program was started");
    n_writes
}

#[test]
fn nothing_is_written_but_in_the_store_and_no_one_is_called() {
    if !Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success()) {
        skip("strace is not installed");
        return;
    }
    let temp = TempRun::new();
    let traced = |trace: &Path| {
        let mut command = Command::new("strace");
        // The program is the child that is waited for, and strace its grandchild.
        command.args(["-D", "-f", "-y", "-s", "4096", "-e", "trace=%file,%network,%process"]);
        command.arg("-o").arg(trace).arg(PROGRAM);
        command
    };
    let write_all = |first: u64| {
        for n in first..first + 10 {
            temp.log_picture("line", n, n);
            temp.write(&format!("dumps/alone/{n}.npy"), &gray(n));
            temp.write(&format!("dumps/bad/{n}.npy"), b"rubbish");
            temp.write(&format!("dumps/batch/{n}.npy"), &npy("|u1", &[3, 5, 5], &[7; 75]));
        }
        let mask = json!({"m": {"mask_data": "tensors/line-1-1.npy"}});
        let line = json!({"key": "../../../out", "step": first, "data": "tensors/line-1-1.npy", "masks": mask,
            "boxes": {"b": {"box_data": [{"position": {"minX": 0, "maxX": 1, "minY": 0, "maxY": 1}, "class_id": 1}]}}});
        temp.append("a.media.jsonl", &format!("{line}\n"));
    };
    write_all(1);
    let (once, followed) = (temp.folder().join("once.trace"), temp.folder().join("daemon.trace"));
    let output = traced(&once)
        .arg("ingest")
        .arg(temp.at(""))
        .arg("--store")
        .arg(temp.store())
        .output()
        .expect("strace");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let allowed = [temp.store(), temp.folder().join("control.sock")];
    let is_over = |trace: &Path| {
        fs::read_to_string(trace).is_ok_and(|text| {
            text.trim_end().ends_with("+++ exited with 3 +++")
                || text.trim_end().ends_with("+++ exited with 0 +++")
        })
    };
    wait_for("the end of the trace", || is_over(&once));
    let n_once = check_trace(&once, &allowed);

    let daemon =
        temp.daemon_from("[ingest]\nsettle_ms = 50\nincomplete_ms = 100\n", traced(&followed));
    write_all(20);
    wait_for("all", || temp.counts() == [62, 0, 20]);
    temp.run(&["show", "run", "line", "1"]);
    daemon.signal("-HUP");
    wait_for("the reload", || daemon.log_text().contains("taken up"));
    assert_eq!(daemon.stop().0, Some(0));
    wait_for("the end of the trace", || is_over(&followed));
    let n_followed = check_trace(&followed, &allowed);
    assert!(n_once > 50 && n_followed > 50, "{n_once} and {n_followed} writes were seen");
}
