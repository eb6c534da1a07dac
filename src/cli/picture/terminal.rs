//! The terminal: its size, and its answer to a question.

use std::env;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use rustix::process::getpgrp;
use rustix::termios::{
    OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr,
};

use super::Protocol;
use super::detect::{Environment, QUERY, is_complete};
use super::layout::Size;

/// How long a terminal may take to answer.
const ANSWER_MAX: Duration = Duration::from_millis(300);

/// How long one read waits, in tenths of a second: the unit of `VTIME`.
const READ_WAIT_DECISECONDS: u8 = 1;

/// The longest answer. Terminals need less than 100 bytes.
const ANSWER_BYTES_MAX: usize = 4096;

/// What Ctrl-C sends while the terminal does not turn it into a signal.
const CTRL_C: u8 = 3;

/// Finds the best protocol of the terminal that shows standard output.
///
/// # Errors
/// If standard output is not a terminal, or one that shows text only.
pub(super) fn best_protocol() -> anyhow::Result<Protocol> {
    let name_one = "name a protocol: --picture=kitty, iterm2, sixel or blocks";
    if !io::stdout().is_terminal() {
        return Err(anyhow!(
            "standard output is a file or pipe, and --picture shows pictures on a terminal ({name_one})"
        ));
    }
    let environment = environment();
    if environment.term == "dumb" {
        return Err(anyhow!("TERM is \"dumb\": a terminal that shows text only ({name_one})"));
    }
    if let Some(known) = environment.known() {
        return Ok(known);
    }
    // Without an answer, blocks remain: they need no more than colours.
    let answer = ask().unwrap_or_default();
    if answer.contains(&CTRL_C) && !is_complete(&answer) {
        return Err(anyhow!("interrupted"));
    }
    Ok(environment.protocol(&answer))
}

fn environment() -> Environment {
    let text = |name: &str| env::var(name).unwrap_or_default();
    Environment {
        term: text("TERM"),
        program: text("TERM_PROGRAM"),
        lc_terminal: text("LC_TERMINAL"),
        is_in_multiplexer: ["TMUX", "STY"].iter().any(|name| !text(name).is_empty()),
    }
}

/// Returns the size of the terminal that shows standard output. Another output has the default size.
pub(super) fn size() -> Size {
    let Ok(size) = tcgetwinsize(io::stdout()) else { return Size::DEFAULT };
    Size::of_terminal(
        (size.ws_col.into(), size.ws_row.into()),
        (size.ws_xpixel.into(), size.ws_ypixel.into()),
    )
}

/// Sends [`QUERY`] to the terminal of this process, and returns what it answers within [`ANSWER_MAX`]. The terminal
/// behaves afterwards as it did before.
fn ask() -> io::Result<Vec<u8>> {
    let tty = File::options().read(true).write(true).open("/dev/tty")?;
    // The kernel would stop a process in the background that changes the terminal.
    if tcgetpgrp(&tty)? != getpgrp() {
        return Ok(Vec::new());
    }
    let raw = RawTerminal::enter(&tty)?;
    let answer = exchange(&tty);
    drop(raw);
    answer
}

fn exchange(mut tty: &File) -> io::Result<Vec<u8>> {
    tty.write_all(QUERY)?;
    let start = Instant::now();
    let mut answer = Vec::new();
    while start.elapsed() < ANSWER_MAX && answer.len() < ANSWER_BYTES_MAX {
        let mut bytes = [0; 256];
        match tty.read(&mut bytes) {
            Ok(n) => answer.extend_from_slice(&bytes[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if is_complete(&answer) || answer.contains(&CTRL_C) {
            break;
        }
    }
    Ok(answer)
}

/// A terminal that passes bytes on as they come and does not echo them, until this is dropped.
struct RawTerminal<'a> {
    tty: &'a File,
    before: Termios,
}

impl<'a> RawTerminal<'a> {
    fn enter(tty: &'a File) -> io::Result<Self> {
        let before = tcgetattr(tty)?;
        let mut raw = before.clone();
        raw.make_raw();
        // A read returns what is there, or nothing after the time.
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = READ_WAIT_DECISECONDS;
        let entered = Self { tty, before };
        tcsetattr(tty, OptionalActions::Now, &raw)?;
        Ok(entered)
    }
}

impl Drop for RawTerminal<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs no settings.
        tcsetattr(self.tty, OptionalActions::Now, &self.before).ok();
    }
}
