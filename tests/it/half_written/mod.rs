//! A dump is never read before it is complete, however its job writes it.
//!
//! `SAFELIGHT_DUMPS=100000` writes as many dumps as the project's goal demands.

mod writers;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use safelight::media::Sha256;
use serde_json::{Value, json};

use crate::harness::{
    Random, TempRun, WITH_SHA256, files_below, number_from, python, wait_for, wait_for_all,
};
use writers::{Job, STYLES, content};

/// How long a dump must stay unchanged before it is read. Its writers pause for at most a tenth of this.
const SETTLE: Duration = Duration::from_millis(1500);

/// Number of folders that exist before the daemon starts. In later ones a listing finds the dumps.
const N_FOLDERS: u64 = 4;

/// Writes dumps until there are `n`. Returns those whose writer was paused too long by a busy machine.
fn write_dumps(run: &Path, n: u64, next: &AtomicU64, seed: u64) -> Vec<String> {
    let mut random = Random(seed);
    let mut unfair = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= n {
            return unfair;
        }
        let (name, style) = STYLES[usize::try_from(number).expect("a number") % STYLES.len()];
        let (ending, bytes) = content(&mut random, name);
        let path = format!("dumps/{name}/{}/{number}.{ending}", random.below(N_FOLDERS + 3));
        let random = Random(random.below(u64::MAX) | 1);
        let last = Instant::now();
        let mut job = Job { run, path, bytes, random, longest: Duration::ZERO, last };
        style(&mut job);
        if job.longest >= SETTLE * 2 / 3 {
            unfair.push(job.path);
        }
    }
}

/// Returns the digest of each dump on the disk by its path relative to the run directory.
fn digests(run: &Path) -> BTreeMap<String, String> {
    let digest = |path: PathBuf| {
        let name = path.strip_prefix(run).expect("a dump of the run").to_string_lossy();
        (name.into_owned(), Sha256::of(&fs::read(&path).expect("a dump")).to_string())
    };
    files_below(&run.join("dumps")).into_iter().map(digest).collect()
}

/// Returns path, state and digest of the dump of each item that was ever committed.
fn committed(temp: &TempRun) -> Vec<(String, Value, Value)> {
    let fields = |item: &Value| {
        let path = item["source"]["path"].as_str().expect("a path").to_owned();
        (path, item["state"].clone(), item["source"]["sha256"].clone())
    };
    temp.journaled_items().iter().map(fields).collect()
}

/// Checks that each dump was only ever committed as an image of its final content.
fn check(temp: &TempRun, unfair: &[String]) {
    let want = digests(&temp.at(""));
    for (path, state, sha256) in committed(temp) {
        if !unfair.contains(&path) {
            assert_eq!((&state, &sha256), (&json!("image"), &json!(want[&path])), "{path}");
        }
    }
    // A second store, filled after all files are complete.
    let reference = tempfile::tempdir().expect("a folder");
    let run = temp.at("");
    let ran = Command::new(crate::harness::PROGRAM)
        .args(["ingest", run.to_str().expect("a path"), "--store"])
        .arg(reference.path())
        .output()
        .expect("the program");
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let ran = Command::new(crate::harness::PROGRAM)
        .args(["ls", "--json", "--store"])
        .arg(reference.path())
        .output()
        .expect("the program");
    let text = String::from_utf8(ran.stdout).expect("text");
    let want = text.lines().map(|line| serde_json::from_str(line).expect("an item"));
    let pixels = |item: Value| {
        let place = ["key", "step", "index", "state"].map(|field| item[field].to_string());
        (place, item["sha256"].to_string())
    };
    let want: BTreeMap<_, _> = want.map(pixels).collect();
    let got: BTreeMap<_, _> = temp.items().into_iter().map(pixels).collect();
    assert_eq!(got, want);
}

fn n_dumps_done(temp: &TempRun) -> u64 {
    let done: std::collections::BTreeSet<String> =
        committed(temp).into_iter().map(|(path, ..)| path).collect();
    done.len() as u64
}

#[test]
fn no_dump_is_read_before_it_is_whole() {
    let n = number_from("SAFELIGHT_DUMPS", 180);
    let n_writers = if n > 1000 { 64 } else { 12 };
    let temp = TempRun::new();
    let settings = format!(
        "[ingest]\nsettle_ms = {}\nscan_ms = 1000\nwait_ms = 600000\n{WITH_SHA256}threads = 2\n",
        SETTLE.as_millis()
    );
    for (name, _) in STYLES {
        for folder in 0..N_FOLDERS {
            fs::create_dir_all(temp.at(&format!("dumps/{name}/{folder}"))).expect("folders");
        }
    }
    let daemon = temp.daemon(&settings);
    let next = AtomicU64::new(0);
    let run = temp.at("");
    let unfair: Vec<String> = thread::scope(|scope| {
        let (next, run) = (&next, &run);
        let writers: Vec<_> = (0..n_writers)
            .map(|writer| scope.spawn(move || write_dumps(run, n, next, 0x5EED + writer)))
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().expect("a writer")).collect()
    });
    wait_for_all("the dumps", n, || n_dumps_done(&temp));
    assert_eq!(daemon.stop().0, Some(0));
    assert!(unfair.len() as u64 <= n / 2, "the machine is too busy: {} of {n}", unfair.len());
    if !unfair.is_empty() {
        eprintln!("{} of {n} dumps were left alone too long by their writers", unfair.len());
    }
    check(&temp, &unfair);
}

