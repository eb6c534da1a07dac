//! The elements of a tensor as numbers.

use std::ops::{Add, Div, Mul, Sub};

use super::sample::Sample;
use crate::simd::{self, for_more_instructions};
use crate::tensor::{ByteOrder, DType};
use half::{bf16, f16};

/// A type of elements: its size in memory and its conversion to a number.
pub(super) trait Element {
    /// The type in which to compute.
    type Value: Copy;
    /// Bytes of one element.
    const SIZE: usize;
    /// Returns the number in `SIZE` little-endian bytes.
    fn value(bytes: &[u8]) -> Self::Value;
}

/// Returns the numbers in a chunk of whole, little-endian elements.
pub(super) fn values<E: Element>(chunk: &[u8]) -> impl Iterator<Item = E::Value> {
    chunk.chunks_exact(E::SIZE).map(E::value)
}

/// A whole number of any size.
pub(super) trait Int: Copy + Ord {
    fn wide(self) -> i128;
    fn to_f64(self) -> f64;
    /// Clamps to `lo` and `hi`, which may be outside of the type.
    fn clamped(self, lo: i32, hi: i32) -> i32;
    /// Returns the low 8 bits.
    fn low_bits(self) -> u8;
    /// The inverse of [`Self::wide`].
    fn from_wide(value: i128) -> Self;
    /// Subtracts in the type itself, as `NumPy` does.
    fn wrapping_sub(self, other: Self) -> Self;
}

/// A float of any size. Each operation rounds to the type, as in `NumPy`.
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
    /// Maps to a sample: (`self` − `lo`) × `scale`, computed in f32, or in f64 for f64.
    fn linear<S: Sample>(self, lo: f64, scale: f64) -> S;
}

/// A float with fast conversions to samples.
pub(super) trait Float: Real {
    /// Truncates and returns the low 8 bits. NaN, and values that do not fit 32 bits, give 0.
    fn low_bits(self) -> u8;
    /// Clamps to 0 and 255 and truncates. NaN gives 0.
    fn clipped(self) -> u8;
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

/// bfloat16 is computed in f32. `NumPy` and wandb do not have it.
impl Element for bf16 {
    type Value = f32;
    const SIZE: usize = 2;
    #[inline]
    fn value(bytes: &[u8]) -> f32 {
        f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16)
    }
}

macro_rules! int {
    ($($type:ty)*) => {$(
        impl Int for $type {
            #[inline]
            fn wide(self) -> i128 {
                i128::from(self)
            }
            // `allow` instead of `expect`: whether a cast can lose precision depends on the type.
            #[allow(clippy::cast_precision_loss, clippy::cast_lossless)]
            #[inline]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap, clippy::cast_lossless, clippy::unnecessary_cast)]
            #[inline]
            fn clamped(self, lo: i32, hi: i32) -> i32 {
                // The smallest and largest value of the type that `i32` holds.
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
            // `allow` instead of `expect`: which lint applies depends on the type.
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

/// Evaluates one of three expressions with the Rust type of a [`DType`]: whole numbers (with bool as 0 and
/// 1), floats, or complex numbers.
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
            DType::F8E4M3Fn => arm!($r crate::convert::float8::F8E4M3Fn, $real),
            DType::F8E4M3Fnuz => arm!($r crate::convert::float8::F8E4M3Fnuz, $real),
            DType::F8E5M2 => arm!($r crate::convert::float8::F8E5M2, $real),
            DType::F8E5M2Fnuz => arm!($r crate::convert::float8::F8E5M2Fnuz, $real),
            DType::F8E8M0Fnu => arm!($r crate::convert::float8::F8E8M0Fnu, $real),
            DType::F32 => arm!($r f32, $real),
            DType::F64 => arm!($r f64, $real),
            DType::Complex64 => arm!($c f32, $complex),
            DType::Complex128 => arm!($c f64, $complex),
        }
    }};
}
pub(super) use for_dtype;

/// Normalizes a chunk of whole elements: little-endian, bool as 0 or 1.
pub(super) fn normalize(chunk: &mut [u8], dtype: DType, byte_order: ByteOrder) {
    if dtype == DType::Bool || byte_order == ByteOrder::Big && dtype.word_size() > 1 {
        normalize_words(chunk, if dtype == DType::Bool { 1 } else { dtype.word_size() });
    }
}

for_more_instructions! {
    /// Reverses the bytes of each word. Words of one byte are bools and become 0 or 1.
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
