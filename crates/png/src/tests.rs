//! Round trips through four decoders by other authors, and the largest size of files.

use proptest::prelude::*;

use crate::decoders::DECODERS;
use crate::*;

const MODES: [ColorType; 6] = [
    ColorType::Bit,
    ColorType::Gray,
    ColorType::GrayAlpha,
    ColorType::Rgb,
    ColorType::Rgba,
    ColorType::Gray16,
];

/// Checks a picture under all settings.
fn check(mode: ColorType, width: u32, height: u32, samples: &[u8]) {
    let mut scalar = Encoder::scalar();
    let mut best = Encoder::new();
    let pixels = Picture { color_type: mode, width, height, samples };
    let settings = [Compression::Fast, Compression::Small]
        .map(|compression| [(compression, false), (compression, true)]);
    for (compression, may_be_indexed) in settings.into_iter().flatten() {
        let what = format!("{mode:?} {width} × {height} {compression:?} {may_be_indexed}");
        let (mut file, mut again) = (Vec::new(), Vec::new());
        scalar
            .encode(pixels, Settings { compression, palette: may_be_indexed }, &mut file)
            .expect("a file");
        for _ in 0..2 {
            again.clear();
            best.encode(pixels, Settings { compression, palette: may_be_indexed }, &mut again)
                .expect("a file");
            assert_eq!(file, again, "another twin, or another time: {what}");
        }
        for (name, decode) in DECODERS {
            assert!(decode(&file, mode) == samples, "{name} decodes other pixels: {what}");
        }
        let n = samples.len() as u64;
        let max = encoded_bytes_max(n, height.into());
        assert!(file.len() as u64 <= max, "{} of {n}: {what}", file.len());
        if mode != ColorType::Bit {
            let raw = n + u64::from(height);
            assert!(file.len() as u64 <= raw + raw / 1000 + 2048, "{} of {n}: {what}", file.len());
        }
    }
}

/// A kind of samples.
#[derive(Debug, Clone, Copy)]
enum Contents {
    Noise,
    Constant(u8),
    Gradient,
    FewValues(u8),
    /// Zeros, except for one byte in this many.
    Sparse(u32),
    /// The upper half flat, the lower noise: no part is typical of the whole.
    Halves,
}

/// Makes the samples of a picture from a seed.
fn samples(mode: ColorType, width: u32, height: u32, contents: Contents, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let n = width as usize * height as usize * mode.pixel_bytes();
    let row = width as usize * mode.pixel_bytes();
    let sample = |i: usize| {
        let noise = random();
        let byte = |n: u32| n.to_le_bytes()[0];
        let value = match contents {
            Contents::Constant(value) => value,
            Contents::Gradient => byte(u32::try_from(i % row + 3 * (i / row)).unwrap()),
            Contents::FewValues(n) => byte(noise % (u32::from(n) + 1) * 37),
            Contents::Sparse(n) if noise % n > 0 => 0,
            Contents::Sparse(_) => byte(noise >> 8),
            Contents::Halves if i < n / 2 => 9,
            Contents::Noise | Contents::Halves => byte(noise),
        };
        if mode == ColorType::Bit { if value > 127 { 255 } else { 0 } } else { value }
    };
    (0..n).map(sample).collect()
}

fn contents() -> impl Strategy<Value = Contents> {
    prop_oneof![
        Just(Contents::Noise),
        any::<u8>().prop_map(Contents::Constant),
        Just(Contents::Gradient),
        any::<u8>().prop_map(Contents::FewValues),
        (1u32..400).prop_map(Contents::Sparse),
        Just(Contents::Halves),
    ]
}

#[test]
fn pictures_of_all_shapes_come_back() {
    let sides = [(1, 1), (1, 300), (300, 1), (21, 3), (22, 3), (64, 64), (63, 65), (700, 2)];
    for mode in MODES {
        for (width, height) in sides {
            for contents in [Contents::Noise, Contents::Gradient, Contents::Constant(255)] {
                check(mode, width, height, &samples(mode, width, height, contents, 7));
            }
        }
    }
}

