//! Tables of numbers from any of the formats, told apart by the file's extension.

use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayView2, Axis, Ix2};

use super::{CsvReader, CsvWriter, NpyReader, NpyWriter, read_npz};
use crate::error::{Error, check_length};

/// A table, and its columns' names if the file has them.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// One for each column; only CSV files have them.
    pub names: Option<Vec<String>>,
    /// `[rows x columns]`.
    pub values: Array2<f64>,
}

/// A `.npy`, `.npz` or `.csv` table that is read in blocks of rows.
///
/// Only one block of a `.npy` or `.csv` file is in memory at a time; an array of an `.npz` archive is read at once.
#[derive(Debug)]
pub struct TableReader(Source);

#[derive(Debug)]
enum Source {
    Npy(NpyReader),
    Csv(CsvReader),
    /// A whole table, and the row that comes next.
    Memory(Array2<f64>, usize),
}

impl TableReader {
    /// Opens the table of a file. `array` is the one to take from an `.npz` archive that has several.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be opened, has another extension, or no table.
    pub fn open(path: impl AsRef<Path>, array: &str) -> Result<Self, Error> {
        let path = path.as_ref();
        Ok(Self(match extension(path)? {
            Format::Npy => Source::Npy(NpyReader::open(path)?),
            Format::Csv => Source::Csv(CsvReader::open(path)?),
            Format::Npz => Source::Memory(from_npz(path, array)?, 0),
        }))
    }

    /// The number of columns.
    pub fn columns(&self) -> usize {
        match &self.0 {
            Source::Npy(npy) => npy.columns(),
            Source::Csv(csv) => csv.names().len(),
            Source::Memory(table, _) => table.ncols(),
        }
    }

    /// The columns' names, if the file has them.
    pub fn names(&self) -> Option<&[String]> {
        match &self.0 {
            Source::Csv(csv) => Some(csv.names()),
            Source::Npy(_) | Source::Memory(..) => None,
        }
    }

    /// The number of rows, if it is known before all are read.
    pub fn rows(&self) -> Option<usize> {
        match &self.0 {
            Source::Npy(npy) => Some(npy.rows()),
            Source::Memory(table, _) => Some(table.nrows()),
            Source::Csv(_) => None,
        }
    }

    /// The next rows, `most` of them or what is left; no row at the end.
    ///
    /// # Errors
    /// [`Error::File`] if they cannot be read or are not numbers.
    pub fn next_rows(&mut self, most: usize) -> Result<Array2<f64>, Error> {
        match &mut self.0 {
            Source::Npy(npy) => npy.next_rows(most),
            Source::Csv(csv) => csv.next_rows(most),
            Source::Memory(table, next) => {
                let from = *next;
                *next = table.nrows().min(from.saturating_add(most));
                Ok(table.slice(ndarray::s![from..*next, ..]).to_owned())
            }
        }
    }

    /// All rows that are left.
    ///
    /// # Errors
    /// As [`TableReader::next_rows`].
    pub fn rest(mut self) -> Result<Table, Error> {
        let values = self.next_rows(usize::MAX)?;
        Ok(Table { names: self.names().map(<[String]>::to_vec), values })
    }
}

impl From<CsvReader> for TableReader {
    fn from(csv: CsvReader) -> Self {
        Self(Source::Csv(csv))
    }
}

/// Reads a whole table. `array` is the one to take from an `.npz` archive that has several.
///
/// # Errors
/// As [`TableReader::open`].
pub fn read_table(path: impl AsRef<Path>, array: &str) -> Result<Table, Error> {
    TableReader::open(path, array)?.rest()
}

/// Writes a whole table as `.npy`, or as `.csv` with these names of columns.
///
/// # Errors
/// [`Error::File`] if it cannot be written or has another extension, [`Error::Length`] if names and columns differ.
pub fn write_table(path: impl AsRef<Path>, names: &[impl AsRef<str>], table: ArrayView2<'_, f64>) -> Result<(), Error> {
    let path = path.as_ref();
    check_length("names of columns", table.ncols(), names.len())?;
    match extension(path)? {
        Format::Npy => {
            let mut npy = NpyWriter::create(path, &[table.ncols()])?;
            npy.push(table)?;
            npy.finish()
        }
        Format::Csv => {
            let mut csv = CsvWriter::create(path, names)?;
            table.rows().into_iter().try_for_each(|row| csv.push(&[], row))?;
            csv.finish()
        }
        Format::Npz => Err(Error::file(path, "a table alone; expected the extension .npy or .csv")),
    }
}

