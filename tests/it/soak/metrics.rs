//! Scrapes of the daemon's metrics: whether they add up, and what grows.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::scene::Scene;
use super::seconds;

/// Minimum lifetime of a process before its growth is checked.
const LIFETIME_MIN: Duration = Duration::from_mins(3);

/// The values of one scrape.
pub(super) struct Sample {
    at: Duration,
    values: HashMap<String, f64>,
}

impl Sample {
    fn get(&self, name: &str) -> f64 {
        *self.values.get(&format!("safelight_{name}")).unwrap_or_else(|| panic!("no {name}"))
    }

    /// Returns the sum over all labels.
    fn sum(&self, name: &str) -> f64 {
        let name = format!("safelight_{name}{{");
        let of_name = self.values.iter().filter(|(key, _)| key.starts_with(&name));
        of_name.map(|(_, value)| value).sum()
    }

    /// Describes the difference if the items that went in are not those that came out or are in flight.
    pub(super) fn imbalance(&self) -> Option<String> {
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

/// Requests the metrics, like `curl --unix-socket`.
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
        return None; // The daemon was killed meanwhile.
    }
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let values = lines.filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    Some(values.collect())
}

pub(super) fn scrape_on(scene: &Scene, is_over: &AtomicBool) -> Vec<Sample> {
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

/// The columns of the table: names of metrics and their divisors.
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

pub(super) fn write_table(samples: &[Sample]) -> PathBuf {
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

/// Returns the median of each resource in the second and the last quarter of the last process's life. A
/// steady growth shows as a difference. The first quarter is left out, because caches fill in it. Returns
/// nothing if the process did not run long enough.
pub(super) fn growth(samples: &[Sample]) -> Vec<(&'static str, f64, f64)> {
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
