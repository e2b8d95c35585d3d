//! NumPy's `.npy` tables, whole or in blocks of rows.
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>, versions 1 to 3.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayD, ArrayView2, ArrayViewD, IxDyn, ShapeBuilder};
use ndarray_npy::npy::header::Header;

use super::Replacement;
use crate::error::{Error, check_length};

/// NumPy itself refuses longer headers.
const LONGEST_HEADER: usize = 10_000;
/// A structured type opens some too; it is to be named in the error.
const MOST_BRACKETS: usize = 8;
/// Elements that are decoded at once.
const BLOCK: usize = 1 << 14;

/// How one number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Element {
    kind: Kind,
    bytes: usize,
    big_endian: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Float,
    Signed,
    Unsigned,
}

impl Element {
    /// From a type string such as `<f8`; `None` for anything but floats of 4 or 8 and integers of 1 to 8 bytes.
    fn parse(text: &str) -> Option<Self> {
        let mut letters = text.chars();
        let big_endian = match letters.next()? {
            '<' | '|' => false,
            '>' => true,
            '=' => cfg!(target_endian = "big"),
            _ => return None,
        };
        let kind = match letters.next()? {
            'f' => Kind::Float,
            'i' => Kind::Signed,
            'u' => Kind::Unsigned,
            _ => return None,
        };
        let bytes = match (letters.as_str(), kind) {
            ("4", _) => 4,
            ("8", _) => 8,
            ("1", Kind::Signed | Kind::Unsigned) => 1,
            ("2", Kind::Signed | Kind::Unsigned) => 2,
            _ => return None,
        };
        Some(Self { kind, bytes, big_endian })
    }

    /// One number; integers above 2^53 are rounded.
    fn decode(self, stored: &[u8]) -> f64 {
        let mut word = [0; 8];
        for (i, &byte) in stored.iter().enumerate() {
            word[if self.big_endian { self.bytes - 1 - i } else { i }] = byte;
        }
        let word = u64::from_le_bytes(word);
        match (self.kind, self.bytes) {
            (Kind::Float, 4) => f64::from(f32::from_bits(word as u32)),
            (Kind::Float, _) => f64::from_bits(word),
            (Kind::Unsigned, _) => word as f64,
            (Kind::Signed, bytes) => {
                let unused = 64 - 8 * bytes as u32;
                ((word << unused) as i64 >> unused) as f64
            }
        }
    }
}

/// What a file says of its array before the numbers begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Description {
    element: Element,
    fortran: bool,
    shape: Vec<usize>,
    /// Of all numbers together, in bytes.
    length: u64,
}

impl Description {
    /// Reads as far as the first number; says what is wrong otherwise.
    pub(super) fn read(source: &mut impl Read) -> Result<Self, String> {
        let header = header_bytes(source).map_err(|why| format!("no .npy header: {why}"))?;
        let header = Header::from_reader(&mut &header[..]).map_err(|why| format!("no .npy header: {why}"))?;
        let found = header.type_descriptor.to_string();
        let element = Element::parse(found.trim_matches('\'')).ok_or_else(|| {
            format!("elements of type {found}; expected floats or integers ('<f8', '<f4', '<i8' and the like)")
        })?;
        let elements = header.shape.iter().try_fold(1_usize, |product, &n| product.checked_mul(n));
        let length = elements.and_then(|n| n.checked_mul(element.bytes));
        let length = length.ok_or_else(|| format!("a shape of {:?} is more than a file can hold", header.shape))?;
        Ok(Self { element, fortran: header.layout.is_fortran(), shape: header.shape, length: length as u64 })
    }

    /// The numbers that follow, in the order of the file.
    fn numbers(&self, source: &mut impl Read, count: usize) -> Result<Vec<f64>, String> {
        let mut numbers = Vec::new();
        let mut bytes = vec![0; BLOCK.min(count) * self.element.bytes];
        for start in (0..count).step_by(BLOCK) {
            let block = &mut bytes[..BLOCK.min(count - start) * self.element.bytes];
            source.read_exact(block).map_err(|why| format!("its numbers end early: {why}"))?;
            numbers.extend(block.chunks_exact(self.element.bytes).map(|one| self.element.decode(one)));
        }
        Ok(numbers)
    }

