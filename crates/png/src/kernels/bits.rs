//! Packs the prefix codes of bytes, lowest bit first.

/// Longest code, in bits. Four codes and the bits of an incomplete byte fit 64 bits.
pub(crate) const CODE_BITS_MAX: usize = 14;

/// Most bytes whose codes are packed at once.
const LITERALS_MAX: usize = 2048;

/// Most packed bytes that are buffered before they are appended to the file.
const KEPT_BYTES_MAX: usize = 4096;

/// The code of each byte, arranged for both twins.
#[derive(Debug, Clone)]
pub(crate) struct ByteCodes {
    /// Code << 8 | length.
    entries: [u32; 256],
    low: [u8; 256],
    high: [u8; 256],
    lengths: [u8; 256],
}

impl Default for ByteCodes {
    fn default() -> Self {
        Self { entries: [0; 256], low: [0; 256], high: [0; 256], lengths: [0; 256] }
    }
}

impl ByteCodes {
    /// Sets the codes, first bit lowest, and their lengths of 0 to [`CODE_BITS_MAX`] bits.
    pub(crate) fn set(&mut self, codes: &[u16; 256], lengths: &[u8; 256]) {
        for i in 0..256 {
            let length = lengths[i].min(14);
            self.entries[i] = u32::from(codes[i]) << 8 | u32::from(length);
            [self.low[i], self.high[i]] = codes[i].to_le_bytes();
            self.lengths[i] = length;
        }
    }
}

/// The twin that packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// The scalar one.
    Scalar,
    /// The one for AVX-512 with VBMI. Only [`Packing::best`] makes it, if the processor has the instructions.
    #[cfg(target_arch = "x86_64")]
    Vbmi(private::IsThere),
}

mod private {
    /// Proof that the processor has the instructions.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct IsThere(pub(crate) ());
}

impl Packing {
    /// Returns the best twin for this processor.
    pub(crate) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("bmi2")
        {
            return Self::Vbmi(private::IsThere(()));
        }
        Self::Scalar
    }
}

/// A buffer of bits on their way to a file. The first bit is the lowest of a byte.
#[derive(Debug)]
pub(crate) struct Bits {
    packing: Packing,
    /// Whole bytes, with room for the codes of [`LITERALS_MAX`] more and a store of 8 bytes behind them.
    bytes: Box<[u8; KEPT_BYTES_MAX + LITERALS_MAX * CODE_BITS_MAX / 8 + 16]>,
    end: End,
    /// Codes, joined to at most 56 bits each, on their way to `bytes`.
    joined: Box<Joined>,
}

/// The end of the bits. A value of its own, so that it stays in registers in a loop.
#[derive(Debug, Clone, Copy, Default)]
struct End {
    n_bytes: usize,
    /// Bits of an incomplete byte, with zeros above them.
    pending: u64,
    /// Number of pending bits: 0 to 7.
    n_pending: u32,
}

/// Codes, joined to at most 56 bits each.
#[derive(Debug)]
struct Joined {
    bits: [u64; LITERALS_MAX / 4],
    n_bits: [u8; LITERALS_MAX / 4],
}

impl Bits {
    /// Returns an empty buffer.
    pub(crate) fn new(packing: Packing) -> Self {
        Self {
            packing,
            bytes: Box::new([0; _]),
            end: End::default(),
            joined: Box::new(Joined { bits: [0; _], n_bits: [0; _] }),
        }
    }

    /// Returns the bits of an incomplete byte and their number, 0 to 7.
    pub(crate) fn pending(&self) -> (u64, u32) {
        (self.end.pending, self.end.n_pending)
    }

    /// Discards everything and sets the bits of an incomplete byte.
    pub(crate) fn reset(&mut self, (pending, n_pending): (u64, u32)) {
        self.end = End { n_bytes: 0, pending, n_pending };
    }

    /// Moves the whole bytes to `out`.
    pub(crate) fn drain(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes[..self.end.n_bytes]);
        self.end.n_bytes = 0;
    }

    /// Appends `n` bits, at most 56. The bits above them must be 0.
    #[inline]
    pub(crate) fn put(&mut self, bits: u64, n: u32, out: &mut Vec<u8>) {
        if self.end.n_bytes > KEPT_BYTES_MAX {
            self.drain(out);
        }
        let mut end = self.end;
        end.append(bits, n, &mut *self.bytes);
        self.end = end;
    }

    /// Appends zeros up to the end of the byte.
    pub(crate) fn align(&mut self, out: &mut Vec<u8>) {
        self.put(0, (8 - self.end.n_pending) % 8, out);
    }

    /// Appends the codes of bytes.
    pub(crate) fn put_codes(&mut self, codes: &ByteCodes, bytes: &[u8], out: &mut Vec<u8>) {
        for bytes in bytes.chunks(LITERALS_MAX) {
            if self.end.n_bytes > KEPT_BYTES_MAX {
                self.drain(out);
            }
            match self.packing {
                // SAFETY: the variant exists only on processors with the instructions.
                #[cfg(target_arch = "x86_64")]
                Packing::Vbmi(_) if bytes.len() >= 64 => unsafe {
                    vbmi::put_codes(self, codes, bytes);
                },
                _ => {
                    let mut end = self.end;
                    end.append_codes(codes, bytes, &mut *self.bytes);
                    self.end = end;
                }
            }
        }
    }
}

