//! Reads lines of a journal that is committed.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use serde::de::DeserializeOwned;

use super::{JournalOffset, Line, segment_path, unframe};
use crate::durable::open_to_read;

/// Reads lines at places that the index has. Keeps the last segment open.
#[derive(Debug)]
pub(crate) struct PlacedLines {
    folder: PathBuf,
    open: RefCell<Option<(u32, File)>>,
}

impl PlacedLines {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, open: RefCell::default() }
    }

    /// Reads the line at a place.
    ///
    /// # Errors
    /// If it cannot be read. A damaged or missing line is `InvalidData`.
    pub(crate) fn line(&self, start: JournalOffset, length: u32) -> io::Result<Line> {
        parse_line(start, &self.bytes(start, length)?)
    }

    /// Reads the bytes of the line at a place, without its newline.
    ///
    /// # Errors
    /// If they cannot be read. A missing line is `InvalidData`.
    pub(crate) fn bytes(&self, start: JournalOffset, length: u32) -> io::Result<Vec<u8>> {
        let read = || {
            let mut open = self.open.borrow_mut();
            let file = match &mut *open {
                Some((segment, file)) if *segment == start.segment => file,
                open => {
                    let file = open_to_read(&segment_path(&self.folder, start.segment))?;
                    &mut open.insert((start.segment, file)).1
                }
            };
            let mut bytes = vec![0; length as usize];
            file.read_exact_at(&mut bytes, start.offset)?;
            bytes.pop();
            Ok::<_, io::Error>(bytes)
        };
        read().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => {
                io::Error::new(io::ErrorKind::InvalidData, format!("missing {}", at(start)))
            }
            _ => error,
        })
    }
}

/// Reads the line of bytes from a place.
///
/// # Errors
/// If it is damaged: `InvalidData`.
pub(crate) fn parse_line(start: JournalOffset, bytes: &[u8]) -> io::Result<Line> {
    let lost = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    unframe(bytes).map_err(|error| lost(format!("damaged {}: {error}", at(start))))
}

fn at(JournalOffset { segment, offset }: JournalOffset) -> String {
    format!("journal line at byte {offset} of segment {segment}")
}

/// A line and its place.
#[derive(Debug)]
pub(crate) struct Located<T> {
    pub(crate) line: T,
    pub(crate) start: JournalOffset,
    /// Bytes with the newline.
    pub(crate) length: u32,
}

impl<T> Located<T> {
    /// Where the next line of the segment begins.
    pub(crate) fn end(&self) -> JournalOffset {
        let JournalOffset { segment, offset } = self.start;
        JournalOffset { segment, offset: offset + u64::from(self.length) }
    }
}

/// Reads lines from one place up to another, which a commit has reached. Leaves damaged lines out.
#[derive(Debug)]
pub(crate) struct Lines<T> {
    folder: PathBuf,
    file: Option<BufReader<File>>,
    at: JournalOffset,
    until: JournalOffset,
    bytes: Vec<u8>,
    kind: PhantomData<T>,
}

impl<T> Lines<T> {
    pub(crate) fn new(folder: PathBuf, from: JournalOffset, until: JournalOffset) -> Self {
        Self { folder, file: None, at: from, until, bytes: Vec::new(), kind: PhantomData }
    }

    /// Reads the bytes of the next line, without its newline. Returns false at the end.
    fn read(&mut self) -> io::Result<bool> {
        while self.at < self.until {
            if self.file.is_none() {
                self.file = self.open()?;
            }
            self.bytes.clear();
            let n = match &mut self.file {
                Some(file) => file.read_until(b'\n', &mut self.bytes)?,
                None => 0,
            };
            if self.bytes.pop_if(|last| *last == b'\n').is_some() {
                self.at.offset += n as u64;
                return Ok(true);
            }
            if self.at.segment == self.until.segment {
                return Ok(false);
            }
            self.file = None;
            self.at = JournalOffset { segment: self.at.segment + 1, offset: 0 };
        }
        Ok(false)
    }

    /// Opens the segment at the current place. A missing segment was logged when the journal was opened.
    fn open(&self) -> io::Result<Option<BufReader<File>>> {
        let file = match open_to_read(&segment_path(&self.folder, self.at.segment)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut file = BufReader::with_capacity(1 << 16, file);
        file.seek(SeekFrom::Start(self.at.offset))?;
        Ok(Some(file))
    }
}

impl<T: DeserializeOwned> Iterator for Lines<T> {
    type Item = io::Result<Located<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.read() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
            let n_bytes = self.bytes.len() as u64 + 1;
            if let (Ok(line), Ok(length)) = (unframe(&self.bytes), u32::try_from(n_bytes)) {
                let start = JournalOffset { offset: self.at.offset - n_bytes, ..self.at };
                return Some(Ok(Located { line, start, length }));
            }
        }
    }
}
