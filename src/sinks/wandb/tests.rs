//! Tests of the W&B sink, in addition to the contract tests of all sinks.

use std::collections::BTreeMap;
use std::fs;

use prost::Message;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::formats::wandb_log::framing::Records;
use crate::formats::wandb_log::record::{HistoryRow, KeyedValue, Kind, LogRecord, UnixTime};
use crate::media::{Annotation, Description, Layers, RunId, Sha256};
use crate::sinks::contract::{self, Images};

/// A target in a temporary folder.
struct Folder {
    place: TempDir,
    target: WandbTarget,
    identity: Value,
}

/// A closed segment, read as the client reads it.
struct Segment {
    name: String,
    place: PathBuf,
    records: Vec<LogRecord>,
}

fn config(path: &Path) -> WandbConfig {
    WandbConfig {
        path: path.to_owned(),
        entity: None,
        project: Some("vision".to_owned()),
        job_type: "media".to_owned(),
        segment_idle_s: 300.try_into().expect("a number"),
        segment_items_max: 10_000.try_into().expect("a number"),
        command: Vec::new(),
        api_key: None,
    }
}

impl Folder {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut WandbConfig)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = config(folder.path());
        change(&mut config);
        let target = WandbTarget::at(&config).expect("a target");
        Self { place: folder, target, identity: json!({}) }
    }

    fn sink(&self) -> WandbRun {
        let id = RunId::new("train/7").expect("a run");
        let identity = self.identity.as_object().cloned().unwrap_or_default();
        self.target.run(&RunInfo { id, source: "/data/train".into(), identity })
    }

    fn segments(&self) -> Vec<Segment> {
        let entries = fs::read_dir(self.place.path().join("wandb")).expect("a folder");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        names.into_iter().map(|name| self.segment(name)).collect()
    }

    fn segment(&self, name: String) -> Segment {
        let place = self.place.path().join("wandb").join(&name);
        let id = name.splitn(4, '-').nth(3).expect("an id");
        let log = fs::read(place.join(format!("run-{id}.wandb"))).expect("a log");
        let records = Records::new(&log).expect("a log");
        let decode = |bytes: Vec<u8>| LogRecord::decode(bytes.as_slice()).expect("a record");
        let records = records.map(|record| decode(record.expect("a record"))).collect();
        Segment { name, place, records }
    }
}

impl Segment {
    fn rows(&self) -> Vec<&HistoryRow> {
        let row = |record: &'_ LogRecord| matches!(record.kind, Some(Kind::History(_)));
        let rows = self.records.iter().filter(|record| row(record));
        rows.filter_map(|record| match &record.kind {
            Some(Kind::History(row)) => Some(row),
            _ => None,
        })
        .collect()
    }

    fn steps(&self) -> Vec<i64> {
        self.rows().iter().filter_map(|row| row.step()).collect()
    }

    fn end(&self) -> Option<bool> {
        self.records.iter().find_map(|record| match &record.kind {
            Some(Kind::Exit(end)) => Some(end.not_complete),
            _ => None,
        })
    }

    fn config(&self) -> Vec<KeyedValue> {
        self.updates(|kind| if let Kind::Config(changes) = kind { Some(changes) } else { None })
    }

    fn summary(&self) -> Vec<KeyedValue> {
        self.updates(|kind| if let Kind::Summary(changes) = kind { Some(changes) } else { None })
    }

    fn updates(&self, of: fn(&Kind) -> Option<&KeyedChanges>) -> Vec<KeyedValue> {
        let kinds = self.records.iter().filter_map(|record| record.kind.as_ref());
        kinds.filter_map(of).flat_map(|changes| changes.update.clone()).collect()
    }

    /// Returns the images of the rows. Checks that each file exists and is listed before its row.
    fn images(&self) -> Vec<(String, u64, Sha256)> {
        let mut images = Vec::new();
        let mut listed = Vec::new();
        for record in &self.records {
            match &record.kind {
                Some(Kind::Files(list)) => listed.extend(list.files.iter().map(|f| f.path.clone())),
                Some(Kind::History(row)) => {
                    for (key, path) in images_of(row) {
                        assert!(listed.contains(&path), "{path} is not listed");
                        let bytes = fs::read(self.place.join("files").join(&path)).expect("a file");
                        let step = row.step().and_then(|step| u64::try_from(step).ok());
                        images.push((key, step.expect("a step"), Sha256::of(&bytes)));
                    }
                }
                _ => {}
            }
        }
        images
    }
}

