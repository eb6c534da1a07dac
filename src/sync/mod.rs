//! The journals → the targets.
mod backoff;
mod lanes;
