//! The samples of a picture: 8 or 16 bits.

use super::planes::transpose_any;
use crate::simd::{self, for_more_instructions};

/// A sample of a picture: `u8` or `u16`.
pub trait Sample: Copy + Default + From<u8> {
    /// Rounds to the nearest sample, halves up. Values below 0 and NaN give 0, values above the largest
    /// sample give that.
    fn round(value: f64) -> Self;
    /// Rounds like [`Self::round`], computing in f32.
    fn round_f32(value: f32) -> Self;
    /// Returns the samples as bytes if they are bytes.
    fn bytes(samples: &mut [Self]) -> Option<&mut [u8]>;
    /// Interleaves three planes of equal length.
    fn interleave_3(planes: [&[Self]; 3], pixels: &mut [Self]);
    /// Transposes a matrix of this many rows and columns.
    fn transpose(from: &[Self], n_rows_and_columns: [usize; 2], to: &mut [Self]);
}

macro_rules! sample {
    ($type:ty { bytes: $bytes:expr, interleave_3: $interleave_3:expr, transpose: $transpose:expr }) => {
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
            fn transpose(from: &[Self], n_rows_and_columns: [usize; 2], to: &mut [Self]) {
                $transpose(from, n_rows_and_columns, to);
            }
        }
    };
}
sample!(u8 {
    bytes: Some,
    interleave_3: simd::planes::interleave_3,
    transpose: simd::transpose::transpose
});
sample!(u16 { bytes: |_| None, interleave_3: interleave_3, transpose: transpose_any });

for_more_instructions! {
    /// Interleaves three planes of equal length, of samples of any type.
    fn interleave_3<S: Copy>([a, b, c]: [&[S]; 3], pixels: &mut [S]) {
        for (pixel, ((&a, &b), &c)) in pixels.as_chunks_mut().0.iter_mut().zip(a.iter().zip(b).zip(c)) {
            *pixel = [a, b, c];
        }
    }
}
