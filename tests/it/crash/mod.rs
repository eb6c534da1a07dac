//! Kills the program at random moments while a job writes. Each picture must be in the store exactly
//! once, with its own pixels.
//!
//! A usual test run kills it 50 times, `./test.sh kills 1000` kills it 1,000 times.

mod job;
mod oracle;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{
    PROGRAM, READY, Ran, Random, TempRun, can_trace, files_below, gray, gray_batch, kill_at_call,
    number_from, send_signal, wait_for,
};
use job::Producer;
use oracle::{ITEMS_MAX, Oracle, differences, held_by};

/// Number of kills before a store is compared with what was written.
const KILLS_PER_STORE: u64 = 25;

fn n_kills() -> u64 {
    number_from("SAFELIGHT_KILLS", 50)
}

/// A run directory, its store, and the program that is killed.
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
        fs::read_to_string(self.log()).is_ok_and(|log| log.contains(READY))
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

    /// Starts the daemon or `ingest` and kills it at a random moment. Returns whether it was still running.
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

    /// Checks that the store holds exactly what was written, that each media file is intact, that new
    /// dumps are still read, and that no temporary file is left.
    fn check(&self, mut oracle: Oracle) -> (usize, usize) {
        let store = self.temp.store();
        let mut child = self.start(&["daemon"]);
        wait_for("the daemon to be ready", || self.is_ready());
        // A new dump is read, whatever happened before.
        self.temp.write("dumps/fresh/1.npy", &gray(77));
        oracle.replace("fresh", 1, &[77]);
        let start = Instant::now();
        loop {
            let got = held_by(&store, &self.temp.items()).0;
            if got == oracle {
                break;
            }
            let log = || fs::read_to_string(self.log()).unwrap_or_default();
            assert!(child.try_wait().expect("a status").is_none(), "the daemon ended: {}", log());
            assert!(
                start.elapsed() < Duration::from_mins(1),
                "the store does not hold what was written:\n{}\n{}",
                differences(&oracle, &got).join("\n"),
                log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        send_signal(&child, "-TERM");
        assert_eq!(child.wait().expect("an end").code(), Some(0));
        let again = self.ingest();
        assert!(again.out.contains("new: 0 images, 0 held back, 0 rejected"), "{again:?}");
        let items = self.temp.items();
        let (got, named) = held_by(&store, &items);
        assert_eq!(differences(&oracle, &got), Vec::<String>::new());
        assert_eq!(files_below(&store.join("tmp")), BTreeSet::new(), "temporary files are left");
        // Media files of a dump's earlier versions stay. An item names each other file.
        let files = files_below(&store.join("runs/run/media"));
        let is_versioned = |path: &&PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            ["again", "sheet", "odd", "alone"].iter().any(|key| name.starts_with(key))
        };
        let (old, strays): (Vec<_>, Vec<_>) = files.difference(&named).partition(is_versioned);
        assert_eq!(strays, Vec::<&PathBuf>::new(), "no item names these files");
        self.temp.remove_index();
        assert!(self.temp.items() == items, "the rebuilt index differs");
        (items.len(), old.len())
    }
}

/// Writes a small run directory: lines, dumps, a batch over the limit, a bad line.
fn write_a_little(temp: &TempRun) -> Oracle {
    let mut producer = Producer::new(temp, 7, false);
    for n in 1..=2 {
        let path = format!("tensors/{n}.npy");
        producer.write_at_once(&path, &gray(n));
        producer.log("a.media.jsonl", &json!({"key": "line", "step": 1, "data": path}));
        producer.oracle.add("line", 1, n, false);
    }
    temp.append("a.media.jsonl", "broken\n");
    producer.oracle.rejected.n_lines += 1;
    let numbers: Vec<u64> = (10..18).collect();
    producer.write_at_once("dumps/sheet/1.npy.json", b"{\"format\":\"NHW\"}");
    producer.write_at_once("dumps/sheet/1.npy", &gray_batch(&numbers));
    producer.oracle.replace("sheet", 1, &numbers);
    producer.oracle
}

/// Rewrites a dump with fewer pictures.
fn write_a_little_more(temp: &TempRun, oracle: &mut Oracle) {
    temp.write("dumps/sheet/1.npy", &gray_batch(&[20, 21]));
    oracle.replace("sheet", 1, &[20, 21]);
}

#[test]
fn a_kill_at_any_durability_call_loses_and_duplicates_nothing() {
    // By default only every third call of a kind is tried, starting at a different one for each kind.
    if !can_trace() {
        return;
    }
    let every = if n_kills() > 50 { 1 } else { 3 };
    let mut n_killed = 0;
    for (first, call) in
        (1..).zip(["fsync", "fdatasync", "rename", "renameat", "ftruncate", "sync_file_range"])
    {
        for n in (first..).step_by(every) {
            let temp = TempRun::new();
            let scene = Scene::new(&temp);
            let mut oracle = write_a_little(&temp);
            let mut was_killed = false;
            // First with a new store, then with one that holds all but the new version.
            for is_second in [false, true] {
                if is_second {
                    assert!(matches!(scene.ingest().code, 0 | 3));
                    write_a_little_more(&temp, &mut oracle);
                }
                let log = File::create(scene.log()).expect("a log");
                let (run, config) = (temp.at(""), scene.config.as_os_str());
                let args = ["ingest".as_ref(), run.as_os_str(), "--config".as_ref(), config];
                let is_dead = kill_at_call(call, n, &args, log.into());
                was_killed |= is_dead;
                n_killed += u64::from(is_dead);
            }
            let ran = scene.ingest();
            assert!(matches!(ran.code, 0 | 3), "{call} {n}: {ran:?}");
            let items = temp.items();
            let (got, _) = held_by(&temp.store(), &items);
            assert_eq!(differences(&oracle, &got), Vec::<String>::new(), "{call} {n}");
            temp.remove_index();
            assert!(temp.items() == items, "{call} {n}: the rebuilt index differs");
            // The program makes fewer than `n` calls of this kind.
            if !was_killed {
                break;
            }
        }
    }
    assert!(n_killed > 5, "only {n_killed} kills");
    eprintln!("killed at {n_killed} calls: each item exactly once");
}

/// Kills the program `n_kills` times while a job writes, in as many stores as that takes. Before each
/// start, `is_daemon` chooses between the daemon and `ingest`.
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
                // The producer must end too, or the scope would never return and show the failure.
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
fn a_daemon_killed_repeatedly_while_a_job_writes_loses_and_duplicates_nothing() {
    kill_often("daemon", n_kills() / 2, 0x5AFE_1167, |_| true, true);
}

#[test]
fn ingest_and_daemon_killed_in_turn_while_a_job_writes_lose_and_duplicate_nothing() {
    kill_often(
        "daemon and ingest",
        n_kills() - n_kills() / 2,
        0xDAE0_0111,
        |random| random.below(3) == 0,
        false,
    );
}
