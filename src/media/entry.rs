//! What the store keeps of an image, and of what could not become one. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    ColorMode, Colormap, DataFormat, Digest, FileType, MediaId, MediaKey, Profile, Rule, RunId,
    Sha256, Step, Xxh3,
};

/// Statistics of one image's values before conversion; of complex ones, of the real parts.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// The least finite value; none if no value is finite.
    pub min: Option<f64>,
    /// The greatest finite value.
    pub max: Option<f64>,
    /// The mean of the finite values.
    pub mean: Option<f64>,
    /// Their standard deviation, as of a whole population.
    #[serde(default)]
    pub std: Option<f64>,
    /// How many values are NaN.
    pub nan: u64,
    /// How many values are +∞ or −∞.
    pub inf: u64,
    /// The share of all values, 0 to 1, that are finite and lie outside of what the rule maps: they
    /// were clipped or, under rule `wrap`, wrapped.
    #[serde(default)]
    pub clipped: f64,
    /// Whether all values are finite and the same.
    #[serde(default)]
    pub constant: bool,
}

/// Where an item came from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Source {
    /// The dump, relative to the run directory; for a line that names none, the media log.
    pub path: String,
    /// Which tensor of the dump, where it holds several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor: Option<String>,
    /// The digest of the whole dump, one or the other: see [`crate::media::DigestKind`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[expect(missing_docs, reason = "said above")]
    pub xxh3: Option<Xxh3>,
    /// The media log that described it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// The line of that log, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Of an image that is held back, what finds it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldAt>,
}

/// What finds an image again that is held back, and tells whether its dump is as it was then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldAt {
    /// Which of the tensor's images, from 0.
    pub image: u64,
    /// The length of the dump.
    pub n_bytes: u64,
    /// When the dump was written last, in nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
}

impl Source {
    /// The digest of the whole dump.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        Digest::of_fields(self.xxh3, self.sha256)
    }
}

/// A media file of the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MediaFile {
    /// Relative to the run's folder in the store: `media/images/val/pred_120_….png`.
    pub path: String,
    /// How it is encoded.
    pub file_type: FileType,
    /// The kind of picture; of files that are kept as they are only where it is one of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<ColorMode>,
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

/// A class: what a number in boxes and masks stands for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Class {
    /// A whole number or text.
    pub id: Value,
    /// Its name.
    pub name: String,
}

/// Names of class ids, in the order in which they were given.
pub type ClassLabels = Map<String, Value>;

/// A file that belongs to an image: a set of boxes, or a mask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// Relative to the run's folder in the store.
    pub path: String,
    /// Digest of the file.
    pub sha256: Sha256,
    /// Bytes of the file.
    pub size: u64,
    /// Names by class id: those that were given, or `class_<id>` for each id that occurs.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub class_labels: ClassLabels,
    /// Where the mask came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// Sets of boxes or masks by name.
pub type Annotations = BTreeMap<String, Annotation>;

/// What lies on an image.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Layers {
    /// The classes of the image: those of its boxes, of its masks, then its own, each id once
    /// (`spec/image.md` C.3).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<Class>,
    /// Sets of boxes.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub boxes: Annotations,
    /// Masks.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub masks: Annotations,
    /// What is odd about them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
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
    /// The colormap that gray values were drawn by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub colormap: Option<Colormap>,
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
    /// Its `classes`, `boxes` and `masks` as they were given, of what is no image (yet).
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub annotations: Map<String, Value>,
    /// Every other field, as it was given.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

/// The longest reason that is kept, in characters: names and shapes in it come from the dump.
const REASON_CHARS_MAX: usize = 1000;

/// A text of at most so many characters; what is cut off is marked.
pub(crate) fn shortened(text: String, n_chars: usize) -> String {
    match text.char_indices().nth(n_chars) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
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
    /// Whether its files were removed by retention. Never in a journal, which tells it by a line of its
    /// own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pruned: bool,
    /// How an image was made.
    #[serde(flatten)]
    pub making: Option<Making>,
    /// Boxes, masks and classes of an image.
    #[serde(flatten)]
    pub layers: Layers,
    /// What the job said of it.
    #[serde(flatten)]
    pub description: Description,
    /// Where it came from.
    pub source: Source,
}

