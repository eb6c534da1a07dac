//! Kernels in vector instructions, each behind a safe function and beside a scalar twin that gives the
//! same. Pure.
#![expect(unsafe_code, reason = "vector loads and stores, and calls that need the right processor")]

pub(crate) mod cast;
pub(crate) mod half;
pub(crate) mod planes;

/// Compiles functions for several sets of instructions, one source for all; the processor decides which is
/// called. Results must not depend on it: sums go by a fixed number of lanes.
macro_rules! for_more_instructions {
    ($($function:item)+) => {$(
        #[multiversion::multiversion(targets(
            "x86_64+avx512f+avx512bw+avx512vl+avx512dq+avx2+fma+bmi2+f16c+lzcnt+popcnt",
            "x86_64+avx2+fma+bmi2+f16c"
        ))]
        $function
    )+};
}
pub(crate) use for_more_instructions;
