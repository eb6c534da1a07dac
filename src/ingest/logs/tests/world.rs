//! The model: each line that was written, in which file it is now, and what is asked of the lines that come.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use proptest::prelude::*;

use super::Action;
use crate::config::WatchConfig;
use crate::config::patterns::FilePattern;
use crate::ingest::folders::Look;
use crate::ingest::runs::{RunReader, sort_logs};
use crate::limits::Limits;
use crate::run_dir::ReadOptions;
use crate::store::journal::LogCursor;

/// Three logs, and the names that they are rotated to.
pub(super) const LOGS: [&str; 3] = ["a.media.jsonl", "b.media.jsonl", "sub/c.media.jsonl"];
const N_ROTATED: usize = 2;
const LINE_BYTES_MAX: u64 = 2000;

/// A file as the model knows it.
#[derive(Debug, Default, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Written {
    lines: Vec<usize>,
    begun: Option<usize>,
    n_begun: usize,
    /// It begins with zero bytes: any other hole looks like this one until a line of it was acted on.
    has_hole: bool,
    /// The daemon looked into it when it had a name of a log, and something was in it.
    is_noticed: bool,
    /// The same, and the store was told.
    is_known: bool,
    /// The daemon that runs now has it open.
    is_followed: bool,
}

impl Written {
    /// The daemon looks into it.
    fn note_look(&mut self) {
        self.is_noticed |= !self.has_hole && (!self.lines.is_empty() || self.begun.is_some());
    }
}

pub(super) struct World {
    _folder: tempfile::TempDir,
    path: PathBuf,
    /// Every line, without its newline.
    texts: Vec<String>,
    files: Vec<Written>,
    /// Which file has which name now.
    names: BTreeMap<String, usize>,
    /// Files without a name that the daemon still has open.
    nameless: BTreeSet<usize>,
    run: RunReader,
    limits: Limits,
    /// The store's cursors, as its index keys them.
    store: BTreeMap<(u64, u64), LogCursor>,
    /// Handed in and not durable: lines with their cursors, and cursors alone.
    in_flight: Vec<(Option<usize>, LogCursor)>,
    /// The durable lines.
    seen: Vec<usize>,
}

fn open_run(path: &Path, store: &BTreeMap<(u64, u64), LogCursor>) -> RunReader {
    let mut watch = WatchConfig::of_run(path.to_owned());
    watch.logs.push(FilePattern::try_from("sub/*.media.jsonl".to_owned()).expect("a pattern"));
    let mut run =
        RunReader::open(path, "run", Arc::new(watch), ReadOptions::default()).expect("a run");
    run.set_cursors(store.values().cloned().collect());
    run
}

fn rotated(name: &str, n: usize) -> String {
    if n == 0 { name.to_owned() } else { format!("{name}.{n}") }
}

