//! Tables as comma-separated values with a line of column names.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use csv::StringRecord;
use ndarray::{Array2, ArrayView1};

use super::Replacement;
use crate::error::{Error, check_length};

/// A CSV table that is read in blocks of rows. Its first line names the columns; an empty field is NaN.
pub struct CsvReader {
    path: PathBuf,
    source: csv::Reader<Box<dyn Read>>,
    names: Vec<String>,
    record: StringRecord,
}

impl fmt::Debug for CsvReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CsvReader").field("path", &self.path).field("names", &self.names).finish_non_exhaustive()
    }
}

impl CsvReader {
    /// Opens a table.
    ///
    /// # Errors
    /// As [`CsvReader::new`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let file = File::open(path.as_ref()).map_err(|why| Error::file(path.as_ref(), why))?;
        Self::new(path, file)
    }

    /// Any text, for example standard input; `path` is the name that errors give it.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, is empty, or its first line names no columns or two alike.
    pub fn new(path: impl AsRef<Path>, source: impl Read + 'static) -> Result<Self, Error> {
        let path = path.as_ref().to_path_buf();
        let source: Box<dyn Read> = Box::new(source);
        let mut source = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(source);
        let header = source.headers().map_err(|why| Error::file(&path, message(&why)))?;
        let names: Vec<String> = header.iter().map(String::from).collect();
        check_names(&names).map_err(|why| Error::file(&path, why))?;
        Ok(Self { path, source, names, record: StringRecord::new() })
    }

    /// The columns' names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The next rows, `most` of them or what is left; no row at the end.
    ///
    /// # Errors
    /// [`Error::File`] that names the line and the column of what is not a number, or the line of another length.
    pub fn next_rows(&mut self, most: usize) -> Result<Array2<f64>, Error> {
        let (mut numbers, mut rows) = (Vec::new(), 0);
        while rows < most && self.next_row(&mut numbers).map_err(|why| Error::file(&self.path, why))? {
            rows += 1;
        }
        let table = Array2::from_shape_vec((rows, self.names.len()), numbers);
        table.map_err(|why| Error::file(&self.path, why))
    }

    fn next_row(&mut self, numbers: &mut Vec<f64>) -> Result<bool, String> {
        if !self.source.read_record(&mut self.record).map_err(|why| message(&why))? {
            return Ok(false);
        }
        for (column, field) in self.record.iter().enumerate() {
            let number = if field.is_empty() { Ok(f64::NAN) } else { field.parse() };
            numbers.push(number.map_err(|_| {
                let line = self.record.position().map_or(0, csv::Position::line);
                let (column, name) = (column + 1, &self.names[column]);
                format!("line {line}, column {column} (`{name}`): `{}` is not a number", shortened(field))
            })?);
        }
        Ok(true)
    }
}

/// What the parser says, with the line.
fn message(why: &csv::Error) -> String {
    let line = why.position().map_or(1, csv::Position::line);
    match why.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("line {line}: {len} fields; line 1 names {expected_len} columns")
        }
        csv::ErrorKind::Utf8 { err, .. } => format!("line {line}, column {}: no UTF-8 text", err.field() + 1),
        csv::ErrorKind::Io(why) => why.to_string(),
        _ => why.to_string(),
    }
}

fn check_names(names: &[String]) -> Result<(), String> {
    if names.iter().all(String::is_empty) {
        return Err("line 1 is empty; it should name the columns".into());
    }
    if names.iter().all(|name| name.parse::<f64>().is_ok()) {
        return Err("line 1 has numbers where the columns' names should stand".into());
    }
    match names.iter().enumerate().find(|(j, name)| names[..*j].contains(name)) {
        Some((j, name)) => Err(format!("line 1, column {}: a second column named `{name}`", j + 1)),
        None => Ok(()),
    }
}

/// The beginning of a text, for messages.
fn shortened(text: &str) -> String {
    if text.chars().count() > 40 { text.chars().take(40).chain("…".chars()).collect() } else { text.into() }
}

/// A CSV table that grows row by row. Numbers are written so that they come back bit for bit.
pub struct CsvWriter<W: Write> {
    sink: csv::Writer<W>,
    path: PathBuf,
    columns: usize,
}

impl<W: Write> fmt::Debug for CsvWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CsvWriter").field("path", &self.path).field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl CsvWriter<Replacement> {
    /// Begins a table; it appears when it is finished.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be created.
    pub fn create(path: impl AsRef<Path>, names: &[impl AsRef<str>]) -> Result<Self, Error> {
        Self::new(path.as_ref(), Replacement::create(path.as_ref())?, names)
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// [`Error::File`] if that fails.
    pub fn finish(self) -> Result<(), Error> {
        let failed = |why: &dyn fmt::Display| Error::file(&self.path, why);
        self.sink.into_inner().map_err(|why| failed(&why.error()))?.finish()
    }
}

