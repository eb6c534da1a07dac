//! Real servers of targets, started for one test on free ports of loopback.

use std::ffi::OsString;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::harness::{PROGRAM, Ran, TempRun, skip};

/// Returns the path of a program that `./test.sh` has installed, or reports that the test is skipped.
pub(crate) fn program(variable: &str) -> Option<OsString> {
    let path = std::env::var_os(variable);
    if path.is_none() {
        skip(&format!("{variable} is not set; ./test.sh sets it"));
    }
    path
}

/// Returns a port that was free a moment ago, as was the one 10,000 above it, which `SeaweedFS` takes for gRPC.
///
/// Both are below the ports that Linux gives to outgoing connections, of which tests have many.
pub(crate) fn free_port() -> u16 {
    static N_ASKED: AtomicU32 = AtomicU32::new(0);
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    // Tests that run at once in this process never get the same port, and those of another process hardly ever.
    let from = std::process::id().wrapping_mul(97);
    loop {
        let at = from.wrapping_add(N_ASKED.fetch_add(1, Ordering::Relaxed)) % 10_000;
        let port = 10_000 + u16::try_from(at).expect("below 10,000");
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
}

/// A server, killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    folder: TempDir,
    http: Http,
}

impl Server {
    /// Starts a server in a folder of its own and waits until it responds at `ready`.
    pub(crate) fn start(port: u16, ready: &str, command: impl FnOnce(&Path) -> Command) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let child = command(folder.path())
            // The server's workers are killed with its process group.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .current_dir(folder.path())
            .spawn()
            .expect("the server");
        let mut server = Self { child, port, folder, http: Http::new() };
        let start = Instant::now();
        while !server.answers(ready) {
            let is_over = server.child.try_wait().expect("the server").is_some();
            assert!(!is_over && start.elapsed() < Duration::from_mins(2), "{}", server.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn answers(&self, path: &str) -> bool {
        let answer = self.http.ask(Method::GET, &self.url(path), |request| request);
        answer.is_some_and(|(status, _)| status < 500)
    }

    /// Sends a GET request. Returns the body of a response with status 200.
    pub(crate) fn get(&self, path: &str) -> Option<Vec<u8>> {
        let answer = self.http.ask(Method::GET, &self.url(path), |request| request);
        answer.filter(|(status, _)| *status == 200).map(|(_, body)| body)
    }

    /// Sends a POST request with JSON. Returns the body of a response with status 200.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Option<Vec<u8>> {
        let answer = self.http.ask(Method::POST, &self.url(path), |request| request.json(body));
        answer.filter(|(status, _)| *status == 200).map(|(_, body)| body)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        format!("the server doesn't answer:\n{text}")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        Command::new("kill").args(["-KILL", "--", &group]).status().ok();
        self.child.wait().ok();
    }
}

/// An HTTP client for tests.
pub(crate) struct Http {
    runtime: Runtime,
    client: Client,
}

impl Http {
    pub(crate) fn new() -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let client = Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(30))
            .build();
        Self { runtime: runtime.expect("a runtime"), client: client.expect("a client") }
    }

    /// Sends a request. Returns status and body, or `None` if there is no response.
    pub(crate) fn ask(
        &self,
        method: Method,
        url: &str,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Option<(u16, Vec<u8>)> {
        let request = with(self.client.request(method, url));
        self.runtime.block_on(async {
            let response = request.send().await.ok()?;
            let status = response.status().as_u16();
            Some((status, response.bytes().await.ok()?.to_vec()))
        })
    }

    /// Sends a GET request and returns the body. Panics unless the request succeeds.
    pub(crate) fn get(&self, url: &str) -> Vec<u8> {
        let (status, body) = self.ask(Method::GET, url, |request| request).expect("an answer");
        assert_eq!(status, 200, "{url}: {}", String::from_utf8_lossy(&body));
        body
    }
}

/// Delivers all items to a target of this configuration.
pub(crate) fn sync(config: &Path, target: &str) {
    let mut command = Command::new(PROGRAM);
    command.args(["sync", target, "--once", "--config"]).arg(config).stdin(Stdio::null());
    let ran: Ran = command.output().expect("the program").into();
    assert_eq!(ran.code, 0, "{ran:?}");
}

/// Deletes the state of a target, as if the program had been killed before it could save the state.
pub(crate) fn forget(temp: &TempRun, target: &str) {
    let state = temp.store().join("sync").join(target);
    std::fs::remove_dir_all(state).expect("what the target has");
}
