//! One element of a tensor as a number. Pure.

use std::ops::{Add, Div, Mul, Sub};

use super::planes;
use crate::simd::{self, for_more_instructions};
use crate::tensor::{ByteOrder, DType};
use half::{bf16, f16};

/// A type of element: how it lies in memory and what number it is.
pub(super) trait Element {
    /// The type that the arithmetic is done in.
    type Value: Copy;
    /// Bytes of one element.
    const SIZE: usize;
    /// The number in `bytes`, which are `SIZE` little-endian bytes.
    fn value(bytes: &[u8]) -> Self::Value;
}

/// What a value becomes: 8 or 16 bits.
pub trait Sample: Copy + Default + From<u8> {
    /// To the nearest sample, halves up; what lies below 0 and NaN to 0, what lies above to the
    /// largest.
    fn round(value: f64) -> Self;
    /// The same of a number that is computed with in f32.
    fn round_f32(value: f32) -> Self;
    /// The samples as bytes, where they are such.
    fn bytes(samples: &mut [Self]) -> Option<&mut [u8]>;
    /// Interleaves three planes of equal length.
    fn interleave_3(planes: [&[Self]; 3], pixels: &mut [Self]);
}

macro_rules! sample {
    ($type:ty { bytes: $bytes:expr, interleave_3: $interleave_3:expr }) => {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and the largest sample"
        )]
        impl Sample for $type {
            #[inline(always)]
            fn round(value: f64) -> Self {
                simd::cast::saturated_f64::<{ Self::MAX as u16 }>(value + 0.5) as Self
            }
            #[inline(always)]
            fn round_f32(value: f32) -> Self {
                simd::cast::saturated_f32::<{ Self::MAX as u16 }>(value + 0.5) as Self
            }
            fn bytes(samples: &mut [Self]) -> Option<&mut [u8]> {
                $bytes(samples)
            }
            fn interleave_3(planes: [&[Self]; 3], pixels: &mut [Self]) {
                $interleave_3(planes, pixels);
            }
        }
    };
}
sample!(u8 { bytes: Some, interleave_3: simd::planes::interleave_3 });
sample!(u16 { bytes: |_| None, interleave_3: planes::three });

/// The numbers in a chunk of whole, little-endian elements.
pub(super) fn values<E: Element>(chunk: &[u8]) -> impl Iterator<Item = E::Value> {
    chunk.chunks_exact(E::SIZE).map(E::value)
}

/// A whole number of any size.
pub(super) trait Int: Copy + Ord {
    fn wide(self) -> i128;
    fn to_f64(self) -> f64;
    /// `self` between `lo` and `hi`, which the type may not reach.
    fn clamped(self, lo: i32, hi: i32) -> i32;
    /// The low 8 bits.
    fn low_bits(self) -> u8;
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
    fn linear<S: Sample>(self, lo: f64, scale: f64) -> S;
}

/// A float that samples are made of in its own type.
pub(super) trait Float: Real {
    /// Truncated, then the low 8 bits; 0 where the truncated value doesn't fit 32 bits, NaN included.
    fn low_bits(self) -> u8;
    /// Between 0 and 255, truncated; NaN is 0.
    fn clipped(self) -> u8;
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
            #[inline]
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
    #[inline]
    fn value(bytes: &[u8]) -> f32 {
        f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16)
    }
}

/// A float of 8 bits, computed with in f32. Each value is looked up: there are 256.
macro_rules! float8 {
    ($($name:ident $table:ident { exponent: $exponent:literal, mantissa: $mantissa:literal, bias: $bias:literal, special: $special:path })*) => {$(
        pub(super) struct $name;
        static $table: [f32; 256] = table($exponent, $mantissa, $bias, $special);
        impl Element for $name {
            type Value = f32;
            const SIZE: usize = 1;
            #[inline]
            fn value(bytes: &[u8]) -> f32 {
                $table[usize::from(bytes[0])]
            }
        }
    )*};
}

