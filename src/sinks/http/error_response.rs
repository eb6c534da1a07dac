//! Classifies error responses. Pure.

use std::time::Duration;

use chrono::DateTime;
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use serde_json::Value;

/// What an error response says about the same request later.
pub(super) enum ErrorResponse {
    /// The target will refuse it again.
    Permanent,
    /// It may succeed, after the pause that the target requests.
    Temporary { after: Option<Duration> },
    /// It must go to another URL.
    Moved,
}

impl ErrorResponse {
    /// Classifies a status with its headers. `now` is in seconds since the Unix epoch.
    pub(super) fn of(status: StatusCode, headers: &HeaderMap, now: u64) -> Self {
        if status.is_redirection() {
            return Self::Moved;
        }
        let is_temporary = status.is_server_error()
            || matches!(
                status,
                StatusCode::UNAUTHORIZED
                    | StatusCode::FORBIDDEN
                    | StatusCode::REQUEST_TIMEOUT
                    | StatusCode::TOO_EARLY
                    | StatusCode::TOO_MANY_REQUESTS
            );
        if is_temporary {
            Self::Temporary { after: retry_after(headers, now) }
        } else {
            Self::Permanent
        }
    }
}

/// Reads `Retry-After`, in seconds or as a date. A date is compared with the `Date` of the answer if there is one.
fn retry_after(headers: &HeaderMap, now: u64) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let pause = text(RETRY_AFTER)?.trim();
    if let Ok(seconds) = pause.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now = text(DATE).and_then(seconds_of_date).unwrap_or(now);
    Some(Duration::from_secs(seconds_of_date(pause)?.saturating_sub(now)))
}

/// Converts an HTTP date to seconds since the Unix epoch: `Sun, 06 Nov 1994 08:49:37 GMT`.
///
/// Source: RFC 9110, section 5.6.7, without its two obsolete forms.
fn seconds_of_date(date: &str) -> Option<u64> {
    let date = DateTime::parse_from_rfc2822(date.trim()).ok()?;
    date.timestamp().try_into().ok()
}

/// Returns the message of an error response. In JSON, this is the field with the message.
pub(super) fn message_in(body: &[u8]) -> String {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let message = json.as_ref().and_then(|json| {
        let fields = ["message", "detail", "error"];
        fields.iter().find_map(|field| json.get(field)?.as_str()).map(str::to_owned)
    });
    message.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds() {
        for (date, want) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            // `date -ud '…' +%s`
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some(1_709_251_199)),
            ("Fri, 01 Mar 2024 00:00:00 GMT", Some(1_709_251_200)),
            ("Thu, 26 Nov 2026 10:00:00 GMT", Some(1_795_687_200)),
            ("Thu, 26 Nov 2026 10:00:00 CET", None),
            ("Thu, 00 Nov 2026 10:00:00 GMT", None),
            ("Thu, 26 Nov 18446744073709551615 10:00:00 GMT", None),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("", None),
        ] {
            assert_eq!(seconds_of_date(date), want, "{date}");
        }
    }
}
