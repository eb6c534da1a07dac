//! Pixels compared with those that real wandb releases made from dumps of the real `NumPy`. Both were
//! written by `tests/golden/make.py`.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use safelight::convert::Pixels;
use safelight::decode::{self, Contents, DecodeOptions, NamedTensor, storage};
use safelight::limits::{Limits, StepUsage};
use safelight::media::{ColorMode, Description, MediaKey, Profile, Step};
use safelight::plan::{Found, PlannedItem, Recipe, plan};
use safelight::record::{DataRef, ImageOptions, MediaRecord};
use safelight::render::pixels_from_tensor;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    input: String,
    mode: Option<String>,
    outcome: String,
    pixels_mode: Option<String>,
    width: Option<u32>,
    height: Option<u32>,
    pixels: Option<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Returns the pixels of all images of a dump, or the reason why there are none.
fn pixels(file: &[u8], profile: Profile, mode: Option<&str>) -> Result<Vec<Pixels>, String> {
    let mode: Option<ColorMode> =
        mode.map(str::parse).transpose().map_err(|error| format!("{error}"))?;
    let options = ImageOptions { profile: Some(profile), mode, ..ImageOptions::default() };
    let mut images = Vec::new();
    for (found, bytes) in found(file)? {
        images.extend(pixels_of(&bytes, found, options)?);
    }
    Ok(images)
}

/// Returns the tensors of a dump with the bytes of their storages.
fn found(file: &[u8]) -> Result<Vec<(Found, Vec<u8>)>, String> {
    let options = DecodeOptions {
        header_bytes_max: 1 << 20,
        storage_bytes_max: 1 << 30,
        ..DecodeOptions::default()
    };
    let contents = decode::contents(&file, &options).map_err(|error| error.to_string())?;
    let Contents::Tensors { writer, tensors, .. } = contents else {
        return Err("not a dump of tensors".to_owned());
    };
    let of_tensor = |tensor: NamedTensor| {
        let header = tensor.header.map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        storage::decode(&file, &header.storage, &mut bytes).map_err(|error| error.to_string())?;
        Ok((Found::Tensor(writer, Box::new(header)), bytes))
    };
    tensors.into_iter().map(of_tensor).collect()
}

fn pixels_of(storage: &[u8], found: Found, options: ImageOptions) -> Result<Vec<Pixels>, String> {
    let record = MediaRecord {
        key: MediaKey::new("golden").map_err(|error| error.to_string())?,
        step: Step(0),
        index: None,
        data: DataRef::default(),
        options,
        description: Description::default(),
        warnings: Vec::new(),
    };
    let (mut usage, limits) = (StepUsage::default(), Limits::default());
    let plan = plan(&record, options, found, &[], &mut usage, &limits, None);
    let plan = plan.map_err(|error| error.to_string())?;
    let Recipe::Convert(tensor) = &plan.recipe else { return Err("a picture".to_owned()) };
    let one = |item: &PlannedItem| match item {
        PlannedItem::Image(job) => pixels_from_tensor(&storage, tensor, &job.plan)
            .map(|(pixels, _)| pixels)
            .map_err(|error| error.to_string()),
        PlannedItem::Held { reason, .. } | PlannedItem::Rejected { reason, .. } => {
            Err(reason.clone())
        }
    };
    plan.items.iter().map(one).collect()
}

/// Returns why a case is not compared, or `None` if it is.
fn left_out(case: &Case, profile: Profile) -> Option<&'static str> {
    match case.mode.as_deref() {
        Some("P") => return Some("palettes are refused"),
        Some(_) if profile == Profile::Wandb010 => return Some("relabelled modes are refused"),
        _ => {}
    }
    if case.input.contains("fortran_nan_memory") {
        // NumPy takes the first NaN in memory order as the maximum, we take the first in C order.
        return Some("several complex NaNs in Fortran order");
    }
    if profile == Profile::Wandb010 && case.input.contains("2x3x2x4") {
        // Pillow 9.5 reads the first quarter of a batch of RGBA. wandb of that time refused the batch.
        return Some("a batch is read as a batch");
    }
    None
}