    /// The whole array that follows.
    pub(super) fn array(&self, source: &mut impl Read) -> Result<ArrayD<f64>, String> {
        let numbers = self.numbers(source, self.shape.iter().product())?;
        let shape = IxDyn(&self.shape).set_f(self.fortran);
        ArrayD::from_shape_vec(shape, numbers).map_err(|why| format!("a shape of {:?}: {why}", self.shape))
    }

    /// (rows, columns); one axis is one column.
    fn table(&self) -> Result<(usize, usize), String> {
        match self.shape[..] {
            [rows] => Ok((rows, 1)),
            [_, 0] => Err("a table without columns".into()),
            [rows, columns] => Ok((rows, columns)),
            _ => Err(format!("{} axes; expected rows and columns", self.shape.len())),
        }
    }
}

/// Magic, version, length and dictionary: no more of them than the longest header has, whatever the length field says.
fn header_bytes(source: &mut impl Read) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; 8];
    source.read_exact(&mut bytes).map_err(|why| why.to_string())?;
    let width = if bytes[6] == 1 { 2 } else { 4 };
    let mut length = [0; 4];
    source.read_exact(&mut length[..width]).map_err(|why| why.to_string())?;
    bytes.extend(&length[..width]);
    let length = u32::from_le_bytes(length) as usize;
    if !bytes.starts_with(b"\x93NUMPY") {
        return Err("it does not start with \\x93NUMPY".into());
    }
    if length > LONGEST_HEADER {
        return Err(format!("it is {length} bytes long, at most {LONGEST_HEADER} are possible"));
    }
    let start = bytes.len();
    bytes.resize(start + length, 0);
    source.read_exact(&mut bytes[start..]).map_err(|why| why.to_string())?;
    // The parser's time doubles with each bracket that opens; a dictionary of an array of numbers opens two.
    let opened = bytes[start..].iter().filter(|byte| b"([{".contains(byte)).count();
    if opened > MOST_BRACKETS { Err(format!("it opens {opened} brackets, more than a table has")) } else { Ok(bytes) }
}

/// The header of version 1 for little-endian `f64`, of a length that does not depend on the first axis' length.
pub(super) fn header(shape: &[usize], fortran: bool) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let sizes: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let text = format!("{{'descr': '<f8', 'fortran_order': {order}, 'shape': ({sizes}), }}");
    // Ten bytes come before the text, a line break after it, and the sum is a multiple of 64.
    let digits = shape.first().map_or(0, |rows| rows.to_string().len());
    let longest = text.len() - digits + 20; // no number of rows has more digits
    let total = (10 + longest + 1).next_multiple_of(64);
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(((total - 10) as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.resize(total - 1, b' ');
    bytes.push(b'\n');
    bytes
}

/// A `.npy` table that is read in blocks of rows.
///
/// Floats of 4 and 8 bytes and integers of 1 to 8 come as `f64`, in both byte orders and both orders of axes.
#[derive(Debug)]
pub struct NpyReader<R = BufReader<File>> {
    path: PathBuf,
    source: R,
    description: Description,
    rows: usize,
    columns: usize,
    /// Where the numbers begin.
    start: u64,
    /// The row that comes next.
    next: usize,
}

impl NpyReader {
    /// Opens a table; a file of one axis is one column.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, is damaged, has another element type, or has not one or two axes.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let file = File::open(path.as_ref()).map_err(|why| Error::file(path.as_ref(), why))?;
        Self::new(path, BufReader::new(file))
    }
}

impl<R: Read + Seek> NpyReader<R> {
    /// The same from any bytes; `path` is the name that errors give them.
    ///
    /// # Errors
    /// As [`NpyReader::open`].
    pub fn new(path: impl AsRef<Path>, mut source: R) -> Result<Self, Error> {
        let path = path.as_ref().to_path_buf();
        let description = Description::read(&mut source).map_err(|why| Error::file(&path, why))?;
        let (rows, columns) = description.table().map_err(|why| Error::file(&path, why))?;
        let measure = |source: &mut R| {
            let start = source.stream_position()?;
            let end = source.seek(SeekFrom::End(0))?;
            source.seek(SeekFrom::Start(start))?;
            std::io::Result::Ok((start, end - start))
        };
        let (start, found) = measure(&mut source).map_err(|why| Error::file(&path, why))?;
        if found != description.length {
            let why = format!("{found} bytes of numbers, its header promises {}; it is damaged", description.length);
            return Err(Error::file(&path, why));
        }
        Ok(Self { path, source, description, rows, columns, start, next: 0 })
    }

