//! A dump is never read before it is whole, however its job writes it.
//!
//! `SAFELIGHT_DUMPS=100000` makes it as many as the goal asks for.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use safelight::media::Sha256;
use serde_json::{Value, json};

use crate::harness::{
    Random, TempRun, WITH_SHA256, files_below, npy, npz, number_from, python, wait_for,
    wait_for_all,
};

/// How long a dump must be left alone. Its writers leave it alone for a tenth of this at most.
const SETTLE: Duration = Duration::from_millis(1500);

/// Folders that are there before the daemon; in others, dumps are found by a listing.
const N_FOLDERS: u64 = 4;

/// A dump that a job writes.
struct Job<'a> {
    run: &'a Path,
    /// Where it is when it is whole, relative to the run directory.
    path: String,
    bytes: Vec<u8>,
    random: Random,
    /// The longest time between two of its writes, which is also up to who else runs.
    longest: Duration,
    last: Instant,
}

impl Job<'_> {
    fn at(&self) -> PathBuf {
        self.run.join(&self.path)
    }

    /// Where it may lie while it is written.
    fn aside(&self) -> PathBuf {
        let folder = self.run.join("aside");
        fs::create_dir_all(&folder).expect("a folder");
        folder.join(self.path.replace('/', "-"))
    }

    fn pause(&mut self, longest: Duration) {
        let ms = u64::try_from(longest.as_millis()).expect("a short time");
        thread::sleep(Duration::from_millis(self.random.below(ms + 1)));
    }

    /// Where its bytes are cut.
    fn pieces(&mut self) -> Vec<(usize, usize)> {
        let n = self.bytes.len();
        let mut cuts: Vec<usize> = (0..self.random.below(6))
            .map(|_| usize::try_from(self.random.below(n as u64)).expect("a place"))
            .chain([0, n])
            .collect();
        cuts.sort_unstable();
        cuts.windows(2).map(|cut| (cut[0], cut[1])).collect()
    }

    /// Writes all of it into an open file, piece by piece, with pauses.
    fn write_pieces(&mut self, file: &File, longest: Duration) {
        for (from, to) in self.pieces() {
            file.write_all_at(&self.bytes[from..to], from as u64).expect("a write");
            self.note_write();
            self.pause(longest);
        }
        self.note_write();
    }

    fn note_write(&mut self) {
        self.longest = self.longest.max(self.last.elapsed());
        self.last = Instant::now();
    }
}

const SHORT: Duration = Duration::from_millis(150);

fn create(path: &Path) -> File {
    fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    File::create(path).expect("a dump")
}

/// A way to write a dump.
type Style = fn(&mut Job<'_>);

/// In place, at its final name; for longer than any time to settle, now and then.
fn in_place(job: &mut Job<'_>) {
    let file = create(&job.at());
    let long = job.random.below(20) == 0;
    job.write_pieces(&file, if long { SETTLE * 3 / 2 } else { SHORT });
    // Its own length tells that it isn't whole.
    job.longest = Duration::ZERO;
}

/// Opened anew for each piece: each is followed by a close.
fn in_parts(job: &mut Job<'_>) {
    drop(create(&job.at()));
    for (from, to) in job.pieces() {
        let mut file = OpenOptions::new().append(true).open(job.at()).expect("the dump");
        file.write_all(&job.bytes[from..to]).expect("a write");
        drop(file);
        job.pause(SHORT);
    }
}

/// Its length first, without blocks.
fn set_length_first(job: &mut Job<'_>) {
    let file = create(&job.at());
    file.set_len(job.bytes.len() as u64).expect("a length");
    job.last = Instant::now();
    job.write_pieces(&file, SHORT);
}

/// Its blocks first, all of them zero; its beginning last.
fn allocate_first(job: &mut Job<'_>) {
    let file = create(&job.at());
    let n = job.bytes.len() as u64;
    let mode = rustix::fs::FallocateFlags::empty();
    rustix::fs::fallocate(&file, mode, 0, n).expect("blocks");
    job.last = Instant::now();
    for (from, to) in job.pieces().into_iter().rev() {
        file.write_all_at(&job.bytes[from..to], from as u64).expect("a write");
        job.note_write();
        job.pause(SHORT);
    }
    job.note_write();
}

/// As `np.lib.format.open_memmap`: header and length, closed at once, and only then the elements.
fn length_and_close_first(job: &mut Job<'_>) {
    let mut file = create(&job.at());
    file.write_all(&job.bytes[..128]).expect("a header");
    file.set_len(job.bytes.len() as u64).expect("a length");
    drop(file);
    job.last = Instant::now();
    // A longer pause than after a close usually.
    job.pause(SHORT * 2);
    let file = OpenOptions::new().write(true).open(job.at()).expect("the dump");
    job.write_pieces(&file, SHORT);
}

/// As safetensors: another name, its length, the bytes, its name.
fn under_another_name(job: &mut Job<'_>) {
    let name = job.at();
    let number = job.random.below(1 << 40);
    let aside = name.with_file_name(format!(".tmp{number:010x}"));
    let file = create(&aside);
    file.set_len(job.bytes.len() as u64).expect("a length");
    job.write_pieces(&file, SHORT);
    drop(file);
    fs::rename(&aside, &name).expect("a rename");
    job.longest = Duration::ZERO;
}

/// In another folder, and renamed from there.
fn renamed_from_aside(job: &mut Job<'_>) {
    let aside = job.aside();
    let file = create(&aside);
    job.write_pieces(&file, SHORT);
    drop(file);
    fs::create_dir_all(job.at().parent().expect("a folder")).expect("folders");
    fs::rename(&aside, job.at()).expect("a rename");
    job.longest = Duration::ZERO;
}

/// In another folder, and linked from there: nothing tells of a close.
fn linked_from_aside(job: &mut Job<'_>) {
    let aside = job.aside();
    let file = create(&aside);
    job.write_pieces(&file, SHORT);
    fs::create_dir_all(job.at().parent().expect("a folder")).expect("folders");
    fs::hard_link(&aside, job.at()).expect("a link");
    fs::remove_file(&aside).expect("a removal");
    job.longest = Duration::ZERO;
}

/// Linked while it is written under another name: nothing tells of the writes.
fn linked_half_written(job: &mut Job<'_>) {
    let aside = job.aside();
    let file = create(&aside);
    file.set_len(job.bytes.len() as u64).expect("a length");
    fs::create_dir_all(job.at().parent().expect("a folder")).expect("folders");
    job.last = Instant::now();
    fs::hard_link(&aside, job.at()).expect("a link");
    job.write_pieces(&file, SHORT);
}

const STYLES: [(&str, Style); 9] = [
    ("in_place", in_place),
    ("in_parts", in_parts),
    ("set_length_first", set_length_first),
    ("allocate_first", allocate_first),
    ("length_and_close_first", length_and_close_first),
    ("under_another_name", under_another_name),
    ("renamed_from_aside", renamed_from_aside),
    ("linked_from_aside", linked_from_aside),
    ("linked_half_written", linked_half_written),
];

fn safetensors(pixels: &[u8]) -> Vec<u8> {
    let n = pixels.len();
    let header = json!({"x": {"dtype": "U8", "shape": [n / 64, 64], "data_offsets": [0, n]}});
    let header = header.to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(pixels);
    file
}

/// A dump's ending and bytes.
fn content(random: &mut Random, style: &str) -> (&'static str, Vec<u8>) {
    // From a few bytes to many blocks.
    let n_rows = [2, 20, 80, 400][usize::try_from(random.below(4)).expect("0 to 3")];
    let n_rows = n_rows + random.below(40);
    let mut pixels = vec![0; usize::try_from(n_rows).expect("a small number") * 64];
    pixels.iter_mut().for_each(|pixel| *pixel = 1 + random.below(255).to_le_bytes()[0]);
    let golden = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/dumps");
        fs::read(folder.join(name)).expect("a dump")
    };
    match random.below(6) {
        0 if style != "length_and_close_first" => ("safetensors", safetensors(&pixels)),
        1 if style != "length_and_close_first" => {
            let array = |pixels: &[u8]| npy("|u1", &[pixels.len() / 64, 64], pixels);
            let (a, b) = pixels.split_at(64);
            ("npz", npz(&[("a.npy", array(a)), ("b.npy", array(b))]))
        }
        2 if style == "in_place" => ("pt", golden("torch-2.15/dict.pt")),
        _ => ("npy", npy("|u1", &[pixels.len() / 64, 64], &pixels)),
    }
}

