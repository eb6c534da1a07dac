//! Conditions on items, as in `safelight ls --where 'nan>0'`, and the search text of the gallery, which is made of them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::media::{MediaEntry, State};

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
pub struct Condition {
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
    /// A condition that an item's caption contains a text.
    fn on_caption(text: &str) -> Self {
        let value = Value::String(text.to_owned());
        Self { pointer: "/caption".to_owned(), op: Op::Contains, value }
    }

    /// The name of the item's field that the condition is on.
    #[must_use]
    pub fn field(&self) -> &str {
        let path = self.pointer.strip_prefix('/').unwrap_or(&self.pointer);
        path.split_once('/').map_or(path, |(field, _)| field)
    }

    /// Whether the condition holds for an item.
    #[must_use]
    pub fn holds(&self, item: &Value) -> bool {
        self.holds_for(item.pointer(&self.pointer))
    }

    /// Whether the condition holds for an item of which some fields were read, this one among them.
    #[must_use]
    pub fn holds_in(&self, fields: &BTreeMap<String, Value>) -> bool {
        let field = self.field();
        let value = fields.get(field);
        let rest = &self.pointer[(1 + field.len()).min(self.pointer.len())..];
        self.holds_for(value.and_then(|value| value.pointer(rest)))
    }

    fn holds_for(&self, got: Option<&Value>) -> bool {
        let got = got.unwrap_or(&Value::Null);
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

/// A part of a search text.
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    /// A condition, such as `nan>0`. A word is one on the caption.
    Where(Condition),
    /// `step:120`, `step:100..200`, `step:100..` or `step:..200`: the first and the last step, both included.
    Steps(u64, u64),
    /// `state:image`, `state:held` or `state:rejected`.
    State(State),
}

impl FromStr for Term {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(steps) = text.strip_prefix("step:") {
            let bad = || {
                let want = "want a step, such as 120, or steps, such as 100..200";
                format!("got {steps:?} after step:, {want}")
            };
            let number = |text: &str, default| {
                if text.is_empty() { Ok(default) } else { text.parse().map_err(|_| bad()) }
            };
            let (first, last) = match steps.split_once("..") {
                None => (steps.parse().map_err(|_| bad())?, steps.parse().map_err(|_| bad())?),
                Some((first, last)) => (number(first, 0)?, number(last, u64::MAX)?),
            };
            return Ok(Self::Steps(first, last));
        }
        if let Some(state) = text.strip_prefix("state:") {
            return match state {
                "image" => Ok(Self::State(State::Image)),
                "held" => Ok(Self::State(State::Held)),
                "rejected" => Ok(Self::State(State::Rejected)),
                _ => Err(format!("got {state:?} after state:, want image, held or rejected")),
            };
        }
        let is_condition = text.char_indices().any(|(at, sign)| at > 0 && "!<>=~".contains(sign));
        if is_condition { text.parse().map(Self::Where) } else { Ok(Self::on_caption(text)) }
    }
}

impl Term {
    fn on_caption(text: &str) -> Self {
        Self::Where(Condition::on_caption(text))
    }
}

/// Splits a search text at white space, but not within double quotes. A quoted word is always one on the caption.
///
/// # Errors
/// Which part is wrong, and what it should be.
pub fn terms(text: &str) -> Result<Vec<Term>, String> {
    let mut terms = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some((quoted, after)) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'))
        {
            terms.push(Term::on_caption(quoted));
            rest = after.trim_start();
            continue;
        }
        let mut is_quoted = false;
        let end = rest.find(|sign: char| {
            is_quoted ^= sign == '"';
            sign.is_whitespace() && !is_quoted
        });
        let (term, after) = rest.split_at(end.unwrap_or(rest.len()));
        terms.push(term.parse()?);
        rest = after.trim_start();
    }
    Ok(terms)
}

/// Reads some fields of an item's JSON, without the others.
///
/// # Errors
/// If it is no JSON object.
pub fn read_fields(json: &[u8], names: &[&str]) -> serde_json::Result<BTreeMap<String, Value>> {
    struct Fields<'a>(&'a [&'a str]);

    impl<'de> Visitor<'de> for Fields<'_> {
        type Value = BTreeMap<String, Value>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = BTreeMap::new();
            while let Some(name) = map.next_key_seed(Name(self.0))? {
                match name {
                    Some(name) => drop(fields.insert(name, map.next_value()?)),
                    None => drop(map.next_value::<IgnoredAny>()?),
                }
            }
            Ok(fields)
        }
    }

    /// A name of a field, if it is one of these.
    struct Name<'a>(&'a [&'a str]);

    impl<'de> DeserializeSeed<'de> for Name<'_> {
        type Value = Option<String>;

        fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
            from.deserialize_str(self)
        }
    }

    impl Visitor<'_> for Name<'_> {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a name")
        }

        fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
            Ok(self.0.contains(&name).then(|| name.to_owned()))
        }
    }

    let mut reader = serde_json::Deserializer::from_slice(json);
    let fields = reader.deserialize_map(Fields(names))?;
    reader.end()?;
    Ok(fields)
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
        let condition = Condition::from_str(text)?;
        let json = item.to_string();
        let fields = read_fields(json.as_bytes(), &[condition.field()]).expect("an object");
        assert_eq!(condition.holds_in(&fields), condition.holds(&item), "{text}");
        Ok(condition.holds(&item))
    }

    #[test]
    fn a_search_text_is_made_of_terms() {
        let on = |text: &str| Term::Where(text.parse().expect("a condition"));
        for (text, want) in [
            ("", vec![]),
            ("  car ", vec![on("caption~car")]),
            ("nan>0 red   car", vec![on("nan>0"), on("caption~red"), on("caption~car")]),
            ("\"red car\" key~val", vec![on("caption~red car"), on("key~val")]),
            ("\"nan>0\"", vec![Term::Where(Condition::on_caption("nan>0"))]),
            ("caption~\"red car\" x", vec![on("caption~red car"), on("caption~x")]),
            ("step:100..200", vec![Term::Steps(100, 200)]),
            (
                "step:7 step:7.. step:..7",
                vec![Term::Steps(7, 7), Term::Steps(7, u64::MAX), Term::Steps(0, 7)],
            ),
            ("state:held", vec![Term::State(State::Held)]),
            ("a:b", vec![on("caption~a:b")]),
            ("\"open", vec![Term::Where(Condition::on_caption("\"open"))]),
        ] {
            assert_eq!(terms(text), Ok(want), "{text}");
        }
        for (text, want) in [
            ("car nam>0", "no field \"nam\": did you mean \"nan\"?"),
            ("step:x", "got \"x\" after step:, want a step"),
            ("step:", "got \"\" after step:, want a step"),
            ("state:hold", "got \"hold\" after state:, want image, held or rejected"),
        ] {
            assert!(terms(text).is_err_and(|error| error.starts_with(want)), "{text}");
        }
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
