//! Pixels and settings of the PNG encoder. Four decoders must return the pixels, the twins
//! must agree, and the file's size is limited.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use safelight_png::{ColorType, Compression, Encoder, Picture, Settings, encoded_bytes_max};

use self::decoders::DECODERS;

#[path = "../../crates/png/src/decoders.rs"]
mod decoders;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    mode: u8,
    width: u16,
    /// Length to which the bytes are repeated, in KiB, to fill several segments.
    n_kib: u16,
    /// Start and end of a noisy part of the picture, in 256ths. The encoder may store it uncompressed.
    noise: (u8, u8),
    /// Number of bits that are left of each byte, for pictures of few colours.
    n_bits: u8,
    is_small: bool,
    palette: bool,
    bytes: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    use ColorType::{Bit, Gray, Gray16, GrayAlpha, Rgb, Rgba};
    let mode = [Bit, Gray, GrayAlpha, Rgb, Rgba, Gray16][usize::from(input.mode) % 6];
    let width = u32::from(input.width % 2048) + 1;
    let row_bytes = width as usize * mode.pixel_bytes();
    let n = input.bytes.len().max(usize::from(input.n_kib % 512) << 10);
    let n_rows = n / row_bytes;
    if n_rows == 0 || input.bytes.is_empty() {
        return;
    }
    let mut samples: Vec<u8> =
        input.bytes.iter().copied().cycle().take(n_rows * row_bytes).collect();
    let place = |part: u8| samples.len() * usize::from(part) >> 8;
    let (from, to) = (place(input.noise.0), place(input.noise.1));
    let mut state = u32::from(input.bytes[0]);
    for sample in samples.get_mut(from..to).unwrap_or_default() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *sample = state.to_be_bytes()[0];
    }
    for sample in &mut samples {
        *sample &= 255 << (input.n_bits % 8);
        if mode == Bit {
            *sample = if *sample > 0 { 255 } else { 0 };
        }
    }
    let height = u32::try_from(n_rows).expect("not so many");
    let pixels = Picture { color_type: mode, width, height, samples: &samples };
    let compression = if input.is_small { Compression::Small } else { Compression::Fast };
    let settings = Settings { compression, palette: input.palette };
    let (mut file, mut again, mut scalar) = (Vec::new(), Vec::new(), Vec::new());
    let mut encoder = Encoder::new();
    encoder.encode(pixels, settings, &mut file).expect("a file");
    encoder.encode(pixels, settings, &mut again).expect("a file");
    Encoder::scalar().encode(pixels, settings, &mut scalar).expect("a file");
    assert!(file == again, "a second encoding differs");
    assert!(file == scalar, "the scalar twin differs");
    let max = encoded_bytes_max(samples.len() as u64, height.into());
    assert!(file.len() as u64 <= max, "{} bytes, want at most {max}", file.len());
    for (name, decode) in DECODERS {
        assert!(decode(&file, mode) == samples, "{name} decodes other pixels");
    }
});