/// What the bit patterns at the end of the exponents mean.
#[derive(Clone, Copy, PartialEq)]
enum Special {
    /// As in IEEE 754: infinities and NaN.
    Ieee,
    /// All ones are NaN; there is no infinity.
    Finite,
    /// Negative zero is the only NaN; there is no infinity.
    Unsigned,
}

float8! {
    F8E4M3Fn E4M3FN { exponent: 4, mantissa: 3, bias: 7, special: Special::Finite }
    F8E4M3Fnuz E4M3FNUZ { exponent: 4, mantissa: 3, bias: 8, special: Special::Unsigned }
    F8E5M2 E5M2 { exponent: 5, mantissa: 2, bias: 15, special: Special::Ieee }
    F8E5M2Fnuz E5M2FNUZ { exponent: 5, mantissa: 2, bias: 16, special: Special::Unsigned }
}

/// The value of each bit pattern.
///
/// Source: "FP8 Formats for Deep Learning" (arXiv 2209.05433) and `ml_dtypes`' README for the `fnuz`
/// types.
#[expect(clippy::cast_precision_loss, reason = "numbers of at most 4 bits")]
const fn table(exponent: u32, mantissa: u32, bias: i32, special: Special) -> [f32; 256] {
    let mut values = [0.0; 256];
    let mut bits = 0u32;
    while bits < 256 {
        let field = bits >> mantissa & ((1 << exponent) - 1);
        let fraction = bits & ((1 << mantissa) - 1);
        let is_top = field == (1 << exponent) - 1;
        let value = match special {
            Special::Ieee if is_top && fraction == 0 => f32::INFINITY,
            Special::Ieee if is_top => f32::NAN,
            Special::Finite if is_top && fraction == (1 << mantissa) - 1 => f32::NAN,
            Special::Unsigned if bits == 0x80 => f32::NAN,
            // Without the leading one, in units of the least place of the lowest exponent.
            _ if field == 0 => fraction as f32 * power_of_2(1 - bias - mantissa.cast_signed()),
            _ => {
                let whole = fraction + (1 << mantissa);
                whole as f32 * power_of_2(field.cast_signed() - bias - mantissa.cast_signed())
            }
        };
        values[bits as usize] = if bits & 0x80 == 0 { value } else { -value };
        bits += 1;
    }
    values
}

/// 2 to a power that normal f32 numbers have.
const fn power_of_2(exponent: i32) -> f32 {
    f32::from_bits((exponent + 127).cast_unsigned() << 23)
}

/// `float8_e8m0fnu`: powers of two from -127 on, the last one NaN.
pub(super) struct F8E8M0Fnu;

impl Element for F8E8M0Fnu {
    type Value = f32;
    const SIZE: usize = 1;
    #[inline]
    fn value(bytes: &[u8]) -> f32 {
        match bytes[0] {
            0 => f32::from_bits(1 << 22),
            255 => f32::NAN,
            field => f32::from_bits(u32::from(field) << 23),
        }
    }
}

impl<T: Element<Value: Real>> Element for Complex<T> {
    type Value = Complex<T::Value>;
    const SIZE: usize = 2 * T::SIZE;
    #[inline]
    fn value(bytes: &[u8]) -> Self::Value {
        let (re, im) = bytes.split_at(T::SIZE);
        Complex { re: T::value(re), im: T::value(im) }
    }
}

