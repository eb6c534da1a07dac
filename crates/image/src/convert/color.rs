//! Colours that are not in the data: colormaps, the colour of NaN, a background.

use crate::media::{Colormap, Rgb};
use crate::simd::for_more_instructions;
use colorous::Gradient;

impl Colormap {
    /// Returns its 256 colours.
    ///
    /// They are d3's, from the crate `colorous`. Largest difference to matplotlib 3.11, of 255: viridis, magma,
    /// inferno and plasma 1; turbo 32 and cividis 19, which are polynomials; the others 16, which are splines
    /// through the same colours.
    #[must_use]
    pub fn colors(self) -> [[u8; 3]; 256] {
        let gradient: Option<Gradient> = match self {
            Self::Gray => None,
            Self::Viridis => Some(colorous::VIRIDIS),
            Self::Magma => Some(colorous::MAGMA),
            Self::Inferno => Some(colorous::INFERNO),
            Self::Plasma => Some(colorous::PLASMA),
            Self::Cividis => Some(colorous::CIVIDIS),
            Self::Turbo => Some(colorous::TURBO),
            Self::Cubehelix => Some(colorous::CUBEHELIX),
            Self::Blues => Some(colorous::BLUES),
            Self::Greens => Some(colorous::GREENS),
            Self::Greys => Some(colorous::GREYS),
            Self::Oranges => Some(colorous::ORANGES),
            Self::Purples => Some(colorous::PURPLES),
            Self::Reds => Some(colorous::REDS),
            Self::Spectral => Some(colorous::SPECTRAL),
            Self::RdBu => Some(colorous::RED_BLUE),
            Self::RdYlBu => Some(colorous::RED_YELLOW_BLUE),
            Self::RdYlGn => Some(colorous::RED_YELLOW_GREEN),
            Self::PiYg => Some(colorous::PINK_GREEN),
            Self::PrGn => Some(colorous::PURPLE_GREEN),
            Self::BrBg => Some(colorous::BROWN_GREEN),
            Self::PuOr => Some(colorous::PURPLE_ORANGE),
        };
        let mut colors = [[0; 3]; 256];
        for (value, color) in (0u8..=255).zip(&mut colors) {
            // Purple is first in d3 and last in matplotlib.
            let place = if self == Self::PuOr { 255 - value } else { value };
            *color = gradient.map_or([value; 3], |gradient| {
                gradient.eval_rational(place.into(), 256).as_array()
            });
        }
        colors
    }
}

/// Converts gray samples to the colours of a map.
#[must_use]
pub(crate) fn mapped(gray: &[u8], map: Colormap) -> Vec<u8> {
    let mut colored = Vec::new();
    mapped_into(gray, map, &mut colored);
    colored
}

/// Converts like [`mapped`] into `colored`, which is overwritten.
pub(crate) fn mapped_into(gray: &[u8], map: Colormap, colored: &mut Vec<u8>) {
    let colors = map.colors();
    colored.resize(gray.len() * 3, 0);
    for (to, &value) in colored.as_chunks_mut().0.iter_mut().zip(gray) {
        *to = colors[usize::from(value)];
    }
}

/// Sets each pixel for which `is_marked` is true to one colour. `samples` have 3 or 4 channels.
pub(crate) fn mark(samples: &mut [u8], n_channels: usize, is_marked: &[bool], Rgb(color): Rgb) {
    for (pixel, _) in samples.chunks_exact_mut(n_channels).zip(is_marked).filter(|(_, is)| **is) {
        pixel[..3].copy_from_slice(&color);
        pixel[3..].fill(255);
    }
}

/// Composites a picture onto a background: `alpha × value + (1 − alpha) × background`, rounded to the
/// nearest. The last of the 2 or 4 channels is alpha, and is removed.
#[must_use]
pub(crate) fn composited(samples: &[u8], n_channels: usize, background: Rgb) -> Vec<u8> {
    let mut opaque = Vec::new();
    composited_into(samples, n_channels, background, &mut opaque);
    opaque
}

