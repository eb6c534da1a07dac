//! What is passed over by its path, and what is no matter of ours.

use std::fs;
use std::sync::Arc;

use proptest::prelude::*;

use super::classify::{Guess, guess, note, note_of_log};
use super::kind::PassedOverKind::{self, Dump, Log, Suffix, UpperCase};
use crate::config::WatchConfig;
use crate::ingest::run_files::RunFiles;
use crate::record::pattern::{DumpPattern, EXTENSIONS};
use crate::run_dir::{ReadOptions, RunDir};

fn files() -> (tempfile::TempDir, RunFiles) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().canonicalize().expect("a path");
    let dir = RunDir::open(&path, ReadOptions::default()).expect("a run directory");
    let files = RunFiles::new(dir, Arc::new(WatchConfig::of_run(path)));
    (folder, files)
}

fn missed(files: &RunFiles, path: &str) -> Option<PassedOverKind> {
    match guess(files, path) {
        Some(Guess::Missed(kind)) => Some(kind),
        _ => None,
    }
}

#[test]
fn a_near_miss_is_named_with_what_to_do() {
    let (_folder, files) = files();
    let dump = "add the pattern ";
    for (path, kind, want) in [
        ("dumps/000120.npy", Dump, "no folder names its key: move it to dumps/KEY/000120.npy"),
        ("dumps/pred_000120.npy", Dump, "add the pattern \"dumps/{key}_{step}.{ext}\" to `dumps`"),
        ("dumps/val/latest.npy", Dump, "its name has no step: rename it as 000120.npy"),
        (
            "dumps/val/step_120.pt",
            Dump,
            "add the pattern \"dumps/{key}/step_{step}.{ext}\" to `dumps`",
        ),
        (
            "dumps/val/120-3.png",
            Dump,
            "add the pattern \"dumps/{key}/{step}-{index}.{ext}\" to `dumps`",
        ),
        ("val/step_120.npy", Dump, "add the pattern \"{key}/step_{step}.{ext}\" to `dumps`"),
        ("pred_120.npy", Dump, "add the pattern \"{key}_{step}.{ext}\" to `dumps`"),
        ("120.npy", Dump, "no folder names its key: move it to dumps/KEY/120.npy"),
        ("samples/epoch_10.png", Dump, dump),
        ("val/120.pt", Dump, dump),
        ("dumps/val/120.NPY", UpperCase, "rename it to 120.npy"),
        ("dumps/val/120_3.Png", UpperCase, "rename it to 120_3.png"),
        ("dumps/val/120.ckpt", Suffix, "suffix .ckpt"),
        ("dumps/val/120.npy.gz", Suffix, "suffix .gz"),
        ("dumps/val/120", Suffix, "has no suffix"),
    ] {
        assert_eq!(missed(&files, path), Some(kind), "{path}");
        let note = note(&files, kind, path);
        assert!(note.contains(want), "{path}: {note}");
    }
}

#[test]
fn files_of_other_tools_are_no_matter_of_ours() {
    let (_folder, files) = files();
    for path in [
        "checkpoints/step_120.pt",
        "checkpoint-500/pytorch_model.bin",
        "checkpoint-500/model.safetensors",
        "ckpt.pt",
        "iter_1000.pth",
        "epoch_12/model_12.pth",
        "lightning_logs/version_0/checkpoints/epoch=1-step=10.ckpt",
        "events.out.tfevents.1700000000.host.1.0",
        "wandb/run-1/files/media/images/a_1.png",
        "figures/loss.png",
        "raw/000001.bin",
        "dumps/val/a.ckpt",
        "dumps/val/120.txt",
        "dumps/val/120.npy.tmp",
        "dumps/notes.md",
        "config.yaml",
        "README",
    ] {
        assert_eq!(guess(&files, path), None, "{path}");
    }
}

#[test]
fn annotations_beside_a_dump_belong_to_it() {
    let (folder, files) = files();
    fs::create_dir_all(folder.path().join("dumps/val")).expect("a folder");
    fs::write(folder.path().join("dumps/val/120.npy.json"), "{}").expect("a sidecar");
    assert!(files.is_annotation("dumps/val/120_mask.npy"));
    assert!(files.is_annotation("dumps/val/120.mask.png"));
    assert!(!files.is_annotation("dumps/val/121_mask.npy"));
}

