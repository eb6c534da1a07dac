//! Waiting items: what is wrong with them may be right later. They are tried again, each in its place.
//!
//! `SAFELIGHT_WAITING_CASES` is the number of random runs that are tried.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{
    Random, TempRun, can_trace, gray, kill_at_call, npy, npz, number_from, number_in, wait_for,
};

/// Short times, so that nothing is waited for long.
const QUICK: &str = "[ingest]\nsettle_ms = 20\nclose_ms = 5\nwait_ms = 100\nincomplete_ms = 100\n";

fn ingest(temp: &TempRun, settings: &str) -> i32 {
    let run = temp.at("");
    temp.run_with(settings, &["ingest", run.to_str().expect("a path")]).code
}

/// Returns key, step, index and state of each item; of images the number in the picture, of others the
/// reason.
fn listed(temp: &TempRun) -> Vec<(String, u64, Value, String)> {
    let of_item = |item: &Value| {
        let key = item["key"].as_str().unwrap_or("-").to_owned();
        let what = match item["state"].as_str() {
            Some("image") => number_in(&temp.store(), item).to_string(),
            state => {
                let (state, class) = (state.unwrap_or_default(), &item["class"]);
                format!("{state} {} {}", class.as_str().unwrap_or("-"), item["reason"])
            }
        };
        (key, item["step"].as_u64().unwrap_or(0), item["index"].clone(), what)
    };
    temp.items().iter().map(of_item).collect()
}

/// Checks that a rebuilt index lists the same items.
fn check_rebuilt(temp: &TempRun) {
    let items = temp.items();
    temp.remove_index();
    assert_eq!(temp.items(), items, "the rebuilt index differs");
}

/// Returns an npy file of several pictures like that of [`gray`], with an axis for each letter of NHWC.
fn batch(numbers: &[u64]) -> Vec<u8> {
    let pixels = numbers.iter().flat_map(|n| n.to_le_bytes().into_iter().chain([255; 8]));
    npy("|u1", &[numbers.len(), 4, 4, 1], &pixels.collect::<Vec<u8>>())
}

fn line(temp: &TempRun, key: &str, step: u64, data: &str, more: &str) {
    let text = format!("{{\"key\":\"{key}\",\"step\":{step},\"data\":\"{data}\"{more}}}\n");
    temp.append("a.media.jsonl", &text);
}

#[test]
fn a_copy_in_progress_ends_with_every_image_in_its_place() {
    let temp = TempRun::new();
    for i in 0..6 {
        line(&temp, "k", 1, &format!("tensors/{i}.npy"), "");
    }
    temp.write("tensors/0.npy", &gray(0));
    temp.write("tensors/1.npy", &gray(1)[..100]);
    assert_eq!(ingest(&temp, QUICK), 3);
    let got = listed(&temp);
    assert_eq!(got.len(), 6, "{got:?}");
    assert!(got.iter().enumerate().all(|(i, (_, _, index, _))| *index == json!(i)), "{got:?}");
    assert!(got[1..].iter().all(|item| item.3.starts_with("rejected waiting")), "{got:?}");
    assert_eq!(temp.status()["runs"][0]["waiting"], 5);
    let n_lines = temp.journaled_items().len();
    assert_eq!(ingest(&temp, QUICK), 0, "nothing new is rejected");
    assert_eq!(temp.journaled_items().len(), n_lines, "what still waits is not journaled again");
    check_rebuilt(&temp);
    for i in [5, 1, 3] {
        temp.write(&format!("tensors/{i}.npy"), &gray(i));
    }
    ingest(&temp, QUICK);
    check_rebuilt(&temp);
    for i in [2, 4] {
        temp.write(&format!("tensors/{i}.npy"), &gray(i));
    }
    line(&temp, "k", 1, "tensors/6.npy", "");
    temp.write("tensors/6.npy", &gray(6));
    assert_eq!(ingest(&temp, QUICK), 0);
    let want = |i: u64| ("k".to_owned(), 1, json!(i), i.to_string());
    assert_eq!(listed(&temp), (0..7).map(want).collect::<Vec<_>>());
    assert_eq!(temp.status()["runs"][0]["waiting"], 0);
    check_rebuilt(&temp);
}

