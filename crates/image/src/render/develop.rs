//! A picture by another rule than the stored one: range, gamma, colormap, marks. Nothing is stored.

use std::io;

use super::maker::Maker;
use super::numbers::each_value;
use super::source::Buffers;
use super::{Samples, side};
use crate::convert::{Depth, Pixels, Wish};
use crate::decode::ReadAt;
use crate::media::{ColorMode, Colormap, Profile, Rgb};
use crate::plan::TensorPlan;

/// How a picture is developed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Develop {
    /// The values that become 0 and 255. The first is the lesser.
    pub range: (f64, f64),
    /// A share *s* of the range becomes *s* ^ (1 ÷ gamma). Alpha stays as it is.
    pub gamma: f64,
    /// The colormap of a picture with one channel.
    pub colormap: Option<Colormap>,
    /// The color of pixels that are NaN. If `None`, NaN becomes 0.
    pub nan_color: Option<Rgb>,
    /// Whether values that are not finite, or outside of the range, are marked.
    pub marks: bool,
}

/// Develops one image of a tensor.
///
/// Marks: NaN is magenta checks; +∞ is an arrow up on yellow, −∞ an arrow down on cyan; values below the range are blue
/// stripes over the picture, those above are red stripes. If channels of a pixel differ, the first of these counts.
///
/// # Errors
/// If the storage can't be read.
pub fn develop(
    storage: &impl ReadAt,
    tensor: &TensorPlan,
    image_idx: u64,
    how: &Develop,
) -> io::Result<Pixels> {
    let is_straight = how.gamma == 1.0;
    let depth = if is_straight { Depth::Eight } else { Depth::Sixteen };
    let colormap = how.colormap.filter(|_| tensor.reading.n_channels == 1);
    let natural = tensor.natural_mode();
    let is_colored = colormap.is_some() || how.nan_color.is_some() || how.marks;
    let colored = if natural.has_alpha() { ColorMode::Rgba } else { ColorMode::Rgb };
    let tensor = &TensorPlan {
        wish: Wish {
            profile: Profile::Auto,
            range: Some(how.range),
            depth,
            is_torch_sheet: false,
            batch: None,
        },
        colormap,
        nan_color: how.nan_color.filter(|_| tensor.header.dtype.is_float()),
        drops_alpha: false,
        background: None,
        mode: if is_colored { colored } else { natural },
        ..tensor.clone()
    };
    let mut buffers = Buffers::default();
    let mut maker = Maker::new(storage, tensor, image_idx, None, &mut buffers);
    let (samples, conversion, stats) = if is_straight {
        let mut samples = Samples::<u8>::default();
        let (conversion, (stats, _)) = maker.samples(&mut samples)?;
        (samples.pixels, conversion, stats)
    } else {
        let mut samples = Samples::<u16>::default();
        let (conversion, (stats, _)) = maker.samples(&mut samples)?;
        (bent(&samples.pixels, natural, how.gamma), conversion, stats)
    };
    let bytes = maker.pixels(samples, &conversion, &stats)?;
    let mut pixels =
        Pixels { mode: tensor.mode, width: side(tensor.width), height: side(tensor.height), bytes };
    if how.marks {
        mark(storage, tensor, image_idx, how.range, &mut pixels)?;
    }
    Ok(pixels)
}

/// Applies gamma to samples of 16 bits, and rounds them to 8.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "from 0 to 255, rounded"
)]
fn bent(samples: &[u16], mode: ColorMode, gamma: f64) -> Vec<u8> {
    let byte = |share: f64| (share * 255.0 + 0.5) as u8;
    let share = |sample: u16| f64::from(sample) / 65535.0;
    let table: Vec<u8> =
        (0..=u16::MAX).map(|sample| byte(share(sample).powf(1.0 / gamma))).collect();
    let n = mode.n_channels();
    let is_alpha = |i: usize| mode.has_alpha() && i % n == n - 1;
    let bent = samples.iter().enumerate().map(|(i, &sample)| {
        if is_alpha(i) { byte(share(sample)) } else { table[usize::from(sample)] }
    });
    bent.collect()
}

/// What is odd about a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    None,
    Below,
    Above,
    NegativeInf,
    PositiveInf,
    NaN,
}

