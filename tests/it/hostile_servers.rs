//! Hostile and broken servers: a target of each kind at each of them, all in one daemon beside a well-behaved target.
//!
//! Each bad target must name its trouble within seconds, and none may take memory, leak a secret, follow a redirection
//! or keep the daemon from stopping. The well-behaved target gets every image.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Daemon, TempRun, wait_for_all};
use crate::sync::delivered;

/// Secrets of all bad targets. Each is also looked for in base64 and percent-encoded.
const TOKEN: &str = "s3cr3t/T0k3n+of=ours";
const TOKEN_ENCODED: &str = "s3cr3t%2FT0k3n%2Bof%3Dours";
const TOKEN_BASE64: &str = "czNjcjN0L1QwazNuK29mPW91cnM";

/// What a server does with each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evil {
    /// Redirects to another server, which must never be asked.
    Redirect,
    /// Redirects to the same place for ever.
    Loop,
    EndlessBody,
    EndlessHead,
    /// Sends a byte of the body every second.
    Drip,
    /// Answers 200 and nothing.
    Nothing,
    /// Announces 10^13 bytes, and sends 1000.
    LyingLength,
    /// Answers with JSON or XML that is not expected.
    OtherJson,
    /// Answers with JSON of 7 MB, made of small arrays.
    HugeJson,
    EndlessForbidden,
    /// Closes the connection within the answer, one byte later each time.
    Reset,
    /// Repeats the request in fields of a good answer, with 5 MB behind it.
    Echo,
    /// Repeats the request in an error.
    EchoForbidden,
}

const ALL: [Evil; 13] = [
    Evil::Redirect,
    Evil::Loop,
    Evil::EndlessBody,
    Evil::EndlessHead,
    Evil::Drip,
    Evil::Nothing,
    Evil::LyingLength,
    Evil::OtherJson,
    Evil::HugeJson,
    Evil::EndlessForbidden,
    Evil::Reset,
    Evil::Echo,
    Evil::EchoForbidden,
];

impl Evil {
    /// Returns what the trouble of a target at this server says: over the JSON of a server, and over S3. `None` if the
    /// request is still under way.
    fn words(self) -> Option<[&'static str; 2]> {
        Some(match self {
            Self::Redirect | Self::Loop => ["which is not followed", "which is not followed"],
            Self::EndlessBody => ["more than 8388608 bytes", "more than 67108864 bytes"],
            Self::EndlessHead | Self::LyingLength => ["error", "error"],
            Self::Drip => return None,
            Self::Nothing | Self::OtherJson | Self::HugeJson | Self::Echo => {
                ["did not answer with the expected JSON", "without a new line"]
            }
            Self::EndlessForbidden | Self::EchoForbidden => ["403", "403"],
            Self::Reset => ["", ""],
        })
    }
}

/// Requests that a server got: their heads.
type Heads = Arc<Mutex<Vec<String>>>;

/// Starts a server. `other` is the address to which [`Evil::Redirect`] redirects.
fn serve(evil: Option<Evil>, other: SocketAddr) -> (SocketAddr, Heads) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let heads = Heads::default();
    let seen = heads.clone();
    let accept = move || {
        for (n, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let heads = seen.clone();
            let answer = move || {
                let mut stream = stream;
                let Some(head) = request_head(&mut stream) else { return };
                heads.lock().expect("heads").push(head.clone());
                if let Some(evil) = evil {
                    // The client closes the connection.
                    answer(evil, n, &head, other, &mut stream).ok();
                }
            };
            thread::Builder::new().name("answer".to_owned()).spawn(answer).expect("a thread");
        }
    };
    thread::Builder::new().name("server".to_owned()).spawn(accept).expect("a thread");
    (address, heads)
}

/// Reads a request to its end, and returns its head.
fn request_head(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.lines().filter_map(|line| line.split_once(':'));
    let mut length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.find_map(|(_, length)| length.trim().parse().ok()).unwrap_or(0);
    std::io::copy(&mut stream.take(length), &mut std::io::sink()).ok()?;
    Some(head)
}

