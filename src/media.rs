//! What a logged image *is*: run, key, step, index, and the entry that the store keeps. Pure.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A name that can't be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {got:?}: want {want}")]
pub struct NameError {
    what: &'static str,
    got: String,
    want: &'static str,
}

/// The longest run id or media key, in bytes. Keys and run ids are parts of index keys and file
/// names, and no tracker shows a longer one.
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
            /// Checks the name.
            ///
            /// # Errors
            /// If it is empty, over [`NAME_BYTES_MAX`] or holds a NUL.
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                let name = name.into();
                check_name($what, &name)?;
                Ok(Self(name))
            }

            /// The name as text.
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
    /// Names one training run: non-empty, without NUL.
    RunId, "run id"
}
name! {
    /// Names a series of images within a run, such as `val/pred`: non-empty, without NUL.
    MediaKey, "key"
}

impl RunId {
    /// The name of the run's folder in the store: the id with every byte outside `[A-Za-z0-9._-]`
    /// (and a leading dot) as `%XX`, so that two ids never share a folder and none leaves its place.
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

impl MediaKey {
    /// The key's part of a file name, relative to `media/images`: slashes make folders.
    ///
    /// Leading slashes are dropped and a segment that is exactly `.` or `..` becomes `_` or `__`,
    /// as in wandb since 0.18.6 (`spec/image.md` F.2). Ours: an empty segment in the middle is
    /// dropped, control characters become `_`, a segment too long for a file system keeps its
    /// beginning and a digest, and a folder's name never ends as a media file's does.
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
                    if i < last && Path::new(&name).extension().is_some_and(|part| part == "png") {
                        name.push('_');
                    }
                    stem.push(name);
                }
            }
        }
        stem.join("/")
    }
}

/// Cuts a file name's part to a length that leaves room for step, digest and extension within
/// 255 bytes. Two long names stay apart by the digest of the whole.
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

/// A SHA-256 digest, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hasher(<sha2::Sha256 as sha2::Digest>::new_with_prefix(bytes))
    }

    /// The digest of what `hasher` was fed.
    #[must_use]
    pub fn from_hasher(hasher: sha2::Sha256) -> Self {
        Self(sha2::Digest::finalize(hasher).into())
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Sha256> for String {
    fn from(digest: Sha256) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Sha256 {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WANT: &str = "want 64 hex digits";
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(WANT);
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| WANT)?;
        }
        Ok(Self(bytes))
    }
}

/// The kind of picture: how many channels, how wide. The names are Pillow's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ColorMode {
    /// Gray, 8 bit.
    #[serde(rename = "L")]
    L,
    /// Gray and alpha, 8 bit each.
    #[serde(rename = "LA")]
    La,
    /// Red, green, blue, 8 bit each.
    #[serde(rename = "RGB")]
    Rgb,
    /// Red, green, blue, alpha, 8 bit each.
    #[serde(rename = "RGBA")]
    Rgba,
    /// Gray, 16 bit. Only by request under a `wandb-*` profile, and then holding 0..255.
    #[serde(rename = "I;16")]
    I16,
}

impl ColorMode {
    /// Samples of one pixel: 1 to 4.
    #[must_use]
    pub const fn n_channels(self) -> usize {
        match self {
            Self::L | Self::I16 => 1,
            Self::La => 2,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    /// Bytes of one pixel: 1 to 4.
    #[must_use]
    pub const fn pixel_size(self) -> usize {
        match self {
            Self::I16 => 2,
            _ => self.n_channels(),
        }
    }

    /// The 8-bit mode of a picture with so many channels.
    #[must_use]
    pub const fn natural(n_channels: u64) -> Option<Self> {
        match n_channels {
            1 => Some(Self::L),
            2 => Some(Self::La),
            3 => Some(Self::Rgb),
            4 => Some(Self::Rgba),
            _ => None,
        }
    }

    /// Pillow's name of the mode.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::L => "L",
            Self::La => "LA",
            Self::Rgb => "RGB",
            Self::Rgba => "RGBA",
            Self::I16 => "I;16",
        }
    }
}

