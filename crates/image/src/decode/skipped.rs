//! What a dump holds besides the tensors that may be pictures.

use std::fmt;

use super::{Contents, NamedTensor};
use crate::media::shortened;

/// The most entries that are named. All are counted.
const EXAMPLES_MAX: usize = 8;

/// The longest name of an example, in characters.
const NAME_CHARS_MAX: usize = 80;

/// Entries of a dump that hold no picture: labels, texts, objects. The first of them are named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Number of entries.
    pub n: u64,
    /// The first entries.
    pub examples: Vec<SkippedEntry>,
}

/// An entry of a dump that holds no picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedEntry {
    /// Its name in the dump, which may be cut.
    pub name: String,
    /// What it is: `int64 with 0 axes`, `text`, `argparse.Namespace`.
    pub what: String,
}

/// Whether the tensors that may be pictures are all that a dump holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coverage {
    /// They are all that the dump holds.
    Whole,
    /// The dump holds these entries, too. They are known to hold no picture.
    Skipped(Skipped),
    /// The dump holds something that was not read, or that cannot be read: says what.
    Unread(String),
}

impl Skipped {
    /// Counts an entry, and names it if it is one of the first.
    pub(super) fn add(&mut self, name: &str, what: &str) {
        self.n += 1;
        if self.examples.len() < EXAMPLES_MAX {
            let short = |text: &str| shortened(text.to_owned(), NAME_CHARS_MAX);
            self.examples.push(SkippedEntry { name: short(name), what: short(what) });
        }
    }

    /// The names of the first entries, in quotes.
    #[must_use]
    pub fn names(&self) -> String {
        let names = self.examples.iter().map(|entry| format!("{:?}", entry.name));
        self.list(names.collect())
    }

    fn list(&self, mut shown: Vec<String>) -> String {
        let n_more = self.n.saturating_sub(shown.len() as u64);
        if n_more > 0 {
            shown.push(format!("{n_more} more"));
        }
        shown.join(", ")
    }
}

impl fmt::Display for Skipped {
    /// Lists the first entries: `"label" (int64 with 0 axes), "name" (text)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.examples.iter();
        let entries = entries.map(|SkippedEntry { name, what }| format!("{name:?} ({what})"));
        f.write_str(&self.list(entries.collect()))
    }
}

impl NamedTensor {
    /// Whether it is plainly no picture, because it is a text, holds objects, or has fewer than two axes.
    #[must_use]
    pub fn is_no_picture(&self) -> bool {
        self.no_picture.is_some()
    }
}

impl Contents {
    /// The entries that hold no picture.
    #[must_use]
    pub fn skipped(&self) -> Skipped {
        let Self::Tensors { tensors, others, .. } = self else { return Skipped::default() };
        let mut skipped = Skipped::default();
        for tensor in tensors {
            if let Some(what) = &tensor.no_picture {
                skipped.add(tensor.name.as_deref().unwrap_or_default(), what);
            }
        }
        skipped.n += others.n;
        let n_free = EXAMPLES_MAX - skipped.examples.len();
        skipped.examples.extend(others.examples.iter().take(n_free).cloned());
        skipped
    }

