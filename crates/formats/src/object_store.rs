//! Names of objects, and the lines of manifests.
//!
//! Below the prefix of the target's URL:
//!
//! | name | what |
//! | --- | --- |
//! | `media/HH/SHA256.png` | a media file, a mask, a set of boxes; `HH` are the first two digits of its digest |
//! | `runs/BOX/RUN/run.json` | the run: its box, its id, the run directory, its `safelight.json` |
//! | `runs/BOX/RUN/backfilled.json` | the run was backfilled from an archive, and all of it is there |
//! | `runs/BOX/RUN/00000001.jsonl` … | manifests: a line for each item of the run |
//! | `inbox/BOX/RUN/00000001` … | empty: the manifest of this name is there, and no catalogue has it yet |
//!
//! Only markers below `inbox/` are ever removed, and no object is ever overwritten. Of the lines with the same key, step
//! and index, the one with the highest `seq` counts: it is the latest version of the item.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use safelight_image::media::{BoxName, CommittedImage, MediaEntry, MediaId, RunId, Sha256};

/// The version of the layout: `v` in `run.json` and in each line.
pub const FORMAT: u32 = 1;

/// Returns the name of a file with this digest.
#[must_use]
pub fn media_name(sha256: &Sha256, extension: &str) -> String {
    let digits = sha256.to_string();
    format!("media/{}/{digits}.{extension}", &digits[..2])
}

/// A run of a box. Two boxes may have runs with the same id.
#[derive(Debug, Clone)]
pub struct BoxRun {
    /// The box.
    pub box_name: BoxName,
    /// The run's id.
    pub run: RunId,
    /// The project that the run's `safelight.json` names.
    pub project: Option<String>,
}

impl BoxRun {
    fn folder(&self) -> String {
        format!("{}/{}", self.box_name.folder(), self.run.folder())
    }

    /// Returns the name of the run's description.
    #[must_use]
    pub fn run_name(&self) -> String {
        format!("runs/{}/run.json", self.folder())
    }

    /// Returns the name of a manifest.
    #[must_use]
    pub fn manifest_name(&self, n: u64) -> String {
        format!("runs/{}/{n:08}.jsonl", self.folder())
    }

    /// Returns the name of the marker of a manifest that no catalogue has yet.
    #[must_use]
    pub fn marker_name(&self, n: u64) -> String {
        format!("inbox/{}/{n:08}", self.folder())
    }

    /// Returns the name of the marker of a run that was backfilled as a whole.
    #[must_use]
    pub fn backfilled_name(&self) -> String {
        format!("runs/{}/backfilled.json", self.folder())
    }

    /// Returns the content of `run.json`. `source` is the run directory, `identity` the content of its `safelight.json`.
    #[must_use]
    pub fn description(&self, source: &str, identity: &Map<String, Value>) -> Value {
        let Self { box_name, run, project } = self;
        json!({
            "v": FORMAT, "box": box_name.as_str(), "run": run.as_str(), "project": project,
            "source": source, "identity": identity,
        })
    }

    /// Returns the line of an item: the fields of `safelight ls --json`, those of each line, and as `object` the names of
    /// its files, unless they were removed before they could be delivered.
    ///
    /// `seq` is the number of its line in the run's journal. `time` is in seconds since the Unix epoch.
    #[must_use]
    pub fn line(&self, entry: &MediaEntry, seq: u64, time: Option<f64>) -> Value {
        let mut line = entry.to_json(&self.run);
        if let Some(image) = entry.as_image().filter(|image| !image.pruned) {
            let CommittedImage { file, layers, .. } = image;
            line["object"] = media_name(&file.sha256, file.file_type.extension()).into();
            for (kind, sets, extension) in
                [("masks", &layers.masks, "png"), ("boxes", &layers.boxes, "json")]
            {
                for (name, annotation) in sets {
                    line[kind][name]["object"] = media_name(&annotation.sha256, extension).into();
                }
            }
        }
        self.finish(line, seq, time)
    }

    /// Returns the line of a place that has no item any more, because a new version of its dump has fewer images, or the
    /// item that waited there was tried again and has another place.
    #[must_use]
    pub fn gone_line(&self, id: &MediaId, seq: u64) -> Value {
        let MediaId { key, step, index } = id;
        let line = json!({
            "run": self.run.as_str(), "state": "gone", "key": key.as_str(), "step": step.0, "index": index,
        });
        self.finish(line, seq, None)
    }

