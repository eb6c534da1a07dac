//! Tensors to pictures.

use std::cell::RefCell;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use safelight_image::decode::{
    Contents, DecodeError, DecodeOptions, NamedTensor, ReadAt, contents, storage,
};
use safelight_image::limits::StepUsage;
use safelight_image::media::{ColorMode, FileType, Sha256};
use safelight_image::plan::{Found, PlanError, PlannedItem, Recipe, plan};
use safelight_image::record::{Line, MediaRecord, parse_line};
use safelight_image::render::{RenderError, Renderer, render_all};
use safelight_image::{DType, Limits, TensorHeader, Writer};

use crate::memory::{Memory, MemoryError};

/// A picture, as Python gets it: see `Developed` in `python/safelight/_native.py`.
type Developed<'py> = (
    Bound<'py, PyBytes>,
    &'static str,
    Option<&'static str>,
    (u32, u32),
    String,
    Option<String>,
    Vec<String>,
);

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevelopError {
    #[error("{0}")]
    Plan(#[from] PlanError),
    #[error("{0}")]
    Render(#[from] RenderError),
    #[error("{0}")]
    Decode(#[from] DecodeError),
    #[error("{0}")]
    Memory(#[from] MemoryError),
    /// Another reason, in words.
    #[error("{0}")]
    Refused(String),
}

impl From<DevelopError> for PyErr {
    fn from(error: DevelopError) -> Self {
        match error {
            DevelopError::Memory(error) => error.into(),
            DevelopError::Render(RenderError::Io(error)) => PyOSError::new_err(error.to_string()),
            error => PyValueError::new_err(error.to_string()),
        }
    }
}

/// A picture before Python has it.
struct Picture {
    bytes: Vec<u8>,
    file_type: FileType,
    mode: Option<&'static str>,
    size: (u32, u32),
    sha256: Sha256,
    /// The JSON of its [`Provenance`](safelight_image::media::Provenance). `None` for a file that is kept as it is.
    provenance: Option<String>,
    warnings: Vec<String>,
}

thread_local! {
    /// Keeps its buffers from one call to the next.
    static RENDERER: RefCell<Renderer> = RefCell::default();
}

/// The limits of a caller who has the data in memory already. Those that a store has do not apply: nothing is
/// held.
fn limits() -> Limits {
    Limits {
        max_items: u32::MAX,
        max_dimension: u32::MAX,
        memory_bytes_max: u64::MAX,
        ..Limits::default()
    }
}

/// Makes the pictures of a tensor in memory.
///
/// `record` is a JSON object with the image options of a line of a media log, or empty. `dtype` is the type of the
/// elements if the library of `data` cannot name it. `fill` is the sample between the pictures of a contact sheet.
///
/// Raises `TypeError` if `data` is no memory of numbers on the CPU; `ValueError` if it makes no picture.
#[pyfunction]
#[pyo3(signature = (data, record, dtype=None, fill=0))]
pub(crate) fn develop<'py>(
    py: Python<'py>,
    data: &Bound<'py, PyAny>,
    record: &[u8],
    dtype: Option<&str>,
    fill: u8,
) -> PyResult<Vec<Developed<'py>>> {
    let memory = Memory::of(data, dtype.map(dtype_of).transpose()?)?;
    let layout = memory.layout();
    let pictures = py.detach(|| {
        let record = record_of(record)?;
        let (header, elements) = layout.tensor()?;
        tensor_pictures(header, Writer::NumPy, &elements, &record, fill)
    })?;
    Ok(pictures.into_iter().map(|picture| picture.developed(py)).collect())
}

/// Makes the pictures of a dump: an npy, npz, safetensors or torch file. An image file is kept as it is.
///
/// `tensor` names one of several tensors. `record` is as in `develop`.
///
/// Raises `ValueError` if there are several tensors and `tensor` is `None`, or if the dump makes no picture.
#[pyfunction]
#[pyo3(signature = (content, record, tensor=None))]
pub(crate) fn develop_file<'py>(
    py: Python<'py>,
    content: &[u8],
    record: &[u8],
    tensor: Option<&str>,
) -> PyResult<Vec<Developed<'py>>> {
    let pictures = py.detach(|| file_pictures(content, record, tensor))?;
    Ok(pictures.into_iter().map(|picture| picture.developed(py)).collect())
}

