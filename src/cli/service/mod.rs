//! `safelight service`: the daemon as a service of systemd.
//!
//! | file | content |
//! | --- | --- |
//! | `place` | where the files of a service lie: of the machine, or of one user |
//! | `files` | the texts of these files |
//! | `systemctl` | runs systemctl and its kin |

mod files;
mod place;
mod systemctl;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use self::place::{OurFile, Scope, UNIT};
use self::systemctl::{UnitState, run, systemctl};
use super::args::{ServiceArgs, ServiceCommand};
use super::exit::ExitCode;
use super::format::warn;
use super::json::{self, ServiceRemoved, ServiceState};
use super::run_dirs::NamedDirectories;
use crate::config::{self, NamedDirectory};
use crate::control::client::Client;
use crate::shell::quoted_path;
use crate::users::own_name;

pub(super) fn run_command(
    command: &ServiceCommand,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    match command {
        ServiceCommand::Install { directories, args } => install(directories, args, out),
        ServiceCommand::Uninstall { args } => uninstall(args, out),
        ServiceCommand::Status { args } => status(args, out),
    }
}

/// Writes unit and configuration, and starts the service. What is there already stays, but for units of our own.
fn install(
    directories: &[PathBuf],
    args: &ServiceArgs,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let scope = Scope::of(args.user)?;
    let config = scope.config()?;
    let mut configured =
        if config.is_file() { config::load(&config)?.live.watches } else { Vec::new() };
    // A directory below that of a section gets a section of its own, with the default patterns.
    let is_named = |watch: &Path| directories.iter().any(|named| is_same_file(watch, named));
    configured.retain(|watch| is_named(&watch.path));
    let NamedDirectories { directories, warnings } =
        NamedDirectories::of(directories, &configured)?;
    warn(&warnings);
    UnitState::ask(scope)?;
    let (text, new) = configuration(scope, &config, &directories)?;
    let packaged = scope.packaged_unit();
    let files = match &packaged {
        Some(_) => Vec::new(),
        None => scope.files(&place::program(scope)?)?,
    };
    // All that may fail without a change comes first.
    files.iter().try_for_each(check_ours)?;
    for OurFile { path, text } in &files {
        write(path, text)?;
    }
    if scope == Scope::Machine && packaged.is_none() {
        run("systemd-sysusers", &["safelight.conf"])?;
        run("systemd-tmpfiles", &["--create", "safelight.conf"])?;
    }
    if let Some(text) = &text {
        write(&config, text)?;
    }
    systemctl(scope, &["daemon-reload"])?;
    systemctl(scope, &["enable", UNIT])?;
    systemctl(scope, &["restart", UNIT])?;
    let state = state(scope)?;
    if let (Some(packaged), Some(unit)) = (&packaged, &state.unit)
        && !is_same_file(packaged, unit)
    {
        warn(&[format!(
            "{} hides the unit of the package, {}: to use that one, remove the first (rm {}) and run this command again",
            unit.display(),
            packaged.display(),
            quoted_path(unit)
        )]);
    }
    if args.json {
        json::print(&state, out)?;
        return Ok(ExitCode::Done);
    }
    print(&state, out)?;
    for NamedDirectory { path, .. } in &new {
        writeln!(out, "added     {} to the watched directories", path.display())?;
    }
    if state.watched.is_empty() {
        let (user, file) = (if args.user { " --user" } else { "" }, state.configuration.display());
        writeln!(
            out,
            "next      name directories: safelight service install{user} DIR, or [[watch]] in {file}"
        )?;
    }
    if scope == Scope::User && !is_lingering() {
        writeln!(
            out,
            "next      to keep it running while you are logged out: loginctl enable-linger"
        )?;
    }
    Ok(ExitCode::Done)
}

/// Stops the service, and removes the files that `install` wrote. Configuration and store stay.
fn uninstall(args: &ServiceArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let scope = Scope::of(args.user)?;
    let unit = UnitState::ask(scope)?;
    let (is_installed, config) = (unit.is_installed(), scope.config()?);
    let mut removed: Vec<PathBuf> =
        scope.files(Path::new("/"))?.into_iter().map(|file| file.path).collect();
    removed.retain(|path| is_ours(path));
    if is_installed {
        let path = Path::new(&unit.path);
        if !is_ours(path) {
            let options = scope.systemctl_options().iter().map(|option| format!(" {option}"));
            return Err(anyhow!(
                "{} was not written by `safelight service install`, and is left as it is: to stop it, \
                 systemctl{} disable --now {UNIT}",
                path.display(),
                options.collect::<String>()
            ));
        }
        systemctl(scope, &["disable", "--now", UNIT])?;
    }
    for path in &removed {
        fs::remove_file(path).with_context(|| path.display().to_string())?;
    }
    systemctl(scope, &["daemon-reload"])?;
    let store = config::load(&config).ok().map(|config| config.boot.store);
    let kept = [Some(config), store]
        .into_iter()
        .flatten()
        .filter(|path| fs::symlink_metadata(path).is_ok());
    let report = ServiceRemoved { removed, kept: kept.collect() };
    if args.json {
        json::print(&report, out)?;
        return Ok(ExitCode::Done);
    }
    if !is_installed && report.removed.is_empty() {
        writeln!(out, "there is no service to remove")?;
    }
    for path in &report.removed {
        writeln!(out, "removed   {}", path.display())?;
    }
    for path in &report.kept {
        writeln!(out, "kept      {}", path.display())?;
    }
    Ok(ExitCode::Done)
}

