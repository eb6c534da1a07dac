//! No step has more images than its limit allows, and a rebuilt index has the same held items.
//!
//! `SAFELIGHT_LIMIT_CASES` is the number of random runs that are tried.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{TempRun, gray, npy, random_cases};

/// Something that a job writes, with the numbers of key and step.
#[derive(Debug, Clone)]
pub(crate) enum Written {
    /// A line about a batch of this many pictures.
    Line(u64, u64, usize),
    /// A line with an explicit index.
    LineAt(u64, u64, u32),
    /// A dump of this many pictures without a log line.
    Dump(u64, u64, usize),
    /// A dump with an explicit index. It replaces an earlier one of that name.
    DumpAt(u64, u64, u32),
    /// A malformed line.
    Bad(u64, u64),
}

pub(crate) fn written() -> impl Strategy<Value = Written> {
    let place = || (0u64..3, 0u64..3);
    prop_oneof![
        4 => (place(), 1usize..5).prop_map(|((key, step), n)| Written::Line(key, step, n)),
        1 => (place(), 0u32..9).prop_map(|((key, step), at)| Written::LineAt(key, step, at)),
        3 => (place(), 1usize..5).prop_map(|((key, step), n)| Written::Dump(key, step, n)),
        1 => (place(), 0u32..9).prop_map(|((key, step), at)| Written::DumpAt(key, step, at)),
        1 => place().prop_map(|(key, step)| Written::Bad(key, step)),
    ]
}

fn batch(n: usize, number: u64) -> Vec<u8> {
    if n == 1 {
        return gray(number);
    }
    npy("|u1", &[n, 5, 7], &vec![number.to_le_bytes()[0]; n * 35])
}

pub(crate) fn write(temp: &TempRun, what: &Written, number: u64) {
    let line =
        |line: Value| temp.append(&format!("{}.media.jsonl", number % 2), &format!("{line}\n"));
    let tensor = format!("tensors/{number}.npy");
    match what {
        Written::Line(key, step, n) => {
            temp.write(&tensor, &batch(*n, number));
            let format = if *n == 1 { "HW" } else { "NHW" };
            line(json!({"key": format!("k{key}"), "step": step, "data": tensor, "format": format}));
        }
        Written::LineAt(key, step, index) => {
            temp.write(&tensor, &gray(number));
            line(json!({"key": format!("k{key}"), "step": step, "data": tensor, "index": index}));
        }
        Written::Dump(key, step, n) => {
            let path = format!("dumps/k{key}/{step}.npy");
            let format = if *n == 1 { "HW" } else { "NHW" };
            temp.write(&format!("{path}.json"), json!({"format": format}).to_string().as_bytes());
            temp.write(&path, &batch(*n, number));
        }
        Written::DumpAt(key, step, index) => {
            temp.write(&format!("dumps/k{key}/{step}_{index}.npy"), &gray(number));
        }
        Written::Bad(key, step) => {
            line(json!({"key": format!("k{key}"), "step": step, "data": "none.npy", "mode": "?"}));
        }
    }
}

/// Checks that no step has too many images or two with the same index.
pub(crate) fn check_counts(items: &[Value], max_items: usize) -> Result<(), TestCaseError> {
    let mut kept = BTreeMap::<(String, u64), usize>::new();
    let mut places = std::collections::BTreeSet::new();
    for item in items.iter().filter(|item| item["state"] != "rejected") {
        let place = ["key", "step", "index"].map(|field| item[field].to_string());
        prop_assert!(places.insert(place), "two items have the same index: {}", item);
        let key = item["key"].as_str().expect("a key").to_owned();
        let n = kept.entry((key, item["step"].as_u64().expect("a step"))).or_default();
        *n += usize::from(item["state"] == "image");
        prop_assert!(*n <= max_items, "{} exceeds the limit", item);
        let reason = item["reason"].as_str().unwrap_or("");
        prop_assert!(item["state"] == "image" || reason.contains("max_items"), "{}", item);
    }
    Ok(())
}

fn check(parts: &[Vec<Written>], max_items: usize, by_daemon: bool) -> Result<(), TestCaseError> {
    let temp = TempRun::new();
    let settings = format!(
        "[limits]\nmax_items = {max_items}\n[work]\nthreads = 2\n[ingest]\nsettle_ms = 20\nclose_ms = 5\nwait_ms = 50\n"
    );
    let config = temp.configure(&settings);
    let config = config.to_str().expect("a path");
    let mut number = 0;
    for part in parts {
        let daemon = by_daemon.then(|| temp.daemon(&settings));
        for what in part {
            write(&temp, what, number);
            number += 1;
        }
        // Kills the daemon at a random moment of its work. `ingest` reads the rest.
        drop(daemon);
        let run = temp.at("");
        let ran = temp.run(&["ingest", "--config", config, run.to_str().expect("a path")]);
        prop_assert!(matches!(ran.code, 0 | 3), "{:?}", ran);
        let items = temp.items();
        check_counts(&items, max_items)?;
        temp.remove_index();
        prop_assert_eq!(temp.items(), items.clone());
        let again = temp.run(&["ingest", "--config", config, run.to_str().expect("a path")]);
        prop_assert!(again.out.contains("new: 0 images, 0 held back, 0 rejected"), "{:?}", again);
        prop_assert_eq!(temp.items(), items);
    }
    Ok(())
}

fn parts() -> impl Strategy<Value = Vec<Vec<Written>>> {
    proptest::collection::vec(proptest::collection::vec(written(), 1..25), 1..4)
}

proptest! {
    #![proptest_config(random_cases("SAFELIGHT_LIMIT_CASES", 6))]

    #[test]
    fn no_step_exceeds_its_limit_and_a_rebuilt_index_agrees(
        parts in parts(), max_items in 1usize..6,
    ) {
        check(&parts, max_items, false)?;
    }
}

proptest! {
    #![proptest_config(random_cases("SAFELIGHT_LIMIT_CASES", 4))]

    #[test]
    fn no_step_exceeds_its_limit_when_a_daemon_is_killed_at_work(
        parts in parts(), max_items in 1usize..6,
    ) {
        check(&parts, max_items, true)?;
    }
}
