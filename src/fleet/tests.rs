//! A fleet in a directory.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use axum::Router;
use axum::http::{StatusCode, Uri, header};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::formats::object_store::media_name;
use crate::media::{MediaEntry, Sha256};
use crate::secrets::SecretSource;
use crate::store::media_check::NamedFile;
use crate::store::{Filter, StateFilter};

/// A directory that boxes have delivered to.
struct FleetDir(tempfile::TempDir);

impl FleetDir {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, content).expect("a file");
    }

    fn manifest(&self, folder: &str, n: u64, lines: &[Value]) {
        let lines = lines.iter().map(|line| line.to_string() + "\n");
        self.write(&format!("{folder}/{n:08}.jsonl"), lines.collect::<String>().as_bytes());
    }

    fn run_json(&self, folder: &str, of_box: &str, run: &str) {
        let json = json!({
            "v": 1, "box": of_box, "run": run, "project": "vision", "source": "/runs/there",
            "identity": {"name": "Net"},
        });
        self.write(&format!("{folder}/run.json"), json.to_string().as_bytes());
    }

    fn fleet(&self) -> Fleet {
        let url = url::Url::from_directory_path(self.0.path()).expect("a URL");
        Fleet::open(&ObjectStoreConfig::of_url(url.as_str()).expect("settings")).expect("a fleet")
    }
}

/// A line of run `r` of box `b`.
fn line(seq: u64, step: u64, fields: &Value) -> Value {
    let mut line = json!({
        "v": 1, "box": "b", "project": null, "run": "r", "seq": seq, "time": 1.5,
        "key": "k", "step": step, "index": 0, "source": {"path": "a.npy"},
    });
    for (name, value) in fields.as_object().expect("fields") {
        line[name] = value.clone();
    }
    line
}

fn image(seq: u64, step: u64, content: &[u8]) -> Value {
    let sha256 = Sha256::of(content);
    let fields = json!({
        "state": "image", "path": format!("runs/r/media/images/k_{step}.png"), "file_type": "png",
        "mode": "L", "width": 1, "height": 1, "size": content.len(), "sha256": sha256,
        "object": media_name(&sha256, "png"), "caption": format!("line {seq}"),
    });
    line(seq, step, &fields)
}

fn held(seq: u64, step: u64) -> Value {
    line(seq, step, &json!({"state": "held", "reason": format!("line {seq}")}))
}

fn id(text: &str) -> RunId {
    RunId::new(text).expect("an id")
}

/// The step of each item, and its caption or reason.
fn items(reader: &Reader, run: &str) -> Vec<(u64, String)> {
    let filter = Filter { run: Some(id(run)), ..Filter::default() };
    let of = |entry: MediaEntry| {
        let item = entry.to_json(&id(run));
        let text = item["caption"].as_str().or(item["reason"].as_str()).expect("text");
        (item["step"].as_u64().unwrap_or(u64::MAX), text.to_owned())
    };
    reader.items(&filter).expect("an index").map(|item| of(item.expect("an item").1)).collect()
}

fn named(text: &[(u64, &str)]) -> Vec<(u64, String)> {
    text.iter().map(|(step, text)| (*step, (*text).to_owned())).collect()
}

#[test]
fn runs_are_listed_box_by_box() {
    let dir = FleetDir::new();
    let long = "x".repeat(300);
    let folder = format!("runs/gpu-2/{}", id(&long).folder());
    for folder in ["runs/gpu-2/a%2Fb", "runs/gpu-1/exp", "runs/gpu-2/exp", &folder] {
        dir.manifest(folder, 1, &[]);
    }
    dir.write("runs/stray", b"a file");
    dir.write("media/aa/x.png", b"a picture");
    let fleet = dir.fleet();
    // The name of a shortened folder is not known before run.json says it.
    let runs = |of_box| {
        let runs = fleet.runs(of_box).expect("runs");
        runs.iter().map(|run| run.id().expect("an id").as_str().to_owned()).collect::<Vec<_>>()
    };
    let mut want = vec!["gpu-1/exp", "gpu-2/a/b", "gpu-2/exp"];
    assert_eq!(runs(None), want);
    dir.run_json(&folder, "gpu-2", &long);
    let long = format!("gpu-2/{long}");
    want.push(&long);
    assert_eq!(runs(None), want);
    assert_eq!(runs(Some("gpu-1")), want[..1]);
    assert_eq!(runs(Some("gpu-3")), want[..0]);
    fleet.list(Duration::ZERO).expect("runs");
    let listed = fleet.reader().run_counts().expect("an index");
    assert_eq!(listed.len(), 4);
    assert!(listed.iter().all(|run| run.image + run.held + run.rejected == 0));
    assert_eq!(FleetDir::new().fleet().runs(None).expect("runs"), []);
}

