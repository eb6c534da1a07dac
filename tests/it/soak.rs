//! A daemon beside jobs that write for long, while all kinds of things happen to it: at every moment its
//! metrics add up, and in the end each picture is there once.
//!
//! Every run of the tests does it for a moment; `./test.sh soak 1800` for half an hour, with a store on
//! a disk of its own that is full now and then. It writes what the process took to
//! `target/soak/soak.tsv`, which `tests/soak_plot.py` draws.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{
    PROGRAM, Random, gray, has_cursor, number_from, number_in_file, send_signal, wait_for,
};

/// More than so many images of a step are held back, of so many that the job makes.
const ITEMS_MAX: u64 = 6;
const ITEMS_PER_STEP: u64 = 10;

/// How long what was written may take to be kept, whatever happens meanwhile.
const PATIENCE: Duration = Duration::from_mins(3);

/// A process that lived shorter tells nothing about what grows.
const LIFETIME_MIN: Duration = Duration::from_mins(3);

fn seconds() -> u64 {
    number_from("SAFELIGHT_SOAK", 8)
}

/// Where runs and store lie, and the program.
struct Scene {
    folder: tempfile::TempDir,
    store: PathBuf,
    /// Whether the store is on a disk of its own, which may be filled.
    may_be_filled: bool,
    program: PathBuf,
    /// The number in each media file that was looked at; their names tell their contents.
    numbers: Mutex<HashMap<PathBuf, u64>>,
}

/// What must have become of what was written into a run directory: the number in each picture, in
/// order, or none where it is held back; and what is rejected.
#[derive(Debug, Default, Clone, PartialEq)]
struct Wants {
    images: BTreeMap<(String, u64), Vec<Option<u64>>>,
    n_bad_lines: usize,
    bad_dumps: BTreeSet<String>,
}