/// Returns the key and path of each image of a row.
fn images_of(row: &HistoryRow) -> Vec<(String, String)> {
    let mut images = Vec::new();
    for item in &row.item {
        let path: Vec<&str> = item.nested_key.iter().map(String::as_str).collect();
        let paths: Vec<String> = match path[..] {
            [_, "path"] => vec![serde_json::from_str(&item.value_json).expect("a path")],
            [_, "filenames"] => serde_json::from_str(&item.value_json).expect("paths"),
            _ => continue,
        };
        images.extend(paths.into_iter().map(|path| (item.name().to_owned(), path)));
    }
    images
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

/// Calls [`Sink::rest`] until it returns no receipt, as the engine does. Returns the last receipt.
async fn rest(sink: &mut WandbRun, why: Rest) -> Option<Receipt> {
    let mut last = None;
    while let Some(receipt) = sink.rest(why).await.expect("a target") {
        last = Some(receipt);
    }
    last
}

async fn deliver(sink: &mut WandbRun, items: &[Delivery]) -> Receipt {
    for item in items {
        sink.put(item).await.expect("an image's files");
    }
    sink.commit(items).await.expect("a receipt")
}

impl contract::Target for Folder {
    type Sink = WandbRun;

    fn open(&self) -> WandbRun {
        self.sink()
    }

    fn seen(&self) -> Vec<(String, u64, Sha256)> {
        self.segments().iter().flat_map(Segment::images).collect()
    }

    fn takes_any_order(&self) -> bool {
        false
    }
}

#[test]
fn it_keeps_the_promises_of_a_sink() {
    block_on(contract::check(Folder::new));
    // Checks again with many segments of two items.
    block_on(contract::check(|| {
        Folder::with(|config| config.segment_items_max = 2.try_into().expect("two"))
    }));
}

#[test]
fn a_segment_says_whose_it_is_and_ends() {
    let mut folder = Folder::new();
    folder.identity = json!({
        "name": "night", "project": "a/b", "tags": ["x", "", 7], "config": {"lr": 0.1, "net": {"depth": 3}},
        "entity": 5,
    });
    let mut images = Images::new();
    let item = images.image("k", 3, 0);
    block_on(async {
        let mut sink = folder.sink();
        sink.resume(None).await.expect("a target");
        deliver(&mut sink, &[item]).await;
        rest(&mut sink, Rest::Finished).await;
    });
    let [segment] = &folder.segments()[..] else { panic!("one segment") };
    assert!(segment.name.starts_with("offline-run-20231114_221321-train_7-"), "{}", segment.name);
    let Some(Kind::Run(run)) = &segment.records[1].kind else { panic!("a run") };
    assert_eq!((run.project.as_str(), run.entity.as_str()), ("a-b", ""));
    assert_eq!((run.display_name.as_str(), run.run_group.as_str()), ("night-img", "train/7"));
    assert_eq!((run.job_type.as_str(), &run.tags[..]), ("media", &["x".to_owned()][..]));
    assert_eq!(run.start_time.map(UnixTime::seconds), Some(1_700_000_001.25));
    assert!(segment.name.ends_with(&run.run_id) && run.run_id.ends_with("-img"));
    let config = run.config.clone().expect("a config").update;
    let config: Vec<_> = config.iter().map(|v| (v.key.as_str(), v.value_json.as_str())).collect();
    assert_eq!(config, [("lr", "0.1"), ("net", "{\"depth\":3}")]);
    assert_eq!(segment.end(), Some(false));
    assert!(matches!(segment.records.last().and_then(|r| r.kind.clone()), Some(Kind::Final(_))));
}

#[test]
fn nothing_lies_where_the_client_looks_before_its_receipt_is_stored() {
    let folder = Folder::new();
    let mut images = Images::new();
    let items: Vec<Delivery> = (0..3).map(|step| images.image("k", step, 0)).collect();
    block_on(async {
        let mut sink = folder.sink();
        sink.resume(None).await.expect("a target");
        deliver(&mut sink, &items).await;
        let idle = |s| Rest::Idle(Duration::from_secs(s));
        assert!(sink.rest(idle(299)).await.expect("a target").is_none());
        let closed = sink.rest(idle(300)).await.expect("a target").expect("a receipt");
        assert!(folder.segments().is_empty());
        // After a crash, the sink resumes from the receipt.
        let mut sink = folder.sink();
        sink.resume(Some(&closed)).await.expect("a target");
        let handed_over = rest(&mut sink, idle(5)).await.expect("a receipt");
        assert_eq!(folder.segments()[0].steps(), [0, 1, 2]);
        // After a second restart, there is nothing to do.
        let mut sink = folder.sink();
        sink.resume(Some(&handed_over)).await.expect("a target");
        assert!(rest(&mut sink, Rest::Leaving).await.is_none());
        assert_eq!(folder.segments().len(), 1);
        // No staged file is left.
        let staged = folder.place.path().join("open");
        let mut files = vec![staged];
        while let Some(path) = files.pop() {
            assert!(path.is_dir(), "{}", path.display());
            files.extend(
                fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path()),
            );
        }
    });
}

