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
    /// The name of a machine among those that deliver to one place: 1 to [`NAME_BYTES_MAX`] bytes, without NUL.
    BoxName, "box name"
}
name! {
    /// The name of a series of images within a run, such as `val/pred`: 1 to [`NAME_BYTES_MAX`] bytes,
    /// without NUL.
    MediaKey, "key"
}

impl RunId {
    /// Returns the name of the run's folder in the store.
    ///
    /// Every byte outside `[A-Za-z0-9._-]`, and a leading dot, is written as `%XX`. A name of more than 180 bytes is
    /// shortened: 163 bytes, `-`, 16 hex digits of its SHA-256. In an id that would look like a shortened name, that `-`
    /// is written as `%2D`, which no other name has. Thus two ids share a folder only if their digests are equal, and no
    /// id leads out of the store.
    #[must_use]
    pub fn folder(&self) -> String {
        folder(&self.0)
    }
}

impl BoxName {
    /// Returns the name of the box's folder, made as [`RunId::folder`].
    #[must_use]
    pub fn folder(&self) -> String {
        folder(&self.0)
    }
}

fn folder(name: &str) -> String {
    let mut folder = String::with_capacity(name.len());
    for (i, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if plain || (byte == b'.' && i > 0) {
            folder.push(char::from(byte));
        } else {
            folder.extend(["%".to_owned(), format!("{byte:02X}")]);
        }
    }
    if looks_shortened(&folder) {
        folder.replace_range(SHORTENED_BYTES..=SHORTENED_BYTES, "%2D");
        return folder;
    }
    shorten(&folder)
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

/// The longest part of a file name that is not shortened, in bytes.
const PART_BYTES_MAX: usize = 180;

/// Hex digits of the digest at the end of a shortened part.
const DIGEST_DIGITS: usize = 16;

/// Bytes of a shortened part before `-` and the digest.
const SHORTENED_BYTES: usize = PART_BYTES_MAX - 1 - DIGEST_DIGITS;

/// Cuts a part of a file name so that step, digest and extension fit into 255 bytes. A digest of the
/// whole part keeps two long names apart.
fn shorten(part: &str) -> String {
    if part.len() <= PART_BYTES_MAX {
        return part.to_owned();
    }
    let end = part.floor_char_boundary(SHORTENED_BYTES);
    let digest = Sha256::of(part.as_bytes()).to_string();
    format!("{}-{}", &part[..end], &digest[..DIGEST_DIGITS])
}

/// Whether an ASCII name looks as if [`shorten`] had made it.
fn looks_shortened(name: &str) -> bool {
    let digest = name.get(SHORTENED_BYTES..).and_then(|end| end.strip_prefix('-'));
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    digest.is_some_and(|digest| digest.len() == DIGEST_DIGITS && digest.bytes().all(is_digit))
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
    use proptest::prelude::*;

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

    /// An id of up to 1,024 bytes. Some look like folders, and some like shortened ones.
    fn any_id() -> impl Strategy<Value = RunId> {
        let id = |text: String| RunId::new(text).expect("a name");
        let folder = |id: RunId| RunId::new(id.folder()).expect("a name");
        let short = "[ab.%/é -]{1,8}".prop_map(id);
        let long = ("[aé%-]", 150..300usize).prop_map(|(part, n)| part.repeat(n)).prop_map(id);
        let end = "[a-]{162,165}-[0-9a-fA-F]{15,17}".prop_map(id);
        let any = prop_oneof![short, long, end].boxed();
        prop_oneof![
            any.clone(),
            any.clone().prop_map(folder),
            any.prop_map(folder).prop_map(folder)
        ]
    }

    proptest! {
        #[test]
        fn two_ids_never_share_a_folder(a in any_id(), b in any_id()) {
            for other in [&b, &RunId::new(a.folder()).expect("a name")] {
                prop_assert_eq!(a.folder() == other.folder(), a == *other, "{:?} {:?}", a, other);
            }
            prop_assert!(a.folder().len() <= PART_BYTES_MAX + 2);
        }
    }

    #[test]
    fn an_id_that_is_the_text_of_a_shortened_folder_has_another() {
        // Both runs were written to one journal.
        let long = RunId::new("x".repeat(300)).expect("a name");
        let text = RunId::new(long.folder()).expect("a name");
        assert_eq!(long.folder().len(), 180);
        assert_eq!(text.folder(), long.folder().replace('-', "%2D"));
        // Names that are not quite so stay as they are.
        for id in [long.folder().replace('-', "."), long.folder()[1..].to_owned(), "x".repeat(180)]
        {
            assert_eq!(RunId::new(id.clone()).map(|id| id.folder()), Ok(id));
        }
    }

    #[test]
    fn names_are_refused_for_a_reason() {
        assert!(MediaKey::new("").is_err());
        assert!(MediaKey::new("a\0b").is_err());
        assert!(RunId::new("x".repeat(NAME_BYTES_MAX + 1)).is_err());
    }
}
