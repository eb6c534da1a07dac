//! Zip files: those without a pickle are npz files.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|file: &[u8]| -> Corpus {
    if !file.starts_with(b"PK") || file.windows(8).any(|name| name == b"data.pkl") {
        return Corpus::Reject;
    }
    safelight_fuzz::check_dump(file);
    Corpus::Keep
});