impl Wants {
    /// Where another one says otherwise, in a few words.
    fn differences(&self, got: &Self) -> String {
        let mut text = String::new();
        let places: BTreeSet<_> = self.images.keys().chain(got.images.keys()).collect();
        for place in places {
            let (want, got) = (self.images.get(place), got.images.get(place));
            if want != got {
                writeln!(text, "{place:?}: {got:?}, want {want:?}").expect("a text takes all");
            }
        }
        for (what, dumps, others) in [
            ("not rejected", &self.bad_dumps, &got.bad_dumps),
            ("rejected", &got.bad_dumps, &self.bad_dumps),
        ] {
            let dumps: Vec<_> = dumps.difference(others).collect();
            if !dumps.is_empty() {
                writeln!(text, "{what}: {dumps:?}").expect("a text takes all");
            }
        }
        if self.n_bad_lines != got.n_bad_lines {
            writeln!(text, "{} bad lines, want {}", got.n_bad_lines, self.n_bad_lines)
                .expect("a text takes all");
        }
        text
    }
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("runs")).expect("a folder");
        let own = std::env::var_os("SAFELIGHT_SOAK_STORE").map(PathBuf::from);
        let program = std::env::var_os("SAFELIGHT_PROGRAM").map(PathBuf::from);
        let scene = Self {
            store: own.clone().unwrap_or_else(|| folder.path().join("store")),
            may_be_filled: own.is_some(),
            program: program.unwrap_or_else(|| PROGRAM.into()),
            folder,
            numbers: Mutex::default(),
        };
        scene.configure(2000);
        scene
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("safelight.toml")
    }

    fn configure(&self, scan_ms: u64) {
        let text = format!(
            "[store]\npath = \"{}\"\n[control]\nsocket = \"control.sock\"\n[[watch]]\npath = \"runs\"\n\
             [ingest]\nsettle_ms = 100\nclose_ms = 20\nwait_ms = 600000\nincomplete_ms = 1500\n\
             scan_ms = {scan_ms}\n[limits]\nmax_items = {ITEMS_MAX}\n",
            self.store.display()
        );
        // At once, as `validate` and a reload may read it at any time.
        let aside = self.folder.path().join("safelight.toml.new");
        fs::write(&aside, text).expect("a configuration");
        fs::rename(aside, self.config()).expect("a configuration");
    }

    fn start(&self) -> Child {
        let log = self.folder.path().join("daemon.log");
        let log = OpenOptions::new().create(true).append(true).open(log).expect("a log");
        let mut command = Command::new(&self.program);
        command.arg("daemon").arg("--config").arg(self.config());
        command.stdin(Stdio::null()).stderr(log).spawn().expect("the daemon")
    }

    /// The last lines that daemons have logged.
    fn log_end(&self) -> String {
        let log = fs::read(self.folder.path().join("daemon.log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(4000)..]).into_owned()
    }

    /// What the store has of a run, as `ls` tells it; `None` while nobody can tell.
    fn holds(&self, run: &str) -> Option<Wants> {
        let mut command = Command::new(&self.program);
        command.args(["ls", run, "--json", "--config"]).arg(self.config());
        let output = command.stdin(Stdio::null()).output().expect("the program");
        if !output.status.success() {
            return None;
        }
        let mut got = Wants::default();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let item: Value = serde_json::from_str(line).expect("an item");
            let number = match item["state"].as_str() {
                Some("image") => {
                    let path = self.store.join(item["path"].as_str().expect("a path"));
                    let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
                    Some(*numbers.entry(path).or_insert_with_key(|path| number_in_file(path)))
                }
                Some("held") => None,
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
            let (key, step) = (item["key"].as_str().expect("a key"), item["step"].as_u64());
            let images = got.images.entry((key.to_owned(), step.expect("a step"))).or_default();
            // A gap or a double shows as an image in a wrong place.
            assert_eq!(item["index"], images.len(), "not the next index: {item}");
            images.push(number);
        }
        Some(got)
    }

    /// Waits until the store has all of a run, and no more.
    fn wait_until_kept(&self, run: &str, wants: &Wants, is_over: Option<&AtomicBool>) {
        let start = Instant::now();
        let mut got = None;
        while got.as_ref() != Some(wants) {
            if is_over.is_some_and(|is_over| is_over.load(Ordering::Relaxed)) {
                return;
            }
            let differences = || got.as_ref().map(|got| wants.differences(got)).unwrap_or_default();
            assert!(
                start.elapsed() < PATIENCE,
                "{run} does not come to what was written:\n{}\n{}",
                differences(),
                self.log_end()
            );
            std::thread::sleep(Duration::from_millis(50));
            got = self.holds(run);
        }
    }
}

/// A job, which writes one run directory.
struct Job<'a> {
    scene: &'a Scene,
    run: String,
    at: PathBuf,
    wants: Wants,
    /// Lines of two logs have no order: each log has keys of its own.
    log: u64,
    n_crowd: u64,
    /// Dumps whose lines are written already.
    late: Vec<(String, u64)>,
    rotated: Vec<PathBuf>,
}