    /// Rows of the whole table.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the table.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The next rows, `most` of them or what is left; no row at the end.
    ///
    /// # Errors
    /// [`Error::File`] if the file can no longer be read.
    pub fn next_rows(&mut self, most: usize) -> Result<Array2<f64>, Error> {
        let count = most.min(self.rows - self.next);
        let block = if self.description.fortran { self.by_columns(count) } else { self.by_rows(count) };
        self.next += count;
        block.map_err(|why| Error::file(&self.path, why))
    }

    fn by_rows(&mut self, count: usize) -> Result<Array2<f64>, String> {
        let numbers = self.description.numbers(&mut self.source, count * self.columns)?;
        Array2::from_shape_vec((count, self.columns), numbers).map_err(|why| why.to_string())
    }

    /// In Fortran's order each column is one run of numbers.
    fn by_columns(&mut self, count: usize) -> Result<Array2<f64>, String> {
        let mut numbers = Vec::with_capacity(count * self.columns);
        for column in 0..self.columns {
            let at = (column * self.rows + self.next) * self.description.element.bytes;
            self.source.seek(SeekFrom::Start(self.start + at as u64)).map_err(|why| why.to_string())?;
            numbers.extend(self.description.numbers(&mut self.source, count)?);
        }
        Array2::from_shape_vec((count, self.columns).f(), numbers).map_err(|why| why.to_string())
    }
}

/// Reads a whole table from a `.npy` file; a file of one axis is one column.
///
/// # Errors
/// As [`NpyReader::open`].
pub fn read_npy(path: impl AsRef<Path>) -> Result<Array2<f64>, Error> {
    let mut reader = NpyReader::open(path)?;
    reader.next_rows(reader.rows)
}

/// A `.npy` file of `f64` that grows along its first axis; it appears when it is finished.
#[derive(Debug)]
pub struct NpyWriter {
    file: Replacement,
    /// Rows so far, then the lengths of the other axes.
    shape: Vec<usize>,
}

impl NpyWriter {
    /// Begins a file of no row; `row` has the lengths of all axes but the first.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be created.
    pub fn create(path: impl AsRef<Path>, row: &[usize]) -> Result<Self, Error> {
        let mut file = Replacement::create(path)?;
        let shape: Vec<usize> = [0].iter().chain(row).copied().collect();
        file.write_all(&header(&shape, false)).map_err(|why| file.error(why))?;
        Ok(Self { file, shape })
    }

    /// Adds the rows of a table, `[rows x everything else]`.
    ///
    /// # Errors
    /// [`Error::Length`] if a row has not the right number of numbers, [`Error::File`] if it cannot be written.
    pub fn push(&mut self, rows: ArrayView2<'_, f64>) -> Result<(), Error> {
        check_length("numbers in a row of the file", self.shape[1..].iter().product(), rows.ncols())?;
        self.push_part(rows, rows.nrows())
    }

    /// Adds numbers with which so many rows end.
    pub(super) fn push_part(&mut self, numbers: ArrayView2<'_, f64>, rows: usize) -> Result<(), Error> {
        write_numbers(&mut self.file, numbers.into_dyn()).map_err(|why| self.file.error(why))?;
        self.shape[0] += rows;
        Ok(())
    }

    /// Writes the number of rows into the header and puts the file in its place.
    ///
    /// # Errors
    /// [`Error::File`] if that fails.
    pub fn finish(mut self) -> Result<(), Error> {
        let header = header(&self.shape, false);
        let at_start = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.write_all(&header));
        at_start.map_err(|why| self.file.error(why))?;
        self.file.finish()
    }
}

/// Little-endian numbers, the last axis fastest.
pub(super) fn write_numbers(to: &mut (impl Write + ?Sized), array: ArrayViewD<'_, f64>) -> std::io::Result<()> {
    array.iter().try_for_each(|number| to.write_all(&number.to_le_bytes()))
}

