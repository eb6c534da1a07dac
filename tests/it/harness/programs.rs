//! Other programs that tests run: strace, Python, kill, mkfifo, libfaketime.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::PROGRAM;

/// Reports that a test is skipped because of `what`.
///
/// # Panics
/// In CI, where every test must run.
#[track_caller]
pub(crate) fn skip(what: &str) {
    let is_ci = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty());
    assert!(!is_ci, "skipped: {what}");
    eprintln!("skipped: {what}");
}

/// Returns whether a program is installed. If not, reports that the test is skipped.
pub(crate) fn has_program(program: &str) -> bool {
    let has = Command::new(program).arg("--version").output().is_ok();
    if !has {
        skip(&format!("{program} is not installed"));
    }
    has
}

/// Returns whether strace can trace here. If not, reports that the test is skipped.
pub(crate) fn can_trace() -> bool {
    let traced = Command::new("strace").args(["-f", "-e", "trace=fsync", "true"]).output();
    let can_trace = traced.is_ok_and(|ran| ran.status.success());
    if !can_trace {
        skip("strace is not installed or may not trace");
    }
    can_trace
}

/// Runs the program under strace, which kills it when a thread enters system call `call` for the `n`-th
/// time. Returns whether it was killed; it ends by itself if it makes fewer such calls.
pub(crate) fn kill_at_call(call: &str, n: usize, args: &[&OsStr], log: Stdio) -> bool {
    let status = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:signal=KILL:when={n}"), PROGRAM])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .status()
        .expect("strace");
    !matches!(status.code(), Some(0 | 3))
}

/// Starts a Python script. Reports that the test is skipped if Python is not installed.
pub(crate) fn python(script: &str, args: &[&str], stdin: Stdio) -> Option<Child> {
    let mut command = Command::new("python3");
    command.arg("-c").arg(script).args(args).stdin(stdin).stdout(Stdio::piped());
    let child = command.spawn();
    if child.is_err() {
        skip("python3 is not installed");
    }
    child.ok()
}

/// Returns the path of `libfaketime`, which gives a program another clock. Reports that the test is
/// skipped if it is not installed.
pub(crate) fn faketime() -> Option<String> {
    let places =
        ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let library = places.iter().map(|place| format!("{place}/faketime/libfaketime.so.1"));
    let found = library.into_iter().find(|path| Path::new(path).is_file());
    if found.is_none() {
        skip("libfaketime is not installed");
    }
    found
}

/// A process that is killed when dropped.
pub(crate) struct KilledOnDrop(pub(crate) Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Sends a signal, such as `-TERM`, to a process.
pub(crate) fn send_signal(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(status.expect("kill").success());
}

/// Makes a FIFO.
pub(crate) fn make_fifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.is_ok_and(|status| status.success()));
}

/// Sends a POST request to the control socket as another user than root or the daemon's own. Returns the
/// body of the response, or `None`, reporting that the test is skipped, if we may not change user.
pub(crate) fn post_as_nobody(folder: &Path, path: &str) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        skip("only root can send a request as another user");
        return None;
    }
    let socket = folder.join("control.sock");
    for path in [folder, &*socket] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("rights");
    }
    let mut curl = Command::new("curl");
    curl.args(["-s", "-X", "POST", "--unix-socket"]).arg(&socket);
    curl.arg(format!("http://safelight{path}")).uid(65534).stderr(Stdio::null());
    Some(String::from_utf8_lossy(&curl.output().expect("curl").stdout).into_owned())
}
