//! Posterior draws in files that ArviZ, corner.py and spreadsheets read, in bounded memory.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ndarray::{ArrayView2, Axis};

use super::npy::write_numbers;
use super::npz::Archive;
use super::table::{Format, extension};
use super::{CsvWriter, NpyWriter, Replacement};
use crate::error::{Error, check_length};

/// Writes the draws of one observation after the other. The extension decides the layout:
///
/// | file | layout |
/// |---|---|
/// | `.npy` | one array, `[observations x draws x parameters]` |
/// | `.npz` | an array of each parameter's name, `[1 x draws]` for one observation, otherwise `[1 x draws x observations]`: chain, draw, and what ArviZ calls the shape of a variable |
/// | `.csv` | columns `observation`, `draw` (both counted from 0) and one for each parameter |
pub struct DrawsWriter {
    sink: Sink,
    draws: usize,
    parameters: usize,
    observations: usize,
    /// Draws of the next observation that are there already.
    pending: usize,
}

enum Sink {
    Npy(NpyWriter),
    Npz(Box<Columns>),
    Csv(CsvWriter<Replacement>),
    Text(CsvWriter<Box<dyn Write>>),
}

impl fmt::Debug for DrawsWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrawsWriter").field("observations", &self.observations).finish_non_exhaustive()
    }
}

impl DrawsWriter {
    /// Begins a file of `draws` draws for each observation; it appears when it is finished.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be created or has another extension.
    pub fn create(path: impl AsRef<Path>, names: &[String], draws: usize) -> Result<Self, Error> {
        let path = path.as_ref();
        let sink = match extension(path)? {
            Format::Npy => Sink::Npy(NpyWriter::create(path, &[draws, names.len()])?),
            Format::Npz => Sink::Npz(Box::new(Columns::create(path, names)?)),
            Format::Csv => Sink::Csv(CsvWriter::create(path, &with_indices(names))?),
        };
        Ok(Self { sink, draws, parameters: names.len(), observations: 0, pending: 0 })
    }

    /// The `.csv` layout to anything that takes bytes, for example standard output.
    ///
    /// # Errors
    /// [`Error::File`] if the names cannot be written.
    pub fn text(name: &str, sink: impl Write + 'static, names: &[String], draws: usize) -> Result<Self, Error> {
        let sink: Box<dyn Write> = Box::new(sink);
        let sink = Sink::Text(CsvWriter::new(name, sink, &with_indices(names))?);
        Ok(Self { sink, draws, parameters: names.len(), observations: 0, pending: 0 })
    }

    /// Adds the draws for the next observation, `[draws x parameters]`, or the next of them: they may come in pieces.
    ///
    /// # Errors
    /// [`Error::Length`] if the table has another width or too many rows, [`Error::File`] if it cannot be written.
    pub fn push(&mut self, draws: ArrayView2<'_, f64>) -> Result<(), Error> {
        let (first, end) = (self.pending, self.pending + draws.nrows());
        check_length("draws for an observation", self.draws, end.max(self.draws))?;
        check_length("columns of the draws", self.parameters, draws.ncols())?;
        let (observation, whole) = (self.observations, usize::from(end == self.draws));
        (self.observations, self.pending) = (observation + whole, end * (1 - whole));
        match &mut self.sink {
            Sink::Npy(npy) => npy.push_part(draws, whole),
            Sink::Npz(columns) => columns.push(draws),
            Sink::Csv(csv) => push_rows(csv, [observation, first], draws),
            Sink::Text(csv) => push_rows(csv, [observation, first], draws),
        }
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// [`Error::Length`] if draws for the last observation are missing, [`Error::File`] if the file cannot be written.
    pub fn finish(self) -> Result<(), Error> {
        let found = if self.pending == 0 { self.draws } else { self.pending };
        check_length("draws for the last observation", self.draws, found)?;
        match self.sink {
            Sink::Npy(npy) => npy.finish(),
            Sink::Npz(columns) => columns.finish(self.draws, self.observations),
            Sink::Csv(csv) => csv.finish(),
            Sink::Text(mut csv) => csv.flush(),
        }
    }
}

fn with_indices(names: &[String]) -> Vec<&str> {
    ["observation", "draw"].into_iter().chain(names.iter().map(String::as_str)).collect()
}

fn push_rows<W: Write>(
    csv: &mut CsvWriter<W>,
    [observation, first]: [usize; 2],
    draws: ArrayView2<'_, f64>,
) -> Result<(), Error> {
    draws.rows().into_iter().zip(first..).try_for_each(|(row, draw)| csv.push(&[observation, draw], row))
}

/// One nameless scratch file for each parameter, joined to an archive at the end.
///
/// In Fortran's order of axes `[1 x draws x observations]` lies in a file as it comes: observation after observation.
struct Columns {
    archive: Archive,
    path: PathBuf,
    scratch: Vec<(String, BufWriter<File>)>,
}

impl Columns {
    fn create(path: &Path, names: &[String]) -> Result<Self, Error> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let scratch = |name: &String| Ok((name.clone(), BufWriter::new(tempfile::tempfile_in(folder)?)));
        let scratch = names.iter().map(scratch).collect::<std::io::Result<_>>();
        let scratch = scratch.map_err(|why| Error::file(path, why))?;
        Ok(Self { archive: Archive::create(path)?, path: path.to_path_buf(), scratch })
    }

