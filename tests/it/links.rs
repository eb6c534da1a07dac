//! Nothing outside of a run directory is read, whatever files it contains and however fast it changes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use safelight::media::Sha256;
use serde_json::{Value, json};

use crate::harness::{TempRun, gray, make_fifo, wait_for};

/// Returns a dump that must not become an item.
fn secret(n: u64) -> Vec<u8> {
    gray(0x7365_6372_6574_0000 + n)
}

/// Returns the text of all journals of a store, and the digests of all dumps in it.
fn journal_text_and_digests(store: &Path) -> (String, BTreeSet<String>) {
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

/// Checks that no dump and no text from outside of the run directory is in the store.
fn check_no_secret(temp: &TempRun, n_secrets: u64) {
    let (text, digests) = journal_text_and_digests(&temp.store());
    for n in 0..n_secrets {
        assert!(!digests.contains(&Sha256::of(&secret(n)).to_string()), "secret {n} was read");
    }
    assert!(!text.contains("SECRET"), "{text}");
}

#[test]
fn no_symbolic_link_is_followed() {
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

    // Links to a dump and to a folder, each with and without a log line. Links to a log, a mask and a
    // sidecar.
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
    // The mask behind a link costs its picture nothing.
    wait_for("the neighbours", || temp.counts() == [2, 0, 7]);
    for (state, reason) in temp.states() {
        let is_refused = ["symbolic link", "leaves the run directory", "lies outside"];
        let says_why = is_refused.iter().any(|why| reason.contains(why));
        assert!(state == "image" || says_why, "{reason}");
    }
    let log = daemon.log_text();
    assert!(log.contains("b.media.jsonl") && log.contains("log is not followed"), "{log}");

    // A link to a run, and a link to the file that names a run.
    symlink(&outside, temp.folder().join("run-link")).expect("a link");
    fs::create_dir_all(temp.folder().join("run-named")).expect("a run");
    symlink(outside.join("safelight.json"), temp.folder().join("run-named/safelight.json"))
        .expect("a link");
    let root = || temp.status()["ingest"]["watching"][0].clone();
    wait_for("the problem", || root()["problem"].to_string().contains("run-named"));
    let is_link = |example: &Value| example["path"] == "run-link";
    let links = |root: &Value| root["passed_over"][0]["examples"].as_array().cloned();
    wait_for("the link", || links(&root()).is_some_and(|links| links.iter().any(is_link)));
    fs::remove_file(temp.folder().join("run-named/safelight.json")).expect("a removal");
    fs::create_dir_all(temp.folder().join("run-named/dumps/k")).expect("folders");
    fs::write(temp.folder().join("run-named/dumps/k/1.npy"), gray(9)).expect("a dump");
    wait_for("the run", || temp.counts() == [3, 0, 7]);
    check_no_secret(&temp, 2);
    assert_eq!(daemon.stop().0, Some(0));
    // `ingest` behaves like the daemon.
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

/// Exchanges two names as often as possible for a while. Returns how often.
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
fn a_folder_swapped_for_a_link_while_it_is_read_leaks_nothing() {
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
            // The name that is a real folder at this moment is written to.
            for n in 0..RACED {
                let path = format!("dumps/race/{n}.npy");
                let line = json!({"key": "line", "step": n, "data": path});
                temp.append("a.media.jsonl", &format!("{line}\n"));
                let real = [&folder, &link].into_iter().find(|path| !path.is_symlink());
                let aside = temp.at("aside.npy");
                fs::write(&aside, gray(round * RACED + n)).expect("a dump");
                if let Some(real) = real {
                    // If it has become the link, the dump lands outside, which does no harm.
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
    // The daemon still reads dumps, and it read none through the link.
    temp.log_picture("last", 1, 1);
    let is_last = |item: &Value| item["key"] == "last" && item["state"] == "image";
    wait_for("the last picture", || temp.items().iter().any(is_last));
    check_no_secret(&temp, RACED);
    eprintln!("{n} exchanges");
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_run_directory_swapped_for_a_link_before_it_is_opened_leaks_nothing() {
    // Regression: the directory was checked for a link and then opened by its name.
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
    // The store knows runs by their paths, so that each round needs a new name.
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

/// Makes special files with names of dumps. Returns the names.
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
    make_fifo(&folder.join("2.npy"));
    drop(UnixListener::bind(folder.join("3.npy")).expect("a socket"));
    if make("mknod", &["4.npy", "c", "1", "5"]) && fs::File::open(folder.join("4.npy")).is_ok() {
        made.push("4.npy");
        assert!(make("mknod", &["5.npy", "b", "7", "200"]));
        made.push("5.npy");
    } else {
        eprintln!("only root can make devices: tested without them");
    }
    made
}

#[test]
fn special_files_are_rejected_and_block_nothing() {
    let temp = TempRun::new();
    // The path is relative, because a socket's path may have at most 107 bytes.
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
    // Special files as a log, a sidecar and a mask.
    make_fifo(&temp.at("b.media.jsonl"));
    make_fifo(&temp.at("dumps/good/9.npy.json"));
    temp.write("dumps/good/9.npy", &gray(9));
    let mask = json!({"m": {"mask_data": "named/2.npy"}});
    temp.write("x.npy", &gray(7));
    let line = json!({"key": "masked", "step": 1, "data": "x.npy", "masks": mask});
    temp.append("a.media.jsonl", &format!("{line}\n"));
    // The mask costs its picture nothing.
    let n_bad = alone.len() + named.len() + 1;
    wait_for("all items", || temp.counts() == [named.len() + 6, 0, n_bad]);
    for (state, reason) in temp.states() {
        assert!(state == "image" || reason.contains("want a regular file"), "{reason}");
    }
    // A run whose naming file is a FIFO.
    let other = temp.folder().join("run2");
    fs::create_dir_all(&other).expect("a run");
    make_fifo(&other.join("safelight.json"));
    temp.log_picture("last", 1, 1);
    wait_for("the last item", || temp.counts() == [named.len() + 7, 0, n_bad]);
    let (code, took) = daemon.stop();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(5), "a thread was blocked: {took:?}");
    // `ingest` finds nothing else.
    let again = temp.ingest();
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(temp.counts(), [named.len() + 7, 0, n_bad]);
}

#[test]
fn control_characters_in_names_are_escaped_in_logs() {
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
            // No line of output begins with a part of a name.
            assert!(!text.lines().any(|line| line.starts_with("line{")), "{format}: {text}");
        }
        assert_eq!(daemon.stop().0, Some(0));
    }
}
