//! `safelight show --follow`: each new item of a key, as the daemon stores it.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::Printer;
use crate::cli::args::{Common, ShowArgs, StepArg};
use crate::cli::daemon_client;
use crate::cli::exit::{ExitCode, with_causes};
use crate::cli::format::printable;
use crate::cli::privileges::act_as_owner_of;
use crate::control::client::{Client, ClientError};
use crate::control::protocol::ItemsQuery;
use crate::store::StateFilter;

/// The pause between two questions to the daemon.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// A finished run has no more items after this number of questions without a new item.
const QUIET_POLLS: u32 = 3;

/// Prints the items from a step on, and each new one, until the run is finished.
///
/// # Errors
/// If no daemon runs when the command starts, or `out` fails.
pub(super) fn run(
    args: &ShowArgs,
    common: &Common,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    crate::logging::start_for_command(io::stderr);
    let config = common.config()?;
    act_as_owner_of(&config.boot.store)?;
    let mut daemon = Some(daemon_client::daemon(common).context("--follow needs a daemon")?);
    let mut printer = Printer::new(args, common, &config.boot.store, None)?;
    let mut followed = Followed::new(args);
    let (mut is_told, mut n_quiet) = (false, 0);
    loop {
        let polled = match &daemon {
            Some(client) => followed.poll(client).map_err(anyhow::Error::from),
            None => Err(anyhow::anyhow!("no daemon")),
        };
        match polled {
            Ok(Polled { new, is_finished, missing }) => {
                if let Some(missing) = missing.filter(|_| !is_told) {
                    is_told = true;
                    tell(&format!("{missing}; waiting for it"));
                }
                n_quiet = if new.is_empty() { n_quiet + 1 } else { 0 };
                for item in new {
                    printer.print(item, out)?;
                }
                out.flush()?;
                if is_finished && n_quiet >= QUIET_POLLS {
                    return Ok(printer.exit_code());
                }
            }
            Err(error) => {
                // The daemon may be restarting.
                if daemon.take().is_some() {
                    tell(&format!("{}; waiting for the daemon", with_causes(&error)));
                }
                n_quiet = 0;
            }
        }
        thread::sleep(POLL_EVERY);
        if daemon.is_none() {
            daemon = daemon_client::daemon(common).ok();
        }
    }
}

fn tell(what: &str) {
    // Nobody may read it.
    drop(writeln!(io::stderr(), "safelight: {}", printable(what)));
}

/// The items of a key that were printed, and those that come next.
struct Followed {
    run: String,
    key: String,
    index: Option<u32>,
    /// Items of earlier steps are not asked for. `None`: the newest step is not known yet.
    first_step: Option<u64>,
    /// What was printed of `first_step` and later steps.
    printed: BTreeSet<Printed>,
    /// The number of rejected and waiting items of the run, when they were last listed.
    rejected: Option<(u64, u64)>,
}

/// Tells an item from others, and from an earlier version of itself.
type Printed = (u64, Option<u64>, String);

/// What a question brought.
struct Polled {
    new: Vec<Value>,
    is_finished: bool,
    /// Which name does not exist, if one doesn't.
    missing: Option<String>,
}

impl Followed {
    fn new(args: &ShowArgs) -> Self {
        let first_step = match args.step {
            StepArg::Last => None,
            StepArg::At(step) => Some(step),
        };
        Self {
            run: args.run.clone(),
            key: args.key.clone(),
            index: args.index,
            first_step,
            printed: BTreeSet::new(),
            rejected: None,
        }
    }

    /// Asks the daemon for what is new.
    fn poll(&mut self, daemon: &Client) -> Result<Polled, ClientError> {
        // Before the items, so that those of a finished run are complete.
        let status = daemon.status()?;
        let summary = status.runs.into_iter().find(|run| run.run.as_str() == self.run);
        let is_finished = summary.as_ref().is_some_and(|run| run.finished);
        let of_key = ItemsQuery::of_key(&self.run, &self.key);
        if summary.is_none() {
            let missing = daemon.missing_name(&of_key)?;
            return Ok(Polled { new: Vec::new(), is_finished, missing });
        }
        if self.first_step.is_none() {
            self.first_step = daemon.last_step(&self.run, &self.key)?;
            if self.first_step.is_none() {
                return Ok(Polled {
                    new: Vec::new(),
                    is_finished,
                    missing: daemon.missing_name(&of_key)?,
                });
            }
        }
        let mut items = Vec::new();
        let mut list = |state: StateFilter| {
            let first_step = self.first_step;
            let query = ItemsQuery { first_step, state: Some(state), ..of_key.clone() };
            daemon.each_item(&query, |item| {
                items.push(item);
                Ok::<_, ClientError>(())
            })
        };
        list(StateFilter::Image)?;
        list(StateFilter::Held)?;
        // The daemon reads all rejected items of the run to find those of a key.
        let rejected = summary.map(|run| (run.rejected, run.waiting));
        if rejected != self.rejected {
            list(StateFilter::Rejected)?;
            self.rejected = rejected;
        }
        Ok(Polled { new: self.take_new(items), is_finished, missing: None })
    }

