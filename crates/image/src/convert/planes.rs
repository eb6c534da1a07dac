//! Planes → interleaved pixels.

use super::sample::Sample;
use crate::simd::for_more_instructions;

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

    proptest! {
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
