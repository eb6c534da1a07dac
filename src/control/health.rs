//! What is wrong with the daemon, in sentences for people. Pure.
//!
//! The list is short, whatever jobs, disks and targets do: a few causes of each kind, each on one line of a bounded
//! length.

use std::time::Duration;

use super::protocol::Health;
use crate::ingest::{IngestStatus, Waiting};
use crate::media::shortened;
use crate::store::{RejectedExample, RejectedItems};
use crate::sync::{self, TargetStatus};
use crate::words::counted;

/// How many causes of one kind are named.
const CAUSES_MAX: usize = 5;

/// The longest cause, and the longest example in one, in characters.
const CAUSE_CHARS_MAX: usize = 800;
const EXAMPLE_CHARS_MAX: usize = 240;

/// What the daemon's parts say of themselves.
#[derive(Debug, Default)]
pub(crate) struct HealthSources {
    pub(crate) ingest: IngestStatus,
    /// Threads that make no progress.
    pub(crate) stalled: Vec<String>,
    /// Targets whose thread died.
    pub(crate) dead_targets: Vec<String>,
    pub(crate) targets: Vec<TargetStatus>,
    /// Items that wait. Each was given all the time of `ingest.wait_ms`.
    pub(crate) waiting: Option<RejectedItems>,
    /// Trouble in the store.
    pub(crate) store: Vec<String>,
    /// Why retention rests.
    pub(crate) retention: Option<String>,
}

impl Health {
    /// Collects what is wrong, the most important first.
    pub(crate) fn new(sources: HealthSources) -> Self {
        let HealthSources { ingest, stalled, dead_targets, targets, waiting, store, retention } =
            sources;
        let mut reasons = Vec::new();
        let mut add = |kind: &str, causes: Vec<String>| {
            let n_more = causes.len().saturating_sub(CAUSES_MAX);
            let causes = causes.into_iter().take(CAUSES_MAX);
            reasons.extend(causes.map(|cause| on_one_line(&cause, CAUSE_CHARS_MAX)));
            if n_more > 0 {
                reasons.push(format!("and {n_more} more: {kind}"));
            }
        };
        let of_thread = |thread: String| format!("thread {thread} is stalled");
        add("stalled threads", stalled.into_iter().map(of_thread).collect());
        let trouble = ingest.trouble.iter().map(|trouble| format!("cannot write: {trouble}"));
        add("causes", trouble.collect());
        let dead = |target: String| {
            format!("target {target}: its thread died, nothing is delivered until a restart")
        };
        add("targets whose thread died", dead_targets.into_iter().map(dead).collect());
        add("problems of the store", store);
        let broken = ingest.watching.iter().flat_map(|root| {
            root.broken.iter().map(|why| format!("{}: {why}", root.path.display()))
        });
        add("directories that are not read (list: safelight status)", broken.collect());
        add("problems of runs (list: safelight status --json)", ingest.problems.clone());
        add(
            "targets that are away (list: safelight status)",
            targets.iter().filter_map(away).collect(),
        );
        add("causes", overdue(&ingest).into_iter().collect());
        add("causes", waiting.iter().map(waiting_items).collect());
        add("causes", retention.into_iter().collect());
        if ingest.is_ready && ingest.watching.is_empty() {
            reasons
                .push("no directory is watched: add a [[watch]] to the configuration".to_owned());
        }
        if !ingest.is_ready {
            reasons.push("the initial scan is not complete".to_owned());
        }
        Self { ready: ingest.is_ready, healthy: reasons.is_empty(), reasons }
    }
}

