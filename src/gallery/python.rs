//! What `/api/v1/item` says of an item's tensor, and Python that reads and logs it.

use std::ffi::OsStr;
use std::path::Path;

use super::Shared;
use super::api::DumpFacts;
use super::origin::{self, Origin};
use super::params::Place;
use super::problem::Failure;
use super::shown::{TensorBytes, span_of_rule, span_of_values};
use crate::convert::shown_as;
use crate::decode::ReadAt;
use crate::media::{CommittedImage, DataFormat, Json, MediaEntry};
use crate::plan::{Recipe, TensorPlan};
use crate::tensor::{ByteOrder, DType, Shape};

/// What is known of an item's tensor, and Python that reads and logs it.
#[derive(Debug, Default)]
pub(super) struct Described {
    pub(super) dump: DumpFacts,
    pub(super) python: Option<String>,
    pub(super) wandb: Option<String>,
}

/// Describes an item's tensor.
///
/// # Errors
/// If the store fails.
pub(super) fn describe(
    shared: &Shared,
    place: &Place,
    entry: &MediaEntry,
) -> Result<Described, Failure> {
    let is_file = |image: &&CommittedImage| !image.pruned && shared.fleet().is_none();
    let file = entry.as_image().filter(is_file).map(|image| {
        let path = shared.reader.run_folder(&place.run).join(&image.file.path);
        quoted(&path.to_string_lossy())
    });
    let origin = match origin::find(shared, place, entry)? {
        Ok(origin) => origin,
        Err(reason) => {
            let dump = DumpFacts { reason: Some(reason), ..DumpFacts::default() };
            let wandb = file.map(|file| log(&file, "", place, entry));
            return Ok(Described { dump, python: None, wandb });
        }
    };
    let dump = facts(shared, &origin, entry);
    let python = Expression::of(&origin);
    let wandb = match &origin.tensor.recipe {
        Recipe::Copy(_) => log(&quoted(&origin.tensor.path()), "", place, entry),
        Recipe::Convert(tensor) => {
            let array = python.as_array(tensor);
            let mode = tensor.mode;
            let mode = if mode == tensor.natural_mode() {
                String::new()
            } else {
                format!(", mode={}", quoted(mode.name()))
            };
            log(&array, &mode, place, entry)
        }
    };
    Ok(Described { dump, python: Some(python.text), wandb: Some(wandb) })
}

fn facts(shared: &Shared, origin: &Origin, entry: &MediaEntry) -> DumpFacts {
    let tensor = &origin.tensor;
    let known = DumpFacts { proof: Some(tensor.proof), ..DumpFacts::default() };
    let side = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    match &tensor.recipe {
        Recipe::Copy(picture) => {
            let size = picture
                .mode
                .map(|mode| [picture.height, picture.width, side(mode.n_channels() as u64)]);
            DumpFacts { size, ..known }
        }
        Recipe::Convert(plan) => DumpFacts {
            dtype: Some(plan.header.dtype.name().to_owned()),
            shape: Some(plan.header.shape.axes().to_vec()),
            image: Some(tensor.image_idx),
            size: Some([plan.height, plan.width, plan.reading.n_channels].map(side)),
            span: span(shared, origin, plan, entry).map(|(low, high)| [low, high]),
            ..known
        },
    }
}

/// The values that become the least and the greatest byte. Of a held item it depends on the values, which are read
/// unless they are many.
fn span(
    shared: &Shared,
    origin: &Origin,
    plan: &TensorPlan,
    entry: &MediaEntry,
) -> Option<(f64, f64)> {
    /// Larger tensors are not read for this.
    const BYTES_MAX: u64 = 64 << 20;
    let depth = plan.wish.depth;
    if let Some(made) = entry.as_image().and_then(|image| image.provenance.as_ref()) {
        let ends = || made.stats.min.zip(made.stats.max);
        return span_of_rule(made.rule, made.range, depth, ends);
    }
    if origin.dump.n_bytes() > BYTES_MAX {
        return None;
    }
    let bytes =
        TensorBytes::open(&origin.dump, &plan.header.storage, shared.memory_bytes()).ok()?;
    span_of_values(&bytes, plan, origin.tensor.image_idx).ok()
}

