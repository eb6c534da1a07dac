//! Stores of earlier versions (`tests/golden/stores`), and of later ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{PROGRAM, Ran, files_below, skip};

/// A run directory and a store of an earlier version, in a folder of their own.
struct Old {
    folder: tempfile::TempDir,
    commit: String,
    /// The items that the earlier version listed.
    items: Vec<Value>,
}

/// Unpacks all golden stores. Returns none, reporting that the test is skipped, without `tar` and `xz`.
fn old_stores() -> Vec<Old> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/stores");
    let mut archives: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the stores")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "xz"))
        .collect();
    archives.sort();
    assert!(archives.len() >= 5, "{archives:?}");
    let stores: Vec<Old> = archives.iter().filter_map(|archive| unpack(archive)).collect();
    if stores.is_empty() {
        skip("tar and xz are not installed");
    }
    stores
}

fn unpack(archive: &Path) -> Option<Old> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut tar = Command::new("tar");
    let status =
        tar.arg("-xJf").arg(archive).arg("-C").arg(folder.path()).stderr(Stdio::null()).status();
    if !status.is_ok_and(|status| status.success()) {
        return None;
    }
    let items = fs::read_to_string(folder.path().join("items.jsonl")).expect("what was listed");
    let items = items.lines().map(|line| serde_json::from_str(line).expect("an item")).collect();
    let commit = archive.file_name().unwrap_or_default().to_string_lossy().replace(".tar.xz", "");
    Some(Old { folder, commit, items })
}

impl Old {
    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn run(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(PROGRAM);
        command.args(args).arg("--store").arg(self.store()).stdin(Stdio::null());
        command.env_remove("SAFELIGHT_LOG").output().expect("the program").into()
    }

    fn list(&self) -> Vec<Value> {
        let ran = self.run(&["ls", "--json"]);
        assert_eq!(ran.code, 0, "{}: {ran:?}", self.commit);
        ran.out.lines().map(|line| serde_json::from_str(line).expect("an item")).collect()
    }

    /// Returns the journals, media and other files of the store's runs with their bytes.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let with_bytes = |path: PathBuf| {
            let bytes = fs::read(&path).expect("a file");
            (path, bytes)
        };
        files_below(&self.store().join("runs")).into_iter().map(with_bytes).collect()
    }

    fn edit_run_file(&self, edit: impl Fn(&mut Value)) {
        let path = self.store().join("runs/exp%2F7/run.json");
        let mut file: Value =
            serde_json::from_slice(&fs::read(&path).expect("run.json")).expect("JSON");
        edit(&mut file);
        fs::write(path, file.to_string()).expect("run.json");
    }

    /// Sets the schema that the index names.
    fn set_schema(&self, schema: &str) {
        let db = sled::open(self.store().join("index")).expect("the index");
        let before = db.insert("mschema", schema).expect("a schema");
        assert!(before.is_some(), "the index has no schema under this key");
        db.flush().expect("a flush");
    }
}

/// Returns whether an item has all fields of the old one. It may have further fields.
fn says_the_same(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => old
            .iter()
            .all(|(name, value)| says_the_same(value, new.get(name).unwrap_or(&Value::Null))),
        (old, new) => old == new,
    }
}

fn assert_same(old: &[Value], new: &[Value], what: &str) {
    assert_eq!(new.len(), old.len(), "{what}");
    for (old, new) in old.iter().zip(new) {
        assert!(says_the_same(old, new), "{what}:\n{new}, was\n{old}");
    }
}

/// Returns the fields that identify an item.
fn place(item: &Value) -> String {
    let source = &item["source"];
    ["key", "step", "index", "state", "sha256"].map(|name| item[name].to_string()).join(" ")
        + &[&source["path"], &source["log"], &source["line"]].map(ToString::to_string).join(" ")
}

#[test]
fn stores_of_earlier_versions_keep_all_items() {
    for old in old_stores() {
        let before = old.files();
        let new = old.list();
        assert!(old.items.len() > 120, "{}", old.commit);
        assert_same(&old.items, &new, &old.commit);
        for item in new.iter().filter(|item| item["state"] == "image") {
            let path = old.store().join(item["path"].as_str().expect("a path"));
            let file =
                fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(item["size"], file.len(), "{item}");
        }
        // `show` can print the item in each form.
        for form in ["record", "logged", "artifact", "config"] {
            let ran = old.run(&["show", "exp/7", "val/pred", "1", "--as", form, "--json"]);
            assert_eq!(ran.code, 0, "{}: {form}: {ran:?}", old.commit);
        }
        assert!(old.files() == before, "{}: reading changed the store", old.commit);
        // The old index was adopted or rebuilt. Rebuilding it now gives the same items.
        assert_eq!(old.run(&["reindex"]).code, 0);
        assert_eq!(old.list(), new, "{}", old.commit);
    }
}

