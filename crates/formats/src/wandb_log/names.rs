//! Names that W&B accepts, made from any names.

use chrono::DateTime;

use safelight_image::media::{RunId, Sha256, shortened};

/// The longest run id, in characters.
const ID_CHARS_MAX: usize = 64;

/// The longest tag, in characters.
const TAG_CHARS_MAX: usize = 64;

/// The ending of the run id of a training's images.
pub const ENDING: &str = "-img";

/// Returns the id of the run that holds the images of a training: the training's id with `-img`.
///
/// An id that is too long, or has characters other than letters, digits, `.`, `_` and `-`, is cut and gets a digest
/// of the whole id, so that two ids never become one. W&B rejects some of those characters, and the id is part of
/// file names.
#[must_use]
pub fn images_run_id(run: &RunId) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let id = run.as_str();
    if id.len() + ENDING.len() <= ID_CHARS_MAX && id.chars().all(is_plain) {
        return format!("{id}{ENDING}");
    }
    let plain: String = id.chars().map(|c| if is_plain(c) { c } else { '_' }).take(43).collect();
    let digest = Sha256::of(id.as_bytes()).to_string();
    format!("{plain}-{}{ENDING}", &digest[..16])
}

/// Returns a project's name: at most 128 characters, without those that W&B rejects.
#[must_use]
pub fn project(name: &str) -> String {
    let is_refused = |c: char| matches!(c, '/' | '\\' | '#' | '?' | '%' | ':') || c.is_control();
    name.chars().map(|c| if is_refused(c) { '-' } else { c }).take(128).collect()
}

/// Returns a tag of 1 to 64 characters. `None` if the text is empty.
#[must_use]
pub fn tag(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = text.chars().count() <= TAG_CHARS_MAX;
    let tag = if fits { text.to_owned() } else { shortened(text.to_owned(), TAG_CHARS_MAX - 1) };
    (!tag.is_empty()).then_some(tag)
}

/// Returns the name of an offline run's directory. `start` is in seconds since the Unix epoch. The name has the time
/// in UTC, where the library uses local time.
#[must_use]
pub fn directory(start: i64, run_id: &str) -> String {
    let start = DateTime::from_timestamp(start, 0).unwrap_or_default();
    format!("offline-run-{}-{run_id}", start.format("%Y%m%d_%H%M%S"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(run: &str) -> String {
        images_run_id(&RunId::new(run).expect("a run id"))
    }

    #[test]
    fn run_ids_are_taken_and_stay_apart() {
        assert_eq!(id("abc123"), "abc123-img");
        assert_eq!(id("resnet_50.v2"), "resnet_50.v2-img");
        for odd in
            ["a/b", "a:b", "a b", " a", "a;b,c#d?e'f", "é", "猫", &"x".repeat(61), &"é".repeat(500)]
        {
            let made = id(odd);
            assert!(made.len() <= 64 && made.is_ascii(), "{made}");
            assert!(!made.contains([':', ';', ',', '#', '?', '/', '\'', ' ']), "{made}");
        }
        assert_ne!(id("a/b"), id("a:b"));
        assert_eq!(id(&"x".repeat(60)), format!("{}-img", "x".repeat(60)));
        assert_ne!(id(&"x".repeat(61)), id(&"x".repeat(62)));
    }

    #[test]
    fn projects_and_tags_are_taken() {
        assert_eq!(project("a/b: c%"), "a-b- c-");
        assert_eq!(project(&"é".repeat(200)).chars().count(), 128);
        assert_eq!((tag("  "), tag(" a ")), (None, Some("a".to_owned())));
        assert_eq!(tag(&"t".repeat(100)).map(|tag| tag.chars().count()), Some(64));
    }

    #[test]
    fn directories_name_the_second_of_their_start() {
        // `date -u -d @SECONDS +%Y%m%d_%H%M%S`
        for (seconds, want) in [
            (0, "19700101_000000"),
            (951_782_399, "20000228_235959"),
            (951_868_799, "20000229_235959"),
            (1_700_000_000, "20231114_221320"),
            (4_107_542_400, "21000301_000000"),
        ] {
            assert_eq!(directory(seconds, "r"), format!("offline-run-{want}-r"));
        }
    }
}