/// Maps files of their final length, closes them, and then fills the maps row by row. The kernel sends
/// no event for these writes.
const MAPPED: &str = r#"
import mmap, os, random, sys, time
folder, n, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
os.makedirs(folder, exist_ok=True)
maps = []
for i in range(n):
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (200, 256), }"
    header += b" " * (117 - len(header)) + b"\n"
    with open(f"{folder}/{i}.npy", "w+b") as file:
        file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        file.truncate(128 + 200 * 256)
        file.flush()
        maps.append(mmap.mmap(file.fileno(), 0))
longest, last = 0.0, time.monotonic()
for row in range(200):
    for i, pixels in enumerate(maps):
        pixels[128 + row * 256:128 + row * 256 + 256] = random.randbytes(256)
    longest, last = max(longest, time.monotonic() - last), time.monotonic()
    time.sleep(pause * random.random())
for pixels in maps:
    pixels.close()
print(longest)
"#;

#[test]
fn a_memory_map_is_not_read_before_it_is_filled_in() {
    let temp = TempRun::new();
    let settings = format!("[ingest]\nsettle_ms = {}\nscan_ms = 500\n", SETTLE.as_millis());
    let daemon = temp.daemon(&format!("{settings}{WITH_SHA256}"));
    let folder = temp.at("dumps/mapped");
    let folder = folder.to_str().expect("a path");
    let Some(writer) = python(MAPPED, &[folder, "20", "0.02"], Stdio::null()) else { return };
    let output = writer.wait_with_output().expect("the writer's end");
    let longest: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("seconds");
    wait_for_all("the dumps", 20, || n_dumps_done(&temp));
    assert_eq!(daemon.stop().0, Some(0));
    let is_fair = longest * 20.0 < SETTLE.as_secs_f64();
    let unfair: Vec<String> = (0..20).map(|i| format!("dumps/mapped/{i}.npy")).collect();
    if !is_fair {
        eprintln!("the writer was delayed by {longest} s: only its last pixels are checked");
    }
    check(&temp, if is_fair { &[] } else { &unfair });
}

/// Fills one mapped page twice. The kernel updates the file's times only for the first write.
const ONE_PAGE: &str = r#"
import mmap, sys
path = sys.argv[1]
header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (16, 16), }"
header += b" " * (117 - len(header)) + b"\n"
with open(path, "w+b") as file:
    file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    file.truncate(128 + 256)
    file.flush()
    pixels = mmap.mmap(file.fileno(), 0)
pixels[128:] = b"\x07" * 256
print("half", flush=True)
input()
pixels[128:] = b"\x09" * 256
pixels.close()
"#;

#[test]
fn a_memory_map_that_is_written_on_is_read_again_when_it_is_closed() {
    // Regression: no file time and no event shows such a write, and the first picture stayed.
    let temp = TempRun::new();
    fs::create_dir_all(temp.at("dumps/mapped")).expect("a folder");
    let daemon = temp.daemon(&format!("[ingest]\nsettle_ms = 100\n{WITH_SHA256}"));
    let path = temp.at("dumps/mapped/1.npy");
    let path = path.to_str().expect("a path");
    let Some(mut writer) = python(ONE_PAGE, &[path], Stdio::piped()) else { return };
    wait_for("the first reading", || temp.items().iter().any(|item| item["stats"]["max"] == 7.0));
    writer.stdin.take().expect("a pipe").write_all(b"\n").expect("a line");
    assert!(writer.wait().expect("the writer's end").success());
    wait_for("the second", || temp.items().iter().any(|item| item["stats"]["max"] == 9.0));
    assert_eq!(temp.items().len(), 1);
    // Another close without a change commits nothing.
    let n_committed = committed(&temp).len();
    drop(OpenOptions::new().append(true).open(path).expect("the dump"));
    thread::sleep(Duration::from_millis(700));
    assert_eq!(committed(&temp).len(), n_committed);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn raw_bytes_wait_for_the_sidecar_that_describes_them() {
    let temp = TempRun::new();
    let daemon = temp.daemon(&format!(
        "[ingest]\nsettle_ms = 100\nclose_ms = 20\nwait_ms = 600000\n{WITH_SHA256}"
    ));
    let sidecar = json!({"dtype": "uint8", "shape": [40, 50], "caption": "whole"}).to_string();
    for n in 0..10u8 {
        let mut file = {
            fs::create_dir_all(temp.at("dumps/raw")).expect("a folder");
            File::create(temp.at(&format!("dumps/raw/{n}.bin"))).expect("a dump")
        };
        let pixels: Vec<u8> = (0..2000u32).map(|i| (i % 251).to_le_bytes()[0] ^ n).collect();
        // The sidecar first or last, in halves or at once, and the bytes in two parts.
        let name = format!("dumps/raw/{n}.bin.json");
        if n % 2 == 0 {
            temp.write(&name, &sidecar.as_bytes()[..20]);
        }
        file.write_all(&pixels[..700]).expect("a write");
        thread::sleep(Duration::from_millis(250));
        file.seek(SeekFrom::Start(700)).expect("a place");
        file.write_all(&pixels[700..]).expect("a write");
        drop(file);
        thread::sleep(Duration::from_millis(150));
        temp.write(&name, sidecar.as_bytes());
    }
    wait_for_all("the dumps", 10, || temp.n_images());
    for item in temp.items() {
        assert_eq!((&item["caption"], &item["height"]), (&json!("whole"), &json!(40)), "{item}");
    }
    for (path, state, _) in committed(&temp) {
        assert_eq!(state, "image", "{path}");
    }
    assert_eq!(daemon.stop().0, Some(0));
    check(&temp, &[]);
}
