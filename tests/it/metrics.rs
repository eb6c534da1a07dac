//! Metrics as Prometheus's own parser reads them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::harness::{TempRun, npy, wait_for};
use crate::wandb_peer::pythons;

/// Reads a page with the real parser, which raises an exception if the page is not `OpenMetrics`.
const PARSE: &str = "
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
samples = {}
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.documentation, family.name
    for sample in family.samples:
        labels = ','.join(f'{k}={v}' for k, v in sorted(sample.labels.items()))
        samples[f'{sample.name}{{{labels}}}'] = sample.value
print(json.dumps(samples))
";

#[test]
fn prometheus_parses_the_metrics_and_they_add_up() {
    let temp = TempRun::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let daemon =
        temp.daemon(&format!("[limits]\nmax_items = 2\n[metrics]\nlisten = \"{address}\"\n"));
    for n in 0..5 {
        temp.log_picture("k", 1, n);
    }
    temp.append("a.media.jsonl", "broken\n");
    temp.write("dumps/bad/1.npy", &npy("|O8", &[2, 2], &[0; 32]));
    wait_for("the items", || temp.counts() == [2, 3, 2]);
    let mut stream = TcpStream::connect(address).expect("the daemon");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, page) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.to_lowercase().contains("content-type: application/openmetrics-text"), "{head}");
    let samples = samples_of(page);
    for (name, want) in [
        ("safelight_items_in_total{}", 7.0),
        ("safelight_items_out_total{state=image}", 2.0),
        ("safelight_items_out_total{state=held}", 3.0),
        ("safelight_items_out_total{state=rejected}", 2.0),
        ("safelight_items_given_back_total{}", 0.0),
        ("safelight_items_in_flight{}", 0.0),
        ("safelight_store_items{state=held}", 3.0),
        ("safelight_healthy{}", 1.0),
    ] {
        assert_eq!(samples.get(name), Some(&want), "{name}: {samples:?}");
    }
    assert!(samples["safelight_process_resident_memory_bytes{}"] > 1e6);
    for python in pythons().iter().take(1) {
        let mut child = Command::new(python)
            .args(["-c", PARSE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python");
        child.stdin.take().expect("an input").write_all(page.as_bytes()).expect("a page");
        let parsed = child.wait_with_output().expect("an end");
        assert!(parsed.status.success(), "{page}");
        let parsed: BTreeMap<String, f64> =
            serde_json::from_slice(&parsed.stdout).expect("numbers by name");
        assert_eq!(parsed, samples);
    }
    assert_eq!(daemon.stop().0, Some(0));
}

/// Returns the samples of a page by name and labels, as [`PARSE`] writes them. No label contains a comma.
fn samples_of(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').expect("a name and a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.trim_end_matches('}').replace('"', "");
        let mut labels: Vec<&str> = labels.split(',').collect();
        labels.sort_unstable();
        (format!("{name}{{{}}}", labels.join(",")), value.parse().expect("a number"))
    };
    lines.map(sample).collect()
}
