//! Conditions on items: `safelight ls --where 'nan>0'`.

use std::str::FromStr;

use serde_json::Value;

use crate::media::MediaEntry;

/// Fields of `stats`. Their name alone is enough: `nan` means `stats.nan`.
const STATS: [&str; 8] = ["min", "max", "mean", "std", "nan", "inf", "clipped", "constant"];

/// Fields that only some items have. All others are named by a path, such as `extra.epoch`.
const OTHERS: [&str; 10] = [
    "run",
    "range",
    "colormap",
    "format_guessed",
    "downscaled_from",
    "pruned",
    "classes",
    "boxes",
    "masks",
    "warnings",
];

const WANT: &str = "want FIELD OP VALUE, such as nan>0, std<0.01, mode=RGB or caption~car";

/// One condition.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    /// A JSON pointer into the item.
    pointer: String,
    op: Op,
    value: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Contains,
}

/// The operators. Longer ones stand first, so that `<=` is not read as `<`.
const OPS: [(&str, Op); 8] = [
    ("!=", Op::Unequal),
    ("<=", Op::LessOrEqual),
    (">=", Op::GreaterOrEqual),
    ("==", Op::Equal),
    ("=", Op::Equal),
    ("<", Op::Less),
    (">", Op::Greater),
    ("~", Op::Contains),
];

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = |sign: &str| text.find(sign).filter(|&at| at > 0);
        let found = OPS.iter().filter_map(|&(sign, op)| Some((at(sign)?, sign, op)));
        // The first operator in the text; of several at that place, the longest.
        let (at, sign, op) = found
            .min_by_key(|&(at, sign, _)| (at, std::cmp::Reverse(sign.len())))
            .ok_or_else(|| format!("got {text:?}, {WANT}"))?;
        let (field, value) = (text[..at].trim(), text[at + sign.len()..].trim());
        let value = match serde_json::from_str(value) {
            Ok(value) if op != Op::Contains => value,
            Ok(Value::String(text)) => Value::String(text),
            _ => Value::String(value.to_owned()),
        };
        if text[at + sign.len()..].starts_with(['<', '>', '=', '!', '~']) {
            let signs = "=, !=, <, <=, >, >= or ~";
            return Err(format!("got {:?}, want one of {signs}", &text[at..]));
        }
        let is_order = matches!(op, Op::Less | Op::LessOrEqual | Op::Greater | Op::GreaterOrEqual);
        if is_order && !value.is_number() {
            return Err(format!("got {value} after {sign}, want a number"));
        }
        Ok(Self { pointer: pointer(field)?, op, value })
    }
}

/// The JSON pointer of a field.
fn pointer(field: &str) -> Result<String, String> {
    if STATS.contains(&field) {
        return Ok(format!("/stats/{field}"));
    }
    let mut known = MediaEntry::FIELDS.iter().chain(&OTHERS);
    if field.contains('.') || known.any(|known| *known == field) {
        return Ok(format!("/{}", field.replace('.', "/")));
    }
    let known = MediaEntry::FIELDS.iter().chain(&STATS).chain(&OTHERS);
    let near = known.min_by_key(|known| strsim::damerau_levenshtein(known, field));
    Err(format!("no field {field:?}: did you mean {:?}? {WANT}", near.unwrap_or(&"")))
}

impl Condition {
    /// Whether the condition holds for an item.
    pub(super) fn holds(&self, item: &Value) -> bool {
        let got = item.pointer(&self.pointer).unwrap_or(&Value::Null);
        let order = match (got.as_f64(), self.value.as_f64()) {
            (Some(got), Some(want)) => got.partial_cmp(&want),
            _ => None,
        };
        let is_equal = order.map_or_else(|| *got == self.value, std::cmp::Ordering::is_eq);
        match self.op {
            Op::Equal => is_equal,
            Op::Unequal => !is_equal,
            Op::Less => order.is_some_and(std::cmp::Ordering::is_lt),
            Op::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
            Op::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
            Op::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
            Op::Contains => {
                let want = self.value.as_str().unwrap_or_default();
                match got {
                    Value::Null => false,
                    Value::String(got) => got.contains(want),
                    got => got.to_string().contains(want),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(text: &str) -> Result<bool, String> {
        let item = json!({
            "key": "val/pred", "step": 120, "mode": "RGB", "caption": "a car", "reason": null,
            "stats": {"nan": 3, "std": 0.5, "constant": false}, "extra": {"epoch": 2},
        });
        Condition::from_str(text).map(|condition| condition.holds(&item))
    }

    #[test]
    fn conditions_are_on_fields_and_statistics() {
        for text in [
            "nan>0",
            "nan > 2",
            "nan>=3",
            "nan<=3",
            "nan=3",
            "nan==3.0",
            "std<1",
            "step!=7",
            "mode=RGB",
            "mode=\"RGB\"",
            "caption~car",
            "extra.epoch=2",
            "constant=false",
            "reason=null",
            "reason!=x",
            "key~/",
        ] {
            assert_eq!(holds(text), Ok(true), "{text}");
        }
        for text in ["nan>3", "nan<3", "mode=L", "caption~bus", "max>0", "max<0", "reason~a"] {
            assert_eq!(holds(text), Ok(false), "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_is_refused_with_a_reason() {
        for (text, want) in [
            ("nan", "got \"nan\", want FIELD OP VALUE"),
            (">0", "got \">0\", want FIELD"),
            ("nam>0", "no field \"nam\": did you mean \"nan\"?"),
            ("nan=>0", "got \"=>0\", want one of ="),
            ("nan>many", "got \"many\" after >, want a number"),
        ] {
            assert!(holds(text).is_err_and(|error| error.starts_with(want)), "{text}");
        }
    }
}
