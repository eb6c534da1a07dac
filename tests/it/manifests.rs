//! What the manifests of an object store say, and how many there are: see `docs/object_store.md`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::harness::{TempRun, gray, gray_batch, wait_for, wait_for_all};

/// Settings of a target in the folder `bucket`, in which a batch that is not full waits for `manifest_s` seconds.
fn settings(temp: &TempRun, manifest_s: u64) -> String {
    let folder = temp.folder().display();
    format!(
        "[sync.archive]\nkind = \"object_store\"\nurl = \"file://{folder}/bucket\"\nbox = \"gpu 17\"\n\
         manifest_s = {manifest_s}\n[limits]\nmax_items = 2\n"
    )
}

/// Returns the paths of the run's manifests, in their order.
fn manifests(temp: &TempRun) -> Vec<PathBuf> {
    let found = fs::read_dir(temp.folder().join("bucket/runs/gpu%2017/run"));
    let found = found.into_iter().flatten().map(|entry| entry.expect("a file").path());
    let mut manifests: Vec<_> =
        found.filter(|path| path.extension().is_some_and(|ending| ending == "jsonl")).collect();
    manifests.sort();
    manifests
}

fn lines(temp: &TempRun) -> Vec<Value> {
    let texts = manifests(temp).into_iter().map(|path| fs::read_to_string(path).expect("text"));
    texts
        .flat_map(|text| {
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<_>>()
        })
        .collect()
}

/// Returns the last line about each place.
fn latest(lines: &[Value]) -> BTreeMap<String, &Value> {
    let mut sorted: Vec<&Value> = lines.iter().collect();
    sorted.sort_by_key(|line| line["seq"].as_u64());
    let place =
        |line: &Value| ["key", "step", "index"].map(|field| line[field].to_string()).join(" ");
    sorted.into_iter().map(|line| (place(line), line)).collect()
}

