//! Kills the program at random moments, again and again, while a job writes: each picture stays exactly
//! once, with its own pixels.
//!
//! `./test.sh kills 1000` does it more often than the 50 times of every test run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::{PROGRAM, Ran, Random, TempRun, gray, npy, skip, wait_for};

/// Kills of one store, before all of it is compared.
const KILLS_PER_STORE: u64 = 25;

/// More than so many images of a step are held back.
const ITEMS_MAX: usize = 6;

fn n_kills() -> u64 {
    std::env::var("SAFELIGHT_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(50)
}

/// What must have become of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    /// A picture that carries this number, with a mask that does or without one.
    Image(u64, bool),
    Held,
}

/// What the store must hold in the end. Whoever writes the run directory tells it, and nobody else.
#[derive(Debug, Default, PartialEq)]
struct Oracle {
    /// By key and step.
    placed: BTreeMap<(String, u64), Vec<Want>>,
    /// Lines that can't be read.
    n_bad_lines: usize,
    /// Dumps that are none.
    bad_dumps: BTreeSet<String>,
    /// Images whose index is not the next one.
    misplaced: Vec<String>,
}

impl Oracle {
    /// One more image of a step.
    fn add(&mut self, key: &str, step: u64, n: u64, has_mask: bool) {
        let images = self.placed.entry((key.to_owned(), step)).or_default();
        images.push(if images.len() < ITEMS_MAX { Want::Image(n, has_mask) } else { Want::Held });
    }

    /// A dump's new version takes the place of the one before.
    fn replace(&mut self, key: &str, step: u64, numbers: &[u64]) {
        self.placed.remove(&(key.to_owned(), step));
        numbers.iter().for_each(|&n| self.add(key, step, n, false));
    }
}

/// The job: writes a run directory, is never killed, and tells the oracle what it wrote.
struct Producer<'a> {
    temp: &'a TempRun,
    random: Random,
    oracle: Oracle,
    next: u64,
    /// Which log it is since the last rotation: each has a key of its own, since lines of two logs have
    /// no order.
    log: u64,
    /// Lines whose dump is not there yet.
    late: Vec<(String, u64)>,
    /// Whether everything may be written slowly and late: not beside `ingest`, which waits for nothing.
    is_patient: bool,
}

/// Pictures in one dump.
fn batch(numbers: &[u64]) -> Vec<u8> {
    let pixels: Vec<u8> =
        numbers.iter().flat_map(|n| n.to_le_bytes().into_iter().chain([255; 8])).collect();
    npy("|u1", &[numbers.len(), 4, 4], &pixels)
}

