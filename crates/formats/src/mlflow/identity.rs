//! The name, tags and parameters of an `MLflow` run, made from `safelight.json`.

use serde_json::{Map, Value};

use safelight_image::media::RunId;

/// The most parameters of one request.
const PARAMETERS_MAX: usize = 100;
/// The longest name that the server accepts, and the longest value that every version of it accepts.
const NAME_CHARS_MAX: usize = 250;
const VALUE_CHARS_MAX: usize = 500;

/// Returns the run's name: the `name` of `safelight.json`, else the run's id.
#[must_use]
pub fn run_name(run: &RunId, identity: &Map<String, Value>) -> String {
    let named = identity.get("name").and_then(Value::as_str).filter(|name| !name.trim().is_empty());
    named.unwrap_or(run.as_str()).to_owned()
}

/// Returns the tags of the run: `safelight.run`, by which Safelight finds the run again, its origin, and the run's
/// own tags. Each entry of a list becomes a tag with the value `true`.
#[must_use]
pub fn tags(run: &RunId, identity: &Map<String, Value>) -> Vec<(String, String)> {
    let mut tags = vec![("safelight.run".to_owned(), run.folder())];
    for field in ["project", "entity", "group", "job_type"] {
        let value = identity.get(field).and_then(text);
        tags.extend(value.map(|value| (format!("safelight.{field}"), value)));
    }
    let own: Vec<(String, String)> = match identity.get("tags") {
        Some(Value::Array(names)) => {
            let names = names.iter().filter_map(text);
            names.map(|name| (name, "true".to_owned())).collect()
        }
        Some(Value::Object(tags)) => {
            tags.iter().filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
        }
        _ => Vec::new(),
    };
    for (name, value) in own.into_iter().take(PARAMETERS_MAX) {
        // `mlflow.*` is reserved for the server, and `safelight.run` for us.
        let is_free = !name.starts_with("mlflow.") && !name.starts_with("safelight.");
        if is_free && is_name(&name) && tags.iter().all(|(other, _)| *other != name) {
            tags.push((name, value));
        }
    }
    tags
}

/// Returns the parameters of the run: the plain values of its `config`, in their order. Values of nested objects
/// have dots in their names.
#[must_use]
pub fn parameters(identity: &Map<String, Value>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if let Some(Value::Object(config)) = identity.get("config") {
        collect("", config, &mut found);
    }
    found
}

fn collect(above: &str, config: &Map<String, Value>, found: &mut Vec<(String, String)>) {
    for (name, value) in config {
        let name = format!("{above}{name}");
        match value {
            Value::Object(config) => collect(&format!("{name}."), config, found),
            value => {
                let is_new = found.iter().all(|(other, _)| *other != name);
                let value = text(value).filter(|_| is_name(&name) && is_new);
                if found.len() < PARAMETERS_MAX {
                    found.extend(value.map(|value| (name, value)));
                }
            }
        }
    }
}

/// Returns a plain value as text, cut to the longest value.
fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    Some(text.chars().take(VALUE_CHARS_MAX).collect())
}

/// Returns whether the server accepts the name: it allows some characters only, and the name must be a normal path.
fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ' | ':' | '/');
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..");
    name.chars().all(is_plain)
        && name.chars().count() <= NAME_CHARS_MAX
        && name.split('/').all(is_segment)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn identity(value: Value) -> Map<String, Value> {
        let Value::Object(identity) = value else { panic!("{value}") };
        identity
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn tags_and_parameters_are_what_the_run_says() {
        let run = RunId::new("a/b").expect("a name");
        let of = identity(json!({
            "name": "nice", "project": "vision", "entity": 7, "group": null, "job_type": ["x"],
            "tags": ["base line", "mlflow.user", "safelight.run", "a//b", "a#b", "base line", {"no": 1}, "é"],
            "config": {"lr": 0.001, "opt": {"name": "adam", "beta": [1, 2], "fused": true}, "none": null,
                       "opt.name": "again", "a?": 1},
        }));
        assert_eq!(run_name(&run, &of), "nice");
        let want = [
            ("safelight.run", "a%2Fb"),
            ("safelight.project", "vision"),
            ("safelight.entity", "7"),
            ("base line", "true"),
            ("é", "true"),
        ];
        assert_eq!(tags(&run, &of), pairs(&want));
        let want = [("lr", "0.001"), ("opt.name", "adam"), ("opt.fused", "true")];
        assert_eq!(parameters(&of), pairs(&want));
        let of = identity(json!({"tags": {"stage": "val"}, "name": " "}));
        assert_eq!(tags(&run, &of)[1..], pairs(&[("stage", "val")]));
        assert_eq!(run_name(&run, &of), "a/b");
    }

    #[test]
    fn there_are_never_too_many_or_too_long_ones() {
        let many: Map<String, Value> =
            (0..300).map(|i| (format!("p{i}"), json!("é".repeat(900)))).collect();
        let of = identity(json!({"config": many, "tags": {"x".repeat(251): 1}}));
        let found = parameters(&of);
        assert_eq!(found.len(), 100);
        assert!(found.iter().all(|(_, value)| value.chars().count() == 500));
        assert_eq!(tags(&RunId::new("r").expect("a name"), &of).len(), 1);
    }
}
