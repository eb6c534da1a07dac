//! Sidecars, and the metadata of safetensors files with names and texts on alternate lines.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use safelight_fuzz::check_place;
use safelight_image::record::pattern::DumpPath;
use safelight_image::record::{ImageOptions, parse_sidecar};

fuzz_target!(|text: &[u8]| {
    let mut record = safelight_fuzz::record(ImageOptions::default());
    let path = DumpPath {
        path: "dumps/fuzz/0.bin".to_owned(),
        key: record.key.clone(),
        step: record.step,
        index: None,
    };
    if let Err(error) = parse_sidecar(text, &path) {
        check_place(text, &error);
    }
    let Ok(text) = std::str::from_utf8(text) else { return };
    let mut lines = text.lines().map(str::to_owned);
    let mut metadata = BTreeMap::new();
    while let (Some(name), Some(value)) = (lines.next(), lines.next()) {
        metadata.insert(name, value);
    }
    drop(record.add_metadata(&metadata, metadata.len() % 2 == 0));
});