impl Picture {
    fn developed(self, py: Python<'_>) -> Developed<'_> {
        let Self { bytes, file_type, mode, size, sha256, provenance, warnings } = self;
        let bytes = PyBytes::new(py, &bytes);
        (bytes, file_type.extension(), mode, size, sha256.to_string(), provenance, warnings)
    }
}

/// Returns the type of this name.
///
/// # Errors
/// If there is none.
pub(crate) fn dtype_of(name: &str) -> PyResult<DType> {
    DType::from_name(name).ok_or_else(|| {
        PyValueError::new_err(format!("got dtype {name:?}, want one of NumPy or torch"))
    })
}

/// Reads image options as a line of a media log has them, so that the words of an error are the same.
///
/// # Errors
/// If they are neither empty nor a JSON object, or a value is not valid for its field.
pub(crate) fn record_of(options: &[u8]) -> Result<MediaRecord, DevelopError> {
    let options = if options.is_empty() { b"{}" } else { options };
    let Some(rest) = options.strip_prefix(b"{") else {
        return Err(DevelopError::Refused("image options are no JSON object".to_owned()));
    };
    let comma: &[u8] = if rest == b"}" { b"" } else { b"," };
    let line = [br#"{"key":"picture","step":0,"data":"memory""#, comma, rest].concat();
    match parse_line(&line) {
        Ok(Line::Media(record)) => Ok(*record),
        Ok(_) => Err(DevelopError::Refused("got options that no image has".to_owned())),
        // The column is one of our own text.
        Err(error) => Err(DevelopError::Refused(error.message)),
    }
}

fn tensor_pictures(
    header: TensorHeader,
    writer: Writer,
    storage: &impl ReadAt,
    record: &MediaRecord,
    fill: u8,
) -> Result<Vec<Picture>, DevelopError> {
    let found = Found::Tensor(writer, Box::new(header));
    let usage = &mut StepUsage::default();
    let plan = plan(record, record.options, found, &[], usage, &limits(), None)?;
    let Recipe::Convert(mut tensor) = plan.recipe else {
        return Err(DevelopError::Refused("want a tensor".to_owned()));
    };
    if let Some(sheet) = &mut tensor.sheet {
        sheet.fill = fill;
    }
    let images = plan.items.into_iter().map(|item| match item {
        PlannedItem::Image(job) => Ok(job.plan),
        PlannedItem::Held { reason, .. } | PlannedItem::Rejected { reason, .. } => {
            Err(DevelopError::Refused(reason))
        }
    });
    let images = images.collect::<Result<Vec<_>, _>>()?;
    let rendered =
        RENDERER.with_borrow_mut(|renderer| render_all(renderer, storage, &tensor, &images))?;
    Ok(rendered
        .into_iter()
        .zip(images)
        .map(|((rendered, value_warnings), plan)| {
            let image = rendered.image;
            Picture {
                bytes: image.bytes,
                file_type: image.file_type,
                mode: Some(image.mode.name()),
                size: (image.width, image.height),
                sha256: image.sha256,
                provenance: serde_json::to_string(&rendered.provenance).ok(),
                warnings: [plan.annotations.warnings, value_warnings].concat(),
            }
        })
        .collect())
}

fn file_pictures(
    content: &[u8],
    record: &[u8],
    tensor: Option<&str>,
) -> Result<Vec<Picture>, DevelopError> {
    let record = record_of(record)?;
    let limits = Limits::default();
    let options = DecodeOptions {
        header_bytes_max: limits.header_bytes_max,
        // A storage that is compressed is decoded into memory.
        storage_bytes_max: limits.memory_bytes_max,
        ..DecodeOptions::default()
    };
    let (writer, tensors) = match contents(&content, &options)? {
        Contents::Picture(picture) => {
            return Ok(vec![Picture {
                bytes: content.to_vec(),
                file_type: picture.file_type,
                mode: picture.mode.map(ColorMode::name),
                size: (picture.width, picture.height),
                sha256: Sha256::of(content),
                provenance: None,
                warnings: Vec::new(),
            }]);
        }
        Contents::Tensors { writer, tensors, .. } => (writer, tensors),
    };
    let chosen = match (tensor, &tensors[..]) {
        (None, [one]) => Some(one),
        (None, _) => None,
        (name, all) => all.iter().find(|tensor| tensor.name.as_deref() == name),
    };
    let Some(chosen) = chosen else {
        return Err(DevelopError::Refused(not_chosen(tensor, &tensors)));
    };
    let header = chosen.header.clone()?;
    let place = header.storage.clone();
    if let Some(plain) = storage::plain(&content, &place) {
        storage::verify(&content, &place)?;
        return tensor_pictures(header, writer, &plain, &record, 0);
    }
    let mut decoded = Vec::new();
    storage::decode(&content, &place, &mut decoded)?;
    tensor_pictures(header, writer, &decoded.as_slice(), &record, 0)
}

/// Says which tensors a dump has if none of them was chosen.
fn not_chosen(wanted: Option<&str>, tensors: &[NamedTensor]) -> String {
    const NAMED_MAX: usize = 8;
    let names: Vec<_> = tensors.iter().filter_map(|tensor| tensor.name.as_deref()).collect();
    let more = if names.len() > NAMED_MAX { ", …" } else { "" };
    let names =
        names.iter().take(NAMED_MAX).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    match wanted {
        None => {
            format!("the dump has {} tensors ({names}{more}), want one tensor", tensors.len())
        }
        Some(wanted) if names.is_empty() => {
            format!("the dump has no tensor {wanted:?}, its tensors have no names")
        }
        Some(wanted) => format!("the dump has no tensor {wanted:?}, want one of: {names}{more}"),
    }
}
