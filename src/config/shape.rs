//! Whether each section of the file is a table, or a list of tables, as its schema says.
//!
//! Serde would take a list for a struct, field by field, and names types of Rust where a section is something else.

use std::ops::Range;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::file::ConfigFile;
use super::section_schema;

/// Finds a section that is no table or no list of tables: where it is, and what is wrong.
pub(super) fn mistake(root: &DeTable<'_>) -> Option<(Range<usize>, String)> {
    let schema = section_schema::of::<ConfigFile>();
    in_table(root, schema.as_value(), "")
}

fn in_table(table: &DeTable<'_>, schema: &Value, path: &str) -> Option<(Range<usize>, String)> {
    table.iter().find_map(|(name, value)| {
        let name: &str = name.get_ref();
        let schema = schema["properties"].get(name).or(schema.get("additionalProperties"))?;
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        in_value(value, schema, &path)
    })
}

fn in_value(
    value: &Spanned<DeValue<'_>>,
    schema: &Value,
    path: &str,
) -> Option<(Range<usize>, String)> {
    let wrong = |value: &Spanned<DeValue<'_>>, want: String| {
        Some((value.span(), format!("got {}, want {want}", kind(value.get_ref()))))
    };
    if is_of_tables(schema) {
        let section = match schema.get("additionalProperties") {
            Some(Value::Object(_)) => format!("[{path}.NAME]"),
            _ => format!("[{path}]"),
        };
        match value.get_ref() {
            DeValue::Table(table) => in_table(table, schema, path),
            _ => wrong(value, format!("a table: {section}")),
        }
    } else if schema["type"] == "array" && is_of_tables(&schema["items"]) {
        let DeValue::Array(items) = value.get_ref() else {
            return wrong(value, format!("a list of tables: [[{path}]]"));
        };
        items.iter().find_map(|item| match item.get_ref() {
            DeValue::Table(table) => in_table(table, &schema["items"], path),
            _ => wrong(item, format!("a table: [[{path}]]")),
        })
    } else {
        None
    }
}

/// Whether a schema describes a table, or tables of several kinds.
fn is_of_tables(schema: &Value) -> bool {
    let kinds = schema["oneOf"].as_array();
    schema["type"] == "object"
        || kinds.is_some_and(|kinds| kinds.iter().all(|kind| kind["type"] == "object"))
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Option<String> {
        let root = DeTable::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        mistake(root.get_ref()).map(|(_, message)| message)
    }

    #[test]
    fn every_section_is_a_table_or_a_list_of_tables() {
        let schema = section_schema::of::<ConfigFile>();
        let sections = schema.get("properties").and_then(Value::as_object).expect("sections");
        assert!(sections.len() >= 10, "{sections:?}");
        for (name, section) in sections {
            let is_list = section["type"] == "array";
            for (value, got) in
                [("\"x\"", "a string"), ("3", "a number"), ("true", "true or false")]
            {
                let want = if is_list { "a list of tables: [[" } else { "a table: [" };
                let message = check(&format!("{name} = {value}")).expect("a mistake");
                assert!(message.starts_with(&format!("got {got}, want {want}{name}")), "{message}");
            }
            let other = if is_list { format!("[{name}]") } else { format!("[[{name}]]") };
            assert!(check(&other).is_some(), "{other}");
        }
    }

    #[test]
    fn tables_in_sections_are_checked_and_other_values_are_not() {
        for (text, want) in [
            ("store = [\"/x\"]", "got a list, want a table: [store]"),
            ("watch = [\"x\"]", "got a string, want a table: [[watch]]"),
            ("[image]\nrule = \"a\"", "got a string, want a list of tables: [[image.rule]]"),
            ("[image]\nrule = [3]", "got a number, want a table: [[image.rule]]"),
            ("sync = 3", "got a number, want a table: [sync.NAME]"),
            ("[sync]\na = 3", "got a number, want a table: [sync.a]"),
        ] {
            assert_eq!(check(text).as_deref(), Some(want), "{text}");
        }
        for text in ["", "unknown = 3", "[store]\npath = 3", "[sync.x]\nkind = 3\ntoken = {}"] {
            assert_eq!(check(text), None, "{text}");
        }
    }
}
