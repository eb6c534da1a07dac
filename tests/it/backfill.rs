//! `safelight backfill`: archived runs to an object store, killed and begun again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{
    PROGRAM, Ran, Random, TempRun, files_below, gray, gray_batch, number_from, send_signal,
};
use crate::object_store_sync::{KEYS, bucket, objects, seaweedfs};
use crate::proxy::Proxy;

/// All objects of a target, by name.
type Objects = BTreeMap<String, Vec<u8>>;

/// An archive: run directories, a configuration with a target, and scratch stores.
struct Archive {
    temp: TempRun,
    /// The settings of the target.
    target: String,
}

impl Archive {
    /// An archive whose target is the directory `NAME` beside it.
    fn new(name: &str) -> Self {
        let temp = TempRun::new();
        let url = url::Url::from_directory_path(temp.folder().join(name)).expect("a URL");
        let target = format!("[sync.fleet]\nkind = \"object_store\"\nurl = \"{url}\"\n");
        Self { temp, target }
    }

    /// The objects in the directory of that name, without files that a kill left half written.
    fn objects(&self, name: &str) -> Objects {
        let root = self.temp.folder().join(name);
        let name_of =
            |path: &PathBuf| path.strip_prefix(&root).expect("inside").display().to_string();
        let is_object = |path: &PathBuf| path.extension().is_none_or(|ending| ending != "tmp");
        let files = files_below(&root).into_iter().filter(is_object);
        files.map(|path| (name_of(&path), fs::read(&path).expect("an object"))).collect()
    }

    fn scratch(&self) -> PathBuf {
        self.temp.folder().join("scratch")
    }

    fn command(&self, directories: &[&Path], options: &[&str]) -> Command {
        self.command_with(directories, &self.scratch(), options)
    }

