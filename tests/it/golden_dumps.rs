//! Dumps that the real `NumPy`, torch, safetensors and `ml_dtypes` wrote (`tests/golden/dumps/make.py`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use safelight::decode::{self, Contents, DecodeError, DecodeOptions, NamedTensor, storage};
use safelight::limits::Limits;
use safelight::tensor::{ByteOrder, DType, TensorHeader};
use serde::Deserialize;

/// A tensor as its own library reads it.
#[derive(Deserialize)]
struct Expected {
    file: String,
    tensor: Option<String>,
    dtype: String,
    shape: Vec<u64>,
    bytes: String,
    #[serde(default)]
    packed: bool,
}

/// A file or one of its tensors that must be rejected.
#[derive(Deserialize)]
struct Refused {
    file: String,
    tensor: Option<String>,
    why: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/dumps")
}

fn lines<T: for<'a> Deserialize<'a>>(name: &str) -> Vec<T> {
    let text = fs::read_to_string(folder().join(name)).expect("a golden list");
    text.lines().map(|line| serde_json::from_str(line).expect("a golden line")).collect()
}

fn contents(file: &[u8], dtype: Option<DType>) -> Result<Vec<NamedTensor>, DecodeError> {
    let options = DecodeOptions {
        header_bytes_max: 4 << 20,
        storage_bytes_max: 1 << 24,
        dtype,
        ..DecodeOptions::default()
    };
    match decode::contents(&file, &options)? {
        Contents::Tensors { tensors, .. } => Ok(tensors),
        Contents::Picture(picture) => panic!("{picture:?}"),
    }
}

/// Returns a tensor's elements in C order, little-endian.
fn elements(file: &[u8], header: &TensorHeader) -> Result<Vec<u8>, DecodeError> {
    let mut stored = Vec::new();
    storage::decode(&file, &header.storage, &mut stored)?;
    let size = header.dtype.size();
    let (axes, n) = (header.shape.axes(), header.shape.n_elements());
    let mut elements = Vec::new();
    for mut place in 0..n {
        let mut at = 0;
        for (&axis, &stride) in axes.iter().zip(&header.strides).rev() {
            at += place % axis * stride;
            place /= axis;
        }
        let first = usize::try_from(header.first).expect("a small file")
            + usize::try_from(at).expect("a small file") * size;
        let mut element = stored[first..first + size].to_vec();
        if header.byte_order == ByteOrder::Big {
            element.chunks_mut(header.dtype.word_size()).for_each(<[u8]>::reverse);
        }
        elements.extend(element);
    }
    Ok(elements)
}

/// Returns the value of a float of fewer than 8 bits, which we decode to `float8_e4m3fn`.
fn value_of_small(dtype: &str, bits: u8) -> Option<f32> {
    let (exponent, mantissa) = match dtype {
        "float4_e2m1fn" => (2, 1),
        "float6_e2m3fn" => (2, 3),
        "float6_e3m2fn" => (3, 2),
        "float8_e4m3fn" => (4, 3),
        _ => return None,
    };
    let bias = (1 << (exponent - 1)) - 1;
    let field = i32::from(bits >> mantissa & ((1 << exponent) - 1));
    let fraction = f32::from(bits & ((1 << mantissa) - 1)) / f32::from(1u8 << mantissa);
    let magnitude = match field {
        0 => fraction * 2f32.powi(1 - bias),
        field => (1.0 + fraction) * 2f32.powi(field - bias),
    };
    Some(if bits >> (exponent + mantissa) & 1 == 1 { -magnitude } else { magnitude })
}

/// Unpacks a tensor's elements, lowest bits first, to one byte each.
fn unpacked(dtype: &str, bytes: &[u8], n: u64) -> Vec<u8> {
    let width = if dtype.starts_with("float4") { 4 } else { 6 };
    let bit = |i: usize| bytes[i / 8] >> (i % 8) & 1;
    let n = usize::try_from(n).expect("a small file");
    (0..n).map(|i| (0..width).map(|j| bit(i * width + j) << j).sum()).collect()
}

