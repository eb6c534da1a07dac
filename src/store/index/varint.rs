//! Numbers in few bytes: seven bits in each, the lowest first, the highest bit set in all but the last.

/// Appends a number.
pub(super) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// Takes a number from the front. `None` if none stands there.
pub(super) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let low = u64::from(byte & 0x7f);
        if (low << shift) >> shift != low {
            return None;
        }
        number |= low << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Appends a length.
pub(super) fn put_length(bytes: &mut Vec<u8>, length: usize) {
    put(bytes, length as u64);
}

/// Takes a length from the front.
pub(super) fn take_length(bytes: &mut &[u8]) -> Option<usize> {
    take(bytes).and_then(|length| usize::try_from(length).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_comes_back_and_nothing_behind_it_is_taken(number: u64, shift in 0..64u32, rest: Vec<u8>) {
            let number = number >> shift;
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            for end in 0..bytes.len() {
                prop_assert_eq!(take(&mut &bytes[..end]), None, "cut at {}", end);
            }
            bytes.extend(&rest);
            let mut front = &bytes[..];
            prop_assert_eq!(take(&mut front), Some(number));
            prop_assert_eq!(front, rest);
        }
    }
}
