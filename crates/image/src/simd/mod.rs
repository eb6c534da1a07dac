//! Vector kernels: each behind a safe function, beside a scalar twin with the same result.
#![expect(unsafe_code, reason = "vector loads and stores, and calls that need the right processor")]

pub(crate) mod cast;
pub(crate) mod half;
pub(crate) mod planes;
pub(crate) mod transpose;

/// Compiles functions for several sets of instructions and chooses one at run time. The result of a
/// function must not depend on the choice, so sums use a fixed number of lanes.
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
