//! Looking at what two boxes have delivered to an object store: `ls`, `show` and `gallery` with `--from`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::gallery::{Answer, request};
use crate::harness::{PROGRAM, Ran, TempRun, send_signal, wait_for};
use crate::object_store_sync::{KEYS, seaweedfs};

/// An object store that boxes deliver to.
struct Fleet {
    url: String,
    /// The settings of the target of the box `gpu-17`.
    settings: String,
    env: Vec<(&'static str, String)>,
}

impl Fleet {
    fn in_directory(folder: &TempDir) -> Self {
        let url = format!("file://{}/fleet", folder.path().display());
        let settings =
            format!("[sync.team]\nkind = \"object_store\"\nurl = \"{url}\"\nbox = \"gpu-17\"\n");
        Self { url, settings, env: Vec::new() }
    }

    fn in_bucket(port: u16) -> Self {
        let env = [("AWS_ACCESS_KEY_ID", KEYS[0].1), ("AWS_SECRET_ACCESS_KEY", KEYS[1].1)];
        let mut env: Vec<_> =
            env.iter().chain(&KEYS).map(|(name, value)| (*name, (*value).to_owned())).collect();
        env.push(("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}")));
        let settings = crate::object_store_sync::settings(port);
        Self { url: "s3://media/pre fix".to_owned(), settings, env }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Nothing of this machine counts.
        command.env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.command(args).output().expect("the program").into()
    }

