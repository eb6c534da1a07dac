//! Complex numbers, compared and divided as `NumPy` does.

use super::element::{Element, Real};

/// A complex number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Complex<T> {
    pub(super) re: T,
    pub(super) im: T,
}

impl<T: Real> Complex<T> {
    pub(super) fn wide(self) -> Complex<f64> {
        Complex { re: self.re.wide(), im: self.im.wide() }
    }

    pub(super) fn sub(self, other: Self) -> Self {
        Self { re: self.re - other.re, im: self.im - other.im }
    }

    /// Returns the real part of `self` × `factor`, computed as a product of complex numbers.
    pub(super) fn scaled_re(self, factor: f64) -> T {
        self.re * T::of(factor) - self.im * T::of(0.0)
    }

    /// Divides by Smith's algorithm, as `NumPy` does (`loops.c.src`).
    pub(super) fn div(self, by: Self) -> Self {
        let abs = |x: T| x.wide().abs();
        if abs(by.re) >= abs(by.im) {
            if abs(by.re) == 0.0 && abs(by.im) == 0.0 {
                let zero = T::of(0.0);
                return Self { re: self.re / zero, im: self.im / zero };
            }
            let ratio = by.im / by.re;
            let scale = T::of(1.0) / (by.re + by.im * ratio);
            Self {
                re: (self.re + self.im * ratio) * scale,
                im: (self.im - self.re * ratio) * scale,
            }
        } else {
            let ratio = by.re / by.im;
            let scale = T::of(1.0) / (by.im + by.re * ratio);
            Self {
                re: (self.re * ratio + self.im) * scale,
                im: (self.im * ratio - self.re) * scale,
            }
        }
    }
}

impl Complex<f64> {
    pub(super) fn is_nan(self) -> bool {
        self.re.is_nan() || self.im.is_nan()
    }

    /// Compares by real part, then by imaginary part, as `NumPy` does. If the real parts differ, a NaN in an
    /// imaginary part has no effect.
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

impl<T: Element<Value: Real>> Element for Complex<T> {
    type Value = Complex<T::Value>;
    const SIZE: usize = 2 * T::SIZE;
    #[inline]
    fn value(bytes: &[u8]) -> Self::Value {
        let (re, im) = bytes.split_at(T::SIZE);
        Complex { re: T::value(re), im: T::value(im) }
    }
}
