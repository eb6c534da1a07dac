//! Converts a picture's elements to samples, by the rule that was chosen.

use super::complex::Complex;
use super::element::{Element, Int, Real, for_dtype, normalize, values};
use super::map::{Map, fill};
use super::sample::Sample;
use super::widened::{each_widened, is_narrow};
use crate::media::Rule;
use crate::simd::for_more_instructions;
use crate::tensor::{ByteOrder, DType};

/// The rule for the values of one picture, ready to convert them chunk by chunk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conversion {
    dtype: DType,
    rule: Rule,
    map: Map,
}

impl Conversion {
    pub(super) fn new(dtype: DType, rule: Rule, map: Map) -> Self {
        Self { dtype, rule, map }
    }

    /// Returns the range that is mapped without clipping or wrapping. `None` if the rule has no such range.
    pub(super) fn bounds(&self) -> Option<(f64, f64)> {
        match self.map {
            Map::Linear { lo, hi, .. } => Some((lo, hi)),
            Map::Clip | Map::Wrap => Some((0.0, 255.0)),
            Map::X255 { .. } | Map::Sym | Map::Stretch { .. } | Map::Sheet { .. } => None,
        }
    }

    /// Counts the finite values of a normalized chunk that are outside of the range that is mapped.
    #[must_use]
    pub(crate) fn count_clipped(&self, chunk: &[u8]) -> u64 {
        let Some((lo, hi)) = self.bounds() else { return 0 };
        if is_narrow(self.dtype) {
            let mut n = 0;
            each_widened(self.dtype, chunk, |_, floats| {
                n += count::<f32, _>(floats, |value| is_outside(value.wide(), lo, hi));
            });
            return n;
        }
        for_dtype!(self.dtype,
            int T => count::<T, _>(chunk, |value| is_outside(value.to_f64(), lo, hi)),
            real T => count::<T, _>(chunk, |value| is_outside(value.wide(), lo, hi)),
            complex T => count::<Complex<T>, _>(chunk, |value| is_outside(value.re.wide(), lo, hi)),
        )
    }

    /// Calls `see` with index and whether it is NaN for each value of a normalized chunk.
    pub(crate) fn each_nan(&self, chunk: &[u8], mut see: impl FnMut(usize, bool)) {
        for_dtype!(self.dtype,
            int _T => {},
            real T => values::<T>(chunk).enumerate().for_each(|(i, v)| see(i, v.wide().is_nan())),
            complex T => {
                values::<Complex<T>>(chunk).enumerate().for_each(|(i, v)| see(i, v.re.wide().is_nan()));
            }
        );
    }

    /// Returns the element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Returns the name of the rule.
    #[must_use]
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// Converts a chunk to one sample for each element.
    ///
    /// The chunk must be normalized by [`Scan::see`](super::Scan::see) or [`Self::prepare`]. Rules `x65535`,
    /// `sym`, `clip`, `none` and `range` can make samples of 16 bits, if [`Wish::depth`](super::Wish::depth)
    /// asked for them. All others make 0 to 255.
    ///
    /// # Panics
    /// If there are fewer `samples` than the chunk has elements.
    pub fn convert<S: Sample>(&self, chunk: &[u8], samples: &mut [S]) {
        let n = chunk.len() / self.dtype.size();
        assert!(samples.len() >= n, "a sample for each element");
        let samples = &mut samples[..n];
        if let Map::Linear { lo, scale, .. } = self.map {
            self.convert_linear(chunk, samples, lo, scale);
        } else if let Some(bytes) = S::bytes(samples) {
            self.convert_to_bytes(chunk, bytes);
        } else {
            self.convert_one_by_one(chunk, samples);
        }
    }

    fn convert_linear<S: Sample>(&self, chunk: &[u8], samples: &mut [S], lo: f64, scale: f64) {
        match self.dtype {
            DType::Bool => {
                let [no, yes] = [0.0, 1.0].map(|value| S::round((value - lo) * scale));
                fill::<u8, S, _>(chunk, samples, |value| if value == 0 { no } else { yes });
            }
            DType::U8 => {
                fill_by_table(chunk, samples, |byte| S::round((f64::from(byte) - lo) * scale));
            }
            DType::I8 => fill_by_table(chunk, samples, |byte| {
                S::round((f64::from(byte.cast_signed()) - lo) * scale)
            }),
            dtype if is_narrow(dtype) => each_widened(dtype, chunk, |at, floats| {
                let samples = &mut samples[at..];
                fill::<f32, S, _>(floats, samples, |value| value.linear(lo, scale));
            }),
            dtype => for_dtype!(dtype,
                int T => fill::<T, S, _>(chunk, samples, |v| S::round((v.to_f64() - lo) * scale)),
                real T => fill::<T, S, _>(chunk, samples, |v| v.linear(lo, scale)),
                complex T => fill::<Complex<T>, S, _>(chunk, samples, |v| v.re.linear(lo, scale)),
            ),
        }
    }