macro_rules! int {
    ($($type:ty)*) => {$(
        impl Int for $type {
            #[inline]
            fn wide(self) -> i128 {
                i128::from(self)
            }
            // Not `expect`: whether a cast may lose something depends on the type.
            #[allow(clippy::cast_precision_loss, clippy::cast_lossless)]
            #[inline]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap, clippy::cast_lossless, clippy::unnecessary_cast)]
            #[inline]
            fn clamped(self, lo: i32, hi: i32) -> i32 {
                // The ends of the type, as far as `i32` reaches.
                const MIN: i32 = if <$type>::BITS < 32 || <$type>::MIN == 0 { <$type>::MIN as i32 } else { i32::MIN };
                const MAX: i32 = if <$type>::BITS < 32 { <$type>::MAX as i32 } else { i32::MAX };
                let (lo, hi) = (lo.clamp(MIN, MAX) as $type, hi.clamp(MIN, MAX) as $type);
                self.max(lo).min(hi) as i32
            }
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::unnecessary_cast)]
            #[inline]
            fn low_bits(self) -> u8 {
                self as u8
            }
            // Not `expect`: which of the two a cast may do depends on the type.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            #[inline]
            fn from_wide(value: i128) -> Self {
                value as Self
            }
            #[inline]
            fn wrapping_sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
        }
    )*};
}
int!(u8 u16 u32 u64 i8 i16 i32 i64);

macro_rules! float {
    ($($type:ident $saturated:ident $low_bits:ident)*) => {$(
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the low 8 bits")]
        impl Float for $type {
            #[inline]
            fn low_bits(self) -> u8 {
                simd::cast::$low_bits(self) as u8
            }
            #[inline]
            fn clipped(self) -> u8 {
                simd::cast::$saturated::<255>(self) as u8
            }
        }
    )*};
}
float! {
    f32 saturated_f32 low_bits_f32
    f64 saturated_f64 low_bits_f64
}

impl Real for f64 {
    #[inline]
    fn of(value: f64) -> Self {
        value
    }
    #[inline]
    fn wide(self) -> f64 {
        self
    }
    #[inline]
    fn linear<S: Sample>(self, lo: f64, scale: f64) -> S {
        S::round((self - lo) * scale)
    }
}

impl Real for f32 {
    #[expect(clippy::cast_possible_truncation, reason = "rounding to the type is the purpose")]
    #[inline]
    fn of(value: f64) -> Self {
        value as Self
    }
    #[inline]
    fn wide(self) -> f64 {
        f64::from(self)
    }
    #[inline]
    fn linear<S: Sample>(self, lo: f64, scale: f64) -> S {
        S::round_f32((self - Self::of(lo)) * Self::of(scale))
    }
}

impl Real for f16 {
    #[inline]
    fn of(value: f64) -> Self {
        Self::from_f64(value)
    }
    #[inline]
    fn wide(self) -> f64 {
        self.to_f64()
    }
    #[inline]
    fn linear<S: Sample>(self, lo: f64, scale: f64) -> S {
        self.to_f32().linear(lo, scale)
    }
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
            DType::F8E4M3Fn => arm!($r crate::convert::sample::F8E4M3Fn, $real),
            DType::F8E4M3Fnuz => arm!($r crate::convert::sample::F8E4M3Fnuz, $real),
            DType::F8E5M2 => arm!($r crate::convert::sample::F8E5M2, $real),
            DType::F8E5M2Fnuz => arm!($r crate::convert::sample::F8E5M2Fnuz, $real),
            DType::F8E8M0Fnu => arm!($r crate::convert::sample::F8E8M0Fnu, $real),
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
    if dtype == DType::Bool || byte_order == ByteOrder::Big && dtype.word_size() > 1 {
        normalize_words(chunk, if dtype == DType::Bool { 1 } else { dtype.word_size() });
    }
}

for_more_instructions! {
    /// Turns each word around, or makes it 0 or 1 if it is one byte.
    fn normalize_words(chunk: &mut [u8], word_size: usize) {
        match word_size {
            1 => {
                for byte in chunk {
                    *byte = u8::from(*byte != 0);
                }
            }
            2 => {
                for word in chunk.as_chunks_mut::<2>().0 {
                    word.reverse();
                }
            }
            4 => {
                for word in chunk.as_chunks_mut::<4>().0 {
                    word.reverse();
                }
            }
            _ => {
                for word in chunk.as_chunks_mut::<8>().0 {
                    word.reverse();
                }
            }
        }
    }
}