/// Composites like [`composited`] into `opaque`, which is overwritten.
pub(crate) fn composited_into(
    samples: &[u8],
    n_channels: usize,
    Rgb(background): Rgb,
    opaque: &mut Vec<u8>,
) {
    opaque.resize(samples.len() / n_channels * (n_channels - 1), 0);
    match n_channels {
        2 => composite::<2, 1>(samples, opaque, [super::mode::gray(background)]),
        _ => composite::<4, 3>(samples, opaque, background),
    }
}

for_more_instructions! {
    fn composite<const FROM: usize, const TO: usize>(
        samples: &[u8],
        opaque: &mut [u8],
        background: [u8; TO],
    ) {
        for (to, pixel) in opaque.as_chunks_mut::<TO>().0.iter_mut().zip(samples.as_chunks::<FROM>().0)
        {
            let alpha = u32::from(pixel[TO]);
            for i in 0..TO {
                let sum = u32::from(pixel[i]) * alpha + u32::from(background[i]) * (255 - alpha);
                // At most 255 × 255, so the quotient is a byte.
                to[i] = ((sum + 127) / 255).to_le_bytes()[0];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colormaps_are_those_that_people_know() {
        // matplotlib 3.11, `colormaps[name](range(256), bytes=True)`.
        for (map, first, middle, last) in [
            (Colormap::Gray, [0, 0, 0], [128, 128, 128], [255, 255, 255]),
            (Colormap::Viridis, [68, 1, 84], [33, 145, 140], [253, 231, 37]),
            (Colormap::Magma, [0, 0, 4], [183, 55, 121], [252, 253, 191]),
            (Colormap::Inferno, [0, 0, 4], [188, 55, 84], [252, 255, 164]),
            (Colormap::Plasma, [13, 8, 135], [204, 71, 120], [240, 249, 33]),
        ] {
            let colors = map.colors();
            let near = |a: [u8; 3], b: [u8; 3]| a.iter().zip(b).all(|(a, b)| a.abs_diff(b) <= 1);
            assert!(near(colors[0], first), "{map:?}: {:?}", colors[0]);
            assert!(near(colors[128], middle), "{map:?}: {:?}", colors[128]);
            assert!(near(colors[255], last), "{map:?}: {:?}", colors[255]);
        }
    }

    #[test]
    fn alpha_weighs_the_background() {
        let samples = [100, 200, 50, 255, 100, 200, 50, 0, 0, 0, 0, 128];
        let got = composited(&samples, 4, Rgb([255, 0, 10]));
        assert_eq!(got, [100, 200, 50, 255, 0, 10, 127, 0, 5]);
        assert_eq!(composited(&[10, 255, 10, 0], 2, Rgb([255, 255, 255])), [10, 255]);
    }

    #[test]
    fn marked_pixels_take_the_colour() {
        let mut samples = [1, 2, 3, 4, 5, 6];
        mark(&mut samples, 3, &[false, true], Rgb([9, 8, 7]));
        assert_eq!(samples, [1, 2, 3, 9, 8, 7]);
    }

    #[test]
    fn every_alpha_and_value_is_composited_to_the_nearest() {
        let all = || (0..=255u8).flat_map(|value| (0..=255u8).map(move |alpha| (value, alpha)));
        let samples: Vec<u8> =
            all().flat_map(|(value, alpha)| [value, !value, alpha, alpha]).collect();
        let got = composited(&samples, 4, Rgb([7, 200, 255]));
        let want = all().flat_map(|(value, alpha)| {
            [(value, 7), (!value, 200), (alpha, 255)].map(|(value, behind)| {
                let alpha = f64::from(alpha) / 255.0;
                alpha.mul_add(f64::from(value), (1.0 - alpha) * f64::from(behind))
            })
        });
        assert_eq!(got.len(), 3 << 16);
        for (got, want) in got.into_iter().zip(want) {
            assert!((f64::from(got) - want).abs() < 0.5 + 1e-9, "{got}, want {want}");
        }
    }
}
