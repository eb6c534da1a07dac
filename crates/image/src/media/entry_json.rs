//! The JSON form of an item: one flat object, in journals and in the output of `safelight ls --json`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::entry::{ClaimedPlace, CommittedImage};
use super::{
    ColorMode, Colormap, DataFormat, Description, Fate, FileType, Layers, MediaEntry, MediaFile,
    MediaId, MediaKey, Profile, Provenance, RejectionClass, Rule, RunId, Sha256, Source, State,
    Stats, Step,
};

/// All fields that an item can have, in the order in which they are written.
///
/// Fields that only some items have are options here. [`MediaEntry`] is made of them only if those
/// that belong to its `state` are there. Fields of an item that is written are borrowed from it.
#[derive(Serialize, Deserialize)]
pub(super) struct EntryFields<'a> {
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, MediaKey>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<RejectionClass>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_type: Option<FileType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<ColorMode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Sha256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    downscaled_from: Option<(u64, u64)>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pruned: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Profile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<Rule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<(f64, f64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    colormap: Option<Colormap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<DataFormat>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    format_guessed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<Stats>,
    #[serde(flatten)]
    layers: Cow<'a, Layers>,
    #[serde(flatten)]
    description: Cow<'a, Description>,
    source: Cow<'a, Source>,
}

