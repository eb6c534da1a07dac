//! The journal of one run: what was kept, held back and rejected, and how far each source was read.
//!
//! Append-only JSON Lines in segments `00000001.jsonl`, `00000002.jsonl`, …. Each line is one object
//! that ends in a checksum of the bytes before it:
//!
//! ```text
//! {"seq":7,"kind":"media","state":"image","key":"val/pred",…,"cursor":{…},"crc":"1c291ca3"}
//! ```
//!
//! | field | what |
//! | --- | --- |
//! | `seq` | counts the run's lines from 1 |
//! | `kind` | `media` (an image, one held back or one rejected), `gone` (an image that a dump's new version has no more), `pruned` (an image whose files were removed), `commit` (a step is complete), `run` (the run's identity), `finish`, `cursor` |
//! | `cursor` | how far a source was read; closes a *unit* |
//! | `crc` | CRC-32 (IEEE) of the line up to, not including, `,"crc"` |
//!
//! The lines of a unit become true together: those up to the one with the cursor. What follows the
//! last cursor was never acknowledged, and is cut off at the next start with any torn line. A whole
//! line whose checksum is wrong was damaged later: it is skipped, counted, and left where it is.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::durable::{Disk, DiskFile};
use crate::media::{Digest, MediaEntry, MediaId, MediaKey, Sha256, State, Step, Xxh3};

/// A segment that has grown to this many bytes is followed by a new one.
pub(crate) const SEGMENT_BYTES: u64 = 64 << 20;

/// What a line tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Event {
    /// What became of one image.
    Media(Box<MediaEntry>),
    /// The job said that a step is complete.
    Commit { step: Step },
    /// A new version of a dump has no image any more where an earlier one had.
    Gone {
        #[serde(flatten)]
        id: MediaId,
        /// The dump.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
    },
    /// The files of an image were removed by retention: the image is known, and shown, without them.
    Pruned {
        #[serde(flatten)]
        id: MediaId,
        /// Where the line of the image stands: a later version of it is another one.
        place: Position,
    },
    /// What the job says of the run: `safelight.json`.
    Run { identity: Map<String, Value> },
    /// The job said that the run is over.
    Finish,
    /// Nothing but the cursor.
    Cursor,
}

/// A line of the journal; to be written, of parts that are borrowed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line<E = Event, C = SourceCursor> {
    pub(crate) seq: u64,
    #[serde(flatten)]
    pub(crate) event: E,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<C>,
}

/// How far a source was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SourceCursor {
    Log(LogCursor),
    Dump(DumpCursor),
    /// The store's own lines have no source.
    None,
}

/// How far a media log was read, and what it looked like then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogCursor {
    /// Relative to the run directory.
    pub(crate) path: String,
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    /// Bytes read: up to and with the last newline that was acted on.
    pub(crate) offset: u64,
    /// Lines read.
    pub(crate) line: u64,
    /// Of the first bytes.
    pub(crate) head: Fingerprint,
    /// Of the last bytes before `offset`.
    pub(crate) tail: Fingerprint,
}

/// A digest of a few bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    pub(crate) n_bytes: u64,
    pub(crate) digest: String,
}

impl Fingerprint {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::of(bytes).to_string()[..16].to_owned();
        Self { n_bytes: bytes.len() as u64, digest }
    }
}

/// Which version of a dump that speaks for itself was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DumpCursor {
    /// Relative to the run directory.
    pub(crate) path: String,
    pub(crate) stamp: Stamp,
    /// The sidecar's stamp, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sidecar: Option<Stamp>,
    /// The dump's digest, one or the other; none where something of it was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<Sha256>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) xxh3: Option<Xxh3>,
}

impl DumpCursor {
    /// Of a version whose digest is not known.
    pub(crate) fn new(path: String, stamp: Stamp, sidecar: Option<Stamp>) -> Self {
        Self { path, stamp, sidecar, sha256: None, xxh3: None }
    }

