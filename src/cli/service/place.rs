//! Where the files of a service lie: of the machine, or of one user.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use rustix::process::geteuid;

use super::files;
use crate::config::places::{Places, SYSTEM_FILE};
use crate::shell::quoted_path;

/// The name of the unit.
pub(super) const UNIT: &str = "safelight.service";

/// Where packages put units. A unit there is used as it is.
const PACKAGED: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];

/// Whose service it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Machine,
    User,
}

/// A file that is written, and its text.
pub(super) struct OurFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl Scope {
    /// The scope of the command line.
    ///
    /// # Errors
    /// If it is the machine's, and this user is not root.
    pub(super) fn of(is_user: bool) -> anyhow::Result<Self> {
        if is_user {
            return Ok(Self::User);
        }
        if geteuid().is_root() {
            return Ok(Self::Machine);
        }
        Err(anyhow!(
            "a service of the machine needs root: run it with sudo, or add --user for a service of your own"
        ))
    }

    /// The options of `systemctl`.
    pub(super) fn systemctl_options(self) -> &'static [&'static str] {
        match self {
            Self::Machine => &[],
            Self::User => &["--user"],
        }
    }

    /// The configuration file.
    ///
    /// # Errors
    /// If the user has no home.
    pub(super) fn config(self) -> anyhow::Result<PathBuf> {
        match self {
            Self::Machine => Ok(SYSTEM_FILE.into()),
            Self::User => {
                Places::of_process().user_file().context("neither HOME nor XDG_CONFIG_HOME is set")
            }
        }
    }

    /// The configuration of a service that has none yet.
    pub(super) fn default_config(self) -> &'static str {
        match self {
            Self::Machine => include_str!("../../../config/default.toml"),
            Self::User => include_str!("../../../config/default-user.toml"),
        }
    }

    /// The unit that a package installed, if one did.
    pub(super) fn packaged_unit(self) -> Option<PathBuf> {
        let packaged = PACKAGED.iter().map(|folder| Path::new(folder).join(UNIT));
        packaged.into_iter().find(|path| self == Self::Machine && path.is_file())
    }

    /// The files that are written for a service that runs this program.
    ///
    /// # Errors
    /// If the user has no home.
    pub(super) fn files(self, program: &Path) -> anyhow::Result<Vec<OurFile>> {
        let file = |path: &str, text: String| OurFile { path: path.into(), text };
        Ok(match self {
            Self::Machine => {
                let unit = files::unit(include_str!("../../../systemd/safelight.service"), program);
                let slice = files::marked(include_str!("../../../systemd/safelight.slice"));
                let users = files::marked(include_str!("../../../systemd/safelight.sysusers"));
                let directories =
                    files::marked(include_str!("../../../systemd/safelight.tmpfiles"));
                vec![
                    file("/etc/systemd/system/safelight.service", unit),
                    file("/etc/systemd/system/safelight.slice", slice),
                    file("/etc/sysusers.d/safelight.conf", users),
                    file("/etc/tmpfiles.d/safelight.conf", directories),
                ]
            }
            Self::User => {
                let text =
                    files::unit(include_str!("../../../systemd/user/safelight.service"), program);
                let config = self.config()?;
                let folder = config.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
                vec![OurFile { path: folder.join("systemd/user").join(UNIT), text }]
            }
        })
    }
}

/// The path of this program, for a unit.
///
/// # Errors
/// If the service's user may not run it: it lies in somebody's home.
pub(super) fn program(scope: Scope) -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find this program's file")?;
    if scope == Scope::User {
        return Ok(program);
    }
    let is_closed = |path: &&Path| {
        let mode = fs::metadata(path).map_or(0, |meta| meta.permissions().mode());
        mode & 0o001 == 0
    };
    match program.ancestors().find(is_closed) {
        None => Ok(program),
        Some(closed) => Err(anyhow!(
            "the service's user safelight may not run {}, because {} is closed to others: install it for all users \
             first (install -m 755 {} /usr/local/bin/safelight), and run /usr/local/bin/safelight service install",
            program.display(),
            closed.display(),
            quoted_path(&program)
        )),
    }
}
