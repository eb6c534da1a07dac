//! Prefix codes: the best lengths under a limit, and the canonical codes for them.

/// Sets the code length of each symbol that occurs, at most `limit` bits. Returns the bits of all symbols
/// together.
///
/// The lengths are the best without the limit, and nearly the best with it. Kraft's sum is exactly 1, or a
/// single symbol has length 1.
///
/// Sorted counts become lengths in place (Moffat and Katajainen, 1995). Then lengths above the limit are cut,
/// and the code is made complete again as in zlib.
pub(crate) fn code_lengths(counts: &[u32], limit: usize, lengths: &mut [u8]) -> u64 {
    lengths.fill(0);
    let mut order = [0u64; N_SYMBOLS_MAX];
    let mut n = 0;
    for (symbol, &count) in (0u64..).zip(counts) {
        // Always written, but `n` counts it only if the symbol occurs: no branch.
        order[n] = u64::from(count) << COUNT_SHIFT | symbol;
        n += usize::from(count > 0);
    }
    let order = &mut order[..n];
    sort(order);
    let symbol_of = |key: u64| usize::try_from(key & 511).unwrap_or(0);
    if n < 2 {
        order.iter().for_each(|&key| lengths[symbol_of(key)] = 1);
        return order.iter().map(|key| key >> COUNT_SHIFT).sum();
    }
    let mut tree = [0u32; N_SYMBOLS_MAX];
    let tree = &mut tree[..n];
    for (node, key) in tree.iter_mut().zip(&*order) {
        *node = u32::try_from(key >> COUNT_SHIFT).unwrap_or(u32::MAX);
    }
    let mut n_of_length = lengths_in_place(tree);
    limit_lengths(&mut n_of_length, limit);
    // The rarest symbols get the longest codes.
    let (mut rest, mut n_bits) = (&*order, 0);
    for (length, &n) in (0u8..64).zip(&n_of_length).rev() {
        let keys;
        (keys, rest) = rest.split_at(n);
        keys.iter().for_each(|&key| lengths[symbol_of(key)] = length);
        n_bits += u64::from(length) * keys.iter().map(|key| key >> COUNT_SHIFT).sum::<u64>();
    }
    n_bits
}

const N_SYMBOLS_MAX: usize = 288;

/// Shift of the count in a key. The symbol is below it.
const COUNT_SHIFT: u32 = 9;

/// Sorts keys whose symbols are in rising order. In small pictures nearly all counts are small, and many
/// symbols share a count, so small counts are sorted by counting.
fn sort(keys: &mut [u64]) {
    /// Counts below this have a bucket of their own.
    const N_SMALL: usize = 32;
    if keys.len() < N_SMALL {
        return keys.sort_unstable();
    }
    let place = |key: u64| usize::try_from(key >> COUNT_SHIFT).map_or(N_SMALL, |n| n.min(N_SMALL));
    let mut ends = [0; N_SMALL + 1];
    keys.iter().for_each(|&key| ends[place(key)] += 1);
    let mut end = 0;
    for n in &mut ends {
        end += core::mem::replace(n, end);
    }
    let mut sorted = [0; N_SYMBOLS_MAX];
    for &key in &*keys {
        let end = &mut ends[place(key)];
        sorted[*end] = key;
        *end += 1;
    }
    keys.copy_from_slice(&sorted[..keys.len()]);
    keys[ends[N_SMALL - 1]..].sort_unstable();
}

/// Longest code without a limit: 288 symbols with counts of 32 bits make none longer.
const DEPTH_MAX: usize = 64;

/// Converts at least two counts in rising order to the number of codes of each length.
fn lengths_in_place(tree: &mut [u32]) -> [usize; DEPTH_MAX] {
    let n = tree.len();
    let index = |node: u32| usize::try_from(node).unwrap_or(0);
    // Inner nodes overwrite leaves that are used up. An inner node is then overwritten by the index of its
    // parent.
    let (mut root, mut leaf) = (0, 0);
    for next in 0..n - 1 {
        let mut sum = 0u32;
        for _ in 0..2 {
            if leaf >= n || root < next && tree[root] < tree[leaf] {
                sum = sum.saturating_add(tree[root]);
                tree[root] = u32::try_from(next).unwrap_or(0);
                root += 1;
            } else {
                sum = sum.saturating_add(tree[leaf]);
                leaf += 1;
            }
        }
        tree[next] = sum;
    }
    // Parents → depths.
    tree[n - 2] = 0;
    for next in (0..n - 2).rev() {
        tree[next] = tree[index(tree[next])] + 1;
    }
    // Depths of inner nodes → depths of leaves.
    let mut n_of_length = [0; DEPTH_MAX];
    let (mut n_free, mut depth, mut inner) = (1, 0, n - 1);
    while n_free > 0 {
        let mut n_inner = 0;
        while inner > 0 && index(tree[inner - 1]) == depth {
            n_inner += 1;
            inner -= 1;
        }
        n_of_length[depth.min(DEPTH_MAX - 1)] += n_free - n_inner;
        n_free = 2 * n_inner;
        depth += 1;
    }
    n_of_length
}

