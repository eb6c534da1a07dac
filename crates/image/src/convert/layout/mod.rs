//! Layout: which axis of a tensor is which.

use crate::media::{ColorMode, DataFormat, Profile};
use crate::tensor::{Shape, Writer};

/// How the axes of a tensor are read as pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Which axis is which.
    pub format: DataFormat,
    /// Whether another format was as plausible.
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
    of_wandb.map_or_else(|| plausible(shape, writer), Ok)
}

/// Reads the axes in the given format.
fn named(shape: &Shape, format: DataFormat) -> Result<Reading, LayoutError> {
    let axes = shape.axes();
    let fits = |format: &DataFormat| format.rank() == axes.len();
    let batched = format.batched();
    let Some(format) = Some(format).filter(fits).or(batched.filter(fits)) else {
        let batch = batched.map_or(String::new(), |b| format!(" ({} with a batch)", b.rank()));
        let want = format!("{} axes{batch} for format {format}", format.rank());
        return Err(LayoutError::Shape { shape: shape.clone(), want });
    };
    let reading = whole(shape, format);
    if (1..=4).contains(&reading.n_channels) {
        return Ok(reading);
    }
    let want = format!("1 to 4 channels in format {format}, got {}", reading.n_channels);
    Err(LayoutError::Shape { shape: shape.clone(), want })
}

/// Finds the plausible format. If there are two, takes the convention of the writer, and marks the reading
/// as guessed.
///
/// - 1 to 4 channels may come last.
/// - 1, 3 or 4 channels may come first. Two of them are more often two pictures.
/// - Else the first of three axes counts gray pictures.
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
    let guessed = usual.is_some() && other.is_some();
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

#[cfg(test)]
mod tests {
    use super::*;
    use DataFormat::{Chw, Hw, Hwc, Nchw, Nhw, Nhwc};

    fn read_as(
        axes: &[u64],
        format: Option<DataFormat>,
        profile: Profile,
    ) -> Result<Reading, String> {
        let shape = Shape::new(axes.to_vec()).ok_or("shape")?;
        read(&shape, Writer::NumPy, format, profile, None).map_err(|error| error.to_string())
    }

    fn read_torch(axes: &[u64], profile: Profile) -> Result<Reading, String> {
        let shape = Shape::new(axes.to_vec()).ok_or("shape")?;
        read(&shape, Writer::Torch, None, profile, None).map_err(|error| error.to_string())
    }

