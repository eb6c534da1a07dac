//! Plans the masks of an image.

use crate::annotations::{MaskData, MaskSpec};
use crate::decode::PictureHeader;
use crate::encode::encoded_bytes_max;
use crate::limits::Limits;
use crate::media::{ColorMode, FileType};
use crate::record::DataRef;
use crate::tensor::{TensorHeader, Writer};

/// The most classes of a mask that has a score for each class: a class id has 16 bits.
const CLASSES_MAX: u64 = 65_536;

/// The most values of a mask's tensor. The file's length is no bound for them, because a view may repeat
/// elements.
const SCORES_MAX: u64 = 1 << 32;

/// An open dump that masks come from.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskSource {
    /// The record's reference to it.
    pub data: DataRef,
    /// Its contents.
    pub contents: MaskContents,
}

/// The contents of a dump of masks.
#[derive(Debug, Clone, PartialEq)]
pub enum MaskContents {
    /// A tensor of class ids, or of scores.
    Tensor(Writer, TensorHeader),
    /// A picture that is copied unchanged.
    File(PictureHeader),
    /// Nothing that can be read, for this reason.
    Unreadable(String),
}

/// How one mask is made.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskPlan {
    /// The job's description of it.
    pub spec: MaskSpec,
    /// Which of the record's [`MaskSource`]s it comes from.
    pub source_idx: usize,
    /// The part of the source to read.
    pub reading: MaskReading,
}

/// The part of a source that makes a mask.
#[derive(Debug, Clone, PartialEq)]
pub enum MaskReading {
    /// A part of a tensor.
    Tensor {
        /// The tensor.
        header: TensorHeader,
        /// The axes of pictures, rows, columns and classes.
        axes: [Option<usize>; 4],
        /// Which of its pictures, from 0.
        image_idx: u64,
        /// The number of columns.
        width: u64,
        /// The number of rows.
        height: u64,
        /// The number of classes that have scores. `None` if the values are class ids.
        n_classes: Option<u64>,
    },
    /// The whole file.
    File(PictureHeader),
}

impl MaskReading {
    /// Width and height.
    #[must_use]
    pub fn size(&self) -> (u64, u64) {
        match self {
            Self::Tensor { width, height, .. } => (*width, *height),
            Self::File(picture) => (picture.width.into(), picture.height.into()),
        }
    }

    /// An upper bound of the memory that making the mask takes, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        match self {
            Self::Tensor { width, height, n_classes, .. } => {
                let n_pixels = width.saturating_mul(*height);
                let scores = if n_classes.is_some() { 8 } else { 0 };
                let encoded = encoded_bytes_max(n_pixels.saturating_mul(2), *height);
                n_pixels.saturating_mul(4 + scores).saturating_add(encoded.saturating_mul(2))
            }
            Self::File(picture) => picture.n_bytes,
        }
    }
}

/// The image that a mask lies on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Image {
    /// Which image of a batch of `n_images`, from 0.
    pub(super) idx: u64,
    pub(super) n_images: u64,
    pub(super) width: u64,
    pub(super) height: u64,
}

/// Plans one mask.
///
/// # Errors
/// If no source is the mask's, or the source's shape is no mask's, for this reason.
pub(super) fn plan(
    spec: MaskSpec,
    sources: &[MaskSource],
    image: Image,
    limits: &Limits,
) -> Result<MaskPlan, String> {
    let field = match spec.data {
        MaskData::Tensor { .. } => "mask_data",
        MaskData::File(_) => "path",
    };
    let problem = |what: String| format!("masks.{}.{field}: {what}", spec.name);
    let source_idx = sources.iter().position(|source| source.data == *spec.data.data());
    let source_idx = source_idx.ok_or_else(|| problem("is not there".to_owned()))?;
    let reading = match (&spec.data, &sources[source_idx].contents) {
        (MaskData::Tensor { one_hot, .. }, MaskContents::Tensor(writer, header)) => {
            read(header, *writer, *one_hot, image).map_err(problem)?
        }
        // A mask file holds class ids, whether the record calls it `path` or `mask_data`.
        (_, MaskContents::File(picture)) => MaskReading::File(picture.clone()),
        (MaskData::File(_), MaskContents::Tensor(..)) => {
            return Err(problem("want an image file, or mask_data for a tensor".to_owned()));
        }
        (_, MaskContents::Unreadable(reason)) => return Err(problem(reason.clone())),
    };
    let (width, height) = reading.size();
    if width.saturating_mul(height) > limits.pixels_max {
        let max = limits.pixels_max;
        return Err(problem(format!("{width} × {height} pixels, limits.pixels_max is {max}")));
    }
    Ok(MaskPlan { spec, source_idx, reading })
}

/// Returns why the pixels of a mask file may not be its class ids. A class id is the gray value of a
/// pixel, 8 or 16 bits.
pub(super) fn doubt(picture: &PictureHeader) -> Option<String> {
    const WANT: &str = "want a lossless file of one channel, such as a gray PNG";
    let got = match (picture.file_type, picture.mode) {
        (FileType::Jpg | FileType::Jpeg, _) => "JPEG changes the values of pixels",
        (FileType::Webp, _) => "WebP has three channels, and may change the values of pixels",
        (FileType::Gif, _) => "the pixels of a GIF are colors of a palette",
        // Headers of BMP and TIFF do not say it.
        (FileType::Png, Some(ColorMode::L | ColorMode::I16))
        | (FileType::Bmp | FileType::Tiff, _) => return None,
        (FileType::Png, Some(ColorMode::Bit)) => "viewers read white as 255, not as 1",
        (FileType::Png, Some(ColorMode::La)) => "2 channels",
        (FileType::Png, Some(ColorMode::Rgb)) => "3 channels, of which the first counts",
        (FileType::Png, Some(ColorMode::Rgba)) => "4 channels, of which the first counts",
        (FileType::Png, None) => "a palette, or gray or color of another depth",
    };
    Some(format!("class ids may be wrong: {got}; {WANT}"))
}

