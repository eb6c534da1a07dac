//! The scalar twin. It joins the codes of six bytes before it appends them.

use super::{ByteCodes, End, Room};
use crate::kernels::for_more_instructions;

/// Most bits that are appended at once. The bits of an incomplete byte fit 64 bits with them.
const APPENDED_MAX: u32 = 56;

impl ByteCodes {
    /// Joins three codes. Returns their bits and the number of bits.
    #[inline]
    fn joined(&self, three: [u8; 3]) -> (u64, u32) {
        let [first, second, third] = three.map(usize::from);
        let n_two = self.lengths[first] + self.lengths[second];
        let two = self.codes[first] | self.codes[second].wrapping_shl(self.lengths[first]);
        (two | self.codes[third].wrapping_shl(n_two), n_two + self.lengths[third])
    }
}

for_more_instructions! {
    /// Appends the codes of bytes.
    pub(super) fn append_codes(end: End, codes: &ByteCodes, bytes: &[u8], room: &mut Room) -> End {
        let mut end = end;
        let (sixes, rest) = bytes.as_chunks::<6>();
        for &[a, b, c, d, e, f] in sixes {
            let (first, n_first) = codes.joined([a, b, c]);
            let (last, n_last) = codes.joined([d, e, f]);
            // Nearly always: so the branch is predictable, unlike that of more bytes.
            if n_first + n_last <= APPENDED_MAX {
                end.append(first | last.wrapping_shl(n_first), n_first + n_last, room);
            } else {
                end.append(first, n_first, room);
                end.append(last, n_last, room);
            }
        }
        for &byte in rest {
            let byte = usize::from(byte);
            end.append(codes.codes[byte], codes.lengths[byte], room);
        }
        end
    }
}
