//! Which axis of a tensor is which. Pure.

use crate::media::{ColorMode, DataFormat, Profile};
use crate::tensor::Shape;

/// How a tensor is read as pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Which axis is which.
    pub format: DataFormat,
    /// Whether another format made sense too and nothing told which.
    pub guessed: bool,
    /// Pictures in the tensor; at least 1.
    pub n_images: u64,
    /// Rows of each; at least 1.
    pub height: u64,
    /// Columns of each; at least 1.
    pub width: u64,
    /// Channels of each: 1 to 4.
    pub n_channels: u64,
    /// The mode that `wandb.Image` guesses where it isn't the channels' own: see `wandb_array`.
    pub guessed_mode: Option<ColorMode>,
}

impl Reading {
    /// Whether the channels lie before the rows.
    #[must_use]
    pub fn channels_first(&self) -> bool {
        matches!(self.format, DataFormat::Chw | DataFormat::Nchw)
    }

    /// Elements of one picture.
    #[must_use]
    pub fn n_elements(&self) -> u64 {
        self.height * self.width * self.n_channels
    }
}

/// Why a shape can't be read as pictures.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// An axis has no length.
    #[error("shape {0} holds no image: an axis has length 0")]
    Empty(Shape),
    /// No reading of the axes makes sense.
    #[error("shape {shape}: want {want}")]
    Shape {
        /// The tensor's shape.
        shape: Shape,
        /// What would do.
        want: String,
    },
}

/// Reads `shape` as pictures.
///
/// A `format` that the record or a rule names is taken at its word; one more axis in front of it is
/// a batch. Without it a `wandb-*` profile reads what that library accepts as that library does,
/// accidents included; everything else is read by `sensible`.
///
/// # Errors
/// If an axis has length 0, or no reading makes sense.
pub fn read(
    shape: &Shape,
    format: Option<DataFormat>,
    profile: Profile,
    mode: Option<ColorMode>,
) -> Result<Reading, LayoutError> {
    if shape.axes().contains(&0) {
        return Err(LayoutError::Empty(shape.clone()));
    }
    match format {
        Some(format) => named(shape, format),
        None => match wandb_array(shape, profile, mode) {
            Some(reading) => Ok(reading),
            None => sensible(shape),
        },
    }
}

/// The reading that `format` names.
fn named(shape: &Shape, format: DataFormat) -> Result<Reading, LayoutError> {
    let axes = shape.axes();
    let fits = |format: &DataFormat| format.rank() == axes.len();
    let batched = format.batched();
    let Some(format) = Some(format).filter(fits).or(batched.filter(fits)) else {
        let batch = batched.map_or(String::new(), |b| format!(" ({} with a batch)", b.rank()));
        let want = format!("{} axes{batch} for format {format}", format.rank());
        return Err(LayoutError::Shape { shape: shape.clone(), want });
    };
    let reading = of_format(axes, format);
    if (1..=4).contains(&reading.n_channels) {
        return Ok(reading);
    }
    let want = format!("1 to 4 channels in format {format}, got {}", reading.n_channels);
    Err(LayoutError::Shape { shape: shape.clone(), want })
}

/// The one reading that makes sense; with two, the one that `NumPy` users mean, marked as a guess.
///
/// Rows and columns come first and channels, 1 to 4 of them, last; else 1, 3 or 4 channels come
/// first; else the first axis of three counts gray pictures. (Two channels first are more often two
/// pictures.) A one-row or one-column picture is one: axes of length 1 are dropped, from the front,
/// only where there are more than four.
///
/// # Errors
/// If no reading makes sense.
fn sensible(shape: &Shape) -> Result<Reading, LayoutError> {
    let mut axes = shape.axes().to_vec();
    while axes.len() > 4
        && let Some(one) = axes.iter().position(|&axis| axis == 1)
    {
        axes.remove(one);
    }
    let last = |n: u64| (1..=4).contains(&n);
    let first = |n: u64| matches!(n, 1 | 3 | 4);
    let (format, guessed) = match *axes {
        [_, _] => (DataFormat::Hw, false),
        [c, _, d] if last(d) => (DataFormat::Hwc, first(c)),
        [c, _, _] if first(c) => (DataFormat::Chw, false),
        [_, _, _] => (DataFormat::Nhw, false),
        [_, c, _, d] if last(d) => (DataFormat::Nhwc, first(c)),
        [_, c, _, _] if first(c) => (DataFormat::Nchw, false),
        _ => {
            let want = "2 to 4 axes: HW, HWC, CHW, or a batch of these, with 1 to 4 channels";
            return Err(LayoutError::Shape { shape: shape.clone(), want: want.to_owned() });
        }
    };
    Ok(Reading { guessed, ..of_format(&axes, format) })
}

