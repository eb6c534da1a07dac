//! Media files, thumbnails and archives of the gallery, over stores that somebody else has changed.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Daemon, TempRun, npy, wait_for};

const ON_SOCKET: &str = "[gallery]\nlisten = \"unix:gallery.sock\"\n";

/// The status and the body of an answer.
fn ask(temp: &TempRun, path: &str) -> (u16, Vec<u8>) {
    let mut stream = UnixStream::connect(temp.folder().join("gallery.sock")).expect("the socket");
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a timeout");
    // HTTP/1.0: the body is sent as it is, and ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    let head_end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let body = bytes.split_off(head_end);
    let head = String::from_utf8_lossy(&bytes);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), body)
}

fn problem(body: &[u8]) -> Value {
    serde_json::from_slice(body).expect("a problem")
}

/// A run with `n` pictures of 400 × 300 pixels, and a daemon with a gallery.
fn daemon(temp: &TempRun, n: u8) -> (Daemon, Vec<Value>) {
    for step in 0..n {
        let pixels: Vec<u8> = (0..400 * 300 * 3u32)
            .map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0] / 2 + step)
            .collect();
        let path = format!("tensors/{step}.npy");
        temp.write(&path, &npy("|u1", &[300, 400, 3], &pixels));
        let line = format!("{{\"key\":\"a/b\",\"step\":{step},\"data\":\"{path}\"}}\n");
        temp.append("a.media.jsonl", &line);
    }
    let daemon = temp.daemon(ON_SOCKET);
    wait_for("the items", || temp.counts() == [usize::from(n), 0, 0]);
    let items = temp.items();
    (daemon, items)
}

fn media(item: &Value) -> String {
    format!("/m/{}.png?{}", sha20(item), place(item))
}

fn thumbnail(item: &Value) -> String {
    format!("/t/128/{}?{}", sha20(item), place(item))
}

fn sha20(item: &Value) -> &str {
    &item["sha256"].as_str().expect("a digest")[..20]
}

fn place(item: &Value) -> String {
    format!("run=run&key=a%2Fb&step={}&index=0", item["step"])
}

fn file_of(temp: &TempRun, item: &Value) -> PathBuf {
    temp.store().join(item["path"].as_str().expect("a path"))
}

#[test]
fn what_is_no_longer_the_journaled_file_is_not_sent() {
    let temp = TempRun::new();
    let (_daemon, items) = daemon(&temp, 6);
    let (sound, secret) = (file_of(&temp, &items[5]), temp.folder().join("secret"));
    fs::write(&secret, fs::read(&sound).expect("a file")).expect("a file");
    let damage = |step: usize| {
        let path = file_of(&temp, &items[step]);
        let bytes = fs::read(&path).expect("a file");
        fs::remove_file(&path).expect("removed");
        match step {
            0 => symlink(&secret, &path).expect("a link"),
            1 => fs::write(&path, &bytes[..bytes.len() / 2]).expect("a file"),
            // As long as the picture, and a page.
            2 => {
                let mut page = b"<html><script>alert(1)</script>".to_vec();
                page.resize(bytes.len(), b' ');
                fs::write(&path, page).expect("a file");
            }
            3 => fs::create_dir(&path).expect("a folder"),
            _ => {}
        }
    };
    (0..5).for_each(damage);
    for (step, item) in items.iter().enumerate() {
        let status = match step {
            5 => 200,
            4 => 404,
            _ => 500,
        };
        for path in [media(item), thumbnail(item)] {
            let (got, body) = ask(&temp, &path);
            assert_eq!(
                got,
                status,
                "{path}: {}",
                String::from_utf8_lossy(&body[..body.len().min(300)])
            );
            if status == 500 {
                assert_eq!(problem(&body)["code"], "damaged");
            }
        }
    }
    // The other pictures are sent all the same.
    let (status, frames) = ask(&temp, "/api/v1/frames?run=run&key=a%2Fb&steps=0,1,2,3,4,5");
    let heads = String::from_utf8_lossy(&frames).into_owned();
    let n = |text: &str| heads.matches(text).count();
    assert_eq!((status, n("\"size\":0,"), n("\"type\":\"image/jpeg\"")), (200, 5, 1));
    let (status, archive) = ask(&temp, "/api/v1/export.tar?run=run");
    assert_eq!(status, 200);
    let listed = listed(&archive);
    let picture = items[5]["path"].as_str().expect("a path");
    assert_eq!(listed, ["items.jsonl", picture, "left-out.txt"]);
    assert!(!archive.windows(8).any(|bytes| bytes == b"<script>"));
}

/// The names of an archive, as the system's `tar` reads them.
fn listed(archive: &[u8]) -> Vec<String> {
    let mut tar = Command::new("tar");
    let tar = tar.args(["-t", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = tar.spawn().expect("tar");
    child.stdin.take().expect("a pipe").write_all(archive).expect("the archive");
    let output = child.wait_with_output().expect("tar");
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn thumbnails_survive_a_daemon_that_is_killed_and_a_torn_pack() {
    let temp = TempRun::new();
    let (daemon, items) = daemon(&temp, 3);
    let before: Vec<_> = items.iter().map(|item| ask(&temp, &thumbnail(item))).collect();
    assert!(before.iter().all(|(status, body)| *status == 200 && body.starts_with(b"\xff\xd8")));
    daemon.signal("-KILL");
    drop(daemon);
    let pack = temp.store().join("cache/thumbs/1.pack");
    let bytes = fs::read(&pack).expect("a pack");
    fs::write(&pack, &bytes[..bytes.len() - 100]).expect("a pack");
    // The store is sound, and its folder of thumbnails is nobody's business.
    let verified = temp.run(&["verify"]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
    // Only the last thumbnail is made again.
    for item in &items[..2] {
        fs::remove_file(file_of(&temp, item)).expect("removed");
    }
    let _daemon = temp.daemon(ON_SOCKET);
    let after: Vec<_> = items.iter().map(|item| ask(&temp, &thumbnail(item))).collect();
    assert!(before == after);
    assert_eq!(fs::read(&pack).expect("a pack"), bytes);
}
