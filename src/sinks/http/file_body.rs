//! A media file as the body of a request.

use std::io;

use futures_util::Stream;
use futures_util::stream::try_unfold;
use reqwest::Body;
use sha2::Digest;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use crate::media::Sha256;
use crate::sinks::{Delivery, SinkError, check_file, open_file, read_file};
use crate::store::media_check::NamedFile;

/// A file of more bytes is sent from the disk in parts. A smaller one is read as a whole, and sent only if its digest is
/// right.
const WHOLE_BYTES_MAX: u64 = 8 << 20;

const PART_BYTES: usize = 256 << 10;

/// Returns a file of an item as a body. The last part of a streamed file is sent only if its digest is right; else the
/// request fails. Call [`or_damage`] then.
///
/// # Errors
/// If the file is missing, damaged or can't be read.
pub(crate) async fn file_body(item: &Delivery, file: NamedFile<'_>) -> Result<Body, SinkError> {
    if file.size <= WHOLE_BYTES_MAX {
        return read_file(item, file).await.map(Body::from);
    }
    let opened = File::from_std(open_file(item, file)?);
    Ok(Body::wrap_stream(parts(opened, file.size, file.sha256)))
}

/// Returns why a file could not be sent: its damage if it is damaged, else `error`.
pub(crate) async fn or_damage(item: &Delivery, file: NamedFile<'_>, error: SinkError) -> SinkError {
    if file.size <= WHOLE_BYTES_MAX {
        return error;
    }
    let NamedFile { path, size, sha256 } = file;
    let (path, item) = (path.to_owned(), item.clone());
    let check = move || check_file(&item, NamedFile { path: &path, size, sha256 });
    match tokio::task::spawn_blocking(check).await {
        Ok(Err(damage)) => damage,
        _ => error,
    }
}

fn parts(file: File, size: u64, sha256: Sha256) -> impl Stream<Item = io::Result<Vec<u8>>> + Send {
    let start = (file, sha2::Sha256::new(), size);
    try_unfold(start, move |(mut file, mut hasher, n_left)| async move {
        if n_left == 0 {
            return Ok(None);
        }
        let n = PART_BYTES.min(usize::try_from(n_left).unwrap_or(PART_BYTES));
        let mut part = vec![0; n];
        file.read_exact(&mut part).await?;
        hasher.update(&part);
        let n_left = n_left - n as u64;
        if n_left == 0 {
            let digest: [u8; 32] = hasher.clone().finalize().into();
            if Sha256::from(digest) != sha256 {
                return Err(io::Error::other("the media file has changed"));
            }
        }
        Ok(Some((part, (file, hasher, n_left))))
    })
}
