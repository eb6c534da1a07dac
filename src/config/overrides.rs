//! What the command line says instead of the configuration file.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::checks::Place;
use super::file::ConfigFile;
use super::patterns::RunsPattern;
use super::{Config, ConfigError, GalleryListen, WatchConfig, load_whole};

/// Where the daemon's configuration comes from.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigSource {
    /// The file.
    pub(crate) file: Option<PathBuf>,
    /// What the command line says instead.
    pub(crate) overrides: Overrides,
}

impl ConfigSource {
    /// Reads the configuration as [`load_whole`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn load_whole(&self) -> Result<(Config, Vec<String>), ConfigError> {
        load_whole(self.file.as_deref(), &self.overrides)
    }
}

/// What the command line says instead of the configuration file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides {
    /// The store, absolute.
    pub(crate) store: Option<PathBuf>,
    /// The directories that the daemon watches instead of those of the file.
    pub(crate) directories: Vec<NamedDirectory>,
}

/// A directory that the command line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedDirectory {
    /// Absolute, without links.
    pub(crate) path: PathBuf,
    /// How many levels below it the run directories lie: 0 if it is one, 1 if the folders in it are.
    pub(crate) depth: usize,
}

impl Overrides {
    /// The meaning of a file, with what the command line says; relative paths of the file start at `folder`.
    pub(super) fn apply(&self, file: ConfigFile, folder: &Path) -> Config {
        let mut config = file.into_config_of(folder, self.store.as_deref());
        if !self.directories.is_empty() {
            let watches = self.directories.iter().map(|named| named.watch(&config.live.watches));
            config.live.watches = watches.collect();
        }
        let boot = &mut config.boot;
        let is_served = boot.gallery.listen.is_some() || !self.directories.is_empty();
        if self.store.is_some() {
            // The file says where the daemon of its own store listens, which may run at the same time.
            boot.metrics_listen = None;
            boot.gallery.listen = None;
        }
        if is_served {
            // Whoever names directories wants to look at them, and need not write a file for it.
            let any_port = GalleryListen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
            boot.gallery.listen.get_or_insert(any_port);
        }
        config
    }

    /// Whether the command line says what stands at this place of the file.
    pub(super) fn has(&self, place: &Place) -> bool {
        match place {
            Place::Watch(_) => !self.directories.is_empty(),
            Place::Target(_) => false,
            Place::Setting(section, name) => {
                (*section, *name) == ("store", "path") && self.store.is_some()
            }
        }
    }
}

impl NamedDirectory {
    /// How the directory is read: as the section says that it lies in, or by the default patterns.
    pub(crate) fn watch(&self, configured: &[WatchConfig]) -> WatchConfig {
        let path = self.path.clone();
        let of_run = Self::watch_of_run(&path, configured);
        match Self::section(&path, configured) {
            _ if self.depth == 0 => of_run,
            Some(watch) => WatchConfig { path, ..watch.clone() },
            None => WatchConfig { runs: self.runs().into_pattern(), ..of_run },
        }
    }

    /// The pattern of the run directories in it.
    pub(crate) fn runs(&self) -> RunsPattern {
        RunsPattern::of_depth(self.depth)
    }

    /// How a directory is read if it is a run.
    pub(crate) fn watch_of_run(path: &Path, configured: &[WatchConfig]) -> WatchConfig {
        match configured.iter().find(|watch| path.starts_with(&watch.path)) {
            Some(watch) => WatchConfig { path: path.to_owned(), runs: None, ..watch.clone() },
            None => WatchConfig::of_run(path.to_owned()),
        }
    }

