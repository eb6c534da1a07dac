//! Time and size of PNG files by kind of picture, for this encoder and those of `png`, `zune-png` and lodepng.
//!
//! `cargo bench -p safelight-png`. `benches/peers.py` of the repository compares with fpng, in its Python package.
#![expect(clippy::disallowed_macros, reason = "a benchmark prints the sizes of the files")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use safelight_png::{ColorType, Compression, Encoder, Picture, Settings};
use zune_png::PngEncoder;
use zune_png::zune_core::bit_depth::BitDepth;
use zune_png::zune_core::colorspace::ColorSpace;
use zune_png::zune_core::options::EncoderOptions;

/// A picture of a kind.
struct Sample {
    class: &'static str,
    color_type: ColorType,
    side: u16,
    samples: Vec<u8>,
}

impl Sample {
    fn new(
        class: &'static str,
        color_type: ColorType,
        side: u16,
        pixel: impl FnMut(u16, u16) -> [u8; 3],
    ) -> Self {
        let mut pixel = pixel;
        let places = (0..side).flat_map(|y| (0..side).map(move |x| (x, y)));
        let n = color_type.pixel_bytes();
        let samples = places.flat_map(|(x, y)| pixel(x, y).into_iter().take(n)).collect();
        Self { class, color_type, side, samples }
    }

    fn pixels(&self) -> Picture<'_> {
        let side = self.side.into();
        Picture { color_type: self.color_type, width: side, height: side, samples: &self.samples }
    }
}

/// Random numbers, in [-1, 1).
struct Random(u32);

impl Random {
    fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0.to_le_bytes()[3]
    }

    fn uniform(&mut self) -> f32 {
        f32::from(self.byte()) / 128.0 - 1.0
    }
}

/// Converts a value in [0, 1] to a sample.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
fn sample(value: f32) -> u8 {
    (value.clamp(0.0, 1.0) * 255.0) as u8
}

fn wave(x: u16, y: u16, period: f32) -> f32 {
    (f32::from(x) / period).sin() * (f32::from(y) / (0.7 * period)).cos()
}

/// A sum of large and small waves.
fn smooth(x: u16, y: u16, channel: u16) -> f32 {
    let x = x + 40 * channel;
    0.5 + 0.2 * wave(x, y, 90.0) + 0.1 * wave(y, x, 31.0) + 0.05 * wave(x, y, 11.0)
}

fn pictures() -> Vec<Sample> {
    let mut random = Random(1);
    let class = |x: u16, y: u16| sample(smooth(x, y, 0)) / 12;
    // Texture that is stronger in some places, and edges.
    let photo = |random: &mut Random, x: u16, y: u16| {
        let strength = 0.03 + 0.08 * smooth(y / 2, x / 2, 1).powi(3);
        let light = if wave(x, y, 60.0) > 0.3 { 0.25 } else { 0.0 };
        let texture = strength * random.uniform();
        [0, 1, 2].map(|c| sample(smooth(x, y, c) + light + texture + 0.01 * random.uniform()))
    };
    let digit = |x: u16, y: u16| {
        let from_stroke = (wave(x, y, 5.0) - 0.4).abs();
        let is_inside = (4..24).contains(&x) && (4..24).contains(&y);
        [if is_inside { sample(1.0 - 4.0 * from_stroke) } else { 0 }; 3]
    };
    let colors: Vec<[u8; 3]> =
        (0..22).map(|_| [random.byte(), random.byte(), random.byte()]).collect();
    vec![
        Sample::new("photo512", ColorType::Rgb, 512, |x, y| photo(&mut random, x, y)),
        Sample::new("photo512L", ColorType::Gray, 512, |x, y| photo(&mut random, x, y)),
        Sample::new("generator512", ColorType::Rgb, 512, |x, y| {
            [0, 1, 2].map(|c| sample(smooth(x, y, c) + 0.01 * random.uniform()))
        }),
        Sample::new("labels512L", ColorType::Gray, 512, |x, y| [class(x, y); 3]),
        Sample::new("labels512rgb", ColorType::Rgb, 512, |x, y| colors[usize::from(class(x, y))]),
        Sample::new("noise512", ColorType::Rgb, 512, |_, _| {
            [random.byte(), random.byte(), random.byte()]
        }),
        Sample::new("photo64", ColorType::Rgb, 64, |x, y| photo(&mut random, x, y)),
        Sample::new("digit28", ColorType::Gray, 28, digit),
    ]
}