    /// Takes the items of `first_step` and later steps. Returns those that were not printed before, in order.
    fn take_new(&mut self, mut items: Vec<Value>) -> Vec<Value> {
        let is_placed = |item: &Value| item["state"] != "rejected";
        let newest = items
            .iter()
            .filter(|item| is_placed(item))
            .filter_map(|item| item["step"].as_u64())
            .max();
        match newest {
            Some(newest) => self.first_step = self.first_step.max(Some(newest)),
            // The job was resumed from an earlier step, and has replaced what was printed.
            None if self.printed.iter().any(|(_, _, what)| what.starts_with("image")) => {
                self.first_step = None;
                self.printed.clear();
            }
            None => {}
        }
        let index = self.index;
        items.retain(|item| index.is_none_or(|index| item["index"] == index));
        items.sort_by_key(|item| (item["step"].as_u64(), item["index"].as_u64()));
        items.retain(|item| self.printed.insert(printed(item)));
        let first_step = self.first_step;
        self.printed.retain(|(step, _, _)| Some(*step) >= first_step);
        items
    }
}

fn printed(item: &Value) -> Printed {
    let what = [&item["state"], &item["sha256"], &item["reason"], &item["source"]];
    let what: Vec<String> = what
        .into_iter()
        .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        .collect();
    (item["step"].as_u64().unwrap_or_default(), item["index"].as_u64(), what.join(" "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn image(step: u64, index: u32, sha256: &str) -> Value {
        json!({"state": "image", "step": step, "index": index, "sha256": sha256})
    }

    fn followed(index: Option<u32>) -> Followed {
        Followed {
            run: "run".to_owned(),
            key: "k".to_owned(),
            index,
            first_step: Some(0),
            printed: BTreeSet::new(),
            rejected: None,
        }
    }

    #[test]
    fn each_item_is_taken_once_in_order_of_its_step() {
        let mut followed = followed(None);
        let (a, b, c) = (image(1, 0, "a"), image(2, 0, "b"), image(2, 1, "c"));
        assert_eq!(followed.take_new(vec![b.clone(), a.clone()]), [a, b.clone()]);
        assert_eq!(followed.first_step, Some(2));
        // A part of the step came later.
        assert_eq!(followed.take_new(vec![b.clone(), c.clone()]), std::slice::from_ref(&c));
        assert!(followed.take_new(vec![b, c.clone()]).is_empty());
        // A new version is an item of its own, and so is a released one.
        let held = json!({"state": "held", "step": 3, "index": 0, "reason": "limit"});
        let again = image(2, 0, "B");
        assert_eq!(followed.take_new(vec![again.clone(), c, held.clone()]), [again, held]);
        let released = image(3, 0, "d");
        assert_eq!(followed.take_new(vec![released.clone()]), [released]);
    }

    #[test]
    fn rejected_items_do_not_move_the_step() {
        let mut followed = followed(None);
        let far = json!({"state": "rejected", "step": 1_000_000, "index": null, "reason": "no"});
        let near = image(1, 0, "a");
        assert_eq!(followed.take_new(vec![near.clone(), far.clone()]), [near, far.clone()]);
        assert_eq!(followed.first_step, Some(1));
        let next = image(2, 0, "b");
        assert_eq!(followed.take_new(vec![next.clone(), far]), [next]);
    }

    #[test]
    fn only_one_index_is_taken_if_one_is_named() {
        let mut followed = followed(Some(1));
        let (a, b) = (image(1, 0, "a"), image(1, 1, "b"));
        assert_eq!(followed.take_new(vec![a, b.clone()]), [b]);
    }

    #[test]
    fn a_resumed_job_starts_anew() {
        let mut followed = followed(None);
        assert_eq!(followed.take_new(vec![image(150, 0, "a")]).len(), 1);
        assert!(followed.take_new(Vec::new()).is_empty());
        assert_eq!(followed.first_step, None);
    }
}