/// `axes` in `format`, whose rank they have.
fn of_format(axes: &[u64], format: DataFormat) -> Reading {
    let axis = |name: char| format.name().find(name).map_or(1, |i| axes[i]);
    Reading {
        format,
        guessed: false,
        n_images: axis('N'),
        height: axis('H'),
        width: axis('W'),
        n_channels: axis('C'),
        guessed_mode: None,
    }
}

/// The reading of `wandb.Image` for an array that it accepts, or `None`.
///
/// Of an array with more than two axes those of length 1 are dropped, so that a one-row RGB picture
/// (1, W, 3) becomes a gray one, 3 wide. From 0.20 on 3 or 4 numbers are a gray picture 1 wide in
/// mode RGB or RGBA. With `mode` given the mode isn't guessed, so that two channels and any row of
/// numbers pass.
///
/// Source: `spec/image.md` A.3; wandb `sdk/data_types/image.py`.
fn wandb_array(shape: &Shape, profile: Profile, mode: Option<ColorMode>) -> Option<Reading> {
    if profile == Profile::Auto {
        return None;
    }
    let mut axes = shape.axes().to_vec();
    if axes.len() > 2 {
        axes.retain(|&axis| axis != 1);
    }
    let given = mode.is_some();
    match *axes {
        [height] if profile != Profile::Wandb010 && (given || matches!(height, 1 | 3 | 4)) => {
            let guessed_mode = ColorMode::natural(height);
            Some(Reading { guessed_mode, ..of_format(&[height, 1], DataFormat::Hw) })
        }
        [_, _] => Some(of_format(&axes, DataFormat::Hw)),
        [_, _, 3 | 4] => Some(of_format(&axes, DataFormat::Hwc)),
        [_, _, 2] if given => Some(of_format(&axes, DataFormat::Hwc)),
        _ => None,
    }
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
        read(&shape, format, profile, None).map_err(|error| error.to_string())
    }

    /// `want`: format, whether guessed, N × H × W × C.
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
    fn the_sensible_reading_is_found() {
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
        check(&[1, 1, 1, 4, 5], Ok((Nchw, false, [1, 4, 5, 1])));
        // One row, one column: pictures like any other.
        check(&[1, 640, 3], Ok((Hwc, true, [1, 1, 640, 3])));
        check(&[480, 1, 3], Ok((Hwc, false, [1, 480, 1, 3])));
        check(&[1, 1], Ok((Hw, false, [1, 1, 1, 1])));
        // Both readings make sense.
        check(&[3, 20, 3], Ok((Hwc, true, [1, 3, 20, 3])));
        check(&[8, 3, 20, 4], Ok((Nhwc, true, [8, 3, 20, 4])));
        // None does.
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
            // What the library refuses is read sensibly.
            assert_eq!(got(&[3, 5, 6], profile), Ok(([1, 5, 6, 3], None)));
            assert_eq!(got(&[2, 4, 5, 3], profile), Ok(([2, 4, 5, 3], None)));
        }
        assert_eq!(got(&[1, 1, 3], Profile::Wandb020), Ok(([1, 3, 1, 1], Some(ColorMode::Rgb))));
        assert_eq!(got(&[4], Profile::Wandb029), Ok(([1, 4, 1, 1], Some(ColorMode::Rgba))));
        assert_eq!(got(&[1, 1, 3], Profile::Wandb010), Ok(([1, 1, 1, 3], None)));
    }
}
