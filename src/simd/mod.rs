//! Kernels in vector instructions, each behind a safe function and beside a scalar twin that gives the
//! same. Pure.
#![expect(unsafe_code, reason = "vector loads and stores, and calls that need the right processor")]

pub(crate) mod bits;
pub(crate) mod cast;
pub(crate) mod half;
pub(crate) mod planes;
pub(crate) mod zeros;
