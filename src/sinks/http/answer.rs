//! What an answer that says no means. Pure.

use std::time::Duration;

use chrono::DateTime;
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use serde_json::Value;

/// Whether an answer that says no may be another one later.
pub(super) enum Later {
    No,
    Yes { after: Option<Duration> },
    Moved { to: String },
}

impl Later {
    /// Of an answer with this status and these headers. `now` is in seconds since the Unix epoch.
    pub(super) fn of(status: StatusCode, headers: &HeaderMap, now: u64) -> Self {
        if status.is_redirection() {
            let to = headers.get(LOCATION).and_then(|to| to.to_str().ok());
            // What follows the path may be secret.
            let to = to.and_then(|to| to.split(['?', '#']).next());
            return Self::Moved { to: to.map(|to| format!(" to {to}")).unwrap_or_default() };
        }
        let is_for_now = status.is_server_error()
            || matches!(
                status,
                StatusCode::UNAUTHORIZED
                    | StatusCode::FORBIDDEN
                    | StatusCode::REQUEST_TIMEOUT
                    | StatusCode::TOO_EARLY
                    | StatusCode::TOO_MANY_REQUESTS
            );
        if is_for_now { Self::Yes { after: asked_pause(headers, now) } } else { Self::No }
    }
}

/// `Retry-After`: seconds, or a date. A date is compared with the target's own clock, if it tells that.
fn asked_pause(headers: &HeaderMap, now: u64) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let asked = text(RETRY_AFTER)?.trim();
    if let Ok(seconds) = asked.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now = text(DATE).and_then(seconds_of_date).unwrap_or(now);
    Some(Duration::from_secs(seconds_of_date(asked)?.saturating_sub(now)))
}

/// Seconds since the Unix epoch of a date as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
///
/// Source: RFC 9110, section 5.6.7, without its two obsolete forms.
fn seconds_of_date(date: &str) -> Option<u64> {
    let date = DateTime::parse_from_rfc2822(date.trim()).ok()?;
    date.timestamp().try_into().ok()
}

/// What an answer that says no says, on one line: of JSON the message.
pub(super) fn words_in(body: &[u8]) -> String {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let said = json.as_ref().and_then(|json| {
        let fields = ["message", "detail", "error"];
        fields.iter().find_map(|field| json.get(field)?.as_str()).map(str::to_owned)
    });
    let said = said.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    said.split_whitespace().collect::<Vec<_>>().join(" ")
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