impl<'a> Producer<'a> {
    fn new(temp: &'a TempRun, seed: u64, is_patient: bool) -> Self {
        let (random, oracle) = (Random(seed), Oracle::default());
        fs::create_dir_all(temp.at("tensors")).expect("a folder");
        Self { temp, random, oracle, next: 0, log: 0, late: Vec::new(), is_patient }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn numbers(&mut self, n: u64) -> Vec<u64> {
        (0..n).map(|_| self.number()).collect()
    }

    /// A dump that is there at once or not at all.
    fn write_at_once(&self, path: &str, bytes: &[u8]) {
        let aside = self.temp.at("tensors/.aside");
        fs::write(&aside, bytes).expect("a file");
        let place = self.temp.at(path);
        fs::create_dir_all(place.parent().expect("a folder")).expect("folders");
        fs::rename(aside, place).expect("a rename");
    }

    /// A dump that grows where it stands.
    fn write_slowly(&mut self, path: &str, bytes: &[u8]) {
        let place = self.temp.at(path);
        fs::create_dir_all(place.parent().expect("a folder")).expect("folders");
        let mut file = File::create(place).expect("a file");
        let middle = usize::try_from(self.random.below(bytes.len() as u64)).expect("small");
        file.write_all(&bytes[..middle]).expect("a beginning");
        std::thread::sleep(Duration::from_millis(self.random.below(8)));
        file.write_all(&bytes[middle..]).expect("an end");
    }

    fn write(&mut self, path: &str, bytes: &[u8]) {
        if self.random.below(2) == 0 {
            self.write_at_once(path, bytes);
        } else {
            self.write_slowly(path, bytes);
        }
    }

    fn log(&self, log: &str, line: &Value) {
        self.temp.append(log, &format!("{line}\n"));
    }

    /// The dump of a line that was written before it.
    fn write_late(&mut self) {
        if let Some((path, n)) = self.late.pop() {
            self.write_at_once(&path, &gray(n));
        }
    }

    #[expect(clippy::too_many_lines, reason = "a list of what a job may do")]
    fn step(&mut self) {
        match self.random.below(22) {
            // More lines than a step may have images.
            0..=7 => {
                let n = self.number();
                let (key, step) = (format!("line{}", self.log), n / 16);
                let path = format!("tensors/{n}.npy");
                self.write_at_once(&path, &gray(n));
                self.log("a.media.jsonl", &json!({"key": key, "step": step, "data": path}));
                self.oracle.add(&key, step, n, false);
            }
            8 | 9 => {
                let n = self.number();
                self.write(&format!("dumps/alone/{n}.npy"), &gray(n));
                self.oracle.replace("alone", n, &[n]);
            }
            // Written again where it stands.
            10 | 11 => {
                let (n, step) = (self.number(), self.random.below(12));
                self.write(&format!("dumps/again/{step}.npy"), &gray(n));
                self.oracle.replace("again", step, &[n]);
            }
            // Again with more or fewer pictures than before.
            12 | 13 => {
                let (step, n) = (self.random.below(6), 1 + self.random.below(9));
                let numbers = self.numbers(n);
                self.write_at_once(
                    &format!("dumps/sheet/{step}.npy.json"),
                    b"{\"format\":\"NHW\"}",
                );
                self.write(&format!("dumps/sheet/{step}.npy"), &batch(&numbers));
                self.oracle.replace("sheet", step, &numbers);
            }
            14 => {
                let n = 1 + self.random.below(9);
                let numbers = self.numbers(n);
                let (step, path) = (numbers[0], format!("tensors/batch-{}.npy", numbers[0]));
                self.write_at_once(&path, &batch(&numbers));
                self.log(
                    "b.media.jsonl",
                    &json!({"key": "batch", "step": step, "data": path, "format": "NHW"}),
                );
                numbers.iter().for_each(|&n| self.oracle.add("batch", step, n, false));
            }
            15 => {
                let n = self.number();
                let (path, mask) = (format!("tensors/{n}.npy"), format!("tensors/mask-{n}.npy"));
                self.write_at_once(&path, &gray(n));
                self.write_at_once(&mask, &gray(n));
                let position = json!({"minX": 0.1, "maxX": 0.5, "minY": 0.2, "maxY": 0.9});
                let line = json!({
                    "key": "layers", "step": n, "data": path,
                    "masks": {"gt": {"mask_data": mask}},
                    "boxes": {"pred": {"box_data": [{"position": position, "class_id": n}]}},
                });
                self.log("b.media.jsonl", &line);
                self.oracle.add("layers", n, n, true);
            }
            16 => {
                self.temp.append(
                    "b.media.jsonl",
                    ["broken\n", "{\"key\":1}\n"][usize::from(self.next.is_multiple_of(2))],
                );
                self.oracle.n_bad_lines += 1;
            }
            // No dump at first, and perhaps a good one later. Not the other way: whether a bad version
            // has good ones before it hangs on whether those were seen.
            17 => {
                let step = self.random.below(20);
                let path = format!("dumps/odd/{step}.npy");
                let was_good = self.oracle.placed.contains_key(&("odd".to_owned(), step));
                if !was_good && self.random.below(2) == 0 {
                    self.write_at_once(
                        &path,
                        format!("this is no npy file {}", self.next).as_bytes(),
                    );
                    self.oracle.bad_dumps.insert(path);
                } else {
                    let n = self.number();
                    self.write(&path, &gray(n));
                    self.oracle.bad_dumps.remove(&path);
                    self.oracle.replace("odd", step, &[n]);
                }
            }
            18 => {
                // A log that was never seen under its name is found by nobody under another one.
                if is_known(&self.temp.store(), &self.temp.at("a.media.jsonl")) {
                    let to = format!("a.media.jsonl.{}", self.log);
                    fs::rename(self.temp.at("a.media.jsonl"), self.temp.at(&to)).expect("a rename");
                    self.log += 1;
                }
            }
            19 if self.is_patient => {
                let n = self.number();
                let path = format!("tensors/late-{n}.npy");
                self.log("late.media.jsonl", &json!({"key": "late", "step": n, "data": path}));
                self.late.push((path, n));
                self.oracle.add("late", n, n, false);
            }
            20 => self.write_late(),
            _ => {
                // A line in two halves.
                let n = self.number();
                let path = format!("tensors/{n}.npy");
                self.write_at_once(&path, &gray(n));
                let line = json!({"key": "halves", "step": n, "data": path}).to_string() + "\n";
                let (begun, rest) = line.split_at(line.len() / 2);
                self.temp.append("c.media.jsonl", begun);
                std::thread::sleep(Duration::from_millis(self.random.below(8)));
                self.temp.append("c.media.jsonl", rest);
                self.oracle.add("halves", n, n, false);
            }
        }
    }

    /// Writes until it is told to stop. Returns what there must be.
    fn run(mut self, is_over: &AtomicBool) -> Oracle {
        while !is_over.load(Ordering::Relaxed) {
            self.step();
            std::thread::sleep(Duration::from_millis(self.random.below(16)));
        }
        while !self.late.is_empty() {
            self.write_late();
        }
        self.oracle
    }
}

/// Whether the journal has a cursor of a log.
fn is_known(store: &Path, log: &Path) -> bool {
    let Ok(meta) = fs::metadata(log) else { return false };
    let journal = fs::read_to_string(store.join("runs/run/journal/00000001.jsonl"));
    journal.is_ok_and(|text| text.contains(&format!("\"ino\":{},\"offset\":", meta.ino())))
}

pub(crate) fn first_pixels(path: &Path) -> u64 {
    let bytes = fs::read(path).expect("a media file");
    let pixels = image::load_from_memory(&bytes).expect("a picture").into_luma8().into_raw();
    u64::from_le_bytes(pixels[..8].try_into().expect("eight pixels"))
}

fn sha256(path: &Path) -> String {
    let digest = Sha256::digest(fs::read(path).expect("a media file"));
    let mut text = String::new();
    for byte in digest {
        write!(text, "{byte:02x}").expect("a text takes all");
    }
    text
}

/// What a store says that it holds, with the numbers in the pictures themselves, and the media files
/// that it names. Their digests are checked.
fn holds(store: &Path, items: &[Value]) -> (Oracle, BTreeSet<PathBuf>) {
    let (mut got, mut files) = (Oracle::default(), BTreeSet::new());
    for item in items {
        let mut check = |file: &Value| {
            let path = store.join(file["path"].as_str().expect("a path"));
            assert_eq!(file["sha256"], sha256(&path), "{item}");
            files.insert(path.clone());
            path
        };
        let place = (item["key"].as_str().unwrap_or("").to_owned(), item["step"].as_u64());
        let want = match item["state"].as_str() {
            Some("image") => {
                let n = first_pixels(&check(item));
                let mask = item.get("masks").map(|masks| check(&masks["gt"]));
                let has_mask = mask.is_some_and(|mask| {
                    assert_eq!(first_pixels(&mask), n, "the mask of another picture: {item}");
                    check(&item["boxes"]["pred"]);
                    true
                });
                Want::Image(n, has_mask)
            }
            Some("held") => Want::Held,
            _ => {
                let source = item["source"]["path"].as_str().expect("a source");
                if source.starts_with("dumps/") {
                    assert!(got.bad_dumps.insert(source.to_owned()), "rejected twice: {item}");
                } else {
                    got.n_bad_lines += 1;
                }
                continue;
            }
        };
        let images = got.placed.entry((place.0, place.1.expect("a step"))).or_default();
        if item["index"] != images.len() {
            got.misplaced.push(item.to_string());
        }
        images.push(want);
    }
    (got, files)
}

/// Where two oracles differ, in a few words.
fn differences(want: &Oracle, got: &Oracle) -> Vec<String> {
    let mut differences = Vec::new();
    let places: BTreeSet<_> = want.placed.keys().chain(got.placed.keys()).collect();
    for place in places {
        let (want, got) = (want.placed.get(place), got.placed.get(place));
        if want != got {
            differences.push(format!("{place:?}: {got:?}, want {want:?}"));
        }
    }
    if (want.n_bad_lines, &want.bad_dumps) != (got.n_bad_lines, &got.bad_dumps) {
        differences.push(format!(
            "rejected {} {:?}, want {} {:?}",
            got.n_bad_lines, got.bad_dumps, want.n_bad_lines, want.bad_dumps
        ));
    }
    differences.extend(got.misplaced.iter().map(|item| format!("not the next index: {item}")));
    differences
}

/// All files below a folder.
fn files_below(folder: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            files_below(&entry.path(), files);
        } else {
            files.insert(entry.path());
        }
    }
}