#[test]
fn a_run_is_read_once_and_then_its_new_manifests() {
    let dir = FleetDir::new();
    let folder = "runs/b/r";
    dir.run_json(folder, "b", "r");
    dir.manifest(folder, 1, &[image(1, 7, b"old"), held(2, 8), image(3, 9, b"x")]);
    let gone = line(5, 9, &json!({"state": "gone"}));
    let pruned = json!({"pruned": true});
    let pruned = pruned.as_object().expect("fields").iter();
    let mut again = image(6, 7, b"new");
    pruned.for_each(|(name, value)| again[name] = value.clone());
    // A line comes late.
    dir.manifest(folder, 2, &[gone, again, image(4, 9, b"late"), image(4, 7, b"late")]);
    let fleet = dir.fleet();
    let read = |age| fleet.read_run(&id("b/r"), age, |_, _| {}).expect("a run");
    assert_eq!(read(Duration::ZERO).n, 0);
    let want = named(&[(7, "line 6"), (8, "line 2")]);
    assert_eq!(items(fleet.reader(), "b/r"), want);
    let counts = fleet.reader().counts_of(&id("b/r")).expect("an index").expect("a run");
    assert_eq!((counts.image, counts.held, counts.pruned), (1, 1, 0));
    let info = fleet.reader().run_info(&id("b/r")).expect("a file").expect("a run");
    assert_eq!(info.identity["name"], "Net");

    dir.manifest(folder, 3, &[image(8, 8, b"released"), held(9, 10)]);
    read(Duration::from_mins(1));
    assert_eq!(items(fleet.reader(), "b/r"), want);
    // What was read is not read again.
    dir.manifest(folder, 1, &[]);
    read(Duration::ZERO);
    let want = named(&[(7, "line 6"), (8, "line 8"), (10, "line 9")]);
    assert_eq!(items(fleet.reader(), "b/r"), want);
    assert!(fleet.is_fresh(&id("b/r"), Duration::from_mins(1)));
    for other in ["b/other", "c/r", "r"] {
        let error = fleet.read_run(&id(other), Duration::ZERO, |_, _| {}).expect_err("no run");
        assert!(matches!(error, FleetError::NoRun { .. }), "{error}");
    }
}

#[test]
fn items_of_one_run_id_of_two_boxes_stay_apart() {
    let dir = FleetDir::new();
    for of_box in ["gpu-1", "gpu-2"] {
        let mut line = image(1, 7, of_box.as_bytes());
        (line["box"], line["caption"]) = (of_box.into(), of_box.into());
        dir.manifest(&format!("runs/{of_box}/r"), 1, &[line]);
    }
    let fleet = dir.fleet();
    for of_box in ["gpu-1", "gpu-2"] {
        let run = format!("{of_box}/r");
        fleet.read_run(&id(&run), Duration::ZERO, |_, _| {}).expect("a run");
        assert_eq!(items(fleet.reader(), &run), named(&[(7, of_box)]));
    }
}

#[test]
fn what_is_damaged_is_named_and_all_else_is_read() {
    let dir = FleetDir::new();
    let folder = "runs/b/r";
    let mut later = held(3, 9);
    later["v"] = 2.into();
    let mut other = held(4, 10);
    other["box"] = "c".into();
    let mut outside = image(5, 11, b"x");
    outside["object"] = "../../etc/passwd".into();
    dir.manifest(folder, 1, &[held(1, 7), "rubbish".into(), later, other, outside]);
    dir.write(&format!("{folder}/00000003.jsonl"), b"\xff\n{\n\n");
    dir.write(&format!("{folder}/backfilled.json"), b"{}");
    dir.manifest(folder, 4, &[held(6, 12)]);
    let fleet = dir.fleet();
    let damages = fleet.read_run(&id("b/r"), Duration::ZERO, |_, _| {}).expect("a run");
    assert_eq!(items(fleet.reader(), "b/r"), named(&[(7, "line 1"), (12, "line 6")]));
    assert_eq!(damages.n, 7);
    for (got, want) in damages.first.iter().zip([
        "runs/b/r/00000001.jsonl: line 2: got no item: ",
        "runs/b/r/00000001.jsonl: line 3: got a line of version 2, want at most 1",
        "runs/b/r/00000001.jsonl: line 4: got a line of run \"r\" of box \"c\"",
        "runs/b/r/00000001.jsonl: line 5: got object \"../../etc/passwd\"",
        "runs/b/r/00000002.jsonl: missing, 1 in a row",
        "runs/b/r/00000003.jsonl: line 1: got no item: ",
        "runs/b/r/00000003.jsonl: line 2: got no item: ",
    ]) {
        assert!(got.starts_with(want), "{got}");
    }
    let counts = fleet.reader().counts_of(&id("b/r")).expect("an index").expect("a run");
    assert_eq!(counts.damaged, 7);
}