#[test]
fn a_run_whose_last_segment_is_full_is_over_all_the_same() {
    let folder = Folder::with(|config| config.segment_items_max = 1.try_into().expect("one"));
    let mut images = Images::new();
    let items = [images.image("k", 1, 0), images.image("k", 2, 0)];
    let mut sink = folder.sink();
    block_on(async {
        sink.resume(None).await.expect("a target");
        for item in &items {
            sink.put(item).await.expect("its files");
        }
        sink.commit(&items).await.expect("a receipt");
        while sink.rest(Rest::Finished).await.expect("a target").is_some() {}
    });
    let ends: Vec<Option<bool>> = folder.segments().iter().map(Segment::end).collect();
    assert_eq!(ends, [Some(true), Some(false)], "whether more comes");
    let open = fs::read_dir(folder.place.path().join("open")).expect("a folder");
    assert_eq!(open.count(), 0, "nothing is left behind");
}

#[test]
fn what_is_late_makes_a_segment_that_knows_what_was_before() {
    let folder = Folder::new();
    let mut images = Images::new();
    let labels = Some(json!({"1": "car"}).into());
    let mask = folder.place.path().join("mask.png");
    fs::write(&mask, b"mask").expect("a mask");
    fs::create_dir_all(images.folder().join("media/images/mask")).expect("a folder");
    fs::copy(&mask, images.folder().join("media/images/mask/m.mask.png")).expect("a mask");
    fs::remove_file(&mask).expect("a mask");
    let layer = Annotation {
        path: "media/images/mask/m.mask.png".to_owned(),
        sha256: Sha256::of(b"mask"),
        size: 4,
        class_labels: labels,
        source: None,
    };
    let layers = Layers { masks: [("gt".to_owned(), layer)].into(), ..Layers::default() };
    let masked = images.image_with("seg", 10, 0, crate::media::Description::default(), layers);
    let items = [masked, images.image("k", 20, 0), images.image("k", 30, 0)];
    let late = [images.image("k", 5, 0), images.image("k", 5, 1), images.image("k", 20, 0)];
    block_on(async {
        let mut sink = folder.sink();
        sink.resume(None).await.expect("a target");
        deliver(&mut sink, &items).await;
        deliver(&mut sink, &late).await;
        rest(&mut sink, Rest::Finished).await;
    });
    let [first, second] = &folder.segments()[..] else { panic!("two segments") };
    assert_eq!((first.steps(), second.steps()), (vec![10, 20, 30], vec![5, 20]));
    assert_eq!((first.end(), second.end()), (Some(true), Some(false)));
    assert!(first.name < second.name);
    for segment in [first, second] {
        let config = segment.config();
        let path = ["_wandb", "mask/class_labels", "seg_wandb_delimeter_gt"];
        assert_eq!(config.len(), 1, "{}", segment.name);
        assert_eq!(config[0].nested_key, path);
    }
    let summary: BTreeMap<String, String> =
        second.summary().into_iter().map(|v| (v.key, v.value_json)).collect();
    assert!(summary.contains_key("seg") && summary["k"].contains("k_20_"), "{summary:?}");
}

