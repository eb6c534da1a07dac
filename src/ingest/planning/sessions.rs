//! Sessions of jobs: which items of a step a line replaces.
//!
//! A job that resumes from a checkpoint logs again what it logged before, in a later session. At each key and
//! step, the items of a later session replace those of an earlier one with the same rank. Sessions are in the
//! order in which the run's logs named them first.

use std::collections::{HashMap, VecDeque};

use crate::ingest::dumps::Part;
use crate::media::{MediaKey, RunId, Session, Step};
use crate::store::{Reader, StoreError};

/// The items of a rank at a key and step.
type RankStep = (RunId, MediaKey, Step, u32);

/// The sessions in the pipeline. The index knows those that are committed.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// Sessions that the index does not know yet, with their places in the order of sessions.
    new: HashMap<RunId, Vec<(String, u32)>>,
    /// The place of the last session that has items in the pipeline, and the number of the last batch.
    in_flight: HashMap<RankStep, (u32, u64)>,
    /// The keys of `in_flight`, in the order of the batches.
    order: VecDeque<(u64, RankStep)>,
}

/// What the steps of a line's items have of other sessions.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The line's items come beside what is there, and in place of these indices of earlier sessions.
    Current(Vec<(MediaKey, Vec<u32>)>),
    /// A later session has items at all of its keys.
    Superseded,
    /// Items of another session are in the pipeline. What comes of them decides.
    Unclear,
}

/// The same of one key.
enum KeyStanding {
    Current(Vec<u32>),
    Superseded,
    Unclear,
}

impl Sessions {
    /// The place of a session in the order of the run's sessions. A session that is new comes last.
    pub(super) fn place(
        &mut self,
        run: &RunId,
        session: &str,
        reader: &Reader,
    ) -> Result<u32, StoreError> {
        let next = match reader.session(run, session)? {
            Ok(place) => return Ok(place),
            Err(next) => next,
        };
        let new = self.new.entry(run.clone()).or_default();
        new.retain(|(_, place)| *place >= next);
        if let Some((_, place)) = new.iter().find(|(id, _)| id == session) {
            return Ok(*place);
        }
        let place = new.last().map_or(next, |(_, last)| last + 1);
        new.push((session.to_owned(), place));
        Ok(place)
    }

    /// Compares a line with what its step has of other sessions, at the key of each part. Removes the parts
    /// that a later session has replaced. `n_done` is the number of batches that left the pipeline.
    pub(super) fn compare(
        &mut self,
        run: &RunId,
        session: &Session,
        parts: &mut Vec<Part>,
        step: Step,
        n_done: u64,
        reader: &Reader,
    ) -> Result<Standing, StoreError> {
        self.forget_done(n_done);
        let (mut replaced, mut kept) = (Vec::new(), Vec::new());
        for part in &*parts {
            match self.compare_key(run, session, &part.key, step, reader)? {
                KeyStanding::Unclear => return Ok(Standing::Unclear),
                KeyStanding::Superseded => kept.push(false),
                KeyStanding::Current(indices) => {
                    kept.push(true);
                    replaced.push((part.key.clone(), indices));
                }
            }
        }
        if !kept.is_empty() && !kept.contains(&true) {
            return Ok(Standing::Superseded);
        }
        let mut kept = kept.into_iter();
        parts.retain(|_| kept.next().unwrap_or(true));
        Ok(Standing::Current(replaced))
    }

    /// Whether a later session has items at a key and step already.
    pub(super) fn is_superseded(
        &mut self,
        run: &RunId,
        session: &Session,
        key: &MediaKey,
        step: Step,
        reader: &Reader,
    ) -> Result<bool, StoreError> {
        let place = self.place(run, &session.id, reader)?;
        let last = reader.last_session(run, key, step, session.rank)?;
        Ok(last.is_some_and(|last| last > place))
    }

    fn compare_key(
        &mut self,
        run: &RunId,
        session: &Session,
        key: &MediaKey,
        step: Step,
        reader: &Reader,
    ) -> Result<KeyStanding, StoreError> {
        let place = self.place(run, &session.id, reader)?;
        match self.in_flight.get(&(run.clone(), key.clone(), step, session.rank)) {
            Some((last, _)) if *last == place => return Ok(KeyStanding::Current(Vec::new())),
            Some(_) => return Ok(KeyStanding::Unclear),
            None => {}
        }
        let last = reader.last_session(run, key, step, session.rank)?;
        if last.is_some_and(|last| last > place) {
            return Ok(KeyStanding::Superseded);
        }
        let mut indices = Vec::new();
        if last.is_some_and(|last| last < place) {
            for entry in reader.at_step(run, key, step) {
                let entry = entry?;
                if let (Some((id, rank)), Some(index)) = (entry.source.writer(), entry.index())
                    && rank == session.rank
                    && self.place(run, id, reader)? < place
                {
                    indices.push(index);
                }
            }
        }
        Ok(KeyStanding::Current(indices))
    }

    /// Notes the items of a session that were submitted with a batch.
    pub(super) fn submitted(
        &mut self,
        run: &RunId,
        session: &Session,
        (key, step): (MediaKey, Step),
        batch: u64,
        reader: &Reader,
    ) -> Result<(), StoreError> {
        let place = self.place(run, &session.id, reader)?;
        let rank_step = (run.clone(), key, step, session.rank);
        self.order.push_back((batch, rank_step.clone()));
        self.in_flight.insert(rank_step, (place, batch));
        Ok(())
    }

    /// Forgets the items that the index knows.
    fn forget_done(&mut self, n_done: u64) {
        while let Some((_, rank_step)) = self.order.pop_front_if(|(batch, _)| *batch <= n_done) {
            if self.in_flight.get(&rank_step).is_some_and(|(_, batch)| *batch <= n_done) {
                self.in_flight.remove(&rank_step);
            }
        }
    }
}
