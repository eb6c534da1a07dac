//! Finds zero bytes.

/// Returns a bit for each byte, the lowest bit for the first byte: 1 if the byte is zero.
#[inline]
pub(crate) fn zero_bytes(bytes: &[u8; 64]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        sse2::zero_bytes(bytes)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        scalar(bytes)
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn scalar(bytes: &[u8; 64]) -> u64 {
    (0..).zip(bytes).fold(0, |bits, (i, &byte)| bits | u64::from(byte == 0) << i)
}

#[cfg(target_arch = "x86_64")]
mod sse2 {
    use core::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_setzero_si128,
    };

    /// Needs SSE2, which every x86-64 processor has.
    #[inline]
    pub(crate) fn zero_bytes(bytes: &[u8; 64]) -> u64 {
        let mut bits = 0;
        for (i, quarter) in bytes.as_chunks::<16>().0.iter().enumerate() {
            // SAFETY: the 16 bytes are there, the load needs no alignment, and SSE2 is part of x86-64.
            let mask = unsafe {
                let quarter = _mm_loadu_si128(quarter.as_ptr().cast());
                _mm_movemask_epi8(_mm_cmpeq_epi8(quarter, _mm_setzero_si128()))
            };
            bits |= u64::from(mask.cast_unsigned()) << (16 * i);
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_twins_see_the_same(bytes in prop::array::uniform32(prop_oneof![Just(0u8), any::<u8>()])) {
            let mut both = [1; 64];
            both[..32].copy_from_slice(&bytes);
            both[48..].copy_from_slice(&bytes[..16]);
            prop_assert_eq!(zero_bytes(&both), scalar(&both));
        }
    }
}
