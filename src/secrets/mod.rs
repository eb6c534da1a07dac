//! Secrets, which the configuration names and never contains.
//!
//! The configuration names a systemd credential, a file or an environment variable. Its value is read when it is
//! needed, so that a key can be replaced without a reload. The value never appears in the configuration, the store, a
//! log or `Debug` output.

mod redactor;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

pub(crate) use self::redactor::Redactor;

/// Where a secret is read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecretSource {
    /// A credential that systemd passes to the service: `LoadCredential=NAME:…`.
    Credential(String),
    /// A file. A relative path starts at the configuration's folder.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

/// A secret. `Debug` doesn't show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why a secret can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The service was started without credentials.
    #[error(
        "credential {0:?}: the service has no credentials ($CREDENTIALS_DIRECTORY is not set), want LoadCredential={0}:FILE in the unit"
    )]
    NoCredentials(String),
    /// The file can't be read.
    #[error("secret {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The variable is not set, or is not UTF-8.
    #[error("secret in ${0}: the variable is not set, or not UTF-8")]
    Env(String),
    /// The value is empty.
    #[error("{0} is empty")]
    Empty(SecretSource),
}

impl Secret {
    /// Returns the value. Use it only in the request that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(name) => write!(f, "credential {name:?}"),
            Self::File(path) => write!(f, "secret {}", path.display()),
            Self::Env(name) => write!(f, "secret in ${name}"),
        }
    }
}

impl SecretSource {
    /// Reads the secret and trims white space around it.
    ///
    /// # Errors
    /// If it is missing, can't be read, or is empty.
    pub fn read(&self) -> Result<Secret, SecretError> {
        self.read_with(|name| std::env::var_os(name))
    }

    fn read_with(&self, env: impl Fn(&str) -> Option<OsString>) -> Result<Secret, SecretError> {
        let text = match self {
            Self::Credential(name) => {
                let folder = env("CREDENTIALS_DIRECTORY")
                    .ok_or_else(|| SecretError::NoCredentials(name.clone()))?;
                read_file(&Path::new(&folder).join(name))?
            }
            Self::File(path) => read_file(path)?,
            Self::Env(name) => env(name)
                .and_then(|text| text.into_string().ok())
                .ok_or_else(|| SecretError::Env(name.clone()))?,
        };
        match text.trim() {
            "" => Err(SecretError::Empty(self.clone())),
            text => Ok(Secret(text.to_owned())),
        }
    }

    /// Makes a relative path start at `folder`.
    #[must_use]
    pub(crate) fn below(self, folder: &Path) -> Self {
        match self {
            Self::File(path) => Self::File(folder.join(path)),
            other => other,
        }
    }
}

fn read_file(path: &Path) -> Result<String, SecretError> {
    std::fs::read_to_string(path)
        .map_err(|source| SecretError::File { path: path.to_owned(), source })
}

const WANT: &str = "want { credential = \"NAME\" }, { file = \"PATH\" } or { env = \"NAME\" }";

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Source;

        impl<'de> Visitor<'de> for Source {
            type Value = SecretSource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(WANT)
            }

            // The error does not repeat the value, because it may be the secret.
            fn visit_str<E: de::Error>(self, _: &str) -> Result<SecretSource, E> {
                Err(E::custom(format!(
                    "the configuration must not contain a secret itself: {WANT}"
                )))
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<SecretSource, E> {
                self.visit_str("")
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<SecretSource, E> {
                self.visit_str("")
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<SecretSource, E> {
                self.visit_str("")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretSource, A::Error> {
                let wrong = || de::Error::custom(WANT);
                let kind: String = map.next_key()?.ok_or_else(wrong)?;
                let name: String = map.next_value().map_err(|_| wrong())?;
                if name.is_empty() || map.next_key::<String>()?.is_some() {
                    return Err(wrong());
                }
                match kind.as_str() {
                    // A credential's name is a file name.
                    "credential" if !name.contains('/') && !name.starts_with('.') => {
                        Ok(SecretSource::Credential(name))
                    }
                    "file" => Ok(SecretSource::File(name.into())),
                    "env" => Ok(SecretSource::Env(name)),
                    _ => Err(wrong()),
                }
            }
        }

        from.deserialize_any(Source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env<'a>(name: &'a str, value: &'a Path) -> impl Fn(&str) -> Option<OsString> + 'a {
        move |wanted| (wanted == name).then(|| value.as_os_str().to_owned())
    }

    #[test]
    fn a_secret_is_read_from_its_source_and_never_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("team"), "k-17\n").expect("a file");
        let of_unit = SecretSource::Credential("team".to_owned());
        let got = of_unit.read_with(env("CREDENTIALS_DIRECTORY", folder.path())).expect("a secret");
        assert_eq!((got.expose(), format!("{got:?}").as_str()), ("k-17", "Secret"));
        let file = SecretSource::File("team".into()).below(folder.path());
        assert_eq!(file.read().expect("a secret"), got);
        let variable = SecretSource::Env("KEY".to_owned());
        assert_eq!(variable.read_with(env("KEY", Path::new("k-17"))).expect("a secret"), got);
    }

    #[test]
    fn a_missing_secret_is_named_in_the_error() {
        let none = |_: &str| None;
        for (source, want) in [
            (SecretSource::Credential("team".to_owned()), "LoadCredential=team:FILE"),
            (SecretSource::File("/nowhere/team".into()), "secret /nowhere/team: "),
            (SecretSource::Env("KEY".to_owned()), "$KEY: the variable is not set"),
        ] {
            let got = source.read_with(none).expect_err("no secret").to_string();
            assert!(got.contains(want), "{got}");
        }
        let empty = SecretSource::Env("KEY".to_owned()).read_with(env("KEY", Path::new(" \n")));
        assert_eq!(empty.expect_err("no secret").to_string(), "secret in $KEY is empty");
    }
}
