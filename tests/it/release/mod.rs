//! `safelight release`: held items become images under new limits.
//!
//! `SAFELIGHT_LIMIT_CASES` is the number of random runs that are tried.

mod kills;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{TempRun, gray, npy, npz, number_in, post_as_nobody, random_cases, wait_for};
use crate::step_limits::{Written, check_counts, write, written};

fn ingest(temp: &TempRun, settings: &str) {
    let run = temp.at("");
    let ran = temp.run_with(settings, &["ingest", run.to_str().expect("a path")]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

/// Runs `release --json`. Returns its report and exit code.
fn release(temp: &TempRun, settings: &str, args: &[&str]) -> (Value, i32) {
    let ran = temp.run_with(settings, &[&["release", "--json"], args].concat());
    let report = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("no report: {ran:?}"));
    (report, ran.code)
}

/// Returns the number of released items, of items still over a limit, and of those held for other reasons.
fn counts(report: &Value) -> [u64; 3] {
    ["released", "held", "failed"].map(|field| report[field].as_u64().expect("a number"))
}

/// Returns the media files of items by their paths.
fn files(temp: &TempRun, items: &[Value]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for item in items {
        let sets = ["boxes", "masks"].map(|sets| item[sets].as_object());
        let of_sets = sets.into_iter().flatten().flat_map(|sets| sets.values());
        for path in [item].into_iter().chain(of_sets).filter_map(|of| of["path"].as_str()) {
            files.insert(path.to_owned(), fs::read(temp.store().join(path)).expect("a file"));
        }
    }
    files
}

/// Checks that an ingest under low limits and a release under high ones give the same items and files as
/// an ingest under high limits, also after a rebuild of the index. Returns the report of the release.
fn check(write: impl Fn(&TempRun), low: &str, high: &str) -> Value {
    let temp = TempRun::new();
    write(&temp);
    ingest(&temp, low);
    let (report, code) = release(&temp, high, &[]);
    assert_eq!((code, &report["failed"]), (0, &json!(0)), "{report}");
    let released = temp.items();
    let of_files = files(&temp, &released);

    temp.remove_index();
    assert_eq!(temp.items(), released, "the rebuilt index differs");
    let n_lines = temp.journaled_items().len();
    let (again, code) = release(&temp, high, &[]);
    assert_eq!((code, &again["released"], &again["failed"]), (0, &json!(0), &json!(0)), "{again}");
    ingest(&temp, high);
    assert_eq!(temp.journaled_items().len(), n_lines, "an item is committed again");

    fs::remove_dir_all(temp.store()).expect("a store");
    ingest(&temp, high);
    check_same(&released, &temp.items());
    let same = files(&temp, &released);
    assert!(of_files == same, "{:?} {:?}", of_files.keys(), same.keys());
    report
}

/// Checks that items are equal, except for the reasons of held ones.
fn check_same(got: &[Value], want: &[Value]) {
    let without_reason = |item: &Value| {
        let mut item = item.clone();
        if item["state"] == "held" {
            item["reason"] = Value::Null;
        }
        item
    };
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert_eq!(without_reason(got), without_reason(want));
    }
}

fn with_items(n: u64) -> String {
    format!("[limits]\nmax_items = {n}\n")
}

#[test]
fn a_raised_item_limit_releases_the_next_items_in_order() {
    let write = |temp: &TempRun| {
        (0..10).for_each(|n| temp.log_picture("a", 1, n));
        (0..3).for_each(|n| temp.log_picture("b/c", 1, n));
    };
    let report = check(write, &with_items(2), &with_items(5));
    assert_eq!(counts(&report), [4, 5, 0], "{report}");
    let report = check(write, &with_items(2), &with_items(108));
    assert_eq!(counts(&report), [9, 0, 0], "{report}");

    let temp = TempRun::new();
    write(&temp);
    (0..4).for_each(|n| temp.log_picture("a", 2, n));
    ingest(&temp, &with_items(2));
    let said = temp.run_with(&with_items(3), &["release", "run", "a", "--step", "1"]);
    assert_eq!(said.code, 0, "{said:?}");
    let want = "run a: 1 image released, 7 items still held back\n  7: max_items: 3 images of this key and step are kept\n";
    assert_eq!(said.out, want);
    assert_eq!(temp.counts(), [7, 10, 0]);
    let (report, _) = release(&temp, &with_items(108), &["run", "b/c"]);
    assert_eq!(counts(&report), [1, 0, 0], "{report}");
    let (report, _) = release(&temp, &with_items(108), &["run", "--step", "2.."]);
    assert_eq!(counts(&report), [2, 0, 0], "{report}");
    assert_eq!(counts(&release(&temp, &with_items(108), &[]).0), [7, 0, 0]);
    let said = temp.run_with(&with_items(108), &["release"]);
    assert_eq!((said.code, &*said.out), (0, "nothing is held and nothing waits\n"));
    let status = temp.status();
    assert_eq!((&status["image"], &status["held"]), (&json!(17), &json!(0)));
    let wrong = temp.run_with("", &["release", "rum"]);
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("did you mean \"run\"?"), "{}", wrong.err);
}