/// A store that a job writes for, and the program that is killed.
struct Scene<'a> {
    temp: &'a TempRun,
    config: PathBuf,
}

impl<'a> Scene<'a> {
    fn new(temp: &'a TempRun) -> Self {
        let config = temp.folder().join("safelight.toml");
        let text = format!(
            "[store]\npath = \"store\"\n[control]\nsocket = \"control.sock\"\n\
             [[watch]]\npath = \".\"\nruns = \"run*\"\n\
             [ingest]\nsettle_ms = 40\nclose_ms = 5\nwait_ms = 60000\n\
             [limits]\nmax_items = {ITEMS_MAX}\n"
        );
        fs::write(&config, text).expect("a configuration");
        Self { temp, config }
    }

    fn log(&self) -> PathBuf {
        self.temp.folder().join("program.log")
    }

    fn is_ready(&self) -> bool {
        fs::read_to_string(self.log()).is_ok_and(|log| log.contains("looked at once"))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(args).arg("--config").arg(&self.config).stdin(Stdio::null());
        command
    }

    fn start(&self, args: &[&str]) -> Child {
        let log = File::create(self.log()).expect("a log");
        self.command(args).stdout(Stdio::null()).stderr(log).spawn().expect("the program")
    }

    fn ingest(&self) -> Ran {
        let run = self.temp.at("");
        let run = run.to_str().expect("a path");
        self.command(&["ingest", run]).output().expect("the program").into()
    }

