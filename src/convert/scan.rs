//! Sees a picture's values before they are converted: extremes and statistics. Pure.

use super::sample::{Complex, Element, Int, Real, for_dtype, normalize, values};
use crate::media::Stats;
use crate::tensor::{ByteOrder, DType};

/// The element type and byte order of a picture's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elements {
    /// Their type.
    pub dtype: DType,
    /// Their byte order in the dump.
    pub byte_order: ByteOrder,
}

/// Brings a chunk from its form in the dump into the one that conversions take: little-endian, bool as
/// 0 or 1.
pub fn normalized(chunk: &mut [u8], elements: Elements) {
    normalize(chunk, elements.dtype, elements.byte_order);
}

/// What was seen of a picture's values.
#[derive(Debug, Clone)]
pub struct Scan {
    pub(super) elements: Elements,
    pub(super) extremes: Extremes,
    /// Of the finite values; of complex ones, of the real parts.
    pub(super) finite: Finite,
    nan: u64,
    inf: u64,
}

/// Of the finite values: how many, their ends, and the sums of their distances from `origin` (the
/// first of them, so that little is lost to rounding) and of the squares of those.
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

    /// Adds a chunk of values that may not be finite. Whether all were; if not, nothing is added.
    ///
    /// Eight sums side by side let the processor add them at once.
    fn add<E: Element>(&mut self, chunk: &[u8], wide: impl Fn(E::Value) -> f64) -> bool {
        const LANES: usize = 8;
        let Some(first) = values::<E>(chunk).next() else { return true };
        let origin = self.origin.unwrap_or(wide(first));
        if !origin.is_finite() {
            return false;
        }
        let (mut sums, mut squares) = ([0.0; LANES], [0.0; LANES]);
        let (mut mins, mut maxs) = ([self.min; LANES], [self.max; LANES]);
        let mut all_finite = [true; LANES];
        let mut see = |lane: usize, value: E::Value| {
            let value = wide(value);
            all_finite[lane] &= value.abs() < f64::INFINITY;
            mins[lane] = if value < mins[lane] { value } else { mins[lane] };
            maxs[lane] = if value > maxs[lane] { value } else { maxs[lane] };
            let distance = value - origin;
            sums[lane] += distance;
            squares[lane] += distance * distance;
        };
        let mut groups = chunk.chunks_exact(LANES * E::SIZE);
        for group in &mut groups {
            values::<E>(group).enumerate().for_each(|(lane, value)| see(lane, value));
        }
        values::<E>(groups.remainder()).for_each(|value| see(0, value));
        if all_finite.contains(&false) {
            return false;
        }
        self.n += (chunk.len() / E::SIZE) as u64;
        self.min = mins.into_iter().fold(self.min, f64::min);
        self.max = maxs.into_iter().fold(self.max, f64::max);
        self.origin = Some(origin);
        self.sum += sums.iter().sum::<f64>();
        self.squares += squares.iter().sum::<f64>();
        true
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
        // Rounding may leave less than nothing; an overflow leaves NaN.
        let variance = if variance < 0.0 { 0.0 } else { variance };
        (self.origin.unwrap_or(0.0) + offset, variance.sqrt())
    }
}

/// Minimum and maximum as `NumPy` finds them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Extremes {
    Int { min: i128, max: i128 },
    Real(Ordered<f64>),
    Complex(Ordered<Complex<f64>>),
}

/// The least and the greatest of what was seen. `NumPy` gives the first NaN for both if there is one.
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

impl Complex<f64> {
    pub(super) fn is_nan(self) -> bool {
        self.re.is_nan() || self.im.is_nan()
    }

    /// `NumPy` orders complex numbers by real part, then by imaginary part. A NaN in the imaginary
    /// part alone hides behind real parts that differ.
    pub(super) fn less(self, other: Self) -> bool {
        self.re < other.re || (self.re == other.re && self.im < other.im)
    }

    pub(super) fn less_or_equal(self, other: Self) -> bool {
        self.re < other.re || (self.re == other.re && self.im <= other.im)
    }
}

pub(super) const ZERO: Complex<f64> = Complex { re: 0.0, im: 0.0 };
pub(super) const ONE: Complex<f64> = Complex { re: 1.0, im: 0.0 };
pub(super) const MINUS_ONE: Complex<f64> = Complex { re: -1.0, im: 0.0 };

impl Scan {
    /// A scan that has seen nothing.
    #[must_use]
    pub fn new(elements: Elements) -> Self {
        let extremes = for_dtype!(elements.dtype,
            int _T => Extremes::Int { min: i128::MAX, max: i128::MIN },
            real _T => Extremes::Real(Ordered::NONE),
            complex _T => Extremes::Complex(Ordered::NONE),
        );
        Self { elements, extremes, finite: Finite::NONE, nan: 0, inf: 0 }
    }

    /// Sees one more chunk of whole elements, which is brought into the form that
    /// conversions take on the way.
    pub fn see(&mut self, chunk: &mut [u8]) {
        normalize(chunk, self.elements.dtype, self.elements.byte_order);
        for_dtype!(self.elements.dtype,
            int T => self.see_int::<T>(chunk),
            real T => self.see_real::<T>(chunk),
            complex T => self.see_complex::<T>(chunk),
        );
    }

    fn see_int<E: Element<Value: Int>>(&mut self, chunk: &[u8]) {
        let Extremes::Int { min, max } = &mut self.extremes else {
            return;
        };
        for value in values::<E>(chunk) {
            let value = value.wide();
            *min = value.min(*min);
            *max = value.max(*max);
        }
        self.finite.add::<E>(chunk, Int::to_f64);
    }

    fn see_real<E: Element<Value: Real>>(&mut self, chunk: &[u8]) {
        let Extremes::Real(ordered) = &mut self.extremes else { return };
        // Nearly all pictures are finite: one plain loop tells, and is all that they need.
        if self.finite.add::<E>(chunk, Real::wide) {
            let Finite { min, max, .. } = self.finite;
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
            self.finite.add_one(value);
        } else if value.is_nan() {
            self.nan += 1;
        } else {
            self.inf += 1;
        }
    }

    /// The statistics of all that was seen, but for what was clipped.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let some = |value: f64| Some(value).filter(|value| self.finite.n > 0 && value.is_finite());
        let Finite { min, max, .. } = self.finite;
        let (mean, std) = self.finite.mean_and_std();
        let is_constant = match self.extremes {
            Extremes::Int { min, max } => min == max,
            _ => min == max && self.nan + self.inf == 0,
        };
        // What f64 can't hold, because it is too large or too small, is not told.
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

    /// How many values were seen.
    pub(super) fn n_values(&self) -> u64 {
        self.finite.n + self.nan + self.inf
    }
}
