//! Digests of dumps and media files.

use std::fmt;
use std::hash::Hasher as _;

use serde::{Deserialize, Serialize, Serializer};

/// A SHA-256 digest, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// Returns the digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(<sha2::Sha256 as sha2::Digest>::digest(bytes).into())
    }
}

/// An XXH3 digest of 128 bits, written as 32 lower-case hex digits, as `xxh128sum` prints it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Xxh3([u8; 16]);

/// An XXH3 digest of 64 bits of a line of a media log, written as 16 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct LineDigest([u8; 8]);

impl LineDigest {
    /// Returns the digest of a line, without its newline.
    #[must_use]
    pub fn of(line: &[u8]) -> Self {
        Self(twox_hash::XxHash3_64::oneshot(line).to_be_bytes())
    }

    /// Returns the digest of this line among the lines of a writer: equal lines of two writers differ.
    #[must_use]
    pub fn by(self, writer: &[u8]) -> Self {
        let seed = u64::from_be_bytes(self.0);
        Self(twox_hash::XxHash3_64::oneshot_with_seed(seed, writer).to_be_bytes())
    }
}

/// Computes a [`LineDigest`] piece by piece.
#[derive(Clone, Default)]
pub struct LineHasher(twox_hash::XxHash3_64);

impl LineHasher {
    /// Adds the bytes that follow.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// Returns the digest of all bytes so far.
    #[must_use]
    pub fn digest(&self) -> LineDigest {
        LineDigest(self.0.finish().to_be_bytes())
    }
}

impl fmt::Debug for LineHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LineHasher").field(&self.digest()).finish()
    }
}

macro_rules! hex {
    ($($name:ident $n_digits:literal)*) => {$(
        impl $name {
            /// Returns the bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $n_digits / 2] {
                &self.0
            }
        }

        impl From<[u8; $n_digits / 2]> for $name {
            fn from(bytes: [u8; $n_digits / 2]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut digits = [0; $n_digits];
                let text = hex_digits(&self.0, &mut digits);
                f.pad(text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(hex_digits(&self.0, &mut [0; $n_digits]))
            }
        }

        impl TryFrom<String> for $name {
            type Error = &'static str;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                const WANT: &str = concat!("want ", stringify!($n_digits), " hex digits");
                let digits = text.as_bytes();
                if digits.len() != $n_digits {
                    return Err(WANT);
                }
                let mut bytes = [0; $n_digits / 2];
                for (byte, digits) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
                    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
                    let value = high.zip(low).map(|(high, low)| high << 4 | low);
                    *byte = value.and_then(|value| u8::try_from(value).ok()).ok_or(WANT)?;
                }
                Ok(Self(bytes))
            }
        }
    )*};
}
hex!(Sha256 64 Xxh3 32 LineDigest 16);

/// Writes two lower-case digits for each byte. `{:02x}` would take a microsecond for each digest.
fn hex_digits<'a>(bytes: &[u8], digits: &'a mut [u8]) -> &'a str {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    std::str::from_utf8(digits).unwrap_or_default()
}

/// The hash function for the contents of dumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DigestKind {
    /// XXH3 of 128 bits: 0.03 ns a byte. It detects accidental changes, not deliberate forgery.
    #[default]
    Xxh3,
    /// SHA-256: 0.7 ns a byte on processors with instructions for it, 4.5 ns on others. For a photograph
    /// it takes longer than everything else together.
    Sha256,
}

/// The digest of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the types say it")]
pub enum Digest {
    Xxh3(Xxh3),
    Sha256(Sha256),
}

impl Digest {
    /// Returns the digest from two fields, of which at most one is `Some`.
    #[must_use]
    pub fn of_fields(xxh3: Option<Xxh3>, sha256: Option<Sha256>) -> Option<Self> {
        sha256.map(Self::Sha256).or(xxh3.map(Self::Xxh3))
    }

    /// Returns the two fields of [`Self::of_fields`].
    #[must_use]
    pub fn fields(self) -> (Option<Xxh3>, Option<Sha256>) {
        match self {
            Self::Xxh3(digest) => (Some(digest), None),
            Self::Sha256(digest) => (None, Some(digest)),
        }
    }

    /// Returns the hash function.
    #[must_use]
    pub fn kind(self) -> DigestKind {
        match self {
            Self::Xxh3(_) => DigestKind::Xxh3,
            Self::Sha256(_) => DigestKind::Sha256,
        }
    }
}

/// Computes a digest piece by piece.
#[derive(Clone)]
pub enum Hasher {
    /// See [`DigestKind::Xxh3`].
    Xxh3(Box<twox_hash::XxHash3_128>),
    /// See [`DigestKind::Sha256`].
    Sha256(sha2::Sha256),
}

impl Hasher {
    /// Returns a hasher for no bytes yet.
    #[must_use]
    pub fn new(kind: DigestKind) -> Self {
        match kind {
            DigestKind::Xxh3 => Self::Xxh3(Box::default()),
            DigestKind::Sha256 => Self::Sha256(sha2::Digest::new()),
        }
    }

    /// Adds the bytes that follow.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Xxh3(hasher) => hasher.write(bytes),
            Self::Sha256(hasher) => sha2::Digest::update(hasher, bytes),
        }
    }

    /// Returns the digest of all bytes so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match self {
            Self::Xxh3(hasher) => Digest::Xxh3(Xxh3(hasher.finish_128().to_be_bytes())),
            Self::Sha256(hasher) => {
                Digest::Sha256(Sha256(sha2::Digest::finalize(hasher.clone()).into()))
            }
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hasher").field(&self.digest()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_that_the_tools_print() {
        // `printf abc | sha256sum`, `printf abc | xxh128sum`.
        for (kind, want) in [
            (DigestKind::Xxh3, "06b05ab6733a618578af5f94892f3950"),
            (
                DigestKind::Sha256,
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
        ] {
            let mut hasher = Hasher::new(kind);
            hasher.update(b"a");
            hasher.update(b"bc");
            let digest = hasher.digest();
            assert_eq!(digest.kind(), kind);
            let (xxh3, sha256) = digest.fields();
            let text =
                xxh3.map(|digest| digest.to_string()).or(sha256.map(|digest| digest.to_string()));
            assert_eq!(text.as_deref(), Some(want));
            let again = text.and_then(|text| match kind {
                DigestKind::Xxh3 => Xxh3::try_from(text).ok().map(Digest::Xxh3),
                DigestKind::Sha256 => Sha256::try_from(text).ok().map(Digest::Sha256),
            });
            assert_eq!(again, Some(digest));
        }
        // `printf abc | xxhsum -H3`.
        assert_eq!(LineDigest::of(b"abc").to_string(), "78af5f94892f3950");
        let mut hasher = LineHasher::default();
        hasher.update(b"a");
        hasher.update(b"bc");
        assert_eq!(hasher.digest(), LineDigest::of(b"abc"));
        assert_ne!(LineDigest::of(b"abc").by(b"0"), LineDigest::of(b"abc").by(b"1"));
        assert!(Xxh3::try_from("0".repeat(31)).is_err());
        assert!(Sha256::try_from("g".repeat(64)).is_err());
    }
}
