//! A damaged index is rebuilt from the journals: the program starts and lists the same items.
//!
//! A usual test run tries 30 damages, `SAFELIGHT_DAMAGES=2000 cargo test --test it index_damage:: --
//! --nocapture` tries 2,000, and `SAFELIGHT_DAMAGE_SEED=7` repeats one.

mod damage;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{
    KilledOnDrop, PROGRAM, READY, Ran, Random, TempRun, gray, npy, number_from,
    optional_number_from, skip, wait_for,
};
use damage::damage;

/// Time limit of a command, which usually takes a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the program on a store. Kills it at the time limit.
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

/// Everything that a store reports.
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

/// An undamaged store with its export.
struct Pristine {
    store: PathBuf,
    export: Export,
    /// Whether it has only one run.
    is_small: bool,
}

/// Run directories and stores that were made from them in different ways.
struct Stores {
    temp: TempRun,
    pristine: Vec<Pristine>,
}

/// Writes lines and dumps that become images, held items and rejected items, and finishes the run.
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
    let script = "mkdir -p \"$2\" && cd \"$1\" && \
        tar -cf - --exclude=tmp . | tar -xf - -C \"$2\"";
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
        // A store that was written and closed twice, so that it has two snapshots.
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
        // A store whose daemon was killed. sled may not have written the latest versions yet.
        {
            let _daemon = daemon(&killed, &store, temp.folder()).expect("a daemon");
            let n = temp.items().len();
            wait_for("all items", || {
                program(&["ls", "--json"], &store).is_ok_and(|ran| ran.out.lines().count() == n)
            });
        }
        // A larger store with several segments and moved pages.
        let large = temp.folder().join("large");
        let other = temp.folder().join("other");
        fs::create_dir(&other).expect("a run directory");
        for part in 0..2 {
            let lines: Vec<String> = (0..2500).map(|n| format!("rubbish {part} {n}\n")).collect();
            let lines = lines.concat();
            fs::write(other.join(format!("{part}.media.jsonl")), lines).expect("a log");
            let runs = [temp.at(""), other.clone()].map(|run| run.display().to_string());
            let ran = program(&["ingest", &runs[0], &runs[1]], &large).expect("an ingest");
            assert_eq!(ran.code, 3, "{ran:?}");
        }
        // The larger store reopened: sled has a snapshot of everything and reads pages on demand.
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

    /// Damages a copy of a store, chosen by the seed. Returns a description of the damage and the result.
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
                is_same("through the daemon")?;
                drop(daemon);
            }
            if by_ingest {
                // If the cursors were wrong, everything would be read again.
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

/// Describes the first difference between two exports.
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

/// Returns path and bytes of each journal segment.
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

#[test]
fn a_damaged_index_is_rebuilt_with_the_same_items() {
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
        "{} of {} damages change the result:\n{}",
        failures.len(),
        seeds.len(),
        failures.join("\n")
    );
    eprintln!("{} damaged indexes: every start gave the same items", seeds.len());
}

#[test]
fn an_unwritable_index_is_replaced() {
    // Regression: missing write permission was treated as a failing disk, and no start succeeded.
    let temp = TempRun::new();
    (0..5).for_each(|n| temp.log_picture("k", n, n));
    assert_eq!(temp.ingest().code, 0);
    let items = temp.items();
    let script = "set -e; chmod a+rx \"$1\"; cd \"$1\"; chmod -R a+rX run; \
        chmod -R a-w store/index; [ $(id -u) != 0 ] || chown -R 65534:65534 store";
    let status = Command::new("sh").args(["-c", script, "sh"]).arg(temp.folder()).status();
    assert!(status.expect("sh").success());
    // Permissions do not apply to root.
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
fn a_deleted_index_is_rebuilt_with_every_item() {
    // The goal is 50,000 items a second in a release build on an idle machine:
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
    // 99 of 100 items are held back, because writing media files is not measured here.
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