    fn push(&mut self, draws: ArrayView2<'_, f64>) -> Result<(), Error> {
        let columns = draws.axis_iter(Axis(1)).zip(&mut self.scratch);
        let written = columns.into_iter().try_for_each(|(column, (_, to))| write_numbers(to, column.into_dyn()));
        written.map_err(|why| Error::file(&self.path, why))
    }

    fn finish(mut self, draws: usize, observations: usize) -> Result<(), Error> {
        let shape = [1, draws, observations];
        let shape = if observations == 1 { &shape[..2] } else { &shape };
        for (name, scratch) in self.scratch {
            self.archive.add(&name, shape, true, |entry| {
                let mut numbers = scratch.into_inner().map_err(std::io::IntoInnerError::into_error)?;
                numbers.seek(SeekFrom::Start(0))?;
                std::io::copy(&mut numbers, entry).map(drop)
            })?;
        }
        self.archive.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::folder;
    use super::super::{read_npz, read_table};
    use super::*;
    use ndarray::{Array3, s};

    #[test]
    fn every_layout_holds_the_same_draws() {
        let folder = folder("draws");
        let names = ["a".to_string(), "b".to_string()];
        let draws = Array3::from_shape_fn((3, 4, 2), |(i, j, k)| (100 * i + 10 * j + k) as f64);
        for observations in [1, 3] {
            let draws = draws.slice(s![..observations, .., ..]);
            for file in ["d.npy", "d.npz", "d.csv"] {
                let mut writer = DrawsWriter::create(folder.join(file), &names, 4).unwrap();
                for (i, one) in draws.outer_iter().enumerate() {
                    // Whole, or in pieces.
                    let (head, tail) = one.split_at(Axis(0), i);
                    [head, tail].iter().for_each(|piece| writer.push(*piece).unwrap());
                }
                writer.finish().unwrap();
            }
            let npy: Array3<f64> = ndarray_npy::read_npy(folder.join("d.npy")).unwrap();
            assert_eq!(npy, draws);
            for (k, (name, array)) in read_npz(folder.join("d.npz")).unwrap().into_iter().enumerate() {
                let own = draws.slice(s![.., .., k]).reversed_axes().insert_axis(Axis(0)).into_dyn();
                let own = if observations == 1 { own.index_axis_move(Axis(2), 0) } else { own };
                assert_eq!((&name, array.view()), (&names[k], own));
            }
            let csv = read_table(folder.join("d.csv"), "").unwrap();
            assert_eq!(csv.names.unwrap(), ["observation", "draw", "a", "b"]);
            for (row, (i, j)) in
                csv.values.rows().into_iter().zip((0..observations).flat_map(|i| (0..4).map(move |j| (i, j))))
            {
                assert_eq!(row.to_vec(), [i as f64, j as f64, draws[(i, j, 0)], draws[(i, j, 1)]]);
            }
        }
        assert!(DrawsWriter::create(folder.join("d.txt"), &names, 4).is_err());
        let mut short = DrawsWriter::create(folder.join("short.npy"), &names, 4).unwrap();
        short.push(draws.slice(s![0, ..3, ..])).unwrap();
        assert!(short.push(draws.slice(s![0, ..2, ..])).is_err(), "more draws than there should be");
        assert!(short.finish().is_err() && !folder.join("short.npy").exists());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