#[test]
fn a_daemon_makes_the_images_of_dumps_that_arrive_long_after_their_lines() {
    let temp = TempRun::new();
    let daemon = temp.daemon(QUICK);
    for i in 0..3 {
        line(&temp, "k", i, &format!("tensors/{i}.npy"), "");
    }
    temp.write("dumps/p/000001.npy", &gray(7)[..100]);
    wait_for("the items wait", || temp.status()["rejected"] == 4);
    let health = temp.run(&["health"]);
    assert_eq!(health.code, 1, "{health:?}");
    assert!(health.out.contains("4 items wait"), "{health:?}");
    temp.write("tensors/2.npy", &gray(2)[..90]);
    wait_for("a new reason", || listed(&temp).iter().any(|item| item.3.contains("truncated")));
    for i in 0..3 {
        temp.write(&format!("tensors/{i}.npy"), &gray(i));
    }
    temp.write("dumps/p/000001.npy", &gray(7));
    wait_for("all images", || temp.counts() == [4, 0, 0]);
    wait_for("health", || temp.run(&["health"]).code == 0);
    drop(daemon);
    let numbers: Vec<String> = listed(&temp).into_iter().map(|item| item.3).collect();
    assert_eq!(numbers, ["0", "1", "2", "7"]);
    check_rebuilt(&temp);
}

#[test]
fn items_over_a_protective_limit_become_images_when_it_is_raised() {
    let write = |temp: &TempRun| {
        temp.write("tensors/a.npy", &batch(&[1, 2, 3]));
        line(temp, "line", 1, "tensors/a.npy", "");
        temp.write("tensors/b.npy", &gray(4));
        line(temp, "line", 1, "tensors/b.npy", "");
        temp.write("dumps/path/000001.npy", &batch(&[5, 6, 7]));
        let caption = "x".repeat(3000);
        line(temp, "long", 1, "tensors/b.npy", &format!(",\"caption\":\"{caption}\""));
    };
    let low = format!("{QUICK}[limits]\nbatch_max = 2\nline_bytes_max = 1024\n");
    // The batch has grown out of its place, and moves behind the next image.
    let want = [
        ("line", json!(1), "4"),
        ("line", json!(2), "1"),
        ("line", json!(3), "2"),
        ("line", json!(4), "3"),
        ("long", json!(0), "4"),
        ("path", json!(0), "5"),
        ("path", json!(1), "6"),
        ("path", json!(2), "7"),
    ]
    .map(|(key, index, n)| (key.to_owned(), 1, index, n.to_owned()));
    for how in ["ingest", "release", "reload"] {
        let temp = TempRun::new();
        write(&temp);
        assert_eq!(ingest(&temp, &low), 3);
        assert_eq!(temp.counts(), [1, 0, 3], "{:?}", listed(&temp));
        match how {
            "ingest" => assert_eq!(ingest(&temp, QUICK), 0),
            "release" => {
                let ran = temp.run_with(&low, &["release"]);
                assert_eq!(ran.code, 3, "{ran:?}");
                let ran = temp.run_with(QUICK, &["release", "--json"]);
                let report: Value = serde_json::from_str(&ran.out).expect("a report");
                assert_eq!((ran.code, &report["released"]), (0, &json!(7)), "{report}");
            }
            _ => {
                let daemon = temp.daemon(&low);
                temp.configure(QUICK);
                let ran = temp.run(&["reload"]);
                assert_eq!(ran.code, 0, "{ran:?}");
                wait_for("all images", || temp.counts() == [8, 0, 0]);
                drop(daemon);
            }
        }
        assert_eq!(listed(&temp), want, "{how}");
        check_rebuilt(&temp);
        // A new version of the dump takes the places of the images that were made later.
        temp.write("dumps/path/000001.npy", &batch(&[8, 9]));
        ingest(&temp, QUICK);
        let of_path: Vec<String> =
            listed(&temp).into_iter().filter(|item| item.0 == "path").map(|item| item.3).collect();
        assert_eq!(of_path, ["8", "9"], "{how}");
        check_rebuilt(&temp);
    }
}

