//! What one picture costs to encode, with the digest of the file.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use safelight::convert::Pixels;
use safelight::convert::range::to_uint8;
use safelight::encode::{Encoding, encode};
use safelight::media::{ColorMode, Profile};
use safelight::tensor::DType;

/// Smooth waves with a little noise, like a generator's output: H × W × 3 values in [0, 1].
fn picture(side: usize) -> Vec<f32> {
    let mut seed = 1u32;
    let mut noise = move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from(u8::try_from(seed >> 24).unwrap_or(0)) / 255.0 - 0.5
    };
    let wave = |i: usize, period: f32| (f32::from(u16::try_from(i).unwrap_or(0)) / period).sin();
    (0..side * side * 3)
        .map(|i| {
            let (y, x, c) = (i / 3 / side, i / 3 % side, i % 3);
            let value = 0.5 + 0.2 * wave(x, 31.0) + 0.2 * wave(y + 40 * c, 57.0) + 0.02 * noise();
            value.clamp(0.0, 1.0)
        })
        .collect()
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn encode_png(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    for side in [64u16, 512] {
        let data = bytes_of(&picture(usize::from(side)));
        let (bytes, _, _) = to_uint8(DType::F32, &data, Profile::Auto, None);
        let (width, height) = (u32::from(side), u32::from(side));
        let pixels = Pixels { mode: ColorMode::Rgb, width, height, bytes };
        group.throughput(Throughput::Elements(u64::from(side) * u64::from(side)));
        group.bench_with_input(BenchmarkId::new("png", side), &pixels, |b, pixels| {
            b.iter(|| encode(black_box(pixels.clone()), Encoding::default()));
        });
    }
    group.finish();
}

criterion_group!(benches, encode_png);
criterion_main!(benches);
