//! Maps values to samples by the rule that was chosen. Pure.

use super::range::Stretch;
use super::sample::{Complex, Element, Int, Real, Sample, for_dtype, normalize, values};
use crate::media::Rule;
use crate::tensor::{ByteOrder, DType};

/// A rule for one picture's values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conversion {
    dtype: DType,
    rule: Rule,
    map: Map,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Map {
    /// (value − lo) × white / (hi − lo), to the nearest sample.
    Linear {
        lo: f64,
        hi: f64,
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
    /// (value − min) / spread × 255, clipped and truncated.
    Sheet {
        min: f64,
        spread: f64,
    },
}

impl Conversion {
    pub(super) fn new(dtype: DType, rule: Rule, map: Map) -> Self {
        Self { dtype, rule, map }
    }

    /// The values that are mapped without being clipped or wrapped, if there are others.
    pub(super) fn bounds(&self) -> Option<(f64, f64)> {
        match self.map {
            Map::Linear { lo, hi, .. } => Some((lo, hi)),
            Map::Clip | Map::Wrap => Some((0.0, 255.0)),
            Map::X255 { .. } | Map::Sym | Map::Stretch { .. } | Map::Sheet { .. } => None,
        }
    }

    /// How many finite values of a chunk, in the form that [`Self::convert`] takes, lie outside of
    /// what is mapped.
    #[must_use]
    pub fn count_clipped(&self, chunk: &[u8]) -> u64 {
        let Some((lo, hi)) = self.bounds() else { return 0 };
        let is_out = |value: f64| value.is_finite() && (value < lo || value > hi);
        let count = for_dtype!(self.dtype,
            int T => values::<T>(chunk).filter(|value| is_out(value.to_f64())).count(),
            real T => values::<T>(chunk).filter(|value| is_out(value.wide())).count(),
            complex T => values::<Complex<T>>(chunk).filter(|c| is_out(c.re.wide())).count(),
        );
        count as u64
    }

    /// Tells of each value of a chunk, in the form that [`Self::convert`] takes, whether it is NaN.
    pub fn each_nan(&self, chunk: &[u8], mut see: impl FnMut(usize, bool)) {
        for_dtype!(self.dtype,
            int _T => {},
            real T => values::<T>(chunk).enumerate().for_each(|(i, v)| see(i, v.wide().is_nan())),
            complex T => {
                values::<Complex<T>>(chunk).enumerate().for_each(|(i, v)| see(i, v.re.wide().is_nan()));
            }
        );
    }

    /// The type of the elements that it maps.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The rule's name.
    #[must_use]
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// Maps a chunk, in the form that `Scan::see` or [`Self::prepare`] left it in, to one sample for
    /// each element. Only linear rules make samples of 16 bits: the others make 0 to 255.
    ///
    /// # Panics
    /// If there are fewer `samples` than the chunk has elements.
    pub fn convert<S: Sample>(&self, chunk: &[u8], samples: &mut [S]) {
        let map = self.map;
        if let Map::Linear { lo, scale, .. } = map {
            for_dtype!(self.dtype,
                int T => fill::<T, S>(chunk, samples, |v| S::round((v.to_f64() - lo) * scale)),
                real T => fill::<T, S>(chunk, samples, |v| v.linear(lo, scale)),
                complex T => fill::<Complex<T>, S>(chunk, samples, |v| v.re.linear(lo, scale)),
            );
            return;
        }
        for_dtype!(self.dtype,
            int T => fill::<T, S>(chunk, samples, |value| S::from(map.int(value))),
            real T => fill::<T, S>(chunk, samples, |value| S::from(map.real(value))),
            complex T => fill::<Complex<T>, S>(chunk, samples, |value| S::from(map.complex(value))),
        );
    }

    /// Brings a chunk from its form in the dump into the one that [`Self::convert`] takes.
    pub fn prepare(&self, chunk: &mut [u8], byte_order: ByteOrder) {
        normalize(chunk, self.dtype, byte_order);
    }
}

fn fill<E: Element, S>(chunk: &[u8], samples: &mut [S], sample: impl Fn(E::Value) -> S) {
    assert!(samples.len() >= chunk.len() / E::SIZE, "a sample for each element");
    samples.iter_mut().zip(values::<E>(chunk)).for_each(|(to, value)| *to = sample(value));
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
    fn int<T: Int>(self, value: T) -> u8 {
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

    fn real<T: Real>(self, value: T) -> u8 {
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

    fn complex<T: Real>(self, value: Complex<T>) -> u8 {
        let Complex { re, im } = value.wide();
        match self {
            Self::Linear { lo, scale, .. } => value.re.linear(lo, scale),
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
