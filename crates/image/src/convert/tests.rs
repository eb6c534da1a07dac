//! Whole conversions: values in, samples out.

use half::f16;
use proptest::prelude::*;

use super::element::Real;
use super::rule::Depth;
use super::*;
use crate::media::Profile::{self, Auto, Wandb010, Wandb020, Wandb029};
use crate::media::{Rule, Stats};
use crate::tensor::{ByteOrder, DType};
use crate::wandb::to_uint8;

fn f32s(values: &[f32]) -> (DType, Vec<u8>) {
    (DType::F32, values.iter().flat_map(|v| v.to_le_bytes()).collect())
}
fn f64s(values: &[f64]) -> (DType, Vec<u8>) {
    (DType::F64, values.iter().flat_map(|v| v.to_le_bytes()).collect())
}
fn f16s(values: &[f64]) -> (DType, Vec<u8>) {
    (DType::F16, values.iter().flat_map(|v| f16::from_f64(*v).to_le_bytes()).collect())
}
fn i16s(values: &[i16]) -> (DType, Vec<u8>) {
    (DType::I16, values.iter().flat_map(|v| v.to_le_bytes()).collect())
}
fn bytes(data: &(DType, Vec<u8>), profile: Profile) -> Vec<u8> {
    to_uint8(data.0, &data.1, profile, None).0
}

/// Checks one row of the table in `docs/spec/image.md` A.5: `seed`, `norm`, `raw`.
fn check(data: &(DType, Vec<u8>), want: [&[u8]; 3]) {
    let got = [Wandb010, Wandb020, Wandb029].map(|profile| bytes(data, profile));
    assert_eq!(got.each_ref().map(Vec::as_slice), want, "{data:?}");
}

#[test]
fn worked_rows_of_the_specification() {
    let row: &[u8] = &[0, 63, 127, 191, 255, 254];
    check(&f32s(&[0.0, 0.25, 0.5, 0.75, 1.0, 0.999]), [row, row, &[0, 0, 0, 0, 1, 0]]);
    let row: &[u8] = &[0, 63, 127, 191, 255, 153];
    check(&f32s(&[-1.0, -0.5, 0.0, 0.5, 1.0, 0.2]), [row, row, &[255, 0, 0, 0, 1, 0]]);
    check(&f64s(&[-0.2, 0.6]), [&[0, 255], &[102, 204], &[0, 0]]);
    check(
        &f32s(&[-2.0, -1.0, 0.0, 1.0, 2.0, 1.5]),
        [&[0, 63, 127, 191, 255, 223], &[0, 0, 0, 1, 2, 1], &[254, 255, 0, 1, 2, 1]],
    );
    check(
        &i16s(&[-300, -1, 0, 100, 255, 300]),
        [&[0, 127, 127, 170, 235, 255], &[0, 0, 0, 100, 255, 255], &[212, 255, 0, 100, 255, 44]],
    );
    check(
        &f32s(&[-300.0, -1.0, 0.0, 100.7, 255.9, 300.0]),
        [&[0, 127, 127, 170, 236, 255], &[0, 0, 0, 100, 255, 255], &[212, 255, 0, 100, 255, 44]],
    );
    let u16s = [0u16, 256, 1000, 40000, 65535].iter().flat_map(|v| v.to_le_bytes()).collect();
    let row: &[u8] = &[0, 255, 255, 255, 255];
    check(&(DType::U16, u16s), [row, row, &[0, 0, 232, 64, 255]]);
    let row: &[u8] = &[0, 255, 255];
    check(&(DType::Bool, vec![0, 1, 1]), [row, row, &[0, 1, 1]]);
    check(&(DType::U8, vec![0, 1, 1]), [row, row, &[0, 1, 1]]);
    let row: &[u8] = &[0, 0, 0, 1, 0];
    check(&f32s(&[0.0, 0.5, f32::NAN, 1.0, 0.25]), [row, row, row]);
    check(
        &f32s(&[0.0, 0.5, f32::INFINITY, 1.0]),
        [&[0, 0, 255, 1], &[0, 0, 255, 1], &[0, 0, 0, 1]],
    );
    check(
        &f32s(&[0.0, 0.5, f32::NEG_INFINITY, 1.0]),
        [&[0, 0, 0, 0], &[0, 0, 0, 1], &[0, 0, 0, 1]],
    );
    let i32s = [-5i32, -5].iter().flat_map(|v| v.to_le_bytes()).collect();
    check(&(DType::I32, i32s), [&[0, 0], &[0, 0], &[251, 251]]);
    check(&f32s(&[1.25, 0.5]), [&[1, 0], &[1, 0], &[1, 0]]);
}

