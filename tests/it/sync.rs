//! Delivery by `sync --once` and by the daemon into a directory as an object store.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Ran, Random, TempRun, gray, wait_for, wait_for_all};

/// Settings of a target that is a directory beside the run.
const ARCHIVE: &str = "[sync.archive]\nkind = \"object_store\"\nurl = \"file://FOLDER/bucket\"\nbox = \"gpu-17\"\nmanifest_s = 0\n";

fn with_folder(temp: &TempRun, settings: &str) -> String {
    settings.replace("FOLDER", temp.folder().to_str().expect("a path"))
}

/// Runs a command with a configuration that has these settings.
fn run(temp: &TempRun, settings: &str, args: &[&str]) -> Ran {
    temp.run_with(&with_folder(temp, settings), args)
}

/// Returns the items that the manifests of a bucket name, each with its object's bytes.
pub(crate) fn delivered(bucket: &Path) -> Vec<(Value, Vec<u8>)> {
    let mut items = Vec::new();
    let manifests = fs::read_dir(bucket.join("runs/gpu-17/run"));
    for manifest in manifests.into_iter().flatten().flatten() {
        let path = manifest.path();
        if path.extension().is_some_and(|ending| ending == "jsonl") {
            for line in fs::read_to_string(path).expect("a manifest").lines() {
                let item: Value = serde_json::from_str(line).expect("an item");
                if item["state"] != "image" {
                    continue;
                }
                let object = bucket.join(item["object"].as_str().expect("an object"));
                let bytes = fs::read(object).expect("its bytes");
                items.push((item, bytes));
            }
        }
    }
    items
}

/// Checks that the bucket has each image of the store once, byte for byte.
fn check(temp: &TempRun) {
    let place =
        |item: &Value| (item["key"].to_string(), item["step"].as_u64(), item["index"].as_u64());
    let mut wanted = BTreeMap::new();
    for item in temp.items().iter().filter(|item| item["state"] == "image") {
        let path = temp.store().join(item["path"].as_str().expect("a path"));
        wanted.insert(place(item), fs::read(path).expect("a media file"));
    }
    let mut got = BTreeMap::new();
    for (item, bytes) in delivered(&temp.folder().join("bucket")) {
        assert_eq!(got.insert(place(&item), bytes), None, "twice: {item}");
    }
    assert_eq!(got.len(), wanted.len());
    assert!(got == wanted, "other bytes");
}