#[test]
fn manifests_tell_what_became_of_every_item() {
    let temp = TempRun::new();
    temp.write("safelight.json", br#"{"project": "cars"}"#);
    temp.write("dumps/k/1.npy.json", br#"{"format": "NHW"}"#);
    temp.write("dumps/k/1.npy", &gray_batch(&[1, 2, 3, 4]));
    temp.write("dumps/k/2.npy", &gray(5));
    temp.write("dumps/bad/3.npy", &[7; 4096]);
    let written = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    for name in ["dumps/k/1.npy", "dumps/k/2.npy", "dumps/bad/3.npy"] {
        let dump = File::options().append(true).open(temp.at(name)).expect("a dump");
        dump.set_modified(written).expect("a time");
    }
    let sync = |code| {
        let run = temp.at("");
        let ran = temp.run_with(&settings(&temp, 60), &["ingest", run.to_str().expect("a path")]);
        assert_eq!(ran.code, code, "{ran:?}");
        let ran = temp.run_with(&settings(&temp, 60), &["sync", "--once"]);
        assert_eq!(ran.code, 0, "{ran:?}");
    };
    let check = || {
        let lines = lines(&temp);
        let found = latest(&lines);
        for item in temp.items() {
            let place = ["key", "step", "index"].map(|field| item[field].to_string()).join(" ");
            let mut line = found[&place].clone();
            assert_eq!(line["time"], json!(1_600_000_000.0), "{line}");
            let fields = line.as_object_mut().expect("an object");
            assert_eq!(fields.remove("object").is_some(), item["state"] == "image", "{item}");
            for added in ["v", "box", "project", "seq", "time"] {
                fields.remove(added).expect(added);
            }
            assert_eq!(line, item);
        }
        lines
    };
    // A dump is rejected.
    sync(3);
    let before = check();
    let states: Vec<_> = before.iter().map(|line| line["state"].clone()).collect();
    for (state, n) in [("image", 3), ("held", 2), ("rejected", 1)] {
        assert_eq!(states.iter().filter(|got| **got == state).count(), n, "{state}: {states:?}");
    }
    assert!(before.iter().all(|line| line["v"] == 1 && line["box"] == "gpu 17"));
    assert!(before.iter().all(|line| line["project"] == "cars" && line["run"] == "run"));
    assert_eq!(manifests(&temp).len(), 1);

    // A version with fewer images: places are gone.
    temp.write("dumps/k/1.npy", &gray_batch(&[6, 7]));
    let dump = File::options().append(true).open(temp.at("dumps/k/1.npy")).expect("a dump");
    dump.set_modified(written).expect("a time");
    sync(0);
    let after = check();
    let gone = latest(&after).into_values().filter(|line| line["state"] == "gone");
    assert_eq!(gone.map(|line| line["index"].clone()).collect::<Vec<_>>(), [json!(2), json!(3)]);
    // Nothing is repeated.
    assert_eq!(after[..before.len()], before);
    sync(0);
    assert_eq!(lines(&temp), after);
}

#[test]
fn a_waiting_item_that_moves_leaves_its_place() {
    // Bug: an item that waited at a place and then got another one stayed in the manifests as waiting.
    const LINE: &str = "{\"key\":\"k\",\"step\":1,\"data\":\"tensors/a.npy\",\"format\":\"NHW\"}\n";
    let temp = TempRun::new();
    temp.write("tensors/a.npy", &gray_batch(&[1, 2, 3]));
    temp.append("a.media.jsonl", LINE);
    temp.log_picture("k", 1, 4);
    let settings = |batch_max| {
        let target = settings(&temp, 60).replace("max_items = 2", "max_items = 9");
        format!("{target}batch_max = {batch_max}\n")
    };
    for (batch_max, code) in [(2, 3), (3, 0)] {
        let run = temp.at("");
        let args = ["ingest", run.to_str().expect("a path")];
        assert_eq!(temp.run_with(&settings(batch_max), &args).code, code);
        let ran = temp.run_with(&settings(batch_max), &["sync", "--once"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let lines = lines(&temp);
        let found = latest(&lines).into_values().filter(|line| line["state"] != "gone");
        let facts = |item: &Value| (item["index"].clone(), item["state"].clone());
        let mut found: Vec<_> = found.map(facts).collect();
        let mut want: Vec<_> = temp.items().iter().map(facts).collect();
        found.sort_by_key(|(index, _)| index.to_string());
        want.sort_by_key(|(index, _)| index.to_string());
        assert_eq!(found, want, "{lines:?}");
    }
}

#[test]
fn images_that_were_pruned_before_their_delivery_are_listed_without_an_object() {
    let temp = TempRun::new();
    temp.log_picture("k", 1, 1);
    temp.log_picture("k", 2, 2);
    assert_eq!(temp.ingest().code, 0);
    for item in temp.items() {
        let file = temp.store().join(item["path"].as_str().expect("a path"));
        let file = File::options().append(true).open(file).expect("a media file");
        file.set_modified(SystemTime::now() - Duration::from_hours(48)).expect("a time");
    }
    let ran = temp.run_with("[retention]\nmedia_age_max_days = 1\n", &["prune", "--apply"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    temp.log_picture("k", 3, 3);
    assert_eq!(temp.ingest().code, 0);
    let ran = temp.run_with(&settings(&temp, 60), &["sync", "--once"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let lines = lines(&temp);
    let got: Vec<_> = lines
        .iter()
        .map(|line| (&line["step"], &line["pruned"], line.get("object").is_some()))
        .collect();
    assert_eq!(
        got,
        [
            (&json!(1), &json!(true), false),
            (&json!(2), &json!(true), false),
            (&json!(3), &Value::Null, true)
        ]
    );
}

#[test]
fn a_live_run_makes_few_manifests() {
    let temp = TempRun::new();
    let daemon = temp.daemon(&settings(&temp, 1));
    let start = Instant::now();
    let mut n = 0;
    while start.elapsed() < Duration::from_secs(5) {
        temp.log_picture("k", n, n);
        n += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    wait_for_all("the lines", n, || lines(&temp).len() as u64);
    let n_max = start.elapsed().as_secs() + 1;
    assert!(
        (2..=n_max).contains(&(manifests(&temp).len() as u64)),
        "{} of {n_max}",
        manifests(&temp).len()
    );
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_batch_waits_unless_it_is_full_or_asked_for_or_the_last() {
    let temp = TempRun::new();
    let settings = settings(&temp, 3600);
    let daemon = temp.daemon(&settings);
    for n in 0..300 {
        temp.log_picture("k", n, n);
    }
    wait_for("the full batch", || lines(&temp).len() == 256);
    wait_for_all("the images", 300, || temp.n_images());
    assert_eq!(manifests(&temp).len(), 1);
    let ran = temp.run_with(&settings, &["sync", "archive"]);
    assert_eq!((ran.code, lines(&temp).len()), (0, 300), "{ran:?}");
    temp.log_picture("k", 300, 300);
    temp.append("a.media.jsonl", "{\"finish\": true}\n");
    wait_for("the last batch", || lines(&temp).len() == 301);
    assert_eq!(manifests(&temp).len(), 3);
    assert_eq!(daemon.stop().0, Some(0));
}