/// An array on its way through a pipe.
#[cfg(feature = "external")]
pub(crate) struct Message {
    pub shape: Vec<usize>,
    pub numbers: Vec<f64>,
}

#[cfg(feature = "external")]
impl Message {
    pub fn write(&self, to: &mut impl Write) -> std::io::Result<()> {
        to.write_all(&header(&self.shape, false))?;
        self.numbers.iter().try_for_each(|number| to.write_all(&number.to_le_bytes()))
    }

    /// Reads a table of this many rows, and nothing after it.
    pub fn read(from: &mut impl Read, rows: usize) -> Result<Self, String> {
        let description = Description::read(from)?;
        match description.table()? {
            (found, _) if found == rows => {}
            (found, _) => return Err(format!("{found} rows, {rows} were asked for")),
        }
        let array = description.array(from)?;
        Ok(Self { shape: array.shape().to_vec(), numbers: array.iter().copied().collect() })
    }
}

/// Writes an array of any number of axes (draws, densities) as a `.npy` file of `f64`.
///
/// # Errors
/// [`Error::File`] if the file cannot be written; an older one is then left as it was.
pub fn write_npy(path: impl AsRef<Path>, array: ArrayViewD<'_, f64>) -> Result<(), Error> {
    let mut file = Replacement::create(path)?;
    let written = file.write_all(&header(array.shape(), false)).and_then(|()| write_numbers(&mut file, array));
    written.map_err(|why| file.error(why))?;
    file.finish()
}

#[cfg(test)]
mod tests {
    use super::super::tests::folder;
    use super::*;
    use ndarray::{Array3, array};
    use std::io::Cursor;

    /// A file as NumPy writes it: dictionary padded to 64 bytes, version as given, then the numbers.
    fn file(version: u8, dictionary: &str, numbers: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY".to_vec();
        bytes.extend([version, 0]);
        let width = if version == 1 { 2 } else { 4 };
        let length = (8 + width + dictionary.len() + 1).next_multiple_of(64) - 8 - width;
        bytes.extend(&(length as u32).to_le_bytes()[..width]);
        let start = bytes.len();
        bytes.extend(dictionary.as_bytes());
        bytes.resize(start + length - 1, b' ');
        bytes.push(b'\n');
        bytes.extend(numbers);
        bytes
    }

    fn table(bytes: Vec<u8>) -> Result<Array2<f64>, Error> {
        let mut reader = NpyReader::new("t.npy", Cursor::new(bytes))?;
        reader.next_rows(usize::MAX)
    }

    fn dictionary(kind: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': '{kind}', 'fortran_order': {fortran}, 'shape': {shape}, }}")
    }

    #[test]
    fn every_kind_of_number_in_both_byte_orders() {
        macro_rules! check {
            ($($kind:literal $type:ty),*) => {$(
                let values: [$type; 6] = [0 as $type, 1 as $type, <$type>::MAX, <$type>::MIN, 77 as $type, 3 as $type];
                let want = Array2::from_shape_vec((3, 2), values.map(|v| v as f64).to_vec()).unwrap();
                for (version, letter) in [(1, '<'), (2, '>'), (3, '<')] {
                    let bytes = values.map(|v| if letter == '<' { v.to_le_bytes() } else { v.to_be_bytes() });
                    let dictionary = dictionary(&format!("{letter}{}", $kind), "False", "(3, 2)");
                    assert_eq!(table(file(version, &dictionary, bytes.as_flattened())).unwrap(), want, "{letter}{}", $kind);
                }
            )*};
        }
        check!("f4" f32, "f8" f64, "i1" i8, "i2" i16, "i4" i32, "i8" i64, "u1" u8, "u2" u16, "u4" u32, "u8" u64);
        assert_eq!(table(file(1, &dictionary("|u1", "False", "(2,)"), &[7, 9])).unwrap(), array![[7.0], [9.0]]);
    }

