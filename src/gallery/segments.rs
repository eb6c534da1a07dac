//! The steps of a key, run-length encoded: a million steps at equal distances take one segment. Pure.

use super::api::{Segment, StepNumber};

/// How many items a step has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) image: u32,
    pub(super) held: u32,
    pub(super) rejected: u32,
}

/// Steps at equal distances that have equally many items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    first: u64,
    /// 0 if there is one step.
    stride: u64,
    n_steps: u32,
    counts: Counts,
}

impl Counts {
    /// Whether the step has an image or a held item.
    pub(super) fn is_shown(self) -> bool {
        self.image + self.held > 0
    }

    fn is_none(self) -> bool {
        self == Self::default()
    }
}

impl Stretch {
    fn of(step: u64, counts: Counts) -> Self {
        Self { first: step, stride: 0, n_steps: 1, counts }
    }

    fn last(&self) -> u64 {
        self.first + self.stride * u64::from(self.n_steps - 1)
    }

    /// Adds a later step if it continues the stretch.
    fn take(&mut self, step: u64, counts: Counts) -> bool {
        if counts != self.counts || self.n_steps == u32::MAX {
            return false;
        }
        if self.n_steps == 1 {
            self.stride = step - self.first;
        } else if step - self.last() != self.stride {
            return false;
        }
        self.n_steps += 1;
        true
    }

    /// The place of a step among those of the stretch.
    fn position(&self, step: u64) -> Option<u32> {
        let distance = step.checked_sub(self.first)?;
        if distance == 0 {
            return Some(0);
        }
        let is_on = self.stride > 0 && distance.is_multiple_of(self.stride);
        let position = is_on.then(|| distance / self.stride)?;
        u32::try_from(position).ok().filter(|position| *position < self.n_steps)
    }

    /// The steps from one position to before another.
    fn part(&self, from: u32, to: u32) -> Option<Self> {
        let n_steps = to.checked_sub(from).filter(|n| *n > 0)?;
        let first = self.first + self.stride * u64::from(from);
        Some(Self { first, n_steps, stride: if n_steps == 1 { 0 } else { self.stride }, ..*self })
    }

    /// How many of its steps are before this one.
    fn n_before(&self, step: u64) -> u32 {
        match step.checked_sub(self.first) {
            None | Some(0) => 0,
            Some(distance) if self.stride == 0 => u32::from(distance > 0),
            Some(distance) => {
                u32::try_from(distance.div_ceil(self.stride)).unwrap_or(u32::MAX).min(self.n_steps)
            }
        }
    }
}

/// The steps of a key that have items.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Segments(Vec<Stretch>);

impl Segments {
    /// Adds a step after all others.
    pub(super) fn push(&mut self, step: u64, counts: Counts) {
        if !counts.is_none() && !self.0.last_mut().is_some_and(|last| last.take(step, counts)) {
            self.0.push(Stretch::of(step, counts));
        }
    }

    /// Sets the items of a step, whether it is known or not. Returns those before.
    pub(super) fn set(&mut self, step: u64, counts: Counts) -> Counts {
        // The first stretch that does not end before the step.
        let at = self.0.partition_point(|stretch| stretch.last() < step);
        let Some(stretch) = self.0.get(at).copied() else {
            self.push(step, counts);
            return Counts::default();
        };
        let position = stretch.position(step);
        let before = position.map_or_else(Counts::default, |_| stretch.counts);
        if before == counts {
            return before;
        }
        let n_before = stretch.n_before(step);
        let after = n_before + u32::from(position.is_some());
        let new = (!counts.is_none()).then(|| Stretch::of(step, counts));
        let parts = [stretch.part(0, n_before), new, stretch.part(after, stretch.n_steps)];
        self.0.splice(at..=at, parts.into_iter().flatten());
        before
    }

    /// All steps, in order.
    pub(super) fn steps(&self) -> impl Iterator<Item = (u64, Counts)> {
        self.0.iter().flat_map(|stretch| {
            let Stretch { first, stride, n_steps, counts } = *stretch;
            (0..u64::from(n_steps)).map(move |n| (first + n * stride, counts))
        })
    }

    /// Whether no step has any item.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of segments.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The least and the greatest step that has an image or a held item.
    pub(super) fn ends(&self) -> Option<(u64, u64)> {
        let mut shown = self.0.iter().filter(|stretch| stretch.counts.is_shown());
        let first = shown.next()?;
        Some((first.first, shown.next_back().unwrap_or(first).last()))
    }

    /// At most `n_max` segments from this step on, and whether more follow.
    pub(super) fn from(&self, step: u64, n_max: usize) -> (Vec<Segment>, Option<u64>) {
        let begin = self.0.partition_point(|stretch| stretch.last() < step);
        let rest = &self.0[begin..];
        let shown = rest.iter().take(n_max).map(|stretch| {
            let Stretch { first, stride, n_steps, counts } = *stretch;
            let Counts { image, held, rejected } = counts;
            Segment(StepNumber(first), StepNumber(stride), n_steps, image, held, rejected)
        });
        (shown.collect(), rest.get(n_max).map(|next| next.first))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn of(image: u32) -> Counts {
        Counts { image, ..Counts::default() }
    }

    fn steps(segments: &Segments) -> BTreeMap<u64, Counts> {
        segments.steps().collect()
    }

    #[test]
    fn steps_at_equal_distances_take_one_segment() {
        let mut segments = Segments::default();
        for step in (0..1000).map(|n| n * 10).chain([u64::MAX]) {
            segments.push(step, of(2));
        }
        assert_eq!(segments.len(), 2);
        assert_eq!(segments.ends(), Some((0, u64::MAX)));
        let (shown, next) = segments.from(0, 1);
        assert_eq!(shown, [Segment(StepNumber(0), StepNumber(10), 1000, 2, 0, 0)]);
        assert_eq!(next, Some(u64::MAX));
        assert_eq!(segments.set(50, of(3)), of(2));
        assert_eq!(segments.set(55, of(1)), of(0));
        assert_eq!(segments.len(), 5);
        let (shown, _) = segments.from(51, 2);
        assert_eq!(shown[0], Segment(StepNumber(55), StepNumber(0), 1, 1, 0, 0));
        assert_eq!(shown[1], Segment(StepNumber(60), StepNumber(10), 994, 2, 0, 0));
    }

    proptest! {
        #[test]
        fn segments_hold_what_was_set(changes in prop::collection::vec((0u64..40, 0u32..3), 0..120)) {
            let (mut segments, mut want) = (Segments::default(), BTreeMap::new());
            for (step, n) in changes {
                let before = segments.set(step, of(n));
                let was = if n == 0 { want.remove(&step) } else { want.insert(step, of(n)) };
                prop_assert_eq!(before, was.unwrap_or_default());
                prop_assert_eq!(&steps(&segments), &want);
            }
            let ends = want.keys().next().copied().zip(want.keys().next_back().copied());
            prop_assert_eq!(segments.ends(), ends);
            let (mut seen, mut from) = (Vec::new(), Some(0));
            while let Some(step) = from {
                let (part, next) = segments.from(step, 2);
                seen.extend(part);
                from = next;
            }
            prop_assert_eq!(seen, segments.from(0, usize::MAX).0);
        }
    }
}
