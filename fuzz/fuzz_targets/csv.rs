//! A CSV table: rows of numbers or an error.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use retrodict::files::CsvReader;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut reader) = CsvReader::new("bytes", Cursor::new(bytes.to_vec())) else { return };
    while let Ok(rows) = reader.next_rows(2) {
        assert_eq!(rows.ncols(), reader.names().len());
        if rows.nrows() == 0 {
            break;
        }
    }
});
