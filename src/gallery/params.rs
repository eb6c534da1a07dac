//! The parameters of a request. Pure.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::problem::Failure;
use crate::media::{MediaKey, RunId, Step};

/// The parameters of a request's query. Each is taken once; [`Self::finish`] refuses those that are left.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

/// Where an item is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) run: RunId,
    pub(super) key: MediaKey,
    pub(super) step: Step,
    pub(super) index: u32,
}

impl Params {
    /// Reads a query, the part of a URL after `?`.
    ///
    /// # Errors
    /// If it is not `application/x-www-form-urlencoded`.
    pub(super) fn of_query(query: Option<&str>) -> Result<Self, Failure> {
        let pairs = serde_urlencoded::from_str(query.unwrap_or_default());
        let bad = |error| Failure::bad_parameter(format!("the query cannot be read: {error}"));
        pairs.map(Self).map_err(bad)
    }

    /// Takes all values of a parameter, in order.
    pub(super) fn all(&mut self, name: &str) -> Vec<String> {
        let is_named = |(of, _): &mut (String, String)| of == name;
        self.0.extract_if(.., is_named).map(|(_, value)| value).collect()
    }

    /// Takes the value of a parameter that may be missing.
    ///
    /// # Errors
    /// If there are several.
    pub(super) fn optional(&mut self, name: &str) -> Result<Option<String>, Failure> {
        let mut values = self.all(name);
        let value = values.pop();
        if values.is_empty() {
            return Ok(value);
        }
        let n = values.len() + 1;
        Err(Failure::bad_parameter(format!("got {n} values of {name:?}, want one")))
    }

    /// Takes the value of a parameter.
    ///
    /// # Errors
    /// If there is none, or there are several.
    pub(super) fn one(&mut self, name: &str) -> Result<String, Failure> {
        let value = self.optional(name)?;
        value.ok_or_else(|| Failure::bad_parameter(format!("no value of {name:?}, want one")))
    }

    /// Takes a number that may be missing.
    ///
    /// # Errors
    /// If it is no number, or not in the range.
    pub(super) fn number<T>(
        &mut self,
        name: &str,
        range: RangeInclusive<T>,
    ) -> Result<Option<T>, Failure>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.optional(name)? else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        let bad = || {
            let (low, high) = (range.start(), range.end());
            Failure::bad_parameter(format!("got {text:?} as {name:?}, want {low} to {high}"))
        };
        number.ok_or_else(bad).map(Some)
    }

    /// Takes a run's id.
    ///
    /// # Errors
    /// If it is missing or no id.
    pub(super) fn run(&mut self) -> Result<RunId, Failure> {
        self.one("run").and_then(|text| run_id(&text))
    }

    /// Takes `run`, `key`, `step` and `index`. A missing index is 0.
    ///
    /// # Errors
    /// If one is missing or invalid.
    pub(super) fn place(&mut self) -> Result<Place, Failure> {
        let run = self.run()?;
        let key = media_key(&self.one("key")?)?;
        let no_step = || Failure::bad_parameter("no value of \"step\", want one");
        let step = Step(self.number("step", 0..=u64::MAX)?.ok_or_else(no_step)?);
        let index = self.number("index", 0..=u32::MAX)?.unwrap_or(0);
        Ok(Place { run, key, step, index })
    }

    /// Refuses parameters that were not taken.
    ///
    /// # Errors
    /// If there is any.
    pub(super) fn finish(self) -> Result<(), Failure> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                Err(Failure::bad_parameter(format!("this address has no parameter {name:?}")))
            }
        }
    }
}

/// Reads a run's id.
///
/// # Errors
/// If it is none.
pub(super) fn run_id(text: &str) -> Result<RunId, Failure> {
    let bad = |error| Failure::bad_parameter(format!("got {text:?} as \"run\": {error}"));
    RunId::new(text).map_err(bad)
}

/// Reads a key.
///
/// # Errors
/// If it is none.
pub(super) fn media_key(text: &str) -> Result<MediaKey, Failure> {
    let bad = |error| Failure::bad_parameter(format!("got {text:?} as \"key\": {error}"));
    MediaKey::new(text).map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(query: &str) -> Result<Place, String> {
        let place = Params::of_query(Some(query)).and_then(|mut params| {
            let place = params.place()?;
            params.finish()?;
            Ok(place)
        });
        place.map_err(|failure| failure.problem().detail.clone())
    }

    #[test]
    fn a_place_is_read_from_a_query() {
        let got = place("run=a%2Fb&key=val%2Fpred+%C3%A9&step=18446744073709551615&index=3");
        let want = Place {
            run: RunId::new("a/b").expect("an id"),
            key: MediaKey::new("val/pred é").expect("a key"),
            step: Step(u64::MAX),
            index: 3,
        };
        assert_eq!(got, Ok(want));
        assert_eq!(place("run=a&key=b&step=1").map(|place| place.index), Ok(0));
    }

    #[test]
    fn what_is_wrong_with_a_query_is_said() {
        for (query, want) in [
            ("key=b&step=1", "no value of \"run\", want one"),
            ("run=a&run=b&key=b&step=1", "got 2 values of \"run\", want one"),
            ("run=a&key=b", "no value of \"step\", want one"),
            ("run=a&key=b&step=-1", "got \"-1\" as \"step\", want 0 to 18446744073709551615"),
            ("run=a&key=b&step=1&index=x", "got \"x\" as \"index\", want 0 to 4294967295"),
            ("run=a&key=b&step=1&stpe=2", "this address has no parameter \"stpe\""),
        ] {
            assert_eq!(place(query), Err(want.to_owned()), "{query}");
        }
        assert!(place("run=&key=b&step=1").is_err_and(|error| error.starts_with("got \"\" as")));
    }
}