impl fmt::Display for ColorMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a media file is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileType {
    /// Portable Network Graphics: lossless.
    Png,
}

impl FileType {
    /// The extension, and W&B's `format`.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
        }
    }
}

/// Which axis of a picture's tensor is which: N pictures, H rows, W columns, C channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names say it")]
pub enum DataFormat {
    Hw,
    Hwc,
    Chw,
    Nhw,
    Nhwc,
    Nchw,
}

impl DataFormat {
    /// The name: `HWC`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hw => "HW",
            Self::Hwc => "HWC",
            Self::Chw => "CHW",
            Self::Nhw => "NHW",
            Self::Nhwc => "NHWC",
            Self::Nchw => "NCHW",
        }
    }

    /// How many axes the tensor has: 2 to 4.
    #[must_use]
    pub const fn rank(self) -> usize {
        self.name().len()
    }

    /// The same with a batch axis before it, if it has none.
    #[must_use]
    pub const fn batched(self) -> Option<Self> {
        match self {
            Self::Hw => Some(Self::Nhw),
            Self::Hwc => Some(Self::Nhwc),
            Self::Chw => Some(Self::Nchw),
            Self::Nhw | Self::Nhwc | Self::Nchw => None,
        }
    }
}

impl fmt::Display for DataFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose rule makes bytes of values. Recorded with each image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Profile {
    /// Ours: what is right for the data's type and finite values.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// wandb 0.10 to 0.19 (`seed` in `spec/image.md`).
    #[serde(rename = "wandb-0.10")]
    Wandb010,
    /// wandb 0.20.1 to 0.28 (`norm`).
    #[serde(rename = "wandb-0.20")]
    Wandb020,
    /// wandb 0.29 and later (`raw`).
    #[serde(rename = "wandb-0.29")]
    Wandb029,
}

/// The rule that made one image's bytes of its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// \[0, 1\] × 255.
    X255,
    /// \[−1, 1\] shifted and scaled to \[0, 255\].
    Sym,
    /// The data's own minimum and maximum to 0 and 255.
    Stretch,
    /// Clipped to \[0, 255\].
    Clip,
    /// The low 8 bits.
    Wrap,
    /// Bytes as they are.
    None,
    /// An explicit `range` to \[0, 255\].
    Range,
}

/// Statistics of one image's values before conversion; of complex ones, of the real parts.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// The least finite value; none if no value is finite.
    pub min: Option<f64>,
    /// The greatest finite value.
    pub max: Option<f64>,
    /// The mean of the finite values.
    pub mean: Option<f64>,
    /// How many values are NaN.
    pub nan: u64,
    /// How many values are +∞ or −∞.
    pub inf: u64,
}

/// Where an item came from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Source {
    /// The dump, relative to the run directory; for a line that names none, the media log.
    pub path: String,
    /// Which tensor of the dump, where it holds several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor: Option<String>,
    /// The digest of the whole dump.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// The media log that described it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// The line of that log, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
}

/// A media file of the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MediaFile {
    /// Relative to the run's folder in the store: `media/images/val/pred_120_….png`.
    pub path: String,
    /// How it is encoded.
    pub file_type: FileType,
    /// The kind of picture.
    pub mode: ColorMode,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes of the file.
    pub size: u64,
    /// Digest of the file.
    pub sha256: Sha256,
    /// Width and height before `over_dimension = "downscale"` made it smaller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downscaled_from: Option<(u64, u64)>,
}

/// How the pixels were made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Making {
    /// Whose rule.
    pub profile: Profile,
    /// Which of its rules applied.
    pub rule: Rule,
    /// The values that became 0 and 255, under rule `range`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<(f64, f64)>,
    /// Which axis was taken for which.
    pub format: DataFormat,
    /// Whether another reading of the axes made sense too and nothing told which.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub format_guessed: bool,
    /// The values before conversion.
    pub stats: Stats,
}

/// What the job said of an image, carried along unread.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Description {
    /// Text under the picture; any JSON value, as in wandb.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<Value>,
    /// W&B's `grouping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grouping: Option<Value>,
    /// Seconds since the Unix epoch, as the job gave them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<f64>,
    /// Every other field, as it was given.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

