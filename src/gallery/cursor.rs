//! Where a list goes on, as text that stands in a URL. Pure.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::params::Params;
use super::problem::Failure;
use super::runs::SortedBy;

/// Where a list goes on. A place stays valid if the daemon restarts, or if items are added before it.
///
/// Each variant is written as its number: a new one stands last, so that the others keep theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Cursor {
    /// `/api/v1/steps`: at this step.
    Steps(u64),
    /// `/api/v1/at`: after this run and key.
    At(String, String),
    /// `/api/v1/items`: after a place in the list, and how many items were looked at before it.
    Items(String, u64),
    /// `/api/v1/items` in an order by value: at this place of the order with this name.
    Sorted(u64, String),
    /// `/api/v1/runs`: after the run with this value and this id, in the order with this name.
    Runs(SortedBy, String, String),
}

impl Cursor {
    pub(super) fn to_text(&self) -> String {
        let bytes = postcard::to_allocvec(self).expect("text and numbers have known lengths");
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads what [`Self::to_text`] wrote.
    ///
    /// # Errors
    /// If it is something else.
    pub(super) fn from_text(text: &str) -> Result<Self, Failure> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let cursor = bytes.as_deref().and_then(|bytes| postcard::take_from_bytes(bytes).ok());
        match cursor {
            Some((cursor, [])) => Ok(cursor),
            _ => Err(Self::failure(text)),
        }
    }

    /// Takes the cursor of a request, if it has one. `place` returns where it goes on, or `None` for that of another
    /// list.
    ///
    /// # Errors
    /// If the cursor is none of this list.
    pub(super) fn take<T>(
        params: &mut Params,
        place: impl FnOnce(Self) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let Some(text) = params.optional("cursor")? else { return Ok(None) };
        let found = place(Self::from_text(&text)?);
        found.ok_or_else(|| Self::failure(&text)).map(Some)
    }

    /// Checks that a cursor of the order `of` is one of the order `wanted`.
    ///
    /// # Errors
    /// If the orders differ: a place in one is none in the other.
    pub(super) fn check_order(of: &str, wanted: &str) -> Result<(), Failure> {
        if of == wanted {
            return Ok(());
        }
        let detail =
            format!("got a \"cursor\" of the order {of:?}, want one of the order {wanted:?}");
        Err(Failure::bad_parameter(detail))
    }

    /// The failure of a request with this cursor.
    pub(super) fn failure(text: &str) -> Failure {
        let want = "want the `next` of an answer to the same request";
        Failure::bad_parameter(format!("got {text:?} as \"cursor\", {want}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        for cursor in [
            Cursor::Steps(u64::MAX),
            Cursor::At("a/b".to_owned(), "é".to_owned()),
            Cursor::Items("x".to_owned(), 7),
            Cursor::Sorted(500, "-nan".to_owned()),
            Cursor::Runs(SortedBy::Number(None), "a/b".to_owned(), "step".to_owned()),
            Cursor::Runs(SortedBy::Text("é".to_owned()), String::new(), String::new()),
        ] {
            let text = cursor.to_text();
            assert_eq!(Cursor::from_text(&text).ok(), Some(cursor));
            assert!(Cursor::from_text(&text[1..]).is_err() && Cursor::from_text("").is_err());
            assert!(Cursor::from_text(&format!("{text}AA")).is_err());
        }
    }

    #[test]
    fn a_cursor_of_the_daemon_before_an_upgrade_is_read() {
        for (text, want) in [
            ("AAc", Cursor::Steps(7)),
            ("AQFhAWI", Cursor::At("a".to_owned(), "b".to_owned())),
            ("AgF4Bw", Cursor::Items("x".to_owned(), 7)),
        ] {
            assert_eq!(Cursor::from_text(text).ok(), Some(want), "{text}");
        }
    }
}
