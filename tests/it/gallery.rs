//! The gallery over its sockets: every route, who may ask, and clients that do not behave.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Daemon, PROGRAM, TempRun, send_signal, wait_for};

/// How long an answer may take. It takes some milliseconds on a quiet machine.
const ANSWER_MAX: Duration = Duration::from_secs(30);

const ON_SOCKET: &str = "[gallery]\nlisten = \"unix:gallery.sock\"\n";

/// What a client reads.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Reads a whole answer, whose connection is then closed.
    pub(crate) fn read(mut stream: impl Read) -> Self {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer");
        let at =
            bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("the end of the head");
        let head = String::from_utf8_lossy(&bytes[..at]).to_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Self { status: status.expect("a status"), head, body: bytes.split_off(at + 4) }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    fn code(&self) -> String {
        self.json()["code"].as_str().expect("a code").to_owned()
    }
}

pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut lines = vec![format!("{method} {path} HTTP/1.1"), "Connection: close".to_owned()];
    if !headers.iter().any(|(name, _)| *name == "Host") {
        lines.push("Host: localhost:7878".to_owned());
    }
    lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
    lines.join("\r\n") + "\r\n\r\n"
}

fn connect(temp: &TempRun) -> UnixStream {
    let stream = UnixStream::connect(temp.folder().join("gallery.sock")).expect("the socket");
    stream.set_read_timeout(Some(ANSWER_MAX)).expect("a timeout");
    stream
}

fn ask_with(temp: &TempRun, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut stream = connect(temp);
    stream.write_all(request(method, path, headers).as_bytes()).expect("a request");
    Answer::read(stream)
}

fn ask(temp: &TempRun, path: &str) -> Answer {
    ask_with(temp, "GET", path, &[])
}

/// A run with an image and a held item, and a daemon whose gallery is on a unix socket.
fn daemon(temp: &TempRun, settings: &str) -> Daemon {
    temp.log_picture("val/pred", 10, 1);
    temp.log_picture("val/pred", 10, 2);
    temp.log_picture("val/pred", 20, 3);
    let daemon = temp.daemon(&format!("[limits]\nmax_items = 1\n{settings}"));
    wait_for("the items", || temp.counts() == [2, 1, 0]);
    daemon
}

const PLACE: &str = "run=run&key=val/pred&step=10&index=0";

/// The addresses of the gallery, each with parameters that it accepts.
fn routes(item: &Value) -> Vec<(&'static str, String)> {
    let sha20 = &item["sha256"].as_str().expect("a digest")[..20];
    let place = |path: &str| format!("{path}?{PLACE}");
    let both = format!("a={}&b={}", "run%3Drun", "run%3Drun");
    vec![
        ("/", "/".to_owned()),
        ("/grid", "/grid?run=run".to_owned()),
        ("/item", place("/item")),
        ("/compare", "/compare".to_owned()),
        ("/search", "/search?q=a".to_owned()),
        ("/a/{*path}", "/a/none.js".to_owned()),
        ("/api/v1/info", "/api/v1/info".to_owned()),
        ("/api/v1/runs", "/api/v1/runs".to_owned()),
        ("/api/v1/keys", "/api/v1/keys?run=run".to_owned()),
        ("/api/v1/steps", "/api/v1/steps?run=run&key=val/pred".to_owned()),
        ("/api/v1/at", "/api/v1/at?run=run&step=last".to_owned()),
        ("/api/v1/items", "/api/v1/items?run=run&q=nan=0".to_owned()),
        ("/api/v1/item", place("/api/v1/item")),
        ("/api/v1/events", "/api/v1/events".to_owned()),
        ("/api/v1/boxes", place("/api/v1/boxes") + "&layer=a"),
        ("/api/v1/mask.png", place("/api/v1/mask.png") + "&layer=a"),
        ("/api/v1/values.npy", place("/api/v1/values.npy")),
        ("/api/v1/histogram", place("/api/v1/histogram")),
        ("/api/v1/develop.png", place("/api/v1/develop.png")),
        ("/api/v1/compare", format!("/api/v1/compare?{both}")),
        ("/api/v1/compare.png", format!("/api/v1/compare.png?{both}")),
        ("/api/v1/frames", "/api/v1/frames?run=run&key=val/pred&steps=10".to_owned()),
        ("/api/v1/export.tar", "/api/v1/export.tar?run=run".to_owned()),
        ("/m/{name}", format!("/m/{sha20}.png?{PLACE}")),
        ("/t/{size}/{name}", format!("/t/128/{sha20}?{PLACE}")),
    ]
}