    #[test]
    fn blocks_of_rows_are_the_table_in_either_order() {
        let whole = Array2::from_shape_fn((7, 3), |(i, j)| (10 * i + j) as f64);
        for (fortran, values) in
            [("False", whole.clone().into_raw_vec_and_offset().0), ("True", whole.t().iter().copied().collect())]
        {
            let numbers: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let bytes = file(1, &dictionary("<f8", fortran, "(7, 3)"), &numbers);
            for most in [1, 2, 7, 100] {
                let mut reader = NpyReader::new("t.npy", Cursor::new(bytes.clone())).unwrap();
                assert_eq!((reader.rows(), reader.columns()), (7, 3));
                let mut rows = Vec::new();
                loop {
                    let block = reader.next_rows(most).unwrap();
                    if block.nrows() == 0 {
                        break;
                    }
                    rows.extend(block.iter().copied());
                }
                assert_eq!(rows, whole.iter().copied().collect::<Vec<_>>(), "{most}");
            }
        }
    }

    #[test]
    fn tables_come_back_bit_for_bit() {
        let folder = folder("npy");
        let path = folder.join("t.npy");
        let table = array![[1.5, -2.0], [f64::MIN_POSITIVE, 4.0], [f64::NAN, 0.1]];
        write_npy(&path, table.view().into_dyn()).unwrap();
        let back = read_npy(&path).unwrap();
        assert!(back.iter().zip(&table).all(|(a, b)| a.to_bits() == b.to_bits()));
        // The peer's reader takes it, and what grew row by row is the same file.
        let peer: Array2<f64> = ndarray_npy::read_npy(&path).unwrap();
        assert!(peer.iter().zip(&table).all(|(a, b)| a.to_bits() == b.to_bits()));
        let whole = std::fs::read(&path).unwrap();
        let mut writer = NpyWriter::create(&path, &[2]).unwrap();
        writer.push(table.slice(ndarray::s![..1, ..])).unwrap();
        writer.push(table.slice(ndarray::s![1.., ..])).unwrap();
        assert!(writer.push(array![[1.0]].view()).is_err());
        writer.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), whole);

        let cube = Array3::from_shape_fn((2, 3, 4), |(i, j, k)| (i + 10 * j + 100 * k) as f64);
        write_npy(&path, cube.view().into_dyn()).unwrap();
        assert_eq!(ndarray_npy::read_npy::<_, Array3<f64>>(&path).unwrap(), cube);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn bad_files_say_why() {
        let says = |bytes: Vec<u8>, word: &str| {
            let message = table(bytes).unwrap_err().to_string();
            assert!(message.starts_with("t.npy: ") && message.contains(word), "{message}");
        };
        let good = dictionary("<f8", "False", "(2, 1)");
        says(file(1, &dictionary("|S3", "False", "(2, 1)"), &[0; 6]), "elements of type '|S3'");
        says(file(1, "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (2,)}", &[0; 16]), "elements of type");
        says(file(1, &dictionary("<f8", "False", "(1, 2, 3)"), &[0; 48]), "3 axes");
        says(file(1, &dictionary("<f8", "False", "(1000000000000000000, 0)"), &[]), "without columns");
        says(file(1, &dictionary("<f8", "False", "(4000000000000000000, 4)"), &[]), "more than a file can hold");
        says(file(1, &dictionary("<f8", "False", "(1000000000, 1000)"), &[]), "0 bytes of numbers");
        says(file(1, &good, &[0; 15]), "15 bytes of numbers, its header promises 16");
        says(file(1, &good, &[0; 17]), "17 bytes");
        says(file(1, "{'descr': '<f8'}", &[]), "header");
        says(file(7, &good, &[0; 16]), "version");
        says(b"theta,x\n1,2\n".to_vec(), "does not start with");
        says(Vec::new(), "header");
        let mut long = file(2, &good, &[0; 16]);
        long[8..12].fill(0xff);
        says(long, "4294967295 bytes long");
        says(file(2, &"(".repeat(9000), &[]), "opens 9000 brackets");
        // The parser alone would take hours.
        let nested = format!("{}2, 1{}", "(".repeat(40), ")".repeat(40));
        says(file(1, &dictionary("<f8", "False", &nested), &[0; 16]), "opens 41 brackets");
        assert!(read_npy("no/such/file.npy").unwrap_err().to_string().contains("no/such/file.npy"));
    }
}