    /// Whether the tensors that may be pictures are all that the dump holds. A picture is one whole.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        let Self::Tensors { tensors, unread, .. } = self else { return Coverage::Whole };
        if let Some(what) = unread {
            return Coverage::Unread(what.clone());
        }
        if tensors.iter().any(|tensor| tensor.header.is_err() && !tensor.is_no_picture()) {
            return Coverage::Unread("entries that cannot be read as tensors".to_owned());
        }
        let skipped = self.skipped();
        if skipped.n == 0 { Coverage::Whole } else { Coverage::Skipped(skipped) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{DecodeOptions, contents};

    macro_rules! golden {
        ($name:literal) => {
            ($name, include_bytes!(concat!("../../../../tests/golden/dumps/", $name)).as_slice())
        };
    }

    fn contents_of(dump: &[u8]) -> Contents {
        let options = DecodeOptions {
            header_bytes_max: 1 << 20,
            storage_bytes_max: 1 << 20,
            ..DecodeOptions::default()
        };
        contents(&dump, &options).expect("a dump")
    }

    /// Checks what a dump holds besides pictures, as text.
    fn check(dump: &[u8], want: &str, name: &str) {
        let got = match contents_of(dump).coverage() {
            Coverage::Whole => "whole".to_owned(),
            Coverage::Skipped(skipped) => format!("skipped {skipped}"),
            Coverage::Unread(what) => format!("unread {what}"),
        };
        assert_eq!(got, want, "{name}");
    }

    /// An npy file of zeros.
    fn npy(axes: &[usize]) -> Vec<u8> {
        let shape = axes.iter().map(usize::to_string).collect::<Vec<_>>().join(", ") + ",";
        let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape})}}\n");
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend(u16::try_from(header.len()).expect("a short header").to_le_bytes());
        file.extend(header.as_bytes());
        file.resize(file.len() + axes.iter().product::<usize>(), 0);
        file
    }

    /// A zip file as it is appended to a file that has bytes already.
    fn after_others(zip: &[u8]) -> Vec<u8> {
        const N_BEFORE: u32 = 100;
        let mut file = zip.to_vec();
        let mut add = |at: usize| {
            let number = file[at..].first_chunk_mut::<4>().expect("an offset");
            *number = (u32::from_le_bytes(*number) + N_BEFORE).to_le_bytes();
        };
        let entries = zip.windows(4).enumerate().filter(|(_, bytes)| bytes == b"PK\x01\x02");
        entries.for_each(|(at, _)| add(at + 42));
        add(zip.len() - 6);
        let mut before = b"PK\x03\x04".to_vec();
        before.resize(N_BEFORE as usize, 0);
        [before, file].concat()
    }

    #[test]
    fn a_dump_says_what_it_holds_besides_pictures() {
        // Regression: retention removed a dump when its images were committed, though it held more.
        check(&npy(&[4, 4]), "whole", "npy");
        check(&[npy(&[4, 4]), npy(&[5, 5])].concat(), "whole", "two arrays");
        let label = "skipped \"1\" (uint8 with 1 axis)";
        check(&[npy(&[4, 4]), npy(&[5])].concat(), label, "an array and a label");
        let entries = "unread entries that cannot be read as tensors";
        check(&[npy(&[4, 4]), vec![0; 9]].concat(), entries, "an array and zeros");
        let other = "unread bytes that belong to no member of the zip file";
        let (name, stored) = golden!("npz/stored.npz");
        check(&after_others(stored), other, &format!("{name} appended to another file"));
        let of_state_dict = "skipped \"0.bias\" (float32 with 1 axis), \"1.weight\" (float32 with 1 axis), \
                             \"1.bias\" (float32 with 1 axis), \"1.running_mean\" (float32 with 1 axis), \
                             \"1.running_var\" (float32 with 1 axis), \
                             \"1.num_batches_tracked\" (int64 with 0 axes), \
                             \"2.bias\" (float32 with 1 axis), \"attributes\" (dict)";
        for ((name, dump), want) in [
            (golden!("npz/comment.npz"), other),
            (golden!("safetensors-0.8/dtypes.safetensors"), "whole"),
            (golden!("torch-1.13/dict.pt"), "whole"),
            (golden!("torch-2.15/dict.pt"), "whole"),
            (golden!("torch-2.15/state-dict.pt"), of_state_dict),
        ] {
            check(dump, want, name);
        }
    }

    #[test]
    fn all_is_counted_and_a_few_are_named() {
        let mut skipped = Skipped::default();
        (0..20).for_each(|i| skipped.add(&format!("label {i}"), "text"));
        assert_eq!((skipped.n, skipped.examples.len()), (20, EXAMPLES_MAX));
        assert!(skipped.to_string().ends_with("\"label 7\" (text), 12 more"), "{skipped}");
        skipped.add(&"x".repeat(1000), "text");
        assert!(skipped.names().len() < 200);
    }
}
