//! Decides which media files and dumps to remove. Pure.

use std::time::Duration;

use crate::config::retention::{DumpRetention, RetentionRules};
use crate::store::journal::JournalOffset;
use crate::sync::TargetCoverage;
use crate::words::counted;

/// An image whose files are in the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredImage {
    pub(crate) place: JournalOffset,
    /// Bytes of all its files.
    pub(crate) bytes: u64,
    /// Time since its media file was written; `None` if unknown.
    pub(crate) age: Option<Duration>,
}

/// Whether to remove an image's files, a stray file or a dump, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RemovalDecision {
    Keep,
    Remove(String),
    /// The rules remove it, but this reason prevents that.
    Skip(String),
}

/// The first target that doesn't have the item at a place of the journal.
fn missing(targets: &[TargetCoverage], place: JournalOffset) -> Option<&str> {
    targets.iter().find(|target| !target.has(place)).map(TargetCoverage::target)
}

fn unless_missing(
    targets: &[TargetCoverage],
    place: JournalOffset,
    why: String,
) -> RemovalDecision {
    match missing(targets, place) {
        Some(target) => RemovalDecision::Skip(format!("target {target:?} doesn't have it yet")),
        None => RemovalDecision::Remove(why),
    }
}

/// Decides about each image of a run. Images that are too old are removed. Then, while the run has too many bytes,
/// the image that was committed first is removed.
pub(crate) fn decide_media(
    rules: &RetentionRules,
    images: &[StoredImage],
    targets: &[TargetCoverage],
) -> Vec<RemovalDecision> {
    let mut decisions: Vec<RemovalDecision> = images
        .iter()
        .map(|image| match (rules.media_age_max, image.age) {
            (Some(max), Some(age)) if age > max => {
                let days = counted(max.as_secs() / 86_400, "day");
                unless_missing(targets, image.place, format!("older than {days}"))
            }
            _ => RemovalDecision::Keep,
        })
        .collect();
    let Some(max) = rules.media_bytes_max else { return decisions };
    let stays = |decision: &RemovalDecision| !matches!(decision, RemovalDecision::Remove(_));
    let all = images.iter().zip(&decisions).filter(|(_, decision)| stays(decision));
    let mut left: u64 = all.map(|(image, _)| image.bytes).sum();
    let mut oldest: Vec<usize> =
        (0..images.len()).filter(|&i| decisions[i] == RemovalDecision::Keep).collect();
    oldest.sort_by_key(|&i| images[i].place);
    for i in oldest {
        if left <= max {
            break;
        }
        decisions[i] = unless_missing(
            targets,
            images[i].place,
            format!("the run has more than {max} bytes of media"),
        );
        if !stays(&decisions[i]) {
            left -= images[i].bytes;
        }
    }
    decisions
}

/// How the run's items use a dump.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DumpUse {
    pub(crate) n_images: u64,
    /// Number of its images that are pruned.
    pub(crate) n_pruned: u64,
    /// Number of items made of a tensor of the dump that a log line names.
    pub(crate) n_parts: u64,
    pub(crate) n_held: u64,
    pub(crate) n_rejected: u64,
    /// Number of masks that are read from it.
    pub(crate) n_masks: u64,
    /// The place of its last image in the journal.
    pub(crate) last: Option<JournalOffset>,
    /// Whether the run's logs have unread lines, which may name it.
    pub(crate) has_unread_lines: bool,
}