/// The formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Npy,
    Npz,
    Csv,
}

/// What a path's extension says.
pub(super) fn extension(path: &Path) -> Result<Format, Error> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("npy") => Ok(Format::Npy),
        Some("npz") => Ok(Format::Npz),
        Some("csv") => Ok(Format::Csv),
        _ => Err(Error::file(path, "not a kind of table; expected the extension .npy, .npz or .csv")),
    }
}

/// The named array, or the only one.
fn from_npz(path: &Path, name: &str) -> Result<Array2<f64>, Error> {
    let mut arrays = read_npz(path)?;
    let names: Vec<String> = arrays.iter().map(|(name, _)| format!("`{name}`")).collect();
    let index = match arrays.iter().position(|(own, _)| own == name) {
        None if arrays.len() == 1 => Some(0),
        found => found,
    };
    let index = index.ok_or_else(|| {
        Error::file(path, format!("no array `{name}` among {}; one of this name is needed", names.join(", ")))
    })?;
    let array = arrays.swap_remove(index).1;
    let axes = array.ndim();
    let table = if axes == 1 { array.insert_axis(Axis(1)) } else { array };
    let table = table.into_dimensionality::<Ix2>();
    let table = table.map_err(|_| format!("{axes} axes; expected rows and columns"));
    let table = table.and_then(|t| if t.ncols() == 0 { Err("a table without columns".into()) } else { Ok(t) });
    table.map_err(|why| Error::file(&PathBuf::from(path), format!("array {}: {why}", names[index])))
}

#[cfg(test)]
mod tests {
    use super::super::tests::folder;
    use super::super::write_npz;
    use super::*;
    use ndarray::array;

    #[test]
    fn the_same_table_in_every_format() {
        let folder = folder("table");
        let values = array![[1.0, 2.5], [3.0, -4.0], [1e-300, 0.1]];
        let at = |name: &str| folder.join(name);
        for file in ["t.npy", "t.csv"] {
            write_table(at(file), &["a", "b"], values.view()).unwrap();
        }
        let other = array![7.0, 8.0].into_dyn();
        write_npz(at("t.npz"), &[("other", other.view()), ("x", values.view().into_dyn())]).unwrap();
        for (file, names, rows) in
            [("t.npy", None, Some(3)), ("t.csv", Some(vec!["a".into(), "b".into()]), None), ("t.npz", None, Some(3))]
        {
            let mut reader = TableReader::open(at(file), "x").unwrap();
            assert_eq!((reader.columns(), reader.rows()), (2, rows), "{file}");
            assert_eq!(reader.next_rows(1).unwrap(), values.slice(ndarray::s![..1, ..]));
            assert_eq!(reader.rest().unwrap(), Table { names, values: values.slice(ndarray::s![1.., ..]).to_owned() });
        }
        // One axis is one column, and the only array needs no name.
        assert_eq!(read_table(at("t.npz"), "other").unwrap().values, array![[7.0], [8.0]]);
        write_npz(at("one.npz"), &[("a", other.view())]).unwrap();
        assert_eq!(read_table(at("one.npz"), "x").unwrap().values, array![[7.0], [8.0]]);

        let says = |file: &str, array: &str, word: &str| {
            let message = read_table(at(file), array).unwrap_err().to_string();
            assert!(message.contains(file) && message.contains(word), "{message}");
        };
        says("t.npz", "theta", "no array `theta` among `other`, `x`");
        says("t.txt", "x", "expected the extension .npy, .npz or .csv");
        write_npz(at("cube.npz"), &[("x", ndarray::Array3::zeros((1, 2, 3)).view().into_dyn())]).unwrap();
        says("cube.npz", "x", "array `x`: 3 axes");
        assert!(write_table(at("t.csv"), &["a"], values.view()).is_err());
        assert!(write_table(at("t.npz"), &["a", "b"], values.view()).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
