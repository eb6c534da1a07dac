//! Counts of the items that went into the pipeline, and of what became of them. Pure.
//!
//! At any moment: in = images + held + rejected + given back + in flight. Planning adds to `n_in`, the
//! committer adds to the results, and each batch carries the number that it has in flight.

/// Counts of items since this process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "they are counts")]
pub(crate) struct ItemCounts {
    /// Planned images, and lines and dumps that were rejected at once.
    pub(crate) n_in: u64,
    /// Of those, the ones between plan and commit.
    pub(crate) n_in_flight: u64,
    pub(crate) n_image: u64,
    pub(crate) n_held: u64,
    pub(crate) n_rejected: u64,
    /// Items that could not be read whole, or not be written before the program stopped. They are read
    /// again, and counted again.
    pub(crate) n_given_back: u64,
}

impl ItemCounts {
    /// Images, held items and rejected items, in this order.
    pub(crate) fn by_state(&self) -> [u64; 3] {
        [self.n_image, self.n_held, self.n_rejected]
    }

    /// Counts items as planned.
    pub(super) fn add_planned(&mut self, n: u64) {
        self.n_in += n;
        self.n_in_flight += n;
    }

    /// Moves the items of a batch from in flight to what became of them.
    pub(super) fn add_done(&mut self, batch: &BatchCounts) {
        self.n_in_flight = self.n_in_flight.saturating_sub(batch.n_items);
        self.n_image += batch.n_image;
        self.n_held += batch.n_held;
        self.n_rejected += batch.n_rejected;
        self.n_given_back += batch.n_given_back;
    }
}

/// Counts of the items of one batch that is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "they are counts")]
pub(super) struct BatchCounts {
    /// All items of the batch: the sum of the others.
    pub(super) n_items: u64,
    pub(super) n_image: u64,
    pub(super) n_held: u64,
    pub(super) n_rejected: u64,
    pub(super) n_given_back: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_in_is_in_flight_until_it_is_done() {
        let mut counts = ItemCounts::default();
        counts.add_planned(6);
        counts.add_planned(1);
        assert_eq!((counts.n_in, counts.n_in_flight), (7, 7));
        let batch =
            BatchCounts { n_items: 6, n_image: 3, n_held: 2, n_rejected: 1, n_given_back: 0 };
        counts.add_done(&batch);
        assert_eq!((counts.n_in_flight, counts.by_state()), (1, [3, 2, 1]));
        counts.add_done(&BatchCounts { n_items: 1, n_given_back: 1, ..BatchCounts::default() });
        let n_done: u64 = counts.by_state().iter().sum();
        assert_eq!(counts.n_in, n_done + counts.n_given_back + counts.n_in_flight);
    }
}
