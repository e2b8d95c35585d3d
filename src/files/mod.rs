//! Files: written beside their target and renamed, and tables of numbers (feature `arrays`).
//!
//! A table comes from a `.npy`, `.npz` or `.csv` file, whole ([`read_table`]) or in blocks of rows ([`TableReader`]), so
//! that a program can work on more rows than memory holds. Draws go to the same three formats ([`DrawsWriter`]).

#[cfg(feature = "arrays")]
mod csv;
#[cfg(feature = "arrays")]
mod draws;
#[cfg(feature = "arrays")]
mod npy;
#[cfg(feature = "arrays")]
mod npz;
mod replacement;
#[cfg(feature = "arrays")]
mod table;
#[cfg(feature = "weights")]
pub(crate) mod weights;

#[cfg(feature = "arrays")]
pub use self::csv::{CsvReader, CsvWriter};
#[cfg(feature = "arrays")]
pub use draws::DrawsWriter;
#[cfg(feature = "external")]
pub(crate) use npy::Message;
#[cfg(feature = "arrays")]
pub use npy::{NpyReader, NpyWriter, read_npy, write_npy};
#[cfg(feature = "arrays")]
pub use npz::{npz_arrays, read_npz, write_npz};
pub use replacement::{Replacement, write};
#[cfg(feature = "arrays")]
pub use table::{Table, TableReader, read_table, write_table};

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    /// A folder of its own for each test.
    pub(super) fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("retrodict-files-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}
