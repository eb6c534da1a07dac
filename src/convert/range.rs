//! Values → bytes: whose rule, which range. Pure.
//!
//! The rule depends on all values of a picture, so conversion takes passes over its elements, each
//! in chunks: [`Scan`] sees them all, [`Scan::decide`] chooses, [`Conversion::convert`] maps. One
//! case of the oldest wandb needs a pass between ([`Decision::Measure`]).
//!
//! Source of the `wandb-*` rules: `spec/image.md` A.4; wandb 0.10.20, 0.28.2 and 0.31.0,
//! `sdk/data_types/image.py`, with `NumPy` 2 on x86-64.

use super::sample::{Complex, Element, Int, Real, for_dtype, normalize, round_f64, values};
use crate::media::{Profile, Rule, Stats};
use crate::tensor::{ByteOrder, DType};

/// How far finite floats may overshoot \[0, 1\] or \[−1, 1\] without leaving the range's rule, in
/// profile `auto`: bicubic and Lanczos resampling overshoot by up to a tenth of an edge's height,
/// rounding to bfloat16 by 0.004.
const OVERSHOOT: f64 = 0.1;

/// The element type and byte order of a picture's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elements {
    /// Their type.
    pub dtype: DType,
    /// Their byte order in the dump.
    pub byte_order: ByteOrder,
}

/// What was seen of a picture's values.
#[derive(Debug, Clone)]
pub struct Scan {
    elements: Elements,
    extremes: Extremes,
    /// Of the finite values; of complex ones, of the real parts.
    finite: Finite,
    nan: u64,
    inf: u64,
}

#[derive(Debug, Clone, Copy)]
struct Finite {
    n: u64,
    sum: f64,
    min: f64,
    max: f64,
}

/// Minimum and maximum as `NumPy` finds them.
#[derive(Debug, Clone, Copy)]
enum Extremes {
    Int { min: i128, max: i128 },
    Real(Ordered<f64>),
    Complex(Ordered<Complex<f64>>),
}

/// The least and the greatest of what was seen. `NumPy` gives the first NaN for both if there is one.
#[derive(Debug, Clone, Copy)]
struct Ordered<T> {
    ends: Option<(T, T)>,
    first_nan: Option<T>,
}

impl<T: Copy> Ordered<T> {
    const NONE: Self = Self { ends: None, first_nan: None };

    fn see(&mut self, value: T, is_nan: bool, less: impl Fn(T, T) -> bool) {
        if is_nan {
            self.first_nan.get_or_insert(value);
            return;
        }
        let (min, max) = self.ends.get_or_insert((value, value));
        if less(value, *min) {
            *min = value;
        }
        if less(*max, value) {
            *max = value;
        }
    }

    fn get(&self) -> Option<(T, T)> {
        self.first_nan.map(|nan| (nan, nan)).or(self.ends)
    }
}

impl Complex<f64> {
    fn is_nan(self) -> bool {
        self.re.is_nan() || self.im.is_nan()
    }

    /// `NumPy` orders complex numbers by real part, then by imaginary part. A NaN in the imaginary
    /// part alone hides behind real parts that differ.
    fn less(self, other: Self) -> bool {
        self.re < other.re || (self.re == other.re && self.im < other.im)
    }

    fn less_or_equal(self, other: Self) -> bool {
        self.re < other.re || (self.re == other.re && self.im <= other.im)
    }
}

const ZERO: Complex<f64> = Complex { re: 0.0, im: 0.0 };
const ONE: Complex<f64> = Complex { re: 1.0, im: 0.0 };
const MINUS_ONE: Complex<f64> = Complex { re: -1.0, im: 0.0 };

impl Scan {
    /// A scan that has seen nothing.
    #[must_use]
    pub fn new(elements: Elements) -> Self {
        let extremes = for_dtype!(elements.dtype,
            int _T => Extremes::Int { min: i128::MAX, max: i128::MIN },
            real _T => Extremes::Real(Ordered::NONE),
            complex _T => Extremes::Complex(Ordered::NONE),
        );
        let finite = Finite { n: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };
        Self { elements, extremes, finite, nan: 0, inf: 0 }
    }

