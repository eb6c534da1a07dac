//! What newcomers do first, without a configuration: each of these once led nowhere.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{KilledOnDrop, PROGRAM, Ran, TempRun, gray, send_signal, skip, wait_for};

const NOBODY: u32 = 65534;

/// A user with an empty home, who is not root.
struct Newcomer {
    home: TempDir,
    program: PathBuf,
}

impl Newcomer {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        // The folder of the build may be closed to other users.
        let program = home.path().join("safelight");
        fs::copy(PROGRAM, &program).expect("a copy of the program");
        let newcomer = Self { home, program };
        newcomer.give();
        newcomer
    }

    /// Gives everything in the home to the user.
    fn give(&self) {
        if rustix::process::geteuid().is_root() {
            let owner = format!("{NOBODY}:{NOBODY}");
            let given = Command::new("chown").args(["-hR", &owner]).arg(self.home.path()).status();
            assert!(given.expect("chown").success());
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, bytes).expect("a file");
        self.give();
    }

    /// A command in the home, with an environment of its own.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(self.home.path()).env_clear();
        command.env("HOME", self.home.path()).env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.command(args).output().expect("the program").into()
    }

    fn store(&self) -> PathBuf {
        self.at(".local/share/safelight")
    }

    fn n_images(&self) -> usize {
        let ran = self.run(&["ls", "--json", "--state", "image"]);
        ran.out.lines().count()
    }

    /// A daemon, once it is ready.
    fn daemon(&self, args: &[&str]) -> KilledOnDrop {
        let log = self.at("daemon.log");
        let mut command = self.command(&[&["daemon"], args].concat());
        command.stderr(fs::File::create(&log).expect("a log"));
        let daemon = KilledOnDrop(command.spawn().expect("the daemon"));
        wait_for("the daemon", || {
            fs::read_to_string(&log).is_ok_and(|log| log.contains("initial scan complete"))
        });
        daemon
    }
}

fn is_configured() -> bool {
    let is_there = Path::new("/etc/safelight/safelight.toml").is_file();
    if is_there {
        skip("a configuration file is installed");
    }
    is_there
}

