//! Random numbers, numbers from the environment, and the number of random cases.

use proptest::prelude::ProptestConfig;

/// A generator of pseudorandom numbers (`SplitMix64`), so that a seed always gives the same numbers.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut n = self.0;
        n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        n ^ (n >> 31)
    }

    /// Returns a number from 0 to `n` − 1, or 0 if `n` is 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// Returns at least `n` random bytes.
    pub(crate) fn noise(&mut self, n: u64) -> Vec<u8> {
        (0..n.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect()
    }
}

/// Returns the number in an environment variable, or `default` if it is not set.
pub(crate) fn number_from(variable: &str, default: u64) -> u64 {
    optional_number_from(variable).unwrap_or(default)
}

/// Returns the number in an environment variable.
pub(crate) fn optional_number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|n| n.parse().ok())
}

/// Returns the settings of a property test. The variable says how many cases it has; if it is not set, there
/// are `default`. A case takes a second or more, so few steps go into making a failure smaller.
pub(crate) fn random_cases(variable: &str, default: u64) -> ProptestConfig {
    ProptestConfig {
        cases: u32::try_from(number_from(variable, default)).expect("a number"),
        failure_persistence: None,
        max_shrink_iters: 60,
        ..ProptestConfig::default()
    }
}
