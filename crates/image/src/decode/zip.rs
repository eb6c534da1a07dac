//! The directory of a zip file: npz and torch files are zip files.
//!
//! Names of members are never used as paths. Members that overlap, are encrypted, are spread over several
//! disks, or differ between the directory and their own header are refused.

use std::collections::HashSet;
use std::io;

use rawzip::{CompressionMethod, ErrorKind, ReaderAt, ZipArchive, ZipLocator};

use super::storage::inflate_start;
use super::{DecodeError, DecodeOptions, ReadAt, TENSORS_MAX};
use crate::tensor::{Encoding, Storage};
use crate::words::counted;

/// Number of last bytes of a file in which the end of the directory must begin: its own length and the
/// longest comment.
const END_BYTES_MAX: u64 = 65_557;

/// A member of a zip file.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) storage: Storage,
}

struct Archive<'a, R>(&'a R);

impl<R: ReadAt> ReaderAt for Archive<'_, R> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let n = self.0.n_bytes().saturating_sub(offset).min(buffer.len() as u64);
        let n = usize::try_from(n).unwrap_or(0);
        self.0.read_exact_at(&mut buffer[..n], offset)?;
        Ok(n)
    }
}

/// The directory of a zip file.
pub(super) struct Directory {
    /// The members without folders, in the order of the directory.
    pub(super) members: Vec<Member>,
    /// Start, header included, and end of each member, in rising order.
    ranges: Vec<(u64, u64)>,
    /// Whether a folder has bytes of its own.
    has_folder_bytes: bool,
    /// Start of the directory.
    offset: u64,
}

/// Reads the directory of a zip file, and each member's own header.
///
/// # Errors
/// `Unfinished` without a directory, else as the directory or a member's header is wrong.
pub(super) fn directory(
    dump: &impl ReadAt,
    options: &DecodeOptions,
) -> Result<Directory, DecodeError> {
    let mut buffer = vec![0; rawzip::RECOMMENDED_BUFFER_SIZE];
    let archive = ZipLocator::new()
        .max_search_space(END_BYTES_MAX)
        .locate_in_reader(Archive(dump), &mut buffer, dump.n_bytes())
        .map_err(|(_, error)| of_zip(error))?;
    let (mut found, mut names) = (Vec::new(), HashSet::new());
    let mut entries = archive.entries(&mut buffer);
    while let Some(entry) = entries.next_entry().map_err(of_zip)? {
        if found.len() == TENSORS_MAX {
            let what = format!("zip file of more than {TENSORS_MAX} members");
            return Err(DecodeError::OverLimit(what));
        }
        let raw_name = entry.file_path().as_bytes().to_vec();
        let name = String::from_utf8(raw_name).map_err(|_| malformed("a name is not UTF-8"))?;
        let encoding = match entry.compression_method() {
            CompressionMethod::STORE => Encoding::Plain,
            CompressionMethod::DEFLATE => Encoding::Deflated,
            _ => return Err(malformed(&format!("member {name:?} is neither stored nor deflated"))),
        };
        if entry.flags().is_encrypted() || entry.flags().is_masked() {
            return Err(malformed(&format!("member {name:?} is encrypted")));
        }
        let (n_bytes, n_stored) = (entry.uncompressed_size_hint(), entry.compressed_size_hint());
        if encoding == Encoding::Plain && n_bytes != n_stored {
            let what = format!("member {name:?} is stored in {n_stored} bytes but has {n_bytes}");
            return Err(malformed(&what));
        }
        if n_bytes > options.storage_bytes_max {
            let (what, max) = ("limits.dump_bytes_max", options.storage_bytes_max);
            let what = format!("member {name:?} of {n_bytes} bytes, {what} is {max}");
            return Err(DecodeError::OverLimit(what));
        }
        if !names.insert(name.clone()) {
            return Err(malformed(&format!("member {name:?} occurs twice")));
        }
        found.push((name, encoding, entry.crc32(), entry.wayfinder(), entry.local_header_offset()));
    }
    if archive.entries_hint() != found.len() as u64 {
        let (members, hint) = (counted(found.len() as u64, "member"), archive.entries_hint());
        return Err(malformed(&format!("got {members}, want {hint} by the end of the directory")));
    }
    let offset = archive.directory_offset();
    let mut ranges = Vec::new();
    let (mut members, mut has_folder_bytes) = (Vec::new(), false);
    for (name, encoding, crc32, wayfinder, start) in found {
        let (begin, end) = place(&archive, wayfinder, &name, encoding)?;
        ranges.push((start, end));
        if end > offset {
            return Err(malformed(&format!("member {name:?} reaches into the directory")));
        }
        if name.ends_with('/') {
            has_folder_bytes |= begin < end;
            continue;
        }
        let n_bytes = wayfinder.uncompressed_size_hint();
        let crc32 = Some(crc32);
        let storage = Storage { offset: begin, n_stored: end - begin, n_bytes, encoding, crc32 };
        members.push(Member { name, storage });
    }
    ranges.sort_unstable();
    if ranges.is_sorted_by(|before, after| before.1 <= after.0) {
        Ok(Directory { members, ranges, has_folder_bytes, offset })
    } else {
        Err(malformed("members overlap"))
    }
}

/// Names bytes of a zip file that are neither a member nor its directory, such as another zip file before
/// it. A comment counts as such bytes.
pub(super) fn other_bytes(
    dump: &impl ReadAt,
    directory: &Directory,
) -> io::Result<Option<&'static str>> {
    let mut at = 0;
    let mut has_others = directory.has_folder_bytes;
    for &(start, end) in directory.ranges.iter().chain([&(directory.offset, directory.offset)]) {
        has_others = has_others || !is_descriptor(dump, at, start)?;
        at = end;
    }
    let has_others =
        has_others || directory_end(&Tail::read(dump, at)?, at)? != Some(dump.n_bytes());
    Ok(has_others.then_some("bytes that belong to no member of the zip file"))
}

