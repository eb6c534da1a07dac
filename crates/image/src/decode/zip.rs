//! The directory of a zip file, as npz and torch files have one. Pure.
//!
//! Names of members are values, never paths. What could make a reader lose its way is refused:
//! members that overlap, are encrypted, spread over several disks, or differ between the directory
//! and their own header.

use std::collections::HashSet;
use std::io;

use rawzip::{CompressionMethod, ErrorKind, ReaderAt, ZipArchive, ZipLocator};

use super::storage::inflate_start;
use super::{DecodeError, DecodeOptions, ReadAt, TENSORS_MAX};
use crate::tensor::{Encoding, Storage};

/// The last bytes of a file in which the directory's end must begin: its own length and the longest
/// comment.
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

/// The members of a zip file, folders left out, in the order of its directory.
///
/// # Errors
/// `Unfinished` without a directory, else as the directory or a member's header is wrong.
pub(super) fn members(
    dump: &impl ReadAt,
    options: &DecodeOptions,
) -> Result<Vec<Member>, DecodeError> {
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
            return Err(malformed(&format!("member {name:?} stands twice")));
        }
        found.push((name, encoding, entry.crc32(), entry.wayfinder(), entry.local_header_offset()));
    }
    if archive.entries_hint() != found.len() as u64 {
        let (n, hint) = (found.len(), archive.entries_hint());
        return Err(malformed(&format!("{n} members, the directory's end says {hint}")));
    }
    let directory = archive.directory_offset();
    let mut ranges = Vec::new();
    let mut members = Vec::new();
    for (name, encoding, crc32, wayfinder, start) in found {
        let (begin, end) = place(&archive, wayfinder, &name, encoding)?;
        ranges.push((start, end));
        if end > directory {
            return Err(malformed(&format!("member {name:?} reaches into the directory")));
        }
        if name.ends_with('/') {
            continue;
        }
        let n_bytes = wayfinder.uncompressed_size_hint();
        let crc32 = Some(crc32);
        let storage = Storage { offset: begin, n_stored: end - begin, n_bytes, encoding, crc32 };
        members.push(Member { name, storage });
    }
    ranges.sort_unstable();
    if ranges.is_sorted_by(|before, after| before.1 <= after.0) {
        Ok(members)
    } else {
        Err(malformed("members overlap"))
    }
}

/// Where a member's bytes lie, once its own header is found to agree with the directory.
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
        let what = format!("member {name:?} is another one by its own header");
        return Err(malformed(&what));
    }
    Ok(entry.compressed_data_range())
}

/// All bytes of a small member.
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