/// The addresses in the source of the gallery.
fn routes_in_source() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gallery");
    let mut folders = vec![folder];
    let mut routes = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let text = fs::read_to_string(entry.path()).expect("a source");
            let calls = text.split(".route(").skip(1);
            let paths =
                calls.filter_map(|call| call.trim_start().strip_prefix('"')?.split('"').next());
            routes.extend(paths.map(str::to_owned));
        }
    }
    routes
}

#[test]
fn every_route_is_guarded_and_changes_nothing() {
    let temp = TempRun::new();
    let daemon = daemon(&temp, ON_SOCKET);
    let routes = routes(&temp.items()[0]);
    for route in routes_in_source() {
        assert!(routes.iter().any(|(known, _)| *known == route), "{route} is not in the list");
    }
    let before = temp.journaled_items();
    for (route, path) in &routes {
        let is_page = !route.starts_with("/api") && route.matches('/').count() == 1;
        for (headers, want) in [
            (vec![("Host", "evil.example")], "host"),
            (vec![("Host", "localhost.evil.example:7878")], "host"),
            (vec![("Host", "localhost"), ("Host", "evil.example")], "host"),
            (vec![("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")], "cross-site"),
            (vec![("Sec-Fetch-Site", "same-site"), ("Sec-Fetch-Mode", "cors")], "cross-site"),
        ] {
            let answer = ask_with(&temp, "GET", path, &headers);
            // Two hosts are refused before anything else looks at them.
            let is_refused = answer.status == 400 && headers.len() > 1 && want == "host";
            assert!(
                is_refused || (answer.status, &*answer.code()) == (403, want),
                "{path}: {answer:?}"
            );
        }
        let link = [
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Mode", "navigate"),
            ("Sec-Fetch-Dest", "document"),
        ];
        let linked = ask_with(&temp, "HEAD", path, &link).status;
        assert_eq!(linked == 403, !is_page, "{path}");
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
            let answer = ask_with(&temp, method, path, &[]);
            assert_eq!((answer.status, answer.header("allow")), (405, Some("get, head")), "{path}");
            assert_eq!(answer.code(), "method");
        }
        let body = ask_with(&temp, "GET", path, &[("Content-Length", "5")]);
        assert_eq!((body.status, &*body.code()), (400, "bad-parameter"), "{path}");
        // The head tells all that is asked here, and ends also for a stream.
        let answer = ask_with(&temp, "HEAD", path, &[("Accept-Encoding", "gzip")]);
        assert!(answer.status < 500, "{path}: {answer:?}");
        for (name, want) in [
            ("x-content-type-options", "nosniff"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(answer.header(name), Some(want), "{path}");
        }
        let policy = answer.header("content-security-policy").expect("a policy");
        let want = if is_page { "; script-src 'self'; style-src 'self'; " } else { "; sandbox" };
        assert!(policy.starts_with("default-src 'none'; ") && policy.contains(want), "{path}");
        assert!(!policy.contains("unsafe"), "{policy}");
        let caching = answer.header("cache-control").expect("a rule").to_owned();
        assert!(caching == "no-store" || caching.starts_with("private, "), "{path}: {caching}");
        let kind = answer.header("content-type").unwrap_or_default();
        assert!(!kind.contains("html") || is_page, "{path}: {kind}");
    }
    assert_eq!(temp.journaled_items(), before);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn addresses_that_do_not_exist_and_bad_parameters_are_problems() {
    let temp = TempRun::new();
    let daemon = daemon(&temp, ON_SOCKET);
    for (path, want) in [
        ("/nothing", (404, "not-found")),
        ("/api/v1", (404, "not-found")),
        ("/api/v1/keys", (400, "bad-parameter")),
        ("/api/v1/keys?run=none", (404, "not-found")),
        ("/api/v1/keys?run=run&rum=x", (400, "bad-parameter")),
        ("/api/v1/steps?run=run&key=none", (404, "not-found")),
        ("/api/v1/at", (400, "bad-parameter")),
        ("/api/v1/at?run=run&step=-1", (400, "bad-parameter")),
        ("/api/v1/items?where=nam>0", (400, "bad-parameter")),
        ("/api/v1/item?run=run&key=val/pred&step=11", (404, "not-found")),
        ("/a/../../../etc/passwd", (404, "not-found")),
        ("/a/..%2f..%2f..%2fetc%2fpasswd", (404, "not-found")),
        ("/a/%2e%2e/%2e%2e/etc/passwd", (404, "not-found")),
        ("//etc/passwd", (404, "not-found")),
    ] {
        let answer = ask(&temp, &path.replace('>', "%3E"));
        assert_eq!((answer.status, &*answer.code()), want, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
        assert!(!answer.json()["detail"].as_str().unwrap_or_default().is_empty());
    }
    // A browser that goes to an address that does not exist gets a page, also below the API.
    for path in ["/nothing", "/runs", "/api/v1", "//etc/passwd"] {
        let accept = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");
        let answer = ask_with(&temp, "GET", path, &[accept]);
        assert_eq!(answer.status, 404, "{path}");
        let kind = answer.header("content-type");
        assert_eq!(kind, Some("text/html; charset=utf-8"), "{path}");
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.contains("script-src 'self'; ") && !policy.contains("unsafe"), "{policy}");
    }
    let long = format!("/api/v1/keys?run={}", "x".repeat(17 << 10));
    assert_eq!(Answer::read(sent(&temp, &request("GET", &long, &[]))).status, 431);
    assert_eq!(daemon.stop().0, Some(0));
}

fn sent(temp: &TempRun, text: &str) -> UnixStream {
    let mut stream = connect(temp);
    // The server may close before it has read everything.
    stream.write_all(text.as_bytes()).ok();
    stream
}

#[test]
fn a_media_file_that_became_a_link_is_not_served() {
    let temp = TempRun::new();
    let daemon = daemon(&temp, ON_SOCKET);
    let item = &temp.items()[0];
    let (path, sha) = (item["path"].as_str().expect("a path"), item["sha256"].as_str());
    let address = format!("/m/{}.png?{PLACE}", &sha.expect("a digest")[..20]);
    let good = ask(&temp, &address);
    assert_eq!((good.status, good.header("content-type")), (200, Some("image/png")));
    let secret = temp.folder().join("secret");
    fs::write(&secret, &good.body).expect("a file");
    let media = temp.store().join(path);
    fs::remove_file(&media).expect("a media file");
    std::os::unix::fs::symlink(&secret, &media).expect("a link");
    for address in [address, format!("/t/128/{}?{PLACE}", &sha.expect("a digest")[..20])] {
        let answer = ask(&temp, &address);
        assert!(answer.status >= 400, "{address}: {answer:?}");
    }
    assert_eq!(daemon.stop().0, Some(0));
}

/// The gallery's address, as the command prints it.
fn address(temp: &TempRun, settings: &str) -> Value {
    let ran = temp.run_with(settings, &["gallery", "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    serde_json::from_str(&ran.out).expect("JSON")
}

#[test]
fn a_port_asks_for_a_login() {
    let temp = TempRun::new();
    fs::write(temp.folder().join("token"), "secret\n").expect("a token");
    let settings = "[gallery]\nlisten = \"127.0.0.1:0\"\ntoken = { file = \"token\" }\n";
    let daemon = daemon(&temp, settings);
    let settings = format!("[limits]\nmax_items = 1\n{settings}");
    let given = address(&temp, &settings);
    let place = given["listen"].as_str().expect("a place").to_owned();
    let ask = |path: &str, headers: &[(&str, &str)]| {
        let mut stream = TcpStream::connect(&*place).expect("a connection");
        stream.write_all(request("GET", path, headers).as_bytes()).expect("a request");
        Answer::read(stream)
    };
    for (_, path) in routes(&temp.items()[0]) {
        let answer = ask(&path, &[]);
        assert_eq!(answer.status, 401, "{path}");
        let is_json = answer.header("content-type") == Some("application/problem+json");
        assert!(!is_json || answer.code() == "login", "{answer:?}");
    }
    // Whoever wants a page gets one.
    for (path, accept, want) in [
        ("/", "*/*", "text/html; charset=utf-8"),
        ("/nothing", "text/html,*/*;q=0.8", "text/html; charset=utf-8"),
        ("/nothing", "*/*", "application/problem+json"),
    ] {
        let answer = ask(path, &[("Accept", accept)]);
        assert_eq!((answer.status, answer.header("content-type")), (401, Some(want)), "{path}");
        let is_sandboxed =
            answer.header("content-security-policy").expect("a policy").contains("sandbox");
        assert_eq!(is_sandboxed, want != "text/html; charset=utf-8", "{path}");
    }
    assert_eq!(ask("/api/v1/info", &[("Authorization", "Bearer secret")]).status, 200);
    assert_eq!(ask("/api/v1/info", &[("Authorization", "Bearer other")]).status, 401);
    let url = given["url"].as_str().expect("an address");
    let (_, code) = url.split_once("/?").expect("a code");
    let path = format!("/grid?run=run&{code}");
    // Programs that preview links use no code up.
    let mut stream = TcpStream::connect(&*place).expect("a connection");
    stream.write_all(request("HEAD", &path, &[]).as_bytes()).expect("a request");
    assert_eq!(Answer::read(stream).status, 401);
    let answer = ask(&path, &[]);
    assert_eq!((answer.status, answer.header("location")), (303, Some("/grid?run=run")));
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(text.is_empty(), "{text}");
    assert_eq!(ask(&path, &[]).status, 401, "the code is used");
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_login_lasts_as_long_as_the_daemon() {
    let temp = TempRun::new();
    let settings = "[gallery]\nlisten = \"127.0.0.1:0\"\n";
    let running = daemon(&temp, settings);
    let settings = format!("[limits]\nmax_items = 1\n{settings}");
    let log_in = || {
        let given = address(&temp, &settings);
        let place = given["listen"].as_str().expect("a place").to_owned();
        let (_, code) = given["url"].as_str().and_then(|url| url.split_once("/?")).expect("a code");
        let mut stream = TcpStream::connect(&*place).expect("a connection");
        let head = request("GET", &format!("/?{code}"), &[]);
        stream.write_all(head.as_bytes()).expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let cookie = text.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        let cookie = cookie.expect("a cookie").to_owned();
        assert!(cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
        (place, cookie.split(';').next().expect("a cookie").to_owned())
    };
    let info = |place: &str, cookie: &str| {
        let mut stream = TcpStream::connect(place).expect("a connection");
        let head = request("GET", "/api/v1/info", &[("Cookie", cookie)]);
        stream.write_all(head.as_bytes()).expect("a request");
        Answer::read(stream)
    };
    let (place, cookie) = log_in();
    let before = info(&place, &cookie);
    assert_eq!(before.status, 200);
    assert_eq!(running.stop().0, Some(0));
    let running = temp.daemon(&settings);
    let (place, other) = log_in();
    assert_eq!(info(&place, &cookie).status, 401);
    let after = info(&place, &other);
    assert_ne!(before.json()["boot"], after.json()["boot"]);
    assert_eq!(running.stop().0, Some(0));
}

/// Reads a stream of events up to one of this name. Returns its data.
fn event(stream: &mut impl BufRead, name: &str) -> Value {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(stream.read_line(&mut line).expect("a line") > 0, "the stream ended");
        if line.trim_end() == format!("event: {name}") {
            line.clear();
            stream.read_line(&mut line).expect("a line");
            let data = line.trim_end().strip_prefix("data: ").expect("data");
            return serde_json::from_str(data).expect("JSON");
        }
    }
}

#[test]
fn pages_hear_of_changes_and_of_another_daemon() {
    let temp = TempRun::new();
    let mut running = daemon(&temp, ON_SOCKET);
    let listen = || BufReader::new(sent(&temp, &request("GET", "/api/v1/events", &[])));
    let mut events = listen();
    let hello = event(&mut events, "hello");
    assert_eq!(hello["boot"], ask(&temp, "/api/v1/info").json()["boot"]);
    let keys = ask(&temp, "/api/v1/keys?run=run");
    assert_eq!(keys.json()[0]["image"], 2);
    // The first look must have happened.
    std::thread::sleep(Duration::from_secs(1));
    temp.log_picture("val/pred", 30, 4);
    let start = Instant::now();
    let changed = event(&mut events, "changed");
    assert!(start.elapsed() < ANSWER_MAX);
    assert_eq!((&changed["run"], &changed["key"]), (&"run".into(), &"val/pred".into()));
    assert_eq!((&changed["image"], &changed["last"]), (&3.into(), &30.into()));
    let etag = keys.header("etag").expect("an ETag").to_owned();
    let newer = ask_with(&temp, "GET", "/api/v1/keys?run=run", &[("If-None-Match", &etag)]);
    assert_eq!((newer.status, &newer.json()[0]["image"]), (200, &3.into()));
    let text = String::from_utf8_lossy(&sent_head(&temp, "/api/v1/keys?run=run")).into_owned();
    let etag = text.lines().find_map(|line| line.strip_prefix("etag: ")).expect("an ETag");
    let same = ask_with(&temp, "GET", "/api/v1/keys?run=run", &[("If-None-Match", etag)]);
    assert_eq!((same.status, same.body.len()), (304, 0));
    let page = ask(&temp, "/api/v1/items?run=run&limit=1").json();
    let next = page["next"].as_str().expect("a cursor").to_owned();

    // Killed and started again.
    running.child.kill().expect("a kill");
    running.child.wait().expect("its end");
    let mut rest = Vec::new();
    events.read_to_end(&mut rest).ok();
    let running = temp.daemon(&format!("[limits]\nmax_items = 1\n{ON_SOCKET}"));
    let boot = event(&mut listen(), "hello")["boot"].clone();
    assert_ne!(boot, hello["boot"]);
    let after = ask_with(&temp, "GET", "/api/v1/keys?run=run", &[("If-None-Match", etag)]);
    assert_eq!(after.status, 200);
    let page = ask(&temp, &format!("/api/v1/items?run=run&cursor={next}")).json();
    assert_eq!((page["items"].as_array().map(Vec::len), &page["looked_at"]), (Some(3), &4.into()));
    assert_eq!(running.stop().0, Some(0));
}

/// The answer to a request as it came.
fn sent_head(temp: &TempRun, path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    sent(temp, &request("GET", path, &[])).read_to_end(&mut bytes).expect("an answer");
    bytes
}

#[test]
fn slow_clients_keep_nobody_out_for_long() {
    let temp = TempRun::new();
    let daemon = daemon(&temp, ON_SOCKET);
    let slow: Vec<UnixStream> =
        (0..64).map(|_| sent(&temp, "GET /api/v1/info HTTP/1.1\r\nHost: loc")).collect();
    let refused = Answer::read(sent(&temp, &request("GET", "/api/v1/info", &[])));
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    // The daemon's own socket has its own limits.
    assert_eq!(temp.run(&["health"]).out, "healthy\n");
    let start = Instant::now();
    wait_for("the gallery", || {
        Answer::read(sent(&temp, &request("GET", "/api/v1/info", &[]))).status == 200
    });
    assert!(start.elapsed() < ANSWER_MAX, "{:?}", start.elapsed());
    drop(slow);
    // Clients that leave in the midst of an answer, and of a stream.
    for _ in 0..40 {
        drop(sent(&temp, &request("GET", "/api/v1/at?run=run", &[])));
        drop(sent(&temp, &request("GET", "/api/v1/events", &[])));
    }
    let is_answered = || ask(&temp, "/api/v1/info").status == 200;
    wait_for("room for connections", is_answered);
    let streams = || sent(&temp, &request("GET", "/api/v1/events", &[]));
    wait_for("room for streams", || event_status(streams()) == 200);
    let open: Vec<UnixStream> = (0..16).map(|_| streams()).collect();
    wait_for("too many streams", || event_status(streams()) == 429);
    assert!(is_answered());
    drop(open);
    let (code, elapsed) = daemon.stop();
    assert_eq!(code, Some(0));
    assert!(elapsed < ANSWER_MAX, "{elapsed:?}");
}

/// The status of an answer that may not end.
fn event_status(stream: UnixStream) -> u16 {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("a line");
    line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// A gallery without a daemon.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn without_a_daemon_the_command_serves_the_store_as_it_is() {
    let temp = TempRun::new();
    temp.log_picture("val/pred", 10, 1);
    assert_eq!(temp.ingest().code, 0);
    let copies = temp.folder().join("copies");
    fs::create_dir(&copies).expect("a folder");
    let mut child = Command::new(PROGRAM)
        .args(["gallery", "--listen", "unix:gallery.sock", "--json", "--store"])
        .arg(temp.store())
        .env("TMPDIR", &copies)
        .current_dir(temp.folder())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut served = Served(child);
    let mut line = String::new();
    out.read_line(&mut line).expect("an address");
    let given: Value = serde_json::from_str(&line).expect("JSON");
    assert!(given["ssh"].as_str().expect("a command").contains("gallery.sock"), "{given}");
    assert!(given["as_of"].is_number());
    // The store is free, and the gallery shows what was there.
    temp.log_picture("val/pred", 20, 2);
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(temp.counts(), [2, 0, 0]);
    let page = ask(&temp, "/api/v1/items").json();
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1));
    assert!(ask(&temp, "/api/v1/info").json()["as_of"].is_number());
    assert_eq!(fs::read_dir(&copies).expect("a folder").count(), 1);
    send_signal(&served.0, "-INT");
    assert_eq!(served.0.wait().expect("its end").code(), Some(0));
    assert_eq!(fs::read_dir(&copies).expect("a folder").count(), 0);
    assert!(!temp.folder().join("gallery.sock").is_file());
}

#[test]
fn a_daemon_without_a_gallery_says_how_to_have_one() {
    let temp = TempRun::new();
    let daemon = temp.daemon("");
    let ran = temp.run(&["gallery"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("serves no gallery: set `listen` in [gallery]"), "{ran:?}");
    assert_eq!(daemon.stop().0, Some(0));
    let ran = temp.run(&["gallery", "--listen", "0.0.0.0:0"]);
    assert!(ran.err.contains("needs `gallery.token` and `gallery.hosts`"), "{ran:?}");
}