#[test]
fn a_directory_that_holds_run_directories_is_read_with_all_its_runs() {
    // Bug: "new: 0 images", exit code 0.
    let newcomer = Newcomer::new();
    if is_configured() {
        return;
    }
    for run in ["a", "b", "sweep/seed0", "sweep/seed1"] {
        newcomer.write(&format!("runs/{run}/dumps/val/pred/000120.npy"), &gray(1));
    }
    newcomer.write("runs/notes.txt", b"x");
    let ran = newcomer.run(&["ingest", "runs"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for run in ["a: 1 image", "b: 1 image", "sweep/seed0: 1 image", "sweep/seed1: 1 image"] {
        assert!(ran.out.contains(run), "{run}: {ran:?}");
    }
    assert!(newcomer.store().join("runs").is_dir(), "the store is that of the user");
    // Run by run, it is the same: nothing is doubled.
    assert_eq!(newcomer.run(&["ingest", "runs", "runs/a"]).code, 0);
    assert_eq!(newcomer.n_images(), 4);
}

#[test]
fn an_ingest_without_input_says_what_lies_there_and_what_to_do() {
    // Bug: "new: 0 images", exit code 0.
    let newcomer = Newcomer::new();
    fs::create_dir(newcomer.at("empty")).expect("a folder");
    newcomer.write("arrays/cat.npy", &gray(1));
    newcomer.write("arrays/pred_120.npy", &gray(2));
    newcomer.write("pictures/cat.png", b"x");
    newcomer.write("tb/version_0/events.out.tfevents.17.host", b"x");
    newcomer.write("tb/events.out.tfevents.17.host", b"x");
    newcomer.write("offline/wandb/offline-run-1/run-1.wandb", b"x");
    newcomer.write("dumps/dumps/pred_120.npy", &gray(3));
    newcomer.write("log/train.jsonl", b"{\"key\":\"k\",\"step\":1,\"data\":\"x.npy\"}\n");
    let command = format!("{} ingest {}", newcomer.program.display(), newcomer.at("").display());
    for (directory, wants) in [
        ("empty", &["the directory is empty"][..]),
        (
            "arrays",
            &[
                "2 arrays or pictures lie in it without a key",
                "dumps/val/pred/000120.npy",
                &format!("{command}arrays --key NAME"),
                "cat.npy: its path has no key and step: move it to dumps/KEY/000120.npy",
                "pred_120.npy: move it to dumps/pred/120.npy, or add the pattern \"{key}_{step}.{ext}\"",
            ],
        ),
        ("pictures", &["an array or picture lies in it", "000120.png", "--key NAME"]),
        ("tb", &["it looks like a directory of TensorBoard"]),
        ("offline", &["it looks like a directory of W&B"]),
        ("dumps", &["dumps/pred_120.npy: move it to dumps/pred/120.npy, or add the pattern"]),
        ("log", &["train.jsonl: rename it to train.media.jsonl"]),
    ] {
        let ran = newcomer.run(&["ingest", directory, "--store", "store"]);
        assert_eq!(ran.code, 1, "{directory}: {ran:?}");
        assert!(ran.err.contains("nothing was found in"), "{directory}: {ran:?}");
        for want in wants {
            assert!(ran.out.contains(want), "{directory}: {want}: {}", ran.out);
        }
    }
    let ran = newcomer.run(&["ingest", "arrays/cat.npy", "--store", "store"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let want = format!("name the directory that it lies in, {}", newcomer.at("arrays").display());
    assert!(ran.err.contains(&want), "{ran:?}");
}

#[test]
fn a_daemon_without_a_configuration_watches_the_directories_of_its_command_line() {
    // Bug: "Permission denied" for the socket, or a daemon that watches nothing for ever.
    let newcomer = Newcomer::new();
    if is_configured() {
        return;
    }
    let none = newcomer.run(&["daemon"]);
    assert_eq!(none.code, 78, "{none:?}");
    for want in [
        ".config/safelight/safelight.toml",
        "/etc/safelight/safelight.toml",
        "safelight daemon DIR",
    ] {
        assert!(none.err.contains(want), "{none:?}");
    }
    assert_eq!(newcomer.run(&["daemon", "nowhere"]).code, 1);
    newcomer.write("runs/7/dumps/val/000120.npy", &gray(1));
    let mut daemon = newcomer.daemon(&["runs"]);
    wait_for("the first image", || newcomer.n_images() == 1);
    newcomer.write("runs/8/dumps/val/000120.npy", &gray(2));
    wait_for("an image of a new run", || newcomer.n_images() == 2);
    let in_store = newcomer.store().join("control.sock");
    assert!(fs::symlink_metadata(in_store).is_ok(), "there is no directory for sockets");
    let gallery = newcomer.run(&["gallery"]);
    assert!(gallery.code == 0 && gallery.out.contains("http://localhost:"), "{gallery:?}");
    let status = newcomer.run(&["status"]);
    assert!(
        status.out.contains(&format!("watching  {}", newcomer.at("runs").display())),
        "{status:?}"
    );
    assert_eq!(newcomer.run(&["health"]).out, "healthy\n");
    let reload = newcomer.run(&["reload"]);
    assert!(reload.code == 1 && reload.err.contains("without a configuration file"), "{reload:?}");
    let second = newcomer.run(&["daemon", "runs"]);
    assert!(second.code == 1 && second.err.contains("a daemon holds the store"), "{second:?}");
    send_signal(&daemon.0, "-TERM");
    assert!(daemon.0.wait().expect("the end").success());

    // With a directory for sockets. A run directory may be named itself, and a second daemon has another store.
    let sockets = newcomer.at("sockets");
    fs::create_dir(&sockets).expect("a folder");
    newcomer.give();
    let mut command = newcomer.command(&["daemon", "runs/7"]);
    let log = fs::File::create(newcomer.at("second.log")).expect("a log");
    command.env("XDG_RUNTIME_DIR", &sockets).stderr(log);
    let _daemon = KilledOnDrop(command.spawn().expect("the daemon"));
    let socket = sockets.join("safelight/control.sock");
    wait_for("the socket", || fs::symlink_metadata(&socket).is_ok());
    let _other = newcomer.daemon(&["runs", "--store", "other"]);
    let of_other = || newcomer.run(&["ls", "--json", "--store", "other"]).out.lines().count();
    wait_for("the images", || of_other() == 2);
}

#[test]
fn a_configuration_is_looked_for_in_the_home() {
    let newcomer = Newcomer::new();
    let config =
        "[store]\npath = \"../mine\"\n[[watch]]\npath = \"/nowhere\"\n[limits]\nmax_items = 1\n";
    newcomer.write(".config/safelight/safelight.toml", config.as_bytes());
    let valid = newcomer.run(&["validate"]);
    assert!(
        valid.code == 0 && valid.out.contains(".config/safelight/safelight.toml: valid"),
        "{valid:?}"
    );
    newcomer.write("runs/7/dumps/val/000120.npy", &gray(1));
    assert_eq!(newcomer.run(&["ingest", "runs"]).code, 0);
    assert!(newcomer.at(".config/mine/runs/7").is_dir());
    let status = newcomer.run(&["status"]);
    assert!(status.out.contains("config    "), "{status:?}");
    // The directories of the command line replace those of the file, also after a reload.
    let _daemon = newcomer.daemon(&["runs"]);
    let text = format!("{config}[image]\nprofile = \"wandb-0.20\"\n");
    newcomer.write(".config/safelight/safelight.toml", text.as_bytes());
    let reload = newcomer.run(&["reload"]);
    assert_eq!(reload.code, 0, "{reload:?}");
    let status = newcomer.run(&["status"]).out;
    assert!(status.contains("runs (") && !status.contains("/nowhere"), "{status}");
    newcomer.write("runs/8/dumps/val/000120.npy", &gray(2));
    wait_for("an image by the new profile", || {
        let items = newcomer.run(&["ls", "8", "--json"]).out;
        items.contains("\"profile\":\"wandb-0.20\"")
    });
}

#[test]
fn a_store_of_ones_own_needs_none_of_the_configured_sockets() {
    // Bug: beside the service, `daemon DIR --store S` bound the sockets of its configuration: "Permission denied", and
    // advice about the store.
    let newcomer = Newcomer::new();
    let text = "[control]\nsocket = \"/nowhere/control.sock\"\n[gallery]\nlisten = \"unix:/nowhere/g.sock\"\n";
    newcomer.write(".config/safelight/safelight.toml", text.as_bytes());
    newcomer.write("runs/7/dumps/val/000120.npy", &gray(1));
    let taken = newcomer.run(&["daemon", "runs"]);
    assert!(taken.code == 1 && taken.err.contains("/nowhere/"), "{taken:?}");
    assert!(!taken.err.contains("--store DIR"), "{taken:?}");
    let daemon = newcomer.daemon(&["runs", "--store", "mine"]);
    assert!(fs::symlink_metadata(newcomer.at("mine/control.sock")).is_ok());
    let gallery = newcomer.run(&["gallery", "--store", "mine"]);
    assert!(gallery.code == 0 && gallery.out.contains("http://localhost:"), "{gallery:?}");
    newcomer.write(".config/safelight/safelight.toml", format!("{text}threads = 2\n").as_bytes());
    let reload = newcomer.run(&["reload", "--store", "mine"]);
    assert_eq!(reload.code, 0, "{reload:?}");
    let log = fs::read_to_string(newcomer.at("daemon.log")).expect("a log");
    let later: Vec<&str> =
        log.lines().filter(|line| line.contains("takes effect at the next start")).collect();
    assert!(matches!(&later[..], [only] if only.contains("gallery.threads")), "{later:?}");
    drop(daemon);
}

#[test]
fn a_store_of_others_is_explained() {
    // Bug: "Permission denied", without a hint at --store or the group.
    let newcomer = Newcomer::new();
    if !rustix::process::geteuid().is_root() {
        skip("only root can make a store of another user");
        return;
    }
    newcomer.write("runs/7/dumps/val/000120.npy", &gray(1));
    let store = tempfile::tempdir().expect("a folder");
    fs::create_dir(store.path().join("runs")).expect("a folder");
    let given = Command::new("chown").arg("root:daemon").arg(store.path()).status();
    assert!(given.expect("chown").success());
    fs::set_permissions(store.path(), fs::Permissions::from_mode(0o750)).expect("rights");
    let text = format!("store.path = {:?}\n", store.path().display().to_string());
    newcomer.write(".config/safelight/safelight.toml", text.as_bytes());
    for args in [&["ingest", "runs"][..], &["ls"], &["daemon", "runs"], &["gallery"]] {
        let ran = newcomer.run(args);
        assert_eq!(ran.code, 1, "{args:?} {ran:?}");
        let wants = [
            "safelight.toml",
            "--store DIR",
            "become a member of the group daemon",
            "Permission denied",
        ];
        for want in wants {
            assert!(ran.err.contains(want), "{args:?} {want}: {ran:?}");
        }
    }
    assert_eq!(newcomer.run(&["ingest", "runs", "--store", "mine"]).code, 0);

    // Bug: the user's own configuration did not count if it was closed to the user.
    let closed = newcomer.at(".config/safelight/safelight.toml");
    fs::remove_file(&closed).expect("a removal");
    fs::write(&closed, "rubbish").expect("a file");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o600)).expect("rights");
    let ran = newcomer.run(&["ingest", "runs", "--store", "mine"]);
    assert_eq!(ran.code, 78, "{ran:?}");
    assert!(
        ran.err.contains(&format!("{}: cannot read: Permission denied", closed.display())),
        "{ran:?}"
    );
    assert!(!ran.err.contains("--store DIR"), "{ran:?}");
}

#[test]
fn a_closed_home_is_no_missing_directory() {
    // Bug: "the directory is not there".
    let newcomer = Newcomer::new();
    if !rustix::process::geteuid().is_root() {
        skip("only root can make a folder of another user");
        return;
    }
    let home = tempfile::tempdir().expect("a folder");
    fs::create_dir(home.path().join("runs")).expect("a folder");
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).expect("rights");
    let text = format!(
        "[store]\npath = \"store\"\n[[watch]]\npath = {:?}\n[[watch]]\npath = \"/nonexistent/runs\"\n",
        home.path().join("runs").display().to_string()
    );
    newcomer.write(".config/safelight/safelight.toml", text.as_bytes());
    let _daemon = newcomer.daemon(&[]);
    let health = newcomer.run(&["health"]);
    assert_eq!(health.code, 1, "{health:?}");
    let closed = format!("may not enter {} (mode 0700, of root)", home.path().display());
    for want in
        [closed.as_str(), "setfacl -m u:nobody:x", "/nonexistent/runs: the directory is missing"]
    {
        assert!(health.out.contains(want), "{want}: {health:?}");
    }
}

#[test]
fn commands_that_are_printed_can_be_pasted_into_a_shell() {
    // Bug: `list: safelight ls my run`, and commands without the store.
    let temp = TempRun::new();
    let run = temp.folder().join("my 'run' $(touch oops)");
    let loose = temp.folder().join("my arrays");
    fs::create_dir_all(run.join("dumps/k")).expect("folders");
    fs::create_dir(&loose).expect("a folder");
    fs::write(run.join("dumps/k/1.npy"), gray(1)).expect("a dump");
    fs::write(loose.join("7.npy"), gray(2)).expect("an array");
    let in_folder = |program: &str, args: &[&str]| -> Ran {
        let mut command = Command::new(program);
        command.current_dir(temp.folder()).args(args).output().expect("a program").into()
    };
    let safelight = |args: &[&str], code: i32| {
        let ran = in_folder(PROGRAM, &[args, &["--store", "my store"]].concat());
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        ran.out
    };
    let paste = |said: &str, before: &str| {
        let (_, command) = said.split_once(before).expect(before);
        let ran = in_folder("bash", &["-c", command.lines().next().expect("a command")]);
        (ran.code, ran.out)
    };
    let said = safelight(&["ingest", run.to_str().expect("a path")], 0);
    let (code, list) = paste(&said, "list:     ");
    assert!(code == 0 && list.contains("image"), "{list}");

    let said = safelight(&["ingest", "my arrays"], 1);
    assert_eq!(paste(&said, "take them as they are: ").0, 0, "{said}");
    assert!(safelight(&["ls", "my arrays"], 0).contains("NAME"));

    let line = "{\"key\":\"k\",\"step\":2,\"data\":\"gone.npy\"}\n";
    fs::write(run.join("a.media.jsonl"), line).expect("a log");
    safelight(&["ingest", run.to_str().expect("a path")], 3);
    let name = "my 'run' $(touch oops)";
    let (code, released) = paste(&safelight(&["show", name, "k", "2"], 0), "and by: ");
    assert!(code == 3 && released.contains("1 item still waiting"), "{released}");
    assert!(paste(&safelight(&["status"], 0), "list: ").1.contains("gone.npy"));
    assert!(fs::symlink_metadata(temp.folder().join("oops")).is_err());
}

#[test]
fn a_prefix_of_keys_lists_all_keys_below_it() {
    // Bug: nothing, exit code 0.
    let temp = TempRun::new();
    for key in ["val/pred", "val/target", "valid", "train/x"] {
        temp.log_picture(key, 1, 1);
        temp.log_picture(key, 2, 2);
    }
    temp.append("a.media.jsonl", "{\"key\":\"val/bad\",\"step\":1,\"data\":\"../x\"}\n");
    temp.ingest();
    let check = || {
        let n = |args: &[&str]| {
            let ran = temp.run(&[&["ls", "run"], args, &["--json"]].concat());
            (ran.code, ran.out.lines().count())
        };
        assert_eq!(n(&["val"]), (0, 5));
        assert_eq!(n(&["val/"]), (0, 5));
        assert_eq!(n(&["val", "--step", "2"]), (0, 2));
        assert_eq!(n(&["val", "--state", "held"]), (0, 0));
        assert_eq!(n(&["valid"]), (0, 2));
        assert_eq!(n(&["va"]), (1, 0));
    };
    check();
    let daemon = temp.daemon("");
    check();
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn show_explains_an_item_and_its_rule() {
    // Bug: JSON only, with "x255" explained nowhere.
    let temp = TempRun::new();
    temp.log_picture("k", 1, 1);
    temp.log_picture("k", 1, 2);
    temp.ingest();
    let ran = temp.run(&["show", "run", "k"]);
    for want in [
        "k, step 1, index 0: image\n",
        "\n\nk, step 1, index 1: image\n",
        "  rule      none: bytes as they are (profile auto)\n",
        "  values    ",
    ] {
        assert!(ran.out.contains(want), "{want}: {ran:?}");
    }
    let file = ran.out.lines().find_map(|line| line.strip_prefix("  file      ")).expect("a file");
    assert!(Path::new(file).is_file(), "{file}");
    for args in [
        &["show", "run", "k", "1", "0", "--json"][..],
        &["show", "run", "k", "1", "0", "--as", "record"],
    ] {
        let item: Value = serde_json::from_str(&temp.run(args).out).expect("JSON");
        assert_eq!(item["rule"], "none");
    }
    let help = temp.run(&["ls", "--help"]).out;
    assert!(help.contains("x255") && help.contains("values of 0 to 1, times 255"), "{help}");
}

#[test]
fn a_link_to_a_run_is_followed_only_if_it_is_named() {
    let newcomer = Newcomer::new();
    newcomer.write("data/7/dumps/val/000120.npy", &gray(1));
    symlink("data", newcomer.at("runs")).expect("a link");
    symlink("7", newcomer.at("data/latest")).expect("a link");
    let ran = newcomer.run(&["ingest", "runs", "--store", "store"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let items = newcomer.run(&["ls", "--json", "--store", "store"]).out;
    assert_eq!(items.lines().count(), 1, "{items}");
}