#[test]
fn images_over_the_size_limit_are_released_when_it_is_raised_or_they_are_downscaled() {
    let write = |temp: &TempRun| {
        for (n, width) in [30, 90, 50, 200].into_iter().enumerate() {
            temp.write(&format!("tensors/{n}.npy"), &npy("|u1", &[9, width], &vec![7; 9 * width]));
            let line = json!({"key": "a", "step": 1, "data": format!("tensors/{n}.npy")});
            temp.append("a.media.jsonl", &format!("{line}\n"));
            temp.write(&format!("dumps/b/{n}.npy"), &npy("|u1", &[9, width], &vec![9; 9 * width]));
        }
        // An image file, which is never downscaled.
        let mut file = std::io::Cursor::new(Vec::new());
        let picture = image::GrayImage::from_pixel(60, 9, image::Luma([3]));
        picture.write_to(&mut file, image::ImageFormat::Png).expect("a PNG");
        temp.write("dumps/c/1.png", &file.into_inner());
        // A dump so large that only its beginning is read for its header.
        temp.write("dumps/b/9.npy", &npy("|u1", &[200, 200], &vec![5; 40_000]));
    };
    let low = "[limits]\nmax_dimension = 40\n";
    let report = check(write, low, "[limits]\nmax_dimension = 90\n");
    assert_eq!(counts(&report), [5, 3, 0], "{report}");
    let scaled = "[limits]\nmax_dimension = 40\nover_dimension = \"downscale\"\n";
    let report = check(write, low, scaled);
    assert_eq!(counts(&report), [7, 1, 0], "{report}");
    check(write, "[limits]\nmax_dimension = 40\nmax_items = 2\n", "");
}

#[test]
fn the_rest_of_a_batch_is_released_with_its_metadata() {
    let write = |temp: &TempRun| {
        let n = 130;
        let numbers = || 0..u8::try_from(n).expect("a byte");
        let pixels: Vec<u8> = numbers().flat_map(|number| [number; 20]).collect();
        temp.write("many.npy", &npy("|u1", &[n, 4, 5], &pixels));
        let classes: Vec<u8> = numbers().flat_map(|number| [number % 3; 20]).collect();
        temp.write("masks.npy", &npy("|u1", &[n, 4, 5], &classes));
        let captions: Vec<_> = numbers().map(|number| format!("picture {number}")).collect();
        let boxes = numbers().map(|number| {
            let position = json!({"minX": 0.1, "maxX": 0.5, "minY": 0.2, "maxY": 0.75});
            let one = json!({"position": position, "class_id": number % 3});
            json!({"pred": {"box_data": [one]}})
        });
        let line = json!({
            "key": "a", "step": 1, "data": "many.npy", "format": "NHW", "caption": captions,
            "boxes": boxes.collect::<Vec<_>>(), "masks": {"gt": {"mask_data": "masks.npy"}},
            "classes": [{"id": 0, "name": "road"}], "note": {"x": 1.5},
        });
        temp.append("a.media.jsonl", &format!("{line}\n"));
        // Parts of raw bytes.
        temp.write("raw.bin", &pixels[..100]);
        for offset in [0, 20, 40, 60, 80] {
            let data =
                json!({"path": "raw.bin", "dtype": "uint8", "shape": [4, 5], "offset": offset});
            temp.append(
                "b.media.jsonl",
                &format!("{}\n", json!({"key": "r", "step": 1, "data": data})),
            );
        }
        // Two tensors in one dump, by a sidecar.
        let batch = npy("|u1", &[6, 4, 5], &pixels[..120]);
        temp.write("dumps/b/7.npz", &npz(&[("x.npy", batch.clone()), ("y.npy", batch)]));
        temp.write("dumps/b/7.npz.json", b"{\"format\":\"NHW\",\"caption\":\"c\",\"index\":3}");
    };
    let report = check(write, &with_items(2), &with_items(4));
    assert_eq!(counts(&report), [8, 131, 0], "{report}");
    let report = check(write, "", &with_items(120));
    assert_eq!(counts(&report), [12, 10, 0], "{report}");
    // In two steps.
    let temp = TempRun::new();
    write(&temp);
    ingest(&temp, &with_items(1));
    assert_eq!(counts(&release(&temp, &with_items(5), &[]).0), [16, 127, 0]);
    assert_eq!(counts(&release(&temp, &with_items(500), &[]).0), [127, 0, 0]);
    let released = temp.items();
    fs::remove_dir_all(temp.store()).expect("a store");
    ingest(&temp, &with_items(500));
    check_same(&released, &temp.items());
}

