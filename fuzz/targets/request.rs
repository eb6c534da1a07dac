//! Any request to the gallery of a small store. Whatever it asks, the gallery answers, does not panic, and does not
//! report that its store fails.
#![no_main]

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use libfuzzer_sys::{Corpus, fuzz_target};
use safelight::cli;

/// How long a request may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The addresses. `/api/v1/events` is left out: it does not end.
const PATHS: [&str; 22] = [
    "/",
    "/grid",
    "/api/v1/info",
    "/api/v1/runs",
    "/api/v1/keys",
    "/api/v1/steps",
    "/api/v1/at",
    "/api/v1/items",
    "/api/v1/item",
    "/api/v1/boxes",
    "/api/v1/mask.png",
    "/api/v1/values.npy",
    "/api/v1/histogram",
    "/api/v1/develop.png",
    "/api/v1/compare",
    "/api/v1/compare.png",
    "/api/v1/frames",
    "/api/v1/export.tar",
    "/m/0123456789abcdef0123.png",
    "/t/128/0123456789abcdef0123",
    "/t/256/",
    "/a/",
];

/// The socket of a gallery of the digits, which is started once.
fn socket() -> &'static Path {
    static SOCKET: OnceLock<PathBuf> = OnceLock::new();
    SOCKET.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder").keep();
        let store = folder.join("store").display().to_string();
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits/run");
        let run = run.display().to_string();
        let mut out = Vec::new();
        assert_eq!(cli::main_of(["safelight", "ingest", &run, "--store", &store], &mut out), 0);
        let socket = folder.join("gallery.sock");
        let listen = format!("unix:{}", socket.display());
        thread::spawn(move || {
            let command = ["safelight", "gallery", "--store", &store, "--listen", &listen];
            panic!("the gallery ended with {}", cli::main_of(command, &mut Vec::new()));
        });
        let start = Instant::now();
        // It answers 503 until the store is open.
        while !answer(&socket, "/api/v1/info")
            .is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
        {
            assert!(start.elapsed() < ANSWER_MAX, "the gallery does not start");
            thread::sleep(Duration::from_millis(10));
        }
        socket
    })
}

/// The answer to a request, with its head.
fn answer(socket: &Path, target: &str) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let head = "Host: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(format!("GET {target} HTTP/1.1\r\n{head}").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// A query that has these bytes: what may not stand in a URL is percent-encoded. The HTTP library itself refuses it.
fn query(bytes: &[u8]) -> String {
    let encode = |byte: &u8| match byte {
        b'!'..=b'~' if !b"\"#<>".contains(byte) => char::from(*byte).to_string(),
        byte => format!("%{byte:02x}"),
    };
    bytes.iter().map(encode).collect()
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((route, rest)) = input.split_first() else { return Corpus::Reject };
    let path = PATHS[usize::from(*route) % PATHS.len()];
    let target = format!("{path}?{}", query(rest));
    let answer = answer(socket(), &target).expect("an answer within ten seconds");
    let text = String::from_utf8_lossy(&answer);
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|text| text.get(..3)).unwrap_or_default();
    assert!(!status.starts_with('5') && !status.is_empty(), "{target:?}: {text}");
    if status.starts_with('4') && path.starts_with("/api/") {
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let problem: serde_json::Value = serde_json::from_str(body).expect("a problem in JSON");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{body}");
    }
    Corpus::Keep
});
