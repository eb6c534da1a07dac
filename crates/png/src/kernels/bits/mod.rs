//! Packs the prefix codes of bytes, lowest bit first.

mod scalar;
#[cfg(all(target_arch = "x86_64", feature = "std"))]
mod vbmi;

use alloc::boxed::Box;
use alloc::vec::Vec;

use self::scalar::append_codes;

/// Longest code, in bits. Four codes and the bits of an incomplete byte fit 64 bits.
pub(crate) const CODE_BITS_MAX: usize = 14;

/// Most bytes whose codes are packed at once.
const LITERALS_MAX: usize = 2048;

/// Most packed bytes that are buffered before they are appended to the file.
const KEPT_BYTES_MAX: usize = 4096;

/// The code of each byte, arranged for both twins.
#[derive(Debug, Clone)]
pub(crate) struct ByteCodes {
    codes: [u64; 256],
    lengths: [u32; 256],
    tables: ByteTables,
}

/// The code of each byte, in tables of bytes.
#[derive(Debug, Clone)]
struct ByteTables {
    low: [u8; 256],
    high: [u8; 256],
    lengths: [u8; 256],
}

impl Default for ByteCodes {
    fn default() -> Self {
        let tables = ByteTables { low: [0; 256], high: [0; 256], lengths: [0; 256] };
        Self { codes: [0; 256], lengths: [0; 256], tables }
    }
}

impl ByteCodes {
    /// Sets the codes, first bit lowest, and their lengths of 0 to [`CODE_BITS_MAX`] bits.
    pub(crate) fn set(&mut self, codes: &[u16; 256], lengths: &[u8; 256]) {
        self.codes = codes.map(u64::from);
        self.lengths = lengths.map(u32::from);
        let tables = &mut self.tables;
        tables.lengths = *lengths;
        tables.low = codes.map(|code| code.to_le_bytes()[0]);
        tables.high = codes.map(|code| code.to_le_bytes()[1]);
    }
}

/// The twin that packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// The scalar one.
    Scalar,
    /// The one for AVX-512 with VBMI, if the processor has the instructions.
    #[cfg(all(target_arch = "x86_64", feature = "std"))]
    Vbmi(vbmi::Detected),
}

impl Packing {
    /// Returns the best twin for this processor.
    pub(crate) fn best() -> Self {
        #[cfg(all(target_arch = "x86_64", feature = "std"))]
        if let Some(detected) = vbmi::Detected::new() {
            return Self::Vbmi(detected);
        }
        Self::Scalar
    }
}

/// Room for [`KEPT_BYTES_MAX`] bytes, the codes of [`LITERALS_MAX`] more, and a store of 8 bytes behind them.
type Room = [u8; ROOM_MASK + 8];

/// Largest index of a store. All bits are 1, so that an index needs no comparison.
const ROOM_MASK: usize = 0x1fff;

const _: () = assert!(KEPT_BYTES_MAX + LITERALS_MAX * CODE_BITS_MAX / 8 + 16 < ROOM_MASK);

/// Stores 8 bytes, the lowest first.
#[inline]
fn store(room: &mut Room, start: usize, bits: u64) {
    if let Some(place) = room[start & ROOM_MASK..].first_chunk_mut() {
        *place = bits.to_le_bytes();
    }
}

/// A buffer of bits on their way to a file. The first bit is the lowest of a byte.
#[derive(Debug)]
pub(crate) struct Bits {
    packing: Packing,
    /// Whole bytes.
    bytes: Box<Room>,
    end: End,
    /// Codes on their way to `bytes`.
    #[cfg(all(target_arch = "x86_64", feature = "std"))]
    joined: Box<vbmi::Joined>,
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

impl Bits {
    /// Returns an empty buffer.
    pub(crate) fn new(packing: Packing) -> Self {
        Self {
            packing,
            bytes: Box::new([0; _]),
            end: End::default(),
            #[cfg(all(target_arch = "x86_64", feature = "std"))]
            joined: Box::default(),
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
        end.append(bits, n, &mut self.bytes);
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
                #[cfg(all(target_arch = "x86_64", feature = "std"))]
                Packing::Vbmi(_) if bytes.len() >= 64 => unsafe {
                    vbmi::put_codes(self, codes, bytes);
                },
                _ => self.end = append_codes(self.end, codes, bytes, &mut self.bytes),
            }
        }
    }
}

impl End {
    /// Appends at most 56 bits to `room`. The bits above them must be 0.
    #[inline]
    fn append(&mut self, bits: u64, n: u32, room: &mut Room) {
        let bits = self.pending | bits.wrapping_shl(self.n_pending);
        store(room, self.n_bytes, bits);
        let n = self.n_pending + n;
        self.n_bytes += (n >> 3) as usize;
        self.pending = bits.wrapping_shr(n & !7);
        self.n_pending = n & 7;
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
