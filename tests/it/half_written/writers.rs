//! Ways in which jobs write a dump.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::SETTLE;
use crate::harness::{Random, npy, npz};

/// A dump that a job writes.
pub(super) struct Job<'a> {
    pub(super) run: &'a Path,
    /// Path of the complete dump, relative to the run directory.
    pub(super) path: String,
    pub(super) bytes: Vec<u8>,
    pub(super) random: Random,
    /// The longest time between two writes, which depends on the machine's load, too.
    pub(super) longest: Duration,
    pub(super) last: Instant,
}

impl Job<'_> {
    fn at(&self) -> PathBuf {
        self.run.join(&self.path)
    }

    /// Path of a temporary file outside of `dumps/`.
    fn aside(&self) -> PathBuf {
        let folder = self.run.join("aside");
        fs::create_dir_all(&folder).expect("a folder");
        folder.join(self.path.replace('/', "-"))
    }

    fn pause(&mut self, longest: Duration) {
        let ms = u64::try_from(longest.as_millis()).expect("a short time");
        thread::sleep(Duration::from_millis(self.random.below(ms + 1)));
    }

    /// Splits its bytes at random places.
    fn pieces(&mut self) -> Vec<(usize, usize)> {
        let n = self.bytes.len();
        let mut cuts: Vec<usize> = (0..self.random.below(6))
            .map(|_| usize::try_from(self.random.below(n as u64)).expect("a place"))
            .chain([0, n])
            .collect();
        cuts.sort_unstable();
        cuts.windows(2).map(|cut| (cut[0], cut[1])).collect()
    }

    /// Writes everything into an open file, piece by piece, with pauses.
    fn write_pieces(&mut self, file: &File, longest: Duration) {
        for (from, to) in self.pieces() {
            file.write_all_at(&self.bytes[from..to], from as u64).expect("a write");
            self.note_write();
            self.pause(longest);
        }
        self.note_write();
    }

    fn note_write(&mut self) {
        self.longest = self.longest.max(self.last.elapsed());
        self.last = Instant::now();
    }
}

const SHORT: Duration = Duration::from_millis(150);

fn create(path: &Path) -> File {
    fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    File::create(path).expect("a dump")
}

