//! Every dump format and every part of an image, from a log line or a path to the files in the store.

mod versions;

use std::fs;
use std::path::Path;

use image::GenericImageView;
use safelight::convert::Pixels;
use safelight::encode::{Encoding, encode};
use safelight::media::{ColorMode, FileType};
use serde_json::{Value, json};

use crate::harness::{TempRun, npy, wait_for};

/// Returns a golden dump.
fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/dumps");
    fs::read(folder.join(name)).expect("a golden dump")
}

/// Returns the decoded media file of an item.
fn picture(temp: &TempRun, item: &Value) -> image::DynamicImage {
    let path = item["path"].as_str().unwrap_or_else(|| panic!("no path: {item}"));
    let file = fs::read(temp.store().join(path)).expect("a media file");
    image::load_from_memory(&file).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Ingests one line with these fields beside `key` and `step`. Returns all items.
fn items_of(temp: &TempRun, line: &Value) -> Vec<Value> {
    let mut fields = json!({"key": "k", "step": 1});
    fields.as_object_mut().expect("an object").extend(line.as_object().cloned().expect("fields"));
    temp.append("a.media.jsonl", &format!("{fields}\n"));
    let ran = temp.ingest();
    assert!(matches!(ran.code, 0 | 3), "{ran:?}");
    temp.items()
}

/// Ingests a line about an array in `x.npy`. Returns its only item.
fn item_of(descr: &str, shape: &[usize], data: &[u8], line: &Value) -> (TempRun, Value) {
    let temp = TempRun::new();
    temp.write("x.npy", &npy(descr, shape, data));
    let mut line = line.clone();
    line["data"] = "x.npy".into();
    let mut items = items_of(&temp, &line);
    assert_eq!(items.len(), 1, "{items:?}");
    (temp, items.remove(0))
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn each_array_of_a_dump_without_a_log_line_gets_its_own_key() {
    let temp = TempRun::new();
    temp.write("dumps/val/7.npz", &golden("npz/deflated.npz"));
    temp.write("dumps/model/7.safetensors", &golden("safetensors-0.8/dtypes.safetensors"));
    temp.write("dumps/saved/7.pt", &golden("torch-1.13/dict.pt"));
    let ran = temp.ingest();
    assert!(matches!(ran.code, 0 | 3), "{ran:?}");
    let items = temp.items();
    let keys = |prefix: &str| {
        let of_dump =
            items.iter().filter(|item| item["key"].as_str().unwrap_or("").starts_with(prefix));
        of_dump.map(|item| item["source"]["tensor"].clone()).filter(|name| !name.is_null()).count()
    };
    for prefix in ["val/", "model/", "saved/"] {
        assert!(keys(prefix) > 1, "{prefix}: {items:?}");
    }
    // A second run finds nothing new. A new version replaces the old one.
    let again = temp.ingest();
    assert!(again.out.contains("new: 0 images"), "{}", again.out);
    assert_eq!(temp.items(), items);
    temp.write("dumps/val/7.npz", &golden("npz/stored.npz"));
    temp.ingest();
    let places = |items: &[Value]| {
        let of_val = items.iter().filter(|item| item["source"]["path"] == "dumps/val/7.npz");
        let mut places: Vec<_> = of_val
            .filter(|item| item["state"] == "image")
            .map(|item| format!("{} {}", item["key"], item["index"]))
            .collect();
        places.sort();
        places.dedup_by(|a, b| a == b);
        places
    };
    let now = temp.items();
    let n_images = now
        .iter()
        .filter(|item| item["source"]["path"] == "dumps/val/7.npz" && item["state"] == "image")
        .count();
    assert_eq!(places(&now).len(), n_images, "two images have the same key and index");
}

#[test]
fn a_line_selects_a_tensor_by_name_and_a_wrong_name_lists_the_choices() {
    let temp = TempRun::new();
    temp.write("x.npz", &golden("npz/stored.npz"));
    let line = json!({"data": {"path": "x.npz", "tensor": "nothing"}});
    let items = items_of(&temp, &line);
    let reason = items[0]["reason"].as_str().unwrap_or("");
    assert!(reason.contains("holds no tensor \"nothing\", but ["), "{reason}");
    assert!(reason.contains("\"image\""), "{reason}");
    let items = items_of(&temp, &json!({"data": {"path": "x.npz", "tensor": "image"}}));
    let item = items.iter().find(|item| item["source"]["tensor"] == "image");
    let item = item.unwrap_or_else(|| panic!("{items:?}"));
    assert_eq!((&item["state"], &item["key"]), (&json!("image"), &json!("k")));
}

#[test]
fn raw_bytes_are_read_as_the_record_or_the_sidecar_says() {
    let temp = TempRun::new();
    let big: Vec<u8> = [0u16, 300, 40000, 65535].iter().flat_map(|v| v.to_be_bytes()).collect();
    temp.write("x.bin", &[b"head".to_vec(), big.clone()].concat());
    let data = json!({"path": "x.bin", "dtype": "uint16", "shape": [2, 2], "offset": 4, "byte_order": "big"});
    let items = items_of(&temp, &json!({"data": data, "mode": "I;16"}));
    assert_eq!(items[0]["state"], "image", "{items:?}");
    assert_eq!(picture(&temp, &items[0]).to_luma16().into_raw(), [0, 300, 40000, 65535]);

    let temp = TempRun::new();
    temp.write("dumps/raw/3.bin", &floats(&[0.0, 1.0, 0.5, 0.25]));
    temp.write("dumps/raw/3.bin.json", br#"{"dtype": "float32", "shape": [2, 2], "caption": "c"}"#);
    temp.write("dumps/raw/4.bin", &floats(&[0.0, 1.0, 0.5, 0.25]));
    temp.write("dumps/raw/4.json", br#"{"dtype": "float32", "shape": [3, 1]}"#);
    temp.ingest();
    let items = temp.items();
    assert_eq!((&items[0]["step"], &items[0]["caption"]), (&json!(3), &json!("c")));
    assert_eq!(picture(&temp, &items[0]).to_luma8().into_raw(), [0, 255, 128, 64]);
    let reason = items[1]["reason"].as_str().unwrap_or("");
    assert!(reason.contains("raw file of 16 bytes, float32 (3, 1) needs 12"), "{reason}");
}

#[test]
fn safetensors_metadata_is_a_record() {
    let temp = TempRun::new();
    let header = json!({
        "__metadata__": {"key": "said/so", "step": "9", "caption": "from the dump", "format": "pt", "mode": "RGB"},
        "x": {"dtype": "U8", "shape": [2, 2], "data_offsets": [0, 4]},
    });
    let header = header.to_string().into_bytes();
    let length = u64::try_from(header.len()).expect("short").to_le_bytes().to_vec();
    let file = [length, header, vec![0, 10, 20, 30]].concat();
    temp.write("dumps/path/1.safetensors", &file);
    temp.ingest();
    let item = &temp.items()[0];
    assert_eq!(
        [&item["key"], &item["step"], &item["caption"], &item["mode"]],
        [&json!("said/so"), &json!(9), &json!("from the dump"), &json!("RGB")]
    );
}

#[test]
fn an_image_file_is_kept_byte_for_byte() {
    let temp = TempRun::new();
    let mut file = std::io::Cursor::new(Vec::new());
    let gray =
        image::GrayImage::from_fn(5, 3, |x, y| image::Luma([u8::try_from(x * y).unwrap_or(0)]));
    gray.write_to(&mut file, image::ImageFormat::Png).expect("a PNG");
    let file = file.into_inner();
    temp.write("shots/lie.jpg", &file);
    temp.write("dumps/shot/2.png", &file);
    temp.write("dumps/shot/3.png", &file[..file.len() - 5]);
    let items = items_of(&temp, &json!({"data": "shots/lie.jpg", "caption": "as it is"}));
    let kept: Vec<_> = items.iter().filter(|item| item["state"] == "image").collect();
    assert_eq!(kept.len(), 2, "{items:?}");
    for item in kept {
        let path = temp.store().join(item["path"].as_str().expect("a path"));
        assert_eq!(fs::read(path).expect("a file"), file);
        let fields =
            [&item["width"], &item["height"], &item["mode"], &item["file_type"], &item["rule"]];
        assert_eq!(fields, [&json!(5), &json!(3), &json!("L"), &json!("png"), &Value::Null]);
    }
    let cut = items.iter().find(|item| item["state"] == "rejected").expect("the cut file");
    assert!(
        cut["reason"].as_str().unwrap_or("").contains("an image file without its end"),
        "{cut}"
    );
}

#[test]
fn file_types_and_modes_are_as_requested() {
    let rgb: Vec<u8> = (0..4 * 5 * 3).map(|i| u8::try_from(i * 4).unwrap_or(0)).collect();
    for (file_type, format) in [
        ("png", image::ImageFormat::Png),
        ("jpg", image::ImageFormat::Jpeg),
        ("jpeg", image::ImageFormat::Jpeg),
        ("bmp", image::ImageFormat::Bmp),
        ("webp", image::ImageFormat::WebP),
    ] {
        let (temp, item) =
            item_of("|u1", &[4, 5, 3], &rgb, &json!({"file_type": file_type, "quality": 100}));
        let path = item["path"].as_str().unwrap_or_else(|| panic!("{item}"));
        assert_eq!(Path::new(path).extension(), Some(file_type.as_ref()));
        let file = fs::read(temp.store().join(path)).expect("a file");
        assert_eq!(image::guess_format(&file).ok(), Some(format), "{file_type}");
        if format != image::ImageFormat::Jpeg {
            assert_eq!(picture(&temp, &item).to_rgb8().into_raw(), rgb, "{file_type}");
        }
    }
    let (_, item) = item_of("|u1", &[4, 5, 3], &rgb, &json!({"file_type": "jpg", "mode": "RGBA"}));
    assert_eq!(item["reason"], "mode RGBA can't be stored as jpg: want one of L, RGB");
    let rgba: Vec<u8> = (0..80).collect();
    let (_, item) = item_of("|u1", &[4, 5, 4], &rgba, &json!({"file_type": "jpg"}));
    assert_eq!(item["mode"], "RGB", "{item}");
    let (temp, item) = item_of("|u1", &[1, 4], &[0, 255, 200, 10], &json!({"mode": "1"}));
    assert_eq!(
        (&item["mode"], picture(&temp, &item).to_luma8().into_raw()),
        (&json!("1"), vec![0, 255, 255, 0])
    );
}

#[test]
fn colormaps_nan_colours_and_backgrounds_are_applied() {
    let (temp, item) = item_of(
        "<f4",
        &[1, 3],
        &floats(&[0.0, f32::NAN, 1.0]),
        &json!({"colormap": "viridis", "nan_color": "#ff00ff"}),
    );
    let want = [68, 1, 84, 255, 0, 255, 253, 231, 37];
    assert_eq!(picture(&temp, &item).to_rgb8().into_raw(), want);
    assert_eq!((&item["mode"], &item["colormap"]), (&json!("RGB"), &json!("viridis")));
    assert_eq!(item["stats"]["nan"], 1);
    let half = [100, 100, 100, 0, 100, 100, 100, 255];
    let (temp, item) =
        item_of("|u1", &[1, 2, 4], &half, &json!({"alpha": "composite", "background": "#000000"}));
    assert_eq!(picture(&temp, &item).to_rgb8().into_raw(), [0, 0, 0, 100, 100, 100]);
    let (_, item) =
        item_of("|u1", &[1, 2, 4], &half, &json!({"alpha": "drop", "colormap": "turbo"}));
    assert_eq!(item["mode"], "RGB");
    assert_eq!(item["warnings"], json!(["colormap has no effect on 4 channels"]));
}

#[test]
fn a_grid_is_one_sheet_as_torchvision_arranges_it() {
    let batch: Vec<u8> = (1..=9).flat_map(|i| [i * 10; 4]).collect();
    let (temp, item) = item_of("|u1", &[9, 2, 2, 1], &batch, &json!({"grid": true}));
    let sheet = picture(&temp, &item).to_luma8();
    assert_eq!(sheet.dimensions(), (8 * 4 + 2, 2 * 4 + 2));
    assert_eq!(
        [sheet.get_pixel(2, 2)[0], sheet.get_pixel(6, 2)[0], sheet.get_pixel(2, 6)[0]],
        [10, 20, 90]
    );
    assert_eq!(
        [sheet.get_pixel(0, 0)[0], sheet.get_pixel(4, 3)[0], sheet.get_pixel(6, 6)[0]],
        [0, 0, 0]
    );
    let (temp, item) = item_of(
        "|u1",
        &[9, 2, 2, 1],
        &batch,
        &json!({"grid": {"nrow": 3, "padding": 0}, "downscale": 3}),
    );
    assert_eq!(picture(&temp, &item).dimensions(), (3, 3));
    assert_eq!(item["downscaled_from"], json!([6, 6]));
}

#[test]
fn wandb_0_10_makes_a_normalized_sheet_of_a_torch_batch() {
    // (9, 1, 2, 2) becomes an RGB picture of 34 × 10, (2, 3, 4, 5) one of 16 × 8.
    let sheet = |shape: &[u64], n: u8| {
        let temp = TempRun::new();
        let header =
            json!({"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, u64::from(n) * 4]}});
        let header = header.to_string().into_bytes();
        let values: Vec<f32> = (0..n).map(f32::from).collect();
        let length = u64::try_from(header.len()).expect("short").to_le_bytes().to_vec();
        temp.write("x.safetensors", &[length, header, floats(&values)].concat());
        let items = items_of(&temp, &json!({"data": "x.safetensors", "profile": "wandb-0.10"}));
        picture(&temp, &items[0])
    };
    let gray = sheet(&[9, 1, 2, 2], 36);
    assert_eq!((gray.dimensions(), gray.color()), ((34, 10), image::ColorType::Rgb8));
    let gray = gray.to_rgb8();
    assert_eq!(gray.get_pixel(3, 7).0, [255; 3], "the greatest value, in the last row");
    assert_eq!(gray.get_pixel(2, 2).0, [0; 3]);
    assert_eq!(sheet(&[2, 3, 4, 5], 120).dimensions(), (16, 8));
}

#[test]
fn boxes_and_masks_become_files_that_trackers_read() {
    let temp = TempRun::new();
    temp.write("x.npy", &npy("|u1", &[4, 6, 3], &[7; 72]));
    temp.write(
        "ids.npy",
        &npy(
            "<i8",
            &[4, 6, 1],
            &(0..24i64).flat_map(|i| (i * 20).to_le_bytes()).collect::<Vec<_>>(),
        ),
    );
    let scores: Vec<f32> =
        (0..24).flat_map(|i| if i % 2 == 0 { [0.9, 0.1] } else { [0.1, 0.9] }).collect();
    temp.write("scores.npy", &npy("<f4", &[4, 6, 2], &floats(&scores)));
    let position = json!({"minX": 0.1, "maxX": 0.5, "minY": 0.2, "maxY": 1.75});
    let line = json!({
        "data": "x.npy",
        "classes": [{"id": 5, "name": "five"}],
        "boxes": {"pred": {"box_data": [{"position": position, "class_id": 1}], "class_labels": {"1": "car"}}},
        "masks": {"gt": {"mask_data": "ids.npy"},
                  "best": {"mask_data": "scores.npy", "one_hot": true, "class_labels": {"0": "a", "1": "b"}}},
    });
    let items = items_of(&temp, &line);
    let item = &items[0];
    assert_eq!(item["state"], "image", "{item}");
    let warnings = &item["warnings"];
    assert!(
        warnings[0].as_str().unwrap_or("").starts_with("boxes.pred.box_data[0]: reaches beyond"),
        "{warnings}"
    );
    let gt = picture(&temp, &item["masks"]["gt"]);
    assert_eq!(gt.color(), image::ColorType::L16, "ids above 255 need 16 bits");
    assert_eq!(gt.to_luma16().into_raw(), (0..24u16).map(|i| i * 20).collect::<Vec<_>>());
    let best = picture(&temp, &item["masks"]["best"]);
    assert_eq!((best.color(), best.to_luma8().get_pixel(1, 0)[0]), (image::ColorType::L8, 1));
    // The mask's name for class 1 replaces that of the box.
    assert_eq!(item["classes"][0], json!({"id": 1, "name": "b"}));
    assert!(
        item["classes"]
            .as_array()
            .is_some_and(|classes| classes.contains(&json!({"id": 5, "name": "five"})))
    );

    let show = |form: &str| -> Value {
        let ran = temp.run(&["show", "run", "k", "1", "0", "--as", form, "--json"]);
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    };
    let logged = show("logged");
    assert_eq!(logged["masks"]["gt"]["_type"], "mask");
    let path = logged["boxes"]["pred"]["path"].as_str().unwrap_or("");
    assert!(
        path.starts_with("media/metadata/boxes2D/k_1_") && path.ends_with(".boxes2D.json"),
        "{path}"
    );
    assert_eq!(show("artifact")["boxes"]["pred"][0]["class_id"], 1);
    let labels = &show("config")["_wandb"]["bounding_box/class_labels"]["k_wandb_delimeter_pred"];
    assert_eq!(labels["value"], json!({"1": "car"}));
}

#[test]
fn a_bad_box_or_mask_costs_no_image_and_no_other_box() {
    let temp = TempRun::new();
    temp.write("x.npy", &npy("|u1", &[2, 4, 6, 3], &[7; 144]));
    temp.write("bad.npy", &npy("<f4", &[4, 6], &floats(&[0.5; 24])));
    let a_box = json!({"position": {"minX": 0, "maxX": 1, "minY": 0, "maxY": 1}, "class_id": 1});
    let mut bad_box = a_box.clone();
    bad_box["position"]["minX"] = "a".into();
    let set = |boxes: &[&Value]| json!({"p": {"box_data": boxes}});
    let boxes = [set(&[&a_box]), set(&[&a_box, &bad_box, &a_box])];
    let items = items_of(&temp, &json!({"data": "x.npy", "boxes": boxes}));
    assert_eq!(temp.counts(), [2, 0, 0]);
    assert_eq!(items[0]["warnings"], Value::Null);
    let warnings =
        json!(["boxes.p.box_data[1].position.minX: got \"a\", want a number; box dropped"]);
    assert_eq!(items[1]["warnings"], warnings);
    let path = items[1]["boxes"]["p"]["path"].as_str().expect("a path");
    let file: Value =
        serde_json::from_slice(&fs::read(temp.store().join(path)).expect("a file")).expect("boxes");
    assert_eq!(file["box_data"], json!([a_box, a_box]));
    let shown = temp.run(&["show", "run", "k", "1", "1"]).out;
    assert!(shown.contains("box dropped"), "{shown}");
    assert!(temp.run(&["ls", "run"]).out.contains("(1 warning)"));

    // Masks: one of values that are no class ids, one of another shape, one that is not there, one good.
    temp.write("good.npy", &npy("|u1", &[4, 6], &[3; 24]));
    temp.write("cube.npy", &npy("|u1", &[4, 6, 2], &[3; 48]));
    temp.write("cut.npy", &npy("|u1", &[4, 6], &[3; 24])[..60]);
    let mask = |path: &str| json!({"mask_data": path});
    let masks = json!({
        "m": mask("bad.npy"), "c": mask("cube.npy"), "n": mask("none.npy"), "t": mask("cut.npy"),
        "g": mask("good.npy"), "x": {"mask_data": "good.npy", "class_labels": {"3": "road", "y": "z"}},
    });
    let items = items_of(&temp, &json!({"step": 2, "data": "x.npy", "masks": masks}));
    assert_eq!(temp.counts(), [4, 0, 0]);
    for item in items.iter().filter(|item| item["step"] == 2) {
        let names: Vec<_> = item["masks"].as_object().expect("masks").keys().collect();
        assert_eq!(names, ["g", "x"]);
        let warnings = item["warnings"].as_array().expect("warnings");
        let has = |what: &str| {
            warnings.iter().any(|warning| warning.as_str().unwrap_or("").contains(what))
        };
        for what in [
            "masks.m.mask_data: got 0.5, want class ids: whole numbers, 0 to 65535; mask dropped",
            "masks.c.mask_data: shape (4, 6, 2), want (H, W)",
            "masks.n.mask_data: mask \"none.npy\"",
            "masks.t.mask_data: mask \"cut.npy\"",
            "masks.x.class_labels: got key \"y\", want a whole number; label dropped",
        ] {
            assert!(has(what), "{what}: {warnings:?}");
        }
        assert_eq!(warnings.len(), 5, "{warnings:?}");
    }
}

#[test]
fn boxes_on_a_contact_sheet_are_dropped_with_a_warning() {
    let set = json!({"p": {"box_data": []}});
    let line = json!({"grid": true, "format": "NHWC", "boxes": set, "masks": {"m": {"mask_data": "x.npy"}}});
    let (temp, item) = item_of("|u1", &[2, 4, 6, 3], &[7; 144], &line);
    assert_eq!(temp.counts(), [1, 0, 0]);
    let want = json!([
        "boxes and masks dropped: they can't lie on a contact sheet, want them without grid"
    ]);
    assert_eq!(item["warnings"], want);
}

/// Pictures of one batch were drawn by a rule each, and did not compare.
#[test]
fn pictures_of_a_batch_are_drawn_by_one_rule_so_that_they_compare() {
    let tanh = |low: f32, high: f32| {
        (0..3000u16).map(move |i| low + (high - low) * f32::from(i) / 2999.0).collect::<Vec<_>>()
    };
    let batch = [tanh(-1.0, 1.0), tanh(0.0, 1.0), tanh(-0.95, -0.75)].concat();
    let line = json!({"format": "NHWC", "data": "x.npy"});
    let temp = TempRun::new();
    temp.write("x.npy", &npy("<f4", &[3, 50, 20, 3], &floats(&batch)));
    let items = items_of(&temp, &line);
    let rules: Vec<_> = items.iter().map(|item| item["rule"].as_str()).collect();
    assert_eq!(rules, [Some("sym"); 3]);
    let black = |item: &Value| picture(&temp, item).to_rgb8().get_pixel(0, 0)[0];
    assert_eq!(items.iter().map(black).collect::<Vec<_>>(), [0, 128, 6]);
    // Statistics stay those of each picture.
    assert_eq!(items[1]["stats"]["min"], 0.0);

    // A picture at the end of a large batch decides for all of them, on whatever worker they are made.
    let n = 60;
    let mut values = tanh(0.0, 1.0)[..1200].repeat(n);
    values[1200 * n - 1] = 200.0;
    let pixels = |temp: &TempRun| -> Vec<Vec<u8>> {
        let items = temp.items();
        let images = items.iter().filter(|item| item["state"] == "image");
        images.map(|item| picture(temp, item).to_luma8().into_raw()).collect()
    };
    let large = |max_items: usize| {
        let temp = TempRun::new();
        temp.write("x.npy", &npy("<f4", &[n, 40, 30], &floats(&values)));
        temp.append(
            "a.media.jsonl",
            &format!("{}\n", json!({"key": "k", "step": 1, "data": "x.npy"})),
        );
        let run = temp.at("");
        let settings = format!("[limits]\nmax_items = {max_items}\n");
        temp.run_with(&settings, &["ingest", run.to_str().expect("a path")]);
        temp
    };
    let whole = large(100);
    assert!(whole.items().iter().all(|item| item["rule"] == "clip"), "{:?}", whole.items());
    // Images that were held have the same pixels.
    let held = large(7);
    assert_eq!(held.counts(), [7, n - 7, 0]);
    assert_eq!(pixels(&held), pixels(&whole)[..7]);
    let ran = held.run_with("[limits]\nmax_items = 100\n", &["release"]);
    assert_eq!((ran.code, held.counts()), (0, [n, 0, 0]), "{ran:?}");
    assert_eq!(pixels(&held), pixels(&whole));
}

#[test]
fn values_that_cannot_be_read_in_the_picture_cause_a_warning() {
    let values: Vec<u8> = (0..768u16).flat_map(|i| (i * 85).to_le_bytes()).collect();
    let (temp, item) = item_of("<u2", &[24, 32], &values, &json!({}));
    let warning = item["warnings"][0].as_str().unwrap_or_default();
    assert!(warning.contains("clipped") && warning.contains("range: [0, 65535]"), "{item}");
    assert!(temp.run(&["ls", "run"]).out.contains("(1 warning)"));
    let (_, item) = item_of("<u2", &[24, 32], &values, &json!({"range": [0, 65535]}));
    assert_eq!(item["warnings"], Value::Null);
}

/// JPEG changes the class ids of a mask.
#[test]
fn a_mask_file_that_is_not_lossless_or_not_gray_is_kept_with_a_warning() {
    let temp = TempRun::new();
    temp.write("x.npy", &npy("|u1", &[4, 6], &[7; 24]));
    let file = |mode: ColorMode, file_type: FileType| {
        let bytes = vec![1; 24 * mode.pixel_size()];
        let pixels = Pixels { mode, width: 6, height: 4, bytes };
        let encoding = Encoding { file_type, ..Encoding::default() };
        encode(&pixels, encoding).expect("a file").bytes
    };
    temp.write("m.jpg", &file(ColorMode::L, FileType::Jpg));
    temp.write("rgb.png", &file(ColorMode::Rgb, FileType::Png));
    temp.write("gray.png", &file(ColorMode::L, FileType::Png));
    let masks = json!({
        "jpeg": {"mask_data": "m.jpg", "class_labels": {"1": "car"}},
        "rgb": {"path": "rgb.png"},
        "gray": {"path": "gray.png"},
    });
    let items = items_of(&temp, &json!({"data": "x.npy", "masks": masks}));
    let want = "want a lossless file of one channel, such as a gray PNG";
    let warnings = json!([
        format!("masks.jpeg: class ids may be wrong: JPEG changes the values of pixels; {want}"),
        format!("masks.rgb: class ids may be wrong: 3 channels, of which the first counts; {want}"),
    ]);
    assert_eq!(items[0]["warnings"], warnings);
    assert_eq!(items[0]["masks"].as_object().map(serde_json::Map::len), Some(3), "all are kept");
}

#[test]
fn a_line_waits_for_the_dump_of_its_mask() {
    let temp = TempRun::new();
    let _daemon = temp.daemon("");
    temp.write("x.npy", &npy("|u1", &[2, 2], &[1, 2, 3, 4]));
    let line =
        json!({"key": "k", "step": 1, "data": "x.npy", "masks": {"m": {"mask_data": "late.npy"}}});
    temp.append("a.media.jsonl", &format!("{line}\n"));
    wait_for("the line to wait", || temp.run(&["status"]).out.contains("late.npy"));
    temp.write("late.npy", &npy("|u1", &[2, 2], &[0, 1, 0, 1]));
    wait_for("the image", || temp.counts() == [1, 0, 0]);
    assert_eq!(picture(&temp, &temp.items()[0]["masks"]["m"]).to_luma8().into_raw(), [0, 1, 0, 1]);
}

#[test]
fn a_mask_that_does_not_come_is_left_out_after_the_wait() {
    let temp = TempRun::new();
    let daemon = temp.daemon("[ingest]\nwait_ms = 300\n");
    temp.write("x.npy", &npy("|u1", &[2, 2], &[1, 2, 3, 4]));
    let masks = json!({"m": {"mask_data": "never.npy"}});
    let line = json!({"key": "k", "step": 1, "data": "x.npy", "masks": masks});
    temp.append("a.media.jsonl", &format!("{line}\n"));
    wait_for("the image", || temp.counts() == [1, 0, 0]);
    let warnings = temp.items()[0]["warnings"].clone();
    let warning = warnings[0].as_str().unwrap_or_default();
    assert!(warning.contains("never.npy") && warning.ends_with("mask dropped"), "{warnings}");
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn conditions_filter_items() {
    let temp = TempRun::new();
    temp.write("nan.npy", &npy("<f4", &[1, 2], &floats(&[f32::NAN, 1.0])));
    temp.write("flat.npy", &npy("<f4", &[1, 2], &floats(&[0.5, 0.5])));
    temp.append("a.media.jsonl", "{\"key\":\"n\",\"step\":1,\"data\":\"nan.npy\"}\n");
    items_of(&temp, &json!({"data": "flat.npy"}));
    let keys = |condition: &str| {
        let ran = temp.run(&["ls", "--json", "--where", condition]);
        let items =
            ran.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("an item"));
        items.map(|item| item["key"].as_str().unwrap_or("").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(keys("nan>0"), ["n"]);
    assert_eq!(keys("constant=true"), ["k"]);
    assert_eq!(keys("std<0.1").len(), 2);
    let wrong = temp.run(&["ls", "--where", "nam>0"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("did you mean \"nan\"?"), "{}", wrong.err);
}

#[test]
fn a_line_with_one_bad_option_keeps_its_key_and_a_long_caption_is_shortened_in_lists() {
    let temp = TempRun::new();
    temp.write("x.npy", &npy("|u1", &[2, 2], &[9; 4]));
    temp.append(
        "a.media.jsonl",
        "{\"key\":\"k\",\"step\":1,\"data\":\"x.npy\",\"file_type\":\"PNG\"}\n",
    );
    let items =
        items_of(&temp, &json!({"step": 2, "data": "x.npy", "caption": "c".repeat(70_000)}));
    let rejected = items.iter().find(|item| item["state"] == "rejected").expect("the bad line");
    assert_eq!((&rejected["key"], &rejected["step"]), (&json!("k"), &json!(1)));
    let listed = temp.run(&["ls", "run", "k"]);
    assert_eq!(listed.code, 0, "{}", listed.err);
    assert!(listed.out.lines().all(|line| line.len() < 300), "rows are short");
}

#[test]
fn boxes_in_pixels_on_a_downscaled_picture_cause_a_warning() {
    let position = json!({"minX": 0, "maxX": 30, "minY": 0, "maxY": 20});
    let boxes =
        json!({"p": {"box_data": [{"position": position, "domain": "pixel", "class_id": 1}]}});
    let (_, item) = item_of("|u1", &[20, 30], &[7; 600], &json!({"downscale": 15, "boxes": boxes}));
    let warning = item["warnings"][0].as_str().unwrap_or("");
    assert!(warning.contains("scaled down from 30 × 20 to 15 × 10"), "{item}");
}

#[test]
fn the_scaling_rule_considers_all_values_not_only_the_first_ones_read() {
    // The dump is read in chunks of 256 KiB. The first values are in [0, 1], the next ones in [−1, 1],
    // the last ones in neither. In CHW order the same values have another order.
    const SIDE: usize = 512;
    let value = |row: usize| match row {
        0..200 => 0.5f32,
        200..400 => -0.5,
        400..511 => 200.4,
        _ => 300.0,
    };
    let n = SIDE * SIDE * 3;
    let hwc: Vec<f32> = (0..n).map(|i| value(i / 3 / SIDE)).collect();
    let chw: Vec<f32> = (0..n).map(|i| value(i / SIDE % SIDE)).collect();
    let line = json!({"key": "k", "step": 1, "data": "x.npy"});
    for (shape, values) in [([SIDE, SIDE, 3], &hwc), ([3, SIDE, SIDE], &chw)] {
        let (temp, item) = item_of("<f4", &shape, &floats(values), &line);
        assert_eq!(item["rule"], "clip", "{item}");
        assert_eq!(item["stats"]["clipped"], json!(201.0 / 512.0), "{item}");
        let made = picture(&temp, &item).to_rgb8();
        for (row, want) in
            [(0, 1), (199, 1), (200, 0), (399, 0), (400, 200), (510, 200), (511, 255)]
        {
            assert_eq!(made.get_pixel(77, row).0, [want; 3], "row {row} of {shape:?}");
        }
    }
}
