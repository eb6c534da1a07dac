//! Patterns of paths and names, as the configuration has them.

use globset::{Glob, GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize, Serializer};

use crate::record::pattern::are_on_one_path;

/// A pattern of paths: `*` and `?` stay within one folder, `**` does not.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct FilePattern {
    matcher: GlobMatcher,
    /// The folders before the first wildcard.
    prefix: String,
}

/// Two patterns are equal if they are written alike.
impl PartialEq for FilePattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl FilePattern {
    /// The pattern as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.matcher.glob().glob()
    }

    /// Whether a relative path with slashes matches.
    #[must_use]
    pub fn is_match(&self, path: &str) -> bool {
        self.matcher.is_match(path)
    }

    /// Whether a path that matches may lie below a folder.
    #[must_use]
    pub fn may_lie_below(&self, folder: &str) -> bool {
        let pattern = self.as_str();
        if !pattern.contains("**")
            && folder.split('/').count() >= pattern.split('/').count()
            && !folder.is_empty()
        {
            return false;
        }
        are_on_one_path(folder, &self.prefix)
    }
}

impl TryFrom<String> for FilePattern {
    type Error = globset::Error;
    fn try_from(pattern: String) -> Result<Self, globset::Error> {
        let glob = GlobBuilder::new(&pattern).literal_separator(true).build()?;
        let literal = &pattern[..pattern.find(['*', '?', '[', '{']).unwrap_or(pattern.len())];
        let prefix = literal.rsplit_once('/').map_or("", |(folders, _)| folders).to_owned();
        Ok(Self { matcher: glob.compile_matcher(), prefix })
    }
}

impl Serialize for FilePattern {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

/// Which subdirectories of a watched directory are runs: a pattern, or `.` for the directory itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct RunsPattern(Option<FilePattern>);

impl RunsPattern {
    /// The pattern of all folders this many levels below a directory; of level 0, the directory itself.
    pub(crate) fn of_depth(depth: usize) -> Self {
        let pattern = if depth == 0 { ".".to_owned() } else { vec!["*"; depth].join("/") };
        Self::try_from(pattern).expect("a pattern")
    }

    /// The pattern of the subdirectories; `None` if the directory itself is the run.
    #[must_use]
    pub fn into_pattern(self) -> Option<FilePattern> {
        self.0
    }
}

impl TryFrom<String> for RunsPattern {
    type Error = globset::Error;
    fn try_from(pattern: String) -> Result<Self, globset::Error> {
        if pattern == "." {
            Ok(Self(None))
        } else {
            FilePattern::try_from(pattern).map(Some).map(Self)
        }
    }
}

impl Serialize for RunsPattern {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0.as_ref().map_or(".", FilePattern::as_str))
    }
}

/// A pattern of names, such as keys and runs: `*` stands for any characters, slashes too, as in Python's
/// `fnmatch`.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct NamePattern(GlobMatcher);

/// Two patterns are equal if they are written alike.
impl PartialEq for NamePattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.glob() == other.0.glob()
    }
}

impl NamePattern {
    /// Whether a name matches.
    #[must_use]
    pub fn is_match(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

impl TryFrom<String> for NamePattern {
    type Error = globset::Error;
    fn try_from(pattern: String) -> Result<Self, globset::Error> {
        Glob::new(&pattern).map(|glob| Self(glob.compile_matcher()))
    }
}

impl Serialize for NamePattern {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0.glob().glob())
    }
}