    /// Runs a command with `--from` and `--json`.
    fn lines(&self, args: &[&str]) -> Vec<Value> {
        let ran = self.run(&[args, &["--from", &self.url, "--json"]].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Makes images of a run of a box, and delivers them.
    fn deliver(&self, temp: &TempRun, of_box: &str) {
        let target = self.settings.replace("gpu-17", of_box);
        let config = temp.configure(&format!("[limits]\nmax_items = 2\n{target}"));
        let (config, store) = (config.to_string_lossy(), temp.store());
        let store = store.to_string_lossy();
        let run = temp.at("");
        let run = run.to_string_lossy();
        for args in [&["ingest", &run][..], &["sync", "team", "--once"]] {
            let ran = self.run(&[args, &["--config", &config, "--store", &store]].concat());
            assert!(ran.code == 0 || ran.code == 3, "{ran:?}");
        }
    }
}

/// A box: its run has images, one with a mask and boxes, a held and a rejected item. `n` tells its pictures from others'.
fn box_with(n: u64) -> TempRun {
    let temp = TempRun::new();
    for step in 0..3 {
        temp.log_picture("val/pred", step, n + step);
    }
    for n in n + 10..n + 13 {
        temp.log_picture("over", 1, n);
    }
    let (picture, mask) = (n + 20, n + 21);
    temp.log_picture("unused", 1, picture);
    temp.log_picture("unused", 2, mask);
    temp.append(
        "a.media.jsonl",
        &format!(
            "{{\"key\":\"seen\",\"step\":1,\"data\":\"tensors/unused-1-{picture}.npy\",\"caption\":\"a car\",\
             \"masks\":{{\"gt\":{{\"mask_data\":\"tensors/unused-2-{mask}.npy\",\"class_labels\":{{\"1\":\"car\"}}}}}},\
             \"boxes\":{{\"pred\":{{\"box_data\":[{{\"position\":{{\"minX\":0.1,\"maxX\":0.5,\"minY\":0.2,\
             \"maxY\":0.7}},\"class_id\":1}}],\"class_labels\":{{\"1\":\"car\"}}}}}}}}\n\
             {{\"key\":\"bad\",\"step\":1,\"data\":\"tensors/bad.npy\"}}\n"
        ),
    );
    temp.write("tensors/bad.npy", b"no array");
    temp
}

/// What an item is, without the names of its files.
fn facts(item: &Value) -> Vec<Value> {
    let fields =
        ["key", "step", "index", "state", "reason", "class", "sha256", "size", "rule", "stats"];
    let mut facts: Vec<Value> = fields.iter().map(|field| item[field].clone()).collect();
    facts.extend([item["caption"].clone(), item["source"]["path"].clone()]);
    facts.push(item["masks"]["gt"]["sha256"].clone());
    facts
}

/// Checks that `ls` and `show` say of each box what its own store says.
fn check_commands(fleet: &Fleet, boxes: &[(&str, &TempRun)]) {
    let runs = fleet.lines(&["ls"]);
    let want: Vec<_> =
        boxes.iter().map(|(of_box, _)| serde_json::json!({"box": of_box, "run": "run"})).collect();
    assert_eq!(runs, want);
    for (of_box, temp) in boxes {
        assert_eq!(fleet.lines(&["ls", of_box]).len(), 1);
        let run = format!("{of_box}/run");
        let got = fleet.lines(&["ls", &run]);
        let want = temp.items();
        let both = |items: &[Value]| items.iter().map(facts).collect::<Vec<_>>();
        assert_eq!(both(&got), both(&want));
        assert!(got.iter().all(|item| item["box"] == *of_box && item["run"] == "run"));
        for image in got.iter().filter(|item| item["state"] == "image") {
            let digest = image["sha256"].as_str().expect("a digest");
            assert_eq!(image["path"], format!("media/{}/{digest}.png", &digest[..2]));
        }
        let some = fleet.lines(&["ls", &run, "val", "--step", "1..", "--where", "key~pred"]);
        assert_eq!(some.len(), 2);
        let last = fleet.lines(&["show", &run, "val/pred"]);
        assert_eq!((last.len(), &last[0]["step"]), (1, &2.into()));
        assert_eq!(
            facts(&last[0]),
            facts(want.iter().find(|item| facts(item) == facts(&last[0])).expect("it"))
        );
        // The picture is the stored file.
        let shown = ["show", &run, "seen", "--picture=kitty", "--overlays"];
        let ours = fleet.run(&[&shown[..], &["--from", &fleet.url]].concat());
        let theirs = temp.run(&["show", "run", "seen", "--picture=kitty", "--overlays"]);
        assert_eq!((ours.code, &ours.out), (0, &theirs.out), "{ours:?}");
        let words = fleet.run(&["show", &run, "seen", "--from", &fleet.url]);
        let file = format!("{}/media/", fleet.url);
        assert!(words.out.contains("caption   a car") && words.out.contains(&file), "{words:?}");
        let held = fleet.run(&["show", &run, "over", "1", "2", "--from", &fleet.url]);
        assert!(held.out.contains(&format!("safelight release (on the box {of_box})")), "{held:?}");
    }
    for (args, want) in [
        (&["ls", "gpu-9"][..], "no box \"gpu-9\" has delivered a run to "),
        (&["ls", "gpu-9/run"], "no run \"gpu-9/run\" at "),
        (&["ls", "gpu-1/run", "nokey"], "nokey"),
        (&["ls", "--state", "held"], "name it as BOX/RUN"),
        (&["show", "run", "k"], "got the run \"run\", want BOX/RUN"),
    ] {
        let ran = fleet.run(&[args, &["--from", &fleet.url]].concat());
        assert!(ran.code == 1 && ran.err.contains(want), "{args:?}: {ran:?}");
    }
}

/// A gallery of a fleet, ended when dropped.
struct Gallery {
    child: Child,
    folder: TempDir,
    /// Everything that it said, for a look for keys.
    said: Vec<u8>,
}

impl Gallery {
    fn start(fleet: &Fleet) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listen = format!("unix:{}", folder.path().join("gallery.sock").display());
        let args = ["gallery", "--json", "--listen", &listen, "--from", &fleet.url];
        let mut command = fleet.command(&args);
        fs::create_dir(folder.path().join("tmp")).expect("a folder");
        command.env("TMPDIR", folder.path().join("tmp"));
        let mut child = command.spawn().expect("the program");
        let mut line = String::new();
        let out = child.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut line).expect("an address");
        let Ok(address) = serde_json::from_str::<Value>(&line) else {
            panic!("no address: {:?}", child.wait_with_output().map(Ran::from))
        };
        assert_eq!(
            (&address["store"], &address["as_of"]),
            (&Value::from(&*fleet.url), &Value::Null)
        );
        Self { child, folder, said: line.into_bytes() }
    }

