//! An item of the store: an image, one that is held, or a line or dump that was rejected.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::entry_json::EntryFields;
use super::{
    ColorMode, Colormap, DataFormat, Digest, FileType, Json, JsonFields, MediaId, MediaKey,
    Profile, Rule, Sha256, Step, Xxh3,
};

/// Statistics of one image's values before conversion. Of complex values, the real parts count.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// The least finite value. `None` if no value is finite.
    pub min: Option<f64>,
    /// The greatest finite value. `None` if no value is finite.
    pub max: Option<f64>,
    /// The mean of the finite values.
    pub mean: Option<f64>,
    /// The standard deviation of the finite values, as of a whole population.
    #[serde(default)]
    pub std: Option<f64>,
    /// Number of values that are NaN.
    pub nan: u64,
    /// Number of values that are +∞ or −∞.
    pub inf: u64,
    /// The share of all values, 0 to 1, that are finite and lie outside the range that the rule maps.
    /// They were clipped or, under rule `wrap`, wrapped.
    #[serde(default)]
    pub clipped: f64,
    /// Whether all values are finite and equal.
    #[serde(default)]
    pub constant: bool,
}

/// Where an item came from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Source {
    /// The dump, relative to the run directory. For a line that names no dump, the media log.
    pub path: String,
    /// The tensor's name, if the dump holds several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor: Option<String>,
    /// The digest of the whole dump, of one kind or the other: see [`crate::media::DigestKind`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[expect(missing_docs, reason = "documented with `sha256`")]
    pub xxh3: Option<Xxh3>,
    /// When the dump was written, in nanoseconds since the Unix epoch, if the record gives no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtime_ns: Option<i64>,
    /// The media log with the line that described it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// The number of that line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Which image of its tensor the item is, from 0. `None` for the first one, and for a line, a dump or a
    /// tensor that was rejected as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<u64>,
    /// The session that wrote that line, if the log names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The rank in that session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// Of a waiting item, the line that described it, unless that is long: its log may be rotated away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Of an image, the masks and files of annotations that were missing when it was made. It is made again
    /// when one of them is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// For a held or waiting item, where to find it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldAt>,
}

/// Where to find a held or waiting item again, and how to see whether its dump has changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldAt {
    /// The image's number within the tensor, from 0. Of a waiting item, 0.
    pub image: u64,
    /// The dump's length in bytes.
    pub n_bytes: u64,
    /// The dump's modification time, in nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
}

impl HeldAt {
    /// The version of a dump with this length in bytes and modification time in nanoseconds, and an image
    /// of it.
    #[must_use]
    pub fn new(image: u64, n_bytes: u64, mtime_ns: i128) -> Self {
        Self { image, n_bytes, mtime_ns: i64::try_from(mtime_ns).unwrap_or(i64::MAX) }
    }

    /// Whether both are about the same version of the dump.
    #[must_use]
    pub fn is_same_version(&self, other: &Self) -> bool {
        (self.n_bytes, self.mtime_ns) == (other.n_bytes, other.mtime_ns)
    }
}

impl Source {
    /// The digest of the whole dump.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        Digest::of_fields(self.xxh3, self.sha256)
    }

    /// The session and the rank that wrote the line, if the log names them.
    #[must_use]
    pub fn writer(&self) -> Option<(&str, u32)> {
        Some((self.session.as_deref()?, self.rank.unwrap_or(0)))
    }
}

/// A media file of the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MediaFile {
    /// Relative to the run's folder in the store: `media/images/val/pred_120_….png`.
    pub path: String,
    /// The encoding.
    pub file_type: FileType,
    /// The kind of picture. `None` if the file is stored as it came and has a mode that Safelight lacks.
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
    /// Width and height before `over_dimension = "downscale"` made the image smaller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downscaled_from: Option<(u64, u64)>,
}

/// A class: the meaning of a number in boxes and masks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Class {
    /// A whole number or text.
    pub id: Value,
    /// Its name.
    pub name: String,
}

/// Names of class ids, in the order in which the job gave them.
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
    /// Names by class id: those of the job, or `class_<id>` for each id that occurs. An object; `None` if there
    /// are none. See [`Annotation::labels`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_labels: Option<Json>,
    /// Where a mask came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

