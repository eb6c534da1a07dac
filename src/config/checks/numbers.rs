//! Limits that contradict each other.

use super::{Facts, Finding, Place};
use crate::config::Config;
use crate::config::retention::DumpRetention;

pub(super) fn check(config: &Config, facts: &Facts) -> Vec<Finding> {
    let mut findings = memory(config);
    findings.extend(free_bytes(config, facts));
    findings.extend(threads(config, facts));
    findings.extend(settling(config));
    findings.extend(dumps_without_targets(config));
    findings
}

/// What is read as a whole must fit into the memory.
fn memory(config: &Config) -> Vec<Finding> {
    let max = config.boot.memory_bytes_max;
    let limits = &config.live.limits;
    let parts = [
        ("line_bytes_max", limits.line_bytes_max, "a line"),
        ("header_bytes_max", limits.header_bytes_max, "a header"),
        ("annotation_bytes_max", limits.annotation_bytes_max, "annotations"),
    ];
    let too_large = parts.into_iter().filter(|(_, bytes, _)| *bytes > max);
    let finding = |(name, bytes, what)| {
        Finding::error(
            Place::Setting("work", "memory_bytes_max"),
            format!(
                "work.memory_bytes_max is {max} and limits.{name} is {bytes}: {what} of that size would never fit; raise \
                 the first or lower the second"
            ),
        )
    };
    too_large.map(finding).collect()
}

/// A disk never has more free space than it is large.
fn free_bytes(config: &Config, facts: &Facts) -> Option<Finding> {
    let (min, disk) = (config.live.free_bytes_min?, facts.disk_bytes?);
    (min >= disk).then(|| {
        Finding::error(
            Place::Setting("store", "free_bytes_min"),
            format!(
                "store.free_bytes_min is {min}, and the disk of {} has {disk} bytes: nothing would ever be written; \
                 choose a smaller number",
                config.boot.store.display()
            ),
        )
    })
}

/// More threads than processors only wait for each other.
fn threads(config: &Config, facts: &Facts) -> Option<Finding> {
    let (threads, processors) = (config.boot.n_threads, facts.n_processors?);
    (threads > processors).then(|| {
        Finding::warning(
            Place::Setting("work", "threads"),
            format!(
                "work.threads is {threads}, and the daemon may use {processors} processors: more threads make nothing \
                 faster and take memory"
            ),
        )
    })
}

/// A dump that is given up before it has settled.
fn settling(config: &Config) -> Option<Finding> {
    let times = &config.live.times;
    (times.settle > times.incomplete).then(|| {
        Finding::warning(
            Place::Setting("ingest", "settle_ms"),
            format!(
                "ingest.settle_ms is {} and ingest.incomplete_ms is {}: an incomplete dump is rejected as soon as it is \
                 read, without any wait",
                times.settle.as_millis(),
                times.incomplete.as_millis()
            ),
        )
    })
}

/// Dumps that wait for targets that do not exist.
fn dumps_without_targets(config: &Config) -> Option<Finding> {
    let waits = config.live.retention.dumps == DumpRetention::Delivered;
    (waits && config.live.targets.is_empty()).then(|| {
        Finding::warning(
            Place::Setting("retention", "dumps"),
            "retention.dumps is \"delivered\" and no [sync.NAME] is configured: no dump is ever removed; write \
             \"committed\" or \"keep\", or add a target"
                .to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::check_one;

    #[test]
    fn limits_that_contradict_each_other_are_found() {
        for (text, is_error, parts) in [
            ("", true, &[][..]),
            ("[work]\nmemory_bytes_max = 33554432", true, &[]),
            (
                "[work]\nmemory_bytes_max = 33554432\n[limits]\nline_bytes_max = 33554433",
                true,
                &["limits.line_bytes_max is 33554433"],
            ),
            ("[work]\nthreads = 8", true, &[]),
            ("[work]\nthreads = 9", false, &["the daemon may use 8 processors"]),
            ("[store]\nfree_bytes_min = 1073741824", true, &[]),
            (
                "[store]\npath = \"/s\"\nfree_bytes_min = 107374182400",
                true,
                &["the disk of /s has 107374182400 bytes"],
            ),
            (
                "[ingest]\nsettle_ms = 2000\nincomplete_ms = 1000",
                false,
                &["ingest.settle_ms is 2000"],
            ),
            ("[retention]\ndumps = \"delivered\"", false, &["no dump is ever removed"]),
            (
                "[retention]\ndumps = \"delivered\"\n[sync.t]\nkind = \"mlflow\"\nurl = \"http://m\"",
                true,
                &[],
            ),
        ] {
            check_one(text, is_error, parts);
        }
    }
}