#[test]
fn an_open_log_is_cut_to_its_receipt_and_written_on_the_same() {
    let folder = Folder::new();
    let mut images = Images::new();
    let items: Vec<Delivery> = (0..30).map(|step| images.image("k", step, 0)).collect();
    let undisturbed = Folder::new();
    for (folder, dies) in [(&folder, true), (&undisturbed, false)] {
        block_on(async {
            let mut sink = folder.sink();
            sink.resume(None).await.expect("a target");
            let mut receipt = deliver(&mut sink, &items[..7]).await;
            for items in items[7..].chunks(5) {
                if dies {
                    deliver(&mut sink, items).await;
                    sink = folder.sink();
                    sink.resume(Some(&receipt)).await.expect("a target");
                }
                receipt = deliver(&mut sink, items).await;
            }
            rest(&mut sink, Rest::Finished).await;
        });
    }
    let bytes = |folder: &Folder| {
        let segments = folder.segments();
        assert_eq!(segments.len(), 1);
        let log = fs::read_dir(&segments[0].place).expect("a segment").find_map(|entry| {
            let path = entry.expect("an entry").path();
            path.extension().is_some().then(|| fs::read(path).expect("a log"))
        });
        log.expect("a log")
    };
    assert!(bytes(&folder) == bytes(&undisturbed));
}

#[test]
fn what_the_store_no_longer_has_is_staged() {
    let folder = Folder::new();
    let mut images = Images::new();
    let item = images.image("k", 1, 0);
    block_on(async {
        let mut sink = folder.sink();
        sink.resume(None).await.expect("a target");
        let receipt = deliver(&mut sink, std::slice::from_ref(&item)).await;
        fs::remove_file(item.path()).expect("a file");
        let mut sink = folder.sink();
        sink.resume(Some(&receipt)).await.expect("a target");
        rest(&mut sink, Rest::Finished).await;
    });
    assert_eq!(folder.segments()[0].images().len(), 1);
}

#[test]
fn keys_and_paths_that_can_not_be_are_refused() {
    let folder = Folder::new();
    let mut images = Images::new();
    let own = images.image("_step", 1, 0);
    let mut outside = images.image("k", 1, 0);
    outside.file.path = "../outside.png".to_owned();
    block_on(async {
        let mut sink = folder.sink();
        sink.resume(None).await.expect("a target");
        for (item, want) in [(own, "a value of its own"), (outside, "leaves its folder")] {
            let error = sink.put(&item).await.expect_err("refused");
            assert!(matches!(error, SinkError::Reject { .. }));
            assert!(error.to_string().contains(want), "{error}");
        }
    });
}

/// Writes a script that simulates the client, and returns the command that runs it. `script` can call `mark` to
/// mark the segment as synced.
fn player(folder: &Path, script: &str) -> Vec<String> {
    let text = format!(
        "for segment; do :; done\necho run >> {0}/runs\n[ -z \"$WANDB_API_KEY\" ] || echo \"key $WANDB_API_KEY\"\n\
         mark() {{ touch \"$(echo \"$segment\"/run-*.wandb).synced\"; }}\n{script}\n",
        folder.display()
    );
    let path = folder.join("player.sh");
    fs::write(&path, text).expect("a script");
    ["sh", path.to_str().expect("a path"), "sync"].map(str::to_owned).into()
}