#[test]
fn rejected_items_are_read_with_and_without_a_place() {
    let dir = FleetDir::new();
    let rejected = |seq: u64, step: Option<u64>, class: &str| {
        let fields = json!({
            "state": "rejected", "reason": format!("line {seq}"), "class": class, "step": step,
            "key": step.map(|_| "k"), "index": step.map(|_| 0),
        });
        line(seq, 0, &fields)
    };
    let mut of_log = rejected(1, None, "final");
    of_log["source"]["log"] = "a.media.jsonl".into();
    dir.manifest(
        "runs/b/r",
        1,
        &[of_log, rejected(2, Some(7), "waiting"), rejected(3, Some(8), "waiting")],
    );
    // One is tried again and makes an image, and one is rejected again.
    dir.manifest("runs/b/r", 2, &[image(4, 7, b"x"), rejected(5, Some(8), "waiting")]);
    let fleet = dir.fleet();
    fleet.read_run(&id("b/r"), Duration::ZERO, |_, _| {}).expect("a run");
    let want = named(&[(7, "line 4"), (8, "line 5"), (u64::MAX, "line 1")]);
    assert_eq!(items(fleet.reader(), "b/r"), want);
    let state = Some(StateFilter::Waiting);
    let filter = Filter { run: Some(id("b/r")), state, ..Filter::default() };
    assert_eq!(fleet.reader().items(&filter).expect("an index").count(), 1);
}

#[test]
fn a_dump_that_became_an_item_is_no_longer_rejected() {
    // Bug: a dump that was rejected without an index was listed as waiting beside the images that it became.
    let dir = FleetDir::new();
    let rejected = |seq: u64, step: u64, path: &str, class: &str| {
        let fields = json!({
            "state": "rejected", "reason": format!("line {seq}"), "class": class, "index": null,
            "source": {"path": path},
        });
        line(seq, step, &fields)
    };
    let of = |path: &str, mut line: Value| {
        line["source"]["path"] = path.into();
        line
    };
    let lines = [
        rejected(1, 7, "a.npy", "waiting"),
        rejected(2, 8, "b.npy", "final"),
        rejected(3, 9, "c.npy", "waiting"),
        rejected(4, 9, "c.npy", "waiting"),
        // In the same manifest.
        of("a.npy", image(5, 7, b"x")),
        // Of other dumps.
        of("d.npy", image(6, 8, b"x")),
        of("e.npy", image(7, 10, b"x")),
    ];
    dir.manifest("runs/b/r", 1, &lines);
    let fleet = dir.fleet();
    let n_waiting = || {
        let state = Some(StateFilter::Waiting);
        let filter = Filter { run: Some(id("b/r")), state, ..Filter::default() };
        fleet.reader().items(&filter).expect("an index").count()
    };
    fleet.read_run(&id("b/r"), Duration::ZERO, |_, _| {}).expect("a run");
    let mut got = items(fleet.reader(), "b/r");
    got.sort();
    let want = [(7, "line 5"), (8, "line 2"), (8, "line 6"), (9, "line 4"), (10, "line 7")];
    assert_eq!((got, n_waiting()), (named(&want), 1));
    // In a later manifest.
    let held = of("c.npy", held(9, 9));
    dir.manifest("runs/b/r", 2, &[of("b.npy", image(8, 8, b"y")), held]);
    fleet.read_run(&id("b/r"), Duration::ZERO, |_, _| {}).expect("a run");
    let mut got = items(fleet.reader(), "b/r");
    got.sort();
    let want = [(7, "line 5"), (8, "line 8"), (9, "line 9"), (10, "line 7")];
    assert_eq!((got, n_waiting()), (named(&want), 0));
    let counts = fleet.reader().counts_of(&id("b/r")).expect("an index").expect("a run");
    assert_eq!((counts.image, counts.held, counts.rejected), (3, 1, 0));
}