#[test]
fn every_tensor_of_every_writer_is_read() {
    let mut by_file: BTreeMap<String, Vec<Expected>> = BTreeMap::new();
    for expected in lines::<Expected>("expected.jsonl") {
        by_file.entry(expected.file.clone()).or_default().push(expected);
    }
    let refused: Vec<Refused> = lines("refused/refused.jsonl");
    let (mut n, mut wrong) = (0, Vec::new());
    for (name, expected) in &by_file {
        let file = fs::read(folder().join(name)).expect("a golden file");
        let dtype = DType::from_name(&expected[0].dtype).filter(|_| name.starts_with("npy/"));
        let is_unknown = name.starts_with("npy/") && dtype.is_none();
        let tensors = match contents(&file, dtype) {
            Ok(tensors) => tensors,
            // NumPy saves floats of ml_dtypes with fewer than 8 bits one to a byte, without type names.
            Err(_) if is_unknown => continue,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        let is_refused = |tensor: &&NamedTensor| {
            refused.iter().any(|refused| refused.file == *name && refused.tensor == tensor.name)
        };
        let (bad, good): (Vec<_>, Vec<_>) = tensors.iter().partition(is_refused);
        if let Some(tensor) = bad.iter().find(|tensor| tensor.header.is_ok()) {
            wrong.push(format!("{name} {:?}: read, want it refused", tensor.name));
        }
        let names: Vec<_> = good.iter().map(|tensor| &tensor.name).collect();
        let want: Vec<_> = expected.iter().map(|expected| &expected.tensor).collect();
        if names != want {
            wrong.push(format!("{name}: got {names:?}, want {want:?}"));
            continue;
        }
        for (tensor, expected) in good.into_iter().zip(expected) {
            n += 1;
            if let Err(problem) = check(&file, tensor, expected) {
                wrong.push(format!("{name} {:?}: {problem}", tensor.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {n} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(n > 450, "only {n} tensors");
}

fn check(file: &[u8], tensor: &NamedTensor, expected: &Expected) -> Result<(), String> {
    let header = tensor.header.as_ref().map_err(ToString::to_string)?;
    let want = BASE64_STANDARD.decode(&expected.bytes).expect("base64");
    if header.shape.axes() != expected.shape {
        return Err(format!("got shape {}, want {:?}", header.shape, expected.shape));
    }
    let got = elements(file, header).map_err(|error| error.to_string())?;
    let is_equal = if expected.packed {
        let want = unpacked(&expected.dtype, &want, header.shape.n_elements());
        let got = got.iter().map(|&bits| value_of_small("float8_e4m3fn", bits));
        let want = want.iter().map(|&bits| value_of_small(&expected.dtype, bits));
        header.dtype == DType::F8E4M3Fn && got.eq(want)
    } else {
        header.dtype.name() == expected.dtype && got == want
    };
    if is_equal { Ok(()) } else { Err(format!("got {} {got:?}, want {want:?}", header.dtype)) }
}

/// Odd files that are read nevertheless, because the tensors in them are unambiguous.
const HARMLESS: [&str; 12] = [
    // A tensor's name is never used as a path.
    "key-parent.pt",
    // Bytes that belong to no tensor.
    "deflate-more.npz",
    "storage-long.pt",
    // Redundant fields that are not read.
    "directory-size.npz",
    "local-crc.npz",
    "local-size.npz",
    "pickle-frame-too-long.pt",
    // Values other than tensors.
    "pickle-key-list.pt",
    "pickle-text-not-utf8.pt",
    // A call is never made. Its result is a value other than a tensor.
    "code-reduce-beside.pt",
    // Containers that hold themselves.
    "recursive-dict.pt",
    "recursive-list.pt",
];

/// The values of a module besides its weights.
const OF_MODULE: &[(&str, &str)] = &[
    ("training", "bool"),
    ("_is_full_backward_hook", "None"),
    ("in_features", "int"),
    ("out_features", "int"),
];

/// Files of the real torch with values besides tensors: the tensors in each, and what is skipped.
#[expect(clippy::type_complexity, reason = "a table of one test")]
const BESIDE: [(&str, &[Option<&str>], &[(&str, &str)]); 7] = [
    ("refused/torch-1.13-datetime.pt", &[Some("x")], &[("when", "datetime.datetime")]),
    ("refused/torch-2.15-datetime.pt", &[Some("x")], &[("when", "datetime.datetime")]),
    ("refused/torch-1.13-numpy.pt", &[Some("x"), Some("a")], &[]),
    ("refused/torch-2.15-numpy.pt", &[Some("x"), Some("a")], &[]),
    (
        "refused/torch-1.13-module.pt",
        &[Some("_parameters/weight"), Some("_parameters/bias")],
        OF_MODULE,
    ),
    (
        "refused/torch-2.15-module.pt",
        &[Some("_parameters/weight"), Some("_parameters/bias")],
        OF_MODULE,
    ),
    ("refused/torch-2.15-attribute.pt", &[None], &[("attributes", "dict")]),
];

#[test]
fn values_beside_tensors_cost_no_tensor_and_are_skipped_by_name() {
    // Regression: a file was refused as a whole for an object beside its tensors, or for the class of a
    // tensor.
    let options = DecodeOptions {
        header_bytes_max: 4 << 20,
        storage_bytes_max: 1 << 24,
        ..DecodeOptions::default()
    };
    for (name, want, others) in BESIDE {
        let file = fs::read(folder().join(name)).expect("a golden file");
        let contents = decode::contents(&file.as_slice(), &options);
        let Ok(Contents::Tensors { tensors, others: got, .. }) = contents else {
            panic!("{name}: {contents:?}");
        };
        let names: Vec<_> = tensors.iter().map(|tensor| tensor.name.as_deref()).collect();
        let skipped: Vec<_> =
            got.examples.iter().map(|entry| (entry.name.as_str(), entry.what.as_str())).collect();
        assert_eq!((names.as_slice(), skipped.as_slice()), (want, others), "{name}");
        let read = |tensor: &NamedTensor| {
            let header = tensor.header.as_ref().map_err(ToString::to_string)?;
            elements(&file, header).map_err(|error| error.to_string())
        };
        let read: Result<Vec<_>, _> = tensors.iter().map(read).collect();
        let read = read.unwrap_or_else(|error| panic!("{name}: {error}"));
        if name.contains("numpy") {
            assert_eq!(read[0], read[1], "{name}: the array is that of the tensor");
        }
    }
}

#[test]
fn hostile_and_foreign_files_are_refused_with_a_reason() {
    let mut wrong = Vec::new();
    let refused: Vec<Refused> = lines("refused/refused.jsonl");
    for Refused { file: name, tensor, why } in &refused {
        if tensor.is_some() {
            continue;
        }
        let file = fs::read(folder().join(name)).expect("a refused file");
        // A defect shows when headers are read or when the bytes are.
        let read = contents(&file, None).and_then(|tensors| {
            if tensors.is_empty() {
                return Err(DecodeError::Unsupported("no tensor".to_owned()));
            }
            let (mut n, pixels_max) = (0, Limits::default().pixels_max);
            for tensor in tensors {
                let header = tensor.header?;
                // A view may repeat elements many times. The plan rejects such a view.
                if header.shape.n_elements() > 4 * pixels_max {
                    return Err(DecodeError::OverLimit("pixels_max".to_owned()));
                }
                n += elements(&file, &header)?.len();
            }
            Ok(n)
        });
        let is_harmless =
            HARMLESS.iter().any(|harmless| *name == format!("refused/hostile-{harmless}"))
                || BESIDE.iter().any(|(beside, ..)| name == beside);
        match read {
            Ok(_) if is_harmless => {}
            Ok(n) => wrong.push(format!("{name}: {n} bytes are read, want it refused: {why}")),
            Err(DecodeError::Io(error)) => wrong.push(format!("{name}: {error}; {why}")),
            Err(error) => eprintln!("{name}: {error}"),
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(refused.len() > 150, "only {} files", refused.len());
}

#[test]
fn files_that_are_cut_off_never_make_a_tensor() {
    let mut n = 0;
    for name in [
        "npz/stored.npz",
        "npz/deflated.npz",
        "torch-1.13/dict.pt",
        "safetensors-0.8/dtypes.safetensors",
    ] {
        let file = fs::read(folder().join(name)).expect("a golden file");
        for end in 0..file.len() {
            // A truncated file may grow, so that it is not rejected finally.
            let cut = contents(&file[..end], None);
            let waits =
                matches!(cut, Err(DecodeError::Truncated { .. } | DecodeError::Unfinished(_)));
            assert!(waits, "{name} of {end} bytes: {cut:?}");
            n += 1;
        }
    }
    assert!(n > 1000, "only {n} cuts");
}