#[test]
fn a_command_uploads_each_segment_once_and_is_not_believed() {
    let tools = tempfile::tempdir().expect("a folder");
    let view = "echo 'wandb: [p/r] View run r at http://x'";
    let key = tools.path().join("key");
    fs::write(&key, "secret-of-forty").expect("a key");
    let n_runs =
        || fs::read_to_string(tools.path().join("runs")).map_or(0, |text| text.lines().count());
    let folder = Folder::with(|config| {
        config.command = player(tools.path(), "echo \"wandb: ERROR denied $WANDB_API_KEY\"");
        config.api_key = Some(crate::secrets::SecretSource::File(key));
    });
    let mut images = Images::new();
    let items: Vec<Delivery> = (0..3).map(|step| images.image("k", step, 0)).collect();
    block_on(async {
        let mut sink = folder.sink();
        sink.resume(None).await.expect("a target");
        deliver(&mut sink, &items[..1]).await;
        let receipt = sink.rest(Rest::Finished).await.expect("a target").expect("a receipt");
        // If the run was not started, the upload is retried.
        for n in 1..3 {
            let mut sink = folder.sink();
            sink.resume(Some(&receipt)).await.expect("a target");
            let error = sink.rest(Rest::Finished).await.expect_err("an error");
            assert!(matches!(error, SinkError::Retry { .. }));
            let error = error.to_string();
            assert!(error.contains("was not uploaded: ERROR denied …"), "{error}");
            assert_eq!(n_runs(), n);
        }
        // If the upload is partial, it is not retried. A person must resolve it.
        player(tools.path(), &format!("{view}\nmark\necho 'wandb: ERROR [p/r] Fatal error'"));
        for _ in 0..2 {
            let mut sink = folder.sink();
            sink.resume(Some(&receipt)).await.expect("a target");
            let error = sink.rest(Rest::Finished).await.expect_err("an error").to_string();
            assert!(error.contains("in part") && error.contains("Fatal error"), "{error}");
            assert_eq!(n_runs(), 3);
        }
        // If a person removes the output, the upload counts as done.
        let name = folder.segments()[0].name.clone();
        fs::remove_dir_all(folder.place.path().join("uploads").join(name)).expect("an upload");
        player(tools.path(), &format!("{view}\nmark"));
        let mut sink = folder.sink();
        sink.resume(Some(&receipt)).await.expect("a target");
        rest(&mut sink, Rest::Finished).await.expect("a receipt");
        assert_eq!(n_runs(), 3);
        // The next upload succeeds.
        deliver(&mut sink, &items[1..]).await;
        rest(&mut sink, Rest::Finished).await.expect("a receipt");
        assert_eq!(n_runs(), 4);
        let uploads = fs::read_dir(folder.place.path().join("uploads")).expect("a folder");
        assert_eq!(uploads.count(), 0);
    });
}

#[test]
fn links_in_the_directory_are_not_followed() {
    // If a segment's name is in use, the segment gets a later name. Staged files are swept at the start.
    let is_avoided = |path: &str| path.contains("offline-run-") || path.contains("/staged/");
    let root = |folder: &Folder| folder.place.path().to_owned();
    block_on(contract::check_links(Folder::new, root, is_avoided));
}

/// Returns the path of the open segment's log.
fn open_log(folder: &Folder) -> PathBuf {
    let run = fs::read_dir(folder.place.path().join("open")).expect("a folder").next();
    let run = run.expect("a run").expect("an entry").path();
    let entries = fs::read_dir(run).expect("a folder").map(|entry| entry.expect("an entry").path());
    let segment = entries.into_iter().find(|path| path.to_string_lossy().contains("offline-run"));
    let mut files = fs::read_dir(segment.expect("a segment")).expect("a folder");
    files
        .find_map(|file| {
            let path = file.expect("an entry").path();
            path.extension().is_some_and(|end| end == "wandb").then_some(path)
        })
        .expect("a log")
}

#[test]
fn links_in_an_open_segment_are_not_followed() {
    let mut images = Images::new();
    let items: Vec<Delivery> = (0..4).map(|step| images.image("k", step, 0)).collect();
    let journal = images.folder().join("00000001.log");
    for is_log in [true, false] {
        let folder = Folder::new();
        fs::write(&journal, "a journal").expect("a journal");
        block_on(async {
            let mut sink = folder.sink();
            sink.resume(None).await.expect("a target");
            let receipt = deliver(&mut sink, &items[..2]).await;
            let log = open_log(&folder);
            let link = if is_log { log.clone() } else { log.with_file_name("files") };
            let aside = folder.place.path().join("aside");
            fs::rename(&link, &aside).expect("a move");
            let outside = tempfile::tempdir().expect("a folder");
            let behind = if is_log { journal.as_path() } else { outside.path() };
            std::os::unix::fs::symlink(behind, &link).expect("a link");
            sink.put(&items[2]).await.expect("a file");
            let error = sink.commit(&items[2..3]).await.expect_err("a link");
            assert!(error.to_string().contains("symbolic link"), "{error}");
            let mut sink = folder.sink();
            if is_log {
                let error = sink.resume(Some(&receipt)).await.expect_err("a link");
                assert!(matches!(error, SinkError::Retry { .. }), "{error}");
                assert!(error.to_string().contains("symbolic link"), "{error}");
            }
            assert_eq!(fs::read(&journal).expect("a journal"), b"a journal");
            assert_eq!(fs::read_dir(outside.path()).expect("a folder").count(), 0);
            fs::remove_file(&link).expect("a link");
            if is_log {
                // Checks a file that Safelight did not write as a log, and hard links to it and to the log itself.
                fs::write(&journal, [b'x'; 9000]).expect("a journal");
                fs::copy(&journal, &link).expect("a copy");
                let error = sink.resume(Some(&receipt)).await.expect_err("not ours");
                assert!(error.to_string().contains("did not write"), "{error}");
                for other in [&journal, &aside] {
                    let n_bytes = fs::metadata(other).expect("a file").len();
                    fs::remove_file(&link).expect("a file");
                    fs::hard_link(other, &link).expect("a link");
                    let error = sink.resume(Some(&receipt)).await.expect_err("a hard link");
                    assert!(error.to_string().contains("other names (hard links)"), "{error}");
                    assert_eq!(fs::metadata(other).expect("a file").len(), n_bytes);
                }
                fs::remove_file(&link).expect("a link");
            }
            fs::rename(&aside, &link).expect("a move");
            sink.resume(Some(&receipt)).await.expect("a target");
            deliver(&mut sink, &items[2..]).await;
            rest(&mut sink, Rest::Finished).await;
            assert_eq!(folder.segments()[0].steps(), [0, 1, 2, 3]);
        });
    }
}