impl End {
    /// Appends at most 56 bits to `room`. Only the lowest 8 bits of `n` count.
    #[inline]
    fn append(&mut self, bits: u64, n: u32, room: &mut [u8]) {
        let bits = self.pending | bits.wrapping_shl(self.n_pending);
        if let Some(place) = room.get_mut(self.n_bytes..self.n_bytes + 8) {
            place.copy_from_slice(&bits.to_le_bytes());
        }
        let n = self.n_pending + (n & 0xff);
        self.n_bytes += (n >> 3) as usize;
        self.pending = bits.wrapping_shr(n & !7);
        self.n_pending = n & 7;
    }

    #[inline]
    fn append_codes(&mut self, codes: &ByteCodes, bytes: &[u8], room: &mut [u8]) {
        let (fours, rest) = bytes.as_chunks::<4>();
        for four in fours {
            let (mut bits, mut n) = (0u64, 0u32);
            for &byte in four {
                let entry = codes.entries[usize::from(byte)];
                // The shift uses the lowest 6 bits of `n`, so the code above the length does no harm.
                bits |= u64::from(entry >> 8).wrapping_shl(n);
                n = n.wrapping_add(entry);
            }
            self.append(bits, n, room);
        }
        for &byte in rest {
            let entry = codes.entries[usize::from(byte)];
            self.append(u64::from(entry >> 8), entry, room);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod vbmi {
    use std::arch::x86_64::{
        __m512i, __mmask64, _mm_setr_epi32, _mm_storel_epi64, _mm512_add_epi8, _mm512_add_epi64,
        _mm512_and_si512, _mm512_broadcast_i32x4, _mm512_cmpgt_epu64_mask, _mm512_cvtepi64_epi8,
        _mm512_loadu_si512, _mm512_madd_epi16, _mm512_maddubs_epi16, _mm512_mask_permutexvar_epi8,
        _mm512_movepi8_mask, _mm512_or_si512, _mm512_permutex2var_epi64, _mm512_permutexvar_epi8,
        _mm512_set_epi64, _mm512_set1_epi8, _mm512_set1_epi16, _mm512_set1_epi32,
        _mm512_set1_epi64, _mm512_shuffle_epi8, _mm512_sllv_epi32, _mm512_sllv_epi64,
        _mm512_srli_epi32, _mm512_srli_epi64, _mm512_storeu_si512, _mm512_unpackhi_epi8,
        _mm512_unpackhi_epi64, _mm512_unpacklo_epi8, _mm512_unpacklo_epi64,
    };

    use super::{Bits, ByteCodes, Joined};

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
        let low = Table::new(&codes.low);
        let high = Table::new(&codes.high);
        let lengths = Table::new(&codes.lengths);
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
            end.append(bits, n.into(), &mut *out.bytes);
        }
        end.append_codes(codes, rest, &mut *out.bytes);
        out.end = end;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Codes of random bits, with lengths up to the limit.
    fn codes() -> impl Strategy<Value = (Vec<u16>, Vec<u8>)> {
        let length = 0..=u8::try_from(CODE_BITS_MAX).unwrap();
        let lengths = prop_oneof![length.clone().prop_map(|n| n..=n), Just(length)];
        lengths.prop_flat_map(|length| {
            let code = (any::<u16>(), length).prop_map(|(bits, n)| (bits & ((1 << n) - 1), n));
            prop::collection::vec(code, 256).prop_map(|codes| codes.into_iter().unzip())
        })
    }

    /// Packs bit by bit.
    fn plain(
        codes: &[u16],
        lengths: &[u8],
        bytes: &[u8],
        before: (u64, u32),
    ) -> (Vec<u8>, (u64, u32)) {
        let bits_of = |bits: u64, n: u32| (0..n).map(move |i| u8::from(bits >> i & 1 > 0));
        let mut bits: Vec<u8> = bits_of(before.0, before.1).collect();
        for &byte in bytes {
            let i = usize::from(byte);
            bits.extend(bits_of(codes[i].into(), lengths[i].into()));
        }
        let byte = |bits: &[u8]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | bit);
        let (bytes, rest) = bits.as_chunks::<8>();
        let after = (byte(rest).into(), u32::try_from(rest.len()).unwrap());
        (bytes.iter().map(|bits| byte(bits)).collect(), after)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn both_twins_pack_as_bit_by_bit(
            (codes, lengths) in codes(),
            bytes in prop::collection::vec(any::<u8>(), 0..3 * LITERALS_MAX),
            n_before in 0u32..8,
            bits in any::<u8>(),
        ) {
            let before = (u64::from(bits) & ((1 << n_before) - 1), n_before);
            let (want, after) = plain(&codes, &lengths, &bytes, before);
            let mut byte_codes = ByteCodes::default();
            byte_codes.set(codes.first_chunk().unwrap(), lengths.first_chunk().unwrap());
            for packing in [Packing::Scalar, Packing::best()] {
                let (mut bits, mut out) = (Bits::new(packing), Vec::new());
                bits.put(before.0, before.1, &mut out);
                bits.put_codes(&byte_codes, &bytes, &mut out);
                bits.drain(&mut out);
                prop_assert_eq!(&out, &want, "{:?}", packing);
                prop_assert_eq!(bits.pending(), after, "{:?}", packing);
            }
        }
    }
}