    /// Converts by a rule that is not linear.
    fn convert_to_bytes(&self, chunk: &[u8], bytes: &mut [u8]) {
        let map = self.map;
        match (map, self.dtype) {
            (Map::Linear { .. } | Map::Stretch { .. } | Map::Sheet { .. }, _)
            | (_, DType::Complex64 | DType::Complex128) => self.convert_one_by_one(chunk, bytes),
            (Map::Clip | Map::Wrap, DType::Bool | DType::U8) | (Map::Wrap, DType::I8) => {
                bytes.copy_from_slice(chunk);
            }
            (_, DType::F32) => map.floats::<f32>(chunk, bytes),
            (_, DType::F64) => map.floats::<f64>(chunk, bytes),
            (_, DType::F16) => each_widened(DType::F16, chunk, |at, halves| {
                map.halves(halves, &mut bytes[at..]);
            }),
            (_, dtype) if is_narrow(dtype) => each_widened(dtype, chunk, |at, floats| {
                map.floats::<f32>(floats, &mut bytes[at..]);
            }),
            (_, dtype) => for_dtype!(dtype,
                int T => map.ints::<T>(chunk, bytes),
                real _T => {},
                complex _T => {},
            ),
        }
    }

    /// Converts by any rule, without fast loops. The fast ones are tested against it.
    fn convert_one_by_one<S: Sample>(&self, chunk: &[u8], samples: &mut [S]) {
        let map = self.map;
        let to = samples.iter_mut();
        for_dtype!(self.dtype,
            int T => to.zip(values::<T>(chunk)).for_each(|(to, value)| *to = map.int(value).into()),
            real T => to.zip(values::<T>(chunk)).for_each(|(to, value)| *to = map.real(value).into()),
            complex T => {
                let values = values::<Complex<T>>(chunk);
                to.zip(values).for_each(|(to, value)| *to = map.complex(value).into());
            }
        );
    }

    /// Normalizes a chunk of the dump for [`Self::convert`]: little-endian, bool as 0 or 1.
    pub fn prepare(&self, chunk: &mut [u8], byte_order: ByteOrder) {
        normalize(chunk, self.dtype, byte_order);
    }
}

/// Makes a sample of each byte, by a table if there are enough bytes to be worth it.
fn fill_by_table<S: Sample>(chunk: &[u8], samples: &mut [S], sample: impl Fn(u8) -> S) {
    if chunk.len() < 512 {
        samples.iter_mut().zip(chunk).for_each(|(to, &byte)| *to = sample(byte));
        return;
    }
    let mut table = [S::default(); 256];
    (0..=255).zip(&mut table).for_each(|(byte, to)| *to = sample(byte));
    samples.iter_mut().zip(chunk).for_each(|(to, &byte)| *to = table[usize::from(byte)]);
}

for_more_instructions! {
    /// Counts the elements for which `is` is true.
    fn count<E: Element, F: Fn(E::Value) -> bool>(chunk: &[u8], is: F) -> u64 {
        let mut n = 0;
        for value in values::<E>(chunk) {
            n += u64::from(is(value));
        }
        n
    }
}

