//! Sixel graphics. A picture of at most 256 colours keeps them. For others the crate `icy_sixel` chooses 256.
//!
//! Source: VT330/VT340 Programmer Reference Manual, chapter 14.

use std::collections::BTreeMap;
use std::fmt::Write;

use icy_sixel::{EncodeOptions, SixelError, SixelImage};

use crate::convert::Pixels;

/// The longest side of a picture. xterm draws no more by default.
pub(super) const SIDE_MAX: u32 = 1000;

/// The colours of a picture. Terminals have as many registers.
const COLORS_MAX: usize = 256;

/// The rows of a band.
const BAND: usize = 6;

/// Returns the bytes that show an RGB picture. Dithering helps photographs. It would speckle enlarged pixels.
pub(super) fn encode(pixels: &Pixels, is_enlarged: bool) -> Result<String, SixelError> {
    if let Some(text) = with_its_colors(pixels) {
        return Ok(text);
    }
    let rgba = pixels.bytes.chunks_exact(3).flat_map(|rgb| [rgb[0], rgb[1], rgb[2], 255]);
    let (width, height) = (pixels.width as usize, pixels.height as usize);
    let picture = SixelImage::try_from_rgba(rgba.collect(), width, height)?;
    let mut options = EncodeOptions::default();
    if is_enlarged {
        options.diffusion = 0.0;
    }
    picture.encode_with(&options)
}