/// Headers that S3 needs.
const S3: &str = "etag: \"e\"\r\nlast-modified: Thu, 26 Nov 2026 10:00:00 GMT\r\n";

fn answer(
    evil: Evil,
    n: usize,
    head: &str,
    other: SocketAddr,
    stream: &mut TcpStream,
) -> std::io::Result<()> {
    let whole = |status: &str, headers: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\n{S3}{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    let path = head.split(' ').nth(1).unwrap_or("/");
    // A program may repeat a secret as it is, in base64, or percent-encoded.
    let echo = format!("{} {TOKEN_BASE64}== {TOKEN_ENCODED}", head.replace("\r\n", " "));
    match evil {
        Evil::Redirect => {
            let status = if n.is_multiple_of(2) { "302 Found" } else { "307 Temporary Redirect" };
            let to = format!("location: http://{other}{path}?x={TOKEN_ENCODED}\r\n");
            write!(stream, "{}", whole(status, &to, ""))
        }
        Evil::Loop => {
            let to = format!("location: {path}\r\n");
            write!(stream, "{}", whole("307 Temporary Redirect", &to, ""))
        }
        Evil::EndlessBody | Evil::EndlessForbidden => {
            let status = if evil == Evil::EndlessBody { "200 OK" } else { "403 Forbidden" };
            write!(stream, "HTTP/1.1 {status}\r\n{S3}content-length: 10000000000000\r\n\r\n")?;
            loop {
                stream.write_all(&[b'x'; 1 << 14])?;
            }
        }
        Evil::EndlessHead => {
            write!(stream, "HTTP/1.1 200 OK\r\n")?;
            for i in 0.. {
                write!(stream, "x-{i}: {}\r\n", "x".repeat(1000))?;
            }
            Ok(())
        }
        Evil::Drip => {
            write!(stream, "HTTP/1.1 200 OK\r\n{S3}content-length: 1000\r\n\r\n")?;
            loop {
                stream.write_all(b" ")?;
                thread::sleep(Duration::from_secs(1));
            }
        }
        Evil::Nothing => write!(stream, "{}", whole("200 OK", "", "")),
        Evil::LyingLength => {
            write!(stream, "HTTP/1.1 200 OK\r\n{S3}content-length: 10000000000000\r\n\r\n")?;
            stream.write_all(&[b'x'; 1000])
        }
        Evil::OtherJson => write!(stream, "{}", whole("200 OK", "", "{\"a\": [1]}")),
        Evil::HugeJson => {
            let body = format!("{{\"a\": [{}0]}}", "[[],{}],".repeat(900_000));
            write!(stream, "{}", whole("200 OK", "", &body))
        }
        Evil::Reset => {
            let text = whole("200 OK", "", "{}");
            stream.write_all(&text.as_bytes()[..n % text.len()])
        }
        Evil::Echo => {
            let body =
                serde_json::json!({"experiment": echo, "paths": echo, "x": "x".repeat(5 << 20)});
            write!(stream, "{}", whole("200 OK", "", &body.to_string()))
        }
        Evil::EchoForbidden => {
            let body = serde_json::json!({"message": echo}).to_string();
            write!(stream, "{}", whole("403 Forbidden", "", &body))
        }
    }
}

/// Returns the peak of the daemon's resident memory, in bytes.
fn peak_bytes(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.child.id())).expect("status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    peak.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Returns the trouble of each target that has one.
fn troubles(temp: &TempRun) -> Vec<(String, String)> {
    let status = temp.status();
    let targets = status["targets"].as_array().expect("targets");
    let trouble = |target: &Value| {
        let text = |field: &str| target[field].as_str().map(str::to_owned);
        Some((text("name")?, text("trouble")?))
    };
    targets.iter().filter_map(trouble).collect()
}

/// Checks that no form of the secret is in a text.
fn check_hidden(what: &str, text: &str) {
    for form in [TOKEN, TOKEN_ENCODED, TOKEN_BASE64] {
        assert!(!text.contains(form), "{form} is in {what}: {text:.2000}");
    }
}

#[test]
fn bad_servers_cost_no_memory_no_secret_and_no_other_target() {
    let temp = TempRun::new();
    fs::write(temp.folder().join("token"), TOKEN).expect("a file");
    let (other, asked_elsewhere) = serve(None, SocketAddr::from(([127, 0, 0, 1], 1)));
    let folder = temp.folder().display().to_string();
    let mut settings = format!(
        "[sync.good]\nkind = \"object_store\"\nurl = \"file://{folder}/bucket\"\nbox = \"gpu-17\"\n\
         manifest_s = 0\n"
    );
    let mut servers = Vec::new();
    let token = "{ file = \"token\" }";
    for evil in ALL {
        let (address, heads) = serve(Some(evil), other);
        writeln!(
            settings,
            "[sync.mlflow-{evil:?}]\nkind = \"mlflow\"\nurl = \"http://{address}\"\ntoken = {token}\n\
             [sync.trackio-{evil:?}]\nkind = \"trackio\"\nurl = \"http://{address}\"\ntoken = {token}\n\
             [sync.s3-{evil:?}]\nkind = \"object_store\"\nurl = \"s3://b/p\"\nregion = \"eu-1\"\nmanifest_s = 0\n\
             endpoint = \"http://{address}\"\naccess_key_id = {token}\nsecret_access_key = {token}\n\
             session_token = {token}"
        )
        .expect("settings");
        servers.push(heads);
    }
    temp.log_picture("k", 0, 0);
    let daemon = temp.daemon(&settings);
    let bucket = temp.folder().join("bucket");
    wait_for_all("the first image", 1, || delivered(&bucket).len() as u64);

    let start = Instant::now();
    let mut waiting: Vec<String> = ALL
        .iter()
        .filter(|evil| evil.words().is_some())
        .flat_map(|evil| ["mlflow", "trackio", "s3"].map(|sink| format!("{sink}-{evil:?}")))
        .collect();
    while !waiting.is_empty() {
        let troubles = troubles(&temp);
        waiting.retain(|name| troubles.iter().all(|(other, _)| other != name));
        assert!(start.elapsed() < Duration::from_secs(45), "no trouble at {waiting:?}");
        thread::sleep(Duration::from_millis(100));
    }
    let took = start.elapsed();
    for (name, trouble) in troubles(&temp) {
        let (sink, evil) = name.split_once('-').expect("a name");
        let evil = ALL.into_iter().find(|one| format!("{one:?}") == evil).expect("a server");
        let Some([over_json, over_s3]) = evil.words() else { continue };
        let want = if sink == "s3" { over_s3 } else { over_json };
        assert!(trouble.contains(want), "{name}: got {trouble:?}, want {want:?}");
        assert!(trouble.chars().count() <= 1001 && !trouble.contains('\n'), "{name}: {trouble}");
        check_hidden(&name, &trouble);
    }
    // Images that come now reach the well-behaved target.
    for n in 1..20 {
        temp.log_picture("k", n, n);
    }
    wait_for_all("the images", 20, || delivered(&bucket).len() as u64);

    assert!(servers.iter().all(|heads| !heads.lock().expect("heads").is_empty()));
    let elsewhere = asked_elsewhere.lock().expect("heads");
    assert!(elsewhere.is_empty(), "a redirection was followed: {elsewhere:?}");
    let peak = peak_bytes(&daemon);
    eprintln!("peak {} MB, troubles after {took:?}", peak >> 20);
    assert!(peak < 700 << 20, "{} MB", peak >> 20);
    let log = daemon.log_text();
    check_hidden("the log", &log);
    assert!(log.len() < 200_000, "{} bytes of log", log.len());
    for state in fs::read_dir(temp.store().join("sync")).into_iter().flatten().flatten() {
        for file in fs::read_dir(state.path()).into_iter().flatten().flatten() {
            check_hidden("a state", &fs::read_to_string(file.path()).expect("a state"));
        }
    }
    let (code, took) = daemon.stop();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// Starts a server that answers as `MLflow` and as Trackio do, and keeps nothing.
fn serve_well() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let accept = move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let Some(head) = request_head(&mut stream) else { continue };
            let path = head.split(' ').nth(1).unwrap_or("/");
            let info = "{\"run_id\":\"r1\",\"experiment_id\":\"1\",\"lifecycle_stage\":\"active\",\
                        \"artifact_uri\":\"mlflow-artifacts:/1/r1/artifacts\"}";
            let body = match path.rsplit('/').next().unwrap_or("") {
                name if name.starts_with("get-by-name") => {
                    "{\"experiment\":{\"experiment_id\":\"1\",\"lifecycle_stage\":\"active\"}}"
                        .to_owned()
                }
                "search" => format!("{{\"runs\":[{{\"info\":{info}}}]}}"),
                "upload" => "{\"paths\":[\"/tmp/1\"]}".to_owned(),
                name if name.starts_with("get?") => format!("{{\"run\":{{\"info\":{info}}}}}"),
                _ => "{}".to_owned(),
            };
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            )
            .ok();
        }
    };
    thread::Builder::new().name("server".to_owned()).spawn(accept).expect("a thread");
    address
}

