//! New versions of a dump replace the images of the old ones.

use std::fs;

use serde_json::json;

use super::{floats, picture};
use crate::harness::{TempRun, npy};

/// Returns an npz file of gray arrays of 2 × 2. An array without a value has a type that makes no picture.
fn npz(arrays: &[(&str, Option<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut archive = rawzip::ZipArchiveWriter::new(&mut file);
    for (name, value) in arrays {
        let array = match value {
            Some(value) => npy("|u1", &[2, 2], &[*value; 4]),
            None => npy("<f16", &[2, 2], &[0; 64]),
        };
        let name = format!("{name}.npy");
        let member = archive.new_file(&name).compression_method(rawzip::CompressionMethod::STORE);
        let (mut entry, config) = member.start().expect("a member");
        let mut writer = config.wrap(&mut entry);
        std::io::Write::write_all(&mut writer, &array).expect("an array");
        let (_, descriptor) = writer.finish().expect("a member");
        entry.finish(descriptor).expect("a member");
    }
    archive.finish().expect("a zip file");
    file
}

/// Returns key, index and first pixel of each image, and the number of rejected items.
fn images_and_rejections(temp: &TempRun) -> (Vec<String>, usize) {
    let items = temp.items();
    let images = items.iter().filter(|item| item["state"] == "image");
    let described = images.map(|item| {
        let pixel = picture(temp, item).to_luma8().get_pixel(0, 0)[0];
        format!("{} {} {pixel}", item["key"].as_str().unwrap_or(""), item["index"])
    });
    (described.collect(), items.iter().filter(|item| item["state"] == "rejected").count())
}

/// Ingests and checks the images, also after a rebuild of the index.
fn check_images(temp: &TempRun, images: &[&str], n_rejected: usize) {
    let ran = temp.ingest();
    assert!(matches!(ran.code, 0 | 3), "{ran:?}");
    let want = (images.iter().map(ToString::to_string).collect::<Vec<_>>(), n_rejected);
    assert_eq!(images_and_rejections(temp), want, "{ran:?}");
    assert_eq!(temp.run(&["reindex"]).code, 0);
    assert_eq!(images_and_rejections(temp), want, "after reindex");
}

#[test]
fn versions_with_other_arrays_leave_no_stale_or_duplicate_items() {
    let temp = TempRun::new();
    let version = |arrays: &[(&str, Option<u8>)]| temp.write("dumps/k/1.npz", &npz(arrays));
    version(&[("a", Some(10)), ("b", Some(20)), ("c", Some(30))]);
    check_images(&temp, &["k/a 0 10", "k/b 0 20", "k/c 0 30"], 0);
    version(&[("a", Some(11)), ("c", Some(31))]);
    check_images(&temp, &["k/a 0 11", "k/c 0 31"], 0);
    version(&[("a", Some(12)), ("b", None), ("d", Some(42))]);
    check_images(&temp, &["k/a 0 12", "k/d 0 42"], 1);
    version(&[("a", Some(13)), ("b", Some(23)), ("d", Some(43))]);
    check_images(&temp, &["k/a 0 13", "k/b 0 23", "k/d 0 43"], 0);
    // A single array has the dump's key.
    version(&[("a", Some(14))]);
    check_images(&temp, &["k 0 14"], 0);
    version(&[("a", None)]);
    check_images(&temp, &["k 0 14"], 1);
    version(&[("a", Some(15))]);
    check_images(&temp, &["k 0 15"], 0);
}

#[test]
fn bad_boxes_of_a_batch_cost_no_image_in_any_version() {
    let temp = TempRun::new();
    let boxes = |is_good: bool| {
        let min_x = if is_good { json!(0) } else { json!("a") };
        let position = json!({"minX": min_x, "maxX": 1, "minY": 0, "maxY": 1});
        json!({"p": {"box_data": [{"position": position, "class_id": 1}]}})
    };
    let version = |first: u8, good: [bool; 3]| {
        let batch: Vec<u8> = (0..3).flat_map(|i| [first + i; 20]).collect();
        let sidecar = json!({"boxes": good.map(boxes), "format": "NHW"});
        temp.write("dumps/k/1.npy", &npy("|u1", &[3, 4, 5], &batch));
        temp.write("dumps/k/1.npy.json", sidecar.to_string().as_bytes());
        good.map(|is_good| usize::from(!is_good))
    };
    for (i, good) in [[true; 3], [true, false, true], [false; 3], [true; 3]].into_iter().enumerate()
    {
        let first = u8::try_from(10 * (i + 1)).expect("a value");
        let n_warnings = version(first, good);
        let images = [0, 1, 2].map(|i| format!("k {i} {}", first + i));
        check_images(&temp, &images.each_ref().map(String::as_str), 0);
        let got = temp.items();
        let got = got.iter().map(|item| item["warnings"].as_array().map_or(0, Vec::len));
        assert_eq!(got.collect::<Vec<_>>(), n_warnings);
    }
}

#[test]
fn an_image_without_its_bad_mask_is_made_again_after_the_mask_is_fixed() {
    let temp = TempRun::new();
    let dump = npy("|u1", &[2, 2], &[9; 4]);
    temp.write("m.npy", &npy("<f4", &[2, 2], &floats(&[0.5; 4])));
    temp.write("dumps/k/1.npy.json", br#"{"masks": {"m": {"mask_data": "m.npy"}}}"#);
    temp.write("dumps/k/1.npy", &dump);
    check_images(&temp, &["k 0 9"], 0);
    let item = temp.items().remove(0);
    assert!(
        item["warnings"][0].as_str().is_some_and(|text| text.ends_with("mask dropped")),
        "{item}"
    );
    temp.write("m.npy", &npy("<f4", &[2, 2], &floats(&[3.0; 4])));
    temp.write("dumps/k/1.npy", &dump);
    check_images(&temp, &["k 0 9"], 0);
    let item = temp.items().remove(0);
    assert_eq!(picture(&temp, &item["masks"]["m"]).to_luma8().into_raw(), [3; 4]);
    assert_eq!(item["warnings"], json!(null));
}

#[test]
fn limits_apply_to_all_tensors_of_a_dump_together() {
    let temp = TempRun::new();
    let config = temp.folder().join("safelight.toml");
    fs::write(&config, "[limits]\nbatch_max = 2\n").expect("a configuration");
    let arrays = [("a", Some(1)), ("b", Some(2)), ("c", Some(3)), ("d", Some(4))];
    temp.write("dumps/k/1.npz", &npz(&arrays));
    let (run, config) = (temp.at(""), config.to_string_lossy().into_owned());
    temp.run(&["ingest", run.to_str().expect("a path"), "--config", &config]);
    assert_eq!(temp.counts(), [2, 0, 2]);
    let reasons: Vec<_> = temp.states().into_iter().map(|(_, reason)| reason).collect();
    assert!(reasons.iter().any(|reason| reason.contains("limits.batch_max is 2")), "{reasons:?}");
}

#[test]
fn a_version_that_grows_into_another_dumps_indexes_moves_behind_it() {
    let temp = TempRun::new();
    let batch = |first: u8, n: u8| {
        let pixels: Vec<u8> = (0..n).flat_map(|i| [first + i; 42]).collect();
        npy("|u1", &[usize::from(n), 6, 7], &pixels)
    };
    temp.write("dumps/k/1.npy", &batch(10, 5));
    check_images(&temp, &["k 0 10", "k 1 11", "k 2 12", "k 3 13", "k 4 14"], 0);
    temp.write("dumps/k/000001.npy", &npy("|u1", &[2, 2], &[99; 4]));
    temp.ingest();
    temp.write("dumps/k/1.npy", &batch(20, 6));
    let moved: Vec<_> = (5..11).map(|i| format!("k {} {}", i + 1, i + 15)).collect();
    let mut want = vec!["k 5 99"];
    want.extend(moved.iter().map(String::as_str));
    check_images(&temp, &want, 0);
}
