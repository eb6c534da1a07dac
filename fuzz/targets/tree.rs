//! A random tree of files, changed step by step, and read by whole commands. Whatever it is, no command may panic,
//! hang or grow; another job's picture beside it is stored; what was read once is not read again; and all media files
//! are whole.
#![no_main]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use libfuzzer_sys::arbitrary::{self, Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use safelight::cli;
use serde_json::Value;

/// Maximum number of steps. More would only be slow.
const STEPS_MAX: usize = 24;

/// Parts of paths, most with a meaning for the program.
const NAMES: [&str; 24] = [
    "media.jsonl",
    "val.media.jsonl",
    "media.jsonl.1",
    "metrics.jsonl",
    "dumps",
    "val",
    "pred",
    "000001.npy",
    "000001_0.npy",
    "000001.npy.json",
    "000002.npz",
    "000003.safetensors",
    "000004.pt",
    "000005.png",
    "000006.bin",
    "000006.bin.json",
    "000007.NPY",
    ".000001.npy.removed",
    "000001.npy.tmp",
    "safelight.json",
    "boxes.json",
    "runs",
    "journal.jsonl",
    "a\u{1b}[2J\n",
];

/// Texts of which lines are made.
const WORDS: [&str; 32] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\n",
    "\"key\"",
    "\"step\"",
    "\"data\"",
    "\"index\"",
    "\"caption\"",
    "\"boxes\"",
    "\"masks\"",
    "\"session\"",
    "\"rank\"",
    "\"id\"",
    "0",
    "1",
    "-1e999",
    "NaN",
    "null",
    "\"val/pred\"",
    "\"dumps/val/pred/000001.npy\"",
    "{\"key\": \"k\", \"step\": 1, \"data\": \"dumps/val/000001.npy\"}\n",
    "{\"key\": \"k\", \"step\": 2, \"data\": \"000005.png\", \"caption\": \"a\"}\n",
    "{\"commit\": 1}\n",
    "{\"finish\": true}\n",
    "{\"session\": \"a\", \"rank\": 1}\n",
    "{\"id\": \"tree\"}",
    "{\"id\": \"beside\"}",
    "\0",
];

/// The steps that are made of an input: as many as its bytes are enough for.
#[derive(Debug)]
struct Steps(Vec<Step>);

/// The number of folders, which is taken modulo 4; three folders; a name.
#[derive(Debug, Arbitrary)]
struct Name([u8; 5]);

// Arrays, since lists of random bytes are nearly always short.
#[derive(Debug, Arbitrary)]
enum Content {
    Bytes([u8; 32]),
    /// As many words as the first byte says.
    Words(u8, [u8; 24]),
    /// An array of NumPy of bytes, whole but for its last bytes.
    Array {
        shape: [u8; 3],
        n_missing: u8,
    },
}

#[derive(Debug, Arbitrary)]
enum Step {
    Write(Name, Content),
    Append(Name, Content),
    Cut(Name, u16),
    /// Makes a file longer by a hole.
    Extend(Name, u32),
    Rename(Name, Name),
    Remove(Name),
    Folder(Name),
    Link {
        at: Name,
        to: Name,
    },
    HardLink {
        at: Name,
        of: Name,
    },
    Ingest,
}

impl<'a> Arbitrary<'a> for Steps {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let mut steps = Vec::new();
        while steps.len() < STEPS_MAX && !input.is_empty() {
            steps.push(input.arbitrary()?);
        }
        Ok(Self(steps))
    }
}

impl Name {
    fn path(&self) -> PathBuf {
        let [n_folders, parts @ ..] = self.0;
        let part = |index: u8| NAMES[usize::from(index) % NAMES.len()];
        parts.into_iter().skip(usize::from(3 - n_folders % 4)).map(part).collect()
    }
}

impl Content {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.to_vec(),
            Self::Words(n, words) => {
                let word = |index: &u8| WORDS[usize::from(*index) % WORDS.len()];
                let n = usize::from(*n) % (words.len() + 1);
                words[..n].iter().map(word).collect::<String>().into_bytes()
            }
            Self::Array { shape, n_missing } => {
                let shape = shape.map(|side| usize::from(side % 16));
                let mut bytes = array(&shape, 200);
                bytes.truncate(bytes.len() - usize::from(n_missing % 4).min(bytes.len()));
                bytes
            }
        }
    }
}