/// Settings of the crate `png`. Both use fdeflate.
fn png_crate(pixels: Picture<'_>, compression: png::Compression, out: &mut Vec<u8>) {
    let mut encoder = png::Encoder::new(out, pixels.width, pixels.height);
    let is_gray = pixels.color_type == ColorType::Gray;
    encoder.set_color(if is_gray { png::ColorType::Grayscale } else { png::ColorType::Rgb });
    encoder.set_compression(compression);
    let written = encoder.write_header().and_then(|mut png| png.write_image_data(pixels.samples));
    assert!(written.is_ok(), "{written:?}");
}

fn zune(pixels: Picture<'_>, out: &mut Vec<u8>) {
    let is_gray = pixels.color_type == ColorType::Gray;
    let options = EncoderOptions::default()
        .set_width(pixels.width as usize)
        .set_height(pixels.height as usize)
        .set_depth(BitDepth::Eight)
        .set_colorspace(if is_gray { ColorSpace::Luma } else { ColorSpace::RGB });
    let written = PngEncoder::new(pixels.samples, options).encode(out);
    assert!(written.is_ok(), "{written:?}");
}

fn lode(pixels: Picture<'_>, out: &mut Vec<u8>) {
    let is_gray = pixels.color_type == ColorType::Gray;
    let color_type = if is_gray { lodepng::ColorType::GREY } else { lodepng::ColorType::RGB };
    let (width, height) = (pixels.width as usize, pixels.height as usize);
    let encoded = lodepng::encode_memory(pixels.samples, width, height, color_type, 8);
    assert!(encoded.is_ok(), "{encoded:?}");
    out.extend(encoded.unwrap_or_default());
}

/// Appends a file.
type Candidate<'a> = Box<dyn FnMut(&mut Vec<u8>) + 'a>;

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    group
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800));
    for picture in &pictures() {
        let pixels = picture.pixels();
        let (mut best, mut scalar) = (Encoder::new(), Encoder::scalar());
        let (mut small, mut palette) = (Encoder::new(), Encoder::new());
        let own = |encoder: &mut Encoder, compression, palette, out: &mut Vec<u8>| {
            let encoded = encoder.encode(black_box(pixels), Settings { compression, palette }, out);
            assert!(encoded.is_ok(), "{encoded:?}");
        };
        let mut candidates: Vec<(&str, Candidate<'_>)> = vec![
            ("fast", Box::new(|out| own(&mut best, Compression::Fast, false, out))),
            ("fast, scalar", Box::new(|out| own(&mut scalar, Compression::Fast, false, out))),
            ("fast, palette", Box::new(|out| own(&mut palette, Compression::Fast, true, out))),
            ("small", Box::new(|out| own(&mut small, Compression::Small, false, out))),
            ("png, fast", Box::new(|out| png_crate(pixels, png::Compression::Fast, out))),
            ("png, fastest", Box::new(|out| png_crate(pixels, png::Compression::Fastest, out))),
            ("zune-png", Box::new(|out| zune(pixels, out))),
            ("lodepng", Box::new(|out| lode(pixels, out))),
        ];
        group.throughput(Throughput::Elements(u64::from(picture.side) * u64::from(picture.side)));
        for (name, candidate) in &mut candidates {
            let mut out = Vec::new();
            group.bench_function(BenchmarkId::new(*name, picture.class), |b| {
                b.iter(|| {
                    out.clear();
                    candidate(&mut out);
                });
            });
            eprintln!("{} {name}: {} bytes", picture.class, out.len());
        }
    }
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
