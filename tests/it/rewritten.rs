//! Dumps that are rewritten, and dumps that are truncated for a while or forever.
//!
//! `SAFELIGHT_REWRITES=1000` rewrites a dump as often as the project's goal demands.

use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::thread;
use std::time::Duration;

use image::{DynamicImage, ImageFormat, RgbImage};
use safelight::media::Sha256;
use serde_json::{Value, json};

use crate::harness::{
    Random, TempRun, WITH_SHA256, gray, npy, npz, number_from, number_in, wait_for,
};

/// Returns the digest of the dump of each image that was ever committed.
fn committed_digests(temp: &TempRun) -> Vec<String> {
    let digest = |item: &Value| {
        assert_eq!(item["state"], "image", "{item}");
        item["source"]["sha256"].as_str().expect("a digest").to_owned()
    };
    temp.journaled_items().iter().map(digest).collect()
}

fn picture(n: u64) -> Vec<u8> {
    let mut random = Random(n + 1);
    let first = n.to_le_bytes();
    let rest = (0..64 * 64 - 8).map(|_| random.below(256).to_le_bytes()[0]);
    npy("|u1", &[64, 64], &first.into_iter().chain(rest).collect::<Vec<u8>>())
}

#[test]
fn the_last_content_of_a_rewritten_dump_stays() {
    let n = number_from("SAFELIGHT_REWRITES", 100);
    let temp = TempRun::new();
    let daemon = temp.daemon(&format!("[ingest]\nsettle_ms = 20\nclose_ms = 5\n{WITH_SHA256}"));
    let mut random = Random(0xDEAD_BEEF);
    let mut written = BTreeSet::new();
    fs::create_dir_all(temp.at("dumps/k")).expect("a folder");
    let mut write = |n: u64, how: u64| {
        let bytes = picture(n);
        written.insert(Sha256::of(&bytes).to_string());
        if how == 0 {
            fs::write(temp.at("dumps/k/.new"), bytes).expect("a dump");
            fs::rename(temp.at("dumps/k/.new"), temp.at("dumps/k/1.npy")).expect("a rename");
        } else {
            fs::write(temp.at("dumps/k/1.npy"), bytes).expect("a dump");
        }
    };
    for i in 0..n {
        write(i, random.below(3));
        thread::sleep(Duration::from_millis(random.below(40)));
    }
    let last = || temp.items().first().map(|item| number_in(&temp.store(), item));
    wait_for("the last content", || last() == Some(n - 1));
    // Rewriting equal content in each way commits nothing.
    let committed = committed_digests(&temp);
    for how in 0..2 {
        write(n - 1, how);
        thread::sleep(Duration::from_millis(400));
    }
    assert_eq!(committed_digests(&temp), committed);
    let items = temp.items();
    assert_eq!((items.len(), last()), (1, Some(n - 1)));
    assert_eq!(items[0]["index"], 0);
    // No dump was read while it was being written.
    for digest in &committed {
        assert!(written.contains(digest), "this content was never complete");
    }
    assert!(committed.len() > 10, "only {} of {n} contents were read", committed.len());
    eprintln!("{n} contents, {} of them read", committed.len());
    assert_eq!(daemon.stop().0, Some(0));
    assert_eq!(temp.ingest().code, 0);
    assert_eq!(temp.items(), items);
}

/// Returns a dump of each format with its extension and the lengths to which it is truncated.
fn dumps() -> Vec<(&'static str, Vec<u8>, Vec<usize>)> {
    let golden = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/dumps");
        fs::read(folder.join(name)).expect("a dump")
    };
    let pixels: Vec<u8> = (0..32 * 40u32).map(|i| (i * 7 % 251).to_le_bytes()[0]).collect();
    let array = npy("|u1", &[32, 40], &pixels);
    let zip = npz(&[("a.npy", array.clone()), ("b.npy", array.clone())]);
    let header = json!({"x": {"dtype": "U8", "shape": [32, 40], "data_offsets": [0, 1280]}});
    let header = header.to_string();
    let tensors = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &pixels].concat();
    let rgb = RgbImage::from_fn(30, 20, |x, y| {
        image::Rgb([x, y, x * y].map(|v| (v * 7 % 251).to_le_bytes()[0]))
    });
    let encoded = |format| {
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::ImageRgb8(rgb.clone()).write_to(&mut bytes, format).expect("a picture");
        bytes.into_inner()
    };
    let all = [
        ("npy", array),
        ("npz", zip),
        ("safetensors", tensors),
        ("pt", golden("torch-2.15/dict.pt")),
        ("bin", pixels),
        ("png", encoded(ImageFormat::Png)),
        ("jpg", encoded(ImageFormat::Jpeg)),
        ("bmp", encoded(ImageFormat::Bmp)),
        ("webp", encoded(ImageFormat::WebP)),
    ];
    let with_cuts = |(ending, bytes): (&'static str, Vec<u8>)| {
        let n = bytes.len();
        let mut cuts = vec![0, 1, 7, 8, 11, 100, n / 2, n - 23, n - 1];
        cuts.retain(|cut| *cut < n);
        cuts.dedup();
        (ending, bytes, cuts)
    };
    all.into_iter().map(with_cuts).collect()
}

#[test]
fn a_truncated_dump_is_rejected_once_and_read_when_it_is_complete() {
    let temp = TempRun::new();
    let daemon = temp.daemon(&format!(
        "[ingest]\nsettle_ms = 50\nincomplete_ms = 1500\nscan_ms = 500\n{WITH_SHA256}"
    ));
    let mut cut_off = Vec::new();
    for (ending, bytes, cuts) in dumps() {
        for cut in cuts {
            let path = format!("dumps/{ending}/{cut}.{ending}");
            if ending == "bin" {
                temp.write(&format!("{path}.json"), br#"{"dtype":"uint8","shape":[32,40]}"#);
            }
            temp.write(&path, &bytes[..cut]);
            cut_off.push((path, bytes.clone()));
        }
    }
    temp.write("dumps/good/1.npy", &gray(1));
    wait_for("the neighbour", || temp.counts()[0] == 1);
    assert_eq!(temp.counts(), [1, 0, 0], "{:?}", temp.items());
    wait_for("all rejections", || temp.counts()[2] == cut_off.len());
    assert_eq!(temp.counts(), [1, 0, cut_off.len()]);
    // No dump is rejected twice.
    thread::sleep(Duration::from_secs(2));
    let log = daemon.log_text();
    for (path, _) in &cut_off {
        let lines = log.lines().filter(|line| line.contains(&format!("\"path\":\"{path}\"")));
        assert_eq!(lines.count(), 1, "{path}: {log}");
    }
    for (path, bytes) in &cut_off {
        fs::write(temp.at(path), bytes).expect("the whole dump");
    }
    wait_for("all of them", || temp.counts()[2] == 0);
    let items = temp.items();
    for (path, bytes) in &cut_off {
        let of_it: Vec<&Value> =
            items.iter().filter(|item| item["source"]["path"] == path.as_str()).collect();
        assert!(!of_it.is_empty(), "{path}");
        for item in of_it {
            assert_eq!(item["source"]["sha256"], Sha256::of(bytes).to_string(), "{item}");
        }
    }
    assert_eq!(daemon.stop().0, Some(0));
}
