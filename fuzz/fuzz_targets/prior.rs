//! A prior as a text file: what is read comes back from what is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use retrodict::sbi::PriorFile;

fuzz_target!(|text: &str| {
    if let Ok(file) = PriorFile::parse("text", text) {
        assert_eq!(PriorFile::parse("again", &file.to_string()).expect("it was written by us"), file);
    }
});
