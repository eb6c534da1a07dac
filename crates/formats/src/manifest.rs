//! Reads the lines of manifests, which [`crate::object_store`] writes.
//!
//! A line may come from anybody who can write to the store. It never decides which object is read: the name of an
//! object is made of the digest in the line, and a line that names another one is refused.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use safelight_image::media::{Annotations, Fate, MediaEntry, MediaId};

use crate::object_store::{FORMAT, media_name};

/// A line of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The number of the line in the run's journal: of several lines about a place, the one with the greatest counts.
    pub seq: u64,
    /// What the line says.
    pub content: Content,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// An item. The paths of its files are the names of their objects. An image is pruned only if it has no object:
    /// retention does not remove objects.
    Item(Box<MediaEntry>),
    /// No item is at this place any more.
    Gone(MediaId),
}

/// Why a line is not read.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// A later version of Safelight wrote it.
    #[error("got a line of version {got}, want at most {FORMAT}: update Safelight")]
    Newer {
        /// Its version.
        got: u64,
    },
    /// It lies in the folder of another run.
    #[error(
        "got a line of run {got_run:?} of box {got_box:?}, want those of the manifest's folder"
    )]
    OtherRun {
        /// The box that the line names.
        got_box: String,
        /// The run that the line names.
        got_run: String,
    },
    /// It names another object than that of the digest.
    #[error("got object {got:?}, want {want:?}, which the digest names")]
    OtherObject {
        /// The name in the line.
        got: String,
        /// The name that the digest makes.
        want: String,
    },
    /// It is no JSON of an item.
    #[error("got no item: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// The fields that are read before the item.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    r#box: Cow<'a, str>,
    #[serde(borrow)]
    run: Cow<'a, str>,
    seq: u64,
    #[serde(borrow)]
    state: Cow<'a, str>,
    object: Option<String>,
    #[serde(default)]
    masks: BTreeMap<String, Object>,
    #[serde(default)]
    boxes: BTreeMap<String, Object>,
}

#[derive(Deserialize)]
struct Object {
    object: Option<String>,
}

/// The version alone: all else may be otherwise in a later one.
#[derive(Deserialize)]
struct Version {
    v: u64,
}

/// Reads a line of a manifest of this box and run.
///
/// # Errors
/// If the line is of a later version, of another run, names another object than that of its digest, or is no item.
pub fn parse(line: &[u8], of_box: &str, of_run: &str) -> Result<Line, LineError> {
    let Version { v } = serde_json::from_slice(line)?;
    if v > u64::from(FORMAT) {
        return Err(LineError::Newer { got: v });
    }
    let head: Head<'_> = serde_json::from_slice(line)?;
    if head.r#box != of_box || head.run != of_run {
        let (got_box, got_run) = (head.r#box.into_owned(), head.run.into_owned());
        return Err(LineError::OtherRun { got_box, got_run });
    }
    let seq = head.seq;
    if head.state == "gone" {
        return Ok(Line { seq, content: Content::Gone(serde_json::from_slice(line)?) });
    }
    let mut entry: MediaEntry = serde_json::from_slice(line)?;
    if let Fate::Image(image) = &mut entry.fate {
        image.pruned &= head.object.is_none();
        let name = media_name(&image.file.sha256, image.file.file_type.extension());
        image.file.path = checked(name, head.object.as_deref())?;
        name_sets(&mut image.layers.masks, &head.masks, "png")?;
        name_sets(&mut image.layers.boxes, &head.boxes, "json")?;
    }
    Ok(Line { seq, content: Content::Item(Box::new(entry)) })
}

/// Gives the files of sets the names of their objects.
fn name_sets(
    sets: &mut Annotations,
    objects: &BTreeMap<String, Object>,
    extension: &str,
) -> Result<(), LineError> {
    for (name, set) in sets {
        let object = objects.get(name).and_then(|object| object.object.as_deref());
        set.path = checked(media_name(&set.sha256, extension), object)?;
    }
    Ok(())
}

/// Returns the name of an object that a digest makes, if the line names no other one.
fn checked(want: String, got: Option<&str>) -> Result<String, LineError> {
    match got {
        Some(got) if got != want => Err(LineError::OtherObject { got: got.to_owned(), want }),
        _ => Ok(want),
    }
}

#[cfg(test)]
mod tests {
    use safelight_image::media::Sha256;
    use serde_json::{Value, json};