/// The end of a dump, read at once unless it is long.
struct Tail<'a, R> {
    dump: &'a R,
    first: u64,
    bytes: Vec<u8>,
}

impl<'a, R: ReadAt> Tail<'a, R> {
    const BYTES_MAX: u64 = 64 << 10;

    fn read(dump: &'a R, first: u64) -> io::Result<Self> {
        let n = dump.n_bytes().saturating_sub(first);
        let n = if n <= Self::BYTES_MAX { n } else { 0 };
        let mut bytes = vec![0; usize::try_from(n).unwrap_or(0)];
        dump.read_exact_at(&mut bytes, first)?;
        Ok(Self { dump, first, bytes })
    }
}

impl<R: ReadAt> ReadAt for Tail<'_, R> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match offset.checked_sub(self.first) {
            Some(at) if !self.bytes.is_empty() => self.bytes.as_slice().read_exact_at(buffer, at),
            _ => self.dump.read_exact_at(buffer, offset),
        }
    }

    fn n_bytes(&self) -> u64 {
        self.dump.n_bytes()
    }
}

/// Whether the bytes between two members are none, or the size and checksum of the first one.
fn is_descriptor(dump: &impl ReadAt, from: u64, to: u64) -> io::Result<bool> {
    let n = to.saturating_sub(from);
    if n == 0 {
        return Ok(true);
    }
    let mut signature = [0; 4];
    Ok(matches!(n, 16 | 24) && {
        dump.read_exact_at(&mut signature, from)?;
        signature == *b"PK\x07\x08"
    })
}

/// Returns the end of the directory that begins at `at`, including its end records. `None` if it has a
/// comment or unknown parts.
fn directory_end(dump: &impl ReadAt, mut at: u64) -> io::Result<Option<u64>> {
    const ENTRY_BYTES: u64 = 46;
    const ZIP64_END_BYTES: u64 = 56;
    const ZIP64_LOCATOR_BYTES: u64 = 20;
    const END_BYTES: u64 = 22;
    loop {
        let mut head = [0; 22];
        if at.saturating_add(END_BYTES) > dump.n_bytes() {
            return Ok(None);
        }
        dump.read_exact_at(&mut head, at)?;
        match &head[..4] {
            b"PK\x01\x02" => {
                let mut lengths = [0; 6];
                dump.read_exact_at(&mut lengths, at + 28)?;
                let (lengths, _) = lengths.as_chunks::<2>();
                let lengths = lengths.iter().map(|length| u64::from(u16::from_le_bytes(*length)));
                at += ENTRY_BYTES + lengths.sum::<u64>();
            }
            // Its length, without the first 12 bytes.
            b"PK\x06\x06" if head[4..12] == (ZIP64_END_BYTES - 12).to_le_bytes() => {
                at += ZIP64_END_BYTES;
            }
            b"PK\x06\x07" => at += ZIP64_LOCATOR_BYTES,
            b"PK\x05\x06" if head[20..] == [0, 0] => return Ok(Some(at + END_BYTES)),
            _ => return Ok(None),
        }
    }
}

/// Checks that the header of a member agrees with the directory, and returns start and end of its bytes.
fn place<R: ReadAt>(
    archive: &ZipArchive<Archive<'_, R>>,
    wayfinder: rawzip::ZipArchiveEntryWayfinder,
    name: &str,
    encoding: Encoding,
) -> Result<(u64, u64), DecodeError> {
    let entry = archive.get_entry(wayfinder).map_err(of_zip)?;
    let mut buffer = vec![0; 2 * usize::from(u16::MAX)];
    let header = entry.local_header(&mut buffer).map_err(of_zip)?;
    let is_plain = header.compression_method() == CompressionMethod::STORE;
    if header.file_path().as_bytes() != name.as_bytes()
        || is_plain != (encoding == Encoding::Plain)
        || header.flags().is_encrypted()
    {
        let what =
            format!("member {name:?} has another name, method or encryption in its own header");
        return Err(malformed(&what));
    }
    Ok(entry.compressed_data_range())
}

/// Returns all bytes of a small member.
///
/// # Errors
/// `OverLimit` above [`DecodeOptions::header_bytes_max`].
pub(super) fn read(
    dump: &impl ReadAt,
    member: &Member,
    options: &DecodeOptions,
) -> Result<Vec<u8>, DecodeError> {
    let (n, max) = (member.storage.n_bytes, options.header_bytes_max);
    if n > max {
        let name = &member.name;
        let what = format!("{name:?} of {n} bytes, limits.header_bytes_max is {max}");
        return Err(DecodeError::OverLimit(what));
    }
    inflate_start(dump, &member.storage, n)
}

fn malformed(what: &str) -> DecodeError {
    DecodeError::Malformed(format!("zip: {what}"))
}

fn of_zip(error: rawzip::Error) -> DecodeError {
    match error.into_kind() {
        ErrorKind::MissingEndOfCentralDirectory => {
            DecodeError::Unfinished("a zip file without its directory")
        }
        ErrorKind::Eof => DecodeError::Unfinished("a zip file that ends in its directory"),
        ErrorKind::IO(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            DecodeError::Unfinished("a zip file that became shorter")
        }
        ErrorKind::IO(error) => error.into(),
        kind => malformed(&kind.to_string()),
    }
}
