//! The arithmetic of the rules: for one value, and in fast loops over many.

use super::complex::Complex;
use super::element::{Element, Float, Int, Real, values};
use super::sample::Sample;
use super::stretch::Stretch;
use crate::simd::for_more_instructions;
use crate::simd::half::{self, Step};

/// The arithmetic of a rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Map {
    /// (value − lo) × scale, rounded to the nearest sample; scale is white / (hi − lo).
    Linear { lo: f64, hi: f64, scale: f64 },
    /// value × 255, clipped if `clip`, then truncated.
    X255 { clip: bool },
    /// (value + 1) × 127.5, truncated.
    Sym,
    /// Clipped to \[0, 255\], truncated; NaN gives 0.
    Clip,
    /// The low 8 bits of the truncated value.
    Wrap,
    /// The stretched value, times 255 if `scaled`, clipped and truncated.
    Stretch { stretch: Stretch, scaled: bool },
    /// (value − min) / spread × 255, clipped and truncated.
    Sheet { min: f64, spread: f64 },
}

impl Map {
    pub(super) fn linear(lo: f64, hi: f64, white: f64) -> Self {
        Self::Linear { lo, hi, scale: white / (hi - lo) }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "clipped before, or wrapping as the rule says"
    )]
    pub(super) fn int<T: Int>(self, value: T) -> u8 {
        let wide = value.wide();
        match self {
            Self::Linear { lo, scale, .. } => u8::round((wide as f64 - lo) * scale),
            Self::X255 { .. } => u8::from(wide >= 1) * 255,
            Self::Sym => cast((wide + 1) as f64 * 127.5),
            Self::Clip => wide.clamp(0, 255) as u8,
            Self::Wrap => wide as u8,
            Self::Stretch { stretch, scaled } => stretched(stretch.int(value), scaled),
            Self::Sheet { min, spread } => sheet(f32::of(wide as f64), min, spread),
        }
    }

    pub(super) fn real<T: Real>(self, value: T) -> u8 {
        match self {
            Self::Linear { lo, scale, .. } => value.linear(lo, scale),
            Self::X255 { .. } => cast((value * T::of(255.0)).wide()),
            Self::Sym => cast(((value + T::of(1.0)) * T::of(127.5)).wide()),
            Self::Clip => cast(value.wide().clamp(0.0, 255.0)),
            Self::Wrap => cast(value.wide()),
            Self::Stretch { stretch, scaled } => {
                let value = stretch.real(value);
                let value = if scaled { value * T::of(255.0) } else { value };
                clip_cast(value.wide())
            }
            Self::Sheet { min, spread } => sheet(value, min, spread),
        }
    }

    pub(super) fn complex<T: Real>(self, value: Complex<T>) -> u8 {
        let Complex { re, im } = value.wide();
        match self {
            Self::Linear { lo, scale, .. } => value.re.linear(lo, scale),
            Self::X255 { clip: true } => clip_cast(value.scaled_re(255.0).wide()),
            Self::X255 { clip: false } => cast(value.scaled_re(255.0).wide()),
            Self::Sym => {
                let shifted = Complex { re: value.re + T::of(1.0), im: value.im };
                cast(shifted.scaled_re(127.5).wide())
            }
            // NumPy does not clip a complex number with a NaN in it.
            Self::Clip if im.is_nan() => cast(re),
            Self::Clip => clip_cast(re),
            Self::Wrap => cast(re),
            Self::Stretch { stretch, scaled } => {
                let value = stretch.complex(value);
                clip_cast(if scaled { value.scaled_re(255.0) } else { value.re }.wide())
            }
            Self::Sheet { min, spread } => sheet(value.re, min, spread),
        }
    }
}

fn sheet<T: Real>(value: T, min: f64, spread: f64) -> u8 {
    clip_cast((((value - T::of(min)) / T::of(spread)) * T::of(255.0)).wide())
}

fn stretched(quotient: f64, scaled: bool) -> u8 {
    clip_cast(if scaled { quotient * 255.0 } else { quotient })
}

fn clip_cast(value: f64) -> u8 {
    cast(value.clamp(0.0, 255.0))
}

/// Casts a float to a byte as C does on x86-64: truncates toward zero and takes the low 8 bits. NaN, and
/// values that do not fit 32 bits, give 0 (A.4.2).
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is the rule")]
fn cast(value: f64) -> u8 {
    let truncated = value.trunc();
    if (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&truncated) {
        truncated as i32 as u8
    } else {
        0
    }
}

/// The fast loops of the common rules. They give the same results as [`Map::int`] and [`Map::real`], bit for
/// bit.
impl Map {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 255")]
    pub(super) fn ints<E: Element<Value: Int>>(self, chunk: &[u8], bytes: &mut [u8]) {
        /// Values further from 0 do not fit 32 bits after the multiplication.
        const FAR: i32 = 1 << 30;
        match self {
            Self::X255 { .. } => fill::<E, _, _>(chunk, bytes, |v| v.clamped(0, 1) as u8 * 255),
            Self::Sym => fill::<E, _, _>(chunk, bytes, |v| {
                (f64::from(v.clamped(-FAR, FAR) + 1) * 127.5).low_bits()
            }),
            Self::Clip => fill::<E, _, _>(chunk, bytes, |v| v.clamped(0, 255) as u8),
            Self::Wrap => fill::<E, _, _>(chunk, bytes, Int::low_bits),
            _ => unreachable!("no common rule"),
        }
    }

    pub(super) fn floats<E: Element<Value: Float>>(self, chunk: &[u8], bytes: &mut [u8]) {
        let of = E::Value::of;
        let (one, half_white, white) = (of(1.0), of(127.5), of(255.0));
        match self {
            Self::X255 { .. } => fill::<E, _, _>(chunk, bytes, |v| (v * white).low_bits()),
            Self::Sym => fill::<E, _, _>(chunk, bytes, |v| ((v + one) * half_white).low_bits()),
            Self::Clip => fill::<E, _, _>(chunk, bytes, Float::clipped),
            Self::Wrap => fill::<E, _, _>(chunk, bytes, Float::low_bits),
            _ => unreachable!("no common rule"),
        }
    }

    /// Converts floats of 16 bits that were widened to 32: the result of each operation is rounded to 16.
    pub(super) fn halves(self, halves: &mut [u8], bytes: &mut [u8]) {
        match self {
            Self::X255 { .. } => half::compute(Step::Multiply(255.0), halves),
            Self::Sym => {
                half::compute(Step::Add(1.0), halves);
                half::compute(Step::Multiply(127.5), halves);
            }
            _ => return self.floats::<f32>(halves, bytes),
        }
        Self::Wrap.floats::<f32>(halves, bytes);
    }
}

for_more_instructions! {
    /// Makes a sample of each element.
    pub(super) fn fill<E: Element, S, F: Fn(E::Value) -> S>(chunk: &[u8], samples: &mut [S], sample: F) {
        for (to, value) in samples.iter_mut().zip(values::<E>(chunk)) {
            *to = sample(value);
        }
    }
}
