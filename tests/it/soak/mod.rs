//! A daemon that suffers kills, stops, reloads and full disks while jobs write. Its metrics must always
//! add up, and in the end each picture must be in the store once.
//!
//! A usual test run takes some seconds. `./test.sh soak 1800` takes half an hour, with the store on a disk
//! of its own that is sometimes full. The memory, descriptors and threads of the process are written to
//! `target/soak/soak.tsv`.

mod job;
mod metrics;
mod scene;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Random, number_from, send_signal, wait_for};
use job::write_runs;
use metrics::{Sample, growth, scrape_on, write_table};
use scene::Scene;

fn seconds() -> u64 {
    number_from("SAFELIGHT_SOAK", 8)
}

/// Ends the other threads when dropped, also by a panic. Otherwise the test would hang instead of failing.
struct EndsAll<'a>(&'a AtomicBool);

impl Drop for EndsAll<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Kills, stops and reloads the daemon and fills its disk. Returns the last daemon and counts by action.
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
        assert!(
            child.try_wait().expect("a status").is_none(),
            "the daemon ended: {}",
            scene.log_end()
        );
        // Each action once, then random ones.
        let which = if n < 4 { n } else { random.below(7) };
        n += 1;
        let what = match which {
            // The last process runs for more than half of the time, so that growth shows.
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

#[test]
fn metrics_add_up_under_faults_and_each_picture_is_stored_once() {
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
        (samples.join().expect("scrapes"), runs.join().expect("the written runs"), harm)
    });
    let mut n_items = 0;
    for (run, wants) in &runs {
        scene.wait_until_kept(run, wants, None);
        let n_images = wants.images.values().map(Vec::len).sum::<usize>();
        n_items += n_images + wants.rejected.n_lines + wants.rejected.dumps.len();
    }
    send_signal(&child, "-TERM");
    assert_eq!(child.wait().expect("an end").code(), Some(0), "{}", scene.log_end());
    // Without a daemon, the store lists the same, including runs whose directories are removed.
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
