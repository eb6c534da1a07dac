//! Elements as numbers: for people who look at the values of a picture, not for its pixels.

use super::complex::Complex;
use super::element::{Int, Real, for_dtype, values};
use super::widened::{each_widened, is_narrow};
use crate::tensor::DType;

/// Returns the type in which elements of this type are shown: `NumPy`'s own. bfloat16 and floats of 8 bits are shown
/// as float32, complex numbers as their real part.
#[must_use]
pub const fn shown_as(dtype: DType) -> DType {
    match dtype {
        DType::BF16
        | DType::F8E4M3Fn
        | DType::F8E4M3Fnuz
        | DType::F8E5M2
        | DType::F8E5M2Fnuz
        | DType::F8E8M0Fnu
        | DType::Complex64 => DType::F32,
        DType::Complex128 => DType::F64,
        other => other,
    }
}

/// Appends the elements of a normalized chunk to `shown`, each in the type [`shown_as`] says, little-endian.
pub(crate) fn show(dtype: DType, chunk: &[u8], shown: &mut Vec<u8>) {
    match dtype {
        DType::Complex64 | DType::Complex128 => {
            for element in chunk.chunks_exact(dtype.size()) {
                shown.extend_from_slice(&element[..dtype.word_size()]);
            }
        }
        _ if shown_as(dtype) == dtype => shown.extend_from_slice(chunk),
        _ => each_widened(dtype, chunk, |_, floats| shown.extend_from_slice(floats)),
    }
}

/// Appends the elements of a normalized chunk to `numbers`, of complex numbers the real part. Whole numbers beyond 2⁵³
/// are rounded.
pub(crate) fn numbers(dtype: DType, chunk: &[u8], numbers: &mut Vec<f64>) {
    if is_narrow(dtype) {
        return each_widened(dtype, chunk, |_, floats| {
            numbers.extend(values::<f32>(floats).map(f64::from));
        });
    }
    for_dtype!(dtype,
        int T => numbers.extend(values::<T>(chunk).map(Int::to_f64)),
        real T => numbers.extend(values::<T>(chunk).map(Real::wide)),
        complex T => numbers.extend(values::<Complex<T>>(chunk).map(|value| value.re.wide())),
    );
}

/// Appends every `step`th element of `elements`, which are of a type that [`shown_as`] returns, to `to`.
pub(crate) fn numbers_apart(dtype: DType, elements: &[u8], step: usize, to: &mut Vec<f64>) {
    for_dtype!(dtype,
        int T => to.extend(values::<T>(elements).step_by(step).map(Int::to_f64)),
        real T => to.extend(values::<T>(elements).step_by(step).map(Real::wide)),
        complex _T => {},
    );
}