    fn ask(&mut self, path: &str) -> Answer {
        let socket = self.folder.path().join("gallery.sock");
        let mut stream = UnixStream::connect(socket).expect("the socket");
        stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a timeout");
        stream.write_all(request("GET", path, &[]).as_bytes()).expect("a request");
        let answer = Answer::read(stream);
        self.said.extend(answer.head.as_bytes());
        self.said.extend(&answer.body);
        answer
    }

    fn json(&mut self, path: &str) -> Value {
        let answer = self.ask(path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    /// Ends it. Returns everything that it said.
    fn end(mut self) -> String {
        send_signal(&self.child, "-TERM");
        assert!(self.child.wait().expect("an end").success());
        // Nothing of the fleet stays on this machine.
        let left = fs::read_dir(self.folder.path().join("tmp")).expect("a folder").count();
        assert_eq!(left, 0);
        let mut err = String::new();
        let from = self.child.stderr.take().expect("its messages");
        std::io::Read::read_to_string(&mut { from }, &mut err).expect("text");
        String::from_utf8_lossy(&self.said).into_owned() + &err
    }
}

impl Drop for Gallery {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Checks that the gallery shows of each box what its own store has.
fn check_gallery(fleet: &Fleet, boxes: &[(&str, &TempRun)]) {
    let mut gallery = Gallery::start(fleet);
    let info = gallery.json("/api/v1/info");
    assert_eq!((&info["fleet"], &info["dumps"]), (&true.into(), &false.into()));
    let runs = gallery.json("/api/v1/runs");
    let ids: Vec<_> = boxes.iter().map(|(of_box, _)| format!("{of_box}/run")).collect();
    for (row, id) in runs["runs"].as_array().expect("runs").iter().zip(&ids) {
        let got = (&row["run"], &row["counted"], &row["image"], &row["changed"]);
        assert_eq!(got, (&Value::from(&**id), &false.into(), &0.into(), &Value::Null));
    }
    for (of_box, temp) in boxes {
        let run = format!("{of_box}%2Frun");
        let keys = gallery.json(&format!("/api/v1/keys?run={run}"));
        assert!(keys.as_array().is_some_and(|keys| keys.iter().any(|key| key["key"] == "seen")));
        let row = &gallery.json(&format!("/api/v1/runs?run={run}"))["runs"][0];
        assert_eq!(row["counted"], true);
        let [image, held, rejected] = temp.counts().map(Value::from);
        assert_eq!([&row["image"], &row["held"], &row["rejected"]], [&image, &held, &rejected]);
        for item in temp.items() {
            let place = format!(
                "run={run}&key={}&step={}&index={}",
                item["key"].as_str().expect("a key").replace('/', "%2F"),
                item["step"],
                item["index"].as_u64().unwrap_or(0)
            );
            if item["state"] == "rejected" {
                continue;
            }
            let details = gallery.json(&format!("/api/v1/item?{place}"));
            assert_eq!(facts(&details["item"]), facts(&item));
            let show = details["show"].as_str().expect("a command");
            assert!(
                show.contains(&format!("show {of_box}/run ")) && show.contains("--from"),
                "{show}"
            );
            assert_eq!((&details["python"], &details["release"]), (&Value::Null, &Value::Null));
            let reason = details["dump"]["reason"].as_str().expect("a reason");
            assert!(reason.contains("its dump is on the box"), "{reason}");
            if item["state"] == "held" {
                let develop = gallery.ask(&format!("/api/v1/develop.png?{place}"));
                assert_eq!(develop.status, 404);
                continue;
            }
            let stored = fs::read(temp.store().join(item["path"].as_str().expect("a path")));
            let stored = stored.expect("a file");
            let sha20 = &item["sha256"].as_str().expect("a digest")[..20];
            let file = gallery.ask(&format!("/m/{sha20}.png?{place}"));
            assert!(file.status == 200 && file.body == stored, "{place}: {}", file.status);
            assert_eq!(gallery.ask(&format!("/t/128/{sha20}?{place}")).status, 200);
            let values = gallery.ask(&format!("/api/v1/values.npy?{place}"));
            assert_eq!((values.status, values.header("safelight-proof")), (200, Some("none")));
        }
        let seen = format!("run={run}&key=seen&step=1&index=0");
        let mask = gallery.ask(&format!("/api/v1/mask.png?{seen}&layer=gt"));
        let item = temp.items().into_iter().find(|item| item["key"] == "seen").expect("it");
        let stored = item["masks"]["gt"]["path"].as_str().expect("a path");
        assert!(mask.body == fs::read(temp.store().join(stored)).expect("a file"));
        let boxes = gallery.json(&format!("/api/v1/boxes?{seen}&layer=pred"));
        assert!(boxes.to_string().contains("0.7"), "{boxes}");
        let found = gallery.json(&format!("/api/v1/items?run={run}&q=car"));
        assert_eq!(found["items"].as_array().map(Vec::len), Some(1));
        let tar = gallery.ask(&format!("/api/v1/export.tar?run={run}&key=seen"));
        assert!(
            tar.status == 200 && tar.body.windows(8).any(|eight| eight == b"\x89PNG\r\n\x1a\n")
        );
        let frames = gallery.ask(&format!("/api/v1/frames?run={run}&key=val%2Fpred&steps=0,1,2"));
        assert_eq!(frames.body.windows(4).filter(|four| *four == b"\x89PNG").count(), 3);
    }
    let both = ids.iter().map(|id| format!("run={}", id.replace('/', "%2F")));
    let at =
        gallery.json(&format!("/api/v1/at?{}&key=val%2Fpred", both.collect::<Vec<_>>().join("&")));
    let digests =
        at["cells"].as_array().expect("cells").iter().map(|cell| &cell["items"][0]["sha256"]);
    let digests: Vec<_> = digests.collect();
    assert!(digests.len() == 2 && digests[0] != digests[1], "{digests:?}");
    assert_eq!(gallery.ask("/api/v1/keys?run=gpu-9%2Frun").status, 404);
    let said = gallery.end();
    for (_, key) in KEYS {
        assert!(!said.contains(key), "a key is in an answer");
    }
}

#[test]
fn two_boxes_with_one_run_id_are_seen_apart_in_a_directory() {
    let folder = tempfile::tempdir().expect("a folder");
    let fleet = Fleet::in_directory(&folder);
    // Bug: the gallery of an empty prefix was an ordinary page without runs.
    for args in [&["ls"][..], &["gallery", "--listen", "unix:/nonexistent/gallery.sock"]] {
        let none = fleet.run(&[args, &["--from", &fleet.url]].concat());
        let want = format!("there are no manifests at {}: ", fleet.url);
        assert!(none.code == 1 && none.err.contains(&want), "{none:?}");
    }
    let boxes = [box_with(0), box_with(100)];
    let boxes = [("gpu-1", &boxes[0]), ("gpu-2", &boxes[1])];
    boxes.iter().for_each(|(of_box, temp)| fleet.deliver(temp, of_box));
    check_commands(&fleet, &boxes);
    check_gallery(&fleet, &boxes);
    // By the name of a target.
    let config = boxes[0].1.configure(&fleet.settings);
    let config = config.to_string_lossy();
    let ran = fleet.run(&["ls", "--from", "team", "--config", &config]);
    assert_eq!((ran.code, ran.out.lines().count()), (0, 3), "{ran:?}");
    let ran = fleet.run(&["ls", "--from", "other", "--config", &config]);
    assert!(ran.code == 1 && ran.err.contains("the configuration has team"), "{ran:?}");
    let ran = fleet.run(&["ls", "--from", "http://127.0.0.1/x"]);
    assert!(ran.code == 1 && ran.err.contains("want one of s3, gs, az, file"), "{ran:?}");
}

#[test]
fn two_boxes_with_one_run_id_are_seen_apart_in_a_bucket() {
    let Some(server) = seaweedfs() else { return };
    let fleet = Fleet::in_bucket(server.port);
    let boxes = [box_with(0), box_with(100)];
    let boxes = [("gpu-1", &boxes[0]), ("gpu-2", &boxes[1])];
    boxes.iter().for_each(|(of_box, temp)| fleet.deliver(temp, of_box));
    check_commands(&fleet, &boxes);
    check_gallery(&fleet, &boxes);
    for (name, value) in [("AWS_SECRET_ACCESS_KEY", "WRONG"), ("AWS_ACCESS_KEY_ID", "WRONG")] {
        let mut command = fleet.command(&["ls", "--from", &fleet.url]);
        let ran = Ran::from(command.env(name, value).output().expect("the program"));
        let want = "cannot list runs/: the keys need the rights to list and to read";
        assert!(ran.code == 1 && ran.err.contains(want), "{ran:?}");
        assert!(KEYS.iter().all(|(_, key)| !ran.err.contains(key)), "{ran:?}");
    }
}

#[test]
fn a_gallery_that_is_open_shows_what_is_delivered_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let fleet = Fleet::in_directory(&folder);
    let temp = TempRun::new();
    temp.log_picture("val/pred", 1, 1);
    fleet.deliver(&temp, "gpu-1");
    let mut gallery = Gallery::start(&fleet);
    let last =
        |gallery: &mut Gallery| gallery.json("/api/v1/keys?run=gpu-1%2Frun")[0]["last"].as_u64();
    assert_eq!(last(&mut gallery), Some(1));
    temp.log_picture("val/pred", 2, 2);
    fleet.deliver(&temp, "gpu-1");
    wait_for("the next step", || last(&mut gallery) == Some(2));
}

#[test]
fn a_hostile_manifest_shows_nothing_but_its_own_objects() {
    let folder = tempfile::tempdir().expect("a folder");
    let fleet = Fleet::in_directory(&folder);
    let temp = TempRun::new();
    for step in 0..4 {
        temp.log_picture("k", step, step);
    }
    fleet.deliver(&temp, "gpu-1");
    let secret = folder.path().join("secret.png");
    fs::write(&secret, b"secret").expect("a file");
    let root = folder.path().join("fleet");
    let manifest = root.join("runs/gpu-1/run/00000001.jsonl");
    let text = fs::read_to_string(&manifest).expect("a manifest");
    let mut lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 4);
    let object = |line: &Value| root.join(line["object"].as_str().expect("a name"));
    // One line names a file outside, one object is another, and one is a link.
    lines[0]["object"] = "media/../../secret.png".into();
    fs::write(object(&lines[1]), b"other").expect("an object");
    fs::remove_file(object(&lines[2])).expect("removed");
    std::os::unix::fs::symlink(&secret, object(&lines[2])).expect("a link");
    let text: String = lines.iter().map(|line| line.to_string() + "\n").collect();
    fs::write(&manifest, text).expect("a manifest");
    let ran = fleet.run(&["ls", "gpu-1/run", "--from", &fleet.url, "--json"]);
    assert_eq!((ran.code, ran.out.lines().count()), (1, 3), "{ran:?}");
    assert!(ran.err.contains("runs/gpu-1/run/00000001.jsonl: line 1: got object"), "{ran:?}");
    let mut gallery = Gallery::start(&fleet);
    for (line, status) in lines.iter().zip([404, 500, 502, 200]) {
        let sha20 = &line["sha256"].as_str().expect("a digest")[..20];
        let place = format!("run=gpu-1%2Frun&key=k&step={}&index=0", line["step"]);
        let answer = gallery.ask(&format!("/m/{sha20}.png?{place}"));
        assert_eq!(answer.status, status, "{answer:?}");
    }
    let row = &gallery.json("/api/v1/runs?run=gpu-1%2Frun")["runs"][0];
    assert_eq!((&row["image"], &row["damaged"]), (&3.into(), &1.into()));
    assert!(!gallery.end().contains("secret.png\": secret"));
}
