//! Files that appear as a whole or not at all.

use std::fs::File;
use std::io::{BufWriter, Result as IoResult, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// A file that is written beside its path and takes its place when it is finished.
///
/// Until then an older file stands there unharmed. If the writer is dropped before, what it wrote is removed. A path
/// that is no regular file (a device, a named pipe) is written to directly; a link is followed.
#[derive(Debug)]
pub struct Replacement {
    /// As it was given, for errors.
    path: PathBuf,
    /// Where the bytes are, and where they will be; nothing if they are there already.
    rename: Option<(PathBuf, PathBuf)>,
    file: BufWriter<File>,
}

impl Replacement {
    /// Starts to write `<path>.tmp`.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be created.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, Error> {
        let given = path.as_ref();
        let path = std::fs::canonicalize(given).unwrap_or_else(|_| given.to_path_buf());
        let direct = path.metadata().is_ok_and(|at| !at.is_file() && !at.is_dir());
        let mut beside = path.clone().into_os_string();
        beside.push(".tmp");
        let rename = if direct { None } else { Some((PathBuf::from(beside), path.clone())) };
        let file = match &rename {
            Some((beside, _)) => File::create(beside),
            None => File::options().write(true).open(&path),
        };
        let file = BufWriter::new(file.map_err(|why| Error::file(given, why))?);
        Ok(Self { path: given.to_path_buf(), rename, file })
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// [`Error::File`] if the last bytes cannot be written or the file cannot be renamed.
    pub fn finish(mut self) -> Result<(), Error> {
        self.file.flush().map_err(|why| self.error(why))?;
        if let Some((beside, target)) = &self.rename {
            // Else a loss of power could leave the new name on bytes that never reached the disk.
            self.file.get_ref().sync_all().map_err(|why| self.error(why))?;
            std::fs::rename(beside, target).map_err(|why| self.error(why))?;
            self.rename = None;
        }
        Ok(())
    }

    /// What went wrong with this file.
    pub(crate) fn error(&self, why: impl std::fmt::Display) -> Error {
        Error::file(&self.path, why)
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some((beside, _)) = &self.rename {
            let _ = std::fs::remove_file(beside); // what went wrong before is the error to tell
        }
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> IoResult<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> IoResult<()> {
        self.file.flush()
    }
}

impl Seek for Replacement {
    fn seek(&mut self, to: SeekFrom) -> IoResult<u64> {
        self.file.seek(to)
    }
}

/// Writes `<path>.tmp` and renames it to `path`: at the target stands the old file or the new one, never half of one.
///
/// # Errors
/// [`Error::File`] if either fails.
pub fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<(), Error> {
    let mut file = Replacement::create(path)?;
    file.write_all(contents.as_ref()).map_err(|why| file.error(why))?;
    file.finish()
}

#[cfg(test)]
mod tests {
    use super::super::tests::folder;
    use super::*;

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
        // One that was begun and given up.
        let mut half = Replacement::create(&path).unwrap();
        half.write_all(b"half").unwrap();
        drop(half);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert!(std::fs::read_dir(&folder).unwrap().all(|f| f.unwrap().path().extension().is_none_or(|e| e != "tmp")));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_devices_written_to() {
        use std::os::unix::fs::FileTypeExt;
        let folder = folder("links");
        let (file, link) = (folder.join("file"), folder.join("link"));
        write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write(&link, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert!(link.is_symlink());
        write("/dev/null", "gone").unwrap();
        assert!(std::fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