/// Returns the bytes that show a picture of few colours, each as near as sixel's levels allow. `None` if it has more.
fn with_its_colors(pixels: &Pixels) -> Option<String> {
    let (width, colors) = (pixels.width as usize, pixels.bytes.as_chunks::<3>().0);
    let mut registers = BTreeMap::new();
    for color in colors {
        let n = registers.len();
        registers.entry(color).or_insert(n);
        if registers.len() > COLORS_MAX {
            return None;
        }
    }
    let mut text = format!("\x1bP9;1;0q\"1;1;{};{}", pixels.width, pixels.height);
    for (color, register) in &registers {
        // 0 to 100 stand for 0 to 255.
        let [red, green, blue] = color.map(|level| (u32::from(level) * 100 + 127) / 255);
        write!(text, "#{register};2;{red};{green};{blue}").ok()?;
    }
    for band in colors.chunks(width * BAND) {
        // The rows of each colour in each column, as bits: the lowest is the first row.
        let mut rows: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for (at, color) in band.iter().enumerate() {
            let columns = rows.entry(registers[color]).or_insert_with(|| vec![0; width]);
            columns[at % width] |= 1 << (at / width);
        }
        for (register, columns) in rows {
            write!(text, "#{register}").ok()?;
            for run in columns.chunk_by(|a, b| a == b) {
                let sixel = char::from(b'?' + run[0]);
                match run.len() {
                    n @ ..4 => text.extend(std::iter::repeat_n(sixel, n)),
                    n => write!(text, "!{n}{sixel}").ok()?,
                }
            }
            text.push('$');
        }
        text.pop();
        text.push('-');
    }
    text.push_str("\x1b\\");
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::ColorMode;

    #[test]
    fn a_picture_of_four_by_four_pixels_is_one_band() {
        // Left half red, right half blue: colours 1 and 0. Four rows are the lowest four bits: 63 + 0b1111 is `N`.
        let row = [[255, 0, 0], [255, 0, 0], [0, 0, 255], [0, 0, 255]].concat();
        let pixels = Pixels { mode: ColorMode::Rgb, width: 4, height: 4, bytes: row.repeat(4) };
        let text = encode(&pixels, true).expect("sixels");
        let want = "\x1bP9;1;0q\"1;1;4;4#1;2;0;0;100#0;2;100;0;0#0NN??$#1??NN-\x1b\\";
        assert_eq!(text, want);
    }

    #[test]
    fn few_colours_are_kept_and_more_are_chosen() {
        // 256 or 272 colours, which differ in their levels of red and green.
        let picture = |height: u32| {
            let of = |at: u32| {
                [at % 16 * 15, at / 16 * 13, 90].map(|level| level.try_into().unwrap_or(0))
            };
            let bytes = (0..16 * height).flat_map(of).collect::<Vec<u8>>();
            Pixels { mode: ColorMode::Rgb, width: 16, height, bytes }
        };
        let n_colors = |text: &str| text.matches(";2;").count();
        let few = picture(16);
        let text = encode(&few, false).expect("sixels");
        assert_eq!(n_colors(&text), 256);
        let read = SixelImage::decode(text.as_bytes()).expect("a picture");
        for (got, want) in read.pixels.chunks(4).zip(few.bytes.chunks(3)) {
            let is_near = got.iter().zip(want).all(|(got, want)| got.abs_diff(*want) <= 2);
            assert!(is_near, "{got:?}, want {want:?}");
        }
        assert!(n_colors(&encode(&picture(17), false).expect("sixels")) <= 256);
    }

    /// The mean of all pixels of a picture, whose pixels have so many bytes.
    fn mean(bytes: &[u8], per_pixel: usize) -> [f64; 3] {
        let pixels = bytes.chunks_exact(per_pixel);
        let n = f64::from(u32::try_from(pixels.len()).expect("a small picture"));
        [0, 1, 2].map(|at| pixels.clone().map(|pixel| f64::from(pixel[at])).sum::<f64>() / n)
    }

    #[test]
    fn a_photograph_keeps_its_colours_and_is_dithered() {
        // 4096 colours.
        let of =
            |at: u32| [at % 64 * 4, at / 64 * 4, 128].map(|level| u8::try_from(level).unwrap_or(0));
        let bytes: Vec<u8> = (0..64 * 66).flat_map(|at| of(at.min(64 * 64 - 1))).collect();
        let pixels = Pixels { mode: ColorMode::Rgb, width: 64, height: 66, bytes };
        let [dithered, plain] = [false, true].map(|is_enlarged| {
            let text = encode(&pixels, is_enlarged).expect("sixels");
            assert!(text.starts_with("\x1bP") && text.ends_with("\x1b\\"), "{text:?}");
            assert!(text.contains("\"1;1;64;66"), "{text:?}");
            let read = SixelImage::decode(text.as_bytes()).expect("a picture");
            assert_eq!((read.width, read.height), (64, 66));
            read.pixels
        });
        // Of 256 colours, each pixel has one that looks like its own.
        let differences = plain.chunks(4).zip(pixels.bytes.chunks(3)).map(|(got, want)| {
            got.iter().zip(want).map(|(got, want)| u32::from(got.abs_diff(*want))).sum::<u32>()
        });
        let mean_difference = f64::from(differences.sum::<u32>()) / f64::from(64 * 66 * 3);
        assert!(mean_difference < 16.0, "{mean_difference}");
        for (got, want) in mean(&dithered, 4).into_iter().zip(mean(&pixels.bytes, 3)) {
            assert!((got - want).abs() < 8.0, "{got}, want {want}");
        }
        assert_ne!(dithered, plain);
    }

    #[test]
    fn enlarged_pixels_are_not_speckled() {
        // 289 colours, each a square of 4 × 4 pixels.
        let square = |x: u32, y: u32| {
            [x / 4 * 15, y / 4 * 15, 90].map(|level| level.try_into().unwrap_or(0))
        };
        let bytes: Vec<u8> = (0..68 * 68).flat_map(|at| square(at % 68, at / 68)).collect();
        let pixels = Pixels { mode: ColorMode::Rgb, width: 68, height: 68, bytes };
        let n_speckled = |is_enlarged| {
            let text = encode(&pixels, is_enlarged).expect("sixels");
            let read = SixelImage::decode(text.as_bytes()).expect("a picture");
            let of = |x: usize, y: usize| &read.pixels[(y * read.width + x) * 4..][..4];
            let places = (0..68).flat_map(|y| (0..68).map(move |x| (x, y)));
            places.filter(|&(x, y)| of(x, y) != of(x / 4 * 4, y / 4 * 4)).count()
        };
        assert_eq!(n_speckled(true), 0);
        assert!(n_speckled(false) > 0, "dithering speckles them");
    }

    #[test]
    fn a_decoder_reads_the_picture_back() {
        let row: Vec<u8> = (0..7u8).flat_map(|i| [i * 40, 255 - i * 40, 0]).collect();
        let bytes = row.repeat(9);
        let pixels = Pixels { mode: ColorMode::Rgb, width: 7, height: 9, bytes };
        let text = encode(&pixels, true).expect("sixels");
        assert!(text.contains("\"1;1;7;9"), "{text:?}");
        let read = SixelImage::decode(text.as_bytes()).expect("a picture");
        // The decoder makes whole bands of six rows.
        assert_eq!((read.width, read.height), (7, 12));
        for (got, want) in read.pixels.chunks(4).zip(pixels.bytes.chunks(3)) {
            // Sixel has 101 levels of a colour.
            let is_near = got.iter().zip(want).all(|(got, want)| got.abs_diff(*want) <= 3);
            assert!(is_near, "{got:?}, want {want:?}");
        }
    }
}
