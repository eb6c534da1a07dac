//! An item in words.

use std::path::Path;

use serde_json::Value;

use crate::cli::common::Commands;
use crate::cli::format::{bytes, printable, short};
use crate::media::Rule;
use crate::shell::quoted_path;

/// The width of the names before the facts.
const NAME_WIDTH: usize = 9;

/// An item in words: a line that names it, then a line for each fact. `store` is the store's directory.
pub(super) fn in_words(item: &Value, store: &Path, commands: &Commands) -> String {
    let text = |name: &str| item[name].as_str().map(printable);
    let place = |name: &str| item[name].as_u64().map(|n| format!(", {name} {n}"));
    let key = text("key").unwrap_or_else(|| "no key".to_owned());
    let places: String = ["step", "index"].into_iter().filter_map(place).collect();
    let mut lines = vec![format!("{key}{places}: {}\n", state(item))];
    let mut add = |name: &str, fact: Option<String>| {
        let fact = fact.filter(|fact| !fact.is_empty());
        lines.extend(fact.map(|fact| format!("  {name:NAME_WIDTH$} {fact}\n")));
    };
    add("reason", text("reason"));
    add("help", help(item, commands));
    add("picture", picture(item));
    let file = |path: &str| quoted_path(&store.join(path));
    add("file", item["path"].as_str().map(file));
    add("caption", caption(&item["caption"]));
    add("rule", rule(item));
    add("values", values(&item["stats"]));
    add("axes", axes(item));
    add("colormap", text("colormap"));
    let names = |name: &str| {
        let sets = item[name].as_object()?.keys().map(|name| printable(name));
        Some(sets.collect::<Vec<_>>().join(", "))
    };
    add("boxes", names("boxes"));
    add("masks", names("masks"));
    add("classes", classes(item));
    add("dump", source(&item["source"]));
    for warning in item["warnings"].as_array().into_iter().flatten() {
        add("warning", warning.as_str().map(printable));
    }
    lines.concat()
}

fn state(item: &Value) -> &'static str {
    match (item["state"].as_str(), item["class"].as_str()) {
        (Some("image"), _) if item["pruned"] == true => "image, its file removed by [retention]",
        (Some("image"), _) => "image",
        (Some("held"), _) => "held",
        (_, Some("waiting")) => "waiting",
        _ => "rejected",
    }
}

/// What makes an image of an item that is none.
fn help(item: &Value, commands: &Commands) -> Option<String> {
    let release = || commands.line("release");
    match (item["state"].as_str()?, item["class"].as_str()) {
        ("image", _) => None,
        ("held", _) => Some(format!("raise the limit in the configuration, then: {}", release())),
        (_, Some("waiting")) => {
            let when = "when the dump or a limit changes";
            Some(format!("it is tried again {when}, and by: {}", release()))
        }
        _ => Some("it is tried again if the dump is written anew".to_owned()),
    }
}

fn picture(item: &Value) -> Option<String> {
    let (width, height) = (item["width"].as_u64()?, item["height"].as_u64()?);
    let mode =
        item["mode"].as_str().map_or_else(String::new, |mode| format!(" {}", printable(mode)));
    let kind = item["file_type"].as_str().unwrap_or("file").to_uppercase();
    let size = item["size"].as_u64().map_or_else(String::new, |n| format!(" of {}", bytes(n)));
    let from = &item["downscaled_from"];
    let from = match (from[0].as_u64(), from[1].as_u64()) {
        (Some(width), Some(height)) => format!(", scaled down from {width}×{height}"),
        _ => String::new(),
    };
    Some(format!("{width}×{height}{mode}, {}{size}{from}", printable(&kind)))
}

fn caption(caption: &Value) -> Option<String> {
    match caption {
        Value::Null => None,
        Value::String(text) => Some(printable(text)),
        other => Some(printable(&other.to_string())),
    }
}

/// The rule, and what it does.
fn rule(item: &Value) -> Option<String> {
    let name = item["rule"].as_str()?;
    let known = Rule::ALL.into_iter().find(|rule| rule.name() == name);
    let profile = item["profile"]
        .as_str()
        .map_or_else(String::new, |profile| format!(" (profile {})", printable(profile)));
    let range = &item["range"];
    Some(match (known, range[0].as_f64(), range[1].as_f64()) {
        (Some(Rule::Range), Some(low), Some(high)) => {
            let white = if item["mode"] == "I;16" { 65535 } else { 255 };
            let (low, high) = (short(low), short(high));
            format!("range: {low} becomes 0 and {high} becomes {white}{profile}")
        }
        (Some(rule), ..) => format!("{name}: {}{profile}", rule.in_words()),
        (None, ..) => format!("{}{profile}", printable(name)),
    })
}

