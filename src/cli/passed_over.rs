//! Prints what is passed over.

use std::io::Write;

use super::format::printable;
use crate::ingest::{PassedOver, PassedOverExample, RootStatus};

/// What was passed over, each kind with what to do about it and a few examples. Each line begins with `indent`.
pub(super) fn print_passed_over(
    passed_over: &[PassedOver],
    indent: &str,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    for PassedOver { kind, n, advice, examples } in passed_over {
        let (one, several) = kind.nouns();
        let noun = if *n == 1 { one } else { several };
        writeln!(out, "{indent}passed over {} {noun}: {advice}", indicatif::HumanCount(*n))?;
        for PassedOverExample { path, note } in examples {
            let note = match note.as_str() {
                "" => String::new(),
                link if link.starts_with("-> ") => format!(" {link}"),
                note => format!(": {note}"),
            };
            writeln!(out, "{indent}  {}{}", printable(path), printable(&note))?;
        }
        let n_more = n.saturating_sub(examples.len() as u64);
        if n_more > 0 && !examples.is_empty() {
            writeln!(out, "{indent}  … and {} more", indicatif::HumanCount(n_more))?;
        }
    }
    Ok(())
}

/// The patterns of logs and of dumps of a watched directory, in words.
pub(super) fn looked_for(root: &RootStatus) -> [String; 2] {
    let list = |patterns: &[String]| match patterns {
        [] => "none".to_owned(),
        patterns => patterns.join(", "),
    };
    [format!("media logs ({})", list(&root.logs)), format!("dumps ({})", list(&root.dumps))]
}