    /// Starts the daemon, or `ingest`, and kills it at a random moment. Whether it was still there.
    fn kill_one(&self, is_daemon: bool, random: &mut Random) -> bool {
        let run = self.temp.at("");
        let args = ["ingest", run.to_str().expect("a path")];
        let mut child = self.start(if is_daemon { &["daemon"] } else { &args });
        if is_daemon && random.below(2) == 0 {
            let start = Instant::now();
            while !self.is_ready() && start.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(2));
            }
            std::thread::sleep(Duration::from_millis(random.below(200)));
        } else {
            std::thread::sleep(Duration::from_millis(random.below(400)));
        }
        let ended = child.try_wait().expect("a status");
        if let Some(status) = ended {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            assert!(!is_daemon, "the daemon ended by itself, {status}: {log}");
            assert!(matches!(status.code(), Some(0 | 3)), "{status}: {log}");
        }
        child.kill().expect("a kill");
        child.wait().expect("an end");
        ended.is_none()
    }

    /// Conservation, integrity, liveness, and nothing left behind.
    fn check(&self, mut oracle: Oracle) -> (usize, usize) {
        let store = self.temp.store();
        let mut child = self.start(&["daemon"]);
        wait_for("the daemon to be ready", || self.is_ready());
        // Something that comes now passes, whatever was before.
        self.temp.write("dumps/fresh/1.npy", &gray(77));
        oracle.replace("fresh", 1, &[77]);
        let start = Instant::now();
        loop {
            let got = holds(&store, &self.temp.items()).0;
            if got == oracle {
                break;
            }
            let log = || fs::read_to_string(self.log()).unwrap_or_default();
            assert!(child.try_wait().expect("a status").is_none(), "the daemon ended: {}", log());
            assert!(
                start.elapsed() < Duration::from_mins(1),
                "not all comes to what was written:\n{}\n{}",
                differences(&oracle, &got).join("\n"),
                log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        assert_eq!(child.wait().expect("an end").code(), Some(0));
        let again = self.ingest();
        assert!(again.out.contains("new: 0 images, 0 held back, 0 rejected"), "{again:?}");
        let items = self.temp.items();
        let (got, named) = holds(&store, &items);
        assert_eq!(differences(&oracle, &got), Vec::<String>::new());
        let mut aside = BTreeSet::new();
        files_below(&store.join("tmp"), &mut aside);
        assert_eq!(aside, BTreeSet::new(), "files are left aside");
        // Files of earlier versions of a dump stay. All others are named.
        let mut files = BTreeSet::new();
        files_below(&store.join("runs/run/media"), &mut files);
        let is_versioned = |path: &&PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            ["again", "sheet", "odd", "alone"].iter().any(|key| name.starts_with(key))
        };
        let (old, strays): (Vec<_>, Vec<_>) = files.difference(&named).partition(is_versioned);
        assert_eq!(strays, Vec::<&PathBuf>::new(), "no item names these files");
        // The index is worth nothing: what the journals say is the same.
        fs::remove_dir_all(store.join("index")).expect("an index");
        assert!(self.temp.items() == items, "the index says otherwise than the journals");
        (items.len(), old.len())
    }
}