    use super::*;

    fn image() -> Value {
        let sha256 = Sha256::of(b"picture");
        json!({
            "v": 1, "box": "gpu-1", "project": null, "run": "r", "seq": 9, "time": 1.5,
            "key": "k", "step": 3, "index": 0, "state": "image", "reason": null, "class": null,
            "path": "runs/r/media/images/k_3.png", "file_type": "png", "mode": null, "width": 4,
            "height": 3, "size": 7, "sha256": sha256, "caption": null, "grouping": null,
            "profile": null, "rule": null, "format": null, "stats": null,
            "source": {"path": "dumps/a.npy"}, "object": media_name(&sha256, "png"),
            "masks": {"gt": {
                "path": "../../etc/passwd", "sha256": Sha256::of(b"mask"), "size": 4,
                "object": media_name(&Sha256::of(b"mask"), "png"),
            }},
        })
    }

    fn with(field: &str, value: Value) -> Value {
        let mut line = image();
        line[field] = value;
        line
    }

    fn read(line: &Value) -> Result<Line, String> {
        parse(line.to_string().as_bytes(), "gpu-1", "r").map_err(|error| error.to_string())
    }

    #[test]
    fn an_image_has_the_names_of_its_objects_as_paths() {
        let mut early = with("pruned", true.into());
        early["object"] = Value::Null;
        let Content::Item(entry) = read(&early).expect("a line").content else { panic!("no item") };
        assert!(entry.as_image().is_some_and(|image| image.pruned));
        let line = read(&with("pruned", true.into())).expect("a line");
        let Content::Item(entry) = &line.content else { panic!("no item") };
        let image = entry.as_image().expect("an image");
        assert_eq!((line.seq, image.pruned, entry.description.time), (9, false, Some(1.5)));
        assert_eq!(image.file.path, media_name(&Sha256::of(b"picture"), "png"));
        assert_eq!(image.layers.masks["gt"].path, media_name(&Sha256::of(b"mask"), "png"));
    }

    #[test]
    fn items_of_all_states_are_read() {
        let held = json!({
            "v": 1, "box": "gpu-1", "run": "r", "seq": 2, "key": "k", "step": 3, "index": 1, "state": "held",
            "reason": "over", "path": null, "sha256": null, "stats": null, "time": null,
            "source": {"path": "a"},
        });
        let rejected = json!({
            "v": 1, "box": "gpu-1", "run": "r", "seq": 3, "key": null, "step": null, "index": null,
            "state": "rejected", "reason": "rubbish", "class": "waiting", "source": {"path": "a"},
        });
        for line in [held, rejected] {
            let got = read(&line).expect("a line");
            assert!(matches!(got.content, Content::Item(_)), "{line}");
        }
        let gone = json!({
            "v": 1, "box": "gpu-1", "run": "r", "seq": 4, "key": "k", "step": 3, "index": 0,
            "state": "gone", "time": null,
        });
        let got = read(&gone).expect("a line");
        let Content::Gone(id) = got.content else { panic!("an item") };
        assert_eq!((id.key.as_str(), id.step.0, id.index), ("k", 3, 0));
    }

    #[test]
    fn other_lines_are_refused_with_what_was_found() {
        let mut mask = image();
        mask["masks"]["gt"]["object"] = "media/../../etc/passwd".into();
        for (line, want) in [
            (with("v", 2.into()), "got a line of version 2, want at most 1"),
            (with("box", "gpu-2".into()), "got a line of run \"r\" of box \"gpu-2\""),
            (with("object", "../../etc/passwd".into()), "got object \"../../etc/passwd\", want"),
            (with("object", "media/aa/bb.png".into()), "which the digest names"),
            (mask, "got object \"media/../../etc/passwd\", want"),
            (with("v", Value::Null), "got no item: invalid type: null, expected u64"),
            (with("width", "wide".into()), "got no item: "),
            (with("width", Value::Null), "got no item: image item without \"width\""),
            (with("state", "new".into()), "got no item: "),
            (json!([]), "got no item: "),
        ] {
            let error = read(&line).expect_err("an error");
            assert!(error.contains(want), "{error}");
        }
        // A later version may have other fields.
        let later = parse(br#"{"v":7,"what":"ever"}"#, "gpu-1", "r");
        assert!(matches!(later, Err(LineError::Newer { got: 7 })));
    }
}