/// Why fields are not those of an item.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EntryError {
    /// A field that the state needs is not there.
    #[error("{} item without {field:?}", .state.name())]
    Missing { state: State, field: &'static str },
    /// A field that the state cannot have is there.
    #[error("{} item with {field:?}", .state.name())]
    Unexpected { state: State, field: &'static str },
}

impl<'a> EntryFields<'a> {
    fn empty(state: State, description: &'a Description, source: &'a Source) -> Self {
        Self {
            state,
            key: None,
            step: None,
            index: None,
            reason: None,
            class: None,
            path: None,
            file_type: None,
            mode: None,
            width: None,
            height: None,
            size: None,
            sha256: None,
            downscaled_from: None,
            pruned: false,
            profile: None,
            rule: None,
            range: None,
            colormap: None,
            format: None,
            format_guessed: false,
            stats: None,
            layers: Cow::Owned(Layers::default()),
            description: Cow::Borrowed(description),
            source: Cow::Borrowed(source),
        }
    }

    fn need<T>(&self, value: Option<T>, field: &'static str) -> Result<T, EntryError> {
        value.ok_or(EntryError::Missing { state: self.state, field })
    }

    fn set_place(&mut self, id: &'a MediaId) {
        self.key = Some(Cow::Borrowed(&id.key));
        (self.step, self.index) = (Some(id.step), Some(id.index));
    }

    fn id(&mut self) -> Result<MediaId, EntryError> {
        let key = self.key.take();
        Ok(MediaId {
            key: self.need(key, "key")?.into_owned(),
            step: self.need(self.step, "step")?,
            index: self.need(self.index, "index")?,
        })
    }

    fn claimed_place(&mut self) -> Result<Option<ClaimedPlace>, EntryError> {
        let Some(key) = self.key.take() else {
            self.refuse(&[("step", self.step.is_some()), ("index", self.index.is_some())])?;
            return Ok(None);
        };
        let step = self.need(self.step, "step")?;
        Ok(Some(ClaimedPlace { key: key.into_owned(), step, index: self.index }))
    }

    fn image(mut self) -> Result<CommittedImage, EntryError> {
        self.refuse(&[("reason", self.reason.is_some()), ("class", self.class.is_some())])?;
        let path = self.path.take();
        let file = MediaFile {
            path: self.need(path, "path")?.into_owned(),
            file_type: self.need(self.file_type, "file_type")?,
            mode: self.mode,
            width: self.need(self.width, "width")?,
            height: self.need(self.height, "height")?,
            size: self.need(self.size, "size")?,
            sha256: self.need(self.sha256, "sha256")?,
            downscaled_from: self.downscaled_from,
        };
        let provenance = match self.provenance_field() {
            None => None,
            Some(_) => Some(Provenance {
                profile: self.need(self.profile, "profile")?,
                rule: self.need(self.rule, "rule")?,
                range: self.range,
                colormap: self.colormap,
                format: self.need(self.format, "format")?,
                format_guessed: self.format_guessed,
                stats: self.need(self.stats, "stats")?,
            }),
        };
        let id = self.id()?;
        let layers = self.layers.into_owned();
        Ok(CommittedImage { id, file, provenance, layers, pruned: self.pruned })
    }

    /// A field of the image's provenance that is there.
    fn provenance_field(&self) -> Option<&'static str> {
        let fields = [
            ("profile", self.profile.is_some()),
            ("rule", self.rule.is_some()),
            ("range", self.range.is_some()),
            ("colormap", self.colormap.is_some()),
            ("format", self.format.is_some()),
            ("format_guessed", self.format_guessed),
            ("stats", self.stats.is_some()),
        ];
        fields.into_iter().find(|&(_, is_there)| is_there).map(|(field, _)| field)
    }

    /// Checks that no field of an image is there.
    fn refuse_image(&self) -> Result<(), EntryError> {
        let Layers { classes, boxes, masks, warnings } = &*self.layers;
        self.refuse(&[
            ("path", self.path.is_some()),
            ("sha256", self.sha256.is_some()),
            ("pruned", self.pruned),
            (self.provenance_field().unwrap_or_default(), self.provenance_field().is_some()),
            ("classes", classes.is_some()),
            ("boxes", !boxes.is_empty()),
            ("masks", !masks.is_empty()),
            ("warnings", !warnings.is_empty()),
        ])
    }

    fn refuse(&self, fields: &[(&'static str, bool)]) -> Result<(), EntryError> {
        match fields.iter().find(|&&(_, is_there)| is_there) {
            Some(&(field, _)) => Err(EntryError::Unexpected { state: self.state, field }),
            None => Ok(()),
        }
    }
}

impl TryFrom<EntryFields<'_>> for MediaEntry {
    type Error = EntryError;

    fn try_from(mut fields: EntryFields<'_>) -> Result<Self, EntryError> {
        let description = std::mem::take(&mut fields.description).into_owned();
        let source = std::mem::take(&mut fields.source).into_owned();
        let fate = if fields.state == State::Image {
            Fate::Image(Box::new(fields.image()?))
        } else {
            fields.refuse_image()?;
            let reason = fields.reason.take();
            let reason = fields.need(reason, "reason")?.into_owned();
            if fields.state == State::Held {
                fields.refuse(&[("class", fields.class.is_some())])?;
                Fate::Held { id: fields.id()?, reason }
            } else {
                let class = fields.class.unwrap_or_default();
                Fate::Rejected { place: fields.claimed_place()?, reason, class }
            }
        };
        Ok(Self { fate, description, source })
    }
}

impl<'a> From<&'a MediaEntry> for EntryFields<'a> {
    fn from(entry: &'a MediaEntry) -> Self {
        let mut fields = Self::empty(entry.state(), &entry.description, &entry.source);
        match &entry.fate {
            Fate::Image(image) => {
                let CommittedImage { id, file, provenance, layers, pruned } = &**image;
                fields.set_place(id);
                fields.path = Some((&file.path).into());
                fields.file_type = Some(file.file_type);
                fields.mode = file.mode;
                fields.width = Some(file.width);
                fields.height = Some(file.height);
                fields.size = Some(file.size);
                fields.sha256 = Some(file.sha256);
                fields.downscaled_from = file.downscaled_from;
                fields.pruned = *pruned;
                if let Some(provenance) = provenance {
                    fields.profile = Some(provenance.profile);
                    fields.rule = Some(provenance.rule);
                    fields.range = provenance.range;
                    fields.colormap = provenance.colormap;
                    fields.format = Some(provenance.format);
                    fields.format_guessed = provenance.format_guessed;
                    fields.stats = Some(provenance.stats);
                }
                fields.layers = Cow::Borrowed(layers);
            }
            Fate::Held { id, reason } => {
                fields.set_place(id);
                fields.reason = Some(reason.into());
            }
            Fate::Rejected { place, reason, class } => {
                if let Some(ClaimedPlace { key, step, index }) = place {
                    fields.key = Some(Cow::Borrowed(key));
                    (fields.step, fields.index) = (Some(*step), *index);
                }
                (fields.reason, fields.class) = (Some(reason.into()), Some(*class));
            }
        }
        fields
    }
}

