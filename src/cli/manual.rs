//! The manual's pages: `safelight.1`, and one for each command.
//!
//! clap gives the synopsis, the description and the options. What clap doesn't know is written here: exit status, files
//! and examples. The pages are files in `packaging/wheel/data/share/man`. Only the test that keeps them current writes
//! them, so this module is a part of tests only.

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::args::Cli;
use super::exit::ExitCode;

const FILES: [(&str, &str); 6] = [
    (
        "~/.config/safelight/safelight.toml",
        "The configuration of a user ($XDG_CONFIG_HOME/safelight/safelight.toml). It is taken if --config is not \
         given.",
    ),
    (
        "/etc/safelight/safelight.toml",
        "The configuration of the machine. It is taken if the user has none.",
    ),
    ("/var/lib/safelight", "The store of the service: media files, journals and the index."),
    (
        "~/.local/share/safelight",
        "The store of a user who has no configuration ($XDG_DATA_HOME/safelight).",
    ),
    ("/run/safelight/control.sock", "The control socket of the service."),
    (
        "/usr/share/doc/safelight",
        "With the Debian package: the documentation, and drop-ins for the service in examples.",
    ),
];

/// What a command is used for, each with a command line.
type Examples = &'static [(&'static str, &'static str)];

/// The examples of a command. `None` is the program itself.
fn examples(command: Option<&str>) -> Examples {
    match command {
        None => &[
            (
                "Read a run directory once, and look at its pictures:",
                "safelight ingest runs/7\nsafelight gallery",
            ),
            (
                "List the items of a run, and show the newest picture of a key:",
                "safelight ls 7\nsafelight show 7 val/pred --picture",
            ),
        ],
        Some("daemon") => &[
            ("Watch all runs in a directory, without a configuration:", "safelight daemon ~/runs"),
            (
                "Run the daemon with a configuration of its own:",
                "safelight daemon --config team.toml",
            ),
        ],
        Some("service") => &[(
            "Watch all runs in a directory from now on, without root:",
            "safelight service install --user ~/runs",
        )],
        Some("ingest") => &[(
            "Read two run directories into a store in the current directory:",
            "safelight ingest runs/7 runs/8 --store pictures",
        )],
        Some("backfill") => &[
            (
                "Deliver all runs of an archive, two at a time:",
                "ls -d archive/*/ | xargs -P2 -I{} safelight backfill {} --target fleet --config cluster.toml --skip-done",
            ),
            (
                "Deliver a temporary copy of a run, under the address that it was fetched from:",
                "safelight backfill /scratch/exp7 --target fleet --config cluster.toml --origin s3://arch/exp7",
            ),
        ],
        Some("ls") => &[
            (
                "List the images of a key in some steps:",
                "safelight ls 7 val/pred --step 100..200 --state image",
            ),
            ("Find the first steps whose data holds NaN:", "safelight ls 7 --where 'nan>0' | head"),
        ],
        Some("show") => &[
            (
                "Show the newest picture of a key in the terminal, with its boxes and masks:",
                "safelight show 7 val/pred --picture --overlays",
            ),
            ("Print what wandb.log would record:", "safelight show 7 val/pred 120 --as logged"),
        ],
        Some("gallery") => &[(
            "Look at the pictures of a machine that is reached by ssh:",
            "ssh -L 7878:127.0.0.1:7878 box safelight gallery",
        )],
        Some("service install") => &[(
            "Watch a directory of runs without root, from now on:",
            "safelight service install --user ~/runs",
        )],
        Some("service uninstall") => &[(
            "Remove the service; the configuration and the store stay:",
            "safelight service uninstall",
        )],
        Some("service status") => {
            &[("Show the service of a user:", "safelight service status --user")]
        }
        Some("status") => &[(
            "Print the backlog of each target as JSON:",
            "safelight status --json | jq .targets",
        )],
        Some("health") => &[(
            "Tell whether the daemon is healthy:",
            "safelight health || echo 'look at safelight status'",
        )],
        Some("reload") => &[(
            "Check a changed configuration, and apply it:",
            "safelight validate && safelight reload",
        )],
        Some("validate") => &[(
            "Check a configuration before it is installed:",
            "safelight validate --config team.toml",
        )],
        Some("prune") => &[(
            "See what the rules would remove, then remove it:",
            "safelight prune\nsafelight prune --apply",
        )],
        Some("sync") => {
            &[("Deliver the backlog of one target from cron:", "safelight sync archive --once")]
        }
        Some("retry") => &[("Retry what a target rejected:", "safelight retry team")],
        Some("release") => &[(
            "Make images of what was held, after max_items was raised:",
            "safelight reload && safelight release 7",
        )],
        Some("verify") => &[(
            "Read every media file once, and make damaged ones again:",
            "safelight verify --repair",
        )],
        Some("wandb-merge") => &[(
            "Add the images to a copy of the training's offline run, and upload that:",
            "safelight wandb-merge wandb/offline-run-20261129_101500-7f3a out/offline-run-7f3a\n\
             wandb sync out/offline-run-7f3a",
        )],
        Some("reindex") => &[("Rebuild a lost index:", "safelight reindex --store pictures")],
        Some("completions") => &[(
            "Complete the command line in bash:",
            "safelight completions bash > ~/.local/share/bash-completion/completions/safelight",
        )],
        Some(_) => &[],
    }
}

