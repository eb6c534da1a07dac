//! `safelight wandb-merge`: adds the images of a training to a copy of the W&B offline run that it wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};

use super::access::StoreAccess;
use super::args::{Common, MergeArgs};
use super::exit::ExitCode;
use super::format::count;
use super::json::{self, Merged};
use crate::control::protocol::ItemsQuery;
use crate::durable::Disk;
use crate::formats::wandb_log::merge::Training;
use crate::formats::wandb_log::row::{Row, is_taken};
use crate::media::{MediaEntry, MediaId, RunId, Step};
use crate::sinks::target_dir::TargetDir;
use crate::store::StateFilter;
use crate::sync::time_of;

pub(super) fn run(
    args: &MergeArgs,
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    // Root becomes the owner of the store below. Its own files are read before that.
    let offline_run = std::path::absolute(&args.offline_run)?;
    let target = std::path::absolute(&args.out)?;
    check_target(&target, &offline_run)?;
    let log_path = find_log(&offline_run)?;
    let log = fs::read(&log_path).with_context(|| log_path.display().to_string())?;
    let training = Training::read(&log).with_context(|| log_path.display().to_string())?;
    let id = args.run.clone().unwrap_or_else(|| training.run_id().to_owned());
    let run = RunId::new(id)?;
    let access = StoreAccess::open(common, "wandb-merge")?;
    let store = access.config.boot.store.clone();
    let mut steps: BTreeMap<Step, Vec<(MediaId, MediaEntry)>> = BTreeMap::new();
    let query = ItemsQuery {
        run: Some(run.as_str().to_owned()),
        state: Some(StateFilter::Image),
        ..ItemsQuery::default()
    };
    let (mut n_images, mut n_pruned) = (0u64, 0u64);
    let read = access.each_item(query, |item| {
        let entry = MediaEntry::from_json(item, &run)?;
        match entry.id() {
            Some(_) if entry.as_image().is_some_and(|image| image.pruned) => n_pruned += 1,
            Some(id) if is_taken(&id.key) => bail!("key {:?} is reserved by W&B", id.key.as_str()),
            Some(id) => {
                n_images += 1;
                steps.entry(id.step).or_default().push((id, entry));
            }
            None => {}
        }
        Ok(())
    });
    let left_out = match args.run {
        Some(_) => read?,
        None => read.context("the offline run has this id; name the store's run with --run")?,
    };
    if let Some(left_out) = left_out.first() {
        bail!("not all images can be read: {}", left_out.trouble());
    }
    if n_images == 0 {
        bail!("run {run} has no images to merge");
    }
    let folder = store.join("runs").join(run.folder());
    let rows: Vec<Row> = steps.iter().map(|(step, images)| row(*step, images, &folder)).collect();
    let merged = training.with(&rows)?;
    let name = log_path.file_name().unwrap_or_default();
    let files: BTreeSet<&String> = rows.iter().flat_map(|row| &row.files).collect();
    write_run(&target, &offline_run, (name, &merged), &folder, &files)?;
    if common.json {
        let n_steps = rows.len() as u64;
        let merged =
            Merged { path: target, run, image: n_images, steps: n_steps, pruned: n_pruned };
        json::print(&merged, out)?;
    } else {
        let (images, steps) = (count(n_images, "image"), count(rows.len() as u64, "step"));
        writeln!(out, "{}: {images} of {run} at {steps}", target.display())?;
        if n_pruned > 0 {
            let images = count(n_pruned, "image");
            writeln!(out, "left out {images} whose files were removed by retention")?;
        }
        writeln!(out, "run `wandb sync` on this directory, not on {}", offline_run.display())?;
    }
    Ok(ExitCode::Done)
}

/// The row of a step. Its time is that of its latest image.
fn row(step: Step, images: &[(MediaId, MediaEntry)], folder: &Path) -> Row {
    Row::of(step, images.iter().map(|(id, entry)| (id, entry, time_of(entry, folder))))
}

