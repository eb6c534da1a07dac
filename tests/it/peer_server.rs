//! Servers that others wrote, on this machine for as long as a test wants them.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::harness::{PROGRAM, Ran, TempRun, wait_for};

/// The Python environment that a variable names, as `./test.sh` sets it up.
pub(crate) fn python_folder(variable: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from);
    if folder.is_none() {
        eprintln!("left out: {variable} is not set; ./test.sh sets it up");
    }
    folder
}

/// A server on a port of its own, killed when dropped.
pub(crate) struct PeerServer {
    child: Child,
    pub(crate) port: u16,
}

impl PeerServer {
    /// Starts a command that `with_port` completes, and waits until it answers to `GET path` with 200.
    pub(crate) fn start(
        mut command: Command,
        log: &Path,
        path: &str,
        with_port: impl FnOnce(&mut Command, &str),
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        with_port(&mut command, &port.to_string());
        let log_file = File::create(log).expect("a log");
        command.stdin(Stdio::null()).stdout(log_file.try_clone().expect("a log")).stderr(log_file);
        let mut server = Self { child: command.spawn().expect("the server"), port };
        wait_for("the server to answer", || {
            let ended = server.child.try_wait().expect("the server");
            let said = || std::fs::read_to_string(log).unwrap_or_default();
            assert!(ended.is_none(), "it ended: {}", said());
            server.get(path).is_some()
        });
        server
    }

    /// The body of an answer with status 200.
    pub(crate) fn get(&self, path: &str) -> Option<Vec<u8>> {
        self.ask(&format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"))
    }

    /// The same of a POST with JSON.
    pub(crate) fn post(&self, path: &str, body: &str) -> Option<Vec<u8>> {
        self.ask(&format!(
            "POST {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    fn ask(&self, request: &str) -> Option<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let end_of_head = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
        let is_fine = answer.get(9..12) == Some(b"200");
        is_fine.then(|| answer.split_off(end_of_head + 4))
    }
}

impl Drop for PeerServer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Delivers to a target of this configuration all that there is.
pub(crate) fn sync(config: &Path, target: &str) {
    let mut command = Command::new(PROGRAM);
    command.args(["sync", target, "--once", "--config"]).arg(config).stdin(Stdio::null());
    let ran: Ran = command.output().expect("the program").into();
    assert_eq!(ran.code, 0, "{ran:?}");
}

/// Has the program forget what a target has, as if it had been killed before it could write that down.
pub(crate) fn forget(temp: &TempRun, target: &str) {
    let state = temp.store().join("sync").join(target);
    std::fs::remove_dir_all(state).expect("what the target has");
}
