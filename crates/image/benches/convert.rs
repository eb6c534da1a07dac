//! The cost of conversion with statistics for each element type, compared with reading the same bytes. The
//! ratio of the throughputs counts.
//!
//! `warm` converts one chunk repeatedly, `memory` more pictures than the caches hold. `hwc` scans and
//! converts in blocks, as pictures are rendered; `chw` also interleaves the channels.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use half::{bf16, f16};
use multiversion::multiversion;
use safelight_image::convert::{Conversion, Decision, Elements, Scan, Wish, interleave};
use safelight_image::media::Profile;
use safelight_image::tensor::{ByteOrder, DType};

/// Bytes of a block that is scanned and then converted.
const BLOCK_BYTES: usize = 16 << 10;

/// Samples of a picture of 512 × 512 pixels.
const N_SAMPLES: usize = 3 << 18;

/// Returns the bytes of a picture: noise from 0 to 1, or over a range that is typical of the type.
fn picture(dtype: DType, n: usize) -> Vec<u8> {
    let mut seed = 1u32;
    let mut noise = move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        u16::from_le_bytes([seed.to_le_bytes()[2], seed.to_le_bytes()[3]])
    };
    let unit = |word: u16| f32::from(word) / 65535.0;
    let element = |word: u16| match dtype {
        DType::U8 => vec![word.to_le_bytes()[1]],
        DType::I16 => (i16::from(word.to_le_bytes()[1]) - 9).to_le_bytes().to_vec(),
        DType::I64 => (i64::from(word) % 19).to_le_bytes().to_vec(),
        DType::F16 => f16::from_f32(unit(word)).to_le_bytes().to_vec(),
        DType::BF16 => bf16::from_f32(unit(word)).to_le_bytes().to_vec(),
        DType::F64 => f64::from(unit(word)).to_le_bytes().to_vec(),
        _ => unit(word).to_le_bytes().to_vec(),
    };
    (0..n).flat_map(|_| element(noise())).collect()
}

/// Reads each byte: the least that any conversion must do.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512dq+avx2+fma+bmi2+f16c+lzcnt+popcnt",
    "x86_64+avx2+fma+bmi2+f16c",
))]
fn read(bytes: &[u8]) -> u64 {
    let mut sums = [0u64; 32];
    for group in bytes.as_chunks::<256>().0 {
        for (sum, word) in sums.iter_mut().zip(group.as_chunks().0) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*word));
        }
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}

/// Scans and converts the values of a picture.
fn scan_and_convert(elements: Elements, by: &Conversion, picture: &mut [u8], samples: &mut [u8]) {
    let mut scan = Scan::new(elements);
    let blocks = picture.chunks_mut(BLOCK_BYTES);
    for (block, samples) in blocks.zip(samples.chunks_mut(BLOCK_BYTES / elements.dtype.size())) {
        scan.see(block);
        by.convert(block, samples);
    }
    black_box(scan.stats());
}

fn conversion(elements: Elements, picture: &mut [u8], profile: Profile) -> Conversion {
    let mut scan = Scan::new(elements);
    scan.see(picture);
    match scan.decide(Wish { profile, ..Wish::default() }) {
        Decision::Convert(conversion) => conversion,
        Decision::Measure(_) => unreachable!("a profile that decides at once"),
    }
}

fn bench(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, dtype: DType, profile: Profile) {
    let elements = Elements { dtype, byte_order: ByteOrder::Little };
    let in_memory = (192 << 20) / (N_SAMPLES * dtype.size());
    let in_chunk = (256 << 10) / dtype.size() / 3 * 3;
    for (place, n, n_pictures) in [("warm", in_chunk, 1), ("memory", N_SAMPLES, in_memory)] {
        let mut bytes = picture(dtype, n).repeat(n_pictures);
        let by = conversion(elements, &mut bytes, profile);
        let mut samples = vec![0; n];
        let mut pixels = vec![0; n];
        let mut i = 0;
        let mut next = move || {
            i = (i + 1) % n_pictures;
            i * n * dtype.size()..(i + 1) * n * dtype.size()
        };
        group.throughput(Throughput::Bytes((n * dtype.size()) as u64));
        group.bench_function(BenchmarkId::new(format!("{name}/{place}"), "read"), |b| {
            b.iter(|| read(black_box(&bytes[next()])));
        });
        group.bench_function(BenchmarkId::new(format!("{name}/{place}"), "hwc"), |b| {
            b.iter(|| scan_and_convert(elements, &by, &mut bytes[next()], &mut samples));
        });
        group.bench_function(BenchmarkId::new(format!("{name}/{place}"), "chw"), |b| {
            b.iter(|| {
                scan_and_convert(elements, &by, &mut bytes[next()], &mut samples);
                interleave(&samples, 3, &mut pixels);
            });
        });
    }
}

fn convert(c: &mut Criterion) {
    let mut group = c.benchmark_group("convert");
    group.sample_size(20);
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(800));
    for (name, dtype, profile) in [
        ("f32", DType::F32, Profile::Auto),
        ("f32-wandb-0.20", DType::F32, Profile::Wandb020),
        ("f64", DType::F64, Profile::Auto),
        ("f16", DType::F16, Profile::Auto),
        ("f16-wandb-0.20", DType::F16, Profile::Wandb020),
        ("bf16", DType::BF16, Profile::Auto),
        ("u8", DType::U8, Profile::Auto),
        ("i16", DType::I16, Profile::Auto),
        ("i64", DType::I64, Profile::Auto),
    ] {
        bench(&mut group, name, dtype, profile);
    }
    group.finish();
}

criterion_group!(benches, convert);
criterion_main!(benches);
