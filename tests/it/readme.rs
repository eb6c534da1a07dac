//! The snippets of the README run as they stand.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{PROGRAM, Ran, skip};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The blocks of a language in a text, in order.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("```{language}\n");
    text.split(begin.as_str())
        .skip(1)
        .map(|block| block.split("```").next().unwrap_or_default())
        .collect()
}

/// The part of the README before a heading.
fn readme_before(heading: &str) -> String {
    let readme = fs::read_to_string(repository().join("README.md")).expect("the README");
    let (before, _) = readme.split_once(heading).expect("the heading");
    before.to_owned()
}

/// A Python with NumPy.
fn python() -> Option<String> {
    let pythons = std::env::var("SAFELIGHT_PYTHONS").unwrap_or_default();
    let first = pythons.split(':').find(|python| !python.is_empty());
    if first.is_none() {
        skip("SAFELIGHT_PYTHONS names no Python with NumPy");
    }
    first.map(str::to_owned)
}

#[test]
fn the_first_snippets_make_the_pictures_that_they_show() {
    // Bug: the log was never opened, its folder did not exist, and its name was not that of a log.
    let Some(python) = python() else { return };
    let temp = tempfile::tempdir().expect("a folder");
    let config = temp.path().join("config/safelight");
    fs::create_dir_all(&config).expect("a folder");
    // The store of root is that of the machine.
    fs::write(config.join("safelight.toml"), "store.path = \"../../store\"\n").expect("a file");
    let programs = temp.path().join("bin");
    fs::create_dir(&programs).expect("a folder");
    symlink(PROGRAM, programs.join("safelight")).expect("a link");
    let path = format!("{}:/usr/bin:/bin", programs.display());
    let run = |program: &str, args: &[&str]| -> Ran {
        let mut command = Command::new(program);
        command.args(args).current_dir(temp.path()).env("PATH", &path).stdin(Stdio::null());
        command.env("XDG_CONFIG_HOME", temp.path().join("config"));
        command.env("PYTHONPATH", repository().join("python"));
        command.output().expect(program).into()
    };

    let text = readme_before("\n## Try it\n");
    let snippets = blocks(&text, "python");
    assert_eq!(snippets.len(), 2, "{text}");
    // The second one goes on with the array of the first.
    let ran = run(&python, &["-c", &snippets.concat()]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");

    let consoles = blocks(&text, "console");
    assert_eq!(consoles.len(), 1, "{text}");
    let mut n_commands = 0;
    for part in consoles[0].split("$ ").skip(1) {
        let (command, want) = part.split_once('\n').expect("a line");
        if command.starts_with("safelight gallery") {
            continue;
        }
        n_commands += 1;
        let ran = run("bash", &["-c", command]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{command}: {ran:?}");
        if !want.is_empty() {
            assert_eq!(ran.out, want, "{command}");
        }
    }
    assert_eq!(n_commands, 2, "{text}");
    let ran = run("safelight", &["ingest", "runs"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = run("safelight", &["show", "8", "val/pred", "120"]);
    assert!(ran.out.contains("  caption   epoch 3\n"), "{ran:?}");
}

#[test]
fn one_command_builds_it_and_ends_with_a_picture() {
    let temp = tempfile::tempdir().expect("a folder");
    for name in ["try.sh", "examples"] {
        symlink(repository().join(name), temp.path().join(name)).expect("a link");
    }
    // The script goes to its own folder, which must not be the checkout: others write to its `target`.
    fs::remove_file(temp.path().join("try.sh")).expect("a removal");
    fs::copy(repository().join("try.sh"), temp.path().join("try.sh")).expect("a copy");
    fs::create_dir(temp.path().join("target")).expect("a folder");
    let script = temp.path().join("try.sh");
    let run = |path: &str, program: &str| -> Ran {
        let mut command = Command::new("/bin/sh");
        command.arg(&script).env("PATH", path).env("SAFELIGHT_PROGRAM", program);
        command.stdin(Stdio::null()).output().expect("sh").into()
    };
    let bin = temp.path().join("bin");
    fs::create_dir(&bin).expect("a folder");
    symlink("/usr/bin/dirname", bin.join("dirname")).expect("a link");
    let without = run(bin.to_str().expect("a path"), "");
    assert!(without.code == 1 && without.err.contains("Rust is missing"), "{without:?}");
    symlink("/bin/true", bin.join("cargo")).expect("a link");
    let ran = run(&format!("{}:/usr/bin:/bin", bin.display()), PROGRAM);
    assert_eq!(ran.code, 0, "{ran:?}");
    let file = ran.out.lines().find_map(|line| line.strip_prefix("  file      ")).expect("a file");
    let picture = image::open(temp.path().join(file)).expect("a picture");
    assert!(picture.width() > 0);
    // The README names the script and what it made.
    let readme = readme_before("\n## What a job writes\n");
    let (_, try_it) = readme.split_once("\n## Try it\n").expect("a section");
    assert_eq!(blocks(try_it, "sh")[0], "./try.sh\n");
    for command in blocks(try_it, "sh")[1].lines().filter(|line| !line.contains("gallery")) {
        let command = command.replace("target/release/safelight", PROGRAM);
        let ran = Command::new("bash").args(["-c", &command]).current_dir(temp.path()).output();
        let ran: Ran = ran.expect("bash").into();
        assert_eq!(ran.code, 0, "{command}: {ran:?}");
        assert!(ran.out.lines().count() > 1, "{command}: {ran:?}");
    }
}
