//! `docs/configuration.md`: every setting in a table.

#![expect(clippy::format_push_string, reason = "the text is short")]

use serde_json::Value;

use super::{bytes_in_words, description, is_common, kinds, sections, settings, shown, toml};

const HEAD: &str = "\
# Configuration

Safelight reads one TOML file: the one that `--config` names, else the first that exists of
`$XDG_CONFIG_HOME/safelight/safelight.toml` (`~/.config/…`) and `/etc/safelight/safelight.toml`. Unknown names are errors.
Relative paths start at the folder of the file. No command needs a file but a daemon without directories on its command
line, and `validate`.

- [config/safelight.toml](../config/safelight.toml) is an example with every setting.
- [config/default.toml](../config/default.toml) is what packages and `safelight service install` begin with. It sets places
  and changes no picture.
- [config/safelight.schema.json](../config/safelight.schema.json) is a JSON schema: editors complete and check the file
  with it. For Taplo and editors that use it, begin the file with `#:schema PATH/safelight.schema.json`.
- `safelight validate --config FILE` checks a file and points at the first mistake.

`safelight reload` applies a changed file to a running daemon, whole or not at all. Settings marked *restart* take effect
at the next start; a reload logs a warning if one of them has changed.

This page is written by a test from the types that read the file (`SAFELIGHT_UPDATE=1 cargo test --test it configuration`).
";

pub(super) fn page() -> String {
    let mut page = HEAD.to_owned();
    for (name, section) in &sections() {
        match (name.as_str(), section.get("items")) {
            ("sync", _) => targets(&mut page, section),
            (_, Some(table)) => {
                page.push_str(&format!("\n## `[[{name}]]`\n\n{}\n", description(section)));
                table_of(&mut page, table, |_| true);
            }
            _ => {
                page.push_str(&format!("\n## `[{name}]`\n\n{}\n", description(section)));
                table_of(&mut page, section, |_| true);
            }
        }
        if name == "image" {
            let rule = &settings(section)["rule"];
            page.push_str(&format!("\n## `[[image.rule]]`\n\n{}\n", description(rule)));
            table_of(&mut page, &rule["items"], |name| name == "key");
        }
    }
    page
}

fn targets(page: &mut String, sync: &Value) {
    page.push_str(&format!("\n## `[sync.NAME]`\n\n{}\n", description(sync)));
    page.push_str("\n### Settings of every kind\n");
    let kinds = kinds(sync);
    table_of(page, &kinds[0], |name| is_common(sync, name) && name != "kind");
    for kind in kinds {
        let name = settings(kind)["kind"]["const"].as_str().expect("a kind");
        page.push_str(&format!("\n### `kind = {name:?}`\n\n{}\n", description(kind)));
        table_of(page, kind, |name| !is_common(sync, name));
    }
}

fn table_of(page: &mut String, table: &Value, is_shown: impl Fn(&str) -> bool) {
    page.push_str("\n| Setting | Value | Default | Changed by | Meaning |\n");
    page.push_str("| --- | --- | --- | --- | --- |\n");
    for (name, setting) in settings(table) {
        if !is_shown(name) || setting["items"]["properties"].is_object() {
            continue;
        }
        let is_required = table["required"]
            .as_array()
            .is_some_and(|required| required.iter().any(|required| required == name));
        let changed_by = if setting["x-restart"] == true { "restart" } else { "reload" };
        let cells = [
            format!("`{name}`"),
            value(name, setting),
            default(name, setting, is_required),
            changed_by.to_owned(),
            description(setting).to_owned(),
        ];
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        page.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
}

/// The type of a setting's value, its unit and its bounds.
fn value(name: &str, setting: &Value) -> String {
    if let Some(words) = words(setting) {
        return words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    }
    if setting["oneOf"][0]["properties"]["credential"].is_object() {
        return "secret".to_owned();
    }
    let any: Vec<String> = ["anyOf", "oneOf"]
        .into_iter()
        .filter_map(|name| setting[name].as_array())
        .flatten()
        .map(|one| value(name, one))
        .collect();
    if !any.is_empty() {
        return any.join(" or ");
    }
    match setting["type"].as_str().unwrap_or_default() {
        "integer" => number(name, setting),
        "number" => "number".to_owned(),
        "boolean" => "`true` or `false`".to_owned(),
        "array" => format!("list of {}", value(name, &setting["items"])),
        "object" => {
            let fields = settings(setting).iter();
            let fields = fields.map(|(name, field)| format!("`{name}`: {}", value(name, field)));
            format!("table ({})", fields.collect::<Vec<_>>().join("; "))
        }
        _ if shown(setting).as_str().is_some_and(|example| example.starts_with('/')) => {
            "path".to_owned()
        }
        _ => "text".to_owned(),
    }
}

/// The words that a setting may be.
fn words(setting: &Value) -> Option<Vec<String>> {
    let quoted = |word: &Value| word.to_string();
    if let Some(words) = setting["enum"].as_array() {
        return Some(words.iter().map(quoted).collect());
    }
    let variants = setting["oneOf"].as_array()?;
    variants.iter().map(|variant| variant.get("const").map(quoted)).collect()
}

fn number(name: &str, setting: &Value) -> String {
    let unit = unit(name);
    let bounds = match (setting["minimum"].as_u64(), setting["maximum"].as_u64()) {
        (min, Some(max)) if max != u64::from(u32::MAX) => format!("{} to {max}", min.unwrap_or(0)),
        (min, _) => format!("at least {}", min.unwrap_or(0)),
    };
    format!("{unit}, {bounds}")
}

/// The unit that ends a setting's name.
fn unit(name: &str) -> &'static str {
    const UNITS: [(&str, &str); 9] = [
        ("bytes_per_s", "bytes per second"),
        ("bytes", "bytes"),
        ("_ms", "milliseconds"),
        ("_days", "days"),
        ("_s", "seconds"),
        ("dimension", "pixels"),
        ("downscale", "pixels"),
        ("padding", "pixels"),
        ("pixels", "pixels"),
    ];
    let is_unit = |unit: &str| match unit.strip_prefix('_') {
        Some(_) => {
            name.ends_with(unit)
                || name.contains(&format!("{unit}_max"))
                || name.contains(&format!("{unit}_min"))
        }
        None => name.contains(unit),
    };
    UNITS.into_iter().find(|(unit, _)| is_unit(unit)).map_or("whole number", |(_, words)| words)
}

fn default(name: &str, setting: &Value, is_required: bool) -> String {
    match setting.get("default") {
        _ if is_required => "required".to_owned(),
        None => "unset".to_owned(),
        Some(default) => {
            let words = bytes_in_words(name, default);
            let words = words.map_or_else(String::new, |words| format!(" ({words})"));
            format!("`{}`{words}", toml(default))
        }
    }
}