impl<W: Write> CsvWriter<W> {
    /// The same to anything that takes bytes, for example standard output; `path` is the name that errors give it.
    ///
    /// # Errors
    /// [`Error::File`] if the names cannot be written.
    pub fn new(path: impl AsRef<Path>, sink: W, names: &[impl AsRef<str>]) -> Result<Self, Error> {
        let mut sink = csv::Writer::from_writer(sink);
        let written = sink.write_record(names.iter().map(AsRef::as_ref));
        written.map_err(|why| Error::file(path.as_ref(), why))?;
        Ok(Self { sink, path: path.as_ref().to_path_buf(), columns: names.len() })
    }

    /// Adds a row: first some integers (indices), then the numbers.
    ///
    /// # Errors
    /// [`Error::Length`] if these are not as many as the names, [`Error::File`] if the row cannot be written.
    pub fn push(&mut self, indices: &[usize], row: ArrayView1<'_, f64>) -> Result<(), Error> {
        check_length("fields in a row of the file", self.columns, indices.len() + row.len())?;
        let mut write = |text: String| self.sink.write_field(text);
        let mut fields = indices.iter().map(usize::to_string).chain(row.iter().map(|number| format!("{number:?}")));
        let written = fields.try_for_each(&mut write).and_then(|()| self.sink.write_record(None::<&[u8]>));
        written.map_err(|why| Error::file(&self.path, why))
    }

    /// Passes on what is still held back.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.sink.flush().map_err(|why| Error::file(&self.path, why))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::folder;
    use super::*;
    use ndarray::{ArrayView2, array};
    use std::io::Cursor;

    fn read(text: &str) -> Result<(Vec<String>, Array2<f64>), Error> {
        let mut reader = CsvReader::new("t.csv", Cursor::new(text.to_string()))?;
        Ok((reader.names().to_vec(), reader.next_rows(usize::MAX)?))
    }

    #[test]
    fn what_spreadsheets_write_is_read() {
        let want = array![[1.5, -2e300], [3.0, 4.0]];
        for text in [
            "a,b\n1.5,-2e300\n3,4\n",
            "a, b\r\n1.5, -2e300\r\n3,4",
            "\u{feff}a,b\n1.5,-2e300\n\n3,4\n",
            "\"a\",b\n\"1.5\",-2e300\n3,4\n",
        ] {
            let (names, table) = read(text).unwrap();
            assert_eq!((names, table), (vec!["a".into(), "b".into()], want.clone()), "{text}");
        }
        let (_, gaps) = read("a,b\n,nan\ninf,-Infinity\n").unwrap();
        assert!(gaps[(0, 0)].is_nan() && gaps[(0, 1)].is_nan());
        assert_eq!(gaps.row(1), array![f64::INFINITY, f64::NEG_INFINITY]);
        assert_eq!(read("a,b\n").unwrap().1.dim(), (0, 2));
        let mut reader = CsvReader::new("t.csv", Cursor::new("a\n1\n2\n3\n")).unwrap();
        assert_eq!([2, 2, 2].map(|most| reader.next_rows(most).unwrap().len()), [2, 1, 0]);
    }

    #[test]
    fn errors_name_line_and_column() {
        for (text, word) in [
            ("", "line 1 is empty"),
            ("1,2\n3,4\n", "line 1 has numbers where"),
            ("a,b,a\n", "line 1, column 3: a second column named `a`"),
            ("a,b\n1,2\n3,x y\n", "line 3, column 2 (`b`): `x y` is not a number"),
            ("a,b\n1,2\n3\n", "line 3: 1 fields; line 1 names 2 columns"),
            ("a,b\n1,2,3\n", "line 2: 3 fields; line 1 names 2 columns"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.starts_with("t.csv: ") && message.contains(word), "{text:?}: {message}");
        }
        let mut bytes = CsvReader::new("t.csv", Cursor::new(b"a,b\n1,\xff\n".to_vec())).unwrap();
        assert!(bytes.next_rows(1).unwrap_err().to_string().contains("line 2, column 2: no UTF-8"));
        assert!(CsvReader::open("no/such.csv").unwrap_err().to_string().contains("no/such.csv"));
    }

    #[test]
    fn numbers_come_back_bit_for_bit() {
        let folder = folder("csv");
        let path = folder.join("t.csv");
        let values = [0.1, -0.0, f64::MAX, f64::MIN_POSITIVE, 5e-324, f64::INFINITY, 1.0 / 3.0, 1e16];
        let mut writer = CsvWriter::create(&path, &["row", "a,b", "c"]).unwrap();
        for (row, pair) in values.chunks(2).enumerate() {
            writer.push(&[row], ArrayView1::from(pair)).unwrap();
        }
        assert!(writer.push(&[], ArrayView1::from(&values[..2])).is_err());
        writer.finish().unwrap();
        let mut reader = CsvReader::open(&path).unwrap();
        assert_eq!(reader.names(), ["row", "a,b", "c"]);
        let back = reader.next_rows(100).unwrap();
        let want = ArrayView2::from_shape((4, 2), &values).unwrap();
        let numbers = back.slice(ndarray::s![.., 1..]);
        assert!(numbers.iter().zip(want).all(|(a, b)| a.to_bits() == b.to_bits()), "{back}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
