//! What `release.sh` makes: each package is installed in an empty place and makes a picture.
//!
//! `SAFELIGHT_PACKAGES` names the folder with the packages. test.sh has `release.sh build --dev` make those of the
//! debug program; `release.sh try` runs these tests with those of the release.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use serde_json::Value;

use crate::guest::Guest;
use crate::harness::{PROGRAM, skip};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the packages with this end of their name, or `None`, reporting that the test is skipped, if there are no
/// packages.
fn packages(end: &str) -> Option<Vec<PathBuf>> {
    let Some(folder) = std::env::var_os("SAFELIGHT_PACKAGES") else {
        skip("SAFELIGHT_PACKAGES is not set: run `./release.sh build --dev`");
        return None;
    };
    let entries = fs::read_dir(&folder).expect("SAFELIGHT_PACKAGES is a folder");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.to_str().is_some_and(|path| path.ends_with(end)));
    paths.sort();
    Some(paths)
}

/// Runs a command that succeeds, without this process's Python paths.
fn run(program: impl AsRef<OsStr>, args: &[&OsStr], variables: &[(&str, &OsStr)]) -> String {
    let mut command = Command::new(program.as_ref());
    command.args(args).envs(variables.iter().copied()).env_remove("PYTHONPATH");
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{} {args:?}: {stderr}", program.as_ref().display());
    String::from_utf8(stdout).expect("UTF-8")
}

/// Makes a Python environment in a folder and installs what these arguments of pip name, without the net. Returns the
/// path of its Python.
fn environment_with(folder: &Path, wanted: &[&OsStr]) -> PathBuf {
    run("python3", &["-m".as_ref(), "venv".as_ref(), folder.as_os_str()], &[]);
    let python = folder.join("bin/python");
    let pip = ["-m", "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check"];
    let pip: Vec<&OsStr> = pip.iter().map(OsStr::new).chain(wanted.iter().copied()).collect();
    run(&python, &pip, &[]);
    python
}

