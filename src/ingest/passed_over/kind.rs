//! The kinds of things that are passed over, and what to do about each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::pattern::EXTENSIONS;

/// Why something is not read as it lies, although it was probably meant to be.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PassedOverKind {
    /// A folder that cannot be listed.
    Unlisted,
    /// A symbolic link. No link is followed.
    Link,
    /// A name that is not UTF-8.
    NotUtf8,
    /// A media log whose path matches none of the patterns for logs.
    Log,
    /// A dump whose path matches none of the patterns for dumps, and that no log line names.
    Dump,
    /// A dump whose path would match a pattern if its suffix were in lower case.
    UpperCase,
    /// A file in the place of a dump, with a suffix that is not supported.
    Suffix,
    /// A pipe, a socket or a device with the name of a media log.
    Special,
    /// A folder outside of the patterns that is too deep, or one of too many, to be looked through.
    NotExamined,
}

/// All kinds, in the order of their discriminants: the most important first.
pub(super) const KINDS: [PassedOverKind; 9] = [
    PassedOverKind::Unlisted,
    PassedOverKind::Link,
    PassedOverKind::NotUtf8,
    PassedOverKind::Log,
    PassedOverKind::Dump,
    PassedOverKind::UpperCase,
    PassedOverKind::Suffix,
    PassedOverKind::Special,
    PassedOverKind::NotExamined,
];

impl PassedOverKind {
    /// The kind as a label of metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unlisted => "unlisted",
            Self::Link => "link",
            Self::NotUtf8 => "not_utf8",
            Self::Log => "log",
            Self::Dump => "dump",
            Self::UpperCase => "upper_case",
            Self::Suffix => "suffix",
            Self::Special => "special",
            Self::NotExamined => "not_examined",
        }
    }

    /// Whether only the path of a dump says so, so that a line may name it all the same.
    pub(super) fn is_of_dump(self) -> bool {
        matches!(self, Self::Dump | Self::UpperCase | Self::Suffix)
    }

    /// What was passed over, in words: for one, and for several.
    #[must_use]
    pub fn nouns(self) -> (&'static str, &'static str) {
        match self {
            Self::Unlisted => ("folder that cannot be listed", "folders that cannot be listed"),
            Self::Link => ("symbolic link", "symbolic links"),
            Self::NotUtf8 => ("name that is not UTF-8", "names that are not UTF-8"),
            Self::Log => {
                ("media log outside of the patterns", "media logs outside of the patterns")
            }
            Self::Dump => ("dump outside of the patterns", "dumps outside of the patterns"),
            Self::UpperCase => ("suffix in upper case", "suffixes in upper case"),
            Self::Suffix => ("unsupported file among dumps", "unsupported files among dumps"),
            Self::Special => {
                ("special file named as a media log", "special files named as media logs")
            }
            Self::NotExamined => {
                ("folder that was not looked through", "folders that were not looked through")
            }
        }
    }

    /// What to do about it.
    pub(super) fn advice(self) -> String {
        match self {
            Self::Unlisted => "give Safelight's user the right to read and enter it".to_owned(),
            Self::Link => "no link is followed: if it leads to dumps, move or mount them here, or \
                           watch its target with a [[watch]] of its own"
                .to_owned(),
            Self::NotUtf8 => "rename it to UTF-8".to_owned(),
            Self::Log => "only files that `logs` in [[watch]] matches are read".to_owned(),
            Self::Dump => {
                "a dump is read if its path gives key and step, as `dumps` in [[watch]] of the configuration says, or \
                 if a line of a media log names it"
                    .to_owned()
            }
            Self::UpperCase => "suffixes are in lower case".to_owned(),
            Self::Suffix => format!("suffixes of dumps are {}", EXTENSIONS.join(", ")),
            Self::Special => "only regular files are read".to_owned(),
            Self::NotExamined => {
                "if it holds dumps, add their pattern to `dumps` in [[watch]]".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_stand_at_their_own_places_and_have_the_labels_of_json() {
        for (i, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(kind as usize, i);
            let json = serde_json::to_value(kind).expect("a kind");
            assert_eq!(json.as_str(), Some(kind.label()));
        }
    }
}