/// A text on one line, with control characters escaped, at most this long.
fn on_one_line(text: &str, n_chars: usize) -> String {
    let mut line = String::new();
    // Escapes are longer than what they stand for. A few more characters than fit are enough.
    for c in text.chars().take(n_chars + 1) {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    shortened(line, n_chars)
}

/// Says how many rejected items wait, with examples.
fn waiting_items(RejectedItems { n, examples }: &RejectedItems) -> String {
    let waits = if *n == 1 { "item waits" } else { "items wait" };
    let example = |RejectedExample { run, what, reason }: &RejectedExample| {
        on_one_line(&format!("{run} {what}: {reason}"), EXAMPLE_CHARS_MAX)
    };
    let examples: Vec<String> = examples.iter().map(example).collect();
    format!("{n} {waits} (list: safelight ls --state waiting), such as {}", examples.join("; "))
}

/// Says that lines or dumps wait for longer than `ingest.wait_ms`, if any do.
fn overdue(view: &IngestStatus) -> Option<String> {
    let Waiting { run, what, reason, waited_s } = view.oldest_waiting.as_ref()?;
    let (n, noun) = match view.n_overdue {
        0 => return None,
        1 => (1, "line or dump waits"),
        n => (n, "lines and dumps wait"),
    };
    Some(format!(
        "{n} {noun} for longer than ingest.wait_ms, the oldest for {waited_s:.0} s: {run} {what}: {reason}"
    ))
}

/// Says that deliveries to a target have failed for longer than its patience, if they have, or that no patience helps.
fn away(target: &TargetStatus) -> Option<String> {
    let trouble = target.trouble.as_ref()?;
    let TargetStatus { name, patience_s, pending, .. } = target;
    let are_pending = format!(
        "{} {} pending",
        counted(*pending, "item"),
        if *pending == 1 { "is" } else { "are" }
    );
    if sync::is_forbidden(trouble) {
        return Some(format!("target {name}: {are_pending}: {trouble}"));
    }
    let trouble_s = target.trouble_s?;
    // Compared in whole seconds, as the setting is.
    (Duration::try_from_secs_f64(trouble_s).ok()? >= Duration::from_secs(*patience_s)).then(|| {
        format!(
            "target {name}: delivery has failed for {trouble_s:.0} s (patience_s is {patience_s}), {are_pending}: \
             {trouble}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::RunId;

    fn ready() -> IngestStatus {
        IngestStatus { is_ready: true, ..IngestStatus::default() }
    }

    #[test]
    fn many_causes_make_a_short_list_with_each_kind_in_it() {
        let many = |text: &str| (0..1000).map(|n| format!("{text} {n}")).collect::<Vec<_>>();
        let example = |_| RejectedExample {
            run: RunId::new("r").expect("a name"),
            what: "x".repeat(4096),
            reason: "\u{1b}[31mred".to_owned(),
        };
        let ingest =
            IngestStatus { problems: many("run"), trouble: Some("full".to_owned()), ..ready() };
        let health = Health::new(HealthSources {
            ingest,
            stalled: many("thread"),
            dead_targets: many("dead"),
            store: many("damaged"),
            waiting: Some(RejectedItems { n: 9, examples: (0..3).map(example).collect() }),
            retention: Some("the clock".to_owned()),
            ..HealthSources::default()
        });
        assert!(!health.healthy && health.ready);
        let reasons = &health.reasons;
        assert_eq!(reasons[0], "thread thread 0 is stalled");
        assert_eq!(reasons[5], "and 995 more: stalled threads");
        assert_eq!(reasons[6], "cannot write: full");
        for part in [
            "dead 0",
            "damaged 4",
            "run 4",
            "and 995 more: problems of runs",
            "9 items wait",
            "the clock",
        ] {
            assert!(reasons.iter().any(|reason| reason.contains(part)), "{part}: {reasons:?}");
        }
        let n_bytes: usize = reasons.iter().map(String::len).sum();
        assert!(reasons.len() < 40 && n_bytes < 8 << 10, "{} {n_bytes}", reasons.len());
    }

    #[test]
    fn texts_of_jobs_are_shortened_and_escaped() {
        for (text, want) in [
            ("a\nb", "a\\nb"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("é", "é"),
            ("0123456789x", "0123456789…"),
            ("\n\n\n\n\n\n\n", "\\n\\n\\n\\n\\n…"),
        ] {
            assert_eq!(on_one_line(text, 10), want, "{text:?}");
        }
        // Nothing is wrong, but nothing is watched either.
        let health = Health::new(HealthSources { ingest: ready(), ..HealthSources::default() });
        let want = ["no directory is watched: add a [[watch]] to the configuration"];
        assert_eq!((health.healthy, health.reasons), (false, want.map(str::to_owned).to_vec()));
    }
}
