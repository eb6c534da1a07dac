//! Values of dumps, as clients get them: proofs, values, previews, comparisons; and dumps of hostile jobs.
//!
//! | file | content |
//! | --- | --- |
//! | `golden` | values of every type and format, as NumPy and the library that wrote the dump read them |

mod golden;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::api::Proof;
use super::params::Params;
use super::shown::Shown;
use super::testing::{Got, get};
use super::{Gallery, GalleryOf};
use crate::config::{Config, InEffect, Live, WatchConfig};
use crate::decode::{Contents, DecodeOptions, contents};
use crate::ingest::{Engine, Mode, Shared};
use crate::media::{MediaKey, RunId, Step};
use crate::store::lock::Holder;
use crate::store::{self, Reader};
use crate::tensor::DType;
use crate::values::Region;

/// A run directory, and a store of what was made of it.
struct Ingested {
    folder: tempfile::TempDir,
    live: Live,
}

impl Ingested {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("run/dumps")).expect("a run directory");
        let watch = WatchConfig::of_run(folder.path().join("run"));
        let live = Live { watches: vec![watch], ..Config::default().live };
        Self { folder, live }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join("run").join(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        fs::write(self.at(path), bytes).expect("a dump");
    }

    /// Writes a `.npy` file of float32.
    fn npy(&self, path: &str, shape: &str, values: &[f32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.write(path, &npy("<f4", shape, &bytes));
    }

    fn line(&self, line: &Value) {
        let mut text = fs::read(self.at("log.media.jsonl")).unwrap_or_default();
        text.extend(line.to_string().into_bytes());
        text.push(b'\n');
        self.write("log.media.jsonl", &text);
    }

    /// Reads the run directory, and returns the store.
    fn ingest(&self) -> Reader {
        let config = Config { live: self.live.clone(), ..Config::default() };
        let holder = Holder { pid: 1, command: "test".to_owned(), socket: None };
        let opened =
            store::open(&self.folder.path().join("store"), &holder, std::time::Duration::ZERO);
        let (writer, reader) = opened.expect("a store");
        let shared = Shared::default();
        let engine = Engine::new(Mode::Once, config, writer, reader.clone(), shared);
        let (_commands, commands_in) = crossbeam_channel::bounded(1);
        engine.expect("an engine").run(&commands_in).expect("a run").expect("a writer");
        reader
    }

    fn gallery_by(&self, reader: Reader, change: impl FnOnce(&mut Config)) -> Gallery {
        let mut config = Config { live: self.live.clone(), ..Config::default() };
        change(&mut config);
        let (settings, in_effect) = (config.boot.gallery, InEffect::new(config.live));
        let free = Arc::new(std::sync::Mutex::new(Some(0)));
        let of = GalleryOf::Store(reader);
        Gallery::new(of, settings, in_effect, Arc::default(), free, None, false).expect("a gallery")
    }

    fn gallery(&self) -> Gallery {
        self.gallery_by(self.ingest(), |_| {})
    }
}

/// A `.npy` file.
fn npy(descr: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}").into_bytes();
    header.resize((header.len() + 11).next_multiple_of(64) - 11, b' ');
    header.push(b'\n');
    let length = u16::try_from(header.len()).expect("a short header").to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], &header, bytes].concat()
}

fn place(key: &str, step: u64, index: u32) -> String {
    let (step, index) = (step.to_string(), index.to_string());
    let place = [("run", "run"), ("key", key), ("step", &step), ("index", &index)];
    serde_urlencoded::to_string(place).expect("a query")
}

async fn ask(gallery: &Gallery, path: &str, place: &str, more: &str) -> Got {
    get(gallery, &format!("/api/v1/{path}?{place}{more}"), &[]).await
}

/// The type, shape and elements of a `.npy` file.
fn array(file: &[u8]) -> (DType, Vec<u64>, Vec<u8>) {
    let options = DecodeOptions {
        header_bytes_max: 1 << 10,
        storage_bytes_max: 1 << 24,
        ..DecodeOptions::default()
    };
    let Ok(Contents::Tensors { mut tensors, .. }) = contents(&file, &options) else {
        panic!("no array: {:?}", String::from_utf8_lossy(file));
    };
    let header = tensors.remove(0).header.expect("a header");
    let start = usize::try_from(header.storage.offset).expect("an offset");
    (header.dtype, header.shape.axes().to_vec(), file[start..].to_vec())
}

