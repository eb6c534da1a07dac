//! The parameters of a request. Pure.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::problem::Failure;
use crate::media::{Colormap, MediaKey, RunId, Step};
use crate::values::Region;

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

/// A part of an image, as a request says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    x: u64,
    y: u64,
    width: Option<u64>,
    height: Option<u64>,
}

impl Part {
    /// The part of an image of this size, of which each `every`th row and column is taken. What reaches beyond the
    /// image is cut off.
    ///
    /// # Errors
    /// If nothing is left.
    pub(super) fn of(self, width: u64, height: u64, every: u64) -> Result<Region, Failure> {
        let Self { x, y, .. } = self;
        if x >= width || y >= height {
            return Err(Failure::bad_parameter(format!(
                "x {x} and y {y} are not within the image of {width} × {height} pixels"
            )));
        }
        let width = self.width.unwrap_or(u64::MAX).min(width - x);
        let height = self.height.unwrap_or(u64::MAX).min(height - y);
        Ok(Region { x, y, width, height, every })
    }
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

    /// Takes a place that is one parameter: a query of its own, such as `a=run%3Dr1%26key%3Dval%26step%3D3`.
    ///
    /// # Errors
    /// If it is missing or invalid.
    pub(super) fn nested_place(&mut self, name: &str) -> Result<Place, Failure> {
        let text = self.one(name)?;
        let mut inner = Self::of_query(Some(&text))?;
        let place = inner.place().and_then(|place| inner.finish().map(|()| place));
        let within = |failure: Failure| {
            let detail = &failure.problem().detail;
            Failure::bad_parameter(format!(
                "{name:?} is a place, such as \"run=r1&key=val&step=3&index=0\" with %-escapes: {detail}"
            ))
        };
        place.map_err(within)
    }

    /// Takes a word of a list that may be missing.
    ///
    /// # Errors
    /// If it is another word.
    pub(super) fn choice<T>(
        &mut self,
        name: &str,
        all: impl IntoIterator<Item = (String, T)>,
    ) -> Result<Option<T>, Failure> {
        let Some(text) = self.optional(name)? else { return Ok(None) };
        let mut words = Vec::new();
        for (word, value) in all {
            if word == text {
                return Ok(Some(value));
            }
            words.push(word);
        }
        let words = words.join(", ");
        Err(Failure::bad_parameter(format!("got {text:?} as {name:?}, want one of {words}")))
    }

    /// Takes a colormap that may be missing.
    ///
    /// # Errors
    /// If there is no such colormap.
    pub(super) fn colormap(&mut self) -> Result<Option<Colormap>, Failure> {
        let named =
            |map: Colormap| Some((serde_json::to_value(map).ok()?.as_str()?.to_owned(), map));
        self.choice("colormap", Colormap::ALL.into_iter().filter_map(named))
    }

    /// Takes `x`, `y`, `w` and `h`: a part of an image. Without them, it is all of the image.
    ///
    /// # Errors
    /// If one is no number.
    pub(super) fn part(&mut self) -> Result<Part, Failure> {
        Ok(Part {
            x: self.number("x", 0..=u64::MAX)?.unwrap_or(0),
            y: self.number("y", 0..=u64::MAX)?.unwrap_or(0),
            width: self.number("w", 1..=u64::MAX)?,
            height: self.number("h", 1..=u64::MAX)?,
        })
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

/// A handler that takes this has the parameters of its request.
impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Self::of_query(parts.uri.query())
    }
}

/// A handler that takes this has no other parameters.
impl<S: Sync> FromRequestParts<S> for Place {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let mut params = Params::of_query(parts.uri.query())?;
        let place = params.place()?;
        params.finish()?;
        Ok(place)
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
    fn a_place_may_be_one_parameter() {
        let nested = |query: &str| {
            Params::of_query(Some(query)).and_then(|mut params| params.nested_place("a"))
        };
        let got = nested("a=run%3Da%252Fb%26key%3Dk%2520%252B%26step%3D7").expect("a place");
        assert_eq!((got.run.as_str(), got.key.as_str()), ("a/b", "k +"));
        assert_eq!((got.step, got.index), (Step(7), 0));
        let detail = |query| nested(query).map_err(|failure| failure.problem().detail.clone());
        for (query, want) in [
            ("", "no value of \"a\""),
            ("a=x", "no value of \"run\""),
            ("a=run%3Dr%26key%3Dk%26step%3D1%26z%3D1", "no parameter \"z\""),
        ] {
            assert!(detail(query).is_err_and(|error| error.contains(want)), "{query}");
        }
    }

    #[test]
    fn a_part_is_cut_to_the_image() {
        let part = |query| {
            let part = Params::of_query(Some(query)).and_then(|mut params| params.part());
            part.and_then(|part| part.of(10, 8, 1)).ok()
        };
        assert_eq!(part(""), Some(Region::whole(10, 8)));
        let want = Region { x: 7, y: 2, width: 3, height: 4, every: 1 };
        assert_eq!(part("x=7&y=2&w=9&h=4"), Some(want));
        for query in ["x=10", "y=8", "w=0", "h=-1", "x=a", "x=18446744073709551616"] {
            assert_eq!(part(query), None, "{query}");
        }
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