/// A way to write a dump.
pub(super) type Style = fn(&mut Job<'_>);

/// Writes under the final name. Sometimes pauses for longer than the settling time.
fn in_place(job: &mut Job<'_>) {
    let file = create(&job.at());
    let long = job.random.below(20) == 0;
    job.write_pieces(&file, if long { SETTLE * 3 / 2 } else { SHORT });
    // The header shows that the dump is incomplete, so that such a pause is allowed.
    job.longest = Duration::ZERO;
}

/// Opens and closes the file for each piece.
fn in_parts(job: &mut Job<'_>) {
    drop(create(&job.at()));
    for (from, to) in job.pieces() {
        let mut file = OpenOptions::new().append(true).open(job.at()).expect("the dump");
        file.write_all(&job.bytes[from..to]).expect("a write");
        drop(file);
        job.pause(SHORT);
    }
}

/// Sets the final length first, without allocating blocks.
fn set_length_first(job: &mut Job<'_>) {
    let file = create(&job.at());
    file.set_len(job.bytes.len() as u64).expect("a length");
    job.last = Instant::now();
    job.write_pieces(&file, SHORT);
}

/// Allocates all blocks first, then writes from the end to the beginning.
fn allocate_first(job: &mut Job<'_>) {
    let file = create(&job.at());
    let n = job.bytes.len() as u64;
    let mode = rustix::fs::FallocateFlags::empty();
    rustix::fs::fallocate(&file, mode, 0, n).expect("blocks");
    job.last = Instant::now();
    for (from, to) in job.pieces().into_iter().rev() {
        file.write_all_at(&job.bytes[from..to], from as u64).expect("a write");
        job.note_write();
        job.pause(SHORT);
    }
    job.note_write();
}

/// Like `np.lib.format.open_memmap`: writes the header, sets the length, closes, then writes the elements.
fn length_and_close_first(job: &mut Job<'_>) {
    let mut file = create(&job.at());
    file.write_all(&job.bytes[..128]).expect("a header");
    file.set_len(job.bytes.len() as u64).expect("a length");
    drop(file);
    job.last = Instant::now();
    // Longer than the usual pause after a close.
    job.pause(SHORT * 2);
    let file = OpenOptions::new().write(true).open(job.at()).expect("the dump");
    job.write_pieces(&file, SHORT);
}

/// Like safetensors: sets the length and writes under another name, then renames.
fn under_another_name(job: &mut Job<'_>) {
    let name = job.at();
    let number = job.random.below(1 << 40);
    let aside = name.with_file_name(format!(".tmp{number:010x}"));
    let file = create(&aside);
    file.set_len(job.bytes.len() as u64).expect("a length");
    job.write_pieces(&file, SHORT);
    drop(file);
    fs::rename(&aside, &name).expect("a rename");
    job.longest = Duration::ZERO;
}

/// Writes in another folder, then renames.
fn renamed_from_aside(job: &mut Job<'_>) {
    let aside = job.aside();
    let file = create(&aside);
    job.write_pieces(&file, SHORT);
    drop(file);
    fs::create_dir_all(job.at().parent().expect("a folder")).expect("folders");
    fs::rename(&aside, job.at()).expect("a rename");
    job.longest = Duration::ZERO;
}

/// Writes in another folder, then links: no close event is sent for the dump.
fn linked_from_aside(job: &mut Job<'_>) {
    let aside = job.aside();
    let file = create(&aside);
    job.write_pieces(&file, SHORT);
    fs::create_dir_all(job.at().parent().expect("a folder")).expect("folders");
    fs::hard_link(&aside, job.at()).expect("a link");
    fs::remove_file(&aside).expect("a removal");
    job.longest = Duration::ZERO;
}

/// Links first and writes under the other name: no write event is sent for the dump.
fn linked_half_written(job: &mut Job<'_>) {
    let aside = job.aside();
    let file = create(&aside);
    file.set_len(job.bytes.len() as u64).expect("a length");
    fs::create_dir_all(job.at().parent().expect("a folder")).expect("folders");
    job.last = Instant::now();
    fs::hard_link(&aside, job.at()).expect("a link");
    job.write_pieces(&file, SHORT);
}

pub(super) const STYLES: [(&str, Style); 9] = [
    ("in_place", in_place),
    ("in_parts", in_parts),
    ("set_length_first", set_length_first),
    ("allocate_first", allocate_first),
    ("length_and_close_first", length_and_close_first),
    ("under_another_name", under_another_name),
    ("renamed_from_aside", renamed_from_aside),
    ("linked_from_aside", linked_from_aside),
    ("linked_half_written", linked_half_written),
];

fn safetensors(pixels: &[u8]) -> Vec<u8> {
    let n = pixels.len();
    let header = json!({"x": {"dtype": "U8", "shape": [n / 64, 64], "data_offsets": [0, n]}});
    let header = header.to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(pixels);
    file
}

/// Returns a random dump's extension and bytes.
pub(super) fn content(random: &mut Random, style: &str) -> (&'static str, Vec<u8>) {
    // From a few bytes to many blocks.
    let n_rows = [2, 20, 80, 400][usize::try_from(random.below(4)).expect("0 to 3")];
    let n_rows = n_rows + random.below(40);
    let mut pixels = vec![0; usize::try_from(n_rows).expect("a small number") * 64];
    pixels.iter_mut().for_each(|pixel| *pixel = 1 + random.below(255).to_le_bytes()[0]);
    let golden = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/dumps");
        fs::read(folder.join(name)).expect("a dump")
    };
    match random.below(6) {
        0 if style != "length_and_close_first" => ("safetensors", safetensors(&pixels)),
        1 if style != "length_and_close_first" => {
            let array = |pixels: &[u8]| npy("|u1", &[pixels.len() / 64, 64], pixels);
            let (a, b) = pixels.split_at(64);
            ("npz", npz(&[("a.npy", array(a)), ("b.npy", array(b))]))
        }
        2 if style == "in_place" => ("pt", golden("torch-2.15/dict.pt")),
        _ => ("npy", npy("|u1", &[pixels.len() / 64, 64], &pixels)),
    }
}
