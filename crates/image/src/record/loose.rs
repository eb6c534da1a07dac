//! The key of arrays and pictures that lie in a directory without a folder or a line that says what they are.

use std::str::FromStr;
use std::sync::LazyLock;

use regex::Regex;

use super::pattern::DumpPath;
use crate::media::{MediaKey, NameError, Step};

/// The suffixes of loose files that are taken. Files of the others are rarely pictures: weights, or bytes of any kind.
const SUFFIXES: [&str; 10] =
    ["npy", "npz", "png", "jpg", "jpeg", "bmp", "gif", "webp", "tif", "tiff"];

/// A name, then a step, and perhaps an index: `pred_000120_3`.
static NUMBERED: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"^(?P<name>.*?)[-_. ]?(?P<step>[0-9]+)(?:[-_.](?P<index>[0-9]+))?$";
    Regex::new(pattern).expect("a pattern")
});

/// The key of loose files. A file whose name begins with more than a number has a key below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LooseKey(MediaKey);

impl FromStr for LooseKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        MediaKey::new(text).map(Self).map_err(|error| error.to_string())
    }
}

impl LooseKey {
    /// The key under which a file was taken whose items have the key `item`. `None` if `path` is not that of a loose
    /// array or picture, or its name leads to another key.
    #[must_use]
    pub fn of_item(path: &str, item: &MediaKey) -> Option<Self> {
        let (stem, _) = path.rsplit_once('.').filter(|_| Self::is_loose(path))?;
        match numbers_of(stem).map_or(stem, |(name, ..)| name) {
            "" => Some(Self(item.clone())),
            name => {
                let above = item.as_str().strip_suffix(name)?.strip_suffix('/')?;
                MediaKey::new(above).ok().map(Self)
            }
        }
    }

    /// Returns what the name of a loose file says of it. `None` if `path`, relative to the run directory, is not that of
    /// a loose array or picture.
    ///
    /// # Errors
    /// If the key is too long.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<Result<DumpPath, String>> {
        let (stem, _) = path.rsplit_once('.')?;
        let read = || self.of_stem(stem, path).map_err(|error| error.to_string());
        Self::is_loose(path).then(read)
    }

    /// Whether a path, relative to the run directory, is that of a loose array or picture.
    #[must_use]
    pub fn is_loose(path: &str) -> bool {
        let suffix = path.rsplit_once('.').map_or("", |(_, suffix)| suffix);
        !path.contains('/') && !path.starts_with('.') && SUFFIXES.contains(&suffix)
    }

    fn of_stem(&self, stem: &str, path: &str) -> Result<DumpPath, NameError> {
        // A number that no step can be is a part of the name.
        let (name, step, index) = numbers_of(stem).unwrap_or((stem, 0, None));
        let key = match name {
            "" => self.0.clone(),
            name => MediaKey::new(format!("{}/{name}", self.0.as_str()))?,
        };
        Ok(DumpPath { path: path.to_owned(), key, step: Step(step), index })
    }
}

/// The name, the step and the index that a stem has.
fn numbers_of(stem: &str) -> Option<(&str, u64, Option<u32>)> {
    let parts = NUMBERED.captures(stem)?;
    let index = parts.name("index").map(|digits| digits.as_str().parse()).transpose().ok()?;
    Some((parts.name("name")?.as_str(), parts["step"].parse().ok()?, index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_key_step_and_index() {
        let key: LooseKey = "val".parse().expect("a key");
        for (path, want) in [
            ("000120.npy", Some(("val", 120, None))),
            ("120_3.npy", Some(("val", 120, Some(3)))),
            ("pred_120.npy", Some(("val/pred", 120, None))),
            ("pred-120-3.png", Some(("val/pred", 120, Some(3)))),
            ("pred120.npz", Some(("val/pred", 120, None))),
            ("cat.png", Some(("val/cat", 0, None))),
            ("epoch3_sample.png", Some(("val/epoch3_sample", 0, None))),
            ("99999999999999999999.npy", Some(("val/99999999999999999999", 0, None))),
            ("1_4294967296.npy", Some(("val/1_4294967296", 0, None))),
            (".120.npy", None),
            ("a/120.npy", None),
            ("model_120.pt", None),
            ("notes.txt", None),
        ] {
            let read = key.read(path).map(|read| read.expect("a path"));
            let got = read.as_ref().map(|read| (read.key.as_str(), read.step.0, read.index));
            assert_eq!(got, want, "{path}");
            let of_item = read.and_then(|read| LooseKey::of_item(path, &read.key));
            assert_eq!(of_item, want.map(|_| key.clone()), "{path}");
        }
        let other: MediaKey = MediaKey::new("val/other").expect("a key");
        assert_eq!(LooseKey::of_item("pred_120.npy", &other), None);
        let long = format!("{}.png", "x".repeat(crate::media::NAME_BYTES_MAX));
        assert!(key.read(&long).is_some_and(|read| read.is_err()));
    }
}
