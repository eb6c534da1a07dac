//! torch files: zip files with a pickle, and pickles.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|file: &[u8]| -> Corpus {
    let is_zip = file.starts_with(b"PK") && file.windows(8).any(|name| name == b"data.pkl");
    if !is_zip && !file.starts_with(b"\x80") {
        return Corpus::Reject;
    }
    safelight_fuzz::check_dump(file);
    Corpus::Keep
});
