//! Floats of 16 and 8 bits as such of 32. Pure.

use super::element::{Real, for_dtype, values};
use crate::simd::{self, for_more_instructions};
use crate::tensor::DType;
use half::bf16;

/// Floats at once: few enough to stay in the processor's first cache, enough to make up for a call.
const BLOCK: usize = 2048;

/// Whether [`each_widened`] hands out the elements of a type.
pub(super) fn is_narrow(dtype: DType) -> bool {
    use DType::{BF16, F8E4M3Fn, F8E4M3Fnuz, F8E5M2, F8E5M2Fnuz, F8E8M0Fnu, F16};
    matches!(dtype, F16 | BF16 | F8E4M3Fn | F8E4M3Fnuz | F8E5M2 | F8E5M2Fnuz | F8E8M0Fnu)
}

/// Hands out the elements of a chunk as little-endian floats of 32 bits, block by block with the place
/// of its first one.
pub(super) fn each_widened(dtype: DType, chunk: &[u8], mut see: impl FnMut(usize, &mut [u8])) {
    let mut floats = [0; 4 * BLOCK];
    for (i, block) in chunk.chunks(BLOCK * dtype.size()).enumerate() {
        let floats = &mut floats[..4 * (block.len() / dtype.size())];
        match dtype {
            DType::F16 => simd::half::widen(block, floats),
            DType::BF16 => widen_bf16(block, floats),
            _ => for_dtype!(dtype,
                int _T => {},
                real T => {
                    let values = values::<T>(block).map(|value| f32::of(value.wide()));
                    let to = floats.as_chunks_mut().0.iter_mut();
                    to.zip(values).for_each(|(to, value)| *to = value.to_le_bytes());
                },
                complex _T => {},
            ),
        }
        see(i * BLOCK, floats);
    }
}

for_more_instructions! {
    fn widen_bf16(block: &[u8], floats: &mut [u8]) {
        for (to, value) in floats.as_chunks_mut().0.iter_mut().zip(values::<bf16>(block)) {
            *to = value.to_le_bytes();
        }
    }
}