/// Writes dumps until there are `n`. Returns those that were left alone for longer than they should
/// have been, as the machine was busy with other things.
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

/// The digest of each dump on the disk, by its path relative to the run directory.
fn digests(run: &Path) -> BTreeMap<String, String> {
    let digest = |path: PathBuf| {
        let name = path.strip_prefix(run).expect("a dump of the run").to_string_lossy();
        (name.into_owned(), Sha256::of(&fs::read(&path).expect("a dump")).to_string())
    };
    files_below(&run.join("dumps")).into_iter().map(digest).collect()
}

/// Whatever the store was told in all the time, of each dump: the state and the dump's digest.
fn told(temp: &TempRun) -> Vec<(String, Value, Value)> {
    let told = |item: &Value| {
        let path = item["source"]["path"].as_str().expect("a path").to_owned();
        (path, item["state"].clone(), item["source"]["sha256"].clone())
    };
    temp.journaled_items().iter().map(told).collect()
}

/// Of what was written, each is an item with its own pixels, and never was one with others.
fn check(temp: &TempRun, unfair: &[String]) {
    let want = digests(&temp.at(""));
    for (path, state, sha256) in told(temp) {
        if !unfair.contains(&path) {
            assert_eq!((&state, &sha256), (&json!("image"), &json!(want[&path])), "{path}");
        }
    }
    // The same files, read in peace.
    let peace = tempfile::tempdir().expect("a folder");
    let run = temp.at("");
    let ran = Command::new(crate::harness::PROGRAM)
        .args(["ingest", run.to_str().expect("a path"), "--store"])
        .arg(peace.path())
        .output()
        .expect("the program");
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let ran = Command::new(crate::harness::PROGRAM)
        .args(["ls", "--json", "--store"])
        .arg(peace.path())
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
        told(temp).into_iter().map(|(path, ..)| path).collect();
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

/// Maps files of their final length, closes them, and only then fills them in, row by row: no write
/// is ever heard of.
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
        eprintln!("the writer was held up for {longest} s: only its last pixels are looked at");
    }
    check(&temp, if is_fair { &[] } else { &unfair });
}

/// Fills in one page: the kernel notes the first of its writes and no later one.
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
    // Neither its times nor an event told of it, and the picture stayed as it was at first.
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
    // Closed once more, and nothing to tell.
    let n_told = told(&temp).len();
    drop(OpenOptions::new().append(true).open(path).expect("the dump"));
    thread::sleep(Duration::from_millis(700));
    assert_eq!(told(&temp).len(), n_told);
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
        // The sidecar first or last, in halves or as a whole; and the bytes in two parts.
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
    for (path, state, _) in told(&temp) {
        assert_eq!(state, "image", "{path}");
    }
    assert_eq!(daemon.stop().0, Some(0));
    check(&temp, &[]);
}