#[test]
fn a_link_in_the_staging_folder_is_swept_and_what_is_behind_it_stays() {
    // Regression: the sweep followed links to folders and removed the files in them.
    let (folder, mut images) = (Folder::new(), Images::new());
    let outside = tempfile::tempdir().expect("a folder");
    fs::write(outside.path().join("kept"), "kept").expect("a file");
    block_on(async {
        let mut sink = folder.sink();
        sink.resume(None).await.expect("a target");
        sink.put(&images.image("k", 1, 0)).await.expect("a file");
        let staged = folder.place.path().join(sink.segments.folder()).join("staged");
        std::os::unix::fs::symlink(outside.path(), staged.join("link")).expect("a link");
        folder.sink().resume(None).await.expect("a target");
        assert!(!staged.join("link").is_symlink());
    });
    assert_eq!(fs::read(outside.path().join("kept")).expect("a file"), b"kept");
}

#[test]
fn links_in_the_folder_of_an_upload_are_not_followed() {
    let tools = tempfile::tempdir().expect("a folder");
    let mut images = Images::new();
    let item = images.image("k", 1, 0);
    let journal = images.folder().join("00000001.log");
    fs::write(&journal, "a journal").expect("a journal");
    let folder = Folder::with(|config| {
        config.command = player(tools.path(), "echo 'wandb: View run r'\nmark");
    });
    block_on(async {
        let mut sink = folder.sink();
        sink.resume(None).await.expect("a target");
        deliver(&mut sink, &[item]).await;
        sink.rest(Rest::Finished).await.expect("a target").expect("a receipt");
        let uploads = folder.place.path().join("uploads");
        let name =
            open_log(&folder).parent().expect("a folder").file_name().expect("a name").to_owned();
        fs::create_dir_all(uploads.join(&name)).expect("a folder");
        let output = uploads.join(&name).join("output.txt");
        std::os::unix::fs::symlink(&journal, &output).expect("a link");
        let error = sink.rest(Rest::Finished).await.expect_err("a link");
        assert!(error.to_string().contains("symbolic link"), "{error}");
        assert_eq!(fs::read(&journal).expect("a journal"), b"a journal");
        fs::remove_file(&output).expect("a link");
        rest(&mut sink, Rest::Finished).await;
        assert_eq!(folder.segments().len(), 1);
    });
}

/// Returns the size of all files below a folder that are not media files, and of a receipt.
fn stored_bytes(folder: &Path, receipt: &Receipt) -> usize {
    let is_of_state = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("waiting-") || name.starts_with("totals-")
    };
    let mut n_bytes = serde_json::to_vec(receipt).expect("JSON").len();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        if is_of_state(&entry.path()) {
            n_bytes += usize::try_from(entry.metadata().expect("a file").len()).expect("a size");
        }
    }
    n_bytes
}

