//! Values that several sections have: paths, names, numbers with bounds.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU64;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize};

/// The longest path that a unix socket can have, in bytes.
pub(super) const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Reads a path that is not empty.
pub(super) fn path<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(from)?;
    if path.as_os_str().is_empty() {
        return Err(D::Error::custom("got an empty path, want a directory"));
    }
    Ok(path)
}

/// Reads an optional path that is not empty.
pub(super) fn some_path<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    path(from).map(Some)
}

/// Reads a path that a unix socket can have.
pub(super) fn socket<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    let path = path(from)?;
    let n_bytes = path.as_os_str().len();
    if n_bytes > SOCKET_PATH_BYTES_MAX {
        let problem = format!(
            "got a socket's path of {n_bytes} bytes, want at most {SOCKET_PATH_BYTES_MAX} bytes"
        );
        return Err(D::Error::custom(problem));
    }
    Ok(Some(path))
}

/// A nice value of a process that yields to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u8")]
#[schemars(!try_from)]
pub struct Nice(#[schemars(range(min = 0, max = 19))] u8);

impl Nice {
    /// The largest nice value: the process yields to all others.
    pub const MAX: Self = Self(19);

    /// The value, 0 to 19.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Nice {
    type Error = String;
    fn try_from(nice: u8) -> Result<Self, String> {
        let max = Self::MAX.0;
        if nice <= max { Ok(Self(nice)) } else { Err(format!("got {nice}, want 0 to {max}")) }
    }
}

/// The name of a target. It also names a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct TargetName(String);

impl TargetName {
    /// The regular expression that describes a name.
    pub(super) const PATTERN: &str = "^[A-Za-z0-9_-]{1,64}$";

    /// The name as text.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl TryFrom<String> for TargetName {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if (1..=64).contains(&name.len()) && name.chars().all(is_plain) {
            return Ok(Self(name));
        }
        Err(format!("got target name {name:?}, want 1 to 64 letters, digits, - and _"))
    }
}

/// A whole number from `MIN` to `MAX`. The bounds show in the documentation, in the schema and in errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Whole<const MIN: u64, const MAX: u64>(u64);

/// The largest number of bytes of any setting: 1 PiB.
pub const BYTES_MAX: u64 = 1 << 50;

/// The largest number of bytes that are read as a whole: 1 GiB.
pub const WHOLE_BYTES_MAX: u64 = 1 << 30;

impl<const MIN: u64, const MAX: u64> Whole<MIN, MAX> {
    /// The number itself if it is within the bounds, else the nearest that is. For defaults.
    #[must_use]
    pub const fn nearest(n: u64) -> Self {
        if n < MIN {
            Self(MIN)
        } else if n > MAX {
            Self(MAX)
        } else {
            Self(n)
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number, which is at least 1 by its bounds.
    #[must_use]
    pub fn non_zero(self) -> NonZeroU64 {
        const { assert!(MIN > 0, "the number may be 0") };
        NonZeroU64::new(self.0).unwrap_or(NonZeroU64::MIN)
    }

    /// The number as `u32`; the largest one, if it is larger.
    #[must_use]
    pub fn as_u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }

    /// The number as `usize`; the largest one, if it is larger.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<const MIN: u64, const MAX: u64> TryFrom<u64> for Whole<MIN, MAX> {
    type Error = String;
    fn try_from(n: u64) -> Result<Self, String> {
        let is_within = (MIN..=MAX).contains(&n);
        is_within.then_some(Self(n)).ok_or_else(|| format!("got {n}, want {MIN} to {MAX}"))
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_u64(WholeVisitor)
    }
}

struct WholeVisitor<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> Visitor<'_> for WholeVisitor<MIN, MAX> {
    type Value = Whole<MIN, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {MIN} to {MAX}")
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<Self::Value, E> {
        let number = Whole::try_from(n);
        number.map_err(|_| E::invalid_value(Unexpected::Unsigned(n), &self))
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<Self::Value, E> {
        let number = u64::try_from(n).ok().and_then(|n| Whole::try_from(n).ok());
        number.ok_or_else(|| E::invalid_value(Unexpected::Signed(n), &self))
    }
}

impl<const MIN: u64, const MAX: u64> JsonSchema for Whole<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Whole_{MIN}_{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}