/// What a small run directory needs written: lines, dumps, a batch over the limit, a mask, a bad line.
fn write_a_little(temp: &TempRun) -> Oracle {
    let mut producer = Producer::new(temp, 7, false);
    for n in 1..=2 {
        let path = format!("tensors/{n}.npy");
        producer.write_at_once(&path, &gray(n));
        producer.log("a.media.jsonl", &json!({"key": "line", "step": 1, "data": path}));
        producer.oracle.add("line", 1, n, false);
    }
    temp.append("a.media.jsonl", "broken\n");
    producer.oracle.n_bad_lines += 1;
    let numbers: Vec<u64> = (10..18).collect();
    producer.write_at_once("dumps/sheet/1.npy.json", b"{\"format\":\"NHW\"}");
    producer.write_at_once("dumps/sheet/1.npy", &batch(&numbers));
    producer.oracle.replace("sheet", 1, &numbers);
    producer.oracle
}

/// Writes another version of a dump, with fewer pictures.
fn write_a_little_more(temp: &TempRun, oracle: &mut Oracle) {
    temp.write("dumps/sheet/1.npy", &batch(&[20, 21]));
    oracle.replace("sheet", 1, &[20, 21]);
}

#[test]
fn killed_at_each_call_that_makes_something_durable_nothing_is_lost_or_doubled() {
    // strace kills the program as a thread of it enters its n-th call: every third, from another first for
    // each kind of call, unless many kills are asked for.
    let has_strace = Command::new("strace").args(["-f", "-e", "trace=fsync", "true"]).output();
    if !has_strace.is_ok_and(|ran| ran.status.success()) {
        skip("strace is not installed or may not trace");
        return;
    }
    let every = if n_kills() > 50 { 1 } else { 3 };
    let mut n_killed = 0;
    for (first, call) in (1..).zip(["fsync", "fdatasync", "rename", "ftruncate", "sync_file_range"])
    {
        for n in (first..).step_by(every) {
            let temp = TempRun::new();
            let scene = Scene::new(&temp);
            let mut oracle = write_a_little(&temp);
            let mut was_killed = false;
            // In a new store, then in one that has it all but the new version.
            for is_second in [false, true] {
                if is_second {
                    assert!(matches!(scene.ingest().code, 0 | 3));
                    write_a_little_more(&temp, &mut oracle);
                }
                let log = File::create(scene.log()).expect("a log");
                let status = Command::new("strace")
                    .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
                    .args(["-e", &format!("inject={call}:signal=KILL:when={n}"), PROGRAM])
                    .args(["ingest", temp.at("").to_str().expect("a path"), "--config"])
                    .arg(&scene.config)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(log)
                    .status()
                    .expect("strace");
                was_killed |= !matches!(status.code(), Some(0 | 3));
                n_killed += u64::from(!matches!(status.code(), Some(0 | 3)));
            }
            let ran = scene.ingest();
            assert!(matches!(ran.code, 0 | 3), "{call} {n}: {ran:?}");
            let items = temp.items();
            let (got, _) = holds(&temp.store(), &items);
            assert_eq!(differences(&oracle, &got), Vec::<String>::new(), "{call} {n}");
            fs::remove_dir_all(temp.store().join("index")).expect("an index");
            assert!(
                temp.items() == items,
                "{call} {n}: the index says otherwise than the journals"
            );
            // There are not so many calls of this kind.
            if !was_killed {
                break;
            }
        }
    }
    assert!(n_killed > 5, "{n_killed} kills only: nothing was tried");
    eprintln!("killed at {n_killed} calls: each item exactly once");
}

