//! The journal of one run: its items, and how far each source was read.
//!
//! Append-only JSON Lines in segments `00000001.jsonl`, `00000002.jsonl`, …. Each line is one object
//! that ends in a checksum of the bytes before it:
//!
//! ```text
//! {"seq":7,"kind":"media","state":"image","key":"val/pred",…,"cursor":{…},"crc":"1c291ca3"}
//! ```
//!
//! | field | content |
//! | --- | --- |
//! | `seq` | number of the line in the run, from 1 |
//! | `kind` | `media` (an image, or an item that is held or rejected), `gone` (an image that a dump's new version, or a later session, no longer has), `pruned` (an image whose files were removed), `retried` (a waiting item that was tried again), `repeated` (a line of a log that was read before), `superseded` (a line of a session that a later one has replaced), `commit` (a step is complete), `run` (the run's identity), `finish`, `cursor` |
//! | `cursor` | how far a source was read; closes a *batch* |
//! | `crc` | CRC-32 (IEEE) of the line up to, not including, `,"crc"` |
//!
//! The lines of a batch, up to the one with the cursor, become true together. Lines after the last
//! cursor were never acknowledged: the next start cuts them off, with any torn line. A whole line whose
//! checksum is wrong was damaged later. It is skipped and counted, and stays in the file.

mod cursor;
mod event;
mod frame;
mod lines;
mod open_journals;
mod segments;

use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

pub(crate) use self::cursor::{DumpCursor, Fingerprint, LogCursor, ReadLine, SourceCursor, Stamp};
pub(crate) use self::event::{Event, Line, Outline, OutlineSource};
pub(crate) use self::frame::{frame, unframe};
pub(crate) use self::lines::{Lines, Located, PlacedLines, parse_line};
pub(crate) use self::open_journals::OpenJournals;
use self::segments::segments;
pub(crate) use self::segments::{
    JournalOffset, SEGMENT_BYTES, folder, is_present, is_whole_before, segment_length, segment_path,
};
use crate::durable::{Disk, DiskFile, open_to_read};

/// A journal that is open for appending.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: Disk,
    folder: PathBuf,
    file: DiskFile,
    end: JournalOffset,
    last_seq: u64,
    segment_bytes: u64,
    /// Whether a write failed: what follows `end` on the disk is unknown.
    is_in_doubt: bool,
}

/// Damage that [`Journal::open`] found.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Lines that are damaged or, as gaps in `seq` show, missing.
    pub(crate) n_damaged: u64,
    /// Bytes of a torn line or an open batch that were cut off at the end.
    pub(crate) n_cut: u64,
}

impl Journal {
    /// Opens the journal in `folder`, which exists. Calls `see` with each line of each closed batch after
    /// `from`, and cuts off the bytes after the last closed batch.
    ///
    /// # Errors
    /// If a segment cannot be read, or `see` fails.
    pub(crate) fn open<E: From<io::Error>>(
        disk: &Disk,
        folder: &Path,
        from: JournalOffset,
        last_seq: u64,
        mut see: impl FnMut(Located<Outline<'static>>) -> Result<(), E>,
    ) -> Result<(Self, Recovered), E> {
        let mut recovered = Recovered::default();
        let (mut end, mut last_seq) = (from, last_seq);
        let mut batch: Vec<Located<Outline<'static>>> = Vec::new();
        // The number of the last line, and the damaged lines since then. If the next number is greater
        // than these explain, lines are missing.
        let (mut seen, mut n_bad) = (last_seq, 0);
        for segment in segments(folder)?.into_iter().filter(|&number| number >= from.segment) {
            let mut offset = if segment == from.segment { from.offset } else { 0 };
            let file = open_to_read(&segment_path(folder, segment))?;
            if segment > end.segment {
                end = JournalOffset { segment, offset: 0 };
            }
            let mut lines = BufReader::with_capacity(1 << 16, file);
            lines.seek(SeekFrom::Start(offset))?;
            let mut bytes = Vec::new();
            loop {
                bytes.clear();
                let n = lines.read_until(b'\n', &mut bytes)?;
                if n == 0 || bytes.last() != Some(&b'\n') {
                    break;
                }
                let start = JournalOffset { segment, offset };
                offset += n as u64;
                let (Ok(line), Ok(length)) =
                    (unframe::<Outline>(&bytes[..n - 1]), u32::try_from(n))
                else {
                    recovered.n_damaged += 1;
                    n_bad += 1;
                    if batch.is_empty() {
                        end = JournalOffset { segment, offset };
                    }
                    continue;
                };
                recovered.n_damaged += line.seq.saturating_sub(seen + 1).saturating_sub(n_bad);
                (seen, n_bad) = (line.seq, 0);
                let is_closing = line.cursor.is_some();
                batch.push(Located { line, start, length });
                if is_closing {
                    for located in batch.drain(..) {
                        last_seq = located.line.seq;
                        see(located)?;
                    }
                    end = JournalOffset { segment, offset };
                }
            }
        }
        let path = segment_path(folder, end.segment);
        let file = match disk.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(&path)?,
            result => result?,
        };
        let length = file.n_bytes()?;
        if length > end.offset {
            recovered.n_cut = length - end.offset;
            file.set_len(end.offset)?;
        }
        // Bytes that a killed process wrote may be in memory only. They must be durable before a cursor
        // in them is used.
        file.sync()?;
        disk.sync_dir(folder)?;
        let (disk, folder) = (disk.clone(), folder.to_owned());
        let (segment_bytes, is_in_doubt) = (SEGMENT_BYTES, false);
        Ok((Self { disk, folder, file, end, last_seq, segment_bytes, is_in_doubt }, recovered))
    }