/// Finds the axes of a mask: rows and columns, classes if `one_hot`, and pictures if the image is one of
/// a batch. Further axes may have length 1.
fn read(
    header: &TensorHeader,
    writer: Writer,
    one_hot: bool,
    image: Image,
) -> Result<MaskReading, String> {
    let shape = &header.shape;
    let length = |axis: usize| shape.axes()[axis];
    let mut kept: Vec<usize> = (0..shape.axes().len()).collect();
    let n_wanted = if one_hot { 3 } else { 2 };
    let mut pictures = None;
    // First, the axis of pictures is taken out, unless the mask has the image's size without it. Then
    // the axes of length 1 are, the last one first.
    let longer: Vec<u64> = shape.axes().iter().copied().filter(|&axis| axis != 1).collect();
    let is_one = !one_hot && longer == [image.height, image.width];
    if kept.len() > n_wanted && image.n_images > 1 && length(0) == image.n_images && !is_one {
        pictures = Some(kept.remove(0));
    }
    while kept.len() > n_wanted {
        let last = kept.len() - 1;
        match [last, 0].into_iter().find(|&i| length(kept[i]) == 1) {
            Some(i) => drop(kept.remove(i)),
            None => break,
        }
    }
    let is_size = |rows: usize, columns: usize| {
        (length(rows), length(columns)) == (image.height, image.width)
    };
    let (rows, columns, classes) = match *kept {
        [rows, columns] if !one_hot => (rows, columns, None),
        [first, middle, last] if one_hot => {
            let is_first = match (is_size(middle, last), is_size(first, middle)) {
                (true, false) => true,
                (false, true) => false,
                _ => writer == Writer::Torch,
            };
            if is_first { (middle, last, Some(first)) } else { (first, middle, Some(last)) }
        }
        _ => {
            let want = if one_hot { "(H, W, classes) or (classes, H, W)" } else { "(H, W)" };
            let batch = match image.n_images {
                1 => String::new(),
                n => format!(", or {n} of these in a batch"),
            };
            let hint = if one_hot { "" } else { "; scores for each class need one_hot" };
            return Err(format!("shape {shape}, want {want}{batch}{hint}"));
        }
    };
    let n_classes = classes.map(length);
    let (width, height) = (length(columns), length(rows));
    if width == 0 || height == 0 || n_classes == Some(0) {
        return Err(format!("shape {shape} holds no mask: an axis has length 0"));
    }
    if n_classes.is_some_and(|n| n > CLASSES_MAX) || shape.n_elements() > SCORES_MAX {
        return Err(format!(
            "shape {shape}: want at most {CLASSES_MAX} classes and {SCORES_MAX} values"
        ));
    }
    Ok(MaskReading::Tensor {
        header: header.clone(),
        axes: [pictures, Some(rows), Some(columns), classes],
        image_idx: if pictures.is_some() { image.idx } else { 0 },
        width,
        height,
        n_classes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{ByteOrder, DType, Shape, Storage};

    fn check(axes: &[u64], one_hot: bool, n_images: u64, want: Result<[Option<usize>; 4], &str>) {
        let shape = Shape::new(axes.to_vec()).unwrap_or_else(|| panic!("{axes:?}"));
        let (strides, n) = (shape.c_strides(), shape.n_elements());
        let storage = Storage::plain(0, n);
        let little = ByteOrder::Little;
        let header = TensorHeader::new(DType::U8, little, shape, strides, storage, 0)
            .unwrap_or_else(|_| panic!("{axes:?}"));
        let image = Image { idx: 1, n_images, width: 6, height: 5 };
        let got = read(&header, Writer::NumPy, one_hot, image).map(|reading| match reading {
            MaskReading::Tensor { axes, .. } => axes,
            MaskReading::File(_) => [None; 4],
        });
        assert_eq!(got, want.map_err(str::to_owned), "{axes:?}");
    }

    #[test]
    fn axes_of_masks_are_found() {
        let plain = Ok([None, Some(0), Some(1), None]);
        check(&[5, 6], false, 1, plain);
        check(&[5, 6, 1], false, 1, plain);
        check(&[1, 5, 6], false, 1, Ok([None, Some(1), Some(2), None]));
        check(&[1, 1], false, 1, plain);
        check(&[4, 5, 6], false, 4, Ok([Some(0), Some(1), Some(2), None]));
        check(&[4, 1, 5, 6], false, 4, Ok([Some(0), Some(2), Some(3), None]));
        check(&[5, 6], false, 4, plain);
        check(&[5, 6, 1], false, 5, plain);
        check(
            &[3, 5, 6],
            false,
            1,
            Err("shape (3, 5, 6), want (H, W); scores for each class need one_hot"),
        );
        check(&[5, 0], false, 1, Err("shape (5, 0) holds no mask: an axis has length 0"));
        check(&[5, 6, 3], true, 1, Ok([None, Some(0), Some(1), Some(2)]));
        check(&[3, 5, 6], true, 1, Ok([None, Some(1), Some(2), Some(0)]));
        check(&[7, 8, 9], true, 1, Ok([None, Some(0), Some(1), Some(2)]));
        check(&[4, 3, 5, 6], true, 4, Ok([Some(0), Some(2), Some(3), Some(1)]));
        check(&[5, 6], true, 1, Err("shape (5, 6), want (H, W, classes) or (classes, H, W)"));
    }
}
