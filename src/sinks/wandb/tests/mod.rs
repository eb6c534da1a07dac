//! Tests of the W&B sink, in addition to the contract tests of all sinks.

mod segments;
mod receipts;
mod uploads;
mod links;

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

    fn tells_what_it_has(&self) -> bool {
        // A run whose state was lost begins with a new segment.
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
