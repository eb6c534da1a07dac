//! Names of artifacts.

use sha2::{Digest, Sha256};

use safelight_image::media::{MediaId, RunId};

/// The names of one image's artifacts. They depend on the image alone, so that an image that is sent twice replaces
/// itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    images: String,
    media: String,
}

/// The longest key in a name, in bytes: the whole name must fit into 255.
const KEY_BYTES_MAX: usize = 120;

impl Names {
    /// Returns the names of a version of an image. `seq` orders the versions, `sha256` is the digest of its media
    /// file, and the time is in milliseconds since the Unix epoch.
    #[must_use]
    pub fn new(run: &RunId, id: &MediaId, seq: u64, sha256: &[u8; 32], time_ms: i64) -> Self {
        let step = id.step;
        let uuid = uuid(run, id, seq, sha256);
        let key = plain(id.key.as_str(), Slash::Kept);
        // The page shows one picture for each key and step.
        let shown = if id.index == 0 { key.clone() } else { format!("{key}/{:03}", id.index) };
        let shown = shown.replace('/', "~");
        Self {
            images: format!("images/{shown}+step+{step}+timestamp+{time_ms}+{uuid}"),
            media: format!("media/{}/{step}-{}-{uuid}", path_of(&key), id.index),
        }
    }

    /// Returns the name of the picture.
    #[must_use]
    pub fn picture(&self, extension: &str) -> String {
        format!("{}.{extension}", self.images)
    }

    /// Returns the name of the thumbnail.
    #[must_use]
    pub fn thumbnail(&self) -> String {
        format!("{}+compressed.png", self.images)
    }

    /// Returns the name of the record.
    #[must_use]
    pub fn record(&self) -> String {
        format!("{}.json", self.media)
    }

    /// Returns the name of the media file.
    #[must_use]
    pub fn original(&self, extension: &str) -> String {
        format!("{}.{extension}", self.media)
    }

    /// Returns the name of a mask.
    #[must_use]
    pub fn mask(&self, name: &str) -> String {
        format!("{}.mask.{}.png", self.media, plain(name, Slash::Replaced))
    }

    /// Returns the name of a set of boxes.
    #[must_use]
    pub fn boxes(&self, name: &str) -> String {
        format!("{}.boxes.{}.json", self.media, plain(name, Slash::Replaced))
    }
}

/// How slashes of a key are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slash {
    Kept,
    Replaced,
}

/// Returns a name of the characters that the page accepts: `[A-Za-z0-9_\-./ ]`. A name that had others, or is too
/// long, gets a part of its digest, so that two keys never share a name.
fn plain(name: &str, slash: Slash) -> String {
    let is_plain = |c: char| match c {
        '/' => slash == Slash::Kept,
        c => c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' '),
    };
    if name.chars().all(is_plain) && name.len() <= KEY_BYTES_MAX {
        return name.to_owned();
    }
    let digest: [u8; 32] = Sha256::digest(name).into();
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let end = plain.len().min(KEY_BYTES_MAX - 9);
    format!(
        "{}-{:08x}",
        &plain[..end],
        u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
    )
}

/// Returns a plain key as folders, none of which is empty, `.` or `..`.
fn path_of(key: &str) -> String {
    let safe = |segment: &str| match segment.trim_matches('.') {
        "" => format!("{segment}_"),
        _ => segment.to_owned(),
    };
    key.split('/').map(safe).collect::<Vec<_>>().join("/")
}

/// Returns a UUID of version 8. It begins with the low 48 bits of `seq`: the page sorts names and shows the last
/// with the same key and step, which is then the latest version. The rest is a digest of the image's identity.
///
/// Source: RFC 9562, section 5.8.
fn uuid(run: &RunId, id: &MediaId, seq: u64, sha256: &[u8; 32]) -> String {
    let mut hasher = Sha256::new();
    for name in [run.as_str(), id.key.as_str()] {
        hasher.update((name.len() as u64).to_be_bytes());
        hasher.update(name);
    }
    hasher.update(id.step.0.to_be_bytes());
    hasher.update(id.index.to_be_bytes());
    hasher.update(sha256);
    let digest: [u8; 32] = hasher.finalize().into();
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&seq.to_be_bytes()[2..]);
    bytes[6..].copy_from_slice(&digest[..10]);
    bytes[6] = 0x80 | bytes[6] & 0x0f;
    bytes[8] = 0x80 | bytes[8] & 0x3f;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use safelight_image::media::{MediaKey, Step};

    fn names(key: &str, index: u32, seq: u64) -> Names {
        let run = RunId::new("run").expect("a name");
        let key = MediaKey::new(key).expect("a key");
        let id = MediaId { key, step: Step(12), index };
        Names::new(&run, &id, seq, &[7; 32], 1_700_000_000_250)
    }

    #[test]
    fn names_are_those_that_the_page_takes_apart() {
        // Computed by Python's hashlib and uuid.
        let first = names("val/pred", 0, 5);
        assert_eq!(
            first.picture("png"),
            "images/val~pred+step+12+timestamp+1700000000250+00000000-0005-8482-9b85-8a05f732eedf.png"
        );
        let uuid = "00000000-0005-8482-9b85-8a05f732eedf";
        assert_eq!(
            first.thumbnail(),
            format!("images/val~pred+step+12+timestamp+1700000000250+{uuid}+compressed.png")
        );
        assert_eq!(first.record(), format!("media/val/pred/12-0-{uuid}.json"));
        assert_eq!(first.original("jpg"), format!("media/val/pred/12-0-{uuid}.jpg"));
        assert_eq!(first.mask("gt"), format!("media/val/pred/12-0-{uuid}.mask.gt.png"));
        assert_eq!(first.boxes("gt"), format!("media/val/pred/12-0-{uuid}.boxes.gt.json"));
        // The same image gives the same names; other images give others.
        assert_eq!(names("val/pred", 0, 5), first);
        let second = names("val/pred", 1, 5).picture("webp");
        assert!(second.starts_with("images/val~pred~001+step+12+"), "{second}");
        // A later version sorts after.
        assert!(names("val/pred", 0, 300).picture("png") > first.picture("png"));
    }

    #[test]
    fn keys_have_the_page_s_characters_and_stay_apart() {
        for (key, want) in [
            ("a b/c-d_e.f", "a b/c-d_e.f"),
            ("a+b", "a_b-300273da"),
            ("a~b", "a_b-941528e5"),
            ("é", "_-4a99557e"),
            ("a\nb", "a_b-7e18f737"),
        ] {
            assert_eq!(plain(key, Slash::Kept), want);
        }
        let all = ["a_b", "a+b", "a~b", "a%b", "a#b", "a:b"];
        let got: std::collections::BTreeSet<String> = all.map(|key| plain(key, Slash::Kept)).into();
        assert_eq!(got.len(), all.len());
        let (long, longer) = ("é/".repeat(300), "é/".repeat(301));
        assert!(names(&long, u32::MAX, u64::MAX).thumbnail().len() <= 255 + "images/".len());
        assert_ne!(plain(&long, Slash::Kept), plain(&longer, Slash::Kept));
        assert_ne!(plain("a/b", Slash::Replaced), plain("a_b", Slash::Replaced));
    }

    #[test]
    fn no_key_leads_elsewhere() {
        for (key, want) in [("../a", ".._/a"), ("/a//b/", "_/a/_/b/_"), (".", "._")] {
            let got = names(key, 0, 1).record();
            assert!(got.starts_with(&format!("media/{want}/12-0-")), "{got}");
        }
    }
}
