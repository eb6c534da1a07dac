//! The units of `systemd/`, checked by `systemd-analyze`, and the daemon under a real systemd.
//!
//! The checks in the container are in `tests/systemd/guest.sh`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::guest::Guest;
use crate::harness::{PROGRAM, has_program, skip};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn unit(name: &str) -> String {
    fs::read_to_string(repository().join("systemd").join(name)).expect("a unit")
}

/// Units in a folder of their own, with the program at the path that they name.
struct Units {
    folder: TempDir,
}

impl Units {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        let text =
            text.replace("/usr/bin/safelight", PROGRAM).replace("%h/.local/bin/safelight", PROGRAM);
        fs::write(path, text).expect("a unit");
    }

    fn systemd_analyze(&self, name: &str, args: &[&str]) -> (bool, String) {
        let output = Command::new("systemd-analyze")
            .args(args)
            .arg(self.folder.path().join(name))
            .env("HOME", self.folder.path())
            .env("XDG_RUNTIME_DIR", self.folder.path())
            .output()
            .expect("systemd-analyze");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Returns the complaints of `systemd-analyze verify` about a unit and its drop-ins.
    fn complaints(&self, name: &str, manager: &str) -> Option<String> {
        let (is_fine, said) = self.systemd_analyze(name, &["verify", manager]);
        // systemd ignores unknown settings with a warning and exits with 0. It also checks the units that
        // this one needs. Complaints about those of this machine are left out.
        let file = Path::new(name).file_name().and_then(|file| file.to_str()).expect("a name");
        let folder = self.folder.path().to_str().expect("a path");
        let is_ours = |line: &&str| line.contains(folder) || line.contains(file);
        let ours: String = said.lines().filter(is_ours).flat_map(|line| [line, "\n"]).collect();
        (!is_fine || !ours.is_empty()).then_some(said)
    }

    /// Returns the names of the restrictions that `systemd-analyze security` misses in a unit.
    fn open_to(&self, name: &str) -> BTreeSet<String> {
        let args = ["security", "--offline=true", "--no-pager", "--json=short"];
        let (_, said) = self.systemd_analyze(name, &args);
        let checks: Vec<Value> = serde_json::from_str(&said).expect("a list of checks");
        let is_open = |check: &&Value| check["set"] == false;
        checks.iter().filter(is_open).map(|check| check["name"].to_string()).collect()
    }

    /// Returns whether the unit's exposure level is at most `tenths` / 10.
    fn is_exposed_at_most(&self, name: &str, tenths: u32) -> bool {
        let threshold = format!("--threshold={tenths}");
        let args = ["security", "--offline=true", "--no-pager", &threshold];
        let (is_below, said) = self.systemd_analyze(name, &args);
        assert!(said.contains("Overall exposure level"), "{said}");
        is_below
    }
}

#[test]
fn systemd_accepts_the_units() {
    if !has_program("systemd-analyze") {
        return;
    }
    let units = Units::new();
    units.put("safelight.service", &unit("safelight.service"));
    units.put("safelight@team.service", &unit("safelight@.service"));
    units.put("safelight.slice", &unit("safelight.slice"));
    units.put("user/safelight.service", &unit("user/safelight.service"));
    let check = |name: &str, manager: &str| {
        assert_eq!(units.complaints(name, manager), None, "{name}");
    };
    check("safelight.service", "--system");
    check("safelight@team.service", "--system");
    check("safelight.slice", "--system");
    for name in ["safelight-verify.service", "safelight-verify.timer", "safelight-gallery.socket"] {
        units.put(name, &unit(name));
        check(name, "--system");
    }
    for name in [
        "safelight-catalog.service",
        "safelight-catalog-tidy.service",
        "safelight-catalog-tidy.timer",
    ] {
        let text = unit(&format!("../examples/fleet/{name}"));
        units.put(name, &text.replace("/opt/safelight/bin/safelight-catalog", PROGRAM));
        check(name, "--system");
    }
    check("user/safelight.service", "--user");
    units.put("user/safelight.service.d/sandbox.conf", &unit("user/sandbox.conf"));
    check("user/safelight.service", "--user");
    for name in ["safelight-network.conf", "safelight-retention.conf"] {
        for service in ["safelight.service", "safelight@team.service"] {
            units.put(&format!("{service}.d/{name}"), &unit(name));
            check(service, "--system");
        }
    }

    // The check finds a mistyped setting.
    units.put("typo.service", &unit("safelight.service").replace("PrivateTmp=", "PrivateTemp="));
    let said = units.complaints("typo.service", "--system").unwrap_or_default();
    assert!(said.contains("Unknown key"), "{said}");
    let elsewhere =
        unit("safelight.service").replace("/usr/bin/safelight daemon", "/no/such daemon");
    units.put("elsewhere.service", &elsewhere);
    let said = units.complaints("elsewhere.service", "--system").unwrap_or_default();
    assert!(said.contains("not executable"), "{said}");
}