#[test]
fn sync_once_delivers_each_item_once() {
    let temp = TempRun::new();
    for n in 0..30 {
        temp.log_picture("val/pred", n, n);
        temp.log_picture("debug", n, 100 + n);
    }
    assert_eq!(temp.ingest().code, 0);
    let settings = &format!("{ARCHIVE}exclude = [\"debug\"]\n");

    let ran = run(&temp, settings, &["sync", "--dry-run"]);
    assert!(
        ran.out.starts_with("target    archive (object_store): would get 30 items ("),
        "{ran:?}"
    );
    assert!(!temp.folder().join("bucket").is_dir(), "something was delivered");

    let ran = run(&temp, settings, &["sync", "archive", "--once"]);
    assert_eq!(
        (ran.code, &*ran.out),
        (0, "target    archive (object_store): 30 items delivered\n")
    );
    assert_eq!(delivered(&temp.folder().join("bucket")).len(), 30);
    let ran = run(&temp, settings, &["sync", "--once"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(delivered(&temp.folder().join("bucket")).len(), 30);

    let ran = run(&temp, settings, &["status", "--json"]);
    let status: Value = serde_json::from_str(&ran.out).expect("JSON");
    let target = &status["targets"][0];
    assert_eq!((&target["pending"], &target["delivered"]), (&json!(0), &json!(30)));

    let ran = run(&temp, settings, &["sync", "archve", "--once"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("no target \"archve\" in the configuration: it has archive"),
        "{ran:?}"
    );
    let ran = run(&temp, "", &["sync", "--once"]);
    assert!(ran.out.contains("no target is configured"), "{ran:?}");
}

#[test]
fn a_daemon_killed_repeatedly_delivers_each_item_once() {
    let temp = TempRun::new();
    let settings = with_folder(&temp, ARCHIVE);
    let mut luck = Random(77);
    let mut n = 0;
    for _ in 0..12 {
        let daemon = temp.daemon(&settings);
        for _ in 0..luck.below(60) {
            temp.log_picture("k", n / 3, n);
            n += 1;
        }
        std::thread::sleep(Duration::from_millis(luck.below(400)));
        // Dropping the daemon kills it.
        drop(daemon);
    }
    let daemon = temp.daemon(&settings);
    wait_for_all("the images", n, || temp.n_images());
    // A target that has not noticed the last images has nothing pending.
    let delivered = || temp.status()["targets"][0]["delivered"].clone();
    wait_for("the delivery", || delivered() == n);
    check(&temp);
    let ran = run(&temp, ARCHIVE, &["sync", "--once", "--json"]);
    let report: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((ran.code, &report["targets"][0]["pending"]), (0, &json!(0)));
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_target_added_later_catches_up_and_a_removed_one_holds_back_nothing() {
    let temp = TempRun::new();
    let settings = with_folder(&temp, ARCHIVE);
    let daemon = temp.daemon("");
    for n in 0..20 {
        temp.log_picture("k", n, n);
    }
    wait_for_all("the images", 20, || temp.n_images());
    let reload = |settings: &str| {
        let ran = run(&temp, settings, &["reload"]);
        assert_eq!(ran.code, 0, "{ran:?}");
    };
    reload(&settings);
    let bucket = temp.folder().join("bucket");
    wait_for("the first", || delivered(&bucket).len() == 20);
    reload("");
    assert_eq!(temp.status()["targets"], json!([]));
    temp.log_picture("k", 20, 20);
    wait_for_all("the images", 21, || temp.n_images());
    assert_eq!(delivered(&bucket).len(), 20);
    reload(&settings);
    wait_for("the last", || delivered(&bucket).len() == 21);
    check(&temp);
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn an_unreachable_target_delays_nothing_else() {
    let temp = TempRun::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    // A server that accepts connections and never responds.
    let settings = with_folder(
        &temp,
        &format!(
            "{ARCHIVE}[sync.silent]\nkind = \"mlflow\"\nurl = \"http://127.0.0.1:{port}\"\n\
                  [sync.gone]\nkind = \"mlflow\"\nurl = \"http://127.0.0.1:9\"\n"
        ),
    );
    let daemon = temp.daemon(&settings);
    for n in 0..10 {
        temp.log_picture("k", n, n);
    }
    wait_for_all("the images", 10, || temp.n_images());
    wait_for("the delivery", || delivered(&temp.folder().join("bucket")).len() == 10);
    let of = |name: &str| {
        let targets = temp.status()["targets"].clone();
        let found = targets.as_array().and_then(|all| all.iter().find(|t| t["name"] == name));
        found.cloned().unwrap_or_default()
    };
    wait_for("the trouble", || !of("gone")["trouble"].is_null());
    assert_eq!(
        (of("gone")["pending"].as_u64(), of("silent")["pending"].as_u64()),
        (Some(10), Some(10))
    );
    assert!(of("gone")["oldest_s"].is_number(), "{}", of("gone"));
    assert_eq!(
        temp.run(&["health"]).code,
        0,
        "an unreachable target must not make the daemon unhealthy"
    );
    let (code, took) = daemon.stop();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(9), "{took:?}");
}

#[test]
fn dumps_are_removed_when_every_target_has_their_images() {
    let temp = TempRun::new();
    let retention = "[retention]\ndumps = \"delivered\"\ndump_age_min_s = 0\n";
    let settings = &format!("{ARCHIVE}{retention}");
    for n in 0..5 {
        temp.write(&format!("dumps/k/{n}.npy"), &gray(n));
    }
    assert_eq!(temp.ingest().code, 0);
    let ran = run(&temp, settings, &["prune", "--apply"]);
    assert!(ran.out.contains("target \"archive\" doesn't have it yet"), "{ran:?}");
    assert!(temp.at("dumps/k/0.npy").is_file());
    assert_eq!(run(&temp, settings, &["sync", "--once"]).code, 0);
    let ran = run(&temp, settings, &["prune", "--apply"]);
    assert!(ran.out.contains("removed 5 dumps"), "{ran:?}");
    assert!(!temp.at("dumps/k/0.npy").is_file());
}

#[test]
fn released_items_are_delivered_too() {
    let temp = TempRun::new();
    for n in 0..5 {
        temp.log_picture("k", 1, n);
    }
    let limited = &format!("[limits]\nmax_items = 2\n{ARCHIVE}");
    let config = temp.configure(&with_folder(&temp, limited));
    let run_dir = temp.at("");
    let args =
        ["ingest", run_dir.to_str().expect("a path"), "--config", config.to_str().expect("a path")];
    assert_eq!(temp.run(&args).code, 0);
    assert_eq!(run(&temp, limited, &["sync", "--once"]).code, 0);
    assert_eq!(delivered(&temp.folder().join("bucket")).len(), 2);
    assert_eq!(run(&temp, ARCHIVE, &["release"]).code, 0);
    assert_eq!(run(&temp, ARCHIVE, &["sync", "--once"]).code, 0);
    assert_eq!(delivered(&temp.folder().join("bucket")).len(), 5);
    check(&temp);
}

#[test]
fn a_link_in_a_targets_directory_does_not_destroy_the_journal() {
    // A link in the place of an event file led to the store's journal, which was then cut to nothing.
    let temp = TempRun::new();
    (0..3).for_each(|n| temp.log_picture("k", n, n));
    assert_eq!(temp.ingest().code, 0);
    let mut journals = Vec::new();
    let mut folders = vec![temp.store()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().contains("journal") {
                journals.push(path);
            }
        }
    }
    let [journal] = &journals[..] else { panic!("{journals:?}") };
    let before = fs::read(journal).expect("a journal");
    assert!(!before.is_empty());
    let settings = "[sync.tb]\nkind = \"tensorboard\"\npath = \"FOLDER/tb\"\n";
    let event_file = temp.folder().join("tb/run/events.out.tfevents.0000000000.safelight");
    fs::create_dir_all(event_file.parent().expect("a folder")).expect("a folder");
    let link: [fn(&Path, &Path) -> std::io::Result<()>; 2] =
        [|from, to| std::os::unix::fs::symlink(from, to), |from, to| fs::hard_link(from, to)];
    for (link, want) in link.into_iter().zip(["found a symbolic link", "other names (hard links)"])
    {
        link(journal, &event_file).expect("a link");
        let ran = run(&temp, settings, &["sync", "tb", "--once"]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.out.contains(want) && ran.out.contains("events.out"), "{ran:?}");
        assert!(fs::read(journal).expect("a journal") == before);
        fs::remove_file(&event_file).expect("a link");
    }
    let ran = run(&temp, settings, &["sync", "tb", "--once"]);
    assert_eq!((ran.code, &*ran.out), (0, "target    tb (tensorboard): 3 items delivered\n"));
}
