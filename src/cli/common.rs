//! The options of every command, and the configuration that they name.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::exit::NoConfigFile;
use crate::config::places::Places;
use crate::config::{self, Config, ConfigSource, NamedDirectory, Overrides};
use crate::shell::{quoted, quoted_path};

/// The options of every command.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// The configuration file [default: the first one that exists of ~/.config/safelight/safelight.toml and
    /// /etc/safelight/safelight.toml]
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) config: Option<PathBuf>,
    /// The store's directory; overrides the configuration
    #[arg(long, value_name = "DIR", global = true)]
    pub(super) store: Option<PathBuf>,
    /// Print JSON: one object, or JSON Lines with one item a line
    #[arg(long, global = true)]
    pub(super) json: bool,
}

impl Common {
    /// The configuration. Without a file, the defaults.
    pub(super) fn config(&self) -> anyhow::Result<Config> {
        Ok(config::load_with(self.config_path().as_deref(), &self.overrides(&[])?)?)
    }

    /// The configuration of the daemon, what is odd in it, and what a reload needs.
    ///
    /// # Errors
    /// With exit code 78 if there is neither a file nor a directory to watch, the file is invalid, or its parts do not
    /// fit together.
    pub(super) fn of_daemon(
        &self,
        directories: &[NamedDirectory],
    ) -> anyhow::Result<(Config, Vec<String>, ConfigSource)> {
        let file = self.config_path();
        if file.is_none() && directories.is_empty() {
            return Err(Self::no_file("or directories to watch: safelight daemon DIR…").into());
        }
        let source = ConfigSource { file, overrides: self.overrides(directories)? };
        let (config, warnings) = source.load_whole()?;
        Ok((config, warnings, source))
    }

    /// The configuration of a command that needs a file, what is odd in it, and the file.
    ///
    /// # Errors
    /// With exit code 78 if there is no file, an invalid one, or one whose parts do not fit together.
    pub(super) fn of_file(&self) -> anyhow::Result<(Config, Vec<String>, PathBuf)> {
        let path = self.config_path().ok_or_else(|| Self::no_file(""))?;
        let (config, warnings) = config::load_whole(Some(&path), &self.overrides(&[])?)?;
        Ok((config, warnings, path))
    }

    /// The configuration of a command that needs a file, but not what the daemon needs of it.
    ///
    /// # Errors
    /// With exit code 78 if there is no file, or an invalid one.
    pub(super) fn config_of_file(&self) -> anyhow::Result<Config> {
        let path = self.config_path().ok_or_else(|| Self::no_file(""))?;
        Ok(config::load_with(Some(&path), &self.overrides(&[])?)?)
    }

    /// The file that `--config` names, else the first one of the default places that exists.
    pub(super) fn config_path(&self) -> Option<PathBuf> {
        self.config.clone().or_else(|| Places::of_process().file())
    }

    /// Who names the store, for messages about it.
    pub(super) fn who_names_the_store(&self) -> String {
        match (&self.store, self.config_path()) {
            (Some(_), _) => "named by --store".to_owned(),
            (None, Some(file)) => format!("the store of {}", file.display()),
            (None, None) => "the default store".to_owned(),
        }
    }

    /// The command lines that messages name.
    pub(super) fn commands(&self) -> Commands {
        let program = std::env::args().next().unwrap_or_else(|| "safelight".to_owned());
        let option = |name: &str, path: Option<&Path>| {
            path.map_or_else(String::new, |path| format!(" --{name} {}", quoted_path(path)))
        };
        let options =
            option("store", self.store.as_deref()) + &option("config", self.config.as_deref());
        Commands { program: quoted(&program), options }
    }

    fn overrides(&self, directories: &[NamedDirectory]) -> anyhow::Result<Overrides> {
        let store = self.store.as_deref().map(absolute).transpose()?;
        Ok(Overrides { store, directories: directories.to_vec() })
    }

    fn no_file(or: &'static str) -> NoConfigFile {
        NoConfigFile { looked_for: Places::of_process().files(), or }
    }
}

/// Command lines of this program that messages name. They can be pasted into a shell, and lead to the same store.
#[derive(Debug, Default)]
pub(super) struct Commands {
    /// The program as it was called.
    program: String,
    /// The options that name the store, each with a space before it.
    options: String,
}

impl Commands {
    /// Command lines for another machine, which they name.
    pub(super) fn on_box(of_box: &str) -> Self {
        let options = format!(" (on the box {})", quoted(of_box));
        Self { program: "safelight".to_owned(), options }
    }

    /// A command line with these arguments, which are quoted for a shell.
    pub(super) fn line(&self, arguments: &str) -> String {
        let Self { program, options } = self;
        format!("{program} {arguments}{options}")
    }
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("--store {}", path.display()))
}
