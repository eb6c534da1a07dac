//! The limits of requests.

use super::api::RequestLimits;

/// The runs that a request to `runs` or `at` may name.
pub(super) const RUNS_ASKED_MAX: usize = 64;

/// The limits that `/api/v1/info` tells.
pub(super) const LIMITS: RequestLimits = RequestLimits {
    runs_max: 500,
    at_items_max: 1000,
    items_max: 500,
    frame_steps_max: 256,
    frames_bytes_max: 4 << 20,
    answer_bytes_max: 16 << 20,
    pixels_max: 32_000_000,
    export_items_max: 10_000,
    compare_max: 9,
};