#[test]
fn the_drop_in_for_reloads_by_signal_is_one_for_systemd_253() {
    if !has_program("systemd-analyze") {
        return;
    }
    let version = Command::new("systemd-analyze").arg("--version").output().expect("a version");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let version: u32 =
        version.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    let units = Units::new();
    units.put("safelight.service", &unit("safelight.service"));
    units.put("safelight.service.d/reload.conf", &unit("notify-reload.conf"));
    let complaints = units.complaints("safelight.service", "--system").unwrap_or_default();
    if version >= 253 {
        assert_eq!(complaints, "");
    } else {
        eprintln!("systemd {version} has no Type=notify-reload: only its complaint is checked");
        assert!(complaints.lines().all(|line| line.contains("notify-reload")), "{complaints}");
        assert!(complaints.contains("Failed to parse service type"), "{complaints}");
    }
}

#[test]
fn the_sandbox_is_as_tight_as_promised() {
    if !has_program("systemd-analyze") {
        return;
    }
    let units = Units::new();
    let local = unit("safelight.service");
    units.put("safelight.service", &local);
    units.put("safelight@team.service", &unit("safelight@.service"));
    assert!(units.is_exposed_at_most("safelight.service", 3));
    assert!(units.is_exposed_at_most("safelight@team.service", 3));
    let network = unit("safelight-network.conf");
    units.put("network.service", &local);
    units.put("network.service.d/network.conf", &network);
    assert!(units.is_exposed_at_most("network.service", 15));
    units.put("safelight@team.service.d/network.conf", &network);
    assert!(units.is_exposed_at_most("safelight@team.service", 15));
    assert!(!units.is_exposed_at_most("network.service", 3), "the drop-in allows nothing");

    // The check finds each line of the sandbox that is missing. Some lines weigh less than a tenth, so
    // that only the list of missing restrictions shows them. systemd does not rate some others at all.
    let open = units.open_to("safelight.service");
    let (_, sandbox) = local.split_once("\n# The sandbox:").expect("the sandbox");
    let is_setting = |line: &&str| {
        line.contains('=') && !line.starts_with(['#', '[']) && !line.starts_with("WantedBy=")
    };
    let mut unseen = BTreeSet::new();
    for line in sandbox.lines().filter(is_setting) {
        let without: String =
            local.lines().filter(|other| *other != line).flat_map(|line| [line, "\n"]).collect();
        units.put("without.service", &without);
        let is_seen = !units.is_exposed_at_most("without.service", 3)
            || units.open_to("without.service") != open;
        if !is_seen {
            unseen.insert(line);
        }
    }
    assert_eq!(
        unseen.into_iter().collect::<Vec<_>>(),
        [
            "AmbientCapabilities=",
            "DevicePolicy=closed",
            "KeyringMode=private",
            "PrivateIPC=yes",
            "ReadOnlyPaths=-/dev/shm",
            "SystemCallErrorNumber=EPERM"
        ]
    );
}

#[test]
fn the_template_differs_from_the_unit_only_in_its_paths() {
    let settings = |name: &str| {
        let text = unit(name);
        let (_, text) = text.split_once("[Unit]").expect("a section");
        text.to_owned()
    };
    let want = settings("safelight.service")
        .replace("Safelight: keeps", "Safelight %i: keeps")
        .replace("/etc/safelight/safelight.toml", "/etc/safelight/%i.toml")
        .replace("Directory=safelight\n", "Directory=safelight-%i\n");
    assert_eq!(settings("safelight@.service"), want);
}

