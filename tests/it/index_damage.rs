//! The index is worth nothing: however it is damaged, the program starts and says what it said before.
//!
//! `SAFELIGHT_DAMAGES=2000 cargo test --test it index_damage:: -- --nocapture` does more than the few
//! dozens of every test run, and `SAFELIGHT_DAMAGE_SEED=7` one of them again.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{
    KilledOnDrop, PROGRAM, READY, Ran, Random, TempRun, gray, npy, number_from,
    optional_number_from, skip, wait_for,
};

/// How long a command may take before it counts as hanging. It needs a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(20);

const PAGE: u64 = 4096;

/// Runs the program on a store, and kills it when it takes too long.
fn program(args: &[&str], store: &Path) -> Result<Ran, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| File::create(folder.path().join(name)).expect("a file");
    let mut child = Command::new(PROGRAM)
        .args(args)
        .arg("--store")
        .arg(store)
        .stdin(Stdio::null())
        .stdout(file("out"))
        .stderr(file("err"))
        .spawn()
        .expect("the program");
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a status") {
            break status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().expect("a kill");
            child.wait().expect("an end");
            let err = fs::read_to_string(folder.path().join("err")).unwrap_or_default();
            return Err(format!("{args:?} hangs: {err}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    Ok(Ran { code: status.code().unwrap_or(-1), out: text("out"), err: text("err") })
}

/// All that a store says of itself.
#[derive(Debug, PartialEq)]
struct Export {
    items: String,
    status: Value,
}

fn export(store: &Path) -> Result<Export, String> {
    let ask = |args: &[&str]| {
        let ran = program(args, store)?;
        if ran.code == 0 { Ok(ran.out) } else { Err(format!("{args:?}: {} {}", ran.code, ran.err)) }
    };
    let items = ask(&["ls", "--json"])?;
    let mut status: Value =
        serde_json::from_str(&ask(&["status", "--json"])?).map_err(|error| error.to_string())?;
    for other in ["store", "pid", "ingest"] {
        status.as_object_mut().expect("an object").remove(other);
    }
    Ok(Export { items, status })
}

/// A store as it was left, with what it says.
struct Pristine {
    store: PathBuf,
    export: Export,
    /// Whether it has the one run only.
    is_small: bool,
}

/// Run directories, and stores that were made of them in different ways.
struct Stores {
    temp: TempRun,
    pristine: Vec<Pristine>,
}

/// Images, held and rejected ones, gone ones, a finished run, dumps that were written again.
fn write_runs(temp: &TempRun, n: u64) {
    for i in 0..n {
        temp.log_picture(["line", "val/pred"][usize::from(i % 3 == 0)], i / 4, i);
        temp.write(&format!("dumps/alone/{i:06}.npy"), &gray(i));
        if i % 6 == 0 {
            temp.append("a.media.jsonl", "rubbish\n");
            temp.write(&format!("dumps/odd/{i:06}.npy"), b"this is no npy file");
        }
    }
    let batch = |n: usize| npy("|u1", &[n, 2, 2], &vec![7; 4 * n]);
    temp.write("batch.npy", &batch(130));
    temp.append(
        "b.media.jsonl",
        "{\"key\":\"batch\",\"step\":1,\"data\":\"batch.npy\",\"format\":\"NHW\"}\n",
    );
    temp.append("b.media.jsonl", "{\"commit\":1}\n{\"finish\":true}\n");
    temp.write("dumps/shrinks/000001.npy", &batch(9));
    temp.write("dumps/shrinks/000001.npy.json", b"{\"format\":\"NHW\"}");
}

fn write_versions(temp: &TempRun) {
    temp.write("dumps/shrinks/000001.npy", &npy("|u1", &[3, 2, 2], &[9; 12]));
    for i in (0..20).step_by(3) {
        temp.write(&format!("dumps/alone/{i:06}.npy"), &gray(1000 + i));
    }
}

fn copy(from: &Path, to: &Path) {
    // Of the media files nothing is read.
    let script = "mkdir -p \"$2\" && cd \"$1\" && \
        tar -cf - --exclude=media --exclude=tmp . | tar -xf - -C \"$2\"";
    let status = Command::new("sh").args(["-c", script, "sh"]).arg(from).arg(to).status();
    assert!(status.expect("sh").success());
}

fn config(folder: &Path, store: &Path, runs: &Path) -> PathBuf {
    let path = folder.join("safelight.toml");
    let text = format!(
        "[store]\npath = \"{}\"\n[control]\nsocket = \"{}\"\n[[watch]]\npath = \"{}\"\n\
         runs = \"run*\"\n[ingest]\nsettle_ms = 30\nclose_ms = 5\n",
        store.display(),
        folder.join("control.sock").display(),
        runs.display()
    );
    fs::write(&path, text).expect("a configuration");
    path
}

/// Starts a daemon and waits until it is ready.
fn daemon(folder: &Path, store: &Path, runs: &Path) -> Result<KilledOnDrop, String> {
    let log = folder.join("daemon.log");
    let mut daemon = KilledOnDrop(
        Command::new(PROGRAM)
            .args(["daemon", "--config"])
            .arg(config(folder, store, runs))
            .stdin(Stdio::null())
            .stderr(File::create(&log).expect("a log"))
            .spawn()
            .expect("the daemon"),
    );
    let start = Instant::now();
    loop {
        let text = fs::read_to_string(&log).unwrap_or_default();
        if text.contains(READY) {
            return Ok(daemon);
        }
        if let Some(status) = daemon.0.try_wait().expect("a status") {
            return Err(format!("the daemon ended, {status}: {text}"));
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("the daemon is not ready: {text}"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Stores {
    fn new() -> Self {
        let temp = TempRun::new();
        write_runs(&temp, 36);
        // Closed as it should be, and in two parts, so that there are snapshots of both.
        let ran = temp.ingest();
        assert_eq!(ran.code, 3, "{ran:?}");
        let killed = temp.folder().join("killed");
        fs::create_dir(&killed).expect("a folder");
        let store = killed.join("store");
        let run = temp.at("").display().to_string();
        assert_eq!(program(&["ingest", &run], &store).expect("an ingest").code, 3);
        write_versions(&temp);
        let ran = temp.ingest();
        assert!(matches!(ran.code, 0 | 3), "{ran:?}");
        // Killed while it was open. Of the versions, sled may have written nothing yet.
        {
            let _daemon = daemon(&killed, &store, temp.folder()).expect("a daemon");
            let n = temp.items().len();
            wait_for("all items", || {
                program(&["ls", "--json"], &store).is_ok_and(|ran| ran.out.lines().count() == n)
            });
        }
        // Larger: several segments, and pages that moved.
        let large = temp.folder().join("large");
        let lines = "rubbish\n".repeat(2500);
        let other = temp.folder().join("other");
        fs::create_dir(&other).expect("a run directory");
        for part in 0..2 {
            fs::write(other.join(format!("{part}.media.jsonl")), &lines).expect("a log");
            let runs = [temp.at(""), other.clone()].map(|run| run.display().to_string());
            let ran = program(&["ingest", &runs[0], &runs[1]], &large).expect("an ingest");
            assert_eq!(ran.code, 3, "{ran:?}");
        }
        // Opened once more: sled has a snapshot of everything, and reads pages when they are asked for.
        let steady = temp.folder().join("steady");
        copy(&large, &steady);
        for _ in 0..2 {
            assert_eq!(program(&["status"], &steady).expect("a status").code, 0);
        }
        let pristine = [(temp.store(), true), (store, true), (large, false), (steady, false)];
        let pristine = pristine.into_iter().map(|(store, is_small)| {
            let aside = tempfile::tempdir().expect("a folder");
            copy(&store, aside.path());
            let export = export(aside.path()).expect("an export");
            assert!(export.items.lines().count() > 200, "{}", export.status);
            assert_ne!(export.status["held"], 0);
            Pristine { store, export, is_small }
        });
        let pristine = pristine.collect();
        Self { temp, pristine }
    }

    /// Damages a copy of a store as the seed says. Returns what was done, and what is wrong after it.
    fn try_one(&self, seed: u64) -> (String, Result<(), String>) {
        let mut random = Random(seed);
        let which =
            [0, 0, 1, 1, 2, 2, 2, 3, 3, 3][usize::try_from(random.below(10)).expect("small")];
        let pristine = &self.pristine[which];
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join("store");
        copy(&pristine.store, &store);
        let journals = journals(&store);
        let what = damage(&store.join("index"), &mut random);
        let by_daemon = random.below(4) == 0;
        let by_ingest = !by_daemon && random.below(3) == 0;
        let what = format!("store {which}, {what}, daemon {by_daemon}, ingest {by_ingest}");
        let check = || -> Result<(), String> {
            let is_same = |when: &str| {
                let got = export(&store).map_err(|error| format!("{when}: {error}"))?;
                differs(&pristine.export, &got).map_or(Ok(()), |how| Err(format!("{when}: {how}")))
            };
            if by_daemon {
                let daemon = daemon(folder.path(), &store, self.temp.folder())?;
                is_same("asked the daemon")?;
                drop(daemon);
            }
            if by_ingest {
                // Were the cursors wrong, everything would come twice.
                let runs = [self.temp.at(""), self.temp.folder().join("other")];
                let runs = runs.map(|run| run.display().to_string());
                let n = 1 + usize::from(!pristine.is_small);
                let args: Vec<&str> =
                    std::iter::once("ingest").chain(runs[..n].iter().map(String::as_str)).collect();
                let ran = program(&args, &store)?;
                if ran.code != 0 || !ran.out.contains("new: 0 images, 0 held back, 0 rejected") {
                    return Err(format!("ingest: {} {} {}", ran.code, ran.out, ran.err));
                }
            }
            is_same("first")?;
            is_same("second")?;
            if self::journals(&store) != journals {
                return Err("a journal has changed".to_owned());
            }
            Ok(())
        };
        let result = check();
        (what, result)
    }
}

/// Where two exports differ, in a few words.
fn differs(want: &Export, got: &Export) -> Option<String> {
    if want == got {
        return None;
    }
    let (n_want, n_got) = (want.items.lines().count(), got.items.lines().count());
    let at = want.items.lines().zip(got.items.lines()).position(|(want, got)| want != got);
    Some(format!(
        "{n_got} items, want {n_want}, the first other one is {at:?}; {}, want {}",
        got.status, want.status
    ))
}

/// The bytes of all journals.
fn journals(store: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for run in fs::read_dir(store.join("runs")).expect("runs").flatten() {
        for segment in fs::read_dir(run.path().join("journal")).expect("a journal").flatten() {
            files.push((segment.path(), fs::read(segment.path()).expect("a segment")));
        }
    }
    files.sort();
    files
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).expect("an index").flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// Damages an index. Returns what was done.
#[expect(clippy::too_many_lines, reason = "a list of damages")]
fn damage(index: &Path, random: &mut Random) -> String {
    let db = index.join("db");
    let length = fs::metadata(&db).expect("a database").len();
    let snapshots: Vec<PathBuf> = files(index)
        .into_iter()
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snap."))
        })
        .collect();
    let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path).expect("a file");
    let write = |path: &Path, at: u64, bytes: &[u8]| {
        open(path).write_all_at(bytes, at).expect("a write");
    };
    // Most of a database that was just made is empty: only what is written is worth damaging.
    let used = used_pages(&db);
    let page = |random: &mut Random| {
        used[usize::try_from(random.below(used.len() as u64)).expect("an index")]
    };
    match random.below(24) {
        0 => {
            fs::remove_dir_all(index).expect("a removal");
            "index removed".to_owned()
        }
        1 => {
            fs::remove_dir_all(index).expect("a removal");
            fs::write(index, random.noise(100)).expect("a file");
            "index is a file".to_owned()
        }
        2 => {
            fs::remove_dir_all(index).expect("a removal");
            fs::create_dir(index).expect("a folder");
            "index is empty".to_owned()
        }
        3 | 4 => {
            let to = random.below(used.last().expect("pages") * PAGE + PAGE);
            open(&db).set_len(to).expect("a cut");
            format!("database of {length} cut to {to}")
        }
        5 => {
            fs::write(&db, "").expect("a file");
            "database emptied".to_owned()
        }
        6..=8 => {
            let pages: Vec<u64> = (0..=random.below(4)).map(|_| page(random)).collect();
            pages.iter().for_each(|page| write(&db, page * PAGE, &[0; 4096]));
            format!("pages {pages:?} zeroed")
        }
        9..=11 => {
            let pages: Vec<u64> = (0..=random.below(4)).map(|_| page(random)).collect();
            pages.iter().for_each(|page| write(&db, page * PAGE, &random.noise(PAGE)));
            format!("pages {pages:?} are noise")
        }
        12 => {
            fs::write(&db, random.noise(length)).expect("a file");
            "database is noise".to_owned()
        }
        13 => {
            let conf = index.join("conf");
            match random.below(4) {
                0 => fs::remove_file(conf).expect("a removal"),
                1 => fs::write(conf, "").expect("a file"),
                2 => fs::write(conf, random.noise(5)).expect("a file"),
                _ => fs::write(conf, random.noise(64)).expect("a file"),
            }
            "conf is another".to_owned()
        }
        14 => {
            let n = random.below(300);
            fs::write(index.join("snap.00000000FFFFFFFF.generating"), random.noise(n))
                .expect("a file");
            "a snapshot in the making is torn".to_owned()
        }
        15 => {
            let n = random.below(300);
            fs::write(index.join("snap.00000000FFFFFFFF"), random.noise(n)).expect("a file");
            "a snapshot is torn".to_owned()
        }
        16 => {
            for snapshot in &snapshots {
                let n = fs::metadata(snapshot).expect("a snapshot").len();
                open(snapshot).set_len(random.below(n)).expect("a cut");
            }
            format!("{} snapshots are cut", snapshots.len())
        }
        17 => {
            snapshots.iter().for_each(|path| fs::remove_file(path).expect("a removal"));
            format!("{} snapshots are removed", snapshots.len())
        }
        18 => {
            fs::remove_dir_all(index.join("blobs")).expect("a removal");
            if random.below(2) == 0 {
                fs::write(index.join("blobs"), "").expect("a file");
            }
            "blobs are removed".to_owned()
        }
        19 | 20 => {
            let flips: Vec<u64> =
                (0..=random.below(3)).map(|_| page(random) * PAGE + random.below(PAGE)).collect();
            for &at in &flips {
                let mut byte = [0];
                open(&db).read_exact_at(&mut byte, at).expect("a byte");
                write(&db, at, &[byte[0] ^ (1 << random.below(8))]);
            }
            format!("bits flipped at {flips:?}")
        }
        21 => {
            let (one, other) = (page(random), page(random));
            let read = |page: u64| {
                let mut bytes = [0; 4096];
                open(&db).read_exact_at(&mut bytes, page * PAGE).expect("a page");
                bytes
            };
            let (a, b) = (read(one), read(other));
            write(&db, one * PAGE, &b);
            write(&db, other * PAGE, &a);
            format!("pages {one} and {other} are swapped")
        }
        22 => {
            fs::remove_file(&db).expect("a removal");
            if random.below(2) == 0 {
                fs::create_dir(&db).expect("a folder");
            }
            "database is gone or a folder".to_owned()
        }
        _ => {
            let n = random.below(1 << 20);
            write(&db, length, &random.noise(n));
            format!("{n} bytes of noise at the end")
        }
    }
}

/// The pages of a file that are not all zeros.
fn used_pages(path: &Path) -> Vec<u64> {
    let mut bytes = Vec::new();
    File::open(path).expect("a database").read_to_end(&mut bytes).expect("its bytes");
    let pages = bytes.chunks_exact(4096);
    let used = (0..).zip(pages).filter(|(_, page)| page.iter().any(|&byte| byte != 0));
    used.map(|(page, _)| page).collect()
}

#[test]
fn however_the_index_is_damaged_the_program_starts_and_says_the_same() {
    let stores = Stores::new();
    let seeds: Vec<u64> = match optional_number_from("SAFELIGHT_DAMAGE_SEED") {
        Some(seed) => vec![seed],
        None => (0..number_from("SAFELIGHT_DAMAGES", 30)).collect(),
    };
    let next = AtomicU64::new(0);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut failures = Vec::new();
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        let Some(&seed) = usize::try_from(n).ok().and_then(|n| seeds.get(n)) else {
                            return failures;
                        };
                        let (what, result) = stores.try_one(seed);
                        if let Err(error) = result {
                            eprintln!("seed {seed}: {what}: {error}");
                            failures.push(format!("seed {seed}: {what}: {error}"));
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect()
    });
    assert!(
        failures.is_empty(),
        "{} of {} damages show:\n{}",
        failures.len(),
        seeds.len(),
        failures.join("\n")
    );
    eprintln!("{} damaged indexes: every start gave the same items", seeds.len());
}

#[test]
fn an_index_that_may_not_be_written_is_set_aside() {
    // Its files' rights were taken for a disk that fails, and no start succeeded.
    let temp = TempRun::new();
    (0..5).for_each(|n| temp.log_picture("k", n, n));
    assert_eq!(temp.ingest().code, 0);
    let items = temp.items();
    let script = "set -e; chmod a+rx \"$1\"; cd \"$1\"; chmod -R a+rX run; \
        chmod -R a-w store/index; [ $(id -u) != 0 ] || chown -R 65534:65534 store";
    let status = Command::new("sh").args(["-c", script, "sh"]).arg(temp.folder()).status();
    assert!(status.expect("sh").success());
    // Nothing is forbidden to root.
    let is_root = rustix::process::geteuid().is_root();
    let mut command = Command::new(if is_root { "setpriv" } else { PROGRAM });
    if is_root {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", PROGRAM]);
    }
    let probe =
        Command::new(command.get_program()).args(command.get_args()).arg("--version").output();
    if !probe.is_ok_and(|ran| ran.status.success()) {
        skip("the program can't be run as another user than root here");
        return;
    }
    command.args(["ls", "--json", "--store"]).arg(temp.store());
    let ran: Ran = command.output().expect("the program").into();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("index is set aside"), "{ran:?}");
    let got: Vec<Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).expect("an item")).collect();
    assert_eq!(got, items);
}

