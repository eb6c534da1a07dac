//! Names of objects, and the lines of manifests.
//!
//! Below the prefix of the target's URL:
//!
//! | name | what |
//! | --- | --- |
//! | `media/HH/SHA256.png` | a media file, a mask, a set of boxes; `HH` are the first two digits of its digest |
//! | `runs/RUN/run.json` | the run: its id, the run directory, its `safelight.json` |
//! | `runs/RUN/00000001.jsonl` … | manifests: a line for each image of the run |
//!
//! No object is ever overwritten. If several lines have the same key, step and index, the last one counts: it is
//! the latest version of the image.

use serde::Deserialize;
use serde_json::{Value, json};

use safelight_image::media::{CommittedImage, MediaEntry, RunId, Sha256};

/// Returns the name of a file with this digest.
#[must_use]
pub fn media_name(sha256: &Sha256, extension: &str) -> String {
    let digits = sha256.to_string();
    format!("media/{}/{digits}.{extension}", &digits[..2])
}

/// Returns the name of the run's description.
#[must_use]
pub fn run_name(run: &RunId) -> String {
    format!("runs/{}/run.json", run.folder())
}

/// Returns the name of a manifest.
#[must_use]
pub fn manifest_name(run: &RunId, n: u64) -> String {
    format!("runs/{}/{n:08}.jsonl", run.folder())
}

/// Returns the line of an item: the fields of `safelight ls --json`, the number of its line in the run's journal,
/// its time, and as `object` the names of its files.
#[must_use]
pub fn line(run: &RunId, entry: &MediaEntry, seq: u64, time: f64) -> Value {
    let mut line = entry.to_json(run);
    if let Some(CommittedImage { file, layers, .. }) = entry.as_image() {
        line["object"] = media_name(&file.sha256, file.file_type.extension()).into();
        for (kind, sets, extension) in
            [("masks", &layers.masks, "png"), ("boxes", &layers.boxes, "json")]
        {
            for (name, annotation) in sets {
                line[kind][name]["object"] = media_name(&annotation.sha256, extension).into();
            }
        }
    }
    line["seq"] = seq.into();
    line["time"] = json!(time);
    line
}

/// The fields of a line that make its identity.
#[derive(Deserialize)]
struct Identity {
    seq: u64,
    key: String,
    step: u64,
    index: u64,
    sha256: String,
}

impl Identity {
    fn digest(&self) -> Sha256 {
        let Self { seq, key, step, index, sha256 } = self;
        Sha256::of(json!([seq, key, step, index, sha256]).to_string().as_bytes())
    }
}

/// Returns the identity of a line: two lines with the same identity are versions of one item.
#[must_use]
pub fn identity(line: &Value) -> Option<Sha256> {
    Identity::deserialize(line).ok().map(|identity| identity.digest())
}

/// Returns the identity of a line of a manifest, whose other fields are skipped.
#[must_use]
pub fn identity_in(line: &[u8]) -> Option<Sha256> {
    serde_json::from_slice::<Identity>(line).ok().map(|identity| identity.digest())
}

#[cfg(test)]
mod tests {
    use super::*;
    use safelight_image::media::{
        Annotation, Description, FileType, Layers, MediaFile, MediaId, MediaKey, Source, Step,
    };

    #[test]
    fn names_tell_content_and_number() {
        let digest = Sha256::of(b"abc");
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(media_name(&digest, "png"), format!("media/ba/{hex}.png"));
        let run = RunId::new("a/b").expect("a name");
        assert_eq!(manifest_name(&run, 7), "runs/a%2Fb/00000007.jsonl");
        assert_eq!(run_name(&run), "runs/a%2Fb/run.json");
    }

    #[test]
    fn a_line_is_the_item_with_the_names_of_its_objects() {
        let run = RunId::new("r").expect("a name");
        let key = MediaKey::new("k").expect("a key");
        let id = MediaId { key, step: Step(3), index: 0 };
        let sha256 = Sha256::of(b"picture");
        let file = MediaFile {
            path: "media/images/k_3.jpg".to_owned(),
            file_type: FileType::Jpg,
            mode: None,
            width: 1,
            height: 1,
            size: 7,
            sha256,
            downscaled_from: None,
        };
        let mask = Annotation {
            path: "media/images/mask/m.png".to_owned(),
            sha256: Sha256::of(b"mask"),
            size: 4,
            class_labels: None,
            source: None,
        };
        let layers = Layers { masks: [("gt".to_owned(), mask)].into(), ..Layers::default() };
        let (about, from) = (Description::default(), Source::default());
        let entry = MediaEntry::image(id, file, None, layers, about, from);
        let got = line(&run, &entry, 9, 1.5);
        assert_eq!(got["path"], "runs/r/media/images/k_3.jpg");
        assert_eq!(got["object"], media_name(&sha256, "jpg"));
        assert_eq!(got["masks"]["gt"]["object"], media_name(&Sha256::of(b"mask"), "png"));
        assert_eq!((&got["seq"], &got["time"]), (&json!(9), &json!(1.5)));
        assert_eq!(identity(&got), identity(&line(&run, &entry, 9, 2.0)));
        assert_ne!(identity(&got), identity(&line(&run, &entry, 10, 1.5)));
        assert_eq!(identity(&json!({"seq": 1})), None);
        assert_eq!(identity_in(got.to_string().as_bytes()), identity(&got));
        assert_eq!(identity_in(b"<html>"), None);
    }
}
