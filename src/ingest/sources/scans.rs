//! Scans watched directories: opens the runs that are new, and looks for new files in all of them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Sources;
use crate::ingest::Mode;
use crate::ingest::folders::{Arrival, Look};
use crate::ingest::planning::PlanContext;
use crate::ingest::runs::{RootId, RunKey, sort_logs};
use crate::pulse;
use crate::store::StoreError;

/// The time of one turn that scans may take.
const SCAN_TURN: Duration = Duration::from_millis(20);

/// A scan of a watched directory. Each turn scans some of its runs.
pub(super) struct Scan {
    pub(super) root: RootId,
    look: Look,
    took: Duration,
    runs: std::vec::IntoIter<ScannedRun>,
}

/// A run directory that is scanned.
enum ScannedRun {
    Known(RunKey),
    New(PathBuf, String),
}

impl Sources {
    /// Opens the run directories that a path lies in or that lie below it, and scans them.
    pub(super) fn open_runs_near(
        &mut self,
        path: &Path,
        context: &mut PlanContext<'_>,
    ) -> Result<(), StoreError> {
        for (root, path, name) in self.watching.find_runs_near(path) {
            pulse::beat();
            self.open_and_scan(root, &path, &name, context)?;
        }
        Ok(())
    }

    fn open_and_scan(
        &mut self,
        root: RootId,
        path: &Path,
        name: &str,
        context: &mut PlanContext<'_>,
    ) -> Result<(), StoreError> {
        self.open_run(root, path, name, context);
        match self.runs.at(path) {
            Some(key) if self.runs.get(key).is_some_and(|run| !run.is_scanned) => {
                self.scan_run(root, key, Look::All, context)
            }
            _ => Ok(()),
        }
    }

    /// Scans the watched directories whose scan is due, for a short time, and decides whether their events can be
    /// relied on. Returns whether a scan is under way.
    pub(in crate::ingest) fn scan_due(
        &mut self,
        context: &mut PlanContext<'_>,
    ) -> Result<bool, StoreError> {
        for path in std::mem::take(&mut self.to_reopen) {
            self.open_runs_near(&path, context)?;
        }
        for root in self.watching.due_roots(context.now) {
            if self.scans.iter().all(|scan| scan.root != root) {
                let scan = self.begin_scan(root, context.now);
                self.scans.extend(scan);
            }
        }
        let start = Instant::now();
        while start.elapsed() < SCAN_TURN
            && let Some(mut scan) = self.scans.pop_front()
        {
            if self.scan_some(&mut scan, start, context)? {
                self.end_scan(&scan, context);
            } else {
                self.scans.push_back(scan);
            }
        }
        if self.dumps.take_rescan() {
            self.watching.scan_everything_at(context.now);
        }
        self.watching.judge_events(context.now);
        Ok(!self.scans.is_empty())
    }

    /// Begins a scan of a watched directory: finds the runs that are new. All runs are to be scanned.
    fn begin_scan(&mut self, id: RootId, now: Instant) -> Option<Scan> {
        let start = Instant::now();
        let look = self.watching.root_mut(id)?.begin_scan(now);
        let of_root = self.runs.of_root(id);
        let mut runs = Vec::with_capacity(of_root.len());
        for (path, name) in self.watching.find_runs(id) {
            if self.runs.at(&path).is_none() {
                runs.push(ScannedRun::New(path, name));
            }
        }
        runs.extend(of_root.into_iter().map(ScannedRun::Known));
        Some(Scan { root: id, look, took: start.elapsed(), runs: runs.into_iter() })
    }

    /// Scans runs until the turn is over. Returns whether all are scanned.
    fn scan_some(
        &mut self,
        scan: &mut Scan,
        turn: Instant,
        context: &mut PlanContext<'_>,
    ) -> Result<bool, StoreError> {
        let start = Instant::now();
        let mut is_done = false;
        while turn.elapsed() < SCAN_TURN && !is_done {
            pulse::beat();
            match scan.runs.next() {
                Some(ScannedRun::Known(key)) => {
                    self.scan_run(scan.root, key, scan.look, context)?;
                }
                Some(ScannedRun::New(path, name)) => {
                    self.open_and_scan(scan.root, &path, &name, context)?;
                }
                None => is_done = true,
            }
        }
        scan.took += start.elapsed();
        Ok(is_done)
    }

    fn end_scan(&mut self, scan: &Scan, context: &PlanContext<'_>) {
        if let Some(root) = self.watching.root_mut(scan.root) {
            let pause = root.scan_pause(&context.config.times);
            root.end_scan(scan.look, scan.took, (context.mode == Mode::Follow).then_some(pause));
        }
    }

    fn scan_run(
        &mut self,
        id: RootId,
        key: RunKey,
        look: Look,
        context: &mut PlanContext<'_>,
    ) -> Result<(), StoreError> {
        let Some(run) = self.runs.get_mut(key) else { return Ok(()) };
        if !run.files.dir().is_in_place() || run.refresh_identity() {
            self.reopen(key, context);
            return Ok(());
        }
        let mut scan = self.watching.begin_scan_of(id, run);
        let (mut logs, mut is_done) = (Vec::new(), false);
        while !is_done {
            let Some(run) = self.runs.get_mut(key) else { return Ok(()) };
            is_done = self.watching.scan_some(id, run, look, &mut scan);
            let found = std::mem::take(&mut scan.found).into_iter();
            let (found_logs, dumps): (Vec<_>, Vec<_>) =
                found.partition(|path| run.files.is_log(path));
            logs.extend(found_logs);
            for path in dumps {
                let is_new = self.notice(key, &path, Arrival::Found, context)?;
                if is_new
                    && scan.should_be_announced(&path)
                    && let Some(root) = self.watching.root_mut(id)
                {
                    root.note_found((key, path), context.now);
                }
            }
        }
        let Some(run) = self.runs.get_mut(key) else { return Ok(()) };
        self.surveys.run_scanned(key, run, context.now);
        self.lines.look_now(key, context.now);
        sort_logs(&run.files, &mut logs);
        logs.iter().try_for_each(|log| {
            self.notice(key, log, Arrival::Found, context).map(|_is_new_dump| ())
        })
    }
}