/// What became of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Kept as a media file.
    Image,
    /// Over a limit; its dump is where it was.
    Held,
    /// It can't become an image.
    Rejected,
}

impl State {
    /// The name as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Held => "held",
            Self::Rejected => "rejected",
        }
    }
}

/// Where in a run an image stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MediaId {
    /// The series.
    pub key: MediaKey,
    /// The training step.
    pub step: Step,
    /// The place among the images of that key and step, from 0.
    pub index: u32,
}

/// One outcome as the store keeps it: an image, one held back, or one rejected.
///
/// Made by [`Self::image`], [`Self::held`] and [`Self::rejected`], which keep `state` and the
/// optional parts in step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MediaEntry {
    /// What became of it.
    pub state: State,
    /// The series; what was rejected may never have said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<MediaKey>,
    /// The training step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// The place among the images of that key and step, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Why it was held or rejected; `None` for an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The media file of an image.
    #[serde(flatten)]
    pub file: Option<MediaFile>,
    /// How an image was made.
    #[serde(flatten)]
    pub making: Option<Making>,
    /// What the job said of it.
    #[serde(flatten)]
    pub description: Description,
    /// Where it came from.
    pub source: Source,
}

impl MediaEntry {
    /// An image and its media file.
    #[must_use]
    pub fn image(
        id: MediaId,
        file: MediaFile,
        making: Making,
        description: Description,
        source: Source,
    ) -> Self {
        let (file, making) = (Some(file), Some(making));
        Self { file, making, ..Self::at(State::Image, Some(id), None, description, source) }
    }

    /// An image that is held back because of a limit.
    #[must_use]
    pub fn held(id: MediaId, reason: String, description: Description, source: Source) -> Self {
        Self::at(State::Held, Some(id), Some(reason), description, source)
    }

    /// A line or dump that can't become an image.
    #[must_use]
    pub fn rejected(
        id: Option<MediaId>,
        reason: String,
        description: Description,
        source: Source,
    ) -> Self {
        Self::at(State::Rejected, id, Some(reason), description, source)
    }

    /// A line or dump that can't become an image, with what it said of its place: key, step, index.
    #[must_use]
    pub fn unplaced(
        place: Option<(MediaKey, Step, Option<u32>)>,
        reason: String,
        description: Description,
        source: Source,
    ) -> Self {
        let mut entry = Self::at(State::Rejected, None, Some(reason), description, source);
        if let Some((key, step, index)) = place {
            (entry.key, entry.step, entry.index) = (Some(key), Some(step), index);
        }
        entry
    }

    fn at(
        state: State,
        id: Option<MediaId>,
        reason: Option<String>,
        description: Description,
        source: Source,
    ) -> Self {
        let (mut key, mut step, mut index) = (None, None, None);
        if let Some(id) = id {
            (key, step, index) = (Some(id.key), Some(id.step), Some(id.index));
        }
        let (file, making) = (None, None);
        Self { state, key, step, index, reason, file, making, description, source }
    }

    /// The item as the interfaces print it: one flat object, absent fields as `null`.
    ///
    /// # Panics
    /// Never: an entry serializes to an object.
    #[must_use]
    pub fn to_json(&self, run: &RunId) -> Value {
        const FIELDS: [&str; 19] = [
            "key",
            "step",
            "index",
            "state",
            "reason",
            "path",
            "file_type",
            "mode",
            "width",
            "height",
            "size",
            "sha256",
            "caption",
            "grouping",
            "profile",
            "rule",
            "format",
            "stats",
            "source",
        ];
        let Ok(Value::Object(mut given)) = serde_json::to_value(self) else {
            unreachable!("an entry is an object with text keys")
        };
        if let Some(Value::String(path)) = given.get_mut("path") {
            *path = format!("runs/{}/{path}", run.folder());
        }
        let mut object = Map::new();
        object.insert("run".to_owned(), run.as_str().into());
        for field in FIELDS {
            object.insert(field.to_owned(), given.remove(field).unwrap_or_default());
        }
        object.extend(given);
        Value::Object(object)
    }
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
