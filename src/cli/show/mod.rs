//! `safelight show`.
//!
//! | file | content |
//! | --- | --- |
//! | `words` | an item in words |
//! | `follow` | `--follow`: each new item of a key |

mod follow;
mod words;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use serde_json::Value;

use self::words::in_words;
use super::access::StoreAccess;
use super::args::{Common, Form, ShowArgs, StepArg};
use super::common::Commands;
use super::exit::ExitCode;
use super::fleet::{OpenFleetRun, open_run};
use super::picture::Screen;
use crate::control::protocol::ItemsQuery;
use crate::fleet::OBJECTS_AT_ONCE;
use crate::formats::wandb::{artifact, class_labels_config, logged};
use crate::media::{MediaEntry, MediaKey, RunId};
use crate::store::media_check::files_of;

pub(super) fn run(
    args: &ShowArgs,
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    if args.follow {
        return follow::run(args, common, out);
    }
    let (access, fleet) = match &args.fleet.from {
        Some(from) => {
            let (access, fleet) = open_run(from, common, &args.run)?;
            (access, Some(fleet))
        }
        None => (StoreAccess::open(common, "show")?, None),
    };
    let run = fleet.as_ref().map_or(&*args.run, |fleet| fleet.id.as_str()).to_owned();
    let args = &ShowArgs { run, ..args.clone() };
    let store = match &fleet {
        Some(fleet) => fleet.files.root().to_owned(),
        None => access.config.boot.store.clone(),
    };
    let step = match args.step {
        StepArg::At(step) => step,
        StepArg::Last => access.last_step(&args.run, &args.key)?,
    };
    let query = ItemsQuery {
        first_step: Some(step),
        last_step: Some(step),
        ..ItemsQuery::of_key(&args.run, &args.key)
    };
    let (mut items, mut indices) = (Vec::new(), Vec::new());
    let left_out = access.each_item(query, |item| {
        indices.push(item["index"].to_string());
        let is_wanted = args.index.is_none_or(|index| item["index"] == index);
        items.extend(is_wanted.then_some(item));
        Ok(())
    })?;
    if let Some(left_out) = left_out.first().filter(|_| items.is_empty()) {
        return Err(anyhow!(left_out.trouble()));
    }
    if let Some(index) = args.index.filter(|_| items.is_empty()) {
        let (ShowArgs { run, key, .. }, known) = (args, indices.join(", "));
        return Err(anyhow!(
            "run {run:?} has no index {index} under key {key:?} at step {step}: it has {known}"
        ));
    }
    let mut printer = Printer::new(args, common, &store, fleet)?;
    let mut values = match args.form {
        None | Some(Form::Record) => items,
        Some(form) => {
            printer.fetch_files(form, &items)?;
            other_form(form, args, items, &printer.run, &store)?
        }
    };
    while !values.is_empty() {
        let next: Vec<Value> = values.drain(..values.len().min(OBJECTS_AT_ONCE)).collect();
        printer.fetch_pictures(&next)?;
        for value in next {
            printer.print(value, out)?;
        }
    }
    Ok(printer.exit_code())
}

/// How items are printed that are not shown as pictures.
#[derive(Debug, Clone, Copy)]
enum Printed {
    /// On one line each.
    Json,
    ReadableJson,
    Words,
}

/// Prints items: as pictures, as JSON on one line each, as readable JSON, or in words.
struct Printer {
    run: RunId,
    store: PathBuf,
    commands: Commands,
    screen: Option<Screen>,
    form: Printed,
    is_first: bool,
    is_all_shown: bool,
    /// The run, if it is one of a fleet.
    fleet: Option<OpenFleetRun>,
}

impl Printer {
    /// Prepares for items of the run. `store` is the store's directory.
    ///
    /// # Errors
    /// If pictures are wanted, and standard output cannot show them.
    fn new(
        args: &ShowArgs,
        common: &Common,
        store: &Path,
        fleet: Option<OpenFleetRun>,
    ) -> anyhow::Result<Self> {
        let run = RunId::new(args.run.clone())?;
        let files = fleet.as_ref().map(|fleet| fleet.files.clone());
        let open = |protocol| Screen::open(protocol, args.overlays, store, &run, files);
        let screen = args.picture.map(open).transpose()?;
        let form = match args.form {
            _ if common.json => Printed::Json,
            Some(_) => Printed::ReadableJson,
            None => Printed::Words,
        };
        // The names of objects follow the URL, as those of files follow the store's directory.
        let (store, commands) = match &fleet {
            Some(OpenFleetRun { files, run, .. }) => {
                (files.url().into(), Commands::on_box(run.names().0))
            }
            None => (store.to_owned(), common.commands()),
        };
        let (is_first, is_all_shown) = (true, true);
        Ok(Self { run, store, commands, screen, form, is_first, is_all_shown, fleet })
    }

