//! Image files, which are stored unchanged.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|file: &[u8]| -> Corpus {
    let magics: [&[u8]; 7] = [b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II", b"MM"];
    if !magics.iter().any(|magic| file.starts_with(magic)) {
        return Corpus::Reject;
    }
    safelight_fuzz::check_dump(file);
    Corpus::Keep
});