fn check_profile(profile: Profile, file: &str) {
    let cases = std::fs::read_to_string(folder().join(file)).expect("golden answers");
    let (mut n_equal, mut n_left_out, mut wrong) = (0, 0, Vec::new());
    for line in cases.lines() {
        let case: Case = serde_json::from_str(line).expect("a golden answer");
        if case.outcome != "ok" {
            continue;
        }
        if left_out(&case, profile).is_some() {
            n_left_out += 1;
            continue;
        }
        let input = std::fs::read(folder().join(&case.input)).expect("a golden input");
        let want = Pixels {
            mode: case.pixels_mode.as_deref().and_then(|mode| mode.parse().ok()).expect("a mode"),
            width: case.width.expect("a width"),
            height: case.height.expect("a height"),
            bytes: BASE64_STANDARD.decode(case.pixels.as_deref().unwrap_or("")).expect("base64"),
        };
        match pixels(&input, profile, case.mode.as_deref()) {
            Ok(got) if got == [want.clone()] => n_equal += 1,
            got => {
                wrong.push(format!("{} {:?}: got {got:?}, want {want:?}", case.input, case.mode));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases differ:\n{}",
        wrong.len(),
        n_equal + wrong.len(),
        wrong.join("\n")
    );
    assert!(n_equal > 300, "only {n_equal} cases, {n_left_out} left out");
}

#[test]
fn wandb_0_10_pixels_are_equal() {
    check_profile(Profile::Wandb010, "wandb-0.10.jsonl");
}

#[test]
fn wandb_0_20_pixels_are_equal() {
    check_profile(Profile::Wandb020, "wandb-0.20.jsonl");
}

#[test]
fn wandb_0_29_pixels_are_equal() {
    check_profile(Profile::Wandb029, "wandb-0.29.jsonl");
}

#[test]
fn dumps_without_a_picture_are_rejected_with_a_reason() {
    let refused = folder().join("inputs/refused");
    let mut reasons = Vec::new();
    for entry in std::fs::read_dir(refused).expect("refused inputs") {
        let path = entry.expect("an entry").path();
        let file = std::fs::read(&path).expect("a refused input");
        let name =
            path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match pixels(&file, Profile::Auto, None) {
            Ok(_) => panic!("{name} makes a picture"),
            Err(reason) => reasons.push(format!("{name}: {reason}")),
        }
    }
    assert!(reasons.len() > 20, "{reasons:?}");
    let unexplained = reasons.iter().filter(|reason| {
        ![
            "Python objects",
            "text",
            "dates",
            "structures",
            "without a type",
            "NumPy can't name",
            "element type",
            "truncated",
            "not a dump",
            "a zip file",
        ]
        .iter()
        .any(|why| reason.contains(why))
    });
    let unexplained: Vec<_> = unexplained.collect();
    assert!(unexplained.is_empty(), "{unexplained:?}");
}

#[test]
fn auto_makes_a_picture_of_every_shape_that_has_one() {
    for line in
        std::fs::read_to_string(folder().join("wandb-0.20.jsonl")).expect("golden answers").lines()
    {
        let case: Case = serde_json::from_str(line).expect("a golden answer");
        let input = std::fs::read(folder().join(&case.input)).expect("a golden input");
        if case.outcome == "ok" && case.mode.is_none() {
            let got = pixels(&input, Profile::Auto, None);
            // wandb draws three numbers as a column of pixels. Safelight requires two axes.
            let is_row_of_numbers = got.as_ref().is_err_and(|error| {
                error.contains("shape (3)")
                    || error.contains("shape (4)")
                    || error.contains("shape (1)")
            });
            assert!(got.is_ok() || is_row_of_numbers, "{}: {got:?}", case.input);
        }
    }
}