    /// The dump's digest.
    pub(crate) fn digest(&self) -> Option<Digest> {
        Digest::of_fields(self.xxh3, self.sha256)
    }

    /// With this digest.
    pub(crate) fn with_digest(self, digest: Option<Digest>) -> Self {
        let (xxh3, sha256) = digest.map_or((None, None), Digest::fields);
        Self { sha256, xxh3, ..self }
    }
}

/// What tells one version of a file from another. Times are compared for equality only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) ino: u64,
    pub(crate) size: u64,
    pub(crate) mtime_ns: i128,
    pub(crate) ctime_ns: i128,
}

impl Stamp {
    /// When the file was written last.
    pub(crate) fn modified(self) -> SystemTime {
        let since = Duration::from_nanos(u64::try_from(self.mtime_ns).unwrap_or(0));
        SystemTime::UNIX_EPOCH + since
    }

    /// Whether the file has the content that it had by the other stamp. (A new name or other rights,
    /// which only the change time tells of, do no harm.)
    pub(crate) fn has_content_of(self, other: Self) -> bool {
        (self.ino, self.size, self.mtime_ns) == (other.ino, other.size, other.mtime_ns)
    }
}

/// A line as the index needs it: cheap to read, and to make of what is written.
#[derive(Debug, Deserialize)]
pub(crate) struct Outline<'a> {
    pub(crate) seq: u64,
    pub(crate) kind: Cow<'a, str>,
    pub(crate) state: Option<State>,
    key: Option<Cow<'a, MediaKey>>,
    step: Option<Step>,
    index: Option<u32>,
    /// Of an image that is gone, its dump; else a media file.
    pub(crate) path: Option<Cow<'a, str>>,
    /// Of an image that was pruned, where its line stands.
    pub(crate) place: Option<Position>,
    pub(crate) source: Option<OutlineSource<'a>>,
    pub(crate) cursor: Option<Cow<'a, SourceCursor>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct OutlineSource<'a> {
    pub(crate) path: Cow<'a, str>,
    pub(crate) log: Option<Cow<'a, str>>,
}

impl<'a> Outline<'a> {
    /// Of a line that is being written.
    pub(crate) fn of(seq: u64, event: &'a Event, cursor: Option<&'a SourceCursor>) -> Self {
        let mut outline = Self {
            seq,
            kind: Cow::Borrowed(""),
            state: None,
            key: None,
            step: None,
            index: None,
            path: None,
            place: None,
            source: None,
            cursor: cursor.map(Cow::Borrowed),
        };
        let mut stands = |id: &'a MediaId| {
            outline.key = Some(Cow::Borrowed(&id.key));
            (outline.step, outline.index) = (Some(id.step), Some(id.index));
        };
        match event {
            Event::Media(entry) => {
                let source = &entry.source;
                outline.kind = Cow::Borrowed("media");
                outline.state = Some(entry.state());
                outline.key = entry.key().map(Cow::Borrowed);
                (outline.step, outline.index) = (entry.step(), entry.index());
                outline.source = Some(OutlineSource {
                    path: Cow::Borrowed(&source.path),
                    log: source.log.as_deref().map(Cow::Borrowed),
                });
            }
            Event::Gone { id, path } => {
                stands(id);
                outline.kind = Cow::Borrowed("gone");
                outline.path = path.as_deref().map(Cow::Borrowed);
            }
            Event::Pruned { id, place } => {
                stands(id);
                outline.kind = Cow::Borrowed("pruned");
                outline.place = Some(*place);
            }
            Event::Finish => outline.kind = Cow::Borrowed("finish"),
            Event::Commit { .. } | Event::Run { .. } | Event::Cursor => {}
        }
        outline
    }

    /// The key and the step, if the line says both.
    pub(crate) fn said(&self) -> Option<(&MediaKey, Step)> {
        Some((self.key.as_deref()?, self.step?))
    }

    /// Where an image stands, if the line says so in full.
    pub(crate) fn id(&self) -> Option<(&MediaKey, Step, u32)> {
        Some((self.key.as_deref()?, self.step?, self.index?))
    }
}