    fn finish(&self, mut line: Value, seq: u64, time: Option<f64>) -> Value {
        line["v"] = FORMAT.into();
        line["box"] = self.box_name.as_str().into();
        line["project"] = json!(self.project);
        line["seq"] = seq.into();
        line["time"] = json!(time);
        line
    }
}

/// The fields of a line that make its identity among those of its run at its box.
#[derive(Deserialize)]
struct Identity {
    seq: u64,
    state: String,
    key: Option<String>,
    step: Option<u64>,
    index: Option<u64>,
    sha256: Option<String>,
}

impl Identity {
    fn digest(&self) -> Sha256 {
        let Self { seq, state, key, step, index, sha256 } = self;
        Sha256::of(json!([seq, state, key, step, index, sha256]).to_string().as_bytes())
    }
}

/// Returns the identity of a line: two lines of a run with the same identity say the same.
#[must_use]
pub fn identity(line: &Value) -> Option<Sha256> {
    Identity::deserialize(line).ok().map(|identity| identity.digest())
}

/// Returns the `seq` and the identity of a line of a manifest, whose other fields are skipped.
#[must_use]
pub fn identity_in(line: &[u8]) -> Option<(u64, Sha256)> {
    let identity = serde_json::from_slice::<Identity>(line).ok();
    identity.map(|identity| (identity.seq, identity.digest()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use safelight_image::media::{
        Annotation, Description, Fate, FileType, Layers, MediaFile, MediaKey, Source, Step,
    };

    #[test]
    fn names_tell_content_and_number() {
        let digest = Sha256::of(b"abc");
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(media_name(&digest, "png"), format!("media/ba/{hex}.png"));
        let run = of_box("a/b");
        assert_eq!(run.manifest_name(7), "runs/gpu%201/a%2Fb/00000007.jsonl");
        assert_eq!(run.marker_name(7), "inbox/gpu%201/a%2Fb/00000007");
        assert_eq!(run.run_name(), "runs/gpu%201/a%2Fb/run.json");
        let identity = Map::from_iter([("project".to_owned(), "cars".into())]);
        let want = json!({
            "v": 1, "box": "gpu 1", "run": "a/b", "project": "cars", "source": "/runs/b",
            "identity": {"project": "cars"},
        });
        assert_eq!(run.description("/runs/b", &identity), want);
    }

    fn of_box(run: &str) -> BoxRun {
        let box_name = BoxName::new("gpu 1").expect("a name");
        let run = RunId::new(run).expect("a name");
        BoxRun { box_name, run, project: Some("cars".to_owned()) }
    }

    #[test]
    fn a_line_is_the_item_with_the_names_of_its_objects() {
        let run = of_box("r");
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
        let mut entry = MediaEntry::image(id.clone(), file, None, layers, about, from);
        let got = run.line(&entry, 9, Some(1.5));
        assert_eq!(got["path"], "runs/r/media/images/k_3.jpg");
        assert_eq!(got["object"], media_name(&sha256, "jpg"));
        assert_eq!(got["masks"]["gt"]["object"], media_name(&Sha256::of(b"mask"), "png"));
        assert_eq!((&got["seq"], &got["time"]), (&json!(9), &json!(1.5)));
        assert_eq!(
            (&got["v"], &got["box"], &got["project"]),
            (&json!(1), &json!("gpu 1"), &json!("cars"))
        );
        assert_eq!(identity(&got), identity(&run.line(&entry, 9, None)));
        assert_ne!(identity(&got), identity(&run.line(&entry, 10, Some(1.5))));
        assert_eq!(identity(&json!({"seq": 1})), None);
        let seq = got["seq"].as_u64().expect("a number");
        let want = identity(&got).map(|identity| (seq, identity));
        assert_eq!(identity_in(got.to_string().as_bytes()), want);
        assert_eq!(identity_in(b"<html>"), None);
        let Fate::Image(image) = &mut entry.fate else { panic!("no image") };
        image.pruned = true;
        let pruned = run.line(&entry, 9, Some(1.5));
        assert_eq!((pruned.get("object"), &pruned["pruned"]), (None, &json!(true)));
        let gone = run.gone_line(&id, 12);
        let want = json!({
            "run": "r", "state": "gone", "key": "k", "step": 3, "index": 0, "v": 1, "box": "gpu 1",
            "project": "cars", "seq": 12, "time": null,
        });
        assert_eq!(gone, want);
        assert_ne!(identity(&gone), identity(&got));
    }
}
