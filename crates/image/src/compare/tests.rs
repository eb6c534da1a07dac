//! Figures against those of NumPy and scikit-image: `tests/golden/compare/make.py`.

use half::f16;
use serde::Deserialize;

use super::*;
use crate::tensor::DType;

const GOLDEN: &str = include_str!("../../../../tests/golden/compare/golden.json");

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    size: [usize; 3],
    dtype: String,
    scale: f64,
    offset: f64,
    noise: f64,
    peak: f64,
    whole: Figures,
    channels: Vec<Figures>,
    ssim_corners: Option<Vec<f64>>,
    histogram: Vec<Vec<u64>>,
}

#[derive(Deserialize)]
struct Figures {
    mse: f64,
    mae: f64,
    max: f64,
    at: [usize; 2],
    psnr: Option<f64>,
    ssim: Option<f64>,
}

/// The generator of `make.py`.
fn picture(seed: u64, n: usize) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(state >> 33).expect("31 bits")) / f64::from(1u32 << 31)
    };
    (0..n).map(|_| next()).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as NumPy casts")]
fn values_of(numbers: &[f64], dtype: DType, size: [usize; 3]) -> Values {
    let bytes = numbers.iter().flat_map(|&number| match dtype {
        DType::U8 => vec![number.floor() as u8],
        DType::U16 => (number.floor() as u16).to_le_bytes().to_vec(),
        DType::I16 => (number.floor() as i16).to_le_bytes().to_vec(),
        DType::I32 => (number.floor() as i32).to_le_bytes().to_vec(),
        DType::F16 => f16::from_f32(number as f32).to_le_bytes().to_vec(),
        DType::F32 => (number as f32).to_le_bytes().to_vec(),
        _ => number.to_le_bytes().to_vec(),
    });
    Values::new(dtype, size, bytes.collect()).expect("values")
}

fn pictures(number: u64, case: &Case) -> (Values, Values) {
    let dtype = DType::from_name(&case.dtype).expect("a type");
    let n = case.size.iter().product();
    let a: Vec<f64> =
        picture(2 * number + 1, n).iter().map(|value| case.offset + case.scale * value).collect();
    let noise = picture(2 * number + 2, n);
    let b: Vec<f64> =
        a.iter().zip(&noise).map(|(a, noise)| a + case.noise * (noise - 0.5)).collect();
    (values_of(&a, dtype, case.size), values_of(&b, dtype, case.size))
}

fn near(got: Option<f64>, want: Option<f64>, tolerance: f64) -> bool {
    match (got, want) {
        (Some(got), Some(want)) => (got - want).abs() <= tolerance * want.abs().max(1.0),
        (got, want) => got.is_none() && want.is_none(),
    }
}

#[test]
fn figures_are_those_of_scikit_image() {
    let golden: Golden = serde_json::from_str(GOLDEN).expect("golden figures");
    let check = |got: &Differences, want: &Figures, what: &str| {
        assert!(near(got.mse, Some(want.mse), 1e-9), "{what} mse: {got:?}, want {}", want.mse);
        assert!(near(got.mae, Some(want.mae), 1e-9), "{what} mae: {got:?}, want {}", want.mae);
        assert_eq!(got.max, Some(want.max), "{what} max");
        assert!(near(got.psnr, want.psnr, 1e-9), "{what} psnr: {got:?}, want {:?}", want.psnr);
        assert!(near(got.ssim, want.ssim, 1e-6), "{what} ssim: {got:?}, want {:?}", want.ssim);
    };
    let mut n_similar = 0;
    for (number, case) in (0..).zip(&golden.cases) {
        let what = format!("case {number}, {:?} {}", case.size, case.dtype);
        let (a, b) = pictures(number, case);
        let got = compare(&a, &b, case.peak).expect("the same size");
        check(&got.whole, &case.whole, &what);
        assert_eq!(got.channels.len(), case.channels.len());
        for (channel, (got, want)) in got.channels.iter().zip(&case.channels).enumerate() {
            check(got, want, &format!("{what}, channel {channel}"));
            assert_eq!(got.at, Some([want.at[0], want.at[1], channel]), "{what}");
        }
        let map = difference_map(&a, &b, MapKind::Ssim, case.peak).expect("the same size");
        assert_eq!(map.is_some(), case.ssim_corners.is_some(), "{what}");
        if let Some((map, corners)) = map.zip(case.ssim_corners.as_ref()) {
            let [height, width, _] = case.size;
            let at = |y: usize, x: usize| map.values[y * width + x];
            let got = [
                at(0, 0),
                at(0, width - 1),
                at(height - 1, 0),
                at(height - 1, width - 1),
                at(height / 2, 3),
            ];
            for (got, want) in got.into_iter().zip(corners) {
                assert!((f64::from(got) - want).abs() <= 1e-6, "{what}: {got}, want {want}");
            }
            n_similar += 1;
        }
        check_histogram(&a, case, &what);
    }
    assert!(golden.cases.len() >= 16 && n_similar >= 14);
}