fn floats(file: &[u8]) -> Vec<f32> {
    let (dtype, _, bytes) = array(file);
    assert_eq!(dtype, DType::F32);
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// The values of an 8 × 8 picture, in a range that is not the stored one.
fn picture(first: f32) -> Vec<f32> {
    (0u8..64).map(|i| f32::from(i) / 100.0 + first).collect()
}

#[tokio::test]
async fn python_reads_what_the_item_was_made_of() {
    let run = Ingested::new();
    let channels_first: Vec<f32> = (0u8..48).map(f32::from).collect();
    run.npy("dumps/chw.npy", "(2, 3, 2, 4)", &channels_first);
    let line = json!({ "key": "a \"b\"", "step": 7, "data": "dumps/chw.npy", "format": "NCHW", "caption": ["x", "y"] });
    run.line(&line);
    let gallery = run.gallery();
    let place = place("a \"b\"", 7, 1);
    let got = ask(&gallery, "values.npy", &place, "").await;
    let want: Vec<f32> = (24u8..32).flat_map(|i| [i, i + 8, i + 16].map(f32::from)).collect();
    assert_eq!(floats(got.body()), want);
    let item = ask(&gallery, "item", &place, "").await.json();
    let path = run.at("dumps/chw.npy").canonicalize().expect("a path");
    let load = format!("np.load({:?})[1]", path.to_string_lossy());
    assert_eq!(item["python"], load);
    let log = format!("{load}.transpose(1, 2, 0), caption=\"y\")}}, step=7)");
    assert_eq!(item["wandb"], format!("wandb.log({{\"a \\\"b\\\"\": wandb.Image({log}"));
    let dump = &item["dump"];
    assert_eq!((&dump["proof"], &dump["dtype"]), (&json!("digest"), &json!("float32")));
    assert_eq!((&dump["shape"], &dump["image"]), (&json!([2, 3, 2, 4]), &json!(1)));
    assert_eq!((&dump["size"], &dump["span"]), (&json!([2, 4, 3]), &json!([0.0, 255.0])));
}

/// A run with one picture, key `k`, step 1, of float32 in [0.2, 0.83].
fn one_picture() -> Ingested {
    let run = Ingested::new();
    run.npy("dumps/a.npy", "(8, 8)", &picture(0.2));
    run.line(&json!({ "key": "k", "step": 1, "data": "dumps/a.npy" }));
    run
}

/// The proof, and the type of the values.
async fn proof(gallery: &Gallery) -> (String, DType) {
    let got = ask(gallery, "values.npy", &place("k", 1, 0), "").await;
    assert_eq!(got.status, StatusCode::OK, "{got:?}");
    (got.header("safelight-proof").to_owned(), array(got.body()).0)
}

#[tokio::test]
async fn a_dump_that_is_not_the_one_is_not_served() {
    let run = one_picture();
    let gallery = run.gallery();
    let dump = run.at("dumps/a.npy");
    let (good, elsewhere) = (fs::read(&dump).expect("a dump"), run.at("elsewhere.npy"));
    let digest = ("digest".to_owned(), DType::F32);
    let stored = ("none".to_owned(), DType::U8);
    assert_eq!(proof(&gallery).await, digest);
    // Other values, of the same size.
    run.npy("dumps/a.npy", "(8, 8)", &picture(0.1));
    assert_eq!(proof(&gallery).await, stored);
    assert_eq!(proof(&gallery).await, stored, "as remembered");
    let item = ask(&gallery, "item", &place("k", 1, 0), "").await.json();
    assert_eq!(item["dump"]["proof"], Value::Null);
    assert_eq!(item["dump"]["reason"], "its dump has changed since the image was made");
    assert!(item["wandb"].as_str().is_some_and(|python| python.contains("media/images/k_1")));
    // Written again as it was.
    fs::write(&dump, &good).expect("a dump");
    assert_eq!(proof(&gallery).await, digest);
    // Truncated.
    fs::write(&dump, &good[..good.len() - 1]).expect("a dump");
    assert_eq!(proof(&gallery).await, stored);
    // A link to the same values, and then through a folder.
    fs::write(&elsewhere, &good).expect("a dump");
    fs::remove_file(&dump).expect("a dump");
    symlink(&elsewhere, &dump).expect("a link");
    assert_eq!(proof(&gallery).await, stored);
    fs::remove_file(&dump).expect("a link");
    assert_eq!(proof(&gallery).await, stored, "gone");
    fs::remove_dir(run.at("dumps")).expect("a folder");
    fs::create_dir(run.at("others")).expect("a folder");
    fs::write(run.at("others/a.npy"), &good).expect("a dump");
    symlink(run.at("others"), run.at("dumps")).expect("a link");
    assert_eq!(proof(&gallery).await, stored);
    fs::remove_file(run.at("dumps")).expect("a link");
    fs::rename(run.at("others"), run.at("dumps")).expect("a folder");
    assert_eq!(proof(&gallery).await, digest);
    // The run directory is gone, or another one lies there.
    let run_dir = run.folder.path().join("run");
    fs::rename(&run_dir, run.folder.path().join("moved")).expect("a run directory");
    assert_eq!(proof(&gallery).await, stored);
    fs::create_dir(&run_dir).expect("a run directory");
    fs::write(run_dir.join("safelight.json"), r#"{"id":"other"}"#).expect("an identity");
    assert_eq!(proof(&gallery).await, stored);
    let item = ask(&gallery, "item", &place("k", 1, 0), "").await.json();
    assert!(
        item["dump"]["reason"].as_str().is_some_and(|why| why.ends_with("is the run other now"))
    );
}

#[tokio::test]
async fn a_dump_that_changes_while_it_is_read_is_an_error() {
    let run = one_picture();
    let gallery = run.gallery();
    let of = Params::of_query(Some(&place("k", 1, 0))).and_then(|mut params| params.place());
    let shown = Shown::open(&gallery.0, &of.expect("a place")).expect("values");
    assert_eq!(shown.proof(), Some(Proof::Digest));
    run.npy("dumps/a.npy", "(8, 8)", &picture(0.1));
    let failure = shown.values(Region::whole(8, 8)).expect_err("no values");
    assert_eq!((failure.problem().status, failure.problem().code), (409, "dump-changed"));
    run.write("dumps/a.npy", b"");
    let failure = shown.values(Region::whole(8, 8)).expect_err("no values");
    assert_eq!(failure.problem().code, "dump-changed");
}

#[tokio::test]
async fn dumps_are_withheld_if_the_configuration_says_so() {
    let mut run = one_picture();
    run.live.limits.max_items = 1;
    run.line(&json!({ "key": "k", "step": 1, "data": "dumps/a.npy", "caption": "held" }));
    let reader = run.ingest();
    let gallery = run.gallery_by(reader, |config| config.boot.gallery.dumps = false);
    for (path, index) in [("values.npy", 0), ("histogram", 0), ("develop.png", 1)] {
        let got = ask(&gallery, path, &place("k", 1, index), "").await;
        assert_eq!((got.status, got.code()), (StatusCode::FORBIDDEN, "dumps-withheld".to_owned()));
    }
    let got = ask(&gallery, "develop.png", &place("k", 1, 0), "").await;
    assert_eq!((got.status, got.header("safelight-proof")), (StatusCode::OK, "none"));
    let item = ask(&gallery, "item", &place("k", 1, 0), "").await.json();
    assert_eq!((&item["dump"]["proof"], &item["python"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn the_109th_image_is_previewed_as_a_release_would_store_it() {
    let mut run = Ingested::new();
    // Only the last image has values below 0, which decide the rule of all.
    let mut values: Vec<f32> = (0u16..110 * 64).map(|i| f32::from(i % 97) / 97.0).collect();
    values[109 * 64..].iter_mut().for_each(|value| *value = -*value);
    run.npy("dumps/a.npy", "(110, 8, 8)", &values);
    run.line(&json!({ "key": "k", "step": 1, "data": "dumps/a.npy", "format": "NHW" }));
    let gallery = run.gallery();
    let held = ask(&gallery, "item", &place("k", 1, 108), "").await.json();
    assert_eq!((&held["item"]["state"], &held["dump"]["proof"]), (&json!("held"), &json!("held")));
    assert_eq!(held["dump"]["span"], json!([-1.0, 1.0]));
    let preview = ask(&gallery, "develop.png", &place("k", 1, 108), "").await;
    assert_eq!(preview.header("safelight-proof"), "held");
    assert_eq!(preview.header("content-type"), "image/png");
    let got = ask(&gallery, "values.npy", &place("k", 1, 108), "").await;
    assert_eq!(floats(got.body()), values[108 * 64..109 * 64]);
    // What a release stores.
    let larger = tempfile::tempdir().expect("a folder");
    fs::rename(run.folder.path().join("run"), larger.path().join("run")).expect("a run directory");
    let got = ask(&gallery, "develop.png", &place("k", 1, 108), "").await;
    assert_eq!((got.status, got.code()), (StatusCode::CONFLICT, "dump-changed".to_owned()));
    run.folder = larger;
    run.live.limits.max_items = 200;
    run.live.watches = vec![WatchConfig::of_run(run.folder.path().join("run"))];
    let reader = run.ingest();
    let (run_id, key) = (RunId::new("run").expect("an id"), MediaKey::new("k").expect("a key"));
    let stored = reader.item(&run_id, &key, Step(1), 108).expect("a store").expect("an item");
    let image = stored.as_image().expect("an image");
    let file = fs::read(reader.run_folder(&run_id).join(&image.file.path)).expect("a file");
    assert!(preview.body() == file, "the preview is not the file of a release");
    // An image of that batch is developed by its rule, too.
    let gallery = run.gallery_by(reader, |_| {});
    let got = ask(&gallery, "develop.png", &place("k", 1, 108), "").await;
    assert_eq!(got.header("safelight-proof"), "digest");
    assert!(got.body() == file, "not the stored file");
}

#[tokio::test]
async fn images_of_large_dumps_are_proved_by_their_pixels() {
    let run = Ingested::new();
    let n = 256 * 256;
    let mut values: Vec<f32> =
        (0u16..911).cycle().take(6 * n).map(|i| f32::from(i) / 911.0).collect();
    values[n..2 * n].iter_mut().for_each(|value| *value = -*value);
    run.npy("dumps/a.npy", "(6, 256, 256)", &values);
    let line = json!({ "key": "k", "step": 1, "data": "dumps/a.npy", "format": "NHW" });
    run.line(&line);
    let gallery = run.gallery();
    for index in [0, 1, 5] {
        let got = ask(&gallery, "values.npy", &place("k", 1, index), "&w=8&h=1").await;
        assert_eq!(got.header("safelight-proof"), "pixels", "{index}");
        let first = index as usize * n;
        assert_eq!(floats(got.body()), values[first..first + 8]);
    }
    // Another image of the dump is another now.
    values[5 * n..].iter_mut().for_each(|value| *value = 1.0 - *value);
    run.npy("dumps/a.npy", "(6, 256, 256)", &values);
    for (index, want) in [(0, "pixels"), (1, "pixels"), (5, "none")] {
        let got = ask(&gallery, "values.npy", &place("k", 1, index), "&w=8&h=1").await;
        assert_eq!(got.header("safelight-proof"), want, "{index}");
    }
}

#[tokio::test]
async fn too_many_values_are_refused_with_a_way_out() {
    let run = Ingested::new();
    run.npy("dumps/a.npy", "(2100, 2100)", &vec![0.5; 2100 * 2100]);
    run.line(&json!({ "key": "k", "step": 1, "data": "dumps/a.npy" }));
    let reader = run.ingest();
    let gallery = run.gallery_by(reader.clone(), |_| {});
    let got = ask(&gallery, "values.npy", &place("k", 1, 0), "").await;
    assert_eq!((got.status, got.code()), (StatusCode::PAYLOAD_TOO_LARGE, "too-large".to_owned()));
    assert_eq!((&got.json()["every"], &got.json()["allowed"]), (&json!(2), &json!(16 << 20)));
    let got = ask(&gallery, "values.npy", &place("k", 1, 0), "&every=2").await;
    assert_eq!(array(got.body()).1, [1050, 1050, 1]);
    let small = run.gallery_by(reader, |config| config.boot.gallery.memory_bytes_max = 16 << 20);
    let got = ask(&small, "develop.png", &place("k", 1, 0), "").await;
    assert_eq!(got.status, StatusCode::PAYLOAD_TOO_LARGE, "{got:?}");
    let got = ask(&small, "develop.png", &place("k", 1, 0), "&size=300").await;
    let picture = crate::encode::read(got.body(), 1 << 20).expect("a picture");
    assert_eq!((picture.width, picture.height, picture.bytes[0]), (300, 300, 128));
}

#[tokio::test]
async fn values_are_counted() {
    let run = Ingested::new();
    let mut values: Vec<f32> = (0u8..64).map(f32::from).collect();
    (values[0], values[1], values[2]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    run.npy("dumps/a.npy", "(8, 8)", &values);
    run.line(&json!({ "key": "k", "step": 1, "data": "dumps/a.npy" }));
    let gallery = run.gallery();
    let got = ask(&gallery, "histogram", &place("k", 1, 0), "&bins=2&low=10&high=20").await;
    assert_eq!(got.header("safelight-proof"), "digest");
    let channel = json!({
        "counts": [5, 6], "nan": 1, "positive_inf": 1, "negative_inf": 1, "below": 7, "above": 43,
        "min": 3.0, "max": 63.0,
    });
    let histogram = got.json();
    assert_eq!(histogram["channels"], json!([channel]));
    let percentile = |i: usize| histogram["percentiles"][i].as_f64().expect("a percentile");
    assert!((percentile(0) - 3.0).abs() < 0.02 && (percentile(1) - 63.0).abs() < 0.02);
    for query in ["&bins=0", "&bins=5000", "&low=3&high=2", "&low=nan", "&bin=2"] {
        let got = ask(&gallery, "histogram", &place("k", 1, 0), query).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{query}");
    }
}

#[tokio::test]
async fn pictures_are_developed() {
    let run = one_picture();
    let gallery = run.gallery();
    let of = async |more: &str| {
        let got = ask(&gallery, "develop.png", &place("k", 1, 0), more).await;
        assert_eq!(got.status, StatusCode::OK, "{more}: {got:?}");
        crate::encode::read(got.body(), 64).expect("a picture")
    };
    let gray = of("&low=0.2&high=0.83").await;
    assert_eq!((gray.bytes[0], gray.bytes[63 * 3]), (0, 255));
    let colored = of("&low=0.2&high=0.83&colormap=viridis").await;
    assert_eq!(colored.bytes[..3], [68, 1, 84]);
    let part = of("&low=0.2&high=0.83&x=7&y=7").await;
    assert_eq!((part.width, part.height, part.bytes[0]), (1, 1, 255));
    let stored = of("&x=1&y=2&w=3&h=4").await;
    assert_eq!((stored.width, stored.height), (3, 4));
    assert_eq!((of("&size=4").await.width, of("&gamma=2").await.width), (4, 8));
    for query in ["&low=1&high=1", "&channel=1", "&colormap=none", "&nan=red", "&x=8", "&gamma=0"] {
        let got = ask(&gallery, "develop.png", &place("k", 1, 0), query).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{query}");
    }
}

#[tokio::test]
async fn two_items_are_compared() {
    let run = one_picture();
    run.npy("dumps/b.npy", "(8, 8)", &picture(0.25));
    run.npy("dumps/c.npy", "(4, 16)", &picture(0.25));
    run.line(&json!({ "key": "k", "step": 2, "data": "dumps/b.npy" }));
    run.line(&json!({ "key": "k", "step": 3, "data": "dumps/c.npy" }));
    let gallery = run.gallery();
    let pair = |a: u64, b: u64| {
        let pair = [("a", place("k", a, 0)), ("b", place("k", b, 0))];
        serde_urlencoded::to_string(pair).expect("a query")
    };
    let got = ask(&gallery, "compare", &pair(1, 2), "").await.json();
    assert_eq!((&got["reason"], &got["proofs"]), (&Value::Null, &json!(["digest", "digest"])));
    assert_eq!((&got["peak"], &got["whole"]["n_finite"]), (&json!(1.0), &json!(64)));
    let mse = got["whole"]["mse"].as_f64().expect("a figure");
    let psnr = got["whole"]["psnr"].as_f64().expect("a figure");
    assert!((mse - 0.0025).abs() < 1e-6 && (psnr - 26.02).abs() < 0.01, "{got}");
    assert_eq!(got["whole"]["ssim"], Value::Null, "smaller than a window");
    let got = ask(&gallery, "compare", &pair(1, 1), "&peak=2").await.json();
    assert_eq!((&got["peak"], &got["whole"]["mse"]), (&json!(2.0), &json!(0.0)));
    assert_eq!(got["whole"]["psnr"], Value::Null);
    let got = ask(&gallery, "compare", &pair(1, 3), "").await.json();
    assert!(got["reason"].as_str().is_some_and(|why| why.contains("8 × 8")), "{got}");
    assert_eq!((&got["whole"], &got["channels"]), (&Value::Null, &json!([])));
    let map = ask(&gallery, "compare.png", &pair(1, 2), "&kind=signed&low=-0.05&high=0.05").await;
    let map = crate::encode::read(map.body(), 64).expect("a map");
    assert_eq!((map.width, map.height), (8, 8));
    for (query, want) in [("&kind=ssim", 409), ("&kind=x", 400), ("&low=2&high=1", 400)] {
        let got = ask(&gallery, "compare.png", &pair(1, 2), query).await;
        assert_eq!(got.status.as_u16(), want, "{query}");
    }
    let got = ask(&gallery, "compare.png", &pair(1, 3), "").await;
    assert_eq!(got.code(), "not-comparable");
}