#[test]
fn a_tensor_that_waits_does_not_make_the_others_of_its_dump_again() {
    let temp = TempRun::new();
    let dump = npz(&[("small.npy", gray(1)), ("large.npy", npy("|u1", &[9, 9], &[7; 81]))]);
    temp.write("dumps/two/000001.npz", &dump);
    assert_eq!(ingest(&temp, &format!("{QUICK}[limits]\npixels_max = 20\n")), 3);
    assert_eq!(temp.counts(), [1, 0, 1]);
    let n_lines = temp.journaled_items().len();
    assert_eq!(ingest(&temp, QUICK), 0);
    assert_eq!(temp.counts(), [2, 0, 0]);
    assert_eq!(temp.journaled_items().len(), n_lines + 1, "only the waiting tensor is made");
    check_rebuilt(&temp);
    let dump = npz(&[("small.npy", gray(2)), ("large.npy", npy("|u1", &[9, 9], &[8; 81]))]);
    temp.write("dumps/two/000001.npz", &dump);
    assert_eq!(ingest(&temp, QUICK), 0);
    assert_eq!(temp.counts(), [2, 0, 0], "{:?}", listed(&temp));
    check_rebuilt(&temp);
}

#[test]
fn a_taken_index_is_tried_again_when_it_is_free() {
    let temp = TempRun::new();
    temp.write("dumps/k/000001.npy", &batch(&[1, 2]));
    assert_eq!(ingest(&temp, QUICK), 0);
    temp.write("tensors/a.npy", &gray(3));
    line(&temp, "k", 1, "tensors/a.npy", ",\"index\":1");
    assert_eq!(ingest(&temp, QUICK), 3);
    assert_eq!(temp.counts(), [2, 0, 1]);
    temp.write("dumps/k/000001.npy", &gray(4));
    // The dump gives its second index up, and the next look finds it free.
    ingest(&temp, QUICK);
    ingest(&temp, QUICK);
    let numbers: Vec<String> = listed(&temp).into_iter().map(|item| item.3).collect();
    assert_eq!(numbers, ["4", "3"]);
    check_rebuilt(&temp);
}

#[test]
fn a_waiting_item_whose_dump_is_no_picture_is_rejected_for_good() {
    let temp = TempRun::new();
    line(&temp, "k", 1, "tensors/a.npy", "");
    assert_eq!(ingest(&temp, QUICK), 3);
    temp.write("tensors/a.npy", &npy("|u1", &[4, 4, 9, 9, 9], &[0; 16 * 729]));
    assert_eq!(ingest(&temp, QUICK), 3);
    let got = listed(&temp);
    assert_eq!(got.len(), 1, "{got:?}");
    assert!(got[0].3.starts_with("rejected final"), "{got:?}");
    assert_eq!(temp.status()["runs"][0]["waiting"], 0);
    check_rebuilt(&temp);
    // Its index is free again.
    temp.write("tensors/b.npy", &gray(5));
    line(&temp, "k", 1, "tensors/b.npy", "");
    assert_eq!(ingest(&temp, QUICK), 0);
    assert_eq!(listed(&temp)[0].2, json!(0));
}

#[test]
fn a_version_of_a_dump_that_waits_leaves_the_images_of_the_version_before() {
    let temp = TempRun::new();
    temp.write("dumps/k/000001.npy", &gray(1));
    assert_eq!(ingest(&temp, QUICK), 0);
    temp.write("dumps/k/000001.npy", &gray(2)[..100]);
    assert_eq!(ingest(&temp, QUICK), 3);
    let got = listed(&temp);
    assert_eq!((got.len(), got[0].3.as_str()), (2, "1"), "{got:?}");
    check_rebuilt(&temp);
    temp.write("dumps/k/000001.npy", &gray(2));
    assert_eq!(ingest(&temp, QUICK), 0);
    let got = listed(&temp);
    assert_eq!((got.len(), got[0].3.as_str()), (1, "2"), "{got:?}");
    check_rebuilt(&temp);
}

#[test]
fn a_kill_while_waiting_items_are_tried_again_loses_and_duplicates_nothing() {
    if !can_trace() {
        return;
    }
    let mut n_killed = 0;
    for call in ["fsync", "fdatasync", "rename", "renameat"] {
        for n in 1.. {
            let temp = TempRun::new();
            (0..3).for_each(|i| line(&temp, "k", 1, &format!("tensors/{i}.npy"), ""));
            temp.write("dumps/p/000001.npy", &batch(&[7, 8])[..100]);
            ingest(&temp, QUICK);
            (0..3).for_each(|i| temp.write(&format!("tensors/{i}.npy"), &gray(i)));
            temp.write("dumps/p/000001.npy", &batch(&[7, 8]));
            let (config, run) = (temp.configure(QUICK), temp.at(""));
            let args =
                ["ingest".as_ref(), run.as_os_str(), "--config".as_ref(), config.as_os_str()];
            let was_killed = kill_at_call(call, n, &args, Stdio::null());
            n_killed += u64::from(was_killed);
            assert_eq!(ingest(&temp, QUICK), 0, "{call} {n}");
            let numbers: Vec<String> = listed(&temp).into_iter().map(|item| item.3).collect();
            assert_eq!(numbers, ["0", "1", "2", "7", "8"], "{call} {n}");
            check_rebuilt(&temp);
            // The program makes fewer than `n` calls of this kind.
            if !was_killed {
                break;
            }
        }
    }
    assert!(n_killed > 3, "only {n_killed} kills");
}

