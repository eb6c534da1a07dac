//! The twin for AVX-512 with VBMI.

use core::arch::x86_64::{
    __m512i, __mmask64, _mm_setr_epi32, _mm_storel_epi64, _mm512_add_epi8, _mm512_add_epi64,
    _mm512_and_si512, _mm512_broadcast_i32x4, _mm512_cmpgt_epu64_mask, _mm512_cvtepi64_epi8,
    _mm512_loadu_si512, _mm512_madd_epi16, _mm512_maddubs_epi16, _mm512_mask_permutexvar_epi8,
    _mm512_movepi8_mask, _mm512_or_si512, _mm512_permutex2var_epi64, _mm512_permutexvar_epi8,
    _mm512_set_epi64, _mm512_set1_epi8, _mm512_set1_epi16, _mm512_set1_epi32, _mm512_set1_epi64,
    _mm512_shuffle_epi8, _mm512_sllv_epi32, _mm512_sllv_epi64, _mm512_srli_epi32,
    _mm512_srli_epi64, _mm512_storeu_si512, _mm512_unpackhi_epi8, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi8, _mm512_unpacklo_epi64,
};

use super::scalar::append_codes;
use super::{Bits, ByteCodes, LITERALS_MAX};

/// Proof that the processor has the instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Detected(());

impl Detected {
    pub(super) fn new() -> Option<Self> {
        let is_there = std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512vl")
            && std::is_x86_feature_detected!("avx512vbmi")
            && std::is_x86_feature_detected!("bmi2");
        is_there.then_some(Self(()))
    }
}

/// Codes, joined to at most 56 bits each.
#[derive(Debug)]
pub(super) struct Joined {
    bits: [u64; LITERALS_MAX / 4],
    n_bits: [u8; LITERALS_MAX / 4],
}

impl Default for Joined {
    fn default() -> Self {
        Self { bits: [0; _], n_bits: [0; _] }
    }
}

/// A table of 256 bytes.
struct Table([__m512i; 4]);

