//! Paths of dumps that contain key and step: `dumps/{key}/{step}_{index}.{ext}`.

use regex::Regex;

use crate::media::{MediaKey, Step};

/// The extensions that `{ext}` matches.
pub const EXTENSIONS: [&str; 15] = [
    "npy",
    "npz",
    "safetensors",
    "pt",
    "pth",
    "bin",
    "raw",
    "png",
    "jpg",
    "jpeg",
    "bmp",
    "gif",
    "webp",
    "tif",
    "tiff",
];

/// A dump whose path matched a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpPath {
    /// The path, relative to the run directory.
    pub path: String,
    /// The series.
    pub key: MediaKey,
    /// The training step.
    pub step: Step,
    /// The index within the step, if the pattern has `{index}`.
    pub index: Option<u32>,
}

/// A pattern for paths relative to the run directory, with slashes.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct DumpPattern {
    text: String,
    regex: Regex,
    /// The folders before the first field: every match lies below them.
    prefix: String,
}

impl TryFrom<String> for DumpPattern {
    type Error = PatternError;

    fn try_from(pattern: String) -> Result<Self, PatternError> {
        Self::new(&pattern)
    }
}

/// Patterns are equal if they are written alike.
impl PartialEq for DumpPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// An invalid pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pattern {pattern:?}: {problem}")]
pub struct PatternError {
    pattern: String,
    problem: String,
}

impl DumpPattern {
    /// Parses a pattern. `{key}` matches one or more folders or a part of a name, `{step}` and `{index}`
    /// match digits, and `{ext}` matches one of [`EXTENSIONS`].
    ///
    /// # Errors
    /// If `{key}` or `{step}` is missing, a field is unknown or occurs twice, or the path is absolute or
    /// has a part `..`.
    ///
    /// # Examples
    ///
    /// ```
    /// use safelight_image::record::pattern::DumpPattern;
    ///
    /// let pattern = DumpPattern::new("dumps/{key}/{step}.{ext}")?;
    /// let dump = pattern.read("dumps/val/pred/000120.npy").ok_or("no match")??;
    /// assert_eq!((dump.key.as_str(), dump.step.0, dump.index), ("val/pred", 120, None));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        let error = |problem: &str| PatternError {
            pattern: pattern.to_owned(),
            problem: problem.to_owned(),
        };
        if pattern.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(error(
                "want a path below the run directory, without empty parts, . and ..",
            ));
        }
        let mut regex = "^".to_owned();
        let mut rest = pattern;
        while let Some((before, after)) = rest.split_once('{') {
            regex.push_str(&regex::escape(before));
            let (field, after) = after
                .split_once('}')
                .ok_or_else(|| error("got { without }, want {key}, {step}, {index} or {ext}"))?;
            let part = match field {
                "key" => "(?P<key>.+)",
                "step" => "(?P<step>[0-9]+)",
                "index" => "(?P<index>[0-9]+)",
                "ext" => &format!("(?P<ext>{})", EXTENSIONS.join("|")),
                _ => {
                    return Err(error(&format!(
                        "got {{{field}}}, want {{key}}, {{step}}, {{index}} or {{ext}}"
                    )));
                }
            };
            regex.push_str(part);
            rest = after;
        }
        regex.push_str(&regex::escape(rest));
        regex.push('$');
        for field in ["{key}", "{step}"] {
            if !pattern.contains(field) {
                return Err(error(&format!("{field} is missing")));
            }
        }
        let regex = Regex::new(&regex).map_err(|_| error("a field occurs twice"))?;
        let literal = &pattern[..pattern.find('{').unwrap_or(pattern.len())];
        let prefix = literal.rsplit_once('/').map_or("", |(folders, _)| folders).to_owned();
        Ok(Self { text: pattern.to_owned(), regex, prefix })
    }

    /// The pattern as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The folders before the first field, such as `dumps`; `""` if the path begins with a field.
    #[must_use]
    pub fn folder(&self) -> &str {
        &self.prefix
    }

    /// Whether `folder` is [`Self::folder`] or lies in it. Never, if the path begins with a field.
    #[must_use]
    pub fn has_in_folder(&self, folder: &str) -> bool {
        let rest = folder.strip_prefix(&self.prefix);
        !self.prefix.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Matches a path relative to the run directory. Returns `None` if it does not match.
    ///
    /// # Errors
    /// If the path matches, but a number is too large or the key is too long.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<Result<DumpPath, String>> {
        let captures = self.regex.captures(path)?;
        let too_large = |name: &str, max: u64| {
            let got = &captures[name];
            format!("{name} {got} in {path:?}: want at most {max}")
        };
        let parts = || {
            let key = MediaKey::new(&captures["key"]).map_err(|error| error.to_string())?;
            let step = captures["step"].parse().map_err(|_| too_large("step", u64::MAX))?;
            let index = captures.name("index").map(|digits| digits.as_str().parse());
            let index = index.transpose().map_err(|_| too_large("index", u32::MAX.into()))?;
            Ok(DumpPath { path: path.to_owned(), key, step: Step(step), index })
        };
        Some(parts())
    }

    /// Whether a matching path may lie in or below `folder`, which is relative to the run directory (`""`
    /// for the run directory itself).
    #[must_use]
    pub fn may_lie_below(&self, folder: &str) -> bool {
        are_on_one_path(folder, &self.prefix)
    }
}

