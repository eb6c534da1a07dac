//! Tests that read event files as `TensorBoard`'s default loader does.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde_json::{Map, json};
use tempfile::TempDir;

use super::*;
use crate::durable;
use crate::encode;
use crate::formats::tfevents::{FOOTER_BYTES, HEADER_BYTES};
use crate::media::{Annotation, Description, Layers, RunId, Sha256};
use crate::sinks::contract::{self, Images};

struct LogDir {
    folder: TempDir,
    target: TensorboardTarget,
}

impl LogDir {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = TensorboardConfig { path: folder.path().join("tb"), overlays: true };
        let dir = TargetDir::new(&config.path, Disk::default());
        Self { folder, target: TensorboardTarget { config: Arc::new(config), dir } }
    }

    fn observe(&mut self, observer: Arc<dyn durable::Observe>) {
        self.target.dir = TargetDir::new(&self.target.config.path, Disk::observed(observer));
    }

    fn run(&self) -> TensorboardRun {
        let id = RunId::new("run").expect("a run");
        self.target.run(&RunInfo { id, source: "/run".into(), identity: Map::new() })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join("tb/run").join(path)
    }

    /// Returns steps and images by directory and tag.
    fn shown(&self) -> BTreeMap<(String, String), Vec<(i64, Series)>> {
        let mut shown = BTreeMap::new();
        for idx in 0.. {
            let Ok(bytes) = fs::read(self.at(&file_name(idx))) else { break };
            let folder = file_name(idx).trim_end_matches(FILE).to_owned();
            read(&bytes, |step, series| {
                let of_tag: &mut Vec<(i64, Series)> =
                    shown.entry((folder.clone(), series.tag.clone())).or_default();
                // The loader would drop the earlier steps here. The sink must never cause that.
                assert!(of_tag.iter().all(|(before, _)| *before < step), "{} {step}", series.tag);
                of_tag.push((step, series));
            });
        }
        shown
    }

    /// Returns the number of images in each directory.
    fn counts(&self) -> Vec<(String, usize)> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for ((folder, _), steps) in self.shown() {
            *counts.entry(folder).or_default() +=
                steps.iter().map(|(_, series)| series.images.len()).sum::<usize>();
        }
        counts.into_iter().collect()
    }
}

/// Reads a file to its end. The last record must be whole.
fn read(mut bytes: &[u8], mut see: impl FnMut(i64, Series)) {
    let mut is_first = true;
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() {
        let n =
            usize::try_from(tfevents::payload_bytes(*header).expect("a header")).expect("a length");
        let payload = tfevents::payload(&rest[..n + FOOTER_BYTES]).expect("a payload");
        if is_first {
            assert!(payload.ends_with(b"brain.Event:2"));
        } else {
            let step = tfevents::outline(payload, n as u64).expect("an event").step;
            tfevents::read_series(payload)
                .expect("an event")
                .into_iter()
                .for_each(|series| see(step, series));
        }
        is_first = false;
        bytes = &rest[n + FOOTER_BYTES..];
    }
    assert!(bytes.is_empty());
}

impl contract::Target for LogDir {
    type Sink = TensorboardRun;

    fn open(&self) -> TensorboardRun {
        self.run()
    }

    fn seen(&self) -> Vec<(String, u64, Sha256)> {
        let mut seen = Vec::new();
        for ((_, tag), steps) in self.shown() {
            for (step, series) in steps {
                let step = u64::try_from(step).expect("a step");
                let image = |bytes: &Vec<u8>| (tag.clone(), step, Sha256::of(bytes));
                seen.extend(series.images.iter().map(image));
            }
        }
        seen
    }
}

async fn deliver(sink: &mut TensorboardRun, items: &[Delivery]) -> Receipt {
    sink.commit(items).await.expect("a receipt")
}

async fn resumed(dir: &LogDir, last: Option<&Receipt>) -> TensorboardRun {
    let mut sink = dir.run();
    sink.resume(last).await.expect("a target");
    sink
}

#[tokio::test]
async fn it_passes_the_contract() {
    contract::check(LogDir::new).await;
}

#[tokio::test]
async fn the_images_of_a_step_are_one_event_in_their_order() {
    let (dir, mut images) = (LogDir::new(), Images::new());
    let items: Vec<Delivery> = [2, 0, 1].map(|index| images.image("k", 5, index)).to_vec();
    let mut sink = resumed(&dir, None).await;
    deliver(&mut sink, &items).await;
    let shown = dir.shown();
    let steps = &shown[&(String::new(), "k".to_owned())];
    let [(5, series)] = &steps[..] else { panic!("{steps:?}") };
    let want = [1, 2, 0].map(|i: usize| fs::read(items[i].path()).expect("a file"));
    assert_eq!((&series.images[..], series.width, series.height), (&want[..], 4, 3));
}

