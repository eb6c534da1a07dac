//! `safelight prune` and `[retention]`: what they remove, what they keep, and why.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::harness::{PROGRAM, TempRun, faketime, gray, npy, post_as_nobody, wait_for};

/// Sets the modification times of a file, or of all files below a folder, to `days` days ago.
fn age(path: &Path, days: u64) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            age(&entry.expect("an entry").path(), days);
        }
        return;
    }
    let time = SystemTime::now() - Duration::from_secs(86_400 * days);
    File::options().write(true).open(path).and_then(|f| f.set_modified(time)).expect("a time");
}

/// Writes a configuration with these settings of `[retention]`. Returns its path.
fn config(temp: &TempRun, retention: &str) -> String {
    let path = temp.folder().join("retention.toml");
    let text = format!("[store]\npath = \"store\"\n[retention]\n{retention}\n");
    fs::write(&path, text).expect("a configuration");
    path.to_str().expect("a path").to_owned()
}

fn prune(temp: &TempRun, config: &str, args: &[&str]) -> String {
    let ran = temp.run(&[&["prune", "--config", config], args].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.out
}

fn n_media(temp: &TempRun) -> usize {
    let mut find = Command::new("find");
    find.arg(temp.store()).args(["-path", "*/media/*", "-type", "f"]);
    let found = find.output().expect("find");
    String::from_utf8_lossy(&found.stdout).lines().count()
}

fn pruned(temp: &TempRun) -> Vec<(u64, bool)> {
    let is_pruned = |item: &Value| item["pruned"] == true;
    temp.items().iter().map(|i| (i["step"].as_u64().expect("a step"), is_pruned(i))).collect()
}

#[test]
fn prune_lists_what_it_would_remove_and_removes_it_only_with_apply() {
    let temp = TempRun::new();
    for step in 0..6 {
        temp.log_picture("k", step, step);
    }
    assert_eq!(temp.ingest().code, 0);
    for step in [0, 1] {
        let item = &temp.items()[step];
        age(&temp.store().join(item["path"].as_str().expect("a path")), 40);
    }
    let config = config(&temp, "media_age_max_days = 30");
    let said = prune(&temp, &config, &[]);
    assert!(said.contains("run: would remove 2 media files"), "{said}");
    assert!(said.contains("2: older than 30 days"), "{said}");
    assert!(said.contains("use --apply to remove it"), "{said}");
    assert_eq!(n_media(&temp), 6);
    let said = prune(&temp, &config, &["--apply"]);
    assert!(said.contains("run: removed 2 media files"), "{said}");
    assert_eq!(n_media(&temp), 4);
    let want = [(0, true), (1, true), (2, false), (3, false), (4, false), (5, false)];
    assert_eq!(pruned(&temp), want);
    assert!(prune(&temp, &config, &["--apply"]).contains("nothing to remove"));
    // The journal records the prune, and pruned images are not made again.
    temp.remove_index();
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(pruned(&temp), want);
    let status: Value = serde_json::from_str(&temp.run(&["status", "--json"]).out).expect("JSON");
    assert_eq!((&status["image"], &status["runs"][0]["pruned"]), (&6.into(), &2.into()));
}

#[test]
fn a_run_keeps_its_newest_bytes_and_files_that_others_share() {
    let temp = TempRun::new();
    // The first two are equal pictures of the same step, which share a file.
    for n in [7, 7, 8, 9] {
        temp.log_picture("k", 1, n);
    }
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(n_media(&temp), 3);
    let sizes: Vec<u64> =
        temp.items().iter().map(|i| i["size"].as_u64().expect("a size")).collect();
    let max = sizes[1..].iter().sum::<u64>();
    let config = config(&temp, &format!("media_bytes_per_run_max = {max}"));
    let report: Value =
        serde_json::from_str(&prune(&temp, &config, &["--apply", "--json"])).expect("JSON");
    assert_eq!(report["runs"][0]["media"]["n"], 1, "{report}");
    assert_eq!(n_media(&temp), 3, "the second image still has the file");
    let states: Vec<bool> = pruned(&temp).iter().map(|(_, is_pruned)| *is_pruned).collect();
    assert_eq!(states, [true, false, false, false]);
    // A pruned image still counts for the step.
    assert_eq!(temp.items()[0]["state"], "image");
}

#[test]
fn a_pruned_image_leaves_the_file_that_another_key_shares() {
    // Regression: a prune removed each file that no image of the same key named. Keys with the same file
    // stem share files, so that images that were still listed lost theirs.
    let temp = TempRun::new();
    for key in ["a/b", "a//b", "/a/b"] {
        temp.log_picture(key, 1, 7);
    }
    temp.log_picture("a/b", 2, 8);
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(n_media(&temp), 2);
    let sizes: Vec<u64> =
        temp.items().iter().map(|i| i["size"].as_u64().expect("a size")).collect();
    let files_of_images = || {
        let items = temp.items();
        let kept = items.iter().filter(|item| item["pruned"] != true);
        let path = |item: &Value| item["path"].as_str().expect("a path").to_owned();
        kept.map(|item| temp.store().join(path(item)).is_file()).collect::<Vec<bool>>()
    };
    for (n_pruned, n_files) in [(1, 2), (2, 2), (3, 1), (4, 0)] {
        let max = sizes.iter().sum::<u64>() - n_pruned * sizes[0];
        let config = config(&temp, &format!("media_bytes_per_run_max = {}", max.max(1)));
        prune(&temp, &config, &["--apply"]);
        let want = vec![true; 4 - usize::try_from(n_pruned).expect("a small number")];
        assert_eq!((files_of_images(), n_media(&temp)), (want, n_files), "after {n_pruned}");
    }
    // If all three images are pruned, the file is removed with the last one.
    let temp = TempRun::new();
    for key in ["a/b", "a//b", "/a/b"] {
        temp.log_picture(key, 1, 7);
    }
    assert_eq!(temp.ingest().code, 0);
    prune(&temp, &config(&temp, "media_bytes_per_run_max = 1"), &["--apply"]);
    assert_eq!(n_media(&temp), 0);
}

#[test]
fn media_of_earlier_versions_are_strays() {
    let temp = TempRun::new();
    for n in 0..3 {
        temp.write("dumps/k/1.npy", &gray(n));
        assert_eq!(temp.ingest().code, 0);
    }
    assert_eq!((n_media(&temp), temp.items().len()), (3, 1));
    let config = config(&temp, "");
    assert!(
        prune(&temp, &config, &["--apply"]).contains("nothing to remove"),
        "new files are kept"
    );
    // The change time of a renamed file cannot be set, so the clock is moved forward.
    let Some(library) = faketime() else { return };
    let mut later = Command::new(PROGRAM);
    later.env("LD_PRELOAD", library).env("FAKETIME", "+2h");
    later.args(["prune", "--apply", "--config", &config]).arg("--store").arg(temp.store());
    let said = String::from_utf8_lossy(&later.output().expect("the program").stdout).into_owned();
    assert!(said.contains("run: removed 2 stray files"), "{said}");
    let items = temp.items();
    assert_eq!(n_media(&temp), 1);
    assert!(temp.store().join(items[0]["path"].as_str().expect("a path")).is_file());
}

#[test]
fn dumps_are_removed_when_nothing_needs_them() {
    let temp = TempRun::new();
    temp.write("dumps/done/1.npy", &gray(1));
    temp.write("dumps/done/1.npy.json", b"{\"caption\":\"x\"}");
    temp.write("dumps/bad/1.npy", &npy("|O8", &[4, 4], &[0; 128]));
    temp.write("many.npy", &npy("|u1", &[120, 2, 2], &[1; 480]));
    temp.append(
        "a.media.jsonl",
        "{\"key\":\"many\",\"step\":1,\"data\":\"many.npy\",\"format\":\"NHW\"}\n",
    );
    temp.write("mask.npy", &npy("|u1", &[4, 4], &[1; 16]));
    temp.write("masked.npy", &gray(3));
    temp.append("a.media.jsonl", "{\"key\":\"masked\",\"step\":1,\"data\":\"masked.npy\",\"masks\":{\"m\":{\"mask_data\":\"mask.npy\"}}}\n");
    temp.write("new.npy", &gray(4));
    temp.append("a.media.jsonl", "{\"key\":\"new\",\"step\":1,\"data\":\"new.npy\"}\n");
    temp.write("changed.npy", &gray(5));
    temp.append("a.media.jsonl", "{\"key\":\"changed\",\"step\":1,\"data\":\"changed.npy\"}\n");
    let ran = temp.ingest();
    assert_eq!(ran.code, 3, "{ran:?}");
    fs::write(temp.at("changed.npy"), gray(6)).expect("another content");
    age(&temp.at(""), 1);
    age(&temp.at("new.npy"), 0);
    let there = |path: &str| temp.at(path).is_file();

    let keep = config(&temp, "");
    assert!(prune(&temp, &keep, &["--apply"]).contains("nothing to remove"));
    let delivered = config(&temp, "dumps = \"delivered\"");
    let said = prune(&temp, &delivered, &["--apply"]);
    assert!(said.contains("no target is configured"), "{said}");
    assert!(there("dumps/done/1.npy"));

    let committed = config(&temp, "dumps = \"committed\"");
    let said = prune(&temp, &committed, &[]);
    for part in [
        "run: would remove 3 dumps",
        "1 dump skipped: images of it are held",
        "1 dump skipped: items of it are rejected",
        "1 dump skipped: it was written too recently",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // A line that is not read yet may name any dump.
    temp.append("a.media.jsonl", "{\"key\":\"late\",\"step\":2,\"data\":\"masked.npy\"}\n");
    let said = prune(&temp, &committed, &["--apply"]);
    assert!(said.contains("4 dumps skipped: the run's media logs are not read to their"), "{said}");
    assert!(there("dumps/done/1.npy") && there("masked.npy"));
    temp.ingest();
    let said = prune(&temp, &committed, &["--apply"]);
    assert!(said.contains("run: removed 2 dumps"), "{said}");
    assert!(said.contains("1 dump skipped: it changed after it was read"), "{said}");
    assert!(!there("dumps/done/1.npy"));
    for path in ["dumps/bad/1.npy", "many.npy", "mask.npy", "new.npy", "changed.npy"] {
        assert!(there(path), "{path}");
    }
    assert!(!there("masked.npy"));
    // Removed dumps are neither read again nor reported as missing.
    let before = temp.items();
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(temp.items(), before);
}

#[test]
fn a_dump_of_which_lines_name_parts_or_whose_images_were_pruned_stays() {
    let temp = TempRun::new();
    temp.write("raw.bin", &[7; 64]);
    let line = r#"{"key":"part","step":1,"data":{"path":"raw.bin","dtype":"uint8","shape":[4,4],"offset":16}}"#;
    temp.append("a.media.jsonl", &format!("{line}\n"));
    temp.log_picture("pruned", 1, 1);
    assert_eq!(temp.ingest().code, 0);
    age(&temp.at(""), 1);
    let none = config(&temp, "media_bytes_per_run_max = 1");
    prune(&temp, &none, &["--apply"]);
    assert_eq!(n_media(&temp), 0);
    let committed = config(&temp, "dumps = \"committed\"");
    let said = prune(&temp, &committed, &["--apply"]);
    assert!(said.contains("2 dumps skipped: its images are pruned"), "{said}");
    // Media are not pruned, but a line names a part of the dump.
    let temp = TempRun::new();
    temp.write("raw.bin", &[7; 64]);
    temp.append("a.media.jsonl", &format!("{line}\n"));
    assert_eq!(temp.ingest().code, 0);
    age(&temp.at(""), 1);
    let committed = config(&temp, "dumps = \"committed\"");
    let said = prune(&temp, &committed, &["--apply"]);
    assert!(said.contains("1 dump skipped: log lines name parts of it"), "{said}");
    assert!(temp.at("raw.bin").is_file());
}

#[test]
fn small_images_in_one_file_are_removed_with_it_once_all_of_it_is_stored() {
    let line = |dump: &str, key: &str, offset: u64, shape: &str| {
        let data =
            format!(r#"{{"path":"{dump}","dtype":"uint8","shape":{shape},"offset":{offset}}}"#);
        format!(r#"{{"key":"{key}","step":1,"data":{data}}}"#) + "\n"
    };
    let temp = TempRun::new();
    for (dump, n_bytes, second) in [("whole.bin", 96, 32), ("gap.bin", 97, 33), ("end.bin", 97, 32)]
    {
        temp.write(dump, &vec![7; n_bytes]);
        temp.append("a.media.jsonl", &line(dump, &format!("{dump}/b"), second, "[8,8]"));
        temp.append("b.media.jsonl", &line(dump, &format!("{dump}/a"), 0, "[8,4]"));
    }
    temp.write("one.bin", &[7; 64]);
    let without_offset = r#"{"path":"one.bin","dtype":"float32","shape":[4,4]}"#;
    temp.append(
        "a.media.jsonl",
        &format!("{{\"key\":\"one\",\"step\":1,\"data\":{without_offset}}}\n"),
    );
    assert_eq!(temp.ingest().code, 0);
    age(&temp.at(""), 1);
    let committed = config(&temp, "dumps = \"committed\"");
    let said = prune(&temp, &committed, &["--apply"]);
    assert!(said.contains("run: removed 2 dumps"), "{said}");
    assert!(said.contains("2 dumps skipped: log lines name parts of it"), "{said}");
    let there = |path: &str| temp.at(path).is_file();
    assert!(there("gap.bin") && there("end.bin"));
    assert!(!there("whole.bin") && !there("one.bin"));
}

#[test]
fn a_dump_that_holds_more_than_its_images_stays() {
    // Regression: retention removed a file of several appended arrays, of which only the first was an image.
    let temp = TempRun::new();
    temp.write("dumps/whole/1.npy", &gray(1));
    temp.write("dumps/appended/1.npy", &[gray(1), gray(2)].concat());
    temp.write("dumps/labelled/1.npy", &[gray(1), npy("|u1", &[3], &[1, 2, 3])].concat());
    temp.write("dumps/trailing/1.npy", &[gray(1), vec![0; 512]].concat());
    temp.write("dumps/raw/1.bin", &[7; 64]);
    temp.write("dumps/raw/1.bin.json", br#"{"dtype":"uint8","shape":[8,8]}"#);
    temp.write("dumps/raw/2.bin", &[7; 80]);
    temp.write("dumps/raw/2.bin.json", br#"{"dtype":"uint8","shape":[8,8],"offset":16}"#);
    assert_eq!(temp.ingest().code, 3, "the trailing bytes are rejected");
    age(&temp.at(""), 1);
    let committed = config(&temp, "dumps = \"committed\"");
    for args in [&[][..], &["--apply"]] {
        let said = prune(&temp, &committed, args);
        assert!(said.contains("remove 3 dumps") || said.contains("removed 3 dumps"), "{said}");
        let skipped = "1 dump skipped: it has skipped entries without a picture, such as \"1\"";
        assert!(said.contains(skipped), "{said}");
        assert!(said.contains("1 dump skipped: items of it are rejected"), "{said}");
        assert!(said.contains("1 dump skipped: its sidecar names an offset"), "{said}");
    }
    let check = |kept: &[&str]| {
        for path in [
            "dumps/whole/1.npy",
            "dumps/appended/1.npy",
            "dumps/labelled/1.npy",
            "dumps/trailing/1.npy",
            "dumps/raw/1.bin",
            "dumps/raw/2.bin",
        ] {
            assert_eq!(temp.at(path).is_file(), kept.contains(&path), "{path}");
        }
    };
    check(&["dumps/labelled/1.npy", "dumps/trailing/1.npy", "dumps/raw/2.bin"]);
    // The user says that labels are not wanted.
    let unwanted = config(&temp, "dumps = \"committed\"\nskipped = \"remove\"");
    let said = prune(&temp, &unwanted, &["--apply"]);
    assert!(said.contains("removed 1 dump"), "{said}");
    check(&["dumps/trailing/1.npy", "dumps/raw/2.bin"]);
}

#[test]
fn a_dump_stays_when_a_media_file_of_it_is_missing_or_damaged() {
    // Regression: retention removed the dump of an image whose media file was damaged or missing, and with
    // it the last copy of the image.
    let temp = TempRun::new();
    for key in ["sound", "rotten", "gone", "linked", "masked"] {
        temp.write(&format!("{key}.npy"), &gray(1));
        let masks = if key == "masked" { r#","masks":{"m":{"mask_data":"mask.npy"}}"# } else { "" };
        temp.append(
            "a.media.jsonl",
            &format!("{{\"key\":\"{key}\",\"step\":1,\"data\":\"{key}.npy\"{masks}}}\n"),
        );
    }
    temp.write("mask.npy", &npy("|u1", &[4, 4], &[1; 16]));
    assert_eq!(temp.ingest().code, 0);
    age(&temp.at(""), 1);
    let items = temp.items();
    let file = |key: &str, field: &str| {
        let item = items.iter().find(|item| item["key"] == key).expect("an item");
        temp.store().join(item.pointer(field).and_then(Value::as_str).expect("a path"))
    };
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).expect("a file");
        *bytes.last_mut().expect("a byte") ^= 1;
        fs::write(path, bytes).expect("a file");
    };
    flip(&file("rotten", "/path"));
    flip(&file("masked", "/masks/m/path"));
    fs::remove_file(file("gone", "/path")).expect("a file");
    fs::remove_file(file("linked", "/path")).expect("a file");
    std::os::unix::fs::symlink(file("sound", "/path"), file("linked", "/path")).expect("a link");
    let committed = config(&temp, "dumps = \"committed\"");
    let ran = temp.run(&["prune", "--apply", "--config", &committed]);
    let want = "4 dumps skipped: media files of its images are missing or damaged";
    assert!(ran.out.contains("removed 1 dump") && ran.out.contains(want), "{ran:?}");
    for (key, field) in
        [("rotten", "/path"), ("masked", "/masks/m/path"), ("gone", "/path"), ("linked", "/path")]
    {
        assert!(temp.at(&format!("{key}.npy")).is_file(), "{key}");
        let path = file(key, field);
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let is_said =
            |line: &str| line.contains(name) && line.contains("got") && line.contains("want");
        assert!(ran.err.lines().any(is_said), "{name}: {ran:?}");
    }
    assert!(!temp.at("sound.npy").is_file());
}

#[test]
fn a_dump_stays_when_the_same_sweep_prunes_its_images() {
    // Regression: images of a dump were counted before media were pruned, so that both could be removed.
    let temp = TempRun::new();
    temp.log_picture("k", 1, 1);
    temp.log_picture("k", 2, 2);
    assert_eq!(temp.ingest().code, 0);
    age(&temp.at(""), 1);
    let both = config(&temp, "dumps = \"committed\"\nmedia_bytes_per_run_max = 1");
    let said = prune(&temp, &both, &["--apply"]);
    assert!(said.contains("2 dumps skipped: its images are pruned"), "{said}");
    assert_eq!(n_media(&temp), 0);
}

#[test]
fn a_daemon_prunes_only_for_permitted_users() {
    let temp = TempRun::new();
    let daemon = temp.daemon("[retention]\nmedia_bytes_per_run_max = 1\n");
    for step in 0..4 {
        temp.log_picture("k", step, step);
    }
    wait_for("the pictures", || temp.items().len() == 4);
    let config = temp.folder().join("safelight.toml");
    let config = config.to_str().expect("a path");
    let said = prune(&temp, config, &[]);
    assert!(said.contains("would remove 4 media files"), "{said}");
    // Another user may list what would be removed, but not remove it.
    if let Some(listed) = post_as_nobody(temp.folder(), "/v1/prune?apply=false") {
        assert!(listed.contains("\"n\":4"), "{listed}");
        for path in ["/v1/prune?apply=true", "/v1/reload"] {
            let refusal = post_as_nobody(temp.folder(), path).expect("a response");
            assert!(refusal.contains("only root and the daemon's own user"), "{refusal}");
        }
    }
    assert_eq!(n_media(&temp), 4);
    let said = prune(&temp, config, &["--apply"]);
    assert!(said.contains("removed 4 media files"), "{said}");
    assert_eq!((n_media(&temp), temp.items().len()), (0, 4));
    assert!(pruned(&temp).iter().all(|(_, is_pruned)| *is_pruned));
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn an_unread_log_of_a_configured_name_keeps_dumps() {
    let temp = TempRun::new();
    temp.write("dumps/a/1.npy", &gray(1));
    assert_eq!(temp.ingest().code, 0);
    temp.write("logs/late.jl", b"{\"key\":\"b\",\"step\":1,\"data\":\"dumps/a/1.npy\"}\n");
    temp.write("events.jsonl", b"{\"loss\":1}\n");
    age(&temp.at(""), 1);
    let watching = |logs: &str| {
        let watch = format!("[[watch]]\npath = \".\"\nlogs = [{logs}]\n");
        config(&temp, &format!("dumps = \"committed\"\n{watch}"))
    };
    let said = prune(&temp, &watching("\"logs/*.jl\""), &[]);
    assert!(said.contains("1 dump skipped: the run's media logs are not read to their"), "{said}");
    // A file that is no media log does not keep dumps.
    let said = prune(&temp, &watching("\"*.media.jsonl\""), &[]);
    assert!(said.contains("run: would remove 1 dump"), "{said}");
}
