//! Conversion between modes, as Pillow converts.

use std::str::FromStr;

use crate::media::ColorMode;
use crate::simd::for_more_instructions;

/// A mode that Safelight does not make.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mode {got:?} {why}; want 1, L, LA, RGB, RGBA or I;16")]
pub struct ModeError {
    got: String,
    why: &'static str,
}

impl FromStr for ColorMode {
    type Err = ModeError;

    /// Parses Pillow's name of a mode, spelled exactly as in Pillow.
    ///
    /// # Errors
    /// If there is no such mode, or Safelight does not make it.
    fn from_str(name: &str) -> Result<Self, ModeError> {
        let why = match name {
            "L" => return Ok(Self::L),
            "LA" => return Ok(Self::La),
            "RGB" => return Ok(Self::Rgb),
            "RGBA" => return Ok(Self::Rgba),
            "I;16" => return Ok(Self::I16),
            "1" => return Ok(Self::Bit),
            "P" | "PA" => "needs a palette, which is not made here",
            "CMYK" | "YCbCr" | "LAB" | "HSV" | "F" | "I" | "RGBX" | "RGBa" | "La" => {
                "can't be stored as PNG"
            }
            _ => "is not known",
        };
        Err(ModeError { got: name.chars().take(32).collect(), why })
    }
}

/// Converts interleaved 8-bit samples of mode `from`, in rows of `width` pixels, to mode `to`, as Pillow
/// converts.
///
/// - Gray is (19595·r + 38470·g + 7471·b + 32768) >> 16.
/// - Alpha is dropped, not composited.
/// - `I;16` gets the gray value, not scaled.
/// - `1` is dithered.
///
/// Source: `docs/spec/image.md` B.3.
#[must_use]
pub(crate) fn convert(samples: Vec<u8>, from: ColorMode, to: ColorMode, width: usize) -> Vec<u8> {
    if from == to {
        return samples;
    }
    let mut pixels = Vec::new();
    convert_into(&samples, from, to, width, &mut pixels);
    pixels
}

/// Converts like [`convert`] into `pixels`, which is overwritten.
pub(crate) fn convert_into(
    samples: &[u8],
    from: ColorMode,
    to: ColorMode,
    width: usize,
    pixels: &mut Vec<u8>,
) {
    use ColorMode::{Bit, I16, L, La, Rgb, Rgba};
    match (from, to) {
        (L, L | Bit) | (La, La) | (Rgb, Rgb) | (Rgba, Rgba) | (Bit, Bit) | (I16, I16) => {
            map(samples, pixels, |sample: [u8; 1]| sample);
        }
        (L, La) => map(samples, pixels, |[v]: [u8; 1]| [v, 255]),
        (L, Rgb) => map(samples, pixels, |[v]: [u8; 1]| [v, v, v]),
        (L, Rgba) => map(samples, pixels, |[v]: [u8; 1]| [v, v, v, 255]),
        (L, I16) => map(samples, pixels, |[v]: [u8; 1]| [v, 0]),
        (La, L | Bit) => map(samples, pixels, |[v, _]: [u8; 2]| [v]),
        (La, Rgb) => map(samples, pixels, |[v, _]: [u8; 2]| [v, v, v]),
        (La, Rgba) => map(samples, pixels, |[v, a]: [u8; 2]| [v, v, v, a]),
        (La, I16) => map(samples, pixels, |[v, _]: [u8; 2]| [v, 0]),
        (Rgb, L) => map(samples, pixels, |rgb: [u8; 3]| [gray(rgb)]),
        (Rgb, La) => map(samples, pixels, |rgb: [u8; 3]| [gray(rgb), 255]),
        (Rgb, Rgba) => map(samples, pixels, |[r, g, b]: [u8; 3]| [r, g, b, 255]),
        (Rgb, I16) => map(samples, pixels, |rgb: [u8; 3]| [gray(rgb), 0]),
        (Rgb, Bit) => map(samples, pixels, |rgb: [u8; 3]| [dither_gray(rgb)]),
        (Rgba, L) => map(samples, pixels, |[r, g, b, _]: [u8; 4]| [gray([r, g, b])]),
        (Rgba, La) => map(samples, pixels, |[r, g, b, a]: [u8; 4]| [gray([r, g, b]), a]),
        (Rgba, Rgb) => map(samples, pixels, |[r, g, b, _]: [u8; 4]| [r, g, b]),
        (Rgba, I16) => map(samples, pixels, |[r, g, b, _]: [u8; 4]| [gray([r, g, b]), 0]),
        (Rgba, Bit) => map(samples, pixels, |[r, g, b, _]: [u8; 4]| [dither_gray([r, g, b])]),
        (Bit | I16, _) => unreachable!("samples of 8 bits have a natural mode"),
    }
    if to == Bit && from != Bit {
        dither(pixels, width);
    }
}