    /// Fetches the files that a form of the items reads.
    ///
    /// # Errors
    /// If an object is missing or damaged, or the object store fails.
    fn fetch_files(&self, form: Form, items: &[Value]) -> anyhow::Result<()> {
        let Some(fleet) = self.fleet.as_ref().filter(|_| form == Form::Artifact) else {
            return Ok(());
        };
        let entries = self.entries(items)?;
        let files = || entries.iter().filter_map(MediaEntry::as_image).flat_map(files_of);
        fleet.files.fetch_all(files().map(|file| (&self.run, file)));
        for file in files() {
            fleet.files.fetch(&self.run, file)?;
        }
        Ok(())
    }

    /// Fetches the pictures of the items that are shown next.
    fn fetch_pictures(&self, items: &[Value]) -> anyhow::Result<()> {
        let Some(fleet) = self.fleet.as_ref().filter(|_| self.screen.is_some()) else {
            return Ok(());
        };
        let entries = self.entries(items)?;
        let images = entries.iter().filter_map(MediaEntry::as_image).filter(|image| !image.pruned);
        fleet.files.fetch_all(images.map(|image| (&self.run, (&image.file).into())));
        Ok(())
    }

    fn entries(&self, items: &[Value]) -> anyhow::Result<Vec<MediaEntry>> {
        let entries = items.iter().map(|item| MediaEntry::from_json(item.clone(), &self.run));
        Ok(entries.collect::<Result<_, _>>()?)
    }

    /// Prints an item.
    ///
    /// # Errors
    /// If `out` fails.
    fn print(&mut self, mut item: Value, out: &mut impl Write) -> anyhow::Result<()> {
        if let Some(screen) = &self.screen {
            let entry = MediaEntry::from_json(item, &self.run)?;
            self.is_all_shown &= screen.show(&entry, out)?;
            return Ok(());
        }
        if let Some(fleet) = self.fleet.as_ref().filter(|_| item["run"].is_string()) {
            fleet.name_item(&mut item);
        }
        match self.form {
            Printed::Json => writeln!(out, "{item}")?,
            Printed::ReadableJson => writeln!(out, "{item:#}")?,
            Printed::Words => {
                let between = if self.is_first { "" } else { "\n" };
                write!(out, "{between}{}", in_words(&item, &self.store, &self.commands))?;
                self.is_first = false;
            }
        }
        Ok(())
    }

    /// "Failed" if a file of an item could not be shown, or part of the run could not be read.
    fn exit_code(&self) -> ExitCode {
        let shown = if self.is_all_shown { ExitCode::Done } else { ExitCode::Failed };
        shown.or(self.fleet.as_ref().map_or(ExitCode::Done, |fleet| fleet.exit_code))
    }
}

/// The items in another form than the store's.
fn other_form(
    form: Form,
    args: &ShowArgs,
    items: Vec<Value>,
    run: &RunId,
    store: &Path,
) -> anyhow::Result<Vec<Value>> {
    let entries = items.into_iter().map(|item| MediaEntry::from_json(item, run));
    let entries: Vec<MediaEntry> = entries.collect::<Result<_, _>>()?;
    let no_image = || anyhow!("none of these items is an image");
    Ok(match form {
        Form::Artifact => {
            let folder = store.join("runs").join(run.folder());
            let made =
                entries.iter().map(|entry| artifact(entry, |path| fs::read(folder.join(path))));
            let made: Vec<_> = made.collect::<Result<_, _>>()?;
            let values: Vec<Value> = made.into_iter().flatten().map(|made| made.value).collect();
            if values.is_empty() {
                return Err(no_image());
            }
            values
        }
        Form::Config => {
            let key = MediaKey::new(args.key.clone())?;
            vec![Value::Object(class_labels_config(&key, &entries))]
        }
        Form::Logged | Form::Record => {
            let value = logged(&entries, args.index.is_none() && entries.len() > 1);
            vec![value.ok_or_else(no_image)?]
        }
    })
}
