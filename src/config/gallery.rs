//! `[gallery]`: the pages on which people look at the images.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::values::{BYTES_MAX, SOCKET_PATH_BYTES_MAX, Whole};
use crate::secrets::SecretSource;

/// The pages on which people look at the images.
#[derive(Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GallerySection {
    /// Where the daemon serves the gallery. `unix:PATH`: a unix socket, open to whom the file's group is (see
    /// systemd/safelight.service), to be reached with `ssh -N -L 7878:PATH BOX` and `http://localhost:7878`.
    /// `127.0.0.1:PORT` or `[::1]:PORT`: a port, which asks for a login. `systemd`: the socket of
    /// safelight-gallery.socket. Another address needs `token` and `hosts`. If unset: nowhere. If `--store` names
    /// another store: any free port of `127.0.0.1`.
    #[schemars(example = &"unix:/run/safelight/gallery.sock", extend("x-restart" = true))]
    pub listen: Option<GalleryListen>,
    /// Names under which browsers reach the gallery, beside `localhost` and the machine's own addresses of that kind.
    /// Any other name is refused, so that no foreign page can read the gallery by giving this machine its name.
    #[schemars(example = Vec::<String>::new(), extend("x-restart" = true))]
    pub hosts: Vec<String>,
    /// The token that programs send: `Authorization: Bearer TOKEN`.
    #[schemars(
        example = SecretSource::Credential("gallery".to_owned()),
        extend("x-restart" = true)
    )]
    pub token: Option<SecretSource>,
    /// Whether the gallery shows the values of dumps. If false, it shows the stored pictures only.
    #[schemars(extend("x-restart" = true))]
    pub dumps: bool,
    /// How many threads make thumbnails, developed pictures and comparisons.
    #[schemars(extend("x-restart" = true))]
    pub threads: Whole<1, 64>,
    /// The memory that these may take, in bytes. Images that need more are shown as thumbnails.
    #[schemars(extend("x-restart" = true))]
    pub memory_bytes_max: Whole<16_777_216, BYTES_MAX>,
    /// The bytes of thumbnails in the store's `cache` directory. 0: none are kept on disk.
    #[schemars(extend("x-restart" = true))]
    pub thumbnails_bytes_max: Whole<0, BYTES_MAX>,
}

impl Default for GallerySection {
    fn default() -> Self {
        Self {
            listen: None,
            hosts: Vec::new(),
            token: None,
            dumps: true,
            threads: Whole::nearest(1),
            memory_bytes_max: Whole::nearest(128 << 20),
            thumbnails_bytes_max: Whole::nearest(256 << 20),
        }
    }
}

/// The settings of the gallery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GalleryConfig {
    /// Where the daemon serves it; `None` for nowhere.
    pub listen: Option<GalleryListen>,
    /// Names under which browsers reach it, beside those of the loopback address.
    pub hosts: Vec<String>,
    /// The token that programs send.
    pub token: Option<SecretSource>,
    /// Whether it shows the values of dumps.
    pub dumps: bool,
    /// How many threads make pictures; at least 1.
    pub n_threads: usize,
    /// The memory that these may take, in bytes.
    pub memory_bytes_max: u64,
    /// The bytes of thumbnails that are kept on disk; 0 for none.
    pub thumbnails_bytes_max: u64,
}

impl GallerySection {
    /// The settings; relative paths start at `folder`.
    pub(super) fn into_config(self, folder: &Path) -> GalleryConfig {
        let Self { listen, hosts, token, dumps, threads, memory_bytes_max, thumbnails_bytes_max } =
            self;
        GalleryConfig {
            listen: listen.map(|listen| listen.below(folder)),
            hosts,
            token: token.map(|token| token.below(folder)),
            dumps,
            n_threads: threads.as_usize(),
            memory_bytes_max: memory_bytes_max.get(),
            thumbnails_bytes_max: thumbnails_bytes_max.get(),
        }
    }
}

impl GalleryConfig {
    /// The settings by their names in the file, and whether they differ from `other`.
    pub(super) fn differences(&self, other: &Self) -> [(&'static str, bool); 7] {
        let Self { listen, hosts, token, dumps, n_threads, memory_bytes_max, thumbnails_bytes_max } =
            self;
        [
            ("gallery.listen", *listen != other.listen),
            ("gallery.hosts", *hosts != other.hosts),
            ("gallery.token", *token != other.token),
            ("gallery.dumps", *dumps != other.dumps),
            ("gallery.threads", *n_threads != other.n_threads),
            ("gallery.memory_bytes_max", *memory_bytes_max != other.memory_bytes_max),
            ("gallery.thumbnails_bytes_max", *thumbnails_bytes_max != other.thumbnails_bytes_max),
        ]
    }
}

/// Where the gallery is served.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum GalleryListen {
    /// On a unix socket. Who may open the file needs no login.
    Unix(PathBuf),
    /// On a TCP port, with a login.
    Tcp(SocketAddr),
    /// On the socket that systemd passes.
    Systemd,
}

impl GalleryListen {
    fn below(self, folder: &Path) -> Self {
        match self {
            Self::Unix(path) => Self::Unix(folder.join(path)),
            other => other,
        }
    }
}

impl FromStr for GalleryListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let want = "want \"unix:PATH\", \"127.0.0.1:PORT\", \"[::1]:PORT\" or \"systemd\"";
        if text == "systemd" {
            return Ok(Self::Systemd);
        }
        let Some(path) = text.strip_prefix("unix:") else {
            return text.parse().map(Self::Tcp).map_err(|_| format!("got {text:?}, {want}"));
        };
        match path.len() {
            0 => Err(format!("got {text:?}, {want}")),
            n if n > SOCKET_PATH_BYTES_MAX => Err(format!(
                "got a socket's path of {n} bytes, want at most {SOCKET_PATH_BYTES_MAX} bytes"
            )),
            _ => Ok(Self::Unix(path.into())),
        }
    }
}

impl TryFrom<String> for GalleryListen {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for GalleryListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
            Self::Systemd => f.write_str("systemd"),
        }
    }
}

impl JsonSchema for GalleryListen {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "GalleryListen".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        for text in ["unix:/run/safelight/gallery.sock", "127.0.0.1:7878", "[::1]:7878", "systemd"]
        {
            assert_eq!(text.parse::<GalleryListen>().map(|it| it.to_string()), Ok(text.to_owned()));
        }
        for text in ["unix:", "7878", "localhost:7878", "/run/gallery.sock", ""] {
            let error = text.parse::<GalleryListen>().expect_err("no place");
            assert!(error.starts_with(&format!("got {text:?}, want \"unix:PATH\"")), "{error}");
        }
        let long = format!("unix:/{}", "x".repeat(107));
        let want = "got a socket's path of 108 bytes, want at most 107 bytes";
        assert_eq!(long.parse::<GalleryListen>(), Err(want.to_owned()));
    }
}