impl Annotation {
    /// Parses the names by class id.
    #[must_use]
    pub fn labels(&self) -> ClassLabels {
        match self.class_labels.as_ref().map(Json::to_value) {
            Some(Value::Object(labels)) => labels,
            _ => ClassLabels::new(),
        }
    }
}

/// Sets of boxes or masks by name.
pub type Annotations = BTreeMap<String, Annotation>;

/// What is drawn on an image.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Layers {
    /// The classes of the image, each id once: those of its boxes, of its masks, then its own. A list of
    /// [`Class`]; `None` if there are none. See [`Layers::class_list`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Json>,
    /// Sets of boxes.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub boxes: Annotations,
    /// Masks.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub masks: Annotations,
    /// What is odd about the image, and what was repaired or dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Layers {
    /// Parses the classes.
    #[must_use]
    pub fn class_list(&self) -> Vec<Class> {
        let classes = self.classes.as_ref().map(|classes| serde_json::from_str(classes.text()));
        classes.and_then(Result::ok).unwrap_or_default()
    }
}

/// How the pixels of an image were made from the values of its dump.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The profile whose rules were used.
    pub profile: Profile,
    /// The rule that mapped values to pixels.
    pub rule: Rule,
    /// The values that became 0 and 255, under rule `range`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<(f64, f64)>,
    /// The colormap that gray values were drawn with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub colormap: Option<Colormap>,
    /// The order of the axes.
    pub format: DataFormat,
    /// Whether the job gave no order of the axes, and another one was possible too, or this one was chosen
    /// only because nothing else fits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub format_guessed: bool,
    /// Statistics of the values before conversion.
    pub stats: Stats,
}

/// What the job said of an image. Safelight passes it on as it is, so the fields are text.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Description {
    /// Text under the picture: any JSON value, as in wandb.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<Json>,
    /// W&B's `grouping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grouping: Option<Json>,
    /// Seconds since the Unix epoch, as the job gave them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<f64>,
    /// `classes`, `boxes` and `masks` as the job gave them, of an item that is held or rejected.
    #[serde(default, skip_serializing_if = "JsonFields::is_empty")]
    pub annotations: JsonFields,
    /// Those of them that were loaded from files, as the job gave them: with the names of the files. Kept
    /// in memory only.
    #[serde(skip)]
    pub loaded: JsonFields,
    /// An object with every other field, as the job gave it. `None` if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Json>,
}

impl Description {
    /// Merges two descriptions: fields that are missing are taken from `base`.
    #[must_use]
    pub fn over(mut self, base: Self) -> Self {
        self.caption = self.caption.or(base.caption);
        self.grouping = self.grouping.or(base.grouping);
        self.time = self.time.or(base.time);
        for (name, value) in base.annotations {
            if self.annotations.get(&name).is_none() {
                self.annotations.insert(&name, value);
            }
        }
        self.extra = match (self.extra, base.extra) {
            (Some(extra), Some(base)) => {
                let (first, base) = (extra.fields().unwrap_or_default(), base.fields());
                // The last value of a field counts.
                let all = first.clone().into_iter().chain(base.unwrap_or_default()).chain(first);
                all.collect::<JsonFields>().into_object()
            }
            (extra, base) => extra.or(base),
        };
        self
    }

    /// The length of the text in bytes, without annotations that were loaded from files a second time.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        let values = [&self.caption, &self.grouping, &self.extra].into_iter().flatten();
        let n_bytes: usize = values.map(|value| value.text().len() + 16).sum();
        n_bytes + self.annotations.n_bytes() + 32
    }

    /// Names the files of annotations again, in place of what was loaded from them: the journal does not
    /// repeat it. Masks keep the names of their dumps, which retention asks for.
    fn without_loaded(mut self) -> Self {
        for (name, given) in std::mem::take(&mut self.loaded) {
            match self.annotations.get(&name).filter(|_| name == "masks").map(dumps_of_masks) {
                Some(masks) => self.annotations.insert(&name, masks),
                None => self.annotations.insert(&name, given),
            }
        }
        self
    }
}

