//! Sixel graphics, by the crate `icy_sixel`: at most 256 colours, which it chooses for each picture.
//!
//! Source: VT330/VT340 Programmer Reference Manual, chapter 14.

use icy_sixel::{EncodeOptions, SixelError, SixelImage};

use crate::convert::Pixels;

/// The longest side of a picture. xterm draws no more by default.
pub(super) const SIDE_MAX: u32 = 1000;

/// Returns the bytes that show an RGB picture. Dithering helps photographs. It would speckle enlarged pixels.
pub(super) fn encode(pixels: &Pixels, is_enlarged: bool) -> Result<String, SixelError> {
    let rgba = pixels.bytes.chunks_exact(3).flat_map(|rgb| [rgb[0], rgb[1], rgb[2], 255]);
    let (width, height) = (pixels.width as usize, pixels.height as usize);
    let picture = SixelImage::try_from_rgba(rgba.collect(), width, height)?;
    let mut options = EncodeOptions::default();
    if is_enlarged {
        options.diffusion = 0.0;
    }
    picture.encode_with(&options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::ColorMode;

    #[test]
    fn a_picture_of_four_by_four_pixels_is_one_band() {
        // Left half red, right half blue. Four rows are the lowest four bits: 63 + 0b1111 is `N`.
        let row = [[255, 0, 0], [255, 0, 0], [0, 0, 255], [0, 0, 255]].concat();
        let pixels = Pixels { mode: ColorMode::Rgb, width: 4, height: 4, bytes: row.repeat(4) };
        let text = encode(&pixels, true).expect("sixels");
        let want = "\x1bP9;1;0q\"1;1;4;4#0;2;100;0;0#1;2;0;0;100#0NN??$#1??NN$-\x1b\\";
        assert_eq!(text, want);
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
