//! Kills the program at random moments: each item stays exactly once.
//!
//! `./test.sh kills 1000` does it more often than the 50 times of every test run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{PROGRAM, TempRun, gray, npy};

/// A small generator of numbers that seem random: the same for each run of the tests.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn n_kills() -> u64 {
    std::env::var("SAFELIGHT_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(50)
}

/// What the run directory says of itself: how often each (key, step) must come, with which pixels.
#[derive(Default)]
struct Oracle {
    /// By key and step: the first pixel bytes of its pictures.
    pictures: BTreeMap<(String, u64), Vec<u64>>,
    n_rejected: usize,
}

fn write_run(temp: &TempRun, first: u64, n: u64, oracle: &mut Oracle) {
    for i in first..first + n {
        temp.log_picture("line", i / 3, i);
        oracle.pictures.entry(("line".to_owned(), i / 3)).or_default().push(i);
        temp.write(&format!("dumps/alone/{i:06}.npy"), &gray(i));
        oracle.pictures.entry(("alone".to_owned(), i)).or_default().push(i);
        if i % 5 == 0 {
            let pixels: Vec<u8> = (0..4u64)
                .flat_map(|k| (i * 10 + k).to_le_bytes().into_iter().chain([255; 8]))
                .collect();
            temp.write(&format!("tensors/batch-{i}.npy"), &npy("|u1", &[4, 4, 4], &pixels));
            let line = json!({"key": "batch", "step": i, "data": format!("tensors/batch-{i}.npy"), "format": "NHW"});
            temp.append("b.media.jsonl", &format!("{line}\n"));
            oracle
                .pictures
                .entry(("batch".to_owned(), i))
                .or_default()
                .extend((0..4).map(|k| i * 10 + k));
        }
        if i % 7 == 0 {
            temp.append("b.media.jsonl", "broken\n");
            oracle.n_rejected += 1;
        }
    }
}

/// The bytes that [`gray`] put into a picture.
fn number_in(store: &Path, item: &Value) -> u64 {
    let path = store.join(item["path"].as_str().expect("a path"));
    let decoder = png_decoder(&fs::read(path).expect("a media file"));
    u64::from_le_bytes(decoder[..8].try_into().expect("eight pixels"))
}

fn png_decoder(bytes: &[u8]) -> Vec<u8> {
    image::load_from_memory(bytes).expect("a PNG").into_luma8().into_raw()
}

impl Oracle {
    /// Conservation and integrity: each picture once, in order, with its own pixels; each bad line
    /// rejected once; no file that no item names.
    fn check(&self, temp: &TempRun) {
        let (mut got, mut n_rejected, mut n_files) = (BTreeMap::<_, Vec<u64>>::new(), 0, 0);
        for item in temp.items() {
            if item["state"] == "rejected" {
                n_rejected += 1;
                continue;
            }
            assert_eq!(item["state"], "image");
            let key = item["key"].as_str().expect("a key").to_owned();
            let numbers = got.entry((key, item["step"].as_u64().expect("a step"))).or_default();
            assert_eq!(item["index"], numbers.len(), "{item}");
            numbers.push(number_in(&temp.store(), &item));
            n_files += 1;
        }
        assert_eq!(got, self.pictures);
        assert_eq!(n_rejected, self.n_rejected);
        let found = Command::new("find")
            .arg(temp.store().join("runs"))
            .args(["-name", "*.png"])
            .output()
            .expect("find");
        assert_eq!(String::from_utf8_lossy(&found.stdout).lines().count(), n_files);
        let aside = fs::read_dir(temp.store().join("tmp")).expect("tmp").count();
        assert_eq!(aside, 0, "files are left aside");
    }
}

#[test]
fn killed_at_random_during_ingest_each_item_is_there_once() {
    let mut random = Random(0x5AFE_1167);
    let mut n_killed = 0;
    let mut round = 0;
    while n_killed < n_kills() {
        round += 1;
        assert!(round < 10 * n_kills(), "the program is too fast to be killed");
        let temp = TempRun::new();
        let mut oracle = Oracle::default();
        // The store's first start and later ones, with more to do each time.
        for part in 0..5 {
            write_run(&temp, part * 40, 40, &mut oracle);
            let mut child = Command::new(PROGRAM)
                .arg("ingest")
                .arg(temp.at(""))
                .arg("--store")
                .arg(temp.store())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the program");
            std::thread::sleep(Duration::from_millis(3 + random.below(640)));
            let is_running = child.try_wait().expect("a status").is_none();
            child.kill().expect("a kill");
            child.wait().expect("an end");
            n_killed += u64::from(is_running);
        }
        let ran = temp.ingest();
        assert!(matches!(ran.code, 0 | 3), "{ran:?}");
        oracle.check(&temp);
        // The index is worth nothing: what the journals say is the same.
        let before = temp.items();
        fs::remove_dir_all(temp.store().join("index")).expect("an index");
        assert_eq!(temp.items(), before);
    }
    eprintln!("{n_killed} kills in {round} stores: each item exactly once");
}

#[test]
fn a_daemon_killed_while_a_job_writes_loses_and_doubles_nothing() {
    let temp = TempRun::new();
    let mut random = Random(0xDAE0_0111);
    let mut oracle = Oracle::default();
    for part in 0..(n_kills() / 8).max(6) {
        let daemon = temp.daemon("[ingest]\nsettle_ms = 50\nclose_ms = 5\n");
        write_run(&temp, part * 30, 30, &mut oracle);
        std::thread::sleep(Duration::from_millis(random.below(150)));
        // Dropping it is kill -9.
        drop(daemon);
    }
    let daemon = temp.daemon("[ingest]\nsettle_ms = 50\n");
    let n_items = oracle.pictures.values().map(Vec::len).sum::<usize>() + oracle.n_rejected;
    crate::harness::wait_for("all items", || temp.items().len() >= n_items);
    assert_eq!(daemon.stop().0, Some(0));
    oracle.check(&temp);
}