#[test]
fn a_new_version_of_a_dump_replaces_its_released_images() {
    let temp = TempRun::new();
    let sidecar = b"{\"format\":\"NHW\"}";
    let write = |n: usize, value: u8| {
        temp.write("dumps/a/1.npy.json", sidecar);
        temp.write("dumps/a/1.npy", &npy("|u1", &[n, 4, 5], &vec![value; n * 20]));
    };
    write(6, 1);
    ingest(&temp, &with_items(2));
    assert_eq!(counts(&release(&temp, &with_items(4), &[]).0), [2, 2, 0]);
    // As long as it has not been read, nothing of the new version is taken for the old one.
    write(5, 2);
    let (report, code) = release(&temp, &with_items(9), &[]);
    assert_eq!((counts(&report), code), ([0, 0, 2], 1), "{report}");
    ingest(&temp, &with_items(4));
    assert_eq!(temp.counts(), [4, 1, 0]);
    let (report, _) = release(&temp, &with_items(9), &[]);
    assert_eq!(counts(&report), [1, 0, 0], "{report}");
    let items = temp.items();
    let seen: Vec<_> =
        items.iter().map(|i| (i["index"].clone(), i["stats"]["max"].clone())).collect();
    let want: Vec<_> = (0..5).map(|index| (json!(index), json!(2.0))).collect();
    assert_eq!(seen, want);
    write(3, 3);
    ingest(&temp, &with_items(9));
    assert_eq!(temp.counts(), [3, 0, 0]);
    temp.remove_index();
    assert_eq!(temp.counts(), [3, 0, 0]);
}