    /// Whether a write failed, so that the journal must be cut at its end before it is opened again.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.is_in_doubt
    }

    /// The sequence number of the last line.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Sets the size after which a new segment is begun.
    pub(crate) fn set_segment_bytes(&mut self, n_bytes: u64) {
        self.segment_bytes = n_bytes;
    }

    /// Where the next line will begin.
    pub(crate) fn end(&self) -> JournalOffset {
        self.end
    }

    /// Appends framed lines, the last of which closes a batch, and makes them durable. `last_seq` is the
    /// number of the last line. Returns where they begin.
    ///
    /// # Errors
    /// If they cannot be written or synced. Then the journal is cut to its length before. If that fails
    /// too, the next start cuts it.
    pub(crate) fn append(&mut self, lines: &[u8], last_seq: u64) -> io::Result<JournalOffset> {
        if self.end.offset >= self.segment_bytes {
            let segment = self.end.segment + 1;
            let path = segment_path(&self.folder, segment);
            self.file = self.disk.create(&path)?;
            self.disk.sync_dir(&self.folder)?;
            self.end = JournalOffset { segment, offset: 0 };
        }
        let start = self.end;
        let written = self.file.write_all_at(lines, start.offset).and_then(|()| self.file.sync());
        if let Err(error) = written {
            self.is_in_doubt = true;
            self.file.set_len(start.offset)?;
            return Err(error);
        }
        self.is_in_doubt = false;
        self.end.offset += lines.len() as u64;
        self.last_seq = last_seq;
        Ok(start)
    }
}

/// Bytes before the end of a journal that are written again when it is cut.
const REWRITTEN_BYTES: u64 = 64 << 10;

/// Cuts a journal at its end after a failed write, and writes the bytes before the end again: the kernel reports a lost
/// page once, and then counts it as written.
///
/// # Errors
/// If the disk still fails.
pub(crate) fn cut(disk: &Disk, folder: &Path, end: JournalOffset) -> io::Result<()> {
    let file = match disk.open(&segment_path(folder, end.segment)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    file.set_len(end.offset)?;
    let n = end.offset.min(REWRITTEN_BYTES);
    let mut bytes = vec![0; usize::try_from(n).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, end.offset - n)?;
    file.write_all_at(&bytes, end.offset - n)?;
    file.sync()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::media::Step;

    fn cursor(path: &str) -> SourceCursor {
        let stamp = Stamp { ino: 1, size: 2, mtime_ns: 3, ctime_ns: 4 };
        SourceCursor::Dump(DumpCursor::new(path.to_owned(), stamp, None))
    }

    pub(super) fn line(seq: u64, closes: bool) -> Line {
        let event = Event::Commit { step: Step(seq) };
        Line { seq, event, cursor: closes.then(|| cursor("x")) }
    }

    pub(super) fn framed(line: &Line) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame(line, &mut bytes);
        bytes
    }

    /// The sequence numbers of the lines that opening a journal of these bytes finds, and its new length.
    fn recover(bytes: &[u8]) -> (Vec<u64>, Recovered, u64) {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(segment_path(folder.path(), 1), bytes).expect("a segment");
        let mut seen = Vec::new();
        let opened =
            Journal::open(&Disk::default(), folder.path(), JournalOffset::START, 0, |located| {
                seen.push(located.line.seq);
                Ok::<_, io::Error>(())
            });
        let (journal, recovered) = opened.expect("an open journal");
        let length = fs::metadata(segment_path(folder.path(), 1)).expect("a segment").len();
        assert_eq!(journal.end().offset, length);
        (seen, recovered, length)
    }

    #[test]
    fn an_unfinished_unit_and_a_torn_line_are_cut_off() {
        let whole: Vec<u8> = [framed(&line(1, false)), framed(&line(2, true))].concat();
        let next = [framed(&line(3, false)), framed(&line(4, true))].concat();
        for cut in 0..next.len() {
            let (seen, recovered, length) = recover(&[&whole, &next[..cut]].concat());
            assert_eq!((seen, length), (vec![1, 2], whole.len() as u64), "cut at {cut}");
            assert_eq!(recovered.n_cut, cut as u64);
        }
        assert_eq!(recover(&[&whole[..], &next[..]].concat()).0, [1, 2, 3, 4]);
    }

    #[test]
    fn a_damaged_line_is_skipped_and_kept() {
        for damaged in [0, 1, 2] {
            let mut lines =
                [framed(&line(1, true)), framed(&line(2, true)), framed(&line(3, true))];
            lines[damaged][9] ^= 1;
            let bytes = lines.concat();
            let (seen, recovered, length) = recover(&bytes);
            let want: Vec<u64> = (1..=3).filter(|&seq| seq != damaged as u64 + 1).collect();
            assert_eq!((seen, recovered.n_damaged, recovered.n_cut), (want, 1, 0));
            assert_eq!(length, bytes.len() as u64);
        }
    }
}
