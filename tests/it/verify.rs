//! `safelight verify`: damaged media files are found and made again, and no target gets one.
//!
//! `SAFELIGHT_VERIFY_CASES` is the number of random damages that are tried.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{
    PROGRAM, TempRun, can_trace, gray, gray_batch, kill_at_call, npy, npz, post_as_nobody,
    random_cases, wait_for,
};

const KINDS: u64 = 7;

/// Writes a run with all that a media file can be: images of log lines, of a batch, of a container and of
/// dumps that their paths describe, a picture that is copied, masks, boxes, and files that items share.
fn write(temp: &TempRun) {
    (0..3).for_each(|n| temp.log_picture("a/b", 1, n));
    temp.write("batch.npy", &gray_batch(&[10, 11, 12]));
    temp.write("both.npz", &npz(&[("x.npy", gray(20)), ("y.npy", gray(21))]));
    temp.write("dumps/p/4.npy", &gray_batch(&[30, 31]));
    temp.write("dumps/p/5_0.npy", &gray(32));
    temp.write("ids.npy", &npy("|u1", &[4, 4], &[1; 16]));
    temp.write("picture.png", PNG);
    temp.write("mask.png", PNG);
    let a_box =
        json!({"position": {"minX": 0.1, "maxX": 0.5, "minY": 0.1, "maxY": 0.5}, "class_id": 1});
    let boxes = json!({"p": {"box_data": [a_box]}});
    let masks = json!({"ids": {"mask_data": "ids.npy"}, "file": {"path": "mask.png"}});
    for line in [
        json!({"key": "k", "step": 2, "data": "batch.npy", "format": "NHW",
               "boxes": [boxes, boxes, boxes], "masks": [masks, masks, masks]}),
        json!({"key": "k", "step": 3, "data": "both.npz"}),
        json!({"key": "copied", "step": 3, "data": "picture.png"}),
        // The same picture twice in a step: one file.
        json!({"key": "copied", "step": 3, "data": "picture.png"}),
        json!({"key": "alone", "step": 1, "data": "tensors/a-b-1-0.npy", "boxes": boxes}),
    ] {
        temp.append("a.media.jsonl", &format!("{line}\n"));
    }
}