    /// Sees one more chunk of whole elements, which is brought into the form that
    /// [`Conversion::convert`] takes on the way.
    pub fn see(&mut self, chunk: &mut [u8]) {
        normalize(chunk, self.elements.dtype, self.elements.byte_order);
        for_dtype!(self.elements.dtype,
            int T => self.see_int::<T>(chunk),
            real T => self.see_real::<T>(chunk),
            complex T => self.see_complex::<T>(chunk),
        );
    }

    #[expect(clippy::cast_precision_loss, reason = "statistics are f64")]
    fn see_int<E: Element<Value: Int>>(&mut self, chunk: &[u8]) {
        let Extremes::Int { min, max } = &mut self.extremes else {
            return;
        };
        for value in values::<E>(chunk) {
            let value = value.wide();
            *min = value.min(*min);
            *max = value.max(*max);
            self.finite.sum += value as f64;
            self.finite.n += 1;
        }
        (self.finite.min, self.finite.max) = (*min as f64, *max as f64);
    }

    fn see_real<E: Element<Value: Real>>(&mut self, chunk: &[u8]) {
        // Nearly all pictures are finite: one plain loop tells, and is all that they need.
        let Finite { mut sum, mut min, mut max, n } = self.finite;
        let (mut all_finite, mut n_seen) = (true, 0);
        for value in values::<E>(chunk) {
            let value = value.wide();
            all_finite &= value.is_finite();
            min = if value < min { value } else { min };
            max = if value > max { value } else { max };
            sum += value;
            n_seen += 1;
        }
        let Extremes::Real(ordered) = &mut self.extremes else { return };
        if all_finite && n_seen > 0 {
            self.finite = Finite { n: n + n_seen, sum, min, max };
            let ends = ordered.ends.get_or_insert((min, max));
            *ends = (min.min(ends.0), max.max(ends.1));
            return;
        }
        for value in values::<E>(chunk) {
            let value = value.wide();
            ordered.see(value, value.is_nan(), |a, b| a < b);
        }
        values::<E>(chunk).for_each(|value| self.see_finite(value.wide()));
    }

    fn see_complex<T: Element<Value: Real>>(&mut self, chunk: &[u8]) {
        for value in values::<Complex<T>>(chunk) {
            let value = value.wide();
            self.see_finite(value.re);
            let Extremes::Complex(ordered) = &mut self.extremes else {
                return;
            };
            ordered.see(value, value.is_nan(), Complex::less);
        }
    }

    fn see_finite(&mut self, value: f64) {
        if value.is_finite() {
            self.finite.n += 1;
            self.finite.sum += value;
            self.finite.min = self.finite.min.min(value);
            self.finite.max = self.finite.max.max(value);
        } else if value.is_nan() {
            self.nan += 1;
        } else {
            self.inf += 1;
        }
    }

    /// The statistics of all that was seen.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "statistics are f64")]
    pub fn stats(&self) -> Stats {
        let Finite { n, sum, min, max } = self.finite;
        let some = |value: f64| (n > 0).then_some(value).filter(|value| value.is_finite());
        Stats {
            min: some(min),
            max: some(max),
            mean: some(sum / n as f64),
            nan: self.nan,
            inf: self.inf,
        }
    }