#[test]
fn vectors_of_the_specification() {
    let values = f16s(&[
        -1.0,
        1.0,
        0.276_611_328_125,
        0.161_743_164_062_5,
        0.133_056_640_625,
        -0.742_675_781_25,
    ]);
    for profile in [Wandb010, Wandb020] {
        assert_eq!(bytes(&values, profile), [0, 255, 162, 148, 144, 32]);
    }
    let i8s =
        (DType::I8, [-40i8, 63, -66, 30, 15, 38].iter().map(|v| v.to_le_bytes()[0]).collect());
    assert_eq!(bytes(&i8s, Wandb020), [0, 63, 0, 30, 15, 38]);
    assert_eq!(bytes(&i8s, Wandb029), [216, 63, 190, 30, 15, 38]);
    // The spread of 129 wraps in int8: to rubbish, and to 0 and 1 where a value comes out above 1.
    assert_eq!(bytes(&i8s, Wandb010), [0, 255, 0, 0, 0, 0]);
    let i8s = (DType::I8, [-66i8, 62, 63].iter().map(|v| v.to_le_bytes()[0]).collect());
    assert_eq!(bytes(&i8s, Wandb010), [0, 1, 1]);
}

#[test]
fn ramps_of_the_specification() {
    let ramp =
        |value: &dyn Fn(f64) -> f64| (0..256u32).map(|k| value(f64::from(k))).collect::<Vec<_>>();
    let all: Vec<u8> = (0..=255).collect();
    let sum = |bytes: Vec<u8>| bytes.into_iter().map(u32::from).sum::<u32>();
    let f32s_of = |values: &[f64]| f32s(&values.iter().map(|&v| f32::of(v)).collect::<Vec<_>>());
    let unit = ramp(&|k| k / 255.0);
    let signed = ramp(&|k| k / 127.5 - 1.0);
    for profile in [Wandb010, Wandb020, Auto] {
        for data in [f16s(&unit), f32s_of(&unit), f64s(&unit)] {
            assert_eq!(bytes(&data, profile), all);
        }
    }
    for profile in [Wandb010, Wandb020] {
        let sums =
            [f16s(&signed), f32s_of(&signed), f64s(&signed)].map(|data| sum(bytes(&data, profile)));
        assert_eq!(sums, [32603, 32545, 32620], "{profile:?}");
    }
    // Ours rounds to the nearest, so that this ramp comes back too.
    for data in [f32s_of(&signed), f64s(&signed)] {
        assert_eq!(bytes(&data, Auto), all);
    }
    let halves = f64s(&ramp(&|k| k + 0.5));
    for profile in [Wandb010, Wandb020, Wandb029] {
        assert_eq!(bytes(&halves, profile), all);
    }
}

fn check_auto(data: &(DType, Vec<u8>), rule: Rule, want: &[u8]) {
    let (got, got_rule, _) = to_uint8(data.0, &data.1, Auto, None);
    assert_eq!((got.as_slice(), got_rule), (want, rule), "{data:?}");
}

