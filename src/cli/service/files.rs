//! The texts of the files that `service install` writes. Pure.

use std::path::Path;

use crate::config::{self, ConfigError, NamedDirectory};

/// The first line of each file that `service install` writes. Only such files are replaced or removed.
const MARK: &str =
    "# Written by `safelight service install`. `safelight service uninstall` removes it.\n";

/// The program in the units as they are shipped: of the machine, and of a user.
const PROGRAMS: [&str; 2] = ["/usr/bin/safelight", "%h/.local/bin/safelight"];

/// Whether a text is one that `service install` wrote.
pub(super) fn is_ours(text: &str) -> bool {
    text.starts_with(MARK)
}

/// A file that is shipped, marked as ours.
pub(super) fn marked(shipped: &str) -> String {
    format!("{MARK}{shipped}")
}

/// A unit that is shipped, for the program at this path.
pub(super) fn unit(shipped: &str, program: &Path) -> String {
    let program = word_of_unit(&program.display().to_string());
    let settings = shipped.lines().map(|line| {
        let is_command = line.starts_with("ExecStart=") || line.starts_with("ExecReload=");
        let shipped = PROGRAMS.into_iter().find(|program| line.contains(program));
        match shipped.filter(|_| is_command) {
            Some(shipped) => line.replace(shipped, &program),
            None => line.to_owned(),
        }
    });
    let settings: Vec<String> = settings.collect();
    // The head of the user's unit says how to install it by hand.
    let text = settings.join("\n") + "\n";
    let body = text.find("[Unit]").map_or(text.as_str(), |at| &text[at..]);
    marked(body)
}

/// A path as a word of a unit's command line. Source: `systemd.service(5)`, "Command lines"; `systemd.unit(5)`,
/// "Specifiers".
fn word_of_unit(path: &str) -> String {
    let escaped = path.replace('%', "%%").replace('$', "$$");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/_-.+@%:".contains(c);
    if escaped.chars().all(is_plain) {
        return escaped;
    }
    format!("\"{}\"", escaped.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A configuration that also watches these directories, and those of them that it did not watch before. `text` is the
/// file at `path` as it is.
///
/// # Errors
/// If the file as it is cannot be read.
pub(super) fn with_watches(
    text: &str,
    path: &Path,
    directories: &[NamedDirectory],
) -> Result<(String, Vec<NamedDirectory>), ConfigError> {
    let watches = config::parse(text, path)?.live.watches;
    let is_new = |named: &&NamedDirectory| {
        watches.iter().all(|watch| {
            let known = std::fs::canonicalize(&watch.path);
            known.map_or_else(|_| watch.path != named.path, |known| known != named.path)
        })
    };
    let new: Vec<NamedDirectory> = directories.iter().filter(is_new).cloned().collect();
    let mut text = text.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for named in &new {
        let quoted = |text: String| toml::Value::String(text).to_string();
        let path = quoted(named.path.display().to_string());
        let runs = named
            .runs()
            .into_pattern()
            .map_or_else(|| ".".to_owned(), |runs| runs.as_str().to_owned());
        let section = ["\n[[watch]]\npath = ", &path, "\nruns = ", &quoted(runs), "\n"];
        text.push_str(&section.concat());
    }
    Ok((text, new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const SYSTEM: &str = include_str!("../../../systemd/safelight.service");
    const USER: &str = include_str!("../../../systemd/user/safelight.service");

    #[test]
    fn a_unit_runs_the_program_that_installed_it() {
        for shipped in [SYSTEM, USER] {
            let unit = unit(shipped, Path::new("/opt/my tools/100%/safelight"));
            assert!(is_ours(&unit), "{unit}");
            for command in ["ExecStart", "ExecReload"] {
                let want = format!("\n{command}=\"/opt/my tools/100%%/safelight\" ");
                assert_eq!(unit.matches(&want).count(), 1, "{unit}");
            }
            assert!(PROGRAMS.iter().all(|program| !unit.contains(program)), "{unit}");
            assert!(unit.contains("\n[Unit]\n") && unit.contains("\n[Install]\n"), "{unit}");
        }
        assert!(
            unit(SYSTEM, Path::new("/usr/local/bin/safelight"))
                .contains("=/usr/local/bin/safelight daemon")
        );
    }

    #[test]
    fn directories_are_added_once_and_the_rest_of_the_file_stays() {
        let path = Path::new("/etc/safelight/safelight.toml");
        let named = |path: &str, depth| NamedDirectory { path: path.into(), depth };
        let directories = [named("/nonexistent/a \"b\"", 1), named("/nonexistent/run", 0)];
        let before = "# mine\n[limits]\nmax_items = 3";
        let (text, new) = with_watches(before, path, &directories).expect("a file");
        assert_eq!(new, directories);
        assert!(text.starts_with(&format!("{before}\n")), "{text}");
        let watches = config::parse(&text, path).expect("a file").live.watches;
        let read: Vec<_> = watches
            .iter()
            .map(|watch| (watch.path.clone(), usize::from(watch.runs.is_some())))
            .collect();
        assert_eq!(read, directories.clone().map(|named| (named.path, named.depth)));
        assert_eq!(with_watches(&text, path, &directories).expect("a file"), (text, Vec::new()));
    }

    #[test]
    fn the_default_configurations_set_places_and_nothing_else() {
        for (text, settings) in [
            (
                include_str!("../../../config/default.toml"),
                &["store.path", "control.socket", "gallery.listen"][..],
            ),
            (include_str!("../../../config/default-user.toml"), &["gallery.listen"]),
        ] {
            // Another place than any default, so that a difference shows.
            let config = config::parse(text, Path::new("/x/safelight.toml")).expect("a file");
            let default = Config::default();
            assert_eq!(config.live, default.live);
            let differences = config.boot.differences(&default.boot);
            assert!(differences.iter().all(|name| settings.contains(name)), "{differences:?}");
            assert!(differences.contains(&"gallery.listen"));
        }
    }
}
