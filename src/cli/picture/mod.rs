//! `safelight show --picture`: pictures in the terminal.
//!
//! | file | content |
//! | --- | --- |
//! | `detect` | which protocol a terminal understands |
//! | `terminal` | the terminal: its size, and its answer to a question |
//! | `layout` | how large a picture is shown, and the pixels for it |
//! | `kitty`, `iterm2`, `sixel`, `blocks` | the bytes of each protocol |

mod blocks;
mod detect;
mod iterm2;
mod kitty;
mod layout;
mod sixel;
mod terminal;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::layout::{Size, on_checks};
use super::args::PictureArg;
use super::format::printable;
use crate::convert::Pixels;
use crate::encode::{self, Encoding};
use crate::fleet::FleetFiles;
use crate::media::{CommittedImage, Fate, FileType, MediaEntry, RejectionClass, RunId};
use crate::overlays::{self, NotDrawn};
use crate::store::media_check::{Damage, MediaFiles, NamedFile};

/// The maximum size of a picture or mask that is decoded, in pixels.
const PIXELS_MAX: u64 = 1 << 25;

/// Sides of the checks behind transparent pixels: in pixels of the screen, and in half blocks.
const CHECK_PIXELS: u32 = 8;
const CHECK_BLOCKS: u32 = 2;

/// How a terminal is told to show a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Kitty,
    Iterm2,
    Sixel,
    Blocks,
}

/// Shows the images of one run.
pub(super) struct Screen {
    protocol: Protocol,
    size: Size,
    has_overlays: bool,
    /// The run's folder in the store.
    folder: PathBuf,
    /// Where the files come from, if the store is the scratch store of a fleet.
    fleet: Option<(Arc<FleetFiles>, RunId)>,
}

/// The bytes that show a picture, and the files of boxes and masks that are left out.
struct Shown {
    bytes: Vec<u8>,
    left_out: Vec<String>,
}

impl Screen {
    /// Finds the protocol, by asking the terminal if none is named. `store` is the store's directory, and `fleet` has
    /// its files if it is the scratch store of a fleet.
    ///
    /// # Errors
    /// If no protocol is named, and standard output is no terminal.
    pub(super) fn open(
        protocol: PictureArg,
        has_overlays: bool,
        store: &Path,
        run: &RunId,
        fleet: Option<Arc<FleetFiles>>,
    ) -> anyhow::Result<Self> {
        let protocol = match protocol {
            PictureArg::Auto => terminal::best_protocol()?,
            PictureArg::Kitty => Protocol::Kitty,
            PictureArg::Iterm2 => Protocol::Iterm2,
            PictureArg::Sixel => Protocol::Sixel,
            PictureArg::Blocks => Protocol::Blocks,
        };
        let folder = store.join("runs").join(run.folder());
        let fleet = fleet.map(|files| (files, run.clone()));
        Ok(Self { protocol, size: terminal::size(), has_overlays, folder, fleet })
    }

    /// Prints an item: the picture, if it has one, and a line of text. Returns whether all of its files were shown.
    /// Files that were not are named on standard error.
    ///
    /// # Errors
    /// If `out` fails.
    pub(super) fn show(&self, item: &MediaEntry, out: &mut impl Write) -> io::Result<bool> {
        let mut troubles = Vec::new();
        if let Some(image) = item.as_image().filter(|image| !image.pruned) {
            match self.shown(image) {
                Ok(Shown { bytes, left_out }) => {
                    out.write_all(&bytes)?;
                    writeln!(out)?;
                    troubles = left_out;
                }
                Err(trouble) => troubles.push(trouble),
            }
        }
        writeln!(out, "{}", line(item))?;
        if !troubles.is_empty() {
            // Each message stands below its item.
            out.flush()?;
        }
        for trouble in &troubles {
            // Nobody may read it.
            drop(writeln!(io::stderr(), "safelight: {}", printable(trouble)));
        }
        Ok(troubles.is_empty())
    }