impl World {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run");
        fs::create_dir_all(path.join("sub")).expect("folders");
        let run = open_run(&path, &BTreeMap::new());
        Self {
            _folder: folder,
            path,
            texts: Vec::new(),
            files: Vec::new(),
            names: BTreeMap::new(),
            nameless: BTreeSet::new(),
            run,
            limits: Limits { line_bytes_max: LINE_BYTES_MAX, ..Limits::default() },
            store: BTreeMap::new(),
            in_flight: Vec::new(),
            seen: Vec::new(),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A new line of at least this length, that tells its number.
    fn line(&mut self, length: usize) -> usize {
        let number = self.texts.len();
        let mut text = format!("{{\"n\":{number},\"x\":\"");
        text.extend(std::iter::repeat_n('x', length.saturating_sub(text.len() + 2)));
        text.push_str("\"}");
        self.texts.push(text);
        number
    }

    fn lines(&mut self, lengths: &[usize]) -> Vec<usize> {
        lengths.iter().map(|length| self.line(*length)).collect()
    }

    fn text(&self, lines: &[usize]) -> String {
        lines.iter().flat_map(|line| [self.texts[*line].as_str(), "\n"]).collect()
    }

    /// The file of this name, made if it is not there.
    fn file(&mut self, name: &str) -> usize {
        if let Some(file) = self.names.get(name) {
            return *file;
        }
        File::create(self.at(name)).expect("a log");
        self.named(name, Written::default())
    }

    fn named(&mut self, name: &str, file: Written) -> usize {
        self.lose_name(name);
        self.files.push(file);
        self.names.insert(name.to_owned(), self.files.len() - 1);
        self.files.len() - 1
    }

    /// A name leads to its file no more.
    fn lose_name(&mut self, name: &str) {
        if let Some(file) = self.names.remove(name)
            && self.files[file].is_followed
        {
            self.nameless.insert(file);
        }
    }

    fn append(&mut self, name: &str, text: &str) {
        let mut file = fs::OpenOptions::new().append(true).open(self.at(name)).expect("the log");
        file.write_all(text.as_bytes()).expect("an append");
    }

    fn do_append(&mut self, name: &str, lengths: &[usize]) {
        let file = self.file(name);
        let mut text = String::new();
        if let Some(begun) = self.files[file].begun.take() {
            let n_begun = self.files[file].n_begun;
            text.push_str(&self.texts[begun][n_begun..]);
            text.push('\n');
            self.files[file].lines.push(begun);
        }
        let lines = self.lines(lengths);
        text.push_str(&self.text(&lines));
        self.append(name, &text);
        self.files[file].lines.extend(lines);
    }

    fn do_begin(&mut self, name: &str, length: usize) {
        let file = self.file(name);
        let (begun, from) = match self.files[file].begun {
            Some(begun) => (begun, self.files[file].n_begun),
            None => (self.line(length), 0),
        };
        let to = from + (self.texts[begun].len() - from) / 2;
        let text = self.texts[begun][from..to].to_owned();
        self.append(name, &text);
        (self.files[file].begun, self.files[file].n_begun) = (Some(begun), to);
    }

    /// The file has new content from now on; what was in it is gone.
    fn forget_lines(&mut self, file: usize, lines: Vec<usize>) {
        let written = &mut self.files[file];
        (written.lines, written.begun) = (lines, None);
        (written.is_noticed, written.is_known, written.has_hole) = (false, false, false);
    }

    fn do_rotate(&mut self, name: &str) {
        for n in (0..N_ROTATED).rev() {
            let (from, to) = (rotated(name, n), rotated(name, n + 1));
            if self.names.contains_key(&from) {
                fs::rename(self.at(&from), self.at(&to)).expect("a rename");
                self.lose_name(&to);
                let file = self.names.remove(&from).expect("the file");
                self.names.insert(to, file);
            }
        }
    }

    fn do_copy_truncate(&mut self, name: &str, stale: Option<usize>) {
        let Some(&file) = self.names.get(name) else { return };
        let to = rotated(name, 1);
        fs::remove_file(self.at(&to)).ok();
        fs::copy(self.at(name), self.at(&to)).expect("a copy");
        // Nobody says that the copy is a log.
        self.named(&to, Written::default());
        let mut log = fs::OpenOptions::new().write(true).open(self.at(name)).expect("the log");
        let end = log.seek(SeekFrom::End(0)).expect("the end");
        log.set_len(0).expect("a truncation");
        let mut lines = Vec::new();
        if let Some(length) = stale {
            lines.push(self.line(length));
            log.seek(SeekFrom::Start(end)).expect("the old offset");
            log.write_all(self.text(&lines).as_bytes()).expect("a line");
        }
        self.forget_lines(file, lines);
        self.files[file].has_hole = stale.is_some();
    }

    /// Renames a file over a log: a copy of it to which lines are added, or nothing but these.
    fn do_replace(&mut self, name: &str, is_copy: bool, lengths: &[usize]) {
        let aside = self.at("aside");
        fs::write(&aside, "").expect("a file");
        let mut written = Written::default();
        if let Some(&file) = self.names.get(name).filter(|_| is_copy) {
            fs::copy(self.at(name), &aside).expect("a copy");
            let Written { lines, begun, n_begun, has_hole, .. } = self.files[file].clone();
            written = Written { lines, begun, n_begun, has_hole, ..Written::default() };
        }
        if written.begun.is_none() {
            let lines = self.lines(lengths);
            self.append("aside", &self.text(&lines));
            written.lines.extend(lines);
        }
        fs::rename(&aside, self.at(name)).expect("a rename");
        self.named(name, written);
    }

    fn do_swap(&mut self, a: &str, b: &str) {
        let (Some(&of_a), Some(&of_b)) = (self.names.get(a), self.names.get(b)) else { return };
        if a == b {
            return;
        }
        fs::rename(self.at(a), self.at("aside")).expect("a rename");
        fs::rename(self.at(b), self.at(a)).expect("a rename");
        fs::rename(self.at("aside"), self.at(b)).expect("a rename");
        self.names.extend([(a.to_owned(), of_b), (b.to_owned(), of_a)]);
    }

    fn restart(&mut self) {
        self.nameless.clear();
        for file in &mut self.files {
            (file.is_followed, file.is_noticed) = (false, file.is_known);
        }
        self.run = open_run(&self.path, &self.store);
    }

    fn do_copy_all(&mut self) {
        // Other names, and then other inodes too: nobody could tell.
        self.scan(Look::All);
        self.commit(usize::MAX);
        let copy = self.path.with_file_name("copy");
        fs::create_dir_all(copy.join("sub")).expect("folders");
        for name in self.names.keys() {
            fs::copy(self.at(name), copy.join(name)).expect("a copy");
        }
        fs::remove_dir_all(&self.path).expect("a removal");
        fs::rename(&copy, &self.path).expect("a rename");
        // What was a log, and has another name, is no more to be told.
        self.files.iter_mut().for_each(|file| file.is_known = false);
        self.restart();
        self.scan(Look::All);
        self.commit(usize::MAX);
    }

    /// As the engine does with what it finds.
    fn follow(&mut self, name: &str) {
        self.run.follow(name, &self.limits, false);
        self.tell_store();
        self.note_followed();
    }

    fn tell_store(&mut self) {
        self.in_flight
            .extend(self.run.logs.take_to_store().into_iter().map(|cursor| (None, cursor)));
    }

    /// The model learns which files the daemon has open.
    fn note_followed(&mut self) {
        for (file, _) in self.tails() {
            if !std::mem::replace(&mut self.files[file].is_followed, true) {
                self.files[file].note_look();
            }
        }
    }

    /// The files that the daemon has open, each with the number of its tail.
    fn tails(&self) -> Vec<(usize, usize)> {
        let tail = |name: &String| {
            let meta = fs::metadata(self.path.join(name)).ok()?;
            let id = (meta.dev(), meta.ino());
            self.run.logs.tails().iter().position(|tail| (tail.dev, tail.ino) == id)
        };
        self.names.iter().filter_map(|(name, &file)| Some((file, tail(name)?))).collect()
    }

    fn scan(&mut self, look: Look) {
        let found = self.found(look);
        found.iter().for_each(|name| self.follow(name));
    }

    /// The logs that a scan finds.
    fn found(&mut self, look: Look) -> Vec<String> {
        let mut found = Vec::new();
        let scan = self.run.scan_some(look, &mut None, &mut None, &mut found);
        assert!(scan.expect("a scan"), "there are few files");
        sort_logs(&self.run.files, &mut found);
        found
    }

    fn rotate_while_listed(&mut self, name: &str) {
        let found = self.found(Look::All);
        self.do_rotate(name);
        found.iter().for_each(|name| self.follow(name));
    }

    /// Reads on and acts on so many lines of each log. Whether anything was read or acted on.
    fn read(&mut self, n_lines: usize) -> Result<bool, TestCaseError> {
        let now = Instant::now();
        self.run.logs.look_at_resting_now();
        let due = self.run.logs.take_due(&self.run.files, now);
        due.iter().for_each(|name| self.follow(name));
        for (file, tail) in self.tails() {
            // What was read is acted on before more is.
            if self.run.logs.tails()[tail].front().is_none() {
                self.files[file].note_look();
            }
        }
        self.run.begin_look_at_logs();
        let id = self.run.id().clone();
        let mut is_busy = false;
        for i in 0..self.run.logs.tails().len() {
            is_busy |= self.run.logs.look_at(&id, i, now).has_read;
        }
        self.run.logs.end_look(now);
        self.note_rested();
        self.tell_store();
        for tail in self.run.logs.tails_mut() {
            for _ in 0..n_lines {
                let Some(line) = tail.front() else { break };
                let cursor = tail.cursor_after(line, None);
                let text = String::from_utf8_lossy(&line.bytes);
                let number = text.strip_prefix("{\"n\":").and_then(|rest| rest.split_once(','));
                let number = number.and_then(|(number, _)| number.parse::<usize>().ok());
                let want = number.and_then(|number| self.texts.get(number));
                let want = want.filter(|want| {
                    let is_whole = line.is_too_long || **want == text;
                    is_whole && want.starts_with(&*text) && want.len() as u64 == line.n_bytes
                });
                prop_assert!(want.is_some(), "{:.60} was not written", text);
                let has_it = |file: &&mut Written| file.lines.iter().any(|l| Some(*l) == number);
                self.files.iter_mut().filter(has_it).for_each(|file| {
                    file.is_noticed |= file.is_followed;
                });
                self.in_flight.push((number, cursor));
                tail.pop();
                is_busy = true;
            }
        }
        Ok(is_busy)
    }

    /// The daemon closes the logs that it has read.
    fn rest(&mut self) {
        self.run.logs.rest(Instant::now(), true);
        self.note_rested();
    }

    /// The model learns which files the daemon has closed. What is written to them before their names go is lost.
    fn note_rested(&mut self) {
        let open: BTreeSet<usize> = self.tails().into_iter().map(|(file, _)| file).collect();
        for (n, file) in self.files.iter_mut().enumerate() {
            file.is_followed &= open.contains(&n) || self.nameless.contains(&n);
        }
    }

    fn commit(&mut self, n: usize) {
        // What one listing tells the store of logs is in one group of commits.
        let is_start = |(line, _): &&(Option<usize>, LogCursor)| line.is_none();
        let n = n.min(self.in_flight.len());
        let n = n + self.in_flight[n..].iter().take_while(is_start).count();
        for (line, cursor) in self.in_flight.drain(..n) {
            self.seen.extend(line);
            self.store.insert((cursor.dev, cursor.ino), cursor);
        }
        if self.in_flight.is_empty() {
            self.files.iter_mut().for_each(|file| file.is_known = file.is_noticed);
        }
    }

    pub(super) fn settle(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..100 {
            self.scan(Look::All);
            let mut is_busy = false;
            while self.read(usize::MAX)? {
                is_busy = true;
            }
            if !is_busy && !self.run.logs.has_postponed() {
                break;
            }
        }
        self.commit(usize::MAX);
        let seen: HashSet<usize> = self.seen.iter().copied().collect();
        prop_assert_eq!(seen.len(), self.seen.len(), "a line came twice: {:?}", self.seen);
        let is_due =
            |name: &str, file: &Written| LOGS.contains(&name) || file.is_known || file.is_followed;
        let named = self.names.iter().map(|(name, &file)| (name.as_str(), &self.files[file]));
        let nameless = self.nameless.iter().map(|&file| ("nameless", &self.files[file]));
        for (name, file) in named.chain(nameless).filter(|(name, file)| is_due(name, file)) {
            for line in &file.lines {
                prop_assert!(seen.contains(line), "line {} of {} did not come", line, name);
            }
        }
        self.nameless.clear();
        Ok(())
    }

    pub(super) fn act(&mut self, action: &Action) -> Result<(), TestCaseError> {
        match action {
            Action::Append(log, lengths) => self.do_append(LOGS[*log], lengths),
            Action::Begin(log, length) => self.do_begin(LOGS[*log], *length),
            Action::Touch(log) => drop(self.file(LOGS[*log])),
            Action::Rotate(log) => self.do_rotate(LOGS[*log]),
            Action::CopyTruncate(log) => self.do_copy_truncate(LOGS[*log], None),
            Action::CopyTruncateStale(log, length) => {
                self.do_copy_truncate(LOGS[*log], Some(*length));
            }
            Action::Rewrite(log, lengths) => {
                let file = self.file(LOGS[*log]);
                let lines = self.lines(lengths);
                fs::write(self.at(LOGS[*log]), self.text(&lines)).expect("a file");
                self.forget_lines(file, lines);
            }
            Action::Recreate(log, lengths) => {
                self.act(&Action::Remove(*log))?;
                self.do_append(LOGS[*log], lengths);
            }
            Action::ReplaceByCopy(log, lengths) => {
                // Another name, and then another inode too: nobody could tell.
                self.scan(Look::All);
                self.commit(usize::MAX);
                self.do_replace(LOGS[*log], true, lengths);
            }
            Action::Replace(log, lengths) => self.do_replace(LOGS[*log], false, lengths),
            Action::Remove(log) => {
                fs::remove_file(self.at(LOGS[*log])).ok();
                self.lose_name(LOGS[*log]);
            }
            Action::Swap(a, b) => {
                // A copy that came in the place of one is told by that name, so it is read first.
                self.scan(Look::All);
                self.commit(usize::MAX);
                if self.nameless.is_empty() {
                    self.do_swap(LOGS[*a], LOGS[*b]);
                }
            }
            Action::CopyAll => self.do_copy_all(),
            Action::Hear(log) => self.follow(LOGS[*log]),
            Action::Scan(all) => self.scan(if *all { Look::All } else { Look::Changed }),
            Action::RotateWhileListed(log) => self.rotate_while_listed(LOGS[*log]),
            Action::Read(n_lines) => drop(self.read(*n_lines)?),
            Action::Rest => self.rest(),
            Action::Commit(n) => self.commit(*n),
            Action::Restart => {
                self.commit(usize::MAX);
                self.restart();
            }
            Action::Kill => {
                self.in_flight.clear();
                self.restart();
            }
            Action::Settle => self.settle()?,
        }
        Ok(())
    }
}