#[test]
fn items_whose_source_has_changed_stay_held_with_a_reason() {
    let temp = TempRun::new();
    for key in ["gone", "changed", "touched", "line", "fine", "noted"] {
        (0..2).for_each(|n| temp.log_picture(key, 1, n));
    }
    (0..2).for_each(|n| {
        temp.write(&format!("dumps/path/1_{n}.npy"), &gray(n));
        temp.write(&format!("dumps/sidecar/1_{n}.npy"), &gray(n));
        temp.write(&format!("dumps/sidecar/1_{n}.npy.json"), b"{\"caption\":\"a\"}");
    });
    temp.write("b.media.jsonl", b"{\"key\":\"log\",\"step\":1,\"data\":\"tensors/fine-1-0.npy\"}\n{\"key\":\"log\",\"step\":1,\"data\":\"tensors/fine-1-0.npy\"}\n");
    ingest(&temp, &with_items(1));
    assert_eq!(temp.counts(), [9, 9, 0]);

    fs::remove_file(temp.at("tensors/gone-1-1.npy")).expect("a removal");
    fs::write(temp.at("tensors/changed-1-1.npy"), gray(77)).expect("another content");
    fs::write(temp.at("tensors/touched-1-1.npy"), gray(1)).expect("the same content");
    // Other content with the same length and time: only the digest differs.
    let path = temp.at("tensors/noted-1-1.npy");
    let time = fs::metadata(&path).and_then(|meta| meta.modified()).expect("a time");
    fs::write(&path, gray(78)).expect("another content");
    fs::File::options().write(true).open(&path).and_then(|f| f.set_modified(time)).expect("a time");
    // The path has the same length, so that the log is not shorter than before.
    let log = fs::read_to_string(temp.at("a.media.jsonl")).expect("a log");
    let other = log.replace("tensors/line-1-1.npy", "tensors/fine-1-1.npy");
    fs::write(temp.at("a.media.jsonl"), other).expect("another log");
    fs::remove_file(temp.at("b.media.jsonl")).expect("a removal");
    fs::write(temp.at("dumps/path/1_1.npy"), gray(79)).expect("another content");
    fs::write(temp.at("dumps/sidecar/1_1.npy.json"), b"{\"caption\":\"b\"}").expect("a sidecar");

    let n_lines = temp.journaled_items().len();
    let (report, code) = release(&temp, &with_items(9), &[]);
    assert_eq!((counts(&report), code), ([2, 0, 7], 1), "{report}");
    let keys = report["keys"].as_array().expect("keys");
    let failed: Vec<_> = keys
        .iter()
        .map(|of| {
            let why = of["failed"].as_object().expect("reasons").keys().next();
            (of["key"].as_str().expect("a key"), why.map_or("", String::as_str))
        })
        .collect();
    let changed = "its dump has changed since it was held";
    let want = [
        ("changed", changed),
        ("fine", ""),
        ("gone", "its dump is gone"),
        ("line", "the line or path that described it has changed"),
        ("log", "the log that described it is gone"),
        ("noted", changed),
        ("path", changed),
        ("sidecar", "its sidecar has changed since it was held"),
        ("touched", ""),
    ];
    assert_eq!(failed, want);
    assert_eq!(temp.journaled_items().len(), n_lines + 2, "a held item is committed again");
    let said = temp.run_with(&with_items(9), &["release", "run", "gone"]);
    assert_eq!(said.code, 1);
    assert_eq!(said.out, "run gone: 0 images released, 1 item failed\n  1: its dump is gone\n");
    // Where the limits hold it back all the same, nothing has failed.
    let (report, code) = release(&temp, &with_items(1), &[]);
    assert_eq!((counts(&report), code), ([0, 7, 0], 0), "{report}");
    fs::rename(temp.at(""), temp.folder().join("moved")).expect("a rename");
    let (report, code) = release(&temp, &with_items(9), &[]);
    assert_eq!((counts(&report), code), ([0, 0, 7], 1), "{report}");
}

#[test]
fn a_daemon_releases_only_for_permitted_users_under_its_current_settings() {
    let temp = TempRun::new();
    let daemon = temp.daemon(&with_items(2));
    (0..6).for_each(|n| temp.log_picture("a", 1, n));
    temp.write("dumps/b/1.npy.json", b"{\"format\":\"NHW\"}");
    temp.write("dumps/b/1.npy", &npy("|u1", &[5, 4, 5], &[1; 100]));
    wait_for("the pictures", || temp.counts() == [4, 7, 0]);
    let said = temp.run_with(&with_items(3), &["release"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.out.contains(
            "run a: 0 images released, 4 items still held back\n  4: max_items: 2 images"
        ),
        "{said:?}"
    );
    assert!(
        said.out.contains("differ from the configuration file: run `safelight reload`"),
        "{said:?}"
    );
    assert_eq!(temp.run_with(&with_items(3), &["reload"]).code, 0);
    let (report, code) = release(&temp, &with_items(3), &[]);
    assert_eq!((counts(&report), code), ([2, 5, 0], 0), "{report}");
    if let Some(refusal) = post_as_nobody(temp.folder(), "/v1/release") {
        assert!(refusal.contains("only root and the daemon's own user"), "{refusal}");
    }
    // Later items and versions get the right indexes.
    assert_eq!(temp.run_with(&with_items(5), &["reload"]).code, 0);
    assert_eq!(counts(&release(&temp, &with_items(5), &["run", "a"]).0), [2, 1, 0]);
    temp.log_picture("a", 1, 6);
    temp.write("dumps/b/1.npy", &npy("|u1", &[4, 4, 5], &[2; 80]));
    wait_for("the new ones", || temp.counts() == [9, 2, 0]);
    assert_eq!(counts(&release(&temp, &with_items(5), &[]).0), [0, 2, 0]);
    assert_eq!(daemon.stop().0, Some(0));
    assert_eq!(counts(&release(&temp, &with_items(9), &[]).0), [2, 0, 0]);
    assert_eq!(temp.counts(), [11, 0, 0]);
}

#[test]
fn a_long_release_is_polled_until_it_is_done() {
    const N: u64 = 400;
    let temp = TempRun::new();
    (0..N).for_each(|n| temp.log_picture("a", n % 4, n));
    ingest(&temp, &with_items(1));
    let _daemon = temp.daemon("");
    let ask = |query: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-w", "%{http_code}", "-X", "POST", "--unix-socket"]);
        curl.arg(temp.folder().join("control.sock")).stderr(Stdio::null());
        curl.arg(format!("http://safelight/v1/release{query}"));
        String::from_utf8_lossy(&curl.output().expect("curl").stdout).into_owned()
    };
    assert_eq!(ask("?goes_on=true"), "no release is running409");
    // In a debug build the release takes longer than the daemon delays a response.
    assert_eq!(ask("?run=run"), "202");
    // The release goes on although no client polls it.
    wait_for("the end of it", || temp.n_images() == N);
    assert!(ask("?goes_on=true").ends_with("200"));
    let (report, code) = release(&temp, "", &[]);
    assert_eq!((counts(&report), code), ([0, 0, 0], 0), "{report}");
    (N..2 * N).for_each(|n| temp.log_picture("a", 7, n));
    wait_for("the new ones", || temp.counts() == [508, 292, 0]);
    assert_eq!(temp.run_with(&with_items(1000), &["reload"]).code, 0);
    let (report, code) = release(&temp, &with_items(1000), &[]);
    assert_eq!((counts(&report), code), ([292, 0, 0], 0), "{report}");
    check_each_once(&temp, 2 * N);
}

