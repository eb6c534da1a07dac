//! What a request to `/api/v1/frames` asks for. Pure.

use super::super::limits::LIMITS;
use super::super::params::{Params, media_key, run_id};
use super::super::problem::Failure;
use super::super::thumbs::ThumbSize;
use crate::media::{MediaKey, RunId, Step};
use crate::words::counted;

/// The runs times the keys in a request.
const SERIES_MAX: usize = 256;

/// The indices in a request.
const INDICES_MAX: usize = 256;

/// The runs times the keys times the steps times the indices in a request.
const PLACES_MAX: usize = 65_536;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) runs: Vec<RunId>,
    keys: Vec<MediaKey>,
    steps: Vec<Step>,
    indices: Vec<u32>,
    pub(super) size: ThumbSize,
}

/// A place in the order of frames.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'a> {
    /// The number of the run.
    pub(super) n_run: usize,
    pub(super) run: &'a RunId,
    pub(super) key: &'a MediaKey,
    pub(super) step: Step,
    pub(super) index: u32,
}

impl Wanted {
    pub(super) fn new(mut params: Params) -> Result<Self, Failure> {
        let runs: Vec<_> =
            params.all("run").iter().map(|text| run_id(text)).collect::<Result<_, _>>()?;
        let keys: Vec<_> =
            params.all("key").iter().map(|text| media_key(text)).collect::<Result<_, _>>()?;
        let steps = steps(&params.one("steps")?)?;
        let indices = params.optional("index")?;
        let indices = indices.as_deref().map_or_else(|| Ok(vec![0]), indices_of)?;
        let size = params.optional("size")?;
        let size = size.as_deref().unwrap_or("128");
        let bad_size =
            || Failure::bad_parameter(format!("got {size:?} as \"size\", want 128 or 256"));
        let size = ThumbSize::of_text(size).ok_or_else(bad_size)?;
        params.finish()?;
        let n_series = runs.len().saturating_mul(keys.len());
        if n_series == 0 || n_series > SERIES_MAX {
            let (runs, keys) = (counted(runs.len() as u64, "value"), keys.len());
            return Err(Failure::bad_parameter(format!(
                "got {runs} of \"run\" and {keys} of \"key\", want 1 to {SERIES_MAX} pairs"
            )));
        }
        let n_places = n_series.saturating_mul(steps.len()).saturating_mul(indices.len());
        if n_places > PLACES_MAX {
            let (runs, keys) = (runs.len(), keys.len());
            let (steps, indices) = (steps.len(), indices.len());
            return Err(Failure::bad_parameter(format!(
                "got {n_places} combinations of runs ({runs}), keys ({keys}), steps ({steps}) and indices \
                 ({indices}), want at most {PLACES_MAX}: ask several times"
            )));
        }
        Ok(Self { runs, keys, steps, indices, size })
    }

    /// The run, the key, the step and the index of a place in the order of frames.
    pub(super) fn at(&self, place: usize) -> Option<At<'_>> {
        let (n_keys, n_indices) = (self.keys.len(), self.indices.len());
        let step = *self.steps.get(place / self.n_series())?;
        let n_run = place / (n_keys * n_indices) % self.runs.len();
        let key = &self.keys[place / n_indices % n_keys];
        let index = self.indices[place % n_indices];
        Some(At { n_run, run: &self.runs[n_run], key, step, index })
    }

    /// The number of a place's run, key and index.
    pub(super) fn series(&self, place: usize) -> usize {
        place % self.n_series()
    }

    fn n_series(&self) -> usize {
        self.runs.len() * self.keys.len() * self.indices.len()
    }
}

/// Reads a list of steps.
fn steps(text: &str) -> Result<Vec<Step>, Failure> {
    let max = LIMITS.frame_steps_max as usize;
    let mut steps = Vec::new();
    for step in text.split(',') {
        let bad = || format!("got {step:?} in \"steps\", want steps with commas between them");
        steps.push(Step(step.parse().map_err(|_| Failure::bad_parameter(bad()))?));
        if steps.len() > max {
            let detail = format!("got more than {max} values in \"steps\", want at most {max}");
            return Err(Failure::bad_parameter(detail));
        }
    }
    Ok(steps)
}

/// Reads a list of indices and of ranges of them. Each index is taken once.
fn indices_of(text: &str) -> Result<Vec<u32>, Failure> {
    let mut indices = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = first.parse::<u32>().ok().zip(last.parse().ok()).filter(|(a, b)| a <= b);
        let bad = || {
            let what = "indices or ranges such as 0-23, with commas between them";
            Failure::bad_parameter(format!("got {part:?} in \"index\", want {what}"))
        };
        let (first, last) = range.ok_or_else(bad)?;
        for index in first..=last {
            if indices.contains(&index) {
                continue;
            }
            if indices.len() == INDICES_MAX {
                return Err(Failure::bad_parameter(format!(
                    "got more than {INDICES_MAX} values in \"index\", want at most {INDICES_MAX}"
                )));
            }
            indices.push(index);
        }
    }
    Ok(indices)
}
