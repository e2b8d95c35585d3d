//! A `.npy` table: whatever the bytes, rows or an error, and blocks are the whole.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use retrodict::files::NpyReader;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut whole) = NpyReader::new("bytes", Cursor::new(bytes)) else { return };
    let Ok(rows) = whole.next_rows(usize::MAX) else { return };
    let mut blocks = NpyReader::new("bytes", Cursor::new(bytes)).expect("it was opened before");
    let (first, rest) = (blocks.next_rows(3).expect("as before"), blocks.next_rows(usize::MAX).expect("as before"));
    assert_eq!(first.nrows() + rest.nrows(), rows.nrows());
    assert!(first.iter().chain(&rest).zip(&rows).all(|(a, b)| a.to_bits() == b.to_bits()));
});