#[test]
fn a_step_of_many_keys_writes_each_image_once_and_survives_restarts() {
    // Regression: each commit wrote all images of the step before it into the receipt.
    const N: u32 = 1500;
    let (folder, mut images) = (Folder::new(), Images::new());
    let caption = Some((*"x".repeat(500)).into());
    let item = |images: &mut Images, n: u32| {
        let description = Description { caption: caption.clone(), ..Description::default() };
        images.image_with(&format!("key{n}"), 1, 0, description, Layers::default())
    };
    let items: Vec<Delivery> = (0..N).map(|n| item(&mut images, n)).collect();
    block_on(async {
        let mut receipt: Option<Receipt> = None;
        let mut n_receipt_bytes = 0;
        let mut sink = folder.sink();
        sink.resume(None).await.expect("a target");
        let open = folder.place.path().join(sink.segments.folder());
        for (n, batch) in items.chunks(100).enumerate() {
            let next = deliver(&mut sink, batch).await;
            n_receipt_bytes += serde_json::to_vec(&next).expect("JSON").len();
            // A crash after the commit and before its receipt is stored; a restart; or neither.
            match n % 5 {
                1 => {
                    let last = receipt.clone();
                    sink = folder.sink();
                    sink.resume(last.as_ref()).await.expect("a target");
                    receipt = Some(deliver(&mut sink, batch).await);
                }
                3 => {
                    receipt = Some(next);
                    sink = folder.sink();
                    sink.resume(receipt.as_ref()).await.expect("a target");
                }
                _ => receipt = Some(next),
            }
        }
        let n_stored = stored_bytes(&open, receipt.as_ref().expect("a receipt"));
        let n_once = 1400 * N as usize;
        assert!(n_stored < n_once, "{n_stored} bytes stored");
        assert!(n_receipt_bytes < 15 * 400_000, "{n_receipt_bytes} bytes of receipts");

        // The next step's image completes the row. Its totals are in a file.
        let next = images.image("key0", 2, 0);
        let receipt = deliver(&mut sink, std::slice::from_ref(&next)).await;
        assert!(serde_json::to_vec(&receipt).expect("JSON").len() < 10_000);
        let mut sink = folder.sink();
        sink.resume(Some(&receipt)).await.expect("a target");
        let names: Vec<String> = fs::read_dir(&open)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .filter(|name| name.starts_with("waiting-") || name.starts_with("totals-"))
            .collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let receipt = rest(&mut sink, Rest::Finished).await;
        // A later segment has the summary of all keys.
        let mut sink = folder.sink();
        sink.resume(receipt.as_ref()).await.expect("a target");
        deliver(&mut sink, &[images.image("key1", 3, 0)]).await;
        rest(&mut sink, Rest::Finished).await;
    });
    let segments = folder.segments();
    assert_eq!(segments.iter().map(Segment::steps).collect::<Vec<_>>(), [vec![1, 2], vec![3]]);
    let n_leaves = segments[0].rows()[0]
        .item
        .iter()
        .filter(|item| item.nested_key.last().is_some_and(|name| name == "sha256"));
    assert_eq!(n_leaves.count(), N as usize);
    let summaries = segments[1].records.iter().filter_map(|record| match &record.kind {
        Some(Kind::Summary(changes)) => Some(changes.update.len()),
        _ => None,
    });
    assert!(summaries.max() >= Some(N as usize));
}

#[test]
fn a_receipt_of_an_earlier_version_is_read() {
    let (folder, mut images) = (Folder::new(), Images::new());
    let items = [1, 5, 6, 3].map(|step| images.image("k", step, 0));
    block_on(async {
        let mut sink = folder.sink();
        sink.resume(None).await.expect("a target");
        deliver(&mut sink, &items[..3]).await;
        let receipt = deliver(&mut sink, &items[3..]).await;
        // As it was: late images apart, and no files.
        let mut old: Value = receipt.get().expect("an object");
        let held = old["held"].as_array().expect("images").clone();
        let (late, held): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|item| item["id"]["step"] == 3);
        old["held"] = held.into();
        old["late"] = late.into();
        old.as_object_mut().expect("an object").remove("files");
        let old = Receipt::new(&old).expect("a receipt");
        let mut sink = folder.sink();
        sink.resume(Some(&old)).await.expect("a target");
        rest(&mut sink, Rest::Finished).await;
    });
    let steps: Vec<_> = folder.segments().iter().flat_map(Segment::steps).collect();
    assert_eq!(steps, [1, 5, 6, 3]);
}
