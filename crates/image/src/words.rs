//! Words of messages. Pure.

/// Returns a count with its noun: `1 image`, `2 images`.
#[must_use]
pub fn counted(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_singular() {
        // Bug: "1 items are pending".
        for (n, want) in [(0, "0 items"), (1, "1 item"), (2, "2 items"), (1000, "1000 items")] {
            assert_eq!(counted(n, "item"), want);
        }
    }
}
