//! Where the configuration file, the store and the control socket are if nobody says so.

use std::env;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::values::SOCKET_PATH_BYTES_MAX;

/// The configuration file of the whole machine.
pub(crate) const SYSTEM_FILE: &str = "/etc/safelight/safelight.toml";

/// The name of the control socket in its directory.
const SOCKET_NAME: &str = "control.sock";

/// What the default places depend on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    /// Whether the process is root's. Then the machine's places are used.
    is_root: bool,
    uid: u32,
    home: Option<PathBuf>,
    config_home: Option<PathBuf>,
    data_home: Option<PathBuf>,
    runtime_dir: Option<PathBuf>,
    temp: PathBuf,
}

impl Places {
    /// The places of this process.
    pub(crate) fn of_process() -> Self {
        // The XDG base directory specification: a relative path is invalid and ignored.
        let directory =
            |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let user = rustix::process::geteuid();
        Self {
            is_root: user.is_root(),
            uid: user.as_raw(),
            home: directory("HOME"),
            config_home: directory("XDG_CONFIG_HOME"),
            data_home: directory("XDG_DATA_HOME"),
            runtime_dir: directory("XDG_RUNTIME_DIR"),
            temp: env::temp_dir(),
        }
    }

    /// The user's own configuration file; `None` for a user without a home.
    pub(crate) fn user_file(&self) -> Option<PathBuf> {
        let home = || self.home.as_ref().map(|home| home.join(".config"));
        Some(self.config_home.clone().or_else(home)?.join("safelight/safelight.toml"))
    }

    /// The configuration files that are looked for, in this order. The first one that exists is read.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.user_file().into_iter().chain([PathBuf::from(SYSTEM_FILE)]).collect()
    }

    /// The configuration file that is read if none is named. A file of the machine that this user may not read is
    /// that of a service. A file in a home that this user may not enter is another user's: `runuser` keeps `HOME`.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        let is_taken = |path: &PathBuf| match File::open(path) {
            Ok(file) => file.metadata().is_ok_and(|meta| meta.is_file()),
            // Anything else is said when the file is read.
            Err(error) => is_told(error.kind(), path, path.symlink_metadata().is_ok()),
        };
        self.files().into_iter().find(is_taken)
    }

    /// The store of a configuration that names none: the machine's place for root, the user's own for others.
    pub(crate) fn store(&self) -> PathBuf {
        if self.is_root {
            return PathBuf::from("/var/lib/safelight");
        }
        let home = || self.home.as_ref().map(|home| home.join(".local/share"));
        match self.data_home.clone().or_else(home) {
            Some(data) => data.join("safelight"),
            None => self.temp.join(format!("safelight-{}", self.uid)),
        }
    }

    /// The socket of a configuration that names none: in the directory for sockets, or in the store if there is no such
    /// directory, or if the command line names the store, because several daemons may then run.
    pub(crate) fn socket(&self, store: &Path, is_store_named: bool) -> PathBuf {
        let directory =
            if self.is_root { Some(PathBuf::from("/run")) } else { self.runtime_dir.clone() };
        let of_user = directory.map(|directory| directory.join("safelight").join(SOCKET_NAME));
        let in_store = store.join(SOCKET_NAME);
        let fits = in_store.as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX;
        match of_user {
            Some(socket) if !(is_store_named && fits) => socket,
            _ => in_store,
        }
    }
}

/// Whether a command fails if the configuration file at this place cannot be opened for this reason. `is_seen` tells
/// whether this user sees that there is a file.
fn is_told(kind: io::ErrorKind, path: &Path, is_seen: bool) -> bool {
    match kind {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => false,
        io::ErrorKind::PermissionDenied => path != Path::new(SYSTEM_FILE) && is_seen,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_closed_file_of_the_machine_is_left_to_others() {
        // Bug: a user's own file that was closed to the user was ignored without a word.
        let own = Path::new("/home/ada/.config/safelight/safelight.toml");
        let denied = io::ErrorKind::PermissionDenied;
        assert!(is_told(denied, own, true) && !is_told(denied, own, false));
        assert!(!is_told(denied, Path::new(SYSTEM_FILE), true));
        assert!(!is_told(io::ErrorKind::NotFound, own, false));
        assert!(is_told(io::ErrorKind::Other, Path::new(SYSTEM_FILE), true));
    }

    fn user() -> Places {
        let at = |path: &str| Some(PathBuf::from(path));
        Places {
            is_root: false,
            uid: 1000,
            home: at("/home/ada"),
            temp: "/tmp".into(),
            ..Places::default()
        }
    }

    #[test]
    fn a_users_places_follow_the_base_directories() {
        let plain = user();
        let want = ["/home/ada/.config/safelight/safelight.toml", SYSTEM_FILE];
        assert_eq!(plain.files(), want.map(PathBuf::from));
        assert_eq!(plain.store(), Path::new("/home/ada/.local/share/safelight"));
        let set = Places {
            config_home: Some("/c".into()),
            data_home: Some("/d".into()),
            runtime_dir: Some("/run/user/1000".into()),
            ..plain
        };
        assert_eq!(set.files()[0], Path::new("/c/safelight/safelight.toml"));
        assert_eq!(set.store(), Path::new("/d/safelight"));
        let socket = set.socket(&set.store(), false);
        assert_eq!(socket, Path::new("/run/user/1000/safelight/control.sock"));
    }

    #[test]
    fn the_socket_lies_in_the_store_if_there_is_no_directory_for_sockets() {
        let (store, deep) =
            (Path::new("/data/store"), PathBuf::from(format!("/{}", "d".repeat(99))));
        let in_store = Path::new("/data/store/control.sock");
        assert_eq!(user().socket(store, false), in_store);
        let with_directory = Places { runtime_dir: Some("/run/user/1000".into()), ..user() };
        let in_directory = Path::new("/run/user/1000/safelight/control.sock");
        assert_eq!(with_directory.socket(store, false), in_directory);
        assert_eq!(with_directory.socket(store, true), in_store);
        // A path that no socket can have.
        assert_eq!(with_directory.socket(&deep, true), in_directory);
    }

    #[test]
    fn root_has_the_places_of_the_machine() {
        let root = Places { is_root: true, data_home: Some("/d".into()), ..user() };
        assert_eq!(root.store(), Path::new("/var/lib/safelight"));
        let socket = root.socket(&root.store(), false);
        assert_eq!(socket, Path::new("/run/safelight/control.sock"));
    }

    #[test]
    fn a_user_without_a_home_has_a_store_of_the_own_name() {
        let nobody = Places { home: None, uid: 65534, ..user() };
        assert_eq!(nobody.files(), [PathBuf::from(SYSTEM_FILE)]);
        assert_eq!(nobody.store(), Path::new("/tmp/safelight-65534"));
    }
}
