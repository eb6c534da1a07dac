//! `[control]` and `[metrics]`: where the daemon listens.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::places::Places;
use super::values::socket;

/// Where the daemon listens for commands.
#[derive(Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ControlSection {
    /// The socket on which the daemon answers commands. At most 107 bytes long. If unset:
    /// `/run/safelight/control.sock` for root, `$XDG_RUNTIME_DIR/safelight/control.sock` for other users, and
    /// `control.sock` in the store where that variable is unset. If `--store` names another store, this setting does
    /// not count, and the socket is `control.sock` in that store.
    #[serde(deserialize_with = "socket")]
    #[schemars(
        example = "/run/safelight/control.sock",
        extend("x-restart" = true, "x-set" = true)
    )]
    pub socket: Option<PathBuf>,
}

impl ControlSection {
    /// The socket's path; a relative path starts at `folder`. `store` is the store's directory, which the command line
    /// may have named.
    pub(super) fn path(self, folder: &Path, store: &Path, is_store_named: bool) -> PathBuf {
        let default = || Places::of_process().socket(store, is_store_named);
        // The file's socket is that of the daemon of its own store.
        folder.join(self.socket.filter(|_| !is_store_named).unwrap_or_else(default))
    }
}

/// Where the daemon serves metrics for Prometheus.
#[derive(Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsSection {
    /// The address on which Prometheus can read metrics over TCP. If unset, or if `--store` names another store: none.
    /// The control socket always serves them:
    /// `curl --unix-socket /run/safelight/control.sock http://safelight/metrics`.
    #[schemars(example = "127.0.0.1:9464", extend("x-restart" = true))]
    pub listen: Option<SocketAddr>,
}