#[test]
fn auto_follows_type_and_finite_values() {
    check_auto(&(DType::Bool, vec![0, 1, 7]), Rule::X255, &[0, 255, 255]);
    check_auto(&(DType::U8, vec![0, 1, 1]), Rule::None, &[0, 1, 1]);
    check_auto(&i16s(&[-5, 0, 1, 300]), Rule::Clip, &[0, 0, 1, 255]);
    check_auto(&f32s(&[0.0, 0.5, 1.0]), Rule::X255, &[0, 128, 255]);
    check_auto(&f32s(&[-1.0, 0.0, 1.0]), Rule::Sym, &[0, 128, 255]);
    check_auto(&f32s(&[0.0, 254.6, 300.0]), Rule::Clip, &[0, 255, 255]);
    // A small residual is shifted and scaled as a large one.
    check_auto(&f32s(&[-0.09, 0.0, 0.09]), Rule::Sym, &[116, 128, 139]);
    check_auto(&f32s(&[-0.15, 0.0, 0.15]), Rule::Sym, &[108, 128, 147]);
    check_auto(&f32s(&[-0.01, 1.15]), Rule::Clip, &[0, 1]);
    check_auto(&f32s(&[-1.15, 0.0, 1.15]), Rule::Sym, &[0, 128, 255]);
    check_auto(&f32s(&[-1.3, 0.0, 1.0]), Rule::Clip, &[0, 0, 1]);
    // Black with rounding errors stays black.
    check_auto(&f32s(&[-1e-9, 0.0]), Rule::X255, &[0, 0]);
    check_auto(&f32s(&[-0.0019, 0.01]), Rule::X255, &[0, 3]);
    check_auto(&f32s(&[0.9, 1.09]), Rule::X255, &[230, 255]);
    // No cliff at a small overshoot, a NaN or an infinity.
    check_auto(&f32s(&[-0.05, 0.5, 1.0001, 1.05]), Rule::X255, &[0, 128, 255, 255]);
    check_auto(&f32s(&[-1.02, 0.0, 1.0001]), Rule::Sym, &[0, 128, 255]);
    check_auto(
        &f32s(&[0.5, f32::NAN, f32::INFINITY, f32::NEG_INFINITY]),
        Rule::X255,
        &[128, 0, 255, 0],
    );
    check_auto(&f32s(&[f32::NAN, f32::INFINITY]), Rule::Clip, &[0, 255]);
    check_auto(&f16s(&[0.0, 0.5, 1.0]), Rule::X255, &[0, 128, 255]);
    check_auto(&(DType::BF16, vec![0x80, 0x3f, 0, 0]), Rule::X255, &[255, 0]);
    check_auto(&(DType::Complex64, f32s(&[0.5, 9.0, 1.0, -9.0]).1), Rule::X255, &[128, 255]);
}

#[test]
fn range_wins_over_every_profile() {
    for profile in [Auto, Wandb010, Wandb020, Wandb029] {
        let data = f32s(&[-10.0, 0.0, 40.0, 80.0, 90.0]);
        let got = to_uint8(data.0, &data.1, profile, Some((0.0, 80.0)));
        assert_eq!((got.0.as_slice(), got.1), (&[0u8, 0, 128, 255, 255][..], Rule::Range));
    }
}

