//! Trackio's names and log lines.
//!
//! Source: trackio 0.43 `fragments.py`, `utils.py`.

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use safelight_image::media::{MediaEntry, MediaFile, MediaId, RunId, Sha256, Step};

/// Returns the folder of a project: Trackio's `canonical_project_name`.
#[must_use]
pub fn project_folder(project: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_');
    let folder: String = project.chars().filter(kept).collect();
    if folder.is_empty() { "default".to_owned() } else { folder }
}

/// The names of a run in Trackio.
#[derive(Debug)]
pub struct Names {
    /// The project.
    pub project: String,
    /// The project as a folder: see [`project_folder`].
    pub project_folder: String,
    /// The run's folder in the project's: its name where that is a valid folder name.
    pub folder: String,
    /// The name of the run.
    pub name: String,
    /// The id of the run in the store.
    pub id: RunId,
    /// The run's config. Null if it has none.
    pub config: Value,
}

impl Names {
    /// Returns an id that differs between any two images and any two versions of one.
    #[must_use]
    pub fn log_id(&self, id: &MediaId, file: &MediaFile) -> String {
        let of = json!([self.id, id.key, id.step, id.index, file.sha256]).to_string();
        Sha256::of(of.as_bytes()).to_string()[..32].to_owned()
    }

    /// Returns the name of an image's file.
    #[must_use]
    pub fn file_name(&self, id: &MediaId, file: &MediaFile) -> String {
        format!("{}.{}", self.log_id(id, file), file.file_type.extension())
    }

    /// Returns the folder of a step's images, below `media`.
    #[must_use]
    pub fn step_folder(&self, step: Step) -> String {
        format!("{}/{}/{step}", self.project_folder, self.folder)
    }

    /// Returns lines of a fragment, which are also the entries of `bulk_log`. The first one has the run's config if
    /// `has_config`: Trackio takes it from any line, and it may be long.
    pub fn lines<'a>(
        &self,
        images: impl IntoIterator<Item = (&'a MediaId, &'a MediaFile, &'a MediaEntry, f64)>,
        has_config: bool,
    ) -> impl Iterator<Item = Value> {
        images.into_iter().enumerate().map(move |(i, (id, file, entry, time))| {
            let mut line = self.line(id, file, entry, time);
            if has_config && i == 0 {
                line["config"] = self.config.clone();
            }
            line
        })
    }

    /// `time` is in seconds since the Unix epoch.
    fn line(&self, id: &MediaId, file: &MediaFile, entry: &MediaEntry, time: f64) -> Value {
        // A line of Trackio has one value for each key: further images of a step get keys of their own.
        let key = match id.index {
            0 => id.key.to_string(),
            index => format!("{}/{index}", id.key),
        };
        let caption = entry.description.caption.as_ref();
        let caption =
            caption.map(|caption| caption.to_text().unwrap_or_else(|| caption.to_string()));
        let image = json!({
            "_type": "trackio.image",
            "file_path": format!("{}/{}", self.step_folder(id.step), self.file_name(id, file)),
            "caption": caption,
        });
        json!({
            "v": 1,
            "kind": "metric",
            "project": self.project,
            "run": self.name,
            "run_id": self.id,
            "metrics": { key: image },
            "step": id.step,
            "timestamp": timestamp(time),
            "config": null,
            "log_id": self.log_id(id, file),
        })
    }
}

/// Returns seconds since the Unix epoch as Python's `isoformat` writes them, in UTC.
#[must_use]
pub fn timestamp(time: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "what is too great becomes the greatest")]
    let micros = (time * 1e6).round() as i64;
    // Python has the years 1 to 9999.
    let micros = micros.clamp(-62_135_596_800_000_000, 253_402_300_799_999_999);
    let time = DateTime::from_timestamp_micros(micros).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Micros, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_python_does() {
        for (time, want) in [
            (0.0, "1970-01-01T00:00:00.000000+00:00"),
            (1_709_210_096.5, "2024-02-29T12:34:56.500000+00:00"),
            (-0.25, "1969-12-31T23:59:59.750000+00:00"),
            (951_868_800.0, "2000-03-01T00:00:00.000000+00:00"),
            (4_107_542_400.0, "2100-03-01T00:00:00.000000+00:00"),
            (1e300, "9999-12-31T23:59:59.999999+00:00"),
        ] {
            assert_eq!(timestamp(time), want);
        }
    }
}