#[test]
fn a_removed_index_is_rebuilt_with_every_item() {
    // The speed is a goal for a release build on a machine that does nothing else, 50,000 items a second:
    // SAFELIGHT_REBUILD_ITEMS=100000 cargo test --release --test it index_damage:: -- --nocapture
    let measured = optional_number_from("SAFELIGHT_REBUILD_ITEMS");
    let n_items = measured.unwrap_or(1500);
    let temp = TempRun::new();
    temp.write("x.npy", &gray(1));
    let lines = (0..n_items).map(|n| {
        let (key, step) = (n % 7, n / 700);
        format!("{{\"key\":\"val/k{key}\",\"step\":{step},\"data\":\"x.npy\",\"caption\":\"picture {n}\"}}\n")
    });
    temp.append("a.media.jsonl", &lines.collect::<String>());
    // All but one in a hundred are held back: media files are not what is measured.
    let config = temp.folder().join("limits.toml");
    fs::write(&config, "[limits]\nmax_items = 1\n").expect("a configuration");
    let run = temp.at("").display().to_string();
    let ran = temp.run(&["ingest", &run, "--config", &config.display().to_string()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let store = temp.store();
    let timed = || {
        let start = Instant::now();
        let ran = temp.run(&["status", "--json"]);
        let status: Value = serde_json::from_str(&ran.out).expect("JSON");
        let counts = ["image", "held"].map(|state| status[state].as_u64().expect("a count"));
        assert_eq!(counts.iter().sum::<u64>(), n_items);
        start.elapsed().as_secs_f64()
    };
    let rates: Vec<u64> = (0..3)
        .map(|_| {
            fs::remove_dir_all(store.join("index")).expect("an index");
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rate for eyes"
            )]
            let rate = (n_items as f64 / timed()) as u64;
            rate
        })
        .collect();
    eprintln!("rebuilt {n_items} items at {rates:?} a second; opened in {:.2} s", timed());
    assert!(measured.is_none() || rates.iter().any(|&rate| rate >= 50_000), "{rates:?}");
}
