//! Values → samples: whose rule, which range. Pure.
//!
//! The rule depends on all values of a picture, so conversion takes passes over its elements, each
//! in chunks: [`Scan`] sees them all, [`Scan::decide`] chooses, [`Conversion`] maps. One case of the
//! oldest wandb needs a pass between ([`Decision::Measure`]).
//!
//! Source of the `wandb-*` rules: `spec/image.md` A.4; wandb 0.10.20, 0.28.2 and 0.31.0,
//! `sdk/data_types/image.py`, with `NumPy` 2 on x86-64.

pub use super::kernel::Conversion;
use super::kernel::Map;
use super::sample::{Complex, Int, Real, for_dtype, normalize, values};
use super::scan::{Elements, Extremes, Finite, MINUS_ONE, ONE, Ordered, Scan, ZERO};
use crate::media::{Profile, Rule, Stats};
use crate::tensor::{ByteOrder, DType};

/// How far finite floats may overshoot \[0, 1\] or \[−1, 1\] without leaving the range's rule, in
/// profile `auto`: bicubic and Lanczos resampling overshoot by up to a tenth of an edge's height,
/// rounding to bfloat16 by 0.004.
const OVERSHOOT: f64 = 0.1;

/// How many bits a sample has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// 0 to 255.
    #[default]
    Eight,
    /// 0 to 65535: by profile `auto` or an explicit range.
    Sixteen,
}

impl Depth {
    /// The largest sample.
    #[must_use]
    pub const fn white(self) -> f64 {
        match self {
            Self::Eight => 255.0,
            Self::Sixteen => 65535.0,
        }
    }
}

/// What the rule is chosen by, beside the values.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Wish {
    /// Whose rule.
    pub profile: Profile,
    /// The values that become 0 and the largest sample, whatever the profile.
    pub range: Option<(f64, f64)>,
    /// How many bits a sample has.
    pub depth: Depth,
    /// Whether wandb's oldest path for torch tensors applies.
    pub is_torch_sheet: bool,
}

impl Scan {
    /// Chooses the rule. An explicit `range` wins over any profile.
    #[must_use]
    pub fn decide(&self, wish: Wish) -> Decision {
        let white = wish.depth.white();
        let (rule, map) = match (wish.range, wish.profile) {
            (Some((lo, hi)), _) => (Rule::Range, Map::linear(lo, hi, white)),
            (None, _) if wish.is_torch_sheet => (Rule::Stretch, self.torch_sheet()),
            (None, Profile::Auto) => self.auto(white),
            (None, Profile::Wandb020) => self.norm(),
            (None, Profile::Wandb029) => match self.elements.dtype {
                DType::U8 | DType::Bool => (Rule::None, Map::Wrap),
                _ => (Rule::Wrap, Map::Wrap),
            },
            (None, Profile::Wandb010) => match self.seed() {
                Ok(chosen) => chosen,
                Err(stretch) => {
                    return Decision::Measure(Measure {
                        elements: self.elements,
                        stretch,
                        max: Ordered::NONE,
                    });
                }
            },
        };
        Decision::Convert(Conversion::new(self.elements.dtype, rule, map))
    }

    /// The share of all values that were finite and lie outside of what `conversion` maps, given how
    /// many do.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "statistics are f64")]
    pub fn share(&self, n_clipped: u64) -> f64 {
        if n_clipped == 0 { 0.0 } else { n_clipped as f64 / self.n_values() as f64 }
    }

    /// Whether any finite value may lie outside of what `conversion` maps.
    #[must_use]
    pub fn is_clipped_by(&self, conversion: &Conversion) -> bool {
        let Finite { n, min, max, .. } = self.finite;
        n > 0 && conversion.bounds().is_some_and(|(lo, hi)| min < lo || max > hi)
    }

    /// wandb 0.10 for torch tensors: torchvision's normalization of the whole sheet, then × 255.
    /// A NaN anywhere makes everything black.
    fn torch_sheet(&self) -> Map {
        let (min, max) = match self.extremes {
            Extremes::Real(ordered) => ordered.get().unwrap_or((0.0, 0.0)),
            _ => (self.finite.min, self.finite.max),
        };
        Map::Sheet { min, spread: if (max - min) < 1e-5 { 1e-5 } else { max - min } }
    }

    /// Ours: bool black and white; whole numbers clipped, never scaled; floats by their finite values.
    fn auto(&self, white: f64) -> (Rule, Map) {
        let is_wide = white > 255.0;
        let unit = if is_wide { Rule::X65535 } else { Rule::X255 };
        let clip = Map::linear(0.0, white, white);
        match (self.elements.dtype, self.extremes) {
            (DType::Bool, _) => (unit, Map::linear(0.0, 1.0, white)),
            (DType::U8, _) if !is_wide => (Rule::None, Map::Clip),
            (DType::U8 | DType::U16, _) if is_wide => (Rule::None, clip),
            (_, Extremes::Int { .. }) if !is_wide => (Rule::Clip, Map::Clip),
            (_, Extremes::Int { .. }) => (Rule::Clip, clip),
            _ => {
                let Finite { n, min, max, .. } = self.finite;
                if n == 0 || max > 1.0 + OVERSHOOT || min < -1.0 - OVERSHOOT {
                    (Rule::Clip, clip)
                } else if min >= -OVERSHOOT {
                    (unit, Map::linear(0.0, 1.0, white))
                } else {
                    (Rule::Sym, Map::linear(-1.0, 1.0, white))
                }
            }
        }
    }

