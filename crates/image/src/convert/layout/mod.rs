//! Layout: which axis of a tensor is which.

#[cfg(test)]
mod tests;

use crate::media::{ColorMode, DataFormat, Profile};
use crate::tensor::{Shape, Writer};

/// How the axes of a tensor are read as pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Which axis is which.
    pub format: DataFormat,
    /// Whether another format was as plausible, or this one was chosen only because no other fits.
    pub guessed: bool,
    /// Pictures in the tensor; at least 1.
    pub n_images: u64,
    /// Rows of a picture; at least 1.
    pub height: u64,
    /// Columns of a picture; at least 1.
    pub width: u64,
    /// Channels of a picture: 1 to 4.
    pub n_channels: u64,
    /// The axes of the tensor that count pictures, rows, columns and channels. `None` for an axis that the
    /// tensor lacks.
    pub axes: [Option<usize>; 4],
    /// The mode that `wandb.Image` guesses, if it is not the mode of `n_channels` channels.
    pub guessed_mode: Option<ColorMode>,
    /// Whether wandb 0.10 makes one contact sheet of the tensor, normalized as a whole.
    pub is_torch_sheet: bool,
}

impl Reading {
    /// Returns the number of elements of one picture.
    #[must_use]
    pub fn n_elements(&self) -> u64 {
        self.height * self.width * self.n_channels
    }
}

/// A shape that cannot be read as pictures.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// An axis has length 0.
    #[error("shape {0} holds no image: an axis has length 0")]
    Empty(Shape),
    /// No order of the axes gives pictures of 1 to 4 channels.
    #[error("shape {shape}: want {want}")]
    Shape {
        /// The tensor's shape.
        shape: Shape,
        /// The shapes that are accepted.
        want: String,
    },
    /// The only reading that fits is absurd. The record must say which axis is which.
    #[error("shape {shape} without a format: {found}; {advice}")]
    Absurd {
        /// The tensor's shape.
        shape: Shape,
        /// What it could be read as.
        found: String,
        /// The field that settles it.
        advice: String,
    },
}

impl LayoutError {
    /// Returns the error about a signed picture of two channels, whose second would be taken for alpha.
    pub(crate) fn signed_alpha(shape: &Shape, format: DataFormat) -> Self {
        Self::Absurd {
            shape: shape.clone(),
            found: "2 channels with negative values, which are not gray and alpha".to_owned(),
            advice: format!(
                "store the channels as pictures of their own, or name format \"{format}\" in the record"
            ),
        }
    }
}

/// Reads `shape` as pictures.
///
/// A `format` is followed; one more axis in front of it is a batch. Without a format, a `wandb-*` profile
/// reads the shapes that this wandb accepts as wandb does, accidents included. All other shapes are read
/// by `plausible`.
///
/// # Errors
/// If an axis has length 0, or no order of the axes gives pictures of 1 to 4 channels.
pub(crate) fn read(
    shape: &Shape,
    writer: Writer,
    format: Option<DataFormat>,
    profile: Profile,
    mode: Option<ColorMode>,
) -> Result<Reading, LayoutError> {
    if shape.axes().contains(&0) {
        return Err(LayoutError::Empty(shape.clone()));
    }
    let of_wandb = match (format, profile, writer) {
        (Some(format), ..) => return named(shape, format),
        (None, Profile::Auto, _) => None,
        (None, _, Writer::NumPy) => wandb_array(shape, profile, mode),
        (None, Profile::Wandb010, Writer::Torch) => torch_sheet(shape),
        (None, _, Writer::Torch) => wandb_torch(shape, mode),
    };
    let reading = of_wandb.map_or_else(|| plausible(shape, writer), Ok)?;
    match profile {
        Profile::Auto => check_absurd(shape, &reading).map(|()| reading),
        _ => Ok(reading),
    }
}

/// The longest side of a picture that is likelier an axis of channels.
const THIN_MAX: u64 = 3;

/// Reads the axes in the given format, or in that of a batch of such pictures. Axes of length 1 may stand
/// beside those of the format.
///
/// # Errors
/// If there are too few or too many axes, or the picture has more than 4 channels.
fn named(shape: &Shape, format: DataFormat) -> Result<Reading, LayoutError> {
    let all: Vec<usize> = (0..shape.axes().len()).collect();
    let formats = || [Some(format), format.batched()].into_iter().flatten();
    let of_rank = |kept: &[usize], format: DataFormat| {
        (kept.len() == format.rank()).then(|| of_format(shape, kept, format))
    };
    let squeezed = |format: DataFormat| of_rank(&squeezed(shape, format.rank())?, format);
    let exact = formats().find_map(|format| of_rank(&all, format));
    let mut readings = exact.into_iter().chain(formats().filter_map(squeezed));
    let has_channels = |reading: &Reading| (1..=4).contains(&reading.n_channels);
    // (24, 32, 1) in format HW is one picture, though it could be a batch of 24.
    let is_thin = |reading: &Reading| reading.height.min(reading.width) <= THIN_MAX;
    if let Some(reading) = exact.filter(|r| r.format == format && has_channels(r)) {
        return Ok(reading);
    }
    let fitting = || readings.clone().filter(has_channels);
    if let Some(reading) = fitting().find(|reading| !is_thin(reading)).or_else(|| fitting().next())
    {
        return Ok(reading);
    }
    let want = if let Some(reading) = readings.next() {
        format!("1 to 4 channels in format {format}, got {}", reading.n_channels)
    } else {
        let batch = format.batched();
        let batch = batch.map_or(String::new(), |b| format!(" ({} with a batch)", b.rank()));
        format!("{} axes{batch} for format {format}", format.rank())
    };
    Err(LayoutError::Shape { shape: shape.clone(), want })
}