/// Shows the service. Fails if it does not run, or is unhealthy.
fn status(args: &ServiceArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    // Anyone may look.
    let scope = if args.user { Scope::User } else { Scope::Machine };
    let state = state(scope)?;
    if args.json {
        json::print(&state, out)?;
    } else {
        print(&state, out)?;
    }
    let is_well = state.active == "active" && state.reasons.is_empty();
    Ok(if is_well { ExitCode::Done } else { ExitCode::Failed })
}

fn state(scope: Scope) -> anyhow::Result<ServiceState> {
    let unit = UnitState::ask(scope)?;
    let configuration = scope.config()?;
    let config = config::load(&configuration);
    let reasons = match &config {
        Ok(config) if unit.active == "active" => {
            let health = Client::new(&config.boot.socket).and_then(|client| client.health());
            health.map_or_else(|error| vec![error.to_string()], |health| health.reasons)
        }
        Ok(_) => Vec::new(),
        Err(_) if !unit.is_installed() => Vec::new(),
        Err(error) => vec![error.to_string()],
    };
    let config = config.ok();
    let watched = config.iter().flat_map(|config| config.live.watches.iter());
    Ok(ServiceState {
        unit: unit.is_installed().then(|| unit.path.into()),
        enabled: unit.enabled,
        active: unit.active,
        configuration,
        watched: watched.map(|watch| watch.path.clone()).collect(),
        store: config.map(|config| config.boot.store),
        reasons,
    })
}

fn print(state: &ServiceState, out: &mut impl Write) -> anyhow::Result<()> {
    let Some(unit) = &state.unit else {
        writeln!(out, "service   not installed: safelight service install [--user] DIR")?;
        return Ok(());
    };
    writeln!(out, "service   {}, {}", state.active, state.enabled)?;
    writeln!(out, "unit      {}", unit.display())?;
    writeln!(out, "config    {}", state.configuration.display())?;
    if let Some(store) = &state.store {
        writeln!(out, "store     {}", store.display())?;
    }
    for path in &state.watched {
        writeln!(out, "watching  {}", path.display())?;
    }
    for reason in &state.reasons {
        writeln!(out, "error     {}", super::format::printable(reason))?;
    }
    Ok(())
}

/// The text of the configuration if it changes, and the directories that are new in it. The new text is checked as a
/// whole.
fn configuration(
    scope: Scope,
    path: &Path,
    directories: &[NamedDirectory],
) -> anyhow::Result<(Option<String>, Vec<NamedDirectory>)> {
    let before = match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(anyhow!(error).context(path.display().to_string())),
    };
    let text = before.as_deref().unwrap_or(scope.default_config());
    let (text, new) = files::with_watches(text, path, directories)?;
    config::check_text(&text, path)?;
    let is_changed = before.as_ref() != Some(&text);
    Ok((is_changed.then_some(text), new))
}

/// Whether `service install` wrote a file.
fn is_ours(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| files::is_ours(&text))
}

/// Whether two paths lead to one file.
fn is_same_file(a: &Path, b: &Path) -> bool {
    fs::canonicalize(a).is_ok_and(|a| fs::canonicalize(b).is_ok_and(|b| a == b))
}

/// Refuses to replace a file of someone else.
fn check_ours(file: &OurFile) -> anyhow::Result<()> {
    match fs::read_to_string(&file.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(text) if files::is_ours(&text) || text == file.text => Ok(()),
        Ok(_) => Err(anyhow!(
            "{0} was not written by `safelight service install`, and is not replaced: move it away (rm {1}), or start \
             the service that it describes",
            file.path.display(),
            quoted_path(&file.path)
        )),
        Err(error) => Err(anyhow!(error).context(file.path.display().to_string())),
    }
}

/// Writes a file beside its place and renames it.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let folder = path.parent().with_context(context)?;
    fs::create_dir_all(folder).with_context(context)?;
    let mut file =
        tempfile::Builder::new().prefix(".safelight-").tempfile_in(folder).with_context(context)?;
    file.write_all(text.as_bytes()).with_context(context)?;
    let mode = fs::metadata(path).map_or_else(
        |_| std::os::unix::fs::PermissionsExt::from_mode(0o644),
        |meta| meta.permissions(),
    );
    file.as_file().set_permissions(mode).with_context(context)?;
    file.as_file().sync_all().with_context(context)?;
    file.persist(path).with_context(context)?;
    Ok(())
}

/// Whether systemd keeps this user's services running while nobody is logged in.
fn is_lingering() -> bool {
    fs::symlink_metadata(Path::new("/var/lib/systemd/linger").join(own_name())).is_ok()
}