    /// wandb 0.20.1 to 0.28: A.4.1.
    ///
    /// The library refuses int8 pictures of 0 and 1 with `NumPy` 2; they are drawn here as with `NumPy` 1.
    fn norm(&self) -> (Rule, Map) {
        let (from_0, from_minus_1, to_1) = match self.extremes {
            Extremes::Int { min, max } => (min >= 0, min >= -1, max <= 1),
            Extremes::Real(ordered) => ordered
                .get()
                .map_or((false, false, false), |(min, max)| (min >= 0.0, min >= -1.0, max <= 1.0)),
            Extremes::Complex(ordered) => {
                ordered.get().map_or((false, false, false), |(min, max)| {
                    (ZERO.less_or_equal(min), MINUS_ONE.less_or_equal(min), max.less_or_equal(ONE))
                })
            }
        };
        match (from_0, from_minus_1, to_1) {
            (true, _, true) => (Rule::X255, Map::X255 { clip: false }),
            (_, true, true) => (Rule::Sym, Map::Sym),
            _ if self.elements.dtype == DType::U8 => (Rule::None, Map::Clip),
            _ => (Rule::Clip, Map::Clip),
        }
    }

    /// wandb 0.10 to 0.19: A.4.3. An error is the stretch that a negative minimum asks for.
    fn seed(&self) -> Result<(Rule, Map), Stretch> {
        let to_1 = match self.extremes {
            Extremes::Int { min, max } if min < 0 => return Err(Stretch::Int { min, max }),
            Extremes::Int { max, .. } => max <= 1,
            Extremes::Real(ordered) => match ordered.get() {
                Some((min, max)) if min < 0.0 => return Err(Stretch::Real { min, max }),
                ends => ends.is_some_and(|(_, max)| max <= 1.0),
            },
            // With the NumPy of those releases a complex64 with a NaN compares with nothing.
            Extremes::Complex(Ordered { first_nan: Some(_), .. })
                if self.elements.dtype == DType::Complex64 =>
            {
                false
            }
            Extremes::Complex(ordered) => match ordered.get() {
                Some((min, max)) if min.less(ZERO) => return Err(Stretch::Complex { min, max }),
                ends => ends.is_some_and(|(_, max)| max.less_or_equal(ONE)),
            },
        };
        Ok(match (to_1, self.elements.dtype) {
            (true, _) => (Rule::X255, Map::X255 { clip: true }),
            (false, DType::U8) => (Rule::None, Map::Clip),
            (false, _) => (Rule::Clip, Map::Clip),
        })
    }
}

/// What [`Scan::decide`] came to.
#[derive(Debug)]
pub enum Decision {
    /// The rule is known.
    Convert(Conversion),
    /// The rule depends on the stretched values: let it see all elements once more.
    Measure(Measure),
}

/// A pass over the stretched values of wandb 0.10 to 0.19, which scales them by 255 only if none
/// is above 1. Whole numbers wrap in the stretch, and complex ones turn, so that only looking tells.
#[derive(Debug)]
pub struct Measure {
    elements: Elements,
    stretch: Stretch,
    max: Ordered<Complex<f64>>,
}

impl Measure {
    /// Sees one more chunk, in its form in the dump.
    pub fn see(&mut self, chunk: &mut [u8]) {
        normalize(chunk, self.elements.dtype, self.elements.byte_order);
        let (stretch, max) = (self.stretch, &mut self.max);
        let mut see = |value: Complex<f64>| {
            max.see(value, value.is_nan(), Complex::less);
        };
        let real = |re: f64| Complex { re, im: 0.0 };
        for_dtype!(self.elements.dtype,
            int T => values::<T>(chunk).for_each(|v| see(real(stretch.int(v)))),
            real T => values::<T>(chunk).for_each(|v| see(real(stretch.real(v).wide()))),
            complex T => values::<Complex<T>>(chunk).for_each(|v| see(stretch.complex(v).wide())),
        );
    }

    /// The conversion, after all elements were seen.
    #[must_use]
    pub fn decide(self) -> Conversion {
        let scaled = self.max.get().is_some_and(|(_, max)| max.less_or_equal(ONE));
        let map = Map::Stretch { stretch: self.stretch, scaled };
        Conversion::new(self.elements.dtype, Rule::Stretch, map)
    }
}

