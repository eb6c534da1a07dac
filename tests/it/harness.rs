//! What the tests share: a run directory, a store, the program, and a daemon.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_safelight");

/// A run directory `run` and a store beside it.
pub(crate) struct TempRun {
    folder: TempDir,
}

/// What a command printed and how it ended.
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

/// A setting: items have the SHA-256 of their dumps.
pub(crate) const TOLD_BY_SHA256: &str = "[work]\ndump_digest = \"sha256\"\n";

impl TempRun {
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// The same in a folder of one's choice.
    pub(crate) fn below(folder: &Path) -> Self {
        let folder = tempfile::tempdir_in(folder).expect("a folder");
        fs::create_dir(folder.path().join("run")).expect("a run directory");
        Self { folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the run directory.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join("run").join(path)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Writes a file of the run directory, and the folders above it.
    pub(crate) fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, bytes).expect("a file");
    }

    /// Adds text to a file of the run directory.
    pub(crate) fn append(&self, path: &str, text: &str) {
        let mut file =
            OpenOptions::new().create(true).append(true).open(self.at(path)).expect("a log");
        file.write_all(text.as_bytes()).expect("an append");
    }

    /// Writes a gray picture of 4 × 4 and the log line that describes it.
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

    /// All items, as `ls --json` tells them.
    pub(crate) fn items(&self) -> Vec<Value> {
        let ran = self.run(&["ls", "--json"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.out.lines().map(|line| serde_json::from_str(line).expect("an item")).collect()
    }

    /// (state, reason) of each item, in order.
    pub(crate) fn states(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        self.items().iter().map(|item| (text(&item["state"]), text(&item["reason"]))).collect()
    }

    /// How many items are images, held back, rejected.
    pub(crate) fn counts(&self) -> [usize; 3] {
        let states = self.states();
        ["image", "held", "rejected"].map(|state| states.iter().filter(|(s, _)| s == state).count())
    }

    /// The items that the journal was ever told of, later versions after earlier ones.
    pub(crate) fn journaled_items(&self) -> Vec<Value> {
        let mut items = Vec::new();
        let segments = fs::read_dir(self.store().join("runs/run/journal"));
        for segment in segments.into_iter().flatten().flatten() {
            let text = fs::read_to_string(segment.path()).expect("a segment");
            // The last line may be being written.
            for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                let event: Value = serde_json::from_str(line).expect("an event");
                items.extend((event["kind"] == "media").then_some(event));
            }
        }
        items
    }

    /// What `status --json` tells.
    pub(crate) fn status(&self) -> Value {
        let ran = self.run(&["status", "--json"]);
        serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("no status: {ran:?}"))
    }

    /// How many images are kept, as `status` tells.
    pub(crate) fn n_images(&self) -> u64 {
        self.status()["image"].as_u64().expect("a number")
    }

    /// Writes a configuration that watches the folder of the run directory.
    pub(crate) fn configure(&self, settings: &str) -> PathBuf {
        let config = self.folder.path().join("safelight.toml");
        // The other tests of a busy machine don't keep it from work.
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

    /// Starts a daemon that watches the folder of the run directory.
    pub(crate) fn daemon(&self, settings: &str) -> Daemon {
        self.daemon_by(settings, Command::new(PROGRAM))
    }

    /// The same by another command, which ends in the program: `daemon` and its options are added.
    pub(crate) fn daemon_by(&self, settings: &str, mut command: Command) -> Daemon {
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
        wait_for("the daemon to be ready", || daemon.log_text().contains("looked at once"));
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
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().expect("kill");
        assert!(status.success());
    }

    /// How many seconds of a processor it has taken so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("stat");
        // The second field is the name in parentheses; of the rest, utime and stime.
        let (_, rest) = stat.rsplit_once(") ").expect("a name");
        let ticks = rest.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
        ticks.sum::<f64>() / 100.0
    }

    /// Ends it with SIGTERM. Returns how it ended, and how long that took.
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

/// Waits until `is_so`, for two minutes at most: the machine may have much else to do.
pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_mins(2), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until `count` is `want`, as long as it grows at least once a minute.
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
            "waited in vain for {what}: {now} of {want}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A small generator of numbers that seem random: the same for each run of the tests.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A number from the environment, or `usual`.
pub(crate) fn number_from(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// The number that [`gray`] put into the picture of an item.
pub(crate) fn number_in(store: &Path, item: &Value) -> u64 {
    let path = store.join(item["path"].as_str().expect("a path"));
    let picture = image::load_from_memory(&fs::read(path).expect("a media file"));
    let pixels = picture.expect("a PNG").into_luma8().into_raw();
    u64::from_le_bytes(pixels[..8].try_into().expect("eight pixels"))
}

/// An npy file of version 1.0.
pub(crate) fn npy(descr: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let axes = shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({axes},), }}");
    while !(10 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend(u16::try_from(header.len()).expect("a short header").to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

/// An npz file of these arrays, as `np.savez` writes it.
pub(crate) fn npz(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    let n_arrays = u16::try_from(arrays.len()).expect("a few");
    for (name, array) in arrays {
        let length = u32::try_from(array.len()).expect("a small array").to_le_bytes();
        let name_length = u16::try_from(name.len()).expect("a short name").to_le_bytes();
        let at = u32::try_from(file.len()).expect("a small file").to_le_bytes();
        let crc = crc32fast::hash(array).to_le_bytes();
        // From the version that is needed to the length of what is extra.
        let described =
            [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &crc, &length, &length, &name_length, &[0, 0]]
                .concat();
        file.extend([b"PK\x03\x04", &*described, name.as_bytes(), array].concat());
        directory.extend(
            [b"PK\x01\x02", &[20, 0][..], &described, &[0; 10], &at, name.as_bytes()].concat(),
        );
    }
    let at = u32::try_from(file.len()).expect("a small file").to_le_bytes();
    let length = u32::try_from(directory.len()).expect("a small directory").to_le_bytes();
    let n = n_arrays.to_le_bytes();
    file.extend([&*directory, b"PK\x05\x06", &[0; 4], &n, &n, &length, &at, &[0; 2]].concat());
    file
}

/// A gray picture of 4 × 4 that tells `n` from others: the first 8 pixels are its bytes.
pub(crate) fn gray(n: u64) -> Vec<u8> {
    let pixels: Vec<u8> = n.to_le_bytes().into_iter().chain([255; 8]).collect();
    npy("|u1", &[4, 4], &pixels)
}

/// Reports that a test is skipped because of `what`.
///
/// # Panics
/// In CI, where every test must run.
#[track_caller]
pub(crate) fn skip(what: &str) {
    let is_ci = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty());
    assert!(!is_ci, "skipped: {what}");
    eprintln!("skipped: {what}");
}

/// The library that gives a program another clock.
pub(crate) fn faketime() -> Option<String> {
    let places =
        ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let library = places.iter().map(|place| format!("{place}/faketime/libfaketime.so.1"));
    let found = library.into_iter().find(|path| Path::new(path).is_file());
    if found.is_none() {
        skip("libfaketime is not installed");
    }
    found
}
