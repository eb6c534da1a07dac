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

/// What is done to each float before it is rounded.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Add(f32),
    Multiply(f32),
}

/// Does a step of arithmetic with each little-endian float of 32 bits, and rounds the result to the nearest value of
/// 16 bits, ties to even.
pub(crate) fn compute(step: Step, floats: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("f16c") && is_x86_feature_detected!("avx") {
        // SAFETY: the processor has both.
        let n = unsafe { x86::compute(step, floats) };
        return compute_one_by_one(step, &mut floats[n..]);
    }
    compute_one_by_one(step, floats);
}

fn widen_one_by_one(halves: &[u8], floats: &mut [u8]) {
    for (half, float) in halves.as_chunks().0.iter().zip(floats.as_chunks_mut().0) {
        *float = f16::from_le_bytes(*half).to_f32().to_le_bytes();
    }
}

fn compute_one_by_one(step: Step, floats: &mut [u8]) {
    for float in floats.as_chunks_mut().0 {
        let value = f32::from_le_bytes(*float);
        let value = match step {
            Step::Add(other) => value + other,
            Step::Multiply(other) => value * other,
        };
        *float = f16::from_f32(value).to_f32().to_le_bytes();
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, _MM_FROUND_TO_NEAREST_INT, _mm_loadu_si128, _mm256_add_ps, _mm256_cvtph_ps,
        _mm256_cvtps_ph, _mm256_loadu_ps, _mm256_mul_ps, _mm256_set1_ps, _mm256_storeu_ps,
    };

    use super::Step;

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

    /// Computes with as many floats as fill whole registers. Returns their bytes.
    #[target_feature(enable = "avx,f16c")]
    pub(super) fn compute(step: Step, floats: &mut [u8]) -> usize {
        match step {
            Step::Add(other) => {
                let other = _mm256_set1_ps(other);
                each_register(floats, |floats| _mm256_add_ps(floats, other))
            }
            Step::Multiply(other) => {
                let other = _mm256_set1_ps(other);
                each_register(floats, |floats| _mm256_mul_ps(floats, other))
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx,f16c")]
    fn each_register(floats: &mut [u8], by: impl Fn(__m256) -> __m256) -> usize {
        let registers = floats.as_chunks_mut::<32>().0;
        for register in &mut *registers {
            // SAFETY: 32 bytes are read and written, which the type has.
            unsafe {
                let floats = by(_mm256_loadu_ps(register.as_ptr().cast()));
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

    fn check_compute(floats: &[u8]) {
        for step in
            [Step::Multiply(1.0), Step::Multiply(255.0), Step::Multiply(127.5), Step::Add(1.0)]
        {
            let (mut got, mut want) = (floats.to_vec(), floats.to_vec());
            compute(step, &mut got);
            compute_one_by_one(step, &mut want);
            assert_eq!(bits(&got), bits(&want), "{step:?}");
        }
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
        check_compute(&all.flat_map(f32::to_le_bytes).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn random_floats_are_computed_as_by_the_twin(floats in proptest::collection::vec(any::<f32>(), 0..200)) {
            check_compute(&floats.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<_>>());
        }

        #[test]
        fn any_number_of_halves_is_widened(halves in proptest::collection::vec(any::<u16>(), 0..200)) {
            check_widen(&halves.into_iter().flat_map(u16::to_le_bytes).collect::<Vec<_>>());
        }
    }
}
