//! A configuration that cannot be used: what is wrong, where, and the name that was perhaps meant.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::section_schema;
use super::sync::{TargetConfig, TargetTable, common_names};

/// A configuration that cannot be used. Line and column count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// Line and column of the mistake.
    pub place: Option<(usize, usize)>,
    /// What was got and what was wanted.
    pub message: String,
    /// A name that was perhaps meant.
    pub suggestion: Option<String>,
    /// The line of the file.
    pub line: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)?;
        if let (Some((number, column)), Some(line)) = (self.place, &self.line) {
            let margin = " ".repeat(number.to_string().len());
            let before: String =
                line.chars().take(column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
            write!(f, "\n{margin} |\n{number} | {line}\n{margin} | {before}^")?;
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, " did you mean {suggestion:?}?")?;
        }
        Ok(())
    }
}

impl ConfigError {
    /// A file that cannot be read.
    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        Self {
            path: path.to_owned(),
            place: None,
            message: format!("cannot read: {error}"),
            suggestion: None,
            line: None,
        }
    }

    /// A mistake that the TOML parser or serde found in `text`.
    pub(super) fn of_toml(
        text: &str,
        path: &Path,
        error: &toml::de::Error,
        targets: &[TargetTable],
    ) -> Self {
        let message = plain(error.message().trim());
        Self::at(text, path, error.span().as_ref(), message, targets)
    }

    /// A mistake at a place in `text`. No value of a target is shown, because it may be a secret under a misspelt name.
    pub(super) fn at(
        text: &str,
        path: &Path,
        span: Option<&Range<usize>>,
        mut message: String,
        targets: &[TargetTable],
    ) -> Self {
        let place = span.map(|span| {
            let before = &text[..text.floor_char_boundary(span.start)];
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
        });
        let line = place.and_then(|(number, _)| text.lines().nth(number - 1));
        let is_of_target = place.zip(line).is_some_and(|((number, _), line)| {
            let lines = text.lines().take(number);
            let section = lines.filter(|line| line.trim_start().starts_with('[')).last();
            section.unwrap_or(line).contains("sync")
        });
        if is_of_target {
            let at = |table: &&TargetTable| span == Some(&table.span);
            message = of_target(message, targets.iter().find(at));
        }
        let suggestion = suggestion(&message);
        let line = line.map(|line| match line.split_once('=') {
            Some((name, _)) if is_of_target => format!("{name}= …"),
            _ => line.to_owned(),
        });
        Self { path: path.to_owned(), place, message, suggestion, line }
    }
}

/// Serde's message in plain words: "got …, want …", and no types of Rust.
fn plain(message: &str) -> String {
    const TYPES: [(&str, &str); 5] = [
        ("u8", "a whole number from 0 to 255"),
        ("a sequence", "a list"),
        ("a map", "a table"),
        ("path string", "a path"),
        ("socket address", "an address and a port, such as \"127.0.0.1:9464\""),
    ];
    // Of words to choose from.
    if message == "wanted string or table" {
        return "want a string".to_owned();
    }
    let wrong = message.strip_prefix("invalid value: ").or(message.strip_prefix("invalid type: "));
    let Some((got, want)) = wrong.and_then(|wrong| wrong.rsplit_once(", expected ")) else {
        return message.to_owned();
    };
    let want = TYPES.iter().find(|(of_rust, _)| *of_rust == want).map_or(want, |(_, words)| words);
    let got = match got {
        "map" => "a table",
        "sequence" => "a list",
        got => got,
    };
    format!("got {got}, want {want}")
}

/// A message about a target: without its value, with the names that every target has, with an example of a setting
/// that is missing.
fn of_target(message: String, table: Option<&TargetTable>) -> String {
    if message.starts_with("unknown field") {
        let common: Vec<String> = common_names().iter().map(|name| format!("`{name}`")).collect();
        return format!("{message}, or for any target {}", common.join(", "));
    }
    if let Some(rest) = message.strip_prefix("got string \"") {
        let want = rest.rsplit_once(", want ").map_or("", |(_, want)| want);
        return format!("got a string, want {want}");
    }
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    match (missing, table.and_then(|table| table.kind.as_deref())) {
        (Some("kind"), _) => {
            let kinds: Vec<String> =
                kinds().iter().map(|kind| kind_name(kind).to_string()).collect();
            format!("{message}: want {}", kinds.join(", "))
        }
        (Some(missing), Some(kind)) => {
            let kinds = kinds();
            let settings = kinds.iter().find(|of| *kind_name(of) == *kind);
            let example = settings.map(|of| &of["properties"][missing]["examples"][0]);
            let example =
                example.map_or_else(String::new, |example| format!(", such as {example}"));
            format!("a target of kind {kind:?} wants `{missing}`{example}")
        }
        _ => message,
    }
}

fn kinds() -> Vec<Value> {
    let schema = section_schema::of::<TargetConfig>();
    schema.get("oneOf").and_then(Value::as_array).cloned().unwrap_or_default()
}

fn kind_name(kind: &Value) -> &Value {
    &kind["properties"]["kind"]["const"]
}

/// The known name that is nearest to the unknown one of a message.
fn suggestion(message: &str) -> Option<String> {
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = names.next().filter(|_| message.starts_with("unknown "))?;
    let nearest = names.map(|name| (strsim::damerau_levenshtein(unknown, name), name)).min()?;
    (nearest.0 <= 1 + unknown.chars().count() / 3).then(|| nearest.1.to_owned())
}