fn check_histogram(a: &Values, case: &Case, what: &str) {
    let [height, _, n_channels] = case.size;
    let mut extremes = Extremes::new(n_channels);
    let mut rows = Vec::new();
    let mut each = |see: &mut dyn FnMut(usize, f64)| {
        for y in 0..height {
            for channel in 0..n_channels {
                a.row(y, channel, &mut rows);
                rows.iter().for_each(|&value| see(channel, value));
            }
        }
    };
    each(&mut |channel, value| extremes.see(channel, value));
    let (low, high) = extremes.whole().expect("finite values");
    let mut histogram = Histogram::new(n_channels, 37, low, high);
    each(&mut |channel, value| histogram.see(channel, value));
    for (got, want) in histogram.channels().iter().zip(&case.histogram) {
        assert_eq!(got.counts, *want, "{what}");
    }
}

#[test]
fn values_that_are_not_finite_are_left_out_and_counted() {
    let size = [30, 30, 1];
    let case = |number, dtype: DType| values_of(&picture(number, 900), dtype, size);
    let (a, b) = (case(1, DType::F64), case(2, DType::F64));
    let clean = compare(&a, &b, 1.0).expect("the same size").whole;
    // One bad value in the corner: every inner window but one is as before.
    let mut numbers = picture(1, 900);
    numbers[0] = f64::NAN;
    let with_nan = values_of(&numbers, DType::F64, size);
    let got = compare(&with_nan, &b, 1.0).expect("the same size").whole;
    assert_eq!((got.n_finite, got.n_other, clean.n_other), (899, 1, 0));
    assert!(got.mse.is_some_and(f64::is_finite) && got.mse != clean.mse);
    assert!(got.ssim.is_some_and(f64::is_finite) && got.ssim != clean.ssim);
    let map = difference_map(&with_nan, &b, MapKind::Ssim, 1.0).expect("same").expect("a map");
    let clean_map = difference_map(&a, &b, MapKind::Ssim, 1.0).expect("same").expect("a map");
    for (i, (got, want)) in map.values.iter().zip(&clean_map.values).enumerate() {
        let is_far = i / 30 > 5 || i % 30 > 5;
        assert!(if is_far { got == want } else { got.is_nan() }, "{i}: {got}, want {want}");
    }
    // Nothing is finite in both.
    let (nan, inf) = (vec![f64::NAN; 900], vec![f64::INFINITY; 900]);
    let [nan, inf] = [nan, inf].map(|numbers| values_of(&numbers, DType::F64, size));
    let got = compare(&nan, &inf, 1.0).expect("the same size").whole;
    assert_eq!(got, Differences { n_other: 900, ..Differences::default() });
}

#[test]
fn pictures_of_other_sizes_are_not_compared() {
    let a = values_of(&[0.0; 12], DType::F64, [2, 2, 3]);
    let b = values_of(&[0.0; 12], DType::F64, [4, 3, 1]);
    let error = compare(&a, &b, 1.0).expect_err("other sizes");
    let want = "the reference has 2 × 2 pixels of 3 channels, the other picture 3 × 4 of 1";
    assert_eq!(error.to_string(), want);
    assert_eq!(difference_map(&a, &b, MapKind::Signed, 1.0), Err(error));
}

#[test]
fn maps_show_the_mean_over_channels() {
    let a = values_of(&[1.0, 2.0, 0.0, f64::NAN], DType::F64, [1, 2, 2]);
    let b = values_of(&[3.0, 1.0, 0.0, 0.0], DType::F64, [1, 2, 2]);
    for (kind, want) in [
        (MapKind::Absolute, 1.5),
        (MapKind::Signed, 0.5),
        (MapKind::Squared, 2.5),
        (MapKind::Relative, 0.5 * (2.0 / 1.01 + 1.0 / 2.01)),
    ] {
        let map = difference_map(&a, &b, kind, 1.0).expect("the same size").expect("a map");
        let got = f64::from(map.values[0]);
        assert!((got - want).abs() < 1e-6 && map.values[1].is_nan(), "{map:?}");
        assert_eq!(map.extent(), Some((got, got)));
    }
    assert_eq!(difference_map(&a, &b, MapKind::Ssim, 1.0), Ok(None));
}

#[test]
fn each_value_is_counted_once() {
    let values =
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 0.1, 0.5, 1.0, 1.5, f64::MAX];
    let mut histogram = Histogram::new(1, 2, 0.0, 1.0);
    values.into_iter().for_each(|value| histogram.see(0, value));
    let want = ChannelCounts {
        counts: vec![2, 2],
        nan: 1,
        positive_inf: 1,
        negative_inf: 1,
        below: 1,
        above: 2,
    };
    assert_eq!(histogram.channels(), [want]);
    assert_eq!((histogram.quantile(0.01), histogram.quantile(0.99)), (Some(0.0), Some(1.0)));
    let mut equal = Histogram::new(1, 4, 7.0, 7.0);
    equal.see(0, 7.0);
    assert_eq!(
        (equal.range(), equal.channels()[0].counts.as_slice()),
        ((6.5, 7.5), &[0, 0, 1, 0][..])
    );
    let mut far = Histogram::new(1, 256, -f64::MAX, f64::MAX);
    [-f64::MAX, 0.0, f64::MAX].into_iter().for_each(|value| far.see(0, value));
    assert_eq!(far.channels()[0].counts.iter().sum::<u64>(), 3);
    assert_eq!(Histogram::new(1, 3, 0.0, 1.0).quantile(0.5), None);
}
