//! Checks that log lines name each byte of a dump of raw bytes, as the lines of small images in one file do.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::decode::RawLayout;
use crate::ingest::LineRecords;
use crate::media::MediaEntry;
use crate::record::MediaRecord;
use crate::run_dir::RunDir;

/// Checks that the lines that described `images` name each byte of the dump at `path`, which has `n_bytes`. Reads the
/// lines again.
///
/// # Errors
/// The reason why the dump must stay.
pub(super) fn all_is_named(
    dir: &RunDir,
    path: &str,
    n_bytes: u64,
    images: &[MediaEntry],
    line_bytes_max: u64,
) -> Result<(), String> {
    let mut lines = LineRecords::default();
    let places: BTreeSet<(&str, u64)> = images
        .iter()
        .filter_map(|image| image.source.log.as_deref().zip(image.source.line))
        .collect();
    let mut parts = Vec::with_capacity(places.len());
    for (log, number) in places {
        let unreadable =
            |why| format!("line {number} of the log {log:?} names it, and cannot be read: {why}");
        let record = lines.read(dir, log, number, line_bytes_max);
        let record = record.map_err(|rejection| unreadable(rejection.reason))?;
        if dir.relative(&record.data.path).as_deref() == Ok(path) {
            parts.extend(part(&record, n_bytes));
        }
    }
    if is_covered(parts, n_bytes) {
        Ok(())
    } else {
        Err("log lines name parts of it, not the whole".to_owned())
    }
}

/// The bytes that a record names, of a dump of `n_bytes`. `None` if it does not describe raw bytes.
fn part(record: &MediaRecord, n_bytes: u64) -> Option<Range<u64>> {
    let RawLayout { shape, offset, .. } = record.data.raw.as_ref()?;
    // Without an offset, raw bytes are accepted only if their number fits the shape exactly.
    let Some(start) = *offset else { return Some(0..n_bytes) };
    let length = shape.n_elements().checked_mul(record.data.dtype?.size() as u64)?;
    Some(start..start.checked_add(length)?)
}

/// Whether the parts together have each byte up to `n_bytes`.
fn is_covered(mut parts: Vec<Range<u64>>, n_bytes: u64) -> bool {
    parts.sort_unstable_by_key(|part| part.start);
    let end = parts.iter().try_fold(0, |end, part| (part.start <= end).then(|| end.max(part.end)));
    end.is_some_and(|end| end >= n_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_a_dump_if_no_byte_is_between_them() {
        let check = |parts: &[(u64, u64)], want| {
            let ranges = parts.iter().map(|&(start, end)| start..end).collect();
            assert_eq!(is_covered(ranges, 8), want, "{parts:?}");
        };
        check(&[(0, 8)], true);
        check(&[(4, 8), (0, 4)], true);
        check(&[(0, 5), (2, 3), (5, 8)], true);
        check(&[], false);
        check(&[(0, 7)], false);
        check(&[(1, 8)], false);
        check(&[(0, 3), (4, 8)], false);
        check(&[(0, 3), (4, 8), (0, 3)], false);
    }
}