/// Kills the program so often while a job writes, in as many stores as that takes. `is_daemon` says of
/// each start whether it is the daemon's.
fn kill_often(
    what: &str,
    n_kills: u64,
    seed: u64,
    is_daemon: impl Fn(&mut Random) -> bool,
    is_patient: bool,
) {
    let start = Instant::now();
    let mut random = Random(seed);
    let (mut n_killed, mut n_stores, mut n_items, mut n_old) = (0, 0, 0, 0);
    while n_killed < n_kills {
        n_stores += 1;
        let temp = TempRun::new();
        let scene = Scene::new(&temp);
        let is_over = AtomicBool::new(false);
        let oracle = Mutex::new(None);
        std::thread::scope(|scope| {
            let producer = Producer::new(&temp, seed + n_stores, is_patient);
            scope.spawn(|| *oracle.lock().expect("a lock") = Some(producer.run(&is_over)));
            let mut of_store = 0;
            let mut n_starts = 0;
            while of_store < KILLS_PER_STORE && n_killed < n_kills && n_starts < 4 * KILLS_PER_STORE
            {
                n_starts += 1;
                let is_daemon = is_daemon(&mut random);
                let was_killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    scene.kill_one(is_daemon, &mut random)
                }));
                // The producer ends in any case, so that a failure is told.
                let was_killed = was_killed.unwrap_or_else(|panic| {
                    is_over.store(true, Ordering::Relaxed);
                    std::panic::resume_unwind(panic)
                });
                of_store += u64::from(was_killed);
                n_killed += u64::from(was_killed);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let oracle = oracle.into_inner().expect("a lock").expect("what was written");
        let (items, old) = scene.check(oracle);
        n_items += items;
        n_old += old;
    }
    eprintln!(
        "{what}: {n_killed} kills in {n_stores} stores, {n_items} items, each exactly once, in {:.0} s; \
         {n_old} media files of earlier versions",
        start.elapsed().as_secs_f64()
    );
}

#[test]
fn a_daemon_killed_again_and_again_while_a_job_writes_loses_and_doubles_nothing() {
    kill_often("daemon", n_kills() / 2, 0x5AFE_1167, |_| true, true);
}

#[test]
fn ingest_and_daemon_killed_in_turn_while_a_job_writes_lose_and_double_nothing() {
    kill_often(
        "daemon and ingest",
        n_kills() - n_kills() / 2,
        0xDAE0_0111,
        |random| random.below(3) == 0,
        false,
    );
}