impl Serialize for MediaEntry {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        EntryFields::from(self).serialize(to)
    }
}

impl MediaEntry {
    /// The fields that every item has, in the order in which they are printed, after `run`.
    pub const FIELDS: [&str; 20] = [
        "key",
        "step",
        "index",
        "state",
        "reason",
        "class",
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

    /// The item as the interfaces print it: one flat object, absent fields as `null`, paths relative to
    /// the store.
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

    /// The item that [`Self::to_json`] printed.
    ///
    /// # Errors
    /// If the value is not an object of that form. The error names a field that is missing.
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn image() -> Value {
        json!({
            "state": "image", "key": "val/pred", "step": 3, "index": 0, "path": "media/images/a.png",
            "file_type": "png", "mode": "L", "width": 4, "height": 3, "size": 70,
            "sha256": Sha256::of(b"").to_string(), "profile": "auto", "rule": "clip", "format": "HW",
            "stats": Stats::default(), "caption": "one", "source": {"path": "dumps/a.npy"},
        })
    }

    fn without(mut item: Value, field: &str) -> Value {
        item.as_object_mut().and_then(|item| item.shift_remove(field)).expect("the field");
        item
    }

    fn error(item: Value) -> String {
        serde_json::from_value::<MediaEntry>(item).expect_err("an error").to_string()
    }

    #[test]
    fn an_entry_of_each_fate_comes_back_with_its_fields_in_order() {
        let source = json!({"path": "a.media.jsonl", "line": 7});
        let rejected =
            json!({"state": "rejected", "reason": "rubbish", "class": "final", "source": source});
        let placed = json!({"state": "rejected", "key": "k", "step": 1, "reason": "no", "class": "waiting", "source": source});
        let held = json!({"state": "held", "key": "k", "step": 1, "index": 2, "reason": "over", "source": source});
        let as_it_came = ["profile", "rule", "format", "stats"].into_iter().fold(image(), without);
        for item in [image(), as_it_came, held, placed, rejected] {
            let entry: MediaEntry = serde_json::from_value(item.clone()).expect("an entry");
            let again = serde_json::to_value(&entry).expect("JSON");
            assert_eq!(again.to_string(), item.to_string());
            let run = RunId::new("exp/7").expect("a name");
            assert_eq!(MediaEntry::from_json(entry.to_json(&run), &run).expect("an entry"), entry);
        }
    }

    #[test]
    fn an_image_without_a_field_of_its_file_is_an_error_that_names_the_field() {
        for field in
            ["key", "step", "index", "path", "file_type", "width", "height", "size", "sha256"]
        {
            assert_eq!(error(without(image(), field)), format!("image item without {field:?}"));
        }
        for field in ["profile", "rule", "format", "stats"] {
            assert_eq!(error(without(image(), field)), format!("image item without {field:?}"));
        }
        // A field of the wrong type does not count as absent.
        let mut item = image();
        item["width"] = json!("wide");
        assert_eq!(error(item), "invalid type: string \"wide\", expected u32");
    }

    #[test]
    fn an_item_that_is_no_image_has_no_field_of_one() {
        let held = json!({"state": "held", "key": "k", "step": 1, "index": 2, "reason": "over", "source": {"path": "a"}});
        for field in ["key", "step", "index", "reason"] {
            assert_eq!(error(without(held.clone(), field)), format!("held item without {field:?}"));
        }
        for field in ["path", "sha256", "rule", "stats"] {
            let mut item = held.clone();
            item[field] = image()[field].clone();
            assert_eq!(error(item), format!("held item with {field:?}"));
        }
        let step_only =
            json!({"state": "rejected", "step": 1, "reason": "no", "source": {"path": "a"}});
        assert_eq!(error(step_only), "rejected item with \"step\"");
    }
}