#[test]
fn reading_a_run_directory_of_an_earlier_version_again_duplicates_nothing() {
    for old in old_stores() {
        let run = old.folder.path().join("run");
        let run = run.to_str().expect("a path");
        for turn in 0..2 {
            let ran = old.run(&["ingest", run, "--json"]);
            assert!(matches!(ran.code, 0 | 3), "{}: {ran:?}", old.commit);
            let report: Value = serde_json::from_str(&ran.out).expect("JSON");
            // The files have other inodes and times and equal content. The store knows only these
            // of a sidecar, so that a dump with a sidecar is read again and replaces its items.
            let n_with_sidecar = if turn == 0 { 3 } else { 0 };
            let [image, held] = ["image", "held"].map(|state| report["new"][state].as_u64());
            assert!(image.is_some_and(|n| n <= n_with_sidecar), "{}: {report}", old.commit);
            assert_eq!(held, Some(0), "{}: {report}", old.commit);
            // The encoder of this version may write another file for the same pixels.
            let without_file = |item: &Value| {
                let mut item = item.clone();
                if item["key"] == "sheet" {
                    item["sha256"] = Value::Null;
                }
                place(&item)
            };
            let places = |items: &[Value]| items.iter().map(without_file).collect::<BTreeSet<_>>();
            let items = old.list();
            assert_eq!(items.len(), old.items.len(), "{}", old.commit);
            assert_eq!(places(&items), places(&old.items), "{}", old.commit);
        }
        // New lines are read.
        let line = "{\"key\":\"val/pred\",\"step\":9,\"data\":\"tensors/1.npy\"}\n";
        let log = Path::new(run).join("a.media.jsonl");
        let text = fs::read_to_string(&log).expect("a log") + line;
        fs::write(log, text).expect("a log");
        let ran = old.run(&["ingest", run]);
        assert!(matches!(ran.code, 0 | 3), "{}: {ran:?}", old.commit);
        assert_eq!(old.list().len(), old.items.len() + 1, "{}", old.commit);
    }
}

#[test]
fn an_index_of_another_schema_is_rebuilt() {
    for old in old_stores() {
        for schema in ["0", "99", ""] {
            // The index is opened once, so that it has the schema of this version.
            old.list();
            old.set_schema(schema);
            let ran = old.run(&["ls", "--json"]);
            assert_eq!(ran.code, 0, "{ran:?}");
            assert!(
                ran.err.contains("it has not this version's schema"),
                "{}: {ran:?}",
                old.commit
            );
            let items: Vec<Value> =
                ran.out.lines().map(|line| serde_json::from_str(line).expect("an item")).collect();
            assert_same(&old.items, &items, &old.commit);
            // The next command does not rebuild it again.
            assert_eq!(old.run(&["status"]).err, "", "{}", old.commit);
        }
    }
}

#[test]
fn a_store_of_a_later_version_is_refused_and_left_unchanged() {
    for old in old_stores() {
        old.edit_run_file(|file| {
            let format = file["format"].as_u64().expect("a format");
            file["format"] = (format + 1).into();
            file["of a later version"] = Value::Bool(true);
        });
        let before = old.files();
        let run = old.folder.path().join("run");
        let run = run.to_str().expect("a path");
        for args in [&["ls"][..], &["status"], &["ingest", run], &["reindex"]] {
            let ran = old.run(args);
            assert_eq!(ran.code, 1, "{}: {args:?}: {ran:?}", old.commit);
            assert!(
                ran.err.contains("run.json has format 2, this version reads up to 1"),
                "{ran:?}"
            );
            assert!(ran.err.contains("use a newer safelight"), "{ran:?}");
            assert!(old.files() == before, "{}: {args:?} changed the store", old.commit);
        }
        // The later version, simulated by the same program, lists everything.
        old.edit_run_file(|file| file["format"] = 1.into());
        assert_same(&old.items, &old.list(), &old.commit);
    }
}