    /// `want`: the format, whether it is guessed, N × H × W × C.
    fn check(axes: &[u64], want: Result<(DataFormat, bool, [u64; 4]), &str>) {
        let got = read_as(axes, None, Profile::Auto);
        match (got, want) {
            (Ok(got), Ok(want)) => {
                let sizes = [got.n_images, got.height, got.width, got.n_channels];
                assert_eq!((got.format, got.guessed, sizes), want, "{axes:?}");
            }
            (Err(got), Err(want)) => assert!(got.contains(want), "{axes:?}: {got}"),
            (got, want) => panic!("{axes:?}: got {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn the_plausible_format_is_found() {
        check(&[480, 640], Ok((Hw, false, [1, 480, 640, 1])));
        check(&[480, 640, 3], Ok((Hwc, false, [1, 480, 640, 3])));
        check(&[480, 640, 2], Ok((Hwc, false, [1, 480, 640, 2])));
        check(&[480, 640, 1], Ok((Hwc, false, [1, 480, 640, 1])));
        check(&[3, 480, 640], Ok((Chw, false, [1, 480, 640, 3])));
        check(&[1, 28, 28], Ok((Chw, false, [1, 28, 28, 1])));
        check(&[16, 28, 28], Ok((Nhw, false, [16, 28, 28, 1])));
        check(&[2, 28, 28], Ok((Nhw, false, [2, 28, 28, 1])));
        check(&[8, 32, 32, 3], Ok((Nhwc, false, [8, 32, 32, 3])));
        check(&[8, 3, 32, 32], Ok((Nchw, false, [8, 32, 32, 3])));
        check(&[9, 2, 5, 7], Ok((Nchw, false, [9, 5, 7, 2])));
        check(&[1, 1, 1, 4, 5], Ok((Nchw, false, [1, 4, 5, 1])));
        // Pictures of one row or one column.
        check(&[1, 640, 3], Ok((Hwc, true, [1, 1, 640, 3])));
        check(&[480, 1, 3], Ok((Hwc, false, [1, 480, 1, 3])));
        check(&[1, 1], Ok((Hw, false, [1, 1, 1, 1])));
        // Two formats are plausible.
        check(&[3, 20, 3], Ok((Hwc, true, [1, 3, 20, 3])));
        check(&[8, 3, 20, 4], Ok((Nhwc, true, [8, 3, 20, 4])));
        // No format is.
        check(&[9], Err("shape (9): want 2 to 4 axes"));
        check(&[], Err("shape (): want"));
        check(&[2, 5, 28, 28], Err("want 2 to 4 axes"));
        check(&[4, 0, 3], Err("shape (4, 0, 3) holds no image"));
    }

    #[test]
    fn a_named_format_is_taken_at_its_word() {
        let got = |axes: &[u64], format| {
            read_as(axes, Some(format), Profile::Wandb020)
                .map(|r| (r.format, [r.n_images, r.height, r.width, r.n_channels]))
        };
        assert_eq!(got(&[3, 20, 3], Chw), Ok((Chw, [1, 20, 3, 3])));
        assert_eq!(got(&[1, 20, 3], Hwc), Ok((Hwc, [1, 1, 20, 3])));
        assert_eq!(got(&[2, 20, 30], Chw), Ok((Chw, [1, 20, 30, 2])));
        assert_eq!(got(&[5, 20, 30, 3], Hwc), Ok((Nhwc, [5, 20, 30, 3])));
        assert_eq!(got(&[5, 20, 30], Hw), Ok((Nhw, [5, 20, 30, 1])));
        assert_eq!(
            got(&[20, 30], Hwc),
            Err("shape (20, 30): want 3 axes (4 with a batch) for format HWC".to_owned())
        );
        assert_eq!(
            got(&[20, 30, 5], Hwc),
            Err("shape (20, 30, 5): want 1 to 4 channels in format HWC, got 5".to_owned())
        );
    }

    #[test]
    fn torch_writes_channels_first() {
        let got = |axes: &[u64]| {
            let reading = read_torch(axes, Profile::Auto);
            reading.map(|r| (r.format, r.guessed, [r.n_images, r.height, r.width, r.n_channels]))
        };
        assert_eq!(got(&[3, 20, 30]), Ok((Chw, false, [1, 20, 30, 3])));
        assert_eq!(got(&[3, 20, 3]), Ok((Chw, true, [1, 20, 3, 3])));
        assert_eq!(got(&[8, 3, 20, 4]), Ok((Nchw, true, [8, 20, 4, 3])));
        assert_eq!(got(&[20, 30, 3]), Ok((Hwc, false, [1, 20, 30, 3])));
        assert_eq!(got(&[16, 20, 30]), Ok((Nhw, false, [16, 20, 30, 1])));
        assert_eq!(got(&[20, 30]), Ok((Hw, false, [1, 20, 30, 1])));
        assert_eq!(got(&[1, 1, 3, 20, 30]), Ok((Nchw, false, [1, 20, 30, 3])));
    }

    #[test]
    fn wandb_profiles_read_torch_tensors_as_the_library_does() {
        let got = |axes: &[u64], profile| {
            let reading = read_torch(axes, profile);
            reading.map(|r| ([r.n_images, r.height, r.width, r.n_channels], r.axes, r.guessed_mode))
        };
        let rgb = Some(ColorMode::Rgb);
        for profile in [Profile::Wandb020, Profile::Wandb029] {
            let chw = [None, Some(1), Some(2), Some(0)];
            assert_eq!(got(&[3, 5, 6], profile), Ok(([1, 5, 6, 3], chw, rgb)));
            let turned = [None, Some(1), Some(0), None];
            assert_eq!(got(&[3, 5, 1], profile), Ok(([1, 5, 3, 1], turned, rgb)));
            let turned = [None, Some(2), Some(0), None];
            assert_eq!(got(&[3, 1, 6], profile), Ok(([1, 6, 3, 1], turned, rgb)));
            let gray = [None, Some(1), Some(2), None];
            assert_eq!(got(&[1, 5, 6], profile), Ok(([1, 5, 6, 1], gray, Some(ColorMode::L))));
        }
        let sheet = read_torch(&[9, 1, 2, 2], Profile::Wandb010);
        assert_eq!(sheet.map(|r| (r.is_torch_sheet, r.guessed_mode)), Ok((true, rgb)));
        assert_eq!(read_torch(&[5, 7, 6], Profile::Wandb010).map(|r| r.format), Ok(Nhw));
    }

    #[test]
    fn wandb_profiles_keep_the_accidents_of_the_library() {
        let got = |axes: &[u64], profile| {
            read_as(axes, None, profile)
                .map(|r| ([r.n_images, r.height, r.width, r.n_channels], r.guessed_mode))
        };
        for profile in [Profile::Wandb010, Profile::Wandb020, Profile::Wandb029] {
            assert_eq!(got(&[1, 7, 3], profile), Ok(([1, 7, 3, 1], None)));
            assert_eq!(got(&[7, 1, 4], profile), Ok(([1, 7, 4, 1], None)));
            assert_eq!(got(&[1, 1, 4, 5], profile), Ok(([1, 4, 5, 1], None)));
            assert_eq!(got(&[4, 1, 5, 3], profile), Ok(([1, 4, 5, 3], None)));
            assert_eq!(got(&[3, 5, 4], profile), Ok(([1, 3, 5, 4], None)));
            // Shapes that wandb refuses are read by `plausible`.
            assert_eq!(got(&[3, 5, 6], profile), Ok(([1, 5, 6, 3], None)));
            assert_eq!(got(&[2, 4, 5, 3], profile), Ok(([2, 4, 5, 3], None)));
        }
        assert_eq!(got(&[1, 1, 3], Profile::Wandb020), Ok(([1, 3, 1, 1], Some(ColorMode::Rgb))));
        assert_eq!(got(&[4], Profile::Wandb029), Ok(([1, 4, 1, 1], Some(ColorMode::Rgba))));
        assert_eq!(got(&[1, 1, 3], Profile::Wandb010), Ok(([1, 1, 1, 3], None)));
    }
}