/// Converts interleaved 16-bit samples of 1 to 4 channels to little-endian 16-bit gray. The weights are those
/// of 8 bits; alpha is dropped.
#[must_use]
pub(crate) fn gray_16(samples: &[u16], n_channels: usize) -> Vec<u8> {
    let gray = |pixel: &[u16]| match *pixel {
        [r, g, b, ..] => {
            let sum = 19595 * u64::from(r) + 38470 * u64::from(g) + 7471 * u64::from(b) + 32768;
            u16::try_from(sum >> 16).unwrap_or(u16::MAX)
        }
        [v, ..] => v,
        [] => 0,
    };
    let mut pixels = vec![0; samples.len() / n_channels * 2];
    let to = pixels.as_chunks_mut().0.iter_mut();
    to.zip(samples.chunks_exact(n_channels))
        .for_each(|(to, pixel)| *to = gray(pixel).to_le_bytes());
    pixels
}

/// Converts gray to black and white by Floyd-Steinberg error diffusion, in the integer arithmetic of Pillow.
///
/// Source: `docs/spec/image.md` B.3; Pillow, `libImaging/Convert.c`, `tobilevel`.
fn dither(gray: &mut [u8], width: usize) {
    let mut errors = vec![0i32; width + 1];
    for row in gray.chunks_exact_mut(width) {
        let (mut l, mut l0, mut l1) = (0, 0, 0);
        for (x, sample) in row.iter_mut().enumerate() {
            let value = (i32::from(*sample) + (l + errors[x + 1]) / 16).clamp(0, 255);
            *sample = if value > 128 { 255 } else { 0 };
            let error = value - i32::from(*sample);
            errors[x] = 3 * error + l0;
            l0 = 5 * error + l1;
            l1 = error;
            l = 7 * error;
        }
        errors[width] = l0;
    }
}

/// Returns the gray value that Pillow dithers.
fn dither_gray([r, g, b]: [u8; 3]) -> u8 {
    let sum = 299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b);
    // The weights add up to 1000, so the quotient is a byte.
    (sum / 1000).to_le_bytes()[0]
}

fn map<const FROM: usize, const TO: usize, F: Fn([u8; FROM]) -> [u8; TO]>(
    samples: &[u8],
    pixels: &mut Vec<u8>,
    pixel: F,
) {
    pixels.resize(samples.len() / FROM * TO, 0);
    map_into(samples, pixels, pixel);
}

for_more_instructions! {
    fn map_into<const FROM: usize, const TO: usize, F: Fn([u8; FROM]) -> [u8; TO]>(
        samples: &[u8],
        pixels: &mut [u8],
        pixel: F,
    ) {
        for (to, &from) in pixels.as_chunks_mut().0.iter_mut().zip(samples.as_chunks::<FROM>().0) {
            *to = pixel(from);
        }
    }
}

/// Returns the gray value of a colour.
pub(super) fn gray([r, g, b]: [u8; 3]) -> u8 {
    let sum = 19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b) + 32768;
    // The weights add up to 65536, so the sum is below 256 × 65536.
    (sum >> 16).to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ColorMode::{L, La, Rgb, Rgba};

    #[test]
    fn vectors_of_the_specification() {
        assert_eq!(convert(vec![0, 7, 14, 21, 28, 35, 42, 49], Rgba, L, 2), [6, 34]);
        assert_eq!(convert(vec![0, 7, 14, 21], La, Rgba, 2), [0, 0, 0, 7, 14, 14, 14, 21]);
        assert_eq!(convert(vec![255, 255, 255], Rgb, La, 1), [255, 255]);
        assert_eq!(convert(vec![9, 8], L, ColorMode::I16, 2), [9, 0, 8, 0]);
        assert_eq!(gray_16(&[65535, 65535, 65535, 0, 1, 0], 3), [255, 255, 1, 0]);
    }

    #[test]
    fn refused_modes_say_why() {
        for (mode, want) in [("P", "palette"), ("F", "PNG"), ("CMYK", "PNG"), ("rgb", "not known")]
        {
            let got = ColorMode::from_str(mode)
                .map_or_else(|error| error.to_string(), |mode| mode.to_string());
            assert!(got.contains(want), "{got}");
        }
    }
}
