//! Floats of 16 bits ↔ floats of 32 bits, by the processor's own instruction.

use half::f16;

/// Widens each little-endian float of 16 bits in `halves` to one of 32 bits in `floats`.
///
/// # Panics
/// If `floats` does not have twice as many bytes as `halves`.
pub(crate) fn widen(halves: &[u8], floats: &mut [u8]) {
    assert_eq!(halves.len() * 2, floats.len(), "a float for each half");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("f16c") && is_x86_feature_detected!("avx") {
        // SAFETY: the processor has both.
        let n = unsafe { x86::widen(halves, floats) };
        return widen_one_by_one(&halves[n..], &mut floats[2 * n..]);
    }
    widen_one_by_one(halves, floats);
}

/// Rounds each little-endian float of 32 bits to the nearest value of 16 bits, ties to even.
pub(crate) fn round(floats: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("f16c") && is_x86_feature_detected!("avx") {
        // SAFETY: the processor has both.
        let n = unsafe { x86::round(floats) };
        return round_one_by_one(&mut floats[n..]);
    }
    round_one_by_one(floats);
}

fn widen_one_by_one(halves: &[u8], floats: &mut [u8]) {
    for (half, float) in halves.as_chunks().0.iter().zip(floats.as_chunks_mut().0) {
        *float = f16::from_le_bytes(*half).to_f32().to_le_bytes();
    }
}

fn round_one_by_one(floats: &mut [u8]) {
    for float in floats.as_chunks_mut().0 {
        *float = f16::from_f32(f32::from_le_bytes(*float)).to_f32().to_le_bytes();
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _MM_FROUND_TO_NEAREST_INT, _mm_loadu_si128, _mm256_cvtph_ps, _mm256_cvtps_ph,
        _mm256_loadu_ps, _mm256_storeu_ps,
    };

    /// Widens as many halves as fill whole registers. Returns their bytes.
    #[target_feature(enable = "avx,f16c")]
    pub(super) fn widen(halves: &[u8], floats: &mut [u8]) -> usize {
        let (from, to) = (halves.as_chunks::<16>().0, floats.as_chunks_mut::<32>().0);
        for (from, to) in from.iter().zip(to) {
            // SAFETY: 16 bytes are read and 32 written, which the types have.
            unsafe {
                let halves = _mm_loadu_si128(from.as_ptr().cast());
                _mm256_storeu_ps(to.as_mut_ptr().cast(), _mm256_cvtph_ps(halves));
            }
        }
        from.len() * 16
    }

    /// Rounds as many floats as fill whole registers. Returns their bytes.
    #[target_feature(enable = "avx,f16c")]
    pub(super) fn round(floats: &mut [u8]) -> usize {
        let registers = floats.as_chunks_mut::<32>().0;
        for register in &mut *registers {
            // SAFETY: 32 bytes are read and written, which the type has.
            unsafe {
                let floats = _mm256_loadu_ps(register.as_ptr().cast());
                let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(floats);
                _mm256_storeu_ps(register.as_mut_ptr().cast(), _mm256_cvtph_ps(halves));
            }
        }
        registers.len() * 32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bits, those of NaN aside.
    fn bits(floats: &[u8]) -> Vec<u32> {
        let canonical = |float: f32| if float.is_nan() { f32::NAN } else { float };
        let floats = floats.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
        floats.map(|float| canonical(float).to_bits()).collect()
    }

    fn check_widen(halves: &[u8]) {
        let (mut got, mut want) = (vec![0; halves.len() * 2], vec![0; halves.len() * 2]);
        widen(halves, &mut got);
        widen_one_by_one(halves, &mut want);
        assert_eq!(bits(&got), bits(&want));
    }

    fn check_round(floats: &[u8]) {
        let (mut got, mut want) = (floats.to_vec(), floats.to_vec());
        round(&mut got);
        round_one_by_one(&mut want);
        assert_eq!(bits(&got), bits(&want));
    }

    #[test]
    fn every_half_is_widened_as_by_its_twin() {
        check_widen(&(0..=u16::MAX).flat_map(u16::to_le_bytes).collect::<Vec<_>>());
    }

    #[test]
    fn ties_and_ends_are_rounded_as_by_the_twin() {
        let of = |bits: u16| f16::from_bits(bits).to_f32();
        let ties = (0..0x7bff).map(|bits| f32::midpoint(of(bits), of(bits + 1)));
        let ends = [65504.0, 65519.99, 65520.0, 1e30, f32::INFINITY, f32::NAN, 1e-8, 1e-40];
        let all = ties.chain(ends).flat_map(|float| [float, -float]);
        check_round(&all.flat_map(f32::to_le_bytes).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn random_floats_are_rounded_as_by_the_twin(floats in proptest::collection::vec(any::<f32>(), 0..200)) {
            check_round(&floats.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<_>>());
        }

        #[test]
        fn any_number_of_halves_is_widened(halves in proptest::collection::vec(any::<u16>(), 0..200)) {
            check_widen(&halves.into_iter().flat_map(u16::to_le_bytes).collect::<Vec<_>>());
        }
    }
}