/// Writes a gray picture of `side`² pixels as PNG.
fn write_large_png(path: &std::path::Path, side: u32) {
    let file = std::io::BufWriter::new(fs::File::create(path).expect("a file"));
    let mut encoder = png::Encoder::new(file, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().expect("a header");
    let mut rows = writer.stream_writer().expect("a writer");
    let row = vec![7; side as usize];
    for _ in 0..side {
        rows.write_all(&row).expect("a row");
    }
    rows.finish().expect("an image");
}

#[test]
fn deliveries_of_large_inputs_take_little_memory() {
    let temp = TempRun::new();
    // 10^8 pixels in a small file, and a config of 1 MB that is made of small parts.
    fs::create_dir_all(temp.at("tensors")).expect("a folder");
    write_large_png(&temp.at("tensors/large.png"), 9999);
    temp.append("a.media.jsonl", "{\"key\":\"large\",\"step\":0,\"data\":\"tensors/large.png\"}\n");
    let parts = (0..80_000).map(|n| format!("\"k{n}\":{{}}")).collect::<Vec<_>>().join(",");
    temp.write("safelight.json", format!("{{\"config\":{{{parts}}}}}").as_bytes());
    for n in 0..60 {
        temp.log_picture("k", n, n);
    }
    let address = serve_well();
    let folder = temp.folder().display().to_string();
    let settings = format!(
        "[sync.mlflow]\nkind = \"mlflow\"\nurl = \"http://{address}\"\n\
         [sync.trackio]\nkind = \"trackio\"\nurl = \"http://{address}\"\n\
         [sync.inbox]\nkind = \"trackio\"\npath = \"{folder}/trackio\"\n\
         [sync.wandb]\nkind = \"wandb\"\npath = \"{folder}/wandb\"\n\
         [sync.tensorboard]\nkind = \"tensorboard\"\npath = \"{folder}/tb\"\n"
    );
    let daemon = temp.daemon(&settings);
    let targets = || temp.status()["targets"].as_array().expect("targets").clone();
    let delivered = |target: &Value| target["delivered"].as_u64().expect("a number");
    wait_for_all("the deliveries", 5 * 61, || targets().iter().map(delivered).sum());
    let peak = peak_bytes(&daemon);
    eprintln!("peak {} MB", peak >> 20);
    assert!(peak < 400 << 20, "{} MB: {:?}", peak >> 20, targets());
    assert_eq!(daemon.stop().0, Some(0));
}
