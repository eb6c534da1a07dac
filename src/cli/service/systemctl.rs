//! Runs systemctl and its kin.

use std::process::Command;

use anyhow::{Context, anyhow};

use super::place::{Scope, UNIT};

/// Runs a command that changes something.
///
/// # Errors
/// If it cannot be run or fails: then with what it said.
pub(super) fn run(program: &str, args: &[&str]) -> anyhow::Result<()> {
    let line = || format!("{program} {}", args.join(" "));
    let output = Command::new(program).args(args).output().with_context(line)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(anyhow!("{}: {}", line(), if said.is_empty() { output.status.to_string() } else { said }))
}

/// Runs systemctl for a service of this scope.
///
/// # Errors
/// As [`run`].
pub(super) fn systemctl(scope: Scope, args: &[&str]) -> anyhow::Result<()> {
    run("systemctl", &[scope.systemctl_options(), args].concat())
}

/// What systemd knows of the unit.
#[derive(Debug, Default)]
pub(super) struct UnitState {
    /// `loaded`, or `not-found`.
    pub(super) load: String,
    /// `active`, `activating`, `failed`, `inactive` …
    pub(super) active: String,
    /// `enabled`, `disabled` …; empty if there is no unit.
    pub(super) enabled: String,
    /// The unit's file; empty if there is no unit.
    pub(super) path: String,
}

impl UnitState {
    /// Asks systemd.
    ///
    /// # Errors
    /// If systemd does not answer: none runs, or none for this user.
    pub(super) fn ask(scope: Scope) -> anyhow::Result<Self> {
        let properties = "--property=LoadState,ActiveState,UnitFileState,FragmentPath";
        let args = [scope.systemctl_options(), &["show", properties, UNIT]].concat();
        let output = Command::new("systemctl").args(args).output();
        let output = output.map_err(|error| no_systemd(scope, &error.to_string()))?;
        if !output.status.success() {
            return Err(no_systemd(scope, String::from_utf8_lossy(&output.stderr).trim()));
        }
        let mut state = Self::default();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            let field = match name {
                "LoadState" => &mut state.load,
                "ActiveState" => &mut state.active,
                "UnitFileState" => &mut state.enabled,
                "FragmentPath" => &mut state.path,
                _ => continue,
            };
            value.clone_into(field);
        }
        Ok(state)
    }

    /// Whether systemd knows the unit.
    pub(super) fn is_installed(&self) -> bool {
        self.load != "not-found"
    }
}

fn no_systemd(scope: Scope, said: &str) -> anyhow::Error {
    let advice = match scope {
        Scope::Machine => {
            "no systemd answers: in a container or a job, run safelight daemon DIR… instead"
        }
        Scope::User => {
            "no systemd of this user answers: log in anew (not by su or sudo), or have `loginctl enable-linger` run; \
             in a container or a job, run safelight daemon DIR… instead"
        }
    };
    anyhow!("{advice} ({said})")
}