impl Table {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,bmi2")]
    fn new(table: &[u8; 256]) -> Self {
        let quarters = table.as_chunks::<64>().0;
        Self([0, 1, 2, 3].map(|i: usize| load(&quarters[i])))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,bmi2")]
    fn look_up(&self, bytes: __m512i, is: &Quarters) -> __m512i {
        let found = _mm512_permutexvar_epi8(bytes, self.0[0]);
        let found = _mm512_mask_permutexvar_epi8(found, is.odd, bytes, self.0[1]);
        let found = _mm512_mask_permutexvar_epi8(found, is.upper, bytes, self.0[2]);
        _mm512_mask_permutexvar_epi8(found, is.upper & is.odd, bytes, self.0[3])
    }
}

/// The quarter of a table for each byte that is looked up.
struct Quarters {
    /// The second or the fourth.
    odd: __mmask64,
    /// The third or the fourth.
    upper: __mmask64,
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the 64 bytes are there, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

impl Joined {
    /// Stores eight joined codes from `start` on.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn put(&mut self, start: usize, bits: __m512i, n_bits: __m512i) {
        let places = self.bits[start..].first_chunk_mut::<8>();
        let n_places = self.n_bits[start..].first_chunk_mut::<8>();
        if let (Some(places), Some(n_places)) = (places, n_places) {
            // SAFETY: 64 and 8 bytes are there, and the stores need no alignment.
            unsafe {
                _mm512_storeu_si512(places.as_mut_ptr().cast(), bits);
                let n_bits = _mm512_cvtepi64_epi8(n_bits);
                _mm_storel_epi64(n_places.as_mut_ptr().cast(), n_bits);
            }
        }
    }
}

/// Returns a shuffle that spreads four of 16 bytes to lanes of 32 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,bmi2")]
fn spread(places: [u8; 4]) -> __m512i {
    let [first, second, third, fourth] =
        places.map(|place| i32::from_le_bytes([place, 255, 255, 255]));
    _mm512_broadcast_i32x4(_mm_setr_epi32(first, second, third, fourth))
}

/// Joins codes in lanes of 16 bits to four in each lane of 64 bits. `n_even` are the lengths of the even
/// codes in lanes of 32 bits, `n_even_twos` those of the even pairs in lanes of 64 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,bmi2")]
fn joined(codes: __m512i, n_even: __m512i, n_even_twos: __m512i) -> __m512i {
    let even = _mm512_and_si512(codes, _mm512_set1_epi32(0xffff));
    let odd = _mm512_srli_epi32::<16>(codes);
    let twos = _mm512_or_si512(even, _mm512_sllv_epi32(odd, n_even));
    let even = _mm512_and_si512(twos, _mm512_set1_epi64(0xffff_ffff));
    let odd = _mm512_srli_epi64::<32>(twos);
    _mm512_or_si512(even, _mm512_sllv_epi64(odd, n_even_twos))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,bmi2")]
pub(crate) fn put_codes(out: &mut Bits, codes: &ByteCodes, bytes: &[u8]) {
    let low = Table::new(&codes.tables.low);
    let high = Table::new(&codes.tables.high);
    let lengths = Table::new(&codes.tables.lengths);
    let mut n_joined = 0;
    let (chunks, rest) = bytes.as_chunks::<64>();
    for chunk in chunks {
        let bytes = load(chunk);
        let is = Quarters {
            odd: _mm512_movepi8_mask(_mm512_add_epi8(bytes, bytes)),
            upper: _mm512_movepi8_mask(bytes),
        };
        let low = low.look_up(bytes, &is);
        let high = high.look_up(bytes, &is);
        let n = lengths.look_up(bytes, &is);
        let n_twos = _mm512_maddubs_epi16(n, _mm512_set1_epi8(1));
        let n_fours = _mm512_madd_epi16(n_twos, _mm512_set1_epi16(1));
        // The first and the last 8 of each 16 bytes.
        let first = joined(
            _mm512_unpacklo_epi8(low, high),
            _mm512_shuffle_epi8(n, spread([0, 2, 4, 6])),
            _mm512_shuffle_epi8(n_twos, spread([0, 255, 4, 255])),
        );
        let last = joined(
            _mm512_unpackhi_epi8(low, high),
            _mm512_shuffle_epi8(n, spread([8, 10, 12, 14])),
            _mm512_shuffle_epi8(n_twos, spread([8, 255, 12, 255])),
        );
        let n_even = _mm512_and_si512(n_fours, _mm512_set1_epi64(63));
        let n_odd = _mm512_srli_epi64::<32>(n_fours);
        // In each lane: four codes in `even`, the next four in `odd`.
        let even = _mm512_unpacklo_epi64(first, last);
        let odd = _mm512_unpackhi_epi64(first, last);
        let n = _mm512_add_epi64(n_even, n_odd);
        if _mm512_cmpgt_epu64_mask(n, _mm512_set1_epi64(56)) == 0 {
            let bits = _mm512_or_si512(even, _mm512_sllv_epi64(odd, n_even));
            out.joined.put(n_joined, bits, n);
            n_joined += 8;
        } else {
            // Back in order: the first of `even`, the first of `odd`, and so on.
            let first = _mm512_set_epi64(11, 3, 10, 2, 9, 1, 8, 0);
            let last = _mm512_set_epi64(15, 7, 14, 6, 13, 5, 12, 4);
            for order in [first, last] {
                let bits = _mm512_permutex2var_epi64(even, order, odd);
                let n = _mm512_permutex2var_epi64(n_even, order, n_odd);
                out.joined.put(n_joined, bits, n);
                n_joined += 8;
            }
        }
    }
    let mut end = out.end;
    let joined = out.joined.bits.iter().zip(&out.joined.n_bits);
    for (&bits, &n) in joined.take(n_joined) {
        end.append(bits, n.into(), &mut out.bytes);
    }
    out.end = append_codes(end, codes, rest, &mut out.bytes);
}