fn is_outside(value: f64, lo: f64, hi: f64) -> bool {
    (value < lo && value > f64::NEG_INFINITY) || (value > hi && value < f64::INFINITY)
}

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` is the reference"
)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;

    const MAPS: [Map; 5] =
        [Map::X255 { clip: true }, Map::X255 { clip: false }, Map::Sym, Map::Clip, Map::Wrap];

    /// Values at which rounding, clipping and wrapping change: halves between samples, the limits of the
    /// types, infinities and NaN.
    fn turns() -> Vec<f64> {
        let halves = (-2..260).flat_map(|k| {
            let half = f64::from(k) + 0.5;
            [half, half / 255.0, half / 127.5 - 1.0, f64::from(k), f64::from(k) / 255.0]
        });
        let ends = [0.0, 1e-40, 1e-320, 65504.0, 65520.0, 65535.5, 65536.0, 2_147_483_647.5]
            .into_iter()
            .chain([
                2_147_483_648.0,
                4_294_967_296.0,
                9.3e18,
                1e30,
                1e300,
                f64::INFINITY,
                f64::NAN,
            ]);
        let all: Vec<f64> = halves.chain(ends).flat_map(|value| [value, -value]).collect();
        all.iter().flat_map(|value| [*value, value.next_up(), value.next_down()]).collect()
    }

    /// The values in an element type, and each once more with its last bit flipped.
    fn chunk_of(dtype: DType, values: &[f64]) -> Vec<u8> {
        let chunk = values.iter().flat_map(|&value| match dtype {
            DType::Bool => vec![u8::from(value > 0.5)],
            DType::U8 => vec![value as u8],
            DType::U16 => (value as u16).to_le_bytes().to_vec(),
            DType::U32 => (value as u32).to_le_bytes().to_vec(),
            DType::U64 => (value as u64).to_le_bytes().to_vec(),
            DType::I8 => (value as i8).to_le_bytes().to_vec(),
            DType::I16 => (value as i16).to_le_bytes().to_vec(),
            DType::I32 => (value as i32).to_le_bytes().to_vec(),
            DType::I64 => (value as i64).to_le_bytes().to_vec(),
            DType::F16 => f16::from_f64(value).to_le_bytes().to_vec(),
            DType::BF16 => half::bf16::from_f64(value).to_le_bytes().to_vec(),
            DType::F32 => (value as f32).to_le_bytes().to_vec(),
            DType::F64 => value.to_le_bytes().to_vec(),
            DType::Complex64 => [value as f32, 0.5].map(f32::to_le_bytes).concat(),
            DType::Complex128 => [value, 0.5].map(f64::to_le_bytes).concat(),
            _ => vec![value.to_bits().to_le_bytes()[6]],
        });
        let chunk: Vec<u8> = chunk.collect();
        let mut turned = chunk.clone();
        if dtype != DType::Bool {
            turned.iter_mut().step_by(dtype.size()).for_each(|byte| *byte ^= 1);
        }
        [chunk, turned].concat()
    }

    /// `(value + 0.5) as S`, computed in f32, or in f64 for f64.
    fn linear(dtype: DType, chunk: &[u8], lo: f64, scale: f64, max: u16) -> Vec<u16> {
        let saturated = |value: f64| (value as u16).min(max);
        let narrow = |value: f32| saturated(f64::from((value - lo as f32) * scale as f32 + 0.5));
        let wide = |value: f64| saturated((value - lo) * scale + 0.5);
        match dtype {
            DType::F64 => values::<f64>(chunk).map(wide).collect(),
            DType::Complex128 => values::<Complex<f64>>(chunk).map(|c| wide(c.re)).collect(),
            _ => for_dtype!(dtype,
                int T => values::<T>(chunk).map(|v| wide(v.to_f64())).collect(),
                real T => values::<T>(chunk).map(|v| narrow(v.wide() as f32)).collect(),
                complex T => values::<Complex<T>>(chunk).map(|c| narrow(c.re.wide() as f32)).collect(),
            ),
        }
    }

    /// Checks that every rule gives the same samples as one by one.
    fn check(dtype: DType, chunk: &[u8]) {
        let n = chunk.len() / dtype.size();
        for map in MAPS {
            let conversion = Conversion::new(dtype, Rule::Clip, map);
            let (mut got, mut want) = (vec![7u8; n + 1], vec![0u8; n]);
            conversion.convert(chunk, &mut got);
            conversion.convert_one_by_one(chunk, &mut want);
            assert_eq!((&got[..n], got[n]), (&want[..], 7), "{dtype:?} {map:?}");
            let mut got = vec![7u16; n];
            conversion.convert(chunk, &mut got);
            assert!(
                got.iter().zip(&want).all(|(&got, &want)| got == u16::from(want)),
                "{dtype:?} {map:?}"
            );
        }
        for (lo, hi) in [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-3.5, 80.25), (9.0, 2.0)] {
            for white in [255u16, 65535] {
                let map = Map::linear(lo, hi, white.into());
                let Map::Linear { scale, .. } = map else { unreachable!() };
                let conversion = Conversion::new(dtype, Rule::Range, map);
                let want = linear(dtype, chunk, lo, scale, white);
                let got: Vec<u16> = if white == 255 {
                    let mut got = vec![7u8; n];
                    conversion.convert(chunk, &mut got);
                    got.into_iter().map(u16::from).collect()
                } else {
                    let mut got = vec![7u16; n];
                    conversion.convert(chunk, &mut got);
                    got
                };
                assert_eq!(got, want, "{dtype:?} {map:?}");
                let is_out = |value: &f64| value.is_finite() && (*value < lo || *value > hi);
                let all: Vec<f64> = for_dtype!(dtype,
                    int T => values::<T>(chunk).map(Int::to_f64).collect(),
                    real T => values::<T>(chunk).map(Real::wide).collect(),
                    complex T => values::<Complex<T>>(chunk).map(|c| c.re.wide()).collect(),
                );
                let n_clipped = all.iter().filter(|value| is_out(value)).count() as u64;
                assert_eq!(conversion.count_clipped(chunk), n_clipped, "{dtype:?} {map:?}");
            }
        }
    }

    #[test]
    fn the_turns_of_every_type_and_rule_are_as_one_by_one() {
        for dtype in DType::ALL {
            check(dtype, &chunk_of(dtype, &turns()));
        }
    }

    #[test]
    fn every_number_of_16_bits_is_as_one_by_one() {
        let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for dtype in [DType::F16, DType::BF16, DType::I16, DType::U16] {
            check(dtype, &all);
        }
        let all: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for dtype in
            DType::ALL.into_iter().filter(|dtype| dtype.size() == 1 && *dtype != DType::Bool)
        {
            check(dtype, &all);
        }
    }

    proptest! {
        #[test]
        fn any_bits_in_any_number_are_as_one_by_one(
            bytes in proptest::collection::vec(any::<u8>(), 0..1600),
            dtype in 0..DType::ALL.len(),
        ) {
            let dtype = DType::ALL[dtype];
            let mut chunk = bytes[..bytes.len() / dtype.size() * dtype.size()].to_vec();
            normalize(&mut chunk, dtype, ByteOrder::Little);
            check(dtype, &chunk);
        }
    }
}