/// Returns masks with nothing but the names of their dumps.
fn dumps_of_masks(masks: &Json) -> Json {
    let of_mask = |mask: Json| match mask.fields() {
        Some(mut fields) => {
            fields.retain(|name, _| matches!(name, "mask_data" | "path"));
            fields.to_json()
        }
        None => mask,
    };
    let of_image = |masks: Json| match masks.fields() {
        Some(sets) => sets
            .into_iter()
            .map(|(name, mask)| (name, of_mask(mask)))
            .collect::<JsonFields>()
            .to_json(),
        None => masks,
    };
    match masks.entries() {
        Some(images) => images.into_iter().map(of_image).collect(),
        None => of_image(masks.clone()),
    }
}

/// The length at which a reason is cut, in characters: names and shapes in it come from the dump.
const REASON_CHARS_MAX: usize = 1000;

/// Cuts a text to `n_chars` characters. An ellipsis marks the cut.
#[must_use]
pub fn shortened(text: String, n_chars: usize) -> String {
    match text.char_indices().nth(n_chars) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// The name of what became of an item, as in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Committed as a media file.
    Image,
    /// Over a limit. The dump stays where it is.
    Held,
    /// Cannot become an image.
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

/// Whether a rejected item may still become an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RejectionClass {
    /// The bytes are no picture, or the record asks for what is not possible.
    #[default]
    Final,
    /// What is wrong may be right later: a dump that is missing or cut off, a limit, an index that is
    /// taken. The item is tried again.
    Waiting,
}

impl RejectionClass {
    /// The name as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::Waiting => "waiting",
        }
    }
}

/// Why a line, a dump or a tensor makes no image now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Whether that may change.
    pub class: RejectionClass,
    /// What was found and what is wanted, for people.
    pub reason: String,
}

impl Rejection {
    /// A rejection that is tried again.
    #[must_use]
    pub fn waiting(reason: impl Into<String>) -> Self {
        Self { class: RejectionClass::Waiting, reason: reason.into() }
    }

    /// Whether it is tried again.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.class == RejectionClass::Waiting
    }
}

impl From<String> for Rejection {
    /// A rejection for good.
    fn from(reason: String) -> Self {
        Self { class: RejectionClass::Final, reason }
    }
}

/// An image with its media file.
#[derive(Debug, Clone, PartialEq)]
pub struct CommittedImage {
    /// Its place in the run.
    pub id: MediaId,
    /// The media file.
    pub file: MediaFile,
    /// How the pixels were made. `None` for a picture that is stored as it came.
    pub provenance: Option<Provenance>,
    /// Boxes, masks and classes.
    pub layers: Layers,
    /// Whether retention removed its files. A journal never says so in the line of the image: a line of
    /// its own does.
    pub pruned: bool,
}

impl CommittedImage {
    /// All its files beside the media file: sets of boxes, then masks.
    pub fn annotations(&self) -> impl Iterator<Item = &Annotation> {
        self.layers.boxes.values().chain(self.layers.masks.values())
    }

    /// The paths of its files, relative to the run's folder in the store.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let of_layers = self.annotations().map(|annotation| &annotation.path);
        std::iter::once(&self.file.path).chain(of_layers).cloned().collect()
    }

    /// Bytes of all its files.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.file.size + self.annotations().map(|annotation| annotation.size).sum::<u64>()
    }
}

/// What a rejected line or dump said of its place in the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedPlace {
    /// The series.
    pub key: MediaKey,
    /// The training step.
    pub step: Step,
    /// The place among the images of that key and step, from 0, if it was given.
    pub index: Option<u32>,
}

/// What became of an item.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// Committed as a media file.
    Image(Box<CommittedImage>),
    /// Over a limit. The dump stays where it is, and the item may be released later.
    Held {
        /// Its place in the run.
        id: MediaId,
        /// Which limit, at most 1000 characters.
        reason: String,
    },
    /// Cannot become an image, or not yet.
    Rejected {
        /// Its place in the run, if it said one. A waiting item has its index until it is tried again,
        /// unless something else has that index.
        place: Option<ClaimedPlace>,
        /// Why, at most 1000 characters.
        reason: String,
        /// Whether it is tried again.
        class: RejectionClass,
    },
}

