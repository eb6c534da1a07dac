//! Three planes of bytes → interleaved pixels.

/// Interleaves three planes of equal length.
///
/// # Panics
/// If the planes differ in length, or `pixels` is not three times as long.
pub(crate) fn interleave_3(planes: [&[u8]; 3], pixels: &mut [u8]) {
    let [a, b, c] = planes;
    assert!(a.len() == b.len() && a.len() == c.len() && a.len() * 3 == pixels.len(), "{a:?}");
    #[cfg(target_arch = "x86_64")]
    let n = if is_x86_feature_detected!("avx512vbmi") {
        // SAFETY: the processor has it.
        unsafe { x86::by_64(planes, pixels) }
    } else if is_x86_feature_detected!("ssse3") {
        // SAFETY: the processor has it.
        unsafe { x86::by_16(planes, pixels) }
    } else {
        0
    };
    #[cfg(not(target_arch = "x86_64"))]
    let n = 0;
    one_by_one(planes.map(|plane| &plane[n..]), &mut pixels[3 * n..]);
}

fn one_by_one([a, b, c]: [&[u8]; 3], pixels: &mut [u8]) {
    for (pixel, ((&a, &b), &c)) in pixels.as_chunks_mut().0.iter_mut().zip(a.iter().zip(b).zip(c)) {
        *pixel = [a, b, c];
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm_loadu_si128, _mm_or_si128, _mm_shuffle_epi8, _mm_storeu_si128, _mm512_loadu_si512,
        _mm512_mask_permutexvar_epi8, _mm512_permutex2var_epi8, _mm512_storeu_si512,
    };

    /// The sources of the bytes of one register of pixels.
    struct Places<const N: usize> {
        /// Index in planes 0 and 1; plane 1 counts from `N`.
        of_two: [u8; N],
        /// Index in plane 2.
        of_third: [u8; N],
        /// Whether the byte is from plane 2.
        is_third: [bool; N],
    }

    /// The sources for the three registers of pixels that one register of each plane makes.
    const fn places<const N: usize>() -> [Places<N>; 3] {
        let mut all =
            [const { Places { of_two: [0; N], of_third: [0; N], is_third: [false; N] } }; 3];
        let mut i = 0u8;
        while (i as usize) < 3 * N {
            let (places, at) = (&mut all[i as usize / N], i as usize % N);
            match i % 3 {
                0 => places.of_two[at] = i / 3,
                #[expect(clippy::cast_possible_truncation, reason = "at most 64")]
                1 => places.of_two[at] = i / 3 + N as u8,
                _ => {
                    places.of_third[at] = i / 3;
                    places.is_third[at] = true;
                }
            }
            i += 1;
        }
        all
    }

    /// Interleaves as many pixels as fill whole registers of 64 bytes. Returns their number.
    #[target_feature(enable = "avx512vbmi,avx512bw,avx512f")]
    pub(super) fn by_64([a, b, c]: [&[u8]; 3], pixels: &mut [u8]) -> usize {
        static PLACES: [Places<64>; 3] = places();
        let (a, b, c) = (a.as_chunks::<64>().0, b.as_chunks::<64>().0, c.as_chunks::<64>().0);
        let masks = PLACES.each_ref().map(|places| {
            places.is_third.iter().rev().fold(0u64, |mask, &is| mask << 1 | u64::from(is))
        });
        let pixels = pixels.as_chunks_mut::<192>().0;
        for (pixels, ((a, b), c)) in pixels.iter_mut().zip(a.iter().zip(b).zip(c)) {
            for (i, places) in PLACES.iter().enumerate() {
                let to = &mut pixels.as_chunks_mut::<64>().0[i];
                // SAFETY: 64 bytes are read or written at a time, which the types have.
                unsafe {
                    let [a, b, c] =
                        [a, b, c].map(|plane| _mm512_loadu_si512(plane.as_ptr().cast()));
                    let of_two = _mm512_loadu_si512(places.of_two.as_ptr().cast());
                    let of_third = _mm512_loadu_si512(places.of_third.as_ptr().cast());
                    let two = _mm512_permutex2var_epi8(a, of_two, b);
                    let all = _mm512_mask_permutexvar_epi8(two, masks[i], of_third, c);
                    _mm512_storeu_si512(to.as_mut_ptr().cast(), all);
                }
            }
        }
        a.len() * 64
    }

    /// For each register of pixels and each plane: the index in the plane of each byte, or 255 if the byte is
    /// from another plane.
    const fn shuffles() -> [[[u8; 16]; 3]; 3] {
        let mut all = [[[255; 16]; 3]; 3];
        let mut i = 0u8;
        while i < 48 {
            all[i as usize / 16][i as usize % 3][i as usize % 16] = i / 3;
            i += 1;
        }
        all
    }

    /// Interleaves as many pixels as fill whole registers of 16 bytes. Returns their number.
    #[target_feature(enable = "ssse3")]
    pub(super) fn by_16([a, b, c]: [&[u8]; 3], pixels: &mut [u8]) -> usize {
        static SHUFFLES: [[[u8; 16]; 3]; 3] = shuffles();
        let (a, b, c) = (a.as_chunks::<16>().0, b.as_chunks::<16>().0, c.as_chunks::<16>().0);
        let pixels = pixels.as_chunks_mut::<48>().0;
        for (pixels, ((a, b), c)) in pixels.iter_mut().zip(a.iter().zip(b).zip(c)) {
            for (to, shuffles) in pixels.as_chunks_mut::<16>().0.iter_mut().zip(&SHUFFLES) {
                // SAFETY: 16 bytes are read or written at a time, which the types have.
                unsafe {
                    let [a, b, c] = [a, b, c].map(|plane| _mm_loadu_si128(plane.as_ptr().cast()));
                    let [to_a, to_b, to_c] =
                        shuffles.each_ref().map(|shuffle| _mm_loadu_si128(shuffle.as_ptr().cast()));
                    let two = _mm_or_si128(_mm_shuffle_epi8(a, to_a), _mm_shuffle_epi8(b, to_b));
                    let all = _mm_or_si128(two, _mm_shuffle_epi8(c, to_c));
                    _mm_storeu_si128(to.as_mut_ptr().cast(), all);
                }
            }
        }
        a.len() * 16
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pixels_are_those_of_the_twin(
            bytes in proptest::collection::vec(any::<u8>(), 0..900),
        ) {
            let n = bytes.len() / 3;
            let planes = [&bytes[..n], &bytes[n..2 * n], &bytes[2 * n..3 * n]];
            let mut want = vec![0; 3 * n];
            one_by_one(planes, &mut want);
            let mut got = vec![0; 3 * n];
            interleave_3(planes, &mut got);
            prop_assert_eq!(&got, &want);
            // The other width, which this processor may not choose.
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("ssse3") {
                let mut got = vec![0; 3 * n];
                // SAFETY: the processor has it.
                let n_done = unsafe { x86::by_16(planes, &mut got) };
                prop_assert_eq!(&got[..3 * n_done], &want[..3 * n_done]);
                prop_assert!(n - n_done < 16);
            }
        }
    }
}