#[test]
fn the_check_of_media_files_has_the_sandbox_and_the_priority_of_the_daemon() {
    let settings = |name: &str| {
        let text = unit(name);
        let is_setting = |line: &&str| line.contains('=') && !line.starts_with(['#', '[']);
        text.lines().filter(is_setting).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let (daemon, verify) = (settings("safelight.service"), settings("safelight-verify.service"));
    let name = |line: &String| line.split('=').next().unwrap_or_default().to_owned();
    let own: BTreeSet<String> = verify.difference(&daemon).map(name).collect();
    let want = ["After", "CPUSchedulingPolicy", "Description", "ExecStart", "Type"];
    assert_eq!(own, want.map(str::to_owned).into());
    let left_out: BTreeSet<String> = daemon.difference(&verify).map(name).collect();
    let of_daemon = [
        "ExecReload",
        "Restart",
        "RestartPreventExitStatus",
        "RestartSec",
        // The end of a check must not remove the daemon's socket.
        "RuntimeDirectory",
        "RuntimeDirectoryMode",
        "TimeoutStartSec",
        "TimeoutStopSec",
        "WantedBy",
        "WatchdogSec",
    ];
    assert_eq!(left_out, [&want[..], &of_daemon].concat().into_iter().map(str::to_owned).collect());
    assert!(verify.contains("CPUSchedulingPolicy=idle") && verify.contains("Type=oneshot"));
}

#[test]
fn a_real_systemd_starts_reloads_watches_and_stops_it() {
    let Some(guest) = Guest::run("service") else { return };
    guest.assert_checks(&[
        "installed",
        "ready",
        "answers",
        "items",
        "status-text",
        "gentle",
        "inotify",
        "group-only",
        "nowhere-else",
        "no-network",
        "reload",
        "bad-reload",
        "bad-config",
        "repaired",
        "killed",
        "watchdog",
        "stop",
        "root-looks",
        "complete",
    ]);
    // All that the job wrote meanwhile is in the store once.
    let n_written: usize = guest.read("n").trim().parse().expect("a number");
    assert!(n_written > 50, "{n_written}");
    let items = guest.read("items.jsonl");
    let items: Vec<Value> =
        items.lines().map(|line| serde_json::from_str(line).expect("an item")).collect();
    let mut steps: Vec<u64> = items.iter().filter_map(|item| item["step"].as_u64()).collect();
    steps.sort_unstable();
    let want: Vec<u64> = (0..n_written as u64).collect();
    assert_eq!(steps, want);
    for item in &items {
        let step = item["step"].as_u64().expect("a step");
        let path = if step.is_multiple_of(2) {
            format!("dumps/seq/{step:06}.npy")
        } else {
            format!("tensors/{step}.npy")
        };
        assert_eq!((&item["state"], &item["source"]["path"]), (&"image".into(), &path.into()));
    }
    // All files that the service's user owns.
    let owned = guest.read("owned");
    let store = Path::new("/var/lib/safelight");
    assert!(owned.lines().any(|path| Path::new(path) == store), "{owned}");
    let elsewhere: Vec<&str> =
        owned.lines().filter(|path| !Path::new(path).starts_with(store)).collect();
    assert_eq!(elsewhere, [""; 0]);
}

#[test]
fn run_directories_are_read_wherever_they_lie_and_drop_ins_allow_more() {
    let Some(guest) = Guest::run("places") else { return };
    guest.assert_checks(&[
        "tmpfiles",
        "start",
        "of-the-group",
        "at-home",
        "by-acl",
        "mounted-later",
        "made-later",
        "store-elsewhere",
        "no-removal",
        "still-there",
        "drop-ins",
        "metrics",
        "removal",
        "network",
        "credential",
        "credential-of-nobody-else",
        "still-read",
        "end",
    ]);
}

#[test]
fn instances_run_side_by_side() {
    let Some(guest) = Guest::run("instances") else { return };
    guest.assert_checks(&[
        "instances",
        "red",
        "blue",
        "apart",
        "wrong-store",
        "others-go-on",
        "reload-one",
        "stop",
    ]);
}

#[test]
fn the_gallery_answers_on_a_port_that_systemd_opened() {
    let Some(guest) = Guest::run("gallery") else { return };
    guest.assert_checks(&[
        "socket",
        "login-needed",
        "login",
        "no-network",
        "restart",
        "stop",
        "started-by-a-browser",
        "runs-again",
        "end",
    ]);
}

#[test]
fn one_command_installs_the_service_and_another_removes_it() {
    let Some(guest) = Guest::run("service_command") else { return };
    guest.assert_checks(&[
        "no-service",
        "needs-root",
        "install",
        "items",
        "status",
        "healthy",
        "gallery",
        "add",
        "items-added",
        "once",
        "private-tmp",
        "closed-home",
        "sandbox",
        "uninstall",
        "uninstall-again",
        "foreign-unit",
        "install-again",
        "hidden-package",
        "uninstall-own",
        "foreign-stays",
        "foreign-runs",
        "closed-program",
        "no-manager",
        "manager",
        "user-install",
        "user-items",
        "user-store",
        "user-status",
        "user-gallery",
        "user-reload",
        "user-uninstall",
    ]);
}

#[test]
fn a_user_without_root_runs_it_too() {
    let Some(guest) = Guest::run("user") else { return };
    let all = [
        "manager",
        "start",
        "kept",
        "status-text",
        "socket",
        "store",
        "reload",
        "sandbox",
        "sandboxed",
        "kept-on",
        "stop",
    ];
    let has_namespaces = !guest.said.lines().any(|line| line == "none sandbox");
    if !has_namespaces {
        skip("user namespaces, which sandbox.conf needs, are not allowed here");
    }
    let possible: Vec<&str> =
        all.into_iter().filter(|name| has_namespaces || !name.starts_with("sandbox")).collect();
    guest.assert_checks(&possible);
}
