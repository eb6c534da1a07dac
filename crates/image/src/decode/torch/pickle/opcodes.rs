//! The opcodes of pickles, and their arguments.
//!
//! Source: Python's `pickletools`, protocols 0 to 5.

use super::malformed;
use crate::decode::DecodeError;

/// An opcode of a pickle.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opcode<'a> {
    pub(super) code: u8,
    /// Its argument, without a length before it or a newline after it.
    pub(super) argument: &'a [u8],
    /// The offset of the argument in the pickle.
    pub(super) at: usize,
}

/// Reads the opcodes of a pickle one after the other.
#[derive(Debug)]
pub(super) struct Opcodes<'a> {
    pickle: &'a [u8],
    at: usize,
}

/// How long an argument is.
enum ArgumentLength {
    /// This many bytes.
    Fixed(usize),
    /// As many bytes as a number of this many bytes before it says.
    Counted(usize),
    /// This many lines.
    Lines(usize),
}

impl<'a> Opcodes<'a> {
    pub(super) fn new(pickle: &'a [u8]) -> Self {
        Self { pickle, at: 0 }
    }

    /// The number of bytes that were read.
    pub(super) fn n_read(&self) -> usize {
        self.at
    }

    /// Reads the next opcode.
    ///
    /// # Errors
    /// `Malformed` if the pickle ends too early; `Unsupported` if the opcode is unknown.
    pub(super) fn next(&mut self) -> Result<Opcode<'a>, DecodeError> {
        let code = self.take(1)?[0];
        let (at, argument) = match argument_length(code) {
            Some(ArgumentLength::Fixed(n)) => (self.at, self.take(n)?),
            Some(ArgumentLength::Counted(n_length)) => {
                let n = little_endian(self.take(n_length)?);
                (self.at, self.take(usize::try_from(n).unwrap_or(usize::MAX))?)
            }
            Some(ArgumentLength::Lines(n)) => (self.at, self.lines(n)?),
            None => {
                let what = format!("a pickle with the unknown opcode {code:#04x}");
                return Err(DecodeError::Unsupported(what));
            }
        };
        Ok(Opcode { code, argument, at })
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let taken = self.pickle[self.at..].get(..n).ok_or_else(|| malformed("ends too early"))?;
        self.at += n;
        Ok(taken)
    }

    /// Takes lines. Returns them without the last newline.
    fn lines(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let rest = &self.pickle[self.at..];
        let mut newlines = rest.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let (end, _) = newlines.nth(n - 1).ok_or_else(|| malformed("ends too early"))?;
        let lines = self.take(end)?;
        self.take(1)?;
        Ok(lines)
    }
}

/// Returns the length of the pickle that `bytes` begin with. No opcode is executed.
///
/// # Errors
/// As [`Opcodes::next`].
pub(in crate::decode) fn length(bytes: &[u8]) -> Result<usize, DecodeError> {
    let mut opcodes = Opcodes::new(bytes);
    while opcodes.next()?.code != b'.' {}
    Ok(opcodes.n_read())
}

/// Returns a little-endian number of at most 8 bytes.
pub(super) fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn argument_length(code: u8) -> Option<ArgumentLength> {
    use ArgumentLength::{Counted, Fixed, Lines};
    Some(match code {
        // MARK, STOP, POP, POP_MARK, DUP, NONE, REDUCE, BUILD, BINPERSID, OBJ; those of containers; NEWOBJ,
        // TUPLE1 to 3, NEWTRUE, NEWFALSE, EMPTY_SET, ADDITEMS, FROZENSET, NEWOBJ_EX, STACK_GLOBAL, MEMOIZE,
        // NEXT_BUFFER, READONLY_BUFFER.
        b'('
        | b'.'
        | b'0'
        | b'1'
        | b'2'
        | b'N'
        | b'R'
        | b'b'
        | b'Q'
        | b'o'
        | b'a'
        | b'e'
        | b'd'
        | b'}'
        | b'l'
        | b']'
        | b's'
        | b'u'
        | b't'
        | b')'
        | 0x81
        | 0x85..=0x89
        | 0x8f..=0x94
        | 0x97
        | 0x98 => Fixed(0),
        // PROTO, BININT1, BINPUT, BINGET, EXT1.
        0x80 | b'K' | b'q' | b'h' | 0x82 => Fixed(1),
        // BININT2, EXT2.
        b'M' | 0x83 => Fixed(2),
        // BININT, LONG_BINPUT, LONG_BINGET, EXT4.
        b'J' | b'r' | b'j' | 0x84 => Fixed(4),
        // BINFLOAT, FRAME.
        b'G' | 0x95 => Fixed(8),
        // SHORT_BINSTRING, SHORT_BINBYTES, SHORT_BINUNICODE, LONG1.
        b'U' | b'C' | 0x8c | 0x8a => Counted(1),
        // BINSTRING, BINBYTES, BINUNICODE, LONG4.
        b'T' | b'B' | b'X' | 0x8b => Counted(4),
        // BINUNICODE8, BINBYTES8, BYTEARRAY8.
        0x8d | 0x8e | 0x96 => Counted(8),
        // FLOAT, INT, LONG, STRING, UNICODE, PERSID, GET, PUT.
        b'F' | b'I' | b'L' | b'S' | b'V' | b'P' | b'g' | b'p' => Lines(1),
        // GLOBAL, INST.
        b'c' | b'i' => Lines(2),
        _ => return None,
    })
}
