//! The order of samples: planes → interleaved pixels, columns → rows.

use super::sample::Sample;
use crate::simd::for_more_instructions;
use crate::simd::transpose::each_part;

/// Interleaves `n_channels` planes of equal length: `rrr…ggg…bbb…` → `rgbrgbrgb…`.
///
/// # Panics
/// If the length of `planar` is not a multiple of `n_channels`, or `pixels` has another length.
pub fn interleave<S: Sample>(planar: &[S], n_channels: usize, pixels: &mut [S]) {
    assert!(
        planar.len().is_multiple_of(n_channels) && planar.len() == pixels.len(),
        "whole planes"
    );
    let plane = |i: usize| &planar[planar.len() / n_channels * i..][..planar.len() / n_channels];
    match n_channels {
        1 => pixels.copy_from_slice(planar),
        2 => two([plane(0), plane(1)], pixels),
        3 => S::interleave_3([plane(0), plane(1), plane(2)], pixels),
        4 => four([plane(0), plane(1), plane(2), plane(3)], pixels),
        _ => {
            for channel in 0..n_channels {
                let to = pixels.iter_mut().skip(channel).step_by(n_channels);
                to.zip(plane(channel)).for_each(|(to, &sample)| *to = sample);
            }
        }
    }
}

/// Transposes a matrix of `n_rows` × `n_columns` pixels of 1 to 4 channels: the pixel at `(row, column)` of `from` is the
/// one at `(column, row)` of `to`.
///
/// # Panics
/// If `from` or `to` has another number of samples, or `n_channels` is not 1 to 4.
pub fn transpose<S: Sample>(
    from: &[S],
    [n_rows, n_columns]: [usize; 2],
    n_channels: usize,
    to: &mut [S],
) {
    let (n, sides) = (n_rows * n_columns * n_channels, [n_rows, n_columns]);
    assert!(from.len() == n && to.len() == n, "{n_rows} × {n_columns} × {n_channels} samples");
    match n_channels {
        1 => S::transpose(from, sides, to),
        2 => transpose_any(from.as_chunks::<2>().0, sides, to.as_chunks_mut().0),
        3 => transpose_any(from.as_chunks::<3>().0, sides, to.as_chunks_mut().0),
        4 => transpose_any(from.as_chunks::<4>().0, sides, to.as_chunks_mut().0),
        _ => panic!("want 1 to 4 channels, got {n_channels}"),
    }
}

/// Transposes a matrix of any type.
pub(super) fn transpose_any<S: Copy>(from: &[S], [n_rows, n_columns]: [usize; 2], to: &mut [S]) {
    each_part([n_rows, n_columns], |rows, columns| {
        for column in columns {
            for row in rows.clone() {
                to[column * n_rows + row] = from[row * n_columns + column];
            }
        }
    });
}

for_more_instructions! {
    fn two<S: Copy>([a, b]: [&[S]; 2], pixels: &mut [S]) {
        for (pixel, (&a, &b)) in pixels.as_chunks_mut().0.iter_mut().zip(a.iter().zip(b)) {
            *pixel = [a, b];
        }
    }
}

for_more_instructions! {
    fn four<S: Copy>([a, b, c, d]: [&[S]; 4], pixels: &mut [S]) {
        let planes = a.iter().zip(b).zip(c).zip(d);
        for (pixel, (((&a, &b), &c), &d)) in pixels.as_chunks_mut().0.iter_mut().zip(planes) {
            *pixel = [a, b, c, d];
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check<S: Sample + PartialEq + std::fmt::Debug>(planar: &[S], n_channels: usize) {
        let n = planar.len() / n_channels;
        let planar = &planar[..n * n_channels];
        let mut got = vec![S::default(); planar.len()];
        interleave(planar, n_channels, &mut got);
        for (i, sample) in got.into_iter().enumerate() {
            assert_eq!(sample, planar[i % n_channels * n + i / n_channels]);
        }
    }

    fn check_transposed<S: Sample + PartialEq + std::fmt::Debug>(
        samples: &[S],
        n_rows: usize,
        n_channels: usize,
    ) {
        let n_columns = samples.len() / n_channels / n_rows;
        let from = &samples[..n_rows * n_columns * n_channels];
        let mut got = vec![S::default(); from.len()];
        transpose(from, [n_rows, n_columns], n_channels, &mut got);
        for (i, sample) in got.into_iter().enumerate() {
            let (pixel, channel) = (i / n_channels, i % n_channels);
            let (column, row) = (pixel / n_rows, pixel % n_rows);
            assert_eq!(sample, from[(row * n_columns + column) * n_channels + channel], "{i}");
        }
    }

    proptest! {
        #[test]
        fn every_sample_of_a_matrix_goes_to_its_place(
            bytes in proptest::collection::vec(any::<u8>(), 0..9000),
            words in proptest::collection::vec(any::<u16>(), 0..9000),
            n_rows in 1usize..150,
            n_channels in 1usize..5,
        ) {
            check_transposed(&bytes, n_rows, n_channels);
            check_transposed(&words, n_rows, n_channels);
        }

        #[test]
        fn every_sample_goes_to_its_place(
            bytes in proptest::collection::vec(any::<u8>(), 0..900),
            words in proptest::collection::vec(any::<u16>(), 0..900),
            n_channels in 1usize..6,
        ) {
            check(&bytes, n_channels);
            check(&words, n_channels);
        }
    }
}
