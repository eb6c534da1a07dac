//! Values that several sections have: paths, names, numbers with bounds.

use std::num::NonZeroU32;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

/// The longest path that a unix socket can have, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;

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

/// `n` as a number that is not zero; 1 if `n` is 0. For defaults.
pub(super) const fn non_zero_32(n: u32) -> NonZeroU32 {
    match NonZeroU32::new(n) {
        Some(n) => n,
        None => NonZeroU32::MIN,
    }
}

/// `n` as a number that is not zero; 1 if `n` is 0. For defaults.
pub(super) const fn non_zero_64(n: u64) -> std::num::NonZeroU64 {
    match std::num::NonZeroU64::new(n) {
        Some(n) => n,
        None => std::num::NonZeroU64::MIN,
    }
}
