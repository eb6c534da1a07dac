//! `config/safelight.toml`: every setting, with what it means.

#![expect(clippy::format_push_string, reason = "the text is short")]

use serde_json::Value;

use super::{bytes_in_words, description, is_common, kinds, sections, settings, shown, toml};

const HEAD: &str = "\
# Safelight's configuration, with every setting. A setting that is commented out (no space after the #)
# shows its default, or an example if it has no default. Check a file with:
# safelight validate --config FILE
#
# Written by a test from the types that read it: change those. See docs/configuration.md for a table.
";

/// The options that the example of a rule shows: all may stand there.
const OF_RULE: [&str; 3] = ["key", "range", "colormap"];

/// The longest line.
const WIDTH: usize = 110;

/// Whether a setting is set in the example.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Show {
    /// If its type says so.
    AsMarked,
    /// No.
    CommentedOut,
}

pub(super) fn text() -> String {
    let mut text = HEAD.to_owned();
    for (name, section) in &sections() {
        text.push('\n');
        comment(&mut text, description(section));
        match (name.as_str(), section.get("items")) {
            ("sync", _) => targets(&mut text, section),
            (_, Some(table)) => {
                text.push_str(&format!("[[{name}]]\n"));
                table_of(&mut text, table, Show::AsMarked);
            }
            _ => {
                text.push_str(&format!("[{name}]\n"));
                table_of(&mut text, section, Show::AsMarked);
            }
        }
        if name == "image" {
            rule(&mut text, &settings(section)["rule"]);
        }
    }
    text
}

fn table_of(text: &mut String, table: &Value, show: Show) {
    for (name, setting) in settings(table) {
        if setting["items"]["properties"].is_null() {
            explained(text, name, setting, show);
        }
    }
}

fn rule(text: &mut String, rule: &Value) {
    text.push('\n');
    comment(text, description(rule));
    text.push_str("#[[image.rule]]\n");
    let options = settings(&rule["items"]);
    explained(text, "key", &options["key"], Show::CommentedOut);
    for name in OF_RULE.into_iter().filter(|name| *name != "key") {
        line(text, name, &options[name], Show::CommentedOut);
    }
}

fn targets(text: &mut String, sync: &Value) {
    for (i, kind) in kinds(sync).iter().enumerate() {
        let name = settings(kind)["kind"]["const"].as_str().expect("a kind");
        text.push('\n');
        comment(text, description(kind));
        text.push_str(&format!("#[sync.{name}]\n#kind = {name:?}\n"));
        let own = || settings(kind).iter().filter(|(name, _)| !is_common(sync, name));
        for (name, setting) in own().filter(|(_, setting)| setting["x-instead"].is_null()) {
            explained(text, name, setting, Show::CommentedOut);
        }
        if i == 0 {
            text.push('\n');
            comment(text, "The following settings may stand in a target of any kind.");
            let common = settings(kind).iter().filter(|(name, _)| is_common(sync, name));
            for (name, setting) in common.filter(|(name, _)| *name != "kind") {
                explained(text, name, setting, Show::CommentedOut);
            }
        }
        let instead: Vec<_> = own().filter(|(_, it)| it["x-instead"].is_string()).collect();
        let Some((_, first)) = instead.first() else { continue };
        let suffix = first["x-instead"].as_str().expect("a suffix");
        text.push_str(&format!("\n#[sync.{name}-{suffix}]\n#kind = {name:?}\n"));
        let is_required = |name: &str| {
            kind["required"].as_array().is_some_and(|all| all.iter().any(|it| it == name))
        };
        for (name, setting) in own().filter(|(name, _)| is_required(name)) {
            line(text, name, setting, Show::CommentedOut);
        }
        for (name, setting) in instead {
            explained(text, name, setting, Show::CommentedOut);
        }
    }
}

fn explained(text: &mut String, name: &str, setting: &Value, show: Show) {
    let mut words = description(setting).to_owned();
    if let Some(bytes) = bytes_in_words(name, &setting["default"]) {
        words.push_str(&format!(" Default: {bytes}."));
    }
    comment(text, &words);
    line(text, name, setting, show);
}

fn line(text: &mut String, name: &str, setting: &Value, show: Show) {
    let is_set = setting["x-set"] == true && show == Show::AsMarked;
    let mark = if is_set { "" } else { "#" };
    text.push_str(&format!("{mark}{name} = {}\n", toml(shown(setting))));
}

/// Writes a doc comment as comment lines, without the marks that only Markdown needs.
fn comment(text: &mut String, words: &str) {
    let is_plain =
        |code: &str| code.starts_with('"') || matches!(code, "TensorBoard" | "MLflow" | "Trackio");
    let mut plain = String::new();
    for (i, part) in words.split('`').enumerate() {
        let is_code = i % 2 == 1 && !is_plain(part);
        let mark = if is_code { "`" } else { "" };
        plain.push_str(&format!("{mark}{part}{mark}"));
    }
    for (i, paragraph) in plain.split("\n\n").enumerate() {
        if i > 0 {
            text.push_str("#\n");
        }
        let mut line = "#".to_owned();
        for word in paragraph.split_whitespace() {
            if line.chars().count() + 1 + word.chars().count() > WIDTH {
                text.push_str(&line);
                text.push('\n');
                line.truncate(1);
            }
            line.push(' ');
            line.push_str(word);
        }
        text.push_str(&line);
        text.push('\n');
    }
}