    fn command_with(&self, directories: &[&Path], scratch: &Path, options: &[&str]) -> Command {
        let config = self.temp.configure(&format!("{}[limits]\nmax_items = 3\n", self.target));
        let mut command = Command::new(PROGRAM);
        command.arg("backfill").args(directories).args(["--target", "fleet", "--config"]);
        command.arg(config).arg("--scratch").arg(scratch).args(options).envs(KEYS);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn backfill(&self, directories: &[&Path], options: &[&str]) -> Ran {
        self.command(directories, options).output().expect("the program").into()
    }

    /// Backfills the run directory `run` and returns its row.
    fn row(&self, options: &[&str]) -> Value {
        let run = self.temp.at("");
        let ran = self.backfill(&[&run], &[options, &["--json"]].concat());
        let [row] = &rows(&ran)[..] else { panic!("{ran:?}") };
        row.clone()
    }
}

fn rows(ran: &Ran) -> Vec<Value> {
    ran.out.lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
}

/// Writes images, held and rejected items. Returns how many of each.
fn write_run(temp: &TempRun, n_steps: u64) -> [u64; 3] {
    for step in 0..n_steps {
        temp.log_picture("val/pred", step, step);
        temp.write(&format!("dumps/b/{step}.npy.json"), b"{\"format\":\"NHW\"}");
        let batch = [step, 1, 2, 3, 4].map(|n| n + 10 * step);
        temp.write(&format!("dumps/b/{step}.npy"), &gray_batch(&batch));
        temp.write(&format!("dumps/c/{step}.npy"), &gray(1000 + step));
    }
    temp.append("a.media.jsonl", "broken\n{\"key\":\"k\",\"step\":1,\"data\":\"none.npy\"}\n");
    [5 * n_steps, 2 * n_steps, 2]
}

/// The lines of a run's manifests, in the order of their identities.
fn lines(objects: &Objects, run: &str) -> Vec<Value> {
    let prefix = format!("runs/{run}/");
    let is_manifest = |name: &str| {
        let ending = name.strip_prefix(&prefix).and_then(|name| name.rsplit_once('.'));
        ending.is_some_and(|(_, ending)| ending == "jsonl")
    };
    let manifests = objects.iter().filter(|(name, _)| is_manifest(name));
    let mut lines: Vec<Value> = Vec::new();
    for (_, manifest) in manifests {
        let text = String::from_utf8(manifest.clone()).expect("text");
        lines.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")));
    }
    lines.sort_by_key(|line| line["seq"].as_u64());
    lines
}

/// Checks that a run is in the target exactly once: each item in one line, each object named, none stray.
fn check(objects: &Objects, run: &str, want: [u64; 3]) -> Vec<Value> {
    let lines = lines(objects, run);
    let count = |state: &str| lines.iter().filter(|line| line["state"] == state).count() as u64;
    // Lines that are there twice tell what differs: mostly the number, of which some before were left out or added.
    assert_eq!(["image", "held", "rejected"].map(count), want, "{lines:#?}");
    let seqs: BTreeSet<u64> = lines.iter().filter_map(|line| line["seq"].as_u64()).collect();
    assert_eq!(seqs.len(), lines.len(), "two lines have one number");
    let named: BTreeSet<&str> = lines.iter().filter_map(|line| line["object"].as_str()).collect();
    let media = objects.keys().map(String::as_str).filter(|name| name.starts_with("media/"));
    let media: BTreeSet<&str> = media.collect();
    assert_eq!(media.symmetric_difference(&named).collect::<Vec<_>>(), Vec::<&&str>::new());
    assert!(objects.keys().all(|name| !name.contains("probe")), "a probe is left behind");
    lines
}

fn marker(objects: &Objects, run: &str) -> Value {
    let marker = &objects[&format!("runs/{run}/backfilled.json")];
    serde_json::from_slice(marker).expect("a marker")
}

#[test]
fn a_run_is_delivered_marked_and_left_out_the_next_time() {
    let archive = Archive::new("target");
    let want = write_run(&archive.temp, 4);
    let dry = archive.row(&["--dry-run"]);
    assert_eq!(dry["status"], "pending", "{dry}");
    assert_eq!(archive.objects("target"), Objects::new(), "a dry run writes nothing");
    let run = archive.temp.at("");
    let ran = archive.backfill(&[&run], &["--json"]);
    assert_eq!(ran.code, 3, "something is rejected: {ran:?}");
    let [row] = &rows(&ran)[..] else { panic!("{ran:?}") };
    let counts = ["images", "held", "rejected"].map(|field| row[field].as_u64().expect("a number"));
    assert_eq!((&row["status"], counts), (&json!("done"), want), "{row}");
    assert_eq!(
        (&row["run"], &row["box"], &row["error"]),
        (&json!("run"), &json!("archive"), &json!(null))
    );
    let got = archive.objects("target");
    check(&got, "archive/run", want);
    let marker = marker(&got, "archive/run");
    for field in ["box", "run", "source", "fingerprint", "images", "held", "rejected", "bytes"] {
        assert_eq!(marker[field], row[field], "{field}");
    }
    let media: usize =
        got.iter().filter(|(name, _)| name.starts_with("media/")).map(|(_, b)| b.len()).sum();
    assert!(row["bytes"].as_u64() >= Some(media as u64) && media > 0, "{row}");
    assert_eq!(files_below(&archive.scratch()), BTreeSet::new(), "a scratch store is left");

    let skipped = archive.row(&["--skip-done"]);
    assert_eq!((&skipped["status"], &skipped["images"]), (&json!("skipped"), &json!(want[0])));
    assert_eq!(archive.row(&["--dry-run"])["status"], "skipped");
    // Once more, whole.
    assert_eq!(archive.row(&[])["status"], "done");
    assert_eq!(archive.objects("target"), got, "an object has changed");
}

#[test]
fn a_backfill_that_is_killed_and_begun_again_delivers_each_item_once() {
    let n_kills = number_from("SAFELIGHT_BACKFILL_KILLS", 24);
    let whole = Archive::new("target");
    let want = write_run(&whole.temp, 40);
    let start = Instant::now();
    assert_eq!(whole.row(&[])["status"], "done");
    let took = u64::try_from(start.elapsed().as_micros()).expect("short");
    let want_lines = check(&whole.objects("target"), "archive/run", want);

    let mut random = Random(0xBAC_F111);
    let (mut n_killed, mut n_targets, mut n_lost) = (0, 0, 0);
    let mut whole = whole;
    while n_killed < n_kills {
        let name = format!("target{n_targets}");
        n_targets += 1;
        let url = url::Url::from_directory_path(whole.temp.folder().join(&name)).expect("a URL");
        whole.target = format!("[sync.fleet]\nkind = \"object_store\"\nurl = \"{url}\"\n");
        for _ in 0..6 {
            let run = whole.temp.at("");
            let child = whole.command(&[&run], &[]).spawn().expect("the program");
            n_killed += u64::from(killed(child, random.below(took), random.below(3) == 0));
            if random.below(4) == 0 && whole.scratch().is_dir() {
                // Another machine begins it again.
                fs::remove_dir_all(whole.scratch()).expect("the scratch stores");
                n_lost += 1;
            }
        }
        let row = whole.row(&[]);
        assert_eq!(row["status"], "done", "{row}");
        let got = whole.objects(&name);
        assert_eq!(check(&got, "archive/run", want), want_lines);
        assert!(got.contains_key("runs/archive/run/backfilled.json"));
        assert_eq!(files_below(&whole.scratch()), BTreeSet::new(), "a scratch store is left");
    }
    eprintln!(
        "{n_killed} kills and {n_lost} lost scratch stores at {n_targets} targets: each of {} items exactly once",
        want_lines.len()
    );
}

/// Kills a process after some microseconds, by SIGTERM or SIGKILL. Returns whether it was still running.
fn killed(mut child: Child, after_us: u64, is_gentle: bool) -> bool {
    std::thread::sleep(Duration::from_micros(after_us));
    let was_running = child.try_wait().expect("a status").is_none();
    if was_running {
        send_signal(&child, if is_gentle { "-TERM" } else { "-KILL" });
    }
    child.wait().expect("an end");
    was_running
}

#[test]
fn a_real_s3_gets_each_item_once_despite_kills_and_faults() {
    let Some(server) = seaweedfs() else { return };
    let mut archive = Archive::new("unused");
    let want = write_run(&archive.temp, 30);
    let proxy = Proxy::new(server.port, 5, 11);
    archive.target =
        crate::object_store_sync::settings(proxy.port).replace("sync.team", "sync.fleet");
    let run = archive.temp.at("");
    let (mut random, mut n_killed) = (Random(7), 0);
    for n in 0..12 {
        // Two machines at once.
        let other = archive.temp.folder().join(format!("scratch{}", n % 2));
        let start =
            |scratch: &Path| archive.command_with(&[&run], scratch, &["--box", "archive"]).spawn();
        let children = [start(&archive.scratch()), start(&other)];
        for child in children {
            let child = child.expect("the program");
            n_killed += u64::from(killed(child, random.below(600_000), false));
        }
    }
    let mut row = archive.row(&["--box", "archive"]);
    for _ in 0..20 {
        if row["status"] == "done" {
            break;
        }
        row = archive.row(&["--box", "archive"]);
    }
    assert_eq!(row["status"], "done", "{row}");
    let got = objects(&bucket(&server), "pre fix");
    let got: Objects = got.into_iter().filter(|(name, _)| !name.contains("probe")).collect();
    check(&got, "archive/run", want);
    eprintln!(
        "{n_killed} kills, {:?} requests and failures: each of {want:?} items once",
        proxy.counts()
    );
}

#[test]
fn a_temporary_copy_is_recorded_and_named_by_its_origin() {
    let archive = Archive::new("target");
    let want = write_run(&archive.temp, 1);
    let row = archive.row(&["--origin", "s3://arch/exp7/", "--box", "old lab"]);
    assert_eq!((&row["run"], &row["source"]), (&json!("exp7"), &json!("s3://arch/exp7/")), "{row}");
    let got = archive.objects("target");
    check(&got, "old%20lab/exp7", want);
    let run: Value = serde_json::from_slice(&got["runs/old%20lab/exp7/run.json"]).expect("JSON");
    assert_eq!((&run["source"], &run["box"]), (&json!("s3://arch/exp7/"), &json!("old lab")));
    // The id that the job gave wins.
    archive.temp.write("safelight.json", br#"{"id":"a/b"}"#);
    let row = archive.row(&["--origin", "s3://arch/exp7", "--run", "c"]);
    assert_eq!((&row["run"], &row["status"]), (&json!("a/b"), &json!("done")), "{row}");
}

#[test]
fn another_run_of_the_same_name_and_a_changed_one_are_refused() {
    let archive = Archive::new("target");
    write_run(&archive.temp, 1);
    let first = archive.row(&[]);
    let got = archive.objects("target");
    let refused = |row: &Value, why: &str| {
        let error = row["error"].as_str().unwrap_or_default();
        assert!(row["status"] == "failed" && error.contains(why), "{row}");
        assert_eq!(archive.objects("target"), got, "something was written");
    };
    refused(&archive.row(&["--origin", "/elsewhere/run"]), " that comes from ");
    let other = archive.temp.folder().join("other/run");
    fs::create_dir_all(other.join("dumps/k")).expect("folders");
    fs::write(other.join("dumps/k/1.npy"), gray(1)).expect("a dump");
    let ran = archive.backfill(&[&other], &["--json"]);
    refused(&rows(&ran)[0], " that comes from ");
    assert_eq!(ran.code, 1, "{ran:?}");
    archive.temp.write("dumps/new/1.npy", &gray(1));
    for option in ["--skip-done", "--dry-run"] {
        refused(&archive.row(&[option]), "from other files (fingerprint ");
    }
    let fingerprint = first["fingerprint"].as_str().expect("a fingerprint");
    let row = archive.row(&["--skip-done", "--fingerprint", fingerprint]);
    assert_eq!(row["status"], "skipped", "{row}");
}

#[test]
fn what_fails_is_told_of_its_run_and_the_others_are_done() {
    let archive = Archive::new("target");
    write_run(&archive.temp, 1);
    let (run, empty, none) =
        (archive.temp.at(""), archive.temp.folder().join("empty"), Path::new("/nonexistent/run"));
    fs::create_dir(&empty).expect("a folder");
    let ran = archive.backfill(&[none, &empty, &run], &["--json"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let rows = rows(&ran);
    let of = |source: &Path| {
        let source = source.to_string_lossy();
        let source = source.trim_end_matches('/');
        rows.iter()
            .find(|row| row["source"] == source)
            .unwrap_or_else(|| panic!("no {source}: {ran:?}"))
    };
    let error_of = |path| of(path)["error"].as_str().expect("an error");
    assert!(error_of(none).contains("No such file"), "{ran:?}");
    assert!(error_of(&empty).contains("nothing was found"), "{ran:?}");
    assert_eq!(of(&run)["status"], "done", "{ran:?}");
    assert!(ran.err.contains("2 of 3 runs failed"), "{ran:?}");

    let ran = archive.backfill(&[none, &run], &[]);
    let [first, second, totals] = ran.out.lines().collect::<Vec<_>>()[..] else {
        panic!("{ran:?}")
    };
    assert!(first.starts_with("/nonexistent/run: failed: "), "{ran:?}");
    assert!(second.starts_with("run: 5 images, 2 held back, 2 rejected; "), "{ran:?}");
    assert!(totals.starts_with("2 runs (1 failed): 5 images, "), "{ran:?}");
}

#[test]
fn a_target_or_an_option_that_cannot_work_is_refused() {
    let mut archive = Archive::new("target");
    write_run(&archive.temp, 1);
    let run = archive.temp.at("");
    let two = archive.backfill(&[&run, Path::new("/nonexistent")], &["--origin", "s3://a/b"]);
    assert!(two.code == 1 && two.err.contains("--origin speaks of one run: got 2"), "{two:?}");
    let unknown = archive.backfill(&[&run], &["--target", "fleet"]);
    assert_eq!(unknown.code, 2, "given twice: {unknown:?}");
    archive.target = "[sync.fleet]\nkind = \"tensorboard\"\npath = \"tb\"\n".to_owned();
    let kind = archive.backfill(&[&run], &[]);
    assert!(
        kind.code == 1 && kind.err.contains("of kind tensorboard, want object_store"),
        "{kind:?}"
    );
    archive.target = String::new();
    let none = archive.backfill(&[&run], &[]);
    assert!(none.code == 1 && none.err.contains("no target \"fleet\""), "{none:?}");
    let file = Command::new(PROGRAM)
        .args(["backfill", "--target", "fleet", "--config", "/nonexistent.toml"])
        .arg(&run)
        .output();
    assert_eq!(file.expect("the program").status.code(), Some(78));
}

#[test]
fn the_recipe_for_xargs_runs_as_it_stands() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/backfill.md");
    let page = fs::read_to_string(page).expect("the page");
    let blocks = page.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    let [recipe] = blocks.filter(|block| block.contains("xargs")).collect::<Vec<_>>()[..] else {
        panic!("want one recipe")
    };
    let temp = TempRun::new();
    for run in ["exp7", "exp8", "exp9"] {
        let dumps = temp.folder().join("archive").join(run).join("dumps/k");
        fs::create_dir_all(&dumps).expect("folders");
        (0..5).for_each(|n| fs::write(dumps.join(format!("{n}.npy")), gray(n)).expect("a dump"));
    }
    let url = url::Url::from_directory_path(temp.folder().join("target")).expect("a URL");
    let config = format!("[sync.fleet]\nkind = \"object_store\"\nurl = \"{url}\"\n");
    fs::write(temp.folder().join("cluster.toml"), config).expect("a configuration");
    fs::create_dir(temp.folder().join("bin")).expect("a folder");
    std::os::unix::fs::symlink(PROGRAM, temp.folder().join("bin/safelight")).expect("a link");
    for status in ["done", "skipped"] {
        let mut command = Command::new("bash");
        command.args(["-euc", recipe]).current_dir(temp.folder()).env("TMPDIR", temp.folder());
        command.env("PATH", format!("{}:/usr/bin:/bin", temp.folder().join("bin").display()));
        let ran: Ran = command.stdin(Stdio::null()).output().expect("bash").into();
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
        let text = fs::read_to_string(temp.folder().join("rows.jsonl")).expect("rows");
        let row = |line: &str| serde_json::from_str::<Value>(line).expect("a row");
        let rows: Vec<Value> =
            text.lines().map(row).filter(|row| row["status"] == status).collect();
        let images = rows.iter().map(|row| row["images"].as_u64().expect("a number")).sum::<u64>();
        assert_eq!((rows.len(), images), (3, 15), "{text}");
    }
}