#[test]
fn a_line_that_waits_outlives_its_log() {
    let temp = TempRun::new();
    line(&temp, "k", 1, "tensors/a.npy", ",\"caption\":\"late\"");
    line(&temp, "k", 1, "tensors/b.npy", "");
    temp.write("tensors/b.npy", &batch(&[1, 2, 3]));
    let low = format!("{QUICK}[limits]\nbatch_max = 2\n");
    assert_eq!(ingest(&temp, &low), 3);
    assert_eq!(temp.counts(), [0, 0, 2]);
    // Rotated by copy and truncate, under a name that no pattern matches.
    fs::copy(temp.at("a.media.jsonl"), temp.at("a.media.jsonl.1")).expect("a copy");
    temp.write("a.media.jsonl", b"");
    temp.write("tensors/a.npy", &gray(7));
    assert_eq!(ingest(&temp, QUICK), 0);
    let numbers: Vec<String> = listed(&temp).into_iter().map(|item| item.3).collect();
    assert_eq!(numbers, ["7", "1", "2", "3"]);
    assert_eq!(temp.items()[0]["caption"], "late");
    assert!(temp.items().iter().all(|item| item["source"]["text"].is_null()));
    check_rebuilt(&temp);
}

#[test]
fn a_mask_or_annotation_that_comes_late_is_added_to_its_image() {
    let masks = ",\"masks\":{\"gt\":{\"mask_data\":\"masks/gt.npy\"}}";
    let boxes = ",\"boxes\":{\"path\":\"boxes/1.json\"}";
    let layers = |temp: &TempRun| -> Vec<[bool; 2]> {
        let has =
            |item: &Value, name: &str| item[name].as_object().is_some_and(|sets| !sets.is_empty());
        let of_item = |item: &Value| {
            assert_eq!(item["state"], "image", "{item}");
            [has(item, "masks"), has(item, "boxes")]
        };
        temp.items().iter().map(of_item).collect()
    };
    let write_boxes = |temp: &TempRun| {
        let position = json!({"minX": 0.1, "maxX": 0.5, "minY": 0.1, "maxY": 0.5});
        let sets = json!({"gt": {"box_data": [{"position": position, "class_id": 1}]}});
        temp.write("boxes/1.json", sets.to_string().as_bytes());
    };
    let temp = TempRun::new();
    temp.write("tensors/a.npy", &batch(&[1, 2]));
    temp.write("tensors/b.npy", &gray(3));
    line(&temp, "k", 1, "tensors/a.npy", masks);
    line(&temp, "k", 1, "tensors/b.npy", boxes);
    line(&temp, "other", 1, "tensors/b.npy", "");
    assert_eq!(ingest(&temp, QUICK), 0);
    assert_eq!(layers(&temp), [[false; 2]; 4]);
    check_rebuilt(&temp);
    let n_lines = temp.journaled_items().len();
    assert_eq!(ingest(&temp, QUICK), 0);
    assert_eq!(temp.journaled_items().len(), n_lines, "nothing has come");
    temp.write("masks/gt.npy", &npy("|u1", &[4, 4], &[1; 16]));
    assert_eq!(ingest(&temp, QUICK), 0);
    assert_eq!(layers(&temp), [[true, false], [true, false], [false, false], [false, false]]);
    assert_eq!(
        temp.journaled_items().len(),
        n_lines + 2,
        "only those that lacked it are made again"
    );
    check_rebuilt(&temp);
    let daemon = temp.daemon(QUICK);
    write_boxes(&temp);
    wait_for("the boxes", || layers(&temp)[2] == [false, true]);
    drop(daemon);
    assert!(temp.items().iter().all(|item| item["warnings"].is_null()), "{:?}", temp.items());
    // An image whose dump has changed since keeps its picture.
    let other = TempRun::new();
    other.write("tensors/b.npy", &gray(3));
    line(&other, "k", 1, "tensors/b.npy", boxes);
    assert_eq!(ingest(&other, QUICK), 0);
    other.write("tensors/b.npy", &gray(4));
    write_boxes(&other);
    ingest(&other, QUICK);
    assert_eq!((listed(&other)[0].3.as_str(), layers(&other)), ("3", vec![[false, false]]));
    check_rebuilt(&other);
}

