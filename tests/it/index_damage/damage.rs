//! Ways to damage an index.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::harness::Random;

const PAGE: u64 = 4096;

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).expect("an index").flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// Damages an index in a random way. Returns a description.
#[expect(clippy::too_many_lines, reason = "a list of damages")]
pub(super) fn damage(index: &Path, random: &mut Random) -> String {
    let db = index.join("db");
    let length = fs::metadata(&db).expect("a database").len();
    let snapshots: Vec<PathBuf> = files(index)
        .into_iter()
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snap."))
        })
        .collect();
    let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path).expect("a file");
    let write = |path: &Path, at: u64, bytes: &[u8]| {
        open(path).write_all_at(bytes, at).expect("a write");
    };
    // Most pages of a new database are empty. Only others are damaged.
    let used = used_pages(&db);
    let page = |random: &mut Random| {
        used[usize::try_from(random.below(used.len() as u64)).expect("an index")]
    };
    match random.below(24) {
        0 => {
            fs::remove_dir_all(index).expect("a removal");
            "index removed".to_owned()
        }
        1 => {
            fs::remove_dir_all(index).expect("a removal");
            fs::write(index, random.noise(100)).expect("a file");
            "index is a file".to_owned()
        }
        2 => {
            fs::remove_dir_all(index).expect("a removal");
            fs::create_dir(index).expect("a folder");
            "index is empty".to_owned()
        }
        3 | 4 => {
            let to = random.below(used.last().expect("pages") * PAGE + PAGE);
            open(&db).set_len(to).expect("a cut");
            format!("database of {length} cut to {to}")
        }
        5 => {
            fs::write(&db, "").expect("a file");
            "database emptied".to_owned()
        }
        6..=8 => {
            let pages: Vec<u64> = (0..=random.below(4)).map(|_| page(random)).collect();
            pages.iter().for_each(|page| write(&db, page * PAGE, &[0; 4096]));
            format!("pages {pages:?} zeroed")
        }
        9..=11 => {
            let pages: Vec<u64> = (0..=random.below(4)).map(|_| page(random)).collect();
            pages.iter().for_each(|page| write(&db, page * PAGE, &random.noise(PAGE)));
            format!("pages {pages:?} are noise")
        }
        12 => {
            fs::write(&db, random.noise(length)).expect("a file");
            "database is noise".to_owned()
        }
        13 => {
            let conf = index.join("conf");
            match random.below(4) {
                0 => fs::remove_file(conf).expect("a removal"),
                1 => fs::write(conf, "").expect("a file"),
                2 => fs::write(conf, random.noise(5)).expect("a file"),
                _ => fs::write(conf, random.noise(64)).expect("a file"),
            }
            "conf is another".to_owned()
        }
        14 => {
            let n = random.below(300);
            fs::write(index.join("snap.00000000FFFFFFFF.generating"), random.noise(n))
                .expect("a file");
            "a snapshot in the making is torn".to_owned()
        }
        15 => {
            let n = random.below(300);
            fs::write(index.join("snap.00000000FFFFFFFF"), random.noise(n)).expect("a file");
            "a snapshot is torn".to_owned()
        }
        16 => {
            for snapshot in &snapshots {
                let n = fs::metadata(snapshot).expect("a snapshot").len();
                open(snapshot).set_len(random.below(n)).expect("a cut");
            }
            format!("{} snapshots are cut", snapshots.len())
        }
        17 => {
            snapshots.iter().for_each(|path| fs::remove_file(path).expect("a removal"));
            format!("{} snapshots are removed", snapshots.len())
        }
        18 => {
            fs::remove_dir_all(index.join("blobs")).expect("a removal");
            if random.below(2) == 0 {
                fs::write(index.join("blobs"), "").expect("a file");
            }
            "blobs are removed".to_owned()
        }
        19 | 20 => {
            let flips: Vec<u64> =
                (0..=random.below(3)).map(|_| page(random) * PAGE + random.below(PAGE)).collect();
            for &at in &flips {
                let mut byte = [0];
                open(&db).read_exact_at(&mut byte, at).expect("a byte");
                write(&db, at, &[byte[0] ^ (1 << random.below(8))]);
            }
            format!("bits flipped at {flips:?}")
        }
        21 => {
            let (one, other) = (page(random), page(random));
            let read = |page: u64| {
                let mut bytes = [0; 4096];
                open(&db).read_exact_at(&mut bytes, page * PAGE).expect("a page");
                bytes
            };
            let (a, b) = (read(one), read(other));
            write(&db, one * PAGE, &b);
            write(&db, other * PAGE, &a);
            format!("pages {one} and {other} are swapped")
        }
        22 => {
            fs::remove_file(&db).expect("a removal");
            if random.below(2) == 0 {
                fs::create_dir(&db).expect("a folder");
            }
            "database is gone or a folder".to_owned()
        }
        _ => {
            let n = random.below(1 << 20);
            write(&db, length, &random.noise(n));
            format!("{n} bytes of noise at the end")
        }
    }
}

/// Returns the numbers of the pages that are not all zeros.
fn used_pages(path: &Path) -> Vec<u64> {
    let mut bytes = Vec::new();
    File::open(path).expect("a database").read_to_end(&mut bytes).expect("its bytes");
    let pages = bytes.chunks_exact(4096);
    let used = (0..).zip(pages).filter(|(_, page)| page.iter().any(|&byte| byte != 0));
    used.map(|(page, _)| page).collect()
}
