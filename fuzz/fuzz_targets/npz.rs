//! An `.npz` archive: arrays or an error, and no memory for what is only promised.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use retrodict::files::npz_arrays;

fuzz_target!(|bytes: &[u8]| {
    let _ = npz_arrays("bytes", Cursor::new(bytes)); // an error is fine
});