/// The pages: the name of each file, and its text.
pub(super) fn pages() -> Vec<(String, String)> {
    let mut pages = Vec::new();
    for_each_command(|name, command| pages.push(page(name, command)));
    pages
}

/// Calls `see` with the program and each command, the commands of a command included. The name of `service install` is
/// just that, and the program has none.
fn for_each_command(mut see: impl FnMut(Option<&str>, &Command)) {
    fn below(path: &str, command: &Command, see: &mut dyn FnMut(Option<&str>, &Command)) {
        for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = format!("{path} {}", command.get_name());
            see(Some(name.trim_start()), command);
            below(&name, command, see);
        }
    }
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    see(None, &program);
    below("", &program, &mut see);
}

fn page(name: Option<&str>, command: &Command) -> (String, String) {
    let man = Man::new(command.clone())
        .source(concat!("safelight ", env!("CARGO_PKG_VERSION")))
        .manual("Safelight");
    let mut text = Vec::new();
    let written = [
        man.render_title(&mut text),
        man.render_name_section(&mut text),
        man.render_synopsis_section(&mut text),
        man.render_description_section(&mut text),
        man.render_options_section(&mut text),
        // Without commands, it would be an empty section.
        if command.has_subcommands() { man.render_subcommands_section(&mut text) } else { Ok(()) },
        own_sections(name).to_writer(&mut text),
    ];
    written.into_iter().for_each(|result| result.expect("a write to memory"));
    (man.get_filename(), String::from_utf8(text).expect("UTF-8"))
}

fn own_sections(name: Option<&str>) -> Roff {
    let mut roff = Roff::new();
    let entry = |roff: &mut Roff, term: &str, text: &str| {
        roff.control("TP", []).text([bold(term)]).text([roman(text)]);
    };
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in ExitCode::ALL {
        let (first, rest) = meaning.split_at(1);
        let sentence = format!("{}{rest}.", first.to_uppercase());
        entry(&mut roff, &(code as u8).to_string(), &sentence);
    }
    if name.is_none() {
        roff.control("SH", ["FILES"]);
        FILES.iter().for_each(|(path, what)| entry(&mut roff, path, what));
    }
    let examples = examples(name);
    if !examples.is_empty() {
        roff.control("SH", ["EXAMPLES"]);
        for (what, lines) in examples {
            roff.control("PP", []).text([roman(*what)]);
            roff.control("PP", []).control("RS", ["4"]).control("nf", []);
            lines.lines().for_each(|line| {
                roff.text([roman(line)]);
            });
            roff.control("fi", []).control("RE", []);
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    match name {
        Some(_) => roff.text([bold("safelight"), roman("(1)")]),
        None => roff.text([
            roman("The page of each command, such as "),
            bold("safelight-ingest"),
            roman("(1)."),
        ]),
    };
    roff
}

pub(super) mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn share() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/wheel/data/share")
    }

    /// Checks that a file below `packaging/wheel/data/share` has this text. `SAFELIGHT_UPDATE` writes it.
    pub(in super::super) fn assert_packaged(path: &str, want: &str) {
        let file = share().join(path);
        if std::env::var_os("SAFELIGHT_UPDATE").is_some() {
            fs::create_dir_all(file.parent().expect("a folder")).expect("the folder");
            fs::write(&file, want).expect("the file");
        }
        assert!(
            fs::read_to_string(&file).unwrap_or_default() == want,
            "{} is out of date: run `SAFELIGHT_UPDATE=1 cargo test --lib cli::`",
            file.display()
        );
    }

    #[test]
    fn the_packaged_manual_is_current() {
        let pages = pages();
        for (name, text) in &pages {
            assert_packaged(&format!("man/man1/{name}"), text);
        }
        // A command that was removed has no page.
        let entries = fs::read_dir(share().join("man/man1")).expect("the folder");
        let files: BTreeSet<String> = entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
            .collect();
        assert_eq!(files, pages.into_iter().map(|(name, _)| name).collect());
    }

    #[test]
    fn every_command_has_an_example_that_its_parser_accepts() {
        let mut all = Vec::new();
        for_each_command(|name, command| {
            let examples = examples(name);
            // `service` alone does nothing.
            assert!(!examples.is_empty() || command.has_subcommands(), "{name:?} has no example");
            all.extend_from_slice(examples);
        });
        for (_, lines) in all {
            let mut n_parsed = 0;
            let commands = [" && ", " || ", " > "]
                .iter()
                .fold(lines.to_owned(), |lines, between| lines.replace(between, " | "));
            for part in commands.lines().flat_map(|line| line.split(" | ")) {
                let words = part.split_whitespace();
                // `ssh` runs the program elsewhere.
                let words: Vec<&str> = words.skip_while(|word| *word != "safelight").collect();
                if words.is_empty() {
                    continue;
                }
                let words = words.iter().map(|word| word.trim_matches('\''));
                let parsed = Cli::command().try_get_matches_from(words);
                assert!(parsed.is_ok(), "{part}: {parsed:?}");
                n_parsed += 1;
            }
            assert!(n_parsed > 0, "{lines}");
        }
    }
}