/// A PNG of one gray pixel, as Pillow writes it.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00:~\x9bU\
\x00\x00\x00\nIDATx\x9cch\x00\x00\x00\x82\x00\x81w\xcdr\xb6\x00\x00\x00\x00IEND\xaeB`\x82";

fn ingested() -> TempRun {
    let temp = TempRun::new();
    write(&temp);
    let ran = temp.run_with("", &["ingest", temp.at("").to_str().expect("a path")]);
    assert_eq!(ran.code, 0, "{ran:?}");
    temp
}

/// The media files of a store that items name, by their paths relative to the store.
fn media(temp: &TempRun) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for item in temp.items() {
        let sets = ["boxes", "masks"].map(|sets| item[sets].as_object());
        let of_sets = sets.into_iter().flatten().flat_map(|sets| sets.values());
        for path in [&item].into_iter().chain(of_sets).filter_map(|of| of["path"].as_str()) {
            files.insert(path.to_owned(), fs::read(temp.store().join(path)).unwrap_or_default());
        }
    }
    files
}

/// Runs `verify --json`. Returns its report and exit code.
fn verify(temp: &TempRun, args: &[&str]) -> (Value, i32) {
    let ran = temp.run_with("", &[&["verify", "--json"], args].concat());
    let report = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("no report: {ran:?}"));
    (report, ran.code)
}

fn counts(report: &Value) -> [u64; 2] {
    ["damaged", "repaired"].map(|field| report[field].as_u64().expect("a number"))
}

fn listed(report: &Value) -> BTreeSet<String> {
    let files = report["list"].as_array().expect("a list").iter();
    files.map(|file| file["path"].as_str().expect("a path").to_owned()).collect()
}

/// Damages a file in one of several ways.
fn damage(path: &Path, kind: u64, at: usize) {
    let bytes = fs::read(path).expect("a file");
    match kind {
        0 => {
            let mut bytes = bytes;
            let at = at % bytes.len();
            bytes[at] ^= 1 << (at % 8);
            fs::write(path, bytes).expect("a file");
        }
        1 => fs::write(path, &bytes[..at % bytes.len()]).expect("a file"),
        2 => fs::write(path, "").expect("a file"),
        3 => fs::remove_file(path).expect("a file"),
        4 => fs::write(path, [&bytes[..], b"more"].concat()).expect("a file"),
        5 => {
            // Even a link to the right bytes is none of ours.
            let aside = path.with_extension("aside");
            fs::rename(path, &aside).expect("a file");
            symlink(aside, path).expect("a link");
        }
        _ => {
            fs::remove_file(path).expect("a file");
            fs::create_dir(path).expect("a folder");
        }
    }
}

#[test]
fn a_sound_store_is_sound_and_shared_files_are_read_once() {
    let temp = ingested();
    let files = media(&temp);
    let (report, code) = verify(&temp, &[]);
    assert_eq!((code, counts(&report)), (0, [0, 0]), "{report}");
    assert_eq!(report["files"], files.len(), "{report}");
    let n_bytes: usize = files.values().map(Vec::len).sum();
    assert_eq!(report["bytes"], n_bytes);
    assert_eq!(report["images"], temp.items().len());
    let said = temp.run_with("", &["verify"]);
    assert_eq!((said.code, &*said.err), (0, ""), "{said:?}");
    assert!(said.out.ends_with("all are sound\n") && said.out.lines().count() == 1, "{said:?}");
    let said = temp.run_with("", &["verify", "rum"]);
    assert!(said.code == 1 && said.err.contains("\"run\""), "{said:?}");
}

#[test]
fn any_damage_is_listed_and_repaired() {
    let temp = ingested();
    let files = media(&temp);
    assert!(
        ["mask/", "boxes2D/", "images/k"].iter().all(|part| files.keys().any(|p| p.contains(part)))
    );
    let n_lines = temp.journaled_items().len();
    let damages =
        prop::collection::vec((any::<prop::sample::Index>(), 0..KINDS, 0..10_000usize), 1..6);
    proptest!(random_cases("SAFELIGHT_VERIFY_CASES", 12), |(damages in damages, is_by_daemon in any::<bool>())| {
        let mut damaged = BTreeSet::new();
        for (which, kind, at) in damages {
            let path = files.keys().nth(which.index(files.len())).expect("a file");
            if damaged.insert(path.clone()) {
                damage(&temp.store().join(path), kind, at);
            }
        }
        let daemon = is_by_daemon.then(|| temp.daemon(""));
        let (report, code) = verify(&temp, &[]);
        prop_assert_eq!((code, counts(&report)), (1, [damaged.len() as u64, 0]), "{}", report);
        prop_assert_eq!(listed(&report), damaged.clone(), "{}", report);
        let (report, code) = verify(&temp, &["run", "--repair"]);
        prop_assert_eq!((code, counts(&report)), (0, [damaged.len() as u64; 2]), "{}", report);
        prop_assert_eq!(listed(&report), damaged);
        let (report, code) = verify(&temp, &[]);
        prop_assert_eq!((code, counts(&report)), (0, [0, 0]), "{}", report);
        prop_assert!(media(&temp) == files);
        drop(daemon);
        prop_assert_eq!(temp.journaled_items().len(), n_lines, "a repair journals nothing");
    });
}

#[test]
fn what_cannot_be_made_again_stays_and_says_why() {
    let temp = ingested();
    let of_key = |key: &str| {
        let mut items = temp.items();
        items.retain(|item| item["key"] == key);
        items
    };
    let path = |item: &Value| temp.store().join(item["path"].as_str().expect("a path"));
    let [changed, gone, sound] = [0, 1, 2].map(|i| path(&of_key("a/b")[i]));
    let mask = temp.store().join(of_key("k")[0]["masks"]["ids"]["path"].as_str().expect("a path"));
    let folder = path(&of_key("p")[0]);
    for path in [&changed, &gone, &sound, &mask] {
        damage(path, 0, 40);
    }
    damage(&folder, 6, 0);
    fs::write(folder.join("kept"), "kept").expect("a file");
    let before = [&changed, &gone, &mask].map(|path| fs::read(path).expect("a file"));
    temp.write("tensors/a-b-1-0.npy", &gray(99));
    fs::remove_file(temp.at("tensors/a-b-1-1.npy")).expect("a dump");
    temp.write("ids.npy", &npy("|u1", &[4, 4], &[2; 16]));

    let (report, code) = verify(&temp, &["--repair"]);
    assert_eq!((code, counts(&report)), (1, [5, 1]), "{report}");
    let reason = |path: &PathBuf| {
        let files = report["list"].as_array().expect("a list").iter();
        let mut of_path =
            files.filter(|file| path.ends_with(file["path"].as_str().expect("a path")));
        let file = of_path.next().unwrap_or_else(|| panic!("{path:?} is not listed: {report}"));
        file["reason"].as_str().unwrap_or("").to_owned()
    };
    assert_eq!(reason(&changed), "its dump has changed since the image was made");
    assert!(reason(&gone).contains("missing"), "{}", reason(&gone));
    assert_eq!(reason(&sound), "");
    assert!(reason(&mask).contains("another file now"), "{}", reason(&mask));
    assert!(reason(&folder).contains("a directory lies in its place"), "{}", reason(&folder));
    let after = [&changed, &gone, &mask].map(|path| fs::read(path).expect("a file"));
    assert!(before == after, "a damaged file stays until it can be replaced");
    assert_eq!(fs::read(folder.join("kept")).expect("a file"), b"kept");
    let said = temp.run_with("", &["verify", "--repair"]);
    let n_damaged = said.out.lines().filter(|line| line.starts_with("damaged: run ")).count();
    let n_reasons = said.out.lines().filter(|line| line.starts_with("  not repaired: ")).count();
    assert_eq!((said.code, n_damaged, n_reasons), (1, 4, 4), "{said:?}");
    assert!(said.out.ends_with("\n4 files could not be made again\n"), "{said:?}");
}

#[test]
fn a_shared_file_is_made_again_from_the_dump_that_is_left() {
    let temp = TempRun::new();
    for name in ["a.png", "b.png", "c.png"] {
        temp.write(name, PNG);
        let line = json!({"key": "k", "step": 1, "data": name});
        temp.append("a.media.jsonl", &format!("{line}\n"));
    }
    temp.ingest();
    assert_eq!(media(&temp).len(), 1);
    let path = temp.store().join(media(&temp).keys().next().expect("a file"));
    for name in ["a.png", "b.png", "c.png"] {
        fs::remove_file(&path).expect("a file");
        let (report, code) = verify(&temp, &["--repair"]);
        assert_eq!((code, counts(&report)), (0, [1, 1]), "{report}");
        assert_eq!(fs::read(&path).expect("a file"), PNG);
        fs::remove_file(temp.at(name)).expect("a dump");
    }
    fs::remove_file(&path).expect("a file");
    let (report, code) = verify(&temp, &["--repair"]);
    assert_eq!((code, counts(&report)), (1, [1, 0]), "{report}");
}

#[test]
fn a_repair_writes_nothing_behind_a_link() {
    let temp = ingested();
    let n_files = media(&temp).len();
    let (images, outside) = (temp.store().join("runs/run/media/images"), temp.folder().join("out"));
    fs::rename(&images, temp.folder().join("aside")).expect("a folder");
    fs::create_dir(&outside).expect("a folder");
    symlink(&outside, &images).expect("a link");
    let (report, code) = verify(&temp, &["--repair"]);
    let [n_damaged, n_repaired] = counts(&report);
    assert_eq!((code, n_repaired), (1, 0), "{report}");
    assert!(n_damaged > 5 && n_damaged < n_files as u64, "the boxes are sound: {report}");
    for file in report["list"].as_array().expect("a list") {
        let damage = file["damage"].as_str().unwrap_or("");
        assert!(damage.contains("behind"), "{file}");
        let reason = file["reason"].as_str().unwrap_or("");
        assert!(reason.contains("want a directory in the store"), "{file}");
    }
    assert_eq!(fs::read_dir(&outside).expect("a folder").count(), 0);
    fs::remove_file(&images).expect("a link");
    fs::rename(temp.folder().join("aside"), &images).expect("a folder");
    assert_eq!(verify(&temp, &[]).1, 0);
}

#[test]
fn other_settings_do_not_repair_with_other_pixels() {
    let temp = TempRun::new();
    temp.write("f.npy", &npy("<f4", &[1, 3], &[0f32, 0.25, 0.5].map(f32::to_le_bytes).concat()));
    temp.append(
        "a.media.jsonl",
        "{\"key\":\"k\",\"step\":1,\"data\":\"f.npy\",\"format\":\"HW\"}\n",
    );
    temp.ingest();
    let item = &temp.items()[0];
    let path = temp.store().join(item["path"].as_str().expect("a path"));
    let bytes = fs::read(&path).expect("a file");
    fs::remove_file(&path).expect("a file");
    let repair = |settings: &str| temp.run_with(settings, &["verify", "--repair"]);
    let ran = repair("[image]\nrange = [0, 0.5]\n");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("its dump makes another file now"), "{ran:?}");
    assert!(!path.is_file());
    let ran = repair("");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out.starts_with("repaired: run k 1 0: image runs/run/media/images/k_1_"),
        "{ran:?}"
    );
    assert_eq!(fs::read(&path).expect("a file"), bytes);
}

#[test]
fn a_target_gets_no_damaged_file_and_gets_it_after_a_repair() {
    let temp = ingested();
    let files = media(&temp);
    let (mask, image) = (
        files.keys().find(|path| path.contains("mask/")).expect("a mask"),
        files.keys().find(|path| path.contains("copied_3_")).expect("an image"),
    );
    let named: Vec<bool> = temp
        .items()
        .iter()
        .map(|item| item["path"] == **image || item["masks"].to_string().contains(&**mask))
        .collect();
    let n_rejected = named.iter().filter(|named| **named).count();
    damage(&temp.store().join(mask), 0, 50);
    damage(&temp.store().join(image), 1, 30);
    let settings = "[sync.box]\nkind = \"object_store\"\nurl = \"file:///\"\n";
    let settings =
        settings.replace("file:///", &format!("file://{}", temp.folder().join("box").display()));
    let sync = |args: &[&str]| {
        let ran = temp.run_with(&settings, args);
        (ran.code, ran.out)
    };
    let (code, out) = sync(&["sync", "--once", "--json"]);
    assert_eq!(code, 3, "{out}");
    let target = &serde_json::from_str::<Value>(&out).expect("a report")["targets"][0];
    assert_eq!(target["set_aside"], n_rejected, "{target}");
    assert!(target.to_string().contains("safelight verify --repair"), "{target}");
    let ran = temp.run_with(&settings, &["verify", "--repair"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(sync(&["retry"]).0, 0);
    let (code, out) = sync(&["sync", "--once", "--json"]);
    assert_eq!(code, 0, "{out}");
    for (path, bytes) in &files {
        let digest = &path.rsplit_once('_').expect("a digest").1[..20];
        let delivered = crate::harness::files_below(&temp.folder().join("box"));
        let object = delivered.iter().find(|object| object.to_string_lossy().contains(digest));
        let object = object.unwrap_or_else(|| panic!("{path} is not delivered: {delivered:?}"));
        assert!(fs::read(object).expect("an object") == *bytes, "{path}");
    }
}

#[test]
fn a_kill_at_any_durability_call_of_a_repair_loses_nothing() {
    if !can_trace() {
        return;
    }
    let temp = ingested();
    let files = media(&temp);
    let n_lines = temp.journaled_items().len();
    let mut n_killed = 0;
    for call in ["fsync", "fdatasync", "rename", "renameat", "renameat2", "write"] {
        for n in (1..40).step_by(if call == "write" { 7 } else { 1 }) {
            for (i, path) in files.keys().enumerate() {
                let path = temp.store().join(path);
                if fs::read(&path).is_ok_and(|bytes| !bytes.is_empty()) {
                    damage(&path, [0, 3, 1][i % 3], 30);
                }
            }
            let config = temp.configure("");
            let args =
                ["verify".as_ref(), "--repair".as_ref(), "--config".as_ref(), config.as_os_str()];
            let was_killed = kill_at_call(call, n, &args, Stdio::null());
            n_killed += u64::from(was_killed);
            let (report, code) = verify(&temp, &["--repair"]);
            assert_eq!(code, 0, "{call} {n}: {report}");
            assert!(media(&temp) == files, "{call} {n}");
            assert_eq!(temp.journaled_items().len(), n_lines);
            if !was_killed {
                break;
            }
        }
    }
    assert!(n_killed > 3, "only {n_killed} kills");
}

#[test]
fn a_daemon_that_is_stopped_meanwhile_costs_no_file() {
    const N: u64 = 1500;
    let temp = TempRun::new();
    (0..N).for_each(|n| temp.log_picture("a", n, n));
    temp.ingest();
    let daemon = temp.daemon("");
    let mut verify = Command::new(PROGRAM);
    verify.args(["verify", "--json", "--bytes-per-s", "40000", "--config"]).arg(temp.configure(""));
    let verify = verify.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let verify = verify.spawn().expect("the program");
    std::thread::sleep(Duration::from_secs(1));
    drop(daemon);
    let ran = verify.wait_with_output().expect("an end");
    let report: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    assert_eq!((ran.status.code(), &report["files"]), (Some(0), &json!(N)), "{report}");
    assert_eq!(report["images"], N);
}

#[test]
fn a_daemon_repairs_only_for_permitted_users() {
    let temp = ingested();
    let _daemon = temp.daemon("");
    if let Some(said) = post_as_nobody(temp.folder(), "/v1/repair") {
        assert_eq!(said, "only root and the daemon's own user may repair media files");
    }
}

#[test]
fn damage_in_several_runs_and_in_many_files_is_found_beside_a_daemon() {
    let temp = TempRun::new();
    (0..300).for_each(|n| temp.log_picture("a", n, n));
    for run in ["run2", "run3"] {
        let folder = temp.folder().join(run).join("dumps/k");
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("1.npy"), gray(7)).expect("a dump");
    }
    let _daemon = temp.daemon("");
    wait_for("all images", || temp.counts() == [302, 0, 0]);
    let files: Vec<String> = media(&temp).into_keys().collect();
    files.iter().for_each(|path| damage(&temp.store().join(path), 1, 9));
    let (report, code) = verify(&temp, &[]);
    assert_eq!((counts(&report), code), ([files.len() as u64, 0], 1));
    let (report, code) = verify(&temp, &["--repair"]);
    assert_eq!((counts(&report), code), ([files.len() as u64; 2], 0));
    assert_eq!(counts(&verify(&temp, &[]).0), [0, 0]);
}