#[test]
fn a_log_elsewhere_is_named_with_a_pattern() {
    let (_folder, files) = files();
    for (path, want) in [
        ("train.jsonl", "rename it to train.media.jsonl, or add \"train.jsonl\" to `logs`"),
        ("logs/train.jsonl", "move it to train.media.jsonl, or add \"logs/train.jsonl\" to `logs`"),
    ] {
        assert_eq!(guess(&files, path), Some(Guess::MayBeLog));
        assert_eq!(note_of_log(&files, path), want);
    }
    let note = note_of_log(&files, "logs/train.media.jsonl");
    assert!(
        note.starts_with("if logs is a run directory, give it to `safelight ingest`"),
        "{note}"
    );
    assert!(note.ends_with("add \"logs/*.media.jsonl\" to `logs`"), "{note}");
}

#[test]
fn a_rotated_log_is_named_and_a_compressed_one_too() {
    let (_folder, files) = files();
    for (name, renamed) in [
        ("train.media.jsonl.1", "train.1.media.jsonl"),
        ("train.media.jsonl.old", "train.old.media.jsonl"),
        ("train.media.jsonl-20260131", "train.20260131.media.jsonl"),
        ("train.ndjson.2026-01-31", "train.2026.01.31.media.jsonl"),
    ] {
        assert_eq!(guess(&files, name), Some(Guess::MayBeLog), "{name}");
        let want = format!("rename it to {renamed}, or add {name:?} to `logs`");
        assert_eq!(note_of_log(&files, name), want);
    }
    for name in ["train.media.jsonl.2.gz", "old/train.media.jsonl.2.zst"] {
        assert_eq!(missed(&files, name), Some(Log), "{name}");
        let note = note(&files, Log, name);
        assert!(note.ends_with("decompress it as train.2.media.jsonl"), "{note}");
    }
    for name in ["metrics.jsonl.gz", "train.media.jsonl.tmp", "train.media.jsonlx", "a.jsonl.d"] {
        assert_eq!(guess(&files, name), None, "{name}");
    }
}

#[test]
fn a_run_inside_of_what_is_read_as_a_run_is_named() {
    let (_folder, files) = files();
    for (path, run) in [("r1/dumps/val/120.npy", "r1"), ("p/r1/dumps/val/120_1.png", "p/r1")] {
        assert_eq!(missed(&files, path), Some(Dump), "{path}");
        let want = format!("{run} looks like a run directory: ");
        assert!(note(&files, Dump, path).starts_with(&want), "{path}");
    }
    assert!(note_of_log(&files, "p/r1/a.media.jsonl").starts_with("if p/r1 is a run directory, "));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every file with a dump's suffix in the dumps folder is a dump or is passed over, and a suggested pattern
    /// matches it.
    #[test]
    fn nothing_with_the_suffix_of_a_dump_is_silent_in_the_dumps_folder(
        folders in proptest::collection::vec("[a-zA-Z0-9_é-]{1,4}", 0..3),
        stem in "[a-zA-Z0-9_.-]{1,8}",
        suffix in 0..EXTENSIONS.len(),
        is_upper in any::<bool>(),
    ) {
        let (_folder, files) = files();
        let suffix = EXTENSIONS[suffix];
        let suffix = if is_upper { suffix.to_uppercase() } else { suffix.to_owned() };
        let parents = [vec!["dumps".to_owned()], folders].concat().join("/");
        let path = format!("{parents}/{stem}.{suffix}");
        if files.dump_path(&path).is_none() {
            let kind = missed(&files, &path);
            prop_assert!(kind.is_some(), "{}", path);
            let note = note(&files, kind.unwrap_or(Dump), &path);
            prop_assert!(!note.is_empty());
            if let Some(pattern) = note.split("the pattern \"").nth(1) {
                let pattern = pattern.split('"').next().unwrap_or_default();
                let pattern = DumpPattern::new(pattern).map_err(|e| TestCaseError::fail(e.to_string()))?;
                prop_assert!(pattern.read(&path).is_some_and(|read| read.is_ok()), "{}", path);
            }
        }
    }
}
