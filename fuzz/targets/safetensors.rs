//! safetensors files.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|file: &[u8]| -> Corpus {
    if file.get(8) != Some(&b'{') {
        return Corpus::Reject;
    }
    safelight_fuzz::check_dump(file);
    Corpus::Keep
});