    /// Chooses the rule. An explicit `range` wins over any profile.
    #[must_use]
    pub fn decide(&self, profile: Profile, range: Option<(f64, f64)>) -> Decision {
        let (rule, map) = match (range, profile) {
            (Some((lo, hi)), _) => (Rule::Range, Map::Linear { lo, scale: 255.0 / (hi - lo) }),
            (None, Profile::Auto) => self.auto(),
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
        Decision::Convert(Conversion { dtype: self.elements.dtype, rule, map })
    }

    /// Ours: bool 0 and 255; whole numbers clipped, never scaled; floats by their finite values.
    fn auto(&self) -> (Rule, Map) {
        match (self.elements.dtype, self.extremes) {
            (DType::Bool, _) => (Rule::X255, Map::Linear { lo: 0.0, scale: 255.0 }),
            (DType::U8, _) => (Rule::None, Map::Clip),
            (_, Extremes::Int { .. }) => (Rule::Clip, Map::Clip),
            _ => {
                let Finite { n, min, max, .. } = self.finite;
                let (rule, lo, scale) = if n == 0 || max > 1.0 + OVERSHOOT || min < -1.0 - OVERSHOOT
                {
                    (Rule::Clip, 0.0, 1.0)
                } else if min >= -OVERSHOOT {
                    (Rule::X255, 0.0, 255.0)
                } else {
                    (Rule::Sym, -1.0, 127.5)
                };
                (rule, Map::Linear { lo, scale })
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
        Conversion { dtype: self.elements.dtype, rule: Rule::Stretch, map }
    }
}

/// (value − min) / (max − min), in the element's own type.
#[derive(Debug, Clone, Copy)]
enum Stretch {
    Int { min: i128, max: i128 },
    Real { min: f64, max: f64 },
    Complex { min: Complex<f64>, max: Complex<f64> },
}

impl Stretch {
    /// The subtractions wrap in the type, the division is in f64: as `NumPy` has it.
    #[expect(clippy::cast_precision_loss, reason = "as NumPy divides whole numbers")]
    fn int<T: Int>(self, value: T) -> f64 {
        let Self::Int { min, max } = self else {
            return f64::NAN;
        };
        let (min, max) = (T::from_wide(min), T::from_wide(max));
        value.wrapping_sub(min).wide() as f64 / max.wrapping_sub(min).wide() as f64
    }

    fn real<T: Real>(self, value: T) -> T {
        let Self::Real { min, max } = self else {
            return T::of(f64::NAN);
        };
        let (min, max) = (T::of(min), T::of(max));
        (value - min) / (max - min)
    }

    fn complex<T: Real>(self, value: Complex<T>) -> Complex<T> {
        let Self::Complex { min, max } = self else {
            return value;
        };
        let narrow = |c: Complex<f64>| Complex { re: T::of(c.re), im: T::of(c.im) };
        let (min, max) = (narrow(min), narrow(max));
        value.sub(min).div(max.sub(min))
    }
}

/// A rule for one picture's values.
#[derive(Debug, Clone, Copy)]
pub struct Conversion {
    dtype: DType,
    rule: Rule,
    map: Map,
}

#[derive(Debug, Clone, Copy)]
enum Map {
    /// (value − lo) × scale, to the nearest byte.
    Linear {
        lo: f64,
        scale: f64,
    },
    /// value × 255, truncated; with `clip`, clipped then.
    X255 {
        clip: bool,
    },
    /// (value + 1) × 127.5, truncated.
    Sym,
    /// Clipped to 0..255, truncated; NaN is 0.
    Clip,
    /// The low 8 bits of the truncated value.
    Wrap,
    Stretch {
        stretch: Stretch,
        scaled: bool,
    },
}

impl Conversion {
    /// The rule's name.
    #[must_use]
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// Maps a chunk, in the form that [`Scan::see`] left it in, to one byte for each element.
    ///
    /// # Panics
    /// If `bytes` is shorter than the chunk has elements.
    pub fn convert(&self, chunk: &[u8], bytes: &mut [u8]) {
        let map = self.map;
        for_dtype!(self.dtype,
            int T => fill::<T>(chunk, bytes, |value| map.int(value)),
            real T => fill::<T>(chunk, bytes, |value| map.real(value)),
            complex T => fill::<Complex<T>>(chunk, bytes, |value| map.complex(value)),
        );
    }

    /// Brings a chunk from its form in the dump into the one that [`Self::convert`] takes.
    pub fn prepare(&self, chunk: &mut [u8], byte_order: ByteOrder) {
        normalize(chunk, self.dtype, byte_order);
    }
}

fn fill<E: Element>(chunk: &[u8], bytes: &mut [u8], byte: impl Fn(E::Value) -> u8) {
    assert!(bytes.len() >= chunk.len() / E::SIZE, "a byte for each element");
    bytes.iter_mut().zip(values::<E>(chunk)).for_each(|(to, value)| *to = byte(value));
}

impl Map {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "clipped before, or wrapping as the rule says"
    )]
    fn int<T: Int>(self, value: T) -> u8 {
        let wide = value.wide();
        match self {
            Self::Linear { lo, scale } => round_f64((wide as f64 - lo) * scale),
            Self::X255 { .. } => u8::from(wide >= 1) * 255,
            Self::Sym => cast((wide + 1) as f64 * 127.5),
            Self::Clip => wide.clamp(0, 255) as u8,
            Self::Wrap => wide as u8,
            Self::Stretch { stretch, scaled } => stretched(stretch.int(value), scaled),
        }
    }

    fn real<T: Real>(self, value: T) -> u8 {
        match self {
            Self::Linear { lo, scale } => value.linear(lo, scale),
            Self::X255 { .. } => cast((value * T::of(255.0)).wide()),
            Self::Sym => cast(((value + T::of(1.0)) * T::of(127.5)).wide()),
            Self::Clip => cast(value.wide().clamp(0.0, 255.0)),
            Self::Wrap => cast(value.wide()),
            Self::Stretch { stretch, scaled } => {
                let value = stretch.real(value);
                let value = if scaled { value * T::of(255.0) } else { value };
                clip_cast(value.wide())
            }
        }
    }

    fn complex<T: Real>(self, value: Complex<T>) -> u8 {
        let Complex { re, im } = value.wide();
        match self {
            Self::Linear { lo, scale } => value.re.linear(lo, scale),
            Self::X255 { clip: true } => clip_cast(value.scaled_re(255.0).wide()),
            Self::X255 { clip: false } => cast(value.scaled_re(255.0).wide()),
            Self::Sym => {
                let shifted = Complex { re: value.re + T::of(1.0), im: value.im };
                cast(shifted.scaled_re(127.5).wide())
            }
            // NumPy clips no complex number with a NaN in it.
            Self::Clip if im.is_nan() => cast(re),
            Self::Clip => clip_cast(re),
            Self::Wrap => cast(re),
            Self::Stretch { stretch, scaled } => {
                let value = stretch.complex(value);
                clip_cast(if scaled { value.scaled_re(255.0) } else { value.re }.wide())
            }
        }
    }
}

fn stretched(quotient: f64, scaled: bool) -> u8 {
    clip_cast(if scaled { quotient * 255.0 } else { quotient })
}

fn clip_cast(value: f64) -> u8 {
    cast(value.clamp(0.0, 255.0))
}

/// C's cast of a float to an unsigned byte as x86-64 does it: truncated towards zero, then the low
/// 8 bits; 0 where the truncated value doesn't fit 32 bits, NaN included (A.4.2).
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is the rule")]
fn cast(value: f64) -> u8 {
    let truncated = value.trunc();
    if (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&truncated) {
        truncated as i32 as u8
    } else {
        0
    }
}

/// Converts all of a little-endian tensor at once.
///
/// # Panics
/// If `data` isn't a whole number of elements.
#[must_use]
pub fn bytes_from_values(
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
    let conversion = match scan.decide(profile, range) {
        Decision::Convert(conversion) => conversion,
        Decision::Measure(mut measure) => {
            measure.see(&mut chunk);
            measure.decide()
        }
    };
    let mut bytes = vec![0; chunk.len() / dtype.size()];
    conversion.convert(&chunk, &mut bytes);
    (bytes, conversion.rule(), scan.stats())
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
        bytes_from_values(data.0, &data.1, profile, None).0
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
        let (got, got_rule, _) = bytes_from_values(data.0, &data.1, Auto, None);
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
            let got = bytes_from_values(data.0, &data.1, profile, Some((0.0, 80.0)));
            assert_eq!((got.0.as_slice(), got.1), (&[0u8, 0, 128, 255, 255][..], Rule::Range));
        }
    }

    #[test]
    fn statistics_are_of_the_values_before() {
        let data = f32s(&[1.0, 3.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        let (_, _, stats) = bytes_from_values(data.0, &data.1, Auto, None);
        let want = Stats { min: Some(1.0), max: Some(3.0), mean: Some(2.0), nan: 1, inf: 2 };
        assert_eq!(stats, want);
        let (_, _, stats) = bytes_from_values(DType::F32, &f32s(&[f32::NAN]).1, Auto, None);
        assert_eq!(stats, Stats { nan: 1, ..Stats::default() });
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
            prop_assert_eq!(scan.stats(), whole.stats());
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
