//! The example, the reference page and the schema for editors say what the types of the configuration say.
//!
//! `SAFELIGHT_UPDATE=1 cargo test --test it configuration` writes them anew.

mod example;
mod reference;

use std::fs;
use std::path::Path;

use safelight::config::{self, schema};
use serde_json::{Map, Value, json};

/// Compares a file of the repository with what it should be, or writes it.
fn check(name: &str, want: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("SAFELIGHT_UPDATE").is_some() {
        fs::write(&path, want).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let got = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    let differs = got.lines().zip(want.lines()).position(|(got, want)| got != want);
    assert!(
        got == want,
        "{name} is out of date from line {:?} on: run it again with SAFELIGHT_UPDATE=1",
        differs.map(|n| n + 1)
    );
}

/// The sections of the file, by their names.
fn sections() -> Map<String, Value> {
    let schema = schema::annotated();
    schema.get("properties").and_then(Value::as_object).expect("sections").clone()
}

/// The settings of a table.
fn settings(table: &Value) -> &Map<String, Value> {
    table["properties"].as_object().expect("settings")
}

/// The kinds of targets, each a table.
fn kinds(sync: &Value) -> &Vec<Value> {
    sync["additionalProperties"]["oneOf"].as_array().expect("kinds of targets")
}

/// Whether targets of every kind have a setting.
fn is_common(sync: &Value, name: &str) -> bool {
    kinds(sync).iter().all(|kind| settings(kind).contains_key(name))
}

/// The value that a setting is shown with: its default, or an example.
fn shown(setting: &Value) -> &Value {
    let default = setting.get("default").filter(|default| **default != json!([]));
    default.unwrap_or(&setting["examples"][0])
}

/// A value as TOML.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{name} = {}", toml(value)));
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A number of bytes in the largest unit that it is a multiple of: `8 GiB`.
fn bytes_in_words(name: &str, value: &Value) -> Option<String> {
    let bytes = value.as_u64().filter(|bytes| name.contains("bytes") && *bytes >= 1 << 20)?;
    let units = [(30, "GiB"), (20, "MiB")];
    let (shift, unit) = units.into_iter().find(|(shift, _)| bytes % (1 << shift) == 0)?;
    Some(format!("{} {unit}", bytes >> shift))
}

fn description(of: &Value) -> &str {
    of["description"].as_str().unwrap_or_default()
}

#[test]
fn the_example_is_that_of_the_types() {
    check("config/safelight.toml", &example::text());
}

#[test]
fn the_reference_page_is_that_of_the_types() {
    check("docs/configuration.md", &reference::page());
}

#[test]
fn the_schema_for_editors_is_that_of_the_types() {
    let schema = serde_json::to_string_pretty(&schema::published()).expect("a schema");
    check("config/safelight.schema.json", &(schema + "\n"));
}

#[test]
fn each_setting_says_what_it_is_and_shows_a_value() {
    let check = |place: &str, table: &Value| {
        for (name, setting) in settings(table) {
            let place = format!("{place}.{name}");
            assert!(!description(setting).is_empty() || name == "kind", "{place}");
            let is_table = setting["items"]["properties"].is_object();
            assert!(is_table || name == "kind" || !shown(setting).is_null(), "{place}");
        }
    };
    for (name, section) in &sections() {
        match (name.as_str(), section.get("items")) {
            ("sync", _) => kinds(section).iter().for_each(|kind| check(name, kind)),
            (_, Some(table)) => check(name, table),
            _ => check(name, section),
        }
        if name == "image" {
            check("image.rule", &settings(section)["rule"]["items"]);
        }
    }
}

#[test]
fn a_setting_needs_a_restart_if_the_reference_says_so() {
    let path = Path::new("/etc/safelight/safelight.toml");
    let parse = |text: &str| config::parse(text, path).unwrap_or_else(|error| panic!("{error}"));
    let defaults = parse("");
    for (section, table) in &sections() {
        let is_section = table["properties"].is_object() && section != "image";
        for (name, setting) in table["properties"].as_object().into_iter().flatten() {
            if !is_section {
                continue;
            }
            let other = match (&setting["default"], &setting["enum"], &setting["oneOf"]) {
                (Value::Number(n), ..) => json!(n.as_u64().expect("a whole number") ^ 1),
                _ if setting["examples"][0].is_object() => setting["examples"][0].clone(),
                (_, Value::Array(words), _) => words.last().expect("a word").clone(),
                (_, _, Value::Array(words)) => words.last().expect("a word")["const"].clone(),
                (Value::String(_), ..) => json!("debug"),
                (Value::Bool(on), ..) => json!(!on),
                (Value::Array(_), ..) => json!(["one more"]),
                _ if setting["type"] == "integer" => json!(7),
                _ => {
                    let example = setting["examples"][0].as_str().expect("an example");
                    json!(format!("{}0", &example[..example.len() - 1]))
                }
            };
            // 1 has a neighbour that is not allowed.
            let other = if other == json!(0) { json!(2) } else { other };
            let changed = parse(&format!("[{section}]\n{name} = {}\n", toml(&other)));
            let setting_of_boot = format!("{section}.{name}");
            let needs_restart = defaults.boot.differences(&changed.boot);
            if setting["x-restart"] == true {
                assert_eq!(needs_restart, [setting_of_boot.as_str()]);
                assert_eq!(defaults.live, changed.live.under(&defaults.boot), "{setting_of_boot}");
            } else {
                assert_eq!(needs_restart, [""; 0], "{setting_of_boot}");
                assert_ne!(defaults.live, changed.live, "{setting_of_boot}");
            }
        }
    }
}