    /// The section of this directory, which says which folders in it are runs.
    pub(crate) fn section<'a>(
        path: &Path,
        configured: &'a [WatchConfig],
    ) -> Option<&'a WatchConfig> {
        let is_same = |watch: &&WatchConfig| {
            std::fs::canonicalize(&watch.path).is_ok_and(|configured| configured == path)
        };
        configured.iter().find(is_same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn directory(path: &str, depth: usize) -> NamedDirectory {
        NamedDirectory { path: path.into(), depth }
    }

    #[test]
    fn a_named_directory_is_read_as_the_file_says_or_by_the_default_patterns() {
        let text = "[[watch]]\npath = \"/\"\nruns = \"a/*\"\nlogs = [\"*.log\"]\n";
        let configured = parse(text, Path::new("/x/s.toml")).expect("a file").live.watches;
        let read = |directory: NamedDirectory, configured: &[WatchConfig]| {
            let watch = directory.watch(configured);
            let runs = watch.runs.as_ref().map(|runs| runs.as_str().to_owned());
            (runs, watch.is_log("train.log"), watch.path)
        };
        let path = || PathBuf::from("/d");
        assert_eq!(read(directory("/d", 1), &[]), (Some("*".to_owned()), false, path()));
        assert_eq!(read(directory("/d", 2), &[]), (Some("*/*".to_owned()), false, path()));
        assert_eq!(read(directory("/d", 0), &[]), (None, false, path()));
        assert_eq!(read(directory("/d", 0), &configured), (None, true, path()));
        assert_eq!(read(directory("/d", 1), &configured), (Some("*".to_owned()), true, path()));
        let root = read(directory("/", 1), &configured);
        assert_eq!(root, (Some("a/*".to_owned()), true, PathBuf::from("/")));
    }

    #[test]
    fn named_directories_replace_those_of_the_file_and_open_a_gallery() {
        let overrides = Overrides { store: None, directories: vec![directory("/d", 1)] };
        let config = applied(&overrides, "[[watch]]\npath = \"/a\"\n[store]\npath = \"/s\"\n");
        assert_eq!(config.boot.store, Path::new("/s"));
        let paths: Vec<_> = config.live.watches.iter().map(|watch| watch.path.clone()).collect();
        assert_eq!(paths, [PathBuf::from("/d")]);
        assert_eq!(listen(&config).as_deref(), Some("127.0.0.1:0"));
        let config = applied(&overrides, "[gallery]\nlisten = \"unix:g.sock\"\n");
        assert_eq!(listen(&config).as_deref(), Some("unix:/x/g.sock"));
    }

    #[test]
    fn a_named_store_has_sockets_of_its_own() {
        // Bug: a user's `daemon DIR --store S` bound the sockets of the machine's file: "Permission denied".
        let mut overrides =
            Overrides { store: Some("/elsewhere".into()), directories: vec![directory("/d", 1)] };
        let text = "[store]\npath = \"/s\"\n[control]\nsocket = \"/run/safelight/control.sock\"\n\
                    [gallery]\nlisten = \"unix:/run/safelight/gallery.sock\"\nthreads = 2\n\
                    [metrics]\nlisten = \"127.0.0.1:9464\"\n";
        for is_served in [true, false] {
            let config = applied(&overrides, text);
            assert_eq!(config.boot.store, Path::new("/elsewhere"));
            assert_eq!(config.boot.socket, Path::new("/elsewhere/control.sock"));
            assert_eq!(listen(&config).as_deref(), Some("127.0.0.1:0"));
            assert_eq!(config.boot.gallery.n_threads, 2);
            assert_eq!(config.boot.metrics_listen, None);
            // A file without a gallery has none elsewhere, unless directories are named.
            let other = applied(&overrides, "");
            assert_eq!(listen(&other).is_some(), is_served);
            overrides.directories.clear();
        }
        overrides.store = None;
        let config = applied(&overrides, text);
        assert_eq!(config.boot.socket, Path::new("/run/safelight/control.sock"));
        assert_eq!(listen(&config).as_deref(), Some("unix:/run/safelight/gallery.sock"));
        assert!(config.boot.metrics_listen.is_some());
    }

    fn applied(overrides: &Overrides, text: &str) -> Config {
        let file = toml::from_str::<ConfigFile>(text).expect("a file");
        overrides.apply(file, Path::new("/x"))
    }

    fn listen(config: &Config) -> Option<String> {
        config.boot.gallery.listen.as_ref().map(ToString::to_string)
    }
}
