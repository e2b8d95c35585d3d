//! NumPy's `.npz` archives: named arrays, a `.npy` file each, in a zip file.

use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, ArrayViewD};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::Replacement;
use super::npy::{Description, header, write_numbers};
use crate::error::Error;

/// Reads all arrays of an `.npz` archive, compressed or not, with their names, in the order of the archive.
///
/// # Errors
/// [`Error::File`] if it cannot be read, is no such archive, or one of its arrays is damaged or not of numbers.
pub fn read_npz(path: impl AsRef<Path>) -> Result<Vec<(String, ArrayD<f64>)>, Error> {
    let path = path.as_ref();
    npz_arrays(path, BufReader::new(File::open(path).map_err(|why| Error::file(path, why))?))
}

/// The same from any bytes; `path` is the name that errors give them.
///
/// # Errors
/// As [`read_npz`].
pub fn npz_arrays(path: impl AsRef<Path>, source: impl Read + Seek) -> Result<Vec<(String, ArrayD<f64>)>, Error> {
    arrays(source).map_err(|why| Error::file(path.as_ref(), why))
}

fn arrays(source: impl Read + Seek) -> Result<Vec<(String, ArrayD<f64>)>, String> {
    let mut archive = ZipArchive::new(source).map_err(|why| format!("no .npz archive: {why}"))?;
    let arrays = archive.len();
    let read = |index| {
        let mut entry = archive.by_index(index).map_err(|why| format!("array {index}: {why}"))?;
        let name = entry.name().map_err(|why| format!("array {index}: {why}"))?.into_owned();
        let name = name.strip_suffix(".npy").unwrap_or(&name).to_string();
        let array = Description::read(&mut entry).and_then(|description| description.array(&mut entry));
        array.map(|array| (name.clone(), array)).map_err(|why| format!("array `{name}`: {why}"))
    };
    (0..arrays).map(read).collect()
}

/// Writes named arrays of `f64`, each of any number of axes, as an `.npz` archive without compression.
///
/// # Errors
/// [`Error::File`] if the file cannot be written; an older one is then left as it was.
pub fn write_npz(path: impl AsRef<Path>, arrays: &[(&str, ArrayViewD<'_, f64>)]) -> Result<(), Error> {
    let mut archive = Archive::create(path)?;
    for (name, array) in arrays {
        archive.add(name, array.shape(), false, |entry| write_numbers(entry, array.view()))?;
    }
    archive.finish()
}

/// An archive that appears when it is finished.
pub(super) struct Archive {
    zip: ZipWriter<Replacement>,
    path: PathBuf,
}

impl Archive {
    pub(super) fn create(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_path_buf();
        Ok(Self { zip: ZipWriter::new(Replacement::create(&path)?), path })
    }

    /// Adds an array whose numbers `write` gives.
    pub(super) fn add(
        &mut self,
        name: &str,
        shape: &[usize],
        fortran: bool,
        write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<(), Error> {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
        let started = self.zip.start_file(format!("{name}.npy"), options);
        started.map_err(|why| Error::file(&self.path, format!("array `{name}`: {why}")))?;
        let written = self.zip.write_all(&header(shape, fortran)).and_then(|()| write(&mut self.zip));
        written.map_err(|why| Error::file(&self.path, format!("array `{name}`: {why}")))
    }

    pub(super) fn finish(self) -> Result<(), Error> {
        self.zip.finish().map_err(|why| Error::file(&self.path, why))?.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::folder;
    use super::*;
    use ndarray::{Array3, array};
    use std::io::Cursor;

    #[test]
    fn named_arrays_come_back() {
        let folder = folder("npz");
        let path = folder.join("a.npz");
        let theta = array![[1.0, 2.0], [f64::INFINITY, 4.0]].into_dyn();
        let x = Array3::from_shape_fn((2, 3, 4), |(i, j, k)| (i + 10 * j + 100 * k) as f64).into_dyn();
        write_npz(&path, &[("theta", theta.view()), ("x", x.view())]).unwrap();
        assert_eq!(read_npz(&path).unwrap(), [("theta".to_string(), theta), ("x".to_string(), x)]);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn compressed_entries_and_other_orders_are_read() {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        zip.start_file("a.npy", options).unwrap();
        zip.write_all(&header(&[2, 3], true)).unwrap();
        write_numbers(&mut zip, array![0.0, 10.0, 1.0, 11.0, 2.0, 12.0].view().into_dyn()).unwrap();
        let bytes = zip.finish().unwrap().into_inner();
        assert!(bytes.len() < 300);
        let read = arrays(Cursor::new(bytes)).unwrap();
        assert_eq!(read, [("a".to_string(), array![[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]].into_dyn())]);
    }

    #[test]
    fn bad_archives_say_why() {
        assert!(arrays(Cursor::new(b"no zip".to_vec())).unwrap_err().contains("no .npz archive"));
        let entry = |contents: &[u8]| {
            let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
            zip.start_file("a.npy", SimpleFileOptions::default()).unwrap();
            zip.write_all(contents).unwrap();
            arrays(Cursor::new(zip.finish().unwrap().into_inner())).unwrap_err()
        };
        assert!(entry(b"text").contains("array `a`: no .npy header"));
        // A header that promises more than there is costs an error and no memory.
        assert!(entry(&header(&[1 << 55], false)).contains("array `a`: its numbers end early"));
    }
}