    /// Makes the bytes that show an image.
    ///
    /// # Errors
    /// Which file cannot be shown, and why.
    fn shown(&self, image: &CommittedImage) -> Result<Shown, String> {
        let failed = |reason: String| self.trouble(&image.file.path, &reason);
        let file = self.read((&image.file).into()).map_err(failed)?;
        let size = (image.file.width, image.file.height);
        let is_png = image.file.file_type == FileType::Png;
        let is_drawn_on = self.has_overlays && overlays::has_any(&image.layers);
        let is_large_enough = self.size.pixels().factor(size) == 1;
        // The terminal would smooth a picture that it enlarges, so that small pictures are enlarged here.
        let is_sent_as_it_is = match self.protocol {
            Protocol::Kitty => is_png && is_large_enough && !is_drawn_on,
            Protocol::Iterm2 => is_large_enough && !is_drawn_on,
            Protocol::Sixel | Protocol::Blocks => false,
        };
        if is_sent_as_it_is {
            let bytes = self.placed(&file, self.size.limit(size));
            return Ok(Shown { bytes, left_out: Vec::new() });
        }
        if image.file.file_type == FileType::Tiff {
            return Err(failed("a TIFF is not shown in a terminal".to_owned()));
        }
        let pixels = encode::read(&file, PIXELS_MAX);
        let pixels = pixels.map_err(|error| failed(format!("cannot decode picture: {error}")))?;
        let space = match self.protocol {
            Protocol::Kitty | Protocol::Iterm2 => self.size.pixels(),
            Protocol::Sixel => self.size.pixels().at_most(sixel::SIDE_MAX),
            Protocol::Blocks => self.size.blocks(),
        };
        let (mut pixels, factor) = space.fit(pixels);
        let mut left_out = Vec::new();
        if is_drawn_on {
            // On the scaled picture, so that lines stay crisp.
            let read = |file: NamedFile<'_>| self.read(file);
            let not_drawn = overlays::draw(&mut pixels, size, &image.layers, PIXELS_MAX, read);
            let trouble = |file: NotDrawn| self.trouble(&file.path, &file.reason);
            left_out.extend(not_drawn.into_iter().map(trouble));
        }
        let bytes = self.encoded(pixels, factor > 1).map_err(failed)?;
        Ok(Shown { bytes, left_out })
    }

    /// Encodes pixels that have the size to show.
    fn encoded(&self, pixels: Pixels, is_enlarged: bool) -> Result<Vec<u8>, String> {
        match self.protocol {
            Protocol::Kitty | Protocol::Iterm2 => {
                let png = encode::encode(&pixels, Encoding::default());
                Ok(self.placed(&png.map_err(|error| error.to_string())?.bytes, None))
            }
            Protocol::Sixel => sixel::encode(&on_checks(pixels, CHECK_PIXELS), is_enlarged)
                .map(String::into_bytes)
                .map_err(|error| error.to_string()),
            Protocol::Blocks => Ok(blocks::encode(&on_checks(pixels, CHECK_BLOCKS)).into_bytes()),
        }
    }

    /// The bytes that show a file, for protocols whose terminal decodes files.
    fn placed(&self, file: &[u8], limit: Option<layout::Limit>) -> Vec<u8> {
        if self.protocol == Protocol::Iterm2 {
            iterm2::encode(file, limit)
        } else {
            kitty::encode(file, limit)
        }
    }

    /// Reads a file of an image, which must have its journaled size and digest.
    ///
    /// # Errors
    /// What is wrong, without the path.
    fn read(&self, file: NamedFile<'_>) -> Result<Vec<u8>, String> {
        if let Some((files, run)) = &self.fleet {
            files.fetch(run, file).map_err(|error| error.to_string())?;
        }
        let files = MediaFiles::open(&self.folder, Arc::default());
        files.and_then(|files| files.read(file)).map_err(|damage| {
            let advice = "safelight verify --repair makes it again";
            match damage {
                Damage::Missing => format!("media file is missing ({advice})"),
                Damage::NoFile(what) => format!("media file {what} ({advice})"),
                Damage::Unreadable(_) => format!("media file {damage}"),
                Damage::Size { .. } | Damage::Content { .. } | Damage::Disk(_) => {
                    format!("media file is damaged: {damage} ({advice})")
                }
            }
        })
    }

    /// Says what is wrong with a file of an image.
    fn trouble(&self, path: &str, reason: &str) -> String {
        match &self.fleet {
            Some((files, _)) => format!("{reason}: {}", files.url()),
            None => format!("{reason}: {}", self.folder.join(path).display()),
        }
    }
}

/// Describes an item on one line, safe for a terminal.
fn line(item: &MediaEntry) -> String {
    let key = item.key().map_or("(no key)", |key| key.as_str());
    let step = item.step().map_or_else(|| "?".to_owned(), |step| step.to_string());
    let index = item.index().map(|index| format!(" [{index}]")).unwrap_or_default();
    let what = match &item.fate {
        Fate::Image(image) => {
            let file = &image.file;
            let pruned = if image.pruned { ", removed by retention" } else { "" };
            let mode = file.mode.map(|mode| format!(" {mode}")).unwrap_or_default();
            format!(" {}×{}{mode}{pruned}", file.width, file.height)
        }
        Fate::Held { reason, .. } => format!(": held back: {reason}"),
        Fate::Rejected { reason, class: RejectionClass::Waiting, .. } => {
            format!(": rejected, is tried again: {reason}")
        }
        Fate::Rejected { reason, .. } => format!(": rejected: {reason}"),
    };
    let caption = item.description.caption.as_ref().filter(|caption| !caption.is_null());
    let caption = caption.map(|caption| caption.to_text().unwrap_or_else(|| caption.to_string()));
    let caption = caption.filter(|_| item.as_image().is_some());
    let caption = caption.map(|caption| format!(": {caption}")).unwrap_or_default();
    printable(&format!("{key} step {step}{index}{what}{caption}"))
}

#[cfg(test)]
mod tests;