impl MediaEntry {
    /// The fields that every item has, in the order in which they are printed, after `run`.
    pub const FIELDS: [&str; 19] = [
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

    /// Its place, if all of it is known.
    #[must_use]
    pub fn id(&self) -> Option<MediaId> {
        Some(MediaId { key: self.key.clone()?, step: self.step?, index: self.index? })
    }

    /// An image and its media file; `making` is none for one that is kept as it came.
    #[must_use]
    pub fn image(
        id: MediaId,
        file: MediaFile,
        making: Option<Making>,
        layers: Layers,
        description: Description,
        source: Source,
    ) -> Self {
        let file = Some(file);
        Self { file, making, layers, ..Self::at(State::Image, Some(id), None, description, source) }
    }

    /// An image that is held back because of a limit.
    #[must_use]
    pub fn held(id: MediaId, reason: String, description: Description, source: Source) -> Self {
        Self::at(State::Held, Some(id), Some(reason), description, source)
    }

    /// A line or dump that can't become an image, with what it said of its place: key, step, index.
    #[must_use]
    pub fn rejected(
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

    /// The entry that [`Self::to_json`] made an object of.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_json(mut item: Value, run: &RunId) -> serde_json::Result<Self> {
        if let Value::Object(fields) = &mut item {
            fields.retain(|_, value| !value.is_null());
            let folder = format!("runs/{}/", run.folder());
            paths(fields).for_each(|path| {
                if path.starts_with(&folder) {
                    path.drain(..folder.len());
                }
            });
        }
        serde_json::from_value(item)
    }

    fn at(
        state: State,
        id: Option<MediaId>,
        reason: Option<String>,
        description: Description,
        source: Source,
    ) -> Self {
        let reason = reason.map(|reason| shortened(reason, REASON_CHARS_MAX));
        let (mut key, mut step, mut index) = (None, None, None);
        if let Some(id) = id {
            (key, step, index) = (Some(id.key), Some(id.step), Some(id.index));
        }
        let (file, pruned, making, layers) = (None, false, None, Layers::default());
        Self { state, key, step, index, reason, file, pruned, making, layers, description, source }
    }

    /// The paths of its files, relative to the run's folder in the store.
    pub(crate) fn paths(&self) -> Vec<String> {
        let of_layers = self.layers.boxes.values().chain(self.layers.masks.values());
        let own = self.file.iter().map(|file| file.path.clone());
        own.chain(of_layers.map(|annotation| annotation.path.clone())).collect()
    }

    /// The item as the interfaces print it: one flat object, absent fields as `null`.
    ///
    /// # Panics
    /// Never: an entry serializes to an object.
    #[must_use]
    pub fn to_json(&self, run: &RunId) -> Value {
        let Ok(Value::Object(mut given)) = serde_json::to_value(self) else {
            unreachable!("an entry is an object with text keys")
        };
        let folder = format!("runs/{}/", run.folder());
        paths(&mut given).for_each(|path| path.insert_str(0, &folder));
        let mut object = Map::new();
        object.insert("run".to_owned(), run.as_str().into());
        for field in Self::FIELDS {
            object.insert(field.to_owned(), given.shift_remove(field).unwrap_or_default());
        }
        object.extend(given);
        Value::Object(object)
    }
}

/// The paths of an item's media files: its own, and those of its boxes and masks.
fn paths(item: &mut Map<String, Value>) -> impl Iterator<Item = &mut String> {
    fn text(value: &mut Value) -> Option<&mut String> {
        match value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
    item.iter_mut().flat_map(|(name, value)| {
        let (own, sets) = match (name.as_str(), value) {
            ("path", value) => (text(value), None),
            ("boxes" | "masks", Value::Object(sets)) => (None, Some(sets)),
            _ => (None, None),
        };
        let of_sets = sets.into_iter().flat_map(Map::values_mut);
        own.into_iter().chain(of_sets.filter_map(|set| set.get_mut("path").and_then(text)))
    })
}