fn mark(
    storage: &impl ReadAt,
    tensor: &TensorPlan,
    image_idx: u64,
    (low, high): (f64, f64),
    pixels: &mut Pixels,
) -> io::Result<()> {
    let n_channels = tensor.natural_mode().n_channels();
    let width = usize::try_from(pixels.width).map_err(io::Error::other)?;
    let height = usize::try_from(pixels.height).map_err(io::Error::other)?;
    let mut marks = vec![Mark::None; width * height];
    each_value(storage, tensor, image_idx, |place, value| {
        let mark = &mut marks[place / n_channels];
        *mark = (*mark).max(match value {
            value if value.is_nan() => Mark::NaN,
            f64::INFINITY => Mark::PositiveInf,
            f64::NEG_INFINITY => Mark::NegativeInf,
            value if value < low => Mark::Below,
            value if value > high => Mark::Above,
            _ => Mark::None,
        });
    })?;
    let n = pixels.mode.n_channels();
    for (i, (pixel, mark)) in pixels.bytes.chunks_exact_mut(n).zip(marks).enumerate() {
        if let Some(color) = mark.color(i % width, i / width) {
            pixel[..3].copy_from_slice(&color);
            pixel[3..].fill(255);
        }
    }
    Ok(())
}

impl Mark {
    /// The color of a pixel with this mark; `None` for the picture's own.
    fn color(self, x: usize, y: usize) -> Option<[u8; 3]> {
        /// An arrow up: a bit for each pixel, the first one on the left.
        const ARROW: [u8; 8] = [0x00, 0x18, 0x3c, 0x7e, 0x18, 0x18, 0x18, 0x00];
        let arrow = |row: usize, paper: [u8; 3]| {
            if ARROW[row] >> (7 - x % 8) & 1 == 1 { [0, 0, 0] } else { paper }
        };
        let is_stripe = (x + y) % 4 < 2;
        match self {
            Self::None => None,
            Self::Below => is_stripe.then_some([40, 90, 255]),
            Self::Above => is_stripe.then_some([255, 40, 40]),
            Self::NegativeInf => Some(arrow(7 - y % 8, [0, 230, 230])),
            Self::PositiveInf => Some(arrow(y % 8, [255, 230, 0])),
            Self::NaN if (x / 2 + y / 2).is_multiple_of(2) => Some([255, 0, 255]),
            Self::NaN => Some([150, 0, 150]),
        }
    }
}

/// Draws numbers in `range` with a colormap. Those that are NaN are magenta.
#[must_use]
pub fn drawn(
    values: &[f32],
    [width, height]: [usize; 2],
    (low, high): (f64, f64),
    colormap: Colormap,
) -> Pixels {
    let colors = colormap.colors();
    let bytes = values.iter().flat_map(|&value| match value {
        value if value.is_nan() => [255, 0, 255],
        value => {
            let share = (f64::from(value) - low) / (high - low);
            let sample: u8 = crate::convert::Sample::round(share * 255.0);
            colors[usize::from(sample)]
        }
    });
    let side = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Pixels {
        mode: ColorMode::Rgb,
        width: side(width),
        height: side(height),
        bytes: bytes.collect(),
    }
}

/// Scales a picture down so that no side is longer than `side_max`.
#[must_use]
pub fn fitted(pixels: Pixels, side_max: u32) -> Pixels {
    let (width, height) = (u64::from(pixels.width), u64::from(pixels.height));
    if width.max(height) <= u64::from(side_max) {
        return pixels;
    }
    let (width, height) = crate::limits::scaled_to(width, height, side_max.into());
    crate::encode::downscale(pixels, width, height)
}

/// Takes a part of a picture. Returns the picture itself if the part is not within it.
#[must_use]
pub fn cropped(pixels: Pixels, region: crate::values::Region) -> Pixels {
    let values = crate::values::Values::of_pixels(pixels.clone());
    match values.and_then(|values| values.part(region)) {
        Some(part) => {
            let [height, width, _] = part.size().map(|n| u32::try_from(n).unwrap_or(u32::MAX));
            Pixels { mode: pixels.mode, width, height, bytes: part.into_bytes() }
        }
        None => pixels,
    }
}
