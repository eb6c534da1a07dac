//! System calls of the program, traced: it writes only into its store and uses no network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::harness::{PROGRAM, TempRun, gray, has_program, npy, wait_for};

/// Returns name and arguments of each call in an output of strace.
fn calls(trace: &str) -> impl Iterator<Item = (&str, &str)> {
    trace.lines().filter_map(|line| {
        let (_, call) = line.split_once(' ').unwrap_or(("", line));
        let (name, rest) = call.trim_start().split_once('(')?;
        Some((name, rest))
    })
}

/// Returns the paths in the arguments of a call. A descriptor (`5</path>`) is joined with the name after it.
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

/// Checks that every write goes below one of these folders, that no other program is started, and that
/// only unix sockets are used. Returns the number of writes.
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
        // The socket's parent folders exist already.
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
    assert_eq!(n_execs, 1, "another program was started");
    n_writes
}

#[test]
fn nothing_outside_the_store_is_written_and_no_network_is_used() {
    if !has_program("strace") {
        return;
    }
    let temp = TempRun::new();
    let traced = |trace: &Path| {
        let mut command = Command::new("strace");
        // `-D` makes strace a grandchild, so that the program itself is our child.
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
    wait_for("all items", || temp.counts() == [62, 0, 20]);
    temp.run(&["show", "run", "line", "1"]);
    daemon.signal("-HUP");
    wait_for("the reload", || daemon.log_text().contains("taken up"));
    assert_eq!(daemon.stop().0, Some(0));
    wait_for("the end of the trace", || is_over(&followed));
    let n_followed = check_trace(&followed, &allowed);
    assert!(n_once > 50 && n_followed > 50, "only {n_once} and {n_followed} writes were traced");
}
