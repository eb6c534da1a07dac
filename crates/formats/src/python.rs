//! JSON values as Python prints them: digests are made of that text.

use std::fmt::Write;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// Returns `json.dumps(value, sort_keys=True)`: separated by `", "` and `": "`, with non-ASCII characters escaped.
pub(super) fn json(value: &Value) -> String {
    let mut text = String::new();
    write_json(value, &mut text);
    text
}

fn write_json(value: &Value, text: &mut String) {
    match value {
        Value::Array(values) => {
            text.push('[');
            for (i, value) in values.iter().enumerate() {
                text.push_str(if i > 0 { ", " } else { "" });
                write_json(value, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            text.push('{');
            for (i, (name, value)) in fields.into_iter().enumerate() {
                text.push_str(if i > 0 { ", " } else { "" });
                write_json(&name.as_str().into(), text);
                text.push_str(": ");
                write_json(value, text);
            }
            text.push('}');
        }
        scalar => {
            for c in scalar.to_string().chars() {
                if c.is_ascii() && c != '\x7f' {
                    text.push(c);
                } else {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        push(text, format_args!("\\u{unit:04x}"));
                    }
                }
            }
        }
    }
}

/// Returns `repr(value)` of a list, dict, text or number.
pub(super) fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => repr_text(text),
        Value::Array(values) => {
            format!("[{}]", values.iter().map(repr).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let field =
                |(name, value): (&String, &Value)| format!("{}: {}", repr_text(name), repr(value));
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
    }
}

fn repr_text(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut shown = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            '\\' => shown.push_str("\\\\"),
            c if c == quote => shown.extend(['\\', c]),
            c if is_printable(c) => shown.push(c),
            c => match u32::from(c) {
                code @ ..=0xff => push(&mut shown, format_args!("\\x{code:02x}")),
                code @ ..=0xffff => push(&mut shown, format_args!("\\u{code:04x}")),
                code => push(&mut shown, format_args!("\\U{code:08x}")),
            },
        }
    }
    shown.push(quote);
    shown
}

/// Returns whether Python prints a character unescaped: it is a space, or not of the categories "other" and
/// "separator".
fn is_printable(c: char) -> bool {
    static HIDDEN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[\p{C}\p{Z}]").ok());
    let mut bytes = [0; 4];
    c == ' ' || HIDDEN.as_ref().is_some_and(|hidden| !hidden.is_match(c.encode_utf8(&mut bytes)))
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String never fails.
    text.write_fmt(what).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_printed_as_python_prints_them() {
        // Python 3.11: repr(value), json.dumps(value, sort_keys=True).
        let value =
            json!([{"name": "it's", "id": 0}, {"id": 1.5, "name": "é\"\n"}, null, true, "猫😀"]);
        assert_eq!(
            repr(&value),
            "[{'name': \"it's\", 'id': 0}, {'id': 1.5, 'name': 'é\"\\n'}, None, True, '猫😀']"
        );
        assert_eq!(
            repr(&json!("a\u{a0}👩\u{200d}🔬\u{e0001} é")),
            "'a\\xa0👩\\u200d🔬\\U000e0001 é'"
        );
        assert_eq!(
            json(&value),
            r#"[{"id": 0, "name": "it's"}, {"id": 1.5, "name": "\u00e9\"\n"}, null, true, "\u732b\ud83d\ude00"]"#
        );
    }
}
