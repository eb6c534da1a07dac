//! The values of a mask → class ids.

use super::complex::Complex;
use super::element::{Int, Real, for_dtype, values};
use crate::tensor::DType;

/// Largest class id: the largest value of 16 bits.
pub(crate) const CLASS_ID_MAX: u16 = u16::MAX;

/// A value that is not a class id.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("got {value}, want class ids: whole numbers, 0 to {CLASS_ID_MAX}")]
pub struct ClassIdError {
    value: String,
}

/// Calls `see` with index and class id of each value of a [normalized](super::normalized) chunk.
///
/// # Errors
/// At the first value that is negative, fractional, above [`CLASS_ID_MAX`], NaN or infinite.
pub(crate) fn each_class_id(
    dtype: DType,
    chunk: &[u8],
    mut see: impl FnMut(usize, u16),
) -> Result<(), ClassIdError> {
    let whole = |value: f64| -> Result<u16, ClassIdError> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be exact in the same line"
        )]
        let id = value as u16;
        if f64::from(id) == value { Ok(id) } else { Err(ClassIdError { value: value.to_string() }) }
    };
    for_dtype!(dtype,
        int T => values::<T>(chunk).enumerate().try_for_each(|(i, value)| {
            let wide = value.wide();
            let id = u16::try_from(wide).map_err(|_| ClassIdError { value: wide.to_string() })?;
            see(i, id);
            Ok(())
        }),
        real T => values::<T>(chunk).enumerate().try_for_each(|(i, value)| {
            see(i, whole(value.wide())?);
            Ok(())
        }),
        complex T => values::<Complex<T>>(chunk).enumerate().try_for_each(|(i, value)| {
            see(i, whole(value.re.wide())?);
            Ok(())
        }),
    )
}

/// Calls `see` with index and score of each value of a [normalized](super::normalized) chunk.
pub(crate) fn each_score(dtype: DType, chunk: &[u8], mut see: impl FnMut(usize, f64)) {
    for_dtype!(dtype,
        int T => values::<T>(chunk).enumerate().for_each(|(i, value)| see(i, value.to_f64())),
        real T => values::<T>(chunk).enumerate().for_each(|(i, value)| see(i, value.wide())),
        complex T => {
            values::<Complex<T>>(chunk).enumerate().for_each(|(i, value)| see(i, value.re.wide()));
        }
    );
}

/// Whether a score of a class is better than the best so far, by the order of `NumPy`'s `argmax`: NaN is
/// greater than all numbers, and of equal scores the first class wins.
#[must_use]
pub(crate) fn beats(score: f64, class: u16, best: f64, best_class: u16) -> bool {
    let is_equal = score == best || score.is_nan() && best.is_nan();
    let is_greater = score > best || score.is_nan() && !best.is_nan();
    is_greater || is_equal && class < best_class
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_of_16_bits_are_class_ids() {
        let ids = |values: &[f32]| {
            let chunk: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let mut ids = Vec::new();
            each_class_id(DType::F32, &chunk, |_, id| ids.push(id))
                .map(|()| ids)
                .map_err(|error| error.value)
        };
        assert_eq!(ids(&[0.0, 1.0, 65535.0]), Ok(vec![0, 1, 65535]));
        for (value, want) in [(-1.0, "-1"), (0.5, "0.5"), (65536.0, "65536"), (f32::NAN, "NaN")] {
            assert_eq!(ids(&[2.0, value]), Err(want.to_owned()));
        }
        let error = each_class_id(DType::I8, &[1, 255], |_, _| {}).map_err(|e| e.to_string());
        assert_eq!(error, Err("got -1, want class ids: whole numbers, 0 to 65535".to_owned()));
    }

    #[test]
    fn the_first_of_the_greatest_wins() {
        let argmax = |scores: &[f64]| {
            let (mut best, mut best_class) = (f64::NEG_INFINITY, u16::MAX);
            for (class, &score) in (0..).zip(scores) {
                if beats(score, class, best, best_class) {
                    (best, best_class) = (score, class);
                }
            }
            best_class
        };
        assert_eq!(argmax(&[0.0, 1.0, 1.0]), 1);
        assert_eq!(argmax(&[0.0, f64::NAN, 9.0, f64::NAN]), 1);
        assert_eq!(argmax(&[f64::NEG_INFINITY; 3]), 0);
    }
}
