//! What went into the pipeline and what came of it. Pure.
//!
//! At any moment: in = images + held back + rejected + given back + in flight. In is counted by who
//! plans, what came of it by who commits, what is in flight by what each unit says that it carries.

/// The counts, of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "they are counts")]
pub(crate) struct Ledger {
    /// Images that were planned, and lines and dumps that were rejected at once.
    pub(crate) n_in: u64,
    /// Of those, what is not done yet.
    pub(crate) n_in_flight: u64,
    pub(crate) n_image: u64,
    pub(crate) n_held: u64,
    pub(crate) n_rejected: u64,
    /// What could not be read whole, or written before the end: it is read again, and counted again.
    pub(crate) n_given_back: u64,
}

impl Ledger {
    /// How many images were kept, held back and rejected.
    pub(crate) fn counts(&self) -> [u64; 3] {
        [self.n_image, self.n_held, self.n_rejected]
    }
}
