//! The limits of requests.

use super::api::RequestLimits;

/// The limits that `/api/v1/info` tells.
pub(super) const LIMITS: RequestLimits = RequestLimits {
    at_items_max: 1000,
    items_max: 500,
    frame_steps_max: 256,
    frames_bytes_max: 4 << 20,
    answer_bytes_max: 16 << 20,
    pixels_max: 32_000_000,
    export_items_max: 10_000,
    compare_max: 9,
};
