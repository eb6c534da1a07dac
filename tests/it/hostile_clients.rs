//! Clients that connect and do not behave: they leave answers unread, send nothing, or send without end. They cost
//! neither other clients nor the daemon's stop anything.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Daemon, PROGRAM, Ran, TempRun, wait_for};

/// How long a command may take beside hostile clients. It takes some hundredths of a second on a quiet machine.
const COMMAND_MAX: Duration = Duration::from_secs(20);

/// How long a stop may take. It takes some tenths of a second on a quiet machine.
const STOP_MAX: Duration = Duration::from_secs(10);

fn connect(temp: &TempRun) -> UnixStream {
    UnixStream::connect(temp.folder().join("control.sock")).expect("the control socket")
}

/// Sends the head of a request, and reads nothing.
fn send(temp: &TempRun, head: &str) -> UnixStream {
    let mut client = connect(temp);
    // The daemon may have refused the connection.
    client.write_all(head.as_bytes()).ok();
    client
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: safelight\r\n\r\n")
}

/// Reads the answer to a request.
fn answer(temp: &TempRun, head: &str) -> String {
    let mut client = send(temp, head);
    client.set_read_timeout(Some(COMMAND_MAX)).expect("a timeout");
    let mut bytes = Vec::new();
    match client.read_to_end(&mut bytes) {
        // What was sent and not read resets the connection once the answer is read.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        read => drop(read.expect("an answer")),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A daemon with a list that no socket's buffer takes whole, and a run beside it.
fn daemon_with_a_long_list(temp: &TempRun) -> Daemon {
    // 800 pictures of one pixel, with captions that make each line of the list long.
    let caption = "c".repeat(1000);
    let pixels = crate::harness::npy("|u1", &[100, 1, 1], &[7; 100]);
    temp.write("batch.npy", &pixels);
    for step in 0..8 {
        let captions = serde_json::to_string(&vec![&caption; 100]).expect("JSON");
        let line = format!(
            "{{\"key\":\"long\",\"step\":{step},\"data\":\"batch.npy\",\"format\":\"NHW\",\"caption\":{captions}}}\n"
        );
        temp.append("a.media.jsonl", &line);
    }
    let daemon = temp.daemon("");
    wait_for("the list", || status(temp)["image"] == 800);
    daemon
}

fn status(temp: &TempRun) -> Value {
    serde_json::from_str(&temp.run(&["status", "--json"]).out).unwrap_or_default()
}

/// Runs the commands that people use, and logs a picture, all within [`COMMAND_MAX`].
fn check_good_service(temp: &TempRun, n: u64) {
    let start = Instant::now();
    assert_eq!(temp.run(&["health"]).out, "healthy\n");
    let n_before = status(temp)["image"].as_u64().expect("a number");
    temp.log_picture("good", n, n);
    wait_for("the picture", || status(temp)["image"] == n_before + 1);
    let listed = temp.run(&["ls", "run", "good", "--json"]);
    assert_eq!((listed.code, listed.out.is_empty()), (0, false), "{listed:?}");
    let elapsed = start.elapsed();
    assert!(elapsed < COMMAND_MAX, "{elapsed:?}");
}

#[test]
fn clients_that_leave_their_answers_unread_keep_nobody_waiting() {
    let temp = TempRun::new();
    let daemon = daemon_with_a_long_list(&temp);
    let mut stuck: Vec<UnixStream> = Vec::new();
    for path in ["/v1/items", "/v1/items?limit=1000", "/v1/status", "/metrics"] {
        stuck.extend((0..10).map(|_| send(&temp, &get(path))));
    }
    check_good_service(&temp, 1);
    // All of the list, page by page.
    let listed = temp.run(&["ls", "run", "long", "--json"]);
    assert_eq!((listed.code, listed.out.lines().count()), (0, 800), "{}", listed.err);
    let (code, elapsed) = daemon.stop();
    assert_eq!(code, Some(0));
    assert!(elapsed < STOP_MAX, "{elapsed:?}");
    drop(stuck);
}

#[test]
fn a_client_that_reads_late_gets_a_whole_page() {
    let temp = TempRun::new();
    let daemon = daemon_with_a_long_list(&temp);
    let mut pager = Command::new(PROGRAM)
        .args(["ls", "run", "long", "--json", "--store"])
        .arg(temp.store())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ls");
    let mut out = pager.stdout.take().expect("a pipe");
    out.read_exact(&mut [0; 100]).expect("the first line");
    // Nothing of the pager is open at the daemon while its reader thinks.
    std::thread::sleep(Duration::from_secs(1));
    check_good_service(&temp, 1);
    // The list goes on at another daemon of the same store.
    assert_eq!(daemon.stop().0, Some(0));
    let daemon = temp.daemon("");
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("the rest");
    assert_eq!((pager.wait().expect("an end").code(), rest.lines().count()), (Some(0), 800));
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn clients_that_send_slowly_or_without_end_keep_nobody_waiting() {
    let temp = TempRun::new();
    let daemon = temp.daemon("");
    let mut stuck = Vec::new();
    for head in [
        "",
        "GET /v1/status HTTP/1.1\r\nHost: safe",
        "POST /v1/repair HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{",
        "POST /v1/repair HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ] {
        stuck.extend((0..12).map(|_| send(&temp, head)));
    }
    check_good_service(&temp, 1);
    // Each is disconnected, or told, within seconds.
    for client in &mut stuck {
        client.set_read_timeout(Some(COMMAND_MAX)).expect("a timeout");
        let start = Instant::now();
        let read = client.read_to_end(&mut Vec::new());
        assert!(start.elapsed() < COMMAND_MAX, "{read:?}");
    }
    for (head, want) in [
        (format!("GET /v1/status HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)), "431"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20)), "4"),
        (get("/v1/items?limit=0"), "400"),
        (get("/v1/items?limit=1&after=zzz"), "400"),
    ] {
        let got = answer(&temp, &head);
        assert!(got.is_empty() || got.starts_with(&format!("HTTP/1.1 {want}")), "{got}");
    }
    let (code, elapsed) = daemon.stop();
    assert_eq!(code, Some(0));
    assert!(elapsed < STOP_MAX, "{elapsed:?}");
}

#[test]
fn a_user_with_too_many_connections_is_told() {
    let temp = TempRun::new();
    let daemon = temp.daemon("");
    let clients: Vec<UnixStream> = (0..200).map(|_| connect(&temp)).collect();
    let ran = temp.run(&["health"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("too many connections"), "{ran:?}");
    drop(clients);
    wait_for("good health", || temp.run(&["health"]).out == "healthy\n");
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn commands_say_that_a_stopped_daemon_does_not_answer() {
    let temp = TempRun::new();
    temp.log_picture("k", 1, 1);
    let daemon = temp.daemon("");
    wait_for("the picture", || status(&temp)["image"] == 1);
    daemon.signal("-STOP");
    let start = Instant::now();
    let commands = [&["ls"][..], &["status"], &["health"], &["sync"], &["prune", "--apply"]];
    let started: Vec<_> = commands
        .iter()
        .map(|args| {
            let mut command = Command::new(PROGRAM);
            command.args(*args).arg("--store").arg(temp.store()).stdin(Stdio::null());
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program")
        })
        .collect();
    for (child, args) in started.into_iter().zip(commands) {
        let ran: Ran = child.wait_with_output().expect("an end").into();
        assert_eq!(ran.code, 1, "{args:?} {ran:?}");
        assert!(ran.err.contains("the daemon does not answer: it may be stopped"), "{ran:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
    daemon.signal("-CONT");
    wait_for("good health", || temp.run(&["health"]).out == "healthy\n");
    assert_eq!(daemon.stop().0, Some(0));
}
