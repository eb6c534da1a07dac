//! The pass over a picture's values before conversion: extremes and statistics.

use super::complex::Complex;
use super::element::{Element, Int, Real, for_dtype, normalize, values};
use super::sums::{self, CarefulSums, Exact, Sums};
use super::widened::{each_widened, is_narrow};
use crate::media::Stats;
use crate::tensor::{ByteOrder, DType};

/// The element type and byte order of a picture's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elements {
    /// Element type.
    pub dtype: DType,
    /// Byte order in the dump.
    pub byte_order: ByteOrder,
}

/// Normalizes a chunk of the dump for conversions: little-endian, bool as 0 or 1.
pub(crate) fn normalized(chunk: &mut [u8], elements: Elements) {
    normalize(chunk, elements.dtype, elements.byte_order);
}

/// The least and the greatest finite value of a picture, or of several. Of complex values, the real parts
/// count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extent {
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Extent {
    /// Returns the extent of all values of both. `None` is that of no values.
    #[must_use]
    pub fn join(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(Self { min: a.min.min(b.min), max: a.max.max(b.max) }),
            (a, b) => a.or(b),
        }
    }
}

/// Extremes and statistics of the values seen so far.
#[derive(Debug, Clone)]
pub struct Scan {
    pub(super) elements: Elements,
    pub(super) extremes: Extremes,
    /// Sums over the finite values; over the real parts of complex numbers.
    pub(super) finite: Finite,
    nan: u64,
    inf: u64,
}

/// Number, extremes and sums of the finite values. `sum` and `squares` are over the distances from `origin`,
/// the first finite value, so that little is lost to rounding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finite {
    pub(super) n: u64,
    pub(super) min: f64,
    pub(super) max: f64,
    origin: Option<f64>,
    sum: f64,
    squares: f64,
}

impl Finite {
    const NONE: Self = Self {
        n: 0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        origin: None,
        sum: 0.0,
        squares: 0.0,
    };

    /// Adds the sums of `n` finite values.
    fn add(&mut self, n: u64, origin: f64, sums: &Sums) {
        self.n += n;
        self.min = if sums.min < self.min { sums.min } else { self.min };
        self.max = if sums.max > self.max { sums.max } else { self.max };
        self.origin = Some(origin);
        self.sum += sums.sum;
        self.squares += sums.squares;
    }

    /// Adds one finite value.
    fn add_one(&mut self, value: f64) {
        let distance = value - *self.origin.get_or_insert(value);
        self.n += 1;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sum += distance;
        self.squares += distance * distance;
    }

    #[expect(clippy::cast_precision_loss, reason = "statistics are f64")]
    fn mean_and_std(&self) -> (f64, f64) {
        let n = self.n as f64;
        let offset = self.sum / n;
        let variance = self.squares / n - offset * offset;
        // Rounding may make it negative. An overflow makes it NaN.
        let variance = if variance < 0.0 { 0.0 } else { variance };
        (self.origin.unwrap_or(0.0) + offset, variance.sqrt())
    }
}

/// Minimum and maximum, as `NumPy` computes them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Extremes {
    Int { min: i128, max: i128 },
    Real(Ordered<f64>),
    Complex(Ordered<Complex<f64>>),
}

/// The least and the greatest value seen. If there is a NaN, `NumPy` returns the first one for both.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ordered<T> {
    pub(super) ends: Option<(T, T)>,
    pub(super) first_nan: Option<T>,
}

impl<T: Copy> Ordered<T> {
    pub(super) const NONE: Self = Self { ends: None, first_nan: None };

    pub(super) fn see(&mut self, value: T, is_nan: bool, less: impl Fn(T, T) -> bool) {
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

    pub(super) fn get(&self) -> Option<(T, T)> {
        self.first_nan.map(|nan| (nan, nan)).or(self.ends)
    }
}

/// Sums of squares of whole numbers up to this fit 127 bits.
const LARGE: f64 = 1e9;

impl Scan {
    /// Returns a scan of no values yet.
    #[must_use]
    pub fn new(elements: Elements) -> Self {
        let extremes = for_dtype!(elements.dtype,
            int _T => Extremes::Int { min: i128::MAX, max: i128::MIN },
            real _T => Extremes::Real(Ordered::NONE),
            complex _T => Extremes::Complex(Ordered::NONE),
        );
        Self { elements, extremes, finite: Finite::NONE, nan: 0, inf: 0 }
    }