/// Cuts lengths above the limit, and lengthens others until the code is complete again.
fn limit_lengths(n_of_length: &mut [usize; DEPTH_MAX], limit: usize) {
    let n_longer: usize = n_of_length[limit + 1..].iter().sum();
    if n_longer == 0 {
        return;
    }
    n_of_length[limit + 1..].fill(0);
    n_of_length[limit] += n_longer;
    let used = |(length, n): (usize, &usize)| n << (limit - length);
    let mut sum: usize = n_of_length[..=limit].iter().enumerate().map(used).sum();
    while sum > 1 << limit {
        // A shorter code grows by a bit, and a code of full length becomes its sibling.
        n_of_length[limit] -= 1;
        if let Some(length) = (1..limit).rev().find(|&length| n_of_length[length] > 0) {
            n_of_length[length] -= 1;
            n_of_length[length + 1] += 2;
        }
        sum -= 1;
    }
}

/// Computes the canonical codes for these lengths, first bit lowest, as deflate writes them.
pub(crate) fn canonical_codes(lengths: &[u8], codes: &mut [u16]) {
    codes.fill(0);
    // Symbols without a code are left out: below, symbols of the same length wait for each other.
    let mut used = [0u16; N_SYMBOLS_MAX];
    let mut n = 0;
    for (symbol, &length) in (0u16..).zip(lengths) {
        used[n] = symbol;
        n += usize::from(length > 0);
    }
    let used = &used[..n];
    let mut next = [0u16; 17];
    used.iter().for_each(|&symbol| next[usize::from(lengths[usize::from(symbol)]) + 1] += 1);
    // From the number of codes that are one bit shorter to the first code of each length.
    let mut first = 0;
    for next in &mut next[1..] {
        first = (first + *next) << 1;
        *next = first;
    }
    for symbol in used.iter().map(|&symbol| usize::from(symbol)) {
        let length = lengths[symbol];
        let next = &mut next[usize::from(length)];
        codes[symbol] = next.reverse_bits().checked_shr(16 - u32::from(length)).unwrap_or(0);
        *next = next.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Kraft's sum, in units of 2⁻¹⁶.
    fn kraft(lengths: &[u8]) -> u32 {
        lengths.iter().filter(|&&length| length > 0).map(|&length| 1 << (16 - length)).sum()
    }

    fn n_bits(counts: &[u32], lengths: &[u8]) -> u64 {
        counts.iter().zip(lengths).map(|(&n, &length)| u64::from(n) * u64::from(length)).sum()
    }

    #[test]
    fn lengths_are_those_of_a_tree_by_hand() {
        let check = |counts: &[u32], limit, want: &[u8]| {
            let mut lengths = vec![9; counts.len()];
            let n = code_lengths(counts, limit, &mut lengths);
            assert_eq!(lengths, want, "{counts:?}");
            assert_eq!(n, n_bits(counts, want), "{counts:?}");
        };
        check(&[], 14, &[]);
        check(&[0, 0], 14, &[0, 0]);
        check(&[0, 7], 14, &[0, 1]);
        check(&[1, 7], 14, &[1, 1]);
        check(&[1, 1, 2, 4, 8], 14, &[4, 4, 3, 2, 1]);
        check(&[5, 0, 5, 5, 5], 14, &[2, 0, 2, 2, 2]);
        check(&[1, 1, 2, 4, 8], 3, &[3, 3, 3, 3, 1]);
        check(&[1, 1, 1, 1, 100], 3, &[3, 3, 3, 3, 1]);
    }

    #[test]
    fn codes_are_those_of_the_specification() {
        // RFC 1951, 3.2.2: 010 011 100 101 110 00 1110 1111, here with the first bit lowest.
        let mut codes = [0; 8];
        canonical_codes(&[3, 3, 3, 3, 3, 2, 4, 4], &mut codes);
        assert_eq!(codes, [0b010, 0b110, 0b001, 0b101, 0b011, 0b00, 0b0111, 0b1111]);
    }

    proptest! {
        #[test]
        fn keys_are_sorted(counts in prop::collection::vec(prop_oneof![1u64..40, 1u64..1 << 32], 0..=288)) {
            let mut keys: Vec<u64> = counts.iter().zip(0..).map(|(n, symbol)| n << 9 | symbol).collect();
            let mut want = keys.clone();
            sort(&mut keys);
            want.sort_unstable();
            prop_assert_eq!(keys, want);
        }

        #[test]
        fn every_code_is_whole_and_within_the_limit(
            counts in prop::collection::vec(
                prop_oneof![Just(0), 1u32..4, 1u32..100_000, (0u32..32).prop_map(|n| 1 << n)],
                2..=286,
            ),
            is_small in any::<bool>(),
        ) {
            let (counts, limit) = if is_small { (&counts[..counts.len().min(19)], 7) } else { (&counts[..], 14) };
            let mut lengths = vec![0; counts.len()];
            let n = code_lengths(counts, limit, &mut lengths);
            prop_assert_eq!(n, n_bits(counts, &lengths));
            let n = counts.iter().filter(|&&count| count > 0).count();
            for (&count, &length) in counts.iter().zip(&lengths) {
                prop_assert_eq!(count > 0, length > 0);
                prop_assert!(usize::from(length) <= limit);
            }
            prop_assert!(n < 2 || kraft(&lengths) == 1 << 16, "{:?}", lengths);
            // No code of equal lengths is better.
            let flat = vec![u8::try_from(n.next_power_of_two().ilog2()).unwrap().max(1); counts.len()];
            prop_assert!(n_bits(counts, &lengths) <= n_bits(counts, &flat));
        }
    }
}