/// Python for an array or a tensor.
struct Expression {
    text: String,
    is_torch: bool,
}

impl Expression {
    fn of(origin: &Origin) -> Self {
        let tensor = &origin.tensor;
        let path = tensor.path();
        let file = quoted(&path);
        let suffix = Path::new(&path).extension().and_then(OsStr::to_str).unwrap_or_default();
        let of_numpy = |text| Self { text, is_torch: false };
        let Recipe::Convert(plan) = &tensor.recipe else {
            return of_numpy(format!("np.asarray(PIL.Image.open({file}))"));
        };
        let mut start = [0; 6];
        // A dump that cannot be read has no Python, but its facts stay.
        let is_read = origin.dump.read_exact_at(&mut start, 0).is_ok();
        let has_odd_type = shown_as(plan.header.dtype) != plan.header.dtype && !is_complex(plan);
        let dtype = plan.header.dtype.name();
        let of_name =
            || tensor.name.as_ref().map_or_else(String::new, |name| format!("[{}]", quoted(name)));
        let viewed = if has_odd_type { format!(".view(ml_dtypes.{dtype})") } else { String::new() };
        let mut read = if let Some(raw) = &tensor.data.raw {
            let offset = raw.offset.unwrap_or(0);
            let dtype = if has_odd_type {
                format!("ml_dtypes.{dtype}")
            } else if raw.byte_order == ByteOrder::Big {
                format!("np.dtype(\"{dtype}\").newbyteorder(\">\")")
            } else {
                format!("\"{dtype}\"")
            };
            let (n, shape) = (raw.shape.n_elements(), python_shape(&raw.shape));
            of_numpy(format!("np.fromfile({file}, {dtype}, {n}, offset={offset}).reshape({shape})"))
        } else if is_read && start == *b"\x93NUMPY" {
            of_numpy(format!("np.load({file}){viewed}"))
        } else if suffix == "npz" {
            of_numpy(format!("np.load({file}){}{viewed}", of_name()))
        } else if suffix == "safetensors" {
            let library = if has_odd_type { "torch" } else { "numpy" };
            let text = format!("safetensors.{library}.load_file({file}){}", of_name());
            Self { text, is_torch: has_odd_type }
        } else {
            let text = format!("torch.load({file}, map_location=\"cpu\"){}", of_name());
            Self { text, is_torch: true }
        };
        if let (Some(axis), None) = (plan.reading.axes[0], plan.sheet) {
            let (before, image) = (":, ".repeat(axis), tensor.image_idx);
            read.text = format!("{}[{before}{image}]", read.text);
        }
        read
    }

    /// The array as `wandb.Image` takes it: channels last, or a torch tensor with channels first.
    fn as_array(&self, plan: &TensorPlan) -> String {
        let is_channels_first = matches!(plan.reading.format, DataFormat::Chw | DataFormat::Nchw);
        let Self { text, is_torch } = self;
        match (is_torch, is_channels_first) {
            (false, true) if plan.sheet.is_none() => format!("{text}.transpose(1, 2, 0)"),
            (true, false) => format!("{text}.numpy()"),
            _ => text.clone(),
        }
    }
}

fn is_complex(plan: &TensorPlan) -> bool {
    matches!(plan.header.dtype, DType::Complex64 | DType::Complex128)
}

fn python_shape(shape: &Shape) -> String {
    let lengths: Vec<String> = shape.axes().iter().map(u64::to_string).collect();
    lengths.join(", ")
}

/// Python that logs an image.
fn log(image: &str, options: &str, place: &Place, entry: &MediaEntry) -> String {
    let caption = entry.description.caption.as_ref().map(Json::to_value);
    let caption = match caption {
        Some(serde_json::Value::String(caption)) => format!(", caption={}", quoted(&caption)),
        _ => String::new(),
    };
    let (key, step) = (quoted(place.key.as_str()), place.step);
    format!("wandb.log({{{key}: wandb.Image({image}{options}{caption})}}, step={step})")
}

/// A text in Python. JSON's escapes are Python's, too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