/// An array of NumPy, of bytes of one value.
fn array(shape: &[usize], value: u8) -> Vec<u8> {
    let shape_text: String = shape.iter().map(|side| format!("{side}, ")).collect();
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape_text})}}\n");
    let length = u16::try_from(header.len()).expect("a short header");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + shape.iter().product::<usize>(), value);
    bytes
}

/// The folder of one input: the job's run directory, another job's, and the store of both.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let place = Path::new("/dev/shm");
        let folder = if place.is_dir() { tempfile::tempdir_in(place) } else { tempfile::tempdir() };
        let world = Self { folder: folder.expect("a folder") };
        fs::create_dir_all(world.tree()).expect("a folder");
        let beside = world.at("beside");
        fs::create_dir_all(beside.join("dumps/val")).expect("a folder");
        fs::write(beside.join("dumps/val/000001.npy"), array(&[4, 5], 100)).expect("a dump");
        let config = "[ingest]\nsettle_ms = 10\nwait_ms = 50\nincomplete_ms = 100\n\
                      [work]\nmemory_bytes_max = 33554432\n[limits]\ndump_bytes_max = 1048576\n\
                      [store]\nfree_bytes_min = 0\n";
        fs::write(world.at("safelight.toml"), config).expect("a configuration");
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tree(&self) -> PathBuf {
        self.at("tree")
    }

    /// Runs a command with `--json`. Returns its exit code and the lines that it printed.
    fn run(&self, arguments: &[&str]) -> (u8, Vec<Value>) {
        let (config, store) = (self.at("safelight.toml"), self.at("store"));
        let options = ["--json", "--config", path(&config), "--store", path(&store)];
        let mut out = Vec::new();
        let code = cli::main_of(["safelight"].iter().chain(arguments).chain(&options), &mut out);
        let lines = serde_json::Deserializer::from_slice(&out).into_iter();
        (code, lines.collect::<Result<_, _>>().expect("JSON"))
    }

    /// Reads the job's directory and the other job's. Returns the number of new items.
    fn ingest(&self) -> u64 {
        let (tree, beside) = (self.tree(), self.at("beside"));
        let (code, printed) = self.run(&["ingest", path(&tree), path(&beside)]);
        assert!([0, 1, 3].contains(&code), "exit code {code}");
        let [report] = printed.as_slice() else { panic!("no report: {printed:?}") };
        ["image", "held", "rejected"].iter().filter_map(|state| report["new"][state].as_u64()).sum()
    }

    /// Checks what holds for any input.
    fn check(&self) {
        let (code, items) = self.run(&["ls", "beside"]);
        let states: Vec<&Value> = items.iter().map(|item| &item["state"]).collect();
        assert!(code == 0 && states == ["image"], "the picture beside: {items:?}");
        let (code, found) = self.run(&["verify"]);
        assert_eq!(code, 0, "{found:?}");
    }

    fn apply(&self, step: &Step) -> std::io::Result<()> {
        let place = |name: &Name| self.tree().join(name.path());
        let parent = |path: &Path| fs::create_dir_all(path.parent().expect("a parent"));
        match step {
            Step::Write(name, content) => {
                parent(&place(name))?;
                fs::write(place(name), content.bytes())
            }
            Step::Append(name, content) => {
                OpenOptions::new().append(true).open(place(name))?.write_all(&content.bytes())
            }
            Step::Cut(name, length) => {
                let file = OpenOptions::new().write(true).open(place(name))?;
                file.set_len(file.metadata()?.len().min(u64::from(*length)))
            }
            Step::Extend(name, by) => {
                let file = OpenOptions::new().write(true).open(place(name))?;
                file.set_len(file.metadata()?.len() + u64::from(*by) * 64)
            }
            Step::Rename(from, to) => fs::rename(place(from), place(to)),
            Step::Remove(name) => {
                fs::remove_file(place(name)).or_else(|_| fs::remove_dir_all(place(name)))
            }
            Step::Folder(name) => fs::create_dir_all(place(name)),
            Step::Link { at, to } => symlink(to.path(), place(at)),
            Step::HardLink { at, of } => fs::hard_link(place(of), place(at)),
            Step::Ingest => {
                self.ingest();
                Ok(())
            }
        }
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of UTF-8")
}

fuzz_target!(|steps: Steps| {
    let world = World::new();
    for step in &steps.0 {
        // A step that the file system refuses changes nothing.
        drop(world.apply(step));
    }
    world.ingest();
    assert_eq!(world.ingest(), 0, "read again");
    world.check();
});
