//! The stretch of wandb 0.10 to 0.19: a picture's minimum and maximum become 0 and 1.

use super::complex::Complex;
use super::element::{Int, Real};

/// (value − min) / (max − min), computed in the element's type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stretch {
    Int { min: i128, max: i128 },
    Real { min: f64, max: f64 },
    Complex { min: Complex<f64>, max: Complex<f64> },
}

impl Stretch {
    /// Subtracts in the element's type, which may wrap, and divides in f64, as `NumPy` does.
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