/// Decides about a dump. `age` is the time since it was last written; `None` if unknown.
pub(crate) fn decide_dump(
    rules: &RetentionRules,
    dump: &DumpUse,
    age: Option<Duration>,
    targets: &[TargetCoverage],
) -> RemovalDecision {
    let skip = |why: &str| RemovalDecision::Skip(why.to_owned());
    match rules.dumps {
        DumpRetention::Keep => return RemovalDecision::Keep,
        DumpRetention::Delivered if targets.is_empty() => {
            return skip("no target is configured");
        }
        DumpRetention::Committed | DumpRetention::Delivered => {}
    }
    if dump.n_held > 0 {
        return skip("images of it are held");
    }
    if dump.n_rejected > 0 {
        return skip("items of it are rejected");
    }
    let Some(last) = dump.last else { return RemovalDecision::Keep };
    if dump.n_pruned > 0 {
        return skip("its images are pruned: it is their only copy");
    }
    if dump.n_parts > 0 {
        return skip("log lines name tensors of it, not the whole");
    }
    if dump.n_masks > 0 {
        return skip("it is a mask, which later images may use too");
    }
    if dump.has_unread_lines {
        return skip("the run's media logs are not read to their ends");
    }
    if age.is_none_or(|age| age < rules.dump_age_min) {
        return skip("it was written too recently");
    }
    match rules.dumps {
        DumpRetention::Delivered => {
            unless_missing(targets, last, "every target has its images".to_owned())
        }
        _ => RemovalDecision::Remove("its images are in the store".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> JournalOffset {
        JournalOffset { segment: 1, offset }
    }

    fn days(n: u64) -> Duration {
        Duration::from_secs(n * 86_400)
    }

    /// Checks which images are removed (`x`), skipped (`s`) or kept (`.`). They have 100 bytes each, are `ages` days
    /// old, and were committed in this order.
    fn check(rules: RetentionRules, ages: &[u64], targets: &[TargetCoverage], want: &str) {
        let images: Vec<StoredImage> = (0u64..)
            .zip(ages)
            .map(|(i, &age)| StoredImage { place: at(i), bytes: 100, age: Some(days(age)) })
            .collect();
        let got: String = decide_media(&rules, &images, targets)
            .iter()
            .map(|decision| match decision {
                RemovalDecision::Keep => '.',
                RemovalDecision::Remove(_) => 'x',
                RemovalDecision::Skip(_) => 's',
            })
            .collect();
        assert_eq!(got, want, "{rules:?} {targets:?}");
    }

    #[test]
    fn media_are_removed_by_age_and_by_bytes_the_oldest_first() {
        let by_age = RetentionRules { media_age_max: Some(days(30)), ..RetentionRules::default() };
        let by_bytes = RetentionRules { media_bytes_max: Some(250), ..RetentionRules::default() };
        let both = RetentionRules { media_bytes_max: Some(250), ..by_age };
        check(RetentionRules::default(), &[900, 0], &[], "..");
        check(by_age, &[31, 30, 0, 99], &[], "x..x");
        check(by_bytes, &[0, 0, 0, 0], &[], "xx..");
        check(by_bytes, &[0, 0], &[], "..");
        // Images that are removed by age make room.
        check(both, &[0, 0, 31, 31], &[], "..xx");
        check(both, &[0, 0, 0, 31], &[], "x..x");
    }

    #[test]
    fn undelivered_images_stay_and_count() {
        let rules = RetentionRules { media_bytes_max: Some(150), ..RetentionRules::default() };
        let team = |until| vec![TargetCoverage::until("team", at(until))];
        check(rules, &[0, 0, 0], &team(9), "xx.");
        check(rules, &[0, 0, 0], &team(1), "xss");
        check(rules, &[0, 0, 0], &team(0), "sss");
        let by_age = RetentionRules { media_age_max: Some(days(1)), ..RetentionRules::default() };
        check(by_age, &[5, 5, 5], &team(2), "xxs");
    }

    #[test]
    fn a_dump_is_removed_only_if_nothing_needs_it() {
        let rules = RetentionRules {
            dumps: DumpRetention::Committed,
            dump_age_min: Duration::from_mins(1),
            ..RetentionRules::default()
        };
        let dump = DumpUse { n_images: 2, last: Some(at(5)), ..DumpUse::default() };
        let old = Some(Duration::from_mins(1));
        let decide = |rules: &RetentionRules, dump: &DumpUse, age, targets: &[TargetCoverage]| {
            match decide_dump(rules, dump, age, targets) {
                RemovalDecision::Keep => "keep".to_owned(),
                RemovalDecision::Remove(_) => "remove".to_owned(),
                RemovalDecision::Skip(why) => why,
            }
        };
        assert_eq!(decide(&rules, &dump, old, &[]), "remove");
        assert_eq!(
            decide(&RetentionRules { dumps: DumpRetention::Keep, ..rules }, &dump, old, &[]),
            "keep"
        );
        assert_eq!(decide(&rules, &DumpUse { last: None, ..dump }, old, &[]), "keep");
        for (dump, age, why) in [
            (DumpUse { n_held: 1, ..dump }, old, "held"),
            (DumpUse { n_rejected: 1, ..dump }, old, "rejected"),
            (DumpUse { n_pruned: 1, ..dump }, old, "only copy"),
            (DumpUse { n_parts: 1, ..dump }, old, "tensors of it"),
            (DumpUse { n_masks: 1, ..dump }, old, "mask"),
            (DumpUse { has_unread_lines: true, ..dump }, old, "not read"),
            (dump, Some(Duration::from_secs(59)), "too recently"),
            (dump, None, "too recently"),
        ] {
            let got = decide(&rules, &dump, age, &[]);
            assert!(got.contains(why), "{got}");
        }
        let rules = RetentionRules { dumps: DumpRetention::Delivered, ..rules };
        let team = |until| vec![TargetCoverage::until("team", at(until))];
        assert!(decide(&rules, &dump, old, &[]).contains("no target"));
        assert!(decide(&rules, &dump, old, &team(5)).contains("\"team\" doesn't have it"));
        assert_eq!(decide(&rules, &dump, old, &team(6)), "remove");
    }
}
