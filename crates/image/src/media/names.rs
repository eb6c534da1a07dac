//! The names of an image: run, key, step and index.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Sha256;

/// An invalid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {got:?}: want {want}")]
pub struct NameError {
    what: &'static str,
    got: String,
    want: &'static str,
}

/// Longest run id or media key, in bytes. Both are parts of index keys and file names.
pub const NAME_BYTES_MAX: usize = 1024;

fn check_name(what: &'static str, name: &str) -> Result<(), NameError> {
    let want = if name.is_empty() {
        "at least one character"
    } else if name.len() > NAME_BYTES_MAX {
        "at most 1024 bytes"
    } else if name.contains('\0') {
        "no NUL character"
    } else {
        return Ok(());
    };
    let got = name.chars().take(64).collect();
    Err(NameError { what, got, want })
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and returns a name.
            ///
            /// # Errors
            /// If it is empty, longer than [`NAME_BYTES_MAX`] or contains a NUL.
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                let name = name.into();
                check_name($what, &name)?;
                Ok(Self(name))
            }

            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The name of a training run: 1 to [`NAME_BYTES_MAX`] bytes, without NUL.
    RunId, "run id"
}
name! {
    /// The name of a series of images within a run, such as `val/pred`: 1 to [`NAME_BYTES_MAX`] bytes,
    /// without NUL.
    MediaKey, "key"
}

impl RunId {
    /// Returns the name of the run's folder in the store.
    ///
    /// Every byte outside `[A-Za-z0-9._-]`, and a leading dot, is written as `%XX`. Thus two ids never share
    /// a folder, and no id leads out of the store.
    #[must_use]
    pub fn folder(&self) -> String {
        let mut folder = String::with_capacity(self.0.len());
        for (i, byte) in self.0.bytes().enumerate() {
            let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            if plain || (byte == b'.' && i > 0) {
                folder.push(char::from(byte));
            } else {
                folder.extend(["%".to_owned(), format!("{byte:02X}")]);
            }
        }
        shorten(&folder)
    }
}

/// Extensions of media files and of files of boxes.
const MEDIA_ENDINGS: [&str; 9] =
    ["png", "jpg", "jpeg", "bmp", "webp", "gif", "tiff", "json", "tif"];

impl MediaKey {
    /// Returns the key's part of a file name, relative to `media/images`. Slashes make folders.
    ///
    /// As in wandb since 0.18.6 (`docs/spec/image.md` F.2), leading slashes are dropped, and a segment `.`
    /// or `..` becomes `_` or `__`. In addition, empty segments in the middle are dropped, and control
    /// characters become `_`. A segment that is too long for a file system is cut and gets a digest. A
    /// folder whose name ends in the extension of a media file gets a `_` at the end.
    #[must_use]
    pub fn file_stem(&self) -> String {
        let segments: Vec<&str> = self.0.trim_start_matches('/').split('/').collect();
        let last = segments.len() - 1;
        let mut stem = Vec::with_capacity(segments.len());
        for (i, segment) in segments.into_iter().enumerate() {
            match segment {
                "" if i < last => {}
                "." => stem.push("_".to_owned()),
                ".." => stem.push("__".to_owned()),
                _ => {
                    let mut name = shorten(&segment.replace(char::is_control, "_"));
                    let ending = Path::new(&name).extension();
                    if i < last && MEDIA_ENDINGS.iter().any(|media| ending == Some(media.as_ref()))
                    {
                        name.push('_');
                    }
                    stem.push(name);
                }
            }
        }
        stem.join("/")
    }
}

/// Cuts a part of a file name so that step, digest and extension fit into 255 bytes. A digest of the
/// whole part keeps two long names apart.
fn shorten(part: &str) -> String {
    const MAX: usize = 180;
    if part.len() <= MAX {
        return part.to_owned();
    }
    let end = part.floor_char_boundary(MAX - 17);
    let digest = Sha256::of(part.as_bytes()).to_string();
    format!("{}-{}", &part[..end], &digest[..16])
}

/// The training step that an image belongs to: W&B's `_step`, `TensorBoard`'s `step`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Step(pub u64);

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The place of an image within its run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MediaId {
    /// The series.
    pub key: MediaKey,
    /// The training step.
    pub step: Step,
    /// The index among the images of that key and step, from 0.
    pub index: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stem(key: &str) -> String {
        MediaKey::new(key).map(|key| key.file_stem()).unwrap_or_default()
    }

    #[test]
    fn file_stems_follow_the_table_of_the_specification() {
        for (key, want) in [
            ("/abs/x", "abs/x"),
            ("../up/x", "__/up/x"),
            ("a/../b", "a/__/b"),
            ("./x", "_/x"),
            ("a/", "a/"),
            ("a//b", "a/b"),
            ("[a*b?]", "[a*b?]"),
            ("a:b", "a:b"),
            ("my key", "my key"),
            ("clé/猫", "clé/猫"),
            ("a\nb", "a_b"),
            ("a.png/b.png", "a.png_/b.png"),
        ] {
            assert_eq!(stem(key), want, "{key:?}");
        }
    }

    #[test]
    fn long_names_fit_a_file_name_and_stay_apart() {
        let (a, b) = (stem(&("é".repeat(300) + "a")), stem(&("é".repeat(300) + "b")));
        assert!(a.len() <= 180 && b.len() <= 180);
        assert_ne!(a, b);
    }

    #[test]
    fn run_folders_never_leave_their_place() {
        for (id, want) in
            [("run-1.a", "run-1.a"), ("..", "%2E."), ("a/b", "a%2Fb"), ("é", "%C3%A9")]
        {
            assert_eq!(RunId::new(id).map(|id| id.folder()), Ok(want.to_owned()));
        }
    }

    #[test]
    fn names_are_refused_for_a_reason() {
        assert!(MediaKey::new("").is_err());
        assert!(MediaKey::new("a\0b").is_err());
        assert!(RunId::new("x".repeat(NAME_BYTES_MAX + 1)).is_err());
    }
}