#[test]
fn statistics_are_of_the_values_before() {
    let data = f32s(&[1.0, 3.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
    let (_, _, stats) = to_uint8(data.0, &data.1, Auto, None);
    let want = Stats {
        min: Some(1.0),
        max: Some(3.0),
        mean: Some(2.0),
        std: Some(1.0),
        nan: 1,
        inf: 2,
        clipped: 0.0,
        constant: false,
    };
    assert_eq!(stats, want);
    let (_, _, stats) = to_uint8(DType::F32, &f32s(&[-1.0, 300.0, 7.0, 9.0]).1, Auto, None);
    assert_eq!((stats.clipped, stats.constant), (0.5, false));
    let (_, rule, stats) = to_uint8(DType::I16, &i16s(&[256, 256]).1, Wandb029, None);
    assert_eq!(
        (rule, stats.clipped, stats.constant, stats.std),
        (Rule::Wrap, 1.0, true, Some(0.0))
    );
    let (_, _, stats) = to_uint8(DType::F32, &f32s(&[f32::NAN]).1, Auto, None);
    assert_eq!(stats, Stats { nan: 1, ..Stats::default() });
}

#[test]
fn statistics_that_f64_cannot_hold_are_left_out() {
    let (_, _, stats) = to_uint8(DType::F64, &f64s(&[1e300, -1e300]).1, Auto, None);
    assert_eq!((stats.min, stats.std, stats.constant), (Some(-1e300), None, false));
    let (_, _, stats) = to_uint8(DType::F64, &f64s(&[1e-200, 2e-200]).1, Auto, None);
    assert_eq!(stats.std, None);
    let u64s = [u64::MAX, u64::MAX - 1].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
    let (_, _, stats) = to_uint8(DType::U64, &u64s, Auto, None);
    assert!(!stats.constant);
}

#[test]
fn sixteen_bits_are_scaled_to_their_own_white() {
    let check = |data: &(DType, Vec<u8>), range, want: (Rule, &[u16])| {
        let mut chunk = data.1.clone();
        let elements = Elements { dtype: data.0, byte_order: ByteOrder::Little };
        let mut scan = Scan::new(elements);
        scan.see(&mut chunk);
        let wish = Wish { range, depth: Depth::Sixteen, ..Wish::default() };
        let Decision::Convert(conversion) = scan.decide(wish) else { panic!("{data:?}") };
        let mut samples = vec![0u16; chunk.len() / data.0.size()];
        conversion.convert(&chunk, &mut samples);
        assert_eq!((conversion.rule(), samples.as_slice()), want, "{data:?}");
    };
    let u16s = [0u16, 1, 40000, 65535].iter().flat_map(|v| v.to_le_bytes()).collect();
    check(&(DType::U16, u16s), None, (Rule::None, &[0, 1, 40000, 65535]));
    check(&f32s(&[0.0, 0.5, 1.0]), None, (Rule::X65535, &[0, 32768, 65535]));
    check(&f32s(&[-1.0, 0.0, 1.0]), None, (Rule::Sym, &[0, 32768, 65535]));
    check(&f32s(&[-7.0, 300.4, 70000.0]), None, (Rule::Clip, &[0, 300, 65535]));
    check(&i16s(&[-7, 300]), None, (Rule::Clip, &[0, 300]));
    check(&f32s(&[0.0, 40.0, 80.0]), Some((0.0, 80.0)), (Rule::Range, &[0, 32768, 65535]));
}

proptest! {
    #[test]
    fn chunks_make_no_difference(values in proptest::collection::vec(any::<f32>(), 1..60), cut in 0usize..60) {
        let data = f32s(&values);
        let at = cut.min(values.len()) * 4;
        let mut scan = Scan::new(Elements { dtype: DType::F32, byte_order: ByteOrder::Little });
        let (mut a, mut b) = (data.1[..at].to_vec(), data.1[at..].to_vec());
        scan.see(&mut a);
        scan.see(&mut b);
        let mut whole = Scan::new(Elements { dtype: DType::F32, byte_order: ByteOrder::Little });
        whole.see(&mut data.1.clone());
        // Sums come out alike but for their last digits.
        let near = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * whole.stats().std.unwrap_or(0.0),
            (a, b) => a == b,
        };
        let (a, b) = (scan.stats(), whole.stats());
        prop_assert!(near(a.mean, b.mean) && near(a.std, b.std), "{a:?} {b:?}");
        let rest = |stats: Stats| Stats { mean: None, std: None, ..stats };
        prop_assert_eq!(rest(a), rest(b));
    }

    #[test]
    fn byte_order_makes_no_difference(values in proptest::collection::vec(any::<i32>(), 1..60)) {
        let little: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut big: Vec<u8> = values.iter().flat_map(|v| v.to_be_bytes()).collect();
        let mut scan = Scan::new(Elements { dtype: DType::I32, byte_order: ByteOrder::Big });
        scan.see(&mut big);
        prop_assert_eq!(little, big);
    }

    #[test]
    fn auto_keeps_the_order_of_values(mut values in proptest::collection::vec(-2f64..400.0, 2..60)) {
        values.sort_by(f64::total_cmp);
        let bytes = bytes(&f64s(&values), Auto);
        prop_assert!(bytes.is_sorted());
    }
}