    /// Sees one more chunk of whole elements, as in the dump. The chunk is normalized in place, as
    /// [`Conversion::convert`](super::Conversion::convert) wants it.
    pub fn see(&mut self, chunk: &mut [u8]) {
        let Elements { dtype, byte_order } = self.elements;
        normalize(chunk, dtype, byte_order);
        if is_narrow(dtype) {
            return each_widened(dtype, chunk, |_, floats| self.see_real::<f32>(floats));
        }
        for_dtype!(dtype,
            int T => self.see_int::<T>(chunk),
            real T => self.see_real::<T>(chunk),
            complex T => self.see_complex::<T>(chunk),
        );
    }

    #[expect(clippy::cast_precision_loss, reason = "statistics are f64")]
    fn see_int<E: Exact<Value: Int>>(&mut self, chunk: &[u8]) {
        let Some((min, max)) = sums::ends::<E>(chunk) else { return };
        if let Extremes::Int { min: least, max: greatest } = &mut self.extremes {
            (*least, *greatest) = (min.wide().min(*least), max.wide().max(*greatest));
        }
        let origin = self.finite.origin.unwrap_or(min.to_f64());
        let n = chunk.len() / E::SIZE;
        let (sum, squares) = match E::sums(chunk, min, max) {
            // The origin is a whole number, so the sums of distances follow exactly from the sums of values.
            Some((sum, squares)) if origin.abs() < LARGE => {
                #[expect(clippy::cast_possible_truncation, reason = "a whole number in range")]
                let (n, origin) = (n as i128, origin as i128);
                let squares = squares - 2 * origin * sum + n * origin * origin;
                ((sum - n * origin) as f64, squares as f64)
            }
            _ => sums::of_large::<E>(chunk, origin),
        };
        let (min, max) = (min.to_f64(), max.to_f64());
        self.finite.add(n as u64, origin, &Sums { min, max, sum, squares });
    }

    fn see_real<E: Element<Value: Real>>(&mut self, chunk: &[u8]) {
        let mut finite = values::<E>(chunk).map(Real::wide).filter(|value| value.is_finite());
        let origin = self.finite.origin.or_else(|| finite.next()).unwrap_or(0.0);
        // Nearly all pictures are finite. A finite sum proves it.
        let sums = sums::of_floats::<E>(chunk, origin);
        let (sums, ends) = if sums.sum.is_finite() {
            let ends = (sums.min, sums.max);
            (CarefulSums { finite: sums, n_nan: 0, n_above: 0, n_below: 0 }, ends)
        } else {
            let sums = sums::of_any_floats::<E>(chunk, origin);
            let Sums { min, max, .. } = sums.finite;
            // Infinities count as extremes for the rules, but not for the statistics.
            let min = if sums.n_below > 0 { f64::NEG_INFINITY } else { min };
            let max = if sums.n_above > 0 { f64::INFINITY } else { max };
            (sums, (min, max))
        };
        let CarefulSums { finite, n_nan, n_above, n_below } = sums;
        let n = (chunk.len() / E::SIZE) as u64;
        let n_finite = n - n_nan - n_above - n_below;
        if n_finite > 0 {
            self.finite.add(n_finite, origin, &finite);
        }
        self.nan += n_nan;
        self.inf += n_above + n_below;
        let Extremes::Real(ordered) = &mut self.extremes else { return };
        if n_nan > 0 {
            ordered.first_nan = Some(f64::NAN);
        }
        if n > n_nan {
            let (min, max) = ordered.ends.get_or_insert(ends);
            (*min, *max) = (
                if ends.0 < *min { ends.0 } else { *min },
                if ends.1 > *max { ends.1 } else { *max },
            );
        }
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
            self.finite.add_one(value);
        } else if value.is_nan() {
            self.nan += 1;
        } else {
            self.inf += 1;
        }
    }