/// Whether two folders are equal or one lies in the other.
#[must_use]
pub fn are_on_one_path(a: &str, b: &str) -> bool {
    let is_within = |inner: &str, outer: &str| {
        let rest = inner.strip_prefix(outer);
        outer.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    is_within(a, b) || is_within(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, path: &str, want: Option<(&str, u64, Option<u32>)>) {
        let got = DumpPattern::new(pattern).map(|pattern| pattern.read(path));
        let want = want.map(|(key, step, index)| {
            let key = MediaKey::new(key).unwrap_or_else(|error| panic!("{error}"));
            Ok(DumpPath { path: path.to_owned(), key, step: Step(step), index })
        });
        assert_eq!(got, Ok(want), "{pattern} {path}");
    }

    #[test]
    fn paths_speak_for_themselves() {
        let (plain, indexed) = ("dumps/{key}/{step}.{ext}", "dumps/{key}/{step}_{index}.{ext}");
        check(plain, "dumps/val/pred/000120.npy", Some(("val/pred", 120, None)));
        check(plain, "dumps/a/000120_7.npy", None);
        check(indexed, "dumps/a/000120_007.npy", Some(("a", 120, Some(7))));
        check(plain, "dumps/a/000120.npy.json", None);
        check(plain, "dumps/a/.000120.npy", None);
        check(plain, "dumps/000120.npy", None);
        check("{key}-{step}.npy", "a-b-3.npy", Some(("a-b", 3, None)));
    }

    #[test]
    fn a_number_that_is_too_large_is_an_error_and_no_other_path() {
        let pattern = DumpPattern::new("dumps/{key}/{step}_{index}.{ext}")
            .unwrap_or_else(|error| panic!("{error}"));
        let error = |path: &str| pattern.read(path).and_then(Result::err).unwrap_or_default();
        assert!(error("dumps/a/99999999999999999999_0.npy").contains("step 99999999999999999999"));
        assert!(error("dumps/a/1_4294967296.npy").ends_with("want at most 4294967295"));
    }

    #[test]
    fn patterns_are_refused_for_a_reason() {
        for (pattern, want) in [
            ("dumps/{step}.npy", "{key} is missing"),
            ("{key}/{step}/{step}", "twice"),
            ("{key}/{stp}", "got {stp}"),
            ("/abs/{key}/{step}", "below the run directory"),
            ("../{key}/{step}", "below the run directory"),
            ("{key}/{step", "got { without }"),
        ] {
            let got =
                DumpPattern::new(pattern).map_or_else(|error| error.to_string(), |_| String::new());
            assert!(got.contains(want), "{pattern}: {got:?}");
        }
    }

    #[test]
    fn folders_without_a_match_are_not_entered() {
        let pattern =
            DumpPattern::new("dumps/x/{key}/{step}.npy").unwrap_or_else(|error| panic!("{error}"));
        for (folder, want) in [
            ("", true),
            ("dumps", true),
            ("dumps/x/a", true),
            ("tensors", false),
            ("dumps/xy", false),
            ("dumpsy", false),
        ] {
            assert_eq!(pattern.may_lie_below(folder), want, "{folder}");
        }
    }
}