impl<'a> Job<'a> {
    fn new(scene: &'a Scene, number: u64) -> Self {
        let run = format!("run-{number}");
        let at = scene.folder.path().join("runs").join(&run);
        fs::create_dir_all(at.join("tensors")).expect("a run directory");
        let (wants, late, rotated) = (Wants::default(), Vec::new(), Vec::new());
        Self { scene, run, at, wants, log: 0, n_crowd: 0, late, rotated }
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.at.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, bytes).expect("a file");
    }

    fn line(&self, log: &str, line: &str) {
        let path = self.at.join(log);
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("a log");
        file.write_all(line.as_bytes()).expect("an append");
    }

    fn logged(&mut self, log: &str, key: &str, step: u64, n: u64) {
        let path = format!("tensors/{n}.npy");
        self.write(&path, &gray(n));
        self.line(log, &format!("{}\n", json!({"key": key, "step": step, "data": path})));
    }

    fn want(&mut self, key: &str, step: u64, images: Vec<Option<u64>>) {
        self.wants.images.insert((key.to_owned(), step), images);
    }

    /// Whether the store knows the log of lines, so that it is found under another name.
    fn is_known(&self, log: &Path) -> bool {
        has_cursor(&self.scene.store.join("runs").join(&self.run), log)
    }

    /// Does one of the things that jobs do. `n` is a number that no other picture has.
    fn step(&mut self, n: u64, random: &mut Random, is_over: &AtomicBool) {
        match random.below(100) {
            // More lines than a step may have images.
            0..35 => {
                let (key, step) = (format!("crowd{}", self.log), self.n_crowd / ITEMS_PER_STEP);
                let place = self.n_crowd % ITEMS_PER_STEP;
                self.n_crowd += 1;
                self.logged("a.media.jsonl", &key, step, n);
                let images = self.wants.images.entry((key, step)).or_default();
                images.push((place < ITEMS_MAX).then_some(n));
            }
            35..60 => {
                self.write(&format!("dumps/alone/{n}.npy"), &gray(n));
                self.want("alone", n, vec![Some(n)]);
            }
            // A new version.
            60..75 => {
                let step = random.below(12);
                self.write(&format!("dumps/again/{step}.npy"), &gray(n));
                self.want("again", step, vec![Some(n)]);
            }
            // A line before its dump.
            75..80 => {
                let path = format!("tensors/late-{n}.npy");
                let line = json!({"key": "late", "step": n, "data": path});
                self.line("late.media.jsonl", &format!("{line}\n"));
                self.late.push((path, n));
                self.want("late", n, vec![Some(n)]);
            }
            80..88 => self.write_late(),
            88..91 => {
                self.line(
                    "b.media.jsonl",
                    ["broken\n", "{\"key\":1}\n"][usize::from(n.is_multiple_of(2))],
                );
                self.wants.n_bad_lines += 1;
            }
            // No dump, or half of one.
            91..94 => {
                let path = format!("dumps/odd/{n}.npy");
                let bytes = gray(n);
                self.write(&path, if n.is_multiple_of(2) { b"no npy file" } else { &bytes[..90] });
                self.wants.bad_dumps.insert(path);
            }
            94..97 => {
                self.logged("c.media.jsonl", "cut", n, n);
                self.want("cut", n, vec![Some(n)]);
            }
            // The log is cut off where it stands, once all of it is kept.
            97 if random.below(3) == 0 => {
                self.finish_late();
                self.scene.wait_until_kept(&self.run, &self.wants, Some(is_over));
                if let Ok(file) = OpenOptions::new().write(true).open(self.at.join("c.media.jsonl"))
                    && !is_over.load(Ordering::Relaxed)
                {
                    file.set_len(0).expect("a truncation");
                }
                // Rotated logs go once they are read.
                if !is_over.load(Ordering::Relaxed) {
                    self.rotated.drain(..).for_each(|log| fs::remove_file(log).expect("a removal"));
                }
            }
            98 => {
                let log = self.at.join("a.media.jsonl");
                if self.is_known(&log) {
                    let to = self.at.join(format!("a.media.jsonl.{}", self.log));
                    fs::rename(log, &to).expect("a rename");
                    self.rotated.push(to);
                    (self.log, self.n_crowd) = (self.log + 1, 0);
                }
            }
            _ => {}
        }
    }

    fn write_late(&mut self) {
        if let Some((path, n)) = self.late.pop() {
            self.write(&path, &gray(n));
        }
    }

    fn finish_late(&mut self) {
        while !self.late.is_empty() {
            self.write_late();
        }
    }
}

/// Two jobs at a time write until it is over; each ends after a while, its run directory is removed
/// once all of it is kept, and another one begins. Returns what must have become of each run.
fn write_runs(scene: &Scene, is_over: &AtomicBool) -> Vec<(String, Wants)> {
    let mut random = Random(0x50A4_0001);
    let lifetime = Duration::from_secs((seconds() / 5).clamp(3, 90));
    let (mut n, mut n_jobs, mut done) = (0, 2, Vec::new());
    let mut jobs = [Job::new(scene, 0), Job::new(scene, 1)];
    let mut since = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        n += 1;
        let job = &mut jobs[usize::from(random.below(2) == 0)];
        job.step(n, &mut random, is_over);
        if since.elapsed() > lifetime {
            job.finish_late();
            scene.wait_until_kept(&job.run, &job.wants, Some(is_over));
            if !is_over.load(Ordering::Relaxed) {
                fs::remove_dir_all(&job.at).expect("a removal");
                let ended = std::mem::replace(job, Job::new(scene, n_jobs));
                done.push((ended.run, ended.wants));
                (n_jobs, since) = (n_jobs + 1, Instant::now());
            }
        }
        std::thread::sleep(Duration::from_millis(random.below(60)));
    }
    for mut job in jobs {
        job.finish_late();
        done.push((job.run, job.wants));
    }
    done
}

/// What a scrape told.
struct Sample {
    at: Duration,
    values: HashMap<String, f64>,
}

