//! Values of every type and format, as NumPy and the library that wrote the dump read them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::{Ingested, array, ask, place};
use crate::media::Sha256;
use crate::tensor::DType;

/// The generator of `tests/golden/values/make.py`.
fn generated(seed: u64, n_bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let word = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> =
        std::iter::repeat_with(word).take(n_bytes.div_ceil(8)).flatten().collect();
    bytes.truncate(n_bytes);
    bytes
}

/// Replaces each NaN by the quiet one without sign.
fn with_quiet_nan(dtype: DType, mut bytes: Vec<u8>) -> Vec<u8> {
    match dtype {
        DType::F16 => bytes.as_chunks_mut::<2>().0.iter_mut().for_each(|bytes| {
            let magnitude = u16::from_le_bytes(*bytes) & 0x7fff;
            if magnitude > 0x7c00 {
                *bytes = 0x7e00u16.to_le_bytes();
            }
        }),
        DType::F32 => bytes.as_chunks_mut::<4>().0.iter_mut().for_each(|bytes| {
            if f32::from_le_bytes(*bytes).is_nan() {
                *bytes = f32::from_bits(0x7fc0_0000).to_le_bytes();
            }
        }),
        DType::F64 => bytes.as_chunks_mut::<8>().0.iter_mut().for_each(|bytes| {
            if f64::from_le_bytes(*bytes).is_nan() {
                *bytes = f64::from_bits(0x7ff8_0000_0000_0000).to_le_bytes();
            }
        }),
        _ => {}
    }
    bytes
}

#[derive(Deserialize)]
struct GoldenValues {
    sha256: BTreeMap<String, String>,
}

#[tokio::test]
async fn ten_thousand_pixels_of_every_type_are_those_of_numpy() {
    let golden = include_str!("../../../tests/golden/values/golden.json");
    let golden: GoldenValues = serde_json::from_str(golden).expect("golden digests");
    let run = Ingested::new();
    for (seed, dtype) in (0..).zip(DType::ALL) {
        let path = format!("dumps/{dtype}.bin");
        run.write(&path, &generated(seed, 10_000 * dtype.size()));
        let data = json!({ "path": path, "dtype": dtype.name(), "shape": [100, 100] });
        run.line(&json!({ "key": dtype.name(), "step": 1, "data": data }));
    }
    let gallery = run.gallery();
    for dtype in DType::ALL {
        let got = ask(&gallery, "values.npy", &place(dtype.name(), 1, 0), "").await;
        assert_eq!(got.status, StatusCode::OK, "{dtype}: {:?}", got.bytes);
        assert_eq!(got.header("safelight-proof"), "digest", "{dtype}");
        let (shown_dtype, shape, bytes) = array(got.body());
        assert_eq!(shape, [100, 100, 1]);
        assert_eq!(shown_dtype, crate::convert::shown_as(dtype));
        let digest = format!("{}", Sha256::of(&with_quiet_nan(shown_dtype, bytes.clone())));
        assert_eq!(digest, golden.sha256[dtype.name()], "{dtype}");
        // A part of it.
        let part = "&x=10&y=20&w=7&h=5&every=2";
        let got = ask(&gallery, "values.npy", &place(dtype.name(), 1, 0), part).await;
        let (_, shape, part) = array(got.body());
        assert_eq!(shape, [3, 4, 1]);
        let size = shown_dtype.size();
        let at = (22 * 100 + 14) * size;
        assert_eq!(part[6 * size..7 * size], bytes[at..at + size], "{dtype}");
    }
}

/// A tensor of `tests/golden/dumps`, as its own library reads it.
#[derive(Deserialize)]
struct GoldenTensor {
    file: String,
    tensor: Option<String>,
    dtype: String,
    shape: Vec<u64>,
    bytes: String,
}

#[tokio::test]
async fn values_are_those_of_the_library_that_wrote_the_dump() {
    const FILES: [&str; 6] = [
        "npz/big-endian.npz",
        "npz/deflated.npz",
        "npz/fortran.npz",
        "torch-2.15/permuted.pt",
        "torch-2.15/dtypes.pt",
        "safetensors-0.8/dtypes.safetensors",
    ];
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/dumps");
    let list = fs::read_to_string(golden.join("expected.jsonl")).expect("a list");
    let tensors = list.lines().map(|line| serde_json::from_str(line).expect("a tensor"));
    let run = Ingested::new();
    for (number, file) in FILES.into_iter().enumerate() {
        let suffix = file.rsplit_once('.').expect("a suffix").1;
        let path = format!("dumps/{number}.{suffix}");
        fs::copy(golden.join(file), run.at(&path)).expect("a copy");
        run.line(&json!({ "key": number.to_string(), "step": 1, "data": path }));
    }
    let gallery = run.gallery();
    let mut n = 0;
    for GoldenTensor { file, tensor, dtype, shape, bytes } in tensors {
        let number = FILES.iter().position(|of| **of == file);
        let (Some(number), Some(name), 2) = (number, tensor, shape.len()) else { continue };
        let dtype = DType::from_name(&dtype).expect("a type");
        let got = ask(&gallery, "values.npy", &place(&format!("{number}/{name}"), 1, 0), "").await;
        assert_eq!(got.header("safelight-proof"), "digest", "{file} {name}: {got:?}");
        let (shown, got_shape, got) = array(got.body());
        assert_eq!(got_shape, [shape[0], shape[1], 1], "{file} {name}");
        let mut want = BASE64_STANDARD.decode(bytes).expect("base64");
        if matches!(dtype, DType::Complex64 | DType::Complex128) {
            want = want.chunks(dtype.size()).flat_map(|it| &it[..shown.size()]).copied().collect();
        } else if shown != dtype {
            // Another test covers floats of 8 bits.
            continue;
        }
        assert_eq!(got, want, "{file} {name}");
        n += 1;
    }
    assert!(n > 40, "{n} tensors");
}
