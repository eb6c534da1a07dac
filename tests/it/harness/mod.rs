//! Helpers that several test modules use: a run directory, a store, the program, and a daemon.

mod dumps;
mod numbers;
mod programs;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) use dumps::{gray, gray_batch, npy, npz};
pub(crate) use numbers::{Random, number_from, optional_number_from, random_cases};
pub(crate) use programs::{
    KilledOnDrop, can_trace, faketime, has_program, kill_at_call, make_fifo, post_as_nobody,
    python, send_signal, skip,
};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_safelight");

/// A run directory `run` and a store beside it.
pub(crate) struct TempRun {
    folder: TempDir,
}

/// Output and exit code of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

/// A setting that records the SHA-256 of each dump in its items.
pub(crate) const WITH_SHA256: &str = "[work]\ndump_digest = \"sha256\"\n";

/// A part of the message that a daemon logs when it is ready.
pub(crate) const READY: &str = "initial scan complete";

impl TempRun {
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// Creates the run directory and the store below this folder.
    pub(crate) fn below(folder: &Path) -> Self {
        let folder = tempfile::tempdir_in(folder).expect("a folder");
        fs::create_dir(folder.path().join("run")).expect("a run directory");
        Self { folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the path of a file of the run directory.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join("run").join(path)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Writes a file of the run directory. Creates its parent folders.
    pub(crate) fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, bytes).expect("a file");
    }

    /// Appends text to a file of the run directory.
    pub(crate) fn append(&self, path: &str, text: &str) {
        let mut file =
            OpenOptions::new().create(true).append(true).open(self.at(path)).expect("a log");
        file.write_all(text.as_bytes()).expect("an append");
    }

    /// Writes the dump [`gray`]`(n)` and its log line.
    pub(crate) fn log_picture(&self, key: &str, step: u64, n: u64) {
        let path = format!("tensors/{}-{step}-{n}.npy", key.replace('/', "-"));
        self.write(&path, &gray(n));
        self.append(
            "a.media.jsonl",
            &format!("{{\"key\":\"{key}\",\"step\":{step},\"data\":\"{path}\"}}\n"),
        );
    }

