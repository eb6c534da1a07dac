//! Which protocol a terminal understands. Pure: [`super::terminal`] asks the terminal.

use super::Protocol;

/// The question to a terminal: kitty's query with a picture of one pixel, then the request for the primary device
/// attributes (DA1). Every terminal answers DA1, so that its answer ends the wait also where kitty's query has none.
///
/// Source: kitty's `docs/graphics-protocol.rst`, "Querying support and available transmission mediums".
pub(super) const QUERY: &[u8] = b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[c";

/// What a terminal that knows kitty's protocol answers to [`QUERY`].
const KITTY_OK: &[u8] = b"\x1b_Gi=31;OK\x1b\\";

/// The attribute of DA1 that says "sixel graphics".
const SIXEL: &[u8] = b"4";

/// What the environment says of the terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Environment {
    /// `TERM`.
    pub(super) term: String,
    /// `TERM_PROGRAM`.
    pub(super) program: String,
    /// `LC_TERMINAL`, which ssh passes on.
    pub(super) lc_terminal: String,
    /// Whether `TMUX` or `STY` is set: tmux or GNU screen lies between us and the terminal.
    pub(super) is_in_multiplexer: bool,
}

impl Environment {
    /// Returns the protocol to use without a question: [`Protocol::Blocks`] if the terminal is known to show no other
    /// pictures, or to print the question.
    pub(super) fn known(&self) -> Option<Protocol> {
        let is_multiplexer = self.is_in_multiplexer
            || ["screen", "tmux"].iter().any(|name| self.term.starts_with(name));
        // The Linux console, and macOS's Terminal, print a part of kitty's query.
        let prints_query = self.term == "linux" || self.program == "Apple_Terminal";
        (is_multiplexer || prints_query).then_some(Protocol::Blocks)
    }

    /// Returns the best protocol of a terminal that gave this answer to [`QUERY`].
    pub(super) fn protocol(&self, answer: &[u8]) -> Protocol {
        let knows_iterm2 = matches!(&*self.program, "iTerm.app" | "WezTerm")
            || matches!(&*self.lc_terminal, "iTerm2" | "WezTerm");
        let has_sixel = || {
            let attributes = device_attributes(answer).map(|(attributes, _)| attributes);
            attributes.is_some_and(|list| list.split(|&b| b == b';').any(|one| one == SIXEL))
        };
        if answer.windows(KITTY_OK.len()).any(|part| part == KITTY_OK) {
            Protocol::Kitty
        } else if knows_iterm2 {
            Protocol::Iterm2
        } else if has_sixel() {
            Protocol::Sixel
        } else {
            Protocol::Blocks
        }
    }
}

/// Returns whether an answer is complete: it ends with the answer to DA1.
pub(super) fn is_complete(answer: &[u8]) -> bool {
    device_attributes(answer).is_some()
}

/// Returns the attributes in the answer `ESC [ ? attributes c`, and what follows it.
fn device_attributes(answer: &[u8]) -> Option<(&[u8], &[u8])> {
    const START: &[u8] = b"\x1b[?";
    let starts = answer.windows(START.len()).enumerate().filter(|(_, part)| *part == START);
    starts.map(|(at, _)| &answer[at + START.len()..]).find_map(|rest| {
        let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b';')?;
        (rest[end] == b'c').then(|| (&rest[..end], &rest[end + 1..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(term: &str, program: &str, lc_terminal: &str) -> Environment {
        Environment {
            term: term.to_owned(),
            program: program.to_owned(),
            lc_terminal: lc_terminal.to_owned(),
            is_in_multiplexer: false,
        }
    }

    #[test]
    fn the_answers_of_terminals_decide() {
        use Protocol::{Blocks, Iterm2, Kitty, Sixel};
        let xterm = environment("xterm-256color", "", "");
        for (name, environment, answer, want) in [
            ("xterm -ti vt340", &xterm, "\x1b[?64;1;2;4;6;9;15;18;21;22c", Sixel),
            ("xterm", &xterm, "\x1b[?64;1;2;6;9;15;18;21;22c", Blocks),
            ("VT102", &xterm, "\x1b[?6c", Blocks),
            ("kitty", &environment("xterm-kitty", "", ""), "\x1b_Gi=31;OK\x1b\\\x1b[?62;c", Kitty),
            ("ghostty", &xterm, "\x1b_Gi=31;OK\x1b\\\x1b[?62;22c", Kitty),
            ("foot", &environment("foot", "", ""), "\x1b[?62;4;22;28;29c", Sixel),
            (
                "WezTerm without kitty's protocol",
                &environment("xterm-256color", "WezTerm", ""),
                "\x1b[?65;4;6;18;22c",
                Iterm2,
            ),
            (
                "WezTerm with it",
                &environment("xterm-256color", "WezTerm", ""),
                "\x1b_Gi=31;OK\x1b\\\x1b[?65;4;6;18;22c",
                Kitty,
            ),
            ("iTerm2", &environment("xterm-256color", "iTerm.app", ""), "\x1b[?62;4c", Iterm2),
            ("iTerm2 by ssh", &environment("xterm-256color", "", "iTerm2"), "\x1b[?1;2c", Iterm2),
            (
                "kitty's protocol switched off",
                &xterm,
                "\x1b_Gi=31;ENOTSUPPORTED\x1b\\\x1b[?62c",
                Blocks,
            ),
            ("no answer", &xterm, "", Blocks),
            ("half an answer", &xterm, "\x1b[?64;1;2;4", Blocks),
            // Typed before the answer came.
            ("keys", &xterm, "ls\r\x1b[A\x1b[?62;4c", Sixel),
            // 14 and 44 are not 4.
            ("other attributes", &xterm, "\x1b[?62;14;44c", Blocks),
        ] {
            assert_eq!(environment.protocol(answer.as_bytes()), want, "{name}");
            assert_eq!(environment.known(), None, "{name}");
        }
    }

    #[test]
    fn multiplexers_and_terminals_that_print_the_query_are_not_asked() {
        let inside = Environment { is_in_multiplexer: true, ..environment("xterm-kitty", "", "") };
        for environment in [
            inside,
            environment("tmux-256color", "", ""),
            environment("screen", "", "iTerm2"),
            environment("linux", "", ""),
            environment("xterm-256color", "Apple_Terminal", ""),
        ] {
            assert_eq!(environment.known(), Some(Protocol::Blocks), "{environment:?}");
        }
    }

    #[test]
    fn an_answer_is_complete_with_its_last_byte() {
        for answer in
            ["\x1b_Gi=31;OK\x1b\\\x1b[?62;c", "\x1b[?64;1;2;4;6;9;15;18;21;22c", "\x1b[?6c"]
        {
            let bytes = answer.as_bytes();
            for end in 0..bytes.len() {
                assert!(!is_complete(&bytes[..end]), "{end} bytes of {answer:?}");
            }
            assert!(is_complete(bytes), "{answer:?}");
        }
        // A mode report is not the answer, the attributes after it are.
        assert!(!is_complete(b"\x1b[?2026;2$y"));
        assert!(is_complete(b"\x1b[?2026;2$y\x1b[?62c"));
    }
}