    /// Returns the statistics of all values seen. `clipped` is 0, because the rule is not known yet.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let some = |value: f64| Some(value).filter(|value| self.finite.n > 0 && value.is_finite());
        let Finite { min, max, .. } = self.finite;
        let (mean, std) = self.finite.mean_and_std();
        let is_constant = match self.extremes {
            Extremes::Int { min, max } => min == max,
            _ => min == max && self.nan + self.inf == 0,
        };
        // A standard deviation that overflows or underflows f64 is left out.
        let std = Some(std).filter(|&std| std > 0.0 || min == max);
        Stats {
            min: some(min),
            max: some(max),
            mean: some(mean),
            std: std.and_then(some),
            nan: self.nan,
            inf: self.inf,
            clipped: 0.0,
            constant: self.finite.n > 0 && is_constant,
        }
    }

    /// Returns the extent of all values seen. `None` if no value is finite.
    #[must_use]
    pub fn extent(&self) -> Option<Extent> {
        let Finite { n, min, max, .. } = self.finite;
        (n > 0).then_some(Extent { min, max })
    }

    /// Returns the number of values seen.
    pub(super) fn n_values(&self) -> u64 {
        self.finite.n + self.nan + self.inf
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The finite values, the extremes, and the numbers of NaN and infinities, computed naively.
    fn reference(dtype: DType, chunk: &[u8]) -> (Vec<f64>, Option<(f64, f64)>, [u64; 2]) {
        let all: Vec<f64> = for_dtype!(dtype,
            int T => values::<T>(chunk).map(Int::to_f64).collect(),
            real T => values::<T>(chunk).map(Real::wide).collect(),
            complex T => values::<Complex<T>>(chunk).map(|c| c.re.wide()).collect(),
        );
        let n = |is: fn(&f64) -> bool| all.iter().filter(|value| is(value)).count() as u64;
        let counts = [n(|value| value.is_nan()), n(|value| value.is_infinite())];
        let numbers = || all.iter().copied().filter(|value| !value.is_nan());
        let ends = numbers().reduce(f64::min).zip(numbers().reduce(f64::max));
        (all.into_iter().filter(|value| value.is_finite()).collect(), ends, counts)
    }

    fn check(dtype: DType, chunk: &[u8], cut: usize) {
        let mut scan = Scan::new(Elements { dtype, byte_order: ByteOrder::Little });
        let at = cut.min(chunk.len() / dtype.size()) * dtype.size();
        let (mut a, mut b) = (chunk[..at].to_vec(), chunk[at..].to_vec());
        scan.see(&mut a);
        scan.see(&mut b);
        let (finite, ends, counts) = reference(dtype, chunk);
        let stats = scan.stats();
        assert_eq!([stats.nan, stats.inf], counts, "{dtype:?}");
        assert_eq!(scan.n_values(), (chunk.len() / dtype.size()) as u64, "{dtype:?}");
        assert_eq!(stats.min, finite.iter().copied().reduce(f64::min), "{dtype:?}");
        assert_eq!(stats.max, finite.iter().copied().reduce(f64::max), "{dtype:?}");
        match scan.extremes {
            Extremes::Int { min, max } => {
                let exact: Vec<i128> = for_dtype!(dtype,
                    int T => values::<T>(chunk).map(Int::wide).collect(),
                    real _T => vec![],
                    complex _T => vec![],
                );
                let ends = (exact.iter().min().copied(), exact.iter().max().copied());
                let none = (i128::MAX, i128::MIN);
                assert_eq!((min, max), ends.0.zip(ends.1).unwrap_or(none), "{dtype:?}");
            }
            Extremes::Real(ordered) => {
                assert_eq!((ordered.ends, ordered.first_nan.is_some()), (ends, counts[0] > 0));
            }
            Extremes::Complex(_) => {}
        }
        let n = finite.iter().map(|_| 1.0).sum::<f64>();
        let mean = finite.iter().map(|value| value / n).sum::<f64>();
        let std = finite.iter().map(|value| (value - mean).powi(2) / n).sum::<f64>().sqrt();
        let spread = finite.iter().fold(0.0f64, |most, value| value.abs().max(most));
        // Another test covers values whose squares f64 does not hold.
        if finite.is_empty() || spread > 1e150 || std < 1e-100 {
            return;
        }
        let near = |got: Option<f64>, want: f64| {
            got.is_some_and(|got| (got - want).abs() <= 1e-9 * std + 1e-12 * spread)
        };
        assert!(near(stats.mean, mean), "{dtype:?}: {stats:?}, want mean {mean}");
        assert!(near(stats.std, std), "{dtype:?}: {stats:?}, want std {std}");
    }

    #[test]
    fn statistics_of_whole_numbers_are_exact() {
        let stats = |dtype, chunk: &[u8]| {
            let mut scan = Scan::new(Elements { dtype, byte_order: ByteOrder::Little });
            chunk.chunks(1 << 18).for_each(|chunk| scan.see(&mut chunk.to_vec()));
            let stats = scan.stats();
            (stats.mean, stats.std)
        };
        // Half of them at one end of the type, half at the other, more than one block.
        let ends = |low: Vec<u8>, high: Vec<u8>| [low, high].concat().repeat(100_000);
        for (dtype, ends, mean, std) in [
            (DType::U8, ends(vec![0], vec![255]), 127.5, 127.5),
            (DType::I8, ends(vec![0x80], vec![0x7f]), -0.5, 127.5),
            (DType::U16, ends(vec![0, 0], vec![255, 255]), 32767.5, 32767.5),
            (DType::I16, ends(vec![0, 0x80], vec![255, 0x7f]), -0.5, 32767.5),
            (DType::I32, ends(vec![0, 0, 0xf0, 0xff], vec![0, 0, 0x10, 0]), 0.0, 1_048_576.0),
            (DType::I64, ends(vec![19, 0, 0, 0, 0, 0, 0, 0], vec![0; 8]), 9.5, 9.5),
        ] {
            assert_eq!(stats(dtype, &ends), (Some(mean), Some(std)), "{dtype:?}");
        }
    }

    proptest! {
        #[test]
        fn any_values_are_seen_as_the_plain_way(
            bytes in proptest::collection::vec(any::<u8>(), 0..1600),
            dtype in 0..DType::ALL.len(),
            cut in 0usize..200,
        ) {
            let dtype = DType::ALL[dtype];
            let mut chunk = bytes[..bytes.len() / dtype.size() * dtype.size()].to_vec();
            normalize(&mut chunk, dtype, ByteOrder::Little);
            check(dtype, &chunk, cut);
        }

        #[test]
        fn pictures_with_holes_are_seen_as_the_plain_way(
            values in proptest::collection::vec((-2f32..2.0, 0..40), 0..300),
            cut in 0usize..300,
        ) {
            let values = values.into_iter().map(|(value, hole)| match hole {
                0 => f32::NAN,
                1 => f32::INFINITY,
                2 => f32::NEG_INFINITY,
                3 => -0.0,
                _ => value,
            });
            let values: Vec<f32> = values.collect();
            let chunk: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            check(DType::F32, &chunk, cut);
            let halves = values.iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes());
            check(DType::F16, &halves.collect::<Vec<_>>(), cut);
        }

        #[test]
        fn small_whole_numbers_are_seen_as_the_plain_way(
            values in proptest::collection::vec(-20i64..300, 0..300),
            far in any::<i64>(),
            cut in 0usize..300,
        ) {
            let chunk = |values: &[i64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
            check(DType::I64, &chunk(&values), cut);
            check(DType::I64, &chunk(&[&values[..], &[far]].concat()), cut);
            check(DType::I64, &chunk(&[&[far], &values[..]].concat()), cut);
        }

        #[test]
        fn words_of_every_size_are_turned_around(
            bytes in proptest::collection::vec(any::<u8>(), 0..800),
            dtype in 0..DType::ALL.len(),
        ) {
            let dtype = DType::ALL[dtype];
            let chunk = &bytes[..bytes.len() / dtype.size() * dtype.size()];
            let mut got = chunk.to_vec();
            normalize(&mut got, dtype, ByteOrder::Big);
            let want: Vec<u8> = if dtype == DType::Bool {
                chunk.iter().map(|&byte| u8::from(byte != 0)).collect()
            } else {
                chunk.chunks(dtype.word_size()).flat_map(|word| word.iter().rev().copied()).collect()
            };
            prop_assert_eq!(got, want);
        }
    }
}
