//! The parts of a dump that are in none of its tensors.

use super::{Contents, DecodeError, DecodeOptions, ReadAt, contents, npy, torch, zip};

/// Names what a dump holds that [`contents`] passes over or cannot read. `None` if each byte belongs to a
/// tensor or to a header. A picture is one whole.
///
/// Only headers are read.
///
/// # Errors
/// As [`contents`].
pub fn unread(
    dump: &impl ReadAt,
    options: &DecodeOptions,
) -> Result<Option<&'static str>, DecodeError> {
    let Contents::Tensors { tensors, .. } = contents(dump, options)? else { return Ok(None) };
    let headers = tensors.iter().map(|tensor| tensor.header.as_ref());
    let Ok(headers) = headers.collect::<Result<Vec<_>, _>>() else {
        return Ok(Some("entries that cannot be read as tensors"));
    };
    let mut start = [0; 4];
    dump.read_exact_at(&mut start, 0)?;
    if npy::MAGIC.starts_with(&start) {
        let end =
            headers.iter().map(|header| header.storage.offset + header.storage.n_stored).max();
        return Ok((end != Some(dump.n_bytes())).then_some("bytes after its array"));
    }
    if !start.starts_with(b"PK") {
        // The header of a safetensors file describes all of its bytes.
        return Ok(None);
    }
    let directory = zip::directory(dump, options)?;
    if zip::has_other_bytes(dump, &directory)? {
        return Ok(Some("bytes that belong to no member of the zip file"));
    }
    if torch::is_archive(&directory.members) {
        return torch::unread(dump, &directory.members, options);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! golden {
        ($name:literal) => {
            ($name, include_bytes!(concat!("../../../../tests/golden/dumps/", $name)).as_slice())
        };
    }

    fn check(dump: &[u8], want: Option<&str>, name: &str) {
        let options = DecodeOptions {
            header_bytes_max: 1 << 20,
            storage_bytes_max: 1 << 20,
            ..DecodeOptions::default()
        };
        let got = unread(&dump, &options).expect("a dump");
        assert_eq!(got, want, "{name}");
    }

    fn npy(n: usize) -> Vec<u8> {
        let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({n},)}}\n");
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend(u16::try_from(header.len()).expect("a short header").to_le_bytes());
        file.extend(header.as_bytes());
        file.resize(file.len() + n, 0);
        file
    }

    /// A zip file as it is appended to a file that has bytes already.
    fn after_others(zip: &[u8]) -> Vec<u8> {
        const N_BEFORE: u32 = 100;
        let mut file = zip.to_vec();
        let mut add = |at: usize| {
            let number = file[at..].first_chunk_mut::<4>().expect("an offset");
            *number = (u32::from_le_bytes(*number) + N_BEFORE).to_le_bytes();
        };
        let entries = zip.windows(4).enumerate().filter(|(_, bytes)| bytes == b"PK\x01\x02");
        entries.for_each(|(at, _)| add(at + 42));
        add(zip.len() - 6);
        let mut before = b"PK\x03\x04".to_vec();
        before.resize(N_BEFORE as usize, 0);
        [before, file].concat()
    }

    #[test]
    fn what_is_in_no_tensor_is_named() {
        // Retention removed a dump when its images were committed, though it held more than them.
        check(&npy(4), None, "npy");
        check(&[npy(4), npy(5)].concat(), Some("bytes after its array"), "two arrays");
        let other = Some("bytes that belong to no member of the zip file");
        let (name, stored) = golden!("npz/stored.npz");
        check(&after_others(stored), other, &format!("{name} appended to another file"));
        for ((name, dump), want) in [
            (golden!("npz/stored.npz"), None),
            (golden!("npz/deflated.npz"), None),
            (golden!("npz/streamed.npz"), None),
            (golden!("npz/streamed-deflated.npz"), None),
            (golden!("npz/streamed-zip64-directory.npz"), None),
            (golden!("npz/zip64-directory.npz"), None),
            (golden!("npz/comment.npz"), other),
            (golden!("safetensors-0.8/dtypes.safetensors"), None),
            (golden!("torch-1.13/dict.pt"), None),
            (golden!("torch-2.15/dict.pt"), None),
            (golden!("torch-2.15/nested.pt"), Some("values that are no tensors, or have no name")),
            (
                golden!("torch-2.15/state-dict.pt"),
                Some("values that are no tensors, or have no name"),
            ),
            (
                golden!("torch-2.15/checkpoint.pt"),
                Some("values that are no tensors, or have no name"),
            ),
        ] {
            check(dump, want, name);
        }
    }
}
