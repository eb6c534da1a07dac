//! Trackio's directory: images, and fragments of rows that a running server imports.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::of_line;
use crate::formats::trackio::Names;
use crate::media::Sha256;
use crate::sinks::target_dir::TargetDir;
use crate::sinks::{Delivery, SinkError, read_file};

/// How many times a fragment's folder is created. The server removes the folder when it is empty.
const ATTEMPTS: usize = 5;

/// The directory of a Trackio.
#[derive(Debug, Clone)]
pub(super) struct TrackioInbox(TargetDir);

/// Returns the folder of a step's images.
fn step_folder(names: &Names, item: &Delivery) -> PathBuf {
    Path::new("media").join(names.step_folder(item.id.step))
}

impl TrackioInbox {
    pub(super) fn new(dir: TargetDir) -> Self {
        Self(dir)
    }

    /// Writes an image. Its folder is synced by [`Self::write_fragment`], once for all images of a commit.
    pub(super) async fn put(&self, names: &Names, item: &Delivery) -> Result<(), SinkError> {
        let bytes = read_file(item, &item.file).await?;
        let folder = step_folder(names, item);
        let path = folder.join(names.file_name(&item.id, &item.file));
        let dir = self.0.clone();
        let write = move || {
            dir.create_dir_all(&folder)?;
            dir.write_once(&path, &bytes)
        };
        let written = tokio::task::spawn_blocking(write).await;
        written.map_err(SinkError::retry)?.map_err(SinkError::retry)
    }

    /// Writes the rows of images as one fragment. The fragment's name contains the digest of its content, so that it
    /// never replaces a fragment that the server has not imported yet.
    pub(super) fn write_fragment(
        &self,
        names: &Names,
        items: &[Delivery],
        has_config: bool,
    ) -> io::Result<()> {
        let dir = &self.0;
        let folders: BTreeSet<_> = items.iter().map(|item| step_folder(names, item)).collect();
        folders.iter().try_for_each(|folder| dir.sync_dir(folder))?;
        let mut lines = String::new();
        for line in names.lines(items.iter().map(of_line), has_config) {
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
        let digest = |text: &str| Sha256::of(text.as_bytes()).to_string()[..16].to_owned();
        let first = items.first().map_or(0, |item| item.seq);
        let writer = format!("safelight-{}", digest(names.id.as_str()));
        let folder = Path::new("inbox").join(writer);
        let path = folder.join(format!("{first:08}-{}.jsonl", digest(&lines)));
        let mut attempt = 1;
        loop {
            let written = dir
                .create_dir_all(&folder)
                .and_then(|()| dir.write_once(&path, lines.as_bytes()))
                .and_then(|()| dir.sync_dir(&folder));
            match written {
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => {
                    attempt += 1;
                }
                written => return written,
            }
        }
    }
}