#[tokio::test]
async fn images_of_no_later_step_go_to_another_directory() {
    let (dir, mut images) = (LogDir::new(), Images::new());
    let mut sink = resumed(&dir, None).await;
    // Within a batch order doesn't matter.
    let items: Vec<Delivery> = [9, 3, 5].map(|step| images.image("k", step, 0)).to_vec();
    deliver(&mut sink, &items).await;
    assert_eq!(dir.counts(), [(String::new(), 3)]);
    // The same step again, an earlier step, and another key.
    let other = images.image("other", 1, 0);
    deliver(&mut sink, &[images.image("k", 9, 1), images.image("k", 4, 0), other]).await;
    deliver(&mut sink, &[images.image("k", 9, 2)]).await;
    let want = [("", 4), ("late1/", 2), ("late2/", 1)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!(dir.counts(), want);
    // The steps are read again after a start.
    drop(sink);
    let mut sink = resumed(&dir, None).await;
    deliver(&mut sink, &[images.image("k", 10, 0), images.image("k", 9, 3)]).await;
    assert_eq!(dir.counts()[0].1, 5);
    assert_eq!(dir.counts()[3], ("late3/".to_owned(), 1));
}

#[tokio::test]
async fn only_torn_records_are_cut_off() {
    let (dir, mut images) = (LogDir::new(), Images::new());
    let items: Vec<Delivery> = (0..4).map(|step| images.image("k", step, 0)).collect();
    let mut sink = resumed(&dir, None).await;
    let receipt = deliver(&mut sink, &items[..1]).await;
    deliver(&mut sink, &items[1..3]).await;
    drop(sink);
    let path = dir.at(FILE);
    let whole = fs::read(&path).expect("a file");
    for n_torn in [1, 11, 12, 40] {
        let mut file = OpenOptions::new().append(true).open(&path).expect("a file");
        file.write_all(&whole[whole.len() - 200..][..n_torn]).expect("a write");
        drop(file);
        let mut sink = resumed(&dir, Some(&receipt)).await;
        assert_eq!(fs::read(&path).expect("a file"), whole, "{n_torn}");
        deliver(&mut sink, &items[1..3]).await;
        assert_eq!(fs::read(&path).expect("a file"), whole, "{n_torn}");
    }
    // Images are recognized in another order and between new ones.
    let mut sink = resumed(&dir, Some(&receipt)).await;
    let early = deliver(&mut sink, &items[2..4]).await;
    let longer = fs::read(&path).expect("a file");
    assert!(longer.starts_with(&whole) && longer.len() > whole.len());
    drop(sink);
    // The receipt excludes the image that was not delivered again.
    let mut sink = resumed(&dir, Some(&early)).await;
    deliver(&mut sink, &items[1..2]).await;
    assert_eq!(fs::read(&path).expect("a file"), longer);
    // Damage behind a receipt, as after a power loss.
    drop(sink);
    let mut damaged = longer.clone();
    let n = damaged.len();
    damaged[n - 30] ^= 1;
    fs::write(&path, damaged).expect("a write");
    let mut sink = resumed(&dir, Some(&receipt)).await;
    deliver(&mut sink, &items[1..]).await;
    assert_eq!(fs::read(&path).expect("a file"), longer);
}

#[tokio::test]
async fn two_programs_do_not_write_to_one_file() {
    let (dir, mut images) = (LogDir::new(), Images::new());
    let mut sink = resumed(&dir, None).await;
    deliver(&mut sink, &[images.image("k", 0, 0)]).await;
    let error = dir.run().resume(None).await.expect_err("a locked file");
    assert!(error.to_string().contains("another process writes"), "{error}");
    sink.rest(Rest::Leaving).await.expect("a rest");
    resumed(&dir, None).await;
}

/// Refuses the next write or sync.
#[derive(Default)]
struct Refusing(std::sync::Mutex<Option<&'static str>>);

impl durable::Observe for Refusing {
    fn before(&self, step: &durable::Step<'_>) -> io::Result<()> {
        let what = match step {
            durable::Step::Write { .. } => "write",
            durable::Step::Sync(_) => "sync",
            _ => return Ok(()),
        };
        let refused = self.0.lock().expect("a step").take_if(|refused| *refused == what);
        refused.map_or(Ok(()), |_| Err(io::ErrorKind::StorageFull.into()))
    }
}

#[tokio::test]
async fn a_full_disk_loses_no_image() {
    for what in ["write", "sync"] {
        let (mut dir, mut images) = (LogDir::new(), Images::new());
        let refusing = Arc::<Refusing>::default();
        dir.observe(refusing.clone());
        let items: Vec<Delivery> = (0..4).map(|step| images.image("k", step, 0)).collect();
        let mut sink = resumed(&dir, None).await;
        let receipt = deliver(&mut sink, &items[..2]).await;
        let before = fs::read(dir.at(FILE)).expect("a file");
        *refusing.0.lock().expect("a step") = Some(what);
        let error = sink.commit(&items[2..]).await.expect_err("a full disk");
        assert!(matches!(error, SinkError::Retry { .. }), "{error}");
        assert_eq!(fs::read(dir.at(FILE)).expect("a file"), before, "{what}");
        sink.resume(Some(&receipt)).await.expect("a target");
        deliver(&mut sink, &items[2..]).await;
        assert_eq!(dir.counts(), [(String::new(), 4)]);
    }
}

#[tokio::test]
async fn records_before_a_rejection_are_synced() {
    // The second call writes nothing. Its receipt once covered records that were not synced.
    let (mut dir, mut images) = (LogDir::new(), Images::new());
    let refusing = Arc::<Refusing>::default();
    dir.observe(refusing.clone());
    let mut items = [images.image("k", 0, 0), images.image("k", 1, 0)];
    items[1].file.file_type = crate::media::FileType::Tiff;
    let mut sink = resumed(&dir, None).await;
    let error = sink.commit(&items).await.expect_err("a TIFF");
    assert!(matches!(error, SinkError::Reject { seq, .. } if seq == items[1].seq), "{error}");
    *refusing.0.lock().expect("a step") = Some("sync");
    let error = sink.commit(&items[..1]).await.expect_err("a full disk");
    assert!(matches!(error, SinkError::Retry { .. }), "{error}");
}

#[tokio::test]
async fn a_large_step_is_split_into_records() {
    let mut images = Images::new();
    let mut items: Vec<Delivery> = (0..4).map(|index| images.image("k", 0, index)).collect();
    items.iter_mut().for_each(|item| item.file.size = RECORD_BYTES_MAX / 2);
    items[3].file.size = RECORD_BYTES_MAX + 1;
    let items: Vec<&Delivery> = items.iter().collect();
    assert_eq!(
        [n_of_a_record(&items), n_of_a_record(&items[2..]), n_of_a_record(&items[3..])],
        [2, 1, 1]
    );
}

/// A set of boxes or a mask, in the run's folder.
fn annotation(folder: &Path, name: &str, bytes: &[u8]) -> Annotation {
    fs::write(folder.join(name), bytes).expect("a file");
    Annotation {
        path: name.to_owned(),
        sha256: Sha256::of(bytes),
        size: bytes.len() as u64,
        class_labels: None,
        source: None,
    }
}

#[tokio::test]
async fn boxes_and_masks_are_drawn_under_a_separate_tag() {
    let (dir, mut images) = (LogDir::new(), Images::new());
    let at = json!({"minX": 0, "maxX": 0.25, "minY": 0, "maxY": 1});
    let boxes = json!({"box_data": [{"position": at, "class_id": 1}]}).to_string();
    let boxes = annotation(images.folder(), "boxes.json", boxes.as_bytes());
    let gone = Annotation { path: "gone.png".to_owned(), ..boxes.clone() };
    let layers = Layers {
        classes: Some(json!([{"id": 1, "name": "car_1"}]).into()),
        boxes: [("pred".to_owned(), boxes)].into(),
        masks: [("gt".to_owned(), gone)].into(),
        ..Layers::default()
    };
    let description = Description { caption: Some("a *cat*".into()), ..Description::default() };
    let drawn = images.image_with("k", 5, 1, description, layers);
    let items = [images.image("k", 5, 0), drawn, images.image("k/overlay", 5, 0)];
    let mut sink = resumed(&dir, None).await;
    deliver(&mut sink, &items).await;
    let shown = dir.shown();
    let of_tag = |tag: &str| &shown[&(String::new(), tag.to_owned())][0].1;
    assert_eq!(shown.len(), 3);
    assert_eq!(of_tag("k/overlay (key)").images.len(), 1);
    assert_eq!(of_tag("k").description, "Captions of step 5:\n\n* 1: a \\*cat\\*");
    let overlay = of_tag("k/overlay");
    let want = "Boxes and masks, drawn on the images.\n\n* `#00cd3c` 1 car\\_1";
    assert_eq!(overlay.description, want);
    let [plain, drawn] = &overlay.images[..] else { panic!("{overlay:?}") };
    assert_eq!(plain, &of_tag("k").images[0]);
    let before = encode::read(&of_tag("k").images[1], 100).expect("a picture");
    let after = encode::read(drawn, 100).expect("a picture");
    for (i, (before, after)) in before.bytes.chunks(3).zip(after.bytes.chunks(3)).enumerate() {
        // The first column of four.
        let want = if i % 4 == 0 { &[0, 0xcd, 0x3c][..] } else { before };
        assert_eq!(after, want, "pixel {i}");
    }
}

#[tokio::test]
async fn webp_is_converted_to_png() {
    let mut images = Images::new();
    let mut item = images.image("k", 0, 0);
    let pixels = encode::read(&fs::read(item.path()).expect("a file"), 100).expect("a picture");
    let file_type = crate::media::FileType::Webp;
    let encoding = encode::Encoding { file_type, ..encode::Encoding::default() };
    let webp = encode::encode(&pixels, encoding).expect("a file").bytes;
    fs::write(item.path(), &webp).expect("a file");
    (item.file.size, item.file.file_type) = (webp.len() as u64, file_type);
    item.file.sha256 = Sha256::of(&webp);
    let made = picture::file(&item).expect("a file");
    assert!(made.starts_with(b"\x89PNG"));
    assert_eq!(encode::read(&made, 100).expect("a picture"), pixels);
    item.file.size += 1;
    let error = picture::file(&item).expect_err("another length").to_string();
    assert!(error.contains("bytes, want"), "{error}");
}

#[tokio::test]
async fn links_in_the_log_directory_are_not_followed() {
    // An event file that was a link to the store's journal once truncated the journal.
    let root = |dir: &LogDir| dir.folder.path().join("tb");
    contract::check_links(LogDir::new, root, |_| false).await;
}

#[tokio::test]
async fn only_event_files_with_safelights_mark_are_cut() {
    let (dir, mut images) = (LogDir::new(), Images::new());
    let mut sink = resumed(&dir, None).await;
    let receipt = deliver(&mut sink, &[images.image("k", 0, 0)]).await;
    drop(sink);
    let ours = fs::read(dir.at(FILE)).expect("a file");
    let first = tfevents::first_record(7.0);
    let foreign = tfevents::record(1, 1.0, Vec::new(), vec![Series::default()]);
    let zeros = |n: usize| vec![0; n];
    for (name, bytes, n_left) in [
        ("a journal", b"{\"v\":1}\n".repeat(9), None),
        ("a short text", b"note".to_vec(), None),
        ("zeros", zeros(5000), None),
        ("a file of another writer", [&first[..], &foreign].concat(), None),
        ("a torn file of another writer", [&first[..], &foreign[..40]].concat(), None),
        ("nothing", Vec::new(), Some(0)),
        ("our first record, torn", first[..20].to_vec(), Some(0)),
        ("a first record that is not there yet", zeros(30), Some(0)),
        ("our second record, torn", ours[..ours.len() - 9].to_vec(), Some(first.len())),
        ("its first bytes", ours[..first.len() + 5].to_vec(), Some(first.len())),
        ("zeros behind our first", [&first[..], &zeros(5000)].concat(), Some(first.len())),
        ("anything behind ours", [&ours[..], b"anything"].concat(), Some(ours.len())),
    ] {
        fs::write(dir.at(FILE), &bytes).expect("a file");
        for receipt in [None, Some(&receipt)] {
            let resumed = dir.run().resume(receipt).await;
            let left = fs::read(dir.at(FILE)).expect("a file");
            if let Some(n) = n_left {
                resumed.expect("a target");
                assert_eq!(left, bytes[..n], "{name}");
            } else {
                let error = resumed.expect_err(name);
                assert!(matches!(error, SinkError::Retry { .. }), "{error}");
                assert!(error.to_string().contains("did not write"), "{name}: {error}");
                assert_eq!(left, bytes, "{name}");
            }
        }
    }
}