/// The statistics of the values before conversion.
fn values(stats: &Value) -> Option<String> {
    let number = |name: &str| stats[name].as_f64();
    stats.as_object()?;
    let mut facts = Vec::new();
    match (number("min"), number("max")) {
        (Some(min), Some(max)) if stats["constant"] == true || min == max => {
            facts.push(format!("all {}", short(min)));
        }
        (Some(min), Some(max)) => facts.push(format!("{} to {}", short(min), short(max))),
        _ => facts.push("none is finite".to_owned()),
    }
    let of = |name: &str, word: &str| number(name).map(|value| format!("{word} {}", short(value)));
    facts.extend(of("mean", "mean"));
    facts.extend(of("std", "deviation"));
    for (name, word) in [("nan", "NaN"), ("inf", "infinite")] {
        let n = stats[name].as_u64().filter(|n| *n > 0);
        facts.extend(n.map(|n| format!("{} {word}", indicatif::HumanCount(n))));
    }
    let clipped = number("clipped").filter(|share| *share > 0.0);
    facts.extend(clipped.map(|share| format!("{} % clipped", short(100.0 * share))));
    Some(facts.join(", "))
}

fn axes(item: &Value) -> Option<String> {
    let format = printable(item["format"].as_str()?);
    let is_guessed = item["format_guessed"] == true;
    Some(if is_guessed { format!("{format}, a guess: `format` settles it") } else { format })
}

fn classes(item: &Value) -> Option<String> {
    let n = item["classes"].as_array()?.len() as u64;
    let noun = if n == 1 { "class" } else { "classes" };
    Some(format!("{} {noun}", indicatif::HumanCount(n)))
}

/// The dump, and the line that names it.
fn source(source: &Value) -> Option<String> {
    let path = printable(source["path"].as_str()?);
    let tensor = source["tensor"]
        .as_str()
        .map_or_else(String::new, |name| format!(", tensor {}", printable(name)));
    let line = match (source["log"].as_str(), source["line"].as_u64()) {
        (Some(log), Some(line)) if log != path => {
            format!(", line {} of {}", indicatif::HumanCount(line), printable(log))
        }
        _ => String::new(),
    };
    Some(format!("{path}{tensor}{line}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_image_is_explained_and_control_characters_are_replaced() {
        let item = json!({
            "state": "image", "key": "val/pred", "step": 120, "index": 0, "path": "runs/r/my file.png",
            "file_type": "png", "mode": "RGB", "width": 8, "height": 4, "size": 2000,
            "caption": "a\u{1b}[2Jb", "profile": "auto", "rule": "x255", "format": "HWC",
            "format_guessed": true,
            "stats": {"min": 0.0, "max": 1.0, "mean": 0.5, "std": 0.25, "nan": 3, "inf": 0, "clipped": 0.015},
            "boxes": {"truth": {}}, "warnings": ["odd"],
            "source": {"path": "t/1.npy", "log": "a.media.jsonl", "line": 7},
        });
        let want = "\
val/pred, step 120, index 0: image
  picture   8×4 RGB, PNG of 2.00 kB
  file      '/store/runs/r/my file.png'
  caption   a\u{FFFD}[2Jb
  rule      x255: values of 0 to 1, times 255 (profile auto)
  values    0 to 1, mean 0.5, deviation 0.25, 3 NaN, 1.5 % clipped
  axes      HWC, a guess: `format` settles it
  boxes     truth
  dump      t/1.npy, line 7 of a.media.jsonl
  warning   odd
";
        assert_eq!(in_words(&item, Path::new("/store"), &Commands::default()), want);
    }

    #[test]
    fn an_item_without_a_picture_says_why_and_what_helps() {
        for (item, want) in [
            (
                json!({"state": "held", "key": "k", "step": 1, "index": 3, "reason": "max_items: 3",
                       "source": {"path": "a.npy"}}),
                "k, step 1, index 3: held\n  reason    max_items: 3\n  help      raise the limit",
            ),
            (
                json!({"state": "rejected", "class": "waiting", "reason": "missing",
                       "source": {"path": "a.npy"}}),
                "no key: waiting\n  reason    missing\n  help      it is tried again when",
            ),
            (
                json!({"state": "rejected", "class": "final", "key": "k", "step": 1, "reason": "bad",
                       "source": {"path": "a.npy", "tensor": "x"}}),
                "k, step 1: rejected\n  reason    bad\n  help      it is tried again if",
            ),
        ] {
            let words = in_words(&item, Path::new("/store"), &Commands::default());
            assert!(words.starts_with(want), "{words}");
        }
    }

    #[test]
    fn each_rule_has_words() {
        for rule in Rule::ALL {
            let name = serde_json::to_value(rule).expect("a rule");
            assert_eq!(name, rule.name());
            let item = json!({"rule": name, "profile": "auto"});
            let want = format!("{}: {} (profile auto)", rule.name(), rule.in_words());
            assert_eq!(self::rule(&item), Some(want));
        }
        let item = json!({"rule": "range", "range": [0.0, 80.0], "mode": "I;16"});
        assert_eq!(rule(&item).as_deref(), Some("range: 0 becomes 0 and 80 becomes 65535"));
    }
}