/// A place in a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Position {
    /// From 1.
    pub(crate) segment: u32,
    /// Bytes from the segment's start.
    pub(crate) offset: u64,
}

impl Position {
    pub(crate) const START: Self = Self { segment: 1, offset: 0 };
}

/// Appends a line, newline and all.
pub(crate) fn frame<E: Serialize, C: Serialize>(line: &Line<E, C>, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    // A line's map keys are text and its numbers finite, which is all that serde_json asks for; a `Vec`
    // takes all that is written to it.
    drop(serde_json::to_writer(&mut *bytes, line));
    bytes.pop();
    let crc = crc32fast::hash(&bytes[start..]);
    drop(writeln!(bytes, ",\"crc\":\"{crc:08x}\"}}"));
}

/// The line in `bytes` (without its newline), or `None` if it is damaged.
pub(crate) fn unframe<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    const CRC: usize = ",\"crc\":\"00000000\"}".len();
    let (body, crc) = bytes.split_at(bytes.len().checked_sub(CRC)?);
    let want = format!(",\"crc\":\"{:08x}\"}}", crc32fast::hash(body));
    (crc == want.as_bytes()).then(|| serde_json::from_slice(bytes).ok())?
}

/// The numbers of a journal's segments, in order. One may be missing.
fn segments(folder: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".jsonl")?.parse().ok());
        numbers.extend(number.filter(|&number: &u32| number > 0));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Whether all segments before this one are there, at their full length: another one was begun after
/// each.
pub(crate) fn is_whole_before(folder: &Path, segment: u32) -> bool {
    (1..segment).all(|number| {
        fs::metadata(segment_path(folder, number)).is_ok_and(|meta| meta.len() >= SEGMENT_BYTES)
    })
}

pub(crate) fn segment_path(folder: &Path, segment: u32) -> PathBuf {
    folder.join(format!("{segment:08}.jsonl"))
}

/// A journal that is open for appending.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: Disk,
    folder: PathBuf,
    file: DiskFile,
    end: Position,
    last_seq: u64,
    segment_bytes: u64,
}

/// What [`Journal::open`] found.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Lines that are damaged or, as their numbers tell, missing.
    pub(crate) n_damaged: u64,
    /// Bytes of a torn or unfinished end that were cut off.
    pub(crate) n_cut: u64,
}