/// Drops axes of length 1 until `rank` are left: those in front first. Returns `None` if there are too few
/// axes of length 1, or none to drop.
fn squeezed(shape: &Shape, rank: usize) -> Option<Vec<usize>> {
    let mut kept: Vec<usize> = (0..shape.axes().len()).collect();
    if kept.len() <= rank {
        return None;
    }
    while kept.len() > rank {
        let one = kept.iter().position(|&axis| shape.axes()[axis] == 1)?;
        kept.remove(one);
    }
    Some(kept)
}

/// Checks a batch of gray pictures, which is the reading of three axes that fit nothing else.
///
/// # Errors
/// If the pictures would be 1 to 3 pixels wide or high, or their columns are likelier channels: they are
/// far fewer than the other two axes are long.
fn check_absurd(shape: &Shape, reading: &Reading) -> Result<(), LayoutError> {
    const CHANNELS_MAX: u64 = 32;
    let Reading { format: DataFormat::Nhw, n_images, height, width, .. } = *reading else {
        return Ok(());
    };
    let are_channels = width <= CHANNELS_MAX && 2 * width <= n_images.min(height);
    if !are_channels && height.min(width) > THIN_MAX {
        return Ok(());
    }
    let (found, advice) = if are_channels {
        (
            format!("{width} channels, a picture has 1 to 4"),
            format!(
                "store the channels to show, or name format \"NHW\" in the record if these are \
                 {n_images} gray pictures of {width} × {height} pixels"
            ),
        )
    } else {
        (
            format!("{n_images} pictures of {width} × {height} pixels"),
            "name the format in the record: \"HW\" for one picture, \"NHW\" for a batch".to_owned(),
        )
    };
    Err(LayoutError::Absurd { shape: shape.clone(), found, advice })
}

/// Finds the plausible format. If there are two, takes the convention of the writer, and marks the reading
/// as guessed.
///
/// - 1 to 4 channels may come last.
/// - 1, 3 or 4 channels may come first. Two of them are more often two pictures.
/// - Else the first of three axes counts gray pictures. That is a guess too.
///
/// Pictures may have one row or one column: axes of length 1 are dropped, from the front, only if there are
/// more than four axes.
///
/// # Errors
/// If no format is plausible.
fn plausible(shape: &Shape, writer: Writer) -> Result<Reading, LayoutError> {
    use DataFormat::{Chw, Hw, Hwc, Nchw, Nhw, Nhwc};
    let mut kept: Vec<usize> = (0..shape.axes().len()).collect();
    while kept.len() > 4
        && let Some(one) = kept.iter().position(|&axis| shape.axes()[axis] == 1)
    {
        kept.remove(one);
    }
    let lengths: Vec<u64> = kept.iter().map(|&axis| shape.axes()[axis]).collect();
    let (channels_last, channels_first, batch) = match *lengths {
        [_, _] => return Ok(of_format(shape, &kept, Hw)),
        [first, _, last] => ((last, Hwc), (first, Chw), Some(Nhw)),
        [_, first, _, last] => ((last, Nhwc), (first, Nchw), None),
        _ => ((0, Nhwc), (0, Nchw), None),
    };
    let last = (1..=4).contains(&channels_last.0).then_some(channels_last.1);
    // In a batch, two channels may come first, unless channels come last.
    let is_first = match channels_first {
        (1 | 3 | 4, _) => true,
        (2, Nchw) => last.is_none(),
        _ => false,
    };
    let first = is_first.then_some(channels_first.1);
    let (usual, other) = match writer {
        Writer::NumPy => (last, first),
        Writer::Torch => (first, last),
    };
    let Some(format) = usual.or(other).or(batch) else {
        let want = "2 to 4 axes: HW, HWC, CHW, or a batch of these, with 1 to 4 channels";
        return Err(LayoutError::Shape { shape: shape.clone(), want: want.to_owned() });
    };
    // A batch of gray pictures is only what nothing else fits.
    let guessed = usual.is_some() == other.is_some();
    Ok(Reading { guessed, ..of_format(shape, &kept, format) })
}

