//! Conditional requests, and requests for a part of a file (RFC 9110, sections 13 and 14). Pure.

use std::ops::Range;

use axum::http::{HeaderMap, HeaderName, header};

/// The part of a file that a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// These bytes; at least one.
    Bytes(Range<u64>),
    /// Bytes that the file does not have.
    Beyond,
}

/// Returns the part of a file of `size` bytes that a request asks for. Several ranges, other units and ranges of
/// another version of the file count as the whole file, as the RFC allows.
pub(super) fn part(headers: &HeaderMap, etag: &str, size: u64) -> Part {
    let is_of_this_version = text(headers, &header::IF_RANGE).is_none_or(|given| given == etag);
    let range = text(headers, &header::RANGE).filter(|_| is_of_this_version);
    let Some((first, last)) =
        range.and_then(|range| range.strip_prefix("bytes=")?.trim().split_once('-'))
    else {
        return Part::Whole;
    };
    let range = match (first, last) {
        ("", last) => number(last).map(|n| (size.saturating_sub(n), size)),
        (first, "") => number(first).map(|first| (first, size)),
        (first, last) => {
            let both = number(first).zip(number(last)).filter(|(first, last)| first <= last);
            both.map(|(first, last)| (first, last.saturating_add(1).min(size)))
        }
    };
    match range {
        None => Part::Whole,
        Some((first, end)) if first < end => Part::Bytes(first..end),
        Some(_) => Part::Beyond,
    }
}

/// A number. If it has more than 64 bits, the greatest one.
fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Whether the client has the version with this strong `ETag`.
pub(super) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let tags =
        headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = tags.flat_map(|value| value.split(','));
    tags.any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let pairs = pairs.iter().cloned();
        pairs.map(|(name, value)| (name, value.parse().expect("a value"))).collect()
    }

    #[test]
    fn a_part_is_read_as_the_rfc_says() {
        for (range, want) in [
            ("bytes=0-0", Part::Bytes(0..1)),
            ("bytes=0-99", Part::Bytes(0..100)),
            ("bytes=10-", Part::Bytes(10..100)),
            ("bytes=10-1000", Part::Bytes(10..100)),
            ("bytes=99-99999999999999999999999", Part::Bytes(99..100)),
            ("bytes=-1", Part::Bytes(99..100)),
            ("bytes=-1000", Part::Bytes(0..100)),
            ("bytes=100-", Part::Beyond),
            ("bytes=100-200", Part::Beyond),
            ("bytes=99999999999999999999999-", Part::Beyond),
            ("bytes=-0", Part::Beyond),
            ("bytes=7-3", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=0-1,5-6", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=1--2", Part::Whole),
            ("rows=0-1", Part::Whole),
            ("", Part::Whole),
        ] {
            let headers = headers(&[(header::RANGE, range)]);
            assert_eq!(part(&headers, "\"a\"", 100), want, "{range}");
        }
        let empty = headers(&[(header::RANGE, "bytes=0-")]);
        assert_eq!(part(&empty, "\"a\"", 0), Part::Beyond);
    }

    #[test]
    fn a_range_of_another_version_is_the_whole_file() {
        for (version, want) in
            [("\"a\"", Part::Bytes(0..5)), ("\"b\"", Part::Whole), ("W/\"a\"", Part::Whole)]
        {
            let headers = headers(&[(header::RANGE, "bytes=0-4"), (header::IF_RANGE, version)]);
            assert_eq!(part(&headers, "\"a\"", 100), want, "{version}");
        }
    }

    #[test]
    fn a_known_version_is_found_in_the_list() {
        for (given, want) in [
            ("\"a\"", true),
            ("\"b\", W/\"a\"", true),
            ("*", true),
            ("\"b\"", false),
            ("a", false),
            ("", false),
        ] {
            assert_eq!(is_known(&headers(&[(header::IF_NONE_MATCH, given)]), "\"a\""), want);
        }
        assert!(!is_known(&HeaderMap::new(), "\"a\""));
    }
}