/// Ingests a run directory by this program, without any configuration. Asserts that its only item is a picture of 2 × 3.
fn assert_makes_a_picture(program: &Path, run_dir: &Path, store: &Path) {
    let store_args = [OsStr::new("--store"), store.as_os_str(), OsStr::new("--json")];
    run(program, &[&[OsStr::new("ingest"), run_dir.as_os_str()], &store_args[..]].concat(), &[]);
    let said = run(program, &[&[OsStr::new("ls")], &store_args[..]].concat(), &[]);
    let items: Vec<Value> =
        said.lines().map(|line| serde_json::from_str(line).expect("an item")).collect();
    assert_eq!(items.len(), 1, "{said}");
    assert_eq!(
        (&items[0]["state"], &items[0]["width"], &items[0]["height"]),
        (&"image".into(), &3.into(), &2.into()),
        "{said}"
    );
    let run = items[0]["run"].as_str().expect("a run");
    let images = store.join("runs").join(run).join("media/images/val");
    let files: Vec<PathBuf> =
        fs::read_dir(&images).expect("images").map(|file| file.expect("a file").path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(fs::read(&files[0]).expect("the file").starts_with(b"\x89PNG\r\n\x1a\n"));
}

/// A training in its simplest form. The environment has neither `NumPy` nor anything else.
const TRAINING: &str = "
import sys, safelight
run = safelight.Run(sys.argv[1], strict=True)
assert run.log({'val/pred': safelight.Image([[0, 128, 255], [1, 2, 3]])}, step=7)
run.finish()
";

#[test]
fn the_wheel_installs_into_an_empty_environment_and_makes_a_picture() {
    let Some(wheels) = packages(".whl") else { return };
    let temp = tempfile::tempdir().expect("a folder");
    let begun = Instant::now();
    let env = temp.path().join("env");
    // Of the wheels, pip takes the one with the program, not the one with the module alone.
    assert!(wheels.len() >= 2, "{wheels:?}");
    let folder = wheels[0].parent().expect("a folder");
    let wanted = ["--find-links".as_ref(), folder.as_os_str(), "safelight".as_ref()];
    let python = environment_with(&env, &wanted);
    let run_dir = temp.path().join("run");
    run(&python, &["-c".as_ref(), TRAINING.as_ref(), run_dir.as_os_str()], &[]);
    let program = env.join("bin/safelight");
    assert_makes_a_picture(&program, &run_dir, &temp.path().join("store"));
    eprintln!("from nothing to a picture by the wheel: {:.1} s", begun.elapsed().as_secs_f64());

    let version = run(&program, &["--version".as_ref()], &[]);
    assert_eq!(version, format!("safelight {}\n", env!("CARGO_PKG_VERSION")));
    let by_module = ["-m".as_ref(), "safelight".as_ref(), "--version".as_ref()];
    // It is the environment's own program, not one in PATH.
    assert_eq!(run(&python, &by_module, &[("PATH", "/nowhere".as_ref())]), version);
    let exit = Command::new(&python).args(["-m", "safelight", "no-such-command"]).output();
    assert_eq!(exit.expect("it starts").status.code(), Some(2));
    for path in [
        "man/man1/safelight.1",
        "man/man1/safelight-ingest.1",
        "zsh/site-functions/_safelight",
        "bash-completion/completions/safelight",
        "fish/vendor_completions.d/safelight.fish",
    ] {
        assert!(env.join("share").join(path).is_file(), "{path}");
    }
    assert_has_the_catalogue(&env);
    // The gallery's pages are in the program.
    let program = fs::read(&program).expect("the program");
    assert!(memchr::memmem::find(&program, b"<div id=\"app\">").is_some(), "no pages");
}

/// Checks the command of the catalogue in an environment without the packages of its extra.
fn assert_has_the_catalogue(env: &Path) {
    let command = env.join("bin/safelight-catalog");
    assert!(run(&command, &["--help".as_ref()], &[]).contains("safelight-catalog fold"));
    let tidy =
        Command::new(&command).args(["tidy", "file:///nowhere"]).output().expect("it starts");
    let said = String::from_utf8_lossy(&tidy.stderr);
    assert_eq!(tidy.status.code(), Some(78), "{said}");
    assert!(said.contains("pip install 'safelight[catalog]'"), "{said}");
}

#[test]
fn the_wheel_with_the_module_alone_logs_and_says_that_it_has_no_program() {
    let Some(wheels) = packages("-none-any.whl") else { return };
    let [wheel] = wheels.as_slice() else { panic!("want one wheel: {wheels:?}") };
    let temp = tempfile::tempdir().expect("a folder");
    let (env, run_dir) = (temp.path().join("env"), temp.path().join("run"));
    let python = environment_with(&env, &[wheel.as_os_str()]);
    run(&python, &["-c".as_ref(), TRAINING.as_ref(), run_dir.as_os_str()], &[]);
    assert_makes_a_picture(Path::new(PROGRAM), &run_dir, &temp.path().join("store"));
    assert_has_the_catalogue(&env);

    let program = ["-m", "safelight", "--version"];
    let ran = Command::new(&python).args(program).env("PATH", "/nowhere").output().expect("Python");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(said.contains("the program is not installed, only the Python module"), "{said}");
    // A program in PATH, such as that of the Debian package, is used.
    let path = [("PATH", Path::new(PROGRAM).parent().expect("a folder").as_os_str())];
    let said = run(&python, &program.map(OsStr::new), &path);
    assert_eq!(said, format!("safelight {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_tarball_unpacks_and_makes_a_picture() {
    let Some(tarballs) = packages(".tar.xz") else { return };
    let [tarball] = tarballs.as_slice() else { panic!("want one tarball: {tarballs:?}") };
    let temp = tempfile::tempdir().expect("a folder");
    let prefix = temp.path().join("usr/local");
    fs::create_dir_all(&prefix).expect("a folder");
    let unpack = ["-xf".as_ref(), tarball.as_os_str(), "-C".as_ref(), prefix.as_os_str()];
    run("tar", &[&unpack[..], &["--strip-components=1".as_ref()]].concat(), &[]);
    let dump = temp.path().join("run/dumps/val/pred/000007.npy");
    fs::create_dir_all(dump.parent().expect("a folder")).expect("a folder");
    fs::write(&dump, crate::harness::npy("|u1", &[2, 3], &[0, 128, 255, 1, 2, 3])).expect("a dump");
    let program = prefix.join("bin/safelight");
    assert_makes_a_picture(&program, &temp.path().join("run"), &temp.path().join("store"));

    // Bug: the units named /usr/bin/safelight, and the README unpacks to /usr/local.
    let readme = fs::read_to_string(repository().join("README.md")).expect("the README");
    assert!(readme.contains("`tar -xf safelight-*.tar.xz -C /usr/local --strip-components=1`"));
    let mut n_files = 0;
    for unit in crate::harness::files_below(&prefix.join("lib/systemd")) {
        let text = fs::read_to_string(&unit).expect("a unit");
        for word in text.split(|c: char| c.is_whitespace() || "=;,".contains(c)) {
            if word.starts_with("/usr/") {
                assert!(temp.path().join(&word[1..]).is_file(), "{word} in {}", unit.display());
                n_files += 1;
            }
        }
    }
    assert!(n_files > 4, "{n_files}");
}

#[test]
fn only_packages_of_this_commit_that_were_tried_are_published() {
    // Bug: whatever an earlier build had left was uploaded.
    let temp = tempfile::tempdir().expect("a folder");
    let packages = temp.path().join("target/packages/release");
    fs::create_dir_all(&packages).expect("folders");
    let write = |path: &str, text: &str| fs::write(temp.path().join(path), text).expect("a file");
    write("Cargo.toml", "[workspace.package]\nversion = \"1.2.3\"\n\n");
    write("CHANGELOG.md", "## 1.2.3 (2026-12-01)\n");
    write(".gitignore", "target\n");
    fs::copy(repository().join("release.sh"), temp.path().join("release.sh")).expect("a copy");
    let shell = |command: &str| {
        let ran = Command::new("bash").args(["-ec", command]).current_dir(temp.path()).output();
        let Output { status, stderr, .. } = ran.expect("bash");
        (status.success(), String::from_utf8_lossy(&stderr).into_owned())
    };
    let make = |command: &str| assert_eq!(shell(command), (true, String::new()), "{command}");
    let commit = "git add . && git -c user.name=a -c user.email=a@b.c commit --quiet --message x";
    make(&format!("git init --quiet && {commit} && git tag v1.2.3"));
    let is_refused = |want: &str| {
        let (is_done, said) = shell("./release.sh publish");
        assert!(!is_done && said.contains(want), "{want}: {said}");
    };
    is_refused("there are no packages");
    let sums = "cd target/packages/release && sha256sum a.whl COMMIT >SHA256SUMS";
    make(&format!(
        "git rev-parse HEAD >target/packages/release/COMMIT; \
                   echo x >target/packages/release/a.whl; {sums}"
    ));
    is_refused("the packages were not tried");
    make("cd target/packages/release && sha256sum <SHA256SUMS >.tried");
    // The next check, of the versions.
    is_refused("Cargo.toml, safelight-formats, has version (none)");
    make("echo y >target/packages/release/a.whl");
    is_refused("the packages have changed since they were built");
    make(sums);
    is_refused("the packages were not tried");
    write("new", "x");
    is_refused("the tree has changes that are not committed");
    make(&format!("{commit} && git tag --force v1.2.3 2>&1"));
    is_refused("the packages are of another commit");
}

#[test]
fn versions_are_the_same_everywhere() {
    let ran = Command::new(repository().join("release.sh")).arg("versions").output().expect("bash");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn the_crate_holds_what_its_build_needs_and_no_tests() {
    let ran = Command::new(env!("CARGO"))
        .args(["package", "--list", "--allow-dirty", "-p", "safelight"])
        .current_dir(repository())
        .output()
        .expect("cargo");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let list = String::from_utf8(ran.stdout).expect("UTF-8");
    let files: BTreeSet<&str> = list.lines().collect();
    for file in [
        "build.rs",
        "README.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "src/main.rs",
        "src/gallery/login.html",
    ] {
        assert!(files.contains(file), "{file} is missing");
    }
    let mut n_included = 0;
    for source in crate::harness::files_below(&repository().join("src")) {
        // Files of tests are in no crate.
        let is_of_tests = |part: &OsStr| {
            part.to_str().is_some_and(|part| part.trim_end_matches(".rs").ends_with("tests"))
        };
        if source.strip_prefix(repository()).expect("a source").iter().any(is_of_tests) {
            continue;
        }
        let text = fs::read_to_string(&source).unwrap_or_default();
        for included in text.split("include_str!(\"").skip(1) {
            let included = included.split('"').next().expect("a path");
            let folder = source.parent().expect("a folder");
            let file = folder.join(included).canonicalize().expect("an included file");
            let file = file.strip_prefix(repository()).expect("a file of the repository");
            assert!(files.contains(file.to_str().expect("UTF-8")), "{} is missing", file.display());
            n_included += 1;
        }
    }
    assert!(n_included > 8, "{n_included}");
    let strange: Vec<&&str> = files
        .iter()
        .filter(|file| {
            ["tests/", "python/", "docs/", "examples/", "web/src"]
                .iter()
                .any(|folder| file.starts_with(folder))
        })
        .collect();
    assert_eq!(strange, [&""; 0]);
}

#[test]
fn the_debian_package_installs_upgrades_and_keeps_the_store() {
    let Some(packages) = packages(".deb") else { return };
    // A release has one package, which is then upgraded to itself.
    let (Some(first), Some(second)) = (packages.first(), packages.last()) else {
        panic!("no Debian package")
    };
    let files = [("first.deb", first.as_path()), ("second.deb", second.as_path())];
    let Some(guest) = Guest::run_with("package", &files) else { return };
    guest.assert_checks(&[
        "install",
        "not-started",
        "files",
        "default-valid",
        "start",
        "picture",
        "user-unit",
        "user-example",
        "instance",
        "upgrade",
        "restarted",
        "configuration-kept",
        "picture-after",
        "remove",
        "stopped",
        "purge",
        "store-kept",
    ]);
}