/// Checks that the journal has each picture of [`gray`] once, and that a rebuilt index is equal.
fn check_each_once(temp: &TempRun, n: u64) {
    let items = temp.items();
    let numbers: BTreeSet<u64> = items.iter().map(|item| number_in(&temp.store(), item)).collect();
    assert_eq!(numbers, (0..n).collect());
    let journaled = temp.journaled_items();
    let images: Vec<_> = journaled.iter().filter(|item| item["state"] == "image").collect();
    assert_eq!(images.len() as u64, n);
    temp.remove_index();
    assert_eq!(temp.items(), items);
}

fn check_random(parts: &[(Vec<Written>, usize)], by_daemon: bool) -> Result<(), TestCaseError> {
    let temp = TempRun::new();
    let mut number = 0;
    let mut max_items = 0;
    for (part, n_more) in parts {
        let before = format!("[limits]\nmax_items = {}\n", max_items.max(1));
        max_items += n_more;
        for what in part {
            write(&temp, what, number);
            number += 1;
        }
        let config = temp.configure(&before);
        let (config, run) = (config.to_str().expect("a path"), temp.at(""));
        let ran = temp.run(&["ingest", "--config", config, run.to_str().expect("a path")]);
        prop_assert!(matches!(ran.code, 0 | 3), "{:?}", ran);
        let settings = format!("[limits]\nmax_items = {max_items}\n");
        let daemon = by_daemon.then(|| temp.daemon(&settings));
        let (report, _) = release(&temp, &settings, &[]);
        let items = temp.items();
        drop(daemon);
        check_counts(&items, max_items)?;
        // If a dump's new version was rejected, its held items cannot be released.
        let mut steps = BTreeMap::<_, [usize; 2]>::new();
        for item in items.iter().filter(|item| item["state"] != "rejected") {
            let step = ["key", "step"].map(|field| item[field].to_string());
            steps.entry(step).or_default()[usize::from(item["state"] == "held")] += 1;
        }
        let n_left = steps.values().filter(|[n, _]| *n < max_items).map(|[_, n_held]| *n_held);
        prop_assert_eq!(n_left.sum::<usize>() as u64, counts(&report)[2], "{}", report);
        let n_held: usize = steps.values().map(|[_, n_held]| n_held).sum();
        prop_assert_eq!(n_held as u64, counts(&report)[1] + counts(&report)[2], "{}", report);
        temp.remove_index();
        prop_assert_eq!(&temp.items(), &items);
        let (again, _) = release(&temp, &settings, &[]);
        prop_assert_eq!(&again["released"], &json!(0), "{}", again);
        prop_assert_eq!(temp.items(), items);
    }
    Ok(())
}

fn parts() -> impl Strategy<Value = Vec<(Vec<Written>, usize)>> {
    let part = proptest::collection::vec(written(), 1..25);
    proptest::collection::vec((part, 1usize..4), 1..4)
}

proptest! {
    #![proptest_config(random_cases("SAFELIGHT_LIMIT_CASES", 6))]

    #[test]
    fn a_release_fills_each_step_and_a_rebuilt_index_agrees(
        parts in parts(), by_daemon: bool,
    ) {
        check_random(&parts, by_daemon)?;
    }
}
