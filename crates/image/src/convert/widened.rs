//! Floats of 16 and 8 bits, widened to 32 bits.

use super::element::{Real, for_dtype, values};
use crate::simd::{self, for_more_instructions};
use crate::tensor::DType;
use half::bf16;

/// Floats in a block: few enough for the first cache, enough to outweigh the call.
const BLOCK: usize = 2048;

/// Whether [`each_widened`] accepts elements of this type.
pub(super) fn is_narrow(dtype: DType) -> bool {
    use DType::{BF16, F8E4M3Fn, F8E4M3Fnuz, F8E5M2, F8E5M2Fnuz, F8E8M0Fnu, F16};
    matches!(dtype, F16 | BF16 | F8E4M3Fn | F8E4M3Fnuz | F8E5M2 | F8E5M2Fnuz | F8E8M0Fnu)
}

/// Calls `see` for each block of a chunk, with the index of its first element and its elements as
/// little-endian floats of 32 bits.
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