impl Journal {
    /// Opens the journal in `folder`, which exists. Hands each line of each closed unit that lies
    /// after `from` to `see`, with its place and length, and cuts off what follows the last unit.
    ///
    /// # Errors
    /// If a segment can't be read, or `see` fails.
    pub(crate) fn open<E: From<io::Error>>(
        disk: &Disk,
        folder: &Path,
        from: Position,
        last_seq: u64,
        mut see: impl FnMut(Outline<'static>, Position, u32) -> Result<(), E>,
    ) -> Result<(Self, Recovered), E> {
        let mut recovered = Recovered::default();
        let (mut end, mut last_seq) = (from, last_seq);
        let mut unit: Vec<(Outline<'static>, Position, u32)> = Vec::new();
        // The last line that was seen, and how many damaged ones since: more are missing where the
        // numbers say so.
        let (mut seen, mut n_bad) = (last_seq, 0);
        for segment in segments(folder)?.into_iter().filter(|&number| number >= from.segment) {
            let mut offset = if segment == from.segment { from.offset } else { 0 };
            let file = File::open(segment_path(folder, segment))?;
            if segment > end.segment {
                end = Position { segment, offset: 0 };
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
                let place = Position { segment, offset };
                offset += n as u64;
                let Some(outline) = unframe::<Outline>(&bytes[..n - 1]) else {
                    recovered.n_damaged += 1;
                    n_bad += 1;
                    if unit.is_empty() {
                        end = Position { segment, offset };
                    }
                    continue;
                };
                recovered.n_damaged += outline.seq.saturating_sub(seen + 1).saturating_sub(n_bad);
                (seen, n_bad) = (outline.seq, 0);
                let closes = outline.cursor.is_some();
                let length = u32::try_from(n).unwrap_or(u32::MAX);
                unit.push((outline, place, length));
                if closes {
                    for (outline, place, length) in unit.drain(..) {
                        last_seq = outline.seq;
                        see(outline, place, length)?;
                    }
                    end = Position { segment, offset };
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
        // What a killed process wrote may be in memory only: a cursor must not rest on it.
        file.sync()?;
        disk.sync_dir(folder)?;
        let (disk, folder) = (disk.clone(), folder.to_owned());
        Ok((Self { disk, folder, file, end, last_seq, segment_bytes: SEGMENT_BYTES }, recovered))
    }

    /// The sequence number of the last line.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Begins another segment after so many bytes.
    pub(crate) fn set_segment_bytes(&mut self, n_bytes: u64) {
        self.segment_bytes = n_bytes;
    }

    /// Where the next line will begin.
    pub(crate) fn end(&self) -> Position {
        self.end
    }

    /// Appends framed lines whose last one closes a unit, and makes them durable. `last_seq` is the
    /// last line's. Returns where they begin.
    ///
    /// # Errors
    /// If they can't be written or synced. The journal then ends where it did, or can't be cut
    /// there, which the next start will do.
    pub(crate) fn append(&mut self, lines: &[u8], last_seq: u64) -> io::Result<Position> {
        if self.end.offset >= self.segment_bytes {
            let segment = self.end.segment + 1;
            let path = segment_path(&self.folder, segment);
            self.file = self.disk.create(&path)?;
            self.disk.sync_dir(&self.folder)?;
            self.end = Position { segment, offset: 0 };
        }
        let start = self.end;
        let written = self.file.write_all_at(lines, start.offset).and_then(|()| self.file.sync());
        if let Err(error) = written {
            self.file.set_len(start.offset)?;
            return Err(error);
        }
        self.end.offset += lines.len() as u64;
        self.last_seq = last_seq;
        Ok(start)
    }
}

/// Reads the line at a place that the index gave.
///
/// # Errors
/// If it can't be read, or is damaged or missing: `InvalidData`.
pub(crate) fn read_line(folder: &Path, place: Position, length: u32) -> io::Result<Line> {
    let read = || {
        let file = File::open(segment_path(folder, place.segment))?;
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, place.offset)?;
        bytes.pop();
        Ok::<_, io::Error>(unframe(&bytes))
    };
    let lost = |how: &str| {
        let Position { segment, offset } = place;
        let what = format!("{how} journal line at byte {offset} of segment {segment}");
        io::Error::new(io::ErrorKind::InvalidData, what)
    };
    match read() {
        Ok(line) => line.ok_or_else(|| lost("damaged")),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) =>
        {
            Err(lost("missing"))
        }
        Err(error) => Err(error),
    }
}

/// A line and where it stands.
#[derive(Debug)]
pub(crate) struct Placed<T> {
    pub(crate) line: T,
    pub(crate) place: Position,
    pub(crate) length: u32,
    /// Where the next one begins.
    pub(crate) end: Position,
}

/// Reads lines from a place up to another one, which a commit has got to. Damaged ones are left out.
#[derive(Debug)]
pub(crate) struct Lines<T> {
    folder: PathBuf,
    file: Option<BufReader<File>>,
    at: Position,
    until: Position,
    bytes: Vec<u8>,
    kind: PhantomData<T>,
}

impl<T> Lines<T> {
    pub(crate) fn new(folder: PathBuf, from: Position, until: Position) -> Self {
        Self { folder, file: None, at: from, until, bytes: Vec::new(), kind: PhantomData }
    }

    /// Reads the bytes of the next line, without its newline. False at the end.
    fn read(&mut self) -> io::Result<bool> {
        while self.at < self.until {
            if self.file.is_none() {
                let mut file = match File::open(segment_path(&self.folder, self.at.segment)) {
                    // One that is missing is told of where the journal is opened.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    file => Some(BufReader::with_capacity(1 << 16, file?)),
                };
                if let Some(file) = &mut file {
                    file.seek(SeekFrom::Start(self.at.offset))?;
                }
                self.file = file;
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
            self.at = Position { segment: self.at.segment + 1, offset: 0 };
        }
        Ok(false)
    }
}

impl<T: DeserializeOwned> Iterator for Lines<T> {
    type Item = io::Result<Placed<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.read() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
            let length = self.bytes.len() + 1;
            if let Some(line) = unframe(&self.bytes) {
                let place = Position { offset: self.at.offset - length as u64, ..self.at };
                let length = u32::try_from(length).unwrap_or(u32::MAX);
                return Some(Ok(Placed { line, place, length, end: self.at }));
            }
        }
    }
}

/// The journal's folder within a run's.
pub(crate) fn folder(run_folder: &Path) -> PathBuf {
    run_folder.join("journal")
}

/// Whether a run's folder holds a journal.
pub(crate) fn is_present(run_folder: &Path) -> bool {
    segments(&folder(run_folder)).is_ok_and(|segments| !segments.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(path: &str) -> SourceCursor {
        let stamp = Stamp { ino: 1, size: 2, mtime_ns: 3, ctime_ns: 4 };
        SourceCursor::Dump(DumpCursor::new(path.to_owned(), stamp, None))
    }

    fn line(seq: u64, closes: bool) -> Line {
        let event = Event::Commit { step: Step(seq) };
        Line { seq, event, cursor: closes.then(|| cursor("x")) }
    }

    fn frame(line: &Line) -> Vec<u8> {
        let mut bytes = Vec::new();
        super::frame(line, &mut bytes);
        bytes
    }

    /// The sequence numbers that a journal with these bytes gives back, and what opening did.
    fn recover(bytes: &[u8]) -> (Vec<u64>, Recovered, u64) {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(segment_path(folder.path(), 1), bytes).expect("a segment");
        let mut seen = Vec::new();
        let opened =
            Journal::open(&Disk::default(), folder.path(), Position::START, 0, |line, _, _| {
                seen.push(line.seq);
                Ok::<_, io::Error>(())
            });
        let (journal, recovered) = opened.expect("an open journal");
        let length = fs::metadata(segment_path(folder.path(), 1)).expect("a segment").len();
        assert_eq!(journal.end().offset, length);
        (seen, recovered, length)
    }

    #[test]
    fn a_frame_is_read_back_and_any_flipped_byte_is_noticed() {
        let bytes = frame(&line(7, true));
        assert_eq!(unframe::<Line>(&bytes[..bytes.len() - 1]), Some(line(7, true)));
        for i in 0..bytes.len() - 1 {
            let mut flipped = bytes[..bytes.len() - 1].to_vec();
            flipped[i] ^= 0x10;
            assert_eq!(unframe::<Line>(&flipped), None, "byte {i}");
        }
    }

    #[test]
    fn an_unfinished_unit_and_a_torn_line_are_cut_off() {
        let whole: Vec<u8> = [frame(&line(1, false)), frame(&line(2, true))].concat();
        let next = [frame(&line(3, false)), frame(&line(4, true))].concat();
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
            let mut lines = [frame(&line(1, true)), frame(&line(2, true)), frame(&line(3, true))];
            lines[damaged][9] ^= 1;
            let bytes = lines.concat();
            let (seen, recovered, length) = recover(&bytes);
            let want: Vec<u64> = (1..=3).filter(|&seq| seq != damaged as u64 + 1).collect();
            assert_eq!((seen, recovered.n_damaged, recovered.n_cut), (want, 1, 0));
            assert_eq!(length, bytes.len() as u64);
        }
    }
}