#[test]
fn pictures_of_several_segments_come_back() {
    let each = [
        Contents::Noise,
        Contents::Constant(0),
        Contents::Gradient,
        Contents::Sparse(40),
        Contents::Halves,
    ];
    for contents in each {
        for mode in [ColorType::Gray, ColorType::Rgb] {
            check(mode, 401, 613, &samples(mode, 401, 613, contents, 3));
            // One row is more than a segment.
            check(mode, 200_000, 2, &samples(mode, 200_000, 2, contents, 3));
        }
    }
}

/// Makes a label map: fields of one colour each, with winding borders.
fn label_map(mode: ColorType, side: u32) -> Vec<u8> {
    let field = |x: u32, y: u32| (x + y * y / 97 % 23) / 29 + 7 * ((y + x * x / 61 % 17) / 37);
    let places = (0..side).flat_map(|y| (0..side).map(move |x| (x, y)));
    let color = |n: u32| [n * 67, n * 131 + 5, n * 29 + 90, 255].map(|n| n.to_le_bytes()[0]);
    places.flat_map(|(x, y)| color(field(x, y) % 19).into_iter().take(mode.pixel_bytes())).collect()
}

#[test]
fn label_maps_are_no_larger_in_the_small_way() {
    let mut png = Encoder::new();
    for mode in [ColorType::Gray, ColorType::Rgb, ColorType::Rgba] {
        let samples = label_map(mode, 300);
        check(mode, 300, 300, &samples);
        let pixels = Picture { color_type: mode, width: 300, height: 300, samples: &samples };
        let mut size = |compression, may_be_indexed| {
            let mut file = Vec::new();
            png.encode(pixels, Settings { compression, palette: may_be_indexed }, &mut file)
                .expect("a file");
            file.len()
        };
        for may_be_indexed in [false, true] {
            let (fast, small) =
                (size(Compression::Fast, may_be_indexed), size(Compression::Small, may_be_indexed));
            assert!(small <= fast, "{mode:?} {may_be_indexed}: small {small}, fast {fast}");
        }
    }
}

#[test]
fn samples_that_are_not_as_many_as_the_sides_say_are_an_error() {
    let mut png = Encoder::scalar();
    for (width, height, n) in [(2, 2, 11), (2, 2, 13), (0, 2, 0), (2, 0, 0)] {
        let pixels = Picture { color_type: ColorType::Rgb, width, height, samples: &vec![0; n] };
        let encoded = png.encode(
            pixels,
            Settings { compression: Compression::Fast, palette: false },
            &mut Vec::new(),
        );
        assert!(encoded.is_err(), "{width} × {height}, {n}");
    }
}

proptest! {
    #[test]
    fn random_pictures_come_back(
        mode in prop::sample::select(&MODES),
        width in 1u32..90,
        height in 1u32..90,
        contents in contents(),
        seed in any::<u32>(),
    ) {
        check(mode, width, height, &samples(mode, width, height, contents, seed));
    }
}

#[test]
fn few_colors_are_indexed_with_few_bits() {
    let check_depth = |mode: ColorType, n_colors: usize, want: [u8; 2]| {
        let color = |i: usize| {
            let n = (i % n_colors).to_le_bytes();
            [n[0], n[1], 7, if i % n_colors == 1 { 9 } else { 255 }]
        };
        let samples: Vec<u8> =
            (0..40 * 30).flat_map(|i| color(i).into_iter().take(mode.pixel_bytes())).collect();
        check(mode, 40, 30, &samples);
        let pixels = Picture { color_type: mode, width: 40, height: 30, samples: &samples };
        let mut file = Vec::new();
        let mut png = Encoder::new();
        png.encode(pixels, Settings { compression: Compression::Fast, palette: true }, &mut file)
            .expect("a file");
        // Bit depth and colour type.
        assert_eq!(file[24..26], want, "{mode:?}, {n_colors} colours");
    };
    for (n_colors, bit_depth) in
        [(1, 1), (2, 1), (3, 2), (4, 2), (5, 4), (16, 4), (17, 8), (256, 8)]
    {
        check_depth(ColorType::Rgb, n_colors, [bit_depth, 3]);
        check_depth(ColorType::Rgba, n_colors, [bit_depth, 3]);
    }
    check_depth(ColorType::Rgb, 257, [8, 2]);
    check_depth(ColorType::Rgba, 257, [8, 6]);
    check_depth(ColorType::Gray, 2, [8, 0]);
}
