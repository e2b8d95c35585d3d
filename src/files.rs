//! Files: written beside their target and renamed, and NumPy tables (feature `arrays`).

use std::path::Path;

use crate::error::Error;

/// Writes `<path>.tmp` and renames it to `path`: at the target stands the old file or the new one, never half of one.
///
/// # Errors
/// [`Error::File`] if either fails.
pub fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<(), Error> {
    let path = path.as_ref();
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    std::fs::write(&beside, contents).and_then(|()| std::fs::rename(&beside, path)).map_err(|why| {
        let _ = std::fs::remove_file(&beside); // the first error is the one to tell
        Error::file(path, why)
    })
}

#[cfg(feature = "arrays")]
pub use npy::{read_npy, write_npy};

#[cfg(feature = "arrays")]
mod npy {
    use std::path::Path;

    use ndarray::{Array2, ArrayD, ArrayViewD, Ix2};
    use ndarray_npy::{ReadNpyError, ReadableElement, WriteNpyExt};

    use super::write;
    use crate::error::Error;

    /// Reads a table of `f64` or `f32` from a `.npy` file; a file of one axis is one column.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read, is damaged, has another element type, or has not one or two axes.
    pub fn read_npy(path: impl AsRef<Path>) -> Result<Array2<f64>, Error> {
        let path = path.as_ref();
        let array = match elements::<f64>(path) {
            Err(ReadNpyError::WrongDescriptor(_)) => elements::<f32>(path),
            other => other,
        };
        let array = array.map_err(|e| match e {
            ReadNpyError::WrongDescriptor(found) => {
                Error::file(path, format!("elements of type {found}; expected '<f8' or '<f4' (f64 or f32)"))
            }
            e => Error::file(path, e),
        })?;
        let axes = array.ndim();
        let table = if axes == 1 { array.insert_axis(ndarray::Axis(1)) } else { array };
        table
            .into_dimensionality::<Ix2>()
            .map_err(|_| Error::file(path, format!("{axes} axes; expected rows and columns")))
    }

    fn elements<T: ReadableElement + Copy + Into<f64>>(path: &Path) -> Result<ArrayD<f64>, ReadNpyError> {
        Ok(ndarray_npy::read_npy::<_, ArrayD<T>>(path)?.mapv(Into::into))
    }

    /// Writes an array of any number of axes (draws, densities) as a `.npy` file of `f64`.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be written; an older one is then left as it was.
    pub fn write_npy(path: impl AsRef<Path>, array: ArrayViewD<'_, f64>) -> Result<(), Error> {
        let mut bytes = Vec::new();
        array.write_npy(&mut bytes).map_err(|e| Error::file(path.as_ref(), e))?;
        write(path, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A folder of its own for each test.
    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("retrodict-files-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_or_not_at_all() {
        let folder = folder("replace");
        let path = folder.join("a.txt");
        write(&path, "old").unwrap();
        write(&path, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        // A folder stands where the file should go.
        let taken = folder.join("taken");
        std::fs::create_dir_all(taken.join("inside")).unwrap();
        assert!(matches!(write(&taken, "x"), Err(Error::File { path, .. }) if path == taken));
        assert!(matches!(write(folder.join("no/such"), "x"), Err(Error::File { .. })));
        assert!(std::fs::read_dir(&folder).unwrap().all(|f| f.unwrap().path().extension().is_none_or(|e| e != "tmp")));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[cfg(feature = "arrays")]
    #[test]
    fn tables_come_back_and_bad_files_say_why() {
        use ndarray::{Array2, Array3, array};
        let folder = folder("npy");
        let path = folder.join("t.npy");
        let table = array![[1.5, -2.0], [f64::MIN_POSITIVE, 4.0], [f64::NAN, 0.1]];
        write_npy(&path, table.view().into_dyn()).unwrap();
        let back = read_npy(&path).unwrap();
        assert!(back.iter().zip(&table).all(|(a, b)| a.to_bits() == b.to_bits()));

        ndarray_npy::write_npy(&path, &array![0.1_f32, 0.2]).unwrap();
        assert_eq!(read_npy(&path).unwrap(), array![[f64::from(0.1_f32)], [f64::from(0.2_f32)]]);
        ndarray_npy::write_npy(&path, &Array2::<f64>::from_shape_fn((3, 2), |(i, j)| (i + 10 * j) as f64).t()).unwrap();
        assert_eq!(read_npy(&path).unwrap(), array![[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]]);

        let says = |word: &str| {
            let message = read_npy(&path).unwrap_err().to_string();
            assert!(message.contains("t.npy") && message.contains(word), "{message}");
        };
        ndarray_npy::write_npy(&path, &array![[1_i64, 2]]).unwrap();
        says("i8");
        ndarray_npy::write_npy(&path, &Array3::<f64>::zeros((1, 2, 3))).unwrap();
        says("3 axes");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        says("");
        std::fs::write(&path, "theta,x\n1,2\n").unwrap();
        says("header");
        std::fs::remove_file(&path).unwrap();
        says("");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