#[test]
fn only_an_object_with_its_size_and_digest_becomes_a_file() {
    let dir = FleetDir::new();
    dir.manifest("runs/b/r", 1, &[held(1, 7)]);
    let fleet = dir.fleet();
    let run = id("b/r");
    let sha256 = Sha256::of(b"a picture");
    let name = media_name(&sha256, "png");
    let file = |size| NamedFile { path: &name, size, sha256 };
    let files = fleet.files();
    let path = fleet.reader().run_folder(&run).join(&name);
    let error = |size| files.fetch(&run, file(size)).expect_err("an error").to_string();
    assert_eq!(error(9), format!("the object store lacks {name}"));
    for (content, size, want) in [
        (&b"a pictura"[..], 9, "got SHA-256"),
        (b"a pict", 9, "got 6 bytes, want 9"),
        (b"a picture and more", 9, "got more than 9 bytes"),
        (b"a picture", 1 << 40, "got 1099511627776 bytes, want at most 67108864"),
    ] {
        dir.write(&name, content);
        let error = error(size);
        assert!(error.contains(want) && error.contains(&name), "{error}");
        assert!(!path.is_file());
    }
    fs::remove_file(dir.0.path().join(&name)).expect("removed");
    let outside = dir.0.path().join("secret");
    fs::write(&outside, b"a picture").expect("a file");
    std::os::unix::fs::symlink(&outside, dir.0.path().join(&name)).expect("a link");
    assert!(error(9).contains("symbolic link"), "{}", error(9));
    fs::remove_file(dir.0.path().join(&name)).expect("removed");
    dir.write(&name, b"a picture");
    files.fetch(&run, file(9)).expect("a file");
    assert_eq!(fs::read(&path).expect("a file"), b"a picture");
    // It is not asked for again.
    fs::remove_dir_all(dir.0.path()).expect("removed");
    files.fetch(&run, file(9)).expect("a file");
}

/// A bucket that answers late.
struct SlowBucket {
    port: u16,
    /// The most requests that it had at the same time.
    n_most: Arc<AtomicUsize>,
}

impl SlowBucket {
    /// Starts it with objects, by their paths.
    fn start(objects: BTreeMap<String, Vec<u8>>, delay: Duration) -> Self {
        let (n_open, n_most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (objects, most) = (Arc::new(objects), n_most.clone());
        let answer = move |uri: Uri| {
            let (objects, n_open, most) = (objects.clone(), n_open.clone(), most.clone());
            async move {
                most.fetch_max(n_open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(delay).await;
                n_open.fetch_sub(1, Ordering::SeqCst);
                let modified = (header::LAST_MODIFIED, "Mon, 30 Nov 2026 12:00:00 GMT");
                let headers = [modified, (header::ETAG, "\"1\"")];
                match objects.get(uri.path()) {
                    Some(content) => (StatusCode::OK, headers, content.clone()),
                    None => (StatusCode::NOT_FOUND, headers, Vec::new()),
                }
            }
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let port = listener.local_addr().expect("an address").port();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = TcpListener::from_std(listener).expect("a socket");
                axum::serve(listener, Router::new().fallback(answer)).await
            })
        };
        // It ends with the process.
        drop(thread::Builder::new().name("slow bucket".to_owned()).spawn(serve).expect("a thread"));
        Self { port, n_most }
    }

    fn fleet(&self) -> Fleet {
        // Any text is a key.
        let key = || Some(SecretSource::Env("PATH".to_owned()));
        let config = ObjectStoreConfig {
            endpoint: Some(format!("http://127.0.0.1:{}", self.port)),
            access_key_id: key(),
            secret_access_key: key(),
            ..ObjectStoreConfig::of_url("s3://media/fleet").expect("settings")
        };
        Fleet::open(&config).expect("a fleet")
    }
}

#[test]
fn several_pictures_of_a_slow_store_are_fetched_at_the_same_time() {
    // Bug: the gallery fetched the pictures of a page one after another.
    let pictures: Vec<Vec<u8>> = (0..20u8).map(|n| vec![n; 9]).collect();
    let named = pictures.iter().map(|picture| Sha256::of(picture));
    let named: Vec<_> = named.map(|sha256| (media_name(&sha256, "png"), sha256)).collect();
    let objects = named.iter().map(|(name, _)| format!("/media/fleet/{name}"));
    let mut objects: BTreeMap<_, _> = objects.zip(pictures.iter().cloned()).collect();
    // One is missing, and one is damaged.
    objects.remove(&format!("/media/fleet/{}", named[3].0));
    objects.insert(format!("/media/fleet/{}", named[4].0), b"other".to_vec());
    let bucket = SlowBucket::start(objects, Duration::from_millis(100));
    let (fleet, run) = (bucket.fleet(), id("b/r"));
    let files = named.iter().chain(&named);
    let files = files.map(|(path, sha256)| NamedFile { path, size: 9, sha256: *sha256 });
    fleet.files().fetch_all(files.map(|file| (&run, file)));
    assert_eq!(bucket.n_most.load(Ordering::SeqCst), OBJECTS_AT_ONCE);
    for (n, ((name, _), picture)) in named.iter().zip(&pictures).enumerate() {
        let got = fs::read(fleet.reader().run_folder(&run).join(name));
        assert_eq!(got.ok().as_ref(), (n != 3 && n != 4).then_some(picture), "{n}");
    }
}
