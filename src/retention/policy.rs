//! Which media files and dumps may go. Pure.

use std::time::Duration;

use crate::config::retention::{DumpRetention, RetentionRules};
use crate::store::journal::JournalOffset;
use crate::sync::TargetCoverage;

/// An image whose files are in the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    pub(crate) place: JournalOffset,
    /// Of all its files.
    pub(crate) bytes: u64,
    /// Since its media file was written; none if that can't be told.
    pub(crate) age: Option<Duration>,
}

/// What is to become of something, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    Remove(String),
    /// It would go, but for this reason.
    Skip(String),
}

/// The first target that doesn't have what stands at a place.
fn missing(targets: &[TargetCoverage], place: JournalOffset) -> Option<&str> {
    targets.iter().find(|target| !target.has(place)).map(TargetCoverage::target)
}

fn unless_missing(targets: &[TargetCoverage], place: JournalOffset, why: String) -> Verdict {
    match missing(targets, place) {
        Some(target) => Verdict::Skip(format!("target {target:?} doesn't have it yet")),
        None => Verdict::Remove(why),
    }
}

/// What is to become of the media of a run, each in its turn: what is too old goes; then, while there
/// is too much, what was kept first.
pub(crate) fn judge_media(
    rules: &RetentionRules,
    kept: &[Kept],
    targets: &[TargetCoverage],
) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = kept
        .iter()
        .map(|kept| match (rules.media_age_max, kept.age) {
            (Some(max), Some(age)) if age > max => {
                let days = max.as_secs() / 86_400;
                unless_missing(targets, kept.place, format!("older than {days} days"))
            }
            _ => Verdict::Keep,
        })
        .collect();
    let Some(max) = rules.media_bytes_max else { return verdicts };
    let stays = |verdict: &Verdict| !matches!(verdict, Verdict::Remove(_));
    let all = kept.iter().zip(&verdicts).filter(|(_, verdict)| stays(verdict));
    let mut left: u64 = all.map(|(kept, _)| kept.bytes).sum();
    let mut oldest: Vec<usize> =
        (0..kept.len()).filter(|&i| verdicts[i] == Verdict::Keep).collect();
    oldest.sort_by_key(|&i| kept[i].place);
    for i in oldest {
        if left <= max {
            break;
        }
        verdicts[i] = unless_missing(
            targets,
            kept[i].place,
            format!("the run has more than {max} bytes of media"),
        );
        if !stays(&verdicts[i]) {
            left -= kept[i].bytes;
        }
    }
    verdicts
}

/// What the store knows of a dump.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DumpUse {
    pub(crate) n_images: u64,
    /// Of them, those whose own files were removed.
    pub(crate) n_pruned: u64,
    /// Of them, those of a part of the dump that a log line named.
    pub(crate) n_parts: u64,
    pub(crate) n_held: u64,
    pub(crate) n_rejected: u64,
    /// Of the images, those with a mask in it.
    pub(crate) n_masks: u64,
    /// Where the last of its images stands.
    pub(crate) last: Option<JournalOffset>,
    /// Not all lines of the run's logs were read: one may name it.
    pub(crate) has_unread_lines: bool,
}