/// (value − min) / (max − min), in the element's own type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stretch {
    Int { min: i128, max: i128 },
    Real { min: f64, max: f64 },
    Complex { min: Complex<f64>, max: Complex<f64> },
}

impl Stretch {
    /// The subtractions wrap in the type, the division is in f64: as `NumPy` has it.
    #[expect(clippy::cast_precision_loss, reason = "as NumPy divides whole numbers")]
    pub(super) fn int<T: Int>(self, value: T) -> f64 {
        let Self::Int { min, max } = self else {
            return f64::NAN;
        };
        let (min, max) = (T::from_wide(min), T::from_wide(max));
        value.wrapping_sub(min).wide() as f64 / max.wrapping_sub(min).wide() as f64
    }

    pub(super) fn real<T: Real>(self, value: T) -> T {
        let Self::Real { min, max } = self else {
            return T::of(f64::NAN);
        };
        let (min, max) = (T::of(min), T::of(max));
        (value - min) / (max - min)
    }

    pub(super) fn complex<T: Real>(self, value: Complex<T>) -> Complex<T> {
        let Self::Complex { min, max } = self else {
            return value;
        };
        let narrow = |c: Complex<f64>| Complex { re: T::of(c.re), im: T::of(c.im) };
        let (min, max) = (narrow(min), narrow(max));
        value.sub(min).div(max.sub(min))
    }
}

/// Converts all of a little-endian tensor at once, to 8 bits: `wandb.Image`'s `to_uint8`, by the
/// profile's rule.
///
/// # Panics
/// If `data` isn't a whole number of elements.
#[must_use]
pub fn to_uint8(
    dtype: DType,
    data: &[u8],
    profile: Profile,
    range: Option<(f64, f64)>,
) -> (Vec<u8>, Rule, Stats) {
    assert!(data.len().is_multiple_of(dtype.size()), "whole elements");
    let elements = Elements { dtype, byte_order: ByteOrder::Little };
    let mut chunk = data.to_vec();
    let mut scan = Scan::new(elements);
    scan.see(&mut chunk);
    let wish = Wish { profile, range, ..Wish::default() };
    let conversion = match scan.decide(wish) {
        Decision::Convert(conversion) => conversion,
        Decision::Measure(mut measure) => {
            measure.see(&mut chunk);
            measure.decide()
        }
    };
    let mut bytes = vec![0; chunk.len() / dtype.size()];
    conversion.convert(&chunk, &mut bytes);
    let n_clipped =
        if scan.is_clipped_by(&conversion) { conversion.count_clipped(&chunk) } else { 0 };
    (bytes, conversion.rule(), Stats { clipped: scan.share(n_clipped), ..scan.stats() })
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;
    use Profile::{Auto, Wandb010, Wandb020, Wandb029};

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

    /// One row of the table in `spec/image.md` A.5: `seed`, `norm`, `raw`.
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
            [
                &[0, 127, 127, 170, 235, 255],
                &[0, 0, 0, 100, 255, 255],
                &[212, 255, 0, 100, 255, 44],
            ],
        );
        check(
            &f32s(&[-300.0, -1.0, 0.0, 100.7, 255.9, 300.0]),
            [
                &[0, 127, 127, 170, 236, 255],
                &[0, 0, 0, 100, 255, 255],
                &[212, 255, 0, 100, 255, 44],
            ],
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
        let ramp = |value: &dyn Fn(f64) -> f64| {
            (0..256u32).map(|k| value(f64::from(k))).collect::<Vec<_>>()
        };
        let all: Vec<u8> = (0..=255).collect();
        let sum = |bytes: Vec<u8>| bytes.into_iter().map(u32::from).sum::<u32>();
        let f32s_of =
            |values: &[f64]| f32s(&values.iter().map(|&v| f32::of(v)).collect::<Vec<_>>());
        let unit = ramp(&|k| k / 255.0);
        let signed = ramp(&|k| k / 127.5 - 1.0);
        for profile in [Wandb010, Wandb020, Auto] {
            for data in [f16s(&unit), f32s_of(&unit), f64s(&unit)] {
                assert_eq!(bytes(&data, profile), all);
            }
        }
        for profile in [Wandb010, Wandb020] {
            let sums = [f16s(&signed), f32s_of(&signed), f64s(&signed)]
                .map(|data| sum(bytes(&data, profile)));
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
    fn statistics_that_f64_cannot_hold_are_not_told() {
        let (_, _, stats) = to_uint8(DType::F64, &f64s(&[1e300, -1e300]).1, Auto, None);
        assert_eq!((stats.min, stats.std, stats.constant), (Some(-1e300), None, false));
        let (_, _, stats) = to_uint8(DType::F64, &f64s(&[1e-200, 2e-200]).1, Auto, None);
        assert_eq!(stats.std, None);
        let u64s =
            [u64::MAX, u64::MAX - 1].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
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
}