/// One record of a random run: a line and its dump, or a path dump.
struct Record {
    path: String,
    pixels: Vec<u8>,
}

/// Random dumps and masks that are missing, cut off or over a limit, with ingests, releases and lost indices
/// between. In the end, each line and each dump is one image with its mask, in the order of the lines.
#[test]
fn random_dumps_that_come_late_are_each_one_image_in_their_place() {
    for seed in 0..number_from("SAFELIGHT_WAITING_CASES", 6) {
        let temp = TempRun::new();
        let mut random = Random(seed);
        let mut records: Vec<Record> = Vec::new();
        let mut lines = BTreeMap::<(String, u64), Vec<u64>>::new();
        let (mask, mut with_mask) = (npy("|u1", &[4, 4], &[1; 16]), BTreeSet::new());
        let low = format!("{QUICK}[limits]\npixels_max = 20\n");
        for _ in 0..30 {
            match random.below(10) {
                0..4 => {
                    let n = records.len() as u64;
                    let (key, step) = (format!("k{}", random.below(2)), random.below(2));
                    let side = if random.below(4) == 0 { 8 } else { 4 };
                    let pixels = [n.to_le_bytes().to_vec(), vec![255; side * side - 8]].concat();
                    let pixels = npy("|u1", &[side, side], &pixels);
                    let path = if random.below(4) == 0 {
                        let path = format!("dumps/p{n}/{step}.npy");
                        lines.insert((format!("p{n}"), step), vec![n]);
                        path
                    } else {
                        let path = format!("tensors/{n}.npy");
                        let has_mask = random.below(3) == 0;
                        let masks =
                            format!(",\"masks\":{{\"m\":{{\"mask_data\":\"masks/{n}.npy\"}}}}");
                        line(&temp, &key, step, &path, if has_mask { &masks } else { "" });
                        with_mask.extend(has_mask.then_some(n));
                        lines.entry((key, step)).or_default().push(n);
                        path
                    };
                    records.push(Record { path, pixels });
                }
                4..7 if !records.is_empty() => {
                    let at = usize::try_from(random.below(records.len() as u64)).expect("an index");
                    let Record { path, pixels } = &records[at];
                    // A dump that is whole stays.
                    if fs::read(temp.at(path)).is_ok_and(|bytes| bytes == *pixels) {
                        continue;
                    }
                    let cut = if random.below(2) == 0 { pixels.len() } else { 90 };
                    temp.write(path, &pixels[..cut]);
                    if with_mask.contains(&(at as u64)) && random.below(2) == 0 {
                        let cut = if random.below(2) == 0 { mask.len() } else { 90 };
                        temp.write(&format!("masks/{at}.npy"), &mask[..cut]);
                    }
                }
                7 => {
                    temp.run_with(if random.below(2) == 0 { &low } else { QUICK }, &["release"]);
                }
                8 if temp.store().join("index").is_dir() => temp.remove_index(),
                _ => {
                    ingest(&temp, if random.below(2) == 0 { &low } else { QUICK });
                }
            }
        }
        for Record { path, pixels } in &records {
            if fs::read(temp.at(path)).is_ok_and(|bytes| bytes == *pixels) {
                continue;
            }
            temp.write(path, pixels);
        }
        with_mask.iter().for_each(|n| temp.write(&format!("masks/{n}.npy"), &mask));
        ingest(&temp, QUICK);
        let masked = temp.items().into_iter().filter(|item| item["masks"].is_object());
        let masked: BTreeSet<u64> = masked.map(|item| number_in(&temp.store(), &item)).collect();
        assert_eq!(masked, with_mask, "seed {seed}");
        let mut want: Vec<(String, u64, Value, String)> = Vec::new();
        for ((key, step), numbers) in &lines {
            let items = numbers.iter().enumerate();
            want.extend(items.map(|(i, n)| (key.clone(), *step, json!(i), n.to_string())));
        }
        assert_eq!(listed(&temp), want, "seed {seed}");
        check_rebuilt(&temp);
    }
}