/// One item of the store: an image, one that is held, or a line or dump that was rejected.
///
/// Its JSON form is one flat object: see [`Self::to_json`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "EntryFields<'static>")]
pub struct MediaEntry {
    /// What became of it.
    pub fate: Fate,
    /// What the job said of it.
    pub description: Description,
    /// Where it came from.
    pub source: Source,
}

impl MediaEntry {
    /// An image and its media file. `provenance` is `None` for a picture that is stored as it came.
    #[must_use]
    pub fn image(
        id: MediaId,
        file: MediaFile,
        provenance: Option<Provenance>,
        layers: Layers,
        description: Description,
        source: Source,
    ) -> Self {
        let image = CommittedImage { id, file, provenance, layers, pruned: false };
        let source = Source { text: None, ..source };
        Self { fate: Fate::Image(Box::new(image)), description, source }
    }

    /// An image that is held because of a limit.
    #[must_use]
    pub fn held(id: MediaId, reason: String, description: Description, source: Source) -> Self {
        let reason = shortened(reason, REASON_CHARS_MAX);
        let source = Source { text: None, missing: Vec::new(), ..source };
        Self { fate: Fate::Held { id, reason }, description: description.without_loaded(), source }
    }

    /// A line or dump that cannot become an image, with the place that it said: key, step, index.
    #[must_use]
    pub fn rejected(
        place: Option<(MediaKey, Step, Option<u32>)>,
        why: impl Into<Rejection>,
        description: Description,
        source: Source,
    ) -> Self {
        let place = place.map(|(key, step, index)| ClaimedPlace { key, step, index });
        let Rejection { class, reason } = why.into();
        let text = source.text.filter(|_| class == RejectionClass::Waiting);
        let source = Source { text, missing: Vec::new(), ..source };
        let reason = shortened(reason, REASON_CHARS_MAX);
        let description = description.without_loaded();
        Self { fate: Fate::Rejected { place, reason, class }, description, source }
    }

    /// The name of its fate.
    #[must_use]
    pub const fn state(&self) -> State {
        match &self.fate {
            Fate::Image(_) => State::Image,
            Fate::Held { .. } => State::Held,
            Fate::Rejected { .. } => State::Rejected,
        }
    }

    /// The image, if it is one.
    #[must_use]
    pub fn as_image(&self) -> Option<&CommittedImage> {
        match &self.fate {
            Fate::Image(image) => Some(image),
            Fate::Held { .. } | Fate::Rejected { .. } => None,
        }
    }

    /// Adds warnings to an image. Held and rejected items have none.
    pub fn warn(&mut self, warnings: impl IntoIterator<Item = String>) {
        if let Fate::Image(image) = &mut self.fate {
            image.layers.warnings.extend(warnings);
        }
    }

    /// Why it was held or rejected.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match &self.fate {
            Fate::Image(_) => None,
            Fate::Held { reason, .. } | Fate::Rejected { reason, .. } => Some(reason),
        }
    }

    /// Whether it was rejected, and is tried again.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        matches!(self.fate, Fate::Rejected { class: RejectionClass::Waiting, .. })
    }

    /// The series. A rejected item may have none.
    #[must_use]
    pub fn key(&self) -> Option<&MediaKey> {
        self.place().0
    }

    /// The training step. A rejected item may have none.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        self.place().1
    }

    /// The place among the images of its key and step, from 0. A rejected item may have none.
    #[must_use]
    pub fn index(&self) -> Option<u32> {
        self.place().2
    }

    /// Its place in the run, if all of it is known.
    #[must_use]
    pub fn id(&self) -> Option<MediaId> {
        let (key, step, index) = self.place();
        Some(MediaId { key: key?.clone(), step: step?, index: index? })
    }

    /// The paths of an image's files, relative to the run's folder in the store.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.as_image().map(CommittedImage::paths).unwrap_or_default()
    }

    fn place(&self) -> (Option<&MediaKey>, Option<Step>, Option<u32>) {
        match &self.fate {
            Fate::Image(image) => (Some(&image.id.key), Some(image.id.step), Some(image.id.index)),
            Fate::Held { id, .. } => (Some(&id.key), Some(id.step), Some(id.index)),
            Fate::Rejected { place: Some(place), .. } => {
                (Some(&place.key), Some(place.step), place.index)
            }
            Fate::Rejected { place: None, .. } => (None, None, None),
        }
    }
}
