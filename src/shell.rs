//! Words of a shell's command line, for commands that messages name.

use std::path::Path;

/// A path as a word of a shell's command line.
pub(crate) fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// A word of a shell's command line, quoted if that is needed. Control characters are escaped, so that the word is safe
/// for a terminal.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    if !word.chars().any(char::is_control) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    let escaped = word.chars().map(|c| match c {
        '\\' | '\'' => format!("\\{c}"),
        c if c.is_control() => {
            let mut bytes = [0; 4];
            let bytes = c.encode_utf8(&mut bytes).bytes();
            bytes.map(|byte| format!("\\x{byte:02x}")).collect::<Vec<_>>().concat()
        }
        c => c.to_string(),
    });
    format!("$'{}'", escaped.collect::<Vec<_>>().concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_so_that_a_shell_reads_them_back() {
        for (word, want) in [
            ("run", "run"),
            ("/data/runs/a-1_2.x", "/data/runs/a-1_2.x"),
            ("my run", "'my run'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
            ("$(rm -rf ~)", "'$(rm -rf ~)'"),
            ("~", "'~'"),
            ("a\nb'\\", r"$'a\x0ab\'\\'"),
            ("a\u{9b}b", r"$'a\xc2\x9bb'"),
            ("été", "été"),
        ] {
            assert_eq!(quoted(word), want);
            let echoed = std::process::Command::new("bash")
                .args(["-c", &format!("printf %s {}", quoted(word))])
                .output()
                .expect("bash");
            assert_eq!(String::from_utf8_lossy(&echoed.stdout), word);
        }
    }
}