    /// Runs the program with these arguments and `--store`.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(PROGRAM);
        command.args(args).arg("--store").arg(self.store()).stdin(Stdio::null());
        command.output().expect("the program").into()
    }

    pub(crate) fn ingest(&self) -> Ran {
        let run = self.at("");
        self.run(&["ingest", run.to_str().expect("a path")])
    }

    /// Runs the program with a configuration that has these settings.
    pub(crate) fn run_with(&self, settings: &str, args: &[&str]) -> Ran {
        let config = self.configure(settings);
        self.run(&[args, &["--config", config.to_str().expect("a path")]].concat())
    }

    /// Returns all items that `ls --json` lists.
    pub(crate) fn items(&self) -> Vec<Value> {
        let ran = self.run(&["ls", "--json"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.out.lines().map(|line| serde_json::from_str(line).expect("an item")).collect()
    }

    /// Returns state and reason of each item, in the order of `ls`.
    pub(crate) fn states(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        self.items().iter().map(|item| (text(&item["state"]), text(&item["reason"]))).collect()
    }

    /// Returns the number of images, held items and rejected items.
    pub(crate) fn counts(&self) -> [usize; 3] {
        let states = self.states();
        ["image", "held", "rejected"].map(|state| states.iter().filter(|(s, _)| s == state).count())
    }

    /// Returns every item in the journal, earlier versions before later ones.
    pub(crate) fn journaled_items(&self) -> Vec<Value> {
        let mut items = Vec::new();
        let segments = fs::read_dir(self.store().join("runs/run/journal"));
        for segment in segments.into_iter().flatten().flatten() {
            let text = fs::read_to_string(segment.path()).expect("a segment");
            // A daemon may still be writing the last line.
            for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                let event: Value = serde_json::from_str(line).expect("an event");
                items.extend((event["kind"] == "media").then_some(event));
            }
        }
        items
    }

    /// Returns the output of `status --json`.
    pub(crate) fn status(&self) -> Value {
        let ran = self.run(&["status", "--json"]);
        serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("no status: {ran:?}"))
    }

    /// Returns the number of images that `status` reports.
    pub(crate) fn n_images(&self) -> u64 {
        self.status()["image"].as_u64().expect("a number")
    }

    /// Deletes the index. The next command rebuilds it from the journals.
    pub(crate) fn remove_index(&self) {
        fs::remove_dir_all(self.store().join("index")).expect("an index");
    }

    /// Writes a configuration that watches the parent folder of the run directory.
    pub(crate) fn configure(&self, settings: &str) -> PathBuf {
        let config = self.folder.path().join("safelight.toml");
        // Without this, other processes of a busy machine would starve the daemon.
        let settings = if settings.contains("nice = ") {
            settings.to_owned()
        } else if settings.contains("[work]\n") {
            settings.replace("[work]\n", "[work]\nnice = 0\n")
        } else {
            format!("{settings}\n[work]\nnice = 0\n")
        };
        let text = format!(
            "[store]\npath = \"store\"\n[control]\nsocket = \"control.sock\"\n\
             [[watch]]\npath = \".\"\nruns = \"run*\"\n{settings}"
        );
        fs::write(&config, text).expect("a configuration");
        config
    }

    /// Starts a daemon that watches the parent folder of the run directory, and waits until it is ready.
    pub(crate) fn daemon(&self, settings: &str) -> Daemon {
        self.daemon_from(settings, Command::new(PROGRAM))
    }

    /// Starts the daemon by a command that ends in the program's path. Appends `daemon` and its options.
    pub(crate) fn daemon_from(&self, settings: &str, mut command: Command) -> Daemon {
        let config = self.configure(settings);
        let log = fs::File::create(self.folder.path().join("daemon.log")).expect("a log");
        let child = command
            .args(["daemon", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the daemon");
        let daemon = Daemon { child, log: self.folder.path().join("daemon.log") };
        wait_for("the daemon to be ready", || daemon.log_text().contains(READY));
        daemon
    }
}

/// A running daemon, killed when dropped.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn log_text(&self) -> String {
        let mut text = String::new();
        let read = fs::File::open(&self.log).and_then(|mut file| file.read_to_string(&mut text));
        read.map_or_else(|_| String::new(), |_| text)
    }

    pub(crate) fn signal(&self, signal: &str) {
        send_signal(&self.child, signal);
    }

    /// Returns the CPU time that the daemon has used, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("stat");
        // The second field is the name in parentheses. utime and stime are the 12th and 13th after it.
        let (_, rest) = stat.rsplit_once(") ").expect("a name");
        let ticks = rest.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
        ticks.sum::<f64>() / 100.0
    }

    /// Sends SIGTERM and waits. Returns the exit code and how long the daemon took to exit.
    pub(crate) fn stop(mut self) -> (Option<i32>, Duration) {
        let start = Instant::now();
        self.signal("-TERM");
        let status = self.child.wait().expect("the daemon's end");
        (status.code(), start.elapsed())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Waits until `is_so` returns true, for at most two minutes, because the machine may be busy.
pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_mins(2), "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until `count` is `want`. Panics if it does not grow for a minute.
pub(crate) fn wait_for_all(what: &str, want: u64, mut count: impl FnMut() -> u64) {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let now = count();
        if now >= want {
            assert_eq!(now, want, "{what}");
            return;
        }
        if now > last {
            (last, since) = (now, Instant::now());
        }
        assert!(
            since.elapsed() < Duration::from_mins(1),
            "timed out waiting for {what}: {now} of {want}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns all files below a folder. A folder that does not exist has none.
pub(crate) fn files_below(folder: &Path) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            files.append(&mut files_below(&entry.path()));
        } else {
            files.insert(entry.path());
        }
    }
    files
}

/// Returns whether the journal of a run's folder has a cursor of a log.
pub(crate) fn has_cursor(run: &Path, log: &Path) -> bool {
    let Ok(meta) = fs::metadata(log) else { return false };
    let journal = fs::read_to_string(run.join("journal/00000001.jsonl"));
    journal.is_ok_and(|text| text.contains(&format!("\"ino\":{},\"offset\":", meta.ino())))
}

/// Returns the number that [`gray`] put into the picture of an item.
pub(crate) fn number_in(store: &Path, item: &Value) -> u64 {
    number_in_file(&store.join(item["path"].as_str().expect("a path")))
}

/// Returns the number that [`gray`] put into the picture in a media file.
pub(crate) fn number_in_file(path: &Path) -> u64 {
    let picture = image::load_from_memory(&fs::read(path).expect("a media file"));
    let pixels = picture.expect("a picture").into_luma8().into_raw();
    u64::from_le_bytes(pixels[..8].try_into().expect("eight pixels"))
}

/// What was rejected of a run directory.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) n_lines: usize,
    /// Paths of path dumps.
    pub(crate) dumps: BTreeSet<String>,
}

impl Rejected {
    /// Adds a rejected item.
    ///
    /// # Panics
    /// If another item of its path dump was added.
    pub(crate) fn add(&mut self, item: &Value) {
        let source = item["source"]["path"].as_str().expect("a source");
        if source.starts_with("dumps/") {
            assert!(self.dumps.insert(source.to_owned()), "rejected twice: {item}");
        } else {
            self.n_lines += 1;
        }
    }
}
