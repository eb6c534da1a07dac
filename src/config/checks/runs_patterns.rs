//! Whether two patterns of run directories may name the same directory, or directories in each other.

use crate::config::patterns::FilePattern;

/// How the run directories of two patterns may lie to each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Meeting {
    /// A directory may be a run of both.
    pub(super) is_same: bool,
    /// A run of the second may lie in a run of the first: its path from there, as far as it is known.
    pub(super) in_first: Option<String>,
    /// A run of the first may lie in a run of the second.
    pub(super) in_second: Option<String>,
}

/// Compares two patterns, or paths, part by part.
pub(super) fn meeting(first: &str, second: &str) -> Meeting {
    let parts = |pattern: &str| -> Vec<String> {
        let mut parts: Vec<String> = pattern.split('/').map(str::to_owned).collect();
        parts.retain(|part| !part.is_empty());
        // Two of them in a row are as one.
        parts.dedup_by(|a, b| a == "**" && b == "**");
        parts
    };
    let mut meeting = Meeting::default();
    meet(&parts(first), &parts(second), &mut meeting);
    meeting
}

fn meet(first: &[String], second: &[String], meeting: &mut Meeting) {
    match (first, second) {
        ([], []) => meeting.is_same = true,
        ([], rest) => meeting.in_first = Some(known(rest)),
        (rest, []) => meeting.in_second = Some(known(rest)),
        // At the end, `**` stands for one or more folders.
        ([a], [_, rest @ ..]) if a == "**" => {
            meeting.is_same = true;
            meeting.in_first = Some(known(rest)).filter(|rest| !rest.is_empty());
            meeting.in_second = Some(FOLDER.to_owned());
        }
        ([_, rest @ ..], [b]) if b == "**" => {
            meeting.is_same = true;
            meeting.in_first = Some(FOLDER.to_owned());
            meeting.in_second = Some(known(rest)).filter(|rest| !rest.is_empty());
        }
        ([a, after_a @ ..], [b, after_b @ ..]) => {
            if a == "**" || b == "**" {
                // Elsewhere it stands for any number of folders.
                let (short_a, short_b) = (
                    if a == "**" { after_a } else { first },
                    if b == "**" { after_b } else { second },
                );
                meet(short_a, short_b, meeting);
                if a == "**" {
                    meet(first, after_b, meeting);
                }
                if b == "**" {
                    meet(after_a, second, meeting);
                }
            } else if may_be_equal(a, b) {
                meet(after_a, after_b, meeting);
            }
        }
    }
}

/// A folder that a wildcard stands for: an ordinary name.
const FOLDER: &str = "run";

/// A path that the parts may name.
fn known(parts: &[String]) -> String {
    let name = |part: &String| if is_plain(part) { part.clone() } else { FOLDER.to_owned() };
    parts.iter().map(name).collect::<Vec<_>>().join("/")
}

fn is_plain(part: &str) -> bool {
    !part.contains(['*', '?', '[', ']', '{', '}', '\\'])
}

/// Whether two patterns of one name may match the same name. If both have wildcards, only what stands before the first
/// one and after the last one is compared.
fn may_be_equal(a: &str, b: &str) -> bool {
    let matches = |pattern: &str, name: &str| {
        FilePattern::try_from(pattern.to_owned()).map_or(true, |pattern| pattern.is_match(name))
    };
    match (is_plain(a), is_plain(b)) {
        (true, true) => a == b,
        (true, false) => matches(b, a),
        (false, true) => matches(a, b),
        (false, false) => {
            let wild = ['*', '?', '[', ']', '{', '}', '\\'];
            let head = |text: &str| text[..text.find(wild).unwrap_or(text.len())].to_owned();
            let tail = |text: &str| text[text.rfind(wild).map_or(0, |at| at + 1)..].to_owned();
            let (heads, tails) = ([head(a), head(b)], [tail(a), tail(b)]);
            (heads[0].starts_with(&heads[1]) || heads[1].starts_with(&heads[0]))
                && (tails[0].ends_with(&tails[1]) || tails[1].ends_with(&tails[0]))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_are_compared_part_by_part() {
        let of = |same: bool, in_first: Option<&str>, in_second: Option<&str>| Meeting {
            is_same: same,
            in_first: in_first.map(str::to_owned),
            in_second: in_second.map(str::to_owned),
        };
        for (first, second, want) in [
            ("*", "*", of(true, None, None)),
            ("*", "team/*", of(false, Some("run"), None)),
            ("*/*", "team/*", of(true, None, None)),
            ("a/*", "b/*", of(false, None, None)),
            ("val-*", "train-*", of(false, None, None)),
            ("*-a", "*-b", of(false, None, None)),
            ("x*", "*y", of(true, None, None)),
            ("exp-?", "exp-1", of(true, None, None)),
            ("{a,b}", "c", of(false, None, None)),
            ("**", "a/b", of(true, Some("a/b"), None)),
            ("a", "a/b/c", of(false, Some("b/c"), None)),
            ("a/b/c", "a", of(false, None, Some("b/c"))),
            ("", "a", of(false, Some("a"), None)),
            ("", "", of(true, None, None)),
        ] {
            let got = meeting(first, second);
            assert_eq!(got.is_same, want.is_same, "{first} {second}");
            if !first.contains("**") {
                assert_eq!(got, want, "{first} {second}");
            }
        }
    }

    proptest! {
        #[test]
        fn two_patterns_that_match_one_path_meet(
            names in prop::collection::vec("[ab]{1,3}", 1..4),
            first in prop::collection::vec(0u8..4, 4),
            second in prop::collection::vec(0u8..4, 4),
        ) {
            // A pattern that matches the path: each name as it is, with wildcards, or within `**`.
            let pattern = |how: &[u8]| {
                let part = |(name, how): (&String, &u8)| match how {
                    0 => name.clone(),
                    1 => "*".to_owned(),
                    2 => format!("{}*", &name[..1]),
                    _ => "**".to_owned(),
                };
                names.iter().zip(how).map(part).collect::<Vec<_>>().join("/")
            };
            let (first, second, path) = (pattern(&first), pattern(&second), names.join("/"));
            let matches = |pattern: &str| {
                FilePattern::try_from(pattern.to_owned()).expect("a pattern").is_match(&path)
            };
            prop_assert!(!matches(&first) || !matches(&second) || meeting(&first, &second).is_same);
        }
    }
}