/// Reads the axes `kept` of `shape` in `format`, which has as many.
fn of_format(shape: &Shape, kept: &[usize], format: DataFormat) -> Reading {
    let axes = ['N', 'H', 'W', 'C'].map(|name| format.name().find(name).map(|i| kept[i]));
    of_axes(shape, axes, format)
}

fn of_axes(shape: &Shape, axes: [Option<usize>; 4], format: DataFormat) -> Reading {
    let [n_images, height, width, n_channels] =
        axes.map(|axis| axis.map_or(1, |axis| shape.axes()[axis]));
    Reading {
        format,
        guessed: false,
        n_images,
        height,
        width,
        n_channels,
        axes,
        guessed_mode: None,
        is_torch_sheet: false,
    }
}

/// Reads all axes of `shape` in `format`, which has as many.
fn whole(shape: &Shape, format: DataFormat) -> Reading {
    let all: Vec<usize> = (0..shape.axes().len()).collect();
    of_format(shape, &all, format)
}

/// Reads an array as `wandb.Image` does. Returns `None` if wandb refuses it.
///
/// If there are more than two axes, those of length 1 are dropped. So an RGB picture of one row (1, W, 3)
/// becomes a gray picture, 3 pixels wide. Since 0.20, an array of 3 or 4 numbers is a gray picture, 1 pixel
/// wide, in mode RGB or RGBA. If `mode` is given, wandb does not guess, and accepts two channels and any
/// one-dimensional array.
///
/// Source: `docs/spec/image.md` A.3; wandb `sdk/data_types/image.py`.
fn wandb_array(shape: &Shape, profile: Profile, mode: Option<ColorMode>) -> Option<Reading> {
    let mut kept: Vec<usize> = (0..shape.axes().len()).collect();
    if kept.len() > 2 {
        kept.retain(|&axis| shape.axes()[axis] != 1);
    }
    let lengths: Vec<u64> = kept.iter().map(|&axis| shape.axes()[axis]).collect();
    match *lengths {
        [n] if profile != Profile::Wandb010 && (mode.is_some() || matches!(n, 1 | 3 | 4)) => {
            Some(Reading { guessed_mode: ColorMode::natural(n), ..column(shape, kept[0]) })
        }
        [_, _] => Some(of_format(shape, &kept, DataFormat::Hw)),
        [_, _, 3 | 4] => Some(of_format(shape, &kept, DataFormat::Hwc)),
        [_, _, 2] if mode.is_some() => Some(of_format(shape, &kept, DataFormat::Hwc)),
        _ => None,
    }
}

/// Reads one axis as a gray picture, 1 pixel wide.
fn column(shape: &Shape, axis: usize) -> Reading {
    of_axes(shape, [None, Some(axis), None, None], DataFormat::Hw)
}

/// Reads a torch tensor as `wandb.Image` does since 0.20. Returns `None` if wandb refuses it.
///
/// The first axis counts channels and gives the mode. It is moved to the end, and then axes of length 1 are
/// dropped. So (3, H, 1) becomes a gray picture, 3 pixels wide, in mode RGB.
///
/// Source: `docs/spec/image.md` A.6.
fn wandb_torch(shape: &Shape, mode: Option<ColorMode>) -> Option<Reading> {
    let &[n_channels, _, _] = shape.axes() else { return None };
    let guessed_mode = match n_channels {
        1 | 3 | 4 => ColorMode::natural(n_channels),
        _ if mode.is_some() => None,
        _ => return None,
    };
    let mut kept = vec![1, 2, 0];
    kept.retain(|&axis| shape.axes()[axis] != 1);
    let reading = match *kept {
        [height, width, channels] if (2..=4).contains(&n_channels) => {
            let axes = [None, Some(height), Some(width), Some(channels)];
            of_axes(shape, axes, DataFormat::Chw)
        }
        [height, width] => {
            let axes = [None, Some(height), Some(width), None];
            of_axes(shape, axes, DataFormat::Chw)
        }
        [axis] => column(shape, axis),
        _ => return None,
    };
    Some(Reading { guessed_mode, ..reading })
}

/// Reads a torch tensor as wandb 0.10 does, which passes it to torchvision's `make_grid`.
///
/// Source: `docs/spec/image.md` A.6; torchvision 0.13, `utils.py`.
fn torch_sheet(shape: &Shape) -> Option<Reading> {
    use DataFormat::{Chw, Hw, Nchw};
    let (format, n_channels) = match *shape.axes() {
        [_, _] => (Hw, 1),
        [c @ 1..=4, _, _] => (Chw, c),
        [_, c @ 1..=4, _, _] => (Nchw, c),
        _ => return None,
    };
    // `make_grid` repeats a single channel three times.
    let guessed_mode = (n_channels == 1).then_some(ColorMode::Rgb);
    Some(Reading { guessed_mode, is_torch_sheet: true, ..whole(shape, format) })
}