impl Sample {
    fn get(&self, name: &str) -> f64 {
        *self.values.get(&format!("safelight_{name}")).unwrap_or_else(|| panic!("no {name}"))
    }

    /// The sum over all labels.
    fn sum(&self, name: &str) -> f64 {
        let name = format!("safelight_{name}{{");
        let of_name = self.values.iter().filter(|(key, _)| key.starts_with(&name));
        of_name.map(|(_, value)| value).sum()
    }

    /// What went in must be what came out, or is on its way.
    fn imbalance(&self) -> Option<String> {
        let n_in = self.get("items_in_total");
        let (out, back) = (self.sum("items_out_total"), self.get("items_given_back_total"));
        let on_the_way = self.get("items_in_flight");
        (n_in != out + back + on_the_way).then(|| {
            format!(
                "{:.1} s: {n_in} in, {out} out, {back} given back, {on_the_way} in flight",
                self.at.as_secs_f64()
            )
        })
    }
}

/// Asks for the metrics, as `curl --unix-socket` does.
fn scrape(socket: &Path) -> Option<HashMap<String, f64>> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let request = b"GET /metrics HTTP/1.1\r\nHost: safelight\r\nConnection: close\r\n\r\n";
    stream.write_all(request).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, text) = answer.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    if !text.contains("# EOF") {
        return None; // It was killed meanwhile.
    }
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let values = lines.filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    Some(values.collect())
}

fn scrape_on(scene: &Scene, is_over: &AtomicBool) -> Vec<Sample> {
    let every = Duration::from_millis(if seconds() < 60 { 100 } else { 1000 });
    let socket = scene.folder.path().join("control.sock");
    let (start, mut samples) = (Instant::now(), Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        if let Some(values) = scrape(&socket) {
            samples.push(Sample { at: start.elapsed(), values });
        }
        std::thread::sleep(every);
    }
    samples
}

/// Ends the other threads with the one that holds it, also when that panics: the failure is told then.
struct EndsAll<'a>(&'a AtomicBool);

impl Drop for EndsAll<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does one thing after the other to the daemon. Returns it, and how often what was done.
fn do_harm(
    scene: &Scene,
    mut child: Child,
    is_over: &AtomicBool,
) -> (Child, BTreeMap<&'static str, u32>) {
    let mut random = Random(0xFA17_0001);
    let (start, total) = (Instant::now(), Duration::from_secs(seconds()));
    let (mut n, mut counts) = (0, BTreeMap::new());
    while start.elapsed() < total && !is_over.load(Ordering::Relaxed) {
        let pause =
            if seconds() < 60 { 300 + random.below(900) } else { 4000 + random.below(9000) };
        std::thread::sleep(Duration::from_millis(pause));
        assert!(child.try_wait().expect("a status").is_none(), "it ended: {}", scene.log_end());
        // Each once, then any.
        let which = if n < 4 { n } else { random.below(7) };
        n += 1;
        let what = match which {
            // The last process lives for more than half of the time, so that it shows what grows.
            0 | 4 if start.elapsed() < total.mul_f64(0.45) => {
                child.kill().expect("a kill");
                child.wait().expect("an end");
                child = scene.start();
                "kills"
            }
            1 | 5 => {
                send_signal(&child, "-STOP");
                std::thread::sleep(Duration::from_millis(100 + random.below(1500)));
                send_signal(&child, "-CONT");
                "stops"
            }
            2 => {
                scene.configure(1000 + random.below(2000));
                send_signal(&child, "-HUP");
                "reloads"
            }
            3 if scene.may_be_filled => {
                let filler = scene.store.join("filler");
                let mut file = fs::File::create(&filler).expect("a file");
                let part = vec![1; 1 << 16];
                while file.write_all(&part).is_ok() {}
                std::thread::sleep(Duration::from_millis(500 + random.below(3000)));
                drop(file);
                fs::remove_file(filler).expect("a removal");
                "full disks"
            }
            _ => continue,
        };
        *counts.entry(what).or_default() += 1;
    }
    (child, counts)
}

/// The values that are written down, by name and what they are divided by.
const COLUMNS: [(&str, f64); 10] = [
    ("process_resident_memory_bytes", 1e6),
    ("process_open_fds", 1.0),
    ("process_threads", 1.0),
    ("process_cpu_seconds_total", 1.0),
    ("lag_seconds", 1.0),
    ("items_in_flight", 1.0),
    ("items_in_total", 1.0),
    ("log_bytes_behind", 1.0),
    ("index_bytes", 1e6),
    ("dumps_waiting", 1.0),
];