fn check_target(target: &Path, offline_run: &Path) -> anyhow::Result<()> {
    let is_offline = |path: &Path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("offline-run-"))
    };
    if !is_offline(offline_run) {
        bail!(
            "{}: want the directory of an offline run, offline-run-…; online runs are already uploaded",
            offline_run.display()
        );
    }
    if !is_offline(target) {
        let name = offline_run.file_name().unwrap_or_default();
        bail!(
            "{}: wandb sync accepts only directories named offline-run-…, such as {}",
            target.display(),
            target.join(name).display()
        );
    }
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| target.display().to_string()),
        Ok(_) => Err(anyhow!("{} exists: want the name of a new directory", target.display())),
    }
}

/// Finds the log of an offline run. An uploaded run is an error.
fn find_log(offline_run: &Path) -> anyhow::Result<PathBuf> {
    let mut logs = Vec::new();
    let entries = fs::read_dir(offline_run).with_context(|| offline_run.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".wandb.synced") {
            bail!(
                "{} is already synced ({name} exists): configure a W&B target instead, which makes a run of its own",
                offline_run.display()
            );
        }
        if path.extension() == Some(OsStr::new("wandb")) {
            logs.push(path);
        }
    }
    match <[PathBuf; 1]>::try_from(logs) {
        Ok([log]) => Ok(log),
        Err(logs) => {
            bail!("{}: got {} logs, want one run-ID.wandb", offline_run.display(), logs.len())
        }
    }
}

/// Makes the run's directory, complete or not at all.
fn write_run(
    target: &Path,
    offline_run: &Path,
    (name, log): (&OsStr, &[u8]),
    folder: &Path,
    files: &BTreeSet<&String>,
) -> anyhow::Result<()> {
    let above = target.parent().unwrap_or(target);
    let disk = Disk::default();
    disk.create_dir_all(above).with_context(|| above.display().to_string())?;
    // `wandb sync` does not look for this name.
    let beside = tempfile::Builder::new().prefix(".wandb-merge-").tempdir_in(above)?;
    let place = beside.path().join("files");
    fs::create_dir(&place)?;
    copy_files(&offline_run.join("files"), &place, true)?;
    let place_dir = TargetDir::new(&place, disk.clone());
    for path in files {
        let to = place.join(path);
        let from = folder.join(path);
        let linked = place_dir.link(&from, Path::new(path));
        linked.with_context(|| from.display().to_string())?;
        if fs::metadata(&to)?.len() != fs::metadata(&from)?.len() {
            bail!("the training has another file at {path}");
        }
    }
    let file = disk.create(&beside.path().join(name))?;
    file.write_all_at(log, 0)?;
    file.sync()?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(beside.path(), mode)?;
    sync_folders(&disk, beside.path())?;
    // Fails if another process made a directory of that name and put something into it.
    disk.rename(beside.path(), target).with_context(|| target.display().to_string())?;
    // The rename took the temporary directory: there is nothing left to remove.
    drop(beside.keep());
    disk.sync_dir(above).with_context(|| above.display().to_string())
}

/// Copies the training's own files. Media files are linked instead: `wandb sync` rewrites only others.
fn copy_files(from: &Path, to: &Path, is_copied: bool) -> anyhow::Result<()> {
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| from.display().to_string())?,
    };
    let to_dir = TargetDir::new(to, Disk::default());
    for entry in entries {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        // Follows a link to a directory.
        if from.is_dir() {
            fs::create_dir(&to)?;
            copy_files(&from, &to, is_copied && entry.file_name() != "media")?;
        } else if is_copied {
            fs::copy(&from, &to).with_context(|| from.display().to_string())?;
            fs::File::open(&to)?.sync_all()?;
        } else {
            let linked = to_dir.link(&from, Path::new(&entry.file_name()));
            linked.with_context(|| from.display().to_string())?;
        }
    }
    Ok(())
}

fn sync_folders(disk: &Disk, folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(disk, &entry.path())?;
        }
    }
    Ok(disk.sync_dir(folder)?)
}