/// What is to become of a dump; `age` since it was written last.
pub(crate) fn judge_dump(
    rules: &RetentionRules,
    dump: &DumpUse,
    age: Option<Duration>,
    targets: &[TargetCoverage],
) -> Verdict {
    let skip = |why: &str| Verdict::Skip(why.to_owned());
    match rules.dumps {
        DumpRetention::Keep => return Verdict::Keep,
        DumpRetention::Delivered if targets.is_empty() => {
            return skip("no target is configured that it could be delivered to");
        }
        DumpRetention::Committed | DumpRetention::Delivered => {}
    }
    if dump.n_held > 0 {
        return skip("images of it are held back");
    }
    if dump.n_rejected > 0 {
        return skip("something of it was rejected");
    }
    let Some(last) = dump.last else { return Verdict::Keep };
    if dump.n_pruned > 0 {
        return skip("files of its images were pruned: it is all that is left");
    }
    if dump.n_parts > 0 {
        return skip("log lines name parts of it, not the whole");
    }
    if dump.n_masks > 0 {
        return skip("it is a mask, which later images may have too");
    }
    if dump.has_unread_lines {
        return skip("the run's media logs are not read to their ends");
    }
    if age.is_none_or(|age| age < rules.dump_age_min) {
        return skip("it was written a short time ago");
    }
    match rules.dumps {
        DumpRetention::Delivered => {
            unless_missing(targets, last, "every target has its images".to_owned())
        }
        _ => Verdict::Remove("its images are kept".to_owned()),
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

    /// Which of images of 100 bytes, `ages` days old and kept in this order, go (`x`), are skipped
    /// (`s`) or stay (`.`).
    fn check(rules: RetentionRules, ages: &[u64], targets: &[TargetCoverage], want: &str) {
        let kept: Vec<Kept> = (0u64..)
            .zip(ages)
            .map(|(i, &age)| Kept { place: at(i), bytes: 100, age: Some(days(age)) })
            .collect();
        let got: String = judge_media(&rules, &kept, targets)
            .iter()
            .map(|verdict| match verdict {
                Verdict::Keep => '.',
                Verdict::Remove(_) => 'x',
                Verdict::Skip(_) => 's',
            })
            .collect();
        assert_eq!(got, want, "{rules:?} {targets:?}");
    }

    #[test]
    fn media_go_by_age_and_by_bytes_the_first_kept_first() {
        let by_age = RetentionRules { media_age_max: Some(days(30)), ..RetentionRules::default() };
        let by_bytes = RetentionRules { media_bytes_max: Some(250), ..RetentionRules::default() };
        let both = RetentionRules { media_bytes_max: Some(250), ..by_age };
        check(RetentionRules::default(), &[900, 0], &[], "..");
        check(by_age, &[31, 30, 0, 99], &[], "x..x");
        check(by_bytes, &[0, 0, 0, 0], &[], "xx..");
        check(by_bytes, &[0, 0], &[], "..");
        // What goes by age makes room.
        check(both, &[0, 0, 31, 31], &[], "..xx");
        check(both, &[0, 0, 0, 31], &[], "x..x");
    }

    #[test]
    fn what_a_target_does_not_have_stays_and_counts() {
        let rules = RetentionRules { media_bytes_max: Some(150), ..RetentionRules::default() };
        let team = |until| vec![TargetCoverage::until("team", at(until))];
        check(rules, &[0, 0, 0], &team(9), "xx.");
        check(rules, &[0, 0, 0], &team(1), "xss");
        check(rules, &[0, 0, 0], &team(0), "sss");
        let by_age = RetentionRules { media_age_max: Some(days(1)), ..RetentionRules::default() };
        check(by_age, &[5, 5, 5], &team(2), "xxs");
    }

    #[test]
    fn a_dump_goes_only_when_nothing_needs_it() {
        let rules = RetentionRules {
            dumps: DumpRetention::Committed,
            dump_age_min: Duration::from_mins(1),
            ..RetentionRules::default()
        };
        let dump = DumpUse { n_images: 2, last: Some(at(5)), ..DumpUse::default() };
        let old = Some(Duration::from_mins(1));
        let judge = |rules: &RetentionRules, dump: &DumpUse, age, targets: &[TargetCoverage]| {
            match judge_dump(rules, dump, age, targets) {
                Verdict::Keep => "keep".to_owned(),
                Verdict::Remove(_) => "remove".to_owned(),
                Verdict::Skip(why) => why,
            }
        };
        assert_eq!(judge(&rules, &dump, old, &[]), "remove");
        assert_eq!(
            judge(&RetentionRules { dumps: DumpRetention::Keep, ..rules }, &dump, old, &[]),
            "keep"
        );
        assert_eq!(judge(&rules, &DumpUse { last: None, ..dump }, old, &[]), "keep");
        for (dump, age, why) in [
            (DumpUse { n_held: 1, ..dump }, old, "held back"),
            (DumpUse { n_rejected: 1, ..dump }, old, "rejected"),
            (DumpUse { n_pruned: 1, ..dump }, old, "all that is left"),
            (DumpUse { n_parts: 1, ..dump }, old, "parts of it"),
            (DumpUse { n_masks: 1, ..dump }, old, "mask"),
            (DumpUse { has_unread_lines: true, ..dump }, old, "not read"),
            (dump, Some(Duration::from_secs(59)), "short time"),
            (dump, None, "short time"),
        ] {
            let got = judge(&rules, &dump, age, &[]);
            assert!(got.contains(why), "{got}");
        }
        let rules = RetentionRules { dumps: DumpRetention::Delivered, ..rules };
        let team = |until| vec![TargetCoverage::until("team", at(until))];
        assert!(judge(&rules, &dump, old, &[]).contains("no target"));
        assert!(judge(&rules, &dump, old, &team(5)).contains("\"team\" doesn't have it"));
        assert_eq!(judge(&rules, &dump, old, &team(6)), "remove");
    }
}