fn write_table(samples: &[Sample]) -> PathBuf {
    let mut text = String::from("seconds");
    COLUMNS.iter().for_each(|(name, _)| write!(text, "\t{name}").expect("a text takes all"));
    text.push_str("\tstore_items\twatched_folders\n");
    for sample in samples {
        write!(text, "{:.2}", sample.at.as_secs_f64()).expect("a text takes all");
        for (name, unit) in COLUMNS {
            write!(text, "\t{:.3}", sample.get(name) / unit).expect("a text takes all");
        }
        let (items, folders) = (sample.sum("store_items"), sample.sum("watched_folders"));
        writeln!(text, "\t{items}\t{folders}").expect("a text takes all");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/soak");
    fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("soak.tsv");
    fs::write(&path, text).expect("a table");
    path
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What the last process took in the second and the last quarter of its life, where it lived long
/// enough: the medians, whose difference is what grows without an end. (The first quarter fills caches.)
fn growth(samples: &[Sample]) -> Vec<(&'static str, f64, f64)> {
    let cpu = |sample: &Sample| sample.get("process_cpu_seconds_total");
    let starts = samples.windows(2).rposition(|pair| cpu(&pair[1]) < cpu(&pair[0]));
    let last = &samples[starts.map_or(0, |i| i + 1)..];
    let lived = last[last.len() - 1].at.saturating_sub(last[0].at);
    if lived < LIFETIME_MIN {
        return Vec::new();
    }
    let quarter = last.len() / 4;
    let of = |samples: &[Sample], name| median(samples.iter().map(|s| s.get(name)).collect());
    let names = ["process_resident_memory_bytes", "process_open_fds", "process_threads"];
    let (second, fourth) = (&last[quarter..2 * quarter], &last[3 * quarter..]);
    names.into_iter().map(|name| (name, of(second, name), of(fourth, name))).collect()
}

#[test]
fn metrics_add_up_whatever_happens_and_each_picture_is_kept_once() {
    let scene = Scene::new();
    let is_over = AtomicBool::new(false);
    let child = scene.start();
    let (samples, runs, (mut child, counts)) = std::thread::scope(|scope| {
        let samples = scope.spawn(|| scrape_on(&scene, &is_over));
        let runs = scope.spawn(|| {
            let _end = EndsAll(&is_over);
            write_runs(&scene, &is_over)
        });
        let harm = {
            let _end = EndsAll(&is_over);
            do_harm(&scene, child, &is_over)
        };
        (samples.join().expect("scrapes"), runs.join().expect("what was written"), harm)
    });
    let mut n_items = 0;
    for (run, wants) in &runs {
        scene.wait_until_kept(run, wants, None);
        let n_images = wants.images.values().map(Vec::len).sum::<usize>();
        n_items += n_images + wants.n_bad_lines + wants.bad_dumps.len();
    }
    send_signal(&child, "-TERM");
    assert_eq!(child.wait().expect("an end").code(), Some(0), "{}", scene.log_end());
    // The same without a daemon, of the runs that are long gone too.
    for (run, wants) in &runs {
        let got = scene.holds(run).expect("a listing");
        assert_eq!(wants.differences(&got), "", "{run}");
    }
    let uneven: Vec<String> = samples.iter().filter_map(Sample::imbalance).collect();
    assert_eq!(uneven, Vec::<String>::new());
    assert!(samples.len() as u64 > seconds() / 4, "only {} scrapes came", samples.len());
    let n_runs = runs.len();
    eprintln!(
        "soak: {} s, {n_items} items of {n_runs} runs, each once; {counts:?}; the metrics of {} scrapes \
         add up",
        seconds(),
        samples.len()
    );
    let table = write_table(&samples);
    eprintln!("soak: {}", table.display());
    for (name, second, fourth) in growth(&samples) {
        eprintln!(
            "soak: {name}: {second} in the second quarter of the last process, {fourth} in its last"
        );
        let slack = if name.ends_with("bytes") { 24e6 } else { 6.0 };
        assert!(fourth <= 1.25 * second + slack, "{name} grows from {second} to {fourth}");
    }
    wait_for("the socket to go", || !scene.folder.path().join("control.sock").is_file());
}
