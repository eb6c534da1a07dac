//! One element of a tensor as a number. Pure.

use std::ops::{Add, Div, Mul, Sub};

use half::{bf16, f16};

use crate::tensor::{ByteOrder, DType};

/// A type of element: how it lies in memory and what number it is.
pub(super) trait Element {
    /// The type that the arithmetic is done in.
    type Value: Copy;
    /// Bytes of one element.
    const SIZE: usize;
    /// The number in `bytes`, which are `SIZE` little-endian bytes.
    fn value(bytes: &[u8]) -> Self::Value;
}

/// The numbers in a chunk of whole, little-endian elements.
pub(super) fn values<E: Element>(chunk: &[u8]) -> impl Iterator<Item = E::Value> {
    chunk.chunks_exact(E::SIZE).map(E::value)
}

/// A whole number of any size.
pub(super) trait Int: Copy + Ord {
    fn wide(self) -> i128;
    /// Back from [`Self::wide`] of a value of this type.
    fn from_wide(value: i128) -> Self;
    /// `self − other` in the type itself, as `NumPy` does it.
    fn wrapping_sub(self, other: Self) -> Self;
}

/// A float of any size. Each operation rounds to the type, as `NumPy`'s do.
pub(super) trait Real:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
{
    fn of(value: f64) -> Self;
    fn wide(self) -> f64;
    /// The value in the type that our own rules compute in: f32, or f64 for f64.
    fn linear(self, lo: f64, scale: f64) -> u8;
}

/// Real and imaginary part.
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

    /// The real part of `self` times a real number, as complex multiplication makes it.
    pub(super) fn scaled_re(self, factor: f64) -> T {
        self.re * T::of(factor) - self.im * T::of(0.0)
    }

    /// Smith's algorithm, which `NumPy` divides complex numbers by (`loops.c.src`).
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

macro_rules! element {
    ($($type:ty)*) => {$(
        impl Element for $type {
            type Value = $type;
            const SIZE: usize = size_of::<$type>();
            fn value(bytes: &[u8]) -> $type {
                let mut array = [0; size_of::<$type>()];
                array.copy_from_slice(bytes);
                <$type>::from_le_bytes(array)
            }
        }
    )*};
}
element!(u8 u16 u32 u64 i8 i16 i32 i64 f16 f32 f64);

/// bfloat16, which `NumPy` and wandb don't know, is computed with in f32.
impl Element for bf16 {
    type Value = f32;
    const SIZE: usize = 2;
    fn value(bytes: &[u8]) -> f32 {
        Self::from_le_bytes([bytes[0], bytes[1]]).to_f32()
    }
}

impl<T: Element<Value: Real>> Element for Complex<T> {
    type Value = Complex<T::Value>;
    const SIZE: usize = 2 * T::SIZE;
    fn value(bytes: &[u8]) -> Self::Value {
        let (re, im) = bytes.split_at(T::SIZE);
        Complex { re: T::value(re), im: T::value(im) }
    }
}

macro_rules! int {
    ($($type:ty)*) => {$(
        impl Int for $type {
            fn wide(self) -> i128 {
                i128::from(self)
            }
            // Not `expect`: which of the two a cast may do depends on the type.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            fn from_wide(value: i128) -> Self {
                value as Self
            }
            fn wrapping_sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
        }
    )*};
}
int!(u8 u16 u32 u64 i8 i16 i32 i64);

impl Real for f64 {
    fn of(value: f64) -> Self {
        value
    }
    fn wide(self) -> f64 {
        self
    }
    fn linear(self, lo: f64, scale: f64) -> u8 {
        round_f64((self - lo) * scale)
    }
}

impl Real for f32 {
    #[expect(clippy::cast_possible_truncation, reason = "rounding to the type is the purpose")]
    fn of(value: f64) -> Self {
        value as Self
    }
    fn wide(self) -> f64 {
        f64::from(self)
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and NaN becomes 0"
    )]
    fn linear(self, lo: f64, scale: f64) -> u8 {
        ((self - Self::of(lo)) * Self::of(scale) + 0.5) as u8
    }
}

impl Real for f16 {
    fn of(value: f64) -> Self {
        Self::from_f64(value)
    }
    fn wide(self) -> f64 {
        self.to_f64()
    }
    fn linear(self, lo: f64, scale: f64) -> u8 {
        self.to_f32().linear(lo, scale)
    }
}

/// To the nearest byte, halves up; below 0 and NaN to 0, above 255 to 255.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and NaN becomes 0"
)]
pub(super) fn round_f64(value: f64) -> u8 {
    (value + 0.5) as u8
}

/// Runs one expression for the type that a [`DType`] names: whole numbers (bool among them, as 0
/// and 1), floats, or complex numbers.
macro_rules! for_dtype {
    ($dtype:expr, int $i:ident => $int:expr, real $r:ident => $real:expr, complex $c:ident => $complex:expr $(,)?) => {{
        macro_rules! arm {
            ($alias:ident $type:ty, $body:expr) => {{
                type $alias = $type;
                $body
            }};
        }
        match $dtype {
            DType::Bool | DType::U8 => arm!($i u8, $int),
            DType::U16 => arm!($i u16, $int),
            DType::U32 => arm!($i u32, $int),
            DType::U64 => arm!($i u64, $int),
            DType::I8 => arm!($i i8, $int),
            DType::I16 => arm!($i i16, $int),
            DType::I32 => arm!($i i32, $int),
            DType::I64 => arm!($i i64, $int),
            DType::F16 => arm!($r half::f16, $real),
            DType::BF16 => arm!($r half::bf16, $real),
            DType::F32 => arm!($r f32, $real),
            DType::F64 => arm!($r f64, $real),
            DType::Complex64 => arm!($c f32, $complex),
            DType::Complex128 => arm!($c f64, $complex),
        }
    }};
}
pub(super) use for_dtype;

/// Brings a chunk of whole elements into the form that the rest expects: little-endian, bool as 0
/// or 1.
pub(super) fn normalize(chunk: &mut [u8], dtype: DType, byte_order: ByteOrder) {
    if dtype == DType::Bool {
        for byte in chunk {
            *byte = u8::from(*byte != 0);
        }
    } else if byte_order == ByteOrder::Big && dtype.word_size() > 1 {
        for word in chunk.chunks_exact_mut(dtype.word_size()) {
            word.reverse();
        }
    }
}
